//! TLS as the configuration wants it: what is in use, and how it is exchanged for something else.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::config::value::{TlsAuthClients, TlsUserField};
use crate::net::tls::{
    self, Acceptor, CertificateInfo, ClientCertificates, Connector, Contexts, Settings, TlsError, UserField,
};
use crate::server::Server;

/// What is in use.
#[derive(Default)]
pub struct Tls {
    contexts: Option<Contexts>,
    /// Field of a client's certificate that names its user.
    user_field: Option<UserField>,
    /// When the files were last looked at.
    looked_at: Option<Instant>,
    /// What another thread makes of files that have changed.
    reloading: Option<JoinHandle<Option<Result<Contexts, TlsError>>>>,
}

impl Tls {
    /// What begins handshakes with clients; `None` if TLS is not in use.
    pub fn acceptor(&self) -> Option<&Acceptor> {
        Some(&self.contexts.as_ref()?.acceptor)
    }

    /// What begins handshakes with other servers; `None` if TLS is not in use.
    pub fn connector(&self) -> Option<&Connector> {
        Some(&self.contexts.as_ref()?.connector)
    }

    /// The user that a client's certificate names, if the configuration wants to know.
    pub(in crate::server) fn user_of(
        &self,
        certificate: &rustls::pki_types::CertificateDer<'_>,
    ) -> Option<Vec<u8>> {
        tls::user_of(certificate, self.user_field?)
    }

    /// The certificates in use, with the word by which INFO names them.
    pub fn certificates(&self) -> [(&'static str, Option<&CertificateInfo>); 3] {
        let contexts = self.contexts.as_ref();
        let of = |pick: fn(&Contexts) -> &Option<CertificateInfo>| {
            contexts.and_then(|contexts| pick(contexts).as_ref())
        };
        [
            ("server", of(|contexts| &contexts.certificate)),
            ("client", of(|contexts| &contexts.client_certificate)),
            ("ca", of(|contexts| &contexts.authority)),
        ]
    }
}

/// What the configuration says, in the words of `net`.
fn settings(config: &Config) -> Settings {
    let tls = &config.tls;
    Settings {
        cert_file: tls.cert_file.clone(),
        key_file: tls.key_file.clone(),
        key_file_pass: tls.key_file_pass.clone(),
        client_cert_file: tls.client_cert_file.clone(),
        client_key_file: tls.client_key_file.clone(),
        client_key_file_pass: tls.client_key_file_pass.clone(),
        ca_cert_file: tls.ca_cert_file.clone(),
        ca_cert_dir: tls.ca_cert_dir.clone(),
        protocols: tls.protocols.clone(),
        ciphers: tls.ciphers.clone(),
        ciphersuites: tls.ciphersuites.clone(),
        prefer_server_ciphers: tls.prefer_server_ciphers,
        client_certificates: match tls.auth_clients {
            TlsAuthClients::No => ClientCertificates::Ignored,
            TlsAuthClients::Optional => ClientCertificates::Optional,
            TlsAuthClients::Yes => ClientCertificates::Required,
        },
        needs_authorities: tls.replication || tls.cluster,
        session_caching: tls.session_caching,
        session_cache_size: tls.session_cache_size as usize,
        session_cache_timeout: Duration::from_secs(u64::from(tls.session_cache_timeout_s)),
    }
}

impl Server {
    /// Makes the configuration of TLS take effect for the connections that come from now on, if TLS is used at all.
    /// Sessions go on as they are.
    ///
    /// # Errors
    /// It is not possible, and nothing has changed. The reason is in the log.
    pub(in crate::server) fn configure_tls(&mut self) -> Result<(), TlsError> {
        let options = &self.config.tls;
        self.tls.user_field = match options.auth_clients_user {
            TlsUserField::Off => None,
            TlsUserField::CommonName => Some(UserField::CommonName),
            TlsUserField::Uri => Some(UserField::Uri),
        };
        if options.port == 0 && !options.replication && !options.cluster {
            return Ok(());
        }
        let contexts = Contexts::load(&settings(&self.config)).inspect_err(|error| {
            tracing::warn!("{error}");
        })?;
        self.tls.contexts = Some(contexts);
        self.tls.reloading = None;
        self.tls.looked_at = Some(Instant::now());
        Ok(())
    }

    /// Reads the files of the configuration again if they have changed, every `tls-auto-reload-interval` seconds. Called by
    /// the timer; the work is done in another thread, because a key may take long to decrypt.
    pub(in crate::server) fn reload_tls_if_due(&mut self) {
        if let Some(reloading) = self.tls.reloading.take() {
            if !reloading.is_finished() {
                self.tls.reloading = Some(reloading);
                return;
            }
            match reloading.join() {
                Ok(Some(Ok(contexts))) => {
                    tracing::info!("TLS materials reloaded");
                    self.tls.contexts = Some(contexts);
                }
                Ok(Some(Err(error))) => {
                    tracing::warn!("Failed to reload TLS materials, keeping those in use: {error}");
                }
                // Nothing has changed.
                Ok(None) | Err(_) => {}
            }
        }
        let interval = self.config.tls.auto_reload_interval_s;
        let Some(contexts) = &self.tls.contexts else { return };
        let due = self
            .tls
            .looked_at
            .is_none_or(|looked| looked.elapsed() >= Duration::from_secs(u64::from(interval)));
        if interval == 0 || !due {
            return;
        }
        self.tls.looked_at = Some(Instant::now());
        let settings = settings(&self.config);
        let stamp = contexts.stamp.clone();
        let begun = std::thread::Builder::new()
            .name("tls_reload".into())
            .spawn(move || (settings.stamp() != stamp).then(|| Contexts::load(&settings)));
        match begun {
            // If the configuration changes meanwhile, what comes of it is dropped.
            Ok(thread) => self.tls.reloading = Some(thread),
            Err(error) => tracing::warn!("Cannot look after TLS materials: {error}"),
        }
    }
}
