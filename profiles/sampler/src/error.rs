//! Why there is no profile.

use std::{io, path::PathBuf};

/// Why there is no profile.
#[derive(Debug, thiserror::Error)]
pub enum SamplerError {
    /// Build it in, or look from outside.
    #[error(
        "this program was built without a profiler: build it with `cargo build --release --features pprof`, or use perf"
    )]
    NotBuiltIn,
    /// One profiler runs in a process, and this system may have no room for its signal, timer or temporary file.
    #[error(
        "the CPU profiler cannot start ({why}): does another one run in this process, and is the temporary folder writable?"
    )]
    Start {
        /// As the profiler says it.
        why: String,
    },
    /// The kernel sends no SIGPROF: a debugger or a sandbox may hold it back.
    #[error("the CPU profiler gets no samples: a debugger or a sandbox holds back SIGPROF")]
    Silent,
    /// Give it something to do.
    #[error("there are no samples: this process used no CPU time")]
    Empty,
    /// Its samples cannot be drawn.
    #[error("the samples cannot be drawn: {why}")]
    Draw {
        /// As the profiler says it.
        why: String,
    },
    /// Choose another place.
    #[error("the profile {path:?} cannot be written: {source}; choose another place")]
    Write {
        /// Of the picture.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
