//! What a process says while it works: events at or above a level, a line each, as text or as JSON, on standard error.

use std::{
    io::{self, IsTerminal},
    panic,
    str::FromStr,
};

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

/// A level (error, warn, info, debug, trace, off), or a list of levels by module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Filter, String> {
        match EnvFilter::try_new(text) {
            Ok(_) => Ok(Filter(text.to_owned())),
            Err(error) => Err(format!(
                "{text:?} is no level (error, warn, info, debug, trace) and no filter such as info,wormhole_transport=debug: {error}"
            )),
        }
    }
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Time, level, message, fields.
    #[default]
    Text,
    /// One JSON object: timestamp, level, message, and each field.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        <Format as ValueEnum>::from_str(text, false)
            .map_err(|_| format!("{text:?} is no format: write text or json"))
    }
}

/// What is said, and how.
#[derive(Clone, Debug)]
pub struct LogConfig {
    filter: Filter,
    format: Format,
    may_color: bool,
}

impl LogConfig {
    /// What was asked for, `level` and text where nothing was.
    pub fn new(filter: Option<Filter>, level: &str, format: Option<Format>) -> LogConfig {
        LogConfig {
            filter: filter.unwrap_or_else(|| Filter(level.to_owned())),
            format: format.unwrap_or_default(),
            may_color: true,
        }
    }

    /// Without colours, for output that is kept.
    #[must_use]
    pub fn without_color(self) -> LogConfig {
        LogConfig { may_color: false, ..self }
    }

    /// Begins to log; a panic is logged from here on, in one line. Call it once a process.
    pub fn start(&self) {
        let lines = tracing_subscriber::fmt::layer()
            .with_writer(io::stderr)
            .with_target(false)
            // It would panic where standard error is closed.
            .log_internal_errors(false);
        let filter = EnvFilter::new(&self.filter.0);
        match self.format {
            Format::Text => begin(filter, lines.with_ansi(self.may_color && io::stderr().is_terminal())),
            Format::Json => {
                let lines = lines.json().flatten_event(true);
                begin(filter, lines.with_current_span(false).with_span_list(false));
            }
        }
        panic::set_hook(Box::new(|panicked| {
            let payload = panicked.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let reason = text.unwrap_or("no reason given").replace('\n', " ");
            let place = panicked.location().map(ToString::to_string).unwrap_or_default();
            let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
            tracing::error!(place, thread, reason, "panicked: this is a fault of wormhole, please report it");
        }));
    }
}

/// The filter is of everything, so that what it leaves out costs nothing.
#[cfg(not(feature = "tokio-console"))]
fn begin(
    filter: EnvFilter,
    lines: impl Layer<tracing_subscriber::layer::Layered<EnvFilter, Registry>> + Send + Sync,
) {
    tracing_subscriber::registry().with(filter).with(lines).init();
}

/// The filter is of the lines alone: `tokio-console` sees every task. It asks at `TOKIO_CONSOLE_BIND`, else at
/// 127.0.0.1:6669.
#[cfg(feature = "tokio-console")]
fn begin(filter: EnvFilter, lines: impl Layer<Registry> + Send + Sync) {
    tracing_subscriber::registry().with(lines.with_filter(filter)).with(console_subscriber::spawn()).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked_where_they_are_read() {
        for good in ["info", "off", "info,wormhole_transport=debug", "wormhole_engine::read=trace"] {
            assert_eq!(good.parse(), Ok(Filter(good.to_owned())));
        }
        let bad = "info,transport=loud".parse::<Filter>().unwrap_err();
        assert!(bad.contains("\"info,transport=loud\"") && bad.contains("no level"), "{bad}");
        assert_eq!("json".parse(), Ok(Format::Json));
        assert!("xml".parse::<Format>().is_err());
    }

    #[test]
    #[ignore = "the other half of `a_panic_is_a_line_of_the_log`"]
    fn panics_for_another_test() {
        LogConfig::new(None, "info", Some(Format::Json)).start();
        panic!("told\nto");
    }

    #[test]
    fn a_panic_is_a_line_of_the_log() {
        let arguments = ["--exact", "cli::log::tests::panics_for_another_test", "--ignored", "--nocapture"];
        let this = std::env::current_exe().unwrap();
        let output = std::process::Command::new(this).args(arguments).output().unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8(output.stderr).unwrap();
        let line =
            text.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no line: {text}"));
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&event["level"], &event["reason"]), (&"ERROR".into(), &"told to".into()));
        assert!(event["place"].as_str().unwrap().contains("log.rs:"), "{event}");
    }
}
