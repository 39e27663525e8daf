//! The thread that serves connections.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::response::Response;
use crate::net::listener::{Listener, Queue};
use crate::net::poll::{Poll, Source, Waker};
use crate::net::stream::Stream;

/// Connections at the same time.
const MOST_CONNECTIONS: usize = 16;
/// Time until another attempt to accept connections when there is no descriptor for them.
const RETRY: Duration = Duration::from_millis(200);

/// Finds answers to questions.
pub trait Answers {
    /// The answer to a request for `path` that is there since `since`; `None` if it is not known yet. It is asked for
    /// again whenever the server's [`Waker`] is used.
    fn answer(&mut self, path: &str, since: Instant) -> Option<Response>;
}

/// The sockets, before there is a thread.
pub struct HttpServer {
    poll: Poll,
    listeners: Arc<Vec<Listener>>,
    connections: Vec<Option<(Stream, Connection)>>,
    /// When to try again to accept connections.
    retry: Option<Instant>,
}

impl HttpServer {
    /// A server for those who connect to `listeners`.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn new(mut listeners: Vec<Listener>) -> io::Result<HttpServer> {
        let poll = Poll::new()?;
        for (place, listener) in listeners.iter_mut().enumerate() {
            poll.registry().register_readable(listener, Source::Listener(place))?;
        }
        let connections = (0..MOST_CONNECTIONS).map(|_| None).collect();
        Ok(HttpServer { poll, listeners: Arc::new(listeners), connections, retry: None })
    }

    /// A handle by which another thread tells that answers may be known.
    pub fn waker(&self) -> Waker {
        self.poll.waker()
    }

    /// The listening sockets.
    pub fn listeners(&self) -> Arc<Vec<Listener>> {
        Arc::clone(&self.listeners)
    }

    /// Serves for ever.
    pub fn run(mut self, answers: &mut impl Answers) -> Infallible {
        loop {
            let now = Instant::now();
            let deadlines = self.connections.iter().flatten().map(|(_, connection)| connection.deadline());
            let next = deadlines.chain(self.retry).min();
            let wait = next.map(|next| next.saturating_duration_since(now));
            if self.poll.wait(wait).is_err() {
                // Nothing but a programming error makes it fail; what matters is that it costs no processor.
                std::thread::sleep(RETRY);
            }
            let now = Instant::now();
            if self.retry.is_some_and(|retry| retry <= now) {
                self.retry = None;
                for place in 0..self.listeners.len() {
                    self.accept(place, now);
                }
            }
            let ready: Vec<Source> = self.poll.ready().map(|ready| ready.source).collect();
            for source in ready {
                if let Source::Listener(place) = source {
                    self.accept(place, now);
                }
            }
            // There are few, so all are looked at: one may have been waiting for an answer.
            for slot in &mut self.connections {
                if let Some((stream, connection)) = slot {
                    connection.tick(now);
                    serve(stream, connection, answers, now);
                    if connection.is_over() {
                        // A child process may have the descriptor, too.
                        let _ = stream.shutdown(std::net::Shutdown::Both);
                        *slot = None;
                    }
                }
            }
        }
    }

    fn accept(&mut self, place: usize, now: Instant) {
        loop {
            let mut arrived = Vec::new();
            let left = self.listeners[place].accept(|stream| arrived.push(stream));
            for stream in arrived {
                self.welcome(stream, now);
            }
            match left {
                Ok(Queue::Empty) => return,
                Ok(Queue::Unknown) => {}
                Err(_) => {
                    self.retry = Some(now + RETRY);
                    return;
                }
            }
        }
    }

    /// Takes a connection in, in the place of one that has asked for nothing for long if there is no other.
    fn welcome(&mut self, mut stream: Stream, now: Instant) {
        let free = self.connections.iter().position(Option::is_none);
        let oldest = || {
            let idle = self
                .connections
                .iter()
                .enumerate()
                .filter_map(|(place, slot)| Some((slot.as_ref()?.1.idle_since()?, place)));
            idle.min().map(|(_, place)| place)
        };
        let Some(place) = free.or_else(oldest) else { return };
        self.connections[place] = None;
        if self.poll.registry().register(&mut stream, Source::Client(place)).is_ok() {
            // A failure costs speed only.
            let _ = stream.set_nodelay();
            self.connections[place] = Some((stream, Connection::new(now)));
        }
    }
}

/// Receives, answers and sends as far as possible without waiting.
fn serve(stream: &Stream, connection: &mut Connection, answers: &mut impl Answers, now: Instant) {
    loop {
        let mut went_on = false;
        if connection.room() > 0 {
            let mut bytes = Vec::new();
            match stream.recv_into(&mut bytes, connection.room()) {
                Ok(0) => connection.ended(),
                Ok(_) => {
                    connection.received(&bytes, now);
                    went_on = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => connection.ended(),
            }
        }
        if let Some((path, since)) = connection.question()
            && let Some(response) = answers.answer(path, since)
        {
            connection.answer(&response, now);
        }
        if !connection.output().is_empty() {
            match stream.send(connection.output()) {
                Ok(n) => {
                    connection.sent(n, now);
                    went_on = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => connection.broken(),
            }
        }
        if !went_on || connection.is_over() {
            return;
        }
    }
}
