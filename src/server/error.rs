//! Conversions from errors of lower rooms to error replies.

use crate::keyspace::WrongType;
use crate::resp::Error;

impl From<WrongType> for Error {
    fn from(_: WrongType) -> Self {
        Error::WrongType
    }
}
