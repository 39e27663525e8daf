//! What `COMMAND DOCS` tells about a command and its arguments.

/// The group a command belongs to, as `COMMAND DOCS` names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Strings as arrays of bits.
    Bitmap,
    /// Nodes of a cluster.
    Cluster,
    /// The connection of a client.
    Connection,
    /// Keys of any type.
    Generic,
    /// Geographic positions.
    Geo,
    /// Hashes.
    Hash,
    /// HyperLogLogs.
    HyperLogLog,
    /// Lists.
    List,
    /// Publish/subscribe.
    PubSub,
    /// Scripts and functions.
    Scripting,
    /// Sentinel.
    Sentinel,
    /// The server as a whole.
    Server,
    /// Sets.
    Set,
    /// Sorted sets.
    SortedSet,
    /// Streams.
    Stream,
    /// Strings.
    String,
    /// Transactions.
    Transactions,
    /// Vector sets.
    VectorSet,
}

impl Group {
    /// The name clients see.
    pub const fn name(self) -> &'static str {
        match self {
            Group::Bitmap => "bitmap",
            Group::Cluster => "cluster",
            Group::Connection => "connection",
            Group::Generic => "generic",
            Group::Geo => "geo",
            Group::Hash => "hash",
            Group::HyperLogLog => "hyperloglog",
            Group::List => "list",
            Group::PubSub => "pubsub",
            Group::Scripting => "scripting",
            Group::Sentinel => "sentinel",
            Group::Server => "server",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Stream => "stream",
            Group::String => "string",
            Group::Transactions => "transactions",
            Group::VectorSet => "vector-set",
        }
    }
}

/// The type of an argument, as `COMMAND DOCS` names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ArgKind {
    /// Any bytes.
    String,
    /// An integer.
    Integer,
    /// A floating-point number.
    Double,
    /// The name of a key.
    Key,
    /// A glob pattern.
    Pattern,
    /// A Unix time.
    UnixTime,
    /// A word without a value.
    PureToken,
    /// One of several alternatives.
    OneOf,
    /// Several arguments in sequence.
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
    /// Name of the argument.
    pub name: &'static str,
    /// Type of the argument.
    pub kind: ArgKind,
    /// Word that precedes the argument.
    pub token: Option<&'static str>,
    /// Index of the key specification that finds the argument.
    pub key_spec: Option<u8>,
    /// Version that added the argument; empty if that is the command's.
    pub since: &'static str,
    /// Version that deprecated the argument; empty if none did.
    pub deprecated: &'static str,
    /// Description of the argument; empty for none.
    pub summary: &'static str,
    /// Name to display instead of `name`.
    pub display: Option<&'static str>,
    /// Whether the argument may be left out.
    pub optional: bool,
    /// Whether the argument may be repeated.
    pub multiple: bool,
    /// Whether each repetition has the token.
    pub multiple_token: bool,
    /// Alternatives or parts of the argument.
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
    /// An argument of any bytes.
    pub const fn string(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::String)
    }
    /// An integer argument.
    pub const fn integer(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Integer)
    }
    /// A floating-point argument.
    pub const fn double(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Double)
    }
    /// A glob pattern.
    pub const fn pattern(name: &'static str) -> Arg {
        Arg::new(name, ArgKind::Pattern)
    }
    /// A Unix time.
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
    /// One of the alternatives `args`.
    pub const fn one_of(name: &'static str, args: &'static [Arg]) -> Arg {
        Arg { args, ..Arg::new(name, ArgKind::OneOf) }
    }
    /// The arguments `args` in sequence.
    pub const fn block(name: &'static str, args: &'static [Arg]) -> Arg {
        Arg { args, ..Arg::new(name, ArgKind::Block) }
    }
    /// Sets the word that precedes the argument.
    pub const fn token(self, token: &'static str) -> Arg {
        Arg { token: Some(token), ..self }
    }
    /// Sets the key specification that finds the argument.
    pub const fn key_spec(self, index: u8) -> Arg {
        Arg { key_spec: Some(index), ..self }
    }
    /// Sets the version that added the argument.
    pub const fn since(self, since: &'static str) -> Arg {
        Arg { since, ..self }
    }
    /// Sets the version that deprecated the argument.
    pub const fn deprecated(self, deprecated: &'static str) -> Arg {
        Arg { deprecated, ..self }
    }
    /// Sets the description of the argument.
    pub const fn summary(self, summary: &'static str) -> Arg {
        Arg { summary, ..self }
    }
    /// Sets the name to display.
    pub const fn display(self, display: &'static str) -> Arg {
        Arg { display: Some(display), ..self }
    }
    /// Makes the argument optional.
    pub const fn optional(self) -> Arg {
        Arg { optional: true, ..self }
    }
    /// Makes the argument repeatable.
    pub const fn multiple(self) -> Arg {
        Arg { multiple: true, ..self }
    }
    /// Makes the argument repeatable, each time with its token.
    pub const fn multiple_token(self) -> Arg {
        Arg { multiple_token: true, ..self }
    }
}

/// What `COMMAND DOCS` tells about a command.
#[derive(Clone, Copy, Debug)]
pub struct Docs {
    /// What the command does, in one sentence.
    pub summary: &'static str,
    /// Version that added the command.
    pub since: &'static str,
    /// Time complexity.
    pub complexity: &'static str,
    /// Group of the command.
    pub group: Group,
    /// Version that deprecated the command; empty if none did.
    pub deprecated_since: &'static str,
    /// What to use instead of a deprecated command; empty otherwise.
    pub replaced_by: &'static str,
    /// Whether the command is for servers and those who test them, not for applications.
    pub internal: bool,
    /// Changes: version and description.
    pub history: &'static [(&'static str, &'static str)],
    /// Arguments after the name.
    pub args: &'static [Arg],
}

impl Docs {
    /// Empty documentation.
    pub const NONE: Docs = Docs {
        summary: "",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        deprecated_since: "",
        replaced_by: "",
        internal: false,
        history: &[],
        args: &[],
    };
}
