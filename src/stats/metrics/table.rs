//! The numbers of INFO as metrics: one line per field, in the order of INFO.
//!
//! A line states the field, the name of the metric without its prefix, and what it tells; then, where INFO has another
//! unit, the factor that makes the base unit of it. A counter only grows, until the server starts again or CONFIG
//! RESETSTAT is called. A test compares this table with all fields that INFO can write.

/// What kind of number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It only grows.
    Counter,
}

impl Kind {
    /// The word in a `# TYPE` line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        }
    }
}

/// One field of INFO as a metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Name in INFO.
    pub field: &'static str,
    /// Name of the metric without its prefix.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Kind of the number.
    pub kind: Kind,
    /// Factor that makes the metric's unit of INFO's.
    pub factor: f64,
    /// Whether a negative number means that there is none.
    pub may_be_absent: bool,
    /// The word that counts as 1, where INFO has a word; other words count as 0.
    pub word: Option<&'static str>,
}

impl Metric {
    const fn times(self, factor: f64) -> Metric {
        Metric { factor, ..self }
    }

    const fn if_any(self) -> Metric {
        Metric { may_be_absent: true, ..self }
    }

    const fn word(self, word: &'static str) -> Metric {
        Metric { word: Some(word), ..self }
    }

    /// The number that a value of INFO stands for; `None` if there is none.
    pub fn number(&self, value: &str) -> Option<f64> {
        if let Some(word) = self.word {
            return Some(f64::from(u8::from(value == word)));
        }
        let number: f64 = value.strip_suffix('%').unwrap_or(value).parse().ok()?;
        (number.is_finite() && !(self.may_be_absent && number < 0.0)).then_some(number * self.factor)
    }
}

const fn g(field: &'static str, name: &'static str, help: &'static str) -> Metric {
    Metric { field, name, help, kind: Kind::Gauge, factor: 1.0, may_be_absent: false, word: None }
}

const fn c(field: &'static str, name: &'static str, help: &'static str) -> Metric {
    Metric { kind: Kind::Counter, ..g(field, name, help) }
}

const MILLI: f64 = 1e-3;
const MICRO: f64 = 1e-6;
const PERCENT: f64 = 1e-2;
const KILO: f64 = 1024.0;

/// Fields that are no metrics, and why.
pub const LEFT_OUT: &[(&str, &str)] = &[
    ("used_memory_human", "a number for people"),
    ("used_memory_rss_human", "a number for people"),
    ("used_memory_peak_human", "a number for people"),
    ("total_system_memory_human", "a number for people"),
    ("used_memory_lua_human", "a number for people"),
    ("used_memory_vm_total_human", "a number for people"),
    ("used_memory_scripts_human", "a number for people"),
    ("maxmemory_human", "a number for people"),
    ("expired_subkeys", "another name of expired_fields"),
    ("configured_hz", "another name of hz"),
    ("uptime_in_days", "another unit of uptime_in_seconds"),
    ("server_mode", "another name of redis_mode"),
    (
        "keysizes_age_seconds",
        "it is about a section that is no metric: sizes are counted for who asks by INFO",
    ),
];

/// Fields with words, which are labels of the metric `info`.
pub const LABELS: &[&str] = &[
    "redis_version",
    "server_name",
    "valkey_version",
    "valkey_release_stage",
    "spinel_version",
    "redis_git_sha1",
    "redis_build_id",
    "redis_mode",
    "os",
    "monotonic_clock",
    "multiplexing_api",
    "atomicvar_api",
    "gcc_version",
    "process_supervised",
    "run_id",
    "executable",
    "config_file",
    "paused_reason",
    "paused_actions",
    "maxmemory_policy",
    "mem_allocator",
    "role",
    "master_failover_state",
    "master_replid",
    "master_replid2",
    "master_host",
];

