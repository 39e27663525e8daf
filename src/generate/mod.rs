//! `spinel generate`: files that belong to an installation, made from the command line and the table of parameters.

mod grafana;
mod man;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, ValueHint};
use clap_complete::Shell;
use spinel::config::param::Kind;
use spinel::config::table;

const UNIT: &str = include_str!("spinel.service");
const DOCKERFILE: &str = include_str!("Dockerfile");
const CONFIG: &str = include_str!("../../redis.conf");

const USAGE: &str = "Usage: spinel generate WHAT

  man                  the manual page spinel(1)
  man 5                the manual page spinel.conf(5): every directive
  completions SHELL    completions for bash, elvish, fish, powershell or zsh
  systemd              a unit for systemd
  dockerfile           a Dockerfile
  grafana              a dashboard for Grafana
  config               a configuration with every parameter explained
";

/// Prints what `words` ask for. `command` is the program's command line.
pub(crate) fn generate(words: &[String], command: Command) -> ExitCode {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let text = match words[..] {
        ["man"] | ["man", "1"] => man::program(&command),
        ["man", "5"] => man::configuration(),
        ["completions", shell] => completions(shell, command),
        ["systemd"] => Some(UNIT.as_bytes().into()),
        ["dockerfile"] => Some(DOCKERFILE.as_bytes().into()),
        ["grafana"] => Some(grafana::dashboard().into_bytes()),
        ["config"] => Some(CONFIG.as_bytes().into()),
        _ => None,
    };
    let Some(text) = text else {
        eprint!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match io::stdout().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Completions, with each directive as an option.
fn completions(shell: &str, command: Command) -> Option<Vec<u8>> {
    let shell: Shell = shell.parse().ok()?;
    let options = table::params().filter(|param| !param.hidden).map(|param| {
        let option = Arg::new(param.name)
            .long(param.name)
            .help(param.summary)
            .num_args(1)
            .action(clap::ArgAction::Append);
        match &param.kind {
            Kind::Bool(_) => option.value_parser(PossibleValuesParser::new(["yes", "no"])),
            Kind::Choice(choice) => option.value_parser(PossibleValuesParser::new(choice.words())),
            _ if param.name == "dir" => option.value_hint(ValueHint::DirPath),
            Kind::Text(..) => option.value_hint(ValueHint::FilePath),
            _ => option,
        }
    });
    let tools = [
        Arg::new("check-config")
            .long("check-config")
            .help("List all errors of a configuration, and start nothing")
            .value_hint(ValueHint::FilePath)
            .num_args(1),
        Arg::new("sentinel").long("sentinel").help("Be a Sentinel").num_args(0),
    ];
    let one_of = |name: &'static str, words: &[&'static str]| {
        Arg::new(name).value_parser(PossibleValuesParser::new(words.iter().copied()))
    };
    let file = Arg::new("file").value_hint(ValueHint::FilePath);
    let topics: Vec<&str> = crate::guide::topics().collect();
    let words = ["man", "completions", "systemd", "dockerfile", "grafana", "config"];
    let tasks = [
        Command::new("generate").about("Print a file of an installation").arg(one_of("what", &words)),
        Command::new("guide").about("Show a part of the guide").arg(one_of("topic", &topics)),
        Command::new("check-rdb").about("Check a snapshot").arg(file.clone()),
        Command::new("check-aof")
            .about("Check an append-only file")
            .arg(Arg::new("fix").long("fix").help("Cut off what is torn at its end").num_args(0))
            .arg(file),
    ];
    let mut command = command
        .mut_arg("words", |words| words.value_hint(ValueHint::FilePath))
        .args(options)
        .args(tools)
        .subcommands(tasks)
        .disable_help_subcommand(true);
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command, "spinel", &mut text);
    Some(text)
}
