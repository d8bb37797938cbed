//! Who can open what, and how the old form becomes the new one. The keys here are toys; real ones are tested in `control`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tutti_base::envelope;
use tutti_telemetry::Metrics;

use super::form::{NONCE_LEN, Single};
use super::*;
use crate::simulated::{ManualClock, SimDisk};
use crate::{Config, RedbStore};

/// A toy: the box is the data key xored with a pad that the reader's number stands for.
struct Toy(u64);

fn reader(number: u64) -> Reader {
    Reader { node: NodeId(number), key: [number as u8; KEY_LEN] }
}

impl Sealing for Toy {
    fn me(&self) -> Reader {
        reader(self.0)
    }
    fn seal(&self, to: &Reader, context: &[u8], key: &DataKey) -> Result<Vec<u8>, SecretError> {
        let body = key.iter().zip(to.key).map(|(byte, pad)| byte ^ pad).collect::<Vec<u8>>();
        Ok([context, &body].concat())
    }
    fn open(&self, context: &[u8], sealed: &[u8]) -> Option<DataKey> {
        let body = <[u8; KEY_LEN]>::try_from(sealed.strip_prefix(context)?).ok()?;
        Some(Zeroizing::new(body.map(|byte| byte ^ self.0 as u8)))
    }
}

/// `cluster.*` is for the first list, all else for the second.
struct Lists(Mutex<(Vec<u64>, Vec<u64>)>);

impl Lists {
    fn of(cluster: &[u64], others: &[u64]) -> Arc<Self> {
        Arc::new(Self(Mutex::new((cluster.to_vec(), others.to_vec()))))
    }
    fn become_these(&self, cluster: &[u64], others: &[u64]) {
        *self.0.lock().unwrap() = (cluster.to_vec(), others.to_vec());
    }
}

impl ReadersOf for Lists {
    fn readers(&self, name: &str) -> Vec<Reader> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = if name.starts_with("cluster.") { &lists.0 } else { &lists.1 };
        of.iter().map(|number| reader(*number)).collect()
    }
}

struct House {
    store: Arc<RedbStore>,
    clock: Arc<ManualClock>,
    lists: Arc<Lists>,
}

