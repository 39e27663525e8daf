//! Connections and heartbeats.
//!
//! A node keeps a connection to every other node, on which it sends and is answered, and accepts one from each, on
//! which it is asked. It pings a node chosen by chance each second, and everybody of whom it has not heard for half a
//! node timeout, so that the traffic grows with the number of nodes, and suspicion is possible after a timeout.

use bytes::Bytes;

use super::{Action, Link, Local, Machine, Todo};
use crate::cluster::bus::{self, Extension, Gossip, Header, Kind, Marks};
use crate::cluster::nodes::{Flags, LinkId, NodeId, NodeKey};
use crate::cluster::slots::{BITMAP_LEN, Bitmap};
use crate::cluster::{Moment, Now};
use crate::stats::log::Level;

/// What is shown of a connection.
#[derive(Clone, Debug)]
pub struct LinkInfo {
    /// Its number.
    pub link: LinkId,
    /// Whether this node opened it.
    pub outgoing: bool,
    /// Who is at the other end.
    pub node: NodeKey,
}

impl Machine {
    /// A connection was accepted, from the address `peer` to `local`.
    pub fn accepted(&mut self, peer: &str, local: &str, now: Moment) -> LinkId {
        let id = self.new_link_id();
        let link = Link {
            node: None,
            outgoing: false,
            connected: true,
            created_at: now,
            peer: peer.into(),
            local: local.into(),
        };
        self.links.insert(id, link);
        id
    }

    fn new_link_id(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    /// A connection that was to be opened stands.
    pub fn connected(&mut self, id: LinkId, local: &Local) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.connected = true;
        let Some(key) = link.node else { return };
        let node = &self.nodes[key];
        // If a ping was not answered on the connection before, its age still counts.
        let unanswered = node.ping_sent;
        let kind = if node.is(Flags::MEET) { Kind::Meet } else { Kind::Ping };
        self.send_heartbeat(id, kind, local);
        let node = &mut self.nodes[key];
        if unanswered.is_set() {
            node.ping_sent = unanswered;
        }
        // It is sent once: if it gets lost, the handshake ends in time, and whoever wants it asks again.
        node.flags.set(Flags::MEET, false);
    }

    /// A connection is gone, or could not be opened.
    pub fn closed(&mut self, id: LinkId, now: Moment) {
        let Some(link) = self.links.remove(&id) else { return };
        let Some(node) = link.node.filter(|&key| self.nodes.get(key).is_some()) else { return };
        let node = &mut self.nodes[node];
        if node.link == Some(id) {
            node.link = None;
            // Who cannot be reached is suspected in time, as if a ping had been sent.
            if !link.connected && !node.ping_sent.is_set() {
                node.ping_sent = now;
            }
        }
        if node.inbound == Some(id) {
            node.inbound = None;
        }
    }

    /// Whether to read on a packet of `len` bytes, of which `begun` has arrived: strangers may not make this node keep
    /// much.
    pub fn accepts(&self, id: LinkId, begun: &[u8], len: usize) -> bool {
        let known = || self.links.get(&id).is_some_and(|link| link.node.is_some());
        let named = || {
            let sender = begun.get(bus::SENDER).and_then(NodeId::parse);
            sender.is_some_and(|sender| self.nodes.find(&sender).is_some())
        };
        len <= bus::STRANGERS_LIMIT || known() || named() || begun.len() < bus::SENDER.end
    }

    /// Whether a connection is known.
    pub fn has_link(&self, id: LinkId) -> bool {
        self.links.contains_key(&id)
    }

    /// Connections from and to known nodes.
    pub fn links(&self) -> Vec<LinkInfo> {
        let mut shown = Vec::new();
        for (key, node) in self.nodes.iter() {
            for (id, outgoing) in [(node.link, true), (node.inbound, false)] {
                if let Some(id) = id
                    && self.links.contains_key(&id)
                {
                    shown.push(LinkInfo { link: id, outgoing, node: key });
                }
            }
        }
        shown
    }

    pub(super) fn close(&mut self, id: LinkId, now: Moment) {
        if self.links.contains_key(&id) {
            self.closed(id, now);
            self.actions.push(Action::Close { link: id });
        }
    }

    /// Closes the connection to a node, or that from it, or both.
    pub fn close_links(&mut self, key: NodeKey, to: bool, from: bool, now: Moment) {
        let node = &self.nodes[key];
        let links = [node.link.filter(|_| to), node.inbound.filter(|_| from)];
        links.into_iter().flatten().for_each(|id| self.close(id, now));
    }

