//! A process that is killed at any moment leaves a cache that serves nothing wrong.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use wire::chunk::ChunkIndex;

use super::shelf::{File, MIB, PATIENCE, Shelf, until};

const CHILD: &str = "WORMHOLE_L2_CHILD";

/// Files of a round: the next one has others.
fn files(round: u64) -> impl Iterator<Item = File> {
    (0..200).map(move |i| File::new(round * 1000 + i, 1 + (round * 31_337 + i * 271_828) % (3 * MIB)))
}

/// Not a test by itself: what the killed process does. It writes the files of a round and says so, without end.
#[tokio::test]
async fn child() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let (path, round) = told.rsplit_once('@').unwrap();
    let shelf = Shelf::new();
    let config = wormhole_engine::cache::l2::L2Config { dir: path.into(), ..shelf.config(40) };
    let l2 = shelf.open_with(&config);
    until(|| !l2.stats().is_loading).await;
    for (i, file) in files(round.parse().unwrap()).enumerate() {
        for start in (0..file.size).step_by(1 << 20) {
            l2.offer(file.key(), ChunkIndex(start / wire::CHUNK_BYTES), shelf.slot_of(file, start).await);
        }
        // Most of it is under way at any moment, but no more than the queue takes.
        if i % 4 == 0 {
            l2.flush(PATIENCE).await.unwrap();
        }
        if i % 3 == 0 {
            file.check(&l2).await;
        }
        // Past the capture of the harness: the parent reads it.
        std::io::stdout().write_all(format!("\nwrote {i}\n").as_bytes()).unwrap();
    }
    until(|| false).await;
}

#[tokio::test]
async fn after_a_kill_every_byte_served_is_right() {
    let rounds: u64 = std::env::var("WORMHOLE_KILLS").map_or(100, |count| count.parse().unwrap());
    let shelf = Shelf::new();
    let mut served = 0;
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "l2::kill::child", "--nocapture"])
            .env(CHILD, format!("{}@{round}", shelf.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let point = usize::try_from(round * 7 % 60).unwrap();
        let wrote = lines.map_while(Result::ok).filter(|line| line.starts_with("wrote")).nth(point);
        assert!(wrote.is_some(), "the child of round {round} ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();

        let l2 = shelf.open(40);
        until(|| !l2.stats().is_loading).await;
        for file in files(round).chain(files(round.saturating_sub(1))).take(120) {
            served += file.check(&l2).await;
        }
        assert_eq!(l2.stats().corrupt, 0, "a kill loses no page that the kernel has");
        assert!(super::shelf::dir_bytes(&shelf.path()) <= 40 * MIB);
        l2.close(PATIENCE).await.unwrap();
    }
    assert!(served > rounds * MIB, "{served} bytes in all");
}
