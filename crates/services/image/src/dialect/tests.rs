//! Every option, alias and argument rule of the dialect, and everything it refuses.

use std::collections::BTreeSet;

use tutti_base::Kind;
use tutti_imaging::spec::{Anchor, Format, ResizeKind};
use tutti_service::{KeyPair, SourceRules};

use super::formats::FormatName;
use super::known::{BUILT, GUARDED, NOT_BUILT};
use super::options::{Extend, Place};
use super::presets::MAX_STEPS;
use super::*;

const SOURCE: &str = "plain/local:///a.jpg";

fn read_options(options: &str, tenant: &Tenant) -> Result<Options, Problem> {
    let slash = if options.is_empty() { "" } else { "/" };
    read(&format!("/unsafe/{options}{slash}{SOURCE}"), tenant, &Config::default()).map(|asked| asked.options)
}

/// `options` do what `change` does to the defaults.
#[track_caller]
fn check(options: &str, change: impl FnOnce(&mut Options)) {
    let mut wanted = Options::default();
    change(&mut wanted);
    assert_eq!(read_options(options, &Tenant::main()), Ok(wanted), "{options}");
}

/// Each of `list` is refused with this kind, the detail naming `names`.
#[track_caller]
fn check_refused(list: &[&str], kind: Kind, names: &str) {
    for options in list {
        let problem = read_options(options, &Tenant::main()).expect_err(options);
        assert_eq!(problem.kind, kind, "{options}: {problem}");
        assert!(problem.detail.contains(names), "{options}: {} does not name {names}", problem.detail);
    }
}

fn place(anchor: Anchor, x: f64, y: f64) -> Place {
    Place { anchor: Some(anchor), x, y }
}

#[test]
fn no_options_are_the_defaults() {
    check("", |_| ());
    check("rs:/s:/fl:/pd:/el:0/cb:/bg:/fn:", |_| ());
}

#[test]
fn sizes() {
    for options in ["w:5", "width:5", "s:5", "size:5", "rs::5", "resize::5", "w:+5", "w:1/w:5", "w:5/s:"] {
        check(options, |o| o.width = 5);
    }
    for options in ["h:5", "height:5", "s::5", "rs:::5", "resize:fit::5"] {
        check(options, |o| o.height = 5);
    }
    check("w:5/w:0", |_| ());
    check("w:99999999999", |o| o.width = u32::MAX);
    for options in ["mw:7", "min-width:7"] {
        check(options, |o| o.min_width = 7);
    }
    for options in ["mh:7", "min-height:7"] {
        check(options, |o| o.min_height = 7);
    }
    check("rs:fill:3:4:1:1:no:5:6", |o| {
        (o.kind, o.width, o.height, o.enlarge) = (ResizeKind::Fill, 3, 4, true);
        o.extend = Extend { enabled: true, place: place(Anchor::North, 5.0, 6.0) };
    });
    check("s:3:4:t:true", |o| {
        (o.width, o.height, o.enlarge, o.extend.enabled) = (3, 4, true, true);
    });
    check("s:3:4/s::9", |o| (o.width, o.height) = (3, 9));
    check_refused(
        &["w:", "w:x", "w:-1", "w:1.5", "w:1:2", "h:", "mw:", "mh:-2", "s:a", "s:1:b", "rs:fit:x"],
        Kind::NotFound,
        "option `",
    );
    check_refused(&["s:1:2:0:0:no:0:0:0", "rs:fit:1:2:0:0:no:0:0:0"], Kind::NotFound, "at most");
    check_refused(&["width:9223372036854775808"], Kind::NotFound, "width");
}

#[test]
fn resizing_types() {
    for (word, kind) in [
        ("fit", ResizeKind::Fit),
        ("fill", ResizeKind::Fill),
        ("fill-down", ResizeKind::FillDown),
        ("force", ResizeKind::Force),
        ("auto", ResizeKind::Auto),
    ] {
        for name in ["rt", "resizing_type", "rs", "resize"] {
            check(&format!("{name}:{word}"), |o| o.kind = kind);
        }
    }
    check_refused(&["rt:", "rt:crop", "rt:fit:1", "rs:FIT"], Kind::NotFound, "option `");
    check_refused(&["fit/5/5", "fill/300/200/sm/0"], Kind::NotFound, "basic URL format");
}

