//! One key with its value, in one allocation.
//!
//! ```text
//!  0        1       2..5     5         6..8       8
//! ┌────────┬───────┬────────┬─────────┬──────────┬──────────┬───────────┬─────────┬───────┬─────────┐
//! │kind:4  │flags  │access  │key len  │value len │[expires] │[long key] │[word]   │ key   │ [value] │
//! │form:4  │       │24 bits │8 bits   │16 bits   │ i64 ms   │ u64       │ 8 bytes │ bytes │ bytes   │
//! └────────┴───────┴────────┴─────────┴──────────┴──────────┴───────────┴─────────┴───────┴─────────┘
//! ```
//!
//! Bracketed parts are present only if the header says so. A string whose entry has at most [`EMBED_MAX`] bytes
//! follows its key; an integer, a longer string (`Arc<Sds>`) and every collection is stored in the one `word`,
//! which is read and written with its own type: a pointer in it never becomes an integer. The key of a hash with
//! fields that expire is followed by its alarm, a time in milliseconds. There is no reference count and no separate
//! header of key or value: a 16-byte key with an 8-byte value takes 32 bytes. The block has exactly
//! `size_class(needed)` bytes, and `needed` follows from the header, so a value overwritten by one of the same
//! class stays in place.
//!
//! An entry moves when its class changes or an expiry is added: only the two tables of its database keep its
//! address across commands.
//!
//! The single block extends the embedded keys of Valkey and Redis.
#![allow(unsafe_code)]

mod found;
mod kinds;
mod relocate;

use std::alloc::{self, Layout};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::stdx::alloc::size_class;
use crate::stdx::clock::UnixMillis;
use crate::structures::dict::Element;
use crate::structures::sds::Sds;
use crate::types::string::{EMBSTR_MAX, StringRef};
use crate::types::{Collection, Describe, Hash, Kind, Value};

pub use found::{Found, Writable};
pub(super) use found::{ahead_in, collection_of};
use kinds::{COLLECTION_KINDS, LISTED, collection_kind};

/// Largest block that holds its string value inside.
pub const EMBED_MAX: usize = 2048;

const HEADER: usize = 8;
const WORD: usize = 8;
/// Value of the key length byte that means that the length is in the long-key field.
const LONG: u8 = u8::MAX;

const HAS_EXPIRE: u8 = 1;
const HAS_LONG_KEY: u8 = 2;
/// Flag of a short string whose encoding is reported as `raw`, because it was changed in place.
const WAS_CHANGED: u8 = 4;
/// Flag of a hash whose alarm is set and is in the alarms of its database.
const HAS_ALARM: u8 = 8;
/// Flag of a key that is not evicted, whose name is among those of its database.
const PROTECTED: u8 = 128;

/// Size of an alarm in bytes, which is also the value length of a hash with room for one.
const ALARM: usize = 8;

/// Form of the value in an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
enum Form {
    /// `word` is an i64.
    Int = 0,
    /// The bytes follow the key.
    Embedded = 1,
    /// `word` is an `Arc<Sds>`.
    Shared = 2,
    /// `word` is a collection.
    Object = 3,
}

/// A key with its value, expiry and access data: an owned thin pointer.
#[repr(transparent)]
pub struct Entry(NonNull<u8>);

// SAFETY: an entry owns its block, and every value in it may be dropped on another thread
// (`Collection` requires it, and `Arc<Sds>` is `Send`).
unsafe impl Send for Entry {}

/// The header fields and the layout that follows from them.
#[derive(Clone, Copy)]
struct Shape {
    kind: Kind,
    form: Form,
    flags: u8,
    key_len: usize,
    value_len: usize,
}

