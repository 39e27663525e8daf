//! Connections, and the requests that are sent again and again.

use super::{Action, Machine};
use crate::resp::request::write_request;
use crate::resp::response::{Kind as ReplyKind, Response};
use crate::sentinel::HELLO_CHANNEL;
use crate::sentinel::instance::{
    Address, ConnId, Failover, Flags, InstanceId, Kind, Link, LinkId, Pending, literal_ip,
};
use crate::stats::log::Level;

/// Requests that may be unanswered on a link, for each instance that uses it.
const MAX_PENDING: usize = 100;

impl Machine {
    pub(super) fn link(&self, id: InstanceId) -> &Link {
        &self.links[&self[id].link]
    }

    pub(super) fn link_mut(&mut self, id: InstanceId) -> &mut Link {
        let link = self[id].link;
        self.links.get_mut(&link).expect("an instance has a link")
    }

    /// Opens the connections that are missing.
    pub(super) fn reconnect(&mut self, id: InstanceId, now: i64) {
        let (instance, link) = (&self[id], self.link(id));
        if !link.disconnected || instance.address.port == 0 || now - link.tried_at < self.timings.ping_period
        {
            return;
        }
        let (kind, link_id, address) = (instance.kind, instance.link, instance.address.clone());
        self.link_mut(id).tried_at = now;
        if literal_ip(&address.host).is_none() && self.settings.resolve_hostnames {
            self.resolve(&address.host);
        }
        if address.ip.is_empty() {
            return;
        }
        let listens = kind != Kind::Sentinel;
        if !self.link(id).commands {
            let link = self.link_mut(id);
            link.commands = true;
            link.commands_since = now;
            link.pending.clear();
            self.open(ConnId { link: link_id, listens: false }, &address);
            self.greet(id, false);
            self.ping(id, now);
        }
        if listens && !self.link(id).messages {
            let link = self.link_mut(id);
            link.messages = true;
            link.messages_since = now;
            link.heard_at = now;
            link.greeting = 0;
            self.open(ConnId { link: link_id, listens: true }, &address);
            self.greet(id, true);
            self.send_on(ConnId { link: link_id, listens: true }, &[b"SUBSCRIBE", HELLO_CHANNEL]);
        }
        self.link_mut(id).disconnected = false;
    }

    fn open(&mut self, conn: ConnId, address: &Address) {
        self.actions.push(Action::Connect { conn, ip: address.ip.clone(), port: address.port });
    }

    fn send_on(&mut self, conn: ConnId, words: &[&[u8]]) {
        let mut bytes = Vec::new();
        write_request(&mut bytes, words.iter().copied());
        self.actions.push(Action::Send { conn, bytes });
    }

    /// Sends a request whose answer is expected, on one of the connections of an instance.
    fn request(&mut self, id: InstanceId, listens: bool, what: Pending, words: &[&[u8]]) {
        let primary = self[id].primary;
        let renamed = match self[id].kind {
            Kind::Sentinel => None,
            _ => {
                let name = String::from_utf8_lossy(words[0]).to_ascii_lowercase();
                self.watch(primary).and_then(|watch| watch.renamed.get(&name).cloned())
            }
        };
        let mut words = words.to_vec();
        if let Some(name) = &renamed {
            words[0] = name.as_bytes();
        }
        let conn = ConnId { link: self[id].link, listens };
        let link = self.link_mut(id);
        if listens {
            link.greeting += 1;
        } else {
            link.pending.push_back(what);
        }
        self.send_on(conn, &words);
    }

    /// The first requests on a connection: who we are.
    fn greet(&mut self, id: InstanceId, listens: bool) {
        let primary = self[id].primary;
        let (user, password) = match (self[id].kind, self.watch(primary)) {
            (Kind::Sentinel, _) => match &self.settings.sentinel_pass {
                Some(password) => (self.settings.sentinel_user.clone(), Some(password.clone())),
                None => (None, Some(self.own_password.clone()).filter(|password| !password.is_empty())),
            },
            (_, Some(watch)) => (watch.auth_user.clone(), watch.auth_pass.clone()),
            (_, None) => (None, None),
        };
        if let Some(password) = password {
            match user {
                Some(user) => self.request(id, listens, Pending::Any, &[b"AUTH", &user, &password]),
                None => self.request(id, listens, Pending::Any, &[b"AUTH", &password]),
            }
        }
        let start = self.id.get(..8).unwrap_or(&self.id);
        let name = format!("sentinel-{start}-{}", if listens { "pubsub" } else { "cmd" });
        self.request(id, listens, Pending::Any, &[b"CLIENT", b"SETNAME", name.as_bytes()]);
    }

    fn ping(&mut self, id: InstanceId, now: i64) {
        self.request(id, false, Pending::Ping(id), &[b"PING"]);
        let link = self.link_mut(id);
        link.ping_at = now;
        if link.unanswered_since == 0 {
            link.unanswered_since = now;
        }
    }