#[test]
fn factors() {
    for options in ["z:2", "zoom:2", "z:2:2", "z:2.0"] {
        check(options, |o| o.zoom = [2.0, 2.0]);
    }
    check("z:0.5:3", |o| o.zoom = [0.5, 3.0]);
    check("dpr:2.5", |o| o.dpr = 2.5);
    check_refused(
        &["z:", "z:0", "z:-1", "z:nan", "z:1:", "z:1:0", "z:1:2:3", "z:1e999"],
        Kind::NotFound,
        "option `z`",
    );
    check_refused(
        &["dpr:", "dpr:0", "dpr:-1", "dpr:NaN", "dpr:inf", "dpr:1:2"],
        Kind::NotFound,
        "option `dpr`",
    );
}

#[test]
fn booleans_are_the_words_of_go_and_everything_else_is_false() {
    for word in ["1", "t", "T", "TRUE", "true", "True"] {
        check(&format!("el:{word}"), |o| o.enlarge = true);
    }
    for word in ["0", "f", "yes", "on", "", "2"] {
        check(&format!("el:1/enlarge:{word}"), |_| ());
        check(&format!("sm:{word}"), |o| o.strip_metadata = false);
    }
    check("strip_metadata:0/keep_copyright:0/strip_color_profile:0/auto_rotate:0", |o| {
        (o.strip_metadata, o.keep_copyright, o.strip_color_profile, o.auto_rotate) =
            (false, false, false, false);
    });
    check("sm:0/kcr:0/scp:0/ar:0/sm:1/kcr:1/scp:1/ar:1", |_| ());
    check("raw:1", |o| o.raw = true);
    check("att:1", |o| o.attachment = true);
    check("return_attachment:1/att:0", |_| ());
    check_refused(&["el:1:2", "sm:1:1", "ar:1:1", "raw:1:1", "att:1:1"], Kind::NotFound, "at most 1");
}

#[test]
fn gravity() {
    for (word, anchor) in [
        ("ce", Anchor::Center),
        ("no", Anchor::North),
        ("so", Anchor::South),
        ("ea", Anchor::East),
        ("we", Anchor::West),
        ("noea", Anchor::NorthEast),
        ("nowe", Anchor::NorthWest),
        ("soea", Anchor::SouthEast),
        ("sowe", Anchor::SouthWest),
        ("sm", Anchor::Smart),
    ] {
        check(&format!("g:{word}"), |o| o.gravity = place(anchor, 0.0, 0.0));
        check(&format!("gravity:{word}"), |o| o.gravity = place(anchor, 0.0, 0.0));
    }
    check("g:no:10:-0.5", |o| o.gravity = place(Anchor::North, 10.0, -0.5));
    check("g:fp:0.25:1", |o| o.gravity = place(Anchor::FocusPoint, 0.25, 1.0));
    check("g:no:10:20/g:so", |o| o.gravity = place(Anchor::South, 10.0, 20.0));
    check("g:no:10:20/g:so::5", |o| o.gravity = place(Anchor::South, 10.0, 5.0));
    check("g:no:10:20/g:sm", |o| o.gravity = place(Anchor::Smart, 0.0, 0.0));
    check_refused(
        &[
            "g:",
            "g:xx",
            "g:re",
            "g:sm:1",
            "g:no:1:2:3",
            "g:no:x",
            "g:fp",
            "g:fp:0.5",
            "g:fp:2:0.5",
            "g:fp:0.5:-0.1",
        ],
        Kind::NotFound,
        "option `g`",
    );
}

#[test]
fn extension() {
    let south = Extend { enabled: true, place: place(Anchor::South, 10.0, 20.0) };
    for options in ["ex:1:so:10:20", "extend:1:so:10:20", "ex:0:so:10:20/ex:1"] {
        check(options, |o| o.extend = south);
    }
    for options in ["exar:1:so:10:20", "extend_ar:1:so:10:20", "extend_aspect_ratio:1:so:10:20"] {
        check(options, |o| o.extend_aspect_ratio = south);
    }
    check("ex:1:fp:0.5:0.5", |o| {
        o.extend = Extend { enabled: true, place: place(Anchor::FocusPoint, 0.5, 0.5) }
    });
    check("ex:", |_| ());
    check_refused(&["ex:1:sm", "ex:1:re", "ex:1:", "ex:1:no:0:0:0"], Kind::NotFound, "option `ex`");
}

