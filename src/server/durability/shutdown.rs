//! Stopping in order: nothing that can be kept is lost, and nothing is left lying about.
//!
//! Three steps. [`Server::begin_shutdown`] pauses writes while a replica does not have everything, for at most
//! `shutdown-timeout` seconds. Then the data are saved, which may fail, and the server serves on if it does. Once
//! the loop has ended, its replies sent, [`Server::finish_shutdown`] tidies up; nothing there can fail any more.

use crate::clients::ClientKey;
use crate::clients::blocking::Wait;
use crate::config::value::ShutdownFlags;
use crate::net::signals::{Request, Stop};
use crate::replication::replica::{Replica, State as ReplicaState};
use crate::resp::Error;
use crate::server::durability::aof::State;
use crate::server::durability::child::Task;
use crate::server::execution::blocking::Unblock;
use crate::server::execution::pause::{Extent, PauseReason};
use crate::server::{Server, error};
use crate::stdx::clock::UnixMillis;

/// The end of the server, which waits for replicas.
#[derive(Clone, Copy, Debug)]
pub struct Shutdown {
    flags: ShutdownFlags,
    /// When it waits no longer.
    pub until: UnixMillis,
    /// The signal that asked for it, if it was no client.
    signal: Option<Stop>,
}

impl Server {
    /// Begins to end the server. Whether it ends after this iteration of the loop; if not, writes are paused until
    /// replicas have everything, or another end is under way.
    ///
    /// # Errors
    /// Data that should be kept cannot be, and `flags` do not force the end; the log says why.
    pub fn begin_shutdown(&mut self, flags: ShutdownFlags) -> Result<bool, Error> {
        self.shut_down(flags, None)
    }

    fn shut_down(&mut self, flags: ShutdownFlags, signal: Option<Stop>) -> Result<bool, Error> {
        if self.persistence.shutdown.is_some() {
            return Ok(false);
        }
        tracing::warn!("User requested shutdown...");
        if flags.safe && !flags.force && self.cluster.as_ref().is_some_and(|cluster| cluster.serves_slots()) {
            tracing::warn!(
                "This node serves slots of the cluster: it is not safe to shut down, ending the shutdown."
            );
            return Err(Error::text(crate::server::error::SHUTDOWN_FAILED));
        }
        self.end_all_leftovers();
        let timeout_s = self.config.general.shutdown_timeout_s;
        if !flags.now && timeout_s > 0 && !self.replicas_have_everything() {
            tracing::info!("Waiting for replicas before shutting down.");
            let until = UnixMillis(UnixMillis::now().0.saturating_add(i64::from(timeout_s) * 1000));
            self.persistence.shutdown = Some(Shutdown { flags, until, signal });
            self.pause_for(PauseReason::Shutdown, UnixMillis(i64::MAX), Extent::Writes);
            return Ok(false);
        }
        self.prepare_shutdown(flags)?;
        self.event_loop.stop();
        Ok(true)
    }

    /// Replicas that are to have everything before the server ends: not tools that only want a snapshot.
    fn followers(&self) -> impl Iterator<Item = (ClientKey, &Replica)> {
        let replicas = self.replication.replicas.iter().filter_map(|&key| Some((key, self.replica(key)?)));
        replicas.filter(|(_, replica)| !replica.snapshot_only)
    }

    fn replicas_have_everything(&self) -> bool {
        let end = self.replication.offset();
        self.followers().all(|(_, replica)| replica.acknowledged == end)
    }

    /// Ends the server once replicas have everything, or have been waited for long enough.
    #[cold]
    pub(in crate::server) fn continue_shutdown(&mut self) {
        let Some(Shutdown { flags, until, signal }) = self.persistence.shutdown else { return };
        if self.event_loop.stop || UnixMillis::now() < until && !self.replicas_have_everything() {
            return;
        }
        if self.prepare_shutdown(flags).is_ok() {
            self.event_loop.stop();
            return;
        }
        if let Some(signal) = signal {
            self.signal_in_vain(signal);
        }
        self.end_shutdown_wait();
    }

    /// The server serves on.
    fn end_shutdown_wait(&mut self) {
        if self.persistence.shutdown.take().is_none() {
            return;
        }
        self.unpause_for(PauseReason::Shutdown);
        let waits = |blocked: &crate::clients::blocking::Blocked| matches!(blocked.wait, Wait::Shutdown);
        let clients = self.clients.iter().filter(|(_, client)| client.blocked.as_deref().is_some_and(waits));
        for key in clients.map(|(key, _)| key).collect::<Vec<_>>() {
            self.unblock(key, Unblock::ShutdownFailed);
        }
    }

