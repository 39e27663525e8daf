//! A field of a hash with its value, or any other name with a text, as an element of a hash table: both in one block.
//!
//! ```text
//! ┌─────────┬──────────────────┬──────────────────────┬────────────┬─────────┬─────────────────────────────┐
//! │flags u8 │field length u8,  │value length u8 or u16│ [expiry    │ field … │ value …, or a pointer to it │
//! │         │or u64 if it is   │or none, as the flags │  i64 ms]   │         │                             │
//! │         │long              │say                   │            │         │                             │
//! └─────────┴──────────────────┴──────────────────────┴────────────┴─────────┴─────────────────────────────┘
//! ```
//!
//! A value above about a kilobyte is a string of its own, shared with the commands that received it and with copies.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

use super::dict::{Borrowed, Element};
use super::listpack::Item;
use super::sds::{Sds, Value};
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::alloc::size_class;
use crate::stdx::clock::UnixMillis;
use crate::stdx::num;

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
/// Flag: an expiry lies before the field. It is the number of bytes of one, so that it can be added as it is.
const EXPIRES: u8 = size_of::<i64>() as u8;
const _: () = assert!(EXPIRES.is_power_of_two() && EXPIRES & (LONG_FIELD | VALUE_FORM) == 0);

/// The longest value that lies in its field's block, in bytes.
pub const EMBEDDED_MAX: usize = 1024;
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
    fn of(field: usize, value: usize, expires: bool) -> Shape {
        let expires = if expires { EXPIRES } else { 0 };
        let (long, prefix) =
            if field <= u8::MAX as usize { (0, 2) } else { (LONG_FIELD, 1 + size_of::<u64>()) };
        let (form, length, value) = match value {
            0..=255 => (SHORT, 1, value),
            256..=EMBEDDED_MAX => (MEDIUM, 2, value),
            _ => (APART, 0, POINTER),
        };
        Shape { flags: long | form | expires, head: prefix + length + usize::from(expires), field, value }
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
            let (value, at) = match flags & VALUE_FORM {
                SHORT => (usize::from(raw.add(at).read()), at + 1),
                MEDIUM => (usize::from(raw.add(at).cast::<u16>().read_unaligned()), at + 2),
                _ => (POINTER, at),
            };
            Shape { flags, head: at + usize::from(flags & EXPIRES), field, value }
        }
    }

    /// Writes what lies before the field, but for the expiry.
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

    #[inline(always)]
    fn expires(self) -> bool {
        self.flags & EXPIRES != 0
    }

    /// Where the expiry is, if there is one.
    #[inline(always)]
    fn expiry_at(self) -> usize {
        self.head - usize::from(EXPIRES)
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
pub fn len_of(value: &Value<'_>) -> usize {
    match value {
        Value::Int(n) => num::decimal_len(*n),
        Value::Bytes(bytes) => bytes.len(),
        Value::Shared(shared) => shared.len(),
    }
}

/// A value as a listpack takes it.
#[inline]
pub fn item_of<'t>(value: &'t Value<'_>) -> Item<'t> {
    match value {
        Value::Int(n) => Item::Int(*n),
        Value::Bytes(bytes) => Item::Str(bytes),
        Value::Shared(shared) => Item::Str(shared),
    }
}

impl Field {
    /// A field in a block of its own.
    pub fn new(field: &[u8], value: Value<'_>, expires: Option<UnixMillis>) -> Field {
        let shape = Shape::of(field.len(), len_of(&value), expires.is_some());
        let layout = shape.layout();
        // SAFETY: no class is of zero size.
        let Some(block) = NonNull::new(unsafe { alloc(layout) }) else { handle_alloc_error(layout) };
        // SAFETY: the block has the layout of its shape.
        unsafe {
            shape.write(block);
            block.add(shape.head).copy_from_nonoverlapping(NonNull::from(field).cast(), field.len());
            write_value(block, shape, value);
        }
        let mut field = Field(block);
        if let Some(at) = expires {
            field.write_expiry(at);
        }
        field
    }

    /// Writes the expiry of a field that has one.
    #[inline]
    fn write_expiry(&mut self, at: UnixMillis) {
        let shape = self.shape();
        assert!(shape.expires(), "there is room for an expiry only where there is one");
        // SAFETY: the field is alive, and its shape says that the expiry is there.
        unsafe { self.0.add(shape.expiry_at()).cast::<i64>().write_unaligned(at.0) }
    }

    /// When the field expires, if it does.
    #[inline]
    pub fn expires(&self) -> Option<UnixMillis> {
        let shape = self.shape();
        // SAFETY: the field is alive, and the expiry is there if its shape says so.
        shape
            .expires()
            .then(|| unsafe { UnixMillis(self.0.add(shape.expiry_at()).cast::<i64>().read_unaligned()) })
    }

    /// Whether the field's time has come.
    #[inline]
    pub fn is_due(&self, now: UnixMillis) -> bool {
        self.expires().is_some_and(|at| at <= now)
    }

    #[inline]
    fn shape(&self) -> Shape {
        // SAFETY: the field is alive while it is borrowed.
        unsafe { Shape::read(self.0) }
    }

    /// The address of the field's block, which stays while the field is not changed.
    #[inline]
    pub fn address(&self) -> NonNull<u8> {
        self.0
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

    /// The same field with another value and expiry: in the same block where the size class allows it.
    #[inline]
    pub fn with_value(mut self, value: Value<'_>, expires: Option<UnixMillis>) -> Field {
        let old = self.shape();
        let new = Shape::of(old.field, len_of(&value), expires.is_some());
        if old.flags != new.flags {
            return Field::new(self.name(), value, expires);
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
        if let Some(at) = expires {
            self.write_expiry(at);
        }
        self
    }

    /// The same field with another expiry.
    pub fn with_expiry(mut self, expires: Option<UnixMillis>) -> Field {
        match expires {
            Some(at) if self.shape().expires() => {
                self.write_expiry(at);
                self
            }
            None if !self.shape().expires() => self,
            _ => self.copy(expires),
        }
    }

    /// A copy with the given expiry; a value that lies apart is shared.
    pub fn copy(&self, expires: Option<UnixMillis>) -> Field {
        match self.shared() {
            Some(shared) => Field::new(self.name(), Value::Shared(shared), expires),
            None => Field::new(self.name(), Value::Bytes(self.value()), expires),
        }
    }

    /// The same field, in another block if its own place is sparse; the same applies to a value in a string of its own.
    /// `moved` is called with the field in its old block, which still exists, and in its new one.
    pub fn relocated(self, by: &mut Relocator, moved: impl FnOnce(&Field, &Field)) -> Field {
        let old = ManuallyDrop::new(self);
        let shape = old.shape();
        // SAFETY: the field is alive and has this shape, so that a value apart is where it says, with a count that is
        // the field's. Whatever becomes of that count is written back. The block has the layout of its shape; once it
        // is copied, the copy alone is the field.
        unsafe {
            if shape.is_apart() {
                let at = old.0.add(shape.value_at()).cast::<*const Sds>();
                let mut shared = Arc::from_raw(at.read_unaligned());
                Sds::relocate_shared(&mut shared, by);
                at.write_unaligned(Arc::into_raw(shared));
            }
            let Some(copy) = by.copy(old.0, shape.layout()) else { return ManuallyDrop::into_inner(old) };
            let new = Field(copy);
            moved(&old, &new);
            dealloc(old.0.as_ptr(), shape.layout());
            new
        }
    }

    /// Bytes it occupies.
    pub fn bytes(&self) -> usize {
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
pub fn pair<'a>(field: &Borrowed<'a, Field>) -> (Item<'a>, Item<'a>) {
    (Item::Str(field.key()), value(field))
}

/// The value of a field, for as long as its table is borrowed.
#[inline]
pub fn value<'a>(field: &Borrowed<'a, Field>) -> Item<'a> {
    // SAFETY: the field's table is borrowed for 'a.
    Item::Str(unsafe { Field::value_of(field.as_raw()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(1_000_000);

    #[test]
    fn a_field_with_its_value_is_one_small_block() {
        assert_eq!(Shape::of(16, 8, false).layout().size(), 32);
        assert_eq!(Shape::of(16, 13, false).layout().size(), 32);
        let field = Field::new(b"f", Value::Bytes(b"12345"), None);
        let block = field.0;
        let field = field.with_value(Value::Bytes(b"123456"), None);
        assert_eq!((field.0, field.value()), (block, &b"123456"[..]), "overwritten at its place");
        // A long value is shared, not copied.
        let shared = Arc::new(Sds::from_slice(&[b'x'; 5000]));
        let field = field.with_value(Value::Shared(Arc::clone(&shared)), None);
        let copy = field.copy(None);
        assert_eq!(copy.value().as_ptr(), shared.as_slice().as_ptr());
        assert_eq!(Arc::strong_count(&shared), 3);
        drop(copy.with_value(Value::Int(7), None));
        drop(field);
        assert_eq!(Arc::strong_count(&shared), 1);
    }

    #[test]
    fn an_expiry_takes_eight_bytes_where_it_is_and_none_elsewhere() {
        assert_eq!(Shape::of(16, 8, true).layout().size() - Shape::of(16, 8, false).layout().size(), 8);
        let field = Field::new(b"f", Value::Bytes(b"v"), None);
        assert_eq!(field.expires(), None);
        let field = field.with_expiry(Some(NOW));
        assert_eq!((field.name(), field.value(), field.expires()), (&b"f"[..], &b"v"[..], Some(NOW)));
        let block = field.0;
        let field = field.with_expiry(Some(UnixMillis(-1)));
        assert_eq!((field.0, field.expires()), (block, Some(UnixMillis(-1))), "changed at its place");
        assert_eq!(field.with_expiry(None).expires(), None);
    }
}
