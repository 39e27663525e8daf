//! Who is down: by this Sentinel's own judgement, and by that of enough of them.

use super::Machine;
use crate::resp::response::{Kind as ReplyKind, Response};
use crate::sentinel::instance::{Flags, InstanceId, Kind, Role};
use crate::stats::log::Level;

impl Machine {
    /// Decides whether an instance is subjectively down, and closes connections that seem dead.
    pub(super) fn judge(&mut self, id: InstanceId, now: i64) {
        let (link, timings) = (self.link(id), &self.timings);
        let down_after = self[id].down_after;
        let silent_for = if link.unanswered_since != 0 {
            now - link.unanswered_since
        } else if link.disconnected {
            now - link.available_at
        } else {
            0
        };
        // Half the time is left for another connection to do better.
        let commands_dead = link.commands
            && now - link.commands_since > timings.min_reconnect_period
            && link.unanswered_since != 0
            && now - link.unanswered_since > down_after / 2
            && now - link.pong_at > down_after / 2;
        let messages_dead = link.messages
            && now - link.messages_since > timings.min_reconnect_period
            && now - link.heard_at > timings.publish_period * 3;
        let link_id = self[id].link;
        if commands_dead {
            self.drop_connection(link_id, false);
        }
        if messages_dead {
            self.drop_connection(link_id, true);
        }
        let instance = &self[id];
        let is_primary = instance.kind == Kind::Primary;
        let demoted = is_primary
            && instance.role == Role::Replica
            && now - instance.role_since > down_after + self.timings.info_period * 2;
        let loads_for_too_long = instance.flags.has(Flags::REBOOTED)
            && now - instance.watch.rebooted_at > instance.watch.reboot_down_after;
        let down = silent_for > down_after || demoted || loads_for_too_long;
        if down && !instance.flags.has(Flags::S_DOWN) {
            self.event_about(Level::Warning, "+sdown", id, "");
            self[id].s_down_since = now;
            self[id].flags.set(Flags::S_DOWN, true);
        } else if !down && instance.flags.has(Flags::S_DOWN) {
            self.event_about(Level::Warning, "-sdown", id, "");
            self[id].flags.set(Flags::S_DOWN, false);
            self[id].flags.set(Flags::SCRIPT_KILL_SENT, false);
        }
    }

    /// Decides whether a primary is objectively down.
    pub(super) fn judge_together(&mut self, primary: InstanceId, now: i64) {
        let instance = &self[primary];
        let sentinels = instance.watch.sentinels.iter();
        let agree = 1 + sentinels.filter(|&&id| self[id].flags.has(Flags::SAYS_DOWN)).count();
        let quorum = instance.watch.quorum;
        let down = instance.flags.has(Flags::S_DOWN) && agree >= quorum as usize;
        if down && !instance.flags.has(Flags::O_DOWN) {
            self.event_about(Level::Warning, "+odown", primary, format!(" #quorum {agree}/{quorum}"));
            self[primary].flags.set(Flags::O_DOWN, true);
            self[primary].o_down_since = now;
        } else if !down && instance.flags.has(Flags::O_DOWN) {
            self.event_about(Level::Warning, "-odown", primary, "");
            self[primary].flags.set(Flags::O_DOWN, false);
        }
    }

    /// Asks the other Sentinels about a primary that seems down; `at_once` also those who were asked a moment ago.
    pub(super) fn ask_others(&mut self, primary: InstanceId, at_once: bool, now: i64) {
        let period = self.timings.ask_period;
        for id in self[primary].watch.sentinels.clone() {
            let elapsed = now - self[id].said_at;
            if elapsed > period * 5 {
                self[id].flags.set(Flags::SAYS_DOWN, false);
                self[id].leader = None;
            }
            let wanted = self[primary].flags.has(Flags::S_DOWN) && !self.link(id).disconnected;
            if wanted && (at_once || elapsed >= period) {
                self.ask(id);
            }
        }
    }

    /// A Sentinel has said whether the primary is down, and whom it has voted for.
    pub(super) fn answered(&mut self, id: InstanceId, reply: Response<'_>, now: i64) {
        let mut items = reply.items();
        let (Some(down), Some(leader), Some(epoch)) = (items.next(), items.next(), items.next()) else {
            return;
        };
        let (Some(down), Some(epoch)) = (down.int(), epoch.int()) else { return };
        if !matches!(leader.kind(), ReplyKind::Bulk | ReplyKind::Simple) {
            return;
        }
        self[id].said_at = now;
        self[id].flags.set(Flags::SAYS_DOWN, down == 1);
        let leader = leader.text();
        if leader == b"*" || leader.len() > 64 {
            return;
        }
        let (leader, epoch) = (String::from_utf8_lossy(leader).into_owned(), epoch as u64);
        if self[id].leader_epoch != epoch {
            let text = format!("{} voted for {leader} {epoch}", self[id].name);
            self.log(Level::Notice, text);
        }
        self[id].leader = Some(leader);
        self[id].leader_epoch = epoch;
    }
}
