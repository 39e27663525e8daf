use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::*;
use crate::stdx::num;
use crate::structures::field::EMBEDDED_MAX;
use crate::structures::sds::Sds;

/// A time at which no field has expired.
const NOW: UnixMillis = UnixMillis(1_000_000);

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Limits so low that a few additions change the encoding.
fn low_limits() -> Limits {
    Limits { hash_max_listpack_entries: 10, hash_max_listpack_value: 20, ..Limits::default() }
}

fn name(rng: &mut Rng) -> Vec<u8> {
    match rng.below(20) {
        0 => vec![b'n'; rng.index(20)],
        1 => vec![b'N'; 250 + rng.index(10)],
        2..=6 => rng.below(20).to_string().into_bytes(),
        _ => format!("f{}", rng.below(20)).into_bytes(),
    }
}

/// Values of all three forms.
fn text(rng: &mut Rng, long: bool) -> Vec<u8> {
    let len = match rng.below(if long { 10 } else { 5 }) {
        0 => return (rng.next_u64() as i64).to_string().into_bytes(),
        1..=4 => rng.index(20),
        5..=6 => 250 + rng.index(10),
        7 => EMBEDDED_MAX - 2 + rng.index(5),
        _ => rng.index(3000),
    };
    let mut text = vec![0; len];
    rng.fill_hex(&mut text);
    text
}

/// The same value in each of the forms in which callers pass it.
fn value_from<'t>(text: &'t [u8], rng: &mut Rng) -> Value<'t> {
    match num::parse_i64(text) {
        Some(n) if rng.one_in(2) => Value::Int(n),
        _ if rng.one_in(3) => Value::Shared(Arc::new(Sds::from_slice(text))),
        _ => Value::Bytes(text),
    }
}

fn model_of(hash: &Hash) -> Model {
    let mut model = Model::new();
    for (name, value) in hash.iter() {
        assert!(model.insert(name.to_vec(), value.to_vec()).is_none(), "{name:?} was shown twice");
    }
    model
}

fn hash_of(model: &Model, limits: &Limits) -> Hash {
    let mut hash = Hash::new();
    model.iter().for_each(|(name, value)| assert!(hash.set(name, Value::Bytes(value), limits)));
    hash
}

#[test]
fn agrees_with_a_model_in_both_encodings() {
    let limits = low_limits();
    let mut seen = HashMap::new();
    for seed in 0..300 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let long = seed % 3 == 0;
        let (mut hash, mut model) = (Hash::new(), Model::new());
        for _ in 0..100 {
            let (field, new) = (name(&mut rng), text(&mut rng, long));
            if !long && field.len() > 20 {
                continue;
            }
            match rng.below(10) {
                0..=4 => {
                    let value = value_from(&new, &mut rng);
                    assert_eq!(hash.set(&field, value, &limits), model.insert(field, new).is_none());
                }
                5..=6 => assert_eq!(hash.remove(&field, NOW), model.remove(&field).is_some()),
                7 => {
                    let k = rng.index(15);
                    let mut chosen = Model::new();
                    let flow = hash.random_distinct(k, &mut rng, NOW, |name, value| {
                        assert_eq!(model[&name.to_vec()], value.to_vec());
                        assert!(chosen.insert(name.to_vec(), value.to_vec()).is_none());
                        ControlFlow::Continue(())
                    });
                    assert!(flow.is_continue());
                    assert_eq!(chosen.len(), k.min(model.len()));
                }
                8 => {
                    let mut n = 0;
                    hash.random_repeated(5, &mut rng, NOW, |name, value| {
                        assert_eq!(model[&name.to_vec()], value.to_vec());
                        n += 1;
                    });
                    assert_eq!(n, if model.is_empty() { 0 } else { 5 });
                    assert_eq!(hash.random(&mut rng, NOW).is_some(), !model.is_empty());
                }
                _ => hash = hash.duplicate(),
            }
            hash.check();
            assert_eq!(hash.len(), model.len());
            assert_eq!(model_of(&hash), model);
            let wanted: Vec<Vec<u8>> = (0..20).map(|_| name(&mut rng)).collect();
            let mut answers = Vec::new();
            let fields = wanted.iter().map(Vec::as_slice);
            hash.get_each(fields, NOW, |value| answers.push(value.map(Item::to_vec)));
            assert_eq!(answers, wanted.iter().map(|field| model.get(field).cloned()).collect::<Vec<_>>());
            for field in &wanted {
                assert_eq!(hash.contains(field, NOW), model.contains_key(field));
                assert_eq!(hash.get(field, NOW).map(Item::to_vec), model.get(field).cloned());
            }
            *seen.entry(hash.encoding()).or_insert(0) += 1;
        }
    }
    assert!(seen["listpack"] > 1000 && seen["hashtable"] > 1000, "{seen:?}");
}

