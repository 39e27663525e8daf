//! Hashes: fields with a value each, in no order.
//!
//! A hash is a listpack of fields and values in turn while it is short, else a hash table. There is no way back.
//!
//! What always holds: a field is stored once; the hash table holds one allocation per field,
//! value included:
//!
//! ```text
//! ┌─────────┬──────────────────┬──────────────────────┬─────────┬─────────────────────────────┐
//! │flags u8 │field length u8,  │value length u8 or u16│ field … │ value …, or a pointer to it │
//! │         │or u64 if it is   │or none, as the flags │         │                             │
//! │         │long              │say                   │         │                             │
//! └─────────┴──────────────────┴──────────────────────┴─────────┴─────────────────────────────┘
//! ```
//!
//! Of the flags, five bits are free: one is meant to say that eight bytes of expiry follow the lengths.
//! A value above about a kilobyte is a string of its own, shared with whoever received or copied it.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use super::Limits;
use super::random;
use super::tagged::{Lent, LentMut, Tagged, Thin};
use super::value::{Collection, Describe, Kind, Part, Value};
use crate::stdx::alloc::size_class;
use crate::stdx::hash::hash;
use crate::stdx::num;
use crate::stdx::rng::Rng;
use crate::structures::dict::{self, Borrowed, Dict, Element, Place};
use crate::structures::listpack::{self, Item, Listpack, Pos, encoded_size};
use crate::structures::sds::Sds;

// ---- a field of a hash table ----------------------------------------------------------------

/// Flag: the field's length takes eight bytes.
const LONG_FIELD: u8 = 1;
/// The flags that tell where the value is: one of the following three.
const VALUE_FORM: u8 = 6;
/// Behind the field, its length in one byte.
const SHORT: u8 = 0;
/// Behind the field, its length in two bytes.
const MEDIUM: u8 = 2;
/// In a string of its own, to which a pointer lies behind the field.
const APART: u8 = 4;

/// The longest value that lies in its field's block, in bytes.
const EMBEDDED_MAX: usize = 1024;
const _: () = assert!(EMBEDDED_MAX <= u16::MAX as usize);

const POINTER: usize = size_of::<*const Sds>();

/// A field of a hash table, with its value.
pub struct Field(NonNull<u8>);

// SAFETY: a field owns its block alone, and what it shares is `Send` and `Sync`.
unsafe impl Send for Field {}
// SAFETY: as above; nothing changes through `&Field`.
unsafe impl Sync for Field {}

/// Where the parts of a field's block lie.
#[derive(Clone, Copy)]
struct Shape {
    flags: u8,
    /// Offset of the field.
    head: usize,
    field: usize,
    /// Bytes behind the field: the value, or the pointer to it.
    value: usize,
}

impl Shape {
    #[inline]
    fn of(field: usize, value: usize) -> Shape {
        let (long, prefix) =
            if field <= u8::MAX as usize { (0, 2) } else { (LONG_FIELD, 1 + size_of::<u64>()) };
        match value {
            0..=255 => Shape { flags: long | SHORT, head: prefix + 1, field, value },
            256..=EMBEDDED_MAX => Shape { flags: long | MEDIUM, head: prefix + 2, field, value },
            _ => Shape { flags: long | APART, head: prefix, field, value: POINTER },
        }
    }

    /// The shape of a block.
    ///
    /// # Safety
    /// `raw` is the block of a field that is alive.
    #[inline(always)]
    unsafe fn read(raw: NonNull<u8>) -> Shape {
        // SAFETY: each part that is read is there, as the flags say.
        unsafe {
            let flags = raw.read();
            let (field, at) = match flags & LONG_FIELD {
                0 => (usize::from(raw.add(1).read()), 2),
                _ => (raw.add(1).cast::<u64>().read_unaligned() as usize, 1 + size_of::<u64>()),
            };
            let (value, head) = match flags & VALUE_FORM {
                SHORT => (usize::from(raw.add(at).read()), at + 1),
                MEDIUM => (usize::from(raw.add(at).cast::<u16>().read_unaligned()), at + 2),
                _ => (POINTER, at),
            };
            Shape { flags, head, field, value }
        }
    }

