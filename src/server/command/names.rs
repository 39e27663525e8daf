//! The commands of a running server, found by name.

use super::context::Handler;
use super::spec::Spec;
use crate::resp::Args;

/// A command as the running server knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandId(pub u16);

/// Why a command cannot be called by another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenameError {
    /// There is no command of the old name.
    #[error("No such command in rename-command")]
    NoSuchCommand,
    /// Another command has the new name.
    #[error("Target command name already exists")]
    NameIsTaken,
}

/// All commands, found by name.
///
/// The table of names is open-addressed over a hash of the length and the first bytes, folded to
/// lower case, and a quarter full at most: a lookup is one probe and one comparison. Most names are short and
/// all letters; their eight bytes, folded, are compared as a number.
#[derive(Clone)]
pub struct Commands {
    specs: Vec<&'static Spec>,
    /// The name each is called by, unless the configuration took it away.
    names: Vec<Option<Box<[u8]>>>,
    /// Of each container: its subcommands' identities.
    subcommands: Vec<Vec<CommandId>>,
    slots: Vec<NameSlot>,
    top_level: usize,
    /// What only other servers of the family have.
    absent: Vec<&'static Spec>,
}

/// A place in the table of names.
#[derive(Clone, Copy)]
struct NameSlot {
    /// The folded beginning of the name.
    head: u64,
    id: u16,
    len: u16,
    /// Whether all that has this length and folds to `head` is this name: it is no longer than `head`, and only
    /// letters, of which folding forgets nothing but the case.
    exact: bool,
}

const EMPTY: u16 = u16::MAX;
const EMPTY_SLOT: NameSlot = NameSlot { head: 0, id: EMPTY, len: 0, exact: false };

/// The first bytes of a name, up to eight, each with the bit set that tells lower from upper case. Names of one
/// length are folded from the same places.
#[inline]
fn fold(name: &[u8]) -> u64 {
    // Two loads that may overlap cover any length; only the number of bytes decides which.
    let word = if let Some(first) = name.first_chunk::<8>() {
        u64::from_le_bytes(*first)
    } else if let (Some(first), Some(last)) = (name.first_chunk::<4>(), name.last_chunk::<4>()) {
        u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
    } else if let (Some(first), Some(last)) = (name.first_chunk::<2>(), name.last_chunk::<2>()) {
        u64::from(u16::from_le_bytes(*first)) | u64::from(u16::from_le_bytes(*last)) << 32
    } else {
        u64::from(name.first().copied().unwrap_or(0))
    };
    word | 0x2020_2020_2020_2020
}

/// Where to look for a name that folds to `head`, before masking.
#[inline]
fn place_of(name: &[u8], head: u64) -> usize {
    let tail = match name.last_chunk::<4>() {
        Some(last) if name.len() > 8 => u64::from(u32::from_le_bytes(*last) | 0x2020_2020) << 20,
        _ => 0,
    };
    let mixed = (head ^ tail ^ (name.len() as u64) << 56).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 40) as usize
}

impl Commands {
    /// The commands of all `groups`.
    pub fn new(groups: &[&'static [Spec]]) -> Self {
        let all = groups.iter().flat_map(|group| group.iter());
        let (absent, mut specs): (Vec<&'static Spec>, Vec<&'static Spec>) =
            all.partition(|spec| matches!(spec.handler, Handler::Absent));
        let top_level = specs.len();
        let mut subcommands = vec![Vec::new(); top_level];
        for i in 0..top_level {
            for sub in specs[i].subcommands {
                subcommands[i].push(CommandId(specs.len() as u16));
                specs.push(sub);
            }
        }
        let names = specs.iter().map(|spec| Some(spec.name.as_bytes().into())).collect();
        let mut commands = Commands { specs, names, subcommands, slots: Vec::new(), top_level, absent };
        commands.index();
        commands
    }

    /// Builds the table of names anew.
    fn index(&mut self) {
        let size = (self.top_level * 4).next_power_of_two();
        self.slots = vec![EMPTY_SLOT; size];
        for (i, name) in self.names[..self.top_level].iter().enumerate() {
            let Some(name) = name else { continue };
            let head = fold(name);
            let mut at = place_of(name, head) & (size - 1);
            while self.slots[at].id != EMPTY {
                assert_ne!(
                    self.names[self.slots[at].id as usize].as_ref(),
                    Some(name),
                    "two commands of one name"
                );
                at = (at + 1) & (size - 1);
            }
            let exact = name.len() <= 8 && name.iter().all(u8::is_ascii_alphabetic);
            // A name from the configuration may be of any length; none as long as that is asked for.
            let len = u16::try_from(name.len()).unwrap_or(u16::MAX);
            self.slots[at] = NameSlot { head, id: i as u16, len, exact };
        }
    }

    /// Has the command `from` called `to` from now on, or by no name at all when `to` is empty. For a command that
    /// is not here there is nothing to do.
    ///
    /// # Errors
    /// There is no such command, or another one has that name already.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), RenameError> {
        let found = self.find(from);
        if found.is_none() && !self.absent.iter().any(|spec| from.eq_ignore_ascii_case(spec.name.as_bytes()))
        {
            return Err(RenameError::NoSuchCommand);
        }
        if !to.is_empty() && self.find(to).is_some() {
            return Err(RenameError::NameIsTaken);
        }
        let Some(id) = found else { return Ok(()) };
        self.names[id.0 as usize] = (!to.is_empty()).then(|| to.to_ascii_lowercase().into());
        self.index();
        Ok(())
    }

