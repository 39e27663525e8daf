//! The event loop, in one thread: wait, receive, execute, send.
//!
//! An iteration receives and executes all requests that are ready before it sends any reply, so that each client
//! costs one `recv` and one `send` per iteration, and all output to a client is sent together. Sockets are
//! registered once; the poll is not changed afterwards.

pub mod arrivals;
pub mod cron;
pub mod limits;
pub mod sending;
pub mod threads;

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::acl::UserId;
use crate::clients::{Client, ClientFlags, ClientKey};
use crate::keyspace::Suspend;
use crate::net::io::{READ_BUDGET, Received};
use crate::net::listener::{Listener, Queue};
use crate::net::peer::Peer;
use crate::net::poll::{Poll, Registry, Source};
use crate::net::signals::{Request, Signals};
use crate::net::stream::Stream;
use crate::resp::request;
use crate::server::Server;
use crate::server::durability::aof;
use crate::server::execution::admission::Conditions;
use crate::server::execution::call::Batch;
use crate::server::process::watchdog;
use crate::stats::log::limited;
use crate::stdx::bits::bit_set;
use crate::stdx::clock::{self, UnixMillis};
use crate::stdx::stopwatch::Stopwatch;

/// Why there is a poll during a turn.
const WATCHED: &str = "set when sockets are first watched";

/// Number of connections up to which each keeps its input buffer while it is busy.
const KEEPERS: usize = 64;

bit_set! {
    /// Work that took too long for one iteration of the loop, and continues in the next ones.
    pub(in crate::server) struct Unfinished: u8 {
        /// Eviction.
        EVICTION = 0;
        /// Walks through all keys for clients.
        WALKS = 1;
    }
}

/// State that the loop keeps between iterations.
#[derive(Default)]
pub struct EventLoop {
    pub(in crate::server) listeners: Vec<Listener>,
    /// Waits for sockets; `None` before they are watched.
    pub(in crate::server) poll: Option<Poll>,
    /// Clients with output to send at the end of the iteration.
    pub(in crate::server) sending: Vec<ClientKey>,
    /// Clients to close at the end of the iteration.
    pub(in crate::server) closing: Vec<ClientKey>,
    /// What there was no time for in the last iteration.
    pub(in crate::server) left: sending::Left,
    /// Clients that are ready in this iteration and not served yet.
    ready: VecDeque<ClientKey>,
    /// Clients that may have more input, although no event will report it.
    pub(in crate::server) reading: Vec<ClientKey>,
    /// Clock for command latency.
    pub(in crate::server) stopwatch: Stopwatch,
    /// End of the last iteration, on the monotonic clock.
    pub(in crate::server) ended_ns: u64,
    /// Next run of the timer, on the monotonic clock.
    pub(in crate::server) next_cron_ns: u64,
    pub(in crate::server) cron_ticks: u64,
    /// Whether the timer is stopped (`DEBUG PAUSE-CRON`).
    pub cron_paused: bool,
    /// Client at which the timer's visits continue.
    pub(in crate::server) next_visited: usize,
    /// Shutdown request from a signal.
    pub(in crate::server) request: Option<Request>,
    /// What continues at the end of the iteration.
    pub(in crate::server) unfinished: Unfinished,
    /// Time of the last warning of requests sent through a browser.
    pub(in crate::server) warned_of_attack: Option<UnixMillis>,
    /// How the size of reply buffers follows the output of clients.
    pub reply_buffers: ReplyBuffers,
    pub(in crate::server) stop: bool,
    /// The connection to the primary has more to read, although no event will report it.
    pub(in crate::server) link_again: bool,
    /// The I/O threads, if there are any.
    threads: Option<Box<threads::IoThreads>>,
    /// Connections that agree on their encryption.
    pub(in crate::server) arrivals: arrivals::Arrivals,
}

