//! Rules that the compiler does not check, applied to the text of the sources.
//!
//! One crate puts no fences between its rooms, so this test is the fence. Each complaint quotes the line that
//! breaks a rule; all complaints of a rule are listed at once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Layers of rooms, from the ground up. A room imports only from rooms of lower layers.
const LAYERS: [&[&str]; 10] = [
    &["stdx"],
    &["structures"],
    &["resp", "background", "stats"],
    &["types"],
    &["keyspace"],
    &["acl", "cluster", "net", "persistence", "replication", "scripting", "sentinel"],
    &["config"],
    &["clients"],
    &["server"],
    &["commands"],
];

/// Modules of the program, which are no rooms of the library.
const PROGRAM: &[&str] = &["generate", "guide"];

/// Command modules that other command modules may use. All others stand alone.
const SHARED_COMMANDS: &[&str] =
    &["expiry", "help", "module_list", "scan_args", "store", "testing", "timeout", "window"];

/// Command groups in several files, which may use each other. Files whose names share a beginning, such as `zset`
/// and `zset_range`, also form a group.
const GROUPS: &[&[&str]] = &[&["client", "connection"], &["info", "server"]];

/// Files that may contain `unsafe`; each of them does.
const UNSAFE: &[&str] = &[
    "background/mod.rs",
    "keyspace/database.rs",
    "keyspace/entry.rs",
    "keyspace/entry/found.rs",
    "keyspace/entry/relocate.rs",
    "net/descriptors.rs",
    "net/io.rs",
    "net/link.rs",
    "net/listener.rs",
    "net/signals.rs",
    "net/stream.rs",
    "net/threads/queue.rs",
    "net/tls/secure.rs",
    "resp/reply.rs",
    "resp/request/decoder.rs",
    "resp/request/fuzz.rs",
    "scripting/lua/c_text.rs",
    "scripting/lua/ffi.rs",
    "scripting/lua/stack.rs",
    "scripting/lua/watch.rs",
    "server/durability/child.rs",
    "server/process/crash.rs",
    "server/process/daemon.rs",
    "server/process/watchdog.rs",
    "stats/log.rs",
    "stats/log/line.rs",
    "stdx/alloc.rs",
    "stdx/alloc/relocation.rs",
    "stdx/clock.rs",
    "stdx/cpu.rs",
    "stdx/crc16/clmul.rs",
    "stdx/hash/aes.rs",
    "stdx/prefetch.rs",
    "stdx/locale.rs",
    "stdx/process.rs",
    "stdx/stopwatch.rs",
    "stdx/sync.rs",
    "stdx/wide.rs",
    "structures/block.rs",
    "structures/dict/iter.rs",
    "structures/dict/join.rs",
    "structures/dict/mod.rs",
    "structures/dict/rehash.rs",
    "structures/dict/relocate.rs",
    "structures/dict/scan.rs",
    "structures/dict/table.rs",
    "structures/dict/tests.rs",
    "structures/field.rs",
    "structures/hnsw/dot.rs",
    "structures/indexed.rs",
    "structures/intset.rs",
    "structures/listpack/entry.rs",
    "structures/listpack/mod.rs",
    "structures/member.rs",
    "structures/scorepack.rs",
    "structures/sds.rs",
    "structures/skiplist.rs",
    "structures/tagged.rs",
    "structures/volatile.rs",
    "types/hyperloglog.rs",
];

/// Files that may make a pointer from an integer: from an address that the kernel reports, or from a slot too small
/// for a whole pointer.
const EXPOSED: &[&str] = &["server/process/daemon.rs", "structures/dict/table.rs"];

/// A source file.
struct Source {
    /// Path below `src`, such as `net/io.rs`.
    name: String,
    lines: Vec<String>,
    /// The same lines without comments and quoted text.
    code: Vec<String>,
}

impl Source {
    /// Room of the file; `None` for `lib.rs`, and for `main.rs` and other modules of the program.
    fn room(&self) -> Option<&str> {
        self.name.split_once('/').map(|(room, _)| room).filter(|room| !PROGRAM.contains(room))
    }

