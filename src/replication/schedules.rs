//! Model test: servers replicate each other over a network that delays, fragments and cuts connections.
//!
//! Each server is a [`History`], a [`Backlog`] and its data, which is the list of all writes; no two writes are equal.
//! The protocol code is that of this room; only what a server does with sockets and files is simulated. A schedule is a
//! random sequence of writes, deliveries of a few bytes, cuts, promotions, changes of primary and restarts, generated
//! from one seed. Two laws hold:
//!
//! - At any moment, a server that claims the first `n` bytes of a history has exactly the data that the history's
//!   author had after writing them: nothing is missing, duplicated or out of order.
//! - After the disturbances end, the data of all servers become equal and stay equal without another snapshot.

use std::collections::HashMap;

use super::backlog::Backlog;
use super::handshake::{Greeting, Handshake, Next};
use super::replica::{Capabilities, Replica, State};
use super::resume::{Refusal, resume};
use super::transfer::{Body, Framing, MARK_LEN, read_header};
use super::{History, ReplicationId};
use crate::resp::request::{Decoder, Limits, write_request};
use crate::stdx::clock::UnixMillis;
use crate::stdx::rng::Rng;

/// A write: the database, and a number that no other write has.
type Write = (u32, u64);

/// Events seen in all schedules. The test fails if one of them never occurred.
#[derive(Default, Debug)]
struct Seen {
    full_by_length: u64,
    full_by_mark: u64,
    full_plain: u64,
    partial: u64,
    partial_after_promotion: u64,
    partial_after_restart: u64,
    refused: HashMap<&'static str, u64>,
    cut_in_handshake: u64,
    cut_in_transfer: u64,
    cut_in_stream: u64,
    cut_in_transaction: u64,
    promotions: u64,
    depth: u64,
}

/// An end of a connection: the server that opened it, or the one that accepted it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Opener = 0,
    Acceptor = 1,
}

/// A connection between two servers.
struct Connection {
    /// The servers at its ends.
    servers: [usize; 2],
    /// Bytes in transit to each end.
    under_way: [Vec<u8>; 2],
    /// How many bytes still reach each end before the connection breaks.
    left: [u64; 2],
    /// Whether the connection no longer transmits bytes.
    broken: bool,
    /// Whether each end has stopped using the connection.
    left_by: [bool; 2],
    /// What the accepting server knows of the replica that opened it.
    replica: Replica,
    input: Input,
    /// The snapshot that the replica waits for.
    snapshot: Option<Vec<u8>>,
}

/// Requests being received.
#[derive(Default)]
struct Input {
    bytes: Vec<u8>,
    pos: usize,
    decoder: Decoder,
}

impl Input {
    /// The next complete request, and its bytes.
    fn next(&mut self) -> Option<(Vec<Vec<u8>>, Vec<u8>)> {
        let (before, mut spans) = (self.pos, Vec::new());
        let frame = self.decoder.next(&mut self.bytes, &mut self.pos, &mut spans, &Limits::default());
        let frame = frame.expect("only requests are sent")?;
        let args = frame.args(&self.bytes, &spans).map(<[u8]>::to_vec).collect();
        let raw = self.bytes[before..self.pos].to_vec();
        Some((args, raw))
    }
}

/// State of the connection to the primary.
enum Link {
    Down,
    Greeting {
        connection: usize,
        handshake: Handshake,
        received: Vec<u8>,
    },
    Copying {
        connection: usize,
        id: Option<ReplicationId>,
        offset: u64,
        received: Vec<u8>,
        body: Option<Body>,
        snapshot: Vec<u8>,
    },
    Linked {
        connection: usize,
        input: Input,
        taken: Vec<u8>,
        queued: Option<Vec<Vec<Vec<u8>>>>,
    },
}

struct Following {
    primary: usize,
    link: Link,
    /// Whether the data correspond to the history at the server's offset.
    resumable: bool,
    /// Whether the primary speaks the protocol without histories.
    plain: bool,
    /// Database that the stream has selected.
    db: u32,
}

/// State of a server that survives a restart.
#[derive(Clone)]
struct Saved {
    data: Vec<Write>,
    position: Option<(ReplicationId, u64, u32)>,
}

struct Server {
    history: History,
    backlog: Backlog,
    data: Vec<Write>,
    following: Option<Following>,
    saved: Saved,
    /// Whether the server has no replication IDs.
    old: bool,
    /// Whether the server was restarted since it was last connected to its primary.
    restarted: bool,
}

struct World {
    rng: Rng,
    servers: Vec<Server>,
    connections: Vec<Connection>,
    /// Hash of the data at each offset, by the author's history. A history may continue another one.
    truth: HashMap<(String, u64), u64>,
    parents: HashMap<String, (String, u64)>,
    written: u64,
    /// Whether connections may break.
    stormy: bool,
    /// Numbers of bytes that the next connections transmit to each end before they break.
    planned: Vec<[u64; 2]>,
    seen: Seen,
}

