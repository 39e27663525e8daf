//! What a change of the configuration does.
//!
//! Most options are read where they matter, by a plain load, and need nothing here. Some are copied into rooms that
//! do not know the configuration ([`Server::take_up_options`]), and a few concern the operating system and may fail
//! ([`Server::apply`]): a change that fails there is undone as a whole.

use crate::config::rewrite::{self, Scope};
use crate::config::value::{Choice, EvictionPolicy};
use crate::config::{Config, Effects, Reason, SetError, os_error, table};
use crate::keyspace::evict::{Order, Policy};
use crate::keyspace::free::LazyFree;
use crate::net::limits;
use crate::net::listener::{self, Listener};
use crate::net::poll::Source;
use crate::resp::Error;
use crate::server::Server;
use crate::server::execution::admission::Conditions;
use crate::stats::log;
use crate::stdx::alloc;
use crate::structures::dict::set_growth_ceiling;

impl Server {
    /// Copies the options into the rooms that do not know the configuration. Cheap, and right at any time.
    pub fn take_up_options(&mut self) {
        self.note_disk_error();
        self.check_tracked();
        self.hear_events();
        let memory = &self.config.memory;
        self.conditions.set(Conditions::MAXMEMORY, memory.maxmemory > 0);
        // What does not count against the limit is left out here: tables are of the data.
        set_growth_ceiling(match memory.maxmemory {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        });
        let limits_clients = memory.maxmemory_clients.bytes(memory.maxmemory).is_some();
        self.conditions.set(Conditions::CLIENT_MEMORY, limits_clients);
        self.keyspace.evictor.set_policy(crate::server::memory::policy(memory.policy));
        let access = &mut self.keyspace.access;
        access.lfu = matches!(memory.policy, EvictionPolicy::AllkeysLfu | EvictionPolicy::VolatileLfu);
        access.log_factor = memory.lfu_log_factor;
        access.decay_minutes = memory.lfu_decay_time_min;
        let by_access = |policy: Policy| matches!(policy.order, Order::LeastRecent | Order::LeastFrequent);
        access.guides_eviction =
            memory.maxmemory > 0 && crate::server::memory::policy(memory.policy).is_some_and(by_access);
        let now = self.keyspace.now();
        self.keyspace.set_now(now);
        self.take_up_thresholds();
        self.clients.order_by_memory(limits_clients, now);
        let lazy = &self.config.lazyfree;
        self.keyspace.lazy = LazyFree {
            eviction: lazy.eviction,
            expire: lazy.expire,
            server_del: lazy.server_del,
            user_del: lazy.user_del,
            user_flush: lazy.user_flush,
        };
    }

    /// Writes the configuration file anew.
    ///
    /// # Errors
    /// There is none, or it cannot be written; it is as it was then.
    pub fn rewrite_config(&mut self, scope: Scope) -> Result<(), Error> {
        self.config.security.users = self.user_lines();
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
        if effects.touches(Effects::DIR) {
            // Where a relative path leads back to must be known before it is left.
            before.persistence.dir = working_directory(&before.persistence.dir);
        }
        match self.try_apply(&before, effects) {
            Ok(()) => {
                for param in table::params() {
                    if let Some(note) = param.idle(&self.config)
                        && param.print(&before) != param.print(&self.config)
                    {
                        tracing::warn!("{note}");
                    }
                }
                Ok(())
            }
            Err((parameter, reason)) => {
                let failed = std::mem::replace(&mut self.config, before);
                // Going back to what was in effect a moment ago; what fails now cannot be helped.
                let _ = self.try_apply(&failed, effects);
                Err(SetError::refused(parameter.as_bytes(), reason))
            }
        }
    }

