//! How a replica takes over from a primary that has failed.
//!
//! Replicas wait a little, so that the failure is known everywhere, and those with less data wait longer. Then a replica
//! asks all primaries for their votes in an epoch of its own. A primary votes once per epoch, and once per failed
//! primary within two node timeouts. With the votes of most of them, the replica takes over the slots in that epoch.

use bytes::Bytes;

use super::links::Audience;
use super::{Action, Local, Machine, Todo};
use crate::cluster::Moment;
use crate::cluster::bus::{self, Header, Kind, Marks};
use crate::cluster::nodes::{Flags, NodeKey};
use crate::cluster::slots::SlotSet;
use crate::stats::log::Level;

/// Milliseconds that a replica waits at least, and at most so many more.
const DELAY_MS: i64 = 500;
/// Milliseconds that it waits for each replica with more data.
const RANK_MS: i64 = 1000;
/// Milliseconds after which the reason for not taking over is logged again.
const RELOG_MS: i64 = 10_000;

/// The election of this replica.
#[derive(Debug)]
pub(super) struct Election {
    /// When votes are asked for.
    at: Moment,
    /// Whether they were asked for.
    asked: bool,
    /// Primaries that have voted for this node.
    voters: Vec<NodeKey>,
    rank: usize,
    /// The epoch in which they were asked for.
    epoch: u64,
    /// Why there is none now, and when that was logged.
    obstacle: (Option<Obstacle>, Moment),
}

impl Default for Election {
    fn default() -> Self {
        Election {
            at: Moment::NEVER,
            asked: false,
            voters: Vec::new(),
            rank: 0,
            epoch: 0,
            obstacle: (None, Moment::NEVER),
        }
    }
}

impl Election {
    /// Begins anew with the next failure.
    pub(super) fn forget(&mut self) {
        *self = Election::default();
    }
}

/// Why a replica does not take over now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Obstacle {
    DataAge,
    WaitingDelay,
    Expired,
    WaitingVotes,
}

impl Obstacle {
    fn text(self) -> &'static str {
        match self {
            Obstacle::DataAge => {
                "Disconnected from master for longer than allowed. Please check the 'cluster-replica-validity-factor' \
                 configuration option."
            }
            Obstacle::WaitingDelay => "Waiting the delay before I can start a new failover.",
            Obstacle::Expired => "Failover attempt expired.",
            Obstacle::WaitingVotes => "Waiting for votes, but majority still not reached.",
        }
    }
}

impl Machine {
    /// The next step of taking over, if it is due.
    pub(super) fn continue_election(&mut self, local: &Local) {
        let now = local.now.at;
        let manual = self.manual.may_start();
        let Some(primary) = self.nodes.myself().primary() else { return };
        let allowed = manual || !self.settings.no_failover;
        let needed = self.nodes[primary].has_failed() || manual;
        if !needed || !allowed || self.nodes[primary].slots().is_empty() {
            self.election.obstacle.0 = None;
            return;
        }
        if !manual && self.data_too_old(local) {
            return self.note_obstacle(Obstacle::DataAge, now);
        }
        let timeout = (self.settings.node_timeout_ms * 2).max(2000);
        let age = now.since(self.election.at);
        if age > timeout * 2 {
            return self.schedule_election(local);
        }
        if !self.election.asked && !self.manual.is_under_way() {
            // Those with more data may have become known meanwhile.
            let rank = self.rank(local.offset);
            if rank > self.election.rank {
                let added = (rank - self.election.rank) as i64 * RANK_MS;
                self.election.at = self.election.at.after(added);
                self.election.rank = rank;
                let text = format!("Replica rank updated to #{rank}, added {added} milliseconds of delay.");
                self.log(Level::Warning, text);
            }
        }
        if now < self.election.at {
            return self.note_obstacle(Obstacle::WaitingDelay, now);
        }
        if now.since(self.election.at) > timeout {
            return self.note_obstacle(Obstacle::Expired, now);
        }
        if !self.election.asked {
            return self.ask_for_votes(local);
        }
        if self.election.voters.len() < self.quorum() {
            return self.note_obstacle(Obstacle::WaitingVotes, now);
        }
        self.log(Level::Warning, "Failover election won: I'm the new master.");
        let epoch = self.election.epoch;
        if self.nodes.myself().config_epoch < epoch {
            self.nodes.myself_mut().config_epoch = epoch;
            self.log(Level::Warning, format!("configEpoch set to {epoch} after successful failover"));
        }
        self.replace_primary(local);
    }

    /// Whether too much time has passed since the primary was last heard of.
    fn data_too_old(&self, local: &Local) -> bool {
        let settings = &self.settings;
        let age = (local.data_age_ms - settings.node_timeout_ms).max(0);
        let allowed = settings.node_timeout_ms.saturating_mul(settings.replica_validity_factor)
            + settings.replica_ping_ms;
        settings.replica_validity_factor != 0 && age > allowed
    }

    fn note_obstacle(&mut self, obstacle: Obstacle, now: Moment) {
        let (before, logged_at) = self.election.obstacle;
        if before == Some(obstacle) && now.since(logged_at) < RELOG_MS {
            return;
        }
        self.election.obstacle = (Some(obstacle), now);
        let level = if obstacle == Obstacle::WaitingDelay { Level::Verbose } else { Level::Warning };
        self.log(level, format!("Currently unable to failover: {}", obstacle.text()));
    }

