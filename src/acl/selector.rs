//! A selector: one set of permissions for commands, keys, channels and databases.
//!
//! A user has one selector of its own and any number of further ones; a command may run if a single selector allows
//! all of it. Permissions are stored twice: as bits, which are checked for every command, and as the rules that set
//! them, which are shown and saved.
//!
//! What always holds: the rules, applied in order to an empty selector, result in the same permissions. A repeated
//! rule replaces its earlier self, and a rule about a command replaces those about its subcommands and first
//! arguments, since it undoes their effect anyway.

use std::collections::BTreeMap;

use super::catalog::{Catalog, CommandSet};
use super::{Access, Channel, Denied, Request, RuleError};
use crate::stats::log::limited;
use crate::stdx::{glob, quote};

/// Permission to use some commands with some keys and channels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selector {
    commands: CommandSet,
    /// Whether commands unknown to this server are allowed: the rules begin with `+@all`.
    others: bool,
    /// Whether every command is allowed; all bits are set then.
    every_command: bool,
    /// Rules since all commands were last allowed or denied.
    rules: Vec<CommandRule>,
    /// For commands that are denied: the first arguments, in lower case, with which they are allowed.
    first_args: BTreeMap<u16, Vec<Box<[u8]>>>,
    every_key: bool,
    keys: Vec<KeyPattern>,
    every_channel: bool,
    channels: Vec<Box<[u8]>>,
    databases: Databases,
}

/// Databases that may be used.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Databases {
    All,
    /// These, in order of their numbers.
    These(Vec<u32>),
}

/// A rule about commands, as it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
struct CommandRule {
    allow: bool,
    /// A command, `container|subcommand`, `command|argument` or `@category`, in lower case.
    subject: Box<[u8]>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct KeyPattern {
    access: Access,
    pattern: Box<[u8]>,
}

impl Selector {
    /// A selector without commands and keys, with all databases, and with all channels or none.
    pub fn new(catalog: &Catalog, every_channel: bool) -> Self {
        Selector {
            commands: CommandSet::none(catalog.len()),
            others: false,
            every_command: catalog.is_empty(),
            rules: Vec::new(),
            first_args: BTreeMap::new(),
            every_key: false,
            keys: Vec::new(),
            every_channel,
            channels: Vec::new(),
            databases: Databases::All,
        }
    }

    /// Parses the rules between a pair of parentheses.
    ///
    /// # Errors
    /// The first rule that is wrong.
    pub fn parse(text: &[u8], catalog: &Catalog, every_channel: bool) -> Result<Self, RuleError> {
        let mut selector = Selector::new(catalog, every_channel);
        for rule in quote::split_args(text).map_err(|_| RuleError::Syntax)? {
            selector.apply(&rule, catalog)?;
        }
        Ok(selector)
    }

    /// Changes the permissions by one rule.
    ///
    /// # Errors
    /// The rule is wrong. Nothing has changed.
    pub fn apply(&mut self, rule: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        if is("allkeys") || is("~*") {
            self.every_key = true;
            self.keys.clear();
        } else if is("resetkeys") {
            self.every_key = false;
            self.keys.clear();
        } else if is("allchannels") || is("&*") {
            self.every_channel = true;
            self.channels.clear();
        } else if is("resetchannels") {
            self.every_channel = false;
            self.channels.clear();
        } else if is("alldbs") {
            self.databases = Databases::All;
        } else if is("resetdbs") {
            self.databases = Databases::These(Vec::new());
        } else if let Some((head, numbers)) = rule.split_at_checked(3)
            && head.eq_ignore_ascii_case(b"db=")
        {
            self.databases = Databases::These(parse_databases(numbers)?);
        } else if is("allcommands") || is("+@all") {
            self.set_all_commands(true);
        } else if is("nocommands") || is("-@all") {
            self.set_all_commands(false);
        } else {
            match rule {
                [b'~', pattern @ ..] => self.add_keys(Access::ALL, pattern)?,
                [b'%', rest @ ..] => {
                    if self.every_key {
                        return Err(RuleError::PatternAfterAll);
                    }
                    let (access, pattern) = parse_access(rest)?;
                    self.add_keys(access, pattern)?;
                }
                [b'&', pattern @ ..] => self.add_channels(pattern)?,
                [sign @ (b'+' | b'-'), subject @ ..] => {
                    self.change_commands(*sign == b'+', subject, catalog)?
                }
                _ => return Err(RuleError::Syntax),
            }
        }
        Ok(())
    }

