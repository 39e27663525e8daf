//! The program's course from command line to exit code.
//!
//! The order matters, and is that of Redis, whose log lines tools wait for: configuration, log, background, first
//! lines; then threads, signals, sockets; last `Ready to accept connections`. Steps that require a single thread
//! come first.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use crate::background::Background;
use crate::config::Config;
use crate::config::file::{self, CommandLine, FileError, FileErrors};
use crate::config::options::AdvancedOptions;
use crate::config::value::Choice;
use crate::net::listener::{self, ListenError, Listener};
use crate::net::poll::Poll;
use crate::net::signals::{self, Signals};
use crate::net::{descriptors, error_text};
use crate::server::command::Spec;
use crate::server::durability::persistence::{LoadFailure, log_load_error, temporary_name};
use crate::server::execution::users::UsersError;
use crate::server::process::check::{base_config, cannot_log, enter_directory, unknown_names};
use crate::server::process::daemon::{self, Manager, OomScore, Title};
use crate::server::process::version::{COMMIT, MODIFIED, REDIS_VERSION, VERSION};
use crate::server::process::watchdog::{self, Watchdog};
use crate::server::watching::metrics::Report;
use crate::server::{Identity, Server, process::crash};
use crate::stats::log;
use crate::stats::progress::Lines;
use crate::stdx::alloc;
use crate::stdx::cpu::CpuList;

/// Where the process id goes if a daemon is not told.
const DEFAULT_PIDFILE: &str = "/var/run/redis.pid";

/// What the process is to the machine it runs on.
#[derive(Debug, Default)]
pub struct Process {
    /// Name the program was called by, the `{title}` of the process title.
    pub name: OsString,
    /// Memory that `ps` reads as the title; `None` if it cannot be changed.
    pub title: Option<Title>,
    /// Service manager that started the process.
    pub manager: Manager,
    /// The kernel's out-of-memory score.
    pub oom_score: OomScore,
    /// Thread that detects a stuck event loop, if enabled.
    pub watchdog: Option<Watchdog>,
}

/// Runs a server as the command line says, under the program name `name`, with the commands of `groups`, until it
/// ends. `report` writes what it tells of itself to those who ask for metrics. Call this once, from the first and only thread.
pub fn run(
    name: OsString,
    title: Option<Title>,
    line: &CommandLine,
    groups: &[&'static [Spec]],
    report: Report,
) -> ExitCode {
    let _ = log::init(log::LogDestination::default());
    match start(name, title, line, groups, report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            ExitCode::FAILURE
        }
    }
}

/// Why the server did not start.
enum Failure {
    /// The configuration is wrong. Printed on standard error.
    Config(String),
    /// Any other reason, as a line for the log.
    Line(String),
}

impl Failure {
    fn line(text: impl ToString) -> Failure {
        Failure::Line(text.to_string())
    }

    fn report(&self) {
        match self {
            Failure::Config(text) => {
                eprint!(
                    "\n{text}Mend these lines. To look at a file without a start: spinel --check-config FILE\n"
                )
            }
            Failure::Line(text) => tracing::error!("{text}"),
        }
    }
}

