//! Why a step stopped.

use std::fmt;

/// The end of a run: what is left to say about it, if anything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// One line for people: what failed, on what, why, what to do.
    Line(String),
    /// The command that failed has said everything; a line of ours would only hide its last words.
    Shown,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => f.write_str(line),
            Self::Shown => f.write_str("failed, see above"),
        }
    }
}

impl From<String> for Failure {
    fn from(line: String) -> Self {
        Self::Line(line)
    }
}
