//! Loading of parts from files: files of Redis 7.0.15 byte for byte, and damaged ones.

use super::*;
use crate::stdx::rng::Rng;

// Payloads of DUMP without version and checksum, written without compression.

const VALUES: &str = "\
    1305100000000000000001000000000000000032320000001400020101010101816602000102010001000180010401030101\
    0101018178020401020102010201dfff020401ff100000000000000007000000000000000635350000001400030100010101\
    8166020001020100010001d000020401020101010101f1ff7f030401020102010201f10080030401ff10000000000000000a\
    00000000000000093b3b00000014000301000101018166020001020100010001f2ffff7f040401020101010101f3ffffff7f\
    050401020102010201f300000080050401ff10000000000000000d000000000000000c404e4e000000140003010001010181\
    66020001020100010001f4ffffffffffffff7f09040102010101010193393232333337323033363835343737353830381404\
    0102010201020183303037040401ff100000000000000010000000000000000f40f5f5000000140003010001010181660200\
    0102010001000183312e35040401020101010101e04061616161616161616161616161616161616161616161616161616161\
    616161616161616161616161616161616161616161616161616161616161616161616161420401020102010201e07f626262\
    6262626262626262626262626262626262626262626262626262626262626262626262626262626262626262626262626262\
    6262626262626262626262626262626262626262626262626262626262626262626262626262626262626262626262626262\
    62626262626262626262626262626262626262626262626201810401ff0e1211010006051200";

const FIELDS: &str = "\
    1301100000000000000005000000000000000940606000000028000301020102018161028162020001020100010001010102\
    01050102010001010103010401050101010101dff702020181620204018161020301080101010101dff80201018161020501\
    06010201dffa02dffa02060107010501ff0381ffffffffffffffff0305090601050205656d70747981ffffffffffffffff03\
    81ffffffffffffffff00000167050a81ffffffffffffffff0200000000000000050000000000000009eb0b592aa201000001\
    0000000000000005000000000000000aeb0b592aa2010000070205616c696365eb0b592aa201000001000000000000000500\
    0000000000000903626f62eb0b592aa2010000010000000000000005000000000000000a";

const COUNTS: &str = "\
    13011000000000000000010000000000000001459797050000c1020a01c082020101816e0200010201000100010001040103\
    0100010101010104010301000102010201040103010001030100010401030100010401010104010301000105010201040103\
    010001060100010401030100010701010104010301000108010201040103010001090100010401030100010a010101040103\
    0100010b0102010401030100010c0100010401030100010d0101010401020100010e0102010401030100010f010001040103\
    0100011001010104010301000111010201040103010001120100010401030100011301010104010301000114010201040103\
    0100011501000104010301000116010101040103010001170102010401030100011801000104010301000119010101040103\
    0100011a0102010401030100011b0100010401020100011c0101010401030100011d0102010401030100011e010001040103\
    0100011f01010104010301000120010201040103010001210100010401030100012201010104010301000123010201040103\
    0100012401000104010301000125010101040103010001260102010401030100012701000104010301000128010101040103\
    010001290102010401020100012a0100010401030100012b0101010401030100012c0102010401030100012d010001040103\
    0100012e0101010401030100012f010201040103010001300100010401030100013101010104010301000132010201040103\
    0100013301000104010301000134010101040103010001350102010401030100013601000104010301000137010101040102\
    01000138010201040103010001390100010401030100013a0101010401030100013b0102010401030100013c010001040103\
    0100013d0101010401030100013e0102010401030100013f0100010401030100014001010104010301000141010201040103\
    0100014201000104010301000143010101040103010001440102010401030100014501000104010201000146010101040103\
    0100014701020104010301000148010001040103010001490101010401030100014a0102010401030100014b010001040103\
    0100014c0101010401030100014d0102010401030100014e0100010401030100014f01010104010301000150010201040103\
    0100015101000104010301000152010101040103010001530102010401020100015401000104010301000155010101040103\
    010001560102010401030100015701000104010301000158010101040103010001590102010401030100015a010001040103\
    0100015b0101010401030100015c0102010401030100015d0100010401030100015e0101010401030100015f010201040103\
    0100016001000104010301000161010101040102010001620102010401030100016301000104010301000164010101040103\
    0100016501020104010301000166010001040103010001670101010401030100016801020104010301000169010001040103\
    0100016a0101010401030100016b0102010401030100016c0100010401030100016d0101010401030100016e010201040103\
    0100016f01000104010201000170010101040103010001710102010401030100017201000104010301000173010101040103\
    0100017401020104010301000175010001040103010001760101010401030100017701020104010301000178010001040103\
    010001790101010401030100017a0102010401030100017b0100010401030100017c0101010401030100017d010201040102\
    0100017e0100010401030100017f010101040103010001c080020201040103010001c081020001040103010001c082020101\
    040103010001c083020201040103010001c084020001040103010001c085020101040103010001c086020201040103010001\
    c087020001040103010001c088020101040103010001c089020201040103010001c08a020001040103010001c08b02010104\
    01ff0a01408c010101408c408c00";

