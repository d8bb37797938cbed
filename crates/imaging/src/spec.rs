//! The canonical description of one image job: what every URL dialect compiles to.
//!
//! The order of steps is fixed, as in imgproxy's pipeline: orient, crop, scale, turn and flip, crop to result, blur,
//! extend, pad, flatten, encode. The order of options in a URL does not matter.

use serde::{Deserialize, Serialize};

/// One image job. Equal jobs are equal values: every dialect writes the same defaults.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Cut out before scaling.
    pub crop: Option<Crop>,
    /// How to scale.
    pub resize: Resize,
    /// Where the subject is, when something has to be cut off.
    pub gravity: Gravity,
    /// Extend to the wanted size after scaling.
    pub extend: Option<Gravity>,
    /// Extend to the wanted aspect ratio after scaling.
    pub extend_aspect_ratio: Option<Gravity>,
    /// Padding in CSS pixels: top, right, bottom, left.
    pub padding: Option<[u32; 4]>,
    /// Apply the EXIF orientation.
    pub auto_rotate: bool,
    /// Turn clockwise by 0, 90, 180 or 270 degrees, after the orientation.
    pub rotate: u16,
    /// Mirror left and right.
    pub flip_horizontal: bool,
    /// Mirror top and bottom.
    pub flip_vertical: bool,
    /// Put under transparent parts, and into what is extended or padded.
    pub background: Option<[u8; 3]>,
    /// Standard deviation of a Gaussian blur, in result pixels; 0 for none.
    pub blur: f32,
    /// Leave metadata away.
    pub strip_metadata: bool,
    /// Keep copyright fields when metadata is left away.
    pub keep_copyright: bool,
    /// Convert to sRGB and leave the profile away; otherwise the profile is kept with the pixels.
    pub strip_color_profile: bool,
    /// Never use reduced decoding, whatever it saves.
    pub full_decode: bool,
    /// What comes out.
    pub output: Output,
    /// What must not be exceeded.
    pub limits: Limits,
}

/// A length: nothing given, a share of the image, or pixels.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub enum Extent {
    /// The whole length.
    Full,
    /// A share of it, between 0 and 1.
    Share(f64),
    /// Pixels, 1 or more.
    Pixels(f64),
}

/// What to cut out before scaling.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Crop {
    /// Its width.
    pub width: Extent,
    /// Its height.
    pub height: Extent,
    /// Where it lies; none: as the job's gravity.
    pub gravity: Option<Gravity>,
}

/// How a size is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ResizeKind {
    /// Inside the wanted size, aspect kept.
    Fit,
    /// Covers the wanted size, the rest cut off.
    Fill,
    /// As fill, but keeps the wanted aspect when the image is too small.
    FillDown,
    /// Exactly the wanted size, aspect not kept.
    Force,
    /// Fill when both are portrait or both landscape, else fit.
    Auto,
}

/// How to scale.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Resize {
    /// How the size is reached.
    pub kind: ResizeKind,
    /// Wanted width in CSS pixels; 0: derived.
    pub width: u32,
    /// Wanted height in CSS pixels; 0: derived.
    pub height: u32,
    /// At least this width, in CSS pixels; 0: no bound.
    pub min_width: u32,
    /// At least this height; 0: no bound.
    pub min_height: u32,
    /// Factors on the result, 1 for none.
    pub zoom: [f64; 2],
    /// Device pixels a CSS pixel, 1 for none.
    pub dpr: f64,
    /// Whether an image may become larger than it is.
    pub enlarge: bool,
}

/// Where something lies.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Gravity {
    /// The anchor.
    pub anchor: Anchor,
    /// Offset from it to the right; below 1 in amount a share of the width, else pixels.
    pub x: f64,
    /// Offset from it downwards, alike.
    pub y: f64,
}

/// An anchor of gravity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the compass needs no words")]
pub enum Anchor {
    Center,
    North,
    South,
    East,
    West,
    NorthEast,
    NorthWest,
    SouthEast,
    SouthWest,
    /// A point given by `x` and `y` as shares of width and height.
    FocusPoint,
    /// The most salient part; until that is built, the centre.
    Smart,
}

impl Gravity {
    /// The centre without offset.
    pub const CENTER: Gravity = Gravity { anchor: Anchor::Center, x: 0.0, y: 0.0 };
}

/// The formats that can be written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Format {
    Jpeg,
    Png,
    WebP,
}

impl Format {
    /// The media type.
    pub const fn media(self) -> &'static str {
        match self {
            Format::Jpeg => "image/jpeg",
            Format::Png => "image/png",
            Format::WebP => "image/webp",
        }
    }
}

/// What comes out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Output {
    /// The format; none: `prefer`, else the source's own, else PNG with transparency and JPEG without.
    pub format: Option<Format>,
    /// The format class negotiated with the client, used when no format is asked for.
    pub prefer: Option<Format>,
    /// Quality 1 to 100 for every format.
    pub quality: Option<u8>,
    /// Quality by format, where no single one is asked for.
    pub format_quality: [(Format, u8); 3],
    /// Work less for the same size in pixels: the cheaper rung of the degrade ladder.
    pub effort: Effort,
}

/// How much work an encoder does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Effort {
    /// The default.
    Normal,
    /// The least that gives a usable picture.
    Least,
}

/// Limits of one job; over one of them is an error that names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// Most pixels of a source frame.
    pub source_pixels: u64,
    /// Most bytes of a source.
    pub source_bytes: u64,
    /// Longest side of a result, in pixels.
    pub result_side: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { source_pixels: 50_000_000, source_bytes: 64 << 20, result_side: 8192 }
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            crop: None,
            resize: Resize {
                kind: ResizeKind::Fit,
                width: 0,
                height: 0,
                min_width: 0,
                min_height: 0,
                zoom: [1.0, 1.0],
                dpr: 1.0,
                enlarge: false,
            },
            gravity: Gravity::CENTER,
            extend: None,
            extend_aspect_ratio: None,
            padding: None,
            auto_rotate: true,
            rotate: 0,
            flip_horizontal: false,
            flip_vertical: false,
            background: None,
            blur: 0.0,
            strip_metadata: true,
            keep_copyright: true,
            strip_color_profile: true,
            full_decode: false,
            output: Output {
                format: None,
                prefer: None,
                quality: None,
                format_quality: [(Format::Jpeg, 80), (Format::Png, 80), (Format::WebP, 80)],
                effort: Effort::Normal,
            },
            limits: Limits::default(),
        }
    }
}
