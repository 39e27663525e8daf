//! Load generator: many connections, one thread, requests encoded in advance.
//!
//! Each connection sends a batch of requests, waits for all replies, and sends the next. Replies are counted, not
//! parsed: a scanner skips from header to header. The work per request is far less than that of any server, so that
//! with pipelining the server is the limit; where it is not, the report says so.

use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use memchr::memchr;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use spinel::resp::request::write_request;

use crate::measure::{Cpu, Latencies};

/// Encoded requests in batches.
#[derive(Default)]
pub struct Batches {
    bytes: Vec<u8>,
    /// End of each batch.
    ends: Vec<usize>,
    /// Requests per batch.
    pipeline: u64,
    /// Replies per request.
    replies: u64,
}

/// Largest number of bytes prepared; the requests are sent repeatedly if more are wanted.
const MOST_BYTES: usize = 256 << 20;

impl Batches {
    /// Prepares `requests` requests in batches of `pipeline`. `write` appends the request with a given number,
    /// which the server answers with `replies` replies.
    pub fn new(
        requests: u64,
        pipeline: u64,
        replies: u64,
        mut write: impl FnMut(&mut Vec<u8>, u64),
    ) -> Batches {
        let mut batches = Batches { pipeline, replies, ..Batches::default() };
        for batch in 0..requests.div_ceil(pipeline) {
            for i in 0..pipeline {
                write(&mut batches.bytes, batch * pipeline + i);
            }
            batches.ends.push(batches.bytes.len());
            if batches.bytes.len() > MOST_BYTES {
                break;
            }
        }
        batches
    }

    /// Number of prepared requests: as many as wanted, unless these need too much memory.
    pub fn requests(&self) -> u64 {
        self.ends.len() as u64 * self.pipeline
    }

    fn batch(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }
}

/// A run of the load generator.
pub struct Job<'a> {
    pub server: SocketAddr,
    pub pid: u32,
    pub batches: &'a Batches,
    /// Number of connections that send.
    pub connections: usize,
    /// Number of requests after which the run ends.
    pub requests: u64,
    /// Flag that ends the run earlier.
    pub stop: Option<&'a AtomicBool>,
    /// A request that an additional connection repeats alone; its latencies are recorded instead of those of the
    /// batches.
    pub probe: Option<&'a [u8]>,
    /// Number of connections that subscribe to [`CHANNEL`] and read the messages.
    pub listeners: usize,
    /// Number of connections that wait for entries of streams that nobody writes to.
    pub readers: usize,
}

/// Channel of the listeners.
pub const CHANNEL: &[u8] = b"news";

/// Result of a run.
pub struct Outcome {
    /// Number of answered requests.
    pub requests: u64,
    pub elapsed: Duration,
    /// Processor time that the server used meanwhile.
    pub server: Cpu,
    /// Times from sending a batch to its last reply.
    pub latencies: Latencies,
    /// The first error reply.
    pub error: Option<String>,
}

/// Counts replies in a stream of bytes that may be split anywhere.
#[derive(Default)]
struct Scanner {
    /// Bytes of the current string that have not arrived.
    skip: usize,
    /// Elements of the current reply that have not arrived.
    missing: u64,
    /// Beginning of a header.
    partial: Vec<u8>,
    error: Option<String>,
}

impl Scanner {
    /// Processes more bytes and returns the number of replies completed.
    fn feed(&mut self, mut bytes: &[u8]) -> u64 {
        let mut complete = 0;
        loop {
            let skipped = self.skip.min(bytes.len());
            bytes = &bytes[skipped..];
            self.skip -= skipped;
            if self.skip > 0 {
                return complete;
            }
            if self.missing == 0 && skipped > 0 {
                complete += 1;
            }
            let Some(end) = memchr(b'\n', bytes) else {
                self.partial.extend_from_slice(bytes);
                return complete;
            };
            let line = &bytes[..end];
            bytes = &bytes[end + 1..];
            if self.partial.is_empty() {
                self.header(line);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.header(&whole);
                whole.clear();
                self.partial = whole;
            }
            if self.missing == 0 && self.skip == 0 {
                complete += 1;
            }
        }
    }

