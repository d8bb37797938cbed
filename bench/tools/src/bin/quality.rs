//! Scores results against a reference: SSIMULACRA2 to a 16-bit linear-light Lanczos3 reduction of the source. Measures
//! pictures, never time.
//!
//! `quality SOURCE RESULT [SOURCE RESULT]…` prints one line for each pair: score, bytes, width, height, format.

use std::error::Error;
use std::path::Path;

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::{ImageFormat, RgbImage};
use ssimulacra2::{LinearRgb, compute_frame_ssimulacra2};

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    if paths.is_empty() || paths.len() % 2 != 0 {
        return Err("usage: quality SOURCE RESULT [SOURCE RESULT]...".into());
    }
    for pair in paths.chunks_exact(2) {
        println!("{}", score(Path::new(&pair[0]), Path::new(&pair[1]))?);
    }
    Ok(())
}

/// One line about one result. The reference has the result's size, whatever that is: rounding differs between servers.
fn score(source: &Path, result: &Path) -> Result<String, Box<dyn Error>> {
    let (source, _, _) = decode(source)?;
    let (result, bytes, format) = decode(result)?;
    let (width, height) = result.dimensions();
    let reference = reduce(&source, width, height)?;
    let score = compute_frame_ssimulacra2(reference, linear(&result)?)?;
    Ok(format!("{score:.3} {bytes} {width} {height} {format:?}"))
}

/// A picture as 8-bit RGB, by content; alpha is laid on white, as a page would show it.
fn decode(path: &Path) -> Result<(RgbImage, usize, ImageFormat), Box<dyn Error>> {
    let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let format = image::guess_format(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    let picture = image::load_from_memory_with_format(&bytes, format)?.to_rgba8();
    let mut flat = RgbImage::new(picture.width(), picture.height());
    for (to, from) in flat.pixels_mut().zip(picture.pixels()) {
        let over = |c: u8| {
            ((u32::from(c) * u32::from(from[3]) + 255 * (255 - u32::from(from[3])) + 127) / 255) as u8
        };
        to.0 = [over(from[0]), over(from[1]), over(from[2])];
    }
    Ok((flat, bytes.len(), format))
}

/// Reduces in linear light on 16-bit samples with Lanczos3.
fn reduce(source: &RgbImage, width: u32, height: u32) -> Result<LinearRgb, Box<dyn Error>> {
    let table: Vec<u16> = (0..=255u8).map(|v| (to_linear(v) * 65535.0).round() as u16).collect();
    let samples: Vec<u8> =
        source.as_raw().iter().flat_map(|v| table[usize::from(*v)].to_ne_bytes()).collect();
    let from = Image::from_vec_u8(source.width(), source.height(), samples, PixelType::U16x3)?;
    let mut to = Image::new(width, height, PixelType::U16x3);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
    Resizer::new().resize(&from, &mut to, &options)?;
    let values: Vec<f32> =
        to.buffer().chunks_exact(2).map(|b| f32::from(u16::from_ne_bytes([b[0], b[1]])) / 65535.0).collect();
    Ok(LinearRgb::new(triples(&values), width as usize, height as usize)?)
}

fn linear(picture: &RgbImage) -> Result<LinearRgb, Box<dyn Error>> {
    let values: Vec<f32> = picture.as_raw().iter().map(|v| to_linear(*v)).collect();
    Ok(LinearRgb::new(triples(&values), picture.width() as usize, picture.height() as usize)?)
}

fn triples(values: &[f32]) -> Vec<[f32; 3]> {
    values.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect()
}

/// The sRGB transfer function (IEC 61966-2-1).
fn to_linear(v: u8) -> f32 {
    let v = f32::from(v) / 255.0;
    if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
}
