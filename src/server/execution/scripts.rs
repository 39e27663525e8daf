//! Scripts and functions at work: what may run, what their commands may do, and where their replies go.
//!
//! A script runs inside the command that calls it, as the commands of a transaction do: time stands still, and what its
//! commands pass on is one unit. Its commands are run by a client that is nobody, with the database and the user of the
//! caller, and take the way of all commands from `call` on. Before that they pass a gate of their own ([`ScriptHost`]):
//! the script was admitted as a whole, so that the gates of single requests do not apply.
//!
//! While a script runs, the engine is out of the server's hands: nothing that the script calls can change what is being
//! executed.

use std::time::Duration;

use crate::acl::{Context, Denied};
use crate::clients::{ClientFlags, ClientKey};
use crate::cluster::slot::Slot;
use crate::keyspace::Sink as FedSink;
use crate::resp::{Args, Error, Protocol, Replied, Reply};
use crate::scripting::{
    Engine, Flags as Declared, FunctionId, Host, Limits, LogLevel, Outcome, Repl, Script, Sink, Verdict,
};
use crate::server::Server;
use crate::server::command::{Acl, CmdResult, CommandId, Flags, Spec};
use crate::server::execution::Origin;
use crate::server::execution::admission::{Conditions, MAY_CHANGE};
use crate::server::execution::users::denial;
use crate::server::process::version::REDIS_VERSION;
use crate::stdx::alloc::relocation::Relocator;
use crate::stdx::stopwatch::Ticks;
use crate::stdx::text::Lossy;
use bytes::Bytes;

/// Bytes of a reply up to which it is copied into the caller's output.
const COPIED: usize = 16 << 10;

/// What runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// A script of the cache.
    Script(Script),
    /// A function of a library.
    Function(FunctionId),
}

/// A request to run something.
#[derive(Clone, Copy)]
pub struct Invocation<'a> {
    /// All arguments of the request.
    pub args: Args<'a>,
    /// The keys among them.
    pub keys: Args<'a>,
    /// The other arguments.
    pub argv: Args<'a>,
    /// Whether the command promises that nothing is written.
    pub read_only: bool,
    /// Whether the caller's debugger goes along.
    pub debug: bool,
}

/// The script that runs.
#[derive(Debug)]
pub struct Running {
    /// Whose request runs it.
    pub caller: ClientKey,
    /// Whether it is a function.
    pub is_function: bool,
    /// Whether one of its commands was one that writes.
    pub wrote: bool,
    /// In a cluster: the slot of the keys that were declared or used first.
    slot: Option<Slot>,
    /// Whether somebody wants it to end.
    killed: bool,
    /// What others are told of it, once it has run for long.
    pub slow: Option<Slow>,
}

/// A script that keeps others waiting.
#[derive(Debug)]
pub struct Slow {
    /// Name of the function.
    pub name: Vec<u8>,
    /// The request.
    pub request: Vec<Vec<u8>>,
    /// When it began.
    began: Ticks,
}

/// What scripts and libraries take.
#[derive(Clone, Copy, Default, Debug)]
pub struct Figures {
    /// Bytes of the Lua heap.
    pub heap: usize,
    /// Bytes of scripts beside the heap.
    pub scripts_bytes: usize,
    /// Bytes of libraries beside the heap.
    pub libraries_bytes: usize,
    /// Number of scripts in the cache.
    pub scripts: usize,
    /// Number of libraries.
    pub libraries: usize,
    /// Number of functions.
    pub functions: usize,
    /// Scripts that made room for others.
    pub evicted: u64,
}

/// The engine, and what runs in it.
#[derive(Default)]
pub struct Scripts {
    /// What scripts are told as the version of Redis, if not the usual one.
    version: Option<&'static str>,
    /// `None` before the first use, and while a script runs.
    engine: Option<Box<Engine>>,
    /// The client that runs the commands of scripts.
    client: Option<ClientKey>,
    /// The script that runs.
    running: Option<Running>,
    /// Whether `running` has kept others waiting: they are served meanwhile.
    is_slow: bool,
    /// Memory was short when the request was admitted that runs a script.
    pub(in crate::server) memory_is_short: bool,
    /// What the engine said before the running script took it.
    figures: Figures,
    /// Buffer for replies.
    reply: Vec<u8>,
    /// Scripts may call any command (`DEBUG SET-DISABLE-DENY-SCRIPTS`).
    pub any_command: bool,
}

