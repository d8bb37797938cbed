//! PNG (W3C third edition) in safe Rust around libdeflate: every depth and colour type, interlaced or not, with
//! transparency; of an animation the default image. Ancillary chunks are never inflated here.

mod expand;
mod interlace;
mod unfilter;

use libdeflater::{DecompressionError, Decompressor};

use crate::error::ImagingError;
use crate::metadata::PngChunks;
use crate::probe::{ImageFacts, SourceFormat};
use crate::raster::{Raster, Samples};

use expand::{Expander, Palette};

/// A decoder with its buffers.
pub(crate) struct Decoder {
    inflate: Decompressor,
    /// The zlib stream, gathered where it lies in several chunks.
    stream: Vec<u8>,
    /// Filtered rows, where they are not unfiltered in the raster itself.
    rows: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflate: Decompressor::new(), stream: Vec::new(), rows: Vec::new() }
    }
}

/// What IHDR says.
#[derive(Clone, Copy)]
struct Header {
    width: usize,
    height: usize,
    depth: u8,
    color: u8,
    interlaced: bool,
}

impl Header {
    fn parse(body: &[u8]) -> Result<Self, ImagingError> {
        let [w0, w1, w2, w3, h0, h1, h2, h3, depth, color, compression, filter, interlace] =
            *body.first_chunk::<13>().ok_or_else(|| bad("its header is too short"))?;
        let fits = match color {
            0 => matches!(depth, 1 | 2 | 4 | 8 | 16),
            3 => matches!(depth, 1 | 2 | 4 | 8),
            2 | 4 | 6 => matches!(depth, 8 | 16),
            _ => false,
        };
        if !fits || compression != 0 || filter != 0 || interlace > 1 {
            return Err(bad("its header has values that no PNG has"));
        }
        Ok(Self {
            width: u32::from_be_bytes([w0, w1, w2, w3]) as usize,
            height: u32::from_be_bytes([h0, h1, h2, h3]) as usize,
            depth,
            color,
            interlaced: interlace == 1,
        })
    }

    fn bits_per_pixel(self) -> usize {
        let channels = match self.color {
            2 => 3,
            4 => 2,
            6 => 4,
            _ => 1,
        };
        channels * usize::from(self.depth)
    }

    fn row_bytes(self, width: usize) -> usize {
        (width * self.bits_per_pixel()).div_ceil(8)
    }
}

/// What the chunks say beside the header.
#[derive(Default)]
struct Content<'a> {
    header: Option<Header>,
    palette: Option<Palette>,
    transparent: Option<&'a [u8]>,
    image: Vec<&'a [u8]>,
}

impl Decoder {
    /// Decodes the default image to 8 bits a sample; palettes become RGB, and transparent colours alpha.
    pub(crate) fn run(
        &mut self,
        input: &[u8],
        facts: &ImageFacts,
        into: &mut Raster,
    ) -> Result<(), ImagingError> {
        let content = read_chunks(input)?;
        let header = content.header.ok_or_else(|| bad("it has no header"))?;
        if (header.width, header.height) != (facts.width as usize, facts.height as usize) {
            return Err(bad("its header changed its mind"));
        }
        let alpha = content.transparent.is_some() && matches!(header.color, 0 | 2 | 3);
        let direct = header.depth == 8 && header.color != 3 && !alpha && !header.interlaced;
        if direct {
            return self.in_place(header, &content, into);
        }
        let size = if header.interlaced { interlace::size(header) } else { plain_size(header) };
        let Self { inflate, stream, rows } = self;
        inflated(inflate, gather(&content.image, stream), rows, size)?;
        into.reshape(header.width, header.height, samples_of(header.color, alpha));
        let expander = Expander::of(header, &content)?;
        if header.interlaced {
            interlace::rows(rows, &expander, into)
        } else {
            plain_rows(rows, &expander, into)
        }
    }

    /// Frees buffers that are larger than `most` bytes.
    pub(crate) fn give_back(&mut self, most: usize) {
        for buffer in [&mut self.stream, &mut self.rows] {
            if buffer.capacity() > most {
                *buffer = Vec::new();
            }
        }
    }

