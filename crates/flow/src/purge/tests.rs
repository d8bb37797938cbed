//! The log's promises: to its own node over restarts and losses, and to and from other nodes, honest or not.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use futures_util::FutureExt;
use tokio::sync::Semaphore;
use tutti_base::BoxFuture;

use super::*;

const ME: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);
const NOW: Wall = Wall(1_790_000_000_000);

/// A keeper that keeps in memory what a store would on disk; writes wait for permits where it has a gate.
#[derive(Default)]
struct Shelf {
    purges: Mutex<BTreeMap<u64, Purge>>,
    deletions: Mutex<BTreeMap<[u8; 32], Purge>>,
    vector: Mutex<Option<Vector>>,
    damaged: Mutex<Vec<u64>>,
    is_lost: AtomicBool,
    is_failing: AtomicBool,
    writes: AtomicU64,
    gate: Option<Semaphore>,
}

impl PurgeKeeper for Shelf {
    fn load(&self) -> Stored {
        if self.is_lost.load(Ordering::SeqCst) {
            return Stored { reading: Reading::Lost, ..Stored::default() };
        }
        Stored {
            purges: self.purges.lock().unwrap().values().cloned().collect(),
            vector: self.vector.lock().unwrap().clone(),
            deletions: self.deletions.lock().unwrap().values().cloned().collect(),
            damaged: self.damaged.lock().unwrap().clone(),
            reading: Reading::Whole,
        }
    }
    fn write<'a>(&'a self, write: &'a Write) -> BoxFuture<'a, Result<(), Problem>> {
        Box::pin(async move {
            if let Some(gate) = &self.gate {
                gate.acquire().await.expect("it is never closed").forget();
            }
            if self.is_failing.load(Ordering::SeqCst) {
                return Err(Problem::new(Kind::Internal, "the disk is full"));
            }
            self.writes.fetch_add(1, Ordering::SeqCst);
            let mut purges = self.purges.lock().unwrap();
            purges.extend(write.purges.iter().map(|purge| (purge.sequence, purge.clone())));
            write.forgotten.iter().for_each(|place| drop(purges.remove(place)));
            let mut deletions = self.deletions.lock().unwrap();
            for (source, purge) in &write.deletions {
                match purge {
                    Some(purge) => drop(deletions.insert(*source.as_bytes(), purge.clone())),
                    None => drop(deletions.remove(source.as_bytes())),
                }
            }
            *self.vector.lock().unwrap() = Some(write.vector.clone());
            self.damaged.lock().unwrap().retain(|place| !write.forgotten.contains(place));
            Ok(())
        })
    }
}

/// Runs what can be run at once, and the rest on the runtime.
struct Runner;

impl Spawn for Runner {
    fn spawn(&self, _name: &'static str, mut work: BoxFuture<'static, ()>) {
        if (&mut work).now_or_never().is_none() {
            tokio::spawn(work);
        }
    }
}

fn open(keeper: &Arc<Shelf>, me: NodeId) -> PurgeLog {
    PurgeLog::load(Arc::<Shelf>::clone(keeper), Arc::new(Runner), me, NOW, &Metrics::default())
}

fn log(me: NodeId) -> PurgeLog {
    open(&Arc::default(), me)
}

fn purge(log: &PurgeLog, what: What) -> Purge {
    log.purge(what).now_or_never().expect("the test keeper does not wait").expect("kept")
}

fn tag(tag: &str) -> What {
    What::Tag(tag.into())
}

fn gone(path: &str, at: u64) -> What {
    let source = SourceKey::of(&[path.as_bytes()]);
    What::Deleted { source, folder: String::new(), path: path.into(), at: Wall(at) }
}

fn deleted(log: &PurgeLog, path: &str) -> Option<u64> {
    log.deleted(&SourceKey::of(&[path.as_bytes()])).map(|at| at.0)
}

fn anybody(_: NodeId) -> bool {
    true
}

fn tell(to: &PurgeLog, from: NodeId, purges: &[Purge]) -> Result<Result<(), Gap>, Kind> {
    to.receive(from, purges.to_vec(), &anybody).map_err(|problem| problem.kind)
}

