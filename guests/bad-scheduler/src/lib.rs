//! Every way for a scheduler to be bad; the setting `mode` chooses.
//!
//! `never-returns`, `hog`, `recurse`, `huge-answer` and `floods-log` misbehave in every turn that brings offers, so the
//! framework starts first. `traps-every-third-turn` counts the turns of an instance and does its work in the others:
//! it launches `tasks` (3) of the module `module` (`noop`) and completes. `accepts-unheld` names an offer that nobody
//! holds, `over-launches` launches its offer three times over, `sits-on-offers` keeps them all.

use std::hint::black_box;
use tepui_sdk::{Cx, Offer, Scheduler, Task, TaskStatus};

/// Remembers only how many turns it has taken.
#[derive(Default)]
pub struct Bad {
    turns: u64,
}

fn task(cx: &Cx, id: String) -> Task {
    Task::command(id, cx.config("module").unwrap_or("noop")).cpu_milli(10).memory_mib(4)
}

impl Bad {
    fn behave(cx: &mut Cx, offers: &[Offer]) {
        let next = cx.get::<u64>("launched").unwrap_or(0)..cx.setting("tasks").unwrap_or(3);
        for (offer, n) in offers.iter().zip(next) {
            let task = task(cx, format!("t{n}"));
            cx.accept(offer).launch(task).refuse_for(0);
            cx.put("launched", &(n + 1));
        }
    }
}

impl Scheduler for Bad {
    fn on_update(&mut self, cx: &mut Cx, status: TaskStatus) {
        let behaves = cx.config("mode") == Some("traps-every-third-turn");
        if behaves && status.is_final() && cx.add("ended", 1) == cx.setting("tasks").unwrap_or(3) {
            cx.complete("done, in spite of all");
        }
    }

    fn on_offers(&mut self, cx: &mut Cx, offers: Vec<Offer>) {
        let mode = cx.config("mode").unwrap_or_default().to_owned();
        match mode.as_str() {
            "never-returns" => spin(),
            "hog" => hog(),
            "recurse" => {
                black_box(recurse(black_box(1)));
            }
            "huge-answer" => (0..64).for_each(|n| cx.put(&format!("k{n}"), &vec![7_u8; 60 << 10])),
            "floods-log" => {
                (0..100_000).for_each(|n| tepui_sdk::info!("{n} {}", "x".repeat(1_000)))
            }
            "sits-on-offers" => offers.iter().for_each(|offer| cx.keep(offer)),
            "accepts-unheld" => accept_unheld(cx, &offers),
            "over-launches" => over_launch(cx, &offers),
            "traps-every-third-turn" => Self::behave(cx, &offers),
            _ => cx.fail(format!("the setting `mode` is `{mode}`, which is no way to be bad")),
        }
    }

    fn on_turn_end(&mut self, cx: &mut Cx) {
        self.turns += 1;
        let traps = cx.config("mode") == Some("traps-every-third-turn");
        assert!(!(traps && self.turns.is_multiple_of(3)), "the third turn of this instance");
    }
}

fn accept_unheld(cx: &mut Cx, offers: &[Offer]) {
    for offer in offers {
        let task = task(cx, format!("unheld-{}", offer.id));
        let unheld = Offer { id: offer.id.wrapping_add(1 << 20), ..offer.clone() };
        cx.accept(&unheld).launch(task);
    }
}

fn over_launch(cx: &mut Cx, offers: &[Offer]) {
    for offer in offers {
        // Within what one task may have, so that the offer is all that is exceeded.
        let mut most = offer.usable();
        most.memory_bytes = most.memory_bytes.min(64 << 20);
        for n in 0..3 {
            let task = task(cx, format!("over-{}-{n}", offer.id)).resources(most.clone());
            cx.accept(offer).launch(task);
        }
    }
}

fn spin() {
    let mut n = 0_u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

fn hog() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 1 << 20]));
        black_box(&hoard);
    }
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn recurse(depth: u64) -> u64 {
    recurse(black_box(depth + 1)) + black_box(depth)
}

tepui_sdk::export!(Bad);
