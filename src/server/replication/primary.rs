//! A primary and its replicas: requests for data, snapshots for them, the stream, and who is gone.

use std::fs::File;
use std::io::{self, Read as _};

use crate::clients::{ClientFlags, ClientKey, ReplicaEnd, ReplyMode};
use crate::keyspace::Sink;
use crate::net::error_text;
use crate::net::peer::Peer;
use crate::replication::ReplicationId;
use crate::replication::replica::{Capabilities, Filter, Replica, SnapshotVersion, State};
use crate::replication::resume::{Refusal, explain, resume};
use crate::resp::request::write_request;
use crate::resp::{Error, Replied};
use crate::server::Server;
use crate::server::command::CmdResult;
use crate::server::durability::child::{Outcome, Task};
use crate::server::execution::admission::Conditions;
use crate::stats::log::limited;
use crate::stats::progress::{Lines, Progress, Unit};
use crate::stdx::clock::UnixMillis;

/// Bytes of a snapshot that are read from its file at a time.
const FILE_PIECE: usize = 64 << 10;
/// Bytes of the stream that one replica is sent per turn, before others are served.
const STREAM_BUDGET: usize = 1 << 20;

/// What a replica asks for.
#[derive(Clone, Copy)]
pub enum Ask<'a> {
    /// SYNC: all data, without a history.
    All,
    /// PSYNC: what comes after `offset` of a history, if possible.
    After {
        /// Name of the history, or `?`.
        id: &'a [u8],
        /// Number of the first byte that is missing, counted from 1.
        next: i64,
    },
}

impl Server {
    /// What the server knows of the replica behind a connection; a new one if it has said nothing yet.
    pub fn replica_mut(&mut self, key: ClientKey) -> &mut Replica {
        let now = self.keyspace.now();
        let end = self.clients[key].replica.get_or_insert_with(|| {
            Box::new(ReplicaEnd { replica: Replica::new(now), file: None, progress: None })
        });
        &mut end.replica
    }

    /// What the server knows of a replica that asked for data.
    pub fn replica(&self, key: ClientKey) -> Option<&Replica> {
        self.clients.get(key)?.replica.as_ref().map(|end| &end.replica)
    }

    /// The address that a replica announces, or that of its connection.
    pub fn replica_ip(&self, key: ClientKey) -> Option<String> {
        let client = &self.clients[key];
        let announced = client.replica.as_ref().and_then(|end| end.replica.ip.clone());
        announced.or_else(|| Some(client.io.peer.stream()?.peer_ip()?.to_string()))
    }

    /// Name of a replica in the log: address and the port it listens on.
    pub(in crate::server) fn replica_name(&self, key: ClientKey) -> String {
        let client = &self.clients[key];
        let Some(end) = &client.replica else { return client.io.peer.addr() };
        match (self.replica_ip(key), end.replica.port) {
            (Some(ip), port) if port != 0 => format!("{}:{port}", bracketed(&ip)),
            _ => format!("client id #{}", client.id),
        }
    }

    /// Answers SYNC and PSYNC: from now on the connection is that of a replica.
    ///
    /// # Errors
    /// There is nothing to copy from now, or the connection is used otherwise.
    pub fn synchronise(&mut self, key: ClientKey, ask: Ask<'_>) -> CmdResult {
        if self.clients[key].flags.has(ClientFlags::REPLICA) {
            return Ok(Replied::later());
        }
        if self.replication.following.as_ref().is_some_and(|following| !following.is_linked()) {
            return Err(Error::text("NOMASTERLINK Can't SYNC while not connected with my master"));
        }
        let client = &self.clients[key];
        if client.io.output.pending() > 0 {
            return Err(Error::text("ERR SYNC and PSYNC are invalid with pending output"));
        }
        let name = self.replica_name(key);
        tracing::info!("Replica {name} asks for synchronization");
        self.replica_mut(key);
        match ask {
            Ask::After { id, next } => {
                if self.continue_stream(key, id, next, &name) {
                    self.replication.counts.partial += 1;
                    return Ok(Replied::later());
                }
                // Who asks for a history by name wanted to go on from there.
                if id != b"?" {
                    self.replication.counts.refused += 1;
                }
            }
            // Its protocol has no acknowledgements.
            Ask::All => self.replica_mut(key).capabilities = Capabilities::NONE,
        }
        self.replication.counts.full += 1;
        self.add_replica(key, State::AwaitsSnapshot);
        if matches!(ask, Ask::All) {
            self.clients[key].flags.set(ClientFlags::PLAIN_SYNC, true);
        }
        if self.config.replication.disable_tcp_nodelay
            && let Peer::Socket(stream) = &self.clients[key].io.peer
        {
            // It only costs bandwidth if this fails.
            let _ = stream.set_delay();
        }
        self.begin_backlog();
        if self.children.any_for(Task::Rdb) {
            self.attach_to_snapshot(key);
        } else if self.children.any_for(Task::Transfer) || self.replication.transfer.is_some() {
            tracing::info!("Current BGSAVE has socket target. Waiting for next BGSAVE for SYNC");
        } else if self.config.replication.diskless_sync
            && self.replica_mut(key).capabilities.has(Capabilities::EOF)
            && self.config.replication.diskless_sync_delay_s > 0
        {
            tracing::info!("Delay next BGSAVE for diskless SYNC");
        } else if self.children.any() {
            tracing::info!(
                "No BGSAVE in progress, but another BG operation is active. BGSAVE for replication delayed"
            );
        } else {
            self.snapshot_for_replicas();
        }
        Ok(Replied::later())
    }

