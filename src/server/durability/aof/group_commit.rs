//! Group commit: with `appendfsync always` or `min-replicas-durable`, a reply is sent only when everything that it depends
//! on is durable: synced to our own append-only file, acknowledged by so many replicas, or both.
//!
//! Meanwhile the loop goes on: all requests that arrive during one sync share the next. A read of keys that did not
//! change lately is answered at once ([`Recent`](super::recent::Recent)); any other reply waits for everything executed
//! before it ([`WithheldOutput`](crate::clients::withheld::WithheldOutput)).

use std::time::{Duration, Instant};

use super::{Aof, State};
use crate::clients::{ClientFlags, ClientKey};
use crate::config::value::AppendFsync;
use crate::keyspace::ledger::Change;
use crate::resp::Args;
use crate::server::Server;
use crate::server::command::{Acl, Flags, KeyFlags, KeySpec, Spec};
use crate::server::event_loop::sending::Share;
use crate::server::replication::quorum::Quorum;

impl Aof {
    /// Notes which keys changed, before the change is appended behind `end`.
    pub(in crate::server) fn note_recent(&mut self, changes: &[Change], keys: &[u8], end: u64) {
        let offset = end + 1;
        for change in changes {
            self.recent.note(change, keys, offset);
        }
    }
}

impl Server {
    /// Whether replies are withheld until what they depend on is durable.
    #[inline]
    pub(in crate::server) fn withholds_replies(&self) -> bool {
        self.waits_for_sync() || self.waits_for_replicas()
    }

    #[inline]
    fn waits_for_sync(&self) -> bool {
        self.config.persistence.appendfsync == AppendFsync::Always && self.aof.state == State::On
    }

    /// Whether replies are withheld until replicas have acknowledged. Then all offsets are those of the stream, otherwise
    /// those of the log.
    #[inline]
    pub(in crate::server) fn waits_for_replicas(&self) -> bool {
        self.config.replication.min_replicas_durable > 0 && !self.replication.is_replica()
    }

    /// Offset behind the last change.
    pub(in crate::server) fn commit_end(&self) -> u64 {
        if self.waits_for_replicas() { self.replication.offset() } else { self.aof.log.appended() }
    }

    /// Offset up to which changes are durable.
    pub(in crate::server) fn commit_durable(&mut self) -> u64 {
        if !self.waits_for_replicas() {
            return self.aof.log.durable();
        }
        let acknowledged = self.acknowledged_by_quorum();
        match self.waits_for_sync().then(|| self.synced_offset()).flatten() {
            Some(synced) => acknowledged.min(synced),
            None => acknowledged,
        }
    }

    /// Offset up to which changes are becoming durable.
    fn commit_under_way(&self) -> u64 {
        if self.waits_for_replicas() {
            self.replication.quorum.asked_at()
        } else {
            self.aof.log.handed_over()
        }
    }

    /// What replies depend on is another thing from now on: those that wait leave.
    pub(in crate::server) fn commit_anew(&mut self) {
        self.release_replies(u64::MAX);
        self.aof.recent = super::recent::Recent::default();
        self.replication.quorum = Quorum::beginning_at(self.replication.offset());
        self.count_good_replicas();
    }

    /// Notes what the reply to a request depends on. If the request only reads keys that it names, its reply depends only
    /// on the last changes of those keys; if it is not about data, on nothing. `before` is the end of the client's output before the reply, and whether all
    /// output before the reply was sent.
    pub(in crate::server) fn vouch(
        &mut self,
        key: ClientKey,
        spec: &Spec,
        args: &Args<'_>,
        before: (u64, bool),
    ) {
        const ABOUT_DATA: Flags = Flags::WRITE
            .with(Flags::READONLY)
            .with(Flags::MAY_REPLICATE)
            .with(Flags::ENDS_MULTI)
            .with(Flags::BLOCKING);
        if !spec.flags.has(ABOUT_DATA) && !spec.acl.has(Acl::SCRIPTING) && spec.keys.is_empty() {
            let client = &mut self.clients[key];
            let after = client.output_end();
            return client.dependency.add(before.0, after, 0, before.1);
        }
        let hidden = |keys: &KeySpec| keys.flags.has(KeyFlags::INCOMPLETE);
        if !spec.flags.has(Flags::READONLY) || spec.acl.has(Acl::SCRIPTING) || spec.keys.iter().any(hidden) {
            return;
        }
        let mut offset = None;
        let recent = &self.aof.recent;
        if spec.each_key(args, &mut |i, _| offset = offset.max(Some(recent.of(args.key(i).hash())))) {
            let client = &mut self.clients[key];
            let (before, after) = (before, client.output_end());
            if let Some(offset) = offset {
                client.dependency.add(before.0, after, offset, before.1);
            }
        }
    }

