//! What a command is: one table entry beside its handler, from which everything else follows.
//!
//! A [`Spec`] is a plain constant. Lookup, arity errors, admission, key extraction, ACL
//! categories, `COMMAND INFO` and `COMMAND DOCS` all read it; nothing about a command is written
//! down a second time. A handler's signature says what it can reach: `Data` sees keys and the
//! reply, `Admin` the whole server.

use std::sync::Arc;

use crate::clients::ClientKey;
use crate::clients::blocking::Wait;
use crate::config::Limits;
use crate::keyspace::Db;
use crate::resp::{Args, Error, Replied, Reply};
use crate::server::Server;
use crate::server::execution::feed::Feed;
use crate::server::execution::users::Permissions;
use crate::stdx::clock::UnixMillis;
use crate::stdx::num;
use crate::structures::sds::Sds;
use crate::types::ahead::Aim;

/// What a handler returns: its reply is written, or this error is to be.
pub type CmdResult = Result<Replied, Error>;

/// What a data command can reach. Fields, not accessors: borrows of them are disjoint.
pub struct Ctx<'a> {
    /// The request's arguments, the command's name being argument 0.
    pub args: Args<'a>,
    /// The selected database.
    pub db: Db<'a>,
    /// Where the answer goes.
    pub reply: Reply<'a>,
    /// Sizes and thresholds from the configuration.
    pub limits: &'a Limits,
    /// How the command is passed on to the AOF and replicas; as received unless said otherwise.
    pub feed: &'a mut Feed,
    /// The command's name, for error texts.
    pub name: &'static str,
    /// The time at which the command runs.
    pub now: UnixMillis,
    /// What the user may do; `None`: everything.
    pub permissions: Option<Permissions<'a>>,
    /// What the command waits for, if it found nothing to do.
    pub wait: &'a mut Option<Wait>,
    /// A long string that is sent from where it lies: see [`Ctx::lend`].
    pub lent: &'a mut Option<Arc<Sds>>,
}

impl Ctx<'_> {
    /// Whether the user may read every key, whatever its name: what a command needs that finds keys in values.
    pub fn reads_every_key(&self) -> bool {
        self.permissions.is_none_or(|permissions| permissions.read_every_key(&self.args))
    }

    /// Answers with a long string without copying it. Nothing may follow it in this command's reply.
    pub fn lend(&mut self, text: Arc<Sds>) -> Replied {
        let replied = self.reply.bulk_header(text.len());
        *self.lent = Some(text);
        replied
    }

    /// Ends the command for now: it is run again when there may be something for it.
    pub fn wait_for(&mut self, wait: Wait) -> CmdResult {
        *self.wait = Some(wait);
        Ok(Replied::later())
    }
}

