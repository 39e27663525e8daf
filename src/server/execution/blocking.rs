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
use crate::server::command::{CommandId, Flags, KeyFlags, Spec};
use crate::server::error::NOT_LOGGED;
use crate::server::error::SHUTDOWN_FAILED;
use crate::server::event_loop::sending::Share;
use crate::server::execution::Attempt;
use crate::server::execution::admission::Conditions;
use crate::server::watching::observe::Ran;
use crate::stdx::hash::Key;

/// How a client is unblocked without its request being run again.
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
    /// With the reply that these bytes are.
    Answered(Vec<u8>),
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
            Wait::Acknowledgements { .. } | Wait::Memory { .. } | Wait::Walk { .. } | Wait::Shutdown => {
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
        const ANSWERED: ClientFlags =
            ClientFlags::INTERNAL.with(ClientFlags::PRIMARY).with(ClientFlags::IMPORTS);
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

    /// Serves clients blocked on keys that a command has changed, until nothing is left to take. If there are very many,
    /// some are served in later turns of the loop: then nobody else gets at the keys before they are.
    #[cold]
    pub(in crate::server) fn serve_blocked(&mut self) {
        if self.conditions.has(Conditions::SERVING) {
            // They have their turn after those who are being served.
            return self.clients.blocking.postpone();
        }
        self.serve_ready(Some(Share::default()));
    }

    /// Serves clients blocked on changed keys until nothing is left to take or the share is used up.
    fn serve_ready(&mut self, mut share: Option<Share>) {
        // Data being loaded, or being changed by a script, serve blocked clients, too, but only once they are complete.
        let incomplete = Conditions::LOADING.with(Conditions::BUSY);
        if self.conditions.has(incomplete) {
            return;
        }
        self.conditions.set(Conditions::SERVING, false);
        while !self.conditions.has(incomplete)
            && let Some((place, mut tickets)) = self.clients.blocking.take_ready()
        {
            let (db, name) = (place.0 as usize, Key::new(&place.1));
            while let Some((ticket, key)) = self.clients.blocking.first(&place, tickets.clone()) {
                let kind = self.keyspace.kind_of(db, name);
                if kind.is_none() && !self.clients.blocking.any_waits_for_absence() {
                    break;
                }
                if share.as_mut().is_some_and(Share::is_used_up) {
                    self.clients.blocking.interrupt(place, tickets);
                    self.conditions.set(Conditions::SERVING, true);
                    return;
                }
                tickets.start = ticket + 1;
                let waits = self.clients.get(key).and_then(|client| client.blocked.as_ref());
                if waits.is_some_and(|blocked| blocked.db == place.0 && blocked.wait.is_met_by(kind)) {
                    self.run_again(key);
                }
            }
        }
    }

    /// Serves those who are left of a change that concerns very many, if the request could tell that they are waiting
    /// still. It is not being executed yet.
    #[cold]
    pub(in crate::server) fn serve_rest_before(&mut self, spec: &Spec, args: &Args<'_>) {
        if self.execution.depth > 0 || !self.could_tell(spec, args) {
            return;
        }
        self.aside(|server| server.serve_ready(None));
        self.execution.command_started = self.event_loop.stopwatch.now();
    }

    /// Whether a request could tell that clients are waiting still who are to be served.
    fn could_tell(&self, spec: &Spec, args: &Args<'_>) -> bool {
        const DATA: Flags = Flags::WRITE.with(Flags::READONLY).with(Flags::MAY_REPLICATE);
        if spec.declares.is_some() || spec.flags.has(Flags::ENDS_MULTI.with(Flags::ADMIN)) {
            return true;
        }
        if !spec.has_keys() {
            return spec.flags.has(DATA);
        }
        let mut left = false;
        let complete = spec.each_key(args, &mut |at, flags| {
            left |= flags.has(KeyFlags::INCOMPLETE) || self.clients.blocking.is_left(args.at(at));
        });
        left || !complete
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
            Unblock::Answered(bytes) => _ = server.reply(key).raw(&bytes),
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
            Wait::Keys { .. }
            | Wait::Acknowledgements { .. }
            | Wait::Memory { .. }
            | Wait::Walk { .. }
            | Wait::Shutdown => {
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
        if self.clients.blocking.any_ready() || self.clients.blocking.is_interrupted() {
            self.serve_ready(Some(Share::default()));
        }
        // Those who are to be served are not late.
        while !self.clients.blocking.is_interrupted()
            && let Some(key) = self.clients.blocking.overdue(now)
        {
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
        let blocking = &self.clients.blocking;
        if (blocking.any_ready() || blocking.is_interrupted()) && self.persistence.loading.is_none() {
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
