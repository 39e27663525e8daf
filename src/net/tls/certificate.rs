//! What this server reads in a certificate: whose it is, who issued it, from when to when it is valid, and what it may
//! be used for.

use super::der::{self, Malformed, Reader, Value};

/// Object identifiers, as the bytes of their encoding.
mod oid {
    pub(super) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    pub(super) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
    pub(super) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    pub(super) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
    pub(super) const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
    pub(super) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    pub(super) const ANY_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];
    pub(super) const NETSCAPE_CERT_TYPE: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x42, 0x01, 0x01];
    pub(super) const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
    pub(super) const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
}

/// Bits of the key usage, the first one highest.
const DIGITAL_SIGNATURE: u8 = 0x80;
const KEY_ENCIPHERMENT: u8 = 0x20;
const KEY_AGREEMENT: u8 = 0x08;
const KEY_CERT_SIGN: u8 = 0x04;

/// What somebody shows a certificate for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be let in.
    Client,
    /// To be trusted with what is sent.
    Server,
}

/// A certificate, which has been read but not verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Certificate<'a> {
    /// The part that is signed, with its tag and length.
    pub(super) signed: &'a [u8],
    /// Algorithm of the signature: the content of its identifier.
    pub(super) signature_algorithm: &'a [u8],
    /// The signature.
    pub(super) signature: &'a [u8],
    /// 1 or 3; extensions belong to version 3.
    pub(super) version: u8,
    /// Serial number, big-endian.
    pub(super) serial: &'a [u8],
    /// Name of the issuer: the content of the sequence.
    pub(super) issuer: &'a [u8],
    /// Name of the owner: the content of the sequence.
    pub(super) subject: &'a [u8],
    /// Since when it is valid, in seconds since 1970.
    pub(super) not_before: i64,
    /// Until when it is valid, in seconds since 1970.
    pub(super) not_after: i64,
    /// The public key with its algorithm, with tag and length.
    pub(super) key_info: &'a [u8],
    /// Algorithm of the public key: the content of its identifier.
    pub(super) key_algorithm: &'a [u8],
    /// The public key.
    pub(super) key: &'a [u8],
    extensions: Option<Reader<'a>>,
}

