//! The head of a PNG (W3C PNG third edition): the chunks before the first image data.

use super::{ImageFacts, Window, exif};

const FIRST_CHUNK: u64 = 8;

/// Walks from chunk to chunk; `None` when the input or the budget ends before the image data.
pub(super) fn read(window: &mut Window<'_>, facts: &mut ImageFacts) -> Option<()> {
    let mut at = FIRST_CHUNK;
    loop {
        let [a, b, c, d, name @ ..]: [u8; 8] = window.array(at)?;
        let length = u64::from(u32::from_be_bytes([a, b, c, d]));
        match &name {
            b"IHDR" if at == FIRST_CHUNK && length == 13 => header(window, at + 8, facts)?,
            _ if at == FIRST_CHUNK => return None,
            b"IDAT" | b"IEND" => return Some(()),
            b"tRNS" => facts.alpha = true,
            b"acTL" => facts.frames = u32::from_be_bytes(window.array(at + 8)?).max(1),
            b"eXIf" => facts.orientation = exif::orientation_at(window, at + 8).unwrap_or(1),
            _ => {}
        }
        at += length + 12;
    }
}

fn header(window: &mut Window<'_>, at: u64, facts: &mut ImageFacts) -> Option<()> {
    let [w3, w2, w1, w0, h3, h2, h1, h0, bits, color, _, _, interlace]: [u8; 13] = window.array(at)?;
    facts.bits = bits;
    facts.channels = match color {
        0 | 3 => 1,
        2 => 3,
        4 => 2,
        6 => 4,
        _ => return None,
    };
    facts.alpha = matches!(color, 4 | 6);
    facts.progressive = interlace != 0;
    facts.sized(u32::from_be_bytes([w3, w2, w1, w0]), u32::from_be_bytes([h3, h2, h1, h0]));
    Some(())
}