    fn at(&self, line: usize) -> String {
        format!("src/{}:{}: {}", self.name, line + 1, self.lines[line].trim())
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut directories) = (Vec::new(), vec![root.clone()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the sources") {
            let path: PathBuf = entry.expect("a directory of the sources").path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("sources are text");
                let name = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
                let lines: Vec<String> = text.lines().map(String::from).collect();
                let code = bare(&text).lines().map(String::from).collect();
                found.push(Source { name, lines, code });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(found.len() > 20, "the sources are where they are expected");
    found
}

/// The text with comments, strings and character literals blanked; line ends remain.
fn bare(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    // Blanks the text from `i` to `end`.
    let skip = |out: &mut String, from: usize, end: usize| {
        let line_ends = bytes[from..end].iter().filter(|&&byte| byte == b'\n').count();
        out.push(' ');
        out.push_str(&"\n".repeat(line_ends));
        end
    };
    let find = |from: usize, what: &str| {
        text.get(from..).and_then(|rest| rest.find(what)).map_or(bytes.len(), |at| from + at)
    };
    while i < bytes.len() {
        let rest = &bytes[i..];
        let after_word = i > 0 && (bytes[i - 1].is_ascii_alphanumeric() || bytes[i - 1] == b'_');
        if rest.starts_with(b"//") {
            i = skip(&mut out, i, find(i, "\n"));
        } else if rest.starts_with(b"/*") {
            i = skip(&mut out, i, (find(i, "*/") + 2).min(bytes.len()));
        } else if let Some(hashes) = raw_string(rest).filter(|_| !after_word || bytes[i - 1] == b'b') {
            let start = i + 2 + hashes;
            let end = find(start, &format!("\"{}", "#".repeat(hashes))) + 1 + hashes;
            i = skip(&mut out, i, end.min(bytes.len()));
        } else if rest[0] == b'"' {
            let mut end = i + 1;
            while end < bytes.len() && bytes[end] != b'"' {
                end += if bytes[end] == b'\\' { 2 } else { 1 };
            }
            i = skip(&mut out, i, (end + 1).min(bytes.len()));
        } else if rest[0] == b'\'' && rest.len() > 2 && (rest[1] == b'\\' || rest[2] == b'\'') {
            // A lifetime has no second quote behind one character.
            i = skip(&mut out, i, find(i + 2 + usize::from(rest[1] == b'\\'), "'") + 1);
        } else {
            out.push(if rest[0].is_ascii() { char::from(rest[0]) } else { ' ' });
            i += 1;
        }
    }
    out
}

/// Number of `#` of a raw string that starts here.
fn raw_string(text: &[u8]) -> Option<usize> {
    let hashes = text.strip_prefix(b"r")?.iter().take_while(|&&byte| byte == b'#').count();
    (text.get(1 + hashes) == Some(&b'"')).then_some(hashes)
}

/// All paths in a file that begin with `crate`, `self` or `super`, as seen from the crate's root, with their lines:
/// `crate::a::b`, `use super::{a, b}`, and nested lists over several lines.
fn paths_used(source: &Source) -> Vec<(usize, Vec<String>)> {
    let text = source.code.join("\n");
    let (mut used, mut read_to) = (Vec::new(), 0);
    for (colons, _) in text.match_indices("::") {
        let before = &text[..colons];
        let Some(root) = ["crate", "self", "super"].into_iter().find(|root| before.ends_with(root)) else {
            continue;
        };
        let start = colons - root.len();
        let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '$');
        if start < read_to || text[..start].ends_with(goes_on) {
            continue;
        }
        let line = text[..start].matches('\n').count();
        let len = read_paths(&text[start..], &mut Vec::new(), &mut |names| {
            used.push((line, from_root(&source.name, names)));
        });
        read_to = start + len;
    }
    used
}

/// Reads one path with its lists, passes each path it stands for to `found`, prefixed by `before`, and returns the
/// number of bytes read.
fn read_paths(text: &str, before: &mut Vec<String>, found: &mut impl FnMut(&[String])) -> usize {
    let (known, mut at) = (before.len(), 0);
    let blanks = |at: usize| text[at..].len() - text[at..].trim_start().len();
    loop {
        at += blanks(at);
        if text[at..].starts_with('{') {
            at += 1;
            loop {
                at += blanks(at);
                match text[at..].chars().next() {
                    Some(',') => at += 1,
                    Some('}') | None => break,
                    // A list contains only names and stars; anything else ends it.
                    Some(c) if !(c.is_alphanumeric() || matches!(c, '_' | '*' | '{')) => break,
                    Some(_) => at += read_paths(&text[at..], before, found),
                }
            }
            at = (at + 1).min(text.len());
            break;
        }
        let name = name_at(&text[at..]);
        if name.is_empty() {
            found(before);
            at += usize::from(text[at..].starts_with('*'));
            break;
        }
        at += name.len();
        before.push(name);
        if !text[at..].starts_with("::") {
            found(before);
            // `a as b`: the new name is not part of the path.
            let rest = text[at..].trim_start();
            if let Some(other) = rest.strip_prefix("as ") {
                at = text.len() - other.len() + name_at(other).len();
            }
            break;
        }
        at += 2;
    }
    before.truncate(known);
    at
}

/// Converts a path of this file that begins with `crate`, `self` or `super` to a path from the crate's root. Within
/// a module inside the file, `super` leads one step less far; such a module counts as its file.
fn from_root(file: &str, names: &[String]) -> Vec<String> {
    let place = file.strip_suffix(".rs").unwrap_or(file);
    let place = place.strip_suffix("/mod").unwrap_or(place);
    let mut here: Vec<String> = place.split('/').map(String::from).collect();
    for (i, name) in names.iter().enumerate() {
        match name.as_str() {
            "crate" if i == 0 => here.clear(),
            "self" => {}
            "super" => drop(here.pop()),
            _ => {
                here.extend(names[i..].iter().filter(|name| *name != "self").cloned());
                break;
            }
        }
    }
    here
}

fn name_at(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|rooms| rooms.contains(&room))
}

