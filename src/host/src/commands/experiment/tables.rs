//! Tables in Markdown and CSV.

use std::fmt::Write as _;

/// A table with a head.
pub(super) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Self { head: head.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = format!("| {} |\n|{}\n", self.head.join(" | "), "---|".repeat(self.head.len()));
        for row in &self.rows {
            let _ = writeln!(text, "| {} |", row.join(" | "));
        }
        text
    }

    pub(super) fn csv(&self) -> String {
        let mut text = self.head.join(",") + "\n";
        for row in &self.rows {
            let _ = writeln!(text, "{}", row.join(","));
        }
        text
    }
}

/// Mean, and the range in brackets where there are several.
pub(super) fn spread(values: &[f64], decimals: usize) -> String {
    let known: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let Some(first) = known.first().copied() else { return "not reached".into() };
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    let (low, high) = known.iter().fold((first, first), |(low, high), v| (low.min(*v), high.max(*v)));
    let missing = if known.len() < values.len() {
        format!(", {} not reached", values.len() - known.len())
    } else {
        String::new()
    };
    if known.len() == 1 {
        return format!("{mean:.decimals$}{missing}");
    }
    format!("{mean:.decimals$} ({low:.decimals$} to {high:.decimals$}{missing})")
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_tell_mean_range_and_what_is_missing() {
        assert_eq!(spread(&[1.0], 2), "1.00");
        assert_eq!(spread(&[1.0, 2.0, f64::NAN], 1), "1.5 (1.0 to 2.0, 1 not reached)");
        assert_eq!(spread(&[f64::INFINITY], 1), "not reached");
        let mut table = Table::new(["a", "b"]);
        table.row(["1".into(), "2".into()]);
        assert_eq!(table.markdown(), "| a | b |\n|---|---|\n| 1 | 2 |\n");
        assert_eq!(table.csv(), "a,b\n1,2\n");
    }
}
