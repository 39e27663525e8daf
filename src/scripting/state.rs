//! What the room keeps beside the Lua state: reachable by every native function.

use super::debugger::Debugger;
use super::functions::Registration;
use super::lib::cjson;
use super::lib::random::Rand48;
use super::lua::ffi::Reference;
use crate::resp::Protocol;
use crate::resp::request::Span;

/// Arguments of the command being called, as one buffer that is used again and again.
#[derive(Default)]
pub struct Scratch {
    /// The arguments, one after the other.
    pub bytes: Vec<u8>,
    /// Where each of them is.
    pub spans: Vec<Span>,
}

/// How many names of commands are remembered.
pub(super) const NAMES: usize = 128;

/// The names of commands that scripts use again and again, and the host's numbers for them.
///
/// Lua has one copy of each text, so that its address tells which it is: as long as the text is alive, which a table in the
/// registry sees to for those that are here.
pub struct Commands {
    /// By address: the address and the number.
    pub known: Box<[(usize, u32); NAMES]>,
    /// The table of the texts, one for each place.
    pub texts: Option<Reference>,
}

impl Default for Commands {
    fn default() -> Self {
        Commands { known: Box::new([(0, 0); NAMES]), texts: None }
    }
}

impl Commands {
    /// Where the text at `address` is remembered.
    #[inline]
    pub fn place(address: usize) -> usize {
        (address >> 4 ^ address >> 11) % NAMES
    }

    /// The number of the command whose name is the text at `address`.
    #[inline]
    pub fn find(&self, address: usize) -> Option<u32> {
        let (known, id) = self.known[Commands::place(address)];
        (known == address).then_some(id)
    }

    /// Forgets all numbers.
    pub fn forget(&mut self) {
        self.known.fill((0, 0));
    }
}

/// Why Lua code runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// None runs.
    Idle,
    /// It is a script of EVAL.
    Script,
    /// It is a function of a library.
    Function,
    /// A library registers its functions; `deadline_us` is a time of the monotonic clock.
    Loading { deadline_us: u64 },
}

/// See the module.
pub struct State {
    /// The arguments of the command being called.
    pub scratch: Scratch,
    /// In which protocol the replies of commands come.
    pub protocol: Protocol,
    /// Why Lua code runs.
    pub phase: Phase,
    /// The script was told to end: every instruction raises from now on.
    pub killed: bool,
    /// Random numbers of `math.random`.
    pub random: Rand48,
    /// How `cjson` writes and reads.
    pub json: cjson::Settings,
    /// Bytes for libraries that read or build texts.
    pub text: Vec<u8>,
    /// What the library being loaded has declared so far.
    pub registration: Option<Registration>,
    /// Names of commands that the host has resolved.
    pub commands: Commands,
    /// The session of the script that is being debugged.
    pub debugger: Option<Box<Debugger>>,
    /// The environment of scripts, for code of the debugger.
    pub environment: Option<Reference>,
    /// Version numbers that scripts see.
    pub version: &'static str,
}

impl State {
    /// The state at the beginning; `version` is what `redis.REDIS_VERSION` says.
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