const EMPTIED: &str = "\
    1301100000000000000001000000000000000030300000001400000103010101816102000103010001000101010401030101\
    0100010201040103010201000103010401ff000300000003000300";

/// Parser for payloads of DUMP.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn number(&mut self) -> u64 {
        let first = self.take(1)[0];
        match first {
            0..=0x3F => u64::from(first),
            0x40..=0x7F => u64::from(first & 0x3F) << 8 | u64::from(self.take(1)[0]),
            0x80 => u64::from(u32::from_be_bytes(self.take(4).try_into().expect("four"))),
            _ => u64::from_be_bytes(self.take(8).try_into().expect("eight")),
        }
    }

    fn text(&mut self) -> Vec<u8> {
        match self.0[0] {
            0xC0 => i8::from_le_bytes([self.take(2)[1]]).to_string().into_bytes(),
            _ => {
                let len = self.number() as usize;
                self.take(len).to_vec()
            }
        }
    }

    fn id(&mut self) -> StreamId {
        StreamId::new(self.number(), self.number())
    }

    fn raw_id(&mut self) -> StreamId {
        StreamId::from_bytes(self.take(16).try_into().expect("sixteen"))
    }

    fn time(&mut self) -> i64 {
        i64::from_le_bytes(self.take(8).try_into().expect("eight"))
    }
}

fn load(hex: &str) -> Result<Stream, LoadError> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digit = |byte: u8| (byte as char).to_digit(16).expect("a digit") as u8;
    let bytes: Vec<u8> = digits.chunks(2).map(|two| digit(two[0]) << 4 | digit(two[1])).collect();
    let mut reader = Reader(&bytes);
    let mut builder = Builder::new();
    assert_eq!(reader.take(1), [19]);
    for _ in 0..reader.number() {
        let master = reader.text().try_into().expect("sixteen bytes");
        builder.node(StreamId::from_bytes(master), &reader.text())?;
    }
    let (length, last, _first, tombstone) = (reader.number(), reader.id(), reader.id(), reader.id());
    builder.meta(length, last, Some((tombstone, reader.number())))?;
    for _ in 0..reader.number() {
        let (name, last) = (reader.text(), reader.id());
        let read = reader.number();
        builder.group(&name, last, (read != u64::MAX).then_some(read))?;
        for _ in 0..reader.number() {
            builder.pending(reader.raw_id(), reader.time(), reader.number())?;
        }
        for _ in 0..reader.number() {
            let (name, seen) = (reader.text(), reader.time());
            builder.consumer(&name, seen, seen)?;
            for _ in 0..reader.number() {
                builder.consumer_pending(reader.raw_id())?;
            }
        }
    }
    assert!(reader.0.is_empty(), "all is read");
    builder.finish()
}

/// Asserts that both streams have the same nodes byte for byte, and the same counters.
fn assert_same(loaded: &Stream, made: &Stream) {
    loaded.check();
    made.check();
    assert!(
        loaded.nodes().eq(made.nodes()),
        "{:x?} {:x?}",
        loaded.nodes().collect::<Vec<_>>(),
        made.nodes().collect::<Vec<_>>()
    );
    let numbers =
        |s: &Stream| (s.entries_len(), s.first_id(), s.last_id(), s.max_deleted_id(), s.entries_added());
    assert_eq!(numbers(loaded), numbers(made));
}

