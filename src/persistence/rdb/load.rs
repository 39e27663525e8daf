//! Loads values from RDB bytes.
//!
//! A [`Loader`] reads part of a file per call, so that its caller can do other work in between. It accepts every
//! version of Redis's format since 1, and Valkey's versions, if it knows the types in the file.
//!
//! The contents of a file are not trusted. The checksum at the end reveals accidents, but too late, and does not
//! reveal malice. Therefore every block is checked in full before it becomes a value and every count is checked
//! against the number of bytes left; fields and members must be unique, and sorted data must be in order, because the
//! structures rely on it.
//!
//! Keys are added in batches, so that the memory of their buckets is prefetched while other keys are decoded.
//!
//! A source may temporarily have no more bytes, such as a connection: see [`Loader::resumable`].
//!
//! Newer servers write types that are not known here. Loading ends with an error that names the type at the first such
//! value, unless the options say that unsupported values are left out. Then values are left out if their length can be
//! determined without understanding them.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::SlotImport;
use super::format::{
    self, CHECKSUM_SINCE, COMPRESSED_MAGIC, Dialect, NEVER, array_tag, codec, container, module_opcode,
    opcode, template_fields, value_type,
};
pub use super::input::Fault;
use super::input::{Input, Kept, Text};
use super::legacy;
use super::save::SavedReplication;
use super::stream;
use super::vector_set;
use crate::keyspace::access::Access;
use crate::keyspace::{Entry, Keyspace, Replacement};
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::hash;
use crate::stdx::num;
use crate::structures::intset::Intset;
use crate::structures::listpack::{Item, Listpack};
use crate::structures::lzf;
use crate::types::list::End;
use crate::types::{Before, Collection, Hash, Limits, List, NewExpiry, Set, Value, Zset};

/// Bytes that loading allocates at most per byte read: the largest expansion of compression, times the bytes that a
/// hash table needs for an element of one byte.
pub const EXPANSION: usize = lzf::MAX_EXPANSION * 16;

/// Number of empty keys, and of unsupported values, that are logged by name. The end of loading logs the totals.
const LOGGED: u64 = 10;

/// Bytes read ahead from a starved source before the loader decides whether to decode.
const AHEAD: usize = 256 << 10;

/// Number of keys added together.
const BATCH: usize = 32;

/// Options of a loader.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Limits that decide the encoding of each value.
    pub limits: Limits,
    /// Keys whose expiry is not after this time are left out; `None` keeps all.
    pub drop_due: Option<UnixMillis>,
    /// Whether fields of hashes are left out as keys are. Otherwise they expire once they are loaded.
    pub drop_due_fields: bool,
    /// Whether a key that exists is replaced. Otherwise it is an error.
    pub replace: bool,
    /// Whether the checksum is compared.
    pub checksum: bool,
    /// Whether unsupported values are left out, if their length can be known. Otherwise they are errors.
    pub skip_unsupported: bool,
    /// Whether the keys that `drop_due` leaves out are kept for [`Loader::take_dropped`], if the file has a position in
    /// a replication stream.
    pub note_dropped: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            limits: Limits::default(),
            drop_due: None,
            drop_due_fields: true,
            replace: false,
            checksum: true,
            skip_unsupported: false,
            note_dropped: false,
        }
    }
}

/// Why and where loading failed.
#[derive(Debug)]
pub struct LoadError {
    /// What is wrong.
    pub fault: Fault,
    /// Number of bytes read.
    pub offset: u64,
    /// The key whose value was being read.
    pub key: Option<Vec<u8>>,
    /// Type of that value.
    pub value_type: Option<(u8, Dialect)>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, at offset {}", self.fault, self.offset)?;
        if let Some((number, dialect)) = self.value_type {
            write!(f, ", in a value of type {number}")?;
            if let Some(name) = format::type_name(number, dialect) {
                write!(f, " ({name})")?;
            }
        }
        if let Some(key) = &self.key {
            let shown = &key[..key.len().min(128)];
            write!(f, ", of the key '{}'", shown.escape_ascii())?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

/// A list of ranges of a cluster's slots has no more.
const MOST_RANGES: usize = 16384;

/// The name of a migration and its ranges of slots, from an auxiliary field.
fn slot_import(text: &[u8]) -> Option<SlotImport> {
    let mut words = std::str::from_utf8(text).ok()?.split(' ');
    let name = words.next()?.as_bytes().to_vec();
    let range = |word: &str| {
        let (first, last) = word.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    Some(SlotImport { name, ranges: words.map(range).collect::<Option<Vec<_>>>()? })
}

/// Auxiliary fields of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// Version of the server that wrote the file, from `redis-ver` or `valkey-ver`.
    pub writer: Option<Vec<u8>>,
    /// Time of creation in seconds since 1970.
    pub created: Option<i64>,
    /// Memory in bytes that the writing server used.
    pub used_memory: Option<i64>,
    /// Whether the file is the base of an append-only file.
    pub aof_base: bool,
    /// Replication history that the file belongs to.
    pub replication_id: Option<Vec<u8>>,
    /// Replication offset at the time of the snapshot.
    pub replication_offset: Option<i64>,
    /// Database that the replication stream had selected.
    pub replication_db: Option<i64>,
    /// Slots that were being imported from other nodes of a cluster.
    pub slot_imports: Vec<SlotImport>,
}

/// Numbers of keys read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys loaded.
    pub loaded: u64,
    /// Keys left out because they had expired.
    pub expired: u64,
    /// Keys left out because their collection has no element.
    pub empty: u64,
    /// Values, or data of modules, left out because they are not supported.
    pub skipped: u64,
}

/// Result of [`Loader::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// More of the file follows.
    More,
    /// The source of a [resumable](Loader::resumable) loader has nothing more for now.
    Starved,
    /// The file is loaded.
    Done,
}

