//! Buffered input of RDB bytes: read in large pieces, summed, and decoded.
//!
//! The number of bytes left is known for most sources, so that a length that cannot be true is refused before memory
//! is allocated for it.
//!
//! Reading from a source that would block can be resumed: the bytes after the last [`Input::mark`] are kept, and
//! [`Input::rewind`] returns to them, so that a value can be decoded again from its start once more bytes have arrived.

use std::io::{self, Read};

use super::format::{ENCODED, LEN_6, LEN_14, LEN_32, LEN_64, encoding};
use crate::stdx::crc64;
use crate::structures::lzf;
use crate::structures::sds::Sds;
use crate::types::packed::Unfit;
use crate::types::stream::LoadError;
use crate::types::vector_set;

/// Bytes read at a time. Longer strings bypass the buffer.
const PIECE: usize = 256 << 10;
/// Size of a buffer that is kept when a long value is complete.
const LONGEST_KEPT: usize = 4 << 20;
/// Bytes assumed to follow where the size of the source is unknown.
const ROOM: usize = 16 << 10;
/// Bytes by which a string grows where the size of the source is unknown.
const GROWTH: usize = 1 << 20;

/// Why bytes cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The bytes end too early.
    #[error("the data end too early")]
    Truncated,
    /// Reading failed.
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    /// The bytes contradict the format.
    #[error("{0}")]
    Corrupt(&'static str),
    /// The listpack of a collection is well-formed but not valid for that collection.
    #[error("{0} listpack integrity check failed: {1}")]
    Unfit(&'static str, Unfit),
    /// The parts of a stream contradict each other.
    #[error("{0}")]
    Stream(LoadError),
    /// The parts of a vector set contradict each other.
    #[error("a vector set is damaged: {0}")]
    VectorSet(vector_set::LoadError),
    /// They stand for something that this server does not support.
    #[error("{0}")]
    Unsupported(String),
    /// The checksum does not match.
    #[error("the checksum is {found:016x} where the data sum to {expected:016x}")]
    Checksum {
        /// Sum of the bytes read.
        expected: u64,
        /// Sum in the file.
        found: u64,
    },
    /// A key occurs twice in one database.
    #[error("the key occurs twice")]
    Duplicate,
}

/// A string in one of the two forms in which it is stored.
#[derive(Debug)]
pub enum Text<'t> {
    /// A string stored as an integer.
    Int(i64),
    /// A string stored as bytes.
    Bytes(&'t [u8]),
}

impl<'t> Text<'t> {
    /// The bytes of the string. An integer is first formatted into `digits`.
    #[inline]
    pub fn bytes<'b>(&self, digits: &'b mut itoa::Buffer) -> &'b [u8]
    where
        't: 'b,
    {
        match *self {
            Text::Int(n) => digits.format(n).as_bytes(),
            Text::Bytes(bytes) => bytes,
        }
    }
}

/// A length, or a string encoding in its place.
enum Head {
    Len(u64),
    Encoding(u8),
}

/// Decoder for the primitive parts of an RDB file.
pub struct Input<'a> {
    source: Box<dyn Read + 'a>,
    buffer: Box<[u8]>,
    /// Start of the unread part of the buffer.
    from: usize,
    to: usize,
    /// Offset in the source of the buffer's first byte.
    base: u64,
    /// Size of the source in bytes, if known.
    size: Option<u64>,
    sum: u64,
    /// End of the part of the buffer that is included in `sum`.
    summed: usize,
    checksum: bool,
    /// Position of the mark in the buffer, if bytes after a mark are kept.
    mark: Option<usize>,
    /// Space for a string that is not contiguous in the buffer.
    scratch: Vec<u8>,
}