    /// Closes the connection that was opened to a node.
    pub(super) fn close_link_to(&mut self, key: NodeKey, now: Moment) {
        if let Some(id) = self.nodes[key].link {
            self.close(id, now);
            self.nodes[key].link = None;
        }
    }

    /// Removes a node, and closes its connections.
    pub(super) fn drop_node(&mut self, key: NodeKey, now: Moment) {
        for id in [self.nodes[key].link, self.nodes[key].inbound].into_iter().flatten() {
            self.close(id, now);
        }
        if self.manual.replica == Some(key) {
            self.end_manual();
        }
        self.nodes.remove(key);
        for link in self.links.values_mut().filter(|link| link.node == Some(key)) {
            link.node = None;
        }
        self.slots_version += 1;
        self.todo = self.todo | Todo::STATE;
    }

    /// Whether the connection to a node stands.
    pub(super) fn link_to(&self, key: NodeKey) -> Option<LinkId> {
        let id = self.nodes.get(key)?.link?;
        self.links.get(&id)?.connected.then_some(id)
    }

    /// What is due: ten times per second.
    pub fn tick(&mut self, local: &Local) {
        let now = local.now.at;
        self.ticks += 1;
        self.blacklist.retain(|&(_, until)| until > now);
        self.suspected = 0;
        let handshake_ms = self.settings.node_timeout_ms.max(1000);
        for key in self.nodes.keys() {
            let node = &self.nodes[key];
            if node.is(Flags::MYSELF | Flags::NOADDR) {
                continue;
            }
            if node.is(Flags::PFAIL) {
                self.suspected += 1;
            }
            if node.is(Flags::HANDSHAKE) && now.since(node.created_at) > handshake_ms {
                self.drop_node(key, now);
                continue;
            }
            if node.link.is_none() {
                self.connect(key, now);
            }
        }
        let interval = (self.settings.ping_interval_ms / super::TICK_MS).max(1) as u64;
        if self.ticks.is_multiple_of(interval) {
            self.ping_somebody(local);
        }
        self.watch(local);
        if self.nodes.myself().is_replica() && !local.follows {
            self.follow_primary();
        }
        self.expire_manual(now);
        if self.nodes.myself().is_replica() {
            self.continue_manual(local);
            self.continue_election(local);
            self.look_for_orphans(local);
        }
        if !self.nodes.ok {
            self.todo = self.todo | Todo::STATE;
        }
    }

    fn connect(&mut self, key: NodeKey, now: Moment) {
        let node = &self.nodes[key];
        if node.ip.is_empty() || node.bus_port == 0 {
            return;
        }
        let (ip, port) = (node.ip.to_string(), node.bus_port);
        let id = self.new_link_id();
        let link = Link {
            node: Some(key),
            outgoing: true,
            connected: false,
            created_at: now,
            peer: ip.as_str().into(),
            local: "".into(),
        };
        self.links.insert(id, link);
        self.nodes[key].link = Some(id);
        self.actions.push(Action::Connect { link: id, ip, port });
    }

    /// Pings the one of five nodes, chosen by chance, of which there has been no news for the longest time.
    fn ping_somebody(&mut self, local: &Local) {
        let mut oldest: Option<(Moment, LinkId)> = None;
        for _ in 0..5 {
            let key = self.nodes.pick(&mut self.rng);
            let node = &self.nodes[key];
            if node.ping_sent.is_set() || node.is(Flags::MYSELF | Flags::HANDSHAKE) {
                continue;
            }
            let Some(link) = self.link_to(key) else { continue };
            if oldest.is_none_or(|(heard, _)| node.pong_received < heard) {
                oldest = Some((node.pong_received, link));
            }
        }
        if let Some((_, link)) = oldest {
            self.send_heartbeat(link, Kind::Ping, local);
        }
    }

    /// Looks after each node: pings who has been silent, and suspects who does not answer.
    fn watch(&mut self, local: &Local) {
        let now = local.now.at;
        let timeout = self.settings.node_timeout_ms;
        for key in self.nodes.keys() {
            let node = &self.nodes[key];
            if node.is(Flags::MYSELF | Flags::NOADDR | Flags::HANDSHAKE) {
                continue;
            }
            let (ping_age, data_age) = (now.since(node.ping_sent), now.since(node.data_received));
            let waits = node.ping_sent.is_set();
            if let Some(id) = node.link
                && let Some(link) = self.links.get(&id)
                && now.since(link.created_at) > timeout
                && waits
                && ping_age > timeout / 2
                && data_age > timeout / 2
            {
                // Perhaps only the connection is broken.
                self.close_link_to(key, now);
            }
            let node = &self.nodes[key];
            if let Some(link) = self.link_to(key) {
                let silent = !waits && now.since(node.pong_received) > timeout / 2;
                // A replica that takes over waits for the offset in a ping.
                let takes_over = self.manual.is_under_way() && self.manual.replica == Some(key);
                if silent || takes_over && self.nodes.myself().is_primary() {
                    self.send_heartbeat(link, Kind::Ping, local);
                    continue;
                }
            }
            if waits && ping_age.min(data_age) > timeout && node.seems_alive() {
                self.suspect(key, local);
            }
        }
    }

