//! The options: plain structs of public fields, one struct per topic.
//!
//! A field is read with a plain load; texts, ranges and names are in [`super::table`]. The `Default` of each struct
//! is the behaviour of Redis 7.2 without a configuration file. Units stand last in a field's name unless the type
//! states them.

use crate::types;

use super::foreign::Values;
use super::value::{
    AclPubsubDefault, AppendFsync, CompatVersion, DebugAccess, DisklessLoad, DurableMode, EndpointType,
    EvictionPolicy, KeyspaceEvents, LogFormat, LogLevel, LogTimestampFormat, MemoryOrPercent, OomScoreAdj,
    OutputBufferLimits, Percentiles, PrimaryAddr, PropagationError, SanitizePayload, SaveRules,
    ShutdownFlags, Supervised, SyslogFacility, TlsAuthClients, TlsUserField,
};

/// All options of the server.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Config {
    /// Where clients connect, and how many may.
    pub net: NetOptions,
    /// Encrypted connections.
    pub tls: TlsOptions,
    /// The process: daemon, pid file, title, shutdown.
    pub general: GeneralOptions,
    /// Passwords, users, and access to dangerous commands.
    pub security: SecurityOptions,
    /// Memory limits, and eviction.
    pub memory: MemoryOptions,
    /// Deletions whose memory a background thread frees.
    pub lazyfree: LazyfreeOptions,
    /// Snapshots and the append-only file.
    pub persistence: PersistenceOptions,
    /// Options of replicas and of primaries.
    pub replication: ReplicationOptions,
    /// Options of a cluster node.
    pub cluster: ClusterOptions,
    /// The Sentinel mode.
    pub sentinel: SentinelOptions,
    /// Encoding thresholds and request limits.
    pub limits: LimitOptions,
    /// The log, the slow log and the latency records.
    pub logs: LogOptions,
    /// Metrics over HTTP.
    pub metrics: MetricsOptions,
    /// Timer, rehashing, defragmentation, kernel settings.
    pub advanced: AdvancedOptions,
    /// Delays and switches for tests of the server.
    pub debug: DebugOptions,
    /// Directives that only related servers have.
    pub foreign: Values,
}

impl Config {
    /// The port by which the server identifies itself: the plain one, or the TLS port if it is the only one.
    pub fn main_port(&self) -> u16 {
        if self.net.port != 0 { self.net.port } else { self.tls.port }
    }
}

/// Where clients connect, and how many may.
#[derive(Clone, Debug, PartialEq)]
pub struct NetOptions {
    /// TCP port; 0 listens on none.
    pub port: u16,
    /// Addresses to listen on. `*` is every IPv4 address, `::*` every IPv6 one; with a leading `-`, an address that
    /// this machine lacks is skipped. Empty: listen on no TCP address.
    pub bind: Vec<String>,
    /// Source address of outgoing connections; empty leaves the choice to the kernel.
    pub bind_source_addr: String,
    /// Length of the kernel's queue of connections that are not yet accepted.
    pub backlog: u32,
    /// Path of the Unix socket; empty for none.
    pub unixsocket: String,
    /// Permission bits of the Unix socket; 0 leaves them to the umask.
    pub unixsocketperm: u32,
    /// Idle time after which a client is closed, in seconds; 0 never closes it.
    pub timeout_s: u32,
    /// Interval of TCP keepalive probes in seconds; 0 sends none.
    pub tcp_keepalive_s: u32,
    /// Largest number of clients at once.
    pub maxclients: u32,
    /// Refuse remote clients while the default user has no password.
    pub protected_mode: bool,
    /// Mark set on listening sockets for routing and filtering; 0 for none.
    pub socket_mark_id: u32,
    /// Threads for socket I/O, including the main thread.
    pub io_threads: u8,
    /// Let the I/O threads read and parse as well.
    pub io_threads_do_reads: bool,
}