fn digest(data: &[Write]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &(db, n)| {
        (hash ^ (n << 8 | u64::from(db))).wrapping_mul(0x0100_0000_01b3).rotate_left(17)
    })
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("a number was written")
}

impl World {
    fn new(seed: u64, servers: usize) -> World {
        let mut rng = Rng::new(seed);
        let servers = (0..servers)
            .map(|_| Server {
                history: History::new(&mut rng),
                backlog: Backlog::default(),
                data: Vec::new(),
                following: None,
                saved: Saved { data: Vec::new(), position: None },
                old: false,
                restarted: false,
            })
            .collect();
        World {
            rng,
            servers,
            connections: Vec::new(),
            truth: HashMap::new(),
            parents: HashMap::new(),
            written: 0,
            stormy: true,
            planned: Vec::new(),
            seen: Seen::default(),
        }
    }

    // ---- the first law --------------------------------------------------------------------

    /// Records the data of a history's author at the end of the history.
    fn note(&mut self, s: usize) {
        let server = &self.servers[s];
        if server.backlog.is_active() {
            let at = (server.history.id.to_string(), server.backlog.end());
            let before = self.truth.insert(at, digest(&server.data));
            assert!(before.is_none_or(|before| before == digest(&server.data)), "a history has two authors");
        }
    }

    fn data_at(&self, id: &str, offset: u64) -> Option<u64> {
        if let Some(&hash) = self.truth.get(&(id.to_owned(), offset)) {
            return Some(hash);
        }
        let (parent, end) = self.parents.get(id)?;
        if offset <= *end { self.data_at(parent, offset) } else { None }
    }

    /// Asserts that a server has the data of its history at its offset.
    fn check(&self, s: usize, what: &str) {
        let server = &self.servers[s];
        let (id, offset) = (server.history.id, server.backlog.end());
        let expected = self.data_at(id.as_str(), offset);
        assert_eq!(expected, Some(digest(&server.data)), "{what}: server {s} at {id}:{offset}");
    }

    // ---- roles ----------------------------------------------------------------------------

    fn new_history(&mut self, s: usize) {
        self.servers[s].history = History::new(&mut self.rng);
    }

    /// Begins a new history that continues the current one.
    fn branch(&mut self, s: usize) {
        let server = &mut self.servers[s];
        let (old, end) = (server.history.id.to_string(), server.backlog.end());
        server.history.branch(end, &mut self.rng);
        self.parents.insert(server.history.id.to_string(), (old, end));
        self.note(s);
    }

    fn leave_primary(&mut self, s: usize) {
        let Some(following) = &mut self.servers[s].following else { return };
        let link = std::mem::replace(&mut following.link, Link::Down);
        if let Link::Greeting { connection, .. }
        | Link::Copying { connection, .. }
        | Link::Linked { connection, .. } = link
        {
            self.close(connection, End::Opener);
        }
    }

    fn follow(&mut self, s: usize, primary: usize) {
        self.leave_primary(s);
        let server = &self.servers[s];
        let (resumable, db) = match &server.following {
            None => (true, server.backlog.selected.unwrap_or(0)),
            Some(following) => (following.resumable, following.db),
        };
        let following = Following { primary, link: Link::Down, resumable, plain: false, db };
        self.servers[s].following = Some(following);
    }

    fn promote(&mut self, s: usize) {
        if self.servers[s].following.is_none() {
            return;
        }
        self.seen.promotions += 1;
        self.leave_primary(s);
        self.servers[s].following = None;
        self.disconnect_replicas(s);
        self.branch(s);
        self.servers[s].backlog.selected = None;
    }

    /// Position of the data in a history, for a snapshot of them.
    fn position(&self, s: usize) -> Option<(ReplicationId, u64, u32)> {
        let server = &self.servers[s];
        let db = match &server.following {
            None if !server.backlog.is_active() => return None,
            None => server.backlog.selected.unwrap_or(0),
            Some(following) if following.resumable => following.db,
            Some(_) => return None,
        };
        Some((server.history.id, server.backlog.end(), db))
    }

    fn save(&mut self, s: usize) {
        let saved = Saved { data: self.servers[s].data.clone(), position: self.position(s) };
        self.servers[s].saved = saved;
    }

