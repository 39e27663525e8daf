//! Numbers to text and back, byte for byte as a C program using the x86-64 GNU library does it.
//!
//! * Integers are canonical: a text is accepted only if printing its value results in that text again, so that a
//!   string can be stored as an integer without losing its spelling.
//! * Doubles are read with the syntax of C's `strtod` and printed by Grisu2 (Florian Loitsch,
//!   "Printing Floating-Point Numbers Quickly and Accurately with Integers", PLDI 2010), with the
//!   cached powers and the layout of Andreas Samoljuk's fpconv. Grisu2 always reads back as the
//!   same double but in 3 of 1000 cases is a digit longer than need be; those cases are kept,
//!   because clients compare texts: compatible with Redis 7.2.
//! * Memory sizes carry units, decimal (`k`) and binary (`kb`).
//!
//! No function here panics or allocates, whatever bytes it is given, and each is O(length).

/// The longest text of a 64-bit integer: `-9223372036854775808` or `18446744073709551615`.
pub const MAX_INT_LEN: usize = 20;

/// The number written as eight ASCII digits, first digit in the lowest byte; `None` if a byte is not a digit.
#[inline(always)]
fn eight_digits(bytes: [u8; 8]) -> Option<u64> {
    let chunk = u64::from_le_bytes(bytes);
    // Digits are 0x30..=0x39: the high nibble is 3, and stays 3 when 6 is added.
    let high = chunk & 0xf0f0_f0f0_f0f0_f0f0;
    let plus_six = chunk.wrapping_add(0x0606_0606_0606_0606) & 0xf0f0_f0f0_f0f0_f0f0;
    if (high ^ 0x3030_3030_3030_3030) | (plus_six ^ 0x3030_3030_3030_3030) != 0 {
        return None;
    }
    // Neighbours are combined pairwise: digits to pairs, pairs to groups of four, those to eight.
    let digits = chunk & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (digits.wrapping_mul(10) + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    Some((fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff)
}

/// The value of 1 to 19 digits; such a number fits 64 bits.
#[inline(always)]
fn digits_to_u64(mut digits: &[u8]) -> Option<u64> {
    debug_assert!(digits.len() <= 19);
    let mut value = 0u64;
    while let Some((chunk, rest)) = digits.split_first_chunk::<8>() {
        value = value * 100_000_000 + eight_digits(*chunk)?;
        digits = rest;
    }
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value)
}

/// Reads a canonical decimal integer: no `+`, no spaces, no leading zeros, no `-0`.
///
/// This is the one rule for what is kept as an integer: by strings, intsets, listpacks and files alike. A text of more
/// than [`MAX_INT_LEN`] bytes is refused without being read.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (digits, negative) = match text {
        [b'-', digits @ ..] => (digits, true),
        digits => (digits, false),
    };
    match digits {
        [b'1'..=b'9', ..] if digits.len() <= 19 => {
            let magnitude = digits_to_u64(digits)?;
            if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
        }
        [b'0'] if !negative => Some(0),
        _ => None,
    }
}

/// Parses a canonical decimal integer without a sign: no spaces, no leading zeros.
#[inline]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    match text {
        [b'1'..=b'9', ..] if text.len() <= 19 => digits_to_u64(text),
        [head @ .., last @ b'0'..=b'9'] if text.len() == MAX_INT_LEN && head[0] != b'0' => {
            digits_to_u64(head)?.checked_mul(10)?.checked_add(u64::from(last - b'0'))
        }
        b"0" => Some(0),
        _ => None,
    }
}

/// Length in bytes of the decimal text of `value`, including the minus sign. O(1).
#[inline]
pub const fn decimal_len(value: i64) -> usize {
    let magnitude = value.unsigned_abs();
    let digits = if magnitude == 0 { 1 } else { magnitude.ilog10() as usize + 1 };
    digits + (value < 0) as usize
}

/// A hexadecimal float: `mantissa * 2^exponent`, slightly more if `sticky`.
pub(super) struct HexFloat {
    pub mantissa: u128,
    pub exponent: i64,
    /// Whether a non-zero digit did not fit the mantissa, which then has at least 124 significant bits.
    pub sticky: bool,
}

/// Reads what follows `0x`: `h.hhh` with at least one digit, then perhaps `p`, a sign and an
/// exponent of two. The whole input must be consumed.
pub(super) fn parse_hex(text: &[u8]) -> Option<HexFloat> {
    let mut float = HexFloat { mantissa: 0, exponent: 0, sticky: false };
    let (mut any, mut point) = (false, false);
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        if byte == b'.' && !point {
            point = true;
        } else if let Some(digit) = (byte as char).to_digit(16) {
            any = true;
            if float.mantissa >> 124 == 0 {
                float.mantissa = float.mantissa << 4 | u128::from(digit);
                float.exponent -= 4 * i64::from(point);
            } else {
                float.sticky |= digit != 0;
                float.exponent += 4 * i64::from(!point);
            }
        } else {
            break;
        }
        at += 1;
    }
    let exponent = match &text[at..] {
        [] => 0,
        [b'p' | b'P', rest @ ..] => parse_exponent(rest)?,
        _ => return None,
    };
    float.exponent = float.exponent.saturating_add(exponent);
    any.then_some(float)
}

