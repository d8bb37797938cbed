//! The ways in and back: founding upon old state, learners from a snapshot, going on alone, late writes, repair, backups, leases
//! that move, and the limits.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redb::ReadableTable;
use tutti_base::disk::Disk;
use tutti_base::{Clock, NodeId};
use tutti_store::replicated::{KEPT_BY_RESTORE, Sealed, late_file};
use tutti_store::simulated::ManualClock;
use tutti_store::{
    Check, Config, Op, RaftConfig, RaftRole, RedbStore, ReplicaHealth, Revision, Store, StoreError, Txn,
    WatchError,
};
use tutti_telemetry::Metrics;

use crate::load::{key, number};
use crate::world::{World, simulate, until};

async fn put(store: &dyn Store, name: &str, value: &str) -> Revision {
    let commit = store.commit(Txn::of([Op::put(key(name), value.to_owned())])).await.expect("accepted");
    commit.done().expect("without conditions")
}

fn value(store: &dyn Store, name: &str) -> Option<String> {
    let entry = store.get(&key(name)).expect("readable")?;
    Some(String::from_utf8_lossy(&entry.value).into_owned())
}

#[test]
fn a_file_of_one_node_becomes_the_state_of_a_cluster_and_reaches_its_learners() {
    simulate(async || {
        let mut world = World::new(1);
        let disk = world.disks.entry(NodeId(1)).or_default().clone();
        let old =
            RedbStore::open(&disk, Arc::new(ManualClock::default()), &Metrics::default(), &Config::default());
        let old = old.expect("the store of one node");
        let at = put(&*old, "old", "kept").await;
        drop(old);
        world.start(NodeId(1)).await;
        let one = world.store(1).clone();
        assert_eq!(value(&*one, "old").as_deref(), Some("kept"), "readable before it founds");
        one.found().await.expect("a cluster of one");
        one.found().await.expect("a second time changes nothing");
        assert_eq!(put(&*one, "new", "1").await, Revision(at.0 + 1));
        world.start(NodeId(2)).await;
        let two = world.store(2).clone();
        assert!(matches!(two.commit(Txn::of([Op::put(key("x"), "x")])).await, Err(StoreError::NoLeader(_))));
        one.add_learner(NodeId(2)).await.expect("a learner");
        until(&two, "it has the state", |_| two.revision() >= Revision(at.0 + 1)).await;
        assert_eq!(
            (value(&*two, "old").as_deref(), value(&*two, "new").as_deref()),
            (Some("kept"), Some("1"))
        );
        assert_eq!(two.status().borrow().role, RaftRole::Learner);
        world.kill(NodeId(1)).await;
        world.start(NodeId(1)).await;
        until(world.store(1), "it leads again", |status| status.leads()).await;
    });
}

#[test]
fn a_write_anywhere_is_read_where_it_was_written_and_everywhere_after_linearize() {
    simulate(async || {
        let world = World::of(2, 3).await;
        for writer in 1..=3 {
            let at = put(&**world.store(writer), "x", &writer.to_string()).await;
            assert!(world.store(writer).revision() >= at);
            for reader in 1..=3 {
                assert!(world.store(reader).linearize().await.expect("a quorum") >= at);
                assert_eq!(value(&**world.store(reader), "x"), Some(writer.to_string()));
            }
        }
        let refused = world.store(2).add_learner(NodeId(9)).await;
        assert_eq!(refused, Err(StoreError::NotLeader { leader: Some(NodeId(1)) }));
    });
}

