//! Colour: grey, CMYK, profiles.

use super::*;

fn raster(samples: Samples, bytes: &[u8]) -> Raster {
    let mut raster = Raster::default();
    raster.reshape(bytes.len() / samples.channels(), 1, samples);
    raster.bytes.copy_from_slice(bytes);
    raster
}

fn convert(icc: Option<&[u8]>, samples: Samples, bytes: &[u8]) -> Raster {
    let mut pixels = raster(samples, bytes);
    Colors::default().convert(icc, &mut pixels, &mut Raster::default());
    pixels
}

#[test]
fn ink_without_a_profile_follows_the_plain_rule_either_way_round() {
    let ink = [0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 255, 0, 128, 0, 0];
    let inverted: Vec<u8> = ink.iter().map(|value| 255 - value).collect();
    let light = [255, 255, 255, 0, 255, 255, 0, 0, 0, 255, 127, 255];
    let straight = convert(None, Samples::Cmyk, &ink);
    assert_eq!((straight.samples, &straight.bytes[..]), (Samples::Rgb, &light[..]));
    assert_eq!(convert(None, Samples::InvertedCmyk, &inverted).bytes, light);
}

#[test]
fn a_wide_profile_moves_colours_and_srgb_moves_none() {
    let pixels = [200, 30, 30, 128, 128, 128];
    let p3 = ColorProfile::new_display_p3().encode().unwrap();
    let moved = convert(Some(&p3), Samples::Rgb, &pixels).bytes;
    assert!(moved[0] > 205 && moved[1] < 30, "{moved:?}");
    assert!(moved[3..].iter().all(|gray| gray.abs_diff(128) <= 1), "{moved:?}");
    let srgb = ColorProfile::new_srgb().encode().unwrap();
    assert_eq!(convert(Some(&srgb), Samples::Rgb, &pixels).bytes, pixels);
}

#[test]
fn a_profile_that_does_not_fit_or_is_damaged_is_left_alone() {
    let p3 = ColorProfile::new_display_p3().encode().unwrap();
    assert_eq!(convert(Some(&p3), Samples::Gray, &[5, 250]).bytes, [5, 250]);
    assert_eq!(convert(Some(&p3[..200]), Samples::Rgb, &[5, 250, 9]).bytes, [5, 250, 9]);
    assert_eq!(convert(Some(b"junk"), Samples::Rgb, &[5, 250, 9]).bytes, [5, 250, 9]);
}

#[test]
fn the_last_transform_is_kept_and_not_mistaken_for_another() {
    let mut colors = Colors::default();
    let p3 = ColorProfile::new_display_p3().encode().unwrap();
    let adobe = ColorProfile::new_adobe_rgb().encode().unwrap();
    let mut results = Vec::new();
    for icc in [&p3, &adobe, &p3, &p3] {
        let mut pixels = raster(Samples::Rgb, &[200, 30, 30]);
        colors.convert(Some(icc), &mut pixels, &mut Raster::default());
        results.push(pixels.bytes);
    }
    assert_ne!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
    assert_eq!(results[2], results[3]);
}
