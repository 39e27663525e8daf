//! Client-side caching: a client is notified when a key that it may have cached changes.
//!
//! The keys that a command reads follow from its table entry; handlers know nothing of tracking. A client that
//! speaks RESP3 receives pushes; a client that speaks RESP2 names another connection, which receives them as
//! messages of a channel. Messages about keys that were read leave with the change, messages about prefixes at the
//! end of the event loop's iteration.

use crate::clients::tracking::{Broadcast, Caching, ReadKey, Tracking};
use crate::clients::{ClientFlags, ClientKey};
use crate::keyspace::ledger::{Change, Listeners};
use crate::resp::{Args, Protocol, Reply};
use crate::server::Server;
use crate::server::command::{Acl, Flags, Spec};
use crate::server::execution::admission::Conditions;
use crate::server::watching::publish::Message;

/// Channel of the messages for RESP2 connections.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// Keys forgotten in one step when too many are remembered.
const STEP: usize = 100;

/// A message about changed keys, encoded in each of its two forms when first needed.
struct Invalidation {
    /// The keys as a RESP array.
    keys: Vec<u8>,
    push: Option<Message>,
    message: Option<Message>,
}

impl Invalidation {
    fn of_keys<'k>(keys: impl ExactSizeIterator<Item = &'k [u8]>) -> Self {
        let mut array = Vec::new();
        let mut reply = Reply::new(&mut array, Protocol::Resp3);
        reply.array(keys.len());
        for key in keys {
            reply.bulk(key);
        }
        Invalidation { keys: array, push: None, message: None }
    }

    /// All keys have changed: a null replaces the keys, in the tracked client's protocol.
    fn of_everything(protocol: Protocol) -> Self {
        let mut null = Vec::new();
        Reply::new(&mut null, protocol).null();
        Invalidation { keys: null, push: None, message: None }
    }
}

/// Encodes a message of some strings and, as its last element, `keys`.
fn encode(strings: &[&[u8]], keys: &[u8]) -> Message {
    let mut bytes = Vec::with_capacity(64 + keys.len());
    let mut reply = Reply::new(&mut bytes, Protocol::Resp3);
    reply.push(strings.len() + 1);
    for string in strings {
        reply.bulk(string);
    }
    reply.raw(keys);
    Message::from_push(bytes)
}

impl Server {
    /// Starts or changes the tracking of a client; `prefixes` are added to the ones it has.
    pub fn track(&mut self, key: ClientKey, wanted: Tracking, prefixes: &[&[u8]]) {
        self.clients.track(key, wanted, prefixes);
        self.keyspace.ledger.listeners.set(Listeners::TRACKING, true);
    }

    /// Ends the tracking of a client.
    pub fn untrack(&mut self, key: ClientKey) {
        self.clients.untrack(key);
        let any = self.clients.tracking.concerns_anybody();
        self.keyspace.ledger.listeners.set(Listeners::TRACKING, any);
    }

    /// Forgets that a client, which disconnects, has read keys.
    pub(in crate::server) fn forget_reader(&mut self, key: ClientKey) {
        let forgotten = self.clients.forget_reader(key);
        self.keyspace.reclaimer.later(forgotten, 0, 0);
        let any = self.clients.tracking.concerns_anybody();
        self.keyspace.ledger.listeners.set(Listeners::TRACKING, any);
    }

    /// Remembers the keys that a command has just read for a client, if the client tracks them.
    #[cold]
    pub(in crate::server) fn remember_keys(&mut self, key: ClientKey, spec: &Spec, args: &Args<'_>) {
        // Keys read by a script are remembered when the script reads them, not when it is called.
        if !spec.flags.has(Flags::READONLY) || spec.acl.has(Acl::SCRIPTING) {
            return;
        }
        let key = self.on_behalf_of(key);
        let client = &self.clients[key];
        let Some(tracking) = &client.tracking else { return };
        let chose = client.flags.has(ClientFlags::CHOSE_CACHING);
        let wanted = match tracking.caching {
            Caching::Always => true,
            Caching::OptIn => chose,
            Caching::OptOut => !chose,
        };
        if !wanted {
            return;
        }
        let reader = self.clients.reference(key);
        let tracked = &mut self.clients.tracking;
        spec.each_key(args, &mut |i, _| tracked.remember(args.at(i), reader));
        self.check_tracked();
    }

    /// Ends the effect of CLIENT CACHING, which lasts for one command or one transaction.
    #[cold]
    pub(in crate::server) fn used_caching(&mut self, key: ClientKey, keeps: bool) {
        let client = &mut self.clients[key];
        if !keeps && !client.flags.has(ClientFlags::IN_MULTI) {
            client.flags.set(ClientFlags::CHOSE_CACHING, false);
        }
    }

    /// Notifies the clients that may have cached the changed keys.
    pub(in crate::server) fn invalidate(&mut self, changes: &[Change], keys: &[u8]) {
        let by = self.answering();
        for change in changes {
            match change {
                Change::Key { key, .. } => self.invalidate_key(&keys[key.clone()], by),
                // No client caused this change, so it is reported also to clients that skip their own changes.
                Change::Gone { key, .. } | Change::FieldGone { key, .. } => {
                    self.invalidate_key(&keys[key.clone()], None)
                }
                Change::Flushed { .. } => self.invalidate_everything(),
                Change::Beside { .. }
                | Change::Part { .. }
                | Change::EventOnly { .. }
                | Change::Swapped { .. } => {}
            }
        }
    }

