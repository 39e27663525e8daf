//! INFO: statistics of the server, as text.
//!
//! Each section is a function that writes its lines; [`SECTIONS`] lists the functions in order with their names.
//! Fields and their order are those of Redis 7.2, because tools read fields by name; the fields of an absent
//! feature have neutral values.

use std::time::Duration;

use super::module_list::module_of;
use crate::clients::pubsub::Scope;
use crate::clients::{Client, ClientKey};
use crate::config::Config;
use crate::config::value::{Choice, CompatVersion, Supervised};
use crate::keyspace::sizes::COUNTED;
use crate::replication::replica;
use crate::resp::Args;
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, Group, Spec};
use crate::server::durability::aof::State;
use crate::server::durability::child::{Child, Task};
use crate::server::replication::link::{Following, LinkState};
use crate::stats::info::{InfoText, Safe};
use crate::stats::metrics::{CommandLatency, Snapshot, latest_slow};
use crate::stats::slowlog::LogKind;
use crate::stdx::clock::{self, UnixMillis};
use crate::stdx::num::human_bytes;
use crate::stdx::process::{self, CpuTime, Who};
use crate::stdx::{alloc, text};

/// Table entry of the INFO command.
pub const COMMANDS: &[Spec] = &[INFO];

/// The version of Redis whose commands, replies and files are followed.
use crate::server::process::version::{BUILD_ID, COMMIT, MODIFIED, VERSION};

const INFO: Spec = Spec::admin("info", -1, info)
    .flags(Flags::LOADING.with(Flags::STALE))
    .acl(Acl::DANGEROUS)
    .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
    .docs(Docs {
        summary: "Tells facts and counters of the server.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Server,
        history: &[("7.0.0", "Several sections may be named.")],
        args: &[Arg::string("section").optional().multiple()],
        ..Docs::NONE
    });

/// One section.
struct Section {
    /// Names of the section in a request.
    names: &'static [&'static str],
    /// Whether INFO without arguments includes the section.
    by_default: bool,
    write: fn(&Server, &mut InfoText),
}

const SECTIONS: &[Section] = &[
    Section { names: &["server"], by_default: true, write: server_section },
    Section { names: &["tls"], by_default: true, write: tls_section },
    Section { names: &["clients"], by_default: true, write: clients_section },
    Section { names: &["memory"], by_default: true, write: memory_section },
    Section { names: &["persistence"], by_default: true, write: persistence_section },
    Section { names: &["threads"], by_default: true, write: threads_section },
    Section { names: &["stats"], by_default: true, write: stats_section },
    Section { names: &["replication"], by_default: true, write: replication_section },
    Section { names: &["cpu"], by_default: true, write: cpu_section },
    Section { names: &["modules", "module_list"], by_default: true, write: modules_section },
    Section { names: &["commandstats"], by_default: false, write: commandstats_section },
    Section { names: &["errorstats"], by_default: true, write: errorstats_section },
    Section { names: &["latencystats"], by_default: false, write: latencystats_section },
    Section { names: &["cluster"], by_default: true, write: cluster_section },
    Section { names: &["keyspace"], by_default: true, write: keyspace_section },
    Section { names: &["keysizes"], by_default: false, write: keysizes_section },
    Section { names: &["debug"], by_default: false, write: debug_section },
    Section { names: &["sentinel"], by_default: true, write: sentinel_section },
];

/// Sections of a Sentinel, which has no data.
const OF_SENTINEL: &[&str] = &["server", "clients", "stats", "cpu", "sentinel"];

/// What kind of server this is.
fn mode(config: &Config) -> &'static str {
    match (config.sentinel.enabled, config.cluster.enabled) {
        (true, _) => "sentinel",
        (_, true) => "cluster",
        _ => "standalone",
    }
}

/// INFO [section …] → text of these sections, in their fixed order.
fn info(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    server.count_threads();
    if wanted(server, args.rest(1).iter())
        .iter()
        .zip(SECTIONS)
        .any(|(wanted, section)| *wanted && section.counts_keys())
    {
        server.count_key_sizes();
    }
    let text = about(server, args.rest(1).iter());
    Ok(server.reply(key).verbatim("txt", text.as_bytes()))
}

impl Section {
    /// Whether all keys are looked at for it. Where Redis 7.2 or Valkey is followed, which have no such section, it is only
    /// shown when named.
    fn counts_keys(&self) -> bool {
        self.names == ["keysizes"]
    }
}

/// Which sections are named, or shown by default if `names` is empty.
fn wanted<'a>(server: &Server, names: impl ExactSizeIterator<Item = &'a [u8]>) -> [bool; SECTIONS.len()] {
    let counts_keys = server.config.limits.compat_version == CompatVersion::Redis8_2;
    let mut wanted = [false; SECTIONS.len()];
    let mut select = |choose: &dyn Fn(&Section) -> bool| {
        for (wanted, section) in wanted.iter_mut().zip(SECTIONS) {
            let exists = match server.sentinel {
                Some(_) => OF_SENTINEL.contains(&section.names[0]),
                None => section.names != ["sentinel"],
            };
            *wanted |= exists && choose(section);
        }
    };
    let by_default = |section: &Section| section.by_default || section.counts_keys() && counts_keys;
    if names.len() == 0 {
        select(&by_default);
    }
    for name in names {
        if text::eq_ignore_case(name, b"default") {
            select(&by_default);
        } else if text::eq_ignore_case(name, b"all") || text::eq_ignore_case(name, b"everything") {
            select(&|section| section.names != ["debug"] && (counts_keys || !section.counts_keys()));
        } else {
            select(&|section| section.names.iter().any(|known| text::eq_ignore_case(name, known.as_bytes())));
        }
    }
    wanted
}