/// The function behind a command.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Touches keys and the reply only.
    Data(fn(&mut Ctx<'_>) -> CmdResult),
    /// May reach the whole server.
    Admin(fn(&mut Server, ClientKey, Args<'_>) -> CmdResult),
    /// Has subcommands and does nothing by itself.
    Container,
    /// There is none: only other servers of the family have the command.
    Absent,
}

macro_rules! bits {
    ($(#[$meta:meta])* $type:ident: $repr:ty { $($(#[$doc:meta])* $name:ident = $bit:expr, $text:expr;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
        pub struct $type(pub $repr);
        impl $type {
            pub const NONE: $type = $type(0);
            $($(#[$doc])* pub const $name: $type = $type(1 << $bit);)*
            /// Every bit with the name clients see; an empty name is not shown.
            pub const NAMES: &[($type, &'static str)] = &[$(($type::$name, $text),)*];
            pub const fn has(self, other: $type) -> bool { self.0 & other.0 != 0 }
            pub const fn with(self, other: $type) -> $type { $type(self.0 | other.0) }
            pub const fn without(self, other: $type) -> $type { $type(self.0 & !other.0) }
            /// The names of the set bits.
            pub fn names(self) -> impl Iterator<Item = &'static str> + Clone {
                Self::NAMES.iter().filter(move |(bit, name)| self.has(*bit) && !name.is_empty()).map(|(_, name)| *name)
            }
        }
        impl std::ops::BitOr for $type {
            type Output = $type;
            fn bitor(self, other: $type) -> $type { self.with(other) }
        }
    };
}

bits! {
    /// Properties of a command.
    Flags: u32 {
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
    }
}

bits! {
    /// ACL categories.
    Acl: u32 {
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

bits! {
    /// What a command does with the keys of one key specification.
    KeyFlags: u16 {
        RO = 0, "RO";
        RW = 1, "RW";
        OW = 2, "OW";
        RM = 3, "RM";
        ACCESS = 4, "access";
        UPDATE = 5, "update";
        INSERT = 6, "insert";
        DELETE = 7, "delete";
        NOT_KEY = 8, "not_key";
        INCOMPLETE = 9, "incomplete";
        VARIABLE_FLAGS = 10, "variable_flags";
    }
}

/// The group a command belongs to, as `COMMAND DOCS` names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    Bitmap,
    Connection,
    Generic,
    Geo,
    Hash,
    HyperLogLog,
    List,
    PubSub,
    Scripting,
    Server,
    Set,
    SortedSet,
    Stream,
    String,
    Transactions,
}

impl Group {
    /// The name clients see.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Bitmap => "bitmap",
            Group::Connection => "connection",
            Group::Generic => "generic",
            Group::Geo => "geo",
            Group::Hash => "hash",
            Group::HyperLogLog => "hyperloglog",
            Group::List => "list",
            Group::PubSub => "pubsub",
            Group::Scripting => "scripting",
            Group::Server => "server",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Stream => "stream",
            Group::String => "string",
            Group::Transactions => "transactions",
        }
    }
}

/// Where the keys of a specification begin.
#[derive(Clone, Copy, Debug)]
pub enum Begin {
    /// At this argument.
    Index(u16),
    /// After this word, looked for from this argument on (negative: from the end backwards).
    Keyword(&'static str, i16),
    Unknown,
}

/// How the keys go on from there.
#[derive(Clone, Copy, Debug)]
pub enum Find {
    /// `last`: relative to the first, or from the end when negative; every `step`th argument;
    /// `limit`: with `last` −1, only the first 1/limit of what is left.
    Range {
        last: i16,
        step: u16,
        limit: u16,
    },
    /// The number of keys is the argument at `at`, the first key the one at `first`.
    Count {
        at: u16,
        first: u16,
        step: u16,
    },
    Unknown,
}

/// Which arguments of a command are keys, and what becomes of them.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub flags: KeyFlags,
    pub begin: Begin,
    pub find: Find,
    pub notes: &'static str,
}

impl KeySpec {
    /// One key, argument `index`.
    pub const fn at(index: u16) -> KeySpec {
        KeySpec {
            flags: KeyFlags::NONE,
            begin: Begin::Index(index),
            find: Find::Range { last: 0, step: 1, limit: 0 },
            notes: "",
        }
    }

    /// The key after the word `word`, which is looked for from argument `from` on.
    pub const fn after(word: &'static str, from: i16) -> KeySpec {
        KeySpec { begin: Begin::Keyword(word, from), ..KeySpec::at(0) }
    }

    /// Keys that no rule describes.
    pub const fn unknown() -> KeySpec {
        KeySpec { begin: Begin::Unknown, find: Find::Unknown, ..KeySpec::at(0) }
    }

    /// Every `step`th argument up to `last`, which counts from the end when negative.
    pub const fn range(self, last: i16, step: u16, limit: u16) -> KeySpec {
        KeySpec { find: Find::Range { last, step, limit }, ..self }
    }

    /// As many keys as the argument at `at` (counted from where the keys begin) says.
    pub const fn count(self, at: u16, first: u16, step: u16) -> KeySpec {
        KeySpec { find: Find::Count { at, first, step }, ..self }
    }

    /// What the command does with these keys.
    pub const fn flags(self, flags: KeyFlags) -> KeySpec {
        KeySpec { flags, ..self }
    }

    /// A remark for the reader of `COMMAND INFO`.
    pub const fn notes(self, notes: &'static str) -> KeySpec {
        KeySpec { notes, ..self }
    }

    /// Calls `f` with the position of each key in `args`; false when the request does not have
    /// the form the specification describes.
    pub fn positions(&self, args: &Args<'_>, mut f: impl FnMut(usize)) -> bool {
        let first = match self.begin {
            Begin::Index(i) => i as usize,
            Begin::Keyword(word, from) => {
                let found = if from >= 0 {
                    (from as usize..args.len()).find(|&i| args.is(i, word))
                } else {
                    let end = args.len().saturating_sub(from.unsigned_abs() as usize - 1);
                    (1..end).rev().find(|&i| args.is(i, word))
                };
                match found {
                    Some(i) => i + 1,
                    // The optional part is not there, and neither are its keys.
                    None => return true,
                }
            }
            Begin::Unknown => return false,
        };
        let (first, last, step) = match self.find {
            Find::Range { last, step, limit } => {
                let last = if last >= 0 {
                    first + last as usize
                } else if limit <= 1 {
                    match (args.len() as i64) + last as i64 {
                        n if n >= 0 => n as usize,
                        _ => return false,
                    }
                } else {
                    match args.len().checked_sub(first) {
                        Some(rest) => {
                            (first + rest / limit as usize + 1).saturating_sub(last.unsigned_abs() as usize)
                        }
                        None => return false,
                    }
                };
                (first, last, step as usize)
            }
            Find::Count { at, first: offset, step } => {
                let Some(n) = args.get(first + at as usize).and_then(crate::stdx::num::parse_i64) else {
                    return false;
                };
                let begin = first + offset as usize;
                if n < 0 || n as usize > args.len() {
                    return false;
                }
                if n == 0 {
                    return true;
                }
                (begin, begin + (n as usize - 1) * step as usize, step as usize)
            }
            Find::Unknown => return false,
        };
        if first >= args.len() || last >= args.len() || last < first {
            return false;
        }
        for i in (first..=last).step_by(step.max(1)) {
            f(i);
        }
        true
    }
}

/// What a command does with the channels it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChannelUse {
    Publish,
    Subscribe,
    Unsubscribe,
}

/// Which arguments of a command name channels, for rules about who may use which.
#[derive(Clone, Copy, Debug)]
pub struct ChannelSpec {
    /// The first of them.
    pub first: u16,
    /// Whether all arguments behind it are channels too.
    pub all: bool,
    /// They are patterns that stand for the channels they match.
    pub pattern: bool,
    pub usage: ChannelUse,
}

impl ChannelSpec {
    /// Argument 1 is the channel that is published to.
    pub const PUBLISH: ChannelSpec =
        ChannelSpec { first: 1, all: false, pattern: false, usage: ChannelUse::Publish };
    /// All arguments are channels to be listened to.
    pub const SUBSCRIBE: ChannelSpec =
        ChannelSpec { first: 1, all: true, pattern: false, usage: ChannelUse::Subscribe };
    /// All arguments are channels that were listened to.
    pub const UNSUBSCRIBE: ChannelSpec =
        ChannelSpec { first: 1, all: true, pattern: false, usage: ChannelUse::Unsubscribe };

    /// The same, but the arguments are patterns.
    pub const fn patterns(self) -> ChannelSpec {
        ChannelSpec { pattern: true, ..self }
    }

    /// The channels, or patterns, of a request.
    pub fn of<'a>(&self, args: &Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let last = if self.all { args.len() } else { self.first as usize + 1 };
        args.range(self.first as usize..last.min(args.len())).iter()
    }
}

/// The type of an argument, as `COMMAND DOCS` names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgKind {
    String,
    Integer,
    Double,
    Key,
    Pattern,
    UnixTime,
    PureToken,
    OneOf,
    Block,
}

impl ArgKind {
    /// The name clients see.
    pub const fn name(self) -> &'static str {
        match self {
            ArgKind::String => "string",
            ArgKind::Integer => "integer",
            ArgKind::Double => "double",
            ArgKind::Key => "key",
            ArgKind::Pattern => "pattern",
            ArgKind::UnixTime => "unix-time",
            ArgKind::PureToken => "pure-token",
            ArgKind::OneOf => "oneof",
            ArgKind::Block => "block",
        }
    }
}

/// One argument in a command's documentation.
#[derive(Clone, Copy, Debug)]
pub struct Arg {
    pub name: &'static str,
    pub kind: ArgKind,
    pub token: Option<&'static str>,
    pub key_spec: Option<u8>,
    pub since: &'static str,
    pub deprecated: &'static str,
    pub summary: &'static str,
    pub display: Option<&'static str>,
    pub optional: bool,
    pub multiple: bool,
    pub multiple_token: bool,
    pub args: &'static [Arg],
}

impl Arg {
    const fn new(name: &'static str, kind: ArgKind) -> Arg {
        Arg {
            name,
            kind,
            token: None,
            key_spec: None,
            since: "",
            deprecated: "",
            summary: "",
            display: None,
            optional: false,
            multiple: false,
            multiple_token: false,
            args: &[],
        }
    }
    pub const fn string(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::String)
    }
    pub const fn integer(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Integer)
    }
    pub const fn double(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Double)
    }
    pub const fn pattern(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Pattern)
    }
    pub const fn unix_time(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::UnixTime)
    }
    /// A key, described by the command's first key specification unless [`Arg::key_spec`] says otherwise.
    pub const fn key(name: &'static str) -> Arg {
        Arg { key_spec: Some(0), ..Arg::new(name, ArgKind::Key) }
    }
    /// A word that stands for itself.
    pub const fn word(name: &'static str, token: &'static str) -> Arg {
        Arg { token: Some(token), ..Arg::new(name, ArgKind::PureToken) }
    }
    pub const fn one_of(name: &'static str, args: &'static [Arg]) -> Arg {
        Arg { args, ..Arg::new(name, ArgKind::OneOf) }
    }
    pub const fn block(name: &'static str, args: &'static [Arg]) -> Arg {
        Arg { args, ..Arg::new(name, ArgKind::Block) }
    }
    pub const fn token(self, token: &'static str) -> Arg {
        Arg { token: Some(token), ..self }
    }
    pub const fn key_spec(self, index: u8) -> Arg {
        Arg { key_spec: Some(index), ..self }
    }
    pub const fn since(self, since: &'static str) -> Arg {
        Arg { since, ..self }
    }
    pub const fn deprecated(self, deprecated: &'static str) -> Arg {
        Arg { deprecated, ..self }
    }
    pub const fn summary(self, summary: &'static str) -> Arg {
        Arg { summary, ..self }
    }
    pub const fn display(self, display: &'static str) -> Arg {
        Arg { display: Some(display), ..self }
    }
    pub const fn optional(self) -> Arg {
        Arg { optional: true, ..self }
    }
    pub const fn multiple(self) -> Arg {
        Arg { multiple: true, ..self }
    }
    pub const fn multiple_token(self) -> Arg {
        Arg { multiple_token: true, ..self }
    }
}

