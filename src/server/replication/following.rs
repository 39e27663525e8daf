//! Following a primary: connecting, introducing ourselves, asking for data, and what happens when the connection
//! breaks.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use crate::clients::{Client, ClientFlags, ClientKey, ReplyMode};
use crate::config::value::PrimaryAddr;
use crate::net::error_text;
use crate::net::link::Link;
use crate::net::poll::Source;
use crate::persistence::rdb::SavedReplication;
use crate::replication::ReplicationId;
use crate::replication::handshake::{Failure, Greeting, Handshake, Next};
use crate::resp::request::write_request;
use crate::server::Server;
use crate::server::replication::failover::Phase;
use crate::server::replication::link::{Following, LINK, LinkState, receive_all};

/// A line that a primary answers is not longer.
const LONGEST_LINE: usize = 16 << 10;

impl Server {
    /// The client by which the primary sends its stream.
    pub fn primary_client(&self) -> Option<ClientKey> {
        match self.replication.following.as_ref()?.link {
            LinkState::Linked(key) => Some(key),
            _ => None,
        }
    }

    /// Follows another primary from now on.
    pub(in crate::server) fn follow(&mut self, address: PrimaryAddr) {
        let was_primary = !self.replication.is_replica();
        let resumable = match &self.replication.following {
            None => {
                tracing::info!(
                    "Before turning into a replica, using my own master parameters to synthesize a cached master: I may be able \
                     to synchronize with the new master with just a partial transfer."
                );
                true
            }
            Some(following) => following.resumable,
        };
        let db = match &self.replication.following {
            // What was last selected in the stream that others got from here.
            None => self.replication.backlog.selected.unwrap_or(0),
            Some(following) => self.primary_client().map_or(following.db, |key| self.clients[key].db),
        };
        if was_primary {
            self.settle_quorum();
        }
        self.leave_primary();
        self.config.replication.replicaof = Some(address);
        let following = Following { db, ..Following::new(self.keyspace.now(), resumable) };
        self.replication.following = Some(following);
        if was_primary {
            self.refuse_blocked();
            self.apply_oom_score();
        }
        self.apply_role();
        self.connect_to_primary();
    }

    /// Takes up the part in replication that the configuration says, with the data that were loaded: if they stand
    /// somewhere in a history, it goes on from there.
    pub(in crate::server) fn begin_replication(&mut self) {
        let position = self.persistence.resumable.and_then(|position| {
            let db = u32::try_from(position.db).ok()?;
            Some((ReplicationId::parse(&position.id)?, position.offset, db))
        });
        if self.config.replication.replicaof.is_some() {
            return self.begin_as_replica(position);
        }
        let Some((id, offset, _)) = position else { return };
        // What changes from now on is a history of its own, but who has what was saved can go on with it.
        self.replication.history.former = Some((id, offset));
        self.replication.backlog.restart(offset);
        self.replication.backlog.activate();
        self.replication.alone_since = Some(self.keyspace.now());
        self.apply_role();
        // Replicas still have the keys that were due when the snapshot was loaded.
        for (db, key) in std::mem::take(&mut self.persistence.dropped) {
            let words: [&[u8]; 2] = [b"DEL", &key];
            self.execution.unit.push(db as u32, |out| write_request(out, words.into_iter()));
            self.pass_on_unit(true);
        }
        self.feed_replicas();
    }

    fn begin_as_replica(&mut self, position: Option<(ReplicationId, u64, u32)>) {
        let now = self.keyspace.now();
        let mut following = Following::new(now, position.is_some());
        if let Some((id, offset, db)) = position {
            self.replication.history.adopt(id);
            self.replication.backlog.restart(offset);
            following.db = db;
        }
        self.replication.following = Some(following);
        self.apply_role();
        self.connect_to_primary();
    }

