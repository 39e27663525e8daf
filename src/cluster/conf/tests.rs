//! Files as Redis 7.0.15 and Valkey 9.1.2 have written them, and damaged ones.

use super::*;
use crate::stdx::clock::UnixMillis;

const REDIS_7_0: &str = "\
9969c50804ec821fb51b104ebed98bc35bdd92f6 127.0.0.1:33103@33123,host-33103.example slave 3a259c52bc8420aa325a28eb2076df9fc8972eaa 0 1796048922815 4 connected
3a259c52bc8420aa325a28eb2076df9fc8972eaa 127.0.0.1:33104@33124,host-33104.example master - 0 1796048922008 4 connected 10001-16383
8c19585a611c5c431292713dead2a35753d1ec60 127.0.0.1:33102@33122,host-33102.example master - 0 1796048922815 1 connected 5001-10000
9e6e85dac4707fba38696105d46b3fc77813cd54 127.0.0.1:33101@33121,host-33101.example myself,master - 0 1796048921000 0 connected 0-5000 [7->-8c19585a611c5c431292713dead2a35753d1ec60] [9000-<-8c19585a611c5c431292713dead2a35753d1ec60]
vars currentEpoch 4 lastVoteEpoch 4
";

const VALKEY_9: &str = "\
3a259c52bc8420aa325a28eb2076df9fc8972eaa 127.0.0.1:33104@33124,host-33104.example,tls-port=0,nodename=name33104,shard-id=b4c422e4b622f681a238cea725fefddc90ab310e master - 0 1796048922969 4 connected 10001-16383
9969c50804ec821fb51b104ebed98bc35bdd92f6 127.0.0.1:33103@33123,host-33103.example,tls-port=0,nodename=name33103,shard-id=b4c422e4b622f681a238cea725fefddc90ab310e myself,slave 3a259c52bc8420aa325a28eb2076df9fc8972eaa 0 0 4 connected
8c19585a611c5c431292713dead2a35753d1ec60 127.0.0.1:33102@33122,,tls-port=0,shard-id=ef42484328361634d8f54e3901a732a3756681d9 master,fail - 1 1796048922061 1 connected 5001-10000 12
vars currentEpoch 4 lastVoteEpoch 0
";

const NOW: Now = Now { at: Moment(50_000), wall: UnixMillis(1_796_048_950_000) };

fn load(text: &str) -> Result<(Nodes, Vec<String>), Corrupt> {
    let loaded = read(text.as_bytes(), NOW.at, false, &mut Rng::new(1));
    if let Ok((nodes, _)) = &loaded {
        nodes.check();
    }
    loaded
}

fn id(text: &str) -> NodeId {
    NodeId::parse(text.as_bytes()).expect("a name")
}

fn slot(number: usize) -> Slot {
    Slot::new(number).expect("a slot")
}

#[test]
fn a_file_of_redis_7_0_is_read() {
    let (nodes, warnings) = load(REDIS_7_0).expect("a whole file");
    assert!(warnings.is_empty());
    assert_eq!(
        (nodes.len(), nodes.assigned(), nodes.current_epoch, nodes.last_vote_epoch),
        (4, 16_384, 4, 4)
    );
    let me = nodes.myself();
    assert_eq!(
        (me.port, me.bus_port, &*me.ip, &*me.hostname),
        (33101, 33121, "127.0.0.1", "host-33101.example")
    );
    let other = nodes.find(&id("8c19585a611c5c431292713dead2a35753d1ec60"));
    assert_eq!((nodes.migrating_to(slot(7)), nodes.importing_from(slot(9000))), (other, other));
    assert_eq!(nodes.owner(slot(9000)), other);
    let replica = nodes.find(&id("9969c50804ec821fb51b104ebed98bc35bdd92f6")).expect("a node");
    let primary = nodes.find(&id("3a259c52bc8420aa325a28eb2076df9fc8972eaa")).expect("a node");
    assert_eq!(nodes[replica].primary(), Some(primary));
    assert_eq!(nodes[replica].shard, nodes[primary].shard);
    assert_eq!((nodes.epoch_of(replica), nodes[replica].pong_received), (4, NOW.at));
    let shown = describe(&nodes, primary, &NOW, Reader::Client { tls: false });
    let expected = "3a259c52bc8420aa325a28eb2076df9fc8972eaa 127.0.0.1:33104@33124,host-33104.example master - 0 \
                    1796048950000 4 disconnected 10001-16383";
    assert_eq!(shown, expected);
}

