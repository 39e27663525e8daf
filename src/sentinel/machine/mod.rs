//! The machine: instances and their state, and what follows from it.
//!
//! - [`links`]: connections, and the requests that are sent again and again;
//! - [`info`]: what instances say of themselves;
//! - [`hello`]: how Sentinels find each other, and how a new configuration spreads;
//! - [`down`]: who is down, by whose judgement;
//! - [`election`], the votes;
//! - [`failover`]: the steps by which a replica takes over;
//! - [`admin`]: what users change;
//! - [`describe`]: what users are shown.
//!
//! What always holds: [`Machine::current_epoch`] never decreases; a Sentinel votes once per epoch and primary, and a vote is in
//! an [`Action::Save`] before anybody is told.

pub mod admin;
pub mod describe;
pub mod down;
pub mod election;
pub mod failover;
pub mod hello;
pub mod info;
pub mod links;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use crate::sentinel::instance::{
    Address, ConnId, Flags, Instance, InstanceId, Kind, Link, LinkId, ReplicaInfo, Role, Watch, literal_ip,
};
use crate::sentinel::scripts::{Ended, Job, Scripts};
use crate::stats::log::Level;
use crate::stdx::rng::Rng;

/// Replicas and Sentinels of one primary; more are ignored.
const MAX_NEIGHBOURS: usize = 4096;

/// Host names whose addresses are remembered.
const MAX_NAMES: usize = 4096;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Open a connection. If that fails, [`Machine::closed`] is to be called.
    Connect {
        /// Its name.
        conn: ConnId,
        /// Address of the peer.
        ip: String,
        /// Port of the peer.
        port: u16,
    },
    /// Send a request, as bytes.
    Send {
        /// The connection.
        conn: ConnId,
        /// The request.
        bytes: Vec<u8>,
    },
    /// Close a connection.
    Close(ConnId),
    /// Log an event, and publish it, except at level `Debug`.
    Event {
        /// Importance.
        level: Level,
        /// Its name, which is also the channel.
        kind: &'static str,
        /// What is said about it.
        text: String,
    },
    /// Log a line.
    Log(Level, String),
    /// Write the configuration file.
    Save,
    /// Find the address of a host name.
    Resolve(String),
    /// Start a script.
    Start(Job),
    /// End a script that has run for too long.
    Kill(u32),
    /// End the process, as a user has asked for a test.
    Crash,
}

/// Options for all primaries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Host names are allowed for instances.
    pub resolve_hostnames: bool,
    /// Instances are shown by their host names.
    pub announce_hostnames: bool,
    /// Address under which this Sentinel is found, if not its own.
    pub announce_ip: Option<String>,
    /// Port under which this Sentinel is found; 0 for the one that it listens on.
    pub announce_port: u16,
    /// User for other Sentinels.
    pub sentinel_user: Option<Vec<u8>>,
    /// Password for other Sentinels.
    pub sentinel_pass: Option<Vec<u8>>,
    /// Clients may not change scripts.
    pub deny_scripts_reconfig: bool,
}

/// Periods and time limits in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Between two INFOs.
    pub info_period: i64,
    /// Between two PINGs.
    pub ping_period: i64,
    /// Between two questions whether a primary is down.
    pub ask_period: i64,
    /// Between two hello messages.
    pub publish_period: i64,
    /// Silence after which a new primary is down.
    pub default_down_after: i64,
    /// Time limit for failovers of a new primary.
    pub default_failover_timeout: i64,
    /// Jump of the clock that leads to TILT mode.
    pub tilt_trigger: i64,
    /// How long TILT mode lasts.
    pub tilt_period: i64,
    /// How long a replica may take to react to being told of its new primary.
    pub reconf_timeout: i64,
    /// How old a connection must be to be replaced.
    pub min_reconnect_period: i64,
    /// How long an election takes at most.
    pub election_timeout: i64,
    /// How long a script may run.
    pub script_max_runtime: i64,
    /// How long to wait before a script is tried again.
    pub script_retry_delay: i64,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            info_period: 10_000,
            ping_period: 1000,
            ask_period: 1000,
            publish_period: 2000,
            default_down_after: 30_000,
            default_failover_timeout: 180_000,
            tilt_trigger: 2000,
            tilt_period: 30_000,
            reconf_timeout: 10_000,
            min_reconnect_period: 15_000,
            election_timeout: 10_000,
            script_max_runtime: 60_000,
            script_retry_delay: 30_000,
        }
    }
}

/// Crashes for tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// After winning an election.
    pub after_election: bool,
    /// After promoting a replica.
    pub after_promotion: bool,
}