/// Fails with all complaints, if there are any.
#[track_caller]
fn expect_none(rule: &str, complaints: &[String]) {
    let mut text = String::new();
    for complaint in complaints {
        let _ = writeln!(text, "  {complaint}");
    }
    assert!(complaints.is_empty(), "{rule}\n{text}");
}

#[test]
fn rooms_import_from_lower_layers_only() {
    let mut complaints = Vec::new();
    for source in sources() {
        let Some(room) = source.room() else { continue };
        let Some(here) = layer(room) else {
            complaints.push(format!("src/{}: the room '{room}' has no layer in tests/tidy.rs", source.name));
            continue;
        };
        for (line, path) in paths_used(&source) {
            let Some(other) = path.first() else { continue };
            let Some(there) = layer(other) else { continue };
            if other != room && there >= here {
                complaints
                    .push(format!("{room} ({here}) may not know {other} ({there}): {}", source.at(line)));
            }
        }
    }
    expect_none("A room imports only from rooms of lower layers.", &complaints);
}

#[test]
fn commands_do_not_import_each_other() {
    let sources = sources();
    let groups: Vec<&str> = sources
        .iter()
        .filter_map(|source| source.name.strip_prefix("commands/"))
        .map(|name| name.split(['/', '.']).next().expect("split yields at least one"))
        .filter(|name| *name != "mod" && !SHARED_COMMANDS.contains(name))
        .collect();
    let mut complaints = Vec::new();
    for source in &sources {
        let Some(own) = source.name.strip_prefix("commands/").and_then(|name| name.split(['/', '.']).next())
        else {
            continue;
        };
        if own == "mod" {
            continue;
        }
        for (line, path) in paths_used(source) {
            let [room, other, ..] = &path[..] else { continue };
            if room == "commands" && !of_one_group(other, own) && groups.contains(&other.as_str()) {
                complaints.push(format!("{own} may not know {other}: {}", source.at(line)));
            }
        }
    }
    expect_none("Command groups share helpers in named modules only.", &complaints);
}

fn of_one_group(a: &str, b: &str) -> bool {
    let begin = |name: &str| name.split('_').next().map(String::from);
    begin(a) == begin(b) || GROUPS.iter().any(|files| files.contains(&a) && files.contains(&b))
}

/// Of the files of `server`, the one that a path from the crate's root leads into. `Server` itself, which everybody uses,
/// is in none of them.
fn file_of_server<'s>(sources: &'s [Source], path: &[String]) -> Option<&'s str> {
    let (room, inner) = path.split_first()?;
    if room != "server" {
        return None;
    }
    let file = |name: String| sources.iter().map(|source| &*source.name).find(|known| *known == name);
    (1..=inner.len()).rev().find_map(|len| {
        let place = format!("server/{}", inner[..len].join("/"));
        // `use super::*` names all of a room; who uses something that stands in the room's own file names that.
        let of_room = || file(format!("{place}/mod.rs")).filter(|_| len < inner.len());
        file(format!("{place}.rs")).or_else(of_room)
    })
}

