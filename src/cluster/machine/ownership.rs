//! Who owns which slot: whoever claims it with the larger configuration epoch.
//!
//! A primary that takes slots over has won an epoch that no other node has, so that its claim wins everywhere and for
//! good, in whatever order news arrive. Where two primaries have the same epoch, by a takeover without a vote or by a
//! cluster's making, the one with the smaller name takes a new epoch.

use bytes::Bytes;

use super::links::Audience;
use super::{Action, Local, Machine, Refused, Todo};
use crate::cluster::Moment;
use crate::cluster::bus::{self, Header, Kind, Marks};
use crate::cluster::nodes::{Flags, NodeId, NodeKey};
use crate::cluster::slot::Slot;
use crate::cluster::slots::{BITMAP_LEN, SlotSet};
use crate::stats::log::Level;

impl Machine {
    /// Gives a slot to a node, or to none.
    pub(super) fn set_owner(&mut self, slot: Slot, owner: Option<NodeKey>) {
        let before = self.nodes.owner(slot);
        if before == owner {
            return;
        }
        let mine = self.nodes.my_primary();
        if before.is_some() && before == mine {
            // A slot that has found its way to somebody is not on the move any more.
            self.nodes.set_migrating(slot, None);
            let shard = self.nodes.myself().shard;
            if owner.is_none_or(|owner| self.nodes[owner].shard != shard) {
                self.left.insert(slot);
            }
        }
        if owner.is_some() && (owner == mine || owner == Some(self.nodes.me())) {
            self.left.remove(slot);
        }
        self.nodes.set_owner(slot, owner);
        if let Some(owner) = owner
            && self.nodes[owner].slots().len() == 1
            && self.nodes.iter().any(|(_, node)| node.is_primary() && !node.replicas().is_empty())
        {
            // Where others have replicas, a new primary is to have one, too.
            self.nodes[owner].flags.set(Flags::MIGRATE_TO, true);
        }
        self.slots_version += 1;
        self.todo = self.todo | Todo::STATE;
    }

    /// A node is a primary.
    pub(super) fn make_primary(&mut self, key: NodeKey) {
        if self.nodes[key].is_primary() {
            return;
        }
        let had_primary = self.nodes[key].primary().is_some();
        self.nodes.set_primary(key, None);
        let me = self.nodes.me();
        let node = &mut self.nodes[key];
        if had_primary && key != me {
            node.flags.set(Flags::MIGRATE_TO, true);
        }
        node.flags.set(Flags::REPLICA, false);
        node.flags.set(Flags::PRIMARY, true);
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
    }

    /// Makes this node a replica of another one.
    pub(super) fn become_replica(&mut self, primary: NodeKey) {
        let me = self.nodes.me();
        if self.nodes.myself().is_primary() {
            let node = self.nodes.myself_mut();
            node.flags.set(Flags::PRIMARY | Flags::MIGRATE_TO, false);
            node.flags.set(Flags::REPLICA, true);
            self.nodes.stop_moves();
        }
        self.nodes.set_primary(me, Some(primary));
        self.nodes[me].shard = self.nodes[primary].shard;
        self.end_manual();
        self.election.forget();
        self.follow_primary();
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
    }

    /// Has the server follow this node's primary, where that is now.
    pub(super) fn follow_primary(&mut self) {
        let Some(primary) = self.nodes.myself().primary() else { return };
        let node = &self.nodes[primary];
        if node.ip.is_empty() || node.is(Flags::NOADDR) {
            return;
        }
        let (ip, port, tls_port) = (node.ip.to_string(), node.port, node.tls_port);
        self.actions.push(Action::Follow { ip, port, tls_port });
    }

    /// Compares the slots that a node claims, for itself or its primary, with what is known.
    pub(super) fn note_slots(&mut self, sender: NodeKey, header: &Header<'_>, local: &Local) {
        let claimed = SlotSet::from_bitmap(header.slots);
        let is_primary = self.nodes[sender].is_primary();
        let owner = if is_primary { Some(sender) } else { self.nodes[sender].primary() };
        let differs = owner.is_some_and(|owner| *self.nodes[owner].slots() != claimed);
        if differs {
            if is_primary {
                self.take_claim(sender, header.config_epoch, &claimed);
            }
            self.correct(sender, header.config_epoch, &claimed, local);
        }
        let me = self.nodes.myself();
        if is_primary
            && self.nodes[sender].is_primary()
            && me.is_primary()
            && header.config_epoch == me.config_epoch
            && header.sender > me.id
        {
            self.resolve_collision(sender);
        }
    }

    /// Somebody claims slots that others own with a larger epoch: it is told of one of them.
    fn correct(&mut self, sender: NodeKey, epoch: u64, claimed: &SlotSet, local: &Local) {
        let stale = claimed.iter().find_map(|slot| {
            self.nodes.owner(slot).filter(|&owner| owner != sender && self.nodes[owner].config_epoch > epoch)
        });
        let Some(owner) = stale else { return };
        let (about, to) = (self.nodes[owner].title(), self.nodes[sender].title());
        self.log(
            Level::Verbose,
            format!("Node {to} has old slots configuration, sending an UPDATE message about {about}"),
        );
        let Some(link) = self.link_to(sender) else { return };
        let node = &self.nodes[owner];
        let (id, epoch) = (node.id, node.config_epoch);
        let mut slots = [0; BITMAP_LEN];
        node.slots().write_bitmap(&mut slots);
        let packet = self.with_header(local, Marks::NONE, |_, header| {
            Bytes::from(bus::write_update(header, id, epoch, &slots))
        });
        self.send(link, Kind::Update, packet);
    }

