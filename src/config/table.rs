//! The parameter table, one line per parameter, in the order of `redis.conf`.
//!
//! A line states name, kind with field and range, effects of a change, and summary, followed by unusual properties.
//! The default is that of the field in [`super::options`]. To add a parameter, add a field there, a line here and a
//! paragraph in `redis.conf`; tests fail if one of these is missing.

use super::Reason;
use super::options::Config;
use super::param::{AnyChoice, AnyWords, Effects, Field, Kind, Number, Param, Range};
use super::value::{self, MemoryOrPercent};
use crate::stdx::locale;

/// Parameters that belong together.
pub struct Group {
    /// Heading in `--help` and `redis.conf`.
    pub title: &'static str,
    /// Parameters of the group.
    pub params: &'static [Param],
}

/// Access to a field, as `at!(topic.field)`.
macro_rules! at {
    ($($field:ident).+) => {
        &Field {
            get: |config: &Config| &config.$($field).+,
            get_mut: |config: &mut Config| &mut config.$($field).+,
        }
    };
}

const I32: i128 = i32::MAX as i128;
const U32: i128 = u32::MAX as i128;
const I64: i128 = i64::MAX as i128;
const U64: i128 = u64::MAX as i128;
const PORT: i128 = u16::MAX as i128;

const fn p(name: &'static str, kind: Kind, effects: Effects, summary: &'static str) -> Param {
    Param::new(name, kind, effects, summary)
}
const fn yes_no(at: &'static Field<bool>) -> Kind {
    Kind::Bool(at)
}
const fn int(at: &'static dyn Number, min: i128, max: i128) -> Kind {
    Kind::Int(at, Range { min, max })
}
const fn memory(at: &'static dyn Number, min: i128, max: i128) -> Kind {
    Kind::Memory(at, Range { min, max })
}
const fn octal(at: &'static dyn Number, min: i128, max: i128) -> Kind {
    Kind::Octal(at, Range { min, max })
}
const fn memory_or_percent(at: &'static Field<MemoryOrPercent>) -> Kind {
    Kind::MemoryOrPercent(at)
}
const fn text(at: &'static Field<String>) -> Kind {
    Kind::Text(at, any)
}
const fn checked(at: &'static Field<String>, check: fn(&str) -> Result<(), Reason>) -> Kind {
    Kind::Text(at, check)
}
const fn bytes(at: &'static Field<Vec<u8>>) -> Kind {
    Kind::Bytes(at)
}
const fn choice(at: &'static dyn AnyChoice) -> Kind {
    Kind::Choice(at)
}
const fn word(at: &'static dyn AnyWords) -> Kind {
    Kind::Word(at)
}
const fn words(at: &'static dyn AnyWords) -> Kind {
    Kind::Words(at)
}

const ALWAYS_READ: &str = "I/O threads always receive as well as send";
const NO_MODULES: &str = "this version has no modules";

/// All groups, in the order of `redis.conf`.
pub static GROUPS: &[Group] = &[
    Group { title: "Network", params: NETWORK },
    Group { title: "TLS", params: TLS },
    Group { title: "General", params: GENERAL },
    Group { title: "Snapshots", params: SNAPSHOTS },
    Group { title: "Append-only file", params: APPEND_ONLY },
    Group { title: "Replication", params: REPLICATION },
    Group { title: "Security", params: SECURITY },
    Group { title: "Clients", params: CLIENTS },
    Group { title: "Memory", params: MEMORY },
    Group { title: "Lazy freeing", params: LAZYFREE },
    Group { title: "Threads and processors", params: THREADS },
    Group { title: "Kernel", params: KERNEL },
    Group { title: "Shutdown and scripts", params: SHUTDOWN },
    Group { title: "Cluster", params: CLUSTER },
    Group { title: "Slow commands and latency", params: LATENCY },
    Group { title: "Metrics", params: METRICS },
    Group { title: "Keyspace events", params: EVENTS },
    Group { title: "Encodings", params: ENCODINGS },
    Group { title: "Timer and rehashing", params: TIMER },
    Group { title: "Active defragmentation", params: DEFRAG },
    Group { title: "Testing", params: TESTING },
];

/// All parameters, including hidden ones.
pub fn params() -> impl Iterator<Item = &'static Param> {
    GROUPS.iter().flat_map(|group| group.params)
}

/// The parameter with this name or alias, in any letter case. O(parameters).
pub fn find(name: &[u8]) -> Option<&'static Param> {
    params().find(|param| param.names().any(|known| known.as_bytes().eq_ignore_ascii_case(name)))
}

/// Groups with the parameters that `--help` shows.
pub fn help_by_group() -> impl Iterator<Item = (&'static str, impl Iterator<Item = &'static Param>)> {
    let shown = |group: &'static Group| (group.title, group.params.iter().filter(|param| !param.hidden));
    GROUPS.iter().filter(|group| group.params.iter().any(|param| !param.hidden)).map(shown)
}

fn any(_: &str) -> Result<(), Reason> {
    Ok(())
}

/// Checks that the system has a locale.
fn locale(name: &str) -> Result<(), Reason> {
    if locale::is_known(name) { Ok(()) } else { Err("Invalid locale name".into()) }
}

/// Checks that a directory exists; whether it can be entered shows when the server changes into it.
fn directory(path: &str) -> Result<(), Reason> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err("Not a directory".into()),
        Err(error) => Err(super::os_error(&error)),
    }
}

fn dbfilename(name: &str) -> Result<(), Reason> {
    plain_name(name, "dbfilename can't be a path, just a filename")
}

fn appendfilename(name: &str) -> Result<(), Reason> {
    if name.is_empty() {
        return Err("appendfilename can't be empty".into());
    }
    plain_name(name, "appendfilename can't be a path, just a filename")
}

fn appenddirname(name: &str) -> Result<(), Reason> {
    if name.is_empty() {
        return Err("appenddirname can't be empty".into());
    }
    plain_name(name, "appenddirname can't be a path, just a dirname")
}

