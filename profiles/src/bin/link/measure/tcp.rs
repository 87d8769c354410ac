//! A TCP link: round trips of single bytes, then as much as one connection brings across.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use wormhole_profiles::link::{Link, LinkConfig};

use super::{PINGS, Trips, cost};

/// IPv4, and TCP with timestamps.
const HEADERS_BYTES: u32 = 52;
/// No wait is longer: the sink reads all the time.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) fn run(config: &LinkConfig, lasting: Duration) -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (target, bytes) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
    let sink = thread::spawn({
        let bytes = Arc::clone(&bytes);
        move || serve(&listener, &bytes)
    });
    let direct = round_trips(target)?;
    let link = Link::start(config, target)?;
    let mut text = round_trips(link.address())?.describe(config.rtt, &direct);

    let mut stream = connect(link.address())?;
    // Not a ping.
    stream.write_all(&[1])?;
    let chunk = vec![0; 128 << 10];
    let (started, mut counted_from) = (Instant::now(), None);
    while started.elapsed() < lasting {
        if counted_from.is_none() && started.elapsed() >= lasting / 3 {
            counted_from = Some((Instant::now(), bytes.load(Ordering::Relaxed), link.report()));
        }
        stream.write_all(&chunk)?;
    }
    let (since, before_bytes, before) = counted_from.context("the load was over before it counted")?;
    let (seconds, after) = (since.elapsed().as_secs_f64(), link.report());
    let carried = (bytes.load(Ordering::Relaxed) - before_bytes) as f64 * 8.0 / seconds;
    let wire = carried * f64::from(config.mtu_bytes) / f64::from(config.mtu_bytes - HEADERS_BYTES);
    text.push_str(&format!(
        "one connection: {:.3} of {:.3} Mbit/s carried, {} segments stalled, {}\n",
        wire / 1e6,
        config.rate_bps as f64 / 1e6,
        after.up.drops_loss - before.up.drops_loss,
        cost(&before, &after)
    ));
    text.push_str(&format!("{}\n", link.report()));
    // The link resets what it carries, and the sink has served its third connection then.
    drop((stream, link));
    let _ = sink.join();
    Ok(text)
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

fn round_trips(address: SocketAddr) -> anyhow::Result<Trips> {
    let mut stream = connect(address)?;
    let mut byte = [0];
    // The first is the handshake's as well.
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)?;
    let mut trips = Vec::new();
    for _ in 0..PINGS {
        let sent = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        trips.push(sent.elapsed());
    }
    Trips::new(trips)
}

/// Serves the three connections of [`run`]: bytes of 0 come back where a connection begins with one, others count.
fn serve(listener: &TcpListener, bytes: &AtomicU64) {
    let mut buffer = vec![0; 256 << 10];
    for _ in 0..3 {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let _ = stream.set_nodelay(true);
        let mut first = [0];
        if stream.read_exact(&mut first).is_err() {
            continue;
        }
        let echoes = first == [0];
        if echoes && stream.write_all(&first).is_err() {
            continue;
        }
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if echoes && stream.write_all(&buffer[..count]).is_err() {
                break;
            }
            bytes.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}
