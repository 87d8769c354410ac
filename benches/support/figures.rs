//! The records of a part that is measured piece by piece, and the verdict of one such run.

use std::{error::Error, io, process::ExitCode};

use crate::{
    record::{Record, Recorder, folder},
    run,
};

/// The unit of the row that stands for a whole run where it failed.
pub const RUN: &str = "run";

/// Records of a part: those of this run, and of earlier runs what this one did not measure again.
pub struct Figures {
    /// `None` where this run measures nothing that is worth keeping.
    recorder: Option<Recorder>,
    missed: Vec<String>,
    failed: Vec<String>,
}

impl Figures {
    /// Goes on with a part, in the usual folder.
    ///
    /// # Errors
    /// As [`Recorder::resume`].
    pub fn resume(part: &str) -> io::Result<Figures> {
        let recorder = run::is_measured().then(|| Recorder::resume(&folder()?, part)).transpose()?;
        Ok(Figures { recorder, missed: Vec::new(), failed: Vec::new() })
    }

    /// Prints a figure and keeps it, in place of the same of an earlier run.
    ///
    /// # Errors
    /// Of the file.
    #[expect(
        clippy::print_stdout,
        clippy::needless_pass_by_value,
        reason = "figures are the output, made where they are given"
    )]
    pub fn add(&mut self, record: Record) -> io::Result<()> {
        if record.verdict() == "missed" {
            self.missed.push(format!("{} {}", record.name, record.link));
        }
        match &mut self.recorder {
            Some(recorder) => recorder.add(&record),
            None => {
                println!("{record}");
                Ok(())
            }
        }
    }

    /// Keeps why a run of several figures failed, in the `row` that stands for the whole of it, and prints it; of one that did
    /// not fail no such row stays.
    ///
    /// # Errors
    /// Of the file.
    #[expect(clippy::print_stderr, reason = "errors are for people")]
    pub fn ended(&mut self, row: Record, ended: Result<(), Box<dyn Error>>) -> io::Result<()> {
        let Err(why) = ended else {
            return self.recorder.as_mut().map_or(Ok(()), |recorder| recorder.drop_row(&row));
        };
        eprintln!("{} {} FAILED: {why}", row.name, row.link);
        self.failed.push(format!("{} {}", row.name, row.link));
        self.add(row.note(format!("failed: {why}")))
    }

    /// Says which runs failed and which figures missed their targets; a failure where there is one.
    #[expect(clippy::print_stdout, reason = "the end of what people read")]
    pub fn verdict(&self) -> ExitCode {
        if !self.failed.is_empty() {
            println!("FAILED: {}", self.failed.join(", "));
        }
        if self.missed.is_empty() && self.failed.is_empty() {
            println!("every target met");
            return ExitCode::SUCCESS;
        }
        if !self.missed.is_empty() {
            println!("MISSED: {}", self.missed.join(", "));
        }
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{self, Target};

    #[test]
    fn a_missed_target_fails_the_run_and_one_without_a_target_does_not() {
        let mut figures = Figures { recorder: None, missed: Vec::new(), failed: Vec::new() };
        figures.add(Record::new("part", "told", "ms", &[5.0])).unwrap();
        assert_eq!(format!("{:?}", figures.verdict()), format!("{:?}", ExitCode::SUCCESS));
        figures.add(Record::new("part", "slow", "ms", &[5.0]).target(Target::AtMost(4.0))).unwrap();
        assert_eq!(format!("{:?}", figures.verdict()), format!("{:?}", ExitCode::FAILURE));
    }

    #[test]
    fn a_run_that_failed_is_kept_with_its_reason_until_it_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let begin = || Figures {
            recorder: Some(Recorder::resume(folder.path(), "scale").unwrap()),
            missed: Vec::new(),
            failed: Vec::new(),
        };
        let row = || Record::absent("scale", "idle", RUN, "");
        let mut figures = begin();
        figures.ended(row(), Err("no host".into())).unwrap();
        figures.add(Record::new("scale", "file_1tb", "TB", &[1.5])).unwrap();
        assert_eq!(format!("{:?}", figures.verdict()), format!("{:?}", ExitCode::FAILURE));
        let kept = record::load(folder.path()).unwrap();
        assert_eq!((kept.len(), kept[0].note.as_str()), (2, "failed: no host"));
        let mut figures = begin();
        figures.ended(row(), Ok(())).unwrap();
        assert_eq!(format!("{:?}", figures.verdict()), format!("{:?}", ExitCode::SUCCESS));
        let kept = record::load(folder.path()).unwrap();
        assert_eq!(kept.iter().map(|record| record.name.as_str()).collect::<Vec<_>>(), ["file_1tb"]);
    }
}
