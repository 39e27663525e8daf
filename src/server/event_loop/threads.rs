//! The main thread's side of the I/O threads ([`crate::net::threads`]).
//!
//! A client is at *home* if its connection is watched by the main thread. Otherwise it is *away*, with its connection in
//! an I/O thread, or *visiting*: its connection has travelled here with requests, and returns at the end of the turn. In
//! place of a connection that is away the client has an empty one, so that nothing needs to know: what is written to
//! it waits, and the connection is recalled.
//!
//! Who sends replies depends on whether they must be counted or withheld first: then the main thread sends what visitors
//! have, as it does for clients at home, and only what is left goes to the threads.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::WATCHED;
use crate::clients::{Client, ClientFlags, ClientKey};
use crate::net::io::{ClientIo, Input, Output};
use crate::net::peer::Peer;
use crate::net::poll::Source;
use crate::net::threads::queue::Doorbell;
use crate::net::threads::{Counts, Order, Parcel, Reason, Settings, Thread};
use crate::resp::request::ProtocolError;
use crate::server::Server;
use crate::server::execution::admission::Conditions;
use crate::server::execution::call::{Batch, RequestReader};
use crate::stats::log::limited;
use crate::stdx::prefetch::{LINE, prefetch};

type Requests = Box<Parcel<Batch>>;

/// Client properties for which its connection stays here, or comes home.
const STAYS: ClientFlags = ClientFlags::CLOSING
    .with(ClientFlags::SUBSCRIBED)
    .with(ClientFlags::REPLICA)
    .with(ClientFlags::PRIMARY)
    .with(ClientFlags::IMPORTS)
    .with(ClientFlags::MONITOR)
    .with(ClientFlags::BLOCKED)
    .with(ClientFlags::PAUSED)
    .with(ClientFlags::TRACKS_READS)
    .with(ClientFlags::INTERNAL)
    .with(ClientFlags::FROZEN);

/// A client is said to be in these lists while it visits, so that it is put into none: its replies leave with it.
const LISTED: ClientFlags = ClientFlags::IN_SEND_LIST.with(ClientFlags::IN_READ_LIST);

/// A client whose connection is here for this turn.
struct Visitor {
    key: ClientKey,
    /// What the client has in place of its connection while that is away.
    empty: Box<ClientIo>,
    /// Whether the client is in the list of those whose output the main thread sends.
    listed: bool,
}

/// One thread, as the main thread knows it.
struct Served {
    thread: Thread<Batch>,
    /// Number of clients whose connections it has, or will have again.
    clients: usize,
    /// Orders of this turn, and empty parcels.
    open: Option<Requests>,
    /// Parcels for which the queue had no room.
    late: VecDeque<Requests>,
    /// Last order for all connections, and the last that was obeyed.
    ordered: u64,
    obeyed: u64,
    /// What was counted so far.
    counted: Counts,
}

impl Served {
    /// The parcel with orders and empty parcels for the thread.
    #[inline]
    fn open(&mut self) -> &mut Parcel<Batch> {
        self.open.get_or_insert_default()
    }

    #[inline]
    fn order(&mut self, order: Order) {
        self.open().orders.push(order);
    }

    /// Sends what there is for the thread.
    fn post(&mut self) {
        if let Some(parcel) = self.open.take() {
            self.late.push_back(parcel);
        }
        let mut posted = false;
        while let Some(parcel) = self.late.pop_front() {
            if let Err(parcel) = self.thread.to.push(parcel) {
                self.late.push_front(parcel);
                break;
            }
            posted = true;
        }
        if posted {
            self.thread.doorbell.ring();
        }
    }
}

