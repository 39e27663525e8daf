//! Tests of the stream as a whole.

mod loading;
mod model;
mod replay;

use super::*;
use crate::types::Describe;

/// The id `ms-seq`.
fn id(ms: u64, seq: u64) -> StreamId {
    StreamId::new(ms, seq)
}

/// Adds an entry of `items` with the usual limits.
fn add(stream: &mut Stream, id: StreamId, items: &[&str]) {
    let items = items.iter().map(|item| item.as_bytes());
    stream.add(id, items, NodeLimits::default()).expect("the id is greater");
}

/// A stream of `n` entries with ids from `1-0` on, each of a field and its number.
fn numbered(n: u64, max_entries: u64) -> Stream {
    let mut stream = Stream::new();
    for ms in 1..=n {
        let text = ms.to_string();
        let limits = NodeLimits { max_entries, ..NodeLimits::default() };
        stream.add(id(ms, 0), [&b"n"[..], text.as_bytes()].into_iter(), limits).expect("the id is greater");
    }
    stream
}

/// The same stream, written in parts and loaded again.
fn reload(stream: &Stream) -> Result<Stream, LoadError> {
    let mut builder = Builder::new();
    for (master, bytes) in stream.nodes() {
        builder.node(master, bytes)?;
    }
    builder.meta(
        stream.entries_len(),
        stream.last_id(),
        Some((stream.max_deleted_id(), stream.entries_added())),
    )?;
    for group in stream.groups() {
        builder.group(group.name(), group.last_id(), group.entries_read())?;
        for entry in group.pending(StreamId::MIN, StreamId::MAX) {
            builder.pending(entry.id, entry.delivered_ms, entry.deliveries)?;
        }
        for (_, consumer) in group.consumers() {
            builder.consumer(consumer.name(), consumer.seen_ms(), consumer.active_ms())?;
            for id in consumer.pending_ids() {
                builder.consumer_pending(id)?;
            }
        }
        for id in group.released() {
            builder.released(id)?;
        }
    }
    if let Some(state) = stream.idempotency() {
        builder.idempotency(state.duration_s(), state.max_size())?;
        for (producer, _, ids) in state.producers() {
            for (iid, id) in ids {
                builder.idempotency_id(producer, iid, id)?;
            }
        }
        builder.idempotency_counters(state.added(), state.duplicates())?;
    }
    builder.finish()
}

/// All observable state of a stream, including times.
fn picture(stream: &Stream) -> String {
    use std::fmt::Write;
    let mut out = format!(
        "{} {} {} {} {} {}\n",
        stream.entries_len(),
        stream.last_id(),
        stream.first_id(),
        stream.max_deleted_id(),
        stream.entries_added(),
        stream.nodes_len()
    );
    for entry in stream.range(StreamId::MIN, StreamId::MAX) {
        writeln!(out, "{entry:?}").expect("a string takes all");
    }
    for group in stream.groups() {
        let lag = stream.lag(group);
        writeln!(out, "{:?} {} {:?} {lag:?}", group.name(), group.last_id(), group.entries_read())
            .expect("as above");
        for entry in group.pending(StreamId::MIN, StreamId::MAX) {
            let owner = entry.consumer.map(|consumer| group.consumer(consumer).name());
            writeln!(out, " {} {owner:?} {} {}", entry.id, entry.delivered_ms, entry.deliveries)
                .expect("as above");
        }
        for (_, consumer) in group.consumers() {
            let ids: Vec<_> = consumer.pending_ids().collect();
            let (seen, active) = (consumer.seen_ms(), consumer.active_ms());
            writeln!(out, " {:?} {seen} {active} {ids:?}", consumer.name()).expect("as above");
        }
    }
    if let Some(state) = stream.idempotency() {
        writeln!(out, "{} {} {} {}", state.duration_s(), state.max_size(), state.added(), state.duplicates())
            .expect("as above");
        for (producer, len, ids) in state.producers() {
            writeln!(out, "{producer:?} {len} {:?}", ids.collect::<Vec<_>>()).expect("as above");
        }
    }
    out
}

