//! The append-only file in the life of the server: kept, rewritten, switched on and off, held to its promises.
//!
//! What commands pass on is gathered in the log's buffer and flushed once per turn, before any reply leaves. With
//! `appendfsync always` a reply is held back until everything it tells of is durable ([`WithheldOutput`](crate::clients::withheld::WithheldOutput)), while the loop
//! goes on: all requests that arrive during one sync share the next. Who reads keys that did not change lately gets the
//! answer at once ([`Recent`]); anything else waits for all that was executed before it.
//!
//! A rewrite writes a new base in a child process, and a new increment begins when the child does, so that the two
//! together are whole. Only when the base is complete does the manifest name it. When the file is switched on at run
//! time there is nothing yet to add to: until the first base is there, what happens is kept in a temporary increment.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::background::Worker;
use crate::clients::{ClientFlags, ClientKey};
use crate::config::value::AppendFsync;
use crate::keyspace::Sink;
use crate::keyspace::ledger::Change;
use crate::net::error_text;
use crate::persistence::aof::log::{Flushed, Policy};
use crate::persistence::aof::manifest::sync_directory;
use crate::persistence::aof::{AofLog, Manifest, rewrite};
use crate::persistence::rdb::output::SyncedFile;
use crate::resp::Args;
use crate::server::Server;
use crate::server::command::{Acl, Flags, KeyFlags, KeySpec, Spec};
use crate::server::durability::child::{Child, Outcome, Task};
use crate::stdx::clock::UnixMillis;
use crate::stdx::files::create_exclusively;
use crate::stdx::hash;

/// Failures in a row from which on a rewrite is not tried again at once.
const FAILURES_BORNE: u64 = 3;
/// The longest time until it is.
const LONGEST_DELAY_MIN: u64 = 60;
/// Time between two lines about the same trouble.
const QUIET: Duration = Duration::from_secs(30);

/// Whether changes are written down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum State {
    /// There is no append-only file.
    #[default]
    Off,
    /// Commands are appended to the file.
    On,
    /// Switched on; the first base is being written.
    Beginning,
}

/// When keys changed last, in offsets of the log: never earlier than they did. Keys share places, so it may be later.
#[derive(Default)]
struct Recent {
    /// Empty until something changes.
    places: Box<[u64]>,
    /// All keys may have changed here.
    all: u64,
}

impl Recent {
    /// Some hundred writes may be under way at once, and a client may read a dozen keys at a time: with so many places,
    /// few of its replies wait for a key that only shares one.
    const PLACES: usize = 1 << 16;

    fn place(hash: u64) -> usize {
        hash as usize % Recent::PLACES
    }

    fn note(&mut self, change: &Change, keys: &[u8], offset: u64) {
        if self.places.is_empty() {
            self.places = vec![0; Recent::PLACES].into();
        }
        match change {
            Change::Key { key, .. }
            | Change::Beside { key, .. }
            | Change::Gone { key, .. }
            | Change::FieldGone { key, .. } => {
                self.places[Recent::place(hash::hash(&keys[key.clone()]))] = offset;
            }
            Change::Flushed { .. } | Change::Swapped { .. } => self.all = offset,
            Change::EventOnly { .. } => {}
        }
    }

    /// The last change of the key with this hash.
    fn of(&self, hash: u64) -> u64 {
        self.places.get(Recent::place(hash)).map_or(self.all, |&changed| changed.max(self.all))
    }
}

/// Whether a group waits for clients that were just answered: they are likely to write again at once, and then two
/// groups that take turns become one, with half as many syncs.
#[derive(Default)]
struct Gathering {
    /// The group is not handed over before this moment, unless everybody is there.
    until: Option<Instant>,
    /// So many clients wait when everybody is there.
    complete: usize,
    /// How many of them waited when the others were answered.
    early: usize,
    /// How many clients come back in time, of 256, as a moving average.
    returning: usize,
    /// When the last group was handed over.
    handed_over: Option<Instant>,
}

impl Gathering {
    const LONGEST: Duration = Duration::from_millis(2);

