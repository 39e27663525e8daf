//! I/O threads: they receive and parse requests for the main thread, and send its replies.
//!
//! # Design
//!
//! A connection is always at one place. Its sockets, buffers and parser are one value, [`ClientIo`], and whoever owns
//! the box works on them: nothing is shared, and no lock protects anything.
//!
//! ```text
//!  I/O thread                                       main thread
//!  ready ─ receive ─ parse ─ look up ─ hash key
//!             │                                      prefetch, execute all requests of the parcel;
//!             └── Parcel: requests, arrivals ──────► each reply goes into the output of its connection
//!  send ◄─────── Parcel: orders, empty parcels ───── end of the turn: connections return
//! ```
//!
//! - A thread owns the connections that the main thread [gives](Order::Serve) it, with a [`Poll`](super::poll::Poll) and
//!   a [`Pool`](super::io::Pool) of its own. When a connection has complete requests, it *travels* with them to the main
//!   thread ([`Arrival`]), which can do with it whatever it does with a connection of its own. At the end of the main
//!   thread's turn it returns, and the thread sends what was written.
//! - While a connection is away from its thread, the thread only notes that its socket is ready. A client therefore has
//!   at most one parcel under way, its requests and replies keep their order, and nothing needs a limit besides those
//!   that connections have anyway.
//! - Connections that others write to (subscribers, monitors, replicas, clients that are blocked or whose keys are
//!   tracked) belong to the main thread. A connection goes to a thread when it is ordinary, and comes back when it is not.
//!   If the main thread needs a connection for another reason, it [recalls](Order::Recall) it.
//! - The two directions are [queues](queue) with one sender and one receiver each. A side that has nothing to do sleeps
//!   in its poll; the other side wakes it once per turn, and only if it sleeps ([`queue::Doorbell`]). For a main thread
//!   that sleeps, requests of many clients are gathered first (`gathering`).
//! - Memory returns to its thread: a thread supplies the buffers for replies along with the requests, and parcels travel
//!   back when they are empty.
//!
//! What a request *is* the threads do not know: [`Reader`] turns the bytes of one into what the main thread executes.
//!
//! Threads that own their connections are the design of Redis 8; hashing keys and looking commands up before requests
//! reach the main thread is ours.

mod gathering;
pub mod queue;
mod worker;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::io::ClientIo;
use super::poll::Registry;
use crate::resp::request::{Frame, ProtocolError, Span};
use queue::{Doorbell, Receiver, Sender};

/// Most threads besides the main one.
pub const MOST: usize = 127;

/// Parcels that a queue takes. A sender keeps those that do not fit.
const QUEUE: usize = 128;

/// Beginning of the names of the threads.
pub const NAME: &str = "io_thd_";

/// Turns the bytes of requests into what the main thread executes. Each thread has its own.
pub trait Reader: Send + 'static {
    /// Requests, and the spans of their arguments.
    type Batch: Default + Send + 'static;

    /// The spans of the arguments of all requests of the batch.
    fn spans(batch: &mut Self::Batch) -> &mut Vec<Span>;

    /// Number of requests in the batch.
    fn len(batch: &Self::Batch) -> usize;

    /// Adds a request, whose spans are in the batch and whose bytes are in `input`. Returns whether the request must be
    /// executed before those behind it are parsed, and before requests of others share a batch with it.
    fn add(&self, batch: &mut Self::Batch, client: usize, frame: Frame, input: &[u8]) -> bool;
}

/// What travels between the main thread and an I/O thread, in either direction.
#[derive(Default)]
pub struct Parcel<B> {
    /// For the main thread: requests, in order. Those of one client are in one piece.
    pub batch: B,
    /// For the main thread: connections, in the order of their requests.
    pub arrivals: Vec<Arrival>,
    /// For the main thread: the last [`Order::RecallAll`] that was obeyed.
    pub obeyed: u64,
    /// For the thread: what to do, in order.
    pub orders: Vec<Order>,
    /// For the thread: parcels that are empty.
    pub empty: Vec<Box<Parcel<B>>>,
    /// Whether a thread made it, so that it returns there.
    of_thread: bool,
}

