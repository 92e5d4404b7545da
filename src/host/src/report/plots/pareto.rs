//! Every evaluated architecture, the front and the exported models.

use plotters::element::{Circle, EmptyElement, PathElement, Text};
use plotters::prelude::Color;
use plotters::style::RGBColor;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axes::{Axis, Chart, chart, text};
use super::{BLUE, Drawn, INK, ORANGE, Result, SCALE, Size, draw, px};
use crate::report::model::{Model, Search};

/// Latency against maximal F-measure.
pub(in crate::report) fn pareto(search: &Search, models: &[Model], size: Size, class: &str) -> Result<String> {
    let models: Vec<&Model> = models.iter().filter(|m| m.predicted_ms.is_finite() && m.f_max.is_finite()).collect();
    let label = format!(
        "Scatter plot of predicted latency against maximal F-measure: {} architectures, the Pareto front and {} \
         exported models",
        search.points.len(),
        models.len()
    );
    let ms = search.points.iter().map(|p| p.latency_ms).chain(models.iter().map(|m| m.predicted_ms));
    let f = search.points.iter().map(|p| p.f_max).chain(models.iter().map(|m| m.f_max));
    let (x, mut y) = (Axis::over("Predicted latency, ms", ms), Axis::over("Max F-measure", f));
    // Room for labels above the front.
    y.range.end += (y.range.end - y.range.start) * 0.06;
    draw("the Pareto front", &label, size, class, |area| {
        let mut chart = chart(area, &x, &y)?;
        evaluated(&mut chart, search)?;
        front(&mut chart, search)?;
        exported(&mut chart, &models)
    })
}

fn evaluated(chart: &mut Chart<'_, '_>, search: &Search) -> Drawn {
    let last = search.points.iter().map(|p| p.generation).max().unwrap_or(0).max(1);
    chart.draw_series(search.points.iter().filter(|p| !p.on_front).map(|p| {
        let shade = grey(f64::from(p.generation) / f64::from(last));
        Circle::new((p.latency_ms, p.f_max), px(3), shade.filled())
    }))?;
    Ok(())
}

/// Light for the first generation, dark for the last.
fn grey(age: f64) -> RGBColor {
    let mix = |from: f64, to: f64| (from + (to - from) * age) as u8;
    RGBColor(mix(205.0, 75.0), mix(210.0, 85.0), mix(217.0, 99.0))
}

/// The front as a staircase: nothing evaluated lies above it.
fn front(chart: &mut Chart<'_, '_>, search: &Search) -> Drawn {
    let mut points: Vec<(f64, f64)> = search
        .points
        .iter()
        .filter(|p| p.on_front && p.latency_ms.is_finite() && p.f_max.is_finite())
        .map(|p| (p.latency_ms, p.f_max))
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let stairs: Vec<(f64, f64)> = points
        .iter()
        .enumerate()
        .flat_map(|(i, &(ms, f))| {
            let before = i.checked_sub(1).map(|b| (ms, points[b].1));
            before.into_iter().chain([(ms, f)])
        })
        .collect();
    if stairs.len() > 1 {
        chart.draw_series([PathElement::new(stairs, BLUE.stroke_width(px(2)))])?;
    }
    chart.draw_series(points.iter().map(|&at| Circle::new(at, px(4), BLUE.filled())))?;
    Ok(())
}

/// Marks and names: lines that lead to the names lowest, so that no line crosses a name.
fn exported(chart: &mut Chart<'_, '_>, models: &[&Model]) -> Drawn {
    let mut order: Vec<&Model> = models.to_vec();
    order.sort_by(|a, b| a.predicted_ms.total_cmp(&b.predicted_ms));
    let (across, down) = chart.plotting_area().get_pixel_range();
    let mut labels: Vec<Label> = Vec::new();
    for model in &order {
        let point = chart.backend_coord(&(model.predicted_ms, model.f_max));
        labels.push(Label::place(&model.name, point, (across.start, down.start), &labels));
    }
    let all = || order.iter().map(|m| (m.predicted_ms, m.f_max)).zip(&labels);
    chart.draw_series(
        all().map(|(at, label)| EmptyElement::at(at) + PathElement::new(label.leader(), ORANGE.stroke_width(px(1)))),
    )?;
    chart.draw_series(all().map(|(at, _)| Circle::new(at, px(6), ORANGE.filled())))?;
    let style = text(13, INK).pos(Pos::new(HPos::Left, VPos::Bottom));
    chart.draw_series(order.iter().zip(all()).map(|(model, (at, label))| {
        EmptyElement::at(at) + Text::new(model.name.clone(), label.offset(), style.clone())
    }))?;
    Ok(())
}

/// Where a name stands, drawing units; `y` is its foot.
#[derive(Clone, Copy)]
struct Label {
    point: (i32, i32),
    x: i32,
    y: i32,
    width: i32,
}

impl Label {
    const HEIGHT: i32 = 18 * SCALE as i32;
    const NEAR: i32 = 10 * SCALE as i32;

    /// Up and left of its point, where nothing evaluated lies; higher if that is taken; below if the plot ends.
    fn place(name: &str, point: (i32, i32), (left, top): (i32, i32), taken: &[Self]) -> Self {
        let width = (name.chars().count() as u32 * px(15) / 2) as i32;
        let x = (point.0 - Self::NEAR - width).max(left + Self::NEAR / 2);
        let first = Self { point, x, y: point.1 - Self::NEAR, width };
        let above = (0..).map(|n| Self { y: first.y - n * Self::HEIGHT, ..first });
        let above = above.take_while(|label| label.y - Self::HEIGHT >= top);
        let right = Self { x: point.0 + Self::NEAR, y: point.1 + Self::NEAR + Self::HEIGHT, ..first };
        let below = (0..20).map(|n| Self { y: right.y + n * Self::HEIGHT, ..right });
        above.chain(below).find(|label| !taken.iter().any(|other| label.meets(other))).unwrap_or(first)
    }

    fn meets(&self, other: &Self) -> bool {
        self.x < other.x + other.width && other.x < self.x + self.width && (self.y - other.y).abs() < Self::HEIGHT
    }

    /// From the point to the name.
    fn leader(&self) -> Vec<(i32, i32)> {
        let x = self.point.0.clamp(self.x, self.x + self.width);
        let y = if self.y < self.point.1 { self.y } else { self.y - Self::HEIGHT / 2 };
        vec![(0, 0), (x - self.point.0, y - self.point.1)]
    }

    /// From the point to the left foot of the name.
    fn offset(&self) -> (i32, i32) {
        (self.x - self.point.0, self.y - self.point.1)
    }
}
