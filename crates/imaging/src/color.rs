//! Colours to sRGB by their ICC profile, or by the plain rules where there is none. After scaling: fewer pixels, and
//! profiles whose curve is near sRGB's lose nothing by it.

use std::sync::Arc;

use moxcms::{ColorProfile, DataColorSpace, Layout, Transform8BitExecutor, TransformOptions};

use crate::raster::{Raster, Samples};

/// Converts colours; keeps the transform of the last profile.
#[derive(Default)]
pub(crate) struct Colors {
    last: Option<Known>,
}

struct Known {
    icc: Vec<u8>,
    samples: Samples,
    /// None: the profile says nothing that would change a pixel, or cannot be used.
    transform: Option<Arc<Transform8BitExecutor>>,
}

impl Colors {
    /// Converts `pixels` from the profile `icc` to sRGB; ink always becomes RGB. `spare` is scratch and is changed over.
    pub(crate) fn convert(&mut self, icc: Option<&[u8]>, pixels: &mut Raster, spare: &mut Raster) {
        if pixels.samples == Samples::InvertedCmyk {
            pixels.bytes.iter_mut().for_each(|ink| *ink = 255 - *ink);
            pixels.samples = Samples::Cmyk;
        }
        let transform = icc.and_then(|icc| self.transform(icc, pixels.samples));
        let target = target_samples(pixels.samples);
        match transform {
            Some(transform) => {
                spare.reshape(pixels.width, pixels.height, target);
                if transform.transform(pixels.packed(), &mut spare.bytes).is_ok() {
                    return std::mem::swap(pixels, spare);
                }
            }
            None if !pixels.samples.is_ink() => return,
            None => {}
        }
        if pixels.samples.is_ink() {
            plain_ink(pixels, spare);
            std::mem::swap(pixels, spare);
        }
    }

    fn transform(&mut self, icc: &[u8], samples: Samples) -> Option<Arc<Transform8BitExecutor>> {
        let known = self.last.take().filter(|known| known.icc == icc && known.samples == samples);
        let known =
            known.unwrap_or_else(|| Known { icc: icc.to_vec(), samples, transform: transform(icc, samples) });
        self.last.insert(known).transform.clone()
    }
}

/// Ink becomes RGB, everything else stays of its kind.
const fn target_samples(samples: Samples) -> Samples {
    match samples {
        Samples::Cmyk | Samples::InvertedCmyk => Samples::Rgb,
        other => other,
    }
}

fn transform(icc: &[u8], samples: Samples) -> Option<Arc<Transform8BitExecutor>> {
    if is_srgb(icc) && !samples.is_ink() {
        return None;
    }
    let profile = ColorProfile::new_from_slice(icc).ok()?;
    let (space, from, to) = match samples {
        Samples::Gray => (DataColorSpace::Gray, Layout::Gray, Layout::Gray),
        Samples::GrayAlpha => (DataColorSpace::Gray, Layout::GrayAlpha, Layout::GrayAlpha),
        Samples::Rgb => (DataColorSpace::Rgb, Layout::Rgb, Layout::Rgb),
        Samples::Rgba => (DataColorSpace::Rgb, Layout::Rgba, Layout::Rgba),
        Samples::Cmyk | Samples::InvertedCmyk => (DataColorSpace::Cmyk, Layout::Rgba, Layout::Rgb),
    };
    if profile.color_space != space {
        return None;
    }
    let srgb = if space == DataColorSpace::Gray { srgb_gray() } else { ColorProfile::new_srgb() };
    profile.create_transform_8bit(from, &srgb, to, TransformOptions::default()).ok()
}

/// Grey with the curve of sRGB.
fn srgb_gray() -> ColorProfile {
    let mut gray = ColorProfile::new_gray_with_gamma(2.2);
    gray.gray_trc = ColorProfile::new_srgb().red_trc;
    gray
}

/// Whether a profile names itself sRGB, in ASCII or UTF-16: cheaper than to parse it, and its words do not lie in practice.
fn is_srgb(icc: &[u8]) -> bool {
    const HEAD: usize = 1024;
    let head = &icc[..icc.len().min(HEAD)];
    let named = |name: &[u8]| head.windows(name.len()).any(|part| part == name);
    icc.get(16..20) == Some(b"RGB ") && (named(b"sRGB") && !named(b"scRGB") || named(b"s\0R\0G\0B"))
}

/// Ink without a profile: light is what neither the ink nor black takes away.
fn plain_ink(pixels: &Raster, into: &mut Raster) {
    into.reshape(pixels.width, pixels.height, Samples::Rgb);
    for (rgb, ink) in into.bytes.chunks_exact_mut(3).zip(pixels.packed().chunks_exact(4)) {
        let black = 255 - u16::from(ink[3]);
        for (light, ink) in rgb.iter_mut().zip(ink) {
            *light = (((255 - u16::from(*ink)) * black + 127) / 255) as u8;
        }
    }
}

#[cfg(test)]
mod tests;
