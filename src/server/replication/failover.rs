//! FAILOVER: a primary hands over to one of its replicas, losing nothing.
//!
//! Writes are paused until the replica has everything; then this server becomes its replica, and asks it to take over
//! with the request for the stream (`PSYNC id offset FAILOVER`). If the replica refuses, or time is over, this server
//! goes on as the primary that it was.

use crate::clients::{ClientFlags, ClientKey};
use crate::config::value::PrimaryAddr;
use crate::replication::replica::State;
use crate::resp::Error;
use crate::server::Server;
use crate::server::execution::pause::{Extent, PauseReason};
use crate::stdx::clock::UnixMillis;

/// How far a handing over is.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// There is none.
    #[default]
    None,
    /// The replica catches up.
    Waiting,
    /// The replica was asked to take over.
    Handing,
}

/// The handing over that is under way.
#[derive(Default, Debug)]
pub struct Failover {
    /// How far it is.
    pub phase: Phase,
    /// Who is to take over; `None` for whoever is first to have everything.
    pub target: Option<PrimaryAddr>,
    /// When it ends.
    pub until: Option<UnixMillis>,
    /// Whether to hand over when time is over, although the replica does not have everything.
    pub force: bool,
}

impl Failover {
    /// Its name in INFO.
    pub fn state_name(&self) -> &'static str {
        match self.phase {
            Phase::None => "no-failover",
            Phase::Waiting => "waiting-for-sync",
            Phase::Handing => "failover-in-progress",
        }
    }
}

impl Server {
    /// Begins to hand over to `target`, or to any replica.
    ///
    /// # Errors
    /// There is nobody to hand over to, or this server does not decide that.
    pub fn begin_failover(
        &mut self,
        target: Option<PrimaryAddr>,
        timeout_ms: Option<i64>,
        force: bool,
    ) -> Result<(), Error> {
        if self.replication.failover.phase != Phase::None {
            return Err(Error::text("ERR FAILOVER already in progress."));
        }
        if self.replication.is_replica() {
            return Err(Error::text("ERR FAILOVER is not valid when server is a replica."));
        }
        if self.replication.replicas.is_empty() {
            return Err(Error::text("ERR FAILOVER requires connected replicas."));
        }
        if let Some(target) = &target {
            let Some(key) = self.replica_at(target) else {
                return Err(Error::text("ERR FAILOVER target HOST and PORT is not a replica."));
            };
            let online = self.replica(key).is_some_and(|replica| replica.state == State::Online);
            if !online {
                return Err(Error::text("ERR FAILOVER target replica is not online."));
            }
        }
        let now = self.keyspace.now();
        self.replication.failover = Failover {
            phase: Phase::Waiting,
            target,
            until: timeout_ms.map(|ms| UnixMillis(now.0.saturating_add(ms))),
            force,
        };
        tracing::info!("FAILOVER requested to {}.", self.failover_target_name());
        self.pause_for(PauseReason::Failover, UnixMillis(i64::MAX), Extent::Writes);
        self.ask_replicas();
        Ok(())
    }

    fn failover_target_name(&self) -> String {
        match &self.replication.failover.target {
            Some(target) => format!("{}:{}", target.host, target.port),
            None => "any replica".to_owned(),
        }
    }

    /// The replica that announces this address.
    fn replica_at(&self, target: &PrimaryAddr) -> Option<ClientKey> {
        self.replication.replicas.iter().copied().find(|&key| {
            let Some(replica) = self.replica(key) else { return false };
            replica.port == target.port
                && self.replica_ip(key).is_some_and(|ip| ip.eq_ignore_ascii_case(&target.host))
        })
    }

    /// Gives up a handing over on demand.
    ///
    /// # Errors
    /// There is none.
    pub fn abort_failover(&mut self) -> Result<(), Error> {
        if self.replication.failover.phase == Phase::None {
            return Err(Error::text("ERR No failover in progress."));
        }
        self.give_up_failover("Failover manually aborted");
        Ok(())
    }

