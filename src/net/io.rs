//! Input and output of one connection: bytes received and not parsed, and bytes to be sent.
//!
//! An idle connection has no buffer. Buffers come from a [`Pool`] when bytes arrive or a reply is written, and return
//! to it when they are empty, so that a handful serves thousands of connections. While there are few connections,
//! each keeps its input buffer as long as it is busy. A connection that had only small replies for some time writes
//! the next one into a small buffer, because when thousands are answered in the same turn, each of them has a buffer.

use std::io::{self, IoSlice};

use bytes::Bytes;

use super::peer::Peer;
use super::tls::Secure;
use crate::resp::chain::{BLOCK, Chain};
use crate::resp::request::Decoder;
use crate::resp::{Protocol, Reply};
use crate::stdx::clock::UnixMillis;
use crate::stdx::prefetch::prefetch;

/// Capacity in bytes of a new buffer, for input and output.
pub const BUFFER: usize = 16 << 10;
/// Capacity in bytes of a new output buffer for a connection that recently had only small replies.
pub const SMALL_BUFFER: usize = 1 << 10;
/// Bytes received from one client per iteration, before others are served.
pub const READ_BUDGET: usize = 256 << 10;
/// Bytes sent to one client per iteration, before others are served: with more, data that one client has not read
/// displace the data for the next in the cache. It is what the kernel makes one segment of: a segment has at most
/// 64 KB with its headers, and a few bytes more would start another.
pub const SEND_BUDGET: usize = 60 << 10;
/// Fewest bytes of space offered to one `recv`.
const READ_MIN: usize = 4 << 10;
/// Bytes of space offered to a connection that filled the space before.
const READ_MORE: usize = 64 << 10;
/// An input buffer of more bytes than this shrinks if half of it suffices.
const SHRINK_ABOVE: usize = 2 * BUFFER;
/// A small buffer that has grown to this many bytes or more is freed instead of pooled: the connections that share
/// small buffers would otherwise come to have larger ones, each grown by one reply of another connection.
const OUTGROWN: usize = 2 * SMALL_BUFFER;
/// A buffer of more bytes than this is freed instead of pooled.
const POOLED_MAX: usize = BLOCK;
/// The pool keeps as many bytes as so many new buffers have. They count as used memory, so that keys would be evicted to
/// make room for buffers that nobody uses.
const POOLED: usize = 64;

/// Empty buffers with capacity, for reuse.
#[derive(Default)]
pub struct Pool {
    buffers: Shelf,
    /// Buffers of [`SMALL_BUFFER`] bytes or more, but fewer than [`OUTGROWN`].
    small: Shelf,
}

/// Buffers of about the same size.
#[derive(Default)]
struct Shelf {
    buffers: Vec<Vec<u8>>,
    /// Bytes allocated for them.
    allocated: usize,
    /// Number of buffers, at the front, that were not taken since [`Pool::trim`].
    unused: usize,
}

impl Shelf {
    #[inline]
    fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop()?;
        self.allocated -= buffer.capacity();
        self.unused = self.unused.min(self.buffers.len());
        Some(buffer)
    }

    #[inline]
    fn give(&mut self, mut buffer: Vec<u8>, most: usize) {
        let allocated = self.allocated + buffer.capacity();
        if allocated <= most {
            self.allocated = allocated;
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    fn trim(&mut self) {
        let freed: usize = self.buffers.drain(..self.unused).map(|buffer| buffer.capacity()).sum();
        self.allocated -= freed;
        self.unused = self.buffers.len();
    }
}

impl Pool {
    /// An empty buffer of at least [`BUFFER`] bytes.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        self.buffers.take().unwrap_or_else(|| Vec::with_capacity(BUFFER))
    }

    /// An empty buffer: of at least [`BUFFER`] bytes if the pool has one, otherwise of `wanted` bytes. A message to
    /// thousands of connections must not cost each of them a large buffer.
    #[inline]
    pub fn take_or(&mut self, wanted: usize) -> Vec<u8> {
        self.buffers.take().unwrap_or_else(|| Vec::with_capacity(wanted))
    }

    /// An empty buffer of at least [`SMALL_BUFFER`] bytes.
    #[inline]
    fn take_small(&mut self) -> Vec<u8> {
        self.small.take().unwrap_or_else(|| Vec::with_capacity(SMALL_BUFFER))
    }

    /// Returns a buffer to the pool.
    #[inline]
    pub fn give(&mut self, buffer: Vec<u8>) {
        match buffer.capacity() {
            BUFFER..=POOLED_MAX => self.buffers.give(buffer, POOLED * BUFFER),
            SMALL_BUFFER..OUTGROWN => self.small.give(buffer, POOLED * SMALL_BUFFER),
            _ => {}
        }
    }

    /// Frees the buffers that were not used since the last call.
    pub fn trim(&mut self) {
        self.buffers.trim();
        self.small.trim();
    }

    /// Bytes allocated for buffers in the pool.
    pub fn allocated(&self) -> usize {
        self.buffers.allocated + self.small.allocated
    }

    /// Frees all buffers.
    pub fn clear(&mut self) {
        *self = Pool::default();
    }
}

