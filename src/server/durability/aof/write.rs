//! Writing to the append-only file: the buffer, flushes, and errors of the disk.
//!
//! A unit of execution is appended to the buffer, which is flushed once per turn of the event loop, before any reply is
//! sent.

use std::io;
use std::time::{Duration, Instant};

use super::{State, policy};
use crate::keyspace::Sink;
use crate::net::error_text;
use crate::persistence::aof::log::{Flushed, Policy};
use crate::server::Server;

/// Time between two log messages about the same error.
const QUIET: Duration = Duration::from_secs(30);

impl Server {
    /// Appends the unit of execution to the buffer. With `apart`, each part is a unit of its own.
    pub(in crate::server) fn append_to_log(&mut self, apart: bool) {
        let log = &mut self.aof.log;
        if self.config.persistence.aof_timestamp_enabled {
            let second = self.keyspace.now().as_secs();
            if second != self.aof.noted_second {
                self.aof.noted_second = second;
                log.buf.extend_from_slice(format!("#TS:{second}\r\n").as_bytes());
            }
        }
        self.execution.unit.write(Sink::Log, &mut log.selected, apart, &mut log.buf);
    }

    /// Writes the buffer to the file. With `force`, it does not wait for a sync under way.
    pub(in crate::server) fn flush_aof(&mut self, force: bool) {
        if self.aof.state == State::Off {
            return;
        }
        let policy = policy(&self.config.persistence);
        let may_sync = !(self.config.persistence.no_appendfsync_on_rewrite && self.children.any());
        let flushed = self.aof.log.flush(&self.background, policy, may_sync, force);
        match flushed {
            Flushed::Postponed => {}
            Flushed::Done => {
                let sync_failed = self.aof.log.last_error().filter(|_| policy == Policy::EverySecond);
                match sync_failed {
                    Some(error) => self.aof_failed("syncing", &error),
                    None if self.aof.error.is_some() => {
                        tracing::warn!("AOF write error looks solved. The server can write again.");
                        self.aof.error = None;
                        self.aof.error_logged_at = None;
                        self.note_disk_error();
                    }
                    None => {}
                }
            }
            Flushed::Failed(error) => {
                self.aof_failed("writing to", &error);
                if policy == Policy::Always {
                    tracing::error!(
                        "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting..."
                    );
                    std::process::exit(1);
                }
            }
        }
    }

    /// Remembers an error, and logs it unless it was just logged.
    pub(super) fn aof_failed(&mut self, doing: &str, error: &io::Error) {
        let text = error_text(error);
        if self.aof.error_logged_at.is_none_or(|told| told.elapsed() >= QUIET) {
            self.aof.error_logged_at = Some(Instant::now());
            tracing::warn!("Error {doing} the AOF file: {text}");
        }
        if self.aof.error.as_deref() != Some(&text) {
            self.aof.error = Some(text);
            self.note_disk_error();
        }
    }

    /// Writes everything that was executed to the files, and syncs them.
    pub fn settle_aof(&mut self) {
        if self.aof.state == State::On {
            if !self.execution.unit.is_empty() {
                self.end_unit();
            }
            self.finish_aof();
        }
    }

    /// Waits until everything appended is durable; whether it is. An error is logged and remembered.
    pub(in crate::server) fn finish_aof(&mut self) -> bool {
        match self.aof.log.finish(&self.background) {
            Ok(()) => true,
            Err(error) => {
                self.aof_failed("writing to", &error);
                false
            }
        }
    }
}
