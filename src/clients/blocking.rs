//! Blocked clients: what each waits for, and the queues of those that wait for keys.
//!
//! A command that finds nothing to take returns what it waits for. The server keeps its request and queues the client
//! under each of the keys, behind earlier clients. When a key gets a value of the right type, the requests of its
//! clients run again in that order. A client that again finds nothing, because another was faster, keeps its place.
//!
//! What always holds: a client is in the queue of each key it waits for exactly once, and in no other queue; an empty
//! queue is not kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;

use super::ClientKey;
use super::kept::KeptRequest;
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::BuildKeyHasher;
use crate::types::Kind;

/// Kind of the null reply for a client that may not wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// A null.
    Null,
    /// A null array.
    NullArray,
}

/// What a blocked client waits for.
pub enum Wait {
    /// A value at one of its keys.
    Keys {
        /// Indices of the arguments that are keys.
        keys: Range<usize>,
        /// Deadline; `None` for no limit. The reply at the deadline is always a null array.
        until: Option<UnixMillis>,
        /// What a key must have.
        need: Need,
    },
    /// Acknowledgements of replicas.
    Acknowledgements {
        /// What is to be acknowledged, and by how many.
        wanted: Acknowledgements,
        /// Deadline; `None` for no limit.
        until: Option<UnixMillis>,
    },
    /// Memory that another thread frees.
    Memory {
        /// The job of that thread.
        job: u64,
    },
    /// The end of a walk through all keys.
    Walk {
        /// Number of the walk.
        id: u64,
    },
    /// The end of the server.
    Shutdown,
    /// The end of a pause.
    Pause {
        /// The requests that came after the first paused one, in order.
        later: Vec<KeptRequest>,
    },
}

/// What is to be acknowledged, and by whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acknowledgements {
    /// Number of replicas.
    pub replicas: u64,
    /// Whether the change must be in this server's own append-only file, on disk.
    pub local: bool,
    /// Whether replicas must have it in their append-only files, on disk; else they need only have applied it.
    pub synced: bool,
    /// Offset in the stream behind the change.
    pub offset: u64,
}

/// What a key must have so that a request for it can be answered.
#[derive(Debug)]
pub enum Need {
    /// An element of a list.
    List {
        /// Reply where waiting is not possible.
        absent: Absent,
    },
    /// A member of a sorted set.
    Zset,
    /// Entries of a stream.
    Stream {
        /// Arguments that mean something else later than now: the place of each, and what it means now.
        resolved: Vec<(usize, Vec<u8>)>,
    },
    /// Entries of a stream that a group has not read. Without the stream there is no group, which is an error.
    Group {
        /// Whether others' pending entries are taken as well: the request runs again when they get some.
        claims: bool,
        /// When the request runs again although no key changed: what others have may be taken then.
        again_at: Option<UnixMillis>,
    },
}

impl Need {
    /// Whether the request runs again when a key that it waits for was changed, and holds a value of `kind` now.
    pub fn is_met_by(&self, kind: Option<Kind>) -> bool {
        match self {
            Need::List { .. } => kind == Some(Kind::List),
            Need::Zset => kind == Some(Kind::Zset),
            Need::Stream { .. } => kind == Some(Kind::Stream),
            Need::Group { .. } => true,
        }
    }

    /// Reply where waiting is not possible.
    pub fn absent(&self) -> Absent {
        match self {
            Need::List { absent } => *absent,
            Need::Zset | Need::Stream { .. } | Need::Group { .. } => Absent::NullArray,
        }
    }
}

impl Wait {
    /// Whether a change of a key concerns the client; see [`Need::is_met_by`].
    pub fn is_met_by(&self, kind: Option<Kind>) -> bool {
        match self {
            Wait::Keys { need, .. } => need.is_met_by(kind),
            Wait::Pause { .. }
            | Wait::Acknowledgements { .. }
            | Wait::Memory { .. }
            | Wait::Walk { .. }
            | Wait::Shutdown => false,
        }
    }

    fn deadline(&self) -> Option<UnixMillis> {
        match self {
            Wait::Keys { until, .. } | Wait::Acknowledgements { until, .. } => *until,
            Wait::Pause { .. } | Wait::Memory { .. } | Wait::Walk { .. } | Wait::Shutdown => None,
        }
    }

    /// Whether others' pending entries of a group are taken as well.
    fn claims(&self) -> bool {
        matches!(self, Wait::Keys { need: Need::Group { claims: true, .. }, .. })
    }

    /// When the request runs again although no key changed.
    pub fn again_at(&self) -> Option<UnixMillis> {
        match self {
            Wait::Keys { need: Need::Group { again_at, .. }, .. } => *again_at,
            Wait::Keys { .. }
            | Wait::Pause { .. }
            | Wait::Acknowledgements { .. }
            | Wait::Memory { .. }
            | Wait::Walk { .. }
            | Wait::Shutdown => None,
        }
    }

