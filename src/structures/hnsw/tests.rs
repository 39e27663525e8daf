//! The graph beside brute force, while it changes, and when it is saved and loaded.

use std::collections::HashSet;

use super::*;
use crate::stdx::rng::Rng;

fn vector(rng: &mut Rng, dim: usize) -> Vec<f32> {
    (0..dim).map(|_| rng.f64() as f32 * 2.0 - 1.0).collect()
}

/// The part of the true nearest ten that searches find.
fn recall(graph: &Graph, queries: &[Code], ef: usize) -> f64 {
    let mut found = 0;
    for query in queries {
        let truth: HashSet<Slot> = graph.scan(query, 10, |_| true).iter().map(|near| near.slot).collect();
        found += graph.search(query, ef).iter().take(10).filter(|near| truth.contains(&near.slot)).count();
    }
    found as f64 / (10 * queries.len()) as f64
}

fn queries(rng: &mut Rng, dim: usize, how: Quantization) -> Vec<Code> {
    (0..50).map(|_| Code::new(&vector(rng, dim), how)).collect()
}

#[test]
fn nearly_all_of_the_nearest_are_found() {
    const DIM: usize = 64;
    for (how, len, least) in [
        (Quantization::Bytes, 5000, 0.95),
        (Quantization::Full, 1000, 0.95),
        (Quantization::Signs, 1000, 0.9),
    ] {
        let mut rng = Rng::new(7);
        let mut graph = Graph::new(DIM, 16, how);
        for _ in 0..len {
            graph.insert(Code::new(&vector(&mut rng, DIM), how), 60);
        }
        graph.check();
        let recall = recall(&graph, &queries(&mut rng, DIM, how), 200);
        assert!(recall >= least, "{how:?}: recall@10 is {recall}");
    }
}

#[test]
fn clusters_are_reached_from_each_other() {
    const DIM: usize = 32;
    let mut rng = Rng::new(3);
    let centres: Vec<Vec<f32>> = (0..20).map(|_| vector(&mut rng, DIM)).collect();
    let mut graph = Graph::new(DIM, 16, Quantization::Full);
    let near = |rng: &mut Rng, centre: &Vec<f32>| -> Vec<f32> {
        centre.iter().map(|x| x + (rng.f64() as f32 - 0.5) * 0.2).collect()
    };
    for centre in &centres {
        for _ in 0..100 {
            graph.insert(Code::new(&near(&mut rng, centre), Quantization::Full), 200);
        }
    }
    graph.check();
    let queries: Vec<Code> =
        centres.iter().map(|centre| Code::new(&near(&mut rng, centre), Quantization::Full)).collect();
    let recall = recall(&graph, &queries, 100);
    assert!(recall >= 0.95, "recall@10 is {recall}");
}

#[test]
fn removed_nodes_leave_a_graph_that_still_finds() {
    const DIM: usize = 16;
    let mut rng = Rng::new(11);
    let mut graph = Graph::new(DIM, 8, Quantization::Bytes);
    let mut live: Vec<Slot> = Vec::new();
    for step in 0..4000 {
        if live.len() > 1000 || (!live.is_empty() && rng.one_in(3)) {
            graph.remove(live.swap_remove(rng.index(live.len())));
        } else {
            live.push(graph.insert(Code::new(&vector(&mut rng, DIM), Quantization::Bytes), 100));
        }
        assert_eq!(graph.len(), live.len());
        if step % 500 == 0 {
            graph.check();
        }
    }
    graph.check();
    let recall = recall(&graph, &queries(&mut rng, DIM, Quantization::Bytes), 100);
    assert!(recall >= 0.9, "recall@10 is {recall}");
    while let Some(slot) = live.pop() {
        graph.remove(slot);
    }
    graph.check();
    assert!(graph.is_empty() && graph.search(&queries(&mut rng, DIM, Quantization::Bytes)[0], 5).is_empty());
}

#[test]
fn equal_vectors_are_all_found() {
    let mut graph = Graph::new(2, 4, Quantization::Full);
    for _ in 0..300 {
        graph.insert(Code::new(&[1.0, 2.0], Quantization::Full), 10);
    }
    graph.check();
    let query = Code::new(&[1.0, 2.0], Quantization::Full);
    assert!(graph.search(&query, 300).len() > 250);
}

#[test]
fn the_same_changes_make_the_same_graph() {
    let build = || {
        let mut rng = Rng::new(5);
        let mut graph = Graph::new(8, 4, Quantization::Full);
        for i in 0..500 {
            graph.insert(Code::new(&vector(&mut rng, 8), Quantization::Full), 50);
            if i % 7 == 3 {
                graph.remove(i / 2);
            }
        }
        format!("{graph:?}")
    };
    assert_eq!(build(), build());
}

fn saved(graph: &Graph) -> Vec<LoadedNode> {
    let slots = (0..graph.slots() as Slot).filter(|&slot| graph.nodes[slot as usize].is_some());
    slots
        .map(|slot| LoadedNode {
            id: graph.id(slot),
            code: graph.code(slot).clone(),
            layers: graph
                .links_of(slot)
                .map(|links| links.map(|near| graph.id(near.slot)).collect())
                .collect(),
        })
        .collect()
}

#[test]
fn saved_nodes_are_loaded() {
    let mut rng = Rng::new(9);
    let mut graph = Graph::new(8, 4, Quantization::Bytes);
    for _ in 0..200 {
        graph.insert(Code::new(&vector(&mut rng, 8), Quantization::Bytes), 50);
    }
    (0..200).step_by(3).for_each(|slot| graph.remove(slot));
    let mut copy = Graph::new(8, 4, Quantization::Bytes);
    copy.load(saved(&graph)).unwrap();
    copy.check();
    assert_eq!(copy.len(), graph.len());
    assert_eq!(copy.last_id(), graph.last_id());
    let empty = || Graph::new(8, 4, Quantization::Bytes);
    let damaged = |damage: &dyn Fn(&mut Vec<LoadedNode>)| {
        let mut nodes = saved(&graph);
        damage(&mut nodes);
        empty().load(nodes).unwrap_err()
    };
    assert_eq!(damaged(&|nodes| nodes[0].layers.clear()), LoadError::Level);
    assert_eq!(damaged(&|nodes| nodes[0].layers.resize(18, Vec::new())), LoadError::Level);
    assert_eq!(damaged(&|nodes| nodes[0].layers[0] = vec![1; 9]), LoadError::TooManyLinks);
    assert_eq!(damaged(&|nodes| nodes[0].id = nodes[1].id), LoadError::Id);
    assert_eq!(damaged(&|nodes| nodes[0].layers[0] = vec![nodes[0].id]), LoadError::Link);
    assert_eq!(damaged(&|nodes| _ = nodes[0].layers[0].pop()), LoadError::Link);
    assert_eq!(damaged(&|nodes| drop(nodes.pop())), LoadError::Link);
}
