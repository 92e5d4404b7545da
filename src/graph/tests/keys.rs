//! Keys come from files: those that describe no block are errors, never panics or blocks of another shape.

use inas_graph::{Error, SeededWeights, block, cost};
use inas_space::{BlockKey, PRESETS, Space};

#[test]
fn every_key_of_every_preset_can_be_built() {
    for (name, _) in PRESETS {
        let space = Space::preset(name).unwrap();
        for px in [224, 256] {
            for key in space.block_keys(px).unwrap() {
                let built = cost::of_block(&space, &key).unwrap();
                assert_eq!(built.macs == 0, key.is_identity() && key.in_ch == key.out_ch, "{key}");
            }
        }
    }
}

#[test]
fn keys_that_describe_no_block_are_errors() {
    let space = Space::preset("iccv21").unwrap();
    for text in [
        // Fields that are missing.
        "stem 224-112 3-32",
        "stem 224-112 3-32 k3",
        "mbconv 56-28 24-40",
        "mbconv 56-28 24-40 k3 s2",
        "transport_fusion 56-56 24-24 n3",
        "transport_fusion 56-56 24-24 k3",
        // Fields that the kind does not have.
        "stem 224-112 3-32 k3 s2 n3",
        "stem 224-112 3-32 k3 s2 e6",
        "head 112-224 16-1 k3",
        "transport_branch 28-56 40-24 s2",
        "decoder_fusion 56-56 24-24 n2 k3 s1",
        // Sides that do not follow from the input.
        "stem 224-100 3-32 k3 s2",
        "mbconv 56-56 24-40 k3 s2 e6",
        "head 112-225 16-1",
        "transport_branch 8-12 4-6",
        "decoder_branch 8-12 4-6",
        "decoder_branch 8-4 4-6",
        "decoder_fusion 56-28 24-24 n2 k3",
        // Numbers that no block has.
        "head 0-224 16-1",
        "head 112-0 16-1",
        "transport_branch 8-0 4-4",
        "mbconv 8-8 0-4 k3 s1 e6",
        "mbconv 8-8 4-0 k3 s1 e6",
        "mbconv 56-56 24-40 k4 s1 e6",
        "mbconv 8-8 4000000000-4 k3 s1 e6",
    ] {
        let key: BlockKey = text.parse().unwrap();
        let error = cost::of_block(&space, &key).unwrap_err();
        assert!(matches!(error, Error::Key { key: ref named, .. } if *named == key.to_string()), "{text}: {error}");
        assert!(block(&space, &key, &mut SeededWeights::new(0)).is_err(), "{text}");
    }
    for text in ["transport_branch 7-3 4-4", "transport_fusion 56-56 24-40 n2 k3", "mbconv 56-28 24-40 k3 s3 e6"] {
        let error = cost::of_block(&space, &text.parse().unwrap()).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{text}: {error}");
    }
}

#[test]
fn huge_keys_have_a_saturated_cost() {
    let space = Space { squeeze_excite: None, ..Space::preset("iccv21").unwrap() };
    let key = "transport_fusion 4294967295-4294967295 65535-65535 n1 k65535".parse().unwrap();
    assert_eq!(cost::of_block(&space, &key).unwrap().macs, u64::MAX);
}

#[test]
fn a_key_on_its_own_level_is_one_identity_or_one_convolution() {
    let space = Space::preset("iccv21").unwrap();
    for (text, op) in [("transport_branch 28-28 40-40", "Identity"), ("transport_branch 28-28 40-44", "Conv")] {
        let graph = block(&space, &text.parse().unwrap(), &mut SeededWeights::new(0)).unwrap();
        assert_eq!(graph.op_counts().into_iter().collect::<Vec<_>>(), [(op, 1)], "{text}");
    }
}
