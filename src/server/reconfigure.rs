//! What a change of the configuration does.
//!
//! Most options are read where they matter, by a plain load, and need nothing here. For all others, a parameter names
//! [`Effects`], and [`ACTIONS`] has one function for each effect: it copies options into rooms that do not know the
//! configuration, or tells the operating system. Those that may fail come first: a change that fails there is undone as
//! a whole.

use crate::config::rewrite::{self, Scope};
use crate::config::value::{Choice, EvictionPolicy};
use crate::config::{Config, Effects, SetError, os_error, table};
use crate::keyspace::Listeners;
use crate::keyspace::access::Noted;
use crate::keyspace::evict::{Order, Policy};
use crate::keyspace::free::LazyFree;
use crate::net::descriptors;
use crate::net::listener::{self, Listener};
use crate::net::poll::Source;
use crate::resp::Error;
use crate::server::Server;
use crate::server::execution::admission::Conditions;
use crate::server::execution::users::user_lines;
use crate::stats::log;
use crate::stdx::alloc::{self, relocation};
use crate::structures::dict::set_growth_ceiling;

/// What is done about an effect.
enum Action {
    /// The system may refuse it; the configuration as it was before says what there was.
    Try(fn(&mut Server, before: &Config) -> Result<(), Refusal>),
    /// It cannot fail.
    Do(fn(&mut Server)),
}

/// What is done about each effect, in the order in which it is done.
const ACTIONS: &[(Effects, Action)] = &[
    (Effects::DIR, Action::Try(enter_directory)),
    (Effects::MAXCLIENTS, Action::Try(allow_clients)),
    (Effects::TLS, Action::Try(encrypt_anew)),
    (Effects::LISTENERS, Action::Try(Server::listen_anew)),
    (Effects::APPEND_ONLY, Action::Try(switch_aof)),
    (Effects::OOM_SCORE, Action::Try(tell_oom_score)),
    (Effects::MAXMEMORY, Action::Try(limit_memory)),
    (Effects::IO_THREADS, Action::Try(use_io_threads)),
    (Effects::DEFRAGMENTATION, Action::Try(allow_defragmentation)),
    (
        Effects::AOF_HISTORY,
        Action::Do(|server| server.aof.remove_history(&server.config.persistence, &server.background)),
    ),
    // What was promised under the old setting is kept before the new one counts.
    (Effects::APPEND_FSYNC, Action::Do(|server| _ = server.finish_aof())),
    (Effects::DISK_ERROR, Action::Do(Server::note_disk_error)),
    (Effects::EVICTION, Action::Do(choose_evicted)),
    (Effects::CLIENT_MEMORY, Action::Do(limit_client_memory)),
    (Effects::LAZY_FREE, Action::Do(choose_lazy_freeing)),
    (Effects::TRACKING, Action::Do(Server::check_tracked)),
    (Effects::KEYSPACE_EVENTS, Action::Do(Server::update_event_listener)),
    (Effects::COMMAND_LOGS, Action::Do(Server::apply_thresholds)),
    (Effects::ACL_LOG, Action::Do(trim_acl_log)),
    (Effects::PROC_TITLE, Action::Do(|server| server.process.show_title(&server.config, &server.identity))),
    (Effects::LOG_LEVEL, Action::Do(set_log_form)),
    (
        Effects::ALLOCATOR,
        Action::Do(|server| alloc::purge_in_background(server.config.advanced.jemalloc_bg_thread)),
    ),
    (Effects::WATCHDOG, Action::Do(Server::apply_watchdog)),
    (Effects::PASSWORD, Action::Do(Server::apply_password)),
    (Effects::ROLE, Action::Do(Server::apply_role)),
    (Effects::DURABILITY, Action::Do(Server::commit_anew)),
    (Effects::CLUSTER, Action::Do(Server::apply_cluster_options)),
    // Nobody is sent what is given up: `feed_replicas` knows who needs what.
    (Effects::BACKLOG, Action::Do(Server::feed_replicas)),
];

/// Why a change could not take effect.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Directory(String),
    #[error(
        "The operating system is not able to handle the specified number of clients, try with {possible}"
    )]
    Clients { possible: usize },
    #[error("Failed to bind to specified addresses.")]
    Bind,
    #[error("Unable to listen on this port. Check server logs.")]
    Port,
    #[error("Unable to listen on this port. Check server logs.")]
    TlsPort,
    #[error("Unable to update TLS configuration. Check server logs.")]
    Tls { parameter: &'static str },
    #[error("Unable to turn on AOF. Check server logs.")]
    AppendOnly,
    #[error("Unable to start I/O threads: {0}")]
    IoThreads(String),
    #[error("Failed to apply new oom_score_adj configuration, check server logs.")]
    OomScore,
    #[error("Failed to apply new oom_score_adj configuration, check server logs.")]
    OomScoreValues,
    #[error("Active defragmentation cannot be enabled: {NO_RELOCATION}")]
    Defragmentation,
}

