//! Encodings of small collections before listpacks: ziplists (written until 2022) and zipmaps (until 2012).
//!
//! ```text
//! ziplist | bytes: u32 | offset of the last entry: u32 | count: u16 | entry | … | 0xFF |
//! entry   | length of the entry before | encoding | data |
//!
//!   length before   nnnnnnnn (below 254), or 254 and four bytes
//!   encoding        00llllll                       text of up to 63 bytes
//!                   01llllll llllllll              text of up to 16383 bytes
//!                   10000000 llllllll × 4          text; high bits first
//!                   0xC0, 0xD0, 0xE0, 0xF0, 0xFE   an integer of 2, 4, 8, 3 or 1 bytes
//!                   1111vvvv                       the integer v - 1, for v from 1 to 13
//!
//! zipmap  | count | field | value | … | 0xFF |
//! field   | length | text |                        a length is a byte below 254, or 254 and four bytes
//! value   | length | unused: u8 | text | `unused` bytes |
//! ```
//!
//! Numbers are little-endian unless noted. Every byte is checked, and the result is a listpack.

use crate::structures::listpack::{Item, Listpack};

/// The bytes are not a valid ziplist or zipmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptLegacy;

const END: u8 = 0xFF;
/// Marks a length of four bytes.
const LONG: u8 = 254;

/// Bytes that are consumed from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], CorruptLegacy> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(CorruptLegacy)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CorruptLegacy> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(CorruptLegacy)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, CorruptLegacy> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// The length whose first byte was `first`.
    fn len(&mut self, first: u8) -> Result<usize, CorruptLegacy> {
        match first {
            0..LONG => Ok(usize::from(first)),
            LONG => Ok(u32::from_le_bytes(self.array()?) as usize),
            END => Err(CorruptLegacy),
        }
    }

    fn item(&mut self) -> Result<Item<'a>, CorruptLegacy> {
        let first = self.byte()?;
        Ok(match first {
            0x00..0x40 => Item::Str(self.take(usize::from(first))?),
            0x40..0x80 => {
                let low = self.byte()?;
                Item::Str(self.take(usize::from(first & 0x3f) << 8 | usize::from(low))?)
            }
            0x80 => {
                let len = u32::from_be_bytes(self.array()?);
                Item::Str(self.take(len as usize)?)
            }
            0xC0 => Item::Int(i64::from(i16::from_le_bytes(self.array()?))),
            0xD0 => Item::Int(i64::from(i32::from_le_bytes(self.array()?))),
            0xE0 => Item::Int(i64::from_le_bytes(self.array()?)),
            0xF0 => {
                let [a, b, c] = self.array()?;
                Item::Int(i64::from(i32::from_le_bytes([0, a, b, c]) >> 8))
            }
            0xFE => Item::Int(i64::from(i8::from_le_bytes(self.array()?))),
            0xF1..=0xFD => Item::Int(i64::from(first & 0x0f) - 1),
            _ => return Err(CorruptLegacy),
        })
    }
}

/// Converts a ziplist. O(n).
///
/// # Errors
/// The bytes are not exactly one ziplist.
pub fn from_ziplist(blob: &[u8]) -> Result<Listpack, CorruptLegacy> {
    let mut bytes = Bytes(blob);
    let total = u32::from_le_bytes(bytes.array()?);
    let tail = u32::from_le_bytes(bytes.array()?) as usize;
    let count = u16::from_le_bytes(bytes.array()?);
    if total as usize != blob.len() {
        return Err(CorruptLegacy);
    }
    let mut pack = Listpack::new();
    let (mut found, mut last, mut before) = (0usize, blob.len() - bytes.0.len(), 0);
    loop {
        let at = blob.len() - bytes.0.len();
        let first = bytes.byte()?;
        if first == END {
            break;
        }
        if bytes.len(first)? != before {
            return Err(CorruptLegacy);
        }
        pack.push_back(bytes.item()?);
        last = at;
        before = blob.len() - bytes.0.len() - at;
        found += 1;
    }
    let counted = count == u16::MAX || usize::from(count) == found;
    if !bytes.0.is_empty() || tail != last || !counted {
        return Err(CorruptLegacy);
    }
    Ok(pack)
}

