//! JPEG by libjpeg-turbo: baseline, with Huffman tables of its own unless in haste.
#![expect(unsafe_code, reason = "binding of a codec")]

use std::ffi::{CStr, c_int};

use turbojpeg_sys as tj;

use super::Manner;
use crate::error::ImagingError;
use crate::metadata::Metadata;
use crate::raster::{Raster, Samples};
use crate::spec::Effort;

/// From this quality on colours keep their full resolution, as libvips has it.
const FULL_COLOR_QUALITY: u8 = 90;
/// JFIF's own head: SOI and APP0 of libjpeg.
const JFIF_HEAD: usize = 20;
/// What one APP2 segment carries of a profile (ICC.1:2022 annex B.4).
const PROFILE_PART: usize = 65_519;

/// A compressor, made at first use and kept.
#[derive(Default)]
pub(crate) struct Encoder {
    handle: Option<Handle>,
}

struct Handle(tj::tjhandle);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle came from tj3Init and is destroyed once.
        unsafe { tj::tj3Destroy(self.0) }
    }
}

impl Handle {
    fn new() -> Result<Self, ImagingError> {
        // SAFETY: no preconditions; null is checked.
        let handle = unsafe { tj::tj3Init(tj::TJINIT_TJINIT_COMPRESS as c_int) };
        if handle.is_null() {
            return Err(ImagingError::internal("no JPEG encoder could be made"));
        }
        Ok(Self(handle))
    }

    fn set(&self, param: tj::TJPARAM, value: c_int) -> Result<(), ImagingError> {
        // SAFETY: the handle is alive.
        match unsafe { tj::tj3Set(self.0, param as c_int, value) } {
            0 => Ok(()),
            _ => Err(self.failure()),
        }
    }

    fn failure(&self) -> ImagingError {
        // SAFETY: the handle is alive, and the string is owned by it and copied at once.
        let message = unsafe { CStr::from_ptr(tj::tj3GetErrorStr(self.0)) }.to_string_lossy();
        ImagingError::internal(format!("JPEG encoder: {message}"))
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
        let handle = match &mut self.handle {
            Some(handle) => handle,
            empty => empty.insert(Handle::new()?),
        };
        let gray = pixels.samples == Samples::Gray;
        let sampling = match (gray, manner.quality >= FULL_COLOR_QUALITY) {
            (true, _) => tj::TJSAMP_TJSAMP_GRAY,
            (false, true) => tj::TJSAMP_TJSAMP_444,
            (false, false) => tj::TJSAMP_TJSAMP_420,
        };
        handle.set(tj::TJPARAM_TJPARAM_SUBSAMP, sampling as c_int)?;
        handle.set(tj::TJPARAM_TJPARAM_QUALITY, c_int::from(manner.quality.clamp(1, 100)))?;
        handle.set(tj::TJPARAM_TJPARAM_OPTIMIZE, c_int::from(manner.effort == Effort::Normal))?;
        handle.set(tj::TJPARAM_TJPARAM_NOREALLOC, 1)?;
        compress(handle, pixels, sampling as c_int, out)?;
        let segments = segments(metadata);
        if !segments.is_empty() {
            out.splice(JFIF_HEAD..JFIF_HEAD, segments);
        }
        Ok(())
    }
}

fn compress(
    handle: &Handle,
    pixels: &Raster,
    sampling: c_int,
    out: &mut Vec<u8>,
) -> Result<(), ImagingError> {
    let (width, height) = (pixels.width as c_int, pixels.height as c_int);
    let format = if pixels.samples == Samples::Gray { tj::TJPF_TJPF_GRAY } else { tj::TJPF_TJPF_RGB };
    // SAFETY: no preconditions.
    let most = unsafe { tj::tj3JPEGBufSize(width, height, sampling) } as usize;
    out.resize(most, 0);
    let mut buffer = out.as_mut_ptr();
    let mut len = most as tj::size_t;
    let packed = pixels.packed();
    // SAFETY: source and target are live and as long as size and sampling demand; NOREALLOC keeps the target in place.
    let code = unsafe {
        let from = packed.as_ptr();
        let pitch = pixels.stride as c_int;
        tj::tj3Compress8(handle.0, from, width, pitch, height, format as c_int, &mut buffer, &mut len)
    };
    if code != 0 {
        return Err(handle.failure());
    }
    out.truncate(len as usize);
    Ok(())
}

/// APP1 and APP2 segments of EXIF and profile.
fn segments(metadata: &Metadata) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut segment = |marker: u8, parts: [&[u8]; 3]| {
        let len = parts.iter().map(|part| part.len()).sum::<usize>() + 2;
        bytes.extend([0xff, marker]);
        bytes.extend((len as u16).to_be_bytes());
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
    };
    if let Some(exif) = &metadata.exif {
        segment(0xe1, [b"Exif\0\0", exif, &[]]);
    }
    if let Some(icc) = &metadata.icc {
        let count = icc.len().div_ceil(PROFILE_PART);
        for (at, part) in icc.chunks(PROFILE_PART).enumerate() {
            segment(0xe2, [b"ICC_PROFILE\0", &[at as u8 + 1, count as u8], part]);
        }
    }
    bytes
}
