//! Non-negative least squares (Lawson and Hanson, "Solving Least Squares Problems", 1974, algorithm 23.10), for the few
//! coefficients of a latency model.

/// Coefficients `x >= 0` that minimise the squared error of `rows · x` to `values`; all rows have the same length.
pub(crate) fn solve(rows: &[Vec<f64>], values: &[f64]) -> Vec<f64> {
    let n = rows.first().map_or(0, Vec::len);
    // Columns are scaled to length 1, so that the units of the features do not matter.
    let scale: Vec<f64> = (0..n).map(|j| rows.iter().map(|r| r[j] * r[j]).sum::<f64>().sqrt()).collect();
    let unit = |r: &[f64], j: usize| if scale[j] > 0.0 { r[j] / scale[j] } else { 0.0 };
    let gram: Vec<Vec<f64>> =
        (0..n).map(|i| (0..n).map(|j| rows.iter().map(|r| unit(r, i) * unit(r, j)).sum()).collect()).collect();
    let right: Vec<f64> = (0..n).map(|j| rows.iter().zip(values).map(|(r, v)| unit(r, j) * v).sum()).collect();
    let tolerance = 1e-12 * right.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(f64::MIN_POSITIVE);
    let mut x = vec![0.0; n];
    let mut active: Vec<usize> = Vec::new();
    // Each round adds a feature; the bound only guards against rounding that never settles.
    for _ in 0..10 * n.max(1) {
        let slope = |j: usize| right[j] - (0..n).map(|i| gram[j][i] * x[i]).sum::<f64>();
        let best = (0..n).filter(|j| !active.contains(j) && scale[*j] > 0.0);
        let Some(j) = best.max_by(|a, b| slope(*a).total_cmp(&slope(*b))).filter(|j| slope(*j) > tolerance) else {
            break;
        };
        active.push(j);
        while let Some(trial) = restricted(&gram, &right, &active) {
            if trial.iter().all(|v| *v > 0.0) {
                x.fill(0.0);
                active.iter().zip(&trial).for_each(|(j, v)| x[*j] = *v);
                break;
            }
            let steps = active.iter().zip(&trial).filter(|(_, t)| **t <= 0.0).map(|(j, t)| x[*j] / (x[*j] - t));
            let step = steps.fold(1.0f64, f64::min);
            active.iter().zip(&trial).for_each(|(j, t)| x[*j] += step * (t - x[*j]));
            let before = active.len();
            active.retain(|j| x[*j] > 1e-12);
            if active.len() == before || active.is_empty() {
                break;
            }
        }
    }
    x.iter().zip(&scale).map(|(v, s)| if *s > 0.0 { v / s } else { 0.0 }).collect()
}

/// Least squares over the active features, by elimination with pivoting; `None` when they depend on each other.
fn restricted(gram: &[Vec<f64>], right: &[f64], active: &[usize]) -> Option<Vec<f64>> {
    let n = active.len();
    let mut a: Vec<Vec<f64>> = active
        .iter()
        .map(|i| active.iter().map(|j| gram[*i][*j] + if i == j { 1e-12 } else { 0.0 }).chain([right[*i]]).collect())
        .collect();
    for c in 0..n {
        let pivot = (c..n).max_by(|p, q| a[*p][c].abs().total_cmp(&a[*q][c].abs()))?;
        a.swap(c, pivot);
        if a[c][c].abs() < 1e-13 {
            return None;
        }
        for r in 0..n {
            if r != c {
                let factor = a[r][c] / a[c][c];
                let above = a[c].clone();
                a[r].iter_mut().zip(&above).skip(c).for_each(|(x, y)| *x -= factor * y);
            }
        }
    }
    Some((0..n).map(|i| a[i][n] / a[i][i]).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    fn rows(seed: u64, n: usize, m: usize) -> Vec<Vec<f64>> {
        let mut rng = Rng::new(seed);
        (0..m).map(|_| (0..n).map(|_| f64::from(rng.signed_unit()).abs() + 0.01).collect()).collect()
    }

    proptest! {
        #[test]
        fn recovers_non_negative_coefficients(seed in any::<u64>(), truth in prop::collection::vec(0.0f64..5.0, 1..6)) {
            let rows = rows(seed, truth.len(), 30);
            let values: Vec<f64> = rows.iter().map(|r| r.iter().zip(&truth).map(|(a, b)| a * b).sum()).collect();
            for (x, t) in solve(&rows, &values).iter().zip(&truth) {
                prop_assert!((x - t).abs() < 1e-6, "{x} {t}");
            }
        }

        /// The conditions of Karush, Kuhn and Tucker: no coefficient can be changed for the better.
        #[test]
        fn solution_is_optimal(seed in any::<u64>(), n in 1usize..7) {
            let rows = rows(seed, n, 20);
            let mut rng = Rng::new(seed ^ 1);
            let values: Vec<f64> = (0..20).map(|_| f64::from(rng.signed_unit())).collect();
            let x = solve(&rows, &values);
            for j in 0..n {
                let slope: f64 = rows.iter().zip(&values)
                    .map(|(r, v)| r[j] * (v - r.iter().zip(&x).map(|(a, b)| a * b).sum::<f64>())).sum();
                prop_assert!(x[j] >= 0.0);
                prop_assert!(slope < 1e-6, "{slope}");
                prop_assert!(x[j] < 1e-9 || slope.abs() < 1e-6, "{slope}");
            }
        }
    }

    #[test]
    fn nothing_and_zeros_give_zeros() {
        assert!(solve(&[], &[]).is_empty());
        let x = solve(&[vec![0.0, 1.0], vec![0.0, 2.0]], &[2.0, 4.0]);
        assert!(x[0].abs() < 1e-12 && (x[1] - 2.0).abs() < 1e-9, "{x:?}");
    }
}