impl Default for NetOptions {
    fn default() -> Self {
        NetOptions {
            port: 6379,
            bind: vec!["*".into(), "-::*".into()],
            bind_source_addr: String::new(),
            backlog: 511,
            unixsocket: String::new(),
            unixsocketperm: 0,
            timeout_s: 0,
            tcp_keepalive_s: 300,
            maxclients: 10_000,
            protected_mode: true,
            socket_mark_id: 0,
            io_threads: 1,
            io_threads_do_reads: false,
        }
    }
}

/// The process: daemon, pid file, title, shutdown.
#[derive(Clone, Debug, PartialEq)]
pub struct GeneralOptions {
    /// Run in the background.
    pub daemonize: bool,
    /// Service manager to notify.
    pub supervised: Supervised,
    /// File that holds the process id; empty for none.
    pub pidfile: String,
    /// Number of databases.
    pub databases: u32,
    /// Print the logo even if the log is not a terminal.
    pub always_show_logo: bool,
    /// Show state in the process title.
    pub set_proc_title: bool,
    /// Template of the process title.
    pub proc_title_template: String,
    /// Locale of string comparison; empty takes it from the environment.
    pub locale_collate: String,
    /// How long a shutdown waits for replicas to catch up, in seconds.
    pub shutdown_timeout_s: u32,
    /// Shutdown options for SIGINT.
    pub shutdown_on_sigint: ShutdownFlags,
    /// Shutdown options for SIGTERM.
    pub shutdown_on_sigterm: ShutdownFlags,
    /// Run time of a script after which other clients get BUSY errors, in milliseconds.
    pub busy_reply_threshold_ms: u64,
    /// Names of system checks whose warnings are suppressed, separated by spaces.
    pub ignore_warnings: String,
}

impl Default for GeneralOptions {
    fn default() -> Self {
        GeneralOptions {
            daemonize: false,
            supervised: Supervised::No,
            pidfile: String::new(),
            databases: 16,
            always_show_logo: false,
            set_proc_title: true,
            proc_title_template: "{title} {listen-addr} {server-mode}".into(),
            locale_collate: String::new(),
            shutdown_timeout_s: 10,
            shutdown_on_sigint: ShutdownFlags::default(),
            shutdown_on_sigterm: ShutdownFlags::default(),
            busy_reply_threshold_ms: 5000,
            ignore_warnings: String::new(),
        }
    }
}

/// Encrypted connections.
#[derive(Clone, Debug, PartialEq)]
pub struct TlsOptions {
    /// TCP port; 0 listens on none.
    pub port: u16,
    /// File of the certificate; empty for none, here and in the fields below.
    pub cert_file: String,
    /// File of the private key.
    pub key_file: String,
    /// Password of the private key.
    pub key_file_pass: Vec<u8>,
    /// File of the certificate for outgoing connections.
    pub client_cert_file: String,
    /// File of the private key for outgoing connections.
    pub client_key_file: String,
    /// Password of the private key for outgoing connections.
    pub client_key_file_pass: Vec<u8>,
    /// File of parameters for the Diffie-Hellman key exchange.
    pub dh_params_file: String,
    /// File of trusted certificates.
    pub ca_cert_file: String,
    /// Directory of trusted certificates.
    pub ca_cert_dir: String,
    /// Whether clients must show a certificate.
    pub auth_clients: TlsAuthClients,
    /// Encrypt the link to the primary.
    pub replication: bool,
    /// Encrypt the cluster bus.
    pub cluster: bool,
    /// Protocol versions, separated by blanks; empty for those considered safe.
    pub protocols: String,
    /// Ciphers up to version 1.2.
    pub ciphers: String,
    /// Cipher suites of version 1.3.
    pub ciphersuites: String,
    /// Prefer the server's order of ciphers over the client's.
    pub prefer_server_ciphers: bool,
    /// Let clients resume sessions.
    pub session_caching: bool,
    /// Largest number of cached sessions; 0 for no limit.
    pub session_cache_size: u32,
    /// How long a session is cached, in seconds.
    pub session_cache_timeout_s: u32,
    /// Field of a client's certificate that names the user it acts as.
    pub auth_clients_user: TlsUserField,
    /// Interval at which the files are checked for changes, in seconds; 0 never checks them.
    pub auto_reload_interval_s: u32,
}