    /// Closes the connection to the primary, whatever its state.
    pub(in crate::server) fn leave_primary(&mut self) {
        let Some(following) = &mut self.replication.following else { return };
        match std::mem::replace(&mut following.link, LinkState::Down) {
            LinkState::Down | LinkState::Loading => {}
            LinkState::Connecting(link) | LinkState::Greeting(link, _) => self.close_link(*link),
            LinkState::Copying(link, copying) => {
                copying.give_up();
                self.close_link(*link);
            }
            LinkState::Linked(key) => {
                following.link = LinkState::Linked(key);
                self.expel(key);
            }
        }
    }

    fn close_link(&mut self, mut link: Link) {
        if let Some(poll) = &self.event_loop.poll {
            // Closing the socket has the same effect.
            link.say_goodbye();
            let _ = poll.registry().deregister(link.stream_mut());
        }
    }

    /// Starts connecting to the primary.
    pub(in crate::server) fn connect_to_primary(&mut self) {
        let Some(address) = self.config.replication.replicaof.clone() else { return };
        if self.event_loop.poll.is_none() || self.replication.following.is_none() {
            return;
        }
        tracing::info!("Connecting to MASTER {}:{}", address.host, address.port);
        let connected = resolve(&address).and_then(|peer| {
            let mut link = Link::connect(peer, self.link_source(peer))?;
            if self.config.tls.replication
                && let Some(connector) = self.tls.connector()
            {
                link.encrypt(connector);
            }
            if let Some(poll) = &self.event_loop.poll {
                poll.registry().register(link.stream_mut(), Source::Link(LINK))?;
            }
            Ok(link)
        });
        let Some(following) = &mut self.replication.following else { return };
        match connected {
            Ok(link) => {
                following.link = LinkState::Connecting(Box::new(link));
                following.heard_at = Instant::now();
                tracing::info!("MASTER <-> REPLICA sync started");
            }
            Err(error) => tracing::warn!("Unable to connect to MASTER: {}", error_text(&error)),
        }
    }

    /// Our own address on connections that we open, if one is configured.
    fn link_source(&self, peer: SocketAddr) -> Option<IpAddr> {
        let source: IpAddr = self.config.net.bind_source_addr.parse().ok()?;
        (source.is_ipv4() == peer.is_ipv4()).then_some(source)
    }

    /// The connection that is being opened can be read from or written to.
    pub(in crate::server) fn link_ready(&mut self) {
        let Some(following) = &mut self.replication.following else { return };
        let state = std::mem::replace(&mut following.link, LinkState::Down);
        let next = match state {
            LinkState::Connecting(link) => self.link_connected(link),
            LinkState::Greeting(link, handshake) => self.greet(link, handshake),
            LinkState::Copying(link, copying) => self.copy(link, copying),
            same @ (LinkState::Down | LinkState::Loading | LinkState::Linked(_)) => same,
        };
        let Some(following) = &mut self.replication.following else { return };
        following.link = next;
        self.finish_copying();
    }

    fn link_connected(&mut self, mut link: Box<Link>) -> LinkState {
        match link.finish_connecting() {
            Ok(false) => return LinkState::Connecting(link),
            Ok(true) => {}
            Err(error) => {
                tracing::warn!("Error condition on socket for SYNC: {}", error_text(&error));
                return self.broken(*link);
            }
        }
        tracing::info!("Non blocking connect for SYNC fired the event.");
        let mut out = Vec::new();
        let handshake = Handshake::begin(self.greeting(), &mut out);
        link.push(&out);
        self.greet(link, handshake)
    }

    fn greeting(&self) -> Greeting {
        let options = &self.config.replication;
        let following = self.replication.following.as_ref();
        let resumable = following.is_some_and(|following| following.resumable && !following.plain);
        let tls = &self.config.tls;
        let own = if tls.replication && tls.port != 0 { tls.port } else { self.config.net.port };
        let port = if options.announce_port != 0 { options.announce_port } else { own };
        Greeting {
            auth: (!options.masterauth.is_empty())
                .then(|| (options.masteruser.clone(), options.masterauth.clone())),
            port,
            ip: (!options.announce_ip.is_empty()).then(|| options.announce_ip.clone()),
            position: resumable.then(|| (self.replication.history.id, self.replication.offset())),
            takes_over: self.replication.failover.phase == Phase::Handing,
        }
    }

