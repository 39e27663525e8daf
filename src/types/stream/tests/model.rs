//! Random operations on a stream, compared with plain maps.

use std::collections::BTreeMap;

use super::*;
use crate::stdx::rng::Rng;

type Owner = Option<Vec<u8>>;

#[derive(Clone, Default)]
struct ModelGroup {
    last: StreamId,
    pending: BTreeMap<StreamId, (Owner, i64, u64)>,
    /// Time last seen, and time last active, by name.
    consumers: BTreeMap<Vec<u8>, (i64, i64)>,
}

#[derive(Clone, Default)]
struct Model {
    entries: BTreeMap<StreamId, Vec<Vec<u8>>>,
    last: StreamId,
    tombstone: StreamId,
    groups: BTreeMap<Vec<u8>, ModelGroup>,
}

impl Model {
    fn needed(&self, id: StreamId) -> bool {
        self.groups.values().any(|group| group.last < id || group.pending.contains_key(&id))
    }

    fn delete_with(&mut self, id: StreamId, policy: RefPolicy) -> Deletion {
        if policy == RefPolicy::Acked && self.needed(id) {
            return Deletion::Referenced;
        }
        if policy == RefPolicy::Delete {
            self.groups.values_mut().for_each(|group| {
                group.pending.remove(&id);
            });
        }
        if self.entries.remove(&id).is_none() {
            return Deletion::Missing;
        }
        self.tombstone = self.tombstone.max(id);
        Deletion::Deleted
    }

    fn trim(&mut self, threshold: Threshold, policy: RefPolicy) -> u64 {
        let before = self.entries.len();
        for id in self.entries.keys().copied().collect::<Vec<_>>() {
            let done = match threshold {
                Threshold::MaxLen(max) => self.entries.len() as u64 <= max,
                Threshold::MinId(min) => id >= min,
            };
            if done {
                break;
            }
            if policy == RefPolicy::Acked && self.needed(id) {
                continue;
            }
            if policy == RefPolicy::Delete {
                self.groups.values_mut().for_each(|group| {
                    group.pending.remove(&id);
                });
            }
            self.entries.remove(&id);
        }
        (before - self.entries.len()) as u64
    }

    /// Panics unless `stream` has the same content.
    fn compare(&self, stream: &Stream) {
        assert_eq!(stream.entries_len(), self.entries.len() as u64);
        assert_eq!((stream.last_id(), stream.max_deleted_id()), (self.last, self.tombstone));
        assert_eq!(stream.first_id(), self.entries.keys().next().copied().unwrap_or_default());
        assert_eq!(stream.first().map(|e| e.id), self.entries.keys().next().copied());
        assert_eq!(stream.last().map(|e| e.id), self.entries.keys().next_back().copied());
        let forward = stream.range(StreamId::MIN, StreamId::MAX).map(|entry| (entry.id, items(&entry)));
        assert!(forward.eq(self.entries.iter().map(|(id, items)| (*id, items.clone()))));
        let names: Vec<&[u8]> = stream.groups().map(Group::name).collect();
        assert!(names.iter().copied().eq(self.groups.keys().map(Vec::as_slice)));
        for group in stream.groups() {
            let model = &self.groups[group.name()];
            assert_eq!(group.last_id(), model.last);
            let pending = group.pending(StreamId::MIN, StreamId::MAX).map(|entry| {
                let owner = entry.consumer.map(|id| group.consumer(id).name().to_vec());
                (entry.id, (owner, entry.delivered_ms, entry.deliveries))
            });
            assert!(pending.eq(model.pending.iter().map(|(id, entry)| (*id, entry.clone()))));
            let consumers = group.consumers().map(|(_, c)| (c.name().to_vec(), (c.seen_ms(), c.active_ms())));
            assert!(consumers.eq(model.consumers.iter().map(|(name, times)| (name.clone(), *times))));
            let edges = model.pending.keys().next().copied().zip(model.pending.keys().next_back().copied());
            assert_eq!(group.pending_edges(), edges);
        }
    }
}

fn items(entry: &Entry<'_>) -> Vec<Vec<u8>> {
    entry.fields().flat_map(|(field, value)| [field.to_vec(), value.to_vec()]).collect()
}

fn any_policy(rng: &mut Rng) -> RefPolicy {
    [RefPolicy::Keep, RefPolicy::Delete, RefPolicy::Acked][rng.index(3)]
}

fn any_items(rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut items = Vec::new();
    for n in 0..rng.below(3) + 1 {
        items.push(
            if rng.one_in(5) { format!("other{}", rng.below(9)) } else { format!("field{n}") }.into_bytes(),
        );
        items.push(match rng.below(4) {
            0 => (rng.next_u64() as i64 >> rng.below(64)).to_string().into_bytes(),
            1 => vec![b'x'; rng.index(200)],
            _ => rng.below(1000).to_string().into_bytes(),
        });
    }
    items
}

