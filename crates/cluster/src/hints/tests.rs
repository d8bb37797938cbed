//! Two nodes' hints, by hand.

use tutti_base::rng::SplitMix;

use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn hints(peer: NodeId) -> Hints {
    let mut hints = Hints::new(7, "1.2.3", Box::new(SplitMix::new(3)), Tick(0));
    let peers: BTreeSet<NodeId> = [peer].into();
    hints.set_members(Tick(0), peers.clone(), &peers);
    hints
}

fn at(ms: u64) -> Tick {
    Tick(ms * 1_000_000)
}

/// What `hints` sends at `now`, in one node's ears.
fn sent(hints: &mut Hints, now: Tick) -> Vec<Bytes> {
    hints.tick(now);
    hints.take_sends().into_iter().map(|(_, bytes)| bytes).collect()
}

#[test]
fn the_first_hint_is_whole_and_the_next_are_short() {
    let (mut a, mut b) = (hints(B), hints(A));
    a.set_own(Load { cpu: 2000, folders: vec!["cats".into()], ..Load::default() });
    let first = sent(&mut a, at(0)).remove(0);
    assert_eq!(b.hear(at(1), A, &first), Ok(News::Load));
    assert_eq!(&*b.heard(A).unwrap().version, "1.2.3");
    a.set_own(Load { cpu: 2000, jobs: 3, folders: vec!["cats".into()], ..Load::default() });
    assert!(sent(&mut a, at(100)).is_empty(), "not yet due");
    let second = sent(&mut a, at(200)).remove(0);
    assert!(second.len() <= DELTA_MAX && second.len() < 25, "{}", second.len());
    assert_eq!(b.hear(at(201), A, &second), Ok(News::Load));
    let load = &b.heard(A).unwrap().load;
    assert_eq!((load.cpu, load.jobs, load.folders.len(), load.sequence), (2000, 3, 1, 2));
    assert_eq!(b.hear(at(202), A, &second), Ok(News::Nothing), "an old one changes nothing");
}

#[test]
fn nothing_is_said_before_there_is_something_to_say_and_then_it_is_whole_and_at_once() {
    let (mut a, mut b) = (hints(B), hints(A));
    assert!(sent(&mut a, at(0)).is_empty() && sent(&mut a, at(500)).is_empty());
    a.set_own(Load { cache_mib: 9, folders: vec!["cats".into()], ..Load::default() });
    assert_eq!(b.hear(at(551), A, &sent(&mut a, at(550))[0]), Ok(News::Load));
    let load = &b.heard(A).unwrap().load;
    assert_eq!((load.cache_mib, load.folders.len()), (9, 1));
}

#[test]
fn a_lost_delta_does_no_harm_and_a_lost_whole_record_is_asked_for() {
    let (mut a, mut b) = (hints(B), hints(A));
    a.set_own(Load::default());
    let whole = sent(&mut a, at(0)).remove(0);
    a.set_own(Load { jobs: 1, requests: 5, ..Load::default() });
    drop(sent(&mut a, at(200)));
    a.set_own(Load { jobs: 1, requests: 9, ..Load::default() });
    let third = sent(&mut a, at(400)).remove(0);
    assert_eq!(b.hear(at(401), A, &third), Ok(News::Nothing), "its base is missing");
    let asks = b.take_sends();
    assert_eq!(b.hear(at(402), A, &third), Ok(News::Nothing));
    assert!(b.take_sends().is_empty(), "asked for at most once a second");
    assert_eq!(a.hear(at(403), B, &asks[0].1), Ok(News::Nothing));
    assert!(sent(&mut a, at(404)).is_empty(), "given at most once a second");
    assert_eq!(a.hear(at(1100), B, &asks[0].1), Ok(News::Nothing));
    b.hear(at(1101), A, &sent(&mut a, at(1100))[0]).unwrap();
    assert_eq!(b.heard(A).map(|heard| (heard.load.jobs, heard.load.requests)), Some((1, 9)));
    assert_eq!(b.hear(at(1102), A, &whole), Ok(News::Nothing), "the older record of the same run loses");
}

#[test]
fn a_new_run_replaces_what_the_earlier_one_said() {
    let (mut a, mut b) = (hints(B), hints(A));
    for _ in 0..50 {
        a.set_own(Load { jobs: 9, ..Load::default() });
    }
    b.hear(at(1), A, &sent(&mut a, at(0))[0]).unwrap();
    let mut again = Hints::new(6, "1.2.4", Box::new(SplitMix::new(3)), at(10));
    again.set_members(at(10), [B].into(), &[B].into());
    again.set_own(Load::default());
    b.hear(at(11), A, &sent(&mut again, at(10))[0]).unwrap();
    let heard = b.heard(A).unwrap();
    assert_eq!((heard.load.jobs, &*heard.version), (0, "1.2.4"), "though its calendar went back");
}

