//! Files of users: one line each, `user NAME RULES…`, with blanks between words and without quotes.
//!
//! A file is read as a whole or not at all: each error message has a line number, and a single error leaves the users
//! unchanged. A file is written beside the old one, flushed, and renamed over it, so that a crash leaves either the
//! old file or the new one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use super::user::join_selectors;
use super::{Acl, RuleError, User, selector};
use crate::stats::progress::{Lines, Progress, Unit};
use crate::stdx::files::create_exclusively;

/// Bytes between two reports of progress.
const REPORT_EVERY: usize = 256 << 10;

/// Parses the users in `text`. `name` is the name of the file, for error messages; `every_channel` says whether users
/// and selectors start with access to every channel; `progress` says where lines about the progress go.
/// O(text × commands).
///
/// # Errors
/// All errors, in one line of text.
pub fn parse(
    acl: &Acl,
    text: &[u8],
    name: &str,
    every_channel: bool,
    progress: Lines,
) -> Result<BTreeMap<Box<[u8]>, User>, Vec<u8>> {
    let catalog = acl.catalog();
    let mut users = BTreeMap::new();
    let mut errors: Vec<u8> = Vec::new();
    let mut progress = Progress::new("Reading users", text.len() as u64, Unit::Bytes, progress);
    let (mut done, mut reported) = (0, 0);
    for (index, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let at = format!("{name}:{}", index + 1);
        done += line.len() + 1;
        if done - reported >= REPORT_EVERY {
            reported = done;
            progress.at(done as u64);
        }
        let line = trim(line, b" \t\r\n");
        if line.is_empty() {
            continue;
        }
        let mut complain = |parts: &[&[u8]]| errors.extend_from_slice(&parts.concat());
        let mut words = line.split(|&byte| byte == b' ');
        let (Some(b"user"), Some(username)) = (words.next(), words.next()) else {
            complain(&[at.as_bytes(), b" should start with user keyword followed by the username. "]);
            continue;
        };
        if selector::has_spaces(username) {
            complain(&[b"'", at.as_bytes(), b": username '", username, b"' contains invalid characters. "]);
            continue;
        }
        if users.contains_key(username) {
            let line = format!("' found on line {}. ", index + 1);
            complain(&[b"WARNING: Duplicate user '", username, line.as_bytes()]);
            continue;
        }
        let Ok(rules) = join_selectors(words) else {
            complain(&[at.as_bytes(), b": Unmatched parenthesis in selector definition. "]);
            continue;
        };
        let mut user = User::new(catalog, every_channel);
        let mut said = false;
        for rule in &rules {
            let rule = trim(rule, b"\t\r\n");
            match user.apply(rule, catalog, every_channel) {
                Ok(()) => {}
                // A command name is not a secret. Anything else may be a mistyped password.
                Err(error @ RuleError::UnknownCommand) => {
                    let error = format!("': {error}. ");
                    complain(&[at.as_bytes(), b": Error in applying operation '", rule, error.as_bytes()]);
                }
                // Later errors in a line may be consequences of the first one.
                Err(_) if said => {}
                Err(error) => {
                    said = true;
                    complain(&[at.as_bytes(), format!(": {error}. ").as_bytes()]);
                }
            }
        }
        users.insert(username.into(), user);
    }
    if errors.is_empty() {
        return Ok(users);
    }
    errors.extend_from_slice(
        b"WARNING: ACL errors detected, no change to the previously active ACL rules was performed",
    );
    Err(errors)
}

fn trim<'t>(text: &'t [u8], blanks: &[u8]) -> &'t [u8] {
    let Some(start) = text.iter().position(|byte| !blanks.contains(byte)) else { return &[] };
    let end = text.iter().rposition(|byte| !blanks.contains(byte)).expect("one was found from the front");
    &text[start..=end]
}

/// The file's text: one line per user.
pub fn text(acl: &Acl) -> Vec<u8> {
    let lines = acl.users().map(|(name, user)| [b"user ", name, b" ", &user.describe(), b"\n"].concat());
    lines.collect::<Vec<_>>().concat()
}

/// Writes all users to the file at `path`, replacing it.
///
/// # Errors
/// Writing, flushing or renaming failed. The old file is unchanged then.
pub fn save(acl: &Acl, path: &Path) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_os_string();
    temporary.push(format!(".tmp-{}-{}", std::process::id(), crate::stdx::clock::now_ms()));
    let written = (|| {
        let mut file = create_exclusively(temporary.as_ref(), 0o666)?;
        file.write_all(&text(acl))?;
        if let Ok(old) = fs::metadata(path) {
            file.set_permissions(old.permissions())?;
        }
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // A temporary file that cannot be removed is left behind.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}
