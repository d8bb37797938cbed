//! The plan as golden cases: a picture of the cluster, and the steps.

use super::*;
use crate::testing::voters;

/// `a voter leads`, `b voter down 61`, `c learner lag 5`, `d`, each with optional words: `drains`, `leaves`, `removed`,
/// `worker` (without the role voter).
fn picture(lines: &[&str]) -> (Vec<NodeFacts>, QuorumStatus) {
    let mut status = voters(&[]);
    let mut nodes = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let id = NodeId(at as u64 + 1);
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| {
            let at = words.iter().position(|other| *other == word)?;
            words[at + 1].parse::<u64>().ok()
        };
        let has = |word: &str| words.contains(&word);
        if has("voter") {
            status.voters.push(id);
        }
        if has("learner") {
            status.learners.push(id);
        }
        if has("leads") {
            status.leader = Some(id);
        }
        let since = tutti_base::Wall(0);
        nodes.push(NodeFacts {
            id,
            name: words[0].into(),
            roles: if has("worker") { Roles::WORKER } else { Roles::ALL },
            standing: match () {
                () if has("drains") => Standing::Draining { why: "test".into(), since },
                () if has("leaves") => Standing::Leaving { since },
                () if has("removed") => Standing::Removed { since },
                () => Standing::Active,
            },
            down_for: number("down").map(Duration::from_secs),
            is_learner: has("learner"),
            lag: has("learner").then(|| number("lag").unwrap_or(0)),
        });
    }
    (nodes, status)
}

fn shown(steps: &[Step]) -> Vec<String> {
    let name = |id: &NodeId| char::from(b'a' + id.0 as u8 - 1).to_string();
    let names = |ids: &[NodeId]| ids.iter().map(name).collect::<String>();
    let one = |step: &Step| match &step.change {
        Change::AddLearner(id) => format!("learn {}", name(id)),
        Change::SetVoters(ids) => format!("vote {}", names(ids)),
        Change::Remove(id) => format!("remove {}", name(id)),
    };
    steps.iter().map(one).collect()
}

const CASES: &[(&str, &[&str], &[&str])] = &[
    ("one node votes alone", &["a voter leads"], &[]),
    ("a second node learns", &["a voter leads", "b"], &["learn b"]),
    ("two nodes: one voter and one learner", &["a voter leads", "b learner"], &[]),
    ("a third node learns first", &["a voter leads", "b learner", "c"], &["learn c"]),
    ("a third that lags waits", &["a voter leads", "b learner", "c learner lag 101"], &[]),
    (
        "a third in step makes three voters",
        &["a voter leads", "b learner", "c learner lag 100"],
        &["vote abc"],
    ),
    ("three vote", &["a voter leads", "b voter", "c voter"], &[]),
    ("the fourth stays a learner", &["a voter leads", "b voter", "c voter", "d learner"], &[]),
    ("nodes that are down are not added", &["a voter leads", "b down 1"], &[]),
    (
        "a worker without the role learns and does not vote",
        &["a voter leads", "b learner", "c learner worker"],
        &[],
    ),
    (
        "a voter down for less than a minute stays",
        &["a voter leads", "b voter", "c voter down 59", "d learner"],
        &[],
    ),
    (
        "a dead voter is replaced after a minute",
        &["a voter leads", "b voter", "c voter down 60", "d learner"],
        &["vote abd"],
    ),
    ("a dead voter stays where no learner can be", &["a voter leads", "b voter", "c voter down 600"], &[]),
    (
        "a dead voter waits for a learner in step",
        &["a voter leads", "b voter", "c voter down 60", "d learner lag 5000"],
        &[],
    ),
    (
        "a dead learner takes no place",
        &["a voter leads", "b voter", "c voter down 60", "d learner down 5"],
        &[],
    ),
    (
        "a removed voter goes at once where another can be",
        &["a voter leads", "b voter", "c voter removed", "d learner"],
        &["vote abd"],
    ),
    ("a removed voter of three leaves one", &["a voter leads", "b voter", "c voter removed"], &["vote a"]),
    (
        "a removed voter waits for one that is on its way",
        &["a voter leads", "b voter", "c voter down 9 removed", "d learner lag 5000"],
        &[],
    ),
    ("who was removed keeps no copy", &["a voter leads", "b learner removed"], &["remove b"]),
    (
        "urgent things first",
        &["a voter leads", "b voter leaves", "c voter", "d learner", "e"],
        &["vote acd", "learn e"],
    ),
    ("the leader itself leaves", &["a voter leads leaves", "b learner"], &["vote b"]),
    ("the last voter cannot leave to nobody", &["a voter leads leaves", "b learner lag 900"], &[]),
    (
        "a draining voter is replaced",
        &["a voter leads", "b voter drains", "c voter", "d learner"],
        &["vote acd"],
    ),
    ("a draining voter stays where no other can be", &["a voter leads", "b voter drains", "c voter"], &[]),
    ("a draining learner is not made a voter", &["a voter leads", "b learner", "c learner drains"], &[]),
    (
        "who lost the role stops voting",
        &["a voter leads", "b voter worker", "c voter", "d learner"],
        &["vote acd"],
    ),
    ("an even number is made odd, the leader stays", &["a voter", "b voter leads"], &["vote b"]),
    (
        "nobody knows it: a member without a record goes",
        &["a voter leads", "b voter", "c voter", "d learner removed"],
        &["remove d"],
    ),
];

