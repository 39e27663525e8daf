//! What instances say of themselves: INFO.

use super::Machine;
use crate::sentinel::instance::{Address, Failover, Flags, InstanceId, Kind, Role};
use crate::stats::log::Level;
use crate::stdx::num::{parse_i64, parse_u64};

/// Longest INFO that is kept, in bytes.
const MAX_INFO: usize = 1 << 20;

/// Length of a run ID.
const RUN_ID: usize = 40;

/// What is read from the text of INFO.
#[derive(Debug, Default)]
struct Read<'a> {
    run_id: Option<&'a [u8]>,
    role: Option<Role>,
    replicas: Vec<(&'a [u8], u16)>,
    link_down_s: i64,
    primary_host: Option<&'a [u8]>,
    primary_port: Option<u16>,
    link_up: bool,
    priority: Option<i64>,
    offset: Option<u64>,
    announced: Option<bool>,
}

fn parse_port(text: &[u8]) -> Option<u16> {
    u16::try_from(parse_i64(text)?).ok().filter(|&port| port != 0)
}

/// `ip=…,port=…,state=…`, or, of old servers, `ip,port,state`.
fn parse_replica(text: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = text.split(|&byte| byte == b',');
    if !text.starts_with(b"ip=") {
        return Some((parts.next()?, parse_port(parts.next()?)?));
    }
    let field = |name: &[u8]| text.split(|&byte| byte == b',').find_map(|part| part.strip_prefix(name));
    Some((field(b"ip=")?, parse_port(field(b"port=")?)?))
}

fn read(text: &[u8]) -> Read<'_> {
    let mut read = Read::default();
    for line in text.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        match name {
            b"run_id" if value.len() >= RUN_ID => read.run_id = Some(&value[..RUN_ID]),
            b"role" if value == b"master" => read.role = Some(Role::Primary),
            b"role" if value == b"slave" => read.role = Some(Role::Replica),
            b"master_link_down_since_seconds" => read.link_down_s = parse_i64(value).unwrap_or(0),
            b"master_host" => read.primary_host = Some(value),
            b"master_port" => read.primary_port = parse_port(value),
            b"master_link_status" => read.link_up = value == b"up",
            b"slave_priority" => read.priority = parse_i64(value),
            b"slave_repl_offset" => read.offset = parse_u64(value),
            b"replica_announced" => read.announced = parse_i64(value).map(|announced| announced != 0),
            _ if name.strip_prefix(b"slave").is_some_and(|n| n.first().is_some_and(u8::is_ascii_digit)) => {
                read.replicas.extend(parse_replica(value));
            }
            _ => {}
        }
    }
    read
}

impl Machine {
    /// INFO was answered.
    pub(super) fn informed(&mut self, id: InstanceId, text: &[u8], now: i64) {
        let read = read(text);
        self[id].info = text[..text.len().min(MAX_INFO)].to_vec();
        if let Some(run_id) = read.run_id {
            self.identified(id, &String::from_utf8_lossy(run_id), now);
        }
        if self[id].kind == Kind::Primary {
            for &(host, port) in &read.replicas {
                let Some(address) = self.locate(&String::from_utf8_lossy(host), port) else { continue };
                if let Some(added) = self.add_replica(id, address, now) {
                    self.event_about(Level::Notice, "+slave", added, "");
                    self.save();
                }
            }
        }
        self.note_replica_fields(id, &read, now);
        self[id].info_at = now;
        let Some(role) = read.role else { return };
        self.note_role(id, role, now);
        if self.tilt_since.is_some() {
            return;
        }
        match (self[id].kind, role) {
            (Kind::Replica, Role::Primary) => self.replica_is_primary(id, now),
            (Kind::Replica, Role::Replica) => {
                self.correct_primary(id, now);
                self.note_reconfiguration(id);
            }
            _ => {}
        }
    }

    fn identified(&mut self, id: InstanceId, run_id: &str, now: i64) {
        match &self[id].run_id {
            Some(known) if known == run_id => return,
            Some(_) => {
                self.event_about(Level::Notice, "+reboot", id, "");
                if self[id].kind == Kind::Primary && self[id].watch.reboot_down_after != 0 {
                    self[id].flags.set(Flags::REBOOTED, true);
                    self[id].watch.rebooted_at = now;
                }
            }
            None => {}
        }
        self[id].run_id = Some(run_id.to_owned());
    }

    fn note_replica_fields(&mut self, id: InstanceId, read: &Read<'_>, now: i64) {
        let replica = &mut self[id].replica;
        replica.link_down_ms = read.link_down_s.saturating_mul(1000);
        if read.role != Some(Role::Replica) {
            return;
        }
        if let Some(host) = read.primary_host.filter(|host| *host != replica.primary_host.as_bytes()) {
            replica.primary_host = String::from_utf8_lossy(host).into_owned();
            replica.changed_at = now;
        }
        if let Some(port) = read.primary_port.filter(|&port| port != replica.primary_port) {
            replica.primary_port = port;
            replica.changed_at = now;
        }
        replica.link_up = read.link_up;
        replica.priority = read.priority.unwrap_or(replica.priority);
        replica.offset = read.offset.unwrap_or(replica.offset);
        replica.announced = read.announced.unwrap_or(replica.announced);
    }

