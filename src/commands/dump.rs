//! DUMP and RESTORE: one value in serialized form, and back.

use crate::clients::ClientKey;
use crate::keyspace::{Entry, Event};
use crate::persistence::rdb::dump::RestoreError;
use crate::persistence::rdb::save::{Version, version_for_redis};
use crate::persistence::rdb::{self, LoadOptions};
use crate::resp::{Args, Error};
use crate::server::Server;
use crate::server::command::{Acl, Arg, CmdResult, Docs, Flags, Group, KeyFlags, KeySpec, Spec};
use crate::stats::log::limited;
use crate::stdx::clock::UnixMillis;

/// Table entries of the DUMP and RESTORE commands.
pub const COMMANDS: &[Spec] = &[DUMP, RESTORE, RESTORE_ASKING];

const DUMP: Spec = Spec::admin("dump", 2, dump)
    .flags(Flags::READONLY)
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS))])
    .tips(&["nondeterministic_output"])
    .docs(Docs {
        summary: "Gives a value as bytes that RESTORE understands.",
        since: "2.6.0",
        complexity: "O(N) for a value of N bytes",
        group: Group::Generic,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// DUMP key → the serialized value with version and checksum, or null.
fn dump(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let client = &server.clients[key];
    let (index, no_touch) = (client.db as usize, client.flags.has(crate::clients::ClientFlags::NO_TOUCH));
    let config = &server.config.persistence;
    let (version, compress) = (Version::newest(config.rdb_save_version), config.rdb_compression);
    let for_redis = !server.config.limits.compat_version.is_valkey();
    let mut db = server.keyspace.db(index).without_touch(no_touch);
    let payload = db.read(args.key(1)).map(|entry| {
        let version = if for_redis { version_for_redis(&entry, version) } else { version };
        rdb::dump(&entry, version, compress)
    });
    let mut reply = server.reply(key);
    Ok(match payload {
        Some(payload) => reply.bulk(&payload),
        None => reply.null(),
    })
}

const RESTORE: Spec = Spec::admin("restore", -4, restore)
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::KEYSPACE.with(Acl::DANGEROUS))
    .keys(&[KeySpec::at(1).flags(KeyFlags::OW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Makes a key out of the bytes that DUMP gave.",
        since: "2.6.0",
        complexity: "O(N) for a value of N bytes, O(N log N) for some sorted sets",
        group: Group::Generic,
        history: &[
            ("3.0.0", "Added the option `REPLACE`."),
            ("5.0.0", "Added the option `ABSTTL`."),
            ("5.0.0", "Added the options `IDLETIME` and `FREQ`."),
        ],
        args: RESTORE_ARGS,
        ..Docs::NONE
    });

const RESTORE_ARGS: &[Arg] = &[
    Arg::key("key"),
    Arg::integer("ttl"),
    Arg::string("serialized-value"),
    Arg::word("replace", "REPLACE").since("3.0.0").optional(),
    Arg::word("absttl", "ABSTTL").since("5.0.0").optional(),
    Arg::integer("seconds").token("IDLETIME").since("5.0.0").optional(),
    Arg::integer("frequency").token("FREQ").since("5.0.0").optional(),
];

const RESTORE_ASKING: Spec = Spec::admin("restore-asking", -4, restore)
    .flags(Flags::WRITE.with(Flags::DENYOOM).with(Flags::ASKING))
    .acl(Acl::KEYSPACE.with(Acl::DANGEROUS))
    .keys(&[KeySpec::at(1).flags(KeyFlags::OW.with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "As RESTORE, for a key whose slot is on its way here.",
        since: "3.0.0",
        complexity: "As that of RESTORE",
        group: Group::Server,
        history: &[
            ("3.0.0", "Added the option `REPLACE`."),
            ("5.0.0", "Added the option `ABSTTL`."),
            ("5.0.0", "Added the options `IDLETIME` and `FREQ`."),
        ],
        args: RESTORE_ARGS,
        internal: true,
        ..Docs::NONE
    });

/// Options after the payload of RESTORE.
#[derive(Default)]
struct RestoreOptions {
    replace: bool,
    absolute: bool,
    idle: Option<i64>,
    frequency: Option<u8>,
}

impl RestoreOptions {
    fn read(args: &Args<'_>) -> Result<RestoreOptions, Error> {
        let mut options = RestoreOptions::default();
        let mut i = 4;
        while i < args.len() {
            let has_value = i + 1 < args.len();
            if args.is(i, "REPLACE") {
                options.replace = true;
            } else if args.is(i, "ABSTTL") {
                options.absolute = true;
            } else if args.is(i, "IDLETIME") && has_value && options.frequency.is_none() {
                i += 1;
                let seconds = args.int(i)?;
                if seconds < 0 {
                    return Err(Error::text("ERR Invalid IDLETIME value, must be >= 0"));
                }
                options.idle = Some(seconds);
            } else if args.is(i, "FREQ") && has_value && options.idle.is_none() {
                i += 1;
                let frequency = u8::try_from(args.int(i)?)
                    .map_err(|_| Error::text("ERR Invalid FREQ value, must be >= 0 and <= 255"))?;
                options.frequency = Some(frequency);
            } else {
                return Err(Error::Syntax);
            }
            i += 1;
        }
        Ok(options)
    }
}

/// RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency] → OK. Sets the key to the value.
fn restore(server: &mut Server, key: ClientKey, args: Args<'_>) -> CmdResult {
    let index = server.clients[key].db as usize;
    let options = RestoreOptions::read(&args)?;
    let name = args.key(1);
    if !options.replace && server.keyspace.db(index).contains(name) {
        return Err(Error::text("BUSYKEY Target key name already exists."));
    }
    let ttl = args.int(2)?;
    if ttl < 0 {
        return Err(Error::text("ERR Invalid TTL value, must be >= 0"));
    }
    let now = server.keyspace.now();
    let expires = match ttl {
        0 => None,
        at if options.absolute => Some(UnixMillis(at)),
        ttl => Some(UnixMillis(now.0.saturating_add(ttl))),
    };
    let load = LoadOptions {
        limits: server.config.limits.types.clone(),
        checksum: !server.persistence.skip_checksums,
        ..LoadOptions::default()
    };
    let mut entry = rdb::restore(args.at(3), name.bytes, expires, &load).map_err(|error| match error {
        RestoreError::Trailer => Error::text("ERR DUMP payload version or checksum are wrong"),
        RestoreError::NoLibrary => Error::text("ERR Bad data format"),
        RestoreError::Value(fault) => {
            limited!(warn, "RESTORE: {fault}");
            Error::text("ERR Bad data format")
        }
    })?;
    let access = server.keyspace.access;
    entry.set_access(match (options.idle, options.frequency) {
        (_, Some(frequency)) if access.counts() => access.bits_for_frequency(frequency),
        (Some(idle), _) if !access.counts() => access.bits_for_idle(u32::try_from(idle).unwrap_or(u32::MAX)),
        _ => access.fresh(),
    });
    let lazily = server.keyspace.lazy.server_del;
    let mut db = server.keyspace.db(index);
    let replaced = if options.replace { db.take(name) } else { None };
    let old = replaced.as_ref().map(Entry::kind);
    // The payload does not say whether the key is exempt from eviction.
    entry.set_protected(replaced.as_ref().is_some_and(Entry::is_protected));
    if let Some(entry) = replaced {
        db.space().reclaimer.entry(entry, lazily);
    }
    if expires.is_some_and(|at| at <= now) && db.removes_due_keys() {
        // A key that has already expired is not created, but an existing one is removed.
        if old.is_some() {
            db.changed(name, Event::generic("del"), 1);
            let removal: &[u8] = if lazily { b"UNLINK" } else { b"DEL" };
            server.execution.feed.instead(&[removal, name.bytes]);
        }
        return Ok(server.reply(key).ok());
    }
    db.put(name, entry);
    db.changed(name, Event::RESTORED, 1);
    if let Some(old) = old {
        db.report_replaced(name, old);
    }
    if let Some(at) = expires
        && !options.absolute
    {
        let mut digits = itoa::Buffer::new();
        let mut request: Vec<&[u8]> = args.iter().collect();
        request[2] = digits.format(at.0).as_bytes();
        request.push(b"ABSTTL");
        server.execution.feed.instead(&request);
    }
    Ok(server.reply(key).ok())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check};
    use crate::stdx::{clock, crc64};

    #[test]
    fn options_and_refusals() {
        check(
            r#"
            DUMP nosuch
            SET a 1
            RESTORE a 0 x
            RESTORE a x x REPLACE
            RESTORE b -1 x
            RESTORE b x x
            RESTORE b 0 x IDLETIME -1
            RESTORE b 0 x IDLETIME 1 FREQ 1
            RESTORE b 0 x FREQ 256
            RESTORE b 0 x FREQ
            RESTORE b 0 x something
            RESTORE b 0 x
            RESTORE b 0 "\x00\x01a\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00"
            EXISTS b
            "#,
            r#"
            (nil)
            OK
            (error) BUSYKEY Target key name already exists.
            (error) ERR value is not an integer or out of range
            (error) ERR Invalid TTL value, must be >= 0
            (error) ERR value is not an integer or out of range
            (error) ERR Invalid IDLETIME value, must be >= 0
            (error) ERR syntax error
            (error) ERR Invalid FREQ value, must be >= 0 and <= 255
            (error) ERR syntax error
            (error) ERR syntax error
            (error) ERR DUMP payload version or checksum are wrong
            (error) ERR DUMP payload version or checksum are wrong
            (integer) 0
            "#,
        );
    }

    /// The payload of DUMP for `key`.
    fn payload(harness: &mut Harness, key: &[u8]) -> Vec<u8> {
        let reply = harness.raw(&[b"DUMP", key]);
        let at = reply.iter().position(|&byte| byte == b'\n').expect("a bulk string") + 1;
        reply[at..reply.len() - 2].to_vec()
    }

    #[test]
    fn a_value_comes_back_with_its_time_to_live() {
        let mut harness = Harness::default();
        harness.run("RPUSH list a b 3");
        let bytes = payload(&mut harness, b"list");
        harness.raw(&[b"RESTORE", b"copy", b"5000", &bytes]);
        assert_eq!(harness.run("LRANGE copy 0 -1"), harness.run("LRANGE list 0 -1"));
        let ttl: i64 = harness.run("PTTL copy").trim_start_matches("(integer) ").parse().expect("a number");
        assert!((4000..=5000).contains(&ttl), "{ttl}");
        let past = (clock::now_ms() - 1000).to_string();
        assert_eq!(
            harness.raw(&[b"RESTORE", b"copy", past.as_bytes(), &bytes, b"REPLACE", b"ABSTTL"]),
            b"+OK\r\n"
        );
        assert_eq!(harness.run("EXISTS copy"), "(integer) 0");
        harness.raw(&[b"RESTORE", b"copy", b"0", &bytes, b"IDLETIME", b"77"]);
        assert_eq!(harness.run("OBJECT IDLETIME copy"), "(integer) 77");
    }

    #[test]
    fn no_field_is_restored_twice_whatever_the_settings() {
        // A listpack of a, 1, b, 1, a, 1.
        let mut bytes = b"\x10\x16\x16\x00\x00\x00\x06\x00\x81a\x02\x01\x01\x81b\x02\x01\x01\x81a\x02\x01\x01\xff\x0b\x00".to_vec();
        let sum = crc64::update(0, &bytes);
        bytes.extend(sum.to_le_bytes());
        let mut harness = Harness::default();
        for setting in ["no", "clients", "yes"] {
            harness.run(&format!("CONFIG SET sanitize-dump-payload {setting}"));
            assert_eq!(harness.raw(&[b"RESTORE", b"h", b"0", &bytes]), b"-ERR Bad data format\r\n");
        }
    }

    #[test]
    fn payloads_are_those_of_redis() {
        let mut harness = Harness::default();
        harness.run("SET foo hello");
        // The payload of redis-server 7.0, except for version and checksum.
        assert!(payload(&mut harness, b"foo").starts_with(b"\x00\x05hello\x0b\x00"));
        // A payload from Redis 7.0.
        let theirs = b"\x00\x03m13\x0a\x00\xe5K?K\xaa\xad\xa1\x01";
        assert_eq!(harness.raw(&[b"RESTORE", b"bar", b"0", theirs]), b"+OK\r\n");
        assert_eq!(harness.run("GET bar"), "\"m13\"");
        // A payload from Valkey 9.1.
        let theirs = b"\x00\x05hello\x50\x00\xac\x58\x16\xe7\xfb\x66\x47\xfe";
        assert_eq!(harness.raw(&[b"RESTORE", b"baz", b"0", theirs]), b"+OK\r\n");
        assert_eq!(harness.run("GET baz"), "\"hello\"");
    }
}
