//! What the header of an input tells, found by the bounded probe in the server process.

use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use tutti_base::FileBody;

/// The head of an input, read in few jumps: at most 64 KiB in at most 64 reads, whatever the file claims.
pub trait HeadReader {
    /// The length of the whole input, in bytes.
    fn len(&self) -> u64;
    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Reads at most `into.len()` bytes at `offset`; how many were read, fewer at the end of the input, or `None` when
    /// the budget is used up or reading failed.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Option<usize>;
}

/// What an input is. A value that the probe did not find is `unknown`, to be charged as the worst of its class.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The media type by content, such as `image/jpeg`; none when it is none that the service knows.
    pub media: Option<String>,
    /// Whether size and frames could not be found in the head.
    pub unknown: bool,
    /// Width in pixels as stored, before any orientation.
    pub width: u32,
    /// Height in pixels as stored.
    pub height: u32,
    /// Number of frames or pages; 1 for a still.
    pub frames: u32,
    /// Bits per sample.
    pub bits: u8,
    /// Samples per pixel.
    pub channels: u8,
    /// Whether there may be transparency.
    pub alpha: bool,
    /// Whether decoding is progressive or interlaced, which costs more memory and time.
    pub progressive: bool,
    /// EXIF orientation 1 to 8; 1 when absent.
    pub orientation: u8,
    /// Length of the input in bytes.
    pub bytes: u64,
}

impl Facts {
    /// Nothing could be found.
    pub fn unknown() -> Self {
        Self { unknown: true, orientation: 1, frames: 1, ..Self::default() }
    }
    /// Number of pixels of one frame.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// A head reader over bytes in memory, with the same budget as every other.
pub struct BytesHead<'a> {
    bytes: &'a [u8],
    budget: HeadBudget,
}

impl<'a> BytesHead<'a> {
    /// Reads the head of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, budget: HeadBudget::default() }
    }
}

impl HeadReader for BytesHead<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Option<usize> {
        let allowed = self.budget.take(into.len())?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let part = &self.bytes[start..self.bytes.len().min(start.saturating_add(allowed))];
        into[..part.len()].copy_from_slice(part);
        Some(part.len())
    }
}

/// A head reader over a cached file, read by position.
pub struct FileHead<'a> {
    body: &'a FileBody,
    budget: HeadBudget,
}

impl<'a> FileHead<'a> {
    /// Reads the head of `body`.
    pub fn new(body: &'a FileBody) -> Self {
        Self { body, budget: HeadBudget::default() }
    }
}

impl HeadReader for FileHead<'_> {
    fn len(&self) -> u64 {
        self.body.len
    }
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Option<usize> {
        let allowed = self.budget.take(into.len())? as u64;
        let allowed = allowed.min(self.body.len.saturating_sub(offset)) as usize;
        self.body.file.read_at(&mut into[..allowed], self.body.offset + offset).ok()
    }
}

/// The budget of one probe.
#[derive(Clone, Copy, Debug)]
pub struct HeadBudget {
    bytes: usize,
    jumps: usize,
}

impl HeadBudget {
    /// The most that one probe reads, in bytes.
    pub const BYTES: usize = 64 * 1024;
    /// The most reads of one probe.
    pub const JUMPS: usize = 64;

    /// Takes one read of up to `want` bytes; how many are allowed, or `None` when nothing is left.
    pub fn take(&mut self, want: usize) -> Option<usize> {
        if self.jumps == 0 || self.bytes == 0 {
            return None;
        }
        self.jumps -= 1;
        let allowed = want.min(self.bytes);
        self.bytes -= allowed;
        Some(allowed)
    }
}

impl Default for HeadBudget {
    fn default() -> Self {
        Self { bytes: Self::BYTES, jumps: Self::JUMPS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_reads_no_more_than_its_budget() {
        let bytes = vec![7; 200_000];
        let mut head = BytesHead::new(&bytes);
        let mut buffer = vec![0; 50_000];
        assert_eq!(head.read_at(0, &mut buffer), Some(50_000));
        assert_eq!(head.read_at(100_000, &mut buffer), Some(HeadBudget::BYTES - 50_000));
        assert_eq!(head.read_at(0, &mut buffer), None);
    }

    #[test]
    fn the_probe_jumps_no_more_than_its_budget() {
        let mut head = BytesHead::new(b"abc");
        let mut one = [0];
        assert!((0..HeadBudget::JUMPS).all(|_| head.read_at(0, &mut one) == Some(1)));
        assert_eq!(head.read_at(0, &mut one), None);
    }
}
