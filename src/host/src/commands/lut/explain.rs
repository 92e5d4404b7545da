//! `inas lut explain` and `inas lut predict`

use std::path::PathBuf;

use inas_profiler::profile::Profile;
use inas_space::Space;

use crate::commands::archs;
use crate::printer::Printer;

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArgs {
    /// Architecture file, of the project's or the release's JSON form.
    arch: PathBuf,
    /// Profile folder.
    #[arg(long, value_name = "DIR")]
    profile: PathBuf,
    /// Space of the architecture, when it has channel counts that were not measured; they are interpolated.
    #[arg(long)]
    space: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn explain(args: &ExplainArgs, printer: Printer) -> anyhow::Result<bool> {
    let profile = Profile::read(&args.profile)?;
    let arch = archs::read_one(&args.arch)?;
    let space = args.space.as_deref().map_or_else(|| Ok(profile.space().clone()), Space::load)?;
    let (plain, model, px) = (profile.model(true), profile.model(false), profile.input_px());
    let (sum, interpolated) = plain.latency_interpolated(&space, &arch, px)?;
    let (fitted, _) = model.latency_interpolated(&space, &arch, px)?;
    let calibration = profile.calibration();
    let range = calibration.map(|c| c.around(fitted.total()));
    let mut blocks = Vec::new();
    for block in space.blocks(&arch, px)? {
        let (latency, estimated) = plain.get_or_interpolate(&block.key)?;
        let (share, _) = model.get_or_interpolate(&block.key)?;
        blocks.push((block, latency, share, estimated));
    }
    if args.json {
        let rows = blocks.iter().map(|(block, latency, share, estimated)| {
            serde_json::json!({ "block": block.name, "key": block.key, "latency_us": latency,
                "model_us": share, "interpolated": estimated })
        });
        let json = serde_json::json!({
            "architecture": arch.hash(), "calibrated": calibration.is_some(),
            "predicted_ms": fitted.total().ms(), "interval_ms": range.map(|r| [r.0.ms(), r.1.ms()]),
            "sum_ms": sum.total().ms(), "backbone_ms": sum.backbone.ms(), "transport_ms": sum.transport.ms(),
            "decoder_ms": sum.decoder.ms(), "interpolated_blocks": interpolated.len(),
            "blocks": rows.collect::<Vec<_>>(),
        });
        printer.result(json)?;
        return Ok(true);
    }
    printer.result(
        "block                            key                                       measured us   model us      %",
    )?;
    for (block, latency, share, estimated) in &blocks {
        printer.result(format_args!(
            "{:<32} {:<42} {:>10.1} {:>10.1} {:>6.1}{}",
            block.name,
            block.key.to_string(),
            latency.0,
            share.0,
            100.0 * share.0 / fitted.total().0.max(1e-9),
            if *estimated { "  interpolated" } else { "" },
        ))?;
    }
    printer.result(format_args!(
        "sum {:.3} ms: backbone {:.3}, transport {:.3}, decoder {:.3}",
        sum.total().ms(),
        sum.backbone.ms(),
        sum.transport.ms(),
        sum.decoder.ms()
    ))?;
    match range {
        Some((low, high)) => printer.result(format_args!(
            "calibrated {:.3} ms, 95 % interval {:.3}..{:.3}",
            fitted.total().ms(),
            low.ms(),
            high.ms()
        ))?,
        None => printer.result("not calibrated: `inas profile calibrate` measures whole networks")?,
    }
    if !interpolated.is_empty() {
        printer.result(format_args!("{} blocks interpolated between measured channel counts", interpolated.len()))?;
    }
    Ok(true)
}

#[derive(Debug, clap::Args)]
pub(super) struct PredictArgs {
    /// Profile folder.
    #[arg(long, value_name = "DIR")]
    profile: PathBuf,
    /// JSON of architectures in the release's form: one, an array, or an array of `{"arch": …}`.
    #[arg(long, value_name = "FILE")]
    release_archs: PathBuf,
    /// Use the calibrated model, not the sum over the blocks as the release does.
    #[arg(long)]
    calibrated: bool,
    /// Print JSON: an array of objects with the four latencies of the release, ms.
    #[arg(long)]
    json: bool,
}

pub(super) fn predict(args: &PredictArgs, printer: Printer) -> anyhow::Result<bool> {
    let profile = Profile::read(&args.profile)?;
    let table = profile.model(!args.calibrated);
    let rows = archs::latencies(&args.release_archs, &table, profile.space(), profile.input_px())?;
    if args.json {
        let rows = rows.iter().map(|(entry, sum)| {
            serde_json::json!({ "architecture": entry.arch.hash(), "total_latency": sum.total().ms(),
                "backbone_latency": sum.backbone.ms(), "transport_latency": sum.transport.ms(),
                "decoder_latency": sum.decoder.ms() })
        });
        printer.result(serde_json::Value::from(rows.collect::<Vec<_>>()))?;
        return Ok(true);
    }
    archs::show(&rows, printer)?;
    Ok(true)
}
