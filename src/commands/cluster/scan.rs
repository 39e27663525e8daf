//! CLUSTERSCAN: iteration over the keys of all nodes.
//!
//! A cursor says which slot comes next, by a hash tag that is in the slot, so that clients send it where the slot is as
//! they do with a key: `<fingerprint>-{<tag>}-<position>`. The position is that of the scan in this node's tables; the
//! fingerprint tells whose. A node that did not make the cursor begins with the first key of the slot.

use crate::stdx::sync::OnceLock;

use super::{DOCS, slot, table};
use crate::clients::ClientKey;
use crate::cluster::slot::{SLOTS, Slot, pattern_slot};
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, KeyFlags, KeySpec, Spec};
use crate::stdx::glob::Pattern;
use crate::stdx::num;
use crate::types::Kind;

pub(super) const CLUSTERSCAN: Spec = Spec::admin("clusterscan", -2, clusterscan)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::NOT_KEY)])
    .tips(&["nondeterministic_output", "request_policy:special", "response_policy:special"])
    .docs(Docs {
        summary: "Iterates over the keys of all nodes.",
        since: "9.1.0",
        complexity: "O(N) for N elements returned",
        args: &[
            Arg::string("cursor"),
            Arg::pattern("match-pattern").token("MATCH").optional(),
            Arg::integer("count").token("COUNT").optional(),
            Arg::string("type").token("TYPE").optional(),
            Arg::integer("slot").token("SLOT").optional(),
        ],
        ..DOCS
    });

/// Slots visited by one call for each key that is wanted: that many may be empty.
const SLOTS_PER_KEY: u64 = 10;

/// What a request asks for.
struct Options<'a> {
    pattern: Pattern<'a>,
    count: u64,
    kind: Option<Kind>,
    /// The only slot to be visited.
    only: Option<Slot>,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>) -> Result<Options<'a>, Error> {
        let (mut pattern, mut count, mut kind, mut only) = (&b"*"[..], 10, None, None);
        for i in (2..args.len()).step_by(2) {
            let value = args.get(i + 1).ok_or(Error::Syntax)?;
            if args.is(i, "COUNT") {
                let n = args.int(i + 1)?;
                count = u64::try_from(n).ok().filter(|&n| n > 0).ok_or(Error::Syntax)?;
            } else if args.is(i, "MATCH") {
                pattern = value;
            } else if args.is(i, "TYPE") {
                let named = Kind::from_name(value);
                kind = Some(named.ok_or_else(|| Error::quoting(&[b"ERR unknown type name '", value, b"'"]))?);
            } else if args.is(i, "SLOT") {
                only = Some(slot(&args, i + 1)?);
            } else {
                return Err(Error::Syntax);
            }
        }
        let only = only.or_else(|| pattern_slot(pattern));
        Ok(Options { pattern: Pattern::compile(pattern), count, kind, only })
    }
}

/// CLUSTERSCAN cursor [MATCH pattern] [COUNT count] [TYPE type] [SLOT slot] → the next cursor, 0 at the end, and keys.
fn clusterscan(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    table(server)?;
    let options = Options::parse(args)?;
    let cursor = args.at(1);
    if cursor == b"0" {
        // Whoever got this may not have the first slot.
        let cursor = start_of(options.only.unwrap_or(Slot::FIRST));
        return reply(server, key, &cursor, &[]);
    }
    let here = Slot::of(cursor);
    if options.only.is_some_and(|only| only != here) {
        return Err(Error::text("ERR Cursor slot mismatch with SLOT argument"));
    }
    let invalid = || Error::text("ERR Invalid cursor");
    let mut parts = cursor.splitn(2, |&byte| byte == b'-');
    let maker = parts.next().unwrap_or_default();
    let position = parts.next().and_then(|rest| rest.rsplit(|&byte| byte == b'-').next());
    let position = position.and_then(num::parse_u64).ok_or_else(invalid)?;
    let fingerprint = fingerprint(server).to_owned();
    let start = u64::from(here.number());
    let known = maker == fingerprint.as_bytes() && Slot::from_low_bits(position) == here;
    let (names, next) = gather(server, key, &options, if known { position } else { start });
    let cursor = match next {
        None => "0".to_owned(),
        Some(next) => {
            let slot = Slot::from_low_bits(next);
            if table(server)?.is_mine(slot) || table(server)?.owner(slot) == table(server)?.my_primary() {
                format!("{fingerprint}-{{{}}}-{next}", tag(slot))
            } else {
                start_of(slot)
            }
        }
    };
    reply(server, key, &cursor, &names)
}

