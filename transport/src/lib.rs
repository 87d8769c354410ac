//! QUIC sessions between a mount and a host: who may speak, what is asked, how fast loss is noticed.
//!
//! A host binds a [`Server`] with its [`Identity`] and answers through the trait [`Serve`]; a mount holds a [`Client`],
//! made from a ticket. Both run on a [`Lane`], one thread each. `README.md` tells the life of a session.
//! This is the only crate of the workspace that names quinn.

#![forbid(unsafe_code)]

pub mod client;
pub mod congestion;
mod endpoint;
pub mod error;
pub mod histogram;
pub mod identity;
mod keylog;
pub mod lane;
pub mod serve;
pub mod server;
pub mod settings;
mod socket;
#[cfg(feature = "testing")]
pub mod testing;
mod tls;
pub mod waits;

pub use client::{
    Client, ClientConfig, FilesCall, FilesRead, Loss, OnLoss, Pushed, Pushes, ReadCall, SessionStats, Trip,
};
pub use error::{BindError, CallError, ConnectError};
pub use identity::{Identity, IdentityError};
pub use keylog::KeyLog;
pub use lane::Lane;
pub use serve::{Answer, HeldUp, Serve, SessionEnd, SessionSummary};
pub use server::{PathStats, Server, ServerConfig, ServerLimits, StageCounts, Usage};
pub use settings::PacketSize;
