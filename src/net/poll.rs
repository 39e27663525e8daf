//! Waiting for sockets to become ready: a thin layer over `mio` (epoll, edge-triggered) with these conventions:
//!
//! - A stream is registered once, for reading and writing, and not modified afterwards: a turn of an idle event loop
//!   costs one system call, however many sockets there are.
//! - Readiness is reported when it *changes*. A reader that got fewer bytes than it asked for has emptied the socket
//!   and will be notified of the next bytes; a reader that stops earlier must remember to continue by itself. The
//!   same holds for writing and accepting.
//! - The end of the stream may arrive together with the last bytes and is reported once: [`Ready::closed`] asks for
//!   reading up to the end even after a short read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::Interest;
use mio::event::Source as Watched;

/// What is watched, as its events name it. Whoever registers it numbers its own places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A client's connection.
    Client(usize),
    /// A socket that listens.
    Listener(usize),
    /// A connection that we opened.
    Link(usize),
    /// The pipe by which a child sends a snapshot.
    Pipe,
    /// A connection of a Sentinel to an instance.
    Sentinel(usize),
    /// A connection of the cluster bus.
    Bus(usize),
    /// A connection to a node that gets slots.
    Export(usize),
    /// A socket that listens on the cluster bus.
    BusListener(usize),
    /// A connection that is not a client's yet: its encryption is being agreed on.
    Arrival(usize),
}

/// The low bits of a token tell the kind of source; the place stands above them.
const KIND_BITS: u32 = 4;

/// Its low bits are of no source's kind.
const WAKER: mio::Token = mio::Token(usize::MAX);

impl Source {
    #[inline]
    fn token(self) -> mio::Token {
        let (kind, place) = match self {
            Source::Client(place) => (0, place),
            Source::Listener(place) => (1, place),
            Source::Link(place) => (2, place),
            Source::Pipe => (3, 0),
            Source::Sentinel(place) => (8, place),
            Source::Bus(place) => (4, place),
            Source::Export(place) => (7, place),
            Source::BusListener(place) => (5, place),
            Source::Arrival(place) => (6, place),
        };
        assert!(place <= usize::MAX >> KIND_BITS, "there are not so many places");
        mio::Token(place << KIND_BITS | kind)
    }

    /// The source behind a token; `None` for the waker.
    #[inline]
    fn of_token(token: mio::Token) -> Option<Source> {
        let place = token.0 >> KIND_BITS;
        match token.0 & ((1 << KIND_BITS) - 1) {
            0 => Some(Source::Client(place)),
            1 => Some(Source::Listener(place)),
            2 => Some(Source::Link(place)),
            3 => Some(Source::Pipe),
            8 => Some(Source::Sentinel(place)),
            4 => Some(Source::Bus(place)),
            5 => Some(Source::BusListener(place)),
            6 => Some(Source::Arrival(place)),
            7 => Some(Source::Export(place)),
            _ => None,
        }
    }
}

/// Events taken from the kernel per call. Further events stay queued, oldest first.
const CAPACITY: usize = 1024;

/// What a socket is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// As given to [`Registry::register`].
    pub source: Source,
    /// Bytes, a connection, the end of the stream or an error can be read.
    pub readable: bool,
    /// Bytes can be sent, or sending fails at once.
    pub writable: bool,
    /// Nothing more will arrive: read until the end. Not reported again.
    pub closed: bool,
}

/// The set of watched sockets, for code that adds and removes sockets.
#[derive(Debug)]
pub struct Registry(mio::Registry);

