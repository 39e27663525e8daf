//! Scripts run against a host with a few commands.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::engine::Policy;
use super::*;
use crate::resp::request::Span;
use crate::resp::{Args, Protocol, Reply};

/// A server of five commands.
#[derive(Default)]
struct Toy {
    /// Input that the client of the debugger will send, and all output that it received.
    typed: std::collections::VecDeque<Vec<u8>>,
    seen: String,
    /// How often a name was resolved, and how often a command was called by number.
    resolved: u32,
    numbered: u32,
    keys: HashMap<Vec<u8>, Vec<u8>>,
    /// Time from which the host ends scripts.
    deadline: Option<Instant>,
    asked: u32,
    /// How long a script may run under the debugger before it is stopped.
    patience: Option<Duration>,
}

impl Host for Toy {
    fn resolve(&mut self, name: &[u8]) -> Option<u32> {
        self.resolved += 1;
        name.eq_ignore_ascii_case(b"get").then_some(7)
    }

    fn call(&mut self, command: Option<u32>, args: Args<'_>, _: Protocol, sink: &mut Sink<'_, '_>) {
        if let Some(id) = command {
            assert!(id == 7 && args.at(0).eq_ignore_ascii_case(b"get"));
            self.numbered += 1;
        }
        match args.at(0).to_ascii_lowercase().as_slice() {
            b"get" => match self.keys.get(args.at(1)) {
                Some(value) => sink.bulk(value),
                None => sink.null(),
            },
            b"set" => {
                self.keys.insert(args.at(1).to_vec(), args.at(2).to_vec());
                sink.status(b"OK");
            }
            b"echo" => sink.bulk(args.at(1)),
            b"len" => sink.int(args.len() as i64),
            b"resp" => sink.resp(args.at(1)).expect("the tests write RESP"),
            b"deep" => {
                for _ in 0..100_000 {
                    sink.array(1);
                }
                sink.null();
            }
            _ => sink.refuse(b"ERR Unknown Redis command called from script"),
        }
    }

    fn acl_check(&mut self, _: Args<'_>) -> Option<bool> {
        Some(true)
    }

    fn log(&mut self, _: LogLevel, _: &[u8]) {}

    fn set_repl(&mut self, _: Repl) {}

    fn debugged_for(&self) -> Option<Duration> {
        self.patience
    }

    fn converse(&mut self, output: &[u8]) -> Option<Vec<u8>> {
        self.seen.push_str(&String::from_utf8_lossy(output).replace("\r\n", "\n"));
        self.typed.pop_front()
    }

    fn interrupted(&mut self) -> Verdict {
        self.asked += 1;
        if self.deadline.is_some_and(|deadline| Instant::now() > deadline) {
            Verdict::Kill
        } else {
            Verdict::Continue
        }
    }
}

struct Bench {
    engine: Engine,
    host: Toy,
}

impl Bench {
    fn new() -> Bench {
        Bench { engine: Engine::new(Limits { memory: 64 << 20 }, "7.2.4"), host: Toy::default() }
    }

    fn eval_with(&mut self, script: &str, args: &[&[u8]], protocol: Protocol) -> String {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, protocol);
        let bytes = args.concat();
        let mut at = 0;
        let spans: Vec<Span> = args
            .iter()
            .map(|arg| {
                at += arg.len();
                Span::within(at - arg.len(), arg.len())
            })
            .collect();
        let keys = Args::new(&bytes, &spans, &[]);
        match self.engine.prepare(script.as_bytes()) {
            Ok(script) => {
                let argv = keys.rest(keys.len());
                self.engine.run(script, keys, argv, &mut self.host, &mut reply);
            }
            Err(error) => {
                reply.error(&error);
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    fn eval(&mut self, script: &str) -> String {
        self.eval_with(script, &[], Protocol::Resp2)
    }

    fn fcall(&mut self, name: &str) -> String {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, Protocol::Resp2);
        let function = self.engine.function(name.as_bytes()).expect("the function is loaded");
        let none = Args::new(b"", &[], &[]);
        self.engine.run_function(function, none, none, &mut self.host, &mut reply);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Runs a script that must be killed, and checks that the next script is not.
    fn killed(&mut self, script: &str) {
        self.host.deadline = Some(Instant::now() + Duration::from_millis(50));
        let begun = Instant::now();
        let reply = self.eval(script);
        assert!(reply.contains("killed by user"), "{script}: {reply}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{script}: {:?}", begun.elapsed());
        self.host.deadline = None;
        assert_eq!(self.eval("return 1"), ":1\r\n");
    }

    /// Runs a script that must fail, and checks that the engine still works.
    fn fails(&mut self, script: &str, text: &str) {
        let reply = self.eval(script);
        assert!(reply.starts_with('-') && reply.contains(text), "{script}: {reply}");
        assert_eq!(self.eval("return 1"), ":1\r\n");
    }
}

#[test]
fn values_and_calls() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.eval_with(
            "redis.call('set', KEYS[1], 5) return {redis.call('get', KEYS[1]), #KEYS, #ARGV}",
            &[b"k"],
            Protocol::Resp2
        ),
        "*3\r\n$1\r\n5\r\n:1\r\n:0\r\n"
    );
    assert_eq!(bench.eval("return #KEYS"), ":0\r\n");
    bench.eval_with(
        "KEYS.x = 1 setmetatable(KEYS, {__index = function() return 7 end})",
        &[b"k"],
        Protocol::Resp2,
    );
    assert_eq!(bench.eval("return {KEYS.x or 0, KEYS[1] or 0}"), "*2\r\n:0\r\n:0\r\n");
    assert_eq!(
        bench.eval("return redis.call('nosuch')"),
        "-ERR Unknown Redis command called from script script: 206396248e12c6e742fd7296250433c8d7343b74, on @user_script:1.\r\n"
    );
}

