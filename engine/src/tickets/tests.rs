use super::*;
use crate::config::TICKETS_MAX;

const CHANNEL: [u8; 32] = [3; 32];

fn door() -> Door {
    Door { host_key: [1; 32], addresses: vec!["h:1".into()] }
}

fn hello(ticket: &Ticket, channel: &[u8; 32]) -> Hello {
    Hello {
        version_min: 1,
        version_max: 1,
        claims: ticket.claims.clone(),
        proof: ticket.secret.prove(&ticket.claims, channel),
        label: String::new(),
    }
}

fn issued(change: impl FnOnce(&mut Claims)) -> (Tickets, Ticket) {
    let tickets = Tickets::in_memory([7; 32]);
    let mut claims = tickets.first();
    change(&mut claims);
    let ticket = tickets.issue(claims, &door());
    (tickets, ticket)
}

fn request(label: &str) -> TicketRequest {
    TicketRequest { label: label.into(), shares: Vec::new(), prefix: SharePath::root(), expires: None }
}

fn seat(tickets: &Tickets, number: u64, claims: &Claims) -> Result<Seat, Refusal> {
    tickets.seat(number, claims.clone(), "mount".into(), "127.0.0.1:9".parse().unwrap())
}

#[test]
fn the_first_ticket_is_the_same_at_each_start_and_differs_between_hosts() {
    assert_eq!(Tickets::in_memory([7; 32]).first(), Tickets::in_memory([7; 32]).first());
    assert_ne!(Tickets::in_memory([7; 32]).first().id, Tickets::in_memory([8; 32]).first().id);
}

#[test]
fn the_first_ticket_is_the_one_of_earlier_versions() {
    // The id that version 0.1.0 derived from this key: tickets given out then stay good.
    let hash = blake3::derive_key("wormhole 2026-11 id of the first ticket", &[7; 32]);
    assert_eq!(Tickets::in_memory([7; 32]).first().id.0, hash[..8]);
}

#[test]
fn a_revoked_first_ticket_is_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let tickets = Tickets::open([7; 32], dir.path()).unwrap();
        tickets.begin(&["h:1".into()], &[]).unwrap();
        let first = tickets.first();
        assert!(!seen.contains(&first.id));
        assert_eq!(tickets.record(first.id).unwrap().label, FIRST_LABEL);
        seen.push(first.id);
        tickets.revoke(&[first.id]).unwrap();
    }
    let tickets = Tickets::open([7; 32], dir.path()).unwrap();
    assert!(seen.iter().all(|id| tickets.book.with(|pages| pages.registry.revoked_at(*id).is_some())));
}

#[test]
fn only_the_holder_on_his_own_connection_is_let_in() {
    let (tickets, ticket) = issued(|_| {});
    assert_eq!(tickets.check(&hello(&ticket, &CHANNEL), &CHANNEL), Ok(()));
    assert_eq!(tickets.check(&hello(&ticket, &CHANNEL), &[4; 32]), Err(Refusal::WrongProof));
    let mut wider = hello(&issued(|c| c.prefix = SharePath::new(b"a").unwrap()).1, &CHANNEL);
    wider.claims.prefix = SharePath::root();
    assert_eq!(tickets.check(&wider, &CHANNEL), Err(Refusal::WrongProof));
}

#[test]
fn a_ticket_that_ran_out_is_refused() {
    let (tickets, past) = issued(|c| c.expires = 1);
    assert_eq!(tickets.check(&hello(&past, &CHANNEL), &CHANNEL), Err(Refusal::Expired));
    assert_eq!(seat(&tickets, 1, &past.claims).unwrap_err(), Refusal::Expired);
    let (tickets, future) = issued(|c| c.expires = u64::MAX);
    assert_eq!(tickets.check(&hello(&future, &CHANNEL), &CHANNEL), Ok(()));
}

#[test]
fn without_the_proof_nobody_learns_that_a_ticket_was_revoked_or_ran_out() {
    let (tickets, ticket) = issued(|c| c.expires = 1);
    tickets.revoke(&[ticket.claims.id]).unwrap();
    let mut forged = hello(&ticket, &CHANNEL);
    forged.proof.0[0] ^= 1;
    assert_eq!(tickets.check(&forged, &CHANNEL), Err(Refusal::WrongProof));
    assert_eq!(tickets.check(&hello(&ticket, &CHANNEL), &CHANNEL), Err(Refusal::Revoked));
}

#[tokio::test]
async fn a_revocation_reaches_its_sessions_and_no_other() {
    let (tickets, ticket) = issued(|_| {});
    let other = tickets.create(&request("other"), &[], &door()).unwrap();
    let seats: Vec<_> = (1..=2).map(|n| seat(&tickets, n, &ticket.claims).unwrap()).collect();
    let bystander = seat(&tickets, 3, &other.claims).unwrap();
    let done = tickets.revoke(&[ticket.claims.id]).unwrap();
    assert_eq!(done[0].sessions, 2);
    for seat in &seats {
        assert_eq!(seat.dismissed().await, Refusal::Revoked);
        assert_eq!(seat.check(), Err(Refusal::Revoked));
    }
    assert_eq!(bystander.check(), Ok(()));
    assert_eq!(seat(&tickets, 4, &ticket.claims).unwrap_err(), Refusal::Revoked);
    assert_eq!(tickets.revoke(&[ticket.claims.id]).unwrap()[0].sessions, 0, "they were ended before");
    drop(seats);
    assert_eq!(tickets.live().len(), 1);
}

