//! Both encodings are compared with a sorted vector, under limits so low that sets change their encoding.

use super::*;

type Model = Vec<(f64, Vec<u8>)>;

fn limits(entries: usize, value: usize) -> Limits {
    Limits { zset_max_listpack_entries: entries, zset_max_listpack_value: value, ..Limits::default() }
}

fn sort(model: &mut Model) {
    model.sort_by(|a, b| order((a.0, &a.1), (b.0, &b.1)));
}

fn pairs(set: &Zset, reverse: bool) -> Model {
    set.iter(reverse).map(|pair| (pair.score(), pair.member.to_vec())).collect()
}

fn agree(set: &Zset, model: &Model) {
    set.check();
    assert_eq!(set.len(), model.len());
    assert_eq!(&pairs(set, false), model);
    let mut backwards = pairs(set, true);
    backwards.reverse();
    assert_eq!(&backwards, model);
}

fn any_score(rng: &mut Rng) -> f64 {
    match rng.below(8) {
        0 => f64::INFINITY,
        1 => f64::NEG_INFINITY,
        2 => rng.f64() * 1e300,
        3 => -rng.f64() / 1e300,
        4 => 0.1 * rng.below(10) as f64,
        _ => rng.below(20) as f64 - 10.0,
    }
}

fn any_member(rng: &mut Rng) -> Vec<u8> {
    match rng.below(4) {
        0 => rng.below(40).to_string().into_bytes(),
        1 => format!("-{:03}", rng.below(20)).into_bytes(),
        2 => vec![b'x'; rng.index(12)],
        _ => vec![rng.below(256) as u8, rng.below(2) as u8],
    }
}

/// Random commands on one set; `lex` keeps all scores equal.
fn run(seed: u64, limits: &Limits, lex: bool) {
    let mut rng = Rng::new(seed);
    let (mut set, mut model) = (Zset::new(), Model::new());
    for _ in 0..600 {
        let member = any_member(&mut rng);
        let score = if lex { 1.5 } else { any_score(&mut rng) };
        let found = model.iter().position(|(_, m)| *m == member);
        match rng.below(12) {
            0..=4 => {
                let rule = Rule {
                    only_new: rng.one_in(5),
                    only_existing: rng.one_in(5),
                    only_greater: !lex && rng.one_in(5),
                    only_less: !lex && rng.one_in(5),
                    increment: !lex && rng.one_in(4),
                };
                let outcome = set.add(&member, score, rule, limits);
                match found {
                    None if rule.only_existing => assert_eq!(outcome, Outcome::Refused),
                    None => {
                        assert_eq!(outcome, Outcome::Added(score));
                        model.push((score, member));
                    }
                    Some(_) if rule.only_new => assert_eq!(outcome, Outcome::Refused),
                    Some(i) => {
                        let old = model[i].0;
                        let new = if rule.increment { old + score } else { score };
                        if new.is_nan() {
                            assert_eq!(outcome, Outcome::NotANumber);
                        } else if (rule.only_greater && new <= old) || (rule.only_less && new >= old) {
                            assert_eq!(outcome, Outcome::Refused);
                        } else if new == old {
                            assert_eq!(outcome, Outcome::Same(new));
                        } else {
                            assert_eq!(outcome, Outcome::Updated(new));
                            model[i].0 = new;
                        }
                    }
                }
                sort(&mut model);
            }
            5 | 6 => {
                assert_eq!(set.remove(&member), found.is_some());
                found.map(|i| model.remove(i));
            }
            7 => {
                let start = rng.index(model.len() + 2);
                let ranks = start..start + rng.index(4);
                let existing = start.min(model.len())..ranks.end.min(model.len());
                assert_eq!(set.remove_ranks(ranks), existing.len());
                model.drain(existing);
            }
            8 => {
                assert_eq!(set.score(&member), found.map(|i| model[i].0));
                assert_eq!(set.rank(&member), found.map(|i| (i, model[i].0)));
            }
            9 if lex => {
                let other = any_member(&mut rng);
                let mut bound = |bytes| match rng.below(6) {
                    0 => LexBound::Min,
                    1 => LexBound::Max,
                    2 | 3 => LexBound::Incl(bytes),
                    _ => LexBound::Excl(bytes),
                };
                let range = LexRange { min: bound(&member), max: bound(&other) };
                ranges(
                    &set,
                    &model,
                    |(_, m)| range.contains(m),
                    set.ranks_by_lex(&range),
                    |reverse| set.from_lex(&range, reverse),
                );
            }
            9 => {
                let other = any_score(&mut rng);
                let range = ScoreRange {
                    min: score,
                    max: other,
                    min_exclusive: rng.one_in(2),
                    max_exclusive: rng.one_in(2),
                };
                ranges(
                    &set,
                    &model,
                    |(s, _)| range.contains(*s),
                    set.ranks_by_score(&range),
                    |reverse| set.from_score(&range, reverse),
                );
            }
            10 => {
                let copy = set.duplicate();
                agree(&copy, &model);
                set = Zset::from_sorted(&model, limits);
                let longest = model.iter().map(|(_, m)| m.len()).max().unwrap_or(0);
                assert_eq!(set.encoding() == "listpack", packable(model.len(), longest, limits));
            }
            _ => {
                let rank = rng.index(model.len() + 2);
                for reverse in [false, true] {
                    let pair = set.from_rank(rank, reverse).next();
                    let at = if reverse { model.len().checked_sub(rank + 1) } else { Some(rank) };
                    let expected = at.and_then(|at| model.get(at));
                    assert_eq!(pair.map(|p| (p.score(), p.member.to_vec())).as_ref(), expected);
                }
            }
        }
        agree(&set, &model);
        if set.encoding() == "listpack" {
            assert!(model.len() <= limits.zset_max_listpack_entries);
        }
    }
}

