//! Mean intersection over union.

use crate::{Error, Result};

/// Class of pixels that count for nothing.
pub const IGNORED: u32 = 255;

/// How often pixels of one class were taken for another, over any number of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confusion {
    classes: usize,
    /// `[true class][found class]`
    counts: Vec<u64>,
}

impl Confusion {
    /// Of no pixels yet.
    pub fn new(classes: usize) -> Self {
        Self { classes, counts: vec![0; classes * classes] }
    }

    /// Adds pixels; those whose class is [`IGNORED`] are left out.
    ///
    /// # Errors
    /// When there are not as many of one as of the other, or a class is out of range.
    pub fn add(&mut self, truth: &[u32], found: &[u32]) -> Result<()> {
        if truth.len() != found.len() {
            return Err(Error::Batch(format!("{} classes found for {} pixels", found.len(), truth.len())));
        }
        for (t, f) in truth.iter().zip(found).filter(|(t, _)| **t != IGNORED) {
            let (t, f) = (*t as usize, *f as usize);
            if t.max(f) >= self.classes {
                return Err(Error::Batch(format!("class {} of {} classes", t.max(f), self.classes)));
            }
            self.counts[t * self.classes + f] += 1;
        }
        Ok(())
    }

    /// Intersection over union of each class; none for a class that is neither there nor found.
    pub fn ious(&self) -> Vec<Option<f64>> {
        let of = |class: usize| {
            let hit = self.counts[class * self.classes + class];
            let row: u64 = self.counts[class * self.classes..][..self.classes].iter().sum();
            let column: u64 = self.counts.iter().skip(class).step_by(self.classes).sum();
            let union = row + column - hit;
            (union > 0).then(|| hit as f64 / union as f64)
        };
        (0..self.classes).map(of).collect()
    }

    /// Mean over the classes that are there or found; none without pixels.
    pub fn mean_iou(&self) -> Option<f64> {
        let known: Vec<f64> = self.ious().into_iter().flatten().collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    }

    /// Share of the pixels whose class was found.
    pub fn accuracy(&self) -> f64 {
        let hits: u64 = self.counts.iter().step_by(self.classes + 1).sum();
        hits as f64 / self.counts.iter().sum::<u64>().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut c = Confusion::new(4);
        assert_eq!(c.mean_iou(), None);
        // Class 0: 2 of 3 found, one more taken for it; class 1: 1 of 2; class 2: none of 1; class 3: not there.
        c.add(&[0, 0, 0, 1], &[0, 0, 1, 1]).unwrap();
        c.add(&[1, 2, IGNORED], &[0, 1, 3]).unwrap();
        let want = [Some(2.0 / 4.0), Some(1.0 / 4.0), Some(0.0), None];
        assert_eq!(c.ious(), want);
        assert!((c.mean_iou().unwrap() - 0.25).abs() < 1e-12);
        assert!((c.accuracy() - 0.5).abs() < 1e-12);
        assert!(c.add(&[4], &[0]).is_err() && c.add(&[0], &[]).is_err());
    }
}
