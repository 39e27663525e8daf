//! The numbers of the format: opcodes, types, lengths, and who wrote what.
//!
//! A length, or a string in a special encoding, starts with a byte whose two highest bits tell what follows:
//!
//! ```text
//! 00llllll                         6 bits
//! 01llllll llllllll               14 bits
//! 10000000 llllllll × 4           32 bits, high bits first
//! 10000001 llllllll × 8           64 bits, high bits first
//! 11eeeeee                        a string in encoding e: an integer of 8, 16 or 32 bits, or compressed
//! ```

/// What stands before a value or between values.
pub mod opcode {
    /// Keys of a hash slot follow: slot, keys, volatile keys. A hint.
    pub const SLOT_INFO: u8 = 244;
    /// A library of functions.
    pub const FUNCTION2: u8 = 245;
    /// A library of functions, as release candidates of Redis 7.0 wrote it.
    pub const FUNCTION_PRE_GA: u8 = 246;
    /// Data of a module that belong to no key.
    pub const MODULE_AUX: u8 = 247;
    /// Seconds since the last access to the next key, as a length.
    pub const IDLE: u8 = 248;
    /// Access frequency of the next key, one byte.
    pub const FREQ: u8 = 249;
    /// A name and a text.
    pub const AUX: u8 = 250;
    /// Keys and volatile keys of the database: what to make room for.
    pub const RESIZE_DB: u8 = 251;
    /// Expiry of the next key, milliseconds since 1970 in eight bytes, little-endian.
    pub const EXPIRE_MS: u8 = 252;
    /// Expiry of the next key, seconds since 1970 in four bytes, little-endian.
    pub const EXPIRE_S: u8 = 253;
    /// The number of the database that follows, as a length.
    pub const SELECT_DB: u8 = 254;
    /// The end.
    pub const EOF: u8 = 255;
}

/// How a value is written.
pub mod value_type {
    pub const STRING: u8 = 0;
    /// Elements one by one.
    pub const LIST: u8 = 1;
    /// Members one by one.
    pub const SET: u8 = 2;
    /// Members, each with its score as text.
    pub const ZSET: u8 = 3;
    /// Fields, each with its value.
    pub const HASH: u8 = 4;
    /// Members, each with its score as eight bytes, little-endian.
    pub const ZSET_2: u8 = 5;
    pub const MODULE_PRE_GA: u8 = 6;
    pub const MODULE_2: u8 = 7;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    /// Nodes that are ziplists.
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM_LISTPACKS: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    /// Nodes, each with its kind: one element, or a listpack.
    pub const LIST_QUICKLIST_2: u8 = 18;
    pub const STREAM_LISTPACKS_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_LISTPACKS_3: u8 = 21;

    /// In files of Valkey: fields, each with its value and its expiry in eight bytes, [`NEVER`](super::NEVER) for none.
    pub const VALKEY_HASH_2: u8 = 22;

    /// In files of Redis: fields, each after its expiry, as previews of Redis 7.4 wrote them.
    pub const HASH_METADATA_PRE_GA: u8 = 22;
    /// In files of Redis: a listpack of fields, values and expiries, as previews of Redis 7.4 wrote it.
    pub const HASH_LISTPACK_EX_PRE_GA: u8 = 23;
    /// In files of Redis: the least expiry, and fields, each after its distance from that plus one, 0 for none.
    pub const HASH_METADATA: u8 = 24;
    /// In files of Redis: the least expiry, and a listpack of fields, values and expiries, 0 for none.
    pub const HASH_LISTPACK_EX: u8 = 25;
    /// In files of Redis: with idempotency ids.
    pub const STREAM_LISTPACKS_4: u8 = 26;
    /// In files of Redis: with entries that were given back.
    pub const STREAM_LISTPACKS_5: u8 = 27;
}

/// In a [`value_type::VALKEY_HASH_2`], the expiry of a field that has none.
pub const NEVER: i64 = -1;

/// What a node of a [`value_type::LIST_QUICKLIST_2`] is.
pub mod container {
    /// One element.
    pub const PLAIN: u64 = 1;
    /// A listpack of elements.
    pub const PACKED: u64 = 2;
}

/// String encodings: the low six bits behind two set ones.
pub mod encoding {
    pub const INT8: u8 = 0;
    pub const INT16: u8 = 1;
    pub const INT32: u8 = 2;
    /// Length of the stream, length of the text, an LZF stream.
    pub const LZF: u8 = 3;
}

/// The two highest bits of a first byte.
pub const LEN_6: u8 = 0;
pub const LEN_14: u8 = 1;
/// Both bits set: an [`encoding`].
pub const ENCODED: u8 = 3;
/// The first byte of a length of 32 bits.
pub const LEN_32: u8 = 0x80;
/// The first byte of a length of 64 bits.
pub const LEN_64: u8 = 0x81;

/// The oldest version in which a checksum follows the end.
pub const CHECKSUM_SINCE: u32 = 5;
/// The version from which on files are Valkey's. Numbers between the newest of Redis and this one are nobody's yet.
pub const VALKEY_SINCE: u32 = 80;

/// Whose numbers types above [`value_type::STREAM_LISTPACKS_3`] are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Dialect {
    #[default]
    Redis,
    Valkey,
}

impl Dialect {
    /// Who writes `version`.
    pub fn of(version: u32) -> Dialect {
        if version >= VALKEY_SINCE { Dialect::Valkey } else { Dialect::Redis }
    }
}

/// What a type's number means, for messages; `None` for one we know nothing of.
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
        _ => return None,
    })
}
