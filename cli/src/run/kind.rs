//! What a file is, by its first eight bytes, before it is sent anywhere.
//!
//! Never looks further: the cluster judges the rest.

use crate::error::CliError;
use std::io::Read as _;
use std::path::Path;
use tepui_proto::limits;
use tepui_proto::resources::Bytes;

/// What a module is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A component that exports `tepui:framework/scheduler`.
    Scheduler,
    /// A WASI preview 1 module or a `wasi:cli/command` component.
    Command,
}

impl Kind {
    /// As the master calls it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Command => "command",
        }
    }
}

/// Refuses a module that is larger than any cluster takes.
///
/// # Errors
/// With the size and the limit.
pub(crate) fn check_size(size_bytes: u64, path: &Path) -> Result<(), CliError> {
    if size_bytes <= limits::MODULE_BYTES {
        return Ok(());
    }
    let (has, most) = (Bytes(size_bytes), Bytes(limits::MODULE_BYTES));
    let refused = CliError::failed(format!(
        "the module `{}` has {has}, and at most {most} are allowed",
        path.display()
    ));
    Err(refused.hint("build it in release, and strip it: `wasm-tools strip`, or `strip = true` in the Cargo profile"))
}

/// Refuses a file that is neither a core module nor a component.
///
/// # Errors
/// With what the file seems to be.
pub(crate) fn check_magic(path: &Path) -> Result<(), CliError> {
    let failed = |error: std::io::Error| CliError::file("read", path, &error);
    let mut head = Vec::with_capacity(8);
    std::fs::File::open(path).map_err(failed)?.take(8).read_to_end(&mut head).map_err(failed)?;
    let why = match head.as_slice() {
        // The version of core modules, and that of components with layer 1.
        [0, b'a', b's', b'm', 1, 0, 0, 0] | [0, b'a', b's', b'm', 0x0d, 0, 1, 0] => return Ok(()),
        [0, b'a', b's', b'm', ..] => "it is WebAssembly of a version that is not known here",
        [0x7f, b'E', b'L', b'F', ..] => "it is a program for this machine, not WebAssembly",
        [b'(', ..] => "it is WebAssembly text; turn it into a module first",
        [] => "it is empty",
        _ => "it is not WebAssembly",
    };
    let refused = CliError::failed(format!("cannot run `{}`: {why}", path.display()));
    Err(refused.hint("build it with `--target wasm32-wasip1` or `--target wasm32-wasip2`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_modules_and_components_pass() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let judge = |bytes: &[u8]| {
            std::fs::write(file.path(), bytes).unwrap();
            check_magic(file.path()).map_err(|error| error.message)
        };
        assert_eq!(judge(b"\0asm\x01\0\0\0rest"), Ok(()));
        assert_eq!(judge(b"\0asm\x0d\0\x01\0"), Ok(()));
        assert!(judge(b"\0asm").unwrap_err().contains("version"));
        assert!(judge(b"\x7fELF....").unwrap_err().contains("program"));
        assert!(judge(b"#!/bin/sh").unwrap_err().contains("not WebAssembly"));
        assert!(judge(b"").unwrap_err().contains("empty"));
    }

    #[test]
    fn a_module_over_the_limit_is_refused_with_both_numbers() {
        let refused =
            check_size(limits::MODULE_BYTES + (1 << 20), Path::new("x.wasm")).unwrap_err();
        assert!(
            refused.message.contains("33 MiB") && refused.message.contains("32 MiB"),
            "{}",
            refused.message
        );
    }
}
