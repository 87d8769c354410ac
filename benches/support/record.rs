//! Measured figures as records, one JSON object a line, for `cargo ci report`.
//!
//! A program that measures makes one [`Recorder`] and gives it each figure as it is known. What a part wrote before is
//! replaced when the recorder is made, so a folder of records is of the last run of each part. A run that measures
//! nothing (`--test`, `cargo test`) records nothing.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde::{Deserialize, Serialize};

use crate::run::{self, Scale};

/// A figure: what was measured, of whom, where, and what it is held against.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The part of the report it belongs to: `throughput`, `scenarios`, `scale`, `compare`.
    pub part: String,
    /// The row, in the words of TARGETS.md where it has one: `seq_read_1gb`.
    pub name: String,
    /// Whose figure: `wormhole`, `sshfs`, `bindfs`, `local`.
    pub tool: String,
    /// The path between both ends: `loopback`, `lan`, `wan-good`, `veth`.
    pub link: String,
    /// The state of the caches: `cold`, `warm`, `hot`, or empty where it does not apply.
    pub cache: String,
    /// `MB/s`, `IOPS`, `ms`, `s`, `MiB`, `CPU-s/GiB`, `%`, `count`.
    pub unit: String,
    /// The figure itself: the median, or the only one.
    pub value: f64,
    /// How the measured values are spread.
    pub spread: Spread,
    /// What `value` is held against.
    pub target: Option<Target>,
    /// The best that could be expected here, in the same unit, and what it is: `memcpy`, `page cache`.
    pub ceiling: Option<(String, f64)>,
    /// What a reader must know: why there is no figure, what was odd.
    pub note: String,
    /// Of the checkout when it was taken: `6ed7e4b012`, with `-dirty` where it had changes; empty where nobody knows.
    #[serde(default)]
    pub commit: String,
}

/// How measured values are spread; of one value, all are equal.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// How many there are: operations of a latency, runs of a throughput.
    pub count: u64,
    /// The least.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// 95 of 100 are at most that.
    pub p95: f64,
    /// 99 of 100 are at most that.
    pub p99: f64,
    /// The most.
    pub max: f64,
}

/// A bound, in the unit of the record.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// More is better.
    AtLeast(f64),
    /// Less is better.
    AtMost(f64),
}

impl Target {
    /// Whether `value` meets it.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Target::AtLeast(least) => value >= least,
            Target::AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::AtLeast(least) => write!(f, ">= {}", to_thousandths(*least)),
            Target::AtMost(most) => write!(f, "<= {}", to_thousandths(*most)),
        }
    }
}

/// Bytes as MiB, and milliseconds, have more digits than a reader wants.
fn to_thousandths(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl Spread {
    /// Of values in any order.
    ///
    /// # Panics
    /// Without values: there is nothing to record then.
    pub fn of(values: &[f64]) -> Spread {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1).expect("at least one value");
        // The value at or above which no more than that share of them lies.
        let at = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1).min(last)];
        Spread {
            count: sorted.len() as u64,
            min: sorted[0],
            p50: at(50),
            p95: at(95),
            p99: at(99),
            max: sorted[last],
        }
    }
}

impl Record {
    /// The median of `values`, of Wormhole over loopback; the rest by the methods below.
    ///
    /// # Panics
    /// Without values.
    pub fn new(part: &str, name: &str, unit: &str, values: &[f64]) -> Record {
        Record::spread(part, name, unit, Spread::of(values))
    }

    /// The same of values that were counted elsewhere.
    pub fn spread(part: &str, name: &str, unit: &str, spread: Spread) -> Record {
        Record {
            part: part.into(),
            name: name.into(),
            tool: "wormhole".into(),
            link: "loopback".into(),
            cache: String::new(),
            unit: unit.into(),
            value: spread.p50,
            spread,
            target: None,
            ceiling: None,
            note: String::new(),
            commit: String::new(),
        }
    }

    /// No figure, and why: its value and spread are zeros of a count of 0.
    pub fn absent(part: &str, name: &str, unit: &str, why: impl Into<String>) -> Record {
        let none = Spread { count: 0, min: 0.0, p50: 0.0, p95: 0.0, p99: 0.0, max: 0.0 };
        Record::spread(part, name, unit, none).note(why)
    }

    /// Whether there is a figure.
    pub fn is_measured(&self) -> bool {
        self.spread.count > 0
    }

    /// Of another tool.
    #[must_use]
    pub fn tool(mut self, tool: &str) -> Record {
        self.tool = tool.into();
        self
    }

