//! Limits on connections: idle time, invalid input, and unread output.
//!
//! Output is checked where it grows, after each command, and only beyond one buffer of the usual size; limits that
//! depend on time are checked by the timer, which visits every client about once per second, some in each tick. A
//! client past a limit is closed at the end of the iteration, never in the middle of a command, and its unsent
//! output is freed.

use crate::clients::{Client, ClientFlags, ClientKey, ClientKind};
use crate::config::Config;
use crate::config::value::OutputBufferLimit;
use crate::net::io::{Adapted, BUFFER};
use crate::resp::{Args, Error, request};
use crate::server::Server;
use crate::stats::log::limited;
use crate::stdx::{alloc, quote};

/// Idle time after which a client's buffers are freed, in milliseconds.
const IDLE_MS: i64 = 2000;

/// Time between two warnings of requests sent through a browser, in milliseconds.
const ATTACK_WARNING_MS: i64 = 60_000;

/// Size from which memory is freed by another thread, in bytes.
const MUCH: usize = 1 << 20;

/// A value whose memory is returned to the system when it is dropped.
struct GivenBack<T>(Option<T>);

impl<T> Drop for GivenBack<T> {
    fn drop(&mut self) {
        self.0 = None;
        alloc::purge();
    }
}

/// Least number of clients visited per tick, if there are so many.
const MIN_VISITS: usize = 5;

/// Most places searched per tick for that number of clients.
const PLACES_SEARCHED: usize = 64;

/// Limit of unsent output for an unauthenticated client, in bytes.
const UNTRUSTED_OUTPUT: usize = BUFFER + 1024;

/// Our primary is never given up for being slow, and what nobody reads is not waiting.
const UNLIMITED: ClientFlags = ClientFlags::PRIMARY.with(ClientFlags::INTERNAL);

/// Limit of unsent output for a client; output beyond it is not even written.
#[inline(always)]
pub(in crate::server) fn output_ceiling(config: &Config, client: &Client) -> usize {
    if client.is_special() {
        return special_ceiling(config, client);
    }
    ceiling(config.limits.client_output_buffer.normal)
}

#[cold]
#[inline(never)]
fn special_ceiling(config: &Config, client: &Client) -> usize {
    if client.flags.has(UNLIMITED) { usize::MAX } else { ceiling(output_limit(config, client)) }
}

#[inline]
fn ceiling(limit: OutputBufferLimit) -> usize {
    match limit.hard_bytes {
        0 => usize::MAX,
        bytes => (bytes as usize).max(BUFFER),
    }
}

fn output_limit(config: &Config, client: &Client) -> OutputBufferLimit {
    let limits = &config.limits.client_output_buffer;
    match client.kind() {
        ClientKind::Normal | ClientKind::Primary => limits.normal,
        ClientKind::Replica => replica_limit(limits.replica, config.replication.backlog_size),
        ClientKind::PubSub => limits.pubsub,
    }
}

/// Limit of unsent output for a replica. It may lag by the whole backlog, because who went on from its beginning would
/// be cut off at once otherwise.
fn replica_limit(limit: OutputBufferLimit, backlog: u64) -> OutputBufferLimit {
    let hard_bytes = if limit.hard_bytes == 0 { 0 } else { limit.hard_bytes.max(backlog) };
    OutputBufferLimit { hard_bytes, ..limit }
}

impl Server {
    /// Closes a client at the end of the iteration if its unsent output exceeds a limit.
    #[cold]
    pub(in crate::server) fn check_output(&mut self, key: ClientKey) {
        let now = self.keyspace.now();
        let limit = output_limit(&self.config, &self.clients[key]);
        // The part of the stream that a replica has not been sent is output of it.
        let stream = self.unsent_stream(key) as usize;
        let client = &mut self.clients[key];
        if client.flags.has(ClientFlags::CLOSE_SOON.with(UNLIMITED)) {
            return;
        }
        let waiting = match &client.replica {
            // Its output is a snapshot, of which no more is there than the socket is to take next.
            Some(end) if !end.replica.is_fed() => stream,
            _ => client.io.output.excess().saturating_add(stream),
        };
        let beyond = |bytes: u64| bytes > 0 && waiting as u64 >= bytes;
        let too_long = if beyond(limit.soft_bytes) {
            let since = *client.over_soft_limit_since.get_or_insert(now);
            now.since(since) > i64::from(limit.soft_seconds) * 1000
        } else {
            client.over_soft_limit_since = None;
            false
        };
        let untrusted = waiting > UNTRUSTED_OUTPUT
            && !client.flags.has(ClientFlags::AUTHENTICATED)
            && !self.acl.is_open();
        if beyond(limit.hard_bytes) || client.io.output.is_full() || too_long || untrusted {
            self.stats.output_buffer_limit_disconnections += 1;
            let line = self.client_line(key);
            limited!(
                warn,
                "Client {line} scheduled to be closed ASAP for overcoming of output buffer limits."
            );
            self.advise_on_output();
            self.close_soon(key);
            self.discard_output(key);
        }
    }