fn start(
    name: OsString,
    title: Option<Title>,
    line: &CommandLine,
    groups: &[&'static [Spec]],
    report: Report,
) -> Result<(), Failure> {
    if line.sentinel && line.file.is_none() {
        return Err(Failure::line("Sentinel needs config file on disk to save state. Exiting..."));
    }
    let mut config = base_config(line.sentinel);
    let text = line.text().map_err(unusable)?;
    let loaded = file::load(&text, &mut config);
    let unknown = unknown_names(&config, groups);
    let notes = match loaded {
        Ok(notes) if unknown.is_empty() => notes,
        Ok(_) => return Err(unusable(FileErrors(unknown))),
        Err(FileErrors(errors)) => return Err(unusable(FileErrors([errors, unknown].concat()))),
    };
    // Relative paths are relative to the directory in which the program was called.
    let config_file = line.file.as_deref().map(absolute);
    let executable = std::env::current_exe().unwrap_or_default();
    enter_directory(&mut config).map_err(Failure::line)?;
    start_log(&config)?;

    let manager = Manager::find(config.general.supervised);
    manager.greet();
    let in_background = config.general.daemonize && manager == Manager::None;
    if in_background {
        daemon::detach().map_err(|error| Failure::line(format!("Can't go to the background: {error}")))?;
        // The process that logs exists only after the step into the background.
        start_log(&config)?;
    }
    if (in_background || !config.general.pidfile.is_empty()) && config.general.pidfile.is_empty() {
        config.general.pidfile = DEFAULT_PIDFILE.into();
    }

    daemon::check_memory_settings(config.advanced.disable_thp);
    tracing::info!("oO0OoO0OoO0Oo Spinel is starting oO0OoO0OoO0Oo");
    tracing::info!(
        "Spinel version={VERSION}, Redis version={REDIS_VERSION}, bits={}, commit={COMMIT}, modified={MODIFIED}, pid={}, just started",
        usize::BITS,
        std::process::id()
    );
    if *line == CommandLine::default() {
        tracing::warn!(
            "Warning: no config file specified, using the default config. In order to specify a config file use {} \
             /path/to/redis.conf",
            name.to_string_lossy()
        );
    } else {
        tracing::info!("Configuration loaded");
    }

    if !alloc::has_small_classes() {
        tracing::warn!(
            "WARNING: This program was built without the settings of the allocator that it is made for, and needs more \
             memory for small keys. Build it in its own directory, or with the environment variable \
             JEMALLOC_SYS_WITH_LG_QUANTUM=3."
        );
    }
    for note in notes {
        tracing::warn!("{note}");
    }

    log::set_role(if line.sentinel { 'X' } else { 'M' });
    tracing::info!("monotonic clock: POSIX clock_gettime");
    // A process that may open few files serves few clients; asked for too many, it says so and goes on.
    let clients = descriptors::adjust(config.net.maxclients as usize, usize::from(config.net.io_threads))
        .map_err(Failure::line)?;
    config.net.maxclients = u32::try_from(clients).unwrap_or(u32::MAX).min(config.net.maxclients);
    let bio_cpus = cpu_list(&config.advanced.bio_cpulist);
    let background = Background::start(bio_cpus.as_ref()).map_err(|error| {
        Failure::line(format!("Fatal: Can't initialize Background Jobs. Error message: {error}"))
    })?;
    alloc::purge_in_background(config.advanced.jemalloc_bg_thread);
    // After the threads have started, because they would inherit the CPU list.
    if let Some(cpus) = cpu_list(&config.advanced.server_cpulist)
        && let Err(error) = cpus.pin_this_thread()
    {
        tracing::warn!("Can't pin the server to the CPUs of server-cpulist: {error}");
    }
    let poll = Poll::new().map_err(|error| {
        Failure::line(format!("Failed creating the event loop. Error message: '{error}'"))
    })?;
    let signals =
        Signals::install(&poll.waker()).map_err(|error| Failure::line(format!("Signals: {error}")))?;

    watchdog::answer_alarms(&poll.waker());

    // A number as text contains no NUL byte.
    let _ = signals::remove_when_interrupted(&temporary_name(std::process::id()));

    // Never freed: at exit the system reclaims the memory faster than dropping key by key.
    let renamed = config.security.renamed_commands.clone();
    let server = crash::watch(Box::leak(Box::new(Server::new(config, groups, Arc::new(background)))));
    for command in renamed {
        server
            .commands
            .rename(&command.from, &command.to)
            .map_err(|reason| unusable(FileError::at(&command.place, reason.to_string())))?;
    }
    server.apply_users(Lines::Log).map_err(unusable_users)?;
    server.identity.config_file = config_file;
    if line.sentinel {
        refuse_readonly(server.identity.config_file.as_deref())?;
        server.become_sentinel().map_err(unusable)?;
    }
    server.identity.executable = executable;
    server.process = Process { name, title, manager, ..Process::default() };

    write_pidfile(&server.config, server.identity.pid);
    server.process.show_title(&server.config, &server.identity);
    show_logo(&server.config, server.identity.pid);
    listener::warn_if_backlog_is_cut(server.config.net.backlog);
    server
        .configure_tls()
        .map_err(|_| Failure::line("Failed to configure TLS. Check logs for more info."))?;
    let ready = server.open_listeners()?;
    server.serve_metrics(report).map_err(Failure::line)?;
    if server.config.cluster.enabled && !line.sentinel {
        server.open_cluster().map_err(Failure::line)?;
    }
    if let Err(error) =
        server.process.apply_oom_score(&server.config.advanced, server.config.replication.replicaof.is_some())
    {
        tracing::warn!("Unable to write oom_score_adj: {}", error_text(&error));
    }
    let maxmemory = server.config.memory.maxmemory;
    if (1..1 << 20).contains(&maxmemory) {
        tracing::warn!(
            "WARNING: You specified a maxmemory value that is less than 1MB (current value is {maxmemory} bytes). \
             Are you sure this is what you really want?"
        );
    }
    tracing::info!("Server initialized");
    let waker = poll.waker();
    let waker_of_memory = poll.waker();
    server.keyspace.reclaimer.set_wake(Arc::new(move || waker_of_memory.wake()));
    server.aof.log.set_wake(Arc::new(move || waker.wake()));
    server
        .event_loop
        .watch_sockets(poll)
        .map_err(|error| Failure::Line(format!("Fatal: the event loop failed: {error}")))?;
    server.watch_bus().map_err(|error| Failure::Line(format!("Fatal: the event loop failed: {error}")))?;
    server.event_loop.request = Some(signals.request());
    server.apply_watchdog();
    server
        .apply_io_threads()
        .map_err(|error| Failure::Line(format!("Fatal: Can't start I/O threads: {}", error_text(&error))))?;
    server.event_loop.stopwatch.start();
    if line.sentinel {
        server.begin_sentinel().map_err(|reason| {
            Failure::line(format!("Sentinel config file is not writable: {reason}. Exiting..."))
        })?;
    } else {
        server.load_data(&signals)?;
        server.verify_cluster_data().map_err(Failure::line)?;
        server.begin_replication();
    }
    for kind in ready {
        tracing::info!("Ready to accept connections {kind}");
    }
    manager.notify("STATUS=Ready to accept connections\nREADY=1\n");

    let served = server.run(&signals);
    if let Err(error) = served {
        return Err(Failure::Line(format!("Fatal: the event loop failed: {error}")));
    }
    server.finish_shutdown();
    Ok(())
}

/// Refuses a configuration file that a Sentinel could not write.
fn refuse_readonly(file: Option<&Path>) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    match std::fs::OpenOptions::new().append(true).open(file) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Line(format!(
            "Sentinel config file {} is not writable: {}. Exiting...",
            file.display(),
            error_text(&error)
        ))),
    }
}

