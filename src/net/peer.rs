//! Who is at the other end of a connection: somebody behind a socket, or nobody.

use std::os::fd::{AsRawFd as _, RawFd};

use super::stream::Stream;

/// The other end of a connection.
pub enum Peer {
    /// Somebody who is connected.
    Socket(Stream),
    /// Nobody: nothing is received from there or sent there.
    Internal,
}

impl Peer {
    /// The socket, if there is one.
    #[inline]
    pub fn stream(&self) -> Option<&Stream> {
        match self {
            Peer::Socket(stream) => Some(stream),
            Peer::Internal => None,
        }
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

fn nowhere() -> String {
    "?:0".to_owned()
}
