//! Random Lua programs over everything that scripts can reach: every reply must be equal.
//!
//! Programs are made of values of all types and nestings, calls of all library functions and of commands, with arguments
//! that fit and arguments that do not, and of the statements that catch, repeat and return them. What depends on
//! addresses in memory is replaced in replies; functions that tell times or sizes of memory are called, and their
//! results are dropped. Three things are not written, because no two implementations need agree on them, or because the
//! other servers do not end: lists with holes, whose length is any of their borders; `pcall` without a function; and
//! `table.insert` at positions far away. Redis 7.0 is not asked: it ends when a script raises a table without a text.

use spinel::stdx::quote;
use spinel::stdx::rng::Rng;

use crate::commands_and_seed;
use crate::pair::{both, digests, words};
use crate::support::{self, Oracle, ServerProcess};

#[test]
fn scripts_answer_as_in_redis_8_2() {
    compare(Oracle::Redis8_2);
}

/// Programs that are sent between two empty databases, and two changes of the protocol.
const ROUND: u64 = 50;

/// Sets everything that a program may have set in `cjson` to what it is at first.
const SETTINGS: &str = "cjson.encode_max_depth(1000) cjson.encode_number_precision(14) cjson.encode_invalid_numbers(false) return 1";

fn compare(oracle: Oracle) {
    let Some(program) = oracle.program() else { return };
    let (programs, seed) = commands_and_seed(3_000);
    let options = ["--enable-debug-command", "yes"];
    let ours = ServerProcess::start(&support::spinel(), &[&options[..], &oracle.compat()].concat());
    let theirs = ServerProcess::start(&program, &options);
    let mut clients = (ours.client(), theirs.client());
    let mut writer = Writer { rng: Rng::new(seed) };
    let (mut differences, mut recent) = (Vec::new(), Vec::new());
    for i in 0..programs {
        if i % ROUND == 0 {
            // The digests of scores that have no short text are not those of Redis 7.
            let (x, y) = both(&mut clients, &words(&["ZRANGE", "z", "0", "-1", "WITHSCORES"]));
            assert!(x == y, "the scores differ, seed {seed}, after program {i}:\n{}", recent.join("\n\n"));
            // Nor has what is no number a sign that all agree on.
            both(&mut clients, &words(&["DEL", "z", "nan", "-nan"]));
            for text in ["nan", "-nan"] {
                both(&mut clients, &words(&["LREM", "l", "0", text]));
                both(&mut clients, &words(&["SREM", "s", text]));
            }
            let (x, y) = digests(&mut clients);
            assert!(x == y, "the data differ, seed {seed}, after program {i}:\n{}", recent.join("\n\n"));
            recent.clear();
            let protocol = writer.pick(&["2", "3"]);
            both(&mut clients, &words(&["FLUSHALL"]));
            both(&mut clients, &words(&["HELLO", protocol]));
        }
        let script = writer.program();
        recent.push(script.clone());
        let (x, y) = both(&mut clients, &words(&["EVAL", &script, "0"]));
        if script.contains("cjson.encode_") {
            // They keep the settings for the next script, and Spinel does not.
            let reset = [&b"EVAL"[..], SETTINGS.as_bytes(), b"0"];
            assert_eq!(clients.1.command(&reset).expect("they answer"), b":1\r\n".as_slice());
        }
        let (x, y) = (without_addresses(&x), without_addresses(&y));
        if x != y && reason(&script, &x, &y).is_none() {
            differences.push(format!("{script}\n  spinel {}\n  theirs {}", quote::repr(&x), quote::repr(&y)));
        }
        if differences.len() == 10 {
            break;
        }
    }
    assert!(differences.is_empty(), "seed {seed}:\n{}", differences.join("\n\n"));
}