    /// Somebody says who owns some slots.
    pub(super) fn told_of_owner(&mut self, id: NodeId, epoch: u64, slots: &SlotSet) {
        let Some(key) = self.nodes.find(&id).filter(|&key| !self.nodes[key].is(Flags::HANDSHAKE)) else {
            return;
        };
        if self.nodes[key].config_epoch >= epoch {
            return;
        }
        if key == self.nodes.me() {
            self.log(Level::Warning, "Discarding UPDATE message about myself.");
            return;
        }
        self.make_primary(key);
        self.nodes[key].config_epoch = epoch;
        self.nodes.current_epoch = self.nodes.current_epoch.max(epoch);
        self.save_synced();
        self.take_claim(key, epoch, slots);
    }

    /// Gives a primary the slots that it claims with a larger epoch than their owners have.
    fn take_claim(&mut self, claimant: NodeKey, epoch: u64, claimed: &SlotSet) {
        if claimant == self.nodes.me() {
            return;
        }
        let my_primary = self.nodes.my_primary();
        let (mut lost, mut taken) = (0, SlotSet::default());
        for slot in claimed.iter() {
            let owner = self.nodes.owner(slot);
            // A slot on its way here is given by the administrator, who moves it.
            if owner == Some(claimant) || self.nodes.importing_from(slot).is_some() {
                continue;
            }
            if owner.is_some_and(|owner| self.nodes[owner].config_epoch >= epoch) {
                continue;
            }
            if owner == Some(self.nodes.me()) {
                taken.insert(slot);
            }
            if owner.is_some() && owner == my_primary {
                lost += 1;
            }
            self.set_owner(slot, Some(claimant));
            self.save_synced();
        }
        let Some(my_primary) = my_primary.filter(|_| lost > 0) else { return };
        let all = claimed.len() == lost;
        if self.nodes[my_primary].slots().is_empty() && (self.settings.allow_replica_migration || all) {
            let text = format!(
                "Configuration change detected. Reconfiguring myself as a replica of {}",
                self.nodes[claimant].title()
            );
            self.log(Level::Notice, text);
            self.become_replica(claimant);
            self.save_synced();
        } else {
            for slot in taken.iter() {
                self.foreign.insert(slot);
            }
        }
    }

    /// Takes slots that their owner grants, with an epoch that is larger than its.
    ///
    /// # Errors
    /// This node is no primary, or one of the slots is not `source`'s.
    pub fn take_granted(&mut self, slots: &SlotSet, source: NodeId, local: &Local) -> Result<(), Refused> {
        let owner = self.nodes.find(&source);
        if !self.nodes.myself().is_primary()
            || owner.is_none()
            || slots.iter().any(|slot| self.nodes.owner(slot) != owner)
        {
            return Err(Refused::text("Slots are not owned by the source"));
        }
        self.take_epoch();
        let me = self.nodes.me();
        for slot in slots.iter() {
            self.nodes.set_importing(slot, None);
            self.set_owner(slot, Some(me));
        }
        self.save_synced();
        self.update_state(local.now.at);
        // Clients that are sent from node to node find their way sooner, and the former owner stops waiting.
        self.broadcast_pong(Audience::All, local);
        Ok(())
    }

    fn resolve_collision(&mut self, other: NodeKey) {
        self.nodes.current_epoch += 1;
        let epoch = self.nodes.current_epoch;
        self.nodes.myself_mut().config_epoch = epoch;
        self.save_synced();
        let text = format!(
            "WARNING: configEpoch collision with node {}. configEpoch set to {epoch}",
            self.nodes[other].title()
        );
        self.log(Level::Notice, text);
    }

    /// Takes a new epoch without asking anybody; false if this node has the largest already.
    pub(super) fn take_epoch(&mut self) -> bool {
        let largest = self.nodes.max_epoch();
        let mine = self.nodes.myself().config_epoch;
        if mine != 0 && mine == largest {
            return false;
        }
        self.nodes.current_epoch = largest + 1;
        self.nodes.myself_mut().config_epoch = largest + 1;
        self.save_synced();
        self.log(Level::Notice, format!("New configEpoch set to {}", largest + 1));
        true
    }

    pub(super) fn is_blacklisted(&self, id: &NodeId, now: Moment) -> bool {
        self.blacklist.iter().any(|(known, until)| known == id && *until > now)
    }

    pub(super) fn blacklist_node(&mut self, id: NodeId, until: Moment) {
        /// More than that are never removed within the time that an entry lasts.
        const MOST: usize = 4096;
        self.blacklist.retain(|(known, _)| *known != id);
        if self.blacklist.len() < MOST {
            self.blacklist.push((id, until));
        }
    }
}
