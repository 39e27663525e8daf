//! Configuration files and the command line.
//!
//! A file consists of lines of words, the first of which is a directive. Blank lines and lines that start with `#`
//! are skipped. The command line is converted to lines and appended to the file, so that it takes precedence and so
//! that `--save` adds to the file's rules as another line would.
//!
//! Four directives are not parameters: `include` reads other files, `user` and `rename-command` are kept for the
//! rooms that know users and commands, and `loadmodule` is refused.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::nearest::nearest;
use super::options::{Config, Place, RenamedCommand, SentinelLine, UserLine};
use super::param::Param;
use super::value::Reason;
use super::{os_error, table};
use crate::stdx::{glob, quote};

/// Largest depth of nested includes.
const MAX_DEPTH: usize = 16;

/// Directives of old files that have no effect any more.
const OBSOLETE: [&str; 3] = ["list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"];

/// Errors after which reading stops: a file that is no configuration at all is not listed line by line.
const MAX_ERRORS: usize = 100;

/// An error in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// A line is invalid.
    Line {
        /// The included file that contains the line; `None` for the outermost text.
        file: Option<String>,
        /// Number of the line, from 1.
        line: usize,
        /// The line without surrounding blanks.
        text: Vec<u8>,
        /// What is invalid.
        reason: Reason,
        /// The known directive that is spelled most like the one of the line, if that is unknown.
        nearest: Option<&'static str>,
    },
    /// Each line is valid, but not together with the others.
    Conflict(Reason),
    /// A file could not be read.
    Open {
        /// Name of the file as given.
        file: String,
        /// The operating system's error message.
        reason: Reason,
    },
}

impl FileError {
    /// The error that the text at `place` is invalid for `reason`.
    pub fn at(place: &Place, reason: impl Into<Reason>) -> FileError {
        let Place { file, line, text } = place.clone();
        FileError::Line { file, line, text, reason: reason.into(), nearest: None }
    }

    /// One line for each error, for those who correct the file: `FILE:LINE: error: DIRECTIVE: REASON`. Values are left
    /// out, because they may be secrets.
    pub fn listed(&self) -> String {
        match self {
            FileError::Line { file, line, text, reason, nearest } => {
                let file = file.as_deref().unwrap_or("-");
                let directive = text.split(u8::is_ascii_whitespace).next().unwrap_or_default();
                let directive = String::from_utf8_lossy(directive);
                let hint = nearest.map_or_else(String::new, |name| format!("; the nearest name is '{name}'"));
                format!("{file}:{line}: error: {directive}: {reason}{hint}")
            }
            FileError::Conflict(reason) => format!("error: {reason}"),
            FileError::Open { file, reason } => format!("{file}: error: cannot be read: {reason}"),
        }
    }

    /// The part of [`FileErrors::message`] about this error.
    fn describe(&self) -> String {
        match self {
            FileError::Line { file, line, text, reason, nearest } => {
                let file = file.as_ref().map_or_else(String::new, |file| format!(" '{file}'"));
                let text = String::from_utf8_lossy(text);
                let hint = nearest.map_or_else(String::new, |name| format!("The nearest name is '{name}'\n"));
                format!(
                    "Reading the configuration file{file}, at line {line}\n>>> '{text}'\n{reason}\n{hint}"
                )
            }
            FileError::Conflict(reason) => format!("{reason}\n"),
            FileError::Open { file, reason } => {
                format!("Fatal error, can't open config file '{file}': {reason}\n")
            }
        }
    }
}

/// All errors of a configuration, in order; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileErrors(pub Vec<FileError>);

impl FileErrors {
    /// The message for standard error. `server` names the program and its version, as in `Redis 7.2.4`.
    pub fn message(&self, server: &str) -> String {
        let parts: String = self.0.iter().map(FileError::describe).collect();
        if self.only_unreadable() {
            return parts;
        }
        format!("*** FATAL CONFIG FILE ERROR ({server}) ***\n{parts}")
    }

    /// Whether nothing is wrong but that files cannot be read.
    pub fn only_unreadable(&self) -> bool {
        self.0.iter().all(|error| matches!(error, FileError::Open { .. }))
    }
}