#[test]
fn nodes_are_those_of_redis() {
    let limited = |max_entries| NodeLimits { max_entries, ..NodeLimits::default() };
    let mut made = Stream::new();
    let (a, b) = ("a".repeat(64), "b".repeat(127));
    let values = [
        "",
        "x",
        "-1",
        "127",
        "128",
        "4095",
        "-4096",
        "32767",
        "-32768",
        "8388607",
        "2147483647",
        "-2147483648",
        "9223372036854775807",
        "9223372036854775808",
        "007",
        "1.5",
        &a,
        &b,
    ];
    for (n, value) in (0..).zip(values) {
        let items = [&b"f"[..], value.as_bytes()].into_iter();
        made.add(id(n + 1, n), items, limited(3)).expect("the id is greater");
    }
    for (ms, seq) in [(2, 1), (4, 3), (5, 4), (6, 5)] {
        assert!(made.delete(id(ms, seq)));
    }
    assert_same(&load(VALUES).expect("valid"), &made);

    let mut made = Stream::new();
    add(&mut made, id(5, 9), &["a", "1", "b", "2"]);
    add(&mut made, id(5, 10), &["a", "3", "b", "4"]);
    add(&mut made, id(6, 0), &["b", "4", "a", "3"]);
    add(&mut made, id(6, 1), &["a", "5"]);
    add(&mut made, id(u64::MAX, 3), &["a", "6", "b", "7"]);
    assert!(made.delete(id(6, 0)) && made.delete(id(6, 1)) && !made.delete(id(6, 1)));
    let loaded = load(FIELDS).expect("valid");
    assert_same(&loaded, &made);
    let group = loaded.group(loaded.find_group(b"g").expect("there"));
    assert_eq!((group.consumers_len(), group.pending_len(), group.last_id()), (2, 2, id(5, 10)));
    let bob = group.find_consumer(b"bob").expect("there");
    let of_bob: Vec<_> =
        group.pending_of(bob, StreamId::MIN, StreamId::MAX).map(|e| (e.id, e.deliveries)).collect();
    assert_eq!(of_bob, [(id(5, 10), 7)]);

    let mut made = Stream::new();
    for n in 0..140u64 {
        let text = (n % 3).to_string();
        made.add(id(1, n + 1), [&b"n"[..], text.as_bytes()].into_iter(), limited(0))
            .expect("the id is greater");
    }
    for n in (0..140).filter(|n| n % 14 != 0) {
        assert!(made.delete(id(1, n + 1)));
    }
    assert_same(&load(COUNTS).expect("valid"), &made);

    let mut made = numbered(0, 100);
    for ms in 1..4u64 {
        add(&mut made, id(ms, 0), &["a", &ms.to_string()]);
    }
    made.delete(id(3, 0));
    made.trim(Trim { threshold: Threshold::MinId(id(3, 0)), approximate: false, limit: 0 }, RefPolicy::Keep);
    assert_same(&load(EMPTIED).expect("valid"), &made);
}

#[test]
fn contradictions_are_refused() {
    let stream = numbered(4, 2);
    let nodes: Vec<_> = stream.nodes().collect();
    let node = |builder: &mut Builder, n: usize| builder.node(nodes[n].0, nodes[n].1);
    let ready = || {
        let mut builder = Builder::new();
        node(&mut builder, 0).expect("valid");
        node(&mut builder, 1).expect("valid");
        builder
    };
    let mut builder = Builder::new();
    assert_eq!(builder.node(id(1, 0), b"junk"), Err(LoadError::Listpack));
    assert_eq!(builder.node(id(1, 0), &[7, 0, 0, 0, 0, 0, 0xFF]), Err(LoadError::NodeForm));
    node(&mut builder, 1).expect("valid");
    assert_eq!(node(&mut builder, 0), Err(LoadError::Order));
    assert_eq!(node(&mut builder, 1), Err(LoadError::Order));
    assert_eq!(ready().meta(3, id(4, 0), None), Err(LoadError::Length));
    assert_eq!(ready().meta(4, id(3, 0), None), Err(LoadError::LastId));
    assert_eq!(ready().finish().err(), Some(LoadError::OutOfPlace));
    assert_eq!(ready().group(b"g", id(0, 0), None), Err(LoadError::OutOfPlace));
    let mut builder = ready();
    builder.meta(4, id(9, 0), None).expect("valid");
    assert_eq!(builder.meta(4, id(9, 0), None), Err(LoadError::OutOfPlace));
    assert_eq!(builder.pending(id(1, 0), 0, 0), Err(LoadError::OutOfPlace));
    assert_eq!(builder.consumer_pending(id(1, 0)), Err(LoadError::OutOfPlace));
    assert_eq!(builder.idempotency_id(b"p", b"i", id(1, 0)), Err(LoadError::OutOfPlace));
    builder.group(b"g", id(2, 0), Some(2)).expect("valid");
    builder.pending(id(2, 0), 5, 1).expect("valid");
    builder.pending(id(1, 0), 5, u64::MAX).expect("valid");
    assert_eq!(builder.pending(id(1, 0), 5, 1), Err(LoadError::DuplicatePending));
    builder.consumer(b"c", 1, 1).expect("valid");
    assert_eq!(builder.consumer(b"c", 1, 1), Err(LoadError::DuplicateConsumer));
    builder.consumer_pending(id(1, 0)).expect("valid");
    assert_eq!(builder.consumer_pending(id(1, 0)), Err(LoadError::TwoOwners));
    assert_eq!(builder.released(id(1, 0)), Err(LoadError::TwoOwners));
    assert_eq!(builder.consumer_pending(id(7, 0)), Err(LoadError::NotPending));
    assert_eq!(builder.group(b"h", id(2, 0), Some(2)), Err(LoadError::NoOwner));
    builder.released(id(2, 0)).expect("valid");
    builder.group(b"g", id(2, 0), Some(2)).expect("known at the end only");
    assert_eq!(builder.idempotency(0, 1), Err(LoadError::Idempotency));
    assert_eq!(builder.finish().err(), Some(LoadError::DuplicateGroup));
}

