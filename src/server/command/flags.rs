//! Properties of commands and their ACL categories: sets of bits, each bit with the name that clients see.

use crate::stdx::bits::bit_set;

bit_set! {
    /// Properties of a command.
    pub struct Flags: u32 {
        WRITE = 0, "write";
        READONLY = 1, "readonly";
        DENYOOM = 2, "denyoom";
        ADMIN = 3, "admin";
        PUBSUB = 4, "pubsub";
        NOSCRIPT = 5, "noscript";
        BLOCKING = 6, "blocking";
        LOADING = 7, "loading";
        STALE = 8, "stale";
        SKIP_MONITOR = 9, "skip_monitor";
        SKIP_SLOWLOG = 10, "skip_slowlog";
        ASKING = 11, "asking";
        FAST = 12, "fast";
        NO_AUTH = 13, "no_auth";
        MAY_REPLICATE = 14, "may_replicate";
        NO_MANDATORY_KEYS = 15, "no_mandatory_keys";
        PROTECTED = 16, "";
        NO_ASYNC_LOADING = 17, "no_async_loading";
        NO_MULTI = 18, "no_multi";
        ALLOW_BUSY = 19, "allow_busy";
        MOVABLE_KEYS = 20, "movablekeys";
        TOUCHES_ARBITRARY_KEYS = 21, "";
        /// Runs at once between MULTI and EXEC instead of being queued.
        RUNS_IN_MULTI = 22, "";
        /// Allowed to a RESP2 client that has subscribed.
        RUNS_SUBSCRIBED = 23, "";
        /// Ends a transaction, even when it is refused.
        ENDS_MULTI = 24, "";
        /// What follows it may have to wait, so that it is executed before more is read.
        BARRIER = 25, "";
        /// Asks whether the server is well: refused while data cannot be saved.
        SHOWS_HEALTH = 26, "";
        /// What the client chose for the caching of its next command is not used up by this one.
        KEEPS_CACHING = 27, "";
        /// No transaction is open after it.
        LEAVES_MULTI = 28, "";
        /// Has its place in an append-only file, though it changes no data by itself.
        LOGGED = 29, "";
        /// That the client was sent here by the owner of a slot is not used up by it.
        KEEPS_ASKING = 30, "";
        /// It runs where a slot is that is being moved, whichever of its keys are there.
        IN_OPEN_SLOT = 31, "";
    }
}

bit_set! {
    /// ACL categories.
    pub struct Acl: u32 {
        KEYSPACE = 0, "keyspace";
        READ = 1, "read";
        WRITE = 2, "write";
        SET = 3, "set";
        SORTEDSET = 4, "sortedset";
        LIST = 5, "list";
        HASH = 6, "hash";
        STRING = 7, "string";
        BITMAP = 8, "bitmap";
        HYPERLOGLOG = 9, "hyperloglog";
        GEO = 10, "geo";
        STREAM = 11, "stream";
        PUBSUB = 12, "pubsub";
        ADMIN = 13, "admin";
        FAST = 14, "fast";
        SLOW = 15, "slow";
        BLOCKING = 16, "blocking";
        DANGEROUS = 17, "dangerous";
        CONNECTION = 18, "connection";
        TRANSACTION = 19, "transaction";
        SCRIPTING = 20, "scripting";
    }
}