#[test]
fn crop() {
    for options in ["c:100:0.5", "crop:100:0.5", "c:1:0.5/c:100"] {
        check(options, |o| o.crop = [100.0, 0.5]);
    }
    check("c:100", |o| o.crop = [100.0, 0.0]);
    check("c:100:200:nowe:3:4", |o| {
        o.crop = [100.0, 200.0];
        o.crop_gravity = place(Anchor::NorthWest, 3.0, 4.0);
    });
    check("c:1:1:sm", |o| {
        o.crop = [1.0, 1.0];
        o.crop_gravity = place(Anchor::Smart, 0.0, 0.0);
    });
    check_refused(
        &["c:", "c:-1", "c:nan", "c:1:", "c:1:2:", "c:1:2:xx", "c:1:2:no:0:0:0"],
        Kind::NotFound,
        "option `c`",
    );
}

#[test]
fn padding_inherits_as_in_css() {
    for (arguments, sides) in [
        ("10", [10, 10, 10, 10]),
        ("10:20", [10, 20, 10, 20]),
        ("10:20:30", [10, 20, 30, 20]),
        ("10:20:30:40", [10, 20, 30, 40]),
        ("10::30", [10, 10, 30, 10]),
        (":20", [0, 20, 0, 20]),
        (":::40", [0, 0, 0, 40]),
    ] {
        check(&format!("pd:{arguments}"), |o| o.padding = sides);
        check(&format!("padding:{arguments}"), |o| o.padding = sides);
    }
    check("pd:1:2:3:4/pd::5", |o| o.padding = [1, 5, 1, 5]);
    check_refused(&["pd:-1", "pd:1:x", "pd:1:2:3:4:5", "pd:1.5"], Kind::NotFound, "option `pd`");
}

#[test]
fn turning() {
    for (arg, degrees) in [("90", 90), ("-90", -90), ("0", 0), ("450", 450), ("+180", 180)] {
        check(&format!("rot:{arg}"), |o| o.rotate = degrees);
        check(&format!("rotate:{arg}"), |o| o.rotate = degrees);
    }
    check("fl:1", |o| o.flip = [true, false]);
    check("flip:1:1", |o| o.flip = [true, true]);
    check("fl:1:1/fl::0", |o| o.flip = [true, false]);
    check_refused(&["rot:", "rot:45", "rot:90.0", "rot:90:1"], Kind::NotFound, "option `rot`");
    check_refused(&["fl:1:1:1"], Kind::NotFound, "option `fl`");
}

#[test]
fn background_resets_when_empty() {
    for options in ["bg:ff8000", "background:FF8000", "bg:f80", "bg:255:128:0"] {
        let wanted = if options == "bg:f80" { [255, 136, 0] } else { [255, 128, 0] };
        check(options, |o| o.background = Some(wanted));
    }
    check("bg:fff/bg:", |_| ());
    check_refused(
        &["bg:xyz", "bg:ffff", "bg:#fff", "bg:1:2", "bg:1:2:256", "bg:1:2:-1", "bg:1:2:3:4", "bg:::"],
        Kind::NotFound,
        "option `bg`",
    );
}

#[test]
fn blur() {
    check("bl:2.5", |o| o.blur = 2.5);
    check("blur:0", |_| ());
    check_refused(&["bl:", "bl:-1", "bl:nan", "bl:inf", "bl:1:2"], Kind::NotFound, "option `bl`");
}

