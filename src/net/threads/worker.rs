//! One I/O thread: its loop, and what it knows of each connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::gathering::{Gathering, Next};
use super::queue::{Doorbell, Receiver, Sender, queue};
use super::{Arrival, Counters, Counts, NAME, Order, Parcel, QUEUE, Reader, Reason, Settings, Thread};
use crate::background::block_signals;
use crate::net::io::{ClientIo, Pool, READ_BUDGET, Received, SEND_BUDGET};
use crate::net::poll::{Poll, Source};
use crate::resp::request::Limits;
use crate::stdx::{alloc, clock};

/// A parcel with so many requests takes no further client.
const FULL: usize = 16;

/// Requests of one client in one parcel, beyond which it waits for its next turn.
const MOST_REQUESTS: usize = 1024;

/// Parcels under way to the main thread, beyond which nothing more is received.
const MOST_PARCELS: usize = 64;

/// Time between two looks at the pool while nothing happens, as long as the pool is not empty.
const TRIM: Duration = Duration::from_secs(1);

/// Properties of a connection.
mod is {
    /// The thread watches the socket.
    pub(super) const KNOWN: u8 = 1;
    /// There may be something to receive.
    pub(super) const READABLE: u8 = 2;
    /// The peer has closed its side: the socket is to be read to its end.
    pub(super) const CLOSED: u8 = 4;
    /// There may be complete requests in the buffer.
    pub(super) const UNPARSED: u8 = 8;
    /// The socket takes no more output for now.
    pub(super) const FULL: u8 = 16;
    /// In the list of those with something to receive or parse.
    pub(super) const READY: u8 = 32;
    /// In the list of those with something to send.
    pub(super) const SENDING: u8 = 64;
    /// May send large requests.
    pub(super) const TRUSTED: u8 = 128;
}

/// A connection, as the thread knows it.
#[derive(Default)]
struct Connection {
    /// `None` while it is with the main thread or on the way.
    io: Option<Box<ClientIo>>,
    /// Bits of [`is`].
    flags: u8,
    /// Whether the main thread knows that output waits.
    reported_unsent: bool,
    /// Period in which it last sent a request: see [`Gathering::sent`].
    period: u32,
    /// Bytes that count as input besides what is in the buffer.
    queued: usize,
    /// Bytes allocated for input when the connection last returned.
    reported: usize,
    received: u64,
    sent: u64,
}

impl Connection {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

struct Worker<R: Reader> {
    poll: Poll,
    reader: R,
    settings: Settings,
    pool: Pool,
    /// By client.
    connections: Vec<Connection>,
    /// Clients with something to receive or parse.
    ready: VecDeque<usize>,
    /// Clients with something to send.
    sending: Vec<usize>,
    from: Receiver<Parcel<R::Batch>>,
    to: Sender<Parcel<R::Batch>>,
    /// The parcel being filled.
    open: Option<Box<Parcel<R::Batch>>>,
    empty: Vec<Box<Parcel<R::Batch>>>,
    /// Parcels that the queue had no room for.
    late: VecDeque<Box<Parcel<R::Batch>>>,
    /// Parcels under way, or late.
    under_way: usize,
    /// The last order for all connections that was obeyed, and the last that the main thread was told of.
    obeyed: u64,
    reported: u64,
    gathering: Gathering,
    own: Arc<Doorbell>,
    main: Arc<Doorbell>,
    counts: Counts,
    counters: Arc<Counters>,
    trimmed_ns: u64,
}

pub(super) fn start<R: Reader>(
    number: usize,
    reader: R,
    settings: Settings,
    main: Arc<Doorbell>,
) -> io::Result<Thread<R::Batch>> {
    let poll = Poll::new()?;
    let registry = poll.registry().try_clone()?;
    let own = Arc::new(Doorbell::new(poll.waker()));
    let counters = Arc::new(Counters::default());
    let (to_thread, from) = queue(QUEUE);
    let (to, from_thread) = queue(QUEUE);
    let worker = Worker {
        poll,
        reader,
        settings,
        pool: Pool::default(),
        connections: Vec::new(),
        ready: VecDeque::new(),
        sending: Vec::new(),
        from,
        to,
        open: None,
        empty: Vec::new(),
        late: VecDeque::new(),
        under_way: 0,
        obeyed: 0,
        reported: 0,
        gathering: Gathering::default(),
        own: Arc::clone(&own),
        main,
        counts: Counts::default(),
        counters: Arc::clone(&counters),
        trimmed_ns: clock::monotonic_ns(),
    };
    thread::Builder::new().name(format!("{NAME}{number}")).spawn(move || {
        alloc::count_for_ever(|| {
            block_signals();
            clock::sleep_precisely();
            worker.run()
        })
    })?;
    Ok(Thread { to: to_thread, from: from_thread, doorbell: own, registry, counters })
}

impl<R: Reader> Worker<R> {
    fn run(mut self) -> Infallible {
        loop {
            self.wait();
            let began = clock::monotonic_ns();
            self.gathering.turn(began);
            self.note_events();
            self.obey();
            self.send_all();
            self.receive_all();
            let ended = clock::monotonic_ns();
            self.hand_over(ended);
            if ended - self.trimmed_ns >= TRIM.as_nanos() as u64 {
                self.trimmed_ns = ended;
                self.pool.trim();
            }
            self.counts.active_ns += ended - began;
            self.counts.pooled = self.pool.allocated() as u64;
            self.counters.set(&self.counts);
        }
    }