/// Buffers of an iteration, reused by the next.
#[derive(Default)]
pub struct Work {
    batch: Batch,
    /// Clients in the batch, which keep their input buffers until it has run.
    held: Vec<ClientKey>,
}

/// How the size of reply buffers follows the output of clients.
#[derive(Clone, Copy, Debug)]
pub struct ReplyBuffers {
    /// Whether reply buffers are resized at all.
    pub resizing: bool,
    /// Milliseconds after which the peak use of a buffer is forgotten; `None` for never.
    pub peak_reset_ms: Option<i64>,
}

impl Default for ReplyBuffers {
    fn default() -> Self {
        ReplyBuffers { resizing: true, peak_reset_ms: Some(5000) }
    }
}

impl EventLoop {
    /// Ends the loop after this iteration.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// The listening sockets.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }
}

impl EventLoop {
    /// Registers the listening sockets with `poll`, by which the loop waits from then on.
    ///
    /// # Errors
    /// The poll cannot be used.
    pub fn watch_sockets(&mut self, poll: Poll) -> io::Result<()> {
        for (i, listener) in self.listeners.iter_mut().enumerate() {
            poll.registry().register_readable(listener, Source::Listener(i))?;
        }
        self.poll = Some(poll);
        Ok(())
    }

    fn registry(&self) -> &Registry {
        self.poll.as_ref().expect(WATCHED).registry()
    }

    /// Has the poll report a listening socket again although it was not emptied.
    fn rearm(&mut self, listener: usize) {
        let EventLoop { poll, listeners, .. } = self;
        let registry = poll.as_ref().expect(WATCHED).registry();
        if let Err(error) = registry.rearm_readable(&mut listeners[listener], Source::Listener(listener)) {
            tracing::warn!("Cannot watch a listening socket: {error}");
        }
    }
}

impl Server {
    /// Serves clients until asked to stop.
    ///
    /// # Errors
    /// If the poll fails.
    pub fn run(&mut self, signals: &Signals) -> io::Result<()> {
        let mut work = Work::default();
        while !self.event_loop.stop {
            self.iterate_once(Some(signals), &mut work, Duration::MAX)?;
        }
        self.before_sleep();
        Ok(())
    }

    /// Serves everybody once, without waiting, while something lasts that is being executed.
    ///
    /// # Errors
    /// The poll cannot be used.
    pub fn serve_meanwhile(&mut self, signals: &Signals) -> io::Result<()> {
        self.aside(|server| server.iterate_once(Some(signals), &mut Work::default(), Duration::ZERO))
    }

    /// As [`Server::serve_meanwhile`], where signals are seen later.
    /// It waits for them, for at most `patience`.
    pub(in crate::server) fn serve_without_signals(&mut self, patience: Duration) -> io::Result<()> {
        self.aside(|server| server.iterate_once(None, &mut Work::default(), patience))
    }

    /// Serves everybody once, without waiting, while a script runs for long. Time goes on for them only, and the data
    /// stay as they are; a signal to stop is seen when the script has ended.
    pub(in crate::server) fn serve_while_busy(&mut self) {
        if self.event_loop.poll.is_none() {
            return;
        }
        let now = self.keyspace.now();
        self.keyspace.suspend_expiry(Suspend::Busy, true);
        let served = self.aside(|server| server.iterate_once(None, &mut Work::default(), Duration::ZERO));
        self.keyspace.suspend_expiry(Suspend::Busy, false);
        self.keyspace.set_now(now);
        if let Err(error) = served {
            limited!(warn, "Cannot serve clients while a script runs: {error}");
        }
    }

    /// Has the input of those lie still whose requests are being executed for long: that of `caller`, and of a client that
    /// has a file loaded.
    pub(in crate::server) fn freeze_input(&mut self, caller: ClientKey) {
        self.clients[caller].flags.set(ClientFlags::FROZEN, true);
        for (_, client) in self.clients.iter_mut().filter(|(_, client)| client.io.input.is_borrowed()) {
            client.flags.set(ClientFlags::FROZEN, true);
        }
    }

