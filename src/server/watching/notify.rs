//! Keyspace notifications: changes of keys, published for subscribers of the key or of the event.
//!
//! Each event is published twice: on a channel named after the key, with the event as the message, and on a channel
//! named after the event, with the key as the message. Events of commands on hashes are also published with the names of
//! the fields that they are about, on channels of four more kinds. `notify-keyspace-events` chooses the kinds of channels
//! and the classes of events; by default none. The ledger records events for this only while some are chosen and some
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
        Class::Overwritten => KeyspaceEvents::OVERWRITTEN,
        Class::TypeChanged => KeyspaceEvents::TYPE_CHANGED,
    })
}

impl Server {
    /// Makes the ledger record events if they can reach a subscriber. Call this when the configuration or the
    /// subscriptions have changed.
    pub(in crate::server) fn update_event_listener(&mut self) {
        let chosen = self.config.advanced.notify_keyspace_events;
        let heard = !chosen.is_silent() && self.clients.pubsub.hears_channels();
        let listeners = &mut self.keyspace.ledger.listeners;
        listeners.set(Listeners::NOTIFY, heard);
        listeners.set(Listeners::PARTS, heard && chosen.has(KeyspaceEvents::OF_PARTS));
    }

    /// Publishes the events of a command, in order. `keys` holds the names of the changed keys, and of the parts of their
    /// values.
    pub(in crate::server) fn notify(&mut self, changes: &[Change], keys: &[u8]) {
        let chosen = self.config.advanced.notify_keyspace_events;
        // What the next event is about.
        let mut parts: Vec<&[u8]> = Vec::new();
        for change in changes {
            let (db, key, event) = match change {
                Change::Key { db, key, event }
                | Change::Beside { db, key, event }
                | Change::Gone { db, key, event }
                | Change::EventOnly { db, key, event } => (*db, &keys[key.clone()], event),
                Change::Part { part } | Change::FieldGone { field: part, .. } => {
                    parts.push(&keys[part.clone()]);
                    continue;
                }
                Change::Flushed { .. } | Change::Swapped { .. } => continue,
            };
            if chosen_by(event.class).is_some_and(|class| chosen.covers(class)) {
                self.publish_event(chosen, db, key, event.name.as_bytes(), &parts);
            }
            parts.clear();
        }
    }

    /// Publishes an event on the chosen kinds of channels.
    fn publish_event(&mut self, chosen: KeyspaceEvents, db: u32, key: &[u8], name: &[u8], parts: &[&[u8]]) {
        let (mut channel, mut digits) = (Vec::new(), itoa::Buffer::new());
        let db = digits.format(db).as_bytes();
        let mut publish = |kind: &[u8], about: &[&[u8]], message: &[u8]| {
            channel.clear();
            for part in [b"__", kind, b"@", db, b"__:"].into_iter().chain(about.iter().copied()) {
                channel.extend_from_slice(part);
            }
            self.publish(Scope::Channel, &channel, message);
        };
        if chosen.covers(KeyspaceEvents::KEYSPACE) {
            publish(b"keyspace", &[key], name);
        }
        if chosen.covers(KeyspaceEvents::KEYEVENT) {
            publish(b"keyevent", &[name], key);
        }
        if parts.is_empty() || !chosen.has(KeyspaceEvents::OF_PARTS) {
            return;
        }
        let list = list_of(parts);
        // No event has a `|` in its name, which ends the name here.
        if chosen.covers(KeyspaceEvents::SUBKEYSPACE) {
            publish(b"subkeyspace", &[key], &[name, b"|", &list].concat());
        }
        if chosen.covers(KeyspaceEvents::SUBKEYEVENT) {
            publish(b"subkeyevent", &[name], &[&list_of(&[key])[..], b"|", &list].concat());
        }
        if chosen.covers(KeyspaceEvents::SUBKEYSPACEITEM) && !key.contains(&b'\n') {
            for part in parts {
                publish(b"subkeyspaceitem", &[key, b"\n", part], name);
            }
        }
        if chosen.covers(KeyspaceEvents::SUBKEYSPACEEVENT) {
            publish(b"subkeyspaceevent", &[name, b"|", key], &list);
        }
    }
}

/// The names with their lengths, as in `1:a,2:bc`.
fn list_of(names: &[&[u8]]) -> Vec<u8> {
    let mut list = Vec::new();
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            list.push(b',');
        }
        list.extend_from_slice(itoa::Buffer::new().format(name.len()).as_bytes());
        list.push(b':');
        list.extend_from_slice(name);
    }
    list
}
