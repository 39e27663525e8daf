//! What a packet changes.
//!
//! A node believes only whom it knows. Who is not known can do one thing: ask to be met (MEET), by which this node
//! begins a handshake with the address it comes from; the other node is known once it has answered there. Everything
//! else from a stranger changes nothing, except that its pings are answered, as the specification has it.

use super::{Local, Machine, Todo};
use crate::cluster::Moment;
use crate::cluster::bus::{self, Body, Extension, Gossip, Header, Heartbeat, Kind, Marks, Packet};
use crate::cluster::nodes::{Flags, LinkId, Node, NodeId, NodeKey};
use crate::cluster::slots::SlotSet;
use crate::stats::log::Level;
use crate::stdx::clock::UnixMillis;

/// By how many milliseconds the clocks of others may be ahead.
const CLOCK_SKEW_MS: i64 = 500;

impl Machine {
    /// A packet has arrived: `bytes`, as long as its header says. False if the connection cannot be used any more.
    pub fn received(&mut self, link: LinkId, bytes: &[u8], local: &Local) -> bool {
        if !self.links.contains_key(&link) {
            return false;
        }
        let packet = match bus::read(bytes) {
            Ok(packet) => packet,
            Err(refused) => {
                let foreign = refused == bus::Refused::Foreign;
                self.log(if foreign { Level::Warning } else { Level::Debug }, refused.to_string());
                return !foreign;
            }
        };
        self.counts.received[packet.kind as usize] += 1;
        self.counts.bytes_received += bytes.len() as u64;
        if self.ignored == Some(packet.kind) {
            return true;
        }
        self.process(link, &packet, local);
        true
    }

    /// The known node that a packet comes from.
    fn sender(&self, link: LinkId, packet: &Packet<'_>) -> Option<NodeKey> {
        match &packet.header {
            Some(header) => self.nodes.find(&header.sender),
            None => self.links.get(&link).and_then(|link| link.node),
        }
        .filter(|&key| !self.nodes[key].is(Flags::MYSELF | Flags::HANDSHAKE))
    }

    fn process(&mut self, link: LinkId, packet: &Packet<'_>, local: &Local) {
        let now = local.now.at;
        let sender = self.sender(link, packet);
        if let Some(key) = sender {
            self.nodes[key].data_received = now;
        }
        let Some(header) = &packet.header else {
            if let (Some(_), Body::Message { channel, payload }) = (sender, packet.body) {
                self.deliver(packet.kind == Kind::PublishShard, channel, payload);
            }
            return;
        };
        if header.sender == self.nodes.myself().id {
            if matches!(packet.body, Body::Heartbeat(_)) {
                self.heard_itself(link, packet.kind, local);
            }
            return;
        }
        if let Some(key) = sender {
            self.note_inbound(link, key, now);
            self.note_sender(key, header, now);
        }
        match packet.body {
            Body::Heartbeat(beat) => self.heartbeat(link, packet.kind, header, &beat, sender, local),
            Body::Fail(id) => {
                if let Some(key) = sender {
                    self.told_of_failure(key, id, now);
                }
            }
            Body::Message { channel, payload } => {
                if sender.is_some() {
                    self.deliver(packet.kind == Kind::PublishShard, channel, payload);
                }
            }
            Body::Update { config_epoch, id, slots } => {
                if sender.is_some() {
                    self.told_of_owner(id, config_epoch, &SlotSet::from_bitmap(slots));
                }
            }
            Body::Module(_) => {}
            Body::Empty => {
                let Some(key) = sender else { return };
                match packet.kind {
                    Kind::AuthRequest => self.asked_for_vote(key, header, local),
                    Kind::AuthAck => self.got_vote(key, header),
                    Kind::MfStart => self.asked_to_pause(key, local),
                    _ => {}
                }
            }
        }
    }

    fn deliver(&mut self, sharded: bool, channel: &[u8], payload: &[u8]) {
        let (channel, payload) = (channel.to_vec(), payload.to_vec());
        self.actions.push(super::Action::Deliver { sharded, channel, payload });
    }

    /// What every packet of a known node tells.
    fn note_sender(&mut self, key: NodeKey, header: &Header<'_>, now: Moment) {
        if header.marks.has(Marks::EXTENSIONS) {
            self.nodes[key].flags.set(Flags::EXTENSIONS, true);
        }
        let light = Flags::LIGHT_PUBLISH | Flags::LIGHT_MODULE;
        let node = &mut self.nodes[key];
        node.flags = node.flags.without(light) | header.flags.and(light);
        if header.current_epoch > self.nodes.current_epoch {
            self.nodes.current_epoch = header.current_epoch;
            self.save_synced();
        }
        let node = &mut self.nodes[key];
        node.offset = header.offset;
        node.offset_at = now;
        // A replica tells the epoch of its primary, which only the primary itself decides.
        if header.config_epoch > node.config_epoch {
            node.config_epoch = header.config_epoch;
            self.save_synced();
        }
        self.note_paused_offset(key, header);
    }

