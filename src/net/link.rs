//! Connections that we open: to a server that keys move to, to a primary, to another node.
//!
//! A [`Link`] is a non-blocking socket with what is to be sent and what has arrived. It connects in the background:
//! requests may be added at once and leave when the connection stands. Replies are found by
//! [`resp::response`](crate::resp::response) and handed out as views of the received bytes; what is no reply, such as
//! a snapshot that is being transferred, is read as bytes.
//!
//! Registered in a [`Poll`](super::poll::Poll), a link never waits. The few steps that must be atomic for everybody
//! wait through [`Link::wait`], each with a limit.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use super::stream::Stream;
use crate::resp::request::{write_bulk, write_header, write_request};
use crate::resp::response::{Decoder, Malformed, Response};

/// Room offered to one receive.
const READ: usize = 16 << 10;
/// A buffer that grew beyond this is shrunk when it is empty.
const KEPT: usize = 64 << 10;

/// What a link waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// Bytes, or the end of the stream.
    Readable,
    /// Room for bytes, or the outcome of connecting.
    Writable,
}

/// One end of a connection that we opened.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    connected: bool,
    output: Vec<u8>,
    /// Bytes of `output` that are sent.
    sent: usize,
    input: Vec<u8>,
    /// Bytes of `input` that are used up.
    used: usize,
    decoder: Decoder,
}

impl Link {
    /// Begins to connect to `peer`, from the address `source` if given.
    ///
    /// # Errors
    /// What the system knows at once: no route, no such local address, no descriptor left.
    pub fn connect(peer: SocketAddr, source: Option<IpAddr>) -> io::Result<Link> {
        let stream = Stream::connect(peer, source)?;
        Ok(Link {
            stream,
            connected: false,
            output: Vec::new(),
            sent: 0,
            input: Vec::new(),
            used: 0,
            decoder: Decoder::default(),
        })
    }

    /// The socket, to register it.
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// The socket.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Whether the connection stands. To be asked once the socket is writable.
    ///
    /// # Errors
    /// Why there is no connection.
    pub fn finish_connecting(&mut self) -> io::Result<bool> {
        if !self.connected {
            self.stream.take_error()?;
            self.connected = self.stream.is_connected();
            if self.connected {
                // Slower without, and nothing else.
                let _ = self.stream.set_nodelay();
            }
        }
        Ok(self.connected)
    }

    /// Adds a request to what is to be sent.
    pub fn request(&mut self, args: &[&[u8]]) {
        write_request(&mut self.output, args.iter().copied());
    }

    /// Adds a request in parts: its first arguments, one that is large, and the last ones. The large one is handed to
    /// `large` instead of being copied, between what came before it and what comes behind.
    ///
    /// # Errors
    /// Those of `large`.
    pub fn request_around<E>(
        &mut self,
        head: &[&[u8]],
        len: usize,
        tail: &[&[u8]],
        large: impl FnOnce(&mut Link) -> Result<(), E>,
    ) -> Result<(), E> {
        write_header(&mut self.output, b'*', head.len() + 1 + tail.len());
        for arg in head {
            write_bulk(&mut self.output, arg);
        }
        write_header(&mut self.output, b'$', len);
        large(self)?;
        self.output.extend_from_slice(b"\r\n");
        for arg in tail {
            write_bulk(&mut self.output, arg);
        }
        Ok(())
    }

