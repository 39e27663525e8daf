//! Types of options that are more than a number or a text, with their reading and printing.
//!
//! There are two families. A [`Choice`] is one word out of a list. [`Words`] covers several words and special
//! notations: save rules, buffer limits, addresses to bind, event classes. Every printed value can be read back.

use std::borrow::Cow;

use crate::stdx::bits::bit_set;
use crate::stdx::num::{parse_f64, parse_i64, parse_memory};

/// Why a value was refused, in words for the client.
pub type Reason = Cow<'static, str>;

/// One word out of a list. Reading ignores letter case.
pub trait Choice: Copy + PartialEq + 'static {
    /// All words and their meanings, in the order in which error messages list them.
    const ALL: &'static [(&'static str, Self)];

    /// The word for this choice.
    fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, choice)| *choice == self)
            .map(|(name, _)| *name)
            .expect("ALL lists every choice")
    }
}

/// Defines an enum with a word for each variant, as a [`Choice`].
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl Choice for $name {
            const ALL: &'static [(&'static str, Self)] = &[$(($word, $name::$variant),)+];
        }
    };
}

choice! {
    /// Service manager to notify about start and stop.
    Supervised {
        /// upstart, by stopping the process once.
        Upstart = "upstart",
        /// systemd, through its notification socket.
        Systemd = "systemd",
        /// The manager that the environment names.
        Auto = "auto",
        /// No manager.
        No = "no",
    }
}

choice! {
    /// Whether a client of a TLS port must show a certificate.
    TlsAuthClients {
        /// No certificate is needed, and one that is shown is ignored.
        No = "no",
        /// A certificate is required.
        Yes = "yes",
        /// No certificate is needed, but one that is shown must be valid.
        Optional = "optional",
    }
}

choice! {
    /// Field of a client's certificate that names the user it acts as.
    TlsUserField {
        /// The common name of the subject.
        CommonName = "CN",
        /// The first URI among the alternative names of the subject.
        Uri = "URI",
        /// None: a certificate names no user.
        Off = "off",
    }
}

choice! {
    /// Channels that a new user may use.
    AclPubsubDefault {
        /// All channels.
        AllChannels = "allchannels",
        /// No channels.
        ResetChannels = "resetchannels",
    }
}

choice! {
    /// Who may use a dangerous feature.
    DebugAccess {
        /// Nobody.
        No = "no",
        /// Everybody.
        Yes = "yes",
        /// Clients on the loopback interface and the Unix socket.
        Local = "local",
    }
}

choice! {
    /// Which keys are evicted when memory is used up.
    EvictionPolicy {
        /// Least recently used keys among those with an expiry.
        VolatileLru = "volatile-lru",
        /// Least frequently used keys among those with an expiry.
        VolatileLfu = "volatile-lfu",
        /// Least recently modified keys among those with an expiry.
        VolatileLrm = "volatile-lrm",
        /// Random keys among those with an expiry.
        VolatileRandom = "volatile-random",
        /// Keys that expire soonest.
        VolatileTtl = "volatile-ttl",
        /// Least recently used keys.
        AllkeysLru = "allkeys-lru",
        /// Least frequently used keys.
        AllkeysLfu = "allkeys-lfu",
        /// Least recently modified keys.
        AllkeysLrm = "allkeys-lrm",
        /// Random keys.
        AllkeysRandom = "allkeys-random",
        /// None: commands that need memory fail.
        NoEviction = "noeviction",
    }
}

choice! {
    /// Whether the structure of a dumped value is checked.
    SanitizePayload {
        /// Never.
        No = "no",
        /// Always.
        Yes = "yes",
        /// When a client sends it, unless the user is exempt.
        Clients = "clients",
    }
}

choice! {
    /// When the append-only file is flushed to disk.
    AppendFsync {
        /// Once per second.
        EverySec = "everysec",
        /// Before the reply to a write.
        Always = "always",
        /// Never by the server; the kernel decides.
        No = "no",
    }
}

choice! {
    /// What a replica acknowledges before a reply is sent.
    DurableMode {
        /// That it has applied the change.
        Memory = "memory",
        /// That its append-only file has the change, on disk.
        Fsync = "fsync",
    }
}