/// Why memory cannot be moved.
pub(in crate::server) const NO_RELOCATION: &str = "it requires a Redis server compiled with a modified Jemalloc like \
                                                   the one shipped by default with the Redis source distribution";

impl Refusal {
    /// The parameter to blame.
    fn parameter(&self) -> &'static str {
        match self {
            Refusal::Directory(_) => "dir",
            Refusal::Clients { .. } => "maxclients",
            Refusal::Bind => "bind",
            Refusal::Port => "port",
            Refusal::TlsPort => "tls-port",
            Refusal::Tls { parameter } => parameter,
            Refusal::AppendOnly => "appendonly",
            Refusal::IoThreads(_) => "io-threads",
            Refusal::OomScore => "oom-score-adj",
            Refusal::OomScoreValues => "oom-score-adj-values",
            Refusal::Defragmentation => "activedefrag",
        }
    }

    /// What to do next, for the log.
    fn next(&self) -> &'static str {
        match self {
            Refusal::Directory(_) => {
                "Name a directory that exists and that the user of the server may enter."
            }
            Refusal::Clients { .. } => {
                "Raise the limit of open files of the process (ulimit -n, or LimitNOFILE in the unit)."
            }
            Refusal::Bind | Refusal::Port | Refusal::TlsPort => {
                "Name an address that this machine has and a port that is free; ss -ltnp tells who listens."
            }
            Refusal::Tls { .. } => {
                "Mend what the line above says; the server must be able to read the files."
            }
            Refusal::AppendOnly => "Mend what the lines above say: free space on the disk, or permissions.",
            Refusal::IoThreads(_) => "Raise the limit of threads (ulimit -u, or TasksMax in the unit).",
            Refusal::OomScore | Refusal::OomScoreValues => {
                "Only a process with the capability CAP_SYS_RESOURCE may lower its score."
            }
            Refusal::Defragmentation => "",
        }
    }
}

impl Server {
    /// Copies the options into the rooms that do not know the configuration. For a server that is being made.
    pub fn apply_options(&mut self) {
        let unchanged = self.config.clone();
        self.act(&unchanged, Effects::COPIED).expect("copying options does not fail");
    }

    /// Writes the configuration file anew.
    ///
    /// # Errors
    /// There is none, or it cannot be written; it is as it was then.
    pub fn rewrite_config(&mut self, scope: Scope) -> Result<(), Error> {
        self.config.security.users = user_lines(&self.acl, &self.config.security);
        // The directory may have got another name meanwhile.
        self.config.persistence.dir = working_directory(&self.config.persistence.dir);
        let Some(path) = &self.identity.config_file else {
            return Err(Error::text("ERR The server is running without a config file"));
        };
        if let Err(error) = rewrite::rewrite(&self.config, path, scope) {
            let reason = os_error(&error);
            tracing::warn!("CONFIG REWRITE failed: {reason}");
            return Err(Error::text(format!("ERR Rewriting config file: {reason}")));
        }
        tracing::info!("CONFIG REWRITE executed with success.");
        Ok(())
    }

    /// Makes the configuration take effect after `effects` changed; `before` is what it was.
    ///
    /// # Errors
    /// The system refused something, named by its parameter. The configuration is `before` again then, and in effect.
    pub fn apply(&mut self, mut before: Config, effects: Effects) -> Result<(), SetError> {
        if effects.has(Effects::DIR) {
            // Where a relative path leads back to must be known before it is left.
            before.persistence.dir = working_directory(&before.persistence.dir);
        }
        match self.act(&before, effects) {
            Ok(()) => {
                for param in table::params() {
                    if let Some(note) = param.unused_note(&self.config)
                        && param.print(&before) != param.print(&self.config)
                    {
                        tracing::warn!("{note}");
                    }
                }
                self.config.foreign.notes(&before.foreign).iter().for_each(|note| tracing::warn!("{note}"));
                Ok(())
            }
            Err(refusal) => {
                let failed = std::mem::replace(&mut self.config, before);
                // Going back to what was in effect a moment ago; what fails now cannot be helped.
                let _ = self.act(&failed, effects);
                tracing::warn!(
                    "CONFIG SET {} failed, and the configuration is as it was: {} {}",
                    refusal.parameter(),
                    refusal.to_string().trim_end_matches(" Check server logs."),
                    refusal.next()
                );
                Err(SetError::refused(refusal.parameter().as_bytes(), refusal.to_string()))
            }
        }
    }