/// Why two replies differ, if that is known.
fn reason(script: &str, ours: &[u8], theirs: &[u8]) -> Option<&'static str> {
    let holds = |reply: &[u8], text: &str| memchr::memmem::find(reply, text.as_bytes()).is_some();
    if ["band", "bor", "bxor"].iter().any(|name| holds(ours, &format!("to '{name}'")))
        && holds(theirs, "bad argument")
    {
        return Some("The arguments are checked from the first on, there from the last on.");
    }
    if script.contains("struct.pack") && holds(ours, "number expected, got string") {
        return Some("A string with a zero byte at its end is a number there.");
    }
    if script.contains("cjson.encode") && (script.contains("2^") || script.contains("[1e1")) {
        return Some("An index above 2^31 is counted as a negative one there.");
    }
    if script.contains("getmetatable('") {
        return Some("The metatable of strings is not shown.");
    }
    if script.contains("cmsgpack.pack(10)") && holds(theirs, "\n script: ") {
        return Some("A line end within an error becomes a space, not a line end of the reply.");
    }
    if holds(theirs, "invalid key to 'next'") {
        return Some("The place of an item is a key of the table here.");
    }
    if script.contains("math.")
        && ["redis.log", "set_repl", "setresp"].iter().any(|name| script.contains(name))
    {
        return Some("What is no number is the least integer there, and 0 here.");
    }
    if script.contains("tonumber(-") {
        return Some("With a base, negative numbers wrap there.");
    }
    if sorted(ours) == sorted(theirs) && holds(ours, "ignore_error_stats_update") {
        return Some("The fields of a table have no order.");
    }
    if script.contains("math.") && (script.contains("sha1hex") || unsigned(ours) == unsigned(theirs)) {
        return Some("The sign of what is no number depends on the C library.");
    }
    if holds(ours, "attempt to compare") && holds(theirs, "attempt to compare") {
        return Some("There, kinds count as the same if the third letters of their names are.");
    }
    if script.contains("coroutine.wrap") && without_places(ours) == without_places(theirs) {
        return Some(
            "A function called in place of another knows its line there, which is named twice then.",
        );
    }
    None
}

/// The reply without the places of errors and the lengths of strings.
fn without_places(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(reply);
    let mut out = String::new();
    for line in text.split_inclusive("\r\n").filter(|line| !line.starts_with('$')) {
        let mut parts = line.split("user_script:");
        out.push_str(parts.next().unwrap_or_default());
        for part in parts {
            out.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start_matches(": "));
        }
    }
    out
}

/// The reply without lengths of strings, in which what is no number has no sign.
fn unsigned(reply: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in reply.split_inclusive(|&byte| byte == b'\n').filter(|line| line[0] != b'$') {
        let mut rest = line;
        while let Some(byte) = rest.first() {
            let nan = [(&b"-nan"[..], &b"nan"[..]), (b" nan", b"nan"), (b"\xff\xf8", b"\x7f\xf8")];
            match nan.iter().find(|(signed, _)| rest.starts_with(signed)) {
                Some((signed, plain)) => {
                    out.extend_from_slice(plain);
                    rest = &rest[signed.len()..];
                }
                None => {
                    out.push(*byte);
                    rest = &rest[1..];
                }
            }
        }
    }
    // A field may be as wide with a sign as without.
    out.retain(|&byte| byte != b' ');
    out
}

/// The bytes of a reply in an order of their own.
fn sorted(reply: &[u8]) -> Vec<u8> {
    let mut bytes = reply.to_vec();
    bytes.sort_unstable();
    bytes
}

/// The reply with every address of a table, function or thread replaced, in bulk strings of any length.
fn without_addresses(reply: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(reply.len());
    let mut rest = reply;
    while !rest.is_empty() {
        let named: Option<&[u8]> =
            [&b"0x"[..], b"builtin#"].into_iter().find(|start| rest.starts_with(start));
        match named {
            Some(start) => {
                let len = rest[start.len()..].iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                out.extend_from_slice(b"(address)");
                rest = &rest[start.len() + len..];
            }
            None => {
                out.push(rest[0]);
                rest = &rest[1..];
            }
        }
    }
    // Lengths of strings that hold an address depend on it.
    if out.windows(9).any(|bytes| bytes == b"(address)") {
        let lines = out.split_inclusive(|&byte| byte == b'\n');
        return lines.filter(|line| line[0] != b'$').flatten().copied().collect();
    }
    out
}

