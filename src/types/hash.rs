//! Hashes: fields with a value each, in no particular order.
//!
//! A hash is a listpack of alternating fields and values while it is short and no field expires, otherwise a hash
//! table. It never changes back. A table with fields that expire also has a queue of these ([`Volatile`]); other tables
//! pay nothing for that possibility.
//!
//! A hash does not know the time. Callers that read pass it as `now`: a field that has expired by then is treated as
//! absent, but stays until it is overwritten or [`Hash::pop_due`] removes it.
//!
//! What always holds: a field is stored once; the hash table holds one allocation per field, value included.

use std::ops::ControlFlow;

use super::Limits;
use super::packed::{Unfit, longest_key};
use super::prefetch::{self, PrefetchTarget, Prefetcher};
use super::random;
use super::value::{Collection, Describe, Part, Value};
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::{Key, hash};
use crate::stdx::rng::Rng;
use crate::structures::dict::{self, Dict, Place};
use crate::structures::field::{Field, item_of, len_of, pair, value};
use crate::structures::listpack::{self, Item, Listpack, Pos, encoded_size};
use crate::structures::tagged::{OneOf, View, ViewMut};
use crate::structures::volatile::Volatile;
pub use crate::structures::volatile::{Before, NewExpiry};

// ---- the hash -------------------------------------------------------------------------------

type Table = Dict<Field>;

/// A hash in one machine word.
#[repr(transparent)]
pub struct Hash(OneOf<Listpack, Box<Table>, Box<Volatile>>);