/// Reads an exponent: a sign or none, then at least one digit; it saturates far beyond what any
/// float can hold.
pub(super) fn parse_exponent(text: &[u8]) -> Option<i64> {
    let (digits, negative) = match text {
        [b'-', digits @ ..] => (digits, true),
        [b'+', digits @ ..] | digits => (digits, false),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0i64;
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = (value * 10 + i64::from(digit)).min(1 << 40);
    }
    Some(if negative { -value } else { value })
}

/// Rounds `mantissa * 2^exponent` (a little more if `sticky`) to `precision` bits, or fewer where
/// their unit would be smaller than `2^lowest`; ties to even.
///
/// The result is `(m, e)` for `m * 2^e`, and `m` may be `2^precision` by a carry. It has all
/// `precision` bits unless `e` is `lowest` or `m` is zero. `sticky` asks for a `mantissa` longer
/// than `precision`, for nothing says how far below its last bit the rest lies.
pub(super) fn round(mantissa: u128, exponent: i64, sticky: bool, precision: u32, lowest: i64) -> (u128, i64) {
    if mantissa == 0 {
        return (0, lowest);
    }
    let top = exponent + i64::from(mantissa.ilog2());
    let unit = (top - i64::from(precision) + 1).max(lowest);
    let drop = unit - exponent;
    if drop <= 0 {
        return (mantissa << -drop, unit);
    }
    if drop > 128 {
        return (0, unit);
    }
    let kept = mantissa.checked_shr(drop as u32).unwrap_or(0);
    let below = mantissa - kept.checked_shl(drop as u32).unwrap_or(0);
    let half = 1u128 << (drop - 1);
    let up = below > half || (below == half && (sticky || kept & 1 == 1));
    (kept + u128::from(up), unit)
}

/// The double nearest to a hexadecimal float, ties to even.
fn hex_to_f64(hex: &HexFloat) -> f64 {
    const LOWEST: i64 = -1074;
    let (mantissa, unit) = round(hex.mantissa, hex.exponent, hex.sticky, 53, LOWEST);
    if unit > 1023 - 52 {
        return f64::INFINITY;
    }
    let mut bits = mantissa as u64;
    if bits >= 1 << 52 {
        // The exponent field of a number is `unit - LOWEST + 1`, and the mantissa's leading bit
        // adds that one; a carry out of rounding lands there too, up to infinity's pattern.
        bits += ((unit - LOWEST) as u64) << 52;
    }
    f64::from_bits(bits)
}

/// Parses a double in `strtod`'s syntax. A number that is too large becomes infinity, one that is too small becomes
/// zero.
fn read_f64(text: &[u8]) -> Option<f64> {
    if let Some(integer) = parse_i64(text) {
        return Some(integer as f64);
    }
    let (unsigned, negative) = match text {
        [b'-', rest @ ..] => (rest, true),
        [b'+', rest @ ..] | rest => (rest, false),
    };
    if let [b'0', b'x' | b'X', hex @ ..] = unsigned {
        let value = hex_to_f64(&parse_hex(hex)?);
        return Some(if negative { -value } else { value });
    }
    // The rest of the syntax is exactly that of the standard library: digits with a point anywhere, an exponent,
    // "inf", "infinity" and "nan" in any case.
    let value: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (!value.is_nan()).then_some(value)
}

/// Whether some digit of the number before its exponent is not zero.
fn has_nonzero_digit(text: &[u8]) -> bool {
    let hex = matches!(text, [b'+' | b'-', b'0', b'x' | b'X', ..] | [b'0', b'x' | b'X', ..]);
    let exponent: [u8; 2] = if hex { *b"pP" } else { *b"eE" };
    text.iter().take_while(|byte| !exponent.contains(byte)).any(|byte| match byte {
        b'1'..=b'9' => true,
        b'a'..=b'f' | b'A'..=b'F' => hex,
        _ => false,
    })
}

/// Reads a double: `strtod`'s syntax (decimal, `0x1.8p3`, `inf`, `infinity`), the whole input,
/// no spaces around it.
///
/// `None` for anything else, for NaN, for a finite number too large for a double, and for a
/// number other than zero so small that zero is the nearest double.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    let value = read_f64(text)?;
    if value.is_infinite() {
        // Of the texts that mean infinity only these hold an 'n'.
        return text.iter().any(|byte| matches!(byte, b'n' | b'N')).then_some(value);
    }
    (value != 0.0 || !has_nonzero_digit(text)).then_some(value)
}

