//! What the requests for each slot cost: processor time, and bytes received and sent (`cluster-slot-stats-enabled`).
//!
//! A request counts for the slot of its keys; a transaction as a whole, and a script without its text. While nobody wants
//! to know, this costs nothing: every request is remarkable only while somebody does (see `watching::observe`).

use crate::clients::ClientKey;
use crate::cluster::nodes::Nodes;
use crate::cluster::slot::{SLOTS, Slot};
use crate::resp::Args;
use crate::server::Server;
use crate::server::command::{Flags, Spec};
use crate::server::execution::Origin;
use crate::server::execution::redirect::slot_of;
use crate::server::watching::observe::Ran;

/// Bytes of a request that begins a transaction, and of its reply.
const MULTI: (u64, u64) = (15, 5);
/// Bytes of the reply to a request that is queued.
const QUEUED: u64 = 9;

/// What the requests for one slot cost.
#[derive(Clone, Copy, Default, Debug)]
pub struct SlotCost {
    /// Processor time in nanoseconds.
    pub ns: u64,
    /// Bytes of requests.
    pub received: u64,
    /// Bytes of replies.
    pub sent: u64,
}

/// What the requests for each slot cost.
pub struct SlotStats {
    costs: Box<[SlotCost]>,
    /// Slot of the commands inside the transaction or script that is running, bytes of these requests, and their number.
    inner: Option<(Slot, u64, u64)>,
}

impl Default for SlotStats {
    fn default() -> SlotStats {
        SlotStats { costs: vec![SlotCost::default(); SLOTS].into(), inner: None }
    }
}

impl SlotStats {
    /// What the requests for a slot cost.
    pub fn of(&self, slot: Slot) -> SlotCost {
        self.costs[slot.index()]
    }

    /// Forgets what the requests for slots cost that this node's shard does not own.
    pub(super) fn forget_others(&mut self, nodes: &Nodes) {
        for slot in Slot::all() {
            if nodes.owner(slot).is_none() || nodes.owner(slot) != nodes.my_primary() {
                self.costs[slot.index()] = SlotCost::default();
            }
        }
    }
}

impl Server {
    /// Counts a request that has run.
    pub(in crate::server) fn count_slot(&mut self, key: ClientKey, spec: &Spec, args: &Args<'_>, ran: Ran) {
        let (origin, depth) = (self.execution.origin, self.execution.depth);
        let Some(stats) = self.cluster.as_mut().and_then(|cluster| cluster.slot_stats.as_mut()) else {
            return;
        };
        let (head, _, large) = args.parts();
        let mut received = (head.len() + large.iter().map(|large| large.len() + 2).sum::<usize>()) as u64;
        let slot = slot_of(spec, args);
        if depth > 0 {
            let (_, bytes, requests) = stats.inner.unwrap_or((Slot::FIRST, 0, 0));
            if let Some(slot) = slot {
                let counts = origin != Origin::Script;
                stats.inner =
                    Some((slot, bytes + if counts { received } else { 0 }, requests + u64::from(counts)));
            }
            return;
        }
        let (inner, mut sent) = (stats.inner.take(), ran.reply as u64);
        if spec.flags.has(Flags::ENDS_MULTI)
            && let Some((_, bytes, requests)) = inner
        {
            received += bytes + MULTI.0;
            sent += requests * QUEUED + MULTI.1;
        } else if inner.is_some() {
            // The text of a script is about no slot.
            received = 0;
        }
        let Some(slot) = slot.or(inner.map(|(slot, ..)| slot)) else { return };
        if self.clients[key].flags.has(crate::clients::ClientFlags::INTERNAL) {
            return;
        }
        let cost = &mut stats.costs[slot.index()];
        cost.ns += ran.ns;
        cost.received += received;
        cost.sent += sent;
    }

    /// Begins to measure, or stops, as the configuration says.
    pub(in crate::server) fn apply_slot_stats(&mut self) {
        let wanted = self.config.cluster.slot_stats_enabled;
        if let Some(cluster) = &mut self.cluster {
            match (wanted, &cluster.slot_stats) {
                (true, None) => cluster.slot_stats = Some(Box::default()),
                (false, Some(_)) => cluster.slot_stats = None,
                _ => {}
            }
        }
    }

    /// Forgets what was measured.
    pub fn reset_slot_stats(&mut self) {
        if let Some(stats) = self.cluster.as_mut().and_then(|cluster| cluster.slot_stats.as_mut()) {
            **stats = SlotStats::default();
        }
    }
}
