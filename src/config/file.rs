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

use super::options::{Config, Place, RenamedCommand, SentinelLine, UserLine};
use super::param::Param;
use super::value::Reason;
use super::{os_error, table};
use crate::stdx::{glob, quote};

/// Largest depth of nested includes.
const MAX_DEPTH: usize = 16;

/// Directives of old files that have no effect any more.
const OBSOLETE: [&str; 3] = ["list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"];

/// Why a configuration was rejected.
#[derive(Debug, PartialEq, Eq)]
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
        FileError::Line { file, line, text, reason: reason.into() }
    }

    /// The message for standard error. `server` names the program and its version, as in `Redis 7.2.4`.
    pub fn message(&self, server: &str) -> String {
        let title = format!("*** FATAL CONFIG FILE ERROR ({server}) ***");
        match self {
            FileError::Line { file, line, text, reason } => {
                let file = file.as_ref().map_or_else(String::new, |file| format!(" '{file}'"));
                let text = String::from_utf8_lossy(text);
                format!(
                    "{title}\nReading the configuration file{file}, at line {line}\n>>> '{text}'\n{reason}\n"
                )
            }
            FileError::Conflict(reason) => format!("{title}\n{reason}\n"),
            FileError::Open { file, reason } => {
                format!("Fatal error, can't open config file '{file}': {reason}\n")
            }
        }
    }
}

/// Applies the lines of `text` to `config`. After an error, the lines before the invalid one are in effect. Returns
/// messages for the log, one for each directive without effect.
///
/// # Errors
/// The first invalid line, a file that cannot be included, or parameters that exclude each other.
pub fn load(text: &[u8], config: &mut Config) -> Result<Vec<String>, FileError> {
    let mut loader = Loader { config, seen: Vec::new(), notes: Vec::new() };
    loader.lines(text, None, 0)?;
    let mut notes = loader.notes;
    if config.cluster.enabled && config.replication.replicaof.is_some() {
        return Err(FileError::Conflict("replicaof directive not allowed in cluster mode".into()));
    }
    notes.extend(table::params().filter_map(|param| param.unused_note(config)));
    Ok(notes)
}

struct Loader<'a> {
    config: &'a mut Config,
    /// Names of the parameters set so far.
    seen: Vec<&'static str>,
    /// Messages for the log.
    notes: Vec<String>,
}

impl Loader<'_> {
    fn lines(&mut self, text: &[u8], file: Option<&str>, depth: usize) -> Result<(), FileError> {
        for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            let refuse = |reason| FileError::Line {
                file: file.map(String::from),
                line: index + 1,
                text: line.into(),
                reason,
            };
            let words = quote::split_args(line)
                .map_err(|_| refuse("Unbalanced quotes in configuration line".into()))?;
            let Some((name, values)) = words.split_first() else { continue };
            if let ([pattern], true) = (values, name.eq_ignore_ascii_case(b"include")) {
                if depth == MAX_DEPTH {
                    return Err(refuse("Too many levels of included files".into()));
                }
                self.include(pattern, depth + 1)?;
            } else {
                let place = || Place { file: file.map(String::from), line: index + 1, text: line.into() };
                self.directive(name, values, place).map_err(refuse)?;
            }
        }
        Ok(())
    }

    fn directive(
        &mut self,
        name: &[u8],
        values: &[Vec<u8>],
        place: impl Fn() -> Place,
    ) -> Result<(), Reason> {
        if let Some(param) = table::find(name) {
            return self.param(param, values);
        }
        if let Some(judgement) = self.config.foreign.set(name, values) {
            self.notes.extend(judgement?);
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
                    return Err(format!(
                        "Error in user declaration '{name}': Duplicate user found. \
                         A user can only be defined once in config files"
                    )
                    .into());
                }
                let mut user = UserLine { name: name.clone(), rules: rules.into(), place: place() };
                user.place.text = shown(values);
                self.config.security.users.push(user);
                Ok(())
            }
            (b"sentinel", words) => {
                if !self.config.sentinel.enabled {
                    return Err("sentinel directive while not in sentinel mode".into());
                }
                self.config.sentinel.lines.push(SentinelLine::read(words, place()));
                Ok(())
            }
            (b"loadmodule", [_, ..]) => Err("Modules are not supported: this server cannot load them".into()),
            (name, [_]) if OBSOLETE.iter().any(|obsolete| obsolete.as_bytes() == name) => Ok(()),
            _ => Err("Bad directive or wrong number of arguments".into()),
        }
    }

    fn param(&mut self, param: &'static Param, values: &[Vec<u8>]) -> Result<(), Reason> {
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let again = self.seen.contains(&param.name);
        param.read(self.config, &values, again)?;
        if !again {
            self.seen.push(param.name);
        }
        Ok(())
    }

    /// Reads all files that match `pattern`, in alphabetical order. A pattern with wildcards may match none.
    fn include(&mut self, pattern: &[u8], depth: usize) -> Result<(), FileError> {
        for path in expand(pattern) {
            let name = path.to_string_lossy().into_owned();
            let text = read_file(&path, &name)?;
            self.lines(&text, Some(&name), depth)?;
        }
        Ok(())
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
        let mut text = Vec::new();
        if let Some(path) = &self.file {
            let shown = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            text = read_file(path, &shown.to_string_lossy())?;
        }
        if self.stdin {
            let open = |error: io::Error| FileError::Open { file: "-".into(), reason: os_error(&error) };
            io::stdin().lock().read_to_end(&mut text).map_err(open)?;
        }
        if !self.options.is_empty() {
            text.push(b'\n');
            text.extend_from_slice(&self.options);
        }
        Ok(text)
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
        match load(text.as_bytes(), &mut Config::default()) {
            Err(FileError::Line { file: None, line, text, reason }) => {
                (line, String::from_utf8_lossy(&text).into(), reason.into())
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
        assert_eq!(clash, Err(FileError::Conflict("replicaof directive not allowed in cluster mode".into())));
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
        assert!(matches!(load(&wrong, &mut config), Err(FileError::Line { line: 4, .. })));
    }
}
