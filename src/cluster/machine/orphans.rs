//! How a replica moves to a primary that has none left.
//!
//! If a primary with slots has lost all its replicas, one replica of the primary that has most of them moves there: the
//! one with the smallest name, if its primary keeps enough.

use super::{Local, Machine};
use crate::cluster::Moment;
use crate::cluster::nodes::{Flags, NodeKey};
use crate::stats::log::Level;

/// Milliseconds for which a primary has to be without replicas.
const DELAY_MS: i64 = 5000;

impl Machine {
    /// Moves this replica, if it is the one to move.
    pub(super) fn look_for_orphans(&mut self, local: &Local) {
        let now = local.now.at;
        let Some(mine) = self.nodes.myself().primary() else { return };
        let (mut orphan, mut most) = (None, 0);
        for key in self.nodes.keys() {
            let node = &self.nodes[key];
            if !node.is_primary() || node.has_failed() {
                continue;
            }
            let working = self.nodes.working_replicas(key);
            most = most.max(working);
            let is_orphan = working == 0 && !node.slots().is_empty() && node.is(Flags::MIGRATE_TO);
            let node = &mut self.nodes[key];
            if !is_orphan {
                node.orphaned_at = Moment::NEVER;
                continue;
            }
            if !node.orphaned_at.is_set() {
                node.orphaned_at = now;
            }
            orphan = orphan.or(Some(key));
        }
        let Some(orphan) = orphan else { return };
        let working = self.nodes.working_replicas(mine);
        let spare = working == most && most >= 2 && working > self.settings.migration_barrier;
        let allowed = self.settings.allow_replica_migration && !self.settings.no_failover;
        let long_enough = now.since(self.nodes[orphan].orphaned_at) > DELAY_MS;
        if !spare
            || !allowed
            || !long_enough
            || !self.nodes.ok
            || self.first_to_move(most) != Some(self.nodes.me())
        {
            return;
        }
        self.log(Level::Notice, format!("Migrating to orphaned master {}", self.nodes[orphan].id));
        self.become_replica(orphan);
    }

    /// The replica with the smallest name, of the primaries with so many replicas.
    fn first_to_move(&self, most: usize) -> Option<NodeKey> {
        let rich = self.nodes.iter().filter(|(key, node)| {
            node.is_primary() && !node.has_failed() && self.nodes.working_replicas(*key) == most
        });
        let replicas = rich.flat_map(|(_, node)| node.replicas().iter().copied());
        replicas.filter(|&key| self.nodes[key].seems_alive()).min_by_key(|&key| self.nodes[key].id)
    }
}
