//! Why bytes from a peer, or a ticket from a person, were not understood.

/// What is wrong with the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message ends before its parts do.
    #[error("{what} is cut short")]
    Truncated {
        /// The part that is missing.
        what: &'static str,
    },
    /// The message goes on after its last part.
    #[error("{extra} bytes follow the end of the message")]
    Trailing {
        /// How many.
        extra: usize,
    },
    /// A length above its bound in [`crate::limits`].
    #[error("{what} of {len} bytes is over the limit")]
    TooLong {
        /// The part.
        what: &'static str,
        /// The length claimed.
        len: u64,
    },
    /// A number that names nothing.
    #[error("{what} {value} is not known")]
    Unknown {
        /// The field.
        what: &'static str,
        /// What it held.
        value: u64,
    },
    /// A path component that is empty, dotted, too long, or holds `/` or NUL.
    #[error("a name is empty, too long, dotted, or holds a slash or NUL")]
    BadName,
    /// A field whose value is out of its range.
    #[error("{what} is out of range")]
    OutOfRange {
        /// The field.
        what: &'static str,
    },
}
