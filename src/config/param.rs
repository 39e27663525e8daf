//! Parameters: a name, access to a field, rules for the text, and the effects of a change.

use std::borrow::Cow;

use super::options::Config;
use super::value::{self, Choice, MemoryOrPercent, Reason, Words};
use crate::stdx::bits::bit_set;
use crate::stdx::num::{parse_i64, parse_memory};
use crate::stdx::quote;

/// Access to one field of [`Config`].
pub struct Field<T: 'static> {
    pub(super) get: fn(&Config) -> &T,
    pub(super) get_mut: fn(&mut Config) -> &mut T,
}

/// A field that holds an integer of any width.
pub trait Number: Sync {
    /// The number in the field.
    fn get(&self, config: &Config) -> i128;
    /// Stores a number, which fits the type of the field.
    fn set(&self, config: &mut Config, number: i128);
}

impl<T: Copy + TryInto<i128> + TryFrom<i128>> Number for Field<T> {
    fn get(&self, config: &Config) -> i128 {
        (*(self.get)(config)).try_into().ok().expect("no field is wider than 64 bits")
    }

    fn set(&self, config: &mut Config, number: i128) {
        *(self.get_mut)(config) = T::try_from(number).ok().expect("a parameter's range fits its field");
    }
}

/// A field that holds a [`Choice`].
pub trait AnyChoice: Sync {
    /// The word for the current choice.
    fn get(&self, config: &Config) -> &'static str;
    /// Chooses by word, in any letter case; false if no choice has this word.
    fn set(&self, config: &mut Config, word: &[u8]) -> bool;
    /// All words.
    fn words(&self) -> Vec<&'static str>;
}

impl<T: Choice> AnyChoice for Field<T> {
    fn get(&self, config: &Config) -> &'static str {
        (self.get)(config).name()
    }

    fn set(&self, config: &mut Config, word: &[u8]) -> bool {
        let found = T::ALL.iter().find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
        found.map(|(_, choice)| *(self.get_mut)(config) = *choice).is_some()
    }

    fn words(&self) -> Vec<&'static str> {
        T::ALL.iter().map(|(name, _)| *name).collect()
    }
}

/// A field that holds [`Words`], with the methods of [`Words`].
pub trait AnyWords: Sync {
    /// See [`Words::read`], or [`Words::read_again`] if `again`.
    fn read(&self, config: &mut Config, words: &[&[u8]], again: bool) -> Result<(), Reason>;
    /// See [`Words::print`].
    fn print(&self, config: &Config) -> String;
    /// See [`Words::lines`].
    fn lines(&self, config: &Config) -> Vec<String>;
}

impl<T: Words> AnyWords for Field<T> {
    fn read(&self, config: &mut Config, words: &[&[u8]], again: bool) -> Result<(), Reason> {
        let value = (self.get_mut)(config);
        if again { value.read_again(words) } else { value.read(words) }
    }

    fn print(&self, config: &Config) -> String {
        (self.get)(config).print()
    }

    fn lines(&self, config: &Config) -> Vec<String> {
        (self.get)(config).lines()
    }
}

/// Numbers from `min` to `max`.
#[derive(Clone, Copy)]
pub struct Range {
    pub(super) min: i128,
    pub(super) max: i128,
}

