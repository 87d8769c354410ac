//! The rules, one function each: a source in, the places to mend out.

use std::path::Path;

use crate::finding::Finding;
use crate::source::{Source, is_word, words};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LIB_LINES_MAX: usize = 120;
const MODULE_NAMES_FORBIDDEN: [&str; 6] = ["util", "utils", "common", "helper", "helpers", "misc"];
/// The one file that turns our errors into errno.
const ERRNO_FILE: &str = "fusefront/src/errno.rs";
/// Where a copy of bytes costs throughput.
const HOT_FOLDERS: [&str; 3] = ["transport", "engine", "fusefront"];

pub(super) fn file_length(source: &Source) -> Option<Finding> {
    let lines = source.lines.len();
    let is_lib = source.path.ends_with("src/lib.rs");
    let (max, advice) = if is_lib {
        (LIB_LINES_MAX, "lib.rs is a map: move the logic into a module")
    } else {
        (FILE_LINES_MAX, "cut it into x.rs and a folder x/")
    };
    (lines > max).then(|| {
        Finding::new(&source.path, max + 1, "file length", format!("{lines} lines, at most {max}; {advice}"))
    })
}

pub(super) fn function_length(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for function in source.functions() {
        let lines = function.last - function.first + 1;
        if lines > FUNCTION_LINES_MAX {
            let advice = format!(
                "`{}` has {lines} lines, at most {FUNCTION_LINES_MAX}; give its parts names",
                function.name
            );
            findings.push(Finding::new(&source.path, function.first + 1, "function length", advice));
        }
    }
    findings
}

/// Neither a file, nor a folder, nor a module is called after nothing in particular, and `x.rs` stands beside `x/`.
pub(super) fn module_names(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut flag = |line: usize, name: &str| {
        let advice =
            format!("`{name}` says nothing: name it after the noun it holds, or put it beside its user");
        findings.push(Finding::new(&source.path, line, "module name", advice));
    };
    let path_without_extension = source.path.with_extension("");
    for part in path_without_extension.iter().filter_map(|part| part.to_str()) {
        if MODULE_NAMES_FORBIDDEN.contains(&part) {
            flag(1, part);
        }
    }
    for (index, line) in source.lines.iter().enumerate() {
        let name = word_after(&line.code, "mod");
        if let Some(name) = name.filter(|name| MODULE_NAMES_FORBIDDEN.contains(&name.as_str())) {
            flag(index + 1, &name);
        }
    }
    if source.path.ends_with("mod.rs") {
        findings.push(Finding::new(
            &source.path,
            1,
            "module name",
            "no mod.rs: call it x.rs, beside the folder x/",
        ));
    }
    findings
}

/// errno is chosen in [`ERRNO_FILE`] alone, by matches that name every variant.
pub(super) fn errno(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.path == Path::new(ERRNO_FILE) {
        for (index, line) in source.lines.iter().enumerate().filter(|(_, line)| !line.test) {
            if has_wildcard_arm(&line.code) {
                let advice = "name every variant, so that a new one stops the build here";
                findings.push(Finding::new(&source.path, index + 1, "errno", advice));
            }
        }
    } else if source.path.starts_with("fusefront/src") && names_word(source, "fuser") {
        for (index, line) in source.lines.iter().enumerate().filter(|(_, line)| !line.test) {
            if chooses_errno(&line.code) {
                let advice = format!(
                    "an errno for the kernel is chosen in {ERRNO_FILE} only: return an error instead"
                );
                findings.push(Finding::new(&source.path, index + 1, "errno", advice));
            }
        }
    }
    findings
}

pub(super) fn copies(source: &Source) -> Vec<Finding> {
    let hot = HOT_FOLDERS.iter().any(|folder| source.path.starts_with(folder));
    let mut findings = Vec::new();
    for (index, line) in source.lines.iter().enumerate().filter(|(_, line)| hot && !line.test) {
        if line.code.contains(".to_vec()") && !source.is_excused(index, "copy:") {
            let advice = "pass on `Bytes::slice`; where a copy must be, say `// copy: why` on the line";
            findings.push(Finding::new(&source.path, index + 1, "copy", advice));
        }
    }
    findings
}

