//! The keyspace: values under keys, with databases, expiry, eviction, and a record of changes.
//!
//! The keyspace knows neither clients nor replies. It *records* a change in its [`ledger`] and notifies nobody; the
//! server reads the ledger after each command.
#![warn(missing_docs)]

pub mod access;
pub mod awaited;
mod by_slot;
pub mod database;
pub mod databases;
pub mod db;
pub mod defragment;
pub mod entry;
pub mod evict;
pub mod expire;
mod fields;
pub mod free;
pub mod keys;
pub mod ledger;
pub mod own;
pub mod sizes;
pub mod slot;
mod suspension;

pub use crate::stdx::hash::Key;
pub use database::Database;
pub use databases::{Keyspace, Replacement};
pub use db::{Db, Ttl, WrongType};
pub use entry::Entry;
pub use fields::FieldRules;
pub use ledger::{Change, Event, Ledger, Listeners, Sink, Wakes};
pub use suspension::{Expiry, Suspend};
