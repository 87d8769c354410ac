//! Whether this kernel, container or policy lets us use io_uring, and why not.

use std::io;

use io_uring::{IoUring, opcode};
use rustix::io::Errno;

/// Sets up a ring, passes one no-op through it and asks for the opcodes we use; the reason in words when any is refused.
///
/// Passing an operation matters: a seccomp filter may allow the set-up and refuse `io_uring_enter`, which tokio-uring
/// would not notice.
pub(crate) fn probe() -> Result<(), String> {
    let mut ring = IoUring::new(2).map_err(|error| explain("io_uring_setup", &error))?;
    let noop = opcode::Nop::new().build();
    // SAFETY: a no-op names no descriptor and no memory, so there is nothing that must outlive it.
    let pushed = unsafe { ring.submission().push(&noop) };
    pushed.map_err(|_| "a new ring has no room for one entry".to_owned())?;
    ring.submit_and_wait(1).map_err(|error| explain("io_uring_enter", &error))?;
    let mut known = io_uring::Probe::new();
    ring.submitter().register_probe(&mut known).map_err(|error| explain("io_uring_register", &error))?;
    let wanted =
        [("read", opcode::Read::CODE), ("write", opcode::Write::CODE), ("writev", opcode::Writev::CODE)];
    for (name, code) in wanted {
        if !known.is_supported(code) {
            return Err(format!("this kernel's io_uring has no {name} (Linux 5.6 and later have it)"));
        }
    }
    Ok(())
}

/// The kernel's refusal, with what usually causes it.
pub(crate) fn explain(call: &str, error: &io::Error) -> String {
    let cause = match Errno::from_io_error(error) {
        Some(Errno::NOSYS) => "the kernel has no io_uring",
        Some(Errno::PERM | Errno::ACCESS) => "kernel.io_uring_disabled or a seccomp filter forbids it",
        Some(Errno::NOMEM) => "the limit of locked memory (RLIMIT_MEMLOCK) is too low",
        _ => "unexpected",
    };
    format!("{call}: {error} ({cause})")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Whether a test on a real ring must be skipped here, which is said aloud and fails where it is required.
    #[allow(clippy::print_stderr, reason = "a skip is said aloud")]
    pub(crate) fn is_skipped() -> bool {
        let Err(reason) = probe() else { return false };
        let required = std::env::var("WORMHOLE_REQUIRE").unwrap_or_default();
        assert!(
            !required.split(',').any(|name| name == "uring"),
            "WORMHOLE_REQUIRE names uring, but {reason}"
        );
        eprintln!("SKIPPED: {reason}");
        true
    }

    #[test]
    fn a_refusal_names_its_usual_cause() {
        let reason = |errno: Errno| explain("io_uring_setup", &errno.into());
        assert!(reason(Errno::NOSYS).contains("no io_uring"));
        assert!(reason(Errno::PERM).contains("io_uring_disabled"));
        assert!(reason(Errno::NOMEM).contains("RLIMIT_MEMLOCK"));
        assert!(reason(Errno::IO).starts_with("io_uring_setup: "));
    }
}
