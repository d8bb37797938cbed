//! Properties of owners: what moves when a node comes or goes, whether weights are kept, whether all nodes agree.

use proptest::prelude::*;
use tutti_base::NodeId;
use tutti_placement::owners;

const KEYS: u64 = 4000;

fn nodes() -> impl Strategy<Value = Vec<(NodeId, f64)>> {
    let weighted = proptest::collection::btree_map(1_u64.., 1_u32..=16, 2..24);
    weighted.prop_map(|map| map.into_iter().map(|(id, weight)| (NodeId(id), f64::from(weight))).collect())
}

fn total(nodes: &[(NodeId, f64)]) -> f64 {
    nodes.iter().map(|(_, weight)| weight).sum()
}

/// Four standard deviations of a share that is counted over the keys.
fn tolerance(share: f64) -> f64 {
    4.0 * (share * (1.0 - share) / KEYS as f64).sqrt() + 1.0 / KEYS as f64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn losing_a_node_moves_its_keys_alone(nodes in nodes(), lost in any::<prop::sample::Index>()) {
        let at = lost.index(nodes.len());
        let (gone, weight) = nodes[at];
        let mut left = nodes.clone();
        left.remove(at);
        let mut moved = 0;
        for key in 0..KEYS {
            let (before, after) = (owners(key, &nodes, 1), owners(key, &left, 1));
            prop_assert!(before == after || before == [gone], "key {} moved between two that stayed", key);
            moved += u64::from(before != after);
        }
        let (share, fair) = (moved as f64 / KEYS as f64, weight / total(&nodes));
        prop_assert!(share <= fair + tolerance(fair), "{} of the keys moved, its share is {}", share, fair);
    }

    #[test]
    fn with_two_copies_the_second_owner_becomes_the_first(nodes in nodes(), key in any::<u64>()) {
        let both = owners(key, &nodes, 2);
        let left: Vec<_> = nodes.iter().copied().filter(|(node, _)| *node != both[0]).collect();
        prop_assert_eq!(owners(key, &left, 1)[0], both[1]);
    }

    #[test]
    fn weights_are_kept(nodes in nodes(), salt in any::<u64>()) {
        let mut owned = vec![0_u64; nodes.len()];
        for key in 0..KEYS {
            let owner = owners(salt ^ key, &nodes, 1)[0];
            owned[nodes.iter().position(|(node, _)| *node == owner).unwrap()] += 1;
        }
        for ((node, weight), owned) in nodes.iter().zip(owned) {
            let (share, fair) = (owned as f64 / KEYS as f64, weight / total(&nodes));
            // The wider of a statistical bound and a little: 48 cases of up to 24 nodes each are looked at.
            let bound = tolerance(fair).max(0.01) * 1.5;
            prop_assert!((share - fair).abs() <= bound, "{} owns {} of the keys for {}", node, share, fair);
        }
    }

    #[test]
    fn every_node_names_the_same_owners_whatever_order_it_knows_them_in(
        (nodes, shuffled) in nodes().prop_flat_map(|n| (Just(n.clone()), Just(n).prop_shuffle())),
        key in any::<u64>(),
        copies in 0_usize..6,
    ) {
        let found = owners(key, &nodes, copies);
        prop_assert_eq!(&found, &owners(key, &shuffled, copies));
        prop_assert_eq!(found.len(), copies.min(nodes.len()));
        prop_assert!(found.iter().enumerate().all(|(at, node)| !found[..at].contains(node)));
        prop_assert_eq!(&found[..], &owners(key, &nodes, nodes.len())[..found.len()]);
    }

    #[test]
    fn weights_in_another_unit_change_nothing(nodes in nodes(), key in any::<u64>()) {
        let scaled: Vec<_> = nodes.iter().map(|(node, weight)| (*node, weight * 1024.0)).collect();
        prop_assert_eq!(owners(key, &nodes, 3), owners(key, &scaled, 3));
    }
}
