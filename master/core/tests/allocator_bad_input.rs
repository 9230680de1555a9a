//! What operators, agents and tenants may get wrong is refused with a type of its own, and changes nothing.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test ends at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use tepui_master_core::allocator::{
    Accepts, Allocator, Ask, CheckedPatterns, ConstraintError, Look, Settings, Site,
};
use tepui_master_core::ledger::{Holder, Ledger};
use tepui_master_core::policy::{Policy, PolicyError, RolePolicy, WEIGHT_MILLI_MAX};
use tepui_master_core::refusal::Code;
use tepui_proto::calls::{Comparison, Constraint, Want};
use tepui_proto::events::AttributeValue;
use tepui_proto::names::NameError;
use tepui_proto::{
    AgentId, Attributes, Bundle, EntryProblem, FrameworkId, NotationError, Resources, Role,
    Scalars, Timestamp, limits,
};

const A: AgentId = AgentId(1);
const F: FrameworkId = FrameworkId(1);
const MEGABYTE: usize = 1 << 20;

fn bundle(text: &str) -> Bundle {
    text.parse().unwrap()
}

fn scalars(text: &str) -> Scalars {
    text.parse().unwrap()
}

fn most(name: &str) -> Scalars {
    let mut all = Scalars::default();
    all.set(name, u64::MAX);
    all
}

fn quota(guarantee: &str, limit: &str) -> RolePolicy {
    RolePolicy { guarantee: scalars(guarantee), limit: scalars(limit), ..RolePolicy::default() }
}

fn policy(roles: &[(&str, RolePolicy)]) -> Policy {
    let mut policy = Policy::default();
    for (role, settings) in roles {
        policy.set(Role::from(*role), settings.clone());
    }
    policy
}

fn role_of(error: &PolicyError) -> &str {
    match error {
        PolicyError::Weight(role)
        | PolicyError::WeightTooLarge(role)
        | PolicyError::GuaranteeOverLimit { role, .. }
        | PolicyError::GuaranteesDoNotFit { role, .. }
        | PolicyError::LimitOverAncestor { role, .. }
        | PolicyError::GuaranteeOverAncestor { role, .. }
        | PolicyError::OverUsed { role, .. } => role.as_str(),
        PolicyError::OverCluster(name) => name,
    }
}

// Weights and quotas.

#[test]
fn weights_are_from_a_thousandth_to_a_million() {
    let weighs =
        |weight_milli| policy(&[("a/b", RolePolicy { weight_milli, ..RolePolicy::default() })]);
    for fine in [1, 1_000, WEIGHT_MILLI_MAX] {
        assert_eq!(weighs(fine).check(), Ok(()), "{fine}");
    }
    let role = || Role::from("a/b");
    assert_eq!(weighs(0).check(), Err(PolicyError::Weight(role())));
    for large in [WEIGHT_MILLI_MAX + 1, u64::MAX] {
        let refused = weighs(large).check().unwrap_err();
        assert_eq!(refused, PolicyError::WeightTooLarge(role()));
        assert_eq!(refused.code(), Code::WeightInvalid);
    }
}

#[test]
fn quotas_that_do_not_fit_are_refused() {
    for (roles, at, why) in [
        (&[("a", "cpus:3", "cpus:2")][..], "a", "a guarantee over its limit"),
        (&[("a", "cpus:3", "cpus:0")], "a", "a guarantee where nothing is allowed"),
        (&[("a/b", "cpus:1", "")], "a", "a guarantee without one above"),
        (
            &[("a", "mem:64", ""), ("a/b", "cpus:1", "")],
            "a",
            "a guarantee of another name than above",
        ),
        (&[("a", "cpus:2", ""), ("a/b", "cpus:3", "")], "a", "more than above"),
        (
            &[("a", "cpus:2", ""), ("a/b", "cpus:1", ""), ("a/c", "cpus:1.001", "")],
            "a",
            "more than above, together",
        ),
        (
            &[("a", "cpus:2", ""), ("a/b/c", "cpus:1", ""), ("a/d", "cpus:1.001", "")],
            "a",
            "more than above, together, one of them with a role between that has none",
        ),
        (
            &[("a", "cpus:4", ""), ("a/b", "cpus:1", ""), ("a/b/c", "cpus:2", "")],
            "a/b",
            "more than the nearest above",
        ),
        (&[("a", "", "cpus:1"), ("a/b", "", "cpus:2")], "a/b", "a limit over that above"),
        (&[("a", "", "cpus:1"), ("a/b/c", "", "cpus:2")], "a/b/c", "a limit over that far above"),
    ] {
        let roles: Vec<_> = roles.iter().map(|(role, g, l)| (*role, quota(g, l))).collect();
        let refused = policy(&roles).check().unwrap_err();
        assert_eq!(role_of(&refused), at, "{why}: {refused}");
        assert_eq!(refused.code(), Code::QuotaInvalid, "{why}: {refused}");
    }
}

