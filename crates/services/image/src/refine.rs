//! What only the original can tell: final format, limits, exact cost, and whether it can be handed on as it is. Pure.

use tutti_base::{Kind, Problem};
use tutti_imaging::spec::{Format, Limits, Spec};
use tutti_imaging::{Geometry, ImageFacts, ImagingError, ProbeRead, SourceFormat, probe};
use tutti_service::{Facts, HeadReader, Refined};

use crate::job::{FormatChoice, ImageJob, Original};
use crate::{Config, RENDER, cost};

/// The longest side of a WebP, in pixels: a larger picture is negotiated to another format.
const WEBP_SIDE: u32 = 16_383;

/// The job as it is done to an original of these facts.
///
/// Errors: `Unprocessable` for an original that is no image, or none that we can read, and for a limit, named with the
/// value found. What is no image is not handed on raw either: the folder of originals is not a file server.
pub(crate) fn refine(job: &ImageJob, facts: &Facts, config: &Config) -> Result<Refined, Problem> {
    check_bytes(facts, config.limits.into())?;
    let image = image_facts(facts);
    let source = image.format.ok_or(ImagingError::NotAnImage).map_err(problem)?;
    if job.original == Original::Raw {
        return Ok(kept(source.media()));
    }
    let spec = Spec { limits: config.limits.into(), ..job.spec.clone() };
    // An SVG can hold scripts: it is never handed on beside rendered images.
    if source != SourceFormat::Svg && job.skip.iter().any(|media| media == source.media()) {
        check_size(&Spec { limits: spec.limits, ..Spec::default() }, &image)?;
        return Ok(kept(source.media()));
    }
    if !source.decodable() {
        return Err(problem(ImagingError::Unsupported { format: source }));
    }
    let side = check_size(&spec, &image)?;
    let format = final_format(&spec, source, &image, side, job.choice);
    let unchanged = format.media() == source.media() && image.orientation == 1 && !image.unknown;
    if job.original == Original::KeptIfUnchanged && unchanged {
        return Ok(kept(source.media()));
    }
    let spec = with_format(spec, format);
    let cost = cost::of(&spec, &image);
    let params = ImageJob { spec, ..ImageJob::default() }.seal();
    Ok(Refined { class: RENDER, params, cost, pass_through: None })
}

/// Reads the head of an original with the one probe that the server may run.
pub(crate) fn facts(reader: &mut dyn HeadReader) -> Facts {
    let found = probe(&mut Head(reader));
    Facts {
        media: found.format.map(|format| format.media().to_owned()),
        unknown: found.unknown,
        width: found.width,
        height: found.height,
        frames: found.frames,
        bits: found.bits,
        channels: found.channels,
        alpha: found.alpha,
        progressive: found.progressive,
        orientation: found.orientation,
        bytes: found.bytes,
    }
}

/// The house's reader as the probe's.
struct Head<'a>(&'a mut dyn HeadReader);

impl ProbeRead for Head<'_> {
    fn len(&self) -> u64 {
        self.0.len()
    }
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Option<usize> {
        self.0.read_at(offset, into)
    }
}

fn image_facts(facts: &Facts) -> ImageFacts {
    let format = facts.media.as_deref().and_then(SourceFormat::of_media);
    ImageFacts {
        format,
        unknown: facts.unknown,
        width: facts.width,
        height: facts.height,
        frames: facts.frames,
        bits: facts.bits,
        channels: facts.channels,
        alpha: facts.alpha,
        progressive: facts.progressive,
        cmyk: format == Some(SourceFormat::Jpeg) && facts.channels == 4,
        orientation: facts.orientation,
        bytes: facts.bytes,
    }
}

/// The original as it is. It costs nothing but the copy, which the server does in pieces.
fn kept(media: &str) -> Refined {
    let params = ImageJob { original: Original::Raw, ..ImageJob::default() }.seal();
    Refined { class: RENDER, params, cost: cost::none(), pass_through: Some(media.to_owned()) }
}

fn check_bytes(facts: &Facts, limits: Limits) -> Result<(), Problem> {
    if facts.bytes <= limits.source_bytes {
        return Ok(());
    }
    Err(problem(ImagingError::Limit {
        name: ImagingError::SOURCE_BYTES,
        what: "the source's number of bytes",
        value: facts.bytes,
        max: limits.source_bytes,
    }))
}

/// The limits on pixels and sides, and the longest side of the result: 0 where the size is not known, which the engine
/// then checks once it is.
fn check_size(spec: &Spec, image: &ImageFacts) -> Result<u32, Problem> {
    if image.unknown {
        return Ok(0);
    }
    let geometry = Geometry::of(spec, image.width, image.height, image.orientation).map_err(problem)?;
    Ok(geometry.canvas.width.max(geometry.canvas.height))
}

/// As imgproxy chooses: what was asked for; what the client prefers; JPEG and PNG stay what they are; everything else becomes
/// PNG where there may be transparency, and JPEG where not. The cheapest is JPEG wherever nothing can be transparent.
fn final_format(
    spec: &Spec,
    source: SourceFormat,
    image: &ImageFacts,
    side: u32,
    choice: FormatChoice,
) -> Format {
    if let Some(asked) = spec.output.format {
        return asked;
    }
    let surrounded = spec.padding.is_some() || spec.extend.is_some();
    let transparent = spec.background.is_none() && (image.alpha || image.unknown || surrounded);
    let own = match source {
        SourceFormat::Jpeg => Format::Jpeg,
        SourceFormat::Png => Format::Png,
        _ if transparent => Format::Png,
        _ => Format::Jpeg,
    };
    match choice {
        FormatChoice::Cheapest if !transparent => Format::Jpeg,
        _ => spec.output.prefer.filter(|format| *format != Format::WebP || side <= WEBP_SIDE).unwrap_or(own),
    }
}

/// With format and quality decided and nothing left to choose, so that equal work has one name.
fn with_format(mut spec: Spec, format: Format) -> Spec {
    let by_format =
        spec.output.format_quality.iter().find(|(other, _)| *other == format).map(|(_, quality)| *quality);
    spec.output.quality = spec.output.quality.or(by_format);
    spec.output.format = Some(format);
    spec.output.prefer = None;
    spec.output.format_quality = Spec::default().output.format_quality;
    spec
}

/// A failure of imaging as clients see it.
fn problem(error: ImagingError) -> Problem {
    if let ImagingError::Internal { what } = error {
        return Problem::new(Kind::Internal, "the image could not be made").because(what);
    }
    let problem = Problem::new(Kind::Unprocessable, error.to_string());
    let problem = if error.of_input() { problem.of_input() } else { problem };
    match error.limit() {
        Some(limit) => problem.about(limit),
        None => problem,
    }
}

#[cfg(test)]
mod tests;
