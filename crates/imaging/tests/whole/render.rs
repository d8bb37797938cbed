//! Whole jobs: every format in and out, metadata, and input that means harm.

use crate::made;
use tutti_imaging::spec::{Effort, Format, Gravity, Spec};
use tutti_imaging::{ImagingError, Renderer, SourceFormat, estimate, output_format, probe};

fn decoded(file: &[u8]) -> (png::ColorType, u32, u32, Vec<u8>) {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    (info.color_type, info.width, info.height, bytes)
}

fn to_pixels(input: &[u8]) -> (png::ColorType, u32, u32, Vec<u8>) {
    decoded(&made::render(&made::to(Format::Png), input).1)
}

fn mean_error(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}

fn failure(spec: &Spec, input: &[u8]) -> ImagingError {
    Renderer::new().render(spec, input, &mut Vec::new()).unwrap_err()
}

#[test]
fn every_format_goes_to_every_format_with_the_same_picture() {
    let (width, height) = (61, 47);
    let wanted = made::pixels(width, height);
    for (input, tolerance) in [
        (made::rgb_png(width, height), 0.0),
        (made::jpeg(width, height), 3.0),
        (made::webp(width, height), 4.0),
    ] {
        for format in [Format::Jpeg, Format::Png, Format::WebP] {
            let (rendered, file) = made::render(&made::to(format), &input);
            assert_eq!((rendered.format, rendered.width, rendered.height), (format, width, height));
            let mut bytes = &file[..];
            assert_eq!(probe(&mut bytes).format.unwrap().media(), format.media());
            let (color, w, h, pixels) = to_pixels(&file);
            assert_eq!((color, w, h), (png::ColorType::Rgb, width, height));
            let allowed = tolerance + if format == Format::Png { 0.0 } else { 4.0 };
            assert!(mean_error(&pixels, &wanted) <= allowed, "{format:?} {}", mean_error(&pixels, &wanted));
        }
    }
}

#[test]
fn every_kind_of_png_is_read_as_another_decoder_reads_it() {
    use png::BitDepth::{Eight, Four, One, Sixteen, Two};
    use png::ColorType::{Grayscale, GrayscaleAlpha, Indexed, Rgb, Rgba};
    let kinds = [
        (Grayscale, vec![One, Two, Four, Eight, Sixteen]),
        (Indexed, vec![Eight]),
        (Rgb, vec![Eight, Sixteen]),
        (GrayscaleAlpha, vec![Eight, Sixteen]),
        (Rgba, vec![Eight, Sixteen]),
    ];
    for (color, depths) in kinds {
        for depth in depths {
            for (width, height) in [(1, 1), (3, 5), (33, 18)] {
                let file = made::png(color, depth, width, height);
                assert_eq!(to_pixels(&file), decoded(&file), "{color:?} {depth:?} {width}x{height}");
            }
        }
    }
}

#[test]
fn a_transparent_colour_becomes_alpha() {
    let png = made::png_with_chunk(b"tRNS", &[0, 0, 0, 0, 0, 40], 8, 8);
    let (color, .., pixels) = to_pixels(&png);
    assert_eq!((color, &pixels, pixels[3]), (png::ColorType::Rgba, &decoded(&png).3, 0));
}

#[test]
fn an_interlaced_png_is_read_like_the_plain_one() {
    for (width, height) in [(1, 1), (5, 3), (17, 9), (64, 33)] {
        let plain = made::rgb_png(width, height);
        let interlaced = interlaced(width, height);
        let mut bytes = &interlaced[..];
        assert!(probe(&mut bytes).progressive);
        assert_eq!(to_pixels(&interlaced), to_pixels(&plain), "{width}x{height}");
        assert_eq!(decoded(&interlaced), decoded(&plain), "the maker is right");
    }
}

fn interlaced(width: u32, height: u32) -> Vec<u8> {
    let pixels = made::pixels(width, height);
    let mut rows = Vec::new();
    for [x0, y0, dx, dy] in
        [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]]
    {
        for y in (y0..height).step_by(dy as usize) {
            if x0 < width {
                rows.push(0);
                rows.extend(
                    (x0..width)
                        .step_by(dx as usize)
                        .flat_map(|x| &pixels[((y * width + x) * 3) as usize..][..3]),
                );
            }
        }
    }
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 1]);
    png_file(&header, &rows)
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut deflate = libdeflater::Compressor::new(libdeflater::CompressionLvl::best());
    let mut out = vec![0; deflate.zlib_compress_bound(bytes.len())];
    let len = deflate.zlib_compress(bytes, &mut out).unwrap();
    out.truncate(len);
    out
}

