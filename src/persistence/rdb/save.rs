//! Writes the data set, or one value, as RDB bytes.
//!
//! A value in a compact encoding is one block of memory, which is written as it is. Other values are written element
//! by element, as Redis does.

use std::io;

use super::SlotImport;
use super::format::{NEVER, PROTECTED, container, opcode, value_type};
use super::output::Output;
use super::stream::{self, Form};
use super::vector_set;
use crate::keyspace::Entry;
use crate::keyspace::Keyspace;
use crate::keyspace::access::Access;
use crate::stats::log::limited;
use crate::stdx::num;
use crate::structures::quicklist::NodeRef;
use crate::types::string::StringRef;
use crate::types::{Describe, Hash, Kind, List, Set, Stream, Zset};

/// Version of the format to write, by the servers that can read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Version {
    /// Version 10: Redis 7.0 and newer.
    Redis70,
    /// Version 11: Redis 7.2 and newer.
    #[default]
    Redis72,
    /// Version 12: Redis 7.4 and newer versions of Redis, which support fields that expire.
    Redis74,
    /// Version 13: Redis 8.6 and newer, where streams have idempotent producers.
    Redis86,
    /// Version 14: Redis 8.8 and newer, where entries of streams can be released.
    Redis88,
    /// Version 80 with Valkey's magic: Valkey 9, which supports fields that expire.
    Valkey9,
}

impl Version {
    /// Number of the version.
    pub fn number(self) -> u32 {
        match self {
            Version::Redis70 => 10,
            Version::Redis72 => 11,
            Version::Redis74 => 12,
            Version::Redis86 => 13,
            Version::Redis88 => 14,
            Version::Valkey9 => 80,
        }
    }

    /// The newest of Redis's own versions up to `number`.
    pub fn newest(number: u32) -> Version {
        match number {
            ..=10 => Version::Redis70,
            11 => Version::Redis72,
            12 => Version::Redis74,
            13 => Version::Redis86,
            _ => Version::Redis88,
        }
    }

    fn magic(self) -> &'static [u8; 9] {
        match self {
            Version::Redis70 => b"REDIS0010",
            Version::Redis72 => b"REDIS0011",
            Version::Redis74 => b"REDIS0012",
            Version::Redis86 => b"REDIS0013",
            Version::Redis88 => b"REDIS0014",
            Version::Valkey9 => b"VALKEY080",
        }
    }

    /// Whether the version can store expiries of fields.
    fn knows_expiring_fields(self) -> bool {
        !matches!(self, Version::Redis70 | Version::Redis72)
    }

    /// The greatest form in which the version stores streams.
    fn stream_form(self) -> Form {
        match self {
            Version::Redis70 => Form::Counters,
            Version::Redis72 | Version::Redis74 | Version::Valkey9 => Form::ActiveTimes,
            Version::Redis86 => Form::Producers,
            Version::Redis88 => Form::Released,
        }
    }

    /// This version, or the version that can store expiries of fields if `fields_expire`.
    fn able(self, fields_expire: bool) -> Version {
        if fields_expire && !self.knows_expiring_fields() { Version::Valkey9 } else { self }
    }
}

/// Access data written with each key, so that eviction can continue after loading.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SavedAccess {
    /// None.
    #[default]
    None,
    /// Seconds since the last access.
    Idle,
    /// Logarithmic access frequency.
    Frequency,
}

/// A position in a replication stream: the data are those after the stream's first `offset` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SavedReplication {
    /// Id of the history, 40 hexadecimal digits.
    pub id: [u8; 40],
    /// Number of bytes of the stream.
    pub offset: u64,
    /// Database that the stream has selected there.
    pub db: i64,
}

impl SavedReplication {
    /// The line that states the position in an append-only file. Loaders skip lines that begin with `#`.
    ///
    /// ```text
    /// #REPL:<id>:<offset>:<db>\r\n
    /// ```
    pub fn write_annotation(&self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(ANNOTATION);
        out.extend_from_slice(&self.id);
        out.push(b':');
        out.extend_from_slice(digits.format(self.offset).as_bytes());
        out.push(b':');
        out.extend_from_slice(digits.format(self.db).as_bytes());
        out.extend_from_slice(b"\r\n");
    }