    /// Sends what is due: PING, INFO, hello messages.
    pub(super) fn send_periodic(&mut self, id: InstanceId, now: i64) {
        let link = self.link(id);
        if link.disconnected || link.pending.len() >= MAX_PENDING.saturating_mul(link.users as usize) {
            return;
        }
        let (instance, timings) = (&self[id], &self.timings);
        let primary = &self[instance.primary];
        let in_trouble = primary.flags.has(Flags::O_DOWN.with(Flags::FAILOVER));
        // A replica without a primary may soon have another role.
        let watched_closely =
            instance.kind == Kind::Replica && (in_trouble || instance.replica.link_down_ms != 0);
        let info_period = if watched_closely { timings.info_period.min(1000) } else { timings.info_period };
        let ping_period = timings.ping_period.min(instance.down_after);
        let wants_info = instance.kind != Kind::Sentinel
            && (instance.info_at == 0 || now - instance.info_at > info_period);
        let wants_ping = now - link.pong_at > ping_period && now - link.ping_at > ping_period / 2;
        let wants_hello = now - instance.published_at > timings.publish_period;
        if wants_info {
            self.request(id, false, Pending::Info(id), &[b"INFO"]);
        }
        if wants_ping {
            self.ping(id, now);
        }
        if wants_hello {
            self.say_hello(id);
        }
    }

    fn say_hello(&mut self, id: InstanceId) {
        let local = &self.link(id).local_ip;
        let ip = self.settings.announce_ip.as_ref().unwrap_or(local);
        if ip.is_empty() {
            return;
        }
        let port = if self.settings.announce_port != 0 { self.settings.announce_port } else { self.port };
        let primary = self[id].primary;
        let address = self.current_address(primary);
        let text = format!(
            "{ip},{port},{},{},{},{},{},{}",
            self.id,
            self.current_epoch,
            self[primary].name,
            self.shown(address),
            address.port,
            self[primary].config_epoch
        );
        self.request(id, false, Pending::Hello(id), &[b"PUBLISH", HELLO_CHANNEL, text.as_bytes()]);
    }

    /// Has hello messages of a primary sent without delay.
    pub(super) fn hurry_hello(&mut self, primary: InstanceId) {
        let Some(watch) = self.watch(primary) else { return };
        let all = [&[primary][..], &watch.replicas, &watch.sentinels].concat();
        let earlier = self.timings.publish_period + 1;
        for id in all {
            self[id].published_at -= earlier;
        }
    }

    /// Asks a Sentinel whether a primary is down, and, if there is to be a failover, for its vote.
    pub(super) fn ask(&mut self, id: InstanceId) {
        let primary = &self[self[id].primary];
        let (host, port) = (self.shown(&primary.address).to_owned(), primary.address.port.to_string());
        let candidate =
            if primary.watch.failover == Failover::None { "*".to_owned() } else { self.id.clone() };
        let epoch = self.current_epoch.to_string();
        let words: [&[u8]; 6] = [
            b"SENTINEL",
            b"is-master-down-by-addr",
            host.as_bytes(),
            port.as_bytes(),
            epoch.as_bytes(),
            candidate.as_bytes(),
        ];
        self.request(id, false, Pending::Ask(id), &words);
    }

    /// Has an instance follow another, or none, in one step with what must go with it: its configuration file is
    /// written, and its clients are closed, so that they look for the primary anew. False if there is no connection.
    pub(super) fn send_role(&mut self, id: InstanceId, follow: Option<&Address>) -> bool {
        if self.link(id).disconnected {
            return false;
        }
        let (host, port) = match follow {
            Some(address) => (self.shown(address).to_owned(), address.port.to_string()),
            None => ("NO".to_owned(), "ONE".to_owned()),
        };
        let requests: [&[&[u8]]; 6] = [
            &[b"MULTI"],
            &[b"SLAVEOF", host.as_bytes(), port.as_bytes()],
            &[b"CONFIG", b"REWRITE"],
            &[b"CLIENT", b"KILL", b"TYPE", b"normal"],
            &[b"CLIENT", b"KILL", b"TYPE", b"pubsub"],
            &[b"EXEC"],
        ];
        for words in requests {
            self.request(id, false, Pending::Any, words);
        }
        true
    }

    // ---- what arrives ---------------------------------------------------------------------------

    /// A connection is established, from the address `local_ip`.
    pub fn connected(&mut self, conn: ConnId, local_ip: String) {
        if let (Some(link), false) = (self.links.get_mut(&conn.link), conn.listens) {
            link.local_ip = local_ip;
        }
    }

    /// A connection has ended, or could not be established.
    pub fn closed(&mut self, conn: ConnId) {
        let Some(link) = self.links.get_mut(&conn.link) else { return };
        if conn.listens {
            link.messages = false;
        } else {
            link.commands = false;
            link.pending.clear();
        }
        link.disconnected = true;
    }

