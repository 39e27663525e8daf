//! Admission: whether a command may run now, by a single AND if no condition blocks it.
//!
//! Conditions that are true of the server and of the client are bits; each command has the bits that block it. If
//! the two have none in common, the command runs. Otherwise the gates are checked in the order in which Redis
//! refuses, and the first closed gate determines the reply.

use crate::clients::{Client, ClientFlags, ClientKey};
use crate::resp::{Args, Error, Protocol};
use crate::server::Server;
use crate::server::command::{CommandId, Commands, Flags, Spec};
use crate::server::execution::users::context;
use crate::server::execution::{Origin, redirect};
use crate::stdx::bits::bit_set;

/// Flags of commands that may change the data, or send replicas something.
pub(in crate::server) const MAY_CHANGE: Flags = Flags::WRITE.with(Flags::MAY_REPLICATE);

bit_set! {
    /// Conditions that block some commands.
    pub struct Conditions: u32 {
        /// The client must authenticate first.
        NEEDS_AUTH = 0;
        /// Commands are queued for EXEC.
        IN_MULTI = 1;
        /// The data set is being loaded.
        LOADING = 2;
        /// `maxmemory` is set, so each command must check for memory.
        MAXMEMORY = 3;
        /// The client's user has limited permissions.
        LIMITED_USER = 4;
        /// The client is a replica or a monitor, which may not access keys.
        FED = 5;
        /// Requests are paused, at least those that may change the data.
        PAUSED_WRITES = 6;
        /// All requests are paused.
        PAUSED_ALL = 7;
        /// The data cannot be saved, and must not change until they can.
        DISK_ERROR = 8;
        /// The client has subscriptions, and may be unable to tell messages from replies.
        SUBSCRIBED = 9;
        /// Too many keys are remembered for client-side caching: some are forgotten before any command runs.
        TRACKING_FULL = 10;
        /// `maxmemory-clients` is set, so each command must update the memory of its client.
        CLIENT_MEMORY = 11;
        /// Nobody who is connected asks: where the request comes from decides.
        INTERNAL = 12;
        /// A script has run for so long that others are served meanwhile, but only what concerns the script.
        BUSY = 13;
        /// The data are a copy, which clients may not change.
        READONLY_REPLICA = 14;
        /// The data are a copy, which may be old, and old data are not wanted.
        STALE = 15;
        /// Too few replicas would get a change in time.
        FEW_REPLICAS = 16;
        /// Data that will replace those served are being loaded.
        ASYNC_LOADING = 17;
        /// The server is a node of a cluster, so that keys may be another node's.
        CLUSTER = 18;
        /// As [`CLUSTER`](Self::CLUSTER), for commands with one key, which is always the same argument.
        CLUSTER_ONE_KEY = 20;
        /// Of very many clients that a change concerns, some are left to be served.
        SERVING = 19;
    }
}

impl Conditions {
    /// The conditions that block `spec`, or require a check.
    pub fn blocking(spec: &Spec) -> Conditions {
        let mut held = Conditions::NONE;
        held.set(Conditions::NEEDS_AUTH, !spec.flags.has(Flags::NO_AUTH));
        held.set(Conditions::IN_MULTI, !spec.flags.has(Flags::RUNS_IN_MULTI));
        held.set(Conditions::LIMITED_USER, !spec.flags.has(Flags::NO_AUTH));
        let ends_multi = spec.flags.has(Flags::ENDS_MULTI);
        held.set(Conditions::LOADING, !spec.flags.has(Flags::LOADING) || ends_multi);
        held.set(Conditions::ASYNC_LOADING, spec.flags.has(Flags::NO_ASYNC_LOADING));
        held.set(Conditions::FED, spec.flags.has(MAY_CHANGE.with(Flags::READONLY)));
        held.set(Conditions::PAUSED_WRITES, spec.flags.has(MAY_CHANGE.with(Flags::ENDS_MULTI)));
        held.set(Conditions::PAUSED_ALL, true);
        held.set(Conditions::DISK_ERROR, needs_disk(spec.flags) || spec.declares.is_some());
        held.set(Conditions::SUBSCRIBED, !spec.flags.has(Flags::RUNS_SUBSCRIBED));
        held.set(Conditions::TRACKING_FULL, true);
        held.set(Conditions::MAXMEMORY, true);
        held.set(Conditions::CLIENT_MEMORY, true);
        let writes = spec.flags.has(Flags::WRITE) || spec.declares.is_some() || ends_multi;
        held.set(Conditions::READONLY_REPLICA, writes);
        held.set(Conditions::FEW_REPLICAS, writes);
        held.set(Conditions::STALE, !spec.flags.has(Flags::STALE) || spec.declares.is_some() || ends_multi);
        held.set(Conditions::INTERNAL, true);
        held.set(Conditions::BUSY, true);
        held.set(Conditions::SERVING, true);
        let one_key = redirect::only_key(spec).is_some() && !ends_multi;
        held.set(Conditions::CLUSTER_ONE_KEY, one_key);
        let has_keys = !spec.keys.is_empty() || spec.find_keys.is_some();
        held.set(Conditions::CLUSTER, (has_keys || ends_multi) && !one_key);
        held
    }

