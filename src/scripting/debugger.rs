//! The script debugger behind `redis-cli --ldb`: steps through the lines of a script, shows its variables, and runs
//! commands and code in between.
//!
//! A session does no I/O. Whenever the script stops, the session hands its output to the host and asks for input
//! ([`Host::converse`](super::Host::converse)), which is parsed here. The client receives arrays of statuses, one
//! status per line.

use super::api;
use super::engine::push_compiled;
use super::lua::ffi::{Lua, Raise};
use super::lua::stack::Kind;
use super::run::{display, raise_table};
use super::sink::Given;
use crate::resp::Args;
use crate::resp::request::Span;
use crate::stdx::clock;
use crate::stdx::num;

/// Largest number of breakpoints in a session.
const MOST_BREAKPOINTS: usize = 64;
/// Largest nesting of tables that are shown.
const DEEPEST: usize = 10;
/// Largest command in bytes.
const LONGEST_COMMAND: usize = 1 << 20;
/// Initial limit for the bytes shown of a value.
const SHOWN: usize = 256;
/// Lowest limit that the client can set.
const LEAST_SHOWN: usize = 60;
/// Default number of lines listed before and after a line.
const AROUND: i64 = 5;

const HELP: &str = "\
Redis Lua debugger help:
[h]elp               Show this help.
[s]tep               Run current line and stop again.
[n]ext               Alias for step.
[c]ontinue           Run till next breakpoint.
[l]ist               List source code around current line.
[l]ist [line]        List source code around [line].
                     line = 0 means: current position.
[l]ist [line] [ctx]  In this form [ctx] specifies how many lines
                     to show before/after [line].
[w]hole              List all source code. Alias for 'list 1 1000000'.
[p]rint              Show all the local variables.
[p]rint <var>        Show the value of the specified variable.
                     Can also show global vars KEYS and ARGV.
[b]reak              Show all breakpoints.
[b]reak <line>       Add a breakpoint to the specified line.
[b]reak -<line>      Remove breakpoint from the specified line.
[b]reak 0            Remove all breakpoints.
[t]race              Show a backtrace.
[e]val <code>        Execute some Lua code (in a different callframe).
[r]edis <cmd>        Execute a Redis command.
[m]axlen [len]       Trim logged Redis replies and Lua var dumps to len.
                     Specifying zero as <len> means unlimited.
[a]bort              Stop the execution of the script. In sync
                     mode dataset changes will be retained.

Debugger functions you can call from Lua scripts:
redis.debug()        Produce logs in the debugger console.
redis.breakpoint()   Stop execution like if there was a breakpoint in the
                     next line of code.";

/// The input is not a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Malformed;

/// What the session does after a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    /// Waits for the next command.
    Ask,
    /// Continues the script.
    Run,
    /// Aborts the script.
    Abort,
}

/// State of one session.
pub struct Debugger {
    source: Vec<Vec<u8>>,
    breakpoints: Vec<i64>,
    /// Whether the script stops at the next line.
    stepping: bool,
    /// Whether that stop was requested by `redis.breakpoint()`.
    called: bool,
    line: i64,
    /// Time at which the script was last started or continued, in microseconds of the monotonic clock.
    resumed_us: u64,
    /// Whether the client has disconnected.
    alone: bool,
    shown: usize,
    hinted: bool,
    /// Output lines not sent yet.
    lines: Vec<Vec<u8>>,
    /// Input that does not form a complete command yet.
    input: Vec<u8>,
}

impl Debugger {
    /// A session for a script with this source, which stops at the first line.
    pub fn new(source: &[u8]) -> Debugger {
        let source = source.strip_suffix(b"\n").unwrap_or(source);
        Debugger {
            source: source.split(|&b| b == b'\n').map(<[u8]>::to_vec).collect(),
            breakpoints: Vec::new(),
            stepping: true,
            called: false,
            line: 0,
            resumed_us: clock::monotonic_us(),
            alone: false,
            shown: SHOWN,
            hinted: false,
            lines: Vec::new(),
            input: Vec::new(),
        }
    }

