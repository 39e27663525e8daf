//! DEBUG: inspecting internals and provoking rare events, for tests. Refused unless the configuration allows it.

use std::ffi::CString;

use sha1::{Digest, Sha1};

use super::debug_cluster;
use super::help::help;
use crate::clients::ClientKey;
use crate::config::rewrite::Scope;
use crate::keyspace::{Database, Entry, Key, Ttl};
use crate::resp::{Args, Error, Protocol, Replied};
use crate::server::command::{CmdResult, Docs, Flags, Group, Spec};
use crate::server::event_loop::ReplyBuffers;
use crate::server::{Server, process::crash};
use crate::stdx::{alloc, glob, num};
use crate::structures::dict::{Stats, TableStats};
use crate::types::string::StringRef;
use crate::types::{Hash, Kind, Limits, Part, Value};

/// Table entries of the DEBUG command.
pub const COMMANDS: &[Spec] = &[DEBUG];

const DEBUG: Spec = Spec::admin("debug", -2, debug)
    .flags(
        Flags::ADMIN
            .with(Flags::NOSCRIPT)
            .with(Flags::LOADING)
            .with(Flags::STALE)
            .with(Flags::PROTECTED)
            // Others may be served while a file is loaded: nothing that was read before is left to be executed.
            .with(Flags::BARRIER),
    )
    .docs(Docs {
        summary: "Tools for testing the server.",
        since: "1.0.0",
        complexity: "That of the subcommand.",
        group: Group::Server,
        internal: true,
        ..Docs::NONE
    });

const NOT_ALLOWED: &str = concat!(
    "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a ",
    "local connection, otherwise you need to set this option in the configuration file, and then restart the server."
);

