//! The words of one line, taken one after the other, and what single words mean.

use super::step::{Capability, Decimal};
use std::collections::BTreeSet;
use std::str::FromStr;

use tepui_proto::events::AttributeValue;
use tepui_proto::names::check_role;
use tepui_proto::{Attributes, Bundle, DurationMs, Role, Scalars};

/// What is wrong with a line, without its number.
pub(crate) type Bad = String;

/// What is left of a line.
#[derive(Clone, Debug)]
pub(crate) struct Words<'a> {
    verb: &'a str,
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    /// `None` for a line without words. A comment runs from a word that begins with `#` to the end.
    pub(crate) fn of(line: &'a str) -> Option<Self> {
        let mut rest: Vec<&str> =
            line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
        if rest.is_empty() {
            return None;
        }
        let verb = rest.remove(0);
        rest.reverse();
        Some(Self { verb, rest })
    }

    /// The first word of the line.
    pub(crate) fn verb(&self) -> &'a str {
        self.verb
    }

    /// The next word, or an error that says what is missing.
    pub(crate) fn next(&mut self, what: &str) -> Result<&'a str, Bad> {
        self.rest.pop().ok_or_else(|| format!("`{}` needs {what}", self.verb))
    }

    /// The next word, if there is one.
    pub(crate) fn maybe(&mut self) -> Option<&'a str> {
        self.rest.pop()
    }

    /// An error if a word is left.
    pub(crate) fn end(&mut self) -> Result<(), Bad> {
        match self.rest.pop() {
            None => Ok(()),
            Some(word) => Err(unknown(self.verb, word)),
        }
    }

    pub(crate) fn name(&mut self, what: &str) -> Result<String, Bad> {
        self.next(what).map(str::to_owned)
    }

    pub(crate) fn role(&mut self) -> Result<Role, Bad> {
        role(self.next("a role")?)
    }

    pub(crate) fn bundle(&mut self) -> Result<Bundle, Bad> {
        bundle(self.next("resources")?)
    }

    pub(crate) fn seconds(&mut self) -> Result<DurationMs, Bad> {
        seconds(self.next("a number of seconds")?)
    }
}

/// The error for a word that means nothing there.
pub(crate) fn unknown(verb: &str, word: &str) -> Bad {
    format!("unknown word `{word}` after `{verb}`")
}

pub(crate) fn role(text: &str) -> Result<Role, Bad> {
    check_role(text).map_err(|e| format!("`{text}` is not a role: {e}"))?;
    Ok(Role::from(text))
}

/// Roles between commas; none in an empty text.
pub(crate) fn roles(text: &str) -> Result<Vec<Role>, Bad> {
    list(text).map(role).collect()
}

/// What stands between commas; nothing in an empty text.
pub(crate) fn list(text: &str) -> impl Iterator<Item = &str> {
    let is_empty = text.is_empty();
    text.split(',').filter(move |_| !is_empty)
}

pub(crate) fn bundle(text: &str) -> Result<Bundle, Bad> {
    if text.is_empty() { Ok(Bundle::default()) } else { parsed(text, "resources") }
}

/// Amounts by name; none in an empty text.
pub(crate) fn scalars(text: &str) -> Result<Scalars, Bad> {
    if text.is_empty() { Ok(Scalars::default()) } else { parsed(text, "amounts") }
}

/// A smallest offer: nothing in an empty text, which is met by anything.
pub(crate) fn smallest(text: &str) -> Result<Vec<Scalars>, Bad> {
    if text.is_empty() { Ok(Vec::new()) } else { Ok(vec![scalars(text)?]) }
}

pub(crate) fn attributes(text: &str) -> Result<Vec<(String, AttributeValue)>, Bad> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    parsed::<Attributes>(text, "attributes").map(|attributes| attributes.0)
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(text: &str, what: &str) -> Result<T, Bad> {
    text.parse().map_err(|e| format!("`{text}` are not {what}: {e}"))
}

pub(crate) fn count(text: &str) -> Result<u64, Bad> {
    text.parse().map_err(|e| format!("`{text}` is not a count: {e}"))
}

pub(crate) fn seconds(text: &str) -> Result<DurationMs, Bad> {
    milli(text).map(DurationMs)
}

/// A decimal in thousandths, at most three places.
pub(crate) fn milli(text: &str) -> Result<u64, Bad> {
    let bad = || format!("`{text}` is not a number of at most three decimal places");
    let decimal = decimal(text)?;
    let scale = 3_u32.checked_sub(decimal.places).ok_or_else(bad)?;
    let milli = decimal.units.checked_mul(10_u128.pow(scale)).ok_or_else(bad)?;
    u64::try_from(milli).ok().ok_or_else(bad)
}

/// Digits, perhaps a point and more digits; at most 18 in all.
pub(crate) fn decimal(text: &str) -> Result<Decimal, Bad> {
    let bad = || format!("`{text}` is not a number");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{part}");
    let is_good = !whole.is_empty()
        && text.contains('.') != part.is_empty()
        && digits.len() <= 18
        && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_good {
        return Err(bad());
    }
    let units = digits.parse().ok().ok_or_else(bad)?;
    Ok(Decimal { units, places: u32::try_from(part.len()).ok().ok_or_else(bad)? })
}

pub(crate) fn capabilities(text: &str) -> Result<BTreeSet<Capability>, Bad> {
    list(text)
        .map(|name| match name {
            "REVOCABLE_RESOURCES" => Ok(Capability::Revocable),
            "SHARED_RESOURCES" => Ok(Capability::Shared),
            "GPU_RESOURCES" => Ok(Capability::Gpus),
            "RESERVATION_REFINEMENT" => Ok(Capability::Refined),
            "REGION_AWARE" => Ok(Capability::OtherRegions),
            "MULTI_ROLE" => Ok(Capability::ManyRoles),
            "TASK_KILLING_STATE" | "PARTITION_AWARE" => Ok(Capability::Other),
            _ => Err(format!("unknown capability `{name}`")),
        })
        .collect()
}