    /// Takes the output lines, encoded for the client; empty if there are none.
    pub fn take_output(&mut self) -> Vec<u8> {
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() {
            return Vec::new();
        }
        let mut out = format!("*{}\r\n", lines.len()).into_bytes();
        for line in lines {
            out.push(b'+');
            out.extend(line.iter().map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }));
            out.extend_from_slice(b"\r\n");
        }
        out
    }

    /// The last output, which precedes the reply of the script: the remaining lines, and the end of the session.
    pub fn end(&mut self) -> Vec<u8> {
        self.say("<endsession>");
        self.take_output()
    }

    fn say(&mut self, line: impl AsRef<[u8]>) {
        self.lines.push(line.as_ref().to_vec());
    }

    /// Adds a line, truncated to the limit.
    fn say_shortly(&mut self, mut line: Vec<u8>) {
        let cut = self.shown > 0 && line.len() > self.shown;
        if cut {
            line.truncate(self.shown);
            line.extend_from_slice(b" ...");
        }
        self.lines.push(line);
        if cut && !std::mem::replace(&mut self.hinted, true) {
            self.say("<hint> The above reply was trimmed. Use 'maxlen 0' to disable trimming.");
        }
    }

    fn say_source(&mut self, line: i64) {
        let text = usize::try_from(line - 1).ok().and_then(|i| self.source.get(i));
        let text = text.map_or(&b"<out of range source code line>"[..], Vec::as_slice);
        let mark = match (line == self.line, self.breakpoints.contains(&line)) {
            (true, true) => "->#",
            (true, false) => "-> ",
            (false, true) => "  #",
            (false, false) => "   ",
        };
        let line = [format!("{mark}{line:<3} ").as_bytes(), text].concat();
        self.lines.push(line);
    }

    /// Shows the source: `context` lines before and after line `around`.
    fn list(&mut self, around: i64, context: i64) {
        let last = self.source.len() as i64;
        let first = around.saturating_sub(context).max(1);
        for line in first..=around.saturating_add(context).min(last) {
            self.say_source(line);
        }
    }

    /// The next complete command, if the input has one.
    fn parse(&mut self) -> Result<Option<Vec<Vec<u8>>>, Malformed> {
        let input = &self.input;
        let mut at = 0;
        let header = |at: &mut usize, kind: u8| -> Result<Option<usize>, Malformed> {
            let rest = &input[*at..];
            if rest.first().is_some_and(|&b| b != kind) {
                return Err(Malformed);
            }
            let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
                return if rest.len() > 32 { Err(Malformed) } else { Ok(None) };
            };
            *at += end + 2;
            let n = num::parse_i64(&rest[1..end]).and_then(|n| usize::try_from(n).ok());
            n.filter(|&n| n <= LONGEST_COMMAND).map(Some).ok_or(Malformed)
        };
        let Some(count) = header(&mut at, b'*')? else { return Ok(None) };
        if !(1..=1024).contains(&count) {
            return Err(Malformed);
        }
        let mut words = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(len) = header(&mut at, b'$')? else { return Ok(None) };
            match input[at..].get(..len + 2) {
                None => return Ok(None),
                Some(word) if word.ends_with(b"\r\n") => words.push(word[..len].to_vec()),
                Some(_) => return Err(Malformed),
            }
            at += len + 2;
        }
        self.input.drain(..at);
        Ok(Some(words))
    }

    fn set_breakpoints(&mut self, words: &[Vec<u8>]) {
        if words.is_empty() {
            if self.breakpoints.is_empty() {
                return self.say("No breakpoints set. Use 'b <line>' to add one.");
            }
            self.say(format!("{} breakpoints set:", self.breakpoints.len()));
            for line in self.breakpoints.clone() {
                self.say_source(line);
            }
        }
        for word in words {
            match num::parse_i64(word) {
                None => self.say([b"Invalid argument:'", &word[..], b"'"].concat()),
                Some(0) => {
                    self.breakpoints.clear();
                    self.say("All breakpoints removed.");
                }
                Some(line) if line > 0 => {
                    if self.breakpoints.len() == MOST_BREAKPOINTS {
                        self.say("Too many breakpoints set.");
                    } else if line <= self.source.len() as i64 && !self.breakpoints.contains(&line) {
                        self.breakpoints.push(line);
                        self.list(line, 1);
                    } else {
                        self.say("Wrong line number.");
                    }
                }
                Some(line) => {
                    let found = self.breakpoints.iter().position(|&known| Some(known) == line.checked_neg());
                    match found {
                        Some(i) => {
                            self.breakpoints.swap_remove(i);
                            self.say("Breakpoint removed.");
                        }
                        None => self.say("No breakpoint in the specified line."),
                    }
                }
            }
        }
    }

    fn set_shown(&mut self, words: &[Vec<u8>]) {
        if let Some(word) = words.first() {
            let n = leading_number(word);
            self.hinted = true;
            self.shown = match usize::try_from(n) {
                Ok(0) => 0,
                Ok(n) => n.max(LEAST_SHOWN),
                Err(_) => LEAST_SHOWN,
            };
        }
        match self.shown {
            0 => self.say("<value> replies are unlimited."),
            n => self.say(format!("<value> replies are truncated at {n} bytes.")),
        }
    }

    fn trace(&mut self, lua: &Lua<'_>) {
        let mut level = 0;
        while let Some(frame) = lua.frame(level) {
            if frame.source == b"@user_script" {
                let from: &[u8] = if level == 0 { b"In " } else { b"From " };
                let name: &[u8] = if frame.name.is_empty() { b"top level" } else { &frame.name };
                self.say([from, name, b":"].concat());
                self.say_source(frame.line);
            }
            level += 1;
        }
        if level == 0 {
            self.say("<error> Can't retrieve Lua stack.");
        }
    }

    /// Appends the value on top of the stack to `head`, outputs the line, and pops the value.
    fn say_value(&mut self, lua: &mut Lua<'_>, head: &[u8]) {
        let mut line = head.to_vec();
        show(lua, &mut line, 0);
        lua.pop(1);
        self.say_shortly(line);
    }

    fn print_all(&mut self, lua: &mut Lua<'_>) {
        let mut count = 0;
        for n in 1.. {
            let Some(name) = lua.push_local(0, n) else { break };
            if name.starts_with(b"(*temporary)") {
                lua.pop(1);
                continue;
            }
            count += 1;
            self.say_value(lua, &[b"<value> ", &name[..], b" = "].concat());
        }
        if count == 0 {
            self.say("No local variables in the current context.");
        }
    }

    fn print(&mut self, lua: &mut Lua<'_>, wanted: &[u8]) {
        let mut level = 0;
        while lua.frame(level).is_some() {
            for n in 1.. {
                let Some(name) = lua.push_local(level, n) else { break };
                if name == wanted {
                    return self.say_value(lua, b"<value> ");
                }
                lua.pop(1);
            }
            level += 1;
        }
        if matches!(wanted, b"KEYS" | b"ARGV") {
            let code = [b"return ", wanted].concat();
            return self.evaluate(lua, &code, b"<value> ");
        }
        self.say("No such variable.");
    }

    fn evaluate(&mut self, lua: &mut Lua<'_>, code: &[u8], head: &[u8]) {
        let expression = [b"return ", code].concat();
        let environment = |lua: &mut Lua<'_>, _| push_environment(lua);
        let compiled = push_compiled(lua, &expression, c"@ldb_eval", environment)
            .or_else(|_| push_compiled(lua, code, c"@ldb_eval", environment));
        if let Err(text) = compiled {
            return self.say([b"<error> ", &text[..]].concat());
        }
        if lua.call(0, Some(1), None).is_ok() {
            return self.say_value(lua, head);
        }
        if lua.kind(-1) == Kind::Table {
            lua.raw_get_field(-1, "err");
            lua.remove(-2);
        }
        let text = display(lua, -1);
        lua.pop(1);
        self.say([b"<error> ", &text[..]].concat());
    }

    fn redis(&mut self, lua: &mut Lua<'_>, words: &[Vec<u8>]) {
        let (mut bytes, mut spans) = (Vec::new(), Vec::new());
        for word in words {
            spans.push(Span::within(bytes.len(), word.len()));
            bytes.extend_from_slice(word);
        }
        let args = Args::new(&bytes, &spans, &[]);
        match api::perform(lua, None, args) {
            Ok(given) => self.say_command(lua, args, given),
            Err(_) => self.say([b"<error> ", &display(lua, -1)[..]].concat()),
        }
        lua.pop(1);
    }

    /// Outputs a command that the script ran and its reply, which is on top of the stack, while the script is stepped
    /// through.
    pub(super) fn say_call(&mut self, lua: &mut Lua<'_>, args: Args<'_>, given: Given) {
        if self.stepping {
            self.say_command(lua, args, given);
        }
    }

    fn say_command(&mut self, lua: &mut Lua<'_>, args: Args<'_>, given: Given) {
        let mut line = b"<redis>".to_vec();
        for arg in args.iter() {
            line.push(b' ');
            line.extend_from_slice(arg);
        }
        self.say(line);
        let mut reply = b"<reply> ".to_vec();
        if matches!(given, Given::Error | Given::Refused) {
            lua.raw_get_field(-1, "err");
            let text = display(lua, -1);
            lua.pop(1);
            if given == Given::Refused {
                let plain = text.strip_prefix(b"ERR ").unwrap_or(&text);
                return self.say([b"<error> ", plain].concat());
            }
            self.say([b"<error> -", &text[..]].concat());
            quote(&[b"-", &text[..]].concat(), &mut reply);
        } else {
            show_reply(lua, &mut reply, 0);
        }
        self.say_shortly(reply);
    }

    /// Outputs an error about arguments that are not a command, while the script is stepped through.
    pub(super) fn say_refusal(&mut self, text: &[u8]) {
        if self.stepping {
            self.say([b"<error> ", text.strip_prefix(b"ERR ").unwrap_or(text)].concat());
        }
    }

    /// `redis.debug(…)`: outputs the arguments of the running function.
    pub(super) fn say_debug(&mut self, lua: &mut Lua<'_>) {
        let mut line = format!("<debug> line {}: ", self.line).into_bytes();
        for at in 1..=lua.top() {
            if at > 1 {
                line.extend_from_slice(b", ");
            }
            lua.push_value(at);
            show(lua, &mut line, 0);
            lua.pop(1);
        }
        self.say(line);
    }

    /// `redis.breakpoint()`: the script stops at the next line.
    pub(super) fn stop_soon(&mut self) {
        self.called = true;
    }

    /// Executes one command of the client.
    fn command(&mut self, lua: &mut Lua<'_>, words: &[Vec<u8>]) -> Then {
        let (name, rest) =
            words.split_first().map_or((Vec::new(), words), |(name, rest)| (name.to_ascii_lowercase(), rest));
        let number = |i: usize| rest.get(i).map(|word| leading_number(word));
        match name.as_slice() {
            b"s" | b"step" | b"n" | b"next" => {
                self.stepping = true;
                return Then::Run;
            }
            b"c" | b"continue" => return Then::Run,
            b"a" | b"abort" => return Then::Abort,
            b"t" | b"trace" => self.trace(lua),
            b"m" | b"maxlen" => self.set_shown(rest),
            b"b" | b"break" => self.set_breakpoints(rest),
            b"e" | b"eval" => self.evaluate(lua, &rest.join(&b' '), b"<retval> "),
            b"r" | b"redis" if !rest.is_empty() => self.redis(lua, rest),
            b"p" | b"print" => match rest {
                [name] => self.print(lua, name),
                _ => self.print_all(lua),
            },
            b"l" | b"list" => {
                let around = number(0).filter(|&line| line > 0).unwrap_or(self.line);
                self.list(around, number(1).unwrap_or(AROUND));
            }
            b"w" | b"whole" => self.list(1, 1_000_000),
            b"h" | b"help" => self.lines.extend(HELP.split('\n').map(|line| line.as_bytes().to_vec())),
            _ => self.say("<error> Unknown Redis Lua debugger command or wrong number of arguments."),
        }
        Then::Ask
    }

    /// Executes commands of the client until the script continues or ends.
    fn converse(&mut self, lua: &mut Lua<'_>) -> Result<(), Raise> {
        loop {
            let words = match self.parse() {
                Ok(Some(words)) => words,
                Ok(None) if self.input.len() <= LONGEST_COMMAND => {
                    let output = self.take_output();
                    let input = lua.with_host(|host, _| host.converse(&output)).flatten();
                    let Some(input) = input else {
                        // The client has disconnected: the script runs to its end.
                        self.breakpoints.clear();
                        self.alone = true;
                        return Ok(());
                    };
                    self.input.extend_from_slice(&input);
                    continue;
                }
                _ => return Err(raise_table(lua, b"ERR protocol error")),
            };
            match self.command(lua, &words) {
                Then::Ask => {}
                Then::Run => return Ok(()),
                Then::Abort => return Err(aborted(lua)),
            }
        }
    }

    /// Stops the script at a line until the client continues it.
    fn stop(&mut self, lua: &mut Lua<'_>, line: i64, reason: &str) -> Result<(), Raise> {
        self.line = line;
        self.stepping = false;
        self.called = false;
        self.say(format!("* Stopped at {line}, stop reason = {reason}"));
        self.say_source(line);
        let result = self.converse(lua);
        self.resumed_us = clock::monotonic_us();
        result
    }
}