fn unusable(errors: impl Into<FileErrors>) -> Failure {
    let errors = errors.into();
    let text = errors.message(&format!("Spinel {VERSION}"));
    if errors.only_unreadable() { Failure::Line(text.trim_end().into()) } else { Failure::Config(text) }
}

fn unusable_users(error: UsersError) -> Failure {
    match error {
        UsersError::Line(place, reason) => unusable(FileError::at(&place, reason)),
        UsersError::Both | UsersError::File(_) => Failure::line(error),
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

fn start_log(config: &Config) -> Result<(), Failure> {
    const SAME: &str = "configuration and log know the same words";
    let logs = &config.logs;
    let syslog = logs.syslog_enabled.then(|| log::Syslog {
        ident: logs.syslog_ident.clone(),
        facility: logs.syslog_facility.name().parse().expect(SAME),
    });
    let options = log::LogDestination {
        level: logs.level.name().parse().expect(SAME),
        file: (!logs.file.is_empty()).then(|| logs.file.clone().into()),
        syslog,
    };
    log::set_format(
        logs.format.name().parse().expect(SAME),
        logs.timestamp_format.name().parse().expect(SAME),
    );
    log::init(options).map_err(|error| Failure::Config(cannot_log(&logs.file, &error) + "\n"))
}

/// Parses a configured CPU list; `None` for all CPUs.
fn cpu_list(text: &str) -> Option<CpuList> {
    if text.is_empty() {
        return None;
    }
    let list = text.parse();
    if let Err(error) = &list {
        tracing::warn!("Ignoring the CPU list '{text}': {error}");
    }
    list.ok()
}

impl Server {
    /// Loads what was saved, if anything was. Clients that come meanwhile are told to wait.
    fn load_data(&mut self, signals: &Signals) -> Result<(), Failure> {
        let started = Instant::now();
        let path = PathBuf::from(&self.config.persistence.dbfilename);
        // What a replica has of the stream behind its last position is sent once more.
        self.aof.cut_to_position = self.config.replication.replicaof.is_some();
        self.aof.read_manifest(&self.config.persistence).map_err(Failure::line)?;
        signals.set_loading(true);
        if self.config.persistence.appendonly {
            let loaded = self.load_aof(&mut |server| server.serve_meanwhile(signals));
            signals.set_loading(false);
            if loaded.map_err(Failure::line)? {
                tracing::info!(
                    "DB loaded from append only file: {:.3} seconds",
                    started.elapsed().as_secs_f64()
                );
            }
            // A client may have switched the log off during loading.
            if !self.config.persistence.appendonly {
                return Ok(());
            }
            return self.open_aof().map_err(Failure::line);
        }
        let loaded = self.load_rdb(&path, false, |server| server.serve_meanwhile(signals));
        signals.set_loading(false);
        match loaded {
            Ok(()) => {
                tracing::info!("DB loaded from disk: {:.3} seconds", started.elapsed().as_secs_f64());
                Ok(())
            }
            Err(LoadFailure::Open { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(failure @ (LoadFailure::Open { .. } | LoadFailure::Busy)) => {
                tracing::warn!("Fatal error: {failure}");
                Err(Failure::line("Fatal error loading the DB, check server logs. Exiting."))
            }
            Err(LoadFailure::Load(error)) => {
                log_load_error(&error);
                Err(Failure::line("Terminating server after rdb file reading failure."))
            }
        }
    }

    /// Opens all configured listeners and returns the kinds of sockets.
    fn open_listeners(&mut self) -> Result<Vec<&'static str>, Failure> {
        let net = &self.config.net;
        let (mut listeners, mut kinds) = (Vec::new(), Vec::new());
        if net.port != 0 {
            let tcp = listener::listen_tcp(&net.bind, net.port, net.backlog).map_err(Failure::line)?;
            if tcp.is_empty() && !net.bind.is_empty() {
                return Err(Failure::line(ListenError::Tcp { port: net.port }));
            }
            if !tcp.is_empty() {
                kinds.push("tcp");
            }
            listeners.extend(tcp);
        }
        if !net.unixsocket.is_empty() {
            let path = Path::new(&net.unixsocket);
            let unix = listener::listen_unix(path, net.unixsocketperm, net.backlog);
            listeners.push(unix.map_err(Failure::line)?);
            kinds.push("unix");
        }
        let port = self.config.tls.port;
        if port != 0 {
            let failed = ListenError::Tls { port };
            let tls =
                listener::listen_tcp(&net.bind, port, net.backlog).map_err(|_| Failure::line(&failed))?;
            if tls.is_empty() && !net.bind.is_empty() {
                return Err(Failure::line(failed));
            }
            if !tls.is_empty() {
                kinds.push("tls");
            }
            listeners.extend(tls.into_iter().map(Listener::secure));
        }
        if listeners.is_empty() {
            return Err(Failure::line("Configured to not listen anywhere, exiting."));
        }
        self.event_loop.listeners.extend(listeners);
        Ok(kinds)
    }
}

impl Process {
    /// In a child process: moves it to the configured CPUs, and sets its out-of-memory score.
    pub(in crate::server) fn settle_child(&mut self, options: &AdvancedOptions, cpus: &str) {
        if !cpus.is_empty()
            && let Ok(cpus) = cpus.parse::<CpuList>()
        {
            // The child can do its work on any CPU.
            let _ = cpus.pin_this_thread();
        }
        let [_, _, background] = options.oom_score_adj_values;
        let _ = self.oom_score.apply(options.oom_score_adj, background);
    }

    /// Sets the process title from the template. Call this again when the template or an address has changed.
    pub fn show_title(&mut self, config: &Config, identity: &Identity) {
        if !config.general.set_proc_title {
            return;
        }
        let text = self.expanded_title(config, identity);
        if let Some(title) = &mut self.title {
            title.set(&text);
        }
    }

    fn expanded_title(&self, config: &Config, identity: &Identity) -> Vec<u8> {
        let net = &config.net;
        let port = net.port.to_string();
        let tls_port = config.tls.port.to_string();
        let shown_port = if net.port != 0 { &port } else { &tls_port };
        let listens_at = match net.bind.first() {
            _ if net.port == 0 && config.tls.port == 0 => net.unixsocket.clone(),
            address => {
                format!("{}:{shown_port}", address.map_or("*", |address| address.trim_start_matches('-')))
            }
        };
        let config_file = identity.config_file.as_deref().unwrap_or(Path::new("")).as_os_str();
        expand(&config.general.proc_title_template, |variable| match variable {
            "title" => self.name.as_os_str(),
            "listen-addr" => OsStr::new(&listens_at),
            "port" => OsStr::new(&port),
            "tls-port" => OsStr::new(&tls_port),
            "unixsocket" => OsStr::new(&net.unixsocket),
            "config-file" => config_file,
            "server-mode" if config.sentinel.enabled => OsStr::new("[sentinel]"),
            "server-mode" if config.cluster.enabled => OsStr::new("[cluster]"),
            // A standalone server shows no mode.
            _ => OsStr::new(""),
        })
    }

    /// Sets the kernel's out-of-memory score as configured. Call this again when the configuration has changed.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn apply_oom_score(&mut self, options: &AdvancedOptions, is_replica: bool) -> io::Result<()> {
        let [primary, replica, _] = options.oom_score_adj_values;
        self.oom_score.apply(options.oom_score_adj, if is_replica { replica } else { primary })
    }
}

/// Writes the process ID to the configured file. An error is logged.
fn write_pidfile(config: &Config, pid: u32) {
    let path = &config.general.pidfile;
    if path.is_empty() {
        return;
    }
    if let Err(error) = std::fs::write(path, format!("{}\n", pid)) {
        tracing::info!("Failed to write PID file: {}", error_text(&error));
    }
}

/// Logs the logo on a terminal or if configured, and one line otherwise.
fn show_logo(config: &Config, pid: u32) {
    let general = &config.general;
    let port = config.main_port();
    let mode = match (config.sentinel.enabled, config.cluster.enabled) {
        (true, _) => "sentinel",
        (_, true) => "cluster",
        _ => "standalone",
    };
    let at_terminal =
        config.logs.file.is_empty() && !config.logs.syslog_enabled && io::stdout().is_terminal();
    if general.always_show_logo || at_terminal {
        log::raw(log::Level::Notice, &logo(mode, port, pid));
    } else {
        tracing::info!("Running mode={mode}, port={port}.");
    }
}

/// An octahedron, the crystal shape of spinels. Scripts read the words `Port:` and `PID:`.
fn logo(mode: &str, port: u16, pid: u32) -> String {
    let bits = usize::BITS;
    format!(
        r"
              .
             /|\
            / | \            Spinel {VERSION} ({COMMIT}/{MODIFIED}, Redis {REDIS_VERSION}) {bits} bit
           /  |  \
          /   |   \          Running in {mode} mode
         /    |    \         Port: {port}
        /  .-'|'-.  \        PID: {pid}
       /.-'   |   '-.\
       '-.    |    .-'
        \ '-. | .-' /
         \   '|'   /
          \   |   /
           \  |  /
            \ | /
             \|/
              '

"
    )
}

/// Replaces each `{variable}` of the template and removes blanks at the end.
fn expand<'v>(template: &str, value: impl Fn(&str) -> &'v OsStr) -> Vec<u8> {
    let mut text = Vec::new();
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once('{') {
        text.extend_from_slice(before.as_bytes());
        let (variable, after) = tail.split_once('}').unwrap_or((tail, ""));
        text.extend_from_slice(value(variable).as_bytes());
        rest = after;
    }
    text.extend_from_slice(rest.as_bytes());
    text.truncate(text.trim_ascii_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_expanded() {
        let value = |variable: &str| OsStr::new(if variable == "port" { "6379" } else { "" });
        assert_eq!(expand("a {port}:{port} {mode} ", value), b"a 6379:6379");
        assert_eq!(expand("plain", value), b"plain");
    }

    #[test]
    fn the_logo_says_what_scripts_look_for() {
        let logo = logo("standalone", 6379, 42);
        assert!(logo.contains(" PID: 42\n") && logo.contains(" Port: 6379\n"));
    }
}