#[test]
fn ids_of_new_entries_never_go_back() {
    let mut stream = Stream::new();
    assert_eq!(stream.next_id(NewId::Exact(StreamId::MIN), 5), Err(AddError::Zero));
    assert_eq!(stream.next_id(NewId::AutoSeq(0), 5), Ok(id(0, 1)));
    assert_eq!(stream.next_id(NewId::Auto, 5), Ok(id(5, 0)));
    add(&mut stream, id(5, 0), &["f", "v"]);
    assert_eq!(stream.next_id(NewId::Auto, 5), Ok(id(5, 1)));
    assert_eq!(stream.next_id(NewId::Auto, 3), Ok(id(5, 1)));
    assert_eq!(stream.next_id(NewId::Auto, 6), Ok(id(6, 0)));
    assert_eq!(stream.next_id(NewId::AutoSeq(5), 0), Ok(id(5, 1)));
    assert_eq!(stream.next_id(NewId::AutoSeq(4), 0), Err(AddError::NotGreater));
    assert_eq!(stream.next_id(NewId::Exact(id(5, 0)), 0), Err(AddError::NotGreater));
    add(&mut stream, id(7, u64::MAX), &["f", "v"]);
    assert_eq!(stream.next_id(NewId::AutoSeq(7), 0), Err(AddError::NotGreater));
    assert_eq!(stream.next_id(NewId::Auto, 7), Ok(id(8, 0)));
    add(&mut stream, StreamId::MAX, &["f", "v"]);
    for wanted in [NewId::Auto, NewId::AutoSeq(9), NewId::Exact(id(9, 9))] {
        assert_eq!(stream.next_id(wanted, 9), Err(AddError::Exhausted));
    }
    let refused = stream.add(id(9, 9), [&b"f"[..], b"v"].into_iter(), NodeLimits::default());
    assert_eq!(refused, Err(AddError::Exhausted));
    stream.check();
}

#[test]
fn nodes_end_where_limits_say() {
    // The numbers of nodes are those in Redis for 299 entries of one field and one value.
    for (max_entries, max_bytes, nodes) in
        [(0, 0, 1), (0, 60, 150), (0, 4096, 2), (5, 0, 60), (5, 60, 150), (5, 4096, 60)]
    {
        let mut stream = Stream::new();
        for ms in 1..300 {
            let value = format!("value{ms}");
            let items = [&b"field1"[..], value.as_bytes()].into_iter();
            stream.add(id(ms, 0), items, NodeLimits { max_bytes, max_entries }).expect("the id is greater");
        }
        stream.check();
        assert_eq!(stream.nodes_len(), nodes, "{max_entries} entries, {max_bytes} bytes");
    }
}

#[test]
fn a_released_entry_can_be_claimed_by_any_consumer() {
    let mut stream = numbered(6, 100);
    let at = stream.create_group(b"g", StreamId::MIN, None).expect("new");
    let mut group = stream.group_mut(at);
    let a = group.create_consumer(b"a", 10).expect("new");
    assert_eq!(group.read_new(a, 4, false, 1000).count(), 4);
    let mut group = stream.group_mut(at);
    assert!(group.release(id(1, 0), Release::Silent, None, false));
    assert!(group.release(id(2, 0), Release::Fatal, None, false));
    assert!(group.release(id(3, 0), Release::Fail, Some(7), false));
    assert!(!group.release(id(5, 0), Release::Fail, None, false), "not pending");
    assert!(group.release(id(5, 0), Release::Fail, None, true));
    assert!(!group.release(id(77, 0), Release::Fail, None, true), "does not exist");
    let seen: Vec<_> = group
        .group()
        .pending(StreamId::MIN, StreamId::MAX)
        .map(|entry| (entry.id.ms, entry.consumer, entry.delivered_ms, entry.deliveries))
        .collect();
    let max = i64::MAX as u64;
    assert_eq!(
        seen,
        [(1, None, 0, 0), (2, None, 0, max), (3, None, 0, 7), (4, Some(a), 1000, 1), (5, None, 0, 0)]
    );
    stream.check();
    assert_eq!(picture(&reload(&stream).expect("valid")), picture(&stream));
    stream.delete(id(3, 0));
    let mut group = stream.group_mut(at);
    let b = group.create_consumer(b"b", 2000).expect("new");
    let mut shown = Vec::new();
    let result = group.claim_idle(b, 500, 3, 2000, |entry, idle, before| {
        shown.push((entry.id.ms, idle, before));
        true
    });
    let gone = PendingEntry { id: id(3, 0), consumer: None, delivered_ms: 0, deliveries: 7 };
    assert_eq!(result, IdleClaim { claimed: 3, dropped: vec![gone] });
    assert_eq!(shown, [(1, None, 0), (2, None, max), (5, None, 0)]);
    shown.clear();
    group.claim_idle(b, 500, 3, 2000, |entry, idle, before| {
        shown.push((entry.id.ms, idle, before));
        true
    });
    assert_eq!(shown, [(4, Some(1000), 1)]);
    assert_eq!(group.claim_idle(b, 500, 3, 2000, |_, _, _| panic!("nothing is idle")), IdleClaim::default());
    assert_eq!(group.group().idle_at(500), Some(2500));
    let deliveries: Vec<_> =
        group.group().pending_of(b, StreamId::MIN, StreamId::MAX).map(|e| e.deliveries).collect();
    assert_eq!(deliveries, [1, max + 1, 2, 1]);
    assert_eq!(group.group().consumer(b).active_ms(), 2000);
    stream.check();
}

