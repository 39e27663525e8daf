//! The record layer: bytes are cut into records, each of which is encrypted and authenticated with its number.
//!
//! A session's keys come from the handshake. From then on a record is encrypted where it will be sent from, and
//! decrypted where it arrived: nothing is allocated, and nothing is copied but the bytes between two records.

use std::ops::Range;

use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use rustls::{ConnectionTrafficSecrets, ProtocolVersion};

/// Bytes before a record's content.
pub(super) const HEADER: usize = 5;
/// Most bytes of plaintext in a record.
pub(super) const MOST_PLAIN: usize = 16 << 10;
/// Most bytes by which a record is longer than its plaintext, its header included.
pub(super) const MOST_OVERHEAD: usize = HEADER + EXPLICIT + TAG;
/// Most bytes of content that a peer may send in a record.
const MOST_SEALED: usize = MOST_PLAIN + 256;
/// Bytes of a nonce that are sent along, in version 1.2 with AES.
const EXPLICIT: usize = 8;
/// Bytes of an authentication tag.
const TAG: usize = 16;
const NONCE: usize = 12;
/// Blocks of 16 bytes that may be encrypted with one AES key: what 2^24 records of full length have, with which an
/// attacker's chance is still below 2^-60.
const MOST_BLOCKS: u64 = 1 << 34;

/// What is in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// An alert.
    Alert,
    /// A message of the handshake.
    Handshake,
    /// What the session is for.
    Data,
}

impl Content {
    fn number(self) -> u8 {
        match self {
            Content::Alert => 21,
            Content::Handshake => 22,
            Content::Data => 23,
        }
    }

    fn of_number(number: u8) -> Option<Content> {
        [Content::Alert, Content::Handshake, Content::Data].into_iter().find(|it| it.number() == number)
    }
}

/// Why a record cannot be read; the connection ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRecord {
    /// It is not what the peer sealed.
    #[error("decryption failed or bad record mac")]
    Forged,
    /// It is longer than a record may be.
    #[error("record is too long")]
    TooLong,
    /// It is of no kind that may occur here.
    #[error("unexpected record")]
    Unexpected,
}

impl BadRecord {
    /// The alert that tells the peer.
    pub(super) fn alert(self) -> u8 {
        match self {
            BadRecord::Forged => 20,
            BadRecord::TooLong => 22,
            BadRecord::Unexpected => 10,
        }
    }
}

/// How records are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Version 1.2 with AES: eight bytes of the nonce are sent along.
    Explicit,
    /// Version 1.2 with ChaCha20.
    Implicit,
    /// Version 1.3: the kind of the content is encrypted.
    Hidden,
}

/// The keys of one direction.
pub(super) struct Keys {
    key: LessSafeKey,
    iv: [u8; NONCE],
    /// Number of the next record.
    number: u64,
    framing: Framing,
    /// Blocks that may still be encrypted.
    blocks_left: u64,
}

