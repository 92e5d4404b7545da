//! Plots as inline SVG. Their ground is a white card in light and dark pages alike.

mod axes;
mod curves;
mod losses;
mod pareto;
mod progress;
mod scatter;
mod series;

pub(super) use curves::learning_curves;
pub(super) use losses::{group, losses};
pub(super) use pareto::pareto;
pub(super) use progress::hypervolume;
pub(super) use scatter::{predictions, verification};
pub(super) use series::series;
pub use series::{Corner, Mark, Series};

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, SVGBackend};
use plotters::style::RGBColor;

use super::{ReportError, Result};

/// Drawing units per CSS pixel: the backend rounds to whole units, so finer units place points better.
const SCALE: u32 = 4;

const INK: RGBColor = RGBColor(0x1f, 0x29, 0x37);
const QUIET: RGBColor = RGBColor(0x4b, 0x55, 0x63);
const GRID: RGBColor = RGBColor(0xe5, 0xe7, 0xeb);
const BLUE: RGBColor = RGBColor(0x1d, 0x5f, 0xa8);
const ORANGE: RGBColor = RGBColor(0xc2, 0x41, 0x0c);
const GREEN: RGBColor = RGBColor(0x0f, 0x76, 0x6e);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = std::result::Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Size of a plot, CSS pixels at its natural width.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    width: u32,
    height: u32,
}

impl Size {
    /// The full width of a wide page.
    pub(super) const WIDE: Self = Self { width: 1000, height: 460 };
    /// The full width of a wide page, less high.
    pub(super) const BAND: Self = Self { width: 1000, height: 320 };
    /// A plot on a page of text.
    pub(super) const BAND_HIGH: Self = Self { width: 760, height: 420 };
    /// Half a wide page, or a phone.
    pub(super) const HALF: Self = Self { width: 480, height: 380 };
}

/// Draws a plot; `label` is what a screen reader says of it.
fn draw(
    plot: &'static str,
    label: &str,
    size: Size,
    class: &str,
    paint: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String> {
    let (width, height) = (size.width * SCALE, size.height * SCALE);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        paint(&area)
            .and_then(|()| area.present())
            .map_err(|error| ReportError::Plot { plot, reason: error.to_string() })?;
    }
    // The backend's root element is for a file of its own; in a page it needs a label, not a name space.
    let (_, body) = svg.split_once('>').unwrap_or_default();
    let label = minijinja::HtmlEscape(label);
    Ok(format!(r#"<svg class="{class}" role="img" aria-label="{label}" viewBox="0 0 {width} {height}">{body}"#))
}

/// A plot as a file of its own.
fn file(svg: &str) -> String {
    svg.replacen("<svg ", r#"<svg xmlns="http://www.w3.org/2000/svg" "#, 1)
}

/// Length in drawing units of a length in CSS pixels.
const fn px(css: u32) -> u32 {
    css * SCALE
}