    /// Tells how far replicas are.
    fn report_replicas(&self) {
        let (end, now) = (self.replication.offset(), self.keyspace.now());
        let (mut all, mut synced) = (0, 0);
        for (key, replica) in self.followers() {
            all += 1;
            if replica.acknowledged == end {
                synced += 1;
                continue;
            }
            let behind = end.saturating_sub(replica.acknowledged);
            let (lag, state) = (replica.lag_s(now).unwrap_or(0), replica.state_name());
            let name = self.replica_name(key);
            if replica.state == ReplicaState::Online {
                tracing::warn!(
                    "Lagging replica {name} reported offset {behind} behind master, lag={lag}, state={state}."
                );
            } else {
                tracing::info!(
                    "Lagging replica {name} reported offset {behind} behind master, lag={lag}, state={state}."
                );
            }
        }
        if all > 0 {
            tracing::info!("{synced} of {all} replicas are in sync when shutting down.");
        }
    }

    /// Does what must succeed before the server may end.
    fn prepare_shutdown(&mut self, flags: ShutdownFlags) -> Result<(), Error> {
        let prepared = self.keep_for_good(flags);
        if prepared.is_err() {
            tracing::warn!("Errors trying to shut down the server. Check the logs for more information.");
        }
        prepared
    }

    fn keep_for_good(&mut self, flags: ShutdownFlags) -> Result<(), Error> {
        self.report_replicas();
        if self.children.any_for_snapshot() {
            tracing::warn!("There is a child saving an .rdb. Killing it!");
            self.kill_child();
        }
        if self.sentinel.is_some() {
            // It has no data.
            return Ok(());
        }
        let by_rule = !self.config.persistence.save.0.is_empty() && !flags.nosave;
        if (flags.save || by_rule) && self.persistence.loading.is_none() {
            tracing::info!("Saving the final RDB snapshot before exiting.");
            self.process.manager.notify("STATUS=Saving the final RDB snapshot\n");
            if self.save_now().is_err() && !flags.force {
                tracing::warn!("Error trying to save the DB, can't exit.");
                return Err(Error::text(error::SHUTDOWN_FAILED));
            }
        }
        if self.aof.state != State::Off {
            if self.children.any_for(Task::Aof) {
                if self.aof.state == State::Beginning && !flags.force {
                    tracing::warn!("Writing initial AOF, can't exit");
                    return Err(Error::text(error::SHUTDOWN_FAILED));
                }
                tracing::warn!("There is a child rewriting the AOF. Killing it!");
                self.kill_child();
            }
            tracing::info!("Calling fsync() on the AOF file.");
            self.finish_aof();
        }
        self.process.manager.notify("STOPPING=1\n");
        Ok(())
    }

    /// Goes on although the end of the server was asked for, by a client or by a signal.
    ///
    /// # Errors
    /// There is none.
    pub fn abort_shutdown(&mut self) -> Result<(), Error> {
        let by_signal = self.event_loop.request.as_ref().is_some_and(Request::take_back);
        let waits = self.persistence.shutdown.is_some();
        self.end_shutdown_wait();
        if !by_signal && !waits {
            return Err(Error::text("ERR No shutdown in progress."));
        }
        tracing::info!("Shutdown manually aborted.");
        Ok(())
    }

    /// A signal asked for the end.
    pub(in crate::server) fn asked_to_stop(&mut self, stop: Stop) {
        let flags = match stop {
            Stop::Interrupt => self.config.general.shutdown_on_sigint,
            Stop::Terminate => self.config.general.shutdown_on_sigterm,
        };
        if self.shut_down(flags, Some(stop)).is_err() {
            self.signal_in_vain(stop);
        }
    }

    /// A signal asked for the end, which was not possible.
    fn signal_in_vain(&mut self, stop: Stop) {
        let name = match stop {
            Stop::Interrupt => "SIGINT",
            Stop::Terminate => "SIGTERM",
        };
        tracing::warn!(
            "{name} received but errors trying to shut down the server, check the logs for more information"
        );
        if let Some(request) = &self.event_loop.request {
            request.take_back();
        }
    }

    /// Closes the sockets that listen and removes our files, after the loop has ended.
    pub fn finish_shutdown(&mut self) {
        self.event_loop.listeners.clear();
        self.kill_debuggers();
        remove_pidfile(&self.config.general.pidfile);
        let socket = &self.config.net.unixsocket;
        if !socket.is_empty() {
            tracing::info!("Removing the unix socket file.");
            if let Err(error) = std::fs::remove_file(socket) {
                tracing::warn!("Error removing the unix socket file: {error}");
            }
        }
        tracing::warn!("Spinel is now ready to exit, bye bye...");
    }
}

fn remove_pidfile(path: &str) {
    if !path.is_empty() {
        tracing::info!("Removing the pid file.");
        // The file may be gone, or may not have been written, which was logged.
        let _ = std::fs::remove_file(path);
    }
}