    /// Over another link.
    #[must_use]
    pub fn link(mut self, link: &str) -> Record {
        self.link = link.into();
        self
    }

    /// With the caches in that state.
    #[must_use]
    pub fn cache(mut self, cache: &str) -> Record {
        self.cache = cache.into();
        self
    }

    /// Held against a bound.
    #[must_use]
    pub fn target(mut self, target: Target) -> Record {
        self.target = Some(target);
        self
    }

    /// Beside what could be expected at best.
    #[must_use]
    pub fn ceiling(mut self, what: &str, value: f64) -> Record {
        self.ceiling = Some((what.into(), value));
        self
    }

    /// With a remark.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Record {
        self.note = note.into();
        self
    }

    /// `met`, `missed`, `told` where nothing was promised, or `not measured`.
    pub fn verdict(&self) -> &'static str {
        match self.target {
            _ if !self.is_measured() => "not measured",
            None => "told",
            Some(target) if target.is_met(self.value) => "met",
            Some(_) => "missed",
        }
    }
}

/// One line for people: the figure, its spread and its verdict.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { name, tool, link, cache, unit, value, spread, .. } = self;
        write!(f, "{name} {tool} {link}")?;
        if !cache.is_empty() {
            write!(f, " {cache}")?;
        }
        if !self.is_measured() {
            return write!(f, ": no figure in {unit}: {}", self.note);
        }
        write!(f, ": {value:.3} {unit}")?;
        if spread.count > 1 {
            let Spread { count, min, p95, p99, max, .. } = spread;
            write!(f, " [{min:.3}-{max:.3}] p95 {p95:.3} p99 {p99:.3} n {count}")?;
        }
        if let Some((what, ceiling)) = &self.ceiling {
            write!(f, "; {what} {ceiling:.3}")?;
        }
        if let Some(target) = self.target {
            write!(f, "; target {target}: {}", self.verdict())?;
        }
        if !self.note.is_empty() {
            write!(f, "; {}", self.note)?;
        }
        Ok(())
    }
}

/// Where records are kept between a run and the report: `wormhole-records` in cargo's target folder.
///
/// # Errors
/// Of a program that is not where cargo builds one.
pub fn folder() -> io::Result<PathBuf> {
    Ok(run::target_folder()?.join("wormhole-records"))
}

/// What the note of a short run's figure begins with.
const QUICK: &str = "short run: smaller or fewer than the row says";

/// Writes the records of one part, and a line of each to standard output.
pub struct Recorder {
    path: PathBuf,
    /// Of runs before, not measured again so far.
    former: Vec<Record>,
    lines: Vec<Record>,
}

impl Recorder {
    /// Begins a part anew.
    ///
    /// # Errors
    /// Of the folder or the file.
    pub fn begin(folder: &Path, part: &str) -> io::Result<Recorder> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{part}.jsonl"));
        fs::write(&path, "")?;
        Ok(Recorder { path, former: Vec::new(), lines: Vec::new() })
    }

    /// Goes on with a part: a figure replaces the former one of the same row, tool, link, cache state and unit. For programs
    /// whose user picks cases.
    ///
    /// # Errors
    /// Of the folder or the file; of a line that is no record.
    pub fn resume(folder: &Path, part: &str) -> io::Result<Recorder> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{part}.jsonl"));
        let former = if path.exists() { load_file(&path)? } else { Vec::new() };
        Ok(Recorder { path, former, lines: Vec::new() })
    }

    /// Keeps a figure and prints it. A figure of a short run (`--quick`) says so: its row is that of the full size.
    ///
    /// # Errors
    /// Of the file.
    #[expect(clippy::print_stdout, reason = "a bench's figures are its output")]
    pub fn add(&mut self, record: &Record) -> io::Result<()> {
        let mut record = record.clone();
        if Scale::of_this_run() == Scale::Quick && run::is_measured() {
            let end = if record.note.is_empty() { "" } else { "; " };
            record.note = format!("{QUICK}{end}{}", record.note);
        }
        if run::is_measured() {
            commit().clone_into(&mut record.commit);
        }
        println!("{record}");
        self.former.retain(|former| row(former) != row(&record));
        self.lines.push(record);
        self.write()
    }

    /// Keeps no figure of that row, of a run before or of this.
    ///
    /// # Errors
    /// Of the file.
    pub fn drop_row(&mut self, record: &Record) -> io::Result<()> {
        self.former.retain(|former| row(former) != row(record));
        self.lines.retain(|line| row(line) != row(record));
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let mut text = Vec::new();
        for line in self.former.iter().chain(&self.lines) {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        // A part is some dozens of lines: written whole, so that no reader meets half of one.
        let whole = self.path.with_extension("new");
        fs::write(&whole, text)?;
        fs::rename(whole, &self.path)
    }
}

