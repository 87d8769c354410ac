//! Every committed input of every target: seeds, and what once broke a promise.

use std::{
    fs,
    path::{Path, PathBuf},
};

use wormhole_fuzz::target;

/// The files of a folder of this package, in order; none where there is no such folder.
fn files(folder: &str, target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A panic names the input that was printed last.
fn run(target: &str) {
    let seeds = files("corpus", target);
    assert!(!seeds.is_empty(), "no seeds in ci/fuzz/corpus/{target}");
    let target = target::named(target).unwrap();
    (target.run)(b"");
    for path in seeds.into_iter().chain(files("regressions", target.name)) {
        println!("{}", path.display());
        (target.run)(&fs::read(&path).unwrap());
    }
}

macro_rules! corpus_of {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                run(stringify!($target));
            }
        )*

        #[test]
        fn every_target_is_run() {
            let names: Vec<&str> = target::ALL.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($target)),*]);
        }
    };
}

corpus_of!(wire_call wire_reply wire_push ticket claims path control admission answers session readahead);

#[test]
fn every_folder_is_a_target() {
    for folder in ["corpus", "regressions"] {
        for path in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).into_iter().flatten() {
            let name = path.unwrap().file_name().into_string().unwrap();
            assert!(target::named(&name).is_some(), "ci/fuzz/{folder}/{name} is no target's");
        }
    }
}
