//! Subscriptions of clients to channels and patterns.
//!
//! Both directions are kept: from a channel to its subscribers, to deliver messages, and from a client to its
//! channels. A client remembers its place among a channel's subscribers, so that removing it costs nothing for the
//! other subscribers of the channel; the subscriber that moves into the free place has its own record corrected. What
//! always holds:
//!
//! - a client that has subscribed to a name is among the subscribers of that name, at the place it remembers;
//! - a name without subscribers is not in the registry, and a client without subscriptions has no [`Subscriptions`];
//! - [`ClientFlags::SUBSCRIBED`] says whether a client has subscriptions.

use std::mem;
use std::sync::Arc;

use super::{ClientFlags, ClientKey, Clients};
use crate::stdx::hash::Map;

/// What a name stands for. Names of different scopes are independent of each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// A channel.
    Channel,
    /// All channels that match a pattern.
    Pattern,
    /// A channel that belongs to a cluster slot, as keys do.
    Shard,
}

impl Scope {
    /// All scopes; `ALL[s as usize] == s`.
    pub const ALL: [Scope; 3] = [Scope::Channel, Scope::Pattern, Scope::Shard];
}

/// Name of a channel, or a pattern. Its bytes are shared by everything that refers to it.
pub type Name = Arc<[u8]>;

/// Subscribers by name.
#[derive(Default)]
pub struct Registry {
    names: [Map<Name, Vec<ClientKey>>; Scope::ALL.len()],
}

/// Names that one client has subscribed to, with the client's places among their subscribers.
#[derive(Default)]
pub struct Subscriptions {
    names: [Map<Name, u32>; Scope::ALL.len()],
    /// Bytes of all names.
    name_bytes: usize,
}

impl Subscriptions {
    /// Number of names in one scope.
    pub fn len(&self, scope: Scope) -> usize {
        self.names[scope as usize].len()
    }

    /// Whether there are no subscriptions in any scope.
    pub fn is_empty(&self) -> bool {
        self.names.iter().all(Map::is_empty)
    }

    /// The names in one scope, in no particular order.
    pub fn names(&self, scope: Scope) -> impl Iterator<Item = &Name> {
        self.names[scope as usize].keys()
    }

    /// Bytes allocated. The names count in full, though others share them. O(1).
    pub fn memory(&self) -> usize {
        let places = self.names.iter().map(Map::capacity).sum::<usize>();
        size_of::<Self>() + places * size_of::<(Name, u32)>() + self.name_bytes
    }
}

/// Frees the space of a table that is mostly empty.
fn shrink<K: Eq + std::hash::Hash, V>(map: &mut Map<K, V>) {
    if map.capacity() > 64 && map.len() < map.capacity() / 8 {
        map.shrink_to(map.len() * 2);
    }
}

impl Registry {
    /// Number of names in one scope.
    pub fn len(&self, scope: Scope) -> usize {
        self.names[scope as usize].len()
    }

    /// Whether there are no subscriptions at all.
    pub fn is_empty(&self) -> bool {
        self.names.iter().all(Map::is_empty)
    }

    /// Whether a message published to a channel can reach a client.
    pub fn hears_channels(&self) -> bool {
        self.len(Scope::Channel) > 0 || self.len(Scope::Pattern) > 0
    }

    /// The names in one scope, in no particular order.
    pub fn names(&self, scope: Scope) -> impl Iterator<Item = &Name> {
        self.names[scope as usize].keys()
    }

    /// Number of subscribers of a name.
    pub fn subscribers(&self, scope: Scope, name: &[u8]) -> usize {
        self.names[scope as usize].get(name).map_or(0, Vec::len)
    }

    /// Takes the subscribers of a name out of the registry, to iterate over them while sending. They must be returned
    /// by [`Registry::return_subscribers`] before any subscription changes.
    pub fn take_subscribers(&mut self, scope: Scope, name: &[u8]) -> Vec<ClientKey> {
        self.names[scope as usize].get_mut(name).map(mem::take).unwrap_or_default()
    }