    /// A group is durable: `answered` clients got their replies, and `waiting` others wait for the next group.
    fn begin(&mut self, answered: usize, waiting: usize) {
        if self.until.is_none() {
            // While nobody is waited for, those who came during the sync show whether it would be worth it.
            self.observe(waiting, answered);
        }
        let now = Instant::now();
        // To wait for as long as a sync takes costs those who are there already no more than to miss this one.
        let took = self.handed_over.map_or(Duration::ZERO, |then| now - then);
        self.until = (self.returning >= 128).then(|| now + took.min(Gathering::LONGEST));
        self.complete = waiting + answered;
        self.early = waiting;
    }

    fn observe(&mut self, came: usize, of: usize) {
        self.returning = (self.returning * 3 + came.min(of) * 256 / of.max(1)) / 4;
    }

    /// Whether the group with `waiting` clients should wait for more.
    fn goes_on(&mut self, waiting: usize) -> bool {
        let Some(until) = self.until else { return false };
        if waiting < self.complete && Instant::now() < until {
            return true;
        }
        self.until = None;
        self.observe(waiting.saturating_sub(self.early), self.complete - self.early);
        false
    }

    /// How long the loop may sleep.
    fn patience(&self) -> Duration {
        self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
    }
}

/// What the server remembers of its append-only file.
pub struct Aof {
    /// Whether there is a log, or one is about to start.
    pub state: State,
    /// The log that is written.
    pub log: AofLog,
    manifest: Manifest,
    /// Bytes of all files but the current increment.
    other_bytes: u64,
    /// Bytes of all files after the last rewrite, or when they were loaded.
    pub base_size: u64,
    /// A rewrite is to begin as soon as there is no child.
    pub rewrite_scheduled: bool,
    /// Whether the last rewrite succeeded.
    pub rewrite_ok: bool,
    /// Number of rewrites since the start.
    pub rewrites: u64,
    /// Number of consecutive failed rewrites.
    pub failures: u64,
    retry_delay_min: u64,
    retry_at: Option<Instant>,
    /// Duration of the last rewrite.
    pub rewrite_took: Option<Duration>,
    /// Bytes that had to be copied during the last rewrite.
    pub copied: u64,
    /// Whether the base being written is a snapshot.
    writes_snapshot: bool,
    /// Why the disk did not take the last write.
    error: Option<String>,
    error_logged_at: Option<Instant>,
    /// The second that was noted in the file last.
    noted_second: i64,
    /// Clients whose replies wait for what was appended up to an offset.
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

    /// The next rewrite need not wait because others failed.
    pub fn forget_failures(&mut self) {
        self.failures = 0;
        self.retry_delay_min = 0;
        self.retry_at = None;
    }

    /// Why the disk does not take what is written, if that is so.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }
}

impl Server {
    fn aof_directory(&self) -> PathBuf {
        PathBuf::from(&self.config.persistence.appenddirname)
    }

    fn aof_policy(&self) -> Policy {
        match self.config.persistence.appendfsync {
            AppendFsync::No => Policy::No,
            AppendFsync::EverySec => Policy::EverySecond,
            AppendFsync::Always => Policy::Always,
        }
    }

    // ---- writing --------------------------------------------------------------------------

    /// Adds a unit of execution to the file, or each of its parts as one if `apart`.
    pub(in crate::server) fn append_to_log(&mut self, apart: bool) {
        let log = &mut self.aof.log;
        if self.config.persistence.aof_timestamp_enabled {
            let second = self.keyspace.now().as_secs();
            if second != self.aof.noted_second {
                self.aof.noted_second = second;
                log.buf.extend_from_slice(format!("#TS:{second}\r\n").as_bytes());
            }
        }
        self.execution.unit.write(&mut log.selected, apart, &mut log.buf);
    }

