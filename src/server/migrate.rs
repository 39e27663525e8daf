//! Connections to the servers that keys are moved to.
//!
//! A key that moves must never be seen in both places, or in none. So it moves while everybody waits, over a
//! connection whose every step is bounded in time, and not through the event loop. Connections are kept for a short
//! while, since whoever moves one key usually moves many.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::net::link::{Link, Readiness};
use crate::resp::response::Kind;

/// So many connections are kept.
const MAX_KEPT: usize = 64;
/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(10);
/// What is sent at once, and has the time limit for itself.
const CHUNK: usize = 64 << 10;

/// Which step failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Connecting,
    Writing,
    Reading,
}

/// Why the other server could not be asked.
#[derive(Debug)]
pub struct Trouble {
    pub step: Step,
    /// It took too long: another try would take as long again.
    pub timed_out: bool,
}

impl Trouble {
    fn new(step: Step, error: &io::Error) -> Trouble {
        Trouble { step, timed_out: matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) }
    }
}

/// Connections that nobody uses at the moment.
#[derive(Default)]
pub struct Targets {
    kept: Vec<Target>,
}

impl Targets {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// A kept connection, which is the caller's until he gives it back.
    pub fn take(&mut self, host: &[u8], port: &[u8]) -> Option<Target> {
        let at = self.kept.iter().position(|target| *target.host == *host && *target.port == *port)?;
        Some(self.kept.swap_remove(at))
    }

    /// Keeps a connection over which all replies have come.
    pub fn keep(&mut self, mut target: Target) {
        if !target.link.received().is_empty() {
            return;
        }
        target.used = Instant::now();
        if self.kept.len() >= MAX_KEPT
            && let Some((oldest, _)) = self.kept.iter().enumerate().min_by_key(|(_, target)| target.used)
        {
            self.kept.swap_remove(oldest);
        }
        self.kept.push(target);
    }

    /// Closes what was not used for a while. Called by the timer.
    pub(in crate::server) fn release_idle(&mut self) {
        self.kept.retain(|target| target.used.elapsed() <= IDLE);
    }
}

/// A connection to another server.
pub struct Target {
    host: Box<[u8]>,
    port: Box<[u8]>,
    link: Link,
    /// The database selected there, if known.
    pub db: Option<i64>,
    used: Instant,
    timeout: Duration,
}

impl Target {
    /// Connects to a server; each of the addresses that `host` has gets `timeout`.
    ///
    /// # Errors
    /// The host is unknown, or no server answers there. A server that is not there is found out only when something
    /// is written to it, for whoever reads the error.
    pub fn connect(host: &[u8], port: &[u8], timeout: Duration) -> Result<Target, Trouble> {
        let connecting = |error: io::Error| Trouble::new(Step::Connecting, &error);
        let name = std::str::from_utf8(host).map_err(|_| connecting(ErrorKind::InvalidInput.into()))?;
        // Nobody listens on port 0.
        let number = std::str::from_utf8(port).ok().and_then(|text| text.parse().ok()).unwrap_or(0u16);
        let mut failure = Trouble { step: Step::Connecting, timed_out: false };
        for address in (name, number).to_socket_addrs().map_err(connecting)? {
            match reach(address, timeout) {
                Ok(link) => {
                    let (host, port) = (host.into(), port.into());
                    return Ok(Target { host, port, link, db: None, used: Instant::now(), timeout });
                }
                Err(error) => {
                    failure = Trouble::new(Step::Connecting, &error);
                    if !failure.timed_out {
                        failure.step = Step::Writing;
                    }
                }
            }
        }
        Err(failure)
    }

    /// From now on each step may take so long.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Adds a request to what is sent.
    ///
    /// # Errors
    /// It cannot be sent, or not in time.
    pub fn request(&mut self, args: &[&[u8]]) -> Result<(), Trouble> {
        self.link.request(args);
        if self.link.unsent() >= CHUNK { self.flush() } else { Ok(()) }
    }

