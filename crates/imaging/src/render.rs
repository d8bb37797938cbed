//! One job from bytes to bytes, in the fixed order of steps. Keeps its buffers; knows no files and no clock.

use crate::color::Colors;
use crate::decode::{Decoders, Reduction, jpeg};
use crate::encode::{Encoders, Manner, webp};
use crate::error::ImagingError;
use crate::geometry::Geometry;
use crate::metadata::Metadata;
use crate::probe::{ImageFacts, SourceFormat, probe};
use crate::raster::Raster;
use crate::resize::{Mapping, Resizer, Span};
use crate::spec::{Effort, Format, Spec};
use crate::{blur, canvas, orient};

/// Buffers above this are given back after a job, in bytes: one giant must not weigh on all jobs after it.
const KEPT_BYTES: usize = 64 << 20;

/// Renders jobs one after the other. Its buffers grow to the largest usual job and stay; see [`Renderer::render`].
#[derive(Default)]
pub struct Renderer {
    decoders: Decoders,
    resizer: Resizer,
    colors: Colors,
    encoders: Encoders,
    source: Raster,
    pixels: Raster,
    spare: Raster,
}

/// What came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rendered {
    /// Its format.
    pub format: Format,
    /// Its width in pixels.
    pub width: u32,
    /// Its height in pixels.
    pub height: u32,
}

impl Renderer {
    /// A renderer with empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Renders `input` as `spec` says into `out`, which is emptied first and keeps its capacity. Of an animation the
    /// first frame is rendered.
    ///
    /// # Errors
    /// [`ImagingError`]; then `out` holds nothing of use. No input makes it panic or use more memory than
    /// [`crate::estimate`] says for the limits in `spec`.
    pub fn render(&mut self, spec: &Spec, input: &[u8], out: &mut Vec<u8>) -> Result<Rendered, ImagingError> {
        let facts = check(spec, input)?;
        let rendered = self.steps(spec, input, &facts, out);
        self.give_back();
        rendered
    }

    fn steps(
        &mut self,
        spec: &Spec,
        input: &[u8],
        facts: &ImageFacts,
        out: &mut Vec<u8>,
    ) -> Result<Rendered, ImagingError> {
        let geometry = Geometry::of(spec, facts.width, facts.height, facts.orientation)?;
        let format = output_format(spec, facts);
        check_side(format, &geometry)?;
        let reduction = reduction(spec, facts, &geometry);
        self.decoders.run(input, facts, reduction, &mut self.source)?;
        let mapping = mapping(facts, &self.source, &geometry);
        self.resizer.run(&self.source, mapping, &mut self.pixels);
        let metadata = self.colors(spec, facts, input);
        if !geometry.turn.is_identity() {
            orient::run(&self.pixels, geometry.turn, &mut self.spare);
            std::mem::swap(&mut self.pixels, &mut self.spare);
        }
        blur::run(&mut self.pixels, spec.blur);
        self.compose(spec, &geometry, format);
        self.encoders.run(&self.pixels, manner(spec, format), &metadata, out)?;
        Ok(Rendered { format, width: geometry.canvas.width, height: geometry.canvas.height })
    }

    /// To sRGB, unless the profile is to be kept with the pixels; what is left of the metadata.
    fn colors(&mut self, spec: &Spec, facts: &ImageFacts, input: &[u8]) -> Metadata {
        let Some(format) = facts.format else { return Metadata::default() };
        let mut metadata = Metadata::of(format, input).kept(spec);
        // A profile of ink cannot go with RGB.
        if spec.strip_color_profile || self.pixels.samples.is_ink() {
            let icc = metadata.icc.take();
            self.colors.convert(icc.as_deref(), &mut self.pixels, &mut self.spare);
        }
        metadata
    }

    fn compose(&mut self, spec: &Spec, geometry: &Geometry, format: Format) {
        let color = spec.background.or((format == Format::Jpeg).then_some(canvas::WHITE));
        if let Some(color) = color {
            canvas::flatten(&mut self.pixels, color, &mut self.spare);
        }
        canvas::surround(&mut self.pixels, geometry, color, &mut self.spare);
        if format == Format::WebP {
            canvas::colored(&mut self.pixels, &mut self.spare);
        }
    }

    fn give_back(&mut self) {
        for raster in [&mut self.source, &mut self.pixels, &mut self.spare] {
            if raster.bytes.capacity() > KEPT_BYTES {
                raster.bytes = Vec::new();
            }
        }
        self.decoders.give_back(KEPT_BYTES);
    }
}