    /// Frees the unsent output of a client that will not receive it.
    pub(in crate::server) fn discard_output(&mut self, key: ClientKey) {
        let output = self.clients[key].io.output.discard();
        self.free(output.allocated, output);
    }

    /// Frees memory of a client, `allocated` bytes. A large amount is freed by another thread, which also returns
    /// it to the system, because one client's peak usually exceeds the later needs of all others.
    pub(in crate::server) fn free<T: Send + 'static>(&mut self, allocated: usize, what: T) {
        if allocated >= MUCH {
            self.keyspace.reclaimer.later(GivenBack(Some(what)), 0, allocated);
        }
    }

    /// Closes a client that has sent too much input without a complete request.
    #[cold]
    pub(in crate::server) fn query_buffer_exceeded(&mut self, key: ClientKey) {
        self.stats.query_buffer_limit_disconnections += 1;
        let input = &self.clients[key].io.input;
        let start = quote::repr(&input.buf[..input.buf.len().min(64)]);
        let line = self.client_line(key);
        limited!(
            warn,
            "Closing client that reached max query buffer length: {line} (qbuf initial bytes: {start})"
        );
        self.close_soon(key);
    }

    /// Replies to malformed input with an error and closes the client.
    #[cold]
    pub(in crate::server) fn protocol_error(&mut self, key: ClientKey, error: request::ProtocolError) {
        limited!(
            debug,
            "Protocol error ({error}) from client: {}. Query buffer during protocol error: {}",
            self.client_line(key),
            excerpt(&self.clients[key].io.input.buf[self.clients[key].io.input.pos..]),
        );
        let mut text = b"ERR Protocol error: ".to_vec();
        error.write_text(&mut text);
        let error = Error::quoting(&[&text]);
        self.stats.error(error.code());
        self.reply(key).error(&error);
        self.close_after_reply(key);
    }

    /// Closes a client without a reply if its request is a line of HTTP: a web page can make a browser send
    /// requests to servers that the page itself cannot reach. Returns whether it did.
    #[cold]
    pub(in crate::server) fn came_through_a_browser(&mut self, key: ClientKey, args: &Args<'_>) -> bool {
        if !args.is(0, "POST") && !args.is(0, "Host:") {
            return false;
        }
        let now = self.keyspace.now();
        if self.event_loop.warned_of_attack.is_none_or(|warned| now.since(warned) >= ATTACK_WARNING_MS) {
            self.event_loop.warned_of_attack = Some(now);
            tracing::warn!(
                "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to \
                 Spinel. This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise \
                 your Spinel instance. Connection from {} aborted.",
                self.clients[key].io.peer.addr()
            );
        }
        self.close_soon(key);
        true
    }

    /// The line that describes one client in logs and lists.
    pub fn client_line(&self, key: ClientKey) -> String {
        let mut line = Vec::new();
        self.write_client_line(key, 0, &mut line);
        // Names are printable ASCII; only the path of a Unix socket may be anything.
        String::from_utf8_lossy(&line).into_owned()
    }

    /// Appends the line that describes one client, whose arguments have `args` bytes now.
    pub fn write_client_line(&self, key: ClientKey, args: usize, out: &mut Vec<u8>) {
        let client = &self.clients[key];
        let command = client
            .last_command
            .map_or("NULL", |id| self.commands.spec(crate::server::command::CommandId(id)).name);
        let (stream, blocks) = (self.unsent_stream(key), self.unsent_blocks(key));
        client.write_line(self.keyspace.now(), command, self.user_name(key), args, (stream, blocks), out);
    }

    /// Visits the next clients, so that each is visited once per second: closes idle clients, shrinks buffers,
    /// counts memory.
    pub(in crate::server) fn visit_clients(&mut self) {
        let places = self.clients.places();
        let ticks_per_second = self.config.advanced.hz.max(1) as usize;
        let due = places.div_ceil(ticks_per_second);
        if self.event_loop.cron_ticks.is_multiple_of(ticks_per_second as u64) {
            self.pool.trim();
            self.clients.shrink();
        }
        let mut met = 0;
        for passed in 0..places.min(due.max(PLACES_SEARCHED)) {
            if passed >= due && met >= MIN_VISITS {
                break;
            }
            self.event_loop.next_visited =
                if self.event_loop.next_visited < places { self.event_loop.next_visited } else { 0 };
            let key = ClientKey(self.event_loop.next_visited);
            self.event_loop.next_visited += 1;
            const PASSED_BY: ClientFlags = ClientFlags::CLOSE_SOON.with(ClientFlags::INTERNAL);
            let Some(client) = self.clients.get(key) else { continue };
            met += 1;
            if !client.flags.has(PASSED_BY) {
                self.visit(key);
            }
        }
    }

    pub(super) fn visit(&mut self, key: ClientKey) {
        let now = self.keyspace.now();
        let client = &mut self.clients[key];
        let idle_ms = client.idle_ms(now);
        if client.flags.has(ClientFlags::AWAY) {
            return self.visit_away(key, idle_ms);
        }
        const PATIENT: ClientFlags = ClientFlags::REPLICA
            .with(ClientFlags::PRIMARY)
            .with(ClientFlags::IMPORTS)
            .with(ClientFlags::BLOCKED)
            .with(ClientFlags::PAUSED)
            .with(ClientFlags::SUBSCRIBED)
            .with(ClientFlags::MONITOR);
        let timeout_ms = i64::from(self.config.net.timeout_s) * 1000;
        if timeout_ms > 0 && idle_ms > timeout_ms && !client.flags.has(PATIENT) {
            tracing::debug!("Closing idle client");
            self.close_soon(key);
            return;
        }
        client.io.input.shrink(idle_ms > IDLE_MS);
        let buffers = self.event_loop.reply_buffers;
        if buffers.resizing {
            match client.io.output.adapt(now, buffers.peak_reset_ms) {
                None => {}
                Some(Adapted::Shrunk) => self.stats.reply_buffer_shrinks += 1,
                Some(Adapted::Grown) => self.stats.reply_buffer_expands += 1,
            }
        }
        self.clients.count_memory(key, now);
        self.check_output(key);
    }
}

