//! `inas dots profile`

use std::collections::BTreeMap;
use std::path::PathBuf;

use inas_device::{Device, ModelJob, Target};
use inas_dots::net::{Block, Cut};
use inas_graph::OnnxOptions;
use inas_profiler::measure::Protocol;
use inas_profiler::records::{RECORDS_FILE, Record};
use inas_profiler::{RunOptions, profile_models};
use serde::Serialize;

use super::super::on_device::bench_with_bar;
use super::super::profile::RuntimeArgs;
use super::super::{cancel_flag, write_file};
use super::network::NetworkArgs;
use crate::printer::Printer;

/// Name of the whole network among the blocks.
const WHOLE: &str = "network";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    network: NetworkArgs,
    /// Side of the images, px.
    #[arg(long, default_value_t = 224)]
    px: usize,
    /// What is measured: cells, or operations in cells.
    #[arg(long, value_enum, default_value = "cells")]
    by: By,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Runs per block at most.
    #[arg(long, default_value_t = Protocol::default().max_runs)]
    max_runs: usize,
    /// Seconds per block at most.
    #[arg(long, default_value_t = Protocol::default().max_seconds)]
    max_seconds: f64,
    /// Folder of the records, and of blocks.json in the end.
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
    /// Continue the measurement in the folder; not on another device.
    #[arg(long, conflicts_with = "target")]
    resume: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Another device to measure on.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "On a device")]
struct DeviceArgs {
    /// Measure there: adb, adb:SERIAL, ssh:USER@HOST or ssh:USER@HOST:PORT; local is this machine by a process of its own.
    #[arg(long, value_name = "DEVICE")]
    target: Option<Target>,
    /// Rounds over the blocks; the fastest counts.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// `inas-profiler` for the device; default: beside this program, or what scripts/build-device made.
    #[arg(long, value_name = "FILE")]
    profiler_bin: Option<PathBuf>,
    /// Folder on the device to work in.
    #[arg(long, value_name = "DIR")]
    remote_folder: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Cells,
    Operations,
}

/// A line of `blocks.json`.
#[derive(Serialize)]
struct Row<'a> {
    block: &'a str,
    count: usize,
    median_us: f64,
    macs: u64,
    params: u64,
}

#[derive(Serialize)]
struct Report<'a> {
    blocks: Vec<Row<'a>>,
    sum_us: f64,
    network_us: f64,
}

type Measured = BTreeMap<String, Record<String>>;

/// Measures in this process.
fn here(args: &Args, models: &BTreeMap<String, Vec<u8>>, printer: Printer) -> anyhow::Result<Measured> {
    let protocol = Protocol { max_runs: args.max_runs, max_seconds: args.max_seconds, ..Protocol::default() };
    let options = RunOptions {
        protocol,
        seed: args.network.seed,
        dir: args.out.clone(),
        resume: args.resume,
        command: inas_profiler::command_line(std::env::args()),
        cores: Vec::new(),
    };
    let (runtime, px) = (args.runtime.open()?, u32::try_from(args.px)?);
    let bar = printer.bar("profile", models.len() as u64);
    let mut observer = |progress: &inas_profiler::Progress<String>| {
        bar.set_position((progress.total - progress.left) as u64);
        bar.set_message(format!("{} {:.1} us", progress.key, progress.median.0));
    };
    let best = profile_models(models, px, runtime.as_ref(), &options, &mut observer, cancel_flag())?;
    bar.finish_and_clear();
    Ok(best)
}

