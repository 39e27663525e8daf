//! What the log says when the server refuses something, or does what an operator may not expect: why, and what to do
//! next. Clients get the texts that Redis has; nobody may read those.

use std::fmt::Display;
use std::time::Duration;

use crate::server::Server;
use crate::stats::advice::advise;
use crate::stdx::num::human_bytes;

/// A fork that takes longer is worth a line.
const LONG_FORK: Duration = Duration::from_millis(100);

impl Server {
    /// A connection was refused because there are too many.
    #[cold]
    pub(in crate::server) fn advise_on_maxclients(&self) {
        advise!(
            "Connections are refused: {} clients are connected, as many as maxclients allows. Raise maxclients, have \
             idle clients closed with timeout, or look in CLIENT LIST for programs that open too many",
            self.config.net.maxclients
        );
    }

    /// A connection from another machine was refused.
    #[cold]
    pub(in crate::server) fn advise_on_protected_mode(&self, from: impl Display) {
        advise!(
            "A connection from {from} was refused by protected mode, as there is no password. Set one for the user \
             default with requirepass or in the ACL; or, if everybody who reaches the server may do everything, set \
             protected-mode to no"
        );
    }

    /// Keys are evicted.
    #[cold]
    pub(in crate::server) fn advise_on_eviction(&self) {
        advise!(
            "Keys are evicted: maxmemory ({}) is reached. If they are still needed, raise maxmemory; evicted_keys in INFO \
             stats tells how many",
            human_bytes(self.config.memory.maxmemory)
        );
    }

    /// A command was refused for lack of memory.
    #[cold]
    pub(in crate::server) fn advise_on_memory(&self) {
        advise!(
            "Commands that take memory are refused: maxmemory ({}) is reached, and the policy finds nothing to evict. \
             Raise maxmemory, delete keys (PREFIX STATS tells which take most), or choose another maxmemory-policy",
            human_bytes(self.config.memory.maxmemory)
        );
    }

    /// A write was refused because data cannot be saved.
    #[cold]
    pub(in crate::server) fn advise_on_saving(&self) {
        let dir = &self.config.persistence.dir;
        match self.aof.error() {
            Some(reason) => advise!(
                "Writes are refused: the append-only file cannot be written: {reason}. Free space on the disk of {dir}, \
                 or mend the permissions there"
            ),
            None => advise!(
                "Writes are refused: the last snapshot failed, see the lines above. Free space on the disk of {dir} or \
                 mend the permissions there, then send BGSAVE; with stop-writes-on-bgsave-error no, writes are accepted \
                 meanwhile"
            ),
        }
    }

    /// A write was refused because too few replicas would get it.
    #[cold]
    pub(in crate::server) fn advise_on_replicas(&self) {
        let options = &self.config.replication;
        advise!(
            "Writes are refused: {} replicas have answered within {} seconds (min-replicas-max-lag), and \
             min-replicas-to-write asks for {}. See the replicas and their lag in INFO replication, and their logs",
            self.replication.good_replicas,
            options.min_replicas_max_lag_s,
            options.min_replicas_to_write
        );
    }

    /// A child process was made, which took so long.
    pub(in crate::server) fn advise_on_fork(&self, taken: Duration) {
        if taken >= LONG_FORK {
            advise!(
                "The fork for a child process took {} ms, in which no client was served. It grows with the memory in use: \
                 save less often, save on a replica instead, or divide the data among more servers",
                taken.as_millis()
            );
        }
    }
}
