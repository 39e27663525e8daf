//! Which arguments of a request are keys or channels, and what the command does with them.

use crate::resp::Args;
use crate::stdx::bits::bit_set;
use crate::stdx::num;

bit_set! {
    /// What a command does with the keys of one key specification.
    pub struct KeyFlags: u16 {
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

/// Where the keys of a specification begin.
#[derive(Clone, Copy, Debug)]
pub enum Begin {
    /// At this argument.
    Index(u16),
    /// After this word, looked for from this argument on (negative: from the end backwards).
    Keyword(&'static str, i16),
    /// The position does not follow from the arguments.
    Unknown,
}

/// How the keys go on from there.
#[derive(Clone, Copy, Debug)]
pub enum Find {
    /// `last`: relative to the first, or from the end when negative; every `step`th argument;
    /// `limit`: with `last` −1, only the first 1/limit of what is left.
    Range {
        /// Last argument: relative to the first key, or negative from the end of the request.
        last: i16,
        /// Number of arguments from one key to the next.
        step: u16,
        /// Divisor of the number of remaining arguments that may be keys; 0 and 1 for all.
        limit: u16,
    },
    /// The number of keys is the argument at `at`, the first key the one at `first`.
    Count {
        /// Argument that holds the number of keys, relative to the beginning.
        at: u16,
        /// First key, relative to the beginning.
        first: u16,
        /// Number of arguments from one key to the next.
        step: u16,
    },
    /// The keys do not follow from the arguments.
    Unknown,
}

/// Which arguments of a command are keys, and what becomes of them.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// What the command does with the keys.
    pub flags: KeyFlags,
    /// Where the keys begin.
    pub begin: Begin,
    /// How to find the keys from there.
    pub find: Find,
    /// Remarks for COMMAND INFO; empty for none.
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
                let Some(n) = args.get(first + at as usize).and_then(num::parse_i64) else {
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
    /// Sends messages to the channels.
    Publish,
    /// Subscribes to the channels.
    Subscribe,
    /// Ends subscriptions to the channels.
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
    /// What the command does with the channels.
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

/// Calls its second argument with the position of each key of a request and what happens to it;
/// false when the request does not have the command's form.
pub type FindKeys = fn(&Args<'_>, &mut dyn FnMut(usize, KeyFlags)) -> bool;