/// Checks that the members in a range, its ranks, and the iterations that begin at its ends agree.
fn ranges<'a>(
    set: &Zset,
    model: &Model,
    contains: impl Fn(&(f64, Vec<u8>)) -> bool,
    ranks: Range<usize>,
    walk: impl Fn(bool) -> Iter<'a>,
) {
    let inside: Vec<_> = model.iter().filter(|pair| contains(pair)).cloned().collect();
    assert_eq!(ranks.len(), inside.len());
    if !inside.is_empty() {
        assert_eq!(&model[ranks], &inside);
    }
    for reverse in [false, true] {
        let walked = walk(reverse).map(|pair| (pair.score(), pair.member.to_vec()));
        let mut walked: Model = walked.take_while(&contains).collect();
        if reverse {
            walked.reverse();
        }
        // An empty range may be anywhere; an iteration then ends at once.
        assert_eq!(walked, inside, "{set_len} members, reverse {reverse}", set_len = set.len());
    }
}

#[test]
fn both_encodings_agree_with_a_sorted_vector() {
    for (n, limits) in [limits(0, 64), limits(6, 64), limits(30, 3), limits(128, 64)].iter().enumerate() {
        for round in 0..12 {
            let seed = 100 * n as u64 + round;
            println!("seed {seed}");
            run(seed, limits, false);
            run(seed, limits, true);
        }
    }
}

#[test]
fn a_large_set_agrees_with_a_sorted_vector() {
    let mut rng = Rng::new(7);
    let limits = Limits::default();
    let (mut set, mut model) = (Zset::new(), Model::new());
    for i in 0..5000u64 {
        let (score, member) = (rng.below(100) as f64, (i * 7919 % 5000).to_string().into_bytes());
        set.add(&member, score, Rule::default(), &limits);
        model.push((score, member));
    }
    sort(&mut model);
    agree(&set, &model);
    for _ in 0..200 {
        let start = rng.index(model.len());
        let ranks = start..(start + rng.index(30)).min(model.len());
        set.remove_ranks(ranks.clone());
        model.drain(ranks);
    }
    agree(&set, &model);
    set.remove_ranks(0..usize::MAX);
    agree(&set, &Model::new());
    assert_eq!(set.encoding(), "skiplist");
}

#[test]
fn the_encoding_changes_where_a_limit_is_passed() {
    let limits = limits(2, 4);
    let mut set = Zset::new();
    for (member, encoding) in [("a", "listpack"), ("abcd", "listpack"), ("b", "skiplist")] {
        set.add(member.as_bytes(), 1.0, Rule::default(), &limits);
        assert_eq!(set.encoding(), encoding);
    }
    set.remove(b"a");
    assert_eq!(set.encoding(), "skiplist");
    let mut set = Zset::new();
    set.add(b"abcde", 1.0, Rule::default(), &limits);
    assert_eq!(set.encoding(), "skiplist");
    assert_eq!(Zset::sized_for(3, 1, &limits).encoding(), "skiplist");
    let mut set = Zset::sized_for(2, 4, &limits);
    assert_eq!(set.encoding(), "listpack");
    set.expect(3, &limits);
    assert_eq!(set.encoding(), "skiplist");
}

