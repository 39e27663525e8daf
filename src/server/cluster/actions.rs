//! The machine's actions.

use crate::clients::pubsub::Scope;
use crate::cluster::machine::Action;
use crate::config::value::PrimaryAddr;
use crate::server::Server;
use crate::server::execution::pause::{Extent, PauseReason};
use crate::server::watching::advice::advise_behind;
use crate::stats::log::Level;
use crate::stdx::clock::UnixMillis;

impl Server {
    /// Carries out what follows from what the machine was told.
    pub(super) fn settle_cluster(&mut self) {
        let local = self.cluster_local();
        let Some(cluster) = &mut self.cluster else { return };
        let actions = cluster.machine.settle(&local);
        let mut felt = false;
        for action in actions {
            felt |= matches!(action, Action::Served(_) | Action::Lead | Action::Follow { .. });
            self.carry_out(action);
        }
        if let Some(cluster) = &mut self.cluster {
            if cluster.seen_slots != cluster.machine.slots_version {
                felt = true;
                if let Some(stats) = &mut cluster.slot_stats {
                    stats.forget_others(&cluster.machine.nodes);
                }
            }
            cluster.seen_slots = cluster.machine.slots_version;
        }
        self.review_leftovers();
        if felt {
            self.slots_changed();
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Save { sync } => {
                if self.save_cluster_config(sync).is_err() {
                    // A node that forgets what it has promised is worse than none.
                    tracing::error!("Fatal: can't update cluster config file.");
                    std::process::exit(1);
                }
            }
            Action::Connect { link, ip, port } => self.open_bus_link(link, &ip, port),
            Action::Send { link, packet } => {
                if let Some(cluster) = &mut self.cluster {
                    cluster.links.queue(link, &packet);
                }
            }
            Action::Close { link } => {
                if let Some(cluster) = &mut self.cluster {
                    cluster.links.drop_link(link, self.event_loop.poll.as_ref());
                }
            }
            Action::Follow { ip, port, tls_port } => {
                let port = if self.config.tls.replication { tls_port } else { port };
                let address = PrimaryAddr { host: ip, port };
                let same = self.config.replication.replicaof.as_ref() == Some(&address);
                if port != 0 && !(same && self.replication.is_replica()) {
                    self.follow(address);
                }
            }
            Action::Lead => {
                if self.replication.is_replica() {
                    self.become_primary();
                }
            }
            Action::Empty => self.empty_for_reset(),
            Action::Pause { ms } => {
                let until = UnixMillis(UnixMillis::now().0.saturating_add(ms));
                self.pause_for(PauseReason::Failover, until, Extent::Writes);
            }
            Action::Resume => self.unpause_for(PauseReason::Failover),
            Action::Deliver { sharded, channel, payload } => {
                let scope = if sharded { Scope::Shard } else { Scope::Channel };
                self.publish(scope, &channel, &payload);
            }
            Action::RemoveKeys(slots) => self.remove_leftovers(&slots),
            Action::SlotsLeft(slots) => self.drop_slot_channels(&slots),
            Action::Served(_) => {}
            Action::Log(level, text) => {
                match level {
                    Level::Debug => tracing::trace!("{text}"),
                    Level::Verbose => tracing::debug!("{text}"),
                    Level::Notice => tracing::info!("{text}"),
                    Level::Warning | Level::Nothing => tracing::warn!("{text}"),
                }
                advise_behind(&text);
            }
        }
    }

    /// Removes all data of a node that begins anew.
    fn empty_for_reset(&mut self) {
        let lazily = self.config.replication.lazy_flush;
        self.keyspace.flush(None, lazily);
        self.propagate_by_itself();
    }
}
