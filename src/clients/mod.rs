//! Who is connected, and who waits for what.

pub mod blocking;
pub mod client;
pub mod held;
pub mod kept;
pub mod memory;
pub mod multi;
pub mod pubsub;
pub mod tracking;
pub mod watch;

use slab::Slab;

pub use client::{Client, ClientFlags, ClientKind, ReplyMode};

/// A client's place: also the token of its socket in the poll.
///
/// Valid until the client is freed, which happens between turns of the event loop only. The
/// identity that users see, and that is never used twice, is [`Client::id`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct ClientKey(pub usize);

/// A client that others remember, for as long as it is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientRef {
    pub key: ClientKey,
    pub id: u64,
}

/// Places for clients that are there from the start, and are kept when clients have left.
const PLACES_KEPT: usize = 64;

/// All connections.
pub struct Clients {
    slab: Slab<Client>,
    next_id: u64,
    pub watches: watch::Watches,
    pub blocking: blocking::Blocking,
    pub pubsub: pubsub::Registry,
    pub tracking: tracking::Tracked,
    pub memory: memory::ClientMemory,
    /// Those that see every command (`MONITOR`).
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
        }
    }
}

impl Clients {
    /// Adds a connection; it is made knowing its identity and its place.
    pub fn insert_with(&mut self, make: impl FnOnce(u64, ClientKey) -> Client) -> ClientKey {
        self.next_id += 1;
        let place = self.slab.vacant_entry();
        let key = ClientKey(place.key());
        place.insert(make(self.next_id, key));
        key
    }

    /// Takes a client in again that was handed out by [`Clients::remove`].
    pub fn take_back(&mut self, client: Client) -> ClientKey {
        ClientKey(self.slab.insert(client))
    }

    /// Forgets a connection and hands it back.
    pub fn remove(&mut self, key: ClientKey) -> Option<Client> {
        self.uncount_memory(key);
        self.slab.try_remove(key.0)
    }

    /// Frees the room of clients that have left, as far as nobody's place is behind theirs. O(places) if there is much.
    pub fn shrink(&mut self) {
        if self.slab.capacity() > PLACES_KEPT.max(4 * self.slab.len()) {
            self.slab.shrink_to_fit();
            self.slab.reserve(PLACES_KEPT.saturating_sub(self.slab.len()));
        }
    }

    /// The connection at `key`, if there still is one.
    #[inline]
    pub fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.slab.get_mut(key.0)
    }

    /// The connection at `key`, if there still is one.
    #[inline]
    pub fn get(&self, key: ClientKey) -> Option<&Client> {
        self.slab.get(key.0)
    }

    /// A reference to a client that outlives it.
    pub fn reference(&self, key: ClientKey) -> ClientRef {
        ClientRef { key, id: self[key].id }
    }

    /// Where the client is, if it still is connected. O(1).
    #[inline]
    pub fn resolve(&self, client: ClientRef) -> Option<ClientKey> {
        self.get(client.key).filter(|found| found.id == client.id).map(|_| client.key)
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// All keys are below this.
    pub fn places(&self) -> usize {
        self.slab.capacity()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// All connections, oldest place first.
    pub fn iter(&self) -> impl Iterator<Item = (ClientKey, &Client)> {
        self.slab.iter().map(|(i, client)| (ClientKey(i), client))
    }

    /// All connections, for changes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ClientKey, &mut Client)> {
        self.slab.iter_mut().map(|(i, client)| (ClientKey(i), client))
    }

    /// The connections' keys in the order they connected.
    pub fn by_age(&self) -> Vec<ClientKey> {
        let mut keys: Vec<_> = self.slab.iter().map(|(i, client)| (client.id, ClientKey(i))).collect();
        keys.sort_unstable_by_key(|&(id, _)| id);
        keys.into_iter().map(|(_, key)| key).collect()
    }

    /// The connection with the identity `id`. O(connections).
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