    /// Bytes that are still to be sent.
    pub fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Sends as much as the socket takes; whether nothing is left.
    ///
    /// # Errors
    /// What broke the connection.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match self.stream.send(&self.output[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.output.clear();
        self.output.shrink_to(KEPT);
        self.sent = 0;
        Ok(true)
    }

    /// Sends the start of `bytes`, which are not copied; how many. Only when nothing else is to be sent.
    ///
    /// # Errors
    /// What broke the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert_eq!(self.unsent(), 0, "what was added first leaves first");
        match self.stream.send(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Receives what has arrived, up to 16 KB; whether there may be more.
    ///
    /// # Errors
    /// What broke the connection; `UnexpectedEof` when the peer has closed it.
    pub fn receive(&mut self) -> io::Result<bool> {
        if self.used > 0 {
            self.input.drain(..self.used);
            self.used = 0;
        }
        if self.input.is_empty() {
            self.input.shrink_to(KEPT);
        }
        self.input.reserve(READ);
        let len = self.input.len();
        let room = &mut self.input.spare_capacity_mut()[..READ];
        match self.stream.recv(room) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                // SAFETY: `recv` has written `n` bytes to the front of the spare capacity.
                unsafe { self.input.set_len(len + n) };
                Ok(n == READ)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next whole reply that has arrived.
    ///
    /// # Errors
    /// What has arrived is no reply.
    pub fn response(&mut self) -> Result<Option<Response<'_>>, Malformed> {
        let found = self.decoder.next(&self.input[self.used..])?;
        Ok(found.map(|(response, len)| {
            self.used += len;
            response
        }))
    }

    /// What has arrived and is not used up.
    pub fn received(&self) -> &[u8] {
        &self.input[self.used..]
    }

    /// Uses up the first `n` received bytes. Not in the middle of a reply.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.received().len(), "only what has arrived is used up");
        self.used += n;
    }

    /// Waits until the socket is ready, for a step that must not be interrupted by anything else.
    ///
    /// # Errors
    /// `TimedOut` when it is not by `deadline`; what the system says.
    pub fn wait(&self, readiness: Readiness, deadline: Instant) -> io::Result<()> {
        let events = match readiness {
            Readiness::Readable => libc::POLLIN,
            Readiness::Writable => libc::POLLOUT,
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            let left_ms = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
            let mut watched = libc::pollfd { fd: self.stream.as_raw_fd(), events, revents: 0 };
            // SAFETY: the kernel reads and writes this one record, which lives until the call returns.
            match unsafe { libc::poll(&raw mut watched, 1, left_ms) } {
                0 => {}
                n if n > 0 => return Ok(()),
                _ => {
                    let error = io::Error::last_os_error();
                    if error.kind() != ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::poll::{Poll, Source};
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(2)
    }

    fn connected(listener: &TcpListener) -> Link {
        let mut link = Link::connect(listener.local_addr().expect("bound"), None).expect("a socket");
        link.wait(Readiness::Writable, soon()).expect("decided");
        assert!(link.finish_connecting().expect("accepted"));
        link
    }

    #[test]
    fn requests_leave_and_replies_arrive_in_pieces() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut link = connected(&listener);
        let (mut other, _) = listener.accept().expect("somebody connects");
        link.request(&[b"PING"]);
        link.request_around(&[b"SET", b"k"], 3, &[b"NX"], |link| {
            link.output.extend_from_slice(b"abc");
            Ok::<_, io::Error>(())
        })
        .expect("written");
        let expected = b"*1\r\n$4\r\nPING\r\n*4\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\nabc\r\n$2\r\nNX\r\n";
        assert!(link.flush().expect("sent"));
        let mut got = vec![0; expected.len()];
        other.read_exact(&mut got).expect("so much is sent");
        assert_eq!(got, expected);

        let writer = thread::spawn(move || {
            for piece in ["+PO", "NG\r\n$3\r\na", "bc\r\nrest"] {
                other.write_all(piece.as_bytes()).expect("read");
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut texts = Vec::new();
        while texts.len() < 2 {
            link.wait(Readiness::Readable, soon()).expect("more comes");
            link.receive().expect("bytes");
            while texts.len() < 2
                && let Some(response) = link.response().expect("replies")
            {
                texts.push(response.text().to_vec());
            }
        }
        assert_eq!(texts, [&b"PONG"[..], b"abc"]);
        writer.join().expect("no panic");
        link.wait(Readiness::Readable, soon()).expect("the rest, or the end");
        while link.receive().is_ok() {}
        assert_eq!(link.received(), b"rest");
        link.consume(4);
        assert!(link.received().is_empty());
    }

    #[test]
    fn a_poll_tells_when_the_connection_stands() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut poll = Poll::new().expect("descriptors are left");
        let mut link = Link::connect(listener.local_addr().expect("bound"), None).expect("a socket");
        poll.registry().register(link.stream_mut(), Source::Link(3)).expect("not registered yet");
        while !link.finish_connecting().expect("somebody listens") {
            poll.wait(Some(Duration::from_secs(2))).expect("a wait");
            assert!(poll.ready().any(|ready| ready.source == Source::Link(3) && ready.writable));
        }
    }

    #[test]
    fn who_does_not_listen_is_found_out_and_who_is_silent_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let link = connected(&listener);
        let late = link.wait(Readiness::Readable, Instant::now() + Duration::from_millis(20));
        assert_eq!(late.expect_err("nobody answers").kind(), ErrorKind::TimedOut);
        let gone = listener.local_addr().expect("bound");
        drop(listener);
        let mut link = Link::connect(gone, None).expect("a socket");
        link.wait(Readiness::Writable, soon()).expect("decided");
        assert!(link.finish_connecting().is_err());
    }
}