    /// The conditions that are true of one client.
    #[inline]
    pub fn of(client: &Client) -> Conditions {
        const DECISIVE: ClientFlags = ClientFlags::AUTHENTICATED
            .with(ClientFlags::IN_MULTI)
            .with(ClientFlags::LIMITED_USER)
            .with(ClientFlags::MONITOR)
            .with(ClientFlags::REPLICA)
            .with(ClientFlags::SUBSCRIBED)
            .with(ClientFlags::PRIMARY)
            .with(ClientFlags::IMPORTS)
            .with(ClientFlags::INTERNAL);
        // Most clients have no condition but are authenticated.
        if client.flags.and(DECISIVE) == ClientFlags::AUTHENTICATED {
            return Conditions::NONE;
        }
        let mut now = Conditions::NONE;
        now.set(Conditions::NEEDS_AUTH, !client.flags.has(ClientFlags::AUTHENTICATED));
        now.set(Conditions::IN_MULTI, client.flags.has(ClientFlags::IN_MULTI));
        now.set(Conditions::LIMITED_USER, client.flags.has(ClientFlags::LIMITED_USER));
        now.set(Conditions::FED, client.flags.has(ClientFlags::MONITOR.with(ClientFlags::REPLICA)));
        now.set(Conditions::SUBSCRIBED, client.flags.has(ClientFlags::SUBSCRIBED));
        const INTERNAL: ClientFlags =
            ClientFlags::INTERNAL.with(ClientFlags::PRIMARY).with(ClientFlags::IMPORTS);
        now.set(Conditions::INTERNAL, client.flags.has(INTERNAL));
        now
    }
}

/// Whether a command is refused while the data cannot be saved.
fn needs_disk(flags: Flags) -> bool {
    flags.has(Flags::WRITE.with(Flags::SHOWS_HEALTH))
}

/// Whether a command may occur in an append-only file: it changes data, or groups such commands. Other commands
/// concern the server or a client, which are not saved.
fn belongs_in_file(spec: &Spec) -> bool {
    let about_data = Flags::WRITE.with(Flags::MAY_REPLICATE).with(Flags::READONLY).with(Flags::LOGGED);
    spec.flags.has(about_data)
}

const CANNOT_SAVE: &str = concat!(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that ",
    "may modify the data set are disabled, because this instance is configured to report errors during writes if RDB ",
    "snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB ",
    "error."
);

/// What happens to a request that nothing holds up which holds up clients.
fn admitted(origin: Origin, client: Conditions, spec: &Spec) -> Verdict {
    if origin == Origin::Loading && !belongs_in_file(spec) {
        Verdict::Refuse(Error::text("ERR Not a command of an append-only file"))
    } else if client.has(Conditions::IN_MULTI) && !spec.flags.has(Flags::RUNS_IN_MULTI) {
        Verdict::Queue
    } else {
        Verdict::Run
    }
}

