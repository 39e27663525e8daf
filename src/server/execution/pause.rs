//! Pauses: for a while, requests of ordinary clients stay where they are.
//!
//! A request that a pause concerns is kept with its client, and so is everything the client sent after it; when the pause ends, the requests are run in order, clients in the order
//! in which they were stopped. Meanwhile keys that are due are hidden but stay, and nothing is evicted: the data
//! do not change, which is what a pause is for.
//!
//! A pause that begins before another one has ended makes it longer and stricter, never shorter or laxer.

use std::time::{Duration, Instant};

use crate::clients::kept::KeptRequest;
use crate::clients::{ClientFlags, ClientKey};
use crate::keyspace::Suspend;
use crate::resp::Args;
use crate::server::Server;
use crate::server::command::{CommandId, Flags, Spec};
use crate::server::execution::admission::{Conditions, MAY_CHANGE};
use crate::stats::latency::event;
use crate::stdx::clock::UnixMillis;

/// Which requests a pause concerns.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Extent {
    /// Those that may change the data.
    Writes,
    /// All.
    All,
}

/// The pause that is on, and who waits for its end.
#[derive(Default)]
pub struct Pause {
    /// Until when, and what.
    active: Option<(UnixMillis, Extent)>,
    /// The pause has ended, and those who waited are to be served.
    over: bool,
    waiting: Vec<ClientKey>,
}

impl Pause {
    /// Whether a pause is on.
    pub fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// Number of clients with requests that are kept.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl Server {
    /// Begins a pause, or extends the one that is on.
    pub fn pause_clients(&mut self, until: UnixMillis, extent: Extent) {
        let active = match self.pause.active {
            None => (until, extent),
            Some((before, more)) => (until.max(before), extent.max(more)),
        };
        self.pause.active = Some(active);
        self.conditions.set(Conditions::PAUSED_WRITES, true);
        self.conditions.set(Conditions::PAUSED_ALL, active.1 == Extent::All);
        self.keyspace.suspend_expiry(Suspend::Pause, true);
    }

    /// Ends the pause; those who wait are served before the loop sleeps.
    pub fn unpause_clients(&mut self) {
        if self.pause.active.take().is_none() {
            return;
        }
        self.pause.over = true;
        self.conditions.set(Conditions::PAUSED_WRITES.with(Conditions::PAUSED_ALL), false);
        self.keyspace.suspend_expiry(Suspend::Pause, false);
    }

    /// How long the loop may sleep before a pause ends.
    pub(in crate::server) fn until_unpause(&self) -> Option<Duration> {
        let (until, _) = self.pause.active?;
        let left_ms = until.since(UnixMillis::now());
        Some(Duration::from_millis(left_ms.max(0) as u64))
    }

    /// Ends a pause whose time is over, and serves those who waited for it.
    #[inline]
    pub fn end_pause_if_due(&mut self) {
        if self.pause.is_active() || self.pause.over {
            self.end_due_pause();
        }
    }

    #[cold]
    fn end_due_pause(&mut self) {
        if self.pause.active.is_some_and(|(until, _)| until <= UnixMillis::now()) {
            self.unpause_clients();
        }
        if std::mem::take(&mut self.pause.over) {
            let started = Instant::now();
            for key in std::mem::take(&mut self.pause.waiting) {
                self.resume(key);
            }
            self.stats.latency.note(event::COMMAND_UNBLOCKING, started.elapsed());
        }
    }

    /// Whether the pause that is on concerns a request of this client for `spec`.
    pub(in crate::server) fn is_paused_for(&self, key: ClientKey, spec: &Spec) -> bool {
        let client = &self.clients[key];
        let exempt = ClientFlags::REPLICA.with(ClientFlags::MONITOR);
        match self.pause.active {
            None => false,
            Some(_) if client.flags.has(exempt) => false,
            Some((_, Extent::All)) => true,
            Some((_, Extent::Writes)) => {
                spec.flags.has(MAY_CHANGE)
                    || spec.flags.has(Flags::ENDS_MULTI)
                        && client.transaction.as_ref().is_some_and(|transaction| {
                            transaction
                                .iter()
                                .any(|(id, _)| self.commands.spec(CommandId(id)).flags.has(MAY_CHANGE))
                        })
            }
        }
    }

    /// Keeps a request until the pause is over.
    #[cold]
    pub(in crate::server) fn hold(&mut self, key: ClientKey, command: Option<CommandId>, args: &Args<'_>) {
        let client = &mut self.clients[key];
        if !client.flags.has(ClientFlags::HELD) {
            client.flags.set(ClientFlags::HELD, true);
            self.pause.waiting.push(key);
        }
        client.held.push(KeptRequest::new(command.map_or(KeptRequest::UNKNOWN, |id| id.0), args));
    }

    /// Runs what was kept of a client, as far as it may be run now.
    fn resume(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.flags.set(ClientFlags::HELD, false);
        // Nothing is behind a command that may wait for a key: such a command is the last of its batch.
        for request in std::mem::take(&mut client.held) {
            let client = &mut self.clients[key];
            if self.event_loop.stop || client.is_closing() {
                return;
            }
            if client.flags.has(ClientFlags::HELD) {
                client.held.push(request);
                continue;
            }
            let command = (request.command != KeptRequest::UNKNOWN).then_some(CommandId(request.command));
            self.execution.command_started = self.event_loop.stopwatch.now();
            self.execute(key, command, &request.args());
        }
        // What arrived meanwhile is in the buffer, and no event will tell of it.
        self.read_soon(key);
    }

    /// Forgets a client that is about to be gone.
    pub(in crate::server) fn forget_paused(&mut self, key: ClientKey) {
        if self.clients[key].flags.has(ClientFlags::HELD) {
            self.pause.waiting.retain(|&waiting| waiting != key);
        }
    }
}