#[test]
fn encodings_follow_the_limits() {
    let limits = Limits::default();
    let of = |n: usize| (0..n).map(|i| (i.to_string().into_bytes(), b"v".to_vec())).collect::<Model>();
    assert_eq!(hash_of(&of(512), &limits).encoding(), "listpack");
    assert_eq!(hash_of(&of(513), &limits).encoding(), "hashtable");
    let with = |name: usize, value: usize| {
        let mut hash = hash_of(&of(2), &limits);
        hash.set(&vec![b'x'; name], Value::Bytes(&vec![b'y'; value]), &limits);
        hash.encoding()
    };
    assert_eq!(with(64, 64), "listpack");
    assert_eq!(with(65, 1), "hashtable");
    assert_eq!(with(1, 65), "hashtable");
    let prepared = |texts: &[&[u8]]| {
        let mut hash = hash_of(&of(511), &limits);
        hash.prepare(texts.iter().copied(), &limits);
        assert_eq!(hash.len(), 511);
        hash.encoding()
    };
    assert_eq!(prepared(&[&b"a"[..]; 1024]), "listpack");
    assert_eq!(prepared(&[&b"a"[..]; 1026]), "hashtable");
    assert_eq!(prepared(&[b"a", &[b'x'; 64]]), "listpack");
    assert_eq!(prepared(&[b"a", &[b'x'; 65]]), "hashtable");
}

#[test]
fn scan_shows_every_field_that_stays() {
    let limits = Limits::default();
    for seed in 0..20 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let stay: Model =
            (0..600).map(|i| (format!("stay{i}").into_bytes(), i.to_string().into_bytes())).collect();
        let mut hash = hash_of(&stay, &limits);
        let (mut seen, mut cursor) = (Model::new(), 0);
        loop {
            cursor = hash.scan(cursor, NOW, |name, value| _ = seen.insert(name.to_vec(), value.to_vec()));
            if cursor == 0 {
                break;
            }
            for i in 0..rng.below(800) {
                let field = rng.below(1 + i * 3).to_string();
                if rng.one_in(2) {
                    hash.set(field.as_bytes(), Value::Int(1), &limits);
                } else {
                    hash.remove(field.as_bytes(), NOW);
                }
            }
        }
        assert!(stay.iter().all(|(name, value)| seen.get(name) == Some(value)));
    }
}

#[test]
fn choices_are_fair_in_both_encodings() {
    let limits = Limits::default();
    for (len, encoding) in [(20, "listpack"), (600, "hashtable")] {
        let model: Model = (0..len).map(|i: usize| (format!("f{i}").into_bytes(), b"v".to_vec())).collect();
        let hash = hash_of(&model, &limits);
        assert_eq!(hash.encoding(), encoding);
        let mut rng = Rng::new(1);
        for way in 0..4 {
            let mut counts: HashMap<Vec<u8>, f64> = HashMap::new();
            let mut note = |name: Item<'_>, _: Item<'_>| {
                *counts.entry(name.to_vec()).or_default() += 1.0;
                ControlFlow::Continue(())
            };
            for _ in 0..200 {
                match way {
                    0 => (0..len / 2).for_each(|_| {
                        let (name, value) = hash.random(&mut rng, NOW).expect("not empty");
                        let _ = note(name, value);
                    }),
                    1 => hash.random_repeated(len / 2, &mut rng, NOW, |name, value| _ = note(name, value)),
                    2 => _ = hash.random_distinct(len / 2, &mut rng, NOW, &mut note),
                    _ => (0..5).for_each(|_| _ = hash.random_distinct(len / 10, &mut rng, NOW, &mut note)),
                }
            }
            assert_eq!(counts.len(), len);
            let mean = 100.0;
            let chi: f64 = counts.values().map(|c| (c - mean) * (c - mean) / mean).sum();
            let freedom = len as f64 - 1.0;
            // Six standard deviations above the mean.
            assert!(chi < freedom + 6.0 * (2.0 * freedom).sqrt(), "{encoding}, way {way}: {chi}");
        }
    }
}

// ---- fields that expire ---------------------------------------------------------------------

/// Name → value and expiry.
type Timed = BTreeMap<Vec<u8>, (Vec<u8>, Option<UnixMillis>)>;

fn timed_of(hash: &Hash) -> Timed {
    let mut model = Timed::new();
    for (name, value, expires) in hash.iter_with_expiry() {
        assert!(model.insert(name.to_vec(), (value.to_vec(), expires)).is_none());
    }
    model
}

/// The fields that are visible at `now`.
fn seen_at(model: &Timed, now: UnixMillis) -> Model {
    let not_due = model.iter().filter(|(_, (_, expires))| expires.is_none_or(|at| at > now));
    not_due.map(|(name, (value, _))| (name.clone(), value.clone())).collect()
}

