//! The `wormhole-engine` program: see `wormhole-engine --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    wormhole_engine::cli::main()
}
