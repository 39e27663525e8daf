//! What users change: primaries, their options, options of all, periods.

use super::{Machine, Settings, Timings};
use crate::sentinel::instance::{Address, Flags, InstanceId};
use crate::stats::log::Level;
use crate::stdx::glob;
use crate::stdx::num::parse_i64;

/// Most primaries that are watched at once.
const MAX_PRIMARIES: usize = 16 << 10;

/// An option of `SENTINEL SET` and its value, or, of `rename-command`, two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `down-after-milliseconds`.
    DownAfter(i64),
    /// `failover-timeout`.
    FailoverTimeout(i64),
    /// `parallel-syncs`.
    ParallelSyncs(u32),
    /// `notification-script`; `None` for none.
    NotificationScript(Option<String>),
    /// `client-reconfig-script`; `None` for none.
    ReconfigScript(Option<String>),
    /// `auth-pass`; `None` for none.
    AuthPass(Option<Vec<u8>>),
    /// `auth-user`; `None` for none.
    AuthUser(Option<Vec<u8>>),
    /// `quorum`.
    Quorum(u32),
    /// `rename-command`: the usual name, in lower case, and the other.
    Rename(String, String),
    /// `master-reboot-down-after-period`.
    RebootDownAfter(i64),
}

/// Why a manual failover cannot be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoFailover {
    /// There is one.
    #[error("INPROG Failover already in progress")]
    InProgress,
    /// No replica can take over.
    #[error("NOGOODSLAVE No suitable replica to promote")]
    NoReplica,
}

