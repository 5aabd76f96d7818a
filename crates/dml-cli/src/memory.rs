//! The allocator of the command: freed memory stays with the process, because a step frees and takes gigabytes, and
//! fresh memory costs a page fault every 4 KiB.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 2 and 3.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// To be called before anything large is freed.
pub(crate) fn keep() {
    // SAFETY: sets an option of the allocator.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}
