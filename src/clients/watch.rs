//! Keys watched for optimistic locking, and the clients that watch them.
//!
//! A change only marks the clients that watch the key; they learn of it at EXEC. Whether the key existed is
//! remembered when the watch begins, because after a flush or a swap of databases it could not be determined.

use std::collections::HashMap;

use super::ClientKey;

/// One client's watch on one key.
#[derive(Clone, Copy, Debug)]
struct Watcher {
    client: ClientKey,
    /// Whether the key existed, and was not expired, when the watch began.
    existed: bool,
}

/// Bytes that a client's watch on a key costs, in addition to the bytes of the key. Those are stored twice: here, as
/// most keys have one watcher, and with the client.
pub const WATCH_BYTES: usize =
    size_of::<((u32, Box<[u8]>), Vec<Watcher>)>() + size_of::<Watcher>() + size_of::<(u32, Box<[u8]>)>();

/// All watches.
#[derive(Default)]
pub struct Watches {
    by_key: HashMap<(u32, Box<[u8]>), Vec<Watcher>>,
}

/// Database and key of each watch of a client.
pub type Watched = Vec<(u32, Box<[u8]>)>;

impl Watches {
    /// Begins a watch. Returns false if the client watches the key already.
    pub fn add(&mut self, client: ClientKey, db: u32, key: &[u8], existed: bool) -> bool {
        let watchers = self.by_key.entry((db, key.into())).or_default();
        if watchers.iter().any(|w| w.client == client) {
            return false;
        }
        watchers.push(Watcher { client, existed });
        true
    }

    /// Ends a client's watches.
    pub fn remove(&mut self, client: ClientKey, watched: Watched) {
        for place in watched {
            if let Some(watchers) = self.by_key.get_mut(&place) {
                watchers.retain(|w| w.client != client);
                if watchers.is_empty() {
                    self.by_key.remove(&place);
                }
            }
        }
    }

    /// Whether there are no watches.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Number of watched keys.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether the key existed when this client's watch on it began.
    pub fn existed(&self, client: ClientKey, db: u32, key: &[u8]) -> bool {
        let watchers = self.by_key.get(&(db, Box::from(key)));
        watchers.is_some_and(|w| w.iter().any(|w| w.client == client && w.existed))
    }

    /// Calls `mark` for each client that watches the key, which has changed. `exists` says whether the key exists
    /// now. If it does not, nothing has changed for a client whose watch began when the key was already expired.
    pub fn touched(
        &self,
        db: u32,
        key: &[u8],
        exists: impl FnOnce() -> bool,
        mut mark: impl FnMut(ClientKey),
    ) {
        let Some(watchers) = self.by_key.get(&(db, Box::from(key))) else { return };
        let there = exists();
        for watcher in watchers.iter().filter(|watcher| watcher.existed || there) {
            mark(watcher.client);
        }
    }

    /// Calls `mark` for each client that watches a key of database `db` (`None`: of any database) if the key existed
    /// when the watch began or, as `exists` says, exists now.
    pub fn all_touched(
        &self,
        db: Option<u32>,
        mut exists: impl FnMut(u32, &[u8]) -> bool,
        mut mark: impl FnMut(ClientKey),
    ) {
        for ((at, key), watchers) in &self.by_key {
            if db.is_none_or(|db| db == *at) {
                let there = exists(*at, key);
                for watcher in watchers.iter().filter(|w| w.existed || there) {
                    mark(watcher.client);
                }
            }
        }
    }
}