/// Parses a double like [`parse_f64`], but a number that is too large becomes infinity and one that is too small
/// becomes zero, as needed for the ends of ranges.
pub fn parse_f64_saturating(text: &[u8]) -> Option<f64> {
    read_f64(text)
}

/// Buffer for the text of one double.
#[derive(Debug, Default, Clone, Copy)]
pub struct FloatBuf {
    // The longest: a sign, 17 digits and 7 zeros; or a sign, "0.00000" and 17 digits; or a
    // sign, 17 digits, a point and "e-308".
    bytes: [u8; 32],
    len: usize,
}

impl FloatBuf {
    /// An empty buffer.
    #[inline]
    pub const fn new() -> Self {
        FloatBuf { bytes: [0; 32], len: 0 }
    }

    #[inline]
    fn put(&mut self, text: &[u8]) {
        self.bytes[self.len..self.len + text.len()].copy_from_slice(text);
        self.len += text.len();
    }

    #[inline]
    fn zeros(&mut self, count: usize) {
        self.bytes[self.len..self.len + count].fill(b'0');
        self.len += count;
    }

    #[inline]
    fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Writes the text of a value without digits, or a minus sign. Returns whether the text is complete.
    fn put_special(&mut self, value: f64) -> bool {
        self.len = 0;
        if value.is_nan() {
            self.put(b"nan");
        } else {
            if value.is_sign_negative() {
                self.put(b"-");
            }
            if value.is_infinite() {
                self.put(b"inf");
            } else if value == 0.0 {
                self.put(b"0");
            } else {
                return false;
            }
        }
        true
    }
}

/// The short text of a double that reads back as the same double.
///
/// Whole numbers up to 2^62 have all their digits. Others have as few as Grisu2 finds, plainly
/// (`0.000015`, `12345678901234568000000`) or, if that would need many zeros, with an exponent
/// (`1.5e-7`, `1e+20`). `inf`, `-inf`, `nan` and `-0` are what they look like.
pub fn fmt_f64(value: f64, buf: &mut FloatBuf) -> &[u8] {
    const WHOLE: f64 = (1u64 << 62) as f64;
    if buf.put_special(value) {
        return buf.text();
    }
    let whole = value as i64;
    if value.abs() <= WHOLE && whole as f64 == value {
        buf.len = 0;
        buf.put(itoa::Buffer::new().format(whole).as_bytes());
        return buf.text();
    }
    let (digits, count, scale) = grisu2(value.abs());
    let digits = &digits[..count];
    // The number is 0.d₁d₂…dₙ * 10^point.
    let point = count as i32 + scale;
    let magnitude = (point - 1).abs();
    if scale >= 0 && magnitude < count as i32 + 7 {
        buf.put(digits);
        buf.zeros(scale as usize);
    } else if scale < 0 && (scale > -7 || magnitude < 4) {
        if point <= 0 {
            buf.put(b"0.");
            buf.zeros(-point as usize);
            buf.put(digits);
        } else {
            let (before, after) = digits.split_at(point as usize);
            buf.put(before);
            buf.put(b".");
            buf.put(after);
        }
    } else {
        buf.put(&digits[..1]);
        if count > 1 {
            buf.put(b".");
            buf.put(&digits[1..]);
        }
        buf.put(if point > 0 { b"e+" } else { b"e-" });
        buf.put(itoa::Buffer::new().format(magnitude).as_bytes());
    }
    buf.text()
}

/// The text that C's `printf("%.17g")` produces: always enough digits to parse as the same double, often more than
/// necessary. Compatible with Redis up to 7.0.
pub fn fmt_f64_17(value: f64, buf: &mut FloatBuf) -> &[u8] {
    use std::io::Write;
    if buf.put_special(value) {
        return buf.text();
    }
    // "d.dddddddddddddddde-308": 17 digits, correctly rounded.
    let mut room = [0u8; 24];
    let mut rest = &mut room[..];
    write!(rest, "{:.16e}", value.abs()).expect("17 digits, a point and an exponent fit 24 bytes");
    let left = rest.len();
    let text = &room[..room.len() - left];
    let mut digits = [0u8; 17];
    digits[0] = text[0];
    digits[1..].copy_from_slice(&text[2..18]);
    let exponent = parse_exponent(&text[19..]).expect("the standard library prints an exponent") as i32;
    let significant = 17 - digits.iter().rev().take_while(|&&digit| digit == b'0').count();

    if (-4..0).contains(&exponent) {
        buf.put(b"0.");
        buf.zeros((-exponent - 1) as usize);
        buf.put(&digits[..significant]);
    } else if (0..17).contains(&exponent) {
        let before = exponent as usize + 1;
        buf.put(&digits[..before]);
        if significant > before {
            buf.put(b".");
            buf.put(&digits[before..significant]);
        }
    } else {
        buf.put(&digits[..1]);
        if significant > 1 {
            buf.put(b".");
            buf.put(&digits[1..significant]);
        }
        buf.put(if exponent < 0 { b"e-" } else { b"e+" });
        if exponent.abs() < 10 {
            buf.put(b"0");
        }
        buf.put(itoa::Buffer::new().format(exponent.abs()).as_bytes());
    }
    buf.text()
}

