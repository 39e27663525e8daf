//! TLS over real sockets: which clients are accepted, what others cannot do, and that all data arrive.
#![cfg(target_os = "linux")]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

#[path = "support/tls.rs"]
mod certificates;
mod support;

use certificates::{Certificates, SecureClient};
use rustls::version::{TLS12, TLS13};
use support::{ServerProcess, free_port, spinel};

/// A server with a plain port and one for TLS.
fn server(certificates: &Certificates, more: &[&str]) -> (ServerProcess, u16) {
    let port = free_port();
    let options = certificates.options(port);
    let options: Vec<&str> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();
    (ServerProcess::start(&spinel(), &options), port)
}

fn connects(certificates: &Certificates, port: u16, name: Option<&str>) -> bool {
    [&[&TLS13][..], &[&TLS12]].map(|versions| {
        let config = certificates.client_config(name, versions);
        SecureClient::connect(port, &config)
            .and_then(|mut client| client.command(&[b"PING"]))
            .is_ok_and(|reply| reply == b"+PONG\r\n")
    }) == [true; 2]
}

#[test]
fn requests_are_served_in_both_versions() {
    let Some(certificates) = Certificates::new("serve") else { return };
    let (server, port) = server(&certificates, &[]);
    for versions in [&[&TLS13][..], &[&TLS12]] {
        let config = certificates.client_config(Some("client"), versions);
        let mut client = SecureClient::connect(port, &config).expect("it is let in");
        assert_eq!(client.ask("SET k v"), "+OK");
        assert_eq!(client.ask("GET k"), "$1\r\nv");
        // A pipeline of many records, and its replies.
        let n = 50_000;
        let mut requests = Vec::new();
        for i in 0..n {
            requests.extend_from_slice(format!("*2\r\n$4\r\nECHO\r\n$5\r\n{i:05}\r\n").as_bytes());
        }
        let (mut sent, mut got) = (0, 0);
        while got < n {
            let end = (sent + 100_000).min(requests.len());
            client.send(&requests[sent..end]).expect("it is read");
            let complete = end / (requests.len() / n);
            sent = end;
            while got < complete {
                assert_eq!(client.reply().expect("a reply"), format!("$5\r\n{got:05}\r\n").as_bytes());
                got += 1;
            }
        }
        // A value of 20 MB, there and back.
        let value: Vec<u8> = (0..20_000_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
        assert_eq!(client.command(&[b"SET", b"large", &value]).expect("a reply"), b"+OK\r\n");
        let back = client.command(&[b"GET", b"large"]).expect("a reply");
        assert!(back[11..back.len() - 2] == value, "what comes back is what was sent");
        assert_eq!(client.ask("DEL large"), ":1");
        // The end of one direction: what was asked before is answered.
        client.send(b"*1\r\n$4\r\nPING\r\n").expect("sent");
        client.stream.get_mut().conn.send_close_notify();
        let _ = client.stream.get_mut().flush();
        client.stream.get_ref().sock.shutdown(Shutdown::Write).expect("connected");
        assert_eq!(client.reply().expect("the reply to what was asked"), b"+PONG\r\n");
        assert!(client.reply().is_err(), "then the server says goodbye");
    }
    if let Some(out) = certificates.redis_cli(port, &["ECHO", "over TLS"]) {
        assert_eq!(out.trim_end(), "over TLS");
    }
    let info =
        String::from_utf8(server.client().command(&[b"INFO", b"server"]).expect("info")).expect("text");
    assert!(info.contains(&format!("listener1:name=tls,bind=127.0.0.1,port={port}")), "{info}");
}

#[test]
fn who_must_show_a_certificate_and_which_are_believed() {
    let Some(certificates) = Certificates::new("auth") else { return };
    certificates.authority("other", "Other Authority");
    certificates.issue("stranger", "other", "Stranger", None);
    certificates.authority("impostor", "Certificate Authority");
    certificates.issue("forged", "impostor", "Client", None);
    let client_only = "extendedKeyUsage=clientAuth\nkeyUsage=digitalSignature";
    certificates.issue("forged3", "impostor", "Client", Some(client_only));
    certificates.issue(
        "middle",
        "ca",
        "Middle",
        Some("basicConstraints=critical,CA:true\nkeyUsage=keyCertSign"),
    );
    certificates.issue("below", "middle", "Below", Some(client_only));
    let chain = ["below", "middle"]
        .map(|name| std::fs::read(certificates.path(&format!("{name}.crt"))).expect("made"));
    std::fs::write(certificates.path("below.crt"), chain.concat()).expect("a file can be written");
    // Issued by what is no authority.
    certificates.issue("grandchild", "client", "Grandchild", Some(client_only));
    certificates.issue("grandchild1", "client", "Grandchild", None);
    for name in ["grandchild", "grandchild1"] {
        let chain = [name, "client"]
            .map(|name| std::fs::read(certificates.path(&format!("{name}.crt"))).expect("made"));
        std::fs::write(certificates.path(&format!("{name}.crt")), chain.concat())
            .expect("a file can be written");
    }
    certificates.issue_for("late", "ca", "Late", Some(client_only), "-1");
    certificates.issue_for("late1", "ca", "Late", None, "-1");
    certificates.issue("typed", "ca", "Typed", Some("nsCertType=server"));
    let (server, port) = server(&certificates, &[]);
    let mut admin = server.client();
    let believed = ["client", "both", "below"];
    let refused = [
        "server",
        "stranger",
        "forged",
        "forged3",
        "grandchild",
        "grandchild1",
        "late",
        "late1",
        "typed",
        "other",
    ];
    for (mode, without) in [("yes", false), ("optional", true), ("no", true)] {
        admin.command(&[b"CONFIG", b"SET", b"tls-auth-clients", mode.as_bytes()]).expect("set");
        assert_eq!(connects(&certificates, port, None), without, "{mode}");
        for name in believed {
            assert!(connects(&certificates, port, Some(name)), "{mode} {name}");
        }
        for name in refused {
            let let_in = [&[&TLS13][..], &[&TLS12]].map(|versions| {
                let config = certificates.client_config(Some(name), versions);
                SecureClient::connect(port, &config)
                    .and_then(|mut client| client.command(&[b"PING"]))
                    .is_ok_and(|reply| reply == b"+PONG\r\n")
            });
            // Without a request for certificates, none is shown.
            assert_eq!(let_in, [mode == "no"; 2], "{mode} {name}");
        }
    }
    // A certificate that is trusted itself.
    std::fs::copy(certificates.path("other.crt"), certificates.path("self.crt")).expect("copied");
    let both =
        ["ca.crt", "other.crt"].map(|name| std::fs::read(certificates.path(name)).expect("made")).concat();
    std::fs::write(certificates.path("two.crt"), both).expect("a file can be written");
    for (name, value) in
        [("tls-ca-cert-file", certificates.path("two.crt")), ("tls-auth-clients", "yes".into())]
    {
        let reply = admin.command(&[b"CONFIG", b"SET", name.as_bytes(), value.as_bytes()]).expect("set");
        assert_eq!(reply, b"+OK\r\n");
    }
    assert!(connects(&certificates, port, Some("other")) && connects(&certificates, port, Some("stranger")));
    assert!(!connects(&certificates, port, Some("forged")));
    for (name, told) in [
        (None, "peer did not return a certificate"),
        (Some("server"), "certificate verify failed: unsuitable certificate purpose"),
        (Some("late"), "certificate verify failed: certificate has expired"),
        (Some("late1"), "certificate verify failed: certificate has expired"),
    ] {
        // Lines that clients can cause are few per second.
        std::thread::sleep(Duration::from_millis(1100));
        let before = server.log().len();
        assert!(!connects(&certificates, port, name));
        let line = format!("Error accepting a client connection: {told} (addr=");
        assert!(server.log()[before..].contains(&line), "{}", &server.log()[before..]);
    }
}

#[test]
fn certificates_name_users() {
    let Some(certificates) = Certificates::new("users") else { return };
    certificates.issue("joe", "ca", "joe", Some("subjectAltName=URI:spiffe://test/eve,DNS:x"));
    certificates.issue("nobody", "ca", "nobody", None);
    let (server, port) = server(&certificates, &["--tls-auth-clients-user", "CN"]);
    let mut admin = server.client();
    for rules in ["joe on +@all -get ~*", "spiffe://test/eve on +acl|whoami", "default >secret"] {
        let request = format!("ACL SETUSER {rules}");
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        assert_eq!(admin.command(&args).expect("a reply"), b"+OK\r\n");
    }
    let as_whom = |name| {
        let config = certificates.client_config(Some(name), rustls::ALL_VERSIONS);
        SecureClient::connect(port, &config).expect("it is let in")
    };
    let mut joe = as_whom("joe");
    assert_eq!(joe.ask("ACL WHOAMI"), "$3\r\njoe");
    assert!(joe.ask("GET x").starts_with("-NOPERM"));
    assert!(as_whom("nobody").ask("ACL WHOAMI").starts_with("-NOAUTH"));
    admin.command(&[b"AUTH", b"secret"]).expect("a reply");
    let stats = String::from_utf8(admin.command(&[b"INFO", b"stats"]).expect("info")).expect("text");
    assert!(stats.contains("acl_access_denied_tls_cert:1\r\n"), "{stats}");
    admin.command(&[b"CONFIG", b"SET", b"tls-auth-clients-user", b"URI"]).expect("a reply");
    assert_eq!(as_whom("joe").ask("ACL WHOAMI"), "$17\r\nspiffe://test/eve");
    // Who was let in stays who it is.
    assert_eq!(joe.ask("ACL WHOAMI"), "$3\r\njoe");
}

#[test]
fn settings_take_effect_for_those_who_come() {
    let Some(certificates) = Certificates::new("settings") else { return };
    let (server, port) = server(&certificates, &[]);
    let mut admin = server.client();
    let mut set = |pairs: &[&str]| {
        let args: Vec<&[u8]> =
            [&b"CONFIG"[..], b"SET"].into_iter().chain(pairs.iter().map(|arg| arg.as_bytes())).collect();
        String::from_utf8(admin.command(&args).expect("a reply")).expect("text")
    };
    let mut old = certificates.connect(port);
    let connect = |version| {
        let config = certificates.client_config(Some("client"), &[version]);
        SecureClient::connect(port, &config)
    };
    const REFUSED: &str = "Unable to update TLS configuration. Check server logs.";
    assert_eq!(set(&["tls-protocols", "TLSv1.2"]), "+OK\r\n");
    assert!(connect(&TLS13).is_err() && connect(&TLS12).is_ok());
    assert_eq!(set(&["tls-protocols", "TLSv1.3"]), "+OK\r\n");
    assert!(connect(&TLS13).is_ok() && connect(&TLS12).is_err());
    for (name, value, told) in [
        ("tls-protocols", "TLSv1.1", "does not speak because it is not safe"),
        ("tls-protocols", "foo", "Invalid tls-protocols specified."),
        ("tls-ciphers", "AES128-SHA256", "Failed to configure ciphers: AES128-SHA256"),
        ("tls-ciphersuites", "FOO", "Failed to configure ciphersuites: FOO"),
        (
            "tls-cert-file",
            "/nonexistent",
            "Failed to load certificate: /nonexistent: No such file or directory",
        ),
        ("tls-cert-file", "", "No tls-cert-file configured!"),
        ("tls-key-file", "", "No tls-key-file configured!"),
        ("tls-key-file", &certificates.path("client.key"), "key values mismatch"),
        ("tls-ca-cert-file", "", "Either tls-ca-cert-file or tls-ca-cert-dir must be specified"),
    ] {
        let reply = set(&[name, value]);
        assert!(reply.contains(&format!("'{name}') - {REFUSED}")), "{name} {value}: {reply}");
        assert!(server.log().contains(told), "{told}: {}", server.log());
    }
    assert!(connect(&TLS13).is_ok());
    assert_eq!(set(&["tls-protocols", ""]), "+OK\r\n");
    // One suite, and the order of preference.
    let suite = |version| {
        let client = connect(version).expect("it is let in");
        let suite = client.stream.get_ref().conn.negotiated_cipher_suite().expect("agreed on");
        format!("{:?}", suite.suite())
    };
    assert_eq!(
        set(&["tls-ciphers", "ECDHE+CHACHA20", "tls-ciphersuites", "TLS_AES_128_GCM_SHA256"]),
        "+OK\r\n"
    );
    assert_eq!(suite(&TLS12), "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256");
    assert_eq!(suite(&TLS13), "TLS13_AES_128_GCM_SHA256");
    assert_eq!(set(&["tls-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384"]), "+OK\r\n");
    assert_eq!(suite(&TLS13), "TLS13_AES_256_GCM_SHA384");
    assert_eq!(set(&["tls-prefer-server-ciphers", "yes"]), "+OK\r\n");
    assert_eq!(suite(&TLS13), "TLS13_CHACHA20_POLY1305_SHA256");
    // Keys with passwords, in both forms.
    certificates.encrypt_key("server.key", "encrypted.key", &["pkcs8", "-topk8", "-v2", "aes-256-cbc"]);
    certificates.encrypt_key("server.key", "scrypt.key", &["pkcs8", "-topk8", "-scrypt"]);
    certificates.encrypt_key("server.key", "older.key", &["ec", "-aes128"]);
    for name in ["encrypted.key", "scrypt.key", "older.key"] {
        let path = certificates.path(name);
        assert!(set(&["tls-key-file-pass", "wrong", "tls-key-file", &path]).contains(REFUSED), "{name}");
        assert!(set(&["tls-key-file", &path]).contains(REFUSED), "{name}");
        assert_eq!(set(&["tls-key-file-pass", "1234", "tls-key-file", &path]), "+OK\r\n", "{name}");
        assert!(connect(&TLS13).is_ok(), "{name}");
        let plain = certificates.path("server.key");
        assert_eq!(set(&["tls-key-file-pass", "", "tls-key-file", &plain]), "+OK\r\n");
    }
    // Another port, none, and the two exchanged.
    let other = free_port();
    assert_eq!(set(&["tls-port", &other.to_string()]), "+OK\r\n");
    assert!(connect(&TLS13).is_err());
    assert_eq!(certificates.connect(other).ask("PING"), "+PONG");
    assert!(set(&["tls-port", &server.port.to_string()]).contains("Unable to listen on this port"));
    assert_eq!(certificates.connect(other).ask("PING"), "+PONG");
    assert_eq!(set(&["tls-port", "0"]), "+OK\r\n");
    assert!(TcpStream::connect(("127.0.0.1", other)).is_err());
    assert_eq!(old.ask("PING"), "+PONG", "who was there stays");
}

#[test]
fn new_files_are_read_when_told_and_when_looked_at() {
    let Some(certificates) = Certificates::new("reload") else { return };
    let (server, port) = server(&certificates, &["--tls-auto-reload-interval", "1"]);
    let mut admin = server.client();
    let serial = |admin: &mut support::Client| {
        let info = String::from_utf8(admin.command(&[b"INFO", b"tls"]).expect("info")).expect("text");
        let line =
            info.lines().find_map(|line| line.strip_prefix("tls_server_cert_serial:")).expect("a serial");
        let left = info.lines().find_map(|line| line.strip_prefix("tls_server_cert_expires_in_seconds:"));
        let left: i64 = left.expect("a time").parse().expect("a number");
        assert!((29 * 86_400..=30 * 86_400).contains(&left), "{info}");
        line.to_owned()
    };
    let shown = || {
        let client = certificates.connect(port);
        client.stream.get_ref().conn.peer_certificates().expect("shown")[0].to_vec()
    };
    let mut old = certificates.connect(port);
    let (first, first_shown) = (serial(&mut admin), shown());
    let server_only = Some("extendedKeyUsage=serverAuth");
    certificates.issue("server", "ca", "Server", server_only);
    let deadline = Instant::now() + Duration::from_secs(20);
    while serial(&mut admin) == first {
        assert!(Instant::now() < deadline, "{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let (second, second_shown) = (serial(&mut admin), shown());
    assert!(first_shown != second_shown);
    // A file that is not what it should be changes nothing.
    std::fs::write(certificates.path("server.crt"), "not a certificate").expect("written");
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(serial(&mut admin), second);
    assert!(
        server.log().contains("Failed to reload TLS materials, keeping those in use"),
        "{}",
        server.log()
    );
    admin.command(&[b"CONFIG", b"SET", b"tls-auto-reload-interval", b"0"]).expect("set");
    certificates.issue("server", "ca", "Server", server_only);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(serial(&mut admin), second);
    let path = certificates.path("server.crt");
    let reply = admin.command(&[b"CONFIG", b"SET", b"tls-cert-file", path.as_bytes()]).expect("set");
    assert_eq!(reply, b"+OK\r\n", "the same name, another file");
    assert_ne!(serial(&mut admin), second);
    assert_eq!(old.ask("PING"), "+PONG", "who was there stays");
}

#[test]
fn strangers_do_no_harm() {
    let Some(certificates) = Certificates::new("strangers") else { return };
    let (server, port) = server(&certificates, &[]);
    let mut served = certificates.connect(port);
    let connect = || TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
    let ends = |mut socket: TcpStream| {
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        let mut rest = Vec::new();
        // What comes is at most an alert.
        match socket.read_to_end(&mut rest) {
            Ok(n) => assert!(n <= 7, "{rest:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    };
    // Who does not speak TLS.
    for text in
        [&b"PING\r\n"[..], b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\r\n\r\n", &[0; 300], &[0xff; 300]]
    {
        let mut socket = connect();
        socket.write_all(text).expect("it is read");
        let began = Instant::now();
        ends(socket);
        assert!(began.elapsed() < Duration::from_secs(5), "they are not waited for");
    }
    // A record that never ends, garbage in the place of a greeting, and one byte after the other.
    let mut socket = connect();
    socket.write_all(&[22, 3, 1, 0x40, 0]).expect("it is read");
    let mut garbage = connect();
    garbage.write_all(&[22, 3, 1, 0, 50]).expect("it is read");
    garbage.write_all(&[9; 50]).expect("it is read");
    ends(garbage);
    assert_eq!(served.ask("PING"), "+PONG");
    let config = certificates.client_config(Some("client"), rustls::ALL_VERSIONS);
    let slow = connect();
    slow.set_nodelay(true).expect("a socket");
    let mut slow = SlowSocket(slow);
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let mut connection = rustls::ClientConnection::new(config, name).expect("a configuration");
    while connection.is_handshaking() {
        connection.complete_io(&mut slow).expect("patience");
    }
    connection.writer().write_all(b"*1\r\n$4\r\nPING\r\n").expect("room");
    let mut stream = rustls::Stream::new(&mut connection, &mut slow);
    let mut reply = [0; 7];
    stream.read_exact(&mut reply).expect("a reply");
    assert_eq!(&reply, b"+PONG\r\n");
    // Records cut off in the middle, changed, and in the clear.
    for change in 0..4 {
        let mut client = certificates.connect(port);
        assert_eq!(client.ask("PING"), "+PONG");
        let stream = client.stream.get_mut();
        stream.conn.writer().write_all(b"*2\r\n$4\r\nINCR\r\n$5\r\nwrong\r\n").expect("room");
        let mut record = Vec::new();
        while stream.conn.wants_write() {
            stream.conn.write_tls(&mut record).expect("memory");
        }
        let last = record.len() - 1;
        match change {
            0 => record.truncate(last),
            1 => record[last] ^= 1,
            2 => record[10] ^= 1,
            _ => record.splice(0..0, [23, 3, 3, 0, 30].into_iter().chain([7; 30])).for_each(drop),
        }
        stream.sock.write_all(&record).expect("it is read");
        let _ = stream.sock.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.sock.read_to_end(&mut rest);
        assert!(rest.len() <= 64, "at most an alert");
    }
    assert_eq!(served.ask("EXISTS wrong"), ":0");
    assert_eq!(served.ask("PING"), "+PONG");
    // Keys that change in the middle of a session.
    let config = certificates.client_config(Some("client"), &[&TLS13]);
    let mut client = SecureClient::connect(port, &config).expect("it is let in");
    for i in 0..20 {
        client.stream.get_mut().conn.refresh_traffic_keys().expect("version 1.3");
        assert_eq!(client.ask("PING"), "+PONG", "{i}");
    }
    let log = server.log();
    assert!(log.contains("Error accepting a client connection: wrong version number"), "{log}");
    drop(socket);
}

/// A socket that sends one byte at a time.
struct SlowSocket(TcpStream);

impl std::io::Read for SlowSocket {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(7);
        self.0.read(&mut buffer[..most])
    }
}

impl std::io::Write for SlowSocket {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.0.write(&buffer[..buffer.len().min(1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn handshakes_are_bounded_and_do_not_hold_up_those_who_are_served() {
    let Some(certificates) = Certificates::new("flood") else { return };
    let (server, port) = server(&certificates, &["--maxclients", "100"]);
    let mut served = server.client();
    // Those who say nothing count, and are dropped in the end.
    let silent: Vec<TcpStream> =
        (0..99).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("somebody listens")).collect();
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut before = Vec::new();
    loop {
        let mut plain = TcpStream::connect(("127.0.0.1", server.port)).expect("somebody listens");
        plain.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        let mut reply = [0; 20];
        if plain.read(&mut reply).is_ok_and(|n| reply[..n].starts_with(b"-ERR max number")) {
            break;
        }
        assert!(Instant::now() < deadline, "they count");
        // It may have come before the last of those.
        before.push(plain);
    }
    assert!(SecureClient::connect(port, &certificates.client_config(Some("client"), &[&TLS13])).is_err());
    drop(before);
    let began = Instant::now();
    for mut socket in silent {
        let mut byte = [0];
        socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        assert_eq!(socket.read(&mut byte).unwrap_or(0), 0);
    }
    assert!(began.elapsed() < Duration::from_secs(20), "after ten seconds");
    assert_eq!(served.command(&[b"PING"]).expect("a reply"), b"+PONG\r\n");
    // A flood: one who is served goes on.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let made = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let config = certificates.client_config(Some("client"), &[&TLS13]);
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    if SecureClient::connect(port, &config).is_ok() {
                        made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                }
            });
        }
        let until = Instant::now() + Duration::from_secs(2);
        let mut slowest = Duration::ZERO;
        let mut asked = 0;
        while Instant::now() < until {
            let began = Instant::now();
            assert_eq!(served.command(&[b"PING"]).expect("a reply"), b"+PONG\r\n");
            slowest = slowest.max(began.elapsed());
            asked += 1;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(slowest < Duration::from_secs(1), "{slowest:?}");
        assert!(asked > 20, "{asked}");
    });
    assert!(made.into_inner() > 5);
}

#[test]
fn sessions_are_resumed_as_long_as_the_settings_stay() {
    let Some(certificates) = Certificates::new("resume") else { return };
    let (server, port) = server(&certificates, &[]);
    let mut admin = server.client();
    for version in [&TLS13, &TLS12] {
        let config = certificates.client_config(Some("client"), &[version]);
        let resumes = || {
            let mut client = SecureClient::connect(port, &config).expect("it is let in");
            assert_eq!(client.ask("PING"), "+PONG");
            client.stream.get_ref().conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
        };
        assert!(!resumes() && resumes() && resumes());
        admin.command(&[b"CONFIG", b"SET", b"tls-session-cache-timeout", b"1"]).expect("set");
        assert!(!resumes() && resumes());
        std::thread::sleep(Duration::from_millis(2500));
        assert!(!resumes());
        admin.command(&[b"CONFIG", b"SET", b"tls-session-caching", b"no"]).expect("set");
        assert!(!resumes() && !resumes());
        admin
            .command(&[
                b"CONFIG",
                b"SET",
                b"tls-session-caching",
                b"yes",
                b"tls-session-cache-timeout",
                b"300",
            ])
            .expect("set");
    }
}

/// A server that is reached over TLS only, and speaks TLS with others.
fn node(certificates: &Certificates, binary: &std::path::Path, more: &[&str]) -> (ServerProcess, u16) {
    let port = free_port();
    let options = certificates.options(port);
    // The plain port is how the test looks inside.
    let fixed = [
        "--tls-replication",
        "yes",
        "--tls-cluster",
        "yes",
        "--repl-diskless-sync-delay",
        "0",
        "--repl-backlog-size",
        "100mb",
    ];
    let options: Vec<&str> =
        options.iter().map(String::as_str).chain(fixed).chain(more.iter().copied()).collect();
    (ServerProcess::start(binary, &options), port)
}

fn replicates(from: &ServerProcess, from_port: u16, to: &ServerProcess, what: &str) {
    let (mut primary, mut replica) = (from.client(), to.client());
    for i in 0..2000 {
        let key = format!("key:{i}");
        primary.command(&[b"SET", key.as_bytes(), &vec![b'v'; i]]).expect("a reply");
    }
    primary.command(&[b"SET", b"large", &vec![7; 20_000_000]]).expect("a reply");
    let port = from_port.to_string();
    replica.command(&[b"REPLICAOF", b"127.0.0.1", port.as_bytes()]).expect("a reply");
    let equal = |primary: &mut support::Client, replica: &mut support::Client| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let digests = [&mut *primary, &mut *replica]
                .map(|client| client.command(&[b"DEBUG", b"DIGEST"]).expect("a reply"));
            if digests[0] == digests[1] && !digests[0].starts_with(b"-") {
                return;
            }
            assert!(Instant::now() < deadline, "{what}\n{}\n{}", from.log(), to.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    equal(&mut primary, &mut replica);
    // The stream, and going on with it after a break.
    for round in 0..3 {
        for i in 0..3000 {
            let value = format!("{round}-{i}-{}", "x".repeat(i));
            primary.command(&[b"SET", b"k", value.as_bytes()]).expect("a reply");
        }
        primary.command(&[b"RPUSH", b"list", &vec![round; 5_000_000]]).expect("a reply");
        equal(&mut primary, &mut replica);
        primary.command(&[b"CLIENT", b"KILL", b"TYPE", b"replica"]).expect("a reply");
    }
    primary.command(&[b"SET", b"last", b"1"]).expect("a reply");
    equal(&mut primary, &mut replica);
    let info = String::from_utf8(primary.command(&[b"INFO", b"stats"]).expect("info")).expect("text");
    assert!(info.contains("sync_full:1\r\n"), "{what}: {info}");
}

#[test]
fn replicas_follow_over_tls_in_both_roles() {
    let Some(certificates) = Certificates::new("replicas") else { return };
    let debug = ["--enable-debug-command", "yes"];
    let stock = support::redis();
    let others = [Some(spinel()), stock];
    for other in others.iter().flatten() {
        for (primary, replica) in [(&spinel(), other), (other, &spinel())] {
            for options in [["--repl-diskless-sync", "yes"], ["--repl-diskless-sync", "no"]] {
                let options: Vec<&str> = options.into_iter().chain(debug).collect();
                let (from, port) = node(&certificates, primary, &options);
                let (to, _) = node(&certificates, replica, &options);
                let what = format!("{} -> {} {options:?}", primary.display(), replica.display());
                replicates(&from, port, &to, &what);
            }
        }
    }
}

#[test]
fn keys_move_over_tls() {
    let Some(certificates) = Certificates::new("migrate") else { return };
    let (from, _) = node(&certificates, &spinel(), &[]);
    let (to, port) = node(&certificates, &spinel(), &[]);
    let (mut source, mut target) = (from.client(), to.client());
    let large: Vec<u8> = (0..6_000_000u32).map(|i| (i >> 2) as u8).collect();
    source.command(&[b"SET", b"large", &large]).expect("a reply");
    let port = port.to_string();
    for i in 0..100 {
        source.command(&[b"SET", b"k", format!("{i}").as_bytes()]).expect("a reply");
        let moved =
            source.command(&[b"MIGRATE", b"127.0.0.1", port.as_bytes(), b"k", b"0", b"5000", b"REPLACE"]);
        assert_eq!(moved.expect("a reply"), b"+OK\r\n");
        assert_eq!(source.command(&[b"EXISTS", b"k"]).expect("a reply"), b":0\r\n");
    }
    let moved = source.command(&[b"MIGRATE", b"127.0.0.1", port.as_bytes(), b"large", b"0", b"20000"]);
    assert_eq!(moved.expect("a reply"), b"+OK\r\n");
    let there = target.command(&[b"GET", b"large"]).expect("a reply");
    assert!(there[10..there.len() - 2] == large);
    // To a port without TLS, which would not understand.
    source.command(&[b"SET", b"k", b"v"]).expect("a reply");
    let plain = to.port.to_string();
    let moved =
        source.command(&[b"MIGRATE", b"127.0.0.1", plain.as_bytes(), b"k", b"0", b"300"]).expect("a reply");
    assert!(moved.starts_with(b"-IOERR"), "{}", String::from_utf8_lossy(&moved));
    assert_eq!(source.command(&[b"EXISTS", b"k"]).expect("a reply"), b":1\r\n");
}

/// A Sentinel that is reached over TLS only, and speaks TLS with others.
struct Sentinel {
    child: std::process::Child,
    port: u16,
}

impl Sentinel {
    fn start(certificates: &Certificates, primary: u16) -> Sentinel {
        let port = free_port();
        let mut text = format!(
            "port 0\ntls-replication yes\nlogfile sentinel-{port}.log\ndir {}\n",
            certificates.dir.display()
        );
        for option in certificates.options(port).chunks(2) {
            text += &format!("{} {}\n", option[0].trim_start_matches("--"), option[1]);
        }
        text += &format!(
            "sentinel monitor it 127.0.0.1 {primary} 2\nsentinel down-after-milliseconds it 2000\n\
             sentinel failover-timeout it 6000\n"
        );
        let file = certificates.path(&format!("sentinel-{port}.conf"));
        std::fs::write(&file, text).expect("a file can be written");
        let child = std::process::Command::new(spinel())
            .args([&file, "--sentinel"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("a program can be started");
        Sentinel { child, port }
    }

    fn ask(&self, certificates: &Certificates, request: &str) -> String {
        let config = certificates.client_config(Some("client"), rustls::ALL_VERSIONS);
        SecureClient::connect(self.port, &config).map_or_else(|_| String::new(), |mut it| it.ask(request))
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sentinels_have_a_replica_take_over_where_all_speak_tls() {
    let Some(certificates) = Certificates::new("sentinel") else { return };
    let wait = |what: &str, holds: &mut dyn FnMut() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < deadline, "{what} does not come about");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let ask = |server: &ServerProcess, request: &str| support::run(&mut server.client(), request);
    let [primary, first, second] = [(); 3].map(|()| node(&certificates, &spinel(), &[]));
    for (replica, _) in [&first, &second] {
        assert_eq!(ask(replica, &format!("REPLICAOF 127.0.0.1 {}", primary.1)), "+OK");
        wait("a link", &mut || ask(replica, "INFO replication").contains("master_link_status:up"));
    }
    let sentinels = [(); 3].map(|()| Sentinel::start(&certificates, primary.1));
    wait("that all know each other", &mut || {
        sentinels.iter().all(|sentinel| {
            let info = sentinel.ask(&certificates, "INFO sentinel");
            info.contains("status=ok") && info.contains("slaves=2,sentinels=3")
        })
    });
    assert_eq!(ask(&primary.0, "SET k v"), "+OK");
    assert_eq!(ask(&primary.0, "WAIT 2 10000"), ":2");
    drop(primary);
    let leads = |(server, _): &(ServerProcess, u16)| ask(server, "ROLE").contains("master");
    wait("a successor", &mut || leads(&first) || leads(&second));
    let (leader, other) = if leads(&first) { (&first, &second) } else { (&second, &first) };
    wait("that all agree", &mut || {
        sentinels.iter().all(|sentinel| {
            let address = sentinel.ask(&certificates, "SENTINEL get-master-addr-by-name it");
            address.ends_with(&leader.1.to_string())
        })
    });
    wait("that the other follows", &mut || {
        let info = ask(&other.0, "INFO replication");
        info.contains(&format!("master_port:{}\r\n", leader.1)) && info.contains("master_link_status:up")
    });
    assert_eq!(ask(&leader.0, "SET l w"), "+OK");
    wait("that the other gets it", &mut || ask(&other.0, "GET l") == "$1\r\nw");
    assert_eq!(ask(&other.0, "GET k"), "$1\r\nv");
}