fn png_file(header: &[u8], rows: &[u8]) -> Vec<u8> {
    let signature = [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a];
    let stream = zlib(rows);
    // In small pieces, as many writers do.
    let (left, right) = stream.split_at(stream.len() / 2);
    [
        &signature[..],
        &made::chunk(b"IHDR", header),
        &made::chunk(b"IDAT", left),
        &made::chunk(b"IDAT", right),
        &made::chunk(b"IEND", &[]),
    ]
    .concat()
}

#[test]
fn grey_stays_grey_where_the_format_has_it() {
    let gray = made::png(png::ColorType::Grayscale, png::BitDepth::Eight, 20, 10);
    let (_, jpeg) = made::render(&made::to(Format::Jpeg), &gray);
    let mut bytes = &jpeg[..];
    assert_eq!(probe(&mut bytes).channels, 1);
    assert_eq!(to_pixels(&jpeg).0, png::ColorType::Grayscale);
    assert_eq!(to_pixels(&made::render(&made::to(Format::WebP), &gray).1).0, png::ColorType::Rgb);
}

#[test]
fn transparency_survives_or_lies_on_the_background() {
    let rgba: Vec<u8> =
        (0..400).flat_map(|at| if at % 20 < 10 { [200, 0, 0, 255] } else { [0; 4] }).collect();
    let png = made::png_of(png::ColorType::Rgba, png::BitDepth::Eight, 20, 20, &rgba);
    for format in [Format::Png, Format::WebP] {
        let (_, file) = made::render(&made::to(format), &png);
        let (color, .., pixels) = to_pixels(&file);
        assert_eq!((color, pixels[3], pixels[19 * 4 + 3]), (png::ColorType::Rgba, 255, 0));
    }
    let corner = |spec: &Spec| to_pixels(&made::render(spec, &png).1).3[19 * 3..20 * 3].to_vec();
    assert!(
        corner(&made::to(Format::Jpeg)).iter().all(|value| *value > 250),
        "white where nothing is asked for"
    );
    let blue = Spec { background: Some([0, 0, 255]), ..made::to(Format::Png) };
    assert_eq!(corner(&blue), [0, 0, 255]);
}

#[test]
fn what_surrounds_is_transparent_or_the_background() {
    let mut spec = made::to(Format::Png);
    (spec.resize.width, spec.resize.height) = (30, 30);
    spec.extend = Some(Gravity::CENTER);
    spec.padding = Some([2, 2, 2, 2]);
    let input = made::rgb_png(60, 30);
    let (rendered, file) = made::render(&spec, &input);
    let (color, w, h, pixels) = decoded(&file);
    assert_eq!((rendered.width, rendered.height, color, w, h), (34, 34, png::ColorType::Rgba, 34, 34));
    assert_eq!((&pixels[..4], pixels[(17 * 34 + 17) * 4 + 3]), (&[0; 4][..], 255));
    spec.background = Some([1, 2, 3]);
    let (color, .., pixels) = decoded(&made::render(&spec, &input).1);
    assert_eq!((color, &pixels[..3]), (png::ColorType::Rgb, &[1, 2, 3][..]));
}

#[test]
fn a_reduced_decode_shows_the_same_picture_as_a_full_one() {
    let input = made::jpeg(640, 400);
    for width in [320, 200, 80, 40, 10] {
        let mut spec = made::to(Format::Png);
        spec.resize.width = width;
        let reduced = decoded(&made::render(&spec, &input).1);
        spec.full_decode = true;
        let full = decoded(&made::render(&spec, &input).1);
        assert_eq!((reduced.1, reduced.2), (full.1, full.2));
        assert!(mean_error(&reduced.3, &full.3) < 3.0, "{width}: {}", mean_error(&reduced.3, &full.3));
    }
}

#[test]
fn the_orientation_is_applied_unless_it_is_not_wanted() {
    let plain = to_pixels(&made::jpeg(40, 24)).3;
    let turned = made::jpeg_with(&made::exif(6), 40, 24);
    let (_, w, h, pixels) = to_pixels(&turned);
    assert_eq!((w, h), (24, 40));
    assert_eq!(pixels[..3], plain[23 * 40 * 3..][..3], "upper left comes from lower left");
    let (_, file) = made::render(&Spec { auto_rotate: false, ..made::to(Format::Png) }, &turned);
    assert_eq!(decoded(&file).3, plain);
}

