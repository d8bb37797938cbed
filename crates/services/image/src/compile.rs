//! From options to a canonical job: what has no effect is written as its default, so that equal jobs are equal values.

use tutti_base::{Kind, Problem};
use tutti_imaging::spec::{
    Anchor, Crop, Effort, Extent, Format, Gravity, Limits, Output, Resize, ResizeKind, Spec,
};

use crate::Config;
use crate::dialect::formats::FormatName;
use crate::dialect::options::{Extend, Options, Place};
use crate::job::{FormatChoice, ImageJob, Original};

/// Factors beyond these change nothing that could be seen: what is smaller gives one pixel, what is larger is over every
/// limit.
const FACTORS: (f64, f64) = (1e-6, 1e6);
/// Offsets beyond this lie outside of every image.
const MAX_OFFSET: f64 = 1e6;
/// A blur beyond this leaves one colour of every image within the limits.
const MAX_BLUR: f64 = 1000.0;
/// Padding beyond this is over every limit.
const MAX_PADDING: u32 = 1 << 20;

/// The job that `options` ask for. `negotiated` is what the client takes, where it was read.
///
/// Errors: `Unprocessable` for a format that we cannot write, as imgproxy answers.
pub(crate) fn compile(
    options: &Options,
    negotiated: Option<Format>,
    config: &Config,
) -> Result<ImageJob, Problem> {
    let cachebuster = options.cachebuster.clone();
    if options.raw {
        return Ok(ImageJob { original: Original::Raw, cachebuster, ..ImageJob::default() });
    }
    let format = options.format.map(written).transpose()?;
    let spec = spec(options, output(options, format, negotiated, config));
    let original = original(options, &spec);
    let skip = options.skip.iter().filter(|skipped| options.format.is_none_or(|format| format == **skipped));
    let skip = skip.map(|format| format.media.to_owned()).collect();
    Ok(ImageJob { spec, original, skip, choice: FormatChoice::Smallest, cachebuster })
}

/// Whether the client's `Accept` matters.
pub(crate) fn negotiable(options: &Options, config: &Config) -> bool {
    config.negotiate_webp && options.format.is_none() && !options.raw
}

fn written(format: FormatName) -> Result<Format, Problem> {
    format.written().ok_or_else(|| {
        let detail = format!("writing `{}` is not built yet; ask for jpg, png or webp", format.name);
        Problem::new(Kind::Unprocessable, detail).about("format")
    })
}

fn output(options: &Options, format: Option<Format>, negotiated: Option<Format>, config: &Config) -> Output {
    let of = |format: Format| {
        let asked = options.format_quality.iter().find(|(other, quality)| *other == format && *quality > 0);
        asked.map_or(config.quality.of(format), |(_, quality)| *quality)
    };
    let by_format = [Format::Jpeg, Format::Png, Format::WebP].map(|format| (format, of(format)));
    let single = (options.quality > 0).then_some(options.quality).or_else(|| format.map(of));
    Output {
        format,
        prefer: negotiated.filter(|_| format.is_none()),
        quality: single,
        format_quality: if single.is_some() { Spec::default().output.format_quality } else { by_format },
        effort: Effort::Normal,
    }
}

fn spec(options: &Options, output: Output) -> Spec {
    let resize = resize(options);
    let wanted = gravity(options.gravity);
    let job_gravity = if needs_gravity(&resize) { wanted } else { Gravity::CENTER };
    Spec {
        gravity: job_gravity,
        crop: crop(options, wanted, job_gravity),
        resize,
        extend: extend(options.extend),
        extend_aspect_ratio: extend(options.extend_aspect_ratio),
        padding: Some(options.padding.map(|side| side.min(MAX_PADDING))).filter(|sides| *sides != [0; 4]),
        auto_rotate: options.auto_rotate,
        rotate: options.rotate.rem_euclid(360) as u16,
        flip_horizontal: options.flip[0],
        flip_vertical: options.flip[1],
        background: options.background,
        blur: options.blur.min(MAX_BLUR) as f32,
        strip_metadata: options.strip_metadata,
        keep_copyright: options.keep_copyright || !options.strip_metadata,
        strip_color_profile: options.strip_color_profile,
        full_decode: false,
        output,
        limits: Limits::default(),
    }
}

/// With one side derived, every kind but force is fit.
fn resize(options: &Options) -> Resize {
    let sides = [options.width, options.height].iter().filter(|side| **side > 0).count();
    let kind = match (options.kind, sides) {
        (_, 0) => ResizeKind::Fit,
        (ResizeKind::Force, _) => ResizeKind::Force,
        (_, 1) => ResizeKind::Fit,
        (ResizeKind::FillDown, _) if options.enlarge => ResizeKind::Fill,
        (kind, _) => kind,
    };
    Resize {
        kind,
        width: options.width,
        height: options.height,
        min_width: options.min_width,
        min_height: options.min_height,
        zoom: options.zoom.map(factor),
        dpr: factor(options.dpr),
        enlarge: options.enlarge,
    }
}

fn factor(value: f64) -> f64 {
    value.clamp(FACTORS.0, FACTORS.1)
}

/// Whether a side can stand over after scaling, so that something has to be cut off.
fn needs_gravity(resize: &Resize) -> bool {
    let stands_over = matches!(resize.kind, ResizeKind::Fill | ResizeKind::FillDown | ResizeKind::Auto);
    stands_over || resize.min_width > 0 || resize.min_height > 0
}

/// A crop lies where it says, else where the URL wants the job's gravity; named only where that is not `job_gravity`.
fn crop(options: &Options, wanted: Gravity, job_gravity: Gravity) -> Option<Crop> {
    if options.crop == [0.0, 0.0] {
        return None;
    }
    let own = options.crop_gravity.anchor.map_or(wanted, |_| gravity(options.crop_gravity));
    let [width, height] = options.crop.map(extent);
    Some(Crop { width, height, gravity: Some(own).filter(|own| *own != job_gravity) })
}

/// 0 is the whole length, below 1 a share, else whole pixels.
fn extent(length: f64) -> Extent {
    match length {
        0.0 => Extent::Full,
        share if share < 1.0 => Extent::Share(share),
        pixels => Extent::Pixels(pixels.trunc().min(f64::from(u32::MAX))),
    }
}

fn extend(extend: Extend) -> Option<Gravity> {
    extend.enabled.then(|| gravity(extend.place))
}

fn gravity(place: Place) -> Gravity {
    let anchor = place.anchor.unwrap_or(Anchor::Center);
    let within = |offset: f64| match anchor {
        // Offsets of an earlier anchor may be left; a point beyond the edge is one on it.
        Anchor::FocusPoint => offset.clamp(0.0, 1.0),
        _ => offset.clamp(-MAX_OFFSET, MAX_OFFSET),
    };
    Gravity { anchor, x: within(place.x), y: within(place.y) }
}

/// An original may be kept when nobody asked for other pixels, another quality, or less metadata.
fn original(options: &Options, spec: &Spec) -> Original {
    let default = Spec::default();
    let nothing = Spec {
        output: default.output.clone(),
        strip_metadata: true,
        strip_color_profile: true,
        auto_rotate: true,
        ..spec.clone()
    };
    let keeps = !spec.strip_metadata && !spec.strip_color_profile;
    let no_quality = options.quality == 0 && options.format_quality.is_empty();
    if keeps && no_quality && nothing == default { Original::KeptIfUnchanged } else { Original::Rendered }
}

#[cfg(test)]
mod tests;
