//! Buffered output of RDB bytes: gathered, summed, counted, and written in large pieces.
//!
//! After an error all further output is dropped, so that callers need not check each step: [`Output::failed`] reports
//! whether there was an error, and [`Output::end`] returns it.

use std::fs::File;
use std::io::{self, Write};

use super::format::{ENCODED, LEN_14, LEN_32, LEN_64, encoding};
use crate::stdx::{crc64, num};
use crate::structures::listpack::Item;
use crate::structures::lzf;

/// Bytes gathered before they are written.
const PIECE: usize = 256 << 10;
/// Texts of more bytes than this are compressed.
const COMPRESS_ABOVE: usize = 20;
/// Bytes that compression must save to be used.
const SAVING: usize = 4;
/// Longest text checked for being an integer: -2147483648.
const LONGEST_INT: usize = 11;

/// Encoder for the primitive parts of an RDB file.
pub struct Output<'a> {
    /// Bytes not written yet. Without a `sink` all bytes stay here.
    pending: Vec<u8>,
    sink: Option<&'a mut dyn Write>,
    written: u64,
    sum: u64,
    /// Bytes of `pending` that are included in `sum`.
    summed: usize,
    checksum: bool,
    compress: bool,
    /// Space for the LZF stream of the string being compressed; empty otherwise.
    stream: Vec<u8>,
    error: Option<io::Error>,
}

impl<'a> Output<'a> {
    /// An output that writes to `sink`.
    pub fn to(sink: &'a mut dyn Write, compress: bool, checksum: bool) -> Output<'a> {
        Output { sink: Some(sink), checksum, ..Output::to_memory(compress) }
    }

    /// An output that keeps everything in memory, for [`Output::into_bytes`].
    pub fn to_memory(compress: bool) -> Output<'a> {
        Output {
            pending: Vec::new(),
            sink: None,
            written: 0,
            sum: 0,
            summed: 0,
            checksum: true,
            compress,
            stream: Vec::new(),
            error: None,
        }
    }

