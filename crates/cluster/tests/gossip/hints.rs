//! Hints over many nodes: their bytes, and what happens when they stop or are lost.

use std::fs;
use std::path::Path;

use tutti_base::{Load, NodeId, NodeState};

use crate::sim::{Sim, Weather, id, ms};

const NODES: u64 = 64;

fn busy(number: u64, step: u64) -> Load {
    Load {
        cpu: 3_600,
        permits: 4,
        jobs: (step * 7 + number) as u16 % 30,
        backlog_ms: ((step * 7919 + number * 31) % 20_000) as u32,
        used_pct: ((step * 13 + number) % 101) as u8,
        hit_pct: ((step / 5 + number) % 101) as u8,
        requests: 1_000_000 + step * 40,
        cache_mib: 4096,
        purge: 40 + step / 20,
        revision: 9_000 + step,
        epoch: 3,
        folders: (0..40).map(|folder| format!("folder-{number}-{folder}")).collect(),
        ..Load::default()
    }
}

#[test]
fn sixty_four_nodes_that_all_exchange_work_send_at_most_twenty_kilobytes_a_second_each() {
    let mut sim = Sim::settled(1, NODES, Weather::default());
    let mut step = 0;
    let mut work = |sim: &mut Sim, spans: u64| {
        for _ in 0..spans {
            step += 1;
            for number in 1..=NODES {
                let node = sim.nodes.get_mut(&id(number)).unwrap();
                node.load = Some(busy(number, step));
                (1..=NODES).for_each(|other| node.hints.exchanged(id(other), (other * number * step) % 5));
            }
            sim.run(ms(50));
        }
    };
    work(&mut sim, 60);
    sim.sent.clear();
    work(&mut sim, 400);
    let rates: Vec<(u64, u64)> = sim.sent.values().map(|(gossip, hints)| (gossip / 20, hints / 20)).collect();
    let most = rates.iter().map(|(gossip, hints)| gossip + hints).max().unwrap();
    let (gossip, hints) = rates.iter().fold((0, 0), |sum, rate| (sum.0 + rate.0, sum.1 + rate.1));
    println!(
        "64 nodes, bytes a second: gossip {}, hints {}, most in all {most}",
        gossip / NODES,
        hints / NODES
    );
    assert!(most <= 20_000, "{most}");
    assert_eq!((sim.seen(NodeState::Suspect, &[]), sim.refused), (0, 0));
}

/// The same with few folders, so that all fit into the record.
fn small(number: u64, step: u64) -> Load {
    let mut load = busy(number, step);
    load.folders.truncate(5);
    load
}

fn age_ms(sim: &Sim, observer: NodeId, node: NodeId) -> u64 {
    let heard = sim.nodes[&observer].hints.heard(node).expect("heard of");
    sim.now.since(heard.at).as_millis() as u64
}

#[test]
fn a_frozen_source_ages_and_is_no_error() {
    let mut sim = Sim::settled(2, 5, Weather::default());
    sim.run(ms(1000));
    assert!(age_ms(&sim, id(1), id(2)) <= 260);
    let before = sim.nodes[&id(1)].hints.heard(id(2)).unwrap().load.clone();
    sim.nodes.get_mut(&id(2)).unwrap().load = None;
    sim.run(ms(30_000));
    let heard = sim.nodes[&id(1)].hints.heard(id(2)).unwrap();
    assert_eq!(Load { sequence: 0, ..(*heard.load).clone() }, Load { sequence: 0, ..(*before).clone() });
    assert!(age_ms(&sim, id(1), id(2)) > 29_000);
    assert!(age_ms(&sim, id(1), id(3)) <= 260, "the others go on");
    assert_eq!((sim.refused, sim.seen(NodeState::Suspect, &[])), (0, 0));
}

#[test]
fn lost_hints_heal_by_themselves() {
    let mut sim = Sim::settled(3, 5, Weather { cast_loss_pct: 60, ..Weather::default() });
    for step in 0..400 {
        (1..=5).for_each(|number| sim.nodes.get_mut(&id(number)).unwrap().load = Some(small(number, step)));
        sim.run(ms(50));
    }
    sim.weather.cast_loss_pct = 0;
    sim.run(ms(2500));
    for observer in 1..=5 {
        for other in (1..=5).filter(|other| *other != observer) {
            let heard = sim.nodes[&id(observer)].hints.heard(id(other)).unwrap();
            let told = Load { sequence: heard.load.sequence, ..small(other, 399) };
            assert_eq!(*heard.load, told);
        }
    }
}

#[test]
fn a_purge_is_known_everywhere_at_once() {
    let mut sim = Sim::settled(4, 40, Weather::default());
    sim.run(ms(2000));
    sim.nodes.get_mut(&id(7)).unwrap().load = Some(Load { purge: 99, ..Load::default() });
    let all = |sim: &Sim| {
        (1..=40)
            .filter(|other| *other != 7)
            .all(|other| sim.nodes[&id(other)].hints.heard(id(7)).is_some_and(|heard| heard.load.purge == 99))
    };
    let took = sim.run_until(ms(2000), all);
    assert!(took.is_some_and(|took| took <= ms(160)), "{took:?}");
}

#[test]
fn no_source_of_this_package_names_a_group_address() {
    fn scan(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                scan(&entry, found);
                continue;
            }
            let text = fs::read_to_string(&entry).unwrap();
            let words =
                ["join_multicast", "set_broadcast", "Ipv4Addr::BROADCAST", "\"224.", "\"239.", "ff02::"];
            found.extend(
                words.iter().filter(|word| text.contains(*word)).map(|word| format!("{entry:?}: {word}")),
            );
        }
    }
    let mut found = Vec::new();
    scan(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert_eq!(found, Vec::<String>::new(), "this cluster speaks to one node at a time");
}