    /// Whether the client must know when a key goes.
    fn needs_absence(&self) -> bool {
        self.is_met_by(None)
    }
}

/// A blocked client.
pub struct Blocked {
    /// The request to run, or to run again.
    pub request: KeptRequest,
    /// What the request waits for.
    pub wait: Wait,
    /// Number of the selected database.
    pub db: u32,
    /// Run time of the request so far in nanoseconds, without the time spent waiting.
    pub spent_ns: u64,
    /// Position in order of arrival among all clients that ever waited for keys; see [`Blocking::add`].
    pub ticket: u64,
}

impl Blocked {
    /// A client blocked at its first try to run `request`.
    pub fn new(request: KeptRequest, wait: Wait, db: u32) -> Blocked {
        Blocked { request, wait, db, spent_ns: 0, ticket: 0 }
    }

    /// Whether it makes no difference to the client whether this server is a primary or a replica.
    pub fn outlives_role(&self) -> bool {
        matches!(self.wait, Wait::Pause { .. } | Wait::Memory { .. } | Wait::Shutdown)
    }

    /// Whether CLIENT UNBLOCK ends the wait.
    pub fn can_be_unblocked(&self) -> bool {
        matches!(self.wait, Wait::Keys { .. } | Wait::Acknowledgements { .. })
    }

    /// Keys that the client waits for, each once.
    pub fn keys(&self) -> Vec<&[u8]> {
        let Wait::Keys { keys, .. } = &self.wait else { return Vec::new() };
        let args = self.request.args();
        let mut distinct: Vec<&[u8]> = Vec::with_capacity(keys.len());
        for i in keys.clone() {
            if !distinct.contains(&args.at(i)) {
                distinct.push(args.at(i));
            }
        }
        distinct
    }

    /// Bytes of the requests that are kept. O(requests).
    pub fn memory(&self) -> usize {
        let later = match &self.wait {
            Wait::Keys { .. }
            | Wait::Acknowledgements { .. }
            | Wait::Memory { .. }
            | Wait::Walk { .. }
            | Wait::Shutdown => 0,
            Wait::Pause { later } => later.iter().map(KeptRequest::memory).sum(),
        };
        self.request.memory() + later
    }
}

/// A key in a database.
pub type Place = (u32, Box<[u8]>);

/// All clients that wait for keys, by key and by deadline.
#[derive(Default)]
pub struct Blocking {
    /// By ticket.
    queues: BTreeMap<u32, HashMap<Box<[u8]>, Queue, BuildKeyHasher>>,
    /// How many queues there are.
    keys: usize,
    next_ticket: u64,
    deadlines: BTreeSet<(UnixMillis, usize)>,
    /// Clients whose request is run again at a time, by that time.
    again: BTreeSet<(UnixMillis, usize)>,
    clients: usize,
    /// How many of them have something to do when a key goes.
    for_absence: usize,
    /// Keys that got a value, in that order, each once.
    ready: VecDeque<Place>,
    /// The key whose clients are being served in parts, and the tickets of those who are next.
    interrupted: Option<(Place, Range<u64>)>,
    /// Keys that got a value and have their turn after that one.
    postponed: VecDeque<Place>,
    /// Clients that wait for memory to be freed, and the job that does it.
    for_memory: Vec<(u64, ClientKey)>,
}

/// Those who wait for one key, by ticket.
#[derive(Default)]
struct Queue {
    waiting: BTreeMap<u64, ClientKey>,
    /// Whether the key stands among those that got a value.
    is_ready: bool,
    /// How many of them have something to do when the key goes.
    for_absence: usize,
    /// How many of them could take what others get.
    claimants: usize,
}

/// Keys that a client waits for, each once.
fn places(blocked: &Blocked) -> Vec<Place> {
    blocked.keys().into_iter().map(|key| (blocked.db, Box::from(key))).collect()
}

impl Blocking {
    /// Queues a client behind all others and assigns the next ticket. O(keys log clients).
    pub fn add(&mut self, client: ClientKey, blocked: &mut Blocked) {
        blocked.ticket = self.next_ticket;
        self.next_ticket += 1;
        for place in places(blocked) {
            let queue = self.queues.entry(place.0).or_default().entry(place.1).or_default();
            self.keys += usize::from(queue.waiting.is_empty());
            queue.waiting.insert(blocked.ticket, client);
            queue.for_absence += usize::from(blocked.wait.needs_absence());
            queue.claimants += usize::from(blocked.wait.claims());
        }
        self.for_absence += usize::from(blocked.wait.needs_absence());
        if let Some(until) = blocked.wait.deadline() {
            self.deadlines.insert((until, client.0));
        }
        if let Some(at) = blocked.wait.again_at() {
            self.again.insert((at, client.0));
        }
        if let Wait::Memory { job } = blocked.wait {
            self.for_memory.push((job, client));
        }
        self.clients += 1;
    }

