//! Robust statistics of a sample. An empty sample gives 0.

use crate::rng::Rng;

/// Arithmetic mean.
pub fn mean(sample: &[f64]) -> f64 {
    if sample.is_empty() { 0.0 } else { sample.iter().sum::<f64>() / sample.len() as f64 }
}

/// Median; the mean of the middle two for an even count.
pub fn median(sample: &[f64]) -> f64 {
    percentile(sample, 50.0)
}

/// Percentile `p` in 0..100, linear between neighbours.
pub fn percentile(sample: &[f64], p: f64) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    of_sorted(&sorted, p)
}

/// Median absolute deviation from the median, not scaled.
pub fn mad(sample: &[f64]) -> f64 {
    let centre = median(sample);
    median(&sample.iter().map(|x| (x - centre).abs()).collect::<Vec<_>>())
}

/// Percentile bootstrap confidence interval of the median at `level` (e.g. 0.95), a function of the seed.
pub fn median_ci(sample: &[f64], level: f64, resamples: usize, seed: u64) -> (f64, f64) {
    if sample.is_empty() {
        return (0.0, 0.0);
    }
    let mut rng = Rng::new(seed);
    let mut draw = vec![0.0; sample.len()];
    let medians: Vec<f64> = (0..resamples.max(1))
        .map(|_| {
            draw.fill_with(|| sample[rng.below(sample.len())]);
            draw.sort_by(f64::total_cmp);
            of_sorted(&draw, 50.0)
        })
        .collect();
    let tail = (1.0 - level) * 50.0;
    (percentile(&medians, tail), percentile(&medians, 100.0 - tail))
}

/// Ranks from 1, ties sharing their mean rank.
fn ranks(sample: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..sample.len()).collect();
    order.sort_by(|a, b| sample[*a].total_cmp(&sample[*b]));
    let mut ranks = vec![0.0; sample.len()];
    for tie in order.chunk_by(|a, b| sample[*a].total_cmp(&sample[*b]).is_eq()) {
        let value = sample[tie[0]];
        let below = sample.iter().filter(|x| x.total_cmp(&value).is_lt()).count();
        for i in tie {
            ranks[*i] = below as f64 + f64::midpoint(tie.len() as f64, 1.0);
        }
    }
    ranks
}