fn plain_name(name: &str, refused: &'static str) -> Result<(), Reason> {
    if name.contains(['/', '\\']) { Err(refused.into()) } else { Ok(()) }
}

#[rustfmt::skip]
const NETWORK: &[Param] = &[
    p("bind", words(at!(net.bind)), Effects::LISTENERS.with(Effects::PROC_TITLE), "Addresses to listen on; a leading - forgives one this machine lacks."),
    p("bind-source-addr", text(at!(net.bind_source_addr)), Effects::NONE, "Address that outgoing connections start from."),
    p("protected-mode", yes_no(at!(net.protected_mode)), Effects::NONE, "Refuse remote clients while the default user has no password."),
    p("port", int(at!(net.port), 0, PORT), Effects::LISTENERS.with(Effects::PROC_TITLE).with(Effects::CLUSTER), "TCP port to listen on; 0 for none."),
    p("tcp-backlog", int(at!(net.backlog), 0, I32), Effects::NONE, "Length of the queue of connections not yet accepted.").immutable(),
    p("unixsocket", text(at!(net.unixsocket)), Effects::NONE, "Path of a Unix socket to listen on.").immutable(),
    p("unixsocketperm", octal(at!(net.unixsocketperm), 0, 0o777), Effects::NONE, "Permissions of the Unix socket, in octal; 0 leaves them to the umask.").immutable(),
    p("timeout", int(at!(net.timeout_s), 0, I32), Effects::NONE, "Seconds without a command after which a client is closed; 0 never."),
    p("tcp-keepalive", int(at!(net.tcp_keepalive_s), 0, I32), Effects::NONE, "Seconds between keepalive probes to a silent client; 0 sends none."),
    p("socket-mark-id", int(at!(net.socket_mark_id), 0, U32), Effects::NONE, "Mark on listening sockets for routing and filtering; 0 for none.").immutable().unused("listening sockets are not marked"),
];

#[rustfmt::skip]
const TLS: &[Param] = &[
    p("tls-port", int(at!(tls.port), 0, PORT), Effects::TLS.with(Effects::LISTENERS), "TCP port to listen on for TLS; 0 for none."),
    p("tls-cert-file", text(at!(tls.cert_file)), Effects::TLS, "File of the server's certificate."),
    p("tls-key-file", text(at!(tls.key_file)), Effects::TLS, "File of the private key."),
    p("tls-key-file-pass", bytes(at!(tls.key_file_pass)), Effects::TLS, "Password of the private key.").sensitive(),
    p("tls-client-cert-file", text(at!(tls.client_cert_file)), Effects::TLS, "Certificate for outgoing connections; empty for the server's."),
    p("tls-client-key-file", text(at!(tls.client_key_file)), Effects::TLS, "Private key for outgoing connections."),
    p("tls-client-key-file-pass", bytes(at!(tls.client_key_file_pass)), Effects::TLS, "Password of that private key.").sensitive(),
    p("tls-dh-params-file", text(at!(tls.dh_params_file)), Effects::NONE, "Parameters of the Diffie-Hellman key exchange.").unused("keys are agreed on over elliptic curves only"),
    p("tls-ca-cert-file", text(at!(tls.ca_cert_file)), Effects::TLS, "Certificates of the authorities that vouch for others."),
    p("tls-ca-cert-dir", text(at!(tls.ca_cert_dir)), Effects::TLS, "Directory of such certificates."),
    p("tls-auth-clients", choice(at!(tls.auth_clients)), Effects::TLS, "Whether clients must show a certificate."),
    p("tls-auth-clients-user", choice(at!(tls.auth_clients_user)), Effects::TLS, "Field of a client's certificate that names its user."),
    p("tls-replication", yes_no(at!(tls.replication)), Effects::TLS, "Copy the primary over TLS."),
    p("tls-cluster", yes_no(at!(tls.cluster)), Effects::TLS.with(Effects::CLUSTER), "Use TLS on the cluster bus."),
    p("tls-protocols", text(at!(tls.protocols)), Effects::TLS, "Versions of TLS to speak; empty for those thought safe."),
    p("tls-ciphers", text(at!(tls.ciphers)), Effects::TLS, "Ciphers for TLS up to 1.2."),
    p("tls-ciphersuites", text(at!(tls.ciphersuites)), Effects::TLS, "Cipher suites for TLS 1.3."),
    p("tls-prefer-server-ciphers", yes_no(at!(tls.prefer_server_ciphers)), Effects::TLS, "Let the server's preference among ciphers win."),
    p("tls-session-caching", yes_no(at!(tls.session_caching)), Effects::TLS, "Let clients resume sessions."),
    p("tls-session-cache-size", int(at!(tls.session_cache_size), 0, I32), Effects::TLS, "Sessions kept for that; 0 for no limit."),
    p("tls-session-cache-timeout", int(at!(tls.session_cache_timeout_s), 0, I32), Effects::TLS, "Seconds a session is kept."),
    p("tls-auto-reload-interval", int(at!(tls.auto_reload_interval_s), 0, I32), Effects::NONE, "Seconds between two looks for changed files; 0 for none."),
];

