//! Error replies of commands, with their exact texts.
//!
//! Client libraries distinguish errors by their first word, and tests compare whole lines, so each text is defined
//! once, here. An error that quotes the request is boxed, so that `Error` is two words and a handler's result fits in
//! registers.

use std::borrow::Cow;

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The key has a value of another type.
    WrongType,
    /// The arguments are not a valid combination.
    Syntax,
    /// An argument or value is not a signed 64-bit integer.
    NotInteger,
    /// An argument or value is not a decimal number.
    NotFloat,
    /// A number is too small or too large.
    OutOfRange,
    /// A list has no element at an index.
    IndexOutOfRange,
    /// A required key does not exist.
    NoSuchKey,
    /// A sum does not fit in 64 bits.
    Overflow,
    /// A sum is not a finite number.
    NanOrInfinity,
    /// A string would become longer than `proto-max-bulk-len`.
    StringTooLong,
    /// A count is negative.
    NegativeCount,
    /// The command may allocate, and more memory is in use than `maxmemory` allows.
    OutOfMemory,
    /// Any other text, whose first word in capitals is the code.
    Text(Box<Cow<'static, [u8]>>),
}

impl Error {
    /// An error with this complete text, including the code ("ERR …").
    #[cold]
    pub fn text(text: impl Into<Cow<'static, str>>) -> Self {
        let text = match text.into() {
            Cow::Borrowed(s) => Cow::Borrowed(s.as_bytes()),
            Cow::Owned(s) => Cow::Owned(s.into_bytes()),
        };
        Error::Text(Box::new(text))
    }

    /// An error whose text quotes bytes of the request, which need not be UTF-8.
    #[cold]
    pub fn quoting(parts: &[&[u8]]) -> Self {
        Error::Text(Box::new(Cow::Owned(parts.concat())))
    }

    /// The number of arguments of `name` is wrong.
    #[cold]
    pub fn arity(name: &str) -> Self {
        Error::text(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// The expiry of `name` is outside the range of timestamps.
    #[cold]
    pub fn invalid_expire(name: &str) -> Self {
        Error::text(format!("ERR invalid expire time in '{name}' command"))
    }

    /// There is no such subcommand.
    #[cold]
    pub fn unknown_subcommand(sub: &[u8], container: &str) -> Self {
        // In the form of C strings: bytes after a NUL byte are not shown.
        let sub = sub[..sub.len().min(128)].split(|&b| b == 0).next().unwrap_or_default();
        let container = container.to_ascii_uppercase();
        Error::quoting(&[b"ERR unknown subcommand '", sub, b"'. Try ", container.as_bytes(), b" HELP."])
    }

    /// The text, without the leading `-` and the line end.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Error::WrongType => b"WRONGTYPE Operation against a key holding the wrong kind of value",
            Error::Syntax => b"ERR syntax error",
            Error::NotInteger => b"ERR value is not an integer or out of range",
            Error::NotFloat => b"ERR value is not a valid float",
            Error::OutOfRange => b"ERR value is out of range",
            Error::IndexOutOfRange => b"ERR index out of range",
            Error::NoSuchKey => b"ERR no such key",
            Error::Overflow => b"ERR increment or decrement would overflow",
            Error::NanOrInfinity => b"ERR increment would produce NaN or Infinity",
            Error::StringTooLong => b"ERR string exceeds maximum allowed size (proto-max-bulk-len)",
            Error::NegativeCount => b"ERR value is out of range, must be positive",
            Error::OutOfMemory => b"OOM command not allowed when used memory > 'maxmemory'.",
            Error::Text(text) => text,
        }
    }

    /// Appends the text to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    /// The first word, by which `INFO errorstats` counts.
    pub fn code(&self) -> &[u8] {
        let text = self.as_bytes();
        &text[..text.iter().position(|&b| b == b' ').unwrap_or(text.len())]
    }
}

const _: () = assert!(size_of::<Error>() <= 16);

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.as_bytes()))
    }
}

impl std::error::Error for Error {}
