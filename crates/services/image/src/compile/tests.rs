//! Options that mean the same give one job, and options that mean another give another.

use tutti_service::Tenant;

use super::*;
use crate::dialect;

fn job_under(options: &str, negotiated: Option<Format>, config: &Config) -> Result<ImageJob, Problem> {
    let path =
        format!("/unsafe/x:/{options}/plain/local:///a.jpg").replace("x:/", "").replace("//plain", "/plain");
    let asked = dialect::read(&path, &Tenant::main(), config)?;
    compile(&asked.options, negotiated, config)
}

fn job(options: &str) -> ImageJob {
    job_under(options, None, &Config::default()).expect(options)
}

/// All of `spellings` give one job.
#[track_caller]
fn check_equal(spellings: &[&str]) {
    for other in &spellings[1..] {
        assert_eq!(job(spellings[0]), job(other), "{} and {other}", spellings[0]);
        assert_eq!(job(spellings[0]).seal(), job(other).seal());
    }
}

/// All of `spellings` give jobs of their own.
#[track_caller]
fn check_different(spellings: &[&str]) {
    for (at, one) in spellings.iter().enumerate() {
        for other in &spellings[at + 1..] {
            assert_ne!(job(one).seal(), job(other).seal(), "{one} and {other}");
        }
    }
}

#[test]
fn equal_jobs_are_equal_whatever_their_spelling() {
    check_equal(&[
        "rs:fill:300:200/q:50",
        "q:50/rs:fill:300:200",
        "rt:fill/w:300/h:200/q:50",
        "q:9/s:300:200/rt:fill/q:50",
    ]);
    check_equal(&[
        "",
        "w:0",
        "rt:fill",
        "rt:force",
        "g:no",
        "g:fp:0.1:0.2",
        "ex:0:so",
        "pd:0",
        "z:1",
        "fl:0",
        "rot:360",
        "bl:-0",
        "kcr:1",
    ]);
    check_equal(&["w:300", "rs:fill:300", "rs:auto:300:0", "rs:fill-down:300", "w:300/g:no"]);
    check_equal(&["rs:fill:3:4:1", "rs:fill-down:3:4:1"]);
    check_equal(&["rot:-90", "rot:270", "rot:630"]);
    check_equal(&["c:100.9:50", "c:100:50", "c:100:50:ce", "g:no/c:100:50:ce"]);
    check_equal(&["g:no/c:9:9", "g:no/c:9:9:no", "c:9:9:no/g:no"]);
    check_equal(&["f:png/q:80", "f:png", "f:png/fq:webp:3", "f:png/fq:png:80"]);
    check_equal(&["q:50", "q:50/fq:jpg:3"]);
    check_equal(&["sm:0", "sm:0/kcr:0"]);
    check_equal(&["f:webp", "f:webp/skp:png"]);
    check_equal(&["skp:png:jpg", "skp:jpg/skp:png", "skp:jpeg:png:jpg"]);
    check_equal(&["raw:1", "raw:1/w:5/f:png/q:9"]);
    check_equal(&["fn:a/att:1/exp:4000000000", ""]);
    check_equal(&["rs:fill:3:4/g:fp:0.5:0.5", "rs:fill:3:4/g:no:9:9/g:fp:0.5:0.5"]);
}

#[test]
fn other_jobs_are_different() {
    check_different(&[
        "",
        "w:300",
        "h:300",
        "rs:force:300",
        "rs:fill:300:200",
        "rs:fill:300:200/g:no",
        "rs:fill:300:200/g:no:1",
        "rs:fill-down:300:200",
        "rs:auto:300:200",
        "rs:fit:300:200",
        "mw:1",
        "mh:1",
        "z:2",
        "z:2:1",
        "dpr:2",
        "el:1",
        "ex:1",
        "exar:1",
        "ex:1:no",
        "c:5",
        "c:0.5",
        "c:0:5",
        "c:5:5:no",
        "g:no/c:5",
        "pd:1",
        "pd:1:2",
        "ar:0",
        "rot:90",
        "fl:1",
        "fl:0:1",
        "bg:fff",
        "bg:000",
        "bl:1",
        "sm:0",
        "kcr:0",
        "scp:0",
        "q:50",
        "q:79",
        "fq:jpg:79",
        "f:png",
        "f:jpg",
        "f:webp",
        "skp:png",
        "skp:png:jpg",
        "f:png/skp:png",
        "raw:1",
        "cb:1",
        "cb:2",
    ]);
}