    /// Closes the connection of a replica whose request was replied to: a reply would lie in the middle of its stream, so
    /// there was none.
    pub(in crate::server) fn check_silence(&mut self, key: ClientKey) {
        if self.clients[key].io.output.take_dropped() {
            tracing::warn!(
                "Replica generated a reply to command '{}', disconnecting it: {}",
                self.last_command_name(key).unwrap_or("NULL"),
                self.client_line(key)
            );
            self.close_soon(key);
        }
    }

    fn add_replica(&mut self, key: ClientKey, state: State) {
        let now = self.keyspace.now();
        let replica = self.replica_mut(key);
        replica.state = state;
        replica.heard_at = now;
        let client = &mut self.clients[key];
        client.flags.set(ClientFlags::REPLICA, true);
        client.flags.set(ClientFlags::AUTHENTICATED, true);
        client.reply_mode = ReplyMode::Off;
        self.replication.replicas.push(key);
        self.replication.alone_since = None;
        self.count_good_replicas();
    }

    /// Begins to keep the stream, if it is not kept yet.
    fn begin_backlog(&mut self) {
        if self.replication.backlog.is_active() {
            return;
        }
        if !self.replication.is_replica() {
            // Nobody can go on from what was not kept.
            self.change_replication_id();
        }
        self.replication.backlog.activate();
        tracing::info!(
            "Replication backlog created, my new replication IDs are '{}' and '{}'",
            self.replication.history.id,
            self.former_id()
        );
        self.apply_role();
    }

    /// The former history, as INFO shows it.
    pub fn former_id(&self) -> ReplicationId {
        self.replication.history.former.map_or(ReplicationId::NONE, |(id, _)| id)
    }

    /// Sends the stream from where a replica stands; whether that is possible.
    fn continue_stream(&mut self, key: ClientKey, id: &[u8], next: i64, name: &str) -> bool {
        let replication = &self.replication;
        let history = &replication.history;
        let offset = match resume(history, &replication.backlog, id, next) {
            Ok(offset) => offset,
            Err(refusal) => {
                tracing::info!("{}", explain(refusal, history, name, id, next));
                if refusal == Refusal::Ahead {
                    tracing::warn!(
                        "Warning: replica {name} tried to PSYNC with an offset that is greater than the master replication \
                         offset."
                    );
                }
                return false;
            }
        };
        let (present, end) = (history.id, replication.backlog.end());
        self.add_replica(key, State::Online);
        let replica = self.replica_mut(key);
        replica.next = offset;
        replica.acknowledged = offset;
        let line = if replica.capabilities.has(Capabilities::PSYNC2) {
            format!("+CONTINUE {present}\r\n")
        } else {
            "+CONTINUE\r\n".to_owned()
        };
        self.write_raw(key, line.as_bytes());
        tracing::info!(
            "Partial resynchronization request from {name} accepted. Sending {} bytes of backlog starting from offset \
             {next}.",
            end - offset
        );
        true
    }