#[test]
fn an_entry_deleted_before_may_still_be_pending() {
    let mut stream = numbered(3, 100);
    let at = stream.create_group(b"g", StreamId::MIN, None).expect("new");
    let mut group = stream.group_mut(at);
    let a = group.create_consumer(b"a", 0).expect("new");
    group.read_new(a, 3, false, 100).for_each(drop);
    assert!(stream.delete(id(1, 0)));
    assert_eq!(stream.delete_noting(id(1, 0), RefPolicy::Keep), (Deletion::Missing, false));
    assert_eq!(stream.delete_noting(id(1, 0), RefPolicy::Delete), (Deletion::Missing, true));
    assert_eq!(stream.delete_noting(id(1, 0), RefPolicy::Delete), (Deletion::Missing, false));
    assert_eq!(stream.delete_noting(id(2, 0), RefPolicy::Delete), (Deletion::Deleted, true));
    assert_eq!(stream.group(at).pending_len(), 1);
    stream.check();
}

/// The expected results are those of Redis 8.2.
#[test]
fn trimming_acknowledged_entries_ends_at_the_first_node_not_covered() {
    // Number of entries, entries per node, acknowledged entries, requested length; entries removed.
    type Case<'a> = (u64, u64, &'a [u64], u64, &'a [u64]);
    let cases: [Case<'_>; 6] = [
        (5, 2, &[4, 5], 4, &[]),
        (8, 5, &[3, 7], 4, &[3]),
        (12, 5, &[7, 11], 8, &[]),
        (13, 5, &[7, 11], 1, &[7, 11]),
        (12, 5, &[2, 6, 7], 9, &[2]),
        (6, 100, &[2, 3, 4], 4, &[2, 3]),
    ];
    for (n, node, acknowledged, max, gone) in cases {
        let mut stream = numbered(n, node);
        let at = stream.create_group(b"g", StreamId::MIN, None).expect("new");
        let mut group = stream.group_mut(at);
        let a = group.create_consumer(b"a", 0).expect("new");
        group.read_new(a, n, false, 0).for_each(drop);
        for &ms in acknowledged {
            assert!(stream.group_mut(at).acknowledge(id(ms, 0)));
        }
        let trim = Trim { threshold: Threshold::MaxLen(max), approximate: false, limit: 0 };
        assert_eq!(stream.trim(trim, RefPolicy::Acked), gone.len() as u64);
        let left = stream.range(StreamId::MIN, StreamId::MAX).map(|entry| entry.id.ms);
        assert!(left.eq((1..=n).filter(|ms| !gone.contains(ms))));
        stream.check();
    }
}

