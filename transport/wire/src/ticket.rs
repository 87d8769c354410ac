//! Tickets: the line of text that lets a node reach a share.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;

use crate::{
    auth::{Claims, Secret},
    cursor::{Reader, Writer},
    error::DecodeError,
    limits,
};

/// What every ticket of this version starts with. The digit is the version.
const PREFIX: &str = "wh1_";
const CHECKSUM_BYTES: usize = 4;

/// Everything a node needs: where the host is, how to know it, what is granted, and the secret that proves it.
///
/// Its text form is `wh1_` and base64url; `Debug` hides the secret, `Display` shows the whole text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The host's Ed25519 public key, the only one a mount accepts.
    pub host_key: [u8; 32],
    /// `HOST:PORT`, in the order to try them; one to [`limits::ADDRESSES_MAX`].
    pub addresses: Vec<String>,
    /// What is granted.
    pub claims: Claims,
    /// What proves it.
    pub secret: Secret,
}

/// Why a text is no ticket.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It does not start like one.
    #[error("this is not a ticket: a ticket is one line that starts with wh1_ (from a file: @FILE)")]
    NotATicket,
    /// It starts with `wh` and another number.
    #[error("this ticket is of a newer version: update wormhole on this machine")]
    Newer,
    /// Characters are missing or wrong.
    #[error("this ticket is damaged: copy the whole line again")]
    Damaged,
    /// Well-formed text whose contents break a rule, which no host of ours writes.
    #[error("this ticket is not valid")]
    Malformed(#[source] DecodeError),
}

impl Ticket {
    /// Reads the text form; white space around it is ignored.
    ///
    /// # Errors
    /// A [`TicketError`] that says what to do.
    pub fn parse(text: &str) -> Result<Ticket, TicketError> {
        let text = text.trim();
        let Some(body) = text.strip_prefix(PREFIX) else {
            let newer = text
                .strip_prefix("wh")
                .and_then(|rest| rest.split_once('_'))
                .is_some_and(|(digits, _)| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
            return Err(if newer { TicketError::Newer } else { TicketError::NotATicket });
        };
        if body.len() > limits::TICKET_BYTES_MAX * 4 / 3 {
            return Err(TicketError::Damaged);
        }
        let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| TicketError::Damaged)?;
        let split = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(TicketError::Damaged)?;
        let (payload, sum) = bytes.split_at(split);
        if checksum(payload) != sum {
            return Err(TicketError::Damaged);
        }
        Self::read(payload).map_err(TicketError::Malformed)
    }

    fn read(payload: &[u8]) -> Result<Ticket, DecodeError> {
        let mut from = Reader::new(payload);
        let host_key = from.fixed("host key")?;
        let secret = Secret::from_bytes(from.fixed("secret")?);
        let claims = Claims::read(&mut from)?;
        let count = from.count(limits::ADDRESSES_MAX, "addresses")?;
        if count == 0 {
            return Err(DecodeError::OutOfRange { what: "number of addresses" });
        }
        let mut addresses = Vec::with_capacity(count);
        for _ in 0..count {
            let bytes = from.short_bytes(limits::ADDRESS_BYTES_MAX, "address")?;
            let text = std::str::from_utf8(bytes).ok().filter(|text| is_address(text));
            addresses.push(text.ok_or(DecodeError::OutOfRange { what: "address" })?.to_owned());
        }
        from.finish()?;
        Ok(Ticket { host_key, addresses, claims, secret })
    }
}

/// Whether `text` looks like `HOST:PORT`: printable ASCII without spaces, a port of its own.
pub fn is_address(text: &str) -> bool {
    let printable = text.len() <= limits::ADDRESS_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic());
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    printable
        && port.is_some_and(|port| {
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n != 0)
        })
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = blake3::hash(payload);
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hash.as_bytes()[..CHECKSUM_BYTES]);
    sum
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Writer::new();
        out.raw(&self.host_key);
        out.raw(self.secret.expose());
        self.claims.write(&mut out);
        out.count(self.addresses.len());
        for address in &self.addresses {
            out.short_bytes(address.as_bytes());
        }
        let sum = checksum(out.as_bytes());
        out.raw(&sum);
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&out.into_bytes()))
    }
}