    /// Waits for sockets and orders, unless there is something to do already.
    fn wait(&mut self) {
        let stuck = self.under_way >= MOST_PARCELS;
        let busy = !self.sending.is_empty() || !self.ready.is_empty() && !stuck;
        let patience = match (self.late.is_empty(), self.pool.allocated()) {
            // The main thread takes parcels once per turn, and does not say when.
            (false, _) => Some(Duration::from_millis(1)),
            (true, 0) => None,
            (true, _) => Some(TRIM),
        };
        if !busy {
            match self.gathering.next(self.main.sleeps()) {
                Next::Wait => {}
                Next::Look => {
                    let _ = self.poll.wait(Some(Duration::ZERO));
                    if self.poll.is_ready() || !self.from.is_empty() {
                        return;
                    }
                    self.wake_main();
                }
                Next::Nap(time) => return self.nap(time),
                Next::Wake => {
                    if let Some(time) = self.wake_main() {
                        return self.nap(time);
                    }
                }
            }
        }
        let sleeps = !busy && self.own.may_sleep(|| self.from.is_empty());
        // Nothing is left to do about a poll that fails but to try again.
        let _ = self.poll.wait(if sleeps { patience } else { Some(Duration::ZERO) });
        if sleeps {
            self.own.awake();
        }
    }

    /// Sleeps for some time, or until the main thread has sent something, and looks at the sockets afterwards.
    fn nap(&mut self, time: Duration) {
        self.own.nap(time, || self.from.is_empty());
        let _ = self.poll.wait(Some(Duration::ZERO));
    }

    fn note_events(&mut self) {
        for event in self.poll.ready() {
            let Source::Client(client) = event.source else { continue };
            let Some(connection) = self.connections.get_mut(client) else { continue };
            if !connection.has(is::KNOWN) {
                continue;
            }
            if event.closed {
                connection.flags |= is::CLOSED;
            }
            if event.readable {
                connection.flags |= is::READABLE;
                if connection.io.is_some() && !connection.has(is::READY) {
                    connection.flags |= is::READY;
                    self.ready.push_back(client);
                }
            }
            if event.writable && connection.has(is::FULL) {
                connection.flags &= !is::FULL;
                if connection.io.is_some() && !connection.has(is::SENDING) {
                    connection.flags |= is::SENDING;
                    self.sending.push(client);
                }
            }
        }
    }

    /// Does what the main thread has ordered.
    fn obey(&mut self) {
        while let Some(mut parcel) = self.from.pop() {
            for order in parcel.orders.drain(..) {
                match order {
                    Order::Serve { client, io, is_new, trusted, queued } => {
                        self.serve(client, io, is_new, trusted, queued);
                    }
                    Order::Recall { client } => self.give_up(client, Reason::Recalled),
                    Order::RecallAll { number } => {
                        (0..self.connections.len()).for_each(|client| self.give_up(client, Reason::Summoned));
                        self.obeyed = number;
                        // The main thread waits for this number, even if there is no connection.
                        self.open();
                    }
                    Order::Forget { client } => {
                        if let Some(connection) = self.connections.get_mut(client) {
                            *connection = Connection {
                                flags: connection.flags & (is::READY | is::SENDING),
                                ..Connection::default()
                            };
                        }
                    }
                    Order::Set(settings) => self.settings = settings,
                }
            }
            for empty in std::mem::take(&mut parcel.empty) {
                self.keep(empty);
            }
            self.keep(parcel);
        }
    }