impl From<FileError> for FileErrors {
    fn from(error: FileError) -> FileErrors {
        FileErrors(vec![error])
    }
}

/// A directive without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line of the directive.
    pub place: Place,
    /// A sentence for the log.
    pub text: String,
    /// Whether the log is told: what has no effect with related servers either is not worth a line at each start.
    pub logged: bool,
}

/// What was found in a configuration.
#[derive(Debug, Default)]
pub struct Findings {
    /// What is wrong, in order.
    pub errors: Vec<FileError>,
    /// What has no effect, in order.
    pub notes: Vec<Note>,
}

/// Applies the lines of `text` to `config`. After an error, all valid lines are in effect. Returns messages for the
/// log, one for each directive without effect.
///
/// # Errors
/// All invalid lines, files that cannot be included, and parameters that exclude each other.
pub fn load(text: &[u8], config: &mut Config) -> Result<Vec<String>, FileErrors> {
    let Findings { errors, notes } = examine(&[(None, text)], config);
    if errors.is_empty() {
        Ok(notes.into_iter().filter(|note| note.logged).map(|note| note.text).collect())
    } else {
        Err(FileErrors(errors))
    }
}

/// Applies the lines of `texts` to `config`, one text after the other, each with the name by which errors call it.
/// Stops after [`MAX_ERRORS`].
pub fn examine(texts: &[(Option<&str>, &[u8])], config: &mut Config) -> Findings {
    let mut loader = Loader { config, seen: Vec::new(), found: Findings::default() };
    for (file, text) in texts {
        loader.lines(text, *file, 0);
    }
    let Loader { config, seen, mut found } = loader;
    for (param, place) in seen {
        if let Some(text) = param.unused_note(config) {
            found.notes.push(Note { place, text, logged: true });
        }
    }
    if config.cluster.enabled && config.replication.replicaof.is_some() {
        found.errors.push(FileError::Conflict("replicaof directive not allowed in cluster mode".into()));
    }
    found
}

struct Loader<'a> {
    config: &'a mut Config,
    /// The parameters set so far, and the last line that set each.
    seen: Vec<(&'static Param, Place)>,
    found: Findings,
}

