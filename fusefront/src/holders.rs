//! Who keeps a mount busy: the processes with a file, a folder or a mapping of it open.
//!
//! Found in `/proc` alone (proc_pid_fdinfo(5), proc_pid_maps(5)): nothing of the mount is touched, so it cannot hang.

use std::{
    fmt, fs,
    path::Path,
    time::{Duration, Instant},
};

use crate::mountinfo::MountInfo;

/// How many are named: enough to know what to close.
const HOLDERS_MAX: usize = 5;
/// How long the search may take; a machine with 10,000 open files needs a tenth of it.
const SEARCH_MAX: Duration = Duration::from_millis(500);

/// One process that uses a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// The name of its program, at most 15 bytes of it.
    pub name: String,
}

/// Some of the processes that use a mount, by number: at most five, and only those this user may look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders(pub Vec<Holder>);

impl fmt::Display for Holders {
    /// `, used by 12 (cat), 15 (bash)`, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Holder { pid, name }) in self.0.iter().enumerate() {
            let before = if index == 0 { " (used by" } else { "," };
            write!(f, "{before} {pid} {}", name.escape_debug())?;
        }
        f.write_str(if self.0.is_empty() { "" } else { ")" })
    }
}

/// Looks for the users of `mount` while it is attached; takes at most half a second.
pub fn of(mount: &MountInfo) -> Holders {
    let until = Instant::now() + SEARCH_MAX;
    let mut found = Vec::new();
    let Ok(processes) = fs::read_dir("/proc") else { return Holders::default() };
    for process in processes.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if pid != std::process::id() && uses(&process.path(), mount) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            found.push(Holder { pid, name: name.trim_end().to_owned() });
        }
        if found.len() == HOLDERS_MAX || Instant::now() > until {
            break;
        }
    }
    Holders(found)
}

/// Processes end, and those of other users may not be looked at: what cannot be read does not count.
fn uses(process: &Path, mount: &MountInfo) -> bool {
    // A link is read as text: its target is not looked at.
    let within = |link: &str| {
        fs::read_link(process.join(link)).is_ok_and(|target| target.starts_with(&mount.mountpoint))
    };
    within("cwd") || within("root") || has_open(process, mount.id) || maps(process, &mount.device)
}

fn has_open(process: &Path, mount_id: u64) -> bool {
    let Ok(open) = fs::read_dir(process.join("fdinfo")) else { return false };
    open.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok()).any(|info| {
        let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
        id.and_then(|id| id.trim().parse().ok()) == Some(mount_id)
    })
}

/// Whether a file of the device `MAJOR:MINOR`, in decimal, is mapped; `maps` shows hexadecimal numbers.
fn maps(process: &Path, device: &str) -> bool {
    let numbers = device.split_once(':').and_then(|(major, minor)| {
        Some(format!("{:02x}:{:02x}", major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    let Some(device) = numbers else { return false };
    fs::read(process.join("maps")).is_ok_and(|text| {
        text.split(|&b| b == b'\n').any(|line| line.split(|&b| b == b' ').nth(3) == Some(device.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::mountinfo;

    #[test]
    fn a_process_with_an_open_file_uses_the_mount_of_the_file() {
        let proc = mountinfo::at(Path::new("/proc")).unwrap().unwrap();
        let file = fs::File::open("/proc/self/stat").unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(file).spawn().unwrap();
        let process = Path::new("/proc").join(child.id().to_string());
        assert!(has_open(&process, proc.id));
        assert!(!has_open(&process, u64::MAX));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!has_open(&process, proc.id), "a process that is gone uses nothing");
    }

    #[test]
    fn holders_read_well() {
        let holder = |pid, name: &str| Holder { pid, name: name.to_owned() };
        assert_eq!(Holders::default().to_string(), "");
        let two = Holders(vec![holder(12, "cat"), holder(15, "a\nb")]);
        assert_eq!(two.to_string(), " (used by 12 cat, 15 a\\nb)");
    }
}
