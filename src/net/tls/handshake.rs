//! The handshake at the beginning of a connection, step by step as the socket permits.
//!
//! The session is given one record at a time, so that it stops at the last one of the handshake: what comes behind it is
//! decrypted with the session's keys by [`Secure`], which takes over then.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{CertificateDer, IpAddr, Ipv4Addr, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, UnbufferedStatus};
use rustls::{AlertDescription, CertificateError, ClientConfig, CommonState, Error, ServerConfig};

use super::record::{self, Keys};
use super::secure::{Agreed, Schedule, Secure};
use crate::net::stream::Stream;

/// Bytes received at once.
const READ: usize = 4 << 10;
/// Most bytes that may wait to be understood: more than the longest chain of certificates that is accepted.
const MOST_WAITING: usize = 256 << 10;

/// What a handshake waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// For bytes of the peer.
    Readable,
    /// For space to send.
    Writable,
    /// For nothing: the session is agreed on.
    Done,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection broke.
    #[error("{}", crate::net::error_text(.0))]
    Io(#[from] io::Error),
    /// The peer closed it.
    #[error("unexpected eof while reading")]
    Eof,
    /// The two cannot agree, or one does not believe the other.
    #[error("{}", text(.0))]
    Tls(#[from] Error),
}

/// An error in the words that OpenSSL has for it, where it has some.
fn text(error: &Error) -> String {
    let words = match error {
        Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => "wrong version number",
        Error::NoCertificatesPresented => "peer did not return a certificate",
        Error::InvalidCertificate(reason) => {
            return format!("certificate verify failed: {}", certificate_text(reason));
        }
        Error::PeerIncompatible(reason) => return format!("no protocol or cipher in common: {reason:?}"),
        Error::AlertReceived(AlertDescription::UnknownCA) => "tlsv1 alert unknown ca",
        Error::AlertReceived(AlertDescription::CertificateRequired) => "tlsv13 alert certificate required",
        Error::AlertReceived(AlertDescription::HandshakeFailure) => "sslv3 alert handshake failure",
        Error::AlertReceived(AlertDescription::ProtocolVersion) => "tlsv1 alert protocol version",
        other => return other.to_string(),
    };
    words.to_owned()
}

fn certificate_text(reason: &CertificateError) -> String {
    match reason {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "certificate has expired".into()
        }
        CertificateError::NotValidYet => "certificate is not yet valid".into(),
        CertificateError::UnknownIssuer => "unable to get local issuer certificate".into(),
        CertificateError::InvalidPurpose => "unsuitable certificate purpose".into(),
        CertificateError::BadSignature => "certificate signature failure".into(),
        other => format!("{other:?}"),
    }
}

enum Session {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// A handshake that has begun, or is about to.
pub struct Handshake {
    begin: Begin,
    /// `None` before the first bytes have arrived: who says nothing costs next to nothing.
    session: Option<Session>,
    received: Vec<u8>,
    /// Length of the whole records at the front of `received` that the session has been given.
    given: usize,
    out: Vec<u8>,
    sent: usize,
    agreed: bool,
}

enum Begin {
    Server(Arc<ServerConfig>),
    Client(Arc<ClientConfig>),
}

/// What the session has done with what it was given.
enum Progress {
    /// Something: it can go on.
    Some,
    /// Nothing: it needs another record.
    Stuck,
    /// Everything.
    Agreed,
}

impl Handshake {
    pub(super) fn accept(config: &Arc<ServerConfig>) -> Handshake {
        Handshake::new(Begin::Server(Arc::clone(config)))
    }

    pub(super) fn connect(config: &Arc<ClientConfig>) -> Handshake {
        Handshake::new(Begin::Client(Arc::clone(config)))
    }

    fn new(begin: Begin) -> Handshake {
        Handshake {
            begin,
            session: None,
            received: Vec::new(),
            given: 0,
            out: Vec::new(),
            sent: 0,
            agreed: false,
        }
    }

    /// Goes as far as possible without waiting.
    ///
    /// # Errors
    /// There will be no session. The peer has been told why, if the socket took it.
    pub fn advance(&mut self, stream: &Stream) -> Result<Step, HandshakeError> {
        loop {
            if !self.flush(stream)? {
                return Ok(Step::Writable);
            }
            if self.agreed {
                return Ok(Step::Done);
            }
            match self.process() {
                Ok(Progress::Some) => {}
                Ok(Progress::Agreed) => self.agreed = true,
                Ok(Progress::Stuck) => {
                    if !self.receive(stream)? {
                        return Ok(Step::Readable);
                    }
                }
                Err(error) => {
                    self.say_why();
                    let _ = self.flush(stream);
                    return Err(error);
                }
            }
        }
    }

    /// The encrypted connection; the handshake is done.
    ///
    /// # Errors
    /// The library has no keys for us.
    pub fn finish(self, stream: Stream) -> Result<Secure, HandshakeError> {
        let (version, secrets, schedule) = match self.session {
            Some(Session::Server(session)) => {
                let (secrets, kernel) = session.dangerous_into_kernel_connection()?;
                (kernel.protocol_version(), secrets, Schedule::of_server(kernel))
            }
            Some(Session::Client(session)) => {
                let (secrets, kernel) = session.dangerous_into_kernel_connection()?;
                (kernel.protocol_version(), secrets, Schedule::of_client(kernel))
            }
            None => return Err(Error::HandshakeNotComplete.into()),
        };
        let agreed = Agreed {
            sealing: Keys::new(version, secrets.tx),
            opening: Keys::new(version, secrets.rx),
            schedule,
            received: self.received,
        };
        Ok(Secure::new(stream, agreed))
    }

