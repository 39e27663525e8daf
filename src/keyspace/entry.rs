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
//! Bracketed parts are there only when the header says so. A string up to [`EMBED_MAX`] bytes in
//! all lies behind its key; an integer, a longer string (`Arc<Sds>`) and every collection is the
//! one `word`, which is read and written as what it is: a pointer in it never becomes an integer.
//! Behind the key of a hash whose fields expire lies its alarm, a time in milliseconds. There is no reference count and no header of the key's or value's own: a 16-byte
//! key with an 8-byte value takes 32 bytes. The block is exactly `size_class(needed)` bytes, and
//! `needed` follows from the header, so a value overwritten by one of the same class stays put.
//!
//! An entry moves when its class changes or an expiry is added: nobody keeps its address across
//! commands but the two tables of its database.
//!
//! The idea of the single block is from Valkey's and Redis' embedded keys, taken to its end.
#![allow(unsafe_code)]

use std::alloc::{self, Layout};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::stdx::alloc::size_class;
use crate::stdx::clock::UnixMillis;
use crate::structures::dict::{Borrowed, Element, Slot};
use crate::structures::sds::Sds;
use crate::types::ahead::{self, Aim, Scout};
use crate::types::string::{EMBSTR_MAX, StringRef};
use crate::types::{Collection, Describe, Hash, Kind, List, Set, Stream, Value, Zset};

/// Largest block that holds its string value inside.
pub const EMBED_MAX: usize = 2048;

const HEADER: usize = 8;
const WORD: usize = 8;
/// Key length that says "the real length is in the long-key field".
const LONG: u8 = u8::MAX;

const HAS_EXPIRE: u8 = 1;
const HAS_LONG_KEY: u8 = 2;
/// A short string that is reported as `raw`, because it was changed in place.
const WAS_CHANGED: u8 = 4;
/// The room behind the key of a hash holds an alarm, which is to stand in the alarms of its database.
const HAS_ALARM: u8 = 8;

/// Bytes of an alarm: the value length of a hash that has room for one.
const ALARM: usize = 8;

/// What the value part of an entry is.
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

