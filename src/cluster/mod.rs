//! Cluster: servers that share 16,384 slots of keys, without sockets, files or a clock.
//!
//! The nodes of a Redis Cluster know each other by a *bus*, on which each sends packets to each: heartbeats that carry
//! the sender's slots and what it has heard of some others (gossip), messages of failures, elections, and published
//! messages. Nothing else joins them: no node leads, and what all agree on spreads by epochs, the larger of which wins.
//!
//! - [`slot`]: which slot a key belongs to;
//! - [`slots`]: sets of slots;
//! - [`nodes`]: what a node knows of all nodes;
//! - [`bus`]: packets, to and from bytes;
//! - [`conf`]: the file in which a node keeps what it knows (`nodes.conf`);
//! - [`machine`]: what a node does;
//! - [`migration`]: how slots move from one node to another as a whole.
#![warn(missing_docs)]

pub mod bus;
pub mod conf;
pub mod machine;
pub mod migration;
pub mod nodes;
pub mod slots;

/// The slots that keys are divided into.
pub use crate::keyspace::slot;
pub use slot::{SLOTS, Slot, key_slot};

use crate::stdx::clock::UnixMillis;

/// A moment on a clock that never jumps, in milliseconds. The clock of a running server never shows zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Moment(pub i64);

impl Moment {
    /// Stands for what has not happened: long before all other moments.
    pub const NEVER: Moment = Moment(0);

    /// Milliseconds from `earlier` to this moment; negative if it is later.
    pub fn since(self, earlier: Moment) -> i64 {
        self.0 - earlier.0
    }

    /// The moment `ms` milliseconds later.
    #[must_use]
    pub fn after(self, ms: i64) -> Moment {
        Moment(self.0.saturating_add(ms))
    }

    /// Whether it is the moment of something that has happened.
    pub fn is_set(self) -> bool {
        self != Moment::NEVER
    }
}

/// The present, on both clocks: that of this server, and the one that is compared with other servers'.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// On the clock that never jumps.
    pub at: Moment,
    /// On the clock of the day.
    pub wall: UnixMillis,
}

impl Now {
    /// The time of day at a moment; zero for what never happened.
    pub fn wall_at(&self, moment: Moment) -> UnixMillis {
        if moment.is_set() { UnixMillis(self.wall.0 - self.at.since(moment)) } else { UnixMillis(0) }
    }

    /// The moment at a time of day.
    pub fn moment_at(&self, wall: UnixMillis) -> Moment {
        Moment(self.at.0.saturating_sub(self.wall.0.saturating_sub(wall.0)))
    }
}
