//! The guests' words, generated from `wasm-sdk/wit`.

/// What a scheduler imports and exports.
pub(crate) mod framework {
    wasmtime::component::bindgen!({
        path: "../../wasm-sdk/wit",
        world: "framework",
        imports: { default: trappable },
        exports: { default: async },
    });
}

/// What a task may import beyond WASI.
pub(crate) mod task {
    wasmtime::component::bindgen!({
        path: "../../wasm-sdk/wit",
        world: "task",
        imports: { default: async | trappable },
    });
}