#[test]
fn scores_in_a_listpack_are_integers_or_short_text() {
    let limits = Limits::default();
    let mut set = Zset::new();
    let scores = [-0.0, 3.0, 0.1, (1u64 << 62) as f64 + 1024.0, 5e18, 1e19, f64::INFINITY];
    for (member, score) in ["a", "b", "c", "d", "e", "f", "g"].iter().zip(scores) {
        set.add(member.as_bytes(), score, Rule::default(), &limits);
    }
    let listpack = Listpack::from_bytes_checked(&set.to_listpack().expect("packed")).expect("a listpack");
    let items: Vec<Item<'_>> = listpack.iter().skip(1).step_by(2).collect();
    let rounded = 4_611_686_018_427_389_000;
    let texts: [&[u8]; 4] = [b"0.1", b"5e+18", b"1e+19", b"inf"];
    let [fraction, large, larger, infinite] = texts.map(Item::Str);
    assert_eq!(items, [Item::Int(0), fraction, Item::Int(3), Item::Int(rounded), large, larger, infinite]);
}

/// Whole, decimal, doubtful and very large scores.
fn typical_score(rng: &mut Rng) -> f64 {
    let whole = rng.next_u64() as i64 >> rng.below(64);
    match rng.below(4) {
        0 => whole as f64,
        1 => whole as f64 / 10f64.powi(rng.below(9) as i32),
        2 => rng.f64(),
        _ => any_score(rng),
    }
}

#[test]
fn a_set_comes_back_from_its_listpack() {
    let limits = Limits::default();
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut set = Zset::new();
        for _ in 0..rng.below(100) {
            set.add(&any_member(&mut rng), typical_score(&mut rng), Rule::default(), &limits);
        }
        set.check();
        let bytes = set.to_listpack().expect("packed");
        let listpack = Listpack::from_bytes_checked(&bytes).expect("a listpack");
        assert_eq!(listpack.as_bytes(), bytes, "canonical, seed {seed}");
        let again = Zset::from_listpack(&listpack, &limits).expect("members and scores");
        assert_eq!(pairs(&again, false), pairs(&set, false), "seed {seed}");
        assert_eq!(again.to_listpack(), Some(bytes), "seed {seed}");
        assert_eq!(again.bytes(0), set.bytes(0), "seed {seed}");
    }
}

#[test]
fn members_may_be_long_where_the_limits_say_so() {
    let limits = limits(128, usize::MAX);
    let mut set = Zset::new();
    for (i, len) in [3 << 20, 1 << 14, 64, 2_097_140].into_iter().enumerate() {
        set.add(&vec![b'a' + i as u8; len], 1.0 / (i + 1) as f64, Rule::default(), &limits);
        set.check();
    }
    assert_eq!(set.encoding(), "listpack");
    assert_eq!(set.rank(&[b'c'; 64]).map(|(rank, _)| rank), Some(1));
    set.remove_ranks(1..3);
    set.check();
    assert_eq!(set.len(), 2);
}

