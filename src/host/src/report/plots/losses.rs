//! Training losses.

use plotters::element::PathElement;
use plotters::style::RGBColor;

use super::axes::{Axis, chart};
use super::{BLUE, GREEN, ORANGE, Result, Size, draw, px};
use crate::report::model::LossPoint;

/// Most points of a line; more steps than that are averaged in groups.
const MOST_POINTS: usize = 300;

/// The steps one plotted point stands for.
pub(in crate::report) fn group(steps: usize) -> usize {
    steps.div_ceil(MOST_POINTS).max(1)
}

/// Losses of the largest, the smallest and the random sub-networks by step.
pub(in crate::report) fn losses(losses: &[LossPoint], size: Size, class: &str) -> Result<String> {
    let lines: [(RGBColor, Vec<(f64, f64)>); 3] =
        [(GREEN, line(losses, |l| l.random)), (ORANGE, line(losses, |l| l.min)), (BLUE, line(losses, |l| l.max))];
    let last = losses.last().map_or(1, |l| l.step);
    let x = Axis::counts("Step", losses.first().map_or(0, |l| l.step) as f64, last as f64);
    let y = Axis::over("Loss", lines.iter().flat_map(|(_, points)| points.iter().map(|p| p.1)));
    let label = format!(
        "Line plot of the training loss up to step {last} for the largest, the smallest and random sub-networks"
    );
    draw("the training losses", &label, size, class, |area| {
        let mut chart = chart(area, &x, &y)?;
        for (colour, points) in lines {
            chart.draw_series([PathElement::new(points, stroke(colour))])?;
        }
        Ok(())
    })
}

fn stroke(colour: RGBColor) -> plotters::style::ShapeStyle {
    plotters::style::Color::stroke_width(&colour, px(2))
}

/// Finite values by step, averaged in groups.
fn line(losses: &[LossPoint], value: impl Fn(&LossPoint) -> f64) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> =
        losses.iter().map(|l| (l.step as f64, value(l))).filter(|(_, v)| v.is_finite()).collect();
    finite
        .chunks(group(losses.len()))
        .map(|chunk| {
            let n = chunk.len() as f64;
            (chunk.iter().map(|p| p.0).sum::<f64>() / n, chunk.iter().map(|p| p.1).sum::<f64>() / n)
        })
        .collect()
}