#[test]
fn golden_plans() {
    for (what, lines, steps) in CASES {
        let (nodes, status) = picture(lines);
        let plan = plan(&nodes, &status, &Rules::default());
        assert_eq!(shown(&plan), *steps, "{what}: {plan:?}");
        assert!(plan.iter().all(|step| !step.why.is_empty()));
    }
}

#[test]
fn five_voters_where_five_are_wanted_and_fewer_when_that_bears_more() {
    let rules = Rules { most: 5, ..Rules::default() };
    for (lines, steps) in [
        (&["a voter leads", "b voter", "c voter", "d learner", "e learner"][..], &["vote abcde"][..]),
        (&["a voter leads", "b voter", "c voter", "d learner"], &[]),
        (&["a voter leads", "b voter", "c voter", "d voter", "e voter down 61"], &[]),
        (&["a voter leads", "b voter", "c voter", "d voter down 61", "e voter down 61"], &["vote abc"]),
    ] {
        let (nodes, status) = picture(lines);
        assert_eq!(shown(&plan(&nodes, &status, &rules)), *steps, "{lines:?}");
    }
}

#[test]
fn reasons_name_who_and_why() {
    let why = |lines: &[&str]| {
        let (nodes, status) = picture(lines);
        plan(&nodes, &status, &Rules::default())[0].why.clone()
    };
    assert_eq!(
        why(&["a voter leads", "b voter", "c voter down 61", "d learner"]),
        "`d` in place of `c` (down for 61 s)"
    );
    assert_eq!(
        why(&["a voter leads", "b learner", "c learner"]),
        "3 voters bear the loss of 1: `b`, `c` join"
    );
    assert_eq!(
        why(&["a voter leads", "b voter", "c voter removed"]),
        "1 voter remains without `b` (not needed for an odd number), `c` (removed)"
    );
    assert_eq!(why(&["a voter leads", "b"]), "`b` has no copy of the store yet");
}

/// Whatever the picture, following the plan ends, with an odd number of voters that all have the role and none of which
/// was removed, where that is possible at all; and on the way no two sets of voters in a row are without a live majority.
#[test]
fn following_the_plan_ends_in_an_odd_number_of_fit_voters() {
    use tutti_base::rng::SplitMix;
    for seed in 0..2000 {
        let mut rng = SplitMix::new(seed);
        let (mut nodes, mut status) = random_picture(&mut rng);
        let mut steps = 0;
        loop {
            let step = plan(&nodes, &status, &Rules::default()).into_iter().next();
            let waits = nodes.iter().any(|node| node.lag > Some(0));
            match &step {
                Some(step) => follow(&step.change, &mut nodes, &mut status, seed),
                None if waits => catch_up(&mut nodes, &status),
                None => break,
            }
            steps += 1;
            assert!(steps < 40, "seed {seed}: {step:?} again and again");
        }
        let fit = |id: &NodeId| nodes.iter().any(|node| node.id == *id && node.standing.stays());
        let is_stuck = !nodes.iter().any(|node| {
            node.standing == Standing::Active && node.roles.has(Roles::VOTER) && node.down_for.is_none()
        });
        assert!(is_stuck || status.voters.iter().all(fit), "seed {seed}: {status:?} {nodes:?}");
        assert!(is_stuck || status.voters.len() % 2 == 1, "seed {seed}: {status:?}");
    }
}

fn random_picture(rng: &mut tutti_base::rng::SplitMix) -> (Vec<NodeFacts>, QuorumStatus) {
    use tutti_base::rng::Rng;
    let mut lines = vec!["a voter leads".to_owned()];
    for name in ["b", "c", "d", "e", "f"].iter().take(rng.below(6) as usize) {
        let kind = ["voter", "learner", "learner lag 9999", ""][rng.below(4) as usize];
        let more = ["", "", "", "down 70", "drains", "leaves", "removed", "worker"][rng.below(8) as usize];
        lines.push(format!("{name} {kind} {more}"));
    }
    picture(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Does the step as consensus would; a learner catches up once it is one.
fn follow(change: &Change, nodes: &mut [NodeFacts], status: &mut QuorumStatus, seed: u64) {
    match change {
        Change::AddLearner(id) => status.learners.push(*id),
        Change::SetVoters(ids) => {
            assert!(!ids.is_empty() && ids.len() % 2 == 1, "seed {seed}: {ids:?}");
            let alive = |id: &&NodeId| nodes.iter().any(|node| node.id == **id && node.down_for.is_none());
            assert!(
                ids.iter().filter(alive).count() > ids.len() / 2,
                "seed {seed}: {ids:?} has no live majority"
            );
            let before = std::mem::replace(&mut status.voters, ids.clone());
            status.learners.extend(before.into_iter().filter(|id| !ids.contains(id)));
            status.learners.retain(|id| !ids.contains(id));
        }
        Change::Remove(id) => status.learners.retain(|other| other != id),
    }
    catch_up(nodes, status);
}

fn catch_up(nodes: &mut [NodeFacts], status: &QuorumStatus) {
    for node in nodes {
        node.is_learner = status.learners.contains(&node.id);
        node.lag = node.is_learner.then_some(0);
    }
}