#[rustfmt::skip]
const GENERAL: &[Param] = &[
    p("daemonize", yes_no(at!(general.daemonize)), Effects::NONE, "Run in the background.").immutable(),
    p("supervised", choice(at!(general.supervised)), Effects::NONE, "Service manager to notify.").immutable(),
    p("pidfile", text(at!(general.pidfile)), Effects::NONE, "File to keep the process id in.").immutable(),
    p("loglevel", choice(at!(logs.level)), Effects::LOG_LEVEL, "Least important message to log."),
    p("log-format", choice(at!(logs.format)), Effects::LOG_LEVEL, "Form of the lines of the log."),
    p("log-timestamp-format", choice(at!(logs.timestamp_format)), Effects::LOG_LEVEL, "Form of the time in them."),
    p("logfile", text(at!(logs.file)), Effects::NONE, "File to log to; empty for standard output.").immutable(),
    p("syslog-enabled", yes_no(at!(logs.syslog_enabled)), Effects::NONE, "Log to syslog.").immutable(),
    p("syslog-ident", text(at!(logs.syslog_ident)), Effects::NONE, "Name to use in syslog.").immutable(),
    p("syslog-facility", choice(at!(logs.syslog_facility)), Effects::NONE, "Facility to use in syslog.").immutable(),
    p("crash-log-enabled", yes_no(at!(logs.crash_log_enabled)), Effects::NONE, "Write a report when the server crashes."),
    p("crash-memcheck-enabled", yes_no(at!(logs.crash_memcheck_enabled)), Effects::NONE, "Test the memory as part of that report."),
    p("databases", int(at!(general.databases), 1, I32), Effects::NONE, "Number of databases.").immutable(),
    p("compat-version", choice(at!(limits.compat_version)), Effects::NONE, "Server whose version is reported, and whose answer is given where servers differ.").immutable().unlisted(),
    p("always-show-logo", yes_no(at!(general.always_show_logo)), Effects::NONE, "Log the logo even when the log is not a terminal.").immutable(),
    p("set-proc-title", yes_no(at!(general.set_proc_title)), Effects::NONE, "Show the server's state in the process title.").immutable(),
    p("proc-title-template", checked(at!(general.proc_title_template), value::title_template), Effects::PROC_TITLE, "What the process title says."),
    p("locale-collate", checked(at!(general.locale_collate), locale), Effects::NONE, "Locale for comparing strings; empty takes the environment's.").unused("strings are compared byte by byte"),
    p("ignore-warnings", text(at!(general.ignore_warnings)), Effects::NONE, "Names of system checks whose warnings are not wanted."),
];

#[rustfmt::skip]
const SNAPSHOTS: &[Param] = &[
    p("save", words(at!(persistence.save)), Effects::DISK_ERROR, "Seconds and changes after which to take a snapshot, in pairs."),
    p("stop-writes-on-bgsave-error", yes_no(at!(persistence.stop_writes_on_bgsave_error)), Effects::DISK_ERROR, "Refuse writes after a background save failed."),
    p("rdbcompression", yes_no(at!(persistence.rdb_compression)), Effects::NONE, "Compress strings in snapshots."),
    p("rdbchecksum", yes_no(at!(persistence.rdb_checksum)), Effects::NONE, "End snapshots with a checksum, and check it.").immutable(),
    p("rdb-save-version", int(at!(persistence.rdb_save_version), 10, 14), Effects::NONE, "Version of the snapshots written: 10 for Redis 7.0, 11 for 7.2, 12 for 7.4, 13 for 8.6, 14 for 8.8."),
    p("rdb-skip-unsupported", yes_no(at!(persistence.rdb_skip_unsupported)), Effects::NONE, "Leave out values of types that are not supported when loading a snapshot."),
    p("sanitize-dump-payload", choice(at!(persistence.sanitize_dump_payload)), Effects::NONE, "Has no effect: values that are loaded or restored are always checked in full."),
    p("dbfilename", checked(at!(persistence.dbfilename), dbfilename), Effects::NONE, "File name of the snapshot.").protected(),
    p("rdb-del-sync-files", yes_no(at!(persistence.rdb_del_sync_files)), Effects::NONE, "Delete snapshots that served only replication."),
    p("rdb-save-incremental-fsync", yes_no(at!(persistence.rdb_save_incremental_fsync)), Effects::NONE, "Flush snapshots to disk piece by piece."),
    p("dir", checked(at!(persistence.dir), directory), Effects::DIR, "Directory of all files written.").protected().deny_loading(),
];

#[rustfmt::skip]
const APPEND_ONLY: &[Param] = &[
    p("appendonly", yes_no(at!(persistence.appendonly)), Effects::APPEND_ONLY, "Log every write to the append-only file.").deny_loading(),
    p("appendfilename", checked(at!(persistence.appendfilename), appendfilename), Effects::NONE, "Base name of the append-only files.").immutable(),
    p("appenddirname", checked(at!(persistence.appenddirname), appenddirname), Effects::NONE, "Directory of the append-only files, inside dir.").immutable(),
    p("appendfsync", choice(at!(persistence.appendfsync)), Effects::APPEND_FSYNC, "When the append-only file is flushed to disk."),
    p("no-appendfsync-on-rewrite", yes_no(at!(persistence.no_appendfsync_on_rewrite)), Effects::NONE, "Do not flush while a child process writes to disk."),
    p("auto-aof-rewrite-percentage", int(at!(persistence.aof_rewrite_percentage), 0, I32), Effects::NONE, "Growth in percent that starts a rewrite; 0 never."),
    p("auto-aof-rewrite-min-size", memory(at!(persistence.aof_rewrite_min_size), 0, I64), Effects::NONE, "Size below which no rewrite starts."),
    p("aof-load-truncated", yes_no(at!(persistence.aof_load_truncated)), Effects::NONE, "Load a file that ends in the middle of a command."),
    p("aof-use-rdb-preamble", yes_no(at!(persistence.aof_use_rdb_preamble)), Effects::NONE, "Rewrite into a snapshot instead of commands."),
    p("aof-timestamp-enabled", yes_no(at!(persistence.aof_timestamp_enabled)), Effects::NONE, "Note the time between commands."),
    p("aof-rewrite-incremental-fsync", yes_no(at!(persistence.aof_rewrite_incremental_fsync)), Effects::NONE, "Flush a rewrite to disk piece by piece."),
    p("aof-disable-auto-gc", yes_no(at!(persistence.aof_disable_auto_gc)), Effects::AOF_HISTORY, "Keep append-only files that are no longer needed."),
];