    fn restart(&mut self, s: usize) {
        for c in 0..self.connections.len() {
            for end in [End::Opener, End::Acceptor] {
                if self.connections[c].servers[end as usize] == s {
                    self.close(c, end);
                }
            }
        }
        let server = &mut self.servers[s];
        let saved = server.saved.clone();
        let primary = server.following.as_ref().map(|following| following.primary);
        server.data = saved.data;
        server.backlog = Backlog::default();
        server.following = None;
        server.restarted = true;
        self.new_history(s);
        let server = &mut self.servers[s];
        if let Some((id, offset, _)) = saved.position {
            server.history.adopt(id);
            server.backlog.restart(offset);
        }
        if let Some(primary) = primary {
            let db = saved.position.map_or(0, |(_, _, db)| db);
            let resumable = saved.position.is_some();
            server.following = Some(Following { primary, link: Link::Down, resumable, plain: false, db });
        } else if saved.position.is_some() {
            // The server's former replicas may have followed the old history further than the server did.
            server.backlog.activate();
            self.branch(s);
        }
    }

    // ---- connections ----------------------------------------------------------------------

    fn connect(&mut self, s: usize) {
        let Some(following) = &mut self.servers[s].following else { return };
        if !matches!(following.link, Link::Down) {
            return;
        }
        let primary = following.primary;
        let mut out = Vec::new();
        let server = &self.servers[s];
        let following = server.following.as_ref().expect("just seen");
        let position =
            (following.resumable && !following.plain).then(|| (server.history.id, server.backlog.end()));
        let greeting = Greeting { port: 1000 + s as u16, position, ..Greeting::default() };
        let handshake = Handshake::begin(greeting, &mut out);
        let mut left = || {
            if !self.stormy {
                return u64::MAX;
            }
            match self.rng.below(8) {
                0 => self.rng.below(60),
                1 => self.rng.below(400),
                2 => self.rng.below(3000),
                3 => self.rng.below(30_000),
                _ => u64::MAX,
            }
        };
        let left = if self.planned.is_empty() { [left(), left()] } else { self.planned.remove(0) };
        self.connections.push(Connection {
            servers: [s, primary],
            under_way: [Vec::new(), out],
            left,
            broken: false,
            left_by: [false, false],
            replica: Replica::new(UnixMillis(0)),
            input: Input::default(),
            snapshot: None,
        });
        let connection = self.connections.len() - 1;
        let link = Link::Greeting { connection, handshake, received: Vec::new() };
        self.servers[s].following.as_mut().expect("just seen").link = link;
    }

    /// Closes one end of a connection. The other end learns of it later.
    fn close(&mut self, c: usize, end: End) {
        let connection = &mut self.connections[c];
        connection.left_by[end as usize] = true;
        connection.under_way[end as usize].clear();
        connection.broken = true;
        if end == End::Acceptor {
            connection.snapshot = None;
            connection.replica.state = State::Done;
        }
    }

    fn send(&mut self, c: usize, to: End, bytes: &[u8]) {
        self.connections[c].under_way[to as usize].extend_from_slice(bytes);
    }

    /// Delivers up to `most` bytes to an end; whether anything happened there.
    fn deliver(&mut self, c: usize, to: End, most: usize) -> bool {
        let connection = &mut self.connections[c];
        if connection.left_by[to as usize] {
            connection.under_way[to as usize].clear();
            return false;
        }
        let under_way = &mut connection.under_way[to as usize];
        let n = most
            .min(under_way.len())
            .min(usize::try_from(connection.left[to as usize]).unwrap_or(usize::MAX));
        if n == 0 {
            if connection.broken || connection.left[to as usize] == 0 && !under_way.is_empty() {
                connection.broken = true;
                self.lost(c, to);
                return true;
            }
            return false;
        }
        let bytes: Vec<u8> = under_way.drain(..n).collect();
        if connection.left[to as usize] != u64::MAX {
            connection.left[to as usize] -= n as u64;
        }
        let s = connection.servers[to as usize];
        match to {
            End::Opener => self.hear_primary(s, c, &bytes),
            End::Acceptor => self.hear_replica(s, c, &bytes),
        }
        true
    }

    /// Tells an end that its connection is lost.
    fn lost(&mut self, c: usize, end: End) {
        let s = self.connections[c].servers[end as usize];
        self.close(c, end);
        if end == End::Acceptor {
            return;
        }
        let Some(following) = &mut self.servers[s].following else { return };
        match &following.link {
            Link::Greeting { connection, .. } if *connection == c => self.seen.cut_in_handshake += 1,
            Link::Copying { connection, .. } if *connection == c => self.seen.cut_in_transfer += 1,
            Link::Linked { connection, queued, .. } if *connection == c => {
                self.seen.cut_in_stream += 1;
                self.seen.cut_in_transaction += u64::from(queued.is_some());
            }
            _ => return,
        }
        following.link = Link::Down;
    }

    // ---- the replica's end ----------------------------------------------------------------