/// Whatever bytes a node has, it is refused or the stream works.
#[test]
fn broken_nodes_are_refused_or_harmless() {
    let mut accepted = 0;
    for seed in 0..6000 {
        let mut rng = Rng::new(seed);
        let mut stream = numbered(rng.below(12) + 1, 4);
        add(&mut stream, id(100, 3), &["other", "1", "fields", "abc"]);
        let last = id(100, 3 + rng.below(4));
        for _ in 0..rng.below(3) {
            stream.delete(id(rng.below(13), 0));
        }
        let mut nodes: Vec<(StreamId, Vec<u8>)> =
            stream.nodes().map(|(id, bytes)| (id, bytes.to_vec())).collect();
        for _ in 0..rng.below(3) + 1 {
            let n = rng.index(nodes.len());
            let (master, bytes) = &mut nodes[n];
            let at = 6 + rng.index(bytes.len() - 6);
            match rng.below(5) {
                0 => bytes[at] = rng.next_u64() as u8,
                1 => bytes[at] = bytes[at].wrapping_add(1),
                2 => bytes[at] ^= 1 << rng.below(8),
                3 => master.ms = rng.below(110),
                _ => {
                    let (from, len) = (6 + rng.index(bytes.len() - 6), rng.index(6));
                    let piece: Vec<u8> = bytes.iter().copied().skip(from).take(len).collect();
                    bytes.splice(at..at, piece);
                    let total = bytes.len() as u32;
                    bytes[..4].copy_from_slice(&total.to_le_bytes());
                    bytes[4..6].copy_from_slice(&u16::MAX.to_le_bytes());
                }
            }
        }
        let mut builder = Builder::new();
        if nodes.iter().any(|(master, bytes)| builder.node(*master, bytes).is_err()) {
            continue;
        }
        // The actual length, or a wrong one.
        let Some(length) = (0..20).find(|&length| builder.meta(length, last, None).is_ok()) else {
            continue;
        };
        let mut loaded = builder.finish().expect("nodes are all there is");
        println!("seed {seed}");
        assert_eq!(loaded.entries_len(), length);
        accepted += 1;
        super::model::use_everything(&mut loaded, &mut rng);
    }
    assert!(accepted > 300, "{accepted}");
}

/// Whatever parts a group has, they are refused or the stream works.
#[test]
fn broken_groups_are_refused_or_harmless() {
    let mut accepted = 0;
    for seed in 0..2000 {
        let mut rng = Rng::new(seed);
        let stream = numbered(10, 4);
        let mut builder = Builder::new();
        for (master, bytes) in stream.nodes() {
            builder.node(master, bytes).expect("valid");
        }
        builder.meta(10, id(20, 0), Some((id(rng.below(12), 0), rng.next_u64()))).expect("valid");
        let mut all = true;
        for _ in 0..rng.below(12) + 1 {
            let some = id(rng.below(12), 0);
            let name = [b'a' + rng.below(3) as u8];
            all &= match rng.below(7) {
                0 => builder.group(&name, some, rng.one_in(2).then(|| rng.next_u64())),
                1 | 2 => builder.pending(some, rng.next_u64() as i64, rng.next_u64() >> rng.below(64)),
                3 => builder.consumer(&name, rng.next_u64() as i64, -1),
                4 | 5 => builder.consumer_pending(some),
                _ => builder.released(some),
            }
            .is_ok();
        }
        let Ok(mut loaded) = builder.finish() else {
            continue;
        };
        println!("seed {seed}");
        accepted += i32::from(all || loaded.groups_len() > 0);
        super::model::use_everything(&mut loaded, &mut rng);
    }
    assert!(accepted > 100, "{accepted}");
}
