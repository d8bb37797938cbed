//! The cluster document and the secrets, on a store that a test can open again.

use std::sync::Arc;
use std::time::Duration;

use toml::Table;
use tutti_store::document::{
    Consequence, DOCUMENT_MAX, HISTORY_MAX, Happened, Invalid, Others, Restart, Run, WHY_MAX,
};
use tutti_store::nearest::nearest;
use tutti_store::secrets::{KEY_FILE, SECRET_MAX, SECRETS_MAX};
use tutti_store::simulated::{ManualClock, SimDisk};
use tutti_store::{
    Config, Document, DocumentError, Edit, RedbStore, Secret, SecretError, Secrets, Store, Terms, Validate,
};
use tutti_telemetry::Metrics;

struct Rules;

impl Validate for Rules {
    fn validate(&self, doc: &Table) -> Result<Vec<Consequence>, Vec<Invalid>> {
        let known = ["image", "sources", "workers", "note", "big"];
        let wrong: Vec<_> = doc.keys().filter(|key| !known.contains(&key.as_str())).map(unknown).collect();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let restart = || Consequence::Restart { path: "workers".into(), what: "the server".into() };
        Ok(doc.get("workers").map(|_| restart()).into_iter().collect())
    }
}

fn unknown(key: &String) -> Invalid {
    let hint = nearest(key, ["image", "sources"]).map(|near| format!("; did you mean `{near}`?"));
    Invalid { path: key.clone(), message: format!("unknown key `{key}`{}", hint.unwrap_or_default()) }
}

struct House {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    store: Arc<RedbStore>,
    document: Document,
    secrets: Secrets,
}

fn house() -> House {
    house_on(SimDisk::default())
}

fn house_on(disk: SimDisk) -> House {
    let clock = Arc::new(ManualClock::default());
    let config = Config::default();
    let store = RedbStore::open(&disk, clock.clone(), &Metrics::default(), &config).expect("a store");
    let document = Document::open(store.clone(), clock.clone(), Arc::new(Rules));
    let secrets = Secrets::open(store.clone(), &disk, clock.clone()).expect("secrets");
    House { disk, clock, store, document, secrets }
}

fn by(who: &str) -> Terms {
    Terms { who: who.into(), why: "because".into(), ..Terms::default() }
}

fn set(path: &str, value: &str) -> Edit {
    Edit::Set { path: path.into(), value: tutti_store::document::parse_value(value) }
}

fn apply(text: &str, others: Others) -> Edit {
    Edit::Apply { text: text.into(), others }
}

#[tokio::test]
async fn a_set_is_planned_made_and_kept_in_the_history() {
    let House { document, clock, .. } = house();
    assert_eq!((document.current().unwrap().revision, document.get("image.quality").unwrap()), (0, None));
    clock.advance(Duration::from_secs(5));
    let plan = document.change(&set("image.quality", "80"), &by("ann")).await.unwrap();
    assert_eq!((plan.revision, plan.applied), (1, true));
    let change = &plan.changes[0];
    assert_eq!((change.path.as_str(), change.what), ("image.quality", Happened::Added));
    assert_eq!((change.old.as_deref(), change.new.as_deref()), (None, Some("80")));
    assert_eq!(document.get("image.quality").unwrap(), Some(80.into()));
    document.change(&set("image.quality", "90"), &by("bob")).await.unwrap();
    let history = document.history().unwrap();
    let lines: Vec<_> = history.iter().map(|line| (line.revision, line.who.as_str(), line.changes)).collect();
    assert_eq!(lines, [(2, "bob", Some(1)), (1, "ann", Some(1))]);
    assert_eq!(history[0].when.0, ManualClock::WALL_START.0 + 5000);
    assert_eq!(history[0].why, "because");
}

const FIRST: &str = r#"
# a comment that is not kept
note = "hello"
[image]
quality = 80
formats = ["webp", "jpeg"]
[sources."img.example"]
key = "secret:img"
"#;

#[tokio::test]
async fn golden_an_applied_file_is_written_from_its_values() {
    let House { document, .. } = house();
    document.change(&apply(FIRST, Others::Keep), &by("ann")).await.unwrap();
    let expected = r#"note = "hello"

[image]
formats = [
    "webp",
    "jpeg",
]
quality = 80

[sources."img.example"]
key = "secret:img"
"#;
    assert_eq!(document.current().unwrap().text, expected);
}

