//! The log of recent denials: `ACL LOG`.
//!
//! A client that is denied something tends to try again. A denial that repeats within a minute is counted in the same
//! entry, so that a single stubborn client does not push out everything else.

use std::collections::VecDeque;

use super::Denied;
use crate::stdx::clock::UnixMillis;

/// Equal denials less than this many milliseconds apart share an entry.
const JOIN_WITHIN_MS: i64 = 60_000;

/// Number of newest entries to which a denial is compared.
const COMPARED: usize = 10;

/// Names are cut off after this many bytes, since a client that is denied something chooses them.
const MAX_NAME: usize = 1024;

/// What was denied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// A command.
    Command,
    /// A key.
    Key,
    /// A channel.
    Channel,
    /// A login.
    Auth,
    /// A database.
    Database,
}

impl Reason {
    /// The name that clients see.
    pub const fn name(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
            Reason::Auth => "auth",
            Reason::Database => "database",
        }
    }
}

impl From<Denied> for Reason {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Database(_) => Reason::Database,
            Denied::Command => Reason::Command,
            Denied::Key(_) => Reason::Key,
            Denied::Channel(_) => Reason::Channel,
        }
    }
}

/// Where a command came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// Directly from a client.
    TopLevel,
    /// From a transaction, when it was queued or run.
    Multi,
    /// From a script.
    Lua,
}

impl Context {
    /// The name that clients see.
    pub const fn name(self) -> &'static str {
        match self {
            Context::TopLevel => "toplevel",
            Context::Multi => "multi",
            Context::Lua => "lua",
        }
    }
}

/// Numbers of denials by reason.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Denials {
    /// Commands denied.
    pub commands: u64,
    /// Requests denied because of a key.
    pub keys: u64,
    /// Requests denied because of a channel.
    pub channels: u64,
    /// Failed logins.
    pub logins: u64,
    /// Requests denied because of a database.
    pub databases: u64,
}

impl Denials {
    /// Counts one more denial.
    pub fn count(&mut self, reason: Reason) {
        *match reason {
            Reason::Command => &mut self.commands,
            Reason::Key => &mut self.keys,
            Reason::Channel => &mut self.channels,
            Reason::Auth => &mut self.logins,
            Reason::Database => &mut self.databases,
        } += 1;
    }
}

/// One kind of denial, with the number of times it occurred.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Number of the entry, counting up. An entry that is counted again keeps it.
    pub id: u64,
    /// How often it occurred.
    pub count: u64,
    /// What was denied.
    pub reason: Reason,
    /// Where the command came from.
    pub context: Context,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// Name of the user.
    pub username: Vec<u8>,
    /// A line about the client that tried last.
    pub client: Vec<u8>,
    /// Time of the first denial.
    pub created: UnixMillis,
    /// Time of the last denial.
    pub updated: UnixMillis,
}

/// Subject of a denial. Denials with equal subjects share an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event<'a> {
    /// What was denied.
    pub reason: Reason,
    /// Where the command came from.
    pub context: Context,
    /// The command, key or channel.
    pub object: &'a [u8],
    /// Name of the user.
    pub username: &'a [u8],
}

/// The entries, newest first.
#[derive(Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl Log {
    /// Records a denial to the client described by the line `client`. At most `max_len` entries stay.
    pub fn add(&mut self, event: Event<'_>, client: Vec<u8>, now: UnixMillis, max_len: usize) {
        let Event { reason, context, object, username } = event;
        let [object, username] = [object, username].map(|name| &name[..name.len().min(MAX_NAME)]);
        let same = self.entries.iter().take(COMPARED).position(|entry| {
            entry.reason == reason
                && entry.context == context
                && entry.object == object
                && entry.username == username
                && now.since(entry.updated) <= JOIN_WITHIN_MS
        });
        let entry = match same.and_then(|at| self.entries.remove(at)) {
            Some(entry) => Entry { count: entry.count + 1, client, updated: now, ..entry },
            None => {
                let id = self.next_id;
                self.next_id += 1;
                let (object, username) = (object.into(), username.into());
                Entry { id, count: 1, reason, context, object, username, client, created: now, updated: now }
            }
        };
        self.entries.push_front(entry);
        self.trim(max_len);
    }

    /// Removes all but the newest `max_len` entries.
    pub fn trim(&mut self, max_len: usize) {
        self.entries.truncate(max_len);
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// The entries, newest first.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.entries.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(object: &str) -> Event<'_> {
        Event { reason: Reason::Key, context: Context::TopLevel, object: object.as_bytes(), username: b"u" }
    }

    #[test]
    fn the_same_within_a_minute_is_one_entry() {
        let mut log = Log::default();
        let mut add = |object: &str, now| log.add(event(object), object.into(), UnixMillis(now), 100);
        add("a", 0);
        add("b", 1);
        add("a", 60_000);
        add("a", 120_000);
        add("a", 180_001);
        let seen: Vec<_> =
            log.entries().map(|entry| (entry.id, entry.count, entry.created.0, entry.updated.0)).collect();
        assert_eq!(seen, [(2, 1, 180_001, 180_001), (0, 3, 0, 120_000), (1, 1, 1, 1)]);
        let other = Event { context: Context::Multi, ..event("a") };
        log.add(other, Vec::new(), UnixMillis(180_002), 100);
        assert_eq!(log.entries().len(), 4);
    }

    #[test]
    fn only_the_newest_are_compared_and_kept() {
        let mut log = Log::default();
        for i in 0..COMPARED + 1 {
            log.add(event(&i.to_string()), Vec::new(), UnixMillis(0), 100);
        }
        log.add(event("1"), Vec::new(), UnixMillis(0), 100);
        assert_eq!(log.entries().len(), COMPARED + 1);
        log.add(event("0"), Vec::new(), UnixMillis(0), 100);
        assert_eq!(log.entries().len(), COMPARED + 2);
        log.add(event("new"), Vec::new(), UnixMillis(0), 3);
        assert_eq!(log.entries().map(|entry| &*entry.object).collect::<Vec<_>>(), [&b"new"[..], b"0", b"1"]);
        log.add(event("none"), Vec::new(), UnixMillis(0), 0);
        assert_eq!(log.entries().len(), 0);
        log.clear();
    }

    #[test]
    fn long_names_are_cut_off() {
        let mut log = Log::default();
        for tail in ["a", "b"] {
            log.add(event(&format!("{}{tail}", "x".repeat(MAX_NAME))), Vec::new(), UnixMillis(0), 9);
        }
        let seen: Vec<_> = log.entries().map(|entry| (entry.object.len(), entry.count)).collect();
        assert_eq!(seen, [(MAX_NAME, 2)]);
    }
}
