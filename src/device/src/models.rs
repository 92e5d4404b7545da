//! Measuring whole models on a device.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bench::{Benched, measure};
use crate::command::Limits;
use crate::facts::Facts;
use crate::session::{PROFILER, check_fit, file_name, find_profiler, libraries};
use crate::transport::Device;
use crate::{Error, Result};

/// Cuts of the connection in a row that are too many.
const MOST_CUTS: usize = 4;

/// What to measure models with.
#[derive(Debug, Clone)]
pub struct ModelJob {
    /// Options for `inas-profiler bench` beside the model, `--json` and `--ort-lib`.
    pub options: Vec<String>,
    /// The measuring program for the device; else it is looked for.
    pub profiler: Option<PathBuf>,
    /// ONNX Runtime's library for the device.
    pub ort_lib: Option<PathBuf>,
    /// Leave the program on the device for the next time.
    pub keep: bool,
    /// Rounds over all models, so that a slow phase of the device falls on no model alone.
    pub rounds: usize,
    /// Longest time of one measurement.
    pub silence: Duration,
    /// Longest wait for the device to come back.
    pub reconnect: Duration,
    /// Pause between two attempts to connect.
    pub pause: Duration,
}

impl Default for ModelJob {
    /// One round without options; five minutes of silence at most and ten for a device to come back.
    fn default() -> Self {
        Self {
            options: Vec::new(),
            profiler: None,
            ort_lib: None,
            keep: false,
            rounds: 1,
            silence: Duration::from_mins(5),
            reconnect: Duration::from_mins(10),
            pause: Duration::from_secs(1),
        }
    }
}

/// What measuring models on a device found.
#[derive(Debug, Clone)]
pub struct Found {
    /// What the device tells of itself.
    pub facts: Facts,
    /// One measurement a round for each model, in the order of the models.
    pub rounds: Vec<Vec<Benched>>,
}

impl Found {
    /// The fastest measurement of each model: only a disturbance adds time. Without a round there is none.
    pub fn fastest(&self) -> impl Iterator<Item = &Benched> {
        let faster = |a: &&Benched, b: &&Benched| a.latency.median_us.total_cmp(&b.latency.median_us);
        self.rounds.iter().filter_map(move |rounds| rounds.iter().min_by(faster))
    }
}

/// Measures models on a device in rounds.
///
/// Program and models are pushed unless they are there, and removed in the end, also when measuring failed. A measurement
/// that a cut cable ended is repeated. `observer` gets the number of finished measurements.
pub fn bench_models(
    device: &mut dyn Device,
    models: &[PathBuf],
    job: &ModelJob,
    observer: &mut dyn FnMut(usize),
    cancel: &AtomicBool,
) -> Result<Found> {
    device.connect()?;
    let facts = device.facts()?;
    let program = job.profiler.clone().map_or_else(|| find_profiler(&facts, job.ort_lib.is_some()), Ok)?;
    check_fit(device, &program, &facts)?;
    let mut files = vec![(program, PROFILER.to_owned())];
    files.extend(models.iter().enumerate().map(|(i, model)| (model.clone(), model_name(i))));
    files.extend(
        job.ort_lib.as_deref().map(libraries).unwrap_or_default().into_iter().map(|l| (l.clone(), file_name(&l))),
    );
    let measured = push_and_measure(device, &files, models.len(), job, observer, cancel);
    let left = |name: &str| !(job.keep && name == PROFILER);
    let names: Vec<&str> = files.iter().map(|f| f.1.as_str()).filter(|name| left(name)).collect();
    // What was measured counts, even when the device can no longer be tidied up.
    let _ = device.remove(&names);
    Ok(Found { facts, rounds: measured? })
}

fn push_and_measure(
    device: &mut dyn Device,
    files: &[(PathBuf, String)],
    models: usize,
    job: &ModelJob,
    observer: &mut dyn FnMut(usize),
    cancel: &AtomicBool,
) -> Result<Vec<Vec<Benched>>> {
    for (file, name) in files {
        through_cuts(device, job, cancel, &mut |device| device.push(file, name).map(drop))?;
    }
    let mut measured = vec![Vec::with_capacity(job.rounds); models];
    let mut done = 0;
    for round in 0..job.rounds {
        for n in 0..models {
            // Each round starts at another model.
            let i = (n + round * models / job.rounds.max(1)) % models;
            let mut found = None;
            through_cuts(device, job, cancel, &mut |device| {
                let limits = Limits { silence: job.silence, cancel };
                found = Some(measure(device, &model_name(i), &job.options, job.ort_lib.as_deref(), &limits)?);
                Ok(())
            })?;
            measured[i].extend(found);
            done += 1;
            observer(done);
        }
    }
    Ok(measured)
}

fn model_name(i: usize) -> String {
    format!("model-{i}.onnx")
}

/// Does a step that may be repeated; waits for a device that went away.
fn through_cuts(
    device: &mut dyn Device,
    job: &ModelJob,
    cancel: &AtomicBool,
    step: &mut dyn FnMut(&mut dyn Device) -> Result<()>,
) -> Result<()> {
    let mut cuts = 0;
    loop {
        let reason = match step(device) {
            Err(Error::Lost { reason, .. }) => reason,
            other => return other,
        };
        cuts += 1;
        if cuts >= MOST_CUTS {
            return Err(Error::Stuck { device: device.name().to_owned(), times: cuts, reason });
        }
        let start = Instant::now();
        while let Err(error) = device.connect() {
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::Interrupted { device: device.name().to_owned() });
            }
            if start.elapsed() >= job.reconnect {
                let waited_s = job.reconnect.as_secs();
                return Err(Error::Gone { device: device.name().to_owned(), waited_s, reason: error.to_string() });
            }
            std::thread::sleep(job.pause);
        }
    }
}
