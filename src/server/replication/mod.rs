//! Replication: carries out what the protocol in [`crate::replication`] says, for both roles.
//!
//! - [`primary`]: replicas that are connected, their snapshots, their stream;
//! - [`transfer`]: a snapshot that is sent while it is written;
//! - [`link`]: the connection to a primary, and how far it is;
//! - [`following`]: how it comes about, up to the stream, and ends;
//! - [`copying`]: a snapshot that is received, and loaded in place of the data;
//! - [`stream`]: the stream of a primary, applied and passed on;
//! - [`quorum`]: replies that wait until replicas have acknowledged (`min-replicas-durable`);
//! - [`waiting`]: clients that wait for acknowledgements (WAIT, WAITAOF);
//! - [`failover`]: handing over to a replica.
//!
//! What the two roles have in common is the [`Backlog`]: its end is the offset of the data, in either role.

pub mod copying;
pub mod failover;
pub mod following;
pub mod link;
pub mod primary;
pub mod quorum;
pub mod stream;
pub mod transfer;
pub mod waiting;

use std::time::Instant;

use crate::clients::ClientKey;
use crate::config::value::PrimaryAddr;
use crate::keyspace::own::OwnExpiries;
use crate::keyspace::{Listeners, Sink, Suspend};
use crate::replication::backlog::Backlog;
use crate::replication::{History, ReplicationId};
use crate::resp::Error;
use crate::server::Server;
use crate::server::execution::admission::Conditions;
use crate::stats::log;
use crate::stdx::clock::UnixMillis;
use crate::stdx::rng::Rng;
use failover::Failover;
use link::Following;
use quorum::Quorum;
use stream::Stream;
use transfer::Transfer;
use waiting::Waiting;

/// What the server remembers of its part in replication.
pub struct Replication {
    /// The histories that can be continued from here.
    pub history: History,
    /// The last part of the stream, and the offset of the data.
    pub backlog: Backlog,
    /// Connected replicas, in the order in which they asked for data.
    pub replicas: Vec<ClientKey>,
    /// Since when there has been no replica, while there is a backlog.
    pub(in crate::server) alone_since: Option<UnixMillis>,
    /// The primary that is followed; `None` for a primary.
    pub following: Option<Following>,
    /// State of applying the stream of a primary.
    pub(in crate::server) stream: Stream,
    /// The snapshot that is being sent while it is written.
    pub(in crate::server) transfer: Option<Transfer>,
    /// Clients that wait for acknowledgements.
    pub(in crate::server) waiting: Waiting,
    /// Acknowledgements that replies wait for.
    pub(in crate::server) quorum: Quorum,
    /// The handing over that is under way.
    pub failover: Failover,
    /// Number of replicas that are online and not too far behind.
    pub good_replicas: usize,
    /// Counters for INFO.
    pub counts: Counts,
    /// Whether the snapshot file was written for replicas although nobody else wants snapshots.
    pub(in crate::server) file_for_replicas: bool,
    /// When the timer last ran.
    pub(in crate::server) ticked: Option<Instant>,
    /// Ticks of one second.
    pub(in crate::server) seconds: u64,
}

/// How requests for data were answered.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts {
    /// By all data.
    pub full: u64,
    /// By the stream from there on.
    pub partial: u64,
    /// By all data, although the stream was asked for.
    pub refused: u64,
    /// Bytes received from primaries.
    pub received: u64,
    /// Bytes sent to replicas.
    pub sent: u64,
}

impl Replication {
    /// A primary without replicas.
    pub fn new(rng: &mut Rng) -> Replication {
        Replication {
            history: History::new(rng),
            backlog: Backlog::default(),
            replicas: Vec::new(),
            alone_since: None,
            following: None,
            stream: Stream::default(),
            transfer: None,
            waiting: Waiting::default(),
            quorum: Quorum::default(),
            failover: Failover::default(),
            good_replicas: 0,
            counts: Counts::default(),
            file_for_replicas: false,
            ticked: None,
            seconds: 0,
        }
    }

    /// Whether a primary is followed.
    pub fn is_replica(&self) -> bool {
        self.following.is_some()
    }

    /// Offset of the data: bytes of the history that they contain.
    #[inline]
    pub fn offset(&self) -> u64 {
        self.backlog.end()
    }
}

