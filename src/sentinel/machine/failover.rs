//! Failover: the steps by which a replica takes over.
//!
//! ```text
//! WaitStart ── elected ──> SelectReplica ──> SendPromotion ──> WaitPromotion ── role:master ──> ReconfReplicas ──> UpdateConfig
//!     └─ not elected ─> None      └─ none is good ─> None   └──── timeout ────> None                 (or timeout)
//! ```

use super::election::DESYNC;
use super::{Action, Machine};
use crate::sentinel::instance::{Address, Failover, Flags, InstanceId, Link, Role};
use crate::stats::log::{self, Level};
use crate::stdx::clock::UnixMillis;

impl Machine {
    /// Starts a failover if the primary is down and none was started lately. Returns whether it did.
    pub(super) fn start_failover_if_needed(&mut self, primary: InstanceId, now: i64) -> bool {
        let instance = &self[primary];
        if !instance.flags.has(Flags::O_DOWN) || instance.flags.has(Flags::FAILOVER) {
            return false;
        }
        let watch = &instance.watch;
        let (started, wait) = (watch.failover_started, watch.failover_timeout.saturating_mul(2));
        if now - started < wait {
            if watch.delay_logged != started {
                self[primary].watch.delay_logged = started;
                let at = log::date(UnixMillis(started.saturating_add(wait)).as_secs());
                let text = format!("Next failover delay: I will not start a failover before {at}");
                self.log(Level::Warning, text);
            }
            return false;
        }
        self.start_failover(primary, now);
        true
    }

    /// Starts a failover, with an epoch of its own.
    pub(super) fn start_failover(&mut self, primary: InstanceId, now: i64) {
        self.current_epoch += 1;
        let epoch = self.current_epoch;
        self[primary].watch.failover_epoch = epoch;
        self[primary].flags.set(Flags::FAILOVER, true);
        self.enter(primary, Failover::WaitStart, now);
        self.event_of(Level::Warning, "+new-epoch", primary, epoch.to_string());
        self.event_about(Level::Warning, "+try-failover", primary, "");
        self[primary].watch.failover_started = now + self.rng.below(DESYNC) as i64;
    }

    fn enter(&mut self, primary: InstanceId, state: Failover, now: i64) {
        let watch = &mut self[primary].watch;
        watch.failover = state;
        watch.failover_since = now;
    }

    fn abort(&mut self, primary: InstanceId, now: i64) {
        self[primary].flags.set(Flags::FAILOVER, false);
        self[primary].flags.set(Flags::FORCED, false);
        self.enter(primary, Failover::None, now);
        if let Some(promoted) = self[primary].watch.promoted.take()
            && let Some(promoted) = self.instances.get_mut(&promoted)
        {
            promoted.flags.set(Flags::PROMOTED, false);
        }
    }

    /// Goes on with a failover.
    pub(super) fn advance_failover(&mut self, primary: InstanceId, now: i64) {
        if !self[primary].flags.has(Flags::FAILOVER) {
            return;
        }
        match self[primary].watch.failover {
            Failover::None | Failover::UpdateConfig => {}
            Failover::WaitStart => self.wait_for_election(primary, now),
            Failover::SelectReplica => self.select(primary, now),
            Failover::SendPromotion => self.promote(primary, now),
            Failover::WaitPromotion => self.abort_if_late(primary, now),
            Failover::ReconfReplicas => {
                self.tell_replicas(primary, now);
                self.end_if_done(primary, now);
            }
        }
    }

    fn wait_for_election(&mut self, primary: InstanceId, now: i64) {
        let watch = &self[primary].watch;
        let (started, limit) =
            (watch.failover_started, watch.failover_timeout.min(self.timings.election_timeout));
        let leader = self.elected(primary, watch.failover_epoch, now);
        if leader.as_ref() != Some(&self.id) && !self[primary].flags.has(Flags::FORCED) {
            if now - started > limit {
                self.event_about(Level::Warning, "-failover-abort-not-elected", primary, "");
                self.abort(primary, now);
            }
            return;
        }
        self.event_about(Level::Warning, "+elected-leader", primary, "");
        if self.failures.after_election {
            self.actions.push(Action::Crash);
        }
        self.enter(primary, Failover::SelectReplica, now);
        self.event_about(Level::Warning, "+failover-state-select-slave", primary, "");
    }

