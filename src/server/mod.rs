//! The server: joins all rooms below, and runs commands without knowing what they do.
#![warn(missing_docs)]

pub mod cluster;
pub mod command;
pub mod defragment;
pub mod durability;
pub mod error;
pub mod event_loop;
pub mod execution;
pub mod memory;
pub mod migrate;
pub mod process;
pub mod reconfigure;
pub mod replication;
pub mod sentinel;
pub mod tls;
pub mod walks;
pub mod watching;

use std::sync::Arc;

use crate::acl::Acl;
use crate::background::Background;
use crate::clients::{ClientFlags, ClientKey, Clients};
use crate::config::Config;
use crate::keyspace::expire::ActiveExpire;
use crate::keyspace::free::Reclaimer;
use crate::keyspace::{FieldRules, Keyspace};
use crate::net::io::Pool;
use crate::resp::Reply;
use crate::stats::Stats;
use crate::stdx::clock::UnixMillis;
use crate::stdx::rng::Rng;
use command::{Commands, Spec};
use event_loop::EventLoop;
use execution::Execution;
use execution::admission::Conditions;
pub use execution::blocking::Unblock;

/// Everything there is, room by room.
pub struct Server {
    /// The configuration.
    pub config: Config,
    /// The command table.
    pub commands: Commands,
    /// Conditions that block each command, by command id.
    pub blocked_by: Vec<Conditions>,
    /// Databases and their keys.
    pub keyspace: Keyspace,
    /// Connected clients.
    pub clients: Clients,
    /// Users and their permissions.
    pub acl: Acl,
    /// Counters and logs of commands.
    pub stats: Stats,
    /// Background threads.
    pub background: Arc<Background>,
    /// Buffers for reuse by clients.
    pub pool: Pool,
    /// Conditions now true for every client.
    pub conditions: Conditions,
    /// What is being executed.
    pub execution: Execution,
    /// Scripts and functions.
    pub scripts: execution::scripts::Scripts,
    /// The cycles that search for expired keys.
    pub expire: ActiveExpire,
    /// Active defragmentation.
    pub defragment: defragment::Defragment,
    /// Walks through all keys for clients.
    pub walks: walks::Walks,
    /// Pause of requests by CLIENT PAUSE.
    pub pause: execution::pause::Pause,
    /// Snapshots and loading.
    pub persistence: durability::persistence::Persistence,
    /// Child processes.
    pub children: durability::child::Children,
    /// The append-only file.
    pub aof: durability::aof::Aof,
    /// Part in replication.
    pub replication: replication::Replication,
    /// Part in a cluster; `None` for a server that is no node of one.
    pub cluster: Option<Box<cluster::Cluster>>,
    /// Servers that keys were moved to.
    pub targets: migrate::Targets,
    /// What a Sentinel is, and nobody else.
    pub sentinel: Option<Box<sentinel::Sentinel>>,
    /// Encryption of connections.
    pub tls: tls::Tls,
    /// What has been found out about the keys that cost most; `None` if nobody has asked.
    pub hot_keys: Option<Box<watching::hot_keys::HotKeys>>,
    /// What is known about the sizes of values.
    pub key_sizes: watching::key_sizes::KeySizes,
    /// What serves metrics; `None` if nobody can ask for them.
    pub metrics: Option<Box<watching::metrics::Metrics>>,
    /// State of the event loop.
    pub event_loop: EventLoop,
    /// Which server this is.
    pub identity: Identity,
    /// The process as the system sees it.
    pub process: process::startup::Process,
}

/// What does not change while the server runs, and who it is.
pub struct Identity {
    /// Random ID of this run, 40 hexadecimal digits.
    pub run_id: String,
    /// Time of the start.
    pub started: UnixMillis,
    /// Absolute path of the configuration file, if there is one.
    pub config_file: Option<std::path::PathBuf>,
    /// Path of the program.
    pub executable: std::path::PathBuf,
    /// Process ID.
    pub pid: u32,
    /// Bytes allocated before the first key.
    pub startup_memory: usize,
}