impl<'a> Input<'a> {
    /// Reads from `source`, whose size in bytes is `size` if known. Computes the checksum if `checksum`.
    pub fn new(source: Box<dyn Read + 'a>, size: Option<u64>, checksum: bool) -> Input<'a> {
        let room = size.map_or(PIECE, |size| PIECE.min(usize::try_from(size).unwrap_or(PIECE)).max(64));
        Input {
            source,
            buffer: vec![0; room].into_boxed_slice(),
            from: 0,
            to: 0,
            base: 0,
            size,
            sum: 0,
            summed: 0,
            checksum,
            mark: None,
            scratch: Vec::new(),
        }
    }

    /// Keeps the bytes read from here on for [`Input::rewind`].
    pub fn keep_from_here(&mut self) {
        self.mark = Some(self.from);
    }

    /// Moves the mark here, if there is one.
    #[inline]
    pub fn mark(&mut self) {
        if self.mark.is_some() {
            self.mark = Some(self.from);
            if self.buffer.len() > LONGEST_KEPT && self.to - self.from <= PIECE {
                self.make_room(1);
                self.resize(PIECE.max(self.to + 1));
            }
        }
    }

    /// Returns to the mark. Returns the number of bytes available for decoding again, or `None` if there is no mark.
    pub fn rewind(&mut self) -> Option<usize> {
        self.from = self.mark?;
        Some(self.to - self.from)
    }

    /// Bytes that were read from the source and not consumed.
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.from..self.to]
    }

    /// Number of bytes consumed, which is the offset of the next byte.
    pub fn offset(&self) -> u64 {
        self.base + self.from as u64
    }

    /// Size of the source in bytes, 0 if unknown.
    pub fn size(&self) -> u64 {
        self.size.unwrap_or(0)
    }

    /// Upper bound for the number of bytes that can still follow.
    pub fn left(&self) -> usize {
        let left = self.size.map_or(u64::MAX, |size| size.saturating_sub(self.offset()));
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// Checksum of all bytes consumed; 0 if none is computed.
    pub fn sum(&mut self) -> u64 {
        self.sum_to(self.from);
        self.sum
    }

    /// Includes the buffer up to `end` in the checksum.
    fn sum_to(&mut self, end: usize) {
        if self.checksum && end > self.summed {
            self.sum = crc64::update(self.sum, &self.buffer[self.summed..end]);
            self.summed = end;
        }
    }

    /// Reads until the buffer has at least `n` bytes. Without a mark, `n` is at most the buffer's size.
    #[cold]
    #[inline(never)]
    fn fill(&mut self, n: usize) -> Result<(), Fault> {
        self.make_room(n);
        while self.to - self.from < n {
            self.read_once()?;
        }
        Ok(())
    }

    /// Moves the kept bytes to the start of the buffer and makes room for `n` unread bytes.
    fn make_room(&mut self, n: usize) {
        let kept = self.mark.unwrap_or(self.from);
        self.sum_to(kept);
        self.buffer.copy_within(kept..self.to, 0);
        self.base += kept as u64;
        self.to -= kept;
        self.from -= kept;
        self.summed = self.summed.saturating_sub(kept);
        let Some(mark) = &mut self.mark else { return };
        *mark = 0;
        let needed = self.from + n.max(self.to - self.from + 1);
        if needed > self.buffer.len() {
            // A value that is kept until it is complete may be longer than the buffer.
            self.resize(needed.max(self.buffer.len() * 2));
        }
    }

    /// Resizes the buffer, not below its contents.
    fn resize(&mut self, len: usize) {
        let mut buffer = vec![0; len].into_boxed_slice();
        buffer[..self.to].copy_from_slice(&self.buffer[..self.to]);
        self.buffer = buffer;
    }

    /// Reads once from the source, no further than its size.
    fn read_once(&mut self) -> Result<(), Fault> {
        let space = &mut self.buffer[self.to..];
        let most = self.size.map_or(u64::MAX, |size| size.saturating_sub(self.base + self.to as u64));
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(space.len());
        match self.source.read(&mut space[..most]) {
            Ok(0) => Err(Fault::Truncated),
            Ok(n) => {
                self.to += n;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(Fault::Io(error)),
        }
    }

    /// Reads what the source returns without blocking, up to `n` unread bytes. Decodes nothing.
    ///
    /// # Errors
    /// The source has ended, or reading failed. It is not an error if the source would block.
    pub fn read_ahead(&mut self, n: usize) -> Result<(), Fault> {
        self.make_room(n);
        while self.to - self.from < n {
            match self.read_once() {
                Err(Fault::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                done => done?,
            }
        }
        Ok(())
    }

    /// Consumes the next `n` bytes. `n` is at most the size of the smallest buffer.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&[u8], Fault> {
        if self.to - self.from < n {
            self.fill(n)?;
        }
        self.from += n;
        Ok(&self.buffer[self.from - n..self.from])
    }

    /// Consumes the next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        const { assert!(N <= 64) };
        Ok(*self.take(N)?.first_chunk().expect("as many were taken"))
    }

    /// Consumes the next byte.
    #[inline]
    pub fn byte(&mut self) -> Result<u8, Fault> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    fn head(&mut self) -> Result<Head, Fault> {
        let first = self.byte()?;
        let low = first & 0x3f;
        Ok(match first >> 6 {
            LEN_6 => Head::Len(u64::from(low)),
            LEN_14 => Head::Len(u64::from(low) << 8 | u64::from(self.byte()?)),
            ENCODED => Head::Encoding(low),
            _ => match first {
                LEN_32 => Head::Len(u64::from(u32::from_be_bytes(self.array()?))),
                LEN_64 => Head::Len(u64::from_be_bytes(self.array()?)),
                _ => return Err(Fault::Corrupt("unknown length encoding")),
            },
        })
    }

    /// Reads a number in the encoding of lengths.
    #[inline]
    pub fn number(&mut self) -> Result<u64, Fault> {
        match self.head()? {
            Head::Len(n) => Ok(n),
            Head::Encoding(_) => Err(Fault::Corrupt("a string stands where a length is expected")),
        }
    }

    /// Reads a count of items that take at least `size` bytes each, and refuses one larger than the rest of the
    /// source allows.
    #[inline]
    pub fn count(&mut self, size: usize) -> Result<usize, Fault> {
        let n = self.number()?;
        match usize::try_from(n) {
            Ok(n) if n <= self.left() / size => Ok(n),
            _ => Err(Fault::Truncated),
        }
    }

    /// How many of `n` announced items, of at least `size` bytes each, to allocate for at once. Where the size of the
    /// source is unknown, the announced number may be false.
    pub fn room(&self, n: usize, size: usize) -> usize {
        let most = if self.size.is_some() { self.left() } else { ROOM };
        n.min(most / size)
    }

    fn int(&mut self, how: u8) -> Result<i64, Fault> {
        Ok(match how {
            encoding::INT8 => i64::from(i8::from_le_bytes(self.array()?)),
            encoding::INT16 => i64::from(i16::from_le_bytes(self.array()?)),
            encoding::INT32 => i64::from(i32::from_le_bytes(self.array()?)),
            _ => return Err(Fault::Corrupt("unknown string encoding")),
        })
    }

    /// Checks that a string of `len` bytes can follow, and returns its length.
    fn checked(&self, len: u64) -> Result<usize, Fault> {
        usize::try_from(len).ok().filter(|&len| len <= self.left()).ok_or(Fault::Truncated)
    }

    /// Passes the next `n` bytes to `each`, piece by piece. `n` may exceed the buffer.
    fn pieces(&mut self, mut n: usize, mut each: impl FnMut(&[u8])) -> Result<(), Fault> {
        while n > 0 {
            if self.from == self.to {
                self.fill(1)?;
            }
            let piece = n.min(self.to - self.from);
            each(self.take(piece)?);
            n -= piece;
        }
        Ok(())
    }

    /// Copies the next `n` bytes into `scratch`. `n` may exceed the buffer.
    fn gather(&mut self, n: usize) -> Result<(), Fault> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.reserve_exact(n.min(self.left()).min(GROWTH));
        let done = self.pieces(n, |piece| scratch.extend_from_slice(piece));
        self.scratch = scratch;
        done
    }

    /// Reads a string.
    #[inline]
    pub fn string(&mut self) -> Result<Text<'_>, Fault> {
        match self.head()? {
            Head::Len(len) => self.plain(len),
            Head::Encoding(encoding::LZF) => {
                let (packed, len) = self.lzf_lengths()?;
                self.expand(packed, len)?;
                Ok(Text::Bytes(&self.scratch))
            }
            Head::Encoding(how) => self.int(how).map(Text::Int),
        }
    }

    #[inline]
    fn plain(&mut self, len: u64) -> Result<Text<'_>, Fault> {
        let len = self.checked(len)?;
        if len <= self.buffer.len() {
            return self.take(len).map(Text::Bytes);
        }
        self.gather(len)?;
        Ok(Text::Bytes(&self.scratch))
    }

    /// Reads the lengths of an LZF stream and of its decompressed text.
    fn lzf_lengths(&mut self) -> Result<(usize, usize), Fault> {
        let packed = self.number()?;
        let len = self.number()?;
        let packed = self.checked(packed)?;
        let len = usize::try_from(len).map_err(|_| BAD_LZF)?;
        if !lzf::may_expand_to(packed, len) {
            return Err(BAD_LZF);
        }
        Ok((packed, len))
    }

    /// Decompresses the next `packed` bytes into `len` bytes of `scratch`.
    fn expand(&mut self, packed: usize, len: usize) -> Result<(), Fault> {
        if packed <= self.buffer.len() {
            let mut out = std::mem::take(&mut self.scratch);
            out.clear();
            out.resize(len, 0);
            let done = self
                .take(packed)
                .and_then(|stream| lzf::decompress_into(stream, &mut out).map_err(|_| BAD_LZF));
            self.scratch = out;
            done
        } else {
            self.gather(packed)?;
            self.scratch = lzf::decompress(&self.scratch, len).map_err(|_| BAD_LZF)?;
            Ok(())
        }
    }

    /// Reads a string that the caller will keep. A long string is read directly into memory of its own.
    #[inline]
    pub fn kept_string(&mut self) -> Result<Kept<'_>, Fault> {
        match self.head()? {
            Head::Len(len) if len > LONG => self.long(len).map(Kept::Owned),
            Head::Len(len) => self.plain(len).map(Kept::Borrowed),
            Head::Encoding(encoding::LZF) => {
                let (packed, len) = self.lzf_lengths()?;
                self.expand(packed, len)?;
                Ok(Kept::Borrowed(Text::Bytes(&self.scratch)))
            }
            Head::Encoding(how) => self.int(how).map(|n| Kept::Borrowed(Text::Int(n))),
        }
    }

    #[cold]
    fn long(&mut self, len: u64) -> Result<Sds, Fault> {
        let len = self.checked(len)?;
        // Where the size of the source is unknown, the length may be false, so the string grows as its bytes arrive.
        let room = if self.size.is_some() { len } else { len.min(GROWTH) };
        let mut text = Sds::with_capacity(room);
        self.pieces(len, |piece| text.append(piece))?;
        Ok(text)
    }

    /// Frees the memory that a long string needed.
    pub fn forget_long(&mut self) {
        if self.scratch.capacity() > PIECE {
            self.scratch = Vec::new();
        }
    }
}

/// Strings of more bytes than this are read directly into memory of their own.
const LONG: u64 = 32 << 10;

/// A string from [`Input::kept_string`].
pub enum Kept<'t> {
    /// A short string, borrowed from the buffer.
    Borrowed(Text<'t>),
    /// A long string in memory of its own.
    Owned(Sds),
}

const BAD_LZF: Fault = Fault::Corrupt("a compressed string is damaged");
