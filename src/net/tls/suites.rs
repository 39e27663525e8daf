//! Versions and ciphers by the names that OpenSSL gives them, which configurations use.
//!
//! Only suites with authenticated encryption and keys agreed on for the occasion exist here. What names others only is
//! an error that says what there is; a list that names some that exist and some that do not means those that exist.

use rustls::crypto::ring::cipher_suite as suite;
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use super::TlsError;

/// Suites of version 1.2, in the order of preference, with OpenSSL's names.
const UP_TO_12: [(&str, SupportedCipherSuite); 6] = [
    ("ECDHE-ECDSA-AES256-GCM-SHA384", suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES256-GCM-SHA384", suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-AES128-GCM-SHA256", suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
];

/// Suites of version 1.3, in the order of preference.
const OF_13: [(&str, SupportedCipherSuite); 3] = [
    ("TLS_AES_256_GCM_SHA384", suite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", suite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_AES_128_GCM_SHA256", suite::TLS13_AES_128_GCM_SHA256),
];

/// The versions that `tls-protocols` names; all, if it is empty.
///
/// # Errors
/// It names something else, or only versions that are not spoken.
pub(super) fn versions(names: &str) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
    let mut old = None;
    for name in names.split([' ', ',']).filter(|name| !name.is_empty()) {
        let version = match name.to_ascii_lowercase().as_str() {
            "tlsv1.2" => &TLS12,
            "tlsv1.3" => &TLS13,
            "tlsv1" | "tlsv1.1" => {
                old = Some(name.to_owned());
                continue;
            }
            _ => return Err(TlsError::Protocols),
        };
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    match old {
        Some(name) => Err(TlsError::OldProtocol { name }),
        None if versions.is_empty() => Ok(vec![&TLS13, &TLS12]),
        None => Ok(versions),
    }
}

/// The suites of version 1.3 that `tls-ciphersuites` names, in its order; all, if it is empty.
///
/// # Errors
/// It names something else, or none that exists.
pub(super) fn ciphersuites(names: &str) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    if names.trim().is_empty() {
        return Ok(OF_13.iter().map(|(_, suite)| *suite).collect());
    }
    let known = |name: &str| OF_13.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let mut chosen = Vec::new();
    for name in names.split(':').filter(|name| !name.is_empty()) {
        match known(name) {
            Some((_, suite)) if !chosen.contains(suite) => chosen.push(*suite),
            Some(_) => {}
            None if name.to_ascii_uppercase().starts_with("TLS_AES_128_CCM") => {}
            None => return Err(TlsError::Ciphersuites { names: names.to_owned(), known: list(&OF_13) }),
        }
    }
    match chosen.is_empty() {
        true => Err(TlsError::Ciphersuites { names: names.to_owned(), known: list(&OF_13) }),
        false => Ok(chosen),
    }
}

/// The suites up to version 1.2 that `tls-ciphers` chooses, in its notation: names and classes between colons, with
/// `-` and `!` before those to leave out, `+` before those to prefer least.
///
/// # Errors
/// It chooses none that exists.
pub(super) fn ciphers(text: &str) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    let text = text.trim();
    let all = || UP_TO_12.iter().map(|(_, suite)| *suite).collect();
    if text.is_empty() {
        return Ok(all());
    }
    let mut chosen: Vec<&(&str, SupportedCipherSuite)> = Vec::new();
    let mut banned: Vec<&str> = Vec::new();
    for word in text.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        if word.starts_with('@') {
            // The order of preference is by strength anyway, and no suite is below a level.
            continue;
        }
        let (sign, name) = match word.split_at(1) {
            (sign @ ("-" | "!" | "+"), name) => (sign, name),
            _ => ("", word),
        };
        let matching = UP_TO_12.iter().filter(|(suite, _)| is_chosen_by(suite, name));
        match sign {
            "-" => chosen.retain(|(suite, _)| !is_chosen_by(suite, name)),
            "!" => {
                chosen.retain(|(suite, _)| !is_chosen_by(suite, name));
                banned.extend(matching.map(|(suite, _)| *suite));
            }
            "+" => {
                let (last, first): (Vec<_>, Vec<_>) =
                    chosen.into_iter().partition(|(suite, _)| is_chosen_by(suite, name));
                chosen = first.into_iter().chain(last).collect();
            }
            _ => {
                for entry in matching {
                    if !banned.contains(&entry.0) && !chosen.iter().any(|(suite, _)| *suite == entry.0) {
                        chosen.push(entry);
                    }
                }
            }
        }
    }
    if chosen.is_empty() {
        return Err(TlsError::Ciphers { names: text.to_owned(), known: list(&UP_TO_12) });
    }
    Ok(chosen.into_iter().map(|(_, suite)| *suite).collect())
}

