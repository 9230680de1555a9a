//! What a component does with files: paid for before it is done, and charged as work while it is done.
//!
//! `wasi:filesystem/types` is wasmtime's own but for three things: what adds to the disk is paid for, files that are open
//! are counted, and streams read and write on the guest's own thread.

use crate::disk::Full;
use crate::file_streams::{FileInput, FileOutput};
use crate::link::{FileWork, TaskLink};
use crate::p2::State;
use std::fs::File;
use std::sync::Arc;
use tepui_proto::limits;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, ErrorCode, Filesize, Host, HostDescriptor, HostDirectoryEntryStream,
    MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

type Fd = Resource<Descriptor>;

/// A task's files.
pub(crate) struct Files<'a> {
    inner: WasiFilesystemCtxView<'a>,
    link: Arc<TaskLink>,
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = Files<'a>;
}

/// Puts it in the place of wasmtime's own.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<State, HasFiles>(linker, |state| {
        let link = Arc::clone(&state.link);
        Files { inner: state.filesystem(), link }
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

impl Files<'_> {
    fn file(&self, fd: &Fd) -> FsResult<Arc<File>> {
        match self.inner.table.get(fd)? {
            Descriptor::File(file) => Ok(Arc::clone(&file.file)),
            Descriptor::Dir(_) => Err(ErrorCode::IsDirectory.into()),
        }
    }
}

/// Pays for what is about to be done. Fails if it is not to be, and for good if that is the task's end.
async fn pay(link: &TaskLink, bytes: u64, entries: u64) -> FsResult<()> {
    match link.disk.take(bytes, entries).await {
        Ok(()) => Ok(()),
        Err(Full::Agent) => Err(ErrorCode::InsufficientSpace.into()),
        Err(full @ Full::Task) => Err(FsError::trap(full)),
    }
}

impl Host for Files<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.inner.convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        self.inner.filesystem_error_code(error)
    }
}

/// Methods that are wasmtime's own, charged as work.
macro_rules! charged {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {$(
        async fn $name(&mut self, $($arg: $type),*) -> $result {
            let link = Arc::clone(&self.link);
            let _work = FileWork::begin(&link);
            HostDescriptor::$name(&mut self.inner, $($arg),*).await
        }
    )*};
}

impl HostDescriptor for Files<'_> {
    charged! {
        advise(fd: Fd, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()>;
        sync_data(fd: Fd) -> FsResult<()>;
        get_flags(fd: Fd) -> FsResult<DescriptorFlags>;
        get_type(fd: Fd) -> FsResult<DescriptorType>;
        set_times(fd: Fd, atim: NewTimestamp, mtim: NewTimestamp) -> FsResult<()>;
        read(fd: Fd, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)>;
        sync(fd: Fd) -> FsResult<()>;
        stat(fd: Fd) -> FsResult<DescriptorStat>;
        stat_at(fd: Fd, flags: PathFlags, path: String) -> FsResult<DescriptorStat>;
        set_times_at(
            fd: Fd, flags: PathFlags, path: String, atim: NewTimestamp, mtim: NewTimestamp
        ) -> FsResult<()>;
        readlink_at(fd: Fd, path: String) -> FsResult<String>;
        remove_directory_at(fd: Fd, path: String) -> FsResult<()>;
        rename_at(fd: Fd, old: String, to: Fd, new: String) -> FsResult<()>;
        unlink_file_at(fd: Fd, path: String) -> FsResult<()>;
        is_same_object(a: Fd, b: Fd) -> wasmtime::Result<bool>;
        metadata_hash(fd: Fd) -> FsResult<MetadataHashValue>;
        metadata_hash_at(fd: Fd, flags: PathFlags, path: String) -> FsResult<MetadataHashValue>;
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<DirectoryEntryStream>> {
        let link = Arc::clone(&self.link);
        let _work = FileWork::begin(&link);
        let folders =
            self.inner.table.iter_mut().filter(|entry| entry.is::<DirectoryEntryStream>());
        if folders.count() >= limits::FOLDERS_READ {
            return Err(FsError::trap(wasmtime_wasi::ResourceTableError::Full));
        }
        self.inner.read_directory(fd).await
    }

    async fn set_size(&mut self, fd: Fd, size: Filesize) -> FsResult<()> {
        let link = Arc::clone(&self.link);
        let _work = FileWork::begin(&link);
        self.inner.set_size(fd, size).await?;
        link.disk.look().await.map_err(FsError::trap)
    }

    async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let link = Arc::clone(&self.link);
        let _work = FileWork::begin(&link);
        pay(&link, bytes.len() as u64, 0).await?;
        self.inner.write(fd, bytes, offset).await
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let link = Arc::clone(&self.link);
        let _work = FileWork::begin(&link);
        pay(&link, 0, 1).await?;
        self.inner.create_directory_at(fd, path).await
    }

    async fn link_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        old: String,
        to: Fd,
        new: String,
    ) -> FsResult<()> {
        let link = Arc::clone(&self.link);
        let _work = FileWork::begin(&link);
        pay(&link, 0, 1).await?;
        self.inner.link_at(fd, flags, old, to, new).await
    }

    async fn symlink_at(&mut self, fd: Fd, old: String, new: String) -> FsResult<()> {
        let link = Arc::clone(&self.link);
        let _work = FileWork::begin(&link);
        pay(&link, 0, 1).await?;
        self.inner.symlink_at(fd, old, new).await
    }

    async fn open_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
        how: OpenFlags,
        descriptor: DescriptorFlags,
    ) -> FsResult<Fd> {
        let link = Arc::clone(&self.link);
        let _work = FileWork::begin(&link);
        if link.disk.opened() >= link.disk.open_files() {
            return Err(FsError::trap(wasmtime_wasi::ResourceTableError::Full));
        }
        if how.contains(OpenFlags::CREATE) {
            pay(&link, 0, 1).await?;
        }
        let opened = self.inner.open_at(fd, flags, path, how, descriptor).await?;
        let file = match self.inner.table.get(&opened)? {
            Descriptor::File(file) => &file.file,
            Descriptor::Dir(folder) => &folder.dir,
        };
        link.disk.note_opened(file);
        Ok(opened)
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.inner, fd)
    }

    fn read_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let input: DynInputStream = Box::new(FileInput { file: self.file(&fd)?, position: offset });
        Ok(self.inner.table.push(input)?)
    }

    fn write_via_stream(
        &mut self,
        fd: Fd,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let output = FileOutput::new(self.file(&fd)?, Some(offset), Arc::clone(&self.link));
        let output: DynOutputStream = Box::new(output);
        Ok(self.inner.table.push(output)?)
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        let output = FileOutput::new(self.file(&fd)?, None, Arc::clone(&self.link));
        let output: DynOutputStream = Box::new(output);
        Ok(self.inner.table.push(output)?)
    }
}

impl HostDirectoryEntryStream for Files<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.inner.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.inner, stream)
    }
}