    /// Appends bytes to the output of a connection, whatever replies it wants.
    pub(in crate::server) fn write_raw(&mut self, key: ClientKey, bytes: &[u8]) {
        let client = &mut self.clients[key];
        client.io.output.begin(&mut self.pool, usize::MAX);
        client.io.output.append(bytes, &mut self.pool);
        self.send_soon(key);
    }

    /// Has a replica share a snapshot that is being written to a file, if the stream since then is kept for another.
    fn attach_to_snapshot(&mut self, key: ClientKey) {
        let wanted = self.replica_mut(key).filter;
        let version = self.replica_mut(key).snapshot_version();
        let other = self.replication.replicas.iter().copied().find(|&other| {
            other != key
                && self.replica(other).is_some_and(|other| {
                    other.state == State::SnapshotBegun
                        && other.filter == wanted
                        && other.snapshot_version() == version
                })
        });
        match other.and_then(|other| self.replica(other)).map(|other| other.next) {
            Some(offset) => {
                self.promise_snapshot(key, offset, State::SnapshotBegun);
                tracing::info!("Waiting for end of BGSAVE for SYNC");
            }
            None => tracing::info!(
                "Can't attach the replica to the current BGSAVE. Waiting for next BGSAVE for SYNC"
            ),
        }
    }

    /// Tells a replica that it gets the data as they are at `offset`, in the way of `state`.
    fn promise_snapshot(&mut self, key: ClientKey, offset: u64, state: State) {
        let id = self.replication.history.id;
        let plain = self.clients[key].flags.has(ClientFlags::PLAIN_SYNC);
        let replica = self.replica_mut(key);
        replica.state = state;
        replica.next = offset;
        // Its stream begins with the database it is about.
        self.replication.backlog.selected = None;
        if !plain {
            self.write_raw(key, format!("+FULLRESYNC {id} {offset}\r\n").as_bytes());
        }
    }

    /// Begins a snapshot for the replicas that wait for one, all with the same wishes.
    pub(in crate::server) fn snapshot_for_replicas(&mut self) {
        let waiting: Vec<ClientKey> =
            self.replication.replicas.iter().copied().filter(|&key| self.awaits(key)).collect();
        let Some(&first) = waiting.first() else { return };
        let wishes = |server: &Server, key: ClientKey| {
            server.replica(key).map(|replica| (replica.filter, replica.snapshot_version()))
        };
        let same = wishes(self, first);
        let group: Vec<ClientKey> = waiting.into_iter().filter(|&key| wishes(self, key) == same).collect();
        let (filter, version) = same.unwrap_or((Filter::ALL, SnapshotVersion::Oldest));
        let eof = group
            .iter()
            .all(|&key| self.replica(key).is_some_and(|it| it.capabilities.has(Capabilities::EOF)));
        let direct = eof && (self.config.replication.diskless_sync || filter != Filter::ALL);
        tracing::info!(
            "Starting BGSAVE for SYNC with target: {}",
            if direct { "replicas sockets" } else { "disk" }
        );
        let offset = self.replication.backlog.end();
        let begun = if direct {
            self.begin_transfer(&group, filter, version)
        } else {
            self.snapshot_to_file(version)
        };
        if let Err(error) = begun {
            tracing::warn!("BGSAVE for replication failed: {}", error_text(&error));
            for key in group {
                self.write_raw(key, b"-ERR BGSAVE failed, replication can't continue\r\n");
                self.close_after_reply(key);
                self.clients[key].flags.set(ClientFlags::REPLICA, false);
                self.forget_replica(key);
            }
            return;
        }
        let state = if direct { State::SnapshotFlows } else { State::SnapshotBegun };
        for key in group {
            self.promise_snapshot(key, offset, state);
        }
    }

    fn awaits(&self, key: ClientKey) -> bool {
        self.replica(key).is_some_and(|replica| replica.state == State::AwaitsSnapshot)
            && !self.clients[key].is_closing()
    }

    fn snapshot_to_file(&mut self, version: SnapshotVersion) -> io::Result<()> {
        self.replication.file_for_replicas =
            self.config.persistence.save.0.is_empty() && !self.config.persistence.appendonly;
        self.save_for_replicas(version)
    }

