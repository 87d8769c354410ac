//! `cargo ci deps`: who may import whom, who may name which outside crate, and where unsafe code may be.
//!
//! The table below is the project's layering: arrows go down only. A new edge is a change of the architecture, and is
//! made here with its reason.

mod manifest;

use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::finding::{self, Finding};
use crate::repo::Repo;
use crate::source::{Source, is_word};
use manifest::{Manifest, Section};

/// What a member may import of the workspace.
enum Allowed {
    These(&'static [&'static str]),
    Everything,
}

/// One member: its folder, the names its `[dependencies]` and `[build-dependencies]` may hold of ours, the same for
/// `[dev-dependencies]`.
struct Member {
    folder: &'static str,
    imports: Allowed,
    dev_imports: Allowed,
}

const fn member(folder: &'static str, imports: &'static [&'static str]) -> Member {
    // A test may use what the crate itself may; its `testing` features are its own business.
    Member { folder, imports: Allowed::These(imports), dev_imports: Allowed::These(imports) }
}

const MEMBERS: [Member; 10] = [
    member("transport/wire", &[]),
    member("engine/uring", &[]),
    // Its tests switch its own feature `testing` on.
    Member {
        dev_imports: Allowed::These(&["wire", "uring", "transport"]),
        ..member("transport", &["wire", "uring"])
    },
    // The profiler is for `--profile-cpu`, behind the feature `pprof`.
    member("engine", &["wire", "uring", "transport", "sampler"]),
    // A test of the mount may start a real host.
    Member {
        dev_imports: Allowed::Everything,
        ..member("fusefront", &["engine", "transport", "uring", "wire"])
    },
    Member { imports: Allowed::Everything, dev_imports: Allowed::Everything, ..member("benches", &[]) },
    member("profiles", &["sampler"]),
    member("profiles/sampler", &[]),
    member("ci", &[]),
    // Its targets reach into every crate; nothing imports it.
    Member { imports: Allowed::Everything, dev_imports: Allowed::Everything, ..member("ci/fuzz", &[]) },
];

/// The short names by which members import each other, and the folder behind each.
const OURS: [(&str, &str); 10] = [
    ("wire", "transport/wire"),
    ("uring", "engine/uring"),
    ("transport", "transport"),
    ("engine", "engine"),
    ("fusefront", "fusefront"),
    ("benches", "benches"),
    ("profiles", "profiles"),
    ("sampler", "profiles/sampler"),
    ("ci", "ci"),
    ("fuzz", "ci/fuzz"),
];

/// An outside crate that one folder alone may name, so that it can be replaced behind one face.
const FENCED: [(&str, &str, &str); 3] = [
    ("tokio_uring", "tokio-uring", "engine/uring"),
    ("quinn", "quinn", "transport"),
    ("fuser", "fuser", "fusefront"),
];

/// The one crate that may hold unsafe code.
const UNSAFE_FOLDER: &str = "engine/uring";

/// Checks the manifests and the sources against the tables of this module.
pub(crate) fn run(repo: &Repo) -> Result<(), Failure> {
    let files = repo.files()?;
    let mut findings = unsafe_headers(repo, &files)?;
    let mut seen = 0;
    for path in &files {
        if path.ends_with("Cargo.toml") && path != Path::new("Cargo.toml") {
            findings.extend(check_manifest(path, &Manifest::parse(&repo.read(path)?)));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            findings.extend(check_names(&Source::parse(path, &repo.read(path)?)));
        } else {
            continue;
        }
        seen += 1;
    }
    findings.extend(missing_members(&files));
    finding::report("deps", seen, findings)
}

/// A member of the table that left the tree would be checked against nothing.
fn missing_members(files: &[PathBuf]) -> Vec<Finding> {
    MEMBERS
        .iter()
        .map(|member| Path::new(member.folder).join("Cargo.toml"))
        .filter(|manifest| !files.contains(manifest))
        .map(|manifest| {
            Finding::new(&manifest, 1, "member", "is in the table of ci/src/deps.rs and not in the tree")
        })
        .collect()
}

fn check_manifest(path: &Path, manifest: &Manifest) -> Vec<Finding> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let Some(member) = MEMBERS.iter().find(|member| Path::new(member.folder) == folder) else {
        return vec![Finding::new(
            path,
            1,
            "member",
            "a new package: give it a line in the table of ci/src/deps.rs",
        )];
    };
    let mut findings = Vec::new();
    for dependency in &manifest.dependencies {
        if let Some(ours) =
            our_name(&dependency.name).or_else(|| dependency.package.as_deref().and_then(our_name))
        {
            let allowed = match dependency.section {
                Section::Normal => &member.imports,
                Section::Dev => &member.dev_imports,
            };
            if !allowed.includes(ours) {
                let advice = format!("`{}` may not import `{ours}`: arrows go down only", member.folder);
                findings.push(Finding::new(path, dependency.line, "arrow", advice));
            }
        }
        for (_, package, home) in FENCED {
            let named = dependency.name == package || dependency.package.as_deref() == Some(package);
            if named && !folder.starts_with(home) {
                findings.push(Finding::new(path, dependency.line, "fence", fence_advice(package, home)));
            }
        }
    }
    findings
}

