//! Sets: distinct byte strings without order.
//!
//! A set is an intset while all members are integers, otherwise a listpack while it is short, otherwise a hash
//! table:
//!
//! ```text
//!   intset ──── a text comes in, and few short members ────► listpack
//!     │                                                         │
//!     └── a text comes in, or too many ──► hash table ◄── too many, or too long
//! ```
//!
//! Invariants: a member is stored once; a set goes back along the arrows only when it is rebuilt; the hash table
//! has one allocation per member, `[length][bytes]`.
//!
//! Set algebra looks up members in windows of 16: members that a set lacks are removed from the window, the rest
//! goes on to the next set, and the memory for 16 lookups is prefetched before the first.

use std::mem::take;
use std::ops::ControlFlow;

use super::Limits;
use super::packed::{Unfit, longest_key};
use super::prefetch::{self, PrefetchTarget, Prefetcher};
use super::random;
use super::value::{Collection, Describe, Part};
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::hash::{Key, hash};
use crate::stdx::num;
use crate::stdx::rng::Rng;
use crate::structures::dict::{self, Dict, Place};
use crate::structures::intset::{self, Intset};
use crate::structures::listpack::{self, Item, Listpack, encoded_size};
use crate::structures::member::Member;
use crate::structures::tagged::{Lent, OneOf, Place as BlockPlace, View, ViewMut};

/// Largest number of members in an intset, whatever the configuration, because its count has 32 bits.
const INTSET_MAX: usize = 1 << 30;

// ---- the set --------------------------------------------------------------------------------

type Table = Dict<Member>;

/// A set of byte strings in one machine word.
#[repr(transparent)]
pub struct Set(OneOf<Intset, Listpack, Box<Table>>);

