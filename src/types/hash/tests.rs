use std::collections::{BTreeMap, HashMap};

use super::*;

/// The time where no field expires.
const NOW: UnixMillis = UnixMillis(1_000_000);

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// Limits so low that a few additions convert.
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

/// A value in each of the ways it can come in.
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
                    hash.random_distinct(k, &mut rng, NOW, |name, value| {
                        assert_eq!(model[&name.to_vec()], value.to_vec());
                        assert!(chosen.insert(name.to_vec(), value.to_vec()).is_none());
                    });
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
            let mut note = |name: Item<'_>, _: Item<'_>| *counts.entry(name.to_vec()).or_default() += 1.0;
            for _ in 0..200 {
                match way {
                    0 => (0..len / 2).for_each(|_| {
                        let (name, value) = hash.random(&mut rng, NOW).expect("not empty");
                        note(name, value);
                    }),
                    1 => hash.random_repeated(len / 2, &mut rng, NOW, &mut note),
                    2 => hash.random_distinct(len / 2, &mut rng, NOW, &mut note),
                    _ => (0..5).for_each(|_| hash.random_distinct(len / 10, &mut rng, NOW, &mut note)),
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

#[test]
fn a_field_with_its_value_is_one_small_block() {
    assert_eq!(Shape::of(16, 8, false).layout().size(), 32);
    assert_eq!(Shape::of(16, 13, false).layout().size(), 32);
    let field = Field::new(b"f", Value::Bytes(b"12345"), None);
    let block = field.0;
    let field = field.with_value(Value::Bytes(b"123456"), None);
    assert_eq!((field.0, field.value()), (block, &b"123456"[..]), "overwritten at its place");
    // A long value is shared, not copied.
    let shared = Arc::new(Sds::from_slice(&[b'x'; 5000]));
    let field = field.with_value(Value::Shared(Arc::clone(&shared)), None);
    let copy = field.copy(None);
    assert_eq!(copy.value().as_ptr(), shared.as_slice().as_ptr());
    assert_eq!(Arc::strong_count(&shared), 3);
    drop(copy.with_value(Value::Int(7), None));
    drop(field);
    assert_eq!(Arc::strong_count(&shared), 1);
}
