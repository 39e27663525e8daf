//! Waiting until replicas have acknowledged a write: WAIT and WAITAOF.

use std::collections::VecDeque;

use crate::clients::ClientKey;
use crate::clients::blocking::{Acknowledgements, Wait};
use crate::resp::Replied;
use crate::server::Server;
use crate::server::durability::aof::State as AofState;
use crate::server::execution::blocking::Unblock;

/// Number of moments at which the offsets in the append-only file and in the stream are remembered. With more, what is
/// between two of them counts as durable with the later one.
const MOST_MARKS: usize = 64;

/// What is remembered of clients that wait for acknowledgements.
#[derive(Default)]
pub struct Waiting {
    /// Clients that wait.
    pub(in crate::server) clients: Vec<ClientKey>,
    /// Whether replicas are to be asked how far they are.
    pub(in crate::server) ask: bool,
    /// Offsets in the append-only file, and those in the stream at the same moments, until they are durable: some of
    /// them, at most [`MOST_MARKS`].
    logged: VecDeque<(u64, u64)>,
    /// The last of them.
    last_logged: (u64, u64),
    /// Offset in the stream up to which the append-only file is durable.
    durable: u64,
}

impl Server {
    /// How many replicas have the stream up to `offset`, on disk if `synced`.
    pub fn replicas_at(&self, offset: u64, synced: bool) -> u64 {
        let replicas = self.replication.replicas.iter().filter_map(|&key| self.replica(key));
        let there = replicas.filter(|replica| replica.is_fed()).filter(|replica| {
            let reached = if synced { replica.synced } else { replica.acknowledged };
            reached >= offset
        });
        there.count() as u64
    }

    /// Whether our own append-only file has everything up to `offset` of the stream.
    pub fn is_synced(&mut self, offset: u64) -> bool {
        self.note_logged();
        self.aof.state == AofState::On && self.replication.waiting.durable >= offset
    }

    /// Notes that what the stream has now is in the append-only file up to where that is now.
    pub(in crate::server) fn note_logged(&mut self) {
        let at = (self.aof.log.appended(), self.replication.backlog.end());
        let waiting = &mut self.replication.waiting;
        let full = waiting.logged.len() >= MOST_MARKS;
        match waiting.logged.back_mut() {
            Some(last) if full || last.0 == at.0 => *last = at,
            None if waiting.last_logged == at => {}
            _ => waiting.logged.push_back(at),
        }
        waiting.last_logged = at;
        self.note_durable();
    }

    fn note_durable(&mut self) {
        let durable = self.aof.log.durable();
        let waiting = &mut self.replication.waiting;
        while let Some(&(log, stream)) = waiting.logged.front()
            && log <= durable
        {
            waiting.durable = stream;
            waiting.logged.pop_front();
        }
    }

    /// Offset in the stream up to which the append-only file is synced; `None` without a file.
    pub(in crate::server) fn synced_offset(&mut self) -> Option<u64> {
        if self.aof.state != AofState::On {
            return None;
        }
        self.note_durable();
        Some(self.replication.waiting.durable)
    }

    /// Whether what a client waits for has come.
    pub fn is_acknowledged(&mut self, wanted: &Acknowledgements) -> bool {
        (!wanted.local || self.is_synced(wanted.offset))
            && self.replicas_at(wanted.offset, wanted.synced) >= wanted.replicas
    }

    /// Asks replicas how far they are, before the loop sleeps.
    pub fn ask_replicas(&mut self) {
        self.replication.waiting.ask = true;
    }

    /// Serves the clients whose acknowledgements have come, and asks replicas that were to be asked.
    #[inline]
    pub(in crate::server) fn serve_waiting(&mut self) {
        if !self.replication.waiting.clients.is_empty() {
            self.look_at_waiting();
        }
        if self.aof.state == AofState::On {
            if self.replication.is_replica() {
                self.tell_synced();
            } else {
                self.note_logged();
            }
        }
        if self.replication.waiting.ask {
            self.replication.waiting.ask = false;
            if !self.replication.replicas.is_empty() && !self.replication.is_replica() {
                self.append_question();
            }
        }
    }

    /// Tells the primary when more of its stream is on disk.
    fn tell_synced(&mut self) {
        let before = self.replication.waiting.durable;
        self.note_logged();
        if self.replication.waiting.durable > before {
            self.acknowledge();
        }
    }

    fn look_at_waiting(&mut self) {
        self.note_logged();
        for key in self.replication.waiting.clients.clone() {
            self.look_at_waiting_client(key);
        }
    }

    fn look_at_waiting_client(&mut self, key: ClientKey) {
        let blocked = self.clients.get(key).and_then(|client| client.blocked.as_ref());
        let wanted = match blocked.map(|blocked| &blocked.wait) {
            Some(Wait::Acknowledgements { wanted, .. }) => *wanted,
            _ => {
                self.replication.waiting.clients.retain(|&waiting| waiting != key);
                return;
            }
        };
        if wanted.local && !self.config.persistence.appendonly {
            self.unblock(key, Unblock::NotLogged);
        } else if self.is_acknowledged(&wanted) {
            self.unblock(key, Unblock::Timeout);
        }
    }

    /// Replies how many have acknowledged.
    pub fn reply_acknowledged(&mut self, key: ClientKey, wanted: &Acknowledgements) -> Replied {
        let replicas = self.replicas_at(wanted.offset, wanted.synced) as i64;
        if !wanted.synced {
            return self.reply(key).int(replicas);
        }
        let local = i64::from(self.is_synced(wanted.offset));
        let mut reply = self.reply(key);
        reply.array(2);
        reply.int(local);
        reply.int(replicas)
    }
}
