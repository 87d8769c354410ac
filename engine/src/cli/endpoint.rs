//! The counters of a process over HTTP, for Prometheus: `GET /metrics`, and nothing else.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{interval, sleep, timeout},
};

/// Upper bounds of the latency histograms, in seconds: from a cache hit to a disk that hangs.
const LATENCY_BUCKETS: [f64; 14] =
    [25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 100e-3, 500e-3, 2.0, 10.0];
/// Scrapers at once; more wait in the kernel's queue.
const SCRAPERS_MAX: usize = 8;
/// From a scraper's connection to its last byte.
const SCRAPE_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of a request that are read: its first line is all that counts.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// How often samples that nobody scraped are folded into their histograms, which bounds them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// How long to wait when no connection can be taken, such as without descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A socket that scrapers may connect to. They are answered once it is [served](Endpoint::serve).
#[derive(Debug)]
pub struct Endpoint {
    listener: std::net::TcpListener,
    recorder: PrometheusHandle,
}

impl Endpoint {
    /// Binds `address`, and makes this process count: before anything asks for its counters. Call it once a process.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(address: SocketAddr) -> anyhow::Result<Endpoint> {
        let bound = std::net::TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = bound.with_context(|| {
            format!("metrics cannot be served on {address}: choose another address with --metrics")
        })?;
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &LATENCY_BUCKETS)?
            .install_recorder()?;
        Ok(Endpoint { listener, recorder })
    }

    /// Answers scrapers for as long as the process lives, each after a call of `sample`, which brings up to date what is
    /// not counted as it happens, and returns what is not counted here at all. Spawn it on a runtime with I/O and time.
    pub async fn serve(self, sample: impl Fn() -> String + Send + Sync + 'static) {
        let listener = match TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::warn!(%error, "metrics are not served"),
        };
        let sample = Arc::new(sample);
        let scrapers = Arc::new(Semaphore::new(SCRAPERS_MAX));
        let mut upkeep = interval(UPKEEP_EVERY);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = upkeep.tick() => {
                    self.recorder.run_upkeep();
                    continue;
                }
            };
            let Ok((stream, _)) = accepted else {
                sleep(ACCEPT_PAUSE).await;
                continue;
            };
            // Each ends at its deadline, so that this wait has one.
            let Ok(permit) = scrapers.clone().acquire_owned().await else { return };
            let (recorder, sample) = (self.recorder.clone(), sample.clone());
            tokio::spawn(async move {
                // A scraper that is slow or goes away misses this scrape.
                let _ = timeout(
                    SCRAPE_DEADLINE,
                    answer(stream, || {
                        let more = sample();
                        recorder.render() + &more
                    }),
                )
                .await;
                drop(permit);
            });
        }
    }
}

async fn answer(mut stream: TcpStream, render: impl FnOnce() -> String) -> std::io::Result<()> {
    let mut request = Vec::new();
    // To the end of the headers: closing with bytes unread would reset the connection under the answer.
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST_BYTES_MAX {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let first = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, body) = respond(&String::from_utf8_lossy(first), render);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

/// The status and the text that answer a request's first line.
fn respond(line: &str, render: impl FnOnce() -> String) -> (&'static str, String) {
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    match (method, path) {
        ("GET", "/metrics") => ("200 OK", render()),
        ("GET", "/") => ("200 OK", "wormhole: the counters are under /metrics\n".to_owned()),
        ("GET", _) => ("404 Not Found", "there is nothing but /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", "there is nothing but GET /metrics\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_counters_are_served() {
        let status = |line: &str| respond(line, || "counters".to_owned()).0;
        assert_eq!(
            respond("GET /metrics HTTP/1.1", || "counters".to_owned()),
            ("200 OK", "counters".to_owned())
        );
        assert_eq!(status("GET /metrics?x=1 HTTP/1.0"), "200 OK");
        assert!(respond("GET / HTTP/1.1", String::new).1.contains("/metrics"));
        assert_eq!(status("GET /metrics/../etc HTTP/1.1"), "404 Not Found");
        assert_eq!(status("POST /metrics HTTP/1.1"), "405 Method Not Allowed");
        assert_eq!(status(""), "405 Method Not Allowed");
    }
}