fn aborted(lua: &mut Lua<'_>) -> Raise {
    raise_table(lua, b"ERR script aborted for user request")
}

/// Called regularly while a script is debugged. Stops a script that has run for too long without a stop.
///
/// # Errors
/// The client aborted the script, or has disconnected.
pub(super) fn on_time(lua: &mut Lua<'_>) -> Result<(), Raise> {
    let Some(limit) = lua.with_host(|host, _| host.debugged_for()).flatten() else { return Ok(()) };
    let Some(mut debugger) = lua.state().debugger.take() else { return Ok(()) };
    let mut result = Ok(());
    let lasted_us = clock::monotonic_us().saturating_sub(debugger.resumed_us);
    if !debugger.stepping
        && u128::from(lasted_us) >= limit.as_micros()
        && let Some(frame) = lua.frame(0).filter(|frame| frame.source == b"@user_script")
    {
        result = debugger.stop(lua, frame.line, "timeout reached, infinite loop?");
        if debugger.alone && result.is_ok() {
            // A script without a client to stop it would run for ever.
            result = Err(aborted(lua));
        }
    }
    lua.state().debugger = Some(debugger);
    result
}

/// Called at every new line of a script that is debugged.
///
/// # Errors
/// The client aborted the script.
pub(super) fn on_line(lua: &mut Lua<'_>, line: i64) -> Result<(), Raise> {
    let Some(mut debugger) = lua.state().debugger.take() else { return Ok(()) };
    let mut result = Ok(());
    if lua.frame(0).is_some_and(|frame| frame.source == b"@user_script") {
        debugger.line = line;
        let breaks = debugger.called || debugger.breakpoints.contains(&line);
        if breaks || debugger.stepping {
            let reason = match (breaks, debugger.called) {
                (true, true) => "redis.breakpoint() called",
                (true, false) => "break point",
                _ => "step over",
            };
            result = debugger.stop(lua, line, reason);
        }
    }
    lua.state().debugger = Some(debugger);
    result
}