    /// Ends the effect of [`Server::freeze_input`].
    pub(in crate::server) fn thaw_input(&mut self, caller: ClientKey) {
        self.clients[caller].flags.set(ClientFlags::FROZEN, false);
        let frozen = self.clients.iter().filter(|(_, client)| client.flags.has(ClientFlags::FROZEN));
        let keys: Vec<ClientKey> = frozen.map(|(key, _)| key).chain([caller]).collect();
        for key in keys {
            self.clients[key].flags.set(ClientFlags::FROZEN, false);
            // Events that told of input were passed over.
            self.read_soon(key);
        }
    }

    /// Runs one iteration of the loop, waiting for at most `patience`.
    ///
    /// # Errors
    /// If the poll fails.
    fn iterate_once(
        &mut self,
        signals: Option<&Signals>,
        work: &mut Work,
        patience: Duration,
    ) -> io::Result<()> {
        let Work { batch, held } = work;
        let sending = self.event_loop.stopwatch.now();
        self.before_sleep();
        let sent_ns = self.event_loop.stopwatch.ns(sending, self.event_loop.stopwatch.now());
        let busy = self.event_loop.link_again
            || self.event_loop.arrivals.can_go_on()
            || self.event_loop.left.is_some()
            || self.transfer_goes_on()
            || self.bus_goes_on();
        let idle = self.event_loop.reading.is_empty() && self.event_loop.sending.is_empty() && !busy;
        let timeout = if idle && !self.parcels_wait() {
            self.until_cron().min(self.until_deadline()).min(self.until_flush())
        } else {
            Duration::ZERO
        };
        self.event_loop.poll.as_mut().expect(WATCHED).wait(Some(timeout.min(patience)))?;
        self.slept();
        watchdog::report_if_requested();
        watchdog::iteration_begins();
        let (began_ns, began) = (clock::monotonic_ns(), self.event_loop.stopwatch.now());
        let commands_before = self.stats.commands_processed;
        self.keyspace.set_now(UnixMillis::now());
        self.blocked_timeouts();
        let again = std::mem::take(&mut self.event_loop.reading);
        self.event_loop.ready.extend(again.iter().copied());
        if self.event_loop.reading.is_empty() {
            self.event_loop.reading = again;
            self.event_loop.reading.clear();
        }
        let (mut accept, mut instances) = (Vec::new(), Vec::new());
        let (mut bus, mut accept_on_bus) = (Vec::new(), Vec::new());
        let (mut link, mut pipe) = (std::mem::take(&mut self.event_loop.link_again), false);
        let EventLoop { poll, sending, ready, arrivals, .. } = &mut self.event_loop;
        for event in poll.as_ref().expect(WATCHED).ready() {
            let key = match event.source {
                Source::Client(place) => ClientKey(place),
                Source::Listener(place) => {
                    accept.push(place);
                    continue;
                }
                Source::Link(_) => {
                    link = true;
                    continue;
                }
                Source::Pipe => {
                    pipe = true;
                    continue;
                }
                Source::Sentinel(place) => {
                    instances.push(place);
                    continue;
                }
                Source::Bus(_) | Source::Export(_) => {
                    bus.push(event.source);
                    continue;
                }
                Source::BusListener(place) => {
                    accept_on_bus.push(place);
                    continue;
                }
                Source::Arrival(place) => {
                    arrivals.ready(place);
                    continue;
                }
            };
            let Some(client) = self.clients.get_mut(key) else { continue };
            if event.closed {
                client.flags.set(ClientFlags::PEER_CLOSED, true);
            }
            // One receive per client and iteration: requests of the first may still be in the batch.
            if event.readable && !client.flags.has(ClientFlags::IN_READ_LIST) {
                client.flags.set(ClientFlags::IN_READ_LIST, true);
                ready.push_back(key);
            }
            if event.writable && client.flags.has(ClientFlags::AWAITS_WRITABLE) {
                client.flags.set(ClientFlags::AWAITS_WRITABLE, false);
                if !client.flags.has(ClientFlags::IN_SEND_LIST) {
                    client.flags.set(ClientFlags::IN_SEND_LIST, true);
                    sending.push(key);
                }
            }
        }
        // A command may last, and no event tells of these connections again.
        for listener in accept {
            self.accept(listener);
        }
        if link {
            self.link_ready();
        }
        if !instances.is_empty() {
            self.serve_sentinel(&instances);
        }
        for listener in accept_on_bus {
            self.accept_on_bus(listener);
        }
        if !bus.is_empty() || self.bus_goes_on() {
            self.serve_bus(&bus);
        }
        let others = !self.event_loop.ready.is_empty();
        self.serve(batch, held);
        if pipe {
            self.pump_transfer();
        }
        self.advance_arrivals(others);
        if self.persistence.shutdown.is_some() {
            self.continue_shutdown();
        } else if let Some(signals) = signals
            && let Some(stop) = signals.stop_requested()
            && !self.event_loop.cron_paused
        {
            self.asked_to_stop(stop);
        }
        let lasted = self.event_loop.stopwatch.ns(began, self.event_loop.stopwatch.now());
        self.event_loop.ended_ns = began_ns + lasted;
        self.event_loop.arrivals.clients_served(lasted);
        // What the requests before this turn left to send counts, the time asleep does not.
        self.stats.turn_ended(sent_ns + lasted, commands_before);
        if !self.conditions.has(Conditions::BUSY) && !self.event_loop.stop {
            self.cron_if_due();
        }
        watchdog::iteration_ends();
        Ok(())
    }

