//! Instructions of core paths, as callgrind counts them: one thread, the same bytes each time.

use std::path::PathBuf;
use std::process::Command;

use super::table::Row;
use crate::failure::Failure;
use crate::repo::Repo;
use crate::step;

/// What `benches/counts.rs` can walk.
const PATHS: [&str; 9] = [
    "codec/read_reply",
    "codec/listing_1000",
    "codec/listing_1000_packed",
    "packet/1452",
    "packet/65507",
    "hash/128KiB",
    "pool/lend_and_return",
    "l1/insert",
    "l1/hit",
];
/// Times that it walks each of them.
const ROUNDS: f64 = 100.0;
/// The function in which it does.
const COUNTED: &str = "*counts::counted*";

/// Builds the program and walks every path.
pub(crate) fn count(repo: &Repo) -> Result<Vec<Row>, Failure> {
    let program = build(repo)?;
    let count = |path: &str| {
        let value = instructions(&program, path)? / ROUNDS;
        Ok(Row { case: path.to_owned(), unit: "instructions".to_owned(), value })
    };
    PATHS.into_iter().map(count).collect()
}

/// The bench's program; cargo alone knows where it is.
fn build(repo: &Repo) -> Result<PathBuf, Failure> {
    let mut cargo = step::cargo(repo);
    cargo.args(["bench", "--quiet", "--no-run", "--package", "wormhole-benches", "--bench", "counts"]);
    cargo.arg("--message-format=json");
    let out = step::output(&mut cargo)?;
    executable(&out).ok_or_else(|| "cargo names no program of the bench `counts`".to_owned().into())
}

/// What the last message with a program says of it.
fn executable(messages: &str) -> Option<PathBuf> {
    let after = messages.rsplit_once("\"executable\":\"")?.1;
    Some(PathBuf::from(after.split_once('"')?.0))
}

fn instructions(program: &PathBuf, path: &str) -> Result<f64, Failure> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(format!("--toggle-collect={COUNTED}")).arg(program).arg(path);
    let out = valgrind.output().map_err(|why| format!("cannot run valgrind: {why}"))?;
    let said = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        let last = said.lines().last().unwrap_or("it said nothing");
        return Err(format!("the path {path} failed under valgrind ({}): {last}", out.status).into());
    }
    collected(&said)
        .ok_or_else(|| format!("valgrind counted nothing of {path}: is {COUNTED} inlined?").into())
}

/// `==123== Collected : 456`.
fn collected(said: &str) -> Option<f64> {
    let figure = said.lines().find_map(|line| line.split_once("Collected : "))?.1;
    figure.trim().parse().ok().filter(|&count| count > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_what_valgrind_says() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 1234\n"), Some(1234.0));
        assert_eq!(collected("==7== Collected : 0\n"), None);
        assert_eq!(collected("==7== \n"), None);
    }

    #[test]
    fn the_program_is_read_from_what_cargo_says() {
        let messages =
            "{\"executable\":null}\n{\"name\":\"counts\",\"executable\":\"/t/counts-1\",\"fresh\":true}\n";
        assert_eq!(executable(messages), Some(PathBuf::from("/t/counts-1")));
        assert_eq!(executable("{\"executable\":null}\n"), None);
    }
}
