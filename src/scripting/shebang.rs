//! The first line of a script or library: `#!lua name=… flags=…`.

use crate::resp::Error;
use crate::stdx::quote;

/// Flags of a script or function.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// The script does not write.
    pub no_writes: bool,
    /// The script may run when memory is short.
    pub allow_oom: bool,
    /// The script may run on a replica that has lost its primary.
    pub allow_stale: bool,
    /// The script must not run in a cluster.
    pub no_cluster: bool,
    /// The keys of the script may be in different slots.
    pub allow_cross_slot_keys: bool,
    /// The script has no first line with declarations, so each of its commands is checked separately.
    pub undeclared: bool,
}

impl Flags {
    /// Names of the flags, in the order in which lists show them.
    const NAMES: [&'static str; 5] =
        ["no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"];

    /// Sets the flag with this name; whether it exists.
    pub(super) fn set(&mut self, name: &[u8]) -> bool {
        match name {
            b"no-writes" => self.no_writes = true,
            b"allow-oom" => self.allow_oom = true,
            b"allow-stale" => self.allow_stale = true,
            b"no-cluster" => self.no_cluster = true,
            b"allow-cross-slot-keys" => self.allow_cross_slot_keys = true,
            _ => return false,
        }
        true
    }

    /// The names of the flags that are set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let set =
            [self.no_writes, self.allow_oom, self.allow_stale, self.no_cluster, self.allow_cross_slot_keys];
        Self::NAMES.into_iter().zip(set).filter_map(|(name, set)| set.then_some(name))
    }
}

/// The first line without its line end, and the rest beginning with the line end, so that lines keep their numbers.
fn first_line(source: &[u8]) -> Option<(&[u8], &[u8])> {
    memchr::memchr(b'\n', source).map(|end| source.split_at(end))
}

/// The flags that a script declares, and its code.
///
/// # Errors
/// The first line is not valid for a script.
pub fn script(source: &[u8]) -> Result<(Flags, &[u8]), Error> {
    if !source.starts_with(b"#!") {
        return Ok((Flags { undeclared: true, ..Flags::default() }, source));
    }
    let (line, code) = first_line(source).ok_or_else(|| Error::text("ERR Invalid script shebang"))?;
    let words = quote::split_args(line).map_err(|_| Error::text("ERR Invalid engine in script shebang"))?;
    let mut words = words.iter();
    match words.next() {
        Some(engine) if engine.as_slice() == b"#!lua" => {}
        engine => {
            let engine = engine.map_or(&b""[..], |engine| engine.as_slice());
            return Err(Error::quoting(&[b"ERR Unexpected engine in script shebang: ", engine]));
        }
    }
    let mut flags = Flags::default();
    for word in words {
        let Some(list) = word.strip_prefix(b"flags=") else {
            return Err(Error::quoting(&[b"ERR Unknown lua shebang option: ", word]));
        };
        if list.is_empty() {
            continue;
        }
        for name in list.split(|&b| b == b',') {
            if !flags.set(name) {
                return Err(Error::quoting(&[b"ERR Unexpected flag in script shebang: ", name]));
            }
        }
    }
    Ok((flags, code))
}

/// The name of a library, and its code.
///
/// # Errors
/// The first line is not valid for a library.
pub fn library(source: &[u8]) -> Result<(Vec<u8>, &[u8]), Error> {
    let Some(rest) = source.strip_prefix(b"#!") else {
        return Err(Error::text("ERR Missing library metadata"));
    };
    let invalid = || Error::text("ERR Invalid library metadata");
    let (line, code) = first_line(rest).ok_or_else(invalid)?;
    // The engine's name may be missing, which the position of the first space shows.
    let (engine, line) = match line.iter().position(|b| b.is_ascii_whitespace()) {
        Some(end) => line.split_at(end),
        None => (line, &b""[..]),
    };
    let words = quote::split_args(line).map_err(|_| invalid())?;
    let mut name = None;
    for word in words {
        let Some((key, value)) =
            word.split_at_checked(5).filter(|(key, _)| key.eq_ignore_ascii_case(b"name="))
        else {
            return Err(Error::quoting(&[b"ERR Invalid metadata value given: ", &word]));
        };
        let _ = key;
        if name.replace(value.to_vec()).is_some() {
            return Err(Error::text("ERR Invalid metadata value, name argument was given multiple times"));
        }
    }
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err(Error::quoting(&[b"ERR Engine '", engine, b"' not found"]));
    }
    let name = name.ok_or_else(|| Error::text("ERR Library name was not given"))?;
    if !is_name(&name) {
        return Err(Error::text(BAD_NAME));
    }
    Ok((name, code))
}

/// Error about an invalid name of a library or function.
pub const BAD_NAME: &str = "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

/// Whether this is a valid name of a library or function.
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'_')
}
