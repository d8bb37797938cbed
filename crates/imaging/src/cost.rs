//! What a job will cost, before it runs: from its specification and what the probe found. Learns nothing; pure.

use crate::geometry::Geometry;
use crate::probe::{ImageFacts, SourceFormat};
use crate::render::{decoded_share, output_format};
use crate::spec::{Effort, Format, Spec};

/// The predicted cost of a job.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// CPU time in milliseconds on the core this was calibrated on.
    pub cpu_ms: f32,
    /// Most memory in bytes while it runs, input and result included.
    pub bytes: u64,
    /// What the time grows with, for learning; named in [`FEATURES`].
    pub features: [f32; 4],
}

/// The features: millions of source pixels, millions of result pixels, megabytes of input, and 1.
pub const FEATURES: [&str; 4] = ["source_mpx", "result_mpx", "input_mb", "job"];

/// What the cost of a job is at most, however little is known: an unknown input is charged as the largest that the
/// limits let through, progressive and with every channel.
pub fn estimate(spec: &Spec, facts: &ImageFacts) -> Cost {
    let worst;
    let facts = if facts.unknown {
        worst = worst_of(spec, facts);
        &worst
    } else {
        facts
    };
    let Ok(geometry) = Geometry::of(spec, facts.width, facts.height, facts.orientation) else {
        // It will be refused at its header.
        return Cost { cpu_ms: 0.1, bytes: facts.bytes, features: [0.0, 0.0, megabytes(facts.bytes), 1.0] };
    };
    let source = facts.pixels() as f64 / 1e6;
    let result = geometry.canvas.pixels() as f64 / 1e6;
    let input = facts.bytes as f64 / 1e6;
    let decoded = source * decoded_share(spec, facts, &geometry);
    let milliseconds = decode_ms(facts, decoded, input)
        + resize_ms(facts, decoded)
        + encode_ms(spec, output_format(spec, facts), result)
        + if spec.blur > 0.0 { result * BLUR } else { 0.0 }
        + 0.1;
    Cost {
        cpu_ms: milliseconds as f32,
        bytes: bytes(facts, &geometry),
        features: [source as f32, result as f32, input as f32, 1.0],
    }
}

fn megabytes(bytes: u64) -> f32 {
    (bytes as f64 / 1e6) as f32
}

/// The worst input that the limits let through.
fn worst_of(spec: &Spec, facts: &ImageFacts) -> ImageFacts {
    let side = spec.limits.source_pixels.isqrt().min(u64::from(u32::MAX)) as u32;
    ImageFacts {
        unknown: false,
        width: side,
        height: side,
        bits: 16,
        channels: 4,
        alpha: true,
        progressive: true,
        format: facts.format.or(Some(SourceFormat::Png)),
        ..facts.clone()
    }
}

// Milliseconds a million pixels, or a megabyte of input, measured with `examples/measure.rs` on an EPYC (Zen 3) core.
const JPEG_PIXEL: f64 = 2.2;
const JPEG_INPUT: f64 = 13.0;
const PROGRESSIVE: f64 = 2.2;
const PNG_PIXEL: f64 = 4.6;
const PNG_INPUT: f64 = 4.6;
const WEBP_PIXEL: f64 = 6.5;
const WEBP_INPUT: f64 = 30.0;
const RESIZE: f64 = 1.2;
const JPEG_OUT: f64 = 11.0;
const PNG_OUT: f64 = 45.0;
const WEBP_OUT: f64 = 105.0;
const BLUR: f64 = 60.0;

/// `decoded` is in millions of pixels.
fn decode_ms(facts: &ImageFacts, decoded: f64, input: f64) -> f64 {
    let more = if facts.progressive { PROGRESSIVE } else { 1.0 };
    match facts.format {
        Some(SourceFormat::Jpeg) => (decoded * JPEG_PIXEL + input * JPEG_INPUT) * more,
        Some(SourceFormat::WebP) => decoded * WEBP_PIXEL + input * WEBP_INPUT,
        _ => decoded * PNG_PIXEL * f64::from(facts.bits.max(8)) / 8.0 + input * PNG_INPUT,
    }
}

fn resize_ms(facts: &ImageFacts, decoded: f64) -> f64 {
    decoded * RESIZE * f64::from(facts.channels.max(1))
}

fn encode_ms(spec: &Spec, format: Format, result: f64) -> f64 {
    let normal = match format {
        Format::Jpeg => JPEG_OUT,
        Format::Png => PNG_OUT,
        Format::WebP => WEBP_OUT,
    };
    let part = if spec.output.effort == Effort::Least { 0.4 } else { 1.0 };
    result * normal * part
}

/// Bytes at the height of the job: the input, the decoded source with what its decoder holds beside it, and the result
/// in pixels, in a spare buffer and as a file.
fn bytes(facts: &ImageFacts, geometry: &Geometry) -> u64 {
    const FLOOR: u64 = 2 << 20;
    let pixels = facts.pixels();
    let channels = u64::from(facts.channels.max(1)) + u64::from(facts.alpha && facts.channels % 2 == 1);
    let stored = channels * u64::from(facts.bits.max(8) / 8);
    let beside = match facts.format {
        // Coefficients of 16 bits for every sample.
        Some(SourceFormat::Jpeg) if facts.progressive => pixels * channels * 2,
        Some(SourceFormat::Jpeg) => 0,
        // YUV planes, or ARGB where lossless.
        Some(SourceFormat::WebP) => pixels * 4,
        // Filtered rows and the gathered stream.
        _ => pixels * stored + facts.bytes,
    };
    let kept = u64::from(geometry.result.width) * u64::from(geometry.result.height);
    let result = geometry.canvas.pixels().max(kept);
    let ring =
        (u64::from(geometry.scaled.width.min(geometry.result.width.max(geometry.result.height))) * 4 * 4)
            * (u64::from(geometry.crop.height.div_ceil(geometry.scaled.height.max(1))) * 6 + 24);
    FLOOR + facts.bytes + pixels * channels.max(3) + beside + result * (4 + 4 + 4) + ring
}
