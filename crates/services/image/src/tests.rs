//! The service through its contract: plans, what they read, ladders, live settings, the engine, and hostile URLs.

use proptest::prelude::*;
use tutti_service::facts::BytesHead;
use tutti_service::{EngineInput, KeyPair, Rung};

use super::*;

fn service() -> ImageService {
    ImageService::new(Config::default()).unwrap()
}

fn plan_for(path: &str, fields: &[(&str, &str)], tenant: &Tenant) -> Result<Plan, Problem> {
    let head = Head { method: Method::Get, host: "localhost", path, query: None, fields: &fields };
    service().plan(&head, tenant)
}

fn plan(path: &str) -> Plan {
    plan_for(path, &[], &Tenant::main()).expect(path)
}

fn job_of(plan: &Plan) -> (&JobPlan, ImageJob) {
    let Action::Job(job) = &plan.action else { panic!("not a job: {:?}", plan.action) };
    (job, ImageJob::open(&job.params).unwrap())
}

const PHOTO: &str = "plain/local:///a.jpg";

#[test]
fn a_plan_is_one_job_on_one_original() {
    let plan = plan(&format!("/unsafe/rs:fit:512:512/{PHOTO}@webp"));
    let (job, params) = job_of(&plan);
    let [Input::Original(source)] = &job.inputs[..] else { panic!("{:?}", job.inputs) };
    assert_eq!((source.to_string().as_str(), job.class), ("local:///a.jpg", RENDER));
    assert_eq!(params.spec.output.format, Some(Format::WebP));
    assert!(job.cost.cpu_ms > 1.0 && job.cost.bytes > 1_000_000, "{:?}", job.cost);
    assert!(plan.cache.lifetime == Lifetime::OfOriginals { default: Duration::from_secs(7 * 24 * 3600) });
    assert!(plan.expires.is_none() && plan.fields.is_empty() && plan.placeholder.is_none());
}

#[test]
fn other_methods_are_refused() {
    let head =
        Head { method: Method::Post, host: "x", path: "/unsafe/plain/local:///a", query: None, fields: &() };
    assert_eq!(service().plan(&head, &Tenant::main()).unwrap_err().kind, Kind::MethodNotAllowed);
}

#[test]
fn accept_is_read_only_where_the_format_is_ours_to_choose() {
    let accept = [("Accept", "image/webp,*/*")];
    for (options, negotiated) in
        [("", true), ("w:5", true), ("f:png", false), ("raw:1", false), ("skp:jpg", true)]
    {
        let path = format!("/unsafe/{options}/{PHOTO}").replace("//plain", "/plain");
        let plan = plan_for(&path, &accept, &Tenant::main()).unwrap();
        assert_eq!(plan.reads, if negotiated { vec!["accept"] } else { vec![] }, "{options}");
        assert_eq!(plan.vary, negotiated.then_some("Accept"), "{options}");
        assert_eq!(job_of(&plan).1.spec.output.prefer, negotiated.then_some(Format::WebP), "{options}");
    }
}

#[test]
fn all_spellings_of_accept_give_two_jobs() {
    let params = |accept: &str| {
        let plan = plan_for(&format!("/unsafe/{PHOTO}"), &[("accept", accept)], &Tenant::main()).unwrap();
        job_of(&plan).0.params.clone()
    };
    let (webp, none) = (params("image/webp"), params("*/*"));
    assert_ne!(webp, none);
    assert!(
        ["image/avif,image/webp,*/*;q=0.8", "image/*,image/webp;q=1"]
            .iter()
            .all(|accept| params(accept) == webp)
    );
    assert!(["", "image/webp;q=0", "image/png,image/*;q=0.8"].iter().all(|accept| params(accept) == none));
}

#[test]
fn negotiation_can_be_switched_off_while_running() {
    let service = service();
    let fields: &[(&str, &str)] = &[("accept", "image/webp")];
    let path = format!("/unsafe/{PHOTO}");
    let head = Head { method: Method::Get, host: "x", path: &path, query: None, fields: &fields };
    assert_eq!(service.plan(&head, &Tenant::main()).unwrap().vary, Some("Accept"));
    service.reconfigure(Config { negotiate_webp: false, ..Config::default() }).unwrap();
    let plan = service.plan(&head, &Tenant::main()).unwrap();
    assert_eq!((plan.vary, job_of(&plan).1.spec.output.prefer), (None, None));
    let quality = Quality { jpeg: 0, ..Quality::default() };
    assert!(service.reconfigure(Config { quality, ..Config::default() }).unwrap_err().contains("jpeg"));
    assert_eq!(service.plan(&head, &Tenant::main()).unwrap().vary, None, "a refused change changes nothing");
}

