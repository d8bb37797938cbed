//! The users' store: reading, writing, conditions, quota, watches, leases.

use std::time::Duration;

use tutti_admin::ClientError;
use tutti_admin::client::Freshness;
use tutti_admin::user_store::{
    Condition, Encoding, PutCall, StoreAction, TxnAnswer, TxnCall, USER_BYTES_MAX, USER_KEYS_MAX,
    USER_LEASES_MAX,
};
use tutti_base::envelope::seal;
use tutti_store::{Key, Op, Store, Txn};

use crate::house::{House, head, house, over_tcp, status_of};

fn put(key: &str, value: &str) -> PutCall {
    PutCall { key: key.into(), value: value.into(), ..PutCall::default() }
}

fn refused(error: ClientError) -> (u16, String) {
    let ClientError::Refused(problem) = error else { panic!("{error}") };
    (problem.status, problem.detail)
}

async fn value(house: &House, key: &str) -> String {
    house.client.store_get(key, Freshness::Local).await.expect("a value").entries.remove(0).value
}

#[tokio::test]
async fn keys_are_written_read_and_listed_in_a_table_of_their_own() {
    let house = house().await;
    house.client.store_put(&put("app/a", "1")).await.unwrap();
    house.client.store_put(&put("app/b", "2")).await.unwrap();
    let bytes = PutCall { value: "/wA=".into(), encoding: Encoding::Base64, ..put("other &?/ü", "") };
    house.client.store_put(&bytes).await.unwrap();
    assert_eq!(value(&house, "app/a").await, "1");
    let found = house.client.store_get("other &?/ü", Freshness::Linearizable).await.unwrap();
    assert_eq!((found.entries[0].value.as_str(), found.entries[0].encoding), ("/wA=", Encoding::Base64));
    assert_eq!(*house.console.linearized.lock().unwrap(), 1);
    let page = house.client.store_list("app/", None, Freshness::Local).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>(), ["app/a", "app/b"]);
    let page = house.client.store_list("app/", Some("app/a"), Freshness::Local).await.unwrap();
    assert_eq!((page.entries.len(), page.more), (1, false));
    let (status, text) = refused(house.client.store_get("absent", Freshness::Local).await.unwrap_err());
    assert!(status == 404 && text.contains("`absent`"), "{text}");
    assert_eq!(house.client.config(None).await.unwrap().text, "", "nothing but the users' table was written");
    for path in ["/api/v1/store?key=app/a", "/api/v1/store/watch?after=0"] {
        let answer = over_tcp(house.admin, &head("GET", path, "localhost", 0)).await;
        assert_eq!(status_of(&answer), 403, "{path}: {answer}");
    }
}

#[tokio::test]
async fn conditions_of_a_put_are_kept() {
    let house = house().await;
    let first = PutCall { if_absent: true, ..put("k", "1") };
    let revision = house.client.store_put(&first).await.unwrap().revision;
    let (status, text) = refused(house.client.store_put(&first).await.unwrap_err());
    assert!(status == 409 && text.contains("`k`"), "{text}");
    let next = PutCall { if_revision: revision, ..put("k", "2") };
    house.client.store_put(&next).await.unwrap();
    assert_eq!(refused(house.client.store_put(&next).await.unwrap_err()).0, 409);
    assert_eq!(value(&house, "k").await, "2");
    assert_eq!(refused(house.client.store_put(&put("", "x")).await.unwrap_err()).0, 400);
}

#[tokio::test]
async fn a_transaction_does_one_of_its_branches() {
    let house = house().await;
    house.client.store_put(&put("balance", "5")).await.unwrap();
    let equals = |value: &str| Condition::Equals {
        key: "balance".into(),
        value: value.into(),
        encoding: Encoding::Text,
    };
    let write = |key: &str, value: &str| StoreAction::Put {
        key: key.into(),
        value: value.into(),
        encoding: Encoding::Text,
        lease: None,
    };
    let call = TxnCall {
        when: vec![Condition::Exists { key: "balance".into() }, equals("5")],
        then: vec![write("balance", "4"), write("paid", "yes")],
        otherwise: vec![write("refused", "yes")],
    };
    let done = house.client.store_txn(&call).await.unwrap();
    assert!(done.done && done.revision.is_some(), "{done:?}");
    let refused = house.client.store_txn(&call).await.unwrap();
    assert_eq!((refused.done, refused.failed), (false, Some(1)));
    assert_eq!(refused.found, done.revision);
    assert_eq!(value(&house, "refused").await, "yes");
    assert_eq!(value(&house, "balance").await, "4");
    let silent = TxnCall { otherwise: vec![], ..call.clone() };
    let answer = house.client.store_txn(&silent).await.unwrap();
    assert_eq!((answer.done, answer.revision), (false, None));
    let absent = TxnCall { when: vec![Condition::Exists { key: "none".into() }], ..TxnCall::default() };
    let answer = house.client.store_txn(&absent).await.unwrap();
    assert_eq!(answer, TxnAnswer { failed: Some(0), ..TxnAnswer::default() });
}