    fn header(&mut self, line: &[u8]) {
        self.missing = self.missing.saturating_sub(1);
        match line.first() {
            Some(b'$') => self.skip = count(line).map_or(0, |length| length + 2),
            Some(b'*') => self.missing += count(line).unwrap_or(0) as u64,
            Some(b'-') if self.error.is_none() => {
                self.error = Some(String::from_utf8_lossy(line).trim().to_owned());
            }
            _ => {}
        }
    }
}

/// The number in a header, unless it is negative.
fn count(line: &[u8]) -> Option<usize> {
    let digits = line[1..].trim_ascii_end();
    digits.iter().try_fold(0, |n, digit| digit.is_ascii_digit().then(|| n * 10 + usize::from(digit - b'0')))
}

struct Connection {
    stream: TcpStream,
    scanner: Scanner,
    role: Role,
    /// Replies outstanding for the current batch.
    awaited: u64,
    /// The current batch, and the number of its bytes that have been sent.
    batch: usize,
    sent: usize,
    since: Instant,
}

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Sender,
    Probe,
    Listener,
    Reader,
}

/// Runs a job.
///
/// # Errors
/// If a connection cannot be opened, or breaks.
pub fn run(job: &Job<'_>) -> io::Result<Outcome> {
    let mut poll = Poll::new()?;
    let mut connections = Vec::new();
    let roles = [
        (Role::Listener, job.listeners),
        (Role::Reader, job.readers),
        (Role::Probe, usize::from(job.probe.is_some())),
        (Role::Sender, job.connections),
    ];
    for (role, count) in roles {
        for number in 0..count {
            connections.push(connect(job, role, number)?);
        }
    }
    for (i, connection) in connections.iter_mut().enumerate() {
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut connection.stream, Token(i), interest)?;
    }
    let mut generator = Generator {
        job,
        next: 0,
        to_send: job.requests.div_ceil(job.batches.pipeline.max(1)),
        busy: 0,
        requests: 0,
        latencies: Latencies::default(),
    };
    let server = Cpu::of(job.pid)?;
    let started = Instant::now();
    for connection in &mut connections {
        generator.begin(connection)?;
    }
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 256 << 10];
    while generator.busy > 0 {
        poll.poll(&mut events, Some(Duration::from_secs(30)))?;
        if events.is_empty() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "no reply for half a minute"));
        }
        for event in &events {
            generator.advance(&mut connections[event.token().0], &mut buffer)?;
        }
    }
    let elapsed = started.elapsed();
    Ok(Outcome {
        requests: generator.requests,
        elapsed,
        server: Cpu::of(job.pid)?.since(server),
        latencies: generator.latencies,
        error: connections.iter_mut().find_map(|connection| connection.scanner.error.take()),
    })
}

/// Opens a connection, the one with this number of its role, and waits for a first reply.
fn connect(job: &Job<'_>, role: Role, number: usize) -> io::Result<Connection> {
    let mut stream = std::net::TcpStream::connect(job.server)?;
    stream.set_nodelay(true)?;
    let mut greeting = Vec::new();
    match role {
        Role::Listener => write_request(&mut greeting, [&b"SUBSCRIBE"[..], CHANNEL].into_iter()),
        _ => greeting.extend_from_slice(b"PING\r\n"),
    }
    stream.write_all(&greeting)?;
    let mut scanner = Scanner::default();
    let mut reply = [0; 256];
    while scanner.feed_from(&mut stream, &mut reply)? == 0 {}
    if role == Role::Reader {
        let key = format!("other:{number}");
        let mut read = Vec::new();
        let args = ["XREAD", "BLOCK", "0", "STREAMS", &key, "$"].map(str::as_bytes);
        write_request(&mut read, args.into_iter());
        stream.write_all(&read)?;
    }
    stream.set_nonblocking(true)?;
    Ok(Connection {
        stream: TcpStream::from_std(stream),
        scanner,
        role,
        awaited: 0,
        batch: 0,
        sent: 0,
        since: Instant::now(),
    })
}

