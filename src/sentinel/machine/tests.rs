//! Sentinels and data nodes on a network that delays, breaks connections and divides.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::resp::response::Decoder;

fn local(port: u16) -> Address {
    Address { host: "127.0.0.1".to_owned(), ip: "127.0.0.1".to_owned(), port }
}

/// A Sentinel that watches one primary.
pub(super) fn watching(seed: u64) -> Machine {
    let mut machine = Machine::new(Rng::new(seed));
    machine.ensure_id();
    machine.monitor("mymaster", local(6379), 2, 1).expect("a new name");
    machine
}

/// Ports of data nodes begin here.
const DATA: u16 = 6379;
/// Ports of Sentinels begin here.
const SENTINELS: u16 = 26379;

/// A server with data.
struct Node {
    up: bool,
    follows: Option<u16>,
    run_id: String,
    offset: u64,
}

/// Something on its way.
enum Parcel {
    Connected { sentinel: usize, conn: ConnId },
    Closed { sentinel: usize, conn: ConnId },
    Request { sentinel: usize, conn: ConnId, words: Vec<String> },
    Reply { sentinel: usize, conn: ConnId, bytes: Vec<u8> },
}

struct Network {
    now: i64,
    rng: Rng,
    sentinels: Vec<Machine>,
    /// Sentinels that stand still.
    stopped: BTreeSet<usize>,
    nodes: Vec<Node>,
    /// Connections: whose they are, and the port at the other end.
    conns: BTreeMap<(usize, ConnId), u16>,
    /// Connections that have subscribed.
    subscribed: BTreeSet<(usize, ConnId)>,
    /// Pairs of a Sentinel and a port between which nothing passes.
    cut: BTreeSet<(usize, u16)>,
    parcels: BTreeMap<(i64, u64), Parcel>,
    sent: u64,
    /// Of each Sentinel: the epochs in which it voted.
    votes: BTreeSet<(usize, u64)>,
    /// Epochs in which somebody was elected.
    elected: BTreeMap<u64, usize>,
    /// Epochs in which somebody promoted a replica.
    promotions: BTreeMap<u64, usize>,
    /// Events, for the message of a test that fails.
    log: Vec<String>,
}