#[test]
fn the_longest_idle_are_claimed_first() {
    let mut stream = numbered(2000, 100);
    let at = stream.create_group(b"g", StreamId::MIN, None).expect("new");
    let a = stream.group_mut(at).create_consumer(b"a", 0).expect("new");
    stream.group_mut(at).read_new(a, 2000, false, 0).for_each(drop);
    let mut rng = crate::stdx::rng::Rng::new(7);
    let mut times = Vec::new();
    for ms in 1..=2000 {
        let delivered_ms = rng.below(1000) as i64;
        let claim = Claim { min_idle_ms: 0, delivered_ms, deliveries: None, counts: false, force: false };
        assert!(matches!(stream.group_mut(at).claim(id(ms, 0), a, &claim, 1000), Claimed::Entry(_)));
        times.push((delivered_ms, ms));
    }
    times.sort_unstable();
    let mut rest = &times[..];
    while !rest.is_empty() {
        let count = rng.below(200) + 1;
        let mut claimed = Vec::new();
        stream.group_mut(at).claim_idle(a, 200, count, 1000, |entry, idle, _| {
            claimed.push((1000 - idle.expect("nothing was given back"), entry.id.ms));
            true
        });
        stream.check();
        let want = rest.iter().take(count as usize).take_while(|(time, _)| *time <= 800).count();
        assert_eq!(claimed, rest[..want]);
        rest = &rest[want..];
        if want == 0 {
            break;
        }
    }
    assert!(rest.iter().all(|(time, _)| *time > 800));
}

#[test]
fn claims_respect_idle_times() {
    let mut stream = numbered(5, 100);
    let at = stream.create_group(b"g", StreamId::MIN, None).expect("new");
    let mut group = stream.group_mut(at);
    let (a, b) = (group.create_consumer(b"a", 0).expect("new"), group.create_consumer(b"b", 0).expect("new"));
    group.read_new(a, 3, false, 100).for_each(drop);
    stream.delete(id(3, 0));
    let mut group = stream.group_mut(at);
    let claim = Claim { min_idle_ms: 50, delivered_ms: 120, deliveries: None, counts: true, force: true };
    assert!(matches!(group.claim(id(1, 0), b, &claim, 149), Claimed::No));
    assert!(matches!(group.claim(id(1, 0), b, &claim, 150), Claimed::Entry(_)));
    assert!(matches!(group.claim(id(3, 0), b, &claim, 0), Claimed::Dropped(_)));
    assert!(matches!(group.claim(id(3, 0), b, &claim, 0), Claimed::No));
    let entry = group.group().find_pending(id(1, 0)).expect("pending");
    assert_eq!((entry.consumer, entry.delivered_ms, entry.deliveries), (Some(b), 120, 2));
    let result =
        group.auto_claim(b, StreamId::MIN, 60, 10, true, 165, |entry| assert_eq!(entry.id, id(2, 0)));
    assert_eq!(result, AutoClaim { cursor: StreamId::MIN, claimed: 1, dropped: vec![] });
    // At most ten entries are examined for each one requested.
    let mut stream = numbered(30, 100);
    let at = stream.create_group(b"g", StreamId::MIN, None).expect("new");
    let a = stream.group_mut(at).create_consumer(b"a", 0).expect("new");
    stream.group_mut(at).read_new(a, 30, false, 100).for_each(drop);
    let result =
        stream.group_mut(at).auto_claim(a, id(2, 0), 60, 2, true, 100, |_| panic!("nothing is idle"));
    assert_eq!(result, AutoClaim { cursor: id(22, 0), claimed: 0, dropped: vec![] });
    stream.check();
}

#[test]
fn idempotency_ids_expire_by_time_and_number() {
    let mut stream = Stream::new();
    assert!(stream.idempotency().is_none());
    let state = stream.idempotency_or_default();
    for ms in 0..150 {
        state.add(b"p", format!("i{ms}").as_bytes(), id(1000 + ms, 0), 1000 + ms);
    }
    state.add(b"q", b"i1", id(2000, 0), 2000);
    state.check();
    assert_eq!((state.len(), state.producers_len(), state.added()), (101, 2, 151));
    assert_eq!(state.find(b"p", b"i49", 2000), None);
    assert_eq!(state.find(b"p", b"i50", 2000), Some(id(1050, 0)));
    assert_eq!(state.find(b"p", b"i50", 101_049), Some(id(1050, 0)));
    assert_eq!(state.find(b"p", b"i50", 101_050), None);
    assert_eq!(state.find(b"r", b"i50", 0), None);
    assert_eq!(state.next_expiry_ms(), Some(101_050));
    assert_eq!(state.expire(101_059), 10);
    assert_eq!(state.record(b"p", b"i60", id(1060, 0)), Ok(()));
    assert_eq!(state.record(b"p", b"i60", id(1061, 0)), Err(OtherEntry));
    assert_eq!(state.record(b"p", b"early", id(1030, 5)), Ok(()));
    state.check();
    assert_eq!(picture(&reload(&stream).expect("valid")), picture(&stream));
    let state = stream.idempotency_or_default();
    assert!(!state.configure(Some(DEFAULT_DURATION_S), None));
    assert!(state.configure(Some(5), None));
    assert!(state.is_empty() && state.duration_s() == 5 && state.max_size() == DEFAULT_MAX_SIZE);
    assert_ne!(content_id([&b"ab"[..], b"c"].into_iter()), content_id([&b"a"[..], b"bc"].into_iter()));
}

