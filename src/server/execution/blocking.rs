//! Clients blocked on keys: blocking, serving, timeouts.
//!
//! A blocked client keeps its request. When a key may have a value, the request is run again, in the way of every
//! request; if it still finds nothing, the client stays blocked, with its place in the queues and its deadline
//! unchanged. (Running the request again, instead of handing over the value, is the scheme of Redis since 7.2.)

use std::time::Duration;

use crate::clients::blocking::{Absent, Blocked, Need, Wait};
use crate::clients::kept::KeptRequest;
use crate::clients::{ClientFlags, ClientKey};
use crate::keyspace::Listeners;
use crate::keyspace::awaited::Awaited;
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::CommandId;
use crate::server::error::NOT_LOGGED;
use crate::server::error::SHUTDOWN_FAILED;
use crate::server::execution::Attempt;
use crate::server::execution::admission::Conditions;
use crate::server::watching::observe::Ran;
use crate::stdx::hash::Key;

/// How a client is unblocked without a result.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Unblock {
    /// As if it had timed out.
    Timeout,
    /// With an error.
    Error,
    /// With the error that what it waits for no longer happens here.
    RoleChanged,
    /// With the error that there is no append-only file.
    NotLogged,
    /// With the error that the server does not end.
    ShutdownFailed,
    /// With this error, because its keys are elsewhere now.
    Redirected(Error),
    /// With what the client waits for: its memory is free.
    Freed,
}

const ROLE_CHANGED: &str =
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)";

impl Server {
    /// Blocks a client whose command found nothing; whether the client is blocked now.
    pub(in crate::server) fn block(
        &mut self,
        key: ClientKey,
        id: CommandId,
        args: &Args<'_>,
        wait: Wait,
    ) -> bool {
        let need = match &wait {
            Wait::Keys { need, .. } => need,
            Wait::Acknowledgements { .. } | Wait::Memory { .. } | Wait::Shutdown => {
                if matches!(wait, Wait::Acknowledgements { .. }) {
                    self.replication.waiting.clients.push(key);
                }
                let mut blocked = Blocked::new(KeptRequest::new(id.0, args), wait, self.clients[key].db);
                self.clients.blocking.add(key, &mut blocked);
                let client = &mut self.clients[key];
                client.blocked = Some(Box::new(blocked));
                client.flags.set(ClientFlags::BLOCKED, true);
                return true;
            }
            Wait::Pause { .. } => unreachable!("no command waits for the end of a pause"),
        };
        if self.execution.depth > 0 {
            let mut reply = self.reply(key);
            match need.absent() {
                Absent::Null => reply.null(),
                Absent::NullArray => reply.null_array(),
            };
            return false;
        }
        if self.execution.attempt != Attempt::First {
            self.execution.attempt = Attempt::InVain { again_at: wait.again_at() };
            return true;
        }
        let request = match need {
            Need::Stream { resolved } if !resolved.is_empty() => {
                KeptRequest::with_replaced(id.0, args, resolved)
            }
            Need::List { .. } | Need::Zset | Need::Stream { .. } | Need::Group { .. } => {
                KeptRequest::new(id.0, args)
            }
        };
        let mut blocked = Blocked::new(request, wait, self.clients[key].db);
        self.listen_for(&blocked);
        self.clients.blocking.add(key, &mut blocked);
        let client = &mut self.clients[key];
        client.blocked = Some(Box::new(blocked));
        client.flags.set(ClientFlags::BLOCKED, true);
        self.keyspace.ledger.listeners.set(Listeners::BLOCKED, true);
        true
    }

    /// Lets the ledger record changes of the keys that a client is about to wait for. O(keys), now and then O(waits).
    fn listen_for(&mut self, blocked: &Blocked) {
        let (awaited, names) = (&mut self.keyspace.ledger.awaited, blocked.keys());
        if !awaited.has_room_for(names.len()) {
            *awaited = Awaited::for_waits(awaited.total() + names.len());
            self.clients.blocking.awaited().for_each(|name| awaited.add(Key::new(name)));
        }
        names.into_iter().for_each(|name| awaited.add(Key::new(name)));
    }

