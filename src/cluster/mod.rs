//! The cluster: who its nodes are and which slots they own, without sockets, files, the clock or commands.
//!
//! - [`slot`]: the slots that keys are divided into.
#![warn(missing_docs)]

/// The slots that keys are divided into.
pub use crate::keyspace::slot;
pub use slot::{SLOTS, Slot, key_slot};
