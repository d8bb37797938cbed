//! A Gaussian blur: weighted sums where sigma is small, else three box blurs each way (Kovesi, "Fast almost-Gaussian
//! filtering", 2010), whose cost does not grow with sigma.

use crate::raster::Raster;

/// Sigmas beyond this are as good as this: everything is one colour.
const MAX_SIGMA: f32 = 1000.0;
const PASSES: usize = 3;
/// From this sigma on, whole boxes come near enough to a Gaussian.
const BOXES_FROM: f32 = 4.0;

/// Blurs in place by `sigma` pixels. Colours are weighted by alpha.
pub(crate) fn run(pixels: &mut Raster, sigma: f32) {
    if sigma.is_nan() || sigma <= 0.0 {
        return;
    }
    let channels = pixels.samples.channels();
    let alpha = pixels.samples.has_alpha();
    let filter = Filter::of(sigma.min(MAX_SIGMA));
    let mut plane: Vec<f32> = pixels.packed().iter().map(|byte| f32::from(*byte)).collect();
    if alpha {
        multiply(&mut plane, channels);
    }
    let (width, height) = (pixels.width, pixels.height);
    let mut line = Vec::new();
    for y in 0..height {
        for c in 0..channels {
            blur_line(&mut plane, y * width * channels + c, channels, width, &filter, &mut line);
        }
    }
    for column in 0..width * channels {
        blur_line(&mut plane, column, width * channels, height, &filter, &mut line);
    }
    if alpha {
        divide(&mut plane, channels);
    }
    for (byte, value) in pixels.bytes.iter_mut().zip(&plane) {
        *byte = (value + 0.5) as u8;
    }
}

/// How one line is blurred.
enum Filter {
    /// Half of a kernel, from its middle outwards.
    Weights(Vec<f32>),
    /// Radii of boxes.
    Boxes([usize; PASSES]),
}

impl Filter {
    fn of(sigma: f32) -> Self {
        if sigma >= BOXES_FROM {
            return Filter::Boxes(radii(sigma));
        }
        let reach = (sigma * 3.5).ceil() as usize;
        let half: Vec<f32> = (0..=reach).map(|at| (-0.5 * (at as f32 / sigma).powi(2)).exp()).collect();
        let sum = half[0] + 2.0 * half[1..].iter().sum::<f32>();
        Filter::Weights(half.iter().map(|weight| weight / sum).collect())
    }
}

/// Radii of boxes whose variances add up to sigma's (Kovesi, eq. 4 and 5).
fn radii(sigma: f32) -> [usize; PASSES] {
    let n = PASSES as f32;
    let ideal = (12.0 * sigma * sigma / n + 1.0).sqrt();
    let low = (((ideal - 1.0) / 2.0).floor() * 2.0 + 1.0).max(1.0);
    let share = (12.0 * sigma * sigma - n * low * low - 4.0 * n * low - 3.0 * n) / (-4.0 * low - 4.0);
    let small = share.round().clamp(0.0, n) as usize;
    std::array::from_fn(|at| ((low as usize - 1) / 2) + usize::from(at >= small))
}

fn blur_line(plane: &mut [f32], from: usize, step: usize, len: usize, filter: &Filter, line: &mut Vec<f32>) {
    match filter {
        Filter::Weights(half) => {
            take(plane, from, step, len, line);
            for at in 0..len {
                let sides = half[1..].iter().enumerate().map(|(k, weight)| {
                    weight * (line[at.saturating_sub(k + 1)] + line[(at + k + 1).min(len - 1)])
                });
                plane[from + at * step] = half[0] * line[at] + sides.sum::<f32>();
            }
        }
        Filter::Boxes(radii) => {
            for radius in radii.iter().filter(|radius| **radius > 0) {
                take(plane, from, step, len, line);
                box_line(plane, from, step, line, *radius);
            }
        }
    }
}

fn take(plane: &[f32], from: usize, step: usize, len: usize, line: &mut Vec<f32>) {
    line.clear();
    line.extend(plane[from..].iter().step_by(step).take(len));
}

fn box_line(plane: &mut [f32], from: usize, step: usize, line: &[f32], radius: usize) {
    let len = line.len() as isize;
    let edge = |at: isize| f64::from(line[at.clamp(0, len - 1) as usize]);
    let radius = radius.min(line.len() * 2) as isize;
    // In f64: a running sum in f32 would drift along the line.
    let mut sum: f64 = (-radius..=radius).map(edge).sum();
    let by = 1.0 / (2 * radius + 1) as f64;
    for at in 0..len {
        plane[from + at as usize * step] = (sum * by) as f32;
        sum += edge(at + radius + 1) - edge(at - radius);
    }
}

fn multiply(plane: &mut [f32], channels: usize) {
    for pixel in plane.chunks_exact_mut(channels) {
        let by = pixel[channels - 1] / 255.0;
        pixel[..channels - 1].iter_mut().for_each(|value| *value *= by);
    }
}

fn divide(plane: &mut [f32], channels: usize) {
    for pixel in plane.chunks_exact_mut(channels) {
        let alpha = pixel[channels - 1];
        let by = if alpha > 0.0 { 255.0 / alpha } else { 0.0 };
        pixel[..channels - 1].iter_mut().for_each(|value| *value = (*value * by).min(255.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raster::Samples;

    #[test]
    fn a_point_spreads_with_the_variance_asked_for() {
        for sigma in [1.0_f32, 3.0, 6.5] {
            let mut raster = Raster::default();
            raster.reshape(101, 101, Samples::Gray);
            for y in 45..=55 {
                raster.row_mut(y)[45..=55].fill(255);
            }
            let own = variance(&raster);
            run(&mut raster, sigma);
            let added = variance(&raster) - own;
            assert!((added / (sigma * sigma) - 1.0).abs() < 0.12, "sigma {sigma}: {added}");
        }
    }

    fn variance(raster: &Raster) -> f32 {
        let (mut sum, mut square) = (0.0, 0.0);
        for y in 0..101 {
            for (x, value) in raster.row(y).iter().enumerate() {
                let d = x as f32 - 50.0;
                sum += f32::from(*value);
                square += f32::from(*value) * d * d;
            }
        }
        square / sum
    }

    #[test]
    fn what_is_transparent_lends_no_colour() {
        let mut raster = Raster::default();
        raster.reshape(20, 1, Samples::Rgba);
        for (x, pixel) in raster.bytes.chunks_exact_mut(4).enumerate() {
            pixel.copy_from_slice(if x < 10 { &[200, 0, 0, 255] } else { &[0, 255, 0, 0] });
        }
        run(&mut raster, 2.0);
        let edge = &raster.bytes[9 * 4..10 * 4];
        assert!(edge[0] >= 198 && edge[1] <= 2 && edge[3] < 255, "{edge:?}");
    }
}
