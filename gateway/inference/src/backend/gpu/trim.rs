//! What drivers leave in the allocator of the system.
//!
//! A driver allocates by itself, and software ones have tensors in its heap and compile with LLVM
//! in each thread that asks: glibc keeps what they free in an arena per thread, and between what
//! is in use nothing can be given back. Over a thousand loads of `MiniLM` and a convolution network
//! on llvmpipe a process grew by 102 MiB, trimmed by 28, and with large blocks apart by one.
#![allow(unsafe_code, reason = "two calls of the system's library")]

/// Gives it back when it is dropped: as the last field of a model, once that is gone.
pub(super) struct Trims;

impl Drop for Trims {
    fn drop(&mut self) {
        trim();
    }
}

/// Gives back what is free.
pub(super) fn trim() {
    system::trim();
}

/// From now on large blocks get pages of their own, which go when they are freed. By itself glibc
/// puts them in the heap once one of their size was freed.
pub(super) fn keep_large_apart() {
    system::keep_apart(LARGE_BYTES);
}

/// Tensors that matter are larger.
const LARGE_BYTES: i32 = 256 << 10;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod system {
    unsafe extern "C" {
        safe fn malloc_trim(pad: usize) -> i32;
        safe fn mallopt(parameter: i32, value: i32) -> i32;
    }

    /// `M_MMAP_THRESHOLD` of `malloc.h`.
    const MMAP_THRESHOLD: i32 = -3;

    pub(super) fn trim() {
        // It says whether anything was given back.
        malloc_trim(0);
    }

    pub(super) fn keep_apart(bytes: i32) {
        // It says whether it knows the parameter.
        mallopt(MMAP_THRESHOLD, bytes);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod system {
    pub(super) fn trim() {}
    pub(super) fn keep_apart(_bytes: i32) {}
}
