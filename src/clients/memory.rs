//! Memory of all connections, by kind, and the largest buffers of the last seconds.
//!
//! Nothing is added up when a buffer grows: a timer visits each client about once a second and corrects its
//! contribution to the totals. Totals are therefore up to a second old, and reading them costs nothing.
//!
//! If the memory of clients is limited, it is counted after every command, and clients that may be closed for their
//! size are sorted into buckets by powers of two: finding one of the largest, and moving one that has grown, takes
//! constant time. (The buckets are Yoav Steinberg's, from Redis.)

use super::{Client, ClientFlags, ClientKey, ClientKind, Clients};
use crate::stdx::clock::UnixMillis;

/// Number of buckets. The first is for clients below 64 KB (2^16 bytes), the last for clients of 8 GB and more.
const BUCKETS: usize = 19;
const FIRST_BUCKET_LOG: u32 = 16;

fn bucket_of(bytes: usize) -> usize {
    ((usize::BITS - bytes.leading_zeros()).saturating_sub(FIRST_BUCKET_LOG) as usize).min(BUCKETS - 1)
}

/// A client's contribution to the totals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Counted {
    kind: ClientKind,
    bytes: usize,
    /// Bucket and index within it, for a client that may be closed for its size.
    place: Option<(usize, usize)>,
}

impl Counted {
    /// Bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Number of seconds for which peaks are kept.
const SECONDS: usize = 8;

/// Totals over all connections.
#[derive(Default)]
pub struct ClientMemory {
    bytes: [usize; ClientKind::ALL.len()],
    recent: Recent,
    /// Whether the buckets are in use.
    ordered: bool,
    buckets: [Vec<ClientKey>; BUCKETS],
}

/// Largest input and output of each second, at the second modulo 8.
#[derive(Default)]
struct Recent {
    peaks: [(usize, usize); SECONDS],
    second: i64,
}

impl Recent {
    fn note(&mut self, now: UnixMillis, input: usize, output: usize) {
        let second = now.as_secs();
        // Seconds without a note had no peak. After a long pause, or a clock set back, all peaks are cleared.
        let passed = usize::try_from(second - self.second).unwrap_or(SECONDS).min(SECONDS);
        for later in 0..passed as i64 {
            self.peaks[slot(second - later)] = (0, 0);
        }
        self.second = second;
        let peak = &mut self.peaks[slot(second)];
        *peak = (peak.0.max(input), peak.1.max(output));
    }
}

fn slot(second: i64) -> usize {
    second.rem_euclid(SECONDS as i64) as usize
}

impl ClientMemory {
    /// Bytes of all connections of one kind.
    pub fn of(&self, kind: ClientKind) -> usize {
        self.bytes[kind as usize]
    }

    /// Bytes of all connections.
    pub fn total(&self) -> usize {
        self.bytes.iter().sum()
    }

    /// Bytes of the largest input buffer of one client in the last 8 seconds.
    pub fn recent_max_input(&self) -> usize {
        self.recent.peaks.iter().map(|peak| peak.0).max().unwrap_or(0)
    }

    /// Bytes of the largest output of one client in the last 8 seconds.
    pub fn recent_max_output(&self) -> usize {
        self.recent.peaks.iter().map(|peak| peak.1).max().unwrap_or(0)
    }

    /// A client from the highest bucket: one of the largest, to within a factor of two, among those that may be
    /// closed for their size.
    pub fn largest(&self) -> Option<ClientKey> {
        self.buckets.iter().rev().find_map(|bucket| bucket.first().copied())
    }

