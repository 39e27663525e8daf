//! Packets that Redis 7.0.15 and Valkey 9.1.2 sent to each other, and what becomes of any bytes.

mod captured;

use super::*;
use crate::stdx::rng::Rng;
use captured::captured;

fn id(text: &str) -> NodeId {
    NodeId::parse(text.as_bytes()).expect("a name")
}

const REDIS: &str = "9e6e85dac4707fba38696105d46b3fc77813cd54";
const VALKEY: &str = "3a259c52bc8420aa325a28eb2076df9fc8972eaa";
const OTHER: &str = "9969c50804ec821fb51b104ebed98bc35bdd92f6";

/// Writes a packet anew from what was read.
fn again(bytes: &[u8]) -> Vec<u8> {
    let packet = read(bytes).expect("a packet");
    let Some(header) = packet.header else {
        let Body::Message { channel, payload } = packet.body else { panic!("only messages are light") };
        return write_light_message(packet.kind == Kind::PublishShard, channel, payload);
    };
    match packet.body {
        Body::Heartbeat(beat) => {
            let gossip: Vec<_> = beat.gossip().collect();
            let extensions: Vec<_> = beat.extensions().collect();
            write_heartbeat(packet.kind, &header, gossip.into_iter(), &extensions)
        }
        Body::Fail(id) => write_fail(&header, id),
        Body::Message { channel, payload } => {
            write_message(&header, packet.kind == Kind::PublishShard, channel, payload)
        }
        Body::Update { config_epoch, id, slots } => write_update(&header, id, config_epoch, slots),
        Body::Module(_) => panic!("none was captured"),
        Body::Empty => write_empty(packet.kind, &header),
    }
}

#[test]
fn packets_of_others_are_read_and_written_to_the_byte() {
    for bytes in captured() {
        assert_eq!(frame(&bytes), Ok(Some(bytes.len())));
        assert!(again(&bytes) == bytes, "{:?}", read(&bytes).expect("a packet").kind);
    }
}

#[test]
fn what_packets_say_is_understood() {
    let all = captured();
    let of = |kind: Kind| {
        let found =
            all.iter().map(|bytes| read(bytes).expect("a packet")).filter(move |packet| packet.kind == kind);
        found.collect::<Vec<_>>()
    };
    let meet = of(Kind::Meet)[0];
    let header = meet.header.expect("a header");
    assert_eq!((header.sender, header.port, header.bus_port), (id(REDIS), 33101, 33121));
    assert_eq!((header.ip, header.ok, header.primary), ("127.0.0.1", false, None));
    assert!(header.flags == Flags::PRIMARY | Flags::MYSELF && header.marks == Marks::EXTENSIONS);
    let Body::Heartbeat(beat) = meet.body else { panic!("a MEET is a heartbeat") };
    assert_eq!(beat.extensions().collect::<Vec<_>>(), [Extension::Hostname("host-33101.example")]);

    let ping = of(Kind::Ping)[0];
    let Body::Heartbeat(beat) = ping.body else { panic!("a ping is a heartbeat") };
    let known: Vec<_> = beat.extensions().collect();
    assert_eq!(known[0], Extension::Hostname("host-33104.example"));
    assert_eq!(known[1], Extension::HumanName("name33104"));
    assert_eq!(known[2], Extension::Forgotten { id: id(OTHER), ttl_s: 60 });
    assert_eq!(known[3], Extension::Shard(id("b4c422e4b622f681a238cea725fefddc90ab310e")));
    let gossip: Vec<_> = beat.gossip().collect();
    let about = gossip[0];
    assert_eq!((gossip.len(), about.id), (1, id("8c19585a611c5c431292713dead2a35753d1ec60")));
    assert_eq!((about.ip, about.port, about.bus_port, about.second_port), ("127.0.0.1", 33102, 33122, 0));
    assert_eq!((about.ping_sent, about.pong_received), (1_796_048_932, 1_796_048_931));
    assert!(about.flags == Flags::PRIMARY | Flags::EXTENSIONS);
    let slots = super::super::slots::SlotSet::from_bitmap(ping.header.expect("a header").slots);
    assert_eq!(slots.len(), 6383);

    assert_eq!(of(Kind::Fail)[0].body, Body::Fail(id(OTHER)));
    let messages = of(Kind::Publish);
    let expected = Body::Message { channel: b"chan", payload: b"hello" };
    assert!(messages.len() == 2 && messages.iter().all(|message| message.body == expected));
    assert!(messages.iter().any(|message| message.header.is_none()));
    assert_eq!(of(Kind::PublishShard)[0].body, Body::Message { channel: b"xx", payload: b"hello" });
    let request = of(Kind::AuthRequest)[0].header.expect("a header");
    assert_eq!((request.marks, request.primary), (Marks::FORCE_ACK, Some(id(OTHER))));
    assert_eq!((request.current_epoch, request.config_epoch), (4, 2));
    assert_eq!((of(Kind::AuthAck).len(), of(Kind::MfStart).len()), (1, 1));
    let Body::Update { config_epoch, id: owner, .. } = of(Kind::Update)[0].body else { panic!("an update") };
    assert_eq!((config_epoch, owner), (4, id(VALKEY)));
}

