//! Several named series over common axes, as a file of its own.

use plotters::chart::SeriesLabelPosition;
use plotters::element::{Circle, PathElement, Rectangle};
use plotters::prelude::{Color, WHITE};
use plotters::style::RGBColor;

use super::axes::{Axis, chart, text};
use super::{BLUE, Drawn, GREEN, GRID, INK, ORANGE, QUIET, Result, Size, draw, px};

const COLOURS: [RGBColor; 6] = [BLUE, ORANGE, GREEN, RGBColor(0x7c, 0x3a, 0xed), RGBColor(0xb9, 0x1c, 0x7c), QUIET];

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Dots.
    Dots,
    /// A line through the points.
    Line,
    /// A staircase with dots: nothing better is known between two points.
    Stairs,
}

/// Points under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points, by ascending x for lines and stairs.
    pub points: Vec<(f64, f64)>,
    /// How to draw them.
    pub mark: Mark,
}

/// Where the legend has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corner {
    /// Top left.
    TopLeft,
    /// Top right.
    TopRight,
    /// Bottom right.
    BottomRight,
}

/// Draws series; series of the same name have one colour and one entry in the legend.
pub(in crate::report) fn series(
    (x_label, y_label): (&'static str, &'static str),
    series: &[Series],
    corner: Corner,
    diagonal: bool,
) -> Result<String> {
    let values = |of: fn(&(f64, f64)) -> f64| series.iter().flat_map(move |s| s.points.iter().map(of));
    let (mut x, mut y) = (Axis::over(x_label, values(|p| p.0)), Axis::over(y_label, values(|p| p.1)));
    if diagonal {
        let both = x.range.start.min(y.range.start)..x.range.end.max(y.range.end);
        (x.range, y.range) = (both.clone(), both);
    }
    let mut names: Vec<&str> = Vec::new();
    for s in series {
        if !names.contains(&s.name.as_str()) {
            names.push(&s.name);
        }
    }
    let label = format!("{y_label} against {x_label}: {}", names.join(", "));
    let svg = draw(y_label, &label, Size::BAND_HIGH, "plot", |area| -> Drawn {
        let mut chart = chart(area, &x, &y)?;
        if diagonal {
            let ends = vec![(x.range.start, x.range.start), (x.range.end, x.range.end)];
            chart.draw_series([PathElement::new(ends, QUIET.stroke_width(px(1)))])?;
        }
        for (n, name) in names.iter().enumerate() {
            let colour = COLOURS[n % COLOURS.len()];
            let mut first = true;
            for s in series.iter().filter(|s| s.name == **name) {
                let path = match s.mark {
                    Mark::Dots => Vec::new(),
                    Mark::Line => s.points.clone(),
                    Mark::Stairs => stairs(&s.points),
                };
                let drawn = chart.draw_series([PathElement::new(path, colour.stroke_width(px(2)))])?;
                if std::mem::take(&mut first) {
                    drawn.label(*name).legend(move |(x, y)| {
                        let half = px(5) as i32;
                        Rectangle::new([(x, y - half), (x + 2 * half, y + half)], colour.filled())
                    });
                }
                if s.mark != Mark::Line {
                    chart.draw_series(s.points.iter().map(|p| Circle::new(*p, px(3), colour.mix(0.8).filled())))?;
                }
            }
        }
        let position = match corner {
            Corner::TopLeft => SeriesLabelPosition::UpperLeft,
            Corner::TopRight => SeriesLabelPosition::UpperRight,
            Corner::BottomRight => SeriesLabelPosition::LowerRight,
        };
        chart
            .configure_series_labels()
            .position(position)
            .margin(px(8))
            .legend_area_size(px(16))
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .label_font(text(13, INK))
            .draw()
    })?;
    Ok(super::file(&svg))
}

fn stairs(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let step = |(i, &(x, y)): (usize, &(f64, f64))| {
        let before = i.checked_sub(1).map(|b| (x, points[b].1));
        before.into_iter().chain([(x, y)])
    };
    points.iter().enumerate().flat_map(step).collect()
}
