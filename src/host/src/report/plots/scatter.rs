//! Predicted against measured latency.

use plotters::element::{Circle, PathElement};
use plotters::prelude::Color;

use super::axes::{Axis, chart};
use super::{BLUE, QUIET, Result, Size, draw, px};
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
