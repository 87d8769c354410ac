//! What a ticket claims, the secret behind it, and the proof that a mount holds it.
//!
//! The host keeps no list of secrets: a secret is the keyed BLAKE3 of the claims under the host's ticket key, so
//! the host computes it again from what the mount claims. The mount never sends it; it sends a proof bound to
//! the TLS session (the exporter of RFC 8446, section 7.5), which is worthless on any other connection.

use crate::{SharePath, TicketId, cursor::Reader, cursor::Writer, error::DecodeError, limits, name::Name};

/// What the holder of a ticket may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Read.
    ReadOnly,
}

/// What a ticket grants; part of the ticket, and hashed into its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The ticket's public number.
    pub id: TicketId,
    /// The shares it names, at most [`limits::SHARES_MAX`]; empty means every share of the host.
    pub shares: Vec<Name>,
    /// The folder inside each share that the mount sees as its root.
    pub prefix: SharePath,
    /// What may be done.
    pub mode: Mode,
    /// Seconds since 1970 from which the ticket is refused; zero means never.
    pub expires: u64,
}

impl Claims {
    /// Appends the claims to a message. PROTOCOL.md, "Claims".
    pub fn write(&self, out: &mut Writer) {
        out.raw(&self.id.0);
        out.u8(match self.mode {
            Mode::ReadOnly => 1,
        });
        out.u64(self.expires);
        out.short_bytes(self.prefix.as_bytes());
        out.count(self.shares.len());
        for share in &self.shares {
            out.short_bytes(share.as_bytes());
        }
    }

    /// Reads what [`Claims::write`] wrote.
    ///
    /// # Errors
    /// Any [`DecodeError`] of its parts.
    pub fn read(from: &mut Reader<'_>) -> Result<Claims, DecodeError> {
        let id = TicketId(from.fixed("ticket id")?);
        let mode = match from.u8("mode")? {
            1 => Mode::ReadOnly,
            n => return Err(DecodeError::Unknown { what: "mode", value: n.into() }),
        };
        let expires = from.u64("expiry")?;
        let prefix = SharePath::new(from.short_bytes(limits::PATH_BYTES_MAX, "prefix")?)?;
        let count = from.count(limits::SHARES_MAX, "shares")?;
        let mut shares = Vec::with_capacity(count);
        for _ in 0..count {
            shares.push(Name::new(from.short_bytes(limits::NAME_BYTES_MAX, "share name")?)?);
        }
        Ok(Claims { id, shares, prefix, mode, expires })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.write(&mut out);
        out.into_bytes()
    }
}

/// The secret of a ticket. Its `Debug` form hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret([u8; 32]);

/// What a mount shows instead of the secret, good for one TLS session.
#[derive(Clone, Copy, Debug)]
pub struct Proof(pub [u8; 32]);

const SECRET_CONTEXT: &str = "wormhole 2026-11 ticket secret";
const PROOF_CONTEXT: &str = "wormhole 2026-11 session proof";

impl Secret {
    /// The secret of `claims` under the host's `ticket_key`.
    pub fn derive(ticket_key: &[u8; 32], claims: &Claims) -> Secret {
        let key = blake3::derive_key(SECRET_CONTEXT, ticket_key);
        Secret(*blake3::keyed_hash(&key, &claims.to_bytes()).as_bytes())
    }

    /// Takes the bytes of a ticket as its secret.
    pub fn from_bytes(bytes: [u8; 32]) -> Secret {
        Secret(bytes)
    }

    /// The bytes, to be written into a ticket and nowhere else.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The proof for the TLS session whose exporter gave `channel`.
    pub fn prove(&self, claims: &Claims, channel: &[u8; 32]) -> Proof {
        Proof(*self.tag(claims, channel).as_bytes())
    }

    /// Whether `proof` was made from this secret for these claims and this session; in constant time.
    pub fn accepts(&self, claims: &Claims, channel: &[u8; 32], proof: &Proof) -> bool {
        // blake3's `Hash` compares in constant time; plain arrays do not.
        self.tag(claims, channel) == blake3::Hash::from_bytes(proof.0)
    }

    fn tag(&self, claims: &Claims, channel: &[u8; 32]) -> blake3::Hash {
        let key = blake3::derive_key(PROOF_CONTEXT, &self.0);
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(channel);
        hasher.update(&claims.to_bytes());
        hasher.finalize()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        let prefix = SharePath::new(b"shots").unwrap();
        Claims { id: TicketId([1; 8]), shares: Vec::new(), prefix, mode: Mode::ReadOnly, expires: 7 }
    }

    #[test]
    fn a_proof_holds_for_its_secret_claims_and_session_only() {
        let secret = Secret::derive(&[9; 32], &claims());
        let proof = secret.prove(&claims(), &[3; 32]);
        assert!(secret.accepts(&claims(), &[3; 32], &proof));
        assert!(!secret.accepts(&claims(), &[4; 32], &proof), "another session");
        let wider = Claims { prefix: SharePath::root(), ..claims() };
        assert!(!secret.accepts(&wider, &[3; 32], &proof), "other claims");
        assert!(!Secret::derive(&[8; 32], &claims()).accepts(&claims(), &[3; 32], &proof), "another host");
        assert!(!Secret::derive(&[9; 32], &wider).accepts(&claims(), &[3; 32], &proof), "another ticket");
        let mut bent = proof;
        bent.0[31] ^= 1;
        assert!(!secret.accepts(&claims(), &[3; 32], &bent));
    }

    #[test]
    fn debug_hides_the_secret() {
        let secret = Secret::from_bytes([0xab; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(hidden)");
    }
}