#[tokio::test]
async fn writers_at_once_lose_nothing() {
    let house = house().await;
    house.client.store_put(&put("count", "0")).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let client = house.client.clone();
        writers.spawn(async move {
            let mut done = 0;
            while done < 5 {
                let entry = client.store_get("count", Freshness::Local).await.unwrap().entries.remove(0);
                let next = (entry.value.parse::<u32>().unwrap() + 1).to_string();
                let call = PutCall { if_revision: Some(entry.modified), ..put("count", &next) };
                done += u32::from(client.store_put(&call).await.is_ok());
            }
        });
    }
    writers.join_all().await;
    assert_eq!(value(&house, "count").await, "40");
}

/// The usage as it is stored: kind 200, version 1.
#[derive(serde::Serialize, serde::Deserialize)]
struct Usage {
    keys: u64,
    bytes: u64,
}

impl tutti_base::envelope::Versioned for Usage {
    const KIND: u8 = 200;
    const VERSION: u16 = 1;
}

/// Fills the users' table beside the API, as if it had grown over the years.
async fn fill(house: &House, entries: u64, len: usize) {
    for start in (0..entries).step_by(64) {
        let ops = (start..entries.min(start + 64))
            .map(|at| Op::put(Key::new("user", format!("fill/{at:06}")), vec![b'x'; len]));
        house.store.commit(Txn::of(ops)).await.expect("a write");
    }
}

#[tokio::test]
async fn the_quota_of_keys_ends_at_its_limit_and_what_is_removed_makes_room() {
    let house = house().await;
    fill(&house, USER_KEYS_MAX, 1).await;
    let usage = Usage { keys: USER_KEYS_MAX, bytes: 120_000 };
    house.store.commit(Txn::of([Op::put(Key::new("user-meta", "usage"), seal(&usage))])).await.unwrap();
    house.client.store_put(&put("fill/000000", "y")).await.expect("no more keys than before");
    let room = TxnCall {
        then: vec![
            StoreAction::Delete { key: "fill/000001".into() },
            StoreAction::Delete { key: "fill/000002".into() },
        ],
        ..TxnCall::default()
    };
    house.client.store_txn(&room).await.unwrap();
    house.client.store_put(&put("new", "1")).await.unwrap();
    house.client.store_put(&put("newer", "1")).await.unwrap();
    let (status, text) = refused(house.client.store_put(&put("newest", "1")).await.unwrap_err());
    assert!(status == 422 && text.contains("10000 keys"), "{text}");
}

#[tokio::test]
async fn the_quota_of_bytes_ends_exactly_at_its_limit() {
    let house = house().await;
    let len = 500_000;
    let full = USER_BYTES_MAX as usize;
    let mut used = 0;
    for at in 0..full / len {
        let key = format!("k{at:03}");
        used += key.len() + len;
        house.client.store_put(&put(&key, &"x".repeat(len))).await.unwrap();
    }
    let rest = full - used - "rest".len();
    let (status, text) =
        refused(house.client.store_put(&put("rest", &"y".repeat(rest + 1))).await.unwrap_err());
    assert!(status == 422 && text.contains("quota"), "{text}");
    house.client.store_put(&put("rest", &"y".repeat(rest))).await.unwrap();
    assert_eq!(refused(house.client.store_put(&put("z", "")).await.unwrap_err()).0, 422);
    house.client.store_put(&put("k000", "short")).await.expect("less is always allowed");
    house.client.store_put(&put("z", "")).await.unwrap();
}

#[tokio::test]
async fn what_went_with_its_lease_is_not_counted_for_ever() {
    let house = house().await;
    let lease = house.client.store_grant(Duration::from_secs(60)).await.unwrap().lease;
    let len = 1_000_000;
    for at in 0..16 {
        let call = PutCall { lease: Some(lease), ..put(&format!("k{at:02}"), &"x".repeat(len)) };
        house.client.store_put(&call).await.unwrap();
    }
    assert_eq!(refused(house.client.store_put(&put("more", &"x".repeat(len))).await.unwrap_err()).0, 422);
    house.client.store_revoke(lease).await.unwrap();
    assert_eq!(house.client.store_list("", None, Freshness::Local).await.unwrap().entries, []);
    house.client.store_put(&put("more", &"x".repeat(len))).await.unwrap();
}

