//! A user: whether and how the user logs in, and what the user may do.

use sha2::{Digest, Sha256};

use super::catalog::Catalog;
use super::selector::Selector;
use super::{Access, Channel, Denied, Request, RuleError};

/// SHA-256 digest of a password. The password itself is not stored.
pub type Digest256 = [u8; 32];

/// A user, without the name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    enabled: bool,
    /// Whether any password is accepted.
    no_password: bool,
    /// Whether this user's payloads for RESTORE are trusted.
    skip_sanitize: bool,
    passwords: Vec<Digest256>,
    /// The user's own permissions: those of rules outside parentheses.
    own: Selector,
    more: Vec<Selector>,
}

impl User {
    /// A disabled user without permissions. `every_channel` says whether new users may use every channel.
    pub fn new(catalog: &Catalog, every_channel: bool) -> Self {
        User {
            enabled: false,
            no_password: false,
            skip_sanitize: false,
            passwords: Vec::new(),
            own: Selector::new(catalog, every_channel),
            more: Vec::new(),
        }
    }

    /// A user that logs in with any password and may do everything: the default user of a new server.
    pub fn unrestricted(catalog: &Catalog) -> Self {
        let mut user = User::new(catalog, true);
        for rule in ["on", "nopass", "+@all", "~*"] {
            user.apply(rule.as_bytes(), catalog, true).expect("these rules are right");
        }
        user
    }

    /// Changes the user by one rule. A rule in parentheses adds a selector.
    ///
    /// # Errors
    /// The rule is wrong. Nothing has changed.
    pub fn apply(&mut self, rule: &[u8], catalog: &Catalog, every_channel: bool) -> Result<(), RuleError> {
        let is = |word: &str| rule.eq_ignore_ascii_case(word.as_bytes());
        match rule {
            [] => {}
            _ if is("on") => self.enabled = true,
            _ if is("off") => self.enabled = false,
            _ if is("nopass") => {
                self.no_password = true;
                self.passwords.clear();
            }
            _ if is("resetpass") => {
                self.no_password = false;
                self.passwords.clear();
            }
            _ if is("skip-sanitize-payload") => self.skip_sanitize = true,
            _ if is("sanitize-payload") => self.skip_sanitize = false,
            _ if is("clearselectors") => self.more.clear(),
            _ if is("reset") => *self = User::new(catalog, every_channel),
            [b'>', password @ ..] => self.add_password(digest(password)),
            [b'#', digits @ ..] => self.add_password(parse_digest(digits)?),
            [b'<', password @ ..] => self.remove_password(&digest(password))?,
            [b'!', digits @ ..] => self.remove_password(&parse_digest(digits)?)?,
            [b'(', rules @ .., b')'] => self.more.push(Selector::parse(rules, catalog, every_channel)?),
            _ => self.own.apply(rule, catalog)?,
        }
        Ok(())
    }

    fn add_password(&mut self, digest: Digest256) {
        self.no_password = false;
        if !self.passwords.contains(&digest) {
            self.passwords.push(digest);
        }
    }