/// Library functions and the number of arguments that they are usually given.
const FUNCTIONS: &[(&str, usize)] = &[
    ("cjson.encode", 1),
    ("cjson.decode", 1),
    ("cjson.encode_max_depth", 1),
    ("cjson.encode_invalid_numbers", 1),
    ("cjson.encode_number_precision", 1),
    ("cmsgpack.pack", 2),
    ("cmsgpack.unpack", 1),
    ("cmsgpack.unpack_one", 2),
    ("cmsgpack.unpack_limit", 3),
    ("struct.pack", 3),
    ("struct.unpack", 2),
    ("struct.size", 1),
    ("string.format", 3),
    ("string.rep", 2),
    ("string.sub", 3),
    ("string.find", 3),
    ("string.match", 2),
    ("string.gsub", 3),
    ("string.gmatch", 2),
    ("string.byte", 2),
    ("string.char", 2),
    ("string.upper", 1),
    ("string.lower", 1),
    ("string.reverse", 1),
    ("string.len", 1),
    ("string.dump", 1),
    ("tostring", 1),
    ("tonumber", 2),
    ("type", 1),
    ("select", 3),
    ("unpack", 1),
    ("pcall", 2),
    ("xpcall", 2),
    ("rawget", 2),
    ("rawset", 3),
    ("rawequal", 2),
    ("next", 1),
    ("ipairs", 1),
    ("pairs", 1),
    ("assert", 2),
    ("error", 2),
    ("setmetatable", 2),
    ("getmetatable", 1),
    ("loadstring", 1),
    ("load", 1),
    ("collectgarbage", 1),
    ("gcinfo", 0),
    ("table.concat", 2),
    ("table.getn", 1),
    ("table.maxn", 1),
    ("table.insert", 3),
    ("table.remove", 2),
    ("table.sort", 2),
    ("table.foreach", 2),
    ("table.foreachi", 2),
    ("table.setn", 2),
    ("math.floor", 1),
    ("math.ceil", 1),
    ("math.abs", 1),
    ("math.max", 2),
    ("math.min", 2),
    ("math.fmod", 2),
    ("math.mod", 2),
    ("math.modf", 1),
    ("math.sqrt", 1),
    ("math.pow", 2),
    ("math.log", 1),
    ("math.log10", 1),
    ("math.exp", 1),
    ("math.sin", 1),
    ("math.cos", 1),
    ("math.tan", 1),
    ("math.asin", 1),
    ("math.acos", 1),
    ("math.atan", 1),
    ("math.atan2", 2),
    ("math.sinh", 1),
    ("math.deg", 1),
    ("math.rad", 1),
    ("math.frexp", 1),
    ("math.ldexp", 2),
    ("math.randomseed", 1),
    ("bit.band", 2),
    ("bit.bor", 2),
    ("bit.bxor", 2),
    ("bit.bnot", 1),
    ("bit.lshift", 2),
    ("bit.rshift", 2),
    ("bit.arshift", 2),
    ("bit.rol", 2),
    ("bit.ror", 2),
    ("bit.tohex", 2),
    ("bit.tobit", 1),
    ("bit.bswap", 1),
    ("coroutine.create", 1),
    ("coroutine.wrap", 1),
    ("coroutine.resume", 2),
    ("coroutine.status", 1),
    ("coroutine.yield", 1),
    ("coroutine.running", 0),
    ("os.clock", 0),
    ("redis.call", 3),
    ("redis.call", 3),
    ("redis.pcall", 3),
    ("redis.pcall", 3),
    ("redis.error_reply", 1),
    ("redis.status_reply", 1),
    ("redis.sha1hex", 1),
    ("redis.setresp", 1),
    ("redis.acl_check_cmd", 2),
    ("redis.log", 2),
    ("redis.set_repl", 1),
    ("redis.breakpoint", 0),
    ("redis.debug", 1),
    ("redis.replicate_commands", 0),
];

