//! Bundles as a person writes them: `cpus:2;mem:1024;disk(role1){vol:ID}:5;ports:[80,31000-32000];bugs:{a,b}`.
//!
//! Owns both directions: what is printed reads back as the same bundle, as long as its names are such as can be written and
//! it keeps to the bounds of a text. Its one surprise: a disk that cannot be split and was given no name gets one, from its
//! size and the disks of that size before it in the text; it is printed without that name where it would get it again.

mod print;
mod read;

pub(super) use read::Parts;

use super::grammar::Mib;
use std::collections::{BTreeMap, BTreeSet};

/// The name of ports.
pub(super) const PORTS: &str = "ports";
/// What names that were not given begin with.
const UNNAMED: char = '~';

/// The disks that cannot be split, as a text names them one by one.
#[derive(Default)]
struct Disks {
    seen: BTreeSet<String>,
    next: BTreeMap<u64, u32>,
}

impl Disks {
    /// The name that the next disk of this size gets if it is given none.
    fn name(&mut self, bytes: u64) -> String {
        let next = self.next.entry(bytes).or_default();
        loop {
            let name = format!("{UNNAMED}{}.{next}", Mib(bytes));
            if !self.seen.contains(&name) {
                return name;
            }
            *next = next.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bundle, EntryProblem, NotationError};
    use crate::Role;
    use crate::names::NameError;

    fn read(text: &str) -> Bundle {
        text.parse().unwrap()
    }

    fn problem(text: &str) -> EntryProblem {
        match text.parse::<Bundle>() {
            Err(NotationError::Entry { problem, .. }) => problem,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn bundles_print_as_they_are_written() {
        for text in [
            "",
            "cpus:2;mem:1024;ports:[31000-32000]",
            "cpus:0.015;mem:16;disk:128;cpus(role1):0.015;mem(role1):16",
            "disk(a,a/b){vol:ID}:5",
            "disk:50;disk{mount}:50",
            "disk{mount=sdb}:50;disk{mount}:50;disk{mount}:50",
            "disk(role1):95;disk(role1){shared:id1:size=5}:1",
            "cpus(non-quota-role):2;mem(non-quota-role):2048",
            "cpus:100;mem:100;disk:100;cpus{rev}:12",
            "bugs:{a,b};gpus:1.5;cpus(a/b){rev}:1",
            "disk(a){rev,mount,shared:v:size=0.5}:3",
            "mem:0.5;ports:[80,8000-8099]",
        ] {
            assert_eq!(read(text).to_string(), text);
        }
    }

    #[test]
    fn the_same_twice_adds_up_and_nothing_is_left_out() {
        assert_eq!(read("cpus:1;cpus:0.5;ports:[1-2];ports:[3]"), read("cpus:1.5;ports:[1-3]"));
        assert_eq!(
            read("cpus:0;bugs:{};gpus:0;ports:[];disk{mount}:0;mem(a):0"),
            Bundle::default()
        );
        assert_eq!(read("cpus(*):1"), read("cpus:1"));
    }

    #[test]
    fn a_shared_volume_counts_copies() {
        let kinds = read("disk(role1){shared:id1:size=5}:3");
        let (kind, pool) = kinds.pools().next().unwrap();
        assert_eq!(pool.disk_bytes, 15 << 20);
        assert!(kind.is_shared() && kind.is_reserved() && !kind.is_whole());
        assert_eq!(kind.owner().map(Role::as_str), Some("role1"));
    }

    #[test]
    fn unnamed_disks_are_told_apart_and_found_again() {
        let names = |text: &str| {
            let names = read(text);
            names.pools().filter_map(|(kind, _)| kind.disk.whole.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names("disk{mount}:50;disk{mount}:50;disk{mount}:60"), {
            ["~50.0", "~50.1", "~60.0"]
        });
        // The second of two alone keeps its name, and a name that is taken is not given again.
        let second = read("disk{mount}:50;disk{mount}:50").checked_sub(&read("disk{mount}:50"));
        let second = second.unwrap().to_string();
        assert_eq!(second, "disk{mount=~50.1}:50");
        assert_eq!(names("disk{mount=~50.0}:50;disk{mount}:50"), ["~50.0", "~50.1"]);
        let crossed = read("disk(web){mount}:50;disk{mount}:50");
        assert_eq!(read(&crossed.to_string()), crossed);
    }

    #[test]
    fn each_fault_has_its_own_name() {
        use EntryProblem as P;
        let role = |text: &str| matches!(problem(text), P::Role(_));
        assert!(["cpus():1", "cpus(a//b):1", "cpus(-a):1", "cpus(a b):1"].into_iter().all(role));
        assert!(["cpus(*,a):1", "cpus(a,*):1", "cpus(a/..):1"].into_iter().all(role));
        assert_eq!(problem("cpus:1;"), P::Form);
        assert_eq!(problem("cpus"), P::Form);
        assert_eq!(problem("cpus{rev}(a):1"), P::Form);
        assert_eq!(problem(":1"), P::Name(NameError::Empty));
        assert_eq!(problem(&format!("{}:1", "a".repeat(65))), P::NameLong(65));
        assert_eq!(problem("cpus(a,b):1"), P::NotBelow);
        assert_eq!(problem("cpus(a,ab):1"), P::NotBelow);
        assert_eq!(problem(&format!("cpus({}a):1", "a,".repeat(16))), P::ManyRoles(17));
        assert_eq!(problem("cpus{}:1"), P::Flag);
        assert_eq!(problem("cpus{revocable}:1"), P::Flag);
        assert_eq!(problem("disk{shared:a}:1"), P::Flag);
        assert_eq!(problem("disk{vol:}:1"), P::Id(NameError::Empty));
        assert_eq!(problem("disk{mount=}:1"), P::Id(NameError::Empty));
        assert_eq!(problem("cpus{rev,rev}:1"), P::FlagTwice);
        assert_eq!(problem("disk{vol:a,shared:a:size=1}:1"), P::FlagTwice);
        assert_eq!(problem("cpus{mount}:1"), P::NotDisk);
        assert_eq!(problem("mem{vol:a}:1"), P::NotDisk);
        assert_eq!(problem("cpus:[1-2]"), P::Number);
        assert_eq!(problem("gpus:0.0001"), P::Decimals);
        assert_eq!(problem("mem:0.1"), P::Bytes);
        assert_eq!(problem("disk{shared:a:size=0}:1"), P::Copies);
        assert_eq!(problem("disk{shared:a:size=1}:1.5"), P::Copies);
        assert_eq!(problem("disk{shared:a:size=17592186044415}:2"), P::Large);
        assert_eq!(problem("cpus:18446744073709551;cpus:18446744073709551"), P::Large);
        assert_eq!(problem("ports:80"), P::Ranges);
        assert_eq!(problem("ports:[9-1]"), P::Ranges);
        assert_eq!(problem("ports:[65536]"), P::Ranges);
        assert_eq!(problem("ports:[1-5,5-8]"), P::Twice);
        assert_eq!(problem("ports:[1-5];ports:[5]"), P::Twice);
        assert_eq!(problem("bugs:{a,,b}"), P::Items);
        assert_eq!(problem("bugs:{a,b"), P::Items);
        assert_eq!(problem("bugs:{a,a}"), P::Twice);
        assert_eq!(problem("bugs:{a};bugs:{a,b}"), P::Twice);
        assert_eq!(problem("bugs:{a};bugs:1"), P::Mixed);
        assert_eq!(problem("bugs:1;bugs:{a}"), P::Mixed);
    }
}