    fn invalidate_key(&mut self, key: &[u8], by: Option<ClientKey>) {
        self.clients.tracking.changed(key, by);
        if let Some(read) = self.clients.tracking.forget(key) {
            self.notify_readers(&read, by);
        }
    }

    fn notify_readers(&mut self, read: &ReadKey, by: Option<ClientKey>) {
        let mut news = Invalidation::of_keys([read.key()].into_iter());
        for reader in read.readers() {
            let Some(reader) = self.clients.resolve(reader) else { continue };
            let tracking = self.clients[reader].tracking.as_ref();
            let spared = by == Some(reader);
            let told = tracking.is_some_and(|own| !(own.broadcast || spared && own.no_loop));
            if told {
                self.notify_client(reader, &mut news);
            }
        }
    }

    fn invalidate_everything(&mut self) {
        if self.clients.tracking.keys() > 0 {
            let forgotten = self.clients.tracking.forget_all();
            self.keyspace.reclaimer.later(forgotten, 0, 0);
        }
        let mut news = [Protocol::Resp2, Protocol::Resp3].map(Invalidation::of_everything);
        let tracking: Vec<(ClientKey, Protocol)> = self
            .clients
            .iter()
            .filter(|(_, client)| client.tracking.is_some())
            .map(|(key, client)| (key, client.protocol))
            .collect();
        for (key, protocol) in tracking {
            self.notify_client(key, &mut news[usize::from(protocol == Protocol::Resp3)]);
        }
    }

    /// Notifies a tracked client, or the connection that it redirects to.
    fn notify_client(&mut self, tracking: ClientKey, news: &mut Invalidation) {
        let client = &mut self.clients[tracking];
        let protocol = client.protocol;
        let Some(own) = &mut client.tracking else { return };
        let redirect = own.redirect;
        let told = match redirect {
            None => tracking,
            Some(other) => match self.clients.resolve(other) {
                Some(key) => key,
                None => {
                    if let Some(own) = &mut self.clients[tracking].tracking {
                        own.broken = true;
                    }
                    if protocol == Protocol::Resp3 {
                        let mut bytes = Vec::new();
                        let mut reply = Reply::new(&mut bytes, protocol);
                        reply.push(2);
                        reply.bulk(b"tracking-redir-broken");
                        reply.int(other.id as i64);
                        self.push(tracking, &mut Message::from_push(bytes));
                    }
                    return;
                }
            },
        };
        let client = &self.clients[told];
        let Invalidation { keys, push, message } = news;
        let form = if client.protocol == Protocol::Resp3 {
            push.get_or_insert_with(|| encode(&[b"invalidate"], keys))
        } else if redirect.is_some() && client.flags.has(ClientFlags::SUBSCRIBED) {
            message.get_or_insert_with(|| encode(&[b"message", CHANNEL], keys))
        } else {
            return;
        };
        self.push(told, form);
    }

    /// Sends the changed keys of all prefixes. Called at the end of each iteration of the event loop.
    pub(in crate::server) fn broadcast_changes(&mut self) {
        while let Some(Broadcast { listeners, changed }) = self.clients.tracking.take_pending() {
            let mut all = Invalidation::of_keys(changed.iter().map(|(key, _)| &**key));
            for listener in listeners {
                let no_loop = self.clients[listener].tracking.as_ref().is_some_and(|own| own.no_loop);
                if no_loop && changed.iter().any(|(_, by)| *by == Some(listener)) {
                    let others = changed.iter().filter(|(_, by)| *by != Some(listener));
                    let others: Vec<&[u8]> = others.map(|(key, _)| &**key).collect();
                    if !others.is_empty() {
                        self.notify_client(listener, &mut Invalidation::of_keys(others.into_iter()));
                    }
                } else {
                    self.notify_client(listener, &mut all);
                }
            }
        }
    }

    /// Records whether more keys are remembered than allowed.
    pub(in crate::server) fn check_tracked(&mut self) {
        let limit = self.config.security.tracking_table_max_keys;
        let full = limit > 0 && self.clients.tracking.keys() as u64 > limit;
        self.conditions.set(Conditions::TRACKING_FULL, full);
    }

    /// Forgets random keys while more are remembered than allowed, and notifies their readers. Runs one step per
    /// command and timer tick; the steps grow while one after another is not enough.
    #[cold]
    pub(in crate::server) fn limit_tracked(&mut self) {
        let limit = self.config.security.tracking_table_max_keys as usize;
        let effort = STEP * (self.clients.tracking.hurry + 1);
        for _ in 0..effort {
            if self.clients.tracking.keys() <= limit {
                break;
            }
            let Some(read) = self.clients.tracking.forget_random(&mut self.keyspace.rng) else { break };
            self.notify_readers(&read, None);
        }
        self.check_tracked();
        let full = self.conditions.has(Conditions::TRACKING_FULL);
        self.clients.tracking.hurry = if full { self.clients.tracking.hurry + 1 } else { 0 };
    }
}