impl Default for TlsOptions {
    fn default() -> Self {
        TlsOptions {
            port: 0,
            cert_file: String::new(),
            key_file: String::new(),
            key_file_pass: Vec::new(),
            client_cert_file: String::new(),
            client_key_file: String::new(),
            client_key_file_pass: Vec::new(),
            dh_params_file: String::new(),
            ca_cert_file: String::new(),
            ca_cert_dir: String::new(),
            auth_clients: TlsAuthClients::Yes,
            replication: false,
            cluster: false,
            protocols: String::new(),
            ciphers: String::new(),
            ciphersuites: String::new(),
            prefer_server_ciphers: false,
            session_caching: true,
            session_cache_size: 20 << 10,
            session_cache_timeout_s: 300,
            auth_clients_user: TlsUserField::Off,
            auto_reload_interval_s: 0,
        }
    }
}

/// The Sentinel mode.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SentinelOptions {
    /// Whether the server is a Sentinel, as the command line decides.
    pub enabled: bool,
    /// `sentinel` lines in the order read; a rewrite of the file writes them back.
    pub lines: Vec<SentinelLine>,
}

/// A `sentinel` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentinelLine {
    /// Kind of the line, in lower case: the first word after `sentinel`.
    pub kind: String,
    /// The words after `sentinel`; empty for a line that is only to be written.
    pub words: Vec<Vec<u8>>,
    /// The text after `sentinel`.
    pub text: Vec<u8>,
    /// Position of the line in the configuration.
    pub place: Place,
}

impl SentinelLine {
    /// A line that was read.
    pub fn read(words: &[Vec<u8>], place: Place) -> SentinelLine {
        let kind =
            words.first().map_or_else(String::new, |kind| String::from_utf8_lossy(kind).to_ascii_lowercase());
        let rest = place.text.iter().position(u8::is_ascii_whitespace).map_or(0, |blank| blank + 1);
        SentinelLine { kind, words: words.into(), text: place.text[rest..].to_vec(), place }
    }

    /// A line to be written.
    pub fn written(kind: &str, text: Vec<u8>) -> SentinelLine {
        SentinelLine { kind: kind.to_owned(), words: Vec::new(), text, place: Place::default() }
    }
}

/// Position of a line in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// The included file; `None` for the outermost text.
    pub file: Option<String>,
    /// Number of the line, from 1.
    pub line: usize,
    /// The line without surrounding blanks.
    pub text: Vec<u8>,
}

/// A `user` line: the name and its access rules, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLine {
    /// The user's name.
    pub name: Vec<u8>,
    /// Rules as written, one word each.
    pub rules: Vec<Vec<u8>>,
    /// Position of the line; meaningless for a user that was not defined by a line.
    pub place: Place,
}

/// A `rename-command` line. An empty new name removes the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenamedCommand {
    /// Name in the command table.
    pub from: Vec<u8>,
    /// New name of the command.
    pub to: Vec<u8>,
    /// Position of the line.
    pub place: Place,
}

/// Passwords, users, and access to dangerous commands.
#[derive(Clone, Debug, PartialEq)]
pub struct SecurityOptions {
    /// Password of the default user; empty for none.
    pub requirepass: Vec<u8>,
    /// File of users; empty keeps them in the configuration file.
    pub aclfile: String,
    /// Largest number of entries in the ACL log.
    pub acllog_max_len: u64,
    /// Channels that a new user may use.
    pub acl_pubsub_default: AclPubsubDefault,
    /// Who may set protected parameters at run time.
    pub enable_protected_configs: DebugAccess,
    /// Who may call DEBUG.
    pub enable_debug_command: DebugAccess,
    /// Who may call MODULE.
    pub enable_module_command: DebugAccess,
    /// Keys remembered for client-side caching; 0 for no limit.
    pub tracking_table_max_keys: u64,
    /// `user` lines in the order read; a rewrite of the file writes them back.
    pub users: Vec<UserLine>,
    /// `rename-command` lines in the order read.
    pub renamed_commands: Vec<RenamedCommand>,
}

