//! Snapshots: when they are taken, by whom, what follows if that fails, and how they come back.
//!
//! A snapshot is written to a temporary file in the data directory, flushed to disk and renamed, so that under the
//! name of the snapshot there is always a whole one. In the background a child process does that.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::config::value::EvictionPolicy;
use crate::keyspace::{Replacement, Suspend};
use crate::net::error_text;
use crate::persistence::rdb::format::Dialect;
use crate::persistence::rdb::input::Fault;
use crate::persistence::rdb::load::{LoadError, Tally};
use crate::persistence::rdb::output::{Output, SyncedFile};
use crate::persistence::rdb::save::{
    self, Reader, SaveOptions, SavedAccess, SavedParts, SavedReplication, Version,
};
use crate::persistence::rdb::{LoadOptions, Loader, Step};
use crate::replication::replica::{Filter, SnapshotVersion};
use crate::resp::Error;
use crate::scripting::engine::Policy;
use crate::server::Server;
use crate::server::durability::child::{Child, Outcome, Task};
use crate::server::durability::shutdown::Shutdown;
use crate::server::execution::Origin;
use crate::server::execution::admission::Conditions;
use crate::server::process::version::REDIS_VERSION;
use crate::stats::progress::{Lines, Progress, Unit};
use crate::stdx::alloc;
use crate::stdx::clock::UnixMillis;
use crate::stdx::files::create_exclusively;

/// How long to wait after a snapshot failed before the next is tried unasked.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What the server remembers of its snapshots.
#[derive(Debug)]
pub struct Persistence {
    /// When the data were last known to be on disk; at first, when the server started.
    pub saved_at: UnixMillis,
    /// Snapshots taken.
    pub saves: u64,
    /// Whether the last one in the background succeeded.
    pub bgsave_ok: bool,
    tried: Option<Instant>,
    /// How long the last one in the background took.
    pub bgsave_took: Option<Duration>,
    /// One is to be taken as soon as there is no child.
    pub scheduled: bool,
    /// Changes there were when the child began: those it writes.
    dirty_at_fork: u64,
    /// Bytes that had to be copied during the last one.
    pub copied: u64,
    /// State of loading, while data are loaded.
    pub loading: Option<Loading>,
    /// State of loading, while data are loaded that will replace those served.
    pub async_loading: Option<Loading>,
    /// Position in a replication stream that the data loaded last had, if nothing was added to them since.
    pub resumable: Option<SavedReplication>,
    /// Keys that were left out of the snapshot loaded last because they had expired, with their databases. They are
    /// kept if the snapshot has a position in a replication stream: replicas that know the position still have them.
    pub dropped: Vec<(usize, Box<[u8]>)>,
    /// Counts of the last load.
    pub last_load: Tally,
    /// DUMP payloads are taken whatever their checksum (`DEBUG SET-SKIP-CHECKSUM-VALIDATION`).
    pub skip_checksums: bool,
    /// The end of the server that waits for replicas.
    pub shutdown: Option<Shutdown>,
    /// Errors of requests of the file being loaded that nobody has looked at: which request, and the first of each.
    load_errors: Vec<(u64, String)>,
}

impl Persistence {
    /// Nothing saved yet, by a server that starts now.
    pub fn new(now: UnixMillis) -> Persistence {
        Persistence {
            saved_at: now,
            saves: 0,
            bgsave_ok: true,
            tried: None,
            bgsave_took: None,
            scheduled: false,
            dirty_at_fork: 0,
            copied: 0,
            loading: None,
            async_loading: None,
            resumable: None,
            dropped: Vec::new(),
            last_load: Tally::default(),
            skip_checksums: false,
            shutdown: None,
            load_errors: Vec::new(),
        }
    }

    /// A request of the file being loaded, the `number`-th of its client, ended with an error.
    pub(in crate::server) fn load_error(&mut self, number: u64, error: &Error) {
        // A transaction may have any number of errors; one tells that something is wrong with it.
        if self.load_errors.last().is_none_or(|&(last, _)| last != number) {
            self.load_errors.push((number, String::from_utf8_lossy(error.as_bytes()).into_owned()));
        }
    }

    /// Logs the position in a replication stream of the data loaded last.
    pub(in crate::server) fn log_position(&self) {
        if let Some(position) = &self.resumable {
            tracing::info!(
                "The data are those of offset {} in the history {}",
                position.offset,
                position.id.escape_ascii()
            );
        }
    }

