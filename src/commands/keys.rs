//! Commands on keys of any type: existence, names, databases.

use crate::keyspace::{Db, Event, Key};
use crate::resp::{Args, Error};
use crate::server::command::{
    Acl, Arg, CmdResult, Ctx, Databases, Docs, Flags, Group, KeyFlags, KeySpec, Spec,
};
use crate::server::execution::call::WINDOW;

/// Table entries of the commands on keys.
pub const COMMANDS: &[Spec] = &[COPY, DEL, EXISTS, MOVE, RENAME, RENAMENX, TOUCH, TYPE, UNLINK];

const DEL: Spec = Spec::data("del", -2, del)
    .flags(Flags::WRITE)
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KeyFlags::RM.with(KeyFlags::DELETE))])
    .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
    .docs(Docs {
        summary: "Removes keys and frees their values.",
        since: "1.0.0",
        complexity: "O(1) for each string, O(N) for each collection of N elements.",
        group: Group::Generic,
        args: &[Arg::key("key").multiple()],
        ..Docs::NONE
    });

/// DEL key [key …] → number of removed keys.
fn del(ctx: &mut Ctx<'_>) -> CmdResult {
    let lazily = ctx.db.space().lazy.user_del;
    remove(ctx, lazily)
}

const UNLINK: Spec = Spec::data("unlink", -2, unlink)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KeyFlags::RM.with(KeyFlags::DELETE))])
    .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
    .docs(Docs {
        summary: "Removes keys; large values are freed in the background.",
        since: "4.0.0",
        complexity: "O(1) for each key. Another thread then frees the values, O(N) for N allocations.",
        group: Group::Generic,
        args: &[Arg::key("key").multiple()],
        ..Docs::NONE
    });

/// UNLINK key [key …] → number of removed keys.
fn unlink(ctx: &mut Ctx<'_>) -> CmdResult {
    remove(ctx, true)
}

fn remove(ctx: &mut Ctx<'_>, lazily: bool) -> CmdResult {
    let removed = count_keys(ctx, |db, key| {
        let removed = db.remove(key, lazily);
        db.changed(key, Event::generic("del"), usize::from(removed));
        removed
    });
    Ok(ctx.reply.int(removed))
}

const EXISTS: Spec = Spec::data("exists", -2, exists)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KeyFlags::RO)])
    .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
    .docs(Docs {
        summary: "Counts how many of the keys there are; a key named twice counts twice.",
        since: "1.0.0",
        complexity: "O(N) for N keys.",
        group: Group::Generic,
        history: &[("3.0.3", "More than one `key` may be given.")],
        args: &[Arg::key("key").multiple()],
        ..Docs::NONE
    });

/// EXISTS key [key …] → number of existing keys.
fn exists(ctx: &mut Ctx<'_>) -> CmdResult {
    let found = count_keys(ctx, |db, key| db.peek(key).is_some());
    Ok(ctx.reply.int(found))
}

const TOUCH: Spec = Spec::data("touch", -2, touch)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).range(-1, 1, 0).flags(KeyFlags::RO)])
    .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
    .docs(Docs {
        summary: "Counts how many of the keys there are, and has each count as used now.",
        since: "3.2.1",
        complexity: "O(N) for N keys.",
        group: Group::Generic,
        args: &[Arg::key("key").multiple()],
        ..Docs::NONE
    });

/// TOUCH key [key …] → number of existing keys.
fn touch(ctx: &mut Ctx<'_>) -> CmdResult {
    let found = count_keys(ctx, |db, key| db.read(key).is_some());
    Ok(ctx.reply.int(found))
}

/// Number of keys from argument 1 on for which `each` returns true. Keys are hashed and prefetched a window at a
/// time, so that their memory accesses overlap.
fn count_keys(ctx: &mut Ctx<'_>, mut each: impl FnMut(&mut Db<'_>, Key<'_>) -> bool) -> i64 {
    let args = ctx.args;
    if args.len() == 2 {
        return i64::from(each(&mut ctx.db, args.key(1)));
    }
    let mut window = [Key::NONE; WINDOW];
    let mut count = 0;
    for start in (1..args.len()).step_by(WINDOW) {
        let keys = &mut window[..WINDOW.min(args.len() - start)];
        for (i, key) in keys.iter_mut().enumerate() {
            *key = args.key(start + i);
        }
        ctx.db.prefetch(keys);
        for &key in &*keys {
            count += i64::from(each(&mut ctx.db, key));
        }
    }
    count
}

