//! Streams as RDB bytes, and back.
//!
//! ```text
//! nodes:   count, (master id as a string of 16 bytes, listpack as a string) …
//! numbers: length, last id, [first id, greatest deleted id, entries added]₂
//! groups:  count, (name, last id, [entries read]₂,
//!                  pending: count, (id as 16 bytes, time of delivery, deliveries) …
//!                  consumers: count, (name, time seen, [time active]₃, count, id as 16 bytes …) …
//!                  [given back: count, id as 16 bytes …]₅) …
//! producers: [duration, limit, count, (name, count, (idempotency id, entry id) …) …, added, duplicates]₄
//! ```
//!
//! What stands in brackets is there from that version of the form on. Ids are two lengths where nothing else is said,
//! times are milliseconds in eight bytes, little-endian.

use super::format::value_type;
use super::input::{Fault, Input};
use super::output::Output;
use crate::types::Stream;
use crate::types::stream::{Builder, LoadError, StreamId};

/// What older forms have in the place of a number that nobody knows.
const UNKNOWN: u64 = u64::MAX;

/// The version of the form of a type.
fn form(number: u8) -> u8 {
    match number {
        value_type::STREAM_LISTPACKS => 1,
        value_type::STREAM_LISTPACKS_2 => 2,
        value_type::STREAM_LISTPACKS_3 => 3,
        value_type::STREAM_LISTPACKS_4 => 4,
        _ => 5,
    }
}

/// Whether a stream has something that the forms which are written cannot tell: entries given back, or
/// idempotency ids.
pub(super) fn is_cut(stream: &Stream) -> bool {
    stream.idempotency().is_some() || stream.groups().any(|group| group.released_len() > 0)
}

fn id(id: StreamId, out: &mut Output<'_>) {
    out.len(id.ms as usize);
    out.len(id.seq as usize);
}

/// Writes a stream as a value of type `number`. What [`is_cut`] asks for is left out.
pub(super) fn write(stream: &Stream, number: u8, out: &mut Output<'_>) {
    let form = form(number);
    out.len(stream.nodes_len());
    for (master, node) in stream.nodes() {
        out.len(16);
        out.raw(&master.to_bytes());
        out.string(node);
    }
    out.len(stream.entries_len() as usize);
    id(stream.last_id(), out);
    if form >= 2 {
        id(stream.first_id(), out);
        id(stream.max_deleted_id(), out);
        out.len(stream.entries_added() as usize);
    }
    out.len(stream.groups_len());
    for group in stream.groups() {
        out.string(group.name());
        id(group.last_id(), out);
        if form >= 2 {
            out.len(group.entries_read().unwrap_or(UNKNOWN) as usize);
        }
        out.len(group.pending_len() - group.released_len());
        for entry in group.pending(StreamId::MIN, StreamId::MAX).filter(|entry| entry.consumer.is_some()) {
            out.raw(&entry.id.to_bytes());
            out.raw(&entry.delivered_ms.to_le_bytes());
            out.len(entry.deliveries as usize);
        }
        out.len(group.consumers_len());
        for (_, consumer) in group.consumers() {
            out.string(consumer.name());
            out.raw(&consumer.seen_ms().to_le_bytes());
            if form >= 3 {
                out.raw(&consumer.active_ms().to_le_bytes());
            }
            out.len(consumer.pending_len());
            consumer.pending_ids().for_each(|id| out.raw(&id.to_bytes()));
        }
    }
}

impl From<LoadError> for Fault {
    fn from(error: LoadError) -> Fault {
        Fault::Stream(error)
    }
}

/// Reads a string into memory of ours.
fn text(input: &mut Input<'_>) -> Result<Vec<u8>, Fault> {
    Ok(input.string()?.bytes(&mut itoa::Buffer::new()).to_vec())
}

fn read_id(input: &mut Input<'_>) -> Result<StreamId, Fault> {
    Ok(StreamId::new(input.number()?, input.number()?))
}

fn raw_id(input: &mut Input<'_>) -> Result<StreamId, Fault> {
    Ok(StreamId::from_bytes(input.array()?))
}

fn time(input: &mut Input<'_>) -> Result<i64, Fault> {
    Ok(i64::from_le_bytes(input.array()?))
}

/// Reads a stream from a value of type `number`.
///
/// # Errors
/// The bytes are none, or parts of it contradict each other.
pub(super) fn read(input: &mut Input<'_>, number: u8) -> Result<Stream, Fault> {
    let form = form(number);
    let mut builder = Builder::new();
    for _ in 0..input.count(2)? {
        let master = text(input)?;
        let master =
            master.try_into().map_err(|_| Fault::Corrupt("the id of a stream node has not its length"))?;
        let mut digits = itoa::Buffer::new();
        builder.node(StreamId::from_bytes(master), input.string()?.bytes(&mut digits))?;
    }
    let (length, last_id) = (input.number()?, read_id(input)?);
    let counters = if form >= 2 {
        // The first id is found out, whatever is said.
        read_id(input)?;
        Some((read_id(input)?, input.number()?))
    } else {
        None
    };
    builder.meta(length, last_id, counters)?;
    for _ in 0..input.count(5)? {
        group(input, form, &mut builder)?;
    }
    if form >= 4 {
        producers(input, &mut builder)?;
    }
    Ok(builder.finish()?)
}

fn group(input: &mut Input<'_>, form: u8, builder: &mut Builder) -> Result<(), Fault> {
    let (name, last_id) = (text(input)?, read_id(input)?);
    let entries_read = if form >= 2 { input.number()? } else { UNKNOWN };
    builder.group(&name, last_id, (entries_read != UNKNOWN).then_some(entries_read))?;
    for _ in 0..input.count(25)? {
        builder.pending(raw_id(input)?, time(input)?, input.number()?)?;
    }
    for _ in 0..input.count(10)? {
        let (name, seen) = (text(input)?, time(input)?);
        let active = if form >= 3 { time(input)? } else { seen };
        builder.consumer(&name, seen, active)?;
        for _ in 0..input.count(16)? {
            builder.consumer_pending(raw_id(input)?)?;
        }
    }
    if form >= 5 {
        for _ in 0..input.count(16)? {
            builder.released(raw_id(input)?)?;
        }
    }
    Ok(())
}

fn producers(input: &mut Input<'_>, builder: &mut Builder) -> Result<(), Fault> {
    builder.idempotency(input.number()?, input.number()?)?;
    for _ in 0..input.count(2)? {
        let producer = text(input)?;
        for _ in 0..input.count(3)? {
            builder.idempotency_id(&producer, &text(input)?, read_id(input)?)?;
        }
    }
    Ok(builder.idempotency_counters(input.number()?, input.number()?)?)
}
