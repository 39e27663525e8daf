//! Data in files: snapshots in the RDB format ([`rdb`]) and the append-only file ([`aof`]).
//!
//! This room knows bytes and the keyspace. It does not know how a command is run, who is connected, or when a
//! snapshot is due; the server decides these.
#![warn(missing_docs)]

pub mod aof;
pub mod rdb;
