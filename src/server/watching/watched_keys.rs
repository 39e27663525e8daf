//! Hot and big keys for the page with charts (`metrics-keys`).
//!
//! Keys are looked at only while somebody looks at the page: each question for its data keeps it up for [`KEPT`]. Hot
//! keys are found among a part of the requests, in one time after another ([`WINDOW`]), so that what was hot an hour ago
//! is forgotten. Big keys are found in passes through all keys, of which every tick of the timer does a [`SLICE`]; they
//! are measured again when they are reported, so that what has gone or shrunk meanwhile is not told.

use std::time::{Duration, Instant};

use super::hot_keys::{Cost, LONGEST_KEY};
use crate::keyspace::{Entry, Keyspace};
use crate::server::Server;
use crate::server::execution::admission::Conditions;
use crate::stats::metrics::{BigKey, HotKey, KeysReport};
use crate::stats::space_saving::SpaceSaving;
use crate::stdx::hash::Key;

/// How long keys are looked at after a question.
const KEPT: Duration = Duration::from_secs(15);
/// Time after which hot keys are counted anew.
const WINDOW: Duration = Duration::from_secs(10);
/// Keys of each kind that are told.
const TOLD: usize = 10;
/// Counters for hot keys, so that rare keys do not disturb the frequent ones.
const COUNTERS: usize = 8 * TOLD;
/// The longest slice of a pass, but for the keys of one bucket.
const SLICE: Duration = Duration::from_millis(1);
/// Time from the end of a pass to the next one.
const REST: Duration = Duration::from_secs(30);
/// Elements of a collection from which its size is estimated, as in MEMORY USAGE.
const SAMPLES: usize = 5;

/// What is found while somebody looks.
pub(super) struct WatchedKeys {
    /// When it ends, unless somebody asks again.
    until: Instant,
    current: Window,
    last: Option<Window>,
    pass: Pass,
    /// The big keys of the last complete pass.
    complete: Vec<Big>,
    /// When the next pass begins, if none is under way.
    rests_until: Option<Instant>,
}

/// Costs of keys in one time.
struct Window {
    began: Instant,
    ns: SpaceSaving,
    bytes: SpaceSaving,
    all: Cost,
}

impl Window {
    fn new(began: Instant) -> Window {
        Window {
            began,
            ns: SpaceSaving::new(COUNTERS),
            bytes: SpaceSaving::new(COUNTERS),
            all: Cost::default(),
        }
    }
}

/// A pass through all keys.
#[derive(Default)]
struct Pass {
    db: usize,
    cursor: u64,
    seen: u64,
    /// The biggest keys so far, in no order.
    found: Vec<Big>,
}

/// A big key.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Big {
    db: usize,
    key: Box<[u8]>,
    bytes: u64,
}

impl Pass {
    fn see(&mut self, entry: &Entry) {
        self.seen += 1;
        let bytes = entry.bytes(SAMPLES) as u64;
        let smallest = (0..self.found.len()).min_by_key(|&i| self.found[i].bytes);
        let full = self.found.len() == TOLD;
        if entry.key().len() > LONGEST_KEY || full && smallest.is_some_and(|i| self.found[i].bytes >= bytes) {
            return;
        }
        // A scan may see a key twice.
        if self.found.iter().any(|found| found.db == self.db && *found.key == *entry.key()) {
            return;
        }
        let big = Big { db: self.db, key: entry.key().into(), bytes };
        match smallest.filter(|_| full) {
            Some(i) => self.found[i] = big,
            None => self.found.push(big),
        }
    }

    /// Sees the keys of one bucket; whether the pass is over.
    fn step(&mut self, keyspace: &Keyspace) -> bool {
        let Some(database) = keyspace.databases().get(self.db) else { return true };
        let cursor = self.cursor;
        let next =
            if database.is_empty() { 0 } else { database.keys().scan(cursor, |entry| self.see(entry)) };
        self.cursor = next;
        self.db += usize::from(next == 0);
        false
    }
}