    /// Receives from each ready client and executes its requests.
    fn serve(&mut self, batch: &mut Batch, held: &mut Vec<ClientKey>) {
        // While a script runs for long, those behind its caller are served by an iteration inside this one.
        while let Some(key) = self.event_loop.ready.pop_front() {
            if self.receive(key) {
                let flags = self.clients[key].flags;
                if flags.has(ClientFlags::PRIMARY.with(ClientFlags::IMPORTS)) {
                    self.run_paused(batch, held);
                    if flags.has(ClientFlags::PRIMARY) {
                        self.apply_stream(key);
                    } else {
                        self.apply_import(key);
                    }
                } else {
                    self.parse(key, batch, held);
                }
                self.count_client(key);
            }
        }
        self.run_paused(batch, held);
        self.serve_threads();
    }

    fn run_paused(&mut self, batch: &mut Batch, held: &mut Vec<ClientKey>) {
        self.run_batch(batch);
        let keep = self.clients.len() <= KEEPERS;
        for key in held.drain(..) {
            // It may have been closed while a script ran for long.
            if let Some(client) = self.clients.get_mut(key) {
                client.io.input.release(&mut self.pool, keep);
            }
        }
    }

    /// Records that a client's output may have grown.
    #[inline(always)]
    pub(in crate::server) fn written(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        if client.io.output.is_empty() {
            return;
        }
        if !client.flags.has(ClientFlags::IN_SEND_LIST) {
            client.flags.set(ClientFlags::IN_SEND_LIST, true);
            self.event_loop.sending.push(key);
        }
        if client.io.output.excess() > 0 {
            self.check_output(key);
        }
    }