#[test]
fn a_file_of_valkey_9_is_read_and_written_alike() {
    let (nodes, _) = load(VALKEY_9).expect("a whole file");
    let me = nodes.myself();
    assert_eq!((&*me.human_name, me.shard), ("name33103", id("b4c422e4b622f681a238cea725fefddc90ab310e")));
    let failed = nodes.find(&id("8c19585a611c5c431292713dead2a35753d1ec60")).expect("a node");
    assert!(
        nodes[failed].has_failed() && nodes[failed].failed_at == NOW.at && nodes[failed].ping_sent == NOW.at
    );
    assert_eq!((nodes[failed].slots().len(), nodes.owner(slot(12))), (5001, Some(failed)));
    // Times and the state of connections are those of the moment.
    let words = |text: &str| {
        let lines = text.lines().map(|line| {
            let words: Vec<_> = line.split(' ').enumerate().collect();
            words
                .iter()
                .filter(|(at, _)| ![4, 5, 7].contains(at))
                .map(|(_, word)| (*word).to_owned())
                .collect()
        });
        let mut lines: Vec<Vec<String>> = lines.collect();
        lines.sort();
        lines
    };
    let written = write(&nodes, &NOW, false);
    assert_eq!(words(&written), words(&VALKEY_9.replace("5001-10000 12", "12 5001-10000")));
    let (again, _) = load(&written).expect("a whole file");
    assert_eq!(write(&again, &NOW, false), written);
}

