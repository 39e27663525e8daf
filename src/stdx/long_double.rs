//! The 80-bit extended precision of the x87, which is C's `long double` on x86-64.
//!
//! A number has 64 bits of mantissa, eleven more than a double, and an exponent that reaches 10^4932. Sums of decimal
//! fractions computed in it and printed with 17 decimals look exact: 10.5 + 0.1 is 10.6. Clients see these texts, so
//! this module reproduces them digit for digit, with integer arithmetic, on any processor. Compatible with Redis's
//! float increments.
//!
//! Parsing and adding round to nearest, ties to even, as the hardware and the GNU library do. Printing is exact
//! before it rounds. Texts of usual size take a few 128-bit operations; others use [`Big`], whose work is bounded by
//! the length of the longest text accepted.

use std::cmp::Ordering;
use std::ops::{Add, Neg, Sub};

use super::num::{parse_exponent, parse_hex, round};

/// Texts of this many bytes or more are refused: no number needs them, and reading one costs the
/// square of its length.
const TEXT_LIMIT: usize = 5 * 1024;
/// Bits of a mantissa.
const PRECISION: u32 = 64;
/// The exponent of the last mantissa bit, at its least and at its greatest.
const LOWEST: i64 = -16445;
const HIGHEST: i64 = 16383 - 63;
/// Decimals printed.
const DECIMALS: usize = 17;
/// The greatest power of five below 2^63.
const MAX_SMALL_POWER: i64 = 27;

/// A floating-point number with a 64-bit mantissa.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    magnitude: Magnitude,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Magnitude {
    /// `mantissa * 2^exponent`. The mantissa's top bit is set unless `exponent` is [`LOWEST`],
    /// as it is for zero.
    Finite {
        mantissa: u64,
        exponent: i32,
    },
    Infinite,
    Nan,
}

impl LongDouble {
    /// Zero.
    pub const ZERO: LongDouble =
        LongDouble { negative: false, magnitude: Magnitude::Finite { mantissa: 0, exponent: LOWEST as i32 } };

    /// The greatest finite number.
    pub const MAX: LongDouble = LongDouble {
        negative: false,
        magnitude: Magnitude::Finite { mantissa: u64::MAX, exponent: HIGHEST as i32 },
    };

    /// Rounds `±mantissa * 2^exponent` to the nearest representable number. `sticky` says that the true value is
    /// slightly larger. The conditions of [`round`] must hold.
    fn rounded(negative: bool, mantissa: u128, exponent: i64, sticky: bool) -> Self {
        let (mut mantissa, mut unit) = round(mantissa, exponent, sticky, PRECISION, LOWEST);
        if mantissa >> PRECISION != 0 {
            // A carry: all other bits are zero.
            mantissa >>= 1;
            unit += 1;
        }
        let magnitude = if unit > HIGHEST {
            Magnitude::Infinite
        } else {
            Magnitude::Finite { mantissa: mantissa as u64, exponent: unit as i32 }
        };
        LongDouble { negative, magnitude }
    }

