//! Converts replies of commands to Lua values, element by element.
//!
//! ```text
//! reply                RESP2                RESP3 (redis.setresp(3))
//! integer              number               number
//! bulk, status         string, {ok=…}       string, {ok=…}
//! error                {err=…}              {err=…}
//! null                 false                nil
//! array, push          table                table
//! map                  table, flat          {map={key=value}}
//! set                  table                {set={member=true}}
//! double               string               {double=…}
//! boolean              1, 0                 true, false
//! big number           string               {big_number=…}
//! verbatim             string               {verbatim_string={format=…, string=…}}
//! attribute            –                    ignored
//! ```

use super::lua::ffi::{Lua, Raise};
use crate::resp::Protocol;
use crate::stdx::num;

/// How the next value is added to an open aggregate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Item,
    Key,
    Value,
    Member,
    /// Values of an attribute, which are dropped.
    Dropped,
}

/// An aggregate with missing values. Its table is on the Lua stack.
#[derive(Clone, Copy, Debug)]
struct Open {
    part: Part,
    /// Number of missing values.
    left: usize,
    /// Number of values added.
    done: usize,
}

/// Kind of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Given {
    /// There was no reply.
    Nothing,
    /// A value, which may contain errors.
    Value,
    /// An error.
    Error,
    /// The error of a command that did not run.
    Refused,
}

/// The bytes are not a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a reply in RESP")]
pub struct Malformed;

/// Receiver of one reply, value by value: the header of an aggregate precedes its values.
pub struct Sink<'s, 'l> {
    lua: &'s mut Lua<'l>,
    resp3: bool,
    current: Option<Open>,
    /// The aggregates around the current one.
    outer: Vec<Open>,
    given: Given,
    /// Whether aggregates are nested deeper than the Lua stack allows; further values are dropped.
    overflow: bool,
}

impl<'s, 'l> Sink<'s, 'l> {
    pub(super) fn new(lua: &'s mut Lua<'l>, protocol: Protocol) -> Self {
        let resp3 = protocol == Protocol::Resp3;
        Sink { lua, resp3, current: None, outer: Vec::new(), given: Given::Nothing, overflow: false }
    }

    /// Ends the reply and returns its kind. Its value is on top of the Lua stack.
    ///
    /// # Errors
    /// The reply is incomplete, or nested too deeply.
    pub(super) fn finish(self) -> Result<Given, Raise> {
        if self.overflow {
            self.lua.push_bytes(b"ERR reached lua stack limit");
            return Err(self.lua.raise());
        }
        if self.given == Given::Nothing || self.current.is_some() {
            self.lua.push_bytes(b"ERR the command gave no reply");
            return Err(self.lua.raise());
        }
        Ok(self.given)
    }

    /// Adds the value on top of the stack to the current aggregate, or makes it the reply.
    #[inline]
    fn attach(&mut self) {
        match self.current {
            None => self.given = Given::Value,
            Some(_) => self.attach_inner(),
        }
    }

    fn attach_inner(&mut self) {
        while let Some(open) = &mut self.current {
            open.done += 1;
            open.left -= 1;
            let done = open.done;
            match open.part {
                Part::Item => self.lua.raw_set_index(-2, done),
                Part::Key => open.part = Part::Value,
                Part::Value => {
                    open.part = Part::Key;
                    self.lua.raw_set(-3);
                }
                Part::Member => {
                    self.lua.push_bool(true);
                    self.lua.raw_set(-3);
                }
                Part::Dropped => self.lua.pop(1),
            }
            if open.left > 0 {
                return;
            }
            let part = open.part;
            if !self.close(part) {
                return;
            }
        }
        self.given = Given::Value;
    }

    /// Ends the current aggregate; whether its value is now on top of the stack and must be attached.
    fn close(&mut self, part: Part) -> bool {
        self.current = self.outer.pop();
        match part {
            Part::Item => true,
            Part::Key | Part::Value => {
                self.lua.raw_set_field(-2, "map");
                true
            }
            Part::Member => {
                self.lua.raw_set_field(-2, "set");
                true
            }
            Part::Dropped => false,
        }
    }

    fn open(&mut self, part: Part, values: usize) {
        if self.overflow || !self.lua.reserve(8) {
            self.overflow = true;
            return;
        }
        match part {
            Part::Item => self.lua.new_table(values, 0),
            Part::Key | Part::Value | Part::Member => {
                self.lua.new_table(0, 1);
                self.lua.new_table(0, if part == Part::Key { values / 2 } else { values });
            }
            Part::Dropped => {}
        }
        if let Some(current) = self.current.replace(Open { part, left: values, done: 0 }) {
            self.outer.push(current);
        }
        if values == 0 && self.close(part) {
            self.attach();
        }
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, n: i64) {
        if !self.overflow {
            self.lua.push_number(n as f64);
            self.attach();
        }
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        if !self.overflow {
            self.lua.push_bytes(bytes);
            self.attach();
        }
    }

    /// A bulk string that is the text of an integer.
    pub fn bulk_int(&mut self, n: i64) {
        self.bulk(itoa::Buffer::new().format(n).as_bytes());
    }

    /// A status such as `OK`.
    pub fn status(&mut self, text: &[u8]) {
        if !self.overflow {
            self.lua.new_table(0, 1);
            self.lua.push_bytes(text);
            self.lua.raw_set_field(-2, "ok");
            self.attach();
        }
    }