    /// Removes a client from all queues. O(keys log clients).
    pub fn remove(&mut self, client: ClientKey, blocked: &Blocked) {
        for place in places(blocked) {
            let Some(queues) = self.queues.get_mut(&place.0) else { continue };
            if let Some(queue) = queues.get_mut(&place.1) {
                queue.waiting.remove(&blocked.ticket);
                queue.for_absence -= usize::from(blocked.wait.needs_absence());
                queue.claimants -= usize::from(blocked.wait.claims());
                if queue.waiting.is_empty() {
                    queues.remove(&place.1);
                    self.keys -= 1;
                }
            }
            if queues.is_empty() {
                self.queues.remove(&place.0);
            }
        }
        self.for_absence -= usize::from(blocked.wait.needs_absence());
        if let Some(until) = blocked.wait.deadline() {
            self.deadlines.remove(&(until, client.0));
        }
        if let Some(at) = blocked.wait.again_at() {
            self.again.remove(&(at, client.0));
        }
        if let Wait::Memory { .. } = blocked.wait {
            self.for_memory.retain(|&(_, waiting)| waiting != client);
        }
        self.clients -= 1;
    }

    /// Clients that wait for memory to be freed, and the job that does it.
    #[inline]
    pub fn for_memory(&self) -> &[(u64, ClientKey)] {
        &self.for_memory
    }

    /// The keys that clients wait for, each as often as clients wait for it.
    pub fn awaited(&self) -> impl Iterator<Item = &[u8]> {
        let queues = self.queues.values().flatten();
        queues.flat_map(|(key, queue)| std::iter::repeat_n(&**key, queue.waiting.len()))
    }

    /// Whether no client waits for a key.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// The clients that wait for keys, each for each of its keys.
    pub fn waiting(&self) -> impl Iterator<Item = ClientKey> {
        let queues = self.queues.values().flat_map(HashMap::values);
        queues.flat_map(|queue| queue.waiting.values().copied())
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
        self.keys
    }

    /// Keys that somebody waits for who has something to do when they go. O(keys).
    pub fn keys_for_absence(&self) -> usize {
        let queues = self.queues.values().flat_map(HashMap::values);
        queues.filter(|queue| queue.for_absence > 0).count()
    }

    /// Whether somebody has something to do when a key goes.
    pub fn any_waits_for_absence(&self) -> bool {
        self.for_absence > 0
    }

    /// Notes that a key may have a value now.
    pub fn touched(&mut self, db: u32, key: &[u8]) {
        let Some(queue) = self.queues.get_mut(&db).and_then(|queues| queues.get_mut(key)) else { return };
        if !std::mem::replace(&mut queue.is_ready, true) {
            self.ready.push_back((db, Box::from(key)));
        }
    }

    /// Notes that a client got something from a key that others may claim.
    pub fn delivered(&mut self, db: u32, key: &[u8]) {
        let queue = self.queues.get(&db).and_then(|queues| queues.get(key));
        if queue.is_some_and(|queue| queue.claimants > 0) {
            self.touched(db, key);
        }
    }

