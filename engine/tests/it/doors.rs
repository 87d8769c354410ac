//! Doors that close: tickets that are revoked or run out, while mounts are connected and after.

use std::{
    fs,
    thread::{self, yield_now},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;
use transport::ConnectError;
use wire::{ErrorCode, SharePath, Ticket};
use wormhole_engine::{
    error::{HostError, TicketError},
    host::Host,
    tickets::{TicketInfo, TicketRequest, TicketState},
};

use crate::rig::{Peer, Rig, config, path};

/// A ticket of everything, without end.
fn request(label: &str) -> TicketRequest {
    TicketRequest { label: label.into(), shares: Vec::new(), prefix: SharePath::root(), expires: None }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() // clock: what a ticket's end is compared with
}

/// Waits until the host has so many sessions; how long that took.
fn until_sessions(host: &Host, count: usize) -> Duration {
    let started = Instant::now(); // clock: a bound of a real wait
    while host.sessions() != count {
        assert!(started.elapsed() < Duration::from_secs(20), "{} sessions, not {count}", host.sessions());
        yield_now();
    }
    started.elapsed()
}

fn info(host: &Host, ticket: &Ticket) -> TicketInfo {
    host.tickets().into_iter().find(|info| info.id == ticket.claims.id).unwrap()
}

fn refused(ticket: &Ticket) -> bool {
    matches!(Peer::connect(ticket.clone()), Err(ConnectError::Refused))
}

fn again(dir: &TempDir, state: &TempDir, host: Host) -> Host {
    let mut config = config(dir.path(), state.path());
    config.listen = host.local_addrs();
    host.stop().unwrap();
    Host::start(config).unwrap()
}

#[test]
fn a_revoked_ticket_ends_its_sessions_and_lets_nobody_in_any_more() {
    let Rig { dir, state, host, peer } = Rig::new(|dir| fs::write(dir.join("f"), b"x").unwrap());
    let ticket = host.new_ticket(&request("guest")).unwrap();
    let guests: Vec<_> = (0..3).map(|_| Peer::connect(ticket.clone()).unwrap()).collect();
    until_sessions(&host, 4);
    assert_eq!(info(&host, &ticket).sessions.len(), 3);
    let started = Instant::now(); // clock: the promise under test
    assert_eq!(host.revoke(ticket.claims.id).unwrap(), 3);
    until_sessions(&host, 1);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    for guest in &guests {
        assert_eq!(guest.try_stat("f", None), Err(ErrorCode::Refused));
    }
    assert!(refused(&ticket));
    assert_eq!(info(&host, &ticket).state, TicketState::Revoked);
    assert_eq!(peer.read_all("f").unwrap(), b"x", "another ticket's mount goes on");
    assert_eq!(host.revoke(ticket.claims.id).unwrap(), 0, "a second time changes nothing");
    let host = again(&dir, &state, host);
    assert!(refused(&ticket), "also after a restart");
    assert_eq!(peer.read_all("f").unwrap(), b"x");
    host.stop().unwrap();
}

#[test]
fn a_revocation_misses_nobody_who_is_just_coming_in() {
    let rig = Rig::new(|_| {});
    for _ in 0..4 {
        let ticket = rig.host.new_ticket(&request("crowd")).unwrap();
        let (arrived, arrival) = std::sync::mpsc::channel();
        let inside: Vec<Vec<Peer>> = thread::scope(|scope| {
            let enter = |_| {
                let (ticket, arrived) = (ticket.clone(), arrived.clone());
                scope.spawn(move || {
                    let mut peers = Vec::new();
                    // Ends with the refusal; a revocation that somebody slips past ends nothing here, and fails below.
                    while let Ok(peer) = Peer::connect(ticket.clone()) {
                        let _ = arrived.send(());
                        peers.push(peer);
                        assert!(peers.len() < 40, "nobody is refused");
                    }
                    peers
                })
            };
            let entering: Vec<_> = (0..4).map(enter).collect();
            for _ in 0..6 {
                arrival.recv().unwrap();
            }
            rig.host.revoke(ticket.claims.id).unwrap();
            entering.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        // They hold on to their sessions, and have none.
        until_sessions(&rig.host, 1);
        assert!(info(&rig.host, &ticket).sessions.is_empty());
        assert!(inside.iter().flatten().all(|peer| peer.try_stat("", None) == Err(ErrorCode::Refused)));
    }
    rig.end();
}

#[test]
fn a_ticket_that_runs_out_ends_its_sessions() {
    let rig = Rig::new(|dir| fs::write(dir.join("f"), b"x").unwrap());
    let end = seconds_now() + 2;
    let ticket = rig.host.new_ticket(&TicketRequest { expires: Some(end), ..request("short") }).unwrap();
    let guest = Peer::connect(ticket.clone()).unwrap();
    assert_eq!(guest.read_all("f").unwrap(), b"x");
    until_sessions(&rig.host, 1);
    let ended = seconds_now();
    assert!((end..=end + 5).contains(&ended), "it ended at {ended}, its ticket at {end}");
    assert_eq!(guest.try_stat("f", None), Err(ErrorCode::Refused));
    assert!(refused(&ticket));
    assert_eq!(info(&rig.host, &ticket).state, TicketState::Expired);
    rig.end();
}

#[test]
fn the_first_ticket_is_listed_and_another_follows_when_it_is_revoked() {
    let Rig { dir, state, host, peer } = Rig::new(|_| {});
    let first = host.ticket();
    assert_eq!(info(&host, &first).label, "first ticket");
    assert_eq!(host.revoke(first.claims.id).unwrap(), 1);
    until_sessions(&host, 0);
    drop(peer);
    let host = again(&dir, &state, host);
    let second = host.ticket();
    assert_ne!(first.claims.id, second.claims.id);
    assert!(refused(&first));
    Peer::connect(second.clone()).unwrap().close();
    let host = again(&dir, &state, host);
    assert_eq!(host.ticket().claims, second.claims, "it stays");
    let states: Vec<_> = [&first, &second].map(|ticket| info(&host, ticket).state).into();
    assert_eq!(states, [TicketState::Revoked, TicketState::Good]);
    host.stop().unwrap();
}

#[test]
fn a_ticket_that_is_not_in_the_list_can_be_revoked_by_its_id() {
    let rig = Rig::new(|_| {});
    let mut claims = rig.host.ticket().claims;
    claims.id.0[0] ^= 1;
    let ticket = rig.host.issue(claims);
    Peer::connect(ticket.clone()).unwrap().close();
    assert!(rig.host.tickets().iter().all(|info| info.id != ticket.claims.id));
    rig.host.revoke(ticket.claims.id).unwrap();
    assert!(refused(&ticket));
    rig.end();
}

#[test]
fn use_and_labels_are_remembered_across_a_restart() {
    let Rig { dir, state, host, peer } = Rig::new(|dir| fs::create_dir(dir.join("sub")).unwrap());
    let before = seconds_now();
    let end = Some(before + 3_600);
    let narrow = TicketRequest { prefix: path("sub"), expires: end, ..request("narrow") };
    let ticket = host.new_ticket(&narrow).unwrap();
    assert_eq!(info(&host, &ticket).last_used, None);
    Peer::connect(ticket.clone()).unwrap().close();
    peer.close();
    let host = again(&dir, &state, host);
    let known = info(&host, &ticket);
    assert_eq!((known.label.as_str(), known.prefix, known.expires), ("narrow", path("sub"), end));
    assert!(known.last_used.is_some_and(|used| (before..=seconds_now()).contains(&used)));
    assert!((before..=seconds_now()).contains(&known.created));
    Peer::connect(ticket).unwrap().close();
    host.stop().unwrap();
}

#[test]
fn a_ticket_is_made_only_of_what_the_host_has() {
    let rig = Rig::new(|dir| {
        fs::write(dir.join("file"), b"").unwrap();
        std::os::unix::fs::symlink("/", dir.join("link")).unwrap();
    });
    for (prefix, reason) in [("absent", "does not exist"), ("file", "not a folder"), ("link", "not a folder")]
    {
        let error = rig.host.new_ticket(&TicketRequest { prefix: path(prefix), ..request("") }).unwrap_err();
        assert!(matches!(error, TicketError::Prefix { .. }), "{error}");
        assert!(error.to_string().contains(reason) && error.to_string().contains(prefix), "{error}");
    }
    let shares = vec![wire::Name::new(b"other").unwrap()];
    let error = rig.host.new_ticket(&TicketRequest { shares, ..request("") }).unwrap_err();
    assert!(error.to_string().contains("other") && error.to_string().contains("it has share"), "{error}");
    assert_eq!(rig.host.tickets().len(), 1);
    rig.end();
}

#[test]
fn a_damaged_list_of_tickets_stops_the_start() {
    let Rig { dir, state, host, peer } = Rig::new(|_| {});
    peer.close();
    host.stop().unwrap();
    let list = state.path().join("tickets.json");
    let text = fs::read_to_string(&list).unwrap();
    fs::write(&list, &text[..text.len() / 2]).unwrap();
    let error = Host::start(config(dir.path(), state.path())).unwrap_err();
    assert!(matches!(error, HostError::TicketsDamaged { .. }), "{error}");
    assert!(error.to_string().contains("tickets.json") && error.to_string().contains("restore"), "{error}");
    fs::write(&list, &text).unwrap();
    Host::start(config(dir.path(), state.path())).unwrap().stop().unwrap();
}

#[test]
fn a_host_does_not_open_to_the_tickets_of_another() {
    let (one, two) = (Rig::new(|_| {}), Rig::new(|_| {}));
    let Ticket { host_key, addresses, .. } = two.host.ticket();
    let astray = Ticket { host_key, addresses, ..one.host.ticket() };
    assert!(refused(&astray));
    two.host.revoke(one.host.ticket().claims.id).unwrap();
    assert_eq!(one.host.sessions(), 1, "and ends nothing there");
    one.end();
    two.end();
}