#[rustfmt::skip]
const REPLICATION: &[Param] = &[
    p("replicaof", words(at!(replication.replicaof)), Effects::NONE, "Host and port of the server to copy.").alias("slaveof").immutable(),
    p("masterauth", bytes(at!(replication.masterauth)), Effects::NONE, "Password to show to that server.").sensitive().hidden_alias("primaryauth"),
    p("masteruser", bytes(at!(replication.masteruser)), Effects::NONE, "User to be on that server.").sensitive().hidden_alias("primaryuser"),
    p("replica-serve-stale-data", yes_no(at!(replication.serve_stale_data)), Effects::ROLE, "Answer from old data while the link is down.").alias("slave-serve-stale-data"),
    p("replica-read-only", yes_no(at!(replication.read_only)), Effects::ROLE, "Refuse writes while a replica.").alias("slave-read-only"),
    p("repl-diskless-sync", yes_no(at!(replication.diskless_sync)), Effects::NONE, "Send full copies without a file."),
    p("repl-diskless-sync-delay", int(at!(replication.diskless_sync_delay_s), 0, I32), Effects::NONE, "Seconds to wait for more replicas before such a copy."),
    p("repl-diskless-sync-max-replicas", int(at!(replication.diskless_sync_max_replicas), 0, I32), Effects::NONE, "Number of replicas that ends the wait early; 0 for none."),
    p("repl-diskless-load", choice(at!(replication.diskless_load)), Effects::NONE, "When to load a full copy without a file.").deny_loading(),
    p("repl-ping-replica-period", int(at!(replication.ping_period_s), 1, I32), Effects::CLUSTER, "Seconds between pings to replicas.").alias("repl-ping-slave-period"),
    p("repl-timeout", int(at!(replication.timeout_s), 1, I32), Effects::NONE, "Seconds of silence after which a link is dead."),
    p("repl-disable-tcp-nodelay", yes_no(at!(replication.disable_tcp_nodelay)), Effects::NONE, "Let the kernel gather small packets to replicas."),
    p("repl-backlog-size", memory(at!(replication.backlog_size), 1, I64), Effects::BACKLOG, "Size of the stream kept for replicas that come back.").clamp(16 << 10, I64),
    p("repl-backlog-ttl", int(at!(replication.backlog_ttl_s), 0, I64), Effects::NONE, "Seconds the backlog outlives the last replica; 0 for ever."),
    p("replica-priority", int(at!(replication.priority), 0, I32), Effects::NONE, "Preference when Sentinel picks a new primary, lower first; 0 never.").alias("slave-priority"),
    p("propagation-error-behavior", choice(at!(replication.propagation_error_behavior)), Effects::NONE, "What to do when a replicated or logged command fails."),
    p("replica-ignore-disk-write-errors", yes_no(at!(replication.ignore_disk_write_errors)), Effects::NONE, "Go on when a replica cannot write its disk."),
    p("replica-announced", yes_no(at!(replication.announced)), Effects::NONE, "Be listed to Sentinel's clients."),
    p("min-replicas-to-write", int(at!(replication.min_replicas_to_write), 0, I32), Effects::ROLE, "Replicas needed to accept a write; 0 for none.").alias("min-slaves-to-write"),
    p("min-replicas-max-lag", int(at!(replication.min_replicas_max_lag_s), 0, I32), Effects::ROLE, "Seconds of lag up to which a replica counts for that.").alias("min-slaves-max-lag"),
    p("min-replicas-durable", int(at!(replication.min_replicas_durable), 0, I32), Effects::DURABILITY, "Replicas that must acknowledge a change before its reply is sent; 0 for none."),
    p("min-replicas-durable-mode", choice(at!(replication.min_replicas_durable_mode)), Effects::DURABILITY, "What they acknowledge: memory or fsync."),
    p("min-replicas-durable-timeout", int(at!(replication.min_replicas_durable_timeout_ms), 1, I64), Effects::NONE, "Milliseconds after which the outcome is said to be unknown."),
    p("replica-announce-ip", text(at!(replication.announce_ip)), Effects::NONE, "Address to announce to the primary.").alias("slave-announce-ip"),
    p("replica-announce-port", int(at!(replication.announce_port), 0, PORT), Effects::NONE, "Port to announce to the primary; 0 for the real one.").alias("slave-announce-port"),
    p("replica-ignore-maxmemory", yes_no(at!(replication.ignore_maxmemory)), Effects::NONE, "Leave eviction to the primary.").alias("slave-ignore-maxmemory"),
    p("replica-lazy-flush", yes_no(at!(replication.lazy_flush)), Effects::NONE, "Free the old data in the background before a full copy.").alias("slave-lazy-flush"),
];

#[rustfmt::skip]
const SECURITY: &[Param] = &[
    p("requirepass", bytes(at!(security.requirepass)), Effects::PASSWORD, "Password of the default user.").sensitive(),
    p("aclfile", text(at!(security.aclfile)), Effects::NONE, "File of users, instead of user lines in the configuration file.").immutable(),
    p("acl-pubsub-default", choice(at!(security.acl_pubsub_default)), Effects::NONE, "Channels a new user may use."),
    p("acllog-max-len", int(at!(security.acllog_max_len), 0, I64), Effects::ACL_LOG, "Entries ACL LOG keeps."),
    p("enable-protected-configs", choice(at!(security.enable_protected_configs)), Effects::NONE, "Who may set protected parameters at run time.").immutable(),
    p("enable-debug-command", choice(at!(security.enable_debug_command)), Effects::NONE, "Who may call DEBUG.").immutable(),
    p("enable-module-command", choice(at!(security.enable_module_command)), Effects::NONE, "Who may call MODULE LOAD and UNLOAD.").immutable().unused(NO_MODULES),
];

#[rustfmt::skip]
const CLIENTS: &[Param] = &[
    p("maxclients", int(at!(net.maxclients), 1, U32), Effects::MAXCLIENTS, "Clients served at once."),
    p("client-query-buffer-limit", memory(at!(limits.client_query_buffer), 1 << 20, I64), Effects::NONE, "Input one client may have waiting."),
    p("client-output-buffer-limit", words(at!(limits.client_output_buffer)), Effects::NONE, "Output one client may have waiting: class, hard limit, soft limit, seconds."),
    p("maxmemory-clients", memory_or_percent(at!(memory.maxmemory_clients)), Effects::CLIENT_MEMORY, "Memory all clients together may take; 0 for no limit."),
    p("proto-max-bulk-len", memory(at!(limits.proto_max_bulk_len), 1 << 20, I64), Effects::NONE, "Longest argument accepted."),
    p("tracking-table-max-keys", int(at!(security.tracking_table_max_keys), 0, I64), Effects::TRACKING, "Keys remembered for client-side caching; 0 for no limit."),
];