enum Encoding<'a> {
    Ints(&'a Intset),
    Pack(Lent<'a, Listpack>),
    Table(&'a Table),
}

enum EncodingMut<'a> {
    Ints(&'a mut Intset),
    Pack(BlockPlace<'a, Listpack>),
    Table(&'a mut Table),
}

impl From<Intset> for Set {
    fn from(ints: Intset) -> Set {
        Set(OneOf::first(ints))
    }
}

impl From<Listpack> for Set {
    /// The values of the listpack are distinct.
    fn from(pack: Listpack) -> Set {
        Set(OneOf::second(pack))
    }
}

impl From<Table> for Set {
    fn from(table: Table) -> Set {
        Set(OneOf::third(Box::new(table)))
    }
}

impl Default for Set {
    fn default() -> Set {
        Set::new()
    }
}

/// Creation, lookup and changes.
impl Set {
    /// An empty intset.
    pub fn new() -> Set {
        Intset::new().into()
    }

    /// An empty set in the encoding for `n` members, one of which is `first`.
    pub fn for_members(first: &[u8], n: usize, limits: &Limits) -> Set {
        if n <= limits.set_max_intset_entries && num::parse_i64(first).is_some() {
            Intset::new().into()
        } else if n <= limits.set_max_listpack_entries {
            Listpack::new().into()
        } else {
            Dict::with_capacity(n).into()
        }
    }

    #[inline(always)]
    fn encoded(&self) -> Encoding<'_> {
        match self.0.view() {
            View::First(ints) => Encoding::Ints(ints),
            View::Second(pack) => Encoding::Pack(pack),
            View::Third(table) => Encoding::Table(table),
        }
    }

    #[inline(always)]
    fn encoded_mut(&mut self) -> EncodingMut<'_> {
        match self.0.view_mut() {
            ViewMut::First(ints) => EncodingMut::Ints(ints),
            ViewMut::Second(pack) => EncodingMut::Pack(pack),
            ViewMut::Third(table) => EncodingMut::Table(table),
        }
    }

    /// Converts to the encoding in which `item`, which is absent, can be added within the limits. The only place
    /// that decides this.
    #[inline]
    fn admit(&mut self, item: Item<'_>, limits: &Limits) {
        let short = |pack_len: usize| {
            pack_len < limits.set_max_listpack_entries && item.len() <= limits.set_max_listpack_value
        };
        let to_pack = match self.encoded() {
            Encoding::Table(_) => return,
            Encoding::Pack(pack) => {
                if short(pack.len()) && pack.would_fit(encoded_size(item)) {
                    return;
                }
                false
            }
            Encoding::Ints(ints) => {
                if item.int().is_some() {
                    if ints.len() < limits.set_max_intset_entries.min(INTSET_MAX) {
                        return;
                    }
                    false
                } else {
                    let longest = |v: Option<i64>| v.map_or(0, num::decimal_len);
                    let widest = longest(ints.min()).max(longest(ints.max()));
                    short(ints.len()) && widest <= limits.set_max_listpack_value
                }
            }
        };
        if to_pack { self.become_pack() } else { self.become_table(self.len() + 1) }
    }

    #[cold]
    fn become_pack(&mut self) {
        let items: Vec<Item<'_>> = self.iter().collect();
        *self = Listpack::from_items(&items).into();
    }

    #[cold]
    fn become_table(&mut self, capacity: usize) {
        let mut table = Table::with_capacity(capacity);
        for item in self.iter() {
            let mut digits = itoa::Buffer::new();
            let text = item.text(&mut digits);
            table.insert_unique(hash(text), Member::new(text));
        }
        *self = table.into();
    }

    /// Prepares for `n` more members: if they would not fit, converts to a hash table of that size at once.
    pub fn expect(&mut self, n: usize, limits: &Limits) {
        let too_many = match self.encoded() {
            Encoding::Ints(_) => n > limits.set_max_intset_entries,
            Encoding::Pack(_) => n > limits.set_max_listpack_entries,
            Encoding::Table(_) => false,
        };
        if too_many {
            self.become_table(n);
        }
    }

    /// Adds a member and returns whether it was absent. O(1), O(n) in the small encodings.
    #[inline]
    pub fn add(&mut self, member: &[u8], limits: &Limits) -> bool {
        self.add_item(Item::Str(member), limits)
    }

    /// Adds a member and returns whether it was absent. O(1), O(n) in the small encodings.
    pub fn add_item(&mut self, item: Item<'_>, limits: &Limits) -> bool {
        let present = match self.encoded_mut() {
            EncodingMut::Table(table) => return add_to_table(table, item),
            EncodingMut::Pack(pack) => pack.with(|pack| pack.find(item, 0).is_some()),
            EncodingMut::Ints(ints) => item.int().is_some_and(|v| ints.contains(v)),
        };
        if present {
            return false;
        }
        self.admit(item, limits);
        match self.encoded_mut() {
            EncodingMut::Table(table) => add_to_table(table, item),
            EncodingMut::Pack(pack) => {
                pack.with(|pack| pack.push_back(item));
                true
            }
            EncodingMut::Ints(ints) => ints.add(item.int().expect("a text is admitted to no intset")),
        }
    }

    /// Removes a member and returns whether it was present. O(1), O(n) in the small encodings.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self.encoded_mut() {
            EncodingMut::Ints(ints) => num::parse_i64(member).is_some_and(|v| ints.remove(v)),
            EncodingMut::Pack(pack) => pack.with(|pack| match pack.find(member, 0) {
                Some(pos) => {
                    pack.remove(pos);
                    true
                }
                None => false,
            }),
            EncodingMut::Table(table) => table.remove(hash(member), member).is_some(),
        }
    }

    /// Whether `member` is in the set. O(1), O(log n) in an intset, O(n) in a listpack.
    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        match self.encoded() {
            Encoding::Ints(ints) => num::parse_i64(member).is_some_and(|v| ints.contains(v)),
            Encoding::Pack(pack) => pack.find(member, 0).is_some(),
            Encoding::Table(table) => table.find(hash(member), member).is_some(),
        }
    }

    /// Calls `each` for each of `members`, in order, with whether it is in the set.
    pub fn contains_each<'m>(&self, members: impl Iterator<Item = &'m [u8]>, mut each: impl FnMut(bool)) {
        let Encoding::Table(table) = self.encoded() else {
            return members.for_each(|member| each(self.contains(member)));
        };
        table.find_each(members.map(Key::new), |found| each(found.is_some()));
    }

    /// The members, in no particular order.
    #[inline]
    pub fn iter(&self) -> Members<'_> {
        Members(match self.encoded() {
            Encoding::Ints(ints) => Walk::Ints(ints.iter()),
            Encoding::Pack(pack) => Walk::Pack(pack.items()),
            Encoding::Table(table) => Walk::Table(table.iter()),
        })
    }

    /// Calls `each` with the members at `cursor` and returns the next cursor. A scan starts with 0 and ends when 0
    /// is returned.
    ///
    /// Every member that stays in the set during the whole scan is seen. A small encoding shows all members at
    /// once.
    pub fn scan(&self, cursor: u64, mut each: impl FnMut(Item<'_>)) -> u64 {
        match self.encoded() {
            Encoding::Table(table) => table.scan(cursor, |member| each(Item::Str(member.text()))),
            _ => {
                self.iter().for_each(each);
                0
            }
        }
    }

    /// A set from an intset read from a file. It becomes a hash table if the limits require that. O(n).
    pub fn from_intset(ints: Intset, limits: &Limits) -> Set {
        let mut set = Set::from(ints);
        set.expect(set.len(), limits);
        set
    }

    /// A set from a listpack read from a file. It becomes a hash table if the limits require that. O(n).
    ///
    /// # Errors
    /// If a member occurs twice.
    pub fn from_listpack(pack: Listpack, limits: &Limits) -> Result<Set, Unfit> {
        let longest = longest_key(&pack, 1)?;
        let fits = longest <= limits.set_max_listpack_value && pack.len() <= limits.set_max_listpack_entries;
        let mut set = Set::from(pack);
        if !fits {
            set.become_table(set.len());
        }
        Ok(set)
    }

    /// The bytes of a small encoding, as files store them, and whether it is an intset rather than a listpack;
    /// `None` for a hash table.
    pub fn as_packed(&self) -> Option<(&[u8], bool)> {
        match self.encoded() {
            Encoding::Ints(ints) => Some((ints.as_bytes(), true)),
            Encoding::Pack(pack) => Some((pack.bytes_of(), false)),
            Encoding::Table(_) => None,
        }
    }

    /// Panics if an invariant is violated. O(n).
    pub fn check(&self) {
        match self.encoded() {
            Encoding::Ints(ints) => assert!(ints.iter().is_sorted_by(|a, b| a < b)),
            Encoding::Pack(pack) => {
                pack.check();
                for (pos, item) in pack.entries() {
                    assert_eq!(pack.find(item, 0), Some(pos), "a member is stored once");
                }
            }
            Encoding::Table(table) => {
                for member in table.iter() {
                    let found = table.find(hash(member.key()), member.key()).map(|found| found.as_raw());
                    assert_eq!(found, Some(member.as_raw()), "a member is stored once");
                }
            }
        }
    }
}

