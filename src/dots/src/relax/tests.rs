#![expect(clippy::float_cmp, reason = "exact by construction")]

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{CellGenotype, EdgeRule, OPS, derive, edges};

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

fn random(shapes: &[(&'static str, usize)], scale: f64, seed: u64) -> Logits {
    let mut rng = rng(seed);
    shapes.iter().map(|(_, n)| (0..*n).map(|_| rng.random_range(-scale..scale)).collect()).collect()
}

fn retained() -> Vec<Vec<Op>> {
    let mut all = vec![vec![Op::Skip, Op::Sep3]; EDGES];
    all[3] = vec![Op::Zero, Op::Dil5];
    all
}

fn topology(rule: EdgeRule, share: bool, temperature: f64) -> Topology {
    Topology { retained: retained(), rule, share, temperature, op_temperature: temperature * 0.5 }
}

/// Central differences of a random projection of the factors.
#[track_caller]
fn check_gradient(relaxation: &dyn Relaxation, by: &Factors) {
    let mut logits = random(&relaxation.shapes(), 0.7, 3);
    let value = |logits: &Logits| -> f64 {
        let f = relaxation.relax(logits, &mut rng(5)).factors;
        let ops: f64 = f.ops.iter().flatten().zip(by.ops.iter().flatten()).map(|(a, b)| a * b).sum();
        ops + f.edges.iter().zip(&by.edges).map(|(a, b)| a * b).sum::<f64>()
    };
    let ours = relaxation.relax(&logits, &mut rng(5)).backward(by);
    for i in 0..logits.len() {
        for j in 0..logits[i].len() {
            let start = logits[i][j];
            let mut at = |d: f64| {
                logits[i][j] = start + d;
                value(&logits)
            };
            let numeric = (at(1e-6) - at(-1e-6)) / 2e-6;
            logits[i][j] = start;
            assert!((ours[i][j] - numeric).abs() < 1e-7, "{relaxation:?} {i} {j}: {} {numeric}", ours[i][j]);
        }
    }
}

fn projection() -> Factors {
    let mut rng = rng(9);
    let mut by = Factors::default();
    by.ops.iter_mut().flatten().chain(&mut by.edges).for_each(|v| *v = rng.random_range(-1.0..1.0));
    by
}

#[test]
fn gradients_are_slopes() {
    let single = || vec![vec![Op::Skip]; EDGES];
    let all: [&dyn Relaxation; 11] = [
        &Grouped::v1(),
        &Grouped::v2(),
        &Grouped::darts(),
        &Concrete { temperature: 0.8 },
        &PartialChannels,
        &topology(EdgeRule::Two, false, 0.7),
        &topology(EdgeRule::Any, true, 1.3),
        &Topology { retained: single(), ..topology(EdgeRule::Two, true, 1.0) },
        &EdgeGates { retained: retained(), op_temperature: 0.9, gate: Gate::Softmax },
        &EdgeGates { retained: retained(), op_temperature: 0.9, gate: Gate::Sigmoid },
        &EdgeGates { retained: single(), op_temperature: 0.9, gate: Gate::Sigmoid },
    ];
    for relaxation in all {
        check_gradient(relaxation, &projection());
    }
}

/// The forward pass is a choice, the gradient that of the noisy softmax.
#[test]
fn straight_through_is_the_gradient_of_the_soft_sample() {
    let (hard, soft) = (GumbelMax { temperature: 0.6 }, Concrete { temperature: 0.6 });
    let logits = random(&hard.shapes(), 1.0, 1);
    let (h, s) = (hard.relax(&logits, &mut rng(4)), soft.relax(&logits, &mut rng(4)));
    for (h, s) in h.factors.ops.iter().zip(&s.factors.ops) {
        assert_eq!(h.iter().sum::<f64>(), 1.0);
        assert_eq!(h[derive::first_largest(s)], 1.0);
    }
    assert_eq!(h.backward(&projection()), s.backward(&projection()));
}

#[test]
fn groups_are_added_not_averaged() {
    let groups = Grouped::v2();
    let logits = groups.initial(&mut rng(0));
    let factors = groups.relax(&logits, &mut rng(0)).factors;
    assert!(factors.ops.iter().flatten().all(|v| *v == 0.25));
    assert_eq!(Grouped::v1().operations()[0], OPS[1..]);
}

/// Spec section 18.
#[test]
fn pairs_of_three_edges() {
    let node = |share: bool| {
        let t = topology(EdgeRule::Two, share, 0.5);
        let mut logits = t.initial(&mut rng(0));
        logits[1][1..4].copy_from_slice(&[0.3, -0.1, 0.2]);
        (t.combination_weights(&logits)[1].clone(), t.edge_weights(&logits)[edges(1)].to_vec())
    };
    let close = |a: &[f64], b: &[f64]| a.iter().zip(b).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "{a} {b}"));
    close(&node(true).0, &[0.440_905, 0.198_112, 0.360_983]);
    close(&node(true).1, &[0.319_509, 0.400_944, 0.279_547]);
    close(&node(false).1, &[0.639_017, 0.801_888, 0.559_095]);
    let t = topology(EdgeRule::Any, true, 0.5);
    let mut logits = t.initial(&mut rng(0));
    for (i, b) in logits[1][3..10].iter_mut().enumerate() {
        *b = (i + 1) as f64 / 10.0;
    }
    let p = [0.072_468, 0.088_512, 0.108_109, 0.132_044, 0.161_279, 0.196_987, 0.240_601];
    close(&t.combination_weights(&logits)[1], &p);
    close(&t.edge_weights(&logits)[edges(1)], &[0.287_362, 0.321_260, 0.391_378]);
}

