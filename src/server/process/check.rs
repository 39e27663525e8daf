//! Whether a server would start with a configuration: the check before a start, and `--check-config`, which tells
//! everything it finds and starts nothing.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::acl::Acl;
use crate::background::Background;
use crate::config::Config;
use crate::config::file::{self, CommandLine, FileError, Findings};
use crate::net::error_text;
use crate::server::Server;
use crate::server::command::{Commands, Spec};
use crate::server::execution::users::{self, UsersError};
use crate::server::sentinel;
use crate::stats::progress::Lines;

/// The configuration before a file is read.
pub(super) fn base_config(sentinel: bool) -> Config {
    let mut config = Config::default();
    if sentinel {
        config.sentinel.enabled = true;
        // Others must reach it, and it has no data.
        config.net.protected_mode = false;
        config.net.port = sentinel::PORT;
    }
    config
}

/// Changes into the data directory and stores its absolute path.
///
/// # Errors
/// A line for the log.
pub(super) fn enter_directory(config: &mut Config) -> Result<(), String> {
    let dir = &mut config.persistence.dir;
    let fail = |dir: &str, error: io::Error| format!("Can't chdir to '{dir}': {}", error_text(&error));
    std::env::set_current_dir(&*dir).map_err(|error| fail(dir, error))?;
    let here = std::env::current_dir().map_err(|error| fail(dir, error))?;
    *dir = here.to_string_lossy().into_owned();
    Ok(())
}

/// Says that a log file cannot be opened.
pub(super) fn cannot_log(file: &str, error: &io::Error) -> String {
    format!("Can't open the log file '{file}': {}", error_text(error))
}

/// Errors in the lines that name commands and users, which only those can judge who know the commands of `groups`.
pub(super) fn unknown_names(config: &Config, groups: &[&'static [Spec]]) -> Vec<FileError> {
    let security = &config.security;
    if security.renamed_commands.is_empty() && security.users.is_empty() {
        return Vec::new();
    }
    let mut commands = Commands::new(groups);
    let mut acl = Acl::new(users::catalog(&commands));
    let renamed = security.renamed_commands.iter().filter_map(|renamed| {
        let error = commands.rename(&renamed.from, &renamed.to).err()?;
        Some(FileError::at(&renamed.place, error.to_string()))
    });
    let mut errors: Vec<FileError> = renamed.collect();
    errors.extend(security.users.iter().filter_map(|line| {
        let reason = users::define(&mut acl, line, security).err()?;
        Some(FileError::at(&line.place, reason))
    }));
    errors
}

/// Prints every error and every directive without effect, one per line, and then a summary. Exits with 0 if a server
/// would start with this configuration, and with 1 otherwise.
pub fn check_config(line: &CommandLine, groups: &[&'static [Spec]]) -> ExitCode {
    let Findings { errors, notes } = findings(line, groups);
    let mut text: String = errors.iter().map(|error| format!("{}\n", error.listed())).collect();
    for note in &notes {
        let file = note.place.file.as_deref().unwrap_or("-");
        text += &format!("{file}:{}: warning: {}\n", note.place.line, note.text);
    }
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let verdict =
        if errors.is_empty() { "The configuration is valid" } else { "A server does not start with this" };
    text += &format!("{verdict}: {}, {}.\n", count(errors.len(), "error"), count(notes.len(), "warning"));
    // Nobody is left to tell if this cannot be written.
    let _ = io::stdout().write_all(text.as_bytes());
    if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn findings(line: &CommandLine, groups: &[&'static [Spec]]) -> Findings {
    let mut config = base_config(line.sentinel);
    let parts = match line.parts() {
        Ok(parts) => parts,
        Err(error) => return Findings { errors: vec![error], ..Findings::default() },
    };
    let mut texts: Vec<(Option<&str>, &[u8])> = Vec::new();
    for (name, text) in &parts {
        texts.push((Some(name), text));
    }
    let mut found = file::examine(&texts, &mut config);
    found.errors.extend(unknown_names(&config, groups));
    // What follows would repeat these.
    config.security.renamed_commands.clear();
    if found.errors.is_empty() {
        found
            .errors
            .extend(circumstances(config, groups).into_iter().map(|why| FileError::Conflict(why.into())));
    }
    found
}

/// What besides the lines keeps a server from starting: directories, files, certificates. Enters the data directory, as
/// relative paths start there.
fn circumstances(mut config: Config, groups: &[&'static [Spec]]) -> Vec<String> {
    if let Err(reason) = enter_directory(&mut config) {
        return vec![reason];
    }
    let mut errors = Vec::new();
    let net = &config.net;
    if net.port == 0 && net.unixsocket.is_empty() && config.tls.port == 0 {
        errors.push(
            "Configured to not listen anywhere: port and tls-port are 0, and unixsocket is empty".into(),
        );
    }
    if let Err(error) = can_append(&config.logs.file) {
        errors.push(cannot_log(&config.logs.file, &error));
    }
    let background = match Background::start(None) {
        Ok(background) => Arc::new(background),
        Err(error) => return vec![format!("Can't start threads: {error}")],
    };
    let sentinel = config.sentinel.enabled;
    let mut server = Server::new(config, groups, background);
    match server.apply_users(Lines::Stderr) {
        Ok(()) => {}
        Err(error @ (UsersError::Both | UsersError::File(_))) => errors.push(error.to_string()),
        Err(UsersError::Line(_, reason)) => errors.push(reason),
    }
    if let Err(error) = server.configure_tls() {
        errors.push(format!("TLS: {error}"));
    }
    if sentinel && let Err(error) = server.become_sentinel() {
        errors.push(error.listed());
    }
    errors
}

/// Whether a file can be appended to or made, without making it.
fn can_append(file: &str) -> io::Result<()> {
    if file.is_empty() {
        return Ok(());
    }
    match std::fs::OpenOptions::new().append(true).open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = Path::new(file).parent().filter(|parent| !parent.as_os_str().is_empty());
            std::fs::metadata(directory.unwrap_or(Path::new("."))).map(drop)
        }
        opened => opened.map(drop),
    }
}
