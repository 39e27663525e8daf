//! The timeout of a blocking command.

use crate::resp::Error;
use crate::server::command::Ctx;
use crate::stdx::clock::UnixMillis;
use crate::stdx::num;

/// Argument `i`, in seconds from now with fractions, as a deadline; `None` for 0, which means no deadline.
///
/// # Errors
/// If the argument is not a number, negative, or beyond the range of timestamps.
pub fn timeout(ctx: &Ctx<'_>, i: usize) -> Result<Option<UnixMillis>, Error> {
    let refusal = || Error::text("ERR timeout is not a float or out of range");
    let ms = num::parse_f64(ctx.args.at(i)).ok_or_else(refusal)? * 1000.0;
    let beyond = || Error::text("ERR timeout is out of range");
    if ms > i64::MAX as f64 {
        return Err(beyond());
    }
    match ms.ceil() as i64 {
        0 => Ok(None),
        // A tiny negative number rounds to zero.
        ms if ms < 0 => Err(Error::text("ERR timeout is negative")),
        ms => ctx.now.checked_add(ms).map(Some).ok_or_else(beyond),
    }
}