    /// Appends the line that withdraws earlier annotations: the data no longer have a position.
    pub fn write_withdrawal(out: &mut Vec<u8>) {
        out.extend_from_slice(ANNOTATION);
        out.extend_from_slice(b"-\r\n");
    }

    /// Parses a line of an append-only file: `None` if it is not such an annotation, `Some(None)` if it withdraws
    /// earlier ones or is damaged.
    pub fn read_annotation(line: &[u8]) -> Option<Option<SavedReplication>> {
        let mut parts = line.strip_prefix(ANNOTATION)?.trim_ascii_end().split(|&byte| byte == b':');
        let mut read = || {
            let id = parts.next()?.try_into().ok()?;
            let offset = u64::try_from(num::parse_i64(parts.next()?)?).ok()?;
            let db = num::parse_i64(parts.next()?)?;
            parts.next().is_none().then_some(SavedReplication { id, offset, db })
        };
        Some(read())
    }

    /// Whether the id can be written in a line.
    pub fn is_printable(&self) -> bool {
        self.id.iter().all(u8::is_ascii_alphanumeric)
    }
}

/// Start of an annotation with a position.
const ANNOTATION: &[u8] = b"#REPL:";

/// Which parts of a data set are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SavedParts {
    /// All keys.
    pub keys: bool,
    /// All libraries of functions.
    pub functions: bool,
}

impl Default for SavedParts {
    fn default() -> Self {
        SavedParts { keys: true, functions: true }
    }
}

/// Options for writing a data set.
#[derive(Clone, Debug, Default)]
pub struct SaveOptions {
    /// Version of the format.
    pub version: Version,
    /// Access data to write.
    pub access: SavedAccess,
    /// Whether the file is the base of an append-only file.
    pub aof_base: bool,
    /// Time of creation in seconds since 1970.
    pub created: i64,
    /// Memory in bytes in use, for the auxiliary field of that name.
    pub used_memory: u64,
    /// Version of Redis that the server reports.
    pub redis_version: &'static str,
    /// Position of the data in a replication stream, if they have one.
    pub replication: Option<SavedReplication>,
    /// Slots that are being imported from other nodes of a cluster, whose keys are among those saved.
    pub slot_imports: Vec<SlotImport>,
    /// The parts to write.
    pub parts: SavedParts,
}

/// Writes the data set, and the libraries with these texts. After each key, calls `each` with the number of keys so far.
/// Call [`Output::end`] afterwards.
///
/// # Errors
/// The first error of `each`. (An error of `out` is kept there and ends the work early.)
pub fn save(
    space: &Keyspace,
    libraries: &[&[u8]],
    options: &SaveOptions,
    out: &mut Output<'_>,
    each: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    out.raw(options.version.magic());
    aux(out, b"redis-ver", |out| out.string(options.redis_version.as_bytes()));
    aux(out, b"redis-bits", |out| out.int(i64::from(usize::BITS)));
    aux(out, b"ctime", |out| out.int(options.created));
    aux(out, b"used-mem", |out| out.int(options.used_memory as i64));
    if let Some(position) = &options.replication {
        aux(out, b"repl-stream-db", |out| out.int(position.db));
        aux(out, b"repl-id", |out| out.string(&position.id));
        aux(out, b"repl-offset", |out| out.int(position.offset as i64));
    }
    aux(out, b"aof-base", |out| out.int(i64::from(options.aof_base)));
    slot_imports(options, out);
    for text in libraries.iter().filter(|_| options.parts.functions) {
        library(text, out);
    }
    let mut keys = 0;
    let databases = if options.parts.keys { space.databases() } else { &[] };
    for (index, db) in databases.iter().enumerate().filter(|(_, db)| !db.is_empty()) {
        out.byte(opcode::SELECT_DB);
        out.len(index);
        out.byte(opcode::RESIZE_DB);
        out.len(db.len());
        out.len(db.volatile());
        for entry in db.keys().iter() {
            key_value(&entry, options, &space.access, out);
            keys += 1;
            each(keys)?;
            if out.failed() {
                return Ok(());
            }
        }
    }
    out.byte(opcode::EOF);
    let sum = out.sum();
    out.raw(&sum.to_le_bytes());
    Ok(())
}