    /// Writes what lies before the field.
    ///
    /// # Safety
    /// `raw` is a block with the layout of this shape.
    #[inline]
    unsafe fn write(self, raw: NonNull<u8>) {
        // SAFETY: the block has room for all parts.
        unsafe {
            raw.write(self.flags);
            let at = if self.flags & LONG_FIELD == 0 {
                raw.add(1).write(self.field as u8);
                2
            } else {
                raw.add(1).cast::<u64>().write_unaligned(self.field as u64);
                1 + size_of::<u64>()
            };
            match self.flags & VALUE_FORM {
                SHORT => raw.add(at).write(self.value as u8),
                MEDIUM => raw.add(at).cast::<u16>().write_unaligned(self.value as u16),
                _ => {}
            }
        }
    }

    #[inline]
    fn layout(self) -> Layout {
        let size = size_class(self.head + self.field + self.value);
        Layout::from_size_align(size, 1).expect("a text fits in memory")
    }

    fn is_apart(self) -> bool {
        self.flags & VALUE_FORM == APART
    }

    /// Where the value, or the pointer to it, begins.
    #[inline(always)]
    fn value_at(self) -> usize {
        self.head + self.field
    }
}

/// Writes the value, or a pointer to it, where `shape` says.
///
/// # Safety
/// `raw` is a block with the layout of `shape`, which is the shape for a value of this length. What was there
/// before is not dropped.
#[inline]
unsafe fn write_value(raw: NonNull<u8>, shape: Shape, value: Value<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        let at = raw.add(shape.value_at());
        if shape.is_apart() {
            let shared = match value {
                Value::Shared(shared) => shared,
                Value::Bytes(bytes) => Arc::new(Sds::from_slice(bytes)),
                Value::Int(_) => unreachable!("a number is not so long"),
            };
            at.cast::<*const Sds>().write_unaligned(Arc::into_raw(shared));
        } else {
            let mut digits = itoa::Buffer::new();
            let text = text_of(&value, &mut digits);
            debug_assert_eq!(text.len(), shape.value);
            at.copy_from_nonoverlapping(NonNull::from(text).cast(), text.len());
        }
    }
}

/// The bytes of a value.
#[inline]
fn text_of<'t>(value: &'t Value<'_>, digits: &'t mut itoa::Buffer) -> &'t [u8] {
    match value {
        Value::Int(n) => digits.format(*n).as_bytes(),
        Value::Bytes(bytes) => bytes,
        Value::Shared(shared) => shared,
    }
}

/// The length of a value in bytes.
#[inline]
fn len_of(value: &Value<'_>) -> usize {
    match value {
        Value::Int(n) => num::decimal_len(*n),
        Value::Bytes(bytes) => bytes.len(),
        Value::Shared(shared) => shared.len(),
    }
}

/// A value as a listpack takes it.
#[inline]
fn item_of<'t>(value: &'t Value<'_>) -> Item<'t> {
    match value {
        Value::Int(n) => Item::Int(*n),
        Value::Bytes(bytes) => Item::Str(bytes),
        Value::Shared(shared) => Item::Str(shared),
    }
}

impl Field {
    fn new(field: &[u8], value: Value<'_>) -> Field {
        let shape = Shape::of(field.len(), len_of(&value));
        let layout = shape.layout();
        // SAFETY: no class is of zero size.
        let Some(block) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        // SAFETY: the block has the layout of its shape.
        unsafe {
            shape.write(block);
            block.add(shape.head).copy_from_nonoverlapping(NonNull::from(field).cast(), field.len());
            write_value(block, shape, value);
        }
        Field(block)
    }

    #[inline]
    fn shape(&self) -> Shape {
        // SAFETY: the field is alive while it is borrowed.
        unsafe { Shape::read(self.0) }
    }

    /// The field's name.
    #[inline]
    pub fn name(&self) -> &[u8] {
        // SAFETY: as in `shape`.
        unsafe { Field::key(self.0) }
    }

    /// The field's value.
    #[inline]
    pub fn value(&self) -> &[u8] {
        // SAFETY: as in `shape`.
        unsafe { Field::value_of(self.0) }
    }

