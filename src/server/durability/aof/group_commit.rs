//! Group commit: with `appendfsync always`, a reply is sent only when everything that it depends on is durable.
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

impl Aof {
    /// Notes which keys changed, before the change is appended.
    pub(in crate::server) fn note_recent(&mut self, changes: &[Change], keys: &[u8]) {
        let offset = self.log.appended() + 1;
        for change in changes {
            self.recent.note(change, keys, offset);
        }
    }
}

impl Server {
    /// Whether replies are withheld until the log is durable.
    #[inline]
    pub(in crate::server) fn withholds_replies(&self) -> bool {
        self.config.persistence.appendfsync == AppendFsync::Always && self.aof.state == State::On
    }

    /// Notes what the reply to a request depends on. If the request only reads keys that it names, its reply depends only
    /// on the last changes of those keys. `before` is the end of the client's output before the reply, and whether all
    /// output before the reply was sent.
    pub(in crate::server) fn vouch(
        &mut self,
        key: ClientKey,
        spec: &Spec,
        args: &Args<'_>,
        before: (u64, bool),
    ) {
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
        if self.withholds_replies() {
            self.withhold_undurable();
            if !self.aof.gathering.goes_on(self.aof.waiting.len()) {
                let before = self.aof.log.handed_over();
                self.flush_aof(false);
                if self.aof.log.handed_over() > before {
                    self.aof.gathering.handed_over = Some(Instant::now());
                }
            }
            return;
        }
        self.flush_aof(false);
        if !self.aof.waiting.is_empty() {
            self.release_replies(u64::MAX);
        }
    }

    /// Time until a group or a postponed write must be written, for which the loop may sleep.
    pub(in crate::server) fn until_flush(&self) -> Duration {
        // The wait of a group does not end once replies are no longer withheld.
        let patience = if self.withholds_replies() { self.aof.gathering.patience() } else { Duration::MAX };
        self.aof.log.until_forced_write().map_or(patience, |written| patience.min(written))
    }

    /// Withholds output that depends on changes that are not durable, and sends what has become durable.
    fn withhold_undurable(&mut self) {
        let (appended, durable) = (self.aof.log.appended(), self.aof.log.durable());
        let answered = self.release_replies(durable);
        if answered > 0 {
            self.aof.gathering.begin(answered, self.aof.waiting.len());
        }
        if appended <= durable {
            return;
        }
        let under_way = self.aof.log.handed_over();
        let mut sending = std::mem::take(&mut self.event_loop.sending);
        sending.retain(|&key| {
            let Some(client) = self.clients.get_mut(key) else { return false };
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
        });
        self.event_loop.sending = sending;
    }

    /// Sends the output that depends on nothing behind `durable`, an offset in the log. Returns the number of clients that
    /// no longer wait.
    fn release_replies(&mut self, durable: u64) -> usize {
        let before = self.aof.waiting.len();
        let mut waiting = std::mem::take(&mut self.aof.waiting);
        waiting.retain(|&key| {
            let Some(client) = self.clients.get_mut(key) else { return false };
            if let Some(upto) = client.withheld_output.release(durable) {
                let bytes = usize::try_from(upto.saturating_sub(client.total_out)).unwrap_or(usize::MAX);
                self.send_to(key, bytes);
            }
            self.clients.get(key).is_some_and(|client| !client.withheld_output.is_empty())
        });
        let answered = before - waiting.len();
        self.aof.waiting = waiting;
        answered
    }
}