/// `fraction * 2^exponent`, Loitsch's "do it yourself floating point".
#[derive(Clone, Copy)]
struct DiyFloat {
    fraction: u64,
    exponent: i32,
}

impl DiyFloat {
    fn normalized(self) -> Self {
        let shift = self.fraction.leading_zeros();
        DiyFloat { fraction: self.fraction << shift, exponent: self.exponent - shift as i32 }
    }

    /// The product, rounded to 64 bits, halves up.
    fn times(self, other: Self) -> Self {
        let product = u128::from(self.fraction) * u128::from(other.fraction) + (1 << 63);
        DiyFloat { fraction: (product >> 64) as u64, exponent: self.exponent + other.exponent + 64 }
    }
}

/// After scaling by a cached power the binary exponent is at least this, so that at most 32 bits
/// of the number lie before the binary point.
const LEAST_SCALED_EXPONENT: i32 = -60;
/// The decimal exponents of the first cached power and between neighbours.
const FIRST_POWER: i32 = -348;
const POWER_STEP: i32 = 8;

/// Significands of 10^-348, 10^-340, … 10^340, normalized to 64 bits and rounded to nearest.
#[rustfmt::skip]
const CACHED_POWERS: [u64; 87] = [
    0xfa8fd5a0081c0288, 0xbaaee17fa23ebf76, 0x8b16fb203055ac76, 0xcf42894a5dce35ea, 0x9a6bb0aa55653b2d,
    0xe61acf033d1a45df, 0xab70fe17c79ac6ca, 0xff77b1fcbebcdc4f, 0xbe5691ef416bd60c, 0x8dd01fad907ffc3c,
    0xd3515c2831559a83, 0x9d71ac8fada6c9b5, 0xea9c227723ee8bcb, 0xaecc49914078536d, 0x823c12795db6ce57,
    0xc21094364dfb5637, 0x9096ea6f3848984f, 0xd77485cb25823ac7, 0xa086cfcd97bf97f4, 0xef340a98172aace5,
    0xb23867fb2a35b28e, 0x84c8d4dfd2c63f3b, 0xc5dd44271ad3cdba, 0x936b9fcebb25c996, 0xdbac6c247d62a584,
    0xa3ab66580d5fdaf6, 0xf3e2f893dec3f126, 0xb5b5ada8aaff80b8, 0x87625f056c7c4a8b, 0xc9bcff6034c13053,
    0x964e858c91ba2655, 0xdff9772470297ebd, 0xa6dfbd9fb8e5b88f, 0xf8a95fcf88747d94, 0xb94470938fa89bcf,
    0x8a08f0f8bf0f156b, 0xcdb02555653131b6, 0x993fe2c6d07b7fac, 0xe45c10c42a2b3b06, 0xaa242499697392d3,
    0xfd87b5f28300ca0e, 0xbce5086492111aeb, 0x8cbccc096f5088cc, 0xd1b71758e219652c, 0x9c40000000000000,
    0xe8d4a51000000000, 0xad78ebc5ac620000, 0x813f3978f8940984, 0xc097ce7bc90715b3, 0x8f7e32ce7bea5c70,
    0xd5d238a4abe98068, 0x9f4f2726179a2245, 0xed63a231d4c4fb27, 0xb0de65388cc8ada8, 0x83c7088e1aab65db,
    0xc45d1df942711d9a, 0x924d692ca61be758, 0xda01ee641a708dea, 0xa26da3999aef774a, 0xf209787bb47d6b85,
    0xb454e4a179dd1877, 0x865b86925b9bc5c2, 0xc83553c5c8965d3d, 0x952ab45cfa97a0b3, 0xde469fbd99a05fe3,
    0xa59bc234db398c25, 0xf6c69a72a3989f5c, 0xb7dcbf5354e9bece, 0x88fcf317f22241e2, 0xcc20ce9bd35c78a5,
    0x98165af37b2153df, 0xe2a0b5dc971f303a, 0xa8d9d1535ce3b396, 0xfb9b7cd9a4a7443c, 0xbb764c4ca7a44410,
    0x8bab8eefb6409c1a, 0xd01fef10a657842c, 0x9b10a4e5e9913129, 0xe7109bfba19c0c9d, 0xac2820d9623bf429,
    0x80444b5e7aa7cf85, 0xbf21e44003acdd2d, 0x8e679c2f5e44ff8f, 0xd433179d9c8cb841, 0x9e19db92b4e31ba9,
    0xeb96bf6ebadf77d9, 0xaf87023b9bf0ee6b,
];

