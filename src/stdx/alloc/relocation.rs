//! Moves blocks of memory from sparse slabs to denser ones.
//!
//! jemalloc stores small blocks of one size in slabs of a few pages. A slab is returned to the system only when its
//! last block is freed, so a store that grew and then lost most of its keys, scattered over the slabs, keeps most of
//! its memory. A new block is placed in the current slab or in the oldest one with free places. Copies of blocks in
//! sparse slabs therefore gather in few slabs, and the sparse slabs become free.
//!
//! A [`Relocator`] decides for each block whether it is moved: a block is moved if its slab has free places, and at
//! most as many blocks as the slabs with free places have on average, plus an eighth. Slabs that are all equally sparse
//! thus empty each other, too. jemalloc's statistics tell how full a slab is (`experimental.utilization`); without
//! them, nothing is moved.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc};
use std::collections::VecDeque;
use std::ffi::CStr;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::{self, NonNull};

use tikv_jemalloc_sys as ffi;

use super::REPLACED;

/// The name of a jemalloc control, resolved to `N` numbers.
struct Control<const N: usize>([usize; N]);

impl<const N: usize> Control<N> {
    /// Resolves a name; `None` if there is no such control, or its name does not have `N` parts.
    fn new(name: &CStr) -> Option<Control<N>> {
        let (mut parts, mut len) = ([0usize; N], N);
        // SAFETY: at most `len` parts are written.
        let failed = unsafe { ffi::mallctlnametomib(name.as_ptr(), parts.as_mut_ptr(), &raw mut len) };
        (failed == 0 && len == N).then_some(Control(parts))
    }

    /// The value of a read-only control; `None` if it is not a `T`.
    fn read<T: Copy>(&self) -> Option<T> {
        let (mut value, mut len) = (MaybeUninit::<T>::uninit(), size_of::<T>());
        // SAFETY: jemalloc writes a value of exactly this size, or fails.
        unsafe {
            let to = value.as_mut_ptr().cast();
            let failed = ffi::mallctlbymib(self.0.as_ptr(), N, to, &raw mut len, ptr::null_mut(), 0);
            (failed == 0 && len == size_of::<T>()).then(|| value.assume_init())
        }
    }
}

/// Facts about a slab, in the layout of jemalloc's answer.
#[repr(C)]
#[derive(Default)]
struct Slab {
    free: usize,
    blocks: usize,
    bytes: usize,
}

/// A size class of small blocks, and how full its slabs are.
#[derive(Clone, Copy, Debug)]
struct Class {
    /// Size of a block in bytes.
    size: usize,
    /// Number of blocks in a slab.
    blocks: usize,
    /// Blocks are moved out of a slab with free places if at most this many of its blocks are in use; 0 moves none.
    sparse: usize,
    /// Bytes of the slabs that are not used by blocks.
    unused: usize,
}

/// Size of the largest small block in bytes. Larger ones have pages of their own.
const LARGEST: usize = 14 << 10;

/// Memory that the allocator keeps in slabs without using it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sparseness {
    /// Bytes of all allocated blocks, small and large.
    pub allocated: usize,
    /// Bytes of slabs that are not used by blocks.
    pub unused: usize,
}

impl Sparseness {
    /// Unused bytes in percent of the allocated ones.
    pub fn percent(self) -> f64 {
        if self.allocated == 0 { 0.0 } else { self.unused as f64 * 100.0 / self.allocated as f64 }
    }
}

/// Whether blocks can be moved to denser places, which requires jemalloc's statistics about slabs.
pub fn is_possible() -> bool {
    !REPLACED && Control::<3>::new(c"experimental.utilization.batch_query").is_some() && !classes().is_empty()
}

/// The current sparseness. Takes tens of microseconds.
pub fn sparseness() -> Sparseness {
    if REPLACED {
        return Sparseness::default();
    }
    let [allocated] = super::statistics([c"stats.allocated"]);
    Sparseness { allocated, unused: classes().iter().map(|class| class.unused).sum() }
}

/// All size classes of small blocks; none if jemalloc does not provide the statistics.
fn classes() -> Vec<Class> {
    fn all() -> Option<Vec<Class>> {
        super::refresh_statistics();
        let number: u32 = Control::<2>::new(c"arenas.nbins")?.read()?;
        let mut size = Control::<4>::new(c"arenas.bin.0.size")?;
        let mut blocks = Control::<4>::new(c"arenas.bin.0.nregs")?;
        // The index 4096 stands for all arenas.
        let mut used = Control::<6>::new(c"stats.arenas.4096.bins.0.curregs")?;
        let mut slabs = Control::<6>::new(c"stats.arenas.4096.bins.0.curslabs")?;
        let mut with_room = Control::<6>::new(c"stats.arenas.4096.bins.0.nonfull_slabs")?;
        let class = |i: usize| {
            (size.0[2], blocks.0[2]) = (i, i);
            (used.0[4], slabs.0[4], with_room.0[4]) = (i, i, i);
            let (size, blocks) = (size.read::<usize>()?, blocks.read::<u32>()? as usize);
            let (used, slabs): (usize, usize) = (used.read()?, slabs.read()?);
            let with_room: usize = with_room.read()?;
            let used_there = used.saturating_sub(slabs.saturating_sub(with_room) * blocks);
            let average = used_there * 9 / (8 * with_room.max(1));
            Some(Class {
                size,
                blocks,
                sparse: if with_room > 1 && blocks > 1 { average } else { 0 },
                unused: (slabs * blocks).saturating_sub(used) * size,
            })
        };
        (0..number as usize).map(class).collect()
    }
    all().unwrap_or_default()
}

