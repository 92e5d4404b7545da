//! Ranges of activations for static int8 quantisation, from calibration images.

use std::collections::BTreeMap;

use inas_graph::{Graph, OnnxOptions, Ranges};
use inas_profiler::backend::Backend;
use rayon::prelude::*;

use crate::export::ExportError;

/// Values of a tensor looked at per image.
const VALUES: usize = 2048;

/// Fractions of the full range that are tried: clipping rare large values makes the common ones finer.
const SHRINK: [f32; 12] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1];

/// Range of every tensor that int8 quantises: the one with the least mean squared rounding and clipping error over
/// `images` (each `[3, px, px]`, normalised), run in float32.
///
/// Every image adds up to 2048 evenly spaced values of a tensor, and its full minimum and maximum.
pub fn calibrate(graph: &Graph, images: &[Vec<f32>], runtime: &dyn Backend) -> Result<Ranges, ExportError> {
    let observed = graph.observed();
    let names: Vec<String> = observed.outputs().map(|v| v.name.clone()).collect();
    let mut session = runtime.load(&observed.to_onnx(&OnnxOptions::default())?)?;
    let mut seen: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for image in images {
        let input = graph.inputs().map(|v| (v.name.clone(), image.clone()));
        session.set_inputs(&[image])?;
        session.run()?;
        let outputs = names.iter().enumerate().map(|(i, name)| Ok((name.clone(), session.output(i)?)));
        for tensor in input.map(Ok).chain(outputs) {
            let (name, values): (String, Vec<f32>) =
                tensor.map_err(|e: inas_profiler::backend::Error| ExportError::from(e))?;
            let kept = seen.entry(name).or_default();
            kept.extend(values.iter().step_by(values.len().div_ceil(VALUES)));
            kept.extend(values.iter().copied().reduce(f32::min));
            kept.extend(values.iter().copied().reduce(f32::max));
        }
    }
    Ok(Ranges(seen.into_par_iter().map(|(name, values)| (name, best_range(&values))).collect()))
}

/// The shrunken full range with the least squared error.
fn best_range(values: &[f32]) -> (f32, f32) {
    let (low, high) = values.iter().fold((0f32, 0f32), |(low, high), v| (low.min(*v), high.max(*v)));
    let tried = SHRINK.map(|s| (low * s, high * s)).map(|range| (squared_error(values, range), range));
    tried.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).map_or((low, high), |(_, range)| range)
}

fn squared_error(values: &[f32], (low, high): (f32, f32)) -> f64 {
    let step = (high - low) / 255.0;
    let error = |v: f32| {
        let rounded = if step > 0.0 { ((v.clamp(low, high) - low) / step).round() * step + low } else { 0.0 };
        f64::from(v - rounded).powi(2)
    };
    values.iter().map(|v| error(*v)).sum()
}

#[cfg(test)]
mod tests {
    use super::best_range;

    #[test]
    fn evenly_spread_values_keep_their_range_and_outliers_lose_it() {
        let even: Vec<f32> = (0..1000).map(|i| i as f32 / 999.0 * 4.0 - 1.0).collect();
        assert_eq!(best_range(&even), (-1.0, 3.0));
        let mut spiked = even.clone();
        spiked.push(12.0);
        let (low, high) = best_range(&[spiked.repeat(20), vec![400.0]].concat());
        assert!((3.0..=400.0).contains(&high) && low <= 0.0, "{low} {high}");
        assert_eq!(best_range(&[0.0, 0.0]), (0.0, 0.0));
    }
}