/// The words of the cheaper rungs of `path`; the first rung is always an old copy.
fn cheaper(path: &str, accept: &str) -> Vec<&'static str> {
    let plan = plan_for(path, &[("accept", accept)], &Tenant::main()).unwrap();
    assert!(matches!(plan.ladder[0], Rung::Stale));
    let full = job_of(&plan).0;
    let word = |rung: &Rung| match rung {
        Rung::Stale => panic!("an old copy stands twice"),
        Rung::Cheaper { word, job } => {
            assert!(job.cost.cpu_ms < full.cost.cpu_ms, "{word} is not cheaper");
            assert_ne!(job.params, full.params);
            *word
        }
    };
    plan.ladder[1..].iter().map(word).collect()
}

#[test]
fn the_ladder_keeps_the_type_that_was_asked_for() {
    assert_eq!(cheaper(&format!("/unsafe/w:500/{PHOTO}@webp"), "image/webp"), ["effort"]);
    assert_eq!(cheaper(&format!("/unsafe/w:500/{PHOTO}"), "image/webp"), ["effort", "format"]);
    assert_eq!(cheaper(&format!("/unsafe/w:500/{PHOTO}"), "*/*"), ["effort"]);
    assert!(cheaper(&format!("/unsafe/raw:1/{PHOTO}"), "*/*").is_empty());
}

#[test]
fn expiry_and_names_go_with_the_answer_and_not_into_the_job() {
    let plain = plan(&format!("/unsafe/{PHOTO}@png"));
    let named = plan(&format!("/unsafe/exp:4000000000/fn:cat/att:1/{PHOTO}@png"));
    assert_eq!(named.expires, Some(Wall(4_000_000_000_000)));
    assert_eq!(named.fields, [("Content-Disposition".into(), "attachment; filename=\"cat.png\"".into())]);
    assert_eq!(job_of(&named).0.params, job_of(&plain).0.params);
    assert_eq!(plan(&format!("/unsafe/exp:9223372036854775807/{PHOTO}")).expires, Some(Wall(u64::MAX)));
}

#[test]
fn raw_originals_run_nothing() {
    let fields = plan(&format!("/unsafe/raw:1/{PHOTO}")).fields;
    assert!(
        fields.iter().any(|(name, value)| name == "Content-Security-Policy" && value.contains("sandbox"))
    );
}

#[test]
fn the_placeholder_is_made_by_the_same_job() {
    let placeholder = canonical_source("local:///none.png").unwrap();
    let tenant = Tenant { placeholder: Some(placeholder.clone()), ..Tenant::main() };
    let plan = plan_for(&format!("/unsafe/w:5/{PHOTO}"), &[], &tenant).unwrap();
    let stand_in = plan.placeholder.as_ref().unwrap();
    assert_eq!(stand_in.params, job_of(&plan).0.params);
    assert!(matches!(&stand_in.inputs[..], [Input::Original(source)] if *source == placeholder));
}

/// A picture of 8 x 4 pixels, made by the engine's own encoder from a PNG that is written here byte by byte.
fn png() -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = png::Encoder::new(&mut out, 8, 4);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[120; 8 * 4 * 3]).unwrap();
    writer.finish().unwrap();
    out
}

#[test]
fn a_job_runs_from_url_to_bytes() {
    let service = service();
    let original = png();
    let plan = plan(&format!("/unsafe/rs:force:4:2/{PHOTO}@jpg"));
    let facts = service.facts(&mut BytesHead::new(&original));
    assert_eq!((facts.media.as_deref(), facts.width, facts.height), (Some("image/png"), 8, 4));
    let refined = service.refine(job_of(&plan).0, &[facts], &Tenant::main()).unwrap();
    let mut out = Vec::new();
    let mut engine = service.engine().unwrap();
    let made = engine.run(&refined.params, &[EngineInput { bytes: &original }], &mut out).unwrap();
    assert_eq!(made.content_type, "image/jpeg");
    let result = service.facts(&mut BytesHead::new(&out));
    assert_eq!((result.media.as_deref(), result.width, result.height), (Some("image/jpeg"), 4, 2));
}

#[test]
fn engines_refuse_what_is_no_image_and_blame_the_input() {
    let plan = plan(&format!("/unsafe/w:5/{PHOTO}"));
    let mut engine = service().engine().unwrap();
    let mut run = |params: &[u8], bytes: &[u8]| {
        engine.run(params, &[EngineInput { bytes }], &mut Vec::new()).unwrap_err()
    };
    let failure = run(&job_of(&plan).0.params, b"no image");
    assert_eq!((failure.kind, failure.of_input), (Kind::Unprocessable, true));
    let failure = run(&job_of(&plan).0.params, &png()[..60]);
    assert_eq!((failure.kind, failure.of_input), (Kind::Unprocessable, true));
    assert_eq!(run(b"no job", &png()).kind, Kind::Internal);
}

