//! What a tenant may submit: each bound met exactly, and exceeded by one.

use crate::stage::Stage;
use std::collections::BTreeMap;
use tepui_master_core::{Code, Effect, Effects, Entry, EntryKind, Input};
use tepui_proto::api::FrameworkSpec;
use tepui_proto::control::ModuleKind;
use tepui_proto::{Digest, Tenant, limits};

/// The scheduler that the stage's cluster knows.
const SCHEDULER: Digest = Digest([1; 32]);

fn spec(name: &str) -> FrameworkSpec {
    FrameworkSpec {
        name: name.to_owned(),
        roles: vec!["x".to_owned()],
        scheduler: SCHEDULER.to_string(),
        ..FrameworkSpec::default()
    }
}

/// So many blobs, with names of so many bytes.
fn blobs(count: usize, bytes: usize) -> BTreeMap<String, String> {
    (0..count).map(|n| (format!("{n:0>bytes$}"), SCHEDULER.to_string())).collect()
}

/// Submits it; says with which code it was refused.
fn submit(stage: &mut Stage, spec: FrameworkSpec) -> Result<(), Code> {
    let ticket = stage.ticket();
    let input = Input::FrameworkSubmitted {
        ticket,
        tenant: Tenant::from("acme"),
        spec: Box::new(spec),
        kinds: vec![(SCHEDULER, ModuleKind::Scheduler)],
    };
    // Nothing is settled, since many of them would each be placed.
    let mut fx = Effects::default();
    stage.leader.handle(stage.now, input, &mut fx);
    let said = fx.orders.into_iter().find_map(|order| match order {
        Effect::Reply { ticket: whose, result } if whose == ticket => Some(result),
        _ => None,
    });
    said.expect("an answer").map(drop).map_err(|refusal| refusal.code)
}

/// A way to submit so much of something, how much there may be, and how more is refused.
type Bound = (usize, Code, fn(usize) -> FrameworkSpec);

const BOUNDS: &[Bound] = &[
    (limits::ROLES, Code::InvalidSpec, |count| FrameworkSpec {
        roles: (0..count).map(|n| format!("r{n}")).collect(),
        ..spec("f")
    }),
    (limits::BUNDLE_ENTRIES, Code::LimitReached, |count| FrameworkSpec {
        blobs: blobs(count, 4),
        ..spec("f")
    }),
    (limits::BLOB_NAME_BYTES, Code::InvalidSpec, |bytes| FrameworkSpec {
        blobs: blobs(1, bytes),
        ..spec("f")
    }),
    (limits::CONFIG_BYTES, Code::LimitReached, |bytes| FrameworkSpec {
        config: [("a", 1_000), ("b", bytes - 1_002)]
            .map(|(key, bytes)| (key.to_owned(), "v".repeat(bytes)))
            .into(),
        ..spec("f")
    }),
    (limits::NAME_BYTES, Code::InvalidSpec, |bytes| spec(&"f".repeat(bytes))),
    // In bytes, above the largest that is allowed less 1 MiB.
    (1 << 20, Code::InvalidSpec, |bytes| FrameworkSpec {
        memory_bytes: Some(limits::SCHEDULER_MEMORY_BYTES_MAX - (1 << 20) + bytes as u64),
        ..spec("f")
    }),
    // A core.
    (1_000, Code::InvalidSpec, |milli| FrameworkSpec {
        cpu_milli: Some(milli as u64),
        ..spec("f")
    }),
];

#[test]
fn a_submission_meets_its_bounds_exactly_and_what_is_over_one_changes_nothing() {
    for (at, (most, code, with)) in BOUNDS.iter().enumerate() {
        let mut stage = Stage::new();
        let before = stage.leader.state().digest();
        let refused = submit(&mut stage, with(most + 1));
        assert_eq!(refused, Err(*code), "{at}");
        assert_eq!(stage.leader.state().digest(), before, "{at}");
        assert_eq!(submit(&mut stage, with(*most)), Ok(()), "{at}");
        assert_ne!(stage.leader.state().digest(), before, "{at}");
    }
}

#[test]
fn modules_and_blobs_count_together() {
    let mut stage = Stage::new();
    let with = |blobs: usize| FrameworkSpec {
        modules: [("m".to_owned(), SCHEDULER.to_string())].into(),
        blobs: self::blobs(blobs, 4),
        ..spec("f")
    };
    let refused = submit(&mut stage, with(limits::BUNDLE_ENTRIES));
    assert_eq!(refused, Err(Code::LimitReached));
    assert_eq!(submit(&mut stage, with(limits::BUNDLE_ENTRIES - 1)), Ok(()));
}

#[test]
fn a_cluster_has_so_many_frameworks_and_an_upgrade_is_none() {
    let mut stage = Stage::new();
    for n in 0..limits::FRAMEWORKS - 1 {
        assert_eq!(submit(&mut stage, spec(&format!("f{n}"))), Ok(()));
    }
    assert_eq!(submit(&mut stage, spec("f0")), Ok(()));
    assert_eq!(submit(&mut stage, spec("last")), Ok(()));
    assert_eq!(submit(&mut stage, spec("more")), Err(Code::LimitReached));
}

#[test]
fn who_is_upgraded_again_and_again_begins_the_later() {
    let (mut stage, framework) = Stage::small(1_000, "x");
    let began = |stage: &Stage| {
        let is_begun = |entry: &&Entry| matches!(entry.kind, EntryKind::InstanceBegan { .. });
        stage.log.iter().filter(is_begun).count()
    };
    let upgrade = |stage: &mut Stage| {
        let before = began(stage);
        stage.upgrade("f", &["x"], BTreeMap::new()).unwrap();
        let mut waited = 0;
        while began(stage) == before {
            stage.pass(10);
            waited += 10;
        }
        assert!(stage.leader.state().framework(framework).unwrap().is_active());
        waited
    };
    assert_eq!(upgrade(&mut stage), 0, "the first begins at once");
    let waits: Vec<u64> = (0..12).map(|_| upgrade(&mut stage)).collect();
    assert_eq!(&waits[..4], [100, 200, 400, 800], "{waits:?}");
    assert_eq!(waits[11], limits::RESTART_BACKOFF_MS_MAX, "{waits:?}");
    // Those that come while it waits count too, and all of them begin one instance.
    let before = began(&stage);
    for _ in 0..200 {
        stage.upgrade("f", &["x"], BTreeMap::new()).unwrap();
        stage.pass(10);
    }
    assert_eq!(began(&stage), before);
    stage.pass(limits::RESTART_BACKOFF_MS_MAX + 10);
    assert_eq!(began(&stage), before + 1);
    // Whoever waited long is forgotten late.
    stage.pass(limits::UPGRADES_FORGOTTEN_MS);
    assert_ne!(upgrade(&mut stage), 0);
    stage.pass(4 * limits::RESTART_BACKOFF_MS_MAX);
    assert_eq!(upgrade(&mut stage), 0, "once they are forgotten");
}
