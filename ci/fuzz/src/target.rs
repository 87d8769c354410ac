//! The targets: one small module each.

mod admission;
mod answers;
mod attr;
mod claims;
mod control;
mod path;
mod readahead;
mod session;
mod ticket;
mod wire_call;
mod wire_push;
mod wire_reply;

/// One thing to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its corpus folder, and after `cargo ci fuzz`.
    pub name: &'static str,
    /// Takes any bytes.
    ///
    /// # Panics
    /// When they break a promise: that is a finding.
    pub run: fn(&[u8]),
}

/// All of them.
pub const ALL: [Target; 11] = [
    Target { name: "wire_call", run: wire_call::run },
    Target { name: "wire_reply", run: wire_reply::run },
    Target { name: "wire_push", run: wire_push::run },
    Target { name: "ticket", run: ticket::run },
    Target { name: "claims", run: claims::run },
    Target { name: "path", run: path::run },
    Target { name: "control", run: control::run },
    Target { name: "admission", run: admission::run },
    Target { name: "answers", run: answers::run },
    Target { name: "session", run: session::run },
    Target { name: "readahead", run: readahead::run },
];

/// The target of this name.
pub fn named(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}
