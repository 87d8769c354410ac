//! One thing a check found, and how a list of them is told.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// A place that breaks a rule, and what to do there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: PathBuf,
    /// From 1.
    line: usize,
    rule: &'static str,
    what_to_do: String,
}

impl Finding {
    pub(crate) fn new(path: &Path, line: usize, rule: &'static str, what_to_do: impl Into<String>) -> Self {
        Self { path: path.to_path_buf(), line, rule, what_to_do: what_to_do.into() }
    }

    #[cfg(test)]
    pub(crate) fn rule(&self) -> &'static str {
        self.rule
    }

    #[cfg(test)]
    pub(crate) fn line(&self) -> usize {
        self.line
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path.display(), self.line, self.rule, self.what_to_do)
    }
}

/// Prints the findings in the order of the tree; any of them is a failure.
pub(crate) fn report(check: &str, files_seen: usize, mut findings: Vec<Finding>) -> Result<(), Failure> {
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("ci: {check}: {files_seen} files, nothing to do");
        Ok(())
    } else {
        Err(format!("{check}: {} places to mend, listed above", findings.len()).into())
    }
}
