//! The resize kernels against each other and against what a resize must keep.

use super::*;

fn span(from: f64, len: f64, limit: usize, scaled: usize) -> Span {
    Span { from, len, limit, scaled, first: 0, count: scaled }
}

fn noise(width: usize, height: usize, samples: Samples) -> Raster {
    let mut raster = Raster::default();
    raster.reshape(width, height, samples);
    let mut state = 7_u32;
    for byte in &mut raster.bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (state >> 24) as u8;
    }
    raster
}

fn scaled(source: &Raster, across: Span, down: Span) -> Raster {
    let mut target = Raster::default();
    Resizer::default().run(source, Mapping { across, down }, &mut target);
    target
}

#[test]
fn flat_colours_come_back_exactly_at_every_size() {
    for value in [0, 1, 2, 10, 77, 128, 200, 254, 255] {
        for samples in [Samples::Gray, Samples::Rgb, Samples::Cmyk] {
            let mut source = Raster::default();
            source.reshape(97, 53, samples);
            source.bytes.fill(value);
            for (width, height) in [(1, 1), (13, 7), (50, 53), (97, 20), (200, 111)] {
                let target = scaled(&source, span(0.0, 97.0, 97, width), span(0.0, 53.0, 53, height));
                assert!(
                    target.bytes.iter().all(|byte| *byte == value),
                    "{value} {samples:?} {width}x{height}"
                );
            }
        }
    }
}

#[test]
fn black_and_white_lines_average_in_light() {
    let mut source = Raster::default();
    source.reshape(64, 64, Samples::Gray);
    for y in 0..64 {
        source.row_mut(y).fill(if y % 2 == 0 { 255 } else { 0 });
    }
    let target = scaled(&source, span(0.0, 64.0, 64, 8), span(0.0, 64.0, 64, 8));
    // Half of the light is code 188 in sRGB, not 128; the edges see one line more or less.
    for byte in &target.bytes {
        assert!((184..=192).contains(byte), "{byte}");
    }
}

#[test]
fn the_fast_kernel_gives_what_the_plain_one_gives() {
    for samples in [Samples::Gray, Samples::GrayAlpha, Samples::Rgb, Samples::Rgba, Samples::Cmyk] {
        for (width, height, to) in [(61, 45, (20, 11)), (9, 3, (4, 5)), (130, 70, (129, 8)), (8, 8, (1, 1))] {
            let source = noise(width, height, samples);
            let (mut across, mut down) = (Axis::default(), Axis::default());
            across.lay(span(0.0, width as f64, width, to.0));
            down.lay(span(0.0, height as f64, height, to.1));
            let mut results = [Raster::default(), Raster::default()];
            results.iter_mut().for_each(|target| target.reshape(to.0, to.1, samples));
            let mut lanes = kernel::Lanes::default();
            kernel::run(&mut lanes, &across, &down, &source, &mut results[0]);
            kernel::run_plain(&mut lanes, &across, &down, &source, &mut results[1]);
            for (fast, plain) in results[0].bytes.iter().zip(&results[1].bytes) {
                assert!(fast.abs_diff(*plain) <= 1, "{samples:?} {width}x{height}: {fast} and {plain}");
            }
        }
    }
}

#[test]
fn a_part_of_the_result_equals_the_whole_there() {
    let source = noise(90, 70, Samples::Rgb);
    let whole = scaled(&source, span(5.0, 80.0, 90, 40), span(3.0, 60.0, 70, 30));
    let part = Mapping {
        across: Span { first: 11, count: 17, ..span(5.0, 80.0, 90, 40) },
        down: Span { first: 9, count: 12, ..span(3.0, 60.0, 70, 30) },
    };
    let mut target = Raster::default();
    Resizer::default().run(&source, part, &mut target);
    for y in 0..12 {
        assert_eq!(target.row(y), &whole.row(y + 9)[11 * 3..28 * 3], "row {y}");
    }
}

#[test]
fn what_is_cut_out_sees_nothing_outside() {
    let mut source = Raster::default();
    source.reshape(60, 60, Samples::Gray);
    source.bytes.fill(255);
    for y in 20..40 {
        source.row_mut(y)[20..40].fill(30);
    }
    let target = scaled(&source, span(20.0, 20.0, 60, 7), span(20.0, 20.0, 60, 7));
    assert!(target.bytes.iter().all(|byte| *byte == 30), "{:?}", target.bytes);
    let same = scaled(&source, span(20.0, 20.0, 60, 20), span(20.0, 20.0, 60, 20));
    assert!(same.bytes.iter().all(|byte| *byte == 30));
}

#[test]
fn transparent_pixels_lend_no_colour() {
    let mut source = Raster::default();
    source.reshape(40, 40, Samples::Rgba);
    for (at, pixel) in source.bytes.chunks_exact_mut(4).enumerate() {
        pixel.copy_from_slice(if at % 40 < 20 { &[250, 10, 10, 255] } else { &[0, 255, 0, 0] });
    }
    let target = scaled(&source, span(0.0, 40.0, 40, 11), span(0.0, 40.0, 40, 11));
    for pixel in target.bytes.chunks_exact(4).filter(|pixel| pixel[3] > 8) {
        assert!(pixel[0] >= 246 && pixel[1] <= 16, "{pixel:?}");
    }
}

#[test]
fn weights_sum_to_one_and_stay_inside() {
    for (from, len, limit, to) in
        [(0.0, 2048.0, 2048, 512), (3.4, 17.2, 40, 5), (0.0, 5.0, 5, 50), (9.0, 1.0, 10, 3)]
    {
        let mut axis = Axis::default();
        axis.lay(span(from, len, limit, to));
        for at in 0..to {
            let sum: f32 = axis.weights(at).iter().sum();
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
            let used = axis.weights(at).iter().rposition(|weight| *weight != 0.0).unwrap();
            assert!(axis.starts[at] as usize + used < limit);
        }
    }
}
