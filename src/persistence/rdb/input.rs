//! Bytes on their way in: read in large pieces, summed, and taken apart.
//!
//! How much there can still be is known, so that a length that no file could hold is refused before memory is
//! asked for.

use std::io::{self, Read};

use super::format::{ENCODED, LEN_6, LEN_14, LEN_32, LEN_64, encoding};
use crate::stdx::crc64;
use crate::structures::lzf;
use crate::structures::sds::Sds;
use crate::types::packed::Unfit;
use crate::types::stream::LoadError;

/// Bytes read at a time. What is longer is read past the buffer.
const PIECE: usize = 256 << 10;
/// Bytes that are believed to follow where the end is not known.
const ROOM: usize = 16 << 10;
/// What a string without known end is given room for at a time.
const GROWTH: usize = 1 << 20;

/// Why bytes cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// There are fewer than there must be.
    #[error("the data end too early")]
    Truncated,
    #[error("reading failed: {0}")]
    Io(#[from] io::Error),
    /// They contradict the format.
    #[error("{0}")]
    Corrupt(&'static str),
    /// The listpack of a collection is well-formed, but not what such a collection is made of.
    #[error("{0} listpack integrity check failed: {1}")]
    Unfit(&'static str, Unfit),
    /// The parts of a stream contradict each other.
    #[error("{0}")]
    Stream(LoadError),
    /// They stand for something this server does not have.
    #[error("{0}")]
    Unsupported(String),
    #[error("the checksum is {found:016x} where the data sum to {expected:016x}")]
    Checksum { expected: u64, found: u64 },
    /// A key occurs twice in one database.
    #[error("the key occurs twice")]
    Duplicate,
}

/// A string as it is stored.
#[derive(Debug)]
pub enum Text<'t> {
    Int(i64),
    Bytes(&'t [u8]),
}

impl<'t> Text<'t> {
    /// The bytes; an integer is written into `digits` first.
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

/// A length, or the encoding of a string in its place.
enum Head {
    Len(u64),
    Encoding(u8),
}

/// Where an RDB file is read from.
pub struct Input<'a> {
    source: Box<dyn Read + 'a>,
    buffer: Box<[u8]>,
    /// What is left of the buffer.
    from: usize,
    to: usize,
    /// Bytes of the source before the buffer.
    base: u64,
    /// Bytes of the source in all, if that is known.
    size: Option<u64>,
    sum: u64,
    /// Up to where the buffer is in `sum`.
    summed: usize,
    checksum: bool,
    /// A string that does not lie in the buffer as it is.
    scratch: Vec<u8>,
}

impl<'a> Input<'a> {
    /// Reads from `source`, which has `size` bytes if that is known. They are summed if `checksum`.
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
            scratch: Vec::new(),
        }
    }

    /// Bytes taken so far: where the next one is.
    pub fn offset(&self) -> u64 {
        self.base + self.from as u64
    }

    /// Bytes of the source in all, 0 if that is not known.
    pub fn size(&self) -> u64 {
        self.size.unwrap_or(0)
    }

    /// How many more bytes there can be.
    pub fn left(&self) -> usize {
        let left = self.size.map_or(u64::MAX, |size| size.saturating_sub(self.offset()));
        usize::try_from(left).unwrap_or(usize::MAX)
    }

    /// The sum of all bytes taken so far; 0 if none is wanted.
    pub fn sum(&mut self) -> u64 {
        if self.checksum {
            self.sum = crc64::update(self.sum, &self.buffer[self.summed..self.from]);
            self.summed = self.from;
        }
        self.sum
    }

    /// Sees to it that `n` bytes, not more than fit, are in the buffer.
    #[cold]
    #[inline(never)]
    fn fill(&mut self, n: usize) -> Result<(), Fault> {
        self.sum();
        self.buffer.copy_within(self.from..self.to, 0);
        self.base += self.from as u64;
        self.to -= self.from;
        (self.from, self.summed) = (0, 0);
        while self.to < n {
            match self.source.read(&mut self.buffer[self.to..]) {
                Ok(0) => return Err(Fault::Truncated),
                Ok(n) => self.to += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Io(error)),
            }
        }
        Ok(())
    }

    /// The next `n` bytes, at most as many as the smallest buffer has.
    #[inline]
    pub fn take(&mut self, n: usize) -> Result<&[u8], Fault> {
        if self.to - self.from < n {
            self.fill(n)?;
        }
        self.from += n;
        Ok(&self.buffer[self.from - n..self.from])
    }

    /// The next `N` bytes.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        const { assert!(N <= 64) };
        Ok(*self.take(N)?.first_chunk().expect("as many were taken"))
    }

    /// The next byte.
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

    /// A number.
    #[inline]
    pub fn number(&mut self) -> Result<u64, Fault> {
        match self.head()? {
            Head::Len(n) => Ok(n),
            Head::Encoding(_) => Err(Fault::Corrupt("a string stands where a length is expected")),
        }
    }

    /// A count of things of at least `size` bytes each, which must be able to follow.
    #[inline]
    pub fn count(&mut self, size: usize) -> Result<usize, Fault> {
        let n = self.number()?;
        match usize::try_from(n) {
            Ok(n) if n <= self.left() / size => Ok(n),
            _ => Err(Fault::Truncated),
        }
    }

    /// How many of `n` things of at least `size` bytes each to make room for at once: where the end is not known,
    /// the number may be a lie.
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

    /// The length of a string of `len` bytes that follows.
    fn checked(&self, len: u64) -> Result<usize, Fault> {
        usize::try_from(len).ok().filter(|&len| len <= self.left()).ok_or(Fault::Truncated)
    }

    /// Hands the next `n` bytes, however many, piece by piece to `each`.
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

    /// The next `n` bytes, however many, in `scratch`.
    fn gather(&mut self, n: usize) -> Result<(), Fault> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.reserve_exact(n.min(self.left()).min(GROWTH));
        let done = self.pieces(n, |piece| scratch.extend_from_slice(piece));
        self.scratch = scratch;
        done
    }

    /// A string.
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

    /// The lengths of a compressed stream and of what it stands for.
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

    /// Decompresses the next `packed` bytes to `len` bytes in `scratch`.
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

    /// A string that is about to be kept. A long one comes in memory of its own.
    #[inline]
    pub fn kept_string(&mut self) -> Result<Kept<'_>, Fault> {
        match self.head()? {
            Head::Len(len) if len > LONG => self.long(len).map(Kept::Own),
            Head::Len(len) => self.plain(len).map(Kept::Lent),
            Head::Encoding(encoding::LZF) => {
                let (packed, len) = self.lzf_lengths()?;
                self.expand(packed, len)?;
                Ok(Kept::Lent(Text::Bytes(&self.scratch)))
            }
            Head::Encoding(how) => self.int(how).map(|n| Kept::Lent(Text::Int(n))),
        }
    }

    #[cold]
    fn long(&mut self, len: u64) -> Result<Sds, Fault> {
        let len = self.checked(len)?;
        // Where the end is not known, the length may be a lie: room is made as the bytes come.
        let room = if self.size.is_some() { len } else { len.min(GROWTH) };
        let mut text = Sds::with_capacity(room);
        self.pieces(len, |piece| text.append(piece))?;
        Ok(text)
    }

    /// Frees the memory a long string needed.
    pub fn forget_long(&mut self) {
        if self.scratch.capacity() > PIECE {
            self.scratch = Vec::new();
        }
    }
}

/// Strings longer than this get memory of their own at once.
const LONG: u64 = 32 << 10;

/// A string from [`Input::kept_string`].
pub enum Kept<'t> {
    Lent(Text<'t>),
    Own(Sds),
}

const BAD_LZF: Fault = Fault::Corrupt("a compressed string is damaged");