choice! {
    /// Whether a full copy may be loaded without a file.
    DisklessLoad {
        /// Only through a file.
        Disabled = "disabled",
        /// Without a file, if there is no data to lose.
        OnEmptyDb = "on-empty-db",
        /// Without a file, keeping the old data until the copy is complete.
        SwapDb = "swapdb",
    }
}

choice! {
    /// What to do about an error in a command that should not fail.
    PropagationError {
        /// Count the error, and go on.
        Ignore = "ignore",
        /// Stop the server.
        Panic = "panic",
        /// Stop the server if the command came from its primary.
        PanicOnReplicas = "panic-on-replicas",
    }
}

choice! {
    /// How a redirection names a node.
    EndpointType {
        /// By address.
        Ip = "ip",
        /// By host name.
        Hostname = "hostname",
        /// Without a name: the client keeps the address it used.
        Unknown = "unknown-endpoint",
    }
}

choice! {
    /// Level of log messages, lowest first.
    LogLevel {
        /// For development.
        Debug = "debug",
        /// Rarely useful details.
        Verbose = "verbose",
        /// Messages that operators want to see.
        Notice = "notice",
        /// Messages that operators must see.
        Warning = "warning",
        /// Nothing.
        Nothing = "nothing",
    }
}

choice! {
    /// Form of the log's lines.
    LogFormat {
        /// As Redis has always written them.
        Legacy = "legacy",
        /// Pairs of name and value.
        Logfmt = "logfmt",
        /// Objects of JSON.
        Json = "json",
    }
}

choice! {
    /// Form of the time in the log's lines.
    LogTimestampFormat {
        /// Day, month, year and local time.
        Legacy = "legacy",
        /// Local time with its offset from UTC, as ISO 8601 has it.
        Iso8601 = "iso8601",
        /// Milliseconds since 1970.
        Milliseconds = "milliseconds",
    }
}

choice! {
    /// Facility of syslog messages.
    SyslogFacility {
        /// `LOG_USER`.
        User = "user",
        /// `LOG_LOCAL0`.
        Local0 = "local0",
        /// `LOG_LOCAL1`.
        Local1 = "local1",
        /// `LOG_LOCAL2`.
        Local2 = "local2",
        /// `LOG_LOCAL3`.
        Local3 = "local3",
        /// `LOG_LOCAL4`.
        Local4 = "local4",
        /// `LOG_LOCAL5`.
        Local5 = "local5",
        /// `LOG_LOCAL6`.
        Local6 = "local6",
        /// `LOG_LOCAL7`.
        Local7 = "local7",
    }
}

choice! {
    /// Whether and how the kernel's out-of-memory score is set.
    OomScoreAdj {
        /// It is left alone.
        No = "no",
        /// As `relative`.
        Yes = "yes",
        /// The values are added to the score at start.
        Relative = "relative",
        /// The values are the score.
        Absolute = "absolute",
    }
}

choice! {
    /// The server whose version clients are told, and whose answer they get where servers differ.
    CompatVersion {
        /// Redis 7.2.4.
        Redis7_2 = "7.2.4",
        /// Redis 8.2.3.
        Redis8_2 = "8.2.3",
        /// Valkey 9.1.2.
        Valkey9_1 = "valkey-9.1.2",
    }
}

impl CompatVersion {
    /// Name and version of the server, as HELLO tells them.
    pub fn server(self) -> (&'static str, &'static str) {
        match self {
            CompatVersion::Redis7_2 => ("redis", "7.2.4"),
            CompatVersion::Redis8_2 => ("redis", "8.2.3"),
            CompatVersion::Valkey9_1 => ("valkey", "9.1.2"),
        }
    }

    /// The version of Redis. Valkey says which one it began as.
    pub fn redis_version(self) -> &'static str {
        match self {
            CompatVersion::Redis8_2 => "8.2.3",
            CompatVersion::Redis7_2 | CompatVersion::Valkey9_1 => "7.2.4",
        }
    }

    /// Whether it is one of the servers that came after Redis 7.2.
    pub fn is_newer(self) -> bool {
        self != CompatVersion::Redis7_2
    }

    /// Whether it is Valkey.
    pub fn is_valkey(self) -> bool {
        self == CompatVersion::Valkey9_1
    }
}

/// A number of bytes, or a percentage of `maxmemory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryOrPercent {
    /// Bytes; 0 for no limit.
    Bytes(u64),
    /// Percent of `maxmemory`, up to 100.
    Percent(u8),
}

