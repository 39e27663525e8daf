//! Sentinel: carries out what the machine in [`crate::sentinel::machine`] asks for.
//!
//! - [`links`]: connections to instances;
//! - [`names`]: the thread that looks up host names;
//! - [`programs`]: scripts, as processes.
//!
//! A server that is no Sentinel has none of this: [`Server::sentinel`] is `None`.

pub mod links;
pub mod names;
pub mod programs;

use crate::clients::pubsub::Scope;
use crate::config::Config;
use crate::config::file::FileError;
use crate::config::options::SentinelLine;
use crate::config::os_error;
use crate::config::rewrite::{self, Scope as RewriteScope};
use crate::sentinel::conf;
use crate::sentinel::instance::literal_ip;
use crate::sentinel::machine::{Action, Machine};
use crate::server::Server;
use crate::server::execution::users::user_lines;
use crate::server::watching::advice::advise_behind;
use crate::stats::log::Level;
use crate::stdx::clock;
use crate::stdx::rng::Rng;
use links::Links;
use names::Names;
use programs::Programs;

/// The port of a Sentinel, unless it is configured.
pub const PORT: u16 = 26379;

/// A Sentinel.
pub struct Sentinel {
    /// What it knows, and how it goes on.
    pub machine: Machine,
    links: Links,
    names: Names,
    programs: Programs,
    /// Why the configuration file could not be written the last time.
    unsaved: Option<String>,
    rng: Rng,
}

/// The port that others are to use.
fn announced_port(config: &Config) -> u16 {
    let encrypted = config.tls.replication && config.tls.port != 0;
    if encrypted { config.tls.port } else { config.net.port }
}

/// The time of the machine.
pub fn now() -> i64 {
    clock::now_ms()
}

impl Server {
    /// Makes this server a Sentinel, as its configuration file says.
    ///
    /// # Errors
    /// A directive is wrong.
    pub(in crate::server) fn become_sentinel(&mut self) -> Result<(), FileError> {
        let mut machine = Machine::new(Rng::from_os());
        machine.port = announced_port(&self.config);
        machine.own_password.clone_from(&self.config.security.requirepass);
        let lines = &self.config.sentinel.lines;
        let words: Vec<&[Vec<u8>]> = lines.iter().map(|line| &line.words[..]).collect();
        let read = conf::read(&mut machine, &words, now(), &mut |host| names::look_up(host));
        read.map_err(|(number, reason)| FileError::at(&lines[number].place, reason))?;
        let sentinel = Sentinel {
            machine,
            links: Links::default(),
            names: Names::default(),
            programs: Programs::default(),
            unsaved: None,
            rng: Rng::from_os(),
        };
        self.sentinel = Some(Box::new(sentinel));
        Ok(())
    }

    /// Begins to watch, with the configuration file written for the first time.
    ///
    /// # Errors
    /// The file cannot be written, without which a Sentinel must not vote.
    pub(in crate::server) fn begin_sentinel(&mut self) -> Result<(), String> {
        let Some(sentinel) = &mut self.sentinel else { return Ok(()) };
        sentinel.machine.ensure_id();
        self.save_sentinel()?;
        let Some(sentinel) = &mut self.sentinel else { return Ok(()) };
        let machine = &mut sentinel.machine;
        tracing::info!("Sentinel ID is {}", machine.id);
        for id in machine.primaries().to_vec() {
            machine.announce_monitor(id);
        }
        self.settle_sentinel();
        Ok(())
    }

    /// What is due. Called by the timer.
    #[inline]
    pub(in crate::server) fn sentinel_cron(&mut self) {
        if self.sentinel.is_some() {
            self.run_sentinel();
        }
    }

    fn run_sentinel(&mut self) {
        let Some(sentinel) = &mut self.sentinel else { return };
        while let Some((host, ip)) = sentinel.names.found() {
            sentinel.machine.resolved(&host, ip);
        }
        for (id, how) in sentinel.programs.ended() {
            sentinel.machine.script_ended(id, how, now());
        }
        sentinel.machine.own_password.clone_from(&self.config.security.requirepass);
        sentinel.machine.port = announced_port(&self.config);
        sentinel.machine.tick(now());
        // Sentinels that tick in step would ask for votes at the same time.
        let jitter_ms = sentinel.rng.below(50);
        self.event_loop.next_cron_ns = self.event_loop.next_cron_ns.saturating_sub(jitter_ms * 1_000_000);
        self.settle_sentinel();
    }

