//! Formats by their first bytes, and the size of those that are known but not decoded here.

use super::{ImageFacts, SourceFormat, Window};

/// How many bytes are enough to tell every format.
pub(super) const MAGIC: usize = 512;

/// The format whose signature `head` begins with.
pub(super) fn sniff(head: &[u8]) -> Option<SourceFormat> {
    match head {
        [0xff, 0xd8, 0xff, ..] => Some(SourceFormat::Jpeg),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Some(SourceFormat::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(SourceFormat::WebP),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(SourceFormat::Gif),
        [b'I', b'I', b'*', 0, ..] | [b'M', b'M', 0, b'*', ..] => Some(SourceFormat::Tiff),
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Some(SourceFormat::Bmp),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => brand(head),
        _ => svg(head),
    }
}

/// The major brand, else the compatible ones (ISO/IEC 14496-12 §4.3).
fn brand(head: &[u8]) -> Option<SourceFormat> {
    let length = u32::from_be_bytes(*head.first_chunk()?) as usize;
    let brands = head.get(8..length.min(head.len()))?.chunks_exact(4);
    brands.into_iter().find_map(|brand| match brand {
        b"avif" | b"avis" => Some(SourceFormat::Avif),
        b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" => Some(SourceFormat::Heic),
        _ => None,
    })
}

fn svg(head: &[u8]) -> Option<SourceFormat> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let opens = text.starts_with(b"<?xml") || text.starts_with(b"<!--") || text.starts_with(b"<!DOCTYPE svg");
    let svg = text.starts_with(b"<svg") || opens && text.windows(4).any(|four| four == b"<svg");
    svg.then_some(SourceFormat::Svg)
}

/// Reads the size of a GIF or a BMP; of others nothing.
pub(super) fn read(window: &mut Window<'_>, facts: &mut ImageFacts) -> Option<()> {
    match facts.format? {
        SourceFormat::Gif => {
            let [w0, w1, h0, h1] = window.array(6)?;
            facts.sized(u32::from(u16::from_le_bytes([w0, w1])), u32::from(u16::from_le_bytes([h0, h1])));
        }
        SourceFormat::Bmp => {
            let [w0, w1, w2, w3, height @ ..]: [u8; 8] = window.array(18)?;
            facts.sized(u32::from_le_bytes([w0, w1, w2, w3]), i32::from_le_bytes(height).unsigned_abs());
        }
        _ => {}
    }
    Some(())
}
