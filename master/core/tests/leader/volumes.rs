//! Volumes: made of reserved disk, unique on their agent, destroyed only while nobody has them.

use crate::stage::{Stage, accept, bundle, hello, launch, task, whole};
use tepui_master_core::Code;
use tepui_proto::calls::{NewVolume, Operation, Reservation};
use tepui_proto::control::Hello;
use tepui_proto::roles::AgentOperation;
use tepui_proto::{Bundle, FrameworkId, Resources};

const GIB: u64 = 1 << 30;

fn disk(bytes: u64) -> Resources {
    Resources { disk_bytes: bytes, ..Resources::default() }
}

fn volume(id: &str, role: &str, size_bytes: u64) -> NewVolume {
    NewVolume { id: id.to_owned(), role: role.into(), size_bytes, shared: false }
}

fn reserve(role: &str, bytes: u64) -> Reservation {
    Reservation { role: role.into(), resources: disk(bytes) }
}

fn create(id: &str, role: &str, size_bytes: u64) -> AgentOperation {
    AgentOperation::CreateVolume(volume(id, role, size_bytes))
}

fn destroy(id: &str) -> AgentOperation {
    AgentOperation::DestroyVolume(id.to_owned())
}

/// Reserved disk of the agent, by kind.
fn reserved(stage: &Stage) -> Bundle {
    stage.total("a").retained(|kind, _| kind.is_reserved())
}

/// An agent with 8 GiB reserved for `web`.
fn stage() -> Stage {
    let mut stage = Stage::new();
    stage.agent_with("a", hello(Resources { disk_bytes: 8 * GIB, ..whole(4_000) }));
    stage.operate("a", AgentOperation::Reserve(reserve("web", 8 * GIB))).unwrap();
    stage
}

fn web(stage: &mut Stage) -> FrameworkId {
    stage.framework("web", &["web"])
}

#[test]
fn a_volume_is_made_of_reserved_disk_and_becomes_that_again() {
    let mut stage = stage();
    stage.operate("a", create("v", "web", 2 * GIB)).unwrap();
    assert_eq!(reserved(&stage), bundle("disk(web):6144;disk(web){vol:v}:2048"));
    stage.check_copies();
    stage.operate("a", destroy("v")).unwrap();
    assert_eq!(reserved(&stage), bundle("disk(web):8192"));
    stage.check_copies();
}

#[test]
fn a_volume_s_name_is_taken_once_per_agent() {
    let mut stage = stage();
    stage.agent("b", 4_000);
    stage.operate("b", AgentOperation::Reserve(reserve("web", GIB))).unwrap();
    stage.operate("a", create("v", "web", GIB)).unwrap();
    assert_eq!(stage.operate("a", create("v", "web", GIB)), Err(Code::VolumeInvalid));
    stage.operate("b", create("v", "web", GIB)).unwrap();
    let framework = web(&mut stage);
    let a = stage.agent_id("a").0;
    let offer = stage.inbox(framework).offers.values().find(|o| o.agent.0 == a).unwrap().id;
    let make = |id: &str| Operation::CreateVolume(volume(id, "web", GIB));
    let calls = vec![accept(&[offer], vec![make("v"), make("w"), make("w")])];
    stage.say(framework, calls);
    stage.pass(1);
    assert_eq!(stage.refusals(framework), ["volume-invalid", "volume-invalid"]);
}

#[test]
fn volumes_that_cannot_be_are_refused() {
    let mut stage = stage();
    let long = "v".repeat(1 << 20);
    for bad in ["", "a/b", "..", "v\n", &long] {
        assert_eq!(stage.operate("a", create(bad, "web", GIB)), Err(Code::VolumeInvalid));
        assert_eq!(stage.operate("a", destroy(bad)), Err(Code::VolumeInvalid));
    }
    assert_eq!(stage.operate("a", create("v", "web", 0)), Err(Code::VolumeInvalid));
    assert_eq!(stage.operate("a", destroy("v")), Err(Code::VolumeInvalid), "there is none");
    let not_free = Err(Code::ResourcesNotFree);
    assert_eq!(stage.operate("a", create("v", "web", 9 * GIB)), not_free);
    assert_eq!(stage.operate("a", create("v", "web", u64::MAX)), not_free);
    assert_eq!(stage.operate("a", create("v", "ads", GIB)), not_free, "nothing is reserved");
    assert_eq!(stage.operate("a", create("v", "web/shop", GIB)), not_free);
    assert_eq!(stage.operate("a", create("v", "*", GIB)), Err(Code::RoleInvalid));
    assert_eq!(reserved(&stage), bundle("disk(web):8192"));
}