    /// The errors since the last call.
    pub(in crate::server) fn take_load_errors(&mut self) -> Vec<(u64, String)> {
        std::mem::take(&mut self.load_errors)
    }
}

/// How far loading has come.
#[derive(Debug)]
pub struct Loading {
    /// Time at which loading began.
    pub started: UnixMillis,
    /// Size of the files in bytes, 0 if unknown.
    pub total_bytes: u64,
    /// Bytes loaded so far.
    pub loaded_bytes: u64,
    /// What the server that wrote the file had in use.
    pub used_memory: i64,
    progress: Progress,
}

impl Loading {
    /// Loading that begins now, of so many bytes, 0 if that is unknown.
    fn begin(total_bytes: u64) -> Loading {
        let progress = Progress::new("Loading", total_bytes, Unit::Bytes, Lines::Log);
        Loading { started: UnixMillis::now(), total_bytes, loaded_bytes: 0, used_memory: 0, progress }
    }

    /// So many bytes are loaded. To be called every few hundred kilobytes.
    pub(super) fn reached(&mut self, bytes: u64) {
        self.loaded_bytes = bytes;
        self.progress.at(bytes);
    }

    /// The part that is loaded, from 0 to 1. Where the size is unknown, it is estimated from the memory that the data
    /// took before.
    pub fn part(&self) -> f64 {
        let loaded = self.loaded_bytes as f64;
        if self.total_bytes > 0 {
            return loaded / self.total_bytes as f64;
        }
        if self.used_memory > 0 { (loaded / self.used_memory as f64).min(0.9999) } else { 0.0 }
    }
}

/// Why loading stops for a moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pause {
    /// Others are served without waiting; there is more to load.
    Busy,
    /// The source has nothing more for now: others are served until it has, but for not more than a tenth of a second.
    Starved,
}

/// What is done during a pause. An error ends the loading.
pub type Between<'a> = dyn FnMut(&mut Server, Pause) -> io::Result<()> + 'a;

/// Data that are loaded while others are served.
pub(super) struct Aside {
    pub(super) new: Replacement,
    /// Texts of libraries of functions.
    pub(super) libraries: Vec<Vec<u8>>,
}

/// Why the data could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// The file cannot be opened.
    #[error("can't open the RDB file {path} for reading: {}", error_text(.error))]
    Open {
        /// Path of the file.
        path: String,
        /// Error of the system.
        error: io::Error,
    },
    /// The file could not be loaded.
    #[error("{0}")]
    Load(LoadError),
    /// One is loaded already, or a script runs.
    #[error("a file is being loaded, or a script runs")]
    Busy,
}

/// Stands still after each key, as told by tests: so many microseconds, or if negative, one after so many keys.
pub(in crate::server) fn pause_after_key(keys: u64, delay_us: i64) {
    if delay_us > 0 {
        std::thread::sleep(Duration::from_micros(delay_us.unsigned_abs()));
    } else if delay_us < 0 && keys.is_multiple_of(delay_us.unsigned_abs()) {
        std::thread::sleep(Duration::from_micros(1));
    }
}

/// The name of the file that the process `pid` writes a snapshot to, until it is whole.
pub(in crate::server) fn temporary_name(pid: u32) -> String {
    format!("temp-{pid}.rdb")
}

/// Options for loading a snapshot.
pub(super) fn load_options(config: &Config, replace: bool, drop_due: bool) -> LoadOptions {
    LoadOptions {
        limits: config.limits.types.clone(),
        drop_due: drop_due.then(UnixMillis::now),
        // Redis has them expire with the events that belong to it.
        drop_due_fields: config.limits.compat_version.is_valkey(),
        replace,
        checksum: config.persistence.rdb_checksum,
        skip_unsupported: config.persistence.rdb_skip_unsupported,
        note_dropped: drop_due,
    }
}

/// Logs why loading a snapshot failed.
pub(in crate::server) fn log_load_error(error: &LoadError) {
    let kind = match error.fault {
        Fault::Checksum { .. } => "RDB CRC error: ",
        Fault::Truncated => "Short read or OOM loading DB. Unrecoverable error, aborting now: ",
        Fault::Duplicate => "RDB has duplicated keys: ",
        _ => "",
    };
    tracing::warn!("Internal error in RDB reading offset {}: {kind}{}", error.offset, error.fault);
    tracing::warn!("The data cannot be loaded: {error}");
}