    fn add_keys(&mut self, access: Access, pattern: &[u8]) -> Result<(), RuleError> {
        if self.every_key {
            return Err(RuleError::PatternAfterAll);
        }
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        match self.keys.iter_mut().find(|known| *known.pattern == *pattern) {
            Some(known) => known.access = known.access.with(access),
            None => self.keys.push(KeyPattern { access, pattern: pattern.into() }),
        }
        Ok(())
    }

    fn add_channels(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.every_channel {
            return Err(RuleError::ChannelAfterAll);
        }
        if has_spaces(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| **known == *pattern) {
            self.channels.push(pattern.into());
        }
        Ok(())
    }

    fn set_all_commands(&mut self, allow: bool) {
        self.commands.set_all(allow);
        self.others = allow;
        self.every_command = self.commands.is_full();
        self.rules.clear();
        self.first_args.clear();
    }

    fn change_commands(&mut self, allow: bool, subject: &[u8], catalog: &Catalog) -> Result<(), RuleError> {
        if let [b'@', category @ ..] = subject {
            let bit = catalog.category(category).ok_or(RuleError::UnknownCommand)?;
            for (number, _) in catalog.in_category(bit) {
                self.change_command(allow, number, catalog);
            }
        } else if let Some(number) = catalog.find(subject) {
            self.change_command(allow, number, catalog);
        } else {
            let bar = subject.iter().rposition(|&byte| byte == b'|').filter(|_| allow);
            let (name, argument) = subject.split_at(bar.ok_or(RuleError::UnknownCommand)?);
            let number = catalog.find(name).ok_or(RuleError::UnknownCommand)?;
            if catalog.get(number).container.is_some() {
                return Err(RuleError::FirstArgOfSubcommand);
            }
            let argument = &argument[1..];
            if argument.is_empty() || has_spaces(argument) {
                return Err(RuleError::Syntax);
            }
            if !catalog.subcommands(number).is_empty() {
                return Err(RuleError::UnknownCommand);
            }
            let known = self.first_args.entry(number).or_default();
            known.retain(|known| !known.eq_ignore_ascii_case(argument));
            known.push(argument.to_ascii_lowercase().into());
            limited!(
                warn,
                "Deprecation warning: allowing a command with one first argument only is not what ACLs are made \
                 for, and may not be possible in future (found: +{})",
                quote::repr(subject)
            );
        }
        self.every_command = self.commands.is_full();
        self.note_rule(allow, subject.to_ascii_lowercase().into());
        Ok(())
    }

    /// Allows or denies a command with all its subcommands.
    fn change_command(&mut self, allow: bool, number: u16, catalog: &Catalog) {
        self.commands.set(number, allow);
        self.first_args.remove(&number);
        for &sub in catalog.subcommands(number) {
            self.commands.set(sub, allow);
        }
    }

    fn note_rule(&mut self, allow: bool, subject: Box<[u8]>) {
        self.rules.retain(|rule| {
            let rest = rule.subject.strip_prefix(&*subject);
            !rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'|')
        });
        self.rules.push(CommandRule { allow, subject });
    }

    /// Whether everything is allowed.
    pub fn is_unrestricted(&self) -> bool {
        self.every_command && self.every_key && self.every_channel && !self.limits_databases()
    }