/// What `COMMAND DOCS` tells about a command.
#[derive(Clone, Copy, Debug)]
pub struct Docs {
    pub summary: &'static str,
    pub since: &'static str,
    pub complexity: &'static str,
    pub group: Group,
    pub deprecated_since: &'static str,
    pub replaced_by: &'static str,
    pub history: &'static [(&'static str, &'static str)],
    pub args: &'static [Arg],
}

impl Docs {
    pub const NONE: Docs = Docs {
        summary: "",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        deprecated_since: "",
        replaced_by: "",
        history: &[],
        args: &[],
    };
}

/// Calls its second argument with the position of each key of a request and what happens to it;
/// false when the request does not have the command's form.
pub type FindKeys = fn(&Args<'_>, &mut dyn FnMut(usize, KeyFlags)) -> bool;

/// Calls its second argument with the position of each argument that nobody but the server may see.
pub type FindSecrets = fn(&Args<'_>, &mut dyn FnMut(usize));

/// One command or subcommand.
#[derive(Clone, Copy)]
pub struct Spec {
    /// In lower case; a subcommand's is `container|name`.
    pub name: &'static str,
    /// How many arguments there must be, the name included; at least so many when negative.
    pub arity: i16,
    pub flags: Flags,
    pub acl: Acl,
    pub keys: &'static [KeySpec],
    pub channels: Option<ChannelSpec>,
    pub handler: Handler,
    pub subcommands: &'static [Spec],
    pub tips: &'static [&'static str],
    pub docs: Docs,
    /// Finds the keys of a request where the specifications cannot.
    pub find_keys: Option<FindKeys>,
    /// Finds passwords and the like, which logs and monitors leave out.
    pub secrets: Option<FindSecrets>,
    pub seeks: Seeks,
}

/// What a command looks for in the value at its first key, and at which argument the request says so: the way
/// there is gone ahead of the command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seeks {
    /// It looks into no collection, or there is no saying where.
    Nothing,
    /// A string, if it is a long one, which lies apart from its key.
    LongString,
    /// The beginning.
    Start,
    /// A member or field.
    Member(usize),
    /// A member and its place in the order.
    Place(usize),
    /// A score, and behind it the member that will have it.
    Score(usize),
    /// The first and the last rank of a range, from the highest rank if `reverse`.
    Ranks { at: usize, reverse: bool },
}

