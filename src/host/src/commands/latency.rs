//! `inas latency`

use std::path::PathBuf;

use anyhow::Context as _;
use inas_profiler::profile::Profile;
use inas_space::{LatencyBreakdown, LatencyTable, Space};

use super::archs::{self, Entry};
use super::read_text;
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("latencies").required(true).args(["profile", "table"]))]
pub(crate) struct Args {
    /// JSON of one architecture, of an array of them, or of an array of `{"arch": …, "latency": …}` as in the
    /// release's look-up checks; what is expected there is compared.
    archs: PathBuf,
    /// Profile folder.
    #[arg(long, value_name = "DIR")]
    profile: Option<PathBuf>,
    /// Predict by the sum over the blocks even when the profile is calibrated.
    #[arg(long, conflicts_with = "table")]
    plain_sum: bool,
    /// Text table in the release's form (milliseconds).
    #[arg(long, value_name = "FILE")]
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
    let rows = archs::latencies(&args.archs, &table, &space, px)?;
    archs::show(&rows, printer)?;
    // A search's front has a `latency` too, of another form.
    let expected = |entry: &Entry| entry.json.get("latency").filter(|l| l.get("total_latency").is_some()).cloned();
    let differences = rows.iter().filter_map(|(entry, sum)| Some(difference(sum, &expected(entry)?)));
    let worst = differences.reduce(f64::max);
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
