//! Two copies of a small file, written in turn, so that a power cut leaves the old one or the new one. Knows no keys.

use tutti_base::disk::{Disk, DiskFile};
use zeroize::Zeroizing;

use super::{IDENTITY_FILE, IdentityError};

/// Room of one copy, with its head, in bytes.
const SLOT_BYTES: usize = 128 << 10;
/// Generation (u64), length (u32), CRC-32 of both and of the bytes (u32); all little endian.
const HEAD_BYTES: usize = 16;
/// The longest content, in bytes.
pub(super) const CONTENT_MAX: usize = SLOT_BYTES - HEAD_BYTES;

/// What one of the two places holds.
enum Slot {
    /// Nothing was ever written.
    Empty,
    /// Something that is not whole.
    Damaged,
    /// A whole copy.
    Whole { generation: u64, bytes: Zeroizing<Vec<u8>> },
}

impl Slot {
    fn generation(&self) -> u64 {
        if let Slot::Whole { generation, .. } = self { *generation } else { 0 }
    }
}

/// The file with its two places.
pub(super) struct Slots(Box<dyn DiskFile>);

impl Slots {
    pub(super) fn open(disk: &dyn Disk) -> Result<Self, IdentityError> {
        Ok(Self(disk.open(IDENTITY_FILE)?))
    }

    /// The newest whole copy. A first write that was cut short counts as none.
    pub(super) fn newest(&self) -> Result<Option<Zeroizing<Vec<u8>>>, IdentityError> {
        let (first, second) = (self.read(0)?, self.read(1)?);
        match if first.generation() >= second.generation() { (first, second) } else { (second, first) } {
            (Slot::Whole { bytes, .. }, _) => Ok(Some(bytes)),
            (Slot::Damaged, Slot::Damaged) => Err(IdentityError::Damaged),
            _ => Ok(None),
        }
    }

    /// Writes the next copy and returns once it is on stable storage. The very first one is written to both places, so
    /// that one damaged place beside an empty one can only be a first write cut short.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), IdentityError> {
        if bytes.len() > CONTENT_MAX {
            return Err(IdentityError::TooLong { bytes: bytes.len(), limit: CONTENT_MAX });
        }
        let (first, second) = (self.read(0)?.generation(), self.read(1)?.generation());
        let older = usize::from(second < first);
        self.put(older, first.max(second) + 1, bytes)?;
        if first.max(second) == 0 {
            self.put(1 - older, 2, bytes)?;
        }
        Ok(())
    }

    fn put(&self, slot: usize, generation: u64, bytes: &[u8]) -> Result<(), IdentityError> {
        if self.0.len()? < 2 * SLOT_BYTES as u64 {
            self.0.set_len(2 * SLOT_BYTES as u64)?;
        }
        let mut whole = Zeroizing::new(Vec::with_capacity(HEAD_BYTES + bytes.len()));
        whole.extend_from_slice(&generation.to_le_bytes());
        whole.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        let crc = checksum(&whole, bytes);
        whole.extend_from_slice(&crc.to_le_bytes());
        whole.extend_from_slice(bytes);
        self.0.write_at((slot * SLOT_BYTES) as u64, &whole)?;
        Ok(self.0.sync()?)
    }

    fn read(&self, slot: usize) -> Result<Slot, IdentityError> {
        if self.0.len()? < 2 * SLOT_BYTES as u64 {
            return Ok(Slot::Empty);
        }
        let at = (slot * SLOT_BYTES) as u64;
        let mut head = [0; HEAD_BYTES];
        self.0.read_at(at, &mut head)?;
        if head == [0; HEAD_BYTES] {
            return Ok(Slot::Empty);
        }
        let word =
            |from: usize| u32::from_le_bytes([head[from], head[from + 1], head[from + 2], head[from + 3]]);
        let length = word(8) as usize;
        if length > CONTENT_MAX {
            return Ok(Slot::Damaged);
        }
        let mut bytes = Zeroizing::new(vec![0; length]);
        self.0.read_at(at + HEAD_BYTES as u64, &mut bytes)?;
        if checksum(&head[..12], &bytes) != word(12) {
            return Ok(Slot::Damaged);
        }
        let generation = u64::from(word(0)) | u64::from(word(4)) << 32;
        Ok(Slot::Whole { generation, bytes })
    }
}

fn checksum(head: &[u8], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryDisk;

    fn newest(disk: &MemoryDisk) -> Option<Vec<u8>> {
        Slots::open(disk).unwrap().newest().unwrap().map(|bytes| bytes.to_vec())
    }

    #[test]
    fn a_write_cut_short_at_any_byte_leaves_the_old_or_the_new() {
        for step in 0..40 {
            let disk = MemoryDisk::default();
            Slots::open(&disk).unwrap().write(b"old").unwrap();
            disk.cut_after(step);
            let _ = Slots::open(&disk).and_then(|slots| slots.write(b"the newer one"));
            disk.mend();
            let found = newest(&disk).expect("one of them");
            assert!(found == b"old" || found == b"the newer one", "{step}: {found:?}");
            Slots::open(&disk).unwrap().write(b"newest").unwrap();
            assert_eq!(newest(&disk).as_deref(), Some(b"newest".as_slice()));
        }
    }

    #[test]
    fn a_first_write_cut_short_is_none_or_whole() {
        for step in 0..60 {
            let disk = MemoryDisk::default();
            disk.cut_after(step);
            let _ = Slots::open(&disk).and_then(|slots| slots.write(b"first"));
            disk.mend();
            assert!(newest(&disk).is_none_or(|found| found == b"first"), "{step}");
        }
    }

    #[test]
    fn damage_of_one_copy_is_outlived_and_of_both_is_told() {
        let disk = MemoryDisk::default();
        Slots::open(&disk).unwrap().write(b"first").unwrap();
        disk.flip(HEAD_BYTES);
        assert_eq!(newest(&disk).as_deref(), Some(b"first".as_slice()));
        disk.flip(SLOT_BYTES + HEAD_BYTES);
        assert!(matches!(Slots::open(&disk).unwrap().newest(), Err(IdentityError::Damaged)));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let disk = MemoryDisk::default();
        let slots = Slots::open(&disk).unwrap();
        slots.write(&vec![1; CONTENT_MAX]).unwrap();
        assert_eq!(newest(&disk).map(|found| found.len()), Some(CONTENT_MAX));
        assert!(matches!(slots.write(&vec![1; CONTENT_MAX + 1]), Err(IdentityError::TooLong { .. })));
    }
}
