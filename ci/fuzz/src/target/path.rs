//! Any bytes as a name and as a path inside a share: never out of the folder it is resolved in.

use std::path::{Component, Path};

use wire::{Name, SharePath, limits};

use crate::input::Input;

/// A name with its length in front; the rest is a path.
pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let name = Name::new(input.short());
    let rest = input.rest();
    let Ok(path) = SharePath::new(rest) else { return };
    assert_eq!(path.as_bytes(), rest);
    check(&path);
    let Ok(name) = name else { return };
    match path.join(&name) {
        Ok(joined) => {
            check(&joined);
            assert_eq!(SharePath::new(joined.as_bytes()), Ok(joined.clone()));
            assert!(joined.as_bytes().ends_with(name.as_bytes()));
        }
        Err(_) => assert!(rest.len() + name.as_bytes().len() >= limits::PATH_BYTES_MAX),
    }
}

/// As the standard library sees it: plain names, nothing else.
fn check(path: &SharePath) {
    let parts: Vec<_> = Path::new(path.as_os_str()).components().collect();
    assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
    let written = path.as_bytes().split(|&byte| byte == b'/').count();
    assert_eq!(parts.len(), if path.is_root() { 0 } else { written });
}
