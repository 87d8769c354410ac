//! The rogue's operations.

use std::{
    cell::Cell,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use tokio::time;
use transport::testing::{Greeting, Link, Rogue, RogueStream};
use wire::{
    ByteLen, Class, Extent, Request, ShareId, SharePath, Ticket, Timestamp, Version, codec, limits,
    message::{Call, Target},
};

use crate::input::Input;

/// Streams held at once: more of them find nothing new.
const STREAMS_MAX: usize = 12;
/// Bytes of a read: more than a packet, less than what takes the time of many inputs.
const READ_BYTES_MAX: u64 = 128 << 10;
/// What a rogue waits for one operation: with windows full it would wait for good.
const MOMENT: Duration = Duration::from_millis(20);

/// A connection of the rogue and its streams.
pub(super) struct Peer {
    rogue: Rogue,
    streams: Vec<RogueStream>,
    greeted: bool,
}

impl Peer {
    /// An admitted one.
    pub(super) async fn connect(link: &Link, ticket: &Ticket) -> io::Result<Peer> {
        let rogue = Rogue::over(link, address(), ticket, Greeting::Hello).await?;
        Ok(Peer { rogue, streams: Vec::new(), greeted: true })
    }

    /// Whether another input may go on with it.
    pub(super) fn is_admitted(&self) -> bool {
        self.greeted && self.rogue.ended().is_none()
    }

    /// Drops every stream as it is.
    pub(super) fn forget_streams(&mut self) {
        self.streams.clear();
    }

    pub(super) async fn step(&mut self, input: &mut Input<'_>, ticket: &Ticket, link: &Link) {
        match input.u8() % 16 {
            0 | 1 => self.open().await,
            2 => self.write(input.u8(), input.short()).await,
            3..=5 => {
                let (which, bytes) = (input.u8(), request(input));
                self.write(which, &bytes).await;
            }
            6 => {
                let (which, mut bytes) = (input.u8(), request(input).to_vec());
                bend(&mut bytes, input);
                self.write(which, &bytes).await;
            }
            7 => self.with(input.u8(), RogueStream::finish),
            8 => {
                let code = input.u8().into();
                self.with(input.u8(), |stream| stream.reset(code));
            }
            9 => {
                let code = input.u8().into();
                self.with(input.u8(), |stream| stream.stop(code));
            }
            10 | 11 => self.read(input.u8(), input.u16()).await,
            12 => {
                let which = input.u8();
                if let Some(at) = usize::from(which).checked_rem(self.streams.len()) {
                    self.streams.swap_remove(at);
                }
            }
            13 => time::sleep(Duration::from_millis(input.u8().into())).await,
            14 => self.again(input, ticket, link).await,
            _ => {
                // A host takes no stream of one way.
                if let Some(Ok(stream)) = in_a_moment(self.rogue.open_uni()).await {
                    self.streams.push(stream);
                }
            }
        }
    }

    async fn open(&mut self) {
        if self.streams.len() < STREAMS_MAX
            && let Some(Ok(stream)) = in_a_moment(self.rogue.open()).await
        {
            self.streams.push(stream);
        }
    }

    /// The errors of a rogue's streams are what it came for.
    async fn write(&mut self, which: u8, bytes: &[u8]) {
        if let Some(at) = usize::from(which).checked_rem(self.streams.len()) {
            let _ = in_a_moment(self.streams[at].write(bytes)).await;
        }
    }

    async fn read(&mut self, which: u8, max: u16) {
        if let Some(at) = usize::from(which).checked_rem(self.streams.len()) {
            let _ = in_a_moment(self.streams[at].read(max.into())).await;
        }
    }

    fn with(&mut self, which: u8, act: impl FnOnce(&mut RogueStream)) {
        if let Some(at) = usize::from(which).checked_rem(self.streams.len()) {
            act(&mut self.streams[at]);
        }
    }

    /// Leaves, and comes back with a hello that is right, bent or missing.
    async fn again(&mut self, input: &mut Input<'_>, ticket: &Ticket, link: &Link) {
        self.streams.clear();
        self.rogue.close(input.u8().into());
        let greeting = if input.u8().is_multiple_of(2) { Greeting::Hello } else { Greeting::None };
        let connecting = Rogue::over(link, address(), ticket, greeting);
        // Refused while the host has seen too many: then the one that left stays.
        let Some(Ok(rogue)) = in_time(connecting).await else { return };
        (self.rogue, self.greeted) = (rogue, greeting == Greeting::Hello);
        if !self.greeted && input.u8().is_multiple_of(2) {
            let mut hello = self.rogue.hello(ticket).to_vec();
            bend(&mut hello, input);
            self.open().await;
            self.write(0, &hello).await;
            self.with(0, RogueStream::finish);
        }
    }
}

/// Where the next rogue is: not where the last one was, whose end is still on its way.
fn address() -> SocketAddr {
    thread_local! {
        static PORT: Cell<u16> = const { Cell::new(0) };
    }
    let port = PORT.with(|port| port.replace((port.get() + 1) % 64));
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3)), 6000 + port)
}

async fn in_a_moment<T>(work: impl Future<Output = T>) -> Option<T> {
    time::timeout(MOMENT, work).await.ok()
}

async fn in_time<T>(work: impl Future<Output = T>) -> Option<T> {
    time::timeout(Duration::from_secs(1), work).await.ok()
}

/// A whole request of a size that matters, most of them short of patience: what is held for a rogue ends with it.
fn request(input: &mut Input<'_>) -> Bytes {
    let (kind, class, patience) = (input.u8(), input.u8(), input.u8());
    let path = if kind & 0x80 == 0 { &b"never"[..] } else { b"a/b" };
    let path = SharePath::new(path).expect("a path");
    let target = Target { share: ShareId(1), path, id: None };
    let request = match kind % 8 {
        0..=2 => Request::Stat(target),
        3 | 4 => {
            let len = input.sized() % READ_BYTES_MAX + 1;
            let zero = Timestamp::default();
            let version = Version { size: ByteLen(limits::READ_BYTES_MAX), mtime: zero, ctime: zero };
            Request::Read { target, version, extent: Extent::new(0, len) }
        }
        5 => {
            let bytes_max = (input.u32()).min(limits::LISTING_BYTES_MAX);
            Request::List { target, cookie: 0, bytes_max, lease: None }
        }
        6 => Request::ListXattr(target),
        _ => Request::Readlink(target),
    };
    let classes = [Class::Warmup, Class::Readahead, Class::Metadata, Class::Demand];
    let class = classes[usize::from(class) % classes.len()];
    codec::encode_call(&Call { class, id: 7, deadline_ms: u32::from(patience) * 4, packs: false, request })
}

/// Changes a byte and cuts the end.
fn bend(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    let (at, with, keep) = (usize::from(input.u16()), input.u8(), usize::from(input.u16()));
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= with;
    }
    bytes.truncate(keep.max(1));
}
