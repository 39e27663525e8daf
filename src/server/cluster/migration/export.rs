//! Slots of this node go to another one: the connection, and the keys.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::all_owned;
use crate::cluster::migration::export::{Export, Next, Seen};
use crate::cluster::migration::progress::{Place, Progress};
use crate::cluster::migration::{Outcome, State, Word};
use crate::cluster::nodes::{NodeId, NodeKey};
use crate::cluster::slots::SlotSet;
use crate::keyspace::{Key, Keyspace};
use crate::net::error_text;
use crate::net::link::Link;
use crate::net::poll::{Poll, Source};
use crate::persistence::aof::rewrite::write_entry;
use crate::server::Server;
use crate::server::cluster::links::resolve;
use crate::server::cluster::now;
use crate::server::execution::pause::{Extent, PauseReason};
use crate::stdx::clock::UnixMillis;
use crate::stdx::text::Lossy;

/// Time for keys in one turn of the loop, before clients are served.
const SLICE: Duration = Duration::from_micros(500);
/// Bytes that may wait to be sent before keys wait for the connection.
const MOST_UNSENT: usize = 1 << 20;
/// Bytes that may wait to be read before the target has said too much.
const MOST_UNREAD: usize = 16 << 10;

const LOST: &str =
    "Connection lost to target. Check CLUSTER GETSLOTMIGRATIONS on the target node for more information.";

/// A migration away from here.
pub(super) struct Exporting {
    pub(super) machine: Export,
    /// The number of the connection.
    pub(super) place: usize,
    link: Option<Link>,
    connected: bool,
    pub(super) progress: Progress,
    /// The database that is selected at the target.
    selected: Option<usize>,
    /// Version of the table of owners that `owners` is from.
    seen_owners: Option<u64>,
    /// Whether all slots are this node's, and whether they are the target's.
    owners: (bool, bool),
    requests: Vec<u8>,
}

impl Exporting {
    /// Bytes that are kept.
    pub(super) fn memory(&self) -> usize {
        let link = self.link.as_ref().map_or(0, Link::allocated);
        size_of::<Exporting>() + link + self.progress.memory() + self.requests.capacity()
    }

    /// Whether there are keys to send, and the connection takes them.
    pub(super) fn goes_on(&self) -> bool {
        self.machine.job.state == State::Snapshotting
            && self.link.as_ref().is_some_and(|link| link.unsent() < MOST_UNSENT)
    }

    pub(super) fn close(&mut self, poll: Option<&Poll>) {
        if let Some(mut link) = self.link.take() {
            if let Some(poll) = poll {
                // Closing the socket has the same effect.
                let _ = poll.registry().deregister(link.stream_mut());
            }
            link.say_goodbye();
        }
    }

    fn say(&mut self, word: Word) {
        if let Some(link) = &mut self.link {
            link.request(&[b"CLUSTER", b"SYNCSLOTS", word.name().as_bytes()]);
        }
    }

    pub(super) fn select(&mut self, db: usize) {
        if self.selected != Some(db)
            && let Some(link) = &mut self.link
        {
            self.selected = Some(db);
            link.request(&[b"SELECT", itoa::Buffer::new().format(db).as_bytes()]);
        }
    }

    /// Sends a request as it is.
    pub(super) fn push(&mut self, db: usize, request: &[u8]) {
        self.select(db);
        if let Some(link) = &mut self.link {
            link.push(request);
        }
    }

    /// Sends a key as it is now, in each database. What was sent of it before is `replaced`.
    pub(super) fn send_key(&mut self, keyspace: &Keyspace, name: &[u8], replaced: bool) {
        for (index, db) in keyspace.databases().iter().enumerate() {
            if replaced {
                self.select(index);
                if let Some(link) = &mut self.link {
                    link.request(&[b"DEL", name]);
                }
            }
            let key = db.noting_slot(Key::new(name));
            let Some(entry) = db.keys().find(key.hash(), name) else { continue };
            if entry.expires().is_some_and(|at| at <= keyspace.now()) {
                continue;
            }
            self.select(index);
            self.requests.clear();
            write_entry(&entry, &mut self.requests);
            if let Some(link) = &mut self.link {
                link.push(&self.requests);
            }
            self.requests.shrink_to(64 << 10);
        }
    }

