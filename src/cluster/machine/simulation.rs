//! Clusters on a network that is played here: it delays packets, breaks connections, parts the nodes, and their clocks
//! jump; nodes crash and start again from their files. All choices follow from a printed seed.
//!
//! Connections are as TCP gives them: what arrives on one arrives in order and once, or the connection breaks. While
//! nodes are parted, what was sent waits, and arrives late. A node that loses power answers nothing, and others do not
//! see their connections break.

mod faults;
mod traffic;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};

use bytes::Bytes;

use super::{Action, Local, Machine, Settings, TICK_MS};
use crate::cluster::nodes::{Flags, LinkId, NodeKey};
use crate::cluster::slot::{SLOTS, Slot};
use crate::cluster::slots::SlotSet;
use crate::cluster::{Moment, Now, conf};
use crate::stats::log::Level;
use crate::stdx::clock::UnixMillis;
use crate::stdx::rng::Rng;

/// Time of day at which all clusters begin.
const MORNING_MS: i64 = 1_796_000_000_000;
/// Port of every bus.
const BUS_PORT: u16 = 17_000;

/// A server, and what survives it.
struct Server {
    /// `None` while it is down.
    machine: Option<Machine>,
    /// Its file as programs see it, and as it is after a loss of power.
    disk: Vec<u8>,
    synced: Vec<u8>,
    links: HashMap<LinkId, usize>,
    following: Option<usize>,
    offset: u64,
    heard_at: i64,
    /// By how much its clock is wrong.
    skew_ms: i64,
    /// Which part of the network it is in.
    part: usize,
}

/// A connection: the end that opened it, and the one that accepted it.
struct Connection {
    ends: [(usize, Option<LinkId>); 2],
    /// Packets on their way to each end, with their times of arrival.
    under_way: [VecDeque<(i64, Bytes)>; 2],
}

enum Event {
    Tick(usize),
    /// A request to connect arrives.
    Connect(usize),
    /// The answer arrives.
    Connected(usize),
    /// Something arrives at an end.
    Deliver(usize, usize),
    /// An end learns that the other one is gone.
    Broken(usize, usize),
}

