//! Hypervolume by generation.

use plotters::element::{Circle, PathElement};
use plotters::prelude::Color;

use super::axes::{Axis, chart};
use super::{BLUE, Result, Size, draw, px};

/// Hypervolume of the front after each generation.
pub(in crate::report) fn hypervolume(values: &[f64]) -> Result<String> {
    let x = Axis::counts("Generation", 0.0, values.len().saturating_sub(1) as f64);
    let y = Axis::over("Hypervolume", values.iter().copied());
    let points: Vec<(f64, f64)> =
        values.iter().enumerate().filter(|(_, v)| v.is_finite()).map(|(i, &v)| (i as f64, v)).collect();
    let label = format!("Line plot of the hypervolume over {} generations", values.len());
    draw("the hypervolume", &label, Size::HALF, "plot", |area| {
        let mut chart = chart(area, &x, &y)?;
        chart.draw_series(points.iter().map(|&at| Circle::new(at, px(3), BLUE.filled())))?;
        chart.draw_series([PathElement::new(points, BLUE.stroke_width(px(2)))])?;
        Ok(())
    })
}