    fn try_apply(&mut self, before: &Config, effects: Effects) -> Result<(), (&'static str, Reason)> {
        self.take_up_options();
        if effects.touches(Effects::DIR) {
            let dir = &mut self.config.persistence.dir;
            std::env::set_current_dir(&*dir)
                .map_err(|error| ("dir", crate::net::error_text(&error).into()))?;
            *dir = working_directory(dir);
        }
        if effects.touches(Effects::MAXCLIENTS) {
            self.allow_clients(before)?;
        }
        if effects.touches(Effects::LISTENERS) && listeners_differ(before, &self.config) {
            self.listen_anew().map_err(|()| {
                if before.net.bind != self.config.net.bind {
                    ("bind", "Failed to bind to specified addresses.".into())
                } else {
                    ("port", "Unable to listen on this port. Check server logs.".into())
                }
            })?;
        }
        if effects.touches(Effects::APPEND_ONLY)
            && before.persistence.appendonly != self.config.persistence.appendonly
        {
            if self.config.persistence.appendonly {
                self.start_aof()
                    .map_err(|()| ("appendonly", "Unable to turn on AOF. Check server logs.".into()))?;
            } else {
                self.stop_aof();
            }
        }
        if before.persistence.aof_disable_auto_gc && !self.config.persistence.aof_disable_auto_gc {
            self.remove_history();
        }
        if effects.touches(Effects::APPEND_FSYNC)
            && before.persistence.appendfsync != self.config.persistence.appendfsync
        {
            // What was promised under the old setting is kept before the new one counts.
            self.finish_aof();
        }
        if effects.touches(Effects::OOM_SCORE)
            && let Err(error) = self.apply_oom_score()
        {
            tracing::warn!("Unable to write oom_score_adj: {}", crate::net::error_text(&error));
            let mode_differs = before.advanced.oom_score_adj != self.config.advanced.oom_score_adj;
            let parameter = if mode_differs { "oom-score-adj" } else { "oom-score-adj-values" };
            return Err((
                parameter,
                "Failed to apply new oom_score_adj configuration, check server logs.".into(),
            ));
        }
        if before.memory.maxmemory != self.config.memory.maxmemory {
            self.maxmemory_changed();
        }
        if effects.touches(Effects::PROC_TITLE | Effects::LISTENERS) {
            self.show_title();
        }
        if effects.touches(Effects::LOG_LEVEL)
            && let Ok(level) = self.config.logs.level.name().parse()
        {
            log::set_level(level);
        }
        if effects.touches(Effects::ALLOCATOR) {
            alloc::purge_in_background(self.config.advanced.jemalloc_bg_thread);
        }
        if effects.touches(Effects::WATCHDOG) {
            self.take_up_watchdog();
        }
        if effects.touches(Effects::PASSWORD) {
            self.take_up_password();
        }
        if effects.touches(Effects::ACL_LOG) {
            let max_len = self.config.security.acllog_max_len;
            self.acl.log.trim(usize::try_from(max_len).unwrap_or(usize::MAX));
        }
        Ok(())
    }

    fn allow_clients(&mut self, before: &Config) -> Result<(), (&'static str, Reason)> {
        let wanted = self.config.net.maxclients as usize;
        if wanted <= before.net.maxclients as usize {
            return Ok(());
        }
        let served = limits::adjust_open_files(wanted).unwrap_or(before.net.maxclients as usize);
        if served >= wanted {
            return Ok(());
        }
        let reason = format!(
            "The operating system is not able to handle the specified number of clients, try with {served}"
        );
        Err(("maxclients", reason.into()))
    }

    /// Closes the TCP sockets that listen and opens those of the configuration.
    ///
    /// The old ones go first: an address may be among the new ones too.
    fn listen_anew(&mut self) -> Result<(), ()> {
        let Some(poll) = self.event_loop.poll.as_ref() else { return Ok(()) };
        let registry = poll.registry();
        let mut kept: Vec<Listener> = Vec::new();
        for mut listener in self.event_loop.listeners.drain(..) {
            // A socket that is closed leaves the poll by itself; one that stays gets a new token.
            let _ = registry.deregister(&mut listener);
            if listener.port().is_none() {
                kept.push(listener);
            }
        }
        let net = &self.config.net;
        let wanted = net.port != 0 && !net.bind.is_empty();
        let opened =
            if wanted { listener::listen_tcp(&net.bind, net.port, net.backlog) } else { Ok(Vec::new()) };
        let failed = match opened {
            Ok(opened) => {
                let none = wanted && opened.is_empty();
                self.event_loop.listeners.extend(opened);
                none
            }
            Err(_) => true,
        };
        self.event_loop.listeners.extend(kept);
        for (i, listener) in self.event_loop.listeners.iter_mut().enumerate() {
            if let Err(error) = registry.register_readable(listener, Source::Listener(i)) {
                tracing::warn!("Cannot watch a listening socket: {error}");
            }
        }
        if failed { Err(()) } else { Ok(()) }
    }
}

fn listeners_differ(a: &Config, b: &Config) -> bool {
    (a.net.port, &a.net.bind) != (b.net.port, &b.net.bind)
}

/// The absolute path of the directory the process is in, or `otherwise` when it cannot be told.
fn working_directory(otherwise: &str) -> String {
    std::env::current_dir().map_or_else(|_| otherwise.to_string(), |path| path.to_string_lossy().into_owned())
}