/// Receiver of the keys of a file.
pub trait Receive {
    /// Number of databases.
    fn databases(&self) -> usize;
    /// Announces `_keys` keys for a database, of which `_volatile` have an expiry. A hint.
    fn expect(&mut self, _db: usize, _keys: usize, _volatile: usize) {}
    /// Adds the keys and leaves `batch` empty. Each key comes with its hash.
    ///
    /// # Errors
    /// A key that exists already and may not be replaced, as its new entry.
    fn receive(&mut self, db: usize, batch: &mut Vec<(u64, Entry)>, replace: bool) -> Result<(), Entry>;
    /// Clocks that access data are measured with.
    fn access(&self) -> Access;
    /// Called for each key read, with the type of its value in the file and the bytes that it takes there with all
    /// its attributes. `_entry` is `None` if the key is left out.
    fn read(&mut self, _value_type: u8, _bytes: u64, _entry: Option<&Entry>) {}
}

impl Receive for Keyspace {
    fn databases(&self) -> usize {
        Keyspace::databases(self).len()
    }

    fn expect(&mut self, db: usize, keys: usize, volatile: usize) {
        self.database_mut(db).reserve(keys, volatile);
    }

    fn receive(&mut self, db: usize, batch: &mut Vec<(u64, Entry)>, replace: bool) -> Result<(), Entry> {
        self.database_mut(db).load(batch, replace)
    }

    fn access(&self) -> Access {
        self.access
    }
}

impl Receive for Replacement {
    fn databases(&self) -> usize {
        Replacement::databases(self).len()
    }

    fn expect(&mut self, db: usize, keys: usize, volatile: usize) {
        self.database_mut(db).reserve(keys, volatile);
    }

    fn receive(&mut self, db: usize, batch: &mut Vec<(u64, Entry)>, replace: bool) -> Result<(), Entry> {
        self.database_mut(db).load(batch, replace)
    }

    fn access(&self) -> Access {
        self.access
    }
}

/// A file that is being loaded.
pub struct Loader<'a> {
    input: Input<'a>,
    options: LoadOptions,
    version: u32,
    db: usize,
    /// Attributes read so far of the next key.
    next: Attributes,
    batch: Vec<(u64, Entry)>,
    key: Vec<u8>,
    about: About,
    /// Libraries that were read and not taken yet.
    libraries: Vec<Vec<u8>>,
    /// Keys that were left out and not taken yet, with their databases.
    dropped: Vec<(usize, Box<[u8]>)>,
    /// Templates of hashes, by number.
    templates: Templates,
    tally: Tally,
    /// Type of the value being read.
    reading: Option<u8>,
    /// The first thing that was left out because it is not supported.
    first_skipped: Option<String>,
    /// Time at which the source last ran out of bytes, and the duration of the decoding that must be repeated.
    starved: Option<(Instant, Duration)>,
}

/// Templates of hashes, that is, field names that many hashes share, by the number that hashes refer to.
#[derive(Default)]
pub(super) struct Templates {
    fields: HashMap<u64, Vec<Vec<u8>>>,
    /// Bytes of names that hashes got from templates.
    lent: u64,
}

impl Templates {
    /// The fields of a template, for another hash.
    ///
    /// # Errors
    /// There is no such template, or hashes got far more bytes from templates than the `read` bytes of the file can
    /// justify.
    fn lend(&mut self, id: u64, read: u64) -> Result<&[Vec<u8>], Fault> {
        let fields = self.fields.get(&id).ok_or(BAD_TEMPLATE)?;
        self.lent += fields.iter().map(|field| field.len() as u64).sum::<u64>();
        if self.lent > read.saturating_mul(lzf::MAX_EXPANSION as u64) {
            return Err(Fault::Corrupt("hashes take too much from their templates"));
        }
        Ok(fields)
    }
}

/// Attributes that may precede a key.
#[derive(Clone, Copy, Default)]
struct Attributes {
    expires: Option<UnixMillis>,
    idle: Option<u32>,
    frequency: Option<u8>,
    /// Whether the key is exempt from eviction.
    protected: bool,
    /// Offset of the first of them.
    start: Option<u64>,
}

