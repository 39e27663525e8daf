//! One value on its own, as `DUMP` gives it and `RESTORE` takes it.
//!
//! ```text
//! type: u8 | value … | version: u16 | CRC-64 of all before: u64          little-endian
//! ```

use super::format::Dialect;
use super::input::{Fault, Input};
use super::load::{LoadOptions, read_value};
use super::output::Output;
use super::save::{self, Version};
use crate::keyspace::Entry;
use crate::stdx::clock::UnixMillis;
use crate::stdx::crc64;

/// Version and checksum.
const TRAILER: usize = 10;
/// The newest version whose values we know, of Redis and of Valkey. Newer ones may use the numbers of types anew.
const NEWEST: [(Dialect, u32); 2] = [(Dialect::Redis, 79), (Dialect::Valkey, 99)];

/// Why a payload was refused.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("the version is unknown or the checksum wrong")]
    Trailer,
    #[error("{0}")]
    Value(Fault),
}

/// The value of `entry` as a payload; `compress` long strings.
pub fn dump(entry: &Entry, wanted: Version, compress: bool) -> Vec<u8> {
    let version = save::version_for_value(entry, wanted);
    let mut out = Output::to_memory(compress);
    out.byte(save::type_of(entry, version));
    save::value(entry, version, &mut out);
    out.raw(&(version.number() as u16).to_le_bytes());
    let sum = out.sum();
    out.raw(&sum.to_le_bytes());
    out.into_bytes()
}

/// The value of a payload, as an entry for `key`.
///
/// # Errors
/// The payload is not one, or damaged. A collection without elements is damaged.
pub fn restore(
    payload: &[u8],
    key: &[u8],
    expires: Option<UnixMillis>,
    options: &LoadOptions,
) -> Result<Entry, RestoreError> {
    let (body, trailer) = payload.split_last_chunk::<TRAILER>().ok_or(RestoreError::Trailer)?;
    let [a, b, sum @ ..] = *trailer;
    let version = u32::from(u16::from_le_bytes([a, b]));
    let dialect = Dialect::of(version);
    let known = NEWEST.iter().any(|&(whose, newest)| whose == dialect && version <= newest);
    let summed = &payload[..payload.len() - sum.len()];
    if !known || (options.checksum && crc64::update(0, summed) != u64::from_le_bytes(sum)) {
        return Err(RestoreError::Trailer);
    }
    let mut input = Input::new(Box::new(body), Some(body.len() as u64), false);
    let number = input.byte().map_err(RestoreError::Value)?;
    match read_value(&mut input, number, dialect, key, expires, options).map_err(RestoreError::Value)? {
        Some(entry) if input.left() == 0 => Ok(entry),
        Some(_) => Err(RestoreError::Value(Fault::Corrupt("something follows the value"))),
        None => Err(RestoreError::Value(Fault::Corrupt("the value is empty"))),
    }
}