impl Scripts {
    /// No scripts yet; those to come are told that this is the version of Redis.
    pub fn new(version: &'static str) -> Scripts {
        Scripts { version: Some(version), ..Scripts::default() }
    }

    /// The engine. It comes into being when it is first asked for.
    ///
    /// # Panics
    /// When a script runs: what asks for the engine is refused before; see [`Scripts::refuse_while_running`].
    #[inline]
    pub fn engine(&mut self) -> &mut Engine {
        assert!(self.running.is_none(), "commands about scripts cannot be called by scripts");
        self.engine.get_or_insert_with(|| {
            Box::new(Engine::new(Limits::default(), self.version.unwrap_or(REDIS_VERSION)))
        })
    }

    /// Refuses while a script runs: what needs the libraries of functions, which the engine has, must wait.
    ///
    /// # Errors
    /// A script runs.
    pub fn refuse_while_running(&self) -> Result<(), Error> {
        if self.running.is_some() { Err(not_from_script()) } else { Ok(()) }
    }

    /// The engine, if anything has asked for it yet and no script runs.
    pub fn idle_engine(&self) -> Option<&Engine> {
        self.engine.as_deref()
    }

    /// Moves the texts of some scripts to where memory is denser: see [`Engine::relocate`]. None while a script runs.
    pub(in crate::server) fn relocate(
        &mut self,
        by: &mut Relocator,
        from: usize,
        most: usize,
    ) -> Option<usize> {
        self.engine.as_mut()?.relocate(by, from, most)
    }

    /// Deletes all libraries: they come from a file that is about to be loaded.
    pub fn forget_libraries(&mut self) {
        if self.engine.is_some() {
            self.engine().flush_libraries();
        }
    }

    /// Notes what can be told while a script runs. O(1).
    #[inline]
    fn note_figures(&mut self, engine: &Engine) {
        let (libraries, functions) = engine.libraries().counts();
        let scripts = engine.scripts();
        self.figures = Figures {
            heap: engine.heap(),
            scripts: scripts.len(),
            evicted: scripts.evicted,
            libraries,
            functions,
            ..self.figures
        };
    }

    /// The script that runs.
    pub fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// Whether `key` is the client that runs the commands of scripts.
    #[inline]
    pub fn is_client(&self, key: ClientKey) -> bool {
        self.client == Some(key)
    }

    /// Whether the running script has used keys of no other slot. If it has used none, its first slot is noted.
    pub(in crate::server) fn stays_in(&mut self, slot: Slot) -> bool {
        let running = self.running.as_mut();
        running.is_none_or(|running| *running.slot.get_or_insert(slot) == slot)
    }

    /// What scripts and libraries take; while a script runs: what they took before. O(libraries).
    pub fn figures(&self) -> Figures {
        self.engine.as_deref().map_or(self.figures, measure)
    }
}

fn measure(engine: &Engine) -> Figures {
    let (libraries, functions) = engine.libraries().counts();
    Figures {
        heap: engine.heap(),
        scripts_bytes: engine.scripts().memory(),
        libraries_bytes: engine.libraries().memory(),
        scripts: engine.scripts().len(),
        libraries,
        functions,
        evicted: engine.scripts().evicted,
    }
}

impl Running {
    /// Milliseconds that it runs, if it has kept others waiting.
    pub fn lasts_ms(&self, server: &Server) -> u64 {
        let watch = &server.event_loop.stopwatch;
        self.slow.as_ref().map_or(0, |slow| watch.ns(slow.began, watch.now()) / 1_000_000)
    }
}

