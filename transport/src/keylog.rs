//! The secrets of sessions in a file, for whoever looks at packets: off unless a program is asked for it.

use std::{
    fmt::Write as _,
    fs::File,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

/// Where sessions write their secrets, a line each, in the format of NSS that packet analysers read.
///
/// Whoever reads the file can decrypt the sessions in it, those recorded before as well; it opens no session: a proof
/// needs the ticket's secret, which is not in there. Source: draft-ietf-tls-keylogfile.
#[derive(Clone, Debug)]
pub struct KeyLog {
    file: Arc<Mutex<File>>,
    failed: Arc<AtomicBool>,
}

impl KeyLog {
    /// A log to `file`, opened by the caller: to append, so that several processes may share it, and private.
    pub fn new(file: File) -> KeyLog {
        KeyLog { file: Arc::new(Mutex::new(file)), failed: Arc::default() }
    }

    /// A file that no longer takes a line costs the log, never the session.
    fn write(&self, line: &str) {
        let written = self.file.lock().write_all(line.as_bytes());
        if let Err(error) = written
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "the TLS key log cannot be written: sessions missing in it cannot be decrypted");
        }
    }
}

impl rustls::KeyLog for KeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        // One write a line: lines of processes that share the file do not mix.
        let mut line = String::with_capacity(label.len() + 2 * (client_random.len() + secret.len()) + 3);
        line.push_str(label);
        for part in [client_random, secret] {
            line.push(' ');
            for byte in part {
                // Into memory.
                let _ = write!(line, "{byte:02x}");
            }
        }
        line.push('\n');
        self.write(&line);
    }
}

#[cfg(test)]
mod tests {
    use rustls::KeyLog as _;

    use super::*;

    #[test]
    fn a_secret_is_one_line_of_three_words() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let log = KeyLog::new(file.reopen().unwrap());
        log.log("CLIENT_TRAFFIC_SECRET_0", &[0, 0x1f], &[0xab; 3]);
        log.clone().log("SERVER_TRAFFIC_SECRET_0", &[1], &[2]);
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text, "CLIENT_TRAFFIC_SECRET_0 001f ababab\nSERVER_TRAFFIC_SECRET_0 01 02\n");
    }

    #[test]
    fn a_file_that_is_full_costs_no_session() {
        let log = KeyLog::new(File::options().append(true).open("/dev/full").unwrap());
        log.log("CLIENT_TRAFFIC_SECRET_0", &[0], &[1]);
        log.log("CLIENT_TRAFFIC_SECRET_0", &[0], &[1]);
        assert!(log.failed.load(Ordering::Relaxed));
    }
}
