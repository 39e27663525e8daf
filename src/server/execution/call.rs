//! From parsed requests to replies: the only way a command is run.
//!
//! Requests are collected in a [`Batch`], across a client's pipeline and across clients that are
//! ready in the same turn. Before the first is executed, the keys' buckets and then the entries
//! are prefetched for all of them, so that the memory accesses of up to 16 commands overlap
//! instead of following one another. Then they run in order. (The idea is from Valkey 8's
//! prefetching of batches, taken to single-threaded pipelines.) Behind the entries the same is done
//! inside large collections and for long strings, as far as the requests tell what they look for
//! there (`types::prefetch`).
//!
//! Here, and nowhere else, the server is taken apart into what a handler may borrow. The bytes
//! of a request leave their client while it runs, so that arguments borrow a local.

use std::sync::Arc;

use bytes::Bytes;

use crate::clients::{Client, ClientFlags, ClientKey, ReplyMode};
use crate::config::value::PropagationError;
use crate::keyspace::slot::Slot;
use crate::net::threads::Reader;
use crate::resp::request::{Frame, Span};
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{CommandId, Commands, Ctx, Flags, Handler, KeySpec, Seeks, Spec};
use crate::server::event_loop::limits;
use crate::server::execution::admission::{Conditions, MAY_CHANGE, Verdict};
use crate::server::execution::feed::Feed;
use crate::server::execution::users::Permissions;
use crate::server::execution::{Attempt, Origin};
use crate::server::process::crash;
use crate::server::watching::observe::Ran;
use crate::stdx::clock::UnixMillis;
use crate::stdx::hash::{self, Key};
use crate::stdx::text::Lossy;
use crate::structures::sds::Sds;
use crate::types::prefetch::Prefetcher;

/// A string of the keyspace that is being sent without a copy.
struct Lent(Arc<Sds>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Number of commands whose memory accesses overlap. More would evict each other's cache lines before use.
pub const WINDOW: usize = 16;

/// Capacity for arguments that a batch keeps for the next one.
const SPANS_KEPT: usize = 4096;

/// A parsed request of one client.
pub struct Pending {
    /// Client that sent the request.
    pub client: ClientKey,
    /// Command of the request; `None` if it is unknown.
    pub command: Option<CommandId>,
    frame: Frame,
    /// Argument that is the first key, and its hash; 0: none was hashed.
    hashed: u32,
    hash: u64,
}

impl Pending {
    /// The request in `frame`, with its command looked up and its first key hashed. Returns also whether it must be
    /// executed before more is parsed.
    #[inline(always)]
    fn read(
        commands: &Commands,
        by_slot: bool,
        client: ClientKey,
        frame: Frame,
        input: &[u8],
        spans: &[Span],
    ) -> (Pending, bool) {
        let args = Args::new(frame.head(input), frame.spans(spans), frame.large());
        let command = commands.find(args.at(0));
        let (mut hashed, mut hash) = (0, 0);
        if let Some(id) = command
            && let [KeySpec { begin: crate::server::command::Begin::Index(first), .. }, ..] =
                commands.spec(id).keys
            && let Some(key) = args.get(*first as usize)
        {
            hashed = *first as u32;
            hash = hash::hash(key);
            if by_slot {
                hash = Key::with_hash(key, hash).with_note(Slot::of(key).number()).hash();
            }
        }
        const BARRIER: Flags = Flags::BLOCKING.with(Flags::BARRIER);
        let barrier = command.is_some_and(|id| commands.spec(id).flags.has(BARRIER));
        (Pending { client, command, frame, hashed, hash }, barrier)
    }

    /// The arguments, which lie in the client's input and in the spans of the batch.
    #[inline]
    fn args<'a>(&'a self, input: &'a [u8], spans: &'a [Span]) -> Args<'a> {
        Args::new(self.frame.head(input), self.frame.spans(spans), self.frame.large())
            .with_hash(self.hashed, self.hash)
    }
}

