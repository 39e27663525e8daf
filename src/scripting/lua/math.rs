//! `math.*`, with the checks and error messages of Lua 5.1. Random numbers are in `lib/random.rs`.

use super::ffi::{Lua, Native};
use crate::scripting::answer::truncate;
use crate::scripting::run::check_number;

/// Functions of one number.
macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident = $f:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// The argument is not a number.
        pub fn $name(lua: &mut Lua<'_>) -> Native {
            let x = check_number(lua, 1)?;
            let f: fn(f64) -> f64 = $f;
            lua.push_number(f(x));
            Ok(1)
        }
    )*};
}

/// Functions of two numbers.
macro_rules! binary {
    ($($(#[$doc:meta])* $name:ident = $f:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// An argument is not a number.
        pub fn $name(lua: &mut Lua<'_>) -> Native {
            // The original checks the second argument first.
            let y = check_number(lua, 2)?;
            let x = check_number(lua, 1)?;
            let f: fn(f64, f64) -> f64 = $f;
            lua.push_number(f(x, y));
            Ok(1)
        }
    )*};
}

unary! {
    /// `math.abs(x)`.
    abs = f64::abs;
    /// `math.acos(x)`.
    acos = f64::acos;
    /// `math.asin(x)`.
    asin = f64::asin;
    /// `math.atan(x)`.
    atan = f64::atan;
    /// `math.ceil(x)`.
    ceil = f64::ceil;
    /// `math.cos(x)`.
    cos = f64::cos;
    /// `math.cosh(x)`.
    cosh = f64::cosh;
    /// `math.deg(x)`: radians in degrees.
    deg = |x| x / (std::f64::consts::PI / 180.0);
    /// `math.exp(x)`.
    exp = f64::exp;
    /// `math.floor(x)`.
    floor = f64::floor;
    /// `math.log(x)`, to the base e.
    log = f64::ln;
    /// `math.log10(x)`.
    log10 = f64::log10;
    /// `math.rad(x)`: degrees in radians.
    rad = |x| x * (std::f64::consts::PI / 180.0);
    /// `math.sin(x)`.
    sin = f64::sin;
    /// `math.sinh(x)`.
    sinh = f64::sinh;
    /// `math.sqrt(x)`.
    sqrt = f64::sqrt;
    /// `math.tan(x)`.
    tan = f64::tan;
    /// `math.tanh(x)`.
    tanh = f64::tanh;
}

binary! {
    /// `math.atan2(y, x)`.
    atan2 = f64::atan2;
    /// `math.fmod(x, y)`: the remainder, with the sign of `x`.
    fmod = |x, y| x % y;
    /// `math.pow(x, y)`.
    pow = f64::powf;
}

/// `math.max(x, …)`.
///
/// # Errors
/// An argument is not a number, or there are none.
pub fn max(lua: &mut Lua<'_>) -> Native {
    choose(lua, |new, best| new > best)
}

/// `math.min(x, …)`.
///
/// # Errors
/// As [`max`].
pub fn min(lua: &mut Lua<'_>) -> Native {
    choose(lua, |new, best| new < best)
}

fn choose(lua: &mut Lua<'_>, better: fn(f64, f64) -> bool) -> Native {
    let count = lua.top();
    let mut best = check_number(lua, 1)?;
    for n in 2..=count {
        let x = check_number(lua, n)?;
        if better(x, best) {
            best = x;
        }
    }
    lua.push_number(best);
    Ok(1)
}

/// `math.modf(x)`: the whole part and the fraction.
///
/// # Errors
/// The argument is not a number.
pub fn modf(lua: &mut Lua<'_>) -> Native {
    let x = check_number(lua, 1)?;
    let whole = x.trunc();
    let fraction = if x.is_infinite() { 0.0 } else { x - whole };
    lua.push_number(whole);
    lua.push_number(fraction.copysign(x));
    Ok(2)
}

/// `math.frexp(x)`: a fraction in [0.5, 1) and the power of two by which it is multiplied.
///
/// # Errors
/// The argument is not a number.
pub fn frexp(lua: &mut Lua<'_>) -> Native {
    let x = check_number(lua, 1)?;
    let (mut fraction, mut exponent) = (x, 0);
    if x != 0.0 && x.is_finite() {
        if x.abs() < f64::MIN_POSITIVE {
            // Subnormal numbers are scaled up first.
            fraction *= (1u64 << 54) as f64;
            exponent = -54;
        }
        let bits = fraction.to_bits();
        exponent += (bits >> 52 & 0x7ff) as i32 - 1022;
        fraction = f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52);
    }
    lua.push_number(fraction);
    lua.push_number(f64::from(exponent));
    Ok(2)
}

/// `math.ldexp(x, n)`: `x` times 2 to the power of `n`.
///
/// # Errors
/// An argument is not a number.
pub fn ldexp(lua: &mut Lua<'_>) -> Native {
    let mut n = (truncate(check_number(lua, 2)?) as i32).clamp(-2200, 2200);
    let mut x = check_number(lua, 1)?;
    // All steps are exact except the last, which rounds if the result is subnormal.
    while n > 1023 {
        x *= f64::from_bits(2046 << 52);
        n -= 1023;
    }
    while n < -969 {
        // 2 to the power of -969, so that one rounding at most happens below the smallest normal number.
        x *= f64::from_bits((1023 - 969) << 52);
        n += 969;
    }
    lua.push_number(x * f64::from_bits(((1023 + n) as u64) << 52));
    Ok(1)
}
