//! Who is let in, and what a ticket opens.

use std::fs;

use transport::{
    ConnectError, Lane,
    testing::{Greeting, Rogue},
};
use wire::{ErrorCode, Extent, FileKind, Name, Ticket, auth::Secret, ticket::TicketError};
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

/// What the host answers to a hello, to the end of its stream.
async fn answer(rogue: &Rogue, hello: &[u8]) -> Vec<u8> {
    let mut stream = rogue.open().await.unwrap();
    stream.write(hello).await.unwrap();
    stream.finish();
    let mut answer = Vec::new();
    while let Ok(Some(bytes)) = stream.read(usize::MAX).await {
        answer.extend_from_slice(&bytes);
    }
    answer
}

#[test]
fn a_proof_is_of_no_use_on_another_connection_and_every_refusal_is_the_same() {
    let rig = Rig::new(|_| {});
    let ticket = rig.host.ticket();
    let changed = |change: fn(&mut Ticket)| {
        let mut ticket = ticket.clone();
        change(&mut ticket);
        ticket
    };
    let forged = changed(|ticket| ticket.secret = Secret::from_bytes([0; 32]));
    let wider = changed(|ticket| ticket.claims.expires = 1 << 40);
    let mut claims = ticket.claims.clone();
    claims.expires = 1;
    let expired = rig.host.issue(claims.clone());
    (claims.expires, claims.id.0) = (0, [9; 8]);
    let revoked = rig.host.issue(claims);
    rig.host.revoke(revoked.claims.id).unwrap();
    let lane = Lane::start("rogue").unwrap();
    lane.handle().block_on(async {
        let stranger = || Rogue::connect(&ticket, Greeting::None);
        let (first, second) = (stranger().await.unwrap(), stranger().await.unwrap());
        let hello = first.hello(&ticket);
        let replayed = answer(&second, &hello).await;
        assert!(!replayed.is_empty(), "the refusal arrived");
        for (what, ticket) in
            [("forged", forged), ("wider", wider), ("expired", expired), ("revoked", revoked)]
        {
            let rogue = stranger().await.unwrap();
            let refusal = answer(&rogue, &rogue.hello(&ticket)).await;
            assert_eq!(refusal, replayed, "{what}");
        }
        assert_ne!(answer(&first, &hello).await, replayed, "on its own connection it lets in");
    });
    rig.end();
}

#[test]
fn a_ticket_cut_short_or_mistyped_is_not_even_sent() {
    let rig = Rig::new(|_| {});
    let text = rig.host.ticket().to_string();
    for cut in 0..text.len() {
        let error = Ticket::parse(&text[..cut]).unwrap_err();
        let told = matches!(error, TicketError::Damaged | TicketError::NotATicket);
        assert!(told && error.to_string().contains("line"), "{cut}: {error}");
    }
    for (at, letter) in text.char_indices().skip("wh1_".len()) {
        let other = if letter == 'A' { "B" } else { "A" };
        let mistyped = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        assert!(Ticket::parse(&mistyped).is_err(), "letter {at}");
    }
    rig.end();
}