    fn correct(&mut self, before: Option<Counted>, after: Option<Counted>) {
        if let Some(Counted { kind, bytes, .. }) = before {
            self.bytes[kind as usize] -= bytes;
        }
        if let Some(Counted { kind, bytes, .. }) = after {
            self.bytes[kind as usize] += bytes;
        }
    }
}

impl Clients {
    /// Corrects a client's contribution to the totals. O(1).
    pub fn count_memory(&mut self, key: ClientKey, now: UnixMillis) {
        let Some(client) = self.slab.get_mut(key.0) else { return };
        // Whoever is on the way out was taken off the count, or soon is; who is nobody was never counted.
        if client.flags.has(ClientFlags::CLOSE_SOON.with(ClientFlags::INTERNAL)) {
            return;
        }
        let bucket = (self.memory.ordered && may_be_closed(client)).then(|| bucket_of(client.memory()));
        let before = client.counted;
        let mut after = Counted { kind: client.kind(), bytes: client.memory(), place: None };
        let place = before.and_then(|counted| counted.place);
        self.memory.recent.note(now, client.io.input.allocated(), client.io.output.excess());
        if place.map(|(bucket, _)| bucket) == bucket {
            after.place = place;
        } else {
            if let Some(place) = place {
                self.leave_bucket(place);
            }
            if let Some(bucket) = bucket {
                let keys = &mut self.memory.buckets[bucket];
                after.place = Some((bucket, keys.len()));
                keys.push(key);
            }
        }
        self.memory.correct(before, Some(after));
        self.slab[key.0].counted = Some(after);
    }

    /// Removes a client from the totals because its memory is about to be freed.
    pub fn uncount_memory(&mut self, key: ClientKey) {
        let Some(client) = self.slab.get_mut(key.0) else { return };
        let counted = client.counted.take();
        self.memory.correct(counted, None);
        if let Some(place) = counted.and_then(|counted| counted.place) {
            self.leave_bucket(place);
        }
    }

    fn leave_bucket(&mut self, (bucket, index): (usize, usize)) {
        let keys = &mut self.memory.buckets[bucket];
        keys.swap_remove(index);
        // The last client of the bucket has moved into the gap.
        if let Some(moved) = keys.get(index)
            && let Some(counted) = &mut self.slab[moved.0].counted
        {
            counted.place = Some((bucket, index));
        }
    }