    fn heartbeat(
        &mut self,
        link: LinkId,
        kind: Kind,
        header: &Header<'_>,
        beat: &Heartbeat<'_>,
        mut sender: Option<NodeKey>,
        local: &Local,
    ) {
        let now = local.now.at;
        if kind != Kind::Pong {
            self.learn_my_address(link, kind);
            if sender.is_none() && kind == Kind::Meet {
                self.meet_stranger(link, header, now);
            }
            self.send_heartbeat(link, Kind::Pong, local);
        }
        if let Some(outgoing) = self.links.get(&link).filter(|link| link.outgoing).and_then(|link| link.node)
        {
            if self.nodes[outgoing].is(Flags::HANDSHAKE) {
                if let Some(known) = sender {
                    let text = format!(
                        "Handshake: we already know node {}, updating the address if needed.",
                        self.nodes[known].title()
                    );
                    self.log(Level::Verbose, text);
                    let peer = self.links[&link].peer.clone();
                    self.update_address(known, &peer, header, now);
                    // The connection was that of the node met: it is opened anew under its name.
                    self.drop_node(outgoing, now);
                    return;
                }
                sender = self.complete_handshake(outgoing, header, now);
                if sender.is_none() {
                    return;
                }
            } else if self.nodes[outgoing].id != header.sender {
                let node = &mut self.nodes[outgoing];
                let text = format!(
                    "PONG contains mismatching sender ID. About node {} ({}) added {} ms ago, having flags {}",
                    node.id,
                    node.human_name,
                    now.since(node.created_at),
                    node.flags.bits()
                );
                node.flags.set(Flags::NOADDR, true);
                node.ip = "".into();
                (node.port, node.tls_port, node.bus_port) = (0, 0, 0);
                self.log(Level::Debug, text);
                self.close_link_to(outgoing, now);
                self.save();
                return;
            }
        }
        if let Some(key) = sender {
            let nofailover = header.flags.has(Flags::NOFAILOVER);
            self.nodes[key].flags.set(Flags::NOFAILOVER, nofailover);
            let incoming = self.links.get(&link).is_some_and(|link| !link.outgoing);
            if kind != Kind::Pong && incoming {
                let peer = self.links[&link].peer.clone();
                self.update_address(key, &peer, header, now);
            }
            if kind == Kind::Pong && self.nodes[key].link == Some(link) {
                let node = &mut self.nodes[key];
                node.pong_received = now;
                node.ping_sent = Moment::NEVER;
                if node.is(Flags::PFAIL) {
                    node.flags.set(Flags::PFAIL, false);
                    self.todo = self.todo | Todo::SAVE | Todo::STATE;
                } else if node.is(Flags::FAIL) {
                    self.clear_failure(key, now);
                }
            }
            self.note_role(key, header);
            self.note_slots(key, header, local);
            for entry in beat.gossip() {
                self.hear(key, &entry, local);
            }
            self.note_extensions(key, beat, now);
        }
    }

    /// A connection of this node to itself, by an address that it was told to meet.
    fn heard_itself(&mut self, link: LinkId, kind: Kind, local: &Local) {
        if kind != Kind::Pong {
            self.learn_my_address(link, kind);
            self.send_heartbeat(link, Kind::Pong, local);
            return;
        }
        if let Some(key) = self.links[&link].node
            && self.nodes[key].is(Flags::HANDSHAKE)
        {
            self.drop_node(key, local.now.at);
        }
    }

    /// Others know at which address they have reached this node, unless one is configured.
    fn learn_my_address(&mut self, link: LinkId, kind: Kind) {
        let known = !self.nodes.myself().ip.is_empty();
        if !self.settings.ip.is_empty() || known && kind != Kind::Meet {
            return;
        }
        let address = self.links[&link].local.clone();
        if !address.is_empty() && self.nodes.myself().ip != address {
            self.log(Level::Notice, format!("IP address for this node updated to {address}"));
            self.nodes.myself_mut().ip = address;
            self.save();
        }
    }

    /// Where packets say that their sender is, or where they come from.
    fn address_of<'h>(peer: &'h str, header: &Header<'h>) -> &'h str {
        if header.ip.is_empty() { peer } else { header.ip }
    }