    /// Receives once; whether there may be input to parse.
    fn receive(&mut self, key: ClientKey) -> bool {
        let Some(client) = self.clients.get_mut(key) else { return false };
        client.flags.set(ClientFlags::IN_READ_LIST, false);
        const LEFT_ALONE: ClientFlags = ClientFlags::CLOSING
            .with(ClientFlags::FROZEN)
            .with(ClientFlags::AWAY)
            .with(ClientFlags::VISITING);
        if client.flags.has(LEFT_ALONE) {
            return false;
        }
        let io = &mut *client.io;
        if matches!(io.peer, Peer::Internal) {
            return false;
        }
        let received = io.input.receive(&mut io.peer, &mut self.pool);
        self.stats.reads += 1;
        let (n, more) = match received {
            Ok(Received::Drained(n)) => (n, client.flags.has(ClientFlags::PEER_CLOSED)),
            Ok(Received::More(n)) => (n, true),
            Ok(Received::Nothing) => (0, false),
            Ok(Received::Closed) => {
                tracing::debug!("Client closed connection {}", self.client_line(key));
                self.close_soon(key);
                return false;
            }
            Err(error) => {
                tracing::debug!("Reading from client: {}", crate::net::error_text(&error));
                self.close_soon(key);
                return false;
            }
        };
        if more {
            self.read_soon(key);
        }
        let client = &mut self.clients[key];
        client.total_in += n as u64;
        client.last_active = self.keyspace.now();
        self.stats.net_input_bytes += n as u64;
        let queued = client.transaction.as_ref().map_or(0, |transaction| transaction.request_bytes());
        let input = &client.io.input;
        if input.allocated() + queued > READ_BUDGET
            // What the primary has executed must be executed here.
            && !client.flags.has(ClientFlags::PRIMARY)
            && input.pending() + queued > self.config.limits.client_query_buffer as usize
        {
            self.query_buffer_exceeded(key);
            return false;
        }
        true
    }