    /// A child that wrote a snapshot to a file is gone: replicas that waited for it are sent the file.
    pub(in crate::server) fn snapshot_file_ready(&mut self, outcome: Outcome) {
        let ready: Vec<ClientKey> = self
            .replication
            .replicas
            .iter()
            .copied()
            .filter(|&key| self.replica(key).is_some_and(|replica| replica.state == State::SnapshotBegun))
            .collect();
        for key in ready {
            if outcome != Outcome::Success {
                tracing::warn!("SYNC failed. BGSAVE child returned an error");
                self.close_soon(key);
                continue;
            }
            let name = &self.config.persistence.dbfilename;
            let opened = File::open(name).and_then(|file| Ok((file.metadata()?.len(), file)));
            match opened {
                Ok((len, file)) => {
                    self.write_raw(key, format!("${len}\r\n").as_bytes());
                    self.replica_mut(key).state = State::Transfer { sent: 0, len };
                    if let Some(end) = &mut self.clients[key].replica {
                        end.file = Some(file);
                        let what = "Sending a snapshot to a replica";
                        end.progress = Some(Progress::new(what, len, Unit::Bytes, Lines::Log));
                    }
                }
                Err(error) => {
                    tracing::warn!("SYNC failed. Can't open/stat DB after BGSAVE: {}", error_text(&error));
                    self.close_soon(key);
                }
            }
        }
    }

    /// Puts the next piece of a snapshot file into the output of a replica whose output is empty; whether it did.
    fn send_file(&mut self, key: ClientKey) -> bool {
        let Some(end) = &mut self.clients[key].replica else { return false };
        let State::Transfer { sent, len } = end.replica.state else { return false };
        let Some(file) = &mut end.file else { return false };
        let mut piece = Vec::with_capacity(FILE_PIECE);
        let read = file.take(FILE_PIECE as u64).read_to_end(&mut piece);
        match read {
            Ok(n) if n > 0 => {
                end.replica.state = State::Transfer { sent: sent + n as u64, len };
                if let Some(progress) = &mut end.progress {
                    progress.at(sent + n as u64);
                }
                self.write_raw(key, &piece);
                true
            }
            Ok(_) => {
                (end.file, end.progress) = (None, None);
                self.snapshot_sent(key, false);
                false
            }
            Err(error) => {
                tracing::warn!("Read error sending DB to replica: {}", error_text(&error));
                self.close_soon(key);
                false
            }
        }
    }

    /// A replica was sent the whole snapshot. With `until_heard`, it is sent nothing more until it acknowledges that.
    pub(in crate::server) fn snapshot_sent(&mut self, key: ClientKey, until_heard: bool) {
        let name = self.replica_name(key);
        let now = self.keyspace.now();
        let replica = self.replica_mut(key);
        replica.heard_at = now;
        if replica.snapshot_only {
            replica.state = State::Done;
            tracing::info!("RDB transfer completed, rdb only replica ({name}) should be disconnected asap");
            return;
        }
        replica.state = State::Online;
        replica.online_when_heard = until_heard;
        self.count_good_replicas();
        if until_heard {
            tracing::info!(
                "Streamed replica with replica {name} succeeded (socket). Waiting for REPLCONF ACK from replica to enable \
                 streaming"
            );
        } else {
            tracing::info!("Synchronization with replica {name} succeeded");
            self.send_soon(key);
        }
    }

    /// A replica acknowledged that it has applied the stream up to `offset`, and synced it up to `synced`.
    pub fn acknowledged(&mut self, key: ClientKey, offset: u64, synced: Option<u64>) {
        if !self.clients[key].flags.has(ClientFlags::REPLICA) {
            return;
        }
        let now = self.keyspace.now();
        let replica = self.replica_mut(key);
        replica.acknowledged = replica.acknowledged.max(offset);
        if let Some(synced) = synced {
            replica.synced = replica.synced.max(synced);
        }
        replica.heard_at = now;
        if replica.online_when_heard && replica.state == State::Online {
            replica.online_when_heard = false;
            tracing::info!("Synchronization with replica {} succeeded", self.replica_name(key));
            self.send_soon(key);
        }
    }

    // ---- the stream -----------------------------------------------------------------------

    /// Appends the unit of execution to the stream of replicas. With `apart`, each part is a unit of its own.
    pub(in crate::server) fn append_to_stream(&mut self, apart: bool) {
        let unit = &self.execution.unit;
        let backlog = &mut self.replication.backlog;
        backlog
            .append_with(unit.written_len(), |out, selected| unit.write(Sink::Backlog, selected, apart, out));
    }