    /// Keeps an empty parcel. Those that the main thread made for its orders are not kept.
    fn keep(&mut self, parcel: Box<Parcel<R::Batch>>) {
        if parcel.of_thread {
            self.under_way -= 1;
            self.empty.push(parcel);
        }
    }

    /// Takes a connection over.
    fn serve(&mut self, client: usize, io: Box<ClientIo>, is_new: bool, trusted: bool, queued: usize) {
        if client >= self.connections.len() {
            self.connections.resize_with(client + 1, Connection::default);
        }
        let connection = &mut self.connections[client];
        let io = connection.io.insert(io);
        connection.queued = queued;
        connection.flags = connection.flags & !is::TRUSTED | if trusted { is::TRUSTED } else { 0 };
        if is_new {
            connection.flags |= is::KNOWN;
            if let Err(error) = self.poll.registry().register(&mut io.peer, Source::Client(client)) {
                return self.deliver(client, Reason::CannotSend(error));
            }
            // What was not parsed elsewhere is parsed here. Of decrypted bytes that nobody received no event tells.
            connection.flags |= is::UNPARSED | if io.peer.is_secure() { is::READABLE } else { 0 };
        }
        if !connection.has(is::SENDING) {
            connection.flags |= is::SENDING;
            self.sending.push(client);
        }
        if connection.has(is::READABLE | is::UNPARSED) && !connection.has(is::READY) {
            connection.flags |= is::READY;
            self.ready.push_back(client);
        }
    }

    /// Sends a connection to the main thread if it is here.
    fn give_up(&mut self, client: usize, reason: Reason) {
        if self.connections.get(client).is_some_and(|connection| connection.io.is_some()) {
            self.deliver(client, reason);
        }
    }

    /// Sends output, and releases the buffers of connections that have returned.
    fn send_all(&mut self) {
        let now = self.sending.len();
        for i in 0..now {
            self.send(self.sending[i]);
        }
        self.sending.drain(..now);
    }

    fn send(&mut self, client: usize) {
        let connection = &mut self.connections[client];
        connection.flags &= !is::SENDING;
        let Some(io) = &mut connection.io else { return };
        if connection.flags & is::FULL == 0 {
            let ClientIo { peer, output, .. } = &mut **io;
            match output.send(peer, &mut self.pool, SEND_BUDGET) {
                Ok(n) => {
                    self.counts.writes += u64::from(n > 0);
                    self.counts.sent += n as u64;
                    connection.sent += n as u64;
                    if output.is_empty() {
                        connection.reported_unsent = false;
                    } else if n >= SEND_BUDGET {
                        connection.flags |= is::SENDING;
                        self.sending.push(client);
                    } else {
                        connection.flags |= is::FULL;
                    }
                }
                Err(error) => return self.deliver(client, Reason::CannotSend(error)),
            }
        }
        io.input.release(&mut self.pool, self.settings.keep);
        connection.reported = io.input.allocated();
        if connection.flags & is::FULL != 0 && !connection.reported_unsent {
            connection.reported_unsent = true;
            self.deliver(client, Reason::Grown);
        }
    }

    /// Receives once from each connection that is ready, and parses what has arrived.
    fn receive_all(&mut self) {
        for _ in 0..self.ready.len() {
            if self.under_way >= MOST_PARCELS {
                return;
            }
            let Some(client) = self.ready.pop_front() else { return };
            let connection = &mut self.connections[client];
            connection.flags &= !is::READY;
            if connection.io.is_none() {
                // It goes on when it returns.
            } else if connection.has(is::UNPARSED) {
                self.parse(client);
            } else {
                self.receive(client);
            }
            let connection = &mut self.connections[client];
            if connection.io.is_some()
                && connection.has(is::READABLE | is::UNPARSED)
                && !connection.has(is::READY)
            {
                connection.flags |= is::READY;
                self.ready.push_back(client);
            }
        }
    }

    fn receive(&mut self, client: usize) {
        let connection = &mut self.connections[client];
        let Some(io) = &mut connection.io else { return };
        let ClientIo { peer, input, .. } = &mut **io;
        self.counts.reads += 1;
        let n = match input.receive(peer, &mut self.pool) {
            Ok(Received::Drained(n)) => {
                if connection.flags & is::CLOSED == 0 {
                    connection.flags &= !is::READABLE;
                }
                n
            }
            Ok(Received::More(n)) => n,
            Ok(Received::Nothing) => {
                connection.flags &= !is::READABLE;
                0
            }
            Ok(Received::Closed) => return self.deliver(client, Reason::Closed),
            Err(error) => return self.deliver(client, Reason::CannotReceive(error)),
        };
        self.counts.received += n as u64;
        connection.received += n as u64;
        let (input, queued) = (&io.input, connection.queued);
        if input.allocated() + queued > READ_BUDGET && input.pending() + queued > self.settings.query_limit {
            return self.deliver(client, Reason::InputTooLong);
        }
        self.parse(client);
    }

