//! TLS: who may speak with whom, and how nobody else can read or change it.
//!
//! - [`Settings`] say what the configuration says, and [`Contexts::load`] reads the files that they name. What results
//!   does not change: another configuration makes other contexts, and sessions go on with the ones that they began with.
//! - An [`Acceptor`] begins the [`Handshake`] of a connection that somebody has opened to us, a [`Connector`] that of
//!   one that we have opened. The handshake is rustls's; it is driven by the readiness of the socket.
//! - When it is done, a [`Secure`] takes the socket and the keys, and encrypts and decrypts records where they lie.
//!
//! Spoken are versions 1.2 and 1.3 with authenticated encryption and keys agreed on for each session. A setting that
//! asks for something else is refused with what there is instead; nothing is weaker than it was asked for.

mod certificate;
mod der;
mod encrypted;
mod files;
pub mod handshake;
mod record;
pub mod secure;
mod sessions;
mod suites;
#[cfg(test)]
mod tests;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};

pub use files::Stamp;
pub use handshake::{Handshake, HandshakeError, Step};
pub use secure::Secure;

use certificate::Certificate;
use verify::Authorities;

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked for one.
    Ignored,
    /// They may show one, which must be valid then.
    Optional,
    /// They must show one.
    Required,
}

/// What the configuration says. Empty texts stand for what it does not say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// File of our certificate.
    pub cert_file: String,
    /// File of its key.
    pub key_file: String,
    /// Password of the key.
    pub key_file_pass: Vec<u8>,
    /// File of our certificate for connections that we open; empty for the one above.
    pub client_cert_file: String,
    /// File of its key.
    pub client_key_file: String,
    /// Password of that key.
    pub client_key_file_pass: Vec<u8>,
    /// File of those whom we believe.
    pub ca_cert_file: String,
    /// Directory of those whom we believe.
    pub ca_cert_dir: String,
    /// Versions to speak.
    pub protocols: String,
    /// Ciphers up to version 1.2.
    pub ciphers: String,
    /// Suites of version 1.3.
    pub ciphersuites: String,
    /// Whether our order of ciphers counts, and not the client's.
    pub prefer_server_ciphers: bool,
    /// Whether clients must show a certificate.
    pub client_certificates: ClientCertificates,
    /// Whether somebody must be believed in any case: other servers are connected to.
    pub needs_authorities: bool,
    /// Whether clients may resume sessions.
    pub session_caching: bool,
    /// Most sessions that are kept for clients; 0 for no limit.
    pub session_cache_size: usize,
    /// For how long a session may be resumed.
    pub session_cache_timeout: Duration,
}

/// Why the settings cannot take effect. The text is the line to log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A server needs a certificate.
    #[error("No tls-cert-file configured!")]
    NoCertificate,
    /// A certificate needs its key.
    #[error("No tls-key-file configured!")]
    NoKey,
    /// Nobody could be believed.
    #[error(
        "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, tls-replication or tls-auth-clients \
         are enabled!"
    )]
    NoAuthorities,
    /// The certificate cannot be loaded.
    #[error("Failed to load certificate: {}: {reason}", file.display())]
    Certificate {
        /// Where it should be.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The key cannot be loaded.
    #[error("Failed to load private key: {}: {reason}", file.display())]
    Key {
        /// Where it should be.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The authorities cannot be loaded.
    #[error("Failed to configure CA certificate(s) file/directory: {}: {reason}", place.display())]
    Authorities {
        /// Where they should be.
        place: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no such version.
    #[error("Invalid tls-protocols specified. Use a combination of 'TLSv1.2' and 'TLSv1.3'.")]
    Protocols,
    /// There is such a version, but it is not safe.
    #[error(
        "tls-protocols names {name}, which this server does not speak because it is not safe. Use a combination of \
         'TLSv1.2' and 'TLSv1.3'."
    )]
    OldProtocol {
        /// The version.
        name: String,
    },
    /// No cipher is left.
    #[error(
        "Failed to configure ciphers: {names}: this server has ciphers with authenticated encryption and ephemeral keys \
         only. Use some of {known}"
    )]
    Ciphers {
        /// What the configuration says.
        names: String,
        /// What it could say.
        known: String,
    },
    /// No suite is left, or there is no such suite.
    #[error("Failed to configure ciphersuites: {names}: use some of {known}")]
    Ciphersuites {
        /// What the configuration says.
        names: String,
        /// What it could say.
        known: String,
    },
    /// The system or the library refuses.
    #[error("Failed to configure TLS: {0}")]
    Library(String),
}

/// A certificate in use, for those who look after its expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Serial number in hexadecimal digits.
    pub serial: String,
    /// Until when it is valid, in seconds since 1970.
    pub expires: i64,
}

impl CertificateInfo {
    fn of(certificate: &CertificateDer<'_>) -> Option<CertificateInfo> {
        let certificate = Certificate::read(certificate).ok()?;
        Some(CertificateInfo { serial: certificate.serial_text(), expires: certificate.not_after })
    }
}

/// Begins handshakes with those who connect to us.
#[derive(Clone)]
pub struct Acceptor(Arc<ServerConfig>);

impl Acceptor {
    /// The handshake of a connection that was just accepted.
    pub fn handshake(&self) -> Handshake {
        Handshake::accept(&self.0)
    }
}

/// Begins handshakes with those whom we connect to.
#[derive(Clone)]
pub struct Connector(Arc<ClientConfig>);

impl Connector {
    /// The handshake of a connection that was just established.
    pub fn handshake(&self) -> Handshake {
        Handshake::connect(&self.0)
    }
}

