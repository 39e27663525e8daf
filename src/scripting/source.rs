//! Checks and adapts the source text of a script before it is compiled.
//!
//! LuaJIT accepts a slightly larger language than Lua 5.1, and drops stack frames that 5.1 keeps. One pass over the
//! tokens removes the differences:
//!
//! - Numbers that only LuaJIT knows (`1LL`, `0b1`, `2i`), its operators (`&`, `|`, `~`, `!`, `?`, `<<`, `>>`, `->`) and
//!   names with non-ASCII bytes are errors. Escapes that 5.1 does not know (`\x41`) stand for their letter; `goto`,
//!   `const`, `continue` and `::` lose their meaning.
//! - `return f(x)` replaces the frame of its function. In 5.1, a *native* `f` keeps that frame, and with it the line
//!   for which an error is reported. In the main chunk, of whose results only the first counts, and for library
//!   functions with one result, `return (f(x))` keeps the frame; for functions with several results,
//!   `return select(1, f(x))` does.
//! - A text that assigns to no global name can use the table of globals without the proxy that guards it.

use std::ops::Range;

/// Global names in scripts.
const GLOBALS: [&str; 40] = [
    "KEYS",
    "ARGV",
    "_G",
    "_VERSION",
    "assert",
    "bit",
    "cjson",
    "cmsgpack",
    "collectgarbage",
    "coroutine",
    "error",
    "gcinfo",
    "getmetatable",
    "ipairs",
    "load",
    "loadstring",
    "math",
    "next",
    "os",
    "pairs",
    "pcall",
    "rawequal",
    "rawget",
    "rawset",
    "redis",
    "select",
    "server",
    "setmetatable",
    "string",
    "struct",
    "table",
    "tonumber",
    "tostring",
    "type",
    "unpack",
    "xpcall",
    "print",
    "require",
    "getfenv",
    "setfenv",
];

/// Native functions by library; the globals have an empty library name. The first list has the functions with one
/// result, or none that is used, the second those with several.
const NATIVE: [(&str, &[&str], &[&str]); 11] = [
    (
        "",
        &[
            "error",
            "tonumber",
            "tostring",
            "setmetatable",
            "rawset",
            "rawget",
            "rawequal",
            "type",
            "collectgarbage",
            "getmetatable",
            "gcinfo",
        ],
        &["assert", "unpack", "select", "next", "loadstring", "load", "ipairs", "pairs", "xpcall"],
    ),
    ("redis", REDIS, &[]),
    ("server", REDIS, &[]),
    ("cjson", &["encode", "decode"], &["encode_sparse_array"]),
    ("cmsgpack", &["pack"], &["unpack", "unpack_one", "unpack_limit"]),
    ("struct", &["pack", "size"], &["unpack"]),
    (
        "string",
        &["format", "rep", "sub", "lower", "upper", "len", "reverse", "char", "gmatch", "dump"],
        &["find", "match", "gsub", "byte"],
    ),
    ("table", &["concat", "insert", "remove", "getn", "maxn", "sort", "foreach", "foreachi", "setn"], &[]),
    ("coroutine", &["create", "status", "running", "wrap"], &["resume", "yield"]),
    (
        "math",
        &[
            "abs",
            "ceil",
            "floor",
            "max",
            "min",
            "fmod",
            "mod",
            "pow",
            "sqrt",
            "random",
            "randomseed",
            "log",
            "exp",
            "log10",
            "sin",
            "cos",
            "tan",
            "asin",
            "acos",
            "atan",
            "atan2",
            "sinh",
            "cosh",
            "tanh",
            "deg",
            "rad",
            "ldexp",
        ],
        &["modf", "frexp"],
    ),
    (
        "bit",
        &[
            "tobit", "tohex", "band", "bor", "bxor", "bnot", "lshift", "rshift", "arshift", "rol", "ror",
            "bswap",
        ],
        &[],
    ),
];