/// Requests that are executed together.
#[derive(Default)]
pub struct Batch {
    /// The requests, in order.
    pub pending: Vec<Pending>,
    /// Spans of the arguments of all requests.
    pub spans: Vec<Span>,
}

impl Batch {
    /// Whether the batch must be executed now.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.pending.len() >= WINDOW
    }

    #[inline(always)]
    fn clear(&mut self) {
        self.pending.clear();
        self.spans.clear();
        // The memory of a request with many arguments is not kept.
        self.spans.shrink_to(SPANS_KEPT);
    }
}

/// Turns requests into what is executed, in an I/O thread. It has the command table as it was at the start: names do not
/// change while the server runs.
pub(in crate::server) struct RequestReader {
    pub(in crate::server) commands: Arc<Commands>,
    /// Whether there is a table of keys for each slot.
    pub(in crate::server) by_slot: bool,
}

impl Reader for RequestReader {
    type Batch = Batch;

    #[inline]
    fn spans(batch: &mut Batch) -> &mut Vec<Span> {
        &mut batch.spans
    }

    #[inline]
    fn len(batch: &Batch) -> usize {
        batch.pending.len()
    }

    #[inline]
    fn add(&self, batch: &mut Batch, client: usize, frame: Frame, input: &[u8]) -> bool {
        let client = ClientKey(client);
        let (pending, barrier) =
            Pending::read(&self.commands, self.by_slot, client, frame, input, &batch.spans);
        batch.pending.push(pending);
        barrier
    }
}

impl Server {
    /// Adds a parsed request to the batch; whether the batch must be executed before more is parsed.
    #[inline(always)]
    pub fn enqueue(&mut self, batch: &mut Batch, client: ClientKey, frame: Frame) -> bool {
        let Client { io, db, .. } = &mut self.clients[client];
        let large = frame.large();
        if !large.is_empty() {
            io.input.count_borrowed_large(large.iter().map(|string| string.allocated_bytes()).sum());
        }
        let by_slot = self.conditions.has(Conditions::CLUSTER);
        let (pending, barrier) =
            Pending::read(&self.commands, by_slot, client, frame, &io.input.buf, &batch.spans);
        if pending.hashed != 0 {
            self.keyspace.databases()[*db as usize].prefetch_bucket(pending.hash);
        }
        batch.pending.push(pending);
        barrier
    }

    /// Prefetches for all requests inside the collections at their keys, one step each in turn.
    fn look_ahead(&self, window: &[Pending], spans: &[Span]) {
        let mut scouts = [const { None }; WINDOW];
        let mut n = 0;
        for pending in window {
            let Some(spec) = pending.command.map(|id| self.commands.spec(id)) else { continue };
            let worthwhile = match spec.seeks {
                Seeks::Nothing => false,
                Seeks::LongString => self.execution.lends,
                _ => true,
            };
            if !worthwhile || pending.hashed == 0 {
                continue;
            }
            let client = &self.clients[pending.client];
            let args = pending.args(&client.io.input.buf, spans);
            let db = &self.keyspace.databases()[client.db as usize];
            if let Some(aim) = spec.aim(&args)
                && let Some(scout) = db.prefetcher(args.key(pending.hashed as usize), aim)
                && let Some(place) = scouts.get_mut(n)
            {
                *place = Some(scout);
                n += 1;
            }
        }
        while n > 0 {
            for i in (0..n).rev() {
                if !scouts[i].as_mut().is_some_and(Prefetcher::step) {
                    n -= 1;
                    scouts.swap(i, n);
                }
            }
        }
    }

    /// Begins to prefetch the key of a request that will run soon.
    #[inline]
    pub(in crate::server) fn prefetch_key(&self, pending: &Pending) {
        if pending.hashed != 0 {
            let db = self.clients[pending.client].db as usize;
            self.keyspace.databases()[db].prefetch_bucket(pending.hash);
        }
    }