impl Scanner {
    /// Reads once and returns the number of replies completed.
    fn feed_from(&mut self, stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<u64> {
        match stream.read(buffer)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            n => Ok(self.feed(&buffer[..n])),
        }
    }
}

/// State shared by all connections.
struct Generator<'a> {
    job: &'a Job<'a>,
    /// Index of the next batch.
    next: usize,
    /// Number of batches still to be sent.
    to_send: u64,
    /// Number of connections that wait for replies, without the probe.
    busy: usize,
    requests: u64,
    latencies: Latencies,
}

impl Generator<'_> {
    fn is_over(&self) -> bool {
        self.to_send == 0 || self.job.stop.is_some_and(|stop| stop.load(Ordering::Relaxed))
    }

    /// Sends the next batch, if there is one.
    fn begin(&mut self, connection: &mut Connection) -> io::Result<()> {
        match connection.role {
            Role::Listener | Role::Reader => return Ok(()),
            Role::Probe => connection.awaited = 1,
            Role::Sender => {
                if self.is_over() {
                    return Ok(());
                }
                self.to_send -= 1;
                connection.batch = self.next;
                self.next = (self.next + 1) % self.job.batches.ends.len();
                connection.awaited = self.job.batches.pipeline * self.job.batches.replies;
            }
        }
        // The probe keeps the run going only if no other connection sends.
        if connection.role == Role::Sender || self.job.connections == 0 {
            self.busy += 1;
        }
        connection.sent = 0;
        connection.since = Instant::now();
        self.send(connection)
    }

    fn send(&self, connection: &mut Connection) -> io::Result<()> {
        let batch = match connection.role {
            Role::Probe => self.job.probe.unwrap_or_default(),
            _ => self.job.batches.batch(connection.batch),
        };
        while connection.sent < batch.len() {
            match connection.stream.write(&batch[connection.sent..]) {
                Ok(n) => connection.sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Continues a connection until it would block.
    fn advance(&mut self, connection: &mut Connection, buffer: &mut [u8]) -> io::Result<()> {
        if connection.awaited > 0 {
            self.send(connection)?;
        }
        // After a complete batch there is nothing to read, so no attempt is made.
        while connection.awaited > 0 || connection.role == Role::Listener {
            let complete = match connection.scanner.feed_from(&mut connection.stream, buffer) {
                Ok(complete) => complete,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            if connection.role == Role::Listener {
                continue;
            }
            connection.awaited = connection.awaited.saturating_sub(complete);
            if connection.awaited == 0 {
                self.complete(connection)?;
            }
        }
        Ok(())
    }

    fn complete(&mut self, connection: &mut Connection) -> io::Result<()> {
        let probe = connection.role == Role::Probe;
        if probe == self.job.probe.is_some() {
            self.latencies.add(connection.since.elapsed());
        }
        if !probe {
            self.requests += self.job.batches.pipeline;
        }
        if !probe || self.job.connections == 0 {
            self.busy -= 1;
        }
        let ended = if self.job.connections == 0 { self.is_over() } else { self.busy == 0 };
        if probe && ended {
            return Ok(());
        }
        self.begin(connection)
    }
}

/// Binds this process to one processor, before it starts threads; whether that worked.
pub fn pin(processor: usize) -> bool {
    let me = std::process::id().to_string();
    let mut command = std::process::Command::new("taskset");
    command.args(["-cp", &processor.to_string(), &me]).stdout(std::process::Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Number of processors of the machine.
pub fn processors() -> usize {
    fs::read_to_string("/proc/cpuinfo")
        .map_or(1, |text| text.lines().filter(|line| line.starts_with("processor")).count())
}
