//! Files, for which there is no readiness: helper threads read and write them.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytes::BytesMut;

use crate::file::{FileId, FileOp};
use crate::jobs::Jobs;
use crate::mailbox::Mailbox;
use crate::slots::Slots;
use crate::waker::Waker;

/// Threads that read and write, at most.
const THREADS: usize = 16;

#[derive(Debug)]
pub(super) struct Files {
    files: Slots<Arc<File>>,
    jobs: Jobs,
    done: Mailbox<Done>,
}

type Done = (u64, FileOp, io::Result<()>);

impl Files {
    pub(super) fn new(waker: Waker) -> Self {
        Self { files: Slots::default(), jobs: Jobs::new(THREADS), done: Mailbox::new(waker) }
    }

    pub(super) fn open(&mut self, file: OwnedFd) -> io::Result<FileId> {
        let file = Arc::new(File::from(file));
        let key = self.files.insert_with(|_| file);
        key.map(FileId).ok_or_else(|| io::Error::other("too many files"))
    }

    pub(super) fn forget(&mut self, file: FileId) {
        self.files.remove(file.0);
    }

    pub(super) fn submit(&mut self, file: FileId, mut op: FileOp, token: u64) {
        let done = self.done.sender();
        // Nobody misses the result if the engine is gone.
        let Some(file) = self.files.get(file.0).cloned() else {
            let _ = done.post((token, op, Err(io::ErrorKind::NotFound.into())));
            return;
        };
        self.jobs.run(move || {
            let result = execute(&file, &mut op);
            let _ = done.post((token, op, result));
        });
    }

    /// The next result.
    pub(super) fn take(&self) -> Option<Done> {
        self.done.take()
    }
}

fn execute(file: &File, op: &mut FileOp) -> io::Result<()> {
    match op {
        FileOp::Read { offset, parts } => read(file, *offset, parts),
        FileOp::Write { offset, parts } => write(file, *offset, parts),
    }
}

fn read(file: &File, mut offset: u64, parts: &mut [BytesMut]) -> io::Result<()> {
    let mut slices: Vec<IoSliceMut<'_>> =
        parts.iter_mut().map(|part| IoSliceMut::new(part)).collect();
    let mut slices = &mut slices[..];
    // Empty ones at the front would look like the end of the file.
    IoSliceMut::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let most = slices.len().min(1024);
        match rustix::io::preadv(file, &mut slices[..most], offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                IoSliceMut::advance_slices(&mut slices, n);
                offset += n as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn write(file: &File, mut offset: u64, parts: &[BytesMut]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut slices = &mut slices[..];
    // Empty ones at the front would look like a file that takes nothing.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        let most = slices.len().min(1024);
        match rustix::io::pwritev(file, &slices[..most], offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                IoSlice::advance_slices(&mut slices, n);
                offset += n as u64;
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
