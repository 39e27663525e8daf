//! Switching the append-only file on and off at run time.

use std::io;

use super::State;
use crate::server::Server;
use crate::server::durability::child::Task;

impl Server {
    /// Switches the append-only file on at run time.
    ///
    /// # Errors
    /// No child process can be started to write the first base.
    pub(in crate::server) fn start_aof(&mut self) -> io::Result<()> {
        self.aof.set_state(&mut self.keyspace.ledger, State::Beginning);
        self.aof.rewrite_scheduled = true;
        if self.persistence.loading.is_some() {
            tracing::info!(
                "AOF was enabled while data are being loaded. It begins with a rewrite once they are complete."
            );
            return Ok(());
        }
        if self.execution.depth > 0 {
            // The base would contain the first half of the transaction, which is also appended when the transaction ends.
            tracing::info!(
                "AOF was enabled during a transaction. An AOF background was scheduled to start when possible."
            );
            return Ok(());
        }
        if self.children.any() {
            tracing::info!(
                "AOF was enabled but there is already another background operation. An AOF background was scheduled to start when \
                 needed."
            );
            return Ok(());
        }
        if let Err(error) = self.rewrite_aof() {
            self.aof.set_state(&mut self.keyspace.ledger, State::Off);
            self.aof.rewrite_scheduled = false;
            tracing::warn!(
                "Redis needs to enable the AOF but can't trigger a background AOF rewrite operation. Check the above logs for \
                 more info about the error."
            );
            return Err(error);
        }
        Ok(())
    }

    /// Switches the append-only file off. Its files remain.
    pub(in crate::server) fn stop_aof(&mut self) {
        if self.aof.state == State::Off {
            return;
        }
        if self.aof.state == State::On {
            self.flush_aof(true);
            self.finish_aof();
        }
        if self.children.any_for(Task::Aof) {
            let pid = self.children.current.as_ref().map_or(0, |child| child.pid);
            tracing::info!("Killing running AOF rewrite child: {pid}");
            self.kill_child();
        }
        self.aof.set_state(&mut self.keyspace.ledger, State::Off);
        self.aof.rewrite_scheduled = false;
        self.aof.log.buf = Vec::new();
        self.aof.log.switch(None, 0);
        self.aof.error = None;
        self.note_disk_error();
    }
}