#[test]
fn quotas_that_fit_are_taken() {
    for roles in [
        &[("a", "cpus:2", "cpus:2"), ("a/b", "cpus:1", "cpus:2"), ("a/c", "cpus:1", "cpus:1")][..],
        &[("a", "cpus:2;mem:1", ""), ("a/b/c", "cpus:2", "cpus:2")],
        &[("a", "", "cpus:0"), ("a/b", "", "cpus:0"), ("ab", "cpus:9", "")],
        &[("a", "", "cpus:1"), ("a/b", "", "mem:64")],
    ] {
        let roles: Vec<_> = roles.iter().map(|(role, g, l)| (*role, quota(g, l))).collect();
        assert_eq!(policy(&roles).check(), Ok(()), "{roles:?}");
    }
}

#[test]
fn guarantees_below_a_limit_fit_into_it_together() {
    let two = quota("cpus:2", "");
    let roles = [
        ("a", quota("cpus:9", "")),
        ("a/b", quota("", "cpus:3")),
        ("a/b/c", two.clone()),
        ("a/b/d", two),
    ];
    let refused = policy(&roles).check().unwrap_err();
    assert_eq!((role_of(&refused), refused.code()), ("a/b", Code::QuotaInvalid));
}

#[test]
fn guarantees_over_the_range_of_a_sum_are_refused() {
    let all = RolePolicy { guarantee: most(Scalars::CPUS), ..RolePolicy::default() };
    assert_eq!(policy(&[("a", all.clone()), ("a/b", all.clone())]).check(), Ok(()));
    let roles = [("a", all.clone()), ("a/b", all.clone()), ("a/c", all)];
    let refused = policy(&roles).check().unwrap_err();
    assert_eq!((role_of(&refused), refused.code()), ("a", Code::QuotaInvalid));
}

#[test]
fn guarantees_over_the_cluster_are_refused() {
    let mut ledger = Ledger::default();
    ledger.set_offerable(A, &bundle("cpus:4;mem:64"));
    let check = |roles: &[(&str, RolePolicy)]| policy(roles).check_cluster(&ledger);
    let half = quota("cpus:2", "");
    assert_eq!(check(&[("a", half.clone()), ("a/b", half.clone()), ("c", half.clone())]), Ok(()));
    let more = quota("cpus:2.001", "");
    let over = |name: &str| Err(PolicyError::OverCluster(name.to_owned()));
    assert_eq!(check(&[("a", half), ("c", more)]), over("cpus"));
    assert_eq!(check(&[("a", quota("gpus:1", ""))]), over("gpus"));
    let all = RolePolicy { guarantee: most(Scalars::MEM), ..RolePolicy::default() };
    assert_eq!(check(&[("a", all.clone()), ("c", all)]), over("mem"));
}

#[test]
fn guarantees_over_the_range_of_a_sum_do_not_fit_into_a_large_cluster() {
    let mut ledger = Ledger::default();
    ledger.set_offerable(A, &Bundle::from(Resources::cpu_memory(u64::MAX, 0)));
    let all = RolePolicy { guarantee: most(Scalars::CPUS), ..RolePolicy::default() };
    assert_eq!(policy(&[("a", all.clone())]).check_cluster(&ledger), Ok(()));
    let refused = policy(&[("a", all.clone()), ("c", all)]).check_cluster(&ledger);
    assert_eq!(refused, Err(PolicyError::OverCluster("cpus".to_owned())));
}

#[test]
fn a_limit_below_what_is_used_is_refused() {
    let mut ledger = Ledger::default();
    ledger.set_offerable(A, &bundle("cpus:4;cpus(a/b):1"));
    let role = Role::from("a/c");
    ledger.take(A, Holder { role: &role, framework: F }, &bundle("cpus:2"), false).unwrap();
    let (top, used) = (Role::from("a"), ledger.consumed("a"));
    for (limit, is_fine) in
        [("cpus:3", true), ("mem:0", true), ("cpus:2.999", false), ("cpus:0", false)]
    {
        let checked = policy(&[("a", quota("", limit))]).check_used(&top, &used);
        let refused = PolicyError::OverUsed { role: top.clone(), name: "cpus".to_owned() };
        assert_eq!(checked, if is_fine { Ok(()) } else { Err(refused) }, "{limit}");
    }
    let code = PolicyError::OverUsed { role: top, name: String::new() }.code();
    assert_eq!(code, Code::QuotaOverUsed);
}

// The notation.

fn problem(text: &str) -> EntryProblem {
    match text.parse::<Bundle>().unwrap_err() {
        NotationError::Entry { problem, .. } => problem,
        other => panic!("{text}: {other}"),
    }
}

