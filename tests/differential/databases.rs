//! Users who may use some databases only, compared with Valkey 9.1, from which the rules are.

use crate::pair::words;
use crate::support::{Client, Oracle, ServerProcess};

/// Rules that are applied to the user `b`, one after the other.
const RULES: [&str; 26] = [
    "db=",
    "db=a",
    "db=-1",
    "db=16",
    "db=1,,",
    "db=,1",
    "db=1,2,1",
    "DB=4",
    "AllDBs",
    "resetdbs",
    "db=99999999999999999999",
    "db=2147483647",
    "db=2147483648",
    "db=01",
    "db=1,x",
    "db",
    "db1",
    "db=*",
    "db=1-3",
    "db=7,5,6,5",
    "(db=3 +get ~k)",
    "(db=3 db=5 +get ~k alldbs)",
    "(resetdbs +get ~k)",
    "(+get ~k)",
    "clearselectors",
    "reset",
];

/// Users, each with rules besides `on >x`.
const USERS: [(&str, &str); 11] = [
    ("a", "+@all ~* &* db=1,3"),
    ("every", "+@all ~* &* db=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"),
    ("none", "+@all ~* &* resetdbs"),
    ("nothing", "-@all resetdbs"),
    ("key", "+@all ~x resetdbs"),
    ("morekey", "+@all ~* resetdbs (+@all ~x alldbs)"),
    ("channel", "+@all ~* resetchannels resetdbs (+@all ~x alldbs)"),
    ("command", "-@all alldbs (+@all ~* resetdbs)"),
    ("another", "+@all ~* resetdbs (-@all alldbs)"),
    ("split", "+@all ~* resetdbs (+@all ~* db=1) (+@all ~* db=0)"),
    ("mixed", "+@all ~* &* resetdbs (+get ~a* db=1) (+set ~* alldbs)"),
];

/// Requests of such users.
const REQUESTS: &str = "
PING; ECHO hi; GET k; SET k v; SELECT 0; SELECT 2; SELECT 99; SELECT -1; SELECT abc; SELECT 1; GET k; SET k v; DBSIZE;
KEYS *; SCAN 0; FLUSHDB; FLUSHALL; SWAPDB 1 3; SWAPDB 1 2; SWAPDB 2 3; SWAPDB 3 x; SWAPDB 99 1; SET k v; MOVE k 2;
MOVE k 99; MOVE k x; COPY k j DB 2; COPY k j DB 3; COPY k j DB 99; COPY k j DB x; COPY k j DB 1 DB 2; COPY k j DB 2 DB 3;
COPY k j REPLACE DB 2; COPY k j FOO DB 2; COPY k i; MOVE k 3; SELECT 3; GET k; DEL k j; RANDOMKEY; PUBLISH c m;
SPUBLISH c m; OBJECT ENCODING k; WAIT 0 0; MEMORY USAGE k; SORT k; UNWATCH;
WATCH k; DISCARD; FUNCTION LIST; FCALL x 0; SCRIPT EXISTS a; ACL WHOAMI; GET; SINTERCARD 0;
SELECT 1; MULTI; SET k v; SELECT 2; EXEC; MULTI; SET k v; SELECT 3; SET k 3; EXEC; GET k; SELECT 1; MULTI; MOVE k 2; EXEC;
SELECT 0; MULTI; SET k v; EXEC; MULTI; SELECT 1; SET k v; EXEC; MULTI; SELECT x; GET k; EXEC; MULTI; SELECT 0; GET k; EXEC;
SELECT 1; ACL LOG RESET; SELECT 2; GeT k; object encoding k; MOVE k 2";

/// Scripts that such users run, each with the key `k`.
const SCRIPTS: [&str; 8] = [
    "return 1",
    "return redis.call('set', KEYS[1], 'v')",
    "redis.call('select', 1) return redis.call('set', KEYS[1], 'v')",
    "return redis.pcall('select', 2)",
    "return redis.pcall('move', KEYS[1], 2)",
    "return {redis.pcall('select', 3), redis.pcall('get', KEYS[1])}",
    "return {redis.acl_check_cmd('select', 2), redis.acl_check_cmd('select', 3), redis.acl_check_cmd('get', 'k')}",
    "return {redis.acl_check_cmd('move', 'k', '2'), redis.acl_check_cmd('move', 'k', '3')}",
];

