//! Sending a snapshot while it is written: a child writes it into a pipe, and what comes out goes to all replicas that
//! wait for it.
//!
//! Nothing is kept meanwhile: the pipe is read only while each of the replicas takes what it is sent, so that the child
//! waits for the slowest of them, which is cut off if it takes nothing for `repl-timeout` seconds.

use std::io::{self, Read as _, Write};

use bytes::Bytes;
use mio::unix::pipe;

use crate::clients::{ClientFlags, ClientKey};
use crate::net::poll::Source;
use crate::persistence::rdb::output::Output;
use crate::persistence::rdb::save;
use crate::replication::replica::{Filter, SnapshotVersion};
use crate::replication::transfer::MARK_LEN;
use crate::server::Server;
use crate::server::durability::child::{Outcome, Task};
use crate::server::durability::persistence::pause_after_key;
use crate::stats::progress::{Lines, Progress, Unit};
use crate::stdx::clock::UnixMillis;

/// Bytes read from the pipe at a time.
const PIECE: usize = 64 << 10;
/// A replica that has so many bytes unsent holds up the others.
const MOST_UNSENT: usize = 256 << 10;
/// Bytes passed on per turn of the event loop.
const PER_TURN: usize = 4 << 20;

/// A snapshot on its way from a child to replicas.
pub struct Transfer {
    pipe: pipe::Receiver,
    replicas: Vec<ClientKey>,
    /// How the child ended, once it has.
    outcome: Option<Outcome>,
    /// Whether everything was read from the pipe.
    drained: bool,
    /// When the last piece was passed on.
    moved_at: UnixMillis,
    progress: Progress,
    bytes: u64,
    /// The pipe may have more, although no event will tell.
    pub(in crate::server) more: bool,
}

impl Server {
    /// Begins to send a snapshot to `replicas`.
    ///
    /// # Errors
    /// There can be no child or no pipe.
    pub(in crate::server) fn begin_transfer(
        &mut self,
        replicas: &[ClientKey],
        filter: Filter,
        version: SnapshotVersion,
    ) -> io::Result<()> {
        let (sender, mut receiver) = pipe::new()?;
        sender.set_nonblocking(false)?;
        if let Some(poll) = &self.event_loop.poll {
            poll.registry().register_readable(&mut receiver, Source::Pipe)?;
        }
        let mut mark = [0; MARK_LEN];
        self.keyspace.rng.fill_hex(&mut mark);
        let delay_us = i64::from(self.config.debug.rdb_key_save_delay_us);
        let options = self.replica_save_options(version, filter)?;
        let mut receiver = Some(receiver);
        let pid = self.fork(Task::Transfer, |server, reporter| {
            // The pipe must break for the child when the parent is gone.
            receiver = None;
            let mut sender = sender;
            let head = [&b"$EOF:"[..], &mark, b"\r\n"].concat();
            sender.write_all(&head)?;
            let config = &server.config.persistence;
            let mut out = Output::to(&mut sender, config.rdb_compression, config.rdb_checksum);
            let engine = server.scripts.idle_engine().filter(|_| filter.functions);
            let libraries: Vec<&[u8]> =
                engine.into_iter().flat_map(|engine| engine.library_texts()).collect();
            save::save(&server.keyspace, &libraries, &options, &mut out, &mut |keys| {
                reporter.written(keys)?;
                pause_after_key(keys, delay_us);
                Ok(())
            })?;
            out.end()?;
            sender.write_all(&mark)
        })?;
        tracing::info!("Background RDB transfer started by pid {pid}");
        self.replication.transfer = Some(Transfer {
            pipe: receiver.expect("the parent keeps it"),
            replicas: replicas.to_vec(),
            outcome: None,
            drained: false,
            moved_at: self.keyspace.now(),
            progress: Progress::new("Sending a snapshot to replicas", 0, Unit::Bytes, Lines::Log),
            bytes: 0,
            more: true,
        });
        Ok(())
    }

    /// Passes on what the child has written, as far as the replicas take it.
    #[inline]
    pub(in crate::server) fn pump_transfer(&mut self) {
        if self.replication.transfer.is_some() {
            self.pump();
        }
    }