fn some_expiry(rng: &mut Rng, now: UnixMillis) -> Option<UnixMillis> {
    rng.chance(0.7).then(|| now.saturating_add(rng.below(100) as i64 - 20))
}

/// One random operation on a hash and its model.
fn step(rng: &mut Rng, hash: &mut Hash, model: &mut Timed, now: UnixMillis, long: bool) {
    let limits = low_limits();
    let (field, new) = (name(rng), text(rng, long));
    let old = model.get(&field).map(|(_, expires)| *expires);
    let due = |expires: Option<UnixMillis>| expires.is_some_and(|at| at <= now);
    match rng.below(12) {
        0..=3 => {
            let at = now.saturating_add(rng.below(100) as i64 - 20);
            let same = old.flatten().filter(|&at| at > now);
            let (expiry, expires) = match rng.below(3) {
                0 => (NewExpiry::Never, None),
                1 => (NewExpiry::Same, same),
                _ => (NewExpiry::At(at), Some(at)),
            };
            let before = match old {
                None => Before::Absent,
                Some(old) if due(old) => Before::Due,
                Some(_) => Before::Present,
            };
            assert_eq!(hash.put(&field, value_from(&new, rng), expiry, &limits, now), before);
            model.insert(field, (new, expires));
        }
        4..=5 => {
            let there = old.is_some_and(|old| !due(old));
            assert_eq!(hash.remove(&field, now), there);
            if there {
                model.remove(&field);
            }
        }
        6..=8 => {
            let expires = some_expiry(rng, now);
            assert_eq!(hash.set_expiry(&field, expires), old.is_some());
            if let Some((_, old)) = model.get_mut(&field) {
                *old = expires;
            }
        }
        9 => {
            let most = rng.index(6);
            let mut gone: Vec<_> = model
                .iter()
                .filter_map(|(name, (_, at))| at.filter(|&at| at <= now).map(|at| (at, name.clone())))
                .collect();
            gone.sort();
            let (mut popped, mut earlier) = (0, UnixMillis(i64::MIN));
            let n = hash.pop_due(now, most, |name| {
                let (_, expires) = model.remove(name).expect("a field of the hash");
                let at = expires.expect("only fields that expire are removed");
                assert!(earlier <= at && at <= now);
                (popped, earlier) = (popped + 1, at);
            });
            assert_eq!((n, popped), (gone.len().min(most), n));
        }
        10 => *hash = hash.duplicate(),
        _ => {
            let before = hash.encoding();
            hash.drop_expiry_table();
            assert_eq!(hash.encoding(), before);
        }
    }
}

#[test]
fn fields_expire_as_in_a_model() {
    let mut seen = HashMap::new();
    for seed in 0..300 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let long = seed % 3 == 0;
        let (mut hash, mut model, mut now) = (Hash::new(), Timed::new(), NOW);
        for _ in 0..100 {
            step(&mut rng, &mut hash, &mut model, now, long);
            now = now.saturating_add(rng.below(8) as i64);
            hash.check();
            assert_eq!(timed_of(&hash), model);
            assert_eq!(hash.len(), model.len());
            assert_eq!(model_of(&hash).len(), model.len());
            let expiries = model.values().filter_map(|(_, expires)| *expires);
            assert_eq!(hash.volatile(), expiries.clone().count());
            assert_eq!(hash.earliest_expiry(), expiries.min());
            let visible = seen_at(&model, now);
            assert_eq!(hash.len_at(now), visible.len());
            let mut shown = Model::new();
            hash.iter_at(now).for_each(|(name, value)| {
                assert!(shown.insert(name.to_vec(), value.to_vec()).is_none());
            });
            assert_eq!(shown, visible);
            assert_eq!(hash.iter_at(now).next().is_some(), !visible.is_empty());
            let (mut scanned, mut cursor) = (Model::new(), 0);
            loop {
                cursor = hash.scan(cursor, now, |name, value| {
                    scanned.insert(name.to_vec(), value.to_vec());
                });
                if cursor == 0 {
                    break;
                }
            }
            assert_eq!(scanned, visible);
            let wanted: Vec<Vec<u8>> = (0..20).map(|_| name(&mut rng)).collect();
            let mut answers = Vec::new();
            let fields = wanted.iter().map(Vec::as_slice);
            hash.get_each(fields, now, |value| answers.push(value.map(Item::to_vec)));
            assert_eq!(answers, wanted.iter().map(|field| visible.get(field).cloned()).collect::<Vec<_>>());
            for field in &wanted {
                let expected = visible.get(field).map(|value| (value.clone(), model[field].1));
                assert_eq!(hash.contains(field, now), expected.is_some());
                assert_eq!(hash.get(field, now).map(Item::to_vec), visible.get(field).cloned());
                let got = hash.get_with_expiry(field, now).map(|(value, expires)| (value.to_vec(), expires));
                assert_eq!(got, expected);
            }
            check_choices(&hash, &visible, &mut rng, now);
            let state = (hash.encoding(), hash.volatile() > 0, visible.len() < model.len());
            *seen.entry(state).or_insert(0) += 1;
        }
    }
    for state in [("listpack", false, false), ("hashtable", false, false), ("hashtable", true, true)] {
        assert!(seen[&state] > 500, "{seen:?}");
    }
}

