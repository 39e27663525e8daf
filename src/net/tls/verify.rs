//! Whether to believe a certificate.
//!
//! As between Redis servers, a name is not checked: whoever has a certificate of a trusted authority for the purpose is
//! let in, or followed. Chains are built and their signatures checked by webpki. Two kinds of certificates that it does
//! not take are checked here, because they are in use: those of X.509 version 1, which have no extensions, if a trusted
//! authority has signed them itself; and those that are trusted themselves, such as a self-signed one that is also the
//! authority.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use super::certificate::{Certificate, Purpose};

/// Those who vouch for others.
pub(super) struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    subjects: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} authorities", self.certificates.len())
    }
}

impl Authorities {
    /// Trusts these certificates, as far as they can be read.
    pub(super) fn new(
        certificates: Vec<CertificateDer<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Authorities {
        let anchors = certificates
            .iter()
            .filter_map(|certificate| Some(webpki::anchor_from_trusted_cert(certificate).ok()?.to_owned()))
            .collect::<Vec<_>>();
        let subjects = anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect();
        Authorities { certificates, anchors, subjects, algorithms }
    }

    /// The certificate of the authority that comes first, for those who look after its expiry.
    pub(super) fn first(&self) -> Option<&CertificateDer<'static>> {
        self.certificates.first()
    }

    /// Whether `shown` may be believed for `purpose`, with the help of `between`, which came along with it.
    fn verify(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<(), CertificateError> {
        let certificate = Certificate::read(shown).map_err(|_| CertificateError::BadEncoding)?;
        if !certificate.serves(purpose) {
            return Err(CertificateError::InvalidPurpose);
        }
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        match self.verify_chain(shown, between, now, seconds, purpose) {
            Err(webpki::Error::UnsupportedCertVersion) if certificate.version == 1 => {
                self.verify_by_issuer(&certificate, seconds)
            }
            Err(webpki::Error::CaUsedAsEndEntity) => self
                .verify_by_identity(shown, &certificate, seconds)
                .or_else(|_| self.verify_by_issuer(&certificate, seconds)),
            Err(webpki::Error::UnknownIssuer) if certificate.is_self_issued() => {
                self.verify_by_identity(shown, &certificate, seconds)
            }
            Err(error) => Err(reason(error)),
            Ok(()) => Ok(()),
        }
    }

    fn verify_chain(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
        seconds: i64,
        purpose: Purpose,
    ) -> Result<(), webpki::Error> {
        let usage = match purpose {
            Purpose::Client => KeyUsage::client_auth(),
            Purpose::Server => KeyUsage::server_auth(),
        };
        let trusted_now = |path: &webpki::VerifiedPath<'_>| {
            // An authority's own time is not part of an anchor.
            let valid = self.certificates.iter().any(|authority| {
                Certificate::read(authority).is_ok_and(|authority| {
                    authority.subject == &path.anchor().subject[..]
                        && content_of(authority.key_info) == &path.anchor().subject_public_key_info[..]
                        && authority.is_valid_at(seconds)
                })
            });
            if valid { Ok(()) } else { Err(webpki::Error::UnknownIssuer) }
        };
        EndEntityCert::try_from(shown)?
            .verify_for_usage(
                self.algorithms.all,
                &self.anchors,
                between,
                now,
                usage,
                None,
                Some(&trusted_now),
            )
            .map(|_| ())
    }

    /// A certificate that is trusted itself.
    fn verify_by_identity(
        &self,
        shown: &CertificateDer<'_>,
        certificate: &Certificate<'_>,
        now: i64,
    ) -> Result<(), CertificateError> {
        if !self.certificates.iter().any(|trusted| trusted[..] == shown[..]) {
            return Err(CertificateError::UnknownIssuer);
        }
        if !certificate.is_self_issued() || certificate.has_unknown_critical_extension() {
            return Err(CertificateError::UnknownIssuer);
        }
        within_time(certificate, now)
    }