    /// Returns subscribers taken by [`Registry::take_subscribers`].
    pub fn return_subscribers(&mut self, scope: Scope, name: &[u8], subscribers: Vec<ClientKey>) {
        if let Some(place) = self.names[scope as usize].get_mut(name) {
            *place = subscribers;
        }
    }

    /// Takes all patterns and their subscribers out of the registry. They must be returned by
    /// [`Registry::return_patterns`] before any subscription changes.
    pub fn take_patterns(&mut self) -> Map<Name, Vec<ClientKey>> {
        mem::take(&mut self.names[Scope::Pattern as usize])
    }

    /// Returns patterns taken by [`Registry::take_patterns`].
    pub fn return_patterns(&mut self, patterns: Map<Name, Vec<ClientKey>>) {
        self.names[Scope::Pattern as usize] = patterns;
    }
}

impl Clients {
    /// Subscribes a client to a name. Returns false if it was subscribed already. O(1).
    pub fn subscribe(&mut self, key: ClientKey, scope: Scope, name: &[u8]) -> bool {
        let client = &mut self.slab[key.0];
        let Subscriptions { names, name_bytes } = &mut **client.subscriptions.get_or_insert_default();
        let own = &mut names[scope as usize];
        if own.contains_key(name) {
            return false;
        }
        *name_bytes += name.len();
        let known = &mut self.pubsub.names[scope as usize];
        let name = known.get_key_value(name).map_or_else(|| Name::from(name), |(name, _)| Name::clone(name));
        let subscribers = known.entry(Name::clone(&name)).or_default();
        own.insert(name, u32::try_from(subscribers.len()).expect("clients are fewer than descriptors"));
        subscribers.push(key);
        client.flags.set(ClientFlags::SUBSCRIBED, true);
        true
    }

    /// Ends a client's subscription to a name. Returns false if it had none. O(1).
    pub fn unsubscribe(&mut self, key: ClientKey, scope: Scope, name: &[u8]) -> bool {
        let client = &mut self.slab[key.0];
        let Some(subscriptions) = &mut client.subscriptions else { return false };
        let own = &mut subscriptions.names[scope as usize];
        let Some(place) = own.remove(name) else { return false };
        shrink(own);
        subscriptions.name_bytes -= name.len();
        if subscriptions.is_empty() {
            client.subscriptions = None;
            client.flags.set(ClientFlags::SUBSCRIBED, false);
        }
        self.vacate(scope, name, place);
        true
    }

    /// Ends all subscriptions of a client. O(its subscriptions).
    pub fn unsubscribe_all(&mut self, key: ClientKey) {
        let client = &mut self.slab[key.0];
        client.flags.set(ClientFlags::SUBSCRIBED, false);
        let Some(subscriptions) = client.subscriptions.take() else { return };
        for (scope, names) in Scope::ALL.into_iter().zip(subscriptions.names) {
            for (name, place) in names {
                self.vacate(scope, &name, place);
            }
        }
    }

    /// Removes the subscriber at `place` of a name; the last subscriber moves into the place.
    fn vacate(&mut self, scope: Scope, name: &[u8], place: u32) {
        let known = &mut self.pubsub.names[scope as usize];
        let subscribers = known.get_mut(name).expect("a client's names are in the registry");
        subscribers.swap_remove(place as usize);
        if subscribers.is_empty() {
            known.remove(name);
            shrink(known);
            return;
        }
        if subscribers.capacity() > 16 && subscribers.len() < subscribers.capacity() / 4 {
            subscribers.shrink_to(subscribers.len() * 2);
        }
        if let Some(moved) = subscribers.get(place as usize) {
            let subscriptions = self.slab[moved.0].subscriptions.as_mut();
            let places = &mut subscriptions.expect("subscribers have subscriptions").names[scope as usize];
            *places.get_mut(name).expect("a subscriber knows what it subscribed to") = place;
        }
    }

