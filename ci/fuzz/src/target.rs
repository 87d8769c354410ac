//! The targets: one small module each.

mod claims;
mod path;
mod readahead;
mod ticket;
mod wire_call;
mod wire_reply;

/// One thing to fuzz.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: of its corpus folder, and after `cargo ci fuzz`.
    pub name: &'static str,
    /// Bytes of the longest input of use.
    pub len_max: usize,
    /// Takes any bytes.
    ///
    /// # Panics
    /// When they break a promise: that is a finding.
    pub run: fn(&[u8]),
}

/// All of them.
pub const ALL: [Target; 6] = [
    Target { name: "wire_call", len_max: 4096, run: wire_call::run },
    Target { name: "wire_reply", len_max: 4096, run: wire_reply::run },
    Target { name: "ticket", len_max: 1024, run: ticket::run },
    Target { name: "claims", len_max: 1024, run: claims::run },
    Target { name: "path", len_max: 512, run: path::run },
    Target { name: "readahead", len_max: 512, run: readahead::run },
];

/// The target of this name.
pub fn named(name: &str) -> Option<&'static Target> {
    ALL.iter().find(|target| target.name == name)
}