const TEXTS: &[&str] = &[
    "'abc'",
    "''",
    "'a b'",
    "'x'",
    "'%d'",
    "'1'",
    "'-3.5'",
    "'0x10'",
    r"'a\0b'",
    "'{\"a\":[1,2,{}]}'",
    "'[1,2'",
    r"'\130\161a\1\161b\2'",
    "'>I2 s'",
    "'%a+'",
    "'(.)(.)'",
    "'[^a-c]*'",
    r"'\200\255'",
];

const NUMBERS: &[&str] = &[
    "0", "1", "-1", "2", "3.5", "-0.5", "1e10", "2^31", "2^32", "2^53", "-2^31", "1/3", "255", "256",
    "65536", "-129", "100", "1e15", "1e100", "7", "10",
];

/// Places in a list.
const POSITIONS: &[&str] = &["1", "2", "-1", "0", "7", "1.5", "'2'", "'x'", "nil", "{}"];

const FORMATS: &[&str] = &[
    "'%d'",
    "'%5.2f|%s'",
    "'%x %X'",
    "'%q'",
    "'%-10s|'",
    "'%g'",
    "'%c'",
    "'%i %o'",
    "'%.3s'",
    "'%e'",
    "'%y'",
    "'%5'",
];

const LAYOUTS: &[&str] = &[
    "'>I2'",
    "'<i4h'",
    "'!bi'",
    "'s'",
    "'c0'",
    "'Bc0'",
    "'d'",
    "'f'",
    "'i3'",
    "'I16'",
    "'xxb'",
    "'z'",
    "'c3'",
    "'L'",
    "'>!8 b d'",
];

const COMMANDS: &[&str] = &[
    "'get'",
    "'set'",
    "'incr'",
    "'echo'",
    "'hset','h'",
    "'hgetall','h'",
    "'lrange','l',0,-1",
    "'rpush','l'",
    "'sadd','s'",
    "'del'",
    "'nosuch'",
    "'type'",
    "'exists'",
    "'mget'",
    "'append'",
    "'strlen'",
    "'incrby'",
    "'zadd','z'",
    "'zrange','z',0,-1,'withscores'",
    "'ping'",
    "'getrange'",
    "'zscore','z'",
];

/// Writes programs.
struct Writer {
    rng: Rng,
}

