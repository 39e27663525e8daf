//! One client: its connection and buffers, and what it has chosen.

use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use super::blocking::Blocked;
use super::memory::Counted;
use super::multi::Transaction;
use super::pubsub::{Scope, Subscriptions};
use super::tracking::Tracking;
use super::watch::Watched;
use super::withheld::{OutputDependency, WithheldOutput};
use crate::acl::UserId;
use crate::net::io::{ClientIo, Input, Output};
use crate::net::peer::Peer;
use crate::replication::replica::Replica;
use crate::resp::Protocol;
use crate::stats::progress::Progress;
use crate::stdx::bits::bit_set;
use crate::stdx::clock::UnixMillis;

bit_set! {
    /// Yes-or-no properties of a connection.
    pub struct ClientFlags: u32 {
        /// The client has authenticated, or need not.
        AUTHENTICATED = 0;
        /// Close once everything is sent; nothing more is read.
        CLOSE_AFTER_REPLY = 1;
        /// Close before the loop sleeps, whatever is left.
        CLOSE_SOON = 2;
        /// The client is not closed to free memory (`CLIENT NO-EVICT`).
        NO_EVICT = 3;
        /// Reads of the client do not count as accesses (`CLIENT NO-TOUCH`).
        NO_TOUCH = 4;
        /// Commands are queued for EXEC.
        IN_MULTI = 5;
        /// The peer has closed its side: the socket is to be read to its end.
        PEER_CLOSED = 6;
        /// In the list of those whose output is to be sent.
        IN_SEND_LIST = 7;
        /// The socket did not take everything; it will say when it is writable.
        AWAITS_WRITABLE = 8;
        /// In the list of those with more to read.
        IN_READ_LIST = 9;
        /// In the list of those to be closed.
        IN_CLOSE_LIST = 10;
        /// A watched key was changed: EXEC will run nothing.
        WATCH_BROKEN = 11;
        /// Subscribed to a channel or pattern.
        SUBSCRIBED = 12;
        /// A replica of ours.
        REPLICA = 13;
        /// The connection to our primary.
        PRIMARY = 14;
        /// Sees all commands (`MONITOR`).
        MONITOR = 15;
        /// Waits in a blocking command.
        BLOCKED = 16;
        /// Its user may not do everything.
        LIMITED_USER = 17;
        /// Its requests are kept until a pause ends.
        PAUSED = 18;
        /// The keys it reads are remembered, so that it can be told when they change.
        TRACKS_READS = 19;
        /// It has chosen whether the keys of its next command are remembered.
        CHOSE_CACHING = 20;
        /// It is nobody who is connected: its requests come from elsewhere.
        INTERNAL = 21;
        /// Its input lies still while a script runs for long: it has a request in it that is not executed yet.
        FROZEN = 22;
        /// Keys that it has read may be remembered, even if they no longer are while it reads.
        READS_REMEMBERED = 23;
        /// A replica that knows no histories and acknowledges nothing.
        PLAIN_SYNC = 24;
        /// Its connection is in an I/O thread, or on the way there or from there.
        AWAY = 25;
        /// Its connection belongs to an I/O thread, and is here until the end of the turn.
        VISITING = 26;
        /// Its connection is away and has been asked for.
        RECALLED = 27;
        /// It was sent here by the owner of a slot that is being moved to this node: its next request is served.
        ASKING = 28;
        /// It reads from replicas in a cluster, whose data may be old (`READONLY`).
        READS_COPIES = 29;
        /// It is a node that moves slots here, and gets no replies.
        IMPORTS = 30;
    }
}

impl ClientFlags {
    /// Nothing it sends is looked at any more.
    pub const CLOSING: ClientFlags = ClientFlags::CLOSE_AFTER_REPLY.with(ClientFlags::CLOSE_SOON);
}

/// Which replies the client wants (`CLIENT REPLY`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ReplyMode {
    /// All replies.
    #[default]
    On,
    /// No replies.
    Off,
    /// No reply to the next command.
    SkipNext,
    /// No reply to this command.
    Skip,
}

/// How scripts of a client are debugged (`SCRIPT DEBUG`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScriptDebug {
    /// In a child process, whose changes are lost.
    Forked,
    /// By the server itself, which waits meanwhile.
    Sync,
}

/// Kinds of client, which have separate output limits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientKind {
    /// Neither of the others.
    Normal,
    /// A replica.
    Replica,
    /// A client with subscriptions.
    PubSub,
    /// The connection to this server's primary.
    Primary,
}

impl ClientKind {
    /// All kinds; `ALL[k as usize] == k`.
    pub const ALL: [ClientKind; 4] =
        [ClientKind::Normal, ClientKind::Replica, ClientKind::PubSub, ClientKind::Primary];

