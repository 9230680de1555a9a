//! Who decides for the frameworks of a scenario: native schedulers, and tenants' components in the real sandbox.

pub(crate) mod component;
pub(crate) mod native;