const TYPE: Spec = Spec::data("type", 2, kind)
    .flags(Flags::READONLY.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RO)])
    .docs(Docs {
        summary: "Names the type of the value under a key.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::key("key")],
        ..Docs::NONE
    });

/// TYPE key → name of the value's type, or `none`.
fn kind(ctx: &mut Ctx<'_>) -> CmdResult {
    let kind = ctx.db.peek(ctx.args.key(1)).map(|entry| entry.kind());
    Ok(ctx.reply.simple(kind.map_or("none", |kind| kind.name())))
}

const RENAME: Spec = Spec::data("rename", 3, rename)
    .flags(Flags::WRITE)
    .acl(Acl::KEYSPACE)
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE)),
        KeySpec::at(2).flags(KeyFlags::OW.with(KeyFlags::UPDATE)),
    ])
    .docs(Docs {
        summary: "Gives a key another name; what had that name before is removed.",
        since: "1.0.0",
        complexity: "O(1), and the time to free a value that is overwritten.",
        group: Group::Generic,
        args: &[Arg::key("key"), Arg::key("newkey").key_spec(1)],
        ..Docs::NONE
    });

/// RENAME key newkey → OK.
fn rename(ctx: &mut Ctx<'_>) -> CmdResult {
    rename_if(ctx, |_, _| true)?;
    Ok(ctx.reply.ok())
}

const RENAMENX: Spec = Spec::data("renamenx", 3, renamenx)
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::DELETE)),
        KeySpec::at(2).flags(KeyFlags::OW.with(KeyFlags::INSERT)),
    ])
    .docs(Docs {
        summary: "Gives a key another name unless there is a key of that name.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        history: &[("3.2.0", "Renaming a key to its own name is no error any more.")],
        args: &[Arg::key("key"), Arg::key("newkey").key_spec(1)],
        ..Docs::NONE
    });

/// RENAMENX key newkey → 1 if the key was renamed, else 0.
fn renamenx(ctx: &mut Ctx<'_>) -> CmdResult {
    let renamed = rename_if(ctx, |db, to| db.find(to).is_none())?;
    Ok(ctx.reply.int(i64::from(renamed)))
}

/// Renames the key if `allowed` accepts the new name, and returns whether it did.
fn rename_if(ctx: &mut Ctx<'_>, allowed: impl FnOnce(&mut Db<'_>, Key<'_>) -> bool) -> Result<bool, Error> {
    let (from, to) = (ctx.args.key(1), ctx.args.key(2));
    if ctx.db.find(from).is_none() {
        return Err(Error::NoSuchKey);
    }
    // An expired destination is not overwritten: it expires first.
    ctx.db.expire_due(to);
    if from.bytes == to.bytes || !allowed(&mut ctx.db, to) {
        return Ok(false);
    }
    let replaced = ctx.db.rename(from, to);
    ctx.db.changed(from, Event::generic("rename_from"), 1);
    ctx.db.also_changed(to, Event::generic("rename_to"));
    if let Some(old) = replaced {
        ctx.db.report_replaced(to, old);
    }
    Ok(true)
}

const MOVE: Spec = Spec::data("move", 3, move_key)
    .databases(Databases::NamedAndSelected(|_, found| found(2)))
    .flags(Flags::WRITE.with(Flags::FAST))
    .acl(Acl::KEYSPACE)
    .keys(&[KeySpec::at(1).flags(KeyFlags::RW.with(KeyFlags::ACCESS).with(KeyFlags::UPDATE))])
    .docs(Docs {
        summary: "Moves a key to another database unless that has a key of the same name.",
        since: "1.0.0",
        complexity: "O(1)",
        group: Group::Generic,
        args: &[Arg::key("key"), Arg::integer("db")],
        ..Docs::NONE
    });

/// MOVE key db → 1 if the key was moved, else 0.
fn move_key(ctx: &mut Ctx<'_>) -> CmdResult {
    let key = ctx.args.key(1);
    if ctx.db.database().keys().is_by_slot() && ctx.db.databases() == 1 {
        return Err(Error::text("ERR MOVE is not allowed in cluster mode"));
    }
    let target = ctx.args.database(2, ctx.db.databases())?;
    if target == ctx.db.index() {
        return Err(same_object());
    }
    if ctx.db.find(key).is_none() || ctx.db.other(target).find(key).is_some() {
        return Ok(ctx.reply.int(0));
    }
    ctx.db.move_to(key, target);
    ctx.db.changed(key, Event::generic("move_from"), 1);
    ctx.db.other(target).also_changed(key, Event::generic("move_to"));
    Ok(ctx.reply.int(1))
}

