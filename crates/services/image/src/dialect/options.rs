//! The options as a URL and its presets leave them. Later options overwrite earlier ones; what they mean together is decided
//! in `compile`.

use std::collections::BTreeSet;

use base64::Engine;
use tutti_base::Problem;
use tutti_imaging::spec::{Anchor, Format, ResizeKind};

use super::arguments::{Call, channel, flag, hex_color};
use super::formats::FormatName;
use super::known;
use super::signature::LENIENT;

/// Everything that options can say. `None` where the default comes from elsewhere.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Options {
    pub kind: ResizeKind,
    pub width: u32,
    pub height: u32,
    pub min_width: u32,
    pub min_height: u32,
    pub zoom: [f64; 2],
    pub dpr: f64,
    pub enlarge: bool,
    pub extend: Extend,
    pub extend_aspect_ratio: Extend,
    pub gravity: Place,
    pub crop: [f64; 2],
    pub crop_gravity: Place,
    pub padding: [u32; 4],
    pub auto_rotate: bool,
    pub rotate: i64,
    pub flip: [bool; 2],
    pub background: Option<[u8; 3]>,
    pub blur: f64,
    pub strip_metadata: bool,
    pub keep_copyright: bool,
    pub strip_color_profile: bool,
    /// 0: by format.
    pub quality: u8,
    /// Those that were asked for by format; 0 asks for the default again.
    pub format_quality: Vec<(Format, u8)>,
    pub format: Option<FormatName>,
    pub skip: BTreeSet<FormatName>,
    pub raw: bool,
    pub cachebuster: Option<String>,
    /// The earliest of all that were given, in seconds since 1970.
    pub expires: Option<u64>,
    pub filename: Option<String>,
    pub attachment: bool,
}

/// Whether to extend, and where the image then lies.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Extend {
    pub enabled: bool,
    pub place: Place,
}

/// A gravity, its parts set one by one.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Place {
    /// None until one is given.
    pub anchor: Option<Anchor>,
    pub x: f64,
    pub y: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kind: ResizeKind::Fit,
            width: 0,
            height: 0,
            min_width: 0,
            min_height: 0,
            zoom: [1.0, 1.0],
            dpr: 1.0,
            enlarge: false,
            extend: Extend::default(),
            extend_aspect_ratio: Extend::default(),
            gravity: Place::default(),
            crop: [0.0, 0.0],
            crop_gravity: Place::default(),
            padding: [0; 4],
            auto_rotate: true,
            rotate: 0,
            flip: [false, false],
            background: None,
            blur: 0.0,
            strip_metadata: true,
            keep_copyright: true,
            strip_color_profile: true,
            quality: 0,
            format_quality: Vec::new(),
            format: None,
            skip: BTreeSet::new(),
            raw: false,
            cachebuster: None,
            expires: None,
            filename: None,
            attachment: false,
        }
    }
}

impl Options {
    /// Applies one option; `preset` is not one of them, since it needs the tenant.
    ///
    /// Errors: `NotFound` for an unknown option or a bad argument, `Forbidden` for one that would loosen a limit.
    pub(super) fn apply(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        match call.name {
            "resize" | "rs" => self.resize(call)?,
            "size" | "s" => self.size(call)?,
            "resizing_type" | "rt" => self.kind = resize_kind(call, call.only()?)?,
            "width" | "w" => self.width = call.count(call.only()?)?,
            "height" | "h" => self.height = call.count(call.only()?)?,
            "min-width" | "mw" => self.min_width = call.count(call.only()?)?,
            "min-height" | "mh" => self.min_height = call.count(call.only()?)?,
            "zoom" | "z" => self.zoom(call)?,
            "dpr" => self.dpr = call.positive(call.only()?)?,
            "enlarge" | "el" => self.enlarge = flag(call.only()?),
            "extend" | "ex" => self.extend.set(call)?,
            "extend_aspect_ratio" | "extend_ar" | "exar" => self.extend_aspect_ratio.set(call)?,
            "gravity" | "g" => self.gravity.set(call, Smart::Allowed)?,
            "crop" | "c" => self.crop(call)?,
            "padding" | "pd" => self.padding(call)?,
            "auto_rotate" | "ar" => self.auto_rotate = flag(call.only()?),
            "rotate" | "rot" => self.rotate = quarter_turns(call)?,
            "flip" | "fl" => self.flip(call)?,
            "background" | "bg" => self.background = background(call)?,
            "blur" | "bl" => self.blur = call.not_negative(call.only()?)?,
            "strip_metadata" | "sm" => self.strip_metadata = flag(call.only()?),
            "keep_copyright" | "kcr" => self.keep_copyright = flag(call.only()?),
            "strip_color_profile" | "scp" => self.strip_color_profile = flag(call.only()?),
            "quality" | "q" => self.quality = call.quality(call.only()?)?,
            "format_quality" | "fq" => self.format_quality(call)?,
            "format" | "f" | "ext" => self.format = Some(format(call, call.only()?)?),
            "skip_processing" | "skp" => self.skip(call)?,
            "raw" => self.raw = flag(call.only()?),
            "cachebuster" | "cb" => {
                self.cachebuster = Some(call.only()?).filter(|word| !word.is_empty()).map(Into::into)
            }
            "expires" | "exp" => self.expires(call)?,
            "filename" | "fn" => self.filename = filename(call)?,
            "return_attachment" | "att" => self.attachment = flag(call.only()?),
            unknown => return Err(known::refusal(unknown)),
        }
        Ok(())
    }

