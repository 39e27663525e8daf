//! Certificates made by `openssl` for tests, and a client that speaks TLS.
#![allow(dead_code)]

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};

/// A directory with certificates, removed when dropped.
pub struct Certificates {
    pub dir: PathBuf,
}

impl Drop for Certificates {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Certificates {
    /// An authority, and certificates for a server, a client and both. `None`, and the test is skipped, without `openssl`.
    #[track_caller]
    pub fn new(name: &str) -> Option<Certificates> {
        let dir = std::env::temp_dir().join(format!("spinel-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory can be made");
        let certificates = Certificates { dir };
        if Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_err() {
            super::support::skip("no openssl");
            return None;
        }
        certificates.authority("ca", "Certificate Authority");
        certificates.issue(
            "server",
            "ca",
            "Server",
            Some("extendedKeyUsage=serverAuth\nkeyUsage=digitalSignature"),
        );
        certificates.issue(
            "client",
            "ca",
            "Client",
            Some("extendedKeyUsage=clientAuth\nkeyUsage=digitalSignature"),
        );
        certificates.issue("both", "ca", "Both", None);
        Some(certificates)
    }

    pub fn path(&self, file: &str) -> String {
        self.dir.join(file).display().to_string()
    }

    fn openssl(&self, args: &[&str]) {
        let output =
            Command::new("openssl").args(args).current_dir(&self.dir).output().expect("it was there");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `NAME.crt` and `NAME.key` of an authority.
    pub fn authority(&self, name: &str, subject: &str) {
        self.key(name);
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let subject = format!("/O=Test/CN={subject}");
        self.openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            &key,
            "-days",
            "30",
            "-subj",
            &subject,
            "-out",
            &certificate,
        ]);
    }

    fn key(&self, name: &str) {
        let key = format!("{name}.key");
        self.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key]);
    }

    /// `NAME.crt` and `NAME.key`, issued by `issuer`; without extensions, of version 1.
    pub fn issue(&self, name: &str, issuer: &str, subject: &str, extensions: Option<&str>) {
        self.issue_for(name, issuer, subject, extensions, "30");
    }

    pub fn issue_for(&self, name: &str, issuer: &str, subject: &str, extensions: Option<&str>, days: &str) {
        self.key(name);
        let [key, request, certificate, config] =
            ["key", "csr", "crt", "cnf"].map(|kind| format!("{name}.{kind}"));
        let subject = format!("/O=Test/CN={subject}");
        self.openssl(&["req", "-new", "-key", &key, "-subj", &subject, "-out", &request]);
        let (ca, ca_key) = (format!("{issuer}.crt"), format!("{issuer}.key"));
        let mut args = vec![
            "x509",
            "-req",
            "-sha256",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-days",
            days,
            "-out",
            &certificate,
        ];
        if let Some(extensions) = extensions {
            std::fs::write(self.dir.join(&config), format!("{extensions}\n")).expect("a file can be written");
            args.extend(["-extfile", &config]);
        }
        self.openssl(&args);
    }

    /// An encrypted copy of a key, by `openssl` with these options.
    pub fn encrypt_key(&self, name: &str, to: &str, options: &[&str]) {
        let mut args = options.to_vec();
        args.extend(["-in", name, "-out", to, "-passout", "pass:1234"]);
        self.openssl(&args);
    }

    /// Options that have a server listen for TLS at `port`, with its certificate.
    pub fn options(&self, port: u16) -> Vec<String> {
        [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", self.path("server.crt")),
            ("--tls-key-file", self.path("server.key")),
            ("--tls-client-cert-file", self.path("client.crt")),
            ("--tls-client-key-file", self.path("client.key")),
            ("--tls-ca-cert-file", self.path("ca.crt")),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }

    /// What a client needs that shows the certificate `name`, or none.
    pub fn client_config(
        &self,
        name: Option<&str>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions that exist")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous));
        let config = match name {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = CertificateDer::pem_file_iter(self.dir.join(format!("{name}.crt")))
                    .expect("a file")
                    .map(|certificate| certificate.expect("a certificate"))
                    .collect();
                let key = PrivateKeyDer::from_pem_file(self.dir.join(format!("{name}.key"))).expect("a key");
                let key =
                    rustls::crypto::ring::sign::any_supported_type(&key).expect("a key of a known kind");
                // Unlike a configuration made of the two, this takes certificates of version 1.
                builder.with_client_cert_resolver(Arc::new(Shown(Arc::new(CertifiedKey::new(chain, key)))))
            }
        };
        Arc::new(config)
    }

    /// A connection with the client's certificate.
    pub fn connect(&self, port: u16) -> SecureClient {
        let config = self.client_config(Some("client"), rustls::ALL_VERSIONS);
        SecureClient::connect(port, &config).expect("the server takes connections")
    }

    pub fn redis_cli(&self, port: u16, args: &[&str]) -> Option<String> {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &port.to_string(), "--tls"]);
        for (option, file) in [("--cert", "client.crt"), ("--key", "client.key"), ("--cacert", "ca.crt")] {
            command.arg(option).arg(self.dir.join(file));
        }
        match command.args(args).output() {
            Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
            Err(_) => {
                super::support::skip("no redis-cli");
                None
            }
        }
    }
}

/// Shows the same certificate to everybody.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes every server.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A connection that sends requests and reads replies as raw RESP, over TLS.
pub struct SecureClient {
    pub stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl SecureClient {
    /// Connects and finishes the handshake.
    pub fn connect(port: u16, config: &Arc<ClientConfig>) -> io::Result<SecureClient> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        SecureClient::over(socket, config)
    }

    pub fn over(mut socket: TcpStream, config: &Arc<ClientConfig>) -> io::Result<SecureClient> {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(SecureClient { stream: BufReader::new(StreamOwned::new(connection, socket)) })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    pub fn command(&mut self, args: &[&[u8]]) -> io::Result<Vec<u8>> {
        let mut request = Vec::new();
        spinel::resp::request::write_request(&mut request, args.iter().copied());
        self.send(&request)?;
        self.reply()
    }

    /// The text of a reply of one line.
    pub fn ask(&mut self, request: &str) -> String {
        let args: Vec<&[u8]> = request.split(' ').map(str::as_bytes).collect();
        String::from_utf8_lossy(&self.command(&args).expect("an answer")).trim_end().to_owned()
    }

    /// Reads a line with the bulk string that it begins, or with the replies of an array.
    pub fn reply(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line[0] == b'$' && !line.starts_with(b"$-") {
            let len: usize = std::str::from_utf8(&line[1..])
                .ok()
                .and_then(|text| text.trim_end().parse().ok())
                .expect("a length");
            let start = line.len();
            line.resize(start + len + 2, 0);
            self.stream.read_exact(&mut line[start..])?;
        }
        if line[0] == b'*' {
            let count: usize = String::from_utf8_lossy(&line[1..]).trim_end().parse().unwrap_or(0);
            for _ in 0..count {
                line.extend(self.reply()?);
            }
        }
        Ok(line)
    }
}

pub fn file_of(path: &Path) -> String {
    path.display().to_string()
}