/// A way along `edges` from a name back to itself, if there is one, as the names in order.
fn circle<'s>(edges: &BTreeMap<&'s str, BTreeMap<&'s str, String>>) -> Option<Vec<&'s str>> {
    fn walk<'s>(
        edges: &BTreeMap<&'s str, BTreeMap<&'s str, String>>,
        at: &'s str,
        way: &mut Vec<&'s str>,
        done: &mut BTreeSet<&'s str>,
    ) -> bool {
        if let Some(start) = way.iter().position(|name| *name == at) {
            way.drain(..start);
            return true;
        }
        if done.contains(at) {
            return false;
        }
        way.push(at);
        if edges.get(at).is_some_and(|others| others.keys().any(|other| walk(edges, other, way, done))) {
            return true;
        }
        way.pop();
        done.insert(at);
        false
    }
    let (mut way, mut done) = (Vec::new(), BTreeSet::new());
    edges.keys().any(|name| walk(edges, name, &mut way, &mut done)).then_some(way)
}

#[test]
fn files_of_the_server_do_not_go_in_circles() {
    let sources = sources();
    let mut edges: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for source in &sources {
        // A command's entry names handlers, which are given a context, and that knows the entry: these describe each other.
        if source.room() != Some("server") || source.name.starts_with("server/command") {
            continue;
        }
        for (line, path) in paths_used(source) {
            if let Some(other) = file_of_server(&sources, &path).filter(|other| *other != source.name) {
                edges.entry(&source.name).or_default().entry(other).or_insert_with(|| source.at(line));
            }
        }
    }
    assert!(edges.len() > 10, "files of the server use each other");
    let way = circle(&edges).unwrap_or_default();
    let next = way.iter().cycle().skip(1);
    let complaints: Vec<String> = way.iter().zip(next).map(|(from, to)| edges[from][to].clone()).collect();
    expect_none("No file of the server uses one that uses it, however far around.", &complaints);
}

#[test]
fn circles_are_found() {
    let find = |pairs: &[(&'static str, &'static str)]| {
        let mut edges: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
        for (from, to) in pairs {
            edges.entry(from).or_default().insert(to, String::new());
        }
        circle(&edges)
    };
    assert_eq!(find(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]), None);
    assert_eq!(find(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]), Some(vec!["b", "c"]));
    assert_eq!(find(&[("a", "b"), ("b", "a")]), Some(vec!["a", "b"]));
}

#[test]
fn the_map_declares_rooms_in_layer_order() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("the map");
    let declared: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let layers: Vec<usize> = declared
        .iter()
        .map(|room| layer(room).unwrap_or_else(|| panic!("the room '{room}' has no layer")))
        .collect();
    assert!(layers.is_sorted(), "lib.rs declares rooms from the ground up: {declared:?}");
    assert_eq!(declared.len(), LAYERS.iter().map(|rooms| rooms.len()).sum::<usize>(), "{declared:?}");
}

#[test]
fn every_module_says_what_it_is() {
    let mut complaints = Vec::new();
    for source in sources() {
        // Tests in a file of their own belong to the module they test.
        if source.name.ends_with("/tests.rs") {
            continue;
        }
        let first = source.lines.iter().find(|line| !line.trim().is_empty());
        if !first.is_some_and(|line| line.starts_with("//! ")) {
            complaints.push(format!("src/{}", source.name));
        }
    }
    expect_none("A module opens with //! and what it is.", &complaints);
}

/// A use of `unsafe` in a line.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Unsafe {
    /// A block or an implementation, which must say why it is sound.
    Claim,
    /// A function or a trait, which must state its requirements.
    Contract,
}

fn unsafe_in(code: &str) -> Option<Unsafe> {
    let mut found = None;
    for (at, word) in code.match_indices("unsafe") {
        let whole = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let rest = &code[at + word.len()..];
        let names =
            |keyword: &str| rest.split_once(keyword).is_some_and(|(_, rest)| !name_at(rest).is_empty());
        if !whole || !rest.is_empty() && !rest.starts_with([' ', '{']) {
            continue;
        }
        let rest = rest.trim_start();
        if rest.starts_with('{') || rest.is_empty() || rest.starts_with("impl") || rest.starts_with("extern")
        {
            let is_function = rest.starts_with("extern") && names("fn ");
            return Some(if is_function { Unsafe::Contract } else { Unsafe::Claim });
        }
        if rest.starts_with("trait ") || rest.starts_with("fn ") && names("fn ") {
            found = Some(Unsafe::Contract);
        }
    }
    found
}

