//! EXIF (CIPA DC-008, a TIFF in a segment): the orientation, and the text fields that copyright needs. Writes none of it.

use super::Window;

const ORIENTATION: u16 = 0x0112;
/// Artist and Copyright.
pub(crate) const COPYRIGHT_TAGS: [u16; 2] = [0x013b, 0x8298];
/// Entries of the first directory that are looked at.
const MAX_ENTRIES: u16 = 64;
const ENTRY_LEN: u64 = 12;

#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn of(mark: [u8; 4]) -> Option<Self> {
        match &mark {
            b"II*\0" => Some(Order::Little),
            b"MM\0*" => Some(Order::Big),
            _ => None,
        }
    }
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Order::Little => u16::from_le_bytes(bytes),
            Order::Big => u16::from_be_bytes(bytes),
        }
    }
    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        }
    }
}

/// The orientation of the TIFF that begins at `base`: 1 to 8, or none.
pub(super) fn orientation_at(window: &mut Window<'_>, base: u64) -> Option<u8> {
    let (order, at) = find_entry(window, base, ORIENTATION)?;
    let value = order.u16(window.array(at + 8)?);
    u8::try_from(value).ok().filter(|value| (1..=8).contains(value))
}

/// Finds a tag's entry in the first directory.
fn find_entry(window: &mut Window<'_>, base: u64, tag: u16) -> Option<(Order, u64)> {
    let order = Order::of(window.array(base)?)?;
    let directory = base + u64::from(order.u32(window.array(base + 4)?));
    let entries = order.u16(window.array(directory)?).min(MAX_ENTRIES);
    (0..u64::from(entries))
        .map(|at| directory + 2 + at * ENTRY_LEN)
        .find_map(|at| Some(order.u16(window.array(at)?) == tag).filter(|hit| *hit).map(|_| (order, at)))
}

/// The text of `tags` in a TIFF, with their tags.
pub(crate) fn ascii_fields(tiff: &[u8], tags: &[u16]) -> Vec<(u16, Vec<u8>)> {
    let mut bytes = tiff;
    let mut window = Window::new(&mut bytes);
    let found: Vec<_> =
        tags.iter().filter_map(|tag| Some((*tag, find_entry(&mut window, 0, *tag)?))).collect();
    found.into_iter().filter_map(|(tag, (order, at))| Some((tag, ascii(tiff, order, at)?))).collect()
}

fn ascii(tiff: &[u8], order: Order, entry: u64) -> Option<Vec<u8>> {
    const ASCII: u16 = 2;
    let entry = tiff.get(usize::try_from(entry).ok()?..)?.first_chunk::<12>()?;
    let [_, _, k0, k1, n0, n1, n2, n3, v0, v1, v2, v3] = *entry;
    if order.u16([k0, k1]) != ASCII {
        return None;
    }
    let count = order.u32([n0, n1, n2, n3]) as usize;
    let value = [v0, v1, v2, v3];
    let text = if count <= 4 {
        value.get(..count)?.to_vec()
    } else {
        let from = order.u32(value) as usize;
        tiff.get(from..from.checked_add(count)?)?.to_vec()
    };
    (text.iter().any(|byte| *byte != 0)).then_some(text)
}

/// A copy of a TIFF whose orientation says upright.
pub(crate) fn with_orientation_one(tiff: &[u8]) -> Vec<u8> {
    let mut copy = tiff.to_vec();
    let mut bytes = tiff;
    if let Some((order, at)) = find_entry(&mut Window::new(&mut bytes), 0, ORIENTATION) {
        let one = match order {
            Order::Little => [1, 0],
            Order::Big => [0, 1],
        };
        if let Some(value) = usize::try_from(at + 8).ok().and_then(|at| copy.get_mut(at..at + 2)) {
            value.copy_from_slice(&one);
        }
    }
    copy
}