/// The text of the named sections, or of the default ones if `names` is empty.
pub fn about<'a>(server: &Server, names: impl ExactSizeIterator<Item = &'a [u8]>) -> String {
    let wanted = wanted(server, names);
    let mut out = InfoText::default();
    for (_, section) in wanted.iter().zip(SECTIONS).filter(|(wanted, _)| **wanted) {
        (section.write)(server, &mut out);
    }
    out.finish()
}

/// What the server tells to those who ask for metrics.
pub fn snapshot(server: &mut Server) -> Snapshot {
    server.count_threads();
    let latencies = server
        .commands
        .iter()
        .filter_map(|(id, spec)| CommandLatency::of(spec.name, &server.stats.commands[id.0 as usize]));
    Snapshot {
        latencies: latencies.collect(),
        slow: latest_slow(server.stats.logs.of(LogKind::Slow).iter()),
        keys: None,
        info: about(server, [&b"everything"[..], b"debug"].into_iter()),
    }
}

fn sentinel_section(server: &Server, out: &mut InfoText) {
    let Some(sentinel) = &server.sentinel else { return };
    let machine = &sentinel.machine;
    let now = crate::server::sentinel::now();
    let tilt_s = machine.tilt_since().map_or(-1, |since| (now - since) / 1000);
    let failures =
        u8::from(machine.failures.after_election) | u8::from(machine.failures.after_promotion) << 1;
    out.section("Sentinel")
        .field("sentinel_masters", machine.primaries().len())
        .flag("sentinel_tilt", machine.tilt_since().is_some())
        .field("sentinel_tilt_since_seconds", tilt_s)
        .field("sentinel_running_scripts", machine.scripts.running())
        .field("sentinel_scripts_queue_length", machine.scripts.jobs().len())
        .field("sentinel_simulate_failure_flags", failures);
    for line in machine.info_lines() {
        out.line(format_args!("{line}"));
    }
}

fn server_section(server: &Server, out: &mut InfoText) {
    let (config, identity) = (&server.config, &server.identity);
    let now = UnixMillis::now();
    let uptime_s = now.since(identity.started).max(0) / 1000;
    let supervised = match config.general.supervised {
        Supervised::No => "no",
        manager => manager.name(),
    };
    let compat = config.limits.compat_version;
    out.section("Server").field("redis_version", compat.redis_version());
    if compat.is_valkey() {
        // Clients look for the name and the version of Valkey.
        out.field("server_name", "valkey")
            .field("valkey_version", compat.server().1)
            .field("valkey_release_stage", "ga");
    } else {
        out.field("server_name", "spinel");
    }
    out.field("spinel_version", VERSION)
        .field("redis_git_sha1", COMMIT)
        .field("redis_git_dirty", MODIFIED)
        .field("redis_build_id", format_args!("{BUILD_ID:016x}"))
        .field("redis_mode", mode(config))
        .field("server_mode", mode(config))
        .field("os", process::system_name())
        .field("arch_bits", usize::BITS)
        .field("monotonic_clock", "POSIX clock_gettime")
        .field("multiplexing_api", if cfg!(target_os = "linux") { "epoll" } else { "kqueue" })
        .field("atomicvar_api", "rust-core")
        // The value in Redis when it was built by another compiler.
        .field("gcc_version", "0.0.0")
        .field("process_id", identity.pid)
        .field("process_supervised", supervised)
        .field("run_id", &identity.run_id)
        .field("tcp_port", config.main_port())
        .field("server_time_usec", clock::now_us())
        .field("uptime_in_seconds", uptime_s)
        .field("uptime_in_days", uptime_s / (24 * 3600))
        .field("hz", config.advanced.hz)
        .field("configured_hz", config.advanced.hz)
        .field("lru_clock", now.as_secs() & 0xff_ffff)
        .field("executable", identity.executable.display())
        .field("config_file", identity.config_file.as_deref().unwrap_or("".as_ref()).display())
        .flag("io_threads_active", server.config.net.io_threads > 1);
    let mut listeners = 0;
    let addresses: String = config.net.bind.iter().map(|address| format!(",bind={address}")).collect();
    if config.net.port != 0 && !config.net.bind.is_empty() {
        out.line(format_args!("listener0:name=tcp{addresses},port={}", config.net.port));
        listeners += 1;
    }
    if !config.net.unixsocket.is_empty() {
        out.line(format_args!(
            "listener{listeners}:name=unix,bind={}",
            Safe(config.net.unixsocket.as_bytes())
        ));
        listeners += 1;
    }
    if config.tls.port != 0 && !config.net.bind.is_empty() {
        out.line(format_args!("listener{listeners}:name=tls{addresses},port={}", config.tls.port));
    }
    if let Some(shutdown) = &server.persistence.shutdown {
        out.field("shutdown_in_milliseconds", shutdown.until.since(now));
    }
}

fn tls_section(server: &Server, out: &mut InfoText) {
    out.section("TLS");
    let now = UnixMillis::now().as_secs();
    for (whose, certificate) in server.tls.certificates() {
        let serial = certificate.map_or("none", |certificate| &certificate.serial);
        let left_s = certificate.map_or(0, |certificate| (certificate.expires - now).max(0));
        out.line(format_args!("tls_{whose}_cert_serial:{serial}"));
        out.line(format_args!("tls_{whose}_cert_expires_in_seconds:{left_s}"));
    }
}

