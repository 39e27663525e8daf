//! Manual pages.

use std::fmt::Write as _;

use clap::Command;
use clap_mangen::Man;
use spinel::config::Config;
use spinel::config::table;
use spinel::server::process::version::VERSION;

/// The page of the program.
pub(super) fn program(command: &Command) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    // The list of directives is a page of its own.
    let command = command
        .clone()
        .display_name("spinel")
        .version(VERSION)
        .after_help("See spinel.conf(5) for the directives.");
    Man::new(command).section("1").manual("Spinel").render(&mut text).ok()?;
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
