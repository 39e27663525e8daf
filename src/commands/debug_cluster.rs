//! DEBUG subcommands that disturb the bus of a cluster, for tests.

use crate::clients::ClientKey;
use crate::cluster::bus::Kind;
use crate::cluster::nodes::NodeId;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::CmdResult;
use crate::stdx::num;

fn no_cluster() -> Error {
    Error::text("ERR Debug option only available for cluster mode enabled setup!")
}

/// DEBUG DROP-CLUSTER-PACKET-FILTER kind → OK. Packets of this kind that arrive are ignored; of none if it is -1.
pub(super) fn drop_packets(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let kind = num::parse_i64(args.at(2)).ok_or(Error::NotInteger)?;
    let kind = usize::try_from(kind).ok().and_then(|kind| Kind::ALL.get(kind).copied());
    server.cluster_change(|machine, _| machine.ignored = kind).ok_or_else(no_cluster)?;
    Ok(server.reply(key).ok())
}

/// DEBUG CLUSTERLINK KILL TO | FROM | ALL node → OK. Connections to that node, or from it, are closed.
pub(super) fn kill_links(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if !args.is(2, "KILL") {
        return Err(Error::Syntax);
    }
    let (to, from) = match () {
        () if args.is(3, "TO") => (true, false),
        () if args.is(3, "FROM") => (false, true),
        () if args.is(3, "ALL") => (true, true),
        () => return Err(Error::Syntax),
    };
    let nodes = server.cluster.as_ref().map(|cluster| &cluster.machine.nodes).ok_or_else(no_cluster)?;
    let node = NodeId::parse(args.at(4)).and_then(|id| nodes.find(&id));
    let node = node.ok_or_else(|| Error::quoting(&[b"ERR Unknown node ", args.at(4)]))?;
    server.cluster_change(|machine, local| machine.close_links(node, to, from, local.now.at));
    Ok(server.reply(key).ok())
}
