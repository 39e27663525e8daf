//! Who is at the other end of a connection: somebody behind a socket, or nobody.

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, RawFd};

use mio::event::Source;
use mio::{Interest, Registry, Token};

use super::io::Received;
use super::stream::Stream;
use super::tls::Secure;

/// The other end of a connection.
#[derive(Debug)]
pub enum Peer {
    /// Somebody who is connected.
    Socket(Stream),
    /// Somebody who is connected, and what is sent is encrypted.
    Secure(Box<Secure>),
    /// Nobody: nothing is received from there or sent there.
    Internal,
}

impl Peer {
    /// The socket, if there is one. What is sent or received there is not encrypted.
    #[inline]
    pub fn stream(&self) -> Option<&Stream> {
        match self {
            Peer::Socket(stream) => Some(stream),
            Peer::Secure(secure) => Some(secure.stream()),
            Peer::Internal => None,
        }
    }

    /// The socket, mutable, to register it.
    pub fn stream_mut(&mut self) -> Option<&mut Stream> {
        match self {
            Peer::Socket(stream) => Some(stream),
            Peer::Secure(secure) => Some(secure.stream_mut()),
            Peer::Internal => None,
        }
    }

    /// Receives once into `room`, which is initialised as far as the result says.
    ///
    /// # Errors
    /// What broke the connection, but never `WouldBlock`.
    #[inline]
    pub fn receive(&mut self, room: &mut [MaybeUninit<u8>]) -> io::Result<Received> {
        match self {
            Peer::Socket(stream) => {
                let offered = room.len();
                Received::of(stream.recv(room), offered)
            }
            Peer::Secure(secure) => secure.receive(room),
            Peer::Internal => Ok(Received::Nothing),
        }
    }

    /// Receives once and appends at most `room` bytes to `out`.
    ///
    /// # Errors
    /// As [`Peer::receive`].
    pub fn receive_into(&mut self, out: &mut Vec<u8>, room: usize) -> io::Result<Received> {
        match self {
            Peer::Socket(stream) => Received::of(stream.recv_into(out, room), room),
            Peer::Secure(secure) => secure.receive_into(out, room),
            Peer::Internal => Ok(Received::Nothing),
        }
    }

    /// Sends a prefix of `bytes` and returns its length.
    ///
    /// # Errors
    /// `WouldBlock` if the socket is full: the next call must be with the same bytes, or more of them. Otherwise what broke
    /// the connection.
    #[inline]
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Peer::Socket(stream) => stream.send(bytes),
            Peer::Secure(secure) => {
                let sent = secure.send_bytes(bytes);
                // Links keep no buffers.
                drop(secure.reclaim());
                sent
            }
            Peer::Internal => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Whether a receive would return something although the socket is empty, so that no event tells of it.
    #[inline]
    pub fn holds_plaintext(&self) -> bool {
        match self {
            Peer::Secure(secure) => secure.holds_plaintext(),
            Peer::Socket(_) | Peer::Internal => false,
        }
    }

    /// Bytes allocated for the connection, besides the value itself.
    pub fn allocated(&self) -> usize {
        match self {
            Peer::Secure(secure) => size_of::<Secure>() + secure.allocated(),
            Peer::Socket(_) | Peer::Internal => 0,
        }
    }

    /// Tells the other end that the connection will be closed, where there is a way to tell.
    pub fn say_goodbye(&mut self) {
        if let Peer::Secure(secure) = self {
            secure.say_goodbye();
        }
    }

    /// Whether what is sent is encrypted.
    pub fn is_secure(&self) -> bool {
        matches!(self, Peer::Secure(_))
    }

    /// Whether it is connected by a Unix socket.
    pub fn is_unix(&self) -> bool {
        self.stream().is_some_and(Stream::is_unix)
    }

    /// Whether it is on this machine: connected by a Unix socket or through a loopback address.
    pub fn is_local(&self) -> bool {
        self.stream().is_some_and(|stream| stream.is_unix() || stream.is_loopback())
    }

    /// Its address, as [`Stream::peer_addr`]; `?:0` if there is none.
    pub fn addr(&self) -> String {
        self.stream().map_or_else(nowhere, Stream::peer_addr)
    }

    /// Our own address, as [`Stream::local_addr`]; `?:0` if there is none. One system call.
    pub fn local_addr(&self) -> String {
        self.stream().map_or_else(nowhere, Stream::local_addr)
    }

    /// The number of the socket; -1 if there is none.
    pub fn raw_fd(&self) -> RawFd {
        self.stream().map_or(-1, |stream| stream.as_raw_fd())
    }
}

/// Watched as its socket is.
impl Source for Peer {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.stream_mut().ok_or(ErrorKind::NotConnected)?.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.stream_mut().ok_or(ErrorKind::NotConnected)?.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.stream_mut().ok_or(ErrorKind::NotConnected)?.deregister(registry)
    }
}

impl From<Stream> for Peer {
    fn from(stream: Stream) -> Peer {
        Peer::Socket(stream)
    }
}

fn nowhere() -> String {
    "?:0".to_owned()
}