    /// The value of a field.
    ///
    /// # Safety
    /// `raw` is a field that is alive during 'a, in which its value does not change.
    #[inline]
    unsafe fn value_of<'a>(raw: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the caller's promise; the shape says what lies behind the field.
        unsafe {
            let shape = Shape::read(raw);
            let at = raw.add(shape.value_at());
            if shape.is_apart() {
                (*at.cast::<*const Sds>().read_unaligned()).as_slice()
            } else {
                std::slice::from_raw_parts(at.as_ptr(), shape.value)
            }
        }
    }

    /// The string that the value is, if it lies apart.
    fn shared(&self) -> Option<Arc<Sds>> {
        let shape = self.shape();
        if !shape.is_apart() {
            return None;
        }
        // SAFETY: the pointer comes from `Arc::into_raw` and the field keeps its own count.
        unsafe {
            let pointer = self.0.add(shape.value_at()).cast::<*const Sds>().read_unaligned();
            Arc::increment_strong_count(pointer);
            Some(Arc::from_raw(pointer))
        }
    }

    /// Drops the string that lies apart, if the shape says that there is one.
    ///
    /// # Safety
    /// `shape` is the field's shape; the pointer is written anew or not used again.
    #[inline]
    unsafe fn drop_apart(&mut self, shape: Shape) {
        if shape.is_apart() {
            // SAFETY: the pointer comes from `Arc::into_raw`, and the caller gives the field's count up.
            unsafe {
                drop(Arc::from_raw(self.0.add(shape.value_at()).cast::<*const Sds>().read_unaligned()))
            };
        }
    }

    /// The same field with another value: in the same block where the size class allows it.
    fn with_value(mut self, value: Value<'_>) -> Field {
        let old = self.shape();
        let new = Shape::of(old.field, len_of(&value));
        if old.flags != new.flags {
            return Field::new(self.name(), value);
        }
        let (from, to) = (old.layout(), new.layout());
        // SAFETY: the block has the old layout, and afterwards the new one. Equal flags mean that the field stays
        // at its place.
        unsafe {
            self.drop_apart(old);
            if from.size() != to.size() {
                let block = realloc(self.0.as_ptr(), from, to.size());
                let Some(block) = NonNull::new(block) else { handle_alloc_error(to) };
                self.0 = block;
            }
            new.write(self.0);
            write_value(self.0, new, value);
        }
        self
    }

    /// A copy; a value that lies apart is shared.
    fn copy(&self) -> Field {
        match self.shared() {
            Some(shared) => Field::new(self.name(), Value::Shared(shared)),
            None => Field::new(self.name(), Value::Bytes(self.value())),
        }
    }

    /// Bytes it occupies.
    fn bytes(&self) -> usize {
        let shape = self.shape();
        let apart = if shape.is_apart() { size_class(self.value().len()) } else { 0 };
        shape.layout().size() + apart
    }
}

impl Drop for Field {
    fn drop(&mut self) {
        let shape = self.shape();
        // SAFETY: the block was allocated with the layout of its shape and is not used again.
        unsafe {
            self.drop_apart(shape);
            dealloc(self.0.as_ptr(), shape.layout());
        }
    }
}

// SAFETY: the pointer is the allocator's; the name stays the same while the block lives.
unsafe impl Element for Field {
    #[inline(always)]
    fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).0
    }

    #[inline(always)]
    unsafe fn from_raw(raw: NonNull<u8>) -> Field {
        Field(raw)
    }

    #[inline(always)]
    unsafe fn key<'a>(raw: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the field is alive during 'a, and its shape tells where the name is.
        unsafe {
            let shape = Shape::read(raw);
            std::slice::from_raw_parts(raw.add(shape.head).as_ptr(), shape.field)
        }
    }
}

/// Name and value of a field, for as long as its table is borrowed.
#[inline]
fn pair<'a>(field: &Borrowed<'a, Field>) -> (Item<'a>, Item<'a>) {
    (Item::Str(field.key()), value(field))
}

#[inline]
fn value<'a>(field: &Borrowed<'a, Field>) -> Item<'a> {
    // SAFETY: the field's table is borrowed for 'a.
    Item::Str(unsafe { Field::value_of(field.as_raw()) })
}

// ---- the hash -------------------------------------------------------------------------------

const PACK: usize = 0;
const TABLE: usize = 1;

type Table = Dict<Field>;

/// A hash in one machine word.
#[repr(transparent)]
pub struct Hash(Tagged);

// SAFETY: a hash owns what its word points to.
unsafe impl Send for Hash {}