impl Server {
    /// Runs a script or function for a client, and replies with what it returns.
    ///
    /// # Errors
    /// It may not run now, or not by this command.
    pub fn run_program(&mut self, key: ClientKey, program: Program, call: Invocation<'_>) -> CmdResult {
        let engine = self.scripts.engine();
        let declared = match program {
            Program::Script(script) => engine.flags(script),
            Program::Function(function) => {
                engine.libraries().function(function).map(|function| function.flags).unwrap_or_default()
            }
        };
        let free = self.execution.origin.admits_everything();
        let short = self.conditions.has(Conditions::MAXMEMORY) && self.scripts.memory_is_short && !free;
        if !declared.undeclared {
            self.may_begin(declared, call.read_only, short && !free)?;
        }
        let mut engine = self.scripts.engine.take().expect("it was just asked for");
        self.scripts.note_figures(&engine);
        let client = self.client_for_scripts(key);
        self.scripts.running = Some(Running {
            caller: key,
            is_function: matches!(program, Program::Function(_)),
            wrote: false,
            slot: self.cluster.as_ref().and_then(|_| call.keys.get(0)).map(Slot::of),
            killed: false,
            slow: None,
        });
        let mut out = std::mem::take(&mut self.scripts.reply);
        let mut reply = Reply::new(&mut out, self.clients[key].protocol);
        let limited = self.clients[client].flags.has(ClientFlags::LIMITED_USER);
        let stale = self.conditions.has(Conditions::STALE) && !free;
        let read_only = call.read_only || declared.no_writes;
        let origin = if free { self.execution.origin } else { Origin::Script };
        let outcome = self.nested(origin, |server| {
            let mut asks = Flags::NOSCRIPT.with(MAY_CHANGE);
            asks.set(Flags::DENYOOM, short && declared.undeclared);
            let began = server.execution.command_started;
            let slow_after_ms = server.config.general.busy_reply_threshold_ms;
            let cluster = server.conditions.has(Conditions::CLUSTER) && !free;
            let mut host = ScriptHost {
                server,
                client,
                asks,
                limited,
                stale,
                cluster,
                allow_cross_slot: declared.undeclared || declared.allow_cross_slot_keys,
                read_only,
                short: short && declared.undeclared,
                began,
                slow_after_ns: slow_after_ms.saturating_mul(1_000_000),
                call,
                program,
            };
            let outcome = match program {
                Program::Script(script) if call.debug => {
                    engine.debug(script, call.keys, call.argv, &mut host, &mut reply)
                }
                Program::Script(script) => engine.run(script, call.keys, call.argv, &mut host, &mut reply),
                Program::Function(function) => {
                    engine.run_function(function, call.keys, call.argv, &mut host, &mut reply)
                }
            };
            server.execution.withheld_from = 0;
            outcome
        });
        self.scripts.engine = Some(engine);
        self.scripts.running = None;
        if std::mem::take(&mut self.scripts.is_slow) {
            self.end_slow_script(key);
        }
        // What its commands did is passed on; the script is not.
        self.execution.feed.nothing();
        if outcome.failed {
            self.script_failed(key, &call.args, outcome, &out);
        }
        Ok(self.give_reply(key, out))
    }

    /// Puts what a script replied into the output of its caller.
    #[inline]
    fn give_reply(&mut self, key: ClientKey, mut out: Vec<u8>) -> Replied {
        let mut reply = self.reply(key);
        if out.len() <= COPIED {
            let replied = reply.raw(&out);
            out.clear();
            self.scripts.reply = out;
            return replied;
        }
        self.clients[key].io.output.append_shared(Bytes::from(out));
        Replied::later()
    }

    /// Counts a script that ended with an error.
    #[cold]
    fn script_failed(&mut self, key: ClientKey, args: &Args<'_>, outcome: Outcome, reply: &[u8]) {
        if !self.execution.origin.counts_statistics() {
            let line = reply.strip_prefix(b"-").unwrap_or(reply);
            let error = Error::quoting(&[line.trim_ascii_end()]);
            return self.persistence.load_error(self.clients[key].commands, &error);
        }
        if let Some(id) = self.commands.find(args.at(0)) {
            self.stats.commands[id.0 as usize].failed += 1;
        }
        if !outcome.counted {
            let line = reply.strip_prefix(b"-").unwrap_or(reply);
            let end = line.iter().position(|b| matches!(b, b' ' | b'\r')).unwrap_or(line.len());
            self.stats.error(&line[..end]);
        }
    }

    /// Checks what a script declares against what is possible now.
    fn may_begin(&mut self, declared: Declared, read_only: bool, short: bool) -> Result<(), Error> {
        if declared.no_cluster && self.cluster.is_some() {
            return Err(Error::text("ERR Can not run script on cluster, 'no-cluster' flag is set."));
        }
        if !declared.no_writes {
            if read_only {
                return Err(Error::text("ERR Can not execute a script with write flag using *_ro command."));
            }
            self.may_write()?;
            if short && !declared.allow_oom {
                return Err(Error::text(
                    "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
                ));
            }
        }
        Ok(())
    }

