//! Pareto fronts of latency (lower is better) and score (higher is better), thesis algorithm 1, step S2.

use std::cmp::Ordering;

use inas_space::Micros;

/// A network as the selection sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Latency, in any unit; lower is better.
    pub latency: f64,
    /// Score; higher is better.
    pub score: f64,
}

impl Point {
    /// Whether this point is at least as good in both respects and better in one.
    pub fn dominates(&self, other: &Self) -> bool {
        self.latency <= other.latency
            && self.score >= other.score
            && (self.latency < other.latency || self.score > other.score)
    }

    /// Fast first; among equally fast ones the better score first.
    fn order(&self, other: &Self) -> Ordering {
        self.latency.total_cmp(&other.latency).then(other.score.total_cmp(&self.score))
    }
}

/// Indices of the points that no other dominates, latency increasing. Equal points are all kept.
pub fn front(points: &[Point]) -> Vec<usize> {
    peel(points, &mut sorted(points))
}

/// The points that no other dominates, each once.
pub fn front_points(points: &[Point]) -> Vec<Point> {
    let mut front: Vec<Point> = front(points).into_iter().map(|i| points[i]).collect();
    front.dedup();
    front
}

/// [`hypervolume`] down to F = 0 and the slowest latency, as a share of the reachable latency range times 1.
pub fn relative_hypervolume(points: &[Point], (lowest, highest): (Micros, Micros)) -> f64 {
    let area = hypervolume(points, Point { latency: highest.0, score: 0.0 });
    if highest.0 > lowest.0 { area / (highest.0 - lowest.0) } else { 0.0 }
}

/// All fronts, the best first; together they hold every index once.
pub fn fronts(points: &[Point]) -> Vec<Vec<usize>> {
    let mut left = sorted(points);
    let mut fronts = Vec::new();
    while !left.is_empty() {
        fronts.push(peel(points, &mut left));
    }
    fronts
}

/// Selects up to `quotas[g]` points of each group `g` from successive fronts, until every quota is full or nothing is
/// left. When a front holds more of a group than its quota has room for, the best scores are taken.
///
/// `groups[i]` is the group of point `i`. Returns indices, front by front.
pub fn select(points: &[Point], groups: &[usize], quotas: &[usize]) -> Vec<usize> {
    let mut room = quotas.to_vec();
    let mut left = sorted(points);
    let mut chosen = Vec::new();
    while !left.is_empty() && room.iter().any(|r| *r > 0) {
        let mut layer = peel(points, &mut left);
        // Stable: equal scores stay in latency order.
        layer.sort_by(|a, b| points[*b].score.total_cmp(&points[*a].score));
        for i in layer {
            if let Some(room) = room.get_mut(groups[i]).filter(|r| **r > 0) {
                *room -= 1;
                chosen.push(i);
            }
        }
    }
    chosen
}

/// Area dominated by `points` down to `reference` (the worst latency and score), in latency times score.
///
/// Points that are not better than the reference in both respects add nothing.
pub fn hypervolume(points: &[Point], reference: Point) -> f64 {
    let mut area = 0.0;
    let mut floor = reference.score;
    for i in front(points) {
        let p = points[i];
        if p.latency < reference.latency && p.score > floor {
            area += (reference.latency - p.latency) * (p.score - floor);
            floor = p.score;
        }
    }
    area
}

fn sorted(points: &[Point]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|a, b| points[*a].order(&points[*b]));
    order
}

/// Takes the first front out of `left`, which is in [`Point::order`].
fn peel(points: &[Point], left: &mut Vec<usize>) -> Vec<usize> {
    let mut best: Option<Point> = None;
    let mut front = Vec::new();
    left.retain(|&i| {
        let p = points[i];
        let kept = best.is_none_or(|b| p.score > b.score || p == b);
        if kept {
            best = Some(p);
            front.push(i);
        }
        !kept
    });
    front
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Coarse values, so that ties are common.
    fn random_points(seed: u64) -> Vec<Point> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let n = rng.random_range(0..60);
        let mut value = |top: u32| f64::from(rng.random_range(0..top));
        (0..n).map(|_| Point { latency: value(12), score: value(9) }).collect()
    }

    #[test]
    fn front_is_exactly_the_points_that_nothing_dominates() {
        for seed in 0..500 {
            let points = random_points(seed);
            let mut found = front(&points);
            found.sort_unstable();
            let free = |i: &usize| !points.iter().any(|p| p.dominates(&points[*i]));
            let expected: Vec<usize> = (0..points.len()).filter(free).collect();
            assert_eq!(found, expected, "seed {seed}");
        }
    }

    #[test]
    fn fronts_hold_every_point_once_and_each_is_dominated_by_the_one_before() {
        for seed in 0..200 {
            let points = random_points(seed);
            let fronts = fronts(&points);
            let mut all: Vec<usize> = fronts.concat();
            all.sort_unstable();
            assert_eq!(all, (0..points.len()).collect::<Vec<_>>());
            for pair in fronts.windows(2) {
                for i in &pair[1] {
                    assert!(pair[0].iter().any(|j| points[*j].dominates(&points[*i])));
                }
            }
        }
    }

    #[test]
    fn selection_fills_quotas_as_far_as_the_groups_go() {
        for seed in 0..200 {
            let points = random_points(seed);
            let groups: Vec<usize> = points.iter().map(|p| p.latency as usize / 4).collect();
            let quotas = [3, 0, 5];
            let chosen = select(&points, &groups, &quotas);
            for (g, quota) in quotas.iter().enumerate() {
                let members = groups.iter().filter(|x| **x == g).count();
                assert_eq!(chosen.iter().filter(|i| groups[**i] == g).count(), members.min(*quota));
            }
            let mut distinct = chosen.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), chosen.len());
        }
    }

    #[test]
    #[allow(clippy::float_cmp)] // small integers
    fn hypervolume_is_the_area_of_the_staircase() {
        let point = |latency, score| Point { latency, score };
        let reference = point(10.0, 0.0);
        assert_eq!(hypervolume(&[], reference), 0.0);
        assert_eq!(hypervolume(&[point(2.0, 1.0)], reference), 8.0);
        let points = [point(2.0, 1.0), point(4.0, 3.0), point(5.0, 2.0), point(12.0, 9.0)];
        assert_eq!(hypervolume(&points, reference), 8.0 + 6.0 * 2.0);
    }
}
