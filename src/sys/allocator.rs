//! The allocator of the build against musl, whose own asks the kernel for each larger block.

use std::alloc::{GlobalAlloc, Layout};

use dlmalloc::GlobalDlmalloc;

/// dlmalloc, which is asked a second time where the kernel gave nothing: glibc's asks in two ways, and a cgroup may be at its
/// limit for a moment only.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: each call is handed on with its arguments, and its answer handed back; what the second try gives stands in for
// what the first did not give, since nothing was allocated by it.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps to the contract of this very function, whose arguments are handed on.
        let block = unsafe { GlobalDlmalloc.alloc(layout) };
        // SAFETY: as above.
        if block.is_null() { given(unsafe { GlobalDlmalloc.alloc(layout) }) } else { block }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps to the contract of this very function, whose arguments are handed on.
        unsafe { GlobalDlmalloc.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps to the contract of this very function, whose arguments are handed on.
        let new = unsafe { GlobalDlmalloc.realloc(block, layout, size) };
        // SAFETY: as above: where nothing was given the block is as it was.
        if new.is_null() { given(unsafe { GlobalDlmalloc.realloc(block, layout, size) }) } else { new }
    }
}

/// What was given; where it is nothing hull says so and leaves, which std would do with words of its own and a signal.
fn given(block: *mut u8) -> *mut u8 {
    const SENTENCE: &[u8] = b"hull: error: the kernel gives no memory: mmap: cannot allocate memory (ENOMEM)\n";
    if block.is_null() {
        let _ = rustix::io::write(rustix::stdio::stderr(), SENTENCE);
        super::clone::exit_now(1);
    }
    block
}