/// Whether a suite is in a class, or in several that are joined by `+`.
fn is_chosen_by(suite: &str, name: &str) -> bool {
    name.split('+').all(|class| {
        let class = class.to_ascii_uppercase();
        match class.as_str() {
            _ if class == suite => true,
            "DEFAULT" | "ALL" | "HIGH" | "TLSV1.2" | "ECDHE" | "EECDH" | "KECDHE" | "KEECDH" | "AEAD"
            | "FIPS" => true,
            "AESGCM" | "AES" => suite.contains("-GCM-"),
            "AES256" => suite.contains("AES256"),
            "AES128" => suite.contains("AES128"),
            "CHACHA20" => suite.contains("CHACHA20"),
            "ECDSA" | "AECDSA" => suite.contains("-ECDSA-"),
            "RSA" | "ARSA" => suite.contains("-RSA-"),
            "SHA384" => suite.ends_with("SHA384"),
            "SHA256" => suite.ends_with("SHA256") || suite.ends_with("POLY1305"),
            _ => false,
        }
    })
}

fn list(suites: &[(&str, SupportedCipherSuite)]) -> String {
    suites.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<&'static str> {
        let chosen = ciphers(text).expect("some exist");
        let name = |suite| UP_TO_12.iter().find(|(_, known)| *known == suite).expect("listed").0;
        chosen.into_iter().map(name).collect()
    }

    #[test]
    fn versions_are_those_that_are_safe() {
        assert_eq!(versions("").expect("all"), [&TLS13, &TLS12]);
        assert_eq!(versions("TLSv1.2").expect("one"), [&TLS12]);
        assert_eq!(versions("TLSv1.3 TLSv1.2, tlsv1.3").expect("both"), [&TLS13, &TLS12]);
        let old = versions("TLSv1.1 TLSv1.2").expect_err("not spoken").to_string();
        assert!(old.contains("TLSv1.1") && old.contains("'TLSv1.2' and 'TLSv1.3'"), "{old}");
        assert_eq!(versions("SSLv3").expect_err("no such version"), TlsError::Protocols);
    }

    #[test]
    fn ciphers_are_chosen_as_openssl_does() {
        assert_eq!(names("DEFAULT").len(), 6);
        assert_eq!(names("DEFAULT:-AES128-SHA256").len(), 6);
        assert_eq!(names("DEFAULT:!AES128:@SECLEVEL=2").len(), 4);
        assert_eq!(names("ECDHE-RSA-AES128-GCM-SHA256"), ["ECDHE-RSA-AES128-GCM-SHA256"]);
        assert_eq!(
            names("AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256:ecdhe-rsa-aes256-gcm-sha384"),
            ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]
        );
        assert_eq!(names("ECDHE+AESGCM+ECDSA:!AES256"), ["ECDHE-ECDSA-AES128-GCM-SHA256"]);
        assert_eq!(names("ALL:+AES256").first(), Some(&"ECDHE-ECDSA-CHACHA20-POLY1305"));
        assert!(!names("!CHACHA20:ALL").iter().any(|name| name.contains("CHACHA20")));
        for text in ["AES128-SHA256:AES256-SHA256", "FOO", "ALL:!ALL", "DHE-RSA-AES256-GCM-SHA384"] {
            let error = ciphers(text).expect_err("none exists").to_string();
            assert!(error.contains(text) && error.contains("ECDHE-RSA-AES256-GCM-SHA384:"), "{error}");
        }
    }

    #[test]
    fn suites_of_the_newest_version() {
        assert_eq!(ciphersuites("").expect("all").len(), 3);
        let chosen = ciphersuites("TLS_AES_128_GCM_SHA256:TLS_AES_128_CCM_SHA256").expect("one exists");
        assert_eq!(chosen, [suite::TLS13_AES_128_GCM_SHA256]);
        for text in ["FOO", "TLS_AES_128_CCM_SHA256", "TLS_AES_128_GCM_SHA256:FOO"] {
            assert!(ciphersuites(text).is_err(), "{text}");
        }
    }
}
