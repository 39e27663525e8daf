//! Several clients of each server that block on keys, subscribe, watch, queue and cache. What each client receives
//! after each step must be equal.
//!
//! After a step, another client sends two PINGs and waits for both replies. By then the server has been through a
//! whole iteration of its loop, so that all output caused by the step is in the sockets; a client that received
//! nothing is blocked or silent on both servers. In requests that name a client's ID, the ID of each server's
//! client is inserted.
//!
//! Payloads of DUMP are exchanged: both servers restore what either has dumped.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use spinel::resp::request::write_request;
use spinel::stdx::quote;
use spinel::stdx::rng::Rng;

use crate::commands_and_seed;
use crate::known::{self, Case};
use crate::pair::{both, differing_keys, digests, shown, words};
use crate::reply::{elements, length};
use crate::support::{Client, Oracle, ServerProcess};

/// Clients per server.
pub const CLIENTS: usize = 4;

/// Requests that a client may send unless it is blocked or subscribed. `l` and so on stand for a key of that kind,
/// `k` for any key, `v` for a value, `n` for a number, `x` for a score.
const COMMANDS: &[&str] = &[
    "LPUSH l v",
    "RPUSH l v v",
    "RPUSH l v v v v v v v v",
    "LPOP l",
    "RPOP l n",
    "LMOVE l l LEFT RIGHT",
    "RPOPLPUSH l l",
    "LINSERT l BEFORE v v",
    "LSET l n v",
    "LTRIM l n n",
    "LREM l n v",
    "LRANGE l n n",
    "LMPOP 2 l l LEFT COUNT n",
    "SORT l ALPHA STORE l",
    "SADD e v v",
    "SREM e v",
    "SMOVE e e v",
    "SPOP e 100",
    "SINTERSTORE e e e",
    "SUNIONSTORE e e e",
    "SDIFFSTORE e e e",
    "ZADD z x v",
    "ZADD z x v x v x v",
    "ZADD z GT CH x v",
    "ZINCRBY z x v",
    "ZREM z v v",
    "ZPOPMIN z",
    "ZPOPMAX z n",
    "ZMPOP 2 z z MAX COUNT n",
    "ZRANGE z n n WITHSCORES",
    "ZUNIONSTORE z 2 z e",
    "ZRANGESTORE z z n n",
    "ZREMRANGEBYRANK z n n",
    "HSET h v v v v",
    "HSETNX h v v",
    "HDEL h v v",
    "HINCRBY h v n",
    "HINCRBYFLOAT h v x",
    "HMGET h v v",
    "SET s v",
    "SET s v EX 1000000",
    "SET s v PXAT 33177117420000",
    "SET s v XX KEEPTTL",
    "SETNX s v",
    "GET s",
    "GETSET s v",
    "GETDEL s",
    "GETEX s PERSIST",
    "MGET s s s",
    "MSET s v s v",
    "MSETNX s v s v",
    "INCR s",
    "DECRBY s n",
    "INCRBYFLOAT s x",
    "APPEND s v",
    "SETRANGE s 3 v",
    "STRLEN s",
    "SETBIT s 7 1",
    "BITOP OR s s s",
    "BITFIELD s INCRBY u8 0 1",
    "PFADD p v v",
    "PFMERGE p p",
    "GEOADD g 13.361389 38.115556 v",
    "GEOSEARCHSTORE d g FROMLONLAT 15 37 BYRADIUS 200 km",
    "DEL k",
    "DEL k k k",
    "UNLINK k",
    "EXISTS k k",
    "TYPE k",
    "TOUCH k",
    "EXPIRE k 1000000",
    "EXPIRE k 0",
    "PEXPIREAT k 33177117420000 NX",
    "PERSIST k",
    "RENAME k k",
    "RENAMENX k k",
    "COPY k k",
    "COPY k k REPLACE",
    "MOVE k 1",
    "SWAPDB 0 1",
    "SELECT 1",
    "SELECT 0",
    "SELECT 0",
    "SELECT 0",
    "FLUSHDB",
    "DBSIZE",
    "OBJECT ENCODING k",
    "OBJECT FREQ k",
    "NOSUCH v",
    "GET",
    "LPUSH l",
    "ECHO v",
    "PUBLISH c v",
    "PUBLISH c v",
    "SPUBLISH c v",
    "PUBSUB CHANNELS",
    "PUBSUB NUMSUB c c",
    "PUBSUB NUMPAT",
    "PUBSUB SHARDCHANNELS",
    "PUBSUB SHARDNUMSUB c",
];

