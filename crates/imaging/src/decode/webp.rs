//! WebP by libwebp: lossy, lossless, with alpha; of an animation the first frame on its canvas.
#![expect(unsafe_code, reason = "binding of a codec")]

use libwebp_sys as webp;

use super::Reduction;
use crate::error::ImagingError;
use crate::probe::{ImageFacts, SourceFormat};
use crate::raster::{Raster, Samples};

/// Decodes the first frame.
pub(crate) fn run(
    input: &[u8],
    facts: &ImageFacts,
    reduction: Reduction,
    into: &mut Raster,
) -> Result<(), ImagingError> {
    check_length(input)?;
    let (width, height) = (facts.width as usize, facts.height as usize);
    match first_frame(input)? {
        None => {
            let samples = if facts.alpha { Samples::Rgba } else { Samples::Rgb };
            into.reshape(width, height, samples);
            decode(input, reduction, into, (0, 0), (width, height))
        }
        Some(frame) => {
            into.reshape(width, height, Samples::Rgba);
            into.bytes.fill(0);
            if frame.left + frame.width > width || frame.top + frame.height > height {
                return Err(bad("a frame lies outside its canvas"));
            }
            decode(frame.bytes, reduction, into, (frame.left, frame.top), (frame.width, frame.height))
        }
    }
}

/// libwebp decodes what it can of a cut file; the length in its head tells that it was cut.
fn check_length(input: &[u8]) -> Result<(), ImagingError> {
    let claimed =
        input.get(4..8).and_then(|bytes| bytes.try_into().ok()).map_or(u32::MAX, u32::from_le_bytes);
    if u64::from(claimed) + 8 > input.len() as u64 + 1 {
        return Err(bad("it ends too early"));
    }
    Ok(())
}

struct Frame<'a> {
    left: usize,
    top: usize,
    width: usize,
    height: usize,
    bytes: &'a [u8],
}

/// The first ANMF chunk (RFC 9649 §2.7.1.1), if the file is an animation.
fn first_frame(input: &[u8]) -> Result<Option<Frame<'_>>, ImagingError> {
    let animated = input.get(12..16) == Some(b"VP8X") && input.get(20).is_some_and(|flags| flags & 0x02 != 0);
    if !animated {
        return Ok(None);
    }
    let body =
        crate::metadata::riff_chunk(input, b"ANMF").ok_or_else(|| bad("an animation without a frame"))?;
    let (head, bytes) = body.split_first_chunk::<16>().ok_or_else(|| bad("a frame without its header"))?;
    let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], 0]) as usize;
    Ok(Some(Frame {
        left: number(0) * 2,
        top: number(3) * 2,
        width: number(6) + 1,
        height: number(9) + 1,
        bytes,
    }))
}

/// Decodes one bitstream of exactly `size` into `into` at `at`.
fn decode(
    input: &[u8],
    reduction: Reduction,
    into: &mut Raster,
    at: (usize, usize),
    size: (usize, usize),
) -> Result<(), ImagingError> {
    // SAFETY: zeroes are a valid value of this C struct of integers and pointers; it is initialised next.
    let mut config: webp::WebPDecoderConfig = unsafe { std::mem::zeroed() };
    // SAFETY: the pointers are those of live values and one slice.
    let status = unsafe {
        if !webp::WebPInitDecoderConfig(&mut config) {
            return Err(ImagingError::internal("libwebp is of another version"));
        }
        webp::WebPGetFeatures(input.as_ptr(), input.len(), &mut config.input)
    };
    check(status)?;
    if (config.input.width as usize, config.input.height as usize) != size {
        return Err(bad("its headers tell different sizes"));
    }
    let channels = into.samples.channels();
    let from = at.1 * into.stride + at.0 * channels;
    let out = &mut into.bytes[from..];
    config.output.colorspace =
        if channels == 4 { webp::WEBP_CSP_MODE::MODE_RGBA } else { webp::WEBP_CSP_MODE::MODE_RGB };
    config.output.is_external_memory = 1;
    config.output.u.RGBA =
        webp::WebPRGBABuffer { rgba: out.as_mut_ptr(), stride: into.stride as i32, size: out.len() };
    config.options.bypass_filtering = i32::from(reduction.coarse);
    config.options.no_fancy_upsampling = i32::from(reduction.coarse);
    // SAFETY: the output describes exactly the live slice `out`, and libwebp checks stride and size against the picture
    // before it writes.
    check(unsafe { webp::WebPDecode(input.as_ptr(), input.len(), &mut config) })
}

fn check(status: webp::VP8StatusCode) -> Result<(), ImagingError> {
    match status {
        webp::VP8StatusCode::VP8_STATUS_OK => Ok(()),
        webp::VP8StatusCode::VP8_STATUS_OUT_OF_MEMORY => Err(ImagingError::internal("libwebp had no memory")),
        webp::VP8StatusCode::VP8_STATUS_NOT_ENOUGH_DATA | webp::VP8StatusCode::VP8_STATUS_SUSPENDED => {
            Err(bad("it ends too early"))
        }
        status => Err(bad(&format!("{status:?}"))),
    }
}

fn bad(what: &str) -> ImagingError {
    ImagingError::malformed(SourceFormat::WebP, what)
}