#[test]
fn a_role_with_an_empty_part_is_refused() {
    for role in ["", "/", "a/", "/a", "a//b", "a,a//b", "a,"] {
        let found = problem(&format!("cpus({role}):1"));
        assert_eq!(found, EntryProblem::Role(NameError::Empty), "`{role}`");
    }
    for role in ["..", "a/.", "-a", "a/-b"] {
        let found = problem(&format!("cpus({role}):1"));
        assert_eq!(found, EntryProblem::Role(NameError::Form), "`{role}`");
    }
}

#[test]
fn a_resource_name_of_a_megabyte_is_refused() {
    let name = "x".repeat(MEGABYTE);
    let text = format!("{name}:1");
    let long = Err(NotationError::Long(text.len()));
    assert_eq!(text.parse::<Bundle>().map(|_| ()), long);
    assert_eq!(text.parse::<Scalars>().map(|_| ()), long);
    assert_eq!(text.parse::<Attributes>().map(|_| ()), long);
    let longer = "x".repeat(limits::RESOURCE_NAME_BYTES + 1);
    let found = problem(&format!("{longer}:1"));
    assert_eq!(found, EntryProblem::NameLong(longer.len()));
}

#[test]
fn amounts_over_the_range_are_refused_alone_and_as_a_sum() {
    for text in [
        "cpus:18446744073709551.616",
        "cpus:18446744073709551.615;cpus:0.001",
        "mem:17592186044416",
        "mem:17592186044415;mem:1",
        "disk(a){shared:v:size=1024}:17179869184",
        "cpus:99999999999999999999999999999999999999999999999",
    ] {
        assert_eq!(problem(text), EntryProblem::Large, "{text}");
    }
    for text in ["cpus:18446744073709551.616", "mem:17592186044415;mem:1"] {
        assert!(text.parse::<Scalars>().is_err(), "{text}");
    }
}

#[test]
fn ports_and_items_that_are_there_twice_are_refused() {
    for text in ["ports:[1-5];ports:[5-9]", "ports:[1-5,3]", "bugs:{a,a}", "bugs:{a};bugs:{a,b}"] {
        assert_eq!(problem(text), EntryProblem::Twice, "{text}");
    }
}

// Constraints.

fn matching(operand: &str) -> Constraint {
    Constraint {
        attribute: "rack".to_owned(),
        comparison: Comparison::Matches,
        operand: operand.to_owned(),
    }
}

fn check_constraints(constraints: &[Constraint]) -> Result<(), ConstraintError> {
    tepui_master_core::allocator::check_constraints(constraints, &mut CheckedPatterns::new())
}

#[test]
fn a_hostile_regex_is_refused() {
    let nested = format!("{}x{}", "(".repeat(100), ")".repeat(100));
    for hostile in [
        "(",
        "[",
        "a{2,1}",
        "(?P<x>a)(?P<x>b)",
        "\\1",
        "(?=x)",
        nested.as_str(),
        "(((a{100}){100}){100}){100}",
        "\\w{1000}",
        "(?i)\\pL{500}\\pN{500}",
        "a{0,65536}",
    ] {
        for comparison in [Comparison::Matches, Comparison::MatchesNot] {
            let constraint = Constraint { comparison, ..matching(hostile) };
            let refused = check_constraints(&[matching("fine"), constraint]).unwrap_err();
            let ConstraintError::Regex(shown, why) = refused else {
                panic!("{hostile}: {refused}")
            };
            assert!(shown.chars().count() <= 64 && hostile.starts_with(&shown), "{shown}");
            assert!(!why.is_empty() && !why.contains('\n'), "{why}");
        }
        // An operand that is not read as a pattern is a text like any other.
        let constraint = Constraint { comparison: Comparison::Equals, ..matching(hostile) };
        assert_eq!(check_constraints(&[constraint]), Ok(()), "{hostile}");
    }
}

#[test]
fn constraints_that_are_many_or_long_are_refused() {
    let many = vec![matching("x"); limits::CONSTRAINTS];
    assert_eq!(check_constraints(&many), Ok(()));
    let more = vec![matching("x"); limits::CONSTRAINTS + 1];
    assert_eq!(check_constraints(&more), Err(ConstraintError::Many(more.len())));
    let long = "x".repeat(limits::CONSTRAINT_BYTES);
    let equals = Constraint { comparison: Comparison::Equals, ..matching(&long) };
    assert_eq!(check_constraints(&[equals]), Ok(()));
    assert_eq!(
        check_constraints(&[matching(&long)]),
        Err(ConstraintError::LongPattern(long.len()))
    );
    assert_eq!(check_constraints(&[matching(&"x".repeat(limits::PATTERN_BYTES))]), Ok(()));
    for length in [limits::CONSTRAINT_BYTES + 1, MEGABYTE] {
        let longer = "x".repeat(length);
        assert_eq!(check_constraints(&[matching(&longer)]), Err(ConstraintError::Long));
        let named = Constraint { attribute: longer, ..matching("x") };
        assert_eq!(check_constraints(&[named]), Err(ConstraintError::Long));
    }
}

