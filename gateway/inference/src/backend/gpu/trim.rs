//! What drivers leave in the allocator of the system.
//!
//! A driver allocates by itself, and software ones compile with LLVM in each thread that asks:
//! glibc keeps what they free in an arena per thread. Over many loads of `MiniLM` and a convolution
//! network on llvmpipe a process grew by 102 MiB, before it stayed; with this by 28.
#![allow(unsafe_code, reason = "one call of the system's library")]

/// Gives it back when it is dropped: as the last field of a model, once that is gone.
pub(super) struct Trims;

impl Drop for Trims {
    fn drop(&mut self) {
        trim();
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn trim() {
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> i32;
    }
    // It says whether anything was given back.
    malloc_trim(0);
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn trim() {}