#[test]
fn reserved_disk_that_is_a_volume_is_not_unreserved() {
    let mut stage = stage();
    stage.operate("a", create("v", "web", 2 * GIB)).unwrap();
    let back = |bytes| AgentOperation::Unreserve(reserve("web", bytes));
    assert_eq!(stage.operate("a", back(7 * GIB)), Err(Code::ResourcesNotFree));
    stage.operate("a", back(6 * GIB)).unwrap();
    assert_eq!(reserved(&stage), bundle("disk(web){vol:v}:2048"));
}

#[test]
fn a_disk_that_cannot_be_split_becomes_one_volume() {
    let mut stage = Stage::new();
    let pools = bundle("disk(web){mount=ssd}:1024").into();
    stage.agent_with("a", Hello { pools, ..hello(whole(1_000)) });
    let before = stage.total("a");
    assert_eq!(stage.operate("a", create("v", "web", GIB / 2)), Err(Code::ResourcesNotFree));
    stage.operate("a", create("v", "web", GIB)).unwrap();
    stage.operate("a", destroy("v")).unwrap();
    assert_eq!(stage.total("a"), before);
    stage.check_copies();
}

#[test]
fn schedulers_make_and_destroy_volumes_of_their_role_and_not_of_one_above() {
    let mut stage = stage();
    let shop = stage.framework("shop", &["web/shop"]);
    let operations = vec![
        Operation::CreateVolume(volume("v", "web", GIB)),
        Operation::Reserve(reserve("web/shop", 2 * GIB)),
        Operation::CreateVolume(volume("w", "web/shop", GIB)),
        launch(task("t", 1_000)),
    ];
    stage.accept(shop, operations);
    stage.pass(1);
    assert_eq!(stage.refusals(shop), ["role-invalid"], "`web` is above");
    let made = bundle("disk(web):6144;disk(web,web/shop):1024;disk(web,web/shop){vol:w}:1024");
    assert_eq!(reserved(&stage), made);
    stage.check_copies();
    stage.mode("a", tepui_proto::roles::AgentMode::Inactive).unwrap();
    stage.operate("a", create("v", "web", GIB)).unwrap();
    stage.mode("a", tepui_proto::roles::AgentMode::Active).unwrap();
    stage.pass(1_000);
    let operations =
        ["v", "w"].map(|id| Operation::DestroyVolume(id.to_owned())).into_iter().collect();
    stage.accept(shop, operations);
    stage.pass(1);
    assert_eq!(stage.refusals(shop), ["role-invalid"], "`v` is its parent's");
    assert_eq!(
        reserved(&stage),
        bundle("disk(web):5120;disk(web){vol:v}:1024;disk(web,web/shop):2048")
    );
}

#[test]
fn a_shared_volume_is_one_volume_however_often_it_is_offered() {
    let mut stage = stage();
    let shared = NewVolume { shared: true, ..volume("s", "web", GIB) };
    stage.operate("a", AgentOperation::CreateVolume(shared)).unwrap();
    assert_eq!(reserved(&stage), bundle("disk(web):7168;disk(web){shared:s:size=1024}:1"));
    stage.check_copies();
    stage.operate("a", destroy("s")).unwrap();
    assert_eq!(reserved(&stage), bundle("disk(web):8192"));
}

#[test]
fn volumes_outlive_tasks_hellos_and_masters() {
    let mut stage = stage();
    let framework = web(&mut stage);
    let make = Operation::CreateVolume(volume("v", "web", GIB));
    stage.accept(framework, vec![make, launch(task("t", 1_000))]);
    let made = bundle("disk(web):7168;disk(web){vol:v}:1024");
    assert_eq!(reserved(&stage), made);
    stage.report("t", tepui_proto::TaskState::Finished);
    stage.return_of("a", whole(8_000));
    assert_eq!(reserved(&stage), made);
    for from_snapshot in [false, true] {
        stage.fail_over(from_snapshot);
        assert_eq!(reserved(&stage), made);
        stage.check_copies();
    }
}

#[test]
fn an_agent_has_as_many_volumes_as_it_may_have_pools_and_no_more() {
    let mut stage = stage();
    let mut made = 0;
    let refused = loop {
        let name = format!("v{made}");
        match stage.operate("a", create(&name, "web", 1)) {
            Ok(()) => made += 1,
            Err(code) => break code,
        }
        assert!(made <= tepui_proto::limits::POOLS, "and so on");
    };
    assert_eq!(refused, Code::LimitReached);
    assert!(made > tepui_proto::limits::POOLS - 10, "{made}");
    stage.operate("a", destroy("v7")).unwrap();
    stage.operate("a", create("another", "web", 1)).unwrap();
}