#[test]
fn replies_of_every_type() {
    let mut bench = Bench::new();
    let cases = [
        ("%1\r\n$1\r\na\r\n:1\r\n", "*2\r\n$1\r\na\r\n:1\r\n", "%1\r\n$1\r\na\r\n:1\r\n"),
        ("~1\r\n$1\r\na\r\n", "*1\r\n$1\r\na\r\n", "~1\r\n$1\r\na\r\n"),
        (",3.141\r\n", "$5\r\n3.141\r\n", ",3.141\r\n"),
        ("_\r\n", "$-1\r\n", "_\r\n"),
        ("=7\r\ntxt:abc\r\n", "$3\r\nabc\r\n", "=7\r\ntxt:abc\r\n"),
        ("#t\r\n", ":1\r\n", "#t\r\n"),
        ("#f\r\n", ":0\r\n", "#f\r\n"),
        ("(12345678901234567890\r\n", "$20\r\n12345678901234567890\r\n", "(12345678901234567890\r\n"),
        ("|1\r\n+k\r\n*2\r\n:1\r\n:2\r\n$1\r\nx\r\n", "$1\r\nx\r\n", "$1\r\nx\r\n"),
        ("*2\r\n*0\r\n*1\r\n:3\r\n", "*2\r\n*0\r\n*1\r\n:3\r\n", "*2\r\n*0\r\n*1\r\n:3\r\n"),
    ];
    for (given, two, three) in cases {
        let script = |version: u8| format!("redis.setresp({version}) return redis.call('resp', KEYS[1])");
        assert_eq!(bench.eval_with(&script(3), &[given.as_bytes()], Protocol::Resp2), two);
        assert_eq!(bench.eval_with(&script(3), &[given.as_bytes()], Protocol::Resp3), three);
    }
}

#[test]
fn scripts_that_catch_everything_are_killed() {
    let mut bench = Bench::new();
    bench.killed("while true do end");
    bench.killed(
        "local function f() while true do redis.call('echo', 'x') end end while true do pcall(f) end",
    );
    bench.killed(
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
    );
    bench.killed("while true do coroutine.resume(coroutine.create(function() while true do end end)) end");
    bench.killed("local f f = function() pcall(f) pcall(f) end while true do f() end");
    bench.killed("while true do string.gsub('x', 'x', function() while true do end end) end");
    bench.killed("local t = setmetatable({}, {__index = function() while true do end end}) while true do pcall(function() return t.x end) end");
}

#[test]
fn only_long_scripts_are_hooked() {
    let mut bench = Bench::new();
    let hooked = |bench: &mut Bench| bench.engine.is_hooked();
    assert!(!hooked(&mut bench));
    bench.eval("return 1");
    assert!(!hooked(&mut bench));
    // The idle time of the engine and other engines on this thread must not matter.
    let mut other = Bench::new();
    for pause in [0, 1, 5, 150, 0] {
        std::thread::sleep(Duration::from_millis(pause));
        other.killed("while true do end");
        bench.killed("while true do pcall(error) end");
        assert!(!hooked(&mut bench) && !hooked(&mut other));
    }
    // The host was asked, and let the script continue.
    let asked = bench.host.asked;
    assert_eq!(bench.eval("for i = 1, 1e8 do end return 1"), ":1\r\n");
    assert!(bench.host.asked > asked && !hooked(&mut bench));
    drop(other);
    bench.killed("return redis.call('echo', (function() while true do end end)())");
}