#[test]
fn formats_and_qualities() {
    for name in ["f", "format", "ext"] {
        check(&format!("{name}:jpg"), |o| o.format = FormatName::find("jpeg"));
        check(&format!("{name}:avif"), |o| o.format = FormatName::find("avif"));
    }
    check_refused(&["f:", "f:JPG", "f:best", "f:exe", "f:png:1"], Kind::NotFound, "option `f`");
    check("q:1", |o| o.quality = 1);
    check("quality:100", |o| o.quality = 100);
    check("q:5/q:0", |_| ());
    check_refused(&["q:", "q:-1", "q:101", "q:8.5", "q:1:2"], Kind::NotFound, "option `q`");
    check("fq:jpg:50:webp:60", |o| o.format_quality = vec![(Format::Jpeg, 50), (Format::WebP, 60)]);
    check("format_quality:avif:50", |_| ());
    check("fq:png:1/fq:png:2", |o| o.format_quality = vec![(Format::Png, 2)]);
    check_refused(
        &["fq:", "fq:jpg", "fq:exe:5", "fq:jpg:101", "fq:jpg:", "fq:jpg:5:png"],
        Kind::NotFound,
        "option `fq`",
    );
    let skipped =
        |names: &[&str]| names.iter().filter_map(|name| FormatName::find(name)).collect::<BTreeSet<_>>();
    check("skp:png:jpg", |o| o.skip = skipped(&["jpeg", "png"]));
    check("skp:png/skip_processing:gif", |o| o.skip = skipped(&["gif", "png"]));
    check_refused(&["skp:", "skp:png:exe"], Kind::NotFound, "option `skp`");
}

#[test]
fn handling() {
    check("cb:v1", |o| o.cachebuster = Some("v1".into()));
    check("cachebuster:v1/cb:", |_| ());
    check("exp:4000000000", |o| o.expires = Some(4_000_000_000));
    check("expires:0/exp:-5", |_| ());
    check("exp:5/exp:4000000000", |o| o.expires = Some(5));
    check_refused(&["exp:", "exp:tomorrow", "exp:1.5", "exp:1:2", "cb:1:2"], Kind::NotFound, "option `");
    check("fn:cat", |o| o.filename = Some("cat".into()));
    check("filename:Y2F0:1", |o| o.filename = Some("cat".into()));
    check("fn:Y2F0:0", |o| o.filename = Some("Y2F0".into()));
    check_refused(&["fn:!:1", "fn:a:1:2"], Kind::NotFound, "option `fn`");
}

#[test]
fn every_built_name_is_known_and_every_other_is_refused_by_its_table() {
    for name in BUILT.concat() {
        let outcome = read_options(&format!("{name}:"), &Tenant::main());
        let detail = outcome.err().map(|problem| problem.detail.into_owned()).unwrap_or_default();
        assert!(!detail.contains("unknown option"), "{name}: {detail}");
    }
    for name in GUARDED.concat() {
        check_refused(&[&format!("{name}:1")], Kind::Forbidden, &format!("`{name}` changes a limit"));
    }
    for name in NOT_BUILT.concat() {
        check_refused(
            &[&format!("{name}:1")],
            Kind::NotFound,
            &format!("`{name}` of imgproxy is not built yet"),
        );
    }
    check_refused(&["qualty:5"], Kind::NotFound, "unknown option `qualty`; did you mean `quality`?");
    check_refused(&["frobnicate:5", ":5", "W:5"], Kind::NotFound, "unknown option");
    check_refused(&[&format!("{}:5", "x".repeat(5000))], Kind::NotFound, "x…`");
}

#[test]
fn answers_do_not_grow_with_the_request() {
    let long = "é:x".repeat(5000);
    for options in
        [format!("w:{long}"), format!("bg:{long}"), format!("pr:{long}"), format!("{long}:1"), long.clone()]
    {
        let problem = read_options(&options, &Tenant::main()).unwrap_err();
        assert!(problem.detail.len() < 500 && problem.subject.is_none_or(|subject| subject.len() < 200));
    }
    for path in
        [format!("/{long}/{SOURCE}"), format!("/x/plain/{long}"), format!("/x/plain/local:///{long}/../")]
    {
        let problem = read(&path, &Tenant::main(), &Config::default()).unwrap_err();
        assert!(problem.detail.len() < 500, "{}", problem.detail);
    }
}

#[test]
fn problems_name_the_option_as_their_subject() {
    for (options, subject) in
        [("w:x", "w"), ("rs:fit:x", "rs"), ("qualty:1", "qualty"), ("wm:1", "wm"), ("msr:1", "msr")]
    {
        let problem = read_options(options, &Tenant::main()).unwrap_err();
        assert_eq!(problem.subject.as_deref(), Some(subject), "{options}");
    }
}

