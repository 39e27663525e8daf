//! Clients that wait for keys: which keys, in which order, and until when.
//!
//! A command that finds nothing to take returns what it waits for. The server keeps its request and queues the client
//! under each of the keys, behind earlier clients. When a key gets a value of the right type, the requests of its
//! clients run again in that order. A client that again finds nothing, because another was faster, keeps its place.
//!
//! What always holds: a client is in the queue of each key it waits for exactly once, and in no other queue; an empty
//! queue is not kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Range;

use super::ClientKey;
use super::kept::KeptRequest;
use crate::stdx::clock::UnixMillis;
use crate::types::Kind;

/// Kind of the null reply for a client that may not wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// A null.
    Null,
    /// A null array.
    NullArray,
}

/// What a command waits for.
#[derive(Clone, Debug)]
pub struct Wait {
    /// Indices of the arguments that are keys.
    pub keys: Range<usize>,
    /// Type of value that can be used.
    pub kind: Kind,
    /// Deadline; `None` for no limit.
    pub until: Option<UnixMillis>,
    /// Reply where waiting is not possible. The reply at the deadline is always a null array.
    pub absent: Absent,
}

/// A waiting client.
pub struct Blocked {
    /// The request to run again.
    pub request: KeptRequest,
    /// What the request waits for.
    pub wait: Wait,
    /// Number of the database of its keys.
    pub db: u32,
    /// Run time of the request so far in nanoseconds, without the time spent waiting.
    pub spent_ns: u64,
    /// Position in order of arrival among all clients that ever waited; see [`Blocking::add`].
    pub ticket: u64,
}

type Place = (u32, Box<[u8]>);

/// All waiting clients, by key and by deadline.
#[derive(Default)]
pub struct Blocking {
    /// Queue of each key: clients by ticket.
    queues: HashMap<Place, BTreeMap<u64, ClientKey>>,
    next_ticket: u64,
    deadlines: BTreeSet<(UnixMillis, usize)>,
    clients: usize,
    /// Keys that may have got a value, in order of the changes, each once.
    ready: Vec<Place>,
    is_ready: HashSet<Place>,
}