impl<'a> Loader<'a> {
    /// Loads from `source`, whose size in bytes is `size` if known.
    pub fn new(source: Box<dyn Read + 'a>, size: Option<u64>, options: LoadOptions) -> Loader<'a> {
        Loader {
            input: Input::new(source, size, options.checksum),
            options,
            version: 0,
            db: 0,
            next: Attributes::default(),
            batch: Vec::with_capacity(BATCH),
            key: Vec::new(),
            about: About::default(),
            libraries: Vec::new(),
            dropped: Vec::new(),
            templates: Templates::default(),
            tally: Tally::default(),
            reading: None,
            first_skipped: None,
            starved: None,
        }
    }

    /// Loads from a source that does not block: [`Step::Starved`] means that it returned
    /// [`WouldBlock`](io::ErrorKind::WouldBlock). Call [`Loader::step`] again when the source has more bytes, and at
    /// least ten times a second.
    ///
    /// The bytes of a value are kept until it is complete, and are then decoded from its start. At most a third of the
    /// time is spent on decoding values that turn out to be incomplete.
    pub fn resumable(source: Box<dyn Read + 'a>, size: Option<u64>, options: LoadOptions) -> Loader<'a> {
        let mut loader = Loader::new(source, size, options);
        loader.input.keep_from_here();
        loader
    }

    /// Bytes that were read from the source and not decoded. After [`Step::Done`] they are what follows the file; there
    /// are none if the size is known.
    pub fn unread(&self) -> &[u8] {
        self.input.unread()
    }

    /// The keys left out because they had expired since the last call, with their databases, if the options ask for
    /// them.
    pub fn take_dropped(&mut self) -> Vec<(usize, Box<[u8]>)> {
        std::mem::take(&mut self.dropped)
    }

    /// Number of bytes read. After [`Step::Done`] this is the offset of the file's end, where something else may
    /// begin.
    pub fn offset(&self) -> u64 {
        self.input.offset()
    }

    /// Size of the file in bytes, 0 if unknown.
    pub fn size(&self) -> u64 {
        self.input.size()
    }

    /// Position of the data in a replication stream, if the file states one in full. Complete once a key was read.
    pub fn position(&self) -> Option<SavedReplication> {
        let about = &self.about;
        let id = about.replication_id.as_deref()?.try_into().ok()?;
        let offset = u64::try_from(about.replication_offset?).ok()?;
        Some(SavedReplication { id, offset, db: about.replication_db? })
    }

    /// Auxiliary fields read so far. They are complete once a key was read.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Whether loaded keys and libraries replace existing ones with the same name.
    pub fn replaces(&self) -> bool {
        self.options.replace
    }

    /// The texts of the libraries of functions that were read since the last call.
    pub fn take_libraries(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.libraries)
    }

    /// The first thing that was left out because it is not supported.
    pub fn first_skipped(&self) -> Option<&str> {
        self.first_skipped.as_deref()
    }

    /// Numbers of keys read so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Version of the format; 0 before the first step.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Loads the whole file.
    ///
    /// # Errors
    /// As for [`Loader::step`].
    pub fn run(&mut self, to: &mut impl Receive) -> Result<(), LoadError> {
        while self.step(to, u64::MAX, u64::MAX)? != Step::Done {}
        Ok(())
    }

    /// Loads until at least `bytes` more bytes or `keys` more keys are read, the source has nothing more for now, or the
    /// file ends.
    ///
    /// # Errors
    /// The file is damaged or holds something unsupported. The keys before that point have been received.
    pub fn step(&mut self, to: &mut impl Receive, bytes: u64, keys: u64) -> Result<Step, LoadError> {
        if let Some((at, cost)) = self.starved.take()
            && at.elapsed() < cost * 2
            && self.input.read_ahead(self.input.unread().len() + AHEAD).is_ok()
        {
            self.starved = Some((at, cost));
            return Ok(Step::Starved);
        }
        let (started, first) = (Instant::now(), self.input.offset());
        let mut step = self.try_step(to, bytes, keys);
        if let Err(Fault::Io(error)) = &step
            && error.kind() == io::ErrorKind::WouldBlock
        {
            let read = self.input.offset() - first;
            if let Some(again) = self.input.rewind() {
                let share = again as f64 / read.max(1) as f64;
                self.starved = Some((Instant::now(), started.elapsed().mul_f64(share.min(1.0))));
                self.reading = None;
                step = self.hand_over(to).map(|()| Step::Starved);
            }
        }
        if step.is_err() {
            // Everything before the fault is valid.
            step = self.hand_over(to).and(step);
        }
        step.map_err(|fault| LoadError {
            fault,
            offset: self.input.offset(),
            key: self.reading.map(|_| self.key.clone()),
            value_type: self.reading.map(|number| (number, Dialect::of(self.version))),
        })
    }

    fn try_step(&mut self, to: &mut impl Receive, bytes: u64, keys: u64) -> Result<Step, Fault> {
        if self.version == 0 {
            self.version = magic(self.input.array()?)?;
        }
        let until = self.input.offset().saturating_add(bytes);
        let mut keys_left = keys;
        loop {
            self.input.mark();
            let at = self.input.offset();
            if at >= until || keys_left == 0 {
                self.hand_over(to)?;
                return Ok(Step::More);
            }
            let code = self.input.byte()?;
            match code {
                opcode::EXPIRE_MS => {
                    self.next.expires = Some(UnixMillis(i64::from_le_bytes(self.input.array()?)));
                }
                opcode::EXPIRE_S => {
                    let seconds = i32::from_le_bytes(self.input.array()?);
                    self.next.expires = Some(UnixMillis(i64::from(seconds) * 1000));
                }
                opcode::FREQ => self.next.frequency = Some(self.input.byte()?),
                opcode::IDLE => {
                    self.next.idle = Some(u32::try_from(self.input.number()?).unwrap_or(u32::MAX));
                }
                opcode::EOF => {
                    self.hand_over(to)?;
                    self.end()?;
                    return Ok(Step::Done);
                }
                opcode::SELECT_DB => {
                    self.hand_over(to)?;
                    let db = self.input.number()?;
                    self.db =
                        usize::try_from(db).ok().filter(|&db| db < to.databases()).ok_or_else(|| {
                            Fault::Unsupported(format!(
                                "the data have a database {db}, which the configuration does not allow"
                            ))
                        })?;
                }
                opcode::RESIZE_DB => {
                    let (keys, volatile) = (self.input.number()?, self.input.number()?);
                    // The smallest key takes a type and two lengths.
                    let room = |n: u64| self.input.room(usize::try_from(n).unwrap_or(usize::MAX), 3);
                    to.expect(self.db, room(keys), room(volatile.min(keys)));
                }
                opcode::SLOT_INFO => {
                    for _ in 0..3 {
                        self.input.number()?;
                    }
                }
                opcode::AUX => self.aux()?,
                opcode::FUNCTION2 => {
                    let text = self.input.string()?.bytes(&mut itoa::Buffer::new()).to_vec();
                    self.libraries.push(text);
                }
                opcode::FUNCTION_PRE_GA => {
                    return Err(Fault::Unsupported(
                        "the data have functions in the format of a release candidate of Redis 7.0".into(),
                    ));
                }
                opcode::MODULE_AUX => {
                    let what = self.module("data")?;
                    if !self.options.skip_unsupported {
                        return Err(Fault::Unsupported(what));
                    }
                    self.skip_module_data()?;
                    self.skipped(&what);
                }
                opcode::VALKEY_SLOT_IMPORT if Dialect::of(self.version) == Dialect::Valkey => {
                    self.slot_import()?;
                    continue;
                }
                opcode::HASH_TEMPLATE | opcode::KEY_METADATA => self.foreign_opcode(code)?,
                number => {
                    self.key_value(number, self.next.start.unwrap_or(at), to)?;
                    self.next = Attributes::default();
                    keys_left -= 1;
                    continue;
                }
            }
            self.next.start.get_or_insert(at);
            const ATTRIBUTES: [u8; 5] =
                [opcode::EXPIRE_MS, opcode::EXPIRE_S, opcode::FREQ, opcode::IDLE, opcode::KEY_METADATA];
            if !ATTRIBUTES.contains(&code) {
                self.next.start = None;
            }
        }
    }

    fn hand_over(&mut self, to: &mut impl Receive) -> Result<(), Fault> {
        if !self.batch.is_empty()
            && let Err(entry) = to.receive(self.db, &mut self.batch, self.options.replace)
        {
            self.key = entry.key().to_vec();
            self.reading.get_or_insert(entry.kind() as u8);
            return Err(Fault::Duplicate);
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Fault> {
        if self.version < CHECKSUM_SINCE {
            return Ok(());
        }
        let expected = self.input.sum();
        let found = u64::from_le_bytes(self.input.array()?);
        // A server that was configured not to compute the checksum writes zero.
        if self.options.checksum && found != 0 && found != expected {
            return Err(Fault::Checksum { expected, found });
        }
        Ok(())
    }

    /// Reads which slots were being imported.
    fn slot_import(&mut self) -> Result<(), Fault> {
        let name = self.input.string()?.bytes(&mut itoa::Buffer::new()).to_vec();
        let mut ranges = Vec::new();
        for _ in 0..self.input.number()? {
            let (first, last) = (self.input.number()?, self.input.number()?);
            match (u16::try_from(first), u16::try_from(last)) {
                (Ok(first), Ok(last)) if ranges.len() < MOST_RANGES => ranges.push((first, last)),
                _ => return Err(Fault::Unsupported("the data have an invalid range of slots".into())),
            }
        }
        self.about.slot_imports.push(SlotImport { name, ranges });
        Ok(())
    }

    fn aux(&mut self) -> Result<(), Fault> {
        let mut digits = itoa::Buffer::new();
        let name = self.input.string()?.bytes(&mut digits).to_vec();
        let text = self.input.string()?;
        let text = text.bytes(&mut digits);
        let about = &mut self.about;
        match name.as_slice() {
            b"redis-ver" | b"valkey-ver" => about.writer = Some(text.to_vec()),
            b"ctime" => about.created = num::parse_i64(text),
            b"used-mem" => about.used_memory = num::parse_i64(text),
            b"aof-base" | b"aof-preamble" => about.aof_base = text == b"1",
            b"repl-id" => about.replication_id = Some(text.to_vec()),
            b"repl-offset" => about.replication_offset = num::parse_i64(text),
            b"repl-stream-db" => about.replication_db = num::parse_i64(text),
            format::PROTECTED => self.next.protected = text == b"1",
            b"slot-import" => about.slot_imports.extend(slot_import(text)),
            // Unknown auxiliary fields are hints and may be ignored.
            _ => {}
        }
        Ok(())
    }

    /// Describes something of a module, whose id is read next, for an error.
    fn module(&mut self, what: &str) -> Result<String, Fault> {
        Ok(of_module(what, self.input.number()?))
    }

    /// Reads a key and its value.
    #[inline]
    fn key_value(&mut self, number: u8, start: u64, to: &mut impl Receive) -> Result<(), Fault> {
        self.reading = Some(number);
        let key = self.input.string()?;
        self.key.clear();
        self.key.extend_from_slice(key.bytes(&mut itoa::Buffer::new()));
        let expires = self.next.expires;
        let dialect = Dialect::of(self.version);
        let module = if number == value_type::MODULE_2 { Some(self.input.number()?) } else { None };
        let supported = match module {
            None => format::is_supported(number, dialect),
            Some(id) => id == vector_set::MODULE_ID,
        };
        if !supported {
            self.foreign_value(number, dialect, module)?;
            self.reading = None;
            to.read(number, self.input.offset() - start, None);
            return Ok(());
        }
        let Loader { input, key, templates, options, .. } = self;
        let entry = match module {
            None => read_value(input, number, dialect, Some(templates), key, expires, options)?,
            Some(_) => keep(key, expires, vector_set::read(input)?),
        };
        self.reading = None;
        let due = self.options.drop_due.is_some_and(|now| expires.is_some_and(|at| at <= now));
        match entry {
            _ if due => {
                self.tally.expired += 1;
                if self.options.note_dropped && self.about.replication_id.is_some() {
                    self.dropped.push((self.db, self.key.as_slice().into()));
                }
                to.read(number, self.input.offset() - start, None);
            }
            None => {
                if self.tally.empty < LOGGED {
                    tracing::info!("Loading is skipping empty key: {}", self.key.escape_ascii());
                }
                self.tally.empty += 1;
                to.read(number, self.input.offset() - start, None);
            }
            Some(mut entry) => {
                entry.set_access(self.next.access(&to.access()));
                entry.set_protected(self.next.protected);
                to.read(number, self.input.offset() - start, Some(&entry));
                self.batch.push((hash(&self.key), entry));
                self.tally.loaded += 1;
                if self.batch.len() == BATCH {
                    self.hand_over(to)?;
                }
            }
        }
        Ok(())
    }
}

/// Unsupported values, and how they are skipped.
impl Loader<'_> {
    /// Reads the part announced by an opcode that only one family has: the other family uses the same number
    /// differently.
    #[cold]
    fn foreign_opcode(&mut self, code: u8) -> Result<(), Fault> {
        match (code, Dialect::of(self.version)) {
            (opcode::HASH_TEMPLATE, Dialect::Redis) => self.template(),
            (opcode::KEY_METADATA, Dialect::Redis) => {
                const WHAT: &str = "what modules keep beside the value of a key (opcode 243)";
                if !self.options.skip_unsupported {
                    return Err(Fault::Unsupported(format!("{WHAT} is not supported")));
                }
                for _ in 0..self.input.count(5)? {
                    // The class of the data.
                    self.input.array::<4>()?;
                    self.skip_module_data()?;
                }
                self.skipped(WHAT);
                Ok(())
            }
            _ => Err(Fault::Unsupported(
                "the snapshot has commands in it (opcode 242 of Valkey 9.2), which are not supported".into(),
            )),
        }
    }

    /// Reads a template of hashes.
    fn template(&mut self) -> Result<(), Fault> {
        let id = self.input.number()?;
        let fields = template_strings(&mut self.input)?;
        if fields.is_empty() || self.templates.fields.insert(id, fields).is_some() {
            return Err(Fault::Corrupt("a hash template has no fields, or the number of another"));
        }
        Ok(())
    }

    /// Skips an unsupported value, if the options allow that and its length can be determined. The id of the `module` that
    /// it is a value of has been read.
    #[cold]
    fn foreign_value(&mut self, number: u8, dialect: Dialect, module: Option<u64>) -> Result<(), Fault> {
        let skip = self.options.skip_unsupported;
        let what = match (number, dialect) {
            _ if let Some(id) = module => {
                if skip {
                    self.skip_module_data()?;
                }
                of_module("a value", id)
            }
            (value_type::ARRAY, Dialect::Redis) => {
                if skip {
                    self.skip_array()?;
                }
                "an array, a type that is not supported".into()
            }
            _ => {
                let what = match number {
                    value_type::MODULE_PRE_GA => self.module("a value")?,
                    number if format::type_name(number, dialect).is_some() => {
                        format!("a value of type {number}, which is not supported")
                    }
                    number => format!("a value of type {number}, which is unknown"),
                };
                return Err(Fault::Unsupported(match skip {
                    true => format!("{what}; its length is unknown too, so nothing behind it can be loaded"),
                    false => what,
                }));
            }
        };
        if !skip {
            return Err(Fault::Unsupported(format!("{what} (see rdb-skip-unsupported)")));
        }
        let key = &self.key[..self.key.len().min(128)];
        let what = format!("the key '{}' in database {}: {what}", key.escape_ascii(), self.db);
        self.skipped(&what);
        Ok(())
    }

    /// Counts a value that was left out.
    fn skipped(&mut self, what: &str) {
        self.tally.skipped += 1;
        let end = self.input.offset();
        self.first_skipped.get_or_insert_with(|| format!("{what}, at offset {end}"));
        if self.tally.skipped <= LOGGED {
            tracing::warn!("Loading leaves out {what}");
        }
    }

    /// Skips data of a module, which are self-describing.
    fn skip_module_data(&mut self) -> Result<(), Fault> {
        loop {
            match self.input.number()? {
                module_opcode::EOF => return Ok(()),
                module_opcode::SIGNED | module_opcode::UNSIGNED => {
                    self.input.number()?;
                }
                module_opcode::FLOAT => {
                    self.input.array::<4>()?;
                }
                module_opcode::DOUBLE => {
                    self.input.array::<8>()?;
                }
                module_opcode::STRING => {
                    self.input.string()?;
                }
                _ => return Err(Fault::Corrupt("data of a module do not say what they are")),
            }
        }
    }

    /// Skips an array: its length, perhaps an index, and elements, each with an index and a tag.
    fn skip_array(&mut self) -> Result<(), Fault> {
        const BAD: Fault = Fault::Corrupt("an array is not one");
        let len = self.input.count(3)?;
        match self.input.number()? {
            0 => {}
            1 => {
                self.input.number()?;
            }
            _ => return Err(BAD),
        }
        for _ in 0..len {
            self.input.number()?;
            match self.input.number()? {
                array_tag::STRING | array_tag::SHORT_STRING => {
                    self.input.string()?;
                }
                array_tag::INT | array_tag::FLOAT => {
                    self.input.array::<8>()?;
                }
                _ => return Err(BAD),
            }
        }
        Ok(())
    }
}

impl Attributes {
    /// Access data of a key, converted to the clocks of `clocks`.
    fn access(&self, clocks: &Access) -> u32 {
        match (self.idle, self.frequency) {
            (_, Some(frequency)) if clocks.counts() => clocks.bits_for_frequency(frequency),
            (Some(idle), _) if !clocks.counts() => clocks.bits_for_idle(idle),
            _ => clocks.fresh(),
        }
    }
}

/// The version that the first bytes of a file declare.
fn magic(bytes: [u8; 9]) -> Result<u32, Fault> {
    let unknown = || Fault::Corrupt("these are not the first bytes of an RDB file");
    if bytes.starts_with(COMPRESSED_MAGIC) {
        let how = match bytes[4] {
            codec::LZ4 => "LZ4",
            codec::ZSTD => "Zstandard",
            _ => "an unknown method",
        };
        return Err(Fault::Unsupported(format!(
            "the data are compressed as a whole by {how}, as Valkey 9.2 does with 'rdbcompression lz4' or 'zstd', which \
             is not supported"
        )));
    }
    let (digits, dialect) = match &bytes {
        [b'R', b'E', b'D', b'I', b'S', digits @ ..] => (&digits[..], Dialect::Redis),
        [b'V', b'A', b'L', b'K', b'E', b'Y', digits @ ..] => (&digits[..], Dialect::Valkey),
        _ => return Err(unknown()),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(unknown());
    }
    let version = digits.iter().fold(0, |n, digit| n * 10 + u32::from(digit - b'0'));
    if version == 0 || Dialect::of(version) != dialect {
        return Err(Fault::Unsupported(format!("version {version} of the format is unknown")));
    }
    Ok(version)
}

/// Describes something of the module with this id, for an error.
fn of_module(what: &str, id: u64) -> String {
    format!("{what} of the module '{}', and modules are not supported", module_name(id))
}

/// The name in a module's id: nine characters of six bits, above ten bits of version.
fn module_name(id: u64) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    (0..9).rev().map(|i| char::from(LETTERS[(id >> (10 + 6 * i)) as usize & 63])).collect()
}

/// Reads one value of type `number` into an entry for `key`; `None` for a collection without elements. A value on its own
/// cannot refer to `templates`.
///
/// # Errors
/// The bytes are not such a value, or the type is unknown.
pub(super) fn read_value(
    input: &mut Input<'_>,
    number: u8,
    dialect: Dialect,
    templates: Option<&mut Templates>,
    key: &[u8],
    expires: Option<UnixMillis>,
    options: &LoadOptions,
) -> Result<Option<Entry>, Fault> {
    use value_type::*;
    let limits = &options.limits;
    if number == STRING {
        return string(input, key, expires).map(Some);
    }
    let entry = match (number, dialect) {
        (LIST, _) => keep(key, expires, list(input, limits)?),
        (LIST_ZIPLIST, _) => {
            let mut nodes = List::nodes(limits);
            nodes.append_listpack(ziplist(input)?);
            keep(key, expires, List::from_nodes(nodes, limits))
        }
        (LIST_QUICKLIST | LIST_QUICKLIST_2, _) => keep(key, expires, nodes(input, number, limits)?),
        (SET, _) => keep(key, expires, set(input, limits)?),
        (SET_INTSET, _) => {
            let ints = blob(input, |blob| Intset::from_bytes_checked(blob).ok_or(BAD_INTSET))?;
            keep(key, expires, Set::from_intset(ints, limits))
        }
        (SET_LISTPACK, _) => {
            let set = Set::from_listpack(listpack(input)?, limits);
            keep(key, expires, set.map_err(|why| Fault::Unfit("Set", why))?)
        }
        (ZSET | ZSET_2, _) => keep(key, expires, zset(input, number, limits)?),
        (ZSET_ZIPLIST, _) => {
            let pack = blob(input, |blob| legacy::from_ziplist(blob).map_err(|_| BAD_ZSET))?;
            keep(key, expires, packed_zset(pack, limits)?)
        }
        (ZSET_LISTPACK, _) => keep(key, expires, packed_zset(listpack(input)?, limits)?),
        (HASH, _) => keep(key, expires, hash_fields(input, limits)?),
        (HASH_ZIPMAP, _) => {
            let pack = blob(input, |blob| legacy::from_zipmap(blob).map_err(|_| BAD_ZIPMAP))?;
            keep(key, expires, packed_hash(pack, limits)?)
        }
        (HASH_ZIPLIST, _) => keep(key, expires, packed_hash(ziplist(input)?, limits)?),
        (HASH_LISTPACK, _) => keep(key, expires, packed_hash(listpack(input)?, limits)?),
        (VALKEY_HASH_2, Dialect::Valkey) => {
            keep(key, expires, expiring_fields(input, FieldExpiry::After, options)?)
        }
        (HASH_METADATA_PRE_GA, Dialect::Redis) => {
            keep(key, expires, expiring_fields(input, FieldExpiry::Before, options)?)
        }
        (HASH_METADATA, Dialect::Redis) => {
            let least = i64::from_le_bytes(input.array()?);
            keep(key, expires, expiring_fields(input, FieldExpiry::BeforeFrom(least), options)?)
        }
        (HASH_LISTPACK_EX_PRE_GA, Dialect::Redis) => keep(key, expires, expiring_listpack(input, options)?),
        (HASH_LISTPACK_EX, Dialect::Redis) => {
            // Skips the least expiry, which the fields' own expiries imply.
            input.array::<8>()?;
            keep(key, expires, expiring_listpack(input, options)?)
        }
        (STREAM_LISTPACKS | STREAM_LISTPACKS_2 | STREAM_LISTPACKS_3, _)
        | (STREAM_LISTPACKS_4 | STREAM_LISTPACKS_5, Dialect::Redis) => {
            keep(key, expires, stream::read(input, number)?)
        }
        (MODULE_2, _) => match input.number()? {
            vector_set::MODULE_ID => keep(key, expires, vector_set::read(input)?),
            id => return Err(Fault::Unsupported(of_module("a value", id))),
        },
        (HASH_TEMPLATE_LISTPACK | HASH_TEMPLATE_ARRAY, Dialect::Redis) => {
            keep(key, expires, hash_with_template(input, number, limits)?)
        }
        (HASH_TEMPLATE_LISTPACK_REF | HASH_TEMPLATE_ARRAY_REF, Dialect::Redis) => {
            let templates =
                templates.ok_or(Fault::Corrupt("a value on its own refers to a hash template"))?;
            keep(key, expires, hash_of_template(input, number, templates, limits)?)
        }
        _ => return Err(Fault::Unsupported(format!("a value of type {number}, which is unknown"))),
    };
    input.forget_long();
    Ok(entry)
}

const BAD_INTSET: Fault = Fault::Corrupt("Intset integrity check failed");
const BAD_LISTPACK: Fault = Fault::Corrupt("Listpack integrity check failed");
const BAD_ZIPLIST: Fault = Fault::Corrupt("Ziplist integrity check failed");
const BAD_ZSET: Fault = Fault::Corrupt("Zset ziplist integrity check failed");
const BAD_ZIPMAP: Fault = Fault::Corrupt("Zipmap integrity check failed");
const BAD_SCORE: Fault = Fault::Corrupt("a score is not a number");
const REPEATED: Fault = Fault::Corrupt("an element occurs twice");

/// Makes an entry of the value, unless the value is empty.
fn keep<T: Collection>(key: &[u8], expires: Option<UnixMillis>, value: T) -> Option<Entry> {
    (!value.is_empty()).then(|| Entry::with_collection(key, expires, value))
}

#[inline]
fn string(input: &mut Input<'_>, key: &[u8], expires: Option<UnixMillis>) -> Result<Entry, Fault> {
    let value = match input.kept_string()? {
        Kept::Borrowed(Text::Int(n)) => Value::Int(n),
        Kept::Borrowed(Text::Bytes(bytes)) => num::parse_i64(bytes).map_or(Value::Bytes(bytes), Value::Int),
        Kept::Owned(text) => Value::Shared(Arc::new(text)),
    };
    Ok(Entry::new(key, expires, value))
}

/// Reads a string that is one block of memory, and converts it with `make`.
fn blob<T>(input: &mut Input<'_>, make: impl FnOnce(&[u8]) -> Result<T, Fault>) -> Result<T, Fault> {
    make(input.string()?.bytes(&mut itoa::Buffer::new()))
}

fn listpack(input: &mut Input<'_>) -> Result<Listpack, Fault> {
    blob(input, |blob| Listpack::from_bytes_checked(blob).map_err(|_| BAD_LISTPACK))
}

fn ziplist(input: &mut Input<'_>) -> Result<Listpack, Fault> {
    blob(input, |blob| legacy::from_ziplist(blob).map_err(|_| BAD_ZIPLIST))
}

fn packed_hash(pack: Listpack, limits: &Limits) -> Result<Hash, Fault> {
    Hash::from_listpack(pack, limits).map_err(|why| Fault::Unfit("Hash", why))
}

fn packed_zset(pack: Listpack, limits: &Limits) -> Result<Zset, Fault> {
    Zset::from_listpack(&pack, limits).map_err(|why| Fault::Unfit("Zset", why))
}

fn list(input: &mut Input<'_>, limits: &Limits) -> Result<List, Fault> {
    let mut list = List::new();
    let mut digits = itoa::Buffer::new();
    for _ in 0..input.count(1)? {
        let element = input.string()?;
        let element = element.bytes(&mut digits);
        list.prepare(1, element.len(), limits);
        list.push(End::Tail, element);
    }
    Ok(list)
}

fn nodes(input: &mut Input<'_>, number: u8, limits: &Limits) -> Result<List, Fault> {
    let mut nodes = List::nodes(limits);
    for _ in 0..input.count(1)? {
        if number == value_type::LIST_QUICKLIST {
            nodes.append_listpack(ziplist(input)?);
            continue;
        }
        match input.number()? {
            container::PACKED => nodes.append_listpack(listpack(input)?),
            container::PLAIN => {
                let element = blob(input, |bytes| Ok(bytes.to_vec()))?;
                // An element in a node of its own is never empty: empty elements share nodes.
                if element.is_empty() {
                    return Err(Fault::Corrupt("an empty element has a node of its own"));
                }
                nodes.append_plain(element);
            }
            _ => return Err(Fault::Corrupt("an unknown kind of list node")),
        }
    }
    Ok(List::from_nodes(nodes, limits))
}

fn set(input: &mut Input<'_>, limits: &Limits) -> Result<Set, Fault> {
    let len = input.count(1)?;
    let mut set = Set::new();
    set.expect(input.room(len, 1), limits);
    for _ in 0..len {
        let new = match input.string()? {
            Text::Int(n) => set.add_item(Item::Int(n), limits),
            Text::Bytes(bytes) => set.add(bytes, limits),
        };
        if !new {
            return Err(REPEATED);
        }
    }
    Ok(set)
}

fn zset(input: &mut Input<'_>, number: u8, limits: &Limits) -> Result<Zset, Fault> {
    let len = input.count(2)?;
    // All members in one allocation, with the offset where each begins.
    let mut bytes = Vec::new();
    let mut pairs = Vec::with_capacity(input.room(len, 2));
    let mut digits = itoa::Buffer::new();
    for _ in 0..len {
        let start = bytes.len();
        bytes.extend_from_slice(input.string()?.bytes(&mut digits));
        let score = if number == value_type::ZSET_2 {
            f64::from_le_bytes(input.array()?)
        } else {
            text_score(input)?
        };
        if score.is_nan() {
            return Err(BAD_SCORE);
        }
        pairs.push((score, start..bytes.len()));
    }
    let pairs = pairs.into_iter().map(|(score, range)| (score, &bytes[range])).collect();
    Zset::from_pairs(pairs, limits).ok_or(REPEATED)
}

/// Reads a score as text. Three values of its length byte stand for values without a text.
fn text_score(input: &mut Input<'_>) -> Result<f64, Fault> {
    match input.byte()? {
        253 => Err(BAD_SCORE),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        len => {
            // The longest score text is longer than `take` guarantees to have buffered.
            let mut text = [0; 252];
            let text = &mut text[..usize::from(len)];
            for byte in text.iter_mut() {
                *byte = input.byte()?;
            }
            num::parse_f64_saturating(text).ok_or(BAD_SCORE)
        }
    }
}

fn hash_fields(input: &mut Input<'_>, limits: &Limits) -> Result<Hash, Fault> {
    let len = input.count(2)?;
    let mut hash = Hash::sized_for(input.room(len, 2), limits);
    let mut field = Vec::new();
    for _ in 0..len {
        read_into(input, &mut field)?;
        add_field(&mut hash, &field, input.string()?, limits)?;
    }
    Ok(hash)
}

/// Reads a string into `text`.
#[inline]
fn read_into(input: &mut Input<'_>, text: &mut Vec<u8>) -> Result<(), Fault> {
    text.clear();
    text.extend_from_slice(input.string()?.bytes(&mut itoa::Buffer::new()));
    Ok(())
}

#[inline]
fn add_field(hash: &mut Hash, field: &[u8], value: Text<'_>, limits: &Limits) -> Result<(), Fault> {
    set_field(hash, field, value, NewExpiry::Never, limits)
}

/// Sets a field; an existing field is an error.
#[inline]
fn set_field(
    hash: &mut Hash,
    field: &[u8],
    value: Text<'_>,
    expiry: NewExpiry,
    limits: &Limits,
) -> Result<(), Fault> {
    let value = match value {
        Text::Int(n) => Value::Int(n),
        Text::Bytes(bytes) => Value::Bytes(bytes),
    };
    match hash.put(field, value, expiry, limits, UnixMillis(i64::MIN)) {
        Before::Absent => Ok(()),
        _ => Err(Fault::Corrupt("a field occurs twice")),
    }
}

/// Reads a count and as many strings.
fn template_strings(input: &mut Input<'_>) -> Result<Vec<Vec<u8>>, Fault> {
    let mut fields = Vec::new();
    for _ in 0..input.count(1)? {
        let mut field = Vec::new();
        read_into(input, &mut field)?;
        fields.push(field);
    }
    Ok(fields)
}

const BAD_TEMPLATE: Fault = Fault::Corrupt("a hash does not fit its template");

/// Reads a hash that comes with its fields: the fields, then the values.
fn hash_with_template(input: &mut Input<'_>, number: u8, limits: &Limits) -> Result<Hash, Fault> {
    let fields = match input.number()? {
        template_fields::LISTPACK => listpack(input)?.iter().map(|item| item.to_vec()).collect(),
        template_fields::STRINGS => template_strings(input)?,
        _ => return Err(BAD_TEMPLATE),
    };
    if number == value_type::HASH_TEMPLATE_ARRAY {
        return hash_of_strings(input, &fields, limits);
    }
    hash_of_listpack(&listpack(input)?, &fields, limits)
}

/// Reads a hash that refers to its template.
fn hash_of_template(
    input: &mut Input<'_>,
    number: u8,
    templates: &mut Templates,
    limits: &Limits,
) -> Result<Hash, Fault> {
    if number == value_type::HASH_TEMPLATE_ARRAY_REF {
        let fields = templates.lend(input.number()?, input.offset())?;
        return hash_of_strings(input, fields, limits);
    }
    let values = listpack(input)?;
    let id = values.iter().next().and_then(|id| id.int()).and_then(|id| u64::try_from(id).ok());
    let fields = templates.lend(id.ok_or(BAD_TEMPLATE)?, input.offset())?;
    hash_of_listpack(&values, fields, limits)
}

/// Reads the values of a hash with these fields.
fn hash_of_strings(input: &mut Input<'_>, fields: &[Vec<u8>], limits: &Limits) -> Result<Hash, Fault> {
    let mut hash = Hash::sized_for(input.room(fields.len(), 1), limits);
    for field in fields {
        add_field(&mut hash, field, input.string()?, limits)?;
    }
    Ok(hash)
}

/// The hash with these fields whose values are in a listpack, behind the number of a template.
fn hash_of_listpack(values: &Listpack, fields: &[Vec<u8>], limits: &Limits) -> Result<Hash, Fault> {
    if fields.len() + 1 != values.len() {
        return Err(BAD_TEMPLATE);
    }
    let mut hash = Hash::sized_for(fields.len(), limits);
    for (field, value) in fields.iter().zip(values.iter().skip(1)) {
        let value = match value {
            Item::Int(n) => Text::Int(n),
            Item::Str(text) => Text::Bytes(text),
        };
        add_field(&mut hash, field, value, limits)?;
    }
    Ok(hash)
}

/// Position and form of a field's expiry.
#[derive(Clone, Copy)]
enum FieldExpiry {
    /// After the value, in eight bytes, -1 for none.
    After,
    /// Before the name, as a length, 0 for none.
    Before,
    /// Before the name, as the distance from this time plus one, 0 for none.
    BeforeFrom(i64),
}

fn expiring_fields(input: &mut Input<'_>, how: FieldExpiry, options: &LoadOptions) -> Result<Hash, Fault> {
    let len = input.count(2)?;
    let mut hash = Hash::sized_for(input.room(len, 2), &options.limits);
    let (mut field, mut value) = (Vec::new(), Vec::new());
    for _ in 0..len {
        let mut at = None;
        if !matches!(how, FieldExpiry::After) {
            let n = input.number()?;
            if n != 0 {
                let (base, n) =
                    if let FieldExpiry::BeforeFrom(least) = how { (least, n - 1) } else { (0, n) };
                at = Some(base.checked_add_unsigned(n).ok_or(BAD_EXPIRY)?);
            }
        }
        read_into(input, &mut field)?;
        read_into(input, &mut value)?;
        if matches!(how, FieldExpiry::After) {
            at = Some(i64::from_le_bytes(input.array()?)).filter(|&at| at != NEVER);
        }
        add_expiring(&mut hash, &field, Text::Bytes(&value), at, options)?;
    }
    Ok(hash)
}

fn expiring_listpack(input: &mut Input<'_>, options: &LoadOptions) -> Result<Hash, Fault> {
    let pack = listpack(input)?;
    let mut hash = Hash::sized_for(pack.len() / 3, &options.limits);
    let mut items = pack.iter();
    let (mut field_digits, mut value_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
    while let Some(field) = items.next() {
        let (Some(value), Some(at)) = (items.next(), items.next()) else { return Err(BAD_LISTPACK) };
        let at = at.int().ok_or(BAD_EXPIRY)?;
        let value = Text::Bytes(value.text(&mut value_digits));
        add_expiring(&mut hash, field.text(&mut field_digits), value, (at != 0).then_some(at), options)?;
    }
    Ok(hash)
}

const BAD_EXPIRY: Fault = Fault::Corrupt("a field's expiry is no time");

/// Adds a field that may expire.
fn add_expiring(
    hash: &mut Hash,
    field: &[u8],
    value: Text<'_>,
    at: Option<i64>,
    options: &LoadOptions,
) -> Result<(), Fault> {
    match (at, options.drop_due.filter(|_| options.drop_due_fields)) {
        (Some(at), Some(now)) if at <= now.0 => Ok(()),
        (Some(at), _) if at < 0 => Err(BAD_EXPIRY),
        (Some(at), _) => set_field(hash, field, value, NewExpiry::At(UnixMillis(at)), &options.limits),
        (None, _) => add_field(hash, field, value, &options.limits),
    }
}