    fn resize(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        call.at_most(8)?;
        if let Some(kind) = call.given(0) {
            self.kind = resize_kind(call, kind)?;
        }
        match call.args.len() {
            1 => Ok(()),
            _ => self.size(&Call { name: call.name, args: call.args[1..].to_vec() }),
        }
    }

    fn size(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        call.at_most(7)?;
        if let Some(width) = call.given(0) {
            self.width = call.count(width)?;
        }
        if let Some(height) = call.given(1) {
            self.height = call.count(height)?;
        }
        if let Some(enlarge) = call.given(2) {
            self.enlarge = flag(enlarge);
        }
        call.given_from(3).map_or(Ok(()), |extend| self.extend.set(&extend))
    }

    fn zoom(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        let x = call.at_most(2)?.positive(call.args[0])?;
        let y = call.args.get(1).map_or(Ok(x), |y| call.positive(y))?;
        self.zoom = [x, y];
        Ok(())
    }

    fn crop(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        self.crop[0] = call.not_negative(call.args[0])?;
        if let Some(height) = call.args.get(1) {
            self.crop[1] = call.not_negative(height)?;
        }
        match call.args.get(2..) {
            Some(gravity) if !gravity.is_empty() => {
                self.crop_gravity.set(&Call { name: call.name, args: gravity.to_vec() }, Smart::Allowed)
            }
            _ => Ok(()),
        }
    }

    /// What is not given is taken from the opposite side, and right from top: as in CSS.
    fn padding(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        call.at_most(4)?;
        let side = |at: usize, otherwise: u32| call.given(at).map_or(Ok(otherwise), |arg| call.count(arg));
        let top = side(0, self.padding[0])?;
        let right = side(1, top)?;
        self.padding = [top, right, side(2, top)?, side(3, right)?];
        Ok(())
    }

    fn flip(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        call.at_most(2)?;
        for (at, flip) in self.flip.iter_mut().enumerate() {
            *flip = call.given(at).map_or(*flip, flag);
        }
        Ok(())
    }

    fn format_quality(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        for pair in call.args.chunks(2) {
            let [name, quality] = pair else {
                return Err(call.wrong(pair[0], "followed by its quality"));
            };
            let (format, quality) = (format(call, name)?, call.quality(quality)?);
            if let Some(format) = format.written() {
                self.format_quality.retain(|(other, _)| *other != format);
                self.format_quality.push((format, quality));
            }
        }
        Ok(())
    }

    fn skip(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        for name in &call.args {
            self.skip.insert(format(call, name)?);
        }
        Ok(())
    }

    /// 0 and below never expire. A URL that names several times is refused after the first of them, as imgproxy does.
    fn expires(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        let arg = call.only()?;
        let at = arg.parse::<i64>().map_err(|_| call.wrong(arg, "a time in seconds since 1970"))?;
        if let Some(at) = u64::try_from(at).ok().filter(|at| *at > 0) {
            self.expires = Some(self.expires.map_or(at, |earlier| earlier.min(at)));
        }
        Ok(())
    }
}

/// Whether the most salient part can be meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Smart {
    Allowed,
    Refused,
}