#[test]
fn without_a_quorum_writes_are_refused_with_the_reason_and_reads_go_on() {
    simulate(async || {
        let mut world = World::of(3, 3).await;
        put(&**world.store(3), "x", "1").await;
        world.kill(NodeId(1)).await;
        world.kill(NodeId(2)).await;
        let three = world.store(3).clone();
        let start = world.clock.now();
        let refused = loop {
            match three.commit(Txn::of([Op::put(key("x"), "2")])).await {
                Err(StoreError::NoLeader(text)) => break text,
                Err(StoreError::Unknown) => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(refused.contains("2 of its 3 voters"), "{refused}");
        assert!(world.clock.now().since(start) < Duration::from_secs(12));
        assert_eq!(value(&*three, "x").as_deref(), Some("1"));
        let term = three.status().borrow().term;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(three.status().borrow().term, term, "who reaches no majority does not stand for election");
        world.start(NodeId(2)).await;
        put(&*three, "x", "3").await;
    });
}

#[test]
fn watches_work_on_every_node_and_a_snapshot_says_that_they_are_behind() {
    simulate(async || {
        let mut world = World::of(4, 3).await;
        let three = world.store(3).clone();
        let mut watch = three.watch("sim", b"", three.revision()).expect("a watch");
        let at = put(&**world.store(1), "x", "1").await;
        let seen = watch.next().await.expect("the change");
        assert_eq!((seen.at, seen.revision), (key("x"), at));
        world.config = RaftConfig { log_entries: 0, snapshot_every: 16, ..world.config.clone() };
        world.start(NodeId(4)).await;
        let four = world.store(4).clone();
        let mut watch = four.watch("sim", b"", Revision(0)).expect("a watch");
        let leader = world.leader().await;
        world.stores[&leader].add_learner(NodeId(4)).await.expect("a learner");
        loop {
            match watch.next().await {
                Err(WatchError::Behind { resumed_after }) => {
                    assert!(resumed_after >= at);
                    break;
                }
                Ok(change) => assert!(change.revision <= at),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(value(&*four, "x").as_deref(), Some("1"));
    });
}

#[test]
fn the_log_is_cut_and_who_missed_it_gets_a_snapshot_in_pieces() {
    simulate(async || {
        let mut world = World::new(5);
        world.config = RaftConfig { log_entries: 16, snapshot_every: 16, ..world.config.clone() };
        world.start(NodeId(1)).await;
        world.store(1).found().await.expect("a cluster of one");
        let one = world.store(1).clone();
        for number in 0..200 {
            put(&*one, &format!("big{}", number % 8), &number.to_string().repeat(100_000)).await;
        }
        world.start(NodeId(2)).await;
        one.add_learner(NodeId(2)).await.expect("a learner");
        let two = world.store(2).clone();
        until(&two, "it has all", |_| two.revision() == one.revision()).await;
        for number in 192..200 {
            let name = format!("big{}", number % 8);
            assert_eq!(value(&*two, &name), value(&*one, &name));
        }
    });
}

#[test]
fn a_learner_made_the_voter_keeps_what_reached_it_and_the_old_voter_lists_what_did_not() {
    simulate(async || {
        let mut world = World::new(6);
        for id in [1, 2] {
            world.start(NodeId(id)).await;
        }
        let (one, two) = (world.store(1).clone(), world.store(2).clone());
        one.found().await.expect("a cluster of one");
        one.add_learner(NodeId(2)).await.expect("a learner");
        put(&*one, "both", "1").await;
        until(&two, "it has it", |_| two.revision() == one.revision()).await;
        assert!(matches!(one.promote_alone().await, Err(StoreError::Invalid(_))), "a voter is one already");
        world.net.cut(NodeId(1), NodeId(2));
        world.net.cut(NodeId(2), NodeId(1));
        put(&*one, "late", "only the old voter has it").await;
        let refused = loop {
            match two.commit(Txn::of([Op::put(key("x"), "1")])).await {
                Err(StoreError::NoLeader(text)) => break text,
                // What was under way when the link broke.
                Err(StoreError::Unknown) => {}
                other => panic!("{other:?}"),
            }
        };
        assert!(refused.contains("one voter"), "{refused}");
        two.promote_alone().await.expect("the one voter");
        assert_eq!(two.status().borrow().epoch, 1);
        put(&*two, "new", "2").await;
        assert_eq!(value(&*two, "both").as_deref(), Some("1"));
        put(&*one, "late", "again").await;
        world.net.heal();
        until(&one, "it joined again", |status| status.epoch == 1 && status.role == RaftRole::Learner).await;
        until(&one, "it has what the other has", |_| one.revision() == two.revision()).await;
        assert_eq!((value(&*one, "late"), value(&*one, "new").as_deref()), (None, Some("2")));
        let file = world.disks[&NodeId(1)].durable(&late_file(0));
        let text = String::from_utf8(file).expect("text");
        assert!(text.contains("sim/late") && text.contains("only the old voter has it"), "{text}");
        assert!(!text.contains("sim/both"), "{text}");
        assert_eq!(two.status().borrow().learners, [NodeId(1)]);
        put(&*one, "x", "through the old voter").await;
        two.set_voters(vec![NodeId(1)]).await.expect("it may be given back");
    });
}

#[test]
fn damage_stops_a_node_and_a_repair_brings_it_back_as_a_learner() {
    simulate(async || {
        let world = World::of(7, 3).await;
        put(&**world.store(1), "x", "1").await;
        let leader = world.leader().await;
        let victim = NodeId(1 + leader.0 % 3);
        world.disks[&victim].fail_after(0);
        let store = world.stores[&victim].clone();
        let writer = world.stores[&leader].clone();
        put(&*writer, "x", "2").await;
        until(&store, "it notices", |status| matches!(status.health, ReplicaHealth::Damaged(_))).await;
        assert!(!store.status().borrow().leads());
        world.disks[&victim].kill();
        store.repair(&[leader]).await.expect("made anew");
        until(&store, "it follows", |status| {
            status.health == ReplicaHealth::Ok && status.learners.contains(&victim)
        })
        .await;
        put(&*writer, "x", "3").await;
        until(&store, "it has all", |_| store.revision() == writer.revision()).await;
        assert_eq!(value(&*store, "x").as_deref(), Some("3"));
        let leader = world.leader().await;
        world.stores[&leader].set_voters((1..=3).map(NodeId).collect()).await.expect("it votes again");
        put(&*store, "x", "4").await;
    });
}

#[test]
fn the_only_voter_is_not_repaired_from_others() {
    simulate(async || {
        let world = World::of(8, 1).await;
        let refused = world.store(1).repair(&[]).await;
        assert!(
            matches!(&refused, Err(StoreError::Invalid(text)) if text.contains("only voter")),
            "{refused:?}"
        );
        put(&**world.store(1), "x", "1").await;
        let refused = world.store(1).remove(NodeId(1)).await;
        assert!(matches!(refused, Err(StoreError::Invalid(_))));
    });
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_backup_brings_the_state_back_without_secrets_and_damage_is_refused_before_anything_changes() {
    simulate(async || {
        let world = World::of(9, 3).await;
        let two = world.store(2).clone();
        put(&*two, "a", "1").await;
        put(&*two, "b", "2").await;
        let secret = tutti_store::Key::new("secrets", "s");
        two.commit(Txn::of([Op::put(secret.clone(), "sealed")])).await.expect("accepted");
        let out = Shared::default();
        let at = two.backup(Box::new(out.clone()), Sealed::LeftOut).await.expect("a backup");
        assert_eq!(at, two.revision());
        let bytes = out.0.lock().expect("nobody panics").clone();
        assert!(!bytes.windows(6).any(|some| some == b"sealed"), "a secret is in the backup");
        put(&*two, "a", "changed").await;
        put(&*two, "c", "since").await;
        let mut broken = bytes.clone();
        broken[bytes.len() / 2] ^= 1;
        let revision = two.revision();
        assert!(matches!(two.restore(&mut broken.as_slice()).await, Err(StoreError::Invalid(_))));
        assert!(matches!(two.restore(&mut &bytes[..bytes.len() - 3]).await, Err(StoreError::Invalid(_))));
        assert_eq!(two.revision(), revision, "nothing was changed");
        let restored = two.restore(&mut bytes.as_slice()).await.expect("restored");
        assert_eq!((restored.of, restored.written, restored.removed), (at, 1, 1));
        let values = ["a", "b", "c"].map(|name| value(&*two, name));
        assert_eq!(values, [Some("1".into()), Some("2".into()), None]);
        assert!(two.get(&secret).expect("readable").is_some(), "secrets stay as they are");
    });
}

#[test]
fn a_restore_leaves_members_tokens_and_secrets_as_they_are() {
    simulate(async || {
        let world = World::of(26, 1).await;
        let one = world.store(1).clone();
        let at = |table: &str, key: &str| tutti_store::Key::new(table, key);
        let write = async |ops: Vec<Op>| one.commit(Txn::of(ops)).await.expect("accepted").done();
        put(&*one, "a", "1").await;
        write(KEPT_BY_RESTORE.map(|table| Op::put(at(table, "x"), "then")).to_vec()).await;
        let out = Shared::default();
        one.backup(Box::new(out.clone()), Sealed::Included).await.expect("a backup");
        put(&*one, "a", "changed").await;
        for table in KEPT_BY_RESTORE {
            write(vec![Op::put(at(table, "x"), "now"), Op::put(at(table, "since"), "now")]).await;
        }
        let bytes = out.0.lock().expect("nobody panics").clone();
        let restored = one.restore(&mut bytes.as_slice()).await.expect("restored");
        assert_eq!((restored.written, restored.removed), (1, 0));
        assert_eq!(value(&*one, "a").as_deref(), Some("1"));
        for table in KEPT_BY_RESTORE {
            for key in ["x", "since"] {
                let kept = one.get(&at(table, key)).expect("readable").expect("there");
                assert_eq!(&*kept.value, b"now", "{table}/{key}");
            }
        }
    });
}

#[test]
fn a_lease_moves_soon_after_its_holder_and_leader_dies_and_not_before() {
    for seed in 10..20 {
        simulate(async || {
            let mut world = World::of(seed, 3).await;
            let leader = world.leader().await;
            let ttl = Duration::from_millis(400);
            let store = world.stores[&leader].clone();
            let lease = store.grant(ttl).await.expect("a lease").id;
            let op = Op::Put { at: key("address"), value: "1".into(), lease: Some(lease) };
            store.commit(Txn::of([op])).await.expect("accepted");
            let mut kept = world.clock.now();
            for _ in 0..8 - seed % 8 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                kept = world.clock.now();
                store.keep_alive(lease).await.expect("alive");
            }
            drop(store);
            let dead = world.clock.now();
            world.kill(leader).await;
            let survivor = world.any().expect("two are left");
            let taken = loop {
                let other = survivor
                    .commit(Txn::of([Op::put(key("address"), "2")]).when(Check::Absent(key("address"))));
                if other.await.is_ok_and(|commit| commit.done().is_some()) {
                    break world.clock.now();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            };
            assert!(taken >= kept + ttl, "seed {seed}: its holder may still believe in it");
            assert!(taken.since(dead) < Duration::from_millis(1700), "seed {seed}: {:?}", taken.since(dead));
        });
    }
}

#[test]
fn a_leader_that_is_not_answered_falls_silent_and_another_takes_over() {
    simulate(async || {
        let world = World::of(21, 3).await;
        let leader = world.leader().await;
        for id in (1..=3).map(NodeId).filter(|id| *id != leader) {
            world.net.cut(id, leader);
        }
        let other =
            world.stores.iter().find(|(id, _)| **id != leader).map(|(_, store)| store.clone()).expect("two");
        until(&other, "another leads", |status| status.leader.is_some_and(|now| now != leader)).await;
        put(&*other, "x", "1").await;
        world.net.heal();
        until(&world.stores[&leader], "it follows", |status| status.role == RaftRole::Follower).await;
    });
}

#[test]
fn a_full_queue_at_the_leader_refuses_at_once() {
    simulate(async || {
        let mut world = World::new(22);
        world.config = RaftConfig { queue: 2, ..world.config.clone() };
        for id in 1..=2 {
            world.start(NodeId(id)).await;
        }
        let one = world.store(1).clone();
        one.found().await.expect("a cluster of one");
        one.add_learner(NodeId(2)).await.expect("a learner");
        one.set_voters(vec![NodeId(1), NodeId(2)]).await.expect("voters");
        world.net.pause(NodeId(2));
        let writes: Vec<_> = (0..8)
            .map(|index| {
                let one = one.clone();
                tokio::spawn(
                    async move { one.commit(Txn::of([Op::put(key(&format!("q{index}")), "x")])).await },
                )
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        world.net.heal();
        let mut busy = 0;
        for write in writes {
            match write.await.expect("no panic") {
                Ok(_) | Err(StoreError::Unknown | StoreError::NoLeader(_)) => {}
                Err(StoreError::Busy { limit: 2 }) => busy += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(busy > 0, "eight at once do not fit");
        assert_eq!(number(&*one, &key("none")), Ok(0));
    });
}

#[test]
fn a_damaged_file_is_refused_and_may_be_wiped_and_repaired() {
    simulate(async || {
        let mut world = World::of(23, 3).await;
        put(&**world.store(1), "x", "1").await;
        let leader = world.leader().await;
        let victim = NodeId(1 + leader.0 % 3);
        world.kill(victim).await;
        let disk = world.disks[&victim].clone();
        tutti_store::replicated::wipe(&disk).expect("wiped");
        assert_eq!(disk.open("store.redb").expect("there").len().expect("readable"), 0);
        world.start(victim).await;
        let store = world.stores[&victim].clone();
        store.repair(&[leader]).await.expect("taken in");
        until(&store, "it follows", |status| status.learners.contains(&victim)).await;
        until(&store, "it has all", |_| number(&*store, &key("x")) == Ok(1)).await;
    });
}

/// Damages a value behind redb's back, but with redb's own checksums right, so that only ours can notice.
fn flip_value(disk: &dyn Disk, name: &[u8]) {
    let values: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("values");
    let file = disk.open("store.redb").expect("there");
    let database = redb::Database::builder().create_with_backend(Raw(file)).expect("a database");
    let write = database.begin_write().expect("a transaction");
    {
        let mut table = write.open_table(values).expect("a table");
        let found = table.get(name).expect("readable").expect("the value is there").value().to_vec();
        let mut bytes = found;
        *bytes.last_mut().expect("an envelope has bytes") ^= 1;
        table.insert(name, bytes.as_slice()).expect("written");
    }
    write.commit().expect("committed");
}

#[test]
fn a_damaged_value_stops_a_node_that_has_peers_and_may_be_deleted_where_there_are_none() {
    simulate(async || {
        let mut world = World::of(24, 1).await;
        put(&**world.store(1), "bad", "needle").await;
        put(&**world.store(1), "other", "whose sync carries what was applied before").await;
        world.kill(NodeId(1)).await;
        flip_value(&world.disks[&NodeId(1)], b"sim\0bad");
        world.start(NodeId(1)).await;
        let one = world.store(1).clone();
        until(&one, "it leads", |status| status.leads()).await;
        let error = one.get(&key("bad")).expect_err("damaged");
        assert!(matches!(&error, StoreError::Damaged { at, .. } if *at == key("bad")));
        assert_eq!(one.commit(Txn::of([Op::put(key("bad"), "y")])).await, Err(error));
        one.commit(Txn::of([Op::delete(key("bad"))])).await.expect("the way out");
        put(&*one, "bad", "whole").await;

        let mut world = World::of(25, 3).await;
        put(&**world.store(1), "bad", "needle").await;
        put(&**world.store(1), "other", "whose sync carries what was applied before").await;
        let victim = NodeId(1 + world.leader().await.0 % 3);
        until(&world.stores[&victim].clone(), "it has it", |status| status.applied == status.last_log).await;
        world.kill(victim).await;
        flip_value(&world.disks[&victim], b"sim\0bad");
        world.start(victim).await;
        let store = world.stores[&victim].clone();
        until(&store, "it follows", |status| status.leader.is_some()).await;
        store.get(&key("bad")).expect_err("damaged");
        until(&store, "it stopped", |status| matches!(status.health, ReplicaHealth::Damaged(_))).await;
        store.repair(&[]).await.expect("made anew");
        until(&store, "it has all", |_| store.get(&key("bad")).is_ok_and(|entry| entry.is_some())).await;
        assert_eq!(value(&*store, "bad").as_deref(), Some("needle"));
    });
}

struct Raw(Box<dyn tutti_base::disk::DiskFile>);

impl std::fmt::Debug for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Raw")
    }
}

impl redb::StorageBackend for Raw {
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.0.read_at(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.0.sync()
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_at(offset, bytes)
    }
}