    /// Prefetches the entries of the keys of requests, whose buckets are in the cache, where there is a table for each slot.
    #[inline(never)]
    fn prefetch_in_slots(&self, window: &[Pending]) {
        let Some(first) = window.first() else { return };
        let tables_of = |client| {
            let db = self.clients[client].db as usize;
            self.keyspace.databases()[db].keys().slot_tables()
        };
        // Nearly all requests of a window are often one client's.
        let (mut client, mut tables) = (first.client, tables_of(first.client));
        for pending in window {
            if pending.client != client {
                (client, tables) = (pending.client, tables_of(pending.client));
            }
            tables.prefetch_entry(pending.hash);
        }
    }

    /// Executes all requests of the batch, in order, and empties it.
    pub fn run_batch(&mut self, batch: &mut Batch) {
        for window in batch.pending.chunks(WINDOW) {
            self.run_window(window, &batch.spans);
        }
        batch.clear();
    }

    /// Executes requests in order, at most as many as overlap.
    #[inline(always)]
    fn run_window(&mut self, window: &[Pending], spans: &[Span]) {
        if window.len() > 1 {
            if self.conditions.has(Conditions::CLUSTER) {
                self.prefetch_in_slots(window);
            } else {
                // Nearly all requests of a window are often one client's.
                let database_of = |client| &self.keyspace.databases()[self.clients[client].db as usize];
                let (mut client, mut database) = (window[0].client, database_of(window[0].client));
                for pending in window {
                    if pending.client != client {
                        (client, database) = (pending.client, database_of(pending.client));
                    }
                    if pending.hashed != 0 {
                        database.prefetch_entry(pending.hash);
                    }
                }
            }
            self.look_ahead(window, spans);
        }
        self.execution.lends = false;
        // The time of receiving and parsing does not count for the first command.
        self.execution.command_started = self.event_loop.stopwatch.now();
        let mut at = 0;
        while at < window.len() {
            let key = window[at].client;
            let input = self.clients[key].io.input.take_buf();
            while let Some(pending) = window.get(at).filter(|p| p.client == key) {
                at += 1;
                // Requests after a command that ended the loop would be answered and lost.
                let flags = self.clients[key].flags;
                if self.event_loop.stop || flags.has(ClientFlags::CLOSING) {
                    continue;
                }
                let args = pending.args(&input, spans);
                // Requests after a paused one must wait behind it.
                if flags.has(ClientFlags::PAUSED) {
                    self.pause_request(key, pending.command, &args);
                    continue;
                }
                crash::while_running(key, &args, || self.execute(key, pending.command, &args));
            }
            self.clients[key].io.input.return_buf(input);
            self.count_client(key);
        }
    }

    /// Runs one request of a client, or replies with the reason why it cannot run.
    #[inline(always)]
    pub fn execute(&mut self, key: ClientKey, command: Option<CommandId>, args: &Args<'_>) {
        let client = &mut self.clients[key];
        client.commands += 1;
        self.begin_reply(key);
        let flags = match self.resolve(command, args) {
            Err(error) => {
                if command.is_none() && self.came_through_a_browser(key, args) {
                    return;
                }
                let meant = command.and_then(|id| self.commands.meant(id, args));
                self.clients[key].last_command = meant.map(|id| id.0);
                self.answer(key, |server| server.reject(key, meant, args, error));
                Flags::NONE
            }
            Ok((id, spec)) => {
                self.clients[key].last_command = Some(id.0);
                let before = self.withholds_replies().then(|| {
                    let client = &self.clients[key];
                    (client.output_end(), client.io.output.pending() == 0)
                });
                self.admit(key, id, spec, args);
                if let Some(before) = before {
                    self.vouch(key, spec, args, before);
                }
                spec.flags
            }
        };
        if self.execution.unit_pending {
            // Keys that such a command found to be due have nothing to do with each other.
            self.pass_on_unit(flags.has(Flags::TOUCHES_ARBITRARY_KEYS));
            self.clients[key].last_write = self.replication.offset();
        }
        const LOOKED_AFTER: ClientFlags =
            ClientFlags::CHOSE_CACHING.with(ClientFlags::REPLICA).with(ClientFlags::ASKING);
        if self.clients[key].flags.has(LOOKED_AFTER) {
            self.look_after(key, flags);
        }
        self.written(key);
        if self.clients.blocking.any_ready() {
            self.serve_blocked();
        }
    }

