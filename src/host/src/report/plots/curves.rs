//! Learning curves of validated sub-networks.

use std::collections::BTreeMap;

use plotters::element::PathElement;
use plotters::prelude::Color;

use super::axes::{Axis, chart};
use super::{BLUE, GREEN, ORANGE, Result, Size, draw, px};

/// A score by step as a file of its own: the largest network blue, the smallest orange, random ones green. Points are
/// network, step, value.
pub(in crate::report) fn learning_curves(score: &'static str, points: &[(&str, f64, f64)]) -> Result<String> {
    let mut lines: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for (network, step, value) in points {
        lines.entry(network).or_default().push((*step, *value));
    }
    let last = points.iter().fold(0.0, |last: f64, p| last.max(p.1));
    let x = Axis::counts("Step (blue: largest, orange: smallest, green: random sub-networks)", 0.0, last);
    let y = Axis::over(score, points.iter().map(|p| p.2));
    let label = format!("Line plot of {score} of {} sub-networks up to step {last}", lines.len());
    let svg = draw("the learning curves", &label, Size::BAND, "plot", |area| {
        let mut chart = chart(area, &x, &y)?;
        for (network, line) in lines {
            let colour = match network {
                "max" => BLUE,
                "min" => ORANGE,
                _ => GREEN,
            };
            chart.draw_series([PathElement::new(line, colour.stroke_width(px(2)))])?;
        }
        Ok(())
    })?;
    Ok(super::file(&svg))
}