/// The header fields and what follows from them.
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
    /// Bytes behind the key that are no string.
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
        let kind = value.kind();
        let entry = match value {
            Value::Int(n) => Entry::with_word(key, flags, kind, Form::Int, n, 0),
            Value::Bytes(bytes) => Entry::with_bytes(key, flags, bytes),
            Value::Shared(text) => Entry::with_word(key, flags, kind, Form::Shared, text, 0),
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
        let entry = Entry::with_word(key, flags, T::KIND, Form::Object, value, room);
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

    /// An entry that owns `word`, with `room` bytes behind its key.
    fn with_word<T>(key: &[u8], flags: u8, kind: Kind, form: Form, word: T, room: usize) -> Entry {
        const { assert!(size_of::<T>() == WORD && align_of::<T>() <= 8) };
        let entry = Entry::allocate(key, flags, kind, form, room);
        // SAFETY: the block has room for a word there, aligned to 8 bytes as `T` is at most, by the assertion.
        unsafe { entry.word().cast::<T>().write(word) };
        entry
    }

    /// A block with its header and key written; expiry, word and value are not.
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

    /// When the key expires, if it does.
    #[inline]
    pub fn expires(&self) -> Option<UnixMillis> {
        let shape = self.shape();
        if shape.flags & HAS_EXPIRE == 0 {
            return None;
        }
        // SAFETY: the flag says the field is there; it is 8-aligned.
        Some(UnixMillis(unsafe { self.0.as_ptr().add(shape.expire_at()).cast::<i64>().read() }))
    }

    /// Changes the expiry in place. Only for an entry that has the field.
    #[inline]
    pub(super) fn write_expire(&self, at: UnixMillis) {
        let shape = self.shape();
        assert!(shape.flags & HAS_EXPIRE != 0, "an entry without the field has no room for an expiry");
        // SAFETY: the field is there, checked above; entries are not shared between threads.
        unsafe { self.0.as_ptr().add(shape.expire_at()).cast::<i64>().write(at.0) }
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
        let bytes = access.to_le_bytes();
        // SAFETY: bytes 2 to 4 of the header.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_ptr().add(2), 3) }
    }

    /// Where the word is, or would be. It is aligned to 8 bytes.
    #[inline]
    fn word(&self) -> NonNull<u8> {
        // SAFETY: the word comes before the key's end, inside the block.
        unsafe { self.0.add(self.shape().word_at()) }
    }

    /// The value, when it is a string.
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

    /// The value, when it is a collection of type `T`.
    #[inline]
    pub fn collection<T: Collection>(&self) -> Option<&T> {
        let shape = self.shape();
        if shape.kind != T::KIND || shape.form != Form::Object {
            return None;
        }
        // SAFETY: the kind says that the word is a `T`, stored by `with_collection::<T>`.
        Some(unsafe { self.word().cast::<T>().as_ref() })
    }

    /// The value for changes, when it is a collection of type `T`.
    #[inline]
    pub fn collection_mut<T: Collection>(&mut self) -> Option<&mut T> {
        let shape = self.shape();
        if shape.kind != T::KIND || shape.form != Form::Object {
            return None;
        }
        // SAFETY: as in `collection`; `&mut self` makes the access unique.
        Some(unsafe { self.word().cast::<T>().as_mut() })
    }

    /// When to look for due fields of the hash, if that is noted in the alarms of its database.
    ///
    /// The entry keeps the time apart from the hash, so that whatever a command does to the hash, the alarms
    /// can be brought in step when the entry goes.
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

    /// Sets the alarm: `None` where no field expires. The caller keeps the alarms of the database in step.
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

    /// As [`Entry::set_alarm`], to the time at which the first field expires.
    #[inline]
    pub(super) fn arm(&mut self) -> Option<UnixMillis> {
        if !self.has_room_for_alarm() {
            return None;
        }
        let earliest = self.collection::<Hash>().and_then(Describe::earliest_expiry);
        self.set_alarm(earliest);
        earliest
    }

    /// Overwrites a string by `bytes` without moving, where the block allows it.
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

    /// Overwrites an integer by another one; false when the value is not stored as an integer.
    #[inline]
    pub fn overwrite_int(&mut self, n: i64) -> bool {
        if self.shape().form != Form::Int {
            return false;
        }
        // SAFETY: the form says that the word is an integer.
        unsafe { self.word().cast::<i64>().write(n) };
        true
    }

    /// Whether the value is a string of its own, as [`Entry::sds_mut`] wants it.
    #[inline]
    pub fn is_changeable(&self) -> bool {
        self.shape().form == Form::Shared
    }

    /// The string for changes of any kind; `None` when it does not lie in a string of its own.
    pub fn sds_mut(&mut self) -> Option<&mut Sds> {
        if self.shape().form != Form::Shared {
            return None;
        }
        // SAFETY: the form says that the word is an `Arc<Sds>`; `&mut self` makes the access unique.
        Some(Arc::make_mut(unsafe { self.word().cast::<Arc<Sds>>().as_mut() }))
    }

    /// The same entry with its string moved into a string of its own, ready for [`Entry::sds_mut`].
    pub fn into_changeable(self) -> Entry {
        let Some(value) = self.string() else { return self };
        if self.shape().form == Form::Shared {
            return self;
        }
        let sds = Sds::from_slice(value.text(&mut itoa::Buffer::new()));
        let mut new = Entry::new(self.key(), self.expires(), Value::Shared(Arc::new(sds)));
        new.set_access(self.access());
        new
    }

    /// The same key and value with another expiry.
    pub(super) fn with_expires(self, expires: Option<UnixMillis>) -> Entry {
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

    /// A new block with this one's value word or bytes, and `room` bytes behind a word's key; the word is then
    /// owned twice, until `forget_value`.
    fn rebuilt(&self, key: Option<&[u8]>, expires: Option<UnixMillis>, room: usize) -> Entry {
        let shape = self.shape();
        let key = key.unwrap_or(self.key());
        let flags = shape.flags & WAS_CHANGED | if expires.is_some() { HAS_EXPIRE } else { 0 };
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

    /// Says that a short string is to be reported as `raw` from now on.
    pub(super) fn mark_changed(&mut self) {
        // SAFETY: byte 1 of the header is the flags.
        unsafe { *self.0.as_ptr().add(1) |= WAS_CHANGED };
    }

    /// What `OBJECT ENCODING` answers for a string.
    pub fn string_encoding(&self) -> Option<&'static str> {
        let shape = self.shape();
        Some(match shape.form {
            Form::Int => "int",
            Form::Embedded if shape.flags & WAS_CHANGED == 0 && shape.value_len <= EMBSTR_MAX => "embstr",
            Form::Embedded | Form::Shared => "raw",
            Form::Object => return None,
        })
    }

    /// Bytes of the entry's own block.
    pub fn block_bytes(&self) -> usize {
        self.shape().layout().size()
    }

    /// How many parts freeing the value takes: 1 for a string, elements or nodes of a collection.
    pub fn effort(&self) -> usize {
        self.describe().map_or(1, Describe::effort)
    }

    /// The entry as a table that does not own it sees it.
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
            Form::Object => self.drop_collection(),
        }
        // SAFETY: the block was allocated with the layout of its shape.
        unsafe { alloc::dealloc(self.0.as_ptr(), shape.layout()) };
    }
}

