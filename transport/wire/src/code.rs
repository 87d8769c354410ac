//! Error numbers on the wire: stable, never reused.

/// Why a host did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The host looked, and there is no such name.
    NotFound,
    /// A component of the path, or the thing listed, is no directory.
    NotDirectory,
    /// A directory where bytes were asked for.
    IsDirectory,
    /// The host's own file permissions do not let it read this.
    PermissionDenied,
    /// The path now names another file, or the file is of another version than expected.
    Stale,
    /// The host's disk failed.
    Io,
    /// The host is at a limit; ask again a little later.
    Busy,
    /// Not admitted. The same answer for every reason, so that nothing is learned by trying.
    Refused,
    /// The request breaks the protocol or a limit.
    Invalid,
    /// No extended attribute of that name.
    NoAttribute,
    /// The host's file system cannot do this.
    NotSupported,
    /// A symlink stands in the middle of the path, or there are too many.
    Loop,
    /// Neither end speaks a protocol version of the other.
    VersionMismatch,
    /// The host is stopping.
    Stopping,
    /// Not a regular file: pipes, sockets and devices are listed but never opened.
    NotRegular,
    /// A number from a newer peer.
    Unknown(u16),
}

impl ErrorCode {
    /// The known ones with their numbers; a number once here is never given to another meaning.
    pub const NUMBERS: [(ErrorCode, u16); 15] = [
        (ErrorCode::NotFound, 1),
        (ErrorCode::NotDirectory, 2),
        (ErrorCode::IsDirectory, 3),
        (ErrorCode::PermissionDenied, 4),
        (ErrorCode::Stale, 5),
        (ErrorCode::Io, 6),
        (ErrorCode::Busy, 7),
        (ErrorCode::Refused, 8),
        (ErrorCode::Invalid, 9),
        (ErrorCode::NoAttribute, 10),
        (ErrorCode::NotSupported, 11),
        (ErrorCode::Loop, 12),
        (ErrorCode::VersionMismatch, 13),
        (ErrorCode::Stopping, 14),
        (ErrorCode::NotRegular, 15),
    ];

    /// The number on the wire; never zero, which means success.
    pub fn number(self) -> u16 {
        match self {
            ErrorCode::NotFound => 1,
            ErrorCode::NotDirectory => 2,
            ErrorCode::IsDirectory => 3,
            ErrorCode::PermissionDenied => 4,
            ErrorCode::Stale => 5,
            ErrorCode::Io => 6,
            ErrorCode::Busy => 7,
            ErrorCode::Refused => 8,
            ErrorCode::Invalid => 9,
            ErrorCode::NoAttribute => 10,
            ErrorCode::NotSupported => 11,
            ErrorCode::Loop => 12,
            ErrorCode::VersionMismatch => 13,
            ErrorCode::Stopping => 14,
            ErrorCode::NotRegular => 15,
            ErrorCode::Unknown(n) => n,
        }
    }

    /// The error of a number; a number not known here is kept as it is.
    pub fn from_number(number: u16) -> ErrorCode {
        Self::NUMBERS.iter().find(|(_, n)| *n == number).map_or(ErrorCode::Unknown(number), |(code, _)| *code)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ErrorCode::NotFound => "no such file or directory",
            ErrorCode::NotDirectory => "not a directory",
            ErrorCode::IsDirectory => "is a directory",
            ErrorCode::PermissionDenied => "the host may not read it",
            ErrorCode::Stale => "the file changed on the host",
            ErrorCode::Io => "the host's disk failed",
            ErrorCode::Busy => "the host is at a limit",
            ErrorCode::Refused => "the host refused the ticket",
            ErrorCode::Invalid => "the request breaks the protocol",
            ErrorCode::NoAttribute => "no such extended attribute",
            ErrorCode::NotSupported => "not supported by the host's file system",
            ErrorCode::Loop => "a symlink stands in the path",
            ErrorCode::VersionMismatch => "the two ends speak different protocol versions",
            ErrorCode::Stopping => "the host is stopping",
            ErrorCode::NotRegular => "not a regular file",
            ErrorCode::Unknown(n) => return write!(f, "error {n} of a newer host"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_come_back() {
        let names = [
            "NotFound",
            "NotDirectory",
            "IsDirectory",
            "PermissionDenied",
            "Stale",
            "Io",
            "Busy",
            "Refused",
            "Invalid",
            "NoAttribute",
            "NotSupported",
            "Loop",
            "VersionMismatch",
            "Stopping",
            "NotRegular",
        ];
        assert_eq!(ErrorCode::NUMBERS.map(|(code, _)| format!("{code:?}")), names);
        for (index, (code, number)) in ErrorCode::NUMBERS.into_iter().enumerate() {
            // Frozen: 1, 2, 3 ... in the order in which they were given out.
            assert_eq!(usize::from(number), index + 1);
            assert_eq!(code.number(), number);
            assert_eq!(ErrorCode::from_number(number), code);
        }
        assert_eq!(ErrorCode::from_number(999), ErrorCode::Unknown(999));
        assert_eq!(ErrorCode::Unknown(999).number(), 999);
    }
}
