//! Attributes of an agent as a person writes them: `rack:r1;slots:[1-5];age:1.5`.
//!
//! Keeps their order, and a name that is there twice. Its one surprise: a text that looks like a number is one, and a text
//! with more than three decimals, or over the range, is a text.

use super::Milli;
use super::grammar::{self, EntryProblem, NotationError};
use crate::events::AttributeValue;
use crate::limits;
use std::fmt;
use std::str::FromStr;

/// Attributes by name, in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Attributes(pub Vec<(String, AttributeValue)>);

impl FromStr for Attributes {
    type Err = NotationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut attributes = Vec::new();
        grammar::each_entry(text, |entry| {
            let (name, text) = entry.split_once(':').ok_or(EntryProblem::Form)?;
            grammar::check_resource_name(name)?;
            attributes.push((name.to_owned(), value(text)?));
            Ok(())
        })?;
        Ok(Self(attributes))
    }
}

fn value(text: &str) -> Result<AttributeValue, EntryProblem> {
    if text.starts_with('[') {
        return grammar::ranges(text).map(AttributeValue::Ranges);
    }
    if let Some(milli) = number(text) {
        return Ok(AttributeValue::Milli(milli));
    }
    let is_text = !text.is_empty() && text.len() <= limits::ITEM_BYTES;
    if !is_text || text.contains(char::is_control) {
        return Err(EntryProblem::Text);
    }
    Ok(AttributeValue::Text(text.to_owned()))
}

fn number(text: &str) -> Option<i64> {
    let (digits, is_below_zero) = text.strip_prefix('-').map_or((text, false), |rest| (rest, true));
    let milli = grammar::milli(digits).ok()?;
    if is_below_zero { 0_i64.checked_sub_unsigned(milli) } else { i64::try_from(milli).ok() }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, value)) in self.0.iter().enumerate() {
            let apart = if place > 0 { ";" } else { "" };
            write!(f, "{apart}{name}:")?;
            match value {
                AttributeValue::Text(text) => f.write_str(text)?,
                AttributeValue::Milli(milli) => {
                    let sign = if *milli < 0 { "-" } else { "" };
                    write!(f, "{sign}{}", Milli(milli.unsigned_abs()))?;
                }
                AttributeValue::Ranges(ranges) => {
                    let ranges: Vec<String> =
                        ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
                    write!(f, "[{}]", ranges.join(","))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_numbers_ranges_or_texts() {
        let text = "rack:r1;slots:[1-5,7-7];age:-1.5;at:10.0.0.1:80;rack:r2;odd:1.2345";
        let Attributes(read) = text.parse().unwrap();
        let value = |place: usize| &read[place].1;
        assert_eq!(value(0), &AttributeValue::Text("r1".to_owned()));
        assert_eq!(value(1), &AttributeValue::Ranges(vec![(1, 5), (7, 7)]));
        assert_eq!(value(2), &AttributeValue::Milli(-1_500));
        assert_eq!(value(3), &AttributeValue::Text("10.0.0.1:80".to_owned()));
        assert_eq!(value(5), &AttributeValue::Text("1.2345".to_owned()));
        assert_eq!(Attributes(read).to_string(), text);
    }

    #[test]
    fn what_is_none_is_refused() {
        for bad in ["a", "a:", ":b", "a b:c", "a:[5-1]", "a:[x]", "a:b;", "a:b\u{7}"] {
            assert!(bad.parse::<Attributes>().is_err(), "{bad:?}");
        }
        assert_eq!("".parse(), Ok(Attributes::default()));
    }
}
