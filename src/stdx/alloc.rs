//! The global allocator: jemalloc, its size classes, and how much is allocated.
//!
//! jemalloc is built with an 8-byte quantum (`.cargo/config.toml`), so its small classes are
//! 8, 16, 24, 32, 40, 48, 56, 64 and then four per doubling: 80, 96, 112, 128, 160, …
//!
//! The structures of this crate allocate exactly [`size_class`] bytes for a given content, so that the capacity of a
//! block is a function of the length of its content: no capacity is stored, growth inside a class costs nothing, and
//! a block is freed with its true size.
//!
//! Under `--cfg spinel_sanitize` the system's allocator replaces jemalloc, because the address and thread sanitizers
//! see only blocks that are allocated by it.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::convert::Infallible;
#[cfg(not(spinel_sanitize))]
use std::ffi::c_int;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use tikv_jemalloc_sys as ffi;

pub mod relocation;

#[cfg(not(spinel_sanitize))]
/// Alignment of every jemalloc block: the quantum.
const QUANTUM: usize = 8;

/// The allocator of the process.
pub struct Jemalloc;

#[cfg(not(spinel_sanitize))]
/// The flags for a layout: none if the quantum (or the class) already aligns it.
#[inline(always)]
fn flags(layout: Layout) -> c_int {
    if layout.align() <= QUANTUM { 0 } else { ffi::MALLOCX_ALIGN(layout.align()) }
}

#[cfg(not(spinel_sanitize))]
// SAFETY: every method hands the request to jemalloc with the layout's size and an explicit
// alignment wherever it exceeds the quantum, and jemalloc keeps the promises of `GlobalAlloc`.
unsafe impl GlobalAlloc for Jemalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `GlobalAlloc` promises a non-zero size.
        unsafe { ffi::mallocx(layout.size(), flags(layout)).cast() }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { ffi::mallocx(layout.size(), flags(layout) | ffi::MALLOCX_ZERO).cast() }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller passes the layout the block was allocated with.
        unsafe { ffi::sdallocx(ptr.cast(), layout.size(), flags(layout)) }
    }

    #[inline]
    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the block is live and `new_size` is not zero, as `GlobalAlloc` promises.
        unsafe { ffi::rallocx(ptr.cast(), new_size, flags(layout)).cast() }
    }
}

/// Bytes allocated from the system's allocator and not freed, where it replaces jemalloc.
static GIVEN: AtomicUsize = AtomicUsize::new(0);

#[cfg(spinel_sanitize)]
// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Jemalloc {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        GIVEN.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { std::alloc::System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        GIVEN.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { std::alloc::System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        GIVEN.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { std::alloc::System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        GIVEN.fetch_add(new_size.wrapping_sub(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { std::alloc::System.realloc(block, layout, new_size) }
    }
}

/// The number of bytes to allocate when `n` are needed: the allocator's size class up to 32 KB, a geometric step
/// above.
///
/// O(1), without a call of the allocator. `size_class(size_class(n)) == size_class(n)`.
#[inline]
pub const fn size_class(n: usize) -> usize {
    if n <= 64 {
        return if n == 0 { 8 } else { (n + 7) & !7 };
    }
    // Four classes per doubling: the step is a quarter of the power of two below `n`.
    let step = 1usize << (usize::BITS - 1 - (n - 1).leading_zeros() - 2);
    (n + step - 1) & !(step - 1)
}

/// Whether the allocator has the size classes that [`size_class`] counts on. If not, everything works, but small
/// blocks take up to twice their size.
pub fn has_small_classes() -> bool {
    // SAFETY: `nallocx` only computes.
    REPLACED || [8, 24, 40, 56].into_iter().all(|n| unsafe { ffi::nallocx(n, 0) } == size_class(n))
}

/// Largest number of threads whose allocations are counted; the server starts a handful.
const MAX_THREADS: usize = 192;
static ALLOCATED: [AtomicPtr<AtomicU64>; MAX_THREADS] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX_THREADS];
static DEALLOCATED: [AtomicPtr<AtomicU64>; MAX_THREADS] =
    [const { AtomicPtr::new(std::ptr::null_mut()) }; MAX_THREADS];
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Whether another allocator replaces jemalloc, which is then not called at all: a sanitizer does not see how jemalloc
/// orders the accesses of its threads.
const REPLACED: bool = cfg!(spinel_sanitize);

