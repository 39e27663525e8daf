//! Who the nodes are and which slots they own: INFO, MYID, MYSHARDID, NODES, REPLICAS, SHARDS, SLOTS and LINKS.

use std::fmt::Write as _;

use super::{DOCS, TELLS, node, table};
use crate::clients::ClientKey;
use crate::cluster::bus::Kind;
use crate::cluster::conf::{Reader, describe};
use crate::cluster::nodes::{Flags as NodeFlags, Node, NodeKey, Nodes};
use crate::cluster::slot::{SLOTS as ALL, Slot};
use crate::config::value::EndpointType;
use crate::resp::{Args, Error, Replied, Reply};
use crate::server::Server;
use crate::server::cluster::now;
use crate::server::command::{Arg, CmdResult, Docs, Flags, Spec};

pub(super) const INFO: Spec = Spec::admin("cluster|info", 2, info)
    .flags(TELLS)
    .tips(&["nondeterministic_output"])
    .docs(Docs { summary: "Tells how the cluster is.", since: "3.0.0", ..DOCS });

/// CLUSTER INFO → lines of `name:value`.
fn info(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let nodes = table(server)?;
    let (pfail, fail) = (nodes.slots_of(NodeFlags::PFAIL), nodes.slots_of(NodeFlags::FAIL));
    let assigned = nodes.assigned();
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        _ = write!(text, "{name}:{value}\r\n");
    };
    line("cluster_state", if nodes.ok { &"ok" } else { &"fail" });
    line("cluster_slots_assigned", &assigned);
    line("cluster_slots_ok", &assigned.saturating_sub(pfail + fail));
    line("cluster_slots_pfail", &pfail);
    line("cluster_slots_fail", &fail);
    line("cluster_known_nodes", &nodes.len());
    line("cluster_size", &nodes.size);
    line("cluster_current_epoch", &nodes.current_epoch);
    line("cluster_my_epoch", &nodes.epoch_of(nodes.me()));
    if let Some(cluster) = &server.cluster {
        let counts = &cluster.machine.counts;
        for (direction, counts) in [("sent", &counts.sent), ("received", &counts.received)] {
            for (kind, count) in Kind::ALL.into_iter().zip(counts).filter(|&(_, &count)| count > 0) {
                line(&format!("cluster_stats_messages_{}_{direction}", kind.name()), count);
            }
            line(&format!("cluster_stats_messages_{direction}"), &counts.iter().sum::<u64>());
        }
        line("total_cluster_links_buffer_limit_exceeded", &cluster.links.limit_exceeded);
    }
    Ok(server.reply(key).verbatim("txt", text.as_bytes()))
}

pub(super) const MYID: Spec = Spec::admin("cluster|myid", 2, myid).flags(TELLS).docs(Docs {
    summary: "Tells the id of this node.",
    since: "3.0.0",
    ..DOCS
});

/// CLUSTER MYID → the id.
fn myid(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let id = table(server)?.myself().id;
    Ok(server.reply(key).bulk(id.as_bytes()))
}

pub(super) const MYSHARDID: Spec = Spec::admin("cluster|myshardid", 2, myshardid)
    .flags(TELLS)
    .tips(&["nondeterministic_output"])
    .docs(Docs { summary: "Tells the id of this node's shard.", since: "7.2.0", ..DOCS });

/// CLUSTER MYSHARDID → the id.
fn myshardid(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let id = table(server)?.myself().shard;
    Ok(server.reply(key).bulk(id.as_bytes()))
}

pub(super) const NODES: Spec =
    Spec::admin("cluster|nodes", 2, nodes).flags(TELLS).tips(&["nondeterministic_output"]).docs(Docs {
        summary: "Describes all nodes, one per line.",
        since: "3.0.0",
        complexity: "O(N) for N nodes",
        ..DOCS
    });

/// CLUSTER NODES → a line for each node that is known by its name.
fn nodes(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    table(server)?;
    let mut text = String::new();
    for (node, _) in table(server)?.iter() {
        text.push_str(&line_about(server, key, node)?);
        text.push('\n');
    }
    Ok(server.reply(key).verbatim("txt", text.as_bytes()))
}

fn line_about(server: &Server, key: ClientKey, node: NodeKey) -> Result<String, Error> {
    let tls = server.uses_tls(key);
    Ok(describe(table(server)?, node, &now(), Reader::Client { tls }))
}

pub(super) const REPLICAS: Spec = Spec::admin("cluster|replicas", 3, replicas)
    .flags(Flags::ADMIN.with(Flags::STALE))
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Describes the replicas of a node.",
        since: "5.0.0",
        complexity: "O(N) for N replicas",
        args: &[Arg::string("node-id")],
        ..DOCS
    });

