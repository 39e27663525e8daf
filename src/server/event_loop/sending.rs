//! The end of an iteration: output is sent, and connections are closed.
//!
//! Both take at least one system call per client. Where there are so many clients that others would wait for long, an
//! iteration does a share of the work and leaves the rest to the next ones, which serve everybody else as ever.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::clients::{ClientFlags, ClientKey};
use crate::net::io::SEND_BUDGET;
use crate::net::peer::Peer;
use crate::server::Server;

/// Number of clients that are sent their output without a look at the clock.
const FEW: usize = 64;
/// Steps between two looks at the clock.
const STEPS_PER_LOOK: u32 = 16;
/// How long an iteration does one kind of work that may be left to the next.
const SHARE: Duration = Duration::from_millis(1);

/// The share of an iteration that one kind of work may take. The first steps are not timed.
#[derive(Default)]
pub(in crate::server) struct Share {
    steps: u32,
    since: Option<Instant>,
}

impl Share {
    /// Counts a step; whether the share is used up.
    #[inline]
    pub(in crate::server) fn is_used_up(&mut self) -> bool {
        self.steps += 1;
        self.steps.is_multiple_of(STEPS_PER_LOOK)
            && self.since.get_or_insert_with(Instant::now).elapsed() >= SHARE
    }
}

/// What an iteration left to the next one.
#[derive(Default)]
pub struct Left {
    /// Clients with output, in the order in which they were left.
    pub(in crate::server) sending: VecDeque<ClientKey>,
    /// Whether there are clients to close.
    closing: bool,
    /// Whether there is withheld output that may be sent by now.
    pub(in crate::server) releasing: bool,
}

impl Left {
    /// Whether there is anything.
    #[inline]
    pub(super) fn is_some(&self) -> bool {
        self.closing | self.releasing | !self.sending.is_empty()
    }
}

impl Server {
    /// Flushes output, newest first, so that answered clients leave before subscribers: they send their next
    /// requests while messages still go out, and their replies then leave together.
    pub(super) fn send_replies(&mut self) {
        // Output released by the log is sent completely: the rest would be withheld again, because of later writes.
        let budget = if self.withholds_replies() { usize::MAX } else { SEND_BUDGET };
        let may_leave = self.uses_io_threads() && !self.sends_itself();
        let mut sending = std::mem::take(&mut self.event_loop.sending);
        if sending.len() > FEW || !self.event_loop.left.sending.is_empty() {
            self.send_to_many(&mut sending, budget, may_leave);
        }
        while let Some(key) = sending.pop() {
            self.send_part(key, budget, may_leave);
        }
        if self.event_loop.sending.is_empty() {
            self.event_loop.sending = sending;
        }
    }

    /// Sends for as long as an iteration may: first to those who were written to now, then to those who were left before.
    #[cold]
    fn send_to_many(&mut self, sending: &mut Vec<ClientKey>, budget: usize, may_leave: bool) {
        let ends = self.event_loop.stop;
        let mut left = std::mem::take(&mut self.event_loop.left.sending);
        let mut share = Share::default();
        while let Some(key) = sending.pop() {
            self.send_part(key, budget, may_leave);
            if share.is_used_up() && !ends {
                break;
            }
        }
        left.extend(sending.drain(..));
        let mut share = Share::default();
        while let Some(key) = left.pop_front() {
            // Another client may have its place by now.
            if self.clients.get(key).is_some_and(|client| client.flags.has(ClientFlags::IN_SEND_LIST)) {
                self.send_part(key, budget, may_leave);
            }
            if share.is_used_up() && !ends {
                break;
            }
        }
        self.event_loop.left.sending = left;
    }

