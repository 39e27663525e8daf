//! The append-only file: what the server remembers of it.
//!
//! One file per concern: writing ([`write`]), group commit ([`group_commit`]), the files and their manifest ([`files`]),
//! rewriting ([`rewrite`]), switching on and off ([`switch`]).

mod error;
mod files;
mod gathering;
mod group_commit;
mod recent;
mod rewrite;
mod switch;
mod write;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clients::ClientKey;
use crate::config::options::PersistenceOptions;
use crate::config::value::AppendFsync;
use crate::keyspace::Sink;
use crate::keyspace::ledger::Ledger;
use crate::persistence::aof::log::Policy;
use crate::persistence::aof::{AofLog, Manifest};
pub use error::{AofError, NoCommand};
use gathering::Gathering;
use recent::Recent;

/// Whether changes are appended to a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// There is no append-only file.
    #[default]
    Off,
    /// Commands are appended to the file.
    On,
    /// The file was switched on, and its first base is being written.
    Beginning,
}

/// What the server remembers of its append-only file.
pub struct Aof {
    /// Whether there is a file.
    pub state: State,
    /// The increment that changes are appended to.
    pub log: AofLog,
    manifest: Manifest,
    /// Bytes of all files but the current increment.
    other_bytes: u64,
    /// Bytes of all files after the last rewrite, or when they were loaded.
    pub base_size: u64,
    /// Whether a rewrite begins as soon as there is no child process.
    pub rewrite_scheduled: bool,
    /// Whether the last rewrite succeeded.
    pub rewrite_ok: bool,
    /// Number of rewrites since the start.
    pub rewrites: u64,
    /// Number of consecutive failed rewrites.
    pub failures: u64,
    /// Delay of the last retry in minutes.
    retry_delay_min: u64,
    /// Time before which no rewrite begins by itself.
    retry_at: Option<Instant>,
    /// Duration of the last rewrite.
    pub rewrite_took: Option<Duration>,
    /// Bytes of pages that were copied because they changed during the last rewrite.
    pub copied: u64,
    /// Whether the base being written is a snapshot.
    writes_snapshot: bool,
    /// Error text of the last write, if it failed.
    error: Option<String>,
    error_logged_at: Option<Instant>,
    /// Whether loading cuts the last file back to the last position in a replication stream that it states, if it states
    /// any. To be set when the server starts as a replica: its primary sends the rest again. What stands there otherwise
    /// is a group of which only a part was written, and which belongs to no position.
    pub cut_to_position: bool,
    /// The last timestamp written to the file, in seconds.
    noted_second: i64,
    /// Clients with withheld output.
    waiting: Vec<ClientKey>,
    recent: Recent,
    gathering: Gathering,
}

impl Default for Aof {
    fn default() -> Self {
        Aof {
            state: State::Off,
            log: AofLog::new(Arc::new(|| {})),
            manifest: Manifest::default(),
            other_bytes: 0,
            base_size: 0,
            rewrite_scheduled: false,
            rewrite_ok: true,
            rewrites: 0,
            failures: 0,
            retry_delay_min: 0,
            retry_at: None,
            rewrite_took: None,
            copied: 0,
            writes_snapshot: true,
            error: None,
            error_logged_at: None,
            cut_to_position: false,
            noted_second: 0,
            waiting: Vec::new(),
            recent: Recent::default(),
            gathering: Gathering::default(),
        }
    }
}

impl Aof {
    /// Bytes of all files.
    pub fn current_size(&self) -> u64 {
        self.other_bytes + self.log.file_size
    }

    /// Forgets failed rewrites, so that the next one need not wait.
    pub fn forget_failures(&mut self) {
        self.failures = 0;
        self.retry_delay_min = 0;
        self.retry_at = None;
    }

    /// Error text of the last write or sync, if it failed.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Changes the state, and has the ledger record changes unless there is no file.
    pub(super) fn set_state(&mut self, ledger: &mut Ledger, state: State) {
        self.state = state;
        ledger.feed(Sink::Log, state != State::Off);
    }
}

/// Directory of the files.
fn directory(options: &PersistenceOptions) -> PathBuf {
    PathBuf::from(&options.appenddirname)
}

/// When the file is synced.
fn policy(options: &PersistenceOptions) -> Policy {
    match options.appendfsync {
        AppendFsync::No => Policy::No,
        AppendFsync::EverySec => Policy::EverySecond,
        AppendFsync::Always => Policy::Always,
    }
}
