//! Commands worth remembering: those that were slow, or whose request or reply was large.
//!
//! Three lists of one shape, the newest entry first when they are read. What always holds: a list has at most
//! as many entries as it was last told it may have, an entry has at most [`MAX_ARGS`] arguments of at most
//! [`MAX_ARG_BYTES`] bytes each (and a remark of how much is missing), so that however large a request was, its
//! entry is small. Numbers of entries go up and are not used twice, also after the list was emptied.
//!
//! The idea and the limits are Redis's; the lists by size are Valkey's.

use std::collections::VecDeque;

use crate::stdx::clock::UnixMillis;

/// Arguments kept of a request; the last of them tells of those that are not.
pub const MAX_ARGS: usize = 32;
/// Bytes kept of an argument.
pub const MAX_ARG_BYTES: usize = 128;

/// One command that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counts up from 0.
    pub id: u64,
    /// Unix time at which it was noted, in seconds.
    pub at_s: i64,
    /// How long it ran in microseconds, or how large it was in bytes.
    pub value: u64,
    pub args: Vec<Box<[u8]>>,
    /// Where the client came from.
    pub address: Box<str>,
    /// What the client called itself.
    pub name: Box<[u8]>,
}

/// A command as it is about to be noted.
pub struct Noted<'a> {
    pub now: UnixMillis,
    /// The arguments that may be shown.
    pub args: &'a [&'a [u8]],
    pub address: &'a str,
    pub name: &'a [u8],
}

/// The latest commands that passed one threshold.
#[derive(Default, Debug)]
pub struct CommandLog {
    /// The newest is at the front.
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl CommandLog {
    /// Notes a command, and forgets the oldest beyond `most`. O(arguments kept).
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

    /// Forgets the oldest entries beyond `most`.
    pub fn limit(&mut self, most: usize) {
        self.entries.truncate(most);
    }

    /// Forgets all entries; numbers go on.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries, newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }
}

/// What is kept of a request.
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

/// What a command is noted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogKind {
    Slow,
    LargeRequest,
    LargeReply,
}

impl LogKind {
    /// The kind users call `name`, in any case.
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

/// The lists of all kinds.
#[derive(Default, Debug)]
pub struct CommandLogs([CommandLog; 3]);

impl CommandLogs {
    /// The list of one kind.
    pub fn of(&self, kind: LogKind) -> &CommandLog {
        &self.0[kind as usize]
    }

    /// The list of one kind, for changes.
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