/// The innermost bracket open at the start of each line.
fn open_at_lines(code: &[String]) -> Vec<Option<char>> {
    let mut open = Vec::new();
    let mut at_lines = Vec::with_capacity(code.len());
    for line in code {
        at_lines.push(open.last().copied());
        for symbol in line.chars() {
            match symbol {
                '(' | '[' | '{' => open.push(symbol),
                ')' | ']' | '}' => _ = open.pop(),
                _ => {}
            }
        }
    }
    at_lines
}

/// Whether the comment directly above `line`, with only attributes between, contains one of `words`.
fn comment_above_has(source: &Source, line: usize, words: &[&str]) -> bool {
    let above = source.lines[..line].iter().rev().map(|text| text.trim());
    above
        .skip_while(|text| text.starts_with("#["))
        .take_while(|text| text.starts_with("//"))
        .any(|text| words.iter().any(|word| text.contains(word)))
}

/// Whether a SAFETY comment is in `line`, directly above it, or directly above a line between the start of the
/// statement and `line`.
fn claim_has_reason(source: &Source, open: &[Option<char>], line: usize) -> bool {
    if source.lines[line].contains("SAFETY:") {
        return true;
    }
    let mut at = line;
    loop {
        if comment_above_has(source, at, &["SAFETY:"]) {
            return true;
        }
        let Some(above) = at.checked_sub(1).map(|above| source.code[above].trim()) else { return false };
        let in_parentheses = matches!(open[at], Some('(' | '['));
        let goes_on = source.code[at].trim_start().starts_with(['.', '?', ')', ']']);
        let ends =
            above.is_empty() || above.ends_with([';', '{', '}']) || above.ends_with(',') && !in_parentheses;
        if ends && !goes_on {
            return false;
        }
        at -= 1;
    }
}

fn has_reason(source: &Source, open: &[Option<char>], line: usize) -> bool {
    match unsafe_in(&source.code[line]) {
        None => true,
        Some(Unsafe::Claim) => claim_has_reason(source, open, line),
        Some(Unsafe::Contract) => {
            // The contract of a trait's method is in the trait.
            is_of_trait(source, line) || comment_above_has(source, line, &["# Safety"])
        }
    }
}

/// Whether `line` belongs to the implementation of a trait.
fn is_of_trait(source: &Source, line: usize) -> bool {
    let indent = |text: &str| text.len() - text.trim_start().len();
    let own = indent(&source.lines[line]);
    let around = source.code[..line].iter().rev().find(|code| !code.trim().is_empty() && indent(code) < own);
    around.is_some_and(|code| code.contains("impl") && code.contains(" for "))
}

#[test]
fn every_unsafe_has_its_reason() {
    let mut complaints = Vec::new();
    for source in sources() {
        let open = open_at_lines(&source.code);
        let lines = (0..source.code.len()).filter(|&line| !has_reason(&source, &open, line));
        complaints.extend(lines.map(|line| source.at(line)));
    }
    expect_none("Every unsafe has SAFETY: or # Safety directly above its statement.", &complaints);
}

#[test]
fn unsafe_code_is_in_named_files_only() {
    let mut complaints = Vec::new();
    let sources = sources();
    for source in &sources {
        let named = UNSAFE.contains(&source.name.as_str());
        let has = |code: &String| unsafe_in(code).is_some();
        for (line, code) in source.code.iter().enumerate() {
            if !named && (has(code) || code.contains("allow(unsafe_code)")) {
                complaints.push(source.at(line));
            }
        }
        if named && !source.code.iter().any(has) {
            complaints.push(format!("src/{} has none", source.name));
        }
        if source.name == "lib.rs" && !source.code.iter().any(|line| line == "#![deny(unsafe_code)]") {
            complaints.push("src/lib.rs does not deny unsafe_code".into());
        }
    }
    let gone = UNSAFE.iter().filter(|name| !sources.iter().any(|source| source.name == **name));
    complaints.extend(gone.map(|name| format!("src/{name} is not there")));
    expect_none("Files with unsafe code are named in tests/tidy.rs.", &complaints);
}

