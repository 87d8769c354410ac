//! Finding files by path among those that the kernel holds a number of: without the host, and not all there are.

use std::collections::HashMap;

use wire::{FileId, Name};

use super::{State, Vfs, inode::NodeId};

/// A file that a program looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenFile {
    /// The share it is in.
    pub share: Name,
    /// Which file.
    pub id: FileId,
}

/// What is seen of one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    #[default]
    Nothing,
    /// Files below it: of a folder that may have others.
    Below,
    /// Itself: a file.
    File,
}

impl Vfs {
    /// Whether the host is away, and nothing answers for it.
    pub fn is_cut_off(&self) -> bool {
        self.0.client.loss().is_some() && self.0.state.lock().known.is_none()
    }

    /// The files at and below these paths, relative to the mount and taken literally, that the kernel holds; and what
    /// each path is known to be. Looks at every node of the mount, some thousands at a time; asks nobody.
    pub fn seen(&self, paths: &[Vec<u8>]) -> (Vec<SeenFile>, Vec<Seen>) {
        let paths: Vec<Vec<u8>> = paths.iter().map(|path| plain(path)).collect();
        let mut seen: HashMap<&[u8], Seen> = paths.iter().map(|path| (&**path, Seen::Nothing)).collect();
        let shares: HashMap<_, _> = self.shares().into_iter().map(|share| (share.id, share.name)).collect();
        let (mut files, mut next) = (Vec::new(), Some(0));
        while let Some(from) = next {
            // The lock is free between steps: whoever waits for it goes first.
            let state = self.0.state.lock();
            let (nodes, rest) = state.nodes.files_from(from);
            for node in nodes {
                let Some((path, share, id)) = state.shown(node) else { continue };
                if let (true, Some(share)) = (note(&mut seen, &path), shares.get(&share)) {
                    files.push(SeenFile { share: share.clone(), id });
                }
            }
            next = rest;
        }
        let each = paths.iter().map(|path| seen.get(&**path).copied().unwrap_or_default()).collect();
        (files, each)
    }
}

impl State {
    /// A file's path as seen from the mount's root, its share, and which file it is.
    fn shown(&self, node: NodeId) -> Option<(Vec<u8>, wire::ShareId, FileId)> {
        let (place, root) = self.nodes.place(node).ok()?;
        let (id, _) = self.nodes.file(node).ok()?;
        let parts = [root.map(Name::as_bytes), Some(place.path.as_bytes())];
        Some((parts.into_iter().flatten().collect::<Vec<_>>().join(&b'/'), place.share, id?))
    }
}

/// Without empty parts and those that mean the same folder.
fn plain(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.collect::<Vec<_>>().join(&b'/')
}

/// Notes a file with what was asked for of it and the folders above it; whether there is any.
fn note(seen: &mut HashMap<&[u8], Seen>, path: &[u8]) -> bool {
    let mut is_meant = false;
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in [0].into_iter().chain(ends) {
        if let Some(above) = seen.get_mut(&path[..end]) {
            *above = Seen::Below;
            is_meant = true;
        }
    }
    if let Some(itself) = seen.get_mut(path) {
        *itself = Seen::File;
        is_meant = true;
    }
    is_meant
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_counts_for_itself_and_for_the_folders_above_it() {
        let asked: [&[u8]; 5] = [b"", b"a", b"a/b", b"a/b/c", b"a/bc"];
        let mut seen: HashMap<&[u8], Seen> = asked.iter().map(|path| (*path, Seen::Nothing)).collect();
        assert!(note(&mut seen, b"a/b/c"));
        let found: Vec<_> = asked.iter().map(|path| seen[path]).collect();
        assert_eq!(found, [Seen::Below, Seen::Below, Seen::Below, Seen::File, Seen::Nothing]);
        assert!(!note(&mut HashMap::from([(&b"x"[..], Seen::Nothing)]), b"xy"), "a name that begins alike");
    }

    #[test]
    fn paths_are_taken_as_the_kernel_takes_them() {
        assert_eq!(plain(b"/a//./b/"), b"a/b");
        assert_eq!(plain(b"."), b"");
    }
}
