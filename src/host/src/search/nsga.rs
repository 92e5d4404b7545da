//! Ranks of NSGA-II: non-dominated sorting with constraint domination, and crowding distance (Deb et al. 2002).

use std::cmp::Ordering;

/// Place of a network in its population.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rank {
    /// Number of the front, 0 the best.
    pub(super) front: usize,
    /// Crowding distance within the front; infinite at its ends.
    pub(super) crowding: f64,
}

impl Rank {
    /// Best first.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        self.front.cmp(&other.front).then(other.crowding.total_cmp(&self.crowding))
    }

    pub(super) fn better_than(&self, other: &Self) -> bool {
        self.order(other) == Ordering::Less
    }
}

/// Ranks of networks given the values that each minimises and how much it violates the constraint.
pub(super) fn ranks(networks: &[(Vec<f64>, f64)]) -> Vec<Rank> {
    let n = networks.len();
    let mut dominated_by = vec![0_usize; n];
    let mut dominates_whom: Vec<Vec<usize>> = vec![Vec::new(); n];
    for a in 0..n {
        for b in a + 1..n {
            let (winner, loser) = if dominates(&networks[a], &networks[b]) {
                (a, b)
            } else if dominates(&networks[b], &networks[a]) {
                (b, a)
            } else {
                continue;
            };
            dominated_by[loser] += 1;
            dominates_whom[winner].push(loser);
        }
    }
    let mut ranks = vec![Rank { front: 0, crowding: 0.0 }; n];
    let mut front: Vec<usize> = (0..n).filter(|&i| dominated_by[i] == 0).collect();
    let mut number = 0;
    while !front.is_empty() {
        for (&i, crowding) in front.iter().zip(crowding(&front, networks)) {
            ranks[i] = Rank { front: number, crowding };
        }
        let mut next = Vec::new();
        for &i in &front {
            for &j in &dominates_whom[i] {
                dominated_by[j] -= 1;
                if dominated_by[j] == 0 {
                    next.push(j);
                }
            }
        }
        next.sort_unstable();
        front = next;
        number += 1;
    }
    ranks
}

/// A smaller violation wins; without violations, being at least as good everywhere and better somewhere.
fn dominates((a, violates_a): &(Vec<f64>, f64), (b, violates_b): &(Vec<f64>, f64)) -> bool {
    if *violates_a > 0.0 || *violates_b > 0.0 {
        return violates_a < violates_b;
    }
    a.iter().zip(b).all(|(x, y)| x <= y) && a.iter().zip(b).any(|(x, y)| x < y)
}

/// Sum over the values of the relative distance between the two neighbours.
fn crowding(front: &[usize], networks: &[(Vec<f64>, f64)]) -> Vec<f64> {
    let mut distance = vec![0.0; front.len()];
    let Some(values) = front.first().map(|&i| networks[i].0.len()) else { return distance };
    for v in 0..values {
        let value = |n: usize| networks[front[n]].0[v];
        let mut order: Vec<usize> = (0..front.len()).collect();
        order.sort_by(|&a, &b| value(a).total_cmp(&value(b)));
        let (first, last) = (order[0], order[front.len() - 1]);
        let range = value(last) - value(first);
        (distance[first], distance[last]) = (f64::INFINITY, f64::INFINITY);
        if range > 0.0 {
            for w in order.windows(3) {
                distance[w[1]] += (value(w[2]) - value(w[0])) / range;
            }
        }
    }
    distance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fronts_crowding_and_violation_rank() {
        let free = |a: f64, b: f64| (vec![a, b], 0.0);
        let networks =
            [free(0.0, 4.0), free(1.0, 1.0), free(4.0, 0.0), free(2.0, 2.0), free(1.0, 3.0), (vec![0.0, 0.0], 0.1)];
        let ranks = ranks(&networks);
        let fronts: Vec<usize> = ranks.iter().map(|r| r.front).collect();
        assert_eq!(fronts, [0, 0, 0, 1, 1, 2]);
        assert!(ranks[0].crowding.is_infinite() && ranks[2].crowding.is_infinite());
        // Neighbours span the whole range of both values.
        assert!((ranks[1].crowding - 2.0).abs() < 1e-12);
        assert!(ranks[1].better_than(&ranks[3]) && ranks[0].better_than(&ranks[1]) && ranks[4].better_than(&ranks[5]));
        assert!(super::ranks(&[]).is_empty());
    }

    #[test]
    fn every_front_is_that_of_pairwise_comparison() {
        use rand::{RngExt as _, SeedableRng as _};
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        let draw = |rng: &mut rand_chacha::ChaCha8Rng| (0..3).map(|_| f64::from(rng.random_range(0..6_u8))).collect();
        let networks: Vec<(Vec<f64>, f64)> = (0..120).map(|_| (draw(&mut rng), 0.0)).collect();
        let ranks = ranks(&networks);
        for (i, rank) in ranks.iter().enumerate() {
            let worst = (0..networks.len()).filter(|&j| dominates(&networks[j], &networks[i])).map(|j| ranks[j].front);
            assert_eq!(rank.front, worst.max().map_or(0, |m| m + 1));
        }
    }
}
