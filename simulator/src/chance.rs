//! Chance from a seed (`SplitMix64`, Steele, Lea and Flood 2014), and distributions drawn from it.
//!
//! Never reads a clock or the machine's own chance. Its one surprise: the distributions use floating point, which is the
//! same from run to run on one machine, and may differ in the last digit on a machine of another kind.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "draws are rounded to whole milliseconds and bounded before they are cast"
)]

/// A stream of numbers that the seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

/// No draw is longer than this: a hundred years, in milliseconds.
const LONGEST_MS: f64 = 3.2e12;

impl Chance {
    /// The stream of this seed for one purpose; streams of two purposes have nothing to do with each other.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut mixed = Self(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93));
        Self(mixed.draw() ^ purpose)
    }

    /// The next number.
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Above 0, at most 1.
    fn unit(&mut self) -> f64 {
        ((self.draw() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// From `low` to `high`, both included.
    pub(crate) fn uniform(&mut self, low: u64, high: u64) -> u64 {
        let width = high.saturating_sub(low).saturating_add(1);
        low.saturating_add(self.draw() % width)
    }

    /// Milliseconds, exponential with this mean.
    pub(crate) fn exponential(&mut self, mean_ms: f64) -> u64 {
        whole(-mean_ms * self.unit().ln())
    }

    /// Milliseconds, log-normal with this median; `sigma` is the deviation of the logarithm.
    pub(crate) fn lognormal(&mut self, median_ms: u64, sigma: f64) -> u64 {
        // Box and Muller 1958.
        let radius = (-2.0 * self.unit().ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.unit()).cos();
        whole(median_ms as f64 * (sigma * normal).exp())
    }
}

/// The mean that is so many milliseconds.
pub(crate) fn mean(ms: u64) -> f64 {
    ms as f64
}

/// The mean between events that come so often in a thousand seconds.
pub(crate) fn mean_of_rate(per_kilosecond: u64) -> f64 {
    1_000_000.0 / per_kilosecond.max(1) as f64
}

/// A deviation in thousandths.
pub(crate) fn of_milli(milli: u64) -> f64 {
    milli as f64 / 1_000.0
}

fn whole(ms: f64) -> u64 {
    ms.clamp(1.0, LONGEST_MS).round() as u64
}

/// A number of a text (FNV-1a), to tell purposes apart.
pub(crate) fn number_of(text: &str) -> u64 {
    let fold = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, fold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_have_the_mean_that_was_asked_for() {
        let mut chance = Chance::new(7, 1);
        let sum: u64 = (0..20_000).map(|_| chance.exponential(10_000.0)).sum();
        assert!((9_700..10_300).contains(&(sum / 20_000)), "{}", sum / 20_000);
        let mut draws: Vec<u64> = (0..20_001).map(|_| chance.lognormal(5_000, 1.0)).collect();
        draws.sort_unstable();
        assert!((4_800..5_200).contains(&draws[10_000]), "{}", draws[10_000]);
        assert!((0..1_000).all(|_| (3..=5).contains(&chance.uniform(3, 5))));
    }

    #[test]
    fn streams_of_two_purposes_differ_and_one_repeats() {
        let first = |seed, purpose| Chance::new(seed, purpose).draw();
        assert_eq!(first(1, 2), first(1, 2));
        assert_ne!(first(1, 2), first(1, 3));
        assert_ne!(first(1, 2), first(2, 2));
    }
}