    /// The certificate that the peer has shown, which was verified.
    pub fn peer_certificate(&self) -> Option<&CertificateDer<'static>> {
        let state: &CommonState = match self.session.as_ref()? {
            Session::Server(session) => session,
            Session::Client(session) => session,
        };
        state.peer_certificates()?.first()
    }

    fn flush(&mut self, stream: &Stream) -> io::Result<bool> {
        while self.sent < self.out.len() {
            match stream.send(&self.out[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(true)
    }

    /// Receives once; whether there was something.
    fn receive(&mut self, stream: &Stream) -> Result<bool, HandshakeError> {
        if self.received.len() > MOST_WAITING {
            return Err(Error::General("the peer's messages are too long".into()).into());
        }
        match stream.recv_into(&mut self.received, READ) {
            Ok(0) => Err(HandshakeError::Eof),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the session what there is.
    fn process(&mut self) -> Result<Progress, HandshakeError> {
        if self.session.is_none() {
            self.session = Some(match &self.begin {
                Begin::Server(_) if self.received.is_empty() => return Ok(Progress::Stuck),
                Begin::Server(config) => {
                    Session::Server(Box::new(UnbufferedServerConnection::new(Arc::clone(config))?))
                }
                Begin::Client(config) => {
                    // No name is checked, and none is told: an address is not sent.
                    let nobody = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4])));
                    Session::Client(Box::new(UnbufferedClientConnection::new(Arc::clone(config), nobody)?))
                }
            });
        }
        let given = &mut self.received[..self.given];
        let (discard, turn) = match self.session.as_mut() {
            Some(Session::Server(session)) => {
                let status = session.process_tls_records(given);
                (status.discard, take_turn(status, &mut self.out))
            }
            Some(Session::Client(session)) => {
                let status = session.process_tls_records(given);
                (status.discard, take_turn(status, &mut self.out))
            }
            None => unreachable!("made above"),
        };
        self.received.drain(..discard);
        self.given -= discard;
        match turn? {
            Turn::Done => Ok(Progress::Some),
            Turn::Traffic if !self.is_handshaking() => Ok(Progress::Agreed),
            Turn::Traffic | Turn::Blocked => match record::first_record(&self.received[self.given..]) {
                // Who speaks another protocol must not be waited for.
                Ok(None) if !record::may_be_record(&self.received[self.given..]) => {
                    Err(Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType).into())
                }
                Ok(None) => Ok(Progress::Stuck),
                Ok(Some(record)) => {
                    self.given += record.end;
                    Ok(Progress::Some)
                }
                // The session knows best what is wrong with it.
                Err(_) if self.given < self.received.len() => {
                    self.given = self.received.len();
                    Ok(Progress::Some)
                }
                Err(_) => Err(Error::InvalidMessage(rustls::InvalidMessage::MessageTooLarge).into()),
            },
        }
    }

    fn is_handshaking(&self) -> bool {
        match &self.session {
            Some(Session::Server(session)) => session.is_handshaking(),
            Some(Session::Client(session)) => session.is_handshaking(),
            None => true,
        }
    }

    /// Takes the alert that tells the peer what is wrong.
    fn say_why(&mut self) {
        // It is the first thing the session has to say, if there is any. It still refers to what it was given.
        let given = &mut self.received[..self.given];
        let _ = match self.session.as_mut() {
            Some(Session::Server(session)) => take_turn(session.process_tls_records(given), &mut self.out),
            Some(Session::Client(session)) => take_turn(session.process_tls_records(given), &mut self.out),
            None => return,
        };
    }
}

/// What became of one turn of the session.
enum Turn {
    /// It has done something.
    Done,
    /// It waits for a record.
    Blocked,
    /// It could send data.
    Traffic,
}

fn take_turn<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    out: &mut Vec<u8>,
) -> Result<Turn, HandshakeError> {
    match status.state? {
        ConnectionState::EncodeTlsData(mut data) => {
            let before = out.len();
            if let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) {
                out.resize(before + size.required_size, 0);
                let encoded = data.encode(&mut out[before..]);
                out.truncate(before + encoded.unwrap_or(0));
            }
            Ok(Turn::Done)
        }
        ConnectionState::TransmitTlsData(data) => {
            // It is sent before anything else happens.
            data.done();
            Ok(Turn::Done)
        }
        ConnectionState::BlockedHandshake => Ok(Turn::Blocked),
        ConnectionState::WriteTraffic(_) => Ok(Turn::Traffic),
        ConnectionState::PeerClosed | ConnectionState::Closed => Err(HandshakeError::Eof),
        _ => Err(Error::General("data before the end of the handshake".into()).into()),
    }
}

impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handshake").field("agreed", &self.agreed).finish_non_exhaustive()
    }
}