    /// Adds a request whose last argument but `tail` is `large`, which is sent from where it lies.
    ///
    /// # Errors
    /// It cannot be sent, or not in time.
    pub fn request_with(&mut self, head: &[&[u8]], large: &[u8], tail: &[&[u8]]) -> Result<(), Trouble> {
        let timeout = self.timeout;
        self.link.request_around(head, large.len(), tail, |link| {
            flush(link, timeout)?;
            large.chunks(CHUNK).try_for_each(|chunk| {
                let deadline = Instant::now() + timeout;
                let mut left = chunk;
                while !left.is_empty() {
                    let n = link.send(left).map_err(|error| Trouble::new(Step::Writing, &error))?;
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

    /// Sends what was added.
    ///
    /// # Errors
    /// It cannot be sent, or not in time.
    pub fn flush(&mut self) -> Result<(), Trouble> {
        flush(&mut self.link, self.timeout)
    }

    /// The next reply, an error with its marker and all else without.
    ///
    /// # Errors
    /// It does not come, or not in time, or it is none.
    pub fn reply(&mut self) -> Result<Result<(), Vec<u8>>, Trouble> {
        let reading = |error: io::Error| Trouble::new(Step::Reading, &error);
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

/// A connection that stands.
fn reach(address: SocketAddr, timeout: Duration) -> io::Result<Link> {
    let mut link = Link::connect(address, None)?;
    let deadline = Instant::now() + timeout;
    while !link.finish_connecting()? {
        link.wait(Readiness::Writable, deadline)?;
    }
    Ok(link)
}

/// Sends all of what was added; each portion that the socket takes has the time limit for itself.
fn flush(link: &mut Link, timeout: Duration) -> Result<(), Trouble> {
    loop {
        let before = link.unsent();
        if link.flush().map_err(|error| Trouble::new(Step::Writing, &error))? {
            return Ok(());
        }
        debug_assert!(link.unsent() <= before);
        wait(link, Readiness::Writable, Instant::now() + timeout)?;
    }
}

fn wait(link: &Link, readiness: Readiness, deadline: Instant) -> Result<(), Trouble> {
    link.wait(readiness, deadline).map_err(|error| Trouble::new(Step::Writing, &error))
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
        let mut target = Target::connect(b"127.0.0.1", port.as_bytes(), SECOND).expect("there is a listener");
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
        let mut target = Target::connect(b"localhost", port.as_bytes(), SECOND).expect("there is a listener");
        target.set_timeout(Duration::from_millis(20));
        let late = target.reply().expect_err("nobody answers");
        assert_eq!((late.step, late.timed_out), (Step::Reading, true));
        drop(listener);
        let gone = Target::connect(b"127.0.0.1", port.as_bytes(), SECOND).err().expect("nobody is there");
        assert_eq!((gone.step, gone.timed_out), (Step::Writing, false));
        let unknown = Target::connect(b"no such host", b"1", SECOND).err().expect("no name has spaces");
        assert_eq!(unknown.step, Step::Connecting);
    }

    #[test]
    fn the_connection_used_last_stays_longest() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = port_of(&listener);
        let mut targets = Targets::default();
        for i in 0..=MAX_KEPT {
            let mut target =
                Target::connect(b"127.0.0.1", port.as_bytes(), SECOND).expect("there is a listener");
            target.host = i.to_string().into_bytes().into();
            targets.keep(target);
        }
        assert_eq!(targets.len(), MAX_KEPT);
        assert!(targets.take(b"0", port.as_bytes()).is_none());
        let mut target = targets.take(b"1", port.as_bytes()).expect("it is kept");
        assert!(targets.take(b"1", port.as_bytes()).is_none());
        let mut others = listener.incoming().map(|other| other.expect("somebody has connected"));
        let mut other = others.nth(1).expect("the second to connect");
        other.write_all(b"+").expect("sent");
        target.link.wait(Readiness::Readable, Instant::now() + SECOND).expect("something comes");
        target.link.receive().expect("a byte");
        targets.keep(target);
        assert_eq!(targets.len(), MAX_KEPT - 1, "what says more than it is asked is not kept");
        targets.release_idle();
        assert_eq!(targets.len(), MAX_KEPT - 1);
    }
}