#[test]
fn metadata_goes_but_copyright_stays_if_wanted() {
    let input = made::jpeg_with(&made::exif(6), 16, 16);
    let has = |file: &[u8], text: &[u8]| file.windows(text.len()).any(|part| part == text);
    for format in [Format::Jpeg, Format::Png, Format::WebP] {
        let base = made::to(format);
        let (_, file) = made::render(&base, &input);
        assert!(has(&file, b"(c) Anna") && !has(&file, b"Cam"), "{format:?}: the copyright alone");
        let (_, file) = made::render(&Spec { keep_copyright: false, ..base.clone() }, &input);
        assert!(!has(&file, b"(c) Anna"), "{format:?}: nothing");
        let (_, file) = made::render(&Spec { strip_metadata: false, ..base }, &input);
        assert!(has(&file, b"(c) Anna") && has(&file, b"Cam"), "{format:?}: everything");
        let mut bytes = &file[..];
        assert_eq!(probe(&mut bytes).orientation, 1, "{format:?}: it is upright now");
        to_pixels(&file);
    }
}

#[test]
fn a_profile_is_applied_or_kept() {
    let p3 = moxcms::ColorProfile::new_display_p3().encode().unwrap();
    let input = made::jpeg_with_profile(&p3, 64, 48);
    let plain = to_pixels(&made::jpeg(64, 48)).3;
    assert!(mean_error(&to_pixels(&input).3, &plain) > 0.5, "colours move to sRGB");
    for format in [Format::Jpeg, Format::Png, Format::WebP] {
        let keep = Spec { strip_color_profile: false, ..made::to(format) };
        let (_, file) = made::render(&keep, &input);
        let (_, again) = made::render(&Spec { strip_color_profile: false, ..made::to(Format::Png) }, &file);
        let moved = mean_error(&decoded(&again).3, &plain);
        assert!(moved < 4.0, "{format:?}: pixels as they were, but for {moved}");
        assert!(
            mean_error(&to_pixels(&file).3, &decoded(&again).3) > 0.5,
            "{format:?}: the profile is there"
        );
    }
}

#[test]
fn of_an_animation_the_first_frame_is_rendered_on_its_canvas() {
    let (color, w, h, pixels) = to_pixels(&made::animated_webp(64, 48, 3));
    assert_eq!((color, w, h), (png::ColorType::Rgba, 64, 48));
    assert_eq!((pixels[3], pixels[pixels.len() - 1]), (255, 0));
}

#[test]
fn the_format_follows_wish_then_client_then_source() {
    let mut bytes = &made::webp(8, 8)[..];
    let facts = probe(&mut bytes);
    let mut spec = Spec::default();
    assert_eq!(output_format(&spec, &facts), Format::WebP);
    spec.output.prefer = Some(Format::Png);
    assert_eq!(output_format(&spec, &facts), Format::Png);
    spec.output.format = Some(Format::Jpeg);
    assert_eq!(output_format(&spec, &facts), Format::Jpeg);
}

#[test]
fn every_truncation_is_an_error_of_the_input_and_the_renderer_goes_on() {
    let mut renderer = Renderer::new();
    let mut out = Vec::new();
    for file in made::all() {
        for len in (0..file.len() - 2).step_by(7) {
            let cut = renderer.render(&made::to(Format::Png), &file[..len], &mut out);
            let error = cut.expect_err(&format!("{len} of {} bytes", file.len()));
            assert!(error.of_input(), "{error}");
        }
        renderer.render(&made::to(Format::Png), &file, &mut out).unwrap();
    }
}

#[test]
fn damaged_files_never_panic() {
    let mut renderer = Renderer::new();
    let mut out = Vec::new();
    let mut state = 3_u64;
    let mut failures = 0;
    for round in 0..1500 {
        let files = made::all();
        let mut file = files[round % files.len()].clone();
        for _ in 0..4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (state >> 33) as usize % file.len();
            file[at] = (state >> 20) as u8;
        }
        failures += usize::from(renderer.render(&made::to(Format::Png), &file, &mut out).is_err());
    }
    assert!(failures > 300, "{failures} files were found damaged");
}

#[test]
fn what_is_no_image_or_another_image_is_named() {
    assert_eq!(failure(&Spec::default(), b""), ImagingError::NotAnImage);
    assert_eq!(failure(&Spec::default(), b"hello there"), ImagingError::NotAnImage);
    let gif = failure(&Spec::default(), b"GIF89a\x10\0\x10\0\0\0\0;");
    assert_eq!(gif, ImagingError::Unsupported { format: SourceFormat::Gif });
    assert!(gif.to_string().contains("GIF"));
}