impl Server {
    /// Visits a client whose connection is away: recalls it if something may have to be done about it, so that it is
    /// visited when it arrives. Few clients are visited in every tick; those that do nothing are recalled once per second,
    /// or as often as the peaks of their reply buffers are forgotten.
    fn visit_away(&mut self, key: ClientKey, idle_ms: i64) {
        let timeout_ms = i64::from(self.config.net.timeout_s) * 1000;
        let overdue = timeout_ms > 0 && idle_ms > timeout_ms;
        let (now, busy) = (self.keyspace.now(), idle_ms <= 2 * self.tick().as_millis() as i64);
        let pause = self.event_loop.reply_buffers.peak_reset_ms.map_or(1000, |ms| ms.clamp(0, 1000));
        let client = &mut self.clients[key];
        let waits = client.flags.has(ClientFlags::AWAITS_WRITABLE);
        let due = !(0..pause).contains(&now.since(client.recalled_at));
        // Once its buffers are freed, it has none until it sends something, and then it arrives by itself.
        if busy || due && (overdue || waits || idle_ms <= 2 * IDLE_MS) {
            client.recalled_at = now;
            self.recall(key);
        }
    }
}

/// The beginning of malformed input, and the end if it is long, with dots for unprintable bytes.
fn excerpt(bytes: &[u8]) -> String {
    const SHOWN: usize = 128;
    let text = |bytes: &[u8]| {
        let printable = |&byte: &u8| if (b' '..=b'~').contains(&byte) { char::from(byte) } else { '.' };
        bytes.iter().map(printable).collect::<String>()
    };
    if bytes.len() <= SHOWN {
        return format!("'{}'", text(bytes));
    }
    let (start, end) = (&bytes[..SHOWN / 2], &bytes[bytes.len() - SHOWN / 2..]);
    format!("'{}' (... more {} bytes ...) '{}'", text(start), bytes.len() - SHOWN, text(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use crate::background::Background;
    use crate::config::Config;
    use crate::net::stream::Stream;
    use crate::stdx::clock::UnixMillis;

    const KEY: ClientKey = ClientKey(0);

    /// A server with one client.
    fn server(config: Config) -> Server {
        let background = Background::start(None).expect("threads can be started");
        let mut server = Server::new(config, &[], Arc::new(background));
        let (ours, _) = UnixStream::pair().expect("descriptors are left");
        let now = server.keyspace.now();
        let key = server.clients.insert_with(|id, _| Client::new(id, Stream::from_unix(ours), now, true));
        assert_eq!(key, KEY);
        server
    }

    fn write(server: &mut Server, bytes: usize) {
        server.clients[KEY].io.output.append(&vec![b'x'; bytes], &mut server.pool);
    }

    /// A server whose client has `bytes` unsent for `seconds`.
    fn waiting(config: &Config, bytes: usize, seconds: i64) -> Server {
        let mut server = server(config.clone());
        write(&mut server, bytes);
        server.written(KEY);
        server.keyspace.set_now(UnixMillis(server.keyspace.now().0 + seconds * 1000));
        server.visit(KEY);
        server
    }

    fn closes(config: &Config, bytes: usize, seconds: i64) -> bool {
        let server = waiting(config, bytes, seconds);
        let client = &server.clients[KEY];
        let closes = client.is_closing();
        assert_eq!(client.io.output.is_empty(), closes);
        assert_eq!(server.stats.output_buffer_limit_disconnections, u64::from(closes));
        closes
    }

    #[test]
    fn output_is_limited() {
        let mut config = Config::default();
        assert!(!closes(&config, 100 << 20, 1_000_000));
        config.limits.client_output_buffer.normal =
            OutputBufferLimit { hard_bytes: 100_000, soft_bytes: 50_000, soft_seconds: 3 };
        assert!(closes(&config, 100_000, 0));
        assert!(!closes(&config, 99_999, 3));
        assert!(closes(&config, 50_000, 4));
        assert!(!closes(&config, 49_999, 4));
    }

    #[test]
    fn a_replica_may_lag_by_the_backlog_and_by_no_more_than_its_limit() {
        use crate::replication::replica::State;
        let mut config = Config::default();
        let limit = OutputBufferLimit { hard_bytes: 1000, soft_bytes: 0, soft_seconds: 0 };
        config.limits.client_output_buffer.replica = limit;
        for (backlog, lag, closes) in [(16_384, 16_383, false), (16_384, 16_384, true), (10, 1000, true)] {
            config.replication.backlog_size = backlog;
            let mut server = server(config.clone());
            server.clients[KEY].flags.set(ClientFlags::REPLICA, true);
            server.replication.backlog.activate();
            server.replica_mut(KEY).state = State::SnapshotBegun;
            server.replication.backlog.append(&vec![b'x'; lag]);
            assert_eq!(server.unsent_stream(KEY), lag as u64);
            // What it is sent of a snapshot does not count.
            write(&mut server, 100_000);
            server.check_output(KEY);
            assert_eq!(server.clients[KEY].is_closing(), closes, "{lag} of {backlog}");
        }
    }

    #[test]
    fn a_snapshot_file_concerns_only_replicas_that_wait_for_one() {
        use crate::replication::replica::State;
        use crate::server::durability::child::Outcome;
        for (state, concerned) in
            [(State::SnapshotBegun, true), (State::SnapshotFlows, false), (State::Online, false)]
        {
            let mut server = server(Config::default());
            server.clients[KEY].flags.set(ClientFlags::REPLICA, true);
            server.replica_mut(KEY).state = state;
            server.replication.replicas.push(KEY);
            server.primary_cron();
            assert_eq!(!server.clients[KEY].io.output.is_empty(), concerned, "an empty line for {state:?}");
            let before = server.clients[KEY].io.output.pending();
            server.snapshot_file_ready(Outcome::Failure);
            assert_eq!(server.clients[KEY].flags.has(ClientFlags::CLOSE_SOON), concerned, "{state:?}");
            assert_eq!(server.clients[KEY].io.output.pending(), before);
        }
    }

    #[test]
    fn strangers_get_little() {
        let mut config = Config::default();
        config.security.requirepass = b"pw".to_vec();
        let mut server = server(config);
        server.clients[KEY].flags.set(ClientFlags::AUTHENTICATED, false);
        write(&mut server, UNTRUSTED_OUTPUT);
        server.written(KEY);
        assert!(!server.clients[KEY].is_closing());
        write(&mut server, 1);
        server.written(KEY);
        assert!(server.clients[KEY].is_closing());
    }

    #[test]
    fn idle_clients_leave() {
        let mut config = Config::default();
        config.net.timeout_s = 5;
        assert!(!waiting(&config, 1, 5).clients[KEY].is_closing());
        assert!(waiting(&config, 1, 6).clients[KEY].is_closing());
        let mut server = server(config);
        server.clients[KEY].flags.set(ClientFlags::BLOCKED, true);
        server.keyspace.set_now(UnixMillis(i64::MAX / 2));
        server.visit(KEY);
        assert!(!server.clients[KEY].is_closing());
    }

    #[test]
    fn all_clients_are_visited_within_a_second() {
        let mut server = server(Config::default());
        server.config.advanced.hz = 10;
        for _ in 0..10 {
            server.visit_clients();
        }
        assert!(server.clients.memory.total() > 0);
    }

    #[test]
    fn few_clients_are_visited_in_every_tick() {
        let mut config = Config::default();
        config.net.timeout_s = 5;
        let mut server = server(config);
        server.visit_clients();
        server.keyspace.set_now(UnixMillis(server.keyspace.now().0 + 6000));
        server.visit_clients();
        assert!(server.clients[KEY].is_closing());
    }

    #[test]
    fn excerpts() {
        assert_eq!(excerpt(b"foo\r\n\x01'"), "'foo...''");
        let long: Vec<u8> = (0..200).map(|i| if i < 100 { b'a' } else { b'b' }).collect();
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        assert_eq!(excerpt(&long), format!("'{a}' (... more 72 bytes ...) '{b}'"));
    }
}