/// The words of a request.
fn words(bytes: &[u8]) -> Vec<String> {
    let mut decoder = Decoder::default();
    let (request, _) = decoder.next(bytes).expect("well formed").expect("whole");
    request.items().map(|item| String::from_utf8_lossy(item.text()).into_owned()).collect()
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

impl Network {
    fn new(seed: u64, sentinels: usize, nodes: usize) -> Network {
        let node = |i: usize| Node {
            up: true,
            follows: (i > 0).then_some(DATA),
            run_id: format!("{i:040}"),
            offset: 100,
        };
        Network {
            now: 1_000_000,
            rng: Rng::new(seed),
            sentinels: (0..sentinels)
                .map(|i| {
                    let mut machine = watching(seed * 100 + i as u64);
                    machine.port = SENTINELS + i as u16;
                    let id = machine.primaries[0];
                    machine.apply(id, admin::Change::DownAfter(3000));
                    machine.apply(id, admin::Change::FailoverTimeout(20_000));
                    machine.apply(id, admin::Change::Quorum((sentinels / 2 + 1) as u32));
                    machine
                })
                .collect(),
            stopped: BTreeSet::new(),
            nodes: (0..nodes).map(node).collect(),
            conns: BTreeMap::new(),
            subscribed: BTreeSet::new(),
            cut: BTreeSet::new(),
            parcels: BTreeMap::new(),
            sent: 0,
            votes: BTreeSet::new(),
            elected: BTreeMap::new(),
            promotions: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    fn reachable(&self, sentinel: usize, port: u16) -> bool {
        let up = match port.checked_sub(SENTINELS) {
            Some(other) => usize::from(other) < self.sentinels.len(),
            None => self.nodes.get(usize::from(port - DATA)).is_some_and(|node| node.up),
        };
        up && !self.cut.contains(&(sentinel, port))
    }

    fn send(&mut self, after: i64, parcel: Parcel) {
        self.sent += 1;
        self.parcels.insert((self.now + after, self.sent), parcel);
    }

    fn run(&mut self, ms: i64) {
        let end = self.now + ms;
        while self.now < end {
            for sentinel in 0..self.sentinels.len() {
                if !self.stopped.contains(&sentinel) && self.rng.below(10) == 0 {
                    self.sentinels[sentinel].tick(self.now);
                    self.settle(sentinel);
                }
            }
            while let Some(entry) = self.parcels.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let parcel = entry.remove();
                self.deliver(parcel);
            }
            self.now += 10;
        }
    }

    fn deliver(&mut self, parcel: Parcel) {
        match parcel {
            Parcel::Connected { sentinel, conn } => {
                self.sentinels[sentinel].connected(conn, "127.0.0.1".to_owned());
            }
            Parcel::Closed { sentinel, conn } => {
                self.sentinels[sentinel].closed(conn);
            }
            Parcel::Request { sentinel, conn, words } => {
                let Some(&port) = self.conns.get(&(sentinel, conn)) else { return };
                let frozen =
                    port.checked_sub(SENTINELS).is_some_and(|i| self.stopped.contains(&usize::from(i)));
                if !self.reachable(sentinel, port) || frozen {
                    // No more comes by this connection, which only silence tells.
                    self.conns.remove(&(sentinel, conn));
                    self.subscribed.remove(&(sentinel, conn));
                    return;
                }
                if words[0] == "SUBSCRIBE" {
                    self.subscribed.insert((sentinel, conn));
                    return;
                }
                let bytes = self.answer(port, &words);
                self.send(5, Parcel::Reply { sentinel, conn, bytes });
            }
            Parcel::Reply { sentinel, conn, bytes } => {
                if !self.stopped.contains(&sentinel) && self.conns.contains_key(&(sentinel, conn)) {
                    let mut decoder = Decoder::default();
                    let (reply, _) = decoder.next(&bytes).expect("well formed").expect("whole");
                    self.sentinels[sentinel].received(conn, reply, self.now);
                    self.settle(sentinel);
                }
            }
        }
    }

    fn answer(&mut self, port: u16, words: &[String]) -> Vec<u8> {
        let all: Vec<&str> = words.iter().map(String::as_str).collect();
        match (port.checked_sub(SENTINELS).map(usize::from), &all[..]) {
            (_, ["PING"]) => b"+PONG\r\n".to_vec(),
            (Some(other), ["PUBLISH", _, text]) => {
                self.sentinels[other].hello(text.as_bytes(), self.now);
                self.settle(other);
                b":1\r\n".to_vec()
            }
            (Some(other), ["SENTINEL", _, host, port, epoch, candidate]) => {
                let (port, epoch) = (port.parse().expect("a port"), epoch.parse().expect("an epoch"));
                let (down, vote) =
                    self.sentinels[other].is_down_by_addr(host, port, epoch, candidate, self.now);
                self.settle(other);
                let (leader, epoch) = vote.unwrap_or_else(|| ("*".to_owned(), 0));
                [
                    format!("*3\r\n:{}\r\n", u8::from(down)).as_bytes(),
                    &bulk(&leader),
                    format!(":{epoch}\r\n").as_bytes(),
                ]
                .concat()
            }
            (None, ["PUBLISH", channel, text]) => {
                let message = [&b"*3\r\n"[..], &bulk("message"), &bulk(channel), &bulk(text)].concat();
                for (sentinel, conn) in self.subscribed.clone() {
                    if self.conns.get(&(sentinel, conn)) == Some(&port) {
                        self.send(5, Parcel::Reply { sentinel, conn, bytes: message.clone() });
                    }
                }
                b":1\r\n".to_vec()
            }
            (None, ["INFO"]) => bulk(&self.info(port)),
            (None, ["SLAVEOF", host, other]) => {
                let node = &mut self.nodes[usize::from(port - DATA)];
                node.follows = (*host != "NO").then(|| other.parse().expect("a port"));
                b"+OK\r\n".to_vec()
            }
            _ => b"+OK\r\n".to_vec(),
        }
    }

    fn info(&self, port: u16) -> String {
        let node = &self.nodes[usize::from(port - DATA)];
        let mut text = format!("# Server\r\nrun_id:{}\r\n", node.run_id);
        match node.follows {
            None => {
                text += "role:master\r\n";
                let replicas = self
                    .nodes
                    .iter()
                    .enumerate()
                    .filter(|(_, other)| other.up && other.follows == Some(port));
                for (i, _) in replicas {
                    text += &format!("slave{i}:ip=127.0.0.1,port={},state=online\r\n", DATA + i as u16);
                }
            }
            Some(primary) => {
                let up = self.nodes[usize::from(primary - DATA)].up;
                let status = if up { "up" } else { "down" };
                text += &format!(
                    "role:slave\r\nmaster_host:127.0.0.1\r\nmaster_port:{primary}\r\nmaster_link_status:{status}\r\n\
                     slave_repl_offset:{}\r\nslave_priority:100\r\n",
                    node.offset
                );
            }
        }
        text
    }

    /// Carries out what a Sentinel asks for, and checks what it says.
    fn settle(&mut self, sentinel: usize) {
        for action in self.sentinels[sentinel].take_actions() {
            match action {
                Action::Connect { conn, port, .. } => {
                    if self.reachable(sentinel, port) {
                        self.conns.insert((sentinel, conn), port);
                        self.send(5, Parcel::Connected { sentinel, conn });
                    } else {
                        self.send(5, Parcel::Closed { sentinel, conn });
                    }
                }
                Action::Send { conn, bytes } => {
                    let words = words(&bytes);
                    self.send(5, Parcel::Request { sentinel, conn, words });
                }
                Action::Close(conn) => {
                    self.conns.remove(&(sentinel, conn));
                    self.subscribed.remove(&(sentinel, conn));
                }
                Action::Event { kind, text, .. } => self.check(sentinel, kind, &text),
                Action::Crash => panic!("nobody asked for it"),
                _ => {}
            }
        }
    }

    fn check(&mut self, sentinel: usize, kind: &str, text: &str) {
        self.log.push(format!("{} {sentinel} {kind} {text}", self.now));
        let epoch = self.sentinels[sentinel]
            .primaries
            .first()
            .map(|&id| self.sentinels[sentinel][id].watch.failover_epoch);
        match (kind, epoch) {
            ("+vote-for-leader", _) => {
                let epoch = text.rsplit(' ').next().and_then(|epoch| epoch.parse().ok()).expect("an epoch");
                assert!(self.votes.insert((sentinel, epoch)), "one vote per epoch: {:#?}", self.log);
            }
            ("+elected-leader", Some(epoch)) => {
                let before = self.elected.insert(epoch, sentinel);
                assert_eq!(before, None, "one leader per epoch: {:#?}", self.log);
            }
            ("+promoted-slave", Some(epoch)) => {
                let before = self.promotions.insert(epoch, sentinel);
                assert_eq!(before, None, "one promotion per epoch: {:#?}", self.log);
            }
            _ => {}
        }
    }

    fn kill(&mut self, node: usize) {
        self.nodes[node].up = false;
        let port = DATA + node as u16;
        let broken: Vec<(usize, ConnId)> =
            self.conns.iter().filter(|(_, other)| **other == port).map(|(conn, _)| *conn).collect();
        for (sentinel, conn) in broken {
            self.conns.remove(&(sentinel, conn));
            self.subscribed.remove(&(sentinel, conn));
            self.sentinels[sentinel].closed(conn);
        }
    }

    /// The port that each Sentinel names as that of the primary.
    fn named(&self) -> Vec<u16> {
        let port = |machine: &Machine| machine.current_address(machine.primaries[0]).port;
        self.sentinels.iter().map(port).collect()
    }

    /// All Sentinels name the same primary, it is one, and all others that are up follow it.
    fn assert_settled(&self) -> u16 {
        let named = self.named();
        assert!(named.iter().all(|port| *port == named[0]), "{named:?} {:#?}", self.log);
        for (i, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.up) {
            let expected = (DATA + i as u16 != named[0]).then_some(named[0]);
            assert_eq!(node.follows, expected, "node {i}, {:#?}", self.log);
        }
        named[0]
    }
}

#[test]
fn everybody_is_found() {
    let mut network = Network::new(1, 3, 3);
    network.run(15_000);
    for machine in &network.sentinels {
        let id = machine.primaries[0];
        assert_eq!((machine.replicas(id).len(), machine.sentinels(id).len()), (2, 2), "{:#?}", network.log);
        assert_eq!(machine.usable(id), (3, true, true));
    }
    assert_eq!(network.assert_settled(), DATA);
    assert!(network.votes.is_empty());
}

#[test]
fn a_primary_that_is_gone_is_replaced_once() {
    for seed in 1..40 {
        let mut network = Network::new(seed, 3 + 2 * (seed % 2) as usize, 4);
        if seed >= 20 {
            // No longer than a pause between two attempts to connect.
            for machine in &mut network.sentinels {
                machine.apply(machine.primaries[0], admin::Change::DownAfter(1000));
            }
        }
        network.run(15_000);
        network.nodes[2].offset = 200;
        network.run(12_000);
        network.kill(0);
        network.run(90_000);
        assert_eq!(network.assert_settled(), DATA + 2, "the one with most data, seed {seed}");
        network.nodes[0].up = true;
        network.nodes[0].follows = None;
        network.run(60_000);
        assert_eq!(network.assert_settled(), DATA + 2, "who comes back follows, seed {seed}");
        assert_eq!(network.promotions.len(), 1, "seed {seed}");
    }
}

#[test]
fn without_a_majority_nothing_happens() {
    let mut network = Network::new(7, 5, 3);
    network.run(15_000);
    // Three of five stand still: two agree on nothing.
    network.stopped.extend([0, 1, 2]);
    network.kill(0);
    network.run(60_000);
    assert!(network.promotions.is_empty());
    assert_eq!(network.named()[3..], [DATA, DATA]);
}

#[test]
fn partitions_that_come_and_go_end_in_agreement() {
    for seed in 1..30 {
        let mut network = Network::new(seed, 5, 4);
        network.run(15_000);
        for _ in 0..6 {
            for sentinel in 0..5 {
                for port in (DATA..DATA + 4).chain(SENTINELS..SENTINELS + 5) {
                    if network.rng.one_in(3) {
                        network.cut.insert((sentinel, port));
                    } else {
                        network.cut.remove(&(sentinel, port));
                    }
                }
            }
            if network.rng.one_in(3) {
                let node = network.rng.index(4);
                network.kill(node);
            }
            let time = 5000 + network.rng.below(30_000) as i64;
            network.run(time);
            for node in &mut network.nodes {
                node.up = true;
            }
        }
        network.cut.clear();
        network.run(200_000);
        network.assert_settled();
    }
}

#[test]
fn a_clock_that_jumps_leads_to_no_judgement() {
    let mut network = Network::new(3, 3, 2);
    network.run(15_000);
    network.now += 60_000;
    network.run(5000);
    for machine in &network.sentinels {
        assert!(machine.tilt_since().is_some());
        assert!(!machine[machine.primaries[0]].flags.has(Flags::S_DOWN));
    }
    network.run(40_000);
    assert!(network.sentinels.iter().all(|machine| machine.tilt_since().is_none()));
    assert_eq!(network.assert_settled(), DATA);
    assert!(network.promotions.is_empty(), "{:#?}", network.log);
}
