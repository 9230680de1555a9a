//! What the crate promises, seen through the fake cluster.

use crate::testing::FakeCluster;
use crate::{
    Cx, Offer, PortRange, Remaining, Request, Resources, Scheduler, Start, Task, TaskStatus, Want,
    ports,
};

const TASKS: u64 = 7;

fn task(n: u64) -> Task {
    Task::command(format!("t-{n}"), "m").cpu_milli(300).memory_mib(64)
}

/// Launches [`TASKS`] tasks, several to an offer, and again those that fail.
#[derive(Default)]
struct Counting {
    launched_here: u64,
}

impl Scheduler for Counting {
    fn on_start(&mut self, cx: &mut Cx, start: &Start) {
        crate::info!("begins: {:?}", start.cause);
        cx.add("instances", 1);
    }

    fn on_offers(&mut self, cx: &mut Cx, offers: Vec<Offer>) {
        for offer in offers {
            let mut left = Remaining::of(&offer);
            loop {
                let n = cx.get::<u64>("launched").unwrap_or(0);
                let again = cx.get::<u64>("again").unwrap_or(0);
                if n >= TASKS + again || !left.take(&task(n)) {
                    break;
                }
                cx.accept(&offer).launch(task(n)).refuse_for(0);
                cx.put("launched", &(n + 1));
                self.launched_here += 1;
            }
        }
    }

    fn on_update(&mut self, cx: &mut Cx, status: TaskStatus) {
        if status.is_final() && !status.has_finished() {
            cx.add("again", 1);
        }
        if status.has_finished() && cx.add("finished", 1) == TASKS {
            cx.complete(format!("{TASKS} finished"));
        }
    }

    fn on_request(&mut self, cx: &mut Cx, request: Request) {
        cx.respond_text(request.id, 200, &self.launched_here.to_string());
    }
}

fn cluster() -> FakeCluster {
    FakeCluster::new().agent("a1", 1_000, 512).agent("a2", 700, 512).submit::<Counting>(&[])
}

#[test]
fn one_offer_carries_several_tasks() {
    let mut cluster = cluster();
    cluster.step();
    assert_eq!(cluster.live().len(), 5, "three on a1, two on a2");
    assert!(cluster.refusals().is_empty());
    assert_eq!(cluster.state::<u64>("launched"), Some(5));
}

#[test]
fn a_framework_ends_when_its_scheduler_says_so() {
    let mut cluster = cluster();
    let outcome = cluster
        .run(20, |cluster| {
            cluster.finish_all();
        })
        .clone();
    assert!(outcome.success);
    assert_eq!(outcome.message, "7 finished");
    assert_eq!(cluster.launched().len(), 7);
}

#[test]
fn memory_is_a_cache_and_turns_may_be_lost() {
    let mut cluster = cluster();
    let mut round = 0;
    cluster.run(60, |cluster| {
        round += 1;
        if round % 3 == 0 {
            cluster.drop_instance();
        }
        if round % 4 == 0 {
            cluster.lose_next_turn();
        }
        if let Some(id) = cluster.live().first().map(|id| (*id).to_owned()) {
            cluster.finish_task(&id);
        }
    });
    assert_eq!(cluster.launched().len(), 7, "nothing is launched twice");
    assert!(cluster.state::<u64>("instances").is_some_and(|instances| instances > 2));
    assert!(
        cluster.log().iter().any(|(_, line)| line == "begins: StartCause::Restarted"),
        "{:?}",
        cluster.log()
    );
}

#[test]
fn tasks_of_a_lost_agent_are_told_and_tried_elsewhere() {
    let mut cluster = cluster();
    cluster.step().lose_agent("a1").step();
    cluster.run(20, |cluster| {
        cluster.finish_all();
    });
    assert_eq!(cluster.launched().len(), 10, "three were lost");
}

#[test]
fn a_request_is_answered() {
    let mut cluster = cluster();
    let request = cluster.request("GET", "/", "");
    cluster.step();
    assert_eq!(
        cluster.response(request).map(|response| response.body.as_slice()),
        Some(b"5".as_slice())
    );
}

/// Uses nothing; keeps the offers of the agent that its settings name.
#[derive(Default)]
struct Idle;

impl Scheduler for Idle {
    fn on_offers(&mut self, cx: &mut Cx, offers: Vec<Offer>) {
        for offer in offers {
            let name = cx.agent(offer.agent).map(|agent| agent.id.clone());
            if name.as_deref() == cx.config("keep") {
                cx.keep(&offer);
            }
        }
    }
}

#[test]
fn offers_that_nobody_answers_go_back_at_the_end_of_the_turn() {
    let mut cluster =
        FakeCluster::new().agent("a1", 1_000, 512).agent("a2", 700, 512).submit::<Idle>(&[]);
    cluster.steps(3);
    assert_eq!(cluster.open_offers(), 0);
    assert_eq!(cluster.expired_offers(), 0);
    let mut cluster = FakeCluster::new().agent("a1", 1_000, 512).submit::<Idle>(&[("keep", "a1")]);
    cluster.step();
    assert_eq!(cluster.open_offers(), 1, "unless they are kept");
    cluster.steps(110);
    assert_eq!(cluster.expired_offers(), 1);
}