    /// Acts on each of `effects`, in the order of the table, up to the first that fails.
    fn act(&mut self, before: &Config, effects: Effects) -> Result<(), Refusal> {
        for (_, action) in ACTIONS.iter().filter(|(effect, _)| effects.has(*effect)) {
            match action {
                Action::Try(act) => act(self, before)?,
                Action::Do(act) => act(self),
            }
        }
        Ok(())
    }

    /// Closes the TCP sockets that listen and opens those of the configuration. Those that stay the same stay open.
    ///
    /// The old ones go first: an address may be among the new ones too.
    fn listen_anew(&mut self, before: &Config) -> Result<(), Refusal> {
        let Some(poll) = self.event_loop.poll.as_ref() else { return Ok(()) };
        let registry = poll.registry();
        let config = &self.config;
        let rebound = before.net.bind != config.net.bind;
        let plain_stays = !rebound && before.net.port == config.net.port;
        let secure_stays = !rebound && before.tls.port == config.tls.port;
        let mut kept: Vec<Listener> = Vec::new();
        for mut listener in self.event_loop.listeners.drain(..) {
            // A socket that is closed leaves the poll by itself; one that stays gets a new token.
            let _ = registry.deregister(&mut listener);
            let stays = if listener.is_secure() { secure_stays } else { plain_stays };
            if listener.port().is_none() || stays {
                kept.push(listener);
            }
        }
        let mut refusal = None;
        for (port, secure, stays) in
            [(config.net.port, false, plain_stays), (config.tls.port, true, secure_stays)]
        {
            if stays || port == 0 || config.net.bind.is_empty() {
                continue;
            }
            match listener::listen_tcp(&config.net.bind, port, config.net.backlog) {
                Ok(opened) if !opened.is_empty() => {
                    let opened = opened.into_iter();
                    kept.extend(opened.map(|listener| if secure { listener.secure() } else { listener }));
                }
                _ if rebound => refusal = Some(Refusal::Bind),
                _ => refusal = Some(if secure { Refusal::TlsPort } else { Refusal::Port }),
            }
        }
        self.event_loop.listeners = kept;
        for (i, listener) in self.event_loop.listeners.iter_mut().enumerate() {
            if let Err(error) = registry.register_readable(listener, Source::Listener(i)) {
                tracing::warn!("Cannot watch a listening socket: {error}");
            }
        }
        refusal.map_or(Ok(()), Err)
    }
}

fn encrypt_anew(server: &mut Server, before: &Config) -> Result<(), Refusal> {
    server.configure_tls().map_err(|_| {
        let changed = table::params().find(|param| {
            param.effects.has(Effects::TLS) && param.print(before) != param.print(&server.config)
        });
        Refusal::Tls { parameter: changed.map_or("tls-cert-file", |param| param.name) }
    })
}

fn enter_directory(server: &mut Server, _: &Config) -> Result<(), Refusal> {
    let dir = &mut server.config.persistence.dir;
    std::env::set_current_dir(&*dir).map_err(|error| Refusal::Directory(crate::net::error_text(&error)))?;
    *dir = working_directory(dir);
    Ok(())
}

fn allow_clients(server: &mut Server, before: &Config) -> Result<(), Refusal> {
    let wanted = server.config.net.maxclients as usize;
    if wanted <= before.net.maxclients as usize {
        return Ok(());
    }
    let threads = usize::from(server.config.net.io_threads);
    let served = descriptors::adjust(wanted, threads).unwrap_or(before.net.maxclients as usize);
    if served >= wanted { Ok(()) } else { Err(Refusal::Clients { possible: served }) }
}

fn switch_aof(server: &mut Server, _: &Config) -> Result<(), Refusal> {
    if server.config.persistence.appendonly {
        server.start_aof().map_err(|_| Refusal::AppendOnly)
    } else {
        server.stop_aof();
        Ok(())
    }
}

fn tell_oom_score(server: &mut Server, before: &Config) -> Result<(), Refusal> {
    let is_replica = server.replication.is_replica();
    server.process.apply_oom_score(&server.config.advanced, is_replica).map_err(|error| {
        tracing::warn!("Unable to write oom_score_adj: {}", crate::net::error_text(&error));
        let mode_differs = before.advanced.oom_score_adj != server.config.advanced.oom_score_adj;
        if mode_differs { Refusal::OomScore } else { Refusal::OomScoreValues }
    })
}

