//! Connections that this server opens: to a server that keys are migrated to, to a primary, to another node.
//!
//! A [`Link`] is a non-blocking socket with its output and input, encrypted if it is told to be. It connects in the
//! background: requests can be added at once and are sent when the connection is established. [`resp::response`](crate::resp::response) parses
//! the replies, which are returned as views of the received bytes. Anything else, such as a snapshot being
//! transferred, is read as bytes.
//!
//! A link that is registered in a [`Poll`](super::poll::Poll) never waits. The few operations that must be atomic for
//! all clients wait in [`Link::wait`], each with a time limit.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Instant;

use super::io::Received;
use super::peer::Peer;
use super::stream::Stream;
use super::tls::{Acceptor, Connector, Handshake, HandshakeError, Step};
use crate::resp::request::{write_bulk, write_header, write_request};
use crate::resp::response::{Decoder, Malformed, Response};

/// Bytes of space offered to one receive.
const READ: usize = 16 << 10;
/// An empty buffer with a larger capacity than this is shrunk.
const KEPT: usize = 64 << 10;

/// Why a link has a socket.
const CONNECTED: &str = "a link is to somebody";

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// Bytes to read, or the end of the stream.
    Readable,
    /// Space for bytes to send, or the result of connecting.
    Writable,
}

/// One end of a connection that this server opened.
#[derive(Debug)]
pub struct Link {
    peer: Peer,
    connected: bool,
    /// What is to be agreed on, or is being agreed on, before the connection counts as established.
    handshake: Option<Box<Handshake>>,
    /// What the handshake waits for.
    step: Step,
    output: Vec<u8>,
    /// Number of bytes of `output` already sent.
    sent: usize,
    input: Vec<u8>,
    /// Number of bytes of `input` already consumed.
    used: usize,
    decoder: Decoder,
}

impl Link {
    /// Starts connecting to `peer`, from the local address `source` if given.
    ///
    /// # Errors
    /// What the system reports at once: no route, no such local address, no descriptor left.
    pub fn connect(peer: SocketAddr, source: Option<IpAddr>) -> io::Result<Link> {
        let stream = Stream::connect(peer, source)?;
        Ok(Link {
            peer: Peer::Socket(stream),
            connected: false,
            handshake: None,
            step: Step::Writable,
            output: Vec::new(),
            sent: 0,
            input: Vec::new(),
            used: 0,
            decoder: Decoder::default(),
        })
    }

    /// A connection that was accepted, encrypted if there is an `acceptor`. It is established when
    /// [`Link::finish_connecting`] says so.
    pub fn accepted(stream: Stream, acceptor: Option<&Acceptor>) -> Link {
        Link {
            peer: Peer::Socket(stream),
            handshake: acceptor.map(|acceptor| Box::new(acceptor.handshake())),
            step: Step::Readable,
            connected: false,
            output: Vec::new(),
            sent: 0,
            input: Vec::new(),
            used: 0,
            decoder: Decoder::default(),
        }
    }

    /// Bytes allocated for input and output.
    pub fn allocated(&self) -> usize {
        self.input.capacity() + self.output.capacity()
    }

    /// Bytes allocated for output.
    pub fn allocated_output(&self) -> usize {
        self.output.capacity()
    }

    /// Has everything encrypted that is sent. To be called before [`Link::finish_connecting`].
    pub fn encrypt(&mut self, connector: &Connector) {
        assert!(!self.connected, "nothing has been sent yet");
        self.handshake = Some(Box::new(connector.handshake()));
    }

    /// The socket, mutable, to register it.
    pub fn stream_mut(&mut self) -> &mut Stream {
        self.peer.stream_mut().expect(CONNECTED)
    }

    /// The socket.
    pub fn stream(&self) -> &Stream {
        self.peer.stream().expect(CONNECTED)
    }

    /// Whether the connection is established, and what is to be agreed on is agreed on. To be called whenever the socket
    /// is readable or writable until then.
    ///
    /// # Errors
    /// Why connecting failed.
    pub fn finish_connecting(&mut self) -> io::Result<bool> {
        if self.connected {
            return Ok(true);
        }
        let stream = self.stream();
        stream.take_error()?;
        if !stream.is_connected() {
            return Ok(false);
        }
        if let Some(handshake) = &mut self.handshake {
            let stream = self.peer.stream().expect(CONNECTED);
            self.step = handshake.advance(stream).map_err(tls_error)?;
            if self.step != Step::Done {
                return Ok(false);
            }
        }
        // A failure only costs speed.
        let _ = self.stream().set_nodelay();
        if let Some(handshake) = self.handshake.take()
            && let Peer::Socket(stream) = std::mem::replace(&mut self.peer, Peer::Internal)
        {
            self.peer = Peer::Secure(Box::new(handshake.finish(stream).map_err(tls_error)?));
        }
        self.connected = true;
        Ok(true)
    }