/// Logs what a file says about itself.
fn log_header(loader: &Loader<'_>) {
    let about = loader.about();
    let (version, newest) = (loader.version(), Dialect::of(loader.version()).newest());
    if version > newest {
        tracing::warn!(
            "The data are in version {version} of the RDB format, and {newest} is the newest that is known: they may have \
             types that are not"
        );
    }
    if let Some(writer) = &about.writer {
        tracing::info!("Loading RDB produced by version {}", crate::stdx::text::Lossy(writer));
    }
    if let Some(created) = about.created {
        tracing::info!("RDB age {} seconds", (UnixMillis::now().as_secs() - created).max(0));
    }
    if let Some(used) = about.used_memory {
        tracing::info!("RDB memory usage when created {:.2} Mb", used as f64 / (1 << 20) as f64);
    }
    if about.aof_base {
        tracing::info!("RDB is base AOF");
    }
}

impl Server {
    /// How snapshots are to be written now.
    pub fn save_options(&self) -> SaveOptions {
        let access = match self.config.memory.policy {
            EvictionPolicy::AllkeysLru
            | EvictionPolicy::VolatileLru
            | EvictionPolicy::AllkeysLrm
            | EvictionPolicy::VolatileLrm => SavedAccess::Idle,
            EvictionPolicy::AllkeysLfu | EvictionPolicy::VolatileLfu => SavedAccess::Frequency,
            _ => SavedAccess::None,
        };
        let wanted = Version::newest(self.config.persistence.rdb_save_version);
        SaveOptions {
            version: save::version_for(&self.keyspace, wanted),
            access,
            aof_base: false,
            created: UnixMillis::now().as_secs(),
            used_memory: alloc::used() as u64,
            redis_version: REDIS_VERSION,
            replication: self.snapshot_position(),
            slot_imports: self.saved_imports(),
            ..SaveOptions::default()
        }
    }

    // ---- saving ---------------------------------------------------------------------------

    /// Writes a snapshot to `path` and flushes it to disk. `each` is called after each key.
    ///
    /// # Errors
    /// The file cannot be written; what there is of it is gone again.
    pub fn write_rdb(
        &self,
        path: &Path,
        options: &SaveOptions,
        mut each: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let config = &self.config.persistence;
        let mut file = SyncedFile::new(create_exclusively(path, 0o666)?, config.rdb_save_incremental_fsync);
        let mut out = Output::to(&mut file, config.rdb_compression, config.rdb_checksum);
        let libraries: Vec<&[u8]> =
            self.scripts.idle_engine().into_iter().flat_map(|engine| engine.library_texts()).collect();
        let written = save::save(&self.keyspace, &libraries, options, &mut out, &mut each)
            .and_then(|()| out.end())
            .and_then(|_| file.file.sync_all());
        if written.is_err() {
            // The reason why it could not be written matters, not why it could not be removed.
            let _ = fs::remove_file(path);
        }
        written
    }

