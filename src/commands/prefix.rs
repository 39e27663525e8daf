//! What keys with a common beginning have in common: how much memory they take, and their removal.
//!
//! Both commands walk through all keys of the selected database in slices, while other clients are served. They cannot be
//! used inside a transaction or a script.

use std::collections::HashMap;

use super::help::help;
use crate::clients::ClientKey;
use crate::keyspace::Entry;
use crate::resp::{Args, Error, Replied, Reply};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, Spec};
use crate::server::walks::{Place, Seen, Walk};
use crate::stdx::hash::Key;

/// Table entries of the commands.
pub const COMMANDS: &[Spec] = &[DELPREFIX, PREFIX];

/// Elements of a collection from which its size is estimated, as in MEMORY USAGE.
const SAMPLES: usize = 5;
/// The most prefixes that are told apart. Keys of further ones are counted together.
const MOST_PREFIXES: usize = 100_000;
const DEFAULT_SEPARATOR: &[u8] = b":";
const DEFAULT_DEPTH: usize = 1;
const DEFAULT_TOP: usize = 20;

const PREFIX: Spec = Spec::container("prefix", -2, &[PREFIX_HELP, PREFIX_STATS]).docs(Docs {
    summary: "Tells about keys with a common beginning.",
    since: "1.0.0",
    complexity: "That of the subcommand.",
    group: Group::Generic,
    ..Docs::NONE
});

const PREFIX_STATS: Spec = Spec::admin("prefix|stats", -2, prefix_stats)
    .flags(Flags::READONLY.with(Flags::NOSCRIPT).with(Flags::NO_MULTI))
    .acl(Acl::KEYSPACE.with(Acl::DANGEROUS))
    .docs(Docs {
        summary: "Counts the keys of each prefix, their bytes, and those that expire.",
        since: "1.0.0",
        complexity: "O(N) for N keys in the database, in slices between which other clients are served.",
        group: Group::Generic,
        args: &[
            Arg::string("separator").summary("What ends a part of a key; `:` by default.").optional(),
            Arg::integer("depth").summary("Number of parts in a prefix; 1 by default.").optional(),
            Arg::integer("top").summary("Number of prefixes to answer; 20 by default.").optional(),
        ],
        ..Docs::NONE
    });

const PREFIX_HELP: Spec = Spec::data("prefix|help", 2, prefix_help)
    .flags(Flags::LOADING.with(Flags::STALE))
    .acl(Acl::KEYSPACE)
    .docs(Docs {
        summary: "Lists the subcommands.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        ..Docs::NONE
    });

/// PREFIX HELP → descriptions of the subcommands.
fn prefix_help(ctx: &mut Ctx<'_>) -> CmdResult {
    let stats = "Sums of all keys, and of the prefixes that take most memory. A prefix has depth parts\nthat end with the separator.";
    Ok(help(&mut ctx.reply, "PREFIX", &[("STATS [separator] [depth] [top]", stats)]))
}

/// What is known about some keys.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Sums {
    keys: u64,
    bytes: u64,
    /// Number of keys that expire.
    expiring: u64,
    /// Sum of the milliseconds left to those.
    ttl_ms: u128,
}

impl Sums {
    fn add(&mut self, bytes: usize, ttl_ms: Option<i64>) {
        self.keys += 1;
        self.bytes += bytes as u64;
        if let Some(ttl_ms) = ttl_ms {
            self.expiring += 1;
            self.ttl_ms += u128::from(ttl_ms.max(0).unsigned_abs());
        }
    }

    /// Writes four pairs of a map.
    fn write(&self, reply: &mut Reply<'_>) {
        let average = self.ttl_ms.checked_div(self.expiring.into()).unwrap_or(0);
        let pairs = [
            ("keys", self.keys),
            ("bytes", self.bytes),
            ("expires", self.expiring),
            ("avg-ttl-ms", average as u64),
        ];
        for (name, number) in pairs {
            reply.bulk(name.as_bytes());
            reply.int(number as i64);
        }
    }
}

/// The first `depth` parts of a key, with their separators; fewer if it has fewer, and nothing if it has no separator.
fn prefix_of<'k>(key: &'k [u8], separator: &[u8], depth: usize) -> &'k [u8] {
    let mut end = 0;
    for _ in 0..depth {
        let found = key[end..].windows(separator.len()).position(|window| window == separator);
        match found {
            Some(at) => end += at + separator.len(),
            None => break,
        }
    }
    &key[..end]
}

/// Counts keys by their prefixes.
struct Count {
    separator: Vec<u8>,
    depth: usize,
    top: usize,
    total: Sums,
    prefixes: HashMap<Vec<u8>, Sums>,
    /// Keys of the prefixes that are not told apart.
    rest: Sums,
}

impl Walk for Count {
    fn see(&mut self, entry: &Entry, place: &Place<'_>) -> Seen {
        let ttl_ms = entry.expires().map(|at| at.since(place.now));
        let bytes = entry.bytes(SAMPLES) + place.db.table_share(Key::new(entry.key()), ttl_ms.is_some());
        self.total.add(bytes, ttl_ms);
        let prefix = prefix_of(entry.key(), &self.separator, self.depth);
        let tells_apart = self.prefixes.len() < MOST_PREFIXES;
        match self.prefixes.get_mut(prefix) {
            Some(sums) => sums.add(bytes, ttl_ms),
            None if tells_apart => self.prefixes.entry(prefix.to_vec()).or_default().add(bytes, ttl_ms),
            None => self.rest.add(bytes, ttl_ms),
        }
        Seen::Keep
    }