impl House {
    fn on(disk: &SimDisk, lists: Arc<Lists>) -> Self {
        let clock = Arc::new(ManualClock::default());
        let store = RedbStore::open(disk, clock.clone(), &Metrics::default(), &Config::default()).unwrap();
        Self { store, clock, lists }
    }
    fn seen_by(&self, number: u64, old: Option<KeyFile>) -> Secrets {
        let (store, clock) = (self.store.clone(), self.clock.clone());
        Secrets::open_shared(store, Arc::new(Toy(number)), self.lists.clone(), old, clock)
    }
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn a_secret_opens_for_its_readers_and_for_nobody_else_whoever_set_it() {
    let house = House::on(&SimDisk::default(), Lists::of(&[1], &[1, 2]));
    let stranger = house.seen_by(3, None);
    stranger.set("cluster.authority", &Secret::new(b"key".to_vec())).await.unwrap();
    stranger.set("img", &Secret::new(b"salt".to_vec())).await.unwrap();
    let (voter, worker) = (house.seen_by(1, None), house.seen_by(2, None));
    assert_eq!(voter.get("cluster.authority").unwrap().expose(), b"key");
    assert_eq!(worker.get("img").unwrap().expose(), b"salt");
    let not_for_me = Some(SecretError::NotForMe("cluster.authority".into()));
    assert_eq!(worker.get("cluster.authority").err(), not_for_me);
    assert_eq!(stranger.get("img").err(), Some(SecretError::NotForMe("img".into())));
    assert_eq!(voter.readable_by(NodeId(2)).unwrap(), names(&["img"]));
}

#[tokio::test]
async fn new_readers_get_in_and_old_ones_out_by_any_node_that_can_open_it() {
    let house = House::on(&SimDisk::default(), Lists::of(&[1], &[1, 2]));
    let (one, two, three) = (house.seen_by(1, None), house.seen_by(2, None), house.seen_by(3, None));
    one.set("cluster.authority", &Secret::new(b"key".to_vec())).await.unwrap();
    one.set("img", &Secret::new(b"salt".to_vec())).await.unwrap();
    assert!(one.reseal().await.unwrap().is_settled(), "nothing has changed");
    let before = one.list().unwrap();
    house.lists.become_these(&[1, 3], &[2, 3]);
    house.clock.advance(Duration::from_secs(60));
    let by_two = two.reseal().await.unwrap();
    assert_eq!((by_two.done, by_two.left), (names(&["img"]), names(&["cluster.authority"])));
    assert_eq!(three.get("img").unwrap().expose(), b"salt");
    assert!(matches!(one.get("img"), Err(SecretError::NotForMe(_))));
    let by_one = one.reseal().await.unwrap();
    assert_eq!((by_one.done, by_one.left), (names(&["cluster.authority"]), names(&[])));
    assert_eq!(three.get("cluster.authority").unwrap().expose(), b"key");
    assert!(two.reseal().await.unwrap().is_settled());
    assert_eq!(one.list().unwrap(), before, "sealing anew is not setting anew");
}

#[tokio::test]
async fn a_node_with_a_new_sealing_key_is_sealed_to_again() {
    let house = House::on(&SimDisk::default(), Lists::of(&[1], &[1]));
    let one = house.seen_by(1, None);
    one.set("img", &Secret::new(b"salt".to_vec())).await.unwrap();
    struct NewKey;
    impl ReadersOf for NewKey {
        fn readers(&self, _name: &str) -> Vec<Reader> {
            vec![reader(1), Reader { node: NodeId(2), key: [9; KEY_LEN] }]
        }
    }
    let (store, clock) = (house.store.clone(), house.clock.clone());
    let again = Secrets::open_shared(store, Arc::new(Toy(1)), Arc::new(NewKey), None, clock);
    assert_eq!(again.reseal().await.unwrap().done, names(&["img"]));
}

#[tokio::test]
async fn what_nobody_needs_is_refused_and_kept_as_it_is() {
    let house = House::on(&SimDisk::default(), Lists::of(&[1], &[1]));
    let one = house.seen_by(1, None);
    one.set("img", &Secret::new(b"salt".to_vec())).await.unwrap();
    house.lists.become_these(&[], &[]);
    let refused = one.set("new", &Secret::new(b"x".to_vec())).await;
    assert_eq!(refused, Err(SecretError::NoReaders("new".into())));
    assert_eq!(one.reseal().await.unwrap().left, names(&["img"]));
    assert_eq!(one.get("img").unwrap().expose(), b"salt");
}

#[tokio::test]
async fn as_many_readers_as_allowed_and_no_more() {
    let most: Vec<u64> = (1..=READERS_MAX as u64).collect();
    let house = House::on(&SimDisk::default(), Lists::of(&[1], &most));
    let one = house.seen_by(1, None);
    one.set("img", &Secret::new(vec![7; SECRET_MAX])).await.expect("fits the store's values too");
    house.lists.become_these(&[1], &[&most[..], &[1000]].concat());
    let over = one.set("img", &Secret::new(b"x".to_vec())).await;
    assert_eq!(over, Err(SecretError::TooManyReaders(READERS_MAX + 1, "img".into())));
}

#[tokio::test]
async fn what_a_node_alone_sealed_is_read_and_brought_to_the_new_form() {
    let disk = SimDisk::default();
    let house = House::on(&disk, Lists::of(&[1], &[1, 2]));
    let alone = Secrets::open(house.store.clone(), &disk, house.clock.clone()).unwrap();
    write_old_form(&house, &disk, "old", b"from 2025").await;
    alone.set("newer", &Secret::new(b"set alone".to_vec())).await.unwrap();
    assert_eq!(alone.get("old").unwrap().expose(), b"from 2025", "a node alone still reads it");

    let key = KeyFile::load(&disk).unwrap();
    assert!(key.is_some());
    let one = house.seen_by(1, key);
    assert_eq!(one.get("old").unwrap().expose(), b"from 2025", "read before it is rewritten");
    assert_eq!(one.reseal().await.unwrap().done, names(&["newer", "old"]));
    for number in [1, 2] {
        let without_the_file = house.seen_by(number, None);
        assert_eq!(without_the_file.get("old").unwrap().expose(), b"from 2025");
        assert_eq!(without_the_file.get("newer").unwrap().expose(), b"set alone");
    }
    assert_eq!(one.list().unwrap()[1].created, Wall(1), "its times came along");
}

/// Writes a record as version 0.1 of 2025 wrote it: kind 22, version 1.
async fn write_old_form(house: &House, disk: &SimDisk, name: &str, value: &[u8]) {
    let key = KeyFile::load(disk).unwrap().unwrap();
    let nonce = [5; NONCE_LEN];
    let ciphertext = form::encrypt(key.key(), &nonce, name.as_bytes(), value);
    let old = Single { nonce, ciphertext, created: Wall(1), changed: Wall(2) };
    let put = Op::put(Key::new(TABLE, name), envelope::seal(&old));
    house.store.commit(Txn::of([put])).await.unwrap();
}