/// Checks that random fields are among the visible ones.
fn check_choices(hash: &Hash, visible: &Model, rng: &mut Rng, now: UnixMillis) {
    let k = rng.index(15);
    let mut chosen = Model::new();
    let flow = hash.random_distinct(k, rng, now, |name, value| {
        assert_eq!(visible[&name.to_vec()], value.to_vec());
        assert!(chosen.insert(name.to_vec(), value.to_vec()).is_none());
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    assert_eq!(chosen.len(), k.min(visible.len()));
    let mut n = 0;
    hash.random_repeated(5, rng, now, |name, value| {
        assert_eq!(visible[&name.to_vec()], value.to_vec());
        n += 1;
    });
    assert_eq!(n, if visible.is_empty() { 0 } else { 5 });
    assert_eq!(hash.random(rng, now).is_some(), !visible.is_empty());
}

#[test]
fn choices_are_fair_where_fields_are_due() {
    let limits = Limits::default();
    // With few due fields, with many, and with nearly all of them due.
    for (len, every) in [(600, 50), (600, 2), (4000, 200)] {
        let mut hash = Hash::new();
        let mut visible = 0;
        for i in 0..len {
            let due = if every == 200 { i % every != 0 } else { i % every == 0 };
            visible += usize::from(!due);
            let expiry = if due { NewExpiry::At(NOW) } else { NewExpiry::Never };
            hash.put(format!("f{i}").as_bytes(), Value::Int(1), expiry, &limits, NOW);
        }
        let mut rng = Rng::new(2);
        for distinct in [false, true] {
            let mut counts: HashMap<Vec<u8>, f64> = HashMap::new();
            let mut note = |name: Item<'_>, _: Item<'_>| {
                *counts.entry(name.to_vec()).or_default() += 1.0;
                ControlFlow::Continue(())
            };
            for _ in 0..200 {
                if distinct {
                    let _ = hash.random_distinct(visible / 2, &mut rng, NOW, &mut note);
                } else {
                    hash.random_repeated(visible / 2, &mut rng, NOW, |name, value| _ = note(name, value));
                }
            }
            assert_eq!(counts.len(), visible);
            let chi: f64 = counts.values().map(|c| (c - 100.0) * (c - 100.0) / 100.0).sum();
            let freedom = visible as f64 - 1.0;
            assert!(chi < freedom + 6.0 * (2.0 * freedom).sqrt(), "{len}, {every}: {chi}");
        }
    }
}

#[test]
fn a_listpack_turns_into_a_table_when_a_field_is_to_expire() {
    let limits = Limits::default();
    let mut hash = Hash::new();
    hash.set(b"a", Value::Int(1), &limits);
    assert!(!hash.set_expiry(b"nosuch", Some(NOW)));
    assert!(hash.set_expiry(b"a", None));
    assert_eq!(hash.pop_due(NOW, 10, |_| ()), 0);
    assert_eq!(hash.encoding(), "listpack");
    assert!(hash.table_stats().is_none());
    assert!(hash.set_expiry(b"a", Some(NOW)));
    assert_eq!((hash.encoding(), hash.get(b"a", NOW)), ("hashtable", None));
    assert!(hash.get(b"a", UnixMillis(NOW.0 - 1)).is_some());
}

#[test]
fn the_memory_of_expiries_is_counted_and_given_back() {
    let limits = Limits::default();
    let mut hash = Hash::new();
    (0..600).for_each(|i: u32| _ = hash.set(&i.to_le_bytes(), Value::Int(1), &limits));
    let plain = hash.bytes(0);
    assert!(hash.table_stats().is_some_and(|stats| stats.tables[0].elements > 0));
    for i in 0..600u32 {
        assert!(hash.set_expiry(&i.to_le_bytes(), Some(NOW)));
    }
    assert!(hash.bytes(0) > plain + 600 * 16);
    (0..599).for_each(|i: u32| _ = hash.set_expiry(&i.to_le_bytes(), None));
    hash.drop_expiry_table();
    assert_eq!(hash.earliest_expiry(), Some(NOW), "kept as long as a field expires");
    assert!(hash.set_expiry(&599u32.to_le_bytes(), None));
    hash.drop_expiry_table();
    assert!(hash.bytes(0) <= plain, "nothing is left of it");
    assert_eq!(hash.encoding(), "hashtable", "there is no way back");
}
