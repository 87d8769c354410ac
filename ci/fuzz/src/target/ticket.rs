//! Any text as a ticket, and any contents behind a right checksum: what a person pastes.

use data_encoding::BASE64URL_NOPAD;
use wire::{Ticket, TicketId, limits, ticket::is_address};

/// The first byte: whether the others are the text, or contents to make a text of that is not damaged.
pub(super) fn run(bytes: &[u8]) {
    let Some((&form, body)) = bytes.split_first() else { return };
    let text = if form % 2 == 0 {
        String::from_utf8_lossy(body).into_owned()
    } else {
        let sum = blake3::hash(body);
        let contents = [body, &sum.as_bytes()[..4]].concat();
        format!("wh1_{}", BASE64URL_NOPAD.encode(&contents))
    };
    if let Some(id) = TicketId::parse(&text) {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    // Only white space at either end is more than the ticket itself.
    let Ok(ticket) = Ticket::parse(&text) else { return };
    let again = ticket.to_string();
    assert_eq!(again, text.trim());
    assert!((1..=limits::ADDRESSES_MAX).contains(&ticket.addresses.len()));
    assert!(ticket.addresses.iter().all(|address| is_address(address)));
    assert_eq!(Ticket::parse(&again), Ok(ticket));
}
