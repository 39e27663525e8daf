//! The text of `INFO`: sections of `name:value` lines.
//!
//! Sections are separated by an empty line, lines end in CR LF, and a section begins with `# Name`. Tools
//! read this format line by line, so that no value may contain a line break.

use std::fmt::{self, Display, Write};

/// Text being written.
#[derive(Default)]
pub struct InfoText {
    out: String,
}

impl InfoText {
    /// Begins a section.
    pub fn section(&mut self, title: &str) -> &mut Self {
        if !self.out.is_empty() {
            self.out.push_str("\r\n");
        }
        self.line(format_args!("# {title}"))
    }

    /// One `name:value` line.
    pub fn field(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.line(format_args!("{name}:{value}"))
    }

    /// A `yes` or `no` as the digits 1 and 0.
    pub fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        self.field(name, u8::from(value))
    }

    /// A number with two decimals.
    pub fn ratio(&mut self, name: &str, value: f64) -> &mut Self {
        self.line(format_args!("{name}:{value:.2}"))
    }

    /// A whole line.
    pub fn line(&mut self, line: fmt::Arguments<'_>) -> &mut Self {
        let start = self.out.len();
        self.out.write_fmt(line).expect("writing to a String does not fail");
        debug_assert!(!self.out[start..].contains(['\r', '\n']), "a line is one line");
        self.out.push_str("\r\n");
        self
    }

    /// The text so far.
    pub fn finish(self) -> String {
        self.out
    }
}

/// The part of a name that cannot be mistaken for the structure around it.
pub struct Safe<'a>(pub &'a [u8]);

impl Display for Safe<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                f.write_char(if matches!(c, '#' | ':' | '\n' | '\r') { '_' } else { c })?;
            }
            if !chunk.invalid().is_empty() {
                f.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_lines_and_names() {
        let mut text = InfoText::default();
        text.section("One").field("a", 1).flag("b", true).ratio("c", 2.0 / 3.0);
        text.section("Two").field("d", Safe(b"x:y#\xffz\n"));
        assert_eq!(text.finish(), "# One\r\na:1\r\nb:1\r\nc:0.67\r\n\r\n# Two\r\nd:x_y_\u{fffd}z_\r\n");
    }
}