    fn what(&self) -> &'static str {
        "PREFIX STATS"
    }

    fn removes(&self) -> bool {
        false
    }

    fn answer(&mut self, reply: &mut Reply<'_>) -> Replied {
        let mut sorted: Vec<(Vec<u8>, Sums)> = self.prefixes.drain().collect();
        let all = sorted.len();
        sorted.sort_by(|a, b| b.1.bytes.cmp(&a.1.bytes).then_with(|| a.0.cmp(&b.0)));
        sorted.truncate(self.top);
        let replied = reply.map(7);
        self.total.write(reply);
        reply.bulk(b"prefixes");
        reply.int(all as i64);
        reply.bulk(b"uncounted-keys");
        reply.int(self.rest.keys as i64);
        reply.bulk(b"top");
        reply.array(sorted.len());
        for (prefix, sums) in &sorted {
            reply.map(5);
            reply.bulk(b"prefix");
            reply.bulk(prefix);
            sums.write(reply);
        }
        replied
    }
}

/// Argument `i` as a number of at least 1.
fn positive(args: &Args<'_>, i: usize, default: usize) -> Result<usize, Error> {
    if i >= args.len() {
        return Ok(default);
    }
    let n = usize::try_from(args.int(i)?).ok().filter(|&n| n > 0);
    n.ok_or_else(|| Error::text("ERR value is out of range, must be positive"))
}

/// PREFIX STATS [separator] [depth] [top] → sums of all keys, and of the prefixes that take most memory.
fn prefix_stats(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if args.len() > 5 {
        return Err(Error::Syntax);
    }
    let separator = args.get(2).unwrap_or(DEFAULT_SEPARATOR);
    if separator.is_empty() {
        return Err(Error::text("ERR the separator is empty"));
    }
    let count = Count {
        separator: separator.to_vec(),
        depth: positive(&args, 3, DEFAULT_DEPTH)?,
        top: positive(&args, 4, DEFAULT_TOP)?,
        total: Sums::default(),
        prefixes: HashMap::new(),
        rest: Sums::default(),
    };
    server.begin_walk(key, Box::new(count))
}

const DELPREFIX: Spec = Spec::admin("delprefix", -2, delprefix)
    .flags(Flags::WRITE.with(Flags::NOSCRIPT).with(Flags::NO_MULTI))
    .acl(Acl::KEYSPACE.with(Acl::DANGEROUS))
    .find_keys(any_key)
    .docs(Docs {
        summary: "Removes the keys that begin with a prefix.",
        since: "1.0.0",
        complexity: "O(N) for N keys in the database, in slices between which other clients are served.",
        group: Group::Generic,
        args: &[
            Arg::string("prefix"),
            Arg::integer("count").token("LIMIT").summary("The most keys to remove.").optional(),
        ],
        ..Docs::NONE
    });

/// Which keys are removed is known only once the command runs, so that a user must have permission for every key.
fn any_key(_: &Args<'_>, _: &mut dyn FnMut(usize, KeyFlags)) -> bool {
    false
}

/// Removes keys with a prefix.
struct Removal {
    prefix: Vec<u8>,
    left: u64,
    removed: u64,
}

impl Walk for Removal {
    fn see(&mut self, entry: &Entry, _: &Place<'_>) -> Seen {
        if self.left == 0 {
            return Seen::End;
        }
        if !entry.key().starts_with(&self.prefix) {
            return Seen::Keep;
        }
        self.left -= 1;
        self.removed += 1;
        Seen::Remove
    }

    fn what(&self) -> &'static str {
        "DELPREFIX"
    }

    fn removes(&self) -> bool {
        true
    }

    fn answer(&mut self, reply: &mut Reply<'_>) -> Replied {
        reply.int(self.removed as i64)
    }
}

/// DELPREFIX prefix [LIMIT count] → how many keys were removed. An empty prefix is refused: that is what FLUSHDB is for.
fn delprefix(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let left = match args.len() {
        2 => u64::MAX,
        4 if args.is(2, "LIMIT") => positive(&args, 3, 0)? as u64,
        _ => return Err(Error::Syntax),
    };
    if args.at(1).is_empty() {
        return Err(Error::text("ERR the prefix is empty, use FLUSHDB to remove all keys"));
    }
    server.begin_walk(key, Box::new(Removal { prefix: args.at(1).to_vec(), left, removed: 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_behind_separators() {
        for (key, depth, prefix) in [
            ("a:b:c", 1, "a:"),
            ("a:b:c", 2, "a:b:"),
            ("a:b:c", 9, "a:b:"),
            ("abc", 1, ""),
            (":a", 1, ":"),
            ("", 1, ""),
        ] {
            assert_eq!(prefix_of(key.as_bytes(), b":", depth), prefix.as_bytes(), "{key}");
        }
        assert_eq!(prefix_of(b"a::b", b"::", 1), b"a::");
    }
}
