//! The commands that permissions refer to: names, categories, and membership in categories.
//!
//! The owner of the command table passes it in once, in order of command numbers. Rules use the names of that table,
//! even if the configuration has renamed commands.

use std::collections::HashMap;

/// Facts about one command or subcommand.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Name in lower case; `container|name` for a subcommand.
    pub name: &'static str,
    /// Categories, one bit each.
    pub categories: u32,
    /// Number of the container, for a subcommand.
    pub container: Option<u16>,
    /// Whether only other servers of the family have this command. Rules may name it, but it is not listed.
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
    /// The catalog of `commands`, each at the index of its number, and of `categories`, as pairs of bit and name.
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

    /// Number of commands. All command numbers are below it.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there are no commands.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The number of the command or subcommand (`container|name`) with this name, in any case.
    pub fn find(&self, name: &[u8]) -> Option<u16> {
        self.by_name.get(name.to_ascii_lowercase().as_slice()).copied()
    }

    /// Facts about a command.
    pub fn get(&self, number: u16) -> &Command {
        &self.commands[usize::from(number)]
    }

    /// Numbers of a container's subcommands.
    pub fn subcommands(&self, container: u16) -> &[u16] {
        self.subcommands.get(&container).map_or(&[], Vec::as_slice)
    }

    /// The bit of the category with this name, in any case.
    pub fn category(&self, name: &[u8]) -> Option<u32> {
        let found = self.categories.iter().find(|(_, known)| name.eq_ignore_ascii_case(known.as_bytes()));
        found.map(|&(bit, _)| bit)
    }

    /// Names of the categories.
    pub fn categories(&self) -> impl ExactSizeIterator<Item = &'static str> + '_ {
        self.categories.iter().map(|&(_, name)| name)
    }

    /// The commands and subcommands in the category with this bit.
    pub fn in_category(&self, bit: u32) -> impl Iterator<Item = (u16, &Command)> {
        let numbered = self.commands.iter().enumerate().map(|(number, command)| (number as u16, command));
        numbered.filter(move |(_, command)| command.categories & bit != 0)
    }
}

/// A set of command numbers, one bit each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandSet {
    words: Box<[u64]>,
    /// Numbers are below this; all higher bits are zero.
    commands: usize,
}

impl CommandSet {
    /// The empty set of numbers below `commands`.
    pub fn none(commands: usize) -> Self {
        CommandSet { words: vec![0; commands.div_ceil(64)].into(), commands }
    }

    /// Whether the set contains command `number`.
    #[inline]
    pub fn has(&self, number: u16) -> bool {
        let number = usize::from(number);
        self.words.get(number / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }

    /// Adds command `number` to the set, or removes it.
    pub fn set(&mut self, number: u16, member: bool) {
        let number = usize::from(number);
        assert!(number < self.commands, "commands have numbers below their count");
        let bit = 1 << (number % 64);
        let word = &mut self.words[number / 64];
        if member { *word |= bit } else { *word &= !bit }
    }

    /// Adds all commands to the set, or removes all.
    pub fn set_all(&mut self, member: bool) {
        self.words.fill(if member { u64::MAX } else { 0 });
        if member
            && let unused @ 1.. = self.words.len() * 64 - self.commands
            && let Some(last) = self.words.last_mut()
        {
            *last >>= unused;
        }
    }

    /// Whether the set contains every command.
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
