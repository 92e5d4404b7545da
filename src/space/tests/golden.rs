//! Space, keys and sums against data made with the public release (`tests/golden/lut`).
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;

use inas_space::{Architecture, BlockKey, LatencyTable, Space};

const LUT: &str = include_str!("../../../tests/golden/lut/lut_224.txt");
const SUMS: &str = include_str!("../../../tests/golden/lut/lut_sums.json");

#[test]
fn iccv21_has_exactly_the_release_keys() {
    let table = LatencyTable::from_release(LUT).unwrap();
    let theirs: BTreeSet<BlockKey> = table.iter().map(|(k, _)| *k).collect();
    let ours = Space::preset("iccv21").unwrap().block_keys(224).unwrap();
    assert_eq!(ours.len(), 2798);
    assert_eq!(ours, theirs);
    let lines: BTreeSet<String> =
        LUT.lines().map(|l| l.split(" latency_mean").next().unwrap().trim().to_owned()).collect();
    assert_eq!(ours.iter().map(BlockKey::to_release).collect::<BTreeSet<_>>(), lines);
}

#[test]
fn sums_equal_the_release_lookups() {
    let space = Space::preset("iccv21").unwrap();
    let table = LatencyTable::from_release(LUT).unwrap();
    let golden: Vec<serde_json::Value> = serde_json::from_str(SUMS).unwrap();
    assert_eq!(golden.len(), 40);
    for entry in golden {
        let arch = Architecture::from_value(entry["arch"].clone()).unwrap();
        let sum = table.latency(&space, &arch, 224).unwrap();
        let expect = |name: &str| entry["latency"][name].as_f64().unwrap();
        for (ours, name) in [
            (sum.backbone, "backbone_latency"),
            (sum.transport, "transport_latency"),
            (sum.decoder, "decoder_latency"),
            (sum.total(), "total_latency"),
        ] {
            assert!((ours.ms() - expect(name)).abs() < 1e-6, "{name}: {} against {}", ours.ms(), expect(name));
        }
    }
}

#[test]
fn release_json_round_trips() {
    let space = Space::preset("iccv21").unwrap();
    let golden: Vec<serde_json::Value> = serde_json::from_str(SUMS).unwrap();
    for entry in golden {
        let arch = Architecture::from_value(entry["arch"].clone()).unwrap();
        assert_eq!(Architecture::from_json(&arch.to_release_json(&space).unwrap()).unwrap(), arch);
    }
}
