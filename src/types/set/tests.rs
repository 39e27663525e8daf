use std::collections::{BTreeSet, HashMap};

use super::*;

type Model = BTreeSet<Vec<u8>>;

/// Limits so low that a few additions pass through all encodings.
fn low_limits() -> Limits {
    Limits {
        set_max_intset_entries: 12,
        set_max_listpack_entries: 8,
        set_max_listpack_value: 10,
        ..Limits::default()
    }
}

/// Mostly small integers, else texts, some of them longer than the listpack takes.
fn member(rng: &mut Rng, texts: bool) -> Vec<u8> {
    match rng.below(if texts { 10 } else { 6 }) {
        0 => (rng.next_u64() as i64).to_string().into_bytes(),
        1..=5 => (rng.below(40) as i64 - 10).to_string().into_bytes(),
        6 => format!("0{}", rng.below(10)).into_bytes(),
        7 => vec![b'x'; rng.index(300)],
        _ => format!("m{}", rng.below(30)).into_bytes(),
    }
}

fn members(set: &Set) -> Model {
    let mut model = Model::new();
    set.iter().for_each(|item| assert!(model.insert(item.to_vec()), "{item:?} was shown twice"));
    model
}

fn set_of(model: &Model, limits: &Limits) -> Set {
    let mut set = Set::new();
    model.iter().for_each(|m| assert!(set.add(m, limits)));
    set
}

fn random_set(rng: &mut Rng, limits: &Limits) -> (Set, Model) {
    // Small ones often enough, for a listpack holds few.
    let n = if rng.one_in(2) { rng.index(9) } else { rng.index(40) };
    let texts = rng.one_in(2);
    let model: Model = (0..n).map(|_| member(rng, texts)).collect();
    (set_of(&model, limits), model)
}

#[test]
fn agrees_with_a_model_in_every_encoding() {
    let limits = low_limits();
    let mut seen = HashMap::new();
    for seed in 0..300 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let (mut set, mut model) = (Set::new(), Model::new());
        for _ in 0..80 {
            let texts = rng.below(300) >= seed;
            let m = member(&mut rng, texts);
            match rng.below(12) {
                0..=5 => assert_eq!(set.add(&m, &limits), model.insert(m)),
                6..=7 => assert_eq!(set.remove(&m), model.remove(&m)),
                8 => {
                    let k = rng.index(4);
                    let mut popped = 0;
                    set.pop(k, &mut rng, &limits, |item| {
                        assert!(model.remove(&item.to_vec()));
                        popped += 1;
                    });
                    assert!(popped == k || model.is_empty());
                }
                9 => {
                    let k = rng.index(20);
                    let mut chosen = Model::new();
                    let flow = set.random_distinct(k, &mut rng, |item| {
                        assert!(chosen.insert(item.to_vec()));
                        ControlFlow::Continue(())
                    });
                    assert!(flow.is_continue());
                    assert_eq!(chosen.len(), k.min(model.len()));
                    assert!(chosen.is_subset(&model));
                }
                10 => {
                    let mut n = 0;
                    set.random_repeated(5, &mut rng, |item| {
                        assert!(model.contains(&item.to_vec()));
                        n += 1;
                    });
                    assert_eq!(n, if model.is_empty() { 0 } else { 5 });
                    assert_eq!(set.random(&mut rng).is_some(), !model.is_empty());
                }
                _ => set = set.duplicate(),
            }
            set.check();
            assert_eq!(set.len(), model.len());
            assert_eq!(members(&set), model);
            let wanted: Vec<Vec<u8>> = (0..40).map(|_| member(&mut rng, true)).collect();
            let mut answers = Vec::new();
            set.contains_each(wanted.iter().map(Vec::as_slice), |yes| answers.push(yes));
            assert_eq!(answers, wanted.iter().map(|m| model.contains(m)).collect::<Vec<_>>());
            assert!(wanted.iter().all(|m| set.contains(m) == model.contains(m)));
            *seen.entry(set.encoding()).or_insert(0) += 1;
        }
    }
    for encoding in ["intset", "listpack", "hashtable"] {
        assert!(seen[encoding] > 1000, "{seen:?}");
    }
}

