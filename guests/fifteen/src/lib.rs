//! A whole scheduler in fifteen lines: says hello three times, wherever there is room, and is done.

use tepui_sdk::{Cx, Offer, Scheduler, Task, TaskStatus};
impl Scheduler for Fifteen {
    fn on_offers(&mut self, cx: &mut Cx, offers: Vec<Offer>) {
        for (offer, n) in offers.iter().filter(|o| o.has(100, 32)).zip(cx.add("launched", 0)..3) {
            cx.accept(offer).launch(Task::command(format!("hello-{n}"), "hello").size(100, 32));
            cx.add("launched", 1);
        }
    }
    fn on_update(&mut self, cx: &mut Cx, task: TaskStatus) {
        if task.is_final() && cx.add("ended", 1) == 3 {
            cx.complete("said hello three times");
        }
    }
}
tepui_sdk::export!(pub struct Fifteen);