/// Received bytes.
#[derive(Default)]
pub struct Input {
    /// The bytes.
    pub buf: Vec<u8>,
    /// Offset of the next request in `buf`.
    pub pos: usize,
    /// Parser of requests, with the state of an unfinished one.
    pub decoder: Decoder,
    /// Length and capacity of `buf` while it is borrowed; otherwise zero.
    borrowed: (usize, usize),
    /// Bytes of the large strings of requests that are borrowed and not executed yet.
    borrowed_large: usize,
    /// Most bytes that were in `buf` since the last [`Input::shrink`].
    peak: usize,
    /// Whether the last receive filled its space.
    filled: bool,
}

/// Result of a receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// This many bytes, after which the socket is empty.
    Drained(usize),
    /// This many bytes, and there may be more.
    More(usize),
    /// The peer has closed its side.
    Closed,
    /// Nothing was available.
    Nothing,
}

impl Received {
    /// The result of a system call that was offered space for `offered` bytes. One that does not fill it has emptied the
    /// socket.
    ///
    /// # Errors
    /// The error of the socket, but never `WouldBlock`.
    #[inline]
    pub fn of(result: io::Result<usize>, offered: usize) -> io::Result<Received> {
        match result {
            Ok(0) => Ok(Received::Closed),
            Ok(n) if n < offered => Ok(Received::Drained(n)),
            Ok(n) => Ok(Received::More(n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(Received::More(0)),
            Err(e) => Err(e),
        }
    }
}

impl Input {
    /// Receives once from `peer`.
    ///
    /// A receive that does not fill the space offered has emptied the socket; epoll reports when there is more.
    ///
    /// # Errors
    /// The error of the socket, but never `WouldBlock`.
    #[allow(unsafe_code)]
    pub fn receive(&mut self, peer: &mut Peer, pool: &mut Pool) -> io::Result<Received> {
        if self.decoder.large_missing().is_some() {
            let received = peer.receive(self.decoder.large_spare())?;
            if let Received::Drained(n) | Received::More(n) = received {
                // SAFETY: the peer has just written `n` bytes to the front of `large_spare`.
                unsafe { self.decoder.large_received(n) };
            }
            // The bytes behind the string may be as few as its line end.
            self.filled = false;
            return Ok(received);
        }
        if self.buf.capacity() == 0 {
            self.buf = pool.take();
        }
        self.compact();
        if self.filled {
            self.buf.reserve(READ_MORE);
        } else if self.free() < READ_MIN {
            self.buf.reserve(BUFFER);
        }
        let len = self.buf.len();
        let received = peer.receive(self.buf.spare_capacity_mut())?;
        if let Received::Drained(n) | Received::More(n) = received {
            // SAFETY: the peer has written `n` bytes to the front of the spare capacity.
            unsafe { self.buf.set_len(len + n) };
            self.peak = self.peak.max(len + n);
            self.filled = matches!(received, Received::More(_));
        }
        Ok(received)
    }

    /// Moves an unfinished request to the front of its buffer.
    fn compact(&mut self) {
        if self.pos > 0 {
            self.buf.drain(..self.pos);
            self.pos = 0;
        }
    }

    /// Borrows the buffer while the requests in it are executed. Statistics of this input still include it.
    #[inline]
    pub fn take_buf(&mut self) -> Vec<u8> {
        let buf = std::mem::take(&mut self.buf);
        self.borrowed = (buf.len(), buf.capacity());
        buf
    }

    /// Whether the buffer is borrowed: a request in it is being executed.
    pub fn is_borrowed(&self) -> bool {
        self.borrowed.1 > 0
    }

    /// Notes that large strings of `bytes` bytes, which are not in the buffer, are borrowed with a request. They
    /// count until the buffer is returned.
    pub fn count_borrowed_large(&mut self, bytes: usize) {
        self.borrowed_large += bytes;
    }

    /// Returns the borrowed buffer.
    #[inline]
    pub fn return_buf(&mut self, buf: Vec<u8>) {
        self.borrowed = (0, 0);
        self.buf = buf;
        if self.borrowed_large > 0 {
            self.borrowed_large = 0;
            // A client that sends one large string often sends another, so more space is offered to the next receive.
            self.buf.reserve(READ_MORE);
        }
    }

    /// Clears the buffer if all of it has been parsed, and returns it to the pool unless the connection may `keep`
    /// it.
    #[inline]
    pub fn release(&mut self, pool: &mut Pool, keep: bool) {
        if self.pos >= self.buf.len() {
            self.pos = 0;
            self.buf.clear();
            if !keep {
                pool.give(std::mem::take(&mut self.buf));
            }
        }
    }

    /// Frees memory that was not needed recently: all spare capacity if the connection is `idle`, otherwise half of a
    /// large buffer that was less than half full. Called from a timer.
    pub fn shrink(&mut self, idle: bool) {
        if self.borrowed.1 > 0 {
            return;
        }
        self.compact();
        if idle {
            self.buf.shrink_to_fit();
            self.decoder.shrink();
            self.filled = false;
        } else if self.buf.capacity() > SHRINK_ABOVE && self.peak < self.buf.capacity() / 2 {
            self.buf.shrink_to(self.peak.max(BUFFER));
            self.filled = false;
        }
        self.peak = self.buf.len();
    }

    /// Number of bytes not parsed yet.
    pub fn pending(&self) -> usize {
        self.buf.len() - self.pos + self.decoder.unfinished().large_bytes
    }

    /// Number of bytes that are not part of a complete argument yet, plus those of requests being executed.
    pub fn unparsed(&self) -> usize {
        let unfinished = self.decoder.unfinished();
        let understood = (self.pos + unfinished.head_bytes).min(self.buf.len());
        self.buf.len() - understood + self.borrowed.0 + unfinished.receiving_bytes
    }

    /// Free bytes of the buffer.
    fn free(&self) -> usize {
        self.buf.capacity() - self.buf.len()
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.buf.capacity()
            + self.borrowed.1
            + self.borrowed_large
            + self.decoder.unfinished().allocated_bytes
    }
}

/// Most pieces passed to the kernel in one call.
const PARTS: usize = 64;

/// Bytes to be sent: the block that replies are written into, and the chain of what comes before and between its
/// bytes.
#[derive(Default)]
pub struct Output {
    chain: Chain,
    /// The block being written; of capacity 0 if there is none.
    block: Vec<u8>,
    /// Whether replies begin in a small buffer.
    small: bool,
    /// Most bytes that waited since the last [`Output::adapt`].
    recent: usize,
    /// Whether more waited before that than a small buffer holds, although replies begin in one.
    outgrown: bool,
    /// Most bytes that waited from `peak_since` to the last [`Output::adapt`]; `None` if that is not known yet.
    peak: Option<usize>,
    peak_since: Option<UnixMillis>,
}

/// How [`Output::adapt`] changed the size of a connection's next buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Adapted {
    /// It is smaller.
    Shrunk,
    /// It is larger.
    Grown,
}

impl Output {
    /// Prepares for a reply. Afterwards there is a buffer, unless output is being dropped. At most `limit` bytes may
    /// wait: output beyond that is dropped, and [`Output::is_full`] becomes true.
    #[inline]
    pub fn begin(&mut self, pool: &mut Pool, limit: usize) {
        self.chain.set_limit(limit);
        if self.block.capacity() == 0 {
            self.take_block(pool);
        }
    }

