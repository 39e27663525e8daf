//! The text of `INFO`: sections of `name:value` lines.
//!
//! A section begins with `# Name`, sections are separated by an empty line, and lines end in CR LF. Tools read this
//! format line by line, so no value may contain a line break.

use std::fmt::{self, Display, Write};

/// The text, while it is written.
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

    /// Appends a `name:value` line.
    pub fn field(&mut self, name: &str, value: impl Display) -> &mut Self {
        self.line(format_args!("{name}:{value}"))
    }

    /// Appends a line with a boolean as 1 or 0.
    pub fn flag(&mut self, name: &str, value: bool) -> &mut Self {
        self.field(name, u8::from(value))
    }

    /// Appends a line with a number of two decimals.
    pub fn ratio(&mut self, name: &str, value: f64) -> &mut Self {
        self.line(format_args!("{name}:{value:.2}"))
    }

    /// Appends a line as it is.
    pub fn line(&mut self, line: fmt::Arguments<'_>) -> &mut Self {
        let start = self.out.len();
        self.out.write_fmt(line).expect("writing to a String does not fail");
        debug_assert!(!self.out[start..].contains(['\r', '\n']), "a line is one line");
        self.out.push_str("\r\n");
        self
    }

    /// The text written so far.
    pub fn finish(self) -> String {
        self.out
    }
}

/// Displays bytes without any that could break the format of the text.
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