#[test]
fn changed_digests_go_at_once_within_their_budget() {
    let mut a = Hints::new(7, "1", Box::new(SplitMix::new(3)), Tick(0));
    let peers: BTreeSet<NodeId> = (1..=63).map(NodeId).collect();
    a.set_members(Tick(0), peers.clone(), &peers);
    a.set_own(Load::default());
    drop(sent(&mut a, at(0)));
    drop(sent(&mut a, at(200)));
    a.set_own(Load { purge: 1, ..Load::default() });
    assert_eq!(sent(&mut a, at(210)).len(), 63, "all hear of a purge at once");
    a.set_own(Load { purge: 2, ..Load::default() });
    assert!(sent(&mut a, at(250)).is_empty(), "at most ten a second");
    let mut bytes = 0;
    for step in 0..600 {
        a.set_own(Load { purge: 3 + step, ..Load::default() });
        bytes +=
            sent(&mut a, at(1000 + step * 50)).iter().map(|sent| sent.len() as u64 + FRAMING).sum::<u64>();
    }
    assert!(bytes / 30 <= 20_000, "a purge each 50 ms: {} bytes a second", bytes / 30);
}

#[test]
fn a_load_that_stands_still_ages_and_needs_no_questions() {
    let (mut a, mut b) = (hints(B), hints(A));
    a.set_own(Load { jobs: 2, ..Load::default() });
    for step in 0..600 {
        for bytes in sent(&mut a, at(step * 50)) {
            b.hear(at(step * 50), A, &bytes).unwrap();
        }
        if step == 300 {
            // Once in a while it is another, by a delta.
            a.set_own(Load { jobs: 3, ..Load::default() });
        }
    }
    assert_eq!(b.take_sends(), [], "whole records of a known sequence are a base too");
    let heard = b.heard(A).unwrap();
    assert!(heard.load.jobs == 3 && (at(15_000)..at(16_000)).contains(&heard.at));
}

#[test]
fn strangers_and_rubbish_are_refused() {
    let mut a = hints(B);
    assert_eq!(a.hear(at(0), NodeId(9), &[82]), Err(HintError::Stranger(NodeId(9))));
    assert!(matches!(a.hear(at(0), B, &[82, 1, 0, 4]), Err(HintError::Malformed(_))));
    assert!(matches!(a.hear(at(0), B, &[]), Err(HintError::Malformed(_))));
}

#[test]
fn the_whole_record_comes_every_ten_seconds_and_on_connecting() {
    let mut a = hints(B);
    a.set_own(Load::default());
    let is_whole = |sent: &Vec<Bytes>| sent.iter().any(|bytes| bytes[0] == Whole::KIND);
    let times: Vec<u64> =
        (0..600).map(|step| step * 50).filter(|ms| is_whole(&sent(&mut a, at(*ms)))).collect();
    assert!((3..=4).contains(&times.len()), "{times:?}");
    a.connected(at(30_010), B);
    assert!(is_whole(&sent(&mut a, at(30_020))));
}

#[test]
fn folders_without_room_in_the_record_are_asked_for_once_and_kept() {
    let (mut a, mut b) = (hints(B), hints(A));
    let folders: Vec<String> = (0..300).map(|number| format!("folder-{number}")).collect();
    let load = Load { folders: folders.clone(), ..Load::default() };
    a.set_own(load.clone());
    b.hear(at(1), A, &sent(&mut a, at(0))[0]).unwrap();
    assert!(b.heard(A).unwrap().left_off > 200);
    assert_eq!((b.take_wanted(), b.take_wanted()), (vec![A], Vec::new()));
    let answer = a.answer(&Hints::question()).unwrap();
    assert_eq!(b.hear_folders(A, &answer), Ok(News::Load));
    let complete = |b: &Hints| b.heard(A).map(|heard| (heard.load.folders == folders, heard.left_off));
    assert_eq!(complete(&b), Some((true, 0)));
    a.set_own(Load { jobs: 4, ..load.clone() });
    b.hear(at(201), A, &sent(&mut a, at(200))[0]).unwrap();
    assert_eq!(b.heard(A).map(|heard| heard.load.jobs), Some(4));
    a.set_own(load);
    b.hear(at(15_000), A, &sent(&mut a, at(15_000))[0]).unwrap();
    assert_eq!((complete(&b), b.take_wanted()), (Some((true, 0)), Vec::new()), "kept over a whole record");
}
