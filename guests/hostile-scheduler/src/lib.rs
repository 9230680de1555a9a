//! A tenant who attacks the cluster with what a scheduler may say; the setting `mode` chooses how.

use tepui_sdk::{Cx, Scheduler, Start};

/// Remembers nothing.
#[derive(Default)]
pub struct Hostile;

impl Scheduler for Hostile {
    fn on_start(&mut self, cx: &mut Cx, _start: &Start) {
        let mode = cx.config("mode").unwrap_or_default().to_owned();
        cx.fail(format!("the setting `mode` is `{mode}`, which is no attack"));
    }
}

tepui_sdk::export!(Hostile);