    /// Does what follows from a request of a client that chose what it caches or was sent by another node, or of a
    /// replica.
    #[cold]
    fn look_after(&mut self, key: ClientKey, flags: Flags) {
        if self.clients[key].flags.has(ClientFlags::CHOSE_CACHING) {
            self.used_caching(key, flags.has(Flags::KEEPS_CACHING));
        }
        if !flags.has(Flags::KEEPS_ASKING) && !self.clients[key].flags.has(ClientFlags::IN_MULTI) {
            self.clients[key].flags.set(ClientFlags::ASKING, false);
        }
        if self.clients[key].flags.has(ClientFlags::REPLICA) {
            self.check_silence(key);
        }
    }

    /// Runs a command if admission allows it, otherwise replies with the reason.
    #[inline(always)]
    pub(in crate::server) fn admit(
        &mut self,
        key: ClientKey,
        id: CommandId,
        spec: &'static Spec,
        args: &Args<'_>,
    ) {
        let conditions = Conditions::of(&self.clients[key]).with(self.conditions);
        let held_by = conditions.and(self.blocked_by[id.0 as usize]);
        if held_by.is_empty()
            || (held_by == Conditions::CLUSTER_ONE_KEY && self.is_at_home(args))
            || self.passes(key, id, spec, args)
        {
            self.answer(key, |server| server.call(key, id, spec, args));
        }
    }

    /// Whether a command blocked by a condition may run nevertheless. If not, its client has its reply, or will get
    /// it later.
    #[cold]
    fn passes(&mut self, key: ClientKey, id: CommandId, spec: &'static Spec, args: &Args<'_>) -> bool {
        if self.conditions.has(Conditions::SERVING) {
            self.serve_rest_before(spec, args);
        }
        match self.walk_gates(key, id, spec, args) {
            Verdict::Run => return true,
            Verdict::Refuse(error) => self.answer(key, |server| server.reject(key, Some(id), args, error)),
            Verdict::Redirect(error) => self.answer(key, |server| server.redirect(key, id, error)),
            Verdict::Queue => self.answer(key, |server| server.queue(key, id, args)),
            Verdict::Pause => self.pause_request(key, Some(id), args),
            Verdict::Drop => {}
        }
        false
    }

    /// Runs `write` to answer a client's request, if the client wants replies. Messages to the client caused by the
    /// request follow the reply.
    #[inline(always)]
    pub(in crate::server) fn answer(&mut self, key: ClientKey, write: impl FnOnce(&mut Server)) {
        let client = &mut self.clients[key];
        let mode = client.reply_mode;
        if matches!(mode, ReplyMode::Off | ReplyMode::Skip) {
            client.io.output.mute();
        }
        let outer = self.begin_answer(key);
        write(self);
        if self.clients[key].reply_mode != ReplyMode::On || mode != ReplyMode::On {
            self.end_silence(key);
        }
        self.end_answer(outer);
    }

    /// Counts a command that ended with an error.
    #[cold]
    fn failed(&mut self, key: ClientKey, id: CommandId, error: &Error) {
        if self.execution.origin.counts_statistics() {
            self.stats.commands[id.0 as usize].failed += 1;
        }
        self.refuse(key, error);
    }

    /// Ends the effect of CLIENT REPLY SKIP after a reply.
    #[cold]
    fn end_silence(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        client.io.output.unmute();
        // A client that waits, or waits on, will be answered another time.
        let waits = client.flags.has(ClientFlags::BLOCKED) || self.execution.stays_blocked();
        client.reply_mode = match client.reply_mode {
            ReplyMode::SkipNext if !waits => ReplyMode::Skip,
            ReplyMode::Skip if !waits => ReplyMode::On,
            mode => mode,
        };
    }

    /// Prepares a client's output for a reply, with its limit.
    #[inline(always)]
    pub(in crate::server) fn begin_reply(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        let limit = limits::output_ceiling(&self.config, client);
        client.io.output.begin(&mut self.pool, limit);
    }