    fn select(&mut self, primary: InstanceId, now: i64) {
        let Some(best) = self.best_replica(primary, now) else {
            self.event_about(Level::Warning, "-failover-abort-no-good-slave", primary, "");
            return self.abort(primary, now);
        };
        self.event_about(Level::Warning, "+selected-slave", best, "");
        self[best].flags.set(Flags::PROMOTED, true);
        self[primary].watch.promoted = Some(best);
        self.enter(primary, Failover::SendPromotion, now);
        self.event_about(Level::Notice, "+failover-state-send-slaveof-noone", best, "");
    }

    /// The replica to promote: of those that are well and not too old, the one of the lowest priority number, then the one
    /// with the most data, then the one of the lowest run ID.
    pub(super) fn best_replica(&self, primary: InstanceId, now: i64) -> Option<InstanceId> {
        let instance = &self[primary];
        let is_down = instance.flags.has(Flags::S_DOWN);
        let mut longest_without = instance.down_after.saturating_mul(10);
        if is_down {
            longest_without = longest_without.saturating_add(now - instance.s_down_since);
        }
        let info_limit = if is_down { self.timings.ping_period * 5 } else { self.timings.info_period * 3 };
        let is_good = |id: &InstanceId| {
            let (replica, link): (_, &Link) = (&self[*id], self.link(*id));
            !replica.flags.has(Flags::S_DOWN.with(Flags::O_DOWN))
                && !link.disconnected
                && now - link.available_at <= self.timings.ping_period * 5
                && replica.replica.priority != 0
                && replica.info_at != 0
                && now - replica.info_at <= info_limit
                && replica.replica.link_down_ms <= longest_without
        };
        let rank = |id: &InstanceId| {
            let instance = &self[*id];
            // No run ID is the last.
            let run_id = instance.run_id.as_ref().map(|id| id.to_ascii_lowercase());
            (
                instance.replica.priority,
                std::cmp::Reverse(instance.replica.offset),
                run_id.is_none(),
                run_id.unwrap_or_default(),
            )
        };
        instance.watch.replicas.iter().copied().filter(is_good).min_by_key(rank)
    }

    fn promote(&mut self, primary: InstanceId, now: i64) {
        let Some(promoted) = self[primary].watch.promoted else { return self.abort(primary, now) };
        if self.link(promoted).disconnected {
            return self.abort_if_late(primary, now);
        }
        if self.send_role(promoted, None) {
            self.event_about(Level::Notice, "+failover-state-wait-promotion", promoted, "");
            self.enter(primary, Failover::WaitPromotion, now);
        }
    }

    fn abort_if_late(&mut self, primary: InstanceId, now: i64) {
        let watch = &self[primary].watch;
        if now - watch.failover_since > watch.failover_timeout {
            self.event_about(Level::Warning, "-failover-abort-slave-timeout", primary, "");
            self.abort(primary, now);
        }
    }

    /// The replica that was chosen says that it is a primary.
    pub(super) fn promoted(&mut self, primary: InstanceId, promoted: InstanceId, now: i64) {
        self[primary].config_epoch = self[primary].watch.failover_epoch;
        self.enter(primary, Failover::ReconfReplicas, now);
        self.save();
        self.event_about(Level::Warning, "+promoted-slave", promoted, "");
        if self.failures.after_promotion {
            self.actions.push(Action::Crash);
        }
        self.event_about(Level::Warning, "+failover-state-reconf-slaves", primary, "");
        let (from, to) = (self[primary].address.clone(), self[promoted].address.clone());
        self.call_reconfig(primary, "leader", &from, &to);
        self.hurry_hello(primary);
    }

    /// Tells replicas of the new primary, a few at a time.
    fn tell_replicas(&mut self, primary: InstanceId, now: i64) {
        const BUSY: Flags = Flags::RECONF_SENT.with(Flags::RECONF_INPROG);
        let watch = &self[primary].watch;
        let (replicas, most) = (watch.replicas.clone(), watch.parallel_syncs as usize);
        let Some(address) = watch.promoted.map(|promoted| self[promoted].address.clone()) else { return };
        let mut busy = replicas.iter().filter(|&&id| self[id].flags.has(BUSY)).count();
        for id in replicas {
            if busy >= most {
                return;
            }
            if self[id].flags.has(Flags::PROMOTED.with(Flags::RECONF_DONE)) {
                continue;
            }
            if self[id].flags.has(Flags::RECONF_SENT)
                && now - self[id].replica.reconf_sent_at > self.timings.reconf_timeout
            {
                // It is told again later, and others need not wait for it.
                self.event_about(Level::Notice, "-slave-reconf-sent-timeout", id, "");
                self[id].flags.set(Flags::RECONF_SENT, false);
                self[id].flags.set(Flags::RECONF_DONE, true);
            }
            if self[id].flags.has(BUSY.with(Flags::RECONF_DONE)) || self.link(id).disconnected {
                continue;
            }
            if self.send_role(id, Some(&address)) {
                self[id].flags.set(Flags::RECONF_SENT, true);
                self[id].replica.reconf_sent_at = now;
                self.event_about(Level::Notice, "+slave-reconf-sent", id, "");
                busy += 1;
            }
        }
    }

