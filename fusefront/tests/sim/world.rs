//! The host's files, real ones, and what the model knows of them: every state that each was ever in.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use tokio::time::Instant;
use wire::{ByteLen, FileId, FileKind, Version};

use crate::clock::{Clock, now};

/// A file for as long as it lives: inode number and birth, as in its [`FileId`].
pub(crate) type Key = (u64, u64);

pub(crate) fn key_of(id: &FileId) -> Key {
    (id.inode, id.birth)
}

/// A moment: how many changes were made before it.
pub(crate) type Seq = u64;

/// From the first moment of an operation to its last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Seq,
    pub(crate) to: Seq,
}

/// One state of a file, from the change that made it to the one that ended it.
#[derive(Clone)]
pub(crate) struct State {
    pub(crate) from: Seq,
    pub(crate) until: Seq,
    pub(crate) kind: FileKind,
    pub(crate) version: Version,
    /// Of a regular file its bytes, of a symlink its text.
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) perm: u16,
}

/// One name's time with one file.
#[derive(Clone, Copy)]
pub(crate) struct Binding {
    pub(crate) from: Seq,
    pub(crate) until: Seq,
    pub(crate) key: Key,
}

pub(crate) struct World {
    root: PathBuf,
    clock: Arc<Clock>,
    seq: Seq,
    moments: Vec<(Instant, Seq)>,
    files: BTreeMap<Key, Vec<State>>,
    names: BTreeMap<String, Vec<Binding>>,
}

fn is_in(from: Seq, until: Seq, span: Span) -> bool {
    from <= span.to && until > span.from
}

impl State {
    pub(crate) fn is_in(&self, span: Span) -> bool {
        is_in(self.from, self.until, span)
    }
}

impl Binding {
    pub(crate) fn is_in(&self, span: Span) -> bool {
        is_in(self.from, self.until, span)
    }
}

/// The folder of a path; empty for the root.
pub(crate) fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

impl World {
    /// An empty share at `root`.
    pub(crate) fn new(root: &Path, clock: Arc<Clock>) -> World {
        let mut world = World {
            root: root.to_owned(),
            clock,
            seq: 0,
            moments: Vec::new(),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
        };
        world.begin();
        world.appear("", FileKind::Directory, Arc::default());
        world
    }

    pub(crate) fn seq(&self) -> Seq {
        self.seq
    }

    /// The moment that lies `ago` back.
    pub(crate) fn seq_before(&self, ago: Duration) -> Seq {
        let then = now().checked_sub(ago);
        let after = self.moments.partition_point(|(at, _)| then.is_some_and(|then| *at <= then));
        if after == 0 { 0 } else { self.moments[after - 1].1 }
    }

    /// What a path names now.
    pub(crate) fn at(&self, path: &str) -> Option<Key> {
        self.names.get(path)?.last().filter(|binding| binding.until == Seq::MAX).map(|binding| binding.key)
    }

    pub(crate) fn bindings(&self, path: &str) -> &[Binding] {
        self.names.get(path).map_or(&[], Vec::as_slice)
    }

    /// Every path that ever was, with its times.
    pub(crate) fn all_bindings(&self) -> impl Iterator<Item = (&str, &Binding)> {
        self.names
            .iter()
            .flat_map(|(path, bindings)| bindings.iter().map(move |binding| (path.as_str(), binding)))
    }