    /// Whether the reply to the running request of a client may come later: not inside another command, and not if nobody
    /// reads replies.
    pub fn can_wait(&self, key: ClientKey) -> bool {
        const ANSWERED: ClientFlags = ClientFlags::INTERNAL.with(ClientFlags::PRIMARY);
        let execution = &self.execution;
        execution.depth == 0
            && execution.attempt == Attempt::First
            && self.event_loop.poll.is_some()
            && !self.clients[key].flags.has(ANSWERED)
    }

    /// Unblocks a client: removes it from all queues, and resumes reading its input.
    fn release(&mut self, key: ClientKey, blocked: &Blocked) {
        self.clients.blocking.remove(key, blocked);
        for name in blocked.keys() {
            self.keyspace.ledger.awaited.remove(Key::new(name));
        }
        if self.clients.blocking.is_empty() {
            self.keyspace.ledger.listeners.set(Listeners::BLOCKED, false);
        }
        let client = &mut self.clients[key];
        client.flags.set(ClientFlags::BLOCKED, false);
        // Bytes that arrive meanwhile are received, and stay where they are. Where there are none, the socket has none.
        let input = &client.io.input;
        if input.is_borrowed() || input.pending() > 0 {
            self.read_soon(key);
        }
    }

    /// Serves clients blocked on changed keys, until nothing is left to take.
    #[cold]
    pub(in crate::server) fn serve_blocked(&mut self) {
        // Data being loaded, or being changed by a script, serve blocked clients, too, but only once they are complete.
        let incomplete = Conditions::LOADING.with(Conditions::BUSY);
        while self.clients.blocking.any_ready() && !self.conditions.has(incomplete) {
            for place in self.clients.blocking.take_ready() {
                let (db, name) = (place.0 as usize, Key::new(&place.1));
                // Whoever comes to wait while the queue is served was there already, or has its turn next time.
                let mut tickets = 0..self.clients.blocking.next_ticket();
                while let Some((ticket, key)) = self.clients.blocking.first(&place, tickets.clone()) {
                    tickets.start = ticket + 1;
                    let kind = self.keyspace.kind_of(db, name);
                    if kind.is_none() && !self.clients.blocking.any_waits_for_absence() {
                        break;
                    }
                    let waits = self.clients.get(key).and_then(|client| client.blocked.as_ref());
                    if waits.is_some_and(|blocked| blocked.db == place.0 && blocked.wait.is_met_by(kind)) {
                        self.run_again(key);
                    }
                }
            }
        }
    }

    /// Runs the request of a blocked client again.
    fn run_again(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        if client.is_closing() {
            return;
        }
        let Some(mut blocked) = client.blocked.take() else { return };
        client.flags.set(ClientFlags::BLOCKED, false);
        self.begin_reply(key);
        let started = self.event_loop.stopwatch.now();
        let id = CommandId(blocked.request.command);
        let attempt = self.attempt_again(|server| {
            server.execution.command_started = started;
            server.admit(key, id, server.commands.spec(id), &blocked.request.args());
        });
        self.end_unit();
        if let Attempt::InVain { again_at } = attempt {
            blocked.spent_ns += self.event_loop.stopwatch.ns(started, self.event_loop.stopwatch.now());
            self.clients.blocking.run_again_at(key, &mut blocked, again_at);
            let client = &mut self.clients[key];
            client.flags.set(ClientFlags::BLOCKED, true);
            client.blocked = Some(blocked);
            return;
        }
        self.release(key, &blocked);
        self.written(key);
    }

    /// Whether a client waits for what CLIENT UNBLOCK may end.
    pub fn can_be_unblocked(&self, key: ClientKey) -> bool {
        let blocked = self.clients.get(key).and_then(|client| client.blocked.as_ref());
        blocked.is_some_and(|blocked| blocked.can_be_unblocked())
    }