fn clients_section(server: &Server, out: &mut InfoText) {
    let clients = &server.clients;
    let count = |wanted: fn(&Client) -> bool| clients.iter().filter(|(_, client)| wanted(client)).count();
    let (reason, actions, left_ms) = server.pause.report();
    out.section("Clients")
        .field("connected_clients", clients.len() - server.replication.replicas.len())
        .field("cluster_connections", server.cluster.as_ref().map_or(0, |cluster| cluster.links.len()))
        .field("maxclients", server.config.net.maxclients)
        .field("client_recent_max_input_buffer", clients.memory.recent_max_input())
        .field("client_recent_max_output_buffer", clients.memory.recent_max_output())
        .field("blocked_clients", clients.blocking.clients() + server.pause.waiting())
        .field("tracking_clients", clients.tracking.clients())
        .field("pubsub_clients", count(|client| client.subscriptions.is_some()))
        .field("watching_clients", count(|client| !client.watched.is_empty()))
        .field("clients_in_timeout_table", clients.blocking.with_deadline())
        .field("total_watched_keys", clients.watches.len())
        .field("total_blocking_keys", clients.blocking.keys())
        .field("total_blocking_keys_on_nokey", clients.blocking.keys_for_absence())
        .field("paused_reason", reason)
        .field("paused_actions", actions)
        .field("paused_timeout_milliseconds", left_ms);
}

/// Memory use by purpose.
pub(super) struct MemoryReport {
    pub used: usize,
    pub peak: usize,
    pub startup: usize,
    pub clients: usize,
    /// Bytes of connections of replicas, and of the stream that they share.
    pub replication: usize,
    /// Buffers that belong to no client at the moment.
    pub pool: usize,
    /// Bytes of the tables of each database: keys, expiries.
    pub tables: Vec<(usize, usize)>,
    pub allocated: usize,
    pub active: usize,
    pub resident: usize,
    /// Resident memory of the process, as the system counts it.
    pub rss: usize,
}

impl MemoryReport {
    pub(super) fn of(server: &Server) -> MemoryReport {
        let used = alloc::used();
        let sample = server.stats.memory.sample();
        let threads = server.thread_figures();
        let clients: usize = server.clients.iter().map(|(_, client)| client.memory()).sum();
        let replicas: usize =
            server.replication.replicas.iter().map(|&key| server.clients[key].memory()).sum();
        MemoryReport {
            used,
            peak: server.stats.peak_memory.max(used),
            startup: server.identity.startup_memory,
            clients: clients - replicas,
            replication: replicas + server.replication.backlog.allocated(),
            pool: server.pool.allocated()
                + threads.iter().map(|thread| thread.counts.pooled as usize).sum::<usize>(),
            tables: server
                .keyspace
                .databases()
                .iter()
                .map(|db| (db.keys().bytes(), db.expires_bytes()))
                .collect(),
            allocated: sample.allocated,
            active: sample.active,
            resident: sample.resident,
            rss: sample.rss,
        }
    }

    /// Bytes that hold no data: the server itself, its clients and replicas, pooled buffers, the tables.
    pub(super) fn overhead(&self) -> usize {
        let tables: usize = self.tables.iter().map(|(keys, expires)| keys + expires).sum();
        self.startup + self.clients + self.replication + self.pool + tables
    }

    pub(super) fn dataset(&self) -> usize {
        self.used.saturating_sub(self.overhead())
    }

    pub(super) fn dataset_percent(&self) -> f64 {
        100.0 * ratio(self.dataset(), self.used.saturating_sub(self.startup))
    }
}

/// The quotient of `a` and `b`; 0 if `b` is 0.
pub(super) fn ratio(a: usize, b: usize) -> f64 {
    if b == 0 { 0.0 } else { a as f64 / b as f64 }
}

fn memory_section(server: &Server, out: &mut InfoText) {
    let memory = MemoryReport::of(server);
    let config = &server.config.memory;
    let human = |bytes: usize| human_bytes(bytes as u64);
    let more = |a: usize, b: usize| a as i64 - b as i64;
    out.section("Memory")
        .field("used_memory", memory.used)
        .field("used_memory_human", human(memory.used))
        .field("used_memory_rss", memory.rss)
        .field("used_memory_rss_human", human(memory.rss))
        .field("used_memory_peak", memory.peak)
        .field("used_memory_peak_human", human(memory.peak))
        .line(format_args!("used_memory_peak_perc:{:.2}%", 100.0 * ratio(memory.used, memory.peak)))
        .field("used_memory_overhead", memory.overhead())
        .field("used_memory_startup", memory.startup)
        .field("used_memory_dataset", memory.dataset())
        .line(format_args!("used_memory_dataset_perc:{:.2}%", memory.dataset_percent()))
        .field("allocator_allocated", memory.allocated)
        .field("allocator_active", memory.active)
        .field("allocator_resident", memory.resident)
        .field("total_system_memory", process::total_memory())
        .field("total_system_memory_human", human_bytes(process::total_memory()));
    // Scripts and functions share one heap of Lua.
    let scripts = server.scripts.figures();
    out.field("used_memory_lua", scripts.heap)
        .field("used_memory_vm_eval", scripts.heap)
        .field("used_memory_lua_human", human(scripts.heap))
        .field("used_memory_scripts_eval", scripts.scripts_bytes)
        .field("number_of_cached_scripts", scripts.scripts)
        .field("number_of_functions", scripts.functions)
        .field("number_of_libraries", scripts.libraries)
        .field("used_memory_vm_functions", 0)
        .field("used_memory_vm_total", scripts.heap)
        .field("used_memory_vm_total_human", human(scripts.heap))
        .field("used_memory_functions", scripts.libraries_bytes)
        .field("used_memory_scripts", scripts.scripts_bytes + scripts.libraries_bytes)
        .field("used_memory_scripts_human", human(scripts.scripts_bytes + scripts.libraries_bytes));
    out.field("maxmemory", config.maxmemory)
        .field("maxmemory_human", human_bytes(config.maxmemory))
        .field("maxmemory_policy", config.policy.name())
        .ratio("allocator_frag_ratio", ratio(memory.active, memory.allocated))
        .field("allocator_frag_bytes", more(memory.active, memory.allocated))
        .ratio("allocator_rss_ratio", ratio(memory.resident, memory.active))
        .field("allocator_rss_bytes", more(memory.resident, memory.active))
        .ratio("rss_overhead_ratio", ratio(memory.rss, memory.resident))
        .field("rss_overhead_bytes", more(memory.rss, memory.resident))
        .ratio("mem_fragmentation_ratio", ratio(memory.rss, memory.used))
        .field("mem_fragmentation_bytes", more(memory.rss, memory.used))
        .field("mem_not_counted_for_evict", server.memory_not_counted())
        .field("mem_replication_backlog", server.replication.backlog.allocated() - server.replica_memory())
        .field("mem_total_replication_buffers", server.replication.backlog.allocated())
        .field("mem_clients_slaves", server.replica_memory())
        .field("mem_clients_normal", memory.clients)
        .field("mem_cluster_links", server.cluster.as_ref().map_or(0, |cluster| cluster.links.memory()))
        .field("mem_cluster_slot_import", server.import_memory())
        .field(
            "mem_cluster_slot_export",
            server.cluster.as_ref().map_or(0, |cluster| cluster.migrations.export_memory()),
        )
        .field("mem_aof_buffer", server.aof.log.buf.capacity())
        .field("mem_allocator", alloc::NAME)
        .field("active_defrag_running", server.defragment.effort())
        .field("lazyfree_pending_objects", server.keyspace.reclaimer.pending())
        .field("lazyfreed_objects", server.keyspace.reclaimer.freed());
}

