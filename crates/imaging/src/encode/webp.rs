//! WebP by libwebp: lossy, with lossless alpha.
#![expect(unsafe_code, reason = "binding of a codec")]

use std::ffi::{c_int, c_void};

use libwebp_sys as webp;

use super::Manner;
use crate::error::ImagingError;
use crate::metadata::Metadata;
use crate::raster::Raster;
use crate::spec::Effort;

/// libwebp's methods 0 to 6, chosen with the measure example.
const NORMAL_METHOD: c_int = 4;
const LEAST_METHOD: c_int = 0;
/// The longest side of the format.
pub(crate) const MAX_SIDE: u32 = 16_383;

/// Keeps what a container is put together from.
#[derive(Default)]
pub(crate) struct Encoder {
    spare: Vec<u8>,
}

struct Picture(webp::WebPPicture);

impl Drop for Picture {
    fn drop(&mut self) {
        // SAFETY: the picture was initialised; freeing is allowed at any time after.
        unsafe { webp::WebPPictureFree(&mut self.0) }
    }
}

impl Encoder {
    pub(crate) fn run(
        &mut self,
        pixels: &Raster,
        manner: Manner,
        metadata: &Metadata,
        out: &mut Vec<u8>,
    ) -> Result<(), ImagingError> {
        encode(pixels, manner, out)?;
        if metadata.icc.is_some() || metadata.exif.is_some() {
            self.spare.clear();
            wrap(out, pixels, metadata, &mut self.spare);
            std::mem::swap(out, &mut self.spare);
        }
        Ok(())
    }
}

fn encode(pixels: &Raster, manner: Manner, out: &mut Vec<u8>) -> Result<(), ImagingError> {
    let config = config(manner)?;
    // SAFETY: zeroes are a valid value of this C struct of integers and pointers; it is initialised next.
    let mut picture = Picture(unsafe { std::mem::zeroed() });
    // SAFETY: the pointer is that of a live value.
    if !unsafe { webp::WebPPictureInit(&mut picture.0) } {
        return Err(ImagingError::internal("libwebp is of another version"));
    }
    picture.0.width = pixels.width as c_int;
    picture.0.height = pixels.height as c_int;
    let packed = pixels.packed();
    let stride = pixels.stride as c_int;
    // SAFETY: the pixels are width x height with this stride, as the picture was told.
    let imported = unsafe {
        if pixels.samples.has_alpha() {
            webp::WebPPictureImportRGBA(&mut picture.0, packed.as_ptr(), stride)
        } else {
            webp::WebPPictureImportRGB(&mut picture.0, packed.as_ptr(), stride)
        }
    };
    if imported == 0 {
        return Err(ImagingError::internal("libwebp had no memory"));
    }
    picture.0.writer = Some(append);
    picture.0.custom_ptr = std::ptr::from_mut(out).cast();
    // SAFETY: the writer gets back the pointer to `out`, which outlives the call and is not touched during it.
    if unsafe { webp::WebPEncode(&config, &mut picture.0) } == 0 {
        return Err(ImagingError::internal(format!("WebP encoder: {:?}", picture.0.error_code)));
    }
    Ok(())
}

fn config(manner: Manner) -> Result<webp::WebPConfig, ImagingError> {
    // SAFETY: zeroes are a valid value of this C struct of numbers; it is initialised next.
    let mut config: webp::WebPConfig = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is that of a live value.
    if !unsafe { webp::WebPInitConfig(&mut config) } {
        return Err(ImagingError::internal("libwebp is of another version"));
    }
    config.quality = f32::from(manner.quality);
    config.method = if manner.effort == Effort::Normal { NORMAL_METHOD } else { LEAST_METHOD };
    Ok(config)
}

/// Appends what libwebp writes to the vector behind `custom_ptr`.
extern "C" fn append(bytes: *const u8, len: usize, picture: *const webp::WebPPicture) -> c_int {
    // SAFETY: libwebp passes a live slice, and the picture whose `custom_ptr` is the vector set in `encode`.
    let (bytes, out) = unsafe {
        let out: *mut c_void = (*picture).custom_ptr;
        (std::slice::from_raw_parts(bytes, len), &mut *out.cast::<Vec<u8>>())
    };
    out.extend_from_slice(bytes);
    1
}

/// Puts metadata around a simple or extended file (RFC 9649 §2.7).
fn wrap(file: &[u8], pixels: &Raster, metadata: &Metadata, out: &mut Vec<u8>) {
    const PROFILE: u8 = 0x20;
    const ALPHA: u8 = 0x10;
    const EXIF: u8 = 0x08;
    let chunks = file.get(12..).unwrap_or_default();
    // libwebp's own VP8X is ten bytes behind eight, and comes first.
    let chunks = if chunks.starts_with(b"VP8X") { &chunks[18..] } else { chunks };
    let mut flags = 0;
    flags |= if metadata.icc.is_some() { PROFILE } else { 0 };
    flags |= if metadata.exif.is_some() { EXIF } else { 0 };
    flags |= if pixels.samples.has_alpha() { ALPHA } else { 0 };
    let [w0, w1, w2, _] = (pixels.width as u32 - 1).to_le_bytes();
    let [h0, h1, h2, _] = (pixels.height as u32 - 1).to_le_bytes();
    out.extend(b"RIFF\0\0\0\0WEBP");
    riff(out, b"VP8X", &[flags, 0, 0, 0, w0, w1, w2, h0, h1, h2]);
    if let Some(icc) = &metadata.icc {
        riff(out, b"ICCP", icc);
    }
    out.extend_from_slice(chunks);
    if let Some(exif) = &metadata.exif {
        riff(out, b"EXIF", exif);
    }
    let len = (out.len() - 8) as u32;
    out[4..8].copy_from_slice(&len.to_le_bytes());
}

fn riff(out: &mut Vec<u8>, name: &[u8; 4], body: &[u8]) {
    out.extend(name);
    out.extend((body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(2), 0);
}
