//! `inas profile --target`: on other devices, several at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use inas_device::{Event, Job, Target, profile_on};
use inas_profiler::Profile;
use inas_profiler::measure::Protocol;
use inas_space::Space;
use indicatif::{MultiProgress, ProgressBar};

use crate::commands::{cancel_flag, hint};
use crate::printer::Printer;

#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Other devices")]
pub(crate) struct Args {
    /// Measure there: local, adb, adb:SERIAL, ssh:USER@HOST or ssh:USER@HOST:PORT; several run at the same time, each into a folder of --out.
    #[arg(long = "target", value_name = "DEVICE")]
    targets: Vec<Target>,
    /// `inas-profiler` for the device; default: beside this program, or what scripts/build-device made.
    #[arg(long, value_name = "FILE", requires = "targets")]
    profiler_bin: Option<PathBuf>,
    /// Folder on the device to work in.
    #[arg(long, value_name = "DIR", requires = "targets")]
    remote_folder: Option<String>,
    /// Throw away an unfinished profile that is on the device.
    #[arg(long, requires = "targets", conflicts_with = "resume")]
    discard: bool,
    /// Leave the measuring program on the device for the next time.
    #[arg(long, requires = "targets")]
    keep: bool,
    /// Wait this long for a device that was unplugged or restarts, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "targets")]
    reconnect_wait: u64,
}

impl Args {
    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }
}

/// Profiles every target; false when one of several failed.
pub(super) fn run(args: &super::Args, printer: Printer) -> anyhow::Result<bool> {
    anyhow::ensure!(args.calibrate == 0, "--calibrate measures on this machine and does not go with --target");
    let out = args.out.as_deref().context("no folder for the profile")?;
    let targets = &args.targets.targets;
    let space = Space::load(&args.space)?;
    let jobs: Vec<(&Target, Job)> = targets
        .iter()
        .map(|target| {
            let out = if targets.len() == 1 { out.to_owned() } else { out.join(target.folder_name()) };
            (target, job(args, &space, out))
        })
        .collect();
    let bars = printer.bars();
    let results: Vec<anyhow::Result<Profile>> = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (target, job) in &jobs {
            let (bars, folder) = (&bars, args.targets.remote_folder.clone());
            threads.push(scope.spawn(move || one(target, job, folder, bars, printer)));
        }
        let ended = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("internal failure")))
        };
        threads.into_iter().map(ended).collect()
    });
    let mut good = true;
    for ((target, job), result) in jobs.iter().zip(results) {
        match result {
            Ok(profile) => told(target, &job.out, &profile, printer)?,
            Err(error) if targets.len() == 1 => return Err(error),
            Err(error) => {
                Printer::error(&error.context(target.to_string()));
                good = false;
            }
        }
    }
    Ok(good)
}

fn told(target: &Target, out: &Path, profile: &Profile, printer: Printer) -> anyhow::Result<()> {
    let rows = profile.rows();
    let noisy = rows.values().filter(|r| r.measurement.noisy).count();
    printer.result(format_args!("{target}: {} blocks, {noisy} noisy, in {}", rows.len(), out.display()))?;
    if let Some(emulator) = &profile.facts().device.emulator {
        printer.note(format_args!("warning: measured under {emulator}: these latencies say nothing of a real device"));
    }
    Ok(())
}

fn one(
    target: &Target,
    job: &Job,
    folder: Option<String>,
    bars: &MultiProgress,
    printer: Printer,
) -> anyhow::Result<Profile> {
    let mut device = target.open(folder)?;
    let name = device.name().to_owned();
    let bar = bars.add(printer.bar("profile", 1));
    bar.set_prefix(name.clone());
    let mut observer = |event: &Event| match event {
        Event::Block(line) => {
            bar.set_length(line.total as u64);
            bar.set_position((line.total - line.left.min(line.total)) as u64);
            bar.set_message(super::block_message(line));
        }
        other => note(&name, other, bars, printer),
    };
    let profile = profile_on(device.as_mut(), job, &mut observer, cancel_flag());
    ProgressBar::finish_and_clear(&bar);
    let lost = matches!(profile, Err(inas_device::Error::Lost { .. }));
    if lost { hint(profile, format!("`inas doctor --target {name}` finds out why")) } else { Ok(profile?) }
}

fn note(name: &str, event: &Event, bars: &MultiProgress, printer: Printer) {
    let text = match event {
        Event::Connected(facts) => {
            let words = [facts.model.clone(), facts.soc.clone(), facts.machine.clone(), Some(facts.clusters())];
            let words: Vec<String> = words.into_iter().flatten().filter(|w| !w.is_empty()).collect();
            format!("{name}: {}", words.join(", "))
        }
        Event::File { name: file, pushed: inas_device::Pushed::Sent } => format!("{name}: brought {file}"),
        Event::File { name: file, .. } => format!("{name}: {file} is there already"),
        Event::Note(text) => format!("{name}: {text}"),
        Event::Lost(reason) => format!("{name}: connection lost ({reason}); waiting for it"),
        Event::Back { rebooted: true } => format!("{name}: back after a restart, going on"),
        Event::Back { rebooted: false } => format!("{name}: back, going on"),
        Event::Block(_) => return,
    };
    bars.suspend(|| printer.note(text));
}

fn job(args: &super::Args, space: &Space, out: PathBuf) -> Job {
    let care = &args.care;
    let measuring = [
        ("--max-runs", args.max_runs.to_string()),
        ("--max-seconds", args.max_seconds.to_string()),
        ("--target-ci", care.target_ci.to_string()),
        ("--cold-runs", care.cold_runs.to_string()),
        ("--max-celsius", care.max_celsius.to_string()),
        ("--max-passes", care.max_passes.to_string()),
        ("--seed", args.seed.to_string()),
    ];
    let mut options = args.runtime.options();
    options.extend(measuring.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
    options.extend(args.px.iter().flat_map(|px| ["--px".into(), px.to_string()]));
    options.extend(care.cores.iter().flat_map(|cores| ["--cores".into(), cores.to_string()]));
    // A block may wait for the device to cool, and then be measured as long as it may.
    let silence = Protocol::default().max_wait_seconds + 4.0 * args.max_seconds + 60.0;
    Job {
        space: space.clone(),
        options,
        profiler: args.targets.profiler_bin.clone(),
        ort_lib: args.runtime.ort_lib.clone(),
        out,
        resume: args.resume,
        discard: args.targets.discard,
        keep: args.targets.keep,
        silence: Duration::from_secs_f64(silence),
        reconnect: Duration::from_secs(args.targets.reconnect_wait),
        pause: Duration::from_secs(1),
    }
}