#[test]
fn limits_on_the_source_are_held_before_any_memory_is_taken() {
    let mut jpeg = made::jpeg(16, 16);
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
    let error = failure(&Spec::default(), &jpeg);
    assert_eq!((error.limit(), error.of_input()), (Some(ImagingError::SOURCE_PIXELS), true));
    let mut spec = Spec::default();
    spec.limits.source_bytes = 10;
    assert_eq!(failure(&spec, &jpeg).limit(), Some(ImagingError::SOURCE_BYTES));
}

#[test]
fn header_only_giants_and_lying_streams_are_refused() {
    let header = |side: u32| {
        let mut header = [side.to_be_bytes(), side.to_be_bytes()].concat();
        header.extend([16, 6, 0, 0, 0]);
        header
    };
    let giant = png_file(&header(7000), &[0; 100]);
    assert!(failure(&Spec::default(), &giant).of_input());
    // A stream that goes on and on behind the last row.
    let mut small = header(2);
    small[8] = 8;
    let bomb = png_file(&small, &vec![0; 50_000_000]);
    assert!(bomb.len() < 100_000);
    let error = failure(&Spec::default(), &bomb);
    assert!(error.to_string().contains("longer than the image"), "{error}");
    let mut jpeg = made::jpeg(16, 16);
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x1b, 0x58, 0x1b, 0x58]);
    assert!(failure(&Spec::default(), &jpeg).of_input(), "7,000 x 7,000 from a few hundred bytes");
}

#[test]
fn bombs_in_ancillary_chunks_cost_nothing_and_hurt_no_pixel() {
    let bomb = zlib(&vec![0; 100_000_000]);
    let plain = to_pixels(&made::rgb_png(12, 12));
    for (name, head) in [(b"iCCP", &b"x\0\0"[..]), (b"zTXt", b"x\0\0"), (b"iTXt", b"x\0\x01\0\0\0")] {
        let file = made::png_with_chunk(name, &[head, &bomb].concat(), 12, 12);
        assert_eq!(to_pixels(&file), plain);
    }
}

#[test]
fn thousands_of_empty_scans_are_refused() {
    let jpeg = made::jpeg(64, 64);
    let frame = jpeg.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    let scan = jpeg.windows(2).position(|two| two == [0xff, 0xda]).unwrap();
    let mut bomb = jpeg[..scan].to_vec();
    bomb[frame + 1] = 0xc2;
    for _ in 0..5000 {
        // One component, DC, no refinement: and not a bit of data.
        bomb.extend([0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0]);
    }
    bomb.extend([0xff, 0xd9]);
    let error = failure(&Spec::default(), &bomb);
    assert!(error.of_input(), "{error}");
}

#[test]
fn a_blur_smooths_and_the_cheap_rung_is_a_usable_picture() {
    let input = made::jpeg(200, 120);
    let sharp = to_pixels(&input).3;
    let step = |pixels: &[u8]| pixels[(60 * 200 + 101) * 3 + 2].abs_diff(pixels[(60 * 200 + 99) * 3 + 2]);
    let blurred = decoded(&made::render(&Spec { blur: 5.0, ..made::to(Format::Png) }, &input).1).3;
    assert!(step(&blurred) * 3 < step(&sharp), "{} and {}", step(&blurred), step(&sharp));
    for format in [Format::Jpeg, Format::Png, Format::WebP] {
        let mut spec = made::to(format);
        spec.resize.width = 100;
        let full = to_pixels(&made::render(&spec, &input).1).3;
        spec.output.effort = Effort::Least;
        assert!(mean_error(&to_pixels(&made::render(&spec, &input).1).3, &full) < 4.0);
    }
}

#[test]
fn the_cost_grows_with_the_work_and_unknown_is_the_worst() {
    let cost = |width, height| {
        let file = made::jpeg(width, height);
        let mut bytes = &file[..];
        estimate(&Spec::default(), &probe(&mut bytes))
    };
    let (small, large) = (cost(64, 64), cost(640, 640));
    assert!(small.cpu_ms < large.cpu_ms && small.bytes < large.bytes);
    let unknown = estimate(&Spec::default(), &tutti_imaging::ImageFacts::unknown(1000));
    assert!(unknown.cpu_ms > 20.0 * large.cpu_ms && unknown.bytes > 100 << 20);
}
