//! Connections of the bus.
//!
//! Each carries packets in both directions, without waiting: what cannot be sent is kept, and the connection is closed
//! if that gets too much (`cluster-link-sendbuf-limit`).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use crate::cluster::bus;
use crate::cluster::nodes::{LinkId, NodeId};
use crate::net::error_text;
use crate::net::link::Link;
use crate::net::listener::{Listener, Queue};
use crate::net::poll::{Poll, Source};
use crate::net::stream::Stream;
use crate::server::Server;
use crate::server::cluster::now;
use crate::stats::log::limited;
use crate::stdx::clock::UnixMillis;

/// Bytes received on a connection in one turn of the loop, before others are served.
const READ_BUDGET: usize = 256 << 10;

/// The connections of a node.
#[derive(Default)]
pub struct Links {
    pub(in crate::server) listeners: Vec<Listener>,
    links: HashMap<LinkId, Open>,
    /// Connections that have packets to send.
    dirty: Vec<LinkId>,
    /// Connections that may have more to read, although no event will report it.
    again: Vec<LinkId>,
    /// Connections that were closed because too much was waiting to be sent.
    pub limit_exceeded: u64,
}

/// A connection.
struct Open {
    link: Link,
    connected: bool,
    is_dirty: bool,
    created: UnixMillis,
}

impl Open {
    fn new(link: Link) -> Open {
        Open { link, connected: false, is_dirty: false, created: UnixMillis::now() }
    }
}

/// What CLUSTER LINKS shows of a connection.
pub struct Shown {
    /// Whether this node opened it.
    pub outgoing: bool,
    /// Who is at the other end.
    pub node: NodeId,
    /// When it was opened.
    pub created_ms: i64,
    /// What it waits for.
    pub events: &'static str,
    /// Bytes allocated for what is to be sent.
    pub allocated: usize,
    /// Bytes to be sent.
    pub used: usize,
}

impl Links {
    pub(super) fn new(listeners: Vec<Listener>) -> Links {
        Links { listeners, ..Links::default() }
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.links.len()
    }

    /// Whether there is no connection.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Bytes that all connections keep.
    pub fn memory(&self) -> usize {
        self.links.values().map(|open| size_of::<Open>() + open.link.allocated()).sum()
    }

    /// Whether a connection may have more to read, although no event will report it.
    pub(in crate::server) fn has_more(&self) -> bool {
        !self.again.is_empty()
    }