#[test]
fn sizes_grow_with_content() {
    let small = numbered(1, 100);
    let large = numbered(10_000, 100);
    assert!(small.bytes(0) < 400, "{}", small.bytes(0));
    assert!(
        large.bytes(0) > 100 * small.bytes(0) && large.bytes(5).abs_diff(large.bytes(0)) < large.bytes(0) / 4
    );
    assert_eq!((small.effort(), large.effort()), (1, 100));
    assert_eq!(Stream::new().bytes(3), Stream::new().bytes(0));
}

#[test]
fn entries_are_found_in_nodes_of_all_lengths() {
    use std::collections::BTreeSet;
    let limits = NodeLimits { max_bytes: 0, max_entries: 0 };
    // The longest nodes extend far beyond the 64 KB in which entries are marked.
    for n in [1u64, 15, 16, 17, 100, 130, 260, 3000, 9000] {
        let mut stream = Stream::new();
        for ms in 1..=n {
            stream.add(id(2 * ms, 0), [&b"n"[..], b"value"].into_iter(), limits).expect("the id is greater");
        }
        let mut there: BTreeSet<u64> = (1..=n).map(|ms| 2 * ms).collect();
        for round in 0..3 {
            assert_eq!(stream.nodes_len(), 1);
            stream.check();
            for step in 0..200.min(2 * n) {
                let ms = 2 * n - (step * 7919 + step / 3) % (2 * n);
                assert_eq!(stream.get(id(ms, 0)).map(|entry| entry.id.ms), there.get(&ms).copied());
                let from = stream.range(id(ms, 0), StreamId::MAX).next().map(|entry| entry.id.ms);
                assert_eq!(from, there.range(ms..).next().copied(), "from {ms} of {n}");
                let back = stream.range_back(StreamId::MIN, id(ms, 0)).next().map(|entry| entry.id.ms);
                assert_eq!(back, there.range(..=ms).next_back().copied(), "back from {ms} of {n}");
            }
            let gone: Vec<u64> =
                there.iter().copied().filter(|ms| ms % 5 == round && there.len() > 1).collect();
            for ms in gone.into_iter().skip(1) {
                assert!(stream.delete(id(ms, 0)) && !stream.delete(id(ms, 0)));
                there.remove(&ms);
            }
            // Marks of a loaded node are computed anew, and those of a node with deleted entries must agree with its
            // counts.
            stream = reload(&stream).expect("it is a stream");
            let more = stream.last_id().ms + 2;
            stream.add(id(more, 0), [&b"n"[..], b"value"].into_iter(), limits).expect("the id is greater");
            there.insert(more);
        }
    }
}

#[test]
fn deleted_consumers_leave_no_memory() {
    let mut stream = Stream::new();
    let at = stream.create_group(b"g", StreamId::MIN, None).expect("new");
    let before = stream.group(at).bytes();
    let mut group = stream.group_mut(at);
    let name = |n: u32| n.to_string().into_bytes();
    (0..1000).for_each(|n| assert!(group.create_consumer(&name(n), 0).is_some()));
    // In an order in which numbers of consumers become free in the middle.
    (0..1000).for_each(|n| assert_eq!(group.delete_consumer(&name(n * 7 % 1000)), Some(0)));
    assert_eq!(stream.group(at).bytes(), before);
    stream.check();
    let first = stream.group_mut(at).create_consumer(b"a", 0).expect("new");
    assert_eq!(stream.group(at).consumer(first).name(), b"a");
    stream.check();
}