    /// Takes a buffer for the next reply ahead of [`Output::begin`], from the pool that it will return to.
    #[inline]
    pub fn prepare(&mut self, pool: &mut Pool) {
        if self.block.capacity() == 0 {
            self.take_block(pool);
        }
    }

    #[inline(never)]
    fn take_block(&mut self, pool: &mut Pool) {
        if !self.chain.refuses() {
            self.block = if self.small { pool.take_small() } else { pool.take() };
        }
    }

    /// A writer at the end of the output.
    #[inline]
    pub fn reply(&mut self, protocol: Protocol) -> Reply<'_> {
        Reply::chained(&mut self.block, &mut self.chain, protocol)
    }

    /// Appends bytes that are RESP. If there is no buffer, takes one from `pool`; if the pool has none, one of the
    /// size of `bytes`.
    #[inline]
    pub fn append(&mut self, bytes: &[u8], pool: &mut Pool) {
        if self.block.capacity() == 0 && !self.chain.refuses() {
            self.block = pool.take_or(bytes.len().min(BLOCK));
        }
        if bytes.len() <= self.block.capacity() - self.block.len() {
            self.block.extend_from_slice(bytes);
        } else {
            self.chain.append(&mut self.block, bytes);
        }
    }

    /// Whether output was dropped because too much waited. This never changes back.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.chain.is_full()
    }

    /// Drops everything written from now on, because the client does not want to read it.
    #[cold]
    pub fn mute(&mut self) {
        self.chain.mute(&mut self.block);
    }

    /// Ends the effect of [`Output::mute`].
    #[cold]
    pub fn unmute(&mut self) {
        self.chain.unmute(&mut self.block);
    }

    /// Whether output was dropped since the last call.
    pub fn take_dropped(&mut self) -> bool {
        self.chain.take_dropped()
    }

    /// A position for [`Output::truncate`], valid as long as nothing is sent.
    #[inline]
    pub fn position(&self) -> usize {
        self.chain.before() + self.block.len()
    }

    /// Size in bytes of the current buffer, or of the one that the next reply will get.
    pub fn room(&self) -> usize {
        match self.block.capacity() {
            0 if self.small => SMALL_BUFFER,
            0 => BUFFER,
            capacity => capacity,
        }
    }

    /// Most bytes that were in the buffer recently.
    pub fn peak(&self) -> usize {
        self.peak.map_or(BUFFER, |peak| peak.max(self.recent)).max(self.block.len())
    }

    /// Chooses the size of the next buffer by the recent peak, which is reset after `reset_ms` milliseconds (`None`:
    /// never). Called from a timer. The buffer grows when replies have outgrown it between two calls twice in a row:
    /// one large reply among small ones is no reason to hold a large buffer from now on.
    pub fn adapt(&mut self, now: UnixMillis, reset_ms: Option<i64>) -> Option<Adapted> {
        let outgrows = self.recent.max(self.block.len()) > SMALL_BUFFER;
        let adapted = match self.small {
            false if self.peak() <= SMALL_BUFFER => Some(Adapted::Shrunk),
            true if self.outgrown && outgrows => Some(Adapted::Grown),
            _ => None,
        };
        if let Some(adapted) = adapted {
            self.small = adapted == Adapted::Shrunk;
        }
        self.outgrown = self.small && outgrows;
        self.peak = self.peak.map(|peak| peak.max(self.recent));
        self.recent = 0;
        let since = *self.peak_since.get_or_insert(now);
        if reset_ms.is_some_and(|reset| now.since(since) > reset) {
            self.peak = Some(self.block.len());
            self.peak_since = Some(now);
        }
        adapted
    }

    /// Number of bytes still to be sent.
    #[inline]
    pub fn pending(&self) -> usize {
        self.chain.pending(self.block.len())
    }

    /// Whether everything has been sent.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty(self.block.len())
    }

    /// Sends `text`, which may be shared, at this point of the reply, without copying it.
    pub fn append_shared(&mut self, text: Bytes) {
        self.chain.append_shared(self.block.len(), text);
    }

    /// Removes what was written after `position`.
    pub fn truncate(&mut self, position: usize) {
        self.chain.truncate(&mut self.block, position);
    }

    /// Bytes waiting in the reply buffer.
    pub fn in_buffer(&self) -> usize {
        self.block.len() - self.chain.sent_of_block()
    }

    /// Number of waiting pieces besides the reply buffer.
    pub fn segments(&self) -> usize {
        self.chain.parts()
    }

    /// Bytes of waiting output beyond one buffer of the usual size, to which output limits apply.
    #[inline]
    pub fn excess(&self) -> usize {
        let block = if self.block.len() > BUFFER { self.block.len() } else { 0 };
        self.chain.pending(block.max(self.chain.sent_of_block())) + self.chain.parts() * size_of::<Bytes>()
    }

    /// Everything still to be sent, if it is in one piece.
    #[inline]
    pub fn in_one_piece(&self) -> Option<&[u8]> {
        (self.chain.parts() == 0).then(|| &self.block[self.chain.sent_of_block()..])
    }

    /// Removes and returns everything still to be sent, as one piece.
    pub fn take_all(&mut self) -> Vec<u8> {
        let all = self.chain.pieces(&self.block).flatten().copied().collect();
        drop(self.discard());
        all
    }

    /// Removes and returns everything, because it will not be sent. Freeing hundreds of megabytes takes time, so the
    /// caller decides where.
    pub fn discard(&mut self) -> Discarded {
        let allocated = self.allocated();
        Discarded { _block: std::mem::take(&mut self.block), _chain: self.chain.discard(), allocated }
    }

    /// Bytes allocated. Shared strings count in full.
    pub fn allocated(&self) -> usize {
        self.chain.before() + self.chain.overhead() + self.block.capacity()
    }

    /// Sends as much as the socket accepts, at most `limit` bytes, and returns the number of bytes.
    ///
    /// The rest waits until the socket is writable.
    ///
    /// # Errors
    /// The error of the socket, but never `WouldBlock`.
    pub fn send(&mut self, peer: &mut Peer, pool: &mut Pool, limit: usize) -> io::Result<usize> {
        self.recent = self.recent.max(self.chain.before() + self.block.len());
        let stream = match peer {
            Peer::Socket(stream) => stream,
            Peer::Secure(secure) => return self.send_secure(secure, pool, limit),
            Peer::Internal => return Ok(0),
        };
        let mut total = 0;
        while !self.is_empty() && total < limit {
            let sent = if self.chain.parts() == 0 {
                let block = &self.block[self.chain.sent_of_block()..];
                stream.send(&block[..block.len().min(limit - total)])
            } else {
                let mut parts = [IoSlice::new(&[]); PARTS];
                let mut left = limit - total;
                let mut n = 0;
                for (part, piece) in parts.iter_mut().zip(self.chain.pieces(&self.block)) {
                    let piece = &piece[..piece.len().min(left)];
                    *part = IoSlice::new(piece);
                    n += 1;
                    left -= piece.len();
                    if left == 0 {
                        break;
                    }
                }
                stream.send_vectored(&parts[..n])
            };
            match sent {
                Ok(n) => {
                    total += n;
                    self.chain.consume(n, |block| pool.give(block));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        if self.is_empty() {
            self.chain.rewind();
            pool.give(std::mem::take(&mut self.block));
        }
        Ok(total)
    }

    /// As [`Output::send`]: the pieces are gathered into records.
    fn send_secure(&mut self, secure: &mut Secure, pool: &mut Pool, limit: usize) -> io::Result<usize> {
        let mut total = 0;
        let mut failure = None;
        while !self.is_empty() && total < limit {
            secure.lend(|| pool.take());
            match secure.send(self.chain.pieces(&self.block), limit - total) {
                Ok(n) => {
                    total += n;
                    self.chain.consume(n, |block| pool.give(block));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => {
                    failure = Some(e);
                    break;
                }
            }
        }
        if let Some(buffer) = secure.reclaim() {
            pool.give(buffer);
        }
        if let Some(error) = failure {
            return Err(error);
        }
        if self.is_empty() {
            self.chain.rewind();
            pool.give(std::mem::take(&mut self.block));
        }
        Ok(total)
    }
}

/// Output for a client that will not get it.
pub struct Discarded {
    _block: Vec<u8>,
    _chain: Chain,
    /// Bytes allocated.
    pub allocated: usize,
}

/// Both directions of one connection.
pub struct ClientIo {
    /// The socket, or nobody.
    pub peer: Peer,
    /// Received bytes that are not executed yet.
    pub input: Input,
    /// Bytes to be sent.
    pub output: Output,
}

impl ClientIo {
    /// Prefetches the beginning of what was received, and the memory for a reply.
    #[inline]
    pub fn prefetch(&self) {
        prefetch(self.input.buf.as_ptr());
        prefetch(self.output.block.as_ptr());
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use super::*;
    use crate::net::stream::Stream;
    use crate::resp::request::Limits;

    fn pair() -> (Peer, Stream) {
        let (a, b) = std::os::unix::net::UnixStream::pair().expect("descriptors are left");
        for end in [&a, &b] {
            end.set_nonblocking(true).expect("a socket can be non-blocking");
        }
        (Stream::from_unix(a).into(), Stream::from_unix(b))
    }

    #[test]
    fn a_buffer_is_kept_while_busy_and_freed_when_idle() {
        let (mut ours, theirs) = pair();
        let (mut input, mut pool, mut spans) = (Input::default(), Pool::default(), Vec::new());
        let mut request = |input: &mut Input, pool: &mut Pool, text: &[u8]| {
            theirs.send(text).expect("room for it");
            assert_eq!(input.receive(&mut ours, pool).expect("connected"), Received::Drained(text.len()));
            let next = input.decoder.next(&mut input.buf, &mut input.pos, &mut spans, &Limits::default());
            assert!(next.expect("well formed").is_some());
            let borrowed = input.take_buf();
            assert_eq!((borrowed.len(), input.unparsed()), (text.len(), text.len()));
            assert_eq!(input.allocated(), borrowed.capacity());
            input.return_buf(borrowed);
        };
        request(&mut input, &mut pool, b"PING\r\n");
        input.release(&mut pool, true);
        assert_eq!((input.unparsed(), input.allocated()), (0, BUFFER));
        input.shrink(false);
        assert_eq!(input.allocated(), BUFFER);
        input.shrink(true);
        assert_eq!(input.allocated(), 0);

        request(&mut input, &mut pool, b"PING\r\n");
        input.release(&mut pool, false);
        assert_eq!((input.allocated(), pool.allocated()), (0, BUFFER));
    }

    #[test]
    fn buffers_that_nobody_takes_are_freed() {
        let mut pool = Pool::default();
        let three = [pool.take(), pool.take(), pool.take()];
        three.into_iter().for_each(|buffer| pool.give(buffer));
        pool.trim();
        assert_eq!(pool.allocated(), 3 * BUFFER, "all were taken since the last time");
        let one = pool.take();
        pool.give(one);
        pool.trim();
        assert_eq!(pool.allocated(), BUFFER);
        pool.trim();
        assert_eq!(pool.allocated(), 0);
    }

    #[test]
    fn the_pool_is_bounded_by_bytes() {
        for size in [BUFFER, 100_000, BLOCK] {
            let most = POOLED * BUFFER;
            let mut pool = Pool::default();
            (0..200).for_each(|_| pool.give(Vec::with_capacity(size)));
            assert!((most - size..=most).contains(&pool.allocated()), "of {size}: {}", pool.allocated());
            let mut taken = 0;
            while pool.allocated() > 0 {
                taken += pool.take().capacity();
            }
            assert!((most - size..=most).contains(&taken));
        }
    }

    #[test]
    fn a_small_buffer_that_has_grown_is_not_reused() {
        let (mut ours, _theirs) = pair();
        let (mut output, mut pool) = (Output { small: true, ..Output::default() }, Pool::default());
        for (reply, pooled) in [(10, SMALL_BUFFER), (OUTGROWN, 0), (BUFFER - 1, 0), (10, SMALL_BUFFER)] {
            output.begin(&mut pool, usize::MAX);
            output.append(&vec![b'x'; reply], &mut pool);
            output.send(&mut ours, &mut pool, usize::MAX).expect("connected");
            assert_eq!((output.allocated(), pool.allocated()), (0, pooled), "after a reply of {reply} bytes");
        }
    }

    #[test]
    fn who_fills_the_room_gets_more_until_it_is_not_needed() {
        let (mut ours, theirs) = pair();
        let (mut input, mut pool) = (Input::default(), Pool::default());
        let bytes = vec![b'x'; BUFFER];
        theirs.send(&bytes).expect("room for it");
        assert_eq!(input.receive(&mut ours, &mut pool).expect("connected"), Received::More(BUFFER));
        theirs.send(b"yy").expect("room for it");
        assert_eq!(input.receive(&mut ours, &mut pool).expect("connected"), Received::Drained(2));
        assert!(input.allocated() >= BUFFER + READ_MORE);
        let large = input.allocated();
        input.pos = input.buf.len();
        input.release(&mut pool, true);
        input.shrink(false);
        assert_eq!(input.allocated(), BUFFER + 2, "what the recent past needed stays");
        assert!(large > SHRINK_ABOVE);
    }

    #[test]
    fn room_for_a_large_string_is_given_back() {
        let (mut ours, theirs) = pair();
        let (mut input, mut pool, mut spans) = (Input::default(), Pool::default(), Vec::new());
        theirs.send(b"*2\r\n$4\r\nECHO\r\n$1000000\r\nab").expect("room for it");
        input.receive(&mut ours, &mut pool).expect("connected");
        let limits = Limits { trusted: true, ..Limits::default() };
        let mut next = |input: &mut Input| {
            input.decoder.next(&mut input.buf, &mut input.pos, &mut spans, &limits).expect("well formed")
        };
        assert!(next(&mut input).is_none());
        assert!(input.allocated() >= 1_000_000);
        input.shrink(true);
        assert!(input.allocated() < 1000, "{}", input.allocated());
        let rest = [vec![b'c'; 999_998], b"\r\n".to_vec()].concat();
        let mut sent = 0;
        let frame = loop {
            sent += theirs.send(&rest[sent..]).unwrap_or(0);
            input.receive(&mut ours, &mut pool).expect("connected");
            if let Some(frame) = next(&mut input) {
                break frame;
            }
        };
        assert_eq!(frame.large()[0].len(), 1_000_000);
    }

    #[test]
    fn a_buffer_for_replies_is_as_large_as_they_were() {
        let (mut ours, theirs) = pair();
        let (mut output, mut pool) = (Output::default(), Pool::default());
        let mut reply = |output: &mut Output, bytes: usize| {
            output.begin(&mut pool, usize::MAX);
            output.append(&vec![b'x'; bytes], &mut pool);
            output.send(&mut ours, &mut pool, usize::MAX).expect("connected");
            let mut room = vec![MaybeUninit::uninit(); bytes];
            theirs.recv(&mut room).expect("something is there");
        };
        let at = UnixMillis;
        reply(&mut output, 10);
        assert_eq!((output.room(), output.peak()), (BUFFER, BUFFER));
        // An unknown peak counts as large, until it is reset.
        assert_eq!(output.adapt(at(0), Some(5000)), None);
        assert_eq!(output.adapt(at(5001), Some(5000)), None);
        reply(&mut output, 700);
        assert_eq!(output.adapt(at(6000), Some(5000)), Some(Adapted::Shrunk));
        assert_eq!((output.room(), output.peak()), (SMALL_BUFFER, 700));
        reply(&mut output, SMALL_BUFFER + 1);
        assert_eq!(output.adapt(at(7000), Some(5000)), None);
        reply(&mut output, 10);
        assert_eq!((output.adapt(at(7100), Some(5000)), output.peak()), (None, SMALL_BUFFER + 1));
        reply(&mut output, SMALL_BUFFER + 1);
        assert_eq!(output.adapt(at(7200), Some(5000)), None);
        reply(&mut output, SMALL_BUFFER + 1);
        assert_eq!(output.adapt(at(7300), Some(5000)), Some(Adapted::Grown));
        assert_eq!(output.room(), BUFFER);
        assert_eq!(output.adapt(at(99_000), None), None);
        assert_eq!(output.peak(), SMALL_BUFFER + 1);
    }

    #[test]
    fn lent_texts_stand_where_they_were_written() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().expect("descriptors are left");
        let mut ours = Peer::from(Stream::from_unix(ours));
        let (mut output, mut pool) = (Output::default(), Pool::default());
        output.append(b"one ", &mut pool);
        output.append_shared(Bytes::from_static(b"two "));
        output.append(b"three ", &mut pool);
        let before = output.position();
        output.append(b"four ", &mut pool);
        output.append_shared(Bytes::from_static(b"five "));
        output.truncate(before);
        output.append_shared(Bytes::from_static(b"six "));
        output.append_shared(Bytes::from_static(b"seven "));
        output.append(b"eight", &mut pool);
        let all = b"one two three six seven eight";
        assert_eq!(output.pending(), all.len());
        // Cut in the middle of a borrowed string; then the rest, with more behind it.
        assert_eq!(output.send(&mut ours, &mut pool, 6).expect("connected"), 6);
        output.append_shared(Bytes::from_static(b"!"));
        output.append(b".", &mut pool);
        assert_eq!(output.pending(), all.len() - 6 + 2);
        output.send(&mut ours, &mut pool, usize::MAX).expect("connected");
        assert!(output.is_empty() && output.pending() == 0 && output.segments() == 0);
        let mut got = vec![0; all.len() + 2];
        std::io::Read::read_exact(&mut theirs, &mut got).expect("all was sent");
        assert_eq!(got, [&all[..], b"!."].concat());
        output.append(b"a", &mut pool);
        output.append_shared(Bytes::from_static(b"b"));
        assert_eq!((output.take_all(), output.pending()), (b"ab".to_vec(), 0));
    }

    #[test]
    fn whatever_is_queued_arrives_once_and_in_order() {
        let mut rng = crate::stdx::rng::Rng::new(7);
        for _ in 0..20 {
            let (ours, theirs) = std::os::unix::net::UnixStream::pair().expect("descriptors are left");
            ours.set_nonblocking(true).expect("a socket can be non-blocking");
            theirs.set_nonblocking(true).expect("a socket can be non-blocking");
            let mut ours = Peer::from(Stream::from_unix(ours));
            let (mut output, mut pool) = (Output::default(), Pool::default());
            let (mut expected, mut got, mut next) = (Vec::new(), Vec::new(), 0u8);
            let receive = |got: &mut Vec<u8>| {
                let mut room = [0; 10_000];
                while let Ok(n) = std::io::Read::read(&mut &theirs, &mut room) {
                    got.extend_from_slice(&room[..n]);
                }
            };
            let mut text = |rng: &mut crate::stdx::rng::Rng, most: u64| -> Vec<u8> {
                let count = |_| {
                    next = next.wrapping_add(1);
                    next
                };
                (0..=rng.below(most)).map(count).collect()
            };
            for _ in 0..300 {
                match rng.below(6) {
                    0 | 1 => {
                        let text = text(&mut rng, 40);
                        output.append(&text, &mut pool);
                        expected.extend(text);
                    }
                    2 => {
                        let text = text(&mut rng, 20_000);
                        expected.extend_from_slice(&text);
                        output.append_shared(text.into());
                    }
                    3 if rng.below(4) == 0 => {
                        let text = text(&mut rng, 5000);
                        expected.extend_from_slice(&text);
                        output.append_shared(text.into());
                    }
                    4 if rng.below(8) == 0 => receive(&mut got),
                    _ => {
                        let limit = if rng.below(2) == 0 { usize::MAX } else { rng.below(30_000) as usize };
                        let before = output.pending();
                        let n = output.send(&mut ours, &mut pool, limit).expect("connected");
                        assert!(n <= limit && output.pending() == before - n);
                        assert_eq!(output.is_empty(), output.pending() == 0);
                    }
                }
            }
            while got.len() < expected.len() {
                output.send(&mut ours, &mut pool, usize::MAX).expect("connected");
                receive(&mut got);
            }
            assert!(output.is_empty() && got == expected);
        }
    }

    #[test]
    fn a_slow_reader_does_not_make_the_buffer_grow() {
        let (mut ours, theirs) = pair();
        let (mut output, mut pool) = (Output::default(), Pool::default());
        output.append(&vec![b'x'; 4 << 20], &mut pool);
        let (mut written, mut read) = (output.pending(), 0);
        let mut room = vec![MaybeUninit::uninit(); 64 << 10];
        for _ in 0..1000 {
            output.send(&mut ours, &mut pool, usize::MAX).expect("connected");
            assert!(output.pending() > 0);
            assert!(output.allocated() < 5 << 20);
            let n = theirs.recv(&mut room).expect("something is there");
            read += n;
            output.append(&vec![b'y'; n], &mut pool);
            written += n;
        }
        while read < written {
            output.send(&mut ours, &mut pool, usize::MAX).expect("connected");
            read += theirs.recv(&mut room).expect("something is there");
        }
        assert!(output.is_empty());
    }
}