    /// A certificate that a trusted authority has signed itself.
    fn verify_by_issuer(&self, certificate: &Certificate<'_>, now: i64) -> Result<(), CertificateError> {
        within_time(certificate, now)?;
        if certificate.has_unknown_critical_extension() {
            return Err(CertificateError::UnhandledCriticalExtension);
        }
        let mut failure = CertificateError::UnknownIssuer;
        for authority in &self.certificates {
            let Ok(authority) = Certificate::read(authority) else { continue };
            if authority.subject != certificate.issuer {
                continue;
            }
            // Constraints of names are webpki's business, which has not looked at this certificate.
            if !authority.may_issue()
                || authority.constrains_names()
                || authority.has_unknown_critical_extension()
                || !authority.is_valid_at(now)
            {
                continue;
            }
            let signed = self.algorithms.all.iter().any(|algorithm| {
                algorithm.signature_alg_id().as_ref() == certificate.signature_algorithm
                    && fits(*algorithm, &authority)
                    && algorithm
                        .verify_signature(authority.key, certificate.signed, certificate.signature)
                        .is_ok()
            });
            if signed {
                return Ok(());
            }
            failure = CertificateError::BadSignature;
        }
        Err(failure)
    }

    /// Whether who showed `shown` has its key: `signed` is a signature of `message` that only the key can make.
    fn verify_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        newest: bool,
    ) -> Result<HandshakeSignatureValid, Error> {
        let bad = |error: CertificateError| Error::InvalidCertificate(error);
        let certificate = Certificate::read(shown).map_err(|_| bad(CertificateError::BadEncoding))?;
        if certificate.version != 1 {
            return match newest {
                true => rustls::crypto::verify_tls13_signature(message, shown, signed, &self.algorithms),
                false => rustls::crypto::verify_tls12_signature(message, shown, signed, &self.algorithms),
            };
        }
        // Version 1.3 has a scheme for each kind of key and none of the older schemes.
        const OLDER: [SignatureScheme; 5] = [
            SignatureScheme::RSA_PKCS1_SHA1,
            SignatureScheme::ECDSA_SHA1_Legacy,
            SignatureScheme::RSA_PKCS1_SHA256,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA512,
        ];
        if newest && OLDER.contains(&signed.scheme) {
            return Err(bad(CertificateError::BadSignature));
        }
        let algorithms = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let algorithms = algorithms.map_or(&[][..], |(_, algorithms)| *algorithms);
        let algorithms = if newest { &algorithms[..algorithms.len().min(1)] } else { algorithms };
        let valid = algorithms.iter().any(|algorithm| {
            fits(*algorithm, &certificate)
                && algorithm.verify_signature(certificate.key, message, signed.signature()).is_ok()
        });
        if valid {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(bad(CertificateError::BadSignature))
        }
    }
}

/// Whether an algorithm is for the key of a certificate.
fn fits(algorithm: &dyn SignatureVerificationAlgorithm, certificate: &Certificate<'_>) -> bool {
    algorithm.public_key_alg_id().as_ref() == certificate.key_algorithm
}

fn within_time(certificate: &Certificate<'_>, now: i64) -> Result<(), CertificateError> {
    match () {
        () if now < certificate.not_before => Err(CertificateError::NotValidYet),
        () if now > certificate.not_after => Err(CertificateError::Expired),
        () => Ok(()),
    }
}

/// The content of a value of DER.
fn content_of(whole: &[u8]) -> &[u8] {
    super::der::Reader::new(whole).next().map_or(&[], |value| value.content)
}

fn reason(error: webpki::Error) -> CertificateError {
    match error {
        // One that ends before it begins has ended, too.
        webpki::Error::CertExpired { .. } | webpki::Error::InvalidCertValidity => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        webpki::Error::UnknownIssuer | webpki::Error::CaUsedAsEndEntity => CertificateError::UnknownIssuer,
        webpki::Error::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        webpki::Error::BadDer | webpki::Error::BadDerTime => CertificateError::BadEncoding,
        other => CertificateError::Other(rustls::OtherError(Arc::new(other))),
    }
}

/// Believes clients.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) authorities: Arc<Authorities>,
    /// Whether a client must show a certificate.
    pub(super) mandatory: bool,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.authorities.subjects
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.authorities
            .verify(shown, between, now, Purpose::Client)
            .map(|()| ClientCertVerified::assertion())
            .map_err(Error::InvalidCertificate)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_signature(message, shown, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authorities.verify_signature(message, shown, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.algorithms.supported_schemes()
    }
}

/// Believes servers.
#[derive(Debug)]
pub(super) struct Servers(pub(super) Arc<Authorities>);

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.0
            .verify(shown, between, now, Purpose::Server)
            .map(|()| ServerCertVerified::assertion())
            .map_err(Error::InvalidCertificate)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_signature(message, shown, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_signature(message, shown, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.algorithms.supported_schemes()
    }
}