#[tokio::test]
async fn a_watch_waits_goes_on_where_it_was_and_says_when_it_fell_behind() {
    let house = house().await;
    let start = house.client.store_put(&put("w/a", "1")).await.unwrap().revision.unwrap();
    let wait = Duration::from_secs(30);
    let both = async {
        tokio::task::yield_now().await;
        house.client.store_put(&put("elsewhere", "1")).await.unwrap();
        house.client.store_put(&put("w/b", "2")).await.unwrap();
    };
    let (page, ()) = tokio::join!(house.client.store_watch("w/", Some(start), wait), both);
    let page = page.unwrap();
    assert_eq!(page.changes.iter().map(|change| change.key.as_str()).collect::<Vec<_>>(), ["w/b"]);
    let remove = TxnCall { then: vec![StoreAction::Delete { key: "w/a".into() }], ..TxnCall::default() };
    house.client.store_txn(&remove).await.unwrap();
    let page = house.client.store_watch("w/", Some(page.next), wait).await.unwrap();
    assert!(page.changes.len() == 1 && page.changes[0].entry.is_none(), "{page:?}");
    let all = house.client.store_watch("w/", Some(0), Duration::ZERO).await.unwrap();
    assert_eq!((all.changes.len(), all.behind), (3, false));
    let none = house.client.store_watch("w/", Some(all.next), Duration::ZERO).await.unwrap();
    assert!(none.changes.is_empty() && none.next >= all.next);
}

#[tokio::test]
async fn a_watch_never_cuts_a_transaction() {
    let house = house().await;
    for round in 0..5 {
        let then = (0..100)
            .map(|at| StoreAction::Put {
                key: format!("w/{at:03}"),
                value: round.to_string(),
                encoding: Encoding::Text,
                lease: None,
            })
            .collect();
        house.client.store_txn(&TxnCall { then, ..TxnCall::default() }).await.unwrap();
    }
    let (mut after, mut seen) = (0, 0);
    while seen < 500 {
        let page = house.client.store_watch("w/", Some(after), Duration::ZERO).await.unwrap();
        assert!(!page.changes.is_empty() && page.changes.len() % 100 == 0, "{} changes", page.changes.len());
        (after, seen) = (page.next, seen + page.changes.len());
    }
    assert_eq!(seen, 500);
}

#[tokio::test]
async fn users_have_leases_of_their_own_and_touch_no_others() {
    let house = house().await;
    let lease = house.client.store_grant(Duration::from_secs(60)).await.unwrap();
    assert_eq!(lease.ttl_ms, 60_000);
    let held = PutCall { lease: Some(lease.lease), ..put("held", "1") };
    house.client.store_put(&held).await.unwrap();
    house.client.store_keep_alive(lease.lease).await.unwrap();
    let fenced = TxnCall {
        when: vec![Condition::Held { key: "held".into(), lease: lease.lease }],
        then: vec![StoreAction::Delete { key: "other".into() }],
        otherwise: vec![],
    };
    assert!(house.client.store_txn(&fenced).await.unwrap().done);
    house.client.store_revoke(lease.lease).await.unwrap();
    assert!(!house.client.store_txn(&fenced).await.unwrap().done, "who lost its lease is fenced off");
    assert_eq!(refused(house.client.store_get("held", Freshness::Local).await.unwrap_err()).0, 404);
    let ours = house.store.grant(Duration::from_secs(60)).await.unwrap().id.0;
    for error in [
        house.client.store_keep_alive(ours).await.unwrap_err(),
        house.client.store_revoke(ours).await.unwrap_err(),
        house
            .client
            .store_put(&PutCall { lease: Some(ours), ..put("k", "1") })
            .await
            .map(|_| ())
            .unwrap_err(),
    ] {
        let (status, text) = refused(error);
        assert!(status == 409 && text.contains("users"), "{text}");
    }
    let (status, text) = refused(house.client.store_grant(Duration::from_millis(1)).await.unwrap_err());
    assert_eq!(status, 400, "{text}");
}

#[tokio::test]
async fn leases_of_users_end_at_their_limit() {
    let house = house().await;
    let mut first = None;
    for _ in 0..USER_LEASES_MAX {
        let lease = house.client.store_grant(Duration::from_secs(600)).await.unwrap().lease;
        first.get_or_insert(lease);
    }
    let (status, text) = refused(house.client.store_grant(Duration::from_secs(600)).await.unwrap_err());
    assert!(status == 503 && text.contains("512"), "{text}");
    house.client.store_revoke(first.unwrap()).await.unwrap();
    house.client.store_grant(Duration::from_secs(600)).await.unwrap();
}
