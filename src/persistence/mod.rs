//! Data in files: snapshots in the RDB format.
//!
//! The rooms below know bytes and the keyspace. They do not know how a command is run, who is connected, or when
//! a snapshot is due: that is the server's business.

pub mod aof;
pub mod progress;
pub mod rdb;
