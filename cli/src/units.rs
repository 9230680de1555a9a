//! Amounts as people write them, read exactly: `0.5` cores, `64MiB`, `30s`. No floats.
//!
//! Never rounds: what cannot be held exactly is refused with what is allowed.

use std::collections::BTreeMap;
use tepui_proto::resources::{Custom, NotationError};
use tepui_proto::{Bundle, Resources, Scalars};

const CPUS: &str = "cores such as `2`, `0.5` or `0.125`, in thousandths at the finest";
const SIZES: &str = "bytes such as `65536`, `512KiB`, `64MiB` or `1GiB`";
const SPANS: &str = "a time such as `500ms`, `30s`, `2m` or `1h`";
const WEIGHTS: &str = "numbers such as `2`, `0.5` or `0.125`, in thousandths at the finest";
const AMOUNTS: &str = "amounts such as `cpus:2;mem:1024;disk:0.5`, memory and disk in MiB";
const TIMES: &str = "`now`, `+30m` from now, or UTC such as `2026-12-24T18:00:00Z`";
/// Days of the years 1 to 1969.
const DAYS_TO_1970: u64 = 719_162;
/// Days from the 1st of March of the year 0 to 1970, and those of four centuries, which are all alike.
const DAYS_FROM_MARCH: u64 = 719_468;
const DAYS_OF_ERA: u64 = 146_097;

/// Cores in thousandths.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_cpus(text: &str) -> Result<u64, String> {
    milli(text).ok_or_else(|| format!("`{text}` is not an amount of CPU; allowed are {CPUS}"))
}

/// A weight in thousandths; no text is that of a role for which none is set.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_weight(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(1_000);
    }
    milli(text).ok_or_else(|| format!("`{text}` is not a weight; allowed are {WEIGHTS}"))
}

/// Amounts by name, in the notation of resources; no text is none.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn parse_scalars(text: &str) -> Result<Scalars, String> {
    text.parse().map_err(|error: NotationError| format!("{error}; allowed are {AMOUNTS}"))
}

/// Resources of any kind, in their notation.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn parse_bundle(text: &str) -> Result<Bundle, String> {
    text.parse().map_err(|error: NotationError| format!("{error}; allowed are {AMOUNTS}"))
}

/// Resources under names of the operator's own, in their notation; no text is none.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn parse_custom(text: &str) -> Result<BTreeMap<String, Custom>, String> {
    let plain = parse_bundle(text)?;
    let custom = plain.plain().custom.clone();
    let alone = Bundle::from(Resources { custom: custom.clone(), ..Resources::default() });
    if alone == plain {
        return Ok(custom);
    }
    Err(format!(
        "`{text}` holds more than names of your own: cpus, memory, disk and ports have settings of their own, and `reserved` has what is not for everyone"
    ))
}

/// A time in milliseconds since the Unix epoch.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_time(text: &str, now_ms: u64) -> Result<u64, String> {
    let time = match text.strip_prefix('+') {
        Some(span) => parse_span(span).ok().and_then(|span| now_ms.checked_add(span)),
        None if text == "now" => Some(now_ms),
        None => calendar_ms(text),
    };
    time.ok_or_else(|| format!("`{text}` is not a time; allowed are {TIMES}"))
}

/// `2026-12-24T18:00:00Z`, the seconds may be left out.
fn calendar_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let parts = |text: &str, apart: char| -> Option<Vec<u64>> {
        let of = |part: &str| if is_digits(part) { part.parse::<u64>().ok() } else { None };
        text.split(apart).map(of).collect()
    };
    let [year, month, day] = parts(date, '-')?.try_into().ok()?;
    let (hour, minute, second) = match parts(time, ':')?.as_slice() {
        [hour, minute] => (*hour, *minute, 0),
        [hour, minute, second] => (*hour, *minute, *second),
        _ => return None,
    };
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if is_leap { 29 } else { 28 };
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let at = usize::try_from(month).ok()?.checked_sub(1)?;
    let is_day = (1..=*months.get(at)?).contains(&day);
    if !(1970..=9999).contains(&year) || !is_day || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let before = year - 1;
    let days = before * 365 + before / 4 - before / 100 + before / 400 - DAYS_TO_1970;
    let days = days + months.iter().take(at).sum::<u64>() + day - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000)
}