    /// Sends some keys; false if all have been sent.
    fn send_some(&mut self, keyspace: &Keyspace) -> bool {
        let databases = keyspace.databases();
        let Some(current) = &mut self.progress.current else { return self.progress.advance().is_some() };
        let Some(cursor) = current.cursor else {
            current.db += 1;
            current.cursor = Some(u64::from(current.slot.number()));
            return current.db < databases.len() || self.progress.advance().is_some();
        };
        let keys = databases[current.db].keys();
        if keys.count_in_slot(current.slot) == 0 {
            current.cursor = None;
            return true;
        }
        let mut names = Vec::new();
        let next = keys.scan_slot(cursor, |entry| names.push(entry.key().to_vec()));
        current.cursor = (next != 0).then_some(next);
        for name in names {
            if self.progress.note_sent(&name) {
                self.send_key(keyspace, &name, false);
            }
        }
        true
    }

    /// Sends keys that a change has reached before they were sent, or among which is one that it has.
    pub(super) fn send_changed(&mut self, keyspace: &Keyspace, name: &[u8]) {
        match self.progress.place(name) {
            Place::Elsewhere | Place::Later => {}
            Place::Open => {
                self.progress.note_sent(name);
                self.send_key(keyspace, name, false);
            }
            Place::Sent => self.send_key(keyspace, name, true),
        }
    }
}

impl Server {
    /// Begins to move slots of this node to other ones. `asked_by` describes who wants it.
    pub fn begin_exports(&mut self, groups: Vec<(SlotSet, NodeKey)>, asked_by: &str) {
        let now = now();
        let Some(cluster) = &mut self.cluster else { return };
        let nodes = &cluster.machine.nodes;
        let source = nodes.myself().id;
        for (slots, target) in groups {
            let name = NodeId::random(&mut self.keyspace.rng);
            let machine = Export::new(name, (source, nodes[target].id), slots.clone(), now);
            tracing::info!(
                "Slot migration initiated through CLUSTER MIGRATESLOTS command: {} (user request from '{asked_by}')",
                machine.job.describe()
            );
            let place = cluster.migrations.next_place;
            cluster.migrations.next_place += 1;
            cluster.migrations.exports.push(Exporting {
                machine,
                place,
                link: None,
                connected: false,
                progress: Progress::new(slots),
                selected: None,
                seen_owners: None,
                owners: (true, false),
                requests: Vec::new(),
            });
        }
        self.feed_migrations();
        self.connect_exports();
    }

