//! One model measured on a device.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use inas_profiler::{Measurement, RuntimeInfo};
use serde::{Deserialize, Serialize};

use crate::command::{Limits, Stream, quote};
use crate::facts::Facts;
use crate::session::{PROFILER, check_fit, file_name, find_profiler, libraries};
use crate::transport::Device;
use crate::{Error, Result};

/// Name of the model on the device.
const MODEL: &str = "inas-model.onnx";

/// What to measure, and with what.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The model's file.
    pub model: PathBuf,
    /// Options for `inas-profiler bench` beside `--json` and `--ort-lib`.
    pub options: Vec<String>,
    /// The measuring program for the device; else it is looked for.
    pub profiler: Option<PathBuf>,
    /// ONNX Runtime's library for the device.
    pub ort_lib: Option<PathBuf>,
    /// Leave the program on the device for the next time.
    pub keep: bool,
    /// Longest time for the measurement.
    pub silence: Duration,
}

/// A model's latency on a device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Benched {
    /// What ran it.
    pub runtime: RuntimeInfo,
    /// Threads of one inference.
    pub threads: usize,
    /// The measurement.
    pub latency: Measurement,
}

/// Brings the measuring program and a model to a device, measures, and leaves the device as it was.
pub fn bench_on(device: &mut dyn Device, bench: &Bench, cancel: &AtomicBool) -> Result<(Facts, Benched)> {
    device.connect()?;
    let facts = device.facts()?;
    let program = bench.profiler.clone().map_or_else(|| find_profiler(&facts, bench.ort_lib.is_some()), Ok)?;
    check_fit(device, &program, &facts)?;
    device.push(&program, PROFILER)?;
    let libraries = bench.ort_lib.as_deref().map(libraries).unwrap_or_default();
    let mut names = vec![MODEL.to_owned()];
    for library in &libraries {
        device.push(library, &file_name(library))?;
        names.push(file_name(library));
    }
    device.push(&bench.model, MODEL)?;
    let limits = Limits { silence: bench.silence, cancel };
    let measured = measure(device, MODEL, &bench.options, bench.ort_lib.as_deref(), &limits);
    if !bench.keep {
        names.push(PROFILER.to_owned());
    }
    // What was measured counts, even when the device can no longer be tidied up.
    let _ = device.remove(&names.iter().map(String::as_str).collect::<Vec<_>>());
    Ok((facts, measured?))
}

/// Runs `inas-profiler bench` on a model that was brought to the device.
pub(crate) fn measure(
    device: &mut dyn Device,
    model: &str,
    options: &[String],
    library: Option<&Path>,
    limits: &Limits<'_>,
) -> Result<Benched> {
    let mut words: Vec<String> = ["bench", model, "--json"].map(str::to_owned).to_vec();
    words.extend(options.iter().cloned());
    words.extend(library.iter().flat_map(|lib| ["--ort-lib".into(), format!("./{}", file_name(lib))]));
    let words: Vec<String> = words.iter().map(|w| quote(w)).collect();
    let command = format!("cd {} && ./{PROFILER} {}", quote(device.folder()), words.join(" "));
    let (mut found, mut said) = (None, String::new());
    let code = device.exec(&command, limits, &mut |stream, line| match stream {
        // One line; what else a shell says is left aside.
        Stream::Out => found = serde_json::from_str(line).ok().or(found.take()),
        Stream::Err => said = format!(": {line}"),
    })?;
    match found {
        Some(benched) if code == 0 => Ok(benched),
        _ => Err(Error::Command { device: device.name().to_owned(), command: format!("{PROFILER} bench"), code, said }),
    }
}
