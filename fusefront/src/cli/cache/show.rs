//! How far a command is: a bar on a terminal, else a plain line now and then. All on standard error.

use std::{
    cell::RefCell,
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use super::super::run::say;
use crate::{control::message::Progress, status::Bytes};

/// How often a plain line is written.
const LINE_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Show {
    what: &'static str,
    /// `None` where there is no terminal.
    bar: Option<ProgressBar>,
    last: RefCell<Instant>,
}

impl Show {
    pub(super) fn start(what: &'static str) -> Show {
        let bar = io::stderr().is_terminal().then(|| bar(what));
        // clock: how often people are told
        Show { what, bar, last: RefCell::new(Instant::now()) }
    }

    pub(super) fn progress(&self, at: &Progress) {
        if let Some(bar) = &self.bar {
            bar.set_length(at.bytes_total);
            bar.set_position(at.bytes);
            return;
        }
        let mut last = self.last.borrow_mut();
        if last.elapsed() >= LINE_EVERY {
            *last = Instant::now();
            say(&format!("{}: {} of {}", self.what, Bytes(at.bytes), Bytes(at.bytes_total)));
        }
    }

    /// A line for people, beside the bar.
    pub(super) fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(0).with_message(what);
    let template = "{msg} [{wide_bar}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template).map(|style| style.progress_chars("=> "));
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
