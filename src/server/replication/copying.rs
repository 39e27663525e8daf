//! Copying a primary: its snapshot is received and loaded in place of the data.
//!
//! By default the snapshot goes to a file first, and the old data are kept until it is whole. `repl-diskless-load` has it
//! loaded as it arrives instead.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::config::value::DisklessLoad;
use crate::net::error_text;
use crate::net::link::Link;
use crate::replication::ReplicationId;
use crate::replication::transfer::Body;
use crate::server::Server;
use crate::server::durability::child::Task;
use crate::server::durability::incoming::LoadedSnapshot;
use crate::server::durability::persistence::Pause;
use crate::server::replication::link::{Copying, LinkState, header, receive_all};
use crate::stats::progress::{Lines, Progress, Unit};

/// Bytes taken from the socket before others are served.
const PER_TURN: usize = 1 << 20;
/// Bytes written to the file between two syncs, so that the last one does not take long.
const SYNC_EVERY: u64 = 8 << 20;

impl Server {
    /// The primary is about to send all data, as they are at `offset` of its history `id`.
    pub(in crate::server) fn begin_copying(
        &mut self,
        link: Box<Link>,
        id: Option<ReplicationId>,
        offset: u64,
    ) -> LinkState {
        let copying = Copying { id, offset, body: None, file: None, synced: 0, progress: None, ready: false };
        self.copy(link, Box::new(copying))
    }

    fn loads_directly(&self) -> bool {
        match self.config.replication.diskless_load {
            DisklessLoad::Disabled => false,
            DisklessLoad::OnEmptyDb => self.keyspace.is_empty(),
            DisklessLoad::SwapDb => true,
        }
    }

    /// Takes what has arrived of a snapshot.
    pub(in crate::server) fn copy(&mut self, mut link: Box<Link>, mut copying: Box<Copying>) -> LinkState {
        let _ = link.flush();
        let received = receive_all(&mut link, PER_TURN);
        if let Some(following) = &mut self.replication.following {
            following.heard_at = Instant::now();
        }
        if copying.body.is_none() {
            match header(&mut link) {
                Err(refused) => {
                    tracing::warn!("{refused}");
                    return self.stop_copying(*link, &copying);
                }
                Ok(Some(framing)) => {
                    let body = Body::new(framing);
                    let direct = self.loads_directly();
                    let to = if direct { "to parser" } else { "to disk" };
                    match body.size() {
                        Some(len) => {
                            tracing::info!("MASTER <-> REPLICA sync: receiving {len} bytes from master {to}");
                        }
                        None => tracing::info!(
                            "MASTER <-> REPLICA sync: receiving streamed RDB from master with EOF {to}"
                        ),
                    }
                    let total = body.size().unwrap_or(0);
                    copying.body = Some(body);
                    if direct {
                        copying.ready = true;
                        return LinkState::Copying(link, copying);
                    }
                    match temporary_file() {
                        Ok(file) => {
                            copying.file = Some(file);
                            let what = "Receiving a snapshot from the primary";
                            copying.progress = Some(Progress::new(what, total, Unit::Bytes, Lines::Log));
                        }
                        Err(error) => {
                            tracing::warn!(
                                "Opening the temp file needed for MASTER <-> REPLICA synchronization: {}",
                                error_text(&error)
                            );
                            return self.stop_copying(*link, &copying);
                        }
                    }
                }
                Ok(None) => {}
            }
        }
        if let (Some(body), Some((_, file))) = (&mut copying.body, &mut copying.file) {
            let mut piece = Vec::new();
            let n = body.take(link.received(), &mut piece);
            link.consume(n);
            let mut written = file.write_all(&piece);
            if body.received() - copying.synced >= SYNC_EVERY {
                copying.synced = body.received();
                written = written.and_then(|()| file.sync_data());
            }
            if let Some(progress) = &mut copying.progress {
                progress.at(body.received());
            }
            if let Err(error) = written {
                tracing::warn!(
                    "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA synchronization: \
                     {}",
                    error_text(&error)
                );
                return self.stop_copying(*link, &copying);
            }
            if body.has_ended() {
                copying.ready = true;
                copying.progress = None;
                return LinkState::Copying(link, copying);
            }
        }
        match received {
            Ok(n) => {
                if n > PER_TURN {
                    self.event_loop.link_again = true;
                }
                LinkState::Copying(link, copying)
            }
            Err(error) => {
                let lost = error.kind() == io::ErrorKind::UnexpectedEof;
                let text = if lost { "connection lost".to_owned() } else { error_text(&error) };
                tracing::warn!("I/O error trying to sync with MASTER: {text}");
                self.stop_copying(*link, &copying)
            }
        }
    }

