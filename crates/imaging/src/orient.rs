//! Turns and mirrors pixels. Decides nothing: the geometry says how.

use crate::geometry::Turn;
use crate::raster::Raster;

/// Side of a square that is turned at once, so that reads and writes both stay in the nearest cache.
const TILE: usize = 32;

/// Lays `source` as `turn` says into `target`.
pub(crate) fn run(source: &Raster, turn: Turn, target: &mut Raster) {
    let (width, height) =
        if turn.transpose { (source.height, source.width) } else { (source.width, source.height) };
    target.reshape(width, height, source.samples);
    match source.samples.channels() {
        1 => turned::<1>(source, turn, target),
        2 => turned::<2>(source, turn, target),
        3 => turned::<3>(source, turn, target),
        _ => turned::<4>(source, turn, target),
    }
}

fn turned<const C: usize>(source: &Raster, turn: Turn, target: &mut Raster) {
    let (width, height) = (target.width, target.height);
    for top in (0..height).step_by(TILE) {
        for left in (0..width).step_by(TILE) {
            for y in top..(top + TILE).min(height) {
                let from_y = if turn.flip_y { height - 1 - y } else { y };
                let line = &mut target.bytes[y * width * C..][..width * C];
                for x in left..(left + TILE).min(width) {
                    let from_x = if turn.flip_x { width - 1 - x } else { x };
                    let (sx, sy) = if turn.transpose { (from_y, from_x) } else { (from_x, from_y) };
                    let at = source.offset + sy * source.stride + sx * C;
                    line[x * C..x * C + C].copy_from_slice(&source.bytes[at..at + C]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::Samples;

    fn numbered() -> Raster {
        let mut raster = Raster::default();
        raster.reshape(3, 2, Samples::Gray);
        raster.bytes.copy_from_slice(&[1, 2, 3, 4, 5, 6]);
        raster
    }

    #[test]
    fn every_exif_orientation_gives_the_upright_image() {
        // Rows of the upright image of 3 x 2 stored pixels 123/456, from the table of CIPA DC-008 §4.6.4.
        let cases: [(u8, &[u8]); 8] = [
            (1, &[1, 2, 3, 4, 5, 6]),
            (2, &[3, 2, 1, 6, 5, 4]),
            (3, &[6, 5, 4, 3, 2, 1]),
            (4, &[4, 5, 6, 1, 2, 3]),
            (5, &[1, 4, 2, 5, 3, 6]),
            (6, &[4, 1, 5, 2, 6, 3]),
            (7, &[6, 3, 5, 2, 4, 1]),
            (8, &[3, 6, 2, 5, 1, 4]),
        ];
        for (orientation, upright) in cases {
            let turn = Turn::of(&crate::Spec::default(), orientation);
            let mut target = Raster::default();
            run(&numbered(), turn, &mut target);
            assert_eq!(target.bytes, upright, "orientation {orientation}");
        }
    }

    #[test]
    fn turns_come_after_the_orientation_and_flips_last() {
        let spec = crate::Spec { rotate: 90, flip_horizontal: true, ..crate::Spec::default() };
        let mut target = Raster::default();
        run(&numbered(), Turn::of(&spec, 1), &mut target);
        assert_eq!((target.width, target.height), (2, 3));
        assert_eq!(target.bytes, [1, 4, 2, 5, 3, 6]);
    }
}