impl Default for SecurityOptions {
    fn default() -> Self {
        SecurityOptions {
            requirepass: Vec::new(),
            aclfile: String::new(),
            acllog_max_len: 128,
            acl_pubsub_default: AclPubsubDefault::ResetChannels,
            enable_protected_configs: DebugAccess::No,
            enable_debug_command: DebugAccess::No,
            enable_module_command: DebugAccess::No,
            tracking_table_max_keys: 1_000_000,
            users: Vec::new(),
            renamed_commands: Vec::new(),
        }
    }
}

/// Memory limits, and eviction.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryOptions {
    /// Limit of memory for the data in bytes; 0 for no limit.
    pub maxmemory: u64,
    /// Which keys are evicted above `maxmemory`.
    pub policy: EvictionPolicy,
    /// Keys compared for each eviction.
    pub samples: u32,
    /// How long one round of eviction may delay commands: 0 least, 100 without limit.
    pub eviction_tenacity: u8,
    /// Growth factor of the number of hits that raise the frequency counter.
    pub lfu_log_factor: u32,
    /// Minutes without access that lower the frequency counter by one; 0 never lowers it.
    pub lfu_decay_time_min: u32,
    /// Limit of memory for all clients together; 0 for no limit.
    pub maxmemory_clients: MemoryOrPercent,
    /// Effort of the background search for expired keys, 1 to 10.
    pub active_expire_effort: u8,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions {
            maxmemory: 0,
            policy: EvictionPolicy::NoEviction,
            samples: 5,
            eviction_tenacity: 10,
            lfu_log_factor: 10,
            lfu_decay_time_min: 1,
            maxmemory_clients: MemoryOrPercent::Bytes(0),
            active_expire_effort: 1,
        }
    }
}

/// Deletions whose memory a background thread frees.
#[derive(Clone, Debug, PartialEq)]
pub struct LazyfreeOptions {
    /// Evicted keys.
    pub eviction: bool,
    /// Expired keys.
    pub expire: bool,
    /// Values replaced by RENAME, SET and the like.
    pub server_del: bool,
    /// DEL behaves as UNLINK.
    pub user_del: bool,
    /// FLUSHALL and FLUSHDB without SYNC or ASYNC behave as ASYNC.
    pub user_flush: bool,
}

impl Default for LazyfreeOptions {
    fn default() -> Self {
        LazyfreeOptions { eviction: true, expire: true, server_del: true, user_del: true, user_flush: true }
    }
}

/// Snapshots and the append-only file.
#[derive(Clone, Debug, PartialEq)]
pub struct PersistenceOptions {
    /// When to take snapshots automatically.
    pub save: SaveRules,
    /// Directory of all files. `./` until the server stores the absolute path.
    pub dir: String,
    /// File name of the snapshot.
    pub dbfilename: String,
    /// Refuse writes after a background save failed.
    pub stop_writes_on_bgsave_error: bool,
    /// Compress strings in snapshots.
    pub rdb_compression: bool,
    /// End snapshots with a checksum, and check it.
    pub rdb_checksum: bool,
    /// Version of the format in which snapshots are written: 10 for Redis 7.0, 11 for 7.2, 12 for 7.4, 13 for 8.6, 14 for
    /// 8.8.
    pub rdb_save_version: u32,
    /// Leave out values of unsupported types when loading a snapshot, if their length can be known.
    pub rdb_skip_unsupported: bool,
    /// Delete snapshots used only for replication.
    pub rdb_del_sync_files: bool,
    /// Flush snapshots to disk every few megabytes.
    pub rdb_save_incremental_fsync: bool,
    /// Whether to check dumped values in full. Values from snapshots and RESTORE are always checked in full.
    pub sanitize_dump_payload: SanitizePayload,
    /// Whether the append-only file is on.
    pub appendonly: bool,
    /// Base name of the append-only files.
    pub appendfilename: String,
    /// Directory of the append-only files, inside `dir`.
    pub appenddirname: String,
    /// When the append-only file is flushed to disk.
    pub appendfsync: AppendFsync,
    /// Skip flushing the append-only file while a child process writes.
    pub no_appendfsync_on_rewrite: bool,
    /// Growth since the last rewrite that starts another, in percent; 0 never.
    pub aof_rewrite_percentage: u32,
    /// Size in bytes below which no rewrite starts.
    pub aof_rewrite_min_size: u64,
    /// Start even if the append-only file ends in the middle of a command.
    pub aof_load_truncated: bool,
    /// Let a rewrite write a snapshot first.
    pub aof_use_rdb_preamble: bool,
    /// Write timestamps into the append-only file.
    pub aof_timestamp_enabled: bool,
    /// Flush a rewrite to disk every few megabytes.
    pub aof_rewrite_incremental_fsync: bool,
    /// Keep obsolete append-only files.
    pub aof_disable_auto_gc: bool,
}