/// Pushes the global environment of scripts.
fn push_environment(lua: &mut Lua<'_>) {
    match lua.state().environment.take() {
        Some(environment) => {
            lua.push_kept(&environment);
            lua.state().environment = Some(environment);
        }
        None => lua.new_table(0, 0),
    }
}

/// The number at the start of a text, as C's `atoi` reads it.
fn leading_number(text: &[u8]) -> i64 {
    let end = text.iter().enumerate().position(|(i, b)| !(b.is_ascii_digit() || (i == 0 && *b == b'-')));
    num::parse_i64(&text[..end.unwrap_or(text.len())]).unwrap_or(0)
}

/// Appends a text in quotes, with escapes.
fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            7 => out.extend_from_slice(b"\\a"),
            8 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    out.push(b'"');
}

/// Appends the value on top of the stack in a form similar to Lua source.
fn show(lua: &mut Lua<'_>, out: &mut Vec<u8>, depth: usize) {
    if depth == DEEPEST || !lua.reserve(8) {
        return out.extend_from_slice(b"<max recursion level reached! Nested table?>");
    }
    match lua.kind(-1) {
        Kind::String => quote(lua.bytes(-1).unwrap_or_default(), out),
        Kind::Table => show_table(lua, out, depth),
        Kind::Nil | Kind::None | Kind::Boolean | Kind::Number => out.extend_from_slice(&display(lua, -1)),
        kind => out.extend_from_slice(format!("\"{}@{:#x}\"", kind.name(), lua.address(-1)).as_bytes()),
    }
}

