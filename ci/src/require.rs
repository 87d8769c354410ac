//! Which kernel abilities are here, and whether a test may skip for want of one.

use std::fs::{self, OpenOptions};

use crate::failure::Failure;

/// What the tests on real rings and real mounts need of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    pub(crate) uring: bool,
    pub(crate) fuse: bool,
}

/// What `test` does about the abilities found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Demand {
    /// `WORMHOLE_REQUIRE` gets this value: a skip is a failure.
    Require(&'static str),
    /// Tests may skip; the line says which, when any will.
    Allow(Option<String>),
}

impl Abilities {
    pub(crate) fn probe() -> Self {
        Self {
            uring: uring_allowed(fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok().as_deref()),
            fuse: OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok(),
        }
    }

    /// In CI a missing ability is a failure; on a developer's machine it is a warning.
    pub(crate) fn demand(self, in_ci: bool) -> Result<Demand, Failure> {
        let mut missing = Vec::new();
        if !self.uring {
            missing.push("io_uring (kernel.io_uring_disabled is 2: set it to 0 with sysctl)");
        }
        if !self.fuse {
            missing.push("FUSE (/dev/fuse does not open: run ci/setup.sh)");
        }
        match (in_ci, missing.is_empty()) {
            (true, true) => Ok(Demand::Require("uring,fuse")),
            (true, false) => {
                Err(format!("CI must test everything, and lacks {}", missing.join(" and ")).into())
            }
            (false, true) => Ok(Demand::Allow(None)),
            (false, false) => {
                Ok(Demand::Allow(Some(format!("tests will skip for want of {}", missing.join(" and ")))))
            }
        }
    }
}

/// Reads `kernel.io_uring_disabled` (kernel sysctl documentation): 2 forbids io_uring to all, 1 to the unprivileged
/// outside a group, 0 to nobody; kernels before 6.6 have no such file and forbid nothing.
fn uring_allowed(sysctl: Option<&str>) -> bool {
    sysctl.is_none_or(|value| value.trim() != "2")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Abilities = Abilities { uring: true, fuse: true };

    #[test]
    fn ci_requires_everything() {
        assert_eq!(ALL.demand(true), Ok(Demand::Require("uring,fuse")));
        let refused = Abilities { fuse: false, ..ALL }.demand(true).unwrap_err().to_string();
        assert!(refused.contains("/dev/fuse"), "{refused}");
    }

    #[test]
    fn a_developer_is_only_warned() {
        assert_eq!(ALL.demand(false), Ok(Demand::Allow(None)));
        let Ok(Demand::Allow(Some(line))) = (Abilities { uring: false, ..ALL }).demand(false) else {
            panic!("a missing io_uring must warn");
        };
        assert!(line.contains("io_uring") && !line.contains("FUSE"), "{line}");
    }

    #[test]
    fn only_two_forbids_the_ring() {
        assert!(uring_allowed(None));
        assert!(uring_allowed(Some("0\n")));
        assert!(uring_allowed(Some("1\n")));
        assert!(!uring_allowed(Some("2\n")));
    }
}
