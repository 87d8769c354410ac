//! Changes on the host that leave what was read as it was: nobody who reads is disturbed.

use std::{fs::Permissions, io::Write, os::unix::fs::PermissionsExt};

use super::*;

const LEN: usize = 3 << 20;

/// Bytes that differ from page to page.
fn content(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n / 4096 % 251).unwrap() ^ u8::from(n % 7 == 0)).collect()
}

/// A host with one file of [`LEN`] bytes, open and read in part.
struct Reading {
    rig: Rig,
    node: NodeId,
    handle: HandleId,
    bytes: Vec<u8>,
}

impl Reading {
    fn new() -> Reading {
        let rig = Rig::new();
        let bytes = content(LEN);
        rig.write("a", &bytes);
        rig.settle("a");
        let node = rig.lookup(NodeId::ROOT, "a").unwrap().node;
        let handle = rig.open(node).unwrap().handle;
        let reading = Reading { rig, node, handle, bytes };
        reading.expect(0, 1 << 20);
        reading
    }

    /// Reads as the kernel does: at most 1 MiB at once.
    fn expect(&self, start: usize, len: usize) {
        for at in (start..start + len).step_by(1 << 20) {
            let want = (start + len - at).min(1 << 20);
            let read = self.rig.read(self.handle, at as u64, want as u64).unwrap();
            let end = (at + want).min(self.bytes.len());
            assert!(read == self.bytes[at.min(end)..end], "{want} bytes at {at}");
        }
    }

    fn fetched(&self) -> u64 {
        self.rig.vfs.stats().host_bytes()
    }

    fn verified(&self) -> u64 {
        self.rig.vfs.stats().verifications.get()
    }

    fn append(&mut self, bytes: &[u8]) {
        let mut file = fs::OpenOptions::new().append(true).open(self.rig.path("a")).unwrap();
        file.write_all(bytes).unwrap();
        self.bytes.extend_from_slice(bytes);
    }
}

#[test]
fn chmod_link_and_rename_leave_readers_and_caches_alone() {
    let reading = Reading::new();
    let changes: [&dyn Fn(); 3] = [
        &|| fs::set_permissions(reading.rig.path("a"), Permissions::from_mode(0o600)).unwrap(),
        &|| fs::hard_link(reading.rig.path("a"), reading.rig.path("b")).unwrap(),
        &|| fs::rename(reading.rig.path("b"), reading.rig.path("c")).unwrap(),
    ];
    for change in changes {
        change();
        reading.expect(0, LEN);
    }
    assert!(reading.verified() >= 1, "the host was asked");
    assert_eq!(reading.fetched(), LEN as u64, "and nothing was fetched again");
}

#[test]
fn touch_leaves_readers_and_caches_alone() {
    let reading = Reading::new();
    let file = fs::File::options().write(true).open(reading.rig.path("a")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    reading.rig.lookup(NodeId::ROOT, "a").unwrap();
    reading.expect(0, LEN);
    assert_eq!((reading.verified(), reading.fetched()), (1, LEN as u64));
}

#[test]
fn opening_a_touched_file_keeps_the_kernels_pages() {
    let reading = Reading::new();
    fs::set_permissions(reading.rig.path("a"), Permissions::from_mode(0o600)).unwrap();
    reading.rig.settle("a");
    let again = reading.rig.open(reading.node).unwrap();
    assert!(again.keep_pages);
    assert_eq!(reading.verified(), 1);
    reading.expect(0, LEN);
    assert_eq!(reading.fetched(), LEN as u64);
}

#[test]
fn closed_file_is_remembered_until_it_is_opened_again() {
    let reading = Reading::new();
    reading.rig.vfs.release(reading.handle);
    fs::set_permissions(reading.rig.path("a"), Permissions::from_mode(0o600)).unwrap();
    reading.rig.settle("a");
    assert!(reading.rig.open(reading.node).unwrap().keep_pages);
}

#[test]
fn growing_file_is_followed() {
    let mut reading = Reading::new();
    reading.expect(0, LEN);
    for round in 0..20 {
        reading.append(&[round; 5000]);
        reading.rig.lookup(NodeId::ROOT, "a").unwrap();
        let end = reading.bytes.len();
        reading.expect(end - 5000, 5000);
        reading.expect(end - 6000, 10_000);
    }
    let appended = (reading.bytes.len() - LEN) as u64;
    assert!(reading.fetched() <= LEN as u64 + 20 * appended, "{} bytes fetched", reading.fetched());
    assert!(reading.verified() >= 20);
}

#[test]
fn file_that_grew_unseen_is_read_to_its_new_end() {
    let mut reading = Reading::new();
    reading.append(&[9; 1 << 20]);
    reading.expect(LEN - 4096, 1 << 20);
    reading.expect(1 << 20, 1 << 20);
}

#[test]
fn rewriting_what_nobody_read_moves_the_reader_on() {
    let mut reading = Reading::new();
    reading.bytes[2 << 20..].fill(b'z');
    fs::write(reading.rig.path("a"), &reading.bytes).unwrap();
    reading.expect(2 << 20, 1 << 20);
    reading.expect(0, LEN);
}

#[test]
fn rewriting_one_byte_that_was_read_is_stale() {
    let mut reading = Reading::new();
    reading.bytes[12_345] ^= 1;
    fs::write(reading.rig.path("a"), &reading.bytes).unwrap();
    assert_eq!(reading.rig.read(reading.handle, 2 << 20, 4096), Err(VfsError::Stale));
    assert_eq!(reading.rig.read(reading.handle, 0, 4096), Err(VfsError::Stale), "and stays so");
    let again = reading.rig.open(reading.node).unwrap();
    assert!(!again.keep_pages);
    assert_eq!(reading.rig.read(again.handle, 12_345, 1).unwrap(), [reading.bytes[12_345]][..]);
}

#[test]
fn file_that_shrank_is_stale() {
    let reading = Reading::new();
    fs::File::options().write(true).open(reading.rig.path("a")).unwrap().set_len(2 << 20).unwrap();
    assert_eq!(reading.rig.read(reading.handle, 2 << 20, 4096), Err(VfsError::Stale));
}

#[test]
fn two_handles_move_together() {
    let mut reading = Reading::new();
    let other = reading.rig.open(reading.node).unwrap().handle;
    reading.append(b"more");
    reading.expect(2 << 20, 1 << 20);
    assert_eq!(reading.verified(), 1);
    let end = reading.bytes.len() as u64;
    assert_eq!(reading.rig.read(other, end - 4, 100).unwrap(), b"more"[..]);
    assert_eq!(reading.verified(), 1, "one look serves both");
}