#[test]
fn behaves_like_maps() {
    for seed in 0..8 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let (mut stream, mut model) = (Stream::new(), Model::default());
        let limits = NodeLimits { max_bytes: [0, 300, 4096][seed as usize % 3], max_entries: rng.below(12) };
        let mut now = 1000;
        for step in 0..2500 {
            now += rng.below(20) as i64;
            step_both(&mut stream, &mut model, &mut rng, limits, now);
            model.compare(&stream);
            stream.check();
            if step % 100 == 0 {
                assert_eq!(picture(&reload(&stream).expect("its own parts are valid")), picture(&stream));
            }
        }
    }
}

fn step_both(stream: &mut Stream, model: &mut Model, rng: &mut Rng, limits: NodeLimits, now: i64) {
    let near = |rng: &mut Rng| id(model.last.ms.saturating_sub(rng.below(60)), rng.below(2));
    let (some, other) = (near(rng), near(rng));
    let name = [b'g' + rng.below(3) as u8];
    match rng.below(16) {
        0..=4 => {
            let new = id(model.last.ms + rng.below(3), if rng.one_in(3) { model.last.seq + 1 } else { 0 });
            let items = any_items(rng);
            let added = stream.add(new, items.iter().map(Vec::as_slice), limits);
            if new <= model.last {
                let error = if new.is_zero() { AddError::Zero } else { AddError::NotGreater };
                assert_eq!(added, Err(error));
            } else {
                assert_eq!(added, Ok(()));
                model.last = new;
                model.entries.insert(new, items);
            }
        }
        5 => assert_eq!(stream.delete(some), model.delete_with(some, RefPolicy::Keep) == Deletion::Deleted),
        6 => {
            let policy = any_policy(rng);
            assert_eq!(stream.delete_with(some, policy), model.delete_with(some, policy));
        }
        7 if rng.one_in(3) => {
            let policy = any_policy(rng);
            let threshold = match rng.below(2) {
                // If needed entries are kept, the result depends on the boundaries of nodes.
                0 if policy != RefPolicy::Acked => Threshold::MaxLen(rng.below(40)),
                _ => Threshold::MinId(some),
            };
            let trim = Trim { threshold, approximate: rng.one_in(2), limit: rng.below(30) };
            let mut exact = model.clone();
            let most = exact.trim(threshold, policy);
            let removed = stream.trim(trim, policy);
            if trim.approximate {
                assert!(removed <= most && (trim.limit == 0 || removed <= trim.limit));
                model.trim(Threshold::MaxLen(model.entries.len() as u64 - removed), RefPolicy::Keep);
            } else {
                assert_eq!(removed, most);
                *model = exact;
            }
        }
        8 => {
            let (start, end) = (some.min(other), some.max(other));
            let wanted: Vec<_> =
                model.entries.range(start..=end).map(|(id, items)| (*id, items.clone())).collect();
            let found: Vec<_> = stream.range(start, end).map(|entry| (entry.id, items(&entry))).collect();
            assert_eq!(found, wanted);
            let back = stream.range_back(start, end).map(|entry| (entry.id, items(&entry)));
            assert!(back.eq(wanted.into_iter().rev()));
            assert_eq!(stream.get(some).map(|entry| items(&entry)), model.entries.get(&some).cloned());
            assert_eq!(stream.range(start, end).count(), stream.range_back(start, end).count());
        }
        9 if rng.one_in(6) => {
            assert_eq!(stream.destroy_group(&name), model.groups.remove(&name[..]).is_some());
        }
        9 => {
            let created = stream.create_group(&name, some, Some(rng.below(100))).is_some();
            assert_eq!(created, !model.groups.contains_key(&name[..]));
            model.groups.entry(name.to_vec()).or_insert(ModelGroup { last: some, ..ModelGroup::default() });
        }
        10 => {
            let policy = any_policy(rng);
            let Some(at) = stream.find_group(&name) else { return };
            let was = model.groups.get_mut(&name[..]).expect("both have it").pending.remove(&some);
            let wanted = match was.map(|_| model.delete_with(some, policy)) {
                None => Deletion::Missing,
                Some(Deletion::Missing) => Deletion::Deleted,
                Some(deletion) => deletion,
            };
            assert_eq!(stream.acknowledge_and_delete(at, some, policy), wanted);
        }
        _ => {
            let Some(at) = stream.find_group(&name) else { return };
            let group = model.groups.get_mut(&name[..]).expect("both have it");
            step_group(stream.group_mut(at), group, &model.entries, rng, some, now);
        }
    }
}

