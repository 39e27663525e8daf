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
//! A part in brackets exists from the form with that number on. Unless noted otherwise, an id is written as two
//! lengths; times are milliseconds in eight bytes, little-endian.

use super::format::value_type;
use super::input::{Fault, Input};
use super::output::Output;
use crate::types::Stream;
use crate::types::stream::{Builder, Group, Idempotency, LoadError, StreamId};

/// Value that older forms store in place of an unknown number.
const UNKNOWN: u64 = u64::MAX;

/// The consumer that owns released entries in forms without released entries. It has the name that `XPENDING` shows for
/// entries without an owner, and any consumer can claim the entries from it.
const NOBODY: &[u8] = b"";

/// A form of streams in files. Each form includes the previous one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Form {
    /// Entries and groups.
    Plain = 1,
    /// With counters.
    Counters = 2,
    /// With the time at which each consumer last received an entry.
    ActiveTimes = 3,
    /// With idempotency ids of producers.
    Producers = 4,
    /// With released entries.
    Released = 5,
}

impl Form {
    /// The form of a value type.
    fn of(number: u8) -> Form {
        match number {
            value_type::STREAM_LISTPACKS => Form::Plain,
            value_type::STREAM_LISTPACKS_2 => Form::Counters,
            value_type::STREAM_LISTPACKS_3 => Form::ActiveTimes,
            value_type::STREAM_LISTPACKS_4 => Form::Producers,
            _ => Form::Released,
        }
    }

    /// The value type of the form.
    pub(super) fn value_type(self) -> u8 {
        match self {
            Form::Plain => value_type::STREAM_LISTPACKS,
            Form::Counters => value_type::STREAM_LISTPACKS_2,
            Form::ActiveTimes => value_type::STREAM_LISTPACKS_3,
            Form::Producers => value_type::STREAM_LISTPACKS_4,
            Form::Released => value_type::STREAM_LISTPACKS_5,
        }
    }

    /// The first form that stores everything that clients see of the stream, except for the times of consumers.
    /// O(groups).
    pub(super) fn needed(stream: &Stream) -> Form {
        if stream.groups().any(|group| group.released_len() > 0) {
            Form::Released
        } else if stream.idempotency().is_some() {
            Form::Producers
        } else {
            Form::Counters
        }
    }
}

fn id(id: StreamId, out: &mut Output<'_>) {
    out.len(id.ms as usize);
    out.len(id.seq as usize);
}

/// Writes a stream in a form. Parts that the form does not have are left out; released entries are then written as
/// pending for a consumer with an empty name.
pub(super) fn write(stream: &Stream, form: Form, out: &mut Output<'_>) {
    out.len(stream.nodes_len());
    for (master, node) in stream.nodes() {
        out.len(16);
        out.raw(&master.to_bytes());
        out.string(node);
    }
    out.len(stream.entries_len() as usize);
    id(stream.last_id(), out);
    if form >= Form::Counters {
        id(stream.first_id(), out);
        id(stream.max_deleted_id(), out);
        out.len(stream.entries_added() as usize);
    }
    out.len(stream.groups_len());
    for group in stream.groups() {
        out.string(group.name());
        id(group.last_id(), out);
        if form >= Form::Counters {
            out.len(group.entries_read().unwrap_or(UNKNOWN) as usize);
        }
        out.len(group.pending_len());
        for entry in group.pending(StreamId::MIN, StreamId::MAX) {
            out.raw(&entry.id.to_bytes());
            out.raw(&entry.delivered_ms.to_le_bytes());
            out.len(entry.deliveries as usize);
        }
        consumers(group, form, out);
        if form >= Form::Released {
            out.len(group.released_len());
            group.released().for_each(|id| out.raw(&id.to_bytes()));
        }
    }
    if form >= Form::Producers {
        write_producers(stream, out);
    }
}