enum Encoding<'a> {
    Pack(&'a Listpack),
    Table(&'a Table),
    /// A table with at least one field that expires, or that had one at the last maintenance.
    Volatile(&'a Volatile),
}

enum EncodingMut<'a> {
    Pack(&'a mut Listpack),
    Table(&'a mut Table),
    Volatile(&'a mut Volatile),
}

impl From<Listpack> for Hash {
    /// The listpack holds alternating fields and values, and no field twice.
    fn from(pack: Listpack) -> Hash {
        Hash(OneOf::first(pack))
    }
}

impl From<Table> for Hash {
    fn from(table: Table) -> Hash {
        Hash(OneOf::second(Box::new(table)))
    }
}

impl From<Volatile> for Hash {
    fn from(volatile: Volatile) -> Hash {
        Hash(OneOf::third(Box::new(volatile)))
    }
}

impl Default for Hash {
    fn default() -> Hash {
        Hash::new()
    }
}

/// Number of random choices that may hit due fields, above half of all choices, before the other fields are
/// collected.
const MISSES: usize = 100;

/// Positions of a field and its value in a listpack.
#[inline]
fn find_in(pack: &Listpack, field: &[u8]) -> Option<(Pos, Pos)> {
    let at = pack.find(field, 1)?;
    Some((at, pack.next(at).expect("a field is followed by its value")))
}

impl Hash {
    /// An empty listpack.
    pub fn new() -> Hash {
        Listpack::new().into()
    }

    #[inline(always)]
    fn encoded(&self) -> Encoding<'_> {
        match self.0.view() {
            View::First(pack) => Encoding::Pack(pack),
            View::Second(table) => Encoding::Table(table),
            View::Third(volatile) => Encoding::Volatile(volatile),
        }
    }

    #[inline(always)]
    fn encoded_mut(&mut self) -> EncodingMut<'_> {
        match self.0.view_mut() {
            ViewMut::First(pack) => EncodingMut::Pack(pack),
            ViewMut::Second(table) => EncodingMut::Table(table),
            ViewMut::Third(volatile) => EncodingMut::Volatile(volatile),
        }
    }

    /// Converts to a hash table if a listpack would exceed the limits with `fields` fields, a longest new text of
    /// `longest` bytes and `bytes` more bytes. The only place that decides this.
    #[inline]
    fn admit(&mut self, fields: usize, longest: usize, bytes: usize, limits: &Limits) {
        if let Encoding::Pack(pack) = self.encoded()
            && (fields > limits.hash_max_listpack_entries
                || longest > limits.hash_max_listpack_value
                || !pack.would_fit(bytes))
        {
            self.become_table(fields);
        }
    }

    #[cold]
    fn become_table(&mut self, capacity: usize) {
        let mut table = Table::with_capacity(capacity.max(self.len()));
        let (mut name_digits, mut value_digits) = (itoa::Buffer::new(), itoa::Buffer::new());
        for (name, value) in self.iter() {
            let (name, value) = (name.text(&mut name_digits), value.text(&mut value_digits));
            table.insert_unique(hash(name), Field::new(name, Value::Bytes(value), None));
        }
        *self = table.into();
    }

    /// Converts to a hash whose fields can expire.
    #[cold]
    fn become_volatile(&mut self) {
        if let Encoding::Pack(_) = self.encoded() {
            self.become_table(0);
        }
        let table = match self.encoded_mut() {
            EncodingMut::Table(table) => std::mem::take(table),
            _ => return,
        };
        *self = Volatile::new(table).into();
    }

    /// The hash table, unless the hash is a listpack.
    fn table(&self) -> Option<&Table> {
        match self.encoded() {
            Encoding::Pack(_) => None,
            Encoding::Table(table) => Some(table),
            Encoding::Volatile(volatile) => Some(volatile.table()),
        }
    }

    /// Prepares for alternating fields and values to be set: if one is too long for a listpack, or there are too
    /// many fields even for an empty hash, converts to a hash table at once.
    pub fn prepare<'t>(&mut self, texts: impl ExactSizeIterator<Item = &'t [u8]>, limits: &Limits) {
        if self.table().is_some() {
            return;
        }
        let fields = texts.len() / 2;
        let (longest, total) = texts.fold((0, 0usize), |(longest, total), text| {
            (text.len().max(longest), total.saturating_add(text.len()))
        });
        self.admit(fields, longest, total, limits);
    }

    /// Sets the value of `field` without an expiry and returns whether the field is new. O(1), O(n) in a listpack.
    pub fn set(&mut self, field: &[u8], value: Value<'_>, limits: &Limits) -> bool {
        self.put(field, value, NewExpiry::Never, limits, UnixMillis(i64::MIN)) == Before::Absent
    }

    /// Sets the value and expiry of `field` and returns its state before, as of `now`. O(1), O(n) in a listpack,
    /// O(log n) for a field that expires or did.
    #[inline]
    pub fn put(
        &mut self,
        field: &[u8],
        value: Value<'_>,
        expiry: NewExpiry,
        limits: &Limits,
        now: UnixMillis,
    ) -> Before {
        if let NewExpiry::At(_) = expiry {
            self.become_volatile();
        }
        let bytes = |name: &[u8], value: &Value<'_>| encoded_size(name) + encoded_size(item_of(value));
        if let Encoding::Pack(pack) = self.encoded() {
            let (found, fields) = (find_in(pack, field), pack.len() / 2);
            let longest = field.len().max(len_of(&value));
            let added = usize::from(found.is_none());
            self.admit(fields + added, longest, bytes(field, &value), limits);
            if let EncodingMut::Pack(pack) = self.encoded_mut() {
                return match found {
                    Some((_, at)) => {
                        pack.replace(at, item_of(&value));
                        Before::Present
                    }
                    None => {
                        pack.append(&[Item::Str(field), item_of(&value)]);
                        Before::Absent
                    }
                };
            }
        }
        let table = match self.encoded_mut() {
            EncodingMut::Table(table) => table,
            EncodingMut::Volatile(volatile) => return volatile.put(field, value, expiry, now),
            EncodingMut::Pack(_) => unreachable!("a listpack was seen to above"),
        };
        match table.entry(hash(field), field) {
            Place::Occupied(mut slot) => {
                slot.map(|field| field.with_value(value, None));
                Before::Present
            }
            Place::Vacant(place) => {
                place.insert(Field::new(field, value, None));
                Before::Absent
            }
        }
    }

    /// The value of a field that has not expired. O(1), O(n) in a listpack.
    #[inline]
    pub fn get(&self, field: &[u8], now: UnixMillis) -> Option<Item<'_>> {
        match self.encoded() {
            Encoding::Pack(pack) => find_in(pack, field).map(|(_, at)| pack.get(at)),
            Encoding::Table(table) => table.find(hash(field), field).map(|field| value(&field)),
            Encoding::Volatile(volatile) => volatile.find(hash(field), field, now).map(|field| value(&field)),
        }
    }

    /// The value and expiry of a field that has not expired. O(1), O(n) in a listpack.
    pub fn get_with_expiry(&self, field: &[u8], now: UnixMillis) -> Option<(Item<'_>, Option<UnixMillis>)> {
        match self.encoded() {
            Encoding::Volatile(volatile) => {
                volatile.find(hash(field), field, now).map(|field| (value(&field), field.expires()))
            }
            _ => self.get(field, now).map(|value| (value, None)),
        }
    }

    /// Calls `each` with the value of each of `fields`, in order; `None` for missing and expired fields.
    pub fn get_each<'f>(
        &self,
        fields: impl Iterator<Item = &'f [u8]>,
        now: UnixMillis,
        mut each: impl FnMut(Option<Item<'_>>),
    ) {
        match self.encoded() {
            Encoding::Pack(_) => fields.for_each(|field| each(self.get(field, now))),
            Encoding::Table(table) => {
                table.find_each(fields.map(Key::new), |found| each(found.map(|field| value(&field))));
            }
            Encoding::Volatile(volatile) => volatile.table().find_each(fields.map(Key::new), |found| {
                each(found.filter(|field| !field.is_due(now)).map(|field| value(&field)));
            }),
        }
    }

    /// Whether the hash has the field and the field has not expired. O(1), O(n) in a listpack.
    pub fn contains(&self, field: &[u8], now: UnixMillis) -> bool {
        match self.encoded() {
            Encoding::Pack(pack) => pack.find(field, 1).is_some(),
            Encoding::Table(table) => table.find(hash(field), field).is_some(),
            Encoding::Volatile(volatile) => volatile.find(hash(field), field, now).is_some(),
        }
    }

    /// Removes a field that has not expired and returns whether there was one. O(1), O(n) in a listpack.
    pub fn remove(&mut self, field: &[u8], now: UnixMillis) -> bool {
        match self.encoded_mut() {
            EncodingMut::Pack(pack) => match pack.find(field, 1) {
                Some(at) => {
                    pack.remove_range_at(at, 2);
                    true
                }
                None => false,
            },
            EncodingMut::Table(table) => table.remove(hash(field), field).is_some(),
            EncodingMut::Volatile(volatile) => volatile.remove(field, now),
        }
    }

    /// Removes a field that has expired and returns whether there was one. O(log n).
    pub fn remove_due(&mut self, field: &[u8], now: UnixMillis) -> bool {
        let is_due = match self.encoded() {
            Encoding::Volatile(volatile) => {
                volatile.table().find(hash(field), field).is_some_and(|field| field.is_due(now))
            }
            _ => false,
        };
        is_due && self.remove(field, UnixMillis(i64::MIN))
    }

    /// Fields and values, including expired ones, in no particular order.
    #[inline]
    pub fn iter(&self) -> Fields<'_> {
        Fields(self.walk())
    }

    #[inline]
    fn walk(&self) -> Walk<'_> {
        match self.encoded() {
            Encoding::Pack(pack) => Walk::Pack(pack.pairs()),
            Encoding::Table(table) => Walk::Table(table.iter()),
            Encoding::Volatile(volatile) => Walk::Table(volatile.table().iter()),
        }
    }

    /// Fields that have not expired, and their values, in no particular order.
    #[inline]
    pub fn iter_at(&self, now: UnixMillis) -> Fields<'_> {
        match self.encoded() {
            Encoding::Volatile(volatile) if volatile.any_due(now) => {
                Fields(Walk::NotDue(volatile.table().iter(), now))
            }
            _ => self.iter(),
        }
    }

    /// All fields with values and expiries, in no particular order.
    pub fn iter_with_expiry(&self) -> impl Iterator<Item = (Item<'_>, Item<'_>, Option<UnixMillis>)> {
        let (pack, table) = match self.walk() {
            Walk::Pack(pairs) => (Some(pairs), None),
            Walk::Table(fields) | Walk::NotDue(fields, _) => (None, Some(fields)),
        };
        let pack = pack.into_iter().flatten().map(|(name, value)| (name, value, None));
        pack.chain(table.into_iter().flatten().map(|field| {
            let (name, value) = pair(&field);
            (name, value, field.expires())
        }))
    }

    /// Number of fields that have not expired. O(1), plus O(d) for d expired fields.
    #[inline]
    pub fn len_at(&self, now: UnixMillis) -> usize {
        match self.encoded() {
            Encoding::Volatile(volatile) => volatile.table().len() - volatile.count_due(now),
            _ => self.len(),
        }
    }

    /// Calls `each` with the fields at `cursor` that have not expired, and their values, and returns the next
    /// cursor. A scan starts with 0 and ends when 0 is returned.
    ///
    /// Every field that stays in the hash during the whole scan is seen. A listpack shows all fields at once.
    pub fn scan(&self, cursor: u64, now: UnixMillis, mut each: impl FnMut(Item<'_>, Item<'_>)) -> u64 {
        let mut show = |field: &Field| each(Item::Str(field.name()), Item::Str(field.value()));
        match self.encoded() {
            Encoding::Table(table) => table.scan(cursor, show),
            Encoding::Volatile(volatile) => volatile.table().scan(cursor, |field| {
                if !field.is_due(now) {
                    show(field);
                }
            }),
            Encoding::Pack(pack) => {
                pack.pairs().for_each(|(name, value)| each(name, value));
                0
            }
        }
    }

    // ---- expiry ---------------------------------------------------------------------------

    /// Changes the expiry of a field, even of an expired one, and returns whether there is such a field. O(log n),
    /// O(n) in a listpack, which becomes a hash table if the field is to expire.
    pub fn set_expiry(&mut self, field: &[u8], expires: Option<UnixMillis>) -> bool {
        let anyway = UnixMillis(i64::MIN);
        if !matches!(self.encoded(), Encoding::Volatile(_)) {
            let there = self.contains(field, anyway);
            if !there || expires.is_none() {
                return there;
            }
            self.become_volatile();
        }
        match self.encoded_mut() {
            EncodingMut::Volatile(volatile) => volatile.set_expiry(field, expires),
            _ => unreachable!("it has just become volatile"),
        }
    }

    /// Number of fields with an expiry, including expired ones. O(1).
    pub fn volatile(&self) -> usize {
        match self.encoded() {
            Encoding::Volatile(volatile) => volatile.expiring(),
            _ => 0,
        }
    }

    /// Removes up to `most` expired fields, earliest first, calls `each` with their names, and returns their
    /// number. O(log n) for each.
    pub fn pop_due(&mut self, now: UnixMillis, most: usize, each: impl FnMut(&[u8])) -> usize {
        match self.encoded_mut() {
            EncodingMut::Volatile(volatile) => volatile.pop_due(now, most, each),
            _ => 0,
        }
    }

    /// Drops the queue of expiries if no field expires. O(1).
    pub fn drop_expiry_table(&mut self) {
        let table = match self.encoded_mut() {
            EncodingMut::Volatile(volatile) if volatile.expiring() == 0 => volatile.take_table(),
            _ => return,
        };
        *self = table.into();
    }

    // ---- chance ---------------------------------------------------------------------------

    /// A random field that has not expired, with its value, or `None` if there is none. O(1), but O(n) in a
    /// listpack and if many fields have expired.
    pub fn random(&self, rng: &mut Rng, now: UnixMillis) -> Option<(Item<'_>, Item<'_>)> {
        let mut chosen = None;
        self.random_repeated(1, rng, now, |name, value| chosen = Some((name, value)));
        chosen
    }

    /// Calls `each` `n` times with a random field that has not expired, and its value, unless there is none.
    pub fn random_repeated<'a>(
        &'a self,
        n: usize,
        rng: &mut Rng,
        now: UnixMillis,
        mut each: impl FnMut(Item<'a>, Item<'a>),
    ) {
        if self.is_empty() {
            return;
        }
        let mut each = |(name, value)| each(name, value);
        match self.encoded() {
            Encoding::Pack(pack) if n == 1 => {
                each(pack.pairs().nth(rng.index(pack.len() / 2)).expect("an index below the length"));
            }
            Encoding::Pack(pack) => {
                let pairs: Vec<_> = pack.pairs().collect();
                (0..n).for_each(|_| each(pairs[rng.index(pairs.len())]));
            }
            Encoding::Table(table) => random::repeated(table, n, rng, |field| each(pair(&field))),
            Encoding::Volatile(volatile) => {
                let (mut chosen, mut missed) = (0, 0);
                // If few fields have expired, most choices count.
                while chosen < n && missed <= chosen + MISSES {
                    let Some(field) = volatile.table().random(&mut || rng.next_u64()) else { return };
                    if field.is_due(now) {
                        missed += 1;
                    } else {
                        each(pair(&field));
                        chosen += 1;
                    }
                }
                if chosen == n {
                    return;
                }
                let pairs: Vec<_> = self.iter_at(now).collect();
                if !pairs.is_empty() {
                    (chosen..n).for_each(|_| each(pairs[rng.index(pairs.len())]));
                }
            }
        }
    }

    /// Calls `each` with `k` distinct random fields that have not expired and their values, or with all if there
    /// are fewer, until it breaks. O(k), but O(n) in a listpack, if `k` is a large part of the fields, and if fields have expired.
    pub fn random_distinct(
        &self,
        k: usize,
        rng: &mut Rng,
        now: UnixMillis,
        mut each: impl FnMut(Item<'_>, Item<'_>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let k = k.min(self.len());
        let mut each = |(name, value)| each(name, value);
        match self.encoded() {
            Encoding::Table(table) => random::distinct(table, k, rng, |field| each(pair(&field))),
            Encoding::Volatile(volatile) if !volatile.any_due(now) => {
                random::distinct(volatile.table(), k, rng, |field| each(pair(&field)))
            }
            Encoding::Volatile(_) => {
                let mut pairs: Vec<_> = self.iter_at(now).collect();
                for _ in 0..k.min(pairs.len()) {
                    each(pairs.swap_remove(rng.index(pairs.len())))?;
                }
                ControlFlow::Continue(())
            }
            Encoding::Pack(pack) => {
                let (mut pairs, mut passed) = (pack.pairs(), 0);
                for i in rng.select(k, pack.len() / 2) {
                    each(pairs.nth(i - passed).expect("an index below the length"))?;
                    passed = i + 1;
                }
                ControlFlow::Continue(())
            }
        }
    }

    /// A hash from a listpack of alternating fields and values read from a file. It becomes a hash table if the
    /// limits require that. O(n).
    ///
    /// # Errors
    /// If the number of entries is odd, or a field occurs twice.
    pub fn from_listpack(pack: Listpack, limits: &Limits) -> Result<Hash, Unfit> {
        let longest = longest_key(&pack, 2)?;
        let longest = pack.pairs().map(|(_, value)| value.len()).fold(longest, usize::max);
        let mut hash = Hash::from(pack);
        hash.admit(hash.len(), longest, 0, limits);
        Ok(hash)
    }

    /// An empty hash for `fields` fields: a hash table if the limits require that.
    pub fn sized_for(fields: usize, limits: &Limits) -> Hash {
        if fields <= limits.hash_max_listpack_entries {
            Hash::new()
        } else {
            Table::with_capacity(fields).into()
        }
    }

    /// The bytes of the listpack, if the hash is one, as files store them.
    pub fn as_listpack(&self) -> Option<&[u8]> {
        match self.encoded() {
            Encoding::Pack(pack) => Some(pack.as_bytes()),
            Encoding::Table(_) | Encoding::Volatile(_) => None,
        }
    }

    /// Panics if an invariant is violated. O(n).
    pub fn check(&self) {
        match self.encoded() {
            Encoding::Pack(pack) => {
                pack.check();
                assert!(pack.len().is_multiple_of(2));
                for (name, _) in pack.pairs() {
                    let same = pack.pairs().filter(|(other, _)| *other == name).count();
                    assert_eq!(same, 1, "a field is stored once");
                }
            }
            Encoding::Table(table) => {
                check_table(table);
                assert!(table.iter().all(|field| field.expires().is_none()), "no field expires unnoticed");
            }
            Encoding::Volatile(volatile) => {
                check_table(volatile.table());
                volatile.check();
            }
        }
    }
}