/// What `learn_from` does, without a network: pages, and how many.
fn learn(to: &PurgeLog, from: &PurgeLog) -> usize {
    let mut behind = WireBehind::default();
    for pages in 1.. {
        let known = to.vector();
        behind.vector.clone_from(&known);
        let missing = from.missing(&behind);
        let (more, weight) =
            (missing.more, tutti_base::envelope::seal(&crate::wire::Told::Missing(missing.clone())));
        assert!(weight.len() <= PAGE_BYTES_MAX + (64 << 10), "a page of {} bytes", weight.len());
        behind.deletions_upto = missing.deletions_upto;
        to.catch_up(from.me, &known, missing, &anybody).expect("there is room");
        to.until_written().now_or_never().expect("it does not wait").expect("kept");
        if !more {
            return pages;
        }
    }
    unreachable!("it ends when there is no more");
}

#[test]
fn a_node_that_was_stopped_serves_nothing_kept_until_it_is_settled() {
    let log = log(ME);
    let after = |ms: u64| Tick(1) + Duration::from_millis(ms);
    assert!(log.is_settled(after(10_000)), "alone no beat is expected");
    assert!(!log.beat(after(0)) && !log.beat(after(600)) && log.is_settled(after(1200)));
    assert!(!log.is_settled(after(1201)), "its clock tells before any beat");
    assert!(log.beat(after(1300)) && !log.is_settled(after(1300)));
    log.settle();
    assert!(log.is_settled(after(1300)) && !log.beat(after(1400)));
    log.rest();
    assert!(log.is_settled(after(9999)));
}

#[test]
fn a_purge_takes_what_it_names_and_spares_the_rest() {
    let log = log(ME);
    let (a, b) = (RequestKey::of(&[b"a"]), RequestKey::of(&[b"b"]));
    let tags = vec![source_tag(&SourceKey::of(&[b"s"])), named_tag("cats")];
    purge(&log, What::Requests(vec![a]));
    assert_eq!(log.check(0, &tags, Some(&a)), Err(Purged));
    assert_eq!(log.check(0, &tags, Some(&b)), Ok(1));
    purge(&log, tag("dogs"));
    assert_eq!(log.check(1, &tags, Some(&b)), Ok(2));
    purge(&log, tag("cats"));
    assert_eq!(log.check(2, &tags, Some(&b)), Err(Purged));
    assert_eq!(log.check(3, &tags, Some(&b)), Ok(3), "made after the purge");
    purge(&log, What::Source(SourceKey::of(&[b"s"])));
    assert_eq!(log.check(3, &tags, None), Err(Purged));
    purge(&log, What::All);
    assert_eq!(log.check(4, &[], None), Err(Purged));
}

#[test]
fn a_gap_past_the_logs_beginning_counts_as_purged() {
    let keeper = Arc::<Shelf>::default();
    let log = open(&keeper, ME);
    (0..LOG_LEN_MAX as u64 + 1).for_each(|n| assert_eq!(purge(&log, tag("x")).sequence, n + 1));
    for log in [log, open(&keeper, ME)] {
        assert_eq!(log.check(0, &[], None), Err(Purged));
        assert_eq!(log.check(1, &[], None), Ok(LOG_LEN_MAX as u64 + 1));
    }
    assert_eq!(keeper.purges.lock().unwrap().len(), LOG_LEN_MAX, "what left the log leaves the disk");
}

#[test]
fn the_log_goes_on_where_it_was_after_a_restart() {
    let keeper = Arc::<Shelf>::default();
    purge(&open(&keeper, ME), tag("cats"));
    let after = open(&keeper, ME);
    assert_eq!(after.newest(), 1);
    assert_eq!(after.check(0, &[named_tag("cats")], None), Err(Purged));
    assert_eq!(purge(&after, What::All).sequence, 2);
}

#[test]
fn a_number_is_never_used_again_though_the_purges_of_others_filled_the_log() {
    let (keeper, theirs) = (Arc::<Shelf>::default(), log(PEER));
    let ours = open(&keeper, ME);
    assert_eq!(purge(&ours, tag("a")).number, 1);
    for _ in 0..LOG_LEN_MAX {
        assert_eq!(tell(&ours, PEER, &[purge(&theirs, tag("b"))]), Ok(Ok(())));
        ours.until_written().now_or_never().expect("it does not wait").expect("kept");
    }
    let after = open(&keeper, ME);
    assert_eq!((after.own(), purge(&after, tag("c")).number), (1, 2));
}

