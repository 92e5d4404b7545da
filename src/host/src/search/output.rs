//! The front in files.

use std::path::Path;

use super::{Evaluated, Result, SearchError};

/// Writes the front as CSV: `hash, latency_ms, backbone_ms, transport_ms, decoder_ms, f_max, mae, arch` (JSON), one
/// row an architecture. The file appears whole or not at all.
pub fn write_front_csv(path: &Path, front: &[Evaluated]) -> Result<()> {
    let bad = |e: String| SearchError::Format { path: path.into(), reason: e };
    let mut csv = csv::Writer::from_writer(Vec::new());
    let columns = ["hash", "latency_ms", "backbone_ms", "transport_ms", "decoder_ms", "f_max", "mae", "arch"];
    csv.write_record(columns).map_err(|e| bad(e.to_string()))?;
    for e in front {
        let l = &e.latency;
        let times = [l.total(), l.backbone, l.transport, l.decoder].map(|t| t.ms().to_string());
        let [total, backbone, transport, decoder] = times;
        let (f_max, mae) = (e.score.f_max.to_string(), e.score.mae.to_string());
        let row = [e.hash.clone(), total, backbone, transport, decoder, f_max, mae, e.arch.to_json()];
        csv.write_record(row).map_err(|e| bad(e.to_string()))?;
    }
    let bytes = csv.into_inner().map_err(|e| bad(e.to_string()))?;
    write_whole(path, &bytes)
}

/// Writes the front as a JSON array of [`Evaluated`]. The file appears whole or not at all.
pub fn write_front_json(path: &Path, front: &[Evaluated]) -> Result<()> {
    write_json(path, &front)
}

fn write_json<T: serde::Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| SearchError::Format { path: path.into(), reason: e.to_string() })?;
    bytes.push(b'\n');
    write_whole(path, &bytes)
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    crate::files::replace(path, bytes).map_err(|source| SearchError::Io { path: path.into(), source })
}
