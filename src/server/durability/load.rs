//! Loading the append-only file: its requests are run by a client that is nobody.
//!
//! They take the way of all requests, a batch at a time, except that nothing stands in their way ([`Origin::Loading`]):
//! nobody is asked for a password, memory is not limited, nothing expires while it lasts. The file is read into the
//! input of that client, which has no socket: who connects meanwhile can neither see nor close it.
//!
//! A request that cannot be one of ours, because there is no such command or it has too few or too many arguments, ends
//! the loading: whatever follows may depend on it. Other errors are logged, with the place in the file, and loading goes
//! on: they may well be what was answered when the request was first run, say inside a transaction. So are requests
//! that have no place in such a file, as those about clients and the server; they are not run.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::clients::{ClientFlags, ClientKey, ReplyMode};
use crate::net::error_text;
use crate::persistence::aof::read::{Fault, Next, Requests};
use crate::resp::Args;
use crate::resp::request::{Frame, Span};
use crate::server::Server;
use crate::server::command::Flags;
use crate::server::execution::Origin;
use crate::server::execution::call::Batch;
use crate::stdx::text::Lossy;

/// Bytes between two looks at what else there is to do.
const POLL_EVERY: u64 = 2 << 20;
/// Bytes of a name that are worth telling.
const LONGEST_NAME: usize = 128;

/// Errors of a file's requests that are logged one by one.
const ERRORS_TOLD: u64 = 10;

/// Why a part cannot be loaded.
enum Stop {
    Fault(Fault),
    /// At this offset is no command of ours, for this reason.
    NoCommand(u64, String),
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
    pub(in crate::server) fn load_aof_part(
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
            let loaded = self.load_rdb_part(path, progress.0, &mut *between);
            at = loaded.map_err(|failure| {
                format!("Error reading the RDB preamble of the AOF file {name}: {failure}")
            })?;
        }
        file.seek(SeekFrom::Start(at)).map_err(|error| unreadable(&error))?;
        let requests = Requests::new(file, at, size);
        let (stop, valid) = self.run_requests(requests, name, progress.0, between);
        match stop {
            None => Ok(()),
            Some(Stop::Fault(Fault::Truncated)) => {
                self.accept_truncated(path, name, is_last, valid, progress.0 + size == progress.1)
            }
            Some(Stop::Fault(Fault::Format(offset))) => Err(format!(
                "Bad file format reading the append only file {name}, at offset {offset}: make a backup of your AOF file, then use ./redis-check-aof \
                 --fix <filename.manifest>"
            )),
            Some(Stop::Fault(Fault::Io(error))) => Err(format!(
                "Unrecoverable error reading the append only file {name}: {}",
                error_text(&error)
            )),
            Some(Stop::NoCommand(offset, reason)) => {
                Err(format!("{reason} reading the append only file {name}, at offset {offset}"))
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
        name: &str,
        bytes_before: u64,
        between: &mut dyn FnMut(&mut Server) -> io::Result<()>,
    ) -> (Option<Stop>, u64) {
        let client = self.clients.insert_internal(self.keyspace.now());
        self.clients[client].reply_mode = ReplyMode::Off;
        let mut loading = RequestRun {
            client,
            name,
            batch: Batch::default(),
            starts: Vec::new(),
            failed: 0,
            taken: requests.offset(),
            begun: None,
            valid: requests.offset(),
            bytes_before,
        };
        let stop = loading.run(self, &mut requests, between).err();

        if loading.failed > ERRORS_TOLD {
            tracing::warn!("{} requests of the AOF file {name} ended with errors.", loading.failed);
        }
        self.end_transaction(client);
        self.clients.remove(client);
        (stop, loading.valid)
    }
}

/// The requests of one file being run.
struct RequestRun<'a> {
    client: ClientKey,
    /// What the file is called.
    name: &'a str,
    batch: Batch,
    /// Where the requests of the batch begin.
    starts: Vec<u64>,
    /// Requests that ended with errors.
    failed: u64,
    /// Behind the last request that is in the batch, or was.
    taken: u64,
    /// Where the transaction begins that is not executed yet.
    begun: Option<u64>,
    /// Behind the last request that was not inside a transaction.
    valid: u64,
    bytes_before: u64,
}

