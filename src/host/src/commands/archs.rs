//! Files of architectures, and the table of their latencies.

use std::path::Path;

use anyhow::Context as _;
use inas_space::{Architecture, LatencyBreakdown, LatencyTable, Space};
use serde_json::Value;

use super::read_text;
use crate::printer::Printer;

/// An architecture and the entry of a file that it comes from.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) arch: Architecture,
    pub(super) json: Value,
}

/// The only architecture of a file.
pub(super) fn read_one(path: &Path) -> anyhow::Result<Architecture> {
    Architecture::from_json(&read_text(path)?).with_context(|| path.display().to_string())
}

/// The architectures of a file: one, an array of them, or an array of objects that hold one as `arch`.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Entry>> {
    parse(&read_text(path)?).with_context(|| path.display().to_string())
}

/// [`read`] of a text.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Entry>> {
    let entries = match serde_json::from_str(text)? {
        Value::Array(entries) => entries,
        one => vec![one],
    };
    let entry =
        |json: Value| Ok(Entry { arch: Architecture::from_value(json.get("arch").unwrap_or(&json).clone())?, json });
    entries.into_iter().map(entry).collect()
}

/// The latency of each architecture of a file.
pub(super) fn latencies(
    path: &Path,
    table: &LatencyTable,
    space: &Space,
    px: u32,
) -> anyhow::Result<Vec<(Entry, LatencyBreakdown)>> {
    let latency = |entry: Entry| {
        let sum = table.latency(space, &entry.arch, px);
        Ok((entry, sum.with_context(|| path.display().to_string())?))
    };
    read(path)?.into_iter().map(latency).collect()
}

/// Prints latencies as a table.
pub(super) fn show(rows: &[(Entry, LatencyBreakdown)], printer: Printer) -> anyhow::Result<()> {
    printer.result("architecture      total ms  backbone  transport   decoder")?;
    for (entry, sum) in rows {
        printer.result(format_args!(
            "{:<16} {:>9.3} {:>9.3} {:>10.3} {:>9.3}",
            entry.arch.hash(),
            sum.total().ms(),
            sum.backbone.ms(),
            sum.transport.ms(),
            sum.decoder.ms()
        ))?;
    }
    Ok(())
}
