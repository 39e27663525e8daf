//! What a cluster survives.

use super::*;
use crate::cluster::bus;
use crate::cluster::machine::Manual;
use crate::cluster::nodes::NodeId;

const TIMEOUT_MS: i64 = 1000;
/// Shards, and servers in each.
const SHARDS: usize = 3;
const COPIES: usize = 3;

/// Longest time for which two servers acknowledged writes to one slot, in milliseconds: in one epoch, and in two.
#[derive(Default)]
struct Overlaps {
    in_one: i64,
    in_two: i64,
    since: HashMap<(usize, usize, usize, bool), i64>,
}

impl Overlaps {
    fn look(&mut self, world: &World) {
        let mut now = HashMap::new();
        for shard in 0..SHARDS {
            let slot = Slot::new(SLOTS * shard / SHARDS + 5).expect("a slot");
            let serving = world.acknowledging(slot);
            for (at, &(one, epoch)) in serving.iter().enumerate() {
                for &(other, other_epoch) in &serving[at + 1..] {
                    let pair = (shard, one, other, epoch == other_epoch);
                    let since = self.since.get(&pair).copied().unwrap_or(world.now);
                    now.insert(pair, since);
                    let longest = if epoch == other_epoch { &mut self.in_one } else { &mut self.in_two };
                    *longest = (*longest).max(world.now - since);
                }
            }
        }
        self.since = now;
    }
}

fn run(world: &mut World, ms: i64, overlaps: &mut Overlaps) {
    let until = world.now + ms;
    while world.now < until {
        world.run_for(20);
        overlaps.look(world);
    }
}

/// One disturbance. Never are all copies of a shard down at once: nobody could take over.
fn disturb(world: &mut World, overlaps: &mut Overlaps) {
    let count = world.servers.len();
    match world.rng.index(8) {
        // Most kinds of failure last for some time.
        0 | 1 => {
            let place = world.rng.index(count);
            let power_loss = world.rng.one_in(2);
            world.crash(place, power_loss);
            let down = 200 + world.rng.below(6000) as i64;
            run(world, down, overlaps);
            world.start(place, power_loss);
        }
        2 | 3 => {
            for server in &mut world.servers {
                server.part = world.rng.index(2);
            }
            let parted = 200 + world.rng.below(8000) as i64;
            run(world, parted, overlaps);
            for server in &mut world.servers {
                server.part = 0;
            }
        }
        4 => {
            // One server alone.
            let place = world.rng.index(count);
            world.servers[place].part = 1;
            let parted = 200 + world.rng.below(8000) as i64;
            run(world, parted, overlaps);
            world.servers[place].part = 0;
        }
        5 => {
            let place = world.rng.index(count);
            let jump = world.rng.below(7_200_000) as i64 - 3_600_000;
            world.servers[place].skew_ms += jump;
        }
        6 => {
            let place = world.rng.index(count);
            if world.servers[place].machine.is_some() {
                // It is refused at primaries.
                let _ = world.change(place, |machine, local| machine.failover(Manual::Plain, local));
            }
        }
        _ => {
            // Many connections break.
            for connection in 0..world.connections.len() {
                if world.rng.one_in(3) {
                    let end = world.rng.index(2);
                    let at = world.now + world.rng.below(50) as i64;
                    world.schedule(at, Event::Broken(connection, end));
                    world.schedule(at + 10, Event::Broken(connection, 1 - end));
                }
            }
        }
    }
}

fn survive(seed: u64, rounds: usize) -> Overlaps {
    println!("seed {seed}");
    let mut world = World::new(seed, SHARDS * COPIES, TIMEOUT_MS);
    world.create(SHARDS);
    let mut overlaps = Overlaps::default();
    for _ in 0..rounds {
        disturb(&mut world, &mut overlaps);
        let calm = world.rng.below(4000) as i64;
        run(&mut world, calm, &mut overlaps);
    }
    world.wait_until(120_000, "all agree in the end", |world| world.disagreement().is_none());
    for place in 0..world.servers.len() {
        world.machine(place).nodes.check();
    }
    overlaps
}

#[test]
fn whatever_happens_one_primary_acknowledges_and_all_agree_in_the_end() {
    let first = Rng::from_os().next_u64();
    let mut longest = (0, 0);
    for seed in (0..4).map(|n| first.wrapping_add(n)) {
        let overlaps = survive(seed, 12);
        longest = (longest.0.max(overlaps.in_one), longest.1.max(overlaps.in_two));
    }
    println!("both acknowledged for {} ms in one epoch, for {} ms in two", longest.0, longest.1);
    assert_eq!(longest.0, 0, "nobody has an epoch that somebody else has won");
    assert!(longest.1 <= TIMEOUT_MS, "{} ms", longest.1);
}