    /// Asks replicas in the stream how far they are.
    pub(in crate::server) fn append_question(&mut self) {
        let words: [&[u8]; 3] = [b"REPLCONF", b"GETACK", b"*"];
        let len = words.iter().map(|word| word.len() + 6).sum::<usize>() + 4;
        self.replication.backlog.append_with(len, |out, _| write_request(out, words.into_iter()));
    }

    /// Has what was appended to the stream in this turn sent, and gives up what nobody needs.
    #[inline]
    pub(in crate::server) fn feed_replicas(&mut self) {
        if !self.replication.replicas.is_empty() || self.replication.backlog.is_active() {
            self.send_stream();
        }
    }

    fn send_stream(&mut self) {
        let end = self.replication.backlog.end();
        let mut needed: Option<u64> = None;
        for i in 0..self.replication.replicas.len() {
            let key = self.replication.replicas[i];
            let Some(replica) = self.replica(key) else { continue };
            if !replica.needs_stream() {
                continue;
            }
            let (next, fed) = (replica.next, replica.is_fed());
            needed = Some(needed.map_or(next, |least| least.min(next)));
            if next == end {
                continue;
            }
            if fed && !self.clients[key].flags.has(ClientFlags::AWAITS_WRITABLE) {
                self.send_soon(key);
            } else {
                self.check_output(key);
            }
        }
        self.replication.backlog.trim(self.config.replication.backlog_size, needed);
    }