    /// Reads a number with `strtold`'s syntax: decimal with or without an exponent, `0x1.8p3`,
    /// `inf`, `infinity`; the whole input, no spaces around it. Correctly rounded.
    ///
    /// `None` for anything else, for NaN, for 5120 bytes or more, for a finite number too large,
    /// and for a number other than zero so small that zero is the nearest one. O(length²).
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() >= TEXT_LIMIT {
            return None;
        }
        let (unsigned, negative) = match text {
            [b'-', rest @ ..] => (rest, true),
            [b'+', rest @ ..] | rest => (rest, false),
        };
        if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble { negative, magnitude: Magnitude::Infinite });
        }
        let (zero, value) = if let [b'0', b'x' | b'X', hex @ ..] = unsigned {
            let hex = parse_hex(hex)?;
            (hex.mantissa == 0, Self::rounded(negative, hex.mantissa, hex.exponent, hex.sticky))
        } else {
            let decimal = Decimal::parse(unsigned)?;
            (decimal.digits.is_empty(), decimal.rounded(negative)?)
        };
        let in_range = match value.magnitude {
            Magnitude::Finite { mantissa, .. } => (mantissa == 0) == zero,
            _ => false,
        };
        in_range.then_some(value)
    }

    /// Whether this is the result of an operation without one, such as infinity minus infinity.
    pub fn is_nan(self) -> bool {
        self.magnitude == Magnitude::Nan
    }

    /// Whether this is infinity of either sign.
    pub fn is_infinite(self) -> bool {
        self.magnitude == Magnitude::Infinite
    }

    /// Whether this is less than `other`; false if either is not a number.
    pub fn is_below(self, other: LongDouble) -> bool {
        // With gradual underflow, the difference of two numbers is zero only if they are equal.
        let difference = self - other;
        difference.negative && !difference.is_nan() && difference != -LongDouble::ZERO
    }

    /// Appends the text for people: at most 17 decimals, correctly rounded, without zeros at the
    /// end, never an exponent, never `-0`. At most 4934 bytes.
    pub fn fmt_human(self, out: &mut Vec<u8>) {
        let (mantissa, exponent) = match self.magnitude {
            Magnitude::Nan => return out.extend_from_slice(b"nan"),
            Magnitude::Infinite => {
                return out.extend_from_slice(if self.negative { b"-inf" } else { b"inf" });
            }
            Magnitude::Finite { mantissa, exponent } => (mantissa, exponent),
        };
        let sign: &[u8] = if self.negative { b"-" } else { b"" };
        if exponent > 64 {
            out.extend_from_slice(sign);
            let mut big = Big::from(u128::from(mantissa));
            big.shift_left(exponent as usize);
            return big.fmt(out);
        }
        const ONE: u128 = 10u128.pow(DECIMALS as u32);
        let (whole, mut fraction) = if exponent >= 0 {
            (u128::from(mantissa) << exponent, 0)
        } else {
            // 10^17 < 2^57, so the product has at most 121 bits.
            let scaled = u128::from(mantissa) * ONE;
            let scaled = rounded_shift(scaled, exponent.unsigned_abs());
            (scaled / ONE, (scaled % ONE) as u64)
        };
        if whole == 0 && fraction == 0 {
            return out.push(b'0');
        }
        out.extend_from_slice(sign);
        out.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
        if fraction != 0 {
            let mut decimals = [b'0'; DECIMALS];
            let mut len = DECIMALS;
            for at in (0..DECIMALS).rev() {
                decimals[at] = b'0' + (fraction % 10) as u8;
                fraction /= 10;
                if decimals[at] == b'0' && len == at + 1 {
                    len = at;
                }
            }
            out.push(b'.');
            out.extend_from_slice(&decimals[..len]);
        }
    }
}

/// `value / 2^shift` rounded to an integer, ties to even, for values below 2^127 and any shift
/// but zero.
fn rounded_shift(value: u128, shift: u32) -> u128 {
    if shift >= 128 {
        // Less than half.
        return 0;
    }
    let kept = value >> shift;
    let below = value - (kept << shift);
    let half = 1u128 << (shift - 1);
    kept + u128::from(below > half || (below == half && kept & 1 == 1))
}

impl From<i64> for LongDouble {
    /// Exact: every 64-bit integer is an extended number.
    fn from(value: i64) -> Self {
        LongDouble::rounded(value < 0, u128::from(value.unsigned_abs()), 0, false)
    }
}

impl Neg for LongDouble {
    type Output = LongDouble;

    fn neg(self) -> LongDouble {
        LongDouble { negative: !self.negative, ..self }
    }
}

impl Sub for LongDouble {
    type Output = LongDouble;

    /// The difference, rounded like a sum.
    fn sub(self, other: LongDouble) -> LongDouble {
        self + -other
    }
}

impl Add for LongDouble {
    type Output = LongDouble;

    /// The sum, rounded to nearest, ties to even; infinity if it is too large.
    fn add(self, other: LongDouble) -> LongDouble {
        use Magnitude::{Finite, Infinite, Nan};
        let (a, b) = match (self.magnitude, other.magnitude) {
            (Infinite, Infinite) if self.negative != other.negative => {
                return LongDouble { negative: false, magnitude: Nan };
            }
            (Nan | Infinite, _) => return self,
            (_, Nan | Infinite) => return other,
            (Finite { mantissa: a, exponent: x }, Finite { mantissa: b, exponent: y }) => {
                let (a, b) = ((self.negative, a, x), (other.negative, b, y));
                if x >= y { (a, b) } else { (b, a) }
            }
        };
        let ((a_negative, a, exponent), (b_negative, b, b_exponent)) = (a, b);
        // Room for a carry above, and 62 bits below for what `b` has there. If bits of `b` fall
        // out even so, `a` has all its 64 bits and the sum at least 124.
        const BELOW: u32 = 62;
        let a = u128::from(a) << BELOW;
        let b = u128::from(b) << BELOW;
        let shift = (exponent - b_exponent).unsigned_abs();
        let b_kept = b.checked_shr(shift).unwrap_or(0);
        let sticky = b_kept.checked_shl(shift).unwrap_or(0) != b;
        let (negative, sum) = if a_negative == b_negative {
            (a_negative, a + b_kept)
        } else {
            // What fell out makes the difference less; borrowed, it becomes a little more again.
            let b = b_kept + u128::from(sticky);
            match a.cmp(&b) {
                Ordering::Greater => (a_negative, a - b),
                Ordering::Less => (b_negative, b - a),
                Ordering::Equal => return LongDouble::ZERO,
            }
        };
        LongDouble::rounded(negative, sum, i64::from(exponent) - i64::from(BELOW), sticky)
    }
}