/// The metrics, in the order of INFO.
#[rustfmt::skip]
pub const METRICS: &[Metric] = &[
    // Server
    g("redis_git_dirty", "build_modified", "Whether the program was built from sources that were changed after the commit."),
    g("arch_bits", "architecture_bits", "Width of an address in bits."),
    g("process_id", "process_id", "Number of the process."),
    g("tcp_port", "port", "Port for clients."),
    g("server_time_usec", "time_seconds", "The server's clock, since 1970.").times(MICRO),
    g("uptime_in_seconds", "uptime_seconds", "Time since the server started."),
    g("hz", "timer_hertz", "Runs of the timer per second."),
    g("lru_clock", "lru_clock_seconds", "Clock of access times, which begins anew after 2^24 seconds."),
    g("io_threads_active", "io_threads_active", "Whether I/O threads are in use."),
    g("shutdown_in_milliseconds", "shutdown_remaining_seconds", "Time until a shutdown waits for replicas no longer.").times(MILLI),
    // Clients
    g("connected_clients", "clients", "Connections of clients, without replicas."),
    g("cluster_connections", "cluster_connections", "Connections of the cluster bus."),
    g("maxclients", "clients_limit", "Connections allowed at the same time."),
    g("client_recent_max_input_buffer", "client_input_buffer_recent_max_bytes", "Largest input buffer of a client in the last seconds."),
    g("client_recent_max_output_buffer", "client_output_buffer_recent_max_bytes", "Largest output buffer of a client in the last seconds."),
    g("blocked_clients", "clients_blocked", "Clients that wait in a blocking command or because of a pause."),
    g("tracking_clients", "clients_tracking", "Clients that are told of changes of the keys that they cache."),
    g("pubsub_clients", "clients_subscribed", "Clients with subscriptions."),
    g("watching_clients", "clients_watching", "Clients that watch keys for a transaction."),
    g("clients_in_timeout_table", "clients_blocked_with_deadline", "Blocked clients that do not wait for ever."),
    g("total_watched_keys", "keys_watched", "Keys that are watched for transactions."),
    g("total_blocking_keys", "keys_awaited", "Keys for which clients are blocked."),
    g("total_blocking_keys_on_nokey", "keys_awaited_for_absence", "Keys whose removal blocked clients want to know."),
    g("paused_timeout_milliseconds", "pause_remaining_seconds", "Time until a pause of clients ends.").times(MILLI),
    // Memory
    g("used_memory", "memory_used_bytes", "Memory allocated."),
    g("used_memory_rss", "memory_resident_bytes", "Resident memory of the process, as the system counts it."),
    g("used_memory_peak", "memory_used_peak_bytes", "Most memory that was ever allocated."),
    g("used_memory_peak_perc", "memory_used_peak_ratio", "Memory allocated as a part of its peak.").times(PERCENT),
    g("used_memory_overhead", "memory_overhead_bytes", "Memory that holds no data: the server itself, clients, replicas, tables."),
    g("used_memory_startup", "memory_startup_bytes", "Memory allocated before the first key."),
    g("used_memory_dataset", "memory_dataset_bytes", "Memory allocated for data."),
    g("used_memory_dataset_perc", "memory_dataset_ratio", "Memory for data as a part of what was allocated since the start.").times(PERCENT),
    g("allocator_allocated", "allocator_allocated_bytes", "Bytes allocated, as the allocator counts them."),
    g("allocator_active", "allocator_active_bytes", "Bytes of pages with allocations."),
    g("allocator_resident", "allocator_resident_bytes", "Bytes of pages that the allocator has mapped."),
    g("total_system_memory", "system_memory_bytes", "Memory of the machine."),
    g("used_memory_lua", "memory_lua_bytes", "Memory of the interpreter of scripts."),
    g("used_memory_vm_eval", "memory_lua_scripts_bytes", "Memory of the interpreter for scripts of EVAL."),
    g("used_memory_scripts_eval", "memory_scripts_cached_bytes", "Memory of cached scripts outside the interpreter."),
    g("number_of_cached_scripts", "scripts_cached", "Scripts in the cache."),
    g("number_of_functions", "functions", "Functions in all libraries."),
    g("number_of_libraries", "function_libraries", "Libraries of functions."),
    g("used_memory_vm_functions", "memory_lua_functions_bytes", "Memory of the interpreter for functions."),
    g("used_memory_vm_total", "memory_lua_total_bytes", "Memory of the interpreter for scripts and functions."),
    g("used_memory_functions", "memory_functions_bytes", "Memory of functions outside the interpreter."),
    g("used_memory_scripts", "memory_scripts_bytes", "Memory of scripts and functions outside the interpreter."),
    g("maxmemory", "memory_limit_bytes", "Limit for memory; 0 for none."),
    g("allocator_frag_ratio", "allocator_fragmentation_ratio", "Pages with allocations in relation to the allocations."),
    g("allocator_frag_bytes", "allocator_fragmentation_bytes", "Unused bytes of pages with allocations."),
    g("allocator_rss_ratio", "allocator_resident_ratio", "Mapped pages in relation to pages with allocations."),
    g("allocator_rss_bytes", "allocator_resident_overhead_bytes", "Bytes of mapped pages without allocations."),
    g("rss_overhead_ratio", "memory_resident_overhead_ratio", "Resident memory in relation to the pages of the allocator."),
    g("rss_overhead_bytes", "memory_resident_overhead_bytes", "Resident memory apart from the pages of the allocator."),
    g("mem_fragmentation_ratio", "memory_fragmentation_ratio", "Resident memory in relation to memory allocated."),
    g("mem_fragmentation_bytes", "memory_fragmentation_bytes", "Resident memory apart from memory allocated."),
    g("mem_not_counted_for_evict", "memory_not_counted_for_eviction_bytes", "Memory that does not count towards the limit."),
    g("mem_replication_backlog", "memory_replication_backlog_bytes", "Memory of the stream kept for replicas that come back."),
    g("mem_total_replication_buffers", "memory_replication_buffers_bytes", "Memory of the stream for replicas, connected or not."),
    g("mem_clients_slaves", "memory_replicas_bytes", "Memory of connections of replicas."),
    g("mem_clients_normal", "memory_clients_bytes", "Memory of connections of clients."),
    g("mem_cluster_links", "memory_cluster_links_bytes", "Memory of the cluster bus."),
    g("mem_cluster_slot_import", "memory_slot_import_bytes", "Memory of slots being imported."),
    g("mem_cluster_slot_export", "memory_slot_export_bytes", "Memory of slots being exported."),
    g("mem_aof_buffer", "memory_aof_buffer_bytes", "Memory of the buffer of the append-only file."),
    g("active_defrag_running", "defragmentation_effort_ratio", "Part of the processor that active defragmentation takes.").times(PERCENT),
    g("lazyfree_pending_objects", "lazy_free_pending_objects", "Values that wait for being freed in the background."),
    c("lazyfreed_objects", "lazy_freed_objects_total", "Values freed in the background."),
    // Persistence
    g("loading", "loading", "Whether a data set is being loaded."),
    g("async_loading", "async_loading", "Whether a data set is being loaded while the old one is served."),
    g("current_cow_peak", "child_copied_peak_bytes", "Most memory copied because of the child process that runs."),
    g("current_cow_size", "child_copied_bytes", "Memory copied because of the child process that runs."),
    g("current_cow_size_age", "child_copied_age_seconds", "Age of that figure."),
    g("current_fork_perc", "child_done_ratio", "Part of its work that the child process has done.").times(PERCENT),
    g("current_save_keys_processed", "child_keys_done", "Keys that the child process has written."),
    g("current_save_keys_total", "child_keys", "Keys that the child process is to write."),
    g("rdb_changes_since_last_save", "snapshot_changes_pending", "Changes since the last snapshot."),
    g("rdb_bgsave_in_progress", "snapshot_in_progress", "Whether a snapshot is being written."),
    g("rdb_last_save_time", "snapshot_last_time_seconds", "Time of the last snapshot, since 1970."),
    g("rdb_last_bgsave_status", "snapshot_last_ok", "Whether the last snapshot was written.").word("ok"),
    g("rdb_last_bgsave_time_sec", "snapshot_last_duration_seconds", "Time that the last snapshot took.").if_any(),
    g("rdb_current_bgsave_time_sec", "snapshot_current_duration_seconds", "Time that the current snapshot has taken.").if_any(),
    c("rdb_saves", "snapshots_total", "Snapshots written."),
    g("rdb_last_cow_size", "snapshot_last_copied_bytes", "Memory copied because of the last snapshot."),
    g("rdb_last_load_keys_expired", "snapshot_load_keys_expired", "Keys that had expired when the snapshot was loaded."),
    g("rdb_last_load_keys_loaded", "snapshot_load_keys", "Keys that were loaded from the snapshot."),
    g("rdb_last_load_keys_skipped", "snapshot_load_keys_skipped", "Keys of the snapshot that were left out."),
    g("aof_enabled", "aof_enabled", "Whether the append-only file is in use."),
    g("aof_rewrite_in_progress", "aof_rewrite_in_progress", "Whether the append-only file is being rewritten."),
    g("aof_rewrite_scheduled", "aof_rewrite_scheduled", "Whether a rewrite waits for another child process."),
    g("aof_last_rewrite_time_sec", "aof_rewrite_last_duration_seconds", "Time that the last rewrite took.").if_any(),
    g("aof_current_rewrite_time_sec", "aof_rewrite_current_duration_seconds", "Time that the current rewrite has taken.").if_any(),
    g("aof_last_bgrewrite_status", "aof_rewrite_last_ok", "Whether the last rewrite succeeded.").word("ok"),
    c("aof_rewrites", "aof_rewrites_total", "Rewrites of the append-only file."),
    g("aof_rewrites_consecutive_failures", "aof_rewrite_failures", "Rewrites that have failed since the last one that succeeded."),
    g("aof_last_write_status", "aof_write_ok", "Whether the append-only file can be written.").word("ok"),
    g("aof_last_cow_size", "aof_rewrite_last_copied_bytes", "Memory copied because of the last rewrite."),
    g("module_fork_in_progress", "module_fork_in_progress", "Always 0: there are no modules."),
    g("slot_migration_fork_in_progress", "slot_migration_fork_in_progress", "Always 0: slots migrate without a child process."),
    g("module_fork_last_cow_size", "module_fork_last_copied_bytes", "Always 0: there are no modules."),
    g("aof_current_size", "aof_size_bytes", "Size of the append-only file."),
    g("aof_base_size", "aof_base_size_bytes", "Size of the append-only file after the last rewrite."),
    g("aof_pending_rewrite", "aof_rewrite_pending", "Always 0: see spinel_aof_rewrite_scheduled."),
    g("aof_buffer_length", "aof_buffer_bytes", "Bytes that wait for being written to the append-only file."),
    g("aof_pending_bio_fsync", "aof_fsync_pending", "Calls of fsync that wait in the background."),
    c("aof_delayed_fsync", "aof_fsync_delayed_total", "Writes that waited for fsync."),
    g("loading_start_time", "loading_start_time_seconds", "Time at which loading began, since 1970."),
    g("loading_total_bytes", "loading_total_bytes", "Size of what is being loaded."),
    g("loading_rdb_used_mem", "loading_expected_memory_bytes", "Memory of the server that wrote what is being loaded."),
    g("loading_loaded_bytes", "loading_loaded_bytes", "Bytes loaded so far."),
    g("loading_loaded_perc", "loading_ratio", "Part that is loaded.").times(PERCENT),
    g("loading_eta_seconds", "loading_remaining_seconds", "Estimated time until everything is loaded."),
    // Stats
    c("total_connections_received", "connections_total", "Connections accepted."),
    c("total_commands_processed", "commands_total", "Commands run."),
    g("instantaneous_ops_per_sec", "commands_per_second", "Commands per second, averaged over the last 1.6 seconds."),
    c("total_net_input_bytes", "network_received_bytes_total", "Bytes received from clients."),
    c("total_net_output_bytes", "network_sent_bytes_total", "Bytes sent to clients."),
    c("total_net_repl_input_bytes", "replication_received_bytes_total", "Bytes received from the primary."),
    c("total_net_repl_output_bytes", "replication_sent_bytes_total", "Bytes sent to replicas."),
    c("total_net_cluster_slot_import_bytes", "slot_import_received_bytes_total", "Bytes received of slots being imported."),
    c("total_net_cluster_slot_export_bytes", "slot_export_sent_bytes_total", "Bytes sent of slots being exported."),
    g("instantaneous_input_kbps", "network_received_bytes_per_second", "Bytes received per second, averaged over the last 1.6 seconds.").times(KILO),
    g("instantaneous_output_kbps", "network_sent_bytes_per_second", "Bytes sent per second, averaged over the last 1.6 seconds.").times(KILO),
    g("instantaneous_input_repl_kbps", "replication_received_bytes_per_second", "Always 0: see spinel_replication_received_bytes_total.").times(KILO),
    g("instantaneous_output_repl_kbps", "replication_sent_bytes_per_second", "Always 0: see spinel_replication_sent_bytes_total.").times(KILO),
    c("rejected_connections", "connections_rejected_total", "Connections refused because of maxclients or protected mode."),
    c("sync_full", "replication_full_syncs_total", "Replicas that were sent everything."),
    c("sync_partial_ok", "replication_partial_syncs_total", "Replicas that were sent what they had missed."),
    c("sync_partial_err", "replication_partial_syncs_refused_total", "Replicas that had missed too much."),
    c("expired_keys", "expired_keys_total", "Keys that have expired."),
    c("expired_fields", "expired_fields_total", "Fields of hashes that have expired."),
    g("expired_stale_perc", "expired_stale_ratio", "Estimated part of keys with a time to live that have expired and are still there.").times(PERCENT),
    c("expired_time_cap_reached_count", "expire_cycles_cut_short_total", "Searches for expired keys that ran out of time."),
    c("expire_cycle_cpu_milliseconds", "expire_cycles_seconds_total", "Time spent in searching for expired keys.").times(MILLI),
    c("evicted_keys", "evicted_keys_total", "Keys removed because of the limit for memory."),
    g("blessed_keys", "keys_exempt_from_eviction", "Keys that are never evicted."),
    c("evicted_clients", "evicted_clients_total", "Clients closed because all together used too much memory."),
    c("evicted_scripts", "evicted_scripts_total", "Scripts dropped from a full cache."),
    c("total_eviction_exceeded_time", "memory_over_limit_seconds_total", "Time spent above the limit for memory.").times(MILLI),
    g("current_eviction_exceeded_time", "memory_over_limit_current_seconds", "Time since memory is above its limit.").times(MILLI),
    c("keyspace_hits", "keyspace_hits_total", "Lookups of keys that were there."),
    c("keyspace_misses", "keyspace_misses_total", "Lookups of keys that were not there."),
    g("pubsub_channels", "pubsub_channels", "Channels with subscribers."),
    g("pubsub_patterns", "pubsub_patterns", "Patterns with subscribers."),
    g("pubsubshard_channels", "pubsub_shard_channels", "Shard channels with subscribers."),
    g("latest_fork_usec", "fork_last_seconds", "Time that the last fork took.").times(MICRO),
    c("total_forks", "forks_total", "Child processes started."),
    g("walks_in_progress", "walks", "Walks through all keys under way: DELPREFIX and PREFIX STATS."),
    g("walks_keys_seen", "walks_keys_seen", "Keys that the walks under way have seen."),
    g("walks_keys_total", "walks_keys", "Keys that the walks under way have to see."),
    g("migrate_cached_sockets", "migrate_connections", "Connections kept by MIGRATE."),
    g("slave_expires_tracked_keys", "replica_expiring_keys", "Keys with a time to live that were written on a replica."),
    c("active_defrag_hits", "defragmentation_moved_total", "Allocations moved by active defragmentation."),
    c("active_defrag_misses", "defragmentation_kept_total", "Allocations that active defragmentation looked at and left."),
    c("active_defrag_key_hits", "defragmentation_keys_moved_total", "Keys of which active defragmentation moved something."),
    c("active_defrag_key_misses", "defragmentation_keys_kept_total", "Keys of which active defragmentation moved nothing."),
    c("total_active_defrag_time", "defragmentation_seconds_total", "Time in which active defragmentation was on.").times(MILLI),
    g("current_active_defrag_time", "defragmentation_current_seconds", "Time since active defragmentation is on.").times(MILLI),
    g("tracking_total_keys", "tracking_keys", "Keys that clients cache."),
    g("tracking_total_items", "tracking_items", "Pairs of such a key and a client."),
    g("tracking_total_prefixes", "tracking_prefixes", "Prefixes that clients have named."),
    c("unexpected_error_replies", "error_replies_unexpected_total", "Errors of requests that had succeeded on a primary or before."),
    c("total_error_replies", "error_replies_total", "Errors of requests."),
    c("dump_payload_sanitizations", "dump_payload_checks_total", "Always 0: every payload is checked."),
    c("total_reads_processed", "network_reads_total", "Receives from clients."),
    c("total_writes_processed", "network_writes_total", "Sends to clients."),
    c("io_threaded_reads_processed", "network_reads_threaded_total", "Receives by I/O threads."),
    c("io_threaded_writes_processed", "network_writes_threaded_total", "Sends by I/O threads."),
    c("client_query_buffer_limit_disconnections", "clients_closed_input_limit_total", "Clients closed because of too much input."),
    c("client_output_buffer_limit_disconnections", "clients_closed_output_limit_total", "Clients closed because of too much output."),
    c("reply_buffer_shrinks", "reply_buffer_shrinks_total", "Times that a reply buffer was made smaller."),
    c("reply_buffer_expands", "reply_buffer_expands_total", "Times that a reply buffer was made larger."),
    c("eventloop_cycles", "loop_turns_total", "Turns of the event loop."),
    c("eventloop_duration_sum", "loop_seconds_total", "Time spent in turns of the event loop.").times(MICRO),
    c("eventloop_duration_cmd_sum", "loop_commands_seconds_total", "Time spent in commands.").times(MICRO),
    g("instantaneous_eventloop_cycles_per_sec", "loop_turns_per_second", "Turns per second, averaged over the last 1.6 seconds."),
    g("instantaneous_eventloop_duration_usec", "loop_turn_recent_seconds", "Time of a turn, averaged over the last 1.6 seconds.").times(MICRO),
    c("acl_access_denied_auth", "acl_denied_logins_total", "Logins with a wrong name or password."),
    c("acl_access_denied_cmd", "acl_denied_commands_total", "Commands denied to their user."),
    c("acl_access_denied_key", "acl_denied_keys_total", "Keys denied to their user."),
    c("acl_access_denied_channel", "acl_denied_channels_total", "Channels denied to their user."),
    c("acl_access_denied_db", "acl_denied_databases_total", "Requests denied to their user because of a database."),
    c("acl_access_denied_tls_cert", "acl_denied_certificates_total", "Certificates that named no user who may log in."),
    // Replication
    g("master_port", "primary_port", "Port of the primary."),
    g("master_link_status", "primary_link_up", "Whether the primary is connected.").word("up"),
    g("master_last_io_seconds_ago", "primary_last_io_age_seconds", "Time since something came from the primary.").if_any(),
    g("master_sync_in_progress", "primary_sync_in_progress", "Whether everything is being copied from the primary."),
    g("slave_read_repl_offset", "replica_read_offset_bytes", "Position in the stream that was received."),
    g("slave_repl_offset", "replica_offset_bytes", "Position in the stream that was applied."),
    g("master_sync_total_bytes", "primary_sync_total_bytes", "Size of the copy; 0 if it is unknown."),
    g("master_sync_read_bytes", "primary_sync_read_bytes", "Bytes of the copy that were received."),
    g("master_sync_left_bytes", "primary_sync_remaining_bytes", "Bytes of the copy that are missing.").if_any(),
    g("master_sync_perc", "primary_sync_ratio", "Part of the copy that was received.").times(PERCENT),
    g("master_sync_last_io_seconds_ago", "primary_sync_last_io_age_seconds", "Time since bytes of the copy came."),
    g("master_link_down_since_seconds", "primary_link_down_seconds", "Time since the connection to the primary was lost.").if_any(),
    g("slave_priority", "replica_priority", "Priority with which a Sentinel promotes this replica."),
    g("slave_read_only", "replica_read_only", "Whether a replica refuses writes of clients."),
    g("replica_announced", "replica_announced", "Whether a Sentinel tells of this replica."),
    g("connected_slaves", "replicas", "Connections of replicas."),
    g("min_slaves_good_slaves", "replicas_good", "Replicas that count for min-replicas-to-write."),
    g("master_repl_offset", "replication_offset_bytes", "Position in the stream for replicas."),
    g("second_repl_offset", "replication_former_offset_bytes", "Position up to which the former history holds.").if_any(),
    g("repl_backlog_active", "replication_backlog_active", "Whether the stream is kept for replicas that come back."),
    g("repl_backlog_size", "replication_backlog_limit_bytes", "Size up to which it is kept."),
    g("repl_backlog_first_byte_offset", "replication_backlog_start_bytes", "Position of the first byte that is kept."),
    g("repl_backlog_histlen", "replication_backlog_bytes", "Bytes that are kept."),
    // CPU
    c("used_cpu_sys", "cpu_system_seconds_total", "Processor time in the system."),
    c("used_cpu_user", "cpu_user_seconds_total", "Processor time in the program."),
    c("used_cpu_sys_children", "cpu_children_system_seconds_total", "Processor time of child processes in the system."),
    c("used_cpu_user_children", "cpu_children_user_seconds_total", "Processor time of child processes in the program."),
    c("used_cpu_sys_main_thread", "cpu_main_system_seconds_total", "Processor time of the main thread in the system."),
    c("used_cpu_user_main_thread", "cpu_main_user_seconds_total", "Processor time of the main thread in the program."),
    c("used_active_time_main_thread", "main_active_seconds_total", "Time that the main thread was not waiting."),
    // Cluster
    g("cluster_enabled", "cluster_enabled", "Whether the server is a node of a cluster."),
    // Debug
    c("eventloop_duration_aof_sum", "loop_aof_seconds_total", "Time spent with the append-only file, which is part of the turns.").times(MICRO),
    c("eventloop_duration_cron_sum", "loop_timer_seconds_total", "Time spent in the timer.").times(MICRO),
    g("eventloop_duration_max", "loop_turn_max_seconds", "Longest turn of the event loop.").times(MICRO),
    g("eventloop_cmd_per_cycle_max", "loop_turn_max_commands", "Most commands in one turn."),
    // Sentinel
    g("sentinel_masters", "sentinel_primaries", "Primaries that this Sentinel watches."),
    g("sentinel_tilt", "sentinel_tilt", "Whether this Sentinel does not trust its clock."),
    g("sentinel_tilt_since_seconds", "sentinel_tilt_seconds", "Time since then.").if_any(),
    g("sentinel_running_scripts", "sentinel_scripts_running", "Scripts that run."),
    g("sentinel_scripts_queue_length", "sentinel_scripts", "Scripts that run or wait."),
    g("sentinel_simulate_failure_flags", "sentinel_simulated_failures", "Failures that SENTINEL SIMULATE-FAILURE has asked for, as bits."),
];