#[test]
fn where_the_log_is_lost_all_counts_as_purged_and_the_numbers_go_on_beyond_all_that_were() {
    let (keeper, theirs) = (Arc::<Shelf>::default(), log(PEER));
    let before = open(&keeper, ME);
    (0..5).for_each(|_| assert_eq!(tell(&theirs, ME, &[purge(&before, tag("a"))]), Ok(Ok(()))));
    keeper.is_lost.store(true, Ordering::SeqCst);
    let after = open(&keeper, ME);
    assert_eq!(after.check(5, &[], None), Err(Purged));
    let next = purge(&after, tag("b"));
    assert!(next.number > 5);
    assert_eq!(tell(&theirs, ME, std::slice::from_ref(&next)), Ok(Err(Gap)));
    learn(&theirs, &after);
    assert_eq!(theirs.vector().get(&ME), Some(&next.number));
    assert_eq!(theirs.check(5, &[], None), Err(Purged));
    keeper.is_lost.store(false, Ordering::SeqCst);
    let again = open(&keeper, ME);
    assert_eq!(again.check(5, &[], None), Err(Purged), "that it was lost once is not forgotten");
    assert_eq!(purge(&again, tag("c")).number, next.number + 1);
}

#[test]
fn a_purge_that_cannot_be_read_counts_as_everything_once() {
    let keeper = Arc::<Shelf>::default();
    (0..3).for_each(|_| drop(purge(&open(&keeper, ME), tag("a"))));
    keeper.purges.lock().unwrap().remove(&2);
    keeper.damaged.lock().unwrap().push(2);
    let after = open(&keeper, ME);
    assert_eq!(after.check(3, &[], None), Err(Purged));
    let newest = after.newest();
    assert_eq!(open(&keeper, ME).newest(), newest, "the damage was let go");
}

#[test]
fn deletions_outlive_the_log_and_a_restart() {
    let keeper = Arc::<Shelf>::default();
    let log = open(&keeper, ME);
    purge(&log, gone("cat", 7));
    purge(&log, gone("cat", 5));
    (0..=LOG_LEN_MAX).for_each(|_| drop(purge(&log, tag("x"))));
    for log in [log, open(&keeper, ME)] {
        assert_eq!((deleted(&log, "cat"), deleted(&log, "dog")), (Some(7), None));
    }
}

#[test]
fn the_oldest_deletion_goes_when_there_are_too_many() {
    let keeper = Arc::<Shelf>::default();
    let log = open(&keeper, ME);
    (0..=DELETIONS_MAX).for_each(|n| drop(purge(&log, gone(&n.to_string(), 9))));
    assert_eq!((deleted(&log, "0"), deleted(&log, "1")), (None, Some(9)));
    assert_eq!(keeper.deletions.lock().unwrap().len(), DELETIONS_MAX);
    let after = open(&keeper, ME);
    assert_eq!((deleted(&after, "0"), deleted(&after, "1")), (None, Some(9)));
}

#[test]
fn a_log_that_kept_no_deletions_apart_keeps_them_from_now_on() {
    let keeper = Arc::<Shelf>::default();
    purge(&open(&keeper, ME), gone("cat", 7));
    keeper.deletions.lock().unwrap().clear();
    *keeper.vector.lock().unwrap() = None;
    let log = open(&keeper, ME);
    assert_eq!((log.own(), deleted(&log, "cat")), (1, Some(7)));
    assert_eq!(keeper.deletions.lock().unwrap().len(), 1);
}