#[test]
fn pointers_stay_pointers() {
    let mut complaints = Vec::new();
    for source in sources() {
        for (line, code) in source.code.iter().enumerate() {
            let exposed = code.contains("expose_provenance") || code.contains("with_exposed_provenance");
            let cast = [" as *const", " as *mut"].iter().any(|word| code.contains(word));
            if cast || exposed && !EXPOSED.contains(&source.name.as_str()) {
                complaints.push(source.at(line));
            }
        }
    }
    expect_none("No integer becomes a pointer, and pointers are cast by their methods.", &complaints);
}

#[test]
fn threads_wait_by_what_the_sanitizer_understands() {
    let mut complaints = Vec::new();
    for source in sources() {
        if source.name == "stdx/sync.rs" {
            continue;
        }
        for (line, code) in source.code.iter().enumerate() {
            if waits_unseen(code) {
                complaints.push(source.at(line));
            }
        }
    }
    expect_none(
        "Locks, channels and the like come from stdx::sync; threads are joined by their handles.",
        &complaints,
    );
}

/// Whether a line names something by which threads wait for each other and which `stdx::sync` does not provide.
fn waits_unseen(code: &str) -> bool {
    const UNSEEN: [&str; 10] = [
        "Barrier",
        "Condvar",
        "LazyLock",
        "Mutex",
        "Once",
        "OnceLock",
        "ReentrantLock",
        "RwLock",
        "mpmc",
        "mpsc",
    ];
    let words = |text: &str| -> Vec<String> {
        text.split(|c: char| !(c.is_alphanumeric() || c == '_')).map(String::from).collect()
    };
    let in_sync = code.match_indices("std::sync::").any(|(at, path)| {
        let rest = &code[at + path.len()..];
        words(rest.split(';').next().unwrap_or(rest)).iter().any(|word| UNSEEN.contains(&word.as_str()))
    });
    let in_thread = ["thread::scope", "thread::park"].iter().any(|path| code.contains(path));
    in_sync || in_thread || code.contains("std::sync::*") || code.trim_end().ends_with("std::sync::{")
}

#[test]
fn waiting_is_recognised() {
    let unseen = [
        "use std::sync::{Arc, Mutex};",
        "use std::sync::mpsc::{self, Sender};",
        "let lock = std::sync::RwLock::new(());",
        "use std::sync::{",
        "use std::sync::*;",
        "std::thread::scope(|scope| {",
        "thread::park();",
    ];
    let seen = [
        "use std::sync::{Arc, PoisonError};",
        "use std::sync::atomic::{AtomicU64, Ordering};",
        "use crate::stdx::sync::{Mutex, OnceLock};",
        "use std::sync::Arc; struct Mutex;",
        "thread::spawn(|| ());",
    ];
    unseen.iter().for_each(|line| assert!(waits_unseen(line), "{line}"));
    seen.iter().for_each(|line| assert!(!waits_unseen(line), "{line}"));
}

#[test]
fn nothing_is_left_unfinished() {
    let mut complaints = Vec::new();
    for source in sources() {
        for (line, code) in source.code.iter().enumerate() {
            if ["todo!", "unimplemented!", "dbg!"].iter().any(|word| code.contains(word)) {
                complaints.push(source.at(line));
            }
        }
    }
    expect_none("No todo!, unimplemented! or dbg!.", &complaints);
}

#[test]
fn texts_are_taken_apart_rightly() {
    let text = "a /* b\n */ c // d\n\"e\\\" f\" g 'h' i<'j> '\\n' r#\"k\"\nl\"# m b\"n\" '\\'' o";
    let words = bare(text);
    assert_eq!(words.split_whitespace().collect::<Vec<_>>(), ["a", "c", "g", "i<'j>", "m", "b", "o"]);
    assert_eq!(words.matches('\n').count(), text.matches('\n').count());
}

