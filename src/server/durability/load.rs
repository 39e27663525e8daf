//! Loading the append-only file: an internal client runs its requests.
//!
//! The requests run in batches like all others, but are admitted unconditionally ([`Origin::Loading`]): no password is
//! needed, memory is not limited, and no key expires meanwhile. The file is read into the input of the client, which has
//! no socket. Connected clients can neither see nor close it.
//!
//! A request that this server cannot have written, because the command is unknown or the number of arguments is wrong,
//! ends the loading: the requests behind it may depend on it. Other errors are logged with their offset in the file, and
//! loading continues: the request may have failed in the same way when it first ran, in a transaction for example.
//! Annotations state the position in a replication stream that the data have after the requests before them. What is known
//! of the position when all parts are loaded is [`resumable`](super::persistence::Persistence::resumable).
//!
//! Requests about clients and the server do not belong in such a file. They are logged as errors and not run.

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
use crate::server::durability::aof::{AofError, NoCommand};
use crate::server::execution::Origin;
use crate::server::execution::call::Batch;
use crate::stdx::text::Lossy;

/// Bytes loaded between two polls of sockets and signals.
const POLL_EVERY: u64 = 2 << 20;
/// Bytes of an unknown command's name that the log shows.
const LONGEST_NAME: usize = 128;

/// Number of failed requests of a file that are logged one by one.
const ERRORS_TOLD: u64 = 10;

/// Why a part cannot be loaded.
enum Stop {
    Fault(Fault),
    /// The request at this offset is none that this server could have written.
    NoCommand(u64, NoCommand),
    EventLoop(io::Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Stop {
        Stop::Fault(fault)
    }
}

impl Server {
    /// Loads one part: a snapshot, requests, or a snapshot followed by requests. `progress` is the number of bytes in the
    /// parts before it, and in all parts.
    pub(in crate::server) fn load_aof_part(
        &mut self,
        path: &Path,
        name: &str,
        is_last: bool,
        progress: (u64, u64),
        between: &mut dyn FnMut(&mut Server) -> io::Result<()>,
    ) -> Result<(), AofError> {
        let unreadable = |error| AofError::OpenPart { name: name.to_owned(), error };
        let mut file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut magic = Vec::new();
        (&mut file).take(5).read_to_end(&mut magic).map_err(unreadable)?;
        let mut at = 0;
        if matches!(magic.as_slice(), b"REDIS" | b"VALKE") {
            tracing::info!("Reading RDB base file on AOF loading...");
            let loaded = self.load_rdb_part(path, progress.0, &mut *between);
            at = loaded.map_err(|failure| AofError::Preamble { name: name.to_owned(), failure })?;
        }
        let mut size = size;
        if is_last && self.aof.cut_to_position {
            size = cut_to_position(path, name, at, size)?;
        }
        file.seek(SeekFrom::Start(at)).map_err(unreadable)?;
        let mut requests = Requests::new(file, at, size);
        let (stop, valid) = self.run_requests(&mut requests, name, progress.0, between);
        // What stops the loading leaves data of no position, even if it is accepted.
        self.persistence.resumable = match (&stop, requests.position()) {
            (None, None) => self.persistence.resumable,
            (None, Some(stated)) => stated,
            (Some(_), _) => None,
        };
        match stop {
            None => Ok(()),
            Some(Stop::Fault(Fault::Truncated)) => {
                self.accept_truncated(path, name, is_last, valid, progress.0 + size == progress.1)
            }
            Some(Stop::Fault(Fault::Format(offset))) => {
                Err(AofError::Format { name: name.to_owned(), offset })
            }
            Some(Stop::Fault(Fault::Io(error))) => Err(AofError::Read { name: name.to_owned(), error }),
            Some(Stop::NoCommand(offset, reason)) => {
                Err(AofError::NoCommand { name: name.to_owned(), offset, reason })
            }
            Some(Stop::EventLoop(error)) => Err(AofError::EventLoop(error)),
        }
    }

    /// Truncates a part that ends in the middle of a request or transaction to `valid` bytes, if it is the last part and
    /// the configuration allows it.
    fn accept_truncated(
        &self,
        path: &Path,
        name: &str,
        is_last: bool,
        valid: u64,
        is_end: bool,
    ) -> Result<(), AofError> {
        let refuse = || Err(AofError::Truncated { name: name.to_owned() });
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

    /// Runs all requests of a file. Returns the error that ended the loading, and the offset up to which the file is valid.
    fn run_requests(
        &mut self,
        requests: &mut Requests<File>,
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
        let stop = loading.run(self, requests, between).err();

        if loading.failed > ERRORS_TOLD {
            tracing::warn!("{} requests of the AOF file {name} ended with errors.", loading.failed);
        }
        self.end_transaction(client);
        self.clients.remove(client);
        (stop, loading.valid)
    }
}

/// Cuts off what stands behind the last position that a part states, if it states any: the rest of a group that was not
/// written in full, which the primary will send again. Returns the size of the part afterwards.
fn cut_to_position(path: &Path, name: &str, at: u64, size: u64) -> Result<u64, AofError> {
    let failed = |error| AofError::Read { name: name.to_owned(), error };
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(at)).map_err(failed)?;
    let mut requests = Requests::new(file, at, size);
    let (mut buf, mut spans) = (Vec::new(), Vec::new());
    loop {
        match requests.next(&mut buf, &mut spans) {
            Ok(Next::Request(_)) => spans.clear(),
            Ok(Next::Fill) => match requests.fill(&mut buf) {
                Ok(()) => {}
                Err(Fault::Io(error)) => return Err(failed(error)),
                Err(_) => break,
            },
            Ok(Next::End) | Err(Fault::Truncated) => break,
            // Loading will say what is wrong.
            Err(_) => return Ok(size),
        }
    }
    let Some(end) = requests.position_end().filter(|&end| end < size) else { return Ok(size) };
    tracing::warn!(
        "The AOF file {name} ends with {} bytes behind the last position that it states: cutting them off, as the \
         primary sends them again",
        size - end
    );
    OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(end)).map_err(failed)?;
    Ok(end)
}