#[test]
fn a_library_that_loads_for_ever_is_given_up() {
    let mut bench = Bench::new();
    let text = b"#!lua name=slow\nwhile true do end";
    let begun = Instant::now();
    let error = bench.engine.load_library(text, false, true).expect_err("it never ends");
    let error = String::from_utf8_lossy(error.as_bytes());
    assert!(error.contains("FUNCTION LOAD timeout"), "{error}");
    assert!(begun.elapsed() >= Duration::from_millis(500) && begun.elapsed() < Duration::from_secs(5));
    assert!(!bench.engine.is_hooked());
    assert_eq!(bench.eval("return 1"), ":1\r\n");
}

#[test]
fn native_loops_are_interrupted() {
    let mut bench = Bench::new();
    bench.killed("local s = ('a'):rep(30) return s:find(('a?'):rep(30) .. ('a'):rep(31))");
    bench.killed("return ('a'):rep(2000):find(('.-'):rep(20) .. 'b')");
    bench.killed("local a = {1} for d = 1, 12 do local b = {} for i = 1, 40 do b[i] = a end a = b end while true do pcall(cjson.encode, a) end");
    bench.killed("local t = {} while true do pcall(table.insert, t, -2^31, 1) end");
    bench.killed("local a = {} for i = 1, 40 do a[i] = a end while true do pcall(cmsgpack.pack, a) end");
    // The time between two interrupts does not depend on the duration of each call.
    bench.killed("local a = {} for i = 1, 1000 do a[i] = i + 0.1 end while true do cjson.encode(a) end");
    bench.killed("while true do ('x'):rep(100000) end");
}

#[test]
fn memory_is_bounded() {
    let mut bench = Bench::new();
    let enough = "not enough memory";
    bench.fails("return ('x'):rep(1e9)", enough);
    bench.fails("local s = 'x' while true do s = s .. s end", enough);
    bench.fails("local t = {} while true do t[#t + 1] = {} end", enough);
    bench.fails("local t = {} for i = 1, 1e9 do t[i] = i end", enough);
    bench.fails("return #table.concat({('x'):rep(3e7), ('x'):rep(3e7)})", enough);
    bench.fails("local s = ('x'):rep(1e6) return s:gsub('x', ('y'):rep(1000))", enough);
    bench.fails("local s = ('x'):rep(2e7) return cjson.encode({s, s, s})", enough);
    bench.fails("local s = ('x'):rep(2e7) return cmsgpack.pack(s, s, s)", enough);
    bench.fails("local s = ('x'):rep(2e7) return string.format('%s%s%s', s, s, s)", enough);
    bench.fails("local s = ('x'):rep(2e7) return struct.pack('sss', s, s, s)", enough);
    bench.fails("return #cjson.decode('[' .. ('[],'):rep(1e6) .. '[]]')", enough);
    bench.fails("local f f = function(...) return f(1, ...) end f()", "");
    bench.fails("redis.call('deep')", "reached lua stack limit");
    bench.engine.collect();
    assert!(bench.engine.heap() < 1 << 20, "{}", bench.engine.heap());
}