/// Tests do not wait for time to pass nor read it: a clock makes them slow here and wrong on a busy machine.
pub(super) fn clocks_in_tests(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.lines.iter().enumerate().filter(|(_, line)| line.test) {
        let now = ["Instant::now", "SystemTime::now"].iter().any(|call| line.code.contains(call));
        if (now || calls_sleep(&line.code)) && !source.is_excused(index, "clock:") {
            let advice =
                "wait for an event, or use the paused clock; where neither will do, say `// clock: why`";
            findings.push(Finding::new(&source.path, index + 1, "clock in a test", advice));
        }
    }
    findings
}

/// Reminders in comments that lead nowhere; `TODO(#12)` names where the work is kept.
pub(super) fn marks(source: &Source) -> Vec<Finding> {
    let comments = source.lines.iter().map(|line| line.comment.as_str());
    marks_in_lines(&source.path, comments)
}

/// The same for a file whose comments are not told apart.
pub(super) fn marks_in_text(path: &Path, text: &str) -> Vec<Finding> {
    marks_in_lines(path, text.lines())
}

fn marks_in_lines<'a>(path: &Path, lines: impl Iterator<Item = &'a str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in lines.enumerate() {
        if let Some(mark) = ["TODO", "FIXME", "XXX"].into_iter().find(|mark| has_bare_mark(line, mark)) {
            let advice = format!("no bare {mark}: do it, or file an issue and write {mark}(#number)");
            findings.push(Finding::new(path, index + 1, "reminder", advice));
        }
    }
    findings
}

fn has_bare_mark(line: &str, mark: &str) -> bool {
    let chars: Vec<char> = line.chars().collect();
    words(&chars, mark).iter().any(|&at| {
        let after: String = chars[at + mark.len()..].iter().take(2).collect();
        after != "(#"
    })
}

/// The identifier behind a keyword: `util` of `pub(crate) mod util;`.
fn word_after(code: &str, keyword: &str) -> Option<String> {
    let chars: Vec<char> = code.chars().collect();
    let at = *words(&chars, keyword).first()?;
    let name: String = chars[at + keyword.len()..]
        .iter()
        .skip_while(|c| c.is_whitespace())
        .take_while(|&&c| is_word(c))
        .collect();
    (!name.is_empty()).then_some(name)
}

fn names_word(source: &Source, word: &str) -> bool {
    source.lines.iter().any(|line| !words(&line.code.chars().collect::<Vec<_>>(), word).is_empty())
}

/// `_ =>` or `_ if`, as an arm of its own; `Some(_) =>` and `other_ =>` name something.
fn has_wildcard_arm(code: &str) -> bool {
    code.match_indices("_ =>").chain(code.match_indices("_ if ")).any(|(at, _)| {
        let before = &code[..at];
        before.is_empty() || before.ends_with([' ', '{', ',', '|'])
    })
}

/// `Errno::ENOENT` and the like, whatever path leads to it.
fn chooses_errno(code: &str) -> bool {
    code.match_indices("Errno::E").any(|(at, found)| {
        let rest = &code[at + found.len()..];
        rest.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit())
    })
}

/// A call of a free function `sleep` or `sleep_until`; a method or a definition of that name is someone's own.
fn calls_sleep(code: &str) -> bool {
    let chars: Vec<char> = code.chars().collect();
    ["sleep", "sleep_until"].iter().any(|name| {
        words(&chars, name).iter().any(|&at| {
            let before: String = chars[..at].iter().collect();
            let called = chars.get(at + name.len()) == Some(&'(');
            called && !before.ends_with('.') && !before.trim_end().ends_with("fn")
        })
    })
}

#[cfg(test)]
mod tests;
