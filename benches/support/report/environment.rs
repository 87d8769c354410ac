//! Where figures were taken: the machine, its system, the commit.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::record::commit;

const UNKNOWN: &str = "not told by this machine";

/// All of it as text; what cannot be found out says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Environment {
    /// `2026-11-23`, UTC.
    pub(super) date: String,
    pub(super) cpu: String,
    pub(super) cores: String,
    pub(super) memory: String,
    pub(super) storage: String,
    pub(super) system: String,
    pub(super) kernel: String,
    pub(super) version: String,
    pub(super) commit: String,
    pub(super) compiler: String,
    /// Sizes of the run: `full`, `quick`.
    pub(super) sizes: String,
}

impl Environment {
    /// Of this machine and this checkout.
    pub(super) fn of_this_machine(root: &Path, is_quick: bool) -> Environment {
        let said = |program: &str, words: &[&str]| said(root, program, words);
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Environment {
            date: today(),
            cpu: field(&cpuinfo, "model name").unwrap_or_else(|| UNKNOWN.into()),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count().to_string(),
            memory: memory(),
            storage: storage(&said),
            system: fs::read_to_string("/etc/os-release")
                .ok()
                .and_then(|text| {
                    text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=").map(str::to_owned))
                })
                .map_or_else(|| UNKNOWN.into(), |name| name.trim_matches('"').into()),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| UNKNOWN.into(), |text| text.trim().into()),
            version: env!("CARGO_PKG_VERSION").into(),
            commit: match commit() {
                "" => UNKNOWN.into(),
                commit => commit.to_owned(),
            },
            compiler: said("rustc", &["--version"]).unwrap_or_else(|| UNKNOWN.into()),
            sizes: if is_quick { "quick: smaller files, fewer runs" } else { "full" }.into(),
        }
    }

    /// Names and values, in the order of the report.
    pub(super) fn lines(&self) -> [(&'static str, &str); 10] {
        [
            ("CPU", &self.cpu),
            ("cores", &self.cores),
            ("RAM", &self.memory),
            ("storage", &self.storage),
            ("OS", &self.system),
            ("kernel", &self.kernel),
            ("wormhole", &self.version),
            ("commit", &self.commit),
            ("compiler", &self.compiler),
            ("sizes", &self.sizes),
        ]
    }
}

fn said(root: &Path, program: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).current_dir(root).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory() -> String {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        field(&text, "MemTotal").and_then(|total| total.strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map_or_else(|| UNKNOWN.into(), |kib| format!("{:.1} GiB", kib / f64::from(1 << 20)))
}

/// The device and the file system that the files lie on.
fn storage(said: &impl Fn(&str, &[&str]) -> Option<String>) -> String {
    let Some(told) = said("df", &["--output=source,fstype", "."]) else { return UNKNOWN.into() };
    let line = told.lines().last().unwrap_or_default();
    let mut words = line.split_whitespace();
    let (device, kind) = (words.next().unwrap_or(UNKNOWN), words.next().unwrap_or(UNKNOWN));
    format!("{device}, {kind}")
}

fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    date(seconds / 86_400)
}

/// A day since 1970 in the Gregorian calendar.
fn date(days: u64) -> String {
    let (mut year, mut left) = (1970, days);
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let days_of = |year| if is_leap(year) { 366 } else { 365 };
    while left >= days_of(year) {
        left -= days_of(year);
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(11_017), "2000-03-01");
        assert_eq!(date(19_722), "2023-12-31");
        assert_eq!(date(19_723), "2024-01-01");
    }

    #[test]
    fn nothing_of_this_machine_is_empty() {
        let environment = Environment::of_this_machine(Path::new("."), true);
        for (name, value) in environment.lines() {
            assert!(!value.is_empty(), "{name}");
        }
    }
}
