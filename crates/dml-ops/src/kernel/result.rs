//! Memory for results: written once, and in huge pages where the system gives them.

use super::simd::Real;

/// Where results of a mebibyte and more ask for huge pages: fresh memory costs a fault a page.
const LARGE: usize = 1 << 20;
const PAGE: usize = 4096;

/// The place of a result that several tasks write, each a part of its own.
#[derive(Clone, Copy)]
pub(crate) struct Place<T>(*mut T);

// SAFETY: a task writes a part of its own (the contract of `written`).
unsafe impl<T: Send> Send for Place<T> {}
unsafe impl<T: Send> Sync for Place<T> {}

impl<T> Place<T> {
    /// The place of element `index`.
    pub(crate) fn at(self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }
}

/// A vector of `len` values that `write` writes.
///
/// # Safety
/// `write` writes every one of them, and none from two tasks at a time.
pub(crate) unsafe fn written<T: Real>(len: usize, write: impl FnOnce(Place<T>)) -> Vec<T> {
    let mut all = Vec::<T>::with_capacity(len);
    advise(all.as_mut_ptr().cast(), len * size_of::<T>());
    write(Place(all.as_mut_ptr()));
    // SAFETY: the caller's promise.
    unsafe { all.set_len(len) };
    all
}

/// Asks for huge pages.
fn advise(start: *mut u8, bytes: usize) {
    if bytes < LARGE {
        return;
    }
    let skip = start.align_offset(PAGE);
    #[cfg(target_os = "linux")]
    // SAFETY: advice about memory of our own; where it is not followed, nothing changes.
    unsafe {
        libc::madvise(start.add(skip).cast(), (bytes - skip) / PAGE * PAGE, libc::MADV_HUGEPAGE);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = skip;
}