impl MemoryOrPercent {
    /// The limit in bytes; `None` for no limit, also for a percentage of an unlimited `maxmemory`.
    pub fn bytes(self, maxmemory: u64) -> Option<u64> {
        let bytes = match self {
            MemoryOrPercent::Bytes(bytes) => bytes,
            MemoryOrPercent::Percent(percent) => (u128::from(maxmemory) * u128::from(percent) / 100) as u64,
        };
        (bytes > 0).then_some(bytes)
    }
}

/// A value of several words, or in a notation of its own.
pub trait Words: Clone + PartialEq + 'static {
    /// Whether a second directive in one file leaves parts of the first as they are.
    const ADDS_UP: bool = false;

    /// Reads the words of one directive. Parts that the words do not mention stay as they are.
    fn read(&mut self, words: &[&[u8]]) -> Result<(), Reason>;

    /// Reads another directive of the same name in one configuration file.
    fn read_again(&mut self, words: &[&[u8]]) -> Result<(), Reason> {
        self.read(words)
    }

    /// The value as CONFIG GET shows it.
    fn print(&self) -> String;

    /// The directives that restore the value, without the name; empty if none is needed.
    fn lines(&self) -> Vec<String> {
        let text = self.print();
        vec![if text.is_empty() { "\"\"".into() } else { text }]
    }
}

/// Joins the printed items with spaces.
fn join<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

/// A word as text.
fn utf8(word: &[u8]) -> Result<&str, Reason> {
    std::str::from_utf8(word).map_err(|_| "argument must be valid UTF-8".into())
}

/// Addresses to listen on.
impl Words for Vec<String> {
    fn read(&mut self, words: &[&[u8]]) -> Result<(), Reason> {
        const MAX: usize = 16;
        if words.len() > MAX {
            return Err("Too many bind addresses specified.".into());
        }
        *self = words.iter().map(|word| utf8(word).map(String::from)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn print(&self) -> String {
        self.join(" ")
    }
}

/// A rule that takes a snapshot once `changes` changes are `seconds` old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaveRule {
    /// Seconds since the last snapshot.
    pub seconds: u32,
    /// Changes since the last snapshot.
    pub changes: u32,
}

/// When to take snapshots automatically; without rules, never.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaveRules(pub Vec<SaveRule>);

impl Default for SaveRules {
    fn default() -> Self {
        SaveRules(
            [(3600, 1), (300, 100), (60, 10_000)]
                .map(|(seconds, changes)| SaveRule { seconds, changes })
                .into(),
        )
    }
}

impl SaveRules {
    fn parse(words: &[&[u8]]) -> Result<Vec<SaveRule>, Reason> {
        let number = |word, least| {
            let number = parse_i64(word).filter(|number| (least..=i64::from(i32::MAX)).contains(number));
            number.map(|number| number as u32).ok_or(Reason::from("Invalid save parameters"))
        };
        let (pairs, rest) = words.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("Invalid save parameters".into());
        }
        pairs
            .iter()
            .map(|[seconds, changes]| {
                Ok(SaveRule { seconds: number(seconds, 1)?, changes: number(changes, 0)? })
            })
            .collect()
    }
}

impl Words for SaveRules {
    const ADDS_UP: bool = true;

    fn read(&mut self, words: &[&[u8]]) -> Result<(), Reason> {
        self.0 = Self::parse(words)?;
        Ok(())
    }

    /// Rules add up; a directive without any removes the earlier ones.
    fn read_again(&mut self, words: &[&[u8]]) -> Result<(), Reason> {
        let rules = Self::parse(words)?;
        if rules.is_empty() {
            self.0.clear();
        }
        self.0.extend(rules);
        Ok(())
    }

    fn print(&self) -> String {
        join(self.0.iter().flat_map(|rule| [rule.seconds, rule.changes]))
    }

    fn lines(&self) -> Vec<String> {
        if self.0.is_empty() {
            return vec!["\"\"".into()];
        }
        self.0.iter().map(|rule| format!("{} {}", rule.seconds, rule.changes)).collect()
    }
}

/// Limits of the unsent output of one client, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputBufferLimit {
    /// Size above which the client is closed at once; 0 for no limit.
    pub hard_bytes: u64,
    /// Size above which the client is closed after `soft_seconds`; 0 for no limit.
    pub soft_bytes: u64,
    /// Time that the client may stay above `soft_bytes`, in seconds.
    pub soft_seconds: u32,
}

