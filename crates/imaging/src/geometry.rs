//! Sizes and places: what a job means for an image of a given size, with the rounding of imgproxy's pipeline. No pixels.
//!
//! The rules were read from imgproxy 4 (`processing/prepare.go`, `crop.go`, `extend.go`, `padding.go`,
//! `calc_position.go`): a size is the source size times the scale, rounded half away from zero; offsets and centres are
//! rounded half to even.

mod position;
mod turn;

use crate::error::ImagingError;
use crate::spec::{Extent, ResizeKind, Spec};

pub use position::Rect;
use position::{place, unturned};
pub use turn::Turn;

/// Width and height in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Size {
    pub width: u32,
    pub height: u32,
}

impl Size {
    /// A size.
    pub const fn new(width: u32, height: u32) -> Self {
        Self { width, height }
    }
    /// With its sides changed over.
    pub const fn swapped(self) -> Self {
        Self { width: self.height, height: self.width }
    }
    /// Number of pixels.
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// What is done to one image, in pixels.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Geometry {
    /// From the stored pixels to upright, turned and flipped ones.
    pub turn: Turn,
    /// What is cut out of the stored pixels before scaling.
    pub crop: Rect,
    /// What the crop is scaled to, still as stored, before anything is cut off.
    pub scaled: Size,
    /// What is kept of the scaled image once it is turned.
    pub result: Rect,
    /// The size in the end, with extension and padding.
    pub canvas: Size,
    /// Where the result lies on the canvas.
    pub at: (u32, u32),
    /// Result pixels a CSS pixel: what the wish for `dpr` came to.
    pub dpr: f64,
}

impl Geometry {
    /// What `spec` means for a source of this stored size and EXIF orientation (1 to 8).
    ///
    /// # Errors
    /// [`ImagingError::Limit`] when the source has more pixels, or the result a longer side, than allowed.
    pub fn of(spec: &Spec, width: u32, height: u32, orientation: u8) -> Result<Geometry, ImagingError> {
        check_source(spec, width, height)?;
        let turn = Turn::of(spec, orientation);
        let stored = Size::new(width, height);
        let upright = if turn.transpose { stored.swapped() } else { stored };
        let cropped = crop_size(spec, upright);
        let scale = Scale::of(spec, cropped);
        let sizes = Sizes::of(spec, cropped, &scale);
        let scaled = sizes.scaled;
        let kept = Size::new(
            min_non_zero(sizes.result_crop.0, scaled.width),
            min_non_zero(sizes.result_crop.1, scaled.height),
        );
        let (left, top) = place(scaled, kept, spec.gravity, scale.dpr);
        let result = Rect { left, top, width: kept.width, height: kept.height };
        let (canvas, at) = surround(spec, kept, &sizes, scale.dpr)?;
        Ok(Geometry {
            turn,
            crop: crop_place(spec, stored, cropped, turn),
            scaled: if turn.transpose { scaled.swapped() } else { scaled },
            result,
            canvas,
            at,
            dpr: scale.dpr,
        })
    }

    /// Whether anything is put around the result.
    pub fn surrounds(&self) -> bool {
        self.canvas != Size::new(self.result.width, self.result.height)
    }

    /// What is kept of the scaled image, in the stored orientation.
    pub fn result_as_stored(&self) -> Rect {
        self.turn.undo(self.result, if self.turn.transpose { self.scaled.swapped() } else { self.scaled })
    }
}

fn check_source(spec: &Spec, width: u32, height: u32) -> Result<(), ImagingError> {
    let pixels = Size::new(width, height).pixels();
    if pixels <= spec.limits.source_pixels {
        return Ok(());
    }
    Err(ImagingError::Limit {
        name: ImagingError::SOURCE_PIXELS,
        what: "the source's number of pixels",
        value: pixels,
        max: spec.limits.source_pixels,
    })
}

fn crop_size(spec: &Spec, upright: Size) -> Size {
    let Some(crop) = spec.crop else { return upright };
    let one = |extent, whole: u32| match extent {
        Extent::Full => whole,
        Extent::Share(share) => scale(whole, share).clamp(1, whole),
        Extent::Pixels(pixels) => (pixels as u32).clamp(1, whole),
    };
    Size::new(one(crop.width, upright.width), one(crop.height, upright.height))
}

fn crop_place(spec: &Spec, stored: Size, cropped: Size, turn: Turn) -> Rect {
    let inner = if turn.transpose { cropped.swapped() } else { cropped };
    let gravity = spec.crop.and_then(|crop| crop.gravity).unwrap_or(spec.gravity);
    // Cutting comes before scaling, so offsets are source pixels.
    let (left, top) = place(stored, inner, unturned(gravity, turn), 1.0);
    Rect { left, top, width: inner.width, height: inner.height }
}

/// Factors from the cropped source to the scaled image, and what became of `dpr`.
struct Scale {
    width: f64,
    height: f64,
    dpr: f64,
}

impl Scale {
    fn of(spec: &Spec, source: Size) -> Self {
        let resize = &spec.resize;
        let (source_w, source_h) = (f64::from(source.width), f64::from(source.height));
        let (mut shrink_w, mut shrink_h) = shrinks(spec, source_w, source_h);
        shrink_w /= resize.zoom[0];
        shrink_h /= resize.zoom[1];
        let mut dpr = resize.dpr;
        if !resize.enlarge {
            let least = shrink_w.min(shrink_h);
            if least < 1.0 {
                shrink_w /= least;
                shrink_h /= least;
                if spec.extend.is_none() {
                    dpr /= least;
                }
            }
            dpr = dpr.min(shrink_w.min(shrink_h));
        }
        at_least(resize.min_width, source_w, &mut shrink_w, &mut shrink_h);
        at_least(resize.min_height, source_h, &mut shrink_h, &mut shrink_w);
        shrink_w = (shrink_w / dpr).min(source_w);
        shrink_h = (shrink_h / dpr).min(source_h);
        Scale { width: 1.0 / shrink_w, height: 1.0 / shrink_h, dpr }
    }
}

