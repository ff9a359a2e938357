//! Large files in memory.

use std::fs::File;
use std::io::{self, Read};

use bytes::Bytes;
use memmap2::MmapMut;

/// Files of fewer bytes gain nothing: two large pages.
const LARGE: usize = 4 << 20;

/// What `file` holds, at most `bytes` bytes.
pub(crate) fn read(mut file: &File, bytes: usize) -> io::Result<Bytes> {
    if bytes < LARGE {
        let mut data = Vec::new();
        data.try_reserve_exact(bytes)?;
        file.take(bytes as u64).read_to_end(&mut data)?;
        return Ok(data.into());
    }
    let mut data = zeroed(bytes)?;
    let mut end = 0;
    while end < bytes {
        match file.read(&mut data[end..]) {
            Ok(0) => break,
            Ok(count) => end += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Bytes::from_owner(data).slice(..end))
}

/// Memory in pages of 2 MiB, where the system has them: to make and to clear pages of 4 KiB takes
/// longer than to read a file into them.
pub(crate) fn zeroed(bytes: usize) -> io::Result<MmapMut> {
    let memory = MmapMut::map_anon(bytes)?;
    // Where this is refused, the pages are small.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    Ok(memory)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    #[test]
    fn files_of_all_sizes_are_read_as_far_as_they_go() {
        for bytes in [0, 5, LARGE - 1, LARGE, LARGE + 3] {
            let mut file = tempfile::tempfile().unwrap();
            let data: Vec<u8> = (0..251u8).cycle().take(bytes).collect();
            file.write_all(&data).unwrap();
            for asked in [bytes, bytes / 2, bytes + LARGE] {
                file.rewind().unwrap();
                assert!(read(&file, asked).unwrap() == data[..asked.min(bytes)], "{asked}");
            }
        }
    }
}