type Handler = fn(&mut Server, ClientKey, Args<'_>) -> CmdResult;

/// Name, least and largest number of arguments (including both names), handler.
const SUBCOMMANDS: &[(&str, usize, usize, Handler)] = &[
    ("AOF-FLUSH-SLEEP", 3, 3, aof_flush_sleep),
    ("ASSERT", 2, usize::MAX, fail_assertion),
    ("CHANGE-REPL-ID", 2, 2, change_repl_id),
    ("CLUSTERLINK", 5, 5, debug_cluster::kill_links),
    ("CONFIG-REWRITE-FORCE-ALL", 2, 2, rewrite_config),
    ("DEFRAGMENT", 2, 2, defragment),
    ("DIGEST", 2, 2, digest),
    ("DIGEST-VALUE", 2, usize::MAX, digest_value),
    ("DROP-CLUSTER-PACKET-FILTER", 3, 3, debug_cluster::drop_packets),
    ("ERROR", 3, 3, error),
    ("HELP", 2, 2, help_text),
    ("HTSTATS", 3, 4, htstats),
    ("HTSTATS-KEY", 3, 4, htstats_key),
    ("LISTPACK", 3, 3, listpack),
    ("LOADAOF", 2, 2, load_aof),
    ("LOG", 3, 3, log),
    ("MALLCTL", 3, 3, mallctl),
    ("MALLCTL-STR", 3, 4, mallctl_str),
    ("OBJECT", 3, 4, object),
    ("PANIC", 2, usize::MAX, panic),
    ("PAUSE-CRON", 3, 3, pause_cron),
    ("POPULATE", 3, 5, populate),
    ("PROTOCOL", 3, 3, protocol),
    ("QUICKLIST-PACKED-THRESHOLD", 3, 3, packed_threshold),
    ("RELOAD", 2, usize::MAX, reload),
    ("REPLICATE", 3, usize::MAX, replicate),
    ("REPLYBUFFER", 4, 4, reply_buffer),
    ("SEGFAULT", 2, usize::MAX, segfault),
    ("SET-ACTIVE-EXPIRE", 3, 3, set_active_expire),
    ("SET-DISABLE-DENY-SCRIPTS", 3, 3, set_disable_deny_scripts),
    ("SET-SKIP-CHECKSUM-VALIDATION", 3, 3, set_skip_checksums),
    ("SLEEP", 3, 3, sleep),
    ("STRINGMATCH-LEN", 4, 4, stringmatch_len),
];

/// DEBUG subcommand [argument …] → the reply of the subcommand.
fn debug(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let local = server.clients[key].io.peer.is_local();
    if !server.config.security.enable_debug_command.admits(local) {
        return Err(Error::text(NOT_ALLOWED));
    }
    let found = SUBCOMMANDS
        .iter()
        .find(|(name, least, most, _)| args.is(1, name) && (*least..=*most).contains(&args.len()));
    match found {
        Some((.., handler)) => handler(server, key, args),
        None => {
            let name = args.at(1);
            let name = &name[..name.len().min(128)];
            Err(Error::quoting(&[
                b"ERR unknown subcommand or wrong number of arguments for '",
                name,
                b"'. Try DEBUG HELP.",
            ]))
        }
    }
}

/// DEBUG SLEEP seconds → OK, after the whole server has slept for that time.
fn sleep(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    // Text that is not a number counts as 0.
    let seconds = num::parse_f64(args.at(2)).unwrap_or(0.0).clamp(0.0, 1e6);
    std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
    Ok(server.reply(key).ok())
}

/// DEBUG REPLICATE command [argument …] → OK, after replicas have been sent the command, whatever it is.
fn replicate(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let db = server.clients[key].db;
    server.pass_on_to_replicas(db, &args.rest(2));
    Ok(server.reply(key).ok())
}

/// DEBUG SET-ACTIVE-EXPIRE 0|1 → OK. With 0, due keys are removed only on access.
fn set_active_expire(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    server.expire.paused = num::parse_i64(args.at(2)).unwrap_or(0) == 0;
    Ok(server.reply(key).ok())
}

/// DEBUG SET-DISABLE-DENY-SCRIPTS 0|1 → OK. With 1, scripts may call any command.
fn set_disable_deny_scripts(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    server.scripts.any_command = num::parse_i64(args.at(2)).unwrap_or(0) != 0;
    Ok(server.reply(key).ok())
}

/// DEBUG SET-SKIP-CHECKSUM-VALIDATION 0|1 → OK. With 1, RESTORE does not verify checksums.
fn set_skip_checksums(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    server.persistence.skip_checksums = num::parse_i64(args.at(2)).unwrap_or(0) != 0;
    Ok(server.reply(key).ok())
}

/// Refuses during loading, for incomplete data must neither be saved nor mixed with other data, and inside of scripts.
fn refuse_to_load(server: &Server) -> Result<(), Error> {
    server.scripts.refuse_while_running()?;
    match server.persistence.loading {
        None => Ok(()),
        Some(_) => Err(Error::text("LOADING Redis is loading the dataset in memory")),
    }
}

/// DEBUG RELOAD [MERGE] [NOFLUSH] [NOSAVE] → OK, after the data have been saved, removed and loaded.
fn reload(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let (mut save, mut flush, mut merge) = (true, true, false);
    for i in 2..args.len() {
        if args.is(i, "MERGE") {
            merge = true;
        } else if args.is(i, "NOFLUSH") {
            flush = false;
        } else if args.is(i, "NOSAVE") {
            save = false;
        } else {
            return Err(Error::text("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options."));
        }
    }
    refuse_to_load(server)?;
    if save {
        server.save_now().map_err(|_| Error::text("ERR"))?;
    }
    let dirty = server.keyspace.ledger.dirty;
    // Without a file, the data stay as they are.
    if let Err(error) = std::fs::File::open(&server.config.persistence.dbfilename) {
        tracing::warn!("Can't open the RDB file for DEBUG RELOAD: {}", crate::net::error_text(&error));
        return Err(Error::text("ERR Error trying to load the RDB dump, check server logs."));
    }
    if flush {
        server.keyspace.flush(None, false);
        server.scripts.forget_libraries();
    }
    let path = std::path::PathBuf::from(&server.config.persistence.dbfilename);
    let loaded = server.load_rdb(&path, merge, |_| Ok(()));
    // The data are unchanged, so the number of unsaved changes is too.
    server.keyspace.ledger.dirty = dirty;
    if let Err(failure) = loaded {
        tracing::warn!("{failure}");
        return Err(Error::text("ERR Error trying to load the RDB dump, check server logs."));
    }
    tracing::warn!("DB reloaded by DEBUG RELOAD");
    Ok(server.reply(key).ok())
}

/// DEBUG LOADAOF → OK, after the data have been removed and loaded from the append-only file.
fn load_aof(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    refuse_to_load(server)?;
    if !server.aof.has_files() {
        return Err(Error::text("ERR Error trying to load the AOF files, check server logs."));
    }
    // Commands executed before, in the same transaction or alone, must be in the file that is loaded.
    server.settle_aof();
    server.keyspace.flush(None, false);
    server.scripts.forget_libraries();
    let loaded = server.load_aof(&mut |server| {
        server.defragment_while_loading();
        Ok(())
    });
    // All data come from the file.
    server.keyspace.ledger.dirty = 0;
    if !matches!(loaded, Ok(true)) {
        if let Err(error) = loaded {
            tracing::warn!("{error}");
        }
        return Err(Error::text("ERR Error trying to load the AOF files, check server logs."));
    }
    tracing::warn!("Append Only File loaded by DEBUG LOADAOF");
    Ok(server.reply(key).ok())
}

/// DEBUG AOF-FLUSH-SLEEP microseconds → OK. Delays each write to the append-only file by that time.
fn aof_flush_sleep(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    server.aof.log.write_delay_us = u64::try_from(args.int(2)?).unwrap_or(0);
    Ok(server.reply(key).ok())
}

/// DEBUG PAUSE-CRON 0|1 → OK. With 1, the timer does nothing.
fn pause_cron(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    server.event_loop.cron_paused = num::parse_i64(args.at(2)).unwrap_or(0) != 0;
    Ok(server.reply(key).ok())
}

/// DEBUG REPLYBUFFER PEAK-RESET-TIME ms|NEVER|RESET, or RESIZING 0|1 → OK. Controls when reply buffers are resized.
fn reply_buffer(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let buffers = &mut server.event_loop.reply_buffers;
    if args.is(2, "PEAK-RESET-TIME") {
        buffers.peak_reset_ms = match () {
            () if args.is(3, "NEVER") => None,
            () if args.is(3, "RESET") => ReplyBuffers::default().peak_reset_ms,
            () => Some(args.int(3)?),
        };
    } else if args.is(2, "RESIZING") {
        buffers.resizing = num::parse_i64(args.at(3)).unwrap_or(0) != 0;
    } else {
        return Err(Error::Syntax);
    }
    Ok(server.reply(key).ok())
}

/// DEBUG CHANGE-REPL-ID → OK. Gives the data a new replication ID.
fn change_repl_id(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    tracing::info!("Changing the replication IDs after DEBUG CHANGE-REPL-ID");
    server.change_replication_id();
    Ok(server.reply(key).ok())
}

/// DEBUG CONFIG-REWRITE-FORCE-ALL → OK, once the configuration file contains every parameter.
fn rewrite_config(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    server.rewrite_config(Scope::Everything)?;
    Ok(server.reply(key).ok())
}

/// DEBUG ERROR text → the text as an error.
fn error(_: &mut Server, _: ClientKey, args: Args<'_>) -> CmdResult {
    Err(Error::quoting(&[args.at(2)]))
}

/// DEBUG LOG text → OK. Writes the text to the log.
fn log(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    tracing::warn!("DEBUG LOG: {}", crate::stdx::text::Lossy(args.at(2)));
    Ok(server.reply(key).ok())
}

/// DEBUG STRINGMATCH-LEN length pattern → whether a text of `length` letters `a` matches the pattern.
fn stringmatch_len(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let len = args.int(2)?.clamp(0, 512 << 20) as usize;
    let text = vec![b'a'; len];
    let matched = glob::matches(args.at(3), &text);
    Ok(server.reply(key).int(matched.into()))
}

/// DEBUG QUICKLIST-PACKED-THRESHOLD bytes → OK. List elements of that size and above get a node of their own.
fn packed_threshold(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let bytes = num::parse_memory(args.at(2)).filter(|&bytes| bytes < 4 << 30).ok_or_else(|| {
        Error::text("ERR argument must be a memory value bigger than 1 and smaller than 4gb")
    })?;
    server.config.limits.types.list_packed_threshold = match bytes {
        0 => Limits::default().list_packed_threshold,
        bytes => bytes as usize,
    };
    Ok(server.reply(key).ok())
}

/// DEBUG POPULATE count [prefix [size]] → OK. Adds `count` keys `prefix:n`, except those that exist.
fn populate(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let natural = |i: usize| match num::parse_i64(args.at(i)) {
        Some(n) if n >= 0 => Ok(n as usize),
        _ => Err(Error::NegativeCount),
    };
    let count = natural(2)?;
    let prefix = args.get(3).unwrap_or(b"key");
    let size = if args.len() > 4 { natural(4)? } else { 0 };
    if size as u64 > server.config.limits.proto_max_bulk_len {
        return Err(Error::StringTooLong);
    }
    let index = server.clients[key].db as usize;
    let mut name = prefix.to_vec();
    name.push(b':');
    let mut value = Vec::new();
    for n in 0..count {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(n).as_bytes();
        name.truncate(prefix.len() + 1);
        name.extend_from_slice(digits);
        let new_key = Key::new(&name);
        let mut db = server.keyspace.db(index);
        if db.contains(new_key) {
            continue;
        }
        value.clear();
        value.extend_from_slice(b"value:");
        value.extend_from_slice(digits);
        if size > 0 {
            value.resize(size, 0);
        }
        db.set_string(new_key, Value::Bytes(&value), Ttl::Clear);
    }
    Ok(server.reply(key).ok())
}

/// DEBUG PROTOCOL type → a sample of the RESP type.
#[allow(clippy::approx_constant)] // The sample is the number clients' tests expect.
fn protocol(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let mut reply = server.reply(key);
    let resp3 = reply.protocol() == Protocol::Resp3;
    let is = |name: &str| args.is(2, name);
    Ok(if is("string") {
        reply.bulk(b"Hello World")
    } else if is("integer") {
        reply.int(12345)
    } else if is("double") {
        reply.double(3.141)
    } else if is("bignum") {
        reply.big_number("1234567999999999999999999999999999999")
    } else if is("null") {
        reply.null()
    } else if is("array") {
        reply.array(3);
        reply.int(0);
        reply.int(1);
        reply.int(2)
    } else if is("set") {
        reply.set(3);
        reply.int(0);
        reply.int(1);
        reply.int(2)
    } else if is("map") {
        reply.map(3);
        reply.int(0);
        reply.bool(false);
        reply.int(1);
        reply.bool(true);
        reply.int(2);
        reply.bool(false)
    } else if is("attrib") {
        if resp3 {
            reply.attribute(1);
            reply.bulk(b"key-popularity");
            reply.array(2);
            reply.bulk(b"key:123");
            reply.int(90);
        }
        reply.bulk(b"Some real reply following the attribute")
    } else if is("push") {
        if !resp3 {
            return Err(Error::text("ERR RESP2 is not supported by this command"));
        }
        reply.push(2);
        reply.bulk(b"server-cpu-usage");
        reply.int(42)
    } else if is("verbatim") {
        reply.verbatim("txt", b"This is a verbatim\nstring")
    } else if is("true") {
        reply.bool(true)
    } else if is("false") {
        reply.bool(false)
    } else {
        return Err(Error::text(concat!(
            "ERR Wrong protocol type name. Please use one of the following: ",
            "string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false"
        )));
    })
}

/// DEBUG OBJECT key → one line about the stored value.
fn object(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let index = server.clients[key].db as usize;
    let access = server.keyspace.access;
    let mut db = server.keyspace.db(index);
    let entry = db.inspect_even_if_due(args.key(2)).ok_or(Error::NoSuchKey)?;
    let line = describe(&entry, access.idle_seconds(entry.access()));
    Ok(server.reply(key).simple(&line))
}

fn describe(entry: &Entry, idle_seconds: u32) -> String {
    let mut line = format!(
        "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{} lru_seconds_idle:{idle_seconds}",
        entry.key().as_ptr(),
        entry.encoding(),
        serialized_length(entry),
        entry.access(),
    );
    if let Some(collection) = entry.describe() {
        collection.details(&mut line);
    }
    line
}

/// Approximate size of the value in an uncompressed snapshot, in bytes.
fn serialized_length(entry: &Entry) -> usize {
    // A length takes 1, 2 or 5 bytes; a short integer takes one byte more than its own size.
    let text = |len: usize| {
        len + match len {
            0..64 => 1,
            64..16384 => 2,
            _ => 5,
        }
    };
    match entry.string() {
        Some(StringRef::Int(n)) if i8::try_from(n).is_ok() => 2,
        Some(StringRef::Int(n)) if i16::try_from(n).is_ok() => 3,
        Some(StringRef::Int(n)) if i32::try_from(n).is_ok() => 5,
        Some(string) => text(string.len()),
        None => {
            let mut sum = 0;
            if let Some(collection) = entry.describe() {
                collection.each_part(&mut |part| {
                    sum += match part {
                        Part::Item(item) => text(item.len()),
                        Part::Field(field, value) => text(field.len()) + text(value.len()),
                        Part::Scored(member, _) => text(member.len()) + size_of::<f64>(),
                        Part::Logged(entry) => entry
                            .fields()
                            .map(|(field, value)| text(field.to_vec().len()) + text(value.to_vec().len()))
                            .sum(),
                    };
                });
            }
            text(sum)
        }
    }
}

/// DEBUG LISTPACK key → a status if the value is a single listpack.
fn listpack(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let index = server.clients[key].db as usize;
    let encoding = server.keyspace.db(index).inspect(args.key(2)).map(|entry| entry.encoding());
    match encoding {
        None => Err(Error::NoSuchKey),
        Some("listpack") => Ok(server.reply(key).simple("Listpack structure printed on stdout")),
        Some(_) => Err(Error::text("ERR Not a listpack encoded object.")),
    }
}

/// DEBUG HTSTATS db [full] → statistics of the tables of a database, as text; always complete.
fn htstats(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let index = args.int(2)?;
    let db = usize::try_from(index).ok().and_then(|index| server.keyspace.databases().get(index));
    let db: &Database = db.ok_or_else(|| Error::text("ERR Out of range database"))?;
    let mut text = String::from("[Dictionary HT]\n");
    write_table_stats(&mut text, &db.keys().stats());
    text.push_str("[Expires HT]\n");
    write_table_stats(&mut text, &db.expires_stats());
    Ok(server.reply(key).verbatim("txt", text.as_bytes()))
}

/// DEBUG HTSTATS-KEY key [full] → statistics of the hash table of a value, as text; always complete.
fn htstats_key(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let index = server.clients[key].db as usize;
    let mut db = server.keyspace.db(index);
    let entry = db.inspect(args.key(2)).ok_or(Error::NoSuchKey)?;
    let stats = entry.describe().and_then(|collection| collection.table_stats()).ok_or_else(|| {
        Error::text("ERR The value stored at the specified key is not represented using an hash table")
    })?;
    let mut text = String::new();
    write_table_stats(&mut text, &stats);
    Ok(server.reply(key).verbatim("txt", text.as_bytes()))
}

fn write_table_stats(text: &mut String, stats: &Stats) {
    let [main, target] = &stats.tables;
    write_table(text, 0, "main hash table", main);
    if target.buckets > 0 {
        write_table(text, 1, "rehashing target", target);
    }
}

fn write_table(text: &mut String, number: usize, name: &str, table: &TableStats) {
    text.push_str(&format!("Hash table {number} stats ({name}):\n"));
    if table.elements == 0 {
        text.push_str("No stats available for empty dictionaries\n");
        return;
    }
    let used = table.buckets - table.lengths[0].min(table.buckets);
    let average = table.elements as f64 / used.max(1) as f64;
    text.push_str(&format!(
        " table size: {}\n number of elements: {}\n different slots: {used}\n max chain length: {}\n \
         avg chain length (counted): {average:.2}\n child buckets: {}\n longest chain of buckets: {}\n \
         Elements per bucket and its children:\n",
        table.buckets, table.elements, table.most_elements, table.chained, table.longest_chain,
    ));
    for (length, &count) in table.lengths.iter().enumerate().filter(|(_, count)| **count > 0) {
        let more = if length == Stats::LENGTHS - 1 { ">= " } else { "" };
        let percent = 100.0 * count as f64 / table.buckets.max(1) as f64;
        text.push_str(&format!("   {more}{length}: {count} ({percent:.2}%)\n"));
    }
}

// ---- digests ------------------------------------------------------------------------------------

/// A 160-bit digest of data: equal data have equal digests on every server with this scheme.
///
/// Ordered parts are mixed in (digest ← SHA-1(digest xor SHA-1(part))), unordered ones are xored in (digest ←
/// digest xor SHA-1(part)), so that neither the order of a hash table nor an encoding affects the digest.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct DataDigest([u8; 20]);

impl DataDigest {
    /// Adds an unordered part.
    fn add(&mut self, part: &[u8]) {
        for (byte, other) in self.0.iter_mut().zip(Sha1::digest(part)) {
            *byte ^= other;
        }
    }

    /// Adds an ordered part.
    fn mix(&mut self, part: &[u8]) {
        self.add(part);
        self.0 = Sha1::digest(self.0).into();
    }

    /// Adds a value, and whether it has an expiry.
    fn mix_entry(&mut self, entry: &Entry) {
        let kind = entry.kind();
        self.mix(&(kind as u32).to_be_bytes());
        if let Some(string) = entry.string() {
            self.mix(string.text(&mut itoa::Buffer::new()));
        } else if let Some(hash) = entry.collection::<Hash>() {
            for (field, value, expires) in hash.iter_with_expiry() {
                let mut pair = DataDigest::default();
                pair.mix(field.text(&mut itoa::Buffer::new()));
                pair.mix(value.text(&mut itoa::Buffer::new()));
                if let Some(at) = expires {
                    pair.mix(&at.0.to_be_bytes());
                }
                self.add(&pair.0);
            }
        } else if let Some(collection) = entry.describe() {
            collection.each_part(&mut |part| match part {
                Part::Item(item) if kind == Kind::List => self.mix(item),
                Part::Item(item) => self.add(item),
                Part::Field(field, value) => self.add_pair(field, value),
                Part::Scored(member, score) => {
                    self.add_pair(member, num::fmt_f64_17(score, &mut num::FloatBuf::new()));
                }
                Part::Logged(entry) => {
                    self.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
                    for (field, value) in entry.fields() {
                        self.mix(field.text(&mut itoa::Buffer::new()));
                        self.mix(value.text(&mut itoa::Buffer::new()));
                    }
                }
            });
        }
        if entry.expires().is_some() {
            self.add(b"!!expire!!");
        }
    }

    fn add_pair(&mut self, first: &[u8], second: &[u8]) {
        let mut pair = DataDigest::default();
        pair.mix(first);
        pair.mix(second);
        self.add(&pair.0);
    }

    fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// DEBUG DIGEST → digest of all data, as a status.
fn digest(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let mut whole = DataDigest::default();
    for (index, db) in server.keyspace.databases().iter().enumerate().filter(|(_, db)| !db.is_empty()) {
        whole.mix(&(index as u32).to_be_bytes());
        for entry in db.keys().iter() {
            let mut one = DataDigest::default();
            one.mix(entry.key());
            one.mix_entry(&entry);
            whole.add(&one.0);
        }
    }
    Ok(server.reply(key).simple(&whole.hex()))
}

/// DEBUG DIGEST-VALUE key … → digest of each value; zeros for missing keys.
fn digest_value(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let index = server.clients[key].db as usize;
    let keys = args.rest(2);
    let digests: Vec<String> = (0..keys.len())
        .map(|i| {
            let mut one = DataDigest::default();
            if let Some(entry) = server.keyspace.db(index).inspect(keys.key(i)) {
                one.mix_entry(&entry);
            }
            one.hex()
        })
        .collect();
    Ok::<Replied, Error>(server.reply(key).lines(&digests))
}

/// DEBUG DEFRAGMENT → number of blocks that were moved, which are all blocks of the data.
fn defragment(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    let moved = server.relocate_everything();
    Ok(server.reply(key).int(moved as i64))
}

/// DEBUG MALLCTL name → a number or a truth value of the allocator's that can only be read.
fn mallctl(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let value = CString::new(args.at(2)).ok().and_then(|name| alloc::control(&name));
    match value {
        Some(value) => Ok(server.reply(key).int(value)),
        None => Err(Error::text("ERR No such file or directory")),
    }
}

/// DEBUG MALLCTL-STR thread.tcache.flush VOID → null. Freed blocks that the thread keeps become free for all.
fn mallctl_str(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    if args.at(2) != b"thread.tcache.flush" || args.len() != 4 || !args.is(3, "VOID") {
        return Err(Error::text("ERR No such file or directory"));
    }
    alloc::release_kept_blocks();
    Ok(server.reply(key).null())
}

/// DEBUG HELP → descriptions of the subcommands.
fn help_text(server: &mut Server, key: ClientKey, _: Args<'_>) -> CmdResult {
    Ok(help(
        &mut server.reply(key),
        "DEBUG",
        &[
            ("ASSERT", "End by a failed assertion, with a crash report."),
            ("CHANGE-REPL-ID", "Begin a new replication history."),
            ("CLUSTERLINK KILL <TO|FROM|ALL> <node-id>", "Close connections of the cluster bus."),
            ("CONFIG-REWRITE-FORCE-ALL", "Write every parameter into the configuration file."),
            ("DEFRAGMENT", "Move every block of the data, and tell how many there are."),
            ("DIGEST", "40 digits that are equal where all data are equal."),
            ("DIGEST-VALUE <key> [<key> ...]", "The same of single values."),
            ("DROP-CLUSTER-PACKET-FILTER <kind>", "Ignore packets of a kind; -1: of none."),
            ("ERROR <text>", "Answer with this error."),
            ("HTSTATS <db> [full]", "How full the tables of a database are."),
            ("HTSTATS-KEY <key> [full]", "How full the hash table of a value is."),
            ("LISTPACK <key>", "Whether the value is one listpack."),
            ("LOADAOF", "Remove the data and load them from the append-only file."),
            ("LOG <text>", "Write the text to the log."),
            ("MALLCTL <name>", "A number that the allocator tells."),
            (
                "MALLCTL-STR thread.tcache.flush VOID",
                "Let the allocator keep no freed blocks for this thread.",
            ),
            ("OBJECT <key>", "Encoding, size and last access of a value."),
            ("PANIC", "End by a panic, with a crash report."),
            ("PAUSE-CRON <0|1>", "Whether nothing is done by the clock."),
            (
                "POPULATE <count> [<prefix>] [<size>]",
                "Add keys <prefix>:<number> with values of <size> bytes.",
            ),
            (
                "PROTOCOL <type>",
                "A sample of: string, integer, double, bignum, null, array, set, map,\nattrib, push, verbatim, true, false.",
            ),
            (
                "QUICKLIST-PACKED-THRESHOLD <bytes>",
                "From which size a list element gets a node of its own; 0: the usual.",
            ),
            (
                "RELOAD [MERGE] [NOFLUSH] [NOSAVE]",
                "Save all data, remove them and load them again.\nMERGE: a key that is there is replaced.",
            ),
            ("REPLICATE <command> [<argument> ...]", "Send replicas a command, as it is."),
            (
                "REPLYBUFFER PEAK-RESET-TIME <ms>|NEVER|RESET",
                "After which time the most that was written into a client's buffer is forgotten;\nRESET: the usual.",
            ),
            ("REPLYBUFFER RESIZING <0|1>", "Whether the buffers of clients follow what they need."),
            ("SEGFAULT", "End by a fault of memory access, with a crash report."),
            ("SET-ACTIVE-EXPIRE <0|1>", "Whether keys that are due are looked for."),
            ("SET-DISABLE-DENY-SCRIPTS <0|1>", "Whether scripts may call any command."),
            ("SET-SKIP-CHECKSUM-VALIDATION <0|1>", "Whether RESTORE takes any checksum."),
            ("SLEEP <seconds>", "Stand still."),
            ("STRINGMATCH-LEN <length> <pattern>", "Whether so many letters 'a' match the pattern."),
        ],
    ))
}

/// DEBUG ASSERT → the server ends with a crash report.
fn fail_assertion(_: &mut Server, _: ClientKey, args: Args<'_>) -> CmdResult {
    assert!(args.len() < 2);
    Err(Error::Syntax)
}

/// DEBUG PANIC → the server ends with a crash report.
fn panic(_: &mut Server, _: ClientKey, _: Args<'_>) -> CmdResult {
    panic!("a client asked for a panic")
}

/// DEBUG SEGFAULT → the server ends with a crash report.
fn segfault(_: &mut Server, _: ClientKey, _: Args<'_>) -> CmdResult {
    crash::segfault()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::{Harness, check_with};
    use crate::config::Config;
    use crate::config::value::DebugAccess;

    fn harness() -> Harness {
        let mut config = Config::default();
        config.security.enable_debug_command = DebugAccess::Local;
        Harness::new(config)
    }

    #[test]
    fn is_refused_unless_allowed() {
        let mut refused = Harness::default();
        assert!(refused.run("DEBUG SLEEP 0").starts_with("(error) ERR DEBUG command not allowed. If the "));
        check_with(
            &mut harness(),
            r#"
            DEBUG SLEEP 0
            DEBUG SLEEP x
            DEBUG SLEEP
            DEBUG nosuch
            DEBUG ERROR "LOUD and clear"
            DEBUG POPULATE x
            DEBUG HTSTATS 99
            DEBUG OBJECT nosuch
            DEBUG STRINGMATCH-LEN 1000 a*a*a*b
            DEBUG QUICKLIST-PACKED-THRESHOLD 4gb
            "#,
            r#"
            OK
            OK
            (error) ERR unknown subcommand or wrong number of arguments for 'SLEEP'. Try DEBUG HELP.
            (error) ERR unknown subcommand or wrong number of arguments for 'nosuch'. Try DEBUG HELP.
            (error) LOUD and clear
            (error) ERR value is out of range, must be positive
            (error) ERR Out of range database
            (error) ERR no such key
            (integer) 0
            (error) ERR argument must be a memory value bigger than 1 and smaller than 4gb
            "#,
        );
    }

    #[test]
    fn digests_are_those_of_redis() {
        // The digests come from redis-server with the same data.
        check_with(
            &mut harness(),
            r#"
            DEBUG DIGEST
            DEBUG POPULATE 3
            DEBUG POPULATE 2 pre 5
            SET k v
            DEBUG DIGEST
            DEBUG DIGEST-VALUE k nosuch
            "#,
            r#"
            0000000000000000000000000000000000000000
            OK
            OK
            OK
            ae989361844ac8831c09876c854223eb9eb4657c
            1) d79ee9fe5d5ad902d7f6620efc3b07b75ddd742f
            2) 0000000000000000000000000000000000000000
            "#,
        );
    }

    #[test]
    fn an_object_is_described() {
        let mut harness = harness();
        harness.run("SET k hello");
        let line = harness.run("DEBUG OBJECT k");
        assert!(line.starts_with("Value at:0x"), "{line}");
        assert!(line.contains(" refcount:1 encoding:embstr serializedlength:6 lru:"), "{line}");
        assert!(line.ends_with(" lru_seconds_idle:0"), "{line}");
        let table = harness.run("DEBUG HTSTATS 0");
        assert!(table.contains(" number of elements: 1\\n"), "{table}");
    }

    #[test]
    fn samples_of_the_protocol() {
        let mut harness = harness();
        let mut sample = |protocol: Protocol, name: &str| {
            let key = harness.client;
            harness.server.clients[key].protocol = protocol;
            String::from_utf8(harness.raw(&[b"DEBUG", b"PROTOCOL", name.as_bytes()])).expect("text")
        };
        for (name, resp2, resp3) in [
            ("double", "$5\r\n3.141\r\n", ",3.141\r\n"),
            ("null", "$-1\r\n", "_\r\n"),
            ("set", "*3\r\n:0\r\n:1\r\n:2\r\n", "~3\r\n:0\r\n:1\r\n:2\r\n"),
            (
                "map",
                "*6\r\n:0\r\n:0\r\n:1\r\n:1\r\n:2\r\n:0\r\n",
                "%3\r\n:0\r\n#f\r\n:1\r\n#t\r\n:2\r\n#f\r\n",
            ),
            (
                "push",
                "-ERR RESP2 is not supported by this command\r\n",
                ">2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n",
            ),
            (
                "attrib",
                "$39\r\nSome real reply following the attribute\r\n",
                "|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n$39\r\nSome real reply following the attribute\r\n",
            ),
        ] {
            assert_eq!(sample(Protocol::Resp2, name), resp2);
            assert_eq!(sample(Protocol::Resp3, name), resp3);
        }
    }
}
