//! Amounts as scenarios write them: `cpus:8;mem:16384;ports:[31000-32000]`, `rack:a`, `30s`, `0.5`.
//!
//! Never rounds: what cannot be held exactly is refused with what is allowed.

use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::events::AttributeValue;
use tepui_proto::resources::Custom;
use tepui_proto::{PortRange, PortSet, Resources};

const MIB: u64 = 1 << 20;
const RESOURCES: &str =
    "amounts such as `cpus:8;mem:16384;disk:1024;ports:[31000-32000]`, with memory and disk in MiB";
const ATTRIBUTES: &str = "attributes such as `rack:a;generation:3;slots:[1-4]`";
const SPANS: &str = "a time such as `500ms`, `30s`, `2m`, `1h` or `7d`";

/// Resources in the notation of the allocator's cases. Memory and disk are in MiB.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_resources(text: &str) -> Result<Resources, String> {
    let wrong =
        |part: &str| format!("`{part}` is not an amount of a resource; allowed are {RESOURCES}");
    let mut sum = Resources::default();
    let mut seen = BTreeSet::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once(':').ok_or_else(|| wrong(part))?;
        let (name, value) = (name.trim(), value.trim());
        if !seen.insert(name) {
            return Err(format!("`{name}` stands twice; allowed are {RESOURCES}"));
        }
        match name {
            "cpus" => sum.cpu_milli = parse_milli(value).ok_or_else(|| wrong(part))?,
            "mem" => sum.memory_bytes = parse_mib(value).ok_or_else(|| wrong(part))?,
            "disk" => sum.disk_bytes = parse_mib(value).ok_or_else(|| wrong(part))?,
            "ports" => sum.ports = parse_ports(value).ok_or_else(|| wrong(part))?,
            _ => {
                let amount = parse_custom(name, value).ok_or_else(|| wrong(part))?;
                sum.custom.insert(name.to_owned(), amount);
            }
        }
    }
    Ok(sum)
}

fn parse_mib(text: &str) -> Option<u64> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse::<u64>().ok())??
        .checked_mul(MIB)
}

fn parse_custom(name: &str, value: &str) -> Option<Custom> {
    if name.is_empty()
        || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    {
        return None;
    }
    if let Some(inner) = value.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let items: BTreeSet<String> = inner.split(',').map(|item| item.trim().to_owned()).collect();
        return (!items.contains("")).then_some(Custom::Items(items));
    }
    parse_milli(value).filter(|milli| *milli > 0).map(Custom::Milli)
}

fn parse_ports(text: &str) -> Option<PortSet> {
    let ranges = parse_ranges(text)?;
    let range = |(first, last): (u64, u64)| {
        Some(PortRange { first: u16::try_from(first).ok()?, last: u16::try_from(last).ok()? })
    };
    Some(PortSet::from(ranges.into_iter().map(range).collect::<Option<Vec<_>>>()?))
}

/// `[1-4, 7-9]`.
fn parse_ranges(text: &str) -> Option<Vec<(u64, u64)>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let range = |part: &str| {
        let (first, last) = part.trim().split_once('-')?;
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        (first <= last).then_some((first, last))
    };
    inner.split(',').map(range).collect()
}

/// Attributes of an agent.
///
/// # Errors
/// Says what is allowed.
pub(crate) fn parse_attributes(text: &str) -> Result<Vec<(String, AttributeValue)>, String> {
    let wrong = |part: &str| format!("`{part}` is not an attribute; allowed are {ATTRIBUTES}");
    let mut attributes = BTreeMap::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once(':').ok_or_else(|| wrong(part))?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || value.is_empty() {
            return Err(wrong(part));
        }
        let parsed = if value.starts_with('[') {
            AttributeValue::Ranges(parse_ranges(value).ok_or_else(|| wrong(part))?)
        } else if let Some(milli) = parse_milli(value).and_then(|milli| i64::try_from(milli).ok()) {
            AttributeValue::Milli(milli)
        } else {
            AttributeValue::Text(value.to_owned())
        };
        if attributes.insert(name.to_owned(), parsed).is_some() {
            return Err(format!("the attribute `{name}` stands twice"));
        }
    }
    Ok(attributes.into_iter().collect())
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
        let all = parse_resources(
            "cpus:2.5;mem:1024;disk:10;ports:[31000-32000, 80-80];gpus:1;bugs:{a,b}",
        )
        .unwrap();
        assert_eq!((all.cpu_milli, all.memory_bytes, all.disk_bytes), (2_500, 1 << 30, 10 << 20));
        assert_eq!((all.ports.count(), all.custom.len()), (1_002, 2));
        for bad in [
            "cpus",
            "cpus:-1",
            "cpus:0.0001",
            "mem:1.5",
            "ports:[9-1]",
            "cpus:1;cpus:1",
            "mem:99999999999999",
        ] {
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
        assert!(parse_attributes("rack").is_err() && parse_attributes("a:1;a:2").is_err());
    }
}