fn persistence_section(server: &Server, out: &mut InfoText) {
    let (persistence, now) = (&server.persistence, server.keyspace.now());
    let child = server.children.current.as_ref();
    let saving = child.filter(|child| child.task.is_snapshot());
    let seconds = |time: Option<Duration>| time.map_or(-1, |time| time.as_secs() as i64);
    let copied_age = child.and_then(|child| child.reported).map_or(0, |at| at.elapsed().as_secs());
    out.section("Persistence")
        .flag("loading", persistence.loading.is_some())
        .flag("async_loading", persistence.async_loading.is_some())
        .field("current_cow_peak", child.map_or(0, |child| child.copied_peak))
        .field("current_cow_size", child.map_or(0, |child| child.report.copied))
        .field("current_cow_size_age", copied_age)
        .ratio("current_fork_perc", child.map_or(0.0, Child::percent))
        .field("current_save_keys_processed", child.map_or(0, |child| child.report.keys))
        .field("current_save_keys_total", child.map_or(0, |child| child.keys_total))
        .field("rdb_changes_since_last_save", server.keyspace.ledger.dirty)
        .flag("rdb_bgsave_in_progress", saving.is_some())
        .field("rdb_last_save_time", persistence.saved_at.as_secs())
        .field("rdb_last_bgsave_status", if persistence.bgsave_ok { "ok" } else { "err" })
        .field("rdb_last_bgsave_time_sec", seconds(persistence.bgsave_took))
        .field("rdb_current_bgsave_time_sec", seconds(saving.map(|child| child.started.elapsed())))
        .field("rdb_saves", persistence.saves)
        .field("rdb_last_cow_size", persistence.copied)
        .field("rdb_last_load_keys_expired", persistence.last_load.expired)
        .field("rdb_last_load_keys_loaded", persistence.last_load.loaded)
        .field("rdb_last_load_keys_skipped", persistence.last_load.skipped);
    let aof = &server.aof;
    let rewriting = child.filter(|child| child.task == Task::Aof);
    out.flag("aof_enabled", aof.state != State::Off)
        .flag("aof_rewrite_in_progress", rewriting.is_some())
        .flag("aof_rewrite_scheduled", aof.rewrite_scheduled)
        .field("aof_last_rewrite_time_sec", seconds(aof.rewrite_took))
        .field("aof_current_rewrite_time_sec", seconds(rewriting.map(|child| child.started.elapsed())))
        .field("aof_last_bgrewrite_status", if aof.rewrite_ok { "ok" } else { "err" })
        .field("aof_rewrites", aof.rewrites)
        .field("aof_rewrites_consecutive_failures", aof.failures)
        .field("aof_last_write_status", if aof.error().is_none() { "ok" } else { "err" })
        .field("aof_last_cow_size", aof.copied)
        .flag("module_fork_in_progress", false)
        .flag("slot_migration_fork_in_progress", false)
        .field("module_fork_last_cow_size", 0);
    if aof.state != State::Off {
        out.field("aof_current_size", aof.current_size())
            .field("aof_base_size", aof.base_size)
            .field("aof_pending_rewrite", 0)
            .field("aof_buffer_length", aof.log.buf.len())
            .field("aof_pending_bio_fsync", aof.log.pending_syncs(&server.background))
            .field("aof_delayed_fsync", aof.log.delayed);
    }
    if let Some(loading) = persistence.loading.as_ref().or(persistence.async_loading.as_ref()) {
        let elapsed_s = (now.0 - loading.started.0) as f64 / 1000.0;
        let part = loading.part();
        // At first there is nothing to estimate from.
        let left_s = if part > 0.0 { elapsed_s * (1.0 - part) / part } else { 1.0 };
        out.field("loading_start_time", loading.started.as_secs())
            .field("loading_total_bytes", loading.total_bytes)
            .field("loading_rdb_used_mem", loading.used_memory)
            .field("loading_loaded_bytes", loading.loaded_bytes)
            .ratio("loading_loaded_perc", part * 100.0)
            .field("loading_eta_seconds", left_s as u64);
    }
}