    /// Sets when the request of a waiting client is run again although no key changed. O(log clients).
    pub fn run_again_at(&mut self, client: ClientKey, blocked: &mut Blocked, at: Option<UnixMillis>) {
        let Wait::Keys { need: Need::Group { again_at, .. }, .. } = &mut blocked.wait else { return };
        let before = std::mem::replace(again_at, at);
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.again.remove(&(before, client.0));
        }
        if let Some(at) = at {
            self.again.insert((at, client.0));
        }
    }

    /// The client whose request is to be run again first, if that is not after `now`. Its keys are to be noted by
    /// [`Blocking::touched`].
    pub fn again_due(&self, now: UnixMillis) -> Option<ClientKey> {
        self.again.first().filter(|&&(at, _)| at <= now).map(|&(_, client)| ClientKey(client))
    }

    /// Notes that the keys of a waiting client may have something for it by now.
    pub fn due(&mut self, client: ClientKey, blocked: &mut Blocked) {
        self.run_again_at(client, blocked, None);
        for (db, key) in places(blocked) {
            self.touched(db, &key);
        }
    }

    /// Notes that a key is gone.
    pub fn gone(&mut self, db: u32, key: &[u8]) {
        if self.for_absence > 0 {
            self.touched(db, key);
        }
    }

    /// Notes that all keys of a database are gone, or of all. O(keys that are waited for).
    pub fn all_gone(&mut self, db: Option<u32>) {
        if self.for_absence > 0 {
            let mut dbs: Vec<u32> =
                self.queues.keys().copied().filter(|&one| db.is_none_or(|db| db == one)).collect();
            dbs.sort_unstable();
            dbs.into_iter().for_each(|db| self.all_touched(db));
        }
    }

    /// Notes that any key of a database may have a value now. O(keys that clients wait for).
    pub fn all_touched(&mut self, db: u32) {
        let mut keys: Vec<Box<[u8]>> =
            self.queues.get(&db).into_iter().flat_map(|queues| queues.keys().cloned()).collect();
        keys.sort_unstable();
        for key in keys {
            self.touched(db, &key);
        }
    }

    /// Whether any key was noted and neither taken nor postponed since.
    #[inline]
    pub fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Takes the next key whose clients are to be served, with the tickets of those who are there now.
    pub fn take_ready(&mut self) -> Option<(Place, Range<u64>)> {
        if let Some(interrupted) = self.interrupted.take() {
            return Some(interrupted);
        }
        let place = self.postponed.pop_front().or_else(|| self.ready.pop_front())?;
        if let Some(queue) = self.queues.get_mut(&place.0).and_then(|queues| queues.get_mut(&place.1)) {
            queue.is_ready = false;
        }
        // Whoever comes to wait while the queue is served was there already, or has its turn next time.
        Some((place, 0..self.next_ticket))
    }

    /// Leaves those with these tickets who wait for the key, and all keys that were noted, for later.
    pub fn interrupt(&mut self, place: Place, tickets: Range<u64>) {
        self.interrupted = Some((place, tickets));
        self.postpone();
    }

    /// Leaves the keys that were noted for later: clients of other keys are being served.
    pub fn postpone(&mut self) {
        self.postponed.append(&mut self.ready);
    }

    /// Whether clients are left for later.
    #[inline]
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.is_some() || !self.postponed.is_empty()
    }

    /// Whether the clients of a key are left for later, or those of very many keys. The key counts in every database.
    pub fn is_left(&self, key: &[u8]) -> bool {
        const MANY: usize = 64;
        let left = self.interrupted.iter().map(|(place, _)| place).chain(&self.postponed);
        self.postponed.len() > MANY || left.into_iter().any(|place| *place.1 == *key)
    }

    /// The ticket that the next waiting client will get. All tickets assigned so far are below it.
    pub fn next_ticket(&self) -> u64 {
        self.next_ticket
    }

    /// The client that has waited longest for a key, among those with a ticket in `tickets`. O(log clients).
    pub fn first(&self, place: &Place, tickets: Range<u64>) -> Option<(u64, ClientKey)> {
        let mut queue = self.queues.get(&place.0)?.get(&place.1)?.waiting.range(tickets);
        queue.next().map(|(&ticket, &client)| (ticket, client))
    }

    /// The earliest time at which a client gives up, or its request is run again.
    pub fn next_deadline(&self) -> Option<UnixMillis> {
        let times = [self.deadlines.first(), self.again.first()];
        times.into_iter().flatten().map(|&(at, _)| at).min()
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
        let (keys, until) = (1..words.len(), until.map(UnixMillis));
        Blocked::new(request, Wait::Keys { keys, until, need: Need::Zset }, 0)
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
    fn a_need_is_met_by_its_own_kind_and_a_group_also_misses_its_stream() {
        let kinds = [None, Some(Kind::List), Some(Kind::Zset), Some(Kind::Stream), Some(Kind::String)];
        let met = |need: Need| kinds.map(|kind| need.is_met_by(kind));
        assert_eq!(met(Need::List { absent: Absent::Null }), [false, true, false, false, false]);
        assert_eq!(met(Need::Zset), [false, false, true, false, false]);
        assert_eq!(met(Need::Stream { resolved: Vec::new() }), [false, false, false, true, false]);
        assert_eq!(met(Need::Group { claims: false, again_at: None }), [true; 5]);
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
        let next = |blocking: &mut Blocking| blocking.take_ready().map(|(place, _)| place.1);
        assert_eq!(next(&mut blocking).as_deref(), Some(&b"l"[..]));
        assert_eq!(next(&mut blocking).as_deref(), Some(&b"k"[..]));
        assert!(!blocking.any_ready() && next(&mut blocking).is_none());
        // What is left for later comes first then.
        blocking.touched(0, b"k");
        blocking.interrupt((0, Box::from(&b"l"[..])), 1..2);
        assert!(!blocking.any_ready() && blocking.is_interrupted());
        assert!(blocking.is_left(b"l") && blocking.is_left(b"k") && !blocking.is_left(b"m"));
        blocking.touched(0, b"l");
        assert!(blocking.any_ready());
        assert_eq!(blocking.take_ready(), Some(((0, Box::from(&b"l"[..])), 1..2)));
        assert_eq!(next(&mut blocking).as_deref(), Some(&b"k"[..]));
        assert!(!blocking.is_interrupted());
        assert_eq!(next(&mut blocking).as_deref(), Some(&b"l"[..]));
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
