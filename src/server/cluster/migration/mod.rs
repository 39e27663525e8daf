//! Migration of whole slots: carries out what the machines in [`crate::cluster::migration`] say.
//!
//! - [`export`]: slots of this node go to another one;
//! - [`changes`]: what changes in them meanwhile follows;
//! - [`import`]: slots of another node come here.
//!
//! The source sends keys in slices, between which clients are served: nothing is forked, and nobody waits but for the
//! short time in which the slots get their new owner.

pub mod changes;
pub mod export;
pub mod import;

use crate::cluster::migration::{History, Job, Limits, Outcome, State};
use crate::cluster::nodes::{NodeKey, Nodes};
use crate::cluster::slot::Slot;
use crate::cluster::slots::SlotSet;
use crate::keyspace::Sink;
use crate::resp::request::write_request;
use crate::server::Server;
use crate::server::cluster::now;
use crate::server::execution::admission::Conditions;
use crate::server::execution::pause::PauseReason;
use export::Exporting;
use import::Importing;

const FAILED_OVER: &str = "A failover occurred during slot import";

/// The migrations of a node.
#[derive(Default)]
pub struct Migrations {
    exports: Vec<Exporting>,
    imports: Vec<Importing>,
    history: History,
    /// Number of the next connection to a target.
    next_place: usize,
    /// Bytes sent to targets.
    pub exported_bytes: u64,
    /// Bytes received from sources.
    pub imported_bytes: u64,
}

impl Migrations {
    /// Whether there is one that is not over.
    #[inline]
    pub fn is_active(&self) -> bool {
        !self.exports.is_empty() || !self.imports.is_empty()
    }

    /// All that are remembered, the newest first.
    pub fn jobs(&self) -> Vec<&Job> {
        let exports = self.exports.iter().map(|export| &export.machine.job);
        let imports = self.imports.iter().map(|import| &import.machine.job);
        let mut running: Vec<&Job> = exports.chain(imports).collect();
        running.sort_by_key(|job| std::cmp::Reverse(job.created));
        running.into_iter().chain(self.history.iter()).collect()
    }

    /// The migration that a slot takes part in.
    pub fn of_slot(&self, slot: Slot) -> Option<&Job> {
        let exports = self.exports.iter().map(|export| &export.machine.job);
        let imports = self.imports.iter().map(|import| &import.machine.job);
        exports.chain(imports).find(|job| job.slots.contains(slot))
    }

    /// Bytes that are kept for migrations away from here.
    pub fn export_memory(&self) -> usize {
        self.exports.iter().map(Exporting::memory).sum()
    }

    /// Whether there is something to send, or to remove unless data must not change, that no event tells of.
    pub(super) fn goes_on(&self, removes: bool) -> bool {
        let unclean = |import: &Importing| matches!(import.machine.job.state, State::CleaningUp(_));
        self.exports.iter().any(Exporting::goes_on) || removes && self.imports.iter().any(unclean)
    }
}

impl Server {
    fn migration_limits(&self) -> Limits {
        let seconds = i64::from(self.config.replication.timeout_s);
        Limits {
            silence_ms: seconds.saturating_mul(1000),
            handover_ms: i64::from(self.config.cluster.manual_failover_timeout_ms),
        }
    }

    /// At the end of a turn: does what is due in migrations.
    #[inline]
    pub(in crate::server) fn serve_migrations(&mut self) {
        if self.cluster.as_ref().is_some_and(|cluster| cluster.migrations.is_active())
            // What a script that lasts has changed is passed on when it ends.
            && !self.conditions.has(Conditions::BUSY)
            && self.persistence.loading.is_none()
            // What has been saved is not changed any more.
            && !self.event_loop.stop
        {
            self.advance_migrations();
        }
    }

    #[cold]
    fn advance_migrations(&mut self) {
        self.note_role_in_migrations();
        self.send_snapshots();
        self.flush_exports();
        self.tick_exports();
        self.flush_exports();
        self.serve_imports();
        self.end_migrations();
    }

    /// What a change of this node's role, or of owners, means for migrations.
    fn note_role_in_migrations(&mut self) {
        let copies = self.replication.is_replica();
        let now = now();
        let Some(cluster) = &mut self.cluster else { return };
        let nodes = &cluster.machine.nodes;
        for import in &mut cluster.migrations.imports {
            let follows = import.machine.job.state == State::OccurringOnPrimary;
            if copies && !follows {
                // What there is of the slots goes as it does at the primary.
                import.machine.fail(Outcome::Failed, FAILED_OVER, now);
                import.machine.cleaned(now);
            } else if !copies && follows {
                if all_owned(nodes, &import.machine.job.slots, Some(nodes.me())) {
                    import.machine.ended_at_primary(Outcome::Success, "", now);
                } else {
                    import.machine.fail(Outcome::Failed, FAILED_OVER, now);
                }
            }
        }
        if copies {
            for export in &mut cluster.migrations.exports {
                export.machine.fail(Outcome::Failed, "A failover occurred during slot export", now);
            }
        }
    }

