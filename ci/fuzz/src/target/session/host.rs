//! The host that the rogue speaks to: everything is there, and an answer is as large as the rogue wants it.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use transport::{Answer, Serve, SessionSummary};
use wire::{
    Entry, ErrorCode, Listing, Name, Reply, Request, ShareId, SharePath,
    message::{Call, Hello, ShareInfo, Target, Welcome},
    version::PROTOCOL_VERSION,
};

use super::rogue::Peer;
use crate::target::attr::directory;

/// Data of every read; lent, never copied.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// The host.
#[derive(Default)]
pub(super) struct Host {
    /// The rogue of the last input, if its session lives.
    pub(super) spare: Mutex<Option<Peer>>,
}

impl Serve for Host {
    type Session = ();

    async fn admit(&self, hello: Hello, _: [u8; 32], _: SocketAddr) -> Result<(Arc<()>, Welcome), ErrorCode> {
        if hello.version_min != PROTOCOL_VERSION {
            return Err(ErrorCode::VersionMismatch);
        }
        let share = ShareInfo { id: ShareId(1), name: Name::new(b"s").expect("a letter"), root: directory() };
        Ok((Arc::new(()), Welcome { version: PROTOCOL_VERSION, session: 1, boot: 1, shares: vec![share] }))
    }

    async fn answer(&self, _: &Arc<()>, call: Call) -> Answer {
        match call.request {
            Request::Stat(target) if target.path.as_bytes() == b"never" => std::future::pending().await,
            Request::Stat(_) => Reply::Attr(directory()).into(),
            Request::Read { extent, version, .. } => {
                let data = Bytes::from_static(&ZEROS);
                let len = u32::try_from(extent.len.0).unwrap_or(u32::MAX);
                match usize::try_from(extent.len.0).ok().filter(|len| *len <= data.len()) {
                    Some(bytes) => Answer { reply: Reply::Data { version, len }, data: data.slice(..bytes) },
                    None => ErrorCode::Invalid.into(),
                }
            }
            Request::List { bytes_max, .. } => {
                let name = Name::new(b"name").expect("letters");
                let entry = Entry { name, cookie: 3, kind: None, attr: Some(directory()) };
                let count = (bytes_max as usize / entry.wire_bytes()).min(64);
                Reply::Listing(Listing {
                    dir: directory(),
                    entries: vec![entry; count],
                    end: true,
                    grant: None,
                })
                .into()
            }
            _ => ErrorCode::NotSupported.into(),
        }
    }

    fn ended(&self, _: &Arc<()>, _: &SessionSummary) {}
}

/// What the other mount asks.
pub(super) fn stat() -> Request {
    Request::Stat(Target { share: ShareId(1), path: SharePath::root(), id: None })
}