impl Spec {
    const fn new(name: &'static str, arity: i16, handler: Handler) -> Spec {
        Spec {
            name,
            arity,
            flags: Flags::NONE,
            acl: Acl::NONE,
            keys: &[],
            channels: None,
            handler,
            subcommands: &[],
            tips: &[],
            docs: Docs::NONE,
            find_keys: None,
            secrets: None,
            seeks: Seeks::Nothing,
        }
    }

    /// A command that touches keys and its reply only.
    pub const fn data(name: &'static str, arity: i16, handler: fn(&mut Ctx<'_>) -> CmdResult) -> Spec {
        Spec::new(name, arity, Handler::Data(handler))
    }

    /// A command that may reach the whole server.
    pub const fn admin(
        name: &'static str,
        arity: i16,
        handler: fn(&mut Server, ClientKey, Args<'_>) -> CmdResult,
    ) -> Spec {
        Spec::new(name, arity, Handler::Admin(handler))
    }

    /// A command that has subcommands and does nothing by itself.
    pub const fn container(name: &'static str, arity: i16, subcommands: &'static [Spec]) -> Spec {
        Spec { subcommands, ..Spec::new(name, arity, Handler::Container) }
    }

    /// A command that other servers of the family have. Only rules and renamings may name it; a container's
    /// subcommands are entries of their own.
    pub const fn absent(name: &'static str) -> Spec {
        Spec::new(name, 0, Handler::Absent)
    }

    pub const fn flags(self, flags: Flags) -> Spec {
        Spec { flags, ..self }
    }

    /// The categories that do not follow from the flags.
    pub const fn acl(self, acl: Acl) -> Spec {
        Spec { acl, ..self }
    }

    pub const fn keys(self, keys: &'static [KeySpec]) -> Spec {
        Spec { keys, ..self }
    }

    pub const fn channels(self, channels: ChannelSpec) -> Spec {
        Spec { channels: Some(channels), ..self }
    }

    pub const fn tips(self, tips: &'static [&'static str]) -> Spec {
        Spec { tips, ..self }
    }

    pub const fn docs(self, docs: Docs) -> Spec {
        Spec { docs, ..self }
    }

    pub const fn find_keys(self, find: FindKeys) -> Spec {
        Spec { find_keys: Some(find), ..self }
    }

    pub const fn secrets(self, find: FindSecrets) -> Spec {
        Spec { secrets: Some(find), ..self }
    }

    pub const fn seeks(self, seeks: Seeks) -> Spec {
        Spec { seeks, ..self }
    }

    /// What a request looks for in the collection at its first key, if that can be told. A request with options may be
    /// misunderstood: nothing depends on this but how soon memory comes in.
    #[inline]
    pub fn aim<'a>(&self, args: &Args<'a>) -> Option<Aim<'a>> {
        Some(match self.seeks {
            Seeks::Nothing => return None,
            Seeks::Start | Seeks::LongString => Aim::Start,
            Seeks::Member(i) => Aim::Member(args.get(i)?),
            Seeks::Place(i) => Aim::Place(args.get(i)?),
            Seeks::Score(i) => Aim::Score(args.get(i + 1)?, num::parse_f64(args.get(i)?)?),
            Seeks::Ranks { at, reverse } => Aim::Ranks {
                start: num::parse_i64(args.get(at)?)?,
                stop: num::parse_i64(args.get(at + 1)?)?,
                reverse,
            },
        })
    }

    /// The arguments of a request as others may see them.
    pub fn shown<'a>(&self, args: &Args<'a>) -> Vec<&'a [u8]> {
        let mut shown: Vec<&[u8]> = args.iter().collect();
        if let Some(find) = self.secrets {
            find(args, &mut |i| shown[i] = b"(redacted)");
        }
        shown
    }

    /// The name within its container, or the whole name.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('|').next().expect("rsplit yields at least one part")
    }

    /// Whether a request of `args` arguments has the right number of them.
    #[inline]
    pub fn accepts(&self, args: usize) -> bool {
        if self.arity >= 0 { args == self.arity as usize } else { args >= self.arity.unsigned_abs() as usize }
    }

    /// All ACL categories, those that follow from the flags included.
    pub fn categories(&self) -> Acl {
        let mut acl = self.acl;
        let flags = self.flags;
        if flags.has(Flags::WRITE) {
            acl = acl | Acl::WRITE;
        }
        if flags.has(Flags::READONLY) && !acl.has(Acl::SCRIPTING) {
            acl = acl | Acl::READ;
        }
        if flags.has(Flags::ADMIN) {
            acl = acl | Acl::ADMIN | Acl::DANGEROUS;
        }
        if flags.has(Flags::PUBSUB) {
            acl = acl | Acl::PUBSUB;
        }
        if flags.has(Flags::BLOCKING) {
            acl = acl | Acl::BLOCKING;
        }
        acl | if flags.has(Flags::FAST) { Acl::FAST } else { Acl::SLOW }
    }

    /// Calls `f` with the position of each key of a request and what happens to it; false when
    /// the request does not have the command's form.
    pub fn each_key(&self, args: &Args<'_>, f: &mut dyn FnMut(usize, KeyFlags)) -> bool {
        if let Some(find) = self.find_keys {
            return find(args, f);
        }
        self.keys.iter().filter(|spec| !spec.flags.has(KeyFlags::NOT_KEY)).all(|spec| {
            let complete = spec.positions(args, |i| f(i, spec.flags));
            complete || spec.flags.has(KeyFlags::INCOMPLETE)
        })
    }

    /// Whether the keys of a request are all known although [`Spec::each_key`] says that its form is not the
    /// command's: a list of keys that may be empty has none.
    pub fn has_empty_list(&self, args: &Args<'_>) -> bool {
        self.find_keys.is_none()
            && self.keys.iter().all(|spec| match (spec.begin, spec.find) {
                (Begin::Index(at), Find::Range { last: -1, step: 1, .. }) if at as usize == args.len() => {
                    true
                }
                _ => spec.positions(args, |_| {}),
            })
    }

    /// Whether some key's place depends on the request.
    pub fn has_movable_keys(&self) -> bool {
        let fixed = |spec: &KeySpec| matches!((spec.begin, spec.find), (Begin::Index(_), Find::Range { .. }));
        !self.keys.iter().all(fixed)
    }

    /// Whether some argument may be a key.
    pub fn has_keys(&self) -> bool {
        self.find_keys.is_some() || self.keys.iter().any(|spec| !spec.flags.has(KeyFlags::NOT_KEY))
    }

    /// The classic triple of `COMMAND INFO`: first key, last key, step.
    pub fn key_range(&self) -> (i64, i64, i64) {
        // Specifications that begin at a fixed argument and follow one another are one range.
        let mut range: Option<(i64, i64, i64)> = None;
        for spec in self.keys {
            let (Begin::Index(first), Find::Range { last, step, limit: 0 | 1 }) = (spec.begin, spec.find)
            else {
                continue;
            };
            let first = first as i64;
            let last = if last >= 0 { first + last as i64 } else { last as i64 };
            range = match range {
                None => Some((first, last, step as i64)),
                Some((f, l, s)) if l >= 0 && first == l + 1 => Some((f, last, s)),
                other => other,
            };
        }
        range.unwrap_or((0, 0, 0))
    }
}