    /// Whether a script may write now.
    ///
    /// # Errors
    /// The data are a copy, cannot be saved, or have too few copies.
    fn may_write(&self) -> Result<(), Error> {
        if self.execution.origin.admits_everything() {
            return Ok(());
        }
        if self.conditions.has(Conditions::READONLY_REPLICA) {
            return Err(self.role_refuses(false));
        }
        if self.conditions.has(Conditions::DISK_ERROR) {
            return Err(self.cannot_save());
        }
        if self.conditions.has(Conditions::FEW_REPLICAS) {
            return Err(self.too_few_replicas());
        }
        Ok(())
    }

    /// The flags of a command, by which it is admitted. Those of a command that runs a script are what the script
    /// declares, if it declares anything.
    pub(in crate::server) fn flags_of(&self, spec: &Spec, args: &Args<'_>) -> Flags {
        let Some(declares) = spec.declares else { return spec.flags };
        let engine = self.scripts.idle_engine();
        let Some(declared) = declares(engine, args) else { return spec.flags };
        let mut flags = spec.flags;
        flags.set(Flags::STALE, declared.allow_stale);
        if declared.undeclared {
            return flags;
        }
        flags.set(Flags::WRITE, !declared.no_writes);
        flags.set(Flags::DENYOOM, !declared.no_writes && !declared.allow_oom);
        flags.set(Flags::MAY_REPLICATE, false);
        flags
    }

    /// The client that runs the commands of scripts, with what counts about the caller.
    #[inline]
    fn client_for_scripts(&mut self, caller: ClientKey) -> ClientKey {
        let key = match self.scripts.client {
            Some(key) => key,
            None => self.make_client_for_scripts(),
        };
        const INHERITED: ClientFlags = ClientFlags::LIMITED_USER
            .with(ClientFlags::NO_TOUCH)
            .with(ClientFlags::PRIMARY)
            .with(ClientFlags::ASKING)
            .with(ClientFlags::READS_COPIES);
        let from = &self.clients[caller];
        let (db, user, flags) = (from.db, from.user, from.flags.and(INHERITED));
        let client = &mut self.clients[key];
        client.db = db;
        client.user = user;
        client.flags.set(INHERITED, false);
        client.flags.set(flags, true);
        key
    }

    #[cold]
    fn make_client_for_scripts(&mut self) -> ClientKey {
        let key = self.clients.insert_internal(self.keyspace.now());
        self.scripts.client = Some(key);
        key
    }

    /// The client on whose behalf `key` runs commands: the caller of the script, or itself.
    #[inline]
    pub(in crate::server) fn on_behalf_of(&self, key: ClientKey) -> ClientKey {
        match &self.scripts.running {
            Some(running) if self.scripts.is_client(key) => running.caller,
            _ => key,
        }
    }

    /// Ends the script that runs, as soon as it can be interrupted.
    ///
    /// # Errors
    /// None runs, or it has written.
    pub fn kill_script(&mut self, functions: bool) -> Result<(), Error> {
        let Some(running) = &mut self.scripts.running else {
            return Err(Error::text("NOTBUSY No scripts in execution right now."));
        };
        if running.wrote {
            return Err(Error::text(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either \
                 wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
            ));
        }
        if running.is_function != functions {
            return Err(self.busy_error());
        }
        running.killed = true;
        Ok(())
    }

    /// What others are told while a script keeps them waiting.
    pub(in crate::server) fn busy_error(&self) -> Error {
        let is_function = self.scripts.running.as_ref().is_some_and(|running| running.is_function);
        Error::text(if is_function {
            "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
        } else {
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
        })
    }

    /// The error for a shutdown that would save the data while a script is changing them.
    ///
    /// # Errors
    /// A script runs.
    pub fn no_script_runs(&self) -> Result<(), Error> {
        if self.scripts.running.is_some() { Err(self.busy_error()) } else { Ok(()) }
    }

