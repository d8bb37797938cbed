//! What holds of any URL. Shared by the replay of the corpora and the fuzz target `url_grammar`.

use std::sync::LazyLock;

use tutti_base::http::Method;
use tutti_base::{Problem, Source};
use tutti_service::{Action, Head, Input, KeyPair, Plan, Service, Tenant};
use tutti_service_image::{Config, ImageJob, ImageService, canonical_source};

static SERVICE: LazyLock<ImageService> =
    LazyLock::new(|| ImageService::new(Config::default()).expect("the defaults are valid"));

/// Tenants without a key, with presets only, with a key that is never right, and with one that is not asked for.
static TENANTS: LazyLock<[Tenant; 4]> = LazyLock::new(|| {
    let presets = [("default", "q:50"), ("a", "w:5/pr:b"), ("b", "pr:a/h:5")];
    let presets = presets.map(|(name, text)| (("image".to_owned(), name.to_owned()), text.to_owned())).into();
    let keys = vec![KeyPair { key: b"k".to_vec(), salt: b"s".to_vec() }];
    let open = Tenant { base_url: "local:///base/".into(), presets, ..Tenant::main() };
    let signed = Tenant { keys: keys.clone(), ..Tenant::main() };
    let trusting = Tenant { keys, trusted_signatures: vec!["unsafe".into()], ..open.clone() };
    [Tenant::main(), Tenant { only_presets: true, ..open }, signed, trusting]
});

/// Panics when the plan of a line of `bytes`, taken as a path, breaks a promise. How many plans there were.
pub(crate) fn holds(bytes: &[u8]) -> usize {
    let text = String::from_utf8_lossy(bytes);
    let paths = text.lines().flat_map(|path| TENANTS.iter().map(move |tenant| (path, tenant)));
    paths.filter(|(path, tenant)| one_path(path, tenant)).count()
}

fn one_path(path: &str, tenant: &Tenant) -> bool {
    let one = plan(path, tenant);
    assert_eq!(format!("{one:?}"), format!("{:?}", plan(path, tenant)), "{path} is planned in two ways");
    match one {
        Ok(plan) => {
            well_formed(path, &plan);
            true
        }
        Err(problem) => {
            assert!(matches!(problem.kind.status(), 403 | 404 | 422), "{path}: {problem}");
            assert!(problem.detail.len() < 1000, "{path}: {problem}");
            false
        }
    }
}

fn plan(path: &str, tenant: &Tenant) -> Result<Plan, Problem> {
    let fields: &[(&str, &str)] = &[("accept", "image/webp")];
    SERVICE.plan(&Head { method: Method::Get, host: "localhost", path, query: None, fields: &fields }, tenant)
}

fn well_formed(path: &str, plan: &Plan) {
    let Action::Job(job) = &plan.action else { panic!("{path}: no job") };
    let params = ImageJob::open(&job.params).expect("a job can be opened");
    assert_eq!(params.seal(), job.params, "{path}: the job is not canonical");
    let [Input::Original(source)] = &job.inputs[..] else { panic!("{path}: {:?}", job.inputs) };
    assert_eq!(
        canonical_source(&source.to_string()).as_ref(),
        Ok(source),
        "{path}: not its own canonical form"
    );
    if let Source::Local { path: file, .. } = source {
        let plain = file.split('/').all(|part| !matches!(part, "" | "." | ".."));
        assert!(plain && !file.contains(['\0', '\\']), "{path}: leads to {file}");
    }
    let printable = |value: &str| value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    assert!(plan.fields.iter().all(|(_, value)| printable(value)), "{path}: {:?}", plan.fields);
}