/// Moves the blocks of one thread and counts them.
pub struct Relocator {
    query: Control<3>,
    classes: Vec<Class>,
    /// Index of the class of a block of `8 * i` bytes, at `i`.
    by_size: Vec<u8>,
    /// Whether every block is moved.
    everything: bool,
    /// Number of blocks moved.
    pub moved: u64,
    /// Blocks that stayed where they are.
    pub kept: u64,
}

impl Relocator {
    /// A relocator for blocks whose slabs are sparse now; `None` if that [is not possible](is_possible).
    pub fn new() -> Option<Relocator> {
        if REPLACED {
            return None;
        }
        let query = Control::new(c"experimental.utilization.batch_query")?;
        let mut relocator = Relocator {
            query,
            classes: Vec::new(),
            by_size: Vec::new(),
            everything: false,
            moved: 0,
            kept: 0,
        };
        relocator.look_again();
        let classes = &relocator.classes;
        let of = |bytes: usize| classes.iter().position(|class| class.size >= bytes);
        let by_size = (0..=LARGEST / 8).map_while(|i| of(8 * i)).map(|class| class as u8).collect();
        relocator.by_size = by_size;
        (!relocator.classes.is_empty()).then_some(relocator)
    }

    /// A relocator that moves every block, for tests of the code that moves them.
    pub fn of_everything() -> Relocator {
        Relocator {
            query: Control([0; 3]),
            classes: Vec::new(),
            by_size: Vec::new(),
            everything: true,
            moved: 0,
            kept: 0,
        }
    }

    /// Updates the statistics of slabs. Takes tens of microseconds.
    pub fn look_again(&mut self) {
        if !self.everything {
            self.classes = classes();
        }
    }

    /// Runs `work` while the thread keeps no freed blocks, which it would otherwise reuse first, whatever slab they are
    /// in. Takes tens of microseconds in addition to `work`.
    pub fn run<R>(&mut self, work: impl FnOnce(&mut Relocator) -> R) -> R {
        /// Sets whether the thread keeps freed blocks.
        fn keep_freed(mut yes: bool) {
            if !REPLACED {
                // SAFETY: the control reads one boolean.
                unsafe {
                    let value = (&raw mut yes).cast();
                    let name = c"thread.tcache.enabled".as_ptr();
                    ffi::mallctl(name, ptr::null_mut(), ptr::null_mut(), value, size_of::<bool>());
                }
            }
        }
        struct Again;
        impl Drop for Again {
            fn drop(&mut self) {
                keep_freed(true);
            }
        }
        keep_freed(false);
        let _again = Again;
        work(self)
    }

    /// Decides whether the block of `bytes` bytes at this address is moved, and counts it.
    #[inline]
    fn leaves(&mut self, block: NonNull<u8>, bytes: usize) -> bool {
        let leaves = self.everything || self.is_sparse(block, bytes);
        *if leaves { &mut self.moved } else { &mut self.kept } += 1;
        leaves
    }

    fn is_sparse(&self, block: NonNull<u8>, bytes: usize) -> bool {
        let Some(&class) = self.by_size.get(bytes.div_ceil(8)) else { return false };
        let Class { blocks, sparse, .. } = self.classes[usize::from(class)];
        if sparse == 0 {
            return false;
        }
        let (mut asked, mut slab, mut len) = (block.as_ptr(), Slab::default(), size_of::<Slab>());
        // SAFETY: the query reads one address, of which it looks up the slab without following it, and writes one
        // answer.
        let failed = unsafe {
            let (from, to) = ((&raw mut asked).cast(), (&raw mut slab).cast());
            ffi::mallctlbymib(self.query.0.as_ptr(), 3, to, &raw mut len, from, size_of::<*mut u8>())
        };
        failed == 0 && slab.blocks == blocks && slab.free > 0 && slab.blocks - slab.free <= sparse
    }