impl Keys {
    /// The keys that a handshake has agreed on; `number` is that of the next record.
    pub(super) fn new(version: ProtocolVersion, (number, secrets): (u64, ConnectionTrafficSecrets)) -> Keys {
        let (algorithm, key, iv) = match &secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => unreachable!("all suites that are offered are listed"),
        };
        let aes = algorithm != &CHACHA20_POLY1305;
        let framing = match version {
            ProtocolVersion::TLSv1_3 => Framing::Hidden,
            _ if aes => Framing::Explicit,
            _ => Framing::Implicit,
        };
        let unbound = UnboundKey::new(algorithm, key.as_ref()).expect("a key has its algorithm's length");
        Keys {
            key: LessSafeKey::new(unbound),
            iv: iv.as_ref().try_into().expect("a nonce has twelve bytes"),
            number,
            framing,
            blocks_left: if aes { MOST_BLOCKS } else { u64::MAX },
        }
    }

    /// Whether the keys should be changed, or no longer be used if they cannot be changed.
    #[inline]
    pub(super) fn are_worn(&self) -> bool {
        self.blocks_left == 0
    }

    /// The nonce of the next record.
    #[inline]
    fn nonce(&self) -> [u8; NONCE] {
        let mut nonce = self.iv;
        for (byte, number) in nonce[NONCE - 8..].iter_mut().zip(self.number.to_be_bytes()) {
            *byte ^= number;
        }
        nonce
    }

    /// What is authenticated beside the content: in version 1.2, the record's number, and its header with the length of
    /// the plaintext.
    #[inline]
    fn number_and_header(&self, kind: u8, plain: usize) -> [u8; 13] {
        let mut bytes = [0; 13];
        bytes[..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..].copy_from_slice(&header(kind, plain));
        bytes
    }

    /// Bytes by which a record is longer than its plaintext.
    #[inline]
    fn overhead(&self) -> usize {
        HEADER
            + TAG
            + match self.framing {
                Framing::Explicit => EXPLICIT,
                Framing::Implicit => 0,
                Framing::Hidden => 1,
            }
    }

    /// Appends a record to `out`, whose plaintext `fill` appends: at most [`MOST_PLAIN`] bytes.
    pub(super) fn seal(&mut self, content: Content, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let nonce = self.nonce();
        if self.framing == Framing::Explicit {
            out.extend_from_slice(&nonce[NONCE - EXPLICIT..]);
        }
        let plain_at = out.len();
        fill(out);
        let plain = out.len() - plain_at;
        assert!(plain <= MOST_PLAIN, "a record holds no more");
        let kind = if self.framing == Framing::Hidden {
            out.push(content.number());
            Content::Data.number()
        } else {
            content.number()
        };
        let header = header(kind, plain + self.overhead() - HEADER);
        out[start..start + HEADER].copy_from_slice(&header);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = if self.framing == Framing::Hidden {
            self.key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut out[plain_at..])
        } else {
            let beside = self.number_and_header(kind, plain);
            self.key.seal_in_place_separate_tag(nonce, Aad::from(beside), &mut out[plain_at..])
        };
        let tag = sealed.expect("so short a text can be sealed");
        out.extend_from_slice(tag.as_ref());
        self.number += 1;
        self.blocks_left = self.blocks_left.saturating_sub(plain as u64 / 16 + 2);
    }

    /// Decrypts the record at the end of `bytes`, which begins at `at`, to the front of `bytes`. Returns what it is and
    /// the length of its plaintext.
    ///
    /// # Errors
    /// The record is not valid.
    pub(super) fn open(&mut self, bytes: &mut [u8], at: usize) -> Result<(Content, usize), BadRecord> {
        let record = &bytes[at..];
        let header: [u8; HEADER] = record[..HEADER].try_into().expect("a record has a header");
        let (kind, sealed) = (header[0], record.len() - HEADER);
        if sealed < self.overhead() - HEADER {
            return Err(BadRecord::Forged);
        }
        let (nonce, sealed_at) = match self.framing {
            Framing::Explicit => {
                let mut nonce = self.iv;
                nonce[NONCE - EXPLICIT..].copy_from_slice(&record[HEADER..HEADER + EXPLICIT]);
                (nonce, HEADER + EXPLICIT)
            }
            Framing::Implicit | Framing::Hidden => (self.nonce(), HEADER),
        };
        let nonce = Nonce::assume_unique_for_key(nonce);
        let from = at + sealed_at..;
        let opened = if self.framing == Framing::Hidden {
            if kind != Content::Data.number() {
                return Err(BadRecord::Unexpected);
            }
            self.key.open_within(nonce, Aad::from(header), bytes, from)
        } else {
            let beside = self.number_and_header(kind, sealed + HEADER - self.overhead());
            self.key.open_within(nonce, Aad::from(beside), bytes, from)
        };
        let mut plain: &[u8] = opened.map_err(|_| BadRecord::Forged)?;
        let mut kind = kind;
        if self.framing == Framing::Hidden {
            // Behind the content stands its kind, and then only zeros.
            let last = plain.iter().rposition(|&byte| byte != 0).ok_or(BadRecord::Unexpected)?;
            kind = plain[last];
            plain = &plain[..last];
        }
        if plain.len() > MOST_PLAIN {
            return Err(BadRecord::TooLong);
        }
        self.number += 1;
        let content = Content::of_number(kind).ok_or(BadRecord::Unexpected)?;
        Ok((content, plain.len()))
    }
}

/// The header of a record with so many bytes behind it. Version 1.3 calls itself 1.2 here.
#[inline]
fn header(kind: u8, len: usize) -> [u8; HEADER] {
    let [high, low] = u16::try_from(len).expect("records are short").to_be_bytes();
    [kind, 3, 3, high, low]
}

/// Where the record at the front of `bytes` is, if it is complete.
///
/// # Errors
/// It is longer than a record may be.
#[inline]
pub(super) fn first_record(bytes: &[u8]) -> Result<Option<Range<usize>>, BadRecord> {
    let Some(&[_, _, _, high, low]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([high, low]));
    if len > MOST_SEALED {
        return Err(BadRecord::TooLong);
    }
    Ok((bytes.len() >= HEADER + len).then_some(0..HEADER + len))
}

/// Whether bytes may be the beginning of a record.
pub(super) fn may_be_record(bytes: &[u8]) -> bool {
    const CHANGE_CIPHER: u8 = 20;
    match *bytes {
        [] => true,
        [kind] => kind == CHANGE_CIPHER || Content::of_number(kind).is_some(),
        [kind, version, ..] => version == 3 && may_be_record(&[kind]),
    }
}