const COPY: Spec = Spec::data("copy", -3, copy)
    .databases(Databases::NamedAndSelected(databases_of_copy))
    .flags(Flags::WRITE.with(Flags::DENYOOM))
    .acl(Acl::KEYSPACE)
    .keys(&[
        KeySpec::at(1).flags(KeyFlags::RO.with(KeyFlags::ACCESS)),
        KeySpec::at(2).flags(KeyFlags::OW.with(KeyFlags::UPDATE)),
    ])
    .docs(Docs {
        summary: "Copies the value and the expiry of a key to another key.",
        since: "6.2.0",
        complexity: "O(1) for a string, O(N) for a collection of N elements.",
        group: Group::Generic,
        args: &[
            Arg::key("source"),
            Arg::key("destination").key_spec(1),
            Arg::integer("destination-db").token("DB").optional(),
            Arg::word("replace", "REPLACE").optional(),
        ],
        ..Docs::NONE
    });

/// COPY source destination [DB number] [REPLACE] → 1 if the key was copied, else 0.
fn copy(ctx: &mut Ctx<'_>) -> CmdResult {
    let (from, to) = (ctx.args.key(1), ctx.args.key(2));
    let (target, replace) = copy_options(ctx)?;
    if target == ctx.db.index() && from.bytes == to.bytes {
        return Err(same_object());
    }
    if ctx.db.read(from).is_none() || (ctx.db.other(target).find(to).is_some() && !replace) {
        return Ok(ctx.reply.int(0));
    }
    let replaced = ctx.db.copy(from, to, target);
    let mut db = ctx.db.other(target);
    db.changed(to, Event::generic("copy_to"), 1);
    if let Some(old) = replaced {
        db.report_replaced(to, old);
    }
    Ok(ctx.reply.int(1))
}

/// Finds the numbers of databases among the options of COPY; none where they are not its options.
fn databases_of_copy(args: &Args<'_>, found: &mut dyn FnMut(usize)) {
    let (mut i, mut numbers) = (3, Vec::new());
    while i < args.len() {
        if args.is(i, "DB") && i + 1 < args.len() {
            i += 1;
            numbers.push(i);
        } else if !args.is(i, "REPLACE") {
            return;
        }
        i += 1;
    }
    numbers.into_iter().for_each(found);
}

/// The database to copy to, and whether an existing key may be overwritten.
fn copy_options(ctx: &Ctx<'_>) -> Result<(usize, bool), Error> {
    let (args, selected) = (ctx.args, ctx.db.index());
    let (mut target, mut replace) = (selected, false);
    let mut i = 3;
    while i < args.len() {
        if args.is(i, "REPLACE") {
            replace = true;
        } else if args.is(i, "DB") && i + 1 < args.len() {
            i += 1;
            let only = ctx.db.database().keys().is_by_slot() && ctx.db.databases() == 1;
            if only && args.int(i)? != selected as i64 {
                return Err(Error::text("ERR Copying to another database is not allowed in cluster mode"));
            }
            target = args.database(i, ctx.db.databases())?;
        } else {
            return Err(Error::Syntax);
        }
        i += 1;
    }
    Ok((target, replace))
}