#[test]
fn paths_are_found_however_they_are_written() {
    let paths = |name: &str, code: &[&str]| -> Vec<(usize, String)> {
        let code = code.iter().map(|&line| line.to_owned()).collect();
        let source = Source { name: name.into(), lines: Vec::new(), code };
        paths_used(&source).into_iter().map(|(line, path)| (line, path.join("::"))).collect()
    };
    let expect = |name: &str, code: &[&str], expected: &[(usize, &str)]| {
        let expected: Vec<(usize, String)> =
            expected.iter().map(|&(line, path)| (line, path.into())).collect();
        assert_eq!(paths(name, code), expected, "{name}: {code:?}");
    };
    expect(
        "net/io.rs",
        &["use crate::{stats::{log, Stats as S}, stdx,", "  config::Config};", "crate::net::x()"],
        &[(0, "stats::log"), (0, "stats::Stats"), (0, "stdx"), (0, "config::Config"), (2, "net::x")],
    );
    expect(
        "commands/list.rs",
        &[
            "use super::{hash, set::{self, scan as s}, zset::*};",
            "super::string::get(self::helper, $crate::x)",
        ],
        &[
            (0, "commands::hash"),
            (0, "commands::set"),
            (0, "commands::set::scan"),
            (0, "commands::zset"),
            (1, "commands::string::get"),
            (1, "commands::list::helper"),
        ],
    );
    expect(
        "types/zset/tests.rs",
        &["use super::super::hash::Hash;", "use super::*;", "pub(super) fn f(x: &self::X) {}"],
        &[(0, "types::hash::Hash"), (1, "types::zset"), (2, "types::zset::tests::X")],
    );
    expect(
        "types/mod.rs",
        &["use super::keyspace::{db, entry::Entry};"],
        &[(0, "keyspace::db"), (0, "keyspace::entry::Entry")],
    );
    expect("lib.rs", &["my_crate::x; crate::{", "a::{", "b, c}, d}"], &[(0, "a::b"), (0, "a::c"), (0, "d")]);
}

#[test]
fn a_reason_stands_where_it_belongs() {
    let with_reason = [
        "// SAFETY: a\nunsafe { b() }",
        "unsafe { b() } // SAFETY: a",
        "// SAFETY: a,\n// and b\n#[cfg(c)]\nlet d = e\n    .f(unsafe { g() });",
        "// SAFETY: a\nlet b = c(\n    d,\n    unsafe { e() },\n);",
        "let b = c(\n    d,\n    // SAFETY: a\n    unsafe { e() },\n);",
        "match a {\n    // SAFETY: b\n    C => unsafe { d() },\n}",
        "// SAFETY: a\nunsafe impl B for C {}",
        "/// # Safety\n/// a\n#[inline]\nunsafe fn b() {}",
        "/// # Safety\n/// a\nunsafe fn b() {\n    // SAFETY: c\n    unsafe { d() }\n}",
        "/// # Safety\n/// a\npub unsafe trait B {}",
        "/// # Safety\n/// a\nunsafe extern \"C\" fn b() {}",
        "// SAFETY: a\nunsafe impl B for C {\n    /// d\n    unsafe fn e() {}\n}",
        "fn a(b: unsafe fn(u8)) {}\n#![allow(unsafe_code)]",
    ];
    let without_reason = [
        "unsafe { b() }",
        "// SAFETY: a\n\nunsafe { b() }",
        "// SAFETY: a\nlet c = d();\nunsafe { b() }",
        "// SAFETY: a\nif b {\n    unsafe { c() }\n}",
        "match a {\n    // SAFETY: b\n    C => unsafe { d() },\n    E => unsafe { f() },\n}",
        "// a\nunsafe impl B for C {}",
        "let a =\n    unsafe { b() };",
        "/// a\nunsafe fn b() {}",
        "impl A {\n    unsafe fn b() {}\n}",
        "unsafe fn a() {\n    // SAFETY: b\n    unsafe { c() }\n}",
        "pub unsafe trait B {}",
        "/// a\nunsafe extern \"C\" fn b() {}",
        "let a = \"SAFETY\"; unsafe\n{ b() }",
    ];
    let check = |text: &str| {
        let lines: Vec<String> = text.lines().map(String::from).collect();
        let source =
            Source { name: "a.rs".into(), lines, code: bare(text).lines().map(String::from).collect() };
        let open = open_at_lines(&source.code);
        (0..source.lines.len()).all(|line| has_reason(&source, &open, line))
    };
    with_reason.iter().for_each(|text| assert!(check(text), "{text}"));
    without_reason.iter().for_each(|text| assert!(!check(text), "{text}"));
}