#[cfg(test)]
impl Keys {
    pub(super) fn wear_out(&mut self) {
        self.blocks_left = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::crypto::cipher::{AeadKey, Iv};

    fn pair(version: ProtocolVersion, cipher: usize, number: u64) -> (Keys, Keys) {
        let secrets = || {
            let iv = Iv::from([9; NONCE]);
            match cipher {
                0 => ConnectionTrafficSecrets::Aes128Gcm { key: short_key(), iv },
                1 => ConnectionTrafficSecrets::Aes256Gcm { key: AeadKey::from([7; 32]), iv },
                _ => ConnectionTrafficSecrets::Chacha20Poly1305 { key: AeadKey::from([7; 32]), iv },
            }
        };
        (Keys::new(version, (number, secrets())), Keys::new(version, (number, secrets())))
    }

    /// Keys of 16 bytes cannot be made outside of the handshake, so they come from one of 32.
    fn short_key() -> AeadKey {
        AeadKey::from([7; 32])
    }

    const VERSIONS: [ProtocolVersion; 2] = [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3];

    #[test]
    fn what_is_sealed_can_be_opened_once_and_in_order() {
        for version in VERSIONS {
            for cipher in [1, 2] {
                let (mut sealer, mut opener) = pair(version, cipher, 3);
                let mut out = Vec::new();
                let texts: [&[u8]; 4] = [b"", b"x", b"+PONG\r\n", &[7; MOST_PLAIN]];
                for text in texts {
                    sealer.seal(Content::Data, &mut out, |out| out.extend_from_slice(text));
                }
                let (mut at, mut plain) = (0, 0);
                for text in texts {
                    let record = first_record(&out[at..]).expect("short enough").expect("complete");
                    let end = at + record.end;
                    assert!(record.end <= text.len() + MOST_OVERHEAD);
                    let (content, len) = opener.open(&mut out[plain..end], at - plain).expect("genuine");
                    assert_eq!(content, Content::Data);
                    assert!(out[plain..plain + len] == *text);
                    plain += len;
                    at = end;
                }
                assert_eq!(at, out.len());
            }
        }
    }

    #[test]
    fn changed_repeated_and_reordered_records_are_refused() {
        for version in VERSIONS {
            for cipher in [1, 2] {
                let (mut sealer, _) = pair(version, cipher, 0);
                let (mut first, mut second) = (Vec::new(), Vec::new());
                sealer.seal(Content::Data, &mut first, |out| out.extend_from_slice(b"GET a"));
                sealer.seal(Content::Data, &mut second, |out| out.extend_from_slice(b"GET b"));
                for i in 0..first.len() {
                    let (_, mut opener) = pair(version, cipher, 0);
                    let mut changed = first.clone();
                    changed[i] ^= 1;
                    // Version 1.2 authenticates its own idea of the version number and the length.
                    let ignored = version == ProtocolVersion::TLSv1_2 && (1..HEADER).contains(&i);
                    assert_eq!(opener.open(&mut changed, 0).is_ok(), ignored, "{version:?} {i}");
                }
                let (_, mut opener) = pair(version, cipher, 0);
                assert_eq!(opener.open(&mut second.clone(), 0), Err(BadRecord::Forged));
                let (_, mut opener) = pair(version, cipher, 0);
                assert!(opener.open(&mut first.clone(), 0).is_ok());
                assert_eq!(opener.open(&mut first.clone(), 0), Err(BadRecord::Forged));
                for len in HEADER..first.len() {
                    let (_, mut opener) = pair(version, cipher, 0);
                    assert!(opener.open(&mut first[..len].to_vec(), 0).is_err());
                }
            }
        }
    }

    #[test]
    fn kinds_survive_and_unknown_ones_do_not() {
        for version in VERSIONS {
            let (mut sealer, mut opener) = pair(version, 1, 0);
            for content in [Content::Alert, Content::Handshake, Content::Data] {
                let mut out = Vec::new();
                sealer.seal(content, &mut out, |out| out.extend_from_slice(&[1, 0]));
                assert_eq!(opener.open(&mut out, 0), Ok((content, 2)));
            }
            // A change of the cipher, in the clear.
            let mut plain = vec![20, 3, 3, 0, 30];
            plain.extend([1; 30]);
            assert!(opener.open(&mut plain, 0).is_err());
        }
    }

    #[test]
    fn lengths_are_bounded() {
        assert_eq!(first_record(&[23, 3, 3, 0x41]), Ok(None));
        assert_eq!(first_record(&[23, 3, 3, 0x41, 0]), Ok(None));
        assert_eq!(first_record(&[23, 3, 3, 0x41, 1]), Err(BadRecord::TooLong));
        assert_eq!(first_record(&[23, 3, 3, 0, 1, 9, 9]), Ok(Some(0..6)));
        assert_eq!(first_record(b"PING\r\n"), Err(BadRecord::TooLong));
        assert!(!may_be_record(b"*1\r\n$4\r\nPING\r\n") && !may_be_record(b"P") && !may_be_record(&[22, 2]));
        assert!(may_be_record(&[]) && may_be_record(&[22]) && may_be_record(&[20, 3, 3, 0, 1]));
    }

    #[test]
    fn keys_wear_out_by_what_is_encrypted() {
        let (mut sealer, _) = pair(ProtocolVersion::TLSv1_3, 1, 0);
        sealer.blocks_left = 5;
        sealer.seal(Content::Data, &mut Vec::new(), |out| out.extend_from_slice(&[0; 16]));
        assert!(!sealer.are_worn());
        sealer.seal(Content::Data, &mut Vec::new(), |out| out.push(0));
        assert!(sealer.are_worn());
    }
}
