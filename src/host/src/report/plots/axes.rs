//! Axes in one style.

use std::ops::Range;

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{Cartesian2d, Color, SVGBackend, TRANSPARENT};
use plotters::style::{IntoFont, RGBColor, TextStyle};

use super::{Area, Drawn, GRID, INK, QUIET, px};

/// A chart with linear axes.
pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// An axis.
pub(super) struct Axis {
    /// What it shows, with its unit.
    pub(super) label: &'static str,
    /// What it spans.
    pub(super) range: Range<f64>,
    /// Whether only whole numbers make sense.
    pub(super) whole: bool,
}

impl Axis {
    /// An axis over `values` with a margin; never empty.
    pub(super) fn over(label: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|v| v.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let margin = if high > low { (high - low) * 0.06 } else { low.abs().max(1.0) * 0.1 };
        // A quantity that is never negative gets no negative ticks.
        let start = if low >= 0.0 { (low - margin).max(0.0) } else { low - margin };
        Self { label, range: start..high + margin, whole: false }
    }

    /// An axis of counts from `first` to a little past `last`.
    pub(super) fn counts(label: &'static str, first: f64, last: f64) -> Self {
        Self { label, range: first..first + (last - first).max(1.0) * 1.03, whole: true }
    }

    fn tick(&self, value: f64) -> String {
        if self.whole {
            // Ticks between whole numbers stay unlabelled.
            return if (value - value.round()).abs() < 1e-6 { format!("{value:.0}") } else { String::new() };
        }
        let step = (self.range.end - self.range.start) / 10.0;
        let decimals = (-step.log10()).ceil().clamp(0.0, 9.0) as usize;
        format!("{value:.decimals$}")
    }
}

/// Draws axes and grid on `area`.
pub(super) fn chart<'a, 'b>(
    area: &'a Area<'b>,
    x: &Axis,
    y: &Axis,
) -> Result<Chart<'a, 'b>, plotters::drawing::DrawingAreaErrorKind<std::io::Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(px(12))
        .margin_right(px(16))
        .x_label_area_size(px(46))
        .y_label_area_size(px(62))
        .build_cartesian_2d(x.range.clone(), y.range.clone())?;
    mesh(&mut chart, x, y)?;
    Ok(chart)
}

fn mesh(chart: &mut Chart<'_, '_>, x: &Axis, y: &Axis) -> Drawn {
    let (width, height) = chart.plotting_area().dim_in_pixel();
    chart
        .configure_mesh()
        .x_labels((width / px(56)).max(2) as usize)
        .y_labels((height / px(45)).max(2) as usize)
        .x_label_formatter(&|v| x.tick(*v))
        .y_label_formatter(&|v| y.tick(*v))
        .x_desc(x.label)
        .y_desc(y.label)
        .bold_line_style(GRID.stroke_width(px(1)))
        .light_line_style(TRANSPARENT)
        .axis_style(QUIET.stroke_width(px(1)))
        .set_all_tick_mark_size(px(4))
        .label_style(text(12, QUIET))
        .axis_desc_style(text(13, INK))
        .draw()
}

/// Text of a size in CSS pixels.
pub(super) fn text(size_px: u32, colour: RGBColor) -> TextStyle<'static> {
    // The backend divides the size by 1.24.
    let size = (f64::from(px(size_px)) * 1.24).round();
    TextStyle { color: colour.to_backend_color(), ..TextStyle::from(("sans-serif", size).into_font()) }
}