/// An extension of a certificate.
#[derive(Clone, Copy)]
struct Extension<'a> {
    id: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads a certificate.
    ///
    /// # Errors
    /// The bytes are no certificate.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Certificate<'a>, Malformed> {
        let mut outer = Reader::new(bytes);
        let mut parts = outer.expect(der::SEQUENCE)?.inner();
        let signed = parts.expect(der::SEQUENCE)?;
        let signature_algorithm = parts.expect(der::SEQUENCE)?.content;
        let signature = parts.expect(der::BIT_STRING)?.bytes_of_bits()?;
        if !outer.is_empty() || !parts.is_empty() {
            return Err(Malformed);
        }
        let mut fields = signed.inner();
        let version = match fields.optional(0xa0)? {
            None => 1,
            Some(version) => match version.inner().expect(der::INTEGER)?.content {
                [number @ 1..=2] => number + 1,
                _ => return Err(Malformed),
            },
        };
        let serial = fields.expect(der::INTEGER)?.content;
        // It is said twice what signs, and only one of the two is signed.
        if fields.expect(der::SEQUENCE)?.content != signature_algorithm {
            return Err(Malformed);
        }
        let issuer = fields.expect(der::SEQUENCE)?.content;
        let mut validity = fields.expect(der::SEQUENCE)?.inner();
        let (not_before, not_after) = (validity.next()?.time()?, validity.next()?.time()?);
        let subject = fields.expect(der::SEQUENCE)?.content;
        let key_info = fields.expect(der::SEQUENCE)?;
        let mut key_parts = key_info.inner();
        let key_algorithm = key_parts.expect(der::SEQUENCE)?.content;
        let key = key_parts.expect(der::BIT_STRING)?.bytes_of_bits()?;
        // Identifiers of issuer and owner, which nobody uses.
        let _ = (fields.optional(0x81)?, fields.optional(0x82)?);
        let extensions = match fields.optional(0xa3)? {
            None => None,
            Some(_) if version != 3 => return Err(Malformed),
            Some(explicit) => Some(explicit.inner().expect(der::SEQUENCE)?.inner()),
        };
        if !fields.is_empty() || !key_parts.is_empty() || !validity.is_empty() {
            return Err(Malformed);
        }
        let certificate = Certificate {
            signed: signed.whole,
            signature_algorithm,
            signature,
            version,
            serial,
            issuer,
            subject,
            not_before,
            not_after,
            key_info: key_info.whole,
            key_algorithm,
            key,
            extensions,
        };
        // What cannot be read must not be taken for absent later.
        certificate.each_extension(|_| Ok(()))?;
        Ok(certificate)
    }

    fn each_extension(
        &self,
        mut visit: impl FnMut(Extension<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let Some(mut reader) = self.extensions else { return Ok(()) };
        while !reader.is_empty() {
            let mut parts = reader.expect(der::SEQUENCE)?.inner();
            let id = parts.expect(der::OID)?.content;
            let critical = parts.optional(der::BOOLEAN)?.map_or(Ok(false), Value::boolean)?;
            let value = parts.expect(der::OCTET_STRING)?.content;
            if !parts.is_empty() {
                return Err(Malformed);
            }
            visit(Extension { id, critical, value })?;
        }
        Ok(())
    }

    fn extension(&self, id: &[u8]) -> Option<&'a [u8]> {
        let mut found = None;
        let _ = self.each_extension(|extension| {
            if extension.id == id {
                found = Some(extension.value);
            }
            Ok(())
        });
        found
    }

    /// Whether it is valid at a time, in seconds since 1970.
    pub(super) fn is_valid_at(&self, now: i64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// Whether it was issued by its owner, as far as the names tell.
    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    /// Whether others may be issued with it: it says that it is an authority's, or is of the version that cannot say
    /// so and was issued by its owner.
    pub(super) fn may_issue(&self) -> bool {
        if self.version == 1 {
            return self.is_self_issued();
        }
        let authority = self.extension(oid::BASIC_CONSTRAINTS).is_some_and(|value| {
            let mut reader = Reader::new(value);
            let constraints = reader.expect(der::SEQUENCE).map(Value::inner);
            constraints
                .and_then(|mut inner| inner.optional(der::BOOLEAN)?.map_or(Ok(false), Value::boolean))
                .unwrap_or(false)
        });
        let usage = self.extension(oid::KEY_USAGE).map(key_usage);
        authority && usage.is_none_or(|usage| usage.is_ok_and(|bits| bits & KEY_CERT_SIGN != 0))
    }

    /// Whether it limits the names of those that are issued with it.
    pub(super) fn constrains_names(&self) -> bool {
        self.extension(oid::NAME_CONSTRAINTS).is_some()
    }

    /// Whether an extension that must be understood is not.
    pub(super) fn has_unknown_critical_extension(&self) -> bool {
        const KNOWN: [&[u8]; 6] = [
            oid::KEY_USAGE,
            oid::SUBJECT_ALT_NAME,
            oid::BASIC_CONSTRAINTS,
            oid::NAME_CONSTRAINTS,
            oid::EXTENDED_KEY_USAGE,
            oid::NETSCAPE_CERT_TYPE,
        ];
        let mut unknown = false;
        let _ = self.each_extension(|extension| {
            unknown |= extension.critical && !KNOWN.contains(&extension.id);
            Ok(())
        });
        unknown
    }

    /// Whether its extensions permit to use it for `purpose`. One without extensions may be used for everything.
    pub(super) fn serves(&self, purpose: Purpose) -> bool {
        let (extended, netscape, usages) = match purpose {
            Purpose::Client => (oid::CLIENT_AUTH, 0x80, DIGITAL_SIGNATURE | KEY_AGREEMENT),
            Purpose::Server => (oid::SERVER_AUTH, 0x40, DIGITAL_SIGNATURE | KEY_ENCIPHERMENT | KEY_AGREEMENT),
        };
        let by_extended = self.extension(oid::EXTENDED_KEY_USAGE).is_none_or(|value| {
            let Ok(list) = Reader::new(value).expect(der::SEQUENCE) else { return false };
            let mut ids = list.inner();
            std::iter::from_fn(|| ids.expect(der::OID).ok())
                .any(|id| id.content == extended || id.content == oid::ANY_EXTENDED_KEY_USAGE)
        });
        let by_usage = self
            .extension(oid::KEY_USAGE)
            .is_none_or(|value| key_usage(value).is_ok_and(|bits| bits & usages != 0));
        let by_type = self
            .extension(oid::NETSCAPE_CERT_TYPE)
            .is_none_or(|value| key_usage(value).is_ok_and(|bits| bits & netscape != 0));
        by_extended && by_usage && by_type
    }

    /// The owner's common name, the last if there are several.
    pub(super) fn common_name(&self) -> Option<&'a [u8]> {
        let mut names = Reader::new(self.subject);
        let mut found = None;
        while let Ok(set) = names.expect(der::SET) {
            let mut attributes = set.inner();
            while let Ok(attribute) = attributes.expect(der::SEQUENCE) {
                let mut parts = attribute.inner();
                if parts.expect(der::OID).is_ok_and(|id| id.content == oid::COMMON_NAME)
                    && let Ok(name) = parts.next()
                {
                    found = Some(name.content);
                }
            }
        }
        found
    }

    /// The first address of the owner that is a URI.
    pub(super) fn uri(&self) -> Option<&'a [u8]> {
        const URI: u8 = 0x86;
        let mut names =
            Reader::new(self.extension(oid::SUBJECT_ALT_NAME)?).expect(der::SEQUENCE).ok()?.inner();
        std::iter::from_fn(|| names.next().ok()).find(|name| name.tag == URI).map(|name| name.content)
    }

    /// The serial number in hexadecimal digits, as tools show it.
    pub(super) fn serial_text(&self) -> String {
        let digits = match self.serial {
            [0, rest @ ..] if !rest.is_empty() => rest,
            all => all,
        };
        digits.iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

/// Key usages, as the bits of an extension's value.
fn key_usage(value: &[u8]) -> Result<u8, Malformed> {
    Reader::new(value).expect(der::BIT_STRING)?.first_bits()
}
