//! The eight ways to lay an image: changed axes, then mirrored. Moves no pixels.

use crate::geometry::{Rect, Size};
use crate::spec::Spec;

/// How stored pixels become upright ones: axes are changed over first, then x and y mirrored.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Turn {
    pub transpose: bool,
    pub flip_x: bool,
    pub flip_y: bool,
}

impl Turn {
    const QUARTER: Turn = Turn { transpose: true, flip_x: true, flip_y: false };

    /// EXIF orientation (CIPA DC-008 §4.6.4) where it is to be applied, then the turn and the flips asked for.
    pub fn of(spec: &Spec, orientation: u8) -> Self {
        let mut turn = if spec.auto_rotate { Self::of_exif(orientation) } else { Self::default() };
        for _ in 0..(spec.rotate / 90) % 4 {
            turn = turn.then(Self::QUARTER);
        }
        turn.then(Turn { transpose: false, flip_x: spec.flip_horizontal, flip_y: spec.flip_vertical })
    }

    fn of_exif(orientation: u8) -> Self {
        Turn {
            transpose: (5..=8).contains(&orientation),
            flip_x: matches!(orientation, 2 | 3 | 6 | 7),
            flip_y: matches!(orientation, 3 | 4 | 7 | 8),
        }
    }

    fn then(self, next: Turn) -> Self {
        let (x, y) = if next.transpose { (self.flip_y, self.flip_x) } else { (self.flip_x, self.flip_y) };
        Turn {
            transpose: self.transpose != next.transpose,
            flip_x: x != next.flip_x,
            flip_y: y != next.flip_y,
        }
    }

    /// Whether nothing moves.
    pub fn is_identity(self) -> bool {
        self == Self::default()
    }

    /// Where a part of the upright image of size `upright` lies in the stored one.
    pub(crate) fn undo(self, part: Rect, upright: Size) -> Rect {
        let mut stored = part;
        if self.flip_x {
            stored.left = upright.width - part.left - part.width;
        }
        if self.flip_y {
            stored.top = upright.height - part.top - part.height;
        }
        if self.transpose {
            stored = Rect { left: stored.top, top: stored.left, width: stored.height, height: stored.width };
        }
        stored
    }
}
