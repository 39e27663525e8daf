//! The stream of a primary: its requests are applied here, and its bytes are passed on as they came.
//!
//! The offset moves on when requests have been applied, and over a whole transaction at once: what is cut off in the
//! middle of one is asked for again.

use crate::clients::{ClientFlags, ClientKey};
use crate::keyspace::Suspend;
use crate::resp::request::{self, write_request};
use crate::server::Server;
use crate::server::command::Flags;
use crate::server::execution::Origin;
use crate::server::execution::admission::Conditions;
use crate::server::execution::call::Batch;

/// State of applying a stream.
#[derive(Default)]
pub struct Stream {
    /// Bytes received since the offset last moved, parsed so far.
    taken: Vec<u8>,
    /// How many of them precede the last request that may begin a transaction, if that has not been executed.
    whole: usize,
    /// Whether the primary asked how far this replica is.
    pub(in crate::server) asked: bool,
}

impl Stream {
    /// Forgets what was received and does not count yet.
    pub(in crate::server) fn forget(&mut self) {
        self.taken = Vec::new();
        self.whole = 0;
        self.asked = false;
    }
}

impl Server {
    /// Applies the requests that have arrived from the primary.
    pub(in crate::server) fn apply_stream(&mut self, key: ClientKey) {
        if self.conditions.has(Conditions::BUSY) {
            // A script must find the data as it left them.
            self.read_soon(key);
            return;
        }
        if self.pause.is_active() {
            // Nothing changes; what was received is applied when the pause ends.
            return;
        }
        let mut batch = Batch::default();
        let outer = std::mem::replace(&mut self.execution.origin, Origin::Primary);
        self.keyspace.suspend_expiry(Suspend::Stream, true);
        let malformed = loop {
            let limits =
                request::Limits { max_bulk: usize::MAX >> 1, trusted: true, ..request::Limits::default() };
            let client = &mut self.clients[key];
            if client.is_closing() {
                break None;
            }
            let input = &mut client.io.input;
            let before = input.pos;
            match input.decoder.next(&mut input.buf, &mut input.pos, &mut batch.spans, &limits) {
                Ok(None) => {
                    // Empty lines count as well.
                    self.replication.stream.taken.extend_from_slice(&input.buf[before..input.pos]);
                    break None;
                }
                Ok(Some(frame)) => {
                    let taken = &mut self.replication.stream.taken;
                    let start = taken.len();
                    if frame.large().is_empty() {
                        taken.extend_from_slice(&input.buf[before..input.pos]);
                    } else {
                        // Large arguments lie apart. A primary writes requests in one form only, so they are equal.
                        frame.write_to(&input.buf, &batch.spans, taken);
                    }
                    let barrier = self.enqueue(&mut batch, key, frame);
                    let command = batch.pending.last().and_then(|pending| pending.command);
                    if command.is_some_and(|id| self.commands.spec(id).flags.has(Flags::RUNS_IN_MULTI)) {
                        self.replication.stream.whole = start;
                    }
                    if barrier || batch.is_full() {
                        self.apply_batch(key, &mut batch);
                    }
                }
                Err(error) => break Some(error),
            }
        };
        self.apply_batch(key, &mut batch);
        self.keyspace.suspend_expiry(Suspend::Stream, false);
        self.execution.origin = outer;
        let Some(client) = self.clients.get_mut(key) else { return };
        client.io.input.release(&mut self.pool, true);
        if let Some(error) = malformed {
            let mut text = Vec::new();
            error.write_text(&mut text);
            tracing::warn!("Protocol error from the primary: {}", crate::stdx::text::Lossy(&text));
            self.close_soon(key);
        }
        if std::mem::take(&mut self.replication.stream.asked) {
            self.acknowledge();
        }
    }

    fn apply_batch(&mut self, key: ClientKey, batch: &mut Batch) {
        if !batch.pending.is_empty() {
            self.run_batch(batch);
        }
        let Some(client) = self.clients.get(key) else { return };
        if !client.flags.has(ClientFlags::PRIMARY) {
            return;
        }
        let Stream { taken, whole, .. } = &mut self.replication.stream;
        let whole = std::mem::take(whole);
        let n = if client.flags.has(ClientFlags::IN_MULTI) { whole } else { taken.len() };
        if n > 0 {
            self.replication.counts.received += n as u64;
            self.replication.backlog.append(&taken[..n]);
            taken.drain(..n);
            taken.shrink_to(1 << 20);
        }
    }

    /// Offset of the stream up to which it has been received.
    pub fn received_offset(&self) -> u64 {
        let waiting = self.primary_client().map_or(0, |key| self.clients[key].io.input.pending() as u64);
        self.replication.offset() + self.replication.stream.taken.len() as u64 + waiting
    }

    /// The primary asked how far this replica is: it is told once what it sent so far has been applied.
    pub fn asked_for_offset(&mut self) {
        self.replication.stream.asked = true;
    }

    /// Tells the primary how far this replica is.
    pub(in crate::server) fn acknowledge(&mut self) {
        let Some(key) = self.primary_client() else { return };
        let offset = self.replication.offset().to_string();
        let mut line = Vec::new();
        match self.synced_offset() {
            Some(synced) => {
                let synced = synced.to_string();
                let words: [&[u8]; 5] = [b"REPLCONF", b"ACK", offset.as_bytes(), b"FACK", synced.as_bytes()];
                write_request(&mut line, words.into_iter());
            }
            None => write_request(&mut line, [&b"REPLCONF"[..], b"ACK", offset.as_bytes()].into_iter()),
        }
        self.write_raw(key, &line);
    }
}