impl Shape {
    #[inline]
    fn expire_at(self) -> usize {
        HEADER
    }
    #[inline]
    fn long_key_at(self) -> usize {
        HEADER + if self.flags & HAS_EXPIRE != 0 { 8 } else { 0 }
    }
    #[inline]
    fn word_at(self) -> usize {
        self.long_key_at() + if self.flags & HAS_LONG_KEY != 0 { 8 } else { 0 }
    }
    #[inline]
    fn key_at(self) -> usize {
        self.word_at() + if self.form == Form::Embedded { 0 } else { WORD }
    }
    #[inline]
    fn value_at(self) -> usize {
        self.key_at() + self.key_len
    }
    #[inline]
    fn needed(self) -> usize {
        self.value_at() + self.value_len
    }
    /// Bytes after the key that are not a string.
    #[inline]
    fn room(self) -> usize {
        if self.form == Form::Object { self.value_len } else { 0 }
    }
    #[inline]
    fn has_room_for_alarm(self) -> bool {
        self.kind == Kind::Hash && self.form == Form::Object && self.value_len == ALARM
    }
    #[inline]
    fn layout(self) -> Layout {
        // SAFETY: 8 is a power of two, and a key or value near isize::MAX bytes cannot exist.
        unsafe { Layout::from_size_align_unchecked(size_class(self.needed()), 8) }
    }
}

impl Entry {
    /// An entry for `key` with the given value, in the smallest form that holds it.
    pub fn new(key: &[u8], expires: Option<UnixMillis>, value: Value<'_>) -> Entry {
        let flags = if expires.is_some() { HAS_EXPIRE } else { 0 };
        let mut entry = match value {
            Value::Int(n) => Entry::with_word(key, flags, Kind::String, Form::Int, n, 0),
            Value::Bytes(bytes) => Entry::with_bytes(key, flags, bytes),
            Value::Shared(text) => Entry::with_word(key, flags, Kind::String, Form::Shared, text, 0),
        };
        if let Some(at) = expires {
            entry.write_expire(at);
        }
        entry
    }

    /// An entry whose value is a collection.
    pub fn with_collection<T: Collection>(key: &[u8], expires: Option<UnixMillis>, value: T) -> Entry {
        let flags = if expires.is_some() { HAS_EXPIRE } else { 0 };
        let room = if value.earliest_expiry().is_some() { ALARM } else { 0 };
        const { assert!(COLLECTION_KINDS[T::KIND as usize].is_some(), "each collection is in the table") };
        let mut entry = Entry::with_word(key, flags, T::KIND, Form::Object, value, room);
        if let Some(at) = expires {
            entry.write_expire(at);
        }
        entry
    }

    fn with_bytes(key: &[u8], flags: u8, bytes: &[u8]) -> Entry {
        // A header, an expiry (which may come later) and a long-key field are at most 24 bytes.
        if key.len() + bytes.len() + 24 > EMBED_MAX {
            let shared = Arc::new(Sds::from_slice(bytes));
            return Entry::with_word(key, flags, Kind::String, Form::Shared, shared, 0);
        }
        let entry = Entry::allocate(key, flags, Kind::String, Form::Embedded, bytes.len());
        let at = entry.shape().value_at();
        // SAFETY: the block was allocated with room for `bytes.len()` bytes at `at`.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), entry.0.as_ptr().add(at), bytes.len()) };
        entry
    }

    /// An entry that owns `word`, with `room` bytes after its key.
    fn with_word<T>(key: &[u8], flags: u8, kind: Kind, form: Form, word: T, room: usize) -> Entry {
        const { assert!(size_of::<T>() == WORD && align_of::<T>() <= 8) };
        let entry = Entry::allocate(key, flags, kind, form, room);
        // SAFETY: the block has room for a word there, aligned to 8 bytes as `T` is at most, by the assertion.
        unsafe { entry.word().cast::<T>().write(word) };
        entry
    }