impl Server {
    /// Derives from role and link what is refused, hidden and passed on.
    pub(in crate::server) fn apply_role(&mut self) {
        let replication = &self.replication;
        let options = &self.config.replication;
        let (replica, linked) = match &replication.following {
            None => (false, true),
            Some(following) => (true, following.is_linked()),
        };
        self.conditions.set(Conditions::READONLY_REPLICA, replica && options.read_only);
        self.conditions.set(Conditions::STALE, !linked && !options.serve_stale_data);
        let writable = replica && !options.read_only;
        self.keyspace.suspend_expiry(Suspend::Replica, replica && options.read_only);
        self.keyspace.suspend_expiry(Suspend::WritableReplica, writable);
        self.keyspace.ledger.listeners.set(Listeners::OWN, writable);
        if !replica {
            self.keyspace.own_expiries = OwnExpiries::default();
        }
        self.keyspace.ledger.feed(Sink::Backlog, !replica && replication.backlog.is_active());
        self.count_good_replicas();
        log::set_role(if replica { 'S' } else { 'M' });
        self.note_disk_error();
    }

    /// Makes this server a replica of another one, or of none, as REPLICAOF does. `asked_by` describes who wants it.
    pub fn replicate(&mut self, primary: Option<PrimaryAddr>, asked_by: &str) {
        let Some(address) = primary else {
            if self.replication.is_replica() {
                self.become_primary();
                tracing::info!("MASTER MODE enabled (user request from '{asked_by}')");
            }
            return;
        };
        if self.replication.is_replica() && self.config.replication.replicaof.as_ref() == Some(&address) {
            tracing::info!(
                "REPLICAOF would result into synchronization with the master we are already connected with. No \
                 operation performed."
            );
            return;
        }
        let shown = format!("{}:{}", address.host, address.port);
        self.follow(address);
        tracing::info!("REPLICAOF {shown} enabled (user request from '{asked_by}')");
    }

    /// Stops following a primary: what changes from now on is a history of its own.
    pub(in crate::server) fn become_primary(&mut self) {
        let former = self.config.replication.replicaof.take();
        self.leave_primary();
        self.replication.following = None;
        // Replicas learn of the new history when they come back.
        self.disconnect_replicas();
        self.branch_history();
        self.replication.backlog.selected = None;
        self.replication.alone_since = Some(self.keyspace.now());
        self.apply_role();
        self.commit_anew();
        self.apply_oom_score();
        self.start_failed_aof();
        if let Some(former) = former {
            self.tell_promotion(&format!("{}:{}", former.host, former.port));
        }
    }

    /// Gives the data a new history that goes on from the present one.
    pub(in crate::server) fn branch_history(&mut self) {
        let replication = &mut self.replication;
        let (offset, old) = (replication.backlog.end(), replication.history.id);
        replication.history.branch(offset, &mut self.keyspace.rng);
        tracing::info!(
            "Setting secondary replication ID to {old}, valid up to offset: {}. New replication ID is {}",
            offset + 1,
            replication.history.id
        );
    }

    /// Tells the kernel the score of the role.
    pub(in crate::server) fn apply_oom_score(&mut self) {
        let is_replica = self.replication.is_replica();
        if let Err(error) = self.process.apply_oom_score(&self.config.advanced, is_replica) {
            tracing::warn!("Unable to write oom_score_adj: {}", crate::net::error_text(&error));
        }
    }

    /// Tasks of replication once per second.
    pub(in crate::server) fn replication_cron(&mut self) {
        self.failover_cron();
        let due = self.replication.ticked.is_none_or(|last| last.elapsed().as_millis() >= 1000);
        if !due {
            return;
        }
        self.replication.ticked = Some(Instant::now());
        self.replication.seconds += 1;
        self.follow_cron();
        self.primary_cron();
        if self.persistence.loading.is_none()
            && self.replication.following.as_ref().is_none_or(Following::is_linked)
        {
            self.start_failed_aof();
        }
    }

    /// The error for a write that this replica refuses, or for a read of data that may be old.
    pub(in crate::server) fn role_refuses(&self, stale: bool) -> Error {
        if stale {
            Error::text("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.")
        } else {
            Error::text("READONLY You can't write against a read only replica.")
        }
    }

    /// Gives the data new histories that nobody else knows.
    pub fn change_replication_id(&mut self) {
        self.replication.history =
            History { id: ReplicationId::random(&mut self.keyspace.rng), former: None };
    }
}