impl WatchedKeys {
    fn new(now: Instant) -> WatchedKeys {
        WatchedKeys {
            until: now + KEPT,
            current: Window::new(now),
            last: None,
            pass: Pass::default(),
            complete: Vec::new(),
            rests_until: None,
        }
    }

    /// Counts a request that is looked at.
    pub(super) fn count(&mut self, cost: Cost, keys: &[&[u8]]) {
        let Window { ns, bytes, all, .. } = &mut self.current;
        all.ns += cost.ns;
        all.bytes += cost.bytes;
        for key in keys.iter().filter(|key| key.len() <= LONGEST_KEY) {
            ns.add(key, cost.ns / keys.len() as u64);
            bytes.add(key, cost.bytes / keys.len() as u64);
        }
    }

    /// Does what is due at a time; `reads` says whether keys may be looked at.
    fn tick(&mut self, now: Instant, keyspace: &Keyspace, reads: bool) {
        if now.duration_since(self.current.began) >= WINDOW {
            self.last = Some(std::mem::replace(&mut self.current, Window::new(now)));
        }
        if !reads || self.rests_until.is_some_and(|until| now < until) {
            return;
        }
        self.rests_until = None;
        loop {
            if self.pass.step(keyspace) {
                self.complete = std::mem::take(&mut self.pass).found;
                self.rests_until = Some(Instant::now() + REST);
                return;
            }
            if now.elapsed() >= SLICE {
                return;
            }
        }
    }

    /// The hot keys, those first that take most time.
    fn hot(&self) -> Vec<HotKey> {
        let window = self.last.as_ref().unwrap_or(&self.current);
        let part = |sum: u64, all: u64| (sum as f64 / all.max(1) as f64).min(1.0);
        let (by_ns, by_bytes) = (window.ns.top(TOLD), window.bytes.top(TOLD));
        let all = window.all;
        let mut told: Vec<(&[u8], f64, f64)> =
            by_ns.iter().map(|&(key, ns)| (key, part(ns, all.ns), 0.0)).collect();
        for &(key, bytes) in &by_bytes {
            let part = part(bytes, all.bytes);
            match told.iter_mut().find(|(known, ..)| *known == key) {
                Some((.., of_bytes)) => *of_bytes = part,
                None => told.push((key, 0.0, part)),
            }
        }
        told.sort_by(|a, b| b.1.max(b.2).total_cmp(&a.1.max(a.2)));
        told.truncate(TOLD);
        told.into_iter()
            .map(|(key, of_time, of_bytes)| HotKey { name: shown(key), of_time, of_bytes })
            .collect()
    }

    /// The big keys that are still there, the biggest first.
    fn big(&self, keyspace: &Keyspace) -> Vec<BigKey> {
        let mut told: Vec<BigKey> = Vec::new();
        let mut known: Vec<&Big> = Vec::new();
        for big in self.pass.found.iter().chain(&self.complete) {
            if known.iter().any(|other| other.db == big.db && other.key == big.key) {
                continue;
            }
            known.push(big);
            let Some(database) = keyspace.databases().get(big.db) else { continue };
            let key = database.noting_slot(Key::new(&big.key));
            let Some(entry) = database.keys().find(key.hash(), key.bytes) else { continue };
            if entry.expires().is_some_and(|at| at <= keyspace.now()) {
                continue;
            }
            told.push(BigKey {
                name: shown(&big.key),
                db: big.db,
                kind: entry.kind().name(),
                bytes: entry.bytes(SAMPLES) as u64,
                elements: entry.describe().map(|collection| collection.len() as u64),
            });
        }
        told.sort_by_key(|big| std::cmp::Reverse(big.bytes));
        told.truncate(TOLD);
        told
    }

