//! What the kernels know of the processor's caches, and tell them.

/// Bytes that do not stay in a cache until they are read.
pub(crate) const LARGE: usize = 16 << 20;
/// Bytes of a line of the cache.
pub(crate) const LINE: usize = 64;

/// Asks for a line of memory, wherever it is; where that is not possible nothing happens.
#[inline(always)]
pub(crate) fn prefetch<T>(line: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which no address makes fail.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// Makes what this thread has streamed visible to the others.
pub(crate) fn streamed() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every such processor has this instruction.
    unsafe {
        std::arch::x86_64::_mm_sfence()
    };
}