    /// Ends the failover when all replicas that are up follow the new primary, or time is up.
    fn end_if_done(&mut self, primary: InstanceId, now: i64) {
        let watch = &self[primary].watch;
        let Some(promoted) = watch.promoted else { return };
        if self[promoted].flags.has(Flags::S_DOWN) {
            return;
        }
        let (replicas, address) = (watch.replicas.clone(), self[promoted].address.clone());
        let settled = Flags::PROMOTED.with(Flags::RECONF_DONE).with(Flags::S_DOWN);
        let done = replicas.iter().all(|&id| self[id].flags.has(settled));
        let late = now - watch.failover_since > watch.failover_timeout;
        if late {
            self.event_about(Level::Warning, "+failover-end-for-timeout", primary, "");
        }
        if !done && !late {
            return;
        }
        self.event_about(Level::Warning, "+failover-end", primary, "");
        self.enter(primary, Failover::UpdateConfig, now);
        if !late {
            return;
        }
        // A last attempt, whose result is not waited for.
        for id in replicas {
            let told = Flags::PROMOTED.with(Flags::RECONF_DONE).with(Flags::RECONF_SENT);
            if !self[id].flags.has(told) && self.send_role(id, Some(&address)) {
                self.event_about(Level::Notice, "+slave-reconf-sent-be", id, "");
                self[id].flags.set(Flags::RECONF_SENT, true);
            }
        }
    }

    /// After a failover, the new primary is watched.
    pub(super) fn switch_if_due(&mut self, primary: InstanceId, now: i64) {
        if self[primary].watch.failover != Failover::UpdateConfig {
            return;
        }
        let old = self[primary].address.clone();
        let promoted = self[primary].watch.promoted.and_then(|id| self.instances.get(&id));
        let new = promoted.map_or_else(|| old.clone(), |promoted| promoted.address.clone());
        self.announce_switch(primary, &old, &new);
        self.change_address(primary, new, now);
    }

    /// Watches a primary at another address: all instances known so far but the new primary are its replicas.
    pub(super) fn change_address(&mut self, primary: InstanceId, address: Address, now: i64) {
        let old = self[primary].address.clone();
        let replicas = self[primary].watch.replicas.iter().map(|&id| self[id].address.clone());
        let mut others: Vec<Address> = replicas.filter(|other| !other.is_same(&address)).collect();
        if !old.is_same(&address) {
            others.push(old);
        }
        self.reset(primary, true, now);
        let instance = &mut self[primary];
        instance.address = address;
        instance.o_down_since = 0;
        instance.s_down_since = 0;
        for other in others {
            if let Some(added) = self.add_replica(primary, other, now) {
                self.event_about(Level::Notice, "+slave", added, "");
            }
        }
        self.save();
    }

    /// Forgets what is known of a primary's state and replicas, and of the other Sentinels unless they are kept.
    pub(super) fn reset(&mut self, primary: InstanceId, keep_sentinels: bool, now: i64) {
        let watch = &mut self[primary].watch;
        let mut gone = std::mem::take(&mut watch.replicas);
        if !keep_sentinels {
            gone.append(&mut watch.sentinels);
        }
        watch.failover = Failover::None;
        watch.failover_since = 0;
        // Another failover may begin at once.
        watch.failover_started = 0;
        watch.promoted = None;
        for id in gone {
            self.remove(id);
        }
        self.drop_connections(primary);
        let instance = &mut self[primary];
        instance.flags = Flags::NONE;
        instance.run_id = None;
        instance.leader = None;
        instance.role = Role::Primary;
        instance.role_since = now;
        instance.info_at = 0;
        instance.replica.primary_host.clear();
        let link = self.link_mut(primary);
        link.unanswered_since = now;
        link.ping_at = 0;
        link.available_at = now;
        link.pong_at = now;
    }
}