    fn hear_primary(&mut self, s: usize, c: usize, bytes: &[u8]) {
        let Some(following) = &mut self.servers[s].following else { return };
        match &mut following.link {
            Link::Greeting { connection, received, .. } if *connection == c => {
                received.extend_from_slice(bytes);
                self.greet(s);
            }
            Link::Copying { connection, received, .. } if *connection == c => {
                received.extend_from_slice(bytes);
                self.copy(s);
            }
            Link::Linked { connection, input, .. } if *connection == c => {
                input.bytes.extend_from_slice(bytes);
                self.apply(s);
            }
            _ => {}
        }
    }

    fn greet(&mut self, s: usize) {
        let following = self.servers[s].following.as_mut().expect("it follows");
        let Link::Greeting { connection: c, mut handshake, mut received } =
            std::mem::replace(&mut following.link, Link::Down)
        else {
            return;
        };
        let mut out = Vec::new();
        while let Some(end) = received.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = received.drain(..=end).collect();
            let line = line.strip_suffix(b"\r\n").unwrap_or(&line[..end]);
            match handshake.answer(line, &mut out) {
                Ok(Next::Wait) => {}
                Ok(Next::Full { id, offset }) => {
                    self.send(c, End::Acceptor, &out);
                    self.disconnect_replicas(s);
                    let server = &mut self.servers[s];
                    server.backlog.deactivate();
                    let following = server.following.as_mut().expect("it follows");
                    following.plain = id.is_none();
                    following.link = Link::Copying {
                        connection: c,
                        id,
                        offset,
                        received,
                        body: None,
                        snapshot: Vec::new(),
                    };
                    return self.copy(s);
                }
                Ok(Next::Continue { id }) => return self.go_on(s, c, id, received),
                Err(_) => return self.close(c, End::Opener),
            }
        }
        self.send(c, End::Acceptor, &out);
        let following = self.servers[s].following.as_mut().expect("it follows");
        following.link = Link::Greeting { connection: c, handshake, received };
    }

    fn go_on(&mut self, s: usize, c: usize, id: Option<ReplicationId>, received: Vec<u8>) {
        self.seen.partial += 1;
        let server = &mut self.servers[s];
        self.seen.partial_after_restart += u64::from(std::mem::take(&mut server.restarted));
        let offset = server.backlog.end();
        if let Some(id) = id.filter(|id| *id != server.history.id) {
            self.seen.partial_after_promotion += 1;
            server.history.follow(id, offset);
            self.disconnect_replicas(s);
        }
        let server = &mut self.servers[s];
        if !server.backlog.is_active() {
            server.backlog.activate();
        }
        self.check(s, "at the beginning of a partial synchronisation");
        self.link(s, c, received);
    }

    fn link(&mut self, s: usize, c: usize, received: Vec<u8>) {
        let following = self.servers[s].following.as_mut().expect("it follows");
        following.resumable = !following.plain;
        let input = Input { bytes: received, ..Input::default() };
        following.link = Link::Linked { connection: c, input, taken: Vec::new(), queued: None };
        self.apply(s);
    }

    fn copy(&mut self, s: usize) {
        let following = self.servers[s].following.as_mut().expect("it follows");
        let Link::Copying { connection: c, id, offset, received, body, snapshot } = &mut following.link
        else {
            return;
        };
        if body.is_none() {
            match read_header(received) {
                Ok((framing, used)) => {
                    received.drain(..used);
                    *body = framing.map(Body::new);
                }
                Err(_) => {
                    let c = *c;
                    following.link = Link::Down;
                    return self.close(c, End::Opener);
                }
            }
        }
        let Some(body) = body else { return };
        let n = body.take(received, snapshot);
        received.drain(..n);
        if !body.has_ended() {
            return;
        }
        match (*id, body.size()) {
            (None, _) => self.seen.full_plain += 1,
            (_, None) => self.seen.full_by_mark += 1,
            (_, Some(_)) => self.seen.full_by_length += 1,
        }
        let (c, id, offset, received) = (*c, *id, *offset, std::mem::take(received));
        let words: Vec<u64> = snapshot
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
            .collect();
        assert_eq!(snapshot.len(), 8 * words.len(), "a snapshot arrives whole");
        following.db = words[0] as u32;
        let server = &mut self.servers[s];
        server.data = words[1..].chunks_exact(2).map(|pair| (pair[0] as u32, pair[1])).collect();
        server.restarted = false;
        match id {
            Some(id) => server.history.adopt(id),
            None => self.new_history(s),
        }
        let server = &mut self.servers[s];
        server.backlog.restart(offset);
        server.backlog.activate();
        match id {
            Some(_) => self.check(s, "after a full synchronisation"),
            None => self.note(s),
        }
        self.acknowledge(s, c);
        self.link(s, c, received);
    }

    fn acknowledge(&mut self, s: usize, c: usize) {
        let mut out = Vec::new();
        let offset = self.servers[s].backlog.end().to_string();
        write_request(&mut out, [&b"REPLCONF"[..], b"ACK", offset.as_bytes()].into_iter());
        self.send(c, End::Acceptor, &out);
    }

    /// Applies the part of the stream that has arrived, and passes it on unchanged.
    fn apply(&mut self, s: usize) {
        loop {
            let server = &mut self.servers[s];
            let following = server.following.as_mut().expect("it follows");
            let Link::Linked { connection, input, taken, queued } = &mut following.link else { return };
            let c = *connection;
            let Some((args, raw)) = input.next() else { return };
            taken.extend_from_slice(&raw);
            let mut asked = false;
            let mut execute = |data: &mut Vec<Write>, args: &[Vec<u8>]| match &args[0][..] {
                b"SELECT" => following.db = number(&args[1]) as u32,
                b"WRITE" => data.push((following.db, number(&args[1]))),
                b"REPLCONF" => asked = true,
                b"PING" => {}
                other => panic!("nobody writes {}", other.escape_ascii()),
            };
            match (&args[0][..], &mut *queued) {
                (b"MULTI", None) => *queued = Some(Vec::new()),
                (b"EXEC", Some(requests)) => {
                    for request in std::mem::take(requests) {
                        execute(&mut server.data, &request);
                    }
                    *queued = None;
                }
                (_, Some(requests)) => requests.push(args),
                (_, None) => execute(&mut server.data, &args),
            }
            if queued.is_none() {
                server.backlog.append(taken);
                taken.clear();
                if following.plain {
                    self.note(s);
                } else {
                    self.check(s, "in the stream");
                }
            }
            if asked {
                self.acknowledge(s, c);
            }
        }
    }

    // ---- the primary's end ----------------------------------------------------------------

    fn replicas(&self, s: usize) -> Vec<usize> {
        (0..self.connections.len())
            .filter(|&c| {
                let connection = &self.connections[c];
                connection.servers[1] == s
                    && !connection.left_by[1]
                    && !matches!(connection.replica.state, State::Greeting | State::Done)
            })
            .collect()
    }

    fn disconnect_replicas(&mut self, s: usize) {
        for c in self.replicas(s) {
            self.close(c, End::Acceptor);
        }
    }

    fn hear_replica(&mut self, s: usize, c: usize, bytes: &[u8]) {
        self.connections[c].input.bytes.extend_from_slice(bytes);
        while !self.connections[c].left_by[1] {
            let Some((args, _)) = self.connections[c].input.next() else { return };
            let replica = &mut self.connections[c].replica;
            let mut reply = b"+OK\r\n".to_vec();
            match &args[0][..] {
                b"PING" => reply = b"+PONG\r\n".to_vec(),
                b"REPLCONF" => match &args[1][..] {
                    b"listening-port" => replica.port = number(&args[2]) as u16,
                    b"capa" => {
                        replica.capabilities.set(Capabilities::EOF, true);
                        replica.capabilities.set(Capabilities::PSYNC2, true);
                    }
                    b"ACK" => {
                        replica.acknowledged = replica.acknowledged.max(number(&args[2]));
                        if replica.state == State::Online {
                            replica.online_when_heard = false;
                        }
                        continue;
                    }
                    b"version" if self.rng.one_in(2) => {
                        reply = b"-ERR Unrecognized REPLCONF option\r\n".to_vec()
                    }
                    _ => {}
                },
                b"PSYNC" if self.servers[s].old => reply = b"-ERR unknown command\r\n".to_vec(),
                b"PSYNC" | b"SYNC" => {
                    self.synchronise(s, c, &args);
                    continue;
                }
                other => panic!("nobody sends {}", other.escape_ascii()),
            }
            self.send(c, End::Opener, &reply);
        }
    }

    fn synchronise(&mut self, s: usize, c: usize, args: &[Vec<u8>]) {
        let server = &self.servers[s];
        let linked = |following: &Following| matches!(following.link, Link::Linked { .. });
        if server.following.as_ref().is_some_and(|following| !linked(following)) {
            return self.send(c, End::Opener, b"-NOMASTERLINK not now\r\n");
        }
        if args.len() == 3 {
            let next =
                std::str::from_utf8(&args[2]).ok().and_then(|text| text.parse().ok()).expect("a number");
            match resume(&server.history, &server.backlog, &args[1], next) {
                Ok(offset) => {
                    let line = format!("+CONTINUE {}\r\n", server.history.id);
                    let replica = &mut self.connections[c].replica;
                    (replica.state, replica.next) = (State::Online, offset);
                    return self.send(c, End::Opener, line.as_bytes());
                }
                Err(refusal) => {
                    let why = match refusal {
                        Refusal::Asked => "asked",
                        Refusal::Foreign(super::history::Foreign::Unknown) => "unknown",
                        Refusal::Foreign(_) => "ended",
                        Refusal::NotKept => "not kept",
                        Refusal::Ahead => "ahead",
                    };
                    *self.seen.refused.entry(why).or_default() += 1;
                }
            }
        }
        self.connections[c].replica.state = State::AwaitsSnapshot;
        let server = &mut self.servers[s];
        if !server.backlog.is_active() {
            if server.following.is_none() {
                self.new_history(s);
            }
            self.servers[s].backlog.activate();
            self.note(s);
        }
    }

    /// Begins a snapshot for all replicas that wait for one.
    fn begin_snapshot(&mut self, s: usize) {
        let waiting: Vec<usize> = self
            .replicas(s)
            .into_iter()
            .filter(|&c| self.connections[c].replica.state == State::AwaitsSnapshot)
            .collect();
        if waiting.is_empty() {
            return;
        }
        let Some((id, offset, db)) = self.position(s).or_else(|| {
            // A server whose primary has no replication IDs has a history of its own.
            let server = &self.servers[s];
            let following = server.following.as_ref()?;
            matches!(following.link, Link::Linked { .. })
                .then(|| (server.history.id, server.backlog.end(), following.db))
        }) else {
            return;
        };
        let server = &mut self.servers[s];
        let mut snapshot = u64::from(db).to_le_bytes().to_vec();
        for &(db, n) in &server.data {
            snapshot.extend_from_slice(&u64::from(db).to_le_bytes());
            snapshot.extend_from_slice(&n.to_le_bytes());
        }
        server.backlog.selected = None;
        let old = server.old;
        for c in waiting {
            let connection = &mut self.connections[c];
            (connection.replica.state, connection.replica.next) = (State::SnapshotBegun, offset);
            connection.snapshot = Some(snapshot.clone());
            if !old {
                self.send(c, End::Opener, format!("+FULLRESYNC {id} {offset}\r\n").as_bytes());
            }
        }
    }

    /// Sends the finished snapshot to the replicas that wait for it.
    fn end_snapshot(&mut self, s: usize) {
        for c in self.replicas(s) {
            if self.connections[c].replica.state != State::SnapshotBegun {
                continue;
            }
            let snapshot = self.connections[c].snapshot.take().expect("it was begun");
            let blank = self.rng.index(3);
            let mut out = b"\n".repeat(blank);
            let by_mark = self.rng.one_in(2) && !self.servers[s].old;
            let mut mark = [0; MARK_LEN];
            self.rng.fill_hex(&mut mark);
            match if by_mark { Framing::Mark(mark) } else { Framing::Length(snapshot.len() as u64) } {
                Framing::Mark(mark) => {
                    out.extend_from_slice(&[&b"$EOF:"[..], &mark, b"\r\n", &snapshot, &mark].concat());
                }
                Framing::Length(len) => {
                    out.extend_from_slice(format!("${len}\r\n").as_bytes());
                    out.extend_from_slice(&snapshot);
                }
            }
            self.send(c, End::Opener, &out);
            let replica = &mut self.connections[c].replica;
            (replica.state, replica.online_when_heard) = (State::Online, by_mark);
        }
    }

    /// Sends replicas some of the stream, and trims the backlog.
    fn feed(&mut self, s: usize, most: u64) {
        let mut needed = None;
        for c in self.replicas(s) {
            if self.connections[c].replica.is_fed() && !self.connections[c].broken {
                let piece = self.servers[s].backlog.read(self.connections[c].replica.next);
                let n = piece.len().min(1 + self.rng.below(most) as usize);
                let piece = piece[..n].to_vec();
                self.send(c, End::Opener, &piece);
                self.connections[c].replica.next += n as u64;
            }
            let replica = &self.connections[c].replica;
            if replica.needs_stream() {
                needed = Some(needed.map_or(replica.next, |least: u64| least.min(replica.next)));
            }
        }
        let limit = if self.stormy { 10_000 } else { 10 << 20 };
        self.servers[s].backlog.trim(limit, needed);
    }

    /// Executes a unit of writes on a primary.
    fn write(&mut self, s: usize) {
        if self.servers[s].following.is_some() {
            return;
        }
        let whole = self.rng.one_in(3);
        let n = if whole { 1 + self.rng.below(4) } else { 1 };
        let mut requests: Vec<Vec<Vec<u8>>> = Vec::new();
        let server = &mut self.servers[s];
        let before = digest(&server.data);
        let mut selected = server.backlog.selected;
        if whole && self.rng.one_in(2) {
            requests.push(vec![b"MULTI".to_vec()]);
        }
        for _ in 0..n {
            let db = self.rng.below(3) as u32;
            if selected != Some(db) {
                requests.push(vec![b"SELECT".to_vec(), db.to_string().into_bytes()]);
                selected = Some(db);
            }
            if whole && requests.iter().all(|request| request[0] != b"MULTI") {
                requests.push(vec![b"MULTI".to_vec()]);
            }
            self.written += 1;
            let padding = if self.rng.one_in(6) { self.rng.below(9000) } else { self.rng.below(20) };
            let padding = vec![b'\n'; padding as usize];
            requests.push(vec![b"WRITE".to_vec(), self.written.to_string().into_bytes(), padding]);
            server.data.push((db, self.written));
        }
        if whole {
            requests.push(vec![b"EXEC".to_vec()]);
        }
        if server.backlog.is_active() {
            let start = server.backlog.end();
            let alone = server.backlog.append_with(100, |out, into| {
                let (from, mut first) = (out.len(), 0);
                for request in &requests {
                    write_request(out, request.iter().map(Vec::as_slice));
                    first = if first == 0 { out.len() - from } else { first };
                }
                *into = selected;
                if requests[0][0] == b"SELECT" { first } else { 0 }
            });
            // SELECT is a unit of its own, unless it is part of a transaction.
            self.truth.entry((server.history.id.to_string(), start + alone as u64)).or_insert(before);
            self.note(s);
        }
    }

    fn ping(&mut self, s: usize) {
        if self.servers[s].following.is_none() && self.servers[s].backlog.is_active() {
            let ask = self.rng.one_in(2);
            self.servers[s].backlog.append_with(40, |out, _| {
                let words: &[&[u8]] = if ask { &[b"REPLCONF", b"GETACK", b"*"] } else { &[b"PING"] };
                write_request(out, words.iter().copied());
            });
            self.note(s);
        }
    }

    // ---- schedules ------------------------------------------------------------------------

    fn step(&mut self) {
        let s = self.rng.index(self.servers.len());
        match self.rng.below(100) {
            0..55 => {
                let open: Vec<usize> = (0..self.connections.len())
                    .filter(|&c| self.connections[c].left_by != [true, true])
                    .collect();
                if !open.is_empty() {
                    let c = open[self.rng.index(open.len())];
                    let end = if self.rng.one_in(2) { End::Opener } else { End::Acceptor };
                    let most = [3, 60, 1000, 100_000][self.rng.index(4)];
                    let most = 1 + self.rng.index(most);
                    self.deliver(c, end, most);
                }
            }
            55..67 => self.write(s),
            67..75 => self.feed(s, 5000),
            75..82 => self.connect(s),
            82..86 => self.begin_snapshot(s),
            86..90 => self.end_snapshot(s),
            90..92 => self.ping(s),
            92 => self.save(s),
            93 => {
                // A clean shutdown, or a crash that loses the changes after the last save.
                if self.rng.one_in(2) {
                    self.save(s);
                }
                if self.rng.one_in(3) {
                    self.restart(s);
                }
            }
            94 if self.rng.one_in(2) => self.promote(s),
            95 | 96 if self.rng.one_in(3) => {
                let primary = self.rng.index(self.servers.len());
                if primary != s {
                    self.follow(s, primary);
                }
            }
            97 if self.rng.one_in(4)
                && self.replicas(s).is_empty()
                && self.servers[s].following.is_none()
                && self.servers[s].backlog.is_active() =>
            {
                self.new_history(s);
                self.servers[s].backlog.deactivate();
            }
            98 => {
                let open: Vec<usize> =
                    (0..self.connections.len()).filter(|&c| !self.connections[c].broken).collect();
                if self.rng.one_in(3) && !open.is_empty() {
                    let c = open[self.rng.index(open.len())];
                    self.connections[c].broken = true;
                }
            }
            _ => {}
        }
    }

    /// Delivers everything in transit, until nothing happens any more.
    fn settle(&mut self, seed: u64) {
        self.stormy = false;
        for connection in &mut self.connections {
            connection.left = [u64::MAX; 2];
        }
        let mut quiet = 0;
        for round in 0.. {
            assert!(round < 10_000, "seed {seed}: no quiet");
            let mut busy = false;
            for c in 0..self.connections.len() {
                for end in [End::Opener, End::Acceptor] {
                    if self.connections[c].left_by != [true, true] {
                        busy |= self.deliver(c, end, 1 << 20);
                    }
                }
            }
            for s in 0..self.servers.len() {
                let down = |following: &Following| matches!(following.link, Link::Down);
                if self.servers[s].following.as_ref().is_some_and(down) {
                    self.connect(s);
                    busy = true;
                }
                self.begin_snapshot(s);
                self.end_snapshot(s);
                self.feed(s, 1 << 20);
            }
            quiet = if busy { 0 } else { quiet + 1 };
            if quiet == 3 {
                return;
            }
        }
    }

    fn assert_equal(&self, root: usize, seed: u64) {
        for (s, server) in self.servers.iter().enumerate() {
            let expected = &self.servers[root];
            assert_eq!(server.data, expected.data, "seed {seed}: servers {s} and {root}");
            if s != root && self.servers.iter().all(|server| !server.old) {
                assert_eq!(server.history.id, expected.history.id, "seed {seed}: {s}");
                assert_eq!(server.backlog.end(), expected.backlog.end(), "seed {seed}: {s}");
            }
        }
    }

    /// Ends the disturbances: one server becomes the primary of all others, some of which follow it through others.
    fn calm(&mut self, seed: u64) {
        let n = self.servers.len();
        let root = self.rng.index(n);
        self.promote(root);
        let mut placed = vec![root];
        for i in 1..n {
            let s = (root + i) % n;
            let primary = placed[self.rng.index(placed.len())];
            if self.servers[s].following.as_ref().is_none_or(|following| following.primary != primary) {
                self.follow(s, primary);
            }
            placed.push(s);
            self.seen.depth = self.seen.depth.max(placed.len() as u64);
        }
        self.settle(seed);
        self.assert_equal(root, seed);
        let full = self.seen.full_by_length + self.seen.full_by_mark + self.seen.full_plain;
        for _ in 0..10 {
            self.write(root);
            self.ping(root);
        }
        // From now on, a server that loses its connection continues from its offset.
        let broken = self.rng.index(self.connections.len().max(1));
        if let Some(connection) = self.connections.get_mut(broken) {
            connection.broken = true;
        }
        self.settle(seed);
        self.assert_equal(root, seed);
        let fuller = self.seen.full_by_length + self.seen.full_by_mark + self.seen.full_plain;
        let old = self.servers.iter().any(|server| server.old);
        assert!(old || fuller == full, "seed {seed}: a snapshot was sent without need");
    }
}