#[cold]
fn same_object() -> Error {
    Error::text("ERR source and destination objects are the same")
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::{Harness, check, check_with};
    use crate::keyspace::{Change, Listeners};

    #[test]
    fn keys_are_counted_and_removed() {
        check(
            r#"
            SET a 1
            SET b hello
            EXISTS a a b nosuch
            TOUCH a b nosuch
            TYPE a
            TYPE nosuch
            DEL a a nosuch
            UNLINK b a
            EXISTS a b
            DEL
            "#,
            r#"
            OK
            OK
            (integer) 3
            (integer) 2
            string
            none
            (integer) 1
            (integer) 1
            (integer) 0
            (error) ERR wrong number of arguments for 'del' command
            "#,
        );
    }

    #[test]
    fn more_keys_than_a_window_holds() {
        let mut harness = Harness::default();
        for i in 0..50 {
            harness.run(&format!("SET key:{i} {i}"));
        }
        let keys: String = (0..60).map(|i| format!(" key:{i}")).collect();
        assert_eq!(harness.run(&format!("EXISTS{keys}")), "(integer) 50");
        assert_eq!(harness.run(&format!("TOUCH{keys} key:0")), "(integer) 51");
        assert_eq!(harness.run(&format!("DEL{keys} key:0")), "(integer) 50");
    }

    #[test]
    fn rename_takes_the_expiry_along() {
        check(
            r#"
            SET a hello
            EXPIRE a 1000
            SET b 12
            RENAMENX a b
            RENAME a b
            GET b
            TTL b
            EXISTS a
            RENAME b b
            RENAMENX b b
            RENAMENX b c
            TTL c
            RENAME nosuch c
            RENAME nosuch nosuch
            RENAMENX nosuch c
            SET d 1
            RENAME d c
            TTL c
            "#,
            r#"
            OK
            (integer) 1
            OK
            (integer) 0
            OK
            "hello"
            (integer) 1000
            (integer) 0
            OK
            (integer) 0
            (integer) 1
            (integer) 1000
            (error) ERR no such key
            (error) ERR no such key
            (error) ERR no such key
            OK
            OK
            (integer) -1
            "#,
        );
    }

    #[test]
    fn copy_and_move_refuse_the_same_object() {
        check(
            r#"
            SET a hello
            EXPIRE a 1000
            COPY a b
            COPY a b
            COPY a b REPLACE DB 0 REPLACE
            TTL b
            COPY a a
            COPY nosuch nosuch DB 0
            COPY nosuch nosuch DB 1
            COPY a a DB 16
            COPY a a DB -1
            COPY a a DB x
            COPY a a DB 2147483648
            COPY a b DB
            COPY a b WHAT
            MOVE a 1
            MOVE a 1
            COPY b a DB 1
            SET a again
            MOVE a 1
            MOVE a 0
            MOVE nosuch 0
            MOVE a 16
            MOVE a x
            "#,
            r#"
            OK
            (integer) 1
            (integer) 1
            (integer) 0
            (integer) 1
            (integer) 1000
            (error) ERR source and destination objects are the same
            (error) ERR source and destination objects are the same
            (integer) 0
            (error) ERR DB index is out of range
            (error) ERR DB index is out of range
            (error) ERR value is not an integer or out of range
            (error) ERR value is out of range, value must between -2147483648 and 2147483647
            (error) ERR syntax error
            (error) ERR syntax error
            (integer) 1
            (integer) 0
            (integer) 0
            OK
            (integer) 0
            (error) ERR source and destination objects are the same
            (error) ERR source and destination objects are the same
            (error) ERR DB index is out of range
            (error) ERR value is not an integer or out of range
            "#,
        );
    }

    /// The events since the last call, as `database:event key`, and the increase of `dirty`.
    fn events(harness: &mut Harness, dirty: &mut u64) -> (Vec<String>, u64) {
        let ledger = &mut harness.server.keyspace.ledger;
        let rose = ledger.dirty - std::mem::replace(dirty, ledger.dirty);
        let (changes, keys) = std::mem::take(&mut ledger.drained);
        let show = |db: u32, key: &std::ops::Range<usize>, event: &str| {
            format!("{db}:{event} {}", keys[key.clone()].escape_ascii())
        };
        let events = changes
            .iter()
            .map(|change| match change {
                Change::Key { db, key, event }
                | Change::Gone { db, key, event }
                | Change::EventOnly { db, key, event } => show(*db, key, event.name),
                other => format!("{other:?}"),
            })
            .collect();
        (events, rose)
    }

    #[test]
    fn each_command_is_one_change_with_its_events() {
        let mut harness = Harness::default();
        harness.server.keyspace.ledger.listeners.set(Listeners::NOTIFY, true);
        harness.run("SET a 1");
        let dirty = &mut 0;
        events(&mut harness, dirty);
        for (command, expected) in [
            ("RENAME a b", &["0:new b", "0:rename_from a", "0:rename_to b"][..]),
            ("COPY b c", &["0:new c", "0:copy_to c"]),
            ("COPY b c REPLACE", &["0:new c", "0:copy_to c", "0:overwritten c"]),
            ("RENAME b c", &["0:new c", "0:rename_from b", "0:rename_to c", "0:overwritten c"]),
            ("COPY c z DB 2", &["2:new z", "2:copy_to z"]),
            ("MOVE c 1", &["1:new c", "0:move_from c", "1:move_to c"]),
        ] {
            harness.run(command);
            assert_eq!(
                events(&mut harness, dirty),
                (expected.iter().map(|s| s.to_string()).collect(), 1),
                "{command}"
            );
        }
        check_with(&mut harness, "RENAME c c\nCOPY z z DB 3", "(error) ERR no such key\n(integer) 0");
        assert_eq!(events(&mut harness, dirty), (vec!["0:keymiss z".into()], 0));
        harness.run("SET a 1");
        events(&mut harness, dirty);
        harness.run("DEL a b a");
        assert_eq!(events(&mut harness, dirty), (vec!["0:del a".into()], 1));
    }
}
