//! The configuration: options as plain fields, and one table of parameters that names them.
//!
//! * [`options`] holds the structs other rooms read: `config.limits.types.hash_max_listpack_entries` is one load.
//! * [`table`] has one line per parameter: name, alias, kind, range, what a change touches.
//! * [`file`] reads configuration files and the command line; [`rewrite`] writes a file anew.
//!
//! What always holds: a value in a [`Config`] passed its parameter's check; whatever is printed reads back
//! as the same value; a failed [`Config::set`] changes nothing.
//!
//! How a change takes effect is not known here. [`Config::set`] returns [`Effects`], and the server acts:
//!
//! ```ignore
//! let before = server.config.clone();
//! let effects = server.config.set(&pairs, origin)?;
//! if let Err(reason) = server.apply(effects) {
//!     server.config = before;     // and undo what was applied
//! }
//! ```
//!
//! Names, ranges, defaults and error texts are those of Redis 7.2, which its clients and tools rely on.

pub mod file;
pub mod options;
pub mod param;
pub mod rewrite;
pub mod table;
pub mod value;

use std::borrow::Cow;

pub use options::{Config, LimitOptions as Limits};
pub use param::{Effects, Param};
pub use value::Reason;

use crate::stdx::glob;
use value::DebugAccess;

/// Who asks for a change, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Origin {
    /// The client is on the loopback interface or the Unix socket.
    pub local: bool,
    /// A data set is being loaded.
    pub loading: bool,
}

/// Why CONFIG SET changed nothing. The text is the error reply, its code included.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// No parameter has this name.
    #[error("ERR Unknown option or number of arguments for CONFIG SET - '{}'", String::from_utf8_lossy(.0))]
    Unknown(Vec<u8>),
    /// A parameter, by the name the client used, and why it was refused.
    #[error(
        "ERR CONFIG SET failed (possibly related to argument '{}') - {reason}",
        String::from_utf8_lossy(name)
    )]
    Refused {
        /// The name as given.
        name: Vec<u8>,
        /// Why.
        reason: Reason,
    },
    /// The parameter cannot change while a data set is loaded.
    #[error("LOADING Redis is loading the dataset in memory")]
    Loading,
}

impl SetError {
    /// A refusal of one parameter.
    pub fn refused(name: &[u8], reason: impl Into<Reason>) -> SetError {
        SetError::Refused { name: name.into(), reason: reason.into() }
    }
}

impl Config {
    /// The parameters whose name or alias matches one of the glob `patterns`, in any letter case, with their
    /// values as CONFIG GET shows them. A parameter is listed under each of its names that matches, once; a
    /// pattern without wildcards names what it finds in its own spelling. Hidden parameters only answer to
    /// such a full name. O(patterns * parameters).
    pub fn get<'p>(&self, patterns: &[&'p [u8]]) -> Vec<(&'p [u8], Vec<u8>)> {
        let mut found: Vec<(&'p [u8], Vec<u8>)> = Vec::new();
        let mut list = |name: &'p [u8], param: &Param| {
            if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                found.push((name, param.print(self)));
            }
        };
        for pattern in patterns {
            if let Some(param) = table::find(pattern) {
                list(pattern, param);
            } else if pattern.iter().any(|byte| b"*?[\\".contains(byte)) {
                for param in table::params().filter(|param| !param.hidden) {
                    for name in param.names().map(str::as_bytes) {
                        if glob::matches_nocase(pattern, name) {
                            list(name, param);
                        }
                    }
                }
            }
        }
        found
    }

    /// Sets several parameters, all or none, and says what changed. A parameter set to the value it has
    /// changes nothing. Where both names of one parameter occur, the later wins.
    ///
    /// # Errors
    /// The first pair that names no parameter, or one that may not be set now or twice; then the first pair
    /// with a bad value.
    pub fn set(&mut self, pairs: &[(&[u8], &[u8])], origin: Origin) -> Result<Effects, SetError> {
        let mut params: Vec<&Param> = Vec::with_capacity(pairs.len());
        for (index, (name, _)) in pairs.iter().enumerate() {
            let param = table::find(name).ok_or_else(|| SetError::Unknown(name.to_vec()))?;
            if param.immutable {
                return Err(SetError::refused(name, "can't set immutable config"));
            }
            if param.protected && !self.security.enable_protected_configs.admits(origin.local) {
                return Err(SetError::refused(name, "can't set protected config"));
            }
            if param.deny_loading && origin.loading {
                return Err(SetError::Loading);
            }
            if pairs[..index].iter().any(|(earlier, _)| earlier.eq_ignore_ascii_case(name)) {
                return Err(SetError::refused(name, "duplicate parameter"));
            }
            params.push(param);
        }

        let mut changed = self.clone();
        for (param, (name, value)) in params.iter().zip(pairs) {
            let result = param.read(&mut changed, &[value], false);
            result.map_err(|reason| SetError::refused(name, reason))?;
        }
        let mut effects = Effects::NONE;
        for param in params {
            if param.print(self) != param.print(&changed) {
                effects |= param.effects;
            }
        }
        *self = changed;
        Ok(effects)
    }
}

impl DebugAccess {
    /// Whether a client may, given where it is.
    pub fn admits(self, local: bool) -> bool {
        match self {
            DebugAccess::No => false,
            DebugAccess::Yes => true,
            DebugAccess::Local => local,
        }
    }
}

/// An error of the operating system in its own words, without the number Rust adds.
pub fn os_error(error: &std::io::Error) -> Cow<'static, str> {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_string().into(),
        None => text.into(),
    }
}