    fn ports_of(&self, port: u16, second_port: u16) -> (u16, u16) {
        if self.settings.tls { (second_port, port) } else { (port, second_port) }
    }

    /// Begins a handshake with who asks to be met.
    fn meet_stranger(&mut self, link: LinkId, header: &Header<'_>, now: Moment) {
        let peer = self.links[&link].peer.clone();
        let ip: Box<str> = Self::address_of(&peer, header).into();
        let known = self
            .nodes
            .iter()
            .any(|(_, node)| node.is(Flags::HANDSHAKE) && node.ip == ip && node.bus_port == header.bus_port);
        if ip.is_empty() || header.bus_port == 0 || known {
            return;
        }
        let id = NodeId::random(&mut self.rng);
        let shard = NodeId::random(&mut self.rng);
        let mut node = Node::new(id, Flags::HANDSHAKE, shard, now);
        node.ip = ip;
        (node.port, node.tls_port) = self.ports_of(header.port, header.second_port);
        node.bus_port = header.bus_port;
        if self.nodes.insert(node).is_some() {
            self.save();
        }
    }

    /// The node of a handshake has told its name.
    fn complete_handshake(&mut self, key: NodeKey, header: &Header<'_>, now: Moment) -> Option<NodeKey> {
        if !self.nodes.rename(key, header.sender) {
            return None;
        }
        self.log(Level::Debug, format!("Handshake with node {} completed.", header.sender));
        let node = &mut self.nodes[key];
        node.flags = node.flags.without(Flags::HANDSHAKE | Flags::MEET) | header.flags.and(Flags::ROLE);
        if !node.is(Flags::ROLE) {
            node.flags.set(Flags::PRIMARY, true);
        }
        node.data_received = now;
        self.blacklist.retain(|(id, _)| *id != header.sender);
        self.note_sender(key, header, now);
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
        Some(key)
    }

    /// Notes where a node is now, if it has moved.
    fn update_address(&mut self, key: NodeKey, peer: &str, header: &Header<'_>, now: Moment) {
        let ip = Self::address_of(peer, header);
        let (port, tls_port) = self.ports_of(header.port, header.second_port);
        let node = &self.nodes[key];
        let same =
            (&*node.ip, node.port, node.tls_port, node.bus_port) == (ip, port, tls_port, header.bus_port);
        if same || ip.is_empty() {
            return;
        }
        self.move_node(key, ip, (port, tls_port, header.bus_port), now);
        let shown = if self.settings.tls { tls_port } else { port };
        let text = format!("Address updated for node {}, now {ip}:{shown}", self.nodes[key].title());
        self.log(Level::Warning, text);
        if self.nodes.myself().primary() == Some(key) {
            self.follow_primary();
        }
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
    }

    fn move_node(&mut self, key: NodeKey, ip: &str, ports: (u16, u16, u16), now: Moment) {
        self.close_link_to(key, now);
        let node = &mut self.nodes[key];
        node.ip = ip.into();
        (node.port, node.tls_port, node.bus_port) = ports;
        node.flags.set(Flags::NOADDR, false);
    }

    /// Notes whether a node is a primary or a replica, and whose.
    fn note_role(&mut self, key: NodeKey, header: &Header<'_>) {
        let Some(primary) = header.primary else {
            if header.flags.has(Flags::PRIMARY) {
                self.make_primary(key);
            }
            return;
        };
        if self.nodes[key].is_primary() {
            // It tells the slots of its primary, which has most likely taken them over.
            self.told_of_owner(primary, header.config_epoch, &SlotSet::from_bitmap(header.slots));
            for slot in self.nodes[key].slots().clone().iter() {
                self.set_owner(slot, None);
            }
            self.nodes[key].flags.set(Flags::PRIMARY | Flags::MIGRATE_TO, false);
            self.todo = self.todo | Todo::SAVE | Todo::STATE;
        }
        self.nodes[key].flags.set(Flags::REPLICA, true);
        let Some(primary) = self.nodes.find(&primary) else { return };
        if self.nodes[key].primary() != Some(primary) && primary != key {
            self.nodes.set_primary(key, Some(primary));
            self.nodes[key].shard = self.nodes[primary].shard;
            self.todo = self.todo | Todo::SAVE | Todo::STATE;
        }
        // A replica copies a primary, not another replica.
        let me = self.nodes.me();
        if self.nodes.myself().primary() == Some(key) && primary != me && self.nodes[primary].is_primary() {
            let text = format!(
                "Configuration change detected. Reconfiguring myself as a replica of {}",
                self.nodes[primary].title()
            );
            self.log(Level::Notice, text);
            self.become_replica(primary);
        }
    }

