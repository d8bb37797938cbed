//! Owners of a key by weighted rendezvous hashing. Every node computes the same answer; nothing is stored or asked.
//!
//! A node's score for a key is `-weight / ln(u)`, where `u` in (0, 1) is a hash of the key and the node; the highest
//! scores own the key (Thaler and Ravishankar 1998 for the ranking; Schindelhauer and Schomaker 2005, the logarithmic
//! method, for the weights). A node that comes takes exactly its share, one that goes leaves exactly its share, and no
//! key moves between two others. The logarithm is computed here from operations whose results IEEE 754 fixes to the
//! bit, since a library's logarithm may differ between two builds and then two nodes would name different owners.

use tutti_base::NodeId;

/// The `copies` owners of `key` among `nodes`, best first; the first is asked first. A node is named once, with its
/// weight (its room for results, in any unit that all use). Nodes whose weight is not above 0 own nothing. Fewer than
/// `copies` come back where there are fewer such nodes. The order of `nodes` does not matter.
pub fn owners(key: u64, nodes: &[(NodeId, f64)], copies: usize) -> Vec<NodeId> {
    let able = nodes.iter().filter(|(_, weight)| *weight > 0.0);
    let mut ranked: Vec<(f64, NodeId)> =
        able.map(|(node, weight)| (score(key, *node, *weight), *node)).collect();
    let better = |a: &(f64, NodeId), b: &(f64, NodeId)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if copies > 0 && copies < ranked.len() {
        ranked.select_nth_unstable_by(copies - 1, better);
    }
    ranked.truncate(copies);
    ranked.sort_unstable_by(better);
    ranked.into_iter().map(|(_, node)| node).collect()
}

/// Whether `node` is among the `copies` owners of `key`.
pub fn owns(node: NodeId, key: u64, nodes: &[(NodeId, f64)], copies: usize) -> bool {
    owners(key, nodes, copies).contains(&node)
}

fn score(key: u64, node: NodeId, weight: f64) -> f64 {
    // 53 random bits and a half: never 0, never 1.
    let unit = ((mix(key ^ mix(node.0)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    weight / -natural_log(unit)
}

/// The finalizer of SplitMix64: every bit of the input moves half of the bits of the output.
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The logarithm of a normal number above 0, equal on every machine: `x = m * 2^e` with `m` near 1, and
/// `ln m = 2 artanh((m - 1) / (m + 1))` by its series, to about 1e-15.
fn natural_log(x: f64) -> f64 {
    const TERMS: u32 = 12;
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..TERMS).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    exponent as f64 * std::f64::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right() {
        for x in [1e-16, 5e-9, 0.001, 0.25, 0.5, 0.7, 0.75, 0.999_999, 1.0, 1.4, 2.0, 1e9] {
            let error = (natural_log(x) - f64::ln(x)).abs();
            assert!(error <= 4e-15 * f64::ln(x).abs().max(1.0), "ln {x} is off by {error}");
        }
    }

    #[test]
    fn owners_of_a_key_never_change_between_versions() {
        let nodes: Vec<_> = (1..=5).map(|id| (NodeId(id), id as f64)).collect();
        let found: Vec<u64> = (0..6).flat_map(|key| owners(key, &nodes, 2)).map(|node| node.0).collect();
        assert_eq!(found, GOLDEN, "nodes of two versions would name different owners");
    }

    const GOLDEN: [u64; 12] = [5, 3, 5, 3, 4, 2, 3, 2, 5, 2, 4, 5];

    #[test]
    fn a_node_without_room_owns_nothing() {
        let nodes = [(NodeId(1), 0.0), (NodeId(2), f64::NAN), (NodeId(3), -1.0), (NodeId(4), 1.0)];
        assert_eq!(owners(7, &nodes, 3), [NodeId(4)]);
        assert_eq!(owners(7, &nodes[..3], 3), []);
        assert_eq!(owners(7, &nodes, 0), []);
        assert!(owns(NodeId(4), 7, &nodes, 1) && !owns(NodeId(1), 7, &nodes, 1));
    }
}
