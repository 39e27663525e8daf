//! Cluster: carries out what the machine in [`crate::cluster::machine`] asks for.
//!
//! - [`links`]: connections of the bus, and their packets;
//! - [`file`]: the file that keeps what the node knows (`nodes.conf`);
//! - [`actions`]: the machine's actions, among them changes of the role in replication;
//! - [`migration`]: slots that move as a whole;
//! - [`leftovers`]: keys of slots that have got another owner;
//! - [`slot_stats`]: what the requests for each slot cost.
//!
//! A server that is no node has none of this: [`Server::cluster`] is `None`, and no request is looked at for its slots.

pub mod actions;
pub mod file;
mod leftovers;
pub mod links;
pub mod migration;
pub mod slot_stats;

use std::time::Instant;

use crate::cluster::machine::{Local, Machine, Settings, TICK_MS};
use crate::cluster::nodes::Flags;
use crate::cluster::slots::SlotSet;
use crate::cluster::{Moment, Now};
use crate::config::Config;
use crate::config::value::PrimaryAddr;
use crate::net::listener::{self, Listener};
use crate::server::Server;
use crate::stdx::clock::{self, UnixMillis};
use crate::stdx::rng::Rng;
use file::ConfFile;
use links::Links;
use migration::Migrations;
use slot_stats::SlotStats;

/// How far the port of the bus is from that for clients, unless it is configured.
const BUS_PORT_DISTANCE: u16 = 10_000;

/// A node of a cluster.
pub struct Cluster {
    /// What it knows, and how it goes on.
    pub machine: Machine,
    /// Its file.
    pub(in crate::server) file: ConfFile,
    /// Its connections.
    pub links: Links,
    /// Slots that move as a whole.
    pub migrations: Migrations,
    /// Slots of other nodes whose keys are being removed.
    leftovers: SlotSet,
    /// What the requests for each slot cost; `None` if nobody wants to know.
    pub slot_stats: Option<Box<SlotStats>>,
    /// When the machine last did what is due.
    ticked: Option<Instant>,
    /// [`Machine::slots_version`], as clients have felt it.
    seen_slots: u64,
}

/// The time on both clocks.
pub fn now() -> Now {
    Now { at: Moment(clock::monotonic_us() as i64 / 1000 + 1), wall: UnixMillis::now() }
}

/// The port of the bus; `None` if there is no such port.
pub fn bus_port(config: &Config) -> Option<u16> {
    let base = if config.tls.cluster { config.tls.port } else { config.net.port };
    if config.cluster.port != 0 { Some(config.cluster.port) } else { base.checked_add(BUS_PORT_DISTANCE) }
}

/// The options that the machine needs.
fn settings(config: &Config) -> Settings {
    let options = &config.cluster;
    let either = |announced: u16, real: u16| if announced != 0 { announced } else { real };
    let ports = (
        either(options.announce_port, config.net.port),
        either(options.announce_tls_port, config.tls.port),
        either(options.announce_bus_port, bus_port(config).unwrap_or(0)),
    );
    Settings {
        node_timeout_ms: i64::try_from(options.node_timeout_ms).unwrap_or(i64::MAX / 100).min(i64::MAX / 100),
        ping_interval_ms: i64::from(options.ping_interval_ms),
        replica_validity_factor: i64::from(options.replica_validity_factor),
        replica_ping_ms: i64::from(config.replication.ping_period_s) * 1000,
        migration_barrier: options.migration_barrier as usize,
        allow_replica_migration: options.allow_replica_migration,
        require_full_coverage: options.require_full_coverage,
        no_failover: options.replica_no_failover,
        ip: options.announce_ip.clone(),
        hostname: options.announce_hostname.clone(),
        human_name: options.announce_human_nodename.clone(),
        ports,
        tls: config.tls.cluster,
        blacklist_ms: i64::from(options.blacklist_ttl_s) * 1000,
        manual_timeout_ms: i64::from(options.manual_failover_timeout_ms),
    }
}