/// State of running the requests of one file.
struct RequestRun<'a> {
    client: ClientKey,
    /// Name of the file.
    name: &'a str,
    batch: Batch,
    /// Offsets at which the requests of the batch begin.
    starts: Vec<u64>,
    /// Number of failed requests.
    failed: u64,
    /// Offset behind the last request that was added to a batch.
    taken: u64,
    /// Offset at which the open transaction begins.
    begun: Option<u64>,
    /// Offset behind the last request outside of a transaction.
    valid: u64,
    /// Bytes in the parts before this one.
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
                        // The file is valid up to the transaction even if that is cut off.
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
                        loading.reached(self.bytes_before + offset);
                    }
                    if offset >= next_poll {
                        next_poll = offset + POLL_EVERY;
                        between(server).map_err(Stop::EventLoop)?;
                    }
                    requests.fill(&mut server.clients[self.client].io.input.buf)?;
                }
                Next::End => {
                    self.run_batch(server);
                    // Requests that are still queued were never executed.
                    let open = server.clients[self.client].flags.has(ClientFlags::IN_MULTI);
                    return if open { Err(Fault::Truncated.into()) } else { Ok(()) };
                }
            }
        }
    }

    /// Logs the errors of the batch that has run, up to a limit.
    fn log_errors(&mut self, server: &mut Server) {
        let errors = server.persistence.take_load_errors();
        // Errors carry the client's count of requests. The last counted request is the last of the batch.
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

/// Flags of the request's command.
fn command(server: &Server, frame: &Frame, buf: &[u8], spans: &[Span]) -> Result<Flags, NoCommand> {
    let args = Args::new(frame.head(buf), frame.spans(spans), frame.large());
    let name = args.at(0);
    let found = server.commands.find(name);
    match server.resolve(found, &args) {
        Ok((_, spec)) => Ok(spec.flags),
        Err(_) if found.is_none() => {
            let name = Lossy(&name[..name.len().min(LONGEST_NAME)]);
            Err(NoCommand::Unknown(name.to_string()))
        }
        Err(error) => {
            let text = error.as_bytes();
            let text = text.strip_prefix(b"ERR ").unwrap_or(text);
            Err(NoCommand::Arguments(Lossy(text).to_string()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::request::write_request;

    #[test]
    fn what_follows_the_last_position_is_cut_off() {
        let path = std::env::temp_dir().join(format!("spinel-cut-{}", std::process::id()));
        let mut set = Vec::new();
        write_request(&mut set, [&b"SET"[..], b"k", b"#REPL:not:a:line"].into_iter());
        let position = format!("#REPL:{}:77:3\r\n", "0".repeat(40)).into_bytes();
        let stated = [&set[..], &position, &set, &position].concat();
        let (torn, end) = (&set[..set.len() - 3], stated.len());
        let cases: [(Vec<u8>, usize); 9] = [
            (stated.clone(), end),
            ([&stated[..], torn].concat(), end),
            ([&stated[..], &set].concat(), end),
            ([&stated[..], &set, torn].concat(), end),
            ([&stated[..], &position[..position.len() - 1]].concat(), end),
            ([&stated[..], b"#TS:1700000000\r\n"].concat(), end),
            // Without a position, or where it was taken back, nothing is cut off.
            ([&set[..], torn].concat(), set.len() + torn.len()),
            ([&stated[..], b"#REPL:-\r\n", &set].concat(), end + 9 + set.len()),
            // What is no request at all must be looked at by somebody.
            ([&stated[..], b"garbage", &set].concat(), end + 7 + set.len()),
        ];
        for (bytes, expected) in cases {
            std::fs::write(&path, &bytes).expect("room for it");
            let size = cut_to_position(&path, "test", 0, bytes.len() as u64).expect("it can be read");
            assert_eq!(size, expected as u64, "{}", bytes.escape_ascii());
            assert_eq!(std::fs::read(&path).expect("it is there"), bytes[..expected]);
        }
        std::fs::remove_file(&path).expect("our own file");
    }
}
