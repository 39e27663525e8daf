//! A connection whose bytes are encrypted: a socket with the keys of its session.
//!
//! The session was agreed on by a [`Handshake`](super::handshake::Handshake). What is received is decrypted where the
//! reader wants it, and what does not fit there stays with the session: as long as there is such plaintext, a receive
//! reports that there is more, because no event of the socket will. What is sent is gathered into records of 16 KB. A
//! send that the socket does not take completely has sent nothing as far as the caller can see: the same bytes are to
//! be passed again when the socket is writable, and are counted as sent once their last record has left.
#![allow(unsafe_code)]

use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;

use rustls::ProtocolVersion;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::record::{self, BadRecord, Content, HEADER, Keys, MOST_OVERHEAD, MOST_PLAIN};
use crate::net::io::Received;
use crate::net::stream::Stream;

/// Bytes received at once into the reader's space, so that one connection does not hold up others with decrypting.
const MOST_RECEIVED: usize = 256 << 10;
/// Fewest bytes of the reader's space into which records are received.
const LEAST_ROOM: usize = 1 << 10;
/// Bytes of plaintext encrypted for one system call.
const MOST_SENT: usize = 4 * MOST_PLAIN;
/// Most bytes of an unfinished message of the handshake: session tickets are the longest that may come.
const LONGEST_MESSAGE: usize = 96 << 10;
/// Most messages in a row that bring no data, such as changes of the keys, until a peer counts as hostile.
const MOST_IDLE_MESSAGES: u8 = 32;

const CLOSE_NOTIFY: u8 = 0;
const UNEXPECTED_MESSAGE: u8 = 10;
const NO_RENEGOTIATION: u8 = 100;

/// Types of messages of the handshake.
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;

/// What a session of version 1.3 needs to change its keys; a client's also keeps tickets.
pub(super) enum Schedule {
    Server(Box<KernelConnection<ServerConnectionData>>),
    Client(Box<KernelConnection<ClientConnectionData>>),
    /// Version 1.2: the keys stay.
    Fixed,
}

impl Schedule {
    pub(super) fn of_server(kernel: KernelConnection<ServerConnectionData>) -> Schedule {
        match kernel.protocol_version() {
            ProtocolVersion::TLSv1_3 => Schedule::Server(Box::new(kernel)),
            _ => Schedule::Fixed,
        }
    }

    pub(super) fn of_client(kernel: KernelConnection<ClientConnectionData>) -> Schedule {
        match kernel.protocol_version() {
            ProtocolVersion::TLSv1_3 => Schedule::Client(Box::new(kernel)),
            _ => Schedule::Fixed,
        }
    }
}

/// A socket with the keys of its session.
pub struct Secure {
    stream: Stream,
    sealing: Keys,
    opening: Keys,
    schedule: Schedule,
    /// Bytes received: first plaintext that the reader had no space for, from `taken` to `plain`, then what is not
    /// decrypted.
    held: Vec<u8>,
    taken: usize,
    plain: usize,
    /// Records to be sent, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// Length of the plaintext of the records in `out`.
    sealed: usize,
    /// The beginning of a message of the handshake that goes on in the next record.
    message: Vec<u8>,
    end: Option<End>,
    idle_messages: u8,
    /// The peer has asked for new keys, which come before the next data.
    owes_key_update: bool,
    owes_refusal: bool,
    /// More may be in the socket than was received last.
    undrained: bool,
}

/// Why nothing more is received.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The peer has said goodbye.
    Closed,
    Failed(Failure),
}

/// What ended a session.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Record(#[from] BadRecord),
    #[error("the peer sent the alert {0}")]
    Alert(u8),
    #[error("unexpected message")]
    Message,
    #[error("the keys are worn out")]
    Worn,
    #[error("the keys cannot be changed")]
    Schedule,
}

impl Failure {
    fn error(self) -> io::Error {
        io::Error::new(ErrorKind::InvalidData, self)
    }