#[test]
fn forms_of_addresses() {
    let line = |address: &str| format!("{:a<40} {address} myself,master - 0 0 0 connected\n", "");
    let address = |text: &str| {
        let (nodes, _) = load(&line(text)).expect("a whole file");
        let me = nodes.myself().clone();
        (me.ip.to_string(), me.port, me.bus_port, me.hostname.to_string())
    };
    assert_eq!(address("::1:7000@17000"), ("::1".into(), 7000, 17000, String::new()));
    assert_eq!(address("10.0.0.1:7000"), ("10.0.0.1".into(), 7000, 17000, String::new()));
    assert_eq!(address(":0@0"), (String::new(), 0, 0, String::new()));
    assert_eq!(address(":0@0,host"), (String::new(), 0, 0, "host".into()));
    assert_eq!(
        address("a:1@2,,tls-port=0,availability-zone=x,shard-id=0123456789012345678901234567890123456789").2,
        2
    );
    let text = line("a:1@2,,tls-port=3");
    let (nodes, _) = read(text.as_bytes(), NOW.at, true, &mut Rng::new(1)).expect("a whole file");
    assert_eq!((nodes.myself().port, nodes.myself().tls_port), (0, 3));
    for wrong in
        ["a", "a:b@1", "a:70000@1", "a:1@", "a:60000", "a:1@1,h,nope", "a:1@1,h,shard-id=zz", "a:1@1,,x y"]
    {
        assert!(load(&line(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn damage_is_found() {
    let text = load("garbage\n").expect_err("no line").to_string();
    assert_eq!(text, "Unrecoverable error: corrupted cluster config file \"garbage\".");
    for cut in 1..VALKEY_9.len() {
        if !VALKEY_9.is_char_boundary(cut) {
            continue;
        }
        let torn = &VALKEY_9[..cut];
        // Lines that are missing altogether cannot be told from lines that never were.
        if !torn.ends_with('\n') {
            assert!(load(torn).is_err(), "{torn}");
        }
    }
    for (whole, damaged) in [
        ("10001-16383", "10001-16384"),
        ("10001-16383", "16383-10001"),
        ("10001-16383", "x"),
        ("10001-16383", "[5->-"),
        ("10001-16383", "[5->-nobody]"),
        ("10001-16383", "[5=3a259c52bc8420aa325a28eb2076df9fc8972eaa]"),
        ("myself,slave", "slave"),
        ("myself,slave", "myself,master,slave"),
        ("myself,slave", "myself,bogus"),
        ("master - 0", "myself,master - 0"),
        ("slave 3a259c52bc8420aa325a28eb2076df9fc8972eaa", "slave 3a25"),
        ("lastVoteEpoch 0", "lastVoteEpoch"),
        ("lastVoteEpoch 0", "lastVoteEpoch -1"),
        ("1796048922969 4", "1796048922969 four"),
        ("8c19585a611c5c431292713dead2a35753d1ec60", "3a259c52bc8420aa325a28eb2076df9fc8972eaa"),
    ] {
        let text = VALKEY_9.replace(whole, damaged);
        assert!(text != VALKEY_9 && load(&text).is_err(), "{damaged}");
    }
    let (_, warnings) = load(&VALKEY_9.replace("vars", "vars newThing 7")).expect("a whole file");
    assert_eq!(warnings, ["Skipping unknown cluster config variable 'newThing'"]);
    assert!(load("\n\n").is_err());
}

#[test]
fn shards_of_replicas_and_primaries_agree() {
    // As a version that wrote them separately left them.
    let text = VALKEY_9.replace(
        "33103,host-33103.example,tls-port=0,nodename=name33103,shard-id=b4c4",
        "33103,host,shard-id=0000",
    );
    let (nodes, _) = load(&text).expect("a whole file");
    assert_eq!(nodes.myself().shard, id("b4c422e4b622f681a238cea725fefddc90ab310e"));
    let text = VALKEY_9.replace(",nodename=name33104,shard-id=b4c422e4b622f681a238cea725fefddc90ab310e", "");
    let (nodes, _) = load(&text).expect("a whole file");
    let primary = nodes.myself().primary().expect("a replica");
    assert_eq!(nodes[primary].shard, id("b4c422e4b622f681a238cea725fefddc90ab310e"));
}

#[test]
fn a_replica_of_a_node_without_a_line_waits_for_news_of_it() {
    let text = format!("{:a<40} :0@0 myself,slave {:b<40} 0 0 9 connected\n", "", "");
    let (nodes, _) = load(&text).expect("a whole file");
    let primary = nodes.myself().primary().expect("named in the file");
    assert!(!nodes[primary].is(Flags::ROLE) && nodes.len() == 2);
    assert!(write(&nodes, &NOW, false).contains(" noflags - "));
}

#[test]
fn no_bytes_do_harm() {
    let seed = Rng::from_os().next_u64();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let pieces: [&[u8]; 9] =
        [b" ", b"\n", b"-", b"[1->-", b",", b"99999999999999999999", b"=", b"@", b"\xff\0"];
    for _ in 0..500 {
        let mut text = rng.choose(&[REDIS_7_0, VALKEY_9]).expect("two").as_bytes().to_vec();
        for _ in 0..rng.index(4) {
            let at = rng.index(text.len());
            match rng.index(3) {
                0 => text[at] = rng.next_u32() as u8,
                1 => drop(text.splice(at..at, rng.choose(&pieces).expect("some").iter().copied())),
                _ => drop(text.drain(at..(at + rng.index(30)).min(text.len()))),
            }
        }
        if let Ok((nodes, _)) = read(&text, NOW.at, false, &mut rng) {
            nodes.check();
            assert!(nodes.len() <= 1 + text.len() / ID_AND_MORE);
            write(&nodes, &NOW, false);
        }
    }
}

/// Each node that a file names takes at least as many bytes.
const ID_AND_MORE: usize = super::super::nodes::ID_LEN;
