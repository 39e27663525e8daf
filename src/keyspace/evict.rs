//! Choice of the keys to evict when memory is short.
//!
//! The exact choice (the least recently used key, the least frequently used one, the next to expire) would need an
//! order of all keys, updated with every access. Instead, a few keys are sampled for each eviction, and the best
//! samples of *all* evictions so far are kept in a pool of 16, from which the next key is taken. With ten samples
//! this is hardly distinguishable from the exact order, with five it is close. (The scheme is Salvatore
//! Sanfilippo's, "Random notes on improving the Redis LRU algorithm", 2016.)
//!
//! The score of a candidate is absolute: it depends on the time of the last access, not on the time of sampling.
//! Scores of different ages can therefore be compared, and a key that was used after it entered the pool is
//! recognised and spared.
//!
//! Keys that are protected are never candidates. Where nearly all are, samples may show no other, so that a scan looks for
//! one: some keys for each eviction, and the next eviction continues where it stopped.
//!
//! This room chooses the key; the server knows how much memory is used and allowed.

use std::time::Instant;

use super::access::Access;
use super::database::Database;
use super::databases::Keyspace;
use super::entry::Entry;
use super::ledger::{Class, Event};
use crate::stdx::alloc;
use crate::stdx::hash::Key;
use crate::stdx::rng::Rng;

/// Number of candidates in the pool.
pub const POOL: usize = 16;

/// Samples of protected keys only after which a scan looks for others.
const ATTEMPTS: usize = 16;
/// The most keys that a scan looks at for one eviction.
const SCANNED: usize = 10_000;

/// Which keys may be evicted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// All keys.
    All,
    /// Keys with an expiry.
    Volatile,
}

/// Which of them is evicted first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// A random key.
    Random,
    /// The least recently used key.
    LeastRecent,
    /// The least frequently used key.
    LeastFrequent,
    /// The key that expires next.
    FirstToExpire,
}

/// An eviction policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Keys that may be evicted.
    pub scope: Scope,
    /// Order of eviction.
    pub order: Order,
}

/// State kept between evictions.
#[derive(Default)]
pub struct Evictor {
    policy: Option<Policy>,
    pool: Pool,
    /// Database of the next random eviction; the databases take turns.
    next_db: usize,
    /// Where the scan for keys that are not protected continues, in which database.
    scan: (usize, u64),
}

impl Evictor {
    /// Sets the policy; `None` evicts nothing. Candidates of another policy are dropped.
    pub fn set_policy(&mut self, policy: Option<Policy>) {
        if self.policy != policy {
            self.policy = policy;
            self.pool = Pool::default();
        }
    }

    /// The current policy.
    pub fn policy(&self) -> Option<Policy> {
        self.policy
    }
}

impl Keyspace {
    /// Evicts the best key under the policy, comparing `samples` keys of each database, and records the removal.
    /// Returns the number of bytes that this frees, at once or soon, or `None` if no key may be evicted.
    ///
    /// The memory of the record is not deducted: it is soon free again, and if it counted, evicting a long key with
    /// a small value would never free memory. O(samples × databases).
    pub fn evict(&mut self, samples: usize) -> Option<usize> {
        let policy = self.evictor.policy?;
        let (db, entry) = match policy.order {
            Order::Random => self.take_any(policy.scope)?,
            _ => self.take_best(policy, samples)?,
        };
        self.stats.evicted += 1;
        self.ledger.gone(db, entry.key(), Event::of(Class::Evicted, "evicted"));
        let (before, started) = (alloc::used(), self.removals.timed.then(Instant::now));
        let soon = self.reclaimer.entry(entry, self.lazy.eviction);
        if let Some(started) = started {
            self.removals.evicted = self.removals.evicted.max(started.elapsed());
        }
        // What the other thread has freed meanwhile is not counted twice.
        Some(if soon > 0 { soon } else { before.saturating_sub(alloc::used()) })
    }

    /// Removes a random key in scope from the next database that has one.
    fn take_any(&mut self, scope: Scope) -> Option<(usize, Entry)> {
        let mut met_protected = false;
        for _ in 0..self.dbs.len() {
            let index = self.evictor.next_db % self.dbs.len();
            self.evictor.next_db = index + 1;
            let Keyspace { dbs, rng, .. } = self;
            let (rng, db) = (&mut || rng.next_u64(), &dbs[index]);
            for _ in 0..ATTEMPTS {
                let drawn = match scope {
                    Scope::All => {
                        db.keys().random(rng).map(|entry| may_go(&entry).then(|| entry.key().to_vec()))
                    }
                    Scope::Volatile => {
                        db.draw_volatile(rng, |entry| may_go(entry).then(|| entry.key().to_vec()))
                    }
                };
                match drawn {
                    None => break,
                    Some(None) => met_protected = true,
                    Some(Some(key)) => {
                        let entry = self.dbs[index].take(Key::new(&key));
                        return Some((index, entry.expect("the key has just been found")));
                    }
                }
            }
        }
        if met_protected { self.take_scanned(scope) } else { None }
    }