fn threads_section(server: &Server, out: &mut InfoText) {
    let (stats, threads) = (&server.stats, server.thread_figures());
    let away: usize = threads.iter().map(|thread| thread.clients).sum();
    out.section("Threads").line(format_args!(
        "io_thread_0:clients={},reads={},writes={}",
        server.clients.len() - away,
        stats.reads - stats.threaded_reads,
        stats.writes - stats.threaded_writes
    ));
    for (i, thread) in threads.iter().enumerate() {
        let (number, counts) = (i + 1, thread.counts);
        out.line(format_args!(
            "io_thread_{number}:clients={},reads={},writes={}",
            thread.clients, counts.reads, counts.writes
        ));
    }
}

fn stats_section(server: &Server, out: &mut InfoText) {
    let (stats, keyspace) = (&server.stats, &server.keyspace.stats);
    let kilobytes = |rate: u64| rate as f64 / 1024.0;
    let in_commands_ns: u64 = stats.commands.iter().map(|command| command.ns).sum();
    out.section("Stats")
        .field("total_connections_received", stats.connections_received)
        .field("total_commands_processed", stats.commands_processed)
        .field("instantaneous_ops_per_sec", stats.rates.commands.get())
        .field("total_net_input_bytes", stats.net_input_bytes)
        .field("total_net_output_bytes", stats.net_output_bytes)
        .field("total_net_repl_input_bytes", server.replication.counts.received)
        .field("total_net_repl_output_bytes", server.replication.counts.sent)
        .field(
            "total_net_cluster_slot_import_bytes",
            server.cluster.as_ref().map_or(0, |cluster| cluster.migrations.imported_bytes),
        )
        .field(
            "total_net_cluster_slot_export_bytes",
            server.cluster.as_ref().map_or(0, |cluster| cluster.migrations.exported_bytes),
        )
        .ratio("instantaneous_input_kbps", kilobytes(stats.rates.net_input.get()))
        .ratio("instantaneous_output_kbps", kilobytes(stats.rates.net_output.get()))
        .ratio("instantaneous_input_repl_kbps", 0.0)
        .ratio("instantaneous_output_repl_kbps", 0.0)
        .field("rejected_connections", stats.connections_rejected)
        .field("sync_full", server.replication.counts.full)
        .field("sync_partial_ok", server.replication.counts.partial)
        .field("sync_partial_err", server.replication.counts.refused)
        .field("expired_keys", keyspace.expired)
        .field("expired_fields", keyspace.expired_fields)
        // The name in Redis 8.
        .field("expired_subkeys", keyspace.expired_fields)
        .ratio("expired_stale_perc", keyspace.expired_stale_percent)
        .field("expired_time_cap_reached_count", keyspace.expire_cycle_cut_short)
        .field("expire_cycle_cpu_milliseconds", keyspace.expire_cycle_us / 1000)
        .field("evicted_keys", keyspace.evicted)
        .field("blessed_keys", server.keyspace.protected())
        .field("evicted_clients", stats.evicted_clients)
        .field("evicted_scripts", server.scripts.figures().evicted)
        .field("total_eviction_exceeded_time", stats.short_of_memory_ms().0)
        .field("current_eviction_exceeded_time", stats.short_of_memory_ms().1)
        .field("keyspace_hits", keyspace.hits)
        .field("keyspace_misses", keyspace.misses);
    let moved = &server.defragment.counts;
    out.field("pubsub_channels", server.clients.pubsub.len(Scope::Channel))
        .field("pubsub_patterns", server.clients.pubsub.len(Scope::Pattern))
        .field("pubsubshard_channels", server.clients.pubsub.len(Scope::Shard))
        .field("latest_fork_usec", server.children.fork_us)
        .field("total_forks", server.children.forks)
        .field("walks_in_progress", server.walks.len())
        .field("walks_keys_seen", server.walks.keys().0)
        .field("walks_keys_total", server.walks.keys().1)
        .field("migrate_cached_sockets", server.targets.len())
        .field("slave_expires_tracked_keys", server.keyspace.own_expiries.len())
        .field("active_defrag_hits", moved.hits)
        .field("active_defrag_misses", moved.misses)
        .field("active_defrag_key_hits", moved.key_hits)
        .field("active_defrag_key_misses", moved.key_misses)
        .field("total_active_defrag_time", server.defragment.total().as_millis())
        .field("current_active_defrag_time", server.defragment.current().as_millis())
        .field("tracking_total_keys", server.clients.tracking.keys())
        .field("tracking_total_items", server.clients.tracking.items())
        .field("tracking_total_prefixes", server.clients.tracking.prefixes())
        .field("unexpected_error_replies", stats.unexpected_errors)
        .field("total_error_replies", stats.error_replies)
        .field("dump_payload_sanitizations", 0)
        .field("total_reads_processed", stats.reads)
        .field("total_writes_processed", stats.writes)
        .field("io_threaded_reads_processed", stats.threaded_reads)
        .field("io_threaded_writes_processed", stats.threaded_writes)
        .field("client_query_buffer_limit_disconnections", stats.query_buffer_limit_disconnections)
        .field("client_output_buffer_limit_disconnections", stats.output_buffer_limit_disconnections)
        .field("reply_buffer_shrinks", stats.reply_buffer_shrinks)
        .field("reply_buffer_expands", stats.reply_buffer_expands)
        .field("eventloop_cycles", stats.loop_turns)
        .field("eventloop_duration_sum", stats.loop_ns / 1000)
        .field("eventloop_duration_cmd_sum", in_commands_ns / 1000)
        .field("instantaneous_eventloop_cycles_per_sec", stats.rates.loop_turns.get())
        .field("instantaneous_eventloop_duration_usec", stats.rates.loop_us.get())
        .field("acl_access_denied_auth", server.acl.denials.logins)
        .field("acl_access_denied_cmd", server.acl.denials.commands)
        .field("acl_access_denied_key", server.acl.denials.keys)
        .field("acl_access_denied_channel", server.acl.denials.channels)
        .field("acl_access_denied_tls_cert", server.stats.denied_certificates)
        .field("acl_access_denied_db", server.acl.denials.databases);
}

