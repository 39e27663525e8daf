//! Connections to the target servers of MIGRATE.
//!
//! A key that moves must never be visible in both places or in neither. It therefore moves while all clients wait,
//! over a connection whose every step has a time limit, and not through the event loop. Connections are cached for
//! a short time, because a client that moves one key usually moves many.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::net::link::{Link, Readiness};
use crate::net::tls::Connector;
use crate::resp::response::Kind;

/// Largest number of cached connections.
const MAX_CACHED: usize = 64;
/// Time after which an unused connection is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes sent at once, which have the time limit to themselves.
const CHUNK: usize = 64 << 10;

/// The step that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Opening the connection.
    Connecting,
    /// Sending a request.
    Writing,
    /// Receiving a reply.
    Reading,
}

/// Why communication with the other server failed.
#[derive(Debug)]
pub struct MigrateError {
    /// The step that failed.
    pub step: Step,
    /// Whether the time limit passed, in which case another attempt would take as long again.
    pub timed_out: bool,
}

impl MigrateError {
    fn new(step: Step, error: &io::Error) -> MigrateError {
        MigrateError { step, timed_out: matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) }
    }
}

/// Cached connections that are not in use.
#[derive(Default)]
pub struct Targets {
    kept: Vec<Target>,
}

impl Targets {
    /// Number of cached connections.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether no connection is cached.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Removes a connection from the cache; the caller owns it until [`Targets::keep`].
    pub fn take(&mut self, host: &[u8], port: &[u8]) -> Option<Target> {
        let at = self.kept.iter().position(|target| *target.host == *host && *target.port == *port)?;
        Some(self.kept.swap_remove(at))
    }

    /// Caches a connection on which no reply is outstanding.
    pub fn keep(&mut self, mut target: Target) {
        if !target.link.received().is_empty() {
            return;
        }
        target.used = Instant::now();
        if self.kept.len() >= MAX_CACHED
            && let Some((oldest, _)) = self.kept.iter().enumerate().min_by_key(|(_, target)| target.used)
        {
            self.kept.swap_remove(oldest);
        }
        self.kept.push(target);
    }

    /// Closes connections that have not been used for a while. Called by the timer.
    pub(in crate::server) fn release_idle(&mut self) {
        self.kept.retain(|target| target.used.elapsed() <= IDLE);
    }
}

/// A connection to another server.
pub struct Target {
    host: Box<[u8]>,
    port: Box<[u8]>,
    link: Link,
    /// Database selected on the other server, if known.
    pub db: Option<i64>,
    used: Instant,
    timeout: Duration,
}

impl Target {
    /// Connects to a server, with `timeout` for each address of `host`, and speaks TLS with `encryption`.
    ///
    /// # Errors
    /// If the host is unknown or no server accepts the connection. A refused connection is reported as a failure of
    /// [`Step::Writing`], the step in which Redis notices it.
    pub fn connect(
        host: &[u8],
        port: &[u8],
        timeout: Duration,
        encryption: Option<&Connector>,
    ) -> Result<Target, MigrateError> {
        let connecting = |error: io::Error| MigrateError::new(Step::Connecting, &error);
        let name = std::str::from_utf8(host).map_err(|_| connecting(ErrorKind::InvalidInput.into()))?;
        // No server listens on port 0.
        let number = std::str::from_utf8(port).ok().and_then(|text| text.parse().ok()).unwrap_or(0u16);
        let mut failure = MigrateError { step: Step::Connecting, timed_out: false };
        for address in (name, number).to_socket_addrs().map_err(connecting)? {
            match reach(address, timeout, encryption) {
                Ok(link) => {
                    let (host, port) = (host.into(), port.into());
                    return Ok(Target { host, port, link, db: None, used: Instant::now(), timeout });
                }
                Err(error) => {
                    failure = MigrateError::new(Step::Connecting, &error);
                    if !failure.timed_out {
                        failure.step = Step::Writing;
                    }
                }
            }
        }
        Err(failure)
    }

    /// Sets the time limit of each further step.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Adds a request to the output.
    ///
    /// # Errors
    /// If the output cannot be sent in time.
    pub fn request(&mut self, args: &[&[u8]]) -> Result<(), MigrateError> {
        self.link.request(args);
        if self.link.unsent() >= CHUNK { self.flush() } else { Ok(()) }
    }

    /// Adds a request of `head`, `large` and `tail`. The bytes of `large` are sent without being copied.
    ///
    /// # Errors
    /// If the output cannot be sent in time.
    pub fn request_with(&mut self, head: &[&[u8]], large: &[u8], tail: &[&[u8]]) -> Result<(), MigrateError> {
        let timeout = self.timeout;
        self.link.request_around(head, large.len(), tail, |link| {
            flush(link, timeout)?;
            large.chunks(CHUNK).try_for_each(|chunk| {
                let deadline = Instant::now() + timeout;
                let mut left = chunk;
                while !left.is_empty() {
                    let n = link.send(left).map_err(|error| MigrateError::new(Step::Writing, &error))?;
                    left = &left[n..];
                    if n == 0 {
                        wait(link, Readiness::Writable, deadline)?;
                    }
                }
                Ok(())
            })
        })?;
        if self.link.unsent() >= CHUNK { self.flush() } else { Ok(()) }
    }

    /// Sends the remaining output.
    ///
    /// # Errors
    /// If the output cannot be sent in time.
    pub fn flush(&mut self) -> Result<(), MigrateError> {
        flush(&mut self.link, self.timeout)
    }

