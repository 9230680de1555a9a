//! The Rust SDK for Tepui's schedulers.
//!
//! A scheduler is a type that implements [`Scheduler`] and is named in [`export!`]. The cluster calls it a turn at a
//! time: events go in as calls of the trait's methods, and what it decides is collected in [`Cx`] and committed
//! whole, together with its durable state, when the turn ends. The crate owns the shape of that conversation and
//! nothing else: it reads no clock, draws no chance, opens no file. Its one surprise is that the memory of a
//! scheduler is only a cache: the cluster may drop it between any two turns, so what must last goes through
//! [`Cx::put`], and [`testing`] drops instances to prove that a scheduler holds to it.
//!
//! ```
//! use tepui_sdk::{Cx, Offer, Scheduler, Task};
//!
//! impl Scheduler for Hello {
//!     fn on_offers(&mut self, cx: &mut Cx, offers: Vec<Offer>) {
//!         let task = Task::command("hello", "hello").cpu_milli(100).memory_mib(32);
//!         if let Some(offer) = offers.iter().find(|offer| offer.fits(&task)) {
//!             cx.accept(offer).launch(task);
//!             cx.want(Vec::new());
//!         }
//!     }
//! }
//! tepui_sdk::export!(pub struct Hello);
//! ```
//!
//! Build it as a `cdylib` for `wasm32-wasip2`; the file that comes out is the component to submit.

#[doc(hidden)]
pub mod bindings;
mod cx;
mod log;
mod ports;
mod resources;
mod runner;
mod scheduler;
mod store;
mod task;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use bindings::tepui::framework::protocol::{
    Call, Comparison, Constraint, Event, InverseOffer, Message, Outcome, Refusal, Request,
    Response, Start, StartCause, Want,
};
pub use bindings::tepui::framework::types::Offer;
pub use bindings::tepui::framework::types::{
    AgentInfo, Attribute, AttributeValue, Blob, CustomAmount, CustomResource, FaultDomain, Input,
    Limits, Mount, OnUnreachable, Output, Pool, PortRange, Resources, Task, TaskState, TaskStatus,
    Usage, Volume, Workload,
};
pub use cx::{Accepting, Cx};
pub use log::{Level, log};
pub use resources::Remaining;
pub use runner::Runner;
pub use scheduler::Scheduler;
pub use store::StateError;

/// Everything of the contract that the names above leave out, as it was generated.
pub mod wire {
    pub use crate::bindings::tepui::framework::{protocol, types};
}

/// Makes a [`Scheduler`] the one that this component exports. Once per crate, at its root.
///
/// The instance lives in the component's memory from its `started` event to the next one, or until the cluster
/// drops the component. In a native build, which is what tests are, the macro only checks the type.
///
/// `export!(pub struct Name);` also defines the type, for schedulers that keep nothing in memory: as memory is only a
/// cache, that is as good a scheduler as any.
#[macro_export]
macro_rules! export {
    ($(#[$meta:meta])* $vis:vis struct $name:ident) => {
        $(#[$meta])*
        #[doc = "A scheduler that keeps nothing in memory."]
        #[derive(Clone, Copy, Debug, Default)]
        $vis struct $name;
        $crate::export!($name);
    };
    ($scheduler:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            ::std::thread_local! {
                static RUNNER: ::std::cell::RefCell<$crate::Runner<$scheduler>> =
                    ::std::cell::RefCell::new($crate::Runner::hosted());
            }
            struct Component;
            impl $crate::bindings::exports::tepui::framework::scheduler::Guest for Component {
                fn handle(now: u64, events: ::std::vec::Vec<$crate::Event>) -> ::std::vec::Vec<$crate::Call> {
                    RUNNER.with_borrow_mut(|runner| runner.turn(now, events))
                }
            }
            $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };
        #[cfg(not(target_family = "wasm"))]
        const _: fn() -> $crate::Runner<$scheduler> = $crate::Runner::<$scheduler>::hosted;
    };
}

#[cfg(all(test, not(target_family = "wasm")))]
mod tests;
