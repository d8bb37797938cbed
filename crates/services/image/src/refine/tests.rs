//! What becomes of jobs once the original is known.

use tutti_imaging::spec::Effort;

use super::*;

fn photo(media: &str) -> Facts {
    Facts {
        media: Some(media.into()),
        width: 400,
        height: 300,
        frames: 1,
        bits: 8,
        channels: 3,
        orientation: 1,
        bytes: 10_000,
        ..Facts::default()
    }
}

fn with_alpha(media: &str) -> Facts {
    Facts { alpha: true, channels: 4, ..photo(media) }
}

fn refined(job: &ImageJob, facts: &Facts) -> Result<Refined, Problem> {
    refine(job, facts, &Config::default())
}

fn spec_of(job: &ImageJob, facts: &Facts) -> Spec {
    let refined = refined(job, facts).unwrap();
    assert_eq!(refined.pass_through, None);
    ImageJob::open(&refined.params).unwrap().spec
}

fn job(change: impl FnOnce(&mut Spec)) -> ImageJob {
    let mut job = ImageJob::default();
    change(&mut job.spec);
    job
}

#[track_caller]
fn check_format(job: &ImageJob, facts: &Facts, wanted: Format) {
    let output = spec_of(job, facts).output;
    assert_eq!((output.format, output.prefer), (Some(wanted), None));
    assert!(output.quality.is_some(), "the quality is decided with the format");
}

#[test]
fn the_format_is_chosen_as_imgproxy_does() {
    let plain = ImageJob::default();
    check_format(&plain, &photo("image/jpeg"), Format::Jpeg);
    check_format(&plain, &photo("image/png"), Format::Png);
    check_format(&plain, &photo("image/webp"), Format::Jpeg);
    check_format(&plain, &with_alpha("image/webp"), Format::Png);
    let padded = job(|spec| spec.padding = Some([1; 4]));
    check_format(&padded, &photo("image/webp"), Format::Png);
    let flat = job(|spec| spec.background = Some([0; 3]));
    check_format(&flat, &with_alpha("image/webp"), Format::Jpeg);
}

#[test]
fn what_the_client_prefers_wins_and_what_the_url_asks_for_wins_over_that() {
    let prefers = job(|spec| spec.output.prefer = Some(Format::WebP));
    for media in ["image/jpeg", "image/png", "image/webp"] {
        check_format(&prefers, &photo(media), Format::WebP);
        check_format(&job(|spec| spec.output.format = Some(Format::Png)), &photo(media), Format::Png);
    }
}

#[test]
fn the_cheapest_format_is_jpeg_unless_something_may_be_transparent() {
    let mut cheapest =
        job(|spec| (spec.output.prefer, spec.output.effort) = (Some(Format::WebP), Effort::Least));
    cheapest.choice = FormatChoice::Cheapest;
    check_format(&cheapest, &photo("image/png"), Format::Jpeg);
    check_format(&cheapest, &with_alpha("image/png"), Format::WebP);
    check_format(&cheapest, &Facts { unknown: true, ..photo("image/png") }, Format::WebP);
    assert_eq!(spec_of(&cheapest, &photo("image/png")).output.effort, Effort::Least);
}

#[test]
fn what_is_too_long_for_webp_is_negotiated_to_its_own_format() {
    let mut config = Config::default();
    config.limits.result_side = 20_000;
    let long = Facts { width: WEBP_SIDE + 1, height: 10, ..photo("image/jpeg") };
    let prefers = job(|spec| spec.output.prefer = Some(Format::WebP));
    let refined = refine(&prefers, &long, &config).unwrap();
    assert_eq!(ImageJob::open(&refined.params).unwrap().spec.output.format, Some(Format::Jpeg));
    let refined = refine(&prefers, &Facts { width: WEBP_SIDE, ..long }, &config).unwrap();
    assert_eq!(ImageJob::open(&refined.params).unwrap().spec.output.format, Some(Format::WebP));
}

#[test]
fn equal_work_has_one_name_however_it_was_asked_for() {
    let asked = job(|spec| (spec.output.format, spec.output.quality) = (Some(Format::WebP), Some(80)));
    let mut negotiated = job(|spec| spec.output.prefer = Some(Format::WebP));
    negotiated.cachebuster = Some("7".into());
    negotiated.skip = vec!["image/png".into()];
    let facts = photo("image/jpeg");
    assert_eq!(refined(&asked, &facts).unwrap().params, refined(&negotiated, &facts).unwrap().params);
}

/// The refusal of `job` for `facts` is 422, about `subject`, and names each of `names`.
#[track_caller]
fn check_refused(job: &ImageJob, facts: &Facts, subject: Option<&str>, of_input: bool, names: &[&str]) {
    let problem = refined(job, facts).unwrap_err();
    assert_eq!((problem.kind, problem.subject.as_deref()), (Kind::Unprocessable, subject), "{problem}");
    assert_eq!(problem.of_input, of_input, "{problem}");
    for name in names {
        assert!(problem.detail.contains(name), "{} does not name {name}", problem.detail);
    }
}