impl Writer {
    fn pick(&mut self, items: &[&'static str]) -> &'static str {
        items[self.rng.index(items.len())]
    }

    /// True `percent` times in a hundred.
    fn chance(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent
    }

    fn text(&mut self) -> String {
        if self.rng.one_in(TEXTS.len() as u64 + 1) {
            // Lengths around the limits of encodings.
            return format!(
                "('x'):rep({})",
                self.pick(&["0", "1", "31", "32", "99", "100", "255", "256", "300"])
            );
        }
        self.pick(TEXTS).to_owned()
    }

    fn number(&mut self) -> String {
        self.pick(NUMBERS).to_owned()
    }

    /// The items of a list of `n` values, none of them nil but the last.
    fn items(&mut self, n: usize, depth: u32) -> String {
        let mut items: Vec<String> = (0..n).map(|_| format!("({} or false)", self.value(depth))).collect();
        if n > 0 && self.chance(50) {
            items[n - 1] = self.value(depth);
        }
        items.join(",")
    }

    /// A function that is called by another name.
    fn callable(&mut self) -> &'static str {
        loop {
            let (function, _) = FUNCTIONS[self.rng.index(FUNCTIONS.len())];
            if !matches!(
                function,
                "pcall" | "xpcall" | "gcinfo" | "os.clock" | "collectgarbage" | "table.insert"
            ) {
                return function;
            }
        }
    }

    fn table(&mut self, depth: u32) -> String {
        let Some(below) = depth.checked_sub(1) else { return "{}".to_owned() };
        match self.rng.below(10) {
            0..4 => {
                let n = self.rng.index(5);
                format!("{{{}}}", self.items(n, below))
            }
            4..7 => {
                let names = ["a", "b", "ok", "err", "double", "map", "set", "big_number", "k"];
                format!("{{{}={}}}", self.pick(&names), self.value(below))
            }
            7 => format!("{{[{}]={}}}", self.number(), self.value(below)),
            _ => format!("{{map={{a={}}}}}", self.value(below)),
        }
    }

    fn value(&mut self, depth: u32) -> String {
        match self.rng.below(100) {
            0..25 => self.text(),
            25..50 => self.number(),
            50..60 => self.pick(&["nil", "true", "false", "cjson.null"]).to_owned(),
            60..75 => self.table(depth),
            _ if depth > 0 => self.call(depth - 1),
            _ => self.number(),
        }
    }

    fn call(&mut self, depth: u32) -> String {
        let (function, usual) = FUNCTIONS[self.rng.index(FUNCTIONS.len())];
        let fewest = usual.saturating_sub(1);
        let n = fewest + self.rng.index(usual - fewest + 1);
        let mut args: Vec<String> = (0..n).map(|_| self.value(depth)).collect();
        let mut first = |writer: &mut Writer, percent: u64, items: &[&'static str]| {
            if writer.chance(percent) {
                args.splice(..args.len().min(1), [writer.pick(items).to_owned()]);
            }
        };
        let short = &function[function.find('.').map_or(0, |dot| dot + 1)..];
        match function {
            "string.format" => first(self, 90, FORMATS),
            "struct.pack" | "struct.unpack" | "struct.size" => first(self, 90, LAYOUTS),
            "redis.call" | "redis.pcall" | "redis.acl_check_cmd" => first(self, 95, COMMANDS),
            "loadstring" => args = vec![self.pick(&["'return 1'", "'x'", "'return ...'"]).to_owned()],
            // What is printed of a table is its address.
            "tostring" => {
                let word = self.pick(&["nil", "true"]).to_owned();
                args = vec![[self.text(), self.number(), word][self.rng.index(3)].clone()];
            }
            "string.rep" => {
                let text = args.into_iter().next().unwrap_or_else(|| "'x'".to_owned());
                args = vec![text, self.pick(&["0", "3", "100", "-1", "'2'"]).to_owned()];
            }
            "gcinfo" | "os.clock" => return format!("({function}() and 1)"),
            "collectgarbage" => return "(collectgarbage('count') and 1)".to_owned(),
            _ if short.starts_with("encode_") => {
                let setting = self.pick(&["'x'", "{}", "0", "-1", "1e10", "nil"]);
                return format!("pcall({function},{setting})");
            }
            "string.gmatch" if self.chance(50) => {
                let walk = "local q={} for a,b in";
                let args = args.join(",");
                return format!(
                    "(function() {walk} string.gmatch({args}) do q[#q+1]=a q[#q+1]=b end return q end)()"
                );
            }
            "table.sort" if self.chance(60) => {
                let items: Vec<String> = (0..self.rng.index(7)).map(|_| self.number()).collect();
                let order = self.pick(&["", ",function(a,b) return a>b end", ",1"]);
                return format!(
                    "(function() local q={{{}}} table.sort(q{order}) return q end)()",
                    items.join(",")
                );
            }
            "table.insert" | "table.remove" if self.chance(60) => {
                let (n, more) = (self.rng.index(6), self.rng.index(3));
                let items = self.items(n, 0);
                let mut args: Vec<String> = (0..more).map(|_| self.value(1)).collect();
                if more == 2 || function == "table.remove" {
                    args.splice(..more.min(1), [self.pick(POSITIONS).to_owned()]);
                }
                let args: String = args.iter().map(|arg| format!(",{arg}")).collect();
                return format!("(function() local q={{{items}}} {function}(q{args}) return q end)()");
            }
            "table.insert" if args.len() == 3 => args[1] = self.pick(POSITIONS).to_owned(),
            _ if function.starts_with("coroutine.") && self.chance(50) => {
                let around = self.pick(&[
                    "coroutine.wrap",
                    "coroutine.create",
                    "(function(f) local c=coroutine.create(f) return coroutine.resume(c,1) end)",
                    "(function(f) local c=coroutine.wrap(f) c(1) return c(2) end)",
                ]);
                let value = self.value(1);
                return format!("{around}(function(...) local a=coroutine.yield(...) return {value} end)");
            }
            _ if function.starts_with("string.") && !args.is_empty() && self.chance(20) => {
                return format!("({}):{short}({})", args[0], args[1..].join(","));
            }
            _ => {}
        }
        format!("{function}({})", args.join(","))
    }

    fn statement(&mut self, depth: u32) -> String {
        match self.rng.below(100) {
            0..26 => format!("local a = {}", self.value(depth)),
            26..39 => format!(
                "local ok, e = pcall(function() return {} end) r[#r+1]=ok r[#r+1]=type(e)==\"string\" and e or type(e)",
                self.value(depth)
            ),
            39..52 => format!("r[#r+1] = {}", self.value(depth)),
            52..61 => format!("for i = 1, {} do r[#r+1] = {} end", self.rng.below(4), self.value(depth)),
            61..70 => {
                let then = if depth > 0 { self.statement(depth - 1) } else { "r[1]=1".to_owned() };
                format!("if {} then {then} end", self.value(depth))
            }
            70..79 => self.call(depth),
            79..87 => {
                format!("local function f(x) return {} end r[#r+1] = f({})", self.call(depth), self.value(1))
            }
            // Any of several lengths is right where there is nothing in between.
            87..89 => format!(
                "local t = {{}} t[{}] = {} r[#r+1] = (#t == 0 or t[#t] ~= nil) r[#r+1] = t[{}]",
                self.value(1),
                self.value(1),
                self.value(1)
            ),
            89..91 => {
                let operators = ["+", "-", "*", "/", "%", "^", "..", "==", "<", "<=", "and", "or"];
                format!("r[#r+1] = {} {} {}", self.value(1), self.pick(&operators), self.value(1))
            }
            91..93 => {
                let function = self.callable();
                format!(
                    "local h = {function} local function w(...) local y = h(...) return h(...) end r[#r+1] = w({})",
                    self.value(1)
                )
            }
            93..95 => {
                format!("local t = {} for i, x in ipairs(t) do r[#r+1] = i r[#r+1] = x end", self.table(2))
            }
            95..97 => {
                let function = self.callable();
                let mut args =
                    || -> String { (0..self.rng.index(3)).map(|_| format!(",{}", self.value(1))).collect() };
                let (once, again) = (args(), args());
                format!("local g = {function} r[#r+1] = pcall(g{once}) r[#r+1] = select(2, pcall(g{again}))")
            }
            _ => format!(
                "local o = {{}} function o:m(x) return {} end r[#r+1] = o:m({})",
                self.call(1),
                self.value(1)
            ),
        }
    }

    fn program(&mut self) -> String {
        let statements: Vec<String> = (0..self.rng.below(4) + 1)
            .map(|_| {
                let depth = self.rng.below(3) as u32 + 1;
                self.statement(depth)
            })
            .collect();
        let result = match self.rng.below(5) {
            0 => self.value(3),
            1 => self.call(2),
            _ => "r".to_owned(),
        };
        format!("local r = {{}}\n{}\nreturn {result}", statements.join("\n"))
    }
}