/// The two edges of largest weight need not be the pair of largest weight: the pair counts.
#[test]
fn pairs_are_derived_not_edges() {
    let t = topology(EdgeRule::Two, false, 1.0);
    let mut logits = t.initial(&mut rng(0));
    let p = [0.3f64, 0.25, 0.01, 0.25, 0.01, 0.18];
    logits[1][4..10].copy_from_slice(&p.map(f64::ln));
    let of = |cell: CellGenotype| cell.0[2].iter().map(|(_, s)| *s).collect::<Vec<_>>();
    let ops = derive::derived_ops(&t.retained, Some(&logits[0])).unwrap();
    assert_eq!(of(derive::two_edges(&ops, &t.edge_weights(&logits))), [0, 2]);
    assert_eq!(of(t.derive(&logits).unwrap()), [0, 1]);
}

/// The first node has one pair: nothing to learn.
#[test]
fn a_single_pair_has_no_gradient() {
    let t = topology(EdgeRule::Two, false, 0.7);
    let by = t.relax(&random(&t.shapes(), 0.7, 3), &mut rng(0)).backward(&projection());
    assert_eq!(by[1][0], 0.0);
    assert!(by[1][1..].iter().all(|g| *g != 0.0));
}

/// At the last temperature the losing operation has the weight zero and nothing is lost.
#[test]
fn cold_operations_are_exactly_off() {
    let t = Topology { op_temperature: 0.02e-3, ..topology(EdgeRule::Two, false, 0.02) };
    let mut logits = t.initial(&mut rng(0));
    for pair in logits[0].chunks_exact_mut(2) {
        pair[1] = 0.05;
    }
    let relaxed = t.relax(&logits, &mut rng(0));
    for (row, ops) in relaxed.factors.ops.iter().zip(&t.retained) {
        assert!(row[ops[0].column()] == 0.0 && row[ops[1].column()] > 0.0);
    }
    assert!(relaxed.backward(&projection()).iter().flatten().all(|g| g.is_finite()));
}

#[test]
fn uniform_edges() {
    for node in 0..4 {
        let n = f64::from(node + 2);
        for (rule, share, want) in [
            (EdgeRule::Two, true, 1.0 / n),
            (EdgeRule::Two, false, 2.0 / n),
            (EdgeRule::Any, true, 1.0 / n),
            (EdgeRule::Any, false, 2f64.powi(node + 1) / (2f64.powi(node + 2) - 1.0)),
        ] {
            let t = topology(rule, share, 10.0);
            let gates = t.edge_weights(&t.initial(&mut rng(0)));
            gates[edges(node as usize)].iter().for_each(|g| assert!((g - want).abs() < 1e-12, "{rule:?} {g} {want}"));
        }
    }
}

