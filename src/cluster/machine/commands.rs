//! What an administrator changes.

use std::net::IpAddr;

use super::links::Audience;
use super::{Action, Local, Machine, Todo};
use crate::cluster::nodes::{Flags, Node, NodeId, NodeKey, Nodes};
use crate::cluster::slot::Slot;
use crate::cluster::slots::SlotSet;
use crate::stats::log::Level;

/// Why something is not done: what the administrator is told, without the code in front.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

impl Refused {
    pub(super) fn text(text: impl Into<String>) -> Refused {
        Refused(text.into())
    }
}

impl Machine {
    /// Has this node meet another one, at an address that is not a host name.
    ///
    /// # Errors
    /// The address is none.
    pub fn meet(&mut self, ip: &str, port: u16, bus_port: u16, local: &Local) -> Result<(), Refused> {
        let wrong = || Refused::text(format!("Invalid node address specified: {ip}:{port}"));
        let address: IpAddr = ip.parse().map_err(|_| wrong())?;
        if port == 0 || bus_port == 0 {
            return Err(wrong());
        }
        let ip = address.to_string();
        let under_way = self
            .nodes
            .iter()
            .any(|(_, node)| node.is(Flags::HANDSHAKE) && *node.ip == *ip && node.bus_port == bus_port);
        if under_way {
            return Ok(());
        }
        let (id, shard) = (NodeId::random(&mut self.rng), NodeId::random(&mut self.rng));
        let mut node = Node::new(id, Flags::HANDSHAKE | Flags::MEET, shard, local.now.at);
        node.ip = ip.into();
        *(if self.settings.tls { &mut node.tls_port } else { &mut node.port }) = port;
        node.bus_port = bus_port;
        match self.nodes.insert(node) {
            Some(_) => Ok(()),
            None => Err(Refused::text("Too many nodes")),
        }
    }

    /// Removes a node, which must not come back for a while.
    ///
    /// # Errors
    /// There is no such node, or it is needed.
    pub fn forget(&mut self, id: &[u8], local: &Local) -> Result<(), Refused> {
        let now = local.now.at;
        let known = NodeId::parse(id).and_then(|id| Some((id, self.nodes.find(&id)?)));
        let Some((id, key)) = known else {
            let recently = NodeId::parse(id).is_some_and(|id| self.is_blacklisted(&id, now));
            // Somebody else has told of it meanwhile.
            if recently {
                return Ok(());
            }
            return Err(Refused::text(format!("Unknown node {}", String::from_utf8_lossy(id))));
        };
        if key == self.nodes.me() {
            return Err(Refused::text("I tried hard but I can't forget myself..."));
        }
        if self.nodes.myself().primary() == Some(key) {
            return Err(Refused::text("Can't forget my master!"));
        }
        self.blacklist_node(id, now.after(self.settings.blacklist_ms));
        self.drop_node(key, now);
        self.save();
        Ok(())
    }

    /// Takes slots that nobody owns.
    ///
    /// # Errors
    /// One has an owner. Nothing is changed then.
    pub fn add_slots(&mut self, slots: &SlotSet) -> Result<(), Refused> {
        if let Some(slot) = slots.iter().find(|&slot| self.nodes.owner(slot).is_some()) {
            return Err(Refused::text(format!("Slot {slot} is already busy")));
        }
        let me = self.nodes.me();
        for slot in slots.iter() {
            self.nodes.set_importing(slot, None);
            self.set_owner(slot, Some(me));
        }
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
        Ok(())
    }

    /// Has this node know no owner of some slots.
    ///
    /// # Errors
    /// One has none. Nothing is changed then.
    pub fn del_slots(&mut self, slots: &SlotSet) -> Result<(), Refused> {
        if let Some(slot) = slots.iter().find(|&slot| self.nodes.owner(slot).is_none()) {
            return Err(Refused::text(format!("Slot {slot} is already unassigned")));
        }
        for slot in slots.iter() {
            self.set_owner(slot, None);
        }
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
        Ok(())
    }

    /// Gives up all slots of this node.
    pub fn flush_slots(&mut self) {
        for slot in self.nodes.myself().slots().clone().iter() {
            self.set_owner(slot, None);
        }
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
    }