    /// Unfilters in the raster itself, whose rows then begin behind their filter bytes.
    fn in_place(
        &mut self,
        header: Header,
        content: &Content<'_>,
        into: &mut Raster,
    ) -> Result<(), ImagingError> {
        let stride = header.row_bytes(header.width) + 1;
        let stream = gather(&content.image, &mut self.stream);
        inflated(&mut self.inflate, stream, &mut into.bytes, stride * header.height)?;
        unfilter::rows(&mut into.bytes, stride, header.bits_per_pixel() / 8)?;
        (into.width, into.height, into.samples) =
            (header.width, header.height, samples_of(header.color, false));
        (into.offset, into.stride) = (1, stride);
        Ok(())
    }
}

/// The zlib stream in one piece: where it lies, if it is one chunk, else gathered.
fn gather<'a>(parts: &[&'a [u8]], buffer: &'a mut Vec<u8>) -> &'a [u8] {
    if let [one] = parts {
        return one;
    }
    buffer.clear();
    parts.iter().for_each(|part| buffer.extend_from_slice(part));
    buffer
}

fn plain_size(header: Header) -> usize {
    (header.row_bytes(header.width) + 1) * header.height
}

fn plain_rows(rows: &mut [u8], expander: &Expander, into: &mut Raster) -> Result<(), ImagingError> {
    let header = expander.header;
    let stride = header.row_bytes(header.width) + 1;
    unfilter::rows(rows, stride, header.bits_per_pixel().div_ceil(8))?;
    for (y, row) in rows.chunks_exact(stride).enumerate() {
        expander.row(&row[1..], into.row_mut(y));
    }
    Ok(())
}

const fn samples_of(color: u8, alpha: bool) -> Samples {
    match (color, alpha) {
        (0, false) => Samples::Gray,
        (0, true) | (4, _) => Samples::GrayAlpha,
        (2 | 3, false) => Samples::Rgb,
        _ => Samples::Rgba,
    }
}

/// Reads the chunks up to the end of the image; the checksums of critical chunks must be right.
fn read_chunks(input: &[u8]) -> Result<Content<'_>, ImagingError> {
    let mut content = Content::default();
    let mut ended = false;
    for chunk in PngChunks::new(input) {
        if !chunk.name[0].is_ascii_uppercase() && chunk.name != *b"tRNS" {
            continue;
        }
        if !chunk.is_whole() {
            return Err(bad("a checksum is wrong or a chunk is cut off"));
        }
        match &chunk.name {
            b"IHDR" if content.header.is_none() => content.header = Some(Header::parse(chunk.body)?),
            b"PLTE" => {
                content.palette = Some(Palette::parse(chunk.body).ok_or_else(|| bad("its palette is odd"))?)
            }
            b"tRNS" => content.transparent = Some(chunk.body),
            b"IDAT" => content.image.push(chunk.body),
            b"IEND" => {
                ended = true;
                break;
            }
            _ => return Err(bad("it has a critical chunk that is unknown")),
        }
    }
    if ended { Ok(content) } else { Err(bad("it ends too early")) }
}

/// Deflate cannot make more of a byte than this (RFC 1951: 258 bytes for two bits).
const MAX_INFLATION: usize = 1032;

/// Inflates exactly as many bytes as the image has. A stream that cannot be that long costs no memory.
fn inflated(
    inflate: &mut Decompressor,
    stream: &[u8],
    into: &mut Vec<u8>,
    size: usize,
) -> Result<(), ImagingError> {
    if size > stream.len().saturating_mul(MAX_INFLATION) {
        return Err(bad("its image data end too early"));
    }
    into.resize(size, 0);
    match inflate.zlib_decompress(stream, into) {
        Ok(count) if count == size => Ok(()),
        Ok(_) => Err(bad("its image data end too early")),
        Err(DecompressionError::InsufficientSpace) => Err(bad("its image data are longer than the image")),
        Err(DecompressionError::BadData) => Err(bad("its image data are cut off or cannot be inflated")),
    }
}

fn bad(what: &str) -> ImagingError {
    ImagingError::malformed(SourceFormat::Png, what)
}