    /// Goes on as before.
    pub(in crate::server) fn give_up_failover(&mut self, why: &str) {
        if self.replication.failover.phase == Phase::None {
            return;
        }
        tracing::info!("Aborting failover: {why}");
        let handed = self.replication.failover.phase == Phase::Handing;
        if handed {
            self.become_primary_again();
        }
        self.end_failover();
        self.tell_given_up_failover();
    }

    /// A handing over that had begun did not happen: the history goes on unbroken.
    fn become_primary_again(&mut self) {
        self.config.replication.replicaof = None;
        self.leave_primary();
        self.replication.following = None;
        // They come back and go on, and so know who the primary is.
        self.disconnect_replicas();
        self.replication.backlog.selected = None;
        self.replication.alone_since = Some(self.keyspace.now());
        self.apply_role();
    }

    pub(in crate::server) fn end_failover(&mut self) {
        self.replication.failover = Failover::default();
        self.unpause_for(PauseReason::Failover);
    }

    /// Whether the stream stands still, so that the replica can catch up.
    pub(in crate::server) fn failover_pauses(&self) -> bool {
        self.replication.failover.phase != Phase::None || self.cluster_pauses()
    }

    /// Asks replicas how far they are. Not more often than they tell it by themselves: those of Redis answer with the
    /// offset in front of the question, so that they are behind once more.
    pub(in crate::server) fn ask_for_failover(&mut self) {
        if self.replication.failover.phase == Phase::Waiting {
            self.ask_replicas();
        }
    }

    /// Looks whether somebody can take over. Called by the timer.
    pub(in crate::server) fn failover_cron(&mut self) {
        if self.replication.failover.phase != Phase::Waiting {
            return;
        }
        let end = self.replication.offset();
        let target = self.replication.failover.target.clone();
        let ready = match &target {
            Some(target) => self.replica_at(target),
            None => self.replication.replicas.iter().copied().find(|&key| self.has_everything(key, end)),
        };
        match ready {
            Some(key) if self.has_everything(key, end) => {
                tracing::info!("Failover target {} is synced, failing over.", self.replica_name(key));
                return self.hand_over(key);
            }
            _ => {}
        }
        let late = self.replication.failover.until.is_some_and(|until| self.keyspace.now() > until);
        if !late {
            return;
        }
        if self.replication.failover.force
            && let Some(key) = ready
        {
            tracing::info!("Failover to {} time out exceeded, failing over.", self.replica_name(key));
            return self.hand_over(key);
        }
        self.give_up_failover("Replica never caught up before timeout");
    }

    fn has_everything(&self, key: ClientKey, end: u64) -> bool {
        self.replica(key).is_some_and(|replica| replica.is_fed() && replica.acknowledged == end)
            && !self.clients[key].flags.has(ClientFlags::CLOSING)
    }

    /// Becomes a replica of the replica at `key`, and asks it to take over.
    fn hand_over(&mut self, key: ClientKey) {
        let Some(replica) = self.replica(key) else { return };
        let port = replica.port;
        let Some(ip) = self.replica_ip(key) else {
            return self.give_up_failover("the replica has no address");
        };
        self.replication.failover.phase = Phase::Handing;
        let target = PrimaryAddr { host: ip, port };
        self.replication.failover.target = Some(target.clone());
        self.follow(target);
    }

    /// The primary that hands over asks this replica to take over.
    ///
    /// # Errors
    /// The request is not about the present history, or this server is no replica.
    pub fn take_over(&mut self, id: &[u8]) -> Result<(), Error> {
        if !self.replication.is_replica() {
            return Err(Error::text("ERR PSYNC FAILOVER can't be sent to a master."));
        }
        if !id.eq_ignore_ascii_case(self.replication.history.id.as_bytes()) {
            return Err(Error::text("ERR PSYNC FAILOVER replid must match my replid."));
        }
        tracing::info!("Failover request received for replid {}.", self.replication.history.id);
        self.become_primary();
        tracing::info!("MASTER MODE enabled (failover request from '{}')", crate::stdx::text::Lossy(id));
        Ok(())
    }
}
