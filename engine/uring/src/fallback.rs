//! The same service over blocking threads, for where io_uring is refused.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::io::Errno;

use crate::error::RingError;
use crate::intake::{Command, Intake, Serving, Work};

/// Threads of a blocking ring: what keeps a disk busy; more only add switches between them.
pub(crate) const BLOCKING_THREADS_MAX: usize = 16;

/// Starts the intake's `threads` threads. When one cannot be started, the ones before it end again.
pub(crate) fn spawn(threads: usize, intake: &Arc<Intake>) -> Result<(), RingError> {
    for _ in 0..threads {
        let serving = Serving(Arc::clone(intake));
        let spawned =
            std::thread::Builder::new().name("wormhole-pread".into()).spawn(move || serve(&serving.0));
        if let Err(source) = spawned {
            intake.stop();
            return Err(RingError::Thread { source });
        }
    }
    Ok(())
}

fn serve(intake: &Intake) {
    while let Some(mut command) = intake.next() {
        if command.work.is_abandoned() {
            continue;
        }
        intake.count_submitted();
        let result = perform(&mut command);
        intake.count_completed();
        command.complete(result);
    }
}

/// Does it here and now, again when a signal interrupts it.
fn perform(command: &mut Command) -> io::Result<usize> {
    loop {
        let Command { file, offset, work } = &mut *command;
        let result = match work {
            Work::Read { slot, range, .. } => read(file, &mut slot.bytes_mut()[range.indices()], *offset),
            Work::Write { parts, .. } => write(file, parts, *offset),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Like io_uring, reads a stream (a pipe) whatever the offset says.
fn read(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    match file.read_at(buf, offset) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::SPIPE) => Ok(rustix::io::read(file, buf)?),
        result => result,
    }
}

/// Like [`read`], the other way.
fn write(file: &File, parts: &[Bytes], offset: u64) -> io::Result<usize> {
    let parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    match rustix::io::pwritev(file, &parts, offset) {
        Err(Errno::SPIPE) => Ok(rustix::io::writev(file, &parts)?),
        result => Ok(result?),
    }
}