    /// The alert that tells the peer; `None` if it is the peer who said so.
    fn alert(self) -> Option<u8> {
        match self {
            Failure::Record(bad) => Some(bad.alert()),
            Failure::Alert(_) => None,
            Failure::Message | Failure::Schedule => Some(UNEXPECTED_MESSAGE),
            Failure::Worn => Some(CLOSE_NOTIFY),
        }
    }
}

/// What a handshake has agreed on.
pub(super) struct Agreed {
    pub(super) sealing: Keys,
    pub(super) opening: Keys,
    pub(super) schedule: Schedule,
    /// Bytes received behind the handshake.
    pub(super) received: Vec<u8>,
}

impl Secure {
    pub(super) fn new(stream: Stream, agreed: Agreed) -> Secure {
        let Agreed { sealing, opening, schedule, mut received } = agreed;
        received.shrink_to_fit();
        Secure {
            stream,
            sealing,
            opening,
            schedule,
            held: received,
            taken: 0,
            plain: 0,
            out: Vec::new(),
            sent: 0,
            sealed: 0,
            message: Vec::new(),
            end: None,
            idle_messages: 0,
            owes_key_update: false,
            owes_refusal: false,
            undrained: true,
        }
    }

    /// The socket.
    #[inline]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The socket, mutable, to register it.
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// Whether a receive would return something although the socket is empty.
    pub fn holds_plaintext(&self) -> bool {
        self.taken < self.plain
            || self.end.is_some()
            || matches!(record::first_record(&self.held[self.plain..]), Ok(Some(_)) | Err(_))
    }

    /// Bytes allocated, besides the value itself.
    pub fn allocated(&self) -> usize {
        self.held.capacity() + self.out.capacity() + self.message.capacity()
    }

    // ---- receiving ------------------------------------------------------------------------

    /// Receives plaintext into `room`, which is initialised as far as the result says. At most one system call.
    ///
    /// # Errors
    /// What broke the connection, or that the peer does not keep to the protocol. Never `WouldBlock`.
    pub fn receive(&mut self, room: &mut [MaybeUninit<u8>]) -> io::Result<Received> {
        if self.taken < self.plain {
            return Ok(self.take_held(room));
        }
        if let Some(end) = self.end {
            return self.report(end);
        }
        let n = if room.len() >= self.held.len() + LEAST_ROOM {
            self.receive_directly(room)?
        } else {
            self.receive_aside()?;
            if self.taken < self.plain {
                return Ok(self.take_held(room));
            }
            0
        };
        match self.end {
            Some(_) if n > 0 => Ok(Received::More(n)),
            Some(end) => self.report(end),
            None if self.undrained || self.holds_plaintext() => Ok(Received::More(n)),
            None if n == 0 => Ok(Received::Nothing),
            None => Ok(Received::Drained(n)),
        }
    }

    /// As [`Secure::receive`]: appends at most `room` bytes to `out`.
    ///
    /// # Errors
    /// As [`Secure::receive`].
    pub fn receive_into(&mut self, out: &mut Vec<u8>, room: usize) -> io::Result<Received> {
        out.reserve(room);
        let received = self.receive(&mut out.spare_capacity_mut()[..room])?;
        if let Received::Drained(n) | Received::More(n) = received {
            // SAFETY: `receive` has initialised that many bytes at the start of the spare capacity.
            unsafe { out.set_len(out.len() + n) };
        }
        Ok(received)
    }

    /// Copies plaintext that was kept.
    fn take_held(&mut self, room: &mut [MaybeUninit<u8>]) -> Received {
        let n = room.len().min(self.plain - self.taken);
        room[..n].write_copy_of_slice(&self.held[self.taken..self.taken + n]);
        self.taken += n;
        if self.taken == self.plain {
            self.held.drain(..self.plain);
            (self.taken, self.plain) = (0, 0);
            if self.held.is_empty() {
                self.held = Vec::new();
            }
        }
        let more = self.undrained || self.holds_plaintext();
        if more { Received::More(n) } else { Received::Drained(n) }
    }