fn step_group(
    mut group: GroupMut<'_>,
    model: &mut ModelGroup,
    entries: &BTreeMap<StreamId, Vec<Vec<u8>>>,
    rng: &mut Rng,
    some: StreamId,
    now: i64,
) {
    let name = vec![b'a' + rng.below(4) as u8];
    let owner = Some(name.clone());
    let count = rng.below(6) + 1;
    let min_idle = [0, 5, 50, 500][rng.index(4)];
    if rng.one_in(12) {
        let deleted = group.delete_consumer(&name);
        let before = model.pending.len();
        model.pending.retain(|_, entry| entry.0 != owner);
        let gone = (before - model.pending.len()) as u64;
        assert_eq!(deleted, model.consumers.remove(&name).map(|_| gone));
        return;
    }
    let known = group.group().find_consumer(&name);
    let consumer = known.unwrap_or_else(|| group.create_consumer(&name, now).expect("there was none"));
    let times = model.consumers.entry(name).or_insert((now, -1));
    match rng.below(9) {
        0..=2 => {
            let no_ack = rng.one_in(4);
            let wanted: Vec<StreamId> =
                entries.keys().copied().filter(|id| *id > model.last).take(count as usize).collect();
            assert_eq!(group.has_new(), !wanted.is_empty());
            let read: Vec<StreamId> =
                group.read_new(consumer, count, no_ack, now).map(|entry| entry.id).collect();
            assert_eq!(read, wanted);
            if let Some(last) = wanted.last() {
                model.last = *last;
            }
            for id in wanted.into_iter().filter(|_| !no_ack) {
                times.1 = now;
                model.pending.insert(id, (owner.clone(), now, 1));
            }
        }
        3 => {
            let read: Vec<_> =
                group.history(consumer, some, count, now).map(|(id, e)| (id, e.map(|e| items(&e)))).collect();
            let own = model.pending.iter_mut().filter(|(id, entry)| **id > some && entry.0 == owner);
            let mut wanted = Vec::new();
            for (id, entry) in own.take(count as usize) {
                if entries.contains_key(id) {
                    (entry.1, entry.2) = (now, entry.2.saturating_add(1));
                }
                wanted.push((*id, entries.get(id).cloned()));
            }
            assert_eq!(read, wanted);
        }
        4 | 5 => assert_eq!(group.acknowledge(some), model.pending.remove(&some).is_some()),
        6 => {
            let deliveries = rng.one_in(3).then(|| rng.next_u64() >> rng.below(64));
            let claim = Claim {
                min_idle_ms: min_idle,
                delivered_ms: now - rng.below(30) as i64,
                deliveries,
                counts: rng.one_in(2),
                force: rng.one_in(2),
            };
            let claimed = group.claim(some, consumer, &claim, now);
            let pending = model.pending.get(&some).cloned();
            if !entries.contains_key(&some) {
                let dropped = model.pending.remove(&some).is_some();
                assert!(if dropped {
                    matches!(claimed, Claimed::Dropped(_))
                } else {
                    matches!(claimed, Claimed::No)
                });
                return;
            }
            let idle =
                pending.as_ref().is_none_or(|(owner, time, _)| owner.is_none() || now - time >= min_idle);
            if !idle || (pending.is_none() && !claim.force) {
                assert!(matches!(claimed, Claimed::No));
                return;
            }
            assert!(matches!(claimed, Claimed::Entry(entry) if entry.id == some));
            let before = pending.map_or(1, |entry| entry.2);
            let count = deliveries.unwrap_or(before.saturating_add(u64::from(claim.counts)));
            model.pending.insert(some, (owner, claim.delivered_ms, count));
            times.1 = now;
        }
        7 if rng.one_in(2) => {
            let mut shown = Vec::new();
            let result =
                group.auto_claim(consumer, some, min_idle, count, true, now, |entry| shown.push(entry.id));
            let (mut claimed, mut dropped, mut looked_at, mut cursor) = (vec![], vec![], 0, StreamId::MIN);
            for id in model.pending.range(some..).map(|(id, _)| *id).collect::<Vec<_>>() {
                if looked_at == 10 * count || (claimed.len() + dropped.len()) as u64 == count {
                    cursor = id;
                    break;
                }
                looked_at += 1;
                let entry = model.pending.get_mut(&id).expect("just seen");
                if !entries.contains_key(&id) {
                    model.pending.remove(&id);
                    dropped.push(id);
                } else if now - entry.1 >= min_idle || min_idle == 0 {
                    *entry = (owner.clone(), now, entry.2.saturating_add(1));
                    times.1 = now;
                    claimed.push(id);
                }
            }
            let gone: Vec<_> = result.dropped.iter().map(|entry| entry.id).collect();
            assert_eq!((shown, gone, result.cursor), (claimed, dropped, cursor));
        }
        7 => {
            let mut shown = Vec::new();
            let result = group.claim_idle(consumer, min_idle, count, now, |e, idle, before| {
                shown.push((e.id, idle, before));
                true
            });
            let mut idle: Vec<_> = model
                .pending
                .iter()
                .filter(|(id, entry)| now - entry.1 >= min_idle && entries.contains_key(id))
                .map(|(id, entry)| (entry.1, *id, entry.clone()))
                .collect();
            idle.sort_by_key(|(time, id, _)| (*time, *id));
            idle.truncate(count as usize);
            let wanted: Vec<_> = idle
                .iter()
                .map(|(time, id, entry)| (*id, entry.0.as_ref().map(|_| now - time), entry.2))
                .collect();
            assert_eq!(shown, wanted);
            for PendingEntry { id, .. } in &result.dropped {
                assert!(model.pending.remove(id).is_some() && !entries.contains_key(id));
            }
            for (_, id, entry) in idle {
                model.pending.insert(id, (owner.clone(), now, entry.2.saturating_add(1)));
                times.1 = now;
            }
        }
        _ => {
            let how = [Release::Silent, Release::Fail, Release::Fatal][rng.index(3)];
            let (deliveries, force) = (rng.one_in(3).then(|| rng.below(9)), rng.one_in(2));
            let before = model.pending.get(&some).map(|entry| entry.2);
            let before = before.or_else(|| (force && entries.contains_key(&some)).then_some(0));
            assert_eq!(group.release(some, how, deliveries, force), before.is_some());
            if let Some(before) = before {
                let count = match how {
                    Release::Silent => before.saturating_sub(1),
                    Release::Fail => before,
                    Release::Fatal => i64::MAX as u64,
                };
                model.pending.insert(some, (None, 0, deliveries.unwrap_or(count)));
            }
        }
    }
}

