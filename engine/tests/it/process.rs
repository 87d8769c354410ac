//! The real binary in a process of its own, and what it says: ticket, log, counters.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use wire::Ticket;

/// Far beyond what anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// `wormhole-engine host` on a free port of loopback, without its folders.
pub(crate) fn command(state: &Path) -> Command {
    command_at("127.0.0.1:0", state)
}

pub(crate) fn command_at(listen: &str, state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wormhole-engine"));
    command
        .arg("host")
        .env_remove("WORMHOLE_LISTEN")
        .env_remove("NOTIFY_SOCKET")
        .args(["--listen", listen, "--state-dir"])
        .arg(state);
    command
}

/// Ends the process if the test fails before it does.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Fails when it has ended, as it should have.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub(crate) fn signal(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// SIGKILL; it is gone when this returns.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// The exit code and the log, with a deadline: the end of the process closes stderr.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut stderr = self.0.stderr.take().unwrap();
        let (send, receive) = channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            let _ = send.send(text);
        });
        let text = receive.recv_timeout(Duration::from_secs(5)).expect("it stops within five seconds");
        (self.0.wait().unwrap().code(), text)
    }
}

pub(crate) fn start(command: &mut Command) -> Running {
    Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// The one line of a host that did not start.
pub(crate) fn failure(output: &Output) -> String {
    ended_with(1, output)
}

/// The one line of a host that was asked for what makes no sense.
pub(crate) fn misuse(output: &Output) -> String {
    ended_with(2, output)
}

fn ended_with(code: i32, output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("wormhole-engine: "), "{text}");
    assert!(output.stdout.is_empty());
    text
}

/// A process's output, line by line as it comes.
pub(crate) struct Lines {
    receive: Receiver<String>,
    seen: String,
}

impl Lines {
    pub(crate) fn of(output: impl Read + Send + 'static) -> Lines {
        let (send, receive) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Lines { receive, seen: String::new() }
    }

    /// The next line that has `word` in it.
    pub(crate) fn until(&mut self, word: &str) -> String {
        loop {
            match self.receive.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(word) {
                        return line;
                    }
                }
                Err(error) => panic!("no {word:?} ({error}) in {}", self.seen),
            }
        }
    }

    /// All of it, to the end of the process.
    pub(crate) fn all(mut self) -> String {
        while let Ok(line) = self.receive.recv_timeout(PATIENCE) {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        self.seen
    }
}

/// A host that is ready.
pub(crate) struct Ready {
    pub(crate) process: Running,
    pub(crate) ticket: Ticket,
    pub(crate) log: Lines,
    /// The log's line that says so.
    pub(crate) line: String,
}

impl Ready {
    pub(crate) fn start(command: &mut Command) -> Ready {
        Ready::of(start(command))
    }

    pub(crate) fn of(mut process: Running) -> Ready {
        let mut log = Lines::of(process.0.stderr.take().unwrap());
        let line = log.until("ready");
        let mut ticket = Lines::of(process.0.stdout.take().unwrap());
        let ticket = Ticket::parse(&ticket.until("wh1_")).unwrap();
        Ready { process, ticket, log, line }
    }

    /// Stops it in good order; its whole log.
    pub(crate) fn end(mut self) -> String {
        self.process.signal(Signal::TERM);
        let log = self.log.all();
        assert_eq!(self.process.0.wait().unwrap().code(), Some(0), "{log}");
        log
    }
}

/// A TCP address nobody listens on now.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The counters of a host, as Prometheus reads them.
pub(crate) struct Counters(String);

impl Counters {
    pub(crate) fn of(address: SocketAddr) -> Counters {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        Counters(text)
    }

    /// The value of a counter, named with its labels.
    pub(crate) fn value(&self, name: &str) -> f64 {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {name} in {}", self.0)).parse().unwrap()
    }

    /// The names of all of them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.0.contains(text)
    }
}
