//! Listening sockets, on TCP addresses and on a Unix path, and accepting connections.
#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mio::event::Source;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::error_text;
use super::stream::Stream;

/// Connections accepted per call, so that a flood of new clients does not starve the existing ones.
pub const MAX_ACCEPTS_PER_CALL: usize = 1000;

/// Listening failed. The text is the line to log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenError {
    /// A required address is not available; the log says which one.
    #[error("Failed listening on port {port} (TCP), aborting.")]
    Tcp {
        /// The port.
        port: u16,
    },
    /// As [`ListenError::Tcp`], for a port for TLS.
    #[error("Failed listening on port {port} (TLS), aborting.")]
    Tls {
        /// The port.
        port: u16,
    },
    /// The Unix socket cannot be created.
    #[error("Failed opening Unix socket: {reason}")]
    Unix {
        /// The step that failed, and the system's error text.
        reason: String,
    },
}

/// A failed step of creating a listening socket.
struct Failure {
    step: Option<&'static str>,
    error: io::Error,
}

impl Failure {
    fn at(step: &'static str) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure { step: Some(step), error }
    }

    fn text(&self) -> String {
        match self.step {
            Some(step) => format!("{step}: {}", error_text(&self.error)),
            None => error_text(&self.error),
        }
    }

    /// Whether the machine lacks the protocol. Such an address is skipped, even if it is not marked optional.
    fn is_unsupported(&self) -> bool {
        const UNSUPPORTED: [i32; 5] = [
            libc::EAFNOSUPPORT,
            libc::EPFNOSUPPORT,
            libc::EPROTONOSUPPORT,
            libc::ESOCKTNOSUPPORT,
            libc::ENOPROTOOPT,
        ];
        self.error.raw_os_error().is_some_and(|code| UNSUPPORTED.contains(&code))
    }

    fn is_unavailable(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrNotAvailable
    }
}

/// What is left in the queue of a listener after [`Listener::accept`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Nothing. The poll reports the next connection.
    Empty,
    /// Possibly more connections: call again, or let the poll report again (`Registry::rearm_readable`).
    Unknown,
}

/// A listening socket: non-blocking, closed on drop and on `exec`.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Whether those who connect are to speak TLS.
    secure: bool,
}

/// Listens on `port` at each of `addresses`: an IPv4 or IPv6 address or a host name, `*` for all of IPv4, `::*` for
/// all of IPv6. An address with a leading `-` is optional. Logs a warning for each address that fails. The result is
/// empty if none of the addresses exists on this machine. Port 0 lets the system choose a port, separately for each
/// address.
///
/// # Errors
/// A required address is not available. No listener is left open then.
pub fn listen_tcp(
    addresses: &[impl AsRef<str>],
    port: u16,
    backlog: u32,
) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        let (address, optional) = match address.as_ref().strip_prefix('-') {
            Some(address) => (address, true),
            None => (address.as_ref(), false),
        };
        match bind_tcp(address, port, backlog) {
            Ok(socket) => listeners.push(Listener { socket, secure: false }),
            Err(failure) => {
                tracing::warn!(
                    "Warning: Could not create server TCP listening socket {address}:{port}: {}",
                    failure.text()
                );
                if !(failure.is_unsupported() || optional && failure.is_unavailable()) {
                    return Err(ListenError::Tcp { port });
                }
            }
        }
    }
    Ok(listeners)
}

fn bind_tcp(address: &str, port: u16, backlog: u32) -> Result<Socket, Failure> {
    let address = resolve(address, port).map_err(|error| Failure { step: None, error })?;
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
        .map_err(Failure::at("socket"))?;
    if address.is_ipv6() {
        // A listener for all of IPv6 must leave IPv4 to another listener.
        socket.set_only_v6(true).map_err(Failure::at("setsockopt"))?;
    }
    // Allows a restarted server to listen while connections of its predecessor are still closing.
    socket.set_reuse_address(true).map_err(Failure::at("setsockopt SO_REUSEADDR"))?;
    socket.bind(&address.into()).map_err(Failure::at("bind"))?;
    listen(&socket, backlog)?;
    Ok(socket)
}

fn listen(socket: &Socket, backlog: u32) -> Result<(), Failure> {
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(Failure::at("listen"))
}