/// Limits of output by class of client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputBufferLimits {
    /// Clients that belong to neither other class.
    pub normal: OutputBufferLimit,
    /// Replicas.
    pub replica: OutputBufferLimit,
    /// Clients subscribed to a channel or pattern.
    pub pubsub: OutputBufferLimit,
}

impl Default for OutputBufferLimits {
    fn default() -> Self {
        let limit =
            |hard_bytes, soft_bytes, soft_seconds| OutputBufferLimit { hard_bytes, soft_bytes, soft_seconds };
        OutputBufferLimits {
            normal: limit(0, 0, 0),
            replica: limit(256 << 20, 64 << 20, 60),
            pubsub: limit(32 << 20, 8 << 20, 60),
        }
    }
}

impl Words for OutputBufferLimits {
    const ADDS_UP: bool = true;

    fn read(&mut self, words: &[&[u8]]) -> Result<(), Reason> {
        let (classes, rest) = words.as_chunks::<4>();
        if !rest.is_empty() {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        }
        for [class, hard, soft, seconds] in classes {
            let limit = match class.to_ascii_lowercase().as_slice() {
                b"normal" => &mut self.normal,
                b"replica" | b"slave" => &mut self.replica,
                b"pubsub" => &mut self.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
            };
            let seconds = parse_i64(seconds).filter(|seconds| (0..=i64::from(i32::MAX)).contains(seconds));
            let (Some(hard_bytes), Some(soft_bytes), Some(seconds)) =
                (parse_memory(hard), parse_memory(soft), seconds)
            else {
                return Err(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration.".into()
                );
            };
            *limit = OutputBufferLimit { hard_bytes, soft_bytes, soft_seconds: seconds as u32 };
        }
        Ok(())
    }

    /// Replicas have their old name here, because clients parse it.
    fn print(&self) -> String {
        let limits = [("normal", self.normal), ("slave", self.replica), ("pubsub", self.pubsub)];
        join(limits.map(|(class, limit)| {
            format!("{class} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_seconds)
        }))
    }

    fn lines(&self) -> Vec<String> {
        let limits = [("normal", self.normal), ("replica", self.replica), ("pubsub", self.pubsub)];
        let line = |(class, limit): (&str, OutputBufferLimit)| {
            let (hard, soft) = (memory_text(limit.hard_bytes), memory_text(limit.soft_bytes));
            format!("{class} {hard} {soft} {}", limit.soft_seconds)
        };
        limits.map(line).into()
    }
}

/// A number of bytes, in the largest unit that divides it.
pub(super) fn memory_text(bytes: u64) -> String {
    [(30, "gb"), (20, "mb"), (10, "kb")]
        .into_iter()
        .find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift)
        .map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

/// Percentiles of run times shown by INFO, each from 0 to 100.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentiles(pub Vec<f64>);

impl Default for Percentiles {
    fn default() -> Self {
        Percentiles(vec![50.0, 99.0, 99.9])
    }
}

impl Words for Percentiles {
    fn read(&mut self, words: &[&[u8]]) -> Result<(), Reason> {
        let mut percentiles = Vec::with_capacity(words.len());
        for word in words {
            let number = parse_f64(word).filter(|number| !number.is_nan());
            let number = number.ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&number) {
                return Err(
                    "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]".into()
                );
            }
            percentiles.push(number);
        }
        self.0 = percentiles;
        Ok(())
    }

    fn print(&self) -> String {
        join(&self.0)
    }
}

/// Out-of-memory scores of a primary, a replica and a child process.
impl Words for [i32; 3] {
    fn read(&mut self, words: &[&[u8]]) -> Result<(), Reason> {
        let words: &[&[u8]; 3] = words.try_into().map_err(|_| "wrong number of arguments")?;
        let mut scores = [0; 3];
        for (score, word) in scores.iter_mut().zip(words) {
            *score = parse_i64(word)
                .filter(|score| (-2000..=2000).contains(score))
                .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")?
                as i32;
        }
        *self = scores;
        Ok(())
    }

    fn print(&self) -> String {
        join(self)
    }
}

