//! Pauses: requests of ordinary clients wait for some time.
//!
//! A paused request is kept with its client, with everything that the client sends after it. When the pause ends,
//! the requests run in order, clients in the order in which they were paused. Meanwhile expired keys are hidden but
//! stay, and nothing is evicted: the data do not change, which is the purpose of a pause.
//!
//! A pause that begins during another one can make it longer and stricter, never shorter or laxer.

use std::time::{Duration, Instant};

use crate::clients::blocking::{Blocked, Wait};
use crate::clients::kept::KeptRequest;
use crate::clients::{ClientFlags, ClientKey};
use crate::keyspace::Suspend;
use crate::resp::Args;
use crate::server::Server;
use crate::server::command::{CommandId, Flags};
use crate::server::execution::admission::{Conditions, MAY_CHANGE};
use crate::stats::latency::event;
use crate::stdx::clock::UnixMillis;

/// Requests that a pause affects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Extent {
    /// Requests that may change the data.
    Writes,
    /// All requests.
    All,
}

/// Who wants a pause. Each has its own end; the pause lasts until the last of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PauseReason {
    /// CLIENT PAUSE.
    Client,
    /// FAILOVER, so that a replica can catch up.
    Failover,
    /// SHUTDOWN, for the same reason.
    Shutdown,
}

/// The current pause, and the clients that wait for its end.
#[derive(Default)]
pub struct Pause {
    /// End and extent of the pause that each reason asks for, in order of [`PauseReason`].
    asked: [Option<(UnixMillis, Extent)>; 3],
    /// End and extent of the pause: follows from `asked`.
    active: Option<(UnixMillis, Extent)>,
    /// Whether the pause has ended and waiting clients are to be served.
    over: bool,
    waiting: Vec<ClientKey>,
}

impl Pause {
    /// Whether a pause is on.
    pub fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// Time until the pause ends, for which the loop may sleep.
    pub(in crate::server) fn until_end(&self) -> Option<Duration> {
        let until = self.asked.iter().flatten().map(|&(until, _)| until).min()?;
        let left_ms = until.since(UnixMillis::now());
        Some(Duration::from_millis(left_ms.max(0) as u64))
    }

    /// The first reason for the pause, what is paused, and for how many milliseconds more, as INFO tells them.
    pub fn report(&self) -> (&'static str, &'static str, i64) {
        const REASONS: [&str; 3] = ["client_pause", "failover", "shutdown"];
        let Some((until, extent)) = self.active else { return ("none", "none", 0) };
        let reason = self.asked.iter().position(Option::is_some).map_or("none", |first| REASONS[first]);
        let actions = if extent == Extent::All { "all" } else { "write" };
        (reason, actions, until.since(UnixMillis::now()).max(0))
    }

    /// Number of clients with paused requests.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

impl Server {
    /// Begins a pause that clients ask for, or extends the current one.
    pub fn pause_clients(&mut self, until: UnixMillis, extent: Extent) {
        self.pause_for(PauseReason::Client, until, extent);
    }

    /// Begins a pause, or extends the current one.
    pub(in crate::server) fn pause_for(&mut self, reason: PauseReason, until: UnixMillis, extent: Extent) {
        let asked = &mut self.pause.asked[reason as usize];
        *asked = Some(match *asked {
            None => (until, extent),
            Some((before, more)) => (until.max(before), extent.max(more)),
        });
        self.derive_pause();
    }

    /// Ends the pause that clients asked for; waiting clients are served before the loop sleeps.
    pub fn unpause_clients(&mut self) {
        self.unpause_for(PauseReason::Client);
    }

    /// Ends the pause for one reason.
    pub(in crate::server) fn unpause_for(&mut self, reason: PauseReason) {
        self.pause.asked[reason as usize] = None;
        self.derive_pause();
    }

    fn derive_pause(&mut self) {
        let mut active: Option<(UnixMillis, Extent)> = None;
        for &(until, extent) in self.pause.asked.iter().flatten() {
            active = Some(active.map_or((until, extent), |(end, most)| (end.max(until), most.max(extent))));
        }
        let (before, extent) = (self.pause.active, active.map(|(_, extent)| extent));
        self.pause.over |=
            before.is_some() && (active.is_none() || before.map(|(_, extent)| extent) > extent);
        self.pause.active = active;
        self.conditions.set(Conditions::PAUSED_WRITES, active.is_some());
        self.conditions.set(Conditions::PAUSED_ALL, extent == Some(Extent::All));
        self.keyspace.suspend_expiry(Suspend::Pause, active.is_some());
    }

