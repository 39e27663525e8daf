//! Stopping in order: nothing that can be kept is lost, and nothing is left lying about.
//!
//! Two steps. [`Server::prepare_shutdown`] does what may fail, and the server serves on if it does. Once the
//! loop has ended, its replies sent, [`Server::finish_shutdown`] tidies up; nothing there can fail any more.

use crate::config::value::ShutdownFlags;
use crate::net::signals::{Request, Signals, Stop};
use crate::resp::Error;
use crate::server::Server;
use crate::server::durability::aof::State;
use crate::server::durability::child::Task;

impl Server {
    /// Does what must succeed before the server may end. After `Ok`, end the loop by
    /// [`EventLoop::stop`](crate::server::event_loop::EventLoop::stop).
    ///
    /// # Errors
    /// Data that should be kept cannot be, and `flags` do not force the end; the log says why.
    pub fn prepare_shutdown(&mut self, flags: ShutdownFlags) -> Result<(), Error> {
        tracing::info!("User requested shutdown...");
        if self.children.any_for(Task::Rdb) {
            tracing::warn!("There is a child saving an .rdb. Killing it!");
            self.kill_child();
        }
        let by_rule = !self.config.persistence.save.0.is_empty() && !flags.nosave;
        if (flags.save || by_rule) && self.persistence.loading.is_none() {
            tracing::info!("Saving the final RDB snapshot before exiting.");
            self.process.manager.notify("STATUS=Saving the final RDB snapshot\n");
            if self.save_now().is_err() && !flags.force {
                tracing::warn!("Error trying to save the DB, can't exit.");
                return Err(Error::text("ERR Errors trying to SHUTDOWN. Check logs."));
            }
        }
        if self.aof.state != State::Off {
            if self.children.any_for(Task::Aof) {
                if self.aof.state == State::Beginning && !flags.force {
                    tracing::warn!("Writing initial AOF, can't exit");
                    return Err(Error::text("ERR Errors trying to SHUTDOWN. Check logs."));
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

    /// Takes back a signal's request to end the server.
    ///
    /// # Errors
    /// There is none.
    pub fn abort_shutdown(&mut self) -> Result<(), Error> {
        if !self.event_loop.request.as_ref().is_some_and(Request::take_back) {
            return Err(Error::text("ERR No shutdown in progress."));
        }
        tracing::info!("Shutdown manually aborted.");
        Ok(())
    }

    /// A signal asked for the end.
    pub(in crate::server) fn asked_to_stop(&mut self, stop: Stop, signals: &Signals) {
        let (flags, name) = match stop {
            Stop::Interrupt => (self.config.general.shutdown_on_sigint, "SIGINT"),
            Stop::Terminate => (self.config.general.shutdown_on_sigterm, "SIGTERM"),
        };
        match self.prepare_shutdown(flags) {
            Ok(()) => self.event_loop.stop(),
            Err(_) => {
                tracing::warn!(
                    "{name} received but errors trying to shut down the server, check the logs for more information"
                );
                signals.forget_request();
            }
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