fn check_table(table: &Table) {
    for field in table.iter() {
        let found = table.find(hash(field.key()), field.key()).map(|found| found.as_raw());
        assert_eq!(found, Some(field.as_raw()), "a field is stored once");
    }
}

/// The fields of a [`Hash`] with their values.
pub struct Fields<'a>(Walk<'a>);

enum Walk<'a> {
    Pack(listpack::Pairs<'a>),
    Table(dict::Iter<'a, Field>),
    /// The fields of a table that have not expired.
    NotDue(dict::Iter<'a, Field>, UnixMillis),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Walk::Pack(pairs) => pairs.next(),
            Walk::Table(fields) => fields.next().map(|field| pair(&field)),
            Walk::NotDue(fields, now) => fields.find(|field| !field.is_due(*now)).map(|field| pair(&field)),
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Walk::Pack(pairs) => pairs.size_hint(),
            Walk::Table(fields) => fields.size_hint(),
            Walk::NotDue(fields, _) => (0, fields.size_hint().1),
        }
    }

    #[inline]
    fn fold<B, F: FnMut(B, Self::Item) -> B>(self, init: B, mut f: F) -> B {
        match self.0 {
            Walk::Pack(pairs) => pairs.fold(init, f),
            Walk::Table(fields) => fields.fold(init, |acc, field| f(acc, pair(&field))),
            Walk::NotDue(fields, now) => {
                let fields = fields.filter(|field| !field.is_due(now));
                fields.fold(init, |acc, field| f(acc, pair(&field)))
            }
        }
    }
}