    /// Receives into `room` and decrypts there. Returns the length of the plaintext.
    fn receive_directly(&mut self, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        let most = room.len().min(MOST_RECEIVED);
        let room = &mut room[..most];
        let before = self.held.len();
        // What is held may be complete: it came with the end of the handshake.
        room[..before].write_copy_of_slice(&self.held);
        let received = self.receive_from_socket(&mut room[before..])?;
        let filled = &mut room[..before + received];
        // SAFETY: the first `before` elements were copied, and the socket has initialised `received` behind them.
        let bytes = unsafe { filled.assume_init_mut() };
        let (plain, rest) = self.decrypt(bytes);
        self.held.clear();
        if rest < bytes.len() && self.end.is_none() {
            self.held.extend_from_slice(&bytes[rest..]);
        } else {
            self.held = Vec::new();
        }
        Ok(plain)
    }

    /// Receives the rest of a record that does not fit where the reader wants it, and decrypts it here.
    fn receive_aside(&mut self) -> io::Result<()> {
        let wanted = (HEADER + MOST_PLAIN + 256).saturating_sub(self.held.len()).max(LEAST_ROOM);
        let mut held = std::mem::take(&mut self.held);
        held.reserve(wanted);
        let len = held.len();
        let received = self.receive_from_socket(&mut held.spare_capacity_mut()[..wanted]);
        if let Ok(n) = received {
            // SAFETY: the socket has initialised `n` bytes at the start of the spare capacity.
            unsafe { held.set_len(len + n) };
        }
        let (plain, rest) = self.decrypt(&mut held);
        held.drain(plain..rest);
        if self.end.is_some() {
            held.truncate(plain);
        }
        (self.taken, self.plain) = (0, plain);
        self.held = held;
        received.map(|_| ())
    }