impl Default for PersistenceOptions {
    fn default() -> Self {
        PersistenceOptions {
            save: SaveRules::default(),
            dir: "./".into(),
            dbfilename: "dump.rdb".into(),
            stop_writes_on_bgsave_error: true,
            rdb_compression: true,
            rdb_checksum: true,
            rdb_save_version: 11,
            rdb_skip_unsupported: false,
            rdb_del_sync_files: false,
            rdb_save_incremental_fsync: true,
            sanitize_dump_payload: SanitizePayload::No,
            appendonly: false,
            appendfilename: "appendonly.aof".into(),
            appenddirname: "appendonlydir".into(),
            appendfsync: AppendFsync::EverySec,
            no_appendfsync_on_rewrite: false,
            aof_rewrite_percentage: 100,
            aof_rewrite_min_size: 64 << 20,
            aof_load_truncated: true,
            aof_use_rdb_preamble: true,
            aof_timestamp_enabled: false,
            aof_rewrite_incremental_fsync: true,
            aof_disable_auto_gc: false,
        }
    }
}

/// Options of replicas and of primaries.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicationOptions {
    /// The primary; `None` if this server is one itself.
    pub replicaof: Option<PrimaryAddr>,
    /// Password for the primary; empty for none.
    pub masterauth: Vec<u8>,
    /// User name for the primary; empty for the default user.
    pub masteruser: Vec<u8>,
    /// Answer from old data while the link to the primary is down.
    pub serve_stale_data: bool,
    /// Refuse writes from clients of a replica.
    pub read_only: bool,
    /// Free the old data set in the background when a full copy arrives.
    pub lazy_flush: bool,
    /// Send a full copy over the socket without a file.
    pub diskless_sync: bool,
    /// How long a diskless copy waits for more replicas, in seconds.
    pub diskless_sync_delay_s: u32,
    /// Number of replicas at which a diskless copy starts without waiting longer; 0 always waits.
    pub diskless_sync_max_replicas: u32,
    /// Read a full copy from the socket without a file.
    pub diskless_load: DisklessLoad,
    /// Interval of pings to replicas, in seconds.
    pub ping_period_s: u32,
    /// Silence after which a link counts as dead, in seconds.
    pub timeout_s: u32,
    /// Let the kernel coalesce small packets to replicas.
    pub disable_tcp_nodelay: bool,
    /// Size of the replication backlog in bytes.
    pub backlog_size: u64,
    /// How long the backlog outlives the last replica, in seconds; 0 for ever.
    pub backlog_ttl_s: u64,
    /// Priority at failover, lower first; 0 never promotes this replica.
    pub priority: u32,
    /// Whether Sentinel lists this replica.
    pub announced: bool,
    /// Address to announce; empty for the address of the link.
    pub announce_ip: String,
    /// Port to announce; 0 for the listening port.
    pub announce_port: u16,
    /// Leave eviction to the primary.
    pub ignore_maxmemory: bool,
    /// Number of replicas needed to accept a write; 0 for none.
    pub min_replicas_to_write: u32,
    /// Largest lag of a replica that counts for `min_replicas_to_write`, in seconds.
    pub min_replicas_max_lag_s: u32,
    /// Number of replicas that must acknowledge a change before its client gets the reply; 0 for none.
    pub min_replicas_durable: u32,
    /// What a replica acknowledges for that.
    pub min_replicas_durable_mode: DurableMode,
    /// How long a reply waits for that, in milliseconds.
    pub min_replicas_durable_timeout_ms: u64,
    /// What to do about an error in a command from the primary or the append-only file.
    pub propagation_error_behavior: PropagationError,
    /// Continue when a replica cannot write to its disk.
    pub ignore_disk_write_errors: bool,
}