// ---- what the keyspace asks -----------------------------------------------------------------

impl Describe for Hash {
    #[inline]
    fn len(&self) -> usize {
        match self.encoded() {
            Encoding::Pack(pack) => pack.len() / 2,
            Encoding::Table(table) => table.len(),
            Encoding::Volatile(volatile) => volatile.table().len(),
        }
    }

    fn effort(&self) -> usize {
        self.table().map_or(1, Table::len)
    }

    fn encoding(&self) -> &'static str {
        if self.table().is_some() { "hashtable" } else { "listpack" }
    }

    fn bytes(&self, samples: usize) -> usize {
        let of_table = |table: &Table| {
            let samples = if samples == 0 { table.len() } else { samples.min(table.len()) };
            let sampled: usize = table.iter().take(samples).map(|field| field.bytes()).sum();
            let fields = sampled as f64 / samples.max(1) as f64 * table.len() as f64;
            table.bytes() + fields as usize
        };
        match self.encoded() {
            Encoding::Pack(pack) => pack.allocated(),
            Encoding::Table(table) => size_of::<Table>() + of_table(table),
            Encoding::Volatile(volatile) => volatile.bytes() + of_table(volatile.table()),
        }
    }

    fn table_stats(&self) -> Option<dict::Stats> {
        self.table().map(Table::stats)
    }

    fn earliest_expiry(&self) -> Option<UnixMillis> {
        match self.encoded() {
            Encoding::Volatile(volatile) => volatile.earliest(),
            _ => None,
        }
    }

    fn each_part(&self, f: &mut dyn FnMut(Part<'_>)) {
        for (field, value) in self.iter() {
            f(Part::Field(field.text(&mut itoa::Buffer::new()), value.text(&mut itoa::Buffer::new())));
        }
    }
}