#[test]
fn listpacks_from_outside_are_checked() {
    let build = |items: &[&str]| {
        let items: Vec<Item<'_>> = items.iter().map(|text| Item::Str(text.as_bytes())).collect();
        Zset::from_listpack(&Listpack::from_items(&items), &limits(2, 64))
    };
    assert_eq!(build(&["a", "1", "b", "1"]).expect("valid").encoding(), "listpack");
    assert_eq!(build(&["a", "1", "b", "1", "c", "inf"]).expect("valid").encoding(), "skiplist");
    for bad in [
        &["a"][..],
        &["a", "nan"],
        &["a", "x"],
        &["b", "1", "a", "1"],
        &["a", "2", "b", "1"],
        &["a", "1", "a", "2"],
    ] {
        assert!(build(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn every_choice_is_about_equally_likely() {
    for (entries, len) in [(128, 20), (0, 20), (0, 200)] {
        let mut rng = Rng::new(3);
        let mut set = Zset::new();
        for i in 0..len {
            set.add(i.to_string().as_bytes(), 0.0, Rule::default(), &limits(entries, 64));
        }
        let index = |pair: &Pair<'_>| pair.member.int().expect("an integer") as usize;
        let rounds = 400;
        for count in [1, len / 5, len - 1] {
            let mut counts = vec![0; len];
            for _ in 0..rounds {
                let mut seen = std::collections::HashSet::new();
                let flow = set.sample(count, &mut rng, |pair| {
                    counts[index(&pair)] += 1;
                    assert!(seen.insert(index(&pair)), "no pair twice");
                    ControlFlow::Continue(())
                });
                assert!(flow.is_continue());
                assert_eq!(seen.len(), count);
            }
            let mean = rounds as f64 * count as f64 / len as f64;
            for n in counts {
                assert!((f64::from(n) - mean).abs() < 6.0 * mean.sqrt() + 1.0, "{n} of about {mean}");
            }
        }
        let mut all = 0;
        let _ = set.sample(len + 5, &mut rng, |_| {
            all += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(all, len);
        assert!(set.random(&mut rng).is_some());
    }
}

/// Tries a law on random sets of both encodings; all scores of `lex` sets are equal.
fn law(lex: bool, holds: impl Fn(&mut Rng, &Zset)) {
    for (entries, encoding) in [(200, "listpack"), (0, "skiplist")] {
        for seed in 0..40 {
            println!("{encoding}, seed {seed}");
            let mut rng = Rng::new(seed);
            let mut set = Zset::sized_for(1, 0, &limits(entries, 64));
            for _ in 0..1 + rng.below(80) {
                let score = if lex { 0.0 } else { any_score(&mut rng) };
                set.add(&any_member(&mut rng), score, Rule::default(), &limits(entries, 64));
            }
            assert_eq!(set.encoding(), encoding);
            holds(&mut rng, &set);
        }
    }
}

fn texts(pairs: Iter<'_>, count: usize) -> Vec<Vec<u8>> {
    pairs.take(count).map(|pair| pair.member.to_vec()).collect()
}

#[test]
fn rank_and_range_are_inverse() {
    law(false, |_, set| {
        let len = set.len();
        for rank in 0..len {
            let pair = set.from_rank(rank, false).next().expect("the rank exists");
            assert_eq!(set.rank(&pair.member.to_vec()), Some((rank, pair.score())));
            let from_end = set.from_rank(len - 1 - rank, true).next().expect("the rank exists");
            assert_eq!((from_end.member, from_end.score()), (pair.member, pair.score()));
        }
        assert!(set.from_rank(len, false).next().is_none());
        assert!(set.from_rank(len, true).next().is_none());
    });
}

#[test]
fn a_range_backwards_is_the_range_reversed() {
    law(false, |rng, set| {
        let (start, count) = (rng.index(set.len()), 1 + rng.index(set.len()));
        let forwards = texts(set.from_rank(start, false), count);
        let mut backwards = texts(set.from_rank(set.len() - start - forwards.len(), true), forwards.len());
        backwards.reverse();
        assert_eq!(forwards, backwards);
    });
}

#[test]
fn a_count_by_score_is_the_length_of_the_range() {
    law(false, |rng, set| {
        for _ in 0..20 {
            let range = ScoreRange {
                min: any_score(rng),
                max: any_score(rng),
                min_exclusive: rng.one_in(2),
                max_exclusive: rng.one_in(2),
            };
            let count = set.ranks_by_score(&range).len();
            for reverse in [false, true] {
                let walk = set.from_score(&range, reverse);
                assert_eq!(walk.take_while(|pair| range.contains(pair.score())).count(), count);
            }
        }
    });
}

#[test]
fn a_count_by_text_is_the_length_of_the_range() {
    law(true, |rng, set| {
        for _ in 0..20 {
            let (min, max) = (any_member(rng), any_member(rng));
            let range = match rng.below(4) {
                0 => LexRange { min: LexBound::Min, max: LexBound::Excl(&max) },
                1 => LexRange { min: LexBound::Incl(&min), max: LexBound::Max },
                2 => LexRange { min: LexBound::Excl(&min), max: LexBound::Incl(&max) },
                _ => LexRange { min: LexBound::Incl(&min), max: LexBound::Excl(&max) },
            };
            let count = set.ranks_by_lex(&range).len();
            for reverse in [false, true] {
                let walk = set.from_lex(&range, reverse);
                assert_eq!(walk.take_while(|pair| range.contains(&pair.member.to_vec())).count(), count);
            }
        }
    });
}

#[test]
fn ranges_on_both_sides_of_a_score_partition_a_set() {
    law(false, |rng, set| {
        let middle = any_score(rng);
        let range = |min, max, min_exclusive, max_exclusive| {
            let range = ScoreRange { min, max, min_exclusive, max_exclusive };
            set.ranks_by_score(&range).len()
        };
        let below = range(f64::NEG_INFINITY, middle, false, true);
        let above = range(middle, f64::INFINITY, true, false);
        assert_eq!(below + range(middle, middle, false, false) + above, set.len());
    });
}

#[test]
fn a_scan_shows_every_member_that_stays_while_the_table_grows_and_shrinks() {
    let limits = limits(0, 64);
    for seed in 0..10 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let mut set = Zset::sized_for(1, 0, &limits);
        let stay: std::collections::BTreeSet<Vec<u8>> =
            (0..300).map(|i| format!("stay{i}").into_bytes()).collect();
        for member in &stay {
            set.add(member, 1.0, Rule::default(), &limits);
        }
        let (mut seen, mut cursor, mut grows) = (std::collections::BTreeSet::new(), 0, true);
        loop {
            cursor = set.scan(cursor, |pair| _ = seen.insert(pair.member.to_vec()));
            if cursor == 0 {
                break;
            }
            // From 300 to 6300 members and back, in strides that leave a rehash unfinished.
            for _ in 0..rng.below(300) {
                let other = rng.below(6000).to_string();
                if grows {
                    set.add(other.as_bytes(), rng.f64(), Rule::default(), &limits);
                } else {
                    set.remove(other.as_bytes());
                }
            }
            grows = if grows { set.len() < 5000 } else { set.len() < 600 };
        }
        assert!(seen.is_superset(&stay));
    }
}

#[test]
fn a_scan_sees_every_member() {
    for entries in [128, 0] {
        let mut set = Zset::new();
        for i in 0..100 {
            set.add(i.to_string().as_bytes(), f64::from(i), Rule::default(), &limits(entries, 64));
        }
        let (mut seen, mut cursor) = (std::collections::HashSet::new(), 0);
        loop {
            cursor = set.scan(cursor, |pair| {
                assert_eq!(pair.member.int(), Some(pair.score() as i64));
                seen.insert(pair.member.to_vec());
            });
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(seen.len(), 100);
    }
}

#[test]
fn a_prefetch_ends_whatever_its_target() {
    let mut set = Zset::new();
    let limits = limits(4, 64);
    let mut rng = Rng::new(3);
    for n in [0usize, 3, 5, 6000] {
        while set.len() < n {
            let member = rng.below(1 << 20).to_string();
            set.add(member.as_bytes(), any_score(&mut rng), Rule::default(), &limits);
        }
        let before = pairs(&set, false);
        for _ in 0..200 {
            let member = match set.random(&mut rng) {
                Some(pair) if rng.below(2) == 0 => pair.member.to_vec(),
                _ => b"another".to_vec(),
            };
            let rank = |rng: &mut Rng| match rng.below(6) {
                0 => i64::MIN,
                1 => i64::MAX,
                _ => rng.below(20_000) as i64 - 10_000,
            };
            let (start, stop, reverse) = (rank(&mut rng), rank(&mut rng), rng.below(2) == 0);
            for aim in [
                PrefetchTarget::Start,
                PrefetchTarget::Member(&member),
                PrefetchTarget::Place(&member),
                PrefetchTarget::Score(&member, any_score(&mut rng)),
                PrefetchTarget::Score(&member, f64::NAN),
                PrefetchTarget::Ranks { start, stop, reverse },
            ] {
                let Some(mut scout) = set.prefetcher(aim) else { continue };
                let steps = (0..1000).take_while(|_| scout.step()).count();
                assert!(steps < 400, "{steps} with {aim:?}");
            }
        }
        assert_eq!(pairs(&set, false), before);
    }
}