    /// Removes a key in scope that is not protected, if a scan of some keys finds one.
    #[cold]
    fn take_scanned(&mut self, scope: Scope) -> Option<(usize, Entry)> {
        let (mut seen, databases) = (0, self.dbs.len());
        // The cursor returns to where it began at most once.
        for _ in 0..=databases {
            let (index, mut cursor) = self.evictor.scan;
            let index = index % databases;
            let mut found = None;
            loop {
                cursor = self.dbs[index].scan_scope(scope, cursor, |entry| {
                    seen += 1;
                    if found.is_none() && may_go(entry) {
                        found = Some(entry.key().to_vec());
                    }
                });
                self.evictor.scan = if cursor == 0 { (index + 1, 0) } else { (index, cursor) };
                if let Some(key) = found {
                    let entry = self.dbs[index].take(Key::new(&key));
                    return Some((index, entry.expect("the key has just been found")));
                }
                if seen >= SCANNED {
                    return None;
                }
                if cursor == 0 {
                    break;
                }
            }
        }
        None
    }

    /// Removes the best candidate, after sampling for better ones.
    fn take_best(&mut self, policy: Policy, samples: usize) -> Option<(usize, Entry)> {
        let mut attempts = 0;
        loop {
            let Keyspace { dbs, rng, access, evictor, .. } = self;
            let (mut any, mut met_protected) = (false, false);
            for (index, db) in dbs.iter().enumerate() {
                db.sample(policy.scope, samples, rng, |entry| {
                    if may_go(entry) {
                        any = true;
                        evictor.pool.offer(score(policy.order, access, entry), index, entry.key());
                    } else {
                        met_protected = true;
                    }
                });
            }
            if !any && !met_protected {
                return None;
            }
            // A candidate that has been removed or used since is no longer valid. Those just sampled are unchanged,
            // so the loop ends.
            while let Some(candidate) = evictor.pool.take_best() {
                let key = Key::with_hash(&candidate.key, candidate.hash);
                let db = candidate.db;
                let found = dbs.get(db).and_then(|db| db.find(key));
                let worth = found.and_then(|entry| {
                    let may_go = may_go(&entry) && (policy.scope == Scope::All || entry.expires().is_some());
                    may_go.then(|| score(policy.order, access, &entry))
                });
                if worth.is_some_and(|score| score >= candidate.score) {
                    let entry = dbs[db].take(key);
                    return Some((db, entry.expect("the key has just been found")));
                }
            }
            attempts += 1;
            if !any && attempts >= ATTEMPTS {
                return self.take_scanned(policy.scope);
            }
        }
    }
}

/// Whether a key may be evicted at all.
#[inline]
fn may_go(entry: &Entry) -> bool {
    !entry.is_protected()
}

impl Database {
    /// Calls `f` for up to `n` keys in scope.
    ///
    /// The keys are neighbours at a random place, which is much cheaper than single random choices and, given the
    /// order of a hash table, equally representative.
    fn sample(&self, scope: Scope, n: usize, rng: &mut Rng, f: impl FnMut(&Entry)) {
        let rng = &mut || rng.next_u64();
        match scope {
            Scope::All => _ = self.keys().sample(n, rng, f),
            Scope::Volatile => self.sample_volatile(n, rng, f),
        }
    }

    /// Calls `f` for the keys in scope at `cursor` and returns the next cursor, 0 at the end.
    fn scan_scope(&self, scope: Scope, cursor: u64, mut f: impl FnMut(&Entry)) -> u64 {
        match scope {
            Scope::All => self.keys().scan(cursor, f),
            Scope::Volatile => self.scan_volatile(cursor, |entry, _| f(entry)),
        }
    }
}

/// Score of a key; the key with the highest is evicted first.
#[inline]
fn score(order: Order, access: &Access, entry: &Entry) -> u64 {
    match order {
        Order::Random => 0,
        Order::LeastRecent => u64::MAX - access.last_used(entry.access()),
        Order::LeastFrequent => u64::from(u8::MAX - access.frequency(entry.access())),
        // A time before 1970 comes before all others.
        Order::FirstToExpire => u64::MAX - entry.expires().map_or(u64::MAX, |at| at.0.max(0) as u64),
    }
}

