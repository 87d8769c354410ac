//! What a program sees of an error: the only place where numbers are chosen.

use fuser::Errno;
use wire::ErrorCode;

use crate::error::VfsError;

/// What tells the kernel not to ask for this kind of operation again: it does without, and the program sees no error.
pub const NOT_NEEDED: Errno = Errno::ENOSYS;

/// The error number of a failed operation (errno(3)).
pub fn of(error: &VfsError) -> Errno {
    match error {
        VfsError::Host { code, .. } => of_code(*code),
        // What cannot be told is an I/O error, never "absent" and never "end of file".
        VfsError::Deadline | VfsError::Lost { .. } | VfsError::Protocol { .. } | VfsError::Closed => {
            Errno::EIO
        }
        VfsError::Stale => Errno::ESTALE,
        VfsError::NoSuchName => Errno::ENOENT,
        VfsError::TooLong => Errno::ENAMETOOLONG,
        VfsError::IsDirectory => Errno::EISDIR,
        VfsError::NotDirectory => Errno::ENOTDIR,
        VfsError::BadHandle => Errno::EBADF,
        VfsError::ReadOnly => Errno::EROFS,
        VfsError::DoesNotFit => Errno::ERANGE,
    }
}

/// Whether a program is told that there is no such name.
pub fn is_absent(error: &VfsError) -> bool {
    of(error) == Errno::ENOENT
}

/// Whether a program sees an I/O error: the operation failed for good, and nobody knows more.
pub fn is_io_error(error: &VfsError) -> bool {
    of(error) == Errno::EIO
}

fn of_code(code: ErrorCode) -> Errno {
    match code {
        ErrorCode::NotFound => Errno::ENOENT,
        ErrorCode::NotDirectory => Errno::ENOTDIR,
        ErrorCode::IsDirectory => Errno::EISDIR,
        ErrorCode::PermissionDenied | ErrorCode::Refused => Errno::EACCES,
        ErrorCode::Stale => Errno::ESTALE,
        // Busy was asked again until the deadline.
        ErrorCode::Io | ErrorCode::Busy | ErrorCode::Stopping | ErrorCode::Unknown(..) => Errno::EIO,
        ErrorCode::Invalid => Errno::EINVAL,
        ErrorCode::NoAttribute => Errno::ENODATA,
        ErrorCode::NotSupported => Errno::EOPNOTSUPP,
        ErrorCode::Loop => Errno::ELOOP,
        ErrorCode::VersionMismatch => Errno::EPROTO,
        ErrorCode::NotRegular => Errno::ENXIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_an_io_error() {
        let unknown = [
            VfsError::Deadline,
            VfsError::Lost { reason: "cut".to_owned() },
            VfsError::Protocol { reason: "odd".to_owned() },
            VfsError::Closed,
            VfsError::Host { code: ErrorCode::Unknown(900), detail: String::new() },
            VfsError::Host { code: ErrorCode::Busy, detail: String::new() },
        ];
        for error in unknown {
            assert_eq!(of(&error), Errno::EIO, "{error}");
            assert!(is_io_error(&error));
        }
    }

    #[test]
    fn what_the_host_said_keeps_its_meaning() {
        let said = |code| of(&VfsError::Host { code, detail: String::new() });
        assert_eq!(said(ErrorCode::NotFound), Errno::ENOENT);
        assert_eq!(said(ErrorCode::PermissionDenied), Errno::EACCES);
        assert_eq!(said(ErrorCode::Stale), Errno::ESTALE);
        assert_eq!(said(ErrorCode::NoAttribute), Errno::ENODATA);
        assert_eq!(of(&VfsError::ReadOnly), Errno::EROFS);
        assert_eq!(of(&VfsError::TooLong), Errno::ENAMETOOLONG);
    }
}
