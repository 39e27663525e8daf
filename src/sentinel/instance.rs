//! What is known of a primary, of its replicas, and of the other Sentinels that watch it.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use crate::stdx::bits::bit_set;

/// Identifies an instance for as long as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(pub u64);

/// Identifies a [`Link`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// One of the two connections of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// The link.
    pub link: LinkId,
    /// Whether it is the connection that listens to messages.
    pub listens: bool,
}

/// What an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A primary that is watched.
    Primary,
    /// A replica of a primary that is watched.
    Replica,
    /// Another Sentinel that watches the same primary.
    Sentinel,
}

impl Kind {
    /// The word in events and replies.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Primary => "master",
            Kind::Replica => "slave",
            Kind::Sentinel => "sentinel",
        }
    }
}

bit_set! {
    /// State of an instance.
    pub struct Flags: u32 {
        /// It has not answered for too long.
        S_DOWN = 0;
        /// Enough Sentinels say that it is down.
        O_DOWN = 1;
        /// This Sentinel says that the primary is down.
        SAYS_DOWN = 2;
        /// The primary is being replaced.
        FAILOVER = 3;
        /// The replica that takes over.
        PROMOTED = 4;
        /// The replica was told to follow the new primary.
        RECONF_SENT = 5;
        /// The replica follows the new primary, and is not yet in sync.
        RECONF_INPROG = 6;
        /// The replica is in sync with the new primary.
        RECONF_DONE = 7;
        /// A user asked for the failover: no election is needed.
        FORCED = 8;
        /// It was told to end its script.
        SCRIPT_KILL_SENT = 9;
        /// The primary has begun anew, and has not yet answered as one that is well.
        REBOOTED = 10;
    }
}

/// Where an instance is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Host name or address, as it was given.
    pub host: String,
    /// Address; empty if the host name is not resolved.
    pub ip: String,
    /// Port; 0 if it is known to be wrong.
    pub port: u16,
}

impl Address {
    /// The same place, as far as is known.
    pub fn is_same(&self, other: &Address) -> bool {
        let same_host = if self.ip.is_empty() || other.ip.is_empty() {
            self.host.eq_ignore_ascii_case(&other.host)
        } else {
            self.ip == other.ip
        };
        self.port == other.port && same_host
    }
}

/// An IP address in its usual form, if `host` is one.
pub fn literal_ip(host: &str) -> Option<String> {
    host.parse::<IpAddr>().ok().map(|ip| ip.to_string())
}

/// How far a failover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Failover {
    /// There is none.
    #[default]
    None,
    /// An election is under way.
    WaitStart,
    /// A replica is to be chosen.
    SelectReplica,
    /// The replica is to be promoted.
    SendPromotion,
    /// The replica has been told, and has not yet confirmed its role.
    WaitPromotion,
    /// The other replicas are being told.
    ReconfReplicas,
    /// What is watched is about to change.
    UpdateConfig,
}

impl Failover {
    /// The word in replies.
    pub fn name(self) -> &'static str {
        match self {
            Failover::None => "none",
            Failover::WaitStart => "wait_start",
            Failover::SelectReplica => "select_slave",
            Failover::SendPromotion => "send_slaveof_noone",
            Failover::WaitPromotion => "wait_promotion",
            Failover::ReconfReplicas => "reconf_slaves",
            Failover::UpdateConfig => "update_config",
        }
    }
}

/// What only a primary has.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Its replicas, in the order in which they were found.
    pub replicas: Vec<InstanceId>,
    /// Other Sentinels that watch it.
    pub sentinels: Vec<InstanceId>,
    /// How many Sentinels must agree that it is down.
    pub quorum: u32,
    /// How many replicas are told of a new primary at a time.
    pub parallel_syncs: u32,
    /// Password for it and its replicas.
    pub auth_pass: Option<Vec<u8>>,
    /// User for it and its replicas.
    pub auth_user: Option<Vec<u8>>,
    /// Program that is called at each event of importance.
    pub notification_script: Option<String>,
    /// Program that is called when clients must look elsewhere.
    pub reconfig_script: Option<String>,
    /// Other names of commands, by lower-case name.
    pub renamed: BTreeMap<String, String>,
    /// Time that a failover step may take.
    pub failover_timeout: i64,
    /// Epoch of the failover under way.
    pub failover_epoch: u64,
    /// How far a failover is.
    pub failover: Failover,
    /// Since when it is that far.
    pub failover_since: i64,
    /// When the last failover was started or seen to start; 0 for never.
    pub failover_started: i64,
    /// The value of `failover_started` for which the wait was logged.
    pub delay_logged: i64,
    /// The replica that takes over.
    pub promoted: Option<InstanceId>,
    /// How long it may take to load its data after it has begun anew, before it counts as down; 0 for ever.
    pub reboot_down_after: i64,
    /// When it began anew.
    pub rebooted_at: i64,
}

