//! Agreement of two rankings.

/// Kendall's tau-a: concordant less discordant pairs, over all pairs; ties count in neither (spec section 13.1).
/// None for fewer than two values or lists of two lengths.
pub fn tau(a: &[f64], b: &[f64]) -> Option<f64> {
    let n = a.len();
    if n < 2 || b.len() != n {
        return None;
    }
    let sign = |x: f64, y: f64| {
        if x > y {
            1
        } else if x < y {
            -1
        } else {
            0
        }
    };
    let sum: i64 =
        (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| sign(a[i], a[j]) * sign(b[i], b[j])).sum();
    Some(sum as f64 / (n * (n - 1) / 2) as f64)
}

#[cfg(test)]
mod tests {
    use super::tau;

    #[test]
    fn ordered_reversed_swapped() {
        let up: Vec<f64> = (0..10).map(f64::from).collect();
        let down: Vec<f64> = up.iter().map(|v| -v).collect();
        let mut swapped = up.clone();
        swapped.swap(3, 4);
        assert_eq!(tau(&up, &up), Some(1.0));
        assert_eq!(tau(&up, &down), Some(-1.0));
        assert_eq!(tau(&up, &swapped), Some(43.0 / 45.0));
        assert_eq!(tau(&up, &[1.0]), None);
        // A tie of two counts in neither sum.
        assert_eq!(tau(&[1.0, 1.0, 2.0], &[1.0, 2.0, 3.0]), Some(2.0 / 3.0));
    }
}
