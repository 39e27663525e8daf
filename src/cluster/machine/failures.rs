//! Who is suspected, who has failed, and whether the cluster serves clients.
//!
//! A node suspects another one (PFAIL) by itself, when it does not answer for a node timeout. A node has failed (FAIL)
//! when most primaries with slots suspect it: their gossip says so, and such a report is valid for two timeouts. Who
//! finds that tells everybody at once.

use bytes::Bytes;

use super::{Action, Local, Machine, Todo};
use crate::cluster::Moment;
use crate::cluster::bus::{self, Kind, Marks};
use crate::cluster::nodes::{Flags, NodeId, NodeKey};
use crate::cluster::slot::Slot;
use crate::stats::log::Level;

/// Node timeouts for which a report of a failure is valid.
const REPORT_VALIDITY: i64 = 2;
/// Node timeouts after which a primary that nobody has replaced is taken back.
const UNDO_AFTER: i64 = 2;
/// Milliseconds after its start for which a primary does not serve clients: perhaps it has been replaced meanwhile.
const WRITABLE_AFTER_MS: i64 = 2000;
/// Least and most milliseconds for which a primary that comes back from a minority does not serve clients.
const REJOIN_MS: (i64, i64) = (500, 5000);

impl Machine {
    /// A node does not answer this one.
    pub(super) fn suspect(&mut self, key: NodeKey, local: &Local) {
        self.nodes[key].flags.set(Flags::PFAIL, true);
        self.log(Level::Debug, format!("*** NODE {} possibly failing", self.nodes[key].id));
        self.todo = self.todo | Todo::STATE;
        // A single primary is most of them.
        if self.nodes.size == 1 && self.nodes.myself().votes() {
            self.fail_if_agreed(key, local);
        }
    }

    /// A primary says that a node does not answer it.
    pub(super) fn report_failure(&mut self, key: NodeKey, reporter: NodeKey, local: &Local) {
        let now = local.now.at;
        let reports = &mut self.nodes[key].failure_reports;
        match reports.iter_mut().find(|(by, _)| *by == reporter) {
            Some((_, at)) => *at = now,
            None => {
                reports.push((reporter, now));
                let (by, about) = (self.nodes[reporter].title(), self.nodes[key].title());
                self.log(Level::Verbose, format!("Node {by} reported node {about} as not reachable."));
            }
        }
        self.fail_if_agreed(key, local);
    }

    /// A primary no longer says so.
    pub(super) fn withdraw_report(&mut self, key: NodeKey, reporter: NodeKey) {
        let reports = &mut self.nodes[key].failure_reports;
        let before = reports.len();
        reports.retain(|(by, _)| *by != reporter);
        if reports.len() < before {
            let (by, about) = (self.nodes[reporter].title(), self.nodes[key].title());
            self.log(Level::Verbose, format!("Node {by} reported node {about} is back online."));
        }
    }

    /// Number of valid reports that a node does not answer.
    pub fn failure_reports(&mut self, key: NodeKey, now: Moment) -> usize {
        let valid_ms = self.settings.node_timeout_ms * REPORT_VALIDITY;
        let reports = &mut self.nodes[key].failure_reports;
        reports.retain(|&(_, at)| now.since(at) <= valid_ms);
        reports.len()
    }

    fn fail_if_agreed(&mut self, key: NodeKey, local: &Local) {
        let node = &self.nodes[key];
        if !node.is(Flags::PFAIL) || node.has_failed() {
            return;
        }
        let mine = usize::from(self.nodes.myself().votes());
        if self.failure_reports(key, local.now.at) + mine < self.quorum() {
            return;
        }
        let text = format!("Marking node {} as failing (quorum reached).", self.nodes[key].title());
        self.log(Level::Notice, text);
        self.set_failed(key, local.now.at);
        let id = self.nodes[key].id;
        let packet =
            self.with_header(local, Marks::NONE, |_, header| Bytes::from(bus::write_fail(header, id)));
        self.broadcast(Kind::Fail, &packet);
    }

    fn set_failed(&mut self, key: NodeKey, now: Moment) {
        let node = &mut self.nodes[key];
        node.flags.set(Flags::PFAIL, false);
        node.flags.set(Flags::FAIL, true);
        node.failed_at = now;
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
    }

    /// Somebody says that most have found that a node has failed.
    pub(super) fn told_of_failure(&mut self, sender: NodeKey, id: NodeId, now: Moment) {
        let by = self.nodes[sender].title();
        let Some(key) = self.nodes.find(&id) else {
            self.log(Level::Notice, format!("Ignoring FAIL message from unknown node {by} about {id}"));
            return;
        };
        if self.nodes[key].is(Flags::FAIL | Flags::MYSELF | Flags::HANDSHAKE) {
            return;
        }
        let about = self.nodes[key].title();
        self.log(Level::Notice, format!("FAIL message received from {by} about {about}"));
        self.set_failed(key, now);
    }

    /// A node that has failed answers again: it is taken back, unless others may serve its slots.
    pub(super) fn clear_failure(&mut self, key: NodeKey, now: Moment) {
        let node = &self.nodes[key];
        let why = if !node.votes() {
            let what = if node.is_replica() { "replica" } else { "master without slots" };
            format!("Clear FAIL state for node {}: {what} is reachable again.", node.title())
        } else if now.since(node.failed_at) > self.settings.node_timeout_ms * UNDO_AFTER {
            format!(
                "Clear FAIL state for node {}: is reachable again and nobody is serving its slots after some time.",
                node.title()
            )
        } else {
            return;
        };
        self.log(Level::Notice, why);
        self.nodes[key].flags.set(Flags::FAIL, false);
        self.todo = self.todo | Todo::SAVE | Todo::STATE;
    }

    /// Counts primaries with slots. Returns how many of them can be reached.
    pub(super) fn count_sizes(&mut self) -> usize {
        let (mut size, mut reachable) = (0, 0);
        for (_, node) in self.nodes.iter().filter(|(_, node)| node.votes()) {
            size += 1;
            reachable += usize::from(node.seems_alive());
        }
        self.nodes.size = size;
        reachable
    }

    /// Decides whether the cluster serves clients, as this node sees it.
    pub(super) fn update_state(&mut self, now: Moment) {
        let reachable = self.count_sizes();
        let me_primary = self.nodes.myself().is_primary();
        if me_primary && !self.nodes.ok && now.since(self.began_at) < WRITABLE_AFTER_MS {
            return;
        }
        let mut ok = true;
        if self.settings.require_full_coverage {
            ok = Slot::all()
                .all(|slot| self.nodes.owner(slot).is_some_and(|key| !self.nodes[key].has_failed()));
        }
        if reachable < self.quorum() {
            ok = false;
            self.minority_at = now;
        }
        if ok == self.nodes.ok {
            return;
        }
        let delay = self.settings.node_timeout_ms.clamp(REJOIN_MS.0, REJOIN_MS.1);
        if ok && me_primary && self.minority_at.is_set() && now.since(self.minority_at) < delay {
            return;
        }
        self.nodes.ok = ok;
        self.log(Level::Notice, format!("Cluster state changed: {}", if ok { "ok" } else { "fail" }));
        self.actions.push(Action::Served(ok));
    }
}