    fn pump(&mut self) {
        let mut moved = 0;
        loop {
            let Some(transfer) = &mut self.replication.transfer else { return };
            if transfer.drained {
                return self.end_transfer();
            }
            let clients = &self.clients;
            let slow = transfer.replicas.iter().any(|&key| clients[key].io.output.pending() >= MOST_UNSENT);
            if slow || moved >= PER_TURN {
                // Whoever is slow wakes the loop when it takes more.
                transfer.more = !slow;
                return;
            }
            let mut piece = vec![0; PIECE];
            match transfer.pipe.read(&mut piece) {
                Ok(0) => transfer.drained = true,
                Ok(n) => {
                    piece.truncate(n);
                    moved += n;
                    transfer.moved_at = UnixMillis::now();
                    transfer.bytes += n as u64;
                    if moved >= PER_TURN {
                        transfer.progress.at(transfer.bytes);
                    }
                    self.give_piece(Bytes::from(piece));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    transfer.more = false;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(
                        "Diskless rdb transfer, reading from the pipe: {}",
                        crate::net::error_text(&error)
                    );
                    transfer.drained = true;
                    self.kill_child();
                }
            }
        }
    }

    fn give_piece(&mut self, piece: Bytes) {
        let Some(transfer) = &self.replication.transfer else { return };
        for key in transfer.replicas.clone() {
            self.clients[key].io.output.append_shared(piece.clone());
            self.send_soon(key);
        }
    }

    /// The child that wrote the snapshot has ended.
    pub(in crate::server) fn transfer_child_ended(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Success => tracing::info!("Background RDB transfer terminated with success"),
            Outcome::Failure => tracing::warn!("Background transfer error"),
            Outcome::Signal(signal) => tracing::warn!("Background transfer terminated by signal {signal}"),
        }
        if let Some(transfer) = &mut self.replication.transfer {
            transfer.outcome = Some(outcome);
            transfer.more = true;
        }
        self.pump_transfer();
    }

    /// Everything has been passed on: the replicas go on with the stream, or are cut off if the snapshot is not whole.
    fn end_transfer(&mut self) {
        let Some(transfer) = &mut self.replication.transfer else { return };
        let Some(outcome) = transfer.outcome else {
            // The child has closed the pipe and is about to end, which the timer sees if it has not ended yet.
            transfer.more = false;
            self.supervise_child();
            return;
        };
        let replicas = std::mem::take(&mut transfer.replicas);
        let mut pipe = self.replication.transfer.take().map(|transfer| transfer.pipe);
        if let (Some(poll), Some(pipe)) = (&self.event_loop.poll, &mut pipe) {
            // Closing the pipe has the same effect.
            let _ = poll.registry().deregister(pipe);
        }
        tracing::info!(
            "Diskless rdb transfer, done reading from pipe, {} replicas still up.",
            replicas.len()
        );
        for key in replicas {
            if outcome == Outcome::Success {
                self.snapshot_sent(key, !self.clients[key].flags.has(ClientFlags::PLAIN_SYNC));
            } else {
                self.close_soon(key);
            }
        }
    }

    /// A replica is gone: without any left, there is nothing to send.
    pub(in crate::server) fn transfer_left(&mut self, key: ClientKey) {
        let Some(transfer) = &mut self.replication.transfer else { return };
        let Some(at) = transfer.replicas.iter().position(|&other| other == key) else { return };
        transfer.replicas.remove(at);
        if !transfer.replicas.is_empty() {
            transfer.more = true;
            return;
        }
        if transfer.outcome.is_none() {
            tracing::info!("Diskless rdb transfer, last replica dropped, killing fork child.");
            // Its end is noticed by the timer: a child that is busy must not be waited for.
            self.terminate_child(Task::Transfer);
        }
        self.replication.transfer = None;
    }

    /// For how long a replica has taken nothing of a snapshot, in milliseconds.
    pub(in crate::server) fn transfer_stuck_ms(&self, key: ClientKey, now: UnixMillis) -> i64 {
        match &self.replication.transfer {
            Some(transfer) if transfer.replicas.contains(&key) => {
                let client = &self.clients[key];
                let waits = client.io.output.pending() > 0;
                if waits { now.since(client.last_active.max(transfer.moved_at)) } else { 0 }
            }
            _ => 0,
        }
    }

    /// Whether the pipe is to be read although no event tells so.
    pub(in crate::server) fn transfer_goes_on(&self) -> bool {
        self.replication.transfer.as_ref().is_some_and(|transfer| transfer.more)
    }
}