    /// Number of bytes so far.
    pub fn bytes(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Whether writing has failed, so that the rest need not be tried.
    pub fn failed(&self) -> bool {
        self.error.is_some()
    }

    /// Checksum of all bytes so far; 0 if none is computed.
    pub fn sum(&mut self) -> u64 {
        if self.checksum {
            self.sum = crc64::update(self.sum, &self.pending[self.summed..]);
            self.summed = self.pending.len();
        }
        self.sum
    }

    #[inline]
    fn flush_if_large(&mut self) {
        if self.pending.len() >= PIECE && self.sink.is_some() {
            self.flush();
        }
    }

    #[cold]
    fn flush(&mut self) {
        self.sum();
        let Some(sink) = self.sink.as_mut() else { return };
        if self.error.is_none() {
            self.error = sink.write_all(&self.pending).err();
        }
        self.written += self.pending.len() as u64;
        self.pending.clear();
        self.summed = 0;
    }

    /// Writes the rest and returns the total number of bytes.
    ///
    /// # Errors
    /// The error of the first write that failed.
    pub fn end(mut self) -> io::Result<u64> {
        self.flush();
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.written),
        }
    }

    /// All bytes of an output made by [`Output::to_memory`].
    pub fn into_bytes(self) -> Vec<u8> {
        self.pending
    }

    /// Writes one byte.
    #[inline]
    pub fn byte(&mut self, byte: u8) {
        self.pending.push(byte);
    }

    /// Writes bytes as they are.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        if bytes.len() < PIECE || self.sink.is_none() {
            self.pending.extend_from_slice(bytes);
            self.flush_if_large();
        } else {
            self.raw_long(bytes);
        }
    }

    /// Writes a long text without copying it.
    #[cold]
    fn raw_long(&mut self, bytes: &[u8]) {
        self.flush();
        if self.checksum {
            self.sum = crc64::update(self.sum, bytes);
        }
        if let Some(sink) = self.sink.as_mut()
            && self.error.is_none()
        {
            self.error = sink.write_all(bytes).err();
        }
        self.written += bytes.len() as u64;
    }

    /// Writes a length, or a number that is likely small.
    #[inline]
    pub fn len(&mut self, len: usize) {
        let len = len as u64;
        if len < 1 << 6 {
            self.byte(len as u8);
        } else if len < 1 << 14 {
            self.raw(&(len as u16 | u16::from(LEN_14) << 14).to_be_bytes());
        } else if let Ok(len) = u32::try_from(len) {
            self.byte(LEN_32);
            self.raw(&len.to_be_bytes());
        } else {
            self.byte(LEN_64);
            self.raw(&len.to_be_bytes());
        }
    }

    /// Writes a number as a string: in one, two or four bytes if it fits, otherwise as text.
    pub fn int(&mut self, n: i64) {
        const fn head(encoding: u8) -> u8 {
            ENCODED << 6 | encoding
        }
        if let Ok(n) = i8::try_from(n) {
            self.raw(&[head(encoding::INT8), n as u8]);
        } else if let Ok(n) = i16::try_from(n) {
            let [a, b] = n.to_le_bytes();
            self.raw(&[head(encoding::INT16), a, b]);
        } else if let Ok(n) = i32::try_from(n) {
            let [a, b, c, d] = n.to_le_bytes();
            self.raw(&[head(encoding::INT32), a, b, c, d]);
        } else {
            let mut digits = itoa::Buffer::new();
            let text = digits.format(n).as_bytes();
            self.len(text.len());
            self.raw(text);
        }
    }

    /// Writes a string: as a number if it is the text of a small integer, compressed if it is long.
    #[inline]
    pub fn string(&mut self, text: &[u8]) {
        if text.len() <= LONGEST_INT {
            if let Some(n) = num::parse_i64(text).and_then(|n| i32::try_from(n).ok()) {
                return self.int(i64::from(n));
            }
        } else if self.compress && text.len() > COMPRESS_ABOVE && self.compressed(text) {
            return;
        }
        self.len(text.len());
        self.raw(text);
    }

    /// Writes a listpack item as a string or number.
    #[inline]
    pub fn item(&mut self, item: Item<'_>) {
        match item {
            Item::Int(n) => self.int(n),
            Item::Str(text) => self.string(text),
        }
    }

    /// Writes the string compressed. Returns false, having written nothing, if compression would save too little.
    fn compressed(&mut self, text: &[u8]) -> bool {
        let mut stream = std::mem::take(&mut self.stream);
        let shorter = lzf::compress_into(text, text.len() - SAVING, &mut stream);
        if shorter {
            self.lzf(text.len(), &stream);
            stream.clear();
        }
        // One long text must not occupy its memory for good.
        if stream.capacity() <= PIECE {
            self.stream = stream;
        }
        shorter
    }

    /// Writes a string that is already compressed: `len` is the length of its text.
    pub fn lzf(&mut self, len: usize, stream: &[u8]) {
        self.byte(ENCODED << 6 | encoding::LZF);
        self.len(stream.len());
        self.len(len);
        self.raw(stream);
    }
}

/// A file that is flushed to disk piece by piece, so that the last flush finds little to do and other users of the
/// disk are not delayed.
pub struct SyncedFile {
    /// The file.
    pub file: File,
    every: Option<u64>,
    unsynced: u64,
}

/// Bytes between two flushes to disk.
pub const SYNC_EVERY: u64 = 32 << 20;

impl SyncedFile {
    /// Flushes to disk every [`SYNC_EVERY`] bytes if `incremental`.
    pub fn new(file: File, incremental: bool) -> SyncedFile {
        SyncedFile { file, every: incremental.then_some(SYNC_EVERY), unsynced: 0 }
    }
}

impl Write for SyncedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.file.write(bytes)?;
        self.unsynced += n as u64;
        if self.every.is_some_and(|every| self.unsynced >= every) {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
