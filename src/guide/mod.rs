//! `spinel guide`: the guide for those who run the server, one page per topic.

use std::io::{self, Write};
use std::process::ExitCode;

/// A topic: its name, what it is about, and its page.
type Topic = (&'static str, &'static str, &'static str);

const TOPICS: &[Topic] = &[
    ("start", "install, configure, run", include_str!("start.md")),
    ("migrating", "come from Redis or Valkey, and go back", include_str!("migrating.md")),
    ("persistence", "what is on disk, and how to back it up", include_str!("persistence.md")),
    ("replication", "copies on other machines, and automatic failover", include_str!("replication.md")),
    ("cluster", "data on several machines", include_str!("cluster.md")),
    ("security", "who may do what", include_str!("security.md")),
    ("reporting", "how to report a weakness, and how to harden", include_str!("reporting.md")),
    ("tuning", "memory, processors, latency", include_str!("tuning.md")),
    ("watching", "logs, metrics, the page with charts", include_str!("watching.md")),
    ("commands", "commands that Redis 7.2 does not have", include_str!("commands.md")),
    ("changelog", "what each version has", include_str!("changelog.md")),
];

/// Prints the page about a topic, or the list of topics.
pub(crate) fn guide(words: &[String]) -> ExitCode {
    let text = match words {
        [] => contents(),
        [wanted] => match TOPICS.iter().find(|(name, ..)| name.eq_ignore_ascii_case(wanted)) {
            Some((.., page)) => (*page).into(),
            None => {
                eprint!("There is no topic '{wanted}'.\n\n{}", contents());
                return ExitCode::FAILURE;
            }
        },
        _ => {
            eprint!("{}", contents());
            return ExitCode::FAILURE;
        }
    };
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // A pager that was left early is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Cannot write: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Names of the topics.
pub(crate) fn topics() -> impl Iterator<Item = &'static str> {
    TOPICS.iter().map(|(name, ..)| *name)
}

fn contents() -> String {
    let lines: String = TOPICS.iter().map(|(name, about, _)| format!("  {name:<14}{about}\n")).collect();
    format!("Usage: spinel guide TOPIC\n\n{lines}")
}