/// How many times smaller each side becomes, by kind, before zoom and bounds.
fn shrinks(spec: &Spec, source_w: f64, source_h: f64) -> (f64, f64) {
    let resize = &spec.resize;
    let wanted = |side: u32, source: f64| if side == 0 { source } else { f64::from(side) };
    let (wanted_w, wanted_h) = (wanted(resize.width, source_w), wanted(resize.height, source_h));
    let (w, h) = (source_w / wanted_w, source_h / wanted_h);
    if w == 1.0 && h == 1.0 {
        return (w, h);
    }
    let kind = match resize.kind {
        ResizeKind::Auto if (source_w - source_h >= 0.0) == (wanted_w - wanted_h >= 0.0) => ResizeKind::Fill,
        ResizeKind::Auto => ResizeKind::Fit,
        kind => kind,
    };
    match kind {
        ResizeKind::Force => (w, h),
        _ if resize.width == 0 => (h, h),
        _ if resize.height == 0 => (w, w),
        ResizeKind::Fit => (w.max(h), w.max(h)),
        ResizeKind::Fill | ResizeKind::FillDown | ResizeKind::Auto => (w.min(h), w.min(h)),
    }
}

/// Keeps one side at or above a bound, the other in proportion.
fn at_least(bound: u32, source: f64, shrink: &mut f64, other: &mut f64) {
    let most = source / f64::from(bound);
    if bound > 0 && most < *shrink {
        *other /= *shrink / most;
        *shrink = most;
    }
}

/// Sizes that follow from the scale; zero where nothing is wanted.
struct Sizes {
    target: (u32, u32),
    scaled: Size,
    result_crop: (u32, u32),
}

impl Sizes {
    fn of(spec: &Spec, cropped: Size, factors: &Scale) -> Self {
        let resize = &spec.resize;
        let target = (
            scale(resize.width, factors.dpr * resize.zoom[0]),
            scale(resize.height, factors.dpr * resize.zoom[1]),
        );
        let scaled = Size::new(
            scale(cropped.width, factors.width).max(1),
            scale(cropped.height, factors.height).max(1),
        );
        let mut result_crop = target;
        if resize.kind == ResizeKind::FillDown && !resize.enlarge {
            let lack_w = f64::from(target.0) / f64::from(scaled.width);
            let lack_h = f64::from(target.1) / f64::from(scaled.height);
            if lack_w > lack_h && lack_w > 1.0 {
                result_crop = (scaled.width, scale(scaled.width, f64::from(target.1) / f64::from(target.0)));
            } else if lack_h > lack_w && lack_h > 1.0 {
                result_crop =
                    (scale(scaled.height, f64::from(target.0) / f64::from(target.1)), scaled.height);
            }
        }
        Self { target, scaled, result_crop }
    }

    /// The size that has the wanted aspect ratio around `kept`, if another than its own was wanted.
    fn aspect(&self, kept: Size) -> Option<Size> {
        let (w, h) = (f64::from(self.target.0), f64::from(self.target.1));
        if self.target.0 == 0 || self.target.1 == 0 {
            return None;
        }
        let lack_w = w / f64::from(kept.width);
        let lack_h = h / f64::from(kept.height);
        if lack_h > lack_w {
            Some(Size::new(kept.width, scale(kept.width, h / w)))
        } else if lack_w > lack_h {
            Some(Size::new(scale(kept.height, w / h), kept.height))
        } else {
            None
        }
    }
}

/// Extension, extension to an aspect ratio, then padding: the final size and where the result lies on it.
fn surround(spec: &Spec, kept: Size, sizes: &Sizes, dpr: f64) -> Result<(Size, (u32, u32)), ImagingError> {
    let (mut canvas, mut at) = (kept, (0, 0));
    let mut grow = |wanted: Size, gravity| {
        let outer = Size::new(wanted.width.max(canvas.width), wanted.height.max(canvas.height));
        let (left, top) = place(outer, canvas, gravity, dpr);
        (canvas, at) = (outer, (at.0 + left, at.1 + top));
    };
    if let Some(gravity) = spec.extend {
        grow(Size::new(sizes.target.0, sizes.target.1), gravity);
    }
    if let (Some(gravity), Some(wanted)) = (spec.extend_aspect_ratio, sizes.aspect(kept)) {
        grow(wanted, gravity);
    }
    if let Some(padding) = spec.padding {
        let [top, right, bottom, left] = padding.map(|side| (f64::from(side) * dpr).round_ties_even() as u32);
        canvas.width = canvas.width.saturating_add(left).saturating_add(right);
        canvas.height = canvas.height.saturating_add(top).saturating_add(bottom);
        at = (at.0.saturating_add(left), at.1.saturating_add(top));
    }
    let side = canvas.width.max(canvas.height);
    if side > spec.limits.result_side {
        return Err(ImagingError::Limit {
            name: ImagingError::RESULT_SIDE,
            what: "the result's longest side",
            value: u64::from(side),
            max: u64::from(spec.limits.result_side),
        });
    }
    Ok((canvas, at))
}

/// Half away from zero, as imgproxy scales sizes.
fn scale(side: u32, by: f64) -> u32 {
    (f64::from(side) * by).round() as u32
}

fn min_non_zero(wanted: u32, whole: u32) -> u32 {
    if wanted == 0 { whole } else { wanted.min(whole) }
}

#[cfg(test)]
mod tests;
