//! The scheduler whose turn the bench measures: one launch for each offer, and nothing else.

use tepui_sdk::{Cx, Offer, Scheduler, Task};

/// Keeps nothing.
#[derive(Default)]
pub struct Turn100;

impl Scheduler for Turn100 {
    fn on_offers(&mut self, cx: &mut Cx, offers: Vec<Offer>) {
        for offer in &offers {
            cx.accept(offer).launch(
                Task::command(format!("t{}", offer.id), "noop").cpu_milli(10).memory_mib(4),
            );
        }
    }
}

tepui_sdk::export!(Turn100);
