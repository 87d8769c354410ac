use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*, sample::select};
use wire::Name;

use super::*;

fn config(exclude: &[&str], include: &[&str]) -> ShareConfig {
    let owned = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    ShareConfig {
        exclude: owned(exclude),
        include: owned(include),
        ..ShareConfig::new(Name::new(b"s").unwrap(), "/")
    }
}

fn filter(exclude: &[&str], include: &[&str]) -> Filter {
    Filter::compile(&config(exclude, include)).unwrap().unwrap()
}

/// Whether a file or a folder (a trailing slash) is served, its way included.
fn serves(filter: &Filter, path: &str) -> bool {
    let (path, kind) = match path.strip_suffix('/') {
        Some(folder) => (folder, FileKind::Directory),
        None => (path, FileKind::Regular),
    };
    !filter.hides_way(path.as_bytes(), 0) && !filter.hides(path.as_bytes(), Some(kind))
}

#[test]
fn what_matches_is_hidden_with_all_below_it() {
    let filter = filter(&["*.tmp", "/top", "deep/er/"], &[]);
    for hidden in ["a.tmp", "x/y/a.tmp", "top", "top/", "top/a/b", "deep/er/", "deep/er/f", "a.tmp/inside"] {
        assert!(!serves(&filter, hidden), "{hidden}");
    }
    for served in ["a.txt", "x/top", "deep/", "deep/er", "deep/f", "x/deep/er/f", "topper"] {
        assert!(serves(&filter, served), "{served}");
    }
}

#[test]
fn a_later_pattern_takes_back_an_earlier_but_not_out_of_a_hidden_folder() {
    let filter = filter(&["*.log", "!keep.log", "/cache/", "!/cache/keep.log", "/*.d/*", "!/*.d/open"], &[]);
    for served in ["keep.log", "x/keep.log", "a.d/open", "a.d/"] {
        assert!(serves(&filter, served), "{served}");
    }
    for hidden in ["a.log", "cache/keep.log", "a.d/x"] {
        assert!(!serves(&filter, hidden), "{hidden}");
    }
}

#[test]
fn included_are_files_that_match_or_lie_in_a_folder_that_does() {
    let filter = filter(&["/docs/private"], &["*.jpg", "/docs/", "!/docs/*.bak", "!hidden.jpg"]);
    for served in ["a.jpg", "x/y/a.jpg", "docs/", "docs/a.txt", "docs/x/a.bak", "any/", "docs/x/"] {
        assert!(serves(&filter, served), "{served}");
    }
    for hidden in ["a.txt", "x/hidden.jpg", "docs/a.bak", "docs/private/a.jpg", "docs", "x/docs/a.txt"] {
        assert!(!serves(&filter, hidden), "{hidden}");
    }
    // Neither file nor folder: as a file.
    assert!(filter.hides(b"a.txt", Some(FileKind::Symlink)) && filter.hides(b"pipe", Some(FileKind::Fifo)));
    assert!(!filter.hides(b"a.jpg", Some(FileKind::Symlink)));
}

#[test]
fn of_an_unknown_kind_it_is_hidden_where_any_kind_would_be() {
    let filter = filter(&["folder/"], &["*.jpg"]);
    assert!(filter.hides(b"folder", None), "it may be a folder");
    assert!(filter.hides(b"other", None), "it may be a file");
    assert!(!filter.hides(b"a.jpg", None));
}

#[test]
fn the_root_and_names_that_are_not_text() {
    let all = filter(&["*"], &["nothing"]);
    assert!(!all.hides(b"", Some(FileKind::Directory)));
    assert!(all.hides(b"\xff\xfe", Some(FileKind::Regular)));
    let some = filter(&["*.tmp", "a?c"], &[]);
    assert!(some.hides(b"\xff\xfe.tmp", Some(FileKind::Regular)));
    assert!(some.hides_way(b"\xff.tmp/x", 0));
    assert!(some.hides(b"dir\xff/two\nlines.tmp", Some(FileKind::Regular)));
    assert!(!some.hides(b"\xff\xfe.txt", Some(FileKind::Regular)));
}

#[test]
fn patterns_that_cannot_be_meant_are_refused_by_name() {
    for pattern in [
        "", " ", "/", "!", "!/", "# note", "./a", "../a", "a/../b", "a//b", "a\nb", "a\0b", "[a", "a[z-a]",
        "\\",
    ] {
        match Filter::compile(&config(&["fine", pattern], &[])) {
            Err(HostError::Pattern { share, pattern: named, reason }) => {
                assert_eq!((share.as_bytes(), named.as_str()), (&b"s"[..], pattern));
                assert!(!reason.is_empty());
            }
            other => panic!("{pattern:?} gives {other:?}"),
        }
    }
    assert!(matches!(Filter::compile(&config(&[], &["{a"])), Err(HostError::Pattern { .. })));
    for pattern in ["\\#name", "\\!name", "a[!b]c", "**/x", "x/**", "a b", "{a,b}"] {
        assert!(Filter::compile(&config(&[pattern], &[])).unwrap().is_some(), "{pattern:?}");
    }
}