impl Loader<'_> {
    fn lines(&mut self, text: &[u8], file: Option<&str>, depth: usize) {
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            if self.found.errors.len() >= MAX_ERRORS {
                return;
            }
            let place = || Place { file: file.map(String::from), line: index + 1, text: line.into() };
            let Ok(words) = quote::split_args(line) else {
                self.found.errors.push(FileError::at(&place(), "Unbalanced quotes in configuration line"));
                continue;
            };
            let Some((name, values)) = words.split_first() else { continue };
            if let ([pattern], true) = (values, name.eq_ignore_ascii_case(b"include")) {
                if depth == MAX_DEPTH {
                    self.found.errors.push(FileError::at(&place(), "Too many levels of included files"));
                } else {
                    self.include(pattern, depth + 1);
                }
            } else if let Err((reason, nearest)) = self.directive(name, values, &place) {
                let Place { file, line, text } = place();
                self.found.errors.push(FileError::Line { file, line, text, reason, nearest });
            }
        }
    }

    /// Applies a directive. An error comes with the nearest known name, if the directive is unknown.
    fn directive(
        &mut self,
        name: &[u8],
        values: &[Vec<u8>],
        place: &impl Fn() -> Place,
    ) -> Result<(), (Reason, Option<&'static str>)> {
        const BAD: &str = "Bad directive or wrong number of arguments";
        let known = |reason: Reason| (reason, None);
        if let Some(param) = table::find(name) {
            return self.param(param, values, place).map_err(known);
        }
        if let Some(judgement) = self.config.foreign.set(name, values) {
            if let Some(text) = judgement.map_err(known)? {
                self.found.notes.push(Note { place: place(), text, logged: true });
            }
            return Ok(());
        }
        match (name.to_ascii_lowercase().as_slice(), values) {
            (b"rename-command", [from, to]) => {
                self.config.security.renamed_commands.push(RenamedCommand {
                    from: from.clone(),
                    to: to.clone(),
                    place: place(),
                });
                Ok(())
            }
            (b"user", [name, rules @ ..]) => {
                if self.config.security.users.iter().any(|user| user.name == *name) {
                    let name = String::from_utf8_lossy(name);
                    return Err(known(
                        format!(
                            "Error in user declaration '{name}': Duplicate user found. \
                             A user can only be defined once in config files"
                        )
                        .into(),
                    ));
                }
                let mut user = UserLine { name: name.clone(), rules: rules.into(), place: place() };
                user.place.text = shown(values);
                self.config.security.users.push(user);
                Ok(())
            }
            (b"sentinel", words) => {
                if !self.config.sentinel.enabled {
                    return Err(known("sentinel directive while not in sentinel mode".into()));
                }
                self.config.sentinel.lines.push(SentinelLine::read(words, place()));
                Ok(())
            }
            (b"loadmodule", [_, ..]) => {
                Err(known("Modules are not supported: this server cannot load them".into()))
            }
            (name, [_]) if OBSOLETE.iter().any(|obsolete| obsolete.as_bytes() == name) => {
                let text = format!("'{}' has no effect: it is obsolete.", String::from_utf8_lossy(name));
                self.found.notes.push(Note { place: place(), text, logged: false });
                Ok(())
            }
            (b"rename-command" | b"user" | b"include" | b"loadmodule", _) => Err(known(BAD.into())),
            (name, _) => Err((BAD.into(), nearest(name))),
        }
    }

    fn param(
        &mut self,
        param: &'static Param,
        values: &[Vec<u8>],
        place: &impl Fn() -> Place,
    ) -> Result<(), Reason> {
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let before = self.seen.iter().position(|(seen, _)| seen.name == param.name);
        param.read(self.config, &values, before.is_some())?;
        let Some(before) = before else {
            self.seen.push((param, place()));
            return Ok(());
        };
        let now = place();
        let earlier = std::mem::replace(&mut self.seen[before].1, now.clone());
        if !param.adds_up() {
            let file = now.file.filter(|file| earlier.file.as_ref() != Some(file));
            let file = file.map_or_else(String::new, |file| format!(" of {file}"));
            let text = format!("'{}' has no effect: line {}{file} sets it again.", param.name, now.line);
            self.found.notes.push(Note { place: earlier, text, logged: false });
        }
        Ok(())
    }

    /// Reads all files that match `pattern`, in alphabetical order. A pattern with wildcards may match none.
    fn include(&mut self, pattern: &[u8], depth: usize) {
        for path in expand(pattern) {
            let name = path.to_string_lossy().into_owned();
            match read_file(&path, &name) {
                Ok(text) => self.lines(&text, Some(&name), depth),
                Err(error) => self.found.errors.push(error),
            }
        }
    }
}

/// A `user` line without its passwords.
fn shown(words: &[Vec<u8>]) -> Vec<u8> {
    let mut text = b"user".to_vec();
    for word in words {
        text.push(b' ');
        match word.first() {
            Some(b'>' | b'<' | b'#' | b'!') => text.extend_from_slice(b"(redacted)"),
            _ => text.extend_from_slice(word),
        }
    }
    text
}

fn read_file(path: &Path, name: &str) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|error| FileError::Open { file: name.into(), reason: os_error(&error) })
}

/// The paths that match a shell pattern, sorted, or the pattern itself if it has no wildcard. As in a shell, a
/// wildcard does not match the leading dot of a hidden file.
fn expand(pattern: &[u8]) -> Vec<PathBuf> {
    let is_pattern = |text: &[u8]| text.iter().any(|byte| b"*?[".contains(byte));
    if !is_pattern(pattern) {
        return vec![std::ffi::OsStr::from_bytes(pattern).into()];
    }
    let mut paths = vec![PathBuf::from(if pattern.starts_with(b"/") { "/" } else { "" })];
    for part in pattern.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
        paths = paths
            .into_iter()
            .flat_map(|path| {
                if !is_pattern(part) {
                    return vec![path.join(std::ffi::OsStr::from_bytes(part))];
                }
                let directory = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
                let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
                entries
                    .map(|entry| entry.file_name())
                    .filter(|name| !name.as_bytes().starts_with(b".") || part.starts_with(b"."))
                    .filter(|name| glob::matches(part, name.as_bytes()))
                    .map(|name| path.join(name))
                    .collect()
            })
            .collect();
    }
    paths.retain(|path| path.exists());
    paths.sort();
    paths
}

