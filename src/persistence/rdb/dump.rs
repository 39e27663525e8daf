//! One value on its own, as `DUMP` returns it and `RESTORE` accepts it.
//!
//! ```text
//! type: u8 | value … | version: u16 | CRC-64 of everything before: u64      little-endian
//! ```

use super::format::{Dialect, opcode};
use super::input::{Fault, Input};
use super::load::{LoadOptions, read_value};
use super::output::Output;
use super::save::{self, Version};
use crate::keyspace::Entry;
use crate::stdx::clock::UnixMillis;
use crate::stdx::crc64;

/// Bytes of version and checksum.
const TRAILER: usize = 10;
/// The newest versions whose value types are known here, of Redis and of Valkey. Newer versions may reuse type
/// numbers.
const NEWEST: [(Dialect, u32); 2] = [(Dialect::Redis, 79), (Dialect::Valkey, 99)];

/// The first version of Redis that writes payloads without a checksum, with 0 in its place, for its replicas.
const CHECKSUM_OPTIONAL_SINCE: u32 = 15;

/// Why a payload was refused.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Version or checksum are missing or wrong.
    #[error("the version is unknown or the checksum wrong")]
    Trailer,
    /// Something else than a library is in a dump of libraries.
    #[error("not a library of functions")]
    NoLibrary,
    /// The value is damaged or of an unknown type.
    #[error("{0}")]
    Value(Fault),
}

/// Writes the value of `entry` as a payload. Long strings are compressed if `compress`. O(n) in the bytes of the
/// value.
pub fn dump(entry: &Entry, wanted: Version, compress: bool) -> Vec<u8> {
    let version = save::version_for_value(entry, wanted);
    let mut out = Output::to_memory(compress);
    out.byte(save::type_of(entry, version));
    save::value(entry, version, &mut out);
    end(out, version)
}

/// Writes the texts of libraries as a payload.
pub fn dump_libraries<'a>(
    texts: impl Iterator<Item = &'a [u8]>,
    version: Version,
    compress: bool,
) -> Vec<u8> {
    let mut out = Output::to_memory(compress);
    for text in texts {
        save::library(text, &mut out);
    }
    end(out, version)
}

/// Appends version and checksum.
fn end(mut out: Output<'_>, version: Version) -> Vec<u8> {
    out.raw(&(version.number() as u16).to_le_bytes());
    let sum = out.sum();
    out.raw(&sum.to_le_bytes());
    out.into_bytes()
}

/// The body of a payload, and the version that wrote it.
fn open(payload: &[u8], checksum: bool) -> Result<(&[u8], Dialect), RestoreError> {
    let (body, trailer) = payload.split_last_chunk::<TRAILER>().ok_or(RestoreError::Trailer)?;
    let [a, b, sum @ ..] = *trailer;
    let version = u32::from(u16::from_le_bytes([a, b]));
    let dialect = Dialect::of(version);
    let known = NEWEST.iter().any(|&(whose, newest)| whose == dialect && version <= newest);
    let summed = &payload[..payload.len() - sum.len()];
    let omitted = sum == [0; 8] && dialect == Dialect::Redis && version >= CHECKSUM_OPTIONAL_SINCE;
    if !known || (checksum && !omitted && crc64::update(0, summed) != u64::from_le_bytes(sum)) {
        return Err(RestoreError::Trailer);
    }
    Ok((body, dialect))
}

/// Reads the texts of libraries from a payload.
///
/// # Errors
/// The bytes are not a payload, or a damaged one, or hold something else.
pub fn restore_libraries(payload: &[u8], checksum: bool) -> Result<Vec<Vec<u8>>, RestoreError> {
    let (body, _) = open(payload, checksum)?;
    let mut input = Input::new(Box::new(body), Some(body.len() as u64), false);
    let mut texts = Vec::new();
    while input.left() > 0 {
        if input.byte().map_err(RestoreError::Value)? != opcode::FUNCTION2 {
            return Err(RestoreError::NoLibrary);
        }
        let text = input.string().map_err(RestoreError::Value)?;
        texts.push(text.bytes(&mut itoa::Buffer::new()).to_vec());
    }
    Ok(texts)
}

/// Reads a payload into an entry for `key`. O(n).
///
/// # Errors
/// The bytes are not a payload, or a damaged one. A collection without elements counts as damaged.
pub fn restore(
    payload: &[u8],
    key: &[u8],
    expires: Option<UnixMillis>,
    options: &LoadOptions,
) -> Result<Entry, RestoreError> {
    let (body, dialect) = open(payload, options.checksum)?;
    let mut input = Input::new(Box::new(body), Some(body.len() as u64), false);
    let number = input.byte().map_err(RestoreError::Value)?;
    match read_value(&mut input, number, dialect, None, key, expires, options).map_err(RestoreError::Value)? {
        Some(entry) if input.left() == 0 => Ok(entry),
        Some(_) => Err(RestoreError::Value(Fault::Corrupt("something follows the value"))),
        None => Err(RestoreError::Value(Fault::Corrupt("the value is empty"))),
    }
}
