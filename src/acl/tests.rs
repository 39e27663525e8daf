use super::catalog::Command;
use super::user::{join_selectors, words};
use super::*;
use crate::resp::request::{self, Decoder, write_request};
use crate::stats::progress::Lines;
use crate::stdx::quote;
use crate::stdx::rng::Rng;

const READ: u32 = 1;
const WRITE: u32 = 2;
const HASH: u32 = 4;
const SLOW: u32 = 8;
const EMPTY: u32 = 16;

/// Commands by number, with categories and container.
const COMMANDS: [(&str, u32, Option<u16>); 12] = [
    ("get", READ, None),
    ("set", WRITE, None),
    ("hget", READ | HASH, None),
    ("hset", WRITE | HASH, None),
    ("hgetall", READ | HASH | SLOW, None),
    ("select", 0, None),
    ("debug", SLOW, None),
    ("config", SLOW, None),
    ("publish", 0, None),
    ("config|get", SLOW, Some(7)),
    ("config|set", SLOW, Some(7)),
    ("config|help", 0, Some(7)),
];

fn catalog() -> Catalog {
    let commands =
        COMMANDS.map(|(name, categories, container)| Command { name, categories, container, absent: false });
    Catalog::new(
        commands,
        [(READ, "read"), (WRITE, "write"), (HASH, "hash"), (SLOW, "slow"), (EMPTY, "empty")],
    )
}

fn set(acl: &mut Acl, name: &str, rules: &str) -> Result<(), SetError> {
    let rules = rules.split_ascii_whitespace().map(str::as_bytes);
    acl.set_user(name.as_bytes(), rules, false).map(|_| ())
}

/// Users of a server, with one called `u` that has these rules.
fn with_user(rules: &str) -> (Acl, UserId) {
    let mut acl = Acl::new(catalog());
    set(&mut acl, "u", rules).unwrap_or_else(|error| panic!("{rules}: {error:?}"));
    let id = acl.find(b"u").expect("just made");
    acl[id].own().check_invariants(acl.catalog());
    (acl, id)
}

fn described(rules: &str) -> String {
    let (acl, id) = with_user(rules);
    String::from_utf8(acl[id].describe()).expect("the test uses ASCII")
}

#[test]
fn rules_are_described() {
    let new = "off sanitize-payload resetchannels -@all";
    for (rules, description) in [
        ("", new),
        ("on nopass", "on nopass sanitize-payload resetchannels -@all"),
        (
            "ON >a >a",
            "on sanitize-payload #ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb resetchannels -@all",
        ),
        ("nopass >a <a", new),
        (">a nopass", "off nopass sanitize-payload resetchannels -@all"),
        ("nopass resetpass skip-sanitize-payload", "off skip-sanitize-payload resetchannels -@all"),
        ("on nopass ~* &* +@all skip-sanitize-payload (+get) reset", new),
        ("allkeys allchannels allcommands", "off sanitize-payload ~* &* +@all"),
        ("allkeys resetkeys ~a ~b ~a", "off sanitize-payload ~a ~b resetchannels -@all"),
        ("%R~a %W~a %R~b %W~c %rW~d ~b", "off sanitize-payload ~a ~b %W~c ~d resetchannels -@all"),
        ("%RW~*", "off sanitize-payload ~* resetchannels -@all"),
        ("%R~* ~x %W~*", "off sanitize-payload %RW~* ~x resetchannels -@all"),
        ("~ %R", "off sanitize-payload ~ resetchannels -@all"),
        ("allchannels resetchannels &a &b &a", "off sanitize-payload resetchannels &a &b -@all"),
        ("+GET +get +gEt", "off sanitize-payload resetchannels -@all +get"),
        ("+get -get", "off sanitize-payload resetchannels -@all -get"),
        ("+@all -@hash -@slow +hget", "off sanitize-payload resetchannels +@all -@hash -@slow +hget"),
        ("+@all -@hash -@slow +hget -@hash", "off sanitize-payload resetchannels +@all -@slow +hget -@hash"),
        ("+@all -@hash -@all", new),
        ("-@hash +@HASH", "off sanitize-payload resetchannels -@all +@hash"),
        ("-@empty", "off sanitize-payload resetchannels -@all -@empty"),
        ("+config|get +config|set +config", "off sanitize-payload resetchannels -@all +config"),
        (
            "+config +config|get -config|SET",
            "off sanitize-payload resetchannels -@all +config +config|get -config|set",
        ),
        (
            "+select|0 +select|0 +debug|object +debug",
            "off sanitize-payload resetchannels -@all +select|0 +debug",
        ),
        ("+select|a +select|b +select|A", "off sanitize-payload resetchannels -@all +select|b +select|a"),
        (
            "(+get ~a) ( %R~b +@all ) ()",
            "off sanitize-payload resetchannels -@all (~a resetchannels -@all +get) (%R~b resetchannels +@all) (resetchannels -@all)",
        ),
        ("(+get ~a) clearselectors", new),
    ] {
        assert_eq!(described(rules), description, "{rules}");
    }
}