impl Server {
    /// Begins to be a node: reads and locks its file, and listens on the bus.
    ///
    /// # Errors
    /// A line for the log: the file is damaged or another node's, or the port is not free.
    pub fn open_cluster(&mut self) -> Result<(), String> {
        let Some(port) = bus_port(&self.config) else {
            return Err(
                "Redis port number too high for cluster mode. Please check your configuration.".to_owned()
            );
        };
        let mut rng = Rng::from_os();
        let now = now();
        let file = ConfFile::open(&self.config.cluster.config_file)?;
        let loaded = file.load(now.at, self.config.tls.cluster, &mut rng)?;
        let is_new = loaded.is_none();
        let nodes = loaded.unwrap_or_else(|| Machine::alone(&mut rng, now.at));
        let id = nodes.myself().id;
        if is_new {
            tracing::info!("No cluster configuration found, I'm {id}");
        } else {
            tracing::info!("Node configuration loaded, I'm {id}");
        }
        let machine = Machine::new(nodes, settings(&self.config), rng, now.at);
        let net = &self.config.net;
        let listeners =
            listener::listen_tcp(&net.bind, port, net.backlog).map_err(|error| error.to_string())?;
        let links = Links::new(listeners);
        let cluster = Cluster {
            machine,
            file,
            links,
            migrations: Migrations::default(),
            leftovers: SlotSet::default(),
            slot_stats: None,
            ticked: None,
            seen_slots: 0,
        };
        self.cluster = Some(Box::new(cluster));
        self.apply_thresholds();
        if is_new {
            self.save_cluster_config(true).map_err(|error| error.to_string())?;
        }
        self.follow_from_start();
        Ok(())
    }

    /// A node that is a replica goes on with its primary from where its data stand, once they are loaded.
    fn follow_from_start(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        let nodes = &cluster.machine.nodes;
        let Some(primary) = nodes.myself().primary().filter(|_| nodes.myself().is_replica()) else { return };
        let node = &nodes[primary];
        let port = node.client_port(self.config.tls.replication);
        if !node.ip.is_empty() && port != 0 {
            self.config.replication.replicaof = Some(PrimaryAddr { host: node.ip.as_ref().into(), port });
        }
    }

    /// With the data loaded: what they mean for the slots of this node.
    ///
    /// # Errors
    /// A line for the log: there are keys where a node cannot have any.
    pub fn verify_cluster_data(&mut self) -> Result<(), String> {
        if self.cluster.is_none() {
            return Ok(());
        }
        self.abandon_imports();
        let databases = self.keyspace.databases();
        let last = self.config.cluster.databases as usize;
        if databases.iter().skip(last).any(|db| !db.is_empty()) {
            return Err(
                "You can't have keys in a DB different than DB 0 when in Cluster mode. Exiting.".to_owned()
            );
        }
        if databases.iter().all(|db| db.is_empty()) {
            return Ok(());
        }
        let Some(mut cluster) = self.cluster.take() else { return Ok(()) };
        cluster.machine.verify_keys(|slot| self.slot_keys(slot) > 0);
        self.cluster = Some(cluster);
        self.settle_cluster();
        Ok(())
    }

    /// What the machine must know of this server.
    pub fn cluster_local(&self) -> Local {
        let replication = &self.replication;
        let wall = self.keyspace.now();
        let data_age_ms = match (&replication.following, self.primary_client()) {
            (_, Some(key)) => wall.since(self.clients[key].last_active),
            (Some(following), None) => following.down_since.map_or(0, |since| wall.since(since)),
            (None, None) => 0,
        };
        // Data that are not those of the primary at any offset count as none; others show such a replica as loading.
        let has_data = replication
            .following
            .as_ref()
            .is_none_or(|following| following.is_linked() || following.resumable && !following.is_copying());
        Local {
            now: now(),
            offset: if has_data { replication.offset() } else { 0 },
            follows: replication.is_replica(),
            data_age_ms: data_age_ms.max(0),
        }
    }

