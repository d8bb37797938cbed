//! The one table of option names: built, guarded, and known from imgproxy but not built. Also finds the nearest name.

use tutti_base::{Kind, Problem};

/// Options that this build has, each with its aliases.
pub const BUILT: &[&[&str]] = &[
    &["resize", "rs"],
    &["size", "s"],
    &["resizing_type", "rt"],
    &["width", "w"],
    &["height", "h"],
    &["min-width", "mw"],
    &["min-height", "mh"],
    &["zoom", "z"],
    &["dpr"],
    &["enlarge", "el"],
    &["extend", "ex"],
    &["extend_aspect_ratio", "extend_ar", "exar"],
    &["gravity", "g"],
    &["crop", "c"],
    &["padding", "pd"],
    &["auto_rotate", "ar"],
    &["rotate", "rot"],
    &["flip", "fl"],
    &["background", "bg"],
    &["blur", "bl"],
    &["strip_metadata", "sm"],
    &["keep_copyright", "kcr"],
    &["strip_color_profile", "scp"],
    &["quality", "q"],
    &["format_quality", "fq"],
    &["format", "f", "ext"],
    &["skip_processing", "skp"],
    &["raw"],
    &["cachebuster", "cb"],
    &["expires", "exp"],
    &["filename", "fn"],
    &["return_attachment", "att"],
    &["preset", "pr"],
];

/// Options that loosen limits: imgproxy answers 403 unless it is told to allow them, and here nothing allows them.
pub const GUARDED: &[&[&str]] = &[
    &["max_src_resolution", "msr"],
    &["max_src_file_size", "msfs"],
    &["max_animation_frames", "maf"],
    &["max_animation_frame_resolution", "mafr"],
    &["max_result_dimension", "mrd"],
];

/// Options of imgproxy and imgproxy Pro that are not built yet.
pub const NOT_BUILT: &[&[&str]] = &[
    &["trim", "t"],
    &["sharpen", "sh"],
    &["pixelate", "pix"],
    &["watermark", "wm"],
    &["preserve_hdr", "ph"],
    &["enforce_thumbnail", "eth"],
    &["max_bytes", "mb"],
    &["watermark_url", "wmu"],
    &["watermark_text", "wmt"],
    &["watermark_size", "wms"],
    &["watermark_rotate", "wm_rot", "wmr"],
    &["watermark_shadow", "wmsh"],
    &["adjust", "a"],
    &["brightness", "br"],
    &["contrast", "co"],
    &["saturation", "sa"],
    &["monochrome", "mc"],
    &["duotone", "dt"],
    &["colorize", "col"],
    &["gradient", "gr"],
    &["blur_areas", "ba"],
    &["blur_detections", "bd"],
    &["draw_detections", "dd"],
    &["crop_objects"],
    &["objects_position", "op"],
    &["progressive_blur", "pbl"],
    &["unsharp_masking", "ush"],
    &["background_alpha", "bga"],
    &["crop_aspect_ratio", "crop_ar", "car"],
    &["resizing_algorithm", "ra"],
    &["page", "pg"],
    &["pages", "pgs"],
    &["disable_animation", "da"],
    &["autoquality", "aq"],
    &["jpeg_options", "jpgo"],
    &["png_options", "pngo"],
    &["webp_options", "webpo"],
    &["avif_options", "avifo"],
    &["dpi"],
    &["color_profile", "cp", "icc"],
    &["style", "st"],
    &["video_thumbnail_second", "vts"],
    &["video_thumbnail_keyframes", "vtk"],
    &["video_thumbnail_tile", "vtt"],
    &["video_thumbnail_animation", "vta"],
    &["fallback_image_url", "fiu"],
    &["hashsum", "hs"],
    &["cache_tags", "ct"],
    &["bypass_cache", "bc"],
];

/// Why the option `name`, which is not built, is refused: 403 for what loosens limits, else 404.
pub(super) fn refusal(name: &str) -> Problem {
    let stands_in = |table: &[&[&str]]| table.iter().any(|names| names.contains(&name));
    let shown = shorten(name);
    let (kind, detail) = if stands_in(GUARDED) {
        (
            Kind::Forbidden,
            format!(
                "option `{shown}` changes a limit, which URLs may not do here; limits stand in [image.limits]"
            ),
        )
    } else if stands_in(NOT_BUILT) {
        (Kind::NotFound, format!("option `{shown}` of imgproxy is not built yet"))
    } else if let Some(near) = nearest(name, BUILT) {
        (Kind::NotFound, format!("unknown option `{shown}`; did you mean `{near}`?"))
    } else {
        (Kind::NotFound, format!("unknown option `{shown}`"))
    };
    Problem::new(kind, detail).about(shown)
}

/// The most characters of a client's text that an answer repeats.
const MAX_SHOWN: usize = 64;

/// The beginning of `text`, so that an answer never grows with the request.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The name in `table` that is at most two edits, and at most half of its length, from `name`.
fn nearest(name: &str, table: &[&[&'static str]]) -> Option<&'static str> {
    if name.is_empty() || name.len() > MAX_SHOWN {
        return None;
    }
    let near = |known: &'static str| {
        let edits = edits(name, known);
        (edits <= 2 && edits * 2 <= known.len()).then_some((edits, known))
    };
    let names = table.iter().flat_map(|names| names.iter().copied());
    names.filter_map(near).min_by_key(|(edits, _)| *edits).map(|(_, known)| known)
}

/// Levenshtein's distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_name_stands_twice() {
        let names: Vec<_> = [BUILT, GUARDED, NOT_BUILT].concat().concat();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }

    #[test]
    fn the_nearest_name_is_suggested_and_nothing_far() {
        for (name, near) in [
            ("qualty", Some("quality")),
            ("widht", Some("width")),
            ("resizing-type", Some("resizing_type")),
            ("min_width", Some("min-width")),
            ("Rs", Some("rs")),
            ("frobnicate", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, BUILT), near, "{name}");
        }
        assert_eq!(nearest(&"x".repeat(100_000), BUILT), None);
        assert_eq!((edits("", "abc"), edits("kitten", "sitting"), edits("a", "a")), (3, 3, 0));
    }
}