/// What makes a figure another one.
fn row(record: &Record) -> [&str; 5] {
    let Record { name, tool, link, cache, unit, .. } = record;
    [name, tool, link, cache, unit]
}

/// Of the checkout that this program was built in, as it is now; empty where that is none.
pub(crate) fn commit() -> &'static str {
    static COMMIT: OnceLock<String> = OnceLock::new();
    COMMIT.get_or_init(|| {
        let mut git = Command::new("git");
        git.args(["describe", "--always", "--abbrev=10", "--exclude=*", "--dirty"]);
        let said = git.current_dir(env!("CARGO_MANIFEST_DIR")).output();
        let said = said.ok().filter(|output| output.status.success());
        said.map_or_else(String::new, |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    })
}

/// All records of a folder, part by part in the order of their names.
///
/// # Errors
/// Of the files; a line that is no record names its file and number.
pub fn load(folder: &Path) -> io::Result<Vec<Record>> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    let mut records = Vec::new();
    for path in paths {
        records.extend(load_file(&path)?);
    }
    Ok(records)
}

/// The records of one part.
///
/// # Errors
/// As [`load`].
pub fn load_file(path: &Path) -> io::Result<Vec<Record>> {
    let wrong = |index, why| io::Error::other(format!("{}:{}: {why}", path.display(), index + 1));
    let lines = fs::read_to_string(path)?;
    let records = lines.lines().enumerate();
    records
        .map(|(index, line)| serde_json::from_str(line).map_err(|why: serde_json::Error| wrong(index, why)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let spread = Spread::of(&values);
        assert_eq!(
            (spread.count, spread.min, spread.p50, spread.p95, spread.p99, spread.max),
            (100, 1.0, 50.0, 95.0, 99.0, 100.0)
        );
        let one = Spread::of(&[7.0]);
        assert_eq!((one.min, one.p50, one.p99, one.max), (7.0, 7.0, 7.0, 7.0));
    }

    #[test]
    fn what_is_recorded_is_loaded_again_and_a_new_run_replaces_it() {
        let folder = tempfile::tempdir().unwrap();
        let record = |value| {
            Record::new("scenarios", "video", "MB/s", &[value])
                .link("lan")
                .cache("cold")
                .target(Target::AtLeast(60.0))
                .ceiling("link", 125.0)
                .note("of 24 frames a second")
        };
        Recorder::begin(folder.path(), "scenarios").unwrap().add(&record(50.0)).unwrap();
        let mut recorder = Recorder::begin(folder.path(), "scenarios").unwrap();
        recorder.add(&record(70.0)).unwrap();
        assert_eq!(load(folder.path()).unwrap(), [record(70.0)]);
        assert_eq!((record(70.0).verdict(), record(50.0).verdict()), ("met", "missed"));
    }

    #[test]
    fn a_part_that_goes_on_keeps_the_rows_that_are_not_measured_again() {
        let folder = tempfile::tempdir().unwrap();
        let record = |name, value| Record::new("latency", name, "ms", &[value]);
        for value in [1.0, 2.0] {
            let mut recorder = Recorder::resume(folder.path(), "latency").unwrap();
            recorder.add(&record("stat_latency", value)).unwrap();
        }
        let mut recorder = Recorder::resume(folder.path(), "latency").unwrap();
        recorder.add(&record("readdir_1000", 3.0)).unwrap();
        assert_eq!(load(folder.path()).unwrap(), [record("stat_latency", 2.0), record("readdir_1000", 3.0)]);
    }

    #[test]
    fn a_figure_that_could_not_be_taken_is_kept_with_its_reason() {
        let absent = Record::absent("compare", "stat_latency", "ms", "hung").target(Target::AtMost(1.0));
        assert_eq!((absent.is_measured(), absent.verdict()), (false, "not measured"));
        assert_eq!(absent.to_string(), "stat_latency wormhole loopback: no figure in ms: hung");
    }

    #[test]
    fn a_broken_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("scale.jsonl"), "{}\n").unwrap();
        let why = load(folder.path()).unwrap_err().to_string();
        assert!(why.contains("scale.jsonl:1: missing field"), "{why}");
    }
}