    /// Whether packets wait to be sent.
    pub(super) fn has_unsent(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub(super) fn queue(&mut self, id: LinkId, packet: &[u8]) {
        let Some(open) = self.links.get_mut(&id) else { return };
        open.link.push(packet);
        if !open.is_dirty {
            open.is_dirty = true;
            self.dirty.push(id);
        }
    }

    pub(super) fn drop_link(&mut self, id: LinkId, poll: Option<&Poll>) {
        if let Some(mut open) = self.links.remove(&id)
            && let Some(poll) = poll
        {
            // Closing the socket has the same effect.
            let _ = poll.registry().deregister(open.link.stream_mut());
        }
    }
}

pub(super) fn resolve(ip: &str, port: u16) -> io::Result<SocketAddr> {
    if let Ok(ip) = ip.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, port));
    }
    // Nodes may announce a host name in place of an address.
    (ip, port).to_socket_addrs()?.next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl Server {
    /// Opens a connection to another node.
    pub(super) fn open_bus_link(&mut self, id: LinkId, ip: &str, port: u16) {
        let opened = resolve(ip, port).and_then(|peer| {
            let source: Option<IpAddr> = self.config.net.bind_source_addr.parse().ok();
            let mut link = Link::connect(peer, source.filter(|source| source.is_ipv4() == peer.is_ipv4()))?;
            if self.config.tls.cluster
                && let Some(connector) = self.tls.connector()
            {
                link.encrypt(connector);
            }
            let Some(poll) = &self.event_loop.poll else { return Err(io::ErrorKind::NotConnected.into()) };
            poll.registry().register(link.stream_mut(), Source::Bus(id.0 as usize))?;
            Ok(link)
        });
        let Some(cluster) = &mut self.cluster else { return };
        match opened {
            Ok(link) => {
                cluster.links.links.insert(id, Open::new(link));
            }
            Err(error) => {
                tracing::trace!("Unable to connect to Cluster Node [{ip}]:{port} -> {}", error_text(&error));
                cluster.machine.closed(id, now().at);
            }
        }
    }

    /// Accepts connections of other nodes.
    pub(in crate::server) fn accept_on_bus(&mut self, listener: usize) {
        let Some(cluster) = &mut self.cluster else { return };
        let listeners = std::mem::take(&mut cluster.links.listeners);
        let mut accepted = Vec::new();
        let result = listeners.get(listener).map(|socket| socket.accept(|stream| accepted.push(stream)));
        cluster.links.listeners = listeners;
        for stream in accepted {
            self.welcome_node(stream);
        }
        let all = match result {
            None | Some(Ok(Queue::Empty)) => return,
            Some(Ok(Queue::Unknown)) => true,
            Some(Err(error)) => {
                limited!(warn, "Error accepting cluster node: {}", error_text(&error));
                true
            }
        };
        if let (true, Some(poll), Some(cluster)) = (all, &self.event_loop.poll, &mut self.cluster) {
            let socket = &mut cluster.links.listeners[listener];
            if let Err(error) = poll.registry().rearm_readable(socket, Source::BusListener(listener)) {
                tracing::warn!("Cannot watch the cluster bus: {error}");
            }
        }
    }

    fn welcome_node(&mut self, stream: Stream) {
        let Some(peer) = stream.peer_ip() else { return };
        let local = stream.local_ip().map_or(String::new(), |ip| ip.to_string());
        // It fails only on a broken connection, which the first read detects.
        let _ = stream.set_keepalive((self.config.cluster.node_timeout_ms / 1000 * 2) as u32);
        let Some(cluster) = &mut self.cluster else { return };
        let acceptor = self.tls.acceptor().filter(|_| self.config.tls.cluster);
        let mut link = Link::accepted(stream, acceptor);
        let id = cluster.machine.accepted(&peer.to_string(), &local, now().at);
        let Some(poll) = &self.event_loop.poll else { return };
        if let Err(error) = poll.registry().register(link.stream_mut(), Source::Bus(id.0 as usize)) {
            limited!(warn, "Cannot watch a connection of a cluster node: {error}");
            cluster.machine.closed(id, now().at);
            return;
        }
        cluster.links.links.insert(id, Open::new(link));
    }

    /// Serves connections that are ready, and those that were left with more to read.
    pub(in crate::server) fn serve_bus(&mut self, ready: &[Source]) {
        let Some(cluster) = &mut self.cluster else { return };
        let mut all = std::mem::take(&mut cluster.links.again);
        let mut exports = Vec::new();
        for source in ready {
            match *source {
                Source::Bus(place) => all.push(LinkId(place as u64)),
                Source::Export(place) => exports.push(place),
                _ => {}
            }
        }
        if !exports.is_empty() {
            self.serve_exports(&exports);
        }
        all.sort_unstable();
        all.dedup();
        for id in all {
            if let Err(error) = self.serve_bus_link(id) {
                tracing::trace!("I/O error on a link of the cluster bus: {}", error_text(&error));
                self.bus_link_broken(id);
            }
        }
        self.settle_cluster();
    }

    fn bus_link_broken(&mut self, id: LinkId) {
        let Some(cluster) = &mut self.cluster else { return };
        cluster.links.drop_link(id, self.event_loop.poll.as_ref());
        cluster.machine.closed(id, now().at);
    }

    fn serve_bus_link(&mut self, id: LinkId) -> io::Result<()> {
        let local = self.cluster_local();
        let Some(cluster) = &mut self.cluster else { return Ok(()) };
        let super::Cluster { machine, links, .. } = &mut **cluster;
        let Some(open) = links.links.get_mut(&id) else { return Ok(()) };
        if !open.connected {
            open.connected = open.link.finish_connecting()?;
            if !open.connected {
                return Ok(());
            }
            machine.connected(id, &local);
        }
        open.link.flush()?;
        let mut budget = READ_BUDGET;
        loop {
            let before = open.link.received().len();
            let more = open.link.receive();
            budget = budget.saturating_sub(open.link.received().len().saturating_sub(before));
            // What has arrived before the end counts.
            while let Some(len) = bus::frame(open.link.received()).map_err(io::Error::other)? {
                let bytes = open.link.received();
                if !machine.accepts(id, bytes, len) {
                    return Err(io::Error::other("a packet of a stranger is too long"));
                }
                if bytes.len() < len {
                    break;
                }
                if !machine.received(id, &bytes[..len], &local) {
                    return Err(io::Error::other("it is not understood"));
                }
                // The packet may have led to the end of the connection.
                if !machine.has_link(id) {
                    return Ok(());
                }
                open.link.consume(len);
            }
            if !more? {
                open.link.release();
                return Ok(());
            }
            if budget == 0 {
                links.again.push(id);
                return Ok(());
            }
        }
    }

    /// Sends what is to be sent.
    pub(super) fn flush_bus(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let mut broken = Vec::new();
        for id in std::mem::take(&mut cluster.links.dirty) {
            let Some(open) = cluster.links.links.get_mut(&id) else { continue };
            open.is_dirty = false;
            if open.connected && open.link.flush().is_err() {
                broken.push(id);
            } else {
                open.link.release();
            }
        }
        for id in broken {
            self.bus_link_broken(id);
        }
    }

    /// Closes connections on which too much is waiting to be sent.
    pub(super) fn limit_bus_links(&mut self) {
        let limit = self.config.cluster.link_sendbuf_limit;
        let Some(cluster) = &mut self.cluster else { return };
        if limit == 0 {
            return;
        }
        let exceeds = |open: &Open| open.link.allocated_output() as u64 > limit;
        let over: Vec<(LinkId, usize)> = cluster
            .links
            .links
            .iter()
            .filter(|(_, open)| exceeds(open))
            .map(|(&id, open)| (id, open.link.allocated_output()))
            .collect();
        for (id, used) in over {
            cluster.links.limit_exceeded += 1;
            let shown = cluster.machine.links().into_iter().find(|shown| shown.link == id);
            let (way, name) = match &shown {
                Some(shown) if shown.outgoing => ("outbound", cluster.machine.nodes[shown.node].title()),
                Some(shown) => ("inbound", cluster.machine.nodes[shown.node].title()),
                None => ("inbound", "?".to_owned()),
            };
            tracing::warn!(
                "Freeing {way} cluster link to node {name} after exceeding memory limit (used memory: {used})"
            );
            cluster.links.drop_link(id, self.event_loop.poll.as_ref());
            cluster.machine.closed(id, now().at);
        }
    }

    /// Closes connections to a node, from it, or both.
    pub fn kill_bus_links(&mut self, node: &NodeId, to: bool, from: bool) {
        let Some(cluster) = &mut self.cluster else { return };
        let Some(key) = cluster.machine.nodes.find(node) else { return };
        let shown = cluster.machine.links();
        for link in shown.iter().filter(|link| link.node == key && if link.outgoing { to } else { from }) {
            cluster.links.drop_link(link.link, self.event_loop.poll.as_ref());
            cluster.machine.closed(link.link, now().at);
        }
    }

    /// What CLUSTER LINKS shows.
    pub fn bus_links(&self) -> Vec<Shown> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let shown = cluster.machine.links().into_iter().filter_map(|info| {
            let open = cluster.links.links.get(&info.link)?;
            let used = open.link.unsent();
            Some(Shown {
                outgoing: info.outgoing,
                node: cluster.machine.nodes[info.node].id,
                created_ms: open.created.0,
                events: if used > 0 || !open.connected { "rw" } else { "r" },
                allocated: open.link.allocated_output(),
                used,
            })
        });
        shown.collect()
    }

    /// Registers the sockets that listen on the bus.
    ///
    /// # Errors
    /// The poll cannot be used.
    pub fn watch_bus(&mut self) -> io::Result<()> {
        let (Some(cluster), Some(poll)) = (&mut self.cluster, &self.event_loop.poll) else { return Ok(()) };
        for (place, listener) in cluster.listeners_mut().iter_mut().enumerate() {
            poll.registry().register_readable(listener, Source::BusListener(place))?;
        }
        Ok(())
    }
}