    /// Sends a replica the stream from where it stands, as much as the socket takes, and more of its snapshot. Its own
    /// output has left.
    pub(in crate::server) fn send_to_replica(&mut self, key: ClientKey) {
        while self.clients[key].io.output.is_empty() && self.send_file(key) {
            self.send_output(key, usize::MAX);
        }
        let client = &mut self.clients[key];
        if !client.io.output.is_empty() || client.flags.has(ClientFlags::CLOSE_SOON) {
            return;
        }
        if client.io.peer.is_secure() {
            return self.feed_securely(key);
        }
        let (Some(end), Peer::Socket(stream)) = (&mut client.replica, &client.io.peer) else { return };
        if !end.replica.is_fed() {
            return;
        }
        let backlog = &self.replication.backlog;
        let mut sent = 0;
        let result = loop {
            let piece = backlog.read(end.replica.next);
            if piece.is_empty() {
                break Ok(true);
            }
            if sent >= STREAM_BUDGET {
                break Ok(true);
            }
            match stream.send(piece) {
                Ok(n) => {
                    sent += n;
                    end.replica.next += n as u64;
                    if n < piece.len() {
                        break Ok(false);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(false),
                Err(error) => break Err(error),
            }
        };
        client.total_out += sent as u64;
        self.replication.counts.sent += sent as u64;
        self.stats.net_output_bytes += sent as u64;
        if sent > 0 {
            self.stats.writes += 1;
        }
        let rest = backlog.end() > end.replica.next;
        match result {
            Ok(true) if rest => {
                self.send_soon(key);
                self.check_output(key);
            }
            Ok(true) => client.over_soft_limit_since = None,
            Ok(false) => {
                client.flags.set(ClientFlags::AWAITS_WRITABLE, true);
                self.check_output(key);
            }
            Err(error) => {
                tracing::debug!("Error writing to replica: {}", error_text(&error));
                self.close_soon(key);
            }
        }
    }

    /// As [`Server::send_to_replica`], for a replica whose connection is encrypted: the stream goes through its output,
    /// because what is encrypted must leave before anything else does.
    fn feed_securely(&mut self, key: ClientKey) {
        let mut moved = 0;
        loop {
            let client = &mut self.clients[key];
            let Some(end) = &mut client.replica else { return };
            if !end.replica.is_fed() {
                return;
            }
            let piece = self.replication.backlog.read(end.replica.next);
            if piece.is_empty() {
                client.over_soft_limit_since = None;
                return;
            }
            if moved >= STREAM_BUDGET {
                self.send_soon(key);
                break;
            }
            let piece = &piece[..piece.len().min(FILE_PIECE)];
            client.io.output.begin(&mut self.pool, usize::MAX);
            client.io.output.append(piece, &mut self.pool);
            end.replica.next += piece.len() as u64;
            self.replication.counts.sent += piece.len() as u64;
            moved += piece.len();
            self.send_output(key, usize::MAX);
            if self.clients[key].flags.has(ClientFlags::CLOSE_SOON) {
                return;
            }
            if !self.clients[key].io.output.is_empty() {
                break;
            }
        }
        self.check_output(key);
    }

    /// Bytes of the stream that a replica has not been sent.
    pub fn unsent_stream(&self, key: ClientKey) -> u64 {
        match self.replica(key) {
            Some(replica) if replica.needs_stream() => {
                self.replication.backlog.end().saturating_sub(replica.next)
            }
            _ => 0,
        }
    }

    /// Number of blocks of the stream that those bytes are in.
    pub fn unsent_blocks(&self, key: ClientKey) -> usize {
        match self.replica(key) {
            Some(replica) if replica.needs_stream() => self.replication.backlog.blocks_from(replica.next),
            _ => 0,
        }
    }

    /// Bytes of the stream that are kept only because replicas have not been sent them.
    pub fn replica_memory(&self) -> usize {
        let limit = usize::try_from(self.config.replication.backlog_size).unwrap_or(usize::MAX);
        let kept = self.replication.backlog.allocated().saturating_sub(limit);
        if self.replication.replicas.is_empty() { 0 } else { kept }
    }

    // ---- coming and going -----------------------------------------------------------------

    /// A connection that was a replica's is closed, or is no longer one.
    pub(in crate::server) fn forget_replica(&mut self, key: ClientKey) {
        let Some(at) = self.replication.replicas.iter().position(|&other| other == key) else { return };
        self.replication.replicas.remove(at);
        self.transfer_left(key);
        self.stop_useless_snapshot(key);
        if self.replication.replicas.is_empty() {
            self.replication.alone_since = Some(self.keyspace.now());
        }
        self.count_good_replicas();
    }

    /// Ends the child that writes a snapshot file which the replica behind `key`, which is gone, was the last to want.
    fn stop_useless_snapshot(&mut self, key: ClientKey) {
        let waits = |key| self.replica(key).is_some_and(|replica| replica.state == State::SnapshotBegun);
        let wanted = !self.config.persistence.save.0.is_empty()
            || self.replication.replicas.iter().any(|&other| waits(other));
        if waits(key) && !wanted {
            self.terminate_child(Task::Rdb);
        }
    }

    /// Closes the connections of all replicas: they come back and ask anew.
    pub(in crate::server) fn disconnect_replicas(&mut self) {
        for key in self.replication.replicas.clone() {
            self.expel(key);
        }
    }

    /// Counts the replicas on which a write counts as safe, and refuses writes if there are too few.
    pub(in crate::server) fn count_good_replicas(&mut self) {
        let options = &self.config.replication;
        let (least, most_lag) =
            (options.min_replicas_to_write as usize, i64::from(options.min_replicas_max_lag_s));
        let checked = least > 0 && most_lag > 0;
        let now = UnixMillis::now();
        let good = |&&key: &&ClientKey| {
            self.replica(key).and_then(|replica| replica.lag_s(now)).is_some_and(|lag| lag <= most_lag)
        };
        self.replication.good_replicas =
            if checked { self.replication.replicas.iter().filter(good).count() } else { 0 };
        let few = checked && self.replication.good_replicas < least || !self.has_quorum();
        let few = few && !self.replication.is_replica();
        if few != self.conditions.has(Conditions::FEW_REPLICAS) && !self.replication.is_replica() {
            self.tell_replicas(few);
        }
        self.conditions.set(Conditions::FEW_REPLICAS, few);
    }

    /// Tasks of a primary once per second.
    pub(in crate::server) fn primary_cron(&mut self) {
        let period = u64::from(self.config.replication.ping_period_s.max(1));
        if self.replication.seconds.is_multiple_of(period)
            && !self.replication.replicas.is_empty()
            && !self.replication.is_replica()
            && !self.failover_pauses()
            && self.persistence.shutdown.is_none()
        {
            let backlog = &mut self.replication.backlog;
            backlog.append_with(14, |out, _| write_request(out, [&b"PING"[..]].into_iter()));
        }
        self.keep_waiting_alive();
        self.drop_silent_replicas();
        self.give_up_backlog();
        self.begin_delayed_snapshot();
        self.remove_replica_file();
        self.count_good_replicas();
        self.ask_for_failover();
    }

    /// Sends an empty line to replicas that wait for a snapshot, so that they do not take this server for dead.
    fn keep_waiting_alive(&mut self) {
        for key in self.replication.replicas.clone() {
            let Some(replica) = self.replica(key) else { continue };
            let waits = matches!(replica.state, State::AwaitsSnapshot | State::SnapshotBegun);
            // What comes before the answer to its request would be taken for it.
            if waits && self.clients[key].io.output.is_empty() {
                self.write_raw(key, b"\n");
            }
        }
    }

    fn drop_silent_replicas(&mut self) {
        let now = self.keyspace.now();
        let timeout_ms = i64::from(self.config.replication.timeout_s) * 1000;
        for key in self.replication.replicas.clone() {
            let Some(replica) = self.replica(key) else { continue };
            let client = &self.clients[key];
            if client.flags.has(ClientFlags::PLAIN_SYNC) {
                continue;
            }
            // One that loads what it got acknowledges nothing, but sends empty lines.
            let heard_at = replica.heard_at.max(client.last_active);
            let what = match replica.state {
                State::Online if now.since(heard_at) > timeout_ms => "streaming sync",
                State::SnapshotFlows if self.transfer_stuck_ms(key, now) > timeout_ms => "full sync",
                _ => continue,
            };
            tracing::warn!("Disconnecting timedout replica ({what}): {}", self.replica_name(key));
            self.expel(key);
        }
    }

    /// Gives up the stream when no replica has come back for long.
    fn give_up_backlog(&mut self) {
        let ttl_s = self.config.replication.backlog_ttl_s;
        let Some(since) = self.replication.alone_since else { return };
        if ttl_s == 0 || self.replication.is_replica() || !self.replication.backlog.is_active() {
            return;
        }
        if now_s_since(self.keyspace.now(), since) > ttl_s {
            // What is not kept cannot be gone on from: a replica with this history would silently miss it.
            self.change_replication_id();
            self.replication.backlog.deactivate();
            self.apply_role();
            tracing::info!("Replication backlog freed after {ttl_s} seconds without connected replicas.");
        }
    }

    /// Begins the snapshot that replicas wait for, once it may begin.
    pub(in crate::server) fn begin_delayed_snapshot(&mut self) {
        if self.children.any() || self.replication.transfer.is_some() || self.persistence.loading.is_some() {
            return;
        }
        let now = self.keyspace.now();
        let waiting = self.replication.replicas.iter().filter(|&&key| self.awaits(key));
        let (mut n, mut longest_ms) = (0u32, 0);
        for &key in waiting {
            n += 1;
            longest_ms = longest_ms.max(self.replica(key).map_or(0, |replica| now.since(replica.heard_at)));
        }
        let options = &self.config.replication;
        let enough = options.diskless_sync_max_replicas > 0 && n >= options.diskless_sync_max_replicas;
        let waited = longest_ms >= i64::from(options.diskless_sync_delay_s) * 1000;
        if n > 0 && (!options.diskless_sync || enough || waited) {
            self.snapshot_for_replicas();
        }
    }

    /// Removes a snapshot file that only replicas wanted, once each has been sent it.
    fn remove_replica_file(&mut self) {
        if !self.replication.file_for_replicas || !self.config.persistence.rdb_del_sync_files {
            return;
        }
        let used = |&key: &ClientKey| {
            self.replica(key).is_some_and(|replica| {
                matches!(replica.state, State::AwaitsSnapshot | State::SnapshotBegun | State::Transfer { .. })
            })
        };
        if self.replication.replicas.iter().any(used) || self.children.any_for(Task::Rdb) {
            return;
        }
        self.replication.file_for_replicas = false;
        if !self.config.persistence.save.0.is_empty() || self.config.persistence.appendonly {
            return;
        }
        tracing::info!(
            "Removing the RDB file {} used to feed replicas in a persistence-less instance",
            self.config.persistence.dbfilename
        );
        if let Err(error) = std::fs::remove_file(&self.config.persistence.dbfilename) {
            limited!(warn, "Cannot remove the RDB file: {}", error_text(&error));
        }
    }
}

fn now_s_since(now: UnixMillis, then: UnixMillis) -> u64 {
    (now.since(then) / 1000).max(0).unsigned_abs()
}

fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}
