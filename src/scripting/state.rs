//! State of this room that every native function can reach.

use super::debugger::Debugger;
use super::functions::Registration;
use super::lib::cjson;
use super::lib::random::Rand48;
use super::lua::ffi::Reference;
use crate::resp::Protocol;
use crate::resp::request::Span;

/// Arguments of the command being called, in one reused buffer.
#[derive(Default)]
pub struct Scratch {
    /// The arguments, concatenated.
    pub bytes: Vec<u8>,
    /// Span of each argument in `bytes`.
    pub spans: Vec<Span>,
}

/// Number of command names remembered.
pub(super) const NAMES: usize = 128;

/// Command names that scripts use, with the command numbers that the host returned for them.
///
/// Lua stores each string once, so the address identifies the name as long as the string is alive. A table in the
/// registry keeps the strings alive that are remembered here.
pub struct Commands {
    /// Address and number of each name, at the index that the address hashes to.
    pub known: Box<[(usize, u32); NAMES]>,
    /// The table that keeps the names alive, with one item per index.
    pub texts: Option<Reference>,
}

impl Default for Commands {
    fn default() -> Self {
        Commands { known: Box::new([(0, 0); NAMES]), texts: None }
    }
}

impl Commands {
    /// Index for the name at `address`.
    #[inline]
    pub fn place(address: usize) -> usize {
        (address >> 4 ^ address >> 11) % NAMES
    }

    /// The number of the command whose name is at `address`, if it is remembered.
    #[inline]
    pub fn find(&self, address: usize) -> Option<u32> {
        let (known, id) = self.known[Commands::place(address)];
        (known == address).then_some(id)
    }

    /// Forgets all command numbers.
    pub fn forget(&mut self) {
        self.known.fill((0, 0));
    }
}

/// The reason for which Lua code runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// No Lua code runs.
    Idle,
    /// A script of EVAL runs.
    Script,
    /// A function of a library runs.
    Function,
    /// A library registers its functions, until `deadline_us` in microseconds of the monotonic clock.
    Loading { deadline_us: u64 },
}

/// State of this room beside the Lua state; see the module documentation.
pub struct State {
    /// The arguments of the command being called.
    pub scratch: Scratch,
    /// Protocol in which replies of commands are converted.
    pub protocol: Protocol,
    /// The reason for which Lua code runs.
    pub phase: Phase,
    /// Whether the script was told to end: from now on every instruction raises an error.
    pub killed: bool,
    /// Generator of `math.random`.
    pub random: Rand48,
    /// Settings of `cjson`.
    pub json: cjson::Settings,
    /// Reused buffer for libraries that parse or build strings.
    pub text: Vec<u8>,
    /// Functions registered so far by the library being loaded.
    pub registration: Option<Registration>,
    /// Command names that the host has resolved.
    pub commands: Commands,
    /// Session of the script being debugged.
    pub debugger: Option<Box<Debugger>>,
    /// Environment of the script, for code that the debugger runs.
    pub environment: Option<Reference>,
    /// Version reported to scripts.
    pub version: &'static str,
}

impl State {
    /// The initial state. `version` is the value of `redis.REDIS_VERSION`.
    pub fn new(version: &'static str) -> State {
        State {
            scratch: Scratch::default(),
            protocol: Protocol::Resp2,
            phase: Phase::Idle,
            killed: false,
            random: Rand48::from_os(),
            json: cjson::Settings::default(),
            text: Vec::new(),
            registration: None,
            commands: Commands::default(),
            debugger: None,
            environment: None,
            version,
        }
    }
}
