//! A host that is killed and comes back while it is read from.

use std::{fs::File, io::Read, sync::mpsc, thread, time::Duration};

use super::{Away, figure, pass, timed};

/// More than is fetched ahead of a reader: so much is not here yet when the host dies.
const AHEAD_BYTES: u64 = 40 << 20;

#[test]
fn a_host_killed_during_a_read_and_started_again_is_not_noticed() {
    let asked = std::env::var("WORMHOLE_TRIES").ok().and_then(|tries| tries.parse::<u64>().ok());
    let (tries, len) = asked.map_or((2, 64 << 20), |tries| (tries, 1 << 30));
    let Some(mut away) = Away::new(len) else { return };
    let source = away.folder.path().join("big");
    for number in 0..tries {
        let random = blake3::hash(&[u64::from(std::process::id()), number].map(u64::to_le_bytes).concat());
        let random = u64::from_le_bytes(random.as_bytes()[..8].try_into().unwrap());
        let kill_at = random % (len - AHEAD_BYTES);
        let mount = away.mount(&[]);
        let ((reached, wait), (go_on, told)) = (mpsc::channel(), mpsc::channel());
        let (read, expected) = (File::open(mount.join("big")).unwrap(), File::open(&source).unwrap());
        let reader = thread::spawn(move || compare(read, expected, kill_at, (&reached, &told)));
        wait.recv().unwrap();
        away.kill();
        go_on.send(()).unwrap();
        pass(Duration::from_secs(2));
        away.start();
        let (wrong, took) = timed(|| reader.join().unwrap());
        assert_eq!(wrong, None, "try {number}, killed at {kill_at}: the first wrong byte");
        let status = away.status(&mount);
        assert_eq!((status.session.reconnects, status.errors), (1, 0), "try {number}, killed at {kill_at}");
        figure(&format!("try {number}, killed at {} MiB: read on and done after", kill_at >> 20), took);
    }
}

/// Reads both to the end; tells when it passes `mark`, and goes on when it is told to, with what was asked ahead still on its
/// way. Where they differ first.
fn compare(
    mut read: File,
    mut expected: File,
    mark: u64,
    (reached, go_on): (&mpsc::Sender<()>, &mpsc::Receiver<()>),
) -> Option<u64> {
    let (mut ours, mut theirs) = (vec![0; 256 << 10], vec![0; 256 << 10]);
    let mut at = 0;
    let mut told = false;
    loop {
        let count = read.read(&mut ours).unwrap();
        let rest = &mut theirs[..if count == 0 { 1 } else { count }];
        let same = match count {
            0 => expected.read(rest).unwrap() == 0,
            _ => expected.read_exact(rest).is_ok() && *rest == ours[..count],
        };
        if !same {
            return Some(at);
        }
        if count == 0 {
            return None;
        }
        at += count as u64;
        if at >= mark && !told {
            told = true;
            // Nobody waits any more when the test failed.
            let _ = reached.send(());
            let _ = go_on.recv();
        }
    }
}