    /// Starts or stops keeping clients in buckets by size. O(clients) when that changes.
    pub fn order_by_memory(&mut self, ordered: bool, now: UnixMillis) {
        if self.memory.ordered == ordered {
            return;
        }
        self.memory.ordered = ordered;
        if !ordered {
            // Including clients about to be closed, which are not counted any more.
            for (_, client) in &mut self.slab {
                if let Some(counted) = &mut client.counted {
                    counted.place = None;
                }
            }
            self.memory.buckets = Default::default();
        }
        for place in 0..self.places() {
            self.count_memory(ClientKey(place), now);
        }
    }
}

/// Whether a client may be closed when all clients together use too much memory.
fn may_be_closed(client: &Client) -> bool {
    !client.flags.has(ClientFlags::NO_EVICT)
        && matches!(client.kind(), ClientKind::Normal | ClientKind::PubSub)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::io::Pool;

    #[test]
    fn peaks_are_forgotten_after_eight_seconds() {
        let mut recent = Recent::default();
        let max = |recent: &Recent| recent.peaks.iter().copied().max().expect("eight of them");
        let at = |second: i64| UnixMillis(second * 1000 + 1);
        recent.note(at(1000), 500, 7);
        recent.note(at(1000), 100, 9);
        assert_eq!(max(&recent), (500, 9));
        recent.note(at(1005), 50, 0);
        recent.note(at(1007), 50, 0);
        assert_eq!(max(&recent), (500, 9));
        recent.note(at(1008), 20, 0);
        assert_eq!(max(&recent), (50, 0));
        recent.note(at(5000), 10, 0);
        assert_eq!(max(&recent), (10, 0));
        // The clock is set back.
        recent.note(at(10), 5, 0);
        assert_eq!(max(&recent), (5, 0));
    }

    #[test]
    fn totals_follow_corrections() {
        let mut memory = ClientMemory::default();
        let counted = |kind, bytes| Some(Counted { kind, bytes, place: None });
        memory.correct(None, counted(ClientKind::Normal, 100));
        memory.correct(None, counted(ClientKind::PubSub, 10));
        memory.correct(counted(ClientKind::Normal, 100), counted(ClientKind::PubSub, 50));
        assert_eq!((memory.of(ClientKind::Normal), memory.of(ClientKind::PubSub)), (0, 60));
        memory.correct(counted(ClientKind::PubSub, 50), None);
        assert_eq!(memory.total(), 10);
    }

    #[test]
    fn buckets_are_powers_of_two() {
        assert_eq!((bucket_of(0), bucket_of(65_535), bucket_of(65_536)), (0, 0, 1));
        assert_eq!((bucket_of(131_071), bucket_of(131_072)), (1, 2));
        assert_eq!(bucket_of(8 << 30), BUCKETS - 1);
        assert_eq!(bucket_of((8 << 30) - 1), BUCKETS - 2);
        assert_eq!(bucket_of(usize::MAX), BUCKETS - 1);
    }

    /// Adds a connection without a peer.
    fn connect(clients: &mut Clients) -> ClientKey {
        let (ours, _) = std::os::unix::net::UnixStream::pair().expect("descriptors are left");
        let stream = crate::net::stream::Stream::from_unix(ours);
        clients.insert_with(|id, _| Client::new(id, stream, UnixMillis(0), true))
    }

    fn check(clients: &Clients) {
        let (mut bytes, mut placed) = ([0; ClientKind::ALL.len()], 0);
        for (key, client) in clients.iter() {
            let Some(counted) = client.counted else { continue };
            bytes[counted.kind as usize] += counted.bytes;
            if let Some((bucket, index)) = counted.place {
                assert_eq!(clients.memory.buckets[bucket][index], key);
                assert_eq!(bucket, bucket_of(counted.bytes));
                placed += 1;
            }
        }
        assert_eq!(bytes, clients.memory.bytes);
        assert_eq!(placed, clients.memory.buckets.iter().map(Vec::len).sum::<usize>());
    }

    #[test]
    fn the_largest_is_found_whatever_happens() {
        for seed in 0..20 {
            println!("seed {seed}");
            let mut rng = crate::stdx::rng::Rng::new(seed);
            let mut clients = Clients::default();
            let (mut keys, mut pool) = (Vec::new(), Pool::default());
            for _ in 0..400 {
                match rng.below(10) {
                    0 if keys.len() < 20 => keys.push(connect(&mut clients)),
                    1 if !keys.is_empty() => {
                        clients.remove(keys.swap_remove(rng.index(keys.len())));
                    }
                    2 => clients.order_by_memory(rng.chance(0.8), UnixMillis(0)),
                    3 => {
                        if let Some(&key) = rng.choose(&keys) {
                            clients.uncount_memory(key);
                        }
                    }
                    _ => {
                        let Some(&key) = rng.choose(&keys) else { continue };
                        let client = &mut clients[key];
                        client.flags.set(ClientFlags::CLOSE_SOON, rng.one_in(10));
                        client.flags.set(ClientFlags::NO_EVICT, rng.one_in(5));
                        client.flags.set(ClientFlags::SUBSCRIBED, rng.one_in(5));
                        let bytes = vec![b'x'; 1 << rng.below(20)];
                        drop(client.io.output.discard());
                        client.io.output.append(&bytes, &mut pool);
                        clients.count_memory(key, UnixMillis(0));
                    }
                }
                check(&clients);
                let costs = |key: &ClientKey| clients[*key].counted.map(|counted| bucket_of(counted.bytes));
                let largest = clients.memory.largest();
                let may_go = |key: &&ClientKey| clients[**key].counted.is_some_and(|c| c.place.is_some());
                let expected = keys.iter().filter(may_go).map(costs).max();
                assert_eq!(largest.as_ref().map(costs), expected);
            }
        }
    }
}