#[inline]
fn add_to_table(table: &mut Table, item: Item<'_>) -> bool {
    let mut digits = itoa::Buffer::new();
    let text = item.text(&mut digits);
    match table.entry(hash(text), text) {
        Place::Occupied(_) => false,
        Place::Vacant(place) => {
            place.insert(Member::new(text));
            true
        }
    }
}

/// The members of a [`Set`].
pub struct Members<'a>(Walk<'a>);

enum Walk<'a> {
    Ints(intset::Iter<'a>),
    Pack(listpack::Iter<'a>),
    Table(dict::Iter<'a, Member>),
}

impl<'a> Iterator for Members<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        match &mut self.0 {
            Walk::Ints(ints) => ints.next().map(Item::Int),
            Walk::Pack(items) => items.next(),
            Walk::Table(members) => members.next().map(|member| Item::Str(member.key())),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Walk::Ints(ints) => ints.size_hint(),
            Walk::Pack(items) => items.size_hint(),
            Walk::Table(members) => members.size_hint(),
        }
    }

    #[inline]
    fn fold<B, F: FnMut(B, Item<'a>) -> B>(self, init: B, mut f: F) -> B {
        match self.0 {
            Walk::Ints(ints) => ints.map(Item::Int).fold(init, f),
            Walk::Pack(items) => items.fold(init, f),
            Walk::Table(members) => members.fold(init, |acc, member| f(acc, Item::Str(member.key()))),
        }
    }
}

// ---- random members -------------------------------------------------------------------------

/// If this many times more members are removed than stay, those that stay are chosen instead.
const KEEP_FEW: usize = 5;