#[test]
fn purges_of_peers_are_taken_once_in_order_and_a_gap_is_told() {
    let (ours, theirs) = (log(ME), log(PEER));
    let (first, second) = (purge(&theirs, tag("a")), purge(&theirs, tag("b")));
    assert_eq!(tell(&ours, PEER, std::slice::from_ref(&second)), Ok(Err(Gap)));
    assert_eq!(ours.check(0, &[named_tag("b")], None), Ok(0), "what is out of order is not taken");
    assert_eq!(tell(&ours, PEER, &[first.clone(), second]), Ok(Ok(())));
    assert_eq!(ours.check(0, &[named_tag("b")], None), Err(Purged));
    assert_eq!(tell(&ours, PEER, &[first]), Ok(Ok(())));
    assert_eq!((ours.newest(), ours.vector()), (2, theirs.vector()));
}

#[test]
fn what_a_peer_missed_is_told_and_a_lost_beginning_counts_as_everything() {
    let (ours, theirs) = (log(ME), log(PEER));
    (0..3).for_each(|_| drop(purge(&theirs, tag("a"))));
    learn(&ours, &theirs);
    assert_eq!((ours.vector(), ours.newest()), (theirs.vector(), 3));
    purge(&theirs, gone("cat", 7));
    (0..=LOG_LEN_MAX).for_each(|_| drop(purge(&theirs, tag("a"))));
    learn(&ours, &theirs);
    assert_eq!(ours.vector(), theirs.vector());
    assert_eq!(ours.check(3, &[], None), Err(Purged), "everything counts as purged");
    assert_eq!(deleted(&ours, "cat"), Some(7), "and what was deleted stays deleted");
}

#[test]
fn a_long_absence_is_told_in_pages_and_completely() {
    let (ours, theirs) = (log(ME), log(PEER));
    (0..2000).for_each(|n| drop(purge(&theirs, gone(&format!("{n}{}", "x".repeat(1000)), 7))));
    (0..LOG_LEN_MAX).for_each(|n| drop(purge(&theirs, tag(&format!("{n}{}", "x".repeat(500))))));
    assert!(learn(&ours, &theirs) >= 8, "two megabytes of deletions");
    assert_eq!(ours.vector(), theirs.vector());
    assert!((0..2000).all(|n| deleted(&ours, &format!("{n}{}", "x".repeat(1000))) == Some(7)));
    (0..LOG_LEN_MAX - 1).for_each(|n| drop(purge(&theirs, tag(&format!("{n}{}", "x".repeat(500))))));
    assert!(learn(&ours, &theirs) >= 8, "two megabytes of purges");
    assert_eq!(ours.vector(), theirs.vector());
    assert_eq!(learn(&ours, &theirs), 1);
}

#[test]
fn what_comes_from_a_peer_has_to_survive_the_purges_that_the_peer_did_not_know() {
    let (ours, theirs) = (log(ME), log(PEER));
    let before = theirs.vector();
    let told = purge(&theirs, tag("cats"));
    assert_eq!(tell(&ours, PEER, &[told]), Ok(Ok(())));
    assert_eq!(ours.check_foreign(&before, &[named_tag("cats")], None), Err(Purged));
    assert_eq!(ours.check_foreign(&before, &[named_tag("dogs")], None), Ok(1));
    assert_eq!(ours.check_foreign(&theirs.vector(), &[named_tag("cats")], None), Ok(1));
    purge(&ours, What::All);
    assert_eq!(ours.check_foreign(&theirs.vector(), &[], None), Err(Purged));
}

#[test]
fn a_log_of_one_machine_is_read_by_a_node_of_a_cluster() {
    #[derive(Serialize, Deserialize)]
    struct Old(u64, What);
    impl Versioned for Old {
        const KIND: u8 = 4;
        const VERSION: u16 = 1;
    }
    let sealed = tutti_base::envelope::seal(&Old(7, What::All));
    let read: Purge = tutti_base::envelope::open(&sealed).unwrap();
    assert_eq!(read, Purge { sequence: 7, origin: NOBODY, number: 7, what: What::All });
    let keeper = Arc::<Shelf>::default();
    keeper.purges.lock().unwrap().insert(7, read);
    let log = open(&keeper, ME);
    assert!(log.vector().is_empty());
    assert_eq!((log.check(5, &[], None), purge(&log, What::All).sequence), (Err(Purged), 8));
}

