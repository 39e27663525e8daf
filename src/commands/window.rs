//! Lookups of many keys in one request, with overlapping memory accesses.
//!
//! A lookup in a large keyspace waits for memory twice: for the bucket and for the entry. The keys of a window are
//! hashed and prefetched before the first of them is looked up, so that sixteen waits become about one.

use crate::keyspace::Db;
use crate::resp::Args;
use crate::server::execution::call::WINDOW;
use crate::stdx::hash::Key;

/// Whether `each` returns true for every key, which is every `step`th argument from the first on and is passed with
/// its position in `args`. Stops at the first false.
pub fn all_keys<'a>(
    db: &mut Db<'_>,
    args: Args<'a>,
    step: usize,
    mut each: impl FnMut(&mut Db<'_>, Key<'a>, usize) -> bool,
) -> bool {
    let mut window = [Key::NONE; WINDOW];
    for start in (0..args.len()).step_by(step * WINDOW) {
        let mut n = 0;
        for i in (start..args.len()).step_by(step).take(WINDOW) {
            window[n] = args.key(i);
            n += 1;
        }
        let keys = &mut window[..n];
        db.prefetch(keys);
        for (i, &key) in keys.iter().enumerate() {
            if !each(db, key, start + i * step) {
                return false;
            }
        }
    }
    true
}

/// Calls `each` for every key, which is every `step`th argument from the first on, with its position in `args`.
pub fn each_key<'a>(
    db: &mut Db<'_>,
    args: Args<'a>,
    step: usize,
    mut each: impl FnMut(&mut Db<'_>, Key<'a>, usize),
) {
    all_keys(db, args, step, |db, key, i| {
        each(db, key, i);
        true
    });
}
