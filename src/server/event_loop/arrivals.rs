//! Connections on their way to become clients: those that speak TLS agree on a session first.
//!
//! They are apart from the clients, who are not slowed down by them: handshakes are the expensive part of TLS, so those
//! that can go on wait for their turn, and in each turn of the loop no more time goes to them than was last spent for
//! clients. Who does not finish within [`PATIENCE_NS`] is dropped.

use std::collections::VecDeque;

use slab::Slab;

use crate::net::peer::Peer;
use crate::net::poll::Source;
use crate::net::stream::Stream;
use crate::net::tls::{Handshake, Secure, Step};
use crate::server::Server;
use crate::server::event_loop::WATCHED;
use crate::stats::log::limited;
use crate::stdx::clock;

/// Time for a handshake.
const PATIENCE_NS: u64 = 10_000_000_000;
/// Time for handshakes in a turn in which nobody else wants any.
const IDLE_SHARE_NS: u64 = 1_000_000;
/// Most time that is owed to handshakes because clients were served before.
const MOST_SHARE_NS: u64 = 5_000_000;

/// One of them.
struct Arrival {
    stream: Stream,
    handshake: Box<Handshake>,
    /// Until when it must be done, on the monotonic clock.
    deadline_ns: u64,
    /// Number of those that came before, to tell it from the one that had its place before.
    number: u64,
    /// Whether it waits for its turn.
    queued: bool,
}

/// All of them.
#[derive(Default)]
pub(in crate::server) struct Arrivals {
    list: Slab<Arrival>,
    /// In the order of their deadlines; some may be gone.
    deadlines: VecDeque<(usize, u64)>,
    /// Those that can go on.
    queue: VecDeque<usize>,
    count: u64,
    /// Time that clients have had and handshakes have not, in nanoseconds.
    share_ns: i64,
}

impl Arrivals {
    /// How many there are.
    pub(in crate::server) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether one could go on at once.
    pub(super) fn can_go_on(&self) -> bool {
        !self.queue.is_empty()
    }

    /// The socket of one is ready.
    pub(super) fn ready(&mut self, place: usize) {
        if let Some(arrival) = self.list.get_mut(place)
            && !arrival.queued
        {
            arrival.queued = true;
            self.queue.push_back(place);
        }
    }

    /// Clients have been served for so long in this turn.
    pub(super) fn clients_served(&mut self, ns: u64) {
        let share = self.share_ns.saturating_add_unsigned(ns);
        self.share_ns = share.min(MOST_SHARE_NS as i64);
    }
}

impl Server {
    /// Somebody has connected to a port for TLS.
    pub(super) fn begin_handshake(&mut self, mut stream: Stream) {
        let Some(acceptor) = self.tls.acceptor() else { return };
        // A failure only costs speed.
        let _ = stream.set_nodelay();
        let arrivals = &mut self.event_loop.arrivals;
        let registry = self.event_loop.poll.as_ref().expect(WATCHED).registry();
        let place = arrivals.list.vacant_key();
        if let Err(error) = registry.register(&mut stream, Source::Arrival(place)) {
            limited!(warn, "Error registering fd event for the new client: {error}");
            return;
        }
        let deadline_ns = clock::monotonic_ns() + PATIENCE_NS;
        arrivals.count += 1;
        let handshake = Box::new(acceptor.handshake());
        let number = arrivals.count;
        arrivals.list.insert(Arrival { stream, handshake, deadline_ns, number, queued: false });
        arrivals.deadlines.push_back((place, number));
    }

    /// Goes on with handshakes, for the time that they are due.
    #[inline]
    pub(super) fn advance_arrivals(&mut self, others_served: bool) {
        if self.event_loop.arrivals.can_go_on() {
            self.advance_queued(others_served);
        }
    }

    fn advance_queued(&mut self, others_served: bool) {
        let began = clock::monotonic_ns();
        let arrivals = &mut self.event_loop.arrivals;
        if !others_served {
            arrivals.share_ns = arrivals.share_ns.max(IDLE_SHARE_NS as i64);
        }
        while self.event_loop.arrivals.share_ns > 0 {
            let arrivals = &mut self.event_loop.arrivals;
            let Some(place) = arrivals.queue.pop_front() else { break };
            self.advance_arrival(place);
            let spent = clock::monotonic_ns() - began;
            if spent as i64 >= self.event_loop.arrivals.share_ns {
                break;
            }
        }
        let spent = clock::monotonic_ns() - began;
        let arrivals = &mut self.event_loop.arrivals;
        arrivals.share_ns = arrivals.share_ns.saturating_sub_unsigned(spent).max(-(MOST_SHARE_NS as i64));
    }

    fn advance_arrival(&mut self, place: usize) {
        let Some(arrival) = self.event_loop.arrivals.list.get_mut(place) else { return };
        arrival.queued = false;
        match arrival.handshake.advance(&arrival.stream) {
            Ok(Step::Readable | Step::Writable) => {}
            Ok(Step::Done) => {
                let Arrival { stream, handshake, .. } = self.event_loop.arrivals.list.remove(place);
                let user = handshake.peer_certificate().and_then(|shown| self.tls.user_of(shown));
                match handshake.finish(stream) {
                    Ok(secure) => self.arrived(secure, user.as_deref()),
                    Err(error) => limited!(warn, "Error accepting a client connection: {error}"),
                }
            }
            Err(error) => {
                let Arrival { stream, .. } = self.event_loop.arrivals.list.remove(place);
                limited!(
                    warn,
                    "Error accepting a client connection: {error} (addr={} laddr={})",
                    stream.peer_addr(),
                    stream.local_addr()
                );
            }
        }
    }

    /// A session is agreed on: whoever is at the other end is a client from now on.
    fn arrived(&mut self, secure: Secure, user: Option<&[u8]>) {
        let Some(key) = self.welcome(Peer::Secure(Box::new(secure))) else { return };
        if let Some(user) = user {
            self.act_as_certified(key, user);
        }
        // What came behind the handshake is reported by no event.
        self.read_soon(key);
    }

    /// Drops those whose time is over. Called by the timer.
    pub(in crate::server) fn drop_late_arrivals(&mut self) {
        let now = clock::monotonic_ns();
        let arrivals = &mut self.event_loop.arrivals;
        while let Some(&(place, number)) = arrivals.deadlines.front() {
            let present = arrivals.list.get(place).filter(|arrival| arrival.number == number);
            if present.is_some_and(|arrival| arrival.deadline_ns > now) {
                break;
            }
            if let Some(arrival) = present {
                tracing::debug!(
                    "Closing a connection that did not finish its TLS handshake: {}",
                    arrival.stream.peer_addr()
                );
                arrivals.list.remove(place);
            }
            arrivals.deadlines.pop_front();
        }
    }
}