#[test]
fn bytes_are_a_packet_only_as_a_whole() {
    for bytes in captured() {
        for end in 0..bytes.len().min(FRAME_LEN) {
            assert_eq!(frame(&bytes[..end]), Ok(None));
        }
        let mut longer = bytes.clone();
        longer.extend_from_slice(&[0; 8]);
        assert!(read(&longer).is_err());
        let len = (longer.len() as u32).to_be_bytes();
        longer[4..8].copy_from_slice(&len);
        assert!(matches!(read(&longer), Err(Refused::Length { .. })));
        let mut version = bytes.clone();
        version[9] = 2;
        assert_eq!(read(&version), Err(Refused::Version(2)));
        let mut kind = bytes.clone();
        kind[13] = 11;
        assert!(matches!(read(&kind), Err(Refused::Kind(_))));
    }
    assert_eq!(frame(b"*1\r\n$4\r\nPING\r\n"), Err(Refused::Foreign));
    assert_eq!(frame(b"RCmb\0\0\0\x05\0\x01\0\0\0\0"), Err(Refused::Foreign));
}

#[test]
fn unknown_extensions_are_skipped() {
    let bytes =
        captured().into_iter().find(|bytes| matches!(read(bytes), Ok(Packet { kind: Kind::Ping, .. })));
    let mut bytes = bytes.expect("a ping");
    let before = read(&bytes).expect("a packet").body;
    let Body::Heartbeat(before) = before else { panic!("a heartbeat") };
    let before: Vec<_> = before.extensions().map(|known| format!("{known:?}")).collect();
    for extension in [&[0, 0, 0, 16, 0, 9, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8][..], &[0, 0, 0, 8, 0, 0, 0, 0]] {
        bytes.extend_from_slice(extension);
        let (len, count) = (bytes.len() as u32, u16_at(&bytes, 2214) + 1);
        bytes[4..8].copy_from_slice(&len.to_be_bytes());
        bytes[2214..2216].copy_from_slice(&count.to_be_bytes());
        let Body::Heartbeat(beat) = read(&bytes).expect("a packet").body else { panic!("a heartbeat") };
        assert_eq!(beat.extensions().map(|known| format!("{known:?}")).collect::<Vec<_>>(), before);
    }
}

#[test]
fn no_bytes_do_harm() {
    let seed = Rng::from_os().next_u64();
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let all = captured();
    for _ in 0..20_000 {
        let mut bytes = rng.choose(&all).expect("there are some").clone();
        for _ in 0..rng.index(6) {
            // Where lengths and counts stand, more often than elsewhere.
            let places = [4, 5, 6, 7, 12, 13, 14, 15, 2214, 2215, HEADER_LEN, HEADER_LEN + 3, HEADER_LEN + 7];
            let at = match rng.index(3) {
                0 => places[rng.index(places.len())],
                1 => HEADER_LEN + rng.index(600),
                _ => rng.index(bytes.len()),
            };
            if let Some(byte) = bytes.get_mut(at) {
                *byte = if rng.one_in(2) { rng.next_u32() as u8 } else { byte.wrapping_add(1) };
            }
        }
        if rng.one_in(4) {
            bytes.truncate(rng.index(bytes.len() + 1));
        }
        if rng.one_in(2) && bytes.len() >= 8 {
            let len = (bytes.len() as u32).to_be_bytes();
            bytes[4..8].copy_from_slice(&len);
        }
        let _ = frame(&bytes);
        if let Ok(packet) = read(&bytes)
            && let Body::Heartbeat(beat) = packet.body
        {
            assert!(beat.gossip().count() * GOSSIP_LEN <= bytes.len());
            assert!(beat.extensions().count() * 8 <= bytes.len());
        }
    }
}
