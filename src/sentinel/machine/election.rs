//! Votes: in each epoch a Sentinel has one per primary, and gives it to the first who asks.

use std::collections::BTreeMap;

use super::Machine;
use crate::sentinel::instance::{Flags, InstanceId, Kind};
use crate::stats::log::Level;

/// A failover begins up to this many milliseconds later than it might, so that Sentinels do not split their votes.
pub(super) const DESYNC: u64 = 1000;

impl Machine {
    /// The reply to `SENTINEL IS-MASTER-DOWN-BY-ADDR`: whether the primary at an address is down, and, if `candidate` asks
    /// for the vote in `epoch`, whom this Sentinel voted for, and in which epoch.
    pub fn is_down_by_addr(
        &mut self,
        host: &str,
        port: u16,
        epoch: u64,
        candidate: &str,
        now: i64,
    ) -> (bool, Option<(String, u64)>) {
        let Some(address) = self.locate(host, port) else { return (false, None) };
        let found = self.primaries.iter().copied().find(|&id| self[id].address.is_same(&address));
        let Some(primary) = found else { return (false, None) };
        let instance = &self[primary];
        let down =
            self.tilt_since.is_none() && instance.kind == Kind::Primary && instance.flags.has(Flags::S_DOWN);
        let vote = (candidate != "*").then(|| self.vote(primary, epoch, candidate, now)).flatten();
        (down, vote)
    }

    /// Votes for `candidate` unless the vote is given. Returns the vote that holds.
    pub(super) fn vote(
        &mut self,
        primary: InstanceId,
        epoch: u64,
        candidate: &str,
        now: i64,
    ) -> Option<(String, u64)> {
        self.note_epoch(primary, epoch);
        if self[primary].leader_epoch < epoch && self.current_epoch <= epoch {
            self[primary].leader = Some(candidate.to_owned());
            self[primary].leader_epoch = self.current_epoch;
            self.save();
            let text = format!("{candidate} {}", self.current_epoch);
            self.event_of(Level::Warning, "+vote-for-leader", primary, text);
            if candidate != self.id {
                // Whoever was voted for has the time to succeed.
                self[primary].watch.failover_started = now + self.rng.below(DESYNC) as i64;
            }
        }
        self[primary].leader.clone().map(|leader| (leader, self[primary].leader_epoch))
    }

    /// Who has been elected in `epoch`: whoever has the votes of most Sentinels that are known, and of a quorum.
    pub(super) fn elected(&mut self, primary: InstanceId, epoch: u64, now: i64) -> Option<String> {
        let watch = &self[primary].watch;
        let (voters, quorum) = (watch.sentinels.len() + 1, watch.quorum as usize);
        let mut votes: BTreeMap<String, usize> = BTreeMap::new();
        for &id in &watch.sentinels {
            if let Some(leader) = &self[id].leader
                && self[id].leader_epoch == self.current_epoch
            {
                *votes.entry(leader.clone()).or_default() += 1;
            }
        }
        let first = |votes: &BTreeMap<String, usize>| {
            votes.iter().max_by_key(|(_, count)| **count).map(|(leader, &count)| (leader.clone(), count))
        };
        // Who leads gets this Sentinel's vote, if that is still to be given.
        let candidate = first(&votes).map_or_else(|| self.id.clone(), |(leader, _)| leader);
        if let Some((leader, given)) = self.vote(primary, epoch, &candidate, now)
            && given == epoch
        {
            *votes.entry(leader).or_default() += 1;
        }
        let (leader, count) = first(&votes)?;
        (count > voters / 2 && count >= quorum).then_some(leader)
    }
}