    /// What packets say of this node.
    pub(super) fn with_header<R>(
        &mut self,
        local: &Local,
        marks: Marks,
        write: impl FnOnce(&mut Machine, &Header<'_>) -> R,
    ) -> R {
        let mut slots: Bitmap = [0; BITMAP_LEN];
        let primary = self.nodes.my_primary().unwrap_or(self.nodes.me());
        self.nodes[primary].slots().write_bitmap(&mut slots);
        let me = self.nodes.myself();
        let ports = if self.settings.tls { (me.tls_port, me.port) } else { (me.port, me.tls_port) };
        let ip = self.settings.ip.clone();
        let header = Header {
            sender: me.id,
            flags: me.flags,
            marks,
            port: ports.0,
            second_port: ports.1,
            bus_port: me.bus_port,
            ip: &ip,
            current_epoch: self.nodes.current_epoch,
            config_epoch: self.nodes[primary].config_epoch,
            offset: local.offset,
            slots: &slots,
            primary: me.primary().map(|primary| self.nodes[primary].id),
            ok: self.nodes.ok,
        };
        write(self, &header)
    }

    /// Marks of a heartbeat.
    fn heartbeat_marks(&self) -> Marks {
        let pauses = self.nodes.myself().is_primary() && self.manual.is_under_way();
        if pauses { Marks::EXTENSIONS | Marks::PAUSED } else { Marks::EXTENSIONS }
    }

    pub(super) fn send(&mut self, link: LinkId, kind: Kind, packet: Bytes) {
        self.counts.sent[kind as usize] += 1;
        self.counts.bytes_sent += packet.len() as u64;
        self.actions.push(Action::Send { link, packet });
    }

    /// Sends a packet to every node to which a connection stands.
    pub(super) fn broadcast(&mut self, kind: Kind, packet: &Bytes) {
        for key in self.nodes.keys() {
            if !self.nodes[key].is(Flags::MYSELF | Flags::HANDSHAKE)
                && let Some(link) = self.link_to(key)
            {
                self.send(link, kind, packet.clone());
            }
        }
    }

    /// Sends a ping, an answer, or a MEET, with news of some nodes.
    pub(super) fn send_heartbeat(&mut self, link: LinkId, kind: Kind, local: &Local) {
        let receiver = self.links.get(&link).and_then(|link| link.node);
        if kind == Kind::Ping
            && let Some(key) = receiver
        {
            self.nodes[key].ping_sent = local.now.at;
        }
        let about = self.pick_gossip(receiver);
        let marks = self.heartbeat_marks();
        let packet = self.with_header(local, marks, |machine, header| {
            let gossip: Vec<Gossip<'_>> =
                about.iter().map(|&key| machine.gossip_of(key, &local.now)).collect();
            // Versions that do not know extensions drop the whole packet.
            let understands = receiver.is_some_and(|key| machine.nodes[key].is(Flags::EXTENSIONS));
            let extensions = if understands { machine.extensions(local.now.at) } else { Vec::new() };
            bus::write_heartbeat(kind, header, gossip.into_iter(), &extensions)
        });
        self.send(link, kind, packet.into());
    }

    /// Nodes to tell of: some chosen by chance, and all that are suspected.
    fn pick_gossip(&mut self, receiver: Option<NodeKey>) -> Vec<NodeKey> {
        let others = self.nodes.len().saturating_sub(2);
        // A tenth of the nodes in each packet lets reports of most primaries come together well within twice the node
        // timeout, which is as long as they are valid.
        let wanted = (self.nodes.len() / 10).max(3).min(others);
        let mut about: Vec<NodeKey> = Vec::with_capacity(wanted + self.suspected);
        for _ in 0..wanted * 3 {
            if about.len() == wanted {
                break;
            }
            let key = self.nodes.pick(&mut self.rng);
            let node = &self.nodes[key];
            let known = !node.is(Flags::MYSELF | Flags::PFAIL | Flags::HANDSHAKE | Flags::NOADDR);
            let useful = node.link.is_some() || !node.slots().is_empty();
            if known && useful && Some(key) != receiver && !about.contains(&key) {
                about.push(key);
            }
        }
        if self.suspected > 0 {
            let suspected = self
                .nodes
                .iter()
                .filter(|(_, node)| node.is(Flags::PFAIL) && !node.is(Flags::HANDSHAKE | Flags::NOADDR));
            about.extend(suspected.map(|(key, _)| key));
        }
        about.truncate(usize::from(u16::MAX));
        about
    }

    fn gossip_of(&self, key: NodeKey, now: &Now) -> Gossip<'_> {
        let node = &self.nodes[key];
        let ports = if self.settings.tls { (node.tls_port, node.port) } else { (node.port, node.tls_port) };
        let seconds = |moment| u32::try_from(now.wall_at(moment).as_secs()).unwrap_or(0);
        Gossip {
            id: node.id,
            ping_sent: seconds(node.ping_sent),
            pong_received: seconds(node.pong_received),
            ip: &node.ip,
            port: ports.0,
            second_port: ports.1,
            bus_port: node.bus_port,
            flags: node.flags,
        }
    }