/// The format that comes out: the one asked for, else the one negotiated, else the source's own, else PNG with
/// transparency and JPEG without.
pub fn output_format(spec: &Spec, facts: &ImageFacts) -> Format {
    let own = match facts.format {
        Some(SourceFormat::Jpeg) => Format::Jpeg,
        Some(SourceFormat::Png) => Format::Png,
        Some(SourceFormat::WebP) => Format::WebP,
        _ if facts.alpha => Format::Png,
        _ => Format::Jpeg,
    };
    spec.output.format.or(spec.output.prefer).unwrap_or(own)
}

/// Everything that can be refused before any memory is taken.
fn check(spec: &Spec, input: &[u8]) -> Result<ImageFacts, ImagingError> {
    let bytes = input.len() as u64;
    if bytes > spec.limits.source_bytes {
        return Err(ImagingError::Limit {
            name: ImagingError::SOURCE_BYTES,
            what: "the source's length in bytes",
            value: bytes,
            max: spec.limits.source_bytes,
        });
    }
    let mut whole = input;
    let facts = probe(&mut whole);
    let format = facts.format.ok_or(ImagingError::NotAnImage)?;
    if !format.decodable() {
        return Err(ImagingError::Unsupported { format });
    }
    if facts.unknown {
        return Err(ImagingError::malformed(format, "its size is missing or zero"));
    }
    Ok(facts)
}

fn check_side(format: Format, geometry: &Geometry) -> Result<(), ImagingError> {
    let side = geometry.canvas.width.max(geometry.canvas.height);
    if format == Format::WebP && side > webp::MAX_SIDE {
        return Err(ImagingError::Limit {
            name: ImagingError::RESULT_SIDE,
            what: "the longest side of a WebP",
            value: u64::from(side),
            max: u64::from(webp::MAX_SIDE),
        });
    }
    Ok(())
}

/// How many times as large as the result a reduced decode must still be: two, less what rounding of the result takes.
/// Chosen with the measure example.
const REDUCED_OVER_RESULT: f64 = 1.95;
/// The same for the cheaper rung of the ladder.
const LEAST_OVER_RESULT: f64 = 0.98;
/// From this reduction on, WebP's loop filter and chroma smoothing are lost in the scaling and left out.
const COARSE_FROM: f64 = 2.0;

fn reduction(spec: &Spec, facts: &ImageFacts, geometry: &Geometry) -> Reduction {
    let full = Reduction { width: f64::from(facts.width), height: f64::from(facts.height), coarse: false };
    if spec.full_decode {
        return full;
    }
    let (shrink_w, shrink_h) = (
        f64::from(geometry.crop.width) / f64::from(geometry.scaled.width),
        f64::from(geometry.crop.height) / f64::from(geometry.scaled.height),
    );
    let over = if spec.output.effort == Effort::Least { LEAST_OVER_RESULT } else { REDUCED_OVER_RESULT };
    Reduction {
        width: (full.width / shrink_w * over).min(full.width),
        height: (full.height / shrink_h * over).min(full.height),
        coarse: shrink_w.min(shrink_h) >= COARSE_FROM,
    }
}

/// What share of the source's pixels is decoded: less than 1 where JPEG is decoded reduced.
pub(crate) fn decoded_share(spec: &Spec, facts: &ImageFacts, geometry: &Geometry) -> f64 {
    if facts.format != Some(SourceFormat::Jpeg) {
        return 1.0;
    }
    (f64::from(jpeg::eighths(facts, reduction(spec, facts, geometry))) / 8.0).powi(2)
}

/// From what was decoded to the part of the scaled image that is kept, both as stored.
fn mapping(facts: &ImageFacts, source: &Raster, geometry: &Geometry) -> Mapping {
    let kept = geometry.result_as_stored();
    let span = |from: u32, len: u32, full: u32, limit: usize, scaled: u32, first: u32, count: u32| {
        let by = limit as f64 / f64::from(full);
        Span {
            from: f64::from(from) * by,
            len: f64::from(len) * by,
            limit,
            scaled: scaled as usize,
            first: first as usize,
            count: count as usize,
        }
    };
    let (crop, scaled) = (geometry.crop, geometry.scaled);
    Mapping {
        across: span(crop.left, crop.width, facts.width, source.width, scaled.width, kept.left, kept.width),
        down: span(crop.top, crop.height, facts.height, source.height, scaled.height, kept.top, kept.height),
    }
}

fn manner(spec: &Spec, format: Format) -> Manner {
    let by_format =
        spec.output.format_quality.iter().find(|(of, _)| *of == format).map(|(_, quality)| *quality);
    Manner { format, quality: spec.output.quality.or(by_format).unwrap_or(80), effort: spec.output.effort }
}
