//! Functions of C's library for scripts: numbers as `printf` writes them and `strtod` reads them, and processor time.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int};
use std::ptr;

/// One conversion of C's `printf`, such as `%-08.3f`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conversion {
    /// Flags, width and precision as written, without the `%`.
    pub head: [u8; 16],
    /// Number of bytes used in `head`.
    pub head_len: usize,
    /// The conversion letter.
    pub letter: u8,
}

/// Operand of a conversion.
#[derive(Clone, Copy, Debug)]
pub enum Operand {
    /// For `e E f g G`.
    Double(f64),
    /// For `d i c`.
    Signed(i64),
    /// For `o u x X`.
    Unsigned(u64),
}

impl Conversion {
    /// `%.{digits}g`.
    pub fn general(digits: u8) -> Conversion {
        let mut conversion = Conversion { letter: b'g', ..Conversion::default() };
        for &byte in &[b'.', b'0' + digits / 10 % 10, b'0' + digits % 10] {
            conversion.push(byte);
        }
        conversion
    }

    /// Appends a byte of flags, width or precision. Other bytes, and bytes beyond the capacity, are ignored.
    pub fn push(&mut self, byte: u8) {
        if b"-+ #0123456789.".contains(&byte) && self.head_len < 12 {
            self.head[self.head_len] = byte;
            self.head_len += 1;
        }
    }

    /// Appends the converted operand. Appends nothing if the letter does not suit the operand.
    pub fn write(&self, operand: Operand, out: &mut Vec<u8>) {
        let suits = match operand {
            Operand::Double(_) => b"eEfgG".contains(&self.letter),
            Operand::Signed(_) => b"dic".contains(&self.letter),
            Operand::Unsigned(_) => b"ouxX".contains(&self.letter),
        };
        // At most two numbers of at most two digits each, so the text is shorter than 512 bytes.
        let digits = self.head[..self.head_len].split(|b| !b.is_ascii_digit()).all(|run| run.len() <= 4);
        if !suits || !digits {
            return;
        }
        let mut form = [0u8; 20];
        form[0] = b'%';
        form[1..=self.head_len].copy_from_slice(&self.head[..self.head_len]);
        let mut end = self.head_len + 1;
        if !matches!(operand, Operand::Double(_)) && self.letter != b'c' {
            form[end] = b'l';
            end += 1;
        }
        form[end] = self.letter;
        let mut text = [0u8; 512];
        let (room, form) = (text.as_mut_ptr().cast::<c_char>(), form.as_ptr().cast::<c_char>());
        // SAFETY: `form` is one conversion, ended by a zero, whose letter takes an argument of the type that is passed;
        // the text is cut to its room.
        let len = unsafe {
            match operand {
                Operand::Double(x) => libc::snprintf(room, 512, form, x),
                Operand::Signed(n) if self.letter == b'c' => libc::snprintf(room, 512, form, n as c_int),
                Operand::Signed(n) => libc::snprintf(room, 512, form, n as libc::c_long),
                Operand::Unsigned(n) => libc::snprintf(room, 512, form, n as libc::c_ulong),
            }
        };
        let len = usize::try_from(len).unwrap_or(0).min(511);
        // In C, a string ends at its first NUL byte.
        let text = &text[..len];
        out.extend_from_slice(&text[..memchr::memchr(0, text).unwrap_or(len)]);
    }
}

/// The number at the start of `text`, and its length in bytes, as C's `strtod` reads it.
pub fn parse_double(text: &[u8]) -> (f64, usize) {
    let digits =
        text.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.')).count();
    let mut short = [0u8; 64];
    let long;
    let start = if digits < short.len() {
        short[..digits].copy_from_slice(&text[..digits]);
        short.as_ptr()
    } else {
        long = [&text[..digits], &[0]].concat();
        long.as_ptr()
    };
    let mut end: *mut c_char = ptr::null_mut();
    // SAFETY: the text at `start` ends with a zero; `end` is set to a place within it.
    unsafe {
        let x = libc::strtod(start.cast(), &raw mut end);
        (x, end.offset_from(start.cast()).unsigned_abs())
    }
}

/// Processor time used by the process, in seconds.
pub fn processor_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is where the function may write.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