/// A command as the running server knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandId(pub u16);

/// All commands, found by name.
///
/// The table of names is open-addressed over a hash of the length and the first bytes, folded to
/// lower case, and a quarter full at most: a lookup is one probe and one comparison. Most names are short and
/// all letters; their eight bytes, folded, are compared as a number.
pub struct Commands {
    specs: Vec<&'static Spec>,
    /// The name each is called by, unless the configuration took it away.
    names: Vec<Option<Box<[u8]>>>,
    /// Of each container: its subcommands' identities.
    subcommands: Vec<Vec<CommandId>>,
    slots: Vec<NameSlot>,
    top_level: usize,
    /// What only other servers of the family have.
    absent: Vec<&'static Spec>,
}

/// A place in the table of names.
#[derive(Clone, Copy)]
struct NameSlot {
    /// The folded beginning of the name.
    head: u64,
    id: u16,
    len: u16,
    /// Whether all that has this length and folds to `head` is this name: it is no longer than `head`, and only
    /// letters, of which folding forgets nothing but the case.
    exact: bool,
}

const EMPTY: u16 = u16::MAX;
const EMPTY_SLOT: NameSlot = NameSlot { head: 0, id: EMPTY, len: 0, exact: false };

/// The first bytes of a name, up to eight, each with the bit set that tells lower from upper case. Names of one
/// length are folded from the same places.
#[inline]
fn fold(name: &[u8]) -> u64 {
    // Two loads that may overlap cover any length; only the number of bytes decides which.
    let word = if let Some(first) = name.first_chunk::<8>() {
        u64::from_le_bytes(*first)
    } else if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
    } else if let (Some(first), Some(last)) = (name.first_chunk::<2>(), name.last_chunk::<2>()) {
        u64::from(u16::from_le_bytes(*first)) | u64::from(u16::from_le_bytes(*last)) << 32
    } else {
        u64::from(name.first().copied().unwrap_or(0))
    };
    word | 0x2020_2020_2020_2020
}

