//! What a file carries beside its pixels: profile, EXIF, copyright. Finds and writes containers; decodes no pixels.

use libdeflater::Decompressor;

use crate::probe::{COPYRIGHT_TAGS, SourceFormat, ascii_fields, with_orientation_one};
use crate::spec::Spec;

/// The longest colour profile that is used, in bytes; longer ones are left away (a bomb in iCCP ends here).
const MAX_PROFILE: usize = 4 << 20;
/// The longest EXIF that is kept, in bytes: what one JPEG segment holds.
const MAX_EXIF: usize = 65_000;

/// What is known beside the pixels.
#[derive(Clone, Default, PartialEq, Debug)]
pub(crate) struct Metadata {
    /// The ICC profile.
    pub(crate) icc: Option<Vec<u8>>,
    /// EXIF as a TIFF without any prefix.
    pub(crate) exif: Option<Vec<u8>>,
}

impl Metadata {
    /// Finds profile and EXIF in a file; what is damaged is as if it were not there.
    pub(crate) fn of(format: SourceFormat, input: &[u8]) -> Self {
        match format {
            SourceFormat::Jpeg => of_jpeg(input),
            SourceFormat::Png => of_png(input),
            SourceFormat::WebP => of_webp(input),
            _ => Self::default(),
        }
    }

    /// What of it the job wants kept. The profile is decided where colours are: it stays as it is here.
    pub(crate) fn kept(self, spec: &Spec) -> Self {
        let exif = self.exif.filter(|exif| exif.len() <= MAX_EXIF);
        let exif = match (spec.strip_metadata, spec.keep_copyright) {
            (false, _) if spec.auto_rotate => exif.map(|exif| with_orientation_one(&exif)),
            (false, _) => exif,
            (true, true) => exif.and_then(|exif| copyright_only(&exif)),
            (true, false) => None,
        };
        Self { icc: self.icc, exif }
    }
}

/// A TIFF of the copyright fields alone.
fn copyright_only(exif: &[u8]) -> Option<Vec<u8>> {
    let fields = ascii_fields(exif, &COPYRIGHT_TAGS);
    if fields.is_empty() {
        return None;
    }
    let mut tiff = b"II*\0\x08\0\0\0".to_vec();
    tiff.extend((fields.len() as u16).to_le_bytes());
    let mut values = Vec::new();
    let behind = 8 + 2 + fields.len() * 12 + 4;
    for (tag, text) in &fields {
        tiff.extend(tag.to_le_bytes());
        tiff.extend(2_u16.to_le_bytes());
        tiff.extend((text.len() as u32).to_le_bytes());
        if text.len() <= 4 {
            let mut short = text.clone();
            short.resize(4, 0);
            tiff.extend(short);
        } else {
            tiff.extend(((behind + values.len()) as u32).to_le_bytes());
            values.extend_from_slice(text);
            values.resize(values.len().next_multiple_of(2), 0);
        }
    }
    tiff.extend([0; 4]);
    tiff.extend(values);
    (tiff.len() <= MAX_EXIF).then_some(tiff)
}

/// The marker segments of a JPEG before its first scan: marker and body.
pub(crate) fn jpeg_segments(input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut at = 2;
    std::iter::from_fn(move || {
        loop {
            while *input.get(at)? == 0xff && input.get(at + 1) == Some(&0xff) {
                at += 1;
            }
            let [0xff, marker] = *input.get(at..)?.first_chunk::<2>()? else { return None };
            at += 2;
            if matches!(marker, 0x01 | 0xd0..=0xd8) {
                continue;
            }
            if matches!(marker, 0xd9 | 0xda) {
                return None;
            }
            let len = usize::from(u16::from_be_bytes(*input.get(at..)?.first_chunk::<2>()?));
            let body = input.get(at + 2..at + len)?;
            at += len;
            return Some((marker, body));
        }
    })
}

