//! All targets behind libFuzzer's main function; `WORMHOLE_FUZZ_TARGET` names the one to run.
//!
//! One program, because each target's own would link the whole workspace again.

#![no_main]
#![forbid(unsafe_code)]

use std::{env, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use wormhole_fuzz::target::{self, Target};

static TARGET: OnceLock<&'static Target> = OnceLock::new();

fn chosen() -> &'static Target {
    let name = env::var("WORMHOLE_FUZZ_TARGET").unwrap_or_default();
    target::named(&name)
        .unwrap_or_else(|| panic!("WORMHOLE_FUZZ_TARGET={name} names no target: run `cargo ci fuzz`"))
}

fuzz_target!(|bytes: &[u8]| (TARGET.get_or_init(chosen).run)(bytes));