    /// Replies with the reason why a request does not run; a transaction that it was meant for will not run either.
    #[cold]
    fn reject(&mut self, key: ClientKey, command: Option<CommandId>, args: &Args<'_>, mut error: Error) {
        if self.execution.origin.admits_everything() {
            return self.refuse(key, &error);
        }
        if let Some(id) = command {
            self.stats.commands[id.0 as usize].rejected += 1;
            let spec = self.commands.spec(id);
            if spec.flags.has(Flags::ENDS_MULTI) {
                self.end_transaction(key);
                // Monitors that saw the transaction begin also see it end.
                if !self.clients.monitors.is_empty() {
                    self.feed_monitors(key, spec, args);
                }
                let text = error.as_bytes();
                let reason = text.strip_prefix(b"ERR ").unwrap_or(text);
                error = Error::quoting(&[b"EXECABORT Transaction discarded because of: ", reason]);
            }
        }
        self.clients[key].break_transaction();
        self.refuse(key, &error);
    }

    /// Sends a client elsewhere. A transaction that the request was meant for, or ends, will not run.
    #[cold]
    fn redirect(&mut self, key: ClientKey, id: CommandId, error: Error) {
        self.stats.commands[id.0 as usize].rejected += 1;
        if self.commands.spec(id).flags.has(Flags::ENDS_MULTI) {
            self.end_transaction(key);
        }
        self.clients[key].break_transaction();
        self.refuse(key, &error);
    }

    #[cold]
    pub(in crate::server) fn refuse(&mut self, key: ClientKey, error: &Error) {
        self.stats.error(error.code());
        if self.scripts.is_client(key) {
            // The script says what it makes of the error.
            self.reply(key).error(error);
            return;
        }
        if self.execution.origin.repeats() {
            self.unexpected_error(key, error);
        } else if self.clients[key].flags.has(ClientFlags::REPLICA) {
            self.warn_of_error("master", "replica", key, error);
        }
        match self.execution.origin {
            Origin::Loading => self.persistence.load_error(self.clients[key].commands, error),
            Origin::Client | Origin::Primary | Origin::Script | Origin::Own | Origin::Import => {
                self.reply(key).error(error);
            }
        }
    }

    /// Counts an error of a request that ran before, here or at the primary: the data may differ from then. The
    /// configuration says whether the server goes on.
    ///
    /// # Panics
    /// If `propagation-error-behavior` says so.
    fn unexpected_error(&mut self, key: ClientKey, error: &Error) {
        self.stats.unexpected_errors += 1;
        let origin = self.execution.origin;
        if origin == Origin::Import {
            self.warn_of_error("slot-import-target", "slot-import-source", key, error);
            self.import_failed(
                key,
                "Failed to process command during slot migration. Check logs for more information",
            );
            return;
        }
        let options = &self.config.replication;
        // The data of a writable replica differ from its primary's by what its own clients write.
        let expected = origin == Origin::Primary && !options.read_only;
        let goes_on = match options.propagation_error_behavior {
            PropagationError::Ignore => true,
            PropagationError::PanicOnReplicas => origin != Origin::Primary || expected,
            PropagationError::Panic => expected,
        };
        let (us, asks) = match origin {
            Origin::Primary => ("replica", "master"),
            _ => ("server", "AOF-loading-client"),
        };
        if origin == Origin::Primary || !goes_on {
            self.warn_of_error(us, asks, key, error);
        }
        if !goes_on {
            let command = self.last_command_name(key).unwrap_or("<unknown>");
            panic!(
                "This {us} panicked sending an error to its {asks} after processing the command '{command}'"
            );
        }
    }

    /// Logs an error that goes to where none is expected.
    fn warn_of_error(&self, us: &str, asks: &str, key: ClientKey, error: &Error) {
        tracing::warn!(
            "== CRITICAL == This {us} is sending an error to its {asks}: '-{}' after processing the command '{}'",
            Lossy(error.as_bytes()),
            self.last_command_name(key).unwrap_or("<unknown>")
        );
    }

