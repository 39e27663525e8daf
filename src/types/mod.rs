//! One value: its encodings, and when it changes from one to the other.
//!
//! A collection is one machine word: a pointer whose low bits name the encoding. It lies inside
//! the keyspace's entry, so that a small hash costs two allocations: the entry and the listpack.
//! No other room examines an encoding; `encoding()` returns its name for reports.
#![warn(missing_docs)]

pub mod bits;
pub mod encoding_limits;
pub mod geo;
pub mod hash;
pub mod hyperloglog;
pub mod lcs;
pub mod list;
pub mod packed;
pub mod prefetch;
mod random;
pub mod set;
pub mod stream;
pub mod string;
pub mod value;
pub mod vector_set;
pub mod zset;

pub use encoding_limits::Limits;
pub use hash::{Before, Hash, NewExpiry};
pub use list::List;
pub use set::Set;
pub use stream::Stream;
pub use value::{Collection, Describe, Kind, Part, Value};
pub use vector_set::VectorSet;
pub use zset::Zset;
