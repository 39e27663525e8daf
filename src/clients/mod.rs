//! Connected clients, what each has chosen, and what they wait for.
#![warn(missing_docs)]

pub mod blocking;
pub mod client;
pub mod kept;
pub mod memory;
pub mod multi;
pub mod pubsub;
pub mod tracking;
pub mod watch;
pub mod withheld;

use crate::stdx::clock::UnixMillis;
use slab::Slab;

pub use client::{Client, ClientFlags, ClientKind, ReplicaEnd, ReplyMode};

/// A client's place: its socket is known by it in the poll as well.
///
/// Valid until the client is removed, which happens only between turns of the event loop. Unlike [`Client::id`],
/// which users see, a place is used again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ClientKey(pub usize);

/// A reference to a client that stays safe after the client has left; see [`Clients::resolve`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientRef {
    /// The place of the client.
    pub key: ClientKey,
    /// The identity of the client, by which a later client at the same place is recognised as another.
    pub id: u64,
}

/// Places for clients that are there from the start, and are kept when clients have left.
const PLACES_KEPT: usize = 64;

/// All connections.
pub struct Clients {
    slab: Slab<Client>,
    /// So many of these are nobody's.
    internal: usize,
    next_id: u64,
    /// Watched keys.
    pub watches: watch::Watches,
    /// Clients that wait for keys.
    pub blocking: blocking::Blocking,
    /// Subscriptions to channels and patterns.
    pub pubsub: pubsub::Registry,
    /// Keys tracked for clients' caches.
    pub tracking: tracking::Tracked,
    /// Memory of all connections.
    pub memory: memory::ClientMemory,
    /// Clients that see every command (`MONITOR`).
    pub monitors: Vec<ClientKey>,
}

impl Default for Clients {
    fn default() -> Clients {
        Clients {
            slab: Slab::with_capacity(PLACES_KEPT),
            next_id: 0,
            watches: watch::Watches::default(),
            blocking: blocking::Blocking::default(),
            pubsub: pubsub::Registry::default(),
            tracking: tracking::Tracked::default(),
            memory: memory::ClientMemory::default(),
            monitors: Vec::new(),
            internal: Default::default(),
        }
    }
}

impl Clients {
    /// Adds the connection that `make` creates from its identity and place.
    pub fn insert_with(&mut self, make: impl FnOnce(u64, ClientKey) -> Client) -> ClientKey {
        self.next_id += 1;
        let place = self.slab.vacant_entry();
        let key = ClientKey(place.key());
        place.insert(make(self.next_id, key));
        key
    }

    /// Adds a client that is nobody: see [`Client::internal`]. Lists of connections do not have it.
    pub fn insert_internal(&mut self, now: UnixMillis) -> ClientKey {
        self.internal += 1;
        ClientKey(self.slab.insert(Client::internal(now)))
    }

    /// Removes a client and returns it.
    pub fn remove(&mut self, key: ClientKey) -> Option<Client> {
        self.uncount_memory(key);
        let client = self.slab.try_remove(key.0)?;
        self.internal -= usize::from(client.is_internal());
        Some(client)
    }

    /// Frees unused places behind the last client. O(places) if there are many.
    pub fn shrink(&mut self) {
        if self.slab.capacity() > PLACES_KEPT.max(4 * self.slab.len()) {
            self.slab.shrink_to_fit();
            self.slab.reserve(PLACES_KEPT.saturating_sub(self.slab.len()));
        }
    }

    /// The client at `key`, if there is one.
    #[inline]
    pub fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.slab.get_mut(key.0)
    }

    /// The client at `key`, if there is one.
    #[inline]
    pub fn get(&self, key: ClientKey) -> Option<&Client> {
        self.slab.get(key.0)
    }

    /// A reference that may outlive the client.
    pub fn reference(&self, key: ClientKey) -> ClientRef {
        ClientRef { key, id: self[key].id }
    }

    /// The place of the client, if it is still connected. O(1).
    #[inline]
    pub fn resolve(&self, client: ClientRef) -> Option<ClientKey> {
        self.get(client.key).filter(|found| found.id == client.id).map(|_| client.key)
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.slab.len() - self.internal
    }

    /// Upper bound of places: every key is below it.
    pub fn places(&self) -> usize {
        self.slab.capacity()
    }

    /// Whether there are no connections.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All connections in order of place.
    pub fn iter(&self) -> impl Iterator<Item = (ClientKey, &Client)> {
        let all = self.slab.iter().map(|(i, client)| (ClientKey(i), client));
        all.filter(|(_, client)| !client.is_internal())
    }

    /// All connections in order of place, mutable.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ClientKey, &mut Client)> {
        let all = self.slab.iter_mut().map(|(i, client)| (ClientKey(i), client));
        all.filter(|(_, client)| !client.is_internal())
    }

    /// Places of all clients in the order in which they connected. O(clients log clients).
    pub fn by_age(&self) -> Vec<ClientKey> {
        let mut keys: Vec<_> = self.iter().map(|(key, client)| (client.id, key)).collect();
        keys.sort_unstable_by_key(|&(id, _)| id);
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// The client with the identity `id`. O(clients).
    pub fn find(&self, id: u64) -> Option<ClientKey> {
        self.iter().find(|(_, client)| client.id == id).map(|(key, _)| key)
    }
}

impl std::ops::Index<ClientKey> for Clients {
    type Output = Client;
    #[inline]
    fn index(&self, key: ClientKey) -> &Client {
        &self.slab[key.0]
    }
}

impl std::ops::IndexMut<ClientKey> for Clients {
    #[inline]
    fn index_mut(&mut self, key: ClientKey) -> &mut Client {
        &mut self.slab[key.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::io::Pool;
    use crate::net::stream::Stream;

    #[test]
    fn nobody_is_not_among_the_connections() {
        let now = UnixMillis(1);
        let mut clients = Clients::default();
        let nobody = clients.insert_internal(now);
        assert!(clients.is_empty());
        let (ours, _) = std::os::unix::net::UnixStream::pair().expect("descriptors are left");
        let somebody = clients.insert_with(|id, _| Client::new(id, Stream::from_unix(ours), now, true));
        assert_eq!((clients.len(), clients[somebody].id), (1, 1));
        assert_eq!(clients.by_age(), [somebody]);
        assert_eq!(clients.iter().map(|(key, _)| key).collect::<Vec<_>>(), [somebody]);
        assert_eq!(clients.iter_mut().map(|(key, _)| key).collect::<Vec<_>>(), [somebody]);
        assert_eq!(clients.find(clients[nobody].id), None);
        // It costs something, which is counted nowhere.
        clients[nobody].io.output.append(&[b'x'; 100_000], &mut Pool::default());
        clients.order_by_memory(true, now);
        clients.count_memory(somebody, now);
        assert_eq!(clients.memory.total(), clients[somebody].memory());
        assert_eq!(clients.memory.largest(), Some(somebody));
        assert!(clients.remove(nobody).is_some_and(|client| client.is_internal()));
        assert!(clients.remove(nobody).is_none());
        assert_eq!(clients.len(), 1);
    }
}