    /// Unblocks a client without a result; whether it was blocked.
    pub fn unblock(&mut self, key: ClientKey, how: Unblock) -> bool {
        let waiting = self.clients.get_mut(key).filter(|client| client.flags.has(ClientFlags::BLOCKED));
        let Some(blocked) = waiting.and_then(|client| client.blocked.take()) else { return false };
        self.release(key, &blocked);
        let id = blocked.request.command as usize;
        let before = self.clients[key].io.output.position();
        self.answer(key, |server| match how {
            Unblock::Timeout => {
                if let Wait::Acknowledgements { wanted, .. } = &blocked.wait {
                    server.reply_acknowledged(key, wanted);
                } else {
                    server.reply(key).null_array();
                }
            }
            Unblock::Freed => _ = server.reply(key).ok(),
            Unblock::Error
            | Unblock::RoleChanged
            | Unblock::NotLogged
            | Unblock::ShutdownFailed
            | Unblock::Redirected(_) => {
                let error = match how {
                    Unblock::RoleChanged => Error::text(ROLE_CHANGED),
                    Unblock::NotLogged => Error::text(NOT_LOGGED),
                    Unblock::ShutdownFailed => Error::text(SHUTDOWN_FAILED),
                    Unblock::Redirected(error) => error,
                    _ => Error::text("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
                };
                server.stats.commands[id].failed += 1;
                server.stats.error(error.code());
                server.reply(key).error(&error);
            }
        });
        let reply = self.clients[key].io.output.position().saturating_sub(before);
        self.count_blocked(key, &blocked, reply);
        self.written(key);
        true
    }

    /// Ends the wait of a client because this server became a replica, and closes its connection.
    pub(in crate::server) fn unblock_by_role(&mut self, key: ClientKey) {
        if self.unblock(key, Unblock::RoleChanged) {
            self.close_after_reply(key);
        }
    }

    /// Counts a command that was blocked and ended without a result.
    fn count_blocked(&mut self, key: ClientKey, blocked: &Blocked, reply: usize) {
        let id = CommandId(blocked.request.command);
        self.stats.commands[id.0 as usize].called(blocked.spent_ns, self.config.logs.latency_tracking);
        self.stats.commands_processed += 1;
        let spec = self.commands.spec(id);
        self.observe(key, spec, &blocked.request.args(), Ran { ns: blocked.spent_ns, reply });
    }

    /// Forgets a blocked client that disconnects.
    pub(in crate::server) fn forget_blocked(&mut self, key: ClientKey) {
        let Some(blocked) = self.clients.get_mut(key).and_then(|client| client.blocked.take()) else {
            return;
        };
        match blocked.wait {
            Wait::Keys { .. } | Wait::Acknowledgements { .. } | Wait::Memory { .. } | Wait::Shutdown => {
                self.release(key, &blocked);
                self.count_blocked(key, &blocked, 0);
            }
            Wait::Pause { .. } => self.forget_paused(key),
        }
    }

    /// Gives up for those whose time is over, and serves those whose key went by itself or who can take by now what
    /// others have.
    #[inline]
    pub(in crate::server) fn blocked_timeouts(&mut self) {
        let now = self.keyspace.now();
        while let Some(key) = self.clients.blocking.again_due(now) {
            let Some(mut blocked) = self.clients[key].blocked.take() else { break };
            self.clients.blocking.due(key, &mut blocked);
            self.clients[key].blocked = Some(blocked);
        }
        if self.clients.blocking.any_ready() {
            self.serve_blocked();
        }
        while let Some(key) = self.clients.blocking.overdue(now) {
            self.unblock(key, Unblock::Timeout);
        }
        if !self.clients.blocking.for_memory().is_empty() {
            self.answer_freed();
        }
    }

    /// Answers those who waited for memory that is free by now.
    #[cold]
    fn answer_freed(&mut self) {
        let reclaimer = &self.keyspace.reclaimer;
        let waiting = self.clients.blocking.for_memory().iter();
        let freed = waiting.filter(|&&(job, _)| reclaimer.is_finished(job)).map(|&(_, key)| key);
        for key in freed.collect::<Vec<_>>() {
            self.unblock(key, Unblock::Freed);
        }
        if self.clients.blocking.for_memory().is_empty() {
            self.keyspace.reclaimer.is_not_awaited();
        }
    }

    /// Time until the next timeout, for which the loop may sleep.
    pub(in crate::server) fn until_deadline(&self) -> Duration {
        // While data are loaded nobody is served.
        if self.clients.blocking.any_ready() && self.persistence.loading.is_none() {
            return Duration::ZERO;
        }
        match self.clients.blocking.next_deadline() {
            None => Duration::MAX,
            Some(until) => Duration::from_millis(until.since(self.keyspace.now()).max(0) as u64),
        }
    }

    /// Makes the loop process input that was not read while the client was blocked.
    pub(in crate::server) fn read_soon(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        if !client.flags.has(ClientFlags::IN_READ_LIST) {
            client.flags.set(ClientFlags::IN_READ_LIST, true);
            self.event_loop.reading.push(key);
        }
    }
}
