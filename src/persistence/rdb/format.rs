//! The numbers of the format: opcodes, types, lengths, and which server wrote which version.
//!
//! A length, or a string in a special encoding, starts with a byte whose two highest bits say what follows:
//!
//! ```text
//! 00llllll                         6 bits
//! 01llllll llllllll               14 bits
//! 10000000 llllllll × 4           32 bits, high bits first
//! 10000001 llllllll × 8           64 bits, high bits first
//! 11eeeeee                        a string in encoding e: an integer of 8, 16 or 32 bits, or compressed
//! ```

/// Name of the auxiliary field before a key that is exempt from eviction.
pub const PROTECTED: &[u8] = b"no-evict";

/// Opcodes: the first byte of whatever is not a key and value.
pub mod opcode {
    /// Redis's files: a hash template follows, to which hashes refer by its number. Valkey's snapshots for replicas: a
    /// command follows.
    pub const HASH_TEMPLATE: u8 = 242;
    /// Redis's files: what modules keep beside the value of the next key. Valkey's files: state of a slot's import.
    pub const KEY_METADATA: u8 = 243;
    /// In the format of Valkey: slots were being imported.
    pub const VALKEY_SLOT_IMPORT: u8 = 243;
    /// Sizes for a cluster slot follow: slot, number of keys, number of volatile keys. A hint.
    pub const SLOT_INFO: u8 = 244;
    /// A function library follows.
    pub const FUNCTION2: u8 = 245;
    /// A function library follows, as release candidates of Redis 7.0 wrote it.
    pub const FUNCTION_PRE_GA: u8 = 246;
    /// Data of a module follow that belong to no key.
    pub const MODULE_AUX: u8 = 247;
    /// Seconds since the last access to the next key, as a length.
    pub const IDLE: u8 = 248;
    /// Access frequency of the next key, one byte.
    pub const FREQ: u8 = 249;
    /// An auxiliary field follows: name and text.
    pub const AUX: u8 = 250;
    /// Numbers of keys and of volatile keys in the database, so that a reader can reserve space.
    pub const RESIZE_DB: u8 = 251;
    /// Expiry of the next key, milliseconds since 1970 in eight bytes, little-endian.
    pub const EXPIRE_MS: u8 = 252;
    /// Expiry of the next key, seconds since 1970 in four bytes, little-endian.
    pub const EXPIRE_S: u8 = 253;
    /// Number of the database that follows, as a length.
    pub const SELECT_DB: u8 = 254;
    /// End of the snapshot.
    pub const EOF: u8 = 255;
}

/// Value types: how a value is written.
pub mod value_type {
    /// A string.
    pub const STRING: u8 = 0;
    /// A list, element by element.
    pub const LIST: u8 = 1;
    /// A set, member by member.
    pub const SET: u8 = 2;
    /// A sorted set: members, each followed by its score as text.
    pub const ZSET: u8 = 3;
    /// A hash: fields, each followed by its value.
    pub const HASH: u8 = 4;
    /// A sorted set: members, each followed by its score as eight bytes, little-endian.
    pub const ZSET_2: u8 = 5;
    /// A value of a module, in the form of Redis 4.0 previews.
    pub const MODULE_PRE_GA: u8 = 6;
    /// A value of a module.
    pub const MODULE_2: u8 = 7;
    /// A hash as a zipmap.
    pub const HASH_ZIPMAP: u8 = 9;
    /// A list as a ziplist.
    pub const LIST_ZIPLIST: u8 = 10;
    /// A set as an intset.
    pub const SET_INTSET: u8 = 11;
    /// A sorted set as a ziplist of members and scores.
    pub const ZSET_ZIPLIST: u8 = 12;
    /// A hash as a ziplist of fields and values.
    pub const HASH_ZIPLIST: u8 = 13;
    /// A list as nodes, each a ziplist.
    pub const LIST_QUICKLIST: u8 = 14;
    /// A stream, as Redis 5.0 wrote it.
    pub const STREAM_LISTPACKS: u8 = 15;
    /// A hash as a listpack of fields and values.
    pub const HASH_LISTPACK: u8 = 16;
    /// A sorted set as a listpack of members and scores.
    pub const ZSET_LISTPACK: u8 = 17;
    /// A list as nodes, each preceded by its [`container`] kind.
    pub const LIST_QUICKLIST_2: u8 = 18;
    /// A stream, as Redis 7.0 wrote it.
    pub const STREAM_LISTPACKS_2: u8 = 19;
    /// A set as a listpack.
    pub const SET_LISTPACK: u8 = 20;
    /// A stream, as Redis 7.2 wrote it.
    pub const STREAM_LISTPACKS_3: u8 = 21;