    /// The kind that users call `name`, in any case.
    pub fn from_name(name: &[u8]) -> Option<ClientKind> {
        const NAMES: [(&str, ClientKind); 6] = [
            ("normal", ClientKind::Normal),
            ("replica", ClientKind::Replica),
            ("slave", ClientKind::Replica),
            ("pubsub", ClientKind::PubSub),
            ("master", ClientKind::Primary),
            ("primary", ClientKind::Primary),
        ];
        let found = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
        found.map(|&(_, kind)| kind)
    }
}

/// One client.
pub struct Client {
    /// The identity users see: counts up from 1 and is never used twice. 0 if it is nobody.
    pub id: u64,
    /// Its socket and buffers.
    pub io: Box<ClientIo>,
    /// The user that it acts as, unless it is the connection to the primary.
    pub user: UserId,
    /// Boolean properties.
    pub flags: ClientFlags,
    /// Protocol version.
    pub protocol: Protocol,
    /// Which replies it wants.
    pub reply_mode: ReplyMode,
    /// The I/O thread that its connection belongs to, if it is away or visiting.
    pub thread: u16,
    /// Number of the selected database.
    pub db: u32,
    /// Index of the last command in the command table, for `CLIENT LIST`.
    pub last_command: Option<u16>,
    /// Time of the connection.
    pub connected_at: UnixMillis,
    /// Time of the last receive or send.
    pub last_active: UnixMillis,
    /// Time at which its connection was last recalled for a visit by the timer.
    pub recalled_at: UnixMillis,
    /// Time at which its output exceeded the soft limit.
    pub over_soft_limit_since: Option<UnixMillis>,
    /// Names that it has set.
    pub names: Names,
    /// Whether it follows redirections (`CLIENT CAPA redirect`).
    pub can_redirect: bool,
    /// The requests since MULTI. EXEC shares them while it runs them.
    pub transaction: Option<Arc<Transaction>>,
    /// How its scripts are debugged; `None` if they are not.
    pub script_debug: Option<ScriptDebug>,
    /// Keys that it watches.
    pub watched: Watched,
    /// Withheld output, which waits until the append-only file is durable.
    pub withheld_output: WithheldOutput,
    /// The log offset that its latest output depends on.
    pub dependency: OutputDependency,
    /// What it waits for: in a blocking command, or during a pause.
    pub blocked: Option<Box<Blocked>>,
    /// Its subscriptions; `None` if it has none.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// How its keys are tracked; `None` if they are not.
    pub tracking: Option<Box<Tracking>>,
    /// What is known of it as a replica; `None` if it is none and has not said that it will be.
    pub replica: Option<Box<ReplicaEnd>>,
    /// Offset in the stream of replicas behind its last write.
    pub last_write: u64,
    /// Bytes that its watches cost.
    pub watched_bytes: usize,
    /// Bytes received.
    pub total_in: u64,
    /// Bytes sent.
    pub total_out: u64,
    /// Commands run.
    pub commands: u64,
    /// Its contribution to the memory totals: see [`super::memory`].
    pub(super) counted: Option<Counted>,
}

/// A connection as that of a replica.
#[derive(Debug)]
pub struct ReplicaEnd {
    /// What it said, and how far it is.
    pub replica: Replica,
    /// The file of the snapshot that it is sent.
    pub file: Option<File>,
    /// How far it has come, for those who wait for it.
    pub progress: Option<Progress>,
}

/// Names that the client has set. Empty names allocate nothing.
#[derive(Default)]
pub struct Names {
    /// Name of the connection (`CLIENT SETNAME`).
    pub name: Box<[u8]>,
    /// Name of the client library.
    pub lib_name: Box<[u8]>,
    /// Version of the client library.
    pub lib_ver: Box<[u8]>,
}

impl Client {
    /// A new client at the other end of a connection.
    pub fn new(id: u64, peer: impl Into<Peer>, now: UnixMillis, authenticated: bool) -> Self {
        let flags = if authenticated { ClientFlags::AUTHENTICATED } else { ClientFlags::NONE };
        Client::with_peer(id, peer.into(), now, flags)
    }

    /// Nobody who is connected, with a session all the same: for requests that come from elsewhere, and in tests. What
    /// is written for it stays in its output. It has no identity, costs nothing that is counted, and nobody finds it but
    /// whoever holds its key.
    pub fn internal(now: UnixMillis) -> Self {
        // Said to be in every list already, it is put into none.
        const IN_NO_LIST: ClientFlags =
            ClientFlags::IN_SEND_LIST.with(ClientFlags::IN_READ_LIST).with(ClientFlags::IN_CLOSE_LIST);
        let flags = ClientFlags::INTERNAL.with(ClientFlags::AUTHENTICATED).with(IN_NO_LIST);
        Client::with_peer(0, Peer::Internal, now, flags)
    }

