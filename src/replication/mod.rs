//! Replication: the protocol between a primary and its replicas, without sockets, files or a clock.
//!
//! A primary writes one stream of commands, whose bytes are numbered from the beginning of a *history*. A history has
//! an ID of 40 hexadecimal digits ([`ReplicationId`]). A replica states its position as an ID and an offset. If the
//! primary knows that history and still has the following bytes, the replica continues from its position; otherwise it
//! is sent a snapshot first. This is the protocol that Redis calls PSYNC2.
//!
//! - [`history`]: the histories that a server knows, and up to which offset;
//! - [`backlog`]: the last part of the stream, shared by all replicas;
//! - [`resume`]: whether a replica can continue from its position;
//! - [`replica`]: what a primary knows of one replica;
//! - [`handshake`]: how a replica introduces itself, and how the primary answers;
//! - [`transfer`]: how a snapshot is framed.
#![warn(missing_docs)]

pub mod backlog;
pub mod handshake;
pub mod history;
pub mod replica;
pub mod resume;
#[cfg(test)]
mod schedules;
pub mod transfer;

pub use history::{History, ReplicationId};
