//! The report: what the parts recorded, as Markdown, JSON and plots, with the headings of TARGETS.md.

mod document;
mod environment;
mod markdown;
mod plots;
mod previous;
mod readme;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use document::Document;
use environment::Environment;

use crate::record;

/// What to make of the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The records are of quick runs: the folder is `<date>-quick`.
    pub is_quick: bool,
    /// README.md gets its table anew.
    pub refreshes_readme: bool,
    /// In place of `benches/reports/<date>`.
    pub out: Option<PathBuf>,
}

/// Writes the report of all records there are, for the checkout at `root`; the files that it wrote for people.
///
/// # Errors
/// Without records; of the files; a README without the markers of its table.
pub fn compose(root: &Path, options: &Options) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let folder = record::folder()?;
    let records = if folder.is_dir() { record::load(&folder)? } else { Vec::new() };
    if records.is_empty() {
        return Err("no records: run `cargo ci report`, or single benches first".into());
    }
    let environment = Environment::of_this_machine(root, options.is_quick);
    let reports = root.join("benches/reports");
    let name = format!("{}{}", environment.date, if options.is_quick { "-quick" } else { "" });
    let folder = options.out.clone().unwrap_or_else(|| reports.join(&name));
    let earlier = previous::newest(&reports, &name)?;
    let document = Document { environment, records };
    fs::create_dir_all(&folder)?;
    let plots = plots::write_all(&document.records, &folder)?;
    let path = folder.join("report.md");
    fs::write(&path, markdown::report(&document, earlier.as_ref(), &plots))?;
    fs::write(folder.join("report.json"), serde_json::to_vec_pretty(&document)?)?;
    let mut written = vec![path];
    if options.refreshes_readme {
        let path = root.join("README.md");
        let shown = folder.strip_prefix(root).unwrap_or(&folder).display().to_string();
        let fresh = readme::refreshed(&fs::read_to_string(&path)?, &document, &shown, &plots)?;
        fs::write(&path, fresh)?;
        written.push(path);
    }
    Ok(written)
}