const REDIS: &[&str] = &[
    "call",
    "pcall",
    "error_reply",
    "status_reply",
    "sha1hex",
    "log",
    "acl_check_cmd",
    "setresp",
    "set_repl",
];

const KEYWORDS: [&str; 21] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil",
    "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// A source text ready to be compiled.
pub struct Adapted {
    /// Text for the compiler.
    pub code: Vec<u8>,
    /// Whether the text may assign to a global name, so that it must not get the table of globals itself.
    pub guarded: bool,
}

/// Why a text that LuaJIT would accept is not valid in Lua 5.1.
pub struct Refused {
    /// Line of the error, counted from 1.
    pub line: usize,
    /// Error message of Lua 5.1.
    pub text: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Token {
    Name,
    Keyword,
    Number,
    Text,
    Sign(u8),
    /// `==`, `~=`, `<=`, `>=`, `..`, `...`.
    Long,
}

struct Word {
    token: Token,
    at: Range<usize>,
}

struct Scanner<'a> {
    source: &'a [u8],
    pos: usize,
    line: usize,
    words: Vec<Word>,
    /// Replacements for ranges of the text, in order.
    edits: Vec<(Range<usize>, &'static [u8])>,
}

/// Checks and adapts a source text. O(length).
///
/// # Errors
/// The text uses something that LuaJIT has and Lua 5.1 does not.
pub fn adapt(source: &[u8]) -> Result<Adapted, Refused> {
    let mut scanner = Scanner { source, pos: 0, line: 1, words: Vec::new(), edits: Vec::new() };
    scanner.scan()?;
    scanner.soften();
    scanner.keep_frames();
    let guarded = scanner.assigns_globals();
    Ok(Adapted { code: scanner.apply(), guarded })
}

impl Scanner<'_> {
    fn peek(&self, ahead: usize) -> u8 {
        self.source.get(self.pos + ahead).copied().unwrap_or(0)
    }

    fn refuse<T>(&self, what: &str, near: &[u8]) -> Result<T, Refused> {
        let text = [what.as_bytes(), b" near '", near, b"'"].concat();
        Err(Refused { line: self.line, text })
    }