    /// Receives once. Nothing there is zero bytes; so is the end of the stream, which is noted.
    fn receive_from_socket(&mut self, room: &mut [MaybeUninit<u8>]) -> io::Result<usize> {
        match self.stream.recv(room) {
            Ok(0) => {
                // The peer should have said goodbye, but hardly any client does. Requests tell their lengths.
                self.end = Some(End::Closed);
                Ok(0)
            }
            Ok(n) => {
                self.undrained = n == room.len();
                Ok(n)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.undrained = false;
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Decrypts the complete records in `bytes`. Their plaintext stands at the front afterwards; returns its length, and
    /// where the bytes that are not decrypted begin.
    fn decrypt(&mut self, bytes: &mut [u8]) -> (usize, usize) {
        let (mut plain, mut at) = (0, 0);
        loop {
            let record = match record::first_record(&bytes[at..]) {
                Ok(None) => break,
                Ok(Some(record)) => at..at + record.end,
                Err(bad) => {
                    self.fail(bad.into());
                    break;
                }
            };
            let opened = self.opening.open(&mut bytes[plain..record.end], record.start - plain);
            at = record.end;
            let goes_on = match opened {
                Ok((Content::Data, len)) => {
                    let taken = self.take_data(len);
                    plain += len;
                    taken
                }
                Ok((Content::Handshake, len)) => self.take_messages(&bytes[plain..plain + len]),
                Ok((Content::Alert, len)) => self.take_alert(&bytes[plain..plain + len]),
                Err(bad) => Err(bad.into()),
            };
            match goes_on {
                Ok(true) => {}
                Ok(false) => {
                    self.end = Some(End::Closed);
                    break;
                }
                Err(failure) => {
                    self.fail(failure);
                    break;
                }
            }
        }
        (plain, at)
    }

    /// Takes note of data; whether the session goes on, here and below.
    #[inline]
    fn take_data(&mut self, len: usize) -> Result<bool, Failure> {
        if !self.message.is_empty() {
            return Err(Failure::Message);
        }
        if len == 0 {
            return self.count_idle();
        }
        self.idle_messages = 0;
        Ok(true)
    }

    fn take_alert(&mut self, alert: &[u8]) -> Result<bool, Failure> {
        const WARNING: u8 = 1;
        match *alert {
            [_, CLOSE_NOTIFY] => Ok(false),
            [WARNING, _] if matches!(self.schedule, Schedule::Fixed) => self.count_idle(),
            [_, code] => Err(Failure::Alert(code)),
            _ => Err(Failure::Message),
        }
    }

    fn count_idle(&mut self) -> Result<bool, Failure> {
        self.idle_messages += 1;
        if self.idle_messages < MOST_IDLE_MESSAGES { Ok(true) } else { Err(Failure::Message) }
    }

    /// Takes messages of the handshake, which may come at any time.
    fn take_messages(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        self.message.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((&[kind, high, middle, low], rest)) = self.message[at..].split_first_chunk::<4>() {
            let len = u32::from_be_bytes([0, high, middle, low]) as usize;
            if len > LONGEST_MESSAGE {
                return Err(Failure::Message);
            }
            let Some(body) = rest.get(..len) else { break };
            let (body, last) = (body.to_vec(), rest.len() == len);
            self.take_message(kind, &body, last)?;
            at += 4 + len;
        }
        if at == self.message.len() {
            self.message = Vec::new();
        } else {
            self.message.drain(..at);
        }
        Ok(true)
    }

    fn take_message(&mut self, kind: u8, body: &[u8], last: bool) -> Result<bool, Failure> {
        match (&mut self.schedule, kind) {
            (Schedule::Client(kernel), NEW_SESSION_TICKET) => {
                kernel.handle_new_session_ticket(body).map_err(|_| Failure::Message)?;
                self.count_idle()
            }
            // What comes behind it in its record would be of the old keys.
            (Schedule::Client(_) | Schedule::Server(_), KEY_UPDATE) if last => {
                let secrets = match &mut self.schedule {
                    Schedule::Client(kernel) => kernel.update_rx_secret(),
                    Schedule::Server(kernel) => kernel.update_rx_secret(),
                    Schedule::Fixed => unreachable!("matched above"),
                };
                let secrets = secrets.map_err(|_| Failure::Schedule)?;
                self.opening = Keys::new(ProtocolVersion::TLSv1_3, secrets);
                match body {
                    [0] => {}
                    // It is answered once before the next data, however often it was asked.
                    [1] => self.owes_key_update = true,
                    _ => return Err(Failure::Message),
                }
                self.count_idle()
            }
            // In version 1.2 the peer may ask for another handshake, and is refused.
            (Schedule::Fixed, HELLO_REQUEST | CLIENT_HELLO) => {
                self.owes_refusal = true;
                self.say_what_is_owed();
                self.count_idle()
            }
            _ => Err(Failure::Message),
        }
    }

    /// The session ends with `failure`.
    fn fail(&mut self, failure: Failure) {
        self.end = Some(End::Failed(failure));
        if let Some(alert) = failure.alert() {
            self.say(2, alert);
        }
    }

    fn report(&self, end: End) -> io::Result<Received> {
        match end {
            End::Closed => Ok(Received::Closed),
            End::Failed(failure) => Err(failure.error()),
        }
    }

    // ---- sending --------------------------------------------------------------------------

    /// Gives the session a buffer to encrypt in, if it has none.
    #[inline]
    pub fn lend(&mut self, buffer: impl FnOnce() -> Vec<u8>) {
        if self.out.capacity() == 0 {
            self.out = buffer();
        }
    }

    /// The buffer, if everything in it has left.
    #[inline]
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        (self.out.is_empty() && self.out.capacity() > 0).then(|| std::mem::take(&mut self.out))
    }

    /// Sends a prefix of the concatenated `pieces`, at most 64 KB and at most `limit` bytes, and returns its length. One or
    /// two system calls.
    ///
    /// # Errors
    /// `WouldBlock` if the socket is full: the call must be repeated with the same bytes, or more of them. Otherwise what
    /// broke the connection.
    pub fn send<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>, limit: usize) -> io::Result<usize> {
        if !self.out.is_empty() {
            self.flush()?;
            let sealed = std::mem::take(&mut self.sealed);
            if sealed > 0 {
                return Ok(sealed);
            }
        }
        self.refresh_keys()?;
        self.seal(pieces, limit.min(MOST_SENT));
        self.flush()?;
        Ok(std::mem::take(&mut self.sealed))
    }

    /// As [`Secure::send`], for bytes in one piece.
    ///
    /// # Errors
    /// As [`Secure::send`].
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(std::iter::once(bytes), bytes.len())
    }