/// Plans `path` in every kind of tenant; whatever comes out is stable and well formed.
fn plan_everywhere(path: &str) {
    let keys = vec![KeyPair { key: b"k".to_vec(), salt: b"s".to_vec() }];
    let presets = [("default", "q:50"), ("a", "w:5/pr:b"), ("b", "pr:a/h:5")];
    let presets = presets.map(|(name, text)| (("image".to_owned(), name.to_owned()), text.to_owned())).into();
    let open = Tenant { base_url: "local:///base/".into(), presets, ..Tenant::main() };
    let tenants = [
        Tenant::main(),
        Tenant { only_presets: true, ..open.clone() },
        Tenant { keys, trusted_signatures: vec!["unsafe".into()], ..Tenant::main() },
        open,
    ];
    for tenant in &tenants {
        let [one, two] = [(); 2].map(|()| plan_for(path, &[("accept", "image/webp")], tenant));
        assert_eq!(format!("{one:?}"), format!("{two:?}"), "{path}");
        match one {
            Ok(plan) => well_formed(&plan),
            Err(problem) => {
                assert!(matches!(problem.kind.status(), 403 | 404 | 422), "{path}: {problem}");
                assert!(problem.detail.len() < 1000, "{path}: {problem}");
            }
        }
    }
}

fn well_formed(plan: &Plan) {
    let (job, params) = job_of(plan);
    assert_eq!(params.seal(), job.params);
    let [Input::Original(source)] = &job.inputs[..] else { panic!("{:?}", job.inputs) };
    assert_eq!(
        canonical_source(&source.to_string()).as_ref(),
        Ok(source),
        "a canonical source is its own canonical form"
    );
    if let Source::Local { path, .. } = source {
        assert!(
            path.split('/').all(|part| !matches!(part, "" | "." | "..")) && !path.contains(['\0', '\\']),
            "{path}"
        );
    }
    for (_, value) in &plan.fields {
        assert!(value.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{value}");
    }
}

#[test]
fn the_corpus_replays() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus");
    let mut lines = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        for line in std::fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            plan_everywhere(line);
            lines += 1;
        }
    }
    assert!(lines > 100, "the corpus has {lines} lines only");
}

/// A segment of options: real names with plausible and implausible arguments.
fn option() -> impl Strategy<Value = String> {
    let names: Vec<_> = [BUILT, GUARDED, NOT_BUILT].concat().concat();
    let argument = prop_oneof![
        Just(String::new()),
        (-3i64..5000).prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        prop::sample::select(vec![
            "fit", "fill", "ce", "noea", "fp", "sm", "t", "png", "jpg", "avif", "a", "b", "0.5", "f0f"
        ])
        .prop_map(String::from),
        "[ -~é]{0,6}",
    ];
    (prop::sample::select(names), prop::collection::vec(argument, 1..6))
        .prop_map(|(name, arguments)| format!("{name}:{}", arguments.join(":")))
}

fn source_part() -> impl Strategy<Value = String> {
    let url = prop_oneof![
        "local://(shop)?/[a-z./%@ é\\\\]{0,12}",
        "https?://[a-z0-9.:@\\[\\]-]{0,12}(/[a-z%2ef./]{0,8})?(\\?[a-z=%&]{0,6})?(#[a-z]{0,3})?",
        "[ -~]{0,16}",
    ];
    let encoding = prop_oneof![Just(SourceEncoding::Plain), Just(SourceEncoding::Base64)];
    let extension = prop::option::of(prop::sample::select(vec!["png", "jpg", "webp", "avif", "exe", ""]));
    let whole = (url, encoding, extension).prop_map(|(source, encoding, extension)| {
        let url = ImageUrl { mount: "/", options: &[], source: &source, extension, encoding };
        url.unsigned().trim_start_matches("/unsafe/").to_owned()
    });
    prop_oneof![4 => whole, 1 => "[ -~é]{0,24}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_url_panics(options in prop::collection::vec(option(), 0..6), source in source_part()) {
        let options: String = options.iter().map(|option| format!("{option}/")).collect();
        plan_everywhere(&format!("/unsafe/{options}{source}"));
    }

    #[test]
    fn no_text_panics(path in "[/:@%.a-z0-9é -]{0,64}") {
        plan_everywhere(&path);
    }

    #[test]
    fn options_of_different_names_may_stand_in_any_order(mut options in prop::sample::subsequence(
        vec!["w:300", "h:200", "rt:fill", "q:50", "g:noea:3:4", "c:100:0.5", "pd:1:2", "bl:2", "rot:90", "fl:1", "el:1", "cb:x", "dpr:2"],
        2..13,
    ).prop_shuffle()) {
        let params = |options: &[&str]| {
            let plan = plan(&format!("/unsafe/{}/{PHOTO}", options.join("/")));
            job_of(&plan).0.params.clone()
        };
        let one = params(&options);
        options.sort_unstable();
        prop_assert_eq!(one, params(&options));
    }
}