#[rustfmt::skip]
const MEMORY: &[Param] = &[
    p("maxmemory", memory(at!(memory.maxmemory), 0, U64), Effects::MAXMEMORY.with(Effects::EVICTION).with(Effects::CLIENT_MEMORY), "Memory the data may take; 0 for no limit."),
    p("maxmemory-policy", choice(at!(memory.policy)), Effects::EVICTION, "What goes when that is used up."),
    p("maxmemory-samples", int(at!(memory.samples), 1, I32), Effects::NONE, "Keys compared for each eviction."),
    p("maxmemory-eviction-tenacity", int(at!(memory.eviction_tenacity), 0, 100), Effects::NONE, "How long eviction may hold up commands: 0 least, 100 without limit."),
    p("lfu-log-factor", int(at!(memory.lfu_log_factor), 0, I32), Effects::EVICTION, "How slowly the frequency counter of a key saturates."),
    p("lfu-decay-time", int(at!(memory.lfu_decay_time_min), 0, I32), Effects::EVICTION, "Minutes without access that lower the counter; 0 never does."),
    p("active-expire-effort", int(at!(memory.active_expire_effort), 1, 10), Effects::NONE, "Effort of the background search for expired keys."),
];

#[rustfmt::skip]
const LAZYFREE: &[Param] = &[
    p("lazyfree-lazy-eviction", yes_no(at!(lazyfree.eviction)), Effects::LAZY_FREE, "Free evicted values in the background."),
    p("lazyfree-lazy-expire", yes_no(at!(lazyfree.expire)), Effects::LAZY_FREE, "Free expired values in the background."),
    p("lazyfree-lazy-server-del", yes_no(at!(lazyfree.server_del)), Effects::LAZY_FREE, "Free replaced values in the background."),
    p("lazyfree-lazy-user-del", yes_no(at!(lazyfree.user_del)), Effects::LAZY_FREE, "Let DEL behave as UNLINK."),
    p("lazyfree-lazy-user-flush", yes_no(at!(lazyfree.user_flush)), Effects::LAZY_FREE, "Let FLUSHALL and FLUSHDB behave as with ASYNC."),
];

#[rustfmt::skip]
const THREADS: &[Param] = &[
    p("io-threads", int(at!(net.io_threads), 1, 128), Effects::IO_THREADS, "Threads for socket I/O, the main one included."),
    p("io-threads-do-reads", yes_no(at!(net.io_threads_do_reads)), Effects::NONE, "Whether they receive as well; they always do.").immutable().unused(ALWAYS_READ),
    p("server_cpulist", text(at!(advanced.server_cpulist)), Effects::NONE, "Processors of the main and I/O threads.").immutable().hidden_alias("server-cpulist"),
    p("bio_cpulist", text(at!(advanced.bio_cpulist)), Effects::NONE, "Processors of the background threads.").immutable().hidden_alias("bio-cpulist"),
    p("aof_rewrite_cpulist", text(at!(advanced.aof_rewrite_cpulist)), Effects::NONE, "Processors of an append-only rewrite.").immutable().hidden_alias("aof-rewrite-cpulist"),
    p("bgsave_cpulist", text(at!(advanced.bgsave_cpulist)), Effects::NONE, "Processors of a background save.").immutable().hidden_alias("bgsave-cpulist"),
];

#[rustfmt::skip]
const KERNEL: &[Param] = &[
    p("oom-score-adj", choice(at!(advanced.oom_score_adj)), Effects::OOM_SCORE, "Set the kernel's out-of-memory score."),
    p("oom-score-adj-values", words(at!(advanced.oom_score_adj_values)), Effects::OOM_SCORE, "Scores of a primary, a replica and a child process."),
    p("disable-thp", yes_no(at!(advanced.disable_thp)), Effects::NONE, "Switch transparent huge pages off for this process.").immutable(),
];

#[rustfmt::skip]
const SHUTDOWN: &[Param] = &[
    p("shutdown-timeout", int(at!(general.shutdown_timeout_s), 0, I32), Effects::NONE, "Seconds a shutdown waits for replicas."),
    p("shutdown-on-sigint", words(at!(general.shutdown_on_sigint)), Effects::NONE, "How SIGINT shuts down."),
    p("shutdown-on-sigterm", words(at!(general.shutdown_on_sigterm)), Effects::NONE, "How SIGTERM shuts down."),
    p("busy-reply-threshold", int(at!(general.busy_reply_threshold_ms), 0, I64), Effects::NONE, "Milliseconds a script runs before others are told BUSY.").alias("lua-time-limit"),
];

