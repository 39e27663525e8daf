//! CL.THROTTLE: rate limits by the generic cell rate algorithm (GCRA), with the arguments and the answer of the module
//! redis-cell.
//!
//! An action is due every `period / count`. The key holds the *theoretical arrival time*: when the next action would be
//! due if all so far had come at that pace, in nanoseconds since 1970. An action may come earlier by the time that
//! `max_burst` more of them take. One that is allowed moves the time on; one that is not leaves it alone. The key
//! expires when the time is past, which is when nothing needs to be remembered.

use crate::keyspace::{Event, Ttl};
use crate::resp::Error;
use crate::server::command::{Acl, Arg, CmdResult, Ctx, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stdx::clock::UnixMillis;
use crate::types::Value;

/// Table entry of the command.
pub const COMMANDS: &[Spec] = &[CL_THROTTLE];

const NS_PER_MS: i64 = 1_000_000;
const NS_PER_S: i64 = 1_000_000_000;

const CL_THROTTLE: Spec = Spec::data("cl.throttle", -5, cl_throttle)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::FAST))
    .acl(Acl::STRING)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Tells whether an action may be taken now, at a rate, and counts it if so.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::String,
        args: &[
            Arg::key("key"),
            Arg::integer("max-burst"),
            Arg::integer("count-per-period"),
            Arg::integer("period"),
            Arg::integer("quantity").optional(),
        ],
        ..Docs::NONE
    });

/// A rate, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// From one action to the next.
    interval: i64,
    /// By how much actions may come early.
    tolerance: i64,
}

/// What is decided about an action.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Decision {
    /// The new theoretical arrival time; `None` if the action is not allowed.
    arrival: Option<i64>,
    /// Number of actions that would be allowed now.
    remaining: i64,
    /// Nanoseconds until this action is allowed; `None` if it is, or never will be.
    retry_after: Option<i64>,
    /// Nanoseconds until all of a burst is allowed again.
    reset_after: i64,
}

impl Rate {
    /// The rate of `count` actions per `period_s` seconds, with bursts of `burst` more; `None` on overflow.
    fn new(burst: i64, count: i64, period_s: i64) -> Option<Rate> {
        let interval = (period_s.checked_mul(NS_PER_S)? / count).max(1);
        Some(Rate { interval, tolerance: interval.checked_mul(burst.checked_add(1)?)? })
    }

    /// Decides about `quantity` actions at the time `now`; `None` on overflow. O(1).
    fn decide(self, arrival: Option<i64>, quantity: i64, now: i64) -> Option<Decision> {
        // A rate that was changed may have left a time farther ahead than this one would.
        let before = arrival.unwrap_or(now).max(now);
        let increment = self.interval.checked_mul(quantity)?;
        let after = before.checked_add(increment)?;
        let early = after.checked_sub(self.tolerance)?.checked_sub(now)?;
        let allowed = early <= 0;
        let reset_after = if allowed { after } else { before } - now;
        Some(Decision {
            arrival: allowed.then_some(after),
            remaining: (self.tolerance - reset_after).max(0) / self.interval,
            retry_after: (!allowed && increment <= self.tolerance).then_some(early),
            reset_after,
        })
    }
}