impl Entry {
    /// The collection, as something to be told about.
    pub fn describe(&self) -> Option<&dyn Describe> {
        Some(match self.kind() {
            Kind::List => self.collection::<List>()?,
            Kind::Set => self.collection::<Set>()?,
            Kind::Zset => self.collection::<Zset>()?,
            Kind::Hash => self.collection::<Hash>()?,
            Kind::Stream => self.collection::<Stream>()?,
            Kind::String => return None,
        })
    }

    /// Drops the collection in the word.
    fn drop_collection(&mut self) {
        let word = self.word();
        // SAFETY: the kind says of which type the word is; the entry is being dropped, so that
        // nobody reads the word again.
        unsafe {
            match self.kind() {
                Kind::List => word.cast::<List>().drop_in_place(),
                Kind::Set => word.cast::<Set>().drop_in_place(),
                Kind::Zset => word.cast::<Zset>().drop_in_place(),
                Kind::Hash => word.cast::<Hash>().drop_in_place(),
                Kind::Stream => word.cast::<Stream>().drop_in_place(),
                Kind::String => unreachable!("no collection is stored as a string"),
            }
        }
    }

    /// A deep copy under another key and with another expiry; the access data are kept.
    pub fn duplicate(&self, key: &[u8], expires: Option<UnixMillis>) -> Entry {
        let mut copy = match self.shape().form {
            Form::Embedded | Form::Int => self.rebuilt(Some(key), expires, 0),
            Form::Shared => {
                let text = self.shared_string().expect("the form says so");
                Entry::new(key, expires, Value::Shared(text))
            }
            Form::Object => match self.kind() {
                Kind::List => {
                    Entry::with_collection(key, expires, self.collection::<List>().expect("kind").duplicate())
                }
                Kind::Set => {
                    Entry::with_collection(key, expires, self.collection::<Set>().expect("kind").duplicate())
                }
                Kind::Zset => {
                    Entry::with_collection(key, expires, self.collection::<Zset>().expect("kind").duplicate())
                }
                Kind::Hash => {
                    Entry::with_collection(key, expires, self.collection::<Hash>().expect("kind").duplicate())
                }
                Kind::Stream => {
                    let stream = self.collection::<Stream>().expect("kind").duplicate();
                    Entry::with_collection(key, expires, stream)
                }
                Kind::String => unreachable!("no collection is stored as a string"),
            },
        };
        copy.set_access(self.access());
        copy
    }

