//! The guest's memory, read and written within its bounds.

use std::ops::Range;

use super::dialect::Fault;

/// The exported memory of the guest that calls. Pointers are offsets into it and may be unaligned;
/// what reaches beyond its end is an argument error.
pub(super) struct Memory<'a> {
    bytes: &'a mut [u8],
}

impl<'a> Memory<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes }
    }

    /// Whether `length` bytes from `pointer` on are there.
    pub(super) fn check(&self, pointer: u32, length: usize) -> Result<(), Fault> {
        self.range(pointer, length).map(drop)
    }

    pub(super) fn slice(&self, pointer: u32, length: usize) -> Result<&[u8], Fault> {
        Ok(&self.bytes[self.range(pointer, length)?])
    }

    pub(super) fn u32(&self, pointer: u32) -> Result<u32, Fault> {
        let bytes = self.slice(pointer, size_of::<u32>())?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("a slice of four bytes")))
    }

    /// Two numbers side by side: a pointer and a length.
    pub(super) fn pair(&self, pointer: u32) -> Result<(u32, u32), Fault> {
        self.check(pointer, 2 * size_of::<u32>())?;
        Ok((self.u32(pointer)?, self.u32(pointer + 4)?))
    }

    /// `count` numbers from `pointer` on.
    pub(super) fn u32s(&self, pointer: u32, count: usize) -> Result<Vec<u32>, Fault> {
        let bytes = self.slice(pointer, count.saturating_mul(size_of::<u32>()))?;
        let numbers = bytes.chunks_exact(size_of::<u32>());
        Ok(numbers.map(|n| u32::from_le_bytes(n.try_into().expect("four bytes"))).collect())
    }

    pub(super) fn write(&mut self, pointer: u32, data: &[u8]) -> Result<(), Fault> {
        let range = self.range(pointer, data.len())?;
        self.bytes[range].copy_from_slice(data);
        Ok(())
    }

    pub(super) fn write_u32(&mut self, pointer: u32, number: u32) -> Result<(), Fault> {
        self.write(pointer, &number.to_le_bytes())
    }

    fn range(&self, pointer: u32, length: usize) -> Result<Range<usize>, Fault> {
        let (start, size) = (pointer as usize, self.bytes.len());
        match start.checked_add(length) {
            Some(end) if end <= size => Ok(start..end),
            _ => Err(Fault::invalid(format!(
                "{length} bytes at {pointer} are not in the memory of {size} bytes"
            ))),
        }
    }
}
