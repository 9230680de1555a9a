//! Amounts as people write them, read exactly: `0.5` cores, `64MiB`, `30s`. No floats.
//!
//! Never rounds: what cannot be held exactly is refused with what is allowed.

const CPUS: &str = "cores such as `2`, `0.5` or `0.125`, in thousandths at the finest";
const SIZES: &str = "bytes such as `65536`, `512KiB`, `64MiB` or `1GiB`";
const SPANS: &str = "a time such as `500ms`, `30s`, `2m` or `1h`";

/// Cores in thousandths.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_cpus(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not an amount of CPU; allowed are {CPUS}");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if !is_digits(whole) || !is_digits(part) {
        return Err(wrong());
    }
    let part = part.trim_end_matches('0');
    if part.len() > 3 {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_too_large| wrong())?;
    let thousandths: u64 = format!("{part:0<3}").parse().map_err(|_too_large| wrong())?;
    whole.checked_mul(1_000).and_then(|milli| milli.checked_add(thousandths)).ok_or_else(wrong)
}

/// Bytes.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let units =
        [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("B", 1), ("", 1)];
    with_unit(text, &units).ok_or_else(|| format!("`{text}` is not a size; allowed are {SIZES}"))
}

/// Milliseconds.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_span(text: &str) -> Result<u64, String> {
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
    with_unit(text, &units)
        .ok_or_else(|| format!("`{text}` is not a span of time; allowed is {SPANS}"))
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_exact_in_thousandths() {
        for (text, milli) in [
            ("0.5", 500),
            ("2", 2_000),
            ("0.125", 125),
            ("1.50", 1_500),
            ("0.010000", 10),
            ("0", 0),
        ] {
            assert_eq!(parse_cpus(text), Ok(milli), "{text}");
        }
        for text in ["", "-1", "0.0001", "1e3", ".5", "1.", "one", "99999999999999999999"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary_and_bounded() {
        for (text, bytes) in [
            ("65536", 65_536),
            ("64MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("512KiB", 512 << 10),
            ("1 MiB", 1 << 20),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "-1", "64MB", "1.5GiB", "MiB", "99999999999TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_need_a_unit() {
        assert_eq!(parse_span("500ms"), Ok(500));
        assert_eq!(parse_span("30s"), Ok(30_000));
        assert_eq!(parse_span("2m"), Ok(120_000));
        for text in ["30", "-1s", "1d", "s"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }
}