    /// What a node says of another one.
    fn hear(&mut self, sender: NodeKey, entry: &Gossip<'_>, local: &Local) {
        let now = local.now.at;
        let (port, tls_port) = self.ports_of(entry.port, entry.second_port);
        let ports = (port, tls_port, entry.bus_port);
        let failing = entry.flags.has(Flags::FAILING);
        let Some(key) = self.nodes.find(&entry.id) else {
            let placed = !entry.flags.has(Flags::NOADDR | Flags::HANDSHAKE) && !entry.ip.is_empty();
            if placed && entry.bus_port != 0 && !self.is_blacklisted(&entry.id, now) {
                let flags = entry.flags.and(Flags::ROLE | Flags::NOFAILOVER);
                let shard = NodeId::random(&mut self.rng);
                let mut node = Node::new(entry.id, flags, shard, now);
                node.ip = entry.ip.into();
                (node.port, node.tls_port, node.bus_port) = ports;
                if self.nodes.insert(node).is_some() {
                    self.todo = self.todo | Todo::SAVE | Todo::STATE;
                }
            }
            return;
        };
        if key == self.nodes.me() || self.nodes[key].is(Flags::HANDSHAKE) {
            return;
        }
        if self.nodes[sender].votes() {
            if failing {
                self.report_failure(key, sender, local);
            } else {
                self.withdraw_report(key, sender);
            }
        }
        let unsuspected = self.nodes[key].failure_reports.is_empty() || self.failure_reports(key, now) == 0;
        let node = &mut self.nodes[key];
        if !failing && unsuspected && !node.ping_sent.is_set() {
            let seconds = i64::from(entry.pong_received);
            let heard = local.now.moment_at(UnixMillis(seconds * 1000));
            if heard > node.pong_received && heard <= now.after(CLOCK_SKEW_MS) {
                node.pong_received = heard.min(now);
            }
        }
        let moved = (&*node.ip, node.port, node.tls_port, node.bus_port)
            != (entry.ip, port, tls_port, entry.bus_port);
        let placed = !entry.flags.has(Flags::NOADDR) && !entry.ip.is_empty() && entry.bus_port != 0;
        if moved && placed && !failing && (node.is(Flags::FAILING) || node.is(Flags::NOADDR)) {
            self.move_node(key, entry.ip, ports, now);
            self.save();
        }
    }

    fn note_extensions(&mut self, key: NodeKey, beat: &Heartbeat<'_>, now: Moment) {
        if beat.has_no_extensions() {
            return;
        }
        // Names that are not sent are none.
        let (mut hostname, mut human_name) = ("", "");
        let mut forgotten = Vec::new();
        for extension in beat.extensions() {
            match extension {
                Extension::Hostname(name) => hostname = name,
                Extension::HumanName(name) => human_name = name,
                Extension::Shard(shard) => self.note_shard(key, shard),
                Extension::Forgotten { id, ttl_s } => forgotten.push((id, ttl_s)),
            }
        }
        let node = &mut self.nodes[key];
        if (&*node.hostname, &*node.human_name) != (hostname, human_name) {
            node.hostname = hostname.into();
            node.human_name = human_name.into();
            self.save();
        }
        for (id, ttl_s) in forgotten {
            self.forget_as_told(id, ttl_s, now);
        }
    }

    fn note_shard(&mut self, key: NodeKey, shard: NodeId) {
        let node = &mut self.nodes[key];
        // A replica belongs to its primary's shard, whatever it knows of that.
        if node.shard == shard || node.is_replica() && node.primary().is_some() {
            return;
        }
        node.shard = shard;
        for replica in node.replicas().to_vec() {
            self.nodes[replica].shard = shard;
        }
        self.save();
    }

    /// Somebody has removed a node, so that everybody does.
    fn forget_as_told(&mut self, id: NodeId, ttl_s: u64, now: Moment) {
        let Some(key) = self.nodes.find(&id) else { return };
        let node = &self.nodes[key];
        if node.is(Flags::MYSELF | Flags::HANDSHAKE) || self.nodes.myself().primary() == Some(key) {
            return;
        }
        // Nobody may keep a node out for longer than an administrator could.
        let ttl_ms = i64::try_from(ttl_s).unwrap_or(i64::MAX).saturating_mul(1000);
        self.blacklist_node(id, now.after(ttl_ms.min(self.settings.blacklist_ms)));
        self.drop_node(key, now);
        self.save();
    }
}