    /// Sends a client up to `budget` bytes of its output, and the rest in the next iteration.
    #[inline(always)]
    fn send_part(&mut self, key: ClientKey, budget: usize, may_leave: bool) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.flags.set(ClientFlags::IN_SEND_LIST, false);
        if may_leave && self.may_go_out(key) {
            return self.send_out(key, true);
        }
        self.send_to(key, budget);
        const WAITS: ClientFlags = ClientFlags::CLOSE_SOON.with(ClientFlags::AWAITS_WRITABLE);
        let client = &self.clients[key];
        if !client.io.output.is_empty() && !client.flags.has(WAITS) {
            self.send_soon(key);
        }
    }

    /// Sends a client up to `limit` bytes of its output, and a replica what it is fed with behind that.
    pub(in crate::server) fn send_to(&mut self, key: ClientKey, limit: usize) {
        let Some(client) = self.clients.get(key) else { return };
        if !client.flags.has(ClientFlags::REPLICA) {
            return self.send_output(key, limit);
        }
        if !client.io.output.is_empty() {
            self.send_output(key, usize::MAX);
        }
        if !self.clients[key].flags.has(ClientFlags::CLOSE_SOON.with(ClientFlags::AWAITS_WRITABLE)) {
            self.send_to_replica(key);
        }
    }

    /// Sends a client up to `limit` bytes of its output.
    pub(in crate::server) fn send_output(&mut self, key: ClientKey, limit: usize) {
        let Some(client) = self.clients.get_mut(key) else { return };
        if client.flags.has(ClientFlags::CLOSE_SOON.with(ClientFlags::AWAITS_WRITABLE)) {
            self.count_client(key);
            return;
        }
        let io = &mut *client.io;
        if matches!(io.peer, Peer::Internal) {
            if !io.output.is_empty() {
                self.recall(key);
            }
            return;
        }
        match io.output.send(&mut io.peer, &mut self.pool, limit) {
            Ok(n) => {
                self.stats.writes += 1;
                self.stats.net_output_bytes += n as u64;
                client.total_out += n as u64;
                if n > 0 && !client.flags.has(ClientFlags::PRIMARY) {
                    client.last_active = self.keyspace.now();
                }
                if io.output.is_empty() {
                    // Behind its output, a replica is sent the stream.
                    if !client.flags.has(ClientFlags::REPLICA) {
                        client.over_soft_limit_since = None;
                    }
                    if client.flags.has(ClientFlags::CLOSE_AFTER_REPLY) {
                        self.close_soon(key);
                    }
                } else if n < limit {
                    client.flags.set(ClientFlags::AWAITS_WRITABLE, true);
                }
                self.count_client(key);
            }
            Err(error) => {
                tracing::debug!("Error writing to client: {}", crate::net::error_text(&error));
                self.close_soon(key);
            }
        }
    }

    /// Takes a client out of every table that others find it by.
    fn detach(&mut self, key: ClientKey) {
        self.end_transaction(key);
        self.stop_monitoring(key);
        self.forget_replica(key);
        self.primary_lost(key);
        self.import_lost(key);
        self.forget_blocked(key);
        self.leave(key);
    }

    /// Closes another client than the one that is being served. From now on nobody finds it: what is published or
    /// changed by the rest of a transaction no longer reaches it.
    pub fn expel(&mut self, key: ClientKey) {
        self.close_soon(key);
        self.detach(key);
    }

    /// Closes those who are to be closed.
    pub(super) fn close_clients(&mut self) {
        if self.event_loop.closing.is_empty() {
            return;
        }
        let mut later = Vec::new();
        let mut share = Share::default();
        self.event_loop.left.closing = false;
        while let Some(key) = self.event_loop.closing.pop() {
            if share.is_used_up() && !self.event_loop.stop {
                self.event_loop.left.closing = true;
                later.push(key);
                break;
            }
            if self.clients[key].flags.has(ClientFlags::FROZEN) || self.has_to_come(key) {
                later.push(key);
                continue;
            }
            self.detach(key);
            if let Some(mut client) = self.clients.remove(key) {
                // Closing the socket removes it from the poll; doing it first keeps the order clear.
                client.io.peer.say_goodbye();
                let _ = self.event_loop.registry().deregister(&mut client.io.peer);
                let io = &client.io;
                self.free(io.input.allocated() + io.output.allocated(), client.io);
            }
        }
        self.event_loop.closing.append(&mut later);
        // From now on, new clients may reuse their slots.
        let clients = &self.clients;
        self.event_loop.reading.retain(|&key| clients.get(key).is_some());
    }
}