/// Spec section 5.4: the supernet mutes the edge, the derived cell does not.
#[test]
fn zero_is_never_derived() {
    let t = topology(EdgeRule::Two, false, 1.0);
    let mut logits = t.initial(&mut rng(0));
    logits[0][3 * 2..3 * 2 + 2].copy_from_slice(&[5.0, 0.0]);
    let cell = t.derive(&logits).unwrap();
    assert_eq!(cell.0[1], [(Op::Skip, 0), (Op::Dil5, 1)]);
    assert_eq!(derive::muted_edges(&t.retained, Some(&logits[0])), [3]);
    assert!(t.relax(&logits, &mut rng(0)).factors.ops[3][Op::Dil5.column()] < 0.01);
}

/// Figure 2.7: the operations found on CIFAR-10 and its topology give the published normal cell.
#[test]
fn the_thesis_s_figure_gives_the_published_cell() {
    use Op::{Dil3, Dil5, Sep3, Skip, Zero};
    let convs = [Dil3, Sep3, Sep3, Sep3, Sep3, Sep3, Sep3, Dil3, Dil3, Dil5, Sep3, Sep3, Dil3, Sep3];
    let free = |e: usize| if e == 13 { Zero } else { Skip };
    let retained: Vec<Vec<Op>> = convs.iter().enumerate().map(|(e, conv)| vec![free(e), *conv]).collect();
    let t = Topology { retained, ..topology(EdgeRule::Two, false, 1.0) };
    let mut logits = t.initial(&mut rng(0));
    // Pairs (0 1), (0 1), (0 1), (1 3); skip on the first edge and on the one from node 1 into the last node.
    for (node, pair) in [(1, 0), (2, 0), (3, 5)] {
        let at: usize = [0, 1, 4, 10][node] + pair;
        logits[1][at] = 1.0;
    }
    for e in 0..EDGES {
        let skip = e == 0 || e == edges(3).start + 1;
        logits[0][2 * e + usize::from(!skip)] = 1.0;
    }
    assert_eq!(t.derive(&logits).unwrap(), crate::Genotype::published("dots-c10").unwrap().normal);
}

#[test]
fn untrained_groups_keep_the_first_of_each() {
    let groups = Grouped::v2();
    let scores = groups.scores(&groups.initial(&mut rng(0)));
    assert_eq!(derive::retain_groups(&scores, groups.groups()), vec![vec![Op::Zero, Op::Sep3]; EDGES]);
    assert_eq!(derive::retain_top(&scores, 2), vec![vec![Op::MaxPool, Op::AvgPool]; EDGES]);
}

#[test]
fn darts_s_rule_orders_by_weight() {
    let mut scores = [[0.0; 8]; EDGES];
    scores[edges(1).start][Op::Zero.column()] = 0.9;
    scores[edges(1).start + 1][Op::Sep5.column()] = 0.2;
    scores[edges(1).start + 2][Op::Skip.column()] = 0.3;
    let CellGenotype(nodes) = derive::darts(&scores);
    assert_eq!(nodes[1], [(Op::Skip, 2), (Op::Sep5, 1)]);
    // Equal weights: the first edges, the first operation.
    assert_eq!(nodes[3], [(Op::MaxPool, 0), (Op::MaxPool, 1)]);
}

#[test]
fn edge_baselines_choose() {
    let mut logits = vec![vec![0.0; EDGES * 2], vec![-1.0; EDGES]];
    logits[1][edges(2).start + 3] = 2.0;
    logits[1][edges(3).start] = 0.5;
    logits[1][edges(3).start + 4] = 1.5;
    logits[1][edges(3).start + 2] = 1.0;
    let ops = derive::derived_ops(&retained(), Some(&logits[0])).unwrap();
    let sources = |cell: &CellGenotype| -> Vec<Vec<usize>> {
        cell.0.iter().map(|n| n.iter().map(|(_, s)| *s).collect()).collect()
    };
    let open = derive::open_edges(&ops, &Gate::Sigmoid.of(&logits));
    assert_eq!(sources(&open), [vec![0], vec![0], vec![3], vec![0, 2, 4]]);
    let two = derive::two_edges(&ops, &Gate::Softmax.of(&logits));
    assert_eq!(sources(&two), [vec![0, 1], vec![0, 1], vec![0, 3], vec![2, 4]]);
}