fn choose_evicted(server: &mut Server) {
    let memory = &server.config.memory;
    let policy = crate::server::memory::policy(memory.policy);
    server.keyspace.evictor.set_policy(policy);
    let access = &mut server.keyspace.access;
    access.noted = match memory.policy {
        EvictionPolicy::AllkeysLfu | EvictionPolicy::VolatileLfu => Noted::Frequency,
        EvictionPolicy::AllkeysLrm | EvictionPolicy::VolatileLrm => Noted::LastChange,
        _ => Noted::LastUse,
    };
    access.log_factor = memory.lfu_log_factor;
    access.decay_minutes = memory.lfu_decay_time_min;
    let by_access = |policy: Policy| matches!(policy.order, Order::LeastRecent | Order::LeastFrequent);
    access.guides_eviction = memory.maxmemory > 0 && policy.is_some_and(by_access);
    server.keyspace.ledger.listeners.set(Listeners::LAST_CHANGE, access.noted == Noted::LastChange);
    // What an access notes is a time in another unit now.
    let now = server.keyspace.now();
    server.keyspace.set_now(now);
}

fn limit_memory(server: &mut Server, before: &Config) -> Result<(), Refusal> {
    let limit = server.config.memory.maxmemory;
    server.conditions.set(Conditions::MAXMEMORY, limit > 0);
    // What does not count against the limit is left out here: tables are of the data.
    set_growth_ceiling(match limit {
        0 => usize::MAX,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    });
    if before.memory.maxmemory != limit {
        server.maxmemory_changed();
    }
    Ok(())
}

fn use_io_threads(server: &mut Server, before: &Config) -> Result<(), Refusal> {
    let (clients, threads) = (server.config.net.maxclients as usize, server.config.net.io_threads);
    if threads > before.net.io_threads
        && descriptors::adjust(clients, usize::from(threads)).is_ok_and(|served| served < clients)
    {
        let text = "the limit on open files is too low for that many threads and maxclients";
        return Err(Refusal::IoThreads(text.into()));
    }
    server.apply_io_threads().map_err(|error| Refusal::IoThreads(crate::net::error_text(&error)))
}

fn allow_defragmentation(server: &mut Server, _: &Config) -> Result<(), Refusal> {
    let possible = !server.config.advanced.active_defrag || relocation::is_possible();
    if possible { Ok(()) } else { Err(Refusal::Defragmentation) }
}

fn limit_client_memory(server: &mut Server) {
    let memory = &server.config.memory;
    let limited = memory.maxmemory_clients.bytes(memory.maxmemory).is_some();
    server.conditions.set(Conditions::CLIENT_MEMORY, limited);
    server.clients.order_by_memory(limited, server.keyspace.now());
}

fn choose_lazy_freeing(server: &mut Server) {
    let lazy = &server.config.lazyfree;
    server.keyspace.lazy = LazyFree {
        eviction: lazy.eviction,
        expire: lazy.expire,
        server_del: lazy.server_del,
        user_del: lazy.user_del,
        user_flush: lazy.user_flush,
    };
}

fn trim_acl_log(server: &mut Server) {
    let max_len = server.config.security.acllog_max_len;
    server.acl.log.trim(usize::try_from(max_len).unwrap_or(usize::MAX));
}

fn set_log_form(server: &mut Server) {
    let logs = &server.config.logs;
    if let Ok(level) = logs.level.name().parse() {
        log::set_level(level);
    }
    if let (Ok(format), Ok(time)) = (logs.format.name().parse(), logs.timestamp_format.name().parse()) {
        log::set_format(format, time);
    }
}

/// The absolute path of the directory the process is in, or `otherwise` when it cannot be told.
fn working_directory(otherwise: &str) -> String {
    std::env::current_dir().map_or_else(|_| otherwise.to_string(), |path| path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No effect is forgotten, named twice, or without a parameter that has it.
    #[test]
    fn each_effect_has_one_action_and_a_parameter() {
        for &(effect, name) in Effects::NAMES {
            let actions = ACTIONS.iter().filter(|(acted_on, _)| *acted_on == effect).count();
            assert_eq!(actions, 1, "{name}");
            assert!(table::params().any(|param| param.effects.covers(effect)), "{name}");
        }
        assert_eq!(ACTIONS.len(), Effects::NAMES.len(), "an action acts on one effect");
    }
}
