//! What all notations of amounts have in common: entries, names, exact numbers, ranges, and what can be wrong with them.
//!
//! Never guesses: what does not fit the notation to the letter is refused, with the entry that does not. Its one surprise:
//! there are no spaces in it.

use crate::limits;
use crate::names::{NameError, check_name};
use std::fmt;

/// Why a text is not a bundle, a list of scalars, or a list of attributes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotationError {
    /// Longer than [`limits::NOTATION_BYTES`].
    #[error("the text has {0} bytes, and at most {max} are allowed", max = limits::NOTATION_BYTES)]
    Long(usize),
    /// More than [`limits::NOTATION_ENTRIES`].
    #[error("the text has {0} entries, and at most {max} are allowed", max = limits::NOTATION_ENTRIES)]
    Many(usize),
    /// One entry is wrong.
    #[error("`{entry}`: {problem}")]
    Entry {
        /// The entry, its first 64 characters.
        entry: String,
        /// What is wrong with it.
        problem: EntryProblem,
    },
}

/// What is wrong with an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryProblem {
    /// Not of the form of an entry.
    #[error(
        "it is not of the form `name:value`, with `(roles)` and `{{flags}}` after the name if need be"
    )]
    Form,
    /// The name is not one.
    #[error("its name is wrong: {0}")]
    Name(NameError),
    /// The name is longer than [`limits::RESOURCE_NAME_BYTES`].
    #[error("its name has {0} bytes, and at most {max} are allowed", max = limits::RESOURCE_NAME_BYTES)]
    NameLong(usize),
    /// A role is not one, or it is `*` and not alone.
    #[error("its role is wrong: {0}")]
    Role(NameError),
    /// A reservation within another is not for a role below it.
    #[error("each role has to be below the one before it, as `a/b` is below `a`")]
    NotBelow,
    /// More than [`limits::REFINEMENTS`].
    #[error("it has {0} roles, and at most {max} are allowed", max = limits::REFINEMENTS)]
    ManyRoles(usize),
    /// Not a flag.
    #[error("a flag is `rev`, `mount`, `mount=ID`, `vol:ID` or `shared:ID:size=N`")]
    Flag,
    /// The name of a disk or of a volume is not one.
    #[error("the name of its disk or volume is wrong: {0}")]
    Id(NameError),
    /// A flag is there twice, or two are that exclude each other.
    #[error("two of its flags do not go together")]
    FlagTwice,
    /// A flag of disks on something else.
    #[error("only `disk` can be `mount`, `vol` or `shared`")]
    NotDisk,
    /// Roles or flags where there can be none.
    #[error("there can be no roles and no flags here")]
    NotPlain,
    /// Not a number.
    #[error("its value has to be a number such as `2` or `0.5`")]
    Number,
    /// More than three decimals.
    #[error("its value may have three decimals")]
    Decimals,
    /// Part of a byte.
    #[error("its value, in MiB, has to be a whole number of bytes")]
    Bytes,
    /// A shared volume of no size, or part of a copy.
    #[error("a shared volume has a size, and its value is a whole number of copies")]
    Copies,
    /// Over the range of an amount, alone or as a sum.
    #[error("its amount is too large")]
    Large,
    /// Not a list of ranges, or a range that ends before it begins.
    #[error("its value has to be ranges such as `[80,8000-8099]`")]
    Ranges,
    /// Not a set of items.
    #[error("its value has to be items such as `{{a,b}}`")]
    Items,
    /// Not the text of an attribute.
    #[error("its value has to be a text of at most {max} bytes", max = limits::ITEM_BYTES)]
    Text,
    /// A port or an item is there twice.
    #[error("a port or an item is there twice")]
    Twice,
    /// A number and a set by the same name.
    #[error("it is a number here and a set there")]
    Mixed,
}

const SHOWN: usize = 64;

/// Reads a text, entry by entry.
pub(super) fn each_entry(
    text: &str,
    mut read: impl FnMut(&str) -> Result<(), EntryProblem>,
) -> Result<(), NotationError> {
    if text.len() > limits::NOTATION_BYTES {
        return Err(NotationError::Long(text.len()));
    }
    if text.is_empty() {
        return Ok(());
    }
    let count = text.split(';').count();
    if count > limits::NOTATION_ENTRIES {
        return Err(NotationError::Many(count));
    }
    text.split(';').try_for_each(|entry| {
        read(entry).map_err(|problem| NotationError::Entry { entry: shown(entry), problem })
    })
}

/// What is safe to print of what somebody sent.
fn shown(entry: &str) -> String {
    let harmless = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    entry.chars().take(SHOWN).map(harmless).collect()
}

/// Checks the name of a resource or of an attribute.
pub(super) fn check_resource_name(name: &str) -> Result<(), EntryProblem> {
    if name.len() > limits::RESOURCE_NAME_BYTES {
        return Err(EntryProblem::NameLong(name.len()));
    }
    check_name(name).map_err(EntryProblem::Name)
}

/// Whether a text may be an item of a set.
pub(super) fn is_item(text: &str) -> bool {
    let apart = |c: char| c.is_control() || c.is_whitespace() || ",;:()[]{}".contains(c);
    !text.is_empty() && text.len() <= limits::ITEM_BYTES && !text.contains(apart)
}