impl Registry {
    /// Another handle of the same set, for another thread.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn try_clone(&self) -> io::Result<Registry> {
        self.0.try_clone().map(Registry)
    }

    /// Watches a stream for reading and writing until it is deregistered or closed.
    ///
    /// # Errors
    /// Those of `epoll_ctl`: no memory, too many watches, already registered.
    pub fn register(&self, socket: &mut impl Watched, source: Source) -> io::Result<()> {
        self.0.register(socket, source.token(), Interest::READABLE | Interest::WRITABLE)
    }

    /// Watches a socket for reading only, such as a listening socket.
    ///
    /// # Errors
    /// As [`Registry::register`].
    pub fn register_readable(&self, socket: &mut impl Watched, source: Source) -> io::Result<()> {
        self.0.register(socket, source.token(), Interest::READABLE)
    }

    /// Requests another report if a socket registered by [`Registry::register_readable`] is ready now, because it was
    /// not read until it was empty. One system call.
    ///
    /// # Errors
    /// Those of `epoll_ctl`: not registered.
    pub fn rearm_readable(&self, socket: &mut impl Watched, source: Source) -> io::Result<()> {
        self.0.reregister(socket, source.token(), Interest::READABLE)
    }

    /// Gives a stream another name. If it is ready now, that is reported under the new one.
    ///
    /// # Errors
    /// Those of `epoll_ctl`: not registered.
    pub fn rename(&self, socket: &mut impl Watched, source: Source) -> io::Result<()> {
        self.0.reregister(socket, source.token(), Interest::READABLE | Interest::WRITABLE)
    }

    /// Stops watching a socket. Closing it has the same effect.
    ///
    /// # Errors
    /// Those of `epoll_ctl`: not registered.
    pub fn deregister(&self, socket: &mut impl Watched) -> io::Result<()> {
        self.0.deregister(socket)
    }
}

/// Ends a [`Poll::wait`] from another thread or a signal handler.
#[derive(Clone, Debug)]
pub struct Waker(Arc<mio::Waker>);

impl Waker {
    /// Ends the current or the next wait. One system call; async-signal-safe.
    pub fn wake(&self) {
        // Fails only if the counter behind the waker is full and cannot be reset: then a wake-up is due anyway.
        let _ = self.0.wake();
    }
}

/// The wait for readiness.
#[derive(Debug)]
pub struct Poll {
    poll: mio::Poll,
    registry: Registry,
    events: mio::Events,
    waker: Waker,
}

impl Poll {
    /// # Errors
    /// No file descriptor is left.
    pub fn new() -> io::Result<Poll> {
        let poll = mio::Poll::new()?;
        let waker = Waker(Arc::new(mio::Waker::new(poll.registry(), WAKER)?));
        let registry = Registry(poll.registry().try_clone()?);
        Ok(Poll { poll, registry, events: mio::Events::with_capacity(CAPACITY), waker })
    }

    /// The set of watched sockets.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A handle that ends a wait from elsewhere.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits until a socket becomes ready, the waker is used, a signal arrives or `timeout` has passed (in
    /// milliseconds, rounded up; `None`: no limit; zero: no wait). [`Poll::ready`] lists the ready sockets.
    ///
    /// # Errors
    /// Those of `epoll_wait`, except that a signal is not an error.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            result => result,
        }
    }

    /// Whether the last wait found a socket ready.
    pub fn is_ready(&self) -> bool {
        self.ready().next().is_some()
    }

    /// The sockets found ready by the last wait: at most 1024, each once.
    pub fn ready(&self) -> impl Iterator<Item = Ready> + '_ {
        self.events.iter().filter_map(|event| {
            let failed = event.is_error();
            let closed = failed || event.is_read_closed();
            Some(Ready {
                source: Source::of_token(event.token())?,
                readable: closed || event.is_readable(),
                writable: failed || event.is_writable() || event.is_write_closed(),
                closed,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_come_back_from_their_tokens() {
        for place in [0, 1, 2, 1023, usize::MAX >> KIND_BITS] {
            for source in
                [Source::Client, Source::Listener, Source::Link, Source::Arrival].map(|of| of(place))
            {
                assert_eq!(Source::of_token(source.token()), Some(source));
            }
        }
        assert_eq!(Source::of_token(WAKER), None);
    }

    #[test]
    fn the_waker_ends_a_wait_and_is_no_socket() {
        let mut poll = Poll::new().expect("descriptors are left");
        let waker = poll.waker();
        waker.wake();
        poll.wait(None).expect("a wait");
        assert_eq!(poll.ready().count(), 0);
        let other = std::thread::spawn(move || waker.wake());
        poll.wait(None).expect("a wait");
        other.join().expect("it does not panic");
        poll.wait(Some(Duration::ZERO)).expect("a wait");
        assert_eq!(poll.ready().count(), 0);
    }
}
