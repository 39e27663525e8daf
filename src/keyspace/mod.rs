//! Many values under keys: databases, expiry, eviction, and the record of what changed.
//!
//! The keyspace knows no client and no reply. It *records* a change in its [`ledger`] and tells
//! nobody; whoever joins the rooms reads the ledger after each command.
#![warn(missing_docs)]

pub mod access;
pub mod database;
pub mod databases;
pub mod db;
pub mod entry;
pub mod evict;
pub mod expire;
mod fields;
pub mod free;
mod keys;
pub mod ledger;
mod suspension;

pub use crate::stdx::hash::Key;
pub use database::Database;
pub use databases::Keyspace;
pub use db::{Db, Ttl, WrongType};
pub use entry::Entry;
pub use ledger::{Change, Event, Ledger, Listeners, Sink};
pub use suspension::{Expiry, Suspend};