/// Requests about the client itself.
const STATES: &[&str] = &[
    "MULTI",
    "MULTI",
    "MULTI",
    "MULTI",
    "EXEC",
    "EXEC",
    "EXEC",
    "EXEC",
    "EXEC",
    "EXEC",
    "DISCARD",
    "WATCH k",
    "WATCH k k",
    "WATCH k",
    "UNWATCH",
    "RESET",
    "HELLO 2",
    "HELLO 3",
    "HELLO 3",
    "HELLO 4",
    "CLIENT TRACKING ON",
    "CLIENT TRACKING ON",
    "CLIENT TRACKING ON NOLOOP",
    "CLIENT TRACKING ON OPTIN",
    "CLIENT TRACKING ON OPTOUT",
    "CLIENT TRACKING ON BCAST",
    "CLIENT TRACKING ON BCAST PREFIX l PREFIX s",
    "CLIENT TRACKING ON PREFIX l",
    "CLIENT TRACKING ON REDIRECT #",
    "CLIENT TRACKING ON BCAST REDIRECT #",
    "CLIENT TRACKING OFF",
    "CLIENT TRACKING OFF",
    "CLIENT CACHING YES",
    "CLIENT CACHING YES",
    "CLIENT CACHING NO",
    "CLIENT TRACKINGINFO",
    "CLIENT GETREDIR",
    "CLIENT REPLY SKIP",
    "CLIENT REPLY OFF",
    "CLIENT REPLY ON",
    "CLIENT NO-EVICT ON",
    "CLIENT GETNAME",
    "CLIENT SETNAME v",
    "SUBSCRIBE c",
    "SUBSCRIBE c c",
    "SUBSCRIBE __redis__:invalidate",
    "PSUBSCRIBE c*",
    "PSUBSCRIBE *",
    "PSUBSCRIBE __key*__:*",
    "SSUBSCRIBE c",
    "UNSUBSCRIBE c",
    "UNSUBSCRIBE",
    "PUNSUBSCRIBE *",
    "PUNSUBSCRIBE",
    "SUNSUBSCRIBE c",
    "SUNSUBSCRIBE",
    "PING",
    "PING v",
    "CONFIG SET notify-keyspace-events KEA",
    "CONFIG SET notify-keyspace-events Eglszhtxnmd$",
    "CONFIG SET notify-keyspace-events Knm",
    "CONFIG SET notify-keyspace-events ",
    "CONFIG GET notify-keyspace-events",
    "CLIENT UNBLOCK # TIMEOUT",
    "CLIENT UNBLOCK # ERROR",
    "CLIENT UNBLOCK #",
    "CLIENT KILL ID #",
];

/// Requests that may block, with the position of the timeout: last or first.
const WAITING: &[&str] = &[
    "BLPOP l l T",
    "BRPOP l l l T",
    "BLMOVE l l LEFT RIGHT T",
    "BLMOVE l l RIGHT LEFT T",
    "BRPOPLPUSH l l T",
    "BLMPOP T 2 l l LEFT COUNT n",
    "BZPOPMIN z z T",
    "BZPOPMAX z T",
    "BZMPOP T 2 z z MIN COUNT n",
    "BLPOP k T",
];

/// Requests that are not sent within a transaction, depending on the server.
const NOT_QUEUED: &[(&str, &[Oracle])] = &[
    // Valkey refuses them when they are queued, and with them the transaction; Redis when they run, or not at all.
    ("MULTI", &[Oracle::Valkey9_1]),
    ("WATCH", &[Oracle::Valkey9_1]),
    ("RESET", &[Oracle::Valkey9_1]),
    ("CLIENT REPLY", &[Oracle::Redis7_0, Oracle::Redis8_2, Oracle::Valkey9_1]),
    // For changes made by the transaction itself, the others notify the client as it is tracked at the end.
    ("CLIENT TRACKING OFF", &[Oracle::Redis7_0, Oracle::Redis8_2, Oracle::Valkey9_1]),
    // The others no longer count a client that was killed in the same transaction.
    ("CLIENT KILL", &[Oracle::Redis7_0, Oracle::Redis8_2, Oracle::Valkey9_1]),
    // For changes made by the transaction itself, the others notify the redirection target at its end; Spinel
    // notifies the target at the time of the change.
    ("CLIENT TRACKING ON", &[Oracle::Redis7_0, Oracle::Redis8_2, Oracle::Valkey9_1]),
    // They contain the ID of another client, which differs between servers.
    ("CLIENT GETREDIR", &[Oracle::Redis7_0, Oracle::Redis8_2, Oracle::Valkey9_1]),
    ("CLIENT TRACKINGINFO", &[Oracle::Redis7_0, Oracle::Redis8_2, Oracle::Valkey9_1]),
    // It contains the server's name and version.
    ("HELLO", &[Oracle::Redis7_0, Oracle::Redis8_2, Oracle::Valkey9_1]),
    // The channels left by these have no order, nor do their replies within that of EXEC.
    ("UNSUBSCRIBE", &[Oracle::Redis7_0, Oracle::Redis8_2, Oracle::Valkey9_1]),
    ("PUNSUBSCRIBE", &[Oracle::Redis7_0, Oracle::Redis8_2, Oracle::Valkey9_1]),
    ("SUNSUBSCRIBE", &[Oracle::Redis7_0, Oracle::Redis8_2, Oracle::Valkey9_1]),
];

