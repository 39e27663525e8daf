//! What a primary knows of one replica.

use crate::stdx::bits::bit_set;
use crate::stdx::clock::UnixMillis;

bit_set! {
    /// Capabilities that a replica announces (`REPLCONF capa`).
    pub struct Capabilities: u8 {
        /// Reads snapshots whose length is not known in advance.
        EOF = 0;
        /// Knows that a history can continue another one: `+CONTINUE` may name a new ID.
        PSYNC2 = 1;
        /// Receives the snapshot on a second connection; announced by replicas of Redis 8.0 and newer.
        RDB_CHANNEL = 2;
    }
}

/// Progress of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The replica is connected and has not asked for data yet.
    Greeting,
    /// The replica waits for a snapshot to begin.
    AwaitsSnapshot,
    /// A snapshot for the replica is being written to a file. The stream will continue from the snapshot's offset.
    SnapshotBegun,
    /// A snapshot is being written directly to the replica. The stream will continue from the snapshot's offset.
    SnapshotFlows,
    /// The replica is being sent a snapshot file.
    Transfer {
        /// Bytes of the file read so far.
        sent: u64,
        /// Size of the file in bytes.
        len: u64,
    },
    /// The replica is sent the stream.
    Online,
    /// The connection belongs to a tool that wanted only the snapshot, and has it.
    Done,
}

/// Which part of the data a tool asks for (`REPLCONF rdb-filter-only`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Whether keys are wanted.
    pub keys: bool,
    /// Whether functions are wanted.
    pub functions: bool,
}

impl Filter {
    /// All data.
    pub const ALL: Filter = Filter { keys: true, functions: true };

    /// Parses the value of the option, a list of the parts to keep; `None` if it is malformed.
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
    /// Progress of the replica.
    pub state: State,
    /// Capabilities that the replica announced.
    pub capabilities: Capabilities,
    /// Port that the replica listens on; 0 if it has not announced one.
    pub port: u16,
    /// Address that the replica announced, if it differs from that of its connection.
    pub ip: Option<String>,
    /// Major and minor version of the replica's program, if it is Valkey, whose replicas announce it.
    pub version: Option<(u32, u32)>,
    /// Whether only a snapshot is wanted.
    pub snapshot_only: bool,
    /// Parts of the data that are wanted.
    pub filter: Filter,
    /// Offset in the stream of the next byte to send.
    pub next: u64,
    /// Offset in the stream up to which the replica has applied commands, as last reported.
    pub acknowledged: u64,
    /// Offset in the stream up to which the replica's append-only file is synced, as last reported.
    pub synced: u64,
    /// Time of the last message from the replica.
    pub heard_at: UnixMillis,
    /// Whether the first acknowledgement puts the replica online, since nothing else shows when it has loaded the
    /// snapshot.
    pub online_when_heard: bool,
}

impl Replica {
    /// A replica that has just connected.
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
        }
    }

    /// Name of the state in `INFO`.
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

    /// Whether the stream must be kept from [`Replica::next`] on.
    pub fn needs_stream(&self) -> bool {
        matches!(
            self.state,
            State::SnapshotBegun | State::SnapshotFlows | State::Transfer { .. } | State::Online
        )
    }

    /// Whether the stream is sent to the replica now.
    #[inline]
    pub fn is_fed(&self) -> bool {
        self.state == State::Online && !self.online_when_heard
    }

    /// Seconds since the last message from the replica, shown by `INFO` as its lag; `None` if the replica is not
    /// online.
    pub fn lag_s(&self, now: UnixMillis) -> Option<i64> {
        (self.state == State::Online).then(|| (now.since(self.heard_at) / 1000).max(0))
    }

    /// The newest snapshot format that the replica can read.
    pub fn snapshot_version(&self) -> SnapshotVersion {
        match self.version {
            Some(version) if version >= (9, 0) => SnapshotVersion::Valkey9,
            Some(_) => SnapshotVersion::Redis(11),
            None if self.capabilities.has(Capabilities::RDB_CHANNEL) => SnapshotVersion::Redis(12),
            None => SnapshotVersion::Oldest,
        }
    }

    /// Sets the version from text such as `9.0.1`; whether the text has a major and a minor version.
    pub fn set_version(&mut self, text: &[u8]) -> bool {
        let mut parts =
            text.split(|&byte| byte == b'.').map(|part| std::str::from_utf8(part).ok()?.parse().ok());
        let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else { return false };
        self.version = Some((major, minor));
        true
    }
}

/// Version of the format of a snapshot for a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotVersion {
    /// The oldest version that can hold the data.
    Oldest,
    /// This RDB version, or an older one that can hold the data.
    Redis(u32),
    /// The version of Valkey 9.
    Valkey9,
}
