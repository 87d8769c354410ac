//! What a program of runs takes: which of them, over what path, how often.

use std::{env, error::Error};

use crate::route::Route;

/// As this program was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// Which runs, each once, in the order given; all, in the order of the program's own list, where none was named.
    pub names: Vec<&'static str>,
    /// `--profile`.
    pub route: Route,
    /// `--runs`.
    pub runs: usize,
    /// `--quick`.
    pub is_quick: bool,
}

/// Runs where nothing else is said.
const RUNS: usize = 3;

impl Arguments {
    /// Reads them; `None` where `--help` was asked for, which is printed.
    ///
    /// # Errors
    /// A word that is none of `known` and no option.
    #[expect(clippy::print_stdout, reason = "help is for people")]
    pub fn of_this_run(known: &[&'static str], help: &str) -> Result<Option<Arguments>, Box<dyn Error>> {
        let parsed = parse(env::args().skip(1), known)?;
        if parsed.is_none() {
            println!("{help}");
        }
        Ok(parsed)
    }
}

fn parse(
    mut words: impl Iterator<Item = String>,
    known: &[&'static str],
) -> Result<Option<Arguments>, Box<dyn Error>> {
    let mut given = Arguments { names: Vec::new(), route: Route::Loopback, runs: RUNS, is_quick: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            // cargo's own.
            "--bench" => {}
            "-h" | "--help" => return Ok(None),
            "--quick" => given.is_quick = true,
            "--profile" => given.route = words.next().ok_or("--profile NAME")?.parse()?,
            "--runs" => given.runs = words.next().ok_or("--runs N")?.parse::<usize>()?.max(1),
            name => match known.iter().find(|known| **known == name) {
                Some(name) if given.names.contains(name) => {}
                Some(&name) => given.names.push(name),
                None => return Err(format!("no run {name:?}: take some of {}", known.join(", ")).into()),
            },
        }
    }
    if given.names.is_empty() {
        given.names = known.to_vec();
    }
    Ok(Some(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Option<Arguments>, String> {
        parse(line.split_whitespace().map(str::to_owned), &["video", "game"]).map_err(|why| why.to_string())
    }

    #[test]
    fn without_names_all_run_and_with_names_these() {
        let given = of("--bench").unwrap().unwrap();
        assert_eq!((given.names, given.route, given.runs), (vec!["video", "game"], Route::Loopback, 3));
        let given = of("game --profile lan --runs 0 --quick").unwrap().unwrap();
        assert_eq!((given.names, given.route.name(), given.runs), (vec!["game"], "lan", 1));
        assert!(given.is_quick);
    }

    #[test]
    fn runs_take_their_turns_as_given_each_once() {
        assert_eq!(of("game video game").unwrap().unwrap().names, ["game", "video"]);
    }

    #[test]
    fn a_word_that_is_not_known_is_refused_and_help_is_no_run() {
        assert_eq!(of("film").unwrap_err(), "no run \"film\": take some of video, game");
        assert!(of("--runs x").is_err() && of("--profile dsl").is_err());
        assert_eq!(of("video --help"), Ok(None));
    }
}