/// Writes a library of functions.
pub(super) fn library(text: &[u8], out: &mut Output<'_>) {
    out.byte(opcode::FUNCTION2);
    out.string(text);
}

/// Writes which slots are being imported: as Valkey 9 does, or where its opcode means something else, as an auxiliary
/// field.
fn slot_imports(options: &SaveOptions, out: &mut Output<'_>) {
    for SlotImport { name, ranges } in &options.slot_imports {
        if options.version == Version::Valkey9 {
            out.byte(opcode::VALKEY_SLOT_IMPORT);
            out.string(name);
            out.len(ranges.len());
            for &(first, last) in ranges {
                out.len(first.into());
                out.len(last.into());
            }
        } else {
            let ranges: String = ranges.iter().map(|(first, last)| format!(" {first}-{last}")).collect();
            aux(out, b"slot-import", |out| out.string(&[name, ranges.as_bytes()].concat()));
        }
    }
}

fn aux(out: &mut Output<'_>, name: &[u8], text: impl FnOnce(&mut Output<'_>)) {
    out.byte(opcode::AUX);
    out.string(name);
    text(out);
}

/// Writes an entry with its attributes.
#[inline]
fn key_value(entry: &Entry, options: &SaveOptions, access: &Access, out: &mut Output<'_>) {
    if entry.is_protected() {
        // Others skip fields that they do not know.
        aux(out, PROTECTED, |out| out.string(b"1"));
    }
    if let Some(at) = entry.expires() {
        out.byte(opcode::EXPIRE_MS);
        out.raw(&at.0.to_le_bytes());
    }
    match options.access {
        SavedAccess::None => {}
        SavedAccess::Idle => {
            out.byte(opcode::IDLE);
            out.len(access.idle_seconds(entry.access()) as usize);
        }
        SavedAccess::Frequency => {
            out.byte(opcode::FREQ);
            out.byte(access.frequency(entry.access()));
        }
    }
    out.byte(type_of(entry, options.version));
    out.string(entry.key());
    value(entry, options.version, out);
}

/// A version that can store all of `space`: `wanted`, if possible. O(databases).
pub fn version_for(space: &Keyspace, wanted: Version) -> Version {
    wanted.able(space.databases().iter().any(|db| db.with_volatile_fields() > 0))
}

/// A server that is sent a snapshot, by the versions of the format that it reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reader {
    /// Nothing is known: Redis 7.0 to 7.4, or Valkey 7.2. All read version 10.
    Unknown,
    /// It reads Redis's own versions up to this number: 11 for Valkey 8, 12 for Redis 8.0 to 8.4.
    Redis(u32),
    /// Valkey 9: it reads Valkey's versions, and Redis's up to 11.
    Valkey9,
}

/// Why a data set cannot be sent to a server.
#[derive(Debug, thiserror::Error)]
pub enum Unsendable {
    /// The versions that the server reads cannot store a value.
    #[error(
        "the hash '{}' in database {db} has fields that expire, which version {version} of the RDB format cannot store",
        shown(key)
    )]
    ExpiringFields {
        /// Number of the database.
        db: usize,
        /// Key of the hash.
        key: Vec<u8>,
        /// The newest version that the server reads.
        version: u32,
    },
    /// The server is older than the oldest version that is written.
    #[error(
        "version 10 of the RDB format is the oldest that can be written, and the other side reads only up to {0}"
    )]
    TooOld(u32),
}