/// The role that an instance says it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `role:master`.
    Primary,
    /// `role:slave`.
    Replica,
}

impl Role {
    /// The word in events and replies.
    pub fn name(self) -> &'static str {
        match self {
            Role::Primary => "master",
            Role::Replica => "slave",
        }
    }
}

/// What a replica says about itself.
#[derive(Clone, Debug, Default)]
pub struct ReplicaInfo {
    /// How long it has had no primary.
    pub link_down_ms: i64,
    /// Its priority; 0 is never promoted.
    pub priority: i64,
    /// Whether clients are told of it.
    pub announced: bool,
    /// The primary that it follows.
    pub primary_host: String,
    /// Port of the primary that it follows.
    pub primary_port: u16,
    /// Whether it is connected to it.
    pub link_up: bool,
    /// How much it has of the history.
    pub offset: u64,
    /// When its primary, as reported, last changed.
    pub changed_at: i64,
    /// When it was told to follow another primary.
    pub reconf_sent_at: i64,
}

/// A primary, a replica or a Sentinel.
#[derive(Clone, Debug)]
pub struct Instance {
    /// What it is.
    pub kind: Kind,
    /// The name by which users know a primary; the address of a replica; the ID of a Sentinel.
    pub name: String,
    /// The primary that it belongs to, or itself.
    pub primary: InstanceId,
    /// Where it is.
    pub address: Address,
    /// Its run ID, or its Sentinel ID.
    pub run_id: Option<String>,
    /// State.
    pub flags: Flags,
    /// The connections to it.
    pub link: LinkId,
    /// Epoch of the configuration of a primary.
    pub config_epoch: u64,
    /// When a hello message was last accepted there.
    pub published_at: i64,
    /// When a Sentinel's hello message was last received.
    pub hello_at: i64,
    /// When a Sentinel last answered whether the primary is down.
    pub said_at: i64,
    /// Since when it is subjectively down; 0 for never.
    pub s_down_since: i64,
    /// Since when it is objectively down; 0 for never.
    pub o_down_since: i64,
    /// Silence after which it is down.
    pub down_after: i64,
    /// When INFO was last answered; 0 for never.
    pub info_at: i64,
    /// The text of the last INFO.
    pub info: Vec<u8>,
    /// The role that it reports.
    pub role: Role,
    /// Since when it reports that role.
    pub role_since: i64,
    /// Of a primary: whom this Sentinel voted for. Of a Sentinel: whom it voted for.
    pub leader: Option<String>,
    /// Epoch of that vote.
    pub leader_epoch: u64,
    /// What a replica reports.
    pub replica: ReplicaInfo,
    /// What a primary has.
    pub watch: Watch,
}

/// What a request on a link was, whose answer is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// The answer does not matter.
    Any,
    /// PING for this instance.
    Ping(InstanceId),
    /// INFO for this instance.
    Info(InstanceId),
    /// A hello message to this instance.
    Hello(InstanceId),
    /// The question to a Sentinel whether a primary is down.
    Ask(InstanceId),
}

/// The connections to an instance. The links of one Sentinel are shared by all primaries that it watches.
#[derive(Clone, Debug)]
pub struct Link {
    /// How many instances use it.
    pub users: u32,
    /// Whether a connection that should be there is missing.
    pub disconnected: bool,
    /// Whether there is a connection for commands, maybe not yet established.
    pub commands: bool,
    /// Whether there is a connection for messages, maybe not yet established.
    pub messages: bool,
    /// Since when there is the connection for commands.
    pub commands_since: i64,
    /// Since when there is the connection for messages.
    pub messages_since: i64,
    /// When something last came by the connection for messages.
    pub heard_at: i64,
    /// When it last gave an acceptable answer to PING.
    pub available_at: i64,
    /// When the first PING was sent that has no acceptable answer; 0 if there is none.
    pub unanswered_since: i64,
    /// When PING was last sent.
    pub ping_at: i64,
    /// When PING was last answered, however.
    pub pong_at: i64,
    /// When connecting was last tried.
    pub tried_at: i64,
    /// This end's address, once connected.
    pub local_ip: String,
    /// Requests on the connection for commands that are not answered.
    pub pending: VecDeque<Pending>,
    /// Requests on the connection for messages that are not answered, before it listens.
    pub greeting: u32,
}

impl Link {
    /// A link without connections.
    pub fn new(now: i64) -> Link {
        Link {
            users: 1,
            disconnected: true,
            commands: false,
            messages: false,
            commands_since: 0,
            messages_since: 0,
            heard_at: 0,
            available_at: now,
            // Nobody has answered yet: from now on, the time counts.
            unanswered_since: now,
            ping_at: 0,
            pong_at: now,
            tried_at: 0,
            local_ip: String::new(),
            pending: VecDeque::new(),
            greeting: 0,
        }
    }
}
