//! The `wormhole` program: see `wormhole --help`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    wormhole_fusefront::cli::main()
}
