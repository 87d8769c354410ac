//! What libFuzzer says of a run: its figures, the input it kept, and its last words.

use std::collections::VecDeque;

/// Lines kept to be shown with a finding: a panic with its backtrace and the fuzzer's own lines.
const LINES_MAX: usize = 80;

/// A run as its output tells it.
#[derive(Debug, Default)]
pub(super) struct Report {
    executions: u64,
    per_second: u64,
    memory_mib: u64,
    seconds: u64,
    input: Option<String>,
    end: VecDeque<String>,
}

impl Report {
    /// Takes note of a line of output.
    pub(super) fn line(&mut self, line: &str) {
        let number = |name: &str| line.strip_prefix(name).and_then(|rest| rest.trim().parse::<u64>().ok());
        if let Some(executions) = number("stat::number_of_executed_units:") {
            self.executions = executions;
        } else if let Some(per_second) = number("stat::average_exec_per_sec:") {
            self.per_second = per_second;
        } else if let Some(memory) = number("stat::peak_rss_mb:") {
            self.memory_mib = memory;
        } else if let Some(seconds) = line.strip_prefix("Done ").and_then(seconds_of_done) {
            self.seconds = seconds;
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.input = Some(path.trim().to_owned());
        }
        // One line for each input that reaches something new: thousands, and of no use to a reader.
        if !line.starts_with('#') && !line.contains("# Uses:") {
            if self.end.len() == LINES_MAX {
                self.end.pop_front();
            }
            self.end.push_back(line.to_owned());
        }
    }

    /// The figures in one line.
    pub(super) fn summary(&self) -> String {
        let Self { executions, per_second, memory_mib, seconds, .. } = self;
        format!("{executions} executions, {seconds} s, {per_second}/s, {memory_mib} MiB")
    }

    /// The file that holds what was found.
    pub(super) fn input(&self) -> Option<&str> {
        self.input.as_deref()
    }

    /// Prints the last lines.
    pub(super) fn print_end(&self) {
        for line in &self.end {
            println!("{line}");
        }
    }
}

/// `Done N runs in S second(s)`.
fn seconds_of_done(rest: &str) -> Option<u64> {
    rest.split_once(" runs in ")?.1.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_run_are_read() {
        let mut report = Report::default();
        for line in [
            "#2\tINITED cov: 3 ft: 4 corp: 1/1b exec/s: 0 rss: 26Mb",
            "Done 2550173 runs in 7 second(s)",
            "stat::number_of_executed_units: 2550173",
            "stat::average_exec_per_sec:     364310",
            "stat::peak_rss_mb:              28",
        ] {
            report.line(line);
        }
        assert_eq!(report.summary(), "2550173 executions, 7 s, 364310/s, 28 MiB");
        assert_eq!(report.input(), None);
        assert_eq!(report.end.len(), 4);
    }

    #[test]
    fn the_input_of_a_finding_is_read() {
        let mut report = Report::default();
        report.line("artifact_prefix='/t/'; Test unit written to /t/crash-0a1b");
        assert_eq!(report.input(), Some("/t/crash-0a1b"));
    }

    #[test]
    fn the_last_lines_are_kept_and_no_more() {
        let mut report = Report::default();
        for number in 0..2 * LINES_MAX {
            report.line(&number.to_string());
        }
        assert_eq!((report.end.len(), report.end[0].as_str()), (LINES_MAX, "80"));
    }
}
