//! The probe on made files, cut files, giants and junk.

use crate::made;
use proptest::prelude::*;
use tutti_imaging::{ImageFacts, ProbeRead, SourceFormat, probe};

/// The budget of the server: 64 KiB in 64 jumps.
struct Budgeted<'a> {
    bytes: &'a [u8],
    left: usize,
    jumps: usize,
}

impl<'a> Budgeted<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, left: 64 << 10, jumps: 64 }
    }
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

fn facts(bytes: &[u8]) -> ImageFacts {
    probe(&mut Budgeted::new(bytes))
}

#[test]
fn made_files_tell_what_they_are() {
    let jpeg = facts(&made::jpeg(37, 21));
    assert_eq!((jpeg.format, jpeg.unknown), (Some(SourceFormat::Jpeg), false));
    assert_eq!((jpeg.width, jpeg.height, jpeg.bits, jpeg.channels), (37, 21, 8, 3));
    let png = facts(&made::png(png::ColorType::GrayscaleAlpha, png::BitDepth::Sixteen, 5, 9));
    assert_eq!((png.format, png.width, png.height, png.bits), (Some(SourceFormat::Png), 5, 9, 16));
    assert!(png.alpha && !png.progressive);
    let webp = facts(&made::webp(63, 64));
    assert_eq!((webp.format, webp.width, webp.height), (Some(SourceFormat::WebP), 63, 64));
    assert_eq!((webp.frames, webp.orientation), (1, 1));
    let animated = facts(&made::animated_webp(48, 32, 3));
    assert_eq!((animated.width, animated.height, animated.frames, animated.alpha), (48, 32, 3, true));
}

#[test]
fn the_orientation_is_found_in_every_container() {
    for orientation in 1..=8 {
        let exif = made::exif(orientation);
        assert_eq!(facts(&made::jpeg_with(&exif, 8, 8)).orientation, orientation);
        assert_eq!(facts(&made::png_with_chunk(b"eXIf", &exif, 8, 8)).orientation, orientation);
        assert_eq!(facts(&made::webp_with_exif(&exif, 8, 8)).orientation, orientation);
    }
    assert_eq!(facts(&made::jpeg_with(&made::exif(9), 8, 8)).orientation, 1, "no such orientation");
}

#[test]
fn a_size_behind_500_kb_of_profile_is_found() {
    let facts = facts(&made::jpeg_after_profile(500_000, 20, 10));
    assert_eq!((facts.unknown, facts.width, facts.height), (false, 20, 10));
}

#[test]
fn a_size_out_of_reach_is_unknown_and_the_format_is_not() {
    let mut bytes = vec![0xff, 0xd8];
    for _ in 0..5000 {
        bytes.extend([0xff, 0xe2, 0x04, 0x02]);
        bytes.resize(bytes.len() + 0x400, 0);
    }
    bytes.extend(&made::jpeg(9, 9)[2..]);
    let facts = facts(&bytes);
    assert_eq!((facts.format, facts.unknown), (Some(SourceFormat::Jpeg), true));
}

#[test]
fn every_truncation_is_survived_and_never_invents_a_size() {
    for file in made::all() {
        let whole = facts(&file);
        for len in 0..file.len() {
            let cut = facts(&file[..len]);
            assert!(cut.unknown || (cut.width, cut.height) == (whole.width, whole.height), "cut at {len}");
        }
    }
}

#[test]
fn known_formats_are_named_though_not_decoded() {
    let cases: [(&[u8], SourceFormat); 10] = [
        (b"GIF89a\x10\0\x20\0......", SourceFormat::Gif),
        (b"\0\0\0\x20ftypavif\0\0\0\0avifmif1", SourceFormat::Avif),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1heic", SourceFormat::Heic),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", SourceFormat::Heic),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", SourceFormat::Svg),
        (b"\xef\xbb\xbf <?xml version='1.0'?><svg/>", SourceFormat::Svg),
        (b"II*\0\x08\0\0\0", SourceFormat::Tiff),
        (b"MM\0*\0\0\0\x08", SourceFormat::Tiff),
        (b"BM\x10\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0\x07\0\0\0\x09\0\0\0", SourceFormat::Bmp),
        (&[0xff, 0xd8, 0xff, 0xe0], SourceFormat::Jpeg),
    ];
    for (bytes, format) in cases {
        assert_eq!(facts(bytes).format, Some(format), "{}", format.name());
    }
    assert_eq!((facts(cases[0].0).width, facts(cases[0].0).height), (16, 32));
    assert_eq!((facts(cases[8].0).width, facts(cases[8].0).height), (7, 9));
    for junk in [&b""[..], b"<html><svg", b"hello", b"\0\0\0\x18ftypmp42\0\0\0\0", &[0xff]] {
        assert_eq!(facts(junk).format, None);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        facts(&bytes);
    }

    #[test]
    fn no_mutation_makes_it_panic(which in 0..8_usize, edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..12)) {
        let files = made::all();
        let mut file = files[which % files.len()].clone();
        for (at, value) in edits {
            let at = usize::from(at) % file.len().min(200);
            file[at] = value;
        }
        let facts = facts(&file);
        prop_assert!((1..=8).contains(&facts.orientation));
        prop_assert!(facts.unknown || facts.pixels() > 0);
    }
}