/// Requests that ACL DRYRUN judges for every user, in the databases 0 and 1.
const DRY: &str = "
GET k; get k; SELECT 1; SELECT 2; MOVE k 2; MOVE k 1; MOVE a x; MOVE a -1; COPY k j DB 2; COPY k j; COPY a b DB; COPY a b DB 99;
SWAPDB 1 2; SWAPDB 1 3; SWAPDB 2 3; SWAPDB 3 x; SWAPDB x 1; FLUSHALL; FLUSHDB; PING; SELECT abc; SELECT 99999999999999;
MIGRATE h 1 k 2 100; EVAL x 0; DBSIZE; RESTORE k 0 x; BGSAVE; oBject encoding k; SORT_RO k; SUBSCRIBE c; SSUBSCRIBE c;
CLUSTER MIGRATESLOTS x y; CLUSTER CANCELSLOTMIGRATIONS; CLUSTER COUNTKEYSINSLOT 1; CLUSTER GETKEYSINSLOT 1 1";

fn requests(text: &str) -> impl Iterator<Item = Vec<Vec<u8>>> {
    text.split(';').map(|line| words(&line.split_ascii_whitespace().collect::<Vec<_>>()))
}

fn ask(client: &mut Client, request: &[Vec<u8>]) -> Vec<u8> {
    let request: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
    client.command(&request).expect("the server answers")
}

/// The words of a reply that two servers can agree on: no rule about payloads, which one of them does not show where
/// it is the default.
fn shared(reply: &[u8]) -> String {
    let text = reply.escape_ascii().to_string().replace("sanitize-payload ", "");
    // The length of a bulk string follows from the rest.
    let lengths = text.split("\\r\\n").map(|part| if part.starts_with('$') { "$" } else { part });
    let parts: Vec<&str> = lengths.filter(|part| *part != "sanitize-payload").collect();
    parts.join(" ")
}

/// What all users and requests lead to at one server: a line for each.
fn record(server: &ServerProcess, names: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut admin = server.client();
    let mut note = |client: &mut Client, who: &str, request: &[Vec<u8>]| {
        let reply = ask(client, request);
        let shown = request.iter().map(|word| word.escape_ascii().to_string()).collect::<Vec<_>>().join(" ");
        lines.push(format!("{who}: {shown} -> {}", shared(&reply)));
    };
    for rule in RULES {
        note(&mut admin, "admin", &words(&["ACL", "SETUSER", "b", rule]));
        note(&mut admin, "admin", &words(&["ACL", "LIST"]));
    }
    for (name, rules) in USERS {
        let mut set = vec!["ACL", "SETUSER", name, "on", ">x"];
        // A selector is one argument.
        let (own, more) = rules.split_once(" (").map_or((rules, ""), |(own, more)| (own, more));
        set.extend(own.split(' '));
        let more: Vec<String> =
            more.split(" (").filter(|text| !text.is_empty()).map(|text| format!("({text}")).collect();
        set.extend(more.iter().map(String::as_str));
        note(&mut admin, "admin", &words(&set));
        // The flags are a set of one element less where a default is not shown.
        let described = ask(&mut admin, &words(&["ACL", "GETUSER", name]));
        let shown = shared(&described);
        note(&mut admin, &shown[shown.find("passwords").expect("a field")..], &words(&["PING"]));
    }
    note(&mut admin, "admin", &words(&["ACL", "LIST"]));
    for (name, _) in USERS {
        note(&mut admin, "admin", &words(&["FLUSHALL"]));
        let mut client = server.client();
        note(&mut client, name, &words(&["AUTH", name, "x"]));
        for request in requests(REQUESTS) {
            note(&mut client, name, &request);
        }
        for script in SCRIPTS {
            for db in ["1", "0"] {
                note(&mut client, name, &words(&["SELECT", db]));
                note(&mut client, name, &words(&["EVAL", script, "1", "k"]));
            }
        }
        for db in ["0", "1"] {
            note(&mut admin, "admin", &words(&["SELECT", db]));
            for request in requests(DRY) {
                note(&mut admin, "admin", &[words(&["ACL", "DRYRUN", name]), request].concat());
            }
        }
    }
    // Which commands are about keys.
    note(&mut admin, "admin", &words(&["SELECT", "0"]));
    for name in names {
        let arity = ask(&mut admin, &words(&["COMMAND", "INFO", name]));
        let arity = arity
            .split(|&byte| byte == b':')
            .nth(1)
            .and_then(|rest| rest.split(|&byte| byte == b'\r').next());
        let arity =
            arity.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<i64>().ok()).expect("an arity");
        let mut request: Vec<&str> = name.split('|').collect();
        request.resize(arity.unsigned_abs() as usize, "1");
        note(&mut admin, "admin", &[words(&["ACL", "DRYRUN", "none"]), words(&request)].concat());
    }
    // A transaction whose user may do less when it is run.
    let mut client = server.client();
    note(&mut client, "a", &words(&["AUTH", "a", "x"]));
    for line in ["SELECT 1", "MULTI", "GET k", "PING"] {
        note(&mut client, "a", &words(&line.split(' ').collect::<Vec<_>>()));
    }
    note(&mut admin, "admin", &words(&["ACL", "SETUSER", "a", "resetdbs"]));
    note(&mut client, "a", &words(&["EXEC"]));
    note(&mut client, "a", &words(&["GET", "k"]));
    // The log: reason, context, object and user of each entry.
    let log = ask(&mut admin, &words(&["ACL", "LOG", "100"]));
    let log = String::from_utf8_lossy(&log).replace("\r\n", " ");
    for entry in log.split(" count ").skip(1) {
        let told = entry.split(" age-seconds ").next().expect("split yields a part");
        lines.push(format!("log: {}", &told[told.find("reason").expect("a field")..]));
    }
    let info = String::from_utf8(ask(&mut admin, &words(&["INFO", "stats"]))).expect("INFO is text");
    lines.push(info.lines().find(|line| line.starts_with("acl_access_denied_db")).expect("a field").into());
    lines
}