    /// Asserts the invariants. O(subscriptions).
    #[cfg(test)]
    pub(super) fn check_subscriptions(&self) {
        let mut places = [0; Scope::ALL.len()];
        for (key, client) in self.iter() {
            assert_eq!(client.flags.has(ClientFlags::SUBSCRIBED), client.subscriptions.is_some());
            let Some(subscriptions) = &client.subscriptions else { continue };
            assert!(!subscriptions.is_empty());
            let names = subscriptions.names.iter().flat_map(Map::keys);
            assert_eq!(subscriptions.name_bytes, names.map(|name| name.len()).sum::<usize>());
            for scope in Scope::ALL {
                for (name, &place) in &subscriptions.names[scope as usize] {
                    assert_eq!(self.pubsub.names[scope as usize][name][place as usize], key);
                    places[scope as usize] += 1;
                }
            }
        }
        for scope in Scope::ALL {
            let lists = self.pubsub.names[scope as usize].values();
            assert_eq!(lists.clone().map(Vec::len).sum::<usize>(), places[scope as usize]);
            assert!(lists.into_iter().all(|list| !list.is_empty()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::clients::Client;
    use crate::net::stream::Stream;
    use crate::stdx::clock::UnixMillis;
    use crate::stdx::rng::Rng;

    fn connect(clients: &mut Clients) -> ClientKey {
        let (ours, _) = UnixStream::pair().expect("descriptors are left");
        clients.insert_with(|id, _| Client::new(id, Stream::from_unix(ours), UnixMillis(0), true))
    }

    #[test]
    fn both_directions_agree_with_a_set_of_pairs() {
        let seed = rand::random();
        let mut rng = Rng::new(seed);
        let mut clients = Clients::default();
        let mut model: BTreeSet<(usize, usize, Vec<u8>)> = BTreeSet::new();
        let mut connected: Vec<ClientKey> = (0..8).map(|_| connect(&mut clients)).collect();
        for step in 0..3000 {
            let at = rng.index(connected.len());
            let (key, scope) = (connected[at], Scope::ALL[rng.index(3)]);
            let name = format!("name{}", rng.below(12)).into_bytes();
            let pair = (key.0, scope as usize, name.clone());
            match rng.below(20) {
                0 => {
                    clients.unsubscribe_all(key);
                    clients.remove(key);
                    model.retain(|pair| pair.0 != key.0);
                    connected[at] = connect(&mut clients);
                }
                1..=11 => {
                    let new = clients.subscribe(key, scope, &name);
                    assert_eq!(new, model.insert(pair), "step {step} of seed {seed}");
                }
                _ => {
                    let was = clients.unsubscribe(key, scope, &name);
                    assert_eq!(was, model.remove(&pair), "step {step} of seed {seed}");
                }
            }
            clients.check_subscriptions();
            let expected = model.iter().filter(|pair| pair.1 == scope as usize && pair.2 == name).count();
            assert_eq!(clients.pubsub.subscribers(scope, &name), expected, "step {step} of seed {seed}");
        }
        for key in connected {
            clients.unsubscribe_all(key);
        }
        clients.check_subscriptions();
        assert!(clients.pubsub.is_empty());
    }

    #[test]
    fn many_subscribers_leave_no_room_behind() {
        let mut clients = Clients::default();
        let keys: Vec<ClientKey> = (0..200).map(|_| connect(&mut clients)).collect();
        for &key in &keys {
            clients.subscribe(key, Scope::Channel, b"news");
            clients.subscribe(key, Scope::Pattern, format!("own{}", key.0).as_bytes());
        }
        for &key in &keys[1..] {
            clients.unsubscribe_all(key);
        }
        clients.check_subscriptions();
        assert!(clients.pubsub.names[0][&b"news"[..]].capacity() < 20);
        assert!(clients.pubsub.names[1].capacity() < 100);
    }
}
