//! Who is let in, and what a ticket opens.

use std::fs;

use transport::ConnectError;
use wire::{ErrorCode, Extent, FileKind, Name, auth::Secret};
use wormhole_engine::config::ShareConfig;

use crate::rig::{Peer, Rig, path};

#[test]
fn a_wrong_secret_or_a_wrong_host_is_refused() {
    let rig = Rig::new(|_| {});
    let mut forged = rig.host.ticket();
    forged.secret = Secret::from_bytes([0; 32]);
    assert!(matches!(Peer::connect(forged), Err(ConnectError::Refused)));
    let mut other_host = rig.host.ticket();
    other_host.host_key[0] ^= 1;
    assert!(matches!(Peer::connect(other_host), Err(ConnectError::WrongHost { .. })));
    let mut expired = rig.host.ticket().claims;
    expired.expires = 1;
    assert!(matches!(Peer::connect(rig.host.issue(expired)), Err(ConnectError::Refused)));
    rig.end();
}

#[test]
fn a_ticket_with_a_prefix_opens_what_is_below_it_and_no_more() {
    let rig = Rig::new(|dir| {
        fs::create_dir_all(dir.join("open/deep")).unwrap();
        fs::write(dir.join("open/deep/f"), b"shown").unwrap();
        fs::write(dir.join("secret"), b"hidden").unwrap();
    });
    let mut claims = rig.host.ticket().claims;
    claims.prefix = path("open");
    let narrow = Peer::connect(rig.host.issue(claims)).unwrap();
    assert_eq!(narrow.root().id, rig.peer.stat("open").id);
    assert_eq!(narrow.root().kind, FileKind::Directory);
    assert_eq!(narrow.read_all("deep/f").unwrap(), b"shown");
    assert_eq!(narrow.try_stat("secret", None), Err(ErrorCode::NotFound));
    // Also not by the id of a file that a wider ticket has open.
    let secret = rig.peer.stat("secret");
    assert_eq!(rig.peer.read("secret", &secret, Extent::new(0, 6)).unwrap(), b"hidden");
    assert_eq!(narrow.read("secret", &secret, Extent::new(0, 6)), Err(ErrorCode::NotFound));
    assert_eq!(narrow.try_stat("secret", Some(secret.id)), Err(ErrorCode::NotFound));
    let mut nowhere = rig.host.ticket().claims;
    nowhere.prefix = path("absent");
    assert!(matches!(Peer::connect(rig.host.issue(nowhere)), Err(ConnectError::Refused)));
    rig.end();
}

#[test]
fn a_ticket_opens_the_shares_it_names() {
    let second = tempfile::tempdir().unwrap();
    let rig = Rig::with(
        |_| {},
        |config| {
            let name = Name::new(b"second").unwrap();
            config.shares.push(ShareConfig::new(name, second.path()));
        },
    );
    assert_eq!(rig.peer.share_names(), ["share", "second"]);
    let mut claims = rig.host.ticket().claims;
    claims.shares = vec![Name::new(b"second").unwrap()];
    let narrow = Peer::connect(rig.host.issue(claims)).unwrap();
    assert_eq!(narrow.share_names(), ["second"]);
    rig.end();
}