/// The calling thread's counter named `name`, in jemalloc's memory; null if jemalloc is replaced.
fn counter(name: &std::ffi::CStr) -> *mut AtomicU64 {
    if REPLACED {
        return std::ptr::null_mut();
    }
    let mut p: *mut AtomicU64 = std::ptr::null_mut();
    let mut len = size_of::<*mut AtomicU64>();
    // SAFETY: `thread.allocatedp` and `thread.deallocatedp` write one pointer to `p`.
    let rc =
        unsafe { ffi::mallctl(name.as_ptr(), (&raw mut p).cast(), &raw mut len, std::ptr::null_mut(), 0) };
    if rc == 0 { p } else { std::ptr::null_mut() }
}

/// Includes the allocations of the process's first thread in [`used`]. To be called by that thread, once.
///
/// # Panics
/// In any other thread, because its counters end with it.
pub fn count_main_thread() {
    // SAFETY: neither takes an argument, and both only read.
    let is_main = unsafe { libc::gettid() == libc::getpid() };
    assert!(is_main, "the counters of a thread that may end are not read for ever");
    count_this_thread();
}

/// Runs the rest of a thread's life and includes its allocations in [`used`]. A panic in `life` ends the process.
///
/// Counters lie in the memory of their thread and are read for ever, so a counted thread never ends.
pub fn count_for_ever(life: impl FnOnce() -> Infallible) -> ! {
    /// Aborts the process when a panic would leave the thread.
    struct Ends;
    impl Drop for Ends {
        fn drop(&mut self) {
            std::process::abort();
        }
    }
    let _ends = Ends;
    count_this_thread();
    match life() {}
}

/// The thread must never end.
fn count_this_thread() {
    let i = THREADS.fetch_add(1, Ordering::AcqRel);
    if i < MAX_THREADS {
        ALLOCATED[i].store(counter(c"thread.allocatedp"), Ordering::Release);
        DEALLOCATED[i].store(counter(c"thread.deallocatedp"), Ordering::Release);
    }
}

/// Bytes allocated and not freed by the counted threads. A few loads; no lock, no epoch.
#[inline]
pub fn used() -> usize {
    if REPLACED {
        return GIVEN.load(Ordering::Relaxed) + MAPPED.load(Ordering::Relaxed);
    }
    let mut sum = 0u64;
    for i in 0..THREADS.load(Ordering::Acquire).min(MAX_THREADS) {
        let (a, d) = (ALLOCATED[i].load(Ordering::Relaxed), DEALLOCATED[i].load(Ordering::Relaxed));
        if !a.is_null() && !d.is_null() {
            // SAFETY: a counted thread lives as long as the process (`count_main_thread`, `count_for_ever`), and so do
            // its counters, which jemalloc keeps aligned.
            let (a, d) = unsafe { (&*a, &*d) };
            sum = sum.wrapping_add(a.load(Ordering::Relaxed)).wrapping_sub(d.load(Ordering::Relaxed));
        }
    }
    // A block freed by a counted thread may have been allocated by one that is not.
    (sum as i64).max(0) as usize + MAPPED.load(Ordering::Relaxed)
}

/// Zeroed blocks of at least this size come from the system, not from the allocator. Under a sanitizer, which must
/// see all of them as blocks, none do.
pub(crate) const MAPPED_FROM: usize = if REPLACED { 1 << 40 } else { 1 << 20 };

/// Total bytes of such blocks.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Allocates a zeroed block; null if there is no memory. Freed by [`free_zeroed`]. O(1) for a large block.
///
/// For a large block the allocator would reuse freed pages and clear them, which takes several milliseconds for 64
/// MB. The system supplies zeroed pages one by one when they are first touched.
///
/// # Safety
/// The layout is not empty.
pub unsafe fn zeroed(layout: Layout) -> *mut u8 {
    if layout.size() < MAPPED_FROM {
        // SAFETY: the caller's promise.
        return unsafe { std::alloc::alloc_zeroed(layout) };
    }
    debug_assert!(layout.align() <= 4096);
    let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping touches no memory that there is.
    let block = unsafe { libc::mmap(std::ptr::null_mut(), layout.size(), access, kind, -1, 0) };
    if block == libc::MAP_FAILED {
        return std::ptr::null_mut();
    }
    MAPPED.fetch_add(layout.size(), Ordering::Relaxed);
    block.cast()
}

/// Frees a zeroed block.
///
/// # Safety
/// The block comes from [`zeroed`] with the same layout and is not used again.
pub unsafe fn free_zeroed(block: *mut u8, layout: Layout) {
    // SAFETY: the caller's promise: a large block is a mapping of that size, any other the allocator's.
    unsafe {
        if layout.size() < MAPPED_FROM {
            return std::alloc::dealloc(block, layout);
        }
        libc::munmap(block.cast(), layout.size());
    }
    MAPPED.fetch_sub(layout.size(), Ordering::Relaxed);
}