/// Decision about a request.
pub enum Verdict {
    /// The request may run.
    Run,
    /// The request is refused with this error.
    Refuse(Error),
    /// The request belongs elsewhere, as this error tells.
    Redirect(Error),
    /// The request is queued for EXEC.
    Queue,
    /// The request waits until a pause ends.
    Pause,
    /// The client is being closed: the request is neither run nor answered.
    Drop,
}

impl Server {
    /// Finds the command of a request and checks the number of arguments.
    ///
    /// # Errors
    /// If there is no such command or subcommand, or the number of arguments is wrong.
    #[inline]
    pub fn resolve(
        &self,
        found: Option<CommandId>,
        args: &Args<'_>,
    ) -> Result<(CommandId, &'static Spec), Error> {
        let Some(id) = found else { return Err(unknown_command(args)) };
        let spec = self.commands.spec(id);
        if !spec.subcommands.is_empty() && args.len() > 1 {
            return self.resolve_sub(id, spec, args);
        }
        if !spec.accepts(args.len()) {
            return Err(Error::arity(spec.name));
        }
        Ok((id, spec))
    }

    fn resolve_sub(
        &self,
        id: CommandId,
        spec: &'static Spec,
        args: &Args<'_>,
    ) -> Result<(CommandId, &'static Spec), Error> {
        let Some(sub) = self.commands.find_sub(id, args.at(1)) else {
            return Err(Error::unknown_subcommand(args.at(1), spec.name));
        };
        let spec = self.commands.spec(sub);
        if !spec.accepts(args.len()) {
            return Err(Error::arity(spec.name));
        }
        Ok((sub, spec))
    }

    /// Checks the gates for a command that a condition blocks.
    #[cold]
    pub fn walk_gates(
        &mut self,
        key: ClientKey,
        id: CommandId,
        spec: &'static Spec,
        args: &Args<'_>,
    ) -> Verdict {
        let client = Conditions::of(&self.clients[key]);
        let origin = self.execution.origin;
        if origin == Origin::Import
            && let Err(error) = self.check_import(key, spec, args)
        {
            return Verdict::Refuse(error);
        }
        if origin.admits_everything() {
            return admitted(origin, client, spec);
        }
        if client.has(Conditions::NEEDS_AUTH)
            && !spec.flags.has(Flags::NO_AUTH)
            && self.must_authenticate(key)
        {
            return Verdict::Refuse(Error::text("NOAUTH Authentication required."));
        }
        if client.has(Conditions::IN_MULTI) && spec.flags.has(Flags::NO_MULTI) {
            return Verdict::Refuse(Error::text("ERR Command not allowed inside a transaction"));
        }
        if client.has(Conditions::LIMITED_USER)
            && let Err(denied) = self.permit(key, id, spec, args, context(&self.clients[key]))
        {
            return Verdict::Refuse(self.no_permission(key, denied, spec, args));
        }
        if self.conditions.has(Conditions::CLUSTER)
            && let Err(why) = self.locate(key, spec, args)
        {
            return Verdict::Redirect(self.redirection(key, why));
        }
        let flags = self.flags_of(spec, args);
        let busy = self.conditions.has(Conditions::BUSY);
        if self.conditions.has(Conditions::CLIENT_MEMORY) {
            self.count_client(key);
            self.evict_clients();
            if self.clients[key].is_closing() {
                return Verdict::Drop;
            }
        }
        if self.conditions.has(Conditions::MAXMEMORY) && !busy && self.lacks_memory(key, flags) {
            return Verdict::Refuse(Error::OutOfMemory);
        }
        if self.conditions.has(Conditions::TRACKING_FULL) {
            self.limit_tracked();
        }
        if self.conditions.has(Conditions::DISK_ERROR) && needs_disk(flags) {
            return Verdict::Refuse(self.cannot_save());
        }
        if self.conditions.has(Conditions::FEW_REPLICAS) && self.would_write(key, spec, flags) {
            return Verdict::Refuse(self.too_few_replicas());
        }
        if self.conditions.has(Conditions::READONLY_REPLICA) && self.would_write(key, spec, flags) {
            return Verdict::Refuse(self.role_refuses(false));
        }
        let only_messages =
            client.has(Conditions::SUBSCRIBED) && self.clients[key].protocol == Protocol::Resp2;
        if only_messages && !spec.flags.has(Flags::RUNS_SUBSCRIBED) {
            return Verdict::Refuse(Error::text(format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
                 context",
                spec.name
            )));
        }
        if self.conditions.has(Conditions::STALE) && self.lacks(key, spec, flags, Flags::STALE) {
            return Verdict::Refuse(self.role_refuses(true));
        }
        let loading =
            self.conditions.has(Conditions::LOADING) && self.lacks(key, spec, spec.flags, Flags::LOADING);
        let replacing =
            self.conditions.has(Conditions::ASYNC_LOADING) && spec.flags.has(Flags::NO_ASYNC_LOADING);
        if loading || replacing {
            return Verdict::Refuse(Error::text("LOADING Redis is loading the dataset in memory"));
        }
        if busy && !spec.flags.has(Flags::ALLOW_BUSY) {
            return Verdict::Refuse(self.busy_error());
        }
        if client.has(Conditions::FED) && spec.flags.has(MAY_CHANGE.with(Flags::READONLY)) {
            return Verdict::Refuse(Error::text("ERR Replica can't interact with the keyspace"));
        }
        if self.is_paused_for(key, flags) {
            return Verdict::Pause;
        }
        if client.has(Conditions::IN_MULTI) && !spec.flags.has(Flags::RUNS_IN_MULTI) {
            return Verdict::Queue;
        }
        Verdict::Run
    }
}