#[test]
fn old_faults_stay_closed() {
    let mut bench = Bench::new();
    // CVE-2025-46817: the count of `unpack` overflowed.
    bench.fails("return unpack({}, 0, 2147483647)", "too many results to unpack");
    bench.fails("return unpack({}, -2147483648, 2147483647)", "too many results to unpack");
    // CVE-2025-46818: metatables of basic types.
    bench.fails("getmetatable('').__index = function() end", "Attempt to modify a readonly table");
    bench.fails("setmetatable(getmetatable(''), {})", "Attempt to modify a readonly table");
    bench.fails("getmetatable('').__index.rep = 1", "Attempt to modify a readonly table");
    // CVE-2025-46819: long brackets.
    bench.fails(&format!("return [{}", "=".repeat(100_000)), "");
    bench.fails(&format!("return [{}[", "=".repeat(100_000)), "");
    // CVE-2025-49844: the collector ran while the parser held a name.
    for _ in 0..50 {
        bench.eval("for i = 1, 100 do local f = loadstring('return ' .. ('x'):rep(100) .. i, ('c'):rep(1000) .. i) collectgarbage() end");
    }
    // CVE-2024-31449: bit.tohex.
    assert_eq!(bench.eval("return bit.tohex(65535, -2147483648)"), "$8\r\n0000FFFF\r\n");
    // CVE-2022-24735, CVE-2022-24736: code of one user in the script of another, and broken code.
    bench.fails("redis.call = function() end", "Attempt to modify a readonly table");
    bench.fails("string.rep = 1", "Attempt to modify a readonly table");
    bench.fails("table.insert(redis, 1)", "Attempt to modify a readonly table");
    bench.fails("rawset(_G, 'x', 1)", "Attempt to modify a readonly table");
    bench.fails("for k, v in pairs(_G) do _G[k] = nil end", "Attempt to modify a readonly table");
    bench.fails("local t = getmetatable(_G).__index t.x = 1", "Attempt to modify a readonly table");
    bench.fails("loadstring('redis = nil')()", "Attempt to modify a readonly table");
    // CVE-2024-46981: finalizers.
    bench.fails("newproxy(true)", "nonexistent global variable 'newproxy'");
    // CVE-2020-14147, CVE-2015-8080: sizes in struct formats.
    bench.fails("return struct.pack('>I2147483648', 10)", "integral size overflow");
    bench.fails("return struct.pack('>I2147483647', 10)", "larger than limit");
    bench.fails("return struct.unpack('c2147483647', 'x')", "too short");
    bench.fails("return struct.unpack('b', 'x', 2^52)", "too short");
    bench.fails("return struct.unpack('!1073741824c0d', 'x')", "");
    // Formats.
    bench.fails("return ('%9999d'):format(1)", "width or precision too long");
    // Compiled code.
    bench.fails("return loadstring(string.dump(function() return 1 end))()", "attempt to call a nil value");
    bench.fails("\u{1b}LJ\u{2}", "");
    // Recursion.
    bench.fails(&format!("return {}1{}", "(".repeat(10_000), ")".repeat(10_000)), "");
    bench.fails(&format!("return {}", "{".repeat(10_000)), "");
    bench.fails("return cjson.decode(('['):rep(1e6))", "too many nested");
    bench.fails("cjson.decode_max_depth(2147483647) return cjson.decode(('['):rep(1e6))", "too many nested");
    bench.fails("return cmsgpack.unpack(('\\145'):rep(1e6))", "stack overflow");
    bench.fails("return cmsgpack.unpack(('\\129'):rep(1e6))", "");
    bench.fails("return cmsgpack.unpack('\\221\\255\\255\\255\\255')", "Missing bytes");
    bench.fails("return ('x'):rep(40):find(('(x'):rep(40))", "too many captures");
    bench.fails("return ('x'):rep(10000):find(('x?'):rep(10000))", "too complex");
    for name in [
        "ffi", "jit", "debug", "io", "package", "require", "module", "print", "dofile", "loadfile",
        "getfenv", "setfenv",
    ] {
        bench.fails(&format!("return {name}"), &format!("nonexistent global variable '{name}'"));
    }
    bench.fails("return 1LL", "malformed number near '1LL'");
    bench.fails("return os.exit()", "attempt to call field 'exit' (a nil value)");
}

#[test]
fn nothing_is_left_behind() {
    let mut bench = Bench::new();
    bench.eval(
        "math.randomseed(1) cjson.encode_max_depth(1) cjson.encode_sparse_array(true) collectgarbage('stop')",
    );
    assert_eq!(bench.eval("return cjson.encode({{{1}}})"), "$7\r\n[[[1]]]\r\n");
    let seeded = bench.eval("math.randomseed(1) return tostring(math.random())");
    assert_eq!(bench.eval("math.randomseed(1) return tostring(math.random())"), seeded);
    assert_ne!(bench.eval("return tostring(math.random())"), bench.eval("return tostring(math.random())"));
    assert_eq!(
        bench.eval(
            "math.randomseed(10) return {tostring(math.random()), math.random(100), math.random(5, 10)}"
        ),
        "*3\r\n$16\r\n0.87885112309775\r\n:80\r\n:7\r\n"
    );
    bench.eval("redis.setresp(3)");
    assert_eq!(bench.eval("return redis.call('get', 'nokey') == false"), ":1\r\n");
}

