//! Both ends of a session in one process.

use std::io::ErrorKind;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;

use super::*;
use crate::net::io::{Input, Output, Pool, Received};
use crate::net::peer::Peer;
use crate::net::stream::Stream;
use crate::resp::Protocol;
use crate::stdx::rng::Rng;

fn file(name: &str) -> String {
    format!("{}/tests/data/tls/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// One certificate for everything, which is also the authority.
fn settings() -> Settings {
    Settings {
        cert_file: file("self.crt"),
        key_file: file("self.key"),
        key_file_pass: Vec::new(),
        client_cert_file: String::new(),
        client_key_file: String::new(),
        client_key_file_pass: Vec::new(),
        ca_cert_file: file("self.crt"),
        ca_cert_dir: String::new(),
        protocols: String::new(),
        ciphers: String::new(),
        ciphersuites: String::new(),
        prefer_server_ciphers: false,
        client_certificates: ClientCertificates::Required,
        needs_authorities: true,
        session_caching: true,
        session_cache_size: 10,
        session_cache_timeout: Duration::from_secs(300),
    }
}

fn sockets() -> (Stream, Stream) {
    let (a, b) = UnixStream::pair().expect("descriptors are left");
    for end in [&a, &b] {
        end.set_nonblocking(true).expect("a socket can be non-blocking");
    }
    (Stream::from_unix(a), Stream::from_unix(b))
}

/// A client and a server that have agreed on a session.
fn pair(settings: &Settings) -> Result<(Secure, Secure), HandshakeError> {
    let contexts = Contexts::load(settings).expect("everything is there");
    let (near, far) = sockets();
    let (mut client, mut server) = (contexts.connector.handshake(), contexts.acceptor.handshake());
    assert_eq!(server.advance(&far).expect("nothing yet"), Step::Readable);
    loop {
        let steps = (client.advance(&near)?, server.advance(&far)?);
        if steps == (Step::Done, Step::Done) {
            break;
        }
    }
    assert!(server.peer_certificate().is_some());
    Ok((client.finish(near)?, server.finish(far)?))
}

fn versions() -> [Settings; 2] {
    ["TLSv1.2", "TLSv1.3"].map(|version| Settings { protocols: version.into(), ..settings() })
}

/// Receives until nothing is left; `None` is the end.
fn receive(secure: &mut Secure, room: usize) -> Option<Vec<u8>> {
    let mut got = Vec::new();
    loop {
        match secure.receive_into(&mut got, room).expect("connected") {
            Received::More(_) => {}
            Received::Drained(_) | Received::Nothing => return Some(got),
            Received::Closed => return if got.is_empty() { None } else { Some(got) },
        }
    }
}

#[test]
fn what_one_sends_the_other_receives_in_rooms_of_any_size() {
    for settings in versions() {
        let (mut client, mut server) = pair(&settings).expect("they agree");
        let mut rng = Rng::new(7);
        let bytes: Vec<u8> = (0..300_000).map(|_| rng.index(256) as u8).collect();
        for (from, to) in [(0, 1), (1, 0)] {
            let ends = [&mut client, &mut server];
            let (mut sent, mut got) = (0, Vec::new());
            let mut rounds = 0;
            while got.len() < bytes.len() {
                let limit = 1 + rng.index(100_000);
                match ends[from].send(bytes[sent..].chunks(1 + rng.index(9000)), limit) {
                    Ok(n) => sent += n,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
                let room = [1, 7, 100, 1500, 5000, 20_000, 400_000][rng.index(7)];
                got.extend(receive(ends[to], room).expect("not the end"));
                rounds += 1;
                assert!(rounds < 10_000);
            }
            assert!(got == bytes);
        }
        assert_eq!((client.allocated(), server.held_bytes()), (client.allocated(), 0));
    }
}

#[test]
fn a_send_that_does_not_fit_is_repeated() {
    for settings in versions() {
        let (mut client, mut server) = pair(&settings).expect("they agree");
        let large = vec![b'x'; 4 << 20];
        let mut sent = 0;
        loop {
            match client.send_bytes(&large[sent..]) {
                Ok(n) => sent += n,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    break;
                }
            }
        }
        assert!(client.reclaim().is_none(), "something waits");
        let mut got = 0;
        while got < large.len() {
            got += receive(&mut server, 100_000).expect("not the end").len();
            match client.send_bytes(&large[sent..]) {
                Ok(n) => sent += n,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert_eq!((sent, got), (large.len(), large.len()));
        assert!(client.reclaim().is_some());
    }
}

#[test]
fn input_and_output_are_the_same_over_a_session() {
    for settings in versions() {
        let (client, server) = pair(&settings).expect("they agree");
        let (mut near, mut far) = (Peer::Secure(Box::new(client)), Peer::Secure(Box::new(server)));
        let (mut output, mut input, mut pool) = (Output::default(), Input::default(), Pool::default());
        let mut expected = Vec::new();
        for i in 0..5000 {
            output.begin(&mut pool, usize::MAX);
            let text = vec![b'a' + (i % 26) as u8; i % 300];
            output.reply(Protocol::Resp2).bulk(&text);
            expected.extend_from_slice(format!("${}\r\n", text.len()).as_bytes());
            expected.extend_from_slice(&text);
            expected.extend_from_slice(b"\r\n");
        }
        let mut got = Vec::new();
        while got.len() < expected.len() {
            output.send(&mut near, &mut pool, 60 << 10).expect("connected");
            input.receive(&mut far, &mut pool).expect("connected");
            got.append(&mut input.buf);
        }
        assert!(got == expected && output.is_empty());
        near.say_goodbye();
        assert_eq!(input.receive(&mut far, &mut pool).expect("a goodbye"), Received::Closed);
    }
}

#[test]
fn keys_change_in_both_directions() {
    let settings = Settings { protocols: "TLSv1.3".into(), ..settings() };
    let (mut client, mut server) = pair(&settings).expect("they agree");
    for round in 0..50 {
        client.wear_out();
        server.wear_out();
        client.owe_key_update();
        assert_eq!(client.send_bytes(b"question").expect("room"), 8);
        assert_eq!(receive(&mut server, 100).expect("not the end"), b"question", "{round}");
        assert_eq!(server.send_bytes(b"answer").expect("room"), 6);
        assert_eq!(receive(&mut client, 5000).expect("not the end"), b"answer", "{round}");
    }
    let settings = Settings { protocols: "TLSv1.2".into(), ..self::settings() };
    let (mut client, _server) = pair(&settings).expect("they agree");
    client.wear_out();
    let error = client.send_bytes(b"question").expect_err("there are no other keys");
    assert_eq!(error.to_string(), "the keys are worn out");
}

#[test]
fn who_is_believed() {
    let refused = |settings: Settings| {
        let error = pair(&settings).expect_err("one does not believe the other");
        error.to_string()
    };
    // Of version 1, issued by the authority: as client and as server.
    for version in ["TLSv1.2", "TLSv1.3"] {
        let old = Settings { cert_file: file("v1.crt"), protocols: version.into(), ..settings() };
        pair(&old).expect("the authority has signed it");
        let (cert_file, client_cert_file) = (file("self.crt"), file("v1.crt"));
        let both = Settings { cert_file, client_cert_file, client_key_file: file("self.key"), ..old.clone() };
        pair(&both).expect("the authority has signed it");
        // Who is not among the authorities, although its key is the same.
        let strangers = Settings { ca_cert_file: file("v1.crt"), ..old };
        assert!(refused(strangers).contains("certificate"), "{version}");
    }
    let contexts = Contexts::load(&settings()).expect("everything is there");
    let info = contexts.certificate.expect("ours");
    assert!(info.expires > 4_000_000_000 && info.serial.len() > 8);
    assert!(contexts.client_certificate.is_none() && contexts.authority.is_some());
    let old = Contexts::load(&Settings { cert_file: file("v1.crt"), ..settings() }).expect("it fits its key");
    assert_eq!(old.certificate.expect("ours").serial, "ABCDEF");
}

#[test]
fn no_bytes_make_a_session_panic() {
    let mut rng = Rng::new(3);
    for settings in versions() {
        for round in 0..200 {
            let (mut client, mut server) = pair(&settings).expect("they agree");
            let mut record = Vec::new();
            client.seal_into(b"*1\r\n$4\r\nPING\r\n", &mut record);
            for _ in 0..1 + rng.index(4) {
                let at = rng.index(record.len());
                record[at] = rng.index(256) as u8;
            }
            record.truncate(1 + rng.index(record.len()));
            client.stream().send(&record).expect("room");
            let mut room = vec![MaybeUninit::uninit(); 1 + rng.index(3000)];
            for _ in 0..3 {
                let result = server.receive(&mut room);
                assert!(!matches!(result, Ok(Received::Drained(1..))), "{round}: nothing genuine was sent");
            }
        }
        let contexts = Contexts::load(&settings).expect("everything is there");
        for _ in 0..200 {
            let (near, far) = sockets();
            let mut server = contexts.acceptor.handshake();
            let bytes: Vec<u8> = (0..rng.index(500)).map(|_| rng.index(256) as u8).collect();
            let head = [22, 3, 1, (bytes.len() >> 8) as u8, bytes.len() as u8];
            let _ = (near.send(&head), near.send(&bytes));
            while server.advance(&far).is_ok_and(|step| step == Step::Done) {}
        }
    }
}

/// Passes on what has arrived, changed in at most one place; whether there was anything.
fn pass_on(from: &Stream, to: &Stream, rng: &mut Rng, rarely: usize) -> bool {
    let mut bytes = Vec::new();
    while from.recv_into(&mut bytes, 5000).is_ok_and(|n| n > 0) {}
    if bytes.is_empty() {
        return false;
    }
    if rng.index(rarely) == 0 {
        let at = rng.index(bytes.len());
        match rng.index(3) {
            0 => bytes[at] ^= 1 << rng.index(8),
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, rng.index(256) as u8),
        }
    }
    bytes.chunks(1 + rng.index(3000)).all(|piece| to.send(piece).is_ok())
}

#[test]
fn who_changes_a_handshake_ends_it() {
    let mut rng = Rng::new(11);
    for settings in versions() {
        let contexts = Contexts::load(&settings).expect("everything is there");
        let (mut agreed, mut ended) = (0, 0);
        for _ in 0..300 {
            let ((near, near_wire), (far_wire, far)) = (sockets(), sockets());
            let (mut client, mut server) = (contexts.connector.handshake(), contexts.acceptor.handshake());
            loop {
                let steps = (client.advance(&near), server.advance(&far));
                match steps {
                    (Ok(Step::Done), Ok(Step::Done)) => {
                        agreed += 1;
                        break;
                    }
                    (Ok(_), Ok(_)) => {}
                    _ => {
                        ended += 1;
                        break;
                    }
                }
                let moved = [
                    pass_on(&near_wire, &far_wire, &mut rng, 6),
                    pass_on(&far_wire, &near_wire, &mut rng, 6),
                ];
                if moved == [false; 2] {
                    // Each waits for what was taken out.
                    ended += 1;
                    break;
                }
            }
        }
        assert!(agreed > 20 && ended > 20, "{agreed} {ended}");
    }
}
