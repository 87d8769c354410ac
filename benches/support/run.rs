//! What this run of a bench was asked to be: criterion keeps its options to itself.

use std::{env, io, path::PathBuf};

/// How much a run is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The sizes of TARGETS.md.
    Full,
    /// A quarter of them: `--quick`, and the single pass of `--test`.
    Quick,
}

impl Scale {
    /// As this process was started.
    pub fn of_this_run() -> Scale {
        if has("--quick") || !is_measured() { Scale::Quick } else { Scale::Full }
    }

    /// `full` bytes, or a quarter of them.
    pub fn bytes(self, full: u64) -> u64 {
        match self {
            Scale::Full => full,
            Scale::Quick => full / 4,
        }
    }
}

/// The folder that cargo built this program in.
///
/// # Errors
/// Of a program that is elsewhere.
pub fn target_folder() -> io::Result<PathBuf> {
    // target/release/deps/throughput-0123456789abcdef
    let program = env::current_exe()?;
    program.ancestors().nth(3).map(PathBuf::from).ok_or_else(|| io::Error::other("no target folder"))
}

/// Whether figures of this run mean anything: `cargo test` and `--test` run each bench once, to see that it runs.
pub fn is_measured() -> bool {
    has("--bench") && !has("--test")
}

/// Whether the figures go to the report: not those that a profiler slowed down, and there are none to list.
pub fn is_recorded() -> bool {
    is_measured() && !has("--list") && !has("--profile-time")
}

fn has(option: &str) -> bool {
    env::args().any(|given| given.split('=').next() == Some(option))
}
