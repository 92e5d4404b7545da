//! Models as blocks: any set of named ONNX models, measured as the blocks of a space are.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use inas_backend::Backend;
use sha2::{Digest as _, Sha256};

use crate::device::{DeviceFacts, hex16};
use crate::records::{Header, Record};
use crate::run::{LocalBench, Progress, RunOptions, measure_blocks};
use crate::{Error, Result};

/// Measures named models on random inputs into `records.jsonl` of the folder of `options`: in a seeded random order, in
/// segments between timings of the one of middle size, drifted segments again, and resumable, as the blocks of a space
/// ([`crate::run::profile_space`]). Gives the fastest measurement of each.
///
/// # Errors
/// When there are no models, a model cannot be run, the folder holds other records, or `cancel` is raised.
pub fn profile_models(
    models: &BTreeMap<String, Vec<u8>>,
    px: u32,
    backend: &dyn Backend,
    options: &RunOptions,
    observer: &mut dyn FnMut(&Progress<String>),
    cancel: &AtomicBool,
) -> Result<BTreeMap<String, Record<String>>> {
    options.protocol.check()?;
    let mut hash = Sha256::new();
    for (name, onnx) in models {
        hash.update(name);
        hash.update([0]);
        hash.update(onnx);
    }
    let fingerprint = DeviceFacts::read().fingerprint();
    let header = Header::new(fingerprint, hex16(&hash.finalize()), px, backend, options);
    let onnx = |name: &String| match models.get(name) {
        Some(onnx) => Ok(onnx.clone()),
        None => Err(Error::Protocol { reason: "a model to measure is not there" }),
    };
    // The model of middle size exercises what the models spend their time in.
    let mut by_size: Vec<(usize, &String)> = models.iter().map(|(name, onnx)| (onnx.len(), name)).collect();
    by_size.sort_unstable();
    let sentinel = by_size.get(by_size.len() / 2).map(|m| m.1);
    let mut bench = LocalBench::of(Box::new(onnx), sentinel, backend, &options.protocol, options.seed)?;
    let keys = models.keys().cloned().collect();
    Ok(measure_blocks(keys, &header, options, &mut bench, observer, cancel)?.0)
}
