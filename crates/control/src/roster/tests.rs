//! The roster against its limits, its names and other writers.

use super::*;
use crate::testing::{House, block_on, record, record_of, sealing_key};

fn named(id: u64, name: &str) -> NodeRecord {
    record_of(id, name, Roles::ALL, &sealing_key(id))
}

#[test]
fn a_restore_of_the_store_leaves_members_tokens_and_secrets_as_they_are() {
    let mut ours = [TABLE, CLUSTER_TABLE, crate::tokens::TABLE, tutti_store::secrets::TABLE];
    ours.sort_unstable();
    assert_eq!(tutti_store::replicated::KEPT_BY_RESTORE, ours);
}

#[tokio::test(start_paused = true)]
async fn records_are_added_listed_found_and_changed() {
    let House { roster, .. } = House::new();
    roster.add(named(7, "seven")).await.unwrap();
    roster.add(named(2, "two")).await.unwrap();
    assert_eq!(roster.list().unwrap().iter().map(|node| node.id.0).collect::<Vec<_>>(), [2, 7]);
    assert_eq!(roster.by_name("seven").unwrap(), named(7, "seven"));
    assert_eq!(roster.get(NodeId(3)).unwrap(), None);
    let roles = roster.set_roles("two", Roles::WORKER).await.unwrap().roles;
    assert_eq!((roles, roster.by_name("two").unwrap().roles), (Roles::WORKER, Roles::WORKER));
    let moved = vec![([10, 0, 0, 2], 8400).into()];
    assert_eq!(roster.set_addresses("two", moved.clone()).await.unwrap().addresses, moved);
    let draining = Standing::Draining { why: "disk".into(), since: tutti_base::Wall(1) };
    assert_eq!(roster.set_standing("two", draining.clone()).await.unwrap().standing, draining);
    assert_eq!(roster.set_roles("three", Roles::ALL).await, Err(RosterError::Unknown("three".into())));
    assert_eq!(roster.nodes()[0].standing, draining, "the change is shown at once");
}

#[tokio::test(start_paused = true)]
async fn a_name_belongs_to_one_node_and_is_free_again_once_that_is_removed() {
    let House { roster, .. } = House::new();
    roster.add(named(1, "one")).await.unwrap();
    assert_eq!(roster.add(named(2, "one")).await, Err(RosterError::Taken("one".into())));
    assert!(matches!(roster.add(named(1, "other")).await, Err(RosterError::Invalid(_))));
    roster.set_standing("one", Standing::Removed { since: tutti_base::Wall(1) }).await.unwrap();
    assert_eq!(roster.by_name("one"), Err(RosterError::Removed("one".into())));
    let again = roster.set_standing("one", Standing::Active).await;
    assert_eq!(again, Err(RosterError::Removed("one".into())), "removed is for good");
    roster.add(named(2, "one")).await.unwrap();
    assert_eq!(roster.by_name("one").unwrap().id, NodeId(2));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused() {
    let House { roster, .. } = House::new();
    for name in ["", "a b", "ä", &"x".repeat(NAME_MAX + 1)] {
        assert!(matches!(roster.add(named(1, name)).await, Err(RosterError::Name(_))), "`{name}`");
    }
    let many = NodeRecord { addresses: vec![([1, 1, 1, 1], 1).into(); ADDRESSES_MAX + 1], ..named(1, "a") };
    assert!(matches!(roster.add(many).await, Err(RosterError::Invalid(_))));
    let label = ("k".to_owned(), "v".repeat(LABELS_MAX * 2 + 1));
    let labelled = NodeRecord { labels: [label].into(), ..named(1, "a") };
    assert!(matches!(roster.add(labelled).await, Err(RosterError::Invalid(_))));
    assert!(matches!(roster.add(named(0, "nobody")).await, Err(RosterError::Invalid(_))));
    assert!(roster.list().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn as_many_nodes_as_allowed_and_no_more() {
    let House { roster, .. } = House::new();
    for id in 1..=NODES_MAX as u64 {
        roster.add(record(id, Roles::ALL)).await.unwrap();
    }
    assert_eq!(roster.add(record(1000, Roles::ALL)).await, Err(RosterError::TooMany));
    roster.set_standing("n5", Standing::Removed { since: tutti_base::Wall(1) }).await.unwrap();
    roster.add(record(1000, Roles::ALL)).await.expect("a removed one makes room");
}

#[tokio::test(start_paused = true)]
async fn a_change_on_top_of_anothers_sees_it_and_gives_up_after_so_many() {
    let House { roster, .. } = House::new();
    let mut turns = 0;
    let edit = |nodes: &mut Nodes| {
        turns += 1;
        if turns == 1 {
            block_on(roster.add(named(1, "one"))).unwrap();
        }
        nodes.push(named(2, "one"));
        Ok::<_, RosterError>(Also::default())
    };
    assert_eq!(roster.edit(edit).await, Err(RosterError::Taken("one".into())), "judged on the newer state");
    let mut id = 10;
    let always_late = |_: &mut Nodes| {
        id += 1;
        block_on(roster.add(record(id, Roles::ALL))).unwrap();
        Ok::<_, RosterError>(Also::default())
    };
    assert_eq!(roster.edit(always_late).await, Err(RosterError::Contended));
    assert_eq!(id, 10 + u64::from(EDIT_TRIES));
}

#[tokio::test(start_paused = true)]
async fn who_watches_sees_what_another_node_wrote() {
    let House { roster, store, clock, .. } = House::new();
    let other = Roster::open(store, clock).unwrap();
    let following = tokio::spawn(other.clone().follow());
    let mut watch = other.watch();
    roster.add(named(1, "one")).await.unwrap();
    watch.wait_for(|nodes| nodes.len() == 1).await.unwrap();
    roster.set_roles("one", Roles::CACHE).await.unwrap();
    watch.wait_for(|nodes| nodes[0].roles == Roles::CACHE).await.unwrap();
    assert_eq!(other.nodes().len(), 1);
    following.abort();
}

#[tokio::test(start_paused = true)]
async fn a_removed_node_is_forgotten_after_a_month() {
    let house = House::new();
    let (roster, clock) = (&house.roster, &house.clock);
    roster.add(named(1, "one")).await.unwrap();
    roster.add(named(2, "two")).await.unwrap();
    roster.set_standing("two", Standing::Removed { since: clock.wall() }).await.unwrap();
    house.pass(REMOVED_KEPT).await;
    assert_eq!(roster.forget_removed().await, Ok(0));
    house.pass(Duration::from_secs(1)).await;
    assert_eq!(roster.forget_removed().await, Ok(1));
    assert_eq!(roster.list().unwrap(), [named(1, "one")]);
}