/// The changes as lines, for comparing.
fn lines(changes: &[tutti_store::document::Difference]) -> Vec<String> {
    let show = |value: &Option<String>| value.clone().unwrap_or("-".into());
    changes
        .iter()
        .map(|each| format!("{:?} {} {} {}", each.what, each.path, show(&each.old), show(&each.new)))
        .collect()
}

#[tokio::test]
async fn golden_a_file_merges_by_table_and_replaces_only_when_told() {
    let House { document, .. } = house();
    document.change(&apply(FIRST, Others::Keep), &by("ann")).await.unwrap();
    let file = "[image]\nquality = 70\nformats = [\"jpeg\"]\n[sources.other]\nkey = 1\n";
    let dry = Terms { run: Run::Dry, ..by("bob") };
    let plan = document.change(&apply(file, Others::Keep), &dry).await.unwrap();
    let merged = [
        "Changed image.formats [\"webp\", \"jpeg\"] [\"jpeg\"]",
        "Changed image.quality 80 70",
        "Added sources.other.key - 1",
    ];
    assert_eq!(lines(&plan.changes), merged);
    assert!(!plan.applied);
    assert_eq!(document.current().unwrap().revision, 1, "a dry run changes nothing");
    document.change(&apply(file, Others::Delete), &by("bob")).await.unwrap();
    let replaced = [
        merged[0],
        merged[1],
        "Removed note \"hello\" -",
        "Removed sources.\"img.example\".key \"secret:img\" -",
        merged[2],
    ];
    assert_eq!(lines(&document.diff(Some(1), None).unwrap()), replaced);
    assert_eq!(document.diff(Some(1), Some(1)).unwrap(), []);
    let newest = document.current().unwrap().revision;
    assert_eq!(document.diff(None, None).unwrap(), document.diff(Some(newest - 1), Some(newest)).unwrap());
    assert_eq!(document.diff(None, Some(1)).unwrap(), document.diff(Some(0), Some(1)).unwrap());
}

#[tokio::test]
async fn what_changes_nothing_makes_no_revision() {
    let House { document, .. } = house();
    document.change(&set("note", "hello"), &by("ann")).await.unwrap();
    let plan = document.change(&set("note", "hello"), &by("ann")).await.unwrap();
    assert_eq!((plan.revision, plan.applied, plan.changes.len()), (1, false, 0));
}

#[tokio::test]
async fn a_change_against_another_revision_is_refused() {
    let House { document, .. } = house();
    document.change(&set("note", "1"), &by("ann")).await.unwrap();
    let stale = Terms { if_revision: Some(0), ..by("bob") };
    let refused = document.change(&set("note", "2"), &stale).await.unwrap_err();
    assert_eq!(refused, DocumentError::Conflict { wanted: 0, found: 1 });
    let problem: tutti_base::Problem = refused.into();
    assert_eq!(problem.kind.status(), 409);
    let right = Terms { if_revision: Some(1), ..by("bob") };
    assert_eq!(document.change(&set("note", "2"), &right).await.unwrap().revision, 2);
}

#[tokio::test]
async fn changes_at_the_same_time_all_count_and_none_is_lost() {
    let House { document, .. } = house();
    let edits: Vec<_> = (0..6).map(|index| set(&format!("image.k{index}"), "1")).collect();
    let terms = by("many");
    let changes = edits.iter().map(|edit| document.change(edit, &terms));
    let plans = futures_util::future::join_all(changes).await;
    assert!(plans.iter().all(|plan| plan.as_ref().is_ok_and(|plan| plan.applied)), "{plans:?}");
    assert_eq!(document.get("image").unwrap().unwrap().as_table().unwrap().len(), 6);
    assert_eq!(document.current().unwrap().revision, 6);
}

#[tokio::test]
async fn an_unknown_key_names_the_nearest_known_one() {
    let House { document, .. } = house();
    let refused = document.change(&set("imgae.quality", "1"), &by("ann")).await.unwrap_err();
    assert_eq!(refused.to_string(), "unknown key `imgae`; did you mean `image`?");
    let problem: tutti_base::Problem = refused.into();
    assert_eq!((problem.kind.status(), problem.subject.as_deref()), (422, Some("imgae")));
    assert_eq!(document.current().unwrap().revision, 0);
}

