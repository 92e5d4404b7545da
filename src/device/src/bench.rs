//! One measurement of a model on a device.

use std::path::Path;

use inas_profiler::{Measurement, RuntimeInfo};
use serde::{Deserialize, Serialize};

use crate::command::{Limits, Stream, quote};
use crate::session::{PROFILER, file_name};
use crate::transport::Device;
use crate::{Error, Result};

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