/// A connection that travels to the main thread.
pub struct Arrival {
    /// The client, as it was called when the connection was given to the thread.
    pub client: usize,
    /// The connection.
    pub io: Box<ClientIo>,
    /// Why it travels.
    pub reason: Reason,
    /// Whether output waits because the socket takes no more.
    pub unsent: bool,
    /// Bytes received since the last arrival.
    pub received: u64,
    /// Bytes sent since the last arrival.
    pub sent: u64,
}

/// Why a connection travels to the main thread.
#[derive(Debug)]
pub enum Reason {
    /// It has requests in the parcel.
    Requests,
    /// Its memory has grown, or its socket takes no more output.
    Grown,
    /// The main thread recalled it.
    Recalled,
    /// The main thread recalled all.
    Summoned,
    /// Behind its requests, if it has any, is something that is none.
    Malformed(ProtocolError),
    /// It has more input than [`Settings::query_limit`] allows.
    InputTooLong,
    /// The peer has closed it.
    Closed,
    /// Receiving failed.
    CannotReceive(io::Error),
    /// Sending failed, or the socket cannot be watched.
    CannotSend(io::Error),
}

/// What a thread is to do.
pub enum Order {
    /// Serves a connection: a new one, or one that returns.
    Serve {
        /// Whose connection it is. The number is free if no other connection has it.
        client: usize,
        /// The connection.
        io: Box<ClientIo>,
        /// Whether the thread must begin to watch the socket.
        is_new: bool,
        /// Whether the client may send large requests.
        trusted: bool,
        /// Bytes that count as input besides what is in its buffer.
        queued: usize,
    },
    /// Sends a connection to the main thread, unless it is there or on the way.
    Recall {
        /// Whose connection it is.
        client: usize,
    },
    /// Sends all connections to the main thread.
    RecallAll {
        /// Number for [`Parcel::obeyed`].
        number: u64,
    },
    /// Forgets a connection that is with the main thread. Its number is free afterwards.
    Forget {
        /// Whose connection it was.
        client: usize,
    },
    /// Changes the settings.
    Set(Settings),
}

/// What a thread must know of the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Most bytes of one argument.
    pub max_bulk: usize,
    /// Most bytes of input that is not executed.
    pub query_limit: usize,
    /// Whether connections keep empty input buffers.
    pub keep: bool,
}

/// Counters of one thread, which only this thread changes. They have cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
pub struct Counters {
    reads: AtomicU64,
    writes: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    active_ns: AtomicU64,
    pooled: AtomicU64,
}

/// Counters at one moment.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Receives.
    pub reads: u64,
    /// Sends.
    pub writes: u64,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
    /// Nanoseconds of all turns, without sleeping.
    pub active_ns: u64,
    /// Bytes in the pool of buffers.
    pub pooled: u64,
}

impl Counters {
    /// The counters now.
    pub fn get(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            reads: read(&self.reads),
            writes: read(&self.writes),
            received: read(&self.received),
            sent: read(&self.sent),
            active_ns: read(&self.active_ns),
            pooled: read(&self.pooled),
        }
    }

    /// Sets the counters. The thread counts in plain numbers and calls this once per turn.
    fn set(&self, counts: &Counts) {
        self.reads.store(counts.reads, Ordering::Relaxed);
        self.writes.store(counts.writes, Ordering::Relaxed);
        self.received.store(counts.received, Ordering::Relaxed);
        self.sent.store(counts.sent, Ordering::Relaxed);
        self.active_ns.store(counts.active_ns, Ordering::Relaxed);
        self.pooled.store(counts.pooled, Ordering::Relaxed);
    }
}

/// The main thread's end of one I/O thread.
pub struct Thread<B> {
    /// Parcels for the thread.
    pub to: Sender<Parcel<B>>,
    /// Parcels from the thread.
    pub from: Receiver<Parcel<B>>,
    /// Wakes the thread.
    pub doorbell: Arc<Doorbell>,
    /// The sockets that the thread watches. Removing one from here is allowed at any time.
    pub registry: Registry,
    /// What the thread counts.
    pub counters: Arc<Counters>,
}

impl<B: Default + Send + 'static> Thread<B> {
    /// Starts thread `number`, which uses `doorbell` to wake the main thread. It lives as long as the process.
    ///
    /// # Errors
    /// The system refuses another thread or poll.
    pub fn start<R: Reader<Batch = B>>(
        number: usize,
        reader: R,
        settings: Settings,
        main: Arc<Doorbell>,
    ) -> io::Result<Thread<B>> {
        worker::start(number, reader, settings, main)
    }
}
