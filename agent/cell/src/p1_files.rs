//! What a preview 1 module does with files: paid for before it is done, and charged as work while it is done.
//!
//! Owns nothing: each function is wasmtime's own, with a step before it. Its one surprise: the functions take numbers,
//! as the module passes them, so that only the few that add something to the disk have to be understood here.

use crate::disk::Full;
use crate::link::{FileWork, TaskLink};
use crate::p1::State;
use std::sync::Arc;
use wasmtime::{AsContextMut as _, Caller, Extern, Linker, Result, bail};
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1 as _};
use wasmtime_wasi::{WasiView as _, p1};
use wiggle::GuestMemory;

const MODULE: &str = "wasi_snapshot_preview1";
/// `__WASI_ERRNO_INVAL` and `__WASI_ERRNO_NOSPC`.
const INVALID: i32 = 28;
const NO_SPACE: i32 = 51;
/// `__WASI_ERRNO_NOTSUP`.
const NOT_SUPPORTED: i32 = 58;
/// `__WASI_OFLAGS_CREAT`.
const CREATE: i32 = 1;
/// Buffers of one write, as POSIX bounds them.
const BUFFERS: u32 = 1_024;

/// What a call adds to the disk at the most; none if it is not to be done at all.
type Cost = Option<(u64, u64)>;

/// What most calls cost.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the cost of a call is a function, and some cannot be told"
)]
fn nothing(_memory: &[u8]) -> Cost {
    Some((0, 0))
}

macro_rules! files {
    ($linker:ident: $($name:ident($($arg:ident: $type:ty),*) $cost:expr;)*) => {$(
        $linker.func_wrap_async(
            MODULE,
            stringify!($name),
            move |mut caller: Caller<'_, State>, ($($arg,)*): ($($type,)*)| {
                Box::new(async move {
                    let fuel = caller.as_context_mut().hostcall_fuel();
                    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
                        bail!("missing required memory export");
                    };
                    let (memory, state) = memory.data_and_store_mut(&mut caller);
                    let link = Arc::clone(&state.link);
                    let _work = FileWork::begin(&link);
                    let cost: Cost = $cost(memory);
                    if let Some(refused) = pay(&link, cost).await? {
                        return Ok(refused);
                    }
                    state.wasi.set_hostcall_fuel(fuel);
                    let mut memory = GuestMemory::Unshared(memory);
                    let answer = preview1::$name(&mut state.wasi, &mut memory $(, $arg)*).await?;
                    after(stringify!($name), answer, state).await?;
                    Ok(answer)
                })
            },
        )?;
    )*};
}

/// Puts these in the place of wasmtime's own.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    files! { linker:
        fd_advise(fd: i32, offset: i64, length: i64, advice: i32) nothing;
        fd_datasync(fd: i32) nothing;
        fd_sync(fd: i32) nothing;
        fd_fdstat_get(fd: i32, out: i32) nothing;
        fd_filestat_get(fd: i32, out: i32) nothing;
        fd_filestat_set_size(fd: i32, size: i64) nothing;
        fd_filestat_set_times(fd: i32, atim: i64, mtim: i64, flags: i32) nothing;
        fd_read(fd: i32, buffers: i32, count: i32, out: i32) nothing;
        fd_pread(fd: i32, buffers: i32, count: i32, offset: i64, out: i32) nothing;
        fd_readdir(fd: i32, buffer: i32, length: i32, cookie: i64, out: i32) nothing;
        fd_seek(fd: i32, offset: i64, whence: i32, out: i32) nothing;
        path_filestat_get(fd: i32, flags: i32, path: i32, length: i32, out: i32) nothing;
        path_filestat_set_times(
            fd: i32, flags: i32, path: i32, length: i32, atim: i64, mtim: i64, which: i32
        ) nothing;
        path_readlink(fd: i32, path: i32, length: i32, buffer: i32, room: i32, out: i32) nothing;
        path_remove_directory(fd: i32, path: i32, length: i32) nothing;
        path_rename(fd: i32, path: i32, length: i32, to: i32, new: i32, new_length: i32) nothing;
        path_unlink_file(fd: i32, path: i32, length: i32) nothing;
        fd_write(fd: i32, buffers: i32, count: i32, out: i32)
            |memory: &[u8]| write_cost(memory, fd, buffers, count);
        fd_pwrite(fd: i32, buffers: i32, count: i32, offset: i64, out: i32)
            |memory: &[u8]| write_cost(memory, fd, buffers, count);
        path_create_directory(fd: i32, path: i32, length: i32) an_entry;
        path_link(
            fd: i32, flags: i32, path: i32, length: i32, to: i32, new: i32, new_length: i32
        ) an_entry;
        path_symlink(old: i32, old_length: i32, fd: i32, new: i32, new_length: i32) an_entry;
        path_open(
            fd: i32, dirflags: i32, path: i32, length: i32, oflags: i32, rights: i64,
            inheriting: i64, fdflags: i32, out: i32
        ) |_memory: &[u8]| Some((0, u64::from(oflags & CREATE != 0)));
    }
    Ok(())
}