fn of_jpeg(input: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    let mut parts: Vec<(u8, &[u8])> = Vec::new();
    for (marker, body) in jpeg_segments(input) {
        match marker {
            0xe1 if metadata.exif.is_none() => {
                metadata.exif = body.strip_prefix(b"Exif\0\0").map(<[u8]>::to_vec);
            }
            // ICC.1:2022 annex B.4: sequence number and count stand before each part.
            0xe2 => {
                if let Some([number, _count, part @ ..]) = body.strip_prefix(b"ICC_PROFILE\0") {
                    parts.push((*number, part));
                }
            }
            _ => {}
        }
    }
    parts.sort_by_key(|(number, _)| *number);
    let icc: Vec<u8> = parts.iter().flat_map(|(_, part)| part.iter().copied()).collect();
    metadata.icc = (!icc.is_empty() && icc.len() <= MAX_PROFILE).then_some(icc);
    metadata
}

/// One chunk of a PNG.
pub(crate) struct PngChunk<'a> {
    pub(crate) name: [u8; 4],
    pub(crate) body: &'a [u8],
    /// Name and body, which the checksum covers; none when the file ends in it.
    sum: Option<(&'a [u8], u32)>,
}

impl PngChunk<'_> {
    /// Whether it is all there and its checksum is right.
    pub(crate) fn is_whole(&self) -> bool {
        self.sum.is_some_and(|(bytes, sum)| crc32fast::hash(bytes) == sum)
    }
}

/// The chunks of a PNG; the last may be cut off.
pub(crate) struct PngChunks<'a> {
    rest: &'a [u8],
}

impl<'a> PngChunks<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        Self { rest: input.get(8..).unwrap_or_default() }
    }
}

impl<'a> Iterator for PngChunks<'a> {
    type Item = PngChunk<'a>;

    fn next(&mut self) -> Option<PngChunk<'a>> {
        let [l0, l1, l2, l3, name @ ..] = *self.rest.first_chunk::<8>()?;
        let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        let whole = self.rest.get(4..8 + len).zip(self.rest.get(8 + len..12 + len));
        let chunk = match whole {
            Some((covered, sum)) => {
                let sum = sum.first_chunk::<4>().map(|sum| (covered, u32::from_be_bytes(*sum)));
                PngChunk { name, body: &covered[4..], sum }
            }
            None => PngChunk { name, body: &[], sum: None },
        };
        self.rest = self.rest.get(12 + len..).unwrap_or_default();
        Some(chunk)
    }
}

fn of_png(input: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    for chunk in PngChunks::new(input) {
        match &chunk.name {
            b"iCCP" if metadata.icc.is_none() => metadata.icc = png_profile(chunk.body),
            b"eXIf" if metadata.exif.is_none() => metadata.exif = Some(chunk.body.to_vec()),
            b"IEND" => break,
            _ => {}
        }
    }
    metadata
}

/// The profile of an iCCP body: a name, a method byte, then zlib. Nothing longer than [`MAX_PROFILE`] is inflated.
fn png_profile(body: &[u8]) -> Option<Vec<u8>> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let stream = body.get(end + 2..)?;
    let size = (stream.len() * 8).clamp(4096, MAX_PROFILE);
    let mut sizes = [size, MAX_PROFILE].into_iter();
    sizes.find_map(|size| {
        let mut profile = vec![0; size];
        let len = Decompressor::new().zlib_decompress(stream, &mut profile).ok()?;
        profile.truncate(len);
        Some(profile)
    })
}

/// The body of the first chunk of this name in a RIFF file.
pub(crate) fn riff_chunk<'a>(input: &'a [u8], wanted: &[u8; 4]) -> Option<&'a [u8]> {
    let mut rest = input.get(12..)?;
    loop {
        let [a, b, c, d, len @ ..] = *rest.first_chunk::<8>()?;
        let len = u32::from_le_bytes(len) as usize;
        if [a, b, c, d] == *wanted {
            return rest.get(8..8 + len);
        }
        rest = rest.get(8 + len + len % 2..)?;
    }
}

fn of_webp(input: &[u8]) -> Metadata {
    let icc = riff_chunk(input, b"ICCP").filter(|icc| icc.len() <= MAX_PROFILE).map(<[u8]>::to_vec);
    let exif = riff_chunk(input, b"EXIF").map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif).to_vec());
    Metadata { icc, exif }
}
