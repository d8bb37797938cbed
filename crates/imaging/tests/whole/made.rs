//! Files made for the tests.

use tutti_imaging::spec::{Format, Spec};
use tutti_imaging::{Rendered, Renderer};

/// A smooth picture with an edge, RGB.
pub(crate) fn pixels(width: u32, height: u32) -> Vec<u8> {
    let at = |x: u32, y: u32| {
        let blue = if x * 2 > width { 220 } else { 40 };
        [(x * 255 / width.max(1)) as u8, (y * 255 / height.max(1)) as u8, blue]
    };
    (0..height).flat_map(|y| (0..width).flat_map(move |x| at(x, y))).collect()
}

/// A PNG of `bytes` by another encoder than ours.
pub(crate) fn png_of(
    color: png::ColorType,
    depth: png::BitDepth,
    width: u32,
    height: u32,
    bytes: &[u8],
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    if color == png::ColorType::Indexed {
        encoder.set_palette((0..=255_u8).flat_map(|at| [at, 255 - at, at / 2]).collect::<Vec<_>>());
    }
    encoder.write_header().unwrap().write_image_data(bytes).unwrap();
    file
}

/// A PNG of any kind, with pseudo-random samples.
pub(crate) fn png(color: png::ColorType, depth: png::BitDepth, width: u32, height: u32) -> Vec<u8> {
    let bits = color.samples() * depth as usize * width as usize;
    let bytes: Vec<u8> = (0..bits.div_ceil(8) * height as usize).map(|at| (at * 37 + at / 7) as u8).collect();
    png_of(color, depth, width, height, &bytes)
}

pub(crate) fn rgb_png(width: u32, height: u32) -> Vec<u8> {
    png_of(png::ColorType::Rgb, png::BitDepth::Eight, width, height, &pixels(width, height))
}

pub(crate) fn render(spec: &Spec, input: &[u8]) -> (Rendered, Vec<u8>) {
    let mut out = Vec::new();
    let rendered = Renderer::new().render(spec, input, &mut out).unwrap();
    (rendered, out)
}

pub(crate) fn to(format: Format) -> Spec {
    let mut spec = Spec::default();
    spec.output.format = Some(format);
    spec.output.quality = Some(95);
    spec
}

pub(crate) fn jpeg(width: u32, height: u32) -> Vec<u8> {
    render(&to(Format::Jpeg), &rgb_png(width, height)).1
}

pub(crate) fn webp(width: u32, height: u32) -> Vec<u8> {
    render(&to(Format::WebP), &rgb_png(width, height)).1
}

/// EXIF with an orientation, a copyright and a camera.
pub(crate) fn exif(orientation: u8) -> Vec<u8> {
    let mut tiff = b"MM\0*\0\0\0\x08\0\x03".to_vec();
    tiff.extend(b"\x01\x0f\0\x02\0\0\0\x04Cam\0");
    tiff.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0]);
    tiff.extend(b"\x82\x98\0\x02\0\0\0\x09\0\0\0\x32");
    tiff.extend([0; 4]);
    tiff.extend(b"(c) Anna\0\0");
    tiff
}

fn segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let mut segment = vec![0xff, marker];
    segment.extend((body.len() as u16 + 2).to_be_bytes());
    segment.extend(body);
    segment
}

/// Puts segments behind the start of a JPEG.
pub(crate) fn with_segments(jpeg: &[u8], segments: &[u8]) -> Vec<u8> {
    [&jpeg[..2], segments, &jpeg[2..]].concat()
}

pub(crate) fn jpeg_with(exif: &[u8], width: u32, height: u32) -> Vec<u8> {
    with_segments(&jpeg(width, height), &segment(0xe1, &[b"Exif\0\0", exif].concat()))
}

pub(crate) fn jpeg_with_profile(icc: &[u8], width: u32, height: u32) -> Vec<u8> {
    with_segments(&jpeg(width, height), &segment(0xe2, &[b"ICC_PROFILE\0\x01\x01", icc].concat()))
}

pub(crate) fn jpeg_after_profile(bytes: usize, width: u32, height: u32) -> Vec<u8> {
    let part = segment(0xe2, &vec![0; 60_000]);
    let segments: Vec<u8> = (0..bytes.div_ceil(60_000)).flat_map(|_| part.clone()).collect();
    with_segments(&jpeg(width, height), &segments)
}

pub(crate) fn chunk(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let named = [&name[..], body].concat();
    [&(body.len() as u32).to_be_bytes()[..], &named, &crc32fast::hash(&named).to_be_bytes()].concat()
}

/// Puts a chunk behind the header of a PNG.
pub(crate) fn png_with_chunk(name: &[u8; 4], body: &[u8], width: u32, height: u32) -> Vec<u8> {
    let png = rgb_png(width, height);
    [&png[..33], &chunk(name, body), &png[33..]].concat()
}

pub(crate) fn riff(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut file = b"RIFF\0\0\0\0WEBP".to_vec();
    for (name, body) in chunks {
        file.extend_from_slice(&name[..]);
        file.extend((body.len() as u32).to_le_bytes());
        file.extend_from_slice(body);
        file.resize(file.len().next_multiple_of(2), 0);
    }
    let len = file.len() as u32 - 8;
    file[4..8].copy_from_slice(&len.to_le_bytes());
    file
}

fn vp8x(flags: u8, width: u32, height: u32) -> Vec<u8> {
    let three = |value: u32| [value as u8, (value >> 8) as u8, (value >> 16) as u8];
    [&[flags, 0, 0, 0][..], &three(width - 1), &three(height - 1)].concat()
}

pub(crate) fn webp_with_exif(exif: &[u8], width: u32, height: u32) -> Vec<u8> {
    let webp = webp(width, height);
    riff(&[(b"VP8X", &vp8x(0x08, width, height)), (b"VP8 ", &webp[20..]), (b"EXIF", exif)])
}

/// An animation whose frames leave the right and lower quarter of the canvas empty.
pub(crate) fn animated_webp(width: u32, height: u32, frames: usize) -> Vec<u8> {
    let (inner_w, inner_h) = (width * 3 / 4, height * 3 / 4);
    let webp = webp(inner_w, inner_h);
    let mut frame = vec![0; 6];
    frame.extend(&vp8x(0, inner_w, inner_h)[4..]);
    frame.extend([100, 0, 0, 0]);
    frame.extend(&webp[12..]);
    let head = vp8x(0x12, width, height);
    let mut chunks: Vec<(&[u8; 4], &[u8])> = vec![(b"VP8X", &head), (b"ANIM", &[0; 6])];
    chunks.extend((0..frames).map(|_| (b"ANMF", &frame[..])));
    riff(&chunks)
}

/// One file of every kind.
pub(crate) fn all() -> Vec<Vec<u8>> {
    vec![
        jpeg(24, 16),
        jpeg_with(&exif(6), 24, 16),
        rgb_png(24, 16),
        png(png::ColorType::Indexed, png::BitDepth::Four, 24, 16),
        webp(24, 16),
        webp_with_exif(&exif(3), 24, 16),
        animated_webp(24, 16, 2),
    ]
}
