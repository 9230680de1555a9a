//! A whole scheduler in fifteen lines: says hello so many times, wherever there is room, and is done.

use tepui_sdk::{Cx, Offer, Scheduler, Task, TaskStatus};
#[derive(Default)]
pub struct Fifteen;
impl Scheduler for Fifteen {
    fn on_offers(&mut self, cx: &mut Cx, offers: Vec<Offer>) {
        let task = |n| Task::command(format!("hello-{n}"), "hello").cpu_milli(100).memory_mib(32);
        let next = cx.get::<u64>("launched").unwrap_or(0)..cx.setting("tasks").unwrap_or(3);
        for (offer, n) in offers.iter().filter(|offer| offer.fits(&task(0))).zip(next) {
            cx.accept(offer).launch(task(n));
            cx.put("launched", &(n + 1));
        }
    }
    fn on_update(&mut self, cx: &mut Cx, task: TaskStatus) {
        if task.is_final() && cx.add("ended", 1) == cx.setting("tasks").unwrap_or(3) {
            cx.complete("every task has ended");
        }
    }
}
tepui_sdk::export!(Fifteen);