#[test]
fn a_request_is_checked_before_a_ticket_is_made() {
    let tickets = Tickets::in_memory([7; 32]);
    let served = [Name::new(b"a").unwrap()];
    let create = |request: &TicketRequest| tickets.create(request, &served, &door());
    let with = |change: fn(&mut TicketRequest)| {
        let mut request = request("x");
        change(&mut request);
        create(&request).unwrap_err()
    };
    let unknown = with(|r| r.shares.push(Name::new(b"b").unwrap()));
    assert!(matches!(unknown, TicketError::UnknownShare { .. }), "{unknown}");
    assert!(matches!(with(|r| r.expires = Some(1)), TicketError::InThePast { at: 1 }));
    assert!(matches!(with(|r| r.label = "a\nb".into()), TicketError::Label { .. }));
    assert!(matches!(with(|r| r.label = "a".repeat(256)), TicketError::Label { .. }));
    let many = with(|r| r.shares = vec![Name::new(b"a").unwrap(); 11]);
    assert!(matches!(many, TicketError::ShareCount { count: 11 }));
    assert!(tickets.page(None, 10).is_empty());
}

#[test]
fn a_full_list_says_so_and_expired_tickets_make_room() {
    let tickets = Tickets::in_memory([7; 32]);
    let long_ago = Claims { expires: 1, ..tickets.first() };
    tickets.book.with(|pages| {
        for n in 0..TICKETS_MAX as u64 - 1 {
            let claims = Claims { id: TicketId(n.to_le_bytes()), expires: 0, ..long_ago.clone() };
            pages.registry.insert(Record::of(&claims, String::new(), 1));
        }
    });
    tickets.create(&request("last"), &[], &door()).unwrap();
    assert!(matches!(tickets.create(&request("more"), &[], &door()), Err(TicketError::Full)));
    tickets.book.with(|pages| {
        pages.registry.remove(TicketId([0; 8]));
        pages.registry.insert(Record::of(&long_ago, String::new(), 1));
    });
    tickets.create(&request("after"), &[], &door()).unwrap();
}

#[test]
fn a_ticket_is_meant_by_its_id_a_part_of_it_or_its_label() {
    let tickets = Tickets::in_memory([7; 32]);
    let insert = |id: [u8; 8], label: &str| {
        let claims = Claims { id: TicketId(id), ..tickets.first() };
        tickets.book.with(|pages| pages.registry.insert(Record::of(&claims, label.into(), 1)));
    };
    insert([0xab, 1, 0, 0, 0, 0, 0, 0], "laptop");
    insert([0xab, 2, 0, 0, 0, 0, 0, 0], "farm");
    insert([0xcd, 0, 0, 0, 0, 0, 0, 0], "farm");
    insert([0xef, 1, 0, 0, 0, 0, 0, 0], "fedcba9876543210");
    let found = |text: &str| tickets.find(text).map(|id| id.0[..2].to_vec());
    assert_eq!(found("laptop").unwrap(), [0xab, 1]);
    assert_eq!(found("AB02").unwrap(), [0xab, 2]);
    assert_eq!(found("0123456789abcdef").unwrap(), [0x01, 0x23], "also one that is not listed");
    assert_eq!(found("fedcba9876543210").unwrap(), [0xef, 1], "a label that looks like an id");
    for text in ["ab", "farm"] {
        let error = found(text).unwrap_err();
        assert!(matches!(&error, TicketError::Ambiguous { found, .. } if found.len() == 2), "{error}");
    }
    assert!(matches!(found("tablet"), Err(TicketError::Unknown { .. })));
    assert!(matches!(found(""), Err(TicketError::Unknown { .. })));
    tickets.revoke(&[TicketId([0xcd, 0, 0, 0, 0, 0, 0, 0])]).unwrap();
    assert_eq!(found("farm").unwrap(), [0xab, 2], "the one that is still good");
}

#[test]
fn what_cannot_be_written_is_not_handed_out_and_a_revocation_holds_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::create_dir(&state).unwrap();
    let tickets = Tickets::open([7; 32], &state).unwrap();
    let made = tickets.create(&request("made"), &[], &door()).unwrap();
    std::fs::remove_dir_all(&state).unwrap();
    let unsaved = tickets.create(&request("unsaved"), &[], &door()).unwrap_err();
    assert!(matches!(unsaved, TicketError::Save { .. }), "{unsaved}");
    assert_eq!(tickets.page(None, 10).len(), 1);
    let error = tickets.revoke(&[made.claims.id]).unwrap_err();
    assert!(matches!(error, TicketError::RevokedUnsaved { .. }), "{error}");
    assert_eq!(tickets.check(&hello(&made, &CHANNEL), &CHANNEL), Err(Refusal::Revoked));
    std::fs::create_dir(&state).unwrap();
    assert!(tickets.is_unsaved());
    tickets.save().unwrap();
    let again = Tickets::open([7; 32], &state).unwrap();
    assert_eq!(again.check(&hello(&made, &CHANNEL), &CHANNEL), Err(Refusal::Revoked));
}