/// Keys that a client waits for, each once.
fn places(blocked: &Blocked) -> Vec<Place> {
    let args = blocked.request.args();
    let mut places: Vec<Place> = Vec::with_capacity(blocked.wait.keys.len());
    for i in blocked.wait.keys.clone() {
        let place = (blocked.db, Box::from(args.at(i)));
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

impl Blocking {
    /// Queues a client behind all others and assigns the next ticket. O(keys log clients).
    pub fn add(&mut self, client: ClientKey, blocked: &mut Blocked) {
        blocked.ticket = self.next_ticket;
        self.next_ticket += 1;
        for place in places(blocked) {
            self.queues.entry(place).or_default().insert(blocked.ticket, client);
        }
        if let Some(until) = blocked.wait.until {
            self.deadlines.insert((until, client.0));
        }
        self.clients += 1;
    }

    /// Removes a client from all queues. O(keys log clients).
    pub fn remove(&mut self, client: ClientKey, blocked: &Blocked) {
        for place in places(blocked) {
            if let Some(queue) = self.queues.get_mut(&place) {
                queue.remove(&blocked.ticket);
                if queue.is_empty() {
                    self.queues.remove(&place);
                }
            }
        }
        if let Some(until) = blocked.wait.until {
            self.deadlines.remove(&(until, client.0));
        }
        self.clients -= 1;
    }

    /// Whether no client waits for a key.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Number of waiting clients.
    pub fn clients(&self) -> usize {
        self.clients
    }

    /// Number of waiting clients with a deadline.
    pub fn with_deadline(&self) -> usize {
        self.deadlines.len()
    }

    /// Number of keys that clients wait for.
    pub fn keys(&self) -> usize {
        self.queues.len()
    }

    /// Notes that a key may have a value now.
    pub fn touched(&mut self, db: u32, key: &[u8]) {
        let place = (db, Box::from(key));
        if self.queues.contains_key(&place) && self.is_ready.insert(place.clone()) {
            self.ready.push(place);
        }
    }

    /// Notes that any key of a database may have a value now. O(keys that clients wait for).
    pub fn all_touched(&mut self, db: u32) {
        let mut keys: Vec<Box<[u8]>> =
            self.queues.keys().filter(|place| place.0 == db).map(|place| place.1.clone()).collect();
        keys.sort_unstable();
        for key in keys {
            self.touched(db, &key);
        }
    }

    /// Whether any key was noted and not yet taken by [`Blocking::take_ready`].
    #[inline]
    pub fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the keys noted since the last call, in order.
    pub fn take_ready(&mut self) -> Vec<Place> {
        self.is_ready.clear();
        std::mem::take(&mut self.ready)
    }

    /// The ticket that the next waiting client will get. All tickets assigned so far are below it.
    pub fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// The client that has waited longest for a key, among those with a ticket in `tickets`. O(log clients).
    pub fn first(&self, place: &Place, tickets: Range<u64>) -> Option<(u64, ClientKey)> {
        let mut queue = self.queues.get(place)?.range(tickets);
        queue.next().map(|(&ticket, &client)| (ticket, client))
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<UnixMillis> {
        self.deadlines.first().map(|&(until, _)| until)
    }

    /// The client with the earliest deadline, if that is not after `now`.
    pub fn overdue(&self, now: UnixMillis) -> Option<ClientKey> {
        self.deadlines.first().filter(|&&(until, _)| until <= now).map(|&(_, client)| ClientKey(client))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::Args;
    use crate::resp::request::{self, write_request};

    fn blocked(words: &[&[u8]], until: Option<i64>) -> Blocked {
        let mut buf = Vec::new();
        write_request(&mut buf, words.iter().copied());
        let (mut pos, mut spans) = (0, Vec::new());
        let mut decoder = request::Decoder::default();
        let frame = decoder
            .next(&mut buf, &mut pos, &mut spans, &request::Limits::default())
            .expect("well formed")
            .expect("complete");
        let request = KeptRequest::new(0, &Args::new(frame.head(&buf), frame.spans(&spans), &[]));
        let keys = 1..words.len();
        let wait = Wait { keys, kind: Kind::List, until: until.map(UnixMillis), absent: Absent::NullArray };
        Blocked { request, wait, db: 0, spent_ns: 0, ticket: 0 }
    }

    /// The clients that wait for a key, in order of arrival.
    fn queue(blocking: &Blocking, key: &[u8]) -> Vec<ClientKey> {
        let (place, mut tickets) = ((0, Box::from(key)), 0..u64::MAX);
        let next = || {
            let (ticket, client) = blocking.first(&place, tickets.clone())?;
            tickets.start = ticket + 1;
            Some(client)
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn first_come_first() {
        let mut blocking = Blocking::default();
        let (mut a, mut b) = (blocked(&[b"x", b"k", b"k", b"l"], Some(50)), blocked(&[b"x", b"k"], Some(20)));
        blocking.add(ClientKey(7), &mut a);
        blocking.add(ClientKey(3), &mut b);
        assert_eq!(queue(&blocking, b"k"), [ClientKey(7), ClientKey(3)]);
        assert_eq!((blocking.keys(), blocking.clients(), blocking.with_deadline()), (2, 2, 2));
        blocking.touched(0, b"nobody");
        blocking.touched(1, b"k");
        assert!(!blocking.any_ready());
        blocking.touched(0, b"l");
        blocking.touched(0, b"k");
        blocking.touched(0, b"l");
        let ready = blocking.take_ready();
        assert_eq!(ready.iter().map(|place| &*place.1).collect::<Vec<_>>(), [b"l", b"k"]);
        assert!(!blocking.any_ready());
        assert_eq!(blocking.overdue(UnixMillis(19)), None);
        assert_eq!(blocking.overdue(UnixMillis(20)), Some(ClientKey(3)));
        blocking.remove(ClientKey(3), &b);
        assert_eq!(queue(&blocking, b"k"), [ClientKey(7)]);
        assert_eq!(blocking.next_deadline(), Some(UnixMillis(50)));
        blocking.remove(ClientKey(7), &a);
        assert!(blocking.is_empty() && blocking.next_deadline().is_none() && blocking.clients() == 0);
    }
}