    /// The part of all keys that the first pass has seen; 1 if it is over.
    fn seen(&self, keyspace: &Keyspace) -> f64 {
        if self.rests_until.is_some() || !self.complete.is_empty() {
            return 1.0;
        }
        (self.pass.seen as f64 / keyspace.len().max(1) as f64).min(1.0)
    }
}

/// The longest part of a name that is shown, in characters.
const SHOWN: usize = 100;

/// A key's name for people: text as it is, anything else quoted; cut if it is long.
fn shown(key: &[u8]) -> String {
    // Characters that have no width or change the direction would hide what the name is.
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let text = std::str::from_utf8(key).ok().filter(|text| !text.is_empty() && !text.chars().any(hides));
    let (mut name, whole) = match text {
        Some(text) => (text.chars().take(SHOWN).collect::<String>(), text.chars().nth(SHOWN).is_none()),
        None => (crate::stdx::quote::repr(&key[..key.len().min(SHOWN)]), key.len() <= SHOWN),
    };
    if !whole {
        name.push('…');
        name += &format!(" ({} bytes)", key.len());
    }
    name
}

impl Server {
    /// What is known of hot and big keys, if they may be told. If somebody `looks`, they are looked at from now on.
    pub(super) fn report_keys(&mut self, looks: bool) -> Option<KeysReport> {
        if !self.config.metrics.keys || self.sentinel.is_some() {
            return None;
        }
        let now = Instant::now();
        let begins = !self.watches_keys();
        let metrics = self.metrics.as_deref_mut()?;
        let watched = metrics.keys.get_or_insert_with(|| Box::new(WatchedKeys::new(now)));
        if looks {
            watched.until = now + KEPT;
        }
        let report = KeysReport {
            hot: watched.hot(),
            big: watched.big(&self.keyspace),
            seen: watched.seen(&self.keyspace),
        };
        if begins {
            self.apply_thresholds();
        }
        Some(report)
    }

    /// Whether keys are looked at for the page.
    pub(super) fn watches_keys(&self) -> bool {
        self.metrics.as_ref().is_some_and(|metrics| metrics.keys.is_some())
    }

    /// Looks at some keys for the page, if somebody looks at it. Called by the timer.
    #[inline]
    pub(in crate::server) fn watch_keys(&mut self) {
        if self.watches_keys() {
            self.watch_keys_on();
        }
    }

