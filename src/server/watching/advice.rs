//! What the log says when the server refuses something, or does what an operator may not expect: why, and what to do
//! next. Clients get the texts that Redis has; nobody may read those.

use std::fmt::Display;
use std::time::Duration;

use crate::server::Server;
use crate::stats::advice::{Occasion, advise};
use crate::stdx::num::human_bytes;

/// A fork that takes longer is worth a line.
const LONG_FORK: Duration = Duration::from_millis(100);

/// Beginnings of lines that the cluster and Sentinels write, as their protocols demand it, and what to do next.
const NEXT: &[(&str, &str)] = &[
    (
        "Cluster state changed: fail",
        "Requests are refused: slots are without a primary, or this node reaches only a minority of them. See CLUSTER INFO \
         and CLUSTER NODES; start the nodes that are down, or send CLUSTER FAILOVER FORCE (or TAKEOVER, without a \
         majority) to a replica of each; with cluster-require-full-coverage no, the other slots are served meanwhile",
    ),
    (
        "Currently unable to failover: Disconnected",
        "The data of this replica are older than cluster-replica-validity-factor allows. Send CLUSTER FAILOVER FORCE to \
         it if its primary does not come back and older data are better than none",
    ),
    (
        "Currently unable to failover: Failover attempt expired",
        "Too few primaries have voted. See with CLUSTER NODES which can be reached; it tries again by itself",
    ),
    (
        "Manual failover timed out",
        "Nothing has changed. See the lag of the replica in INFO replication of its primary; then try again at a time with \
         fewer writes, or with CLUSTER FAILOVER FORCE, which does not wait for the last writes",
    ),
    (
        "-failover-abort-no-good-slave",
        "No replica can take over: each is down, has priority 0, or has not heard of its primary for too long. See \
         SENTINEL REPLICAS; start one, or raise its priority (replica-priority)",
    ),
    (
        "-failover-abort-not-elected",
        "Too few Sentinels have voted for this one. See with SENTINEL CKQUORUM whether enough can be reached; one of them \
         tries again by itself",
    ),
    (
        "-failover-abort-slave-timeout",
        "The replica did not become a primary in time (failover-timeout). See its log; it is tried again by itself",
    ),
    (
        "+failover-end-for-timeout",
        "Some replicas do not follow the new primary in time. See their logs and SENTINEL REPLICAS",
    ),
    (
        "+switch-master",
        "Clients that ask Sentinel find the new primary by themselves; point others there. The former one follows when it \
         comes back",
    ),
];

/// Writes what to do next behind a line that the cluster or a Sentinel has written, if there is something to do; each
/// advice at most once a minute.
pub(in crate::server) fn advise_behind(line: &str) {
    static OCCASIONS: [Occasion; NEXT.len()] = [const { Occasion::new() }; NEXT.len()];
    if let Some(i) = next_behind(line)
        && OCCASIONS[i].is_due()
    {
        tracing::warn!("{}", NEXT[i].1);
    }
}

/// Place of the advice for a line.
fn next_behind(line: &str) -> Option<usize> {
    NEXT.iter().position(|(begin, _)| line.starts_with(begin))
}

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

    /// A client was closed because it takes its replies too slowly.
    #[cold]
    pub(in crate::server) fn advise_on_output(&self) {
        advise!(
            "Clients are closed because they take their output too slowly: raise client-output-buffer-limit for their \
             class, have them ask for less at a time (SCAN, COUNT), or see in CLIENT LIST (omem) who lags behind"
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

    /// Writes are refused because data cannot be saved: when that begins, and when a write is refused later on.
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

    /// Whether data cannot be saved changes.
    pub(in crate::server) fn tell_saving(&self, refused: bool) {
        match refused {
            true => self.advise_on_saving(),
            false => tracing::info!("Writes are accepted again: data can be saved"),
        }
    }

    /// Writes are refused because too few replicas would get them: when that begins, and when a write is refused later
    /// on.
    #[cold]
    pub(in crate::server) fn advise_on_replicas(&self) {
        let options = &self.config.replication;
        if self.replication.good_replicas >= options.min_replicas_to_write as usize {
            return advise!(
                "Writes are refused: fewer replicas are connected than min-replicas-durable asks for ({}). See the \
                 replicas in INFO replication, and their logs",
                options.min_replicas_durable
            );
        }
        advise!(
            "Writes are refused: {} replicas have answered within {} seconds (min-replicas-max-lag), and \
             min-replicas-to-write asks for {}. See the replicas and their lag in INFO replication, and their logs",
            self.replication.good_replicas,
            options.min_replicas_max_lag_s,
            options.min_replicas_to_write
        );
    }

    /// Whether a primary has too few replicas changes.
    pub(in crate::server) fn tell_replicas(&self, few: bool) {
        match few {
            true => self.advise_on_replicas(),
            false => tracing::info!("Writes are accepted again: enough replicas are there"),
        }
    }

    /// This server follows nobody any more; `former` was its primary.
    pub(in crate::server) fn tell_promotion(&self, former: &str) {
        if self.cluster.is_some() {
            tracing::info!(
                "This node is a primary now, and clients of the cluster learn that by themselves. See with CLUSTER NODES \
                 that the former primary {former} follows when it comes back, and that each primary has a replica"
            );
        } else {
            tracing::info!(
                "This server is a primary now, and accepts writes. Unless a Sentinel or FAILOVER does so: point clients \
                 here, and have the former primary {former} and its other replicas follow this server (REPLICAOF), so \
                 that nobody writes to two primaries"
            );
        }
    }

    /// A handing over on demand was given up.
    pub(in crate::server) fn tell_given_up_failover(&self) {
        tracing::warn!(
            "This server stays the primary, and accepts writes. See the replicas and their lag in INFO replication; then \
             try FAILOVER again with a longer TIMEOUT, at a time with fewer writes, or with FORCE, which may lose the \
             last writes"
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

    /// No child process can be made.
    pub(in crate::server) fn advise_on_failed_fork(&self) {
        advise!(
            "Snapshots and rewrites need a child process, which the system refuses. If it lacks memory, set \
             vm.overcommit_memory to 1 or leave more memory free; if the limit of processes is reached, raise it \
             (ulimit -u, or TasksMax in the unit)"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_is_for_lines_that_are_written() {
        // What writes these lines.
        let sources = [
            include_str!("../../cluster/machine/election.rs"),
            include_str!("../../cluster/machine/failures.rs"),
            include_str!("../../cluster/machine/manual.rs"),
            include_str!("../../sentinel/machine/failover.rs"),
            include_str!("../../sentinel/machine/hello.rs"),
        ];
        for (begin, next) in NEXT {
            assert_eq!(next_behind(begin), NEXT.iter().position(|(other, _)| other == begin), "{begin}");
            assert!(next.split(' ').count() > 8, "{begin}");
            // What is put into a line stands elsewhere in the source.
            let parts = begin.split_inclusive(": ");
            for part in parts.filter(|part| !["fail", "Disconnected"].contains(part)) {
                assert!(sources.iter().any(|source| source.contains(part)), "nobody writes '{part}'");
            }
        }
        assert_eq!(next_behind("Cluster state changed: ok"), None);
        assert_eq!(next_behind("+failover-end master a 127.0.0.1 1"), None);
    }
}
