//! The data set as the requests that make it.
//!
//! Large collections are spread over many requests of a limited number of elements, so that no single one takes long
//! to load.

use std::io::{self, Write};

use crate::keyspace::Keyspace;
use crate::keyspace::entry::Entry;
use crate::resp::request::{write_bulk, write_header};
use crate::stdx::num;
use crate::types::string::StringRef;
use crate::types::value::Part;
use crate::types::{Hash, Kind};

/// Elements in one request.
const PER_REQUEST: usize = 64;
/// Bytes gathered before they are written.
const PIECE: usize = 256 << 10;

/// Writes all keys to `out`, and calls `each` after each with how many there were; bytes written.
///
/// # Errors
/// Those of `out` and of `each`.
pub fn rewrite(
    space: &Keyspace,
    out: &mut dyn Write,
    each: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<u64> {
    let (mut pending, mut keys, mut written) = (Vec::with_capacity(PIECE * 2), 0, 0);
    for (index, db) in space.databases().iter().enumerate().filter(|(_, db)| !db.is_empty()) {
        request(&mut pending, &[b"SELECT", itoa::Buffer::new().format(index).as_bytes()]);
        for entry in db.keys().iter() {
            write_entry(&entry, &mut pending);
            if pending.len() >= PIECE {
                out.write_all(&pending)?;
                written += pending.len() as u64;
                pending.clear();
            }
            keys += 1;
            each(keys)?;
        }
    }
    out.write_all(&pending)?;
    Ok(written + pending.len() as u64)
}

fn request(out: &mut Vec<u8>, words: &[&[u8]]) {
    write_header(out, b'*', words.len());
    for word in words {
        write_bulk(out, word);
    }
}

/// Appends the requests that make one key.
fn write_entry(entry: &Entry, out: &mut Vec<u8>) {
    let key = entry.key();
    match entry.string() {
        Some(StringRef::Int(n)) => request(out, &[b"SET", key, itoa::Buffer::new().format(n).as_bytes()]),
        Some(StringRef::Bytes(bytes)) => request(out, &[b"SET", key, bytes]),
        None => write_collection(entry, out),
    }
    if let Some(hash) = entry.collection::<Hash>()
        && hash.volatile() > 0
    {
        write_field_expiries(key, hash, out);
    }
    if let Some(at) = entry.expires() {
        request(out, &[b"PEXPIREAT", key, itoa::Buffer::new().format(at.0).as_bytes()]);
    }
}

/// Appends a request for each field of a hash that expires.
fn write_field_expiries(key: &[u8], hash: &Hash, out: &mut Vec<u8>) {
    for (name, _, at) in hash.iter_with_expiry() {
        let Some(at) = at else { continue };
        let (mut digits, mut name_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (at, name) = (digits.format(at.0).as_bytes(), name.text(&mut name_digits));
        request(out, &[b"HPEXPIREAT", key, at, b"FIELDS", b"1", name]);
    }
}

fn write_collection(entry: &Entry, out: &mut Vec<u8>) {
    let (name, words): (&[u8], usize) = match entry.kind() {
        Kind::List => (b"RPUSH", 1),
        Kind::Set => (b"SADD", 1),
        Kind::Zset => (b"ZADD", 2),
        Kind::Hash => (b"HMSET", 2),
        Kind::String | Kind::Stream => unreachable!("neither is a collection here"),
    };
    let collection = entry.describe().expect("the kind says so");
    let (mut left, mut in_request) = (collection.len(), 0);
    collection.each_part(&mut |part| {
        if in_request == 0 {
            in_request = left.min(PER_REQUEST);
            write_header(out, b'*', 2 + in_request * words);
            write_bulk(out, name);
            write_bulk(out, entry.key());
        }
        match part {
            Part::Item(item) => write_bulk(out, item),
            Part::Field(field, value) => {
                write_bulk(out, field);
                write_bulk(out, value);
            }
            Part::Scored(member, score) => {
                write_bulk(out, num::fmt_f64(score, &mut num::FloatBuf::new()));
                write_bulk(out, member);
            }
            Part::Logged(_) => unreachable!("a stream has requests of its own"),
        }
        left -= 1;
        in_request -= 1;
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{Key, Ttl};
    use crate::stdx::clock::UnixMillis;
    use crate::stdx::rng::Rng;
    use crate::types::{List, Value, list};

    #[test]
    fn each_type_has_its_request() {
        let mut space = Keyspace::new(2, Default::default(), Rng::new(1));
        space.db(0).set_string(Key::new(b"s"), Value::Int(-7), Ttl::At(UnixMillis(5000)));
        let mut items = List::new();
        (0..65).for_each(|_| items.push(list::End::Tail, b"x"));
        space.db(1).set_collection(Key::new(b"l"), items, None);
        let mut out = Vec::new();
        let written = rewrite(&space, &mut out, &mut |_| Ok(())).expect("memory takes everything");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(written, text.len() as u64);
        let text = text.replace("\r\n", " ");
        assert!(text.starts_with(
            "*2 $6 SELECT $1 0 *3 $3 SET $1 s $2 -7 *3 $9 PEXPIREAT $1 s $4 5000 *2 $6 SELECT $1 1 *66 $5 RPUSH $1 l $1 x "
        ));
        assert!(text.ends_with("$1 x *3 $5 RPUSH $1 l $1 x "));
    }
}
