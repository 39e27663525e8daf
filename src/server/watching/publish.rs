//! Messages that are not replies: to subscribers, and to clients that cache keys.
//!
//! A message is encoded once per protocol, however many clients receive it. A short message is copied to the end of
//! each client's output; a long one is shared by all. It is sent at the end of the event loop's iteration together
//! with the rest of the output.
//!
//! A client whose own request causes a message to it reads the whole reply to that request first, also if the
//! request is an EXEC, and receives the message even if it has switched replies off: see [`Answering`].

use bytes::Bytes;

use crate::clients::pubsub::{Name, Scope};
use crate::clients::{ClientFlags, ClientKey, ReplyMode};
use crate::net::io::{Output, Pool};
use crate::resp::{Protocol, Replied, Reply};
use crate::server::Server;
use crate::stdx::glob;

/// Size in bytes up to which a message is copied to each client.
///
/// A shared message costs a record in the client's output, a reference count, and a system call that gathers
/// several pieces. Together these cost about as much as copying some hundred bytes, and bytes copied next to a
/// reply leave with it in one piece. Ten thousand copies of a longer message would take more time, and memory.
const COPIED: usize = 1024;

/// The client whose request is being answered, and the messages that it gets after the reply.
#[derive(Default)]
pub struct Answering {
    client: Option<ClientKey>,
    /// Messages withheld until the reply is complete.
    later: Vec<u8>,
}

/// The state of [`Answering`] before a nested answer began.
#[derive(Clone, Copy)]
pub(in crate::server) struct OuterAnswer {
    client: Option<ClientKey>,
    /// Bytes withheld for the outer answer.
    later: usize,
}

/// An encoded message. The two protocols differ only in its first byte.
pub struct Message {
    bytes: Vec<u8>,
    shared: [Option<Bytes>; 2],
}

impl Message {
    /// Encodes a message of these strings.
    pub fn new(parts: &[&[u8]]) -> Self {
        let mut bytes = Vec::with_capacity(32 + parts.iter().map(|part| part.len() + 16).sum::<usize>());
        let mut reply = Reply::new(&mut bytes, Protocol::Resp3);
        reply.push(parts.len());
        for part in parts {
            reply.bulk(part);
        }
        Message::from_push(bytes)
    }

    /// A message from `bytes`, one RESP3 push whose elements look alike in both protocols.
    pub fn from_push(bytes: Vec<u8>) -> Self {
        debug_assert_eq!(bytes.first(), Some(&b'>'));
        Message { bytes, shared: [None, None] }
    }

    fn copy_to(&self, out: &mut Vec<u8>, protocol: Protocol) {
        out.push(first_byte(protocol));
        out.extend_from_slice(&self.bytes[1..]);
    }

    fn append_to(&mut self, output: &mut Output, pool: &mut Pool, protocol: Protocol) {
        self.bytes[0] = first_byte(protocol);
        output.append(&self.bytes, pool);
    }

    fn share(&mut self, protocol: Protocol) -> Bytes {
        let shared = &mut self.shared[usize::from(protocol == Protocol::Resp3)];
        let bytes = shared.get_or_insert_with(|| {
            let mut bytes = self.bytes.clone();
            bytes[0] = first_byte(protocol);
            Bytes::from(bytes)
        });
        bytes.clone()
    }
}

fn first_byte(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Resp2 => b'*',
        Protocol::Resp3 => b'>',
    }
}

impl Server {
    /// Begins the answer to a client's request: messages to the client are withheld until [`Server::end_answer`],
    /// which takes the returned outer state.
    #[inline]
    pub(in crate::server) fn begin_answer(&mut self, key: ClientKey) -> OuterAnswer {
        let answering = &mut self.execution.answering;
        OuterAnswer { client: answering.client.replace(key), later: answering.later.len() }
    }

    /// Ends the answer: the withheld messages follow the reply.
    #[inline]
    pub(in crate::server) fn end_answer(&mut self, outer: OuterAnswer) {
        let answering = &mut self.execution.answering;
        let answered = std::mem::replace(&mut answering.client, outer.client);
        if answering.later.len() > outer.later {
            self.send_withheld(answered, outer.later);
        }
    }

    /// Sends the messages withheld for a client, from byte `start` on.
    #[cold]
    fn send_withheld(&mut self, key: Option<ClientKey>, start: usize) {
        let later = self.execution.answering.later.split_off(start);
        if let Some(key) = key {
            self.clients[key].io.output.append(&later, &mut self.pool);
            self.written(key);
        }
    }

    /// The client whose request is being answered, if any.
    #[inline]
    pub(in crate::server) fn answering(&self) -> Option<ClientKey> {
        self.execution.answering.client
    }