/// What the settings amount to.
pub struct Contexts {
    /// For connections from others.
    pub acceptor: Acceptor,
    /// For connections to others.
    pub connector: Connector,
    /// Our certificate.
    pub certificate: Option<CertificateInfo>,
    /// Our certificate for connections that we open, if it is another one.
    pub client_certificate: Option<CertificateInfo>,
    /// The first of those whom we believe.
    pub authority: Option<CertificateInfo>,
    /// The state of the files that were read.
    pub stamp: Stamp,
}

impl Contexts {
    /// Reads the files and prepares everything.
    ///
    /// # Errors
    /// The settings are not possible, or a file is not what it should be.
    pub fn load(settings: &Settings) -> Result<Contexts, TlsError> {
        let stamp = settings.stamp();
        if settings.cert_file.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        if settings.key_file.is_empty() {
            return Err(TlsError::NoKey);
        }
        let no_authorities = settings.ca_cert_file.is_empty() && settings.ca_cert_dir.is_empty();
        let asks = settings.client_certificates != ClientCertificates::Ignored;
        if no_authorities && (asks || settings.needs_authorities) {
            return Err(TlsError::NoAuthorities);
        }
        let versions = suites::versions(&settings.protocols)?;
        let mut cipher_suites = suites::ciphersuites(&settings.ciphersuites)?;
        cipher_suites.extend(suites::ciphers(&settings.ciphers)?);
        let provider = CryptoProvider { cipher_suites, ..rustls::crypto::ring::default_provider() };
        let identity = identity(&provider, &settings.cert_file, &settings.key_file, &settings.key_file_pass)?;
        let client_identity = if settings.client_cert_file.is_empty() {
            Arc::clone(&identity)
        } else {
            if settings.client_key_file.is_empty() {
                return Err(TlsError::NoKey);
            }
            let Settings { client_cert_file, client_key_file, client_key_file_pass, .. } = settings;
            self::identity(&provider, client_cert_file, client_key_file, client_key_file_pass)?
        };
        let trusted = files::authorities(&settings.ca_cert_file, &settings.ca_cert_dir)?;
        let authorities = Arc::new(Authorities::new(trusted, provider.signature_verification_algorithms));
        let info = |identity: &CertifiedKey| CertificateInfo::of(identity.cert.first()?);
        let authority = authorities.first().and_then(|first| CertificateInfo::of(first));
        let provider = Arc::new(provider);
        let library = |error: rustls::Error| TlsError::Library(error.to_string());

        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(library)?;
        let builder = match settings.client_certificates {
            ClientCertificates::Ignored => {
                builder.with_client_cert_verifier(WebPkiClientVerifier::no_client_auth())
            }
            asked => builder.with_client_cert_verifier(Arc::new(verify::Clients {
                authorities: Arc::clone(&authorities),
                mandatory: asked == ClientCertificates::Required,
            })),
        };
        let mut server = builder.with_cert_resolver(Arc::new(Identity(Arc::clone(&identity))));
        server.ignore_client_order = settings.prefer_server_ciphers;
        server.enable_secret_extraction = true;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        if settings.session_caching {
            let timeout = settings.session_cache_timeout;
            let tickets = sessions::Tickets::new(timeout)
                .ok_or_else(|| TlsError::Library("the system has no random numbers".into()))?;
            server.ticketer = Arc::new(tickets);
            server.session_storage = Arc::new(sessions::Cache::new(settings.session_cache_size, timeout));
            // Each is good for one connection, if the client keeps to that.
            server.send_tls13_tickets = 2;
        }

        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(library)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verify::Servers(authorities)))
            .with_client_cert_resolver(Arc::new(Identity(Arc::clone(&client_identity))));
        client.enable_secret_extraction = true;
        client.enable_sni = false;
        // Connections to other servers last, and the two must show who they are each time.
        client.resumption = rustls::client::Resumption::disabled();

        Ok(Contexts {
            certificate: info(&identity),
            client_certificate: (!settings.client_cert_file.is_empty())
                .then(|| info(&client_identity))
                .flatten(),
            authority,
            acceptor: Acceptor(Arc::new(server)),
            connector: Connector(Arc::new(client)),
            stamp,
        })
    }
}

impl Settings {
    /// The present state of the files that they name.
    pub fn stamp(&self) -> Stamp {
        let files = [
            &self.cert_file,
            &self.key_file,
            &self.client_cert_file,
            &self.client_key_file,
            &self.ca_cert_file,
        ];
        Stamp::of(files.into_iter().map(String::as_str), &self.ca_cert_dir)
    }
}

/// A certificate with its key.
fn identity(
    provider: &CryptoProvider,
    cert_file: &str,
    key_file: &str,
    password: &[u8],
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = files::chain(Path::new(cert_file))?;
    let failed = |reason: String| TlsError::Key { file: key_file.into(), reason };
    let key = files::key(Path::new(key_file), password)?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| failed(error.to_string()))?;
    let certified = chain.first().and_then(|first| Certificate::read(first).ok());
    if let (Some(public), Some(certified)) = (key.public_key(), certified)
        && public.as_ref() != certified.key_info
    {
        return Err(failed("key values mismatch".into()));
    }
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}

/// Who we are, whoever asks.
#[derive(Debug)]
struct Identity(Arc<CertifiedKey>);

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Where in a certificate the name of a user stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserField {
    /// The common name.
    CommonName,
    /// The first URI among the alternative names.
    Uri,
}

/// The name of a user in a certificate, which must have been verified.
pub fn user_of(certificate: &CertificateDer<'_>, field: UserField) -> Option<Vec<u8>> {
    let certificate = Certificate::read(certificate).ok()?;
    let name = match field {
        UserField::CommonName => certificate.common_name(),
        UserField::Uri => certificate.uri(),
    };
    name.filter(|name| !name.is_empty()).map(<[u8]>::to_vec)
}