/// Measures on a device, in rounds; the models stay in the folder, the fastest of each is its record.
fn there(
    args: &Args,
    device: &mut dyn Device,
    models: &BTreeMap<String, Vec<u8>>,
    printer: Printer,
) -> anyhow::Result<Measured> {
    let mut files = Vec::new();
    for (i, onnx) in models.values().enumerate() {
        let file = args.out.join("models").join(format!("{i}.onnx"));
        write_file(&file, onnx)?;
        files.push(file);
    }
    let mut options = args.runtime.options();
    options.extend(["--max-runs".into(), args.max_runs.to_string()]);
    options.extend(["--max-seconds".into(), args.max_seconds.to_string()]);
    let job = ModelJob {
        options,
        profiler: args.device.profiler_bin.clone(),
        ort_lib: args.runtime.ort_lib.clone(),
        rounds: args.device.rounds.max(1),
        ..ModelJob::default()
    };
    let found = bench_with_bar(device, &files, &job, "profile", printer)?;
    let mut best = Measured::new();
    let mut lines = String::new();
    for (key, fastest) in models.keys().zip(found.fastest()) {
        let record = Record { key: key.clone(), measurement: fastest.latency, passes: job.rounds, drift: None };
        lines += &(serde_json::to_string(&record)? + "\n");
        best.insert(key.clone(), record);
    }
    write_file(&args.out.join(RECORDS_FILE), lines.as_bytes())?;
    Ok(best)
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let net = args.network.load(args.px)?.net;
    let cut = if args.by == By::Cells { Cut::Cells } else { Cut::Operations };
    let blocks = net.blocks(args.px, cut)?;
    let whole = Block { name: WHOLE.into(), count: 1, graph: net.classifier_graph(args.px)? };
    let mut models = BTreeMap::new();
    for block in blocks.iter().chain([&whole]) {
        models.insert(block.name.clone(), block.graph.to_onnx(&OnnxOptions::default())?);
    }
    let best = match &args.device.target {
        None => here(args, &models, printer)?,
        Some(target) => there(args, target.open(args.device.remote_folder.clone())?.as_mut(), &models, printer)?,
    };
    let median = |name: &str| best.get(name).map_or(f64::NAN, |r| r.measurement.median_us);
    let row = |b: &'_ Block| (median(&b.name), b.graph.macs(), b.graph.params());
    let mut rows = Vec::new();
    for block in &blocks {
        let (median_us, macs, params) = row(block);
        rows.push(Row { block: &block.name, count: block.count, median_us, macs, params });
    }
    let total = |r: &Row<'_>| r.median_us * r.count as f64;
    rows.sort_by(|a, b| total(b).total_cmp(&total(a)));
    let sum_us: f64 = rows.iter().map(total).sum();
    let network_us = median(WHOLE);
    printer.result(format_args!("{:<44} {:>5} {:>10} {:>10} {:>6}", "block", "count", "us", "sum us", "%"))?;
    for r in &rows {
        let (name, share) = (r.block, total(r) / sum_us * 100.0);
        printer.result(format_args!(
            "{name:<44} {:>5} {:>10.1} {:>10.1} {share:>6.1}",
            r.count,
            r.median_us,
            total(r)
        ))?;
    }
    printer.result(format_args!(
        "sum {:.3} ms, network {:.3} ms: the network takes {:.3} of the sum",
        sum_us / 1e3,
        network_us / 1e3,
        network_us / sum_us
    ))?;
    let report = Report { blocks: rows, sum_us, network_us };
    write_file(&args.out.join("blocks.json"), &serde_json::to_vec_pretty(&report)?)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use inas_device::mock::{Fault, MockDevice, Script};

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// On the scripted device a model takes as many microseconds as it has bytes.
    #[test]
    fn blocks_are_measured_on_a_device_whose_cable_is_pulled() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, [0; 8]).unwrap();
        let out = dir.path().join("out");
        let paths = [program.to_str().unwrap(), out.to_str().unwrap()];
        let line = ["profile", "dots-c10", "--rounds", "2", "--profiler-bin", paths[0], "-o", paths[1]];
        let args = Line::try_parse_from(line).unwrap().args;
        // More than ten: the order of files is not that of their names.
        let models: BTreeMap<String, Vec<u8>> =
            (0..12).map(|i| (format!("block {i}"), vec![0; 100 + i * 10])).collect();
        let cut = Fault::Cut { attempts: 1, meanwhile: 0 };
        let script = Script { faults: [(5, cut.clone()), (17, cut)].into(), ..Script::default() };
        let mut device = MockDevice::new(script);
        let found = there(&args, &mut device, &models, Printer::new(true)).unwrap();
        assert!(device.files.is_empty(), "files are left: {:?}", device.files.keys());
        assert_eq!(found.len(), 12);
        for (name, model) in &models {
            assert_eq!((found[name].measurement.median_us, found[name].passes), (model.len() as f64, 2), "{name}");
        }
        let records = std::fs::read_to_string(out.join(RECORDS_FILE)).unwrap();
        let keys: Vec<_> = records.lines().map(|l| serde_json::from_str::<Record<String>>(l).unwrap().key).collect();
        assert_eq!(keys, models.into_keys().collect::<Vec<_>>());
    }
}
