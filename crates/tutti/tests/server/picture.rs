//! Pictures for tests: made, written in each format, read back, and compared by what they show.

use std::io::Cursor;

use tutti_imaging::spec::{Format, Spec};
use tutti_imaging::{Renderer, SourceFormat, probe};

/// Eight bits, red, green, blue, alpha.
#[derive(Clone, PartialEq)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    rgba: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}x{})", self.width, self.height)
    }
}

impl Picture {
    /// A smooth picture with an edge; each `seed` gives another one.
    pub(crate) fn scene(width: u32, height: u32, seed: u32) -> Self {
        let step = |value: u32, of: u32| (value * 255 / of.max(1)) as u8;
        let at = |x: u32, y: u32| {
            let edge = if (x * 2 > width) ^ (seed % 2 == 1) { 200 } else { 40 };
            let turned = if seed.is_multiple_of(3) { step(x, width) } else { 255 - step(x, width) };
            [turned, step(y, height), (edge + seed % 50) as u8, 255]
        };
        let rgba = (0..height).flat_map(|y| (0..width).flat_map(move |x| at(x, y))).collect();
        Self { width, height, rgba }
    }

    /// One colour.
    pub(crate) fn plain(width: u32, height: u32, [red, green, blue]: [u8; 3]) -> Self {
        let pixels = width as usize * height as usize;
        Self { width, height, rgba: [red, green, blue, 255].repeat(pixels) }
    }

    /// Reads a file of any of the formats that we write.
    #[track_caller]
    pub(crate) fn read(file: &[u8]) -> Self {
        let png = written(file, Format::Png);
        let mut decoder = png::Decoder::new(Cursor::new(png));
        decoder
            .set_transformations(png::Transformations::normalize_to_color8() | png::Transformations::ALPHA);
        let mut reader = decoder.read_info().expect("a PNG");
        let mut bytes = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut bytes).expect("its pixels");
        bytes.truncate(info.buffer_size());
        let rgba = match info.color_type {
            png::ColorType::GrayscaleAlpha => {
                bytes.chunks(2).flat_map(|pair| [pair[0], pair[0], pair[0], pair[1]]).collect()
            }
            _ => bytes,
        };
        assert_eq!(rgba.len(), info.width as usize * info.height as usize * 4);
        Self { width: info.width, height: info.height, rgba }
    }

    pub(crate) fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// As PNG, by another encoder than ours.
    pub(crate) fn png(&self) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(png::ColorType::Rgba);
        let mut writer = encoder.write_header().expect("a header");
        writer.write_image_data(&self.rgba).expect("pixels");
        drop(writer);
        file
    }

    pub(crate) fn jpeg(&self) -> Vec<u8> {
        written(&self.png(), Format::Jpeg)
    }

    pub(crate) fn webp(&self) -> Vec<u8> {
        written(&self.png(), Format::WebP)
    }

    /// Made smaller by the mean of what falls into each pixel: a plain reference to compare with.
    pub(crate) fn scaled(&self, width: u32, height: u32) -> Self {
        let mut rgba = Vec::new();
        for y in 0..height {
            for x in 0..width {
                rgba.extend(self.mean(span(x, width, self.width), span(y, height, self.height)));
            }
        }
        Self { width, height, rgba }
    }

    fn mean(&self, (left, right): (u32, u32), (top, bottom): (u32, u32)) -> [u8; 4] {
        let mut sums = [0_u64; 4];
        for y in top..bottom {
            let row = (y * self.width) as usize * 4;
            for pixel in self.rgba[row + left as usize * 4..row + right as usize * 4].chunks(4) {
                sums.iter_mut().zip(pixel).for_each(|(sum, sample)| *sum += u64::from(*sample));
            }
        }
        let count = u64::from((right - left) * (bottom - top));
        sums.map(|sum| (sum / count) as u8)
    }

    /// The mean difference of samples, 0 to 255; pictures of other sizes are as far apart as can be.
    pub(crate) fn distance(&self, other: &Self) -> f64 {
        if self.size() != other.size() {
            return 255.0;
        }
        let differences = self.rgba.iter().zip(&other.rgba).map(|(a, b)| f64::from(a.abs_diff(*b)));
        differences.sum::<f64>() / self.rgba.len() as f64
    }

    /// Fails unless `file` shows this picture, give or take what compression and rounding cost.
    #[track_caller]
    pub(crate) fn assert_shown_by(&self, file: &[u8]) {
        let shown = Self::read(file);
        assert_eq!(shown.size(), self.size());
        let distance = self.distance(&shown);
        assert!(distance < 6.0, "mean difference {distance}");
    }
}

/// The pixels of `from` that make up pixel `at` of `to`.
fn span(at: u32, to: u32, from: u32) -> (u32, u32) {
    let begin = (u64::from(at) * u64::from(from) / u64::from(to)) as u32;
    let end = (u64::from(at + 1) * u64::from(from) / u64::from(to)) as u32;
    (begin, end.max(begin + 1).min(from))
}

/// `file` in another format, at high quality.
#[track_caller]
fn written(file: &[u8], format: Format) -> Vec<u8> {
    let mut spec = Spec::default();
    spec.output.format = Some(format);
    spec.output.quality = Some(95);
    let mut out = Vec::new();
    Renderer::new().render(&spec, file, &mut out).expect("a picture");
    out
}

/// The format that `file` is in, by its content.
pub(crate) fn format_of(file: &[u8]) -> Option<SourceFormat> {
    let mut bytes = file;
    probe(&mut bytes).format
}
