//! The commands there are, as far as permissions go: names, categories, which belongs to which.
//!
//! Whoever owns the command table hands it in once, in the order of its command numbers. Rules name commands by
//! the names of that table, whatever the configuration may call them.

use std::collections::HashMap;

/// Facts about one command or subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// In lower case; a subcommand's is `container|name`.
    pub name: &'static str,
    /// A bit for each of its categories.
    pub categories: u32,
    /// The number of the command it is a subcommand of.
    pub container: Option<u16>,
    /// Only other servers of the family have it: rules may name it, and lists do not.
    pub absent: bool,
}

/// All commands by number, and all categories.
#[derive(Default)]
pub struct Catalog {
    commands: Vec<Command>,
    by_name: HashMap<&'static [u8], u16>,
    subcommands: HashMap<u16, Vec<u16>>,
    categories: Vec<(u32, &'static str)>,
}

impl Catalog {
    /// The catalog of `commands`, each at the place of its number, and of categories: bit and name of each.
    ///
    /// # Panics
    /// There are more than 65,536 commands.
    pub fn new(
        commands: impl IntoIterator<Item = Command>,
        categories: impl IntoIterator<Item = (u32, &'static str)>,
    ) -> Self {
        let mut catalog = Catalog { categories: categories.into_iter().collect(), ..Catalog::default() };
        for command in commands {
            let number = u16::try_from(catalog.commands.len()).expect("command numbers have 16 bits");
            catalog.by_name.insert(command.name.as_bytes(), number);
            if let Some(container) = command.container {
                catalog.subcommands.entry(container).or_default().push(number);
            }
            catalog.commands.push(command);
        }
        catalog
    }

    /// How many commands there are: numbers are below this.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The number of the command or subcommand (`container|name`) called so, in any case.
    pub fn find(&self, name: &[u8]) -> Option<u16> {
        self.by_name.get(name.to_ascii_lowercase().as_slice()).copied()
    }

    /// Facts about a command.
    pub fn get(&self, number: u16) -> &Command {
        &self.commands[usize::from(number)]
    }

    /// The numbers of a container's subcommands.
    pub fn subcommands(&self, container: u16) -> &[u16] {
        self.subcommands.get(&container).map_or(&[], Vec::as_slice)
    }

    /// The bit of the category called so, in any case.
    pub fn category(&self, name: &[u8]) -> Option<u32> {
        let found = self.categories.iter().find(|(_, known)| name.eq_ignore_ascii_case(known.as_bytes()));
        found.map(|&(bit, _)| bit)
    }

    /// The names of the categories.
    pub fn categories(&self) -> impl ExactSizeIterator<Item = &'static str> + '_ {
        self.categories.iter().map(|&(_, name)| name)
    }

    /// The commands and subcommands of a category, given by its bit.
    pub fn in_category(&self, bit: u32) -> impl Iterator<Item = (u16, &Command)> {
        let numbered = self.commands.iter().enumerate().map(|(number, command)| (number as u16, command));
        numbered.filter(move |(_, command)| command.categories & bit != 0)
    }
}

/// A set of command numbers: one bit each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandSet {
    words: Box<[u64]>,
    /// Numbers are below this; bits from here on are zero.
    commands: usize,
}

impl CommandSet {
    /// No command, out of `commands`.
    pub fn none(commands: usize) -> Self {
        CommandSet { words: vec![0; commands.div_ceil(64)].into(), commands }
    }

    /// Whether the set holds command `number`.
    #[inline]
    pub fn has(&self, number: u16) -> bool {
        let number = usize::from(number);
        self.words.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Puts command `number` in, or takes it out.
    pub fn set(&mut self, number: u16, member: bool) {
        let number = usize::from(number);
        assert!(number < self.commands, "commands have numbers below their count");
        let bit = 1 << (number % 64);
        let word = &mut self.words[number / 64];
        if member { *word |= bit } else { *word &= !bit }
    }

    /// Puts all commands in, or takes all out.
    pub fn set_all(&mut self, member: bool) {
        self.words.fill(if member { u64::MAX } else { 0 });
        if member
            && let unused @ 1.. = self.words.len() * 64 - self.commands
            && let Some(last) = self.words.last_mut()
        {
            *last >>= unused;
        }
    }

    /// Whether every command is in.
    pub fn is_full(&self) -> bool {
        self.words.iter().map(|word| word.count_ones() as usize).sum::<usize>() == self.commands
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_any_size_can_be_full() {
        for commands in [0, 1, 63, 64, 65, 128, 400] {
            let mut set = CommandSet::none(commands);
            assert_eq!(set.is_full(), commands == 0);
            set.set_all(true);
            assert!(set.is_full());
            for number in 0..commands as u16 {
                assert!(set.has(number));
                set.set(number, false);
                assert!(!set.has(number) && !set.is_full());
                set.set(number, true);
            }
            assert!(set.is_full() && !set.has(commands as u16) && !set.has(u16::MAX));
            set.set_all(false);
            assert_eq!(set, CommandSet::none(commands));
        }
    }
}
