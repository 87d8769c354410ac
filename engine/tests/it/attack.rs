//! Peers that mean harm, over real connections, each without an end until it is dropped.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::{JoinHandle, JoinSet},
    time,
};
use transport::testing::{Greeting, Rogue, RogueStream};
use wire::{
    Class, Extent, Request, Ticket, Version, codec,
    fingerprint::Fingerprint,
    limits::{READ_BYTES_MAX, VERIFY_RANGES_MAX, XATTR_NAME_BYTES_MAX},
    message::{Call, Target},
};

use crate::readers::Swarm;

/// Streams that a peer uses at once: as many as a host allows.
const STREAMS: usize = 1_000;
/// Connections that a flood begins at once.
const KNOCKS: usize = 32;
/// How long one of them is waited for.
const KNOCK_PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// Streams of random bytes.
    Noise,
    /// A thousand streams with the beginning of a request, which never ends.
    HalfOpen,
    /// Requests that arrive a byte at a time.
    Dribble,
    /// Requests that are, and ask for, as much as there may be.
    Lengths,
    /// Requests as fast as they go, in their thousands at once.
    Requests,
    /// Reads whose answers are never taken.
    Deaf,
    /// Strangers' handshakes.
    Handshakes,
    /// Datagrams of anything, some like a first packet.
    Garbage,
}

impl Attack {
    pub(crate) const ALL: [Attack; 8] = [
        Attack::Noise,
        Attack::HalfOpen,
        Attack::Dribble,
        Attack::Lengths,
        Attack::Requests,
        Attack::Deaf,
        Attack::Handshakes,
        Attack::Garbage,
    ];
}

/// What an attacker knows.
#[derive(Clone)]
pub(crate) struct Knowledge {
    pub(crate) ticket: Ticket,
    pub(crate) target: Target,
    pub(crate) version: Version,
}

/// An attack under way.
pub(crate) struct Attacker {
    /// Streams, bytes, requests, connections or datagrams so far, by its kind.
    done: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
    flood: Option<std::thread::JoinHandle<()>>,
}

impl Attacker {
    pub(crate) fn start(swarm: &Swarm, attack: Attack, knowledge: &Knowledge) -> Attacker {
        let (done, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let flood = (attack == Attack::Garbage).then(|| {
            let (address, done, over) = (knowledge.ticket.addresses[0].clone(), done.clone(), over.clone());
            std::thread::spawn(move || garbage(&address, &done, &over))
        });
        let task = swarm.spawn(run(attack, knowledge.clone(), done.clone()));
        Attacker { done, over, task, flood }
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    pub(crate) fn stop(self) {
        self.task.abort();
        self.over.store(true, Ordering::Relaxed);
        if let Some(flood) = self.flood {
            flood.join().unwrap();
        }
    }
}

async fn run(attack: Attack, knowledge: Knowledge, done: Arc<AtomicU64>) {
    match attack {
        Attack::Garbage => {}
        Attack::Handshakes => knock(&knowledge.ticket, &done).await,
        _ => loop {
            // A host may turn it away for a while.
            let Ok(rogue) = Rogue::connect(&knowledge.ticket, Greeting::Hello).await else { continue };
            // Ends with its session.
            let _ = session(attack, &rogue, &knowledge, &done).await;
        },
    }
}

async fn session(
    attack: Attack,
    rogue: &Rogue,
    knowledge: &Knowledge,
    done: &Arc<AtomicU64>,
) -> std::io::Result<()> {
    let count = || done.fetch_add(1, Ordering::Relaxed);
    let stat = call(Request::Stat(knowledge.target.clone()));
    let mut state = 7;
    let mut held: Vec<RogueStream> = Vec::new();
    let mut answers = JoinSet::new();
    for n in 0.. {
        let mut stream = rogue.open().await?;
        match attack {
            Attack::Noise => {
                let noise: Vec<u8> = (0..4_096).map(|_| random(&mut state)).collect();
                stream.write(&noise).await?;
                stream.finish();
                // Whatever comes of it.
                let _ = stream.read(usize::MAX).await;
                count();
            }
            Attack::HalfOpen => {
                stream.write(&stat[..stat.len() / 2]).await?;
                held.push(stream);
                count();
            }
            Attack::Dribble => {
                for byte in 0..stat.len() {
                    // A stream that the host reset is over; the next one goes on.
                    if stream.write(&stat[byte..=byte]).await.is_err() {
                        break;
                    }
                    count();
                    tokio::task::yield_now().await;
                }
                held.push(stream);
                held.truncate(STREAMS / 2);
            }
            Attack::Lengths | Attack::Requests => {
                let request = if attack == Attack::Lengths { longest(knowledge, n) } else { stat.clone() };
                stream.write(&request).await?;
                stream.finish();
                while answers.len() >= STREAMS {
                    answers.join_next().await;
                }
                answers.spawn(async move { while let Ok(Some(_)) = stream.read(usize::MAX).await {} });
                count();
            }
            Attack::Deaf => {
                stream.write(&read(knowledge)).await?;
                stream.finish();
                held.push(stream);
                count();
            }
            Attack::Handshakes | Attack::Garbage => unreachable!("they have no session"),
        }
    }
    Ok(())
}

fn call(request: Request) -> Bytes {
    codec::encode_call(&Call { class: Class::Demand, id: 1, deadline_ms: 60_000, packs: false, request })
}

fn read(knowledge: &Knowledge) -> Bytes {
    let Knowledge { target, version, .. } = knowledge;
    let extent = Extent::new(0, READ_BYTES_MAX).clip(version.size);
    call(Request::Read { target: target.clone(), version: *version, extent })
}

/// The requests with the longest bodies and the largest answers, in turn.
fn longest(knowledge: &Knowledge, turn: usize) -> Bytes {
    let target = knowledge.target.clone();
    let whole = Extent::new(0, READ_BYTES_MAX).clip(knowledge.version.size);
    match turn % 4 {
        0 => read(knowledge),
        1 => {
            let path = wire::SharePath::root();
            let target = Target { path, id: None, ..target };
            call(Request::List { target, cookie: 0, bytes_max: u32::MAX, lease: None })
        }
        2 => {
            let ranges = vec![(whole, Fingerprint::Xxh3(0)); VERIFY_RANGES_MAX];
            call(Request::Verify { target, ranges })
        }
        _ => call(Request::GetXattr { target, name: vec![b'x'; XATTR_NAME_BYTES_MAX] }),
    }
}

/// Begins connections and says nothing on them.
async fn knock(ticket: &Ticket, done: &AtomicU64) {
    let mut knocks = JoinSet::new();
    loop {
        while knocks.len() >= KNOCKS {
            knocks.join_next().await;
        }
        let ticket = ticket.clone();
        knocks.spawn(async move {
            let _ = time::timeout(KNOCK_PATIENCE, Rogue::connect(&ticket, Greeting::None)).await;
        });
        done.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

fn garbage(address: &str, done: &AtomicU64, over: &AtomicBool) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 3;
    let mut datagram = [0; 1_400];
    while !over.load(Ordering::Relaxed) {
        for byte in &mut datagram {
            *byte = random(&mut state);
        }
        if random(&mut state) < 128 {
            // A first packet of QUIC version 1 by its header (RFC 9000, section 17.2.2).
            datagram[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
        }
        // A full queue of the host's drops it.
        let _ = socket.send_to(&datagram, address);
        done.fetch_add(1, Ordering::Relaxed);
    }
}

fn random(state: &mut u64) -> u8 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    state.to_be_bytes()[0]
}
