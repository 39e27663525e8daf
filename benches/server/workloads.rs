//! Tables of workloads, of data whose memory is measured, and of pauses.
//!
//! To add a workload, add a line to [`cases`]: its name, its data, and a function that writes its requests.

use std::cell::Cell;
use std::rc::Rc;

use spinel::resp::request::write_request;
use spinel::stdx::clock;
use spinel::stdx::rng::Rng;

use crate::load::CHANNEL;

/// Appends the request with the given number; random choices come from the generator.
pub type Write = Rc<dyn Fn(&mut Vec<u8>, &mut Rng, u64)>;

/// Data loaded before a measurement.
#[derive(Default)]
pub struct Data {
    /// Options of the servers.
    pub options: Vec<&'static str>,
    pub fills: Vec<Fill>,
    /// Whether requests depend on those before them, so that a single connection sends them.
    pub in_order: bool,
}

/// Requests that load data.
pub struct Fill {
    pub requests: u64,
    pub write: Write,
}

/// A workload.
pub struct Case {
    pub name: String,
    /// Requests that each connection sends at once.
    pub pipeline: u64,
    /// Data of the case. Servers are restarted for a case whose data differ from those of the previous case.
    pub data: Rc<Data>,
    /// Requests per measurement.
    pub requests: u64,
    /// Replies per request: one request here may be several for the server.
    pub replies: u64,
    pub listeners: usize,
    /// Number of connections that wait for entries of streams that nobody writes to.
    pub readers: usize,
    pub write: Write,
}

/// Extent of the measurements.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Size {
    /// A few minutes.
    Quick,
    /// About an hour: all pipelines, value sizes, key spaces and kinds of persistence.
    Full,
}

const MILLION: u64 = 1_000_000;

/// Appends a request.
macro_rules! request {
    ($out:expr, $($arg:expr),+ $(,)?) => {
        write_request($out, [$(AsRef::<[u8]>::as_ref(&$arg)),+].into_iter())
    };
}

/// Wraps a function that writes requests.
pub fn write(write: impl Fn(&mut Vec<u8>, &mut Rng, u64) + 'static) -> Write {
    Rc::new(write)
}

/// A key of 16 bytes.
fn key(number: u64) -> String {
    format!("key:{number:012}")
}

fn data(fills: impl IntoIterator<Item = (u64, Write)>) -> Rc<Data> {
    data_with(&[], fills)
}

