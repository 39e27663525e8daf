//! One connection: its socket and buffers, and what it has chosen.

use super::multi::Transaction;
use super::watch::Watched;
use crate::net::io::{ClientIo, Input, Output};
use crate::net::stream::Stream;
use crate::resp::Protocol;
use crate::stdx::clock::UnixMillis;

/// Yes-or-no properties of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ClientFlags(u32);

impl ClientFlags {
    pub const NONE: ClientFlags = ClientFlags(0);
    pub const AUTHENTICATED: ClientFlags = ClientFlags(1);
    /// Close once everything is sent; nothing more is read.
    pub const CLOSE_AFTER_REPLY: ClientFlags = ClientFlags(1 << 1);
    /// Close before the loop sleeps, whatever is left.
    pub const CLOSE_SOON: ClientFlags = ClientFlags(1 << 2);
    pub const NO_EVICT: ClientFlags = ClientFlags(1 << 3);
    pub const NO_TOUCH: ClientFlags = ClientFlags(1 << 4);
    /// Commands are queued for EXEC.
    pub const IN_MULTI: ClientFlags = ClientFlags(1 << 5);
    /// The peer has closed its side: the socket is to be read to its end.
    pub const PEER_CLOSED: ClientFlags = ClientFlags(1 << 6);
    /// In the list of those whose output is to be sent.
    pub const IN_SEND_LIST: ClientFlags = ClientFlags(1 << 7);
    /// The socket did not take everything; it will say when it is writable.
    pub const AWAITS_WRITABLE: ClientFlags = ClientFlags(1 << 8);
    /// In the list of those with more to read.
    pub const IN_READ_LIST: ClientFlags = ClientFlags(1 << 9);
    /// In the list of those to be closed.
    pub const IN_CLOSE_LIST: ClientFlags = ClientFlags(1 << 10);
    /// A watched key was changed: EXEC will run nothing.
    pub const WATCH_BROKEN: ClientFlags = ClientFlags(1 << 11);

    #[inline]
    pub const fn has(self, flag: ClientFlags) -> bool {
        self.0 & flag.0 != 0
    }
    #[inline]
    pub fn set(&mut self, flag: ClientFlags, on: bool) {
        if on { self.0 |= flag.0 } else { self.0 &= !flag.0 }
    }
    pub const fn with(self, flag: ClientFlags) -> ClientFlags {
        ClientFlags(self.0 | flag.0)
    }
}

/// Which replies the client wants (`CLIENT REPLY`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ReplyMode {
    #[default]
    On,
    Off,
    /// None to the next command.
    SkipNext,
    /// None to this command.
    Skip,
}

/// One connection.
pub struct Client {
    /// The identity users see: counts up from 1 and is never used twice.
    pub id: u64,
    pub io: Box<ClientIo>,
    pub flags: ClientFlags,
    pub protocol: Protocol,
    pub reply_mode: ReplyMode,
    /// Number of the selected database.
    pub db: u32,
    /// Place of the last command in the command table, for `CLIENT LIST`.
    pub last_command: Option<u16>,
    pub connected_at: UnixMillis,
    pub last_active: UnixMillis,
    /// When the output first exceeded its soft limit.
    pub over_soft_limit_since: Option<UnixMillis>,
    pub names: Names,
    /// The requests kept since MULTI.
    pub transaction: Option<Box<Transaction>>,
    pub watched: Watched,
    pub total_in: u64,
    pub total_out: u64,
    pub commands: u64,
}

/// What the client calls itself; nothing is allocated before it does.
#[derive(Default)]
pub struct Names {
    pub name: Box<[u8]>,
    pub lib_name: Box<[u8]>,
    pub lib_ver: Box<[u8]>,
}

impl Client {
    /// A fresh connection on `stream`.
    pub fn new(id: u64, stream: Stream, now: UnixMillis, authenticated: bool) -> Self {
        let mut flags = ClientFlags::NONE;
        flags.set(ClientFlags::AUTHENTICATED, authenticated);
        Client {
            id,
            io: Box::new(ClientIo { stream, input: Input::default(), output: Output::default() }),
            flags,
            protocol: Protocol::Resp2,
            reply_mode: ReplyMode::On,
            db: 0,
            last_command: None,
            connected_at: now,
            last_active: now,
            over_soft_limit_since: None,
            names: Names::default(),
            transaction: None,
            watched: Watched::new(),
            total_in: 0,
            total_out: 0,
            commands: 0,
        }
    }

    /// Whether nothing more is read from the client.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.flags.has(ClientFlags::CLOSE_AFTER_REPLY.with(ClientFlags::CLOSE_SOON))
    }

    /// Bytes the connection costs: its own record, names and buffers.
    pub fn memory(&self) -> usize {
        size_of::<Client>()
            + size_of::<ClientIo>()
            + self.io.input.allocated()
            + self.io.output.allocated()
            + self.names.name.len()
            + self.names.lib_name.len()
            + self.names.lib_ver.len()
    }
}