    /// Writes the snapshot under its name.
    fn write_snapshot(
        &self,
        options: &SaveOptions,
        each: impl FnMut(u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let name = &self.config.persistence.dbfilename;
        let temporary = PathBuf::from(temporary_name(std::process::id()));
        let written = self.write_rdb(&temporary, options, each).and_then(|()| {
            fs::rename(&temporary, name).inspect_err(|_| drop(fs::remove_file(&temporary)))?;
            // The new name is on disk only once its directory is.
            File::open(".")?.sync_all()
        });
        match &written {
            Ok(()) => tracing::info!("DB saved on disk"),
            Err(error) => tracing::warn!(
                "Error saving the DB on disk ({name}, in directory {}): {}",
                self.config.persistence.dir,
                error_text(error)
            ),
        }
        written
    }

    /// Takes a snapshot now, while everybody waits.
    ///
    /// # Errors
    /// The file cannot be written, as the log says.
    pub fn save_now(&mut self) -> io::Result<()> {
        let delay_us = i64::from(self.config.debug.rdb_key_save_delay_us);
        let options = self.save_options();
        self.write_snapshot(&options, |keys| {
            pause_after_key(keys, delay_us);
            Ok(())
        })?;
        self.keyspace.ledger.dirty = 0;
        self.persistence.bgsave_ok = true;
        self.persistence.saves += 1;
        self.persistence.saved_at = UnixMillis::now();
        self.note_disk_error();
        Ok(())
    }

    /// Has a child take a snapshot.
    ///
    /// # Errors
    /// There is a child already, or there can be none.
    pub fn save_in_background(&mut self) -> io::Result<()> {
        let options = self.save_options();
        self.save_in_background_as(options)
    }

    /// Has a child take a snapshot in a version of the format that waiting replicas can read.
    ///
    /// # Errors
    /// As [`Server::save_in_background`], or none can hold all data.
    pub(in crate::server) fn save_for_replicas(&mut self, version: SnapshotVersion) -> io::Result<()> {
        let options = self.replica_save_options(version, Filter::ALL)?;
        self.save_in_background_as(options)
    }

    /// How a snapshot for replicas is written that can read `version`.
    ///
    /// # Errors
    /// There is no version that they can read and that can hold all data.
    pub(in crate::server) fn replica_save_options(
        &self,
        version: SnapshotVersion,
        filter: Filter,
    ) -> io::Result<SaveOptions> {
        let reader = match version {
            SnapshotVersion::Oldest => Reader::Unknown,
            SnapshotVersion::Redis(number) => Reader::Redis(number),
            SnapshotVersion::Valkey9 => Reader::Valkey9,
        };
        let version = save::version_for_reader(&self.keyspace, reader).map_err(io::Error::other)?;
        let parts = SavedParts { keys: filter.keys, functions: filter.functions };
        Ok(SaveOptions { version, parts, ..self.save_options() })
    }

    fn save_in_background_as(&mut self, options: SaveOptions) -> io::Result<()> {
        self.persistence.dirty_at_fork = self.keyspace.ledger.dirty;
        self.persistence.tried = Some(Instant::now());
        let delay_us = i64::from(self.config.debug.rdb_key_save_delay_us);
        let forked = self.fork(Task::Rdb, |server, reporter| {
            server.write_snapshot(&options, |keys| {
                reporter.written(keys)?;
                pause_after_key(keys, delay_us);
                Ok(())
            })
        });
        match forked {
            Ok(pid) => {
                tracing::info!("Background saving started by pid {pid}");
                Ok(())
            }
            Err(error) => {
                self.persistence.bgsave_ok = false;
                tracing::warn!("Can't save in background: fork: {}", error_text(&error));
                self.advise_on_failed_fork();
                self.note_disk_error();
                Err(error)
            }
        }
    }

    /// A child that took a snapshot is gone.
    pub(in crate::server) fn snapshot_ended(&mut self, child: &Child, outcome: Outcome) {
        let persistence = &mut self.persistence;
        persistence.copied = child.report.copied;
        persistence.bgsave_took = Some(child.started.elapsed());
        match outcome {
            Outcome::Success => {
                tracing::info!("Background saving terminated with success");
                let ledger = &mut self.keyspace.ledger;
                ledger.dirty = ledger.dirty.saturating_sub(persistence.dirty_at_fork);
                persistence.saved_at = UnixMillis::now();
                persistence.bgsave_ok = true;
                persistence.saves += 1;
            }
            Outcome::Failure => {
                tracing::warn!("Background saving error");
                persistence.bgsave_ok = false;
            }
            Outcome::Signal(signal) => {
                tracing::warn!("Background saving terminated by signal {signal}");
                // It may be gone already; whatever the reason, the next snapshot is not in its way.
                let _ = fs::remove_file(temporary_name(child.pid.unsigned_abs()));
                // That signal says that nobody wants the snapshot any more.
                persistence.bgsave_ok &= signal == libc::SIGUSR1;
            }
        }
        self.note_disk_error();
        self.snapshot_file_ready(outcome);
    }

    /// Holds up writes while the data cannot be saved, if so configured.
    pub fn note_disk_error(&mut self) {
        let config = &self.config.persistence;
        let refused =
            !self.persistence.bgsave_ok && config.stop_writes_on_bgsave_error && !config.save.0.is_empty();
        let refused = refused || self.aof.error().is_some();
        if refused != self.conditions.has(Conditions::DISK_ERROR) {
            self.tell_saving(refused);
        }
        self.conditions.set(Conditions::DISK_ERROR, refused);
    }

    /// Takes a snapshot if one is scheduled, or a rule demands it. Called by the timer.
    pub(in crate::server) fn save_if_due(&mut self) {
        if self.children.any() || self.persistence.loading.is_some() {
            return;
        }
        let may_try = self.persistence.bgsave_ok
            || self.persistence.tried.is_none_or(|tried| tried.elapsed() > RETRY_AFTER);
        let dirty = self.keyspace.ledger.dirty;
        let elapsed_s = (self.keyspace.now().0 - self.persistence.saved_at.0) / 1000;
        let rules = self.config.persistence.save.0.iter();
        let mut met =
            rules.filter(|rule| dirty >= u64::from(rule.changes) && elapsed_s > i64::from(rule.seconds));
        if may_try && let Some(rule) = met.next() {
            tracing::info!("{} changes in {} seconds. Saving...", rule.changes, rule.seconds);
            // The reason is in the log, and there will be another try.
            let _ = self.save_in_background();
        } else if may_try && self.persistence.scheduled && self.save_in_background().is_ok() {
            self.persistence.scheduled = false;
        }
    }

    /// All keys were removed on demand: a snapshot that has them must neither be finished nor be loaded.
    pub fn emptied_on_demand(&mut self) {
        if self.children.any_for_snapshot() {
            self.kill_child();
        }
        if !self.config.persistence.save.0.is_empty() && self.persistence.loading.is_none() {
            // The reason is in the log. If it fails, the changes are still counted and a rule will demand it again.
            let _ = self.save_now();
        }
    }

    // ---- loading --------------------------------------------------------------------------

    /// Loads the snapshot, adding to what is there. While it lasts, `between` is called now and then.
    ///
    /// # Errors
    /// There is no such file, or it is damaged; what was loaded before that point stays.
    pub fn load_rdb(
        &mut self,
        path: &Path,
        replace: bool,
        mut between: impl FnMut(&mut Server) -> io::Result<()>,
    ) -> Result<(), LoadFailure> {
        let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
        if !self.begin_loading(size) {
            return Err(LoadFailure::Busy);
        }
        let options = load_options(&self.config, replace, true);
        let result = self.load_rdb_with(path, options, 0, &mut |server, _| between(server)).map(drop);
        self.end_loading();
        self.persistence.log_position();
        result
    }

    /// As [`Server::load_rdb`], for a snapshot at the beginning of a part of an append-only file that is being loaded, and
    /// of which `bytes_before` came before: keys that are due stay, as what follows counts on them. The offset of what
    /// follows.
    ///
    /// # Errors
    /// As there.
    pub(in crate::server) fn load_rdb_part(
        &mut self,
        path: &Path,
        bytes_before: u64,
        mut between: impl FnMut(&mut Server) -> io::Result<()>,
    ) -> Result<u64, LoadFailure> {
        let options = load_options(&self.config, false, false);
        self.load_rdb_with(path, options, bytes_before, &mut |server, _| between(server))
    }

    fn load_rdb_with(
        &mut self,
        path: &Path,
        options: LoadOptions,
        bytes_before: u64,
        between: &mut Between<'_>,
    ) -> Result<u64, LoadFailure> {
        let open = || -> io::Result<_> {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            Ok((file, size))
        };
        let (file, size) =
            open().map_err(|error| LoadFailure::Open { path: path.to_string_lossy().into_owned(), error })?;
        let mut loader = Loader::new(Box::new(file), Some(size), options);
        let result = self.load_steps(&mut loader, bytes_before, None, between);
        self.persistence.last_load = loader.tally();
        self.persistence.resumable = if result.is_ok() { loader.position() } else { None };
        self.persistence.dropped = loader.take_dropped();
        result.map(|()| loader.offset()).map_err(LoadFailure::Load)
    }

    /// Loads all of a snapshot: into the data served, or aside.
    pub(super) fn load_steps(
        &mut self,
        loader: &mut Loader<'_>,
        bytes_before: u64,
        mut aside: Option<&mut Aside>,
        between: &mut Between<'_>,
    ) -> Result<(), LoadError> {
        let mut told = false;
        let mut keys = 0;
        let mut next_poll = 0;
        loop {
            let delay_us = i64::from(self.config.debug.key_load_delay_us);
            let poll_every = u64::from(self.config.debug.loading_process_events_interval_bytes);
            let most_keys = if delay_us == 0 { u64::MAX } else { 1 };
            let step = match &mut aside {
                None => loader.step(&mut self.keyspace, poll_every, most_keys)?,
                Some(aside) => {
                    aside.new.access = self.keyspace.access;
                    loader.step(&mut aside.new, poll_every, most_keys)?
                }
            };
            let libraries = loader.take_libraries();
            match &mut aside {
                _ if libraries.is_empty() => {}
                None => self.take_up_libraries(&libraries, loader)?,
                Some(aside) => aside.libraries.extend(libraries),
            }
            if !told && loader.version() != 0 {
                told = true;
                log_header(loader);
            }
            if delay_us != 0 && step != Step::Starved {
                keys += 1;
                pause_after_key(keys, delay_us);
            }
            let persistence = &mut self.persistence;
            if let Some(loading) = persistence.loading.as_mut().or(persistence.async_loading.as_mut()) {
                loading.reached(bytes_before + loader.offset());
                loading.used_memory = loader.about().used_memory.unwrap_or(0);
            }
            if step == Step::Done {
                break;
            }
            if step == Step::Starved || loader.offset() >= next_poll {
                next_poll = loader.offset() + poll_every;
                let pause = if step == Step::Starved { Pause::Starved } else { Pause::Busy };
                between(self, pause).map_err(|error| LoadError {
                    fault: Fault::Io(error),
                    offset: loader.offset(),
                    key: None,
                    value_type: None,
                })?;
            }
        }
        self.adopt_imports(&loader.about().slot_imports);
        let tally = loader.tally();
        let empty = match tally.empty {
            0 => String::new(),
            n => format!(", empty keys skipped: {n}"),
        };
        let skipped = match tally.skipped {
            0 => String::new(),
            n => format!(", unsupported values left out: {n}"),
        };
        tracing::info!(
            "Done loading RDB, keys loaded: {}, keys expired: {}{empty}{skipped}.",
            tally.loaded,
            tally.expired
        );
        Ok(())
    }

    /// Loads the libraries of functions that a file has.
    fn take_up_libraries(&mut self, texts: &[Vec<u8>], loader: &Loader<'_>) -> Result<(), LoadError> {
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let policy = if loader.replaces() { Policy::Replace } else { Policy::Append };
        self.scripts.engine().restore_libraries(&texts, policy).map_err(|error| LoadError {
            fault: Fault::Unsupported(format!(
                "Failed creating the library: {}",
                crate::stdx::text::Lossy(error.as_bytes())
            )),
            offset: loader.offset(),
            key: None,
            value_type: None,
        })
    }

    /// From here to [`Server::end_loading`] the data are incomplete: most commands are refused, nothing expires, and
    /// nothing is passed on. False if that is so already: no file is loaded while another one is.
    #[must_use]
    pub(in crate::server) fn begin_loading(&mut self, total_bytes: u64) -> bool {
        if self.persistence.loading.is_some() || self.persistence.async_loading.is_some() {
            return false;
        }
        self.fail_migrations();
        self.persistence.loading = Some(Loading::begin(total_bytes));
        self.persistence.resumable = None;
        self.persistence.dropped.clear();
        self.conditions.set(Conditions::LOADING, true);
        self.keyspace.suspend_expiry(Suspend::Loading, !Origin::Loading.expires());
        self.keyspace.ledger.mute(!Origin::Loading.feeds());
        true
    }

    /// From here to [`Server::end_async_loading`] data are loaded that will replace those served.
    pub(super) fn begin_async_loading(&mut self, total_bytes: u64) {
        self.persistence.async_loading = Some(Loading::begin(total_bytes));
        self.conditions.set(Conditions::ASYNC_LOADING, true);
    }

    /// Loading is done, or was given up.
    pub(super) fn end_async_loading(&mut self) {
        self.persistence.async_loading = None;
        self.conditions.set(Conditions::ASYNC_LOADING, false);
    }

    /// The data are complete, or loading was given up.
    pub(in crate::server) fn end_loading(&mut self) {
        self.persistence.loading = None;
        self.conditions.set(Conditions::LOADING, false);
        self.keyspace.suspend_expiry(Suspend::Loading, false);
        self.keyspace.ledger.mute(false);
    }
}