/// A client of one server that reads all output that has arrived.
struct Wire {
    stream: TcpStream,
    bytes: Vec<u8>,
    id: String,
    open: bool,
}

impl Wire {
    fn connect(port: u16) -> Wire {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server takes connections");
        stream.set_nodelay(true).expect("a socket of ours");
        stream.set_nonblocking(true).expect("a socket of ours");
        let mut wire = Wire { stream, bytes: Vec::new(), id: String::new(), open: true };
        wire.send(&words(&["CLIENT", "ID"]));
        let deadline = Instant::now() + Duration::from_secs(20);
        let id = loop {
            if let Some(reply) = wire.received().pop() {
                break reply;
            }
            assert!(Instant::now() < deadline, "CLIENT ID is answered");
            std::thread::sleep(Duration::from_micros(50));
        };
        wire.id = String::from_utf8_lossy(&id[1..id.len() - 2]).into_owned();
        wire
    }

    fn send(&mut self, args: &[Vec<u8>]) {
        let mut request = Vec::new();
        write_request(&mut request, args.iter().map(Vec::as_slice));
        if self.open && self.stream.write_all(&request).is_err() {
            self.open = false;
        }
    }

    /// The values that have arrived completely.
    fn received(&mut self) -> Vec<Vec<u8>> {
        let mut chunk = [0; 1 << 16];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => self.open = false,
                Ok(n) => {
                    self.bytes.extend_from_slice(&chunk[..n]);
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.open = false,
            }
            break;
        }
        let mut values = Vec::new();
        while let Some(len) = length(&self.bytes) {
            values.push(self.bytes.drain(..len).collect());
        }
        values
    }
}

/// One server with its clients.
struct Side {
    server: ServerProcess,
    observer: Client,
    clients: Vec<Wire>,
}

impl Side {
    fn new(server: ServerProcess) -> Side {
        let observer = server.client();
        let clients = (0..CLIENTS).map(|_| Wire::connect(server.port)).collect();
        Side { server, observer, clients }
    }

    /// Waits for a whole iteration of the server's loop after all requests.
    fn settle(&mut self) {
        for _ in 0..2 {
            let reply = self.observer.command(&[b"PING"]).expect("the server answers");
            assert_eq!(reply, b"+PONG\r\n");
        }
    }
}