fn consumers(group: &Group, form: Form, out: &mut Output<'_>) {
    let nobody_has = if form < Form::Released { group.released_len() } else { 0 };
    let nobody = group.find_consumer(NOBODY);
    out.len(group.consumers_len() + usize::from(nobody_has > 0 && nobody.is_none()));
    let times = |out: &mut Output<'_>, name: &[u8], seen_ms: i64, active_ms: i64, pending: usize| {
        out.string(name);
        out.raw(&seen_ms.to_le_bytes());
        if form >= Form::ActiveTimes {
            out.raw(&active_ms.to_le_bytes());
        }
        out.len(pending);
    };
    if nobody_has > 0 && nobody.is_none() {
        times(out, NOBODY, 0, -1, nobody_has);
        group.released().for_each(|id| out.raw(&id.to_bytes()));
    }
    for (number, consumer) in group.consumers() {
        let more = if Some(number) == nobody { nobody_has } else { 0 };
        let pending = consumer.pending_len() + more;
        times(out, consumer.name(), consumer.seen_ms(), consumer.active_ms(), pending);
        consumer.pending_ids().for_each(|id| out.raw(&id.to_bytes()));
        if more > 0 {
            group.released().for_each(|id| out.raw(&id.to_bytes()));
        }
    }
}

/// Writes the state of idempotent producers; the default settings if there is none.
fn write_producers(stream: &Stream, out: &mut Output<'_>) {
    let default = Idempotency::default();
    let state = stream.idempotency().unwrap_or(&default);
    out.len(state.duration_s() as usize);
    out.len(state.max_size() as usize);
    out.len(state.producers_len());
    for (producer, n, ids) in state.producers() {
        out.string(producer);
        out.len(n);
        for (iid, entry) in ids {
            out.string(iid);
            id(entry, out);
        }
    }
    out.len(state.added() as usize);
    out.len(state.duplicates() as usize);
}

impl From<LoadError> for Fault {
    fn from(error: LoadError) -> Fault {
        Fault::Stream(error)
    }
}

/// Reads a string into a new vector.
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
/// The bytes are not a stream, or its parts contradict each other.
pub(super) fn read(input: &mut Input<'_>, number: u8) -> Result<Stream, Fault> {
    let form = Form::of(number);
    let mut builder = Builder::new();
    for _ in 0..input.count(2)? {
        let master = text(input)?;
        let master =
            master.try_into().map_err(|_| Fault::Corrupt("the id of a stream node has not its length"))?;
        let mut digits = itoa::Buffer::new();
        builder.node(StreamId::from_bytes(master), input.string()?.bytes(&mut digits))?;
    }
    let (length, last_id) = (input.number()?, read_id(input)?);
    let counters = if form >= Form::Counters {
        // The first id is determined from the entries, whatever the file states.
        read_id(input)?;
        Some((read_id(input)?, input.number()?))
    } else {
        None
    };
    builder.meta(length, last_id, counters)?;
    for _ in 0..input.count(5)? {
        group(input, form, &mut builder)?;
    }
    if form >= Form::Producers {
        producers(input, &mut builder)?;
    }
    if form >= Form::Released {
        builder.forget_default_idempotency();
    }
    Ok(builder.finish()?)
}

fn group(input: &mut Input<'_>, form: Form, builder: &mut Builder) -> Result<(), Fault> {
    let (name, last_id) = (text(input)?, read_id(input)?);
    let entries_read = if form >= Form::Counters { input.number()? } else { UNKNOWN };
    builder.group(&name, last_id, (entries_read != UNKNOWN).then_some(entries_read))?;
    for _ in 0..input.count(25)? {
        builder.pending(raw_id(input)?, time(input)?, input.number()?)?;
    }
    for _ in 0..input.count(10)? {
        let (name, seen) = (text(input)?, time(input)?);
        let active = if form >= Form::ActiveTimes { time(input)? } else { seen };
        builder.consumer(&name, seen, active)?;
        for _ in 0..input.count(16)? {
            builder.consumer_pending(raw_id(input)?)?;
        }
    }
    if form >= Form::Released {
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
    builder.idempotency_counters(input.number()?, input.number()?)?;
    Ok(())
}
