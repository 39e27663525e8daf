//! Reading configuration files and the command line.
//!
//! A file is lines of words; the first word is a directive. Blank lines and lines that start with `#` are
//! skipped. The command line is turned into lines and appended to the file, so that it wins and so that
//! `--save` adds to the file's rules exactly as another line would.
//!
//! Four directives are no parameters: `include` reads other files, `user` and `rename-command` are kept for the
//! rooms that know users and commands, and `loadmodule` is refused.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::options::{Config, RenamedCommand, UserLine};
use super::param::Param;
use super::value::Reason;
use super::{os_error, table};
use crate::stdx::{glob, quote};

/// Files may include files, to this depth.
const MAX_DEPTH: usize = 16;

/// Directives of old files that no longer do anything.
const OBSOLETE: [&str; 3] = ["list-max-ziplist-entries", "list-max-ziplist-value", "lua-replicate-commands"];

/// Why a configuration was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub enum FileError {
    /// A line is wrong.
    Line {
        /// The included file it stands in; `None` for the outermost text.
        file: Option<String>,
        /// Its number, from 1.
        line: usize,
        /// The line without surrounding blanks.
        text: Vec<u8>,
        /// What is wrong.
        reason: Reason,
    },
    /// Every line is right, but not together.
    Conflict(Reason),
    /// A file could not be read.
    Open {
        /// Its name as given.
        file: String,
        /// The system's words.
        reason: Reason,
    },
}

impl FileError {
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

/// Reads the lines of `text` into `config`. After an error the lines before the wrong one are in effect.
///
/// # Errors
/// The first wrong line, a file that cannot be included, or parameters that exclude each other.
pub fn load(text: &[u8], config: &mut Config) -> Result<(), FileError> {
    Loader { config, seen: Vec::new() }.lines(text, None, 0)?;
    if config.cluster.enabled && config.replication.replicaof.is_some() {
        return Err(FileError::Conflict("replicaof directive not allowed in cluster mode".into()));
    }
    Ok(())
}

struct Loader<'a> {
    config: &'a mut Config,
    /// Parameters set so far, by name.
    seen: Vec<&'static str>,
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
                self.directive(name, values).map_err(refuse)?;
            }
        }
        Ok(())
    }

    fn directive(&mut self, name: &[u8], values: &[Vec<u8>]) -> Result<(), Reason> {
        if let Some(param) = table::find(name) {
            return self.param(param, values);
        }
        match (name.to_ascii_lowercase().as_slice(), values) {
            (b"rename-command", [from, to]) => {
                self.config
                    .security
                    .renamed_commands
                    .push(RenamedCommand { from: from.clone(), to: to.clone() });
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
                self.config.security.users.push(UserLine { name: name.clone(), rules: rules.into() });
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

    /// Reads every file that `pattern` matches, in alphabetical order. A pattern with wildcards may match none.
    fn include(&mut self, pattern: &[u8], depth: usize) -> Result<(), FileError> {
        for path in expand(pattern) {
            let name = path.to_string_lossy().into_owned();
            let text = read_file(&path, &name)?;
            self.lines(&text, Some(&name), depth)?;
        }
        Ok(())
    }
}

fn read_file(path: &Path, name: &str) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|error| FileError::Open { file: name.into(), reason: os_error(&error) })
}

/// The paths a shell pattern stands for, sorted; the pattern itself if it has no wildcard. As in a shell, a
/// wildcard does not match the dot that hides a file.
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

/// What the command line says about the configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The configuration file, if one is named.
    pub file: Option<PathBuf>,
    /// Standard input is to be read as well: there was a `-` first or last.
    pub stdin: bool,
    /// The options as lines of a configuration file.
    pub options: Vec<u8>,
}

impl CommandLine {
    /// Understands `[file] [--name value …]… [-]`; `args` is without the program's name.
    ///
    /// Each `--name` starts a line and what follows are its values, quoted as needed. The argument right
    /// after a bare `--name` is always a value, even if it starts with `--` itself, with one exception:
    /// `--save` may stand without value for no save rules. Name and values may also share an argument, as
    /// in `"--maxmemory 1gb"`. Nothing is judged here: wrong options are found when the lines are loaded.
    pub fn parse(args: &[OsString]) -> CommandLine {
        let mut line = CommandLine::default();
        let args: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let mut value_expected = false;
        for (index, &arg) in args.iter().enumerate() {
            let (is_first, next) = (index == 0, args.get(index + 1));
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
    /// The file cannot be read.
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