#[test]
fn wrong_rules_change_nothing() {
    use RuleError::*;
    let digest = format!("#{}A", "0".repeat(63));
    for (rules, wrong, error) in [
        ("on foo", "foo", Syntax),
        ("@read", "@read", Syntax),
        (")", ")", Syntax),
        ("~* ~a", "~a", PatternAfterAll),
        ("~* %R~a", "%R~a", PatternAfterAll),
        ("~* %", "%", PatternAfterAll),
        ("&* &a", "&a", ChannelAfterAll),
        ("%", "%", Syntax),
        ("%~a", "%~a", Syntax),
        ("%X~a", "%X~a", Syntax),
        ("%RR~a", "%RR~a", Syntax),
        ("%Rx", "%Rx", Syntax),
        ("+nosuch", "+nosuch", UnknownCommand),
        ("+@nosuch", "+@nosuch", UnknownCommand),
        ("-@", "-@", UnknownCommand),
        ("+", "+", UnknownCommand),
        ("+|x", "+|x", UnknownCommand),
        ("+get|", "+get|", Syntax),
        ("+get|a|b", "+get|a|b", UnknownCommand),
        ("-get|a", "-get|a", UnknownCommand),
        ("+config|", "+config|", Syntax),
        ("+config|nosuch", "+config|nosuch", UnknownCommand),
        ("-config|nosuch", "-config|nosuch", UnknownCommand),
        ("+config|get|x", "+config|get|x", FirstArgOfSubcommand),
        ("<pw", "<pw", NoSuchPassword),
        ("#abc", "#abc", BadDigest),
        ("!abc", "!abc", BadDigest),
        (&digest, &digest, BadDigest),
        ("(+get foo)", "(+get foo)", Syntax),
        ("(on)", "(on)", Syntax),
        ("(>pw)", "(>pw)", Syntax),
        ("(+get (~a))", "(+get (~a))", Syntax),
        ("(~* ~a)", "(~* ~a)", PatternAfterAll),
    ] {
        let (mut acl, id) = with_user("on >x ~k +get");
        let before = acl[id].clone();
        let expected = SetError::Rule(wrong.into(), error);
        assert_eq!(set(&mut acl, "u", &format!("off {rules} on")), Err(expected.clone()), "{rules}");
        assert_eq!(acl[id], before, "{rules}");
        assert_eq!(set(&mut acl, "new", rules), Err(expected));
        assert_eq!(acl.users().len(), 2);
    }
    let mut acl = Acl::new(catalog());
    assert_eq!(set(&mut acl, "u", "on (+get (+set"), Err(SetError::Unmatched(b"(+get".into())));
    assert_eq!(set(&mut acl, "a b", ""), Err(SetError::Name));
    assert_eq!(set(&mut acl, "a\0b", ""), Err(SetError::Name));
    let blank: [&[u8]; 5] = [b"~a b", b"&a\tb", b"%R~\0", b"+select|a b", b" "];
    for rule in blank {
        let wrong = SetError::Rule(rule.into(), Syntax);
        assert_eq!(acl.set_user(b"u", [rule], false).err(), Some(wrong));
    }
    assert_eq!(acl.users().len(), 1);
}

