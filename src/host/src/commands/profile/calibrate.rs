//! `inas profile calibrate`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use inas_profiler::Backend;
use inas_profiler::calibrate::Calibration;
use inas_profiler::networks::{Turns, measure_in_turns, spread};
use inas_profiler::profile::Profile;

use super::load;
use crate::printer::{Printer, follow};

/// Error of a calibration from which on it tells of a disturbed machine, percent.
pub(crate) const DOUBTFUL_PERCENT: f64 = 10.0;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Profile folder.
    #[arg(long, value_name = "DIR")]
    profile: PathBuf,
    /// Networks to measure.
    #[arg(long, default_value_t = 30)]
    nets: usize,
    /// Seed of the draw.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// ONNX Runtime's shared library; default: ORT_DYLIB_PATH, then a pip-installed onnxruntime.
    #[arg(long, value_name = "FILE")]
    ort_lib: Option<PathBuf>,
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let mut profile = Profile::read(&args.profile)?;
    let runtime = super::open_as(&profile, args.ort_lib.as_deref(), printer)?;
    calibrate(&mut profile, &args.profile, runtime.as_ref(), args.nets, args.seed, printer)?;
    Ok(true)
}

/// Measures `nets` networks that span the space and fits the profile's model on them.
pub(super) fn calibrate(
    profile: &mut Profile,
    folder: &Path,
    runtime: &dyn Backend,
    nets: usize,
    seed: u64,
    printer: Printer,
) -> anyhow::Result<()> {
    let (space, px) = (profile.space().clone(), profile.input_px());
    let archs = spread(&space, &profile.table(), px, nets, seed, &BTreeSet::new())?;
    let bar = printer.bar("calibrate", archs.len() as u64);
    let before = load();
    let turned = measure_in_turns(profile, &archs, runtime, &Turns::default(), seed, &mut follow(&bar))?;
    bar.finish_and_clear();
    let measured: Vec<_> =
        archs.into_iter().zip(turned).map(|(arch, t)| (arch, t.latency_us, (t.spread() * 1e4).round() / 1e4)).collect();
    let calibration = Calibration::fit(profile, &measured, [before, load()])?;
    printer.result(format_args!(
        "calibrated on {} networks: error {:.2} % when left out of the fit, 95 % interval +-{:.1} %",
        measured.len(),
        calibration.cross_validated_mape_percent,
        calibration.interval * 100.0
    ))?;
    if calibration.cross_validated_mape_percent > DOUBTFUL_PERCENT {
        printer.note(
            "warning: so large an error says that something disturbed the machine: calibrate again when it is quiet",
        );
    }
    for (term, coefficient) in calibration.coefficients.iter().filter(|c| *c.1 > 0.0) {
        printer.note(format_args!("  {term:<16} {coefficient:>9.4}"));
    }
    Ok(profile.calibrate(calibration, Some(folder))?)
}
