//! Geometry as a table, and as properties.

use super::*;
use crate::spec::{Anchor, Crop, Gravity, Resize};

fn spec(kind: ResizeKind, width: u32, height: u32) -> Spec {
    let resize = Resize { kind, width, height, ..Spec::default().resize };
    Spec { resize, ..Spec::default() }
}

fn of(spec: &Spec, width: u32, height: u32) -> Geometry {
    Geometry::of(spec, width, height, 1).unwrap()
}

fn at(anchor: Anchor, x: f64, y: f64) -> Gravity {
    Gravity { anchor, x, y }
}

#[test]
fn sizes_are_those_of_imgproxy() {
    use ResizeKind::{Auto, Fill, FillDown, Fit, Force};
    // kind, wanted, source, scaled, result
    let cases = [
        (Fit, (512, 512), (2048, 1365), (512, 341), (512, 341)),
        (Fit, (512, 512), (1365, 2048), (341, 512), (341, 512)),
        (Fit, (300, 0), (1000, 333), (300, 100), (300, 100)),
        (Fit, (0, 100), (1000, 333), (300, 100), (300, 100)),
        (Fit, (0, 0), (1000, 333), (1000, 333), (1000, 333)),
        (Fit, (4000, 4000), (1000, 500), (1000, 500), (1000, 500)),
        // 3 * 0.5 = 1.5 is rounded away from zero.
        (Fit, (2, 2), (4, 3), (2, 2), (2, 2)),
        (Fit, (10, 10), (1000, 3), (10, 1), (10, 1)),
        (Fill, (100, 100), (1000, 500), (200, 100), (100, 100)),
        (Fill, (100, 0), (1000, 500), (100, 50), (100, 50)),
        // Too small to fill without enlarging: what there is is cut to the wanted size.
        (Fill, (400, 400), (300, 600), (300, 600), (300, 400)),
        (FillDown, (400, 400), (300, 600), (300, 600), (300, 300)),
        (FillDown, (400, 200), (300, 600), (300, 600), (300, 150)),
        (FillDown, (100, 100), (1000, 500), (200, 100), (100, 100)),
        (Force, (100, 300), (1000, 500), (100, 300), (100, 300)),
        (Force, (100, 0), (1000, 500), (100, 500), (100, 500)),
        (Auto, (100, 50), (1000, 600), (100, 60), (100, 50)),
        (Auto, (50, 100), (1000, 500), (50, 25), (50, 25)),
        (Auto, (50, 100), (500, 1000), (50, 100), (50, 100)),
    ];
    for (kind, wanted, source, scaled, result) in cases {
        let got = of(&spec(kind, wanted.0, wanted.1), source.0, source.1);
        let label = format!("{kind:?} {wanted:?} of {source:?}");
        assert_eq!((got.scaled.width, got.scaled.height), scaled, "{label}, scaled");
        assert_eq!((got.result.width, got.result.height), result, "{label}, result");
        assert_eq!((got.canvas.width, got.canvas.height), result, "{label}, canvas");
    }
}

#[test]
fn factors_and_bounds_apply_in_order() {
    let with = |change: fn(&mut Spec)| {
        let mut spec = spec(ResizeKind::Fit, 100, 100);
        change(&mut spec);
        let got = of(&spec, 1000, 500);
        (got.canvas.width, got.canvas.height, got.dpr)
    };
    assert_eq!(with(|spec| spec.resize.dpr = 2.0), (200, 100, 2.0));
    assert_eq!(
        with(|spec| spec.resize.dpr = 20.0),
        (1000, 500, 10.0),
        "dpr is clamped where nothing may enlarge"
    );
    let enlarged = with(|spec| (spec.resize.dpr, spec.resize.enlarge) = (20.0, true));
    assert_eq!(enlarged, (2000, 1000, 20.0));
    assert_eq!(with(|spec| spec.resize.zoom = [2.0, 2.0]), (200, 100, 1.0));
    assert_eq!(
        with(|spec| spec.resize.min_height = 80),
        (100, 80, 1.0),
        "the rest is cut to the wanted width"
    );
    let free = {
        let mut spec = spec(ResizeKind::Fit, 100, 0);
        spec.resize.min_height = 80;
        of(&spec, 1000, 500).canvas
    };
    assert_eq!(free, Size::new(100, 80));
}

#[test]
fn what_is_cut_off_depends_on_gravity() {
    let left = |gravity, dpr| {
        let mut spec = spec(ResizeKind::Fill, 100, 100);
        spec.gravity = gravity;
        spec.resize.dpr = dpr;
        let got = of(&spec, 1000, 500);
        (got.result.left, got.result.top)
    };
    assert_eq!(left(Gravity::CENTER, 1.0), (50, 0), "(200 - 100 + 1) / 2 to even");
    assert_eq!(left(at(Anchor::Smart, 9.0, 0.0), 1.0), (50, 0));
    assert_eq!(left(at(Anchor::West, 0.0, 0.0), 1.0), (0, 0));
    assert_eq!(left(at(Anchor::East, 0.0, 0.0), 1.0), (100, 0));
    assert_eq!(left(at(Anchor::East, 7.0, 0.0), 1.0), (93, 0));
    assert_eq!(left(at(Anchor::East, 7.0, 0.0), 2.0), (186, 0), "pixels grow with dpr");
    assert_eq!(left(at(Anchor::West, 0.25, 0.0), 1.0), (50, 0), "below 1: a share of the scaled width");
    assert_eq!(left(at(Anchor::FocusPoint, 0.25, 0.5), 1.0), (0, 0));
    assert_eq!(left(at(Anchor::FocusPoint, 0.6, 0.5), 1.0), (70, 0));
    assert_eq!(left(at(Anchor::Center, 1e300, 0.0), 1.0), (100, 0), "an absurd offset reaches the edge");
    assert_eq!(left(at(Anchor::Center, -30.0, 0.0), 1.0), (20, 0));
}