    fn stop_copying(&mut self, link: Link, copying: &Copying) -> LinkState {
        copying.give_up();
        self.broken(link)
    }

    /// Loads a snapshot that is ready, and goes on with the stream behind it.
    pub(in crate::server) fn finish_copying(&mut self) {
        let Some(following) = &mut self.replication.following else { return };
        let (link, mut copying) = match std::mem::replace(&mut following.link, LinkState::Loading) {
            LinkState::Copying(link, copying) if copying.ready => (link, copying),
            other => {
                following.link = other;
                return;
            }
        };
        let next = self.load_copy(link, &mut copying);
        if let Some(following) = &mut self.replication.following
            && matches!(following.link, LinkState::Loading)
        {
            following.link = next;
        }
    }

    fn load_copy(&mut self, mut link: Box<Link>, copying: &mut Copying) -> LinkState {
        if self.children.any_for(Task::Rdb) {
            tracing::info!(
                "Replica is about to load the RDB file received from the master, but there is a pending RDB child running. \
                 Killing process and removing its temp file to avoid any race"
            );
            self.kill_child();
        }
        let logged = self.config.persistence.appendonly;
        self.stop_aof();
        // Who wants the server to end must not wait for the whole copy, and there is nothing to save meanwhile.
        self.end_at_once_by_signal(true);
        let loaded = match &copying.file {
            Some((path, file)) => self.load_received_file(path, file, &mut link),
            None => self.load_as_it_arrives(&mut link, copying),
        };
        self.end_at_once_by_signal(false);
        if let Err(reason) = loaded {
            tracing::warn!("{reason}");
            let from = if copying.file.is_some() { "disk" } else { "socket" };
            tracing::warn!(
                "Failed trying to load the MASTER synchronization DB from {from}, check server logs."
            );
            return self.stop_copying(*link, copying);
        }
        let db = loaded.unwrap_or(0);
        match copying.id {
            Some(id) => self.replication.history.adopt(id),
            None => self.change_replication_id(),
        }
        if let Some(following) = &mut self.replication.following {
            following.plain = copying.id.is_none();
        }
        self.replication.backlog.restart(copying.offset);
        self.replication.backlog.activate();
        tracing::info!("MASTER <-> REPLICA sync: Finished with success");
        let state = self.linked(*link, db);
        if copying.id.is_some() {
            // The primary waits for this before it sends the stream.
            self.acknowledge();
        }
        if logged {
            self.start_failed_aof();
        }
        state
    }

    fn end_at_once_by_signal(&self, at_once: bool) {
        if let Some(request) = &self.event_loop.request {
            request.set_loading(at_once);
        }
    }

    /// Switches the append-only file on again that was switched off for a copy.
    pub(in crate::server) fn start_failed_aof(&mut self) {
        use crate::server::durability::aof::State;
        if self.config.persistence.appendonly && self.aof.state == State::Off {
            // The log says why it cannot begin; the timer tries again.
            let _ = self.start_aof();
        }
    }

    /// Gives up the history. Until then this replica can go on from where it stands, even with its former primary, and
    /// its own replicas with it.
    fn give_up_history(&mut self) {
        self.disconnect_replicas();
        self.replication.backlog.deactivate();
        // Until a copy has been loaded, the data are those of no history: nobody may go on with them, nor from them.
        self.change_replication_id();
        if let Some(following) = &mut self.replication.following {
            following.resumable = false;
        }
    }

    /// Gives up data and history.
    fn empty_for_copy(&mut self) {
        self.give_up_history();
        tracing::info!("MASTER <-> REPLICA sync: Flushing old data");
        let lazily = self.config.replication.lazy_flush;
        self.keyspace.ledger.mute(true);
        self.keyspace.flush(None, lazily);
        self.propagate_by_itself();
        self.keyspace.ledger.mute(false);
        self.scripts.forget_libraries();
    }

    fn load_received_file(&mut self, path: &PathBuf, file: &File, link: &mut Link) -> Result<u32, String> {
        let name = PathBuf::from(&self.config.persistence.dbfilename);
        let placed = file.sync_all().and_then(|()| fs::rename(path, &name));
        placed.map_err(|error| {
            format!(
                "Failed trying to rename the temp DB into {} in MASTER <-> REPLICA synchronization: {}",
                name.display(),
                error_text(&error)
            )
        })?;
        let opened = File::open(&name).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (len, received) = opened.map_err(|error| error_text(&error))?;
        self.empty_for_copy();
        tracing::info!("MASTER <-> REPLICA sync: Loading DB in memory");
        let mut said = Instant::now();
        let options = self.replica_load_options();
        let loaded = self.load_snapshot(Box::new(received), Some(len), options, &mut |server, pause| {
            keep_alive(link, &mut said);
            server.serve_during_copy(pause)
        });
        if self.config.persistence.rdb_del_sync_files
            && self.config.persistence.save.0.is_empty()
            && !self.config.persistence.appendonly
        {
            tracing::info!(
                "Removing the RDB file obtained from the master. This replica has persistence disabled"
            );
            let _ = fs::remove_file(&name);
        }
        loaded.map(|loaded| selected(&loaded)).map_err(|failure| failure.to_string())
    }