/// The first address of a host in the family that its name implies: IPv6 if the name contains a colon.
fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    match host {
        "*" => return Ok((Ipv4Addr::UNSPECIFIED, port).into()),
        "::*" => return Ok((Ipv6Addr::UNSPECIFIED, port).into()),
        _ => {}
    }
    let ipv6 = host.contains(':');
    (host, port)
        .to_socket_addrs()?
        .find(|address| address.is_ipv6() == ipv6)
        .ok_or_else(|| io::Error::other("Address family for hostname not supported"))
}

/// Listens on the Unix socket `path`, replacing a file left there. `permissions`, such as `0o700`, are those of the
/// file; zero leaves them to the umask.
///
/// # Errors
/// The path is too long, its directory is missing or not writable, or no descriptor is left.
pub fn listen_unix(path: &Path, permissions: u32, backlog: u32) -> Result<Listener, ListenError> {
    match bind_unix(path, permissions, backlog) {
        Ok(socket) => Ok(Listener { socket, secure: false }),
        Err(failure) => Err(ListenError::Unix { reason: failure.text() }),
    }
}

fn bind_unix(path: &Path, permissions: u32, backlog: u32) -> Result<Socket, Failure> {
    // Removes the file of an earlier server. If that fails, `bind` reports why.
    let _ = fs::remove_file(path);
    let address = SockAddr::unix(path).map_err(Failure::at("bind"))?;
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::UNIX, kind, None).map_err(Failure::at("socket"))?;
    socket.bind(&address).map_err(Failure::at("bind"))?;
    // Set before `listen`, so that nobody can connect with the wrong permissions.
    if permissions != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(permissions)).map_err(Failure::at("chmod"))?;
    }
    listen(&socket, backlog)?;
    Ok(socket)
}

/// Warns if the system limits the queue of connections not yet accepted to less than `backlog`.
pub fn warn_if_backlog_is_cut(backlog: u32) {
    const FILE: &str = "/proc/sys/net/core/somaxconn";
    let Some(limit) = fs::read_to_string(FILE).ok().and_then(|text| text.trim().parse::<u32>().ok()) else {
        return;
    };
    if limit > 0 && limit < backlog {
        tracing::warn!(
            "WARNING: The TCP backlog setting of {backlog} cannot be enforced because {FILE} is set to the lower \
             value of {limit}."
        );
    }
}

