//! A dominant share, as Mesos' sorter has it (`sorter/drf/sorter.cpp`): a quotient of 53 binary digits, in integers.
//!
//! Mesos divides doubles, and which of two nearly equal shares is the smaller decides who is served: ties fall to counts
//! and names. So the two roundings are made here as well, half to even, without a float
//! (`docs/decisions/0009-shares-round-as-in-mesos.md`). Memory and disk count in MiB.

use crate::quantities::Quantities;
use std::collections::BTreeSet;
use tepui_proto::Scalars;

const MIB: u128 = 1 << 20;
/// Binary digits of a share.
const DIGITS: u32 = 53;

/// A dominant share, divided by weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share {
    /// The power of two of the last digit.
    exponent: i32,
    /// All digits, the first of them a one; or zero, for nothing.
    digits: u64,
}

impl Share {
    /// Nothing.
    pub const NONE: Self = Self { exponent: i32::MIN, digits: 0 };

    /// The largest of the shares by resource, of a role or framework with this weight.
    pub fn dominant(
        held: &Quantities,
        total: &Quantities,
        weight_milli: u64,
        excluded: &BTreeSet<String>,
    ) -> Self {
        let counts = |name: &str| excluded.is_empty() || !excluded.contains(name);
        let mut most = Self::NONE;
        let mut see = |name: &str, part: u128, whole: u128| {
            if part > 0 && whole > 0 && counts(name) {
                most = most.max(Self::quotient(part, whole));
            }
        };
        see(Scalars::CPUS, held.cpu_milli, total.cpu_milli);
        see(Scalars::MEM, held.memory_bytes / MIB, total.memory_bytes / MIB);
        see(Scalars::DISK, held.disk_bytes / MIB, total.disk_bytes / MIB);
        for (name, part) in &held.custom {
            see(name, *part, total.of(name));
        }
        if weight_milli == 1000 || most == Self::NONE {
            return most;
        }
        let weighted = Self::quotient(u128::from(most.digits) * 1000, weight_milli.max(1).into());
        Self { exponent: weighted.exponent.saturating_add(most.exponent), ..weighted }
    }

    /// `part / whole`, neither of them zero, rounded half to even. What is over 64 digits long is cut first; what agents
    /// claim is bounded below that (`CLAIM_BYTES` in `leader/claims.rs`).
    fn quotient(part: u128, whole: u128) -> Self {
        let (part, whole) = (part.min(u64::MAX.into()), whole.min(u64::MAX.into()));
        // At least two digits more than are kept, so that the rest says which way to round.
        let shift = i64::from(DIGITS) + 2 + length(whole) - length(part);
        let (above, below) = match u32::try_from(shift) {
            Ok(shift) => (part << shift, whole),
            Err(_) => (part, whole << u32::try_from(-shift).unwrap_or(0)),
        };
        let (quotient, has_rest) = (above / below.max(1), above % below.max(1) != 0);
        let surplus = length(quotient) - i64::from(DIGITS);
        let dropped = u32::try_from(surplus).unwrap_or(0);
        let mut digits = quotient >> dropped;
        let rest = quotient - (digits << dropped);
        let half = 1_u128 << dropped >> 1;
        let rounds_up = rest > half || (rest == half && (has_rest || digits % 2 == 1));
        let mut exponent = surplus - shift;
        if rounds_up {
            digits += 1;
        }
        if length(digits) > i64::from(DIGITS) {
            digits >>= 1;
            exponent += 1;
        }
        Self {
            exponent: i32::try_from(exponent).unwrap_or(i32::MAX),
            digits: u64::try_from(digits).unwrap_or(u64::MAX),
        }
    }

    /// As a fraction of whole numbers. A share below `2^-74` is shown as nothing.
    pub fn fraction(self) -> (u128, u128) {
        let shift = u32::try_from(self.exponent.saturating_neg()).unwrap_or(0);
        1_u128.checked_shl(shift).map_or((0, 1), |whole| (self.digits.into(), whole))
    }

    /// In thousandths, rounded down.
    pub fn milli(self) -> u64 {
        let scaled = u128::from(self.digits) * 1000;
        match u32::try_from(self.exponent.saturating_neg()) {
            Ok(shift) => scaled
                .checked_shr(shift)
                .map_or(0, |milli| u64::try_from(milli).unwrap_or(u64::MAX)),
            Err(_) => u64::MAX,
        }
    }
}

/// Binary digits of a number.
fn length(number: u128) -> i64 {
    i64::from(u128::BITS - number.leading_zeros())
}

#[cfg(test)]
#[expect(
    clippy::cast_precision_loss,
    clippy::float_cmp,
    reason = "compared with what doubles give, to the last digit; no number here has more than 53"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn as_double(share: Share) -> f64 {
        if share == Share::NONE { 0.0 } else { share.digits as f64 * 2_f64.powi(share.exponent) }
    }

    proptest! {
        #[test]
        fn quotients_are_those_of_doubles(part in 1_u64..1 << 53, whole in 1_u64..1 << 53) {
            let share = Share::quotient(part.into(), whole.into());
            prop_assert_eq!(as_double(share), part as f64 / whole as f64);
        }

        #[test]
        fn shares_stand_in_the_order_of_doubles(
            a in 0_u64..1000, b in 0_u64..1000, total in 1_u64..1000, weight in 1_u64..5,
        ) {
            let total = Quantities { cpu_milli: total.into(), ..Quantities::default() };
            let share = |n: u64, weight: u64| {
                let held = Quantities { cpu_milli: n.into(), ..Quantities::default() };
                Share::dominant(&held, &total, weight * 1000, &BTreeSet::new())
            };
            let double = |n: u64, weight: u64| n as f64 / total.cpu_milli as f64 / weight as f64;
            prop_assert_eq!(
                share(a, weight).cmp(&share(b, 1)),
                double(a, weight).total_cmp(&double(b, 1))
            );
        }
    }

    #[test]
    fn shares_read_in_thousandths() {
        let of = |n: u128| Quantities { cpu_milli: n, ..Quantities::default() };
        let none = BTreeSet::new();
        assert_eq!(Share::dominant(&of(2), &of(3), 1000, &none).milli(), 666);
        assert_eq!(Share::dominant(&of(3), &of(3), 2000, &none).milli(), 500);
        assert_eq!(Share::NONE.milli(), 0);
    }
}
