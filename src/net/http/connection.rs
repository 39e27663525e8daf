//! A connection, as a machine without socket and clock.

use std::time::{Duration, Instant};

use super::request::{MAX_BYTES, Parsed, Request, parse};
use super::response::Response;

/// Time for a request to arrive, from the end of the one before.
const READ: Duration = Duration::from_secs(5);
/// Time in which an answer must be found.
const FIND: Duration = Duration::from_secs(2);
/// Time for a response to be taken.
const SEND: Duration = Duration::from_secs(10);
/// Requests of one connection.
const MOST_REQUESTS: u32 = 1000;

/// What a connection does.
#[derive(Debug)]
enum Phase {
    /// Waits for a request.
    Reads,
    /// Waits for the answer to a request.
    Waits(Request),
    /// Sends a response, and then goes on or ends.
    Sends { keep_alive: bool },
    /// Is over.
    Over,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    phase: Phase,
    /// When the phase began, and when it must have ended.
    since: Instant,
    deadline: Instant,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
    requests: u32,
}

impl Connection {
    /// A connection that begins now.
    pub fn new(now: Instant) -> Connection {
        Connection {
            phase: Phase::Reads,
            since: now,
            deadline: now + READ,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            requests: 0,
        }
    }

    /// Bytes that may be received now; 0 if none are wanted.
    pub fn room(&self) -> usize {
        if matches!(self.phase, Phase::Reads) { MAX_BYTES - self.input.len() } else { 0 }
    }

    /// Takes bytes that have arrived, at most [`Connection::room`].
    pub fn received(&mut self, bytes: &[u8], now: Instant) {
        self.input.extend_from_slice(bytes);
        self.next_request(now);
    }

    /// The other side sends nothing any more.
    pub fn ended(&mut self) {
        // Who has asked and then closed one direction still gets the answer.
        if let Phase::Reads = self.phase {
            self.phase = Phase::Over;
        }
    }

    /// Nothing can be sent any more.
    pub fn broken(&mut self) {
        self.phase = Phase::Over;
    }

    fn next_request(&mut self, now: Instant) {
        match parse(&self.input) {
            Parsed::Incomplete => {}
            Parsed::Refused(status) => self.respond(&Response::plain(status), false, false, now),
            Parsed::Request(mut request, len) => {
                self.input.drain(..len);
                self.requests += 1;
                request.keep_alive &= self.requests < MOST_REQUESTS;
                self.enter(Phase::Waits(request), FIND, now);
            }
        }
    }

    /// The request that waits for its answer, and since when.
    pub fn question(&self) -> Option<(&str, Instant)> {
        match &self.phase {
            Phase::Waits(request) => Some((&request.path, self.since)),
            _ => None,
        }
    }

    /// Gives the answer to [`Connection::question`].
    pub fn answer(&mut self, response: &Response, now: Instant) {
        if let Phase::Waits(request) = &self.phase {
            let (head, keep_alive) = (request.head, request.keep_alive);
            self.respond(response, head, keep_alive, now);
        }
    }

    fn respond(&mut self, response: &Response, head: bool, keep_alive: bool, now: Instant) {
        self.output = response.encode(head, keep_alive);
        self.sent = 0;
        self.enter(Phase::Sends { keep_alive }, SEND, now);
    }

    /// Bytes to send.
    pub fn output(&self) -> &[u8] {
        &self.output[self.sent..]
    }

    /// So many bytes of [`Connection::output`] were sent.
    pub fn sent(&mut self, bytes: usize, now: Instant) {
        self.sent += bytes;
        let Phase::Sends { keep_alive } = self.phase else { return };
        if self.sent < self.output.len() {
            return;
        }
        (self.output, self.sent) = (Vec::new(), 0);
        if keep_alive {
            self.enter(Phase::Reads, READ, now);
            self.next_request(now);
        } else {
            self.phase = Phase::Over;
        }
    }

    fn enter(&mut self, phase: Phase, patience: Duration, now: Instant) {
        (self.phase, self.since, self.deadline) = (phase, now, now + patience);
    }

    /// When [`Connection::tick`] has something to do.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Does what is due: who takes too long is told so, or dropped.
    pub fn tick(&mut self, now: Instant) {
        if now < self.deadline {
            return;
        }
        match self.phase {
            Phase::Reads if self.input.is_empty() => self.phase = Phase::Over,
            Phase::Reads => self.respond(&Response::plain(408), false, false, now),
            Phase::Waits(_) => self.answer(&Response::plain(503), now),
            Phase::Sends { .. } | Phase::Over => self.phase = Phase::Over,
        }
    }

    /// Whether the connection is to be closed.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Since when it waits for a request, if it does: of those, the oldest makes room for another connection.
    pub fn idle_since(&self) -> Option<Instant> {
        matches!(self.phase, Phase::Reads).then_some(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";

    fn ok() -> Response {
        Response::new(200, "text/plain", b"yes".as_slice())
    }

    #[test]
    fn requests_are_answered_one_after_another() {
        let now = Instant::now();
        let mut connection = Connection::new(now);
        connection.received(&GET[..5], now);
        assert!(connection.question().is_none() && connection.room() == MAX_BYTES - 5);
        connection.received(&[&GET[5..], GET].concat(), now);
        for _ in 0..2 {
            assert_eq!(connection.question(), Some(("/a", now)));
            assert_eq!(connection.room(), 0);
            connection.answer(&ok(), now);
            assert!(connection.output().ends_with(b"\r\n\r\nyes"));
            connection.sent(10, now);
            connection.sent(connection.output().len(), now);
        }
        assert!(connection.question().is_none() && connection.output().is_empty() && !connection.is_over());
        connection.ended();
        assert!(connection.is_over());
    }

    #[test]
    fn a_connection_has_an_end() {
        let now = Instant::now();
        let mut connection = Connection::new(now);
        for served in 1..=MOST_REQUESTS {
            connection.received(GET, now);
            connection.answer(&ok(), now);
            connection.sent(connection.output().len(), now);
            assert_eq!(connection.is_over(), served == MOST_REQUESTS);
        }
    }

    #[test]
    fn time_is_bounded_in_each_phase() {
        let now = Instant::now();
        let later = |seconds: u64| now + Duration::from_secs(seconds);
        let mut silent = Connection::new(now);
        silent.tick(later(4));
        assert!(!silent.is_over());
        silent.tick(later(5));
        assert!(silent.is_over());

        let mut slow = Connection::new(now);
        slow.received(b"GET", now);
        // More bytes win no time.
        slow.received(b" /", later(4));
        slow.tick(later(5));
        assert!(slow.output().starts_with(b"HTTP/1.1 408 "));
        slow.tick(later(15));
        assert!(slow.is_over(), "who does not take the response is dropped");

        let mut unanswered = Connection::new(now);
        unanswered.received(GET, now);
        unanswered.tick(later(2));
        assert!(unanswered.output().starts_with(b"HTTP/1.1 503 "));
    }
}
