//! Working memory of the kernels, kept between operations and steps: fresh memory costs a page fault every 4 KiB.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use super::cache::LINE;
use super::simd::Real;

/// Where huge pages begin, and where the buffers that are large enough for one start; others start at a line of the cache.
const HUGE: usize = 2 << 20;

/// The memory of all kernels. What is kept for later is at most three times what was once in use at a time.
static MEMORY: Mutex<Memory> = Mutex::new(Memory { free: Vec::new(), used: 0, most: 0 });

struct Memory {
    /// What nobody uses now, in the order in which it was given back.
    free: Vec<Block>,
    /// Bytes in use now, and the most that ever were.
    used: usize,
    most: usize,
}

impl Memory {
    fn take(&mut self, bytes: usize) -> Option<Block> {
        // A much larger block is left to whoever needs it.
        let fits = |block: &Block| (bytes..=2 * bytes + HUGE).contains(&block.layout.size());
        let fitting = self.free.iter().enumerate().filter(|(_, block)| fits(block));
        let best = fitting.min_by_key(|(_, block)| block.layout.size()).map(|(index, _)| index);
        best.map(|index| self.free.remove(index))
    }

    fn lend(&mut self, block: &Block) {
        self.used += block.layout.size();
        self.most = self.most.max(self.used);
    }

    /// Takes a block back; what was not used for the longest time makes room for it.
    fn give_back(&mut self, block: Block) -> Vec<Block> {
        self.used -= block.layout.size();
        self.free.push(block);
        let mut all: usize = self.free.iter().map(|block| block.layout.size()).sum();
        let mut dropped = Vec::new();
        // Blocks of different sizes do not serve for each other, so there are more than were in use at a time.
        while all > 3 * self.most {
            let oldest = self.free.remove(0);
            all -= oldest.layout.size();
            dropped.push(oldest);
        }
        dropped
    }
}

fn memory() -> std::sync::MutexGuard<'static, Memory> {
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Block {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a block is plain memory that belongs to its holder alone.
unsafe impl Send for Block {}
// SAFETY: a shared block is only read.
unsafe impl Sync for Block {}

impl Block {
    fn new(bytes: usize) -> Self {
        let align = if bytes >= HUGE { HUGE } else { LINE };
        let layout = match Layout::from_size_align(bytes.next_multiple_of(align), align) {
            Ok(layout) => layout,
            Err(_) => handle_alloc_error(Layout::new::<u8>()),
        };
        // SAFETY: the layout is not empty.
        let Some(start) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        #[cfg(target_os = "linux")]
        if align == HUGE {
            // SAFETY: advice about memory of our own; without huge pages it has no effect.
            unsafe { libc::madvise(start.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE) };
        }
        Self { start, layout }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// A slice of working memory, which starts at a cache line. Its values are arbitrary.
pub(crate) struct Scratch<T: Real> {
    block: Option<Block>,
    len: usize,
    values: PhantomData<T>,
}

impl<T: Real> Scratch<T> {
    pub(crate) fn new(len: usize) -> Self {
        let bytes = (len * size_of::<T>()).max(LINE);
        let kept = memory().take(bytes);
        let block = kept.unwrap_or_else(|| Block::new(bytes));
        memory().lend(&block);
        Self { block: Some(block), len, values: PhantomData }
    }

    fn start(&self) -> *mut T {
        self.block.as_ref().map_or(NonNull::dangling(), |block| block.start.cast::<T>()).as_ptr()
    }
}

impl<T: Real> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the block has room for `len` values; all bits are values, and none was ever uninitialised.
        unsafe { std::slice::from_raw_parts(self.start(), self.len) }
    }
}

impl<T: Real> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the block is this scratch's alone.
        unsafe { std::slice::from_raw_parts_mut(self.start(), self.len) }
    }
}

impl<T: Real> Drop for Scratch<T> {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            // Freed after the lock is.
            let _dropped = memory().give_back(block);
        }
    }
}
