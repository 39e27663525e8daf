//! Writes the data set as the requests that create it.
//!
//! A large collection is spread over many requests of a limited number of elements, so that no single request takes
//! long to load.

use std::io::{self, Write};

use crate::keyspace::Keyspace;
use crate::keyspace::entry::Entry;
use crate::persistence::rdb;
use crate::resp::request::{write_bulk, write_header};
use crate::stdx::num;
use crate::types::stream::StreamId;
use crate::types::string::StringRef;
use crate::types::value::Part;
use crate::types::{Hash, Kind, Stream};

/// Elements per request.
const PER_REQUEST: usize = 64;
/// Bytes gathered before they are written.
const PIECE: usize = 256 << 10;

/// Writes all keys to `out` and returns the number of bytes written. After each key, calls `each` with the number of
/// keys so far.
///
/// # Errors
/// The first error of `out` or of `each`.
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
            if entry.is_protected() {
                request(&mut pending, &protection(entry.key(), true));
            }
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

/// The request that exempts a key from eviction, or ends that, in a form that servers of any kind and version execute:
/// those that do not know the command ignore it.
pub fn protection(key: &[u8], on: bool) -> [&[u8]; 4] {
    let script: &[u8] = if on {
        b"redis.pcall('BLESS','SET',KEYS[1],'NO-EVICT')"
    } else {
        b"redis.pcall('BLESS','CLEAR',KEYS[1],'NO-EVICT')"
    };
    [b"EVAL", script, b"1", key]
}

fn request(out: &mut Vec<u8>, words: &[&[u8]]) {
    write_header(out, b'*', words.len());
    for word in words {
        write_bulk(out, word);
    }
}

/// Appends the requests that create one key.
pub fn write_entry(entry: &Entry, out: &mut Vec<u8>) {
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

/// Appends a request for each field of a hash that has an expiry.
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
        Kind::Stream => return write_stream(entry.key(), entry.collection().expect("the kind says so"), out),
        Kind::VectorSet => return write_payload(entry, out),
        Kind::String => unreachable!("a string is no collection"),
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

/// Appends the request that restores a value from its serialized form, which keeps what no other request would set.
fn write_payload(entry: &Entry, out: &mut Vec<u8>) {
    let payload = rdb::dump(entry, rdb::save::Version::default(), true);
    request(out, &[b"RESTORE", entry.key(), b"0", &payload]);
}

/// Appends the requests that create a stream with all state of its groups.
fn write_stream(key: &[u8], stream: &Stream, out: &mut Vec<u8>) {
    let number = |n: u64| itoa::Buffer::new().format(n).as_bytes().to_vec();
    let id_text = |id: StreamId| id.to_string().into_bytes();
    for entry in stream.range(StreamId::MIN, StreamId::MAX) {
        write_header(out, b'*', 3 + 2 * entry.len());
        write_bulk(out, b"XADD");
        write_bulk(out, key);
        write_bulk(out, &id_text(entry.id));
        for (field, value) in entry.fields() {
            write_bulk(out, field.text(&mut itoa::Buffer::new()));
            write_bulk(out, value.text(&mut itoa::Buffer::new()));
        }
    }
    if stream.entries_len() == 0 {
        // The request adds an entry that is trimmed at once, which creates an empty stream. No entry has the id 0-0.
        let id = stream.last_id().max(StreamId::new(0, 1));
        request(out, &[b"XADD", key, b"MAXLEN", b"0", &id_text(id), b"x", b"y"]);
    }
    let (last, added, deleted) =
        (id_text(stream.last_id()), number(stream.entries_added()), id_text(stream.max_deleted_id()));
    request(out, &[b"XSETID", key, &last, b"ENTRIESADDED", &added, b"MAXDELETEDID", &deleted]);
    if let Some(state) = stream.idempotency() {
        let (duration, most) = (number(state.duration_s()), number(state.max_size()));
        request(out, &[b"XCFGSET", key, b"IDMP-DURATION", &duration, b"IDMP-MAXSIZE", &most]);
        for (producer, _, ids) in state.producers() {
            for (iid, id) in ids {
                request(out, &[b"XIDMPRECORD", key, producer, iid, &id_text(id)]);
            }
        }
    }
    for group in stream.groups() {
        let name = group.name();
        let read = group.entries_read().map_or_else(|| b"-1".to_vec(), number);
        let last = id_text(group.last_id());
        request(out, &[b"XGROUP", b"CREATE", key, name, &last, b"ENTRIESREAD", &read]);
        for (_, consumer) in group.consumers() {
            request(out, &[b"XGROUP", b"CREATECONSUMER", key, name, consumer.name()]);
        }
        for entry in group.pending(StreamId::MIN, StreamId::MAX) {
            let (id, deliveries) = (id_text(entry.id), number(entry.deliveries));
            match entry.consumer {
                Some(consumer) => {
                    let (consumer, time) = (group.consumer(consumer).name(), entry.delivered_ms.to_string());
                    request(
                        out,
                        &[
                            b"XCLAIM",
                            key,
                            name,
                            consumer,
                            b"0",
                            &id,
                            b"TIME",
                            time.as_bytes(),
                            b"RETRYCOUNT",
                            &deliveries,
                            b"JUSTID",
                            b"FORCE",
                        ],
                    );
                }
                None => request(
                    out,
                    &[b"XNACK", key, name, b"FAIL", b"IDS", b"1", &id, b"RETRYCOUNT", &deliveries, b"FORCE"],
                ),
            }
        }
    }
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
