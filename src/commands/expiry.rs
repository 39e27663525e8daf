//! Expiry arguments shared by several commands: the options `EX`, `PX`, `EXAT` and `PXAT`, and the conditions `NX`,
//! `XX`, `GT` and `LT`.
//!
//! Whatever the unit, the result is a wall clock time in milliseconds: that is what the keyspace stores and what is
//! propagated to others, whose "now" differs.

use crate::resp::{Args, Error};
use crate::stdx::clock::UnixMillis;
use crate::stdx::num;

/// Unit and base of a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Seconds from now (`EX`).
    Seconds,
    /// Milliseconds from now (`PX`).
    Millis,
    /// Seconds since 1970 (`EXAT`).
    UnixSeconds,
    /// Milliseconds since 1970 (`PXAT`).
    UnixMillis,
}

impl Unit {
    /// The unit named by an option.
    pub fn named(option: &[u8]) -> Option<Unit> {
        Some(match option.len() {
            2 if option.eq_ignore_ascii_case(b"EX") => Unit::Seconds,
            2 if option.eq_ignore_ascii_case(b"PX") => Unit::Millis,
            4 if option.eq_ignore_ascii_case(b"EXAT") => Unit::UnixSeconds,
            4 if option.eq_ignore_ascii_case(b"PXAT") => Unit::UnixMillis,
            _ => return None,
        })
    }

    /// Whether the unit counts from 1970 and not from now.
    pub fn is_absolute(self) -> bool {
        matches!(self, Unit::UnixSeconds | Unit::UnixMillis)
    }

    /// The time that is `amount` of this unit after its base.
    ///
    /// # Errors
    /// [`Error::NotInteger`], or an invalid expire time for `command`: not positive, or more milliseconds than 63
    /// bits hold.
    pub fn instant(self, amount: &[u8], now: UnixMillis, command: &str) -> Result<UnixMillis, Error> {
        let amount = num::parse_i64(amount).ok_or(Error::NotInteger)?;
        let positive = Some(amount).filter(|&amount| amount > 0);
        positive.and_then(|amount| self.after(amount, now)).ok_or_else(|| Error::invalid_expire(command))
    }

    /// As [`Unit::instant`], but accepts zero.
    ///
    /// # Errors
    /// As [`Unit::instant`].
    pub fn instant_or_now(self, amount: &[u8], now: UnixMillis, command: &str) -> Result<UnixMillis, Error> {
        let amount = num::parse_i64(amount).ok_or(Error::NotInteger)?;
        let natural = Some(amount).filter(|&amount| amount >= 0);
        natural.and_then(|amount| self.after(amount, now)).ok_or_else(|| Error::invalid_expire(command))
    }

    /// The time that is `amount` of this unit after its base; `None` on overflow.
    pub fn after(self, amount: i64, now: UnixMillis) -> Option<UnixMillis> {
        let ms = match self {
            Unit::Seconds | Unit::UnixSeconds => amount.checked_mul(1000)?,
            Unit::Millis | Unit::UnixMillis => amount,
        };
        let base = if self.is_absolute() { 0 } else { now.0 };
        ms.checked_add(base).map(UnixMillis)
    }
}

/// One of the expiry options with its amount, not validated yet.
#[derive(Clone, Copy, Debug)]
pub struct Expiry<'a> {
    /// Unit named by the option.
    pub unit: Unit,
    amount: &'a [u8],
}