/// Spearman's rank correlation of pairs; 0 when one side does not vary.
pub fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (ranks(a), ranks(b));
    let (mean_a, mean_b) = (mean(&a), mean(&b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(&b).map(|(x, y)| f(x - mean_a, y - mean_b)).sum::<f64>();
    let spread = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    if spread > 0.0 { sum(&|x, y| x * y) / spread } else { 0.0 }
}

/// Kendall's rank correlation (tau-b) of pairs; 0 when one side does not vary.
pub fn kendall(a: &[f64], b: &[f64]) -> f64 {
    let (mut agree, mut varied_a, mut varied_b) = (0i64, 0i64, 0i64);
    let sign = |x: f64, y: f64| x.total_cmp(&y) as i64;
    for i in 0..a.len().min(b.len()) {
        for j in 0..i {
            let (x, y) = (sign(a[i], a[j]), sign(b[i], b[j]));
            agree += x * y;
            varied_a += x.abs();
            varied_b += y.abs();
        }
    }
    let spread = (varied_a as f64 * varied_b as f64).sqrt();
    if spread > 0.0 { agree as f64 / spread } else { 0.0 }
}

fn of_sorted(sorted: &[f64], p: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = (p / 100.0).clamp(0.0, 1.0) * last as f64;
    let (low, share) = (place as usize, place.fract());
    sorted[low] + (sorted[(low + 1).min(last)] - sorted[low]) * share
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "these results are exact")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;

    fn samples() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(0.0..1e6f64, 1..60)
    }

    #[test]
    fn rank_correlations_of_known_pairs() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!((spearman(&a, &a), kendall(&a, &a)), (1.0, 1.0));
        let back: Vec<f64> = a.iter().rev().copied().collect();
        assert_eq!((spearman(&a, &back), kendall(&a, &back)), (-1.0, -1.0));
        // One swap of neighbours: 1 - 6 * 2 / (5 * 24) and (9 - 1) / 10. Ties as scipy.stats has them.
        let swapped = [1.0, 3.0, 2.0, 4.0, 5.0];
        assert!((spearman(&a, &swapped) - 0.9).abs() < 1e-12 && (kendall(&a, &swapped) - 0.8).abs() < 1e-12);
        let tied = [1.0, 2.0, 2.0, 4.0, 5.0];
        assert!((kendall(&a, &tied) - 9.0 / 90f64.sqrt()).abs() < 1e-12);
        assert!((spearman(&a, &tied) - 9.5 / 95f64.sqrt()).abs() < 1e-12);
        assert_eq!((spearman(&a, &[7.0; 5]), kendall(&a, &[7.0; 5])), (0.0, 0.0));
    }

    proptest! {
        #[test]
        fn percentiles_rise_within_the_sample(sample in samples(), p in 0.0..100.0f64, q in 0.0..100.0f64) {
            let (low, high) = (percentile(&sample, p.min(q)), percentile(&sample, p.max(q)));
            prop_assert!(percentile(&sample, 0.0) <= low && low <= high && high <= percentile(&sample, 100.0));
        }

        #[test]
        fn order_does_not_matter_and_units_scale(sample in samples(), factor in 0.001..1000.0f64) {
            let reversed: Vec<f64> = sample.iter().rev().copied().collect();
            let scaled: Vec<f64> = sample.iter().map(|x| x * factor).collect();
            for statistic in [median, mad, mean] {
                let (value, tolerance) = (statistic(&sample), 1e-9 * (1.0 + median(&sample) + mean(&sample)));
                prop_assert!((statistic(&reversed) - value).abs() <= tolerance);
                prop_assert!((statistic(&scaled) - value * factor).abs() <= tolerance * (1.0 + factor));
            }
        }

        #[test]
        fn at_most_half_the_sample_moves_the_median(sample in samples(), spike in 1e7..1e12f64) {
            let mut spiked = sample.clone();
            let spikes = (sample.len() - 1) / 2;
            spiked[..spikes].fill(spike);
            prop_assert!(median(&spiked) <= percentile(&sample, 100.0));
        }

        #[test]
        fn interval_lies_within_the_sample_and_is_ordered(sample in samples(), seed in any::<u64>()) {
            let (low, high) = median_ci(&sample, 0.95, 50, seed);
            prop_assert!(percentile(&sample, 0.0) <= low && low <= high && high <= percentile(&sample, 100.0));
        }
    }

    #[test]
    fn of_known_samples() {
        let sample = [4.0, 1.0, 3.0, 2.0, 100.0];
        assert_eq!(median(&sample), 3.0);
        assert_eq!(mean(&sample), 22.0);
        assert_eq!(mad(&sample), 1.0);
        assert_eq!(percentile(&sample, 0.0), 1.0);
        assert_eq!(percentile(&sample, 100.0), 100.0);
        assert_eq!(percentile(&sample, 25.0), 2.0);
        assert_eq!(median(&[1.0, 2.0]), 1.5);
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median_ci(&[], 0.95, 10, 0), (0.0, 0.0));
    }

    #[test]
    fn interval_covers_the_median_about_as_often_as_it_says() {
        let mut rng = Rng::new(3);
        let covered = (0..300)
            .filter(|i| {
                let sample: Vec<f64> = (0..25).map(|_| f64::from(rng.signed_unit())).collect();
                let (low, high) = median_ci(&sample, 0.95, 200, *i);
                low <= 0.0 && 0.0 <= high
            })
            .count();
        assert!((270..=299).contains(&covered), "{covered} of 300");
    }

    #[test]
    fn interval_narrows_with_the_sample_and_repeats_with_the_seed() {
        let sample: Vec<f64> = (0..400).map(|i| f64::from(i * 37 % 101)).collect();
        let width = |n: usize| {
            let (low, high) = median_ci(&sample[..n], 0.95, 300, 1);
            high - low
        };
        assert!(width(400) < width(20) / 2.0);
        assert_eq!(median_ci(&sample, 0.95, 300, 1), median_ci(&sample, 0.95, 300, 1));
    }
}