    /// A block with header and key written; expiry, word and value are not.
    fn allocate(key: &[u8], flags: u8, kind: Kind, form: Form, value_len: usize) -> Entry {
        let flags = flags | if key.len() >= LONG as usize { HAS_LONG_KEY } else { 0 };
        let shape = Shape { kind, form, flags, key_len: key.len(), value_len };
        let layout = shape.layout();
        // SAFETY: the layout is not empty, it has at least the header.
        let block = unsafe { alloc::alloc(layout) };
        let Some(block) = NonNull::new(block) else { alloc::handle_alloc_error(layout) };
        let p = block.as_ptr();
        // SAFETY: all writes lie inside the `needed()` bytes of the block; it is 8-aligned and
        // so are the long-key field and the header.
        unsafe {
            *p = (kind as u8) << 4 | form as u8;
            *p.add(1) = flags;
            ptr::write_bytes(p.add(2), 0, 3);
            *p.add(5) = key.len().min(LONG as usize) as u8;
            p.add(6).cast::<u16>().write(value_len as u16);
            if flags & HAS_LONG_KEY != 0 {
                p.add(shape.long_key_at()).cast::<u64>().write(key.len() as u64);
            }
            ptr::copy_nonoverlapping(key.as_ptr(), p.add(shape.key_at()), key.len());
        }
        Entry(block)
    }

    #[inline]
    fn shape(&self) -> Shape {
        // SAFETY: the block starts with an 8-byte header that `allocate` wrote.
        unsafe { shape_of(self.0) }
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        // SAFETY: the block is live while `self` is borrowed.
        unsafe { key_of(self.0) }
    }

    /// The type of the value.
    #[inline]
    pub fn kind(&self) -> Kind {
        self.shape().kind
    }

    /// The expiry of the key, if it has one.
    #[inline]
    pub fn expires(&self) -> Option<UnixMillis> {
        let shape = self.shape();
        if shape.flags & HAS_EXPIRE == 0 {
            return None;
        }
        // SAFETY: the flag says the field is there; it is 8-aligned.
        Some(UnixMillis(unsafe { self.0.as_ptr().add(shape.expire_at()).cast::<i64>().read() }))
    }

    /// Changes the expiry in place. The entry must have the field.
    #[inline]
    pub(super) fn write_expire(&mut self, at: UnixMillis) {
        let shape = self.shape();
        assert!(shape.flags & HAS_EXPIRE != 0, "an entry without the field has no room for an expiry");
        // SAFETY: the field is there, checked above.
        unsafe { self.0.as_ptr().add(shape.expire_at()).cast::<i64>().write(at.0) }
    }

    /// Whether the key is exempt from eviction.
    #[inline]
    pub fn is_protected(&self) -> bool {
        self.shape().flags & PROTECTED != 0
    }

    /// Exempts the key from eviction, or ends that. For an entry in a database, that keeps the names of such keys:
    /// [`Db::protect`](super::Db::protect).
    pub fn set_protected(&mut self, on: bool) {
        let flags = self.shape().flags & !PROTECTED | if on { PROTECTED } else { 0 };
        // SAFETY: byte 1 of the header is the flags.
        unsafe { self.0.add(1).write(flags) }
    }

    /// The 24 bits of access data (LRU clock, or LFU minutes and counter).
    #[inline]
    pub fn access(&self) -> u32 {
        // SAFETY: reads the 8-byte header of a live, 8-aligned block.
        let header = unsafe { self.0.as_ptr().cast::<u64>().read() };
        (u64::from_le(header) >> 16) as u32 & 0xff_ffff
    }

    /// Replaces the access data.
    #[inline]
    pub fn set_access(&mut self, access: u32) {
        self.note_access(access);
    }

    /// As [`Entry::set_access`], during a read, through a shared reference.
    #[inline]
    pub(super) fn note_access(&self, access: u32) {
        let bytes = access.to_le_bytes();
        // SAFETY: bytes 2 to 4 of the header, to which no reference is ever given out; an entry is not `Sync`, so that
        // no other thread reads them.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_ptr().add(2), 3) }
    }

    /// Address of the word, which is aligned to 8 bytes.
    #[inline]
    fn word(&self) -> NonNull<u8> {
        // SAFETY: the word comes before the key's end, inside the block.
        unsafe { self.0.add(self.shape().word_at()) }
    }