    pub(super) fn drop_connection(&mut self, link: LinkId, listens: bool) {
        let conn = ConnId { link, listens };
        let open =
            self.links.get(&link).is_some_and(|link| if listens { link.messages } else { link.commands });
        if open {
            self.closed(conn);
            self.actions.push(Action::Close(conn));
        }
    }

    /// Closes both connections of an instance; they are opened again.
    /// Closes both connections of an instance: the next ones, maybe to another address, are opened at once.
    pub(super) fn drop_connections(&mut self, id: InstanceId) {
        let link = self[id].link;
        self.link_mut(id).tried_at = 0;
        self.drop_connection(link, false);
        self.drop_connection(link, true);
    }

    pub(super) fn release_link(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.users -= 1;
        if link.users == 0 {
            self.drop_connection(id, false);
            self.drop_connection(id, true);
            self.links.remove(&id);
        }
    }

    /// Has a Sentinel that watches other primaries too use the same link.
    pub(super) fn share_link(&mut self, id: InstanceId) {
        let (own, run_id) = (self[id].link, self[id].run_id.clone());
        if run_id.is_none() || self.links[&own].users > 1 {
            return;
        }
        let same = self.instances.iter().find(|&(&other, instance)| {
            other != id && instance.kind == Kind::Sentinel && instance.run_id == run_id
        });
        let Some(shared) = same.map(|(_, instance)| instance.link) else { return };
        self.release_link(own);
        if let Some(link) = self.links.get_mut(&shared) {
            link.users += 1;
        }
        self[id].link = shared;
    }

    /// A reply has arrived, or a message.
    pub fn received(&mut self, conn: ConnId, reply: Response<'_>, now: i64) {
        if conn.listens {
            return self.message(conn, reply, now);
        }
        let Some(link) = self.links.get_mut(&conn.link) else { return };
        let Some(pending) = link.pending.pop_front() else {
            // Nobody asked for it: an error says why the peer is about to close the connection.
            if reply.kind() == ReplyKind::Error {
                self.drop_connection(conn.link, false);
            }
            return;
        };
        let (Pending::Ping(id) | Pending::Info(id) | Pending::Hello(id) | Pending::Ask(id)) = pending else {
            return;
        };
        if !self.instances.contains_key(&id) {
            return;
        }
        match pending {
            Pending::Ping(_) => self.ponged(id, reply, now),
            Pending::Info(_) if matches!(reply.kind(), ReplyKind::Bulk | ReplyKind::Verbatim) => {
                self.informed(id, reply.text(), now);
            }
            Pending::Hello(_) if reply.kind() != ReplyKind::Error => self[id].published_at = now,
            Pending::Ask(_) => self.answered(id, reply, now),
            _ => {}
        }
    }

    fn ponged(&mut self, id: InstanceId, reply: Response<'_>, now: i64) {
        if !matches!(reply.kind(), ReplyKind::Simple | ReplyKind::Error | ReplyKind::Bulk) {
            return;
        }
        let text = reply.text();
        let alive = [&b"PONG"[..], b"LOADING", b"MASTERDOWN"].iter().any(|start| text.starts_with(start));
        let link = self.link_mut(id);
        link.pong_at = now;
        if alive {
            link.available_at = now;
            link.unanswered_since = 0;
            if text.starts_with(b"PONG") {
                self[id].flags.set(Flags::REBOOTED, false);
            }
        } else if text.starts_with(b"BUSY")
            && self[id].flags.has(Flags::S_DOWN)
            && !self[id].flags.has(Flags::SCRIPT_KILL_SENT)
        {
            self.request(id, false, Pending::Any, &[b"SCRIPT", b"KILL"]);
            self[id].flags.set(Flags::SCRIPT_KILL_SENT, true);
        }
    }

    fn message(&mut self, conn: ConnId, reply: Response<'_>, now: i64) {
        let Some(link) = self.links.get_mut(&conn.link) else { return };
        if link.greeting > 0 {
            link.greeting -= 1;
            return;
        }
        if reply.kind() == ReplyKind::Error {
            // SUBSCRIBE was refused.
            self.drop_connection(conn.link, true);
            return;
        }
        let mut items = reply.items();
        let (kind, channel, text) = (items.next(), items.next(), items.next());
        let (Some(kind), Some(channel), Some(text)) = (kind, channel, text) else { return };
        link.heard_at = now;
        if kind.text() == b"message" && channel.text() == HELLO_CHANNEL {
            self.hello(text.text(), now);
        }
    }

    pub(super) fn log_connection_error(&mut self, id: InstanceId, listens: bool, reason: &str) {
        let kind = if listens { "-pubsub-link-reconnection" } else { "-cmd-link-reconnection" };
        self.event_about(Level::Debug, kind, id, format!(" #{reason}"));
    }

    /// A connection could not be opened, for this reason.
    pub fn refused(&mut self, conn: ConnId, reason: &str) {
        let user = self.instances.iter().find(|(_, instance)| instance.link == conn.link);
        if let Some((&id, _)) = user {
            self.log_connection_error(id, conn.listens, reason);
        }
        self.closed(conn);
    }
}