    /// Copies a block to another place if it is worth moving. The caller replaces the original by the copy and frees
    /// the original.
    ///
    /// # Safety
    /// The block is live, and of this layout, which is not empty.
    #[inline]
    pub unsafe fn copy(&mut self, block: NonNull<u8>, layout: Layout) -> Option<NonNull<u8>> {
        if !self.leaves(block, layout.size()) {
            return None;
        }
        // SAFETY: the layout is not empty; the copy is as large as the block, and another one.
        unsafe {
            let copy = NonNull::new(alloc(layout))?;
            copy.copy_from_nonoverlapping(block, layout.size());
            Some(copy)
        }
    }

    /// Moves a block to another place if it is worth moving, and returns its address from then on.
    ///
    /// # Safety
    /// As for [`copy`](Self::copy); and nobody uses the old address any more.
    #[inline]
    pub unsafe fn relocate(&mut self, block: NonNull<u8>, layout: Layout) -> NonNull<u8> {
        // SAFETY: the caller's promise: the block is live, and only its copy is used afterwards.
        unsafe {
            match self.copy(block, layout) {
                Some(copy) => {
                    dealloc(block.as_ptr(), layout);
                    copy
                }
                None => block,
            }
        }
    }

    /// Moves the content of a box.
    pub fn relocate_box<T>(&mut self, owner: &mut Box<T>) {
        let layout = Layout::new::<T>();
        if layout.size() == 0 {
            return;
        }
        let block = NonNull::from(&mut **owner);
        // SAFETY: a box owns a block of this layout, from the global allocator. The box is overwritten without being
        // dropped, so that one box owns the value, wherever it is now.
        unsafe {
            let moved = self.relocate(block.cast(), layout).cast::<T>();
            ptr::write(owner, Box::from_raw(moved.as_ptr()));
        }
    }

    /// Moves the bytes of a box.
    pub fn relocate_bytes(&mut self, owner: &mut Box<[u8]>) {
        let (block, len) = (NonNull::from(&mut **owner), owner.len());
        if len == 0 {
            return;
        }
        let layout = Layout::for_value(&**owner);
        // SAFETY: as in `relocate_box`.
        unsafe {
            let moved = self.relocate(block.cast(), layout);
            ptr::write(owner, Box::from_raw(ptr::slice_from_raw_parts_mut(moved.as_ptr(), len)));
        }
    }

    /// Moves the elements of a vector, as one block.
    pub fn relocate_vec<T>(&mut self, owner: &mut Vec<T>) {
        let Ok(layout) = Layout::array::<T>(owner.capacity()) else { return };
        if layout.size() == 0 {
            return;
        }
        let mut vec = ManuallyDrop::new(std::mem::take(owner));
        let Some(block) = NonNull::new(vec.as_mut_ptr()) else { return };
        // SAFETY: a vector with capacity owns a block of this layout, from the global allocator, which begins with its
        // elements; the vector that owned it is not used again.
        *owner = unsafe {
            let moved = self.relocate(block.cast(), layout);
            Vec::from_raw_parts(moved.cast().as_ptr(), vec.len(), vec.capacity())
        };
    }

    /// Moves the elements of a queue, as one block.
    pub fn relocate_deque<T>(&mut self, owner: &mut VecDeque<T>) {
        let bytes = owner.capacity() * size_of::<T>();
        if let Some(some) = owner.as_slices().0.first()
            && self.asks_to_move(some, bytes)
        {
            let mut moved = VecDeque::with_capacity(owner.capacity());
            moved.extend(owner.drain(..));
            *owner = moved;
        }
    }

    /// Whether to move a value that its owner has allocated itself and therefore must move itself.
    pub fn asks_to_move<T>(&mut self, value: &T, bytes: usize) -> bool {
        self.leaves(NonNull::from(value).cast(), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_moved_stays_the_same() {
        let mut all = Relocator::of_everything();
        let mut boxed = Box::new([7u64; 9]);
        let before = &raw const *boxed;
        all.relocate_box(&mut boxed);
        assert_eq!(*boxed, [7; 9]);
        assert!(!ptr::eq(before, &raw const *boxed));
        all.relocate_box(&mut Box::new(()));
        let mut bytes: Box<[u8]> = (0..100).collect();
        all.relocate_bytes(&mut bytes);
        assert!(bytes.iter().copied().eq(0..100));
        all.relocate_bytes(&mut Box::default());
        let mut texts = Vec::with_capacity(10);
        texts.extend(["a", "b"].map(str::to_owned));
        all.relocate_vec(&mut texts);
        assert_eq!((texts.as_slice(), texts.capacity()), (&["a".to_owned(), "b".to_owned()][..], 10));
        all.relocate_vec(&mut Vec::<String>::new());
        let mut queue: VecDeque<u32> = (0..10).collect();
        queue.rotate_left(3);
        all.relocate_deque(&mut queue);
        assert!(queue.into_iter().eq((3..10).chain(0..3)));
        assert_eq!((all.moved, all.kept), (4, 0));
    }
}