    fn remove_password(&mut self, digest: &Digest256) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| known == digest).ok_or(RuleError::NoSuchPassword)?;
        self.passwords.remove(at);
        Ok(())
    }

    /// Whether the user may log in with this password. The time taken does not depend on the digests that are
    /// compared.
    pub fn logs_in_with(&self, password: &[u8]) -> bool {
        self.enabled && (self.no_password || self.has_password(&digest(password)))
    }

    fn has_password(&self, given: &Digest256) -> bool {
        let equal = |known: &Digest256| {
            let different = known.iter().zip(given).fold(0, |different, (a, b)| different | (a ^ b));
            std::hint::black_box(different) == 0
        };
        self.passwords.iter().fold(false, |found, known| found | equal(known))
    }

    /// Whether the user may log in.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Whether any password is accepted.
    pub fn needs_no_password(&self) -> bool {
        self.no_password
    }

    /// Whether everything is allowed, so that nothing needs to be checked.
    pub fn is_unrestricted(&self) -> bool {
        self.selectors().any(Selector::is_unrestricted)
    }

    fn selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.own).chain(&self.more)
    }

    /// Checks whether a request may run: one selector must allow all of it.
    ///
    /// # Errors
    /// The selectors' most informative objection: a channel before a key, a key before the command, the command before a
    /// database, and a later argument before an earlier one.
    pub fn check(&self, request: &Request<'_>) -> Result<(), Denied> {
        let mut worst = Denied::Database(0);
        for selector in self.selectors() {
            match selector.check(request) {
                Ok(()) => return Ok(()),
                Err(denied) => worst = worst.max(denied),
            }
        }
        Err(worst)
    }

    /// Whether some selector does not allow every database.
    pub fn limits_databases(&self) -> bool {
        self.selectors().any(Selector::limits_databases)
    }

    /// Whether a request may run and every key, not only those of the request, may be used with `access`.
    pub fn check_with_every_key(&self, request: &Request<'_>, access: Access) -> bool {
        self.selectors().any(|selector| selector.allows_every_key(access) && selector.check(request).is_ok())
    }

    /// Whether the user may subscribe or publish to a channel.
    pub fn allows_channel(&self, channel: &[u8], kind: Channel) -> bool {
        self.selectors().any(|selector| selector.allows_channel(channel, kind))
    }

    /// The words for the user's state and password rules.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> + Clone {
        let words = [
            (true, if self.enabled { "on" } else { "off" }),
            (self.no_password, "nopass"),
            (true, if self.skip_sanitize { "skip-sanitize-payload" } else { "sanitize-payload" }),
        ];
        words.into_iter().filter(|(set, _)| *set).map(|(_, word)| word)
    }

    /// Digests of the passwords in hexadecimal digits.
    pub fn passwords(&self) -> impl ExactSizeIterator<Item = [u8; 64]> + '_ {
        self.passwords.iter().map(hexadecimal)
    }

    /// The user's own permissions.
    pub fn own(&self) -> &Selector {
        &self.own
    }

    /// Further selectors, each of which can allow a request by itself.
    pub fn more(&self) -> &[Selector] {
        &self.more
    }

    /// All rules, separated by blanks. Applied to a new user, they create this one.
    pub fn describe(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.describe_into(&mut text);
        text
    }

    /// Appends all rules, as [`User::describe`] returns them.
    pub fn describe_into(&self, text: &mut Vec<u8>) {
        for flag in self.flags() {
            text.extend_from_slice(flag.as_bytes());
            text.push(b' ');
        }
        for digits in self.passwords() {
            text.push(b'#');
            text.extend_from_slice(&digits);
            text.push(b' ');
        }
        self.own.describe_into(text);
        for selector in &self.more {
            text.push(b' ');
            text.extend_from_slice(&selector.describe_in_parentheses());
        }
    }
}

fn hexadecimal(digest: &Digest256) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 64];
    for (pair, byte) in digits.as_chunks_mut::<2>().0.iter_mut().zip(digest) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
    digits
}

fn digest(password: &[u8]) -> Digest256 {
    Sha256::digest(password).into()
}

/// Parses 64 hexadecimal digits in lower case.
fn parse_digest(digits: &[u8]) -> Result<Digest256, RuleError> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let bytes: Option<Vec<u8>> =
        digits.chunks(2).map(|pair| Some(value(pair[0])? << 4 | value(*pair.get(1)?)?)).collect();
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(RuleError::BadDigest)
}

/// Joins arguments that blanks have split: all arguments from one that begins with an opening parenthesis to one that
/// ends with a closing one form one rule.
///
/// # Errors
/// The argument with the parenthesis that is not closed.
pub fn join_selectors<'r>(rules: impl IntoIterator<Item = &'r [u8]>) -> Result<Vec<Vec<u8>>, &'r [u8]> {
    let mut joined: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<&[u8]> = None;
    for rule in rules {
        match (open, joined.last_mut()) {
            (Some(_), Some(selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(rule);
                if rule.ends_with(b")") {
                    open = None;
                }
            }
            _ => {
                if rule.starts_with(b"(") && !rule.ends_with(b")") {
                    open = Some(rule);
                }
                joined.push(rule.to_vec());
            }
        }
    }
    open.map_or(Ok(joined), Err)
}

/// The words of a user's description. Selectors are split as [`join_selectors`] expects.
pub fn words(description: &[u8]) -> impl Iterator<Item = &[u8]> {
    description.split(|&byte| byte == b' ')
}