pub(super) const SLAVES: Spec = Spec::admin("cluster|slaves", 3, replicas)
    .flags(Flags::ADMIN.with(Flags::STALE))
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Describes the replicas of a node.",
        since: "3.0.0",
        complexity: "O(N) for N replicas",
        deprecated_since: "5.0.0",
        replaced_by: "`CLUSTER REPLICAS`",
        args: &[Arg::string("node-id")],
        ..DOCS
    });

/// CLUSTER REPLICAS node → a line for each replica, as CLUSTER NODES describes it.
fn replicas(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let nodes = table(server)?;
    let primary = node(nodes, &args, 2)?;
    if nodes[primary].is_replica() {
        return Err(Error::text("ERR The specified node is not a master"));
    }
    let lines: Result<Vec<String>, Error> =
        nodes[primary].replicas().iter().map(|&replica| line_about(server, key, replica)).collect();
    Ok(server.reply(key).bulks(&lines?))
}

/// How a client is told where a node is.
struct Teller {
    endpoint: EndpointType,
    tls: bool,
    /// Offset of this node's own data.
    offset: u64,
}

impl Teller {
    fn new(server: &Server, key: ClientKey) -> Teller {
        Teller {
            endpoint: server.config.cluster.preferred_endpoint_type,
            tls: server.uses_tls(key),
            offset: server.replication.offset(),
        }
    }

    /// What a client connects to: an address or host name; `None` for the one that it has used.
    fn endpoint<'a>(&self, node: &'a Node) -> Option<&'a str> {
        match self.endpoint {
            EndpointType::Ip => Some(&node.ip),
            EndpointType::Hostname if node.hostname.is_empty() => Some("?"),
            EndpointType::Hostname => Some(&node.hostname),
            EndpointType::Unknown => None,
        }
    }

    /// Offset of a node's data.
    fn offset(&self, node: &Node) -> u64 {
        if node.is(NodeFlags::MYSELF) { self.offset } else { node.offset }
    }

    /// Endpoint, port, id, and further names of a node, as CLUSTER SLOTS has them.
    fn address(&self, reply: &mut Reply<'_>, node: &Node) -> Replied {
        reply.array(4);
        reply.bulk_or_null(self.endpoint(node).map(str::as_bytes));
        reply.int(node.client_port(self.tls).into());
        reply.bulk(node.id.as_bytes());
        let ip = (self.endpoint != EndpointType::Ip).then_some(("ip", &*node.ip));
        let named = self.endpoint != EndpointType::Hostname && !node.hostname.is_empty();
        let hostname = named.then_some(("hostname", &*node.hostname));
        let mut replied = reply.map(usize::from(ip.is_some()) + usize::from(hostname.is_some()));
        for (name, value) in ip.into_iter().chain(hostname) {
            reply.bulk(name.as_bytes());
            replied = reply.bulk(value.as_bytes());
        }
        replied
    }

    /// A node as CLUSTER SHARDS has it.
    fn describe(&self, reply: &mut Reply<'_>, node: &Node) -> Replied {
        let ports = [("port", node.port), ("tls-port", node.tls_port)];
        let ports = ports.into_iter().filter(|&(_, port)| port != 0);
        let offset = self.offset(node);
        let health = if node.has_failed() {
            "fail"
        } else if node.is_replica() && offset == 0 {
            "loading"
        } else {
            "online"
        };
        reply.map(6 + ports.clone().count() + usize::from(!node.hostname.is_empty()));
        reply.bulk(b"id");
        reply.bulk(node.id.as_bytes());
        for (name, port) in ports {
            reply.bulk(name.as_bytes());
            reply.int(port.into());
        }
        reply.bulk(b"ip");
        reply.bulk(node.ip.as_bytes());
        reply.bulk(b"endpoint");
        reply.bulk_or_null(self.endpoint(node).map(str::as_bytes));
        if !node.hostname.is_empty() {
            reply.bulk(b"hostname");
            reply.bulk(node.hostname.as_bytes());
        }
        reply.bulk(b"role");
        reply.bulk(if node.is_replica() { b"replica" } else { b"master" });
        reply.bulk(b"replication-offset");
        reply.int(offset as i64);
        reply.bulk(b"health");
        reply.bulk(health.as_bytes())
    }
}

pub(super) const SLOTS: Spec =
    Spec::admin("cluster|slots", 2, slots).flags(TELLS).tips(&["nondeterministic_output"]).docs(Docs {
        summary: "Tells which nodes serve which ranges of slots.",
        since: "3.0.0",
        complexity: "O(N) for N nodes",
        history: &[("4.0.0", "Added node IDs."), ("7.0.0", "Added additional networking metadata field.")],
        ..DOCS
    });

