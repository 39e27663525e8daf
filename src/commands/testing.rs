//! Test harness: a server in process, without sockets to the outside.
//!
//! [`check`] runs a script of commands, one per line, and compares the replies in the format that `redis-cli`
//! prints on a terminal.

use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::background::Background;
use crate::clients::{Client, ClientKey};
use crate::config::Config;
use crate::net::stream::Stream;
use crate::resp::request::{self, write_request};
use crate::server::Server;
use crate::server::execution::call::Batch;
use crate::stdx::quote;

/// A server with one or more clients.
pub struct Harness {
    /// The server.
    pub server: Server,
    /// Client whose requests run.
    pub client: ClientKey,
    /// Other ends of the clients' sockets.
    peers: Vec<UnixStream>,
}

impl Default for Harness {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Harness {
    /// A server with the given configuration and all commands.
    pub fn new(config: Config) -> Self {
        let background = Arc::new(Background::start(None).expect("threads can be started"));
        let mut server = Server::new(config, &super::known(), background);
        // Tests in memory leave no files behind.
        server.config.persistence.save.0.clear();
        let mut harness = Harness { server, client: ClientKey(0), peers: Vec::new() };
        harness.client = harness.connect();
        harness
    }

    /// Connects another client; requests still come from the same client as before.
    pub fn connect(&mut self) -> ClientKey {
        let (ours, peer) = UnixStream::pair().expect("a socket pair can be made");
        ours.set_nonblocking(true).expect("a socket can be non-blocking");
        self.peers.push(peer);
        let now = self.server.keyspace.now();
        self.server.clients.insert_with(|id, _| Client::new(id, Stream::from_unix(ours), now, true))
    }

    /// Runs one line as a request of `client` and leaves the output unread.
    pub fn request_as(&mut self, client: ClientKey, line: &str) {
        let args = quote::split_args(line.as_bytes()).expect("balanced quotes");
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let before = std::mem::replace(&mut self.client, client);
        self.request(&args);
        self.client = before;
    }

    /// Runs one line as a request of `client`; returns all output to the client up to the end of the iteration.
    pub fn run_as(&mut self, client: ClientKey, line: &str) -> String {
        self.request_as(client, line);
        self.output_of(client)
    }

    /// Returns the output to `client` up to the end of the event loop's iteration.
    pub fn output_of(&mut self, client: ClientKey) -> String {
        self.server.finish_iteration();
        let written = self.server.clients[client].io.output.take_all();
        let (mut shown, mut rest) = (Vec::new(), &written[..]);
        while !rest.is_empty() {
            let (text, after) = show(rest, "");
            shown.push(text);
            rest = after;
        }
        shown.join("\n")
    }

    /// Runs one request and returns the reply in RESP.
    pub fn raw(&mut self, args: &[&[u8]]) -> Vec<u8> {
        self.request(args);
        self.take_output()
    }

    fn request(&mut self, args: &[&[u8]]) {
        let mut batch = Batch::default();
        let input = &mut self.server.clients[self.client].io.input;
        input.buf.clear();
        input.pos = 0;
        write_request(&mut input.buf, args.iter().copied());
        let limits = request::Limits::default();
        let frame = input
            .decoder
            .next(&mut input.buf, &mut input.pos, &mut batch.spans, &limits)
            .expect("the request is well formed")
            .expect("the request is complete");
        self.server.keyspace.set_now(crate::stdx::clock::UnixMillis::now());
        self.server.enqueue(&mut batch, self.client, frame);
        self.server.run_batch(&mut batch);
    }

    /// Returns and removes the output to the client.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.server.clients[self.client].io.output.take_all()
    }

    /// Runs one line and returns the reply as `redis-cli` prints it.
    pub fn run(&mut self, line: &str) -> String {
        let args = quote::split_args(line.as_bytes()).expect("balanced quotes");
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let reply = self.raw(&args);
        let (text, rest) = show(&reply, "");
        assert!(rest.is_empty(), "more than one reply to {line}");
        text
    }
}

/// Runs a script of commands and compares the replies, line by line.
///
/// # Panics
/// If a reply differs.
#[track_caller]
pub fn check(script: &str, expected: &str) {
    check_with(&mut Harness::default(), script, expected);
}

/// As [`check`], on an existing server.
///
/// # Panics
/// If a reply differs.
#[track_caller]
pub fn check_with(harness: &mut Harness, script: &str, expected: &str) {
    let mut got = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        got.push_str(&harness.run(line));
        got.push('\n');
    }
    let tidy =
        |text: &str| text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("\n");
    // Expected texts may be indented with the code around them: only the indentation of the replies counts.
    let unindented: Vec<&str> = expected.lines().collect();
    let indent = unindented
        .iter()
        .skip(1)
        .filter(|l| !l.trim().is_empty())
        .map(|l| l.len() - l.trim_start().len())
        .min();
    let expected: Vec<&str> = unindented
        .iter()
        .enumerate()
        .map(
            |(i, line)| {
                if i == 0 { line.trim_start() } else { line.get(indent.unwrap_or(0)..).unwrap_or("") }
            },
        )
        .collect();
    assert_eq!(tidy(&got), tidy(&expected.join("\n")), "the script was:\n{script}");
}

/// One RESP value as `redis-cli` prints it, and the bytes after it.
fn show<'a>(resp: &'a [u8], indent: &str) -> (String, &'a [u8]) {
    let end = resp.windows(2).position(|w| w == b"\r\n").expect("a reply has a line end");
    let (line, rest) = (&resp[1..end], &resp[end + 2..]);
    let text = || String::from_utf8_lossy(line).into_owned();
    let number = || text().parse::<i64>().expect("a length");
    match resp[0] {
        b'+' | b',' | b'(' => (text(), rest),
        b'-' => (format!("(error) {}", text()), rest),
        b':' => (format!("(integer) {}", text()), rest),
        b'_' => ("(nil)".into(), rest),
        b'#' => (if line == b"t" { "(true)" } else { "(false)" }.into(), rest),
        b'$' | b'=' => {
            if number() < 0 {
                return ("(nil)".into(), rest);
            }
            let n = number() as usize;
            (quote::repr(&rest[..n]), &rest[n + 2..])
        }
        kind @ (b'*' | b'~' | b'>' | b'%') => {
            let n = number();
            if n <= 0 {
                return (if n == 0 { "(empty array)" } else { "(nil)" }.into(), rest);
            }
            let items = if kind == b'%' { 2 * n } else { n } as usize;
            let width = items.to_string().len();
            let (mut out, mut rest) = (String::new(), rest);
            for i in 1..=items {
                let inner = format!("{indent}{}", " ".repeat(width + 2));
                let (item, after) = show(rest, &inner);
                let lead = if i == 1 { "" } else { indent };
                out.push_str(&format!("{lead}{i:>width$}) {item}"));
                if i < items {
                    out.push('\n');
                }
                rest = after;
            }
            (out, rest)
        }
        other => panic!("no reply begins with {:?}", other as char),
    }
}
