//! Where models are measured, and measuring them there.

use std::path::PathBuf;

use inas_device::{Device, Found, ModelJob, Target, bench_models};
use inas_profiler::profile::Profile;

use super::cancel_flag;
use super::profile::RuntimeArgs;
use crate::printer::Printer;

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Measuring on the device")]
pub(crate) struct DeviceArgs {
    /// Measure there: local, adb, adb:SERIAL, ssh:USER@HOST or ssh:USER@HOST:PORT.
    #[arg(long, value_name = "DEVICE", default_value = "local")]
    target: Option<Target>,
    /// Rounds over the networks; the fastest counts.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// `inas-profiler` for the device; default: beside this program, or what scripts/build-device made.
    #[arg(long, value_name = "FILE")]
    profiler_bin: Option<PathBuf>,
    /// Folder on the device to work in.
    #[arg(long, value_name = "DIR")]
    remote_folder: Option<String>,
    /// ONNX Runtime's shared library for the device, when the profile was measured with it.
    #[arg(long, value_name = "FILE")]
    ort_lib: Option<PathBuf>,
}

impl DeviceArgs {
    pub(crate) fn target(&self) -> Target {
        self.target.clone().unwrap_or(Target::Local)
    }

    /// Measures models on the device, with the runtime, threads, cores and providers of the profile; `keep` leaves the
    /// measuring program there.
    pub(crate) fn measure(
        &self,
        profile: &Profile,
        models: &[PathBuf],
        keep: bool,
        printer: Printer,
    ) -> anyhow::Result<Found> {
        let mut device = self.target().open(self.remote_folder.clone())?;
        let job = ModelJob {
            options: bench_options(profile)?,
            profiler: self.profiler_bin.clone(),
            ort_lib: self.ort_lib.clone(),
            keep,
            rounds: self.rounds.max(1),
            ..ModelJob::default()
        };
        let found = bench_with_bar(device.as_mut(), models, &job, "measure", printer)?;
        let noisy = found.rounds.iter().filter(|rounds| rounds.iter().all(|m| m.latency.noisy)).count();
        if noisy > 0 {
            printer.note(format_args!(
                "warning: the device was busy: {noisy} of {} networks had no quiet round; their latencies are too high",
                models.len()
            ));
        }
        Ok(found)
    }
}

/// Measures models on a device under a progress bar of that name.
pub(crate) fn bench_with_bar(
    device: &mut dyn Device,
    models: &[PathBuf],
    job: &ModelJob,
    name: &str,
    printer: Printer,
) -> anyhow::Result<Found> {
    let bar = printer.bar(name, (models.len() * job.rounds) as u64);
    let found = bench_models(device, models, job, &mut |done| bar.set_position(done as u64), cancel_flag())?;
    bar.finish_and_clear();
    Ok(found)
}

/// Runtime, threads, cores and providers of a profile as options of `inas-profiler bench`.
fn bench_options(profile: &Profile) -> anyhow::Result<Vec<String>> {
    let mut options = RuntimeArgs::of(profile, None, "inas-profiler")?.options();
    let cores: Vec<String> = profile.facts().cores.iter().map(usize::to_string).collect();
    if !cores.is_empty() {
        options.extend(["--cores".into(), cores.join(",")]);
    }
    Ok(options)
}
