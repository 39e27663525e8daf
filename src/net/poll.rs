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
use mio::event::Source;

/// Identifies a registered socket in events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub usize);

/// Reserved for the waker.
const WAKER: Token = Token(usize::MAX);

/// Events taken from the kernel per call. Further events stay queued, oldest first.
const CAPACITY: usize = 1024;

/// What a socket is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// As given to [`Registry::register`].
    pub token: Token,
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
    /// Watches a stream for reading and writing until it is deregistered or closed.
    ///
    /// # Errors
    /// Those of `epoll_ctl`: no memory, too many watches, already registered.
    pub fn register(&self, source: &mut impl Source, token: Token) -> io::Result<()> {
        self.add(source, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Watches a socket for reading only, such as a listening socket.
    ///
    /// # Errors
    /// As for [`Registry::register`].
    pub fn register_readable(&self, source: &mut impl Source, token: Token) -> io::Result<()> {
        self.add(source, token, Interest::READABLE)
    }

    fn add(&self, source: &mut impl Source, token: Token, interest: Interest) -> io::Result<()> {
        assert_ne!(token, WAKER, "the last token is taken");
        self.0.register(source, mio::Token(token.0), interest)
    }

    /// Requests another report if a socket registered by [`Registry::register_readable`] is ready now, because it was
    /// not read until it was empty. One system call.
    ///
    /// # Errors
    /// Those of `epoll_ctl`: not registered.
    pub fn rearm_readable(&self, source: &mut impl Source, token: Token) -> io::Result<()> {
        self.0.reregister(source, mio::Token(token.0), Interest::READABLE)
    }

    /// Stops watching a socket. Closing it has the same effect.
    ///
    /// # Errors
    /// Those of `epoll_ctl`: not registered.
    pub fn deregister(&self, source: &mut impl Source) -> io::Result<()> {
        self.0.deregister(source)
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
    events: mio::Events,
    waker: Waker,
}

impl Poll {
    /// # Errors
    /// No file descriptor is left.
    pub fn new() -> io::Result<Poll> {
        let poll = mio::Poll::new()?;
        let waker = Waker(Arc::new(mio::Waker::new(poll.registry(), mio::Token(WAKER.0))?));
        Ok(Poll { poll, events: mio::Events::with_capacity(CAPACITY), waker })
    }

    /// Another handle on the set of watched sockets.
    ///
    /// # Errors
    /// No file descriptor is left.
    pub fn registry(&self) -> io::Result<Registry> {
        self.poll.registry().try_clone().map(Registry)
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

    /// The sockets found ready by the last wait: at most 1024, each once.
    pub fn ready(&self) -> impl Iterator<Item = Ready> + '_ {
        self.events.iter().filter(|event| event.token().0 != WAKER.0).map(|event| {
            let failed = event.is_error();
            let closed = failed || event.is_read_closed();
            Ready {
                token: Token(event.token().0),
                readable: closed || event.is_readable(),
                writable: failed || event.is_writable() || event.is_write_closed(),
                closed,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waker_ends_a_wait_and_is_no_socket() {
        let mut poll = Poll::new().expect("descriptors are left");
        let waker = poll.waker();
        waker.wake();
        poll.wait(None).expect("a wait");
        assert_eq!(poll.ready().count(), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| waker.wake());
            poll.wait(None).expect("a wait");
        });
        poll.wait(Some(Duration::ZERO)).expect("a wait");
        assert_eq!(poll.ready().count(), 0);
    }
}