    /// The running script has kept others waiting for too long: from now on they are served now and then.
    #[cold]
    fn begin_slow_script(&mut self, program: Program, began: Ticks, lasted_ns: u64, call: &Invocation<'_>) {
        let (kind, name) = match program {
            Program::Script(_) => ("SCRIPT", &b"script"[..]),
            Program::Function(_) => ("FUNCTION", call.args.at(1)),
        };
        tracing::warn!(
            "Slow script detected: still in execution after {} milliseconds. You can try killing the script using the \
             {kind} KILL command. Script name is: {}.",
            lasted_ns / 1_000_000,
            Lossy(name)
        );
        let slow =
            Slow { name: name.to_vec(), request: call.args.iter().map(<[u8]>::to_vec).collect(), began };
        if let Some(running) = &mut self.scripts.running {
            running.slow = Some(slow);
            let caller = running.caller;
            self.freeze_input(caller);
        }
        self.scripts.is_slow = true;
        self.conditions.set(Conditions::BUSY, true);
    }

    #[cold]
    fn end_slow_script(&mut self, caller: ClientKey) {
        // When the server ends before the script has, nobody sees half of what the script would have done.
        self.conditions.set(Conditions::BUSY, self.event_loop.stop);
        self.thaw_input(caller);
    }
}

/// The server as a running script sees it: one client's, with what this script may do.
struct ScriptHost<'s, 'a> {
    server: &'s mut Server,
    client: ClientKey,
    /// Commands with one of these flags are looked at before they run.
    asks: Flags,
    /// The caller's user may not do everything.
    limited: bool,
    /// The data may be old, and old data are not wanted.
    stale: bool,
    /// The server is a node of a cluster, and keys may be another node's.
    cluster: bool,
    /// Keys of different slots may be used.
    allow_cross_slot: bool,
    read_only: bool,
    /// Memory was short when the script began, and each command is judged by itself.
    short: bool,
    began: Ticks,
    /// Nanoseconds after which others are served; 0: never.
    slow_after_ns: u64,
    call: Invocation<'a>,
    program: Program,
}

fn not_from_script() -> Error {
    Error::text("ERR This Redis command is not allowed from script")
}

impl ScriptHost<'_, '_> {
    /// Whether the script may run a command that has something which must be looked at.
    ///
    /// # Errors
    /// It may not.
    #[cold]
    fn judge(&mut self, id: CommandId, spec: &'static Spec, args: &Args<'_>) -> Result<(), Error> {
        let server = &mut *self.server;
        // The engine is not there for others while it runs a script.
        let never = spec.acl.has(Acl::SCRIPTING);
        if spec.flags.has(Flags::NOSCRIPT) && (never || !server.scripts.any_command) {
            return Err(not_from_script());
        }
        if self.stale && !spec.flags.has(Flags::STALE) {
            return Err(Error::text("ERR Can not execute the command on a stale replica"));
        }
        if self.limited
            && let Err(denied) = server.permit(self.client, id, spec, args, Context::Lua)
        {
            return Err(server.denied_in_script(self.client, denied, spec, args));
        }
        let wrote = server.scripts.running.as_ref().is_some_and(|running| running.wrote);
        if self.read_only && spec.flags.has(MAY_CHANGE) {
            return Err(Error::text("ERR Write commands are not allowed from read-only scripts."));
        }
        if !wrote && spec.flags.has(Flags::WRITE) {
            server.may_write()?;
        }
        if self.short && !wrote && spec.flags.has(Flags::DENYOOM) {
            return Err(Error::OutOfMemory);
        }
        if spec.flags.has(Flags::WRITE) {
            if let Some(running) = &mut server.scripts.running {
                running.wrote = true;
            }
            self.asks.set(MAY_CHANGE.with(Flags::DENYOOM), false);
        }
        if self.cluster {
            server.check_slots_in_script(self.client, spec, args, self.allow_cross_slot)?;
        }
        Ok(())
    }

    /// The command does not run.
    #[cold]
    fn refuse(&mut self, id: Option<CommandId>, error: &Error, sink: &mut Sink<'_, '_>) {
        if self.server.execution.origin.counts_statistics() {
            if let Some(id) = id {
                self.server.stats.commands[id.0 as usize].rejected += 1;
            }
            self.server.stats.error(error.code());
        }
        sink.refuse(error.as_bytes());
    }

    /// Says why a request is none.
    #[cold]
    fn unknown(&mut self, found: Option<CommandId>, args: &Args<'_>, sink: &mut Sink<'_, '_>) {
        let meant = found.and_then(|id| self.server.commands.meant(id, args));
        let is_container = |id| !self.server.commands.spec(id).subcommands.is_empty() && args.len() > 1;
        let error = match meant {
            Some(id) if !is_container(id) => "ERR Wrong number of args calling Redis command from script",
            _ => "ERR Unknown Redis command called from script",
        };
        self.refuse(meant, &Error::text(error), sink);
    }
}

