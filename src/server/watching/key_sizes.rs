//! Histograms of the sizes of values, for INFO.
//!
//! No write keeps count of sizes: whoever asks has the keys counted. As long as there are few, they are counted at
//! once, and the answer is exact. Of many, the timer counts some in each tick, from when somebody asks, and the answer is
//! the result of the last complete pass. As with SCAN, a pass counts each key that is there all the time; while a table
//! is resized, it may count a key twice.

use std::time::{Duration, Instant};

use crate::keyspace::sizes::Sizes;
use crate::server::Server;
use crate::server::execution::admission::Conditions;

/// The most keys that are counted at once.
const AT_ONCE: usize = 100_000;
/// The longest slice of a pass, but for the keys of one bucket.
const LONGEST_SLICE: Duration = Duration::from_millis(2);
/// Time for which the result of a pass is recent enough.
const FRESH: Duration = Duration::from_secs(60);

/// What is known about sizes.
#[derive(Default)]
pub struct KeySizes {
    /// The last complete count, and when it began.
    counted: Option<(Instant, Counts)>,
    /// Whether that was a count of few keys, of which there were more soon.
    at_once: bool,
    pass: Option<Pass>,
}

/// The counts of each database with keys, by its number.
type Counts = Vec<(usize, Sizes)>;

/// A count of all keys under way.
struct Pass {
    began: Instant,
    /// The databases counted so far.
    counted: Counts,
    /// The database that is being counted.
    db: usize,
    sizes: Sizes,
    cursor: u64,
}

impl KeySizes {
    /// The last complete count of each database with keys, by its number.
    pub fn counted(&self) -> &[(usize, Sizes)] {
        self.counted.as_ref().map_or(&[], |(_, counted)| counted)
    }
}

impl Server {
    /// Counts the sizes of all values if there are few, and otherwise has the timer count them unless it did recently.
    pub fn count_key_sizes(&mut self) {
        let databases = self.keyspace.databases();
        let keys: usize = databases.iter().map(|db| db.len()).sum();
        let sizes = &mut self.key_sizes;
        if keys > AT_ONCE {
            let is_fresh = sizes.counted.as_ref().is_some_and(|(began, _)| began.elapsed() < FRESH);
            if sizes.pass.is_none() && (!is_fresh || sizes.at_once) {
                let (began, counted) = (Instant::now(), Counts::new());
                sizes.pass = Some(Pass { began, counted, db: 0, sizes: Sizes::default(), cursor: 0 });
            }
            return;
        }
        let mut counted = Counts::new();
        for (i, db) in databases.iter().enumerate().filter(|(_, db)| !db.is_empty()) {
            let mut sizes = Sizes::default();
            db.keys().iter_shown().for_each(|entry| sizes.add(&entry));
            counted.push((i, sizes));
        }
        *sizes = KeySizes { counted: Some((Instant::now(), counted)), at_once: true, pass: None };
    }

    /// Seconds since the counts that are shown were begun, where there are too many keys to count them at once; -1 if
    /// none is complete.
    pub fn age_of_key_sizes(&self) -> Option<i64> {
        let keys: usize = self.keyspace.databases().iter().map(|db| db.len()).sum();
        let counted = self.key_sizes.counted.as_ref();
        (keys > AT_ONCE).then(|| counted.map_or(-1, |(began, _)| began.elapsed().as_secs() as i64))
    }

    /// Continues a pass for a while.
    pub fn count_some_key_sizes(&mut self) {
        let Some(pass) = &mut self.key_sizes.pass else { return };
        if self.conditions.has(Conditions::LOADING) {
            return;
        }
        let started = Instant::now();
        let databases = self.keyspace.databases();
        while started.elapsed() < LONGEST_SLICE {
            let Some(db) = databases.get(pass.db) else {
                let pass = self.key_sizes.pass.take().expect("it is there");
                self.key_sizes.counted = Some((pass.began, pass.counted));
                self.key_sizes.at_once = false;
                return;
            };
            if !db.is_empty() {
                let sizes = &mut pass.sizes;
                pass.cursor = db.keys().scan(pass.cursor, |entry| sizes.add(entry));
                if pass.cursor != 0 {
                    continue;
                }
                pass.counted.push((pass.db, std::mem::take(&mut pass.sizes)));
            }
            (pass.db, pass.cursor) = (pass.db + 1, 0);
        }
    }
}