    /// Writes what this turn appended, before the replies are sent, or withholds the replies until that is durable.
    #[inline]
    pub(in crate::server) fn flush_or_withhold(&mut self) {
        if self.aof.state == State::On {
            self.aof.log.set_position(self.snapshot_position());
        }
        if self.withholds_replies() {
            self.withhold_undurable();
            if self.waits_for_replicas() {
                self.ask_quorum();
            }
            if !self.waits_for_sync() {
                self.flush_aof(false);
            } else if !self.aof.gathering.goes_on(self.aof.waiting.len()) {
                let before = self.aof.log.handed_over();
                self.flush_aof(false);
                if self.aof.log.handed_over() > before {
                    self.aof.gathering.handed_over = Some(Instant::now());
                }
            }
            return;
        }
        self.flush_aof(false);
        if !self.aof.waiting.is_empty() || self.event_loop.left.releasing {
            self.release_for_a_while(u64::MAX);
        }
    }

    /// Time until a group or a postponed write must be written, for which the loop may sleep.
    pub(in crate::server) fn until_flush(&self) -> Duration {
        // The wait of a group does not end once replies are no longer withheld.
        let patience = if self.waits_for_sync() { self.aof.gathering.patience() } else { Duration::MAX };
        let patience = patience.min(self.replication.quorum.patience(&self.config.replication));
        self.aof.log.until_forced_write().map_or(patience, |written| patience.min(written))
    }

    /// Withholds output that depends on changes that are not durable, and sends what has become durable.
    fn withhold_undurable(&mut self) {
        if self.waits_for_replicas() {
            self.note_logged();
        }
        let (appended, durable) = (self.commit_end(), self.commit_durable());
        let answered = self.release_for_a_while(durable);
        if answered > 0 {
            self.aof.gathering.begin(answered, self.aof.waiting.len());
        }
        if appended <= durable {
            return;
        }
        let under_way = self.commit_under_way();
        let mut sending = std::mem::take(&mut self.event_loop.sending);
        let mut left = std::mem::take(&mut self.event_loop.left.sending);
        let mut may_be_sent = |key: ClientKey| {
            let Some(client) = self.clients.get_mut(key) else { return false };
            if client.is_special() {
                // What is sent to other servers is what makes changes durable.
                const SERVERS: ClientFlags = ClientFlags::REPLICA.with(ClientFlags::PRIMARY);
                if client.flags.has(SERVERS) {
                    return true;
                }
            }
            let end = client.output_end();
            // Changes become durable in groups: those of the sync under way, or all that were appended.
            let offset = match client.dependency.take(end) {
                Some(offset) if offset <= durable && client.withheld_output.is_empty() => return true,
                Some(offset) if offset <= under_way => under_way,
                _ => appended,
            };
            if client.withheld_output.is_empty() {
                self.aof.waiting.push(key);
            }
            client.withheld_output.add(offset, end, under_way);
            client.flags.set(ClientFlags::IN_SEND_LIST, false);
            false
        };
        sending.retain(|&key| may_be_sent(key));
        left.retain(|&key| may_be_sent(key));
        self.event_loop.sending = sending;
        self.event_loop.left.sending = left;
    }

    /// Sends the output that depends on nothing behind `durable`, an offset in the log.
    pub(in crate::server) fn release_replies(&mut self, durable: u64) {
        self.release_within(durable, None);
    }

    /// As [`Server::release_replies`], for as long as an iteration may. Returns the number of clients that no longer wait.
    fn release_for_a_while(&mut self, durable: u64) -> usize {
        self.release_within(durable, Some(Share::default()).filter(|_| !self.event_loop.stop))
    }

    fn release_within(&mut self, durable: u64, mut share: Option<Share>) -> usize {
        let before = self.aof.waiting.len();
        let mut waiting = std::mem::take(&mut self.aof.waiting);
        let mut late = false;
        waiting.retain(|&key| {
            if late {
                return true;
            }
            let Some(client) = self.clients.get_mut(key) else { return false };
            if let Some(upto) = client.withheld_output.release(durable) {
                let bytes = usize::try_from(upto.saturating_sub(client.total_out)).unwrap_or(usize::MAX);
                self.send_to(key, bytes);
                late = share.as_mut().is_some_and(Share::is_used_up);
            }
            self.clients.get(key).is_some_and(|client| !client.withheld_output.is_empty())
        });
        let answered = before - waiting.len();
        self.aof.waiting = waiting;
        self.event_loop.left.releasing = late;
        answered
    }

    /// Whether no output is withheld.
    pub(in crate::server) fn withholds_nothing(&self) -> bool {
        self.aof.waiting.is_empty()
    }

    /// The clients with withheld output that depends on changes up to `offset`.
    pub(in crate::server) fn withheld_up_to(&mut self, offset: u64) -> Vec<ClientKey> {
        let clients = &self.clients;
        let late = |&key: &ClientKey| {
            clients
                .get(key)
                .and_then(|client| client.withheld_output.first())
                .is_some_and(|first| first <= offset)
        };
        let late: Vec<ClientKey> = self.aof.waiting.iter().copied().filter(late).collect();
        self.aof.waiting.retain(|key| !late.contains(key));
        late
    }
}