/// The configuration given on the command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Configuration file, if one is named.
    pub file: Option<PathBuf>,
    /// Whether to read standard input as well, because `-` is the first or the last argument.
    pub stdin: bool,
    /// Options as lines of a configuration file.
    pub options: Vec<u8>,
    /// Whether the server is to be a Sentinel, because `--sentinel` is among the arguments.
    pub sentinel: bool,
}

impl CommandLine {
    /// Parses `[file] [--name value …]… [-]`; `args` excludes the program's name.
    ///
    /// Each `--name` starts a line, and the arguments after it are its values, quoted as needed. The argument
    /// directly after a bare `--name` is always a value, even if it starts with `--`, with one exception: `--save`
    /// may stand without a value to mean no save rules. Name and values may also share an argument, as in
    /// `"--maxmemory 1gb"`. Options are not validated here but when the lines are loaded.
    pub fn parse(args: &[OsString]) -> CommandLine {
        let mut line = CommandLine::default();
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let mut value_expected = false;
        for (index, &arg) in args.iter().enumerate() {
            let (is_first, next) = (index == 0, args.get(index + 1));
            if arg == b"--sentinel" && !value_expected {
                line.sentinel = true;
                continue;
            }
            if is_first && !arg.starts_with(b"-") {
                line.file = Some(std::ffi::OsStr::from_bytes(arg).into());
            } else if arg == b"-" && (is_first || next.is_none()) {
                line.stdin = true;
            } else if let (Some(option), false) = (arg.strip_prefix(b"--"), value_expected) {
                if !line.options.is_empty() {
                    line.options.push(b'\n');
                }
                line.options.extend_from_slice(option);
                line.options.push(b' ');
                let bare = quote::split_args(option).is_ok_and(|words| words.len() <= 1);
                let no_rules =
                    option.eq_ignore_ascii_case(b"save") && next.is_none_or(|next| next.starts_with(b"--"));
                if no_rules {
                    line.options.extend_from_slice(b"\"\"");
                }
                value_expected = bare && !no_rules;
            } else {
                quote::push_repr(arg, &mut line.options);
                line.options.push(b' ');
                value_expected = false;
            }
        }
        line
    }

    /// The whole configuration as one text: the file, standard input, the options.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn text(&self) -> Result<Vec<u8>, FileError> {
        let mut text = self.parts()?.into_iter().map(|(_, text)| text);
        let mut whole = text.next().unwrap_or_default();
        for part in text {
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    }