/// The version in which to send all of `space` to a server: one that it reads, and that can store the data.
///
/// A server about which nothing is known is sent the oldest version that can store the data, so that as many servers as
/// possible can load them: version 10, or 12 if fields of hashes expire, which servers that cannot store the expiries
/// refuse. Version 10 lacks the time at which a consumer of a stream was last active; readers that know this time use
/// the time at which the consumer was last seen instead. Streams lose idempotency ids and the release of entries, as in
/// files of an older version.
///
/// O(databases), or O(keys) if fields of hashes expire or recently did.
///
/// # Errors
/// No version suits both the server and the data.
pub fn version_for_reader(space: &Keyspace, reader: Reader) -> Result<Version, Unsendable> {
    match reader {
        Reader::Valkey9 => Ok(Version::Valkey9),
        Reader::Unknown if hash_with_expiries(space).is_some() => Ok(Version::Redis74),
        Reader::Unknown => Ok(Version::Redis70),
        Reader::Redis(newest @ ..10) => Err(Unsendable::TooOld(newest)),
        Reader::Redis(newest) => {
            let version = Version::newest(newest);
            match hash_with_expiries(space) {
                Some((db, key)) if !version.knows_expiring_fields() => {
                    Err(Unsendable::ExpiringFields { db, key: key.to_vec(), version: newest })
                }
                _ => Ok(version),
            }
        }
    }
}

/// Database and key of a hash with fields that expire. O(databases), or O(keys) if there is or recently was one.
fn hash_with_expiries(space: &Keyspace) -> Option<(usize, &[u8])> {
    let databases = space.databases().iter().enumerate().filter(|(_, db)| db.with_volatile_fields() > 0);
    databases.flat_map(|(index, db)| db.keys().iter().map(move |entry| (index, entry))).find_map(
        |(index, entry)| {
            let expires = entry.collection::<Hash>().is_some_and(|hash| hash.volatile() > 0);
            expires.then(|| (index, entry.key()))
        },
    )
}

/// A version that can store this value: `wanted`, if possible.
pub fn version_for_value(entry: &Entry, wanted: Version) -> Version {
    wanted.able(entry.collection::<Hash>().is_some_and(|hash| hash.volatile() > 0))
}

/// As [`version_for_value`], for a payload that Redis is to read: the version is one of its own.
pub fn version_for_redis(entry: &Entry, wanted: Version) -> Version {
    match version_for_value(entry, wanted) {
        Version::Valkey9 => Version::Redis74,
        version => version,
    }
}

/// Whether a hash is written with the expiries of its fields. They are lost in versions that cannot store them.
fn with_expiries(hash: &Hash, version: Version) -> bool {
    version.knows_expiring_fields() && hash.volatile() > 0
}

/// The beginning of a key, for the log.
fn shown(key: &[u8]) -> impl std::fmt::Display {
    const MOST: usize = 128;
    key[..key.len().min(MOST)].escape_ascii()
}

const KIND: &str = "the kind says so";

/// The type number that [`value`] uses for `entry`.
pub fn type_of(entry: &Entry, version: Version) -> u8 {
    match entry.kind() {
        Kind::String => value_type::STRING,
        Kind::List => value_type::LIST_QUICKLIST_2,
        Kind::Set => match entry.collection::<Set>().expect(KIND).as_packed() {
            Some((_, true)) => value_type::SET_INTSET,
            Some((_, false)) if version != Version::Redis70 => value_type::SET_LISTPACK,
            _ => value_type::SET,
        },
        Kind::Zset if entry.collection::<Zset>().expect(KIND).is_packed() => value_type::ZSET_LISTPACK,
        Kind::Zset => value_type::ZSET_2,
        Kind::Hash => {
            let hash = entry.collection::<Hash>().expect(KIND);
            match hash.as_listpack() {
                Some(_) => value_type::HASH_LISTPACK,
                None if !with_expiries(hash, version) => value_type::HASH,
                None if version == Version::Valkey9 => value_type::VALKEY_HASH_2,
                None => value_type::HASH_METADATA,
            }
        }
        Kind::Stream => {
            let stream = entry.collection::<Stream>().expect(KIND);
            // Older forms can be read by more servers.
            let needed = Form::needed(stream).max(Form::ActiveTimes);
            needed.min(version.stream_form()).value_type()
        }
        Kind::VectorSet => value_type::MODULE_2,
    }
}

