//! Any bytes as the claims of a ticket, and the secrets made of them.

use wire::{
    Name,
    auth::{Claims, Secret},
    cursor::{Reader, Writer},
    limits,
};

/// All bytes are the claims and what follows them.
pub(super) fn run(bytes: &[u8]) {
    let mut from = Reader::new(bytes);
    let Ok(claims) = Claims::read(&mut from) else { return };
    let taken = &bytes[..bytes.len() - from.rest().len()];
    assert!(claims.shares.len() <= limits::SHARES_MAX);
    assert!(claims.shares.iter().all(|share| Name::new(share.as_bytes()).is_ok()));
    let mut out = Writer::new();
    claims.write(&mut out);
    // Two spellings of one claim would be two secrets of one ticket.
    assert_eq!(out.as_bytes(), taken);
    let secret = Secret::derive(&[7; 32], &claims);
    let proof = secret.prove(&claims, &[8; 32]);
    assert!(secret.accepts(&claims, &[8; 32], &proof));
    let mut wider = claims.clone();
    wider.expires = wider.expires.wrapping_add(1);
    assert!(!Secret::derive(&[7; 32], &wider).accepts(&wider, &[8; 32], &proof), "a proof for other claims");
}