    pub(in crate::server) fn broken(&mut self, link: Link) -> LinkState {
        self.close_link(link);
        LinkState::Down
    }

    /// Sends what is to be sent, and takes the answers that have arrived.
    fn greet(&mut self, mut link: Box<Link>, mut handshake: Handshake) -> LinkState {
        let received = receive_all(&mut link, LONGEST_LINE);
        if received.as_ref().is_ok_and(|&n| n > 0)
            && let Some(following) = &mut self.replication.following
        {
            following.heard_at = Instant::now();
        }
        let mut out = Vec::new();
        loop {
            if handshake.is_plain() {
                return self.begin_copying(link, None, 0);
            }
            let bytes = link.received();
            let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else { break };
            let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]).to_vec();
            link.consume(end + 1);
            match handshake.answer(&line, &mut out) {
                Ok(Next::Wait) => {}
                Ok(Next::Full { id, offset }) => {
                    link.push(&out);
                    if let Err(error) = link.flush() {
                        tracing::warn!("Error condition on socket for SYNC: {}", error_text(&error));
                        return self.broken(*link);
                    }
                    self.failover_accepted();
                    return self.begin_copying(link, id, offset);
                }
                Ok(Next::Continue { id }) => {
                    self.failover_accepted();
                    return self.go_on(*link, id);
                }
                Err(failure) => {
                    if failure == Failure::Failover {
                        self.close_link(*link);
                        self.give_up_failover(&failure.to_string());
                        return LinkState::Down;
                    }
                    tracing::warn!("{failure}");
                    return self.broken(*link);
                }
            }
        }
        link.push(&out);
        let sent = received.and_then(|_| link.flush());
        if let Err(error) = sent {
            tracing::warn!("Error condition on socket for SYNC: {}", error_text(&error));
            return self.broken(*link);
        }
        if link.received().len() > LONGEST_LINE {
            tracing::warn!("The MASTER answers no lines, giving up");
            return self.broken(*link);
        }
        LinkState::Greeting(link, handshake)
    }

    fn failover_accepted(&mut self) {
        if self.replication.failover.phase == Phase::Handing {
            self.end_failover();
        }
    }

    /// The primary goes on with its stream from where we stand.
    fn go_on(&mut self, link: Link, id: Option<ReplicationId>) -> LinkState {
        let offset = self.replication.offset();
        if let Some(id) = id.filter(|id| *id != self.replication.history.id) {
            self.replication.history.follow(id, offset);
            tracing::info!("Master replication ID changed to {id}");
            // They must learn of it, and can go on from where they stand.
            self.disconnect_replicas();
        }
        if !self.replication.backlog.is_active() {
            self.replication.backlog.activate();
        }
        let db = self.replication.following.as_ref().map_or(0, |following| following.db);
        let state = self.linked(link, db);
        tracing::info!("MASTER <-> REPLICA sync: Master accepted a Partial Resynchronization.");
        state
    }

    /// From now on the connection is that of a client, which sends the stream.
    pub(in crate::server) fn linked(&mut self, link: Link, db: u32) -> LinkState {
        let (mut peer, received) = link.into_parts();
        let Some(poll) = &self.event_loop.poll else { return LinkState::Down };
        let registry = poll.registry();
        // It has not been registered for long enough to have gone.
        let _ = registry.deregister(&mut peer);
        let now = self.keyspace.now();
        let mut failed = None;
        let key = self.clients.insert_with(|id, key| {
            failed = registry.register(&mut peer, Source::Client(key.0)).err();
            Client::new(id, peer, now, true)
        });
        if let Some(error) = failed {
            tracing::warn!("Cannot watch the connection to the primary: {error}");
            self.clients.remove(key);
            return LinkState::Down;
        }
        let client = &mut self.clients[key];
        client.flags.set(ClientFlags::PRIMARY, true);
        client.reply_mode = ReplyMode::Off;
        client.db = db;
        client.io.input.buf = received;
        let Some(following) = &mut self.replication.following else { return LinkState::Down };
        following.down_since = None;
        following.resumable = !following.plain;
        following.heard_at = Instant::now();
        following.link = LinkState::Linked(key);
        self.replication.stream.forget();
        self.apply_role();
        self.apply_stream(key);
        self.read_soon(key);
        match &self.replication.following {
            Some(Following { link: LinkState::Linked(key), .. }) => LinkState::Linked(*key),
            _ => LinkState::Down,
        }
    }

    /// The connection by which the stream came is gone.
    pub(in crate::server) fn primary_lost(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        if !client.flags.has(ClientFlags::PRIMARY) {
            return;
        }
        client.flags.set(ClientFlags::PRIMARY, false);
        let db = client.db;
        self.replication.stream.forget();
        let now = self.keyspace.now();
        let Some(following) = &mut self.replication.following else { return };
        if !matches!(following.link, LinkState::Linked(linked) if linked == key) {
            return;
        }
        tracing::info!("Connection with master lost.");
        tracing::info!("Caching the disconnected master state.");
        following.link = LinkState::Down;
        following.db = db;
        following.down_since = Some(now);
        self.apply_role();
    }

    /// Tasks of a replica once per second.
    pub(in crate::server) fn follow_cron(&mut self) {
        let timeout = Duration::from_secs(u64::from(self.config.replication.timeout_s));
        let now = self.keyspace.now();
        let Some(following) = &mut self.replication.following else { return };
        let silent = following.heard_at.elapsed() > timeout;
        match &mut following.link {
            LinkState::Down => return self.connect_to_primary(),
            LinkState::Connecting(_) | LinkState::Greeting(..) if silent => {
                tracing::warn!("Timeout connecting to the MASTER...");
            }
            LinkState::Copying(link, _) => {
                if !silent {
                    // An answer is not expected; an error shows when the next bytes are read.
                    link.push(b"\n");
                    let _ = link.flush();
                    return;
                }
                tracing::warn!(
                    "Timeout receiving bulk data from MASTER... If the problem persists try to set the 'repl-timeout' \
                     parameter in redis.conf to a larger value."
                );
            }
            &mut LinkState::Linked(key) => {
                let plain = following.plain;
                if now.since(self.clients[key].last_active) > timeout.as_millis() as i64 {
                    tracing::warn!("MASTER timeout: no data nor PING received...");
                    self.expel(key);
                } else if !plain {
                    self.acknowledge();
                }
                return;
            }
            LinkState::Connecting(_) | LinkState::Greeting(..) | LinkState::Loading => return,
        }
        self.leave_primary();
        if let Some(following) = &mut self.replication.following {
            following.heard_at = Instant::now();
        }
    }

    /// Where the data stand in a history, for a snapshot of them: name, offset, and the selected database.
    pub(in crate::server) fn snapshot_position(&self) -> Option<SavedReplication> {
        let replication = &self.replication;
        let db = match &replication.following {
            None if !replication.backlog.is_active() => return None,
            None => replication.backlog.selected.unwrap_or(0),
            // The stream of a primary without histories goes on here in a history of our own.
            Some(following) if following.resumable || following.is_linked() => {
                self.primary_client().map_or(following.db, |key| self.clients[key].db)
            }
            Some(_) => return None,
        };
        let id = *replication.history.id.as_bytes();
        Some(SavedReplication { id, offset: replication.offset(), db: i64::from(db) })
    }
}

fn resolve(address: &PrimaryAddr) -> io::Result<SocketAddr> {
    let mut found = (address.host.as_str(), address.port).to_socket_addrs()?;
    found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
}