impl Listener {
    /// Accepts waiting connections, at most [`MAX_ACCEPTS_PER_CALL`], and passes each to `take`: non-blocking, closed
    /// on `exec`.
    ///
    /// # Errors
    /// No file descriptor or memory is left: to be logged as `Accepting client connection: …`. Connections may still
    /// be waiting, and the poll does not report them again unless rearmed.
    pub fn accept(&self, mut take: impl FnMut(Stream)) -> io::Result<Queue> {
        for _ in 0..MAX_ACCEPTS_PER_CALL {
            match self.accept_one() {
                Ok(stream) => take(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Queue::Empty),
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Queue::Unknown)
    }

    fn accept_one(&self) -> io::Result<Stream> {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: the kernel writes an address of at most `len` bytes to the storage and its length to `len`; a
        // descriptor returned is open and nobody else's.
        let (fd, peer) = unsafe {
            SockAddr::try_init(|storage, len| {
                match libc::accept4(self.socket.as_raw_fd(), storage.cast(), len, flags) {
                    -1 => Err(io::Error::last_os_error()),
                    fd => Ok(OwnedFd::from_raw_fd(fd)),
                }
            })?
        };
        Ok(Stream::new(fd, &peer))
    }

    /// Has those who connect speak TLS.
    pub fn secure(mut self) -> Listener {
        self.secure = true;
        self
    }

    /// In a child process: leaves the socket to the parent, which must be able to come back on the same port. The
    /// descriptor stays valid, but is not this socket's any more.
    ///
    /// # Errors
    /// Those of `open` and `dup2`.
    pub fn leave_to_parent(&self) -> io::Result<()> {
        let nothing = std::fs::File::open("/dev/null")?;
        // SAFETY: both descriptors are open; the second goes on to be owned by the socket.
        match unsafe { libc::dup2(nothing.as_raw_fd(), self.socket.as_raw_fd()) } {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Whether those who connect are to speak TLS.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Port of a TCP listener, as chosen by the system if port 0 was requested.
    pub fn port(&self) -> Option<u16> {
        self.socket.local_addr().ok()?.as_socket().map(|address| address.port())
    }
}

/// Whether only the connection being accepted failed, so that the others are not affected.
fn concerns_one_connection(error: &io::Error) -> bool {
    // Linux reports errors that are already pending on the new connection.
    const NETWORK: [i32; 8] = [
        libc::ENETDOWN,
        libc::EPROTO,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::EOPNOTSUPP,
        libc::ENETUNREACH,
    ];
    matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted)
        || error.raw_os_error().is_some_and(|code| NETWORK.contains(&code))
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Source for Listener {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.socket.as_raw_fd()).deregister(registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::poll::{Poll, Ready, Source};
    use std::io::{IoSlice, Read, Write};
    use std::mem::MaybeUninit;
    use std::net::{Shutdown, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::time::Duration;

    const LISTENER: Source = Source::Listener(7);
    const STREAM: Source = Source::Client(7);

    /// A poll that watches `listener`.
    fn watch(listener: &mut Listener) -> Poll {
        let poll = Poll::new().expect("descriptors are left");
        poll.registry().register_readable(listener, LISTENER).expect("not registered yet");
        poll
    }

    /// Waits for an event of `source`.
    fn wait(poll: &mut Poll, source: Source) -> Ready {
        loop {
            poll.wait(Some(Duration::from_secs(20))).expect("a wait");
            assert!(poll.ready().count() > 0, "nothing of {source:?} for 20 seconds");
            if let Some(ready) = poll.ready().find(|ready| ready.source == source) {
                return ready;
            }
        }
    }

    fn accept(listener: &Listener) -> Vec<Stream> {
        let mut streams = Vec::new();
        let rest = listener.accept(|stream| streams.push(stream)).expect("descriptors are left");
        assert_eq!(rest, Queue::Empty);
        streams
    }

    fn recv(stream: &Stream) -> io::Result<Vec<u8>> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let n = stream.recv(&mut buffer)?;
        // SAFETY: `recv` has initialised that many bytes.
        Ok(buffer[..n].iter().map(|byte| unsafe { byte.assume_init() }).collect())
    }

    /// Connects `client` to `listener` and exchanges data until the end of the stream.
    fn converse(listener: &mut Listener, connect: impl FnOnce() -> Box<dyn Client>) -> Stream {
        let mut poll = watch(listener);
        let mut client = connect();
        assert!(wait(&mut poll, LISTENER).readable);
        let mut stream = accept(listener).pop().expect("a connection waited");
        poll.registry().register(&mut stream, STREAM).expect("not registered yet");
        let ready = wait(&mut poll, STREAM);
        assert!(ready.writable && !ready.closed);
        assert_eq!(recv(&stream).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));

        client.write_all(b"PING\r\n").expect("connected");
        assert!(wait(&mut poll, STREAM).readable);
        assert_eq!(recv(&stream).expect("connected"), b"PING\r\n");

        assert_eq!(stream.send(b"+PO").expect("room for three bytes"), 3);
        let parts = [IoSlice::new(b"N"), IoSlice::new(b""), IoSlice::new(b"G\r\n")];
        assert_eq!(stream.send_vectored(&parts).expect("room for four bytes"), 4);
        let mut reply = [0; 7];
        client.read_exact(&mut reply).expect("connected");
        assert_eq!(&reply, b"+PONG\r\n");

        // More parts than one call accepts.
        let many = vec![IoSlice::new(b"x"); 1500];
        assert_eq!(stream.send_vectored(&many).expect("room"), 1024);
        stream.shutdown(Shutdown::Write).expect("connected");
        let mut rest = String::new();
        client.read_to_string(&mut rest).expect("connected");
        assert_eq!(rest.len(), 1024);

        client.write_all(b"QUIT").expect("connected");
        drop(client);
        loop {
            let ready = wait(&mut poll, STREAM);
            if ready.closed {
                break;
            }
        }
        assert_eq!(recv(&stream).expect("bytes before the end"), b"QUIT");
        assert_eq!(recv(&stream).expect("the end"), b"");
        // No signal ends the process.
        assert_eq!(stream.send(b"x").map_err(|error| error.kind()), Err(io::ErrorKind::BrokenPipe));
        stream
    }

    trait Client: Read + Write {}
    impl<T: Read + Write> Client for T {}

    #[test]
    fn tcp_over_ipv4() {
        let mut listeners = listen_tcp(&["127.0.0.1"], 0, 511).expect("a free port");
        let port = listeners[0].port().expect("TCP");
        let mut name = String::new();
        let stream = converse(&mut listeners[0], || {
            let client = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
            name = client.local_addr().expect("connected").to_string();
            Box::new(client)
        });
        assert_eq!(stream.peer_addr(), name);
        assert_eq!(stream.local_addr(), format!("127.0.0.1:{port}"));
        assert!(stream.is_loopback() && !stream.is_unix());
        stream.set_nodelay().and_then(|()| stream.set_keepalive(300)).expect("connected");
        let socket = socket2::SockRef::from(&stream);
        assert!(socket.tcp_nodelay().expect("an option") && socket.keepalive().expect("an option"));
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), Duration::from_secs(300));
        assert_eq!(socket.tcp_keepalive_interval().expect("an option"), Duration::from_secs(100));
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), 3);
    }

    #[test]
    fn tcp_over_ipv6() {
        let mut listeners = listen_tcp(&["-::1"], 0, 511).expect("optional");
        let Some(listener) = listeners.first_mut() else { return };
        let port = listener.port().expect("TCP");
        let stream =
            converse(listener, || Box::new(TcpStream::connect(("::1", port)).expect("somebody listens")));
        assert_eq!(stream.local_addr(), format!("[::1]:{port}"));
        assert!(stream.peer_addr().starts_with("[::1]:") && stream.is_loopback());
    }

    fn temporary(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("spinel-{}-{name}", std::process::id()))
    }

    #[test]
    fn unix() {
        let path = temporary("unix.sock");
        // Twice: the second replaces the file of the first.
        drop(listen_unix(&path, 0, 511).expect("a new file"));
        let mut listener = listen_unix(&path, 0o700, 511).expect("the old file gives way");
        let mode = fs::metadata(&path).expect("it exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(listener.port(), None);
        let stream =
            converse(&mut listener, || Box::new(UnixStream::connect(&path).expect("somebody listens")));
        assert_eq!(stream.peer_addr(), format!("{}:0", path.display()));
        assert_eq!(stream.local_addr(), format!("{}:0", path.display()));
        assert!(stream.is_unix() && !stream.is_loopback() && stream.peer_ip().is_none());
        fs::remove_file(&path).expect("ours");
    }

    #[test]
    fn unix_errors() {
        let error = listen_unix(Path::new("/nonexistent/x.sock"), 0, 511).expect_err("no directory");
        assert_eq!(error.to_string(), "Failed opening Unix socket: bind: No such file or directory");
        assert!(listen_unix(Path::new(&"x".repeat(200)), 0, 511).is_err());
    }

    #[test]
    fn several_addresses() {
        // 192.0.2.0/24 is reserved for documentation, so no machine has it.
        let listeners = listen_tcp(&["127.0.0.1", "-192.0.2.1", "127.0.0.2", "localhost"], 0, 511);
        let listeners = listeners.expect("free ports");
        assert_eq!(listeners.len(), 3);
        let port = listeners[0].port().expect("TCP");
        // A port in use, a missing address, an invalid address.
        for addresses in
            [["-127.0.0.2", "127.0.0.1"], ["127.0.0.2", "192.0.2.1"], ["127.0.0.2", "no.such.invalid"]]
        {
            let error = listen_tcp(&addresses, port, 511).expect_err("not available");
            assert_eq!(error.to_string(), format!("Failed listening on port {port} (TCP), aborting."));
        }
        assert!(listen_tcp(&["-192.0.2.1"], port, 511).expect("optional").is_empty());
    }

    #[test]
    fn all_of_both_families_share_a_port() {
        // The port may be in use on IPv4; then another one is tried.
        let pair = (0..10).find_map(|_| {
            let first = listen_tcp(&["-::*"], 0, 511).expect("optional").pop()?;
            let second = listen_tcp(&["*"], first.port()?, 511).ok()?.pop()?;
            Some((first, second))
        });
        let Some((first, second)) = pair else {
            assert!(listen_tcp(&["-::*"], 0, 511).expect("optional").is_empty(), "IPv4 is never left alone");
            return;
        };
        let port = first.port().expect("TCP");
        TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
        assert_eq!(accept(&second).len(), 1);
        assert!(accept(&first).is_empty());
    }

    #[test]
    fn failures_in_the_system_s_words() {
        let texts = ["127.0.0.1", "192.0.2.1"].map(|address| {
            let taken = listen_tcp(&["127.0.0.1"], 0, 1).expect("a free port");
            let failure = bind_tcp(address, taken[0].port().expect("TCP"), 1).expect_err("not available");
            failure.text()
        });
        assert_eq!(texts, ["bind: Address already in use", "bind: Cannot assign requested address"]);
    }

    #[test]
    fn connecting_to_somebody_and_nobody() {
        let mut listeners = listen_tcp(&["127.0.0.1"], 0, 511).expect("a free port");
        let port = listeners[0].port().expect("TCP");
        let mut poll = watch(&mut listeners[0]);
        let source = Some(Ipv4Addr::new(127, 0, 0, 3).into());
        let mut stream = Stream::connect((Ipv4Addr::LOCALHOST, port).into(), source).expect("a start");
        poll.registry().register(&mut stream, STREAM).expect("not registered yet");
        while !wait(&mut poll, STREAM).writable {}
        stream.take_error().expect("connected");
        let served = accept(&listeners[0]).pop().expect("a connection waited");
        assert!(served.peer_addr().starts_with("127.0.0.3:"));
        assert_eq!(served.peer_addr(), stream.local_addr());

        drop(listeners);
        let refused = Stream::connect((Ipv4Addr::LOCALHOST, port).into(), None).and_then(|mut stream| {
            poll.registry().register(&mut stream, Source::Client(9))?;
            while !wait(&mut poll, Source::Client(9)).writable {}
            stream.take_error()
        });
        assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionRefused));
    }

    #[test]
    fn a_listener_left_early_is_told_again() {
        let mut listeners = listen_tcp(&["127.0.0.1"], 0, 511).expect("a free port");
        let mut poll = watch(&mut listeners[0]);
        let port = listeners[0].port().expect("TCP");
        let _client = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
        wait(&mut poll, LISTENER);
        poll.registry().rearm_readable(&mut listeners[0], LISTENER).expect("registered");
        wait(&mut poll, LISTENER);
        assert_eq!(accept(&listeners[0]).len(), 1);
    }

    /// Descriptors belong to the process, so they run out in a child.
    fn without_descriptors() {
        let listeners = listen_tcp(&["127.0.0.1"], 0, 511).expect("a free port");
        let port = listeners[0].port().expect("TCP");
        let _clients = [(); 3].map(|()| TcpStream::connect(("127.0.0.1", port)).expect("somebody listens"));
        let next = fs::File::open("/dev/null").expect("it exists").as_raw_fd() as libc::rlim_t;
        let limit = |soft| {
            let limit = libc::rlimit { rlim_cur: soft, rlim_max: 1000 };
            // SAFETY: the call reads the struct it is given.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
        };
        limit(next + 1);
        let mut streams = Vec::new();
        let error = listeners[0].accept(|stream| streams.push(stream)).expect_err("one is left");
        assert_eq!((error.raw_os_error(), streams.len()), (Some(libc::EMFILE), 1));
        assert_eq!(error_text(&error), "Too many open files");
        limit(1000);
        assert_eq!(accept(&listeners[0]).len(), 2);
    }

    #[test]
    fn running_out_of_descriptors_is_told() {
        const INNER: &str = "SPINEL_TEST_DESCRIPTORS";
        if std::env::var_os(INNER).is_some() {
            return without_descriptors();
        }
        let out = std::process::Command::new(std::env::current_exe().expect("we run"))
            .args(["--exact", "net::listener::tests::running_out_of_descriptors_is_told", "--nocapture"])
            .env(INNER, "1")
            .output()
            .expect("the test binary starts");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}