#[test]
#[ignore = "takes minutes"]
fn whatever_happens_for_long() {
    let first = Rng::from_os().next_u64();
    for seed in (0..100).map(|n| first.wrapping_add(n)) {
        let overlaps = survive(seed, 20);
        assert!(
            overlaps.in_one == 0 && overlaps.in_two <= TIMEOUT_MS,
            "{} {}",
            overlaps.in_one,
            overlaps.in_two
        );
    }
}

/// A cluster of three shards, of two copies each.
fn small(seed: u64) -> World {
    println!("seed {seed}");
    let mut world = World::new(seed, 2 * SHARDS, TIMEOUT_MS);
    world.create(SHARDS);
    world
}

#[test]
fn a_replica_takes_over_and_the_old_primary_follows_it() {
    let mut world = small(Rng::from_os().next_u64());
    world.crash(0, false);
    let lost = world.now;
    world.wait_until(30_000, "a replica takes over", |world| {
        world.machine(SHARDS).nodes.myself().is_primary()
    });
    println!("{} ms", world.now - lost);
    assert_eq!(world.machine(SHARDS).nodes.myself().slots().len(), SLOTS.div_ceil(SHARDS) - 1);
    world.start(0, false);
    world.wait_until(30_000, "all agree", |world| world.disagreement().is_none());
    assert_eq!(world.servers[0].following, Some(SHARDS));
}

#[test]
fn a_failover_on_demand_loses_nothing() {
    let mut world = small(Rng::from_os().next_u64());
    let before = world.servers[1].offset;
    world
        .change(SHARDS + 1, |machine, local| machine.failover(Manual::Plain, local))
        .expect("its primary works");
    world.wait_until(5000, "it takes over", |world| world.machine(SHARDS + 1).nodes.myself().is_primary());
    assert!(world.servers[SHARDS + 1].offset >= before);
    world.wait_until(10_000, "all agree", |world| world.disagreement().is_none());
    assert_eq!(world.servers[1].following, Some(SHARDS + 1));
    let refused = world.change(SHARDS + 1, |machine, local| machine.failover(Manual::Plain, local));
    assert_eq!(refused.expect_err("a primary").to_string(), "You should send CLUSTER FAILOVER to a replica");
}

#[test]
fn force_needs_votes_and_takeover_does_not() {
    let mut world = small(Rng::from_os().next_u64());
    // Most primaries are gone: nobody can vote.
    world.crash(0, false);
    world.crash(1, false);
    world.run_for(200);
    world
        .change(SHARDS, |machine, local| machine.failover(Manual::Force, local))
        .expect("it needs no primary");
    world.run_for(10_000);
    assert!(world.machine(SHARDS).nodes.myself().is_replica());
    for replica in [SHARDS, SHARDS + 1] {
        world
            .change(replica, |machine, local| machine.failover(Manual::Takeover, local))
            .expect("it asks nobody");
        assert!(world.machine(replica).nodes.myself().is_primary());
    }
    world.start(0, false);
    world.start(1, false);
    world.wait_until(30_000, "all agree", |world| world.disagreement().is_none());
    assert_eq!(world.servers[0].following, Some(SHARDS));
}

#[test]
fn a_replica_moves_to_an_orphan() {
    let seed = Rng::from_os().next_u64();
    println!("seed {seed}");
    // The first primary has two replicas, the others have one.
    let mut world = World::new(seed, 2 * SHARDS + 1, TIMEOUT_MS);
    world.create(SHARDS);
    world.crash(SHARDS + 1, false);
    world.wait_until(30_000, "a replica moves", |world| {
        [SHARDS, 2 * SHARDS].iter().any(|&place| world.servers[place].following == Some(1))
    });
    world.start(SHARDS + 1, false);
    world.wait_until(30_000, "all agree", |world| world.disagreement().is_none());
}

#[test]
fn a_node_that_was_removed_stays_away() {
    let mut world = small(Rng::from_os().next_u64());
    let gone = world.machine(5).nodes.myself().id;
    world.crash(5, false);
    world.change(0, |machine, local| machine.forget(gone.as_bytes(), local)).expect("it is known");
    world.wait_until(20_000, "the others hear of it", |world| {
        (0..5).all(|place| world.machine(place).nodes.find(&gone).is_none())
    });
    world.run_for(30_000);
    assert!((0..5).all(|place| world.machine(place).nodes.find(&gone).is_none()));
    let me = world.machine(0).nodes.myself().id;
    let refused = world.change(0, |machine, local| machine.forget(me.as_bytes(), local));
    assert_eq!(refused.expect_err("it is itself").to_string(), "I tried hard but I can't forget myself...");
}

#[test]
fn a_minority_serves_nobody() {
    let mut world = small(Rng::from_os().next_u64());
    world.servers[0].part = 1;
    world.servers[SHARDS].part = 1;
    world.run_for(4 * TIMEOUT_MS);
    assert!(!world.machine(0).nodes.ok);
    assert!(!world.machine(1).nodes.ok, "a slot has no node that works");
    for server in &mut world.servers {
        server.part = 0;
    }
    world.wait_until(30_000, "all agree", |world| world.disagreement().is_none());
}