/// Calls `f` with the arguments of a request.
fn with_args<T>(words: &[&str], f: impl FnOnce(Args<'_>) -> T) -> T {
    let (mut bytes, mut spans) = (Vec::new(), Vec::new());
    write_request(&mut bytes, words.iter().map(|word| word.as_bytes()));
    let limits = request::Limits::default();
    let frame = Decoder::default().next(&mut bytes, &mut 0, &mut spans, &limits);
    let frame = frame.expect("well formed").expect("complete");
    f(Args::new(frame.head(&bytes), frame.spans(&spans), &[]))
}

/// Checks requests like `get r:k` or `publish c:news`. The form of each argument says what it is.
fn verdict(acl: &Acl, user: UserId, request: &str) -> String {
    let (mut keys, mut channels) = (Vec::new(), Vec::new());
    let mut parts: Vec<&str> = request.split(' ').collect();
    for (at, part) in parts.iter_mut().enumerate() {
        if let Some((kind, word)) = part.split_once(':') {
            match kind {
                "c" => channels.push((at, Channel::Literal)),
                "p" => channels.push((at, Channel::Pattern)),
                _ => {
                    let read = if kind.contains('r') { Access::READ } else { Access::NONE };
                    let write = if kind.contains('w') { Access::WRITE } else { Access::NONE };
                    keys.push((at, read.with(write)));
                }
            }
            *part = word;
        }
    }
    let command = acl.catalog().find(parts[0].as_bytes()).expect(parts[0]);
    let (keys, channels) = (&keys, &channels);
    let result = with_args(&parts, |args| {
        acl[user].check(&Request {
            command,
            needs_no_permission: false,
            args,
            keys,
            keys_are_known: true,
            channels,
            databases: &[],
        })
    });
    match result {
        Ok(()) => "ok".into(),
        Err(Denied::Database(at)) => format!("database {}", parts[at]),
        Err(Denied::Command) => "command".into(),
        Err(Denied::Key(at)) => format!("key {}", parts[at]),
        Err(Denied::Channel(at)) => format!("channel {}", parts[at]),
    }
}

#[test]
fn requests_are_judged() {
    for (rules, requests) in [
        ("", &[("get r:k", "command"), ("select 0", "command")][..]),
        ("+@all", &[("get r:k", "key k"), ("select 0", "ok"), ("publish c:x", "channel x")]),
        ("+@all ~* &*", &[("get r:k", "ok"), ("publish c:x", "ok"), ("config|set x", "ok")]),
        ("+@all -config|set ~*", &[("config|set x", "command"), ("config|get x", "ok"), ("config x", "ok")]),
        ("+config -config|set", &[("config|set x", "command"), ("config|help", "ok")]),
        ("+config|get", &[("config|get x", "ok"), ("config|set x", "command"), ("config x", "command")]),
        ("+@slow -config", &[("debug x", "ok"), ("config|get", "command")]),
        (
            "+select|0 +select|Abc",
            &[("select 0", "ok"), ("select aBC", "ok"), ("select 1", "command"), ("select", "command")],
        ),
        ("+select|0 -select", &[("select 0", "command")]),
        ("+select|0 +select", &[("select 1", "ok")]),
        (
            "+@all %R~r* %W~w* ~a?c",
            &[
                ("get r:r1", "ok"),
                ("get r:w1", "key w1"),
                ("set w:w1", "ok"),
                ("set rw:w1", "key w1"),
                ("set rw:abc", "ok"),
                ("get :r1", "ok"),
                ("get :w1", "ok"),
                ("get :x", "key x"),
                ("get r:r1 r:w2 r:x", "key w2"),
            ],
        ),
        (
            "+@all &news.* &a*b",
            &[
                ("publish c:news.uk", "ok"),
                ("publish p:news.uk", "channel news.uk"),
                ("publish p:news.*", "ok"),
                ("publish p:a*b", "ok"),
                ("publish c:axb c:axc", "channel axc"),
            ],
        ),
        (
            "+get ~own (+set %W~w*) (+@read ~r* &c)",
            &[
                ("get r:own", "ok"),
                ("set w:own", "key own"),
                ("set w:w1", "ok"),
                ("set rw:w1", "key w1"),
                ("hget r:rx", "ok"),
                ("hget r:w", "key w"),
                ("hset w:w1", "command"),
                // The error is that of the selector that gets furthest.
                ("get r:own r:r1 r:x", "key r1"),
                ("get r:r1 r:r2 r:x", "key x"),
                ("get r:r1 c:d", "channel d"),
                ("publish c:c", "command"),
            ],
        ),
    ] {
        let (acl, id) = with_user(rules);
        for (request, expected) in requests {
            assert_eq!(verdict(&acl, id, request), *expected, "{rules} / {request}");
        }
    }
}

#[test]
fn unrestricted_users_are_known() {
    for (rules, unrestricted) in [
        ("+@all ~* &*", true),
        ("+@read +@write +@slow +select +publish +config ~* &*", true),
        ("+@all -get ~* &*", false),
        ("+@all -get +get ~* &*", true),
        ("+@all %RW~* &*", false),
        ("+@all ~*", false),
        ("(+@all ~* &*)", true),
        ("+@all (~* &*)", false),
    ] {
        let (acl, id) = with_user(rules);
        assert_eq!(acl[id].is_unrestricted(), unrestricted, "{rules}");
    }
    assert!(Acl::new(catalog())[UserId::DEFAULT].is_unrestricted());
}

#[test]
fn every_key_may_be_asked_for() {
    let ask = |rules: &str| {
        let (acl, id) = with_user(rules);
        with_args(&["get", "k"], |args| {
            let keys = &[(1, Access::READ)];
            let request = Request {
                command: 0,
                needs_no_permission: false,
                args,
                keys,
                keys_are_known: true,
                channels: &[],
                databases: &[],
            };
            acl[id].check_with_every_key(&request, Access::READ)
        })
    };
    assert!(ask("+get ~*") && ask("+get %R~*") && ask("(+get %RW~*)"));
    assert!(!ask("+get ~k") && !ask("+get ~k ~x*") && !ask("+get ~k %W~*") && !ask("~* (+get ~k)"));
}

#[test]
fn passwords_let_in() {
    let mut acl = Acl::new(catalog());
    set(&mut acl, "u", ">one >two").expect("right");
    assert_eq!(acl.authenticate(b"u", b"one"), None, "disabled");
    set(&mut acl, "u", "on").expect("right");
    let id = acl.find(b"u");
    assert_eq!([b"one", b"two", b"six"].map(|password| acl.authenticate(b"u", password)), [id, id, None]);
    assert_eq!(acl.authenticate(b"nobody", b"one"), None);
    set(&mut acl, "u", "<one").expect("right");
    assert_eq!([b"one", b"two"].map(|password| acl.authenticate(b"u", password)), [None, id]);
    set(&mut acl, "u", "!3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3")
        .expect("that of two");
    assert_eq!(acl.authenticate(b"u", b"two"), None);
    set(&mut acl, "u", "nopass").expect("right");
    assert_eq!(acl.authenticate(b"u", b"anything"), id);
    assert!(acl.is_open());
    acl.set_default_password(b"\0pw");
    assert!(!acl.is_open());
    assert_eq!(acl.authenticate(DEFAULT_NAME, b""), None);
    assert_eq!(acl.authenticate(DEFAULT_NAME, b"\0pw"), Some(UserId::DEFAULT));
    acl.set_default_password(b"");
    assert!(acl.is_open() && acl[UserId::DEFAULT].is_unrestricted());
}

#[test]
fn users_come_and_go() {
    let mut acl = Acl::new(catalog());
    for name in ["b", "a", "c"] {
        set(&mut acl, name, "").expect("right");
    }
    let names = |acl: &Acl| -> Vec<String> {
        acl.users().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect()
    };
    assert_eq!(names(&acl), ["a", "b", "c", "default"]);
    assert_eq!(acl.name(acl.find(b"b").expect("there")), b"b");
    assert!(acl.delete(b"b").is_some() && acl.delete(b"b").is_none() && acl.delete(DEFAULT_NAME).is_none());
    assert_eq!(names(&acl), ["a", "c", "default"]);
    let new = file::parse(&acl, b"user z on\n", "f", false, Lines::Log).expect("right");
    acl.replace(new);
    assert_eq!(names(&acl), ["default", "z"]);
    assert!(acl.is_open() && acl[UserId::DEFAULT].is_unrestricted());
    let new = file::parse(&acl, b"user default on >x +get\nuser a", "f", false, Lines::Log).expect("right");
    acl.replace(new);
    assert_eq!(names(&acl), ["a", "default"]);
    assert!(!acl.is_open() && acl.find(DEFAULT_NAME) == Some(UserId::DEFAULT));
}

#[test]
fn files_are_read_whole_or_not() {
    let acl = Acl::new(catalog());
    let parse = |text: &str| {
        file::parse(&acl, text.as_bytes(), "f", false, Lines::Log)
            .map(|users| {
                let line = |(name, user): (Box<[u8]>, User)| [&*name, b" ", &user.describe()].concat();
                users.into_iter().map(line).collect::<Vec<_>>().join(&b'\n')
            })
            .map(|text| String::from_utf8(text).expect("ASCII"))
            .map_err(|text| {
                let text = String::from_utf8(text).expect("ASCII");
                let (complaints, end) = text.split_once("WARNING: ACL errors").expect("it always ends so");
                assert_eq!(end, " detected, no change to the previously active ACL rules was performed");
                complaints.to_string()
            })
    };
    for (text, expected) in [
        ("", Ok("")),
        (
            "\n  user a  on   +get\r\n\nuser b (~x +set ) ( +del-not",
            Err("f:4: Unmatched parenthesis in selector definition. "),
        ),
        (
            "user a  on   +get\r\n\n \t\nuser b (~x +set ) ( +get )",
            Ok("a on sanitize-payload resetchannels -@all +get\n\
                b off sanitize-payload resetchannels -@all (~x resetchannels -@all +set) \
                (resetchannels -@all +get)"),
        ),
        ("# no comments", Err("f:1 should start with user keyword followed by the username. ")),
        (
            "user\nuser\tb\nUSER c",
            Err("f:1 should start with user keyword followed by the username. \
                 f:2 should start with user keyword followed by the username. \
                 f:3 should start with user keyword followed by the username. "),
        ),
        ("user a\tb on", Err("'f:1: username 'a\tb' contains invalid characters. ")),
        ("user a\nuser b\nuser a on", Err("WARNING: Duplicate user 'a' found on line 3. ")),
        (
            "user a +foo bar baz +fob\nuser b <x",
            Err("f:1: Error in applying operation '+foo': Unknown command or category name in ACL. \
                 f:1: Syntax error. \
                 f:1: Error in applying operation '+fob': Unknown command or category name in ACL. \
                 f:2: The password you are trying to remove from the user does not exist. "),
        ),
    ] {
        assert_eq!(parse(text), expected.map(String::from).map_err(String::from), "{text}");
    }
}

#[test]
fn files_are_replaced() {
    let directory = std::env::temp_dir().join(format!("spinel-acl-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("the temporary directory is writable");
    let path = directory.join("users.acl");
    let (acl, _) = with_user("on >pw %R~a ~b) &c -@all +@read +select|0 (+set ~x) (+@all ~* &*)");
    for _ in 0..2 {
        file::save(&acl, &path).expect("the directory is writable");
        let text = std::fs::read(&path).expect("just written");
        assert_eq!(text.iter().filter(|&&byte| byte == b'\n').count(), 2);
        let mut again = Acl::new(catalog());
        let users = file::parse(&again, &text, "f", true, Lines::Log).expect("what is written can be read");
        again.replace(users);
        assert_eq!(file::text(&again), text);
    }
    assert_eq!(std::fs::read_dir(&directory).expect("there").count(), 1, "no temporary file is left");
    assert!(file::save(&acl, &directory.join("no/such")).is_err());
    std::fs::remove_dir_all(&directory).expect("the directory is ours");
}

/// Random rules never panic; a user's description creates the same user; bits and rules agree.
#[test]
fn descriptions_read_back() {
    let seed = 0x5eed_ac15;
    let mut rng = Rng::new(seed);
    const PIECES: [&str; 62] = [
        "on",
        "off",
        "nopass",
        "resetpass",
        "reset",
        "allkeys",
        "resetkeys",
        "allchannels",
        "resetchannels",
        "+@all",
        "-@all",
        "+@read",
        "-@read",
        "+@hash",
        "-@hash",
        "+@slow",
        "-@slow",
        "+@write",
        "+get",
        "-get",
        "+set",
        "-set",
        "+hget",
        "-hget",
        "+config",
        "-config",
        "+config|get",
        "-config|get",
        "+config|set",
        "-config|help",
        "+select",
        "-select",
        "+select|0",
        "+select|1",
        "+debug|a",
        "-debug",
        "+get|x",
        "~*",
        "~a*",
        "%R~a*",
        "%W~a*",
        "%RW~*",
        "%R~*",
        "%W~*",
        "~x)",
        "~(y",
        "~\"",
        "~'q'",
        "&*",
        "&ch",
        "&x)",
        "&\"q\"",
        "(",
        ")",
        "(+get",
        "(~x",
        "clearselectors",
        ">pw",
        "<pw",
        "skip-sanitize-payload",
        "sanitize-payload",
        "\u{e9}\\",
    ];
    for round in 0..6000 {
        let mut acl = Acl::new(catalog());
        let every_channel = rng.one_in(3);
        for _ in 0..rng.below(4) {
            let rules: Vec<Vec<u8>> = (0..rng.below(12))
                .map(|_| {
                    let mut rule = rng.choose(&PIECES).expect("not empty").as_bytes().to_vec();
                    while rng.one_in(8) {
                        let at = rng.index(rule.len() + 1);
                        match rng.below(4) {
                            0 => rule.truncate(at),
                            1 => rule.insert(at, rng.next_u32() as u8),
                            2 => rule.extend_from_slice(rng.choose(&PIECES).expect("not empty").as_bytes()),
                            _ => rule.insert(at, *rng.choose(b"()|@~%&+- \"'\\\n\0").expect("not empty")),
                        }
                    }
                    rule
                })
                .collect();
            // One wrong rule rejects all of them, so these rules are applied one by one.
            for rule in &rules {
                let _ = acl.set_user(b"u", [&**rule], every_channel);
            }
            let _ = acl.set_user(b"u", rules.iter().map(Vec::as_slice), every_channel);
        }
        let Some(id) = acl.find(b"u") else { continue };
        let text = acl[id].describe();
        let shown = quote::repr(&text);
        let whole =
            join_selectors(words(&text)).unwrap_or_else(|_| panic!("seed {seed:#x} {round}: {shown}"));
        let mut again = User::new(acl.catalog(), true);
        for rule in whole {
            again.apply(&rule, acl.catalog(), true).unwrap_or_else(|error| {
                panic!("seed {seed:#x} {round}: {} in {shown}: {error}", quote::repr(&rule))
            });
        }
        assert_eq!(quote::repr(&again.describe()), shown, "seed {seed:#x} round {round}");
        assert!(again.is_unrestricted() || !acl[id].is_unrestricted(), "seed {seed:#x} round {round}");
        for selector in std::iter::once(acl[id].own()).chain(acl[id].more()) {
            selector.check_invariants(acl.catalog());
        }
    }
}

/// Arbitrary texts are parsed or refused, without a panic.
#[test]
fn damaged_files_do_not_panic() {
    let mut rng = Rng::new(7);
    let acl = Acl::new(catalog());
    let text = b"user a on >pw (+get ~x) +@all\nuser b %R~a &c ( +set\t)\r\nuser default nopass\n";
    for _ in 0..5000 {
        let mut text = text.to_vec();
        for _ in 0..=rng.below(4) {
            let at = rng.index(text.len());
            if rng.one_in(2) { text[at] = rng.next_u32() as u8 } else { text.truncate(at + 1) }
        }
        let _ = file::parse(&acl, &text, "f", rng.one_in(2), Lines::Log);
    }
}

#[test]
fn databases_are_numbers_between_commas() {
    let shown = |rules: &str| described(rules).replace("off sanitize-payload resetchannels ", "");
    for (rules, shows) in [
        ("db=1,3", "db=1,3 -@all"),
        ("DB=7,5,6,5", "db=5,6,7 -@all"),
        ("db=01,+2,-0", "db=0,1,2 -@all"),
        ("db=1 db=2", "db=2 -@all"),
        ("db=2147483647", "db=2147483647 -@all"),
        ("db=1 AllDBs", "-@all"),
        ("db=1 ResetDBs", "resetdbs -@all"),
        ("resetdbs db=1", "db=1 -@all"),
        ("db=1 reset", "-@all"),
        ("(db=1 ~k +get) db=2", "db=2 -@all (~k resetchannels db=1 -@all +get)"),
    ] {
        assert_eq!(shown(rules), shows, "{rules}");
    }
    let mut acl = Acl::new(catalog());
    for (rule, error) in [
        ("db=", RuleError::Syntax),
        ("db", RuleError::Syntax),
        ("db=a", RuleError::Syntax),
        ("db=1,", RuleError::Syntax),
        ("db=,1", RuleError::Syntax),
        ("db=1-3", RuleError::Syntax),
        ("db=*", RuleError::Syntax),
        ("db=-", RuleError::Syntax),
        ("db=-1", RuleError::DatabaseRange),
        ("db=2147483648", RuleError::DatabaseRange),
        ("db=99999999999999999999", RuleError::DatabaseRange),
    ] {
        assert_eq!(set(&mut acl, "u", rule), Err(SetError::Rule(rule.into(), error)));
    }
}

#[test]
fn one_selector_must_allow_every_database_of_a_request() {
    let ask = |rules: &str, numbers: &[u32]| {
        let (acl, id) = with_user(rules);
        let used: Vec<UsedDatabase> =
            numbers.iter().zip(1..).map(|(&number, named_by)| UsedDatabase { number, named_by }).collect();
        with_args(&["get", "k"], |args| {
            acl[id].check(&Request {
                command: 0,
                needs_no_permission: false,
                args,
                keys: &[(1, Access::READ)],
                keys_are_known: true,
                channels: &[],
                databases: &used,
            })
        })
    };
    assert_eq!(ask("+@all ~* db=1,3", &[1, 3]), Ok(()));
    assert_eq!(ask("+@all ~* db=1,3", &[]), Ok(()));
    assert_eq!(ask("+@all ~* db=1,3", &[1, 2]), Err(Denied::Database(2)));
    assert_eq!(ask("+@all ~* (+@all ~* db=1)", &[5]), Ok(()));
    assert_eq!(ask("resetdbs (+@all ~* db=1) (+@all ~* db=0)", &[0, 1]), Err(Denied::Database(2)));
    // The database is looked at first, but an objection to anything else says more.
    assert_eq!(ask("-@all resetdbs", &[0]), Err(Denied::Database(1)));
    assert_eq!(ask("+@all ~* resetdbs (-@all alldbs)", &[0]), Err(Denied::Command));
    assert_eq!(ask("+@all ~* resetdbs (+@all ~x alldbs)", &[0]), Err(Denied::Key(1)));
    let (acl, id) = with_user("+@all ~* &* db=1");
    assert!(acl[id].limits_databases() && !acl[id].is_unrestricted());
    let (acl, id) = with_user("+@all ~* &* db=1 alldbs");
    assert!(!acl[id].limits_databases() && acl[id].is_unrestricted());
}
