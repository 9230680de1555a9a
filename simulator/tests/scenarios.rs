//! Claims about whole simulations.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::BTreeMap;
use std::path::Path;
use tepui_proto::limits;
use tepui_simulator::{Ended, FrameworkReport, Report, Scenario, simulate};

fn run(scenario: &Scenario) -> Report {
    simulate(scenario, &BTreeMap::new()).unwrap()
}

fn shipped(name: &str) -> Scenario {
    Scenario::shipped(name, Path::new("")).unwrap().unwrap()
}

fn parse(text: &str) -> Scenario {
    Scenario::parse(Path::new("test.toml"), text, Path::new("")).unwrap()
}

fn framework<'a>(report: &'a Report, name: &str) -> &'a FrameworkReport {
    report.frameworks.iter().find(|framework| framework.name == name).unwrap()
}

#[test]
fn the_example_of_the_paper_ends_at_three_and_two_tasks() {
    let report = run(&shipped("drf-paper"));
    let running = |name| framework(&report, name).tasks.running;
    assert_eq!((running("a"), running("b")), (3, 2), "{}", report.line());
    let shares: Vec<u64> = report.roles.iter().map(|role| role.share_milli).collect();
    assert_eq!(shares, [667, 667]);
    assert_eq!(report.ended, Ended::Duration);
    assert!(report.line().contains("2 roles at 66.7 % and 66.7 %"), "{}", report.line());
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

#[test]
fn one_seed_is_one_report_byte_for_byte() {
    let both = |scenario: &Scenario| {
        let report = run(scenario);
        (report.to_json().unwrap(), report.to_html())
    };
    let mut scenario = shipped("starvation");
    let first = both(&scenario);
    assert!(first == both(&scenario), "the same seed gave another report");
    scenario.seed = 2;
    assert!(first.0 != both(&scenario).0, "another seed gave the same report");
}

/// `docs/decisions/0011`: whoever begins to want what was left to a demoted framework waits for that one offer.
#[test]
fn who_uses_what_it_is_offered_waits_for_one_unused_offer_at_most() {
    let mut scenario = shipped("starvation");
    for seed in 1..=5 {
        scenario.seed = seed;
        let report = run(&scenario);
        let honest = framework(&report, "honest");
        let waiting = honest.waiting_ms.as_ref().unwrap();
        assert_eq!((honest.tasks.launched, waiting.count), (2_000, 2_000));
        // A turn and a launch come after the offer was taken back: it was kept while somebody waited.
        let kept = limits::TOLD_WHILE_OTHERS_WAIT_MS + limits::KEPT_WHILE_OTHERS_WAIT_MS;
        // Of two who misuse offers, one after the other at the worst.
        assert!(waiting.max <= 2 * kept, "seed {seed}: {waiting:?}");
        let sat = framework(&report, "sitter").offers;
        assert!(sat.expired + sat.withdrawn > 1_000, "it sat on nothing: {sat:?}");
        assert!(framework(&report, "decliner").offers.declined > 1_000, "it declined nothing");
    }
}

#[test]
fn what_is_lent_comes_back_to_a_guarantee_and_drained_agents_lose_their_tasks() {
    let report = run(&shipped("lending"));
    let tasks = |name| framework(&report, name).tasks;
    let (shop, nightly, urgent) = (tasks("shop"), tasks("nightly"), tasks("urgent"));
    let waited = framework(&report, "shop").waiting_ms.as_ref().unwrap();
    // Asked once a second, stopped within their grace of five seconds, offered, launched.
    assert!(waited.count == 55 && waited.max < 15_000, "{waited:?}");
    assert!(nightly.preempted > 0 && shop.preempted == 0, "{}", report.line());
    assert_eq!(urgent.preempted, 0, "the lower priority was enough");
    assert!(shop.killed + nightly.killed + urgent.killed > 0, "nothing ran on the old machines");
    assert_eq!((nightly.failed, nightly.lost, shop.failed, shop.lost), (0, 0, 0, 0));
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

/// Twenty agents of four CPUs each, and what else a scenario says.
fn on_twenty_agents(duration: &str, agents: &str, rest: &str) -> Scenario {
    parse(&format!(
        "name = \"test\"\nduration = \"{duration}\"\n[[agents]]\nname = \"m\"\ncount = 20\nresources = \"cpus:4.2;mem:2304\"\n{agents}\n{rest}"
    ))
}

const BATCH: &str = "[[frameworks]]\nname = \"batch\"\nroles = [\"batch\"]\nscheduler = \"SCHEDULER\"\n\
                     [frameworks.workload]\ntask = \"cpus:1;mem:64\"\ntasks = 400\nduration = { exponential = \"20s\" }\n";

#[test]
fn every_task_of_a_batch_finishes_with_either_kind_of_scheduler() {
    for scheduler in ["wants", "coarse"] {
        let report =
            run(&on_twenty_agents("until idle", "", &BATCH.replace("SCHEDULER", scheduler)));
        let batch = framework(&report, "batch");
        assert_eq!((batch.tasks.finished, batch.ended, report.ended), (400, 1, Ended::Idle));
        assert_eq!(batch.waiting_ms.unwrap().count, 400);
        assert!(report.problems.is_empty(), "{scheduler}: {:?}", report.problems);
        // 400 tasks of 20 s on 80 CPUs take 100 s, and a tail.
        assert!(
            (95_000..400_000).contains(&report.virtual_ms),
            "{scheduler}: {}",
            report.virtual_ms
        );
        let offers = batch.offers;
        assert_eq!(
            offers.made,
            offers.used + offers.declined + offers.expired + offers.withdrawn + offers.open
        );
    }
}

#[test]
fn agents_that_come_and_go_lose_tasks_and_no_work() {
    for keeps_tasks in [true, false] {
        let failures = format!(
            "failures = {{ mean_between = \"60s\", mean_return = \"20s\", keeps_tasks = {keeps_tasks} }}"
        );
        for scheduler in ["wants", "coarse"] {
            let report = run(&on_twenty_agents(
                "until idle",
                &failures,
                &BATCH.replace("SCHEDULER", scheduler),
            ));
            let batch = framework(&report, "batch");
            assert_eq!(batch.tasks.finished, 400, "{scheduler}, {keeps_tasks}: {}", report.line());
            assert_eq!(batch.ended, 1);
            assert!(report.agents.failures > 10);
            assert_eq!(batch.tasks.launched, 400 + batch.tasks.lost + batch.tasks.failed);
            assert!(keeps_tasks || batch.tasks.lost > 0, "{}", report.line());
        }
    }
}

#[test]
fn what_waits_for_ever_is_told_and_ends_the_simulation() {
    let rest = "[[frameworks]]\nname = \"big\"\nroles = [\"big\"]\nscheduler = \"wants\"\n\
                [frameworks.workload]\ntask = \"cpus:9;mem:64\"\ntasks = 3\nduration = \"1s\"\n";
    let report = run(&on_twenty_agents("until idle", "", rest));
    let big = framework(&report, "big");
    assert_eq!((report.ended, big.tasks.waiting, big.tasks.launched), (Ended::Quiet, 3, 0));
    assert!(big.tasks.longest_waiting_ms.unwrap() >= 3_600_000);
    assert!(report.to_html().contains("nothing moved for an hour"));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = run(&shipped("drf-paper")).to_html();
    for outside in ["http:", "https:", "src=", "@import", "url(", "<script"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn names_of_a_scenario_do_not_break_the_page() {
    let text = "name = \"x\"\nabout = \"<script>alert(1)</script>\"\nduration = \"1s\"\n[[agents]]\nname = \"a\"\nresources = \"cpus:1;mem:512\"\n\
                [[frameworks]]\nname = \"f\"\nroles = [\"r\"]\nscheduler = \"sitter\"\n";
    assert!(!run(&parse(text)).to_html().contains("<script"));
}

#[test]
fn a_trace_is_run_as_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let trace = "arrival_s,duration_s,cpus,mem_mb\n0,5,1,64\n2.5,1.25,0.5,128\n2.5,60,2,64\n";
    std::fs::write(dir.path().join("trace.csv"), trace).unwrap();
    let text = "duration = \"until idle\"\n[[agents]]\nname = \"a\"\nresources = \"cpus:8;mem:2048\"\n\
                [[frameworks]]\nname = \"f\"\nroles = [\"r\"]\nscheduler = \"wants\"\n[frameworks.workload]\ncsv = \"trace.csv\"\n";
    let path = dir.path().join("traced.toml");
    std::fs::write(&path, text).unwrap();
    let report = run(&Scenario::read(&path).unwrap());
    assert_eq!(report.scenario, "traced");
    assert_eq!(framework(&report, "f").tasks.finished, 3);
    assert!((62_500..63_000).contains(&report.virtual_ms), "{}", report.virtual_ms);
}