/// Sends a packet to a server, over a connection of a stranger.
fn send(world: &mut World, place: usize, packets: &[Vec<u8>]) {
    let local = world.local(place);
    let machine = world.servers[place].machine.as_mut().expect("it runs");
    let link = machine.accepted("10.0.99.99", "", local.now.at);
    for packet in packets {
        if machine.accepts(link, packet, packet.len())
            && machine.received(link, packet, &local)
            && !machine.has_link(link)
        {
            break;
        }
    }
    machine.closed(link, local.now.at);
    // What it would do is not done here; the state is what counts.
    machine.settle(&local);
}

/// Packets with random claims, from `sender`.
fn claims(rng: &mut Rng, sender: NodeId, others: &[NodeId]) -> Vec<u8> {
    let mut slots = [0; crate::cluster::slots::BITMAP_LEN];
    rng.fill(&mut slots);
    let primary = if rng.one_in(2) { rng.choose(others).copied() } else { None };
    let header = bus::Header {
        sender,
        flags: Flags::from_bits(rng.next_u32() as u16),
        marks: if rng.one_in(2) { bus::Marks::FORCE_ACK } else { bus::Marks::EXTENSIONS },
        port: 7000,
        second_port: 0,
        bus_port: BUS_PORT,
        ip: "",
        current_epoch: rng.below(1 << 40),
        config_epoch: rng.below(1 << 40),
        offset: rng.next_u64() >> 1,
        slots: &slots,
        primary,
        ok: rng.one_in(2),
    };
    let other = *rng.choose(others).expect("there are some");
    match rng.index(8) {
        0 => bus::write_fail(&header, other),
        1 => bus::write_update(&header, other, rng.below(1 << 40), &slots),
        2 => bus::write_empty(bus::Kind::AuthRequest, &header),
        3 => bus::write_empty(bus::Kind::AuthAck, &header),
        4 => bus::write_empty(bus::Kind::MfStart, &header),
        5 => bus::write_message(&header, rng.one_in(2), b"channel", b"payload"),
        n => {
            let gossip = (0..rng.index(5)).map(|_| bus::Gossip {
                id: *rng.choose(others).expect("there are some"),
                ping_sent: 0,
                pong_received: rng.next_u32(),
                ip: "10.0.0.1",
                port: 7000,
                second_port: 0,
                bus_port: BUS_PORT,
                flags: Flags::from_bits(rng.next_u32() as u16),
            });
            let gossip: Vec<_> = gossip.collect();
            let extensions =
                [bus::Extension::Forgotten { id: other, ttl_s: u64::MAX }, bus::Extension::Shard(other)];
            let kind = [bus::Kind::Ping, bus::Kind::Pong][n % 2];
            bus::write_heartbeat(kind, &header, gossip.into_iter(), &extensions)
        }
    }
}

#[test]
fn a_stranger_changes_nothing() {
    let mut world = small(Rng::from_os().next_u64());
    let mut rng = Rng::new(world.rng.next_u64());
    let ids: Vec<NodeId> = (0..6).map(|place| world.machine(place).nodes.myself().id).collect();
    let state = |world: &World| conf::write(&world.machine(0).nodes, &world.local(0).now, false);
    let before = state(&world);
    for _ in 0..2000 {
        let stranger = NodeId::random(&mut rng);
        let packet = claims(&mut rng, stranger, &ids);
        send(&mut world, 0, &[packet]);
    }
    assert_eq!(state(&world), before);
    assert_eq!(world.machine(0).nodes.len(), 6);
}

#[test]
fn no_packets_of_a_member_break_what_always_holds() {
    let mut world = small(Rng::from_os().next_u64());
    let mut rng = Rng::new(world.rng.next_u64());
    let mut ids: Vec<NodeId> = (0..6).map(|place| world.machine(place).nodes.myself().id).collect();
    ids.push(NodeId::random(&mut rng));
    for step in 0..3000 {
        let member = *rng.choose(&ids).expect("there are some");
        let mut packet = claims(&mut rng, member, &ids);
        if rng.one_in(3) {
            let at = rng.index(packet.len());
            packet[at] = rng.next_u32() as u8;
        }
        send(&mut world, 1, &[packet]);
        if step % 100 == 0 {
            world.machine(1).nodes.check();
            let mut local = world.local(1);
            local.now.at = local.now.at.after(step);
            let machine = world.servers[1].machine.as_mut().expect("it runs");
            machine.tick(&local);
            machine.settle(&local);
        }
    }
    let nodes = &world.machine(1).nodes;
    nodes.check();
    assert!(nodes.len() <= 8, "only nodes with an address are taken over from gossip");
}