impl Extend {
    fn set(&mut self, call: &Call<'_>) -> Result<(), Problem> {
        call.at_most(4)?;
        self.enabled = flag(call.args[0]);
        match &call.args[1..] {
            [] => Ok(()),
            gravity => self.place.set(&Call { name: call.name, args: gravity.to_vec() }, Smart::Refused),
        }
    }
}

impl Place {
    /// Sets the anchor, and the offsets where they are given: those that are not stay as they were.
    fn set(&mut self, call: &Call<'_>, smart: Smart) -> Result<(), Problem> {
        let found = anchor(call.args[0]).filter(|anchor| smart == Smart::Allowed || *anchor != Anchor::Smart);
        let anchor = found.ok_or_else(|| {
            call.wrong(call.args[0], "a gravity (no so ea we noea nowe soea sowe ce sm fp)")
        })?;
        if anchor == Anchor::Smart {
            call.only()?;
            *self = Place { anchor: Some(anchor), x: 0.0, y: 0.0 };
            return Ok(());
        }
        if call.at_most(3)?.args.len() != 3 && anchor == Anchor::FocusPoint {
            return Err(call.wrong(&call.args.join(":"), "`fp` with the two shares x and y"));
        }
        self.anchor = Some(anchor);
        for (at, offset) in [(1, &mut self.x), (2, &mut self.y)] {
            if let Some(arg) = call.given(at) {
                *offset = call.number(arg)?;
                if anchor == Anchor::FocusPoint && !(0.0..=1.0).contains(offset) {
                    return Err(call.wrong(arg, "a share from 0 to 1"));
                }
            }
        }
        Ok(())
    }
}

fn anchor(word: &str) -> Option<Anchor> {
    Some(match word {
        "ce" => Anchor::Center,
        "no" => Anchor::North,
        "so" => Anchor::South,
        "ea" => Anchor::East,
        "we" => Anchor::West,
        "noea" => Anchor::NorthEast,
        "nowe" => Anchor::NorthWest,
        "soea" => Anchor::SouthEast,
        "sowe" => Anchor::SouthWest,
        "fp" => Anchor::FocusPoint,
        "sm" => Anchor::Smart,
        _ => return None,
    })
}

/// The resizing types by name.
pub(super) fn resize_kind_named(word: &str) -> Option<ResizeKind> {
    Some(match word {
        "fit" => ResizeKind::Fit,
        "fill" => ResizeKind::Fill,
        "fill-down" => ResizeKind::FillDown,
        "force" => ResizeKind::Force,
        "auto" => ResizeKind::Auto,
        _ => return None,
    })
}

fn resize_kind(call: &Call<'_>, word: &str) -> Result<ResizeKind, Problem> {
    resize_kind_named(word).ok_or_else(|| call.wrong(word, "fit, fill, fill-down, force or auto"))
}

fn quarter_turns(call: &Call<'_>) -> Result<i64, Problem> {
    let arg = call.only()?;
    let degrees = arg.parse::<i64>().ok().filter(|degrees| degrees % 90 == 0);
    degrees.ok_or_else(|| call.wrong(arg, "a multiple of 90 degrees"))
}

fn background(call: &Call<'_>) -> Result<Option<[u8; 3]>, Problem> {
    match call.args[..] {
        [""] => Ok(None),
        [hex] => {
            hex_color(hex).map(Some).ok_or_else(|| call.wrong(hex, "a colour of 3 or 6 hexadecimal digits"))
        }
        [r, g, b] => {
            let value = |arg| channel(arg).ok_or_else(|| call.wrong(arg, "a whole number from 0 to 255"));
            Ok(Some([value(r)?, value(g)?, value(b)?]))
        }
        _ => Err(call.wrong(&call.args.join(":"), "a colour: hexadecimal digits, or R:G:B")),
    }
}

fn format(call: &Call<'_>, name: &str) -> Result<FormatName, Problem> {
    FormatName::find(name).ok_or_else(|| call.wrong(name, "a format that we know (jpg, png, webp)"))
}

fn filename(call: &Call<'_>) -> Result<Option<String>, Problem> {
    let name = call.at_most(2)?.args[0];
    if !call.given(1).is_some_and(flag) {
        return Ok(Some(name).filter(|name| !name.is_empty()).map(Into::into));
    }
    let decoded =
        LENIENT.decode(name.trim_end_matches('=')).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    decoded.map(Some).ok_or_else(|| call.wrong(name, "a name in base64url"))
}