/// A decimal number as written: the digits in `digits`, read as an integer, times 10^scale.
struct Decimal<'t> {
    /// From the first digit other than zero to the last one, perhaps with a point between.
    /// Empty for zero.
    digits: &'t [u8],
    /// How many digits that is.
    count: i64,
    scale: i64,
}

impl<'t> Decimal<'t> {
    /// Reads digits with a point anywhere, at least one digit, and perhaps an exponent.
    fn parse(text: &'t [u8]) -> Option<Self> {
        let end = text.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(text.len());
        let exponent = if end == text.len() { 0 } else { parse_exponent(&text[end + 1..])? };
        let mantissa = &text[..end];

        let (mut any, mut point) = (false, false);
        let mut span: Option<(usize, usize)> = None;
        // Digits since the first other than zero; the power of ten a digit here stands for, as far
        // as decimals go; and both as of the last digit other than zero.
        let (mut seen, mut place) = (0i64, 0i64);
        let (mut count, mut scale) = (0i64, 0i64);
        for (at, &byte) in mantissa.iter().enumerate() {
            match byte {
                b'.' if !point => point = true,
                b'0'..=b'9' => {
                    any = true;
                    place -= i64::from(point);
                    if byte != b'0' {
                        span = Some((span.map_or(at, |(first, _)| first), at));
                        seen += 1;
                        (count, scale) = (seen, place);
                    } else if span.is_some() {
                        seen += 1;
                        // A zero before the point raises what comes before it.
                        scale += i64::from(!point);
                    }
                }
                _ => return None,
            }
        }
        let digits = span.map_or(&mantissa[..0], |(first, last)| &mantissa[first..=last]);
        any.then_some(Decimal { digits, count, scale: scale + exponent })
    }

    fn values(&self) -> impl Iterator<Item = u8> {
        self.digits.iter().filter(|&&byte| byte != b'.').map(|&byte| byte - b'0')
    }

    /// The nearest extended number; `None` if it is far out of range.
    fn rounded(&self, negative: bool) -> Option<LongDouble> {
        if self.digits.is_empty() {
            return Some(LongDouble { negative, ..LongDouble::ZERO });
        }
        // The range is 3.6e-4951 to 1.2e4932.
        if !(-4951..=4933).contains(&(self.count + self.scale)) {
            return None;
        }
        let scale = self.scale;
        if self.count <= 19 && scale.abs() <= MAX_SMALL_POWER {
            let digits = self.values().fold(0u64, |number, digit| number * 10 + u64::from(digit));
            let power = 5u64.pow(scale.unsigned_abs() as u32);
            // 10^scale is 5^scale * 2^scale, and the power of two is free.
            if scale >= 0 {
                return Some(LongDouble::rounded(
                    negative,
                    u128::from(digits) * u128::from(power),
                    scale,
                    false,
                ));
            }
            // The numerator has 128 bits and the power at most 63: the quotient has 65 or more.
            let shift = digits.leading_zeros();
            let numerator = u128::from(digits << shift) << 64;
            let power = u128::from(power);
            let (quotient, rest) = (numerator / power, numerator % power);
            return Some(LongDouble::rounded(negative, quotient, scale - 64 - i64::from(shift), rest != 0));
        }
        let mut number = Big::from(0);
        for digit in self.values() {
            number.multiply_add(10, u32::from(digit));
        }
        let (quotient, exponent, sticky) = if scale >= 0 {
            number.multiply_power_of_five(scale as usize);
            number.leading_bits()
        } else {
            let mut divisor = Big::from(1);
            divisor.multiply_power_of_five(scale.unsigned_abs() as usize);
            number.divide(divisor)
        };
        Some(LongDouble::rounded(negative, quotient, exponent + scale, sticky))
    }
}