/// The I/O threads.
pub(in crate::server) struct IoThreads {
    /// All threads that were started. They never end; those beyond `active` have no clients.
    threads: Vec<Served>,
    /// Number of threads that clients are given to.
    active: usize,
    /// Whether clients must be given to threads anew, because the number changed.
    changed: bool,
    reader: Arc<crate::server::command::Commands>,
    doorbell: Arc<Doorbell>,
    /// Parcels whose connections are here and whose requests have not run, with their threads.
    arrived: VecDeque<(usize, Requests)>,
    visitors: Vec<Visitor>,
    /// The thread whose parcels are taken next.
    next: usize,
    settings: Settings,
}

impl IoThreads {
    /// Whether a parcel waits.
    fn is_idle(&self) -> bool {
        self.arrived.is_empty()
            && self.threads.iter().all(|served| served.thread.from.is_empty() && served.late.is_empty())
    }

    /// Takes the next parcel from a thread.
    #[inline]
    fn take(&mut self) -> Option<(usize, Requests)> {
        for _ in 0..self.threads.len() {
            let from = self.next;
            self.next = if from + 1 < self.threads.len() { from + 1 } else { 0 };
            if let Some(parcel) = self.threads[from].thread.from.pop() {
                return Some((from, parcel));
            }
        }
        None
    }

    /// The thread with the fewest clients.
    fn least_busy(&self) -> usize {
        let active = self.threads[..self.active].iter().enumerate();
        active.min_by_key(|(_, served)| served.clients).map_or(0, |(i, _)| i)
    }
}

/// Figures of one thread for INFO.
#[derive(Clone, Copy, Default, Debug)]
pub struct ThreadFigures {
    /// Number of clients.
    pub clients: usize,
    /// What it counted.
    pub counts: Counts,
}

/// A connection of nobody, in place of one that is away.
fn nobody() -> Box<ClientIo> {
    Box::new(ClientIo { peer: Peer::Internal, input: Input::default(), output: Output::default() })
}

/// Whether a client's connection may be in an I/O thread.
#[inline]
fn may_leave(client: &Client) -> bool {
    !client.flags.has(STAYS) && client.tracking.is_none() && client.withheld_output.is_empty()
}

/// Bytes that count as input of a client besides what is in its buffer.
#[inline]
fn queued(client: &Client) -> usize {
    client.transaction.as_ref().map_or(0, |transaction| transaction.request_bytes())
}

impl Server {
    /// Starts or stops using I/O threads, as the configuration says. Clients are given to them, or taken from them, at
    /// the end of the turn.
    ///
    /// # Errors
    /// The system refuses a thread. Nothing has changed then.
    pub(in crate::server) fn apply_io_threads(&mut self) -> io::Result<()> {
        let wanted = usize::from(self.config.net.io_threads) - 1;
        let Some(poll) = &self.event_loop.poll else { return Ok(()) };
        let (settings, by_slot) = (self.thread_settings(), self.conditions.has(Conditions::CLUSTER));
        if wanted > 0 && self.event_loop.threads.is_none() {
            self.event_loop.threads = Some(Box::new(IoThreads {
                threads: Vec::new(),
                active: 0,
                changed: false,
                reader: Arc::new(self.commands.clone()),
                doorbell: Arc::new(Doorbell::new(poll.waker())),
                arrived: VecDeque::new(),
                visitors: Vec::new(),
                next: 0,
                settings,
            }));
        }
        let Some(threads) = &mut self.event_loop.threads else { return Ok(()) };
        while threads.threads.len() < wanted {
            let number = threads.threads.len() + 1;
            let reader = RequestReader { commands: Arc::clone(&threads.reader), by_slot };
            let thread = Thread::start(number, reader, threads.settings, Arc::clone(&threads.doorbell))?;
            threads.threads.push(Served {
                thread,
                clients: 0,
                open: None,
                late: VecDeque::new(),
                ordered: 0,
                obeyed: 0,
                counted: Counts::default(),
            });
        }
        threads.changed |= threads.active != wanted;
        threads.active = wanted;
        Ok(())
    }