#[test]
fn negotiation_matters_only_where_no_format_is_asked_for() {
    let config = Config::default();
    let with = |options: &str, negotiated| job_under(options, negotiated, &config).unwrap();
    assert_ne!(with("w:5", Some(Format::WebP)), with("w:5", None));
    assert_eq!(with("w:5/f:png", Some(Format::WebP)), with("w:5/f:png", None));
    assert_eq!(with("raw:1", Some(Format::WebP)), with("raw:1", None));
}

#[test]
fn the_configured_quality_is_used_where_none_is_asked_for() {
    let mut config = Config::default();
    config.quality.jpeg = 33;
    let quality = |options: &str| job_under(options, None, &config).unwrap().spec.output;
    assert_eq!(quality("f:jpg").quality, Some(33));
    assert_eq!(quality("f:jpg/q:44").quality, Some(44));
    assert_eq!(quality("f:jpg/fq:jpg:55").quality, Some(55));
    assert_eq!(quality("f:jpg/fq:jpg:0").quality, Some(33));
    assert_eq!(quality("f:jpg/q:44/fq:jpg:55").quality, Some(44));
    assert_eq!(quality("").format_quality, [(Format::Jpeg, 33), (Format::Png, 80), (Format::WebP, 79)]);
}

#[test]
fn limits_do_not_rename_jobs() {
    let mut config = Config::default();
    config.limits.result_side = 100;
    assert_eq!(job_under("w:5", None, &config), job_under("w:5", None, &Config::default()));
}

#[test]
fn formats_that_we_cannot_write_are_named() {
    for name in ["avif", "svg", "gif", "tiff", "jxl"] {
        let problem = job_under(&format!("f:{name}"), None, &Config::default()).unwrap_err();
        assert_eq!((problem.kind, problem.subject.as_deref()), (Kind::Unprocessable, Some("format")));
        assert!(problem.detail.contains(name), "{}", problem.detail);
    }
    assert!(job_under("f:avif/f:png", None, &Config::default()).is_ok());
}

#[test]
fn numbers_beyond_sense_stay_finite() {
    let spec = job("w:99999999999999/h:1/dpr:1e300/z:1e-300:1e300/bl:1e300/pd:4000000000/g:no:1e300:-1e300/mw:1/c:1e300:1e-300").spec;
    assert!(spec.resize.dpr <= FACTORS.1 && spec.resize.zoom == [FACTORS.0, FACTORS.1]);
    assert_eq!((spec.blur, spec.padding), (MAX_BLUR as f32, Some([MAX_PADDING; 4])));
    assert_eq!((spec.gravity.x, spec.gravity.y), (MAX_OFFSET, -MAX_OFFSET));
    assert_eq!(spec.crop.unwrap().width, Extent::Pixels(f64::from(u32::MAX)));
}

#[test]
fn originals_are_kept_only_where_nothing_else_was_asked_for() {
    for options in ["sm:0/scp:0", "sm:0/scp:0/f:jpg", "scp:0/sm:0/rot:360/w:0", "sm:0/scp:0/ar:0"] {
        assert_eq!(job(options).original, Original::KeptIfUnchanged, "{options}");
    }
    for options in [
        "",
        "sm:0",
        "scp:0",
        "sm:0/scp:0/w:5",
        "sm:0/scp:0/q:80",
        "sm:0/scp:0/fq:jpg:80",
        "sm:0/scp:0/bg:fff",
    ] {
        assert_eq!(job(options).original, Original::Rendered, "{options}");
    }
}