    /// An error, with its code and without the leading `-`. Outside aggregates, `redis.call` raises it.
    #[cold]
    pub fn error(&mut self, text: &[u8]) {
        if self.overflow {
            return;
        }
        let top = self.current.is_none();
        self.lua.new_table(0, 2);
        self.lua.push_bytes(text);
        self.lua.raw_set_field(-2, "err");
        self.lua.push_bool(true);
        self.lua.raw_set_field(-2, "ignore_error_stats_update");
        self.attach();
        if top {
            self.given = Given::Error;
        }
    }

    /// As [`Sink::error`], for a command that was not run because it does not exist or scripts may not run it.
    #[cold]
    pub fn refuse(&mut self, text: &[u8]) {
        self.error(text);
        if self.given == Given::Error {
            self.given = Given::Refused;
        }
    }

    /// A null.
    #[inline]
    pub fn null(&mut self) {
        if !self.overflow {
            if self.resp3 {
                self.lua.push_nil()
            } else {
                self.lua.push_bool(false)
            }
            self.attach();
        }
    }

    /// The header of an array of `n` values.
    #[inline]
    pub fn array(&mut self, n: usize) {
        self.open(Part::Item, n);
    }

    /// The header of an out-of-band message of `n` values.
    pub fn push(&mut self, n: usize) {
        self.open(Part::Item, n);
    }

    /// The header of a map of `n` pairs: each key is followed by its value.
    pub fn map(&mut self, n: usize) {
        self.open(if self.resp3 { Part::Key } else { Part::Item }, n.saturating_mul(2));
    }

    /// The header of a set of `n` members.
    pub fn set(&mut self, n: usize) {
        self.open(if self.resp3 { Part::Member } else { Part::Item }, n);
    }

    /// The header of an attribute of `n` pairs, which are dropped. The value that it describes follows them.
    pub fn attribute(&mut self, n: usize) {
        self.open(Part::Dropped, n.saturating_mul(2));
    }

    /// A double.
    pub fn double(&mut self, x: f64) {
        if self.resp3 { self.wrapped("double", |lua| lua.push_number(x)) } else { self.double_as_text(x) }
    }

    fn double_as_text(&mut self, x: f64) {
        let mut text = num::FloatBuf::new();
        self.bulk(num::fmt_f64(x, &mut text));
    }

    /// A double given as text.
    pub fn double_text(&mut self, text: &[u8]) {
        if self.resp3 { self.double(num::parse_f64(text).unwrap_or(f64::NAN)) } else { self.bulk(text) }
    }

    /// A boolean.
    pub fn bool(&mut self, yes: bool) {
        if !self.resp3 {
            return self.int(i64::from(yes));
        }
        if !self.overflow {
            self.lua.push_bool(yes);
            self.attach();
        }
    }

    /// An integer of any size, in decimal.
    pub fn big_number(&mut self, digits: &[u8]) {
        if self.resp3 { self.wrapped("big_number", |lua| lua.push_bytes(digits)) } else { self.bulk(digits) }
    }

    /// Text with a three-letter format.
    pub fn verbatim(&mut self, format: &[u8], text: &[u8]) {
        if !self.resp3 {
            return self.bulk(text);
        }
        self.wrapped("verbatim_string", |lua| {
            lua.new_table(0, 2);
            lua.push_bytes(format);
            lua.raw_set_field(-2, "format");
            lua.push_bytes(text);
            lua.raw_set_field(-2, "string");
        });
    }

    /// Pushes a table with one field, whose value `push` pushes.
    fn wrapped(&mut self, name: &str, push: impl FnOnce(&mut Lua<'_>)) {
        if !self.overflow {
            self.lua.new_table(0, 1);
            push(self.lua);
            self.lua.raw_set_field(-2, name);
            self.attach();
        }
    }

    /// Receives a complete reply in RESP2 or RESP3. O(n).
    ///
    /// # Errors
    /// The bytes are not exactly one reply.
    pub fn resp(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let mut rest = bytes;
        let mut values = 1usize;
        while values > 0 {
            values -= 1;
            let (&kind, line) = rest.split_first().ok_or(Malformed)?;
            let end = line.windows(2).position(|pair| pair == b"\r\n").ok_or(Malformed)?;
            let (line, after) = (&line[..end], &line[end + 2..]);
            rest = after;
            let count = || num::parse_i64(line).ok_or(Malformed);
            match kind {
                b':' => self.int(count()?),
                b'+' => self.status(line),
                b'-' => self.error(line),
                b'_' => self.null(),
                b'#' => self.bool(line == b"t"),
                b',' => self.double_text(line),
                b'(' => self.big_number(line),
                b'$' | b'=' => match usize::try_from(count()?) {
                    Err(_) => self.null(),
                    Ok(len) => {
                        if rest.len() < len + 2 || &rest[len..len + 2] != b"\r\n" {
                            return Err(Malformed);
                        }
                        let text = &rest[..len];
                        rest = &rest[len + 2..];
                        match (kind, len) {
                            (b'=', 4..) => self.verbatim(&text[..3], &text[4..]),
                            (b'=', ..4) => return Err(Malformed),
                            _ => self.bulk(text),
                        }
                    }
                },
                b'*' | b'~' | b'>' | b'%' | b'|' => match usize::try_from(count()?) {
                    Err(_) => self.null(),
                    // Each value takes at least three bytes.
                    Ok(n) if n > rest.len() => return Err(Malformed),
                    Ok(n) => {
                        values += match kind {
                            b'*' | b'>' | b'~' => n,
                            b'%' => 2 * n,
                            _ => 2 * n + 1,
                        };
                        match kind {
                            b'*' => self.array(n),
                            b'>' => self.push(n),
                            b'~' => self.set(n),
                            b'%' => self.map(n),
                            _ => self.attribute(n),
                        }
                    }
                },
                _ => return Err(Malformed),
            }
        }
        if rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}