/// CL.THROTTLE key max_burst count_per_period period [quantity] → five integers: 1 if the action is not allowed, else 0;
/// how many are allowed at once; how many still are; seconds until this one is, or -1; seconds until all are again.
fn cl_throttle(ctx: &mut Ctx<'_>) -> CmdResult {
    if ctx.args.len() > 6 {
        return Err(Error::arity(ctx.name));
    }
    let at_least = |i: usize, least: i64, what: &str| match ctx.args.int(i)? {
        n if n < least => Err(Error::text(format!("ERR {what} should be at least {least}"))),
        n => Ok(n),
    };
    let burst = at_least(2, 0, "max_burst")?;
    let count = at_least(3, 1, "count_per_period")?;
    let period = at_least(4, 1, "period")?;
    let quantity = if ctx.args.len() == 6 { at_least(5, 0, "quantity")? } else { 1 };
    let key = ctx.args.key(1);
    let arrival = match ctx.db.write_string(key)? {
        None => None,
        Some(text) => Some(text.int().ok_or(Error::NotInteger)?),
    };
    let now = ctx.now.0.checked_mul(NS_PER_MS).ok_or(Error::Overflow)?;
    let decision = Rate::new(burst, count, period).and_then(|rate| rate.decide(arrival, quantity, now));
    let decision = decision.ok_or(Error::Overflow)?;
    if let Some(arrival) = decision.arrival.filter(|_| quantity > 0) {
        let until = UnixMillis(arrival.div_euclid(NS_PER_MS) + 1);
        ctx.db.update_string(key, Value::Int(arrival), Ttl::At(until));
        ctx.db.changed(key, Event::string("set"), 1);
        ctx.db.event_only(key, Event::generic("expire"));
        let (mut value, mut time) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (value, time) = (value.format(arrival).as_bytes(), time.format(until.0).as_bytes());
        ctx.feed.instead(&[b"SET", key.bytes, value, b"PXAT", time]);
    }
    let seconds = |ns: i64| (ns + NS_PER_S - 1) / NS_PER_S;
    let replied = ctx.reply.array(5);
    ctx.reply.int(i64::from(decision.arrival.is_none()));
    ctx.reply.int(burst + 1);
    ctx.reply.int(decision.remaining);
    ctx.reply.int(decision.retry_after.map_or(-1, seconds));
    ctx.reply.int(seconds(decision.reset_after));
    Ok(replied)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::check;

    /// A bucket with as many tokens as a burst allows, refilled at the pace: another description of the same limits.
    #[test]
    fn it_allows_what_a_bucket_of_tokens_would() {
        let (burst, interval) = (4, 1000);
        let rate = Rate { interval, tolerance: interval * (burst + 1) };
        let mut rng = crate::stdx::rng::Rng::new(7);
        let (mut arrival, mut now) = (None, 1_000_000);
        let mut tokens = (burst + 1) * interval;
        for _ in 0..5000 {
            let passed = rng.below(1500) as i64;
            now += passed;
            tokens = (tokens + passed).min((burst + 1) * interval);
            let quantity = rng.below(7) as i64;
            let decision = rate.decide(arrival, quantity, now).expect("no overflow");
            let cost = quantity * interval;
            assert_eq!(decision.arrival.is_some(), cost <= tokens);
            if cost <= tokens {
                tokens -= cost;
                arrival = decision.arrival;
                assert_eq!(decision.retry_after, None);
            } else if quantity <= burst + 1 {
                assert_eq!(decision.retry_after, Some(cost - tokens));
            } else {
                assert_eq!(decision.retry_after, None);
            }
            assert_eq!(decision.remaining, tokens / interval);
            assert_eq!(decision.reset_after, (burst + 1) * interval - tokens);
        }
    }

    #[test]
    fn bursts_are_allowed_and_then_refused() {
        check(
            r#"
            CL.THROTTLE k 1 1 1000
            CL.THROTTLE k 1 1 1000 0
            CL.THROTTLE k 1 1 1000
            CL.THROTTLE k 1 1 1000 3
            TYPE k
            CL.THROTTLE k -1 1 1
            CL.THROTTLE k 1 0 1
            CL.THROTTLE k 1 1 0
            CL.THROTTLE k 1 1 1 -1
            CL.THROTTLE k 1 x 1
            CL.THROTTLE k 1 1 1 1 1
            CL.THROTTLE k 9223372036854775807 1 1
            CL.THROTTLE k 1 1 9223372036854775807
            SET s x
            CL.THROTTLE s 1 1 1
            RPUSH l a
            CL.THROTTLE l 1 1 1
            "#,
            r#"
            1) (integer) 0
            2) (integer) 2
            3) (integer) 1
            4) (integer) -1
            5) (integer) 1000
            1) (integer) 0
            2) (integer) 2
            3) (integer) 1
            4) (integer) -1
            5) (integer) 1000
            1) (integer) 0
            2) (integer) 2
            3) (integer) 0
            4) (integer) -1
            5) (integer) 2000
            1) (integer) 1
            2) (integer) 2
            3) (integer) 0
            4) (integer) -1
            5) (integer) 2000
            string
            (error) ERR max_burst should be at least 0
            (error) ERR count_per_period should be at least 1
            (error) ERR period should be at least 1
            (error) ERR quantity should be at least 0
            (error) ERR value is not an integer or out of range
            (error) ERR wrong number of arguments for 'cl.throttle' command
            (error) ERR increment or decrement would overflow
            (error) ERR increment or decrement would overflow
            OK
            (error) ERR value is not an integer or out of range
            (integer) 1
            (error) WRONGTYPE Operation against a key holding the wrong kind of value
            "#,
        );
    }
}