    /// Encrypts the first `limit` bytes of `pieces` into as few records as possible.
    fn seal<'a>(&mut self, mut pieces: impl Iterator<Item = &'a [u8]>, limit: usize) {
        let mut left = limit;
        let mut piece: &[u8] = &[];
        let Secure { out, sealing, .. } = self;
        while left > 0 {
            if piece.is_empty() {
                match pieces.next() {
                    Some(next) => piece = next,
                    None => break,
                }
                continue;
            }
            let room = left.min(MOST_PLAIN);
            let mut filled = 0;
            out.reserve(piece.len().min(room) + MOST_OVERHEAD);
            sealing.seal(Content::Data, out, |out| {
                while filled < room {
                    let part = &piece[..piece.len().min(room - filled)];
                    out.extend_from_slice(part);
                    filled += part.len();
                    piece = &piece[part.len()..];
                    if piece.is_empty() {
                        match pieces.next() {
                            Some(next) => piece = next,
                            None => break,
                        }
                    }
                }
            });
            left -= filled;
            self.sealed += filled;
        }
    }

    /// Sends what is encrypted.
    fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            self.sent += self.stream.send(&self.out[self.sent..])?;
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Changes the keys if the peer has asked for it or they are worn.
    #[inline]
    fn refresh_keys(&mut self) -> io::Result<()> {
        if self.owes_key_update || self.owes_refusal || self.sealing.are_worn() {
            return self.refresh_keys_now();
        }
        Ok(())
    }

    #[cold]
    fn refresh_keys_now(&mut self) -> io::Result<()> {
        self.say_what_is_owed();
        if !self.owes_key_update && !self.sealing.are_worn() {
            return Ok(());
        }
        let secrets = match &mut self.schedule {
            Schedule::Server(kernel) => kernel.update_tx_secret(),
            Schedule::Client(kernel) => kernel.update_tx_secret(),
            Schedule::Fixed => return Err(Failure::Worn.error()),
        };
        let secrets = secrets.map_err(|_| Failure::Schedule.error())?;
        self.sealing.seal(Content::Handshake, &mut self.out, |out| {
            out.extend_from_slice(&[KEY_UPDATE, 0, 0, 1, 0]);
        });
        self.sealing = Keys::new(ProtocolVersion::TLSv1_3, secrets);
        self.owes_key_update = false;
        Ok(())
    }

    fn say_what_is_owed(&mut self) {
        if self.owes_refusal && self.out.is_empty() {
            self.owes_refusal = false;
            self.say(1, NO_RENEGOTIATION);
        }
    }

    /// Sends an alert if the socket takes it at once.
    fn say(&mut self, level: u8, alert: u8) {
        // Behind a part of a record, nothing can be said.
        if self.sent > 0 {
            return;
        }
        self.sealing.seal(Content::Alert, &mut self.out, |out| out.extend_from_slice(&[level, alert]));
        // Whatever is not taken leaves with the next data, if there are any.
        let _ = self.flush();
    }

    /// Tells the peer that nothing more will come, if the socket takes that at once. To be called before the connection is
    /// closed.
    pub fn say_goodbye(&mut self) {
        if self.end.is_none_or(|end| matches!(end, End::Closed)) && self.out.is_empty() {
            self.say(1, CLOSE_NOTIFY);
        }
    }
}

impl std::fmt::Debug for Secure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secure").field("stream", &self.stream).finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Secure {
    /// Has the next send change the keys, or fail.
    pub(super) fn wear_out(&mut self) {
        self.sealing.wear_out();
    }

    /// As if the peer had asked for new keys.
    pub(super) fn owe_key_update(&mut self) {
        self.owes_key_update = true;
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    pub(super) fn seal_into(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.sealing.seal(Content::Data, out, |out| out.extend_from_slice(bytes));
    }
}
