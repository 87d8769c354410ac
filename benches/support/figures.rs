//! The records of a part that is measured piece by piece, and the verdict of one such run.

use std::{fs, io, path::PathBuf, process::ExitCode};

use crate::{
    record::{Record, folder, load_file},
    run,
};

/// Records of a part: those of this run, and of earlier runs what this one did not measure again.
pub struct Figures {
    path: PathBuf,
    records: Vec<Record>,
    missed: Vec<String>,
}

impl Figures {
    /// Goes on with a part, in the usual folder. Records that cannot be read any more are left behind.
    ///
    /// # Errors
    /// Of the folder.
    pub fn resume(part: &str) -> io::Result<Figures> {
        fs::create_dir_all(folder()?)?;
        let path = folder()?.join(format!("{part}.jsonl"));
        let records = load_file(&path).unwrap_or_default();
        Ok(Figures { path, records, missed: Vec::new() })
    }

    /// Prints a figure and keeps it, in place of the same of an earlier run.
    ///
    /// # Errors
    /// Of the file.
    #[expect(clippy::print_stdout, reason = "figures are the output")]
    pub fn add(&mut self, record: Record) -> io::Result<()> {
        println!("{record}");
        if record.verdict() == "missed" {
            self.missed.push(format!("{} {}", record.name, record.link));
        }
        if !run::is_measured() {
            return Ok(());
        }
        self.records.retain(|old| !is_same_figure(old, &record));
        self.records.push(record);
        let mut lines = Vec::new();
        for record in &self.records {
            serde_json::to_writer(&mut lines, record)?;
            lines.push(b'\n');
        }
        // As a whole or not at all: a signal may end this at any time.
        let fresh = self.path.with_extension("jsonl.new");
        fs::write(&fresh, lines)?;
        fs::rename(fresh, &self.path)
    }

    /// Says which figures of this run missed their targets; a failure where one did.
    #[expect(clippy::print_stdout, reason = "the end of what people read")]
    pub fn verdict(&self) -> ExitCode {
        if self.missed.is_empty() {
            println!("every target met");
            return ExitCode::SUCCESS;
        }
        println!("MISSED: {}", self.missed.join(", "));
        ExitCode::FAILURE
    }
}

fn is_same_figure(a: &Record, b: &Record) -> bool {
    (&a.name, &a.tool, &a.link, &a.cache) == (&b.name, &b.tool, &b.link, &b.cache)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Target;

    #[test]
    fn a_missed_target_fails_the_run_and_one_without_a_target_does_not() {
        let mut figures = Figures { path: PathBuf::new(), records: Vec::new(), missed: Vec::new() };
        figures.add(Record::new("part", "told", "ms", &[5.0])).unwrap();
        assert_eq!(format!("{:?}", figures.verdict()), format!("{:?}", ExitCode::SUCCESS));
        figures.add(Record::new("part", "slow", "ms", &[5.0]).target(Target::AtMost(4.0))).unwrap();
        assert_eq!(format!("{:?}", figures.verdict()), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn a_figure_replaces_the_same_of_another_run_and_no_other() {
        let one = Record::new("part", "read", "ms", &[5.0]);
        assert!(is_same_figure(&one, &Record::new("part", "read", "ms", &[7.0])));
        assert!(!is_same_figure(&one, &one.clone().link("lan")));
    }
}
