//! Latency of blocks with channel counts that were not measured, between measured ones.

use std::collections::BTreeSet;

use crate::key::{BlockKey, BlockKind};
use crate::{Architecture, Error, LatencyBreakdown, LatencyTable, Micros, Result, Space};

impl LatencyTable {
    /// Latency of a block, and whether it was interpolated.
    ///
    /// A block that was not measured lies between the nearest measured ones that differ in channels only, linearly in
    /// each count. Beyond the measured counts there is no estimate: the error of a missing block.
    pub fn get_or_interpolate(&self, key: &BlockKey) -> Result<(Micros, bool)> {
        match self.get(key) {
            Ok(latency) => Ok((latency, false)),
            Err(missing) => self.between(key).map(|latency| (latency, true)).ok_or(missing),
        }
    }

    fn between(&self, key: &BlockKey) -> Option<Micros> {
        let like = BlockKey { in_ch: 0, out_ch: 0, ..*key };
        let alike: BTreeSet<(u32, u32)> = self
            .iter()
            .filter(|(k, _)| BlockKey { in_ch: 0, out_ch: 0, ..**k } == like)
            .map(|(k, _)| (k.in_ch, k.out_ch))
            .collect();
        let at = |i: u32, o: u32| self.get(&BlockKey { in_ch: i, out_ch: o, ..*key }).ok().map(|l| l.0);
        // Fusions have as many channels out as in: one count, not two.
        if matches!(key.kind, BlockKind::TransportFusion | BlockKind::DecoderFusion) {
            let (low, high) = around(alike.iter().map(|c| c.0), key.in_ch)?;
            return Some(Micros(mix(at(low, low)?, at(high, high)?, share(key.in_ch, low, high))));
        }
        let (low_in, high_in) = around(alike.iter().map(|c| c.0), key.in_ch)?;
        let (low_out, high_out) = around(alike.iter().map(|c| c.1), key.out_ch)?;
        let out = share(key.out_ch, low_out, high_out);
        let low = mix(at(low_in, low_out)?, at(low_in, high_out)?, out);
        let high = mix(at(high_in, low_out)?, at(high_in, high_out)?, out);
        Some(Micros(mix(low, high, share(key.in_ch, low_in, high_in))))
    }

    /// [`LatencyTable::latency`] with channel counts that were not measured interpolated; those blocks are listed.
    pub fn latency_interpolated(
        &self,
        space: &Space,
        arch: &Architecture,
        px: u32,
    ) -> Result<(LatencyBreakdown, Vec<BlockKey>)> {
        let (mut sum, mut estimated) = (LatencyBreakdown::default(), Vec::new());
        for block in space.blocks(arch, px)? {
            // The network of another space may have a stage that this table knows nothing of.
            let (latency, interpolated) = self.get_or_interpolate(&block.key).map_err(|e| match e {
                Error::MissingBlock { key } => Error::MissingBlock { key: format!("{key} ({})", block.name) },
                other => other,
            })?;
            sum.add(block.part, latency);
            if interpolated {
                estimated.push(block.key);
            }
        }
        Ok((sum, estimated))
    }
}

/// Nearest values not above and not below `wanted`.
fn around(values: impl Iterator<Item = u32>, wanted: u32) -> Option<(u32, u32)> {
    let values: BTreeSet<u32> = values.collect();
    Some((*values.range(..=wanted).next_back()?, *values.range(wanted..).next()?))
}

fn share(value: u32, low: u32, high: u32) -> f64 {
    if low == high { 0.0 } else { f64::from(value - low) / f64::from(high - low) }
}

fn mix(low: f64, high: f64, share: f64) -> f64 {
    low + (high - low) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> BlockKey {
        text.parse().unwrap()
    }

    fn table(rows: &[(&str, f64)]) -> LatencyTable {
        rows.iter().map(|(k, us)| (key(k), Micros(*us))).collect()
    }

    #[test]
    fn plane_is_met_exactly_and_flagged() {
        let plane = |i: u32, o: u32| 10.0 + 2.0 * f64::from(i) + 3.0 * f64::from(o);
        let rows = [(8, 16), (8, 24), (16, 16), (16, 24)];
        let of = |i: u32, o: u32| key(&format!("mbconv 56-28 {i}-{o} k7 s2 e6"));
        let table: LatencyTable = rows.iter().map(|(i, o)| (of(*i, *o), Micros(plane(*i, *o)))).collect();
        let (latency, flagged) = table.get_or_interpolate(&of(12, 22)).unwrap();
        assert!((latency.0 - plane(12, 22)).abs() < 1e-9 && flagged);
        assert_eq!(table.get_or_interpolate(&of(8, 24)).unwrap(), (Micros(plane(8, 24)), false));
        assert!(table.get_or_interpolate(&of(8, 18)).unwrap().1);
        for outside in [of(4, 16), of(8, 32), key("mbconv 56-28 8-20 k5 s2 e6")] {
            assert!(matches!(table.get_or_interpolate(&outside), Err(Error::MissingBlock { .. })), "{outside}");
        }
    }

    #[test]
    fn fusions_have_one_channel_count() {
        let table = table(&[("decoder_fusion 8-8 16-16 n2 k3", 10.0), ("decoder_fusion 8-8 32-32 n2 k3", 30.0)]);
        let (latency, flagged) = table.get_or_interpolate(&key("decoder_fusion 8-8 24-24 n2 k3")).unwrap();
        assert_eq!((latency, flagged), (Micros(20.0), true));
    }
}
