//! What a key can hold, as an owned value on its way into or out of the keyspace.
#![allow(unsafe_code)]

use std::sync::Arc;

use super::ahead::{Aim, Scout};
use super::stream;
use crate::stdx::clock::UnixMillis;
use crate::structures::sds::Sds;

/// The type of a value, with the number it has in files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Bytes, or an integer as text.
    String = 0,
    /// Elements in a sequence with two ends.
    List = 1,
    /// Members without order, each once.
    Set = 2,
    /// Members with scores, in the order of these.
    Zset = 3,
    /// Fields with values, some of which may expire.
    Hash = 4,
    /// A log of entries.
    Stream = 6,
}

impl Kind {
    /// The name `TYPE` answers.
    pub fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Zset => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
        }
    }

    /// The kind with the given name, in any case.
    pub fn from_name(name: &[u8]) -> Option<Kind> {
        use Kind::*;
        [String, List, Set, Zset, Hash, Stream]
            .into_iter()
            .find(|k| name.eq_ignore_ascii_case(k.name().as_bytes()))
    }
}

/// What can be told about a collection without knowing which one it is.
pub trait Describe {
    /// Number of elements, members, fields.
    fn len(&self) -> usize;

    /// Whether nothing is left in it, so that its key goes. A stream stays, though it has no entry.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many allocations it takes to free it, roughly: decides who frees it.
    fn effort(&self) -> usize;

    /// What `OBJECT ENCODING` answers.
    fn encoding(&self) -> &'static str;

    /// Bytes it occupies outside its entry, estimated from `samples` elements (0: all of them).
    fn bytes(&self, samples: usize) -> usize;

    /// Calls `f` with each element, in its order where there is one: for digests and inspection.
    fn each_part(&self, _f: &mut dyn FnMut(Part<'_>)) {}

    /// Appends to `out` what `DEBUG OBJECT` tells about this encoding in particular, as ` name:value` words.
    fn details(&self, _out: &mut String) {}

    /// When the first of its elements expires by itself, where elements can.
    fn earliest_expiry(&self) -> Option<UnixMillis> {
        None
    }

    /// The hash table inside, as `DEBUG HTSTATS-KEY` describes it, where there is one.
    fn table_stats(&self) -> Option<crate::structures::dict::Stats> {
        None
    }
}

/// One element of a collection.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// An element of a list or a member of a set.
    Item(&'a [u8]),
    /// A field of a hash and its value.
    Field(&'a [u8], &'a [u8]),
    /// A member of a sorted set and its score.
    Scored(&'a [u8], f64),
    /// An entry of a stream.
    Logged(stream::Entry<'a>),
}

/// A collection that can be stored in an entry.
///
/// # Safety
/// The type is exactly one 8-byte word of alignment at most 8, owns what it points to, may move
/// to another thread to be dropped, and no two types share a `KIND`.
pub unsafe trait Collection: Describe + Sized + Send {
    /// The type of the value.
    const KIND: Kind;

    /// A deep copy.
    fn duplicate(&self) -> Self;

    /// One step of the rehash of its table, if one is running: reading commands take it, so that a collection
    /// which nobody changes any more does not keep two tables for ever.
    fn step(&mut self) {}

    /// The way to what a command looks for, if it is longer than one access: that one is asked for at once.
    fn ahead<'a>(&'a self, aim: Aim<'a>) -> Option<Scout<'a>>;
}

/// A value to be stored. Strings may still be borrowed from a request.
pub enum Value<'a> {
    /// A string that is the decimal text of an integer.
    Int(i64),
    /// A string, to be copied.
    Bytes(&'a [u8]),
    /// A string that is on its own already.
    Shared(Arc<Sds>),
}

impl Value<'_> {
    /// The type of the value.
    pub fn kind(&self) -> Kind {
        match self {
            Value::Int(_) | Value::Bytes(_) | Value::Shared(_) => Kind::String,
        }
    }
}