/// How a signal shuts the server down. With no flag set, the server saves if there are save rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ShutdownFlags {
    /// Take a snapshot even without save rules.
    pub save: bool,
    /// Take no snapshot.
    pub nosave: bool,
    /// Do not wait for replicas.
    pub now: bool,
    /// Exit even if saving fails, or it is not safe.
    pub force: bool,
    /// Do not exit while this node serves slots of a cluster.
    pub safe: bool,
}

impl Words for ShutdownFlags {
    fn read(&mut self, words: &[&[u8]]) -> Result<(), Reason> {
        let mut flags = ShutdownFlags::default();
        for word in words {
            match word.to_ascii_lowercase().as_slice() {
                b"default" => {}
                b"save" => flags.save = true,
                b"nosave" => flags.nosave = true,
                b"now" => flags.now = true,
                b"force" => flags.force = true,
                b"safe" => flags.safe = true,
                _ => return Err(one_of(["default", "save", "nosave", "now", "force"])),
            }
        }
        if words.is_empty() {
            return Err(one_of(["default", "save", "nosave", "now", "force"]));
        }
        if flags.save && flags.nosave {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
        }
        *self = flags;
        Ok(())
    }

    fn print(&self) -> String {
        let words = [
            (self.save, "save"),
            (self.nosave, "nosave"),
            (self.now, "now"),
            (self.force, "force"),
            (self.safe, "safe"),
        ];
        let text = join(words.into_iter().filter_map(|(set, word)| set.then_some(word)));
        if text.is_empty() { "default".into() } else { text }
    }
}

/// The refusal of a word that is not in a list.
pub(super) fn one_of(words: impl IntoIterator<Item = &'static str>) -> Reason {
    let words: Vec<_> = words.into_iter().collect();
    format!("argument(s) must be one of the following: {}", words.join(", ")).into()
}

bit_set! {
    /// Classes of keyspace events, as bits.
    pub struct KeyspaceEvents: u32 {
        /// Publish under `__keyspace@<db>__`.
        KEYSPACE = 0;
        /// Publish under `__keyevent@<db>__`.
        KEYEVENT = 1;
        /// Commands on keys of any type.
        GENERIC = 2;
        /// Commands on strings.
        STRING = 3;
        /// Commands on lists.
        LIST = 4;
        /// Commands on sets.
        SET = 5;
        /// Commands on hashes.
        HASH = 6;
        /// Commands on sorted sets.
        ZSET = 7;
        /// A key expired.
        EXPIRED = 8;
        /// A key was evicted.
        EVICTED = 9;
        /// Commands on streams.
        STREAM = 10;
        /// Commands on types of modules.
        MODULE = 11;
        /// A key was asked for that does not exist.
        KEY_MISS = 12;
        /// A key was created.
        NEW = 13;
        /// The value of a key was replaced.
        OVERWRITTEN = 14;
        /// The value of a key was replaced by one of another type.
        TYPE_CHANGED = 15;
        /// Commands on arrays, of which there are none.
        ARRAY = 16;
        /// Publish which parts of a value change under `__subkeyspace@<db>__`.
        SUBKEYSPACE = 17;
        /// Publish which parts of a value change under `__subkeyevent@<db>__`.
        SUBKEYEVENT = 18;
        /// Publish which parts of a value change under `__subkeyspaceitem@<db>__`.
        SUBKEYSPACEITEM = 19;
        /// Publish which parts of a value change under `__subkeyspaceevent@<db>__`.
        SUBKEYSPACEEVENT = 20;
    }
}

impl KeyspaceEvents {
    /// What `A` stands for: every class but key misses, new keys, values replaced, and arrays.
    pub const ALL: KeyspaceEvents = KeyspaceEvents(0b1111_1111_1100);

    /// Kinds of channels on which it is published which parts of a value change.
    pub const OF_PARTS: KeyspaceEvents =
        Self::SUBKEYSPACE.with(Self::SUBKEYEVENT).with(Self::SUBKEYSPACEITEM).with(Self::SUBKEYSPACEEVENT);

    /// Classes that are not shown beside `A`.
    const UNSHOWN: KeyspaceEvents = Self::NEW.with(Self::OVERWRITTEN).with(Self::TYPE_CHANGED);