    fn connect_exports(&mut self) {
        let tls = self.config.tls.replication;
        let source: Option<IpAddr> = self.config.net.bind_source_addr.parse().ok();
        let Some(cluster) = &mut self.cluster else { return };
        for export in &mut cluster.migrations.exports {
            if export.link.is_some() || export.machine.job.state != State::Connecting {
                continue;
            }
            let node = cluster.machine.nodes.find(&export.machine.job.target);
            let opened = node.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound)).and_then(|node| {
                let node = &cluster.machine.nodes[node];
                let peer = resolve(&node.ip, node.client_port(tls))?;
                let mut link =
                    Link::connect(peer, source.filter(|source| source.is_ipv4() == peer.is_ipv4()))?;
                if tls && let Some(connector) = self.tls.connector() {
                    link.encrypt(connector);
                }
                let poll = self.event_loop.poll.as_ref().ok_or(io::ErrorKind::NotConnected)?;
                poll.registry().register(link.stream_mut(), Source::Export(export.place))?;
                Ok(link)
            });
            match opened {
                Ok(link) => export.link = Some(link),
                Err(error) => {
                    let text = format!("Unable to connect to target node: {}", error_text(&error));
                    export.machine.fail(Outcome::Failed, &text, now());
                }
            }
        }
    }

    /// Serves connections to targets that are ready.
    pub(in crate::server) fn serve_exports(&mut self, ready: &[usize]) {
        let limits = self.migration_limits();
        let options = &self.config.replication;
        let auth = (!options.masterauth.is_empty())
            .then(|| (options.masteruser.clone(), options.masterauth.clone()));
        let Some(cluster) = &mut self.cluster else { return };
        let nodes = &cluster.machine.nodes;
        for export in &mut cluster.migrations.exports {
            if ready.contains(&export.place) && !export.machine.job.is_over() {
                let mine = all_owned(nodes, &export.machine.job.slots, Some(nodes.me()));
                let answer = |export: &mut Exporting| export.serve(auth.as_ref(), mine, &limits);
                if let Err(error) = answer(export) {
                    tracing::info!(
                        "Slot migration {}: {}",
                        export.machine.job.describe(),
                        error_text(&error)
                    );
                    export.machine.lost(LOST, now());
                    export.link = None;
                }
            }
        }
    }

    /// Sends keys for a short time.
    pub(super) fn send_snapshots(&mut self) {
        let Server { cluster: Some(cluster), keyspace, .. } = self else { return };
        for export in cluster.migrations.exports.iter_mut().filter(|export| export.goes_on()) {
            let began = Instant::now();
            while export.goes_on() && began.elapsed() < SLICE {
                if !export.send_some(keyspace) {
                    export.machine.snapshot_sent(now());
                    export.say(Word::SnapshotEof);
                    tracing::info!(
                        "Slot migration {} snapshot finished, starting streaming.",
                        export.machine.job.describe()
                    );
                }
            }
        }
    }

    /// Sends what is to be sent.
    pub(super) fn flush_exports(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let migrations = &mut cluster.migrations;
        for export in &mut migrations.exports {
            let Some(link) = export.link.as_mut().filter(|_| export.connected) else { continue };
            let before = link.unsent();
            let sent = link.flush();
            migrations.exported_bytes += (before - link.unsent()) as u64;
            if sent.is_err() {
                export.machine.lost(LOST, now());
                export.link = None;
            }
        }
    }

    /// The time passes for migrations away from here.
    pub(super) fn tick_exports(&mut self) {
        let (limits, now) = (self.migration_limits(), now());
        let most_unsent = self.config.cluster.slot_migration_max_failover_repl_bytes;
        let most_output = self.config.limits.client_output_buffer.replica.hard_bytes;
        let Some(cluster) = &mut self.cluster else { return };
        let (nodes, version) = (&cluster.machine.nodes, cluster.machine.slots_version);
        let mut pause_ms = 0;
        for export in &mut cluster.migrations.exports {
            let job = &export.machine.job;
            if export.seen_owners != Some(version) {
                let target = nodes.find(&job.target);
                export.owners =
                    (all_owned(nodes, &job.slots, Some(nodes.me())), all_owned(nodes, &job.slots, target));
                export.seen_owners = Some(version);
            }
            let unsent = export.link.as_ref().map_or(0, Link::unsent);
            if most_output > 0 && unsent as u64 > most_output {
                let why = "The target takes changes too slowly (client-output-buffer-limit of replicas)";
                export.machine.fail(Outcome::Failed, why, now);
            }
            let seen = Seen { unsent, mine: export.owners.0, theirs: export.owners.1 };
            for next in export.machine.tick(seen, most_unsent, &limits, now) {
                match next {
                    Next::Pause(ms) => {
                        tracing::info!(
                            "Pausing writes (remaining_repl_size is {unsent}) to allow slot migration {} to finalize \
                             failover.",
                            export.machine.job.describe()
                        );
                        pause_ms = pause_ms.max(ms);
                    }
                    Next::Say(word) => export.say(word),
                }
            }
        }
        if pause_ms > 0 {
            let until = UnixMillis(UnixMillis::now().0.saturating_add(pause_ms));
            self.pause_for(PauseReason::Migration, until, Extent::Writes);
        }
    }
}