impl Allowed {
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::These(names) => names.contains(&name),
            Self::Everything => true,
        }
    }
}

/// The short name of a member, given that or its package name.
fn our_name(dependency: &str) -> Option<&'static str> {
    let short = dependency.strip_prefix("wormhole-").unwrap_or(dependency);
    OURS.iter().map(|(name, _)| *name).find(|name| *name == short)
}

fn fence_advice(package: &str, home: &str) -> String {
    format!("`{package}` is named under {home} only: go through its face")
}

/// The source scan: a fenced crate named as code outside its folder.
fn check_names(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in source.lines.iter().enumerate() {
        for (name, package, home) in FENCED {
            if !source.path.starts_with(home) && names_crate(&line.code, name) {
                findings.push(Finding::new(&source.path, index + 1, "fence", fence_advice(package, home)));
            }
        }
    }
    findings
}

/// `name::` as the first part of a path, or `use name` and `extern crate name`.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        if before.ends_with(is_word) || after.starts_with(is_word) || before.ends_with('.') {
            return false;
        }
        let before = before.trim_end_matches("::").trim_end();
        after.trim_start().starts_with("::") || before.ends_with("use") || before.ends_with("crate")
    })
}

/// Every crate root outside [`UNSAFE_FOLDER`] forbids unsafe code, so that nobody has to look for it there.
pub(crate) fn unsafe_headers(repo: &Repo, files: &[PathBuf]) -> Result<Vec<Finding>, Failure> {
    let mut findings = Vec::new();
    for path in files.iter().filter(|path| is_crate_root(path) && !path.starts_with(UNSAFE_FOLDER)) {
        let source = Source::parse(path, &repo.read(path)?);
        if !forbids_unsafe(&source) {
            let advice = format!("say #![forbid(unsafe_code)]; unsafe code is for {UNSAFE_FOLDER}");
            findings.push(Finding::new(path, 1, "unsafe", advice));
        }
    }
    Ok(findings)
}

/// The roots of libraries, binaries and benches by cargo's and this workspace's layout.
fn is_crate_root(path: &Path) -> bool {
    let in_folder = |name: &str| path.parent().is_some_and(|folder| folder.ends_with(name));
    let rust = path.extension().is_some_and(|extension| extension == "rs");
    path.ends_with("src/lib.rs")
        || path.ends_with("src/main.rs")
        || path.ends_with("build.rs")
        || rust && (in_folder("src/bin") || in_folder("benches"))
        || path == Path::new("benches/support/lib.rs")
}

