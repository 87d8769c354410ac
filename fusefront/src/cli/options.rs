//! `-o` as mount(8) passes it, also from an fstab line.

use std::str::FromStr;

use crate::config::{Access, MountFlags};

/// What `-o` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// For whom.
    pub(super) access: Access,
    /// What programs may do.
    pub(super) flags: MountFlags,
}

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MountOption {
    AllowOther,
    Suid(bool),
    Dev(bool),
    Exec(bool),
    /// What every mount of ours is, or what is for fstab's readers and not for us.
    Nothing,
}

impl FromStr for MountOption {
    type Err = String;

    fn from_str(text: &str) -> Result<MountOption, String> {
        Ok(match text {
            "allow_other" => MountOption::AllowOther,
            "suid" => MountOption::Suid(true),
            "nosuid" => MountOption::Suid(false),
            "dev" => MountOption::Dev(true),
            "nodev" => MountOption::Dev(false),
            "exec" => MountOption::Exec(true),
            "noexec" => MountOption::Exec(false),
            "" | "ro" | "noatime" | "default_permissions" => MountOption::Nothing,
            "_netdev" | "nofail" | "auto" | "noauto" | "user" | "nouser" | "users" | "defaults" => {
                MountOption::Nothing
            }
            "rw" => return Err("\"rw\": a share is read-only; leave it out or write ro".to_owned()),
            other if other.starts_with("x-") || other.starts_with("comment=") => MountOption::Nothing,
            other => {
                return Err(format!("{other:?} is no known option (`wormhole mount --help` lists them)"));
            }
        })
    }
}

/// What the options ask for together; the last of two that contradict each other wins, as in mount(8).
pub(super) fn asked(options: &[MountOption]) -> Asked {
    let mut asked = Asked::default();
    for option in options {
        match *option {
            MountOption::AllowOther => asked.access = Access::Everyone,
            MountOption::Suid(suid) => asked.flags.suid = suid,
            MountOption::Dev(dev) => asked.flags.dev = dev,
            MountOption::Exec(exec) => asked.flags.noexec = !exec,
            MountOption::Nothing => {}
        }
    }
    asked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Asked, String> {
        text.split(',').map(str::parse).collect::<Result<Vec<_>, _>>().map(|options| asked(&options))
    }

    #[test]
    fn nothing_dangerous_is_on_unless_asked_for() {
        let plain = of("ro,noatime,_netdev,x-systemd.automount,nofail").unwrap();
        assert_eq!(plain, Asked::default());
        let asked = of("suid,dev,noexec,allow_other").unwrap();
        assert_eq!(asked.access, Access::Everyone);
        assert_eq!(asked.flags, MountFlags { suid: true, dev: true, noexec: true });
    }

    #[test]
    fn the_last_word_counts() {
        assert!(!of("suid,nosuid").unwrap().flags.suid);
        assert!(!of("noexec,exec").unwrap().flags.noexec);
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        assert!(of("rw").unwrap_err().contains("read-only"));
        assert!(of("ro,direct_io").unwrap_err().contains("direct_io"));
    }
}
