//! All kinds of clients at once, in the clear and over TLS, while the number of threads goes up and down.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use spinel::stdx::rng::Rng;

use super::certificates::{Certificates, SecureClient};
use super::support::{Client, ServerProcess, free_port, run, spinel};
use super::{duration, field, request, seed, wait_for};

/// A connection of either kind.
enum Connection {
    Plain(Client),
    Secure(Box<SecureClient>),
}

impl Connection {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Connection::Plain(client) => client.send(bytes),
            Connection::Secure(client) => client.send(bytes),
        }
    }

    fn reply(&mut self) -> io::Result<Vec<u8>> {
        let client = match self {
            Connection::Plain(client) => return client.reply(),
            Connection::Secure(client) => client,
        };
        let mut reply = client.reply()?;
        if reply[0] == b'*' {
            let elements = String::from_utf8_lossy(&reply[1..]).trim_end().parse().unwrap_or(0);
            for _ in 0..elements {
                reply.extend(client.reply()?);
            }
        }
        Ok(reply)
    }

    fn run(&mut self, words: &[&str]) -> Vec<u8> {
        self.send(&request(words)).expect("the server reads");
        self.reply().expect("the server answers")
    }
}

/// Counts on a key of its own until told to stop, with pipelines of random length.
fn count(mut connection: Connection, key: &str, seed: u64, stop: &AtomicBool) -> u64 {
    let (mut rng, mut count) = (Rng::new(seed), 0);
    while !stop.load(Ordering::Relaxed) {
        let n = 1 + rng.below(30);
        connection.send(&request(&["INCR", key]).repeat(n as usize)).expect("the server reads");
        for _ in 0..n {
            count += 1;
            let reply = connection.reply().expect("the server answers");
            assert_eq!(reply, format!(":{count}\r\n").as_bytes(), "{key}");
        }
    }
    count
}

/// Reads the numbers from 0 that somebody publishes, up to the end.
fn listen(mut connection: Connection) {
    let message = |text: &str| format!("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n${}\r\n{text}\r\n", text.len());
    for n in 0.. {
        let got = connection.reply().expect("a message");
        if got == message("end").as_bytes() {
            break;
        }
        assert_eq!(got, message(&n.to_string()).as_bytes());
    }
}

/// Waits again and again for the numbers from 0 that somebody appends to a list, up to the end.
fn take(mut connection: Connection, list: &str) {
    let item = |text: &str| format!("*2\r\n${}\r\n{list}\r\n${}\r\n{text}\r\n", list.len(), text.len());
    for n in 0.. {
        let got = connection.run(&["BLPOP", list, "0"]);
        if got == item("end").as_bytes() {
            break;
        }
        assert_eq!(got, item(&n.to_string()).as_bytes());
    }
}

#[test]
fn all_kinds_of_clients_move_between_threads() {
    let Some(certificates) = Certificates::new("threads") else { return };
    let (seed, port) = (seed(), free_port());
    let options = certificates.options(port);
    let options: Vec<&str> = options.iter().map(String::as_str).chain(["--io-threads", "2"]).collect();
    let server = ServerProcess::start(&spinel(), &options);
    let connect = |secure| {
        if secure {
            Connection::Secure(Box::new(certificates.connect(port)))
        } else {
            Connection::Plain(server.client())
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    let both = [false, true];
    let counters: Vec<_> = (0..8)
        .map(|i| {
            let (connection, stop) = (connect(i % 2 == 1), Arc::clone(&stop));
            thread::spawn(move || count(connection, &format!("counter:{i}"), seed.wrapping_add(i), &stop))
        })
        .collect();
    let mut others = Vec::new();
    for secure in both {
        let mut listener = connect(secure);
        assert_eq!(listener.run(&["SUBSCRIBE", "news"]), b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n");
        others.push(thread::spawn(move || listen(listener)));
        let taker = connect(secure);
        others.push(thread::spawn(move || take(taker, &format!("list:{secure}"))));
    }
    let (mut teller, told) = (connect(true), Arc::clone(&stop));
    others.push(thread::spawn(move || {
        let mut n = 0;
        loop {
            let last = told.load(Ordering::Relaxed);
            let text = if last { "end".to_owned() } else { n.to_string() };
            assert_eq!(teller.run(&["PUBLISH", "news", &text]), b":2\r\n");
            for secure in both {
                teller.run(&["RPUSH", &format!("list:{secure}"), &text]);
            }
            if last {
                break;
            }
            n += 1;
        }
    }));
    let mut operator = server.client();
    let (mut rng, until) = (Rng::new(seed), Instant::now() + 2 * duration());
    while Instant::now() < until {
        for n in [1 + rng.below(5), 1] {
            assert_eq!(run(&mut operator, &format!("CONFIG SET io-threads {n}")), "+OK");
            let list = run(&mut operator, "CLIENT LIST");
            assert_eq!(list.matches(" addr=127.0.0.1:").count(), 14, "{list}");
            thread::sleep(Duration::from_millis(rng.below(50)));
        }
    }
    stop.store(true, Ordering::Relaxed);
    for (i, counter) in counters.into_iter().enumerate() {
        let count = counter.join().expect("every reply is right").to_string();
        let expected = format!("${}\r\n{count}", count.len());
        assert_eq!(run(&mut operator, &format!("GET counter:{i}")), expected);
    }
    others.into_iter().for_each(|client| client.join().expect("nothing is lost or comes twice"));
    wait_for("all have left", || field(&run(&mut operator, "INFO clients"), "connected_clients") == "1");
}
