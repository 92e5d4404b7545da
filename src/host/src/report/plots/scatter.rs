//! Predicted against measured latency.

use plotters::element::{Circle, PathElement};
use plotters::prelude::Color;

use super::axes::{Axis, chart};
use super::{BLUE, ORANGE, QUIET, Result, Size, draw, px};
use crate::report::model::Prediction;

/// Predicted against measured latency with the line of equality.
pub(in crate::report) fn predictions(predictions: &[Prediction]) -> Result<String> {
    let both = || predictions.iter().flat_map(|p| [p.predicted_ms, p.measured_ms]);
    let (x, y) = (Axis::over("Predicted latency, ms", both()), Axis::over("Measured latency, ms", both()));
    let (low, high) = (x.range.start, x.range.end);
    let label = format!("Scatter plot of predicted against measured latency of {} networks", predictions.len());
    draw("predicted and measured latency", &label, Size::HALF, "plot", |area| {
        let mut chart = chart(area, &x, &y)?;
        chart.draw_series([PathElement::new(vec![(low, low), (high, high)], QUIET.stroke_width(px(1)))])?;
        let shown = predictions.iter().filter(|p| p.predicted_ms.is_finite() && p.measured_ms.is_finite());
        chart
            .draw_series(shown.map(|p| Circle::new((p.predicted_ms, p.measured_ms), px(4), BLUE.mix(0.7).filled())))?;
        Ok(())
    })
}

/// Measured against predicted latency of whole networks (thesis fig. 3.13), as a file of its own: the plain sum in
/// orange, the calibrated model in blue. Pairs are predicted and measured, ms.
pub(in crate::report) fn verification(sum: &[(f64, f64)], calibrated: &[(f64, f64)]) -> Result<String> {
    let both = || sum.iter().chain(calibrated).flat_map(|p| [p.0, p.1]);
    let x = Axis::over("Predicted latency, ms (orange: sum of blocks, blue: calibrated)", both());
    let y = Axis::over("Measured latency, ms", both());
    let (low, high) = (x.range.start, x.range.end);
    let label = format!("Measured against predicted latency of {} networks", sum.len());
    let svg = draw("predicted and measured latency", &label, Size::HALF, "plot", |area| {
        let mut chart = chart(area, &x, &y)?;
        chart.draw_series([PathElement::new(vec![(low, low), (high, high)], QUIET.stroke_width(px(1)))])?;
        for (pairs, colour) in [(sum, ORANGE), (calibrated, BLUE)] {
            chart.draw_series(pairs.iter().map(|p| Circle::new(*p, px(3), colour.mix(0.7).filled())))?;
        }
        Ok(())
    })?;
    Ok(super::file(&svg))
}