    /// Reads the next reply. The inner error is the text of an error reply with its marker; the content of other
    /// replies is dropped.
    ///
    /// # Errors
    /// If no complete and valid reply arrives in time.
    pub fn reply(&mut self) -> Result<Result<(), Vec<u8>>, MigrateError> {
        let reading = |error: io::Error| MigrateError::new(Step::Reading, &error);
        let deadline = Instant::now() + self.timeout;
        loop {
            let malformed = |_| reading(ErrorKind::InvalidData.into());
            if let Some(response) = self.link.response().map_err(malformed)? {
                return Ok(match response.kind() {
                    Kind::Simple => Ok(()),
                    _ => Err(response.text().to_vec()),
                });
            }
            self.link.wait(Readiness::Readable, deadline).map_err(reading)?;
            self.link.receive().map_err(reading)?;
        }
    }
}

/// Opens a connection.
fn reach(address: SocketAddr, timeout: Duration, encryption: Option<&Connector>) -> io::Result<Link> {
    let mut link = Link::connect(address, None)?;
    if let Some(connector) = encryption {
        link.encrypt(connector);
    }
    let deadline = Instant::now() + timeout;
    while !link.finish_connecting()? {
        link.wait(link.connecting_waits_for(), deadline)?;
    }
    Ok(link)
}

/// Sends all output; each portion that the socket accepts has the time limit to itself.
fn flush(link: &mut Link, timeout: Duration) -> Result<(), MigrateError> {
    loop {
        let before = link.unsent();
        if link.flush().map_err(|error| MigrateError::new(Step::Writing, &error))? {
            return Ok(());
        }
        debug_assert!(link.unsent() <= before);
        wait(link, Readiness::Writable, Instant::now() + timeout)?;
    }
}

fn wait(link: &Link, readiness: Readiness, deadline: Instant) -> Result<(), MigrateError> {
    link.wait(readiness, deadline).map_err(|error| MigrateError::new(Step::Writing, &error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::request::write_request;
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    const SECOND: Duration = Duration::from_secs(1);

    fn port_of(listener: &TcpListener) -> String {
        listener.local_addr().expect("a listener has an address").port().to_string()
    }

    #[test]
    fn large_arguments_arrive_whole_and_replies_are_lines() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = port_of(&listener);
        let large = vec![7; 3 * CHUNK + 5];
        let mut expected = Vec::new();
        write_request(&mut expected, [&b"A"[..]].into_iter());
        write_request(&mut expected, [&b"B"[..], &large, b"C"].into_iter());
        let length = expected.len();
        let other = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody connects");
            let mut got = vec![0; length];
            stream.read_exact(&mut got).expect("so much is sent");
            stream.write_all(b"+OK\r\n-ERR no").expect("it is read");
            stream.write_all(b" more\r\n").expect("it is read");
            got
        });
        let mut target =
            Target::connect(b"127.0.0.1", port.as_bytes(), SECOND, None).expect("there is a listener");
        target.request(&[b"A"]).expect("sent");
        target.request_with(&[b"B"], &large, &[b"C"]).expect("sent");
        target.flush().expect("sent");
        assert_eq!(target.reply().expect("a reply"), Ok(()));
        assert_eq!(target.reply().expect("a reply"), Err(b"ERR no more".to_vec()));
        assert!(other.join().expect("no panic") == expected);
        let end = target.reply().expect_err("the other end is closed");
        assert_eq!((end.step, end.timed_out), (Step::Reading, false));
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = port_of(&listener);
        let mut target =
            Target::connect(b"localhost", port.as_bytes(), SECOND, None).expect("there is a listener");
        target.set_timeout(Duration::from_millis(20));
        let late = target.reply().expect_err("nobody answers");
        assert_eq!((late.step, late.timed_out), (Step::Reading, true));
        drop(listener);
        let gone =
            Target::connect(b"127.0.0.1", port.as_bytes(), SECOND, None).err().expect("nobody is there");
        assert_eq!((gone.step, gone.timed_out), (Step::Writing, false));
        let unknown = Target::connect(b"no such host", b"1", SECOND, None).err().expect("no name has spaces");
        assert_eq!(unknown.step, Step::Connecting);
    }

    #[test]
    fn the_connection_used_last_stays_longest() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = port_of(&listener);
        let mut targets = Targets::default();
        for i in 0..=MAX_CACHED {
            let mut target =
                Target::connect(b"127.0.0.1", port.as_bytes(), SECOND, None).expect("there is a listener");
            target.host = i.to_string().into_bytes().into();
            targets.keep(target);
        }
        assert_eq!(targets.len(), MAX_CACHED);
        assert!(targets.take(b"0", port.as_bytes()).is_none());
        let mut target = targets.take(b"1", port.as_bytes()).expect("it is kept");
        assert!(targets.take(b"1", port.as_bytes()).is_none());
        let mut others = listener.incoming().map(|other| other.expect("somebody has connected"));
        let mut other = others.nth(1).expect("the second to connect");
        other.write_all(b"+").expect("sent");
        target.link.wait(Readiness::Readable, Instant::now() + SECOND).expect("something comes");
        target.link.receive().expect("a byte");
        targets.keep(target);
        assert_eq!(targets.len(), MAX_CACHED - 1, "what says more than it is asked is not kept");
        targets.release_idle();
        assert_eq!(targets.len(), MAX_CACHED - 1);
    }
}