    /// The full name of the last command of a client.
    pub(in crate::server) fn last_command_name(&self, key: ClientKey) -> Option<&'static str> {
        self.clients[key].last_command.map(|id| self.commands.spec(CommandId(id)).name)
    }

    /// Runs an admitted command: the handler, time measurement, and propagation.
    pub(in crate::server) fn call(
        &mut self,
        key: ClientKey,
        id: CommandId,
        spec: &'static Spec,
        args: &Args<'_>,
    ) {
        let started = self.execution.command_started;
        let client = &self.clients[key];
        let (db, waiting_before) = (client.db, client.io.output.pending());
        // The propagation chosen by one command must not apply to the next.
        let heard = self.keyspace.ledger.listeners.feeds();
        self.execution.feed = if heard { Feed::AsReceived } else { Feed::Unheard };
        let (mut wait, mut lent) = (None, None);
        let made = self.keyspace.ledger.made;
        let result = match spec.handler {
            Handler::Data(handler) => {
                let client = &mut self.clients[key];
                let before = client.io.output.position();
                let now = self.keyspace.now();
                let limited = client.flags.has(ClientFlags::LIMITED_USER);
                let permissions = limited.then(|| Permissions::new(&self.acl, client.user, id, spec));
                let mut ctx = Ctx {
                    args: *args,
                    db: self.keyspace.db(db as usize).without_touch(client.flags.has(ClientFlags::NO_TOUCH)),
                    reply: client.io.output.reply(client.protocol),
                    limits: &self.config.limits,
                    feed: &mut self.execution.feed,
                    name: spec.name,
                    now,
                    from_script: self.execution.origin == Origin::Script,
                    permissions,
                    wait: &mut wait,
                    lent: &mut lent,
                };
                let result = handler(&mut ctx);
                if result.is_err() {
                    ctx.reply.truncate(before);
                }
                if let Some(text) = lent {
                    self.execution.lends = true;
                    client.io.output.append_shared(Bytes::from_owner(Lent(text)));
                    client.io.output.append(b"\r\n", &mut self.pool);
                }
                result
            }
            Handler::Admin(handler) => {
                let result = handler(self, key, *args);
                wait = self.execution.wait.take();
                result
            }
            Handler::Container | Handler::Absent => Err(Error::arity(spec.name)),
        };
        if let Err(error) = result {
            self.failed(key, id, &error);
        }
        let blocked = wait.is_some_and(|wait| self.block(key, id, args, wait));
        // Only what is meant to change data is passed on: other commands that touch them, as those that load a file
        // do, leave behind what a file has.
        let changed = self.keyspace.ledger.made != made && spec.flags.has(MAY_CHANGE);
        self.propagate(db, args, changed);
        if !self.clients.monitors.is_empty()
            && self.execution.attempt == Attempt::First
            && self.persistence.loading.is_none()
        {
            self.feed_monitors(key, spec, args);
        }
        let client = &self.clients[key];
        let reply = client.io.output.pending().saturating_sub(waiting_before);
        if client.flags.has(ClientFlags::TRACKS_READS.with(ClientFlags::INTERNAL)) {
            if !self.execution.origin.counts_statistics() {
                return;
            }
            self.remember_keys(key, spec, args);
        }
        let end = self.event_loop.stopwatch.now();
        let spent = self.event_loop.stopwatch.ns(started, end);
        self.execution.command_started = end;
        if blocked {
            // A blocked command is counted when it is unblocked.
            if let Some(blocked) = &mut self.clients[key].blocked {
                blocked.spent_ns = spent;
            }
            return;
        }
        self.stats.commands_processed += 1;
        let track = self.config.logs.latency_tracking;
        self.stats.commands[id.0 as usize].called(spent, track);
        self.observe(key, spec, args, Ran { ns: spent, reply });
        // The clock that commands go by moves on once it is noticeably late, but stands still inside a transaction.
        if spent > 500_000 && self.execution.depth == 0 {
            self.keyspace.set_now(UnixMillis::now());
        }
    }
}
