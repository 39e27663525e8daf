//! Conditions by which CLIENT LIST and CLIENT KILL select connections. A connection is selected if it meets all of
//! them.
//!
//! Redis 7.2 has some of the conditions, each for one of the two commands; Valkey 9 has all of them for both, and
//! negations of most.

use std::mem::discriminant;

use crate::acl::{Acl as Users, UserId};
use crate::clients::{Client, ClientKind};
use crate::resp::{Args, Error};
use crate::stdx::clock::UnixMillis;
use crate::stdx::num;

/// Conditions on connections.
#[derive(Default)]
pub(super) struct Filter<'a> {
    /// The conditions, each with whether it is negated. A kind of condition occurs at most once in each form.
    conditions: Vec<(bool, Condition<'a>)>,
    /// Whether to exclude the client's own connection.
    pub(super) skip_me: bool,
}

/// A condition on a connection.
enum Condition<'a> {
    /// One of these IDs.
    Id(Vec<u64>),
    Kind(ClientKind),
    User(UserId),
    Addr(&'a [u8]),
    Laddr(&'a [u8]),
    /// This IP address, with any port.
    Ip(&'a [u8]),
    Name(&'a [u8]),
    LibName(&'a [u8]),
    LibVer(&'a [u8]),
    /// All of these flag letters.
    Flags(&'a [u8]),
    Db(u32),
    /// All of these letters of capabilities.
    Capa(&'a [u8]),
    /// Connected for at least this many seconds.
    Age(i64),
    /// Idle for at least this many seconds.
    Idle(i64),
}

/// Conditions without a negation.
const NOT_NEGATABLE: [&str; 3] = ["MAXAGE", "IDLE", "SKIPME"];
/// Conditions with a negation, whose name begins with `NOT-`.
const NEGATABLE: [&str; 12] =
    ["ID", "TYPE", "USER", "ADDR", "LADDR", "IP", "NAME", "LIB-NAME", "LIB-VER", "FLAGS", "DB", "CAPA"];

/// The condition with this name, in any letter case, and whether it is negated.
fn condition_named(word: &[u8]) -> Option<(bool, &'static str)> {
    let find = |names: &[&'static str], word: &[u8]| {
        names.iter().copied().find(|name| word.eq_ignore_ascii_case(name.as_bytes()))
    };
    let negated = word.split_at_checked(4).filter(|(not, _)| not.eq_ignore_ascii_case(b"NOT-"));
    match negated {
        Some((_, word)) => find(&NEGATABLE, word).map(|name| (true, name)),
        None => find(&NEGATABLE, word).or_else(|| find(&NOT_NEGATABLE, word)).map(|name| (false, name)),
    }
}

/// Whether a word names a condition.
pub(super) fn is_condition(word: &[u8]) -> bool {
    condition_named(word).is_some()
}

pub(super) fn kind_named(name: &[u8]) -> Result<ClientKind, Error> {
    ClientKind::from_name(name).ok_or_else(|| Error::quoting(&[b"ERR Unknown client type '", name, b"'"]))
}

/// Parses a number of seconds.
fn seconds(value: &[u8], name: &str) -> Result<i64, Error> {
    let number = num::parse_i64(value)
        .ok_or_else(|| Error::text(format!("ERR {name} is not an integer or out of range")))?;
    if number <= 0 {
        return Err(Error::text(format!("ERR {name} should be greater than 0")));
    }
    Ok(number)
}

/// The client IDs from argument `i` on, up to the first argument that is not a number.
fn identities(args: Args<'_>, i: usize) -> Result<Vec<u64>, Error> {
    let mut ids = Vec::new();
    while let Some(value) = args.get(i + ids.len()) {
        match num::parse_i64(value) {
            None if !ids.is_empty() => break,
            Some(id @ 1..) => ids.push(id as u64),
            _ => return Err(Error::text("ERR client-id should be greater than 0")),
        }
    }
    Ok(ids)
}

impl<'a> Filter<'a> {
    /// Parses the conditions from argument 2 on. `databases` is the number of databases.
    ///
    /// # Errors
    /// If a word names no condition, or a value is invalid.
    pub(super) fn parse(
        args: Args<'a>,
        users: &Users,
        databases: usize,
        skip_me: bool,
    ) -> Result<Self, Error> {
        let mut filter = Filter { conditions: Vec::new(), skip_me };
        let mut i = 2;
        while i < args.len() {
            let value = args.get(i + 1).ok_or(Error::Syntax)?;
            let (negated, name) = condition_named(args.at(i)).ok_or(Error::Syntax)?;
            let mut values = 1;
            let condition = match name {
                "ID" => {
                    let ids = identities(args, i + 1)?;
                    values = ids.len();
                    Condition::Id(ids)
                }
                "TYPE" => Condition::Kind(kind_named(value)?),
                "USER" => {
                    let user = users.find(value);
                    Condition::User(
                        user.ok_or_else(|| Error::quoting(&[b"ERR No such user '", value, b"'"]))?,
                    )
                }
                "ADDR" => Condition::Addr(value),
                "LADDR" => Condition::Laddr(value),
                "IP" => Condition::Ip(value),
                "NAME" => Condition::Name(value),
                "LIB-NAME" => Condition::LibName(value),
                "LIB-VER" => Condition::LibVer(value),
                "FLAGS" => {
                    if !value.iter().all(|letter| Client::LETTERS.contains(letter)) {
                        let text = b"ERR Unknown flags found in the provided filter: ";
                        return Err(Error::quoting(&[text, value]));
                    }
                    Condition::Flags(value)
                }
                "DB" => {
                    let db = num::parse_i64(value)
                        .ok_or_else(|| Error::text("ERR DB is not an integer or out of range"))?;
                    let db = u32::try_from(db).ok().filter(|&db| (db as usize) < databases);
                    let last = databases - 1;
                    Condition::Db(db.ok_or_else(|| {
                        Error::text(format!("ERR DB number should be between 0 and {last}"))
                    })?)
                }
                "CAPA" => {
                    if value != b"r" {
                        return Err(Error::quoting(&[
                            b"ERR Unknown capa found in the provided filter: ",
                            value,
                        ]));
                    }
                    Condition::Capa(value)
                }
                "MAXAGE" => Condition::Age(seconds(value, "maxage")?),
                "IDLE" => Condition::Idle(seconds(value, "idle")?),
                _ => {
                    filter.skip_me = match () {
                        () if args.is(i + 1, "YES") => true,
                        () if args.is(i + 1, "NO") => false,
                        () => return Err(Error::Syntax),
                    };
                    i += 2;
                    continue;
                }
            };
            // The last occurrence wins.
            let same = |known: &(bool, Condition<'_>)| {
                known.0 == negated && discriminant(&known.1) == discriminant(&condition)
            };
            filter.conditions.retain(|known| !same(known));
            filter.conditions.push((negated, condition));
            i += 1 + values;
        }
        Ok(filter)
    }

    /// Selects the connections from an address.
    pub(super) fn from_address(addr: &'a [u8]) -> Self {
        Filter { conditions: vec![(false, Condition::Addr(addr))], skip_me: false }
    }

    /// Whether a connection meets all conditions.
    pub(super) fn admits(&self, client: &Client, now: UnixMillis) -> bool {
        self.conditions.iter().all(|(negated, condition)| condition.is_met(client, now) != *negated)
    }
}

impl Condition<'_> {
    fn is_met(&self, client: &Client, now: UnixMillis) -> bool {
        match *self {
            Condition::Id(ref ids) => ids.contains(&client.id),
            Condition::Kind(kind) => client.kind() == kind,
            Condition::User(user) => client.user() == Err(user),
            Condition::Addr(addr) => client.io.peer.addr().as_bytes() == addr,
            Condition::Laddr(addr) => client.io.peer.local_addr().as_bytes() == addr,
            Condition::Ip(ip) => {
                let addr = client.io.peer.addr();
                let host = addr.rsplit_once(':').map_or(&*addr, |(host, _)| host);
                host.trim_matches(['[', ']']).as_bytes() == ip
            }
            Condition::Name(name) => *client.names.name == *name,
            Condition::LibName(name) => *client.names.lib_name == *name,
            Condition::LibVer(version) => *client.names.lib_ver == *version,
            Condition::Flags(letters) => {
                let mut own = Vec::new();
                client.write_letters(&mut own);
                letters.iter().all(|letter| own.contains(letter))
            }
            Condition::Db(db) => client.db == db,
            Condition::Capa(letters) => letters.iter().all(|letter| client.capabilities().contains(letter)),
            Condition::Age(age) => now.since(client.connected_at) / 1000 >= age,
            Condition::Idle(idle) => client.idle_ms(now) / 1000 >= idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check};

    /// IDs in the order of a list.
    fn listed(harness: &mut Harness, conditions: &str) -> Vec<u64> {
        let text = harness.run(&format!("CLIENT LIST {conditions}")).replace("\\n", "\n");
        let ids = text.lines().filter_map(|line| line.trim_start_matches('"').strip_prefix("id="));
        ids.map(|line| line.split(' ').next().and_then(|id| id.parse().ok()).expect("a number")).collect()
    }

    #[test]
    fn every_condition_and_its_opposite() {
        let mut harness = Harness::default();
        let (b, c) = (harness.connect(), harness.connect());
        harness.run_as(b, "CLIENT SETNAME b");
        harness.run_as(b, "CLIENT SETINFO LIB-NAME lib");
        harness.run_as(b, "CLIENT SETINFO LIB-VER 1");
        harness.run_as(b, "SELECT 3");
        harness.run_as(c, "CLIENT CAPA redirect");
        harness.run_as(c, "SUBSCRIBE news");
        harness.run("ACL SETUSER u on nopass +@all");
        harness.run_as(b, "AUTH u x");
        for (conditions, expected) in [
            ("", &[1, 2, 3][..]),
            ("SKIPME yes", &[2, 3]),
            ("ID 3 1", &[3, 1]),
            ("ID 3 1 SKIPME no", &[1, 3]),
            ("NOT-ID 3 1", &[2]),
            ("not-id 1 id 1 2", &[2]),
            ("TYPE pubsub", &[3]),
            ("TYPE pubsub TYPE normal", &[1, 2]),
            ("NOT-TYPE pubsub", &[1, 2]),
            ("USER u", &[2]),
            ("NOT-USER u", &[1, 3]),
            ("NAME b", &[2]),
            ("NOT-NAME b", &[1, 3]),
            ("LIB-NAME lib LIB-VER 1", &[2]),
            ("NOT-LIB-NAME lib NOT-LIB-VER 2", &[1, 3]),
            ("CAPA r", &[3]),
            ("NOT-CAPA r", &[1, 2]),
            ("DB 3", &[2]),
            ("NOT-DB 3", &[1, 3]),
            ("FLAGS UP", &[3]),
            ("NOT-FLAGS P", &[1, 2]),
            ("IP 10.0.0.1", &[]),
            ("NOT-IP 10.0.0.1", &[1, 2, 3]),
            ("NOT-ADDR 10.0.0.1:1 NOT-LADDR 10.0.0.1:1", &[1, 2, 3]),
            ("MAXAGE 1000", &[]),
            ("IDLE 1000", &[]),
        ] {
            assert_eq!(listed(&mut harness, conditions), expected, "{conditions}");
        }
        assert_eq!(harness.run("CLIENT KILL ID 2 3 NOT-TYPE pubsub"), "(integer) 1");
        assert!(harness.server.clients[b].is_closing() && !harness.server.clients[c].is_closing());
    }

    #[test]
    fn errors() {
        check(
            r#"
            CLIENT LIST ID 1 x
            CLIENT LIST ID 1 NAME
            CLIENT LIST NOT-SKIPME no
            CLIENT LIST FLAGS N?
            CLIENT LIST CAPA x
            CLIENT LIST DB x
            CLIENT LIST DB 16
            CLIENT LIST IDLE 0
            CLIENT LIST USER nobody
            CLIENT LIST SKIPME maybe
            CLIENT KILL ID 1 x
            CLIENT KILL NOT-ID 0
            CLIENT KILL ID 98 99
            "#,
            r#"
            (error) ERR Invalid client ID
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR Unknown flags found in the provided filter: N?
            (error) ERR Unknown capa found in the provided filter: x
            (error) ERR DB is not an integer or out of range
            (error) ERR DB number should be between 0 and 15
            (error) ERR idle should be greater than 0
            (error) ERR No such user 'nobody'
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR client-id should be greater than 0
            (integer) 0
            "#,
        );
    }
}