/// A candidate for eviction.
#[derive(Default)]
struct Candidate {
    score: u64,
    hash: u64,
    db: usize,
    /// Its capacity is reused for the next candidate in this place.
    key: Vec<u8>,
}

/// Longest key whose memory is kept for the next candidate, in bytes.
const KEY_KEPT: usize = 256;

/// The best candidates known, by ascending score; no key twice.
#[derive(Default)]
struct Pool {
    candidates: [Candidate; POOL],
    len: usize,
}

impl Pool {
    /// Adds a key, unless the pool is full of better ones.
    fn offer(&mut self, score: u64, db: usize, key: &[u8]) {
        let full = self.len == POOL;
        if full && score <= self.candidates[0].score {
            return;
        }
        let key = Key::new(key);
        let known = self.candidates[..self.len]
            .iter()
            .position(|known| known.hash == key.hash() && known.db == db && known.key == key.bytes);
        if let Some(known) = known {
            // Its score may have changed: it finds its place anew.
            self.candidates[known..self.len].rotate_left(1);
            self.len -= 1;
        }
        let mut at = self.candidates[..self.len].partition_point(|known| known.score < score);
        if self.len == POOL {
            // The worst leaves; its place comes before `at`, as it is worse than this one.
            self.candidates[..at].rotate_left(1);
            at -= 1;
        } else {
            self.candidates[at..=self.len].rotate_right(1);
            self.len += 1;
        }
        let candidate = &mut self.candidates[at];
        (candidate.score, candidate.hash, candidate.db) = (score, key.hash(), db);
        candidate.key.clear();
        candidate.key.shrink_to(KEY_KEPT.max(key.bytes.len()));
        candidate.key.extend_from_slice(key.bytes);
    }

    /// Removes and returns the best candidate.
    fn take_best(&mut self) -> Option<&Candidate> {
        self.len = self.len.checked_sub(1)?;
        Some(&self.candidates[self.len])
    }

