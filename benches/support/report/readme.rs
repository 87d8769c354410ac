//! The table of README.md: what the newest report says, between two markers.

use super::{document::Document, markdown::tools_table, plots::Plot};

const BEGIN: &str = "<!-- report:begin -->";
const END: &str = "<!-- report:end -->";
/// Rows of the comparison that a first reader wants.
const ROWS: [&str; 9] = [
    "seq_read_1gb cold",
    "seq_read_1gb warm",
    "four_streams cold",
    "random_read_4kb cold",
    "random_read_4kb_16_threads_rate cold",
    "first_byte_cold cold",
    "readdir_1000 cold",
    "small_files_16_threads cold",
    "seq_read_1gb_cpu",
];

/// The text with what is between the markers made anew; `folder` is the report's, from the text's own folder.
///
/// # Errors
/// Without the markers, or without a comparison on loopback.
pub(super) fn refreshed(
    text: &str,
    document: &Document,
    folder: &str,
    plots: &[Plot],
) -> Result<String, String> {
    let (before, rest) = text
        .split_once(BEGIN)
        .ok_or_else(|| format!("README.md has no {BEGIN}: nowhere to put the table"))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("README.md has no {END} after {BEGIN}"))?;
    if document.part("compare").all(|record| record.link != "loopback") {
        return Err("no comparison on loopback to show in README.md".into());
    }
    let environment = &document.environment;
    // Of the programs compared, not of the one that writes this.
    let compared =
        document.records.iter().find(|record| record.part == "compare" && !record.commit.is_empty());
    let mut lines = vec![
        format!("{BEGIN}"),
        format!(
            "Measured {} on {}, {} cores, {} ({} at commit {}): [the whole report]({folder}/report.md). Medians on loopback; \
             fresh mount, empty caches, \
             each tool as it comes (Wormhole with its disk cache); bold is the best with a network in it.",
            environment.date,
            environment.cpu,
            environment.cores,
            environment.memory,
            environment.version,
            compared.map_or(&environment.commit, |record| &record.commit)
        ),
        String::new(),
    ];
    let table = tools_table(document, "loopback");
    let is_wanted = |line: &str| {
        let Some(cells) = line.strip_prefix("| ") else {
            return line.starts_with("|--") || line.starts_with('[');
        };
        line.starts_with("| |")
            || ROWS.iter().any(|row| cells.starts_with(&format!("{row},")))
            || cells.starts_with("| ")
    };
    let wanted: Vec<&str> = table.lines().filter(|line| is_wanted(line)).collect();
    // A reason that no row here points to is left out.
    let is_used = |line: &str| {
        let Some((mark, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
            return true;
        };
        wanted.iter().any(|row| row.starts_with('|') && row.contains(&format!("[{mark}]")))
    };
    lines.extend(wanted.iter().filter(|line| is_used(line)).map(|&line| line.to_owned()));
    if let Some(plot) = plots.iter().find(|plot| plot.file == "throughput-loopback.svg") {
        lines.extend([String::new(), format!("![{}]({folder}/{})", plot.title, plot.file)]);
    }
    // Reasons follow a table, not a row.
    if let Some(at) = lines.iter().position(|line| line.starts_with('[')) {
        lines.insert(at, String::new());
    }
    lines.push(END.to_owned());
    Ok(format!("{before}{}{after}", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::tests::sample;

    #[test]
    fn the_table_is_replaced_and_the_rest_stays() {
        let text = format!("# W\n{BEGIN}\nstale\n{END}\nend\n");
        let plots = [Plot { file: "throughput-loopback.svg".into(), title: "Sequential".into() }];
        let fresh = refreshed(&text, &sample(), "benches/reports/x", &plots).unwrap();
        assert!(fresh.starts_with("# W\n<!-- report:begin -->\nMeasured 2026-11-23"), "{fresh}");
        assert!(fresh.ends_with("<!-- report:end -->\nend\n") && !fresh.contains("stale"), "{fresh}");
        assert!(fresh.contains("| seq_read_1gb cold, MB/s | **900** | 400 |"), "{fresh}");
        assert!(fresh.contains("![Sequential](benches/reports/x/throughput-loopback.svg)"), "{fresh}");
        // Once more gives the same.
        assert_eq!(refreshed(&fresh, &sample(), "benches/reports/x", &plots).unwrap(), fresh);
    }

    #[test]
    fn a_text_without_markers_is_refused() {
        assert!(refreshed("# W", &sample(), "x", &[]).unwrap_err().contains("report:begin"));
    }
}
