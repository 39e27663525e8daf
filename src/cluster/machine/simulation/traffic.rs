//! How much nodes send to each other when nothing happens, on paper and as measured.
//!
//! On paper: a node pings everybody of whom there has been no news for half a node timeout `T`, and one node each
//! second. Without any gossip, that is `(n - 1) / (T / 2) + 1` pings per second, and as many answers; a packet has a
//! header of 2,256 bytes, 104 bytes for each of `max(3, n / 10)` entries, and 48 bytes for the shard. Gossip is news,
//! too: who has been heard of by others need not be pinged, so that the real traffic is less.

use super::*;

/// Bytes that a node sends per second at most, on paper.
fn on_paper(nodes: usize, timeout_ms: i64) -> f64 {
    let pings = (nodes as f64 - 1.0) / (timeout_ms as f64 / 2000.0) + 1.0;
    let packet = 2256 + 104 * (nodes / 10).max(3) + 48;
    2.0 * pings * packet as f64
}

/// Lets an idle cluster run; bytes and packets that a node sends per second.
fn measure(nodes: usize, seconds: i64) -> (f64, f64) {
    let timeout_ms = 15_000;
    let mut world = World::new(17, nodes, timeout_ms);
    world.writes = false;
    // As many as there are in real clusters: each primary has a replica.
    world.create(nodes / 2);
    let sent = |world: &World| {
        let counts = (0..nodes).map(|place| &world.machine(place).counts);
        counts.fold((0, 0), |(bytes, packets), counts| {
            (bytes + counts.bytes_sent, packets + counts.sent.iter().sum::<u64>())
        })
    };
    world.run_for(15_000);
    let before = sent(&world);
    world.run_for(seconds * 1000);
    let after = sent(&world);
    let per_second = |total: u64| total as f64 / seconds as f64 / nodes as f64;
    let measured = (per_second(after.0 - before.0), per_second(after.1 - before.1));
    println!(
        "{nodes} nodes: {:.0} bytes and {:.1} packets per second and node; on paper at most {:.0} bytes",
        measured.0,
        measured.1,
        on_paper(nodes, timeout_ms)
    );
    assert!(world.disagreement().is_none());
    measured
}

#[test]
fn traffic_is_within_what_was_estimated() {
    let (bytes, _) = measure(30, 30);
    assert!(bytes < on_paper(30, 15_000));
}

#[test]
#[ignore = "takes minutes, and some gigabytes"]
fn traffic_of_large_clusters() {
    for nodes in [100, 500, 1000] {
        let (bytes, _) = measure(nodes, 30);
        assert!(bytes < on_paper(nodes, 15_000));
    }
}