#[rustfmt::skip]
const CLUSTER: &[Param] = &[
    p("cluster-enabled", yes_no(at!(cluster.enabled)), Effects::NONE, "Be a node of a cluster.").immutable(),
    p("cluster-config-file", text(at!(cluster.config_file)), Effects::NONE, "File the node keeps its view of the cluster in.").immutable(),
    p("cluster-node-timeout", int(at!(cluster.node_timeout_ms), 0, I64), Effects::CLUSTER, "Milliseconds of silence after which a node is failing."),
    p("cluster-port", int(at!(cluster.port), 0, PORT), Effects::NONE, "Port of the bus; 0 for the client port plus 10000.").immutable(),
    p("cluster-replica-validity-factor", int(at!(cluster.replica_validity_factor), 0, I32), Effects::CLUSTER, "Timeouts after which a replica's data is too old to take over; 0 for none.").alias("cluster-slave-validity-factor"),
    p("cluster-migration-barrier", int(at!(cluster.migration_barrier), 0, I32), Effects::CLUSTER, "Replicas a primary keeps when one moves to an orphan."),
    p("cluster-allow-replica-migration", yes_no(at!(cluster.allow_replica_migration)), Effects::CLUSTER, "Let replicas move to orphaned primaries."),
    p("cluster-require-full-coverage", yes_no(at!(cluster.require_full_coverage)), Effects::CLUSTER, "Stop answering while a slot has no node."),
    p("cluster-replica-no-failover", yes_no(at!(cluster.replica_no_failover)), Effects::CLUSTER, "Never start a failover unasked.").alias("cluster-slave-no-failover"),
    p("cluster-allow-reads-when-down", yes_no(at!(cluster.allow_reads_when_down)), Effects::NONE, "Answer reads while the cluster is down."),
    p("cluster-allow-pubsubshard-when-down", yes_no(at!(cluster.allow_pubsubshard_when_down)), Effects::NONE, "Serve sharded pub/sub while the cluster is down."),
    p("cluster-link-sendbuf-limit", memory(at!(cluster.link_sendbuf_limit), 0, U64), Effects::NONE, "Bytes a bus link may have queued; 0 for no limit."),
    p("cluster-announce-hostname", checked(at!(cluster.announce_hostname), value::host_name), Effects::CLUSTER, "Host name to announce."),
    p("cluster-announce-human-nodename", checked(at!(cluster.announce_human_nodename), value::node_name), Effects::CLUSTER, "Name for people to announce."),
    p("cluster-preferred-endpoint-type", choice(at!(cluster.preferred_endpoint_type)), Effects::NONE, "How a redirection names a node."),
    p("cluster-announce-ip", text(at!(cluster.announce_ip)), Effects::CLUSTER, "Address to announce."),
    p("cluster-announce-tls-port", int(at!(cluster.announce_tls_port), 0, PORT), Effects::CLUSTER, "TLS port to announce; 0 for the real one."),
    p("cluster-announce-port", int(at!(cluster.announce_port), 0, PORT), Effects::CLUSTER, "Client port to announce; 0 for the real one."),
    p("cluster-announce-bus-port", int(at!(cluster.announce_bus_port), 0, PORT), Effects::CLUSTER, "Bus port to announce; 0 for the real one."),
    p("cluster-databases", int(at!(cluster.databases), 1, I32), Effects::NONE, "Number of databases of a node.").immutable().unlisted(),
    p("cluster-blacklist-ttl", int(at!(cluster.blacklist_ttl_s), 0, I32), Effects::CLUSTER, "Seconds for which a node that was removed does not come back."),
    p("cluster-manual-failover-timeout", int(at!(cluster.manual_failover_timeout_ms), 1, I32), Effects::CLUSTER, "Milliseconds after which a failover on demand is given up."),
    p("cluster-slot-migration-log-max-len", int(at!(cluster.slot_migration_log_max_len), 0, I64), Effects::NONE, "Migrations of slots that are remembered."),
    p("slot-migration-max-failover-repl-bytes", memory(at!(cluster.slot_migration_max_failover_repl_bytes), -1, I64), Effects::NONE, "Bytes unsent when clients wait for the end of a migration; -1 for any."),
    p("cluster-slot-stats-enabled", yes_no(at!(cluster.slot_stats_enabled)), Effects::COMMAND_LOGS, "Measure what the requests for each slot cost."),
];

#[rustfmt::skip]
const LATENCY: &[Param] = &[
    p("slowlog-log-slower-than", int(at!(logs.slowlog_slower_than_us), -1, I64), Effects::COMMAND_LOGS, "Microseconds above which a command enters the slow log; -1 switches it off.").alias("commandlog-execution-slower-than"),
    p("slowlog-max-len", int(at!(logs.slowlog_max_len), 0, I64), Effects::COMMAND_LOGS, "Entries of the slow log.").alias("commandlog-slow-execution-max-len"),
    p("commandlog-request-larger-than", int(at!(logs.large_request_bytes), -1, I64), Effects::COMMAND_LOGS, "Bytes above which a request is logged; -1 switches it off."),
    p("commandlog-large-request-max-len", int(at!(logs.large_request_max_len), 0, I64), Effects::COMMAND_LOGS, "Entries of the log of large requests."),
    p("commandlog-reply-larger-than", int(at!(logs.large_reply_bytes), -1, I64), Effects::COMMAND_LOGS, "Bytes above which a reply is logged; -1 switches it off."),
    p("commandlog-large-reply-max-len", int(at!(logs.large_reply_max_len), 0, I64), Effects::COMMAND_LOGS, "Entries of the log of large replies."),
    p("latency-monitor-threshold", int(at!(logs.latency_monitor_threshold_ms), 0, I64), Effects::COMMAND_LOGS, "Milliseconds above which an event is recorded; 0 switches it off."),
    p("latency-tracking", yes_no(at!(logs.latency_tracking)), Effects::NONE, "Keep a histogram of each command's run time."),
    p("latency-tracking-info-percentiles", words(at!(logs.latency_percentiles)), Effects::NONE, "Percentiles of it that INFO shows."),
];

#[rustfmt::skip]
const METRICS: &[Param] = &[
    p("metrics-port", int(at!(metrics.port), 0, PORT), Effects::NONE, "TCP port for metrics over HTTP; 0 for none.").immutable().unlisted(),
    p("metrics-bind", words(at!(metrics.bind)), Effects::NONE, "Addresses to serve metrics at; a leading - forgives one this machine lacks.").immutable().unlisted(),
    p("metrics-keys", yes_no(at!(metrics.keys)), Effects::NONE, "Show names of hot and big keys on the page, while somebody looks at it."),
];

#[rustfmt::skip]
const EVENTS: &[Param] = &[
    p("notify-keyspace-events", word(at!(advanced.notify_keyspace_events)), Effects::KEYSPACE_EVENTS, "Classes of events to publish, one letter each."),
];