    /// What is to be waited for until the connection is established.
    pub fn connecting_waits_for(&self) -> Readiness {
        if self.step == Step::Readable { Readiness::Readable } else { Readiness::Writable }
    }

    /// Appends bytes to the output.
    pub fn push(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// The other end, and the bytes that were received and not consumed. What was not sent is lost.
    pub fn into_parts(self) -> (Peer, Vec<u8>) {
        let Link { peer, mut input, used, .. } = self;
        input.drain(..used);
        (peer, input)
    }

    /// Tells the other end that the connection will be closed, where there is a way to tell.
    pub fn say_goodbye(&mut self) {
        self.peer.say_goodbye();
    }

    /// Appends a request to the output.
    pub fn request(&mut self, args: &[&[u8]]) {
        write_request(&mut self.output, args.iter().copied());
    }

    /// Appends a request in three parts: its first arguments, one large argument, and the last arguments. The large
    /// argument is passed to `large` between the two other parts, instead of being copied.
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

    /// Number of bytes still to be sent.
    pub fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Sends as much as the socket accepts. Returns whether nothing is left.
    ///
    /// # Errors
    /// What broke the connection.
    pub fn flush(&mut self) -> io::Result<bool> {
        while self.sent < self.output.len() {
            match self.peer.send(&self.output[self.sent..]) {
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

    /// Frees buffers that are empty.
    pub fn release(&mut self) {
        if self.output.is_empty() {
            self.output = Vec::new();
        }
        if self.used == self.input.len() {
            (self.input, self.used) = (Vec::new(), 0);
        }
    }

    /// Sends a prefix of `bytes` without copying them first, and returns its length; if that is zero, the next call must be
    /// with the same bytes. Only allowed if the output is empty.
    ///
    /// # Errors
    /// What broke the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert_eq!(self.unsent(), 0, "what was added first leaves first");
        match self.peer.send(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Receives up to 16 KB. Returns whether more may be available.
    ///
    /// # Errors
    /// What broke the connection; `UnexpectedEof` if the peer has closed it.
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
        let (n, more) = match self.peer.receive(room)? {
            Received::Closed => return Err(ErrorKind::UnexpectedEof.into()),
            Received::More(n) => (n, true),
            // The end of the stream may have come with these bytes, and no event would tell of it again.
            Received::Drained(n) => (n, n > 0),
            Received::Nothing => (0, false),
        };
        // SAFETY: the peer has written `n` bytes to the front of the spare capacity.
        unsafe { self.input.set_len(len + n) };
        Ok(more)
    }

    /// Returns and consumes the next complete reply, if one has arrived.
    ///
    /// # Errors
    /// The received bytes are not a reply.
    pub fn response(&mut self) -> Result<Option<Response<'_>>, Malformed> {
        let found = self.decoder.next(&self.input[self.used..])?;
        Ok(found.map(|(response, len)| {
            self.used += len;
            response
        }))
    }

    /// Bytes received and not consumed.
    pub fn received(&self) -> &[u8] {
        &self.input[self.used..]
    }

    /// Consumes the first `n` received bytes. Not allowed in the middle of a reply.
    pub fn consume(&mut self, n: usize) {
        assert!(n <= self.received().len(), "only what has arrived is used up");
        self.used += n;
    }

    /// Blocks until the socket is ready, for an operation that must not be interrupted by anything else. What is received
    /// and not decrypted is there to read.
    ///
    /// # Errors
    /// `TimedOut` if it is not ready by `deadline`; otherwise the system's error.
    pub fn wait(&self, readiness: Readiness, deadline: Instant) -> io::Result<()> {
        let events = match readiness {
            Readiness::Readable => libc::POLLIN,
            Readiness::Writable => libc::POLLOUT,
        };
        if readiness == Readiness::Readable && self.peer.holds_plaintext() {
            return Ok(());
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            let left_ms = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
            let mut watched = libc::pollfd { fd: self.stream().as_raw_fd(), events, revents: 0 };
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

fn tls_error(error: HandshakeError) -> io::Error {
    match error {
        HandshakeError::Io(error) => error,
        other => io::Error::new(ErrorKind::InvalidData, other.to_string()),
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
    fn an_end_that_comes_with_the_last_bytes_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut link = connected(&listener);
        let (mut other, _) = listener.accept().expect("somebody connects");
        other.write_all(b"+PONG\r\n").expect("there is room");
        drop(other);
        link.wait(Readiness::Readable, soon()).expect("both have come");
        // Whoever is told once that there is something reads as long as there may be more.
        let mut end = link.receive();
        while let Ok(true) = end {
            end = link.receive();
        }
        assert_eq!(end.expect_err("the other is gone").kind(), ErrorKind::UnexpectedEof);
        assert_eq!(link.received(), b"+PONG\r\n");
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
