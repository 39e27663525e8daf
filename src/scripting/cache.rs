//! Compiled scripts, found by their text or by its SHA-1.

use super::api::sha1_hex;
use super::lua::ffi::Reference;
use super::shebang::Flags;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::hash::{self, Map};

/// Scripts of EVAL that are kept; those of SCRIPT LOAD are not counted.
pub const MOST_EVALUATED: usize = 500;

/// One script.
pub struct Compiled {
    /// Its name: the SHA-1 of its text.
    pub sha: [u8; 40],
    /// The text, its first line included.
    pub source: Box<[u8]>,
    /// The function.
    pub function: Reference,
    /// What the first line declares.
    pub flags: Flags,
    /// The hash of the text.
    hash: u64,
    /// Whether it stays until it is flushed.
    pinned: bool,
    /// When it was last asked for.
    used: u64,
}

/// See the module.
#[derive(Default)]
pub struct Cache {
    slots: Vec<Option<Compiled>>,
    free: Vec<u32>,
    by_sha: Map<[u8; 40], u32>,
    by_hash: Map<u64, u32>,
    /// How many are not pinned.
    evaluated: usize,
    clock: u64,
    source_bytes: usize,
    /// Scripts that made room for others.
    pub evicted: u64,
}

impl Cache {
    /// How many scripts there are.
    pub fn len(&self) -> usize {
        self.by_sha.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_sha.is_empty()
    }

    /// Bytes that the texts and their entries take, about.
    pub fn memory(&self) -> usize {
        self.source_bytes
            + self.slots.capacity() * size_of::<Option<Compiled>>()
            + self.by_sha.capacity() * 64
    }

    /// The script in `slot`.
    pub fn get(&self, slot: u32) -> Option<&Compiled> {
        self.slots.get(slot as usize)?.as_ref()
    }

    /// Finds a script by its text. O(length).
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

    /// Finds a script by its SHA-1, whose letters may be of either case. O(1).
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

    /// As [`Cache::by_sha`], but does not count as a use.
    pub fn find(&self, sha: &[u8]) -> Option<u32> {
        let mut name: [u8; 40] = sha.try_into().ok()?;
        name.make_ascii_lowercase();
        self.by_sha.get(&name).copied()
    }

    /// Keeps the script in `slot` until it is flushed.
    pub fn pin(&mut self, slot: u32) {
        if let Some(compiled) = &mut self.slots[slot as usize]
            && !compiled.pinned
        {
            compiled.pinned = true;
            self.evaluated -= 1;
        }
    }

    /// Adds a script that is not there yet. The function of the one that made room for it is to be released.
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

    /// Drops the script of EVAL that was not asked for the longest. O(scripts).
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

    /// Empties the cache, and returns the functions that are to be released.
    pub fn clear(&mut self) -> Vec<Reference> {
        let evicted = self.evicted;
        let cache = std::mem::take(self);
        self.evicted = evicted;
        cache.slots.into_iter().flatten().map(|compiled| compiled.function).collect()
    }
}