/// Keys from `cursor` on, in the slots of this node that follow one another, and the cursor behind them; `None` if
/// there are no more slots.
fn gather(
    server: &mut Server,
    key: ClientKey,
    options: &Options<'_>,
    mut cursor: u64,
) -> (Vec<Vec<u8>>, Option<u64>) {
    let db = server.clients[key].db as usize;
    let (mut names, mut due, mut seen) = (Vec::new(), Vec::new(), 0);
    let mut steps = options.count.saturating_mul(SLOTS_PER_KEY);
    let nodes = server.cluster.as_ref().map(|cluster| &cluster.machine.nodes);
    let primary = nodes.and_then(|nodes| nodes.my_primary());
    let served =
        |slot| nodes.is_some_and(|nodes| nodes.owner(slot).is_some() && nodes.owner(slot) == primary);
    let keys = server.keyspace.databases()[db].keys();
    let (now, ignored) = (server.keyspace.now(), server.keyspace.expiry() == crate::keyspace::Expiry::Ignore);
    let next = loop {
        let slot = Slot::from_low_bits(cursor);
        let next = keys.scan_slot(cursor, |entry| {
            seen += 1;
            if !options.pattern.matches(entry.key()) || options.kind.is_some_and(|kind| kind != entry.kind())
            {
                return;
            }
            if entry.expires().is_some_and(|at| at <= now) && !ignored {
                due.push(entry.key().to_vec());
            } else {
                names.push(entry.key().to_vec());
            }
        });
        // A table without keys takes no time; only what is looked at counts.
        let empty = keys.count_in_slot(slot) == 0;
        steps -= u64::from(!empty);
        cursor = match (next, Slot::new(slot.index() + 1)) {
            (0, _) if options.only.is_some() => break None,
            (0, None) => break None,
            (0, Some(following)) if !served(following) => break Some(u64::from(following.number())),
            (0, Some(following)) => following.number().into(),
            (next, _) => next,
        };
        if seen >= options.count || steps == 0 {
            break Some(cursor);
        }
    };
    for name in due {
        server.keyspace.db(db).expire_due(crate::stdx::hash::Key::new(&name));
    }
    (names, next)
}

fn reply(server: &mut Server, key: ClientKey, cursor: &str, names: &[Vec<u8>]) -> CmdResult {
    let mut reply = server.reply(key);
    reply.array(2);
    reply.bulk(cursor.as_bytes());
    Ok(reply.bulks(names))
}

/// The cursor at the beginning of a slot.
fn start_of(slot: Slot) -> String {
    format!("0-{{{}}}-0", tag(slot))
}

/// What tells cursors of this process from those of others: positions differ, as hashes do.
fn fingerprint(server: &Server) -> &str {
    &server.identity.run_id[..6]
}

/// A hash tag in a slot: the first of the shortest ones, made of letters and digits.
fn tag(slot: Slot) -> &'static str {
    static TAGS: OnceLock<Vec<String>> = OnceLock::new();
    &TAGS.get_or_init(all_tags)[slot.index()]
}

fn all_tags() -> Vec<String> {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut tags = vec![String::new(); SLOTS];
    for len in 1..=3 {
        for n in 0..DIGITS.len().pow(len) {
            let digit = |place: u32| char::from(DIGITS[n / DIGITS.len().pow(place) % DIGITS.len()]);
            let tag: String = (0..len).rev().map(digit).collect();
            let place = &mut tags[Slot::of(tag.as_bytes()).index()];
            if place.is_empty() {
                *place = tag;
            }
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_tag() {
        for slot in Slot::all() {
            assert_eq!(Slot::of(format!("0-{{{}}}-0", tag(slot)).as_bytes()), slot);
        }
        assert_eq!((tag(Slot::FIRST), tag(Slot::of(b"a"))), ("06S", "a"));
    }
}
