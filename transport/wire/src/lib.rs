//! What both ends of a Wormhole session agree on: ids, units, attributes, the ticket, messages and their codec.
//!
//! No I/O, no clock, no `unsafe`: bytes in, values out, and back. Every byte is described in `PROTOCOL.md`;
//! every length that a peer may claim has its bound in [`limits`].
//!
//! A first reading: [`Request`] and [`Reply`] say what is asked and answered, [`codec`] how that looks on a
//! stream, [`Push`] what the host says unasked, [`Ticket`] what lets a node in.

#![forbid(unsafe_code)]

pub mod attr;
pub mod auth;
pub mod bound;
pub mod chunk;
pub mod code;
pub mod codec;
pub mod cursor;
pub mod error;
pub mod extent;
pub mod fingerprint;
pub mod id;
pub mod lease;
pub mod limits;
pub mod listing;
pub mod message;
pub mod name;
pub mod path;
pub mod ticket;
pub mod timing;
pub mod units;
pub mod version;

pub use attr::{Attr, FileKind};
pub use chunk::CHUNK_BYTES;
pub use code::ErrorCode;
pub use error::DecodeError;
pub use extent::Extent;
pub use id::{FileId, LeaseId, ShareId, TicketId};
pub use lease::{Change, Changes, Grant, Push};
pub use listing::{Entry, Listing};
pub use message::{Class, Reply, Request};
pub use name::Name;
pub use path::SharePath;
pub use ticket::Ticket;
pub use units::{ByteLen, ByteOffset, Timestamp};
pub use version::Version;
