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
/// A bar so many times another one's height leaves nothing to see of it.
const DWARFS: f64 = 20.0;
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
            // The folder itself has neither a mount nor a network in it, and would dwarf all that has.
            let (bars, local): (Vec<&Record>, Vec<&Record>) =
                records.iter().filter(of_row).partition(|record| record.tool != "local");
            if bars.is_empty() {
                continue;
            }
            let file = format!("{file}-{link}.svg");
            let title = match local.first() {
                Some(local) => format!("{title}, {link} (local folder: {})", significant(local.value)),
                None => format!("{title}, {link}"),
            };
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
    let least = bars.iter().map(|(_, _, value)| *value).fold(f64::MAX, f64::min).max(f64::MIN_POSITIVE);
    let axis = Axis::over(least, most);
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
        .build_cartesian_2d(
            0.0..records.len() as f64,
            axis.bottom()..axis.place(most) + (axis.place(most) - axis.bottom()) * 0.12,
        )?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .x_labels(0)
        .y_desc(axis.named(unit))
        .y_label_formatter(&|place| axis.label(*place))
        .label_style((FONT, 14))
        .draw()?;
    chart.draw_series(bars.iter().map(|(at, middle, value)| {
        let color = color(&records[*at].tool);
        Rectangle::new([(middle - half, axis.bottom()), (middle + half, axis.place(*value))], color.filled())
    }))?;
    let label = (FONT, 14).into_font().color(&BLACK);
    let centered = label.clone().pos(plotters::style::text_anchor::Pos::new(
        plotters::style::text_anchor::HPos::Center,
        plotters::style::text_anchor::VPos::Bottom,
    ));
    chart.draw_series(bars.iter().map(|(_, middle, value)| {
        Text::new(significant(*value), (*middle, axis.place(*value)), centered.clone())
    }))?;
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

/// How figures become heights: bars that one of them would dwarf stand on a logarithmic axis.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Axis {
    Linear,
    /// From this power of ten on.
    Logarithmic(f64),
}

impl Axis {
    fn over(least: f64, most: f64) -> Axis {
        if most > DWARFS * least { Axis::Logarithmic((least.log10() - 0.1).floor()) } else { Axis::Linear }
    }

    fn bottom(self) -> f64 {
        match self {
            Axis::Linear => 0.0,
            Axis::Logarithmic(power) => power,
        }
    }

    fn place(self, value: f64) -> f64 {
        match self {
            Axis::Linear => value,
            Axis::Logarithmic(power) => value.max(f64::MIN_POSITIVE).log10().max(power),
        }
    }

    fn label(self, place: f64) -> String {
        match self {
            Axis::Linear => significant(place),
            Axis::Logarithmic(_) => significant(10f64.powf(place)),
        }
    }

    fn named(self, unit: &str) -> String {
        match self {
            Axis::Linear => unit.to_owned(),
            Axis::Logarithmic(_) => format!("{unit}, logarithmic"),
        }
    }
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
    fn bars_that_one_dwarfs_stand_on_a_logarithmic_axis() {
        assert_eq!(Axis::over(50.0, 900.0), Axis::Linear);
        let axis = Axis::over(0.2, 90.0);
        assert_eq!((axis, axis.bottom()), (Axis::Logarithmic(-1.0), -1.0));
        assert!(axis.place(0.2) > axis.bottom() && axis.place(90.0) < 2.0 && axis.place(0.0) >= -1.0);
        assert_eq!((axis.label(1.0), axis.named("ms")), ("10.0".to_owned(), "ms, logarithmic".to_owned()));
    }

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
