//! Which files of a share exist for mounts: the patterns of its owner, in the syntax of gitignore(5).

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};

use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder},
};
use wire::{FileKind, limits};

use crate::{config::ShareConfig, error::HostError};

/// Patterns one share may have, to exclude and to include together.
const PATTERNS_MAX: usize = 1_000;
/// Bytes of one pattern: no path is longer.
const PATTERN_BYTES_MAX: usize = limits::PATH_BYTES_MAX;

/// The patterns of one share, compiled; without patterns there is no filter. All paths are from the share's root.
#[derive(Debug)]
pub(crate) struct Filter {
    exclude: Option<Gitignore>,
    include: Option<Gitignore>,
}

impl Filter {
    /// Compiles what the configuration holds; `None` where it holds nothing.
    ///
    /// # Errors
    /// [`HostError::Pattern`] for the first pattern that cannot be meant, [`HostError::PatternCount`] for too many.
    pub(super) fn compile(config: &ShareConfig) -> Result<Option<Filter>, HostError> {
        let count = config.exclude.len() + config.include.len();
        if count == 0 {
            return Ok(None);
        }
        if count > PATTERNS_MAX {
            return Err(HostError::PatternCount { share: config.name.clone(), count, max: PATTERNS_MAX });
        }
        let bad = |(pattern, reason)| HostError::Pattern { share: config.name.clone(), pattern, reason };
        Ok(Some(Filter {
            exclude: matcher(&config.exclude).map_err(bad)?,
            include: matcher(&config.include).map_err(bad)?,
        }))
    }

    /// Whether a folder on the way to `path` does not exist for mounts; the first `known` bytes of the path name one
    /// that does.
    pub(super) fn hides_way(&self, path: &[u8], known: usize) -> bool {
        let Some(exclude) = &self.exclude else { return false };
        let ends = path.iter().enumerate().skip(known + 1).filter(|&(_, &b)| b == b'/').map(|(at, _)| at);
        ends.map(|end| &path[..end]).any(|folder| is_ignored(exclude, folder, true) == Some(true))
    }

    /// Whether what lies at `path`, in folders that exist, does not. Something of an unknown kind exists only if it
    /// would as any kind. Nothing is ever hidden of the root, the empty path.
    pub(super) fn hides(&self, path: &[u8], kind: Option<FileKind>) -> bool {
        self.hides_entry(path, kind, || self.includes_below(parent(path)))
    }

    /// The same for an entry of a folder of which [`Filter::includes_below`] is known.
    pub(super) fn hides_entry(
        &self,
        path: &[u8],
        kind: Option<FileKind>,
        includes_folder: impl FnOnce() -> bool,
    ) -> bool {
        if path.is_empty() {
            return false;
        }
        let is_folder = kind == Some(FileKind::Directory);
        if let Some(exclude) = &self.exclude {
            let excluded = |is_folder| is_ignored(exclude, path, is_folder) == Some(true);
            if excluded(is_folder) || (kind.is_none() && excluded(true)) {
                return true;
            }
        }
        let Some(include) = &self.include else { return false };
        !is_folder && !is_ignored(include, path, false).unwrap_or_else(includes_folder)
    }

    /// Whether a file in `folder` is included for the sake of a folder that holds it: the nearest one that a pattern
    /// names decides.
    pub(super) fn includes_below(&self, folder: &[u8]) -> bool {
        let Some(include) = &self.include else { return true };
        let mut folder = folder;
        while !folder.is_empty() {
            if let Some(included) = is_ignored(include, folder, true) {
                return included;
            }
            folder = parent(folder);
        }
        false
    }
}

/// What the last pattern that matches says; `None` where none does. Allocates nothing.
fn is_ignored(patterns: &Gitignore, path: &[u8], is_folder: bool) -> Option<bool> {
    match patterns.matched(Path::new(OsStr::from_bytes(path)), is_folder) {
        Match::None => None,
        Match::Ignore(_) => Some(true),
        Match::Whitelist(_) => Some(false),
    }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&b| b == b'/').map_or(b"", |slash| &path[..slash])
}

/// The compiled patterns, `None` for none; the pattern at fault, and why, where they do not compile.
fn matcher(patterns: &[String]) -> Result<Option<Gitignore>, (String, String)> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut builder = GitignoreBuilder::new("");
    // Git takes a class without an end for no match at all; nobody excludes something to no effect on purpose.
    builder.allow_unclosed_class(false);
    for pattern in patterns {
        check(pattern).map_err(|reason| (pattern.clone(), reason.to_owned()))?;
        builder.add_line(None, pattern).map_err(|error| (pattern.clone(), reason_of(error)))?;
    }
    let built = builder.build().map_err(|error| ("all of them".to_owned(), reason_of(error)))?;
    Ok(Some(built))
}

/// Refuses what gitignore(5) takes for a pattern that never matches: here it would serve what its author believes hidden.
fn check(pattern: &str) -> Result<(), &'static str> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err("it is longer than any path");
    }
    if pattern.contains(['\0', '\n', '\r']) {
        return Err("a pattern is one line");
    }
    if pattern.starts_with('#') {
        return Err("it is a comment; for a name that starts with # write \\#");
    }
    let trimmed = if pattern.ends_with("\\ ") { pattern } else { pattern.trim_end() };
    let named = trimmed.strip_prefix('!').unwrap_or(trimmed);
    let named = named.strip_prefix('/').unwrap_or(named);
    let named = named.strip_suffix('/').unwrap_or(named);
    if named.is_empty() {
        return Err("it names nothing");
    }
    if named.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err(
            "a pattern starts at the share's root, as in /folder/*.tmp, and holds no empty name, . or ..",
        );
    }
    Ok(())
}

fn reason_of(error: ignore::Error) -> String {
    match error {
        ignore::Error::Glob { err, .. } => err,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