    /// Checks the order, and that no key occurs twice.
    #[cfg(test)]
    fn check(&self) {
        let candidates = &self.candidates[..self.len];
        assert!(candidates.is_sorted_by_key(|candidate| candidate.score));
        for (i, one) in candidates.iter().enumerate() {
            assert!(candidates[i + 1..].iter().all(|other| (other.db, &other.key) != (one.db, &one.key)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::access::Noted;
    use crate::keyspace::free::Reclaimer;
    use crate::keyspace::{Change, Listeners, Ttl};
    use crate::stdx::clock::UnixMillis;
    use crate::types::Value;

    const NOW: i64 = 1_700_000_000_000;

    const POLICIES: [Policy; 7] = {
        const fn policy(scope: Scope, order: Order) -> Policy {
            Policy { scope, order }
        }
        [
            policy(Scope::All, Order::Random),
            policy(Scope::All, Order::LeastRecent),
            policy(Scope::All, Order::LeastFrequent),
            policy(Scope::Volatile, Order::Random),
            policy(Scope::Volatile, Order::LeastRecent),
            policy(Scope::Volatile, Order::LeastFrequent),
            policy(Scope::Volatile, Order::FirstToExpire),
        ]
    };

    #[test]
    fn protected_keys_are_never_evicted_and_the_others_are_found_among_them() {
        for policy in POLICIES {
            let mut space = space(3, 5, policy);
            let mut all = 0;
            for db in [0, 2] {
                for i in 0..2000u32 {
                    let name = format!("key:{i}");
                    let ttl = Ttl::At(UnixMillis(NOW + 1_000_000 + i64::from(i)));
                    space.db(db).set_string(Key::new(name.as_bytes()), Value::Int(1), ttl);
                    all += 1;
                    if i != 1234 {
                        assert_eq!(space.db(db).protect(Key::new(name.as_bytes()), true), Some(true));
                    }
                }
            }
            // A key may become protected after it was sampled.
            let late = Key::new(b"late");
            space.db(0).set_string(late, Value::Int(1), Ttl::At(UnixMillis(NOW + 1)));
            space.evictor.pool.offer(u64::MAX, 0, late.bytes);
            space.db(0).protect(late, true);
            for _ in 0..2 {
                assert!(space.evict(5).is_some(), "{policy:?}");
            }
            assert_eq!(space.evict(5), None, "{policy:?}");
            assert_eq!(space.dbs.iter().map(Database::len).sum::<usize>(), all + 1 - 2);
            assert_eq!(space.protected(), all + 1 - 2);
            space.dbs.iter().for_each(Database::check);
            space.db(2).protect(Key::new(b"key:7"), false);
            assert!(space.evict(5).is_some(), "{policy:?}");
            assert!(!space.db(2).contains(Key::new(b"key:7")));
        }
    }

    fn space(databases: usize, seed: u64, policy: Policy) -> Keyspace {
        let mut space = Keyspace::new(databases, Reclaimer::default(), Rng::new(seed));
        space.set_now(UnixMillis(NOW));
        if policy.order == Order::LeastFrequent {
            space.access.noted = Noted::Frequency;
        }
        space.evictor.set_policy(Some(policy));
        space
    }

    fn name(i: usize) -> Vec<u8> {
        format!("key:{i}").into_bytes()
    }

    fn add(space: &mut Keyspace, db: usize, i: usize, ttl: Option<i64>) {
        let ttl = ttl.map_or(Ttl::Clear, |ttl| Ttl::At(UnixMillis(NOW + ttl)));
        space.db(db).set_string(Key::new(&name(i)), Value::Int(i as i64), ttl);
    }

    fn is_there(space: &mut Keyspace, db: usize, i: usize) -> bool {
        space.db(db).exists_now(Key::new(&name(i)))
    }

    #[test]
    fn the_pool_keeps_the_best() {
        for seed in 0..50 {
            println!("seed {seed}");
            let mut rng = Rng::new(seed);
            let (mut pool, mut model) = (Pool::default(), std::collections::HashMap::new());
            for _ in 0..500 {
                if rng.one_in(4) {
                    let best = pool.take_best().map(|best| (best.score, best.key.clone()));
                    let expected = model.values().copied().max();
                    assert_eq!(best.as_ref().map(|best| best.0), expected);
                    if let Some((score, key)) = best {
                        assert_eq!(model.remove(&key), Some(score));
                    }
                } else {
                    let (score, key) = (rng.below(1000), name(rng.index(60)));
                    pool.offer(score, 0, &key);
                    let worst = model.values().copied().min();
                    let full = model.len() == POOL;
                    if !full || score > worst.unwrap_or(0) {
                        let known = model.insert(key.clone(), score).is_some();
                        if full && !known {
                            // Of several that are worst, the pool may drop any.
                            let kept = |dropped: &Vec<u8>| {
                                pool.candidates[..pool.len].iter().any(|kept| kept.key == *dropped)
                            };
                            let dropped = model.iter().find(|(k, s)| Some(**s) == worst && !kept(k));
                            let dropped = dropped.expect("one of the worst is dropped").0.clone();
                            model.remove(&dropped);
                        }
                    }
                }
                pool.check();
                assert_eq!(pool.len, model.len());
            }
        }
    }

    #[test]
    fn the_recently_used_stay() {
        for (seed, samples, most_lost) in [(1, 3, 60), (2, 5, 25), (3, 10, 5)] {
            let policy = Policy { scope: Scope::All, order: Order::LeastRecent };
            let mut space = space(1, seed, policy);
            for i in 0..4000 {
                space.set_now(UnixMillis(NOW + i as i64 * 1000));
                add(&mut space, 0, i, None);
            }
            // The first quarter is used again, and last.
            for i in 0..1000 {
                space.set_now(UnixMillis(NOW + (4000 + i as i64) * 1000));
                assert!(space.db(0).read(Key::new(&name(i))).is_some());
            }
            for _ in 0..2000 {
                assert!(space.evict(samples).is_some());
                space.evictor.pool.check();
            }
            assert_eq!(space.len(), 2000);
            space.dbs[0].check();
            let used_lost = (0..1000).filter(|&i| !is_there(&mut space, 0, i)).count();
            assert!(used_lost <= most_lost, "{used_lost} of the recent quarter with {samples} samples");
            // Of the others, those added first are gone.
            let old = (1000..2000).filter(|&i| is_there(&mut space, 0, i)).count();
            let new = (3000..4000).filter(|&i| is_there(&mut space, 0, i)).count();
            assert!(old < new / 2, "{old} old and {new} new ones with {samples} samples");
        }
    }

    #[test]
    fn the_often_used_stay() {
        let policy = Policy { scope: Scope::All, order: Order::LeastFrequent };
        let mut space = space(2, 7, policy);
        for i in 0..2000 {
            add(&mut space, i % 2, i, None);
        }
        for _ in 0..20 {
            for i in 0..500 {
                space.db(i % 2).read(Key::new(&name(i)));
            }
        }
        for _ in 0..1400 {
            space.evict(5);
        }
        let lost = (0..500).filter(|&i| !is_there(&mut space, i % 2, i)).count();
        assert!(lost <= 10, "{lost} of the often used");
    }

    #[test]
    fn what_expires_first_goes_first() {
        let policy = Policy { scope: Scope::Volatile, order: Order::FirstToExpire };
        let mut space = space(1, 11, policy);
        for i in 0..1000 {
            add(&mut space, 0, i, Some(1000 + (i as i64 * 7919) % 1_000_000));
        }
        for _ in 0..500 {
            space.evict(10);
        }
        let mut left: Vec<i64> = (0..1000)
            .filter(|&i| is_there(&mut space, 0, i))
            .map(|i| (i as i64 * 7919) % 1_000_000)
            .collect();
        left.sort_unstable();
        assert_eq!(left.len(), 500);
        let early = left.iter().filter(|&&ttl| ttl < 400_000).count();
        assert!(early < 20, "{early} of those that expire early are left");
    }

    #[test]
    fn each_policy_evicts_what_it_may_and_then_nothing() {
        for (seed, policy) in POLICIES.into_iter().enumerate() {
            println!("{policy:?}");
            let mut space = space(3, seed as u64, policy);
            space.ledger.listeners.set(Listeners::NOTIFY, true);
            for i in 0..600 {
                add(&mut space, if i % 4 == 0 { 2 } else { 0 }, i, (i % 3 == 0).then_some(1000 + i as i64));
            }
            space.ledger.take();
            let mut evicted = 0;
            while space.evict(5).is_some() {
                evicted += 1;
                let (changes, keys) = space.ledger.take();
                let [Change::Gone { db, key, event }] = &changes[..] else { panic!("{changes:?}") };
                assert_eq!((event.class, event.name), (Class::Evicted, "evicted"));
                let (db, bytes) = (*db as usize, &keys[key.clone()]);
                assert!(!space.db(db).exists_now(Key::new(bytes)));
                space.dbs[db].check();
            }
            let all = policy.scope == Scope::All;
            assert_eq!(evicted, if all { 600 } else { 200 });
            assert_eq!(space.stats.evicted, evicted);
            assert_eq!(space.len(), if all { 0 } else { 400 });
            for i in 0..600 {
                let there = is_there(&mut space, if i % 4 == 0 { 2 } else { 0 }, i);
                assert_eq!(there, !all && i % 3 != 0, "key {i}");
            }
        }
    }

    #[test]
    fn nothing_goes_without_a_policy() {
        let mut space = space(1, 1, POLICIES[0]);
        space.evictor.set_policy(None);
        add(&mut space, 0, 1, Some(10));
        assert_eq!(space.evict(5), None);
        assert_eq!(space.len(), 1);
    }

    #[test]
    fn a_candidate_that_was_used_or_made_permanent_is_spared() {
        let policy = Policy { scope: Scope::Volatile, order: Order::LeastRecent };
        let mut space = space(1, 5, policy);
        for i in 0..10 {
            add(&mut space, 0, i, Some(100_000));
        }
        // All are in the pool now.
        space.set_now(UnixMillis(NOW + 5000));
        space.evict(64);
        assert_eq!((space.evictor.pool.len, space.len()), (9, 9));
        let left: Vec<usize> = (0..10).filter(|&i| is_there(&mut space, 0, i)).collect();
        let (used, permanent, victims) = (left[0], left[1], &left[2..]);
        space.set_now(UnixMillis(NOW + 9000));
        space.db(0).read(Key::new(&name(used)));
        space.db(0).set_expires(Key::new(&name(permanent)), None);
        for _ in victims {
            space.evict(1);
        }
        assert!(is_there(&mut space, 0, used) && is_there(&mut space, 0, permanent));
        assert_eq!(space.len(), 2);
        assert!(space.evict(1).is_some());
        assert_eq!(space.evict(1), None);
        assert!(is_there(&mut space, 0, permanent));
    }

    #[test]
    fn random_evictions_take_the_databases_in_turn() {
        let mut space = space(4, 9, Policy { scope: Scope::All, order: Order::Random });
        for i in 0..300 {
            add(&mut space, [0, 1, 3][i % 3], i, None);
        }
        for _ in 0..150 {
            space.evict(5);
        }
        let left: Vec<usize> = space.databases().iter().map(Database::len).collect();
        assert_eq!(left, [50, 50, 0, 50]);
    }
}