#[test]
fn the_cache_is_bounded() {
    let mut bench = Bench::new();
    let pinned = bench.engine.load(b"return 'pinned'").expect("it is a script");
    let before = bench.engine.heap();
    for i in 0..10_000 {
        assert_eq!(bench.eval(&format!("return {i}")), format!(":{i}\r\n"));
    }
    bench.engine.collect();
    assert!(bench.engine.scripts().len() <= cache::MOST_EVALUATED + 1);
    assert!(bench.engine.heap() < before + (1 << 20), "{} {before}", bench.engine.heap());
    assert!(bench.engine.find(&pinned.to_ascii_uppercase()).is_some());
    bench.engine.flush_scripts();
    assert!(bench.engine.find(&pinned).is_none() && bench.engine.scripts().is_empty());
}

#[test]
fn libraries() {
    let mut bench = Bench::new();
    let load = |bench: &mut Bench, text: &str, replace| {
        bench
            .engine
            .load_library(text.as_bytes(), replace, true)
            .map(|name| String::from_utf8_lossy(&name).into_owned())
    };
    let error = |result: Result<String, crate::resp::Error>| result.expect_err("it must fail").to_string();
    let first = "#!lua name=lib\nlocal n = 0 redis.register_function('f', function() n = n + 1 return n end)";
    assert_eq!(load(&mut bench, first, false).expect("it loads"), "lib");
    assert_eq!((bench.fcall("F"), bench.fcall("f")), (":1\r\n".into(), ":2\r\n".into()));
    assert_eq!(error(load(&mut bench, first, false)), "ERR Library 'lib' already exists");
    let broken =
        "#!lua name=lib\nredis.register_function('g', function() end) redis.register_function('h', 1)";
    let text =
        "ERR Error registering functions: ERR second argument to redis.register_function must be a function";
    assert_eq!(error(load(&mut bench, broken, true)), text);
    assert_eq!(bench.fcall("f"), ":3\r\n");
    let slow = "#!lua name=slow\nwhile true do end";
    assert!(error(load(&mut bench, slow, false)).contains("FUNCTION LOAD timeout"));
    let other = "#!lua name=other\nredis.register_function('F', function() end)";
    assert_eq!(error(load(&mut bench, other, false)), "ERR Function F already exists");
    assert!(
        error(load(&mut bench, "#!lua name=x\nreturn math.random()", false))
            .contains("nonexistent global variable 'math'")
    );
    assert!(
        error(load(&mut bench, "#!lua name=x\nreturn redis.call('x')", false))
            .contains("nonexistent global variable 'call'")
    );
    let flags = "#!lua name=flags\nredis.register_function{function_name='w', callback=function() return redis.pcall('x').err end, flags={'no-writes'}, description='d'}";
    load(&mut bench, flags, false).expect("it loads");
    let id = bench.engine.function(b"w").expect("it is loaded");
    assert!(bench.engine.libraries().function(id).is_some_and(|function| function.flags.no_writes));
    let texts: Vec<Vec<u8>> = bench.engine.library_texts().map(<[u8]>::to_vec).collect();
    let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
    assert!(bench.engine.restore_libraries(&texts, Policy::Append).is_err());
    assert_eq!(bench.fcall("f"), ":4\r\n");
    bench.engine.restore_libraries(&texts, Policy::Replace).expect("they load");
    assert_eq!(bench.fcall("f"), ":1\r\n");
    bench.engine.restore_libraries(&texts, Policy::Flush).expect("they load");
    assert_eq!(bench.engine.libraries().counts(), (2, 2));
    assert!(bench.engine.delete_library(b"lib") && !bench.engine.delete_library(b"lib"));
    assert!(bench.engine.function(b"f").is_none());
    let trick = "#!lua name=t\nlocal lib = redis redis.register_function('a', function() lib.math = 1 end) redis.register_function('b', function() lib.register_function('c', function() end) end)";
    load(&mut bench, trick, false).expect("it loads");
    assert!(bench.fcall("a").contains("Attempt to modify a readonly table"));
    assert!(bench.fcall("b").contains("can only be called on FUNCTION LOAD command"));
}

#[test]
fn deep_answers() {
    let mut bench = Bench::new();
    let reply = bench.eval("local a = {} a[1] = a return a");
    assert_eq!(reply.matches("*1\r\n").count(), 7995);
    assert!(reply.ends_with("-ERR reached lua stack limit\r\n"));
}