/// A Sentinel.
#[derive(Debug)]
pub struct Machine {
    /// Options.
    pub settings: Settings,
    /// Periods.
    pub timings: Timings,
    /// Its ID, 40 hexadecimal digits; empty until it has one.
    pub id: String,
    /// The port that it listens on.
    pub port: u16,
    /// The password of its own default user, which other Sentinels are supposed to have too.
    pub own_password: Vec<u8>,
    /// The highest epoch that it knows.
    pub current_epoch: u64,
    /// Crashes for tests.
    pub failures: Failures,
    /// Scripts.
    pub scripts: Scripts,
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    /// In the order in which they were added.
    pub(super) primaries: Vec<InstanceId>,
    links: BTreeMap<LinkId, Link>,
    next: u64,
    /// Addresses of host names; `None` while one is being asked for or if there is none.
    names: HashMap<String, Option<String>>,
    /// Since when the clock is not trusted.
    tilt_since: Option<i64>,
    /// When [`Machine::tick`] was last called; 0 for never.
    ticked: i64,
    rng: Rng,
    actions: Vec<Action>,
}

impl Machine {
    /// A Sentinel that watches nothing.
    pub fn new(rng: Rng) -> Machine {
        Machine {
            settings: Settings { deny_scripts_reconfig: true, ..Settings::default() },
            timings: Timings::default(),
            id: String::new(),
            port: 0,
            own_password: Vec::new(),
            current_epoch: 0,
            failures: Failures::default(),
            scripts: Scripts::default(),
            instances: BTreeMap::new(),
            primaries: Vec::new(),
            links: BTreeMap::new(),
            next: 0,
            names: HashMap::new(),
            tilt_since: None,
            ticked: 0,
            rng,
            actions: Vec::new(),
        }
    }

    /// Gives the Sentinel an ID if it has none. Returns whether it is new.
    pub fn ensure_id(&mut self) -> bool {
        let is_new = self.id.is_empty();
        if is_new {
            let mut id = vec![0; 40];
            self.rng.fill_hex(&mut id);
            self.id = String::from_utf8(id).expect("hexadecimal digits are text");
        }
        is_new
    }

    /// What is to be done because of all that was told since the last call, in this order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Does what is due. Supposed to be called about ten times a second.
    pub fn tick(&mut self, now: i64) {
        self.check_clock(now);
        for primary in self.primaries.clone() {
            self.tend(primary, now);
            let Some(watch) = self.watch(primary) else { continue };
            let neighbours = [&watch.replicas[..], &watch.sentinels].concat();
            for id in neighbours {
                self.tend(id, now);
            }
            self.switch_if_due(primary, now);
        }
        for job in self.scripts.overdue(self.timings.script_max_runtime, now) {
            let pid = job.pid.unwrap_or_default();
            self.event(Level::Warning, "-script-timeout", format!("{} {pid}", job.argv[0]));
            self.actions.push(Action::Kill(pid));
        }
        let due = self.scripts.due(now);
        self.actions.extend(due.into_iter().map(Action::Start));
    }

    fn tend(&mut self, id: InstanceId, now: i64) {
        if !self.instances.contains_key(&id) {
            return;
        }
        self.reconnect(id, now);
        self.send_periodic(id, now);
        if let Some(since) = self.tilt_since {
            if now - since < self.timings.tilt_period {
                return;
            }
            self.tilt_since = None;
            self.event(Level::Warning, "-tilt", "#tilt mode exited");
        }
        self.judge(id, now);
        if self[id].kind == Kind::Primary {
            self.judge_together(id, now);
            if self.start_failover_if_needed(id, now) {
                self.ask_others(id, true, now);
            }
            self.advance_failover(id, now);
            self.ask_others(id, false, now);
        }
    }

    /// After a jump of the clock, or if this process has stood still, what has not been heard means nothing.
    fn check_clock(&mut self, now: i64) {
        let jump = now - self.ticked;
        if self.ticked != 0 && !(0..=self.timings.tilt_trigger).contains(&jump) {
            self.tilt_since = Some(now);
            self.event(Level::Warning, "+tilt", "#tilt mode entered");
        }
        self.ticked = now;
    }

    /// Since when the clock is not trusted.
    pub fn tilt_since(&self) -> Option<i64> {
        self.tilt_since
    }

    /// A script has ended.
    pub fn script_ended(&mut self, id: u64, how: Ended, now: i64) {
        if let Some(job) = self.scripts.ended(id, how, self.timings.script_retry_delay, now) {
            let text = format!("{} {} {}", job.argv[0], how.signal, how.status);
            self.event(Level::Warning, "-script-error", text);
        }
    }