impl Side {
    /// Waits until the server has noticed who has disconnected: until then it counts as a subscriber, and is served.
    fn wait_for_leavers(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        // Besides the clients, there are two observers.
        while self.connected() > CLIENTS + 2 {
            assert!(Instant::now() < deadline, "the server notices who has disconnected");
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// How many clients the server has.
    fn connected(&mut self) -> usize {
        let list = self.observer.command(&[b"CLIENT", b"LIST"]).expect("the server answers");
        String::from_utf8_lossy(&list).lines().filter(|line| line.contains("addr=")).count()
    }
}

/// State of a client, as far as it decides which requests it may send.
#[derive(Clone, Copy, Default)]
pub struct State {
    /// Whether its last request is unanswered.
    pub waits: bool,
    /// Whether it may receive no output.
    silent: bool,
    /// Whether it is in a transaction.
    pub queues: bool,
}

struct Grammar {
    rng: Rng,
}

impl Grammar {
    fn fill(&mut self, template: &str, timeout: &str) -> Vec<Vec<u8>> {
        template.split(' ').map(|word| self.word(word, timeout)).collect()
    }

    fn word(&mut self, word: &str, timeout: &str) -> Vec<u8> {
        const VALUES: &[&str] = &["1", "2", "v1", "v2", "v3", "v4", "", "-1", "9223372036854775807", "\r\n"];
        const NUMBERS: &[&str] =
            &["0", "1", "2", "3", "-1", "-2", "9223372036854775807", "-9223372036854775808", "", "abc"];
        const SCORES: &[&str] =
            &["1", "2", "3", "0.1", "1e20", "-1.5", "inf", "-inf", "nan", "1e400", "3.0000000000000004"];
        let (n, odd) = (self.rng.below(3), self.rng.one_in(3));
        let mut one_of = |words: &[&str], plain: usize| -> Vec<u8> {
            words[self.rng.index(if odd { words.len() } else { plain })].into()
        };
        match word {
            "l" | "e" | "h" | "z" | "s" | "p" | "g" | "d" if odd && n == 2 => one_of(&["s0", "l0", "z1"], 3),
            "l" | "e" | "h" | "z" | "s" | "p" | "g" | "d" => format!("{word}{n}").into(),
            "k" => [one_of(&["l", "e", "h", "z", "s", "p", "missing"], 7), n.to_string().into()].concat(),
            "c" => format!("c{n}").into(),
            "v" => one_of(VALUES, 6),
            "n" => one_of(NUMBERS, 4),
            "x" => one_of(SCORES, 3),
            "T" => timeout.into(),
            word => word.into(),
        }
    }
}

/// Output to a client, in a form in which two correct outputs are equal.
fn normalise(oracle: Oracle, request: &[Vec<u8>], values: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let name = request[0].to_ascii_uppercase();
    let second = request.get(1).map(|word| word.to_ascii_uppercase()).unwrap_or_default();
    let mut out: Vec<Vec<u8>> = values
        .iter()
        .map(|value| {
            let whole_set = name == b"SPOP" || name == b"PUBSUB" && second.ends_with(b"CHANNELS");
            // A message about several keys lists them in any order.
            let parts = if matches!(value[0], b'>' | b'*') { elements(value) } else { Vec::new() };
            match parts[..] {
                [INVALIDATE, keys] => return [INVALIDATE, &sorted(keys)].concat(),
                [MESSAGE, b"$20\r\n__redis__:invalidate\r\n", keys] => {
                    return [MESSAGE, &sorted(keys)].concat();
                }
                // The ID is that of a client that has disconnected.
                [b"$21\r\ntracking-redir-broken\r\n", _] => return b"broken".to_vec(),
                _ => {}
            }
            if whole_set && !is_message(value) { sorted(value) } else { value.clone() }
        })
        .collect();
    if name == b"HELLO" {
        // It contains the server's name and version. What is left shows that it has arrived, and in which protocol.
        for value in &mut out {
            if value.starts_with(b"%") || value.starts_with(b"*14\r\n") {
                *value = [b"HELLO in ", &value[..1]].concat();
            }
        }
    }
    // For a key that gets an expiry in the past, Valkey 9 reports that it expired, Redis that it was deleted.
    if oracle == Oracle::Valkey9_1 && (name.ends_with(b"EXPIRE") || name == b"EXEC") {
        for value in &mut out {
            *value = String::from_utf8_lossy(value)
                .replace("$3\r\ndel\r\n", "$7\r\nexpired\r\n")
                .replace("$18\r\n__keyevent@0__:del\r\n", "$22\r\n__keyevent@0__:expired\r\n")
                .replace("$18\r\n__keyevent@1__:del\r\n", "$22\r\n__keyevent@1__:expired\r\n")
                .into_bytes();
        }
    }
    // The patterns that match a channel have no order either.
    let pattern_of = |value: &Vec<u8>| -> Option<Vec<u8>> {
        let parts = if matches!(value[0], b'>' | b'*') { elements(value) } else { Vec::new() };
        let is_message = parts.len() == 4 && parts[0] == b"$8\r\npmessage\r\n";
        is_message.then(|| parts[2..].concat())
    };
    for group in out.chunk_by_mut(|a, b| pattern_of(a).is_some() && pattern_of(a) == pattern_of(b)) {
        group.sort();
    }
    // Replies, published messages and invalidations are delivered separately; the order between them is not
    // defined.
    out.sort_by_key(|value| match &value[..] {
        invalidated if invalidated.starts_with(INVALIDATE) || invalidated.starts_with(MESSAGE) => 2,
        b"broken" => 2,
        published
            if published.get(4..).is_some_and(|rest| rest.starts_with(MESSAGE))
                || pattern_of(value).is_some() =>
        {
            1
        }
        _ => 0,
    });
    // The prefixes of a key have no order either.
    let invalidations = out.partition_point(|value| {
        !value.starts_with(INVALIDATE) && !value.starts_with(MESSAGE) && value != b"broken"
    });
    out[invalidations..].sort();
    // The channels that a client leaves, and messages about several keys of one request, have no order.
    if (name.ends_with(b"UNSUBSCRIBE") && request.len() == 1) || name == b"RESET" {
        for value in &mut out {
            if value.starts_with(b"*3") || value.starts_with(b">3") {
                let mut parts: Vec<&[u8]> = elements(value);
                parts.truncate(2);
                *value = parts.concat();
            }
        }
        out.sort();
    }
    out
}

const INVALIDATE: &[u8] = b"$10\r\ninvalidate\r\n";
const MESSAGE: &[u8] = b"$7\r\nmessage\r\n";

fn sorted(value: &[u8]) -> Vec<u8> {
    if !matches!(value[0], b'*' | b'~') {
        return value.to_vec();
    }
    let mut items = elements(value);
    items.sort();
    let end = value.windows(2).position(|w| w == b"\r\n").expect("a whole reply") + 2;
    [&value[..end], &items.concat()].concat()
}

/// Whether a value arrives because of what anybody does, and is no reply.
fn is_message(value: &[u8]) -> bool {
    const KINDS: &[&[u8]] = &[
        INVALIDATE,
        MESSAGE,
        b"$8\r\npmessage\r\n",
        b"$8\r\nsmessage\r\n",
        b"$21\r\ntracking-redir-broken\r\n",
    ];
    matches!(value[0], b'>' | b'*') && elements(value).first().is_some_and(|kind| KINDS.contains(kind))
}

/// Output to a client of one side; of a long array, only the elements that differ from the other side.
fn listed(values: &[Vec<u8>], other: &[Vec<u8>]) -> String {
    let mut shown = Vec::new();
    for (i, value) in values.iter().enumerate() {
        match other.get(i) {
            Some(other) if value[0] == b'*' && other[0] == b'*' && value.len() > 300 => {
                let (parts, others) = (elements(value), elements(other));
                let differ = (0..parts.len()).filter(|&i| others.get(i) != Some(&parts[i]));
                shown.extend(differ.map(|i| format!("[{i}] {}", quote::repr(parts[i]))));
            }
            _ => shown.push(quote::repr(value)),
        }
    }
    shown.join(" ")
}

/// What a client has received from both sides, Spinel first.
struct Output {
    values: [Vec<Vec<u8>>; 2],
    open: [bool; 2],
    is_known: bool,
}

impl Output {
    fn agrees(&self) -> bool {
        self.values[0] == self.values[1] && self.open[0] == self.open[1]
    }
}

/// How long output that differs may take to arrive. Only a difference takes that long.
const PATIENCE: Duration = Duration::from_secs(4);

/// How long output may take to arrive that makes a known difference.
const GRACE: Duration = Duration::from_millis(100);

/// The same clients on both servers.
pub struct Sessions {
    pub oracle: Oracle,
    sides: [Side; 2],
    pub states: [State; CLIENTS],
    pub observers: (Client, Client),
    history: Vec<String>,
    /// How many of the last steps a report shows.
    shown: usize,
    pub differences: Vec<String>,
}

impl Sessions {
    /// Connects clients to both servers, Spinel first.
    pub fn new(oracle: Oracle, ours: ServerProcess, theirs: ServerProcess) -> Sessions {
        let observers = (ours.client(), theirs.client());
        Sessions {
            oracle,
            sides: [ours, theirs].map(Side::new),
            states: [State::default(); CLIENTS],
            observers,
            history: Vec::new(),
            shown: if std::env::var_os("SPINEL_DIFF_HISTORY").is_some() { 1_000 } else { 12 },
            differences: Vec::new(),
        }
    }

    /// Clients that do not wait.
    pub fn free(&self) -> Vec<usize> {
        (0..CLIENTS).filter(|&who| !self.states[who].waits).collect()
    }

    /// Fails with the differences that were found, if any.
    pub fn finish(self, seed: u64) {
        let found = self.differences;
        assert!(found.is_empty(), "{} differences, seed {seed}:\n{}", found.len(), found.join("\n\n"));
    }

    /// Replaces the connections of a client.
    pub fn connect_anew(&mut self, who: usize) {
        for side in &mut self.sides {
            side.clients[who] = Wire::connect(side.server.port);
            side.wait_for_leavers();
        }
        self.states[who] = State::default();
    }

    /// Sends a request on one client of each side and compares the output of all clients. If the request is `sure`
    /// to be answered, waits for the reply. Output that differs may be under way: it has time to arrive.
    pub fn step(&mut self, who: usize, args: &[Vec<u8>], sure: bool) {
        self.history.push(format!("{who}: {}", shown(args)));
        let target = (who + 1) % CLIENTS;
        for side in &mut self.sides {
            let id = side.clients[target].id.clone();
            let args: Vec<Vec<u8>> =
                args.iter().map(|arg| if arg == b"#" { id.clone().into() } else { arg.clone() }).collect();
            side.clients[who].send(&args);
        }
        self.compare(who, args, sure);
    }

    /// Receives what a request has caused, and compares it.
    fn compare(&mut self, who: usize, args: &[Vec<u8>], sure: bool) {
        let mut received: [Vec<Vec<Vec<u8>>>; 2] = [vec![Vec::new(); CLIENTS], vec![Vec::new(); CLIENTS]];
        let deadline = Instant::now() + PATIENCE;
        let outputs = loop {
            for (side, received) in self.sides.iter_mut().zip(&mut received) {
                side.settle();
                for (client, received) in side.clients.iter_mut().zip(received) {
                    received.extend(client.received());
                }
            }
            let outputs: Vec<Output> =
                (0..CLIENTS).map(|i| self.output(i, args, [&received[0][i], &received[1][i]])).collect();
            let is_answered = |i: usize| received[i][who].iter().any(|value| !is_message(value));
            let answered = !sure
                || self.sides.iter().zip(0..).all(|(side, i)| is_answered(i) || !side.clients[who].open);
            let left = deadline.saturating_duration_since(Instant::now());
            let agree = |output: &Output| output.agrees() || output.is_known && left < PATIENCE - GRACE;
            if answered && outputs.iter().all(agree) || left.is_zero() {
                break outputs;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        for (i, output) in outputs.into_iter().enumerate() {
            if output.agrees() {
                if !output.open[0] {
                    self.connect_anew(i);
                }
                continue;
            }
            let [x, y] = &output.values;
            if !output.is_known {
                // The last steps, and before them those of this client.
                let last = self.history.len().saturating_sub(self.shown);
                let is_shown = |(at, line): &(usize, &String)| {
                    *at >= last || *at + 400 > last && line.starts_with(&format!("{i}:"))
                };
                let lines: Vec<&str> =
                    self.history.iter().enumerate().filter(is_shown).map(|(_, line)| &line[..]).collect();
                self.differences.push(format!(
                    "after\n  {}\nclient {i} receives\n  spinel {}{}\n  theirs {}{}",
                    lines.join("\n  "),
                    listed(x, y),
                    if output.open[0] { "" } else { ", closed" },
                    listed(y, x),
                    if output.open[1] { "" } else { ", closed" },
                ));
            }
            // One of them may still wait.
            self.connect_anew(i);
        }
        self.note_states(who, args);
    }

    /// What client `i` of each side has received, in a form in which correct outputs are equal.
    fn output(&self, i: usize, args: &[Vec<u8>], received: [&[Vec<u8>]; 2]) -> Output {
        let anonymous = |side: &Side, values: &[Vec<u8>]| -> Vec<Vec<u8>> {
            // IDs of clients differ between servers.
            let numbered = |value: &Vec<u8>| {
                let reply = String::from_utf8_lossy(value).into_owned();
                side.clients.iter().enumerate().fold(reply, |text, (i, client)| {
                    text.replace(&format!(":{}\r\n", client.id), &format!(":#{i}\r\n"))
                })
            };
            // The redirection target may have disconnected, and with it the ID known to both sides.
            let redirects = args.len() == 2 && matches!(&args[1][..], b"GETREDIR" | b"TRACKINGINFO");
            if redirects && args[0] == b"CLIENT" {
                let hidden = |value: &Vec<u8>| {
                    let text = String::from_utf8_lossy(value).into_owned();
                    let hidden = |line: &str| match line.strip_prefix(':').and_then(|n| n.parse::<u32>().ok())
                    {
                        Some(n) if n > 0 => ":#".to_owned(),
                        _ => line.to_owned(),
                    };
                    text.split("\r\n").map(hidden).collect::<Vec<_>>().join("\r\n").into_bytes()
                };
                return values.iter().map(hidden).collect();
            }
            let is_about_ids = [&b"CLIENT"[..], b"HELLO"].contains(&&args[0].to_ascii_uppercase()[..]);
            if is_about_ids {
                values.iter().map(|value| numbered(value).into_bytes()).collect()
            } else {
                values.to_vec()
            }
        };
        let values = [0, 1].map(|n| anonymous(&self.sides[n], &normalise(self.oracle, args, received[n])));
        let (left, right) = (values[0].concat(), values[1].concat());
        let case = Case {
            args,
            ours: if left.is_empty() { b" " } else { &left },
            theirs: if right.is_empty() { b" " } else { &right },
            slack_ms: 0,
        };
        let is_known = values[0] != values[1] && known::reason(self.oracle, &case).is_some();
        Output { values, open: [0, 1].map(|n| self.sides[n].clients[i].open), is_known }
    }

    /// Notes what a request has changed in the states of the clients.
    fn note_states(&mut self, who: usize, args: &[Vec<u8>]) {
        let reply_mode = args[0] == b"CLIENT" && args[1] == b"REPLY";
        self.states[who].silent &= !(reply_mode && args[2] == b"ON");
        self.states[who].silent |= reply_mode && args[2] != b"ON";
        match &args[0][..] {
            b"MULTI" => self.states[who].queues = true,
            b"EXEC" | b"DISCARD" | b"RESET" => self.states[who].queues = false,
            _ => {}
        }
        for who in 0..CLIENTS {
            // A difference in whether clients are blocked shows in their output.
            self.states[who].waits = self.states[who].waits && self.waits(who);
        }
    }

    /// Whether a client is blocked, on either side.
    fn waits(&mut self, who: usize) -> bool {
        self.sides.iter_mut().any(|side| {
            let id = side.clients[who].id.as_bytes();
            let line = side.observer.command(&[b"CLIENT", b"LIST", b"ID", id]).expect("the server answers");
            let line = String::from_utf8_lossy(&line).into_owned();
            let flags = line.split("flags=").nth(1).and_then(|rest| rest.split(' ').next());
            flags.is_some_and(|flags| flags.contains('b'))
        })
    }

    /// Removes a key from the first two databases.
    fn remove(&mut self, key: &[u8]) {
        for db in ["1", "0"] {
            both(&mut self.observers, &words(&["SELECT", db]));
            both(&mut self.observers, &[b"DEL".to_vec(), key.to_vec()]);
        }
        self.discard_messages();
    }

    /// Reads and discards what trackers and subscribers receive because of the observers.
    fn discard_messages(&mut self) {
        self.sides.iter_mut().for_each(Side::settle);
        for side in &mut self.sides {
            side.clients.iter_mut().for_each(|client| drop(client.received()));
        }
    }

    /// Restores the payloads of a key from both servers on both, under other names, and checks that a damaged
    /// payload is refused.
    fn crosswise(&mut self, rng: &mut Rng, key: &[u8]) {
        let dump = both(&mut self.observers, &[b"DUMP".to_vec(), key.to_vec()]);
        if dump.0[0] != b'$' || dump.1[0] != b'$' || dump.0.starts_with(b"$-1") || dump.1.starts_with(b"$-1")
        {
            if dump.0 != dump.1 {
                self.differences.push(format!("DUMP {} is {}", quote::repr(key), quote::repr(&dump.0)));
            }
            return;
        }
        for (to, reply) in [("r0", &dump.0), ("r1", &dump.1)] {
            let start = reply.windows(2).position(|end| end == b"\r\n").expect("a whole reply") + 2;
            let mut payload = reply[start..reply.len() - 2].to_vec();
            let damaged = rng.one_in(5);
            if damaged {
                let at = rng.index(payload.len());
                payload[at] ^= 1 << rng.below(8);
            }
            let mut args = words(&["RESTORE", to, "0"]);
            args.push(payload);
            match rng.below(4) {
                0 => args.extend(words(&["REPLACE", "IDLETIME", "10"])),
                1 => {}
                _ => args.push(b"REPLACE".to_vec()),
            }
            let (x, y) = both(&mut self.observers, &args);
            let same = x == y || damaged && x[0] == b'-' && y[0] == b'-';
            if !same {
                self.differences.push(format!(
                    "{}, dumped by {}\n  spinel {}\n  theirs {}",
                    shown(&args),
                    if to == "r0" { "spinel" } else { "them" },
                    quote::repr(&x),
                    quote::repr(&y)
                ));
            }
            let (x, y) = both(&mut self.observers, &words(&["OBJECT", "ENCODING", to]));
            let args = words(&["OBJECT", "ENCODING", to]);
            let case = Case { args: &args, ours: &x, theirs: &y, slack_ms: 0 };
            if x != y && known::reason(self.oracle, &case).is_none() {
                self.differences.push(format!(
                    "{} restored from {}\n  spinel {}\n  theirs {}",
                    quote::repr(key),
                    quote::repr(reply),
                    quote::repr(&x),
                    quote::repr(&y)
                ));
            }
        }
        self.discard_messages();
    }
}

fn compare_with(oracle: Oracle, default: u64) {
    let Some(program) = oracle.program() else { return };
    let (steps, seed) = commands_and_seed(default);
    let options = [
        "--enable-debug-command",
        "yes",
        "--hash-max-listpack-entries",
        "4",
        "--set-max-intset-entries",
        "4",
    ];
    // Spinel's payloads must be readable by Redis 7.0.
    let start = |binary, more: &[&str]| ServerProcess::start(binary, &[&options[..], more].concat());
    let spinel = crate::support::spinel();
    let ours = start(&spinel, &[&["--rdb-save-version", "10"][..], &oracle.compat()].concat());
    let mut sessions = Sessions::new(oracle, ours, start(&program, &[]));
    let mut grammar = Grammar { rng: Rng::new(seed) };
    for i in 0..steps {
        let free = sessions.free();
        let Some(&who) = free.get(grammar.rng.index(free.len().max(1))) else {
            sessions.connect_anew(grammar.rng.index(CLIENTS));
            continue;
        };
        let state = sessions.states[who];
        if state.silent && !state.queues && grammar.rng.one_in(3) {
            sessions.step(who, &words(&["CLIENT", "REPLY", "ON"]), false);
            continue;
        }
        match grammar.rng.below(20) {
            0 | 1 if !state.silent => {
                let template = WAITING[grammar.rng.index(WAITING.len())];
                // At least one client must stay free to unblock the others. Redis 7.0 has other rules for that than
                // 7.2: it ignores keys of another type, and overwritten keys.
                let patient = oracle != Oracle::Redis7_0 && free.len() > 2 && !grammar.rng.one_in(6);
                let args = grammar.fill(template, if patient { "0" } else { "0.005" });
                sessions.states[who].waits = patient;
                sessions.step(who, &args, !patient);
            }
            0 | 1 => {
                // Redis 7.0 reports a timeout that is too long as negative.
                let kinds = if oracle == Oracle::Redis7_0 { 4 } else { 5 };
                let bad = ["-1", "nan", "", "abc", "1e300"][grammar.rng.index(kinds)];
                let template = WAITING[grammar.rng.index(WAITING.len())];
                let args = grammar.fill(template, bad);
                sessions.step(who, &args, false);
            }
            2..=7 => {
                let template = STATES[grammar.rng.index(STATES.len())];
                if state.queues
                    && NOT_QUEUED
                        .iter()
                        .any(|(name, servers)| servers.contains(&oracle) && template.starts_with(name))
                {
                    continue;
                }
                let args = grammar.fill(template, "0");
                sessions.step(who, &args, false);
            }
            8 => {
                let key = grammar.word("k", "");
                sessions.crosswise(&mut grammar.rng, &key);
            }
            9 if grammar.rng.one_in(20) => sessions.connect_anew(who),
            _ => {
                let template = COMMANDS[grammar.rng.index(COMMANDS.len())];
                if state.queues && ["PUBSUB", "SPOP", "OBJECT"].iter().any(|name| template.starts_with(name))
                {
                    // An array within the reply of EXEC has no order; encodings differ for known reasons.
                    continue;
                }
                if template.starts_with("SWAPDB") && (state.queues || free.len() < CLIENTS) {
                    // Which of the clients blocked on keys of these databases is served first depends on chance.
                    continue;
                }
                if template.starts_with("LTRIM") && oracle == Oracle::Valkey9_1 {
                    // Valkey tells nobody of one that removes nothing, and Redis everybody.
                    continue;
                }
                let args = grammar.fill(template, "0");
                let far =
                    args.iter().any(|arg| arg == b"9223372036854775807" || arg == b"-9223372036854775808");
                if far && (args[0] == b"LSET" || args[0] == b"LREM") {
                    // See [`known`]: what follows would differ, too.
                    continue;
                }
                // If a command stores over a value of another type, only Spinel serves who waits for what it stores.
                let to = match &args[0] {
                    name if name.ends_with(b"STORE") => Some(&args[1]),
                    name if name == b"SORT" => args.last(),
                    _ => None,
                };
                if let Some(to) = to.filter(|_| oracle != Oracle::Redis7_0) {
                    if state.queues {
                        continue;
                    }
                    if free.len() < CLIENTS {
                        sessions.remove(to);
                    }
                }
                // Redis 8 flushes in another thread, and replies at the end.
                let later = template == "FLUSHDB" && !state.queues && !state.silent;
                sessions.step(who, &args, later);
            }
        }
        if i % 500 == 499 && sessions.differences.is_empty() {
            let (x, y) = digests(&mut sessions.observers);
            let keys = if x == y { String::new() } else { differing_keys(&mut sessions.observers) };
            if !keys.is_empty() {
                sessions.differences.push(format!("the data differ:\n{keys}"));
            }
            both(&mut sessions.observers, &words(&["SELECT", "0"]));
        }
        if sessions.differences.len() >= 10 {
            break;
        }
    }
    sessions.finish(seed);
}

#[test]
fn sessions_are_as_in_redis_7_0() {
    compare_with(Oracle::Redis7_0, 2_500);
}

#[test]
fn sessions_are_as_in_redis_8_2() {
    compare_with(Oracle::Redis8_2, 2_500);
}

#[test]
fn sessions_are_as_in_valkey_9_1() {
    compare_with(Oracle::Valkey9_1, 2_500);
}
