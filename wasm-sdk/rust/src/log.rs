//! The framework's log: lines for its tenant, at most 64 KiB a turn.
//!
//! In a component they go to the cluster. Natively they go to nobody but [`crate::testing`], which keeps them.

pub use crate::bindings::tepui::framework::log::Level;

/// Writes a line; the macros [`trace!`](crate::trace!) to [`error!`](crate::error!) are shorter.
pub fn log(level: Level, message: &str) {
    #[cfg(target_family = "wasm")]
    crate::bindings::tepui::framework::log::log(level, message);
    #[cfg(not(target_family = "wasm"))]
    native::keep(level, message);
}

#[cfg(not(target_family = "wasm"))]
pub(crate) mod native {
    //! Lines of this thread, until a test takes them.
    use super::Level;
    use std::cell::RefCell;

    thread_local! {
        static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn keep(level: Level, message: &str) {
        LINES.with_borrow_mut(|lines| lines.push((level, message.to_owned())));
    }

    pub(crate) fn take() -> Vec<(Level, String)> {
        LINES.take()
    }
}

/// Logs at a level; formatted like [`format!`].
#[macro_export]
macro_rules! log_at {
    ($level:ident, $($arg:tt)+) => { $crate::log($crate::Level::$level, &::std::format!($($arg)+)) };
}
/// Logs everything that happens.
#[macro_export]
macro_rules! trace { ($($arg:tt)+) => { $crate::log_at!(Trace, $($arg)+) }; }
/// Logs what helps the scheduler's author.
#[macro_export]
macro_rules! debug { ($($arg:tt)+) => { $crate::log_at!(Debug, $($arg)+) }; }
/// Logs what the tenant wants to know.
#[macro_export]
macro_rules! info { ($($arg:tt)+) => { $crate::log_at!(Info, $($arg)+) }; }
/// Logs that something is off.
#[macro_export]
macro_rules! warn { ($($arg:tt)+) => { $crate::log_at!(Warn, $($arg)+) }; }
/// Logs that something failed.
#[macro_export]
macro_rules! error { ($($arg:tt)+) => { $crate::log_at!(Error, $($arg)+) }; }