    fn schedule_election(&mut self, local: &Local) {
        let now = local.now.at;
        let manual = self.manual.is_under_way();
        let rank = if manual { 0 } else { self.rank(local.offset) };
        let chance = self.rng.below(DELAY_MS as u64) as i64;
        let delay = if manual { 0 } else { DELAY_MS + chance + rank as i64 * RANK_MS };
        let obstacle = self.election.obstacle;
        self.election = Election { at: now.after(delay), rank, obstacle, ..Election::default() };
        let offset = local.offset;
        self.log(
            Level::Warning,
            format!("Start of election delayed for {delay} milliseconds (rank #{rank}, offset {offset})."),
        );
        self.todo = self.todo | Todo::FAILOVER;
        // The others compare their offsets with this node's.
        self.broadcast_pong(Audience::FellowReplicas, local);
    }

    /// Number of replicas of the same primary that have more data.
    fn rank(&self, offset: u64) -> usize {
        let Some(primary) = self.nodes.myself().primary() else { return 0 };
        let ahead = self.nodes[primary].replicas().iter().filter(|&&replica| {
            let node = &self.nodes[replica];
            !node.is(Flags::MYSELF | Flags::NOFAILOVER) && node.offset > offset
        });
        ahead.count()
    }

    fn ask_for_votes(&mut self, local: &Local) {
        self.nodes.current_epoch += 1;
        let epoch = self.nodes.current_epoch;
        self.election.epoch = epoch;
        self.election.asked = true;
        self.log(Level::Warning, format!("Starting a failover election for epoch {epoch}."));
        let marks = if self.manual.is_under_way() { Marks::FORCE_ACK } else { Marks::NONE };
        let packet = self
            .with_header(local, marks, |_, header| Bytes::from(bus::write_empty(Kind::AuthRequest, header)));
        self.broadcast(Kind::AuthRequest, &packet);
        self.save_synced();
        self.todo = self.todo | Todo::STATE;
    }

    /// A replica asks for this node's vote.
    pub(super) fn asked_for_vote(&mut self, key: NodeKey, header: &Header<'_>, local: &Local) {
        // Only primaries with slots vote.
        if !self.nodes.myself().votes() {
            return;
        }
        if let Err(why) = self.may_vote(key, header, local.now.at) {
            let text = format!("Failover auth denied to {}: {why}", self.nodes[key].title());
            return self.log(Level::Warning, text);
        }
        let Some(primary) = self.nodes[key].primary() else { return };
        let Some(link) = self.link_to(key) else { return };
        self.nodes[primary].voted_at = local.now.at;
        let epoch = self.nodes.current_epoch;
        self.nodes.last_vote_epoch = epoch;
        self.save_synced();
        let packet = self.with_header(local, Marks::NONE, |_, header| {
            Bytes::from(bus::write_empty(Kind::AuthAck, header))
        });
        self.send(link, Kind::AuthAck, packet);
        let text = format!("Failover auth granted to {} for epoch {epoch}", self.nodes[key].title());
        self.log(Level::Warning, text);
    }

    fn may_vote(&self, key: NodeKey, header: &Header<'_>, now: Moment) -> Result<(), String> {
        let (asked, current) = (header.current_epoch, self.nodes.current_epoch);
        if asked < current {
            return Err(format!("reqEpoch ({asked}) < curEpoch({current})"));
        }
        if self.nodes.last_vote_epoch >= current {
            return Err(format!("already voted for epoch {current}"));
        }
        let node = &self.nodes[key];
        if node.is_primary() {
            return Err("it is a master node".to_owned());
        }
        let Some(primary) = node.primary() else { return Err("I don't know its master".to_owned()) };
        if !self.nodes[primary].has_failed() && !header.marks.has(Marks::FORCE_ACK) {
            return Err("its master is up".to_owned());
        }
        let pause = self.settings.node_timeout_ms * 2;
        let since = now.since(self.nodes[primary].voted_at);
        if self.nodes[primary].voted_at.is_set() && since < pause {
            return Err(format!("can't vote about this master before {} milliseconds", pause - since));
        }
        // The replica must know the present owner of every slot that it wants.
        for slot in SlotSet::from_bitmap(header.slots).iter() {
            let Some(owner) = self.nodes.owner(slot) else { continue };
            let epoch = self.nodes[owner].config_epoch;
            if epoch > header.config_epoch {
                return Err(format!("slot {slot} epoch ({epoch}) > reqEpoch ({})", header.config_epoch));
            }
        }
        Ok(())
    }

    /// A primary votes for this node.
    pub(super) fn got_vote(&mut self, key: NodeKey, header: &Header<'_>) {
        let wanted = self.election.asked && header.current_epoch >= self.election.epoch;
        if self.nodes[key].votes() && wanted && !self.election.voters.contains(&key) {
            self.election.voters.push(key);
            self.todo = self.todo | Todo::FAILOVER;
        }
    }

    /// Takes over the slots of this replica's primary.
    pub(super) fn replace_primary(&mut self, local: &Local) {
        let me = self.nodes.me();
        let Some(old) = self.nodes.myself().primary() else { return };
        let slots = self.nodes[old].slots().clone();
        self.make_primary(me);
        self.actions.push(Action::Lead);
        for slot in slots.iter() {
            self.set_owner(slot, Some(me));
        }
        self.election.forget();
        self.end_manual();
        self.update_state(local.now.at);
        // Before anybody is told.
        self.save_synced();
        self.broadcast_pong(Audience::All, local);
    }
}