/// Several of jemalloc's size statistics (`stats.allocated`, `stats.resident`, …) in bytes, all of one moment. They
/// include the blocks mapped outside jemalloc. Each is [`used`] if jemalloc is replaced. Takes tens of microseconds.
///
/// # Panics
/// If a name is not that of a statistic: other controls have effects, such as freeing all blocks of an arena.
pub fn statistics<const N: usize>(names: [&std::ffi::CStr; N]) -> [usize; N] {
    assert!(
        names.iter().all(|name| name.to_bytes().starts_with(b"stats.")),
        "only a statistic can be asked for"
    );
    if REPLACED {
        return names.map(|_| used());
    }
    refresh_statistics();
    names.map(|name| {
        let (mut value, mut len) = (0usize, size_of::<usize>());
        // SAFETY: statistics only read, and jemalloc refuses those that are not of the size given.
        unsafe {
            ffi::mallctl(name.as_ptr(), (&raw mut value).cast(), &raw mut len, std::ptr::null_mut(), 0);
        }
        value + MAPPED.load(Ordering::Relaxed)
    })
}

/// The value of a numeric or boolean jemalloc control by name; `None` if there is no such control, or if it is not
/// read-only.
pub fn control(name: &std::ffi::CStr) -> Option<i64> {
    const READ_ONLY: [&[u8]; 8] = [
        b"stats.",
        b"opt.",
        b"config.",
        b"arenas.page",
        b"arenas.quantum",
        b"arenas.narenas",
        b"arenas.nbins",
        b"arenas.bin.",
    ];
    if REPLACED || !READ_ONLY.iter().any(|start| name.to_bytes().starts_with(start)) {
        return None;
    }
    refresh_statistics();
    [8usize, 4, 1].into_iter().find_map(|size| {
        let (mut bytes, mut len) = ([0u8; 8], size);
        // SAFETY: these controls only read, and jemalloc refuses those that are not of the size given.
        let failed = unsafe {
            let to = bytes.as_mut_ptr().cast();
            ffi::mallctl(name.as_ptr(), to, &raw mut len, std::ptr::null_mut(), 0)
        };
        // The value of a string control is a pointer, which is of no use here.
        let text = name.to_bytes().starts_with(b"opt.") && size == 8;
        (failed == 0 && !text).then(|| i64::from_le_bytes(bytes))
    })
}

/// Updates jemalloc's statistics.
fn refresh_statistics() {
    let (mut epoch, mut len) = (1u64, size_of::<u64>());
    // SAFETY: the control reads and writes a u64.
    unsafe {
        let epoch = (&raw mut epoch).cast();
        ffi::mallctl(c"epoch".as_ptr(), epoch, &raw mut len, epoch, size_of::<u64>());
    }
}

/// Returns freed blocks in this thread's cache to where all threads can allocate them.
pub fn release_kept_blocks() {
    if REPLACED {
        return;
    }
    let name = c"thread.tcache.flush";
    // SAFETY: the control reads and writes nothing of ours.
    unsafe {
        ffi::mallctl(name.as_ptr(), std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut(), 0);
    }
}

/// Returns unused pages of all arenas to the system.
pub fn purge() {
    if REPLACED {
        return;
    }
    // The index 4096 stands for all arenas (`MALLCTL_ARENAS_ALL`).
    let name = c"arena.4096.purge";
    // SAFETY: the control reads and writes nothing of ours.
    unsafe {
        ffi::mallctl(name.as_ptr(), std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut(), 0);
    }
}

/// Returns the whole pages within `len` bytes from `start` to the system, before their block is freed. Afterwards
/// those bytes read as zeros, or unchanged if the system refuses.
///
/// Freeing a block of many megabytes takes milliseconds. Returning it in parts spreads that time.
///
/// # Safety
/// The bytes belong to one block of this allocator or of [`zeroed`], and their content is not needed any more.
pub unsafe fn discard(start: NonNull<u8>, len: usize) {
    // SAFETY: asks for a constant.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.max(1) as usize;
    let skipped = start.as_ptr().align_offset(page);
    let whole = len.saturating_sub(skipped) / page * page;
    if whole > 0 {
        // SAFETY: whole pages of a live block whose content nobody needs. The pages of private anonymous memory, which
        // is all that this allocator has, are replaced by zeros.
        unsafe { libc::madvise(start.as_ptr().add(skipped).cast(), whole, libc::MADV_DONTNEED) };
    }
}

