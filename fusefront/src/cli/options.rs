//! `-o` as mount(8) passes it, also from an fstab line.

use crate::config::{Access, MountFlags};

/// What `-o` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MountOptions {
    /// For whom.
    pub(super) access: Access,
    /// What programs may do.
    pub(super) flags: MountFlags,
}

/// Reads the options; the last of two that contradict each other wins, as in mount(8).
///
/// # Errors
/// A line for people, about the first one that cannot be had.
pub(super) fn parse(options: &[String]) -> Result<MountOptions, String> {
    let mut parsed = MountOptions::default();
    for option in options {
        match option.as_str() {
            "allow_other" => parsed.access = Access::Everyone,
            "suid" => parsed.flags.suid = true,
            "nosuid" => parsed.flags.suid = false,
            "dev" => parsed.flags.dev = true,
            "nodev" => parsed.flags.dev = false,
            "exec" => parsed.flags.noexec = false,
            "noexec" => parsed.flags.noexec = true,
            // What every mount of ours is.
            "" | "ro" | "noatime" | "default_permissions" => {}
            // For fstab's readers, not for us.
            "_netdev" | "nofail" | "auto" | "noauto" | "user" | "nouser" | "users" | "defaults" => {}
            "rw" => return Err("-o rw: a share is read-only; leave it out or write ro".to_owned()),
            other if other.starts_with("x-") || other.starts_with("comment=") => {}
            other => {
                return Err(format!(
                    "-o {other}: this option is not known (`wormhole mount --help` lists them)"
                ));
            }
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<MountOptions, String> {
        parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn nothing_dangerous_is_on_unless_asked_for() {
        let plain = of("ro,noatime,_netdev,x-systemd.automount,nofail").unwrap();
        assert_eq!(plain, MountOptions::default());
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