impl RequestRun<'_> {
    fn run(
        &mut self,
        server: &mut Server,
        requests: &mut Requests<File>,
        between: &mut dyn FnMut(&mut Server) -> io::Result<()>,
    ) -> Result<(), Stop> {
        let mut next_poll = POLL_EVERY;
        loop {
            let input = &mut server.clients[self.client].io.input;
            let next = match requests.next(&mut input.buf, &mut self.batch.spans) {
                Ok(next) => next,
                Err(fault) => {
                    self.run_batch(server);
                    return Err(fault.into());
                }
            };
            match next {
                Next::Request(frame) => {
                    let buf = &server.clients[self.client].io.input.buf;
                    match command(server, &frame, buf, &self.batch.spans) {
                        Err(reason) => {
                            let offset = requests.started();
                            self.run_batch(server);
                            return Err(Stop::NoCommand(offset, reason));
                        }
                        // What comes before a transaction is good even if that is cut off.
                        Ok(flags) if flags.has(Flags::ENDS_MULTI) => self.begun = None,
                        Ok(flags) if flags.has(Flags::RUNS_IN_MULTI) => {
                            self.begun.get_or_insert(self.taken);
                        }
                        Ok(_) => {}
                    }
                    self.starts.push(requests.started());
                    let barrier = server.enqueue(&mut self.batch, self.client, frame);
                    self.taken = requests.offset();
                    if barrier || self.batch.is_full() {
                        self.run_batch(server);
                    }
                }
                Next::Fill => {
                    self.run_batch(server);
                    let offset = requests.offset();
                    if let Some(loading) = &mut server.persistence.loading {
                        loading.loaded_bytes = self.bytes_before + offset;
                    }
                    if offset >= next_poll {
                        next_poll = offset + POLL_EVERY;
                        between(server).map_err(Stop::Loop)?;
                    }
                    requests.fill(&mut server.clients[self.client].io.input.buf)?;
                }
                Next::End => {
                    self.run_batch(server);
                    // Whatever is still queued was never executed.
                    let open = server.clients[self.client].flags.has(ClientFlags::IN_MULTI);
                    return if open { Err(Fault::Truncated.into()) } else { Ok(()) };
                }
            }
        }
    }

    /// Logs the errors of the batch that has run, the first of them one by one.
    fn log_errors(&mut self, server: &mut Server) {
        let errors = server.persistence.take_load_errors();
        // The client counts its requests, of which the last was the last of the batch.
        let before = server.clients[self.client].commands - self.starts.len() as u64;
        for (number, reason) in errors {
            let at = usize::try_from(number - before - 1).ok().and_then(|i| self.starts.get(i));
            let at = at.copied().unwrap_or(self.taken);
            self.failed += 1;
            if self.failed <= ERRORS_TOLD {
                tracing::warn!(
                    "The request at offset {at} of the AOF file {} ended with an error: {reason}",
                    self.name
                );
            }
        }
    }

    fn run_batch(&mut self, server: &mut Server) {
        if self.batch.pending.is_empty() {
            return;
        }
        server.nested(Origin::Loading, |server| server.run_batch(&mut self.batch));
        self.log_errors(server);
        self.starts.clear();
        if !server.clients[self.client].flags.has(ClientFlags::IN_MULTI) {
            self.begun = None;
        }
        self.valid = self.begun.unwrap_or(self.taken);
        let delay_us = server.config.debug.key_load_delay_us;
        if delay_us > 0 {
            std::thread::sleep(std::time::Duration::from_micros(delay_us.unsigned_abs().into()));
        }
    }
}

/// What is special about the command of a request, or why it is none.
fn command(server: &Server, frame: &Frame, buf: &[u8], spans: &[Span]) -> Result<Flags, String> {
    let args = Args::new(frame.head(buf), frame.spans(spans), frame.large());
    let name = args.at(0);
    let found = server.commands.find(name);
    match server.resolve(found, &args) {
        Ok((_, spec)) => Ok(spec.flags),
        Err(_) if found.is_none() => {
            let name = Lossy(&name[..name.len().min(LONGEST_NAME)]);
            Err(format!("Unknown command '{name}'"))
        }
        Err(error) => {
            let text = error.as_bytes();
            let text = text.strip_prefix(b"ERR ").unwrap_or(text);
            Err(format!("Error '{}'", Lossy(text)))
        }
    }
}