#[test]
fn a_crop_comes_before_scaling_and_counts_upright() {
    let mut spec = spec(ResizeKind::Fit, 50, 50);
    spec.crop = Some(Crop {
        width: Extent::Share(0.5),
        height: Extent::Pixels(100.0),
        gravity: Some(at(Anchor::NorthWest, 10.0, 20.0)),
    });
    let got = of(&spec, 400, 300);
    assert_eq!(got.crop, Rect { left: 10, top: 20, width: 200, height: 100 });
    assert_eq!(got.canvas, Size::new(50, 25));
    // Turned by 90 degrees clockwise (EXIF 6), the upright image is 300 x 400.
    let turned = Geometry::of(&spec, 400, 300, 6).unwrap();
    assert_eq!(turned.crop, Rect { left: 20, top: 140, width: 100, height: 150 });
    assert_eq!(turned.canvas, Size::new(50, 33));
    assert_eq!(turned.scaled, Size::new(33, 50), "scaled as stored");
}

#[test]
fn extension_and_padding_surround() {
    let mut spec = spec(ResizeKind::Fit, 100, 100);
    spec.extend = Some(at(Anchor::NorthWest, 5.0, 0.1));
    let got = of(&spec, 1000, 500);
    assert_eq!((got.canvas, got.at), (Size::new(100, 100), (0, 10)));
    spec.extend = None;
    spec.extend_aspect_ratio = Some(Gravity::CENTER);
    let got = of(&spec, 40, 20);
    assert_eq!((got.canvas, got.at), (Size::new(40, 40), (0, 10)));
    spec.padding = Some([1, 2, 3, 4]);
    spec.resize.dpr = 1.5;
    let got = of(&spec, 1000, 500);
    // 1.5 * 1 = 1.5 -> 2, 3, 4.5 -> 4, 6.
    assert_eq!((got.canvas, got.at), (Size::new(150 + 3 + 6, 150 + 2 + 4), (6, 38 + 2)));
}

#[test]
fn limits_are_named_at_the_limit() {
    let mut spec = spec(ResizeKind::Force, 100, 100);
    spec.limits.source_pixels = 10_000;
    assert!(Geometry::of(&spec, 100, 100, 1).is_ok());
    let over = Geometry::of(&spec, 100, 101, 1).unwrap_err();
    assert_eq!((over.limit(), over.of_input()), (Some(ImagingError::SOURCE_PIXELS), true));
    spec.limits.result_side = 100;
    assert!(Geometry::of(&spec, 100, 100, 1).is_ok());
    spec.padding = Some([0, 1, 0, 0]);
    let over = Geometry::of(&spec, 100, 100, 1).unwrap_err();
    assert_eq!((over.limit(), over.of_input()), (Some(ImagingError::RESULT_SIDE), false));
}

#[test]
fn every_result_lies_within_what_it_is_cut_from() {
    let mut state = 1_u64;
    let mut next = |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    for _ in 0..20_000 {
        let kinds =
            [ResizeKind::Fit, ResizeKind::Fill, ResizeKind::FillDown, ResizeKind::Force, ResizeKind::Auto];
        let mut spec = spec(kinds[next(5) as usize], next(300) as u32, next(300) as u32);
        spec.resize.enlarge = next(2) == 0;
        spec.resize.dpr = 0.1 + next(40) as f64 / 10.0;
        spec.resize.min_width = next(100) as u32;
        spec.rotate = next(4) as u16 * 90;
        spec.extend = (next(3) == 0).then_some(Gravity::CENTER);
        spec.extend_aspect_ratio = (next(3) == 0).then_some(at(Anchor::SouthEast, 3.0, -0.2));
        spec.gravity = at(Anchor::SouthWest, next(50) as f64 - 25.0, next(10) as f64 / 5.0 - 1.0);
        if next(2) == 0 {
            spec.crop = Some(Crop {
                width: Extent::Pixels(next(99) as f64 + 1.0),
                height: Extent::Full,
                gravity: None,
            });
        }
        let (width, height) = (next(400) as u32 + 1, next(400) as u32 + 1);
        let Ok(got) = Geometry::of(&spec, width, height, next(8) as u8 + 1) else { continue };
        let upright = if got.turn.transpose { got.scaled.swapped() } else { got.scaled };
        let within = |part: Rect, whole: Size| {
            part.width > 0
                && part.height > 0
                && part.left + part.width <= whole.width
                && part.top + part.height <= whole.height
        };
        assert!(within(got.crop, Size::new(width, height)), "{spec:?} {width}x{height} {got:?}");
        assert!(within(got.result, upright), "{spec:?} {width}x{height} {got:?}");
        assert!(within(got.result_as_stored(), got.scaled), "{spec:?} {width}x{height} {got:?}");
        let on_canvas = Rect { left: got.at.0, top: got.at.1, ..got.result };
        assert!(within(on_canvas, got.canvas), "{spec:?} {width}x{height} {got:?}");
    }
}