/// A tenant with these image presets.
fn with_presets(presets: &[(&str, &str)]) -> Tenant {
    let key = |name: &str| ("image".to_owned(), name.to_owned());
    let presets = presets.iter().map(|(name, text)| (key(name), (*text).to_owned())).collect();
    Tenant { presets, ..Tenant::main() }
}

#[test]
fn presets_nest_and_the_default_comes_first() {
    let tenant = with_presets(&[("default", "q:50/w:1"), ("a", "w:2/pr:b"), ("b", "h:3"), ("c", "w:4")]);
    for (options, w, h, q) in [
        ("", 1, 0, 50),
        ("pr:a", 2, 3, 50),
        ("preset:a:c", 4, 3, 50),
        ("q:9/pr:c/h:7", 4, 7, 9),
        ("w:9/pr:default", 1, 0, 50),
    ] {
        let found = read_options(options, &tenant).unwrap();
        assert_eq!((found.width, found.height, found.quality), (w, h, q), "{options}");
    }
    assert_eq!(read_options("pr:none", &tenant).unwrap_err().kind, Kind::NotFound);
    assert_eq!(read_options("pr:", &tenant).unwrap_err().subject.as_deref(), Some("preset"));
}

#[test]
fn loops_of_presets_are_skipped() {
    let tenant = with_presets(&[("a", "w:2/pr:b/q:7"), ("b", "h:3/pr:a:b")]);
    let found = read_options("pr:a", &tenant).unwrap();
    assert_eq!((found.width, found.height, found.quality), (2, 3, 7));
    assert!(presets::validate(&tenant).is_ok());
}

#[test]
fn presets_cannot_grow_without_bound() {
    let step = |next: &str| [format!("pr:{next}").as_str(); 4].join("/");
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let mut presets: Vec<_> = names.windows(2).map(|pair| (pair[0], step(pair[1]))).collect();
    presets.push(("g", "w:1".to_owned()));
    let presets: Vec<_> = presets.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let tenant = with_presets(&presets);
    assert!(read_options("pr:a", &tenant).unwrap_err().detail.contains(&MAX_STEPS.to_string()));
    assert_eq!(read_options("pr:d", &tenant).unwrap().width, 1);
    let options = |count: usize| vec!["w:1"; count].join("/");
    assert!(read_options(&options(MAX_STEPS), &Tenant::main()).is_ok());
    assert!(read_options(&options(MAX_STEPS + 1), &Tenant::main()).is_err());
}

#[test]
fn broken_presets_are_named_when_they_are_configured() {
    for text in ["", "w", "w:1/plain", "w:x", "qualty:1", "pr:none", "w:1/"] {
        let tenant = with_presets(&[("p", text)]);
        let message = presets::validate(&tenant).unwrap_err();
        assert!(message.contains("`p`") || message.contains("`none`"), "{text}: {message}");
        assert_eq!(read_options("pr:p", &tenant).unwrap_err().kind, Kind::NotFound, "{text}");
    }
}

#[test]
fn with_presets_only_the_first_segment_names_them() {
    let tenant =
        Tenant { only_presets: true, ..with_presets(&[("default", "q:50"), ("a", "w:2"), ("b", "h:3")]) };
    let found = read_options("a:b", &tenant).unwrap();
    assert_eq!((found.width, found.height, found.quality), (2, 3, 50));
    for options in ["w:2", "", "a/w:2", "pr:a"] {
        assert_eq!(read_options(options, &tenant).unwrap_err().kind, Kind::NotFound, "{options}");
    }
}

#[track_caller]
fn check_source(path: &str, source: &str, format: Option<&str>) {
    let asked = read(path, &Tenant::main(), &Config::default()).expect(path);
    assert_eq!(asked.source.to_string(), source, "{path}");
    assert_eq!(asked.options.format.map(|format| format.name), format, "{path}");
}

