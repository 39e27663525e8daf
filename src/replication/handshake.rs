//! The handshake: how a replica introduces itself to its primary, and how the primary answers.
//!
//! ```text
//! replica: PING            [AUTH …]  REPLCONF listening-port …  REPLCONF capa …  [REPLCONF version …]    PSYNC id offset
//! primary:         +PONG                                                          +OK +OK -ERR                        +CONTINUE …
//! ```
//!
//! A [`Handshake`] receives the primary's answers line by line and writes the requests to send next.

use thiserror::Error;

use super::history::ReplicationId;
use crate::resp::request::write_request;
use crate::stdx::num::parse_i64;
use crate::stdx::text::Lossy;

/// What a replica tells its primary about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Greeting {
    /// User name and password; the name of the default user is empty.
    pub auth: Option<(Vec<u8>, Vec<u8>)>,
    /// Port that the replica listens on.
    pub port: u16,
    /// Address to announce; `None` if the address of the connection is right.
    pub ip: Option<String>,
    /// Replication ID and offset from which the replica can continue; `None` if it has no data.
    pub position: Option<(ReplicationId, u64)>,
    /// Whether the primary is asked to hand over to this replica (`PSYNC … FAILOVER`).
    pub takes_over: bool,
}

/// The request whose answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Ping,
    Auth,
    Port,
    Address,
    Capabilities,
    Version,
    Psync,
    Sync,
}

/// What follows from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// More answers are awaited.
    Wait,
    /// The primary sends a snapshot, and then the stream from `offset` on.
    Full {
        /// Replication ID of the primary; `None` if the primary has no replication ID.
        id: Option<ReplicationId>,
        /// Offset in the stream to which the snapshot corresponds.
        offset: u64,
    },
    /// The primary continues the stream from the replica's offset, without a snapshot.
    Continue {
        /// Replication ID of the primary, if the answer has one.
        id: Option<ReplicationId>,
    },
}

/// Why the handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// The answer to PING is not one of a primary.
    #[error("Error reply to PING from master: '{0}'")]
    Ping(String),
    /// The password was refused.
    #[error("Unable to AUTH to MASTER: {0}")]
    Auth(String),
    /// The primary cannot synchronise replicas at the moment.
    #[error("Master is currently unable to PSYNC but should be in the future: {0}")]
    Later(String),
    /// The answer to PSYNC is malformed.
    #[error("Master replied with wrong +FULLRESYNC syntax: {0}")]
    Syntax(String),
    /// The primary refuses the failover.
    #[error("Failover target rejected psync request")]
    Failover,
}

/// The replica's side of a handshake.
#[derive(Debug)]
pub struct Handshake {
    greeting: Greeting,
    step: Step,
}

impl Handshake {
    /// Begins the handshake on a new connection and appends the first request to `out`.
    pub fn begin(greeting: Greeting, out: &mut Vec<u8>) -> Handshake {
        send(out, &[b"PING"]);
        Handshake { greeting, step: Step::Ping }
    }

    /// Whether the replica has requested the data and awaits the answer.
    pub fn has_asked(&self) -> bool {
        matches!(self.step, Step::Psync | Step::Sync)
    }

    /// Whether the primary has no replication IDs and was sent SYNC: the snapshot then follows without an answer.
    pub fn is_plain(&self) -> bool {
        self.step == Step::Sync
    }