    fn note_role(&mut self, id: InstanceId, role: Role, now: i64) {
        if self[id].role == role {
            return;
        }
        let expected =
            matches!((self[id].kind, role), (Kind::Primary, Role::Primary) | (Kind::Replica, Role::Replica));
        let instance = &mut self[id];
        instance.role = role;
        instance.role_since = now;
        if role == Role::Replica {
            instance.replica.changed_at = now;
        }
        let event = if expected { "+role-change" } else { "-role-change" };
        self.event_about(Level::Verbose, event, id, format!(" new reported role is {}", role.name()));
    }

    /// A replica says that it is a primary: the one that is being promoted, or one that has come back with an old
    /// configuration.
    fn replica_is_primary(&mut self, id: InstanceId, now: i64) {
        let primary = self[id].primary;
        let is_promoted = self[id].flags.has(Flags::PROMOTED);
        if is_promoted
            && self[primary].flags.has(Flags::FAILOVER)
            && self[primary].watch.failover == Failover::WaitPromotion
        {
            return self.promoted(primary, id, now);
        }
        // Enough time for a newer configuration to arrive from others.
        let wait = self.timings.publish_period * 4;
        let old = now - self[id].role_since > wait;
        if !is_promoted && old && self.looks_sane(primary, now) && self.was_up_for(id, wait, now) {
            let address = self[primary].address.clone();
            if self.send_role(id, Some(&address)) {
                self.event_about(Level::Notice, "+convert-to-slave", id, "");
            }
        }
    }

    /// A replica that follows somebody else, for so long that it is no failover of another Sentinel, is put right.
    fn correct_primary(&mut self, id: InstanceId, now: i64) {
        let primary = self[id].primary;
        let address = self[primary].address.clone();
        if self.follows(id, &address) {
            return;
        }
        let wait = self[primary].watch.failover_timeout;
        let old = now - self[id].replica.changed_at > wait;
        if old
            && self.looks_sane(primary, now)
            && self.was_up_for(id, wait, now)
            && self.send_role(id, Some(&address))
        {
            self.event_about(Level::Notice, "+fix-slave-config", id, "");
        }
    }

    /// Whether a replica says that it follows the instance at `address`.
    fn follows(&mut self, id: InstanceId, address: &Address) -> bool {
        let replica = &self[id].replica;
        let (host, port) = (replica.primary_host.clone(), replica.primary_port);
        if port != address.port {
            return false;
        }
        host.eq_ignore_ascii_case(&address.host)
            || self.locate(&host, port).is_some_and(|followed| followed.ip == address.ip)
    }

    fn note_reconfiguration(&mut self, id: InstanceId) {
        if !self[id].flags.has(Flags::RECONF_SENT.with(Flags::RECONF_INPROG)) {
            return;
        }
        let primary = self[id].primary;
        let promoted = self[primary].watch.promoted.and_then(|promoted| self.instances.get(&promoted));
        let Some(address) = promoted.map(|promoted| promoted.address.clone()) else { return };
        if self[id].flags.has(Flags::RECONF_SENT) && self.follows(id, &address) {
            self[id].flags.set(Flags::RECONF_SENT, false);
            self[id].flags.set(Flags::RECONF_INPROG, true);
            self.event_about(Level::Notice, "+slave-reconf-inprog", id, "");
        }
        if self[id].flags.has(Flags::RECONF_INPROG) && self[id].replica.link_up {
            self[id].flags.set(Flags::RECONF_INPROG, false);
            self[id].flags.set(Flags::RECONF_DONE, true);
            self.event_about(Level::Notice, "+slave-reconf-done", id, "");
        }
    }

    /// Whether a primary is up, and has said lately that it is one.
    fn looks_sane(&self, primary: InstanceId, now: i64) -> bool {
        let instance = &self[primary];
        instance.role == Role::Primary
            && !instance.flags.has(Flags::S_DOWN.with(Flags::O_DOWN))
            && now - instance.info_at < self.timings.info_period * 2
    }

    fn was_up_for(&self, id: InstanceId, ms: i64, now: i64) -> bool {
        let last = self[id].s_down_since.max(self[id].o_down_since);
        last == 0 || now - last > ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_any_text() {
        let text = b"# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\n\
                     master_link_status:up\r\nslave_repl_offset:77\r\nslave_priority:10\r\nreplica_announced:0\r\n\
                     slave0:ip=1.2.3.4,port=5,state=online\r\nslave1:1.2.3.5,6,online\r\nslave_read_only:1\r\n\
                     slave2:ip=,port=99999\r\nslave3:\r\nrun_id:short\r\nnocolon\r\n:";
        let read = read(text);
        assert_eq!(read.role, Some(Role::Replica));
        assert_eq!(read.replicas, [(&b"1.2.3.4"[..], 5), (b"1.2.3.5", 6)]);
        assert_eq!((read.primary_port, read.offset, read.priority), (Some(6379), Some(77), Some(10)));
        assert!(read.link_up && read.announced == Some(false) && read.run_id.is_none());
    }
}