fn data_with(options: &[&'static str], fills: impl IntoIterator<Item = (u64, Write)>) -> Rc<Data> {
    let fills = fills.into_iter().map(|(requests, write)| Fill { requests, write }).collect();
    Rc::new(Data { options: options.to_vec(), fills, in_order: false })
}

/// Data of which requests depend on those before them: entries of streams whose ids are given have to ascend.
fn data_in_order(fills: impl IntoIterator<Item = (u64, Write)>) -> Data {
    let fills = fills.into_iter().map(|(requests, write)| Fill { requests, write }).collect();
    Data { options: Vec::new(), fills, in_order: true }
}

/// `keys` strings with values of `bytes` bytes.
pub fn strings(keys: u64, bytes: usize) -> (u64, Write) {
    let value = vec![b'x'; bytes];
    (keys, write(move |out, _, i| request!(out, "SET", key(i), value)))
}

/// GET of a random one of the keys that [`strings`] sets.
pub fn get(keys: u64) -> Write {
    write(move |out, rng, _| request!(out, "GET", key(rng.below(keys))))
}

fn set(keys: u64, bytes: usize) -> Write {
    let value = vec![b'y'; bytes];
    write(move |out, rng, _| request!(out, "SET", key(rng.below(keys)), value))
}

/// Collects cases.
struct Table {
    size: Size,
    cases: Vec<Case>,
}

impl Table {
    /// Adds a workload that can be repeated on the same data, once per pipeline.
    fn row(&mut self, name: &str, pipelines: &[u64], data: &Rc<Data>, cost: u64, write: &Write) {
        for &pipeline in pipelines {
            self.case(name, pipeline, Rc::clone(data), cost, write);
        }
    }

    /// Adds a workload that consumes its data, which are loaded again for each pipeline.
    fn fresh(
        &mut self,
        name: &str,
        pipelines: &[u64],
        data: impl Fn() -> Rc<Data>,
        cost: u64,
        write: &Write,
    ) {
        for &pipeline in pipelines {
            self.case(name, pipeline, data(), cost, write);
        }
    }

    /// `cost` is the work per request, relative to a GET: fewer costly requests are sent.
    fn case(&mut self, name: &str, pipeline: u64, data: Rc<Data>, cost: u64, write: &Write) {
        let cheap = match pipeline {
            1 => 50_000,
            2..50 => 400_000,
            _ => 600_000,
        };
        let requests = if self.size == Size::Full { 3 * cheap / cost } else { cheap / cost };
        self.cases.push(Case {
            name: name.to_owned(),
            pipeline,
            data,
            // Several rounds of all connections, even if the requests are few.
            requests: requests.max(pipeline * 100),
            replies: 1,
            listeners: 0,
            readers: 0,
            write: Rc::clone(write),
        });
    }

    /// The case added last.
    fn last(&mut self) -> &mut Case {
        self.cases.last_mut().expect("one was just added")
    }
}

/// All workloads of a size, in the order in which they run.
pub fn cases(size: Size) -> Vec<Case> {
    let mut table = Table { size, cases: Vec::new() };
    strings_and_keys(&mut table);
    collections(&mut table);
    streams(&mut table);
    scripts(&mut table);
    transactions_and_messages(&mut table);
    circumstances(&mut table);
    table.cases
}

fn strings_and_keys(table: &mut Table) {
    let full = table.size == Size::Full;
    let none = data([]);
    table.row("PING", &[1, 16, 100], &none, 1, &write(|out, _, _| request!(out, "PING")));

    let sizes: &[usize] = if full { &[8, 64, 512] } else { &[64] };
    let spaces: &[u64] = if full { &[1000, MILLION, 5 * MILLION] } else { &[MILLION] };
    for &keys in spaces {
        for &bytes in sizes {
            let loaded = data([strings(keys, bytes)]);
            let what = format!("{bytes} B of {}", count(keys));
            table.row(&format!("GET {what}"), &[1, 16, 100], &loaded, 1, &get(keys));
            table.row(&format!("SET {what}"), &[1, 16, 100], &loaded, 1, &set(keys, bytes));
        }
    }
    let loaded = data([strings(MILLION, 8)]);
    let missing = write(|out, rng, _| request!(out, "GET", key(MILLION + rng.below(MILLION))));
    table.row("GET of absent keys", &[16], &loaded, 1, &missing);
    let mget = write(|out, rng, _| {
        let keys: Vec<String> = (0..10).map(|_| key(rng.below(MILLION))).collect();
        write_request(
            out,
            [&b"MGET"[..]]
                .into_iter()
                .chain(keys.iter().map(String::as_bytes))
                .collect::<Vec<_>>()
                .into_iter(),
        );
    });
    table.row("MGET of 10", &[1, 16], &loaded, 6, &mget);
    let mset = write(|out, rng, _| {
        let keys: Vec<String> = (0..10).map(|_| key(rng.below(MILLION))).collect();
        let pairs = keys.iter().flat_map(|key| [key.as_bytes(), &b"12345678"[..]]);
        write_request(out, [&b"MSET"[..]].into_iter().chain(pairs).collect::<Vec<_>>().into_iter());
    });
    table.row("MSET of 10", &[1, 16], &loaded, 8, &mset);
    let expire = write(|out, rng, _| request!(out, "EXPIRE", key(rng.below(MILLION)), "10000"));
    table.row("EXPIRE", &[1, 16], &loaded, 1, &expire);
    let set_ex = write(|out, rng, _| request!(out, "SET", key(rng.below(MILLION)), "12345678", "EX", "1000"));
    table.row("SET with EX", &[1, 16, 100], &loaded, 1, &set_ex);

    let insert = write(|out, _, i| request!(out, "SET", key(i), [b'x'; 64]));
    table.fresh("SET of new keys, 64 B", &[16, 100], || data([]), 1, &insert);
    let numbers = data([(MILLION, write(|out, _, i| request!(out, "SET", key(i), i.to_string())))]);
    let incr = write(|out, rng, _| request!(out, "INCR", key(rng.below(MILLION))));
    table.row("INCR", &[1, 16, 100], &numbers, 1, &incr);

    let large = data([strings(10_000, 16 << 10)]);
    table.row("GET 16 KB", &[1, 16], &large, 4, &get(10_000));
    table.row("SET 16 KB", &[1, 16], &large, 4, &set(10_000, 16 << 10));
}

fn collections(table: &mut Table) {
    let push = write(|out, _, i| request!(out, "LPUSH", "list", format!("element:{i:08}")));
    table.fresh("LPUSH", &[1, 16, 100], || data([]), 1, &push);
    let long = || {
        data([(2 * MILLION, write(|out, _, i| request!(out, "RPUSH", "list", format!("element:{i:08}"))))])
    };
    table.fresh("LPOP", &[1, 16], long, 1, &write(|out, _, _| request!(out, "LPOP", "list")));
    let list = data([(1000, write(|out, _, i| request!(out, "RPUSH", "list", format!("element:{i:08}"))))]);
    let range = |last: &'static str| write(move |out, _, _| request!(out, "LRANGE", "list", "0", last));
    table.row("LRANGE of 100", &[1, 16], &list, 8, &range("99"));
    table.row("LRANGE of 600", &[1, 16], &list, 32, &range("599"));

    let add = write(|out, rng, _| request!(out, "SADD", "set", key(rng.below(MILLION))));
    table.fresh("SADD", &[1, 16, 100], || data([]), 1, &add);
    let set = data([
        (MILLION, write(|out, _, i| request!(out, "SADD", "set", key(i)))),
        (1000, write(|out, _, i| request!(out, "SADD", "a", format!("e{}", i * 2)))),
        (1000, write(|out, _, i| request!(out, "SADD", "b", format!("e{}", i * 3)))),
    ]);
    let is_member = write(|out, rng, _| request!(out, "SISMEMBER", "set", key(rng.below(2 * MILLION))));
    table.row("SISMEMBER", &[1, 16], &set, 1, &is_member);
    table.row("SINTER 1000 × 1000", &[1], &set, 20, &write(|out, _, _| request!(out, "SINTER", "a", "b")));

    let hset = write(|out, rng, i| request!(out, "HSET", "hash", key(rng.below(MILLION)), i.to_string()));
    table.fresh("HSET", &[1, 16, 100], || data([]), 1, &hset);
    let hash = data([
        (MILLION, write(|out, _, i| request!(out, "HSET", "hash", key(i), i.to_string()))),
        (10, write(|out, _, i| request!(out, "HSET", "small", format!("field{i}"), format!("value{i}")))),
    ]);
    let hget = write(|out, rng, _| request!(out, "HGET", "hash", key(rng.below(MILLION))));
    table.row("HGET", &[1, 16], &hash, 1, &hget);
    table.row("HGETALL of 10", &[1, 16], &hash, 2, &write(|out, _, _| request!(out, "HGETALL", "small")));

    let zadd = write(|out, rng, _| {
        request!(out, "ZADD", "zset", rng.below(MILLION).to_string(), key(rng.below(MILLION)));
    });
    table.fresh("ZADD", &[1, 16, 100], || data([]), 2, &zadd);
    let zset = || {
        data([(
            MILLION,
            write(|out, rng, i| request!(out, "ZADD", "zset", rng.below(MILLION).to_string(), key(i))),
        )])
    };
    let shared = zset();
    let rank = write(|out, rng, _| request!(out, "ZRANK", "zset", key(rng.below(MILLION))));
    table.row("ZRANK", &[1, 16], &shared, 3, &rank);
    let zrange = write(|out, rng, _| {
        let start = rng.below(MILLION - 100);
        request!(out, "ZRANGE", "zset", start.to_string(), (start + 9).to_string());
    });
    table.row("ZRANGE of 10", &[1, 16], &shared, 4, &zrange);
    table.fresh("ZPOPMIN", &[1, 16], zset, 1, &write(|out, _, _| request!(out, "ZPOPMIN", "zset")));
}

/// An id of a stream, with the milliseconds of a day in 2023.
fn id(number: u64) -> String {
    format!("{}-0", 1_700_000_000_000 + number)
}

/// `entries` entries of two fields with the ids of [`id`].
fn entries(entries: u64) -> (u64, Write) {
    (
        entries,
        write(|out, _, i| request!(out, "XADD", "stream", id(i), "name", format!("v{i:07}"), "n", "12")),
    )
}

/// A stream with a group, and what else `rest` does to it.
fn stream_with_group(length: u64, rest: impl IntoIterator<Item = (u64, Write)>) -> Data {
    let group = (1, write(|out, _, _| request!(out, "XGROUP", "CREATE", "stream", "group", "0")));
    data_in_order([entries(length), group].into_iter().chain(rest))
}

/// A read of up to `count` new entries in the group of [`stream_with_group`].
fn read_in_group(count: &'static str) -> Write {
    write(move |out, _, i| {
        let consumer = format!("consumer:{}", i % 10);
        request!(out, "XREADGROUP", "GROUP", "group", consumer, "COUNT", count, "STREAMS", "stream", ">");
    })
}

fn streams(table: &mut Table) {
    let full = table.size == Size::Full;
    let add = write(|out, _, i| request!(out, "XADD", "stream", "*", "name", format!("v{i:07}"), "n", "12"));
    table.fresh("XADD", &[1, 16, 100], || data([]), 1, &add);
    let capped = write(|out, _, i| {
        request!(out, "XADD", "stream", "MAXLEN", "~", "1000", "*", "name", format!("v{i:07}"), "n", "12");
    });
    table.fresh("XADD with MAXLEN ~ 1000", &[16], || data([]), 1, &capped);

    let length = 100_000;
    let stream = Rc::new(data_in_order([entries(length)]));
    let range = write(move |out, rng, _| {
        request!(out, "XRANGE", "stream", id(rng.below(length - 100)), "+", "COUNT", "100");
    });
    table.row("XRANGE of 100", &[1, 16], &stream, 16, &range);
    let read = write(move |out, rng, _| {
        request!(out, "XREAD", "COUNT", "100", "STREAMS", "stream", id(rng.below(length - 100)));
    });
    table.row("XREAD of 100", &[1, 16], &stream, 16, &read);
    let len = write(|out, _, _| request!(out, "XLEN", "stream"));
    table.row("XLEN", &[16], &stream, 1, &len);

    // As many entries as are read: the quick run sends 400,000 / 4 requests, the full one three times as many.
    let most = if full { 300_000 } else { 100_000 };
    table.fresh("XREADGROUP of 1", &[16], || Rc::new(stream_with_group(most, [])), 4, &read_in_group("1"));
    // Each request reads a hundred entries and acknowledges those of 200 requests before, so that what is
    // acknowledged was delivered whatever the order in which connections are served.
    let requests = if full { 4_000 } else { 1_200 };
    let delivered = || Rc::new(stream_with_group(100 * (requests + 200), [(200, read_in_group("100"))]));
    let read_and_acknowledge = {
        let read = read_in_group("100");
        write(move |out, rng, i| {
            read(out, rng, i);
            let ids: Vec<String> = (100 * i..100 * (i + 1)).map(id).collect();
            let args =
                [&b"XACK"[..], b"stream", b"group"].into_iter().chain(ids.iter().map(String::as_bytes));
            write_request(out, args.collect::<Vec<_>>().into_iter());
        })
    };
    table.fresh("XREADGROUP and XACK of 100", &[1], delivered, 40, &read_and_acknowledge);
    table.last().requests = requests;
    table.last().replies = 2;

    let length = if full { 1_500_000 } else { 500_000 };
    let delete = write(move |out, _, i| request!(out, "XDEL", "stream", id(i * 7919 % length)));
    table.fresh("XDEL", &[16], || Rc::new(data_in_order([entries(length)])), 1, &delete);
    let pending = Rc::new(stream_with_group(10_000, [(1000, read_in_group("1"))]));
    let summary = write(|out, _, _| request!(out, "XPENDING", "stream", "group"));
    table.row("XPENDING summary", &[16], &pending, 2, &summary);

    // Two rows of equal requests: the difference is what readers of other streams cost.
    let many = || data_with(&["--maxclients", "15000"], []);
    table.fresh("XADD, nobody waits", &[16], many, 1, &add);
    table.fresh("XADD, 10 k readers of other streams wait", &[16], many, 1, &add);
    table.last().readers = 10_000;
}

/// A script and its SHA-1 digest in hexadecimal.
struct Script {
    text: &'static str,
    sha: &'static str,
}

/// Reads a key.
const GET: Script =
    Script { text: "return redis.call('GET', KEYS[1])", sha: "d3c21d0c2b9ca22f82737626a27bcaf5d288f99f" };
/// Calls ten commands.
const TEN: Script = Script {
    text: "local n for i = 1, 10 do n = redis.call('INCR', KEYS[1]) end return n",
    sha: "18634e55a39b734ffcd317a27edc02243fb25def",
};
/// Counts requests of a client, and says whether there are too many.
const LIMIT: Script = Script {
    text: "local n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('PEXPIRE', KEYS[1], \
            ARGV[1]) end if n > tonumber(ARGV[2]) then return 0 end return 1",
    sha: "d68405144952e77fe139ddfa860b357ae6eecfa9",
};
/// Runs ten thousand steps of arithmetic.
const LOOP: Script = Script {
    text: "local sum = 0 for i = 1, 10000 do sum = sum + i % 7 end return sum",
    sha: "a954ec9ae53434abf5d638a2e514cbadd3c27ed2",
};
/// Builds two hundred tables.
const OBJECTS: Script = Script {
    text: "local all = {} for i = 1, 200 do all[i] = {id = i, name = 'name' .. i} end return \
            #all",
    sha: "23223ae5c23dbc8eb80540e621b2e1d743f73f3e",
};
/// Decodes JSON and encodes it again.
const JSON: Script = Script {
    text: "return #cjson.encode(cjson.decode(ARGV[1]))",
    sha: "3ac4b72bebdbb0fbfc912cb67b5def9f12d288a9",
};
/// Packs and unpacks with MessagePack.
const PACK: Script = Script {
    text: "return #cmsgpack.pack(cmsgpack.unpack(cmsgpack.pack(cjson.decode(ARGV[1]))))",
    sha: "7858bb7027b2ab8bd964264f9069bc8c892b5cb9",
};

/// JSON of half a kilobyte.
fn json() -> String {
    let item = |i: u64| format!(r#"{{"id":{i},"name":"item number {i}","price":{i}.5,"tags":["a","b"]}}"#);
    format!(r#"{{"order":17,"items":[{}]}}"#, (0..8).map(item).collect::<Vec<_>>().join(","))
}

fn scripts(table: &mut Table) {
    let load =
        |script: &'static Script| (1, write(move |out, _, _| request!(out, "SCRIPT", "LOAD", script.text)));
    let library = "#!lua name=bench\n\
                   redis.register_function('read', function(keys) return redis.call('GET', keys[1]) end)";
    let function = (1, write(move |out, _, _| request!(out, "FUNCTION", "LOAD", library)));
    let all = [&GET, &TEN, &LIMIT, &LOOP, &OBJECTS, &JSON, &PACK].map(load);
    let loaded = data([strings(MILLION, 8), function].into_iter().chain(all));
    let on_key = |script: &'static Script, prefix: &'static str, keys: u64| {
        write(move |out, rng, _| {
            request!(
                out,
                "EVALSHA",
                script.sha,
                "1",
                format!("{prefix}:{:012}", rng.below(keys)),
                "60000",
                "1000000"
            );
        })
    };
    table.row("EVALSHA of a GET", &[1, 16], &loaded, 3, &on_key(&GET, "key", MILLION));
    let call = write(|out, rng, _| request!(out, "FCALL", "read", "1", key(rng.below(MILLION))));
    table.row("FCALL of a GET", &[1, 16], &loaded, 3, &call);
    table.row("EVALSHA of 10 INCR", &[1, 16], &loaded, 10, &on_key(&TEN, "counter", 1000));
    table.row("EVALSHA of a rate limiter", &[1, 16], &loaded, 4, &on_key(&LIMIT, "limit", 1000));
    let alone = |script: &'static Script| write(move |out, _, _| request!(out, "EVALSHA", script.sha, "0"));
    table.row("EVALSHA of a loop of 10 k steps", &[1], &loaded, 40, &alone(&LOOP));
    table.row("EVALSHA of 200 tables", &[1], &loaded, 40, &alone(&OBJECTS));
    let json = json();
    for (name, script) in [("cjson", &JSON), ("cmsgpack", &PACK)] {
        let json = json.clone();
        let work = write(move |out, _, _| request!(out, "EVALSHA", script.sha, "0", json));
        table.row(&format!("EVALSHA of {name}, 0.5 KB both ways"), &[16], &loaded, 16, &work);
    }
}

fn transactions_and_messages(table: &mut Table) {
    let loaded = data([strings(MILLION, 8)]);
    let multi = write(|out, rng, _| {
        request!(out, "MULTI");
        for _ in 0..10 {
            request!(out, "INCRBY", format!("counter:{}", rng.below(1000)), "7");
        }
        request!(out, "EXEC");
    });
    for pipeline in [1, 16] {
        table.case("MULTI of 10", pipeline, Rc::clone(&loaded), 8, &multi);
        table.last().replies = 12;
    }
    let publish = write(|out, _, i| request!(out, "PUBLISH", CHANNEL, format!("message:{i:08}")));
    table.case("PUBLISH to 100", 1, data([]), 16, &publish);
    table.last().listeners = 100;
}

/// GET and SET under additional conditions: persistence, and a memory limit.
fn circumstances(table: &mut Table) {
    let pipelines: &[u64] = if table.size == Size::Full { &[1, 16, 100] } else { &[16] };
    for (name, options) in [
        ("maxmemory", &["--maxmemory", "4gb", "--maxmemory-policy", "allkeys-lru"][..]),
        ("AOF everysec", &["--appendonly", "yes", "--appendfsync", "everysec"]),
        ("AOF always", &["--appendonly", "yes", "--appendfsync", "always"]),
    ] {
        let loaded = data_with(options, [strings(MILLION, 64)]);
        table.row(&format!("GET, {name}"), pipelines, &loaded, 1, &get(MILLION));
        table.row(&format!("SET, {name}"), pipelines, &loaded, 1, &set(MILLION, 64));
    }
}

fn count(number: u64) -> String {
    match number {
        MILLION.. => format!("{} M", number / MILLION),
        1000.. => format!("{} k", number / 1000),
        _ => number.to_string(),
    }
}

/// Data whose memory is measured.
pub struct Items {
    pub name: String,
    pub count: u64,
    /// What is there before, and is not counted.
    pub base: Data,
    /// Adds an item.
    pub load: Write,
    /// Requests that replace an item by one of about the same size, and that delete it, if items are changed one by
    /// one.
    pub churn: Option<[Write; 2]>,
}

/// Rows of the memory table. Each gives the bytes per item.
pub fn items(size: Size) -> Vec<Items> {
    let mut rows = Vec::new();
    let mut row = |name: &str, count: u64, load: Write, churn: Option<[Write; 2]>| {
        rows.push(Items { name: name.to_owned(), count, base: Data::default(), load, churn });
    };
    let value = |i: u64| format!("v{i:07}");
    let delete = || write(|out, _, i| request!(out, "DEL", key(i)));
    let set_anew = || write(|out, rng, i| request!(out, "SET", key(i), vec![b'z'; 1 + rng.index(16)]));
    let spaces: &[u64] = if size == Size::Full { &[MILLION, 5 * MILLION] } else { &[MILLION] };
    for &keys in spaces {
        let name = format!("{} strings: key 16 B, value 8 B", count(keys));
        row(
            &name,
            keys,
            write(move |out, _, i| request!(out, "SET", key(i), value(i))),
            Some([set_anew(), delete()]),
        );
    }
    row("… value an integer", MILLION, write(|out, _, i| request!(out, "SET", key(i), i.to_string())), None);
    row("… value 64 B", MILLION, strings(MILLION, 64).1, None);
    row("… value 1000 B", MILLION / 5, strings(MILLION / 5, 1000).1, None);
    row(
        "… value 8 B, with a time to live",
        MILLION,
        write(move |out, _, i| request!(out, "SET", key(i), value(i), "EX", "100000")),
        Some([write(move |out, _, i| request!(out, "SET", key(i), value(i + 1), "EX", "200000")), delete()]),
    );
    row(
        "hash of 10 small fields",
        MILLION / 10,
        write(|out, _, i| {
            write_request(
                out,
                fields("HSET", &format!("h:{i:010}"), (0..10).map(|j| (format!("f{j}"), format!("v{i:06}"))))
                    .iter(),
            );
        }),
        None,
    );
    row(
        "one hash of 1 M fields",
        MILLION,
        write(move |out, _, i| request!(out, "HSET", "big", format!("field:{i:010}"), value(i))),
        Some([
            write(move |out, _, i| request!(out, "HSET", "big", format!("field:{i:010}"), value(i + 1))),
            write(|out, _, i| request!(out, "HDEL", "big", format!("field:{i:010}"))),
        ]),
    );
    row(
        "one set of 1 M strings",
        MILLION,
        write(|out, _, i| request!(out, "SADD", "big", format!("member:{i:09}"))),
        Some([
            write(|out, _, i| request!(out, "SADD", "big", format!("member:{i:09}"))),
            write(|out, _, i| request!(out, "SREM", "big", format!("member:{i:09}"))),
        ]),
    );
    row(
        "set of 100 integers",
        MILLION / 50,
        write(|out, _, i| {
            let numbers = (i..i + 100).map(|n| n.to_string());
            let args: Vec<String> =
                ["SADD".to_owned(), format!("s:{i:010}")].into_iter().chain(numbers).collect();
            write_request(out, args.iter().map(String::as_bytes));
        }),
        None,
    );
    row(
        "one sorted set of 1 M members",
        MILLION,
        write(|out, _, i| {
            request!(out, "ZADD", "big", (i * 7919 % MILLION).to_string(), format!("member:{i:09}"))
        }),
        Some([
            write(|out, rng, i| {
                request!(out, "ZADD", "big", rng.below(MILLION).to_string(), format!("member:{i:09}"));
            }),
            write(|out, _, i| request!(out, "ZREM", "big", format!("member:{i:09}"))),
        ]),
    );
    row(
        "sorted set of 50 members",
        MILLION / 50,
        write(|out, _, i| {
            let members = (0..50).map(|j| (j.to_string(), format!("m{j:06}")));
            write_request(out, fields("ZADD", &format!("z:{i:010}"), members).iter());
        }),
        None,
    );
    row(
        "one list of 1 M elements",
        MILLION,
        write(|out, _, i| request!(out, "RPUSH", "big", format!("element:{i:08}"))),
        None,
    );
    row(
        "one stream of 1 M entries of two short fields",
        MILLION,
        write(move |out, _, i| request!(out, "XADD", "stream", "*", "name", value(i), "n", "12")),
        None,
    );
    row("… entries pending for one of ten consumers", MILLION, read_in_group("1"), None);
    if let Some(pending) = rows.last_mut() {
        pending.base = stream_with_group(MILLION, []);
    }
    rows
}

/// Arguments of a request with pairs after the key.
struct Pairs(Vec<String>);

impl Pairs {
    fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(String::as_bytes)
    }
}

fn fields(command: &str, key: &str, pairs: impl Iterator<Item = (String, String)>) -> Pairs {
    let mut args = vec![command.to_owned(), key.to_owned()];
    args.extend(pairs.flat_map(|(a, b)| [a, b]));
    Pairs(args)
}

/// Number of keys loaded from a snapshot.
pub const LOADED: u64 = 5 * MILLION;

/// A period in which a server has a large task, while one connection requests a key again and again.
pub struct Pause {
    pub name: &'static str,
    pub data: Data,
    pub during: During,
}

/// The task of a pause.
pub enum During {
    /// Other connections send this many of these requests.
    Requests(u64, Write),
    /// This request is sent first; other connections write until INFO reports `field` as 0 again.
    Until { request: &'static [&'static str], field: &'static str, write: Write },
    /// This request is sent, unless it is empty, and then this many milliseconds pass.
    Wait { request: &'static [&'static str], ms: u64 },
}

/// Time to live, in milliseconds from the start of loading, of keys that expire at once.
const EXPIRING_MS: u64 = 8_000;

/// Keys that all expire in the same millisecond.
fn expiring_at_once() -> Write {
    let deadline = Cell::new(0);
    write(move |out, _, i| {
        if i == 0 {
            deadline.set(clock::now_ms() + EXPIRING_MS as i64);
        }
        request!(out, "SET", key(i), "12345678", "PXAT", deadline.get().to_string());
    })
}

/// Rows of the table of pauses.
pub fn pauses() -> Vec<Pause> {
    let keys = 5 * MILLION;
    let load = |fills: Vec<(u64, Write)>| Data {
        fills: fills.into_iter().map(|(requests, write)| Fill { requests, write }).collect(),
        ..Data::default()
    };
    let probed = || (1, write(|out, _, _| request!(out, "SET", "probe", "value")));
    vec![
        Pause {
            name: "5 M keys are added",
            data: load(vec![probed()]),
            during: During::Requests(keys, strings(keys, 8).1),
        },
        Pause {
            name: "BGSAVE of 1 M keys under writes",
            data: load(vec![probed(), strings(MILLION, 64)]),
            during: During::Until {
                request: &["BGSAVE"],
                field: "rdb_bgsave_in_progress",
                write: set(MILLION, 64),
            },
        },
        Pause {
            name: "1 M keys expire at once",
            data: load(vec![probed(), (MILLION, expiring_at_once())]),
            during: During::Wait { request: &[], ms: EXPIRING_MS },
        },
        Pause {
            name: "UNLINK of a set of 1 M members",
            data: load(vec![probed(), (MILLION, write(|out, _, i| request!(out, "SADD", "big", key(i))))]),
            during: During::Wait { request: &["UNLINK", "big"], ms: 1000 },
        },
        Pause {
            name: "DEL of a set of 1 M members",
            data: load(vec![probed(), (MILLION, write(|out, _, i| request!(out, "SADD", "big", key(i))))]),
            during: During::Wait { request: &["DEL", "big"], ms: 1000 },
        },
    ]
}
