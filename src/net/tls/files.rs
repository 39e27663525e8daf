//! Certificates and private keys in files: PEM, with keys possibly encrypted.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::TlsError;
use super::certificate::Certificate;
use super::encrypted;
use crate::net::error_text;

/// A certificate and those of the authorities between it and one that everybody knows.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: String| TlsError::Certificate { file: path.to_owned(), reason };
    let text = fs::read(path).map_err(|error| failed(error_text(&error)))?;
    let chain = certificates(&text).map_err(failed)?;
    if chain.is_empty() {
        return Err(TlsError::Certificate {
            file: path.to_owned(),
            reason: "there is no certificate in the file".into(),
        });
    }
    Ok(chain)
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(text)
        .map(|certificate| {
            let certificate = certificate.map_err(|error| format!("bad PEM: {error}"))?;
            Certificate::read(&certificate).map_err(|_| "bad certificate".to_owned())?;
            Ok(certificate)
        })
        .collect()
}

/// A private key. `password` is used if it is encrypted.
pub(super) fn key(path: &Path, password: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let failed = |reason: String| TlsError::Key { file: path.to_owned(), reason };
    let text = fs::read(path).map_err(|error| failed(error_text(&error)))?;
    if let Some(key) = encrypted::key(&text, password) {
        let der = key.map_err(|error| failed(error.to_string()))?;
        return match der {
            encrypted::Key::Pkcs8(der) => Ok(PrivatePkcs8KeyDer::from(der).into()),
            encrypted::Key::Traditional(der) => {
                PrivateKeyDer::try_from(der).map_err(|reason| failed(reason.to_owned()))
            }
        };
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| failed(format!("no private key: {error}")))
}

/// The certificates of all authorities that are trusted: those of a file, and those of the files in a directory. Either
/// may be empty, for none.
pub(super) fn authorities(file: &str, dir: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut found = Vec::new();
    let failed = |place: &Path, reason: String| TlsError::Authorities { place: place.to_owned(), reason };
    if !file.is_empty() {
        let path = Path::new(file);
        let text = fs::read(path).map_err(|error| failed(path, error_text(&error)))?;
        found = certificates(&text).map_err(|reason| failed(path, reason))?;
        if found.is_empty() {
            return Err(failed(path, "there is no certificate in the file".into()));
        }
    }
    if !dir.is_empty() {
        let path = Path::new(dir);
        for file in files_of(path).map_err(|error| failed(path, error_text(&error)))? {
            // Keys and revocation lists may lie in the same place.
            let Ok(text) = fs::read(&file) else { continue };
            match certificates(&text) {
                Ok(others) => found.extend(others),
                Err(reason) => tracing::warn!("Ignoring {}: {reason}", file.display()),
            }
        }
    }
    // Directories have each certificate under two names.
    let mut seen = HashSet::new();
    found.retain(|certificate| seen.insert(certificate.clone()));
    Ok(found)
}

/// The files of a directory, in the order of their names.
fn files_of(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect();
    files.sort_unstable();
    Ok(files)
}

/// When the files that a configuration names were last changed. Two equal stamps mean that nothing changed between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Vec<(PathBuf, Option<FileState>)>);

/// Number of a file, time of its last change with its nanoseconds, and length.
type FileState = (u64, i64, i64, u64);

impl Stamp {
    pub(super) fn of<'a>(files: impl Iterator<Item = &'a str>, dir: &str) -> Stamp {
        use std::os::unix::fs::MetadataExt as _;
        let mut paths: Vec<PathBuf> = files.filter(|file| !file.is_empty()).map(PathBuf::from).collect();
        if !dir.is_empty() {
            paths.extend(files_of(Path::new(dir)).unwrap_or_default());
        }
        let changed = |path: &Path| {
            let meta = fs::metadata(path).ok()?;
            Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
        };
        Stamp(paths.into_iter().map(|path| (path.clone(), changed(&path))).collect())
    }
}