#[test]
fn arguments_are_checked_in_the_words_of_lua() {
    let mut bench = Bench::new();
    for (script, text) in [
        ("return string.len()", "bad argument #1 to 'len' (string expected, got no value)"),
        ("return math.fmod({}, 'x')", "bad argument #2 to 'fmod' (number expected, got string)"),
        ("return table.getn()", "bad argument #1 to 'getn' (table expected, got no value)"),
        ("return table.concat(1, {})", "bad argument #2 to 'concat' (string expected, got table)"),
        ("return ipairs()", "bad argument #1 to 'ipairs' (table expected, got no value)"),
        ("assert(false, {})", "bad argument #2 to 'assert' (string expected, got table)"),
        ("assert(nil)", "user_script:1: assertion failed!"),
        ("return bit.tohex(1, nil)", "bad argument #2 to 'tohex' (number expected, got nil)"),
        ("return string.char(256)", "bad argument #1 to 'char' (invalid value)"),
        ("return select(-2, 1)", "bad argument #1 to 'select' (index out of range)"),
        ("local function f(x) return x:rep() end return f('x')", "bad argument #1 to 'rep'"),
        ("local function f() return ('x'):sub() end return f()", "user_script:1: bad argument #1 to 'sub'"),
        ("coroutine.yield()", "attempt to yield across metamethod/C-call boundary"),
        ("return coroutine.wrap(1)", "bad argument #1 to 'wrap' (Lua function expected)"),
        ("return struct.pack('i')", "bad argument #2 to 'pack' (number expected, got nil)"),
    ] {
        bench.fails(script, text);
    }
    for (script, value) in [
        ("return ('hello'):sub(2, -2)", "$3\r\nell\r\n"),
        ("return {('abc'):byte(1, -1)}", "*3\r\n:97\r\n:98\r\n:99\r\n"),
        ("return ('x'):rep(200):upper()", &format!("$200\r\n{}\r\n", "X".repeat(200))),
        ("local t = {1, 2, 3} table.remove(t, 1) return t", "*2\r\n:2\r\n:3\r\n"),
        ("return table.concat({1, 'a', 2.5}, '-', 2, 3)", "$5\r\na-2.5\r\n"),
        (
            "local t = {1, 2} table.insert(t, 1, 0) table.insert(t, 2, 5) return t",
            "*4\r\n:0\r\n:5\r\n:1\r\n:2\r\n",
        ),
        ("return {math.frexp(40)}", "*2\r\n:0\r\n:6\r\n"),
        ("return tostring(math.ldexp(0.625, 6))", "$2\r\n40\r\n"),
        (
            "return tostring(math.ldexp(1, -1074)) .. tostring(math.frexp(4.9406564584125e-324))",
            "$23\r\n4.9406564584125e-3240.5\r\n",
        ),
        ("return select('#', select(2^32 + 1, 1, 2))", ":2\r\n"),
        ("return {unpack({1, 2, 3}, '2', 3)}", "*2\r\n:2\r\n:3\r\n"),
        ("return #{unpack({1, 2}, 1e100, 2)}", ":3\r\n"),
        ("return tonumber('12\\0x')", ":12\r\n"),
        ("return ('a'):rep('2\\0')", "$2\r\naa\r\n"),
        (
            "return tostring(0/0) .. tostring(-(0/0)) .. (''):rep(0/0) .. string.upper(0/0)",
            "$11\r\n-nannan-NAN\r\n",
        ),
        ("return redis.error_reply('a\\0b c')", "-ERR a\r\n"),
        ("local n = 0 return load(function() n = n + 1 return ({nil, 'return 7'})[n] end)()", ":7\r\n"),
        ("return tostring(cjson.null)", "$15\r\nuserdata: (nil)\r\n"),
    ] {
        assert_eq!(bench.eval(script), value, "{script}");
    }
}

#[test]
fn an_error_says_where_the_function_at_its_level_is() {
    let mut bench = Bench::new();
    for (script, text) in [
        ("pcall(error, 'x', 1)", "x"),
        ("pcall(error, 'x', 2)", "user_script:1: x"),
        ("pcall(error, 'x', 3)", "x"),
        ("pcall(pcall, error, 'x', 3)", "user_script:1: x"),
        ("pcall(error, 'x', 0)", "x"),
        ("pcall(error, 12, '2')", "user_script:1: 12"),
        ("pcall(function()\nerror('x', 2) end)", "x"),
        ("pcall(function()\nerror('x') end)", "user_script:2: x"),
        ("pcall(table.foreach, {1}, function() error('x', 2) end)", "x"),
        ("pcall(string.gsub, 'a', 'a', function() error('x', 3) end)", "x"),
        ("xpcall(function() error('x', 3) end, function(e) return e end)", "user_script:1: x"),
    ] {
        // The error message is the last of the results.
        let script = format!("local all = {{{script}}} return all[#all] or all[3]");
        assert_eq!(bench.eval(&script), format!("${}\r\n{text}\r\n", text.len()), "{script}");
    }
}

