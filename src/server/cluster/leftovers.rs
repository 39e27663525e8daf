//! Keys of slots that have got another owner: they are removed in slices, between which clients are served.
//!
//! Until they are removed, the keys are hidden from whoever does not ask for them by name, and requests that do are sent
//! to the new owner. If a slot returns before it is empty, its old keys are removed at once, because nobody may see them
//! again. A node that becomes a replica leaves them to its new primary.

use crate::cluster::slot::Slot;
use crate::cluster::slots::SlotSet;
use crate::server::Server;
use crate::server::execution::admission::Conditions;

/// Keys that are removed in one turn of the loop, which takes about a millisecond. A slot without keys counts as one.
const REMOVED_PER_TURN: usize = 1000;

impl Server {
    /// Begins to remove the keys of slots.
    pub(super) fn remove_leftovers(&mut self, slots: &SlotSet) {
        let Some(cluster) = &mut self.cluster else { return };
        for slot in slots.iter() {
            cluster.leftovers.insert(slot);
        }
        self.hide_foreign_slots();
    }

    /// Removes the rest of the keys of slots that will get others: they are not removed later.
    pub(super) fn end_leftovers(&mut self, slots: &SlotSet) {
        self.drop_slot_keys(slots);
        let Some(cluster) = &mut self.cluster else { return };
        for slot in slots.iter() {
            cluster.leftovers.remove(slot);
        }
    }

    /// Whether keys are to be removed now, although no event will report it.
    pub(super) fn has_leftovers(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| !cluster.leftovers.is_empty())
            && self.may_remove_leftovers()
    }

    /// Whether data may change now by themselves.
    pub(super) fn may_remove_leftovers(&self) -> bool {
        !self.pause.is_active()
            && !self.conditions.has(Conditions::BUSY)
            && self.persistence.loading.is_none()
            // What has been saved is not changed any more.
            && !self.event_loop.stop
    }

    fn first_leftover(&self) -> Option<Slot> {
        self.cluster.as_ref()?.leftovers.iter().next()
    }

    /// At the end of a turn: removes some keys.
    pub(super) fn remove_some_leftovers(&mut self) {
        if !self.has_leftovers() {
            return;
        }
        let mut rest = REMOVED_PER_TURN;
        while rest > 0
            && let Some(slot) = self.first_leftover()
        {
            let removed = self.drop_some_slot_keys(&SlotSet::range(slot, slot), rest);
            if removed < rest
                && let Some(cluster) = &mut self.cluster
            {
                cluster.leftovers.remove(slot);
            }
            rest -= removed.max(1);
        }
        if !self.has_leftovers() {
            self.hide_foreign_slots();
        }
    }

    /// With a change of the node's role or slots: slots that return must be empty, and a replica removes nothing.
    pub(super) fn review_leftovers(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        if cluster.leftovers.is_empty() {
            return;
        }
        let nodes = &cluster.machine.nodes;
        if nodes.myself().is_replica() {
            cluster.leftovers = SlotSet::default();
        }
        let mut returning = SlotSet::default();
        for slot in cluster.leftovers.iter() {
            if nodes.is_mine(slot) || nodes.importing_from(slot).is_some() {
                returning.insert(slot);
            }
        }
        self.end_leftovers(&returning);
        self.hide_foreign_slots();
    }

    /// Before the data are saved for the last time: removes all keys that are left. O(keys).
    pub(in crate::server) fn end_all_leftovers(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        if !cluster.leftovers.is_empty() {
            let slots = cluster.leftovers.clone();
            self.end_leftovers(&slots);
            self.hide_foreign_slots();
        }
    }
}