    // ---- instances ------------------------------------------------------------------------------

    /// What a primary has.
    pub(super) fn watch(&self, primary: InstanceId) -> Option<&Watch> {
        self.instances.get(&primary).map(|instance| &instance.watch)
    }

    /// The primary of this name.
    pub fn find_primary(&self, name: &str) -> Option<InstanceId> {
        self.primaries.iter().copied().find(|&id| self[id].name == name)
    }

    /// All primaries, in the order in which they were added.
    pub fn primaries(&self) -> &[InstanceId] {
        &self.primaries
    }

    fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Adds an instance, with a link of its own.
    pub(super) fn add(
        &mut self,
        kind: Kind,
        name: String,
        address: Address,
        primary: Option<InstanceId>,
        now: i64,
    ) -> InstanceId {
        let id = InstanceId(self.next_id());
        let link = LinkId(self.next_id());
        self.links.insert(link, Link::new(now));
        let down_after = primary.map_or(self.timings.default_down_after, |primary| self[primary].down_after);
        let watch = Watch {
            parallel_syncs: 1,
            failover_timeout: self.timings.default_failover_timeout,
            ..Watch::default()
        };
        let instance = Instance {
            kind,
            name,
            primary: primary.unwrap_or(id),
            address,
            run_id: None,
            flags: Flags::NONE,
            link,
            config_epoch: 0,
            published_at: now,
            hello_at: now,
            said_at: now,
            s_down_since: 0,
            o_down_since: 0,
            down_after,
            info_at: 0,
            info: Vec::new(),
            role: if kind == Kind::Replica { Role::Replica } else { Role::Primary },
            role_since: now,
            leader: None,
            leader_epoch: 0,
            replica: ReplicaInfo {
                priority: 100,
                announced: true,
                changed_at: now,
                ..ReplicaInfo::default()
            },
            watch,
        };
        self.instances.insert(id, instance);
        match (kind, primary) {
            (Kind::Replica, Some(primary)) => self.watch_mut(primary).replicas.push(id),
            (Kind::Sentinel, Some(primary)) => self.watch_mut(primary).sentinels.push(id),
            _ => self.primaries.push(id),
        }
        id
    }

    pub(super) fn watch_mut(&mut self, primary: InstanceId) -> &mut Watch {
        &mut self[primary].watch
    }

    /// Adds a replica, unless there is one at this address.
    pub(super) fn add_replica(
        &mut self,
        primary: InstanceId,
        address: Address,
        now: i64,
    ) -> Option<InstanceId> {
        let replicas = &self.watch(primary)?.replicas;
        let known = replicas.iter().any(|&id| self[id].address.is_same(&address));
        if known || replicas.len() >= MAX_NEIGHBOURS {
            return None;
        }
        let host = if address.ip.is_empty() { &address.host } else { &address.ip };
        let name = if host.contains(':') {
            format!("[{host}]:{}", address.port)
        } else {
            format!("{host}:{}", address.port)
        };
        Some(self.add(Kind::Replica, name, address, Some(primary), now))
    }

    /// Adds a Sentinel that watches a primary.
    pub(super) fn add_sentinel(
        &mut self,
        primary: InstanceId,
        id: &str,
        address: Address,
        now: i64,
    ) -> Option<InstanceId> {
        if self.watch(primary)?.sentinels.len() >= MAX_NEIGHBOURS {
            return None;
        }
        let added = self.add(Kind::Sentinel, id.to_owned(), address, Some(primary), now);
        self[added].run_id = Some(id.to_owned());
        self.share_link(added);
        Some(added)
    }

    /// Forgets an instance, and what belongs to it.
    pub(super) fn remove(&mut self, id: InstanceId) {
        let Some(instance) = self.instances.remove(&id) else { return };
        self.release_link(instance.link);
        for neighbour in instance.watch.replicas.iter().chain(&instance.watch.sentinels) {
            self.remove(*neighbour);
        }
        match self.instances.get_mut(&instance.primary) {
            Some(primary) => {
                let watch = &mut primary.watch;
                watch.replicas.retain(|&other| other != id);
                watch.sentinels.retain(|&other| other != id);
                if watch.promoted == Some(id) {
                    watch.promoted = None;
                }
            }
            None => self.primaries.retain(|&other| other != id),
        }
    }

    // ---- events ---------------------------------------------------------------------------------

    pub(super) fn event(&mut self, level: Level, kind: &'static str, text: impl Display) {
        self.actions.push(Action::Event { level, kind, text: text.to_string() });
    }