#[test]
fn limits_are_named_with_their_value_and_the_limit_itself_is_allowed() {
    let limits = Limits::default();
    let plain = ImageJob::default();
    let (width, height) = (8000, (limits.source_pixels / 8000) as u32);
    assert!(refined(&plain, &Facts { width, height, ..photo("image/jpeg") }).is_ok());
    let over = Facts { width, height: height + 1, ..photo("image/jpeg") };
    check_refused(&plain, &over, Some("max_src_resolution"), true, &["50008000", "50000000"]);
    assert!(refined(&plain, &Facts { bytes: limits.source_bytes, ..photo("image/jpeg") }).is_ok());
    let over = Facts { bytes: limits.source_bytes + 1, ..photo("image/jpeg") };
    check_refused(&plain, &over, Some("max_src_file_size"), true, &["67108865", "67108864"]);
    let enlarged = |side: u32| job(|spec| (spec.resize.width, spec.resize.enlarge) = (side, true));
    assert!(refined(&enlarged(limits.result_side), &photo("image/jpeg")).is_ok());
    let over = enlarged(limits.result_side + 1);
    check_refused(&over, &photo("image/jpeg"), Some("max_result_dimension"), false, &["8193", "8192"]);
}

#[test]
fn limits_hold_for_originals_that_are_handed_on() {
    let over = Facts { width: 8000, height: 8000, ..photo("image/png") };
    let skip = ImageJob { skip: vec!["image/png".into()], ..ImageJob::default() };
    check_refused(&skip, &over, Some("max_src_resolution"), true, &[]);
    let raw = ImageJob { original: Original::Raw, ..ImageJob::default() };
    let over = Facts { bytes: Limits::default().source_bytes + 1, ..photo("image/png") };
    check_refused(&raw, &over, Some("max_src_file_size"), true, &[]);
}

#[test]
fn originals_that_we_cannot_read_are_named() {
    let plain = ImageJob::default();
    check_refused(&plain, &photo("image/gif"), None, true, &["GIF"]);
    check_refused(&plain, &photo("image/avif"), None, true, &["AVIF"]);
    check_refused(&plain, &Facts { bytes: 5, ..Facts::unknown() }, None, true, &["not an image"]);
    let raw = ImageJob { original: Original::Raw, ..ImageJob::default() };
    check_refused(&raw, &Facts { bytes: 5, ..Facts::unknown() }, None, true, &["not an image"]);
    let skip = ImageJob { skip: vec!["image/svg+xml".into()], ..ImageJob::default() };
    check_refused(&skip, &photo("image/svg+xml"), None, true, &["SVG"]);
}

#[track_caller]
fn check_kept(job: &ImageJob, facts: &Facts, kept: bool) {
    let refined = refined(job, facts).unwrap();
    let wanted = facts.media.clone().filter(|_| kept);
    assert_eq!(refined.pass_through, wanted);
    assert_eq!(refined.cost.cpu_ms == 0.0, kept, "handing on costs nothing, rendering something");
}

#[test]
fn originals_are_handed_on_where_that_is_asked_for() {
    let skip = ImageJob { skip: vec!["image/gif".into(), "image/png".into()], ..ImageJob::default() };
    check_kept(&skip, &photo("image/png"), true);
    check_kept(&skip, &photo("image/gif"), true);
    check_kept(&skip, &photo("image/jpeg"), false);
    check_kept(&ImageJob { original: Original::Raw, ..ImageJob::default() }, &photo("image/avif"), true);
}

#[test]
fn originals_are_handed_on_where_nothing_would_change() {
    let keeps = ImageJob { original: Original::KeptIfUnchanged, ..ImageJob::default() };
    check_kept(&keeps, &photo("image/jpeg"), true);
    check_kept(&keeps, &photo("image/webp"), false);
    check_kept(&keeps, &Facts { orientation: 6, ..photo("image/jpeg") }, false);
    check_kept(&keeps, &Facts { unknown: true, ..photo("image/jpeg") }, false);
    let mut to_png = keeps.clone();
    to_png.spec.output.format = Some(Format::Png);
    check_kept(&to_png, &photo("image/jpeg"), false);
    check_kept(&to_png, &photo("image/png"), true);
    check_kept(&ImageJob::default(), &photo("image/jpeg"), false);
}

#[test]
fn the_cost_follows_the_facts_and_the_unknown_is_charged_as_the_worst() {
    let cost = |facts: &Facts| refined(&ImageJob::default(), facts).unwrap().cost;
    let small = cost(&photo("image/jpeg"));
    let large = cost(&Facts { width: 4000, height: 3000, ..photo("image/jpeg") });
    let unknown = cost(&Facts { unknown: true, width: 0, height: 0, ..photo("image/jpeg") });
    assert!(small.cpu_ms < large.cpu_ms && large.cpu_ms < unknown.cpu_ms, "{small:?} {large:?} {unknown:?}");
    assert!(small.bytes < large.bytes && large.bytes < unknown.bytes);
    assert_eq!(small.features[0], 0.12);
}

#[test]
fn the_limits_that_hold_go_with_the_job_to_the_engine() {
    let mut config = Config::default();
    config.limits.result_side = 777;
    let refined = refine(&ImageJob::default(), &photo("image/jpeg"), &config).unwrap();
    assert_eq!(ImageJob::open(&refined.params).unwrap().spec.limits, config.limits.into());
}