impl Default for ReplicationOptions {
    fn default() -> Self {
        ReplicationOptions {
            replicaof: None,
            masterauth: Vec::new(),
            masteruser: Vec::new(),
            serve_stale_data: true,
            read_only: true,
            lazy_flush: false,
            diskless_sync: true,
            diskless_sync_delay_s: 5,
            diskless_sync_max_replicas: 0,
            diskless_load: DisklessLoad::Disabled,
            ping_period_s: 10,
            timeout_s: 60,
            disable_tcp_nodelay: false,
            backlog_size: 1 << 20,
            backlog_ttl_s: 3600,
            priority: 100,
            announced: true,
            announce_ip: String::new(),
            announce_port: 0,
            ignore_maxmemory: true,
            min_replicas_to_write: 0,
            min_replicas_max_lag_s: 10,
            min_replicas_durable: 0,
            min_replicas_durable_mode: DurableMode::Memory,
            min_replicas_durable_timeout_ms: 5000,
            propagation_error_behavior: PropagationError::Ignore,
            ignore_disk_write_errors: false,
        }
    }
}

/// Options of a cluster node.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterOptions {
    /// Whether this server is a cluster node.
    pub enabled: bool,
    /// File in which the node keeps its view of the cluster.
    pub config_file: String,
    /// Silence after which a node counts as failing, in milliseconds.
    pub node_timeout_ms: u64,
    /// Port of the cluster bus; 0 for the client port plus 10000.
    pub port: u16,
    /// Age of a replica's data, in node timeouts, above which it cannot take over; 0 for no limit.
    pub replica_validity_factor: u32,
    /// Number of replicas that a primary keeps when one migrates to an orphan.
    pub migration_barrier: u32,
    /// Let replicas move to orphaned primaries.
    pub allow_replica_migration: bool,
    /// Stop answering while a slot has no node.
    pub require_full_coverage: bool,
    /// Never start an automatic failover.
    pub replica_no_failover: bool,
    /// Answer reads while the cluster is down.
    pub allow_reads_when_down: bool,
    /// Serve sharded pub/sub while the cluster is down.
    pub allow_pubsubshard_when_down: bool,
    /// Limit of bytes queued on a bus link; 0 for no limit.
    pub link_sendbuf_limit: u64,
    /// Host name to announce; empty for none.
    pub announce_hostname: String,
    /// Human-readable name to announce; empty for none.
    pub announce_human_nodename: String,
    /// Address to announce; empty for the detected one.
    pub announce_ip: String,
    /// Client port to announce; 0 for the listening port.
    pub announce_port: u16,
    /// TLS port to announce; 0 for the listening port.
    pub announce_tls_port: u16,
    /// Bus port to announce; 0 for the listening port.
    pub announce_bus_port: u16,
    /// How a redirection names a node.
    pub preferred_endpoint_type: EndpointType,
    /// Interval of pings to a random node, in milliseconds.
    pub ping_interval_ms: u32,
    /// Number of databases of a node.
    pub databases: u32,
    /// Seconds for which a node that was removed does not come back.
    pub blacklist_ttl_s: u32,
    /// Milliseconds after which a manual failover is given up.
    pub manual_failover_timeout_ms: u32,
    /// Number of migrations of slots that are remembered when they are over.
    pub slot_migration_log_max_len: u64,
    /// Bytes that may wait to be sent when clients are made to wait for the end of a migration; -1 for any number.
    pub slot_migration_max_failover_repl_bytes: i64,
    /// Measure what the requests for each slot cost.
    pub slot_stats_enabled: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        ClusterOptions {
            enabled: false,
            config_file: "nodes.conf".into(),
            node_timeout_ms: 15_000,
            port: 0,
            replica_validity_factor: 10,
            migration_barrier: 1,
            allow_replica_migration: true,
            require_full_coverage: true,
            replica_no_failover: false,
            allow_reads_when_down: false,
            allow_pubsubshard_when_down: true,
            link_sendbuf_limit: 0,
            announce_hostname: String::new(),
            announce_human_nodename: String::new(),
            announce_ip: String::new(),
            announce_port: 0,
            announce_tls_port: 0,
            announce_bus_port: 0,
            preferred_endpoint_type: EndpointType::Ip,
            ping_interval_ms: 1000,
            databases: 1,
            blacklist_ttl_s: 60,
            manual_failover_timeout_ms: 5000,
            slot_migration_log_max_len: 1000,
            slot_migration_max_failover_repl_bytes: 0,
            slot_stats_enabled: false,
        }
    }
}