/// What text a parameter accepts, and the field of its value.
pub enum Kind {
    /// `yes` or `no`.
    Bool(&'static Field<bool>),
    /// A decimal number.
    Int(&'static dyn Number, Range),
    /// A number of bytes, with an optional unit.
    Memory(&'static dyn Number, Range),
    /// An octal number.
    Octal(&'static dyn Number, Range),
    /// A number of bytes, or a percentage.
    MemoryOrPercent(&'static Field<MemoryOrPercent>),
    /// A text that passes a check.
    Text(&'static Field<String>, fn(&str) -> Result<(), Reason>),
    /// Any bytes.
    Bytes(&'static Field<Vec<u8>>),
    /// One word out of a list.
    Choice(&'static dyn AnyChoice),
    /// One word in a notation of its own.
    Word(&'static dyn AnyWords),
    /// Several words; a single word is split at its spaces.
    Words(&'static dyn AnyWords),
}

bit_set! {
    /// Actions that a change of parameters requires, apart from storing the values.
    ///
    /// The configuration only reports which actions are due; the server implements each of them in one place. A
    /// parameter that is read wherever it is needed requires none.
    pub struct Effects: u32 {
        /// Change the working directory.
        DIR = 0, "dir";
        /// Raise the limit on open files if more clients are allowed.
        MAXCLIENTS = 1, "maxclients";
        /// Listen on other addresses or ports.
        LISTENERS = 2, "listeners";
        /// Turn the append-only file on or off.
        APPEND_ONLY = 3, "append-only";
        /// Flush writes that the previous policy would have flushed.
        APPEND_FSYNC = 4, "append-fsync";
        /// Remove superseded append-only files.
        AOF_HISTORY = 5, "aof-history";
        /// Decide anew whether writes are refused because the data cannot be saved.
        DISK_ERROR = 6, "disk-error";
        /// Set the kernel's out-of-memory score.
        OOM_SCORE = 7, "oom-score";
        /// Apply the eviction policy, including the access data that it requires.
        EVICTION = 8, "eviction";
        /// Apply another memory limit.
        MAXMEMORY = 9, "maxmemory";
        /// Apply another limit on the memory of clients.
        CLIENT_MEMORY = 10, "client-memory";
        /// Apply the choice of values that are freed in the background.
        LAZY_FREE = 11, "lazy-free";
        /// Drop keys remembered for client-side caching beyond the limit.
        TRACKING = 12, "tracking";
        /// Apply the choice of keyspace events that are published.
        KEYSPACE_EVENTS = 13, "keyspace-events";
        /// Apply other thresholds for logging commands, and drop the oldest entries of logs that are too long.
        COMMAND_LOGS = 14, "command-logs";
        /// Drop the oldest entries of the ACL log.
        ACL_LOG = 15, "acl-log";
        /// Show another title of the process.
        PROC_TITLE = 16, "proc-title";
        /// Apply another log level.
        LOG_LEVEL = 17, "log-level";
        /// Start or stop the allocator's background thread.
        ALLOCATOR = 18, "allocator";
        /// Restart or stop the watchdog.
        WATCHDOG = 19, "watchdog";
        /// Set the password of the default user.
        PASSWORD = 20, "password";
        /// Apply what the role in replication requires: which writes are refused, which keys are hidden, what is
        /// propagated.
        ROLE = 21, "role";
        /// Apply another size of the replication backlog.
        BACKLOG = 22, "backlog";
        /// Apply other conditions under which replies are withheld.
        DURABILITY = 23, "durability";
        /// Refuse active defragmentation if it is not possible.
        DEFRAGMENTATION = 24, "defragmentation";
        /// Start I/O threads, or assign them no more clients.
        IO_THREADS = 25, "io-threads";
        /// Load certificates and keys, and apply other settings to new connections.
        TLS = 26, "tls";
        /// Announce other facts to the other nodes, or apply other rules of the cluster.
        CLUSTER = 27, "cluster";
    }
}

impl Effects {
    /// Effects on state outside the process, which may have changed although the parameter has not: setting such a
    /// parameter to its current value takes effect again.
    pub const OUTSIDE: Effects = Effects::DIR.with(Effects::TLS);

    /// Effects that copy options into other parts of the server, and that must therefore also be applied when a server
    /// is created.
    pub const COPIED: Effects = Effects::MAXMEMORY
        .with(Effects::DISK_ERROR)
        .with(Effects::EVICTION)
        .with(Effects::CLIENT_MEMORY)
        .with(Effects::LAZY_FREE)
        .with(Effects::TRACKING)
        .with(Effects::KEYSPACE_EVENTS)
        .with(Effects::COMMAND_LOGS)
        .with(Effects::PASSWORD);
}

/// One parameter.
pub struct Param {
    /// Name of the parameter.
    pub name: &'static str,
    /// Another name of the parameter, usually an older one.
    pub alias: Option<&'static str>,
    /// The alias answers to its full name only.
    pub alias_hidden: bool,
    /// Accepted text, and the field of the value.
    pub kind: Kind,
    /// Effects of a change.
    pub effects: Effects,
    /// One sentence for `--help`.
    pub summary: &'static str,
    /// Whether only the configuration file and the command line can set the parameter.
    pub immutable: bool,
    /// Whether CONFIG SET requires `enable-protected-configs`.
    pub protected: bool,
    /// Whether the value is a secret, which must not be logged.
    pub sensitive: bool,
    /// Whether only the full name finds the parameter, and no pattern; texts for users do not mention it either.
    pub hidden: bool,
    /// Whether only the full name finds the parameter.
    pub unlisted: bool,
    /// Whether CONFIG SET is refused while a data set is loaded.
    pub deny_loading: bool,
    /// Why the parameter has no effect, if it has none: a sentence without a full stop. Any value is stored.
    pub unused: Option<&'static str>,
    /// Range to which a number outside is silently clamped.
    pub(super) clamp: Option<Range>,
}

impl Param {
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        effects: Effects,
        summary: &'static str,
    ) -> Param {
        Param {
            name,
            alias: None,
            alias_hidden: false,
            kind,
            effects,
            summary,
            immutable: false,
            protected: false,
            sensitive: false,
            hidden: false,
            unlisted: false,
            deny_loading: false,
            unused: None,
            clamp: None,
        }
    }

    pub(super) const fn alias(self, alias: &'static str) -> Param {
        Param { alias: Some(alias), ..self }
    }

    /// An alias that patterns do not find: Redis 7.2 does not know the name.
    pub(super) const fn hidden_alias(self, alias: &'static str) -> Param {
        Param { alias: Some(alias), alias_hidden: true, ..self }
    }

    pub(super) const fn immutable(self) -> Param {
        Param { immutable: true, ..self }
    }

    pub(super) const fn protected(self) -> Param {
        Param { protected: true, ..self }
    }

    pub(super) const fn sensitive(self) -> Param {
        Param { sensitive: true, ..self }
    }

    pub(super) const fn hidden(self) -> Param {
        Param { hidden: true, ..self }
    }

    /// Only the full name finds it: programs set whatever `CONFIG GET *` answers and Redis 7.2 lets them set, and this
    /// one cannot be set.
    pub(super) const fn unlisted(self) -> Param {
        Param { unlisted: true, ..self }
    }

    pub(super) const fn deny_loading(self) -> Param {
        Param { deny_loading: true, ..self }
    }

    pub(super) const fn unused(self, why: &'static str) -> Param {
        Param { unused: Some(why), ..self }
    }

    pub(super) const fn clamp(self, min: i128, max: i128) -> Param {
        Param { clamp: Some(Range { min, max }), ..self }
    }

    /// The name and, if patterns find it, the alias.
    pub fn listed_names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.alias.filter(|_| !self.alias_hidden))
    }

    /// The name and, if there is one, the alias.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.alias)
    }

    /// The value as CONFIG GET shows it.
    pub fn print(&self, config: &Config) -> Vec<u8> {
        match &self.kind {
            Kind::Bool(at) => if *(at.get)(config) { "yes" } else { "no" }.into(),
            Kind::Int(at, _) | Kind::Memory(at, _) => at.get(config).to_string().into(),
            Kind::Octal(at, _) => format!("{:o}", at.get(config)).into(),
            Kind::MemoryOrPercent(at) => match *(at.get)(config) {
                MemoryOrPercent::Bytes(bytes) => bytes.to_string().into(),
                MemoryOrPercent::Percent(percent) => format!("{percent}%").into(),
            },
            Kind::Text(at, _) => (at.get)(config).as_bytes().into(),
            Kind::Bytes(at) => (at.get)(config).clone(),
            Kind::Choice(at) => at.get(config).into(),
            Kind::Word(at) | Kind::Words(at) => at.print(config).into(),
        }
    }

    /// Sets the value from the words after the name. `again` means that the same file has set this parameter
    /// before. After an error, the field may be partly changed, but no other field.
    pub fn read(&self, config: &mut Config, words: &[&[u8]], again: bool) -> Result<(), Reason> {
        if let Kind::Words(at) = &self.kind {
            return match words {
                [b""] => at.read(config, &[], again),
                [word] => at.read(config, &word.split(|&byte| byte == b' ').collect::<Vec<_>>(), again),
                _ => at.read(config, words, again),
            };
        }
        let &[word] = words else { return Err("wrong number of arguments".into()) };
        match &self.kind {
            Kind::Bool(at) => *(at.get_mut)(config) = parse_bool(word)?,
            Kind::Int(at, range) => {
                let number = parse_i64(word).ok_or("argument couldn't be parsed into an integer")?;
                at.set(config, self.clamped(range.check(number.into())?));
            }
            Kind::Memory(at, range) => {
                let bytes = parse_memory(word).ok_or("argument must be a memory value")?;
                at.set(config, self.clamped(range.check(bytes.into())?));
            }
            Kind::Octal(at, range) => {
                let number =
                    std::str::from_utf8(word).ok().and_then(|text| i64::from_str_radix(text, 8).ok());
                let number = number.ok_or("argument couldn't be parsed as an octal number")?;
                if !range.contains(number.into()) {
                    let Range { min, max } = range;
                    return Err(format!("argument must be between {min:o} and {max:o} inclusive").into());
                }
                at.set(config, number.into());
            }
            Kind::MemoryOrPercent(at) => *(at.get_mut)(config) = parse_memory_or_percent(word)?,
            Kind::Text(at, check) => {
                let text = std::str::from_utf8(word).map_err(|_| "argument must be valid UTF-8")?;
                check(text)?;
                *(at.get_mut)(config) = text.into();
            }
            Kind::Bytes(at) => *(at.get_mut)(config) = word.into(),
            Kind::Choice(at) => {
                if !at.set(config, word) {
                    return Err(value::one_of(at.words()));
                }
            }
            Kind::Word(at) => at.read(config, &[word], again)?,
            Kind::Words(_) => unreachable!("returned above"),
        }
        Ok(())
    }

    /// A log message about a value that differs from the default and has no effect; `None` for other values.
    pub fn unused_note(&self, config: &Config) -> Option<String> {
        let why = self.unused?;
        let value = self.print(config);
        if value == self.print(&Config::default()) {
            return None;
        }
        let value = if self.sensitive { "(redacted)".into() } else { String::from_utf8_lossy(&value) };
        Some(format!("'{} {value}' has no effect: {why}.", self.name))
    }

    /// The directives that restore the value, without the name; empty if none is needed.
    pub fn lines(&self, config: &Config) -> Vec<Vec<u8>> {
        match &self.kind {
            Kind::Memory(at, _) => {
                vec![value::memory_text(at.get(config).try_into().expect("no size is negative")).into()]
            }
            Kind::MemoryOrPercent(at) => match *(at.get)(config) {
                MemoryOrPercent::Bytes(bytes) => vec![value::memory_text(bytes).into()],
                MemoryOrPercent::Percent(_) => vec![self.print(config)],
            },
            Kind::Text(..) | Kind::Bytes(_) => vec![quote::repr(&self.print(config)).into()],
            Kind::Word(at) | Kind::Words(at) => at.lines(config).into_iter().map(Vec::from).collect(),
            Kind::Bool(_) | Kind::Int(..) | Kind::Octal(..) | Kind::Choice(_) => vec![self.print(config)],
        }
    }

    /// Human-readable description of the allowed values; empty if any value is.
    pub fn allowed(&self) -> Cow<'static, str> {
        let range = |Range { min, max }: &Range| match *max {
            max if max >= i128::from(i32::MAX) => format!("from {min}"),
            max => format!("{min} to {max}"),
        };
        match &self.kind {
            Kind::Bool(_) => "yes | no".into(),
            Kind::Int(_, limits) => range(limits).into(),
            Kind::Memory(..) => "bytes".into(),
            Kind::Octal(..) => "octal".into(),
            Kind::MemoryOrPercent(_) => "bytes | percent".into(),
            Kind::Choice(at) => at.words().join(" | ").into(),
            Kind::Text(..) | Kind::Bytes(_) | Kind::Word(_) | Kind::Words(_) => "".into(),
        }
    }

    fn clamped(&self, number: i128) -> i128 {
        self.clamp.map_or(number, |range| number.clamp(range.min, range.max))
    }
}

impl Range {
    fn contains(&self, number: i128) -> bool {
        (self.min..=self.max).contains(&number)
    }

    fn check(&self, number: i128) -> Result<i128, Reason> {
        let Range { min, max } = self;
        if self.contains(number) {
            Ok(number)
        } else {
            Err(format!("argument must be between {min} and {max} inclusive").into())
        }
    }
}

fn parse_bool(word: &[u8]) -> Result<bool, Reason> {
    match () {
        () if word.eq_ignore_ascii_case(b"yes") => Ok(true),
        () if word.eq_ignore_ascii_case(b"no") => Ok(false),
        () => Err("argument must be 'yes' or 'no'".into()),
    }
}

fn parse_memory_or_percent(word: &[u8]) -> Result<MemoryOrPercent, Reason> {
    const REFUSED: &str = "argument must be a memory or percent value";
    if let Some(percent) = word.strip_suffix(b"%") {
        let percent = parse_i64(percent).filter(|percent| *percent >= 0).ok_or(REFUSED)?;
        if percent > 100 {
            return Err("percentage argument must be less or equal to 100".into());
        }
        return Ok(MemoryOrPercent::Percent(percent as u8));
    }
    Ok(MemoryOrPercent::Bytes(parse_memory(word).ok_or(REFUSED)?))
}