    fn with_peer(id: u64, peer: Peer, now: UnixMillis, flags: ClientFlags) -> Self {
        Client {
            id,
            io: Box::new(ClientIo { peer, input: Input::default(), output: Output::default() }),
            user: UserId::DEFAULT,
            flags,
            protocol: Protocol::Resp2,
            reply_mode: ReplyMode::On,
            thread: 0,
            db: 0,
            last_command: None,
            connected_at: now,
            last_active: now,
            recalled_at: now,
            over_soft_limit_since: None,
            names: Names::default(),
            can_redirect: false,
            transaction: None,
            script_debug: None,
            watched: Watched::new(),
            withheld_output: WithheldOutput::default(),
            dependency: OutputDependency::default(),
            blocked: None,
            subscriptions: None,
            tracking: None,
            replica: None,
            last_write: 0,
            watched_bytes: 0,
            total_in: 0,
            total_out: 0,
            commands: 0,
            counted: None,
        }
    }

    /// Number of bytes sent to the client and waiting to be sent.
    #[inline]
    pub fn output_end(&self) -> u64 {
        self.total_out + self.io.output.pending() as u64
    }

    /// Whether it is of another kind than [`ClientKind::Normal`].
    #[inline]
    pub fn is_special(&self) -> bool {
        const SPECIAL: ClientFlags =
            ClientFlags::SUBSCRIBED.with(ClientFlags::REPLICA).with(ClientFlags::PRIMARY);
        self.flags.has(SPECIAL)
    }

    /// What kind of connection it is. One that monitors counts as normal, though it is treated as a replica
    /// elsewhere.
    #[inline]
    pub fn kind(&self) -> ClientKind {
        if !self.is_special() {
            ClientKind::Normal
        } else if self.flags.has(ClientFlags::PRIMARY) {
            ClientKind::Primary
        } else if self.flags.has(ClientFlags::REPLICA) {
            ClientKind::Replica
        } else {
            ClientKind::PubSub
        }
    }

