//! The head of a WebP (RFC 9649): RIFF chunks, skipped by their length.

use super::{ImageFacts, Window, exif};

const FIRST_CHUNK: u64 = 12;

/// Walks from chunk to chunk; `None` when the input or the budget ends first, which leaves a size found before as it is.
pub(super) fn read(window: &mut Window<'_>, facts: &mut ImageFacts) -> Option<()> {
    let mut at = FIRST_CHUNK;
    let mut extended = false;
    let mut animated = 0;
    facts.bits = 8;
    loop {
        let [a, b, c, d, length @ ..]: [u8; 8] = window.array(at)?;
        let length = u64::from(u32::from_le_bytes(length));
        match &[a, b, c, d] {
            b"VP8X" => {
                extended = true;
                canvas(window, at + 8, facts)?;
            }
            b"VP8 " if !extended => return lossy(window, at + 8, facts),
            b"VP8L" if !extended => return lossless(window, at + 8, facts),
            b"EXIF" => {
                // Some writers keep the JPEG prefix here.
                let prefix = if window.get(at + 8, 6) == Some(b"Exif\0\0") { 6 } else { 0 };
                facts.orientation = exif::orientation_at(window, at + 8 + prefix).unwrap_or(1);
            }
            b"ANMF" => {
                animated += 1;
                facts.frames = animated;
            }
            _ if at == FIRST_CHUNK => return None,
            _ => {}
        }
        at += 8 + length + (length & 1);
    }
}

fn canvas(window: &mut Window<'_>, at: u64, facts: &mut ImageFacts) -> Option<()> {
    let [flags, _, _, _, w0, w1, w2, h0, h1, h2]: [u8; 10] = window.array(at)?;
    set_alpha(facts, flags & 0x10 != 0);
    facts.sized(u32::from_le_bytes([w0, w1, w2, 0]) + 1, u32::from_le_bytes([h0, h1, h2, 0]) + 1);
    Some(())
}

/// RFC 6386 §9.1: frame tag, start code, then 14 bits of width and of height.
fn lossy(window: &mut Window<'_>, at: u64, facts: &mut ImageFacts) -> Option<()> {
    let [_, _, _, s0, s1, s2, w0, w1, h0, h1]: [u8; 10] = window.array(at)?;
    if [s0, s1, s2] != [0x9d, 0x01, 0x2a] {
        return None;
    }
    set_alpha(facts, false);
    facts.sized(
        u32::from(u16::from_le_bytes([w0, w1]) & 0x3fff),
        u32::from(u16::from_le_bytes([h0, h1]) & 0x3fff),
    );
    Some(())
}

/// RFC 9649 §3.4: signature, then 14 bits each of width - 1 and height - 1, then the alpha hint.
fn lossless(window: &mut Window<'_>, at: u64, facts: &mut ImageFacts) -> Option<()> {
    let [signature, fields @ ..]: [u8; 5] = window.array(at)?;
    if signature != 0x2f {
        return None;
    }
    let fields = u32::from_le_bytes(fields);
    set_alpha(facts, fields & 1 << 28 != 0);
    facts.sized((fields & 0x3fff) + 1, (fields >> 14 & 0x3fff) + 1);
    Some(())
}

fn set_alpha(facts: &mut ImageFacts, alpha: bool) {
    facts.alpha = alpha;
    facts.channels = if alpha { 4 } else { 3 };
}