    /// Valkey's files: a hash whose fields are each followed by value and expiry in eight bytes,
    /// [`NEVER`](super::NEVER) for none.
    pub const VALKEY_HASH_2: u8 = 22;

    /// Redis's files: a hash whose fields each follow their expiry, as previews of Redis 7.4 wrote it.
    pub const HASH_METADATA_PRE_GA: u8 = 22;
    /// Redis's files: a hash as a listpack of fields, values and expiries, as previews of Redis 7.4 wrote it.
    pub const HASH_LISTPACK_EX_PRE_GA: u8 = 23;
    /// Redis's files: a hash as its least expiry and its fields. Each field follows its expiry, stored as the
    /// distance from the least one plus one, or 0 for none.
    pub const HASH_METADATA: u8 = 24;
    /// Redis's files: a hash as its least expiry and a listpack of fields, values and expiries, 0 for none.
    pub const HASH_LISTPACK_EX: u8 = 25;
    /// Redis's files: a stream with idempotency ids.
    pub const STREAM_LISTPACKS_4: u8 = 26;
    /// Redis's files: a stream with released entries.
    pub const STREAM_LISTPACKS_5: u8 = 27;
    /// Redis's files: an array. Not supported.
    pub const ARRAY: u8 = 28;
    /// Redis's files: a hash as a listpack of values, with the fields of its template.
    pub const HASH_TEMPLATE_LISTPACK: u8 = 29;
    /// Redis's files: a hash as a listpack of values, with the number of its template.
    pub const HASH_TEMPLATE_LISTPACK_REF: u8 = 30;
    /// Redis's files: a hash as values, with the fields of its template.
    pub const HASH_TEMPLATE_ARRAY: u8 = 31;
    /// Redis's files: a hash as values, with the number of its template.
    pub const HASH_TEMPLATE_ARRAY_REF: u8 = 32;
    /// Redis's files: a compressed bitmap. Not supported.
    pub const BITMAP: u8 = 33;

    /// Valkey's files: a hash of paths. Not supported.
    pub const VALKEY_PATH_HASH: u8 = 23;
}

/// How the fields of a hash template are written.
pub mod template_fields {
    /// As a listpack.
    pub const LISTPACK: u64 = 0;
    /// As a count and strings.
    pub const STRINGS: u64 = 1;
}

/// What follows in data of a module, which describe themselves.
pub mod module_opcode {
    /// Nothing: the data end.
    pub const EOF: u64 = 0;
    /// A signed number, as a length.
    pub const SIGNED: u64 = 1;
    /// An unsigned number, as a length.
    pub const UNSIGNED: u64 = 2;
    /// A number in four bytes.
    pub const FLOAT: u64 = 3;
    /// A number in eight bytes.
    pub const DOUBLE: u64 = 4;
    /// A string.
    pub const STRING: u64 = 5;
}

/// Tags of the elements of a [`value_type::ARRAY`].
pub mod array_tag {
    /// A string.
    pub const STRING: u64 = 0;
    /// An integer in eight bytes.
    pub const INT: u64 = 1;
    /// A number in eight bytes.
    pub const FLOAT: u64 = 2;
    /// A short string.
    pub const SHORT_STRING: u64 = 3;
}

/// Expiry of a field without one, in a [`value_type::VALKEY_HASH_2`].
pub const NEVER: i64 = -1;

/// Kinds of node in a [`value_type::LIST_QUICKLIST_2`].
pub mod container {
    /// A single element.
    pub const PLAIN: u64 = 1;
    /// A listpack of elements.
    pub const PACKED: u64 = 2;
}

/// String encodings: the low six bits of a byte whose two highest bits are set.
pub mod encoding {
    /// An integer in one byte.
    pub const INT8: u8 = 0;
    /// An integer in two bytes, little-endian.
    pub const INT16: u8 = 1;
    /// An integer in four bytes, little-endian.
    pub const INT32: u8 = 2;
    /// A compressed text: length of the LZF stream, length of the text, the stream.
    pub const LZF: u8 = 3;
}

/// Two highest bits of the first byte: a length of 6 bits.
pub const LEN_6: u8 = 0;
/// Two highest bits of the first byte: a length of 14 bits.
pub const LEN_14: u8 = 1;
/// Two highest bits of the first byte: a string [`encoding`].
pub const ENCODED: u8 = 3;
/// First byte of a length of 32 bits.
pub const LEN_32: u8 = 0x80;
/// First byte of a length of 64 bits.
pub const LEN_64: u8 = 0x81;

/// The oldest version with a checksum behind the end.
pub const CHECKSUM_SINCE: u32 = 5;
/// The first version of Valkey's own files. Versions between the newest of Redis and this one are unassigned.
pub const VALKEY_SINCE: u32 = 80;
/// The newest version of Redis all of whose types are known by number.
pub const NEWEST_REDIS: u32 = 16;
/// The newest such version of Valkey.
pub const NEWEST_VALKEY: u32 = 81;
/// First bytes of a file that is compressed as a whole, as Valkey 9.2 can write it. A byte of version and a byte of
/// [`codec`] follow.
pub const COMPRESSED_MAGIC: &[u8; 3] = b"VCS";

