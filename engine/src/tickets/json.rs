//! Names, paths and ids as JSON: text where they are UTF-8, hexadecimal bytes where they are not.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use wire::{Name, SharePath, TicketId};

/// Bytes that are text nearly always. File systems keep bytes; JSON does not.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Raw {
    Text(String),
    Bytes { bytes: Vec<u8> },
}

impl Raw {
    fn of(bytes: &[u8]) -> Raw {
        match std::str::from_utf8(bytes) {
            Ok(text) => Raw::Text(text.to_owned()),
            Err(_) => Raw::Bytes { bytes: bytes.into() },
        }
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Raw::Text(text) => text.as_bytes(),
            Raw::Bytes { bytes } => bytes,
        }
    }
}

/// A [`TicketId`] as sixteen hexadecimal digits.
pub(crate) mod id {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(id: &TicketId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TicketId, D::Error> {
        let text = String::deserialize(from)?;
        TicketId::parse(&text).ok_or_else(|| D::Error::custom("not the id of a ticket"))
    }
}

/// Names of shares.
pub(crate) mod names {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(names: &[Name], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(names.iter().map(|name| Raw::of(name.as_bytes())))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Name>, D::Error> {
        let raw = Vec::<Raw>::deserialize(from)?;
        raw.iter().map(|raw| Name::new(raw.as_bytes()).map_err(D::Error::custom)).collect()
    }
}

/// A path inside a share; empty for its root.
pub(crate) mod path {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(path: &SharePath, to: S) -> Result<S::Ok, S::Error> {
        Raw::of(path.as_bytes()).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SharePath, D::Error> {
        SharePath::new(Raw::deserialize(from)?.as_bytes()).map_err(D::Error::custom)
    }
}
