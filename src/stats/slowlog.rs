//! Logs of notable commands: slow ones, and ones with a large request or reply.
//!
//! There are three lists of one shape, read newest first. What always holds: a list has at most as many entries as
//! its latest limit allows; an entry has at most [`MAX_ARGS`] arguments of at most [`MAX_ARG_BYTES`] bytes each (and
//! a note of how much is missing), so that the entry of a large request is small. Numbers of entries ascend and are
//! never used twice, even after the list was cleared.
//!
//! The idea and the limits are those of Redis; the lists by size are those of Valkey.

use std::collections::VecDeque;

use crate::stdx::clock::UnixMillis;

/// Arguments kept of a request. If there are more, the last one kept says how many are missing.
pub const MAX_ARGS: usize = 32;
/// Bytes kept of an argument.
pub const MAX_ARG_BYTES: usize = 128;

/// One command that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Number of the entry, counting up from 0.
    pub id: u64,
    /// Unix time of the entry in seconds.
    pub at_s: i64,
    /// Run time in microseconds, or size in bytes.
    pub value: u64,
    /// Its arguments, trimmed.
    pub args: Vec<Box<[u8]>>,
    /// Address of the client.
    pub address: Box<str>,
    /// Name that the client has set.
    pub name: Box<[u8]>,
}

/// A command about to be recorded.
pub struct Noted<'a> {
    /// Current time.
    pub now: UnixMillis,
    /// Arguments that may be shown.
    pub args: &'a [&'a [u8]],
    /// Address of the client.
    pub address: &'a str,
    /// Name that the client has set.
    pub name: &'a [u8],
}

/// The latest commands that passed one threshold.
#[derive(Default, Debug)]
pub struct CommandLog {
    /// Newest entry first.
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl CommandLog {
    /// Records a command, and removes the oldest entries beyond `most`. O(arguments kept).
    pub fn push(&mut self, value: u64, noted: &Noted<'_>, most: usize) {
        if most == 0 {
            return;
        }
        self.entries.push_front(Entry {
            id: self.next_id,
            at_s: noted.now.as_secs(),
            value,
            args: trimmed(noted.args),
            address: noted.address.into(),
            name: noted.name.into(),
        });
        self.next_id += 1;
        self.limit(most);
    }

    /// Removes the oldest entries beyond `most`.
    pub fn limit(&mut self, most: usize) {
        self.entries.truncate(most);
    }

    /// Removes all entries. Numbering continues.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }
}

/// The part of a request that is kept.
fn trimmed(args: &[&[u8]]) -> Vec<Box<[u8]>> {
    let whole = if args.len() > MAX_ARGS { MAX_ARGS - 1 } else { args.len() };
    let mut kept: Vec<Box<[u8]>> = args[..whole].iter().map(|arg| trimmed_arg(arg)).collect();
    if whole < args.len() {
        kept.push(format!("... ({} more arguments)", args.len() - whole).into_bytes().into());
    }
    kept
}

fn trimmed_arg(arg: &[u8]) -> Box<[u8]> {
    match arg.split_at_checked(MAX_ARG_BYTES) {
        Some((kept, rest)) if !rest.is_empty() => {
            [kept, format!("... ({} more bytes)", rest.len()).as_bytes()].concat().into()
        }
        _ => arg.into(),
    }
}

/// Reason for recording a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogKind {
    /// Its run time.
    Slow,
    /// The size of its request.
    LargeRequest,
    /// The size of its reply.
    LargeReply,
}

impl LogKind {
    /// The kind that users call `name`, in any case.
    pub fn from_name(name: &[u8]) -> Option<LogKind> {
        const NAMES: [(&str, LogKind); 3] = [
            ("slow", LogKind::Slow),
            ("large-request", LogKind::LargeRequest),
            ("large-reply", LogKind::LargeReply),
        ];
        let found = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        found.map(|&(_, kind)| kind)
    }
}

/// The logs of all kinds.
#[derive(Default, Debug)]
pub struct CommandLogs([CommandLog; 3]);

impl CommandLogs {
    /// The log of one kind.
    pub fn of(&self, kind: LogKind) -> &CommandLog {
        &self.0[kind as usize]
    }

    /// The log of one kind, mutable.
    pub fn of_mut(&mut self, kind: LogKind) -> &mut CommandLog {
        &mut self.0[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted<'a>(args: &'a [&'a [u8]]) -> Noted<'a> {
        Noted { now: UnixMillis(5_999), args, address: "127.0.0.1:9", name: b"me" }
    }

    #[test]
    fn the_oldest_go_first_and_numbers_go_on() {
        let mut log = CommandLog::default();
        for value in 0..5 {
            log.push(value, &noted(&[b"PING"]), 3);
        }
        let read = |log: &CommandLog| log.iter().map(|entry| (entry.id, entry.value)).collect::<Vec<_>>();
        assert_eq!(read(&log), [(4, 4), (3, 3), (2, 2)]);
        log.limit(1);
        assert_eq!(read(&log), [(4, 4)]);
        log.clear();
        assert!(log.is_empty());
        log.push(9, &noted(&[b"PING"]), 0);
        assert!(log.is_empty());
        log.push(9, &noted(&[b"PING"]), 1);
        let entry = log.iter().next().expect("one was noted");
        assert_eq!((entry.id, entry.at_s, &*entry.address, &*entry.name), (5, 5, "127.0.0.1:9", &b"me"[..]));
    }

    #[test]
    fn arguments_are_trimmed() {
        let many = |n: usize| {
            let words: Vec<Vec<u8>> = (0..n).map(|i| i.to_string().into_bytes()).collect();
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            trimmed(&words)
        };
        assert_eq!(many(1).len(), 1);
        assert_eq!(&*many(32)[31], b"31");
        assert_eq!(many(33).len(), 32);
        assert_eq!(&*many(33)[30], b"30");
        assert_eq!(&*many(33)[31], b"... (2 more arguments)");
        assert_eq!(&*many(1000)[31], b"... (969 more arguments)");

        let long = |n: usize| trimmed_arg(&vec![b'A'; n]);
        assert_eq!(long(0).len(), 0);
        assert_eq!(*long(128), [b'A'; 128]);
        assert_eq!(*long(129), [&[b'A'; 128][..], b"... (1 more bytes)"].concat());
    }

    #[test]
    fn kinds_by_name() {
        assert_eq!(LogKind::from_name(b"Large-Reply"), Some(LogKind::LargeReply));
        assert_eq!(LogKind::from_name(b"large"), None);
    }
}