    /// Has the machine change something, and carries out what follows. For commands; `None` if this is no node.
    pub fn cluster_change<R>(&mut self, change: impl FnOnce(&mut Machine, &Local) -> R) -> Option<R> {
        let local = self.cluster_local();
        let cluster = self.cluster.as_mut()?;
        let result = change(&mut cluster.machine, &local);
        self.settle_cluster();
        Some(result)
    }

    /// The configuration has changed.
    pub(in crate::server) fn apply_cluster_options(&mut self) {
        let settings = settings(&self.config);
        let Some(cluster) = &mut self.cluster else { return };
        cluster.machine.set_settings(settings);
        self.settle_cluster();
    }

    /// What is due in the cluster. Called by the timer.
    pub(in crate::server) fn cluster_cron(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let tick_ms = TICK_MS as u128;
        // The timer is not exact, and must not miss every other turn.
        if cluster.ticked.is_some_and(|last| last.elapsed().as_millis() + 10 < tick_ms) {
            return;
        }
        cluster.ticked = Some(Instant::now());
        let local = self.cluster_local();
        if let Some(cluster) = &mut self.cluster {
            cluster.machine.tick(&local);
        }
        self.limit_bus_links();
        self.settle_cluster();
    }

    /// Before the loop sleeps: a replica that takes over on demand waits for the last data, migrations go on, and packets
    /// leave together for all that the turn gave rise to.
    #[inline]
    pub(in crate::server) fn cluster_before_sleep(&mut self) {
        if self.cluster.is_some() {
            self.end_cluster_turn();
        }
    }

    fn end_cluster_turn(&mut self) {
        if let Some(cluster) = &mut self.cluster
            && cluster.machine.waits_for_data()
        {
            cluster.machine.data_arrived();
            self.settle_cluster();
        }
        self.serve_migrations();
        self.remove_some_leftovers();
        if self.cluster.as_ref().is_some_and(|cluster| cluster.links.has_unsent()) {
            self.flush_bus();
        }
    }

    /// Whether a connection of the bus has more to read, or keys are to be sent to another node or removed, although no
    /// event will report it.
    #[inline]
    pub(in crate::server) fn bus_goes_on(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| {
            cluster.links.has_more()
                || cluster.migrations.goes_on(self.may_remove_leftovers())
                || self.has_leftovers()
        })
    }

    /// Whether a failover on demand keeps the stream of replicas where it is.
    pub(in crate::server) fn cluster_pauses(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.machine.pauses_stream())
    }

    /// Passes a message on to other nodes: all, or those that serve the same slots.
    pub fn cluster_publish(&mut self, sharded: bool, channel: &[u8], payload: &[u8]) {
        let local = self.cluster_local();
        let Some(cluster) = &mut self.cluster else { return };
        cluster.machine.publish(sharded, channel, payload, &local);
        self.settle_cluster();
    }

    /// Writes what the node knows to its file.
    ///
    /// # Errors
    /// Those of the system; the file is as it was then.
    pub fn save_cluster_config(&mut self, sync: bool) -> std::io::Result<()> {
        let tls = self.config.tls.cluster;
        let Some(cluster) = &mut self.cluster else { return Ok(()) };
        let text = crate::cluster::conf::write(&cluster.machine.nodes, &now(), tls);
        cluster.file.write(text.as_bytes(), sync)
    }

    /// Whether this node is a replica, as its cluster has it.
    pub fn is_cluster_replica(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.machine.nodes.myself().is(Flags::REPLICA))
    }
}

impl Cluster {
    /// Whether this node is a primary with slots.
    pub fn serves_slots(&self) -> bool {
        let me = self.machine.nodes.myself();
        me.is_primary() && !me.slots().is_empty()
    }

    /// Whether other nodes replicate this one.
    pub fn has_replicas(&self) -> bool {
        !self.machine.nodes.myself().replicas().is_empty()
    }

    /// In a child process: what must be free for a parent that comes back.
    pub(in crate::server) fn leave_to_parent(&mut self) {
        self.links.listeners.clear();
        self.file.leave_to_parent();
    }

    /// The sockets that listen on the bus, to be watched.
    pub(in crate::server) fn listeners_mut(&mut self) -> &mut [Listener] {
        &mut self.links.listeners
    }
}