    /// Writes what was appended. `force` does not make way for a sync under way.
    pub(in crate::server) fn flush_aof(&mut self, force: bool) {
        if self.aof.state == State::Off {
            return;
        }
        let policy = self.aof_policy();
        let may_sync = !(self.config.persistence.no_appendfsync_on_rewrite && self.has_child());
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

    fn aof_failed(&mut self, doing: &str, error: &io::Error) {
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

    /// Whether replies wait until the file is durable.
    #[inline]
    pub(in crate::server) fn withholds_replies(&self) -> bool {
        self.config.persistence.appendfsync == AppendFsync::Always && self.aof.state == State::On
    }

    /// Notes which keys changed, before that is appended.
    pub(in crate::server) fn note_recent(&mut self, changes: &[Change], keys: &[u8]) {
        let offset = self.aof.log.appended() + 1;
        for change in changes {
            self.aof.recent.note(change, keys, offset);
        }
    }

    /// A client was answered a request. If that only reads keys it names, the answer tells of nothing but their last
    /// changes. `before` is the end of the client's output before it was answered, and whether all of that was sent.
    pub(in crate::server) fn vouch(
        &mut self,
        key: ClientKey,
        spec: &Spec,
        args: &Args<'_>,
        before: (u64, bool),
    ) {
        let hidden = |keys: &KeySpec| keys.flags.has(KeyFlags::INCOMPLETE);
        if !spec.flags.has(Flags::READONLY) || spec.acl.has(Acl::SCRIPTING) || spec.keys.iter().any(hidden) {
            return;
        }
        let mut offset = None;
        let recent = &self.aof.recent;
        if spec.each_key(args, &mut |i, _| offset = offset.max(Some(recent.of(args.key(i).hash())))) {
            let client = &mut self.clients[key];
            let (before, after) = (before, client.output_end());
            if let Some(offset) = offset {
                client.dependency.add(before.0, after, offset, before.1);
            }
        }
    }

    /// Writes what this turn appended before its replies leave, or has the replies wait for that.
    #[inline]
    pub(in crate::server) fn flush_or_withhold(&mut self) {
        if self.withholds_replies() {
            self.withhold_undurable();
            if !self.aof.gathering.goes_on(self.aof.waiting.len()) {
                let before = self.aof.log.handed_over();
                self.flush_aof(false);
                if self.aof.log.handed_over() > before {
                    self.aof.gathering.handed_over = Some(Instant::now());
                }
            }
            return;
        }
        self.flush_aof(false);
        if !self.aof.waiting.is_empty() {
            self.release_replies(u64::MAX);
        }
    }

    /// How long the loop may sleep before a group is to be handed over, or a write has waited enough.
    pub(in crate::server) fn until_flush(&self) -> Duration {
        // Nobody ends a group's waiting once replies are not held any more.
        let patience = if self.withholds_replies() { self.aof.gathering.patience() } else { Duration::MAX };
        self.aof.log.until_forced_write().map_or(patience, |written| patience.min(written))
    }

    fn withhold_undurable(&mut self) {
        let (appended, durable) = (self.aof.log.appended(), self.aof.log.durable());
        let answered = self.release_replies(durable);
        if answered > 0 {
            self.aof.gathering.begin(answered, self.aof.waiting.len());
        }
        if appended <= durable {
            return;
        }
        let under_way = self.aof.log.handed_over();
        let mut sending = std::mem::take(&mut self.event_loop.sending);
        sending.retain(|&key| {
            let Some(client) = self.clients.get_mut(key) else { return false };
            let end = client.output_end();
            // Whole groups become durable: what was handed over, or all that was appended.
            let offset = match client.dependency.take(end) {
                Some(offset) if offset <= durable && client.withheld_output.is_empty() => return true,
                Some(offset) if offset <= under_way => under_way,
                _ => appended,
            };
            if client.withheld_output.is_empty() {
                self.aof.waiting.push(key);
            }
            client.withheld_output.add(offset, end, under_way);
            client.flags.set(ClientFlags::IN_SEND_LIST, false);
            false
        });
        self.event_loop.sending = sending;
    }

    /// Sends what may leave now that the log is durable up to `durable`; how many clients need not wait any longer.
    fn release_replies(&mut self, durable: u64) -> usize {
        let before = self.aof.waiting.len();
        let mut waiting = std::mem::take(&mut self.aof.waiting);
        waiting.retain(|&key| {
            let Some(client) = self.clients.get_mut(key) else { return false };
            if let Some(upto) = client.withheld_output.release(durable) {
                let bytes = usize::try_from(upto.saturating_sub(client.total_out)).unwrap_or(usize::MAX);
                self.send_to(key, bytes);
            }
            self.clients.get(key).is_some_and(|client| !client.withheld_output.is_empty())
        });
        let answered = before - waiting.len();
        self.aof.waiting = waiting;
        answered
    }

    // ---- starting, switching on and off -----------------------------------------------------

    /// Reads the manifest, and makes a single file of the old kind the first part of a new one.
    ///
    /// # Errors
    /// A line for the log: the manifest is damaged, or cannot be read or written.
    pub(in crate::server) fn read_manifest(&mut self) -> Result<(), String> {
        let dir = self.aof_directory();
        let prefix = self.config.persistence.appendfilename.clone();
        let path = dir.join(Manifest::file_name(&prefix));
        self.aof.manifest = match fs::read(&path) {
            Ok(text) => Manifest::parse(&text).map_err(|error| error.to_string())?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Manifest::default(),
            Err(error) => {
                return Err(format!(
                    "Fatal error: can't open the AOF manifest file {} for reading: {}",
                    path.display(),
                    error_text(&error)
                ));
            }
        };
        Ok(())
    }

    fn adopt_old_file(&mut self) -> Result<(), String> {
        let dir = self.aof_directory();
        let prefix = self.config.persistence.appendfilename.clone();
        let old = Path::new(&prefix);
        if !old.is_file() {
            return Ok(());
        }
        let manifest = &self.aof.manifest;
        // The file may have been listed when the server was stopped, and not have been moved yet.
        let half_way = manifest.increments.is_empty()
            && manifest.base.as_ref().is_some_and(|base| base.name == prefix)
            && !dir.join(&prefix).exists();
        if !manifest.is_empty() && !half_way {
            return Ok(());
        }
        let moved = fs::create_dir_all(&dir)
            .and_then(|()| {
                self.aof.manifest = Manifest::of_single_file(&prefix);
                self.aof.manifest.store(&dir, &prefix).map_err(io::Error::from)
            })
            .and_then(|()| fs::rename(old, dir.join(&prefix)))
            .and_then(|()| sync_directory(&dir));
        moved.map_err(|error| {
            format!(
                "Error trying to move the old AOF file {prefix} into dir {}: {}",
                dir.display(),
                error_text(&error)
            )
        })?;
        tracing::info!(
            "Successfully migrated an old-style AOF configuration ({prefix}) into the AOF directory ({}).",
            dir.display()
        );
        Ok(())
    }

    /// Loads all parts of the append-only file, if there are any. While it lasts, `between` is called now and then.
    ///
    /// # Errors
    /// A line for the log: a part is missing or damaged; what was loaded before that stays.
    pub fn load_aof(
        &mut self,
        between: &mut dyn FnMut(&mut Server) -> io::Result<()>,
    ) -> Result<bool, String> {
        self.adopt_old_file()?;
        if self.aof.manifest.is_empty() {
            return Ok(false);
        }
        if self.persistence.loading.is_some() {
            return Err("Can't load the append-only file while another file is being loaded.".into());
        }
        let loaded = self.load_aof_parts(between);
        self.end_loading();
        loaded.map(|()| true)
    }

    /// Whether there is anything that [`Server::load_aof`] could load.
    pub fn has_aof(&self) -> bool {
        !self.aof.manifest.is_empty()
    }

    fn load_aof_parts(
        &mut self,
        between: &mut dyn FnMut(&mut Server) -> io::Result<()>,
    ) -> Result<(), String> {
        let dir = self.aof_directory();
        let parts: Vec<_> = self.aof.manifest.parts().cloned().collect();
        let mut sizes = Vec::with_capacity(parts.len());
        for part in &parts {
            let size = fs::metadata(dir.join(&part.name)).map_err(|error| {
                format!(
                    "Fatal error: can't open the append log file {} for reading: {}",
                    part.name,
                    error_text(&error)
                )
            })?;
            sizes.push(size.len());
        }
        let total: u64 = sizes.iter().sum();
        assert!(self.begin_loading(total), "asked before");
        let mut before = 0;
        let last = parts.len() - 1;
        for (i, (part, size)) in parts.iter().zip(&sizes).enumerate() {
            let started = Instant::now();
            let path = dir.join(&part.name);
            self.load_aof_part(&path, &part.name, i == last, (before, total), between)?;
            before += size;
            let role = if self.aof.manifest.base.as_ref() == Some(part) { "base" } else { "incr" };
            tracing::info!(
                "DB loaded from {role} file {}: {:.3} seconds",
                part.name,
                started.elapsed().as_secs_f64()
            );
        }
        self.keyspace.ledger.dirty = 0;
        self.aof.other_bytes = total;
        self.aof.base_size = total;
        Ok(())
    }

    /// Makes the append-only file ready for writing, at start.
    ///
    /// # Errors
    /// A line for the log: a file cannot be made.
    pub(in crate::server) fn open_aof(&mut self) -> Result<(), String> {
        let dir = self.aof_directory();
        let prefix = self.config.persistence.appendfilename.clone();
        let fail = |what: &str, error: &io::Error| {
            format!("Can't {what} the append-only dir {}: {}", dir.display(), error_text(error))
        };
        fs::create_dir_all(&dir).map_err(|error| fail("open or create", &error))?;
        self.remove_history();
        let mut manifest = self.aof.manifest.clone();
        if manifest.base.is_none() && manifest.increments.is_empty() {
            let snapshot = self.config.persistence.aof_use_rdb_preamble;
            let name = manifest.begin_base(&prefix, snapshot);
            tracing::info!("Creating AOF base file {name} on server start");
            let path = dir.join(&name);
            self.write_base(&path, snapshot, |_| {}).map_err(|error| fail("write a base file to", &error))?;
        }
        let (name, open) = match manifest.increments.last() {
            Some(part) => {
                let name = part.name.clone();
                let open = OpenOptions::new().append(true).create(true).open(dir.join(&name));
                (name, open)
            }
            None => {
                let name = manifest.begin_increment(&prefix);
                tracing::info!("Creating AOF incr file {name} on server start");
                let open = create_exclusively(&dir.join(&name), 0o666);
                (name, open)
            }
        };
        let file =
            open.map_err(|error| format!("Can't open the append-only file {name}: {}", error_text(&error)))?;
        manifest.store(&dir, &prefix).map_err(|failure| fail("write the manifest to", &failure.error))?;
        self.aof.manifest = manifest;
        let size = file.metadata().map_or(0, |metadata| metadata.len());
        let bytes: u64 = self.aof_part_sizes();
        self.aof.log.switch(Some(file), size);
        self.aof.log.count_as_durable();
        self.aof.other_bytes = bytes - size;
        self.aof.base_size = bytes;
        self.set_aof_state(State::On);
        Ok(())
    }

    fn aof_part_sizes(&self) -> u64 {
        let dir = self.aof_directory();
        let parts = self.aof.manifest.parts();
        parts.map(|part| fs::metadata(dir.join(&part.name)).map_or(0, |metadata| metadata.len())).sum()
    }

    fn set_aof_state(&mut self, state: State) {
        self.aof.state = state;
        self.keyspace.ledger.feed(Sink::Log, state != State::Off);
    }

    /// Begins to write changes down, at run time.
    ///
    /// # Errors
    /// No child can be made that would write the first base.
    pub(in crate::server) fn start_aof(&mut self) -> Result<(), ()> {
        self.set_aof_state(State::Beginning);
        self.aof.rewrite_scheduled = true;
        if self.persistence.loading.is_some() {
            tracing::info!(
                "AOF was enabled while data are being loaded. It begins with a rewrite once they are complete."
            );
            return Ok(());
        }
        if self.execution.depth > 0 {
            // The first half of a transaction would be in the base and be written down after it as well.
            tracing::info!(
                "AOF was enabled during a transaction. An AOF background was scheduled to start when possible."
            );
            return Ok(());
        }
        if self.has_child() {
            tracing::info!(
                "AOF was enabled but there is already another background operation. An AOF background was scheduled to start when \
                 needed."
            );
            return Ok(());
        }
        if self.rewrite_aof().is_err() {
            self.set_aof_state(State::Off);
            self.aof.rewrite_scheduled = false;
            tracing::warn!(
                "Redis needs to enable the AOF but can't trigger a background AOF rewrite operation. Check the above logs for \
                 more info about the error."
            );
            return Err(());
        }
        Ok(())
    }

    /// Stops writing changes down; what is there stays.
    pub(in crate::server) fn stop_aof(&mut self) {
        if self.aof.state == State::Off {
            return;
        }
        if self.aof.state == State::On {
            self.flush_aof(true);
            self.finish_aof();
        }
        if self.has_child_for(Task::Aof) {
            let pid = self.children.current.as_ref().map_or(0, |child| child.pid);
            tracing::info!("Killing running AOF rewrite child: {pid}");
            self.kill_child();
        }
        self.set_aof_state(State::Off);
        self.aof.rewrite_scheduled = false;
        self.aof.log.buf = Vec::new();
        self.aof.log.switch(None, 0);
        self.aof.error = None;
        self.note_disk_error();
    }

    /// Writes everything, so that the files are what was executed.
    pub fn settle_aof(&mut self) {
        if self.aof.state == State::On {
            if !self.execution.unit.is_empty() {
                self.end_unit();
            }
            self.finish_aof();
        }
    }

    /// Waits until everything appended is durable. Trouble is told and kept.
    pub(in crate::server) fn finish_aof(&mut self) -> bool {
        match self.aof.log.finish(&self.background) {
            Ok(()) => true,
            Err(error) => {
                self.aof_failed("writing to", &error);
                false
            }
        }
    }

    // ---- rewriting --------------------------------------------------------------------------

    /// Writes all data to `path`, as a snapshot or as requests, and flushes them to disk.
    fn write_base(&self, path: &Path, snapshot: bool, mut each: impl FnMut(u64)) -> io::Result<()> {
        if snapshot {
            let mut options = self.save_options();
            options.aof_base = true;
            return self.write_rdb(path, &options, each);
        }
        let config = &self.config.persistence;
        let mut file =
            SyncedFile::new(create_exclusively(path, 0o666)?, config.aof_rewrite_incremental_fsync);
        let noted = match config.aof_timestamp_enabled {
            true => write!(file, "#TS:{}\r\n", UnixMillis::now().as_secs()),
            false => Ok(()),
        };
        let written = noted
            .and_then(|()| {
                rewrite::rewrite(&self.keyspace, &mut file, &mut |keys| {
                    each(keys);
                    Ok(())
                })
            })
            .and_then(|_| file.file.sync_all());
        if written.is_err() {
            // The reason why it could not be written matters, not why it could not be removed.
            let _ = fs::remove_file(path);
        }
        written
    }

    /// Has a child write a new base, and begins a new increment.
    ///
    /// # Errors
    /// There is a child already, or there can be none, or no file can be made; the log says why.
    pub fn rewrite_aof(&mut self) -> io::Result<()> {
        if self.has_child() {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let begun = self.begin_increment();
        self.aof.rewrite_scheduled = false;
        if let Err(error) = begun {
            tracing::warn!("Can't begin a new AOF file: {}", error_text(&error));
            self.rewrite_failed();
            return Err(error);
        }
        let snapshot = self.config.persistence.aof_use_rdb_preamble;
        self.aof.writes_snapshot = snapshot;
        let delay_us = i64::from(self.config.debug.rdb_key_save_delay_us);
        let forked = self.fork(Task::Aof, |server, reporter| {
            let path = PathBuf::from(temporary_base(std::process::id()));
            let written = server.write_base(&path, snapshot, |keys| {
                reporter.written(keys);
                crate::server::durability::persistence::pause_after_key(keys, delay_us);
            });
            match &written {
                Ok(()) => tracing::info!("SYNC append only file rewrite performed"),
                Err(error) => {
                    tracing::warn!("Write error writing append only file on disk: {}", error_text(error))
                }
            }
            written
        });
        match forked {
            Ok(pid) => {
                tracing::info!("Background append only file rewriting started by pid {pid}");
                Ok(())
            }
            Err(error) => {
                tracing::warn!("Can't rewrite append only file in background: fork: {}", error_text(&error));
                self.rewrite_failed();
                Err(error)
            }
        }
    }

    /// Goes on with a new increment: a temporary one as long as there is no base.
    fn begin_increment(&mut self) -> io::Result<()> {
        if self.aof.state == State::Off {
            return Ok(());
        }
        let dir = self.aof_directory();
        let prefix = self.config.persistence.appendfilename.clone();
        fs::create_dir_all(&dir)?;
        if self.aof.state == State::Beginning {
            let path = dir.join(temporary_increment(&prefix));
            let file = create_exclusively(&path, 0o666)?;
            self.aof.log.buf.clear();
            self.aof.log.switch(Some(file), 0);
            return Ok(());
        }
        self.flush_aof(true);
        if self.aof_policy() == Policy::Always {
            self.aof.log.finish(&self.background)?;
        } else {
            if !self.aof.log.buf.is_empty() {
                return Err(io::Error::other("the last file takes no more"));
            }
            self.aof.log.sync_later(&self.background);
        }
        let mut manifest = self.aof.manifest.clone();
        let name = manifest.begin_increment(&prefix);
        let path = dir.join(&name);
        let file = create_exclusively(&path, 0o666)?;
        if let Err(failure) = manifest.store(&dir, &prefix) {
            if failure.is_visible {
                self.aof.manifest.skip_numbers_of(&manifest);
            } else {
                // A file that no manifest names holds nothing.
                let _ = fs::remove_file(&path);
            }
            return Err(failure.error);
        }
        tracing::info!("Creating AOF incr file {name} on background rewrite");
        self.aof.manifest = manifest;
        self.aof.other_bytes += self.aof.log.file_size;
        if let Some(old) = self.aof.log.switch(Some(file), 0) {
            // The last reference may be the one to close, which takes its time.
            self.background.submit(Worker::CloseFile, move || drop(old));
        }
        Ok(())
    }

    fn rewrite_failed(&mut self) {
        self.aof.rewrite_ok = false;
        self.aof.failures += 1;
        if self.aof.state == State::Beginning {
            let prefix = &self.config.persistence.appendfilename;
            let name = temporary_increment(prefix);
            tracing::info!("Removing the temp incr aof file {name} after the rewrite failed");
            let _ = fs::remove_file(self.aof_directory().join(name));
            self.aof.log.buf.clear();
            self.aof.log.switch(None, 0);
            self.aof.rewrite_scheduled = true;
        }
    }

    /// A child that wrote a base is gone.
    pub(in crate::server) fn rewrite_ended(&mut self, child: &Child, outcome: Outcome) {
        self.aof.copied = child.report.copied;
        self.aof.rewrite_took = Some(child.started.elapsed());
        let temporary = PathBuf::from(temporary_base(child.pid.unsigned_abs()));
        match outcome {
            Outcome::Success => {
                tracing::info!("Background AOF rewrite terminated with success");
                match self.adopt_base(&temporary) {
                    Ok(()) => {
                        self.aof.rewrite_ok = true;
                        self.aof.rewrites += 1;
                        self.aof.failures = 0;
                        self.aof.retry_delay_min = 0;
                        self.aof.retry_at = None;
                        tracing::info!("Background AOF rewrite finished successfully");
                    }
                    Err(error) => {
                        tracing::warn!("Error taking over the rewritten AOF: {}", error_text(&error));
                        let _ = fs::remove_file(&temporary);
                        self.rewrite_failed();
                    }
                }
            }
            Outcome::Failure => {
                tracing::warn!("Background AOF rewrite terminated with error");
                let _ = fs::remove_file(&temporary);
                self.rewrite_failed();
            }
            Outcome::Signal(signal) => {
                tracing::warn!("Background AOF rewrite terminated by signal {signal}");
                let _ = fs::remove_file(&temporary);
                // That signal says that nobody wants the new base any more.
                if signal != libc::SIGUSR1 {
                    self.rewrite_failed();
                }
            }
        }
    }

    /// Makes a base that is written the one that counts.
    fn adopt_base(&mut self, temporary: &Path) -> io::Result<()> {
        let dir = self.aof_directory();
        let prefix = self.config.persistence.appendfilename.clone();
        let beginning = self.aof.state == State::Beginning;
        fs::create_dir_all(&dir)?;
        let mut manifest = self.aof.manifest.clone();
        let base = dir.join(manifest.begin_base(&prefix, self.aof.writes_snapshot));
        fs::rename(temporary, &base)?;
        let mut moved = None;
        if beginning {
            let increment = dir.join(manifest.begin_increment(&prefix));
            let from = dir.join(temporary_increment(&prefix));
            if let Err(error) = fs::rename(&from, &increment) {
                let _ = fs::remove_file(&base);
                return Err(error);
            }
            moved = Some((from, increment));
        }
        // Without an increment being written, the base covers all there are.
        manifest.supersede_increments(usize::from(self.aof.state != State::Off));
        if let Err(failure) = manifest.store(&dir, &prefix) {
            if failure.is_visible {
                self.aof.manifest.skip_numbers_of(&manifest);
                return Err(failure.error);
            }
            let _ = fs::remove_file(&base);
            if let Some((from, increment)) = moved {
                let _ = fs::rename(increment, from);
            }
            return Err(failure.error);
        }
        self.aof.manifest = manifest;
        self.aof.other_bytes = fs::metadata(&base).map_or(0, |metadata| metadata.len());
        self.aof.base_size = self.aof.current_size();
        if beginning {
            self.set_aof_state(State::On);
            self.aof.log.count_as_durable();
        }
        self.remove_history();
        Ok(())
    }

    /// Removes files that are superseded, in the background.
    pub(in crate::server) fn remove_history(&mut self) {
        if self.config.persistence.aof_disable_auto_gc || self.aof.manifest.history.is_empty() {
            return;
        }
        let dir = self.aof_directory();
        let mut manifest = self.aof.manifest.clone();
        for part in manifest.history.drain(..) {
            tracing::info!("Removing the history file {} in the background", part.name);
            let path = dir.join(&part.name);
            self.background.submit(Worker::CloseFile, move || drop(fs::remove_file(path)));
        }
        match manifest.store(&dir, &self.config.persistence.appendfilename) {
            Ok(()) => self.aof.manifest = manifest,
            // They are still listed, and will be tried again.
            Err(failure) => tracing::warn!("Error writing the AOF manifest: {}", error_text(&failure.error)),
        }
    }

    /// Rewrites if that is scheduled, or the file has grown enough; tries again what the disk did not take. Called by the
    /// timer.
    pub(in crate::server) fn supervise_aof(&mut self) {
        if self.aof.error.is_some() {
            self.flush_aof(false);
        }
        if self.has_child() || self.persistence.loading.is_some() {
            return;
        }
        if self.aof.rewrite_scheduled {
            if !self.rewrite_is_limited() {
                // The reason is in the log.
                let _ = self.rewrite_aof();
            }
            return;
        }
        let config = &self.config.persistence;
        let size = self.aof.current_size();
        if self.aof.state != State::On
            || config.aof_rewrite_percentage == 0
            || size <= config.aof_rewrite_min_size
        {
            return;
        }
        let base = self.aof.base_size.max(1);
        let growth = (u128::from(size) * 100 / u128::from(base)) as i128 - 100;
        if growth >= i128::from(config.aof_rewrite_percentage) && !self.rewrite_is_limited() {
            tracing::info!("Starting automatic rewriting of AOF on {growth}% growth");
            let _ = self.rewrite_aof();
        }
    }

    /// Whether so many rewrites failed that the next has to wait. The time doubles with each failure.
    fn rewrite_is_limited(&mut self) -> bool {
        if self.aof.failures < FAILURES_BORNE {
            return false;
        }
        match self.aof.retry_at {
            Some(at) if Instant::now() < at => true,
            Some(_) => {
                self.aof.retry_at = None;
                false
            }
            None => {
                let delay = (self.aof.retry_delay_min * 2).clamp(1, LONGEST_DELAY_MIN);
                self.aof.retry_delay_min = delay;
                self.aof.retry_at = Some(Instant::now() + Duration::from_secs(delay * 60));
                tracing::warn!(
                    "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {delay} minutes"
                );
                true
            }
        }
    }
}

fn temporary_base(pid: u32) -> String {
    format!("temp-rewriteaof-bg-{pid}.aof")
}

fn temporary_increment(prefix: &str) -> String {
    format!("temp-{prefix}.incr")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_wait_for_clients_that_come_back_and_for_no_others() {
        let mut gathering = Gathering::default();
        let long_ago = || Instant::now().checked_sub(Duration::from_secs(1));
        // Two groups of 25 clients take turns, until it is worth while to wait.
        for _ in 0..4 {
            gathering.handed_over = long_ago();
            gathering.until = None;
            gathering.begin(25, 25);
        }
        gathering.until = Some(Instant::now() + Duration::from_secs(60));
        assert!(gathering.goes_on(25) && gathering.goes_on(49));
        assert!(!gathering.goes_on(50), "everybody is there");
        assert_eq!(gathering.patience(), Duration::MAX);
        // Nobody comes back.
        for _ in 0..8 {
            gathering.handed_over = long_ago();
            gathering.begin(50, 0);
            if gathering.until.is_some() {
                gathering.until = Some(Instant::now());
                assert!(!gathering.goes_on(0), "the time is over");
            }
        }
        assert!(gathering.until.is_none() && !gathering.goes_on(1));
    }
}
