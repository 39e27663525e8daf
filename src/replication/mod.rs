//! Replication: the protocol between a primary and its replicas, without sockets, files or a clock.
//!
//! A primary writes one stream of commands, whose bytes are numbered from the beginning of a *history*. A history has a
//! name of 40 hexadecimal digits ([`ReplicationId`]), so a replica says where it stands by a name and an offset: it goes
//! on from there if the primary knows the history and still has the bytes, and is sent a snapshot first if not. This is
//! the protocol that Redis calls PSYNC2.
//!
//! - [`history`]: which histories a server knows, and up to which offset;
//! - [`backlog`]: the last part of the stream, shared by all replicas;
//! - [`resume`]: whether a replica can go on from where it stands;
//! - [`replica`]: what a primary knows of one replica;
//! - [`handshake`]: how a replica introduces itself, and what it is answered;
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