#[test]
fn encodings_follow_the_limits() {
    let limits = Limits::default();
    let encoding = |members: &[String]| {
        let mut set = Set::for_members(members[0].as_bytes(), members.len(), &limits);
        members.iter().for_each(|m| _ = set.add(m.as_bytes(), &limits));
        set.encoding()
    };
    let ints = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
    let texts = |n: usize| (0..n).map(|i| format!("m{i}")).collect::<Vec<_>>();
    let with = |mut members: Vec<String>, m: &str| {
        members.push(m.into());
        members
    };
    assert_eq!(encoding(&ints(512)), "intset");
    assert_eq!(encoding(&ints(513)), "hashtable");
    assert_eq!(encoding(&texts(128)), "listpack");
    assert_eq!(encoding(&texts(129)), "hashtable");
    assert_eq!(encoding(&with(ints(127), "a")), "listpack");
    assert_eq!(encoding(&with(ints(128), "a")), "hashtable");
    assert_eq!(encoding(&with(ints(3), &"x".repeat(64))), "listpack");
    assert_eq!(encoding(&with(ints(3), &"x".repeat(65))), "hashtable");
    assert_eq!(encoding(&["213244124402402314402033402".into()]), "listpack");
    assert_eq!(encoding(&["01".into()]), "listpack");
    // Integers too long for the listpack keep a text out of it.
    let narrow = Limits { set_max_listpack_value: 2, ..Limits::default() };
    let mut set = Set::new();
    assert!(set.add(b"100", &narrow) && set.add(b"a", &narrow));
    assert_eq!(set.encoding(), "hashtable");
    // Expecting many members converts at once.
    let mut set = Set::new();
    set.add(b"1", &limits);
    set.expect(512, &limits);
    assert_eq!(set.encoding(), "intset");
    set.expect(513, &limits);
    assert_eq!((set.encoding(), set.contains(b"1")), ("hashtable", true));
}