fn schedule(seed: u64, seen: Seen) -> Seen {
    let mut world = World::new(seed, 2 + (seed % 4) as usize);
    world.seen = seen;
    if seed.is_multiple_of(9) {
        let n = world.servers.len();
        let old = world.rng.index(n);
        world.servers[old].old = true;
    }
    for s in 1..world.servers.len() {
        let primary = world.rng.index(s);
        world.follow(s, primary);
    }
    for _ in 0..200 + world.rng.below(1500) {
        world.step();
    }
    world.calm(seed);
    world.seen
}

/// `SPINEL_SCHEDULES` sets the number of schedules (default 3000), `SPINEL_SCHEDULES_SEED` the first seed.
#[test]
fn nothing_is_missing_or_doubled_whatever_the_network_does() {
    let variable = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let first = variable("SPINEL_SCHEDULES_SEED").unwrap_or(1);
    let count = variable("SPINEL_SCHEDULES").unwrap_or(3000);
    let mut seen = Seen::default();
    for seed in first..first + count {
        // If the test panics, the harness prints this line, which identifies the schedule.
        println!("seed {seed}");
        seen = schedule(seed, seen);
    }
    println!("{seen:?}");
    if count >= 1000 {
        let refused = |why| seen.refused.get(why).copied().unwrap_or(0);
        for n in [
            seen.full_by_length,
            seen.full_by_mark,
            seen.full_plain,
            seen.partial,
            seen.partial_after_promotion,
            seen.partial_after_restart,
            seen.cut_in_handshake,
            seen.cut_in_transfer,
            seen.cut_in_stream,
            seen.cut_in_transaction,
            seen.promotions,
            refused("asked"),
            refused("unknown"),
            refused("ended"),
            refused("not kept"),
        ] {
            assert!(n >= 20, "schedules are varied: {seen:?}");
        }
    }
}