#[test]
fn patterns_are_bounded_in_number_and_length() {
    assert!(Filter::compile(&config(&[], &[])).unwrap().is_none());
    let many: Vec<String> = (0..=PATTERNS_MAX).map(|n| format!("/folder-{n}/*.t?p")).collect();
    let mut config = ShareConfig { exclude: many, ..config(&[], &[]) };
    match Filter::compile(&config) {
        Err(HostError::PatternCount { count, max, .. }) => assert_eq!((count, max), (1_001, 1_000)),
        other => panic!("{other:?}"),
    }
    config.exclude.truncate(PATTERNS_MAX);
    let filter = Filter::compile(&config).unwrap().unwrap();
    assert!(filter.hides(b"folder-999/a.tmp", Some(FileKind::Regular)));
    config.include.push("x".to_owned());
    assert!(matches!(Filter::compile(&config), Err(HostError::PatternCount { .. })));
    let long = "x".repeat(PATTERN_BYTES_MAX + 1);
    assert!(matches!(Filter::compile(&self::config(&[&long], &[])), Err(HostError::Pattern { .. })));
}

/// A tree, as the paths of its files and folders.
#[derive(Debug, Default)]
struct Tree {
    files: BTreeSet<String>,
    folders: BTreeSet<String>,
}

impl Tree {
    fn of(paths: &[Vec<&str>]) -> Tree {
        let mut tree = Tree::default();
        for names in paths {
            for end in 1..names.len() {
                tree.folders.insert(names[..end].join("/"));
            }
            tree.files.insert(names.join("/"));
        }
        // A name is one thing.
        tree.files.retain(|file| !tree.folders.contains(file));
        tree
    }

    /// What a walk down meets that goes into no excluded folder, passes over files that do not match, and takes `below`
    /// along: whether the folder it is in is included. The root is no path, so no pattern is asked about it.
    fn walk(&self, (at, below): (&str, bool), patterns: &[Gitignore; 2], met: &mut BTreeSet<String>) {
        let [exclude, include] = patterns;
        let here = |path: &&String| parent(path.as_bytes()) == at.as_bytes();
        let includes = |path: &String, is_folder| match include.matched(path, is_folder) {
            Match::None => below,
            named => named.is_ignore(),
        };
        for file in self.files.iter().filter(here) {
            if includes(file, false) && !exclude.matched(file, false).is_ignore() {
                met.insert(file.clone());
            }
        }
        for folder in self.folders.iter().filter(here) {
            if !exclude.matched(folder, true).is_ignore() {
                met.insert(folder.clone());
                self.walk((folder, includes(folder, true)), patterns, met);
            }
        }
    }
}

fn gitignore(patterns: &[String]) -> Gitignore {
    let mut builder = GitignoreBuilder::new("");
    for pattern in patterns {
        builder.add_line(None, pattern).unwrap();
    }
    builder.build().unwrap()
}

fn name() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "ab", "a.t", "b.t", "é"])
}

fn pattern() -> impl Strategy<Value = String> {
    let part = select(vec!["a", "b", "*", "a*", "*.t", "?", "[ab]", "**", "é", "{a,b}"]);
    let affixes = (select(vec!["", "!", "/", "!/"]), select(vec!["", "/"]));
    (vec(part, 1..4), affixes)
        .prop_map(|(parts, (before, after))| format!("{before}{}{after}", parts.join("/")))
}

proptest! {
    #[test]
    fn a_path_is_served_exactly_if_a_walk_meets_it(
        paths in vec(vec(name(), 1..5), 1..12),
        exclude in vec(pattern(), 0..5),
        include in vec(pattern(), 0..4),
    ) {
        let tree = Tree::of(&paths);
        let mut met = BTreeSet::new();
        tree.walk(("", include.is_empty()), &[gitignore(&exclude), gitignore(&include)], &mut met);
        let config = ShareConfig { exclude, include, ..config(&[], &[]) };
        let Some(filter) = Filter::compile(&config).unwrap() else { return Ok(()) };
        let all = tree.files.iter().map(|file| (file, FileKind::Regular));
        for (path, kind) in all.chain(tree.folders.iter().map(|folder| (folder, FileKind::Directory))) {
            let bytes = path.as_bytes();
            let served = !filter.hides_way(bytes, 0) && !filter.hides(bytes, Some(kind));
            prop_assert_eq!(served, met.contains(path), "{:?} {}", kind, path);
            // From a folder that is known to exist it is the same.
            for (known, _) in bytes.iter().enumerate().filter(|&(_, &b)| b == b'/') {
                if met.contains(&path[..known]) {
                    let way = filter.hides_way(bytes, known);
                    prop_assert_eq!(!way && !filter.hides(bytes, Some(kind)), served);
                }
            }
            if served {
                prop_assert!(filter.hides(bytes, None) || !filter.hides(bytes, Some(FileKind::Directory)));
            }
        }
    }
}