/// 40 hexadecimal digits that nobody else will draw.
pub fn random_id(rng: &mut Rng) -> String {
    let mut id = vec![0u8; 40];
    rng.fill_hex(&mut id);
    String::from_utf8(id).expect("hexadecimal digits are text")
}

impl Server {
    /// A server with the given commands, without listeners.
    pub fn new(config: Config, groups: &[&'static [Spec]], background: Arc<Background>) -> Self {
        let commands = Commands::new(groups);
        let mut rng = Rng::from_os();
        let run_id = random_id(&mut rng);
        let replication = replication::Replication::new(&mut rng);
        let blocked_by = commands.iter().map(|(_, spec)| Conditions::blocking(spec)).collect();
        let stats = Stats::new(commands.len());
        let acl = Acl::new(execution::users::catalog(&commands));
        let in_cluster = config.cluster.enabled;
        let databases = if in_cluster { config.cluster.databases } else { config.general.databases } as usize;
        let mut keyspace = Keyspace::new(databases, Reclaimer::new(Arc::clone(&background)), rng);
        let now = UnixMillis::now();
        keyspace.set_now(now);
        if config.limits.compat_version.is_valkey() {
            keyspace.field_rules = FieldRules::Valkey;
        }
        if in_cluster {
            keyspace.divide_by_slot();
        }
        let scripts = execution::scripts::Scripts::new(config.limits.compat_version.redis_version());
        let mut server = Server {
            config,
            commands,
            blocked_by,
            keyspace,
            clients: Clients::default(),
            acl,
            stats,
            background,
            pool: Pool::default(),
            conditions: Conditions::NONE,
            execution: Execution::default(),
            scripts,
            expire: ActiveExpire::default(),
            defragment: defragment::Defragment::default(),
            walks: walks::Walks::default(),
            pause: execution::pause::Pause::default(),
            persistence: durability::persistence::Persistence::new(now),
            children: durability::child::Children::default(),
            aof: durability::aof::Aof::default(),
            replication,
            cluster: None,
            targets: migrate::Targets::default(),
            sentinel: None,
            tls: tls::Tls::default(),
            hot_keys: None,
            key_sizes: watching::key_sizes::KeySizes::default(),
            metrics: None,
            event_loop: EventLoop::default(),
            identity: Identity {
                run_id,
                started: now,
                config_file: None,
                executable: std::env::current_exe().unwrap_or_default(),
                pid: std::process::id(),
                startup_memory: 0,
            },
            process: process::startup::Process::default(),
        };
        server.conditions.set(Conditions::CLUSTER | Conditions::CLUSTER_ONE_KEY, in_cluster);
        server.apply_options();
        server.identity.startup_memory = crate::stdx::alloc::used();
        server
    }

    /// A writer at the end of a client's output.
    #[inline]
    pub fn reply(&mut self, key: ClientKey) -> Reply<'_> {
        let client = &mut self.clients[key];
        client.io.output.reply(client.protocol)
    }

    /// Has a client closed before the loop sleeps, whatever is left to send.
    pub fn close_soon(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        client.flags.set(ClientFlags::CLOSE_SOON, true);
        if !client.flags.has(ClientFlags::IN_CLOSE_LIST) {
            client.flags.set(ClientFlags::IN_CLOSE_LIST, true);
            self.event_loop.closing.push(key);
        }
    }

    /// Has a client closed once it got everything that is written so far.
    pub fn close_after_reply(&mut self, key: ClientKey) {
        self.clients[key].flags.set(ClientFlags::CLOSE_AFTER_REPLY, true);
        self.send_soon(key);
    }

    /// Puts a client on the list of those whose output is sent at the end of the turn.
    #[inline]
    pub fn send_soon(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        if !client.flags.has(ClientFlags::IN_SEND_LIST) {
            client.flags.set(ClientFlags::IN_SEND_LIST, true);
            self.event_loop.sending.push(key);
        }
    }
}