/// The first connection of a replica is cut at each byte, in each direction.
#[test]
fn a_connection_may_be_cut_at_each_byte() {
    for partial in [false, true] {
        for to in [End::Opener, End::Acceptor] {
            let mut at = 0;
            loop {
                let mut world = World::new(at, 2);
                for _ in 0..5 {
                    world.write(0);
                }
                world.follow(1, 0);
                if partial {
                    world.settle(at);
                    world.leave_primary(1);
                    world.settle(at);
                    world.leave_primary(1);
                    for _ in 0..3 {
                        world.write(0);
                    }
                }
                let mut left = [u64::MAX; 2];
                left[to as usize] = at;
                world.planned = vec![left];
                world.connect(1);
                let c = world.connections.len() - 1;
                for _ in 0..100 {
                    for end in [End::Acceptor, End::Opener] {
                        world.deliver(c, end, 1 << 20);
                    }
                    world.begin_snapshot(0);
                    world.end_snapshot(0);
                    world.feed(0, 1 << 20);
                    if world.rng.one_in(10) {
                        world.write(0);
                    }
                }
                let cut = world.connections[c].broken;
                world.settle(at);
                world.assert_equal(0, at);
                if !cut {
                    break;
                }
                at += 1;
            }
            assert!(at > 100, "{partial} {to:?}: {at} bytes");
        }
    }
}
