//! What a command can answer instead of a result, and the exact text of it.
//!
//! Client libraries tell errors apart by their first word and tests compare whole lines, so each
//! text stands here once. An error that carries words of the request is boxed: `Error` stays two
//! words, and a handler's result fits in registers.

use std::borrow::Cow;

/// Why a command could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The key holds a value of another type.
    WrongType,
    /// The arguments do not make sense together.
    Syntax,
    /// An argument or value is no signed 64-bit integer.
    NotInteger,
    /// An argument or value is no decimal number.
    NotFloat,
    /// A number is too small or too large.
    OutOfRange,
    /// A list has no element at an index.
    IndexOutOfRange,
    /// A key that must be there is not.
    NoSuchKey,
    /// A sum does not fit in 64 bits.
    Overflow,
    /// A sum is no finite number.
    NanOrInfinity,
    /// A string would become longer than `proto-max-bulk-len`.
    StringTooLong,
    /// A count is negative.
    NegativeCount,
    /// The command may need memory, and there is more in use than `maxmemory` allows.
    OutOfMemory,
    /// Any other text, its first word in capitals being the code.
    Text(Box<Cow<'static, [u8]>>),
}

impl Error {
    /// An error with the given whole text, code included ("ERR …").
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

    /// The arguments of `name` are too few or too many.
    #[cold]
    pub fn arity(name: &str) -> Self {
        Error::text(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// `expire` times outside what a timestamp can hold.
    #[cold]
    pub fn invalid_expire(name: &str) -> Self {
        Error::text(format!("ERR invalid expire time in '{name}' command"))
    }

    /// A subcommand nobody knows.
    #[cold]
    pub fn unknown_subcommand(sub: &[u8], container: &str) -> Self {
        // As C prints it: whatever follows a NUL byte is not shown.
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

    /// The first word: what `INFO errorstats` counts by.
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