enum Encoding<'a> {
    Pack(Lent<'a, Listpack>),
    Table(&'a Table),
}

enum EncodingMut<'a> {
    Pack(LentMut<'a, Listpack>),
    Table(&'a mut Table),
}

impl From<Listpack> for Hash {
    /// The listpack holds fields and values in turn, and no field twice.
    fn from(pack: Listpack) -> Hash {
        Hash(Tagged::new(pack.into_raw(), PACK))
    }
}

impl From<Table> for Hash {
    fn from(table: Table) -> Hash {
        Hash(Tagged::new(NonNull::from(Box::leak(Box::new(table))).cast(), TABLE))
    }
}

impl Drop for Hash {
    fn drop(&mut self) {
        // SAFETY: the tag says what the word owns; nobody uses the word after this.
        unsafe {
            match self.0.tag() {
                PACK => drop(<Listpack as Thin>::from_raw(self.0.pointer(PACK))),
                _ => drop(Box::from_raw(self.0.pointer(TABLE).cast::<Table>().as_ptr())),
            }
        }
    }
}

impl Default for Hash {
    fn default() -> Hash {
        Hash::new()
    }
}

/// Members of one window of lookups in a hash table.
const WINDOW: usize = 16;

/// The position of a field in a listpack, and that of its value.
#[inline]
fn find_in(pack: &Listpack, field: &[u8]) -> Option<(Pos, Pos)> {
    let at = pack.find(field, 1)?;
    Some((at, pack.next(at).expect("a field is followed by its value")))
}

impl Hash {
    /// An empty listpack.
    pub fn new() -> Hash {
        Listpack::new().into()
    }

    #[inline(always)]
    fn encoded(&self) -> Encoding<'_> {
        // SAFETY: the tag says what the word owns, which stays as it is while the hash is borrowed.
        unsafe {
            match self.0.tag() {
                PACK => Encoding::Pack(Lent::new(self.0, PACK)),
                _ => Encoding::Table(self.0.pointer(TABLE).cast().as_ref()),
            }
        }
    }

    #[inline(always)]
    fn encoded_mut(&mut self) -> EncodingMut<'_> {
        // SAFETY: the tag says what the word owns; the word is borrowed exclusively, and no value of
        // `LentMut` is forgotten in this module.
        unsafe {
            match self.0.tag() {
                PACK => EncodingMut::Pack(LentMut::new(&mut self.0, PACK)),
                _ => EncodingMut::Table(self.0.pointer(TABLE).cast().as_mut()),
            }
        }
    }

    /// Converts to a hash table if a listpack of `fields` fields, whose longest new text and whose `bytes` more
    /// are as said, is beyond the limits: the one place that decides about it.
    #[inline]
    fn admit(&mut self, fields: usize, longest: usize, bytes: usize, limits: &Limits) {
        if let Encoding::Pack(pack) = self.encoded()
            && (fields > limits.hash_max_listpack_entries
                || longest > limits.hash_max_listpack_value
                || !pack.would_fit(bytes))
        {
            self.become_table(fields);
        }
    }

    #[cold]
    fn become_table(&mut self, capacity: usize) {
        let mut table = Table::with_capacity(capacity.max(self.len()));
        let (mut name_digits, mut value_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
        for (name, value) in self.iter() {
            let (name, value) = (name.text(&mut name_digits), value.text(&mut value_digits));
            table.insert_unique(hash(name), Field::new(name, Value::Bytes(value)));
        }
        *self = table.into();
    }

    /// Prepares for fields and values to be set, in turn: where one is too long for a listpack, or the
    /// fields are too many even if the hash was empty, it changes to a hash table at once.
    pub fn prepare<'t>(&mut self, texts: impl ExactSizeIterator<Item = &'t [u8]>, limits: &Limits) {
        if let Encoding::Table(_) = self.encoded() {
            return;
        }
        let fields = texts.len() / 2;
        let (longest, total) = texts.fold((0, 0usize), |(longest, total), text| {
            (text.len().max(longest), total.saturating_add(text.len()))
        });
        self.admit(fields, longest, total, limits);
    }

    /// Gives `field` a value; whether the field is new. O(1), O(n) in a listpack.
    pub fn set(&mut self, field: &[u8], value: Value<'_>, limits: &Limits) -> bool {
        let bytes = |name: &[u8], value: &Value<'_>| encoded_size(name) + encoded_size(item_of(value));
        if let Encoding::Pack(pack) = self.encoded() {
            let (found, fields) = (find_in(&pack, field), pack.len() / 2);
            let longest = field.len().max(len_of(&value));
            let added = usize::from(found.is_none());
            self.admit(fields + added, longest, bytes(field, &value), limits);
            if let EncodingMut::Pack(mut pack) = self.encoded_mut() {
                match found {
                    Some((_, at)) => pack.replace(at, item_of(&value)),
                    None => pack.append(&[Item::Str(field), item_of(&value)]),
                }
                return added == 1;
            }
        }
        let EncodingMut::Table(table) = self.encoded_mut() else {
            unreachable!("a listpack was seen to above")
        };
        match table.entry(hash(field), field) {
            Place::Occupied(mut slot) => {
                slot.map(|field| field.with_value(value));
                false
            }
            Place::Vacant(place) => {
                place.insert(Field::new(field, value));
                true
            }
        }
    }

    /// The value of a field. O(1), O(n) in a listpack.
    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<Item<'_>> {
        match self.encoded() {
            Encoding::Pack(pack) => find_in(&pack, field).map(|(_, at)| pack.at(at)),
            Encoding::Table(table) => table.find(hash(field), field).map(|field| value(&field)),
        }
    }

    /// Calls `each` with the value of each of `fields`, in order.
    pub fn get_each<'f>(
        &self,
        fields: impl Iterator<Item = &'f [u8]>,
        mut each: impl FnMut(Option<Item<'_>>),
    ) {
        let Encoding::Table(table) = self.encoded() else {
            return fields.for_each(|field| each(self.get(field)));
        };
        let mut fields = fields.map(|field| (hash(field), field));
        let mut window = Vec::with_capacity(WINDOW);
        loop {
            window.extend(fields.by_ref().take(WINDOW));
            if window.is_empty() {
                return;
            }
            window.iter().for_each(|&(hash, _)| table.prefetch_bucket(hash));
            window.iter().for_each(|&(hash, _)| table.prefetch_element(hash));
            window
                .drain(..)
                .for_each(|(hash, field)| each(table.find(hash, field).map(|field| value(&field))));
        }
    }

    /// Whether the hash has a field. O(1), O(n) in a listpack.
    pub fn contains(&self, field: &[u8]) -> bool {
        match self.encoded() {
            Encoding::Pack(pack) => pack.find(field, 1).is_some(),
            Encoding::Table(table) => table.find(hash(field), field).is_some(),
        }
    }

    /// Removes a field; whether it was there. O(1), O(n) in a listpack.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match self.encoded_mut() {
            EncodingMut::Pack(mut pack) => match pack.find(field, 1) {
                Some(at) => {
                    pack.remove_range_at(at, 2);
                    true
                }
                None => false,
            },
            EncodingMut::Table(table) => table.remove(hash(field), field).is_some(),
        }
    }

    /// Fields and values, in no particular order.
    #[inline]
    pub fn iter(&self) -> Fields<'_> {
        Fields(match self.encoded() {
            Encoding::Pack(pack) => Walk::Pack(pack.pairs()),
            Encoding::Table(table) => Walk::Table(table.iter()),
        })
    }

    /// Calls `each` with the fields and values at `cursor` and returns the next cursor: start with 0, stop at 0.
    ///
    /// Every field that stays in the hash from the first call to the last is seen. A listpack shows all its
    /// fields at once.
    pub fn scan(&self, cursor: u64, mut each: impl FnMut(Item<'_>, Item<'_>)) -> u64 {
        match self.encoded() {
            Encoding::Table(table) => {
                table.scan(cursor, |field| each(Item::Str(field.name()), Item::Str(field.value())))
            }
            Encoding::Pack(pack) => {
                pack.pairs().for_each(|(name, value)| each(name, value));
                0
            }
        }
    }

    /// A random field with its value; none if the hash is empty. O(1), O(n) in a listpack.
    pub fn random(&self, rng: &mut Rng) -> Option<(Item<'_>, Item<'_>)> {
        if self.is_empty() {
            return None;
        }
        match self.encoded() {
            Encoding::Pack(pack) => pack.pairs().nth(rng.index(pack.len() / 2)),
            Encoding::Table(table) => table.random(&mut || rng.next_u64()).map(|field| pair(&field)),
        }
    }

    /// Calls `each` with a random field and its value, `n` times; with none if the hash is empty.
    pub fn random_repeated(&self, n: usize, rng: &mut Rng, mut each: impl FnMut(Item<'_>, Item<'_>)) {
        if self.is_empty() {
            return;
        }
        let mut each = |(name, value)| each(name, value);
        match self.encoded() {
            Encoding::Pack(pack) => {
                let pairs: Vec<_> = pack.pairs().collect();
                (0..n).for_each(|_| each(pairs[rng.index(pairs.len())]));
            }
            Encoding::Table(table) => random::repeated(table, n, rng, |field| each(pair(&field))),
        }
    }

    /// Calls `each` with `k` different random fields and their values, or with all if there are fewer. O(k), but
    /// O(n) in a listpack and where `k` is a large part of the fields.
    pub fn random_distinct(&self, k: usize, rng: &mut Rng, mut each: impl FnMut(Item<'_>, Item<'_>)) {
        let k = k.min(self.len());
        let mut each = |(name, value)| each(name, value);
        match self.encoded() {
            Encoding::Table(table) => random::distinct(table, k, rng, |field| each(pair(&field))),
            Encoding::Pack(pack) => {
                let (mut pairs, mut passed) = (pack.pairs(), 0);
                for i in rng.select(k, pack.len() / 2) {
                    each(pairs.nth(i - passed).expect("an index below the length"));
                    passed = i + 1;
                }
            }
        }
    }

    /// Panics unless what always holds does. O(n).
    pub fn check(&self) {
        match self.encoded() {
            Encoding::Pack(pack) => {
                pack.check();
                assert!(pack.len().is_multiple_of(2));
                for (name, _) in pack.pairs() {
                    let same = pack.pairs().filter(|(other, _)| *other == name).count();
                    assert_eq!(same, 1, "a field is stored once");
                }
            }
            Encoding::Table(table) => {
                for field in table.iter() {
                    let found = table.find(hash(field.key()), field.key()).map(|found| found.as_raw());
                    assert_eq!(found, Some(field.as_raw()), "a field is stored once");
                }
            }
        }
    }
}

