//! Commands recorded with Redis 8.2.3: its replies, and the state after each command.

use super::*;

/// One line per command: the command, the reply, and the state afterwards.
const RECORDED: &str = include_str!("replay.txt");

fn parsed(text: &str) -> StreamId {
    StreamId::parse(text.as_bytes(), 0).expect("an id")
}

fn number(text: &str) -> Option<u64> {
    (text != "none").then(|| text.parse().expect("a number"))
}

fn policy(text: &str) -> RefPolicy {
    match text {
        "KEEPREF" => RefPolicy::Keep,
        "DELREF" => RefPolicy::Delete,
        "ACKED" => RefPolicy::Acked,
        _ => panic!("{text} is no policy"),
    }
}

fn shown(entry: &Entry<'_>) -> String {
    let items: Vec<String> = entry
        .fields()
        .flat_map(|(field, value)| [field, value])
        .map(|item| String::from_utf8(item.to_vec()).expect("text"))
        .collect();
    format!("({} ({}))", entry.id, items.join(" "))
}

fn or_nil(number: Option<impl ToString>) -> String {
    number.map_or("nil".into(), |number| number.to_string())
}

/// The state in the format of the recording.
fn state(stream: &Stream) -> String {
    let mut out = format!(
        "{} {} {} {} {} {}",
        stream.entries_len(),
        stream.last_id(),
        stream.first_id(),
        stream.max_deleted_id(),
        stream.entries_added(),
        stream.nodes_len()
    );
    for group in stream.groups() {
        let name = |consumer| String::from_utf8_lossy(group.consumer(consumer).name()).into_owned();
        let pending: Vec<String> = group
            .pending(StreamId::MIN, StreamId::MAX)
            .map(|e| format!("{}:{}:{}", e.id, e.consumer.map_or(String::new(), name), e.deliveries as i64))
            .collect();
        let consumers: Vec<String> = group
            .consumers()
            .map(|(id, consumer)| format!("{}={}", name(id), consumer.pending_len()))
            .collect();
        out += &format!(
            " ; {} {} {} {} {} {}",
            String::from_utf8_lossy(group.name()),
            group.last_id(),
            or_nil(group.entries_read()),
            or_nil(stream.lag(group)),
            pending.join(","),
            consumers.join(",")
        );
    }
    let ids: Vec<String> =
        stream.range(StreamId::MIN, StreamId::MAX).map(|entry| entry.id.to_string()).collect();
    out + " ; " + &ids.join(" ")
}

/// Finds or creates a consumer, as commands do.
fn consumer(group: &mut GroupMut<'_>, name: &str) -> ConsumerId {
    let found = group.group().find_consumer(name.as_bytes());
    found.unwrap_or_else(|| group.create_consumer(name.as_bytes(), 0).expect("there was none"))
}

fn run(stream: &mut Stream, command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let found = |name: &str, stream: &Stream| stream.find_group(name.as_bytes());
    match words[..] {
        ["XADD", wanted, ref items @ ..] => {
            let items = items.iter().map(|item| if *item == "\"\"" { &b""[..] } else { item.as_bytes() });
            let limits = NodeLimits { max_entries: 5, ..NodeLimits::default() };
            let wanted = NewId::parse(wanted.as_bytes()).expect("an id");
            let added = stream.next_id(wanted, 0).and_then(|id| stream.add(id, items, limits).map(|()| id));
            added.map_or_else(|error| error.to_string(), |id| id.to_string())
        }
        ["XDEL", id] => i32::from(stream.delete(parsed(id))).to_string(),
        ["XDELEX", how, id] => format!("({})", stream.delete_with(parsed(id), policy(how)) as i8),
        ["XACKDEL", group, how, id] => match found(group, stream) {
            Some(at) => format!("({})", stream.acknowledge_and_delete(at, parsed(id), policy(how)) as i8),
            None => "(-1)".into(),
        },
        ["XTRIM", strategy, approximate, threshold, limit, how] => {
            let threshold = match strategy {
                "MAXLEN" => Threshold::MaxLen(threshold.parse().expect("a number")),
                _ => Threshold::MinId(parsed(threshold)),
            };
            let limit = limit.parse().expect("a number");
            let trim = Trim { threshold, approximate: approximate == "~", limit };
            let twin = stream.clone();
            let removed = stream.trim(trim, policy(how));
            if policy(how) == RefPolicy::Keep {
                let mut twin = twin;
                let threshold = stream.exact_threshold(threshold);
                let exact = Trim { threshold, approximate: false, limit: 0 };
                assert_eq!(twin.trim(exact, RefPolicy::Keep), removed, "the exact form removes the same");
            }
            removed.to_string()
        }
        ["XGROUP", "CREATE", group, id, read] => {
            match stream.create_group(group.as_bytes(), parsed(id), number(read)) {
                Some(_) => "OK".into(),
                None => "BUSYGROUP Consumer Group name already exists".into(),
            }
        }
        ["XGROUP", "DESTROY", group] => i32::from(stream.destroy_group(group.as_bytes())).to_string(),
        ["XACK", group, id] => {
            let acknowledged =
                found(group, stream).is_some_and(|at| stream.group_mut(at).acknowledge(parsed(id)));
            i32::from(acknowledged).to_string()
        }
        ["XSETID", id, added, tombstone] => {
            let tombstone = (added != "none").then(|| parsed(tombstone));
            let set = stream.set_id(parsed(id), number(added), tombstone);
            set.map_or_else(|error| error.to_string(), |()| "OK".into())
        }
        [verb, ref words @ ..] => {
            let (verb, words) = if verb == "XGROUP" { (words[0], &words[1..]) } else { (verb, words) };
            let at = found(words[0], stream).expect("the group exists");
            run_in_group(stream.group_mut(at), verb, &words[1..])
        }
        [] => panic!("no command"),
    }
}