    /// Letter of each class, in printing order.
    const LETTERS: [(u8, KeyspaceEvents); 21] = [
        (b'g', Self::GENERIC),
        (b'$', Self::STRING),
        (b'l', Self::LIST),
        (b's', Self::SET),
        (b'h', Self::HASH),
        (b'z', Self::ZSET),
        (b'x', Self::EXPIRED),
        (b'e', Self::EVICTED),
        (b't', Self::STREAM),
        (b'd', Self::MODULE),
        (b'a', Self::ARRAY),
        (b'n', Self::NEW),
        (b'o', Self::OVERWRITTEN),
        (b'c', Self::TYPE_CHANGED),
        (b'K', Self::KEYSPACE),
        (b'E', Self::KEYEVENT),
        (b'm', Self::KEY_MISS),
        (b'S', Self::SUBKEYSPACE),
        (b'T', Self::SUBKEYEVENT),
        (b'I', Self::SUBKEYSPACEITEM),
        (b'V', Self::SUBKEYSPACEEVENT),
    ];

    /// The letters of all classes but `unnamed`, with `A` where it says more in less.
    fn letters(self, unnamed: KeyspaceEvents) -> String {
        let all = self.covers(Self::ALL);
        let mut text = String::from(if all { "A" } else { "" });
        for (letter, class) in Self::LETTERS {
            if self.covers(class) && !(all && Self::ALL.covers(class)) && !unnamed.covers(class) {
                text.push(char::from(letter));
            }
        }
        text
    }

    /// Whether nothing can be published: no class, or neither kind of channel.
    pub const fn is_silent(self) -> bool {
        !self.has(Self::KEYSPACE.with(Self::KEYEVENT).with(Self::OF_PARTS))
    }
}

impl Words for KeyspaceEvents {
    fn read(&mut self, words: &[&[u8]]) -> Result<(), Reason> {
        let mut events = Self::NONE;
        for letter in words.concat() {
            let more = if letter == b'A' {
                Self::ALL
            } else {
                let class = Self::LETTERS.iter().find(|(known, _)| *known == letter);
                class.ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?.1
            };
            events = events | more;
        }
        *self = events;
        Ok(())
    }

    /// New keys and values replaced, which `A` does not include, are not shown beside it, as in Redis.
    fn print(&self) -> String {
        let all = self.covers(Self::ALL);
        self.letters(if all { Self::UNSHOWN } else { Self::NONE })
    }

    fn lines(&self) -> Vec<String> {
        vec![format!("\"{}\"", self.letters(Self::NONE))]
    }
}

/// Address of the primary that a replica copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryAddr {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Words for Option<PrimaryAddr> {
    fn read(&mut self, words: &[&[u8]]) -> Result<(), Reason> {
        let &[host, port] = words else { return Err("wrong number of arguments".into()) };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            *self = None;
            return Ok(());
        }
        let number =
            parse_i64(port).and_then(|port| u16::try_from(port).ok()).ok_or("Invalid master port")?;
        *self = Some(PrimaryAddr { host: utf8(host)?.into(), port: number });
        Ok(())
    }

    fn print(&self) -> String {
        self.as_ref().map_or_else(String::new, |primary| format!("{} {}", primary.host, primary.port))
    }

    fn lines(&self) -> Vec<String> {
        self.iter().map(|primary| format!("{} {}", primary.host, primary.port)).collect()
    }
}

/// Checks that every `{variable}` of a process title is known and every brace is closed.
pub(super) fn title_template(text: &str) -> Result<(), Reason> {
    const KNOWN: [&str; 7] =
        ["title", "listen-addr", "server-mode", "port", "tls-port", "unixsocket", "config-file"];
    let mut pieces = text.split('{');
    pieces.next();
    let known = pieces.all(|piece| piece.split_once('}').is_some_and(|(name, _)| KNOWN.contains(&name)));
    if known && !text.is_empty() {
        Ok(())
    } else {
        Err("template format is invalid or contains unknown variables".into())
    }
}

/// Checks that a cluster node may announce this host name.
pub(super) fn host_name(text: &str) -> Result<(), Reason> {
    if text.len() >= 256 {
        Err("Hostnames must be less than 256 characters".into())
    } else if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
        Ok(())
    } else {
        Err("Hostnames may only contain alphanumeric characters, hyphens or dots".into())
    }
}

/// Checks that a cluster node may announce this human-readable name.
pub(super) fn node_name(text: &str) -> Result<(), Reason> {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'/')) {
        Ok(())
    } else {
        Err("Announced human node name contained invalid character".into())
    }
}