/// Where to look for a name that folds to `head`, before masking.
#[inline]
fn place_of(name: &[u8], head: u64) -> usize {
    let tail = match name.last_chunk::<4>() {
        Some(last) if name.len() > 8 => u64::from(u32::from_le_bytes(*last) | 0x2020_2020) << 20,
        _ => 0,
    };
    let mixed = (head ^ tail ^ (name.len() as u64) << 56).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 40) as usize
}

impl Commands {
    /// The commands of all `groups`.
    pub fn new(groups: &[&'static [Spec]]) -> Self {
        let all = groups.iter().flat_map(|group| group.iter());
        let (absent, mut specs): (Vec<&'static Spec>, Vec<&'static Spec>) =
            all.partition(|spec| matches!(spec.handler, Handler::Absent));
        let top_level = specs.len();
        let mut subcommands = vec![Vec::new(); top_level];
        for i in 0..top_level {
            for sub in specs[i].subcommands {
                subcommands[i].push(CommandId(specs.len() as u16));
                specs.push(sub);
            }
        }
        let names = specs.iter().map(|spec| Some(spec.name.as_bytes().into())).collect();
        let mut commands = Commands { specs, names, subcommands, slots: Vec::new(), top_level, absent };
        commands.index();
        commands
    }

    /// Builds the table of names anew.
    fn index(&mut self) {
        let size = (self.top_level * 4).next_power_of_two();
        self.slots = vec![EMPTY_SLOT; size];
        for (i, name) in self.names[..self.top_level].iter().enumerate() {
            let Some(name) = name else { continue };
            let head = fold(name);
            let mut at = place_of(name, head) & (size - 1);
            while self.slots[at].id != EMPTY {
                assert_ne!(
                    self.names[self.slots[at].id as usize].as_ref(),
                    Some(name),
                    "two commands of one name"
                );
                at = (at + 1) & (size - 1);
            }
            let exact = name.len() <= 8 && name.iter().all(u8::is_ascii_alphabetic);
            // A name from the configuration may be of any length; none as long as that is asked for.
            let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
            self.slots[at] = NameSlot { head, id: i as u16, len, exact };
        }
    }

    /// Has the command `from` called `to` from now on, or by no name at all when `to` is empty. For a command that
    /// is not here there is nothing to do.
    ///
    /// # Errors
    /// There is no such command, or another one has that name already.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), &'static str> {
        let found = self.find(from);
        if found.is_none() && !self.absent.iter().any(|spec| from.eq_ignore_ascii_case(spec.name.as_bytes()))
        {
            return Err("No such command in rename-command");
        }
        if !to.is_empty() && self.find(to).is_some() {
            return Err("Target command name already exists");
        }
        let Some(id) = found else { return Ok(()) };
        self.names[id.0 as usize] = (!to.is_empty()).then(|| to.to_ascii_lowercase().into());
        self.index();
        Ok(())
    }