/// Milliseconds since the Unix epoch as UTC: `2026-12-24T18:00:00Z`.
pub(crate) fn shown_time(ms: u64) -> String {
    let seconds = ms / 1_000;
    // Years that begin in March have their leap day at the end.
    let day = seconds / 86_400 + DAYS_FROM_MARCH;
    let (era, day) = (day / DAYS_OF_ERA, day % DAYS_OF_ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let day = day - (153 * march + 2) / 5 + 1;
    let (month, is_next) = if march < 10 { (march + 3, 0) } else { (march - 9, 1) };
    let year = era * 400 + year + is_next;
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Milliseconds as a person writes them: `2h`, `90s`, `250ms`.
pub(crate) fn shown_span(ms: u64) -> String {
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let whole = units.into_iter().find(|(_, unit)| ms >= *unit && ms.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{ms}ms"), |(name, unit)| format!("{}{name}", ms / unit))
}

fn milli(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    if !is_digits(whole) || !is_digits(part) {
        return None;
    }
    let part = part.trim_end_matches('0');
    if part.len() > 3 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let thousandths: u64 = format!("{part:0<3}").parse().ok()?;
    whole.checked_mul(1_000)?.checked_add(thousandths)
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
    fn weights_have_three_decimals_and_no_text_is_one() {
        for (text, milli) in [("", 1_000), ("2", 2_000), ("0.125", 125), ("0", 0)] {
            assert_eq!(parse_weight(text), Ok(milli), "{text}");
        }
        for text in ["-1", "0.0001", "two", "1e3"] {
            assert!(parse_weight(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_utc_or_from_now() {
        for (text, ms) in [
            ("now", 7),
            ("+1s", 1_007),
            ("1970-01-01T00:00Z", 0),
            ("1972-03-01T00:00:01Z", 68_256_001_000),
            ("2000-02-29T23:59:59Z", 951_868_799_000),
            ("2026-11-23T16:00Z", 1_795_449_600_000),
        ] {
            assert_eq!(parse_time(text, 7), Ok(ms), "{text}");
        }
        for text in [
            "",
            "1s",
            "+1",
            "2026-11-23",
            "2026-02-29T00:00Z",
            "2026-13-01T00:00Z",
            "2026-00-01T00:00Z",
            "2026-11-23T24:00Z",
            "2026-11-23T16:00",
            "2026-11-23T16Z",
            "+18446744073709551615ms",
        ] {
            assert!(parse_time(text, 7).is_err(), "{text}");
        }
    }

    #[test]
    fn times_and_spans_are_told_as_they_are_written() {
        for text in [
            "1970-01-01T00:00:00Z",
            "1972-02-29T23:59:59Z",
            "1972-03-01T00:00:01Z",
            "2000-02-29T12:30:00Z",
            "2026-12-31T23:59:59Z",
            "2100-03-01T00:00:00Z",
        ] {
            assert_eq!(parse_time(text, 0).map(shown_time).as_deref(), Ok(text));
        }
        assert!(shown_time(u64::MAX).ends_with('Z'));
        for (ms, text) in [(0, "0ms"), (250, "250ms"), (90_000, "90s"), (7_200_000, "2h")] {
            assert_eq!(shown_span(ms), text);
        }
    }

    #[test]
    fn names_of_the_operators_own_are_nothing_else() {
        let custom = parse_custom("gpus:2;licences:{a,b}").unwrap();
        assert_eq!(custom.get("gpus"), Some(&Custom::Milli(2_000)));
        assert!(matches!(custom.get("licences"), Some(Custom::Items(items)) if items.len() == 2));
        assert_eq!(parse_custom("").unwrap(), BTreeMap::new());
        for (wrong, told) in [
            ("gpus", "allowed are"),
            ("gpus:2;cpus:1", "settings of their own"),
            ("ports:[1-2]", "settings of their own"),
            ("gpus(web):1", "`reserved`"),
        ] {
            let words = parse_custom(wrong).unwrap_err();
            assert!(words.contains(told), "{wrong}: {words}");
        }
    }

    #[test]
    fn amounts_are_told_how_they_are_written() {
        assert_eq!(parse_scalars("cpus:2;mem:1024").unwrap().to_string(), "cpus:2;mem:1024");
        assert!(parse_scalars("").unwrap().is_empty());
        let words = parse_scalars("cpus=2").unwrap_err();
        assert!(words.contains("cpus=2") && words.contains("cpus:2"), "{words}");
        assert!(parse_bundle("cpus(a//b):2").is_err());
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