    /// `Err` is the user that the client acts as; `Ok` is the name shown for a client without a user, which may do
    /// everything.
    pub fn user(&self) -> Result<&'static [u8], UserId> {
        if self.flags.has(ClientFlags::PRIMARY) { Ok(b"(superuser)") } else { Err(self.user) }
    }

    /// Milliseconds since the last receive or send.
    pub fn idle_ms(&self, now: UnixMillis) -> i64 {
        now.since(self.last_active).max(0)
    }

    /// Whether it is nobody who is connected.
    #[inline]
    pub fn is_internal(&self) -> bool {
        self.flags.has(ClientFlags::INTERNAL)
    }

    /// The queue of requests after MULTI, for adding some. No other reference to it exists: nothing is queued while EXEC
    /// runs.
    pub fn open_transaction(&mut self) -> Option<&mut Transaction> {
        self.transaction.as_mut().and_then(Arc::get_mut)
    }

    /// Makes the next EXEC fail because a request was refused, if the client is between MULTI and EXEC.
    pub fn break_transaction(&mut self) {
        if let Some(transaction) = self.open_transaction() {
            transaction.broken = true;
        }
    }

    /// Whether nothing more is read from the client.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.flags.has(ClientFlags::CLOSING)
    }

    /// Bytes that the client costs: its own record, names, buffers, stored requests, watches, subscriptions and
    /// prefixes. O(prefixes), plus O(requests) while a pause withholds some. While its connection is away, the same as
    /// when it was last counted.
    pub fn memory(&self) -> usize {
        if self.flags.has(ClientFlags::AWAY)
            && let Some(counted) = &self.counted
        {
            return counted.bytes();
        }
        size_of::<Client>()
            + size_of::<ClientIo>()
            + self.io.peer.allocated()
            + self.io.input.allocated()
            + self.io.output.allocated()
            + self.names.name.len()
            + self.names.lib_name.len()
            + self.names.lib_ver.len()
            + self.transaction.as_ref().map_or(0, |transaction| transaction.memory())
            + self.blocked.as_ref().map_or(0, |blocked| blocked.memory())
            + self.subscriptions.as_ref().map_or(0, |subscriptions| subscriptions.memory())
            + self.tracking.as_ref().map_or(0, |tracking| tracking.memory())
            + self.watched_bytes
    }

    /// Appends the line about this client that `CLIENT LIST` and the log print, without a line end.
    ///
    /// `command` is the name of the last command, `user` that of the user, and `args` the size in bytes of the
    /// arguments of the current command. `stream` is what it has not been sent of the stream of replicas: bytes, and blocks
    /// that they are in.
    ///
    /// Fields that came after Redis 7.2 are at the end, because programs exist that know the others by their places.
    pub fn write_line(
        &self,
        now: UnixMillis,
        command: &str,
        user: &[u8],
        args: usize,
        stream: (u64, usize),
        out: &mut Vec<u8>,
    ) {
        let (peer, input, output) = (&self.io.peer, &self.io.input, &self.io.output);
        let (queued, queued_bytes) = match &self.transaction {
            Some(transaction) => (transaction.len() as i64, transaction.memory()),
            None => (-1, 0),
        };
        let held = input.unparsed();
        let waiting = self.flags.has(ClientFlags::AWAITS_WRITABLE);
        let listens = |scope| self.subscriptions.as_ref().map_or(0, |subscriptions| subscriptions.len(scope));
        // Writing to a `Vec` cannot fail.
        let _ = write!(
            out,
            "id={} addr={} laddr={} fd={} name=",
            self.id,
            peer.addr(),
            peer.local_addr(),
            peer.raw_fd()
        );
        out.extend_from_slice(&self.names.name);
        let _ = write!(
            out,
            " age={} idle={} flags=",
            now.since(self.connected_at) / 1000,
            self.idle_ms(now) / 1000
        );
        self.write_letters(out);
        let _ = write!(
            out,
            " db={} sub={} psub={} ssub={} multi={queued} qbuf={held} qbuf-free={} argv-mem={args} multi-mem={queued_bytes} \
             rbs={} rbp={} obl={} oll={} omem={} tot-mem={} events={} cmd={command} user=",
            self.db,
            listens(Scope::Channel),
            listens(Scope::Pattern),
            listens(Scope::Shard),
            input.allocated().saturating_sub(held),
            output.room(),
            output.peak(),
            output.in_buffer(),
            output.segments() + stream.1,
            output.excess() as u64 + stream.0,
            self.memory() as u64 + stream.0,
            if waiting { "rw" } else { "r" },
        );
        out.extend_from_slice(user);
        let redirect = self.tracking.as_ref().map_or(-1, |tracking| tracking.redirect_id());
        let _ = write!(out, " redir={redirect} resp={} lib-name=", self.protocol as u8);
        out.extend_from_slice(&self.names.lib_name);
        out.extend_from_slice(b" lib-ver=");
        out.extend_from_slice(&self.names.lib_ver);
        let _ = write!(
            out,
            " io-thread={} tot-net-in={} tot-net-out={} tot-cmds={} watch={} capa=",
            self.thread,
            self.total_in,
            self.total_out,
            self.commands,
            self.watched.len()
        );
        out.extend_from_slice(self.capabilities());
    }

    /// A letter for each thing that it can do (`CLIENT CAPA`).
    pub fn capabilities(&self) -> &'static [u8] {
        if self.can_redirect { b"r" } else { b"" }
    }

    /// The letters of [`Client::write_letters`], and those of modules and clusters.
    pub const LETTERS: &[u8] = b"OSMPxbtRBdcAUeTNriu";

    /// Appends a letter per notable property; `N` if there is none.
    pub fn write_letters(&self, out: &mut Vec<u8>) {
        let flags = self.flags;
        let tracking = self.tracking.as_deref();
        let letters = [
            (flags.has(ClientFlags::MONITOR), b'O'),
            (flags.has(ClientFlags::REPLICA), b'S'),
            (flags.has(ClientFlags::PRIMARY), b'M'),
            (flags.has(ClientFlags::IMPORTS), b'i'),
            (flags.has(ClientFlags::SUBSCRIBED), b'P'),
            (flags.has(ClientFlags::IN_MULTI), b'x'),
            (flags.has(ClientFlags::BLOCKED.with(ClientFlags::PAUSED)), b'b'),
            (tracking.is_some(), b't'),
            (tracking.is_some_and(|tracking| tracking.broken), b'R'),
            (tracking.is_some_and(|tracking| tracking.broadcast), b'B'),
            (flags.has(ClientFlags::WATCH_BROKEN), b'd'),
            (flags.has(ClientFlags::CLOSE_AFTER_REPLY), b'c'),
            (flags.has(ClientFlags::CLOSE_SOON), b'A'),
            (self.io.peer.is_unix(), b'U'),
            (flags.has(ClientFlags::READS_COPIES), b'r'),
            (flags.has(ClientFlags::NO_EVICT), b'e'),
            (flags.has(ClientFlags::NO_TOUCH), b'T'),
        ];
        let start = out.len();
        out.extend(letters.into_iter().filter(|&(set, _)| set).map(|(_, letter)| letter));
        if out.len() == start {
            out.push(b'N');
        }
    }
}