/// Sets whether a thread of the allocator returns unused pages to the system. Without it, a thread that frees memory
/// does so occasionally, which takes milliseconds after much was freed at once.
pub fn purge_in_background(yes: bool) {
    if REPLACED {
        // The thread sanitizer crashes if a thread is started without its knowledge.
        return;
    }
    let mut yes = yes;
    // SAFETY: the control reads one boolean.
    unsafe {
        let value = (&raw mut yes).cast();
        ffi::mallctl(
            c"background_thread".as_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            value,
            size_of::<bool>(),
        );
    }
}

/// The allocator's own report, for people.
pub fn report() -> Vec<u8> {
    /// # Safety
    /// `out` is the `Vec<u8>` that was given to jemalloc, and `text` a C string.
    unsafe extern "C" fn collect(out: *mut std::ffi::c_void, text: *const std::ffi::c_char) {
        // SAFETY: `report` passes a `Vec<u8>` that nothing else uses meanwhile, and jemalloc a C string.
        let (out, text) = unsafe { (&mut *out.cast::<Vec<u8>>(), std::ffi::CStr::from_ptr(text)) };
        out.extend_from_slice(text.to_bytes());
    }
    if REPLACED {
        return b"The system's allocator is in use.\n".to_vec();
    }
    let mut out = Vec::new();
    // SAFETY: `collect` gets the vector back as what it is, and the call ends before the vector is read.
    unsafe { ffi::malloc_stats_print(Some(collect), (&raw mut out).cast(), std::ptr::null()) };
    out
}

/// jemalloc's version, as `INFO` prints it.
pub const NAME: &str = "jemalloc-5.3.1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_classes_are_those_of_the_allocator() {
        assert!(has_small_classes());
        for n in 1..=32_768usize {
            // SAFETY: `nallocx` only computes.
            let real = unsafe { ffi::nallocx(n, 0) };
            assert_eq!(size_class(n), real, "for {n} bytes");
        }
        // Above, jemalloc rounds to pages; ours stay geometric, so that growth is amortised.
        for n in (32_769..10_000_000usize).step_by(997) {
            assert!(size_class(n) >= n && size_class(n) <= n + n / 4);
            assert_eq!(size_class(size_class(n)), size_class(n));
        }
    }

    #[test]
    fn discarding_stays_inside() {
        let mut block = vec![7u8; 100_000];
        let start = NonNull::new(&raw mut block[5000]).expect("a reference is not null").cast();
        // SAFETY: the bytes lie in the block, and nothing but this test reads them.
        unsafe { discard(start, 50_000) };
        assert!(block[..5000].iter().chain(&block[55_000..]).all(|&byte| byte == 7));
        assert!(block[5000..55_000].iter().all(|&byte| byte == 0 || byte == 7));
        assert!(!cfg!(target_os = "linux") || block[20_000..30_000].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn blocks_of_zeros_are_zero_and_counted() {
        let large = 1 << 20;
        for size in [64, large - 64, large, 4 * large] {
            let layout = Layout::from_size_align(size, 64).expect("64 is a power of two");
            for _ in 0..3 {
                // SAFETY: the block is freed with its layout, and only its own bytes are read and written.
                unsafe {
                    let block = zeroed(layout);
                    assert!(!block.is_null() && block.addr().is_multiple_of(64));
                    assert!(size < MAPPED_FROM || MAPPED.load(Ordering::Relaxed) >= size);
                    let bytes = std::slice::from_raw_parts_mut(block, size);
                    assert!(bytes.iter().all(|&byte| byte == 0));
                    bytes.fill(7);
                    free_zeroed(block, layout);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "only a statistic can be asked for")]
    fn a_statistic_does_nothing() {
        statistics([c"arena.0.reset"]);
    }

    #[test]
    fn large_alignments_hold() {
        let layout = Layout::from_size_align(24, 16).expect("16 is a power of two");
        for _ in 0..100 {
            // SAFETY: the layout's size is not zero; the block is freed with the same layout.
            unsafe {
                let p = Jemalloc.alloc(layout);
                assert!(p.addr().is_multiple_of(16));
                Jemalloc.dealloc(p, layout);
            }
        }
    }

    #[test]
    fn only_threads_that_never_end_are_counted() {
        let counted = || THREADS.load(Ordering::Relaxed);
        let before = counted();
        assert!(std::thread::spawn(count_main_thread).join().is_err(), "it is not the first of the process");
        assert_eq!(counted(), before);
        let (tell, told) = crate::stdx::sync::mpsc::channel();
        std::thread::spawn(move || {
            count_for_ever(move || {
                tell.send(counted()).expect("the receiver waits");
                loop {
                    std::thread::sleep(std::time::Duration::from_secs(3600));
                }
            })
        });
        assert!(told.recv().expect("the thread lives") > before);
        used();
    }
}