    pub(crate) fn states(&self, key: Key) -> &[State] {
        self.files.get(&key).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn current(&self, key: Key) -> &State {
        self.files[&key].last().unwrap()
    }

    /// The paths of a kind that are there now, in order.
    pub(crate) fn paths(&self, kind: FileKind) -> Vec<String> {
        let is_kind = |path: &&String| self.at(path).is_some_and(|key| self.current(key).kind == kind);
        self.names.keys().filter(is_kind).cloned().collect()
    }

    fn real(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn begin(&mut self) {
        self.seq += 1;
        self.moments.push((now(), self.seq));
    }

    fn key_at(&self, path: &str) -> Key {
        let meta = fs::symlink_metadata(self.real(path)).unwrap();
        let birth = meta.created().unwrap().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        (meta.ino(), u64::try_from(birth).unwrap().max(1))
    }

    /// A new file at `path`, made a moment ago.
    fn appear(&mut self, path: &str, kind: FileKind, bytes: Arc<[u8]>) {
        let key = self.key_at(path);
        let stamp = self.clock.stamp();
        self.clock.set(key.0, Some(stamp), stamp);
        assert!(!self.files.contains_key(&key), "{path}: two files of one inode and birth");
        self.files.insert(key, Vec::new());
        self.push_state(key, kind, bytes, None);
        self.bind(path, key);
    }

    fn bind(&mut self, path: &str, key: Key) {
        let binding = Binding { from: self.seq, until: Seq::MAX, key };
        self.names.entry(path.to_owned()).or_default().push(binding);
        self.touch_folder(path);
    }

    fn unbind(&mut self, path: &str) -> Key {
        let binding = self.names.get_mut(path).unwrap().last_mut().unwrap();
        assert_eq!(binding.until, Seq::MAX, "{path} is there");
        binding.until = self.seq;
        let key = binding.key;
        self.touch_folder(path);
        key
    }

    fn touch_folder(&mut self, path: &str) {
        if path.is_empty() {
            return;
        }
        if let Some(key) = self.at(parent_of(path)) {
            let stamp = self.clock.stamp();
            self.clock.set(key.0, Some(stamp), stamp);
        }
    }

    fn push_state(&mut self, key: Key, kind: FileKind, bytes: Arc<[u8]>, perm: Option<u16>) {
        let (mtime, ctime) = self.clock.of(key.0).unwrap();
        let seq = self.seq;
        let states = self.files.get_mut(&key).unwrap();
        if let Some(last) = states.last_mut() {
            last.until = seq;
        }
        let perm = perm.or(states.last().map(|state| state.perm)).unwrap_or(0o644);
        let version = Version { size: ByteLen(bytes.len() as u64), mtime, ctime };
        states.push(State { from: seq, until: Seq::MAX, kind, version, bytes, perm });
    }

    /// Something of a file changed, but not its contents.
    fn change_attr(&mut self, key: Key, perm: Option<u16>) {
        self.clock.set(key.0, None, self.clock.stamp());
        let State { kind, bytes, .. } = self.current(key).clone();
        self.push_state(key, kind, bytes, perm);
    }

    pub(crate) fn create(&mut self, path: &str, bytes: Vec<u8>) {
        self.begin();
        fs::write(self.real(path), &bytes).unwrap();
        self.appear(path, FileKind::Regular, bytes.into());
    }

    /// Overwrites in place: `bytes` at `at`, the file cut or filled up with zeros to `len` first.
    pub(crate) fn write(&mut self, path: &str, len: usize, at: usize, bytes: &[u8]) {
        self.begin();
        let key = self.at(path).unwrap();
        let mut contents = self.current(key).bytes.as_ref().to_owned();
        contents.resize(len, 0);
        contents.resize(len.max(at + bytes.len()), 0);
        contents[at..at + bytes.len()].copy_from_slice(bytes);
        let file = fs::OpenOptions::new().write(true).custom_flags(0).open(self.real(path)).unwrap();
        file.set_len(len as u64).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, at as u64).unwrap();
        assert_eq!(file.metadata().unwrap().len(), contents.len() as u64);
        let stamp = self.clock.stamp();
        self.clock.set(key.0, Some(stamp), stamp);
        self.push_state(key, FileKind::Regular, contents.into(), None);
    }

    pub(crate) fn chmod(&mut self, path: &str, perm: u16) {
        self.begin();
        fs::set_permissions(self.real(path), fs::Permissions::from_mode(perm.into())).unwrap();
        let key = self.at(path).unwrap();
        self.change_attr(key, Some(perm));
    }

    pub(crate) fn mkdir(&mut self, path: &str) {
        self.begin();
        fs::create_dir(self.real(path)).unwrap();
        self.appear(path, FileKind::Directory, Arc::default());
    }

    pub(crate) fn symlink(&mut self, path: &str, text: &str) {
        self.begin();
        symlink(text, self.real(path)).unwrap();
        self.appear(path, FileKind::Symlink, text.as_bytes().into());
    }

    pub(crate) fn unlink(&mut self, path: &str) {
        self.begin();
        fs::remove_file(self.real(path)).unwrap();
        let key = self.unbind(path);
        self.change_attr(key, None);
    }

    pub(crate) fn link(&mut self, from: &str, to: &str) {
        self.begin();
        fs::hard_link(self.real(from), self.real(to)).unwrap();
        let key = self.at(from).unwrap();
        self.bind(to, key);
        self.change_attr(key, None);
    }

    /// Renames a file or folder; a file that has the name already loses it.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        self.begin();
        let (moved, replaced) = (self.at(from).unwrap(), self.at(to));
        fs::rename(self.real(from), self.real(to)).unwrap();
        if replaced == Some(moved) {
            // rename(2) between two names of one file does nothing.
            return;
        }
        if let Some(key) = replaced {
            self.unbind(to);
            self.change_attr(key, None);
        }
        let below = format!("{from}/");
        let inner: Vec<String> = self.names.keys().filter(|path| path.starts_with(&below)).cloned().collect();
        self.unbind(from);
        self.bind(to, moved);
        self.change_attr(moved, None);
        for path in inner.iter().filter(|path| self.at(path).is_some()).cloned().collect::<Vec<_>>() {
            let key = self.names[&path].last().unwrap().key;
            self.names.get_mut(&path).unwrap().last_mut().unwrap().until = self.seq;
            let binding = Binding { from: self.seq, until: Seq::MAX, key };
            self.names.entry(join(to, &path[below.len()..])).or_default().push(binding);
        }
    }
}
