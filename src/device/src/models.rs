//! Measuring whole models on a device.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use inas_profiler::Measurement;

use crate::command::{Limits, Stream, quote};
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
    /// Rounds over all models, so that a slow phase of the device falls on no model alone.
    pub rounds: usize,
    /// Longest time of one measurement.
    pub silence: Duration,
    /// Longest wait for the device to come back.
    pub reconnect: Duration,
    /// Pause between two attempts to connect.
    pub pause: Duration,
}

/// Measures models on a device in rounds; one measurement a round for each model, in the order of `models`.
///
/// Program and models are pushed unless they are there, and removed in the end. A measurement that a cut cable ended is
/// repeated. `observer` gets the number of finished measurements.
pub fn bench_models(
    device: &mut dyn Device,
    models: &[PathBuf],
    job: &ModelJob,
    observer: &mut dyn FnMut(usize),
    cancel: &AtomicBool,
) -> Result<Vec<Vec<Measurement>>> {
    device.connect()?;
    let facts = device.facts()?;
    let program = job.profiler.clone().map_or_else(|| find_profiler(&facts, job.ort_lib.is_some()), Ok)?;
    check_fit(device, &program, &facts)?;
    let mut files = vec![(program, PROFILER.to_owned())];
    files.extend(models.iter().enumerate().map(|(i, model)| (model.clone(), model_name(i))));
    files.extend(
        job.ort_lib.as_deref().map(libraries).unwrap_or_default().into_iter().map(|l| (l.clone(), file_name(&l))),
    );
    for (file, name) in &files {
        through_cuts(device, job, cancel, &mut |device| device.push(file, name).map(drop))?;
    }
    let mut measured = vec![Vec::with_capacity(job.rounds); models.len()];
    let mut done = 0;
    for round in 0..job.rounds {
        for n in 0..models.len() {
            // Each round starts at another model.
            let i = (n + round * models.len() / job.rounds.max(1)) % models.len();
            let mut found = None;
            through_cuts(device, job, cancel, &mut |device| {
                found = Some(bench(device, &model_name(i), job, cancel)?);
                Ok(())
            })?;
            measured[i].extend(found);
            done += 1;
            observer(done);
        }
    }
    let names: Vec<&str> = files.iter().map(|f| f.1.as_str()).collect();
    // The measurements are here; files that are left only take room.
    let _ = device.remove(&names);
    Ok(measured)
}

fn model_name(i: usize) -> String {
    format!("model-{i}.onnx")
}

fn bench(device: &mut dyn Device, model: &str, job: &ModelJob, cancel: &AtomicBool) -> Result<Measurement> {
    let mut words = vec!["bench".to_owned(), model.to_owned(), "--json".into()];
    words.extend(job.options.iter().cloned());
    words.extend(job.ort_lib.iter().flat_map(|lib| ["--ort-lib".into(), format!("./{}", file_name(Path::new(lib)))]));
    let words: Vec<String> = words.iter().map(|w| quote(w)).collect();
    let command = format!("cd {} && ./{PROFILER} {}", quote(device.folder()), words.join(" "));
    let (mut found, mut said) = (None, String::new());
    let limits = Limits { silence: job.silence, cancel };
    let code = device.exec(&command, &limits, &mut |stream, line| match stream {
        Stream::Out => {
            let json = serde_json::from_str::<serde_json::Value>(line).ok();
            found = json.and_then(|mut j| serde_json::from_value(j["latency"].take()).ok()).or(found.take());
        }
        Stream::Err => said = format!(": {line}"),
    })?;
    match found {
        Some(measurement) if code == 0 => Ok(measurement),
        _ => Err(Error::Command { device: device.name().to_owned(), command: format!("{PROFILER} bench"), code, said }),
    }
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