#[test]
fn names_of_commands_are_resolved_once() {
    let mut bench = Bench::new();
    bench.eval("for i = 1, 10 do redis.call('get', 'k') redis.call('GET', 'k') end");
    assert_eq!((bench.host.resolved, bench.host.numbered), (2, 20));
    // A name that is collected as garbage must not be mistaken for a later one at the same address.
    bench.eval("for i = 1, 3000 do redis.pcall('no' .. i) end collectgarbage() for i = 1, 3000 do redis.call('ec' .. 'ho', 'x' .. i) end redis.call('g' .. 'et', 'k')");
    assert_eq!(bench.host.numbered, 21);
    bench.engine.forget_commands();
    bench.host.resolved = 0;
    bench.eval("redis.call('get', 'k')");
    assert_eq!(bench.host.resolved, 1);
}

#[test]
fn endless_scripts_stop_under_the_debugger() {
    let mut bench = Bench::new();
    bench.host.patience = Some(Duration::from_millis(20));
    let none = Args::new(b"", &[], &[]);
    for (script, line) in
        [("local i = 0\nwhile true do i = i + 1 end", 2), ("-- a comment\nrepeat until nil", 2)]
    {
        bench.host.seen.clear();
        // The client continues the script twice, and has disconnected when it stops for the third time.
        bench.host.typed.extend([b"*1\r\n$1\r\nc\r\n".to_vec(), b"*1\r\n$1\r\nc\r\n".to_vec()]);
        let id = bench.engine.prepare(script.as_bytes()).expect("it is a script");
        let mut out = Vec::new();
        bench.engine.debug(id, none, none, &mut bench.host, &mut Reply::new(&mut out, Protocol::Resp2));
        let stop = format!("+* Stopped at {line}, stop reason = timeout reached, infinite loop?\n");
        assert_eq!(bench.host.seen.matches(&stop).count(), 2, "{}", bench.host.seen);
        let out = String::from_utf8_lossy(&out).into_owned();
        assert!(out.contains("-ERR script aborted for user request script:"), "{out}");
        assert_eq!(bench.eval("return 1"), ":1\r\n");
    }
}

#[test]
fn scripts_are_debugged() {
    let mut bench = Bench::new();
    let script = "local a = {1, {x = 'y'}}\nlocal function f(n)\n  return n + 1\nend\nredis.call('set', 'k', 'v')\nlocal b = f(1)\nredis.debug(a, b)\nredis.breakpoint()\nreturn b\n";
    let commands = [
        "s", "b 3", "c", "t", "p n", "b -3", "s", "s", "p", "c", "e a", "e 1 + 1", "r get k", "r nosuch",
        "m 0", "b", "l 1 0", "foo", "p KEYS", "c",
    ];
    let encode = |command: &str| {
        let words: Vec<&str> = command.split(' ').collect();
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        bytes
    };
    // Input in pieces, as a connection may deliver it.
    for command in commands {
        let bytes = encode(command);
        let (a, b) = bytes.split_at(bytes.len() / 2);
        bench.host.typed.extend([a.to_vec(), b.to_vec()]);
    }
    let id = bench.engine.prepare(script.as_bytes()).expect("it is a script");
    let mut out = Vec::new();
    let none = Args::new(b"", &[], &[]);
    bench.engine.debug(id, none, none, &mut bench.host, &mut Reply::new(&mut out, Protocol::Resp2));
    let seen = &bench.host.seen;
    for line in [
        "+* Stopped at 1, stop reason = step over\n+-> 1   local a = {1, {x = 'y'}}\n",
        "+   2   local function f(n)\n+  #3     return n + 1\n+-> 4   end\n",
        "+* Stopped at 3, stop reason = break point\n+->#3     return n + 1\n",
        "+In f:\n+->#3     return n + 1\n+From top level:\n+   6   local b = f(1)\n",
        "+<value> 1\n",
        "+Breakpoint removed.\n",
        "+<value> a = {1; {[\"x\"]=\"y\"}}\n",
        "+<debug> line 7: {1; {[\"x\"]=\"y\"}}, 2\n+* Stopped at 8, stop reason = step over\n",
        "+* Stopped at 9, stop reason = redis.breakpoint() called\n+-> 9   return b\n",
        "+<error> ldb_eval:1: Script attempted to access nonexistent global variable 'a'\n",
        "+<retval> 2\n",
        "+<redis> get k\n+<reply> \"v\"\n",
        "+<redis> nosuch\n+<error> Unknown Redis command called from script\n",
        "+<value> replies are unlimited.\n",
        "+No breakpoints set. Use 'b <line>' to add one.\n",
        "+<error> Unknown Redis Lua debugger command or wrong number of arguments.\n",
        "+<value> {}\n",
    ] {
        assert!(seen.contains(line), "{line}\nis not in\n{seen}");
    }
    assert_eq!(out, b"*1\r\n+<endsession>\r\n:2\r\n");
    // The client may abort the script, disconnect, or send invalid input.
    let mut ends = |input: Option<&[u8]>, text: &str| {
        bench.host.typed.clear();
        bench.host.typed.extend(input.map(<[u8]>::to_vec));
        let id = bench.engine.prepare(b"return 1").expect("it is a script");
        let mut out = Vec::new();
        bench.engine.debug(id, none, none, &mut bench.host, &mut Reply::new(&mut out, Protocol::Resp2));
        let out = String::from_utf8_lossy(&out).into_owned();
        assert!(out.starts_with(&format!("*1\r\n+<endsession>\r\n{text}")), "{out}");
    };
    ends(Some(b"*1\r\n$1\r\na\r\n"), "-ERR script aborted for user request script:");
    ends(Some(b"s\r\n"), "-ERR protocol error script:");
    ends(Some(b"*1\r\n$-7\r\n"), "-ERR protocol error script:");
    ends(Some(b"*100000\r\n"), "-ERR protocol error script:");
    ends(None, ":1\r\n");
    assert_eq!(bench.eval("return {redis.breakpoint(), 5}"), "*2\r\n$-1\r\n:5\r\n");
}