/// Only shown when named: no group of sections includes it.
fn debug_section(server: &Server, out: &mut InfoText) {
    let stats = &server.stats;
    out.section("Debug")
        .field("eventloop_duration_aof_sum", stats.aof_ns / 1000)
        .field("eventloop_duration_cron_sum", stats.cron_ns / 1000)
        .field("eventloop_duration_max", stats.loop_ns_max / 1000)
        .field("eventloop_cmd_per_cycle_max", stats.loop_commands_max);
}

fn replication_section(server: &Server, out: &mut InfoText) {
    let (replication, options) = (&server.replication, &server.config.replication);
    let (backlog, history) = (&replication.backlog, &replication.history);
    out.section("Replication").field("role", if replication.is_replica() { "slave" } else { "master" });
    if let Some(following) = &replication.following {
        replica_fields(server, following, out);
    }
    out.field("connected_slaves", replication.replicas.len());
    if options.min_replicas_to_write > 0 && options.min_replicas_max_lag_s > 0 {
        out.field("min_slaves_good_slaves", replication.good_replicas);
    }
    for (i, &key) in replication.replicas.iter().enumerate() {
        let Some(replica) = server.replica(key) else { continue };
        let ip = server.replica_ip(key).unwrap_or_default();
        let lag = replica.lag_s(server.keyspace.now()).unwrap_or(0);
        let mut line = format!(
            "ip={ip},port={},state={},offset={},lag={lag}",
            replica.port,
            replica.state_name(),
            replica.acknowledged
        );
        if let replica::State::Transfer { sent, len } = replica.state {
            line += &format!(",sync_sent_bytes={sent},sync_total_bytes={len}");
        }
        out.field(&format!("slave{i}"), line);
    }
    out.field("master_failover_state", replication.failover.state_name())
        .field("master_replid", history.id)
        .field("master_replid2", server.former_id())
        .field("master_repl_offset", replication.offset())
        .field("second_repl_offset", history.former.map_or(-1, |(_, end)| end as i64 + 1))
        .flag("repl_backlog_active", backlog.is_active())
        .field("repl_backlog_size", options.backlog_size)
        .field("repl_backlog_first_byte_offset", if backlog.is_active() { backlog.start() + 1 } else { 0 })
        .field("repl_backlog_histlen", backlog.len());
}

/// What a replica says of its link to the primary.
fn replica_fields(server: &Server, following: &Following, out: &mut InfoText) {
    let options = &server.config.replication;
    let primary = options.replicaof.as_ref();
    let seconds_ago = |at: std::time::Instant| at.elapsed().as_secs() as i64;
    let last_io = match server.primary_client() {
        Some(key) => server.keyspace.now().since(server.clients[key].last_active) / 1000,
        None => -1,
    };
    let offset =
        if following.is_linked() || following.resumable { server.replication.offset() as i64 } else { 0 };
    let read = server.received_offset() as i64;
    out.field("master_host", primary.map_or("", |primary| &primary.host))
        .field("master_port", primary.map_or(0, |primary| primary.port))
        .field("master_link_status", if following.is_linked() { "up" } else { "down" })
        .field("master_last_io_seconds_ago", last_io)
        .flag("master_sync_in_progress", following.is_copying())
        .field("slave_read_repl_offset", if following.is_linked() { read } else { offset })
        .field("slave_repl_offset", offset);
    if let LinkState::Copying(_, copying) = &following.link {
        let (read, total) = copying.progress();
        let total = total.map_or(0, |total| total as i64);
        let left = total - read as i64;
        let percent = if total == 0 { 0.0 } else { read as f64 * 100.0 / total as f64 };
        out.field("master_sync_total_bytes", total)
            .field("master_sync_read_bytes", read)
            .field("master_sync_left_bytes", left)
            .ratio("master_sync_perc", percent)
            .field("master_sync_last_io_seconds_ago", seconds_ago(following.heard_at));
    }
    if let Some(since) = following.down_since {
        out.field("master_link_down_since_seconds", server.keyspace.now().since(since) / 1000);
    }
    out.field("slave_priority", options.priority)
        .field("slave_read_only", i32::from(options.read_only))
        .field("replica_announced", i32::from(options.announced));
}

fn cpu_section(server: &Server, out: &mut InfoText) {
    out.section("CPU");
    let mut both = |what: &str, time: CpuTime| {
        out.line(format_args!("used_cpu_sys{what}:{:.6}", time.system.as_secs_f64()));
        out.line(format_args!("used_cpu_user{what}:{:.6}", time.user.as_secs_f64()));
    };
    both("", process::cpu_time(Who::Process));
    both("_children", process::cpu_time(Who::Children));
    both("_main_thread", process::cpu_time(Who::Thread));
    let seconds = |ns: u64| Duration::from_nanos(ns).as_secs_f64();
    out.line(format_args!("used_active_time_main_thread:{:.6}", seconds(server.stats.loop_ns)));
    for (i, thread) in server.thread_figures().iter().enumerate() {
        let active = seconds(thread.counts.active_ns);
        out.line(format_args!("used_active_time_io_thread_{}:{active:.6}", i + 1));
    }
}

fn modules_section(server: &Server, out: &mut InfoText) {
    out.section("Modules");
    if let Some((.., line)) = module_of(server.config.limits.compat_version) {
        out.line(format_args!("{line}"));
    }
}

