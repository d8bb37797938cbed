//! Networks that lose, cut and heal; nodes that restart; rosters that change.

use std::collections::BTreeMap;

use tutti_base::NodeState;
use tutti_base::Tick;
use tutti_base::rng::SplitMix;
use tutti_cluster::membership::{Duty, GossipError, MEMBERS_MAX, Membership, SUSPICION_MAX, Way};

use crate::sim::{FIRST_RUN, Sim, Weather, id, ms};

#[test]
fn nobody_is_wrongly_down_in_ten_minutes_of_thirty_percent_loss() {
    for seed in 0..8 {
        let weather =
            Weather { datagram_loss_pct: 30, cast_loss_pct: 100, links: false, delay_us: (100, 5000) };
        let mut sim = Sim::settled(seed, 5, weather);
        sim.run(ms(600_000));
        println!("seed {seed}: {} suspicions in ten minutes", sim.seen(NodeState::Suspect, &[]));
        assert_eq!(sim.seen(NodeState::Down, &[]), 0, "seed {seed}");
        let renewed = sim.nodes.values().filter(|node| node.membership.run() != FIRST_RUN);
        assert_eq!(renewed.count(), 0, "seed {seed}: nobody was told that it is down");
    }
}

#[test]
fn where_datagrams_are_blocked_the_links_carry_the_gossip() {
    let mut sim = Sim::settled(3, 5, Weather { datagram_loss_pct: 100, ..Weather::default() });
    sim.run(ms(60_000));
    assert_eq!(sim.log, [], "nobody is even suspect");
    sim.vanish(id(2));
    sim.run(ms(3000));
    assert!(sim.all_see(id(2), NodeState::Down));
}

#[test]
fn where_datagrams_arrive_the_links_carry_no_gossip_for_long() {
    let mut sim = Sim::settled(8, 5, Weather::default());
    sim.run(ms(10_000));
    sim.sent.clear();
    sim.by_link = 0;
    sim.run(ms(60_000));
    assert_eq!(sim.by_link, 0);
}

#[test]
fn with_links_standing_lost_datagrams_raise_hardly_any_suspicion() {
    let mut sim = Sim::settled(5, 5, Weather { datagram_loss_pct: 30, ..Weather::default() });
    sim.run(ms(600_000));
    println!("with links: {} suspicions in ten minutes", sim.seen(NodeState::Suspect, &[]));
    assert!(sim.seen(NodeState::Suspect, &[]) <= 20, "{:?}", sim.log);
}

#[test]
fn a_one_way_cut_between_two_of_five_takes_nobody_down() {
    for seed in 0..10 {
        let mut sim = Sim::settled(seed, 5, Weather::default());
        sim.cut(id(1), id(2));
        sim.run(ms(60_000));
        assert_eq!(sim.seen(NodeState::Down, &[]), 0, "seed {seed}: {:?}", sim.log);
        sim.heal();
        sim.run(ms(3000));
        assert!(sim.all_up(), "seed {seed}");
    }
}

#[test]
fn a_node_that_hears_nobody_is_not_up_for_anyone() {
    for seed in 0..10 {
        let mut sim = Sim::settled(seed, 5, Weather::default());
        [1, 2, 3, 5].into_iter().for_each(|other| sim.cut(id(other), id(4)));
        let start = sim.now;
        sim.run(ms(2000));
        let trusted =
            [1, 2, 3, 5].into_iter().filter(|other| sim.state(id(*other), id(4)) == Some(NodeState::Up));
        assert_eq!(trusted.count(), 0, "seed {seed}");
        let down = |sim: &Sim| {
            [1, 2, 3, 5].into_iter().all(|other| sim.state(id(other), id(4)) == Some(NodeState::Down))
        };
        assert!(sim.run_until(ms(20_000), down).is_some());
        let took = sim.now.since(start);
        assert!(took >= SUSPICION_MAX && took <= SUSPICION_MAX + ms(4000), "it still speaks: {took:?}");
        sim.run(ms(20_000));
        sim.heal();
        let healed = sim.run_until(ms(10_000), Sim::all_up);
        assert!(healed.is_some_and(|took| took <= ms(4000)), "seed {seed}: {healed:?}");
    }
}

