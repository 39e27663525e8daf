//! Reading DER, the encoding of certificates, as far as certificates need it.
//!
//! No bytes make it panic. What is not the one valid encoding of a value is refused.

/// Tag of a `BOOLEAN`.
pub(super) const BOOLEAN: u8 = 0x01;
/// Tag of an `INTEGER`.
pub(super) const INTEGER: u8 = 0x02;
/// Tag of a `BIT STRING`.
pub(super) const BIT_STRING: u8 = 0x03;
/// Tag of an `OCTET STRING`.
pub(super) const OCTET_STRING: u8 = 0x04;
/// Tag of an `OBJECT IDENTIFIER`.
pub(super) const OID: u8 = 0x06;
/// Tag of a `SEQUENCE`.
pub(super) const SEQUENCE: u8 = 0x30;
/// Tag of a `SET`.
pub(super) const SET: u8 = 0x31;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The bytes are not DER, or not of the value expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// One value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    /// Its tag.
    pub(super) tag: u8,
    /// Its content.
    pub(super) content: &'a [u8],
    /// Tag, length and content.
    pub(super) whole: &'a [u8],
}

/// Values one behind the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next value, if there is one.
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next value.
    pub(super) fn next(&mut self) -> Result<Value<'a>, Malformed> {
        let bytes = self.0;
        let (&[tag, first], rest) = bytes.split_first_chunk::<2>().ok_or(Malformed)?;
        // Tags of several bytes do not occur in certificates.
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(Malformed)?;
                let len = digits.iter().fold(0usize, |len, &digit| len << 8 | usize::from(digit));
                // The shortest form is the only one.
                if digits[0] == 0 || len < 0x80 {
                    return Err(Malformed);
                }
                (len, rest)
            }
            _ => return Err(Malformed),
        };
        let (content, rest) = rest.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(Value { tag, content, whole: &bytes[..bytes.len() - rest.len()] })
    }

    /// The next value, which has this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Value<'a>, Malformed> {
        let value = self.next()?;
        if value.tag == tag { Ok(value) } else { Err(Malformed) }
    }

    /// The next value if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Value<'a>>, Malformed> {
        if self.peek() == Some(tag) { self.next().map(Some) } else { Ok(None) }
    }
}

impl<'a> Value<'a> {
    /// The values that it consists of.
    pub(super) fn inner(self) -> Reader<'a> {
        Reader(self.content)
    }

    /// The bytes of a `BIT STRING` of whole bytes.
    pub(super) fn bytes_of_bits(self) -> Result<&'a [u8], Malformed> {
        match self.content {
            [0, bytes @ ..] => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    /// The first eight bits of a `BIT STRING`, the first of them highest; absent ones are 0.
    pub(super) fn first_bits(self) -> Result<u8, Malformed> {
        match self.content {
            [0..=7, bits @ ..] => Ok(bits.first().copied().unwrap_or(0)),
            _ => Err(Malformed),
        }
    }

    /// A `BOOLEAN`.
    pub(super) fn boolean(self) -> Result<bool, Malformed> {
        match (self.tag, self.content) {
            (BOOLEAN, [0]) => Ok(false),
            (BOOLEAN, [0xff]) => Ok(true),
            _ => Err(Malformed),
        }
    }

    /// A time, in seconds since 1970.
    pub(super) fn time(self) -> Result<i64, Malformed> {
        let (digits, years) = match self.tag {
            UTC_TIME => (self.content, 2),
            GENERALIZED_TIME => (self.content, 4),
            _ => return Err(Malformed),
        };
        let digits = digits.strip_suffix(b"Z").ok_or(Malformed)?;
        if digits.len() != years + 10 || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Malformed);
        }
        let number = |from: usize, len: usize| {
            digits[from..from + len].iter().fold(0i64, |number, digit| number * 10 + i64::from(digit - b'0'))
        };
        let year = match (self.tag, number(0, years)) {
            (UTC_TIME, year @ 0..=49) => 2000 + year,
            (UTC_TIME, year) => 1900 + year,
            (_, year) => year,
        };
        let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(years + at, 2));
        let valid =
            (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
        if !valid {
            return Err(Malformed);
        }
        Ok(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have the day that is left out at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_one_by_one() {
        let bytes = [0x30, 0x06, 0x02, 0x01, 0x05, 0x03, 0x01, 0x00, 0x04, 0x00];
        let mut reader = Reader::new(&bytes);
        let mut inner = reader.expect(SEQUENCE).expect("a sequence").inner();
        assert_eq!(inner.expect(INTEGER).expect("a number").content, [5]);
        assert!(inner.optional(OCTET_STRING).expect("well-formed").is_none());
        assert_eq!(inner.expect(BIT_STRING).expect("bits").bytes_of_bits(), Ok(&[][..]));
        assert!(inner.is_empty());
        let last = reader.expect(OCTET_STRING).expect("a string");
        assert_eq!((last.content, last.whole), (&[][..], &[0x04, 0x00][..]));
        assert!(reader.next().is_err());
    }

    #[test]
    fn lengths_have_one_form() {
        let mut long = vec![0x04, 0x81, 0x80];
        long.extend([0; 0x80]);
        assert_eq!(Reader::new(&long).next().expect("128 bytes").content.len(), 0x80);
        for bytes in [
            &[0x04][..],
            &[0x04, 0x01],
            &[0x04, 0x81, 0x01, 0],
            &[0x04, 0x82, 0, 0x80, 0],
            &[0x04, 0x80],
            &[0x04, 0x85, 1, 0, 0, 0, 0],
            &[0x04, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x1f, 0x01, 0x00],
        ] {
            assert!(Reader::new(bytes).next().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn times_are_seconds() {
        let time = |tag, text: &str| Value { tag, content: text.as_bytes(), whole: &[] }.time();
        assert_eq!(time(UTC_TIME, "700101000000Z"), Ok(0));
        assert_eq!(time(UTC_TIME, "261130143436Z"), Ok(1_796_049_276));
        assert_eq!(time(GENERALIZED_TIME, "20000229235959Z"), Ok(951_868_799));
        assert_eq!(time(GENERALIZED_TIME, "20500101000000Z"), Ok(2_524_608_000));
        assert_eq!(time(UTC_TIME, "490101000000Z"), Ok(2_493_072_000));
        for text in
            ["", "Z", "70010100000Z", "700101000000", "701301000000Z", "7001010000600", "70010124000xZ"]
        {
            assert!(time(UTC_TIME, text).is_err(), "{text}");
        }
    }

    /// Nothing in here panics, whatever the bytes are.
    #[test]
    fn garbage_is_refused() {
        let mut state = 1u32;
        for len in 0..200 {
            let bytes: Vec<u8> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            let mut reader = Reader::new(&bytes);
            while let Ok(value) = reader.next() {
                let _ = (value.time(), value.boolean(), value.first_bits(), value.bytes_of_bits());
            }
        }
    }
}