    /// Has the machine change something, and carries out what follows, before it returns. `None` if this is no Sentinel.
    pub fn sentinel_change<R>(&mut self, change: impl FnOnce(&mut Machine, i64) -> R) -> Option<R> {
        let sentinel = self.sentinel.as_mut()?;
        let result = change(&mut sentinel.machine, now());
        self.settle_sentinel();
        Some(result)
    }

    /// Why the configuration file could not be written the last time; `None` if it was.
    pub fn sentinel_unsaved(&self) -> Option<&str> {
        self.sentinel.as_ref()?.unsaved.as_deref()
    }

    /// Looks up a host name that a user has given, so that the machine knows it. Waits for the answer, as the user does.
    pub fn sentinel_look_up(&mut self, host: &str) {
        let Some(sentinel) = &mut self.sentinel else { return };
        if sentinel.machine.settings.resolve_hostnames && literal_ip(host).is_none() {
            sentinel.machine.resolved(host, names::look_up(host));
        }
    }

    pub(in crate::server) fn settle_sentinel(&mut self) {
        // Carrying out an action can lead to others: a connection may be refused at once.
        while let Some(sentinel) = &mut self.sentinel {
            let actions = sentinel.machine.take_actions();
            if actions.is_empty() {
                break;
            }
            // All of these were asked for in the state that is written.
            let mut saved = false;
            for action in actions {
                if action != Action::Save {
                    self.carry_out_for_sentinel(action);
                } else if !std::mem::replace(&mut saved, true) {
                    // The reason is kept.
                    let _ = self.save_sentinel();
                }
            }
        }
        self.flush_sentinel_links();
    }

    fn carry_out_for_sentinel(&mut self, action: Action) {
        match action {
            Action::Connect { conn, ip, port } => self.open_sentinel_link(conn, &ip, port),
            Action::Event { level, kind, text } => {
                log(level, &format!("{kind} {text}"));
                if level != Level::Debug {
                    self.publish(Scope::Channel, kind.as_bytes(), text.as_bytes());
                }
            }
            Action::Log(level, text) => log(level, &text),
            Action::Crash => {
                tracing::warn!("Exiting as SENTINEL SIMULATE-FAILURE asks for");
                std::process::exit(99);
            }
            Action::Save => {}
            Action::Send { .. }
            | Action::Close(_)
            | Action::Resolve(_)
            | Action::Start(_)
            | Action::Kill(_) => {
                let Some(sentinel) = &mut self.sentinel else { return };
                let Sentinel { machine, links, names, programs, .. } = &mut **sentinel;
                match action {
                    Action::Send { conn, bytes } => links.queue(conn, &bytes),
                    Action::Close(conn) => links.close(conn, self.event_loop.poll.as_ref()),
                    Action::Resolve(host) => names.ask(host),
                    Action::Start(job) => match programs.start(&job) {
                        Ok(pid) => machine.scripts.started(job.id, pid),
                        Err(how) => machine.script_ended(job.id, how, now()),
                    },
                    Action::Kill(pid) => programs.kill(pid),
                    _ => {}
                }
            }
        }
    }

    /// Writes the configuration file with all that the Sentinel knows.
    fn save_sentinel(&mut self) -> Result<(), String> {
        let Some(sentinel) = &mut self.sentinel else { return Ok(()) };
        let line = |(kind, line): (&'static str, Vec<u8>)| SentinelLine::written(kind, line);
        self.config.sentinel.lines = conf::write(&sentinel.machine).into_iter().map(line).collect();
        self.config.security.users = user_lines(&self.acl, &self.config.security);
        let path = self.identity.config_file.as_deref().unwrap_or("".as_ref());
        let written = rewrite::rewrite(&self.config, path, RewriteScope::Needed);
        let result = written.map_err(|error| os_error(&error).into_owned());
        match &result {
            Ok(()) => tracing::info!("Sentinel new configuration saved on disk"),
            Err(reason) => tracing::warn!(
                "WARNING: Sentinel was not able to save the new configuration on disk!!!: {reason}"
            ),
        }
        sentinel.unsaved = result.as_ref().err().cloned();
        result
    }
}

fn log(level: Level, text: &str) {
    match level {
        Level::Debug => tracing::trace!("{text}"),
        Level::Verbose => tracing::debug!("{text}"),
        Level::Notice => tracing::info!("{text}"),
        Level::Warning | Level::Nothing => tracing::warn!("{text}"),
    }
    advise_behind(text);
}