#[rustfmt::skip]
const ENCODINGS: &[Param] = &[
    p("hash-max-listpack-entries", int(at!(limits.types.hash_max_listpack_entries), 0, I64), Effects::NONE, "Fields of the longest hash kept as a listpack.").alias("hash-max-ziplist-entries"),
    p("hash-max-listpack-value", memory(at!(limits.types.hash_max_listpack_value), 0, I64), Effects::NONE, "Bytes of the longest field or value in it.").alias("hash-max-ziplist-value"),
    p("list-max-listpack-size", int(at!(limits.types.list_max_listpack_size), i32::MIN as i128, I32), Effects::NONE, "Size of a list node: elements, or -1 to -5 for 4 to 64 KB.").alias("list-max-ziplist-size"),
    p("list-compress-depth", int(at!(limits.types.list_compress_depth), 0, I32), Effects::NONE, "List nodes at each end left uncompressed; 0 compresses none."),
    p("set-max-intset-entries", int(at!(limits.types.set_max_intset_entries), 0, I64), Effects::NONE, "Members of the longest set kept as an intset."),
    p("set-max-listpack-entries", int(at!(limits.types.set_max_listpack_entries), 0, I64), Effects::NONE, "Members of the longest set kept as a listpack."),
    p("set-max-listpack-value", int(at!(limits.types.set_max_listpack_value), 0, I64), Effects::NONE, "Bytes of the longest member in it."),
    p("zset-max-listpack-entries", int(at!(limits.types.zset_max_listpack_entries), 0, I64), Effects::NONE, "Members of the longest sorted set kept as a listpack.").alias("zset-max-ziplist-entries"),
    p("zset-max-listpack-value", memory(at!(limits.types.zset_max_listpack_value), 0, I64), Effects::NONE, "Bytes of the longest member in it.").alias("zset-max-ziplist-value"),
    p("hll-sparse-max-bytes", memory(at!(limits.types.hll_sparse_max_bytes), 0, I64), Effects::NONE, "Bytes of the longest sparse HyperLogLog."),
    p("stream-node-max-bytes", memory(at!(limits.types.stream_node_max_bytes), 0, I64), Effects::NONE, "Bytes of a stream node; 0 for no limit."),
    p("stream-node-max-entries", int(at!(limits.types.stream_node_max_entries), 0, I64), Effects::NONE, "Entries of a stream node; 0 for no limit."),
];

#[rustfmt::skip]
const TIMER: &[Param] = &[
    p("hz", int(at!(advanced.hz), 0, I32), Effects::NONE, "Runs of the timer per second.").clamp(1, 500),
    p("dynamic-hz", yes_no(at!(advanced.dynamic_hz)), Effects::NONE, "Run the timer more often with many clients."),
    p("activerehashing", yes_no(at!(advanced.active_rehashing)), Effects::NONE, "Spend a millisecond in a hundred on unfinished rehashes."),
    p("jemalloc-bg-thread", yes_no(at!(advanced.jemalloc_bg_thread)), Effects::ALLOCATOR, "Let the allocator give memory back from its own thread."),
];

#[rustfmt::skip]
const DEFRAG: &[Param] = &[
    p("activedefrag", yes_no(at!(advanced.active_defrag)), Effects::DEFRAGMENTATION, "Move values to make memory compact."),
    p("active-defrag-ignore-bytes", memory(at!(advanced.defrag_ignore_bytes), 1, I64), Effects::NONE, "Waste below which nothing is moved."),
    p("active-defrag-threshold-lower", int(at!(advanced.defrag_threshold_lower), 0, 1000), Effects::NONE, "Waste in percent at which moving starts."),
    p("active-defrag-threshold-upper", int(at!(advanced.defrag_threshold_upper), 0, 1000), Effects::NONE, "Waste in percent at which the effort is greatest."),
    p("active-defrag-cycle-min", int(at!(advanced.defrag_cycle_min), 1, 99), Effects::NONE, "Least effort in percent of the processor."),
    p("active-defrag-cycle-max", int(at!(advanced.defrag_cycle_max), 1, 99), Effects::NONE, "Greatest effort in percent of the processor."),
    p("active-defrag-max-scan-fields", int(at!(advanced.defrag_max_scan_fields), 1, I64), Effects::NONE, "Elements above which a collection is moved in steps."),
];