/// Converts a zipmap to a listpack of alternating fields and values. O(n).
///
/// # Errors
/// The bytes are not exactly one zipmap.
pub fn from_zipmap(blob: &[u8]) -> Result<Listpack, CorruptLegacy> {
    let mut bytes = Bytes(blob);
    let count = bytes.byte()?;
    let mut pack = Listpack::new();
    let mut found = 0usize;
    loop {
        let first = bytes.byte()?;
        if first == END {
            break;
        }
        let len = bytes.len(first)?;
        let field = bytes.take(len)?;
        let first = bytes.byte()?;
        let len = bytes.len(first)?;
        let unused = bytes.byte()?;
        let value = bytes.take(len)?;
        bytes.take(usize::from(unused))?;
        pack.append(&[Item::Str(field), Item::Str(value)]);
        found += 1;
    }
    // Servers never wrote a hash without fields.
    if !bytes.0.is_empty() || found == 0 || (count < LONG && usize::from(count) != found) {
        return Err(CorruptLegacy);
    }
    Ok(pack)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(pack: &Listpack) -> Vec<Vec<u8>> {
        pack.iter().map(|item| item.to_vec()).collect()
    }

    /// A ziplist of entries, each given as encoding and data.
    fn ziplist(entries: &[&[u8]]) -> Vec<u8> {
        let mut blob = vec![0; 10];
        let (mut before, mut last) = (0, 10);
        for entry in entries {
            last = blob.len();
            if before < 254 {
                blob.push(before as u8);
            } else {
                blob.push(254);
                blob.extend((before as u32).to_le_bytes());
            }
            blob.extend(*entry);
            before = blob.len() - last;
        }
        blob.push(0xff);
        let total = blob.len() as u32;
        blob[..4].copy_from_slice(&total.to_le_bytes());
        blob[4..8].copy_from_slice(&(last as u32).to_le_bytes());
        blob[8..10].copy_from_slice(&(entries.len() as u16).to_le_bytes());
        blob
    }

    #[test]
    fn every_entry_of_a_ziplist() {
        let long: Vec<u8> = [&[0x41, 0x2c][..], &[b'x'; 300]].concat();
        let longer: Vec<u8> = [&[0x80, 0, 0, 0x40, 0][..], &[b'y'; 0x4000]].concat();
        let entries: [&[u8]; 12] = [
            b"\x05hello",
            &long,
            &longer,
            b"\x00",
            b"\xc0\xfe\xff",
            b"\xd0\x00\x00\x00\x80",
            b"\xe0\x00\x00\x00\x00\x00\x00\x00\x80",
            b"\xf0\xff\xff\x7f",
            b"\xfe\x80",
            b"\xf1",
            b"\xfd",
            b"\x02-7",
        ];
        let blob = ziplist(&entries);
        let pack = from_ziplist(&blob).expect("a ziplist");
        let expected: Vec<Vec<u8>> = [
            b"hello".to_vec(),
            vec![b'x'; 300],
            vec![b'y'; 0x4000],
            Vec::new(),
            b"-2".to_vec(),
            b"-2147483648".to_vec(),
            b"-9223372036854775808".to_vec(),
            b"8388607".to_vec(),
            b"-128".to_vec(),
            b"0".to_vec(),
            b"12".to_vec(),
            b"-7".to_vec(),
        ]
        .into();
        assert_eq!(items(&pack), expected);
        pack.check();
        for len in 0..blob.len() {
            assert_eq!(from_ziplist(&blob[..len]).err(), Some(CorruptLegacy));
        }
        assert!(from_ziplist(&ziplist(&[])).expect("an empty ziplist").is_empty());
        for (at, what) in [(4, 11), (8, 11), (8, 0), (10, 1), (11, 0xff), (11, 0xc1)] {
            let mut bad = blob.clone();
            bad[at] = what;
            assert_eq!(from_ziplist(&bad).err(), Some(CorruptLegacy), "{what} at {at}");
        }
    }

    #[test]
    fn fields_of_a_zipmap() {
        let mut blob = b"\x02\x03foo\x03\x00bar\x05hello\xfe\x00\x01\x00\x00\x02".to_vec();
        blob.extend([b'v'; 256 + 2]);
        blob.push(0xff);
        let expected = [b"foo".to_vec(), b"bar".to_vec(), b"hello".to_vec(), vec![b'v'; 256]];
        assert_eq!(items(&from_zipmap(&blob).expect("a zipmap")), expected);
        for len in 0..blob.len() {
            assert_eq!(from_zipmap(&blob[..len]).err(), Some(CorruptLegacy));
        }
        blob[0] = 3;
        assert_eq!(from_zipmap(&blob).err(), Some(CorruptLegacy));
        blob[0] = 254;
        assert!(from_zipmap(&blob).is_ok());
    }
}