#[tokio::test]
async fn a_peer_is_answered_once_its_purge_is_written_and_who_hangs_up_does_not_undo_it() {
    let keeper = Arc::new(Shelf { gate: Some(Semaphore::new(0)), ..Shelf::default() });
    let (ours, theirs) = (open(&keeper, ME), log(PEER));
    let told = purge(&theirs, tag("a"));
    assert_eq!(tell(&ours, PEER, std::slice::from_ref(&told)), Ok(Ok(())));
    assert!(ours.until_written().now_or_never().is_none(), "the first who told it hangs up");
    assert_eq!(tell(&ours, PEER, &[told]), Ok(Ok(())));
    assert!(ours.until_written().now_or_never().is_none(), "the second is not answered before it is written");
    assert_eq!(ours.missing(&WireBehind::default()).purges, [], "nobody hears of it yet");
    keeper.gate.as_ref().expect("it has one").add_permits(1);
    ours.until_written().await.expect("kept");
    assert_eq!(keeper.writes.load(Ordering::SeqCst), 1);
    assert_eq!(open(&keeper, ME).vector(), theirs.vector());
}

#[test]
fn a_purge_that_could_not_be_written_is_in_force_and_written_with_the_next() {
    let keeper = Arc::<Shelf>::default();
    let log = open(&keeper, ME);
    keeper.is_failing.store(true, Ordering::SeqCst);
    assert!(log.purge(tag("a")).now_or_never().expect("it does not wait").is_err());
    assert_eq!(log.check(0, &[named_tag("a")], None), Err(Purged));
    assert_eq!(log.own(), 0, "its number is not told before it is written");
    keeper.is_failing.store(false, Ordering::SeqCst);
    assert_eq!(purge(&log, tag("b")).number, 2);
    assert_eq!((log.own(), keeper.purges.lock().unwrap().len()), (2, 2));
}

#[test]
fn no_more_purges_are_taken_than_may_wait_for_the_disk() {
    let keeper = Arc::<Shelf>::default();
    let log = open(&keeper, ME);
    keeper.is_failing.store(true, Ordering::SeqCst);
    let purge_now = |log: &PurgeLog| log.purge(tag("a")).now_or_never().expect("it does not wait");
    (0..UNWRITTEN_MAX)
        .for_each(|_| assert_eq!(purge_now(&log).map_err(|problem| problem.kind), Err(Kind::Internal)));
    assert_eq!(purge_now(&log).map_err(|problem| problem.kind), Err(Kind::Overloaded));
    keeper.is_failing.store(false, Ordering::SeqCst);
    log.write_again();
    assert_eq!(purge_now(&log).map(|purge| purge.number), Ok(UNWRITTEN_MAX as u64 + 1));
}

#[test]
fn a_purge_over_a_limit_is_refused() {
    let long = |len| "x".repeat(len);
    let file = |folder: usize, path: usize| {
        let source = SourceKey::of(&[b"a"]);
        What::Deleted { source, folder: long(folder), path: long(path), at: Wall(1) }
    };
    let keys = |count| What::Requests(vec![RequestKey::of(&[b"a"]); count]);
    let (ours, mut number) = (log(ME), 0);
    for good in [keys(KEYS_MAX), tag(&long(TAG_LEN_MAX)), file(TAG_LEN_MAX, PATH_LEN_MAX)] {
        number += 1;
        assert_eq!(purge(&ours, good).number, number);
    }
    for bad in
        [keys(KEYS_MAX + 1), tag(&long(TAG_LEN_MAX + 1)), file(TAG_LEN_MAX + 1, 1), file(1, PATH_LEN_MAX + 1)]
    {
        let refused = ours.purge(bad.clone()).now_or_never().expect("it does not wait");
        assert_eq!(refused.map_err(|problem| problem.kind), Err(Kind::BadRequest));
        let forged = Purge { sequence: 0, origin: PEER, number: 1, what: bad };
        assert_eq!(tell(&ours, PEER, &[forged]), Err(Kind::BadRequest));
    }
    assert_eq!(ours.newest(), number);
}

fn forged(origin: NodeId, number: u64, what: What) -> Purge {
    Purge { sequence: 0, origin, number, what }
}

/// What a peer could say to be missing.
fn lie(vector: &[(NodeId, u64)], gaps: &[NodeId], purges: Vec<Purge>) -> WireMissing {
    WireMissing {
        vector: vector.iter().copied().collect(),
        gaps: gaps.into(),
        purges,
        ..WireMissing::default()
    }
}