    /// An event about an instance, with more words behind its description.
    pub(super) fn event_about(
        &mut self,
        level: Level,
        kind: &'static str,
        id: InstanceId,
        more: impl Display,
    ) {
        let text = format!("{}{more}", self.title(id));
        self.event_of(level, kind, id, text);
    }

    /// An event that concerns the primary of an instance, in words of its own.
    pub(super) fn event_of(&mut self, level: Level, kind: &'static str, id: InstanceId, text: String) {
        let primary = self[id].primary;
        let script =
            self.instances.get(&primary).and_then(|primary| primary.watch.notification_script.clone());
        if let (Level::Warning, Some(script)) = (level, script) {
            self.scripts.schedule(vec![script, kind.to_owned(), text.clone()]);
        }
        self.event(level, kind, text);
    }

    /// An instance, as events name it.
    fn title(&self, id: InstanceId) -> String {
        let instance = &self[id];
        let (host, port) = (self.shown(&instance.address), instance.address.port);
        let own = format!("{} {} {host} {port}", instance.kind.name(), instance.name);
        match self.instances.get(&instance.primary).filter(|_| instance.kind != Kind::Primary) {
            Some(primary) => {
                let address = &primary.address;
                format!("{own} @ {} {} {}", primary.name, self.shown(address), address.port)
            }
            None => own,
        }
    }

    pub(super) fn log(&mut self, level: Level, text: String) {
        self.actions.push(Action::Log(level, text));
    }

    pub(super) fn save(&mut self) {
        self.actions.push(Action::Save);
    }

    /// Calls the script by which clients learn of a new primary.
    fn call_reconfig(&mut self, primary: InstanceId, role: &str, from: &Address, to: &Address) {
        let Some(script) = self[primary].watch.reconfig_script.clone() else { return };
        let argv = vec![
            script,
            self[primary].name.clone(),
            role.to_owned(),
            "start".to_owned(),
            self.shown(from).to_owned(),
            from.port.to_string(),
            self.shown(to).to_owned(),
            to.port.to_string(),
        ];
        self.scripts.schedule(argv);
    }

    // ---- addresses ------------------------------------------------------------------------------

    /// A host as others are shown it.
    pub fn shown<'a>(&self, address: &'a Address) -> &'a str {
        if self.settings.announce_hostnames || address.ip.is_empty() { &address.host } else { &address.ip }
    }

    /// The address of a host that was named by another instance, if it is known now. If not, it is asked for.
    pub(super) fn locate(&mut self, host: &str, port: u16) -> Option<Address> {
        let ip = match literal_ip(host) {
            Some(ip) => ip,
            None if !self.settings.resolve_hostnames => return None,
            None => match self.names.get(host) {
                Some(known) => known.clone()?,
                None => {
                    self.resolve(host);
                    return None;
                }
            },
        };
        Some(Address { host: host.to_owned(), ip, port })
    }

    fn resolve(&mut self, host: &str) {
        if host.is_empty() || host.len() > 255 {
            return;
        }
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
        self.names.entry(host.to_owned()).or_default();
        self.actions.push(Action::Resolve(host.to_owned()));
    }

    /// The address of a host name has been found, or there is none.
    pub fn resolved(&mut self, host: &str, ip: Option<String>) {
        let Some(ip) = ip else {
            self.log(Level::Warning, format!("Failed to resolve hostname '{host}'"));
            // The next who names it has it asked for again.
            self.names.remove(host);
            return;
        };
        for instance in self.instances.values_mut().filter(|instance| instance.address.host == host) {
            instance.address.ip.clone_from(&ip);
        }
        self.names.insert(host.to_owned(), Some(ip));
    }

    /// The primary of a name as clients are to know it: while replicas are being told of a new one, that is it.
    pub fn current_address(&self, primary: InstanceId) -> &Address {
        use crate::sentinel::instance::Failover;
        let instance = &self[primary];
        let watch = &instance.watch;
        match watch.promoted.and_then(|id| self.instances.get(&id)) {
            Some(promoted)
                if instance.flags.has(Flags::FAILOVER)
                    && matches!(watch.failover, Failover::ReconfReplicas | Failover::UpdateConfig) =>
            {
                &promoted.address
            }
            _ => &instance.address,
        }
    }
}

impl std::ops::Index<InstanceId> for Machine {
    type Output = Instance;

    fn index(&self, id: InstanceId) -> &Instance {
        &self.instances[&id]
    }
}

impl std::ops::IndexMut<InstanceId> for Machine {
    fn index_mut(&mut self, id: InstanceId) -> &mut Instance {
        self.instances.get_mut(&id).expect("an instance is looked up while it is known")
    }
}
