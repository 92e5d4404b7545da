use serde::Serialize;

use super::counts::{curve_max, curve_mean, f_measure};
use super::scores::{Curve, ImageMetrics};
use super::{MetricError, Result, THRESHOLDS};

/// Measures of a whole data set; every image weighs the same.
///
/// Serialised with these names in this order.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DatasetSummary {
    /// Mean over images of the adaptive F.
    pub adp_f: f64,
    /// Maximum of the mean F curve.
    pub max_f: f64,
    /// Mean of the mean F curve.
    pub mean_f: f64,
    /// Maximum over thresholds of F from mean precision and mean recall: the "max F" of most papers.
    pub max_f_of_mean_precision_recall: f64,
    /// Mean weighted F.
    pub wfm: f64,
    /// Mean S-measure.
    pub sm: f64,
    /// Mean over images of the adaptive E.
    pub adp_e: f64,
    /// Maximum of the mean E curve.
    pub max_e: f64,
    /// Mean of the mean E curve.
    pub mean_e: f64,
    /// Mean absolute error.
    pub mae: f64,
}

/// Running sums over the images of a data set; keeps no image.
///
/// Sums of floats depend on their order in the last bits: push in a fixed order.
#[derive(Debug, Clone)]
pub struct DatasetMetrics {
    images: u64,
    precision: Curve,
    recall: Curve,
    f: Curve,
    e: Curve,
    adp_f: f64,
    adp_e: f64,
    wfm: f64,
    sm: f64,
    mae: f64,
}

impl Default for DatasetMetrics {
    fn default() -> Self {
        let zeros = [0.0; THRESHOLDS];
        Self {
            images: 0,
            precision: zeros,
            recall: zeros,
            f: zeros,
            e: zeros,
            adp_f: 0.0,
            adp_e: 0.0,
            wfm: 0.0,
            sm: 0.0,
            mae: 0.0,
        }
    }
}

impl DatasetMetrics {
    /// Adds one image.
    pub fn push(&mut self, image: &ImageMetrics) {
        let (scores, curves) = (&image.scores, &image.curves);
        self.images += 1;
        add(&mut self.precision, &curves.precision);
        add(&mut self.recall, &curves.recall);
        add(&mut self.f, &curves.f);
        add(&mut self.e, &curves.e);
        self.adp_f += scores.adp_f;
        self.adp_e += scores.adp_e;
        self.wfm += scores.wfm;
        self.sm += scores.sm;
        self.mae += scores.mae;
    }

    /// Images so far.
    pub fn images(&self) -> u64 {
        self.images
    }

    /// The data set's measures; an error without images.
    pub fn finish(&self) -> Result<DatasetSummary> {
        if self.images == 0 {
            return Err(MetricError::Empty { dir: None });
        }
        let n = self.images as f64;
        let (f, e) = (self.f.map(|v| v / n), self.e.map(|v| v / n));
        Ok(DatasetSummary {
            adp_f: self.adp_f / n,
            max_f: curve_max(&f),
            mean_f: curve_mean(&f),
            max_f_of_mean_precision_recall: max_f_of_sums(&self.precision, &self.recall, self.images),
            wfm: self.wfm / n,
            sm: self.sm / n,
            adp_e: self.adp_e / n,
            max_e: curve_max(&e),
            mean_e: curve_mean(&e),
            mae: self.mae / n,
        })
    }
}

/// Adds a curve to a sum, point by point.
pub(crate) fn add(sum: &mut Curve, curve: &Curve) {
    for (s, c) in sum.iter_mut().zip(curve) {
        *s += c;
    }
}

/// Maximum over thresholds of F from precision and recall summed over `images`.
pub(crate) fn max_f_of_sums(precision: &Curve, recall: &Curve, images: u64) -> f64 {
    let n = images as f64;
    precision.iter().zip(recall).map(|(p, r)| f_measure(p / n, r / n)).fold(0.0, f64::max)
}