/// `12.50` as `12` and `5`: the digits before the point, and those after it without zeros at the end.
fn decimal(text: &str) -> Result<(u64, &str), EntryProblem> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_digits = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_digits(whole) || !is_digits(part) {
        return Err(EntryProblem::Number);
    }
    // Digits alone: the one way left to fail is to be over the range.
    let whole = whole.parse().ok().ok_or(EntryProblem::Large)?;
    Ok((whole, part.trim_end_matches('0')))
}

/// Digits after the point, as a number of `1 / 10^places`; `None` if there are more of them than that.
fn places(digits: &str, places: usize) -> Option<u128> {
    let missing = places.checked_sub(digits.len())?;
    let scale = 10_u128.checked_pow(u32::try_from(missing).ok()?)?;
    if digits.is_empty() {
        return Some(0);
    }
    digits.parse::<u128>().ok()?.checked_mul(scale)
}

/// Thousandths.
pub(super) fn milli(text: &str) -> Result<u64, EntryProblem> {
    let (whole, part) = decimal(text)?;
    let part = places(part, 3).and_then(|n| u64::try_from(n).ok()).ok_or(EntryProblem::Decimals)?;
    whole.checked_mul(1_000).and_then(|n| n.checked_add(part)).ok_or(EntryProblem::Large)
}

/// Places after the point that a whole number of bytes can have in MiB: 2^-20 is 5^20 / 10^20.
const MIB_PLACES: usize = 20;
/// What one byte is in the last of those places.
const MIB_BYTE: u128 = 95_367_431_640_625;

/// Bytes, from MiB.
pub(super) fn mib(text: &str) -> Result<u64, EntryProblem> {
    let (whole, part) = decimal(text)?;
    let part = places(part, MIB_PLACES).ok_or(EntryProblem::Bytes)?;
    if part % MIB_BYTE != 0 {
        return Err(EntryProblem::Bytes);
    }
    let bytes = (u128::from(whole) << 20) + part / MIB_BYTE;
    u64::try_from(bytes).ok().ok_or(EntryProblem::Large)
}

/// A whole number.
pub(super) fn whole(text: &str) -> Result<u64, EntryProblem> {
    match decimal(text)? {
        (whole, "") => Ok(whole),
        _ => Err(EntryProblem::Copies),
    }
}

/// Bytes as MiB, to the last place: `1024`, `0.5`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mib(pub(super) u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 >> 20, self.0 & ((1 << 20) - 1));
        if part == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{:0MIB_PLACES$}", u128::from(part) * MIB_BYTE);
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// `[80,8000-8099]` as pairs, in the order in which they stand.
pub(super) fn ranges(text: &str) -> Result<Vec<(u64, u64)>, EntryProblem> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let inner = inner.ok_or(EntryProblem::Ranges)?;
    if inner.is_empty() {
        return Ok(Vec::new());
    }
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| {
            let is_digits = text.bytes().all(|b| b.is_ascii_digit());
            is_digits.then(|| text.parse().ok()).flatten()
        };
        let pair: (u64, u64) = (number(first)?, number(last)?);
        (pair.0 <= pair.1).then_some(pair)
    };
    inner.split(',').map(|text| range(text).ok_or(EntryProblem::Ranges)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_or_refused() {
        assert_eq!(milli("0.015"), Ok(15));
        assert_eq!(milli("1.5000"), Ok(1_500));
        assert_eq!(milli("18446744073709551.615"), Ok(u64::MAX));
        assert_eq!(milli("18446744073709551.616"), Err(EntryProblem::Large));
        assert_eq!(milli("1.2345"), Err(EntryProblem::Decimals));
        for bad in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "1.2.3", " 1", "NaN", "\u{663}"]
        {
            assert_eq!(milli(bad), Err(EntryProblem::Number), "{bad:?}");
        }
    }

    #[test]
    fn mebibytes_come_out_as_whole_bytes() {
        assert_eq!(mib("1024"), Ok(1 << 30));
        assert_eq!(mib("0.5"), Ok(1 << 19));
        assert_eq!(mib("0.00000095367431640625"), Ok(1));
        assert_eq!(mib("0.1"), Err(EntryProblem::Bytes));
        assert_eq!(mib("0.000000953674316406251"), Err(EntryProblem::Bytes));
        assert_eq!(mib("17592186044416"), Err(EntryProblem::Large));
        for bytes in [0, 1, (1 << 20) - 1, (1 << 20) + 1, u64::MAX] {
            assert_eq!(mib(&Mib(bytes).to_string()), Ok(bytes));
        }
    }

    #[test]
    fn what_is_printed_of_an_entry_is_short_and_harmless() {
        let entry = format!("\u{7}{}", "é".repeat(100));
        let Err(NotationError::Entry { entry, .. }) =
            each_entry(&entry, |_| Err(EntryProblem::Form))
        else {
            panic!("an error");
        };
        assert_eq!(entry.chars().count(), SHOWN);
        assert!(!entry.contains(char::is_control));
    }

    #[test]
    fn long_texts_are_not_read() {
        let read = |text: &str| each_entry(text, |_| Ok(()));
        assert_eq!(read(&";".repeat(limits::NOTATION_ENTRIES)), {
            Err(NotationError::Many(limits::NOTATION_ENTRIES + 1))
        });
        let long = limits::NOTATION_BYTES + 1;
        assert_eq!(read(&"a".repeat(long)), Err(NotationError::Long(long)));
    }
}