/// The `index`-th cached power of ten.
fn cached_power(index: usize) -> DiyFloat {
    let decimal = FIRST_POWER + POWER_STEP * index as i32;
    // 217706 / 2^16 is log2(10) closely enough for |decimal| <= 348: the floor comes out right.
    let exponent = ((decimal * 217_706) >> 16) - 63;
    DiyFloat { fraction: CACHED_POWERS[index], exponent }
}

/// Digits of a positive finite double: `(digits, how many, scale)`, the value being the integer
/// the digits spell times 10^scale.
fn grisu2(value: f64) -> ([u8; 18], usize, i32) {
    const HIDDEN: u64 = 1 << 52;
    let bits = value.to_bits();
    let field = (bits >> 52) as i32;
    let fraction = bits & (HIDDEN - 1);
    let (fraction, exponent) = if field == 0 { (fraction, -1074) } else { (fraction | HIDDEN, field - 1075) };

    // All of the interval between the midpoints to both neighbours reads back as `value`. The
    // lower neighbour of a power of two is half as far away.
    let upper = DiyFloat { fraction: 2 * fraction + 1, exponent: exponent - 1 }.normalized();
    let (lower, at) =
        if fraction == HIDDEN { (4 * fraction - 1, exponent - 2) } else { (2 * fraction - 1, exponent - 1) };
    let lower = DiyFloat { fraction: lower << (at - upper.exponent), exponent: upper.exponent };
    let middle = DiyFloat { fraction, exponent }.normalized();

    // The smallest cached power that brings the exponent up to the least allowed one.
    let wanted = LEAST_SCALED_EXPONENT - upper.exponent - 64;
    // 19728 / 2^16 is log10(2); the estimate may be one too low, never too high.
    let decimal = ((wanted + 63) * 19_728) >> 16;
    let mut index = (decimal - 1 - FIRST_POWER).div_euclid(POWER_STEP).clamp(0, 86) as usize;
    while index < 86 && cached_power(index).exponent < wanted {
        index += 1;
    }
    let power = cached_power(index);

    let middle = middle.times(power);
    let mut upper = upper.times(power);
    let mut lower = lower.times(power);
    // The products may be off by one in the last place: stay inside the safe interval.
    upper.fraction -= 1;
    lower.fraction += 1;
    let scale = -(FIRST_POWER + POWER_STEP * index as i32);
    shortest_digits(middle, upper, upper.fraction - lower.fraction, scale)
}

/// Generates digits of `upper` until what is left is inside the interval of width `delta` below
/// it, then moves the last digit as near to `middle` as the interval allows.
fn shortest_digits(
    middle: DiyFloat,
    upper: DiyFloat,
    mut delta: u64,
    mut scale: i32,
) -> ([u8; 18], usize, i32) {
    let mut digits = [0u8; 18];
    let mut count = 0;
    let mut distance = upper.fraction - middle.fraction;
    let shift = -upper.exponent as u32;
    let one = 1u64 << shift;
    let mut whole = (upper.fraction >> shift) as u32;
    let mut part = upper.fraction & (one - 1);

    let mut unit = 1_000_000_000u32;
    for kappa in (0..10).rev() {
        let digit = whole / unit;
        if digit != 0 || count != 0 {
            digits[count] = b'0' + digit as u8;
            count += 1;
        }
        whole -= digit * unit;
        let rest = (u64::from(whole) << shift) + part;
        if rest <= delta {
            round_last(&mut digits, count, delta, rest, u64::from(unit) << shift, distance);
            return (digits, count, scale + kappa);
        }
        unit /= 10;
    }
    loop {
        part *= 10;
        delta *= 10;
        distance *= 10;
        scale -= 1;
        let digit = part >> shift;
        if digit != 0 || count != 0 {
            digits[count] = b'0' + digit as u8;
            count += 1;
        }
        part &= one - 1;
        if part < delta {
            round_last(&mut digits, count, delta, part, one, distance);
            return (digits, count, scale);
        }
    }
}

/// Lowers the last digit by one while that stays within `delta` of the upper end and comes
/// nearer to the number itself, `distance` below the upper end.
fn round_last(digits: &mut [u8; 18], count: usize, delta: u64, mut rest: u64, unit: u64, distance: u64) {
    while count > 0
        && rest < distance
        && delta - rest >= unit
        && (rest + unit < distance || distance - rest > rest + unit - distance)
    {
        digits[count - 1] -= 1;
        rest += unit;
    }
}

