//! Conversions from errors of lower rooms to error replies, and replies that several rooms of the server give.

use crate::keyspace::WrongType;
use crate::resp::Error;

/// Error reply when the server cannot end without losing data; the log says why.
pub const SHUTDOWN_FAILED: &str = "ERR Errors trying to SHUTDOWN. Check logs.";

/// The error for a client that waits for an append-only file that there is not.
pub const NOT_LOGGED: &str = "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";

impl From<WrongType> for Error {
    fn from(_: WrongType) -> Self {
        Error::WrongType
    }
}
