//! The head of a JPEG (ITU-T T.81): segments are skipped by their length until the frame header tells the size.

use super::{ImageFacts, Window, exif};

const SOI_LEN: u64 = 2;
/// Fill bytes that may stand before one marker.
const MAX_FILL: u32 = 16;

/// Walks from segment to segment; `None` when the input or the budget ends before the frame header.
pub(super) fn read(window: &mut Window<'_>, facts: &mut ImageFacts) -> Option<()> {
    let mut at = SOI_LEN;
    let mut oriented = false;
    loop {
        let marker = next_marker(window, &mut at)?;
        // Standalone markers have no length (T.81 B.1.1.3).
        if matches!(marker, 0x01 | 0xd0..=0xd8) {
            continue;
        }
        if matches!(marker, 0xd9 | 0xda) {
            return None;
        }
        let length = u64::from(u16::from_be_bytes(window.array(at)?));
        if length < 2 {
            return None;
        }
        match marker {
            0xe1 if !oriented && window.get(at + 2, 6) == Some(b"Exif\0\0") => {
                if let Some(orientation) = exif::orientation_at(window, at + 8) {
                    facts.orientation = orientation;
                    oriented = true;
                }
            }
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => return frame(window, at, marker, facts),
            _ => {}
        }
        at += length;
    }
}

/// Reads a marker at `at` and moves behind it.
fn next_marker(window: &mut Window<'_>, at: &mut u64) -> Option<u8> {
    if window.u8(*at)? != 0xff {
        return None;
    }
    for _ in 0..MAX_FILL {
        *at += 1;
        let byte = window.u8(*at)?;
        if byte != 0xff {
            *at += 1;
            return Some(byte);
        }
    }
    None
}

/// Reads the frame header (T.81 B.2.2).
fn frame(window: &mut Window<'_>, at: u64, marker: u8, facts: &mut ImageFacts) -> Option<()> {
    let [bits, h1, h0, w1, w0, channels] = window.array(at + 2)?;
    facts.bits = bits;
    facts.channels = channels;
    facts.cmyk = channels == 4;
    facts.progressive = matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce);
    facts.sized(u32::from(u16::from_be_bytes([w1, w0])), u32::from(u16::from_be_bytes([h1, h0])));
    Some(())
}
