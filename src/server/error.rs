//! Errors of the rooms below, as the errors clients read.

use crate::keyspace::WrongType;
use crate::resp::Error;

impl From<WrongType> for Error {
    fn from(_: WrongType) -> Self {
        Error::WrongType
    }
}
