use wire::{
    Attr, ByteLen, FileId, FileKind, ShareId, Ticket, Timestamp, message::ShareInfo,
    version::PROTOCOL_VERSION,
};

use super::*;

fn share(id: u16, name: &str) -> ShareInfo {
    let time = Timestamp::default();
    let root = Attr {
        id: FileId { fs: 1, inode: 2, birth: 3 },
        kind: FileKind::Directory,
        perm: 0o755,
        links: 2,
        uid: 0,
        gid: 0,
        rdev: 0,
        block_bytes: 4096,
        size: ByteLen(4096),
        blocks: 8,
        atime: time,
        mtime: time,
        ctime: time,
        settled: true,
    };
    ShareInfo { id: ShareId(id), name: Name::new(name.as_bytes()).unwrap(), root }
}

#[test]
fn the_only_share_is_the_root_and_several_are_folders_unless_one_is_named() {
    let both = [share(0, "films"), share(1, "stills")];
    let stills = Name::new(b"stills").unwrap();
    let other = Name::new(b"other").unwrap();
    let welcome = |shares: &[ShareInfo]| Welcome {
        version: PROTOCOL_VERSION,
        session: 1,
        boot: 1,
        shares: shares.to_owned(),
    };
    let choose = |shares: &[ShareInfo], wanted| choose(&welcome(shares), wanted);
    assert!(matches!(choose(&both[..1], None), Ok(MountRoot::Share(share)) if share.id == ShareId(0)));
    assert!(matches!(choose(&both, Some(&stills)), Ok(MountRoot::Share(share)) if share.id == ShareId(1)));
    let uid = nix::unistd::geteuid().as_raw();
    assert!(matches!(choose(&both, None), Ok(MountRoot::Folder { uid: owner, .. }) if owner == uid));
    let unknown = choose(&both, Some(&other)).unwrap_err();
    assert_eq!(unknown.to_string(), "the ticket does not open a share named other; it opens films, stills");
    assert!(matches!(choose(&[], None), Err(MountError::NoShare)));
}

#[test]
fn read_ahead_windows_are_whole_extents_of_a_quarter_of_the_memory() {
    assert_eq!(windows(128 << 20).window_bytes_max, 32 << 20);
    assert_eq!(windows(64 << 20).window_bytes_max, 16 << 20);
    assert_eq!(windows((16 << 20) + 12345).window_bytes_max, 4 << 20);
    assert_eq!(windows(64 << 30).window_bytes_max, WINDOW_BYTES_MAX);
    assert_eq!(windows(0).window_bytes_min, windows(0).window_bytes_max);
}

#[test]
fn a_mount_is_read_only_and_trusts_nothing_from_the_host() {
    let ticket = Ticket {
        host_key: [7; 32],
        addresses: vec!["localhost:1".to_owned()],
        claims: wire::auth::Claims {
            id: wire::TicketId([1; 8]),
            shares: Vec::new(),
            prefix: wire::SharePath::root(),
            mode: wire::auth::Mode::ReadOnly,
            expires: 0,
        },
        secret: wire::auth::Secret::from_bytes([9; 32]),
    };
    let mut config = MountConfig::new(ticket, "/mnt".into());
    let options = fuse_config(&config).mount_options;
    for option in [MountOption::RO, MountOption::NoSuid, MountOption::NoDev, MountOption::DefaultPermissions]
    {
        assert!(options.contains(&option), "{option:?}");
    }
    assert_eq!(fuse_config(&config).acl, SessionACL::Owner);
    config.access = Access::Everyone;
    assert_eq!(fuse_config(&config).acl, SessionACL::All);
}