#[test]
fn a_node_tells_of_its_own_purges_only() {
    let ours = log(ME);
    for origin in [ME, NOBODY, NodeId(3)] {
        assert_eq!(tell(&ours, PEER, &[forged(origin, 1, What::All)]), Err(Kind::BadRequest));
    }
    assert_eq!((ours.newest(), ours.vector().len()), (0, 0));
}

#[test]
fn nobody_makes_numbers_for_this_node_or_numbers_out_of_reach() {
    let (ours, third) = (log(ME), NodeId(3));
    let told =
        lie(&[(ME, u64::MAX), (third, u64::MAX)], &[ME, third, NOBODY], vec![forged(ME, 1, What::All)]);
    let caught = ours.catch_up(PEER, &ours.vector(), told, &anybody).expect("there is room");
    assert_eq!((caught.taken, caught.refused), (vec![], vec![third, ME]));
    assert_eq!((ours.vector().len(), purge(&ours, tag("a")).number), (0, 1));
    for (number, taken) in [(STEP_MAX, 1), (2 * STEP_MAX + 1, 0), (2 * STEP_MAX, 1)] {
        let told = lie(&[(third, number)], &[third], vec![]);
        let caught = ours.catch_up(PEER, &ours.vector(), told, &anybody).expect("there is room");
        assert_eq!(caught.taken.len(), taken, "{number}");
    }
}

#[test]
fn strangers_are_known_up_to_a_number_of_them_and_members_always() {
    let ours = log(ME);
    let members = |node: NodeId| node.0 >= 1_000_000;
    let purge_of = |node: u64| lie(&[], &[], vec![forged(NodeId(node), 1, tag("a"))]);
    for node in 0..STRANGERS_MAX as u64 + 5 {
        let caught =
            ours.catch_up(PEER, &ours.vector(), purge_of(1000 + node), &members).expect("there is room");
        assert_eq!(caught.refused.is_empty(), node < STRANGERS_MAX as u64, "{node}");
    }
    for node in [1_000_000, 1000] {
        let caught = ours.catch_up(PEER, &ours.vector(), purge_of(node), &members).expect("there is room");
        assert_eq!(caught.refused, [], "a member, and a stranger that is known");
    }
}

#[test]
fn a_nodes_own_word_counts_over_what_others_said_of_it() {
    let (ours, third, honest) = (log(ME), NodeId(3), log(NodeId(3)));
    let told = lie(&[(third, 1_000_000)], &[third], vec![]);
    ours.catch_up(PEER, &ours.vector(), told, &anybody).expect("there is room");
    let first = purge(&honest, tag("a"));
    let before = ours.newest();
    assert_eq!(tell(&ours, third, &[first]), Ok(Ok(())));
    assert_eq!(ours.check(before, &[named_tag("a")], None), Err(Purged), "its purge is in force at once");
    learn(&ours, &honest);
    assert_eq!(ours.vector().get(&third), Some(&1), "and its number is right again");
    assert_eq!(tell(&ours, third, &[purge(&honest, tag("b"))]), Ok(Ok(())));
    assert_eq!(ours.vector(), honest.vector());
    let newest = ours.newest();
    learn(&ours, &honest);
    assert_eq!(ours.newest(), newest, "what is right is not corrected");
}

#[test]
fn a_log_that_others_have_lied_to_does_not_keep_an_honest_one_waiting() {
    let (liar_fed, third, late) = (log(ME), NodeId(3), log(PEER));
    let told = lie(&[(third, 9)], &[third], vec![]);
    let told_later = lie(&[(third, 12)], &[third], vec![]);
    for told in [told, lie(&[(third, 10)], &[], vec![forged(third, 10, tag("a"))]), told_later] {
        liar_fed.catch_up(PEER, &liar_fed.vector(), told, &anybody).expect("there is room");
    }
    liar_fed.until_written().now_or_never().expect("it does not wait").expect("kept");
    learn(&late, &liar_fed);
    assert_eq!(late.vector(), liar_fed.vector(), "a jump within the log counts as a gap");
}