    /// The command called `name`, in any case. Subcommands are not looked at.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<CommandId> {
        let mask = self.slots.len() - 1;
        let head = fold(name);
        let mut at = place_of(name, head) & mask;
        loop {
            let slot = self.slots[at];
            if slot.head == head
                && usize::from(slot.len) == name.len()
                && (slot.exact || self.is_called(slot.id, name))
            {
                return Some(CommandId(slot.id));
            }
            if slot.id == EMPTY {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    #[inline(never)]
    fn is_called(&self, id: u16, name: &[u8]) -> bool {
        let known = self.names.get(id as usize).and_then(Option::as_ref);
        known.is_some_and(|known| name.eq_ignore_ascii_case(known))
    }

    /// The subcommand of `container` called `name`, in any case.
    pub fn find_sub(&self, container: CommandId, name: &[u8]) -> Option<CommandId> {
        let subs = self.subcommands.get(container.0 as usize)?;
        subs.iter().copied().find(|&sub| name.eq_ignore_ascii_case(self.spec(sub).short_name().as_bytes()))
    }

    /// The command or subcommand that a request for the command `id` is for; `None` if there is no such subcommand.
    pub fn meant(&self, id: CommandId, args: &Args<'_>) -> Option<CommandId> {
        match args.get(1) {
            Some(sub) if !self.spec(id).subcommands.is_empty() => self.find_sub(id, sub),
            _ => Some(id),
        }
    }

    /// The command that has `spec` among its subcommands.
    pub fn container(&self, spec: &Spec) -> Option<CommandId> {
        let (container, _) = spec.name.split_once('|')?;
        let place = self.specs[..self.top_level].iter().position(|spec| spec.name == container)?;
        Some(CommandId(place as u16))
    }

    /// The command or subcommand a request means. `name` may be `container|sub`.
    pub fn find_full(&self, name: &[u8]) -> Option<CommandId> {
        match name.iter().position(|&b| b == b'|') {
            None => self.find(name),
            Some(bar) => self.find_sub(self.find(&name[..bar])?, &name[bar + 1..]),
        }
    }

    /// What is known about a command.
    #[inline]
    pub fn spec(&self, id: CommandId) -> &'static Spec {
        self.specs[id.0 as usize]
    }

    /// How many there are, subcommands included: identities are below this.
    pub fn len(&self) -> usize {
        self.specs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
    }

    /// The commands that are not subcommands.
    pub fn top_level(&self) -> impl ExactSizeIterator<Item = &'static Spec> + '_ {
        self.specs[..self.top_level].iter().copied()
    }

    /// The commands and subcommands that only other servers of the family have.
    pub fn absent(&self) -> &[&'static Spec] {
        &self.absent
    }

    /// Commands and subcommands with their identities.
    pub fn iter(&self) -> impl Iterator<Item = (CommandId, &'static Spec)> + '_ {
        self.specs.iter().enumerate().map(|(i, spec)| (CommandId(i as u16), *spec))
    }
}
