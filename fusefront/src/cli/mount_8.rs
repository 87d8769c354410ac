//! Called by mount(8) as `mount.fuse.wormhole SOURCE DIR [-sfnv] [-o OPTIONS]`, from an fstab line or `mount -t
//! fuse.wormhole`: the same as `wormhole mount --daemon`.

use std::{ffi::OsString, os::unix::ffi::OsStrExt, path::Path};

/// The names under which mount(8) looks for a helper.
const NAMES: [&str; 3] = ["mount.fuse.wormhole", "mount.fuse3.wormhole", "mount.wormhole"];
/// Flags of `wormhole mount` that an option of their name stands for.
const WITH_VALUE: [&str; 12] = [
    "memory",
    "cache-dir",
    "cache-size",
    "deadline",
    "on-disconnect",
    "share",
    "log",
    "log-file",
    "log-format",
    "metrics",
    "profile-cpu",
    "config",
];
/// The same, without a value.
const OFFLINE_OK: &str = "offline-ok";

/// The arguments of `wormhole` that a call by mount(8) stands for; `None` for any other call. The program's own name
/// comes first in both.
pub(super) fn translate(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let (program, rest) = arguments.split_first()?;
    let name = Path::new(program).file_name()?;
    if !NAMES.iter().any(|helper| name == *helper) {
        return None;
    }
    let mut translated: Vec<OsString> = vec!["wormhole".into(), "mount".into(), "--daemon".into()];
    let mut places = Vec::new();
    let mut rest = rest.iter();
    while let Some(argument) = rest.next() {
        match argument.as_bytes() {
            b"-o" => translated.extend(rest.next().map(options).unwrap_or_default()),
            // The type it was called for; sloppy, no mtab, verbose: nothing to do about them.
            b"-t" => drop(rest.next()),
            b"-s" | b"-n" | b"-v" => {}
            _ => places.push(argument.clone()),
        }
    }
    translated.extend(places);
    Some(translated)
}

/// One list of `-o`: what names a flag of ours becomes that flag; `rw` is how mount(8) says that nothing was said.
fn options(list: &OsString) -> Vec<OsString> {
    let text = list.to_string_lossy();
    let mut arguments = Vec::new();
    for option in text.split(',').filter(|option| !option.is_empty() && *option != "rw") {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let name = name.replace('_', "-");
        if option.replace('_', "-") == OFFLINE_OK {
            arguments.push(format!("--{OFFLINE_OK}").into());
        } else if WITH_VALUE.contains(&name.as_str()) {
            arguments.push(format!("--{name}={value}").into());
        } else {
            arguments.push(format!("-o{option}").into());
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Option<String> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let translated = translate(&arguments)?;
        Some(translated.iter().map(|argument| argument.to_str().unwrap()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn a_call_by_mount_is_a_daemon() {
        let line = "/sbin/mount.fuse.wormhole @/etc/t /mnt -n -o rw,noexec,allow_other,memory=1GiB,on_disconnect=fail";
        let expected =
            "wormhole mount --daemon -onoexec -oallow_other --memory=1GiB --on-disconnect=fail @/etc/t /mnt";
        assert_eq!(of(line).as_deref(), Some(expected));
        assert_eq!(
            of("mount.wormhole @t /mnt -o offline_ok,cache_dir=/c").as_deref(),
            Some("wormhole mount --daemon --offline-ok --cache-dir=/c @t /mnt")
        );
        assert_eq!(of("mount.wormhole @t /mnt -o").as_deref(), Some("wormhole mount --daemon @t /mnt"));
    }

    #[test]
    fn other_calls_are_what_they_are() {
        assert_eq!(of("wormhole mount @t /mnt"), None);
        assert_eq!(of("/usr/bin/wormhole status"), None);
    }
}
