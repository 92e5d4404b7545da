//! Scalars as a TensorBoard event file: TFRecord frames of the few protobuf fields that TensorBoard reads.
//!
//! Written with prost and crc32c; the crates for the format that there are pull in a whole tensor library or an old
//! protobuf, and rest.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;

#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// An event file that grows.
pub(super) struct Events {
    file: File,
}

impl Events {
    /// A new file in `dir`, one for each start of the run as TensorBoard expects.
    pub(super) fn create(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let name = format!("events.out.tfevents.{:.6}.{}", seconds(), std::process::id());
        let file = OpenOptions::new().create(true).append(true).open(dir.join(name))?;
        let mut events = Self { file };
        events.frame(&Event {
            wall_time: seconds(),
            file_version: Some("brain.Event:2".into()),
            ..Event::default()
        })?;
        Ok(events)
    }

    /// Adds named scalars of a step.
    pub(super) fn scalars(&mut self, step: usize, values: &[(String, f64)]) -> io::Result<()> {
        let value = values.iter().map(|(tag, v)| Value { tag: tag.clone(), simple_value: *v as f32 }).collect();
        let summary = Some(Summary { value });
        self.frame(&Event { wall_time: seconds(), step: step as i64, file_version: None, summary })
    }

    /// Length, its checksum, the event, its checksum.
    fn frame(&mut self, event: &Event) -> io::Result<()> {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        let checks = [masked(&length), masked(&data)].map(u32::to_le_bytes);
        self.file.write_all(&[&length[..], &checks[0], &data, &checks[1]].concat())
    }
}

/// The format's checksum: CRC-32C, rotated and shifted.
fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_can_be_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut events = Events::create(dir.path()).unwrap();
        events.scalars(7, &[("loss/max".into(), 0.5), ("lr".into(), 1e-3)]).unwrap();
        let path = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
        let bytes = std::fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut found = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(masked(&rest[..8]).to_le_bytes(), rest[8..12]);
            let data = &rest[12..12 + length];
            assert_eq!(masked(data).to_le_bytes(), rest[12 + length..16 + length]);
            found.push(Event::decode(data).unwrap());
            rest = &rest[16 + length..];
        }
        assert_eq!(found[0].file_version.as_deref(), Some("brain.Event:2"));
        let values = &found[1].summary.as_ref().unwrap().value;
        assert_eq!((found[1].step, values[0].tag.as_str(), values[0].simple_value), (7, "loss/max", 0.5));
    }
}