    fn thread_settings(&self) -> Settings {
        Settings {
            max_bulk: self.config.limits.proto_max_bulk_len as usize,
            query_limit: self.config.limits.client_query_buffer as usize,
            keep: self.clients.len() <= super::KEEPERS,
        }
    }

    /// Whether clients are given to I/O threads.
    #[inline]
    pub(in crate::server) fn uses_io_threads(&self) -> bool {
        self.event_loop.threads.as_ref().is_some_and(|threads| threads.active > 0)
    }

    /// Whether the main thread sends replies, because they must be counted or withheld first.
    pub(super) fn sends_itself(&self) -> bool {
        self.event_loop.stop || self.withholds_replies() || self.conditions.has(Conditions::CLIENT_MEMORY)
    }

    /// Whether parcels wait. If not, the loop may sleep, and is woken by the next one.
    #[inline]
    pub(in crate::server) fn parcels_wait(&self) -> bool {
        match &self.event_loop.threads {
            None => false,
            Some(threads) => !threads.doorbell.may_sleep(|| threads.is_idle()),
        }
    }

    /// The loop has slept.
    #[inline]
    pub(in crate::server) fn slept(&self) {
        if let Some(threads) = &self.event_loop.threads {
            threads.doorbell.awake();
        }
    }

    /// Gives a client at home to an I/O thread. If `is_watched`, its socket is in the poll of this thread.
    pub(in crate::server) fn send_out(&mut self, key: ClientKey, is_watched: bool) {
        let Some(threads) = &mut self.event_loop.threads else { return };
        let thread = threads.least_busy();
        let client = &mut self.clients[key];
        client.flags.set(LISTED, false);
        client.flags.set(ClientFlags::AWAY, true);
        client.thread = thread as u16;
        let mut io = std::mem::replace(&mut client.io, nobody());
        if is_watched {
            let _ = self.event_loop.poll.as_ref().expect(WATCHED).registry().deregister(&mut io.peer);
        }
        let (trusted, queued) =
            (self.acl.is_open() || client.flags.has(ClientFlags::AUTHENTICATED), queued(client));
        let served = &mut threads.threads[thread];
        served.clients += 1;
        served.order(Order::Serve { client: key.0, io, is_new: true, trusted, queued });
    }

    /// Whether a client at home may be given to an I/O thread.
    #[inline]
    pub(in crate::server) fn may_go_out(&self, key: ClientKey) -> bool {
        let client = &self.clients[key];
        !client.flags.has(ClientFlags::VISITING.with(ClientFlags::AWAY)) && may_leave(client)
    }

    /// Asks for the connection of a client that is away.
    #[cold]
    pub(in crate::server) fn recall(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        if !client.flags.has(ClientFlags::AWAY) || client.flags.has(ClientFlags::RECALLED) {
            return;
        }
        // Until it comes, nothing can be sent.
        client.flags.set(ClientFlags::RECALLED.with(ClientFlags::AWAITS_WRITABLE), true);
        if let Some(threads) = &mut self.event_loop.threads {
            threads.threads[client.thread as usize].order(Order::Recall { client: key.0 });
        }
    }