#[tokio::test]
async fn what_needs_a_restart_is_refused_by_name_unless_accepted() {
    let House { document, .. } = house();
    let refused = document.change(&set("workers", "4"), &by("ann")).await.unwrap_err();
    assert_eq!(refused.to_string(), "not applied, because the server must restart for it: `workers`");
    let accept = Terms { restart: Restart::Accept, ..by("ann") };
    let plan = document.change(&set("workers", "4"), &accept).await.unwrap();
    assert!(plan.applied && matches!(plan.consequences[0], Consequence::Restart { .. }));
}

#[tokio::test]
async fn a_rollback_is_a_new_revision_with_the_old_content() {
    let House { document, .. } = house();
    document.change(&set("note", "1"), &by("ann")).await.unwrap();
    document.change(&set("image.quality", "1"), &by("ann")).await.unwrap();
    let plan = document.change(&Edit::Rollback { to: 1 }, &by("bob")).await.unwrap();
    assert_eq!((plan.revision, lines(&plan.changes)), (3, vec!["Removed image.quality 1 -".to_owned()]));
    assert_eq!(document.current().unwrap().table, document.at(1).unwrap().table);
    document.change(&Edit::Rollback { to: 0 }, &by("bob")).await.unwrap();
    assert!(document.current().unwrap().table.is_empty());
    let unknown = document.change(&Edit::Rollback { to: 99 }, &by("bob")).await;
    assert_eq!(unknown, Err(DocumentError::Unknown(99)));
}

#[tokio::test]
async fn an_unset_removes_the_key_and_the_table_it_leaves_empty() {
    let House { document, .. } = house();
    document.change(&set("image.a.b", "1"), &by("ann")).await.unwrap();
    document.change(&Edit::Unset { path: "image.a.b".into() }, &by("ann")).await.unwrap();
    assert!(document.current().unwrap().table.is_empty());
    let again = document.change(&Edit::Unset { path: "image.a.b".into() }, &by("ann")).await;
    assert!(matches!(again, Err(DocumentError::Path(_))));
    document.change(&set("note", "1"), &by("ann")).await.unwrap();
    let beneath = document.change(&set("note.x", "1"), &by("ann")).await.unwrap_err();
    assert!(beneath.to_string().contains("`note` is a value"), "{beneath}");
}

#[tokio::test]
async fn the_history_is_bounded() {
    let House { document, store, .. } = house();
    for number in 0..HISTORY_MAX + 3 {
        document.change(&set("note", &number.to_string()), &by("ann")).await.unwrap();
    }
    let history = document.history().unwrap();
    assert_eq!((history.len(), history[0].revision), (HISTORY_MAX, HISTORY_MAX as u64 + 3));
    assert_eq!(history.last().unwrap().changes, None, "what was before is not known any more");
    assert_eq!(document.at(3), Err(DocumentError::Unknown(3)));
    assert!(document.at(4).is_ok());
    drop(store);
}

#[tokio::test]
async fn a_document_over_its_limit_and_a_broken_one_are_refused() {
    let House { document, .. } = house();
    let frame = "big = \"\"\n".len();
    let fits = format!("big = \"{}\"\n", "x".repeat(DOCUMENT_MAX - frame));
    document.change(&apply(&fits, Others::Keep), &by("ann")).await.unwrap();
    let over = format!("big = \"{}\"\n", "x".repeat(DOCUMENT_MAX - frame + 1));
    let refused = document.change(&apply(&over, Others::Keep), &by("ann")).await.unwrap_err();
    assert!(matches!(refused, DocumentError::TooLong { what: "document", .. }), "{refused}");
    let refused = document.change(&set("note", "x"), &by("ann")).await.unwrap_err();
    assert!(matches!(refused, DocumentError::TooLong { .. }), "the whole counts: {refused}");
    let refused = document.change(&apply("a = = 1", Others::Keep), &by("ann")).await.unwrap_err();
    assert!(refused.to_string().contains("line 1"), "{refused}");
    let long = Terms { why: "w".repeat(WHY_MAX + 1), ..by("ann") };
    assert!(document.change(&set("note", "1"), &long).await.is_err());
}

#[tokio::test]
async fn who_follows_the_document_sees_every_state_in_the_end() {
    let House { document, store, .. } = house();
    let mut followed = document.follow().unwrap();
    document.change(&set("note", "1"), &by("ann")).await.unwrap();
    document.change(&set("note", "2"), &by("ann")).await.unwrap();
    let mut last = 0;
    while last < 2 {
        last = followed.next().await.unwrap().unwrap().revision;
    }
    drop(store);
}

