//! Loading the append-only file: its requests are run by a client that nobody sees.
//!
//! They take the way of all requests, a batch at a time, except that nothing stands in their way: nobody is asked for a
//! password, memory is not limited, nothing expires while it lasts.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::Server;
use super::admission::Conditions;
use super::call::Batch;
use super::command::Flags;
use crate::clients::{Client, ClientFlags, ClientKey};
use crate::keyspace::Listeners;
use crate::net::error_text;
use crate::net::stream::Stream;
use crate::persistence::aof::read::{Fault, Next, Requests};
use crate::resp::request::{Frame, Span};

/// Bytes between two looks at what else there is to do.
const TURN_EVERY: u64 = 2 << 20;
/// Bytes of a name that are worth telling.
const LONGEST_NAME: usize = 128;

/// Why a part cannot be loaded.
enum Stop {
    Fault(Fault),
    UnknownCommand(String),
    Loop(io::Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

impl Server {
    /// Loads one part: a snapshot, requests, or the one followed by the other. `progress` is how many bytes came before
    /// it, and how many there are in all.
    pub(super) fn load_aof_part(
        &mut self,
        path: &Path,
        name: &str,
        is_last: bool,
        progress: (u64, u64),
        between: &mut dyn FnMut(&mut Server) -> io::Result<()>,
    ) -> Result<(), String> {
        let unreadable = |error: &io::Error| {
            format!("Fatal error: can't open the append log file {name} for reading: {}", error_text(error))
        };
        let mut file = File::open(path).map_err(|error| unreadable(&error))?;
        let size = file.metadata().map_err(|error| unreadable(&error))?.len();
        let mut magic = Vec::new();
        (&mut file).take(5).read_to_end(&mut magic).map_err(|error| unreadable(&error))?;
        let mut at = 0;
        if matches!(magic.as_slice(), b"REDIS" | b"VALKE") {
            tracing::info!("Reading RDB base file on AOF loading...");
            let loaded = self.load_rdb_part(path, false, &mut *between);
            at = loaded.map_err(|failure| {
                format!("Error reading the RDB preamble of the AOF file {name}: {failure}")
            })?;
        }
        self.begin_loading(progress.1);
        file.seek(SeekFrom::Start(at)).map_err(|error| unreadable(&error))?;
        let requests = Requests::new(file, at, size);
        let (stop, valid) = self.run_requests(requests, progress.0, between);
        match stop {
            None => Ok(()),
            Some(Stop::Fault(Fault::Truncated)) => {
                self.accept_truncated(path, name, is_last, valid, progress.0 + size == progress.1)
            }
            Some(Stop::Fault(Fault::Format(_))) => Err(format!(
                "Bad file format reading the append only file {name}: make a backup of your AOF file, then use ./redis-check-aof \
                 --fix <filename.manifest>"
            )),
            Some(Stop::Fault(Fault::Io(error))) => Err(format!(
                "Unrecoverable error reading the append only file {name}: {}",
                error_text(&error)
            )),
            Some(Stop::UnknownCommand(command)) => {
                Err(format!("Unknown command '{command}' reading the append only file {name}"))
            }
            Some(Stop::Loop(error)) => Err(format!("Fatal: the event loop failed: {error}")),
        }
    }

    /// A part that ends in the middle of a request, or of a transaction, is good up to there, if it is the last and the
    /// configuration allows it.
    fn accept_truncated(
        &self,
        path: &Path,
        name: &str,
        is_last: bool,
        valid: u64,
        is_end: bool,
    ) -> Result<(), String> {
        let refuse = || {
            Err(format!(
                "Unexpected end of file reading the append only file {name}. You can: 1) Make a backup of your AOF file, then \
                 use ./redis-check-aof --fix <filename.manifest>. 2) Alternatively you can set the 'aof-load-truncated' \
                 configuration option to yes and restart the server."
            ))
        };
        if !self.config.persistence.aof_load_truncated || !is_last || !is_end {
            return refuse();
        }
        tracing::warn!("!!! Warning: short read while loading the AOF file {name}!!!");
        tracing::warn!("Truncating the AOF {name} at offset {valid}");
        if let Err(error) = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(valid)) {
            tracing::error!("Error truncating the AOF file {name}: {}", error_text(&error));
            return refuse();
        }
        tracing::warn!("AOF {name} loaded anyway because aof-load-truncated is enabled");
        Ok(())
    }

    /// Runs all requests of a file; what ended it, and up to which offset it is good.
    fn run_requests(
        &mut self,
        mut requests: Requests<File>,
        bytes_before: u64,
        between: &mut dyn FnMut(&mut Server) -> io::Result<()>,
    ) -> (Option<Stop>, u64) {
        let (ours, theirs) = match UnixStream::pair() {
            Ok(pair) => pair,
            Err(error) => return (Some(Stop::Fault(error.into())), requests.offset()),
        };
        let now = self.keyspace.now();
        let client = self.clients.insert_with(|id, _| Client::new(id, Stream::from_unix(ours), now, true));
        // Neither are these changes to be passed on, nor do they count as calls.
        let listeners = self.keyspace.ledger.listeners;
        self.keyspace.ledger.listeners.set(Listeners::FEED, false);
        let calls = self.stats.commands.clone();
        let processed = self.stats.commands_processed;

        let mut loading = RequestRun {
            client,
            batch: Batch::default(),
            taken: requests.offset(),
            begun: None,
            valid: requests.offset(),
            bytes_before,
        };
        let stop = loading.run(self, &mut requests, between).err();

        self.stats.commands = calls;
        self.stats.commands_processed = processed;
        let feeds = listeners.has(Listeners::FEED);
        self.keyspace.ledger.listeners.set(Listeners::FEED, feeds);
        self.end_transaction(client);
        self.clients.remove(client);
        self.turn.sending.retain(|&key| key != client);
        drop(theirs);
        (stop, loading.valid)
    }
}

/// The requests of one file being run.
struct RequestRun {
    client: ClientKey,
    batch: Batch,
    /// Behind the last request that is in the batch, or was.
    taken: u64,
    /// Where the transaction begins that is not executed yet.
    begun: Option<u64>,
    /// Behind the last request that was not inside a transaction.
    valid: u64,
    bytes_before: u64,
}

impl RequestRun {
    fn run(
        &mut self,
        server: &mut Server,
        requests: &mut Requests<File>,
        between: &mut dyn FnMut(&mut Server) -> io::Result<()>,
    ) -> Result<(), Stop> {
        let mut next_turn = TURN_EVERY;
        loop {
            let next = match requests.next(&mut self.batch.spans) {
                Ok(next) => next,
                Err(fault) => {
                    self.run_batch(server, requests);
                    return Err(fault.into());
                }
            };
            match next {
                Next::Request(frame) => {
                    match command(server, &frame, &requests.buf, &self.batch.spans) {
                        Err(unknown) => {
                            self.run_batch(server, requests);
                            return Err(Stop::UnknownCommand(unknown));
                        }
                        // What comes before a transaction is good even if that is cut off.
                        Ok(flags) if flags.has(Flags::LEAVES_MULTI) => self.begun = None,
                        Ok(flags) if flags.has(Flags::RUNS_IN_MULTI) => {
                            self.begun.get_or_insert(self.taken);
                        }
                        Ok(_) => {}
                    }
                    self.swap(server, requests);
                    let barrier = server.enqueue(&mut self.batch, self.client, frame);
                    self.swap(server, requests);
                    self.taken = requests.offset();
                    if barrier || self.batch.is_full() {
                        self.run_batch(server, requests);
                    }
                }
                Next::Fill => {
                    self.run_batch(server, requests);
                    let offset = requests.offset();
                    if let Some(loading) = &mut server.persistence.loading {
                        loading.loaded_bytes = self.bytes_before + offset;
                    }
                    if offset >= next_turn {
                        next_turn = offset + TURN_EVERY;
                        between(server).map_err(Stop::Loop)?;
                    }
                    requests.fill()?;
                }
                Next::End => {
                    self.run_batch(server, requests);
                    // Whatever is still queued was never executed.
                    let open = server.clients[self.client].flags.has(ClientFlags::IN_MULTI);
                    return if open { Err(Fault::Truncated.into()) } else { Ok(()) };
                }
            }
        }
    }