fn show_table(lua: &mut Lua<'_>, out: &mut Vec<u8>, depth: usize) {
    // Keys are omitted as long as they are 1, 2, 3, and so on.
    let (mut plain, mut expected) = (true, 1.0);
    lua.push_nil();
    while lua.next(-2) {
        plain = plain && lua.number(-2) == Some(expected);
        expected += 1.0;
        lua.pop(1);
        if !plain {
            lua.pop(1);
            break;
        }
    }
    out.push(b'{');
    let mut first = true;
    lua.push_nil();
    while lua.next(-2) {
        if !std::mem::take(&mut first) {
            out.extend_from_slice(b"; ");
        }
        if !plain {
            out.push(b'[');
            lua.push_value(-2);
            show(lua, out, depth + 1);
            lua.pop(1);
            out.extend_from_slice(b"]=");
        }
        show(lua, out, depth + 1);
        lua.pop(1);
    }
    out.push(b'}');
}

/// Appends the reply on top of the stack, in the form that the sink gave it.
fn show_reply(lua: &mut Lua<'_>, out: &mut Vec<u8>, depth: usize) {
    if depth > 64 || !lua.reserve(8) {
        return out.extend_from_slice(b"...");
    }
    match lua.kind(-1) {
        Kind::String => quote(lua.bytes(-1).unwrap_or_default(), out),
        Kind::Nil | Kind::None => out.extend_from_slice(b"(null)"),
        Kind::Boolean if lua.truth(-1) => out.extend_from_slice(b"#true"),
        Kind::Boolean if lua.state().protocol == crate::resp::Protocol::Resp2 => {
            out.extend_from_slice(b"NULL")
        }
        Kind::Boolean => out.extend_from_slice(b"#false"),
        Kind::Table => show_aggregate(lua, out, depth),
        _ => out.extend_from_slice(&display(lua, -1)),
    }
}