    /// Waits until no connection is away. Requests that have arrived with connections run later in this turn.
    ///
    /// An I/O thread obeys within one turn of its own, which is bounded like that of the main thread.
    pub fn summon_all(&mut self) {
        let Some(threads) = &mut self.event_loop.threads else { return };
        for served in threads.threads.iter_mut().filter(|served| served.clients > 0) {
            served.ordered += 1;
            let number = served.ordered;
            served.order(Order::RecallAll { number });
            served.post();
        }
        let mut looks = 0u32;
        loop {
            while self.take_parcel() {}
            let Some(threads) = &mut self.event_loop.threads else { return };
            if threads.threads.iter().all(|served| served.obeyed == served.ordered) {
                return;
            }
            threads.threads.iter_mut().for_each(Served::post);
            looks += 1;
            if looks < 100 {
                std::thread::yield_now();
            } else {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
    }

    /// Takes a parcel from a thread, if one has arrived, and puts its connections in place.
    fn take_parcel(&mut self) -> bool {
        let Some(threads) = &mut self.event_loop.threads else { return false };
        let Some((from, mut parcel)) = threads.take() else { return false };
        threads.threads[from].obeyed = parcel.obeyed;
        for arrival in &parcel.arrivals {
            // What the main thread touches of a connection lies in the cache of another processor.
            let at = std::ptr::from_ref(&*arrival.io).cast::<u8>();
            for line in 0..size_of::<ClientIo>().div_ceil(LINE) {
                prefetch(at.wrapping_add(line * LINE));
            }
        }
        for pending in &parcel.batch.pending {
            self.prefetch_key(pending);
        }
        let now = self.keyspace.now();
        for arrival in &mut parcel.arrivals {
            let key = ClientKey(arrival.client);
            let client = &mut self.clients[key];
            std::mem::swap(&mut client.io, &mut arrival.io);
            client.io.prefetch();
            client.total_in += arrival.received;
            client.total_out += arrival.sent;
            if arrival.received + arrival.sent > 0 {
                client.last_active = now;
            }
            if !arrival.unsent {
                client.over_soft_limit_since = None;
            }
            const EXPECTED: ClientFlags =
                LISTED.with(ClientFlags::AWAITS_WRITABLE).with(ClientFlags::RECALLED);
            let unusual = arrival.unsent || client.flags.has(EXPECTED);
            client.flags.set(ClientFlags::AWAY, false);
            if unusual {
                // What was written meanwhile follows what the connection has.
                if !arrival.io.output.is_empty() {
                    client.io.output.append(&arrival.io.output.take_all(), &mut self.pool);
                }
                client.flags.set(ClientFlags::RECALLED, false);
                client.flags.set(ClientFlags::AWAITS_WRITABLE, arrival.unsent);
            }
            client.flags.set(LISTED.with(ClientFlags::VISITING), true);
        }
        if let Some(threads) = &mut self.event_loop.threads {
            threads.arrived.push_back((from, parcel));
        }
        true
    }

    /// Runs the requests that I/O threads have sent.
    pub(in crate::server) fn serve_threads(&mut self) {
        if self.event_loop.threads.is_none() {
            return;
        }
        loop {
            // While one parcel is executed, the memory for the next one arrives.
            while self.parcels_arrived() < 2 && self.take_parcel() {}
            let Some(threads) = &mut self.event_loop.threads else { return };
            let Some((from, parcel)) = threads.arrived.pop_front() else { return };
            self.run_parcel(from, parcel);
        }
    }

    fn parcels_arrived(&self) -> usize {
        self.event_loop.threads.as_ref().map_or(0, |threads| threads.arrived.len())
    }

    fn run_parcel(&mut self, from: usize, mut parcel: Requests) {
        let Some(threads) = &mut self.event_loop.threads else { return };
        let mut special = Vec::new();
        for arrival in parcel.arrivals.drain(..) {
            let key = ClientKey(arrival.client);
            threads.visitors.push(Visitor { key, empty: arrival.io, listed: false });
            if !matches!(arrival.reason, Reason::Requests) {
                special.push((key, arrival.reason));
            }
        }
        self.run_batch(&mut parcel.batch);
        for (key, reason) in special {
            self.arrived_for(key, reason);
        }
        if let Some(threads) = &mut self.event_loop.threads {
            let served = &mut threads.threads[from];
            match &mut served.open {
                Some(open) => open.empty.push(parcel),
                None => served.open = Some(parcel),
            }
        }
    }

    /// Does what a connection has come for, other than its requests.
    #[cold]
    fn arrived_for(&mut self, key: ClientKey, reason: Reason) {
        if self.clients[key].flags.has(ClientFlags::CLOSING) {
            return;
        }
        let failed = |doing: &str, error: &io::Error| {
            tracing::debug!("{doing} client: {}", crate::net::error_text(error));
        };
        match reason {
            Reason::Requests | Reason::Summoned => {}
            Reason::Grown | Reason::Recalled => self.visit(key),
            Reason::Malformed(ProtocolError::UntrustedCount | ProtocolError::UntrustedLength)
                if self.clients[key].flags.has(ClientFlags::AUTHENTICATED) || self.acl.is_open() =>
            {
                // It has become trusted since its thread was told. The request is in the buffer.
                self.come_home(key);
            }
            Reason::Malformed(error) => {
                self.begin_reply(key);
                self.protocol_error(key, error);
            }
            Reason::InputTooLong => self.query_buffer_exceeded(key),
            Reason::Closed => {
                tracing::debug!("Client closed connection {}", self.client_line(key));
                self.close_soon(key);
            }
            Reason::CannotReceive(error) => {
                failed("Reading from", &error);
                self.close_soon(key);
            }
            Reason::CannotSend(error) => {
                failed("Error writing to", &error);
                self.close_soon(key);
            }
        }
    }

    /// Lists the visitors with output that the main thread is to send itself: all of them, or, while a script runs for long,
    /// those that stay until it ends.
    pub(in crate::server) fn list_visitors(&mut self) {
        if self.event_loop.threads.is_none() {
            return;
        }
        let listed = match (self.sends_itself(), self.conditions.has(Conditions::BUSY)) {
            (true, _) => ClientFlags::VISITING,
            (false, true) => ClientFlags::FROZEN,
            (false, false) => return,
        };
        let Some(threads) = &mut self.event_loop.threads else { return };
        for visitor in threads.visitors.iter_mut().filter(|visitor| !visitor.listed) {
            let Some(client) = self.clients.get_mut(visitor.key) else { continue };
            if client.flags.has(ClientFlags::VISITING) && client.flags.has(listed) {
                visitor.listed = true;
                let writes = !client.io.output.is_empty();
                client.flags.set(ClientFlags::IN_SEND_LIST, writes);
                if writes {
                    self.event_loop.sending.push(visitor.key);
                }
            }
        }
    }

    /// Gives visitors back to their threads, or keeps those that have ceased to be ordinary.
    pub(in crate::server) fn return_visitors(&mut self) {
        let Some(threads) = &mut self.event_loop.threads else { return };
        let mut visitors = std::mem::take(&mut threads.visitors);
        let (open, everybody_moves) = (self.acl.is_open(), threads.changed);
        let mut stay = Vec::new();
        for visitor in visitors.drain(..) {
            let Some(client) = self.clients.get_mut(visitor.key) else { continue };
            if everybody_moves || !may_leave(client) || !client.flags.has(ClientFlags::VISITING) {
                stay.push(visitor);
                continue;
            }
            client.flags.set(LISTED.with(ClientFlags::VISITING), false);
            client.flags.set(ClientFlags::AWAY, true);
            let io = std::mem::replace(&mut client.io, visitor.empty);
            let trusted = open || client.flags.has(ClientFlags::AUTHENTICATED);
            let (client, thread, queued) = (visitor.key.0, client.thread as usize, queued(client));
            let Some(threads) = &mut self.event_loop.threads else { return };
            threads.threads[thread].order(Order::Serve { client, io, is_new: false, trusted, queued });
        }
        if let Some(threads) = &mut self.event_loop.threads {
            threads.visitors = visitors;
        }
        stay.into_iter().for_each(|visitor| self.keep_visitor(visitor));
        if let Some(threads) = &mut self.event_loop.threads
            && threads.visitors.is_empty()
            && threads.arrived.is_empty()
        {
            threads.changed = false;
        }
        self.post_all();
    }

    /// Decides about a visitor that does not return to its thread.
    #[cold]
    fn keep_visitor(&mut self, visitor: Visitor) {
        let key = visitor.key;
        let client = &self.clients[key];
        // It went home already.
        if !client.flags.has(ClientFlags::VISITING) {
            return;
        }
        let waits = client.flags.has(ClientFlags::FROZEN) || !client.withheld_output.is_empty();
        if waits && !client.flags.has(ClientFlags::CLOSING) {
            if let Some(threads) = &mut self.event_loop.threads {
                threads.visitors.push(visitor);
            }
            return;
        }
        self.come_home(key);
    }

    /// Has the main thread watch the socket of a visitor from now on.
    fn come_home(&mut self, key: ClientKey) {
        let Some(threads) = &mut self.event_loop.threads else { return };
        let client = &mut self.clients[key];
        let served = &mut threads.threads[client.thread as usize];
        served.clients -= 1;
        served.order(Order::Forget { client: key.0 });
        client.flags.set(LISTED.with(ClientFlags::VISITING).with(ClientFlags::AWAITS_WRITABLE), false);
        let peer = &mut client.io.peer;
        let _ = served.thread.registry.deregister(peer);
        if client.flags.has(ClientFlags::CLOSE_SOON) {
            return;
        }
        let registry = self.event_loop.poll.as_ref().expect(WATCHED).registry();
        if let Err(error) = registry.register(peer, Source::Client(key.0)) {
            limited!(warn, "Error registering fd event for a client: {error}");
            return self.close_soon(key);
        }
        // Input may be in the buffer, of which no event will tell.
        self.read_soon(key);
        let client = &self.clients[key];
        if !client.io.output.is_empty() || client.flags.has(ClientFlags::CLOSING) {
            self.send_soon(key);
        }
    }

    /// Before the end of a turn: brings all connections here if the number of threads has changed, so that their clients
    /// are given to threads anew, or if the server ends.
    #[inline]
    pub(in crate::server) fn meet_threads(&mut self) {
        if let Some(threads) = &self.event_loop.threads
            && (threads.changed || self.event_loop.stop)
        {
            self.summon_all();
            self.serve_threads();
        }
    }

    /// Sends orders, and the parcels that are empty.
    fn post_all(&mut self) {
        let Some(threads) = &self.event_loop.threads else { return };
        let told = threads.settings;
        let settings = self.thread_settings();
        let Some(threads) = &mut self.event_loop.threads else { return };
        if settings != told {
            threads.settings = settings;
            threads.threads.iter_mut().for_each(|served| served.order(Order::Set(settings)));
        }
        threads.threads.iter_mut().for_each(Served::post);
    }

    /// Whether a client that is to be closed must wait because its connection is not here, or has requests that have not
    /// run. A connection that is away is recalled.
    pub(in crate::server) fn has_to_come(&mut self, key: ClientKey) -> bool {
        if self.clients[key].flags.has(ClientFlags::AWAY) {
            self.recall(key);
            return true;
        }
        self.clients[key].flags.has(ClientFlags::VISITING)
    }

    /// Adds what the threads have counted to the statistics.
    pub fn count_threads(&mut self) {
        let Some(threads) = &mut self.event_loop.threads else { return };
        for served in &mut threads.threads {
            let (now, before) = (served.thread.counters.get(), served.counted);
            served.counted = now;
            let (reads, writes) = (now.reads - before.reads, now.writes - before.writes);
            self.stats.reads += reads;
            self.stats.writes += writes;
            self.stats.threaded_reads += reads;
            self.stats.threaded_writes += writes;
            self.stats.net_input_bytes += now.received - before.received;
            self.stats.net_output_bytes += now.sent - before.sent;
        }
    }

    /// Figures of the threads in use, in order.
    pub fn thread_figures(&self) -> Vec<ThreadFigures> {
        let Some(threads) = &self.event_loop.threads else { return Vec::new() };
        let figures =
            |served: &Served| ThreadFigures { clients: served.clients, counts: served.thread.counters.get() };
        threads.threads[..threads.active].iter().map(figures).collect()
    }
}