/// Standard output and error stay what they are, so what is written there is for the logs to pay.
fn keep_standard_streams(linker: &mut Linker<State>) -> Result<()> {
    let inner = |fd: i32| matches!(fd, 1 | 2);
    linker.func_wrap_async(
        MODULE,
        "fd_close",
        move |mut caller: Caller<'_, State>, (fd,): (i32,)| {
            Box::new(async move {
                if inner(fd) {
                    return Ok(0);
                }
                let mut memory = GuestMemory::Unshared(&mut []);
                preview1::fd_close(&mut caller.data_mut().wasi, &mut memory, fd).await
            })
        },
    )?;
    linker.func_wrap_async(
        MODULE,
        "fd_renumber",
        move |mut caller: Caller<'_, State>, (from, to): (i32, i32)| {
            Box::new(async move {
                if inner(from) || inner(to) {
                    return Ok(NOT_SUPPORTED);
                }
                let mut memory = GuestMemory::Unshared(&mut []);
                preview1::fd_renumber(&mut caller.data_mut().wasi, &mut memory, from, to).await
            })
        },
    )?;
    Ok(())
}

fn write_cost(memory: &[u8], fd: i32, buffers: i32, count: i32) -> Cost {
    if matches!(fd, 1 | 2) { nothing(memory) } else { first_buffer(memory, buffers, count) }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the cost of a call is a function, and some cannot be told"
)]
fn an_entry(_memory: &[u8]) -> Cost {
    Some((0, 1))
}

/// The bytes of the first buffer that is not empty: no more is written in one call.
fn first_buffer(memory: &[u8], buffers: i32, count: i32) -> Cost {
    // As unsigned numbers, which is what they are.
    let (buffers, count) = (buffers.cast_unsigned(), count.cast_unsigned());
    if count > BUFFERS {
        return None;
    }
    for number in 0..count {
        let at = usize::try_from(u64::from(buffers) + u64::from(number) * 8 + 4).ok()?;
        // What lies outside of its memory is for wasmtime to refuse.
        let Some(length) = memory.get(at..).and_then(|rest| rest.first_chunk::<4>()) else { break };
        match u32::from_le_bytes(*length) {
            0 => {}
            length => return Some((u64::from(length).min(memory.len() as u64), 0)),
        }
    }
    Some((0, 0))
}

/// Pays for a call. Says what the guest is told if it is not done, and fails if it is the guest's end.
async fn pay(link: &TaskLink, cost: Cost) -> Result<Option<i32>> {
    let Some((bytes, entries)) = cost else { return Ok(Some(INVALID)) };
    if (bytes, entries) == (0, 0) || !link.disk.has_folder() {
        return Ok(None);
    }
    match link.disk.take(bytes, entries).await {
        Ok(()) => Ok(None),
        Err(Full::Agent) => Ok(Some(NO_SPACE)),
        Err(Full::Task) => Err(Full::Task.into()),
    }
}

/// What has to be seen after a call that went well.
async fn after(name: &str, answer: i32, state: &mut State) -> Result<()> {
    if answer != 0 {
        return Ok(());
    }
    match name {
        "path_open" => {
            let files = state.wasi.ctx().table.iter_mut().filter_map(|entry| {
                match entry.downcast_ref::<Descriptor>()? {
                    Descriptor::File(file) => Some(Arc::downgrade(&file.file)),
                    Descriptor::Dir(_) => None,
                }
            });
            state.link.disk.set_opened(files.collect());
        }
        "fd_filestat_set_size" => state.link.disk.look().await?,
        _ => {}
    }
    Ok(())
}

/// The whole of preview 1 for a task.
pub(crate) fn linker_with_files(linker: &mut Linker<State>) -> Result<()> {
    p1::add_to_linker_async(linker, |state: &mut State| &mut state.wasi)?;
    linker.allow_shadowing(true);
    add_to_linker(linker)?;
    keep_standard_streams(linker)?;
    linker.allow_shadowing(false);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_costs_its_first_buffer_that_is_not_empty() {
        let mut memory = vec![0; 128];
        memory[8 + 4] = 0;
        memory[16 + 4] = 40;
        memory[24 + 4] = 50;
        assert_eq!(first_buffer(&memory, 8, 3), Some((40, 0)));
        assert_eq!(first_buffer(&memory, 8, 1), Some((0, 0)));
        memory[16 + 7] = 1;
        assert_eq!(first_buffer(&memory, 8, 3), Some((128, 0)), "no more than there is");
        assert_eq!(first_buffer(&memory, 1_000, 3), Some((0, 0)));
        assert_eq!(first_buffer(&memory, -1, 1), Some((0, 0)));
        assert_eq!(first_buffer(&memory, 8, 1_025), None);
    }
}