    /// Sends a message to one client.
    pub(in crate::server) fn push(&mut self, key: ClientKey, message: &mut Message) {
        let client = &mut self.clients[key];
        let protocol = client.protocol;
        if self.execution.answering.client == Some(key) {
            message.copy_to(&mut self.execution.answering.later, protocol);
            return;
        }
        if client.is_closing() {
            return;
        }
        let output = &mut client.io.output;
        if message.bytes.len() <= COPIED {
            message.append_to(output, &mut self.pool, protocol);
        } else {
            output.append_shared(message.share(protocol));
        }
        self.written(key);
    }

    /// Sends a message to all listeners of a channel in a scope, and returns the number of deliveries. A client
    /// that listens through several patterns receives it, and counts, once per pattern.
    pub fn publish(&mut self, scope: Scope, channel: &[u8], payload: &[u8]) -> usize {
        let subscribers = self.clients.pubsub.take_subscribers(scope, channel);
        let mut reached = subscribers.len();
        if !subscribers.is_empty() {
            let kind: &[u8] = if scope == Scope::Shard { b"smessage" } else { b"message" };
            let mut message = Message::new(&[kind, channel, payload]);
            for &key in &subscribers {
                self.push(key, &mut message);
            }
            self.clients.pubsub.return_subscribers(scope, channel, subscribers);
        }
        if scope == Scope::Channel && self.clients.pubsub.len(Scope::Pattern) > 0 {
            let patterns = self.clients.pubsub.take_patterns();
            for (pattern, subscribers) in &patterns {
                if glob::matches(pattern, channel) {
                    let mut message = Message::new(&[b"pmessage", pattern, channel, payload]);
                    reached += subscribers.len();
                    for &key in subscribers {
                        self.push(key, &mut message);
                    }
                }
            }
            self.clients.pubsub.return_patterns(patterns);
        }
        reached
    }

    /// Subscribes a client to a channel or pattern, and confirms that to the client.
    pub fn subscribe(&mut self, key: ClientKey, scope: Scope, name: &[u8]) -> Replied {
        if self.clients.subscribe(key, scope, name) {
            self.update_event_listener();
        }
        let kind: &[u8] = match scope {
            Scope::Channel => b"subscribe",
            Scope::Pattern => b"psubscribe",
            Scope::Shard => b"ssubscribe",
        };
        self.confirm(key, scope, kind, Some(name))
    }

    /// Ends a client's subscription to a channel or pattern, if there is one, and confirms that to the client.
    pub fn unsubscribe(&mut self, key: ClientKey, scope: Scope, name: &[u8]) -> Replied {
        if self.clients.unsubscribe(key, scope, name) {
            self.update_event_listener();
        }
        self.confirm(key, scope, unsubscribed(scope), Some(name))
    }

    /// Ends all subscriptions of a client in one scope, with a confirmation for each, or a single one if there are
    /// none.
    pub fn unsubscribe_scope(&mut self, key: ClientKey, scope: Scope) -> Replied {
        let subscriptions = self.clients[key].subscriptions.as_ref();
        let names: Vec<Name> =
            subscriptions.into_iter().flat_map(|own| own.names(scope)).map(Name::clone).collect();
        if names.is_empty() {
            return self.confirm(key, scope, unsubscribed(scope), None);
        }
        for name in names {
            self.unsubscribe(key, scope, &name);
        }
        Replied::later()
    }

    /// Ends all subscriptions of a client, without confirmations.
    pub fn unsubscribe_all(&mut self, key: ClientKey) {
        self.clients.unsubscribe_all(key);
        self.update_event_listener();
    }

    /// Confirms a subscription or its end with the number of subscriptions that remain. The client reads the
    /// confirmation in place of a reply, and even if it has switched replies off.
    fn confirm(&mut self, key: ClientKey, scope: Scope, kind: &[u8], name: Option<&[u8]>) -> Replied {
        let client = &mut self.clients[key];
        let own = client.subscriptions.as_ref();
        let count = own.map_or(0, |own| match scope {
            Scope::Shard => own.len(Scope::Shard),
            _ => own.len(Scope::Channel) + own.len(Scope::Pattern),
        });
        let mut reply = match client.reply_mode {
            ReplyMode::On => client.io.output.reply(client.protocol),
            _ => Reply::new(&mut self.execution.answering.later, client.protocol),
        };
        reply.push(3);
        reply.bulk(kind);
        reply.bulk_or_null(name);
        reply.int(count as i64)
    }

    /// Forgets the subscriptions and tracked keys of a client that disconnects.
    pub(in crate::server) fn leave(&mut self, key: ClientKey) {
        if self.clients[key].flags.has(ClientFlags::SUBSCRIBED) {
            self.unsubscribe_all(key);
        }
        if self.clients[key].tracking.is_some() {
            self.untrack(key);
        }
        if self.clients[key].flags.has(ClientFlags::READS_REMEMBERED) {
            self.forget_reader(key);
        }
    }
}

fn unsubscribed(scope: Scope) -> &'static [u8] {
    match scope {
        Scope::Channel => b"unsubscribe",
        Scope::Pattern => b"punsubscribe",
        Scope::Shard => b"sunsubscribe",
    }
}
