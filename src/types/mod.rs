//! One value: its encodings, and when it changes from one to the other.
//!
//! A collection is one machine word: a pointer whose low bits name the encoding. It lies inside
//! the keyspace's entry, so that a small hash costs two allocations: the entry and the listpack.
//! No other room looks at an encoding; `encoding()` is the one window for those who report it.

pub mod limits;
pub mod string;
pub mod value;

pub use limits::Limits;
pub use value::{Collection, Kind, Value};
