//! Sets of ports, as lists of inclusive ranges. An empty or backward range holds nothing.

use crate::PortRange;

/// Sorted, without overlaps, without empty ranges.
fn tidy(ranges: &[PortRange]) -> Vec<PortRange> {
    let mut sorted: Vec<PortRange> =
        ranges.iter().copied().filter(|range| range.first <= range.last).collect();
    sorted.sort_unstable_by_key(|range| (range.first, range.last));
    let mut merged: Vec<PortRange> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match merged.last_mut() {
            Some(open) if range.first <= open.last.saturating_add(1) => {
                open.last = open.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

pub(crate) fn contains(have: &[PortRange], want: &[PortRange]) -> bool {
    if want.is_empty() {
        return true;
    }
    let have = tidy(have);
    tidy(want)
        .iter()
        .all(|want| have.iter().any(|have| have.first <= want.first && want.last <= have.last))
}

pub(crate) fn minus(have: &[PortRange], less: &[PortRange]) -> Vec<PortRange> {
    let mut left = tidy(have);
    for cut in tidy(less) {
        let mut next = Vec::with_capacity(left.len() + 1);
        for range in left {
            if cut.last < range.first || range.last < cut.first {
                next.push(range);
                continue;
            }
            if range.first < cut.first {
                next.push(PortRange { first: range.first, last: cut.first - 1 });
            }
            if cut.last < range.last {
                next.push(PortRange { first: cut.last + 1, last: range.last });
            }
        }
        left = next;
    }
    left
}

pub(crate) fn plus(have: &[PortRange], more: &[PortRange]) -> Vec<PortRange> {
    if more.is_empty() {
        return have.to_vec();
    }
    tidy(&[have, more].concat())
}

/// The lowest `count` ports, or all if there are fewer.
pub(crate) fn lowest(have: &[PortRange], count: u32) -> Vec<PortRange> {
    let mut left = count;
    let mut taken = Vec::new();
    for range in tidy(have) {
        if left == 0 {
            break;
        }
        let width = (u32::from(range.last) - u32::from(range.first) + 1).min(left);
        left -= width;
        let last = u16::try_from(u32::from(range.first) + width - 1).unwrap_or(range.last);
        taken.push(PortRange { first: range.first, last });
    }
    taken
}
