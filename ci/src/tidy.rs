//! `cargo ci tidy`: the lines of the style guide that a machine can check.

mod rules;

use std::path::Path;

use crate::deps;
use crate::failure::Failure;
use crate::finding::{self, Finding};
use crate::repo::Repo;
use crate::source::Source;

/// Checks every file of the checkout and prints each place to mend.
pub(crate) fn run(repo: &Repo) -> Result<(), Failure> {
    let files = repo.files()?;
    let mut findings = deps::unsafe_headers(repo, &files)?;
    let mut seen = 0;
    for path in &files {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => findings.extend(check_rust(path, &repo.read(path)?)),
            Some("sh" | "toml") => findings.extend(rules::marks_in_text(path, &repo.read(path)?)),
            _ => continue,
        }
        seen += 1;
    }
    finding::report("tidy", seen, findings)
}

/// Every rule about one Rust file; `path` is relative to the root.
fn check_rust(path: &Path, text: &str) -> Vec<Finding> {
    let source = Source::parse(path, text);
    let mut findings = Vec::new();
    findings.extend(rules::file_length(&source));
    findings.extend(rules::function_length(&source));
    findings.extend(rules::module_names(&source));
    findings.extend(rules::errno(&source));
    findings.extend(rules::copies(&source));
    findings.extend(rules::clocks_in_tests(&source));
    findings.extend(rules::marks(&source));
    findings
}
