//! Durable by quorum: a reply leaves only when so many replicas have acknowledged the change that it reports.
//!
//! Replies are withheld by the gate of group commit, whose offsets are those of the stream then. Replicas acknowledge once
//! a second unasked, so they are asked: one request is under way at a time, and all changes that are made meanwhile
//! share the next one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::clients::ClientKey;
use crate::config::options::ReplicationOptions;
use crate::config::value::DurableMode;
use crate::resp::Error;
use crate::server::Server;

/// A replica that has not answered for so long is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The reply in place of those that were withheld for too long.
const UNKNOWN: &str = "NOREPLICAS Not enough replicas acknowledged the write in time: it was executed here, and whether it \
                       will last is unknown.";

/// What replies wait for.
#[derive(Default)]
pub struct Quorum {
    /// Offsets at which replicas were asked, with the times; those that are acknowledged are gone.
    asked: VecDeque<(u64, Instant)>,
    /// The last of these offsets.
    last: u64,
    /// Offset at which replies began to wait: what came before was promised to nobody.
    base: u64,
}

impl Quorum {
    /// Replies wait for what comes after `base`.
    pub(in crate::server) fn beginning_at(base: u64) -> Quorum {
        Quorum { base, last: base, ..Quorum::default() }
    }

    /// Offset up to which acknowledgements have been asked for.
    pub(in crate::server) fn asked_at(&self) -> u64 {
        self.last
    }

    /// Time until replies have been withheld for too long, or replicas are asked again.
    pub(in crate::server) fn patience(&self, options: &ReplicationOptions) -> Duration {
        match self.asked.front() {
            None => Duration::MAX,
            Some((_, since)) => {
                let limit = Duration::from_millis(options.min_replicas_durable_timeout_ms);
                limit.saturating_sub(since.elapsed()).min(ASK_AGAIN)
            }
        }
    }
}

impl Server {
    /// The offset that enough replicas have acknowledged.
    pub(in crate::server) fn acknowledged_by_quorum(&self) -> u64 {
        let options = &self.config.replication;
        let wanted = options.min_replicas_durable as usize;
        let replicas = self.replication.replicas.iter().filter_map(|&key| self.replica(key));
        let mut offsets: Vec<u64> = replicas
            .filter(|replica| replica.is_fed())
            .map(|replica| match options.min_replicas_durable_mode {
                DurableMode::Memory => replica.acknowledged,
                DurableMode::Fsync => replica.synced,
            })
            .collect();
        offsets.sort_unstable_by(|a, b| b.cmp(a));
        wanted
            .checked_sub(1)
            .and_then(|last| offsets.get(last))
            .copied()
            .unwrap_or(0)
            .max(self.replication.quorum.base)
    }

    /// Asks replicas to acknowledge what replies wait for, and gives up on those that have waited for too long.
    pub(in crate::server) fn ask_quorum(&mut self) {
        let durable = self.acknowledged_by_quorum();
        let limit = Duration::from_millis(self.config.replication.min_replicas_durable_timeout_ms);
        let quorum = &mut self.replication.quorum;
        while quorum.asked.front().is_some_and(|&(offset, _)| offset <= durable) {
            quorum.asked.pop_front();
        }
        let mut late = None;
        while let Some(&(offset, since)) = quorum.asked.front()
            && since.elapsed() >= limit
        {
            late = Some(offset);
            quorum.asked.pop_front();
        }
        let waits = quorum.asked.back().map(|&(_, since)| since.elapsed());
        if let Some(offset) = late {
            // Some of what is durable may only wait for its turn.
            let durable = self.commit_durable();
            self.release_replies(durable);
            self.give_up_replies(offset);
        }
        if self.event_loop.stop || self.withholds_nothing() || waits.is_some_and(|waited| waited < ASK_AGAIN)
        {
            return;
        }
        let end = self.replication.offset();
        let quorum = &mut self.replication.quorum;
        // Who is asked again is asked for everything.
        if quorum.asked.back().is_none_or(|&(offset, _)| offset < end) {
            quorum.asked.push_back((end, Instant::now()));
        }
        quorum.last = end;
        self.append_question();
    }

    /// Answers clients whose replies depend on changes up to `offset` that the outcome is unknown, and closes their
    /// connections: some of what they sent may have been answered, and the rest can no longer be told apart.
    fn give_up_replies(&mut self, offset: u64) {
        for key in self.withheld_up_to(offset) {
            self.give_up_client(key);
        }
    }

    fn give_up_client(&mut self, key: ClientKey) {
        self.discard_output(key);
        let client = &mut self.clients[key];
        client.withheld_output = Default::default();
        client.dependency = Default::default();
        let error = Error::text(UNKNOWN);
        self.stats.error(error.code());
        self.begin_reply(key);
        self.reply(key).error(&error);
        let name = self.clients[key].io.peer.addr();
        tracing::warn!(
            "Replicas did not acknowledge a write of {name} in time: it was told that the outcome is unknown"
        );
        self.close_after_reply(key);
    }

    /// Before this server becomes a replica: what it changed and others do not have may be undone.
    pub(in crate::server) fn settle_quorum(&mut self) {
        if self.waits_for_replicas() {
            let durable = self.acknowledged_by_quorum();
            self.release_replies(durable);
            self.give_up_replies(u64::MAX);
            self.replication.quorum = Quorum::default();
        }
    }

    /// Whether there are enough replicas to acknowledge a change.
    pub(in crate::server) fn has_quorum(&self) -> bool {
        let fed =
            self.replication.replicas.iter().filter(|&&key| self.replica(key).is_some_and(|it| it.is_fed()));
        fed.count() >= self.config.replication.min_replicas_durable as usize
    }
}