/// CLUSTER SLOTS → for each range: first and last slot, its primary, and the replicas that have the data.
fn slots(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    table(server)?;
    let teller = Teller::new(server, key);
    reply_about(server, key, |nodes, reply| {
        let ranges = ranges(nodes);
        let mut replied = reply.array(ranges.len());
        for (first, last, owner) in ranges {
            let replicas = nodes[owner].replicas().iter().map(|&replica| &nodes[replica]);
            let replicas: Vec<&Node> =
                replicas.filter(|node| !node.has_failed() && teller.offset(node) != 0).collect();
            reply.array(3 + replicas.len());
            reply.int(first.number().into());
            reply.int(last.number().into());
            replied = teller.address(reply, &nodes[owner]);
            for replica in replicas {
                replied = teller.address(reply, replica);
            }
        }
        replied
    })
}

/// All ranges of slots with one owner, in ascending order.
fn ranges(nodes: &Nodes) -> Vec<(Slot, Slot, NodeKey)> {
    let mut ranges: Vec<(Slot, Slot, NodeKey)> = Vec::new();
    for slot in Slot::all() {
        let Some(owner) = nodes.owner(slot) else { continue };
        match ranges.last_mut() {
            Some((_, last, same)) if *same == owner && last.index() + 1 == slot.index() => *last = slot,
            _ => ranges.push((slot, slot, owner)),
        }
    }
    debug_assert!(ranges.len() <= ALL);
    ranges
}

pub(super) const SHARDS: Spec =
    Spec::admin("cluster|shards", 2, shards).flags(TELLS).tips(&["nondeterministic_output"]).docs(Docs {
        summary: "Tells the slots and the nodes of each shard.",
        since: "7.0.0",
        complexity: "O(N) for N nodes",
        ..DOCS
    });

/// CLUSTER SHARDS → for each shard: its ranges of slots, and its nodes.
fn shards(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    table(server)?;
    let teller = Teller::new(server, key);
    reply_about(server, key, |nodes, reply| {
        let mut ids = Vec::new();
        for (_, node) in nodes.iter() {
            if !ids.contains(&node.shard) && !node.is(NodeFlags::HANDSHAKE) {
                ids.push(node.shard);
            }
        }
        let mut replied = reply.array(ids.len());
        for id in ids {
            let members = nodes.shard(id);
            let owner = members.iter().find(|&&node| !nodes[node].slots().is_empty());
            let ranges: Vec<_> = owner.map_or(Vec::new(), |&owner| nodes[owner].slots().ranges().collect());
            reply.map(2);
            reply.bulk(b"slots");
            reply.array(2 * ranges.len());
            for (first, last) in ranges {
                reply.int(first.number().into());
                reply.int(last.number().into());
            }
            reply.bulk(b"nodes");
            replied = reply.array(members.len());
            for node in members {
                replied = teller.describe(reply, &nodes[node]);
            }
        }
        replied
    })
}

/// Replies to a client with something from the table of nodes.
fn reply_about(
    server: &mut Server,
    key: ClientKey,
    write: impl FnOnce(&Nodes, &mut Reply<'_>) -> Replied,
) -> CmdResult {
    let client = &mut server.clients[key];
    let protocol = client.protocol;
    // The output leaves its client while it is written, because the names are borrowed from the server meanwhile.
    let mut out = std::mem::take(&mut client.io.output);
    let replied = table(server).map(|nodes| write(nodes, &mut out.reply(protocol)));
    server.clients[key].io.output = out;
    replied
}

pub(super) const LINKS: Spec = Spec::admin("cluster|links", 2, links)
    .flags(Flags::STALE)
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Lists the connections of the cluster bus.",
        since: "7.0.0",
        complexity: "O(N) for N nodes",
        ..DOCS
    });

/// CLUSTER LINKS → for each connection: direction, node, time of creation, events, and bytes that wait to be sent.
fn links(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    table(server)?;
    let links = server.bus_links();
    let mut replied = server.reply(key).array(links.len());
    for link in links {
        let mut reply = server.reply(key);
        reply.map(6);
        reply.bulk(b"direction");
        reply.bulk(if link.outgoing { b"to" } else { b"from" });
        reply.bulk(b"node");
        reply.bulk(link.node.as_bytes());
        reply.bulk(b"create-time");
        reply.int(link.created_ms);
        reply.bulk(b"events");
        reply.bulk(link.events.as_bytes());
        reply.bulk(b"send-buffer-allocated");
        reply.int(link.allocated as i64);
        reply.bulk(b"send-buffer-used");
        replied = reply.int(link.used as i64);
    }
    Ok(replied)
}
