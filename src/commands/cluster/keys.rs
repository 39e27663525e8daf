//! The keys of a slot: which slot a key is in, how many there are, which they are, and their removal.

use super::{CHANGES, DOCS, slot, table};
use crate::clients::ClientKey;
use crate::cluster::slot::{Slot, key_slot};
use crate::keyspace::Event;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, Spec};
use crate::stdx::hash::Key;

pub(super) const KEYSLOT: Spec = Spec::admin("cluster|keyslot", 3, keyslot).flags(Flags::STALE).docs(Docs {
    summary: "Tells the slot of a key.",
    since: "3.0.0",
    complexity: "O(N) for a key of N bytes",
    args: &[Arg::string("key")],
    ..DOCS
});

/// CLUSTER KEYSLOT key → number of the slot.
fn keyslot(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    table(server)?;
    Ok(server.reply(key).int(key_slot(args.at(2)).number().into()))
}

pub(super) const COUNTKEYSINSLOT: Spec =
    Spec::admin("cluster|countkeysinslot", 3, countkeysinslot).flags(Flags::STALE).docs(Docs {
        summary: "Tells how many keys this node has in a slot.",
        since: "3.0.0",
        args: &[Arg::integer("slot")],
        ..DOCS
    });

/// CLUSTER COUNTKEYSINSLOT slot → number of keys.
fn countkeysinslot(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    table(server)?;
    let slot = usize::try_from(args.int(2)?).ok().and_then(Slot::new);
    let slot = slot.ok_or_else(|| Error::text("ERR Invalid slot"))?;
    let keys = server.slot_keys(slot);
    Ok(server.reply(key).int(keys as i64))
}

pub(super) const GETKEYSINSLOT: Spec = Spec::admin("cluster|getkeysinslot", 4, getkeysinslot)
    .flags(Flags::STALE)
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Lists keys that this node has in a slot.",
        since: "3.0.0",
        complexity: "O(N) for N keys",
        args: &[Arg::integer("slot"), Arg::integer("count")],
        ..DOCS
    });

/// CLUSTER GETKEYSINSLOT slot count → so many keys, or all there are. The keys are those of the selected database.
fn getkeysinslot(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    table(server)?;
    let (slot, count) = (usize::try_from(args.int(2)?).ok().and_then(Slot::new), args.int(3)?);
    let (Some(slot), Ok(count)) = (slot, usize::try_from(count)) else {
        return Err(Error::text("ERR Invalid slot or number of keys"));
    };
    let client = &mut server.clients[key];
    let (protocol, db) = (client.protocol, client.db as usize);
    // The output leaves its client while it is written, because the names are borrowed from the server meanwhile.
    let mut out = std::mem::take(&mut client.io.output);
    let keys = server.keyspace.databases()[db].keys();
    let mut reply = out.reply(protocol);
    let replied = reply.array(keys.count_in_slot(slot).min(count));
    reply.each(keys.in_slot(slot).take(count), |reply, entry| _ = reply.bulk(entry.key()));
    server.clients[key].io.output = out;
    Ok(replied)
}

pub(super) const FLUSHSLOT: Spec = Spec::admin("cluster|flushslot", -3, flushslot)
    .flags(CHANGES.without(Flags::STALE).with(Flags::WRITE))
    .acl(Acl::KEYSPACE)
    .docs(Docs {
        summary: "Removes the keys of a slot.",
        since: "9.0.0",
        complexity: "O(N) for N keys in the slot",
        args: &[
            Arg::integer("slot"),
            Arg::one_of("flush-type", &[Arg::word("async", "ASYNC"), Arg::word("sync", "SYNC")]).optional(),
        ],
        ..DOCS
    });

/// CLUSTER FLUSHSLOT slot [ASYNC | SYNC] → OK. Replicas and the log see a DEL, which every server understands.
fn flushslot(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    table(server)?;
    let slot = slot(&args, 2)?;
    let lazily = match args.len() {
        3 => server.keyspace.lazy.user_flush,
        4 if args.is(3, "ASYNC") => true,
        4 if args.is(3, "SYNC") => false,
        _ => return Err(Error::Syntax),
    };
    let index = server.clients[key].db as usize;
    let keys = server.keyspace.databases()[index].keys();
    let names: Vec<Vec<u8>> = keys.in_slot(slot).map(|entry| entry.key().to_vec()).collect();
    let mut gone: Vec<&[u8]> = vec![b"DEL"];
    for name in &names {
        let (mut db, name) = (server.keyspace.db(index), Key::new(name));
        if db.remove(name, lazily) {
            db.changed(name, Event::generic("del"), 1);
            gone.push(name.bytes);
        }
    }
    if gone.len() > 1 {
        server.execution.feed.instead(&gone);
    }
    Ok(server.reply(key).ok())
}