/// Encoding thresholds and request limits.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitOptions {
    /// The server to be compatible with.
    pub compat_version: CompatVersion,
    /// Longest argument accepted, in bytes.
    pub proto_max_bulk_len: u64,
    /// Limit of unprocessed input per client, in bytes.
    pub client_query_buffer: u64,
    /// Limits of unsent output per client, in bytes.
    pub client_output_buffer: OutputBufferLimits,
    /// Limits at which values change from one encoding to another.
    pub types: types::Limits,
}

impl Default for LimitOptions {
    fn default() -> Self {
        LimitOptions {
            compat_version: CompatVersion::Redis7_2,
            proto_max_bulk_len: 512 << 20,
            client_query_buffer: 1 << 30,
            client_output_buffer: OutputBufferLimits::default(),
            types: types::Limits::default(),
        }
    }
}

/// Metrics over HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsOptions {
    /// TCP port; 0 for none.
    pub port: u16,
    /// Addresses to listen on, as for clients.
    pub bind: Vec<String>,
    /// Whether names of keys are told.
    pub keys: bool,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        MetricsOptions { port: 0, bind: vec!["127.0.0.1".into(), "-::1".into()], keys: false }
    }
}

/// The log, the slow log and the latency records.
#[derive(Clone, Debug, PartialEq)]
pub struct LogOptions {
    /// Lowest level of messages that are logged.
    pub level: LogLevel,
    /// Form of the lines.
    pub format: LogFormat,
    /// Form of the time in the lines.
    pub timestamp_format: LogTimestampFormat,
    /// Log file; empty for standard output.
    pub file: String,
    /// Log to syslog.
    pub syslog_enabled: bool,
    /// Name of the server in syslog.
    pub syslog_ident: String,
    /// Facility in syslog.
    pub syslog_facility: SyslogFacility,
    /// Write a report when the server crashes.
    pub crash_log_enabled: bool,
    /// Test the memory for the report.
    pub crash_memcheck_enabled: bool,
    /// Run time above which a command enters the slow log, in microseconds; negative switches the log off.
    pub slowlog_slower_than_us: i64,
    /// Largest number of entries in the slow log.
    pub slowlog_max_len: u64,
    /// Size in bytes above which a request enters the command log; negative switches the log off.
    pub large_request_bytes: i64,
    /// Largest number of entries in the log of large requests.
    pub large_request_max_len: u64,
    /// Size in bytes above which a reply enters the command log; negative switches the log off.
    pub large_reply_bytes: i64,
    /// Largest number of entries in the log of large replies.
    pub large_reply_max_len: u64,
    /// Duration from which an event enters the latency monitor, in milliseconds; 0 switches the monitor off.
    pub latency_monitor_threshold_ms: u64,
    /// Keep a histogram of each command's run time.
    pub latency_tracking: bool,
    /// Percentiles of the run times shown by INFO.
    pub latency_percentiles: Percentiles,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            level: LogLevel::Notice,
            format: LogFormat::Legacy,
            timestamp_format: LogTimestampFormat::Legacy,
            file: String::new(),
            syslog_enabled: false,
            syslog_ident: "redis".into(),
            syslog_facility: SyslogFacility::Local0,
            crash_log_enabled: true,
            crash_memcheck_enabled: true,
            slowlog_slower_than_us: 10_000,
            slowlog_max_len: 128,
            large_request_bytes: 1 << 20,
            large_request_max_len: 128,
            large_reply_bytes: 1 << 20,
            large_reply_max_len: 128,
            latency_monitor_threshold_ms: 0,
            latency_tracking: true,
            latency_percentiles: Percentiles::default(),
        }
    }
}