    #[cold]
    fn watch_keys_on(&mut self) {
        let now = Instant::now();
        let reads = !self.conditions.has(Conditions::LOADING.with(Conditions::BUSY));
        let Some(metrics) = self.metrics.as_deref_mut() else { return };
        match &mut metrics.keys {
            Some(watched) if now < watched.until && self.config.metrics.keys => {
                watched.tick(now, &self.keyspace, reads);
            }
            keys => {
                *keys = None;
                self.apply_thresholds();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Ttl;
    use crate::keyspace::free::Reclaimer;
    use crate::stdx::clock::UnixMillis;
    use crate::stdx::rng::Rng;
    use crate::types::Value;

    #[test]
    fn names_are_text_or_quoted() {
        assert_eq!(shown(b"user:1 <b>&\"x'"), "user:1 <b>&\"x'");
        assert_eq!(shown("Grüße".as_bytes()), "Grüße");
        assert_eq!(shown(b"\x00\xff\"\n"), "\"\\x00\\xff\\\"\\n\"");
        assert_eq!(shown(b""), "\"\"");
        assert_eq!(shown("a\u{202e}b".as_bytes()), "\"a\\xe2\\x80\\xaeb\"");
        assert_eq!(shown("ä".repeat(100).as_bytes()), "ä".repeat(100));
        assert_eq!(shown("ä".repeat(101).as_bytes()), format!("{}… (202 bytes)", "ä".repeat(100)));
        assert_eq!(shown(&[0; 101]), format!("\"{}\"… (101 bytes)", "\\x00".repeat(100)));
    }

    #[test]
    fn hot_keys_have_their_parts_of_the_last_time() {
        let began = Instant::now();
        let mut watched = WatchedKeys::new(began);
        watched.count(Cost { ns: 30, bytes: 10 }, &[b"a"]);
        watched.count(Cost { ns: 10, bytes: 20 }, &[b"a", b"b"]);
        watched.count(Cost { ns: 10, bytes: 70 }, &[]);
        watched.count(Cost { ns: 50, bytes: 100 }, &[&[b'x'; LONGEST_KEY + 1]]);
        let told = |watched: &WatchedKeys| -> Vec<(String, f64, f64)> {
            watched.hot().into_iter().map(|hot| (hot.name, hot.of_time, hot.of_bytes)).collect()
        };
        let right = [("a".to_owned(), 0.35, 0.1), ("b".to_owned(), 0.05, 0.05)];
        assert_eq!(told(&watched), right);
        let keyspace = Keyspace::new(1, Reclaimer::default(), Rng::new(1));
        watched.tick(began + WINDOW / 2, &keyspace, true);
        watched.count(Cost { ns: 50, bytes: 0 }, &[b"b"]);
        watched.tick(began + WINDOW, &keyspace, true);
        assert!(watched.last.is_some());
        assert_eq!(told(&watched)[0].0, "b", "the whole time is told, until the next is over");
        watched.tick(began + WINDOW * 2, &keyspace, true);
        assert_eq!(told(&watched), []);
    }

    #[test]
    fn big_keys_are_found_in_slices_and_measured_again() {
        let mut keyspace = Keyspace::new(3, Reclaimer::default(), Rng::new(1));
        let set = |keyspace: &mut Keyspace, db: usize, key: &str, len: usize| {
            let value = vec![b'x'; len];
            keyspace.db(db).set_string(Key::new(key.as_bytes()), Value::Bytes(&value), Ttl::Clear);
        };
        for i in 0..5000 {
            set(&mut keyspace, 0, &format!("small:{i}"), 10);
        }
        for i in 0..2 * TOLD {
            // Sizes that the allocator tells apart.
            let len = 1000.0 * 1.3f64.powi(i as i32);
            set(&mut keyspace, 2 * (i % 2), &format!("big:{i}"), len as usize);
        }
        let now = Instant::now();
        let mut watched = WatchedKeys::new(now);
        assert_eq!(watched.seen(&keyspace), 0.0);
        let mut ticks = 0;
        while watched.rests_until.is_none() {
            watched.tick(Instant::now(), &keyspace, true);
            ticks += 1;
            assert!(ticks < 5000, "the pass ends");
        }
        assert_eq!(watched.seen(&keyspace), 1.0);
        let names = |watched: &WatchedKeys, keyspace: &Keyspace| -> Vec<(String, usize)> {
            watched.big(keyspace).into_iter().map(|big| (big.name, big.db)).collect()
        };
        let right: Vec<(String, usize)> =
            (TOLD..2 * TOLD).rev().map(|i| (format!("big:{i}"), 2 * (i % 2))).collect();
        assert_eq!(names(&watched, &keyspace), right);
        // One goes, one shrinks, and one is due.
        keyspace.db(2).remove(Key::new(b"big:19"), false);
        set(&mut keyspace, 0, "big:18", 1);
        keyspace.db(2).set_expires(Key::new(b"big:17"), Some(UnixMillis(1)));
        keyspace.set_now(UnixMillis(2));
        let told = names(&watched, &keyspace);
        assert_eq!(told[0].0, "big:16");
        assert_eq!((told.len(), told[TOLD - 3].0.as_str()), (TOLD - 2, "big:18"));
        // No pass begins before its time.
        watched.tick(Instant::now(), &keyspace, true);
        assert_eq!(watched.pass.seen, 0);
        watched.tick(Instant::now() + REST, &keyspace, false);
        assert_eq!(watched.pass.seen, 0, "keys may not be looked at");
    }
}
