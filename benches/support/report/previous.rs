//! The report before this one, and how figures moved since.

use std::{fs, io, path::Path};

use crate::record::Record;

use super::document::{Document, is_rate};

/// From this ratio on, either way, a figure has moved.
const MOVED: f64 = 0.10;

/// The newest report of a folder of reports but the one of that name; its name and what it says. Quick reports are
/// compared with quick ones, full with full ones: their sizes differ.
///
/// # Errors
/// Of the files, or of one that is no report.
pub(super) fn newest(reports: &Path, own: &str) -> io::Result<Option<(String, Document)>> {
    let is_quick = own.ends_with("-quick");
    let Ok(entries) = fs::read_dir(reports) else { return Ok(None) };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    // By their date, which they begin with.
    names.sort();
    for name in names.into_iter().rev().filter(|name| name != own && name.ends_with("-quick") == is_quick) {
        let path = reports.join(&name).join("report.json");
        if path.exists() {
            let document = serde_json::from_slice(&fs::read(&path)?)
                .map_err(|why| io::Error::other(format!("{}: {why}", path.display())))?;
            return Ok(Some((name, document)));
        }
    }
    Ok(None)
}

/// A figure beside the same of an earlier report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) before: f64,
    /// Now divided by before.
    pub(super) ratio: f64,
    pub(super) verdict: &'static str,
}

/// Of one figure; `None` where the earlier report has not got it.
pub(super) fn change(record: &Record, earlier: &Document) -> Option<Change> {
    let same = |old: &&Record| {
        (&old.part, &old.name, &old.tool, &old.link, &old.cache, &old.unit)
            == (&record.part, &record.name, &record.tool, &record.link, &record.cache, &record.unit)
    };
    let old = earlier.records.iter().find(same)?;
    if !(record.is_measured() && old.is_measured()) || old.value == 0.0 {
        return None;
    }
    let ratio = record.value / old.value;
    let verdict = match ratio {
        ratio if (ratio - 1.0).abs() <= MOVED => "same",
        ratio if (ratio > 1.0) == is_rate(&record.unit) => "**better**",
        _ => "**worse**",
    };
    Some(Change { before: old.value, ratio, verdict })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::tests::sample;

    #[test]
    fn more_is_better_of_a_rate_and_worse_of_a_latency() {
        let (now, mut before) = (sample(), sample());
        for record in &mut before.records {
            record.value /= 1.5;
        }
        let of = |name: &str| {
            let record = now.records.iter().find(|record| record.name == name).unwrap();
            change(record, &before).map(|change| change.verdict)
        };
        assert_eq!(of("video"), Some("**better**"));
        assert_eq!(of("stat_latency"), Some("**worse**"));
        assert_eq!(change(&now.records[0], &now).unwrap().verdict, "same");
        // Not measured now, or not then.
        assert_eq!(change(&now.records[2], &before), None);
        assert_eq!(change(&Record::new("scale", "new", "s", &[1.0]), &before), None);
    }

    #[test]
    fn the_newest_of_the_same_sizes_is_found() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["2026-01-01", "2026-03-01", "2026-04-01-quick", "2026-05-01"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            let json = serde_json::to_vec(&sample()).unwrap();
            fs::write(folder.path().join(name).join("report.json"), json).unwrap();
        }
        let found = |own| newest(folder.path(), own).unwrap().map(|(name, _)| name);
        assert_eq!(found("2026-05-01").as_deref(), Some("2026-03-01"));
        assert_eq!(found("2026-05-01-quick").as_deref(), Some("2026-04-01-quick"));
        assert_eq!(newest(&folder.path().join("none"), "x").unwrap(), None);
    }
}
