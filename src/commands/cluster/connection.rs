//! ASKING, READONLY and READWRITE: what a client of a cluster asks for its own connection.

use super::DOCS;
use crate::clients::{ClientFlags, ClientKey};
use crate::resp::Args;
use crate::server::Server;
use crate::server::command::{Acl, CmdResult, Docs, Flags, Spec};

pub(super) const ASKING: Spec = Spec::admin("asking", 1, asking)
    .flags(Flags::FAST.with(Flags::KEEPS_ASKING))
    .acl(Acl::CONNECTION)
    .docs(Docs {
        summary: "Tells that the owner of a slot that is being moved here sent the client.",
        since: "3.0.0",
        ..DOCS
    });

/// ASKING → OK.
fn asking(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    set(server, key, ClientFlags::ASKING, true)
}

pub(super) const READONLY: Spec = Spec::admin("readonly", 1, readonly)
    .flags(Flags::FAST.with(Flags::LOADING).with(Flags::STALE))
    .acl(Acl::CONNECTION)
    .docs(Docs {
        summary: "Lets the connection read from a replica, whose data may be old.",
        since: "3.0.0",
        ..DOCS
    });

/// READONLY → OK.
fn readonly(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    set(server, key, ClientFlags::READS_COPIES, true)
}

pub(super) const READWRITE: Spec = Spec::admin("readwrite", 1, readwrite)
    .flags(Flags::FAST.with(Flags::LOADING).with(Flags::STALE))
    .acl(Acl::CONNECTION)
    .docs(Docs { summary: "Has the connection redirected to primaries again.", since: "3.0.0", ..DOCS });

/// READWRITE → OK.
fn readwrite(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    set(server, key, ClientFlags::READS_COPIES, false)
}

fn set(server: &mut Server, key: ClientKey, flag: ClientFlags, on: bool) -> CmdResult {
    // In Valkey, READONLY and READWRITE do no harm where there is no cluster.
    let harmless = flag == ClientFlags::READS_COPIES && server.config.limits.compat_version.is_valkey();
    if server.cluster.is_some() || !harmless {
        super::table(server)?;
    }
    server.clients[key].flags.set(flag, on);
    Ok(server.reply(key).ok())
}