    /// Puts migrations that are over aside, with what follows from their end.
    fn end_migrations(&mut self) {
        let most = usize::try_from(self.config.cluster.slot_migration_log_max_len).unwrap_or(usize::MAX);
        let Some(cluster) = &mut self.cluster else { return };
        let migrations = &mut cluster.migrations;
        let mut over: Vec<Job> = Vec::new();
        let poll = self.event_loop.poll.as_ref();
        migrations.exports.retain_mut(|export| {
            let ends = export.machine.job.is_over();
            if ends {
                export.close(poll);
                over.push(export.machine.job.clone());
            }
            !ends
        });
        let ended: Vec<Importing> =
            migrations.imports.extract_if(.., |import| import.machine.job.is_over()).collect();
        if over.is_empty() && ended.is_empty() {
            return;
        }
        let still_paused = migrations.exports.iter().any(|export| export.machine.pauses());
        for job in over.iter().chain(ended.iter().map(|import| &import.machine.job)) {
            let (name, message) = (job.state.name(), &job.message);
            tracing::info!("Slot migration {} finished. State: {name}, Message: {message}", job.describe());
            migrations.history.add(job.clone(), most);
        }
        if !still_paused {
            self.unpause_for(PauseReason::Migration);
        }
        self.hide_foreign_slots();
        for import in ended {
            if let Some(key) = import.client {
                self.expel(key);
            }
            if !import.follows {
                let job = &import.machine.job;
                self.tell_copies_of_end(job);
            }
        }
        if self.execution.unit_pending {
            self.pass_on_unit(true);
        }
        self.feed_migrations();
    }

    /// Has changes passed on to migrations while there are some.
    fn feed_migrations(&mut self) {
        let active = self.cluster.as_ref().is_some_and(|cluster| cluster.migrations.is_active());
        self.keyspace.ledger.feed(Sink::Migrations, active);
    }

    /// Adds a request to what the log and replicas get. Whoever is not inside a command passes the unit on.
    fn tell_copies(&mut self, words: &[&[u8]]) {
        const COPIES: u8 = Sink::Log as u8 | Sink::Backlog as u8;
        if self.keyspace.ledger.listeners.feeds() {
            self.execution.unit.push_requests(0, 1, COPIES, |out| write_request(out, words.iter().copied()));
            self.execution.unit_pending = true;
        }
    }

    fn tell_copies_of_end(&mut self, job: &Job) {
        let state: &[u8] = match job.state {
            State::Done(Outcome::Success) => b"SUCCESS",
            State::Done(Outcome::Cancelled) => b"CANCELLED",
            _ => b"FAILED",
        };
        self.tell_copies(&[
            b"CLUSTER",
            b"SYNCSLOTS",
            b"FINISH",
            b"STATE",
            state,
            b"NAME",
            job.name.as_bytes(),
            b"MESSAGE",
            job.message.as_bytes(),
        ]);
    }

    /// Hides the keys of slots that come here, or come to the primary that is copied, and of those that have left.
    pub(in crate::server) fn hide_foreign_slots(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let jobs = cluster.migrations.imports.iter().map(|import| &import.machine.job);
        let coming = jobs.filter(|job| !job.is_over()).flat_map(|job| job.slots.iter());
        let slots: Vec<Slot> = coming.chain(cluster.leftovers.iter()).collect();
        self.keyspace.hide_slots(&slots);
    }

    /// Ends all migrations that are not over because nobody wants them any more; how many they were.
    pub fn cancel_migrations(&mut self) -> usize {
        let now = now();
        let Some(cluster) = &mut self.cluster else { return 0 };
        let mut cancelled = 0;
        for export in &mut cluster.migrations.exports {
            export.machine.fail(Outcome::Cancelled, "", now);
            cancelled += 1;
        }
        for import in &mut cluster.migrations.imports {
            if !import.follows && !import.machine.is_closing() {
                import.machine.fail(Outcome::Cancelled, "", now);
                cancelled += 1;
            }
        }
        cancelled
    }

    /// All keys were removed, or replaced: migrations of them end.
    #[cold]
    pub(in crate::server) fn fail_migrations(&mut self) {
        const FLUSHED: &str = "Data was flushed";
        let now = now();
        let Some(cluster) = &mut self.cluster else { return };
        for export in &mut cluster.migrations.exports {
            export.machine.fail(Outcome::Failed, FLUSHED, now);
        }
        for import in cluster.migrations.imports.iter_mut().filter(|import| !import.follows) {
            import.machine.fail(Outcome::Failed, FLUSHED, now);
        }
    }
}

/// Whether all slots are one node's.
fn all_owned(nodes: &Nodes, slots: &SlotSet, owner: Option<NodeKey>) -> bool {
    owner.is_some() && slots.iter().all(|slot| nodes.owner(slot) == owner)
}