    /// Checks whether a request may run. O(keys × patterns).
    ///
    /// # Errors
    /// The first database that is not allowed, otherwise the command if it is not, otherwise the first such key,
    /// otherwise the first such channel.
    pub fn check(&self, request: &Request<'_>) -> Result<(), Denied> {
        if let Databases::These(allowed) = &self.databases
            && let Some(denied) = request.databases.iter().find(|used| !allowed.contains(&used.number))
        {
            return Err(Denied::Database(denied.named_by));
        }
        if !self.every_command && !request.needs_no_permission && !self.allows_command(request) {
            return Err(Denied::Command);
        }
        if !self.every_key {
            let denied = request
                .keys
                .iter()
                .find(|&&(at, access)| request.args.get(at).is_some_and(|key| !self.allows_key(key, access)));
            if let Some(&(at, _)) = denied {
                return Err(Denied::Key(at));
            }
            if !request.keys_are_known && !self.allows_every_key(Access::ALL) {
                return Err(Denied::Key(1));
            }
        }
        if !self.every_channel {
            let denied = request.channels.iter().find(|&&(at, kind)| {
                request.args.get(at).is_some_and(|channel| !self.allows_channel(channel, kind))
            });
            if let Some(&(at, _)) = denied {
                return Err(Denied::Channel(at));
            }
        }
        Ok(())
    }

    /// Whether some databases may not be used.
    pub fn limits_databases(&self) -> bool {
        self.databases != Databases::All
    }

    fn allows_command(&self, request: &Request<'_>) -> bool {
        self.commands.has(request.command)
            || self.first_args.get(&request.command).is_some_and(|allowed| {
                request
                    .args
                    .get(1)
                    .is_some_and(|given| allowed.iter().any(|known| given.eq_ignore_ascii_case(known)))
            })
    }

    /// Whether a key may be used in this way. [`Access::NONE`] stands for checking whether the key exists, which any
    /// permission covers.
    fn allows_key(&self, key: &[u8], access: Access) -> bool {
        self.every_key
            || self.keys.iter().any(|known| known.access.covers(access) && glob::matches(&known.pattern, key))
    }

    /// Whether every key may be used in this way, whatever its name.
    pub fn allows_every_key(&self, access: Access) -> bool {
        self.every_key || self.keys.iter().any(|known| known.access.covers(access) && *known.pattern == *b"*")
    }

    /// Whether a channel may be used. A pattern that is subscribed to must equal one of the rules: whether one
    /// pattern covers another is not decided.
    pub fn allows_channel(&self, channel: &[u8], kind: Channel) -> bool {
        self.every_channel
            || self.channels.iter().any(|known| match kind {
                Channel::Literal => glob::matches(known, channel),
                Channel::Pattern => **known == *channel,
            })
    }

    /// The rules about commands, beginning with `+@all` or `-@all`.
    pub fn describe_commands(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.describe_commands_into(&mut text);
        text
    }

    fn describe_commands_into(&self, text: &mut Vec<u8>) {
        text.extend_from_slice(if self.others { b"+@all" } else { b"-@all" });
        for rule in &self.rules {
            text.extend_from_slice(if rule.allow { b" +" } else { b" -" });
            text.extend_from_slice(&rule.subject);
        }
    }

    /// The rules about keys; empty if no key is allowed.
    pub fn describe_keys(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.describe_keys_into(&mut text);
        text
    }

    fn describe_keys_into(&self, text: &mut Vec<u8>) {
        if self.every_key {
            text.extend_from_slice(b"~*");
        }
        for (i, known) in self.keys.iter().enumerate() {
            if i > 0 {
                text.push(b' ');
            }
            // `~*` excludes other patterns, so a list of several patterns must express it in another way.
            let everything = known.access == Access::ALL && *known.pattern == *b"*" && self.keys.len() > 1;
            text.extend_from_slice(if everything { b"%RW~" } else { known.access.prefix() });
            text.extend_from_slice(&known.pattern);
        }
    }

    /// The rules about channels; empty if no channel is allowed.
    pub fn describe_channels(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.describe_channels_into(&mut text);
        text
    }

    fn describe_channels_into(&self, text: &mut Vec<u8>) {
        if self.every_channel {
            text.extend_from_slice(b"&*");
        }
        for (i, pattern) in self.channels.iter().enumerate() {
            text.extend_from_slice(if i > 0 { b" &" } else { b"&" });
            text.extend_from_slice(pattern);
        }
    }

    /// The rule about databases: `alldbs`, or a list of numbers; empty if no database is allowed.
    pub fn describe_databases(&self) -> Vec<u8> {
        match &self.databases {
            Databases::All => b"alldbs".to_vec(),
            Databases::These(numbers) if numbers.is_empty() => Vec::new(),
            Databases::These(numbers) => {
                let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
                format!("db={}", numbers.join(",")).into_bytes()
            }
        }
    }