impl Machine {
    /// Watches a primary. The address must have been looked up if it is a host name.
    ///
    /// # Errors
    /// The name is taken, or a number is wrong.
    pub fn monitor(
        &mut self,
        name: &str,
        address: Address,
        quorum: i64,
        now: i64,
    ) -> Result<InstanceId, &'static str> {
        let quorum = u32::try_from(quorum).ok().filter(|&quorum| quorum > 0);
        let quorum = quorum.ok_or("Quorum must be 1 or greater.")?;
        if self.find_primary(name).is_some() {
            return Err("Duplicate master name.");
        }
        if self.primaries.len() >= MAX_PRIMARIES {
            return Err("Too many masters.");
        }
        let id = self.add(crate::sentinel::instance::Kind::Primary, name.to_owned(), address, None, now);
        self[id].watch.quorum = quorum;
        Ok(id)
    }

    /// Tells that a primary is watched from now on.
    pub fn announce_monitor(&mut self, id: InstanceId) {
        let quorum = self[id].watch.quorum;
        self.event_about(Level::Warning, "+monitor", id, format!(" quorum {quorum}"));
    }

    /// The address of a host name or IP address, if it is allowed and known.
    pub fn address_of(&mut self, host: &str, port: u16) -> Option<Address> {
        self.locate(host, port)
    }

    /// Ends watching a primary.
    pub fn unmonitor(&mut self, id: InstanceId) {
        self.event_about(Level::Warning, "-monitor", id, "");
        self.remove(id);
        self.save();
    }

    /// Forgets what is known of all primaries whose names match. Returns how many there are.
    pub fn reset_matching(&mut self, pattern: &[u8], now: i64) -> usize {
        let matches = |&id: &InstanceId| glob::matches(pattern, self[id].name.as_bytes());
        let found: Vec<InstanceId> = self.primaries.iter().copied().filter(matches).collect();
        for &id in &found {
            self.reset(id, false, now);
            self.event_about(Level::Warning, "+reset-master", id, "");
        }
        found.len()
    }

    /// Changes an option of a primary.
    pub fn apply(&mut self, id: InstanceId, change: Change) {
        let mut credentials = false;
        let (watch, changed_down_after) = match &change {
            Change::DownAfter(ms) => (&mut self[id].watch, Some(*ms)),
            _ => (&mut self[id].watch, None),
        };
        match change {
            Change::DownAfter(_) => {}
            Change::FailoverTimeout(ms) => watch.failover_timeout = ms,
            Change::ParallelSyncs(n) => watch.parallel_syncs = n,
            Change::NotificationScript(path) => watch.notification_script = path,
            Change::ReconfigScript(path) => watch.reconfig_script = path,
            Change::AuthPass(pass) => (watch.auth_pass, credentials) = (pass, true),
            Change::AuthUser(user) => (watch.auth_user, credentials) = (user, true),
            Change::Quorum(n) => watch.quorum = n,
            Change::Rename(from, to) if to.eq_ignore_ascii_case(&from) => {
                watch.renamed.remove(&from);
            }
            Change::Rename(from, to) => {
                watch.renamed.insert(from, to);
            }
            Change::RebootDownAfter(ms) => watch.reboot_down_after = ms,
        }
        if let Some(ms) = changed_down_after {
            let neighbours = [&[id][..], &self[id].watch.replicas, &self[id].watch.sentinels].concat();
            for neighbour in neighbours {
                self[neighbour].down_after = ms;
            }
        }
        if credentials {
            let data_nodes = [&[id][..], &self[id].watch.replicas].concat();
            for node in data_nodes {
                self.drop_connections(node);
            }
        }
    }

    /// Tells that an option has been set.
    pub fn announce_set(&mut self, id: InstanceId, option: &str, value: &str) {
        self.event_about(Level::Warning, "+set", id, format!(" {option} {value}"));
    }

    /// Starts a failover although the primary may be well.
    ///
    /// # Errors
    /// There is one already, or no replica can take over.
    pub fn failover(&mut self, id: InstanceId, now: i64) -> Result<(), NoFailover> {
        if self[id].flags.has(Flags::FAILOVER) {
            return Err(NoFailover::InProgress);
        }
        if self.best_replica(id, now).is_none() {
            return Err(NoFailover::NoReplica);
        }
        let name = self[id].name.clone();
        self.log(Level::Notice, format!("Executing user requested FAILOVER of '{name}'"));
        self.start_failover(id, now);
        self[id].flags.set(Flags::FORCED, true);
        Ok(())
    }

    /// Notes a primary's epoch from the file.
    pub fn restore_config_epoch(&mut self, id: InstanceId, epoch: u64) {
        self[id].config_epoch = epoch;
        // The current epoch is at least that of any configuration.
        self.current_epoch = self.current_epoch.max(epoch);
    }

    /// Notes from the file in which epoch this Sentinel last voted.
    pub fn restore_leader_epoch(&mut self, id: InstanceId, epoch: u64) {
        self[id].leader_epoch = epoch;
        self.current_epoch = self.current_epoch.max(epoch);
    }

    /// Adds a replica from the file; `None` if there is one at its address.
    pub fn restore_replica(&mut self, id: InstanceId, address: Address, now: i64) -> Option<InstanceId> {
        self.add_replica(id, address, now)
    }

    /// Adds a Sentinel from the file; `None` if there is one of its ID.
    pub fn restore_sentinel(
        &mut self,
        id: InstanceId,
        run_id: &str,
        address: Address,
        now: i64,
    ) -> Option<InstanceId> {
        let sentinels = &self[id].watch.sentinels;
        if sentinels.iter().any(|&other| self[other].run_id.as_deref() == Some(run_id)) {
            return None;
        }
        self.add_sentinel(id, run_id, address, now)
    }

    /// Whether a command has another name at a primary.
    pub fn renames(&self, id: InstanceId, command: &str) -> bool {
        self[id].watch.renamed.contains_key(command)
    }

    /// Changes options of all.
    pub fn set_settings(&mut self, settings: Settings) {
        let of = |settings: &Settings| (settings.sentinel_user.clone(), settings.sentinel_pass.clone());
        let credentials = of(&self.settings) != of(&settings);
        self.settings = settings;
        if !credentials {
            return;
        }
        for primary in self.primaries.clone() {
            for sentinel in self[primary].watch.sentinels.clone() {
                self.drop_connections(sentinel);
            }
        }
    }

    /// Has the configuration file written.
    pub fn flush_config(&mut self) {
        self.save();
    }

    /// The last INFO of a primary and of its replicas, with the time since it came; `None` if there was none.
    pub fn cached_info(&self, id: InstanceId, now: i64) -> Vec<Option<(i64, &[u8])>> {
        let all = [&[id][..], &self[id].watch.replicas].concat();
        let cached = all.iter().map(|id| {
            let instance = &self.instances[id];
            (instance.info_at != 0).then(|| (now - instance.info_at, &instance.info[..]))
        });
        cached.collect()
    }

    /// Names of the primaries.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.primaries.iter().map(|&id| self[id].name.as_str())
    }
}

impl Timings {
    /// All periods by name.
    pub fn table(&mut self) -> [(&'static str, &mut i64); 13] {
        [
            ("INFO-PERIOD", &mut self.info_period),
            ("PING-PERIOD", &mut self.ping_period),
            ("ASK-PERIOD", &mut self.ask_period),
            ("PUBLISH-PERIOD", &mut self.publish_period),
            ("DEFAULT-DOWN-AFTER", &mut self.default_down_after),
            ("DEFAULT-FAILOVER-TIMEOUT", &mut self.default_failover_timeout),
            ("TILT-TRIGGER", &mut self.tilt_trigger),
            ("TILT-PERIOD", &mut self.tilt_period),
            ("SLAVE-RECONF-TIMEOUT", &mut self.reconf_timeout),
            ("MIN-LINK-RECONNECT-PERIOD", &mut self.min_reconnect_period),
            ("ELECTION-TIMEOUT", &mut self.election_timeout),
            ("SCRIPT-MAX-RUNTIME", &mut self.script_max_runtime),
            ("SCRIPT-RETRY-DELAY", &mut self.script_retry_delay),
        ]
    }
}

/// A time in milliseconds that may be configured: positive, and small enough to be added up.
pub fn parse_period(text: &[u8]) -> Option<i64> {
    parse_i64(text).filter(|ms| (1..=i64::MAX >> 20).contains(ms))
}