impl<'a> Expiry<'a> {
    /// The option at argument `i` with its amount in the next argument; `None` if it is another option or the
    /// amount is missing.
    pub fn at(args: Args<'a>, i: usize) -> Option<Expiry<'a>> {
        let unit = Unit::named(args.get(i)?)?;
        Some(Expiry { unit, amount: args.get(i + 1)? })
    }

    /// Time at which the key expires.
    ///
    /// # Errors
    /// As [`Unit::instant`].
    pub fn instant(self, now: UnixMillis, command: &str) -> Result<UnixMillis, Error> {
        self.unit.instant(self.amount, now, command)
    }

    /// Time at which a field expires, which may be now.
    ///
    /// # Errors
    /// As [`Unit::instant_or_now`].
    pub fn instant_or_now(self, now: UnixMillis, command: &str) -> Result<UnixMillis, Error> {
        self.unit.instant_or_now(self.amount, now, command)
    }
}

// ---- conditions -----------------------------------------------------------------------------

/// A condition for replacing an expiry.
#[derive(Clone, Copy, Default)]
pub struct Conditions {
    /// Only if there is no expiry.
    nx: bool,
    /// Only if there is an expiry.
    xx: bool,
    /// Only by a later expiry; no expiry is later than all.
    gt: bool,
    /// Only by an earlier expiry.
    lt: bool,
}

impl Conditions {
    /// Parses `args`, all of which are conditions.
    ///
    /// # Errors
    /// If an argument is no condition, or the conditions contradict each other.
    pub fn parse(args: Args<'_>) -> Result<Conditions, Error> {
        let mut found = Conditions::default();
        for i in 0..args.len() {
            let flag = match () {
                () if args.is(i, "NX") => &mut found.nx,
                () if args.is(i, "XX") => &mut found.xx,
                () if args.is(i, "GT") => &mut found.gt,
                () if args.is(i, "LT") => &mut found.lt,
                () => {
                    // Redis prints the option up to a NUL.
                    let option = args.at(i).split(|&b| b == 0).next().unwrap_or_default();
                    return Err(Error::quoting(&[b"ERR Unsupported option ", option]));
                }
            };
            *flag = true;
        }
        if found.nx && (found.xx || found.gt || found.lt) {
            return Err(Error::text("ERR NX and XX, GT or LT options at the same time are not compatible"));
        }
        if found.gt && found.lt {
            return Err(Error::text("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(found)
    }

    /// The single condition named by a word; `None` if the word is none.
    pub fn named(word: &[u8]) -> Option<Conditions> {
        let only = |word: &[u8], name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        let found = Conditions {
            nx: only(word, "NX"),
            xx: only(word, "XX"),
            gt: only(word, "GT"),
            lt: only(word, "LT"),
        };
        (found.nx || found.xx || found.gt || found.lt).then_some(found)
    }

    /// Whether the expiry `old` may be replaced by `new`.
    pub fn allow(self, old: Option<UnixMillis>, new: UnixMillis) -> bool {
        match old {
            None => !self.xx && !self.gt,
            Some(old) => !self.nx && (!self.gt || new > old) && (!self.lt || new < old),
        }
    }
}

/// Milliseconds as seconds, rounded half up.
pub fn rounded_secs(ms: i64) -> i64 {
    ms / 1000 + (ms % 1000 + 500) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_on_the_old_expiry() {
        let old = Some(UnixMillis(50));
        let new = [UnixMillis(40), UnixMillis(50), UnixMillis(60)];
        let any = Conditions::default();
        for (conditions, without, with) in [
            (any, true, [true; 3]),
            (Conditions { nx: true, ..any }, true, [false; 3]),
            (Conditions { xx: true, ..any }, false, [true; 3]),
            (Conditions { gt: true, ..any }, false, [false, false, true]),
            (Conditions { lt: true, ..any }, true, [true, false, false]),
            (Conditions { xx: true, gt: true, ..any }, false, [false, false, true]),
            (Conditions { xx: true, lt: true, ..any }, false, [true, false, false]),
        ] {
            assert_eq!(new.map(|new| conditions.allow(None, new)), [without; 3]);
            assert_eq!(new.map(|new| conditions.allow(old, new)), with);
        }
    }

    #[test]
    fn instants_and_their_limits() {
        let now = UnixMillis(1_000_000);
        let invalid = || Err(Error::invalid_expire("set"));
        let cases: &[(Unit, &str, Result<i64, Error>)] = &[
            (Unit::Seconds, "10", Ok(1_010_000)),
            (Unit::Millis, "10", Ok(1_000_010)),
            (Unit::UnixSeconds, "10", Ok(10_000)),
            (Unit::UnixMillis, "10", Ok(10)),
            (Unit::Seconds, "0", invalid()),
            (Unit::UnixMillis, "-1", invalid()),
            (Unit::UnixSeconds, "9223372036854775", Ok(9_223_372_036_854_775_000)),
            (Unit::UnixSeconds, "9223372036854776", invalid()),
            (Unit::Seconds, "9223372036854775", invalid()),
            (Unit::Seconds, "-9223372036854775808", invalid()),
            (Unit::UnixMillis, "9223372036854775807", Ok(i64::MAX)),
            (Unit::Millis, "9223372036854775807", invalid()),
            (Unit::Millis, "9223372036854775808", Err(Error::NotInteger)),
            (Unit::Millis, " 1", Err(Error::NotInteger)),
        ];
        for (unit, amount, expected) in cases {
            let got = unit.instant(amount.as_bytes(), now, "set").map(|at| at.0);
            assert_eq!(&got, expected, "{unit:?} {amount}");
        }
        assert_eq!(Unit::named(b"pXaT"), Some(Unit::UnixMillis));
        assert_eq!(Unit::named(b"EXX"), None);
    }
}
