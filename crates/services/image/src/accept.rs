//! Content negotiation (RFC 9110 §12.5.1), down to one question: WebP or not. The header's many spellings give two plans.

use tutti_imaging::spec::Format;

/// The format class that `accept` asks for, where a URL names no format.
///
/// WebP has to be named with a weight above 0: `*/*` and `image/*` are also sent by clients that cannot show it. Where
/// both JPEG and PNG are weighted higher, those win.
pub(crate) fn negotiate(accept: Option<&[u8]>) -> Option<Format> {
    let accept = std::str::from_utf8(accept?).ok()?;
    let webp = weight(accept, &["image/webp"])?;
    let jpeg = weight(accept, &["image/jpeg", "image/*", "*/*"]).unwrap_or(0);
    let png = weight(accept, &["image/png", "image/*", "*/*"]).unwrap_or(0);
    (webp > 0 && webp >= jpeg.min(png)).then_some(Format::WebP)
}

/// The weight in thousandths of the first of `ranges`, most specific first, that `accept` names.
fn weight(accept: &str, ranges: &[&str]) -> Option<u16> {
    let of = |range: &&str| accept.split(',').filter_map(|element| element_weight(element, range)).max();
    ranges.iter().find_map(of)
}

/// The weight of one element, if it is about `range`. Parameters other than `q` do not matter for images.
fn element_weight(element: &str, range: &str) -> Option<u16> {
    let mut pieces = element.split(';').map(str::trim);
    if !pieces.next()?.eq_ignore_ascii_case(range) {
        return None;
    }
    let q = pieces
        .filter_map(|piece| piece.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    Some(q.map_or(1000, |(_, value)| thousandths(value.trim())))
}

/// `qvalue` of RFC 9110 §12.4.2 in thousandths; what is none counts as 0, so that nobody gets what they did not ask for.
fn thousandths(text: &str) -> u16 {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return 0;
    }
    let fraction = format!("{fraction:0<3}").parse().unwrap_or(0);
    match whole {
        "1" => 1000,
        "0" => fraction,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(accept: &str, webp: bool) {
        assert_eq!(negotiate(Some(accept.as_bytes())), webp.then_some(Format::WebP), "{accept}");
    }

    #[test]
    fn clients_that_name_webp_get_it() {
        check("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", true);
        check("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", true);
        check("image/webp", true);
        check("IMAGE/WebP ; Q=0.001", true);
        check("text/html, image/webp;q=0.9 , */*;q=0.8", true);
        check("image/webp;v=2;q=1.000", true);
    }

    #[test]
    fn wildcards_alone_do_not_promise_webp() {
        for accept in ["*/*", "image/*", "", "text/html", "image/jpeg, */*", "image/webpx", "image/avif"] {
            check(accept, false);
        }
        assert_eq!(negotiate(None), None);
        assert_eq!(negotiate(Some(&[0xff])), None);
    }

    #[test]
    fn weights_are_honoured() {
        check("image/webp;q=0", false);
        check("image/webp;q=0.000, image/*", false);
        check("image/webp;q=0.5, image/jpeg, image/png", false);
        check("image/webp;q=0.5, */*", false);
        check("image/webp;q=0.5, image/*;q=0.4", true);
        check("image/webp;q=0.5, image/png, */*;q=0.1", true);
        check("image/webp;q=0, image/webp;q=0.2", true);
    }

    #[test]
    fn malformed_weights_count_as_none() {
        for q in ["", "2", "0.0001", "-1", "x", "0.5x", "1.x", "nan"] {
            check(&format!("image/webp;q={q}"), false);
        }
    }
}
