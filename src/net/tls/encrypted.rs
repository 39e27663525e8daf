//! Private keys that are encrypted with a password: PKCS#8, and the older form in which the header of a PEM file names
//! the cipher.

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use md5::{Digest as _, Md5};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;

/// A key in the clear.
pub(super) enum Key {
    /// With its algorithm.
    Pkcs8(Vec<u8>),
    /// In the form of its algorithm.
    Traditional(Vec<u8>),
}

/// Why a key cannot be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("bad decrypt")]
    Password,
    #[error("bad encrypted key")]
    Malformed,
    #[error(
        "the key is encrypted in a way that is not supported: use 'openssl pkcs8 -topk8 -v2 aes256', which is PBES2 with \
         AES-CBC"
    )]
    Unsupported,
}

/// The key in a PEM file; `None` if there is no encrypted one.
pub(super) fn key(text: &[u8], password: &[u8]) -> Option<Result<Key, Failure>> {
    let text = String::from_utf8_lossy(text);
    if let Some(body) = section(&text, "ENCRYPTED PRIVATE KEY") {
        return Some(base64(body).and_then(|der| pkcs8(&der, password)).map(Key::Pkcs8));
    }
    ["RSA PRIVATE KEY", "EC PRIVATE KEY"].into_iter().find_map(|label| {
        let body = section(&text, label)?;
        let (head, body) = body.split_once("\n\n").or_else(|| body.split_once("\r\n\r\n"))?;
        let cipher = head.lines().find_map(|line| line.strip_prefix("DEK-Info:"))?.trim();
        Some(base64(body).and_then(|bytes| traditional(cipher, bytes, password)).map(Key::Traditional))
    })
}

/// What stands between the lines of a label.
fn section<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    Some(rest.split_once(&format!("-----END {label}-----"))?.0.trim_start_matches(['\r', '\n']))
}

fn base64(body: &str) -> Result<Vec<u8>, Failure> {
    // The reader of PEM files reads it under any label.
    let text = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", body.trim());
    let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|_| Failure::Malformed)?;
    Ok(der.secret_pkcs8_der().to_vec())
}

fn pkcs8(der: &[u8], password: &[u8]) -> Result<Vec<u8>, Failure> {
    let info = pkcs8::EncryptedPrivateKeyInfoRef::try_from(der).map_err(|_| Failure::Unsupported)?;
    match info.decrypt(password) {
        Ok(document) => Ok(document.as_bytes().to_vec()),
        Err(pkcs8::Error::EncryptedPrivateKey(
            pkcs8::pkcs5::Error::UnsupportedAlgorithm { .. } | pkcs8::pkcs5::Error::NoPbes1CryptSupport,
        )) => Err(Failure::Unsupported),
        Err(_) => Err(Failure::Password),
    }
}

/// The older form: AES in CBC mode, with a key that is the MD5 of the password and the beginning of the initial vector.
fn traditional(cipher: &str, mut bytes: Vec<u8>, password: &[u8]) -> Result<Vec<u8>, Failure> {
    let (name, iv) = cipher.split_once(',').ok_or(Failure::Malformed)?;
    let iv = hexadecimal(iv.trim()).ok_or(Failure::Malformed)?;
    let salt = iv.get(..8).ok_or(Failure::Malformed)?;
    let mut derived = Vec::new();
    while derived.len() < 32 {
        let last = derived.len().saturating_sub(16);
        let digest =
            Md5::new().chain_update(&derived[last..]).chain_update(password).chain_update(salt).finalize();
        derived.extend_from_slice(&digest);
    }
    macro_rules! decrypt {
        ($cipher:ty, $len:literal) => {
            cbc::Decryptor::<$cipher>::new_from_slices(&derived[..$len], &iv)
                .map_err(|_| Failure::Malformed)?
                .decrypt_padded::<Pkcs7>(&mut bytes)
                .map_err(|_| Failure::Password)?
                .len()
        };
    }
    let len = match name.trim() {
        "AES-128-CBC" => decrypt!(aes::Aes128, 16),
        "AES-192-CBC" => decrypt!(aes::Aes192, 24),
        "AES-256-CBC" => decrypt!(aes::Aes256, 32),
        _ => return Err(Failure::Unsupported),
    };
    bytes.truncate(len);
    // One wrong password in 256 leaves a valid end.
    if bytes.first() == Some(&0x30) { Ok(bytes) } else { Err(Failure::Password) }
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|value| value as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}
