//! What a primary knows of one replica.

use crate::stdx::bits::bit_set;
use crate::stdx::clock::UnixMillis;

bit_set! {
    /// What a replica said it understands (`REPLCONF capa`).
    pub struct Capabilities: u8 {
        /// A snapshot whose length is not known in advance.
        EOF = 0;
        /// Histories with a former one: `+CONTINUE` may name another.
        PSYNC2 = 1;
        /// A second connection for the snapshot: what replicas of Redis 8.0 and newer say.
        RDB_CHANNEL = 2;
    }
}

/// How far a replica has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It is connected and asked for nothing yet.
    Greeting,
    /// It waits for a snapshot to be begun.
    AwaitsSnapshot,
    /// It waits for the snapshot that is being written to a file; its stream begins at the offset of that snapshot.
    SnapshotBegun,
    /// It is sent a snapshot while that is written; its stream begins at the offset of that snapshot.
    SnapshotFlows,
    /// It is sent a snapshot, of which this many bytes have left.
    Transfer {
        /// Bytes of the file that have been read.
        sent: u64,
        /// Size of the file.
        len: u64,
    },
    /// It is sent the stream.
    Online,
    /// It is a tool that only wanted the snapshot.
    Done,
}

/// Which part of the data a tool asks for (`REPLCONF rdb-filter-only`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Whether it wants the keys.
    pub keys: bool,
    /// Whether it wants the functions.
    pub functions: bool,
}

impl Filter {
    /// Everything.
    pub const ALL: Filter = Filter { keys: true, functions: true };

    /// Reads the words of the option: the parts to keep.
    pub fn parse(words: &[u8]) -> Option<Filter> {
        let mut filter = Filter { keys: false, functions: false };
        for word in words.split(|&byte| byte == b' ').filter(|word| !word.is_empty()) {
            if word.eq_ignore_ascii_case(b"functions") {
                filter.functions = true;
            } else {
                return None;
            }
        }
        Some(filter)
    }
}

/// What a primary knows of a replica.
#[derive(Debug)]
pub struct Replica {
    /// How far it has come.
    pub state: State,
    /// What it understands.
    pub capabilities: Capabilities,
    /// Port that it listens on; 0 if it has not said.
    pub port: u16,
    /// Address that it announces, if not that of its connection.
    pub ip: Option<String>,
    /// Version of its program, if it is of the family that says so: major and minor.
    pub version: Option<(u32, u32)>,
    /// Whether it wants a snapshot only.
    pub snapshot_only: bool,
    /// Which part of the data it wants.
    pub filter: Filter,
    /// Offset in the stream of the next byte that it is sent.
    pub next: u64,
    /// Bytes of the stream that it has applied, as it last said.
    pub acknowledged: u64,
    /// Bytes of the stream that it has synced to its append-only file, as it last said.
    pub synced: u64,
    /// When it last said something.
    pub heard_at: UnixMillis,
    /// Whether it is put online by its first acknowledgement, since nothing tells when it has loaded what it was sent.
    pub online_when_heard: bool,
    /// Whether a reply to it was reported: it is reported once.
    pub replied: bool,
}

impl Replica {
    /// A replica that begins to introduce itself.
    pub fn new(now: UnixMillis) -> Replica {
        Replica {
            state: State::Greeting,
            capabilities: Capabilities::NONE,
            port: 0,
            ip: None,
            version: None,
            snapshot_only: false,
            filter: Filter::ALL,
            next: 0,
            acknowledged: 0,
            synced: 0,
            heard_at: now,
            online_when_heard: false,
            replied: false,
        }
    }

    /// Its state in INFO.
    pub fn state_name(&self) -> &'static str {
        match self.state {
            State::Greeting | State::AwaitsSnapshot | State::SnapshotBegun | State::SnapshotFlows => {
                "wait_bgsave"
            }
            State::Transfer { .. } => "send_bulk",
            State::Online => "online",
            State::Done => "rdb_transmitted",
        }
    }

    /// Whether the stream has to be kept from [`Replica::next`] on.
    pub fn needs_stream(&self) -> bool {
        matches!(
            self.state,
            State::SnapshotBegun | State::SnapshotFlows | State::Transfer { .. } | State::Online
        )
    }

    /// Whether the stream is sent to it now.
    #[inline]
    pub fn is_fed(&self) -> bool {
        self.state == State::Online && !self.online_when_heard
    }

    /// Seconds since it was last heard of, which `INFO` shows as its lag; `None` if it is not online.
    pub fn lag_s(&self, now: UnixMillis) -> Option<i64> {
        (self.state == State::Online).then(|| (now.since(self.heard_at) / 1000).max(0))
    }

    /// The newest snapshot format that it can read, as the number in the header of snapshots.
    pub fn snapshot_version(&self) -> SnapshotVersion {
        match self.version {
            Some(version) if version >= (9, 0) => SnapshotVersion::Valkey9,
            Some(_) => SnapshotVersion::Redis(11),
            None if self.capabilities.has(Capabilities::RDB_CHANNEL) => SnapshotVersion::Redis(12),
            None => SnapshotVersion::Oldest,
        }
    }

    /// Reads a version such as `9.0.1` into `version`.
    pub fn set_version(&mut self, text: &[u8]) -> bool {
        let mut parts =
            text.split(|&byte| byte == b'.').map(|part| std::str::from_utf8(part).ok()?.parse().ok());
        let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else { return false };
        self.version = Some((major, minor));
        true
    }
}

/// The format of the snapshot that a replica is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotVersion {
    /// The oldest that can hold the data.
    Oldest,
    /// This version, or an older one that can hold the data.
    Redis(u32),
    /// The format of Valkey 9.
    Valkey9,
}