impl Server {
    /// Whether a request changes data: itself, or by what was queued for it.
    pub(in crate::server) fn would_write(&self, key: ClientKey, spec: &Spec, flags: Flags) -> bool {
        flags.has(Flags::WRITE) || self.any_queued(key, spec, |flags| flags.has(Flags::WRITE))
    }

    /// Whether a request, or one of those that were queued for it, lacks a flag.
    fn lacks(&self, key: ClientKey, spec: &Spec, flags: Flags, flag: Flags) -> bool {
        !flags.has(flag) || self.any_queued(key, spec, |flags| !flags.has(flag))
    }

    /// Whether a request ends a transaction with a command of such flags.
    pub(in crate::server) fn any_queued(
        &self,
        key: ClientKey,
        spec: &Spec,
        matches: impl Fn(Flags) -> bool,
    ) -> bool {
        spec.flags.has(Flags::ENDS_MULTI)
            && self.clients[key].transaction.as_ref().is_some_and(|transaction| {
                transaction
                    .iter()
                    .any(|(id, args)| matches(self.flags_of(self.commands.spec(CommandId(id)), &args)))
            })
    }

    /// The error for a write that too few replicas would get.
    pub(in crate::server) fn too_few_replicas(&self) -> Error {
        self.advise_on_replicas();
        Error::text("NOREPLICAS Not enough good replicas to write.")
    }

    /// The error that says why the data must not change now.
    pub(in crate::server) fn cannot_save(&self) -> Error {
        self.advise_on_saving();
        match self.aof.error() {
            Some(reason) => Error::text(format!("MISCONF Errors writing to the AOF file: {reason}")),
            None => Error::text(CANNOT_SAVE),
        }
    }
}

#[cold]
fn unknown_command(args: &Args<'_>) -> Error {
    // Redis quotes at most 128 bytes of the name, and of each argument while there is room.
    let name = args.at(0);
    let mut shown = Vec::new();
    for arg in args.iter().skip(1) {
        if shown.len() >= 128 {
            break;
        }
        let room = 128 - shown.len();
        shown.push(b'\'');
        shown.extend_from_slice(&arg[..arg.len().min(room)]);
        shown.extend_from_slice(b"' ");
    }
    let name = &name[..name.len().min(128)];
    Error::quoting(&[b"ERR unknown command '", name, b"', with args beginning with: ", &shown])
}

/// The command with this name, in any letter case.
#[inline]
pub fn find(commands: &Commands, name: &[u8]) -> Option<CommandId> {
    commands.find(name)
}
