//! JPEG by libjpeg-turbo, at full size or reduced in its DCT. Decodes nothing that is over its limits.
#![expect(unsafe_code, reason = "binding of a codec")]

use std::ffi::{CStr, c_int};

use turbojpeg_sys as tj;

use super::Reduction;
use crate::error::ImagingError;
use crate::probe::{ImageFacts, SourceFormat};
use crate::raster::{Raster, Samples};

/// Scans of a progressive file: real ones have about ten, and each costs a pass over all coefficients.
const MAX_SCANS: c_int = 64;
/// Memory of libjpeg for one image, in MiB: coefficients of a progressive image of 50 Mpx with three full channels.
const MAX_MEMORY_MIB: c_int = 512;

/// A decompressor, made at first use and kept.
#[derive(Default)]
pub(crate) struct Decoder {
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
        let handle = unsafe { tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as c_int) };
        if handle.is_null() {
            return Err(ImagingError::internal("no JPEG decoder could be made"));
        }
        let handle = Self(handle);
        handle.set(tj::TJPARAM_TJPARAM_SCANLIMIT, MAX_SCANS)?;
        handle.set(tj::TJPARAM_TJPARAM_MAXMEMORY, MAX_MEMORY_MIB)?;
        Ok(handle)
    }

    fn set(&self, param: tj::TJPARAM, value: c_int) -> Result<(), ImagingError> {
        // SAFETY: the handle is alive.
        match unsafe { tj::tj3Set(self.0, param as c_int, value) } {
            0 => Ok(()),
            _ => Err(ImagingError::internal(format!("JPEG parameter {param}: {}", self.message()))),
        }
    }

    fn get(&self, param: tj::TJPARAM) -> c_int {
        // SAFETY: the handle is alive.
        unsafe { tj::tj3Get(self.0, param as c_int) }
    }

    fn message(&self) -> String {
        // SAFETY: the handle is alive, and the string is owned by it and copied at once.
        unsafe { CStr::from_ptr(tj::tj3GetErrorStr(self.0)) }.to_string_lossy().into_owned()
    }

    /// What a failed call means. Warnings about junk that hurts no pixel are let pass.
    fn verdict(&self) -> Result<(), ImagingError> {
        // SAFETY: the handle is alive.
        let warning = unsafe { tj::tj3GetErrorCode(self.0) } == tj::TJERR_TJERR_WARNING as c_int;
        let message = self.message();
        const HARMLESS: [&str; 4] =
            ["extraneous bytes before marker", "Adobe color transform", "JFIF", "ICC"];
        if warning && HARMLESS.iter().any(|word| message.contains(word)) {
            return Ok(());
        }
        Err(ImagingError::malformed(SourceFormat::Jpeg, message))
    }
}

impl Decoder {
    /// Decodes into RGB, grey or ink, at the smallest size in eighths that `reduction` allows.
    pub(crate) fn run(
        &mut self,
        input: &[u8],
        facts: &ImageFacts,
        reduction: Reduction,
        into: &mut Raster,
    ) -> Result<(), ImagingError> {
        let handle = match &mut self.handle {
            Some(handle) => handle,
            empty => empty.insert(Handle::new()?),
        };
        let done = decode(handle, input, facts, reduction, into);
        if done.is_err() {
            // Start the next job from a clean state, whatever this one left behind.
            self.handle = None;
        }
        done
    }
}

fn decode(
    handle: &Handle,
    input: &[u8],
    facts: &ImageFacts,
    reduction: Reduction,
    into: &mut Raster,
) -> Result<(), ImagingError> {
    // SAFETY: pointer and length are those of one slice.
    if unsafe { tj::tj3DecompressHeader(handle.0, input.as_ptr(), input.len() as tj::size_t) } != 0 {
        handle.verdict()?;
    }
    let width = handle.get(tj::TJPARAM_TJPARAM_JPEGWIDTH);
    let height = handle.get(tj::TJPARAM_TJPARAM_JPEGHEIGHT);
    if (u32::try_from(width), u32::try_from(height)) != (Ok(facts.width), Ok(facts.height)) {
        return Err(ImagingError::malformed(
            SourceFormat::Jpeg,
            "it has two frame headers of different size",
        ));
    }
    let (samples, pixels) = match handle.get(tj::TJPARAM_TJPARAM_COLORSPACE) as tj::TJCS {
        tj::TJCS_TJCS_GRAY => (Samples::Gray, tj::TJPF_TJPF_GRAY),
        tj::TJCS_TJCS_CMYK | tj::TJCS_TJCS_YCCK => (ink(input), tj::TJPF_TJPF_CMYK),
        _ => (Samples::Rgb, tj::TJPF_TJPF_RGB),
    };
    // Every 8 x 8 block takes at least one bit, so what cannot be that long costs no memory.
    if facts.pixels() / 64 > input.len() as u64 * 8 {
        return Err(ImagingError::malformed(SourceFormat::Jpeg, "it is too short for its size"));
    }
    let eighths = eighths(facts, reduction);
    // libjpeg-turbo knows its factors by their lowest terms.
    let factor = tj::tjscalingfactor { num: 1, denom: 8 / eighths };
    // SAFETY: the handle is alive.
    if unsafe { tj::tj3SetScalingFactor(handle.0, factor) } != 0 {
        return Err(ImagingError::internal(handle.message()));
    }
    // Coarse: plain upsampling of colours, which shares one pass with the conversion to RGB.
    handle.set(tj::TJPARAM_TJPARAM_FASTUPSAMPLE, c_int::from(reduction.coarse))?;
    let scaled = |side: u32| (side as usize * eighths as usize).div_ceil(8);
    into.reshape(scaled(facts.width), scaled(facts.height), samples);
    let pitch = into.stride as c_int;
    // SAFETY: the buffer holds height rows of pitch bytes of the scaled image, as libjpeg-turbo computes its size
    // (TJSCALED); the input is one slice.
    let code = unsafe {
        let out = into.bytes.as_mut_ptr();
        tj::tj3Decompress8(handle.0, input.as_ptr(), input.len() as tj::size_t, out, pitch, pixels as c_int)
    };
    if code == 0 { Ok(()) } else { handle.verdict() }
}

/// The least N of N/8 that is large enough. Only 1, 2, 4 and 8 have SIMD inverse transforms in libjpeg-turbo: the others
/// cost more than they save.
pub(crate) fn eighths(facts: &ImageFacts, reduction: Reduction) -> c_int {
    let enough = |n: f64| {
        f64::from(facts.width) * n >= reduction.width * 8.0
            && f64::from(facts.height) * n >= reduction.height * 8.0
    };
    [1, 2, 4].into_iter().find(|n| enough(f64::from(*n))).unwrap_or(8)
}

/// Adobe's writers store ink inverted and say so by their marker.
fn ink(input: &[u8]) -> Samples {
    let adobe = crate::metadata::jpeg_segments(input)
        .any(|(marker, body)| marker == 0xee && body.starts_with(b"Adobe"));
    if adobe { Samples::InvertedCmyk } else { Samples::Cmyk }
}

#[cfg(test)]
mod tests;
