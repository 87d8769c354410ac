//! What a comparison is asked to do.

use std::error::Error;

use wormhole_benches::route::Route;

use crate::{tools::Tool, workload::Workload};

/// Runs where nothing else is said, and of `--quick`.
const RUNS: usize = 3;
const RUNS_QUICK: usize = 1;

/// As the command line has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) tools: Vec<Tool>,
    pub(crate) route: Route,
    pub(crate) runs: usize,
    pub(crate) is_quick: bool,
}

impl Plan {
    /// Reads the words after the program's name; `None` where help was asked for.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Plan>, Box<dyn Error>> {
        let (mut workloads, mut tools) = (Vec::new(), Vec::new());
        let (mut route, mut runs, mut is_quick) = (Route::Loopback, None, false);
        while let Some(word) = words.next() {
            match word.as_str() {
                // cargo's own.
                "--bench" => {}
                "-h" | "--help" => return Ok(None),
                "--quick" => is_quick = true,
                "--link" => route = words.next().ok_or("--link NAME")?.parse()?,
                "--runs" => runs = Some(words.next().ok_or("--runs N")?.parse::<usize>()?.max(1)),
                "--tools" => {
                    for name in words.next().ok_or("--tools A,B")?.split(',') {
                        tools.push(known("tool", name, &Tool::ALL, Tool::name)?);
                    }
                }
                name => workloads.push(known("workload", name, &Workload::ALL, Workload::name)?),
            }
        }
        Ok(Some(Plan {
            workloads: in_order(&Workload::ALL, &workloads),
            tools: in_order(&Tool::ALL, &tools),
            route,
            runs: runs.unwrap_or(if is_quick { RUNS_QUICK } else { RUNS }),
            is_quick,
        }))
    }

    /// How long it takes on loopback, rounded up; a quick run reads about a quarter. A minute of it is for files made anew.
    pub(crate) fn minutes(&self) -> u64 {
        let runs = |workload: &Workload| if *workload == Workload::Verify { 1 } else { self.runs as u64 };
        let each: u64 = self.workloads.iter().map(|workload| runs(workload) * workload.seconds()).sum();
        let seconds = each * self.tools.len() as u64 / if self.is_quick { 2 } else { 1 };
        seconds.div_ceil(60) + 1
    }

    /// Whether the link is one of those that the targets of a LAN do not hold for.
    pub(crate) fn is_across_wan(&self) -> bool {
        self.route.name().starts_with("wan")
    }
}

fn known<T: Copy>(what: &str, name: &str, all: &[T], name_of: fn(T) -> &'static str) -> Result<T, String> {
    all.iter().copied().find(|one| name_of(*one) == name).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|one| name_of(*one)).collect();
        format!("no {what} {name:?}: take some of {}", names.join(", "))
    })
}

/// Those that were named, or all where none was, in the order of `all`.
fn in_order<T: Copy + PartialEq>(all: &[T], named: &[T]) -> Vec<T> {
    all.iter().copied().filter(|one| named.is_empty() || named.contains(one)).collect()
}
