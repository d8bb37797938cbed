//! What holds of the probe on any bytes. Shared by the replay of the corpora and the fuzz targets `probe_*`.

use tutti_imaging::{ImageFacts, ProbeRead, SourceFormat, probe};

/// The budget of the server: 64 KiB in 64 jumps.
struct Budgeted<'a> {
    bytes: &'a [u8],
    left: usize,
    jumps: usize,
}

impl ProbeRead for Budgeted<'_> {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Option<usize> {
        self.jumps = self.jumps.checked_sub(1)?;
        let allowed = into.len().min(self.left);
        if allowed == 0 {
            return None;
        }
        self.left -= allowed;
        let mut bytes = self.bytes;
        bytes.read_at(offset, &mut into[..allowed])
    }
}

/// Panics when the probe breaks a promise on `bytes`, once they are made to begin as a file of `format` does, so that
/// no run is wasted on what is told by its first bytes.
pub(crate) fn holds(format: SourceFormat, bytes: &[u8]) -> ImageFacts {
    let mut file = bytes.to_vec();
    let magic: &[(usize, &[u8])] = match format {
        SourceFormat::Jpeg => &[(0, b"\xff\xd8\xff")],
        SourceFormat::Png => &[(0, b"\x89PNG\r\n\x1a\n")],
        SourceFormat::WebP => &[(0, b"RIFF"), (8, b"WEBP")],
        other => panic!("{} has no fuzz target", other.name()),
    };
    for (at, word) in magic {
        let end = at + word.iter().len();
        file.resize(file.len().max(end), 0);
        file[*at..end].copy_from_slice(word);
    }
    let facts = probe(&mut Budgeted { bytes: &file, left: 64 << 10, jumps: 64 });
    assert_eq!(facts.format, Some(format));
    assert!((1..=8).contains(&facts.orientation), "an orientation of {}", facts.orientation);
    assert!(facts.unknown || facts.pixels() > 0, "a size of nothing is said to be known");
    assert_eq!(facts.bytes, file.len() as u64);
    facts
}