#[test]
fn views_are_equal_again_after_a_partition_heals() {
    let mut slowest = ms(0);
    for seed in 0..20 {
        let mut sim = Sim::settled(seed, 5, Weather::default());
        for a in [1, 2] {
            for b in [3, 4, 5] {
                sim.cut(id(a), id(b));
                sim.cut(id(b), id(a));
            }
        }
        sim.run(ms(10_000));
        assert_eq!(sim.state(id(1), id(3)), Some(NodeState::Down));
        assert_eq!(
            (sim.state(id(1), id(2)), sim.state(id(4), id(5))),
            (Some(NodeState::Up), Some(NodeState::Up))
        );
        sim.heal();
        let healed = sim.run_until(ms(10_000), Sim::all_up);
        slowest = slowest.max(healed.expect("equal in ten seconds"));
        sim.log.clear();
        sim.run(ms(10_000));
        assert_eq!(sim.log, [], "seed {seed}: and stay so");
    }
    println!("after a partition of 2 and 3 all agree within {slowest:?}");
    assert!(slowest <= ms(3000), "{slowest:?}");
}

#[test]
fn a_restarted_node_is_up_again_even_with_a_calendar_that_went_back() {
    for (run, within) in [(2_000_000, 1500), (10, 4000)] {
        for seed in 0..10 {
            let mut sim = Sim::settled(seed, 5, Weather::default());
            sim.kill(id(2));
            sim.run(ms(seed * 700));
            sim.start(id(2), run);
            let back = sim.run_until(ms(20_000), Sim::all_up);
            assert!(
                back.is_some_and(|took| took <= ms(within)),
                "seed {seed}, run {run}: {back:?} {:?}",
                sim.log
            );
        }
    }
}

#[test]
fn a_removed_node_is_forgotten_for_good_and_unknown_ones_are_not_heard() {
    let mut sim = Sim::settled(6, 5, Weather::default());
    let roster: BTreeMap<_, _> = [1, 2, 3, 5].map(|number| (id(number), Duty::Serving)).into();
    for number in [1, 2, 3, 5] {
        sim.with(id(number), |node, now| node.membership.set_roster(now, &roster).unwrap());
    }
    sim.run(ms(20_000));
    assert!([1, 2, 3, 5].into_iter().all(|other| sim.state(id(other), id(4)).is_none()));
    assert!(sim.refused > 0, "the removed node still talks");
    let later = sim.log.iter().filter(|(_, observer, event)| *observer != id(4) && event.node == id(4));
    assert_eq!(later.count(), 4, "each saw it go, once");
}

#[test]
fn a_new_node_joins_by_the_roster() {
    let mut sim = Sim::settled(7, 3, Weather::default());
    let mut roster: BTreeMap<_, _> = (1..=4).map(|number| (id(number), Duty::Serving)).collect();
    sim.set_roster(roster.clone());
    sim.start(id(4), 3_000_000);
    let took = sim.run_until(ms(5000), Sim::all_up);
    assert!(took.is_some_and(|took| took <= ms(1000)), "{took:?}");
    roster.insert(id(4), Duty::Draining);
    sim.set_roster(roster);
    assert!(sim.all_see(id(4), NodeState::Draining));
}

#[test]
fn a_packet_in_another_nodes_name_is_refused_and_a_roster_has_a_limit() {
    let mut a = Membership::new(id(1), 1, Box::new(SplitMix::new(1)), Tick(0));
    let mut b = Membership::new(id(2), 1, Box::new(SplitMix::new(2)), Tick(0));
    let roster: BTreeMap<_, _> = (1..=3).map(|number| (id(number), Duty::Serving)).collect();
    a.set_roster(Tick(0), &roster).unwrap();
    b.set_roster(Tick(0), &roster).unwrap();
    let packet = a.take_sends().into_iter().find(|packet| packet.to == id(2)).unwrap();
    let forged = b.packet(Tick(1), id(3), Way::Datagram, &packet.bytes);
    assert_eq!(forged, Err(GossipError::Forged { from: id(3), named: id(1) }));
    let damaged = b.packet(Tick(1), id(1), Way::Datagram, &packet.bytes[..9]);
    assert!(matches!(damaged, Err(GossipError::Malformed(_))));
    assert_eq!(b.packet(Tick(1), id(1), Way::Datagram, &packet.bytes), Ok(()));
    let crowd: BTreeMap<_, _> = (1..=MEMBERS_MAX as u64).map(|number| (id(number), Duty::Serving)).collect();
    assert!(a.set_roster(Tick(0), &crowd).is_ok());
    let too_many: BTreeMap<_, _> =
        (1..=MEMBERS_MAX as u64 + 1).map(|number| (id(number), Duty::Serving)).collect();
    assert!(a.set_roster(Tick(0), &too_many).is_err());
}