fn show_aggregate(lua: &mut Lua<'_>, out: &mut Vec<u8>, depth: usize) {
    for (name, sign) in [("ok", "+"), ("err", "-")] {
        lua.raw_get_field(-1, name);
        let text = lua.bytes(-1).map(|text| [sign.as_bytes(), text].concat());
        lua.pop(1);
        if let Some(text) = text {
            return quote(&text, out);
        }
    }
    for name in ["double", "big_number", "verbatim_string"] {
        lua.raw_get_field(-1, name);
        if lua.kind(-1) == Kind::Table {
            lua.raw_get_field(-1, "string");
            lua.remove(-2);
        }
        match (name, lua.kind(-1)) {
            (_, Kind::Nil) => {
                lua.pop(1);
                continue;
            }
            ("double", _) => out.extend_from_slice(&[b"(double) ", &display(lua, -1)[..]].concat()),
            ("big_number", _) => out.extend_from_slice(&display(lua, -1)),
            _ => quote(&display(lua, -1), out),
        }
        lua.pop(1);
        return;
    }
    for (name, open, close) in [("map", "{", "}"), ("set", "~(", ")")] {
        lua.raw_get_field(-1, name);
        if lua.kind(-1) != Kind::Table {
            lua.pop(1);
            continue;
        }
        out.extend_from_slice(open.as_bytes());
        let mut first = true;
        lua.push_nil();
        while lua.next(-2) {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            lua.push_value(-2);
            show_reply(lua, out, depth + 1);
            lua.pop(1);
            if name == "map" {
                out.extend_from_slice(b" => ");
                show_reply(lua, out, depth + 1);
            }
            lua.pop(1);
        }
        out.extend_from_slice(close.as_bytes());
        lua.pop(1);
        return;
    }
    out.push(b'[');
    for i in 1..=lua.raw_len(-1) {
        if i > 1 {
            out.push(b',');
        }
        lua.raw_get_index(-1, i as i32);
        show_reply(lua, out, depth + 1);
        lua.pop(1);
    }
    out.push(b']');
}
