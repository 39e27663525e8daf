//! Manual pages.

use std::fmt::Write as _;

use clap::Command;
use clap_mangen::Man;
use spinel::config::Config;
use spinel::config::table;
use spinel::server::process::version::VERSION;

/// What the program does besides serving.
const TASKS: &str = "\
.SH COMMANDS
.TP
.B \\-\\-check\\-config FILE
List all errors of a configuration, and what has no effect; start nothing. Exits with 1 if a server would not start.
.TP
.B \\-\\-sentinel
Watch servers, and have a replica take over from a primary that is down.
.TP
.B generate WHAT
Print this page (man), spinel.conf(5) (man 5), completions for a shell (completions SHELL), a unit for systemd, a
Dockerfile, a dashboard for Grafana, or a configuration with every parameter explained (config).
.TP
.B guide TOPIC
Show a part of the guide; without a topic, list the topics.
.TP
.B check\\-rdb FILE
Check a snapshot.
.TP
.B check\\-aof FILE
Check an append-only file or its manifest; with
.B \\-\\-fix
cut off what is torn at its end.
.SH SEE ALSO
.BR spinel.conf (5)
for the directives.
";

/// The page of the program.
pub(super) fn program(command: &Command) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    // The list of directives is a page of its own.
    let command = command.clone().display_name("spinel").version(VERSION).after_help("");
    let man = Man::new(command).section("1").manual("Spinel");
    man.render_title(&mut text).ok()?;
    man.render_name_section(&mut text).ok()?;
    man.render_synopsis_section(&mut text).ok()?;
    man.render_description_section(&mut text).ok()?;
    man.render_options_section(&mut text).ok()?;
    text.extend_from_slice(TASKS.as_bytes());
    Some(text)
}

/// The page of the configuration.
pub(super) fn configuration() -> Option<Vec<u8>> {
    let defaults = Config::default();
    let mut text = format!(
        ".TH spinel.conf 5 \"\" \"Spinel {VERSION}\" Spinel\n.SH NAME\nspinel.conf \\- configuration of spinel(1)\n\
         .SH DESCRIPTION\nA line has the name of a directive and its values. The same directives, with two hyphens, are \
         options of the program, and win over those of the file.\n.PP\n\
         .B spinel generate config\nprints a file with every directive explained, and\n\
         .B spinel \\-\\-check\\-config FILE\ntells what is wrong with a file.\n"
    );
    for (title, params) in table::help_by_group() {
        let _ = writeln!(text, ".SH {}", escaped(&title.to_uppercase()));
        for param in params {
            let default = String::from_utf8_lossy(&param.print(&defaults)).into_owned();
            let default = if default.is_empty() { "\"\"".into() } else { default };
            let _ = writeln!(text, ".TP\n.B {}\n{}", escaped(param.name), escaped(param.summary));
            let allowed = param.allowed();
            if !allowed.is_empty() {
                let _ = writeln!(text, "Values: {}.", escaped(&allowed));
            }
            let _ = writeln!(text, "Default: {}.", escaped(&default));
            if let Some(alias) = param.alias {
                let _ = writeln!(text, "Another name: {}.", escaped(alias));
            }
            if param.immutable {
                text.push_str("It cannot be changed while the server runs.\n");
            }
            if let Some(why) = param.unused {
                let _ = writeln!(text, "It has no effect: {}.", escaped(why));
            }
        }
    }
    text.push_str(".SH SEE ALSO\nspinel(1)\n");
    Some(text.into_bytes())
}

/// A text in which roff finds no request and no escape.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}
