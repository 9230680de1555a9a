//! What listings answer is bounded, and nothing is left out over all pages.

use crate::stage::{Stage, putting_out, task};
use std::collections::BTreeMap;
use tepui_master_core::{Code, Input};
use tepui_proto::tasks::Blob;
use tepui_proto::{Digest, TaskState, limits};

/// As many names of outputs as one framework has, each as long as it may be.
fn named(stage: &mut Stage) -> Vec<String> {
    let framework = stage.framework("f", &["x"]);
    let name = |n| format!("{n:04}{}", "x".repeat(limits::BLOB_NAME_BYTES - 4));
    let names: Vec<String> = (0..limits::KEPT_OUTPUTS).map(name).collect();
    for (n, names) in names.chunks(100).enumerate() {
        let blob =
            |name: &String| Blob { name: name.clone(), digest: Digest([3; 32]), size_bytes: 1 };
        let outputs: Vec<Blob> = names.iter().map(blob).collect();
        let id = format!("t{n}");
        stage.pass(1_000);
        stage.run(framework, vec![putting_out(&id, &outputs)]);
        stage.report_with(&id, TaskState::Finished, outputs);
    }
    names
}

#[test]
fn a_page_is_bounded_in_bytes_and_the_next_goes_on_where_it_ends() {
    let mut stage = Stage::new();
    stage.agent("a", 1_000_000);
    let names = named(&mut stage);
    let tenant = "acme".into();
    let (mut listed, mut after, mut pages) = (Vec::new(), None::<String>, 0);
    loop {
        let page =
            stage.leader.framework_blobs(&tenant, "f", after.as_deref(), usize::MAX).unwrap();
        let bytes = postcard::to_stdvec(&page).unwrap().len();
        assert!(bytes <= limits::PAGE_BYTES + limits::PAGE_BYTES / 4, "{bytes} bytes");
        listed.extend(page.items.into_iter().map(|blob| blob.name));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert!(pages > 1, "one page of 1.5 MiB");
    assert_eq!(listed, names);
    // Tasks with many outputs take more of a page than others.
    let page = stage.leader.task_views(&tenant, None, None, 1_000);
    assert!(page.next.is_some() && page.items.len() > 10, "{} of 41", page.items.len());
    let few = stage.leader.framework_blobs(&tenant, "f", Some(&names[5]), 2).unwrap();
    let few: Vec<_> = few.items.iter().map(|blob| &blob.name).collect();
    assert_eq!(few, [&names[6], &names[7]]);
}

#[test]
fn what_a_framework_uses_is_the_sum_of_its_live_tasks() {
    let (mut stage, framework) = Stage::small(1_000, "x");
    let used = |stage: &Stage| stage.leader.framework_view(&"acme".into(), "f").unwrap().used;
    assert_eq!(used(&stage).cpu_milli, 0);
    stage.run(framework, vec![task("a", 100), task("b", 300)]);
    assert_eq!((used(&stage).cpu_milli, used(&stage).memory_bytes), (400, 128 << 20));
    stage.report("a", TaskState::Finished);
    assert_eq!((used(&stage).cpu_milli, used(&stage).memory_bytes), (300, 64 << 20));
    // Whoever begins from a snapshot comes to the same.
    stage.fail_over(true);
    assert_eq!(used(&stage).cpu_milli, 300);
}

#[test]
fn an_upgrade_does_not_pass_over_other_bytes_under_a_name_in_silence() {
    let (mut stage, _) = Stage::small(1_000, "x");
    let (old, new) = (Digest([8; 32]), Digest([9; 32]));
    for digest in [old, new] {
        let ticket = stage.ticket();
        stage.input(Input::BlobStored { ticket, digest, size_bytes: 1 });
    }
    let data = |digest: Digest| BTreeMap::from([("data".to_owned(), digest.to_string())]);
    stage.upgrade("f", &["x"], data(old)).unwrap();
    stage.upgrade("f", &["x"], data(old)).unwrap();
    assert_eq!(stage.upgrade("f", &["x"], data(new)), Err(Code::InvalidSpec));
    let kept = stage.leader.framework_blobs(&"acme".into(), "f", None, 10).unwrap();
    assert_eq!(kept.items[0].digest, old);
}
