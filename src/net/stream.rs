//! A connected socket, TCP or Unix: non-blocking, closed on drop and on `exec`.
//!
//! Sending to a connection the peer has closed is an error, never a signal.
#![allow(unsafe_code)]

use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

/// The kernel refuses more parts than this in one call.
const MAX_PARTS: usize = 1024;

/// One end of a connection.
#[derive(Debug)]
pub struct Stream {
    fd: OwnedFd,
    /// Kept because the kernel forgets it when the connection breaks.
    peer: Peer,
}

#[derive(Clone, Copy, Debug)]
enum Peer {
    Tcp(SocketAddr),
    /// The peer has no address of its own; the address is that of the listener.
    Unix,
}

impl Stream {
    /// Takes ownership of a connected socket whose peer is at `peer`. The socket must be non-blocking.
    pub(super) fn new(fd: OwnedFd, peer: &SockAddr) -> Stream {
        Stream { fd, peer: peer.as_socket().map_or(Peer::Unix, Peer::Tcp) }
    }

    /// Takes ownership of a connected Unix socket. The socket must be non-blocking.
    pub fn from_unix(socket: std::os::unix::net::UnixStream) -> Stream {
        Stream { fd: socket.into(), peer: Peer::Unix }
    }

    /// Starts connecting to `peer`, from the local address `source` if given. The stream becomes writable when the
    /// attempt has ended, and [`Stream::take_error`] then returns its result. The kernel gives up after seconds to
    /// minutes if nobody answers.
    ///
    /// # Errors
    /// What the system reports at once: no route, no such local address, no descriptor left.
    pub fn connect(peer: SocketAddr, source: Option<IpAddr>) -> io::Result<Stream> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(peer), kind, Some(Protocol::TCP))?;
        if let Some(source) = source {
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        match socket.connect(&peer.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        Ok(Stream { fd: socket.into(), peer: Peer::Tcp(peer) })
    }

    /// Takes the pending error of the socket.
    ///
    /// # Errors
    /// The error that broke the connection or ended the attempt to connect. It is reported once.
    pub fn take_error(&self) -> io::Result<()> {
        SockRef::from(&self.fd).take_error()?.map_or(Ok(()), Err)
    }

    /// Whether the peer has accepted the connection.
    pub fn is_connected(&self) -> bool {
        SockRef::from(&self.fd).peer_addr().is_ok()
    }

    /// Disables waiting for more data before small replies are sent. Does nothing for Unix sockets.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn set_nodelay(&self) -> io::Result<()> {
        match self.peer {
            Peer::Tcp(_) => SockRef::from(&self.fd).set_tcp_nodelay(true),
            Peer::Unix => Ok(()),
        }
    }

    /// Has the kernel gather small packets, at the price of up to 40 ms. Does nothing for Unix sockets.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn set_delay(&self) -> io::Result<()> {
        match self.peer {
            Peer::Tcp(_) => SockRef::from(&self.fd).set_tcp_nodelay(false),
            Peer::Unix => Ok(()),
        }
    }

    /// Probes a silent peer after `interval_s` seconds, then three times at a third of that interval, before the
    /// connection counts as broken. Zero leaves probing off. Does nothing for Unix sockets.
    ///
    /// # Errors
    /// The connection is gone, or the system refuses the interval.
    pub fn set_keepalive(&self, interval_s: u32) -> io::Result<()> {
        if interval_s == 0 || self.is_unix() {
            return Ok(());
        }
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(interval_s.into()))
            .with_interval(Duration::from_secs((interval_s / 3).max(1).into()))
            .with_retries(3);
        SockRef::from(&self.fd).set_tcp_keepalive(&keepalive)
    }

    /// Waits until the socket can be read, or written to if `writable`; false when `timeout` has passed (`None`: there is
    /// none).
    ///
    /// # Errors
    /// Those of the system.
    pub fn wait(&self, writable: bool, timeout: Option<Duration>) -> io::Result<bool> {
        let events = if writable { libc::POLLOUT } else { libc::POLLIN };
        let mut waits = libc::pollfd { fd: self.as_raw_fd(), events, revents: 0 };
        let ms = timeout.map_or(-1, |timeout| i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
        loop {
            // SAFETY: `waits` is one valid record, which may be written to.
            match unsafe { libc::poll(&raw mut waits, 1, ms) } {
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                -1 => return Err(io::Error::last_os_error()),
                n => return Ok(n > 0),
            }
        }
    }

    /// Receives into `buffer` and returns the number of bytes; that many bytes at its start are initialised. Zero is
    /// the end of the stream (or an empty buffer). One system call.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has arrived; otherwise what broke the connection.
    pub fn recv(&self, buffer: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        self.repeat(|fd| {
            // SAFETY: the kernel writes at most `len` bytes to a live, exclusively borrowed slice.
            unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) }
        })
    }

    /// Appends up to `room` bytes to `out` and returns their number. Zero is the end of the stream. One system call.
    ///
    /// # Errors
    /// As for [`Stream::recv`].
    pub fn recv_into(&self, out: &mut Vec<u8>, room: usize) -> io::Result<usize> {
        out.reserve(room);
        let received = self.recv(&mut out.spare_capacity_mut()[..room])?;
        // SAFETY: `recv` has initialised that many bytes at the start of the spare capacity.
        unsafe { out.set_len(out.len() + received) };
        Ok(received)
    }

    /// Sends a prefix of `bytes` and returns its length. One system call.
    ///
    /// # Errors
    /// `WouldBlock` if the socket is full; otherwise what broke the connection.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.repeat(|fd| {
            // SAFETY: the kernel reads at most `len` bytes of a live slice.
            unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) }
        })
    }

    /// Sends a prefix of the concatenated `parts` and returns its length. Parts beyond the first 1024 are left for
    /// another call. One system call.
    ///
    /// # Errors
    /// As for [`Stream::send`].
    pub fn send_vectored(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        // SAFETY: all zero is a valid `msghdr`: no name, no parts, no control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = parts.as_ptr().cast_mut().cast();
        message.msg_iovlen = parts.len().min(MAX_PARTS) as _;
        self.repeat(|fd| {
            // SAFETY: `IoSlice` has the layout of `iovec`, as its documentation promises; `sendmsg` only reads
            // the parts, all live.
            unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) }
        })
    }

    /// The result of a system call that moves bytes, repeated if a signal interrupts it.
    #[inline]
    fn repeat(&self, mut call: impl FnMut(RawFd) -> isize) -> io::Result<usize> {
        loop {
            if let Ok(n) = usize::try_from(call(self.fd.as_raw_fd())) {
                return Ok(n);
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Closes one or both directions, so that the peer reads the end of the stream.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        SockRef::from(&self.fd).shutdown(how)
    }

    /// Whether this is a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.peer, Peer::Unix)
    }

    /// Whether the peer has connected by TCP from this machine, through a loopback address.
    pub fn is_loopback(&self) -> bool {
        matches!(self.peer, Peer::Tcp(peer) if peer.ip().is_loopback())
    }

    /// The peer's IP address; `None` for Unix sockets.
    pub fn peer_ip(&self) -> Option<IpAddr> {
        match self.peer {
            Peer::Tcp(peer) => Some(peer.ip()),
            Peer::Unix => None,
        }
    }

    /// The local IP address; `None` for Unix sockets, and when the connection is gone. One system call.
    pub fn local_ip(&self) -> Option<IpAddr> {
        Some(SockRef::from(&self.fd).local_addr().ok()?.as_socket()?.ip())
    }

    /// The peer's address: `127.0.0.1:1234`, `[::1]:1234`, or `/tmp/x.sock:0` with the path that the peer connected
    /// to.
    pub fn peer_addr(&self) -> String {
        match self.peer {
            Peer::Tcp(peer) => Endpoint(peer).to_string(),
            Peer::Unix => self.local_addr(),
        }
    }

    /// The local address, in the form of [`Stream::peer_addr`]; `?:0` when the connection is gone. One system call.
    pub fn local_addr(&self) -> String {
        let Ok(address) = SockRef::from(&self.fd).local_addr() else { return "?:0".to_owned() };
        match address.as_socket() {
            Some(address) => Endpoint(address).to_string(),
            None => format!("{}:0", address.as_pathname().unwrap_or("".as_ref()).display()),
        }
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.fd.as_raw_fd()).deregister(registry)
    }
}

/// Displays address and port. An IPv6 address is in brackets and without its scope.
struct Endpoint(SocketAddr);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.ip() {
            IpAddr::V4(ip) => write!(f, "{ip}:{}", self.0.port()),
            IpAddr::V6(ip) => write!(f, "[{ip}]:{}", self.0.port()),
        }
    }
}
