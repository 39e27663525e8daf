//! The program: understands the command line and hands over to [`spinel::server::process::startup`].
//!
//! What follows the program's name is nearly free-form, as users of Redis know it: a configuration file, then
//! `--directive value …` for any directive the file could hold. [`clap`] looks after help and version; the rest
//! is the business of [`CommandLine`].

mod generate;
mod guide;

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::builder::OsStringValueParser;
use clap::{Arg, ArgAction, Command};
use spinel::commands;
use spinel::config::file::CommandLine;
use spinel::config::options::LimitOptions;
use spinel::config::table;
use spinel::config::value::{Choice, CompatVersion};
use spinel::persistence::aof::{self, check::Repair};
use spinel::persistence::rdb::check;
use spinel::server::process::check::check_config;
use spinel::server::process::daemon::Title;
use spinel::server::process::{startup, version};
use spinel::stdx::alloc;

#[global_allocator]
static GLOBAL: alloc::Jemalloc = alloc::Jemalloc;

fn main() -> ExitCode {
    alloc::count_main_thread();
    let mut given: Vec<OsString> = std::env::args_os().collect();
    if let Some(files) = behind("check-rdb", &given) {
        return check_rdb(files);
    }
    if let Some(words) = behind("check-aof", &given) {
        return check_aof(words);
    }
    if let Some(words) = behind("generate", &given) {
        let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        return generate::generate(&words, command());
    }
    if let Some(words) = behind("guide", &given) {
        let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        return guide::guide(&words);
    }
    let words = command().get_matches_from(&given).remove_many("words");
    let mut words: Vec<OsString> = words.map_or_else(Vec::new, Iterator::collect);
    if let [directive, _, asks] = &words[..]
        && directive == "--compat-version"
        && (asks == "-v" || asks == "--version")
    {
        print!("{}", command().render_version());
        return ExitCode::SUCCESS;
    }
    let check = words.first().is_some_and(|word| word == "--check-config");
    if check {
        words.remove(0);
    }
    if let Some(refusal) = words.first().and_then(|word| refused(&word.to_string_lossy())) {
        eprintln!("{refusal}");
        return ExitCode::FAILURE;
    }
    let mut line = CommandLine::parse(&words);
    line.sentinel |= given.first().is_some_and(|name| is_sentinel(name));
    let known = if line.sentinel { commands::sentinel::known() } else { commands::known() };
    if check {
        if line.file.is_none() && !line.stdin {
            eprintln!("Usage: spinel --check-config FILE [--directive value …]…");
            return ExitCode::FAILURE;
        }
        return check_config(&line, &known);
    }
    let name = if given.is_empty() { "spinel".into() } else { given.swap_remove(0) };
    startup::run(name, Title::claim(), &line, &known, commands::info::snapshot)
}

/// Whether the program was called by the name of a Sentinel.
fn is_sentinel(name: &OsStr) -> bool {
    Path::new(name).file_name().is_some_and(|name| name.to_string_lossy().ends_with("-sentinel"))
}

/// What stands behind the word `tool`, or behind the program's name if that ends with it.
fn behind<'a>(tool: &str, given: &'a [OsString]) -> Option<&'a [OsString]> {
    let called = given.first().and_then(|name| Path::new(name).file_stem());
    let called = called.map(|name| name.to_string_lossy()).unwrap_or_default();
    if called.strip_suffix(tool).is_some_and(|program| program.ends_with('-')) {
        return given.get(1..);
    }
    (given.get(1)? == tool).then(|| &given[2..])
}

/// Tells what is in a snapshot and whether it is whole.
fn check_rdb(files: &[OsString]) -> ExitCode {
    let [file] = files else {
        eprintln!("Usage: spinel check-rdb FILE");
        return ExitCode::FAILURE;
    };
    match check::check(Path::new(file), &mut std::io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Cannot check {}: {error}", file.to_string_lossy());
            ExitCode::FAILURE
        }
    }
}

/// Tells whether append-only files are whole, and mends them if asked to.
fn check_aof(words: &[OsString]) -> ExitCode {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let (mend, file) = match words[..] {
        [file] if !file.starts_with("--") => (Repair::Nothing, file),
        ["--fix", file] => (Repair::Fix, file),
        ["--truncate-to-timestamp", second, file] => match second.parse() {
            Ok(second) => (Repair::Until(second), file),
            Err(_) => {
                eprintln!("Invalid timestamp: {second}");
                return ExitCode::FAILURE;
            }
        },
        _ => {
            eprintln!("Usage: spinel check-aof [--fix | --truncate-to-timestamp SECONDS] FILE-OR-MANIFEST");
            return ExitCode::FAILURE;
        }
    };
    let confirm = &mut || {
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).is_ok() && answer.trim_start().starts_with(['y', 'Y'])
    };
    match aof::check::check(Path::new(file), mend, &mut std::io::stdout(), confirm) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Cannot check {file}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Options that Redis's server has and this one does not.
fn refused(word: &str) -> Option<&'static str> {
    match word {
        "--test-memory" => Some("Testing the machine's memory is not supported; memtest86 does it well."),
        "--check-system" => Some("Checking the system is not supported; what matters is logged at start."),
        _ => None,
    }
}

/// The server that `--compat-version` among the words names, for `-v`; the default if there is none, or a wrong one.
fn asked_version(words: impl Iterator<Item = OsString>) -> CompatVersion {
    let mut behind = words.skip_while(|word| word != "--compat-version").skip(1);
    let name = behind.next().and_then(|word| word.into_string().ok());
    let named = name.and_then(|name| CompatVersion::ALL.iter().find(|(word, _)| *word == name));
    named.map_or(LimitOptions::default().compat_version, |(_, version)| *version)
}

fn command() -> Command {
    Command::new("spinel")
        .display_name("Spinel server")
        .version(version::version_text(asked_version(std::env::args_os()).server().1))
        .about("A Redis-compatible in-memory key-value server.")
        .override_usage(
            "spinel [redis.conf | -] [--directive value …]… [-]\n       spinel sentinel.conf --sentinel\n       \
             spinel --check-config FILE [--directive value …]…\n       \
             spinel generate man | completions SHELL | systemd | dockerfile | grafana | config\n       \
             spinel guide [TOPIC]\n       \
             spinel check-rdb FILE\n       \
                         spinel check-aof [--fix] FILE-OR-MANIFEST",
        )
        .disable_version_flag(true)
        .arg(
            Arg::new("version")
                .short('v')
                .long("version")
                .action(ArgAction::Version)
                .help("Print the version"),
        )
        .arg(
            Arg::new("words")
                .value_name("redis.conf | - | --directive value")
                .help("A configuration file, `-` for standard input, and directives, which win over both")
                .value_parser(OsStringValueParser::new())
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true),
        )
        .after_help(help())
}

/// Examples, and every directive.
fn help() -> String {
    let mut text = String::from(
        "Examples:\n  \
         spinel                                     listens on port 6379\n  \
         spinel /etc/redis/redis.conf --port 7777   the file, but on another port\n  \
         spinel --save \"\" --maxmemory 1gb --maxmemory-policy allkeys-lru\n  \
         echo 'port 7777' | spinel -                reads directives from standard input\n  \
         spinel --check-config redis.conf           lists all errors of a file, and starts nothing\n\n\
         Directives:\n",
    );
    for (title, params) in table::help_by_group() {
        let _ = write!(text, "\n  {title}\n");
        for param in params {
            let _ = writeln!(text, "    {:<34} {}", param.name, param.summary);
        }
    }
    text
}