#[test]
fn algebra_agrees_with_the_model_and_commutes() {
    let limits = low_limits();
    for seed in 0..2000 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let (sets, models): (Vec<Set>, Vec<Model>) =
            (0..1 + rng.index(5)).map(|_| random_set(&mut rng, &limits)).unzip();
        let mut refs: Vec<&Set> = sets.iter().collect();
        let mut wanted = models[0].clone();
        models[1..].iter().for_each(|m| wanted.retain(|x| m.contains(x)));
        for _ in 0..2 {
            let mut got = Model::new();
            let flow = intersect(&mut refs, |item| {
                assert!(got.insert(item.to_vec()));
                ControlFlow::Continue(())
            });
            assert!(flow.is_continue());
            assert_eq!(got, wanted);
            rng.shuffle(&mut refs);
        }
        let (mut n, limit) = (0, 1 + rng.index(5));
        let flow = intersect(&mut refs, |_| up_to(limit, &mut n));
        assert_eq!((n, flow.is_break()), (limit.min(wanted.len()), limit <= wanted.len()));

        let all: Model = models.iter().flatten().cloned().collect();
        for _ in 0..2 {
            let mut got = Model::new();
            let flow = union(&refs, &limits, |item| {
                assert!(got.insert(item.to_vec()));
                ControlFlow::Continue(())
            });
            assert!(flow.is_continue());
            assert_eq!(got, all);
            rng.shuffle(&mut refs);
        }
        n = 0;
        let flow = union(&refs, &limits, |_| up_to(limit, &mut n));
        assert_eq!((n, flow.is_break()), (limit.min(all.len()), limit <= all.len()));

        let mut wanted = models[0].clone();
        models[1..].iter().flatten().for_each(|m| _ = wanted.remove(m));
        let mut others: Vec<&Set> = sets[1..].iter().collect();
        let mut got = Model::new();
        let flow = difference(&sets[0], &mut others, &limits, |item| {
            assert!(got.insert(item.to_vec()));
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        assert_eq!(got, wanted);
        n = 0;
        let flow = difference(&sets[0], &mut others, &limits, |_| up_to(limit, &mut n));
        assert_eq!((n, flow.is_break()), (limit.min(wanted.len()), limit <= wanted.len()));

        n = 0;
        let flow = sets[0].random_distinct(usize::MAX, &mut rng, |_| up_to(limit, &mut n));
        assert_eq!((n, flow.is_break()), (limit.min(sets[0].len()), limit <= sets[0].len()));
    }
}

/// Counts, and breaks at the limit.
fn up_to(limit: usize, n: &mut usize) -> ControlFlow<()> {
    *n += 1;
    if *n == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn and(a: &Set, b: &Set) -> Set {
    let mut result = Set::new();
    let _ = intersect(&mut [a, b], |item| {
        result.add_item(item, &low_limits());
        ControlFlow::Continue(())
    });
    result
}

fn or(a: &Set, b: &Set) -> Set {
    let mut result = Set::new();
    let _ = union(&[a, b], &low_limits(), |item| {
        result.add_item(item, &low_limits());
        ControlFlow::Continue(())
    });
    result
}

fn minus(a: &Set, b: &Set) -> Set {
    let mut result = Set::new();
    let _ = difference(a, &mut [b], &low_limits(), |item| {
        result.add_item(item, &low_limits());
        ControlFlow::Continue(())
    });
    result
}

/// Tries a law on random sets: the first two come in all pairs of encodings.
fn law(holds: impl Fn(&Set, &Set, &Set)) {
    let mut pairs = BTreeSet::new();
    for seed in 0..600 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let [(a, _), (b, _), (c, _)] = std::array::from_fn(|_| random_set(&mut rng, &low_limits()));
        pairs.insert((a.encoding(), b.encoding()));
        holds(&a, &b, &c);
    }
    assert_eq!(pairs.len(), 9, "{pairs:?}");
}

fn same(a: &Set, b: &Set) {
    assert_eq!(members(a), members(b));
}

#[test]
fn union_and_intersection_commute() {
    law(|a, b, _| {
        same(&and(a, b), &and(b, a));
        same(&or(a, b), &or(b, a));
    });
}

#[test]
fn union_and_intersection_associate() {
    law(|a, b, c| {
        same(&and(a, &and(b, c)), &and(&and(a, b), c));
        same(&or(a, &or(b, c)), &or(&or(a, b), c));
    });
}

#[test]
fn union_and_intersection_distribute_over_each_other() {
    law(|a, b, c| {
        same(&and(a, &or(b, c)), &or(&and(a, b), &and(a, c)));
        same(&or(a, &and(b, c)), &and(&or(a, b), &or(a, c)));
    });
}

#[test]
fn union_and_intersection_absorb_each_other() {
    law(|a, b, _| {
        same(&and(a, &or(a, b)), a);
        same(&or(a, &and(a, b)), a);
    });
}

#[test]
fn union_and_intersection_are_idempotent() {
    law(|a, _, _| {
        same(&and(a, a), a);
        same(&or(a, a), a);
    });
}

#[test]
fn the_empty_set_is_neutral_and_zero() {
    let empty = Set::new();
    law(|a, _, _| {
        same(&or(a, &empty), a);
        same(&minus(a, &empty), a);
        same(&and(a, &empty), &empty);
        same(&minus(&empty, a), &empty);
        same(&minus(a, a), &empty);
    });
}

#[test]
fn difference_and_intersection_partition_a_set() {
    law(|a, b, _| {
        same(&or(&minus(a, b), &and(a, b)), a);
        assert!(and(&minus(a, b), b).is_empty());
        same(&minus(a, &minus(a, b)), &and(a, b));
    });
}

#[test]
fn a_difference_turns_unions_into_intersections() {
    law(|a, b, c| {
        same(&minus(a, &or(b, c)), &and(&minus(a, b), &minus(a, c)));
        same(&minus(a, &and(b, c)), &or(&minus(a, b), &minus(a, c)));
    });
}

#[test]
fn union_and_intersection_have_as_many_members_as_both_sets() {
    law(|a, b, _| {
        assert_eq!(or(a, b).len() + and(a, b).len(), a.len() + b.len());
        assert_eq!(minus(a, b).len() + and(a, b).len(), a.len());
    });
}

#[test]
fn a_difference_looks_up_the_fewer_members() {
    let limits = Limits::default();
    let range = |n: usize| set_of(&(0..n).map(|i| format!("m{i}").into_bytes()).collect(), &limits);
    let (large, small) = (range(2000), range(10));
    let mut n = 0;
    let flow = difference(&large, &mut [&small, &small, &small, &small], &limits, |item| {
        assert!(!small.contains(&item.to_vec()));
        n += 1;
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    assert_eq!(n, 1990);
}

#[test]
fn scan_shows_every_member_that_stays() {
    let limits = Limits::default();
    for seed in 0..20 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let stay: Model = (0..300).map(|i| format!("stay{i}").into_bytes()).collect();
        let mut set = set_of(&stay, &limits);
        let (mut seen, mut cursor) = (Model::new(), 0);
        loop {
            cursor = set.scan(cursor, |item| _ = seen.insert(item.to_vec()));
            if cursor == 0 {
                break;
            }
            // Growing and shrinking in between.
            for i in 0..rng.below(400) {
                let m = format!("{}", rng.below(1 + i * 3));
                if rng.one_in(2) {
                    set.add(m.as_bytes(), &limits)
                } else {
                    set.remove(m.as_bytes())
                };
            }
        }
        assert!(seen.is_superset(&stay));
    }
}

#[test]
fn choices_are_fair_in_every_encoding() {
    let limits = Limits::default();
    let cases: [(Vec<String>, &str); 3] = [
        ((0..20).map(|i| i.to_string()).collect(), "intset"),
        ((0..20).map(|i| format!("m{i}")).collect(), "listpack"),
        ((0..200).map(|i| format!("m{i}")).collect(), "hashtable"),
    ];
    for (texts, encoding) in cases {
        let model: Model = texts.iter().map(|m| m.clone().into_bytes()).collect();
        let set = set_of(&model, &limits);
        assert_eq!(set.encoding(), encoding);
        let len = model.len();
        let mut rng = Rng::new(1);
        for way in 0..5 {
            let mut counts: HashMap<Vec<u8>, f64> = HashMap::new();
            let mut note = |item: Item<'_>| {
                *counts.entry(item.to_vec()).or_default() += 1.0;
                ControlFlow::Continue(())
            };
            let rounds = 400;
            for _ in 0..rounds {
                match way {
                    0 => (0..len / 2).for_each(|_| _ = note(set.random(&mut rng).expect("not empty"))),
                    1 => set.random_repeated(len / 2, &mut rng, |item| _ = note(item)),
                    2 => _ = set.random_distinct(len / 2, &mut rng, &mut note),
                    3 => set.duplicate().pop(len / 2, &mut rng, &limits, |item| _ = note(item)),
                    // Few are taken, or few stay.
                    _ => {
                        let _ = set.random_distinct(len / 10, &mut rng, &mut note);
                        set.duplicate().pop(len - len / 10, &mut rng, &limits, |item| _ = note(item));
                    }
                }
            }
            let n = (rounds * if way == 4 { len } else { len / 2 }) as f64;
            let mean = n / len as f64;
            assert_eq!(counts.len(), len);
            let chi: f64 = counts.values().map(|c| (c - mean) * (c - mean) / mean).sum();
            let freedom = len as f64 - 1.0;
            // Six standard deviations above the mean.
            assert!(chi < freedom + 6.0 * (2.0 * freedom).sqrt(), "{encoding}, way {way}: {chi}");
        }
    }
}

#[test]
fn few_remaining_members_move_to_a_suitable_set() {
    let limits = Limits::default();
    let model: Model = (0..1000).map(|i| i.to_string().into_bytes()).collect();
    let mut set = set_of(&model, &limits);
    assert_eq!(set.encoding(), "hashtable");
    let mut popped = 0;
    set.pop(990, &mut Rng::new(3), &limits, |_| popped += 1);
    assert_eq!((popped, set.len(), set.encoding()), (990, 10, "intset"));
}

#[test]
fn members_take_one_small_block_each() {
    assert_eq!(Member::block_bytes(16), 24);
    for len in [0, 1, 254, 255, 256, 70_000] {
        let text = vec![7; len];
        assert_eq!(Member::new(&text).text(), text);
    }
    let limits = Limits::default();
    let set = set_of(&(0..1000).map(|i| format!("member-{i:09}").into_bytes()).collect(), &limits);
    // The members, 128 buckets of a cache line, and as many children as chance makes.
    assert!((24_000 + 128 * 64..45_000).contains(&set.bytes(0)), "{}", set.bytes(0));
    assert_eq!(set.bytes(0), set.bytes(5));
    assert_eq!(set.effort(), 1000);
}
