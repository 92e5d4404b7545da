//! Cells as pictures.

use std::fmt::Write as _;

use crate::{CellGenotype, CellKind, Genotype, NODES};

const BOX: (f64, f64) = (74.0, 30.0);
const COLUMN: f64 = 190.0;
const ROW: f64 = 84.0;
const GAP: f64 = 60.0;

/// Where the boxes of a cell stand: columns by the longest way from an input.
fn places(cell: &CellGenotype) -> Vec<(f64, f64)> {
    let mut columns = vec![0usize; 2];
    for inputs in &cell.0 {
        columns.push(1 + inputs.iter().map(|(_, s)| columns[*s]).max().unwrap_or(0));
    }
    columns.push(1 + columns.iter().max().copied().unwrap_or(0));
    let mut rows = std::collections::BTreeMap::<usize, usize>::new();
    let place = |column: &usize| {
        let row = rows.entry(*column).or_default();
        *row += 1;
        // Boxes of neighbouring columns stand a little apart, so that edges do not hide behind them.
        let shift = (column % 3) as f64 * ROW / 3.0;
        (20.0 + *column as f64 * COLUMN, 46.0 + (*row - 1) as f64 * ROW + shift)
    };
    columns.iter().map(place).collect()
}

fn label(node: usize) -> String {
    match node {
        0 => "c(k-2)".into(),
        1 => "c(k-1)".into(),
        n if n == NODES + 2 => "c(k)".into(),
        n => n.to_string(),
    }
}

fn edge(svg: &mut String, from: (f64, f64), to: (f64, f64), name: Option<&str>, slot: usize) {
    let (x1, y1) = (from.0 + BOX.0, from.1 + BOX.1 / 2.0);
    let (x2, y2) = (to.0, to.1 + BOX.1 / 2.0);
    let middle = f64::midpoint(x1, x2);
    let class = if name.is_some() { "edge" } else { "out" };
    let _ = writeln!(
        svg,
        r#"<path class="{class}" d="M{x1:.0} {y1:.0} C{middle:.0} {y1:.0} {middle:.0} {y2:.0} {x2:.0} {y2:.0}"/>"#
    );
    if let Some(name) = name {
        // Close to the reading node, one line for each of its inputs.
        let y = to.1 + BOX.1 / 2.0 - 8.0 + 12.0 * (slot as f64 - 0.5);
        let _ = writeln!(svg, r#"<text class="op" x="{:.0}" y="{y:.0}">{name}</text>"#, x2 - 6.0);
    }
}

fn cell(svg: &mut String, kind: CellKind, cell: &CellGenotype) -> (f64, f64) {
    let places = places(cell);
    let _ = writeln!(svg, r#"<text class="title" x="20" y="24">{kind} cell</text>"#);
    let last = places[NODES + 2];
    for (node, inputs) in cell.0.iter().enumerate() {
        let to = places[node + 2];
        for (slot, (op, source)) in inputs.iter().enumerate() {
            let name = format!("{op} \u{2190} {}", label(*source));
            edge(svg, places[*source], to, Some(&name), slot);
        }
        edge(svg, to, last, None, 0);
    }
    for (node, (x, y)) in places.iter().enumerate() {
        let _ = writeln!(svg, r#"<rect x="{x:.0}" y="{y:.0}" width="{}" height="{}" rx="6"/>"#, BOX.0, BOX.1);
        let (x, y) = (x + BOX.0 / 2.0, y + BOX.1 / 2.0 + 5.0);
        let _ = writeln!(svg, r#"<text class="node" x="{x:.0}" y="{y:.0}">{}</text>"#, label(node));
    }
    let height = places.iter().map(|p| p.1).fold(0.0, f64::max) + BOX.1 + 16.0;
    (last.0 + BOX.0 + 20.0, height)
}

impl Genotype {
    /// Both cells as an SVG picture: nodes are boxes, edges carry their operations.
    pub fn to_svg(&self) -> String {
        let (mut body, mut width, mut height) = (String::new(), 0f64, 0f64);
        for kind in CellKind::ALL {
            let _ = writeln!(body, r#"<g transform="translate(0 {height:.0})">"#);
            let (w, h) = cell(&mut body, kind, self.cell(kind));
            body.push_str("</g>\n");
            width = width.max(w);
            height += h + GAP;
        }
        height -= GAP;
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}" font-family="sans-serif" font-size="13">
<style>
rect {{ fill: #eef3fb; stroke: #4a6fa5 }}
path {{ fill: none; stroke-width: 1.5 }}
.edge {{ stroke: #4a6fa5 }}
.out {{ stroke: #c3c9d2; stroke-dasharray: 4 3 }}
.node {{ text-anchor: middle }}
.op {{ text-anchor: end; font-size: 11px; fill: #333; stroke: white; stroke-width: 3px; paint-order: stroke }}
.title {{ font-weight: bold }}
</style>
<rect width="100%" height="100%" style="fill: white; stroke: none"/>
{body}</svg>
"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_node_and_edge_is_drawn() {
        let svg = Genotype::published("dots-c10").unwrap().to_svg();
        assert_eq!(svg.matches("class=\"edge\"").count(), 16);
        assert_eq!(svg.matches("class=\"out\"").count(), 8);
        assert_eq!(svg.matches("class=\"node\"").count(), 14);
        assert!(svg.contains("dil_conv_5x5 \u{2190} 4"));
    }
}
