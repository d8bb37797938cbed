//! What a client and a tenant choose: formats by `Accept`, presets, placeholders, ways of writing a source.

use tutti_imaging::SourceFormat;

use crate::house::House;
use crate::picture::{Picture, format_of};

#[test]
fn webp_is_for_those_who_name_it() {
    let house = House::shared();
    house.put("negotiated.jpg", &Picture::scene(60, 40, 2).jpeg());
    let target = "/image/unsafe/w:30/plain/local:///negotiated.jpg";
    for (accept, format) in [
        (None, SourceFormat::Jpeg),
        (Some("*/*"), SourceFormat::Jpeg),
        (Some("image/*"), SourceFormat::Jpeg),
        (Some("image/avif,image/webp,image/apng,*/*;q=0.8"), SourceFormat::WebP),
        (Some("image/webp"), SourceFormat::WebP),
        (Some("image/webp;q=0.5, */*;q=0.1"), SourceFormat::WebP),
        (Some("image/webp;q=0, */*"), SourceFormat::Jpeg),
        (Some("image/webp;q=0.2, image/jpeg;q=0.9, image/png;q=0.9"), SourceFormat::Jpeg),
    ] {
        let fields: Vec<_> = accept.map(|accept| ("Accept", accept)).into_iter().collect();
        let answer = house.ask("GET", target, &fields);
        assert_eq!(answer.status, 200);
        assert_eq!(format_of(&answer.body), Some(format), "{accept:?}");
        assert_eq!(answer.field("Content-Type"), Some(format.media()), "{accept:?}");
        assert_eq!(answer.field("Vary"), Some("Accept"), "{accept:?}");
        Picture::scene(60, 40, 2).scaled(30, 20).assert_shown_by(&answer.body);
    }
    let accepts = [("Accept", "image/webp")];
    let other = house.ask("GET", target, &[("Accept", "image/webp, image/*;q=0.3")]);
    assert!(other.is_hit(), "the many spellings are two variants: {}", other.cache_status());
    let fixed = house.ask("GET", &format!("{target}@png"), &accepts);
    assert_eq!((format_of(&fixed.body), fixed.field("Vary")), (Some(SourceFormat::Png), None));
}

#[test]
fn presets_and_every_way_of_writing_a_source_lead_to_one_result() {
    let house = House::start();
    house.put("scene.png", &Picture::scene(60, 40, 2).png());
    house.apply("[tenants.main.presets.image]\nthumb = \"rs:fill:20:20/q:70\"\nboth = \"pr:thumb/rot:90\"\n");
    let first = house.image("/image/unsafe/rs:fill:20:20/q:70/plain/local:///scene.png@jpg");
    assert_eq!(Picture::read(&first.body).size(), (20, 20));
    for rest in [
        "pr:thumb/plain/local:///scene.png@jpg",
        "preset:thumb/plain/local%3A%2F%2F%2Fscene.png@jpg",
        "resize:fill:20:20/quality:70/plain/local:///scene.png@jpg",
        "pr:thumb/f:jpg/plain/local:///scene.png",
        "pr:thumb/bG9jYWw6Ly8vc2NlbmUucG5n.jpg",
        "pr:thumb/bG9jYWw6L/y8vc2NlbmUucG5n.jpg",
    ] {
        let answer = house.image(&format!("/image/unsafe/{rest}"));
        assert!(answer.is_hit(), "{rest}: {}", answer.cache_status());
        assert_eq!(answer.etag(), first.etag(), "{rest}");
    }
    let turned = house.image("/image/unsafe/pr:both/plain/local:///scene.png@jpg");
    assert_ne!(turned.etag(), first.etag());
    house.apply("[tenants.main]\nonly_presets = true\n");
    assert_eq!(house.get("/image/unsafe/w:20/plain/local:///scene.png@jpg").status, 404);
}

#[test]
fn a_placeholder_stands_in_for_what_cannot_be_shown() {
    let house = House::start();
    let placeholder = Picture::plain(40, 40, [90, 90, 200]);
    house.put("placeholder.png", &placeholder.png());
    house.put("broken.png", b"no picture at all");
    let missing = "/image/unsafe/w:20/plain/local:///missing.png@png";
    assert_eq!(house.get(missing).status, 404);
    house.apply("[tenants.main]\nplaceholder = \"local:///placeholder.png\"\n");
    for target in [missing, "/image/unsafe/w:20/plain/local:///broken.png@png"] {
        let answer = house.image(target);
        assert!(answer.cache_status().contains("degraded-placeholder"), "{}", answer.cache_status());
        placeholder.scaled(20, 20).assert_shown_by(&answer.body);
    }
    let real = Picture::scene(60, 40, 2);
    house.put("missing.png", &real.png());
    let answer = house.image(missing);
    real.scaled(20, 13).assert_shown_by(&answer.body);
    assert_eq!(
        answer.cache_status(),
        "tutti; fwd=miss; stored",
        "a placeholder is never stored in its place"
    );
    assert_eq!(
        house.get("/image/unsafe/qualty:2/plain/local:///missing.png").status,
        404,
        "a wrong URL stays one"
    );
}