/// One agent with this attribute, and a framework that wants one unit of it.
fn wanting(rack: &str, constraint: Constraint, each: Resources, count: u32) -> (Ledger, Allocator) {
    let mut ledger = Ledger::default();
    ledger.set_offerable(A, &Bundle::from(Resources::cpu_memory(u64::MAX, u64::MAX)));
    let mut allocator = Allocator::new(Settings::default());
    let rack = ("rack".to_owned(), AttributeValue::Text(rack.to_owned()));
    allocator.set_site(A, Site { attributes: vec![rack], ..Site::default() });
    let role = Role::from("a");
    let want = Want {
        id: 1,
        role: role.clone(),
        count,
        each,
        port_count: 0,
        revocable: false,
        constraints: vec![constraint],
    };
    let ask = Ask {
        roles: vec![role],
        suppressed: BTreeSet::new(),
        accepts: Accepts::NATIVE,
        smallest: BTreeMap::new(),
        wants: Some(vec![want]),
        is_active: true,
    };
    allocator.set_ask(F, &ask);
    (ledger, allocator)
}

#[test]
fn a_regex_that_was_never_checked_matches_nothing_and_neither_does_its_opposite() {
    for comparison in [Comparison::Matches, Comparison::MatchesNot] {
        let constraint = Constraint { comparison, ..matching("(((a{100}){100}){100}){100}") };
        let (mut ledger, mut allocator) =
            wanting("r1", constraint, Resources::cpu_memory(1_000, 0), 1);
        let policy = Policy::default();
        let before = format!("{ledger:?}");
        let grants = allocator.allocate(&mut ledger, &policy, Timestamp(1), Look::All);
        assert_eq!(grants, []);
        assert_eq!(format!("{ledger:?}"), before);
    }
}

#[test]
fn a_regex_that_would_backtrack_forever_is_a_match_in_linear_time() {
    let rack = format!("{}!", "a".repeat(100_000));
    let each = Resources::cpu_memory(1_000, 0);
    let (mut ledger, mut allocator) = wanting(&rack, matching("^(a+)+(a|aa)*$"), each, 1);
    let policy = Policy::default();
    let grants = allocator.allocate(&mut ledger, &policy, Timestamp(1), Look::All);
    assert_eq!(grants, []);
}

// Sums.

#[test]
fn a_want_over_the_range_of_a_sum_is_offered_what_fits() {
    let anywhere = Constraint { comparison: Comparison::Exists, ..matching("") };
    let each = Resources::cpu_memory(u64::MAX / 2, 1);
    let (mut ledger, mut allocator) = wanting("r1", anywhere, each.clone(), u32::MAX);
    let policy = Policy::default();
    let grants = allocator.allocate(&mut ledger, &policy, Timestamp(1), Look::All);
    assert_eq!(grants.len(), 1);
    assert_eq!(grants[0].want, Some((1, 2)));
    assert_eq!(grants[0].bundle, Bundle::from(Resources::scaled(&each, 2).unwrap()));
    assert_eq!(ledger.unbalanced(), None);
}

#[test]
fn agents_at_the_end_of_the_range_are_summed_and_given_out() {
    let mut ledger = Ledger::default();
    let mut allocator = Allocator::new(Settings::default());
    let all = Bundle::from(Resources {
        disk_bytes: u64::MAX,
        ..Resources::cpu_memory(u64::MAX, u64::MAX)
    });
    for agent in 1..=4 {
        ledger.set_total(AgentId(agent), &all);
        allocator.set_site(AgentId(agent), Site::default());
    }
    let ask = |role: &str| Ask {
        roles: vec![role.into()],
        suppressed: BTreeSet::new(),
        accepts: Accepts::NATIVE,
        smallest: BTreeMap::new(),
        wants: None,
        is_active: true,
    };
    allocator.set_ask(F, &ask("a/b"));
    allocator.set_ask(FrameworkId(2), &ask("a/c"));
    let roles = [(
        "a",
        RolePolicy { guarantee: most("cpus"), limit: most("mem"), ..RolePolicy::default() },
    )];
    let policy = policy(&roles);
    let grants = allocator.allocate(&mut ledger, &policy, Timestamp(1), Look::All);
    assert_eq!(
        ledger.consumed("a").memory_bytes,
        u128::from(u64::MAX),
        "its limit, over all agents"
    );
    assert_eq!(ledger.unbalanced(), None);
    for grant in grants {
        let holder = Holder { role: &grant.role, framework: grant.framework };
        ledger.take_back(grant.agent, holder, &grant.bundle).unwrap();
    }
    assert!(ledger.consumed("a").is_empty());
}