impl Host for ScriptHost<'_, '_> {
    fn resolve(&mut self, name: &[u8]) -> Option<u32> {
        self.server.commands.find(name).map(|id| u32::from(id.0))
    }

    fn call(&mut self, command: Option<u32>, args: Args<'_>, protocol: Protocol, sink: &mut Sink<'_, '_>) {
        let found = match command {
            Some(id) => Some(CommandId(id as u16)),
            None => self.server.commands.find(args.at(0)),
        };
        let Ok((id, spec)) = self.server.resolve(found, &args) else {
            return self.unknown(found, &args, sink);
        };
        if (self.limited || self.stale || self.cluster || spec.flags.has(self.asks))
            && let Err(error) = self.judge(id, spec, &args)
        {
            return self.refuse(Some(id), &error, sink);
        }
        let server = &mut *self.server;
        let client = &mut server.clients[self.client];
        client.protocol = protocol;
        client.io.output.begin(&mut server.pool, usize::MAX);
        server.call(self.client, id, spec, &args);
        let output = &mut server.clients[self.client].io.output;
        let written = match output.in_one_piece() {
            Some(bytes) => sink.resp(bytes),
            None => sink.resp(&output.take_all()),
        };
        debug_assert!(written.is_ok(), "{} replied with something else", spec.name);
        output.truncate(0);
    }

    fn acl_check(&mut self, args: Args<'_>) -> Option<bool> {
        let server = &*self.server;
        let found = server.commands.find(args.at(0))?;
        let id = server.commands.meant(found, &args).unwrap_or(found);
        let spec = server.commands.spec(id);
        let client = &server.clients[self.client];
        Some(!self.limited || server.check_user(client.user, client.db, id, spec, &args).is_ok())
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        let text = Lossy(text);
        match level {
            LogLevel::Debug => tracing::trace!("{text}"),
            LogLevel::Verbose => tracing::debug!("{text}"),
            LogLevel::Notice => tracing::info!("{text}"),
            LogLevel::Warning => tracing::warn!("{text}"),
        }
    }

    fn set_repl(&mut self, to: Repl) {
        let mut withheld = 0;
        for (sink, wanted) in [(FedSink::Log, to.log), (FedSink::Backlog, to.replicas)] {
            withheld |= if wanted { 0 } else { sink as u8 };
        }
        self.server.execution.withheld_from = withheld;
    }

    fn converse(&mut self, output: &[u8]) -> Option<Vec<u8>> {
        let caller = self.server.scripts.running.as_ref()?.caller;
        self.server.converse(caller, output)
    }

    fn debugged_for(&self) -> Option<Duration> {
        (self.slow_after_ns > 0).then(|| Duration::from_nanos(self.slow_after_ns))
    }

    fn interrupted(&mut self) -> Verdict {
        if self.call.debug {
            // The clients of a child process are those of its parent.
            return Verdict::Continue;
        }
        let server = &mut *self.server;
        if !server.scripts.is_slow {
            let watch = &server.event_loop.stopwatch;
            let lasted = watch.ns(self.began, watch.now());
            if self.slow_after_ns == 0 || lasted < self.slow_after_ns {
                return Verdict::Continue;
            }
            server.begin_slow_script(self.program, self.began, lasted, &self.call);
        }
        server.serve_while_busy();
        let killed = server.scripts.running.as_ref().is_some_and(|running| running.killed);
        if killed || server.event_loop.stop {
            let kind = match self.program {
                Program::Script(_) => "SCRIPT",
                Program::Function(_) => "FUNCTION",
            };
            if killed {
                tracing::info!("Lua script killed by user with {kind} KILL.");
            }
            return Verdict::Kill;
        }
        Verdict::Continue
    }
}

impl Server {
    /// The reply to a command of a script that its caller may not run.
    fn denied_in_script(&self, key: ClientKey, denied: Denied, spec: &Spec, args: &Args<'_>) -> Error {
        let name = self.acl.name(self.clients[key].user);
        Error::quoting(&[b"ERR ACL failure in script: ", &denial(denied, name, spec, args, false)])
    }
}
