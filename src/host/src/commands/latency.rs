//! `inas latency`

use std::path::PathBuf;

use anyhow::Context as _;
use inas_profiler::profile::Profile;
use inas_space::{Architecture, LatencyBreakdown, LatencyTable, Space};

use super::read_text;
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// JSON of one architecture, of an array of them, or of an array of `{"arch": …, "latency": …}` as in the
    /// release's look-up checks; what is expected there is compared.
    archs: PathBuf,
    /// Profile folder.
    #[arg(long, conflicts_with = "table", required_unless_present = "table")]
    profile: Option<PathBuf>,
    /// Predict by the sum over the blocks even when the profile is calibrated.
    #[arg(long)]
    plain_sum: bool,
    /// Text table in the release's form (milliseconds).
    #[arg(long)]
    table: Option<PathBuf>,
    /// Space of the table.
    #[arg(long, default_value = "iccv21", conflicts_with = "profile")]
    space: String,
    /// Input side of the table, px.
    #[arg(long, default_value_t = 224, conflicts_with = "profile")]
    px: u32,
}

/// Allowed difference to an expected look-up sum, ms.
const TOLERANCE_MS: f64 = 1e-6;

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let (space, table, px) = match (&args.profile, &args.table) {
        (Some(dir), _) => {
            let profile = Profile::read(dir)?;
            (profile.space().clone(), profile.model(args.plain_sum), profile.input_px())
        }
        (None, Some(path)) => {
            let table = LatencyTable::from_release(&read_text(path)?).with_context(|| path.display().to_string())?;
            (Space::load(&args.space)?, table, args.px)
        }
        (None, None) => anyhow::bail!("neither --profile nor --table given"),
    };
    let json: serde_json::Value =
        serde_json::from_str(&read_text(&args.archs)?).with_context(|| args.archs.display().to_string())?;
    let entries = match json {
        serde_json::Value::Array(entries) => entries,
        one => vec![one],
    };
    let mut worst: Option<f64> = None;
    printer.result("architecture      total ms  backbone  transport   decoder")?;
    for entry in entries {
        let arch = Architecture::from_value(entry.get("arch").unwrap_or(&entry).clone())?;
        let sum = table.latency(&space, &arch, px)?;
        let (total, backbone) = (sum.total().ms(), sum.backbone.ms());
        let (transport, decoder) = (sum.transport.ms(), sum.decoder.ms());
        printer.result(format_args!(
            "{:<16} {total:>9.3} {backbone:>9.3} {transport:>10.3} {decoder:>9.3}",
            arch.hash()
        ))?;
        if let Some(expected) = entry.get("latency") {
            worst = Some(worst.unwrap_or(0.0).max(difference(&sum, expected)));
        }
    }
    if let Some(worst) = worst {
        printer.result(format_args!(
            "largest difference to the expected sums: {worst:.1e} ms (allowed {TOLERANCE_MS:.0e})"
        ))?;
    }
    Ok(worst.is_none_or(|w| w <= TOLERANCE_MS))
}

fn difference(sum: &LatencyBreakdown, expected: &serde_json::Value) -> f64 {
    let pairs = [
        ("total_latency", sum.total()),
        ("backbone_latency", sum.backbone),
        ("transport_latency", sum.transport),
        ("decoder_latency", sum.decoder),
    ];
    let differences =
        pairs.iter().map(|(name, ours)| (expected[name].as_f64().unwrap_or(f64::INFINITY) - ours.ms()).abs());
    differences.fold(0.0, f64::max)
}
