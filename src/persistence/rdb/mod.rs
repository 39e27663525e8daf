//! RDB: the whole data set, or one value, as a compact sequence of bytes.
//!
//! ```text
//! "REDIS0011"  or "VALKEY080"                      what wrote it, and the version of the format
//! 0xFA name text …                                 auxiliary fields
//! 0xF5 text …                                      libraries of functions
//! 0xFE db, 0xFB keys volatile                      a database begins; how large it is
//!   [0xFC expiry] [0xF8 idle | 0xF9 frequency] type key value     …
//! 0xFF checksum                                    the end; CRC-64 of everything before
//! ```
//!
//! [`format`] defines the numbers, [`output`] and [`input`] move and sum bytes in bulk, [`save`] and [`load`] are the
//! two directions, [`legacy`] reads encodings that servers wrote until 2022, and [`dump`] wraps one value for `DUMP`.
//!
//! What always holds: whatever the bytes are, loading ends with an error or with values whose invariants hold. It
//! does not panic, and allocates at most [`load::EXPANSION`] times the number of bytes read.
//!
//! The format is Salvatore Sanfilippo's, grown over all versions of Redis and, since 2024, of Valkey.

pub mod check;
pub mod dump;
pub mod format;
pub mod input;
pub mod legacy;
pub mod load;
pub mod output;
pub mod save;
mod stream;
#[cfg(test)]
mod tests;
mod vector_set;

pub use dump::{dump, dump_libraries, restore, restore_libraries};
pub use load::{LoadError, LoadOptions, Loader, Step};
pub use save::{SaveOptions, SavedParts, SavedReplication, save};

/// Slots that are being imported from another node of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotImport {
    /// Name of the migration.
    pub name: Vec<u8>,
    /// First and last slots.
    pub ranges: Vec<(u16, u16)>,
}
