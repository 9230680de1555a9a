//! Sets of ports, exact: what an agent has of them and who holds which.
//!
//! Never counts a port twice. Its one surprise: ranges that touch are joined, so a set prints in one way only.

use serde::{Deserialize, Serialize};

/// Ports `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// A set of ports as sorted ranges that neither touch nor overlap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "Vec<PortRange>", into = "Vec<PortRange>")]
pub struct PortSet(Vec<PortRange>);

impl From<Vec<PortRange>> for PortSet {
    fn from(mut ranges: Vec<PortRange>) -> Self {
        ranges.retain(|range| range.first <= range.last);
        ranges.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(open) if u32::from(range.first) <= u32::from(open.last) + 1 => {
                    open.last = open.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

impl From<PortSet> for Vec<PortRange> {
    fn from(set: PortSet) -> Self {
        set.0
    }
}

impl PortSet {
    /// No port.
    pub(crate) const NONE: Self = Self(Vec::new());

    /// The ranges, in order.
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }
    /// How many ports there are.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|range| u32::from(range.last) - u32::from(range.first) + 1).sum()
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether every port of `other` is here.
    pub fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|want| {
            self.0.iter().any(|have| have.first <= want.first && want.last <= have.last)
        })
    }
    /// Whether some port is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        other.0.iter().any(|a| self.0.iter().any(|b| a.first <= b.last && b.first <= a.last))
    }
    /// All ports of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        Self::from(self.0.iter().chain(&other.0).copied().collect::<Vec<_>>())
    }
    /// The ports that are here and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = self.0.clone();
        for cut in &other.0 {
            left = left.into_iter().flat_map(|range| cut_range(range, *cut)).flatten().collect();
        }
        Self(left)
    }
    /// The lowest `count` ports, or all if there are fewer.
    #[must_use]
    pub fn lowest(&self, count: u32) -> Self {
        let mut left = count;
        let mut taken = Vec::new();
        for range in &self.0 {
            if left == 0 {
                break;
            }
            let width = (u32::from(range.last) - u32::from(range.first) + 1).min(left);
            left -= width;
            let last = u16::try_from(u32::from(range.first) + width - 1).unwrap_or(range.last);
            taken.push(PortRange { first: range.first, last });
        }
        Self(taken)
    }
}

fn cut_range(range: PortRange, cut: PortRange) -> [Option<PortRange>; 2] {
    if cut.last < range.first || range.last < cut.first {
        return [Some(range), None];
    }
    let below =
        (range.first < cut.first).then(|| PortRange { first: range.first, last: cut.first - 1 });
    let above =
        (cut.last < range.last).then(|| PortRange { first: cut.last + 1, last: range.last });
    [below, above]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(ranges: &[(u16, u16)]) -> PortSet {
        PortSet::from(
            ranges.iter().map(|&(first, last)| PortRange { first, last }).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn port_sets_merge_and_cut() {
        assert_eq!(ports(&[(5, 9), (1, 4), (20, 10)]), ports(&[(1, 9)]));
        assert_eq!(ports(&[(1, 9)]).minus(&ports(&[(3, 4), (9, 9)])), ports(&[(1, 2), (5, 8)]));
        assert_eq!(ports(&[(0, 65_535)]).count(), 65_536);
        assert_eq!(ports(&[(1, 2), (7, 9)]).lowest(3), ports(&[(1, 2), (7, 7)]));
        assert!(ports(&[(0, 65_535)]).minus(&ports(&[(0, 65_535)])).is_empty());
    }
}