    /// All rules. Applied in order, they turn any selector into this one.
    pub fn describe(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.describe_into(&mut text);
        text
    }

    /// Appends all rules, as [`Selector::describe`] returns them.
    pub fn describe_into(&self, text: &mut Vec<u8>) {
        if self.every_key || !self.keys.is_empty() {
            self.describe_keys_into(text);
            text.push(b' ');
        }
        if !self.every_channel {
            text.extend_from_slice(b"resetchannels ");
        }
        if self.every_channel || !self.channels.is_empty() {
            self.describe_channels_into(text);
            text.push(b' ');
        }
        match &self.databases {
            // Where nothing is said of databases, all are allowed.
            Databases::All => {}
            Databases::These(numbers) if numbers.is_empty() => text.extend_from_slice(b"resetdbs "),
            Databases::These(_) => {
                text.extend_from_slice(&self.describe_databases());
                text.push(b' ');
            }
        }
        self.describe_commands_into(text);
    }

    /// All rules between parentheses, with quotes where [`Selector::parse`] needs them.
    pub fn describe_in_parentheses(&self) -> Vec<u8> {
        let mut text = b"(".to_vec();
        for (i, word) in self.describe().split(|&byte| byte == b' ').enumerate() {
            if i > 0 {
                text.push(b' ');
            }
            // A closing parenthesis at the end of a word would end the selector there.
            if quote::needs_quotes(word) || word.ends_with(b")") {
                quote::push_repr(word, &mut text);
            } else {
                text.extend_from_slice(word);
            }
        }
        text.push(b')');
        text
    }

    /// Asserts the invariants. O(rules × commands).
    #[cfg(test)]
    pub fn check_invariants(&self, catalog: &Catalog) {
        assert_eq!(self.every_command, self.commands.is_full());
        assert!(!self.every_key || self.keys.is_empty());
        assert!(!self.every_channel || self.channels.is_empty());
        let text = self.describe_in_parentheses();
        let mut again =
            Selector::parse(&text[1..text.len() - 1], catalog, true).expect("what is shown is read");
        assert_eq!(again.describe(), self.describe());
        // "Every key" can be expressed in two ways.
        if again.every_key {
            (again.every_key, again.keys) = (self.every_key, self.keys.clone());
        }
        assert_eq!(*self, again, "{}", text.escape_ascii());
    }
}

/// Parses the part between `%` and `~` as access, and the rest as a pattern. (Without `~`, all of the text is access,
/// and the pattern is empty.)
fn parse_access(text: &[u8]) -> Result<(Access, &[u8]), RuleError> {
    let mut access = Access::NONE;
    for (i, byte) in text.iter().enumerate() {
        let more = match byte.to_ascii_uppercase() {
            b'R' => Access::READ,
            b'W' => Access::WRITE,
            b'~' if access != Access::NONE => return Ok((access, &text[i + 1..])),
            _ => return Err(RuleError::Syntax),
        };
        if access.covers(more) {
            return Err(RuleError::Syntax);
        }
        access = access.with(more);
    }
    if access == Access::NONE { Err(RuleError::Syntax) } else { Ok((access, b"")) }
}

/// Parses numbers of databases between commas and returns them in order, each once. A number need not be that of a
/// database that exists.
fn parse_databases(text: &[u8]) -> Result<Vec<u32>, RuleError> {
    let mut numbers = Vec::new();
    for word in text.split(|&byte| byte == b',') {
        let word = word.trim_ascii_start();
        let (negative, digits) = match word {
            [b'-', digits @ ..] => (true, digits),
            [b'+', digits @ ..] | digits => (false, digits),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(RuleError::Syntax);
        }
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<i32>().ok());
        match number {
            Some(number) if number == 0 || !negative => numbers.push(number.unsigned_abs()),
            _ => return Err(RuleError::DatabaseRange),
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// Whether a text contains spaces or NUL bytes, which would not survive being saved.
pub(super) fn has_spaces(text: &[u8]) -> bool {
    text.iter().any(|&byte| matches!(byte, b' ' | b'\t'..=b'\r' | 0))
}