    fn extensions(&self, now: Moment) -> Vec<Extension<'_>> {
        let me = self.nodes.myself();
        let mut all = Vec::with_capacity(3 + self.blacklist.len());
        if !me.hostname.is_empty() {
            all.push(Extension::Hostname(&me.hostname));
        }
        if !me.human_name.is_empty() {
            all.push(Extension::HumanName(&me.human_name));
        }
        for &(id, until) in &self.blacklist {
            // Rounded up, so that an entry that is passed on does not last longer here than there.
            all.push(Extension::Forgotten { id, ttl_s: ((until.since(now) + 999) / 1000).max(1) as u64 });
        }
        all.push(Extension::Shard(me.shard));
        all
    }

    /// Tells everybody, or those of the same shard, the news about this node at once.
    pub(super) fn broadcast_pong(&mut self, to: Audience, local: &Local) {
        let shard = self.nodes.my_primary();
        for key in self.nodes.keys() {
            let node = &self.nodes[key];
            if node.is(Flags::MYSELF | Flags::HANDSHAKE) {
                continue;
            }
            let fellow = node.is_replica() && node.primary().is_some() && node.primary() == shard;
            if to == Audience::FellowReplicas && !fellow {
                continue;
            }
            if let Some(link) = self.link_to(key) {
                self.send_heartbeat(link, Kind::Pong, local);
            }
        }
    }

    /// Passes a message of a client on to other nodes: all, or those that serve the same slots.
    pub fn publish(&mut self, sharded: bool, channel: &[u8], payload: &[u8], local: &Local) {
        let shard = self.nodes.myself().shard;
        let kind = if sharded { Kind::PublishShard } else { Kind::Publish };
        let (mut full, mut light) = (None, None);
        for key in self.nodes.keys() {
            let node = &self.nodes[key];
            if node.is(Flags::MYSELF | Flags::HANDSHAKE) || sharded && node.shard != shard {
                continue;
            }
            let understands = node.is(Flags::LIGHT_PUBLISH);
            let Some(link) = self.link_to(key) else { continue };
            let packet = if understands {
                let write = || Bytes::from(bus::write_light_message(sharded, channel, payload));
                light.get_or_insert_with(write).clone()
            } else {
                let full = full.get_or_insert_with(|| {
                    self.with_header(local, Marks::NONE, |_, header| {
                        Bytes::from(bus::write_message(header, sharded, channel, payload))
                    })
                });
                full.clone()
            };
            self.send(link, kind, packet);
        }
    }

    /// Notes who is at the other end of a connection that was accepted.
    pub(super) fn note_inbound(&mut self, id: LinkId, key: NodeKey, now: Moment) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.outgoing || link.node == Some(key) {
            return;
        }
        let before = link.node.replace(key);
        if let Some(before) = before
            && self.nodes[before].inbound == Some(id)
        {
            self.nodes[before].inbound = None;
        }
        if let Some(old) = self.nodes[key].inbound.replace(id) {
            // It has connected anew before this end saw the old connection break.
            self.log(
                Level::Debug,
                format!("Freeing the older inbound link of node {}", self.nodes[key].title()),
            );
            self.close(old, now);
            self.nodes[key].inbound = Some(id);
        }
    }
}

/// Who is told news.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Audience {
    /// Everybody.
    All,
    /// The other replicas of this node's primary.
    FellowReplicas,
}