#[test]
fn databases_are_denied_as_in_valkey() {
    let Some(valkey) = Oracle::Valkey9_1.program() else { return };
    let ours = ServerProcess::start(&crate::support::spinel(), &Oracle::Valkey9_1.compat());
    let theirs = ServerProcess::start(&valkey, &[]);
    // Commands that both have, with subcommands.
    let names = |server: &ServerProcess| -> Vec<String> {
        let reply = ask(&mut server.client(), &words(&["COMMAND", "LIST"]));
        let text = String::from_utf8(reply).expect("names are text");
        text.split("\r\n")
            .filter(|part| part.starts_with(|first: char| first.is_ascii_lowercase()))
            .map(String::from)
            .collect()
    };
    let (own, other) = (names(&ours), names(&theirs));
    let mut common: Vec<String> = own.into_iter().filter(|name| other.contains(name)).collect();
    common.sort();
    assert!(common.len() > 300, "{} commands", common.len());
    let (ours, theirs) = (record(&ours, &common), record(&theirs, &common));
    let different: Vec<String> = ours
        .iter()
        .zip(&theirs)
        .filter(|(ours, theirs)| ours != theirs)
        .map(|(ours, theirs)| format!("spinel {ours}\ntheirs {theirs}\n"))
        .collect();
    assert!(
        different.is_empty() && ours.len() == theirs.len(),
        "{} differ:\n{}",
        different.len(),
        different.concat()
    );
}

/// Users are the same after their file was written and read, by either server.
#[test]
fn rules_about_databases_are_kept_in_files_of_users() {
    let file = std::env::temp_dir().join(format!("spinel-users-of-databases-{}.acl", std::process::id()));
    let path = file.to_str().expect("a path of ASCII");
    let mut programs = vec![crate::support::spinel()];
    programs.extend(Oracle::Valkey9_1.program());
    let mut shown: Option<String> = None;
    for writer in &programs {
        std::fs::write(&file, "user default on nopass ~* &* +@all\n").expect("a file");
        let server = ServerProcess::start(writer, &["--aclfile", path]);
        let mut client = server.client();
        for (name, rules) in [("q", "on nopass ~* db=2,1 +@all"), ("r", "resetdbs"), ("s", "(db=3 ~k +get)")]
        {
            let mut set = words(&["ACL", "SETUSER", name]);
            let rules: Vec<&str> =
                if rules.starts_with('(') { vec![rules] } else { rules.split(' ').collect() };
            set.extend(words(&rules));
            assert_eq!(ask(&mut client, &set), b"+OK\r\n");
        }
        assert_eq!(ask(&mut client, &words(&["ACL", "SAVE"])), b"+OK\r\n");
        for reader in &programs {
            let server = ServerProcess::start(reader, &["--aclfile", path]);
            let list = shared(&ask(&mut server.client(), &words(&["ACL", "LIST"])));
            assert!(
                list.contains("db=1,2 ") && list.contains("resetdbs ") && list.contains("db=3 "),
                "{list}"
            );
            assert_eq!(*shown.get_or_insert_with(|| list.clone()), list);
        }
    }
    std::fs::remove_file(&file).expect("it was written");
}