    /// Ends an expired pause and serves the waiting clients.
    #[inline]
    pub fn end_pause_if_due(&mut self) {
        if self.pause.is_active() || self.pause.over {
            self.end_due_pause();
        }
    }

    #[cold]
    fn end_due_pause(&mut self) {
        let now = UnixMillis::now();
        if self.pause.asked.iter().flatten().any(|&(until, _)| until <= now) {
            self.pause.asked = self.pause.asked.map(|asked| asked.filter(|&(until, _)| until > now));
            self.derive_pause();
        }
        if std::mem::take(&mut self.pause.over) {
            if let Some(key) = self.primary_client() {
                self.read_soon(key);
            }
            let started = Instant::now();
            for key in std::mem::take(&mut self.pause.waiting) {
                self.resume(key);
            }
            self.stats.latency.note(event::COMMAND_UNBLOCKING, started.elapsed());
        }
    }

    /// Whether the current pause affects a request of this client for `spec`.
    pub(in crate::server) fn is_paused_for(&self, key: ClientKey, flags: Flags) -> bool {
        let client = &self.clients[key];
        let exempt = ClientFlags::REPLICA.with(ClientFlags::MONITOR);
        match self.pause.active {
            None => false,
            Some(_) if client.flags.has(exempt) => false,
            Some((_, Extent::All)) => true,
            Some((_, Extent::Writes)) => {
                flags.has(MAY_CHANGE)
                    || flags.has(Flags::ENDS_MULTI)
                        && client.transaction.as_ref().is_some_and(|transaction| {
                            transaction.iter().any(|(id, args)| {
                                self.flags_of(self.commands.spec(CommandId(id)), &args).has(MAY_CHANGE)
                            })
                        })
            }
        }
    }

    /// Keeps a request until the pause ends.
    #[cold]
    pub(in crate::server) fn pause_request(
        &mut self,
        key: ClientKey,
        command: Option<CommandId>,
        args: &Args<'_>,
    ) {
        let command = command.map_or(KeptRequest::UNKNOWN, |id| id.0);
        self.keep_paused(key, KeptRequest::new(command, args));
    }

    fn keep_paused(&mut self, key: ClientKey, request: KeptRequest) {
        let client = &mut self.clients[key];
        if let Some(Wait::Pause { later }) = client.blocked.as_mut().map(|blocked| &mut blocked.wait) {
            return later.push(request);
        }
        let wait = Wait::Pause { later: Vec::new() };
        client.blocked = Some(Box::new(Blocked::new(request, wait, client.db)));
        client.flags.set(ClientFlags::PAUSED, true);
        self.pause.waiting.push(key);
    }

    /// Runs the paused requests of a client, as far as they may run now.
    fn resume(&mut self, key: ClientKey) {
        let Some(client) = self.clients.get_mut(key) else { return };
        client.flags.set(ClientFlags::PAUSED, false);
        let Some(blocked) = client.blocked.take() else { return };
        let Wait::Pause { later } = blocked.wait else {
            unreachable!("only paused clients wait for the end")
        };
        // Nothing is behind a command that may wait for a key: such a command is the last of its batch.
        for request in std::iter::once(blocked.request).chain(later) {
            let client = &self.clients[key];
            if self.event_loop.stop || client.is_closing() {
                return;
            }
            if client.flags.has(ClientFlags::PAUSED) {
                self.keep_paused(key, request);
                continue;
            }
            let command = (request.command != KeptRequest::UNKNOWN).then_some(CommandId(request.command));
            self.execution.command_started = self.event_loop.stopwatch.now();
            self.execute(key, command, &request.args());
        }
        // Input that arrived meanwhile is in the buffer, and no event will report it.
        self.read_soon(key);
    }

    /// Removes a client from those that wait for the end of the pause.
    pub(in crate::server) fn forget_paused(&mut self, key: ClientKey) {
        self.clients[key].flags.set(ClientFlags::PAUSED, false);
        self.pause.waiting.retain(|&waiting| waiting != key);
    }
}