/// All servers and their network.
struct World {
    rng: Rng,
    now: i64,
    servers: Vec<Server>,
    connections: Vec<Connection>,
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    events: HashMap<u64, Event>,
    next_event: u64,
    settings: Settings,
    latency_ms: (i64, i64),
    /// Whether a primary writes something in each tick.
    writes: bool,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64, count: usize, node_timeout_ms: i64) -> World {
        let settings = Settings { node_timeout_ms, ..Settings::default() };
        let mut world = World {
            rng: Rng::new(seed),
            now: 10_000,
            servers: Vec::new(),
            connections: Vec::new(),
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            next_event: 0,
            settings,
            latency_ms: (1, 20),
            writes: true,
            log: Vec::new(),
        };
        for place in 0..count {
            world.servers.push(Server {
                machine: None,
                disk: Vec::new(),
                synced: Vec::new(),
                links: HashMap::new(),
                following: None,
                offset: 0,
                heard_at: world.now,
                skew_ms: 0,
                part: 0,
            });
            world.start(place, false);
            let first = world.now + 1 + world.rng.below(TICK_MS as u64) as i64;
            world.schedule(first, Event::Tick(place));
        }
        world
    }

    fn schedule(&mut self, at: i64, event: Event) {
        self.next_event += 1;
        self.events.insert(self.next_event, event);
        self.queue.push(Reverse((at, self.next_event)));
    }

    fn latency(&mut self) -> i64 {
        let (least, most) = self.latency_ms;
        least + self.rng.below((most - least + 1) as u64) as i64
    }

    fn local(&self, place: usize) -> Local {
        let server = &self.servers[place];
        Local {
            now: Now {
                // Clocks that do not jump have nothing in common either.
                at: Moment(self.now + 777 * place as i64),
                wall: UnixMillis(MORNING_MS + self.now + server.skew_ms),
            },
            offset: server.offset,
            follows: server.following.is_some(),
            data_age_ms: self.now - server.heard_at,
        }
    }

    /// Starts a server from what it has on disk.
    fn start(&mut self, place: usize, after_power_loss: bool) {
        let now = self.local(place).now.at;
        let mut rng = Rng::new(self.rng.next_u64());
        let text = if after_power_loss { &self.servers[place].synced } else { &self.servers[place].disk };
        let nodes = if text.is_empty() {
            Machine::alone(&mut rng, now)
        } else {
            conf::read(text, now, false, &mut rng).expect("the file is whole").0
        };
        let [high, low] = (place as u16).to_be_bytes();
        let settings = Settings {
            ip: format!("10.0.{high}.{low}"),
            ports: (7000, 0, BUS_PORT),
            ..self.settings.clone()
        };
        let server = &mut self.servers[place];
        server.machine = Some(Machine::new(nodes, settings, rng, now));
        server.following = None;
        server.heard_at = self.now;
        self.settle(place);
    }

    /// Ends a server at once. If it loses power, the others' connections stay open, and what was not synced is lost.
    fn crash(&mut self, place: usize, power_loss: bool) {
        let server = &mut self.servers[place];
        server.machine = None;
        if power_loss {
            server.disk = server.synced.clone();
        }
        let mut links: Vec<(LinkId, usize)> = std::mem::take(&mut server.links).into_iter().collect();
        links.sort_unstable();
        for (_, connection) in links {
            self.leave(connection, place, !power_loss);
        }
    }

    /// One end of a connection is gone.
    fn leave(&mut self, connection: usize, place: usize, told: bool) {
        let ends = &mut self.connections[connection].ends;
        for end in 0..2 {
            if ends[end].0 == place && (ends[0].0 != ends[1].0 || end == 0) {
                ends[end].1 = None;
                if told {
                    let at = self.now + self.latency();
                    self.schedule(at, Event::Broken(connection, 1 - end));
                }
                return;
            }
        }
    }

    fn place_of(ip: &str) -> usize {
        let mut parts = ip.rsplit('.').map(|part| part.parse::<usize>().expect("an address of this network"));
        let (low, high) = (parts.next().expect("four parts"), parts.next().expect("four parts"));
        high * 256 + low
    }

    fn reachable(&self, from: usize, to: usize) -> bool {
        self.servers[from].part == self.servers[to].part
    }

    fn settle(&mut self, place: usize) {
        let local = self.local(place);
        let Some(machine) = &mut self.servers[place].machine else { return };
        for action in machine.settle(&local) {
            self.carry_out(place, action);
        }
    }

    fn carry_out(&mut self, place: usize, action: Action) {
        let now = self.local(place).now;
        match action {
            Action::Save { sync } => {
                let server = &mut self.servers[place];
                let machine = server.machine.as_ref().expect("it runs");
                server.disk = conf::write(&machine.nodes, &now, false).into_bytes();
                if sync {
                    server.synced = server.disk.clone();
                }
            }
            Action::Connect { link, ip, port } => {
                assert_eq!(port, BUS_PORT);
                let to = Self::place_of(&ip);
                self.connections.push(Connection {
                    ends: [(place, Some(link)), (to, None)],
                    under_way: [VecDeque::new(), VecDeque::new()],
                });
                let connection = self.connections.len() - 1;
                self.servers[place].links.insert(link, connection);
                let at = self.now + self.latency();
                self.schedule(at, Event::Connect(connection));
            }
            Action::Send { link, packet } => {
                let Some(&connection) = self.servers[place].links.get(&link) else { return };
                let end = usize::from(self.connections[connection].ends[0] != (place, Some(link)));
                let mut at = self.now + self.latency();
                let under_way = &mut self.connections[connection].under_way[1 - end];
                if let Some(&(before, _)) = under_way.back() {
                    at = at.max(before);
                }
                under_way.push_back((at, packet));
                self.schedule(at, Event::Deliver(connection, 1 - end));
            }
            Action::Close { link } => {
                if let Some(connection) = self.servers[place].links.remove(&link) {
                    let end = usize::from(self.connections[connection].ends[0] != (place, Some(link)));
                    self.connections[connection].ends[end].1 = None;
                    let at = self.now + self.latency();
                    self.schedule(at, Event::Broken(connection, 1 - end));
                }
            }
            Action::Follow { ip, .. } => self.servers[place].following = Some(Self::place_of(&ip)),
            Action::Lead => self.servers[place].following = None,
            Action::Log(Level::Notice | Level::Warning, text) => {
                self.log.push(format!("{} {place}: {text}", self.now));
            }
            _ => {}
        }
    }

    /// Lets time pass until `until`.
    fn run_until(&mut self, until: i64) {
        while let Some(&Reverse((at, id))) = self.queue.peek() {
            if at > until {
                break;
            }
            self.queue.pop();
            self.now = self.now.max(at);
            let event = self.events.remove(&id).expect("scheduled once");
            self.happen(event);
        }
        self.now = until;
    }

    fn run_for(&mut self, ms: i64) {
        self.run_until(self.now + ms);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(place) => {
                self.replicate(place);
                let local = self.local(place);
                if let Some(machine) = &mut self.servers[place].machine {
                    machine.tick(&local);
                }
                self.settle(place);
                // Timers are not exact.
                let next = self.now + TICK_MS + self.rng.below(5) as i64;
                self.schedule(next, Event::Tick(place));
            }
            Event::Connect(connection) => {
                let [(from, _), (to, _)] = self.connections[connection].ends;
                let answers = self.servers[to].machine.is_some() && self.reachable(from, to);
                let at = self.now + self.latency();
                if !answers {
                    // Who is there says at once that nobody listens; who is not says nothing.
                    let at = if self.reachable(from, to) { at } else { at + 3000 };
                    self.schedule(at, Event::Broken(connection, 0));
                    return;
                }
                let [high, low] = (from as u16).to_be_bytes();
                let peer = format!("10.0.{high}.{low}");
                let now = self.local(to).now.at;
                let machine = self.servers[to].machine.as_mut().expect("it runs");
                let link = machine.accepted(&peer, "", now);
                self.servers[to].links.insert(link, connection);
                self.connections[connection].ends[1].1 = Some(link);
                self.schedule(at, Event::Connected(connection));
            }
            Event::Connected(connection) => {
                let (place, link) = self.connections[connection].ends[0];
                let local = self.local(place);
                if let (Some(link), Some(machine)) = (link, &mut self.servers[place].machine) {
                    machine.connected(link, &local);
                    self.settle(place);
                }
            }
            Event::Deliver(connection, end) => self.deliver(connection, end),
            Event::Broken(connection, end) => {
                let (place, link) = self.connections[connection].ends[end];
                let other = self.connections[connection].ends[1 - end].0;
                let Some(link) = link else { return };
                if !self.reachable(place, other) {
                    let at = self.now + 200;
                    self.schedule(at, Event::Broken(connection, end));
                    return;
                }
                self.connections[connection].ends[end].1 = None;
                self.servers[place].links.remove(&link);
                let now = self.local(place).now.at;
                if let Some(machine) = &mut self.servers[place].machine {
                    machine.closed(link, now);
                    self.settle(place);
                }
            }
        }
    }

    fn deliver(&mut self, connection: usize, end: usize) {
        let (place, link) = self.connections[connection].ends[end];
        let (other, _) = self.connections[connection].ends[1 - end];
        if !self.reachable(place, other) {
            // It is sent again until it arrives.
            let at = self.now + 200;
            self.schedule(at, Event::Deliver(connection, end));
            return;
        }
        let Some((_, packet)) = self.connections[connection].under_way[end].pop_front() else { return };
        let local = self.local(place);
        let (Some(link), Some(machine)) = (link, &mut self.servers[place].machine) else {
            // Nobody is there any more, which the sender learns now.
            let at = self.now + self.latency();
            self.schedule(at, Event::Broken(connection, 1 - end));
            return;
        };
        assert!(machine.accepts(link, &packet, packet.len()), "nodes send packets that nodes accept");
        assert!(machine.received(link, &packet, &local) || !machine.has_link(link), "packets are understood");
        self.settle(place);
    }

    /// Passes on what primaries write, and has them write.
    fn replicate(&mut self, place: usize) {
        let server = &self.servers[place];
        let Some(machine) = &server.machine else { return };
        let leads = machine.nodes.ok && machine.nodes.myself().votes() && !machine.pauses_stream();
        match server.following {
            None => {
                let written = if self.writes && leads { 1 + self.rng.below(3) } else { 0 };
                let server = &mut self.servers[place];
                server.heard_at = self.now;
                server.offset += written;
            }
            Some(primary) => {
                let answers = self.servers[primary].machine.is_some() && self.reachable(place, primary);
                if answers && primary != place {
                    self.servers[place].heard_at = self.now;
                    self.servers[place].offset = self.servers[primary].offset;
                }
            }
        }
    }

    fn change<R>(&mut self, place: usize, change: impl FnOnce(&mut Machine, &Local) -> R) -> R {
        let local = self.local(place);
        let result = change(self.servers[place].machine.as_mut().expect("it runs"), &local);
        self.settle(place);
        result
    }

    fn machine(&self, place: usize) -> &Machine {
        self.servers[place].machine.as_ref().expect("it runs")
    }

    fn running(&self) -> Vec<usize> {
        (0..self.servers.len()).filter(|&place| self.servers[place].machine.is_some()).collect()
    }

    /// The place of another node in a node's table.
    fn key_at(&self, place: usize, other: usize) -> Option<NodeKey> {
        let id = self.machine(other).nodes.myself().id;
        self.machine(place).nodes.find(&id)
    }

    /// Makes a cluster of so many primaries; the other servers are their replicas, in turn.
    fn create(&mut self, primaries: usize) {
        let count = self.servers.len();
        for place in 0..count {
            self.change(place, |machine, _| machine.set_config_epoch(place as u64 + 1)).expect("it is new");
            if place < primaries {
                let (first, end) = (SLOTS * place / primaries, SLOTS * (place + 1) / primaries);
                let slots =
                    SlotSet::range(Slot::new(first).expect("a slot"), Slot::new(end - 1).expect("a slot"));
                self.change(place, |machine, _| machine.add_slots(&slots)).expect("nobody has them");
            }
        }
        for place in 1..count {
            let [high, low] = (place as u16).to_be_bytes();
            let ip = format!("10.0.{high}.{low}");
            self.change(0, |machine, local| machine.meet(&ip, 7000, BUS_PORT, local)).expect("an address");
        }
        self.wait_until(120_000, "all know each other", |world| {
            let named = |machine: &Machine| machine.nodes.iter().all(|(_, node)| !node.is(Flags::HANDSHAKE));
            (0..count).all(|place| world.machine(place).nodes.len() == count && named(world.machine(place)))
        });
        for place in primaries..count {
            let primary = self.key_at(place, place % primaries).expect("all know each other");
            self.change(place, |machine, _| machine.replicate(primary, true)).expect("it is empty");
        }
        self.wait_until(120_000, "the cluster serves clients", |world| world.disagreement().is_none());
    }

    fn wait_until(&mut self, most_ms: i64, what: &str, met: impl Fn(&World) -> bool) {
        let until = self.now + most_ms;
        while !met(self) {
            if self.now >= until {
                for line in self.log.iter().rev().take(60).rev() {
                    println!("{line}");
                }
                panic!("{what}: {:?}", self.disagreement());
            }
            self.run_for(500);
        }
    }

    /// What is not as it should be when all is well: all nodes that run see the same owners, nobody suspects anybody
    /// who runs, replicas follow primaries that own slots, and the cluster serves clients.
    fn disagreement(&self) -> Option<String> {
        let running = self.running();
        let first = self.machine(*running.first()?);
        let owners = |machine: &Machine| -> Vec<_> {
            Slot::all().map(|slot| machine.nodes.owner(slot).map(|key| machine.nodes[key].id)).collect()
        };
        let expected = owners(first);
        for &place in &running {
            let machine = self.machine(place);
            let me = machine.nodes.myself();
            if !machine.nodes.ok {
                return Some(format!("{place} does not serve"));
            }
            if owners(machine) != expected {
                return Some(format!("{place} sees other owners"));
            }
            for &other in &running {
                let Some(key) = self.key_at(place, other) else {
                    return Some(format!("{place} misses {other}"));
                };
                let node = &machine.nodes[key];
                if node.is(Flags::FAILING | Flags::HANDSHAKE | Flags::NOADDR) {
                    return Some(format!(
                        "{place} sees {other} as {:?}",
                        node.flags.names().collect::<Vec<_>>()
                    ));
                }
                let theirs = self.machine(other).nodes.myself();
                if node.is_primary() != theirs.is_primary() {
                    return Some(format!("{place} and {other} see the role of {other} differently"));
                }
                let mine = node.primary().map(|primary| machine.nodes[primary].id);
                let real = theirs.primary().map(|primary| self.machine(other).nodes[primary].id);
                if mine != real {
                    return Some(format!("{place} and {other} see the primary of {other} differently"));
                }
                if place != other && me.votes() && theirs.votes() && me.config_epoch == theirs.config_epoch {
                    return Some(format!("{place} and {other} have the epoch {}", me.config_epoch));
                }
            }
            match me.primary() {
                Some(primary) if machine.nodes[primary].votes() => {
                    let named = Self::place_of(&machine.nodes[primary].ip);
                    if self.servers[place].following != Some(named) {
                        return Some(format!("{place} follows {:?}", self.servers[place].following));
                    }
                }
                Some(_) => return Some(format!("the primary of {place} has no slots")),
                None if me.is_replica() => return Some(format!("{place} has no primary")),
                None => {}
            }
        }
        None
    }

    /// Who acknowledges writes to a slot now, with the epochs in which they do.
    fn acknowledging(&self, slot: Slot) -> Vec<(usize, u64)> {
        let running = self.running().into_iter();
        let serving = running.filter(|&place| {
            let nodes = &self.machine(place).nodes;
            nodes.ok && nodes.is_mine(slot) && nodes.myself().is_primary()
        });
        serving.map(|place| (place, self.machine(place).nodes.myself().config_epoch)).collect()
    }
}