    /// Moves complete requests into the batch, and runs the batch whenever it is full.
    fn parse(&mut self, key: ClientKey, batch: &mut Batch, held: &mut Vec<ClientKey>) {
        held.push(key);
        loop {
            let client = &mut self.clients[key];
            if client.is_closing() || client.flags.has(ClientFlags::BLOCKED.with(ClientFlags::PAUSED)) {
                return;
            }
            let trusted = client.flags.has(ClientFlags::AUTHENTICATED) || self.acl.is_open();
            let limits = request::Limits {
                max_bulk: self.config.limits.proto_max_bulk_len as usize,
                trusted,
                ..request::Limits::default()
            };
            let input = &mut client.io.input;
            match input.decoder.next(&mut input.buf, &mut input.pos, &mut batch.spans, &limits) {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    let barrier = self.enqueue(batch, key, frame);
                    // What an unauthenticated client may send next depends on this command.
                    if batch.is_full() || barrier || !trusted {
                        self.run_paused(batch, held);
                        held.push(key);
                    }
                }
                Err(error) => {
                    self.run_paused(batch, held);
                    if !self.clients[key].is_closing() {
                        self.protocol_error(key, error);
                    }
                    return;
                }
            }
        }
    }

    /// Accepts new connections.
    fn accept(&mut self, listener: usize) {
        let listeners = std::mem::take(&mut self.event_loop.listeners);
        // A command of this iteration may have changed the listening sockets.
        let result = listeners.get(listener).map(|socket| {
            let secure = socket.is_secure();
            socket.accept(|stream| self.accept_from(stream, secure))
        });
        self.event_loop.listeners = listeners;
        let Some(result) = result else { return };
        match result {
            Ok(Queue::Empty) => {}
            Ok(Queue::Unknown) => self.event_loop.rearm(listener),
            Err(error) => {
                limited!(warn, "Accepting client connection: {}", crate::net::error_text(&error));
                self.event_loop.rearm(listener);
            }
        }
    }

    /// Somebody has connected, to a port for TLS if `secure`.
    fn accept_from(&mut self, stream: Stream, secure: bool) {
        if stream.is_unix() {
            tracing::debug!("Accepted connection to {}", self.config.net.unixsocket);
        } else {
            tracing::debug!("Accepted {}", stream.peer_addr());
        }
        let connected = self.clients.len() + self.event_loop.arrivals.len();
        if connected >= self.config.net.maxclients as usize {
            self.stats.connections_rejected += 1;
            self.advise_on_maxclients();
            if !secure {
                // The socket is fresh, so such a short line always fits.
                let _ = stream.send(b"-ERR max number of clients reached\r\n");
            }
            return;
        }
        if secure {
            self.begin_handshake(stream);
        } else {
            self.welcome(Peer::Socket(stream));
        }
    }

    /// Whoever is at the other end is a client from now on, unless that is not permitted.
    fn welcome(&mut self, mut peer: Peer) -> Option<ClientKey> {
        let no_password = self.acl[UserId::DEFAULT].needs_no_password();
        if no_password && self.config.net.protected_mode && !peer.is_local() {
            self.stats.connections_rejected += 1;
            self.advise_on_protected_mode(peer.addr());
            let _ = peer.send(PROTECTED_MODE.as_bytes());
            peer.say_goodbye();
            return None;
        }
        let known = peer.is_secure();
        let stream = peer.stream()?;
        // They fail only on a broken connection, which the first read detects.
        let _ = stream.set_nodelay();
        let _ = stream.set_keepalive(self.config.net.tcp_keepalive_s);
        let now = self.keyspace.now();
        let mut failed = None;
        let goes_out = self.uses_io_threads();
        let registry = self.event_loop.poll.as_ref().expect(WATCHED).registry();
        let key = self.clients.insert_with(|id, key| {
            let source = Source::Client(key.0);
            let watched = match (known, goes_out) {
                (true, _) => registry.rename(&mut peer, source),
                (false, true) => Ok(()),
                (false, false) => registry.register(&mut peer, source),
            };
            failed = watched.err();
            Client::new(id, peer, now, false)
        });
        if let Some(error) = failed {
            limited!(warn, "Error registering fd event for the new client: {error}");
            self.clients.remove(key);
            return None;
        }
        self.act_as_default(key);
        self.stats.connections_received += 1;
        if goes_out {
            self.send_out(key, known);
        }
        Some(key)
    }

    /// Everything between executing and waiting: sends output, closes clients.
    fn before_sleep(&mut self) {
        self.meet_threads();
        // Nothing changes any more when the server ends: the data may have been saved with their offset in the stream.
        if !self.event_loop.stop {
            if !self.conditions.has(Conditions::BUSY) {
                self.finish_iteration();
            }
            self.serve_waiting();
        }
        self.cluster_before_sleep();
        self.list_visitors();
        if self.aof.state == aof::State::Off {
            self.flush_or_withhold();
        } else {
            let began = self.event_loop.stopwatch.now();
            self.flush_or_withhold();
            self.stats.aof_ns += self.event_loop.stopwatch.ns(began, self.event_loop.stopwatch.now());
        }
        self.feed_replicas();
        self.pump_transfer();
        self.send_replies();
        self.evict_clients();
        self.return_visitors();
        self.close_clients();
    }

    /// Tasks at the end of an iteration that may still write to clients.
    pub fn finish_iteration(&mut self) {
        self.end_pause_if_due();
        self.fast_expire_cycle();
        self.continue_unfinished();
        if self.clients.tracking.has_pending() {
            self.broadcast_changes();
        }
    }
}

const PROTECTED_MODE: &str = concat!(
    "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the ",
    "default user. In this mode connections are only accepted from the loopback interface. If you want to connect ",
    "from external computers to Redis you may adopt one of the following solutions: ",
    "1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface ",
    "by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not publicly ",
    "accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. ",
    "2) Alternatively you can just disable the protected mode by editing the Redis configuration file, and setting ",
    "the protected mode option to 'no', and then restarting the server. ",
    "3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. ",
    "4) Set up an authentication password for the default user. ",
    "NOTE: You only need to do one of the above things in order for the server to start accepting connections from ",
    "the outside.\r\n"
);