    /// Processes one line from the primary, given without its line end. Appends the next requests to `out`.
    ///
    /// # Errors
    /// The handshake failed; the connection must be closed.
    pub fn answer(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Next, Failure> {
        // The primary sends empty lines to show that it is alive.
        if line.is_empty() {
            return Ok(Next::Wait);
        }
        let refused = line.first() == Some(&b'-');
        let text = || Lossy(line).to_string();
        let unimportant = |what: &str| {
            if refused {
                tracing::info!("(Non critical) Master does not understand REPLCONF {what}: {}", text());
            }
        };
        match self.step {
            Step::Ping => {
                const FINE: [&[u8]; 4] = [b"+", b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted"];
                if !FINE.iter().any(|fine| line.starts_with(fine)) {
                    return Err(Failure::Ping(text()));
                }
                tracing::info!("Master replied to PING, replication can continue...");
                self.introduce(out);
            }
            Step::Auth => {
                if refused {
                    return Err(Failure::Auth(text()));
                }
                self.step = Step::Port;
            }
            Step::Port => {
                unimportant("listening-port");
                self.step = if self.greeting.ip.is_some() { Step::Address } else { Step::Capabilities };
            }
            Step::Address => {
                unimportant("ip-address");
                self.step = Step::Capabilities;
            }
            Step::Capabilities => {
                unimportant("capa");
                self.step = Step::Version;
            }
            Step::Version => {
                // Only Valkey knows this option; other primaries answer with an error, which is harmless.
                self.step = Step::Psync;
                self.ask(out);
            }
            Step::Psync => return self.synchronised(line, out),
            Step::Sync => {}
        }
        Ok(Next::Wait)
    }

    /// Sends all of these requests at once, since no request depends on an answer to another.
    fn introduce(&mut self, out: &mut Vec<u8>) {
        let greeting = &self.greeting;
        match &greeting.auth {
            Some((user, password)) if user.is_empty() => send(out, &[b"AUTH", password]),
            Some((user, password)) => send(out, &[b"AUTH", user, password]),
            None => {}
        }
        send(out, &[b"REPLCONF", b"listening-port", greeting.port.to_string().as_bytes()]);
        if let Some(ip) = &greeting.ip {
            send(out, &[b"REPLCONF", b"ip-address", ip.as_bytes()]);
        }
        send(out, &[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]);
        send(out, &[b"REPLCONF", b"version", UNDERSTOOD.as_bytes()]);
        self.step = if greeting.auth.is_some() { Step::Auth } else { Step::Port };
    }

    fn ask(&self, out: &mut Vec<u8>) {
        match &self.greeting.position {
            Some((id, offset)) => {
                // Number of the first missing byte, counted from 1.
                let next = (offset + 1).to_string();
                tracing::info!("Trying a partial resynchronization (request {id}:{next}).");
                if self.greeting.takes_over {
                    send(out, &[b"PSYNC", id.as_bytes(), next.as_bytes(), b"FAILOVER"]);
                } else {
                    send(out, &[b"PSYNC", id.as_bytes(), next.as_bytes()]);
                }
            }
            None => {
                tracing::info!("Partial resynchronization not possible (no cached master)");
                send(out, &[b"PSYNC", b"?", b"-1"]);
            }
        }
    }

    fn synchronised(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<Next, Failure> {
        let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let text = || Lossy(line).to_string();
        if self.greeting.takes_over && !line.starts_with(b"+CONTINUE") && !line.starts_with(b"+FULLRESYNC") {
            return Err(Failure::Failover);
        }
        match words[..] {
            [b"+FULLRESYNC", id, offset] => {
                let offset = parse_i64(offset).and_then(|offset| u64::try_from(offset).ok());
                let (Some(id), Some(offset)) = (ReplicationId::parse(id), offset) else {
                    return Err(Failure::Syntax(text()));
                };
                tracing::info!("Full resync from master: {id}:{offset}");
                Ok(Next::Full { id: Some(id), offset })
            }
            [b"+FULLRESYNC", ..] => Err(Failure::Syntax(text())),
            [b"+CONTINUE", ref rest @ ..] if self.greeting.position.is_some() => {
                tracing::info!("Successful partial resynchronization with master.");
                Ok(Next::Continue { id: rest.first().and_then(|id| ReplicationId::parse(id)) })
            }
            [b"-NOMASTERLINK" | b"-LOADING", ..] => Err(Failure::Later(text())),
            _ => {
                if line.starts_with(b"-ERR") {
                    tracing::info!("Master does not support PSYNC or is in error state (reply: {})", text());
                } else {
                    tracing::warn!("Unexpected reply to PSYNC from master: {}", text());
                }
                tracing::info!("Retrying with SYNC...");
                send(out, &[b"SYNC"]);
                self.step = Step::Sync;
                Ok(Next::Full { id: None, offset: 0 })
            }
        }
    }
}

/// The Valkey version reported to primaries: a primary of that family sends snapshots that this version can read.
pub const UNDERSTOOD: &str = "9.0.0";

fn send(out: &mut Vec<u8>, args: &[&[u8]]) {
    write_request(out, args.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    fn sent(out: &mut Vec<u8>) -> String {
        let text = String::from_utf8(std::mem::take(out)).expect("text");
        let words = text.split("\r\n").filter(|word| !word.starts_with(['$', '*']));
        words.collect::<Vec<_>>().join(" ").trim().to_owned()
    }

    fn until_psync(handshake: &mut Handshake, out: &mut Vec<u8>) {
        while !handshake.has_asked() {
            assert_eq!(handshake.answer(b"+OK", out), Ok(Next::Wait));
        }
    }

    #[test]
    fn a_replica_introduces_itself_and_asks_for_what_it_misses() {
        let id = ReplicationId::random(&mut Rng::new(1));
        let mut out = Vec::new();
        let greeting = Greeting {
            auth: Some((b"ann".to_vec(), b"pass".to_vec())),
            port: 6380,
            ip: Some("10.0.0.1".to_owned()),
            position: Some((id, 41)),
            takes_over: false,
        };
        let mut handshake = Handshake::begin(greeting.clone(), &mut out);
        assert_eq!(sent(&mut out), "PING");
        assert_eq!(handshake.answer(b"-NOAUTH Authentication required.", &mut out), Ok(Next::Wait));
        assert_eq!(
            sent(&mut out),
            "AUTH ann pass REPLCONF listening-port 6380 REPLCONF ip-address 10.0.0.1 REPLCONF capa eof capa psync2 \
             REPLCONF version 9.0.0"
        );
        for line in [&b"+OK"[..], b"+OK", b"-ERR unknown option", b"+OK"] {
            assert_eq!(handshake.answer(line, &mut out), Ok(Next::Wait));
            assert!(out.is_empty());
        }
        assert_eq!(handshake.answer(b"-ERR Unrecognized REPLCONF option: version", &mut out), Ok(Next::Wait));
        assert_eq!(sent(&mut out), format!("PSYNC {id} 42"));
        assert_eq!(handshake.answer(b"", &mut out), Ok(Next::Wait));
        let other = ReplicationId::random(&mut Rng::new(2));
        let line = format!("+CONTINUE {other}");
        assert_eq!(handshake.answer(line.as_bytes(), &mut out), Ok(Next::Continue { id: Some(other) }));

        let mut handshake = Handshake::begin(Greeting { takes_over: true, ..greeting }, &mut out);
        until_psync(&mut handshake, &mut out);
        assert!(sent(&mut out).ends_with(" 42 FAILOVER"));
        assert_eq!(handshake.answer(b"-ERR no", &mut out), Err(Failure::Failover));
    }

    #[test]
    fn answers_to_psync() {
        let id = ReplicationId::random(&mut Rng::new(1));
        let asked = || {
            let mut out = Vec::new();
            let mut handshake = Handshake::begin(Greeting::default(), &mut out);
            until_psync(&mut handshake, &mut out);
            assert!(sent(&mut out).ends_with("PSYNC ? -1"));
            handshake
        };
        let answer = |line: &str| asked().answer(line.as_bytes(), &mut Vec::new());
        let full = Next::Full { id: Some(id), offset: 77 };
        assert_eq!(answer(&format!("+FULLRESYNC {id} 77")), Ok(full));
        for wrong in ["+FULLRESYNC", "+FULLRESYNC x 7", &format!("+FULLRESYNC {id} -7"), "+FULLRESYNC "] {
            assert_eq!(answer(wrong), Err(Failure::Syntax(wrong.to_owned())));
        }
        assert!(matches!(answer("-LOADING wait"), Err(Failure::Later(_))));
        assert!(matches!(answer("-NOMASTERLINK wait"), Err(Failure::Later(_))));
        // Nobody goes on from nothing.
        for odd in ["-ERR unknown command", "+OK", "+CONTINUE"] {
            let (mut handshake, mut out) = (asked(), Vec::new());
            assert_eq!(handshake.answer(odd.as_bytes(), &mut out), Ok(Next::Full { id: None, offset: 0 }));
            assert_eq!(sent(&mut out), "SYNC");
            assert!(handshake.is_plain());
        }
    }

    #[test]
    fn servers_that_are_not_primaries_are_left() {
        let mut out = Vec::new();
        let mut handshake = Handshake::begin(Greeting::default(), &mut out);
        assert!(matches!(handshake.answer(b"-ERR wrong", &mut out), Err(Failure::Ping(_))));
        let greeting = Greeting { auth: Some((Vec::new(), b"x".to_vec())), ..Greeting::default() };
        let mut handshake = Handshake::begin(greeting, &mut out);
        assert_eq!(handshake.answer(b"+PONG", &mut out), Ok(Next::Wait));
        assert!(matches!(handshake.answer(b"-WRONGPASS no", &mut out), Err(Failure::Auth(_))));
    }
}