#[rustfmt::skip]
const TESTING: &[Param] = &[
    p("key-load-delay", int(at!(debug.key_load_delay_us), i32::MIN as i128, I32), Effects::NONE, "Microseconds to pause after each key loaded.").hidden(),
    p("rdb-key-save-delay", int(at!(debug.rdb_key_save_delay_us), i32::MIN as i128, I32), Effects::NONE, "Microseconds to pause after each key saved.").hidden(),
    p("loading-process-events-interval-bytes", int(at!(debug.loading_process_events_interval_bytes), 1024, I32), Effects::NONE, "Bytes loaded between two looks at the sockets.").hidden(),
    p("watchdog-period", int(at!(debug.watchdog_period_ms), 0, I32), Effects::WATCHDOG, "A turn of the event loop that lasts so many milliseconds is reported in the log; 0 switches it off.").hidden(),
    p("lua-enable-deprecated-api", yes_no(at!(debug.lua_enable_deprecated_api)), Effects::NONE, "Offer scripts the calls that are no longer documented.").immutable().hidden(),
    p("use-exit-on-panic", yes_no(at!(debug.use_exit_on_panic)), Effects::NONE, "Exit instead of aborting after a crash report.").hidden(),
    p("cluster-ping-interval", int(at!(cluster.ping_interval_ms), 0, I32), Effects::CLUSTER, "Milliseconds between pings to a random node.").hidden(),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::config::file;

    const REDIS_CONF: &str = include_str!("../../redis.conf");

    #[test]
    fn names_are_unique() {
        let mut names = HashSet::new();
        for name in params().flat_map(Param::names) {
            assert!(names.insert(name), "{name} twice");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || b"-_".contains(&byte)), "{name}");
        }
    }

    #[test]
    fn defaults_read_back_as_themselves() {
        let defaults = Config::default();
        for param in params() {
            let mut config = defaults.clone();
            let printed = param.print(&defaults);
            if printed.is_empty() && param.name == "replicaof" {
                continue; // CONFIG GET shows no server as nothing, which is no server to copy
            }
            param
                .read(&mut config, &[&printed], false)
                .unwrap_or_else(|reason| panic!("{}: {reason}", param.name));
            assert!(config == defaults, "{}", param.name);
        }
    }

    /// The bounds of each range fit the field, and numbers beyond them are refused.
    #[test]
    fn ranges_fit_their_fields() {
        for param in params() {
            let (Kind::Int(at, range) | Kind::Memory(at, range) | Kind::Octal(at, range)) = &param.kind
            else {
                continue;
            };
            let mut config = Config::default();
            for end in [range.min, range.max] {
                at.set(&mut config, end);
                assert_eq!(at.get(&config), end, "{}", param.name);
                if let Kind::Int(..) = param.kind {
                    param.read(&mut config, &[end.to_string().as_bytes()], false).expect(param.name);
                }
            }
            for beyond in [range.min - 1, range.max + 1] {
                let before = config.clone();
                let octal = matches!(param.kind, Kind::Octal(..));
                let text = if octal { format!("{beyond:o}") } else { beyond.to_string() };
                assert!(param.read(&mut config, &[text.as_bytes()], false).is_err(), "{}", param.name);
                assert!(before == config);
            }
        }
    }

    #[test]
    fn each_parameter_has_a_field_of_its_own() {
        let mut config = Config::default();
        let before: Vec<_> = params().map(|param| param.print(&config)).collect();
        for (index, param) in params().enumerate() {
            config = Config::default();
            let accepted = [
                "yes",
                "no",
                "1",
                "2",
                "10",
                "20",
                "1048577",
                "x",
                "1 2",
                "1 2 3",
                "pubsub 1 2 3",
                "E",
                "warning",
                "C",
            ]
            .into_iter()
            .chain(match &param.kind {
                Kind::Choice(at) => at.words(),
                _ => vec!["save", "/", "host 1", "{port}"],
            })
            .any(|value| {
                param.read(&mut config, &[value.as_bytes()], false).is_ok()
                    && param.print(&config) != before[index]
            });
            assert!(accepted, "{} takes no other value", param.name);
            for (other, printed) in params().zip(&before) {
                assert!(
                    other.name == param.name || other.print(&config) == *printed,
                    "{} {}",
                    param.name,
                    other.name
                );
            }
        }
    }

    #[test]
    fn summaries_are_sentences() {
        for param in params() {
            assert!(param.summary.ends_with('.') && param.summary.len() < 100, "{}", param.name);
        }
    }

    #[test]
    fn help_shows_everything_but_what_is_hidden() {
        let shown: Vec<_> = help_by_group().flat_map(|(_, params)| params).map(|param| param.name).collect();
        let visible: Vec<_> = params().filter(|param| !param.hidden).map(|param| param.name).collect();
        assert_eq!(shown, visible);
        assert!(help_by_group().all(|(title, _)| title != "Testing"));
    }

    /// `(name, line)` of each parameter in `redis.conf`, including commented ones.
    fn conf_lines() -> impl Iterator<Item = (&'static str, &'static str)> {
        REDIS_CONF.lines().filter_map(|line| {
            let setting = line.strip_prefix('#').unwrap_or(line);
            let starts_name = setting.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
            starts_name.then(|| (setting.split(' ').next().expect("not empty"), setting))
        })
    }

    #[test]
    fn redis_conf_mentions_every_parameter_once_and_in_order() {
        // The only parameter with several lines, one for each class of clients.
        const LIMIT: &str = "client-output-buffer-limit";
        let mentioned: Vec<_> = conf_lines().map(|(name, _)| name).collect();
        assert_eq!(mentioned.iter().filter(|name| **name == LIMIT).count(), 3);
        let visible = params().filter(|param| !param.hidden).map(|param| param.name);
        let others: Vec<_> = mentioned.into_iter().filter(|name| *name != LIMIT).collect();
        assert_eq!(others, visible.filter(|name| *name != LIMIT).collect::<Vec<_>>());
        for (title, _) in help_by_group() {
            assert!(REDIS_CONF.contains(&format!("# {title} #")), "{title} is no heading");
        }
    }

    /// Programs set whatever `CONFIG GET *` answers, but for what cannot be set in Redis 7.2.
    #[test]
    fn what_patterns_find_can_be_set_or_is_known_as_immutable() {
        let known = [
            "tcp-backlog",
            "unixsocket",
            "unixsocketperm",
            "socket-mark-id",
            "daemonize",
            "supervised",
            "pidfile",
            "logfile",
            "syslog-enabled",
            "syslog-ident",
            "syslog-facility",
            "databases",
            "always-show-logo",
            "set-proc-title",
            "rdbchecksum",
            "appendfilename",
            "appenddirname",
            "replicaof",
            "aclfile",
            "enable-protected-configs",
            "enable-debug-command",
            "enable-module-command",
            "io-threads-do-reads",
            "server_cpulist",
            "bio_cpulist",
            "aof_rewrite_cpulist",
            "bgsave_cpulist",
            "disable-thp",
            "cluster-enabled",
            "cluster-config-file",
            "cluster-port",
        ];
        let listed = params().filter(|param| param.immutable && !param.hidden && !param.unlisted);
        assert_eq!(listed.map(|param| param.name).collect::<Vec<_>>(), known);
    }

    #[test]
    fn redis_conf_states_the_defaults() {
        let mut config = Config::default();
        file::load(REDIS_CONF.as_bytes(), &mut config).expect("redis.conf is right");
        assert!(config == Config::default());
        let all: String = conf_lines().map(|(_, line)| format!("{line}\n")).collect();
        file::load(all.as_bytes(), &mut config).expect("commented lines are right, too");
        for param in params() {
            let (left, right) = (param.print(&config), param.print(&Config::default()));
            assert_eq!(left, right, "{}", param.name);
        }
    }
}
