//! Numbers of architectures by latency, in bins of equal width.

/// Counts from bin `start` on. Counts reach 1e30, so they are floats: exact to 1 in 2^52.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Histogram {
    start: usize,
    counts: Vec<f64>,
}

impl Histogram {
    /// `count` architectures in one bin.
    pub(super) fn point(bin: usize, count: f64) -> Self {
        Self { start: bin, counts: vec![count] }
    }

    pub(super) fn at(&self, bin: usize) -> f64 {
        bin.checked_sub(self.start).and_then(|i| self.counts.get(i)).copied().unwrap_or(0.0)
    }

    /// Bins that may hold something, with their counts.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.counts.iter().enumerate().map(|(i, count)| (self.start + i, *count))
    }

    /// Count in the bins `from..=to`.
    pub(super) fn sum(&self, from: usize, to: usize) -> f64 {
        let end = (to + 1).saturating_sub(self.start).min(self.counts.len());
        let begin = from.saturating_sub(self.start).min(end);
        self.counts[begin..end].iter().sum()
    }

    /// Adds `factor` times `other`, `shift` bins later.
    pub(super) fn add(&mut self, other: &Self, shift: usize, factor: f64) {
        if other.counts.is_empty() {
            return;
        }
        let (from, to) = (other.start + shift, other.start + shift + other.counts.len());
        if self.counts.is_empty() {
            self.start = from;
        }
        if from < self.start {
            let missing = self.start - from;
            self.counts.splice(0..0, std::iter::repeat_n(0.0, missing));
            self.start = from;
        }
        let len = self.counts.len().max(to - self.start);
        self.counts.resize(len, 0.0);
        for (sum, count) in self.counts[from - self.start..].iter_mut().zip(&other.counts) {
            *sum += factor * count;
        }
    }

    /// Counts of the pairs of one from each.
    pub(super) fn pairs(&self, other: &Self) -> Self {
        let (long, short) = if self.counts.len() < other.counts.len() { (other, self) } else { (self, other) };
        let mut pairs = Self::default();
        for (bin, count) in short.iter().filter(|(_, count)| *count > 0.0) {
            pairs.add(long, bin, count);
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::Histogram;

    #[test]
    fn pairs_count_every_combination() {
        let mut a = Histogram::point(3, 2.0);
        a.add(&Histogram::point(1, 1.0), 0, 1.0);
        let mut b = Histogram::point(10, 5.0);
        b.add(&Histogram::point(2, 1.0), 10, 4.0);
        let pairs = a.pairs(&b);
        assert_eq!(pairs, b.pairs(&a));
        let of = |bin| pairs.at(bin).round() as i32;
        assert_eq!([11, 12, 13, 14, 15, 16].map(of), [5, 0, 14, 0, 8, 0]);
        assert_eq!((pairs.sum(11, 13).round(), pairs.sum(0, 100).round(), pairs.sum(16, 20)), (19.0, 27.0, 0.0));
    }
}
