//! What `wit-bindgen` makes of `../wit`: the words of the contract as Rust types, and the glue of a component.
//!
//! Nothing here is written by hand, and nobody imports it by name but this crate and its export macro. The surprise:
//! it also compiles natively, where calling the host's functions would panic; `store` and `log` never do there.

#![expect(
    clippy::same_length_and_capacity,
    reason = "generated: the canonical ABI hands over vectors without spare room"
)]

wit_bindgen::generate!({
    path: "../wit",
    world: "framework",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "tepui_sdk::bindings",
    additional_derives: [PartialEq, Eq],
});
