//! The sRGB transfer curve as a polynomial, and its exact inverse as a table. Two directions that always agree.

use std::sync::LazyLock;

/// `x (a + b x + c x^2 + d x^3)`: a least-squares fit to the sRGB curve (IEC 61966-2-1), weighted by its inverse slope;
/// within 1.3 of 255 code values everywhere. Since [`CODES`] inverts this polynomial itself and not the norm, flat areas
/// come back exactly.
pub(super) const FIT: [f32; 4] = [0.050_005_66, 0.455_955_2, 0.694_116_2, -0.200_077_06];

/// Steps of the inverse table: a quarter of a code value at the dark end.
pub(super) const STEPS: usize = 1 << 14;

/// The linear value of a code value between 0 and 1.
pub(super) fn linear(x: f32) -> f32 {
    let [a, b, c, d] = FIT;
    x * (a + x * (b + x * (c + x * d)))
}

/// The code value of every linear value in [`STEPS`] steps, rounded.
pub(super) static CODES: LazyLock<Box<[u8; STEPS]>> = LazyLock::new(|| {
    let mut codes = Box::new([0; STEPS]);
    let mut code = 0_u8;
    for (at, entry) in codes.iter_mut().enumerate() {
        let value = at as f32 / (STEPS - 1) as f32;
        while code < 255 && linear((f32::from(code) + 0.5) / 255.0) < value {
            code += 1;
        }
        *entry = code;
    }
    codes
});

/// The same for values that are not linear.
pub(super) static PLAIN: LazyLock<Box<[u8; STEPS]>> = LazyLock::new(|| {
    let mut codes = Box::new([0; STEPS]);
    for (at, entry) in codes.iter_mut().enumerate() {
        *entry = (at as f32 * 255.0 / (STEPS - 1) as f32).round() as u8;
    }
    codes
});
