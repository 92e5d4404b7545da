//! Where inside a model an inference spends its time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One operator of a model as the runtime runs it, after fusion.
#[derive(Debug, Clone, PartialEq, JsonSchema, Serialize, Deserialize)]
pub struct OperatorTime {
    /// Name of the operator; runtimes derive it from the model's.
    pub name: String,
    /// What it does, in the runtime's terms.
    pub op: String,
    /// Mean of the middle half of the traced runs, microseconds: robust as a median, but finer than a clock that counts
    /// whole microseconds.
    pub us: f64,
}

impl OperatorTime {
    /// From the times of the traced runs; `None` when there were none.
    pub(crate) fn new(name: impl Into<String>, op: impl Into<String>, mut us: Vec<f64>) -> Option<Self> {
        us.sort_by(f64::total_cmp);
        let cut = us.len() / 4;
        let middle = &us[cut..us.len() - cut];
        let mean = middle.iter().sum::<f64>() / middle.len() as f64;
        (!middle.is_empty()).then(|| Self { name: name.into(), op: op.into(), us: (mean * 1e3).round() / 1e3 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_half_counts() {
        let us = |times: &[f64]| OperatorTime::new("a", "Conv", times.to_vec()).map(|o| o.us);
        assert_eq!(us(&[9.0, 2.0, 1.0, 3.0]), Some(2.5));
        assert_eq!(us(&[7.0]), Some(7.0));
        assert_eq!(us(&[]), None);
    }
}