    /// The value, if it is a string.
    #[inline]
    pub fn string(&self) -> Option<StringRef<'_>> {
        let shape = self.shape();
        match shape.form {
            Form::Embedded => {
                // SAFETY: the block holds `value_len` initialised bytes there.
                let bytes = unsafe {
                    std::slice::from_raw_parts(self.0.as_ptr().add(shape.value_at()), shape.value_len)
                };
                Some(StringRef::Bytes(bytes))
            }
            // SAFETY: the form says that the word is an integer.
            Form::Int => Some(StringRef::Int(unsafe { self.word().cast::<i64>().read() })),
            // SAFETY: the form says that the word is an `Arc<Sds>`, which lives as long as the entry.
            Form::Shared => Some(StringRef::Bytes(unsafe { self.word().cast::<Arc<Sds>>().as_ref() })),
            Form::Object => None,
        }
    }

    /// The long string itself, to share it with a reply.
    pub fn shared_string(&self) -> Option<Arc<Sds>> {
        if self.shape().form != Form::Shared {
            return None;
        }
        // SAFETY: the form says that the word is an `Arc<Sds>`.
        Some(Arc::clone(unsafe { self.word().cast::<Arc<Sds>>().as_ref() }))
    }

    /// The value, if it is a collection of type `T`.
    #[inline]
    pub fn collection<T: Collection>(&self) -> Option<&T> {
        let shape = self.shape();
        if shape.kind != T::KIND || shape.form != Form::Object {
            return None;
        }
        // SAFETY: the kind says that the word is a `T`, stored by `with_collection::<T>`: no other type of collection
        // has this kind, as `types::value` checks.
        Some(unsafe { self.word().cast::<T>().as_ref() })
    }

    /// The value for changes, if it is a collection of type `T`.
    #[inline]
    pub fn collection_mut<T: Collection>(&mut self) -> Option<&mut T> {
        let shape = self.shape();
        if shape.kind != T::KIND || shape.form != Form::Object {
            return None;
        }
        // SAFETY: as in `collection`; `&mut self` makes the access unique.
        Some(unsafe { self.word().cast::<T>().as_mut() })
    }

    /// Time at which the hash is checked for expired fields, if it is in the alarms of its database.
    ///
    /// The entry stores the time apart from the hash, so that whatever a command does to the hash, the alarms can
    /// be updated when the entry is freed.
    #[inline]
    pub(super) fn alarm(&self) -> Option<UnixMillis> {
        let shape = self.shape();
        if shape.flags & HAS_ALARM == 0 {
            return None;
        }
        // SAFETY: where the flag is set, the block holds an alarm behind the key.
        let at = unsafe { self.0.add(shape.value_at()).cast::<i64>().read_unaligned() };
        Some(UnixMillis(at))
    }

    /// Whether there is room for an alarm.
    #[inline]
    pub(super) fn has_room_for_alarm(&self) -> bool {
        self.shape().has_room_for_alarm()
    }

    /// The same hash in an entry with room for an alarm.
    pub(super) fn with_room_for_alarm(self) -> Entry {
        if self.kind() != Kind::Hash || self.has_room_for_alarm() {
            return self;
        }
        let new = self.rebuilt(None, self.expires(), ALARM);
        self.forget_value();
        new
    }

    /// Sets the alarm; `None` if no field expires. The caller updates the alarms of the database.
    pub(super) fn set_alarm(&mut self, alarm: Option<UnixMillis>) {
        let shape = self.shape();
        assert!(alarm.is_none() || shape.has_room_for_alarm(), "an entry without room has no alarm");
        let flags = shape.flags & !HAS_ALARM | if alarm.is_some() { HAS_ALARM } else { 0 };
        // SAFETY: byte 1 of the header is the flags; an alarm has room behind the key, checked above.
        unsafe {
            self.0.add(1).write(flags);
            if let Some(at) = alarm {
                self.0.add(shape.value_at()).cast::<i64>().write_unaligned(at.0);
            }
        }
    }

    /// As [`Entry::set_alarm`], with the earliest expiry of a field.
    #[inline]
    pub(super) fn arm(&mut self) -> Option<UnixMillis> {
        if !self.has_room_for_alarm() {
            return None;
        }
        let earliest = self.collection::<Hash>().and_then(Describe::earliest_expiry);
        self.set_alarm(earliest);
        earliest
    }

    /// Overwrites a string by `bytes` in place, if the block allows it.
    #[inline]
    pub fn overwrite(&mut self, bytes: &[u8]) -> bool {
        let shape = self.shape();
        if shape.form != Form::Embedded {
            return false;
        }
        let new = Shape { value_len: bytes.len(), flags: shape.flags & !WAS_CHANGED, ..shape };
        if new.needed() > EMBED_MAX || size_class(new.needed()) != size_class(shape.needed()) {
            return false;
        }
        let p = self.0.as_ptr();
        // SAFETY: the block has `size_class(needed)` bytes for old and new value alike, and
        // `bytes` is borrowed from elsewhere while `self` is borrowed mutably.
        unsafe {
            *p.add(1) = new.flags;
            p.add(6).cast::<u16>().write(bytes.len() as u16);
            ptr::copy_nonoverlapping(bytes.as_ptr(), p.add(shape.value_at()), bytes.len());
        }
        true
    }

    /// Overwrites an integer by another; false if the value is not stored as an integer.
    #[inline]
    pub fn overwrite_int(&mut self, n: i64) -> bool {
        if self.shape().form != Form::Int {
            return false;
        }
        // SAFETY: the form says that the word is an integer.
        unsafe { self.word().cast::<i64>().write(n) };
        true
    }

    /// Whether the value is a separate string, as [`Entry::sds_mut`] needs it.
    #[inline]
    pub fn is_changeable(&self) -> bool {
        self.shape().form == Form::Shared
    }

    /// The string for any change; `None` if it is not a separate string.
    pub fn sds_mut(&mut self) -> Option<&mut Sds> {
        if self.shape().form != Form::Shared {
            return None;
        }
        // SAFETY: the form says that the word is an `Arc<Sds>`; `&mut self` makes the access unique.
        Some(Arc::make_mut(unsafe { self.word().cast::<Arc<Sds>>().as_mut() }))
    }

    /// The same entry with its string as a separate one, ready for [`Entry::sds_mut`].
    pub fn into_changeable(self) -> Entry {
        let Some(value) = self.string() else { return self };
        if self.shape().form == Form::Shared {
            return self;
        }
        let sds = Sds::from_slice(value.text(&mut itoa::Buffer::new()));
        let mut new = Entry::new(self.key(), self.expires(), Value::Shared(Arc::new(sds)));
        new.set_access(self.access());
        new.set_protected(self.is_protected());
        new
    }

    /// The same key and value with another expiry.
    pub(super) fn with_expires(mut self, expires: Option<UnixMillis>) -> Entry {
        match (expires, self.expires()) {
            (None, None) => return self,
            (Some(at), Some(_)) => {
                self.write_expire(at);
                return self;
            }
            _ => {}
        }
        let new = self.rebuilt(None, expires, self.shape().room());
        self.forget_value();
        new
    }

    /// The same value under another key and expiry.
    pub fn renamed(self, key: &[u8], expires: Option<UnixMillis>) -> Entry {
        let earliest = self.collection::<Hash>().and_then(Describe::earliest_expiry);
        let room = if earliest.is_some() { ALARM } else { self.shape().room() };
        let new = self.rebuilt(Some(key), expires, room);
        self.forget_value();
        new
    }

    /// A new block with the value word or bytes of this one, and `room` bytes after the key of a word; the word
    /// then has two owners until `forget_value`.
    fn rebuilt(&self, key: Option<&[u8]>, expires: Option<UnixMillis>, room: usize) -> Entry {
        let shape = self.shape();
        let key = key.unwrap_or(self.key());
        let kept = shape.flags & (WAS_CHANGED | PROTECTED);
        let flags = kept | if expires.is_some() { HAS_EXPIRE } else { 0 };
        let mut new = match (shape.form, self.string()) {
            (Form::Embedded, Some(StringRef::Bytes(bytes))) => Entry::with_bytes(key, flags, bytes),
            _ => {
                let new = Entry::allocate(key, flags, shape.kind, shape.form, room);
                // SAFETY: both blocks have a word, and they are two. Copied as bytes, a pointer stays one.
                unsafe { self.word().copy_to_nonoverlapping(new.word(), WORD) };
                new
            }
        };
        if let Some(at) = expires {
            new.write_expire(at);
        }
        if let Some(at) = self.alarm() {
            new.set_alarm(Some(at));
        }
        new.set_access(self.access());
        new
    }

    /// Frees the block but not the value it points to, which has a new owner.
    fn forget_value(self) {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` owns the block, which was allocated with the layout of its shape, and
        // is not used afterwards.
        unsafe { alloc::dealloc(this.0.as_ptr(), this.shape().layout()) };
    }

    /// Makes the encoding of a short string `raw` from now on.
    pub(super) fn mark_changed(&mut self) {
        // SAFETY: byte 1 of the header is the flags.
        unsafe { *self.0.as_ptr().add(1) |= WAS_CHANGED };
    }

    /// Reply of `OBJECT ENCODING` for a string.
    pub fn string_encoding(&self) -> Option<&'static str> {
        let shape = self.shape();
        Some(match shape.form {
            Form::Int => "int",
            Form::Embedded if shape.flags & WAS_CHANGED == 0 && shape.value_len <= EMBSTR_MAX => "embstr",
            Form::Embedded | Form::Shared => "raw",
            Form::Object => return None,
        })
    }

    /// Size of the entry's block in bytes.
    pub fn block_bytes(&self) -> usize {
        self.shape().layout().size()
    }

    /// Number of parts to free: 1 for a string, elements or nodes of a collection.
    pub fn effort(&self) -> usize {
        self.describe().map_or(1, Describe::effort)
    }

    /// A reference to the entry, for the table of expiries and the alarms, which do not own entries.
    #[inline]
    pub(super) fn reference(&self) -> EntryRef {
        EntryRef(self.0)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let shape = self.shape();
        match shape.form {
            Form::Int | Form::Embedded => {}
            // SAFETY: the form says that the word is an `Arc<Sds>`; nobody reads it again.
            Form::Shared => unsafe { self.word().cast::<Arc<Sds>>().drop_in_place() },
            Form::Object => {
                let kind = collection_kind(shape.kind).expect(LISTED);
                // SAFETY: the word is of the type that has this kind, and is not read again.
                unsafe { (kind.drop)(self) }
            }
        }
        // SAFETY: the block was allocated with the layout of its shape.
        unsafe { alloc::dealloc(self.0.as_ptr(), shape.layout()) };
    }
}

impl Entry {
    /// The collection, for inspection.
    pub fn describe(&self) -> Option<&dyn Describe> {
        Some((collection_kind(self.kind())?.describe)(self))
    }

    /// Drops the collection in the word.
    ///
    /// # Safety
    /// The word is a `T`, and nobody reads it again.
    unsafe fn drop_collection<T: Collection>(&mut self) {
        // SAFETY: the caller promises both.
        unsafe { self.word().cast::<T>().drop_in_place() }
    }

    /// A deep copy under another key and with another expiry; access data are kept. The copy is not exempt from eviction.
    pub fn duplicate(&self, key: &[u8], expires: Option<UnixMillis>) -> Entry {
        let mut copy = match self.shape().form {
            Form::Embedded | Form::Int => self.rebuilt(Some(key), expires, 0),
            Form::Shared => {
                let text = self.shared_string().expect("the form says so");
                Entry::new(key, expires, Value::Shared(text))
            }
            Form::Object => {
                let kind = collection_kind(self.kind()).expect(LISTED);
                (kind.duplicate)(self, key, expires)
            }
        };
        copy.set_access(self.access());
        copy.set_protected(false);
        copy
    }

    /// Reply of `OBJECT ENCODING`.
    pub fn encoding(&self) -> &'static str {
        match (self.string_encoding(), self.describe()) {
            (Some(encoding), _) => encoding,
            (None, Some(collection)) => collection.encoding(),
            (None, None) => unreachable!("a value is a string or a collection"),
        }
    }

    /// Bytes of the entry and its value, estimated from `samples` elements (0: all of them).
    pub fn bytes(&self, samples: usize) -> usize {
        let apart = match (self.shape().form, self.describe()) {
            (Form::Shared, _) => {
                self.shared_string().map_or(0, |s| s.allocated_bytes())
                    + size_of::<Sds>()
                    + 2 * size_of::<usize>()
            }
            (_, Some(collection)) => collection.bytes(samples),
            (_, None) => 0,
        };
        self.block_bytes() + apart
    }
}

/// # Safety
/// `block` is the live block of an [`Entry`].
#[inline]
unsafe fn shape_of(block: NonNull<u8>) -> Shape {
    // SAFETY: the block starts with an 8-byte header, 8-aligned; the long-key field is there
    // when its flag is set. Kind and form were written from their enums.
    unsafe {
        let p = block.as_ptr();
        let header = u64::from_le(p.cast::<u64>().read());
        let flags = (header >> 8) as u8;
        let mut shape = Shape {
            kind: std::mem::transmute::<u8, Kind>((header as u8) >> 4),
            form: std::mem::transmute::<u8, Form>((header as u8) & 0xf),
            flags,
            key_len: (header >> 40) as u8 as usize,
            value_len: (header >> 48) as usize,
        };
        if flags & HAS_LONG_KEY != 0 {
            shape.key_len = p.add(shape.long_key_at()).cast::<u64>().read() as usize;
        }
        shape
    }
}

/// # Safety
/// `block` is the live block of an [`Entry`], and stays so for `'a`.
#[inline]
unsafe fn key_of<'a>(block: NonNull<u8>) -> &'a [u8] {
    // SAFETY: the block holds `key_len` bytes of key at `key_at`.
    unsafe {
        let shape = shape_of(block);
        std::slice::from_raw_parts(block.as_ptr().add(shape.key_at()), shape.key_len)
    }
}

// SAFETY: `into_raw` and `from_raw` round-trip the block's address, which the allocator keeps
// below 2^48; the key is never written after `allocate`.
unsafe impl Element for Entry {
    #[inline]
    fn into_raw(self) -> NonNull<u8> {
        ManuallyDrop::new(self).0
    }
    #[inline]
    unsafe fn from_raw(raw: NonNull<u8>) -> Self {
        Entry(raw)
    }
    #[inline]
    unsafe fn key<'a>(raw: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the caller promises that `raw` came from `into_raw` and was not freed.
        unsafe { key_of(raw) }
    }
}

