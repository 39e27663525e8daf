//! Keyspace notifications: changes of keys, published for subscribers of the key or of the event.
//!
//! Each event is published twice: on a channel named after the key, with the event as the message, and on a channel
//! named after the event, with the key as the message. `notify-keyspace-events` chooses the kinds of channels and
//! the classes of events; by default none. The ledger records events for this only while some are chosen and some
//! client has a subscription.

use crate::clients::pubsub::Scope;
use crate::config::value::KeyspaceEvents;
use crate::keyspace::ledger::{Change, Class, Listeners};
use crate::server::Server;

/// The configuration bit that chooses a class of events; `None` for classes that are never published.
fn chosen_by(class: Class) -> Option<KeyspaceEvents> {
    Some(match class {
        Class::Silent => return None,
        Class::Generic => KeyspaceEvents::GENERIC,
        Class::String => KeyspaceEvents::STRING,
        Class::List => KeyspaceEvents::LIST,
        Class::Set => KeyspaceEvents::SET,
        Class::Hash => KeyspaceEvents::HASH,
        Class::Zset => KeyspaceEvents::ZSET,
        Class::Stream => KeyspaceEvents::STREAM,
        Class::Expired => KeyspaceEvents::EXPIRED,
        Class::Evicted => KeyspaceEvents::EVICTED,
        Class::New => KeyspaceEvents::NEW,
        Class::Miss => KeyspaceEvents::KEY_MISS,
    })
}

impl Server {
    /// Makes the ledger record events if they can reach a subscriber. Call this when the configuration or the
    /// subscriptions have changed.
    pub(in crate::server) fn update_event_listener(&mut self) {
        let silent = self.config.advanced.notify_keyspace_events.is_silent();
        let heard = !silent && self.clients.pubsub.hears_channels();
        self.keyspace.ledger.listeners.set(Listeners::NOTIFY, heard);
    }

    /// Publishes the events of a command, in order. `keys` holds the names of the changed keys.
    pub(in crate::server) fn notify(&mut self, changes: &[Change], keys: &[u8]) {
        let chosen = self.config.advanced.notify_keyspace_events;
        let mut channel = Vec::new();
        let mut digits = itoa::Buffer::new();
        for change in changes {
            let (Change::Key { db, key, event }
            | Change::Beside { db, key, event }
            | Change::Gone { db, key, event }
            | Change::EventOnly { db, key, event }) = change
            else {
                continue;
            };
            if !chosen_by(event.class).is_some_and(|class| chosen.covers(class)) {
                continue;
            }
            let (key, name, db) = (&keys[key.clone()], event.name.as_bytes(), digits.format(*db).as_bytes());
            let mut publish = |kind: &[u8], about: &[u8], message: &[u8]| {
                channel.clear();
                for part in [kind, db, b"__:", about] {
                    channel.extend_from_slice(part);
                }
                self.publish(Scope::Channel, &channel, message);
            };
            if chosen.covers(KeyspaceEvents::KEYSPACE) {
                publish(b"__keyspace@", key, name);
            }
            if chosen.covers(KeyspaceEvents::KEYEVENT) {
                publish(b"__keyevent@", name, key);
            }
        }
    }
}