type Auth = (Vec<u8>, Vec<u8>);

impl Exporting {
    /// Connects, and hears what the target says.
    fn serve(
        &mut self,
        auth: Option<&Auth>,
        mine: bool,
        limits: &crate::cluster::migration::Limits,
    ) -> io::Result<()> {
        let Some(link) = &mut self.link else { return Ok(()) };
        if !self.connected {
            self.connected = link.finish_connecting()?;
            if !self.connected {
                return Ok(());
            }
            match auth {
                Some((user, password)) if user.is_empty() => link.request(&[b"AUTH", password]),
                Some((user, password)) => link.request(&[b"AUTH", user, password]),
                None => {}
            }
            self.machine.connected(auth.is_some(), now());
            if auth.is_none() {
                self.introduce();
            }
        }
        loop {
            let Some(link) = &mut self.link else { return Ok(()) };
            let more = link.receive()?;
            self.hear_all(mine, limits)?;
            if !more {
                return Ok(());
            }
        }
    }

    fn introduce(&mut self) {
        let job = &self.machine.job;
        let numbers: Vec<String> =
            job.slots.ranges().flat_map(|(first, last)| [first.to_string(), last.to_string()]).collect();
        let mut words: Vec<&[u8]> = vec![
            b"CLUSTER",
            b"SYNCSLOTS",
            b"ESTABLISH",
            b"SOURCE",
            job.source.as_bytes(),
            b"NAME",
            job.name.as_bytes(),
            b"SLOTSRANGE",
        ];
        words.extend(numbers.iter().map(String::as_bytes));
        if let Some(link) = &mut self.link {
            link.request(&words);
        }
    }

    fn hear_all(&mut self, mine: bool, limits: &crate::cluster::migration::Limits) -> io::Result<()> {
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        loop {
            let Some(link) = &mut self.link else { return Ok(()) };
            if link.received().len() > MOST_UNREAD {
                return Err(malformed());
            }
            let Some(response) = link.response().map_err(|_| malformed())? else { return Ok(()) };
            let now = now();
            match self.machine.job.state {
                State::Authenticating | State::Establishing if response.is_ok() => {
                    if self.machine.job.state == State::Authenticating {
                        self.machine.authenticated(now);
                        self.introduce();
                    } else {
                        if let Next::Say(word) = self.machine.established(now) {
                            self.say(word);
                        }
                        tracing::info!(
                            "Beginning snapshot of slot migration {}.",
                            self.machine.job.describe()
                        );
                    }
                }
                State::Authenticating | State::Establishing => {
                    let what =
                        if self.machine.job.state == State::Authenticating { "AUTH" } else { "ESTABLISH" };
                    let text = response.error().unwrap_or(response.text());
                    let why = format!("Target replied to {what} with: {}", Lossy(text));
                    self.machine.fail(Outcome::Failed, &why, now);
                }
                _ => {
                    let words: Vec<&[u8]> = response.items().map(|item| item.text()).collect();
                    let said = match words[..] {
                        [_, sub, word] if sub.eq_ignore_ascii_case(b"SYNCSLOTS") => Word::parse(word),
                        _ => None,
                    };
                    let Some(word) = said else {
                        self.machine.fail(Outcome::Failed, "The target said something unexpected", now);
                        return Ok(());
                    };
                    if let Some(Next::Say(word)) = self.machine.heard(word, mine, limits, now) {
                        self.say(word);
                    }
                }
            }
            if self.machine.job.is_over() {
                return Ok(());
            }
        }
    }
}