    /// The command called `name`, in any case. Subcommands are not looked at.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<CommandId> {
        let mask = self.slots.len() - 1;
        let head = fold(name);
        let mut at = place_of(name, head) & mask;
        loop {
            let slot = self.slots[at];
            if slot.head == head
                && usize::from(slot.len) == name.len()
                && (slot.exact || self.is_called(slot.id, name))
            {
                return Some(CommandId(slot.id));
            }
            if slot.id == EMPTY {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    #[inline(never)]
    fn is_called(&self, id: u16, name: &[u8]) -> bool {
        let known = self.names.get(id as usize).and_then(Option::as_ref);
        known.is_some_and(|known| name.eq_ignore_ascii_case(known))
    }

    /// The subcommand of `container` called `name`, in any case.
    pub fn find_sub(&self, container: CommandId, name: &[u8]) -> Option<CommandId> {
        let subs = self.subcommands.get(container.0 as usize)?;
        subs.iter().copied().find(|&sub| name.eq_ignore_ascii_case(self.spec(sub).short_name().as_bytes()))
    }

    /// The command or subcommand that a request for the command `id` is for; `None` if there is no such subcommand.
    pub fn meant(&self, id: CommandId, args: &Args<'_>) -> Option<CommandId> {
        match args.get(1) {
            Some(sub) if !self.spec(id).subcommands.is_empty() => self.find_sub(id, sub),
            _ => Some(id),
        }
    }

    /// The command that has `spec` among its subcommands.
    pub fn container(&self, spec: &Spec) -> Option<CommandId> {
        let (container, _) = spec.name.split_once('|')?;
        let place = self.specs[..self.top_level].iter().position(|spec| spec.name == container)?;
        Some(CommandId(place as u16))
    }

    /// The command or subcommand a request means. `name` may be `container|sub`.
    pub fn find_full(&self, name: &[u8]) -> Option<CommandId> {
        match name.iter().position(|&b| b == b'|') {
            None => self.find(name),
            Some(bar) => self.find_sub(self.find(&name[..bar])?, &name[bar + 1..]),
        }
    }

    /// What is known about a command.
    #[inline]
    pub fn spec(&self, id: CommandId) -> &'static Spec {
        self.specs[id.0 as usize]
    }

    /// How many there are, subcommands included: identities are below this.
    pub fn len(&self) -> usize {
        self.specs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.specs.is_empty()
    }

    /// The commands that are not subcommands.
    pub fn top_level(&self) -> impl ExactSizeIterator<Item = &'static Spec> + '_ {
        self.specs[..self.top_level].iter().copied()
    }

    /// The commands and subcommands that only other servers of the family have.
    pub fn absent(&self) -> &[&'static Spec] {
        &self.absent
    }

    /// Commands and subcommands with their identities.
    pub fn iter(&self) -> impl Iterator<Item = (CommandId, &'static Spec)> + '_ {
        self.specs.iter().enumerate().map(|(i, spec)| (CommandId(i as u16), *spec))
    }
}