#[test]
fn a_request_to_a_scheduler_without_an_address_is_not_found() {
    let mut cluster = FakeCluster::new().submit::<Idle>(&[]);
    let request = cluster.request("GET", "/", "");
    cluster.step();
    assert_eq!(cluster.response(request).map(|response| response.status), Some(404));
}

/// Wants two tasks, and says so in every turn.
#[derive(Default)]
struct Wanting;

impl Scheduler for Wanting {
    fn on_offers(&mut self, cx: &mut Cx, offers: Vec<Offer>) {
        for offer in offers {
            let n = cx.add("launched", 1);
            cx.accept(&offer).launch(task(n));
        }
    }

    fn on_turn_end(&mut self, cx: &mut Cx) {
        let count = 2_u64.saturating_sub(cx.get("launched").unwrap_or(0));
        let (role, each) = (cx.first_role().to_owned(), task(0).resources);
        let count = u32::try_from(count).unwrap_or(0);
        cx.want(vec![Want::new(1, role, count, each)]);
    }
}

#[test]
fn launches_lower_what_is_wanted() {
    let mut cluster = FakeCluster::new().agent("a1", 300, 512).submit::<Wanting>(&[]);
    let wanted =
        |cluster: &FakeCluster| cluster.wants().unwrap_or_default().first().map(|want| want.count);
    assert_eq!(wanted(cluster.step()), Some(1), "one of two is launched");
    cluster.add_agent("a2", 900, 512);
    assert_eq!(wanted(cluster.steps(3)), Some(0));
    assert_eq!(cluster.launched().len(), 2);
}

/// Reads, writes and deletes in one turn.
#[derive(Default)]
struct Writing;

impl Scheduler for Writing {
    fn on_start(&mut self, cx: &mut Cx, _start: &Start) {
        cx.put("a/1", &1_u32);
        cx.put("a/2", &"two");
        cx.put("b", &());
        cx.delete("a/1");
        assert_eq!(cx.get::<u32>("a/1"), None);
        assert_eq!(cx.get::<String>("a/2").as_deref(), Some("two"));
        assert_eq!(cx.keys("a/"), ["a/2"]);
        assert!(cx.try_get::<Vec<String>>("a/2").is_err(), "it is of another type");
        assert_eq!(cx.setting::<u32>("number"), Some(3));
        assert_eq!(cx.setting::<u32>("word"), None);
    }
}

#[test]
fn reads_see_the_writes_of_their_own_turn() {
    let mut cluster = FakeCluster::new().submit::<Writing>(&[("number", "3"), ("word", "three")]);
    cluster.step();
    assert_eq!(cluster.keys(), ["a/2", "b"]);
    assert!(cluster.log().iter().any(|(_, line)| line.contains("`word`")));
}

#[test]
fn ports_are_sets() {
    let range = |first, last| PortRange { first, last };
    let have = [range(100, 109), range(110, 119)];
    assert!(ports::contains(&have, &[range(105, 115)]));
    assert!(!ports::contains(&have, &[range(99, 100)]));
    assert_eq!(ports::minus(&have, &[range(105, 115)]), [range(100, 104), range(116, 119)]);
    assert_eq!(ports::lowest(&have, 12), [range(100, 111)]);
    assert_eq!(ports::plus(&[range(0, u16::MAX)], &have), [range(0, u16::MAX)]);
}

#[test]
fn resources_neither_wrap_nor_go_below_zero() {
    let all = Resources::cpu_memory(100, u64::MAX);
    assert_eq!(all.minus(&Resources::cpu_memory(200, 1)).cpu_milli, 0);
    assert_eq!(all.plus(&all).memory_bytes, u64::MAX);
    assert!(!Resources::cpu_memory(100, 1).contains(&Resources::cpu_memory(101, 1)));
}

crate::export!(Counting);

/// Answers with much, and launches what there is still room for.
#[derive(Default)]
struct Talking;

impl Scheduler for Talking {
    fn on_request(&mut self, cx: &mut Cx, request: Request) {
        let has_room = |cx: &Cx| cx.has_room(&task(0));
        assert!(has_room(cx));
        cx.respond_text(request.id, 200, &"x".repeat(600 << 10));
        assert!(has_room(cx));
        cx.respond_text(request.id, 200, &"x".repeat(40 << 10));
        assert!(!has_room(cx), "what was answered takes room");
        cx.put("asked", &true);
    }
}

#[test]
fn responses_and_launches_share_the_room_of_an_answer() {
    let mut cluster = FakeCluster::new().submit::<Talking>(&[]);
    cluster.request("GET", "/", "");
    cluster.steps(2);
    assert_eq!(cluster.state("asked"), Some(true));
}