    /// The file, standard input and the options, in this order, each with a name; those that are not given are left
    /// out. The options follow the end of a line.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn parts(&self) -> Result<Vec<(String, Vec<u8>)>, FileError> {
        let mut parts = Vec::new();
        if let Some(path) = &self.file {
            let shown = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let text = read_file(path, &shown.to_string_lossy())?;
            parts.push((path.to_string_lossy().into_owned(), text));
        }
        if self.stdin {
            let open = |error: io::Error| FileError::Open { file: "-".into(), reason: os_error(&error) };
            let mut text = Vec::new();
            io::stdin().lock().read_to_end(&mut text).map_err(open)?;
            parts.push(("standard input".into(), text));
        }
        if !self.options.is_empty() {
            parts.push(("command line".into(), [b"\n", &self.options[..]].concat()));
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::{LogLevel, SaveRules, Words};

    fn loaded(text: &str) -> Config {
        let mut config = Config::default();
        load(text.as_bytes(), &mut config).unwrap_or_else(|error| panic!("{}", error.message("Redis")));
        config
    }

    /// Number and text of the line for which a text is rejected, and the reason.
    fn refused(text: &str) -> (usize, String, String) {
        let errors = load(text.as_bytes(), &mut Config::default()).expect_err(text).0;
        match &errors[..] {
            [FileError::Line { file: None, line, text, reason, .. }] => {
                (*line, String::from_utf8_lossy(text).into(), reason.to_string())
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    fn parse(args: &[&str]) -> CommandLine {
        CommandLine::parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    fn options(args: &[&str]) -> String {
        String::from_utf8(parse(args).options).expect("the test uses ASCII")
    }

    #[test]
    fn lines_are_words_in_any_case_and_quoting() {
        let config = loaded(
            "# a comment\r\n\n  PORT   7000 \t\r\n\"timeout\" '30'\nrequirepass \"a b\\x01\"\nslave-priority 5\n\
             loglevel DEBUG\nbind\nlist-max-ziplist-entries 512",
        );
        assert_eq!(config.net.port, 7000);
        assert_eq!(config.net.timeout_s, 30);
        assert_eq!(config.security.requirepass, b"a b\x01");
        assert_eq!(config.replication.priority, 5);
        assert_eq!(config.logs.level, LogLevel::Debug);
        assert!(config.net.bind.is_empty());
    }

    #[test]
    fn save_lines_add_up_after_the_first() {
        let save = |text: &str| loaded(text).persistence.save.print();
        assert_eq!(save(""), SaveRules::default().print());
        assert_eq!(save("save 900 1"), "900 1");
        assert_eq!(save("save 900 1\nsave 100 100 50 1"), "900 1 100 100 50 1");
        assert_eq!(save("save \"900 1\"\nsave ''\nsave 5 6"), "5 6");
        assert_eq!(save("save 900 1\nsave \"\""), "");
        assert_eq!(save("save"), "");
    }

    #[test]
    fn buffer_limits_name_the_classes_they_mean() {
        let limits =
            loaded("client-output-buffer-limit pubsub 1gb 2 3\nclient-output-buffer-limit slave 0 0 0");
        assert_eq!(
            limits.limits.client_output_buffer.print(),
            "normal 0 0 0 slave 0 0 0 pubsub 1073741824 2 3"
        );
    }

    #[test]
    fn faults_are_found_where_they_are() {
        let at = |line: usize, text: &str, reason: &str| (line, text.to_string(), reason.to_string());
        let bad = "Bad directive or wrong number of arguments";
        assert_eq!(refused("port 1\n\n   foo \"x y\" 'z'  \n"), at(3, "foo \"x y\" 'z'", bad));
        assert_eq!(refused("port \"a"), at(1, "port \"a", "Unbalanced quotes in configuration line"));
        assert_eq!(refused("port \"1\"2"), at(1, "port \"1\"2", "Unbalanced quotes in configuration line"));
        assert_eq!(refused("port"), at(1, "port", "wrong number of arguments"));
        assert_eq!(refused("port 1 2"), at(1, "port 1 2", "wrong number of arguments"));
        assert_eq!(refused("aclfile"), at(1, "aclfile", "wrong number of arguments"));
        assert_eq!(
            refused("unixsocketperm 8"),
            at(1, "unixsocketperm 8", "argument couldn't be parsed as an octal number")
        );
        assert_eq!(
            refused("unixsocketperm 1000"),
            at(1, "unixsocketperm 1000", "argument must be between 0 and 777 inclusive")
        );
        assert_eq!(refused("replicaof a 99999"), at(1, "replicaof a 99999", "Invalid master port"));
        assert_eq!(refused("replicaof a"), at(1, "replicaof a", "wrong number of arguments"));
        assert_eq!(refused("appendfilename ''"), at(1, "appendfilename ''", "appendfilename can't be empty"));
        assert_eq!(refused("rename-command get"), at(1, "rename-command get", bad));
        assert_eq!(refused("user"), at(1, "user", bad));
        assert_eq!(refused("include"), at(1, "include", bad));
        assert!(refused("loadmodule x.so a b").2.contains("not supported"));
        assert!(refused("user a on\nuser a off").2.starts_with("Error in user declaration 'a': Duplicate"));
        let clash = load(b"cluster-enabled yes\nreplicaof a 1", &mut Config::default());
        assert_eq!(
            clash,
            Err(FileError::Conflict("replicaof directive not allowed in cluster mode".into()).into())
        );
    }

    #[test]
    fn messages_have_the_shape_tools_look_for() {
        let error = load(b"foo bar", &mut Config::default()).expect_err("no such directive");
        assert_eq!(
            error.message("Spinel 0.1.0"),
            "*** FATAL CONFIG FILE ERROR (Spinel 0.1.0) ***\nReading the configuration file, at line 1\n\
             >>> 'foo bar'\nBad directive or wrong number of arguments\n"
        );
    }

    #[test]
    fn users_and_renamed_commands_are_kept() {
        let config = loaded("user bob on '>p w' ~*\nrename-command FLUSHALL \"\"\nreplicaof host 7000\n");
        assert_eq!(config.security.users[0].name, b"bob");
        assert_eq!(config.security.users[0].rules, [&b"on"[..], b">p w", b"~*"]);
        let [renamed] = &config.security.renamed_commands[..] else { panic!("one line") };
        assert_eq!((&renamed.from[..], &renamed.to[..]), (&b"FLUSHALL"[..], &b""[..]));
        let text = b"rename-command FLUSHALL \"\"".to_vec();
        assert_eq!(renamed.place, Place { file: None, line: 2, text });
        let primary = config.replication.replicaof.expect("just set");
        assert_eq!((primary.host.as_str(), primary.port), ("host", 7000));
        assert_eq!(loaded("replicaof host 1\nslaveof NO one").replication.replicaof, None);
    }

    /// A temporary directory, removed when dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("spinel-config-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).expect("the temporary directory is writable");
            Scratch(path)
        }

        fn write(&self, name: &str, text: &str) -> String {
            let path = self.0.join(name);
            std::fs::write(&path, text).expect("the scratch directory is writable");
            path.to_str().expect("the test uses ASCII").into()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn included_files_are_read_in_place_and_in_order() {
        let scratch = Scratch::new("include");
        scratch.write("b.conf", "port 2\nsave 5 6");
        scratch.write("a.conf", "port 1\ntimeout 9");
        scratch.write(".hidden.conf", "nonsense");
        scratch.write("other.txt", "nonsense");
        let directory = scratch.0.to_str().expect("the test uses ASCII");
        let config =
            loaded(&format!("save 3 4\ninclude {directory}/*.conf\ninclude {directory}/*.none\ntimeout 8"));
        assert_eq!(config.net.port, 2);
        assert_eq!(config.net.timeout_s, 8);
        assert_eq!(config.persistence.save.print(), "3 4 5 6");

        let broken = scratch.write("broken", "\nfoo");
        let error = load(format!("include {broken}").as_bytes(), &mut Config::default());
        let message = error.expect_err("foo is no directive").message("Redis");
        assert!(
            message.contains(&format!("Reading the configuration file '{broken}', at line 2\n>>> 'foo'"))
        );

        let missing = load(b"include /nonexistent/x.conf", &mut Config::default()).expect_err("no such file");
        assert_eq!(
            missing.message("Redis"),
            "Fatal error, can't open config file '/nonexistent/x.conf': No such file or directory\n"
        );
        let circle = scratch.write("circle", &format!("include {directory}/circle"));
        let message =
            load(format!("include {circle}").as_bytes(), &mut Config::default()).expect_err("endless");
        assert!(message.message("Redis").contains("Too many levels of included files"));
    }

    #[test]
    fn all_errors_are_found_at_once() {
        let scratch = Scratch::new("errors");
        let included = scratch.write("included", "tiemout 3\n");
        let text = format!("maxmemroy 1gb\nport 1\nport x\ninclude {included}\nuser 'a\ninclude /nosuch/x\n");
        let mut config = Config::default();
        let errors = load(text.as_bytes(), &mut config).expect_err("much is wrong");
        assert_eq!(config.net.port, 1);
        let listed: Vec<String> = errors.0.iter().map(FileError::listed).collect();
        assert_eq!(
            listed,
            [
                "-:1: error: maxmemroy: Bad directive or wrong number of arguments; the nearest name is 'maxmemory'",
                "-:3: error: port: argument couldn't be parsed into an integer",
                &format!(
                    "{included}:1: error: tiemout: Bad directive or wrong number of arguments; the nearest name is \
                     'timeout'"
                ),
                "-:5: error: user: Unbalanced quotes in configuration line",
                "/nosuch/x: error: cannot be read: No such file or directory",
            ]
        );
        let message = errors.message("Spinel");
        assert_eq!(message.matches("*** FATAL CONFIG FILE ERROR (Spinel) ***").count(), 1);
        assert!(
            message.contains("Bad directive or wrong number of arguments\nThe nearest name is 'maxmemory'\n")
        );
        assert_eq!(message.matches("Reading the configuration file").count(), 4);

        let circle = scratch.write("circle", "");
        std::fs::write(&circle, format!("include {circle}\n").repeat(3)).expect("ours");
        let errors = load(format!("include {circle}").as_bytes(), &mut config).expect_err("endless");
        assert_eq!(errors.0.len(), MAX_ERRORS);
    }

    #[test]
    fn directives_without_effect_are_told_with_their_lines() {
        let text = "port 1\nlua-replicate-commands yes\nmptcp yes\nsave 1 2\nsave 3 4\nport 2\nio-threads-do-reads no\n";
        let found = examine(&[(Some("a"), text.as_bytes()), (Some("b"), b"port 3")], &mut Config::default());
        assert!(found.errors.is_empty());
        let notes: Vec<_> =
            found.notes.iter().map(|note| (note.place.line, note.logged, &note.text[..])).collect();
        assert_eq!(
            notes[..4],
            [
                (2, false, "'lua-replicate-commands' has no effect: it is obsolete."),
                (3, true, "'mptcp yes' has no effect: this version has no such setting."),
                (1, false, "'port' has no effect: line 6 sets it again."),
                (6, false, "'port' has no effect: line 1 of b sets it again."),
            ]
        );
    }

    #[test]
    fn options_become_lines() {
        assert_eq!(options(&["--port", "7000", "--timeout", "5"]), "port \"7000\" \ntimeout \"5\" ");
        assert_eq!(options(&["--port", "1", "2"]), "port \"1\" \"2\" ");
        assert_eq!(
            options(&["--port", "--bla", "--loglevel", "verbose"]),
            "port \"--bla\" \nloglevel \"verbose\" "
        );
        assert_eq!(options(&["--maxmemory 7mb", "--port '1'"]), "maxmemory 7mb \nport '1' ");
        assert_eq!(
            options(&["f", "loglevel", "debug", "--port", "1"]),
            "\"loglevel\" \"debug\" \nport \"1\" "
        );
        assert_eq!(options(&["--foo", "a \"b"]), "foo \"a \\\"b\" ");
        assert_eq!(options(&["--replicaof", "--h", "--abc"]), "replicaof \"--h\" \nabc ");
        assert_eq!(options(&["--save", "--loglevel", "debug"]), "save \"\"\nloglevel \"debug\" ");
        assert_eq!(options(&["--save"]), "save \"\"");
        assert_eq!(options(&["--save", "", "--port", "1"]), "save \"\" \nport \"1\" ");
        assert_eq!(
            options(&["--proc-title-template", "--save", "--save", "", "--port", "1"]),
            "proc-title-template \"--save\" \nsave \"\" \nport \"1\" "
        );
    }

    #[test]
    fn a_file_and_standard_input_may_come_with_options() {
        assert_eq!(parse(&[]), CommandLine::default());
        assert_eq!(parse(&["a.conf"]).file, Some("a.conf".into()));
        assert_eq!(parse(&["--port", "1"]).file, None);
        assert!(parse(&["-"]).stdin && parse(&["a.conf", "--port", "1", "-"]).stdin);
        let inside = parse(&["a.conf", "-", "--port", "1"]);
        assert!(!inside.stdin && inside.options == b"\"-\" \nport \"1\" ");
    }

    /// The rules of the file and of the command line form one list.
    #[test]
    fn options_follow_the_file() {
        let scratch = Scratch::new("options");
        let file = scratch.write("x.conf", "save 900 1\nport 5\n");
        let line =
            parse(&[&file, "--save", "100", "100", "--shutdown-on-sigint", "nosave force", "--port", "6"]);
        let mut config = Config::default();
        load(&line.text().expect("just written"), &mut config).expect("all lines are right");
        assert_eq!(config.persistence.save.print(), "900 1 100 100");
        assert_eq!(config.general.shutdown_on_sigint.print(), "nosave force");
        assert_eq!(config.net.port, 6);
        let wrong = parse(&[&file, "--port"]).text().expect("just written");
        let errors = load(&wrong, &mut config).expect_err("no port").0;
        assert!(matches!(errors[..], [FileError::Line { line: 4, .. }]));
    }
}