fn forbids_unsafe(source: &Source) -> bool {
    source.lines.iter().any(|line| line.code.replace(' ', "").contains("#![forbid(unsafe_code"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &str, text: &str) -> Vec<String> {
        check_manifest(Path::new(path), &Manifest::parse(text)).iter().map(ToString::to_string).collect()
    }

    fn names(path: &str, text: &str) -> usize {
        check_names(&Source::parse(Path::new(path), text)).len()
    }

    #[test]
    fn arrows_go_down_only() {
        let down = "[dependencies]\nwire.workspace = true\nuring = { workspace = true }\ntokio = \"1\"\n";
        assert!(manifest("engine/Cargo.toml", down).is_empty());
        let up = manifest("transport/Cargo.toml", "[dependencies]\nengine.workspace = true\n");
        assert_eq!(
            up,
            ["transport/Cargo.toml:2: arrow: `transport` may not import `engine`: arrows go down only"]
        );
        assert_eq!(manifest("engine/uring/Cargo.toml", "[dependencies]\nwire.workspace = true\n").len(), 1);
        assert_eq!(manifest("ci/Cargo.toml", "[dependencies]\nprofiles.workspace = true\n").len(), 1);
    }

    #[test]
    fn a_package_name_hides_no_arrow() {
        let renamed = "[dependencies]\nx = { package = \"wormhole-engine\", path = \"../engine\" }\n";
        assert_eq!(manifest("transport/Cargo.toml", renamed).len(), 1);
        let table = "[dependencies.wormhole-engine]\npath = \"../engine\"\n";
        assert_eq!(manifest("transport/Cargo.toml", table).len(), 1);
        let target = "[target.'cfg(unix)'.dependencies]\nengine.workspace = true\n";
        assert_eq!(manifest("transport/Cargo.toml", target).len(), 1);
    }

    #[test]
    fn tests_of_the_mount_may_import_anything() {
        let dev = "[dev-dependencies]\nprofiles.workspace = true\nbenches = { path = \"../benches\" }\n";
        assert!(manifest("fusefront/Cargo.toml", dev).is_empty());
        assert_eq!(
            manifest("engine/Cargo.toml", "[dev-dependencies]\nfusefront.workspace = true\n").len(),
            1
        );
    }

    #[test]
    fn an_unknown_package_asks_for_a_line_in_the_table() {
        assert_eq!(manifest("engine/extra/Cargo.toml", "[package]\nname = \"x\"\n").len(), 1);
    }

    #[test]
    fn fenced_crates_stay_behind_their_face() {
        assert_eq!(manifest("engine/Cargo.toml", "[dependencies]\nquinn.workspace = true\n").len(), 1);
        assert!(manifest("transport/Cargo.toml", "[dependencies]\nquinn.workspace = true\n").is_empty());
        assert_eq!(names("engine/src/a.rs", "use quinn::Connection;\nlet x = ::tokio_uring::start(f);\n"), 2);
        assert_eq!(names("engine/src/a.rs", "use fuser;\n"), 1);
        assert_eq!(names("fusefront/tests/it/a.rs", "use {fuser::Errno};\n"), 0);
        assert_eq!(names("engine/uring/src/a.rs", "use tokio_uring::fs;\n"), 0);
        assert_eq!(
            names("engine/src/a.rs", "// quinn::Connection\nlet quinn = \"quinn::x\";\nfuser_like::x();\n"),
            0
        );
    }

    #[test]
    fn crate_roots_are_known() {
        for root in
            ["engine/src/lib.rs", "engine/src/main.rs", "benches/latency.rs", "benches/support/lib.rs"]
        {
            assert!(is_crate_root(Path::new(root)), "{root}");
        }
        for module in ["engine/src/read.rs", "engine/src/read/main_loop.rs", "benches/support/tree.rs"] {
            assert!(!is_crate_root(Path::new(module)), "{module}");
        }
    }

    #[test]
    fn the_header_counts_as_code_only() {
        let says = |text: &str| forbids_unsafe(&Source::parse(Path::new("a/src/lib.rs"), text));
        assert!(says("//! Map.\n#![forbid(unsafe_code)]\n"));
        assert!(!says("//! #![forbid(unsafe_code)]\n"));
        assert!(!says("#![deny(unsafe_code)]\n"));
    }
}
