//! The committed figures: a case, its unit and its value a line.

use std::fmt;

const HEAD: &str = "case,unit,value";
/// What a figure may be above its line, as a factor.
const RISE_MAX: f64 = 1.05;
/// Below that it is worth a new line.
const FALL: f64 = 0.95;

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) case: String,
    pub(crate) unit: String,
    pub(crate) value: f64,
}

/// All of them, in the order in which they are measured.
#[derive(Debug, PartialEq)]
pub(crate) struct Table(pub(crate) Vec<Row>);

impl Table {
    /// Reads the file; the error names the line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return Err(format!("the first line is not {HEAD:?}"));
        }
        let row = |line: &str| {
            let mut fields = line.split(',');
            let (case, unit) = (fields.next()?.to_owned(), fields.next()?.to_owned());
            let value = fields.next()?.parse().ok().filter(|value: &f64| *value > 0.0)?;
            fields.next().is_none().then_some(Row { case, unit, value })
        };
        let row = |(at, line): (usize, &str)| row(line).ok_or_else(|| format!("line {}: {line:?}", at + 2));
        lines.enumerate().map(row).collect::<Result<_, _>>().map(Self)
    }

    fn value_of(&self, row: &Row) -> Option<f64> {
        self.0.iter().find(|line| line.case == row.case && line.unit == row.unit).map(|line| line.value)
    }

    /// A measured figure beside its line.
    pub(crate) fn verdict(&self, row: &Row) -> String {
        let Row { case, unit, value } = row;
        let verdict = match self.value_of(row) {
            None => "new".to_owned(),
            Some(line) if *value > line * RISE_MAX => format!("ROSE {}", change(line, *value)),
            Some(line) if *value < line * FALL => format!("fell {}, --write keeps it", change(line, *value)),
            Some(line) => change(line, *value),
        };
        format!("{case:<26} {value:>12.1} {unit:<18} {verdict}")
    }

    /// What is wrong with what was measured; lines that were not are wrong only where all were to be.
    pub(crate) fn faults(&self, measured: &[Row], is_whole: bool) -> Vec<String> {
        let rose = measured.iter().filter_map(|row| {
            let Row { case, unit, value } = row;
            match self.value_of(row) {
                None => Some(format!("{case} ({unit}) has no line")),
                Some(line) if *value > line * RISE_MAX => {
                    Some(format!("{case}: {value:.1} {unit}, {} over {line:.1}", change(line, *value)))
                }
                Some(_) => None,
            }
        });
        let gone = self
            .0
            .iter()
            .filter(|line| {
                is_whole && !measured.iter().any(|row| row.case == line.case && row.unit == line.unit)
            })
            .map(|line| format!("{} ({}) is not measured any more", line.case, line.unit));
        rose.chain(gone).collect()
    }
}

fn change(line: f64, value: f64) -> String {
    format!("{:+.1} %", 100.0 * (value / line - 1.0))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}")?;
        self.0.iter().try_for_each(|Row { case, unit, value }| writeln!(f, "{case},{unit},{value:.1}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(case: &str, value: f64) -> Row {
        Row { case: case.into(), unit: "calls/MiB".into(), value }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let table = Table(vec![row("host", 21.5), row("mount", 2.0)]);
        assert_eq!(Table::parse(&table.to_string()), Ok(table));
    }

    #[test]
    fn a_broken_line_is_named() {
        let why = Table::parse("case,unit,value\na,b,1\na,b\n").unwrap_err();
        assert!(why.starts_with("line 3"), "{why}");
        assert!(Table::parse("a,b,1\n").is_err());
        assert!(Table::parse("case,unit,value\na,b,0\n").is_err());
    }

    #[test]
    fn a_rise_above_five_per_cent_is_a_fault_and_a_fall_is_not() {
        let table = Table(vec![row("host", 100.0)]);
        assert!(table.faults(&[row("host", 105.0)], true).is_empty());
        assert!(table.faults(&[row("host", 50.0)], true).is_empty());
        assert_eq!(table.faults(&[row("host", 105.1)], true).len(), 1);
        assert!(table.verdict(&row("host", 105.1)).contains("ROSE +5.1 %"));
        assert!(table.verdict(&row("host", 50.0)).contains("--write"));
    }

    #[test]
    fn lines_and_figures_have_to_be_the_same_ones() {
        let table = Table(vec![row("host", 100.0)]);
        assert_eq!(table.faults(&[row("mount", 1.0)], true).len(), 2);
        assert_eq!(table.faults(&[row("mount", 1.0)], false).len(), 1);
        assert_eq!(table.faults(&[], false).len(), 0);
    }
}
