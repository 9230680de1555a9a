//! Amounts as scenarios write them: `cpus:8;mem:16384;ports:[31000-32000]`, `rack:a`, `30s`, `0.5`.
//!
//! Never rounds times: what cannot be held exactly is refused with what is allowed.

use tepui_proto::events::AttributeValue;
use tepui_proto::{Attributes, Bundle, Resources, Scalars};

const RESOURCES: &str =
    "amounts such as `cpus:8;mem:16384;disk:1024;ports:[31000-32000]`, with memory and disk in MiB";
const ATTRIBUTES: &str = "attributes such as `rack:a;generation:3;slots:[1-4]`";
const SPANS: &str = "a time such as `500ms`, `30s`, `2m`, `1h` or `7d`";

/// Resources of any kind, in the notation of the allocator's cases. Memory and disk are in MiB.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_bundle(text: &str) -> Result<Bundle, String> {
    text.parse().map_err(|error| format!("{error}; allowed are {RESOURCES}"))
}

/// Resources that anyone may use.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_resources(text: &str) -> Result<Resources, String> {
    let bundle = parse_bundle(text)?;
    if bundle.is_plain() || bundle.is_empty() {
        return Ok(bundle.plain().clone());
    }
    Err(format!("`{text}` names roles or flags, and has none here; allowed are {RESOURCES}"))
}

/// Countable amounts, where an absent name is not zero.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_scalars(text: &str) -> Result<Scalars, String> {
    text.parse()
        .map_err(|error| format!("{error}; allowed are amounts such as `cpus:40;mem:20480`"))
}

/// Attributes of an agent.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_attributes(text: &str) -> Result<Vec<(String, AttributeValue)>, String> {
    let Attributes(attributes) =
        text.parse().map_err(|error| format!("{error}; allowed are {ATTRIBUTES}"))?;
    Ok(attributes)
}

/// Milliseconds.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_span(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a span of time; allowed is {SPANS}");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let factor = units.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor);
    let product =
        parse_milli(number).zip(factor).and_then(|(milli, factor)| milli.checked_mul(factor));
    product.filter(|product| product % 1_000 == 0).map(|product| product / 1_000).ok_or_else(wrong)
}

/// A decimal number of at most three places, in thousandths. No signs, no exponents.
pub(crate) fn parse_milli(text: &str) -> Option<u64> {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let part = if is_digits(part) { part.trim_end_matches('0') } else { return None };
    if !is_digits(whole) || part.len() > 3 {
        return None;
    }
    let thousandths: u64 = format!("{part:0<3}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_exact() {
        let text = "cpus:2.5;mem:1024;disk:10;ports:[80-80,31000-32000];gpus:1;bugs:{a,b}";
        let all = parse_resources(text).unwrap();
        assert_eq!((all.cpu_milli, all.memory_bytes, all.disk_bytes), (2_500, 1 << 30, 10 << 20));
        assert_eq!((all.ports.count(), all.custom.len()), (1_002, 2));
        for bad in
            ["cpus", "cpus:-1", "ports:[9-1]", "mem:99999999999999999", "cpus(a):1", "cpus:1{"]
        {
            let told = parse_resources(bad).unwrap_err();
            assert!(told.contains("cpus:8;mem:16384"), "{bad}: {told}");
        }
    }

    #[test]
    fn spans_need_a_unit_and_are_whole_milliseconds() {
        for (text, ms) in [("500ms", 500), ("30s", 30_000), ("1.5s", 1_500), ("7d", 604_800_000)] {
            assert_eq!(parse_span(text), Ok(ms), "{text}");
        }
        for bad in ["", "30", "-1s", "0.5ms", "1w", "s", "99999999999999999999s"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn attributes_are_text_numbers_or_ranges() {
        let all = parse_attributes("rack:a;generation:3;slots:[1-4]").unwrap();
        assert_eq!(all.len(), 3);
        assert!(all.contains(&("generation".to_owned(), AttributeValue::Milli(3_000))));
        assert!(parse_attributes("rack").is_err());
    }
}