    fn only_primaries(&self) -> Result<(), Refused> {
        if self.nodes.myself().is_replica() {
            return Err(Refused::text("Please use SETSLOT only with masters."));
        }
        Ok(())
    }

    fn target(&self, key: NodeKey) -> Result<(), Refused> {
        if self.nodes[key].is_replica() {
            return Err(Refused::text("Target node is not a master"));
        }
        Ok(())
    }

    /// Begins to move a slot to another node.
    ///
    /// # Errors
    /// It is not this node's, or the other node is a replica.
    pub fn migrate_slot(&mut self, slot: Slot, to: NodeKey) -> Result<(), Refused> {
        self.only_primaries()?;
        if !self.nodes.is_mine(slot) {
            return Err(Refused::text(format!("I'm not the owner of hash slot {slot}")));
        }
        self.target(to)?;
        self.nodes.set_migrating(slot, Some(to));
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
        Ok(())
    }

    /// Begins to move a slot here.
    ///
    /// # Errors
    /// It is this node's, or the other node is a replica.
    pub fn import_slot(&mut self, slot: Slot, from: NodeKey) -> Result<(), Refused> {
        self.only_primaries()?;
        if self.nodes.is_mine(slot) {
            return Err(Refused::text(format!("I'm already the owner of hash slot {slot}")));
        }
        self.target(from)?;
        self.nodes.set_importing(slot, Some(from));
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
        Ok(())
    }

    /// Ends the move of a slot.
    ///
    /// # Errors
    /// This is a replica.
    pub fn stabilise_slot(&mut self, slot: Slot) -> Result<(), Refused> {
        self.only_primaries()?;
        self.nodes.set_importing(slot, None);
        self.nodes.set_migrating(slot, None);
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
        Ok(())
    }

    /// Gives a slot to a node, at the end of a move. `keys_left`: number of keys in it, here.
    ///
    /// # Errors
    /// There are keys here, and the new owner is another node; or that is a replica.
    pub fn assign_slot(
        &mut self,
        slot: Slot,
        owner: NodeKey,
        keys_left: usize,
        local: &Local,
    ) -> Result<(), Refused> {
        self.only_primaries()?;
        self.target(owner)?;
        let me = self.nodes.me();
        let was_mine = self.nodes.is_mine(slot);
        if was_mine && owner != me && keys_left > 0 {
            return Err(Refused::text(format!(
                "Can't assign hashslot {slot} to a different node while I still hold keys for this hash slot."
            )));
        }
        if keys_left == 0 {
            self.nodes.set_migrating(slot, None);
        }
        self.set_owner(slot, Some(owner));
        let empty = self.nodes.myself().slots().is_empty();
        if was_mine && owner != me && empty && self.settings.allow_replica_migration {
            let text = format!(
                "Configuration change detected. Reconfiguring myself as a replica of {}",
                self.nodes[owner].title()
            );
            self.log(Level::Notice, text);
            self.become_replica(owner);
        }
        if owner == me && self.nodes.importing_from(slot).is_some() {
            // Nobody else takes the same epoch: at worst two do, and one of them moves on.
            if self.take_epoch() {
                self.log(Level::Warning, format!("configEpoch updated after importing slot {slot}"));
            }
            self.nodes.set_importing(slot, None);
            self.update_state(local.now.at);
            // Clients that are sent from node to node find their way sooner.
            self.broadcast_pong(Audience::All, local);
        }
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
        Ok(())
    }

    /// Takes a new epoch without asking anybody. Returns whether it did, and the epoch of this node.
    pub fn bump_epoch(&mut self) -> (bool, u64) {
        let bumped = self.take_epoch();
        (bumped, self.nodes.myself().config_epoch)
    }