    fn load_as_it_arrives(&mut self, link: &mut Link, copying: &mut Copying) -> Result<u32, String> {
        let Some(body) = copying.body.take() else { return Err("there is no snapshot".to_owned()) };
        let size = body.size();
        let timeout = Duration::from_secs(u64::from(self.config.replication.timeout_s));
        let source = Box::new(Arriving::new(link, body, timeout));
        let options = self.replica_load_options();
        let loaded = if self.config.replication.diskless_load == DisklessLoad::SwapDb {
            // The old data are an earlier state of the same history, or of another one, which nobody must see any more.
            let served = copying.id == Some(self.replication.history.id);
            tracing::info!("MASTER <-> REPLICA sync: Loading DB in memory");
            let loaded = self.load_snapshot_aside(source, size, options, served, &mut |server, pause| {
                server.serve_during_copy(pause)
            });
            if loaded.is_ok() {
                self.give_up_history();
            }
            loaded
        } else {
            self.empty_for_copy();
            tracing::info!("MASTER <-> REPLICA sync: Loading DB in memory");
            self.load_snapshot(source, size, options, &mut |server, pause| server.serve_during_copy(pause))
        };
        loaded.map(|loaded| selected(&loaded)).map_err(|failure| failure.to_string())
    }

    /// Serves clients, as far as they may be served, while a copy is loaded.
    fn serve_during_copy(&mut self, pause: Pause) -> io::Result<()> {
        const STARVED: Duration = Duration::from_millis(100);
        self.serve_without_signals(if pause == Pause::Starved { STARVED } else { Duration::ZERO })
    }

    /// Clients that wait for what no longer happens here are told so, and closed.
    pub(in crate::server) fn refuse_blocked(&mut self) {
        let blocked: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, client)| client.blocked.as_ref().is_some_and(|blocked| !blocked.outlives_role()))
            .map(|(key, _)| key)
            .collect();
        for key in blocked {
            self.unblock_by_role(key);
        }
    }
}

fn keep_alive(link: &mut Link, said: &mut Instant) {
    if said.elapsed() >= Duration::from_secs(1) {
        *said = Instant::now();
        link.push(b"\n");
        // An error shows when the stream is read.
        let _ = link.flush();
    }
}

fn temporary_file() -> io::Result<(PathBuf, File)> {
    let mut error = None;
    for attempt in 0..5 {
        let seconds = crate::stdx::clock::UnixMillis::now().as_secs() + attempt;
        let path = PathBuf::from(format!("temp-{seconds}.{}.rdb", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(failed) => error = Some(failed),
        }
    }
    Err(error.unwrap_or_else(|| io::Error::from(io::ErrorKind::AlreadyExists)))
}

/// The database that is selected in the stream behind a snapshot.
fn selected(loaded: &LoadedSnapshot) -> u32 {
    loaded.position.and_then(|position| u32::try_from(position.db).ok()).unwrap_or(0)
}

/// The bytes of a snapshot as they arrive: reading does not wait for them.
struct Arriving<'a> {
    link: &'a mut Link,
    body: Body,
    /// Bytes of the snapshot that have not been read.
    ready: Vec<u8>,
    at: usize,
    timeout: Duration,
    heard: Instant,
    said: Instant,
}

impl<'a> Arriving<'a> {
    fn new(link: &'a mut Link, body: Body, timeout: Duration) -> Arriving<'a> {
        let now = Instant::now();
        Arriving { link, body, ready: Vec::new(), at: 0, timeout, heard: now, said: now }
    }
}

impl Read for Arriving<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        keep_alive(self.link, &mut self.said);
        while self.at == self.ready.len() {
            self.ready.clear();
            self.at = 0;
            if self.body.has_ended() {
                return Ok(0);
            }
            if self.link.received().is_empty() {
                self.link.receive()?;
            }
            if !self.link.received().is_empty() {
                self.heard = Instant::now();
            } else if self.heard.elapsed() > self.timeout {
                return Err(io::ErrorKind::TimedOut.into());
            } else {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let n = self.body.take(self.link.received(), &mut self.ready);
            self.link.consume(n);
        }
        let n = out.len().min(self.ready.len() - self.at);
        out[..n].copy_from_slice(&self.ready[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
