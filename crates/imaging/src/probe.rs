//! What the header of an image tells, found by bounded reads. Safe Rust that never panics; decodes nothing.
#![forbid(unsafe_code)]

mod exif;
mod jpeg;
mod other;
mod png;
mod webp;

pub(crate) use exif::{COPYRIGHT_TAGS, ascii_fields, with_orientation_one};

/// Reads the head of an input in few jumps; its implementor keeps the budget.
pub trait ProbeRead {
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

/// Bytes in memory, without a budget: what an engine probes.
impl ProbeRead for &[u8] {
    fn len(&self) -> u64 {
        (**self).len() as u64
    }
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Option<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Some(count)
    }
}

/// A format by content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "their names say it")]
pub enum SourceFormat {
    Jpeg,
    Png,
    WebP,
    Gif,
    Avif,
    Heic,
    Svg,
    Tiff,
    Bmp,
}

impl SourceFormat {
    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            SourceFormat::Jpeg => "JPEG",
            SourceFormat::Png => "PNG",
            SourceFormat::WebP => "WebP",
            SourceFormat::Gif => "GIF",
            SourceFormat::Avif => "AVIF",
            SourceFormat::Heic => "HEIC",
            SourceFormat::Svg => "SVG",
            SourceFormat::Tiff => "TIFF",
            SourceFormat::Bmp => "BMP",
        }
    }

    /// The media type.
    pub const fn media(self) -> &'static str {
        match self {
            SourceFormat::Jpeg => "image/jpeg",
            SourceFormat::Png => "image/png",
            SourceFormat::WebP => "image/webp",
            SourceFormat::Gif => "image/gif",
            SourceFormat::Avif => "image/avif",
            SourceFormat::Heic => "image/heic",
            SourceFormat::Svg => "image/svg+xml",
            SourceFormat::Tiff => "image/tiff",
            SourceFormat::Bmp => "image/bmp",
        }
    }

    /// The format of this media type.
    pub fn of_media(media: &str) -> Option<Self> {
        use SourceFormat::*;
        [Jpeg, Png, WebP, Gif, Avif, Heic, Svg, Tiff, Bmp].into_iter().find(|format| format.media() == media)
    }

    /// Whether a renderer can decode it.
    pub const fn decodable(self) -> bool {
        matches!(self, SourceFormat::Jpeg | SourceFormat::Png | SourceFormat::WebP)
    }
}

/// What an input is. Where `unknown` is set, size and the like were not found within the budget, and the input is to be
/// charged as the worst of its class.
#[derive(Clone, PartialEq, Debug)]
pub struct ImageFacts {
    /// The format by content; none when it is none that is known.
    pub format: Option<SourceFormat>,
    /// Whether size and frames could not be found.
    pub unknown: bool,
    /// Width in pixels as stored, before any orientation.
    pub width: u32,
    /// Height in pixels as stored.
    pub height: u32,
    /// Number of frames; 1 for a still. Only the first is rendered.
    pub frames: u32,
    /// Bits per sample.
    pub bits: u8,
    /// Samples per pixel.
    pub channels: u8,
    /// Whether there may be transparency.
    pub alpha: bool,
    /// Progressive or interlaced, which costs more memory and time.
    pub progressive: bool,
    /// Stored as CMYK or YCCK.
    pub cmyk: bool,
    /// EXIF orientation 1 to 8; 1 when absent.
    pub orientation: u8,
    /// Length of the input in bytes.
    pub bytes: u64,
}

impl ImageFacts {
    /// Nothing is known but the length.
    pub fn unknown(bytes: u64) -> Self {
        Self {
            format: None,
            unknown: true,
            width: 0,
            height: 0,
            frames: 1,
            bits: 0,
            channels: 0,
            alpha: false,
            progressive: false,
            cmyk: false,
            orientation: 1,
            bytes,
        }
    }

    /// Number of pixels of one frame.
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Notes a size; a size of zero stays unknown.
    fn sized(&mut self, width: u32, height: u32) {
        (self.width, self.height) = (width, height);
        self.unknown = width == 0 || height == 0;
    }
}

/// Finds what the head of an input tells. Never panics, whatever the bytes are, and reads no more than `reader` lets it.
pub fn probe(reader: &mut dyn ProbeRead) -> ImageFacts {
    let mut facts = ImageFacts::unknown(reader.len());
    let mut window = Window::new(reader);
    facts.format = window.upto(0, other::MAGIC).and_then(other::sniff);
    // What a parser has noted before it fails stands: the rest stays unknown.
    let _found = match facts.format {
        Some(SourceFormat::Jpeg) => jpeg::read(&mut window, &mut facts),
        Some(SourceFormat::Png) => png::read(&mut window, &mut facts),
        Some(SourceFormat::WebP) => webp::read(&mut window, &mut facts),
        Some(_) => other::read(&mut window, &mut facts),
        None => None,
    };
    facts
}

/// A small window that slides over the input, so that neighbouring fields cost one read.
struct Window<'a> {
    reader: &'a mut dyn ProbeRead,
    bytes: [u8; Window::SIZE],
    start: u64,
    filled: usize,
}

impl<'a> Window<'a> {
    /// 64 jumps of it are 64 KiB: both halves of the budget end together.
    const SIZE: usize = 1024;

    fn new(reader: &'a mut dyn ProbeRead) -> Self {
        Self { reader, bytes: [0; Self::SIZE], start: 0, filled: 0 }
    }

    /// Exactly `count` bytes at `offset`, at most [`Window::SIZE`]; none at the end of the input or of the budget.
    fn get(&mut self, offset: u64, count: usize) -> Option<&[u8]> {
        let bytes = self.upto(offset, count)?;
        (bytes.len() == count).then_some(bytes)
    }

    /// Up to `count` bytes at `offset`, fewer at the end of the input.
    fn upto(&mut self, offset: u64, count: usize) -> Option<&[u8]> {
        debug_assert!(count <= Self::SIZE);
        let end = offset.checked_add(count as u64)?;
        let held = offset >= self.start && end <= self.start + self.filled as u64;
        if !held {
            if offset >= self.reader.len() {
                return None;
            }
            self.filled = self.reader.read_at(offset, &mut self.bytes)?.min(Self::SIZE);
            self.start = offset;
        }
        let from = usize::try_from(offset - self.start).ok()?;
        self.bytes[..self.filled].get(from..(from + count).min(self.filled))
    }

    fn u8(&mut self, offset: u64) -> Option<u8> {
        self.get(offset, 1).map(|bytes| bytes[0])
    }

    fn array<const N: usize>(&mut self, offset: u64) -> Option<[u8; N]> {
        self.get(offset, N)?.try_into().ok()
    }
}
