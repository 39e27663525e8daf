//! `math.random`: the 48-bit linear congruential generator of `drand48`, so that a seed results in the same numbers as
//! in Redis.

use crate::scripting::answer::truncate;
use crate::scripting::lua::ffi::{Lua, Native};
use crate::scripting::run::{bad_argument, check_number, fail};
use crate::stdx::rng::Rng;

/// The generator of `drand48`.
pub struct Rand48 {
    state: u64,
    /// Whether a script has set the seed.
    seeded: bool,
    seeds: Rng,
}

const MASK: u64 = (1 << 48) - 1;

impl Rand48 {
    /// A generator with a seed from the operating system.
    pub fn from_os() -> Rand48 {
        let mut seeds = Rng::from_os();
        Rand48 { state: seeds.next_u64() & MASK, seeded: false, seeds }
    }

    /// Starts the sequence of `seed`.
    fn seed(&mut self, seed: u32) {
        self.state = u64::from(seed) << 16 | 0x330e;
        self.seeded = true;
    }

    /// Forgets a seed that the script set, so that the next script does not continue its sequence.
    #[inline]
    pub fn forget_seed(&mut self) {
        if self.seeded {
            self.state = self.seeds.next_u64() & MASK;
            self.seeded = false;
        }
    }

    /// The next 31 random bits.
    fn next(&mut self) -> u32 {
        self.state = (self.state.wrapping_mul(0x5_deec_e66d) + 0xb) & MASK;
        (self.state >> 17) as u32
    }
}

/// An argument as a C `int`.
fn int(lua: &mut Lua<'_>, n: i32) -> Result<i32, crate::scripting::lua::ffi::Raise> {
    Ok(truncate(check_number(lua, n)?) as i32)
}

/// `math.random([m [, n]])`.
pub fn random(lua: &mut Lua<'_>) -> Native {
    let most = f64::from(i32::MAX);
    let r = f64::from(lua.state().random.next() % i32::MAX as u32) / most;
    let x = match lua.top() {
        0 => r,
        1 => {
            let upper = int(lua, 1)?;
            if upper < 1 {
                return Err(bad_argument(lua, 1, "interval is empty"));
            }
            (r * f64::from(upper)).floor() + 1.0
        }
        2 => {
            let (lower, upper) = (int(lua, 1)?, int(lua, 2)?);
            if lower > upper {
                return Err(bad_argument(lua, 2, "interval is empty"));
            }
            (r * f64::from(upper.wrapping_sub(lower).wrapping_add(1))).floor() + f64::from(lower)
        }
        _ => return Err(fail(lua, b"wrong number of arguments")),
    };
    lua.push_number(x);
    Ok(1)
}

/// `math.randomseed(seed)`.
pub fn randomseed(lua: &mut Lua<'_>) -> Native {
    let seed = int(lua, 1)?;
    lua.state().random.seed(seed as u32);
    Ok(0)
}