/// Timer, rehashing, defragmentation, kernel settings.
#[derive(Clone, Debug, PartialEq)]
pub struct AdvancedOptions {
    /// Runs of the timer per second.
    pub hz: u32,
    /// Run the timer more often while many clients are connected.
    pub dynamic_hz: bool,
    /// Spend idle time on finishing rehashes.
    pub active_rehashing: bool,
    /// Classes of keyspace events that are published.
    pub notify_keyspace_events: KeyspaceEvents,
    /// Move values to compact memory.
    pub active_defrag: bool,
    /// Bytes of fragmentation below which nothing is moved.
    pub defrag_ignore_bytes: u64,
    /// Percent of fragmentation at which moving starts.
    pub defrag_threshold_lower: u32,
    /// Percent of fragmentation at which the effort is greatest.
    pub defrag_threshold_upper: u32,
    /// Least effort, in percent of the processor.
    pub defrag_cycle_min: u8,
    /// Greatest effort, in percent of the processor.
    pub defrag_cycle_max: u8,
    /// Elements above which a collection is moved in several steps.
    pub defrag_max_scan_fields: u64,
    /// Let the allocator return memory from a thread of its own.
    pub jemalloc_bg_thread: bool,
    /// Whether the kernel's out-of-memory score is set.
    pub oom_score_adj: OomScoreAdj,
    /// Scores of a primary, a replica and a child process.
    pub oom_score_adj_values: [i32; 3],
    /// Switch transparent huge pages off for this process.
    pub disable_thp: bool,
    /// Processors of the main and I/O threads; empty for all.
    pub server_cpulist: String,
    /// Processors of the background threads; empty for all.
    pub bio_cpulist: String,
    /// Processors of an append-only rewrite; empty for all.
    pub aof_rewrite_cpulist: String,
    /// Processors of a background save; empty for all.
    pub bgsave_cpulist: String,
}

impl Default for AdvancedOptions {
    fn default() -> Self {
        AdvancedOptions {
            hz: 10,
            dynamic_hz: true,
            active_rehashing: true,
            notify_keyspace_events: KeyspaceEvents::default(),
            active_defrag: false,
            defrag_ignore_bytes: 100 << 20,
            defrag_threshold_lower: 10,
            defrag_threshold_upper: 100,
            defrag_cycle_min: 1,
            defrag_cycle_max: 25,
            defrag_max_scan_fields: 1000,
            jemalloc_bg_thread: true,
            oom_score_adj: OomScoreAdj::No,
            oom_score_adj_values: [0, 200, 800],
            disable_thp: true,
            server_cpulist: String::new(),
            bio_cpulist: String::new(),
            aof_rewrite_cpulist: String::new(),
            bgsave_cpulist: String::new(),
        }
    }
}

/// Delays and switches for tests of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct DebugOptions {
    /// Pause after each loaded key in microseconds; −n pauses one microsecond per n keys.
    pub key_load_delay_us: i32,
    /// Pause after each saved key in microseconds.
    pub rdb_key_save_delay_us: i32,
    /// Bytes loaded between two polls of the sockets.
    pub loading_process_events_interval_bytes: u32,
    /// Interval of the watchdog in milliseconds; 0 switches it off.
    pub watchdog_period_ms: u32,
    /// Offer deprecated functions to scripts.
    pub lua_enable_deprecated_api: bool,
    /// Exit instead of aborting after a crash report.
    pub use_exit_on_panic: bool,
}

impl Default for DebugOptions {
    fn default() -> Self {
        DebugOptions {
            key_load_delay_us: 0,
            rdb_key_save_delay_us: 0,
            loading_process_events_interval_bytes: 2 << 20,
            watchdog_period_ms: 0,
            lua_enable_deprecated_api: false,
            use_exit_on_panic: false,
        }
    }
}
