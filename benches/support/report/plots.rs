//! Bars of the comparison, as SVG on a light ground: readable where a page shows it small.

use std::{error::Error, path::Path};

use crate::record::Record;
use plotters::prelude::*;

use super::document::significant;

const SIZE: (u32, u32) = (900, 420);
/// Of Wormhole, of its rivals, and of the bounds that no network is in.
const OURS: RGBColor = RGBColor(31, 119, 180);
const RIVAL: RGBColor = RGBColor(255, 153, 51);
const CEILING: RGBColor = RGBColor(170, 170, 170);
const FONT: &str = "sans-serif";

/// A plot that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plot {
    pub(super) file: String,
    pub(super) title: String,
}

/// What is drawn: a row of the comparison.
struct Drawn {
    file: &'static str,
    title: &'static str,
    row: (&'static str, &'static str),
}

const DRAWN: [Drawn; 4] = [
    Drawn { file: "throughput", title: "Sequential read, cold", row: ("seq_read_1gb", "cold") },
    Drawn {
        file: "small-files",
        title: "Small files, 16 threads, cold",
        row: ("small_files_16_threads", "cold"),
    },
    Drawn { file: "random-latency", title: "Random read of 4 KiB, cold", row: ("random_read_4kb", "cold") },
    Drawn { file: "first-byte", title: "First byte of a file, cold", row: ("first_byte_cold", "cold") },
];

/// Draws all rows that were measured, for each link.
pub(super) fn write_all(records: &[Record], folder: &Path) -> Result<Vec<Plot>, Box<dyn Error>> {
    let mut links: Vec<&str> = Vec::new();
    for record in records.iter().filter(|record| record.part == "compare") {
        if !links.contains(&record.link.as_str()) {
            links.push(&record.link);
        }
    }
    let mut plots = Vec::new();
    for link in links {
        for Drawn { file, title, row } in DRAWN {
            let of_row = |record: &&Record| {
                record.part == "compare"
                    && record.link == link
                    && (record.name.as_str(), record.cache.as_str()) == row
                    && record.is_measured()
            };
            let bars: Vec<&Record> = records.iter().filter(of_row).collect();
            if bars.is_empty() {
                continue;
            }
            let file = format!("{file}-{link}.svg");
            let title = format!("{title}, {link}");
            draw(&folder.join(&file), &title, &bars)?;
            plots.push(Plot { file, title });
        }
    }
    Ok(plots)
}

/// A group of bars a tool: p50 and p99 of a latency, the median of a rate.
fn draw(path: &Path, title: &str, records: &[&Record]) -> Result<(), Box<dyn Error>> {
    let is_latency = records[0].unit == "ms";
    let bars: Vec<(usize, f64, f64)> = records
        .iter()
        .enumerate()
        .flat_map(|(at, record)| {
            let figures =
                if is_latency { vec![record.spread.p50, record.spread.p99] } else { vec![record.value] };
            let width = 0.8 / figures.len() as f64;
            figures
                .into_iter()
                .enumerate()
                .map(move |(nth, value)| (at, at as f64 + 0.1 + nth as f64 * width + width / 2.0, value))
        })
        .collect();
    let most = bars.iter().map(|(_, _, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let half = if is_latency { 0.18 } else { 0.36 };
    let unit = &records[0].unit;
    let title = if is_latency { format!("{title}: p50 and p99, {unit}") } else { format!("{title}, {unit}") };

    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, (FONT, 22))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..records.len() as f64, 0.0..most * 1.12)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_labels(0)
        .y_desc(unit.as_str())
        .label_style((FONT, 14))
        .draw()?;
    chart.draw_series(bars.iter().map(|(at, middle, value)| {
        let color = color(&records[*at].tool);
        Rectangle::new([(middle - half, 0.0), (middle + half, *value)], color.filled())
    }))?;
    let label = (FONT, 14).into_font().color(&BLACK);
    let centered = label.clone().pos(plotters::style::text_anchor::Pos::new(
        plotters::style::text_anchor::HPos::Center,
        plotters::style::text_anchor::VPos::Bottom,
    ));
    chart.draw_series(
        bars.iter()
            .map(|(_, middle, value)| Text::new(significant(*value), (*middle, *value), centered.clone())),
    )?;
    let width = f64::from(SIZE.0 - 94) / records.len() as f64;
    for (at, record) in records.iter().enumerate() {
        // Below the axis, in pixels: the chart's own labels are numbers.
        let x = 82.0 + (at as f64 + 0.5) * width;
        let below = (FONT, 14).into_font().color(&BLACK).pos(plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Center,
            plotters::style::text_anchor::VPos::Top,
        ));
        #[expect(clippy::cast_possible_truncation, reason = "pixels of a plot of 900")]
        let place = (x as i32, i32::try_from(SIZE.1)? - 40);
        root.draw(&Text::new(record.tool.clone(), place, below))?;
    }
    root.present()?;
    Ok(())
}

fn color(tool: &str) -> RGBColor {
    match tool {
        "wormhole" => OURS,
        "bindfs" | "local" => CEILING,
        _ => RIVAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::document::tests::sample;

    #[test]
    fn a_plot_names_its_tools_its_unit_and_its_figures() {
        let folder = tempfile::tempdir().unwrap();
        let plots = write_all(&sample().records, folder.path()).unwrap();
        assert_eq!(plots.len(), 1);
        assert_eq!(plots[0].file, "throughput-loopback.svg");
        let svg = std::fs::read_to_string(folder.path().join(&plots[0].file)).unwrap();
        for word in ["wormhole", "sshfs", "MB/s", "900", "400", "#FFFFFF"] {
            assert!(svg.contains(word), "{word}: {svg}");
        }
        // No figure, no bar.
        assert!(!svg.contains("nfs<"), "{svg}");
    }
}