    /// Splits the text into tokens. At a syntax error the scan just ends, since the compiler will report it.
    fn scan(&mut self) -> Result<(), Refused> {
        if self.source.first() == Some(&b'#') {
            self.pos = memchr::memchr(b'\n', self.source).unwrap_or(self.source.len());
        }
        while self.pos < self.source.len() {
            let start = self.pos;
            let byte = self.peek(0);
            let token = match byte {
                b'\n' => {
                    self.line += 1;
                    self.pos += 1;
                    continue;
                }
                b' ' | b'\t' | b'\r' | 0x0b | 0x0c => {
                    self.pos += 1;
                    continue;
                }
                b'-' if self.peek(1) == b'-' => {
                    self.pos += 2;
                    if self.peek(0) == b'[' && self.long_level().is_some() {
                        if !self.long_text() {
                            return Ok(());
                        }
                    } else {
                        let rest = &self.source[self.pos..];
                        self.pos += memchr::memchr(b'\n', rest).unwrap_or(rest.len());
                    }
                    continue;
                }
                b'[' if self.long_level().is_some() => {
                    if !self.long_text() {
                        return Ok(());
                    }
                    Token::Text
                }
                b'\'' | b'"' => {
                    if !self.quoted(byte)? {
                        return Ok(());
                    }
                    Token::Text
                }
                b'0'..=b'9' => self.number()?,
                b'.' if self.peek(1).is_ascii_digit() => self.number()?,
                b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                    while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == b'_' {
                        self.pos += 1;
                    }
                    let word = &self.source[start..self.pos];
                    if KEYWORDS.iter().any(|keyword| keyword.as_bytes() == word) {
                        Token::Keyword
                    } else {
                        Token::Name
                    }
                }
                0x80.. => return self.refuse(self.complaint(), &[byte]),
                b'&' | b'|' | b'?' | b'!' => return self.refuse(self.complaint(), &[byte]),
                b'~' if self.peek(1) != b'=' => return self.refuse(self.complaint(), &[byte]),
                b'<' | b'>' if self.peek(1) == byte => {
                    self.pos += 1;
                    return self.refuse("unexpected symbol", &[byte]);
                }
                b'-' if self.peek(1) == b'>' => {
                    self.pos += 1;
                    return self.refuse("unexpected symbol", b">");
                }
                _ => {
                    let long = match (byte, self.peek(1)) {
                        (b'.', b'.') if self.peek(2) == b'.' => 3,
                        (b'.', b'.') | (b'=' | b'~' | b'<' | b'>', b'=') => 2,
                        _ => 1,
                    };
                    self.pos += long;
                    if long > 1 { Token::Long } else { Token::Sign(byte) }
                }
            };
            self.words.push(Word { token, at: start..self.pos });
        }
        Ok(())
    }

    /// Lua 5.1's message about an unknown operator after the tokens so far.
    fn complaint(&self) -> &'static str {
        let operand = match self.words.last().map(|word| word.token) {
            Some(Token::Name | Token::Number | Token::Text | Token::Sign(b')' | b']' | b'}')) => true,
            Some(Token::Keyword) => {
                matches!(self.text(self.words.len() - 1), b"end" | b"nil" | b"true" | b"false")
            }
            _ => false,
        };
        let statement = (0..self.words.len()).rev().take(64).find(|&i| {
            self.is_sign(i, b';')
                || self.is_sign(i, b'=')
                || matches!(
                    self.text(i),
                    b"return" | b"end" | b"then" | b"do" | b"else" | b"local" | b"repeat"
                )
        });
        match statement {
            Some(i) if operand && self.text(i) == b"return" => "'<eof>' expected",
            _ => "unexpected symbol",
        }
    }

    /// The number of `=` in the long bracket that opens here, if one does.
    fn long_level(&self) -> Option<usize> {
        let level = self.source[self.pos + 1..].iter().take_while(|&&b| b == b'=').count();
        (self.peek(level + 1) == b'[').then_some(level)
    }

    /// Skips a long string; false if it has no end.
    fn long_text(&mut self) -> bool {
        let level = self.long_level().unwrap_or_default();
        self.pos += level + 2;
        while let Some(found) = memchr::memchr2(b']', b'\n', &self.source[self.pos..]) {
            self.pos += found + 1;
            if self.source[self.pos - 1] == b'\n' {
                self.line += 1;
                continue;
            }
            let signs = self.source[self.pos..].iter().take_while(|&&b| b == b'=').count();
            if signs == level && self.peek(level) == b']' {
                self.pos += level + 1;
                return true;
            }
        }
        self.pos = self.source.len();
        false
    }

    /// Skips a quoted string; false if it has no end.
    fn quoted(&mut self, quote: u8) -> Result<bool, Refused> {
        let start = self.pos;
        self.pos += 1;
        loop {
            match self.source.get(self.pos) {
                None | Some(b'\n') => return Ok(false),
                Some(&b) if b == quote => {
                    self.pos += 1;
                    return Ok(true);
                }
                Some(b'\\') => match self.peek(1) {
                    b'\n' => {
                        self.line += 1;
                        self.pos += 2;
                    }
                    b'x' | b'u' | b'z' => {
                        self.edits.push((self.pos..self.pos + 1, b""));
                        self.pos += 2;
                    }
                    b'0'..=b'9' => {
                        let digits = (1..4).take_while(|&i| self.peek(i).is_ascii_digit());
                        let (count, value) =
                            digits.fold((0, 0), |(n, v), i| (n + 1, v * 10 + u32::from(self.peek(i) - b'0')));
                        if value > 255 {
                            return self.refuse("escape sequence too large", &self.source[start..self.pos]);
                        }
                        self.pos += 1 + count;
                    }
                    b if b.is_ascii_alphabetic() && !b"abfnrtv".contains(&b) => {
                        self.edits.push((self.pos..self.pos + 1, b""));
                        self.pos += 2;
                    }
                    b if !b.is_ascii_alphanumeric() && !b"\\'\"\r\0".contains(&b) => {
                        self.edits.push((self.pos..self.pos + 1, b""));
                        self.pos += 2;
                    }
                    _ => self.pos += 2,
                },
                Some(_) => self.pos += 1,
            }
        }
    }

    /// Skips a number as Lua 5.1 reads it.
    fn number(&mut self) -> Result<Token, Refused> {
        let start = self.pos;
        while self.peek(0).is_ascii_digit() || self.peek(0) == b'.' {
            self.pos += 1;
        }
        if matches!(self.peek(0), b'e' | b'E') {
            self.pos += 1;
            if matches!(self.peek(0), b'+' | b'-') {
                self.pos += 1;
            }
        }
        while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == b'_' {
            self.pos += 1;
        }
        let text = &self.source[start..self.pos];
        if is_number(text) { Ok(Token::Number) } else { self.refuse("malformed number", text) }
    }

    fn text(&self, index: usize) -> &[u8] {
        self.words.get(index).map_or(b"", |word| &self.source[word.at.clone()])
    }

    fn token(&self, index: usize) -> Option<Token> {
        self.words.get(index).map(|word| word.token)
    }

    fn is_sign(&self, index: usize, sign: u8) -> bool {
        self.token(index) == Some(Token::Sign(sign))
    }

    /// Whether the name at token `i` stands alone as a statement, which is not valid in Lua 5.1.
    fn is_statement(&self, i: usize) -> bool {
        let begins = match i.checked_sub(1).map(|before| self.words[before].token) {
            None | Some(Token::Name | Token::Number | Token::Text) => true,
            Some(Token::Sign(sign)) => b")]};".contains(&sign),
            Some(Token::Long) => false,
            Some(Token::Keyword) => !matches!(
                self.text(i - 1),
                b"and"
                    | b"or"
                    | b"not"
                    | b"return"
                    | b"in"
                    | b"if"
                    | b"while"
                    | b"until"
                    | b"elseif"
                    | b"local"
                    | b"function"
                    | b"for"
            ),
        };
        let goes_on = match self.token(i + 1) {
            Some(Token::Sign(sign)) => b"=,([.:{".contains(&sign),
            Some(Token::Text) => true,
            _ => false,
        };
        begins && !goes_on
    }

    /// Makes `goto`, `const`, `continue` and `::` ordinary names or errors, as in Lua 5.1.
    fn soften(&mut self) {
        for i in 0..self.words.len() {
            let at = self.words[i].at.clone();
            if self.token(i + 1) == Some(Token::Name) && self.text(i) == b"goto" {
                self.edits.push((at, b"Goto"));
            } else if self.text(i) == b"const"
                && matches!(self.token(i + 1), Some(Token::Name | Token::Keyword))
            {
                self.edits.push((at, b"Const"));
            } else if self.text(i) == b"continue" && self.is_statement(i) {
                self.edits.push((at, b"Continue"));
            } else if self.is_sign(i, b':')
                && self.is_sign(i + 1, b':')
                && self.words[i + 1].at.start == at.end
            {
                self.edits.push((at, b": "));
            }
        }
    }

    /// Puts parentheses around the values of `return` where this keeps a frame and changes nothing else.
    fn keep_frames(&mut self) {
        let aliases = self.aliases();
        let mut budget = 64 * self.words.len();
        // For each open block, whether it is a function.
        let mut blocks: Vec<bool> = Vec::new();
        let mut functions = 0usize;
        for i in 0..self.words.len() {
            if self.words[i].token != Token::Keyword {
                continue;
            }
            match self.text(i) {
                word @ (b"function" | b"if" | b"do" | b"repeat") => {
                    let function = word == b"function";
                    functions += usize::from(function);
                    blocks.push(function);
                }
                b"end" | b"until" => functions -= usize::from(blocks.pop().unwrap_or(false)),
                b"return" => {
                    let open: Option<(&'static [u8], Option<usize>)> = if functions == 0 {
                        Some((b"(", None))
                    } else {
                        self.native_at(i + 1, &aliases).map(|(open, bracket)| (open, Some(bracket)))
                    };
                    if let Some((open, bracket)) = open
                        && let Some(last) = self.call_at(i + 1, bracket, &mut budget)
                    {
                        let (first, last) = (self.words[i + 1].at.start, self.words[last].at.end);
                        self.edits.push((first..first, open));
                        self.edits.push((last..last, b")"));
                    }
                }
                _ => {}
            }
        }
    }

    /// Local names for `redis.call`: `local call = redis.call`.
    fn aliases(&self) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for i in 0..self.words.len() {
            if self.text(i) == b"local"
                && self.is_sign(i + 2, b'=')
                && matches!(self.text(i + 3), b"redis" | b"server")
                && self.is_sign(i + 4, b'.')
                && matches!(self.text(i + 5), b"call" | b"pcall")
            {
                found.push(self.text(i + 1).to_vec());
            }
        }
        found
    }

    /// Text to insert before the call of a native function that begins at token `i`, so that it is not a tail call;
    /// `select` passes on several results. Also returns the token that opens the arguments.
    fn native_at(&self, i: usize, aliases: &[Vec<u8>]) -> Option<(&'static [u8], usize)> {
        if let Some(open) = self.method_at(i) {
            return Some(open);
        }
        let (library, name, after) = if self.is_sign(i + 1, b'.') {
            (self.text(i), self.text(i + 2), i + 3)
        } else {
            (&b""[..], self.text(i), i + 1)
        };
        if !self.is_sign(after, b'(') {
            return None;
        }
        if library.is_empty() && aliases.iter().any(|alias| alias == name) {
            return Some((b"(", after));
        }
        let (_, single, several) = NATIVE.iter().find(|(known, ..)| known.as_bytes() == library)?;
        let among = |names: &[&str]| names.iter().any(|known| known.as_bytes() == name);
        let root = if library.is_empty() { name } else { library };
        if among(single) {
            (!self.is_declared(root)).then_some((b"(", after))
        } else if among(several) && !self.is_declared(root) && !self.is_declared(b"select") {
            Some((b"select(1,", after))
        } else {
            None
        }
    }

    /// As `Scanner::native_at`, for a method of strings: `name:sub(…)` or `(…):sub(…)`. An object may have a method
    /// with that name, too, so all results are passed on.
    fn method_at(&self, i: usize) -> Option<(&'static [u8], usize)> {
        let colon = if self.is_sign(i, b'(') {
            let mut depth = 0usize;
            let closes = (i..self.words.len().min(i + 64)).find(|&j| {
                depth += usize::from(self.is_sign(j, b'('));
                depth -= usize::from(self.is_sign(j, b')'));
                depth == 0
            });
            closes? + 1
        } else if self.token(i) == Some(Token::Name) {
            i + 1
        } else {
            return None;
        };
        let (_, single, several) = NATIVE.iter().find(|(library, ..)| *library == "string")?;
        let known = single.iter().chain(*several).any(|name| name.as_bytes() == self.text(colon + 1));
        let method = self.is_sign(colon, b':') && known && self.is_sign(colon + 2, b'(');
        (method && !self.is_declared(b"select")).then_some((b"select(1,", colon + 2))
    }

    /// Whether the script may redefine the name.
    fn is_declared(&self, name: &[u8]) -> bool {
        (0..self.words.len()).any(|i| {
            self.words[i].token == Token::Name
                && self.text(i) == name
                && !(i > 0 && self.is_sign(i - 1, b'.'))
                && (self.is_sign(i + 1, b'=')
                    || (i > 0 && matches!(self.text(i - 1), b"local" | b"function" | b"for"))
                    || (i > 0
                        && matches!(self.text(i - 1), b"(" | b",")
                        && matches!(self.text(i + 1), b"," | b")")))
        })
    }

    /// The last token of the expression at token `i`, if it is the only expression, the statement ends behind it, and
    /// it may be a call. With `bracket`, the token that opens the arguments of a call, the expression must be just that
    /// call.
    fn call_at(&self, i: usize, bracket: Option<usize>, budget: &mut usize) -> Option<usize> {
        let (mut brackets, mut blocks) = (0usize, 0usize);
        let mut closed = None;
        let mut j = i;
        while let Some(word) = self.words.get(j) {
            *budget = budget.checked_sub(1)?;
            match (word.token, self.text(j)) {
                (Token::Sign(b'(' | b'[' | b'{'), _) => brackets += 1,
                (Token::Sign(b')' | b']' | b'}'), _) => {
                    brackets = brackets.checked_sub(1)?;
                    if brackets == 0 && blocks == 0 && closed.is_none() && bracket.is_some_and(|b| j > b) {
                        closed = Some(j);
                    }
                }
                (Token::Sign(b','), _) if brackets == 0 && blocks == 0 => return None,
                (Token::Sign(b';'), _) if brackets == 0 && blocks == 0 => break,
                (Token::Keyword, b"function" | b"if" | b"do" | b"repeat") => blocks += 1,
                (Token::Keyword, b"end" | b"until" | b"else" | b"elseif") if blocks == 0 => break,
                (Token::Keyword, b"end" | b"until") => blocks -= 1,
                (Token::Keyword, b"return" | b"local" | b"break" | b"while" | b"for") if blocks == 0 => {
                    return None;
                }
                _ => {}
            }
            j += 1;
        }
        let last = j.checked_sub(1).filter(|&last| last >= i && brackets == 0 && blocks == 0)?;
        let call = matches!(self.words[last].token, Token::Sign(b')' | b'}') | Token::Text);
        (call && last > i && (bracket.is_none() || closed == Some(last))).then_some(last)
    }

    /// Whether the text may assign to a global name: one stands before `=` or a comma, or names a function or loop
    /// variable.
    fn assigns_globals(&self) -> bool {
        (0..self.words.len()).any(|i| {
            self.words[i].token == Token::Name
                && !(i > 0 && matches!(self.text(i - 1), b"." | b":"))
                && (self.is_sign(i + 1, b'=')
                    || self.is_sign(i + 1, b',')
                    || (i > 0 && matches!(self.text(i - 1), b"function")))
                && GLOBALS.iter().any(|global| global.as_bytes() == self.text(i))
        })
    }

    /// The text with all replacements.
    fn apply(mut self) -> Vec<u8> {
        if self.edits.is_empty() {
            return self.source.to_vec();
        }
        self.edits.sort_by_key(|(at, _)| at.start);
        let mut code = Vec::with_capacity(self.source.len() + self.edits.len());
        let mut done = 0;
        for (at, text) in &self.edits {
            code.extend_from_slice(&self.source[done..at.start]);
            code.extend_from_slice(text);
            done = at.end;
        }
        code.extend_from_slice(&self.source[done..]);
        code
    }
}

/// Whether the whole text is a number for C's `strtod`, or a hexadecimal integer.
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    if let Some(hex) = text.strip_prefix(b"0x").or_else(|| text.strip_prefix(b"0X")) {
        let mantissa = hex.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        return match &hex[mantissa..] {
            [] => mantissa > 0,
            [b'p' | b'P', exponent @ ..] => {
                mantissa > 0 && !exponent.is_empty() && digits(exponent) == exponent.len()
            }
            _ => false,
        };
    }
    let whole = digits(text);
    let mut rest = &text[whole..];
    let mut count = whole;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let len = digits(fraction);
        count += len;
        rest = &fraction[len..];
    }
    let exponent = match rest {
        [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] => exponent,
        rest => return count > 0 && rest.is_empty(),
    };
    count > 0 && !exponent.is_empty() && digits(exponent) == exponent.len()
}
