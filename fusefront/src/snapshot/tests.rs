use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;
use wire::{
    Attr, ByteLen, FileId, FileKind, SharePath, TicketId, Timestamp,
    auth::{Claims, Mode, Secret},
};

use super::*;

fn attr(inode: u64) -> Attr {
    let time = Timestamp::default();
    Attr {
        id: FileId { fs: 1, inode, birth: 3 },
        kind: FileKind::Directory,
        perm: 0o755,
        links: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        block_bytes: 4096,
        size: ByteLen(1),
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        settled: true,
    }
}

fn ticket(secret: u8, prefix: &str) -> Ticket {
    let prefix = SharePath::new(prefix.as_bytes()).unwrap();
    let claims =
        Claims { id: TicketId([1; 8]), shares: Vec::new(), prefix, mode: Mode::ReadOnly, expires: 0 };
    let secret = Secret::from_bytes([secret; 32]);
    Ticket { host_key: [7; 32], addresses: vec!["127.0.0.1:1".to_owned()], secret, claims }
}

fn share() -> ShareInfo {
    ShareInfo { id: ShareId(3), name: Name::new(b"films").unwrap(), root: attr(2) }
}

fn known(names: u64) -> LastKnown {
    let mut known = LastKnown::new(KNOWN_BYTES_MAX);
    for number in 0..names {
        known.note((ShareId(3), attr(2).id), format!("name-{number}").as_bytes(), attr(10 + number));
    }
    known
}

fn write(place: &Place, known: &LastKnown) -> Result<FileNo, SnapshotError> {
    let mut parts = known.parts();
    place.write(&[share()], |out| known.write(&mut parts, out))
}

#[test]
fn what_was_written_is_read_by_the_same_ticket_alone() {
    let dir = TempDir::new().unwrap();
    let place = Place::new(dir.path(), &ticket(1, "a"), 1 << 30);
    assert!(matches!(place.read(), Err(SnapshotError::None)));
    let file = write(&place, &known(2000)).unwrap();
    assert_eq!(place.file(), Some(file));
    let read = place.read().unwrap();
    assert_eq!((read.file, read.welcome.shares), (file, vec![share()]));
    assert_eq!(read.known.names(), 2000);
    assert!(read.written > Duration::ZERO);
    let mode = fs::metadata(place.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for other in [ticket(2, "a"), ticket(1, "a/b"), Ticket { host_key: [8; 32], ..ticket(1, "a") }] {
        let other = Place::new(dir.path(), &other, 1 << 30);
        assert!(matches!(other.read(), Err(SnapshotError::None)));
        // Under its name it is not its file either.
        fs::copy(place.path(), other.path()).unwrap();
        assert!(matches!(other.read(), Err(SnapshotError::Damaged { .. })));
    }
    let elsewhere = Ticket { addresses: vec!["host:2".to_owned()], ..ticket(1, "a") };
    assert!(Place::new(dir.path(), &elsewhere, 1 << 30).read().is_ok(), "where the host is does not matter");
    place.remove();
    assert!(matches!(place.read(), Err(SnapshotError::None)));
    remove_all(dir.path()).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_file_is_no_file() {
    let dir = TempDir::new().unwrap();
    let place = Place::new(dir.path(), &ticket(1, "a"), 1 << 30);
    write(&place, &known(20)).unwrap();
    let good = fs::read(place.path()).unwrap();
    let cuts = (0..good.len()).step_by(37).map(|len| good[..len].to_vec());
    let flips = (0..good.len()).step_by(41).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        bytes
    });
    for bytes in cuts.chain(flips) {
        fs::write(place.path(), bytes).unwrap();
        assert!(matches!(place.read(), Err(SnapshotError::Damaged { .. })));
    }
    fs::write(place.path(), &good).unwrap();
    assert!(place.read().is_ok());
}

#[test]
fn all_files_together_stay_within_their_part_of_the_quota() {
    let dir = TempDir::new().unwrap();
    let quota = 16 << 20;
    let bytes = || -> u64 { all(dir.path()).unwrap().iter().map(|(_, meta)| meta.len()).sum() };
    for secret in 0..20 {
        let place = Place::new(dir.path(), &ticket(secret, "a"), quota);
        let mut bounded = LastKnown::new(place.known_bytes_max());
        bounded.take_in(known(3000));
        write(&place, &bounded).unwrap();
        assert!(place.read().is_ok());
        assert!(bytes() <= reserve_bytes(quota) / 2);
    }
    let place = Place::new(dir.path(), &ticket(30, "a"), quota);
    assert!(matches!(write(&place, &known(30_000)), Err(SnapshotError::Io { .. })), "too long");
    assert!(bytes() > 0);
}

#[test]
fn who_finds_the_file_being_written_leaves_it_alone() {
    let dir = TempDir::new().unwrap();
    let place = Place::new(dir.path(), &ticket(1, "a"), 1 << 30);
    let first = write(&place, &known(5)).unwrap();
    let (all, mut parts) = (known(9), known(9).parts());
    let second = place.write(&[share()], |out| {
        assert!(matches!(write(&place, &known(7)), Err(SnapshotError::Taken)));
        all.write(&mut parts, out)
    });
    assert_ne!(second.unwrap(), first);
    assert_eq!(place.read().unwrap().known.names(), 9);
}