    /// What `OBJECT ENCODING` answers.
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

/// An entry seen by the table of expiries and by the alarms, which do not own it.
///
/// Only the database makes and follows these; it removes one before it frees or moves the entry.
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

/// An entry that was looked up: it can be read, but neither replaced by another nor moved.
///
/// The tables of a database refer to entries by their addresses, so that only the database may put another in
/// the place of one:
///
/// ```compile_fail,E0594
/// # use spinel::keyspace::{Db, Entry, Key};
/// # use spinel::types::Value;
/// fn swap(mut db: Db<'_>) {
///     let mut found = db.write(Key::new(b"volatile")).unwrap();
///     *found = Entry::new(b"volatile", None, Value::Int(1));
/// }
/// ```
pub struct Found<'a>(pub(super) Slot<'a, Entry>);

impl Found<'_> {
    /// Overwrites an integer by another one; false when the value is not stored as an integer.
    #[inline]
    pub fn overwrite_int(&mut self, n: i64) -> bool {
        self.0.overwrite_int(n)
    }
}

impl Deref for Found<'_> {
    type Target = Entry;

    #[inline]
    fn deref(&self) -> &Entry {
        &self.0
    }
}

/// The string in the entry of `slot`, for as long as the slot holds its table.
#[inline]
pub(super) fn string_in(slot: Slot<'_, Entry>) -> Option<StringRef<'_>> {
    let entry = ManuallyDrop::new(Entry(slot.0));
    // SAFETY: the bytes lie in the entry's block (or the string it owns), and the slot borrows
    // the table that owns the entry exclusively for the result's lifetime.
    unsafe { std::mem::transmute::<Option<StringRef<'_>>, Option<StringRef<'_>>>(entry.string()) }
}

/// The collection in the entry of `slot`, for as long as the slot holds its table.
#[inline]
pub(super) fn collection_in<T: Collection>(slot: Slot<'_, Entry>) -> Option<&mut T> {
    let mut entry = ManuallyDrop::new(Entry(slot.0));
    // SAFETY: the collection's word lies in the entry's block, which the slot's table owns; the
    // slot borrows that table exclusively for the result's lifetime.
    unsafe { std::mem::transmute::<Option<&mut T>, Option<&mut T>>(entry.collection_mut::<T>()) }
}

/// The collection in an entry lent by its table, for as long as it is lent.
#[inline]
pub(super) fn collection_of<'a, T: Collection>(entry: &Borrowed<'a, Entry>) -> Option<&'a T> {
    // SAFETY: the collection's word lies in the entry's block, which stays as it is while the table
    // is borrowed, that is for 'a.
    unsafe { std::mem::transmute::<Option<&T>, Option<&'a T>>(entry.collection::<T>()) }
}

/// The way to what a command looks for in the value of an entry lent by its table.
#[inline]
pub(super) fn ahead_in<'a>(entry: &Borrowed<'a, Entry>, aim: Aim<'a>) -> Option<Scout<'a>> {
    match entry.kind() {
        Kind::List => collection_of::<List>(entry)?.ahead(aim),
        Kind::Set => collection_of::<Set>(entry)?.ahead(aim),
        Kind::Zset => collection_of::<Zset>(entry)?.ahead(aim),
        Kind::Hash => collection_of::<Hash>(entry)?.ahead(aim),
        Kind::Stream => collection_of::<Stream>(entry)?.ahead(aim),
        // Whoever shares a long string counts that, in the two words ahead of it.
        Kind::String if entry.shape().form == Form::Shared => {
            // SAFETY: the form says that the word is an `Arc<Sds>`.
            let text = unsafe { entry.word().cast::<Arc<Sds>>().as_ref() };
            ahead::block(Arc::as_ptr(text).cast::<usize>().wrapping_sub(2).cast())
        }
        Kind::String => None,
    }
}