/// Writes the value alone, without type and key. O(n) in its bytes.
#[inline]
pub fn value(entry: &Entry, version: Version, out: &mut Output<'_>) {
    match entry.string() {
        Some(StringRef::Bytes(bytes)) => out.string(bytes),
        Some(StringRef::Int(n)) => out.int(n),
        None => match entry.kind() {
            Kind::List => list(entry.collection().expect(KIND), out),
            Kind::Set => set(entry.collection().expect(KIND), version, out),
            Kind::Zset => zset(entry.collection().expect(KIND), out),
            Kind::Hash => hash(entry.collection().expect(KIND), version, out),
            Kind::Stream => {
                let value: &Stream = entry.collection().expect(KIND);
                let (form, needed) = (version.stream_form(), Form::needed(value));
                if needed > form {
                    limited!(
                        warn,
                        "The stream '{}' is saved without {}: version {} of the format does not know them",
                        shown(entry.key()),
                        match (value.idempotency().is_some() && form < Form::Producers, needed) {
                            (true, Form::Released) => "its idempotency ids and that entries were given back",
                            (true, _) => "its idempotency ids",
                            (false, _) => "the knowledge that entries were given back",
                        },
                        version.number()
                    );
                }
                stream::write(value, needed.max(Form::ActiveTimes).min(form), out);
            }
            Kind::VectorSet => vector_set::write(entry.collection().expect(KIND), out),
            Kind::String => unreachable!("{KIND}"),
        },
    }
}

fn list(list: &List, out: &mut Output<'_>) {
    if let Some(pack) = list.as_listpack() {
        out.len(1);
        out.len(container::PACKED as usize);
        return out.string(pack);
    }
    let nodes = list.quicklist().expect("a list is one or the other").nodes();
    out.len(nodes.len());
    for node in nodes {
        match node {
            NodeRef::Packed(pack) => {
                out.len(container::PACKED as usize);
                out.string(pack.as_bytes());
            }
            NodeRef::Plain(element) => {
                out.len(container::PLAIN as usize);
                out.string(element);
            }
            NodeRef::PackedLzf { raw_len, stream } => {
                out.len(container::PACKED as usize);
                out.lzf(raw_len, stream);
            }
            NodeRef::PlainLzf { raw_len, stream } => {
                out.len(container::PLAIN as usize);
                out.lzf(raw_len, stream);
            }
        }
    }
}

fn set(set: &Set, version: Version, out: &mut Output<'_>) {
    if let Some((packed, ints)) = set.as_packed()
        && (ints || version != Version::Redis70)
    {
        return out.string(packed);
    }
    out.len(set.len());
    set.iter().for_each(|member| out.item(member));
}

fn zset(zset: &Zset, out: &mut Output<'_>) {
    if let Some(pack) = zset.to_listpack() {
        return out.string(&pack);
    }
    out.len(zset.len());
    // The greatest score comes first: a reader that inserts one by one finds the place of each member at the front.
    for pair in zset.iter(true) {
        out.item(pair.member);
        out.raw(&pair.score().to_le_bytes());
    }
}

/// Writes the least expiry, then the fields. Each field follows its expiry: 0 for none, otherwise 1 plus the distance
/// from the least expiry.
fn expiring_fields(hash: &Hash, out: &mut Output<'_>) {
    let least = hash.iter_with_expiry().filter_map(|(_, _, at)| at).min().map_or(0, |at| at.0);
    out.raw(&least.to_le_bytes());
    out.len(hash.len());
    for (field, value, expires) in hash.iter_with_expiry() {
        out.len(expires.map_or(0, |at| (at.0 - least) as usize + 1));
        out.item(field);
        out.item(value);
    }
}

fn hash(hash: &Hash, version: Version, out: &mut Output<'_>) {
    if let Some(pack) = hash.as_listpack() {
        return out.string(pack);
    }
    let with_expiries = with_expiries(hash, version);
    if with_expiries && version != Version::Valkey9 {
        return expiring_fields(hash, out);
    }
    out.len(hash.len());
    if with_expiries {
        for (field, value, expires) in hash.iter_with_expiry() {
            out.item(field);
            out.item(value);
            out.raw(&expires.map_or(NEVER, |at| at.0).to_le_bytes());
        }
        return;
    }
    for (field, value) in hash.iter() {
        out.item(field);
        out.item(value);
    }
}