/// The fields of a [`Hash`] with their values.
pub struct Fields<'a>(Walk<'a>);

enum Walk<'a> {
    Pack(listpack::Pairs<'a>),
    Table(dict::Iter<'a, Field>),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Walk::Pack(pairs) => pairs.next(),
            Walk::Table(fields) => fields.next().map(|field| pair(&field)),
        }
    }

    fn fold<B, F: FnMut(B, Self::Item) -> B>(self, init: B, mut f: F) -> B {
        match self.0 {
            Walk::Pack(pairs) => pairs.fold(init, f),
            Walk::Table(fields) => fields.fold(init, |acc, field| f(acc, pair(&field))),
        }
    }
}

// ---- what the keyspace asks -----------------------------------------------------------------

impl Describe for Hash {
    #[inline]
    fn len(&self) -> usize {
        match self.encoded() {
            Encoding::Pack(pack) => pack.len() / 2,
            Encoding::Table(table) => table.len(),
        }
    }

    fn effort(&self) -> usize {
        match self.encoded() {
            Encoding::Table(table) => table.len(),
            Encoding::Pack(_) => 1,
        }
    }

    fn encoding(&self) -> &'static str {
        match self.encoded() {
            Encoding::Pack(_) => "listpack",
            Encoding::Table(_) => "hashtable",
        }
    }

    fn bytes(&self, samples: usize) -> usize {
        match self.encoded() {
            Encoding::Pack(pack) => pack.allocated(),
            Encoding::Table(table) => {
                let samples = if samples == 0 { table.len() } else { samples.min(table.len()) };
                let sampled: usize = table.iter().take(samples).map(|field| field.bytes()).sum();
                let fields = sampled as f64 / samples.max(1) as f64 * table.len() as f64;
                size_of::<Table>() + table.bytes() + fields as usize
            }
        }
    }

    fn table_stats(&self) -> Option<dict::Stats> {
        match self.encoded() {
            Encoding::Table(table) => Some(table.stats()),
            _ => None,
        }
    }

    fn each_part(&self, f: &mut dyn FnMut(Part<'_>)) {
        for (field, value) in self.iter() {
            f(Part::Field(field.text(&mut itoa::Buffer::new()), value.text(&mut itoa::Buffer::new())));
        }
    }
}

// SAFETY: one word that owns what it points to; `Send` holds for both encodings.
unsafe impl Collection for Hash {
    const KIND: Kind = Kind::Hash;

    fn duplicate(&self) -> Hash {
        match self.encoded() {
            Encoding::Pack(pack) => Listpack::clone(&pack).into(),
            Encoding::Table(table) => {
                let mut copy = Table::with_capacity(table.len());
                for field in table.iter() {
                    copy.insert_unique(hash(field.key()), field.copy());
                }
                copy.into()
            }
        }
    }
}

#[cfg(test)]
mod tests;