/// Parses a number of bytes: decimal digits and a unit in any case, one of `b`, `k` (1000), `kb` (1024), `m`, `mb`,
/// `g`, `gb`. Missing digits mean zero.
///
/// `None` for another unit, for a sign, a space or a fraction, and above `u64::MAX` bytes.
pub fn parse_memory(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at(digits);
    let mut number = 0u64;
    for digit in digits {
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    let factor = match unit {
        [] | [b'b' | b'B'] => 1,
        [b'k' | b'K'] => 1000,
        [b'k' | b'K', b'b' | b'B'] => 1 << 10,
        [b'm' | b'M'] => 1_000_000,
        [b'm' | b'M', b'b' | b'B'] => 1 << 20,
        [b'g' | b'G'] => 1_000_000_000,
        [b'g' | b'G', b'b' | b'B'] => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A number of bytes for people: `512B`, `1.50K`, … `1.00P`, in powers of 1024; from 1024 petabytes on, plain bytes
/// again.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];
    match bytes.checked_ilog2().unwrap_or(0) as usize / 10 {
        step @ 1..=5 => format!("{:.2}{}", bytes as f64 / (1u64 << (10 * step)) as f64, UNITS[step - 1]),
        _ => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdx::rng::Rng;

    #[test]
    fn integers_are_canonical() {
        for text in [
            "",
            "-",
            "+1",
            " 1",
            "1 ",
            "01",
            "-0",
            "-01",
            "00",
            "1a",
            "a",
            "1.0",
            "12345678a",
            "1234567/",
            "1234567:",
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "--1",
            "1_000",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
        for value in [0, 1, -1, 9, 10, 12345678, 123456789, i64::MAX, i64::MIN, i64::MIN + 1] {
            assert_eq!(parse_i64(value.to_string().as_bytes()), Some(value));
            assert_eq!(decimal_len(value), value.to_string().len());
        }
        for value in [0, 1, u64::MAX, u64::MAX - 1, 10u64.pow(19), 10u64.pow(19) - 1] {
            assert_eq!(parse_u64(value.to_string().as_bytes()), Some(value));
        }
        for text in ["", "-1", "01", "00000000000000000001", "18446744073709551616", "99999999999999999999"] {
            assert_eq!(parse_u64(text.as_bytes()), None, "{text}");
        }
    }

    /// Every text that is nearly an integer: signs, zeros and ends around digits near the borders of all widths.
    #[test]
    fn edges_of_integers_agree_with_std() {
        let mut numbers = vec![0i128];
        for bits in [7, 8, 12, 13, 15, 16, 23, 24, 31, 32, 63, 64] {
            let border = 1i128 << bits;
            numbers.extend([border - 1, border, border + 1, -border - 1, -border, -border + 1]);
        }
        for digits in 1..=20 {
            let border = 10i128.pow(digits);
            numbers.extend([border - 1, border, border + 1, -border, 1 - border]);
        }
        let mut accepted = 0;
        for number in numbers {
            for before in ["", "-", "+", " ", "0", "-0", "00", "\0"] {
                for behind in ["", " ", "\0", "\n", "0", ".", ".0", "e0", "a", "/", ":", "\u{b2}"] {
                    let text = format!("{before}{number}{behind}");
                    // What prints as it was read is canonical.
                    let std = text.parse::<i128>().ok().filter(|value| value.to_string() == text);
                    let (signed, unsigned) = (parse_i64(text.as_bytes()), parse_u64(text.as_bytes()));
                    assert_eq!(signed, std.and_then(|value| value.try_into().ok()), "{text:?}");
                    assert_eq!(unsigned, std.and_then(|value| value.try_into().ok()), "{text:?}");
                    assert!(text.len() <= MAX_INT_LEN || signed.is_none() && unsigned.is_none(), "{text:?}");
                    accepted += usize::from(signed.is_some());
                }
            }
        }
        assert!(accepted > 300, "{accepted} texts are integers");
    }

    #[test]
    fn integers_agree_with_std() {
        let mut rng = Rng::new(21);
        let mut room = [0u8; 22];
        for _ in 0..200_000 {
            let value = (rng.next_u64() >> rng.below(64)) as i64;
            let value = if rng.chance(0.5) { value } else { value.wrapping_neg() };
            let text = value.to_string();
            assert_eq!(parse_i64(text.as_bytes()), Some(value), "seed 21");
            assert_eq!(decimal_len(value), text.len(), "seed 21: {value}");
            // One byte is changed. The result is that of std if the text is canonical.
            room[..text.len()].copy_from_slice(text.as_bytes());
            room[rng.index(text.len())] = *rng.choose(b"0123456789-+ /:a\0\xff").expect("not empty");
            let bytes = &room[..text.len()];
            let std = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<i128>().ok());
            let std = std.filter(|value| value.to_string().as_bytes() == bytes);
            assert_eq!(
                parse_i64(bytes),
                std.and_then(|value| value.try_into().ok()),
                "seed 21: {}",
                bytes.escape_ascii()
            );
            assert_eq!(
                parse_u64(bytes),
                std.and_then(|value| value.try_into().ok()),
                "seed 21: {}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn doubles_are_read_as_strtod_reads_them() {
        for text in [
            "",
            " 1",
            "1 ",
            "\t1",
            "0x",
            "0x.",
            "0xp3",
            "0x1p",
            "0x1.8.1",
            "nan",
            "-nan",
            "nan(1)",
            "inf1",
            "infi",
            "1_000",
            "1e",
            "1e+",
            ".",
            "+",
            "-",
            "+-1",
            "e5",
            "1d",
            "1f",
            "1p3",
            "1\0",
            "\x001",
            "1e400",
            "-1e400",
            "1e-400",
            "-1e-400",
            "2.4e-324",
            "0x1p2000",
            "0x1p-1080",
            "0x1p-1075",
            "1.7976931348623159e308",
            "1e99999999999999999999",
            "0x1p99999999999999999999",
            "0xg",
            "--1",
        ] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text}");
        }
        let table: &[(&str, f64)] = &[
            ("0x10", 16.0),
            ("-0x1.8p3", -12.0),
            ("0x.8", 0.5),
            ("0X1.8", 1.5),
            ("+0xAp-1", 5.0),
            ("0x1.p1", 2.0),
            ("infinity", f64::INFINITY),
            ("+inf", f64::INFINITY),
            ("-Inf", f64::NEG_INFINITY),
            ("INFINITY", f64::INFINITY),
            (".5", 0.5),
            ("5.", 5.0),
            ("-.5", -0.5),
            ("1E+5", 1e5),
            ("1e-5", 1e-5),
            ("4.9e-324", 5e-324),
            ("0x1p-1074", 5e-324),
            ("0x1.8p-1075", 5e-324),
            ("0x3p-1075", 1e-323),
            ("0x1.fffffffffffffp1023", f64::MAX),
            ("1.7976931348623158e308", f64::MAX),
            ("0e999999", 0.0),
            ("0x0p99999999", 0.0),
            ("00012", 12.0),
            ("+5", 5.0),
            ("0x1.00000000000008", 1.0),
            ("0x1.000000000000080000000000000000000000000001", 1.0 + f64::EPSILON),
            ("0x1.00000000000018", 1.0 + 2.0 * f64::EPSILON),
            ("0x0.00000000000000000000000000000000000001p152", 1.0),
            ("0x10000000000000000000000000000000000000000p-160", 1.0),
            ("9007199254740993", 9007199254740992.0),
            ("0x0.fffffffffffff8p-1022", f64::MIN_POSITIVE),
        ];
        for &(text, value) in table {
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
        }
        assert_eq!(parse_f64(b"0x1.fffffffffffff8p1023"), None, "rounds up to infinity");
        assert!(parse_f64(b"-0").is_some_and(|zero| zero.is_sign_negative()));
        assert_eq!(parse_f64_saturating(b"-1e400"), Some(f64::NEG_INFINITY));
        assert_eq!(parse_f64_saturating(b"1e-400"), Some(0.0));
        assert_eq!(parse_f64_saturating(b"nan"), None);
    }

    #[test]
    fn doubles_are_printed_as_clients_expect() {
        // The second column is what Valkey 9.1 answers, the third what Redis 7.0 answers.
        let table: &[(f64, &str, &str)] = &[
            (0.0, "0", "0"),
            (-0.0, "-0", "-0"),
            (f64::INFINITY, "inf", "inf"),
            (f64::NEG_INFINITY, "-inf", "-inf"),
            (f64::NAN, "nan", "nan"),
            (3.0, "3", "3"),
            (-17.5, "-17.5", "-17.5"),
            (1e17, "100000000000000000", "1e+17"),
            (9007199254740993.0, "9007199254740992", "9007199254740992"),
            (4611686018427387904.0, "4611686018427387904", "4.6116860184273879e+18"),
            (-4611686018427388928.0, "-4611686018427389000", "-4.6116860184273889e+18"),
            (9223372036854775807.0, "9223372036854776000", "9.2233720368547758e+18"),
            (1e19, "1e+19", "1e+19"),
            (1.5e20, "1.5e+20", "1.5e+20"),
            (1.2345678901234567e20, "123456789012345670000", "1.2345678901234567e+20"),
            (1.2345678901234567e22, "12345678901234568000000", "1.2345678901234568e+22"),
            (1.2345678901234567e24, "1.2345678901234568e+24", "1.2345678901234568e+24"),
            (1e-6, "0.000001", "9.9999999999999995e-07"),
            (1.5e-5, "0.000015", "1.5e-05"),
            (1.5e-6, "1.5e-6", "1.5e-06"),
            (1e-7, "1e-7", "9.9999999999999995e-08"),
            (1.23456e-4, "1.23456e-4", "0.00012345600000000001"),
            (1.2345678901234567e-3, "0.0012345678901234567", "0.0012345678901234567"),
            (0.1, "0.1", "0.10000000000000001"),
            (0.1 + 0.2, "0.30000000000000004", "0.30000000000000004"),
            (123456.789, "123456.789", "123456.789"),
            (f64::from_bits(1), "5e-324", "4.9406564584124654e-324"),
            (f64::MAX, "1.7976931348623157e+308", "1.7976931348623157e+308"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308", "2.2250738585072014e-308"),
            // Grisu2 does not find the shortest text of these.
            (3531.67201, "3531.6720099999998", "3531.6720099999998"),
            (-3.9272783, "-3.9272783000000002", "-3.9272783000000002"),
            (38402.09997855037, "3.8402099978550374e+4", "38402.099978550374"),
            (3.267e21, "3267000000000000300000", "3.2670000000000003e+21"),
            (1.162033164944916e255, "1.1620331649449161e+255", "1.1620331649449161e+255"),
            // Of two texts equally near C takes the even one, Grisu2 either.
            (1125899906842624.0 + 0.25, "1125899906842624.3", "1125899906842624.2"),
            (1125899906842624.0 + 0.75, "1125899906842624.8", "1125899906842624.8"),
        ];
        let mut buf = FloatBuf::new();
        for &(value, short, long) in table {
            assert_eq!(fmt_f64(value, &mut buf).escape_ascii().to_string(), short);
            assert_eq!(fmt_f64_17(value, &mut buf).escape_ascii().to_string(), long);
        }
    }

    #[test]
    fn doubles_read_back() {
        let mut rng = Rng::new(22);
        let mut buf = FloatBuf::new();
        for round in 0..300_000 {
            let value = match round % 3 {
                0 => f64::from_bits(rng.next_u64()),
                1 => (rng.f64() - 0.5) * 10f64.powi(rng.below(40) as i32 - 14),
                _ => rng.below(1_000_000) as f64 / 10f64.powi(rng.below(10) as i32),
            };
            if value.is_nan() {
                continue;
            }
            assert_eq!(parse_f64(fmt_f64(value, &mut buf)), Some(value), "seed 22");
            assert_eq!(parse_f64(fmt_f64_17(value, &mut buf)), Some(value), "seed 22");
        }
    }

    #[test]
    fn hexadecimal_agrees_with_decimal() {
        let mut rng = Rng::new(23);
        for _ in 0..50_000 {
            let value = f64::from_bits(rng.next_u64() & (u64::MAX >> 1));
            if !value.is_finite() || value == 0.0 {
                continue;
            }
            let (fraction, field) = (value.to_bits() & ((1 << 52) - 1), value.to_bits() >> 52);
            let text = match field {
                0 => format!("0x0.{fraction:013x}p-1022"),
                _ => format!("0x1.{fraction:013x}p{}", field as i64 - 1023),
            };
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "seed 23: {text}");
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm() {
        let mut rng = Rng::new(24);
        let mut room = [0u8; 40];
        for _ in 0..200_000 {
            let len = rng.index(room.len() + 1);
            for byte in &mut room[..len] {
                *byte = if rng.one_in(20) {
                    rng.next_u32() as u8
                } else {
                    *rng.choose(b"0123456789.eExXpPaf+-infgbkm").expect("not empty")
                };
            }
            let text = &room[..len];
            parse_i64(text);
            parse_u64(text);
            parse_f64(text);
            parse_memory(text);
        }
        assert_eq!(parse_f64(&[b'9'; 100_000]), None);
        assert_eq!(parse_f64([&b"0."[..], &[b'0'; 100_000], b"1"].concat().as_slice()), None);
        assert_eq!(parse_f64([&b"0x"[..], &[b'f'; 100_000]].concat().as_slice()), None);
    }

    #[test]
    fn memory_sizes() {
        let table: &[(&str, u64)] = &[
            ("100", 100),
            ("100b", 100),
            ("1k", 1000),
            ("1K", 1000),
            ("1kb", 1024),
            ("1Kb", 1024),
            ("3m", 3_000_000),
            ("3mB", 3 << 20),
            ("1g", 1_000_000_000),
            ("1GB", 1 << 30),
            ("", 0),
            ("gb", 0),
            ("007", 7),
            ("18446744073709551615", u64::MAX),
        ];
        for &(text, bytes) in table {
            assert_eq!(parse_memory(text.as_bytes()), Some(bytes), "{text}");
        }
        for text in [
            "-1",
            "+1",
            " 1",
            "1 ",
            "1 mb",
            "1t",
            "1tb",
            "1.5gb",
            "0x10",
            "1bb",
            "1kbb",
            "1b0",
            "18446744073709551616",
            "18446744073709551615gb",
            "1\0",
        ] {
            assert_eq!(parse_memory(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn bytes_for_people() {
        let table: &[(u64, &str)] = &[
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            ((1 << 20) - 1, "1024.00K"),
            (1_234_567, "1.18M"),
            (3 << 29, "1.50G"),
            (1 << 40, "1.00T"),
            (1 << 50, "1.00P"),
            ((1 << 60) - 1, "1024.00P"),
            (1 << 60, "1152921504606846976B"),
            (u64::MAX, "18446744073709551615B"),
        ];
        for &(bytes, text) in table {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