/// A natural number of any size: 32-bit limbs, the lowest first, the highest not zero.
struct Big {
    limbs: Vec<u32>,
}

impl From<u128> for Big {
    fn from(mut value: u128) -> Self {
        let mut limbs = Vec::new();
        while value != 0 {
            limbs.push(value as u32);
            value >>= 32;
        }
        Big { limbs }
    }
}

impl Big {
    fn bits(&self) -> usize {
        self.limbs.last().map_or(0, |top| self.limbs.len() * 32 - top.leading_zeros() as usize)
    }

    fn multiply_add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for limb in &mut self.limbs {
            carry += u64::from(*limb) * u64::from(factor);
            *limb = carry as u32;
            carry >>= 32;
        }
        if carry != 0 {
            self.limbs.push(carry as u32);
        }
    }

    fn multiply_power_of_five(&mut self, mut power: usize) {
        while power > 0 {
            // 5^13 is the greatest power of five in 32 bits.
            let step = power.min(13);
            self.multiply_add(5u32.pow(step as u32), 0);
            power -= step;
        }
    }

    fn shift_left(&mut self, bits: usize) {
        if self.limbs.is_empty() {
            return;
        }
        let (limbs, bits) = (bits / 32, bits % 32);
        if bits > 0 {
            self.multiply_add(1 << bits, 0);
        }
        self.limbs.splice(0..0, std::iter::repeat_n(0, limbs));
    }

    fn at_least(&self, other: &Big) -> bool {
        let by_length = self.limbs.len().cmp(&other.limbs.len());
        by_length.then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev())) != Ordering::Less
    }

    /// Subtracts a number that is not greater.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = false;
        for (at, limb) in self.limbs.iter_mut().enumerate() {
            let subtrahend = other.limbs.get(at).copied().unwrap_or(0);
            let (difference, first) = limb.overflowing_sub(subtrahend);
            let (difference, second) = difference.overflowing_sub(u32::from(borrow));
            *limb = difference;
            borrow = first || second;
        }
        debug_assert!(!borrow);
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
    }

    /// The topmost bits, up to 128 of them, the exponent that puts them into their place, and
    /// whether there are bits below.
    fn leading_bits(&self) -> (u128, i64, bool) {
        let (skipped, top) = self.limbs.split_at(self.limbs.len().saturating_sub(4));
        let bits = top.iter().rev().fold(0u128, |bits, &limb| bits << 32 | u128::from(limb));
        (bits, skipped.len() as i64 * 32, skipped.iter().any(|&limb| limb != 0))
    }

    /// The quotient with 66 or 67 significant bits, the exponent that puts it into its place,
    /// and whether something remains.
    fn divide(mut self, mut divisor: Big) -> (u128, i64, bool) {
        const STEPS: usize = 66;
        // Numerator and divisor are brought to the same length, so that the first bit of the
        // quotient is 0 or 1; then bit by bit. The exponent says where the first bit stands.
        let exponent = self.bits() as i64 - divisor.bits() as i64;
        if exponent >= 0 {
            divisor.shift_left(exponent as usize);
        } else {
            self.shift_left(exponent.unsigned_abs() as usize);
        }
        let mut quotient = 0u128;
        for step in 0..=STEPS {
            quotient <<= 1;
            if self.at_least(&divisor) {
                self.subtract(&divisor);
                quotient |= 1;
            }
            if step < STEPS {
                self.shift_left(1);
            }
        }
        (quotient, exponent - STEPS as i64, !self.limbs.is_empty())
    }

    /// Appends the decimal text. O(length²).
    fn fmt(mut self, out: &mut Vec<u8>) {
        const CHUNK: u64 = 1_000_000_000;
        let mut chunks = Vec::with_capacity(self.limbs.len() * 32 / 29 + 1);
        while !self.limbs.is_empty() {
            let mut rest = 0u64;
            for limb in self.limbs.iter_mut().rev() {
                let dividend = rest << 32 | u64::from(*limb);
                *limb = (dividend / CHUNK) as u32;
                rest = dividend % CHUNK;
            }
            while self.limbs.last() == Some(&0) {
                self.limbs.pop();
            }
            chunks.push(rest as u32);
        }
        let mut buf = itoa::Buffer::new();
        for (nth, &chunk) in chunks.iter().rev().enumerate() {
            let text = buf.format(chunk).as_bytes();
            if nth > 0 {
                out.extend(std::iter::repeat_n(b'0', 9 - text.len()));
            }
            out.extend_from_slice(text);
        }
        if chunks.is_empty() {
            out.push(b'0');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    fn human(value: LongDouble) -> String {
        let mut out = Vec::new();
        value.fmt_human(&mut out);
        String::from_utf8(out).expect("ASCII")
    }

    fn read(text: &str) -> LongDouble {
        LongDouble::parse(text.as_bytes()).unwrap_or_else(|| panic!("not a number: {text}"))
    }

    #[test]
    fn comparing() {
        let number = |text: &str| LongDouble::parse(text.as_bytes()).expect("a number");
        let ascending =
            ["-inf", "-1e4000", "-1.5", "-1", "-3.7e-4951", "0", "3.7e-4951", "0.1", "1", "1e4000", "inf"];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(number(a).is_below(number(b)), i < j, "{a} {b}");
            }
        }
        assert!(!number("-0").is_below(number("0")) && !number("0").is_below(number("-0")));
        assert_eq!(number("1e4932") + LongDouble::MAX, number("inf"));
        assert!(number("1e4932").is_below(LongDouble::MAX) && LongDouble::MAX.is_below(number("inf")));
    }

    #[test]
    fn sums_are_those_of_the_x87() {
        // What a Redis server on x86-64 answers to an increment of one by the other.
        let table = [
            ("10.5", "0.1", "10.6"),
            ("3.0e3", "200", "3200"),
            ("5.0e3", "2.0e2", "5200"),
            ("5.0e3", "0", "5000"),
            ("1.0", "1e-17", "1.00000000000000001"),
            ("1", "5e-18", "1"),
            ("0", "5e-18", "0"),
            ("0", "-5e-18", "0"),
            ("0", "1.5e-17", "0.00000000000000002"),
            ("0", "2.5e-17", "0.00000000000000002"),
            ("0", "4.9999999999999999999e-18", "0"),
            ("0.1", "0.2", "0.3"),
            ("0.1", "0.7", "0.8"),
            ("1.1", "2.2", "3.3"),
            ("3.3", "-3.3", "0"),
            ("-0", "-0", "0"),
            ("-0.1", "0.1", "0"),
            ("-1", "-0.25", "-1.25"),
            ("100.25", "-0.5", "99.75"),
            ("1e3", ".5", "1000.5"),
            ("5.", "5", "10"),
            ("0x10", "0x1.8p3", "28"),
            ("0x.8", "-0XFp-1", "-7"),
            ("9223372036854775807", "1", "9223372036854775808"),
            ("18446744073709551615", "1", "18446744073709551616"),
            ("18446744073709551616", "1", "18446744073709551616"),
            ("18446744073709551616", "-0.5", "18446744073709551616"),
            ("36893488147419103233", "1", "36893488147419103232"),
            ("1e20", "1", "100000000000000000000"),
            ("1e21", "0.1", "1000000000000000000000"),
            ("1e30", "1", "1000000000000000000024696061952"),
            ("123456789.123456789", "0.000000001", "123456789.12345678999554366"),
            ("17179869184", "1.5", "17179869185.5"),
            ("-2147483648", "-0.1", "-2147483648.10000000009313226"),
            ("0.00000000000000001", "0.00000000000000002", "0.00000000000000003"),
            ("1e-4950", "1e-4950", "0"),
            ("1e-18", "1", "1"),
            ("99999999999999999999999999", "1", "100000000000000000000000000"),
            ("4.2", "0.00000000000000000000000001", "4.2"),
            (
                "1.7976931348623157e308",
                "0",
                "179769313486231569995921046774104434048386446944329178485314420765176628523124396354701868608387085564428793419425520689308708363451136055357897278026477617073498977686288394835618163294045594434929537447290627480669417384648879122776218333598953852832103282504751611691208117720159985926376802466863339536384",
            ),
            ("1e100", "-1e100", "0"),
            ("2", "-1.9", "0.1"),
            ("0.3", "0.6", "0.9"),
            ("12345678901234567890.12345", "0", "12345678901234567890"),
            ("0.1", "0.0", "0.1"),
            ("1e40", "-1", "9999999999999999999783686092270256259072"),
            ("0x1.00000000000000018p0", "0", "1"),
            ("0x1.0000000000000001p0", "0", "1"),
            ("0x1.0000000000000003p0", "0", "1"),
        ];
        for (a, b, sum) in table {
            assert_eq!(human(read(a) + read(b)), sum, "{a} + {b}");
            assert_eq!(human(read(b) + read(a)), sum, "{b} + {a}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            " 1",
            "1 ",
            "0x",
            "0x.",
            "0xp3",
            "0x1p",
            "nan",
            "-nan",
            "inf1",
            "1_0",
            "1e",
            "1e+",
            ".",
            "+",
            "-",
            "+-1",
            "e5",
            "1.2.3",
            "1d",
            "1\0",
            "1.2e4932",
            "-1e5000",
            "1e99999999999999999999",
            "1e-4960",
            "0x1p16384",
            "0x1p-16446",
            "1e-99999999999999999999",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text}");
        }
        let zeros = |n| format!("1.{}", "0".repeat(n));
        assert_eq!(LongDouble::parse(zeros(5117).as_bytes()), Some(LongDouble::from(1)));
        assert_eq!(LongDouble::parse(zeros(5118).as_bytes()), None);
    }

    #[test]
    fn ends_of_the_range() {
        let most = read("1.18973149535723176502e4932");
        assert_eq!(human(most).len(), 4932 + 1);
        assert!((most + most).is_infinite());
        assert!((read("inf") + read("-INFINITY")).is_nan());
        assert!((read("+inf") + read("1")).is_infinite());
        assert_eq!(human(read("-inf")), "-inf");
        assert_eq!(read("0x1p-16445"), read("3.6451995318824746025e-4951"));
        assert_eq!(read("0x1p-16445") + read("-0x1p-16445"), LongDouble::ZERO);
        assert_eq!(human(read("0x1p-16445")), "0");
        assert_eq!(read("0e99999"), LongDouble::ZERO);
        assert_eq!(human(read("-0") + read("-0")), "0");
    }

    #[test]
    fn integers_are_exact() {
        let mut rng = Rng::new(51);
        for value in
            [0, 1, -1, i64::MAX, i64::MIN].into_iter().chain((0..20_000).map(|_| rng.next_u64() as i64))
        {
            assert_eq!(human(LongDouble::from(value)), value.to_string());
            assert_eq!(LongDouble::parse(value.to_string().as_bytes()), Some(LongDouble::from(value)));
        }
        // Sums of integers are exact as far as 64 bits reach.
        for _ in 0..20_000 {
            let (a, b) = (rng.next_u64() as i64 >> 1, rng.next_u64() as i64 >> 1);
            assert_eq!(
                LongDouble::from(a) + LongDouble::from(b),
                LongDouble::from(a + b),
                "seed 51: {a} + {b}"
            );
        }
    }

    #[test]
    fn long_and_short_ways_agree() {
        // More than 19 digits or a power of ten beyond 27 goes through `Big`.
        let mut rng = Rng::new(52);
        for _ in 0..3_000 {
            let digits = rng.next_u64() >> (1 + rng.below(60));
            let scale = rng.below(40) as i64 - 20;
            let short = LongDouble::parse(format!("{digits}e{scale}").as_bytes());
            let mut big = Big::from(u128::from(digits));
            big.multiply_power_of_five(scale.unsigned_abs() as usize);
            let by_big = match scale {
                0.. => big.leading_bits(),
                _ => {
                    let mut divisor = Big::from(1);
                    divisor.multiply_power_of_five(scale.unsigned_abs() as usize);
                    Big::from(u128::from(digits)).divide(divisor)
                }
            };
            let (mantissa, exponent, sticky) = by_big;
            let by_big = LongDouble::rounded(false, mantissa, exponent + scale, sticky);
            assert_eq!(Some(by_big), short, "seed 52: {digits}e{scale}");
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm() {
        let mut rng = Rng::new(53);
        for _ in 0..50_000 {
            let text: Vec<u8> = (0..rng.below(30))
                .map(|_| *rng.choose(b"0123456789.eExXpPaf+-inf").expect("not empty"))
                .collect();
            if let Some(value) = LongDouble::parse(&text) {
                human(value + value);
            }
        }
        for text in
            ["9".repeat(5119), format!("0.{}9", "0".repeat(4900)), format!("{}e-5119", "7".repeat(5110))]
        {
            if let Some(value) = LongDouble::parse(text.as_bytes()) {
                human(value);
            }
        }
    }
}
