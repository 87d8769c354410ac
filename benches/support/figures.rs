//! The records of a part that is measured piece by piece, and the verdict of one such run.

use std::{io, process::ExitCode};

use crate::{
    record::{Record, Recorder, folder},
    run,
};

/// Records of a part: those of this run, and of earlier runs what this one did not measure again.
pub struct Figures {
    /// `None` where this run measures nothing that is worth keeping.
    recorder: Option<Recorder>,
    missed: Vec<String>,
}

impl Figures {
    /// Goes on with a part, in the usual folder.
    ///
    /// # Errors
    /// As [`Recorder::resume`].
    pub fn resume(part: &str) -> io::Result<Figures> {
        let recorder = run::is_measured().then(|| Recorder::resume(&folder()?, part)).transpose()?;
        Ok(Figures { recorder, missed: Vec::new() })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Target;

    #[test]
    fn a_missed_target_fails_the_run_and_one_without_a_target_does_not() {
        let mut figures = Figures { recorder: None, missed: Vec::new() };
        figures.add(Record::new("part", "told", "ms", &[5.0])).unwrap();
        assert_eq!(format!("{:?}", figures.verdict()), format!("{:?}", ExitCode::SUCCESS));
        figures.add(Record::new("part", "slow", "ms", &[5.0]).target(Target::AtMost(4.0))).unwrap();
        assert_eq!(format!("{:?}", figures.verdict()), format!("{:?}", ExitCode::FAILURE));
    }
}
