//! What the ledger refuses is refused with a type of its own, and changes nothing.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use tepui_master_core::ledger::{Holder, Ledger, LedgerError};
use tepui_proto::{AgentId, Bundle, FrameworkId, Resources, Role};

const A: AgentId = AgentId(1);
const F: FrameworkId = FrameworkId(1);

fn bundle(text: &str) -> Bundle {
    text.parse().unwrap()
}

/// An agent of which something is offered and something used.
fn in_use() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.set_offerable(A, &bundle("cpus:4;mem:64;ports:[1-4];disk(a):10;disk(a){vol:v}:5"));
    let role = Role::from("a");
    let holder = Holder { role: &role, framework: F };
    ledger.offer(A, holder, &bundle("cpus:1;ports:[1]")).unwrap();
    ledger.take(A, holder, &bundle("cpus:1;ports:[2];disk(a){vol:v}:5"), false).unwrap();
    ledger
}

/// It is refused, and nothing has changed.
#[track_caller]
fn is_refused(
    ledger: &mut Ledger,
    error: LedgerError,
    change: impl FnOnce(&mut Ledger, Holder<'_>) -> Result<(), LedgerError>,
) {
    let before = format!("{ledger:?}");
    let role = Role::from("a");
    let refused = change(ledger, Holder { role: &role, framework: F });
    assert_eq!(refused, Err(error));
    assert_eq!(ledger.unbalanced(), None);
    assert_eq!(format!("{ledger:?}"), before);
}

#[test]
fn what_is_not_there_is_neither_moved_nor_changed() {
    let ledger = &mut in_use();
    let short = LedgerError::Short;
    is_refused(ledger, short, |l, h| l.offer(A, h, &bundle("cpus:2.001")));
    is_refused(ledger, short, |l, h| l.offer(A, h, &bundle("cpus:1;ports:[1]")));
    is_refused(ledger, short, |l, h| l.offer(A, h, &bundle("cpus(a):1")));
    is_refused(ledger, short, |l, h| l.take_back(A, h, &bundle("cpus:1.001")));
    is_refused(ledger, short, |l, h| l.take_back(A, h, &bundle("ports:[2]")));
    is_refused(ledger, short, |l, h| l.give_back(A, h, &bundle("cpus:1.001"), false));
    is_refused(ledger, short, |l, h| l.give_back(A, h, &bundle("cpus:1"), true));
    is_refused(ledger, short, |l, _| l.convert(A, &bundle("cpus:2.001"), &bundle("cpus(a):2.001")));
    is_refused(ledger, short, |l, _| {
        l.convert(A, &bundle("disk(a){vol:v}:5"), &bundle("disk(a):5"))
    });
    let none = LedgerError::NoAgent;
    is_refused(ledger, none, |l, h| l.offer(AgentId(2), h, &bundle("cpus:1")));
    is_refused(ledger, none, |l, h| l.take(AgentId(2), h, &bundle("cpus:1"), false));
    is_refused(ledger, none, |l, h| l.give_back(AgentId(2), h, &bundle("cpus:1"), true));
    is_refused(ledger, none, |l, h| l.take_back(AgentId(2), h, &bundle("cpus:1")));
    is_refused(ledger, none, |l, _| l.convert(AgentId(2), &bundle("cpus:1"), &bundle("cpus(a):1")));
}

#[test]
fn a_port_that_is_out_already_is_not_taken_twice() {
    let ledger = &mut in_use();
    is_refused(ledger, LedgerError::Short, |l, h| l.take(A, h, &bundle("ports:[2]"), false));
    is_refused(ledger, LedgerError::Short, |l, h| l.take(A, h, &bundle("ports:[1]"), false));
}

#[test]
fn sums_over_the_range_are_refused() {
    let all = Bundle::from(Resources::cpu_memory(u64::MAX, 0));
    let one = Bundle::from(Resources::cpu_memory(1, 0));
    let mut ledger = Ledger::default();
    ledger.set_offerable(A, &all.checked_add(&bundle("cpus(b):1")).unwrap());
    let short = LedgerError::Short;
    is_refused(&mut ledger, short, |l, _| l.convert(A, &bundle("cpus(b):1"), &bundle("cpus:1")));
    let role = Role::from("a");
    ledger.offer(A, Holder { role: &role, framework: F }, &all).unwrap();
    is_refused(&mut ledger, short, |l, h| l.take(A, h, &one, false));
    ledger.take_back(A, Holder { role: &role, framework: F }, &all).unwrap();
    ledger.take(A, Holder { role: &role, framework: F }, &all, false).unwrap();
    is_refused(&mut ledger, short, |l, h| l.take(A, h, &one, false));
}

#[test]
fn a_conversion_of_what_is_offered_is_done_whole_or_not_at_all() {
    let role = Role::from("a");
    let holder = Holder { role: &role, framework: F };
    // The agent has less than is out: what is offered is not all there.
    let shrunk = |to: &str| {
        let mut ledger = Ledger::default();
        ledger.set_offerable(A, &bundle("cpus:4;mem:64;cpus(a):1;mem(a):16"));
        let all = bundle("cpus:4;mem:64;cpus(a):1;mem(a):16");
        ledger.offer(A, holder, &all).unwrap();
        ledger.set_offerable(A, &bundle(to));
        ledger
    };
    for (total, from, to) in [
        ("cpus:4;mem:16;cpus(a):1;mem(a):16", "cpus:1;mem:32", "cpus(a):1;mem(a):32"),
        ("cpus:4;mem:16;cpus(a):1;mem(a):16", "cpus(a):1;mem(a):16", "cpus:1;mem:16"),
        ("cpus:0;mem:64", "cpus:1", "cpus(a):1"),
        ("cpus:4;mem:64", "cpus:5", "cpus(a):5"),
    ] {
        let mut ledger = shrunk(total);
        let before = format!("{ledger:?}");
        let (from, to) = (bundle(from), bundle(to));
        let done = ledger.convert_offered(A, holder, &from, &to);
        assert_eq!(ledger.unbalanced(), None, "{total}");
        let offered = ledger.agent(A).unwrap().offerable.offered.clone();
        if done.is_ok() {
            let all = bundle("cpus:4;mem:64;cpus(a):1;mem(a):16");
            let converted = all.checked_sub(&from).and_then(|rest| rest.checked_add(&to));
            assert_eq!(Some(offered.clone()), converted, "{total}");
            ledger.take_back(A, holder, &offered).unwrap();
            let total = ledger.agent(A).unwrap().offerable.total.clone();
            assert_eq!(ledger.agent(A).unwrap().offerable.free(), &total);
        } else {
            assert_eq!(format!("{ledger:?}"), before, "{total}: {from} to {to}");
        }
    }
}
