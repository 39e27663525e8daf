//! Replies of HELP subcommands.

use crate::resp::{Replied, Reply};

/// Replies with a heading, then each form of the command with its description in the lines below it.
pub fn help(reply: &mut Reply<'_>, container: &str, forms: &[(&str, &str)]) -> Replied {
    let mut lines = vec![format!("{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
    for (form, what) in forms.iter().chain(&[("HELP", "Show this text.")]) {
        lines.push(form.to_string());
        lines.extend(what.lines().map(|line| format!("    {line}")));
    }
    reply.lines(&lines)
}