/// How a file is compressed as a whole.
pub mod codec {
    /// LZ4.
    pub const LZ4: u8 = 1;
    /// Zstandard.
    pub const ZSTD: u8 = 2;
}

/// The family of servers that defines types above [`value_type::STREAM_LISTPACKS_3`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dialect {
    /// Redis.
    #[default]
    Redis,
    /// Valkey.
    Valkey,
}

impl Dialect {
    /// The family that writes `version`.
    pub fn of(version: u32) -> Dialect {
        if version >= VALKEY_SINCE { Dialect::Valkey } else { Dialect::Redis }
    }

    /// The newest version of this family all of whose types are known by number.
    pub fn newest(self) -> u32 {
        match self {
            Dialect::Redis => NEWEST_REDIS,
            Dialect::Valkey => NEWEST_VALKEY,
        }
    }
}

/// Whether values of type `number` can be loaded. Of those of modules, only vector sets can.
#[inline]
pub fn is_supported(number: u8, dialect: Dialect) -> bool {
    const fn types(first: u8, last: u8) -> u64 {
        (u64::MAX >> (63 - last)) & (u64::MAX << first)
    }
    use value_type::*;
    const BOTH: u64 = types(STRING, ZSET_2) | types(HASH_ZIPMAP, VALKEY_HASH_2);
    const REDIS: u64 = BOTH
        | types(HASH_METADATA_PRE_GA, STREAM_LISTPACKS_5)
        | types(HASH_TEMPLATE_LISTPACK, HASH_TEMPLATE_ARRAY_REF);
    let supported = match dialect {
        Dialect::Redis => REDIS,
        Dialect::Valkey => BOTH,
    };
    number < 64 && supported >> number & 1 != 0
}

/// Name of a value type, for messages; `None` for an unknown number.
pub fn type_name(number: u8, dialect: Dialect) -> Option<&'static str> {
    use value_type::*;
    Some(match (number, dialect) {
        (STRING, _) => "string",
        (LIST, _) => "list-linked",
        (SET, _) => "set-hashtable",
        (ZSET, _) => "zset-v1",
        (HASH, _) => "hash-hashtable",
        (ZSET_2, _) => "zset-v2",
        (MODULE_PRE_GA | MODULE_2, _) => "module-value",
        (HASH_ZIPMAP, _) => "hash-zipmap",
        (LIST_ZIPLIST, _) => "list-ziplist",
        (SET_INTSET, _) => "set-intset",
        (ZSET_ZIPLIST, _) => "zset-ziplist",
        (HASH_ZIPLIST, _) => "hash-ziplist",
        (LIST_QUICKLIST, _) => "quicklist",
        (STREAM_LISTPACKS, _) => "stream",
        (HASH_LISTPACK, _) => "hash-listpack",
        (ZSET_LISTPACK, _) => "zset-listpack",
        (LIST_QUICKLIST_2, _) => "quicklist-v2",
        (STREAM_LISTPACKS_2, _) => "stream-v2",
        (SET_LISTPACK, _) => "set-listpack",
        (STREAM_LISTPACKS_3, _) => "stream-v3",
        (VALKEY_HASH_2, Dialect::Valkey) => "hash-v2",
        (HASH_METADATA_PRE_GA, Dialect::Redis) => "hash-expiries-preview",
        (HASH_LISTPACK_EX_PRE_GA, Dialect::Redis) => "hash-listpack-expiries-preview",
        (HASH_METADATA, Dialect::Redis) => "hash-expiries",
        (HASH_LISTPACK_EX, Dialect::Redis) => "hash-listpack-expiries",
        (STREAM_LISTPACKS_4, Dialect::Redis) => "stream-v4",
        (STREAM_LISTPACKS_5, Dialect::Redis) => "stream-v5",
        (ARRAY, Dialect::Redis) => "array",
        (HASH_TEMPLATE_LISTPACK, Dialect::Redis) => "hash-template-listpack",
        (HASH_TEMPLATE_LISTPACK_REF, Dialect::Redis) => "hash-template-listpack-reference",
        (HASH_TEMPLATE_ARRAY, Dialect::Redis) => "hash-template-array",
        (HASH_TEMPLATE_ARRAY_REF, Dialect::Redis) => "hash-template-array-reference",
        (BITMAP, Dialect::Redis) => "bitmap",
        (VALKEY_PATH_HASH, Dialect::Valkey) => "path-hash",
        _ => return None,
    })
}