impl Collection for Hash {
    fn duplicate(&self) -> Hash {
        match self.encoded() {
            Encoding::Pack(pack) => pack.clone().into(),
            Encoding::Table(table) => copy_table(table).into(),
            Encoding::Volatile(volatile) => Volatile::new(copy_table(volatile.table())).into(),
        }
    }

    #[inline]
    fn step(&mut self) {
        match self.encoded_mut() {
            EncodingMut::Pack(_) => {}
            EncodingMut::Table(table) => table.step(),
            EncodingMut::Volatile(volatile) => volatile.step(),
        }
    }

    fn relocate(&mut self, by: &mut Relocator, cursor: u64, most: usize) -> u64 {
        if cursor == 0 {
            self.0.relocate(by);
        }
        match self.encoded_mut() {
            EncodingMut::Pack(_) => 0,
            EncodingMut::Table(table) => {
                table.relocate(by, cursor, most, |field, by| field.relocated(by, |_, _| ()))
            }
            EncodingMut::Volatile(volatile) => volatile.relocate(by, cursor, most),
        }
    }

    fn prefetcher<'a>(&'a self, aim: PrefetchTarget<'a>) -> Option<Prefetcher<'a>> {
        match (self.table(), aim) {
            (Some(table), PrefetchTarget::Member(field)) => {
                Some(Prefetcher::Hash(table.prefetch_steps(hash(field))))
            }
            _ => prefetch::block(self.0.address()),
        }
    }
}

fn copy_table(table: &Table) -> Table {
    let mut copy = Table::with_capacity(table.len());
    for field in table.iter() {
        copy.insert_unique(hash(field.key()), field.copy(field.expires()));
    }
    copy
}

#[cfg(test)]
mod tests;