/// Random members: each member, and each combination of members, is equally likely.
impl Set {
    /// A random member, or `None` if the set is empty. O(1), O(n) in a listpack.
    pub fn random(&self, rng: &mut Rng) -> Option<Item<'_>> {
        if self.is_empty() {
            return None;
        }
        match self.encoded() {
            Encoding::Ints(ints) => ints.get(rng.index(ints.len())).map(Item::Int),
            Encoding::Pack(pack) => pack.items().nth(rng.index(pack.len())),
            Encoding::Table(table) => {
                table.random(&mut || rng.next_u64()).map(|member| Item::Str(member.key()))
            }
        }
    }

    /// Calls `each` `n` times with a random member, unless the set is empty.
    pub fn random_repeated(&self, n: usize, rng: &mut Rng, mut each: impl FnMut(Item<'_>)) {
        if self.is_empty() {
            return;
        }
        match self.encoded() {
            Encoding::Ints(ints) => {
                let len = ints.len();
                (0..n).filter_map(|_| ints.get(rng.index(len))).for_each(|v| each(Item::Int(v)));
            }
            Encoding::Pack(pack) => {
                let items: Vec<Item<'_>> = pack.items().collect();
                (0..n).for_each(|_| each(items[rng.index(items.len())]));
            }
            Encoding::Table(table) => {
                random::repeated(table, n, rng, |member| each(Item::Str(member.key())));
            }
        }
    }

    /// Calls `each` with `k` distinct random members, or with all if there are fewer, until it breaks. O(k), but O(n)
    /// in the small encodings and if `k` is a large part of the members.
    pub fn random_distinct(
        &self,
        k: usize,
        rng: &mut Rng,
        mut each: impl FnMut(Item<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let k = k.min(self.len());
        match self.encoded() {
            Encoding::Table(table) => random::distinct(table, k, rng, |m| each(Item::Str(m.key()))),
            Encoding::Ints(ints) => {
                let mut chosen = rng.select(k, ints.len()).filter_map(|i| ints.get(i));
                chosen.try_for_each(|v| each(Item::Int(v)))
            }
            Encoding::Pack(pack) => {
                let (mut items, mut passed) = (pack.items(), 0);
                for i in rng.select(k, pack.len()) {
                    each(items.nth(i - passed).expect("an index below the length"))?;
                    passed = i + 1;
                }
                ControlFlow::Continue(())
            }
        }
    }

    /// Removes `k` random members, or all if there are fewer, and calls `each` with each of them. O(k), but O(n) in
    /// the small encodings and if few members stay.
    ///
    /// If few members stay, they move to a new set in the appropriate encoding.
    pub fn pop(&mut self, k: usize, rng: &mut Rng, limits: &Limits, mut each: impl FnMut(Item<'_>)) {
        let stay = self.len().saturating_sub(k);
        if stay == 0 {
            take(self).iter().for_each(each);
            return;
        }
        let kept = match self.encoded_mut() {
            EncodingMut::Ints(ints) if k == 1 => {
                let v = ints.get(rng.index(ints.len())).expect("an index below the length");
                ints.remove(v);
                return each(Item::Int(v));
            }
            EncodingMut::Ints(ints) => {
                let mut kept = Vec::with_capacity(stay);
                split(ints.iter(), rng.select(k, ints.len()), |v| each(Item::Int(v)), |v| kept.push(v));
                *ints = Intset::from_sorted(kept);
                return;
            }
            EncodingMut::Pack(pack) if k == 1 => {
                return pack.with(|pack| {
                    let (pos, item) =
                        pack.entries().nth(rng.index(pack.len())).expect("an index below the length");
                    each(item);
                    pack.remove(pos);
                });
            }
            EncodingMut::Pack(pack) => {
                return pack.with(|pack| {
                    let mut kept = Vec::with_capacity(stay);
                    split(pack.iter(), rng.select(k, pack.len()), each, |item| kept.push(item));
                    *pack = Listpack::from_items(&kept);
                });
            }
            EncodingMut::Table(table) if stay.saturating_mul(KEEP_FEW) > k => {
                for _ in 0..k {
                    each(Item::Str(take_random(table, rng).text()));
                }
                return;
            }
            EncodingMut::Table(table) => {
                let mut kept = Set::new();
                for _ in 0..stay {
                    kept.add(take_random(table, rng).text(), limits);
                }
                table.iter().for_each(|member| each(Item::Str(member.key())));
                kept
            }
        };
        *self = kept;
    }
}

/// Passes each of `items` to `chosen` if its index is among the ascending `indices`, otherwise to `other`.
fn split<T>(
    items: impl Iterator<Item = T>,
    mut indices: impl Iterator<Item = usize>,
    mut chosen: impl FnMut(T),
    mut other: impl FnMut(T),
) {
    let mut next = indices.next();
    for (i, item) in items.enumerate() {
        if next == Some(i) {
            next = indices.next();
            chosen(item);
        } else {
            other(item);
        }
    }
}

/// Removes a random member from a non-empty table.
fn take_random(table: &mut Table, rng: &mut Rng) -> Member {
    table.remove_random(&mut || rng.next_u64()).expect("the table is not empty")
}

// ---- set algebra ----------------------------------------------------------------------------

/// Number of members that are looked up together.
const WINDOW: usize = 16;

/// A member on its way through several sets.
struct Wanted<'a> {
    item: Item<'a>,
    /// Computed at the first hash table.
    hash: Option<u64>,
}

impl Wanted<'_> {
    #[inline]
    fn hash(&mut self) -> u64 {
        let item = self.item;
        *self.hash.get_or_insert_with(|| hash(item.text(&mut itoa::Buffer::new())))
    }
}

