//! Where a smaller rectangle lies in a larger one by gravity. Knows no scaling.

use crate::geometry::{Size, Turn};
use crate::spec::{Anchor, Gravity};

/// A part of an image, in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "their names say it")]
pub struct Rect {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

/// The left and top of `inner` in `outer`, kept inside it. Offsets of 1 and more are pixels times `dpr`, smaller ones
/// shares of the outer side.
pub(super) fn place(outer: Size, inner: Size, gravity: Gravity, dpr: f64) -> (u32, u32) {
    let [column, row] = sides(gravity.anchor);
    let gravity = if gravity.anchor == Anchor::Smart { Gravity::CENTER } else { gravity };
    (
        along(outer.width, inner.width, column, gravity.x, dpr),
        along(outer.height, inner.height, row, gravity.y, dpr),
    )
}

/// What an anchor means along one axis.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Start,
    Middle,
    End,
    Point,
}

fn sides(anchor: Anchor) -> [Side; 2] {
    use Side::{End, Middle, Point, Start};
    match anchor {
        Anchor::Center | Anchor::Smart => [Middle, Middle],
        Anchor::North => [Middle, Start],
        Anchor::South => [Middle, End],
        Anchor::East => [End, Middle],
        Anchor::West => [Start, Middle],
        Anchor::NorthEast => [End, Start],
        Anchor::NorthWest => [Start, Start],
        Anchor::SouthEast => [End, End],
        Anchor::SouthWest => [Start, End],
        Anchor::FocusPoint => [Point, Point],
    }
}

fn along(outer: u32, inner: u32, side: Side, offset: f64, dpr: f64) -> u32 {
    let (whole, part) = (i64::from(outer), i64::from(inner));
    let by = if offset.abs() >= 1.0 { offset * dpr } else { f64::from(outer) * offset };
    // A cast saturates, so an absurd offset only reaches an edge.
    let by = (by.round_ties_even() as i64).clamp(-i64::from(u32::MAX), i64::from(u32::MAX));
    let start = match side {
        Side::Point => (f64::from(outer) * offset).round_ties_even() as i64 - part / 2,
        Side::Middle => (((whole - part + 1) as f64) / 2.0).round_ties_even() as i64 + by,
        Side::Start => by,
        Side::End => whole - part - by,
    };
    start.clamp(0, (whole - part).max(0)) as u32
}

/// The gravity in stored pixels that means `gravity` in upright ones.
pub(super) fn unturned(gravity: Gravity, turn: Turn) -> Gravity {
    let [mut column, mut row] = sides(gravity.anchor);
    let (mut x, mut y) = (gravity.x, gravity.y);
    if turn.flip_x {
        (column, x) = mirrored(column, x);
    }
    if turn.flip_y {
        (row, y) = mirrored(row, y);
    }
    if turn.transpose {
        (column, row, x, y) = (row, column, y, x);
    }
    Gravity { anchor: anchor_of(column, row), x, y }
}

/// Offsets at an edge count inwards and stay; those of the middle change sign.
fn mirrored(side: Side, offset: f64) -> (Side, f64) {
    match side {
        Side::Start => (Side::End, offset),
        Side::End => (Side::Start, offset),
        Side::Middle => (Side::Middle, -offset),
        Side::Point => (Side::Point, 1.0 - offset),
    }
}

fn anchor_of(column: Side, row: Side) -> Anchor {
    match (column, row) {
        (Side::Point, _) | (_, Side::Point) => Anchor::FocusPoint,
        (Side::Middle, Side::Middle) => Anchor::Center,
        (Side::Middle, Side::Start) => Anchor::North,
        (Side::Middle, Side::End) => Anchor::South,
        (Side::End, Side::Middle) => Anchor::East,
        (Side::Start, Side::Middle) => Anchor::West,
        (Side::End, Side::Start) => Anchor::NorthEast,
        (Side::Start, Side::Start) => Anchor::NorthWest,
        (Side::End, Side::End) => Anchor::SouthEast,
        (Side::Start, Side::End) => Anchor::SouthWest,
    }
}