#[tokio::test]
async fn secrets_are_set_replaced_listed_and_removed() {
    let House { secrets, clock, .. } = house();
    secrets.set("img", &Secret::new(b"one".to_vec())).await.unwrap();
    clock.advance(Duration::from_secs(9));
    secrets.set("img", &Secret::new(b"two".to_vec())).await.unwrap();
    secrets.set("a.b-c_1", &Secret::new(b"x".to_vec())).await.unwrap();
    assert_eq!(secrets.get("img").unwrap().expose(), b"two");
    assert_eq!(secrets.resolve("secret:img").unwrap().expose(), b"two");
    assert_eq!(secrets.resolve("plain").unwrap().expose(), b"plain");
    let infos = secrets.list().unwrap();
    assert_eq!(infos.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["a.b-c_1", "img"]);
    assert_eq!(infos[1].changed.since(infos[1].created), Duration::from_secs(9));
    secrets.remove("img").await.unwrap();
    assert_eq!(secrets.get("img").err(), Some(SecretError::Unknown("img".into())));
    assert_eq!(secrets.remove("img").await, Err(SecretError::Unknown("img".into())));
}

#[tokio::test]
async fn a_secret_over_its_limit_or_with_a_bad_name_is_refused_without_showing_its_value() {
    let House { secrets, .. } = house();
    secrets.set("fits", &Secret::new(vec![1; SECRET_MAX])).await.unwrap();
    let over = secrets.set("over", &Secret::new(vec![1; SECRET_MAX + 1])).await;
    assert_eq!(over, Err(SecretError::Length(SECRET_MAX + 1)));
    assert_eq!(secrets.set("empty", &Secret::new(vec![])).await, Err(SecretError::Length(0)));
    for name in ["", "a b", "a/b", &"x".repeat(129)] {
        assert!(matches!(secrets.set(name, &Secret::new(vec![1])).await, Err(SecretError::Name(_))));
    }
}

#[tokio::test]
async fn as_many_secrets_as_allowed_and_no_more() {
    let House { secrets, .. } = house();
    let value = Secret::new(vec![1]);
    for number in 0..SECRETS_MAX {
        secrets.set(&format!("s{number}"), &value).await.unwrap();
    }
    assert_eq!(secrets.set("over", &value).await, Err(SecretError::TooMany));
    secrets.set("s0", &value).await.expect("one that exists may change");
    secrets.remove("s1").await.unwrap();
    secrets.set("over", &value).await.expect("there is room again");
}

#[tokio::test]
async fn secrets_open_after_a_restart_and_only_with_the_key_of_this_node() {
    let House { disk, store, document, secrets, .. } = house();
    secrets.set("img", &Secret::new(b"needle-in-the-disk".to_vec())).await.unwrap();
    drop((store, document, secrets));
    for file in ["store.redb", KEY_FILE] {
        let bytes = disk.durable(file);
        assert!(!bytes.is_empty());
        assert!(!bytes.windows(6).any(|window| window == b"needle"), "sealed at rest, in {file} too");
    }
    let House { store, document, secrets, .. } = house_on(disk.clone());
    assert_eq!(secrets.get("img").unwrap().expose(), b"needle-in-the-disk");
    let key = SimDisk::default();
    let other = Secrets::open(store.clone(), &key, Arc::new(ManualClock::default())).err();
    assert!(matches!(other, Some(SecretError::KeyFile(_))), "no new key in place of a lost one");
    drop((store, document, secrets));
    disk.damage(KEY_FILE, 0);
    let clock = Arc::new(ManualClock::default());
    let store = RedbStore::open(&disk, clock.clone(), &Metrics::default(), &Config::default()).unwrap();
    let damaged = Secrets::open(store, &disk, clock).err().unwrap();
    assert!(damaged.to_string().contains(KEY_FILE), "{damaged}");
}

#[tokio::test]
async fn a_sealed_value_moved_to_another_name_does_not_open() {
    let House { secrets, store, .. } = house();
    secrets.set("a", &Secret::new(b"value".to_vec())).await.unwrap();
    let table = tutti_store::secrets::TABLE;
    let sealed = store.get(&tutti_store::Key::new(table, "a")).unwrap().unwrap().value;
    let moved = tutti_store::Op::put(tutti_store::Key::new(table, "b"), sealed);
    store.commit(tutti_store::Txn::of([moved])).await.unwrap();
    assert_eq!(secrets.get("b").err(), Some(SecretError::Sealed("b".into())));
}