/// A reference to an entry in the table of expiries and the alarms, which do not own entries.
///
/// Only the database creates and follows references; it removes a reference before it frees or moves the entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub(super) struct EntryRef(NonNull<u8>);

// SAFETY: it is an address; whoever follows it owns the database on its thread.
unsafe impl Send for EntryRef {}

impl EntryRef {
    /// The entry itself, borrowed for as long as the reference is.
    ///
    /// # Safety
    /// The entry is alive, and neither changed, moved nor freed while what is returned, or what is borrowed from
    /// it, is used.
    pub(super) unsafe fn lend(&self) -> impl Deref<Target = Entry> {
        ManuallyDrop::new(Entry(self.0))
    }
}

// SAFETY: as for `Entry`; dropping an `EntryRef` frees nothing.
unsafe impl Element for EntryRef {
    #[inline]
    fn into_raw(self) -> NonNull<u8> {
        self.0
    }
    #[inline]
    unsafe fn from_raw(raw: NonNull<u8>) -> Self {
        EntryRef(raw)
    }
    #[inline]
    unsafe fn key<'a>(raw: NonNull<u8>) -> &'a [u8] {
        // SAFETY: the database removes the reference before the entry goes.
        unsafe { key_of(raw) }
    }
}

#[cfg(test)]
mod tests;