#[test]
#[ignore = "prints times"]
fn speed() {
    let mut bench = Bench::new();
    bench.host.keys.insert(b"k".to_vec(), b"value".to_vec());
    let json = "local s = ARGV_TEXT for i = 1, 100 do cjson.encode(cjson.decode(s)) end";
    let text = format!(
        "'{{{}}}'",
        (0..20).map(|i| format!("\"key{i}\":[{i},\"some text\",true]")).collect::<Vec<_>>().join(",")
    );
    let json = json.replace("ARGV_TEXT", &text);
    let pack = format!(
        "local s = cmsgpack.pack(cjson.decode({text})) for i = 1, 100 do cmsgpack.pack(cmsgpack.unpack(s)) end"
    );
    for (name, script, times, per) in [
        ("empty", "return 1", 200_000, 1),
        ("get", "return redis.call('get', KEYS[1])", 200_000, 1),
        ("ten gets", "for i = 1, 10 do redis.call('get', KEYS[1]) end", 50_000, 10),
        ("loop 10,000", "local s = 0 for i = 1, 10000 do s = s + i end return s", 500, 1),
        (
            "200 tables",
            "local t = {} for i = 1, 200 do t[i] = {a = i, b = i} end local s = 0 for i = 1, 200 do s = s + t[i].a + t[i].b end return s",
            2000,
            1,
        ),
        ("cjson decode and encode of 0.5 KB", &json, 200, 100),
        ("cmsgpack the same", &pack, 200, 100),
        (
            "find and gsub",
            "local s = 'hello world from lua' for i = 1, 100 do s:find('w(%a+)') s:gsub('o', '0') end",
            1000,
            100,
        ),
        ("insert", "local t = {} for i = 1, 1000 do table.insert(t, i) end", 500, 1000),
        ("pcall", "local f = function() end for i = 1, 1000 do pcall(f) end", 500, 1000),
    ] {
        let bytes = b"k";
        let spans = [Span::within(0, 1)];
        let keys = Args::new(bytes, &spans, &[]);
        let begun = lua::c_text::processor_seconds();
        let mut out = Vec::new();
        for _ in 0..times {
            out.clear();
            let id = bench.engine.prepare(script.as_bytes()).expect("it is a script");
            bench.engine.run(
                id,
                keys,
                keys.rest(1),
                &mut bench.host,
                &mut Reply::new(&mut out, Protocol::Resp2),
            );
        }
        let spent = Duration::from_secs_f64(lua::c_text::processor_seconds() - begun);
        println!("{name}: {:?} {}", spent / times / per, String::from_utf8_lossy(&out).trim());
    }
}