fn commandstats_section(server: &Server, out: &mut InfoText) {
    out.section("Commandstats");
    for (id, spec) in server.commands.iter() {
        let stats = &server.stats.commands[id.0 as usize];
        if !stats.is_empty() {
            let us = stats.ns / 1000;
            let per_call = if stats.calls == 0 { 0.0 } else { us as f64 / stats.calls as f64 };
            out.line(format_args!(
                "cmdstat_{}:calls={},usec={us},usec_per_call={per_call:.2},rejected_calls={},failed_calls={}",
                spec.name, stats.calls, stats.rejected, stats.failed
            ));
        }
    }
}

fn errorstats_section(server: &Server, out: &mut InfoText) {
    out.section("Errorstats");
    for (code, count) in &server.stats.errors {
        out.line(format_args!("errorstat_{}:count={count}", Safe(code)));
    }
}

fn latencystats_section(server: &Server, out: &mut InfoText) {
    out.section("Latencystats");
    let percentiles = &server.config.logs.latency_percentiles.0;
    for (id, spec) in server.commands.iter() {
        let Some(latency) = &server.stats.commands[id.0 as usize].latency else { continue };
        let shown: Vec<String> = percentiles
            .iter()
            .map(|&percent| format!("p{percent}={:.3}", latency.percentile(percent) as f64 / 1000.0))
            .collect();
        out.line(format_args!("latency_percentiles_usec_{}:{}", spec.name, shown.join(",")));
    }
}

fn cluster_section(server: &Server, out: &mut InfoText) {
    out.section("Cluster").flag("cluster_enabled", server.config.cluster.enabled);
}

fn keyspace_section(server: &Server, out: &mut InfoText) {
    out.section("Keyspace");
    for (i, db) in server.keyspace.databases().iter().enumerate().filter(|(_, db)| db.shown_len() > 0) {
        let (keys, volatile, ttl) = (db.shown_len(), db.volatile(), db.avg_ttl_ms());
        // Readers that do not know such fields expect the line to end here.
        let fields = match (server.config.limits.compat_version, db.with_volatile_fields()) {
            (CompatVersion::Redis8_2, n) => format!(",subexpiry={n}"),
            (_, 0) => String::new(),
            (CompatVersion::Redis7_2, n) => format!(",subexpiry={n}"),
            (CompatVersion::Valkey9_1, n) => format!(",keys_with_volatile_items={n}"),
        };
        out.line(format_args!("db{i}:keys={keys},expires={volatile},avg_ttl={ttl}{fields}"));
    }
}

/// Names of the fields about sizes, by type.
const SIZES_OF: [&str; COUNTED.len()] =
    ["strings_sizes", "lists_items", "sets_items", "zsets_items", "hashes_items"];

fn keysizes_section(server: &Server, out: &mut InfoText) {
    out.section("Keysizes");
    if let Some(age_s) = server.age_of_key_sizes() {
        out.field("keysizes_age_seconds", age_s);
    }
    for (i, sizes) in server.key_sizes.counted() {
        for (kind, name) in COUNTED.into_iter().zip(SIZES_OF) {
            let bins: Vec<String> =
                sizes.of(kind).map(|(size, count)| format!("{}={count}", Binary(size))).collect();
            if !bins.is_empty() {
                out.line(format_args!("db{i}_distrib_{name}:{}", bins.join(",")));
            }
        }
    }
}

/// Displays a power of two with the letter of the largest unit that fits.
struct Binary(u64);

