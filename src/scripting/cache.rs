//! The cache of compiled scripts, which are found by source text or SHA-1.

use super::api::sha1_hex;
use super::lua::ffi::Reference;
use super::shebang::Flags;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::hash::{self, Map};

/// Largest number of scripts added by EVAL; those of SCRIPT LOAD are not counted.
pub const MOST_EVALUATED: usize = 500;

/// One script.
pub struct Compiled {
    /// SHA-1 of the source text, the name of the script.
    pub sha: [u8; 40],
    /// Source text with its first line.
    pub source: Box<[u8]>,
    /// The compiled function.
    pub function: Reference,
    /// Flags that the first line declares.
    pub flags: Flags,
    /// Hash of the source text.
    hash: u64,
    /// Whether the script stays until the cache is flushed.
    pinned: bool,
    /// Value of a counter at the last lookup, for eviction.
    used: u64,
}

/// All compiled scripts; see the module documentation.
#[derive(Default)]
pub struct Cache {
    slots: Vec<Option<Compiled>>,
    free: Vec<u32>,
    by_sha: Map<[u8; 40], u32>,
    by_hash: Map<u64, u32>,
    /// Number of scripts that are not pinned.
    evaluated: usize,
    clock: u64,
    source_bytes: usize,
    /// Number of scripts evicted so far.
    pub evicted: u64,
}

impl Cache {
    /// Number of scripts.
    pub fn len(&self) -> usize {
        self.by_sha.len()
    }

    /// Whether there are no scripts.
    pub fn is_empty(&self) -> bool {
        self.by_sha.is_empty()
    }

    /// Estimated bytes of source texts and entries.
    pub fn memory(&self) -> usize {
        self.source_bytes
            + self.slots.capacity() * size_of::<Option<Compiled>>()
            + self.by_sha.capacity() * 64
    }

    /// The script in `slot`.
    pub fn get(&self, slot: u32) -> Option<&Compiled> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// Finds a script by its source text. O(length).
    #[inline]
    pub fn by_source(&mut self, source: &[u8]) -> Option<u32> {
        let slot = *self.by_hash.get(&hash::hash(source))?;
        let clock = self.clock;
        let compiled = self.slots[slot as usize].as_mut()?;
        if *compiled.source != *source {
            return self.by_sha(&sha1_hex(source));
        }
        compiled.used = clock;
        self.clock += 1;
        Some(slot)
    }

    /// Finds a script by its SHA-1, in any letter case. O(1).
    #[inline]
    pub fn by_sha(&mut self, sha: &[u8]) -> Option<u32> {
        let slot = self.find(sha)?;
        let clock = self.clock;
        if let Some(compiled) = &mut self.slots[slot as usize] {
            compiled.used = clock;
        }
        self.clock += 1;
        Some(slot)
    }

    /// As [`Cache::by_sha`], but the lookup does not count as a use.
    pub fn find(&self, sha: &[u8]) -> Option<u32> {
        let mut name: [u8; 40] = sha.try_into().ok()?;
        name.make_ascii_lowercase();
        self.by_sha.get(&name).copied()
    }

    /// Keeps the script in `slot` until the cache is flushed.
    pub fn pin(&mut self, slot: u32) {
        if let Some(compiled) = &mut self.slots[slot as usize]
            && !compiled.pinned
        {
            compiled.pinned = true;
            self.evaluated -= 1;
        }
    }

    /// Adds a script that is not in the cache. Returns its slot, and the function of the script evicted for it, which
    /// the caller releases.
    pub fn insert(&mut self, source: &[u8], function: Reference, flags: Flags) -> (u32, Option<Reference>) {
        let out = if self.evaluated >= MOST_EVALUATED { self.evict() } else { None };
        let (sha, hash) = (sha1_hex(source), hash::hash(source));
        let compiled =
            Compiled { sha, source: source.into(), function, flags, hash, pinned: false, used: self.clock };
        self.clock += 1;
        self.evaluated += 1;
        self.source_bytes += source.len();
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(compiled);
                slot
            }
            None => {
                self.slots.push(Some(compiled));
                self.slots.len() as u32 - 1
            }
        };
        self.by_sha.insert(sha, slot);
        self.by_hash.insert(hash, slot);
        (slot, out)
    }

    /// Evicts the least recently used script of EVAL. O(scripts).
    fn evict(&mut self) -> Option<Reference> {
        let scripts = self.slots.iter().enumerate();
        let candidates = scripts.filter_map(|(slot, compiled)| {
            compiled.as_ref().filter(|compiled| !compiled.pinned).map(|compiled| (compiled.used, slot))
        });
        let (_, slot) = candidates.min()?;
        let compiled = self.slots[slot].take()?;
        self.free.push(slot as u32);
        self.by_sha.remove(&compiled.sha);
        if self.by_hash.get(&compiled.hash) == Some(&(slot as u32)) {
            self.by_hash.remove(&compiled.hash);
        }
        self.evaluated -= 1;
        self.source_bytes -= compiled.source.len();
        self.evicted += 1;
        Some(compiled.function)
    }

    /// Moves the texts of up to `most` scripts from the place `from` on to where memory is denser. Returns the place behind
    /// them; `None` if it was the last.
    pub fn relocate(&mut self, by: &mut Relocator, from: usize, most: usize) -> Option<usize> {
        let end = self.slots.len().min(from.saturating_add(most));
        let some = self.slots.get_mut(from..end)?;
        some.iter_mut().flatten().for_each(|compiled| by.relocate_bytes(&mut compiled.source));
        (end < self.slots.len()).then_some(end)
    }

    /// Empties the cache and returns all functions, which the caller releases.
    pub fn clear(&mut self) -> Vec<Reference> {
        let evicted = self.evicted;
        let cache = std::mem::take(self);
        self.evicted = evicted;
        cache.slots.into_iter().flatten().map(|compiled| compiled.function).collect()
    }
}
