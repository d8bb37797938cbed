//! JPEG files that are broken, in four inks, or in many scans.

use super::*;
use crate::color::Colors;
use crate::probe::probe;

/// A JPEG of one colour in four inks, as Adobe's writers store it.
fn ink_jpeg(space: tj::TJCS, ink: [u8; 4], progressive: bool) -> Vec<u8> {
    let pixels: Vec<u8> = ink.iter().copied().cycle().take(40 * 24 * 4).collect();
    let mut out = vec![0; 100_000];
    let mut buffer = out.as_mut_ptr();
    let mut len = out.len() as tj::size_t;
    // SAFETY: pixels and target are live and long enough; the handle is destroyed once.
    unsafe {
        let handle = tj::tj3Init(tj::TJINIT_TJINIT_COMPRESS as c_int);
        for (param, value) in [
            (tj::TJPARAM_TJPARAM_COLORSPACE, space as c_int),
            (tj::TJPARAM_TJPARAM_SUBSAMP, tj::TJSAMP_TJSAMP_444 as c_int),
            (tj::TJPARAM_TJPARAM_QUALITY, 95),
            (tj::TJPARAM_TJPARAM_PROGRESSIVE, c_int::from(progressive)),
            (tj::TJPARAM_TJPARAM_NOREALLOC, 1),
        ] {
            assert_eq!(tj::tj3Set(handle, param as c_int, value), 0);
        }
        let format = tj::TJPF_TJPF_CMYK as c_int;
        assert_eq!(tj::tj3Compress8(handle, pixels.as_ptr(), 40, 160, 24, format, &mut buffer, &mut len), 0);
        tj::tj3Destroy(handle);
    }
    out.truncate(len as usize);
    out
}

fn decoded(file: &[u8]) -> Raster {
    let mut bytes = file;
    let facts = probe(&mut bytes);
    assert!(facts.cmyk && facts.channels == 4);
    let full = Reduction { width: 40.0, height: 24.0, coarse: false };
    let mut raster = Raster::default();
    Decoder::default().run(file, &facts, full, &mut raster).unwrap();
    raster
}

#[test]
fn ink_of_every_kind_becomes_the_same_colour() {
    // Stored inverted: no cyan, half magenta, no yellow, a little black.
    let stored = [255, 127, 255, 230];
    for space in [tj::TJCS_TJCS_CMYK, tj::TJCS_TJCS_YCCK] {
        for progressive in [false, true] {
            let mut pixels = decoded(&ink_jpeg(space, stored, progressive));
            assert_eq!(pixels.samples, Samples::InvertedCmyk, "libjpeg writes Adobe's marker");
            Colors::default().convert(None, &mut pixels, &mut Raster::default());
            let near = |value: u8, wanted: u8| value.abs_diff(wanted) <= 3;
            let [r, g, b] = *pixels.bytes.first_chunk::<3>().unwrap();
            assert!(near(r, 230) && near(g, 115) && near(b, 230), "{space} {progressive}: {r} {g} {b}");
        }
    }
}

#[test]
fn ink_without_adobes_marker_is_taken_as_it_is() {
    let file = ink_jpeg(tj::TJCS_TJCS_CMYK, [10, 20, 30, 40], false);
    let marker = file.windows(2).position(|two| two == [0xff, 0xee]).unwrap();
    let bare = [&file[..marker], &file[marker + 16..]].concat();
    assert_eq!(decoded(&bare).samples, Samples::Cmyk);
}

#[test]
fn a_reduced_size_is_the_least_that_is_enough() {
    let mut facts = ImageFacts::unknown(0);
    (facts.width, facts.height) = (2048, 1365);
    let eighths =
        |width: f64, height: f64| super::eighths(&facts, Reduction { width, height, coarse: false });
    assert_eq!(eighths(2048.0, 1365.0), 8);
    assert_eq!(eighths(1025.0, 600.0), 8);
    assert_eq!(eighths(1024.0, 682.5), 4);
    assert_eq!(eighths(512.0, 300.0), 2);
    assert_eq!(eighths(10.0, 10.0), 1);
}
