//! `inas lut diff`, `merge`, `import` and `export`

use std::path::PathBuf;

use inas_profiler::profile::Profile;
use inas_profiler::{release, stats};
use inas_space::Space;

use crate::commands::{read_text, write_file};
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(super) struct DiffArgs {
    /// Profile folder.
    a: PathBuf,
    /// Profile folder.
    b: PathBuf,
    /// Blocks to list, those that differ most first.
    #[arg(long, default_value_t = 20)]
    top: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn diff(args: &DiffArgs, printer: Printer) -> anyhow::Result<bool> {
    let (a, b) = (Profile::read(&args.a)?, Profile::read(&args.b)?);
    let pair = |(key, row): (&inas_space::BlockKey, &inas_profiler::profile::BlockRow)| {
        let (x, y) = (row.measurement.median_us, b.rows().get(key)?.measurement.median_us);
        (x > 0.0 && y > 0.0).then_some((*key, x, y))
    };
    let mut pairs: Vec<_> = a.rows().iter().filter_map(pair).collect();
    anyhow::ensure!(!pairs.is_empty(), "the two profiles have no measured block in common");
    let ratios: Vec<f64> = pairs.iter().map(|p| p.2 / p.1).collect();
    let (xs, ys): (Vec<f64>, Vec<f64>) = pairs.iter().map(|p| (p.1, p.2)).unzip();
    pairs.sort_by(|p, q| (q.2 / q.1).ln().abs().total_cmp(&(p.2 / p.1).ln().abs()));
    let differences = a.facts().differences(b.facts());
    let at = |p: f64| stats::percentile(&ratios, p);
    let kendall = stats::kendall(&xs, &ys);
    if args.json {
        let top =
            pairs.iter().take(args.top).map(|(key, x, y)| serde_json::json!({ "key": key, "a_us": x, "b_us": y }));
        let json = serde_json::json!({
            "blocks": pairs.len(), "measured_differently": differences, "kendall": kendall,
            "ratio": { "p5": at(5.0), "median": at(50.0), "p95": at(95.0) }, "most": top.collect::<Vec<_>>(),
        });
        printer.result(json)?;
        return Ok(true);
    }
    if !differences.is_empty() {
        printer.result(format_args!("measured differently: {differences}"))?;
    }
    printer.result(format_args!(
        "{} blocks in common; B/A median {:.3}, 5 % {:.3}, 95 % {:.3}; Kendall {kendall:.3}",
        pairs.len(),
        at(50.0),
        at(5.0),
        at(95.0)
    ))?;
    for (key, x, y) in pairs.iter().take(args.top) {
        printer.result(format_args!("{:<44} {x:>10.1} {y:>10.1} us  x{:.3}", key.to_string(), y / x))?;
    }
    Ok(true)
}

#[derive(Debug, clap::Args)]
pub(super) struct MergeArgs {
    /// Profile folders.
    #[arg(required = true, num_args = 2..)]
    profiles: Vec<PathBuf>,
    /// Folder of the merged profile.
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn merge(args: &MergeArgs, printer: Printer) -> anyhow::Result<bool> {
    let profiles = args.profiles.iter().map(|dir| Profile::read(dir)).collect::<Result<Vec<_>, _>>()?;
    let merged = Profile::merge(&profiles, inas_profiler::command_line(std::env::args()))?;
    free(&args.out)?;
    merged.write(&args.out)?;
    printer.note(format_args!("  Merged {} profiles into {}", profiles.len(), args.out.display()));
    Ok(true)
}

/// Refuses a folder that holds a profile already.
fn free(out: &std::path::Path) -> anyhow::Result<()> {
    if out.join(inas_profiler::profile::PROFILE_FILE).exists() {
        return crate::commands::hint(
            Err(anyhow::anyhow!("{} holds a profile already", out.display())),
            "choose another folder",
        );
    }
    Ok(())
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// Table in the release's text form, ms.
    #[arg(long, value_name = "FILE")]
    release: PathBuf,
    /// Space of the table: preset or file (.toml).
    #[arg(long)]
    space: String,
    /// Input side of the table, px.
    #[arg(long, alias = "resolution")]
    px: u32,
    /// Folder of the profile.
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn import(args: &ImportArgs, printer: Printer) -> anyhow::Result<bool> {
    let space = Space::load(&args.space)?;
    let name = args.release.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let command = inas_profiler::command_line(std::env::args());
    let profile = release::import(&read_text(&args.release)?, &name, &space, args.px, command)?;
    free(&args.out)?;
    profile.write(&args.out)?;
    printer.note(format_args!("  Imported {} blocks into {}", profile.rows().len(), args.out.display()));
    Ok(true)
}

#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    /// Profile folder.
    #[arg(long, value_name = "DIR")]
    profile: PathBuf,
    /// Table to write.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn export(args: &ExportArgs, printer: Printer) -> anyhow::Result<bool> {
    let profile = Profile::read(&args.profile)?;
    write_file(&args.out, release::export(&profile).as_bytes())?;
    printer.note(format_args!("  Exported {} blocks to {}", profile.rows().len(), args.out.display()));
    Ok(true)
}