impl std::fmt::Display for Binary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let unit = (63 - self.0.max(1).leading_zeros() as usize) / 10;
        write!(f, "{}{}", self.0 >> (10 * unit), ["", "K", "M", "G", "T", "P", "E"][unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::Harness;
    use crate::keyspace::{Key, Ttl};
    use crate::types::Value;

    fn sections(harness: &mut Harness, line: &str) -> Vec<String> {
        let reply = harness.raw(&line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
        let text = String::from_utf8(reply).expect("INFO is text");
        text.lines().filter_map(|line| line.strip_prefix("# ")).map(str::to_string).collect()
    }

    #[test]
    fn the_chosen_version_is_reported_and_followed() {
        use CompatVersion::{Redis7_2, Redis8_2, Valkey9_1};
        for (chosen, name, version, redis_version) in [
            (Redis7_2, "redis", "7.2.4", "7.2.4"),
            (Redis8_2, "redis", "8.2.3", "8.2.3"),
            (Valkey9_1, "valkey", "9.1.2", "7.2.4"),
        ] {
            let mut config = crate::config::Config::default();
            config.limits.compat_version = chosen;
            let mut harness = Harness::new(config);
            let hello = harness.run("HELLO");
            assert!(
                hello.contains(&format!("\"{name}\"")) && hello.contains(&format!("\"{version}\"")),
                "{hello}"
            );
            let info = harness.run("INFO server");
            assert!(info.contains(&format!("redis_version:{redis_version}\\r")), "{info}");
            assert_eq!(info.contains("valkey_version:9.1.2"), chosen.is_valkey(), "{info}");
            assert_eq!(harness.run("EVAL 'return redis.REDIS_VERSION' 0"), format!("\"{redis_version}\""));
            assert_eq!(harness.run("LREM k -9223372036854775808 x") == "(integer) 0", !chosen.is_newer());
            assert_eq!(harness.run("READONLY") == "OK", chosen.is_valkey());
            assert_eq!(harness.run("BITCOUNT k 0") == "(integer) 0", chosen.is_valkey());
            assert_eq!(harness.run("GETEX k EX 0") == "(nil)", !chosen.is_valkey());
            assert_eq!(harness.run("EVALSHA x 0").ends_with("EVAL."), !chosen.is_valkey());
        }
    }

    #[test]
    fn arguments_choose_sections_but_not_their_order() {
        let mut harness = Harness::default();
        let by_default = sections(&mut harness, "INFO");
        assert_eq!(by_default.first().map(String::as_str), Some("Server"));
        assert_eq!(by_default.last().map(String::as_str), Some("Keyspace"));
        assert!(!by_default.contains(&"Commandstats".to_string()));
        assert_eq!(sections(&mut harness, "info DEFAULT"), by_default);
        // Only a Sentinel has the section about Sentinels, and the sizes are shown when they are named.
        let all = SECTIONS.len() - 2;
        assert_eq!(sections(&mut harness, "info all").len(), all - 1);
        assert_eq!(sections(&mut harness, "info everything debug").len(), all);
        assert_eq!(sections(&mut harness, "info everything debug keysizes").len(), all + 1);
        assert_eq!(sections(&mut harness, "info KEYSPACE cpu cpu"), ["CPU", "Keyspace"]);
        assert_eq!(sections(&mut harness, "info default commandStats").len(), by_default.len() + 1);
        assert!(sections(&mut harness, "info nosuch").is_empty());
    }

    #[test]
    fn sizes_are_counted_when_they_are_asked_for() {
        let mut harness = Harness::default();
        let mut keysizes = |lines: &[&str]| {
            lines.iter().for_each(|line| drop(harness.run(line)));
            let text = String::from_utf8(harness.raw(&[b"INFO", b"keysizes"])).expect("INFO is text");
            let fields = text.lines().filter_map(|line| line.strip_prefix("db"));
            fields.map(|line| line.replace("_distrib_", " ")).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(keysizes(&[]), "");
        assert_eq!(
            keysizes(&["SET a \"\"", "SET b 1024", "SETRANGE c 1500 x", "SETBIT d 80000000 1"]),
            "0 strings_sizes:0=1,4=1,1K=1,8M=1"
        );
        assert_eq!(
            keysizes(&[
                "FLUSHALL",
                "RPUSH l 1 2 3",
                "SADD s 1",
                "ZADD z 1 a 2 b",
                "HSET h a 1 b 2 c 3 d 4",
                "XADD x * a 1"
            ]),
            "0 lists_items:2=1; 0 sets_items:1=1; 0 zsets_items:2=1; 0 hashes_items:4=1"
        );
        assert_eq!(
            keysizes(&["FLUSHALL", "SELECT 3", "SET a xyz", "SELECT 0", "SET a x"]),
            "0 strings_sizes:1=1; 3 strings_sizes:2=1"
        );
        assert_eq!(keysizes(&["FLUSHALL"]), "");
    }

    #[test]
    fn the_sizes_of_many_values_are_counted_by_the_timer() {
        let mut harness = Harness::default();
        for i in 0..100_001 {
            let (name, mut db) = (format!("key:{i}"), harness.server.keyspace.db(0));
            db.set_string(Key::new(name.as_bytes()), Value::Bytes(b"12345"), Ttl::Clear);
        }
        harness.run("HSET h a 1");
        let lines = |harness: &mut Harness| {
            let text = String::from_utf8(harness.raw(&[b"INFO", b"keysizes"])).expect("INFO is text");
            text.lines().skip(2).map(str::to_string).collect::<Vec<_>>()
        };
        assert_eq!(lines(&mut harness), ["keysizes_age_seconds:-1", ""]);
        for _ in 0..10_000 {
            harness.server.count_some_key_sizes();
        }
        let expected = [
            "keysizes_age_seconds:0",
            "db0_distrib_strings_sizes:4=100001",
            "db0_distrib_hashes_items:1=1",
            "",
        ];
        assert_eq!(lines(&mut harness)[1..], expected[1..]);
        // What has been counted is not counted again at once.
        harness.run("SET another key");
        harness.server.count_some_key_sizes();
        assert_eq!(lines(&mut harness)[1..], expected[1..]);
        harness.run("UNLINK another h key:1 key:2");
        assert_eq!(lines(&mut harness)[0], "db0_distrib_strings_sizes:4=99999");
    }

    #[test]
    fn numbers_follow_what_happened() {
        let mut harness = Harness::default();
        harness.run("SET k v");
        harness.run("GET k");
        harness.run("GET nosuch");
        harness.run("NOSUCH");
        let text = about(&harness.server, [&b"all"[..]].into_iter());
        for line in [
            "keyspace_hits:1",
            "keyspace_misses:1",
            "total_error_replies:1",
            "errorstat_ERR:count=1",
            "db0:keys=1,expires=0,avg_ttl=0",
            "rdb_changes_since_last_save:1",
            "connected_clients:1",
        ] {
            assert!(text.lines().any(|have| have == line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("cmdstat_get:calls=2,"));
        assert!(text.contains("latency_percentiles_usec_get:p50="));
    }

    #[test]
    fn what_is_refused_counts_for_the_subcommand() {
        let mut harness = Harness::default();
        for line in ["CLIENT ID x", "CLIENT nosuch", "CLIENT", "OBJECT ENCODING", "SELECT 1"] {
            harness.run(line);
        }
        let text = about(&harness.server, [&b"commandstats"[..]].into_iter());
        let refused = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("cmdstat_{name}:")))?;
            line.split(',').find_map(|field| field.strip_prefix("rejected_calls="))
        };
        assert_eq!(refused("client|id"), Some("1"));
        assert_eq!(refused("client"), Some("1"));
        assert_eq!(refused("object|encoding"), Some("1"));
        assert_eq!(refused("object"), None);
        assert_eq!(refused("select"), Some("0"));
    }
}
