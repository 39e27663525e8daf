//! What users are shown of instances.

use super::Machine;
use crate::sentinel::instance::{Flags, Instance, InstanceId, Kind};

/// Words for the flags of an instance.
const FLAGS: [(Flags, &str); 11] = [
    (Flags::SAYS_DOWN, "master_down"),
    (Flags::FAILOVER, "failover_in_progress"),
    (Flags::PROMOTED, "promoted"),
    (Flags::RECONF_SENT, "reconf_sent"),
    (Flags::RECONF_INPROG, "reconf_inprog"),
    (Flags::RECONF_DONE, "reconf_done"),
    (Flags::FORCED, "force_failover"),
    (Flags::SCRIPT_KILL_SENT, "script_kill_sent"),
    (Flags::REBOOTED, "master_reboot"),
    (Flags::S_DOWN, "s_down"),
    (Flags::O_DOWN, "o_down"),
];

/// Fields of an instance, by name.
pub type Fields = Vec<(&'static str, String)>;

impl Machine {
    fn flag_words(&self, id: InstanceId) -> String {
        let instance = &self[id];
        let (states, down) = FLAGS.split_at(9);
        let down = down.iter().filter(|(flag, _)| instance.flags.has(*flag)).map(|(_, word)| *word);
        let states = states.iter().filter(|(flag, _)| instance.flags.has(*flag)).map(|(_, word)| *word);
        let disconnected = self.link(id).disconnected.then_some("disconnected");
        let words: Vec<&str> = down.chain([instance.kind.name()]).chain(disconnected).chain(states).collect();
        words.join(",")
    }

    /// The fields of an instance.
    pub fn fields(&self, id: InstanceId, now: i64) -> Fields {
        let (instance, link) = (&self[id], self.link(id));
        let since = |at: i64| (now - at).to_string();
        let mut fields = vec![
            ("name", instance.name.clone()),
            ("ip", self.shown(&instance.address).to_owned()),
            ("port", instance.address.port.to_string()),
            ("runid", instance.run_id.clone().unwrap_or_default()),
            ("flags", self.flag_words(id)),
            ("link-pending-commands", link.pending.len().to_string()),
            ("link-refcount", link.users.to_string()),
        ];
        if instance.flags.has(Flags::FAILOVER) {
            fields.push(("failover-state", instance.watch.failover.name().to_owned()));
        }
        let unanswered = link.unanswered_since;
        fields.push(("last-ping-sent", if unanswered == 0 { "0".to_owned() } else { since(unanswered) }));
        fields.push(("last-ok-ping-reply", since(link.available_at)));
        fields.push(("last-ping-reply", since(link.pong_at)));
        if instance.flags.has(Flags::S_DOWN) {
            fields.push(("s-down-time", since(instance.s_down_since)));
        }
        if instance.flags.has(Flags::O_DOWN) {
            fields.push(("o-down-time", since(instance.o_down_since)));
        }
        fields.push(("down-after-milliseconds", instance.down_after.to_string()));
        if instance.kind != Kind::Sentinel {
            let info = if instance.info_at == 0 { "0".to_owned() } else { since(instance.info_at) };
            fields.push(("info-refresh", info));
            fields.push(("role-reported", instance.role.name().to_owned()));
            fields.push(("role-reported-time", since(instance.role_since)));
        }
        match instance.kind {
            Kind::Primary => primary_fields(instance, &mut fields),
            Kind::Replica => replica_fields(instance, &mut fields),
            Kind::Sentinel => {
                fields.push(("last-hello-message", since(instance.hello_at)));
                fields.push(("voted-leader", instance.leader.clone().unwrap_or_else(|| "?".to_owned())));
                fields.push(("voted-leader-epoch", instance.leader_epoch.to_string()));
            }
        }
        fields
    }

    /// The replicas of a primary that clients are told of.
    pub fn announced_replicas(&self, primary: InstanceId) -> Vec<InstanceId> {
        let replicas = self[primary].watch.replicas.iter().copied();
        replicas.filter(|&id| self[id].replica.announced).collect()
    }

    /// The other Sentinels of a primary.
    pub fn sentinels(&self, primary: InstanceId) -> &[InstanceId] {
        &self[primary].watch.sentinels
    }

    /// All replicas of a primary.
    pub fn replicas(&self, primary: InstanceId) -> &[InstanceId] {
        &self[primary].watch.replicas
    }

    /// The Sentinels that could take part in a failover now, and whether they are a quorum and a majority.
    pub fn usable(&self, primary: InstanceId) -> (usize, bool, bool) {
        let watch = &self[primary].watch;
        let down = Flags::S_DOWN.with(Flags::O_DOWN);
        let usable = 1 + watch.sentinels.iter().filter(|&&id| !self[id].flags.has(down)).count();
        let voters = watch.sentinels.len() + 1;
        (usable, usable >= watch.quorum as usize, usable > voters / 2)
    }

    /// The lines about primaries in INFO: number, name, status, address, replicas, Sentinels.
    pub fn info_lines(&self) -> Vec<String> {
        let line = |(number, &id): (usize, &InstanceId)| {
            let instance = &self[id];
            let status = match instance.flags {
                flags if flags.has(Flags::O_DOWN) => "odown",
                flags if flags.has(Flags::S_DOWN) => "sdown",
                _ => "ok",
            };
            let name: String = instance.name.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
            format!(
                "master{number}:name={name},status={status},address={}:{},slaves={},sentinels={}",
                self.shown(&instance.address),
                instance.address.port,
                instance.watch.replicas.len(),
                instance.watch.sentinels.len() + 1
            )
        };
        self.primaries.iter().enumerate().map(line).collect()
    }
}

fn primary_fields(instance: &Instance, fields: &mut Fields) {
    let watch = &instance.watch;
    fields.push(("config-epoch", instance.config_epoch.to_string()));
    fields.push(("num-slaves", watch.replicas.len().to_string()));
    fields.push(("num-other-sentinels", watch.sentinels.len().to_string()));
    fields.push(("quorum", watch.quorum.to_string()));
    fields.push(("failover-timeout", watch.failover_timeout.to_string()));
    fields.push(("parallel-syncs", watch.parallel_syncs.to_string()));
    if let Some(script) = &watch.notification_script {
        fields.push(("notification-script", script.clone()));
    }
    if let Some(script) = &watch.reconfig_script {
        fields.push(("client-reconfig-script", script.clone()));
    }
}

fn replica_fields(instance: &Instance, fields: &mut Fields) {
    let replica = &instance.replica;
    let host = if replica.primary_host.is_empty() { "?" } else { &replica.primary_host };
    fields.push(("master-link-down-time", replica.link_down_ms.to_string()));
    fields.push(("master-link-status", if replica.link_up { "ok" } else { "err" }.to_owned()));
    fields.push(("master-host", host.to_owned()));
    fields.push(("master-port", replica.primary_port.to_string()));
    fields.push(("slave-priority", replica.priority.to_string()));
    fields.push(("slave-repl-offset", replica.offset.to_string()));
    fields.push(("replica-announced", u8::from(replica.announced).to_string()));
}