impl Set {
    /// Keeps the members of the window that are in this set, or those that are not.
    fn filter(&self, window: &mut Vec<Wanted<'_>>, keep_present: bool) {
        match self.encoded() {
            Encoding::Ints(ints) => {
                window.retain(|w| w.item.int().is_some_and(|v| ints.contains(v)) == keep_present);
            }
            Encoding::Pack(pack) => window.retain(|w| pack.find(w.item, 0).is_some() == keep_present),
            Encoding::Table(table) => {
                window.iter_mut().for_each(|w| table.prefetch_bucket(w.hash()));
                window.iter_mut().for_each(|w| table.prefetch_element(w.hash()));
                window.retain_mut(|w| {
                    let hash = w.hash();
                    let found = table.find(hash, w.item.text(&mut itoa::Buffer::new())).is_some();
                    found == keep_present
                });
            }
        }
    }
}

/// Calls `each` with the `items` that are in all of `sets`, or in none of them.
fn filtered<'a>(
    items: impl Iterator<Item = Item<'a>>,
    sets: &[&Set],
    keep_present: bool,
    each: &mut impl FnMut(Item<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let mut items = items.map(|item| Wanted { item, hash: None });
    let mut window = Vec::with_capacity(WINDOW);
    loop {
        window.extend(items.by_ref().take(WINDOW));
        if window.is_empty() {
            return ControlFlow::Continue(());
        }
        for set in sets {
            if window.is_empty() {
                break;
            }
            set.filter(&mut window, keep_present);
        }
        for wanted in window.drain(..) {
            each(wanted.item)?;
        }
    }
}