    /// Sets the epoch of a new node, so that the nodes of a new cluster differ.
    ///
    /// # Errors
    /// The node is not new.
    pub fn set_config_epoch(&mut self, epoch: u64) -> Result<(), Refused> {
        if self.nodes.len() > 1 {
            return Err(Refused::text(
                "The user can assign a config epoch only when the node does not know any other node.",
            ));
        }
        if self.nodes.myself().config_epoch != 0 {
            return Err(Refused::text("Node config epoch is already non-zero"));
        }
        self.nodes.myself_mut().config_epoch = epoch;
        self.log(Level::Warning, format!("configEpoch set to {epoch} via CLUSTER SET-CONFIG-EPOCH"));
        self.nodes.current_epoch = self.nodes.current_epoch.max(epoch);
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
        Ok(())
    }

    /// Makes this node a replica of a primary. `empty`: whether this node has no keys.
    ///
    /// # Errors
    /// One of the two is not fit for that.
    pub fn replicate(&mut self, primary: NodeKey, empty: bool) -> Result<(), Refused> {
        if primary == self.nodes.me() {
            return Err(Refused::text("Can't replicate myself"));
        }
        if self.nodes[primary].is_replica() {
            return Err(Refused::text("I can only replicate a master, not a replica."));
        }
        let me = self.nodes.myself();
        if me.is_primary() && (!me.slots().is_empty() || !empty) {
            return Err(Refused::text("To set a master the node must be empty and without assigned slots."));
        }
        self.become_replica(primary);
        Ok(())
    }

    /// Makes this a node that knows nobody; `hard`: under another name, and without a past. `empty`: whether it has no
    /// keys.
    ///
    /// # Errors
    /// It is a primary with keys.
    pub fn reset(&mut self, hard: bool, empty: bool, local: &Local) -> Result<(), Refused> {
        if self.nodes.myself().is_primary() && !empty {
            return Err(Refused::text("CLUSTER RESET can't be called with master nodes containing keys"));
        }
        let now = local.now.at;
        let me = self.nodes.me();
        let was_replica = self.nodes.myself().is_replica();
        if was_replica {
            self.make_primary(me);
            self.actions.push(Action::Lead);
            self.actions.push(Action::Empty);
        }
        self.end_manual();
        self.election.forget();
        self.nodes.stop_moves();
        for slot in Slot::all() {
            self.set_owner(slot, None);
        }
        for key in self.nodes.keys() {
            if key != me {
                self.drop_node(key, now);
            }
        }
        // Who is connected to this node is not known any more.
        let links: Vec<_> = self.links.keys().copied().collect();
        for link in links {
            self.close(link, now);
        }
        if was_replica || hard {
            let shard = NodeId::random(&mut self.rng);
            self.nodes.myself_mut().shard = shard;
        }
        if hard {
            self.nodes.current_epoch = 0;
            self.nodes.last_vote_epoch = 0;
            self.nodes.myself_mut().config_epoch = 0;
            let id = NodeId::random(&mut self.rng);
            self.nodes.rename(me, id);
            self.log(Level::Notice, format!("Node hard reset, now I'm {id}"));
        }
        self.todo = self.todo | Todo::SAVE | Todo::SYNC | Todo::STATE;
        Ok(())
    }

    /// At the start: what to do about keys in slots that this node does not own, as far as `has_keys` says. Slots that
    /// nobody owns are taken; those of others are kept for the administrator to move.
    pub fn verify_keys(&mut self, has_keys: impl Fn(Slot) -> bool) {
        if self.nodes.myself().is_replica() {
            return;
        }
        let me = self.nodes.me();
        for slot in Slot::all() {
            if self.nodes.is_mine(slot) || self.nodes.importing_from(slot).is_some() || !has_keys(slot) {
                continue;
            }
            match self.nodes.owner(slot) {
                None => {
                    let text = format!("I have keys for unassigned slot {slot}. Taking ownership of it.");
                    self.log(Level::Notice, text);
                    self.set_owner(slot, Some(me));
                }
                Some(owner) => {
                    let text = format!(
                        "I have keys for slot {slot}, but the slot is assigned to another node. Setting it to \
                         importing state."
                    );
                    self.log(Level::Notice, text);
                    self.nodes.set_importing(slot, Some(owner));
                }
            }
            self.save();
        }
    }

    /// The table, to look at.
    pub fn nodes(&self) -> &Nodes {
        &self.nodes
    }
}