#[test]
fn the_extension_wins_over_the_format_unless_raw() {
    check_source("/x/plain/local:///a.jpg@webp", "local:///a.jpg", Some("webp"));
    check_source("/x/f:png/plain/local:///a.jpg@jpg", "local:///a.jpg", Some("jpeg"));
    check_source("/x/f:png/plain/local:///a.jpg@", "local:///a.jpg", Some("png"));
    check_source("/x/f:png/bG9jYWw6/Ly8vYS5qcGc.webp", "local:///a.jpg", Some("webp"));
    check_source("/x/raw:1/plain/local:///a.jpg@webp", "local:///a.jpg", None);
    check_source("/x/w:1/plain/local%3A%2F%2F%2Fa%20b.jpg?v=1@png", "local:///a b.jpg", None);
    check_source("/x/w%3A1/plain/local:/a.jpg", "local:///a.jpg", None);
    for path in [
        "/x/plain/local:///a.jpg@exe",
        "/x/w:1",
        "/x/w:1/",
        "/x/w:1/plain",
        "/x/w:1/plain/",
        "/x/plain/local:///../a",
    ] {
        assert_eq!(
            read(path, &Tenant::main(), &Config::default()).unwrap_err().kind,
            Kind::NotFound,
            "{path}"
        );
    }
}

#[test]
fn traversal_is_refused_in_every_encoding() {
    for up in [
        "..",
        "%2e%2e",
        "%2E.",
        ".%2e",
        "%252e%252e",
        "..%2f..",
        "..%5c..",
        "%2e%2e%5c",
        "a/%2e%2e/..",
        "%00",
    ] {
        for path in [format!("/x/plain/local:///{up}/a.jpg"), format!("/x/plain/local://shop/b/{up}/a.jpg")] {
            let problem = read(&path, &Tenant::main(), &Config::default()).expect_err(&path);
            assert_eq!(
                (problem.kind, problem.subject.as_deref()),
                (Kind::NotFound, Some("source")),
                "{path}"
            );
        }
    }
}

#[test]
fn signatures_are_checked_before_anything_is_said_of_the_options() {
    let tenant = Tenant { keys: vec![KeyPair { key: b"k".to_vec(), salt: b"s".to_vec() }], ..Tenant::main() };
    let rest = "w:5/plain/https://img.example/a.jpg";
    let signed = format!("/{}/{rest}", signature::sign(b"k", b"s", rest));
    let asked = read(&signed, &tenant, &Config::default()).unwrap();
    assert_eq!((asked.options.width, asked.source.to_string().as_str()), (5, "https://img.example/a.jpg"));
    assert!(read(&format!("{signed}?anything=else"), &tenant, &Config::default()).is_ok());
    assert!(read(&signed.replace("w:5", "w%3A5"), &tenant, &Config::default()).is_ok());
    assert!(read(&signed.replace("https://", "https:/"), &tenant, &Config::default()).is_ok());
    for forged in
        [signed.replace("w:5", "w:6"), format!("/unsafe/{rest}"), format!("/unsafe/nonsense:1/{rest}")]
    {
        assert_eq!(read(&forged, &tenant, &Config::default()).unwrap_err().kind, Kind::Forbidden, "{forged}");
    }
}

#[test]
fn unsigned_urls_reach_what_is_listed_and_nothing_else() {
    let http = "/unsafe/plain/https://img.example/a.jpg";
    assert_eq!(read(http, &Tenant::main(), &Config::default()).unwrap_err().kind, Kind::NotFound);
    let sources = SourceRules { allowed: vec!["https://img.example/".into()] };
    let tenant = Tenant { sources, base_url: "https://img.example/".into(), ..Tenant::main() };
    for (path, passes) in [
        (http, true),
        ("/unsafe/plain/a.jpg", true),
        ("/unsafe/plain/HTTPS://IMG.example:443/a.jpg", true),
        ("/unsafe/plain/https://img.example.evil/a.jpg", false),
        ("/unsafe/plain/https://img.example%40evil/a.jpg", false),
        ("/unsafe/plain/http://img.example/a.jpg", false),
        ("/unsafe/plain/local:///a.jpg", false),
        ("/unsafe/plain/..%2fa.jpg", false),
    ] {
        assert_eq!(read(path, &tenant, &Config::default()).is_ok(), passes, "{path}");
    }
}

#[test]
fn a_file_name_behind_base64_is_ignored_where_that_is_set() {
    let path = "/x/w:1/bG9jYWw6Ly8vYS5qcGc.png/puppy.jpg";
    assert!(read(path, &Tenant::main(), &Config::default()).is_err());
    let config = Config { base64_url_includes_filename: true, ..Config::default() };
    assert_eq!(read(path, &Tenant::main(), &config).unwrap().source.to_string(), "local:///a.jpg");
}