/// Calls `each` with the members common to all sets until it breaks. Sorts `sets` by size.
///
/// O(s·k) for k sets, the smallest of which has s members. Two intsets are intersected by galloping search, and two
/// hash tables of about the same size are joined bucket by bucket.
pub fn intersect<'a>(
    sets: &mut [&'a Set],
    mut each: impl FnMut(Item<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    sets.sort_by_key(|set| set.len());
    let Some((&smallest, others)) = sets.split_first() else { return ControlFlow::Continue(()) };
    if let Some((&second, others)) = others.split_first()
        && let (Encoding::Ints(a), Encoding::Ints(b)) = (smallest.encoded(), second.encoded())
    {
        let mut common = Vec::new();
        a.intersect(b, |v| common.push(v));
        return filtered(common.into_iter().map(Item::Int), others, true, &mut each);
    }
    if let Some((&second, others)) = others.split_first()
        && let (Encoding::Table(a), Encoding::Table(b)) = (smallest.encoded(), second.encoded())
        && let Some(common) = a.join(b)
    {
        let mut common = common.map(|member| Item::Str(member.key()));
        return if others.is_empty() {
            common.try_for_each(each)
        } else {
            filtered(common, others, true, &mut each)
        };
    }
    filtered(smallest.iter(), others, true, &mut each)
}

/// Number of sets up to which [`union`] looks up each member in the preceding sets instead of collecting all
/// members seen.
const UNION_PROBES: usize = 3;

/// Calls `each` once with every member of any set, until it breaks. O(total).
pub fn union<'a>(
    sets: &[&'a Set],
    limits: &Limits,
    mut each: impl FnMut(Item<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    if sets.len() <= UNION_PROBES {
        return (0..sets.len()).try_for_each(|i| filtered(sets[i].iter(), &sets[..i], false, &mut each));
    }
    let mut seen = Set::new();
    for item in sets.iter().flat_map(|set| set.iter()) {
        if seen.add_item(item, limits) {
            each(item)?;
        }
    }
    ControlFlow::Continue(())
}

/// Calls `each` with the members of `first` that are in none of `others`, until it breaks. Sorts `others` by size.
///
/// Looks up either the members of `first` in the others, or theirs in `first`, whichever takes fewer lookups. A
/// lookup of the first kind may be the last for its member, and so counts half.
pub fn difference<'a>(
    first: &'a Set,
    others: &mut [&'a Set],
    limits: &Limits,
    mut each: impl FnMut(Item<'a>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let forward = first.len().saturating_mul(others.len() + 1) / 2;
    let backward = others.iter().fold(first.len(), |sum, set| sum.saturating_add(set.len()));
    if forward <= backward {
        // A large set is most likely to have a member.
        others.sort_by_key(|set| std::cmp::Reverse(set.len()));
        return filtered(first.iter(), others, false, &mut each);
    }
    let mut removed = Set::new();
    for set in others.iter() {
        let _ = filtered(set.iter(), &[first], true, &mut |item| {
            removed.add_item(item, limits);
            ControlFlow::Continue(())
        });
    }
    filtered(first.iter(), &[&removed], false, &mut each)
}

// ---- what the keyspace asks -----------------------------------------------------------------

impl Describe for Set {
    #[inline]
    fn len(&self) -> usize {
        match self.encoded() {
            Encoding::Ints(ints) => ints.len(),
            Encoding::Pack(pack) => pack.len(),
            Encoding::Table(table) => table.len(),
        }
    }

    fn effort(&self) -> usize {
        match self.encoded() {
            Encoding::Table(table) => table.len(),
            _ => 1,
        }
    }

    fn encoding(&self) -> &'static str {
        match self.encoded() {
            Encoding::Ints(_) => "intset",
            Encoding::Pack(_) => "listpack",
            Encoding::Table(_) => "hashtable",
        }
    }

    fn bytes(&self, samples: usize) -> usize {
        match self.encoded() {
            Encoding::Ints(ints) => ints.bytes(),
            Encoding::Pack(pack) => pack.allocated(),
            Encoding::Table(table) => {
                let samples = if samples == 0 { table.len() } else { samples.min(table.len()) };
                let sampled: usize =
                    table.iter().take(samples).map(|m| Member::block_bytes(m.key().len())).sum();
                let members = sampled as f64 / samples.max(1) as f64 * table.len() as f64;
                size_of::<Table>() + table.bytes() + members as usize
            }
        }
    }

    fn table_stats(&self) -> Option<dict::Stats> {
        match self.encoded() {
            Encoding::Table(table) => Some(table.stats()),
            _ => None,
        }
    }

    fn each_part(&self, f: &mut dyn FnMut(Part<'_>)) {
        for member in self.iter() {
            f(Part::Item(member.text(&mut itoa::Buffer::new())));
        }
    }
}

impl Collection for Set {
    fn duplicate(&self) -> Set {
        match self.encoded() {
            Encoding::Ints(ints) => ints.clone().into(),
            Encoding::Pack(pack) => Listpack::clone(&pack).into(),
            Encoding::Table(table) => {
                let mut copy = Table::with_capacity(table.len());
                for member in table.iter() {
                    copy.insert_unique(hash(member.key()), Member::new(member.key()));
                }
                copy.into()
            }
        }
    }

    #[inline]
    fn step(&mut self) {
        if let EncodingMut::Table(table) = self.encoded_mut() {
            table.step();
        }
    }

    fn relocate(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64 {
        if cursor == 0 {
            self.0.relocate(by);
        }
        match self.encoded_mut() {
            EncodingMut::Ints(_) | EncodingMut::Pack(_) => 0,
            EncodingMut::Table(table) => table.relocate(by, cursor, most, Member::relocated),
        }
    }

    fn prefetcher<'a>(&'a self, aim: PrefetchTarget<'a>) -> Option<Prefetcher<'a>> {
        match (self.encoded(), aim) {
            (Encoding::Table(table), PrefetchTarget::Member(member)) => {
                Some(Prefetcher::Set(table.prefetch_steps(hash(member))))
            }
            _ => prefetch::block(self.0.address()),
        }
    }
}

#[cfg(test)]
mod tests;
