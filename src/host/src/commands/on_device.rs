//! Where models are measured, and measuring them there.

use std::path::PathBuf;
use std::time::Duration;

use inas_device::{Found, ModelJob, Target, bench_models};
use inas_profiler::backend::ExecutionProvider;
use inas_profiler::profile::Profile;

use super::cancel_flag;
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
            silence: Duration::from_mins(5),
            reconnect: Duration::from_mins(10),
            pause: Duration::from_secs(1),
        };
        let bar = printer.bar("measure", (models.len() * job.rounds) as u64);
        let mut observer = |done| bar.set_position(done as u64);
        let found = bench_models(device.as_mut(), models, &job, &mut observer, cancel_flag())?;
        bar.finish_and_clear();
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

/// Runtime, threads, cores and providers of a profile as options of `inas-profiler bench`.
fn bench_options(profile: &Profile) -> anyhow::Result<Vec<String>> {
    let facts = profile.facts();
    let runtime = match facts.runtime.name.as_str() {
        "tract" => "tract",
        "onnxruntime" => "ort",
        other => anyhow::bail!("the profile was measured with `{other}`, which inas-profiler does not have"),
    };
    let mut options: Vec<String> =
        ["--runtime", runtime, "--threads", &facts.threads.to_string()].map(str::to_owned).into();
    if !facts.cores.is_empty() {
        let cores: Vec<String> = facts.cores.iter().map(usize::to_string).collect();
        options.extend(["--cores".into(), cores.join(",")]);
    }
    for provider in ExecutionProvider::of(&facts.runtime) {
        options.extend(["--ep".into(), provider.name().to_owned()]);
    }
    Ok(options)
}
