//! Random elements of a dict that holds a collection.

use std::collections::HashSet;
use std::ops::ControlFlow;

use crate::stdx::rng::Rng;
use crate::structures::dict::{Borrowed, Dict, Element};

/// Smallest part of all elements (one in so many) for which a choice of several considers all of them.
const DENSE: usize = 3;

/// Calls `each` `n` times with an element, each equally likely. Does nothing if the dict is empty.
pub(super) fn repeated<'a, E: Element>(
    dict: &'a Dict<E>,
    n: usize,
    rng: &mut Rng,
    mut each: impl FnMut(Borrowed<'a, E>),
) {
    for _ in 0..n {
        let Some(e) = dict.random(&mut || rng.next_u64()) else { return };
        each(e);
    }
}

/// Calls `each` with `k` distinct elements, or with all if there are fewer, until it breaks; every such set is equally
/// likely.
///
/// O(k) if `k` is a small part of the elements, else O(n).
pub(super) fn distinct<'a, E: Element>(
    dict: &'a Dict<E>,
    k: usize,
    rng: &mut Rng,
    mut each: impl FnMut(Borrowed<'a, E>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if k >= dict.len() {
        return dict.iter().try_for_each(each);
    } else if k > dict.len() / DENSE {
        let mut all: Vec<Borrowed<'a, E>> = dict.iter().collect();
        for left in (dict.len() - k + 1..=dict.len()).rev() {
            each(all.swap_remove(rng.index(left)))?;
        }
    } else {
        let mut seen = HashSet::with_capacity(k);
        while seen.len() < k {
            let Some(e) = dict.random(&mut || rng.next_u64()) else { break };
            if seen.insert(e.as_raw()) {
                each(e)?;
            }
        }
    }
    ControlFlow::Continue(())
}