    /// Parses requests, and sends the connection with them to the main thread.
    fn parse(&mut self, client: usize) {
        self.open();
        let Some(parcel) = &mut self.open else { return };
        let connection = &mut self.connections[client];
        let Some(io) = &mut connection.io else { return };
        let trusted = connection.flags & is::TRUSTED != 0;
        let limits = Limits { max_bulk: self.settings.max_bulk, trusted, ..Limits::default() };
        connection.flags &= !is::UNPARSED;
        let input = &mut io.input;
        let (mut n, mut barrier) = (0, false);
        let reason = loop {
            let spans = R::spans(&mut parcel.batch);
            match input.decoder.next(&mut input.buf, &mut input.pos, spans, &limits) {
                Ok(None) if n == 0 => break None,
                Ok(None) => break Some(Reason::Requests),
                Ok(Some(frame)) => {
                    let large = frame.large();
                    if !large.is_empty() {
                        let bytes = large.iter().map(|string| string.allocated_bytes()).sum();
                        input.count_borrowed_large(bytes);
                    }
                    barrier = self.reader.add(&mut parcel.batch, client, frame, &input.buf);
                    n += 1;
                    // What an unauthenticated client may send next depends on this request.
                    if barrier || !trusted || n == MOST_REQUESTS {
                        connection.flags |= is::UNPARSED;
                        break Some(Reason::Requests);
                    }
                }
                Err(error) => break Some(Reason::Malformed(error)),
            }
        };
        if let Some(reason) = reason {
            let full = barrier || R::len(&parcel.batch) >= FULL;
            self.gathering.sent(&mut connection.period);
            self.deliver(client, reason);
            if full {
                self.seal();
            }
            return;
        }
        input.release(&mut self.pool, self.settings.keep);
        let allocated = input.allocated();
        if allocated > 2 * connection.reported {
            self.deliver(client, Reason::Grown);
        }
    }

    /// Sees to it that there is an open parcel.
    fn open(&mut self) {
        if self.open.is_none() {
            let new = || Box::new(Parcel { of_thread: true, ..Parcel::default() });
            self.open = Some(self.empty.pop().unwrap_or_else(new));
        }
    }

    /// Puts a connection into the open parcel.
    fn deliver(&mut self, client: usize, reason: Reason) {
        self.open();
        let connection = &mut self.connections[client];
        let (Some(parcel), Some(mut io)) = (&mut self.open, connection.io.take()) else { return };
        let unsent = !io.output.is_empty();
        // Memory for the reply comes from here, because it will return here.
        io.output.prepare(&mut self.pool);
        let (received, sent) =
            (std::mem::take(&mut connection.received), std::mem::take(&mut connection.sent));
        parcel.arrivals.push(Arrival { client, io, reason, unsent, received, sent });
    }

    /// Sends the open parcel off.
    fn seal(&mut self) {
        let news = |parcel: &Parcel<_>| !parcel.arrivals.is_empty() || self.reported < self.obeyed;
        let Some(mut parcel) = self.open.take_if(|parcel| news(parcel)) else { return };
        parcel.obeyed = self.obeyed;
        self.reported = self.obeyed;
        self.under_way += 1;
        self.late.push_back(parcel);
        self.post();
    }

    /// Puts parcels into the queue, as far as there is room.
    fn post(&mut self) {
        while let Some(parcel) = self.late.pop_front() {
            let requests = R::len(&parcel.batch);
            if let Err(parcel) = self.to.push(parcel) {
                self.late.push_front(parcel);
                return;
            }
            self.gathering.add(requests, clock::monotonic_ns());
        }
    }

    /// Ends the turn: everything is on the way.
    fn hand_over(&mut self, now: u64) {
        self.seal();
        self.post();
        if self.gathering.is_due(now) {
            self.wake_main();
        }
    }

    /// Wakes the main thread if it sleeps and has something to do. Returns how long it is worth while to wait for its
    /// replies alone.
    fn wake_main(&mut self) -> Option<Duration> {
        // It may have been awake and found everything by itself.
        if !self.to.is_drained() {
            self.main.ring();
        }
        self.gathering.woken()
    }
}