/// The long string in the entry of `slot`, for as long as the slot holds its table.
pub(super) fn sds_in(slot: Slot<'_, Entry>) -> Option<&mut Sds> {
    let mut entry = ManuallyDrop::new(Entry(slot.0));
    // SAFETY: the string belongs to the entry alone (`sds_mut` sees to it), and the slot
    // borrows the entry's table exclusively for the result's lifetime.
    unsafe { std::mem::transmute::<Option<&mut Sds>, Option<&mut Sds>>(entry.sds_mut()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Limits, NewExpiry};

    const AT: Option<UnixMillis> = Some(UnixMillis(1_700_000_000_000));

    fn values() -> [Value<'static>; 3] {
        [Value::Int(-5), Value::Bytes(b"short"), Value::Shared(Arc::new(Sds::from_slice(&[b'x'; 5000])))]
    }

    #[test]
    fn a_value_stays_the_same_wherever_its_entry_moves() {
        for key in [&b"k"[..], &[b'k'; 300]] {
            for (value, text) in values().into_iter().zip([&b"-5"[..], b"short", &[b'x'; 5000]]) {
                let is = |entry: &Entry, key: &[u8], expires| {
                    assert_eq!((entry.key(), entry.expires()), (key, expires));
                    assert_eq!(entry.string().map(|string| string.to_vec()).as_deref(), Some(text));
                };
                let entry = Entry::new(key, None, value);
                is(&entry, key, None);
                let copy = entry.duplicate(b"copy", AT);
                let entry = entry.with_expires(AT);
                is(&entry, key, AT);
                let entry = entry.renamed(b"another", AT);
                is(&entry, b"another", AT);
                let mut entry = entry.with_expires(None).into_changeable();
                is(&entry, b"another", None);
                entry.sds_mut().expect("it is changeable").append(b"!");
                assert_eq!(entry.string().map(|string| string.to_vec()), Some([text, b"!"].concat()));
                is(&copy, b"copy", AT);
            }
        }
    }

    #[test]
    fn a_string_that_is_shared_is_copied_before_it_changes() {
        let mut entry = Entry::new(b"k", None, Value::Shared(Arc::new(Sds::from_slice(&[b'x'; 5000]))));
        let shared = entry.shared_string().expect("it is long");
        entry.sds_mut().expect("it is changeable").append(b"!");
        assert_eq!((shared.len(), Arc::strong_count(&shared)), (5000, 1));
        assert_eq!(entry.string().map(|string| string.to_vec().len()), Some(5001));
        drop(entry);
        assert_eq!(shared.len(), 5000);
    }

    #[test]
    fn an_alarm_goes_where_its_entry_goes() {
        let mut hash = Hash::new();
        hash.set(b"f", Value::Int(1), &Limits::default());
        let mut entry = Entry::with_collection(b"key", None, hash);
        assert_eq!((entry.has_room_for_alarm(), entry.alarm(), entry.arm()), (false, None, None));
        entry.set_alarm(None);
        let bytes = entry.block_bytes();
        let mut entry = entry.with_room_for_alarm();
        assert_eq!((entry.block_bytes(), entry.alarm()), (bytes + ALARM, None));
        entry.set_alarm(AT);
        let entry =
            entry.with_room_for_alarm().with_expires(AT).renamed(b"a longer key", AT).with_expires(None);
        assert_eq!((entry.alarm(), entry.key(), entry.expires()), (AT, &b"a longer key"[..], None));
        assert_eq!(entry.collection::<Hash>().map(Describe::len), Some(1));
        assert_eq!(entry.duplicate(b"copy", None).alarm(), None, "a copy gets its own");
    }

    #[test]
    fn a_hash_whose_fields_expire_comes_with_room() {
        let mut hash = Hash::new();
        let expiry = NewExpiry::At(UnixMillis(10));
        hash.put(b"f", Value::Int(1), expiry, &Limits::default(), UnixMillis(0));
        let mut entry = Entry::with_collection(b"key", None, hash);
        assert_eq!(
            (entry.alarm(), entry.arm(), entry.alarm()),
            (None, Some(UnixMillis(10)), Some(UnixMillis(10)))
        );
    }

    #[test]
    #[should_panic(expected = "an entry without room has no alarm")]
    fn an_alarm_needs_room() {
        Entry::with_collection(b"key", None, Set::new()).set_alarm(AT);
    }
}