/// Performs every operation on a stream, checking the invariants in between.
pub(super) fn use_everything(stream: &mut Stream, rng: &mut Rng) {
    stream.check();
    let seen = picture(stream);
    assert_eq!(picture(&stream.clone()), seen);
    assert_eq!(picture(&reload(stream).expect("its own parts are valid")), seen);
    assert!(stream.bytes(0) > 0 && stream.effort() < 1000);
    let mut back: Vec<_> =
        stream.range_back(StreamId::MIN, StreamId::MAX).map(|e| (e.id, items(&e))).collect();
    back.reverse();
    assert!(stream.range(StreamId::MIN, StreamId::MAX).map(|e| (e.id, items(&e))).eq(back));
    stream.create_group(b"a", id(rng.below(5), 0), Some(rng.next_u64()));
    for now in 0..40 {
        let some = id(rng.below(13), rng.below(2));
        let at = stream.find_group(&[b'a' + rng.below(2) as u8]).or_else(|| stream.find_group(b"a"));
        let at = at.expect("there is one");
        match rng.below(5) {
            0 => {
                let wanted = stream.next_id(NewId::Auto, rng.below(200));
                let limits = NodeLimits { max_entries: rng.below(5), ..NodeLimits::default() };
                if let Ok(id) = wanted {
                    stream
                        .add(id, any_items(rng).iter().map(Vec::as_slice), limits)
                        .expect("the id is the next");
                }
            }
            1 => {
                stream.delete_with(some, any_policy(rng));
            }
            2 => {
                stream.acknowledge_and_delete(at, some, any_policy(rng));
                if rng.one_in(6) {
                    let threshold = match rng.below(2) {
                        0 => Threshold::MaxLen(rng.below(12)),
                        _ => Threshold::MinId(some),
                    };
                    stream.trim(Trim { threshold, approximate: rng.one_in(2), limit: 0 }, any_policy(rng));
                }
            }
            _ => {
                let mut group = stream.group_mut(at);
                let name = [b'a' + rng.below(3) as u8];
                let known = group.group().find_consumer(&name);
                let consumer =
                    known.unwrap_or_else(|| group.create_consumer(&name, now).expect("there was none"));
                match rng.below(7) {
                    0 => group.read_new(consumer, rng.below(4), rng.one_in(3), now).for_each(drop),
                    1 => group.history(consumer, some, rng.below(4), now).for_each(drop),
                    2 => {
                        group.acknowledge(some);
                    }
                    3 => {
                        let claim = Claim {
                            min_idle_ms: 0,
                            delivered_ms: now,
                            deliveries: None,
                            counts: true,
                            force: true,
                        };
                        group.claim(some, consumer, &claim, now);
                    }
                    4 => {
                        group.auto_claim(consumer, some, 0, rng.below(4), true, now, drop);
                        group.claim_idle(consumer, 1, rng.below(4), now, |_, _, _| true);
                    }
                    5 => {
                        group.release(some, Release::Silent, None, true);
                    }
                    _ => {
                        group.delete_consumer(&name);
                    }
                }
            }
        }
        stream.check();
        stream.lag(stream.group(stream.find_group(b"a").expect("created"))).unwrap_or_default();
    }
}