    /// The requests' bytes lie where those of a client do, while they are needed there.
    fn swap(&self, server: &mut Server, requests: &mut Requests<File>) {
        std::mem::swap(&mut requests.buf, &mut server.clients[self.client].io.input.buf);
    }

    fn run_batch(&mut self, server: &mut Server, requests: &mut Requests<File>) {
        if self.batch.pending.is_empty() {
            return;
        }
        let conditions = std::mem::replace(&mut server.conditions, Conditions::NONE);
        self.swap(server, requests);
        server.run_batch(&mut self.batch);
        self.swap(server, requests);
        server.conditions = conditions;
        let client = &mut server.clients[self.client];
        client.io.output.truncate(0);
        client.flags.set(ClientFlags::IN_SEND_LIST, false);
        let open = client.flags.has(ClientFlags::IN_MULTI);
        server.turn.sending.retain(|&key| key != self.client);
        if !open {
            self.begun = None;
        }
        self.valid = self.begun.unwrap_or(self.taken);
        let delay_us = server.config.debug.key_load_delay_us;
        if delay_us > 0 {
            std::thread::sleep(std::time::Duration::from_micros(delay_us.unsigned_abs().into()));
        }
    }
}

/// What is special about the command of a request, or its name if there is none of that name.
fn command(server: &Server, frame: &Frame, buf: &[u8], spans: &[Span]) -> Result<Flags, String> {
    let name = frame.args(buf, spans).next().unwrap_or_default();
    match server.commands.find(name) {
        Some(id) => Ok(server.commands.spec(id).flags),
        None => Err(String::from_utf8_lossy(&name[..name.len().min(LONGEST_NAME)]).into_owned()),
    }
}