fn run_in_group(mut group: GroupMut<'_>, verb: &str, words: &[&str]) -> String {
    match (verb, words) {
        ("SETID", [id, read]) => {
            group.set_last_id(parsed(id), number(read));
            "OK".into()
        }
        ("CREATECONSUMER", [name]) => {
            i32::from(group.create_consumer(name.as_bytes(), 0).is_some()).to_string()
        }
        ("DELCONSUMER", [name]) => group.delete_consumer(name.as_bytes()).unwrap_or(0).to_string(),
        ("READNEW", [name, count, ack]) => {
            let consumer = consumer(&mut group, name);
            let any = group.has_new();
            let count = count.parse().expect("a number");
            let entries: Vec<String> =
                group.read_new(consumer, count, *ack == "NOACK", 0).map(|entry| shown(&entry)).collect();
            assert_eq!(any, !entries.is_empty());
            if any { format!("(s ({}))", entries.join(" ")) } else { "nil".into() }
        }
        ("HISTORY", [name, count, after]) => {
            let consumer = consumer(&mut group, name);
            let entries: Vec<String> = group
                .history(consumer, parsed(after), count.parse().expect("a number"), 0)
                .map(|(id, entry)| entry.map_or(format!("({id} nil)"), |entry| shown(&entry)))
                .collect();
            format!("(s ({}))", entries.join(" "))
        }
        ("XCLAIM", [name, id, count, force, just_id]) => {
            let consumer = consumer(&mut group, name);
            let (counts, force) = (*just_id != "JUSTID", *force == "FORCE");
            let claim = Claim { min_idle_ms: 0, delivered_ms: 0, deliveries: number(count), counts, force };
            match group.claim(parsed(id), consumer, &claim, 0) {
                Claimed::Entry(entry) if counts => format!("({})", shown(&entry)),
                Claimed::Entry(entry) => format!("({})", entry.id),
                Claimed::Dropped(_) | Claimed::No => "()".into(),
            }
        }
        ("XAUTOCLAIM", [name, start, count, just_id]) => {
            let consumer = consumer(&mut group, name);
            let (counts, count) = (*just_id != "JUSTID", count.parse().expect("a number"));
            let mut entries = Vec::new();
            let result = group.auto_claim(consumer, parsed(start), 0, count, counts, 0, |entry| {
                entries.push(if counts { shown(&entry) } else { entry.id.to_string() });
            });
            assert_eq!(result.claimed, entries.len() as u64);
            let dropped: Vec<String> = result.dropped.iter().map(|dropped| dropped.id.to_string()).collect();
            format!("({} ({}) ({}))", result.cursor, entries.join(" "), dropped.join(" "))
        }
        _ => panic!("no command {verb} {words:?}"),
    }
}

fn replay(recorded: &str) {
    let mut stream = Stream::new();
    for (number, line) in recorded.lines().enumerate() {
        let mut parts = line.split(" | ");
        let mut next = || parts.next().expect("three parts");
        let (command, answer, expected) = (next(), next(), next());
        assert_eq!(run(&mut stream, command), answer, "line {}: {command}", number + 1);
        assert_eq!(state(&stream).trim_end(), expected.trim_end(), "line {}: {command}", number + 1);
        stream.check();
        if number % 10 == 0 {
            let loaded = reload(&stream).expect("its own parts are valid");
            loaded.check();
            assert_eq!(picture(&loaded), picture(&stream));
            assert_eq!(picture(&stream.clone()), picture(&stream));
        }
    }
}

#[test]
fn does_what_redis_did() {
    replay(RECORDED);
}
