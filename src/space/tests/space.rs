//! Properties of spaces and architectures.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use inas_space::{Architecture, Error, PRESETS, Space};
use proptest::prelude::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

fn presets() -> Vec<Space> {
    PRESETS.iter().map(|(name, _)| Space::preset(name).unwrap()).collect()
}

#[test]
fn iccv21_is_about_as_large_as_published() {
    let log = Space::preset("iccv21").unwrap().log10_size();
    assert!((log - 61.9).abs() < 0.1, "10^{log}");
}

#[test]
fn nano_is_small() {
    let space = Space::preset("nano").unwrap();
    let keys = space.block_keys(space.input_px).unwrap().len();
    assert!((200..700).contains(&keys), "{keys}");
}

#[test]
fn extremes_are_valid_and_hashes_are_stable() {
    for space in presets() {
        space.validate(&space.min()).unwrap();
        space.validate(&space.max()).unwrap();
        assert_eq!(Space::from_toml(&space.to_toml().unwrap()).unwrap(), space);
    }
    assert_eq!(Space::preset("iccv21").unwrap().max().hash(), "1e89c62488cd7cd9");
}

#[test]
fn bad_spaces_are_refused_with_the_place() {
    let toml = PRESETS[0].1;
    for (from, to, expect) in [
        ("channels = [32, 36, 40]", "channels = []", "stem"),
        ("kernels = [3, 5, 7, 9]", "kernels = [4]", "must be odd"),
        ("input_px = 224", "input_px = 225", "multiple of 32"),
        ("stage = 7", "stage = 9", "level 4"),
        ("required = [0, 1]", "required = [1]", "level 0 decoder"),
        ("expand = 6", "expand = 6\nexpnad = 1", "expnad"),
        ("input_px = 224", "input_px = nan", "line 3, column 12: invalid type"),
        ("name = \"iccv21\"", "name = \"iccv/21\"", "`name`"),
    ] {
        let error = Space::from_toml(&toml.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }
    assert!(Space::preset("icc").unwrap_err().to_string().contains("iccv21"));
    let file = std::env::temp_dir().join(format!("inas-space-{}.toml", std::process::id()));
    std::fs::write(&file, toml.replace("expand = 6", "expand = 0")).unwrap();
    let error = Space::load(file.to_str().unwrap()).unwrap_err().to_string();
    std::fs::remove_file(&file).unwrap();
    assert!(error.starts_with(file.to_str().unwrap()) && error.contains("`expand`"), "{error}");
}

type Change = fn(&mut Architecture);

#[test]
fn foreign_architectures_are_refused_with_the_place() {
    let space = Space::preset("iccv21").unwrap();
    let broken: [(Change, &str); 5] = [
        (|a| a.stem = 33, "stem"),
        (|a| a.stages[2][1].channels = 41, "stage 3 layer 1"),
        (|a| a.stages[0].clear(), "stage 1"),
        (|a| a.decoder[1].sources = vec![1, 3], "source 2 is required"),
        (|a| a.transport[0].kernels = vec![5, 3], "transport level 0"),
    ];
    for (change, expect) in broken {
        let mut arch = space.max();
        change(&mut arch);
        let error = space.validate(&arch).unwrap_err();
        assert!(matches!(error, Error::ArchitectureOutside { .. }) && error.to_string().contains(expect), "{error}");
    }
}

#[test]
fn uniform_draws_reach_every_choice_evenly() {
    let space = Space::preset("iccv21").unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let draws: Vec<Architecture> = (0..3000).map(|_| space.uniform(&mut rng)).collect();
    let share = |test: &dyn Fn(&Architecture) -> bool| draws.iter().filter(|a| test(a)).count() as f64 / 3000.0;
    let near = |got: f64, expect: f64| assert!((got - expect).abs() < 0.03, "{got} against {expect}");
    near(share(&|a| a.stem == 36), 1.0 / 3.0);
    near(share(&|a| a.stages[4].len() == 6), 0.2);
    near(share(&|a| a.stages[2][0].kernels.len() == 4), 0.25);
    near(share(&|a| a.stages[2][0].kernels == [7]), 1.0 / 16.0);
    // One of five with one source, drawn or not, then level 2 added.
    near(share(&|a| a.transport[2].sources == [2]), 0.04);
}

proptest! {
    #[test]
    fn drawn_architectures_belong_to_their_space(seed in any::<u64>(), which in 0..PRESETS.len()) {
        let space = &presets()[which];
        let arch = space.uniform(&mut ChaCha8Rng::seed_from_u64(seed));
        space.validate(&arch).unwrap();
        let keys = space.block_keys(space.input_px).unwrap();
        for block in space.blocks(&arch, space.input_px).unwrap() {
            prop_assert!(keys.contains(&block.key), "{}", block.key);
            prop_assert_eq!(block.key.to_string().parse::<inas_space::BlockKey>().unwrap(), block.key);
        }
        prop_assert_eq!(&Architecture::from_json(&arch.to_json()).unwrap(), &arch);
        prop_assert_eq!(arch.diff(&arch), "");
    }
}

/// The largest backbone of `lite` is EfficientNet-Lite0, whose weights it can start from.
#[test]
fn the_largest_backbone_of_lite_is_efficientnet_lite0() {
    let max = Space::preset("lite").unwrap().max();
    let stages: Vec<_> = max.stages.iter().map(|s| (s.len(), s[0].channels, s[0].kernels.clone())).collect();
    let known = [(1, 16, 3), (2, 24, 3), (2, 40, 5), (3, 80, 3), (3, 112, 5), (4, 192, 5), (1, 320, 3)];
    assert_eq!(stages, known.map(|(layers, channels, kernel)| (layers, channels, vec![kernel])));
    assert_eq!(max.stem, 32);
}

#[test]
fn lite_small_is_a_part_of_lite() {
    let small = Space::from_toml(include_str!("../../../spaces/lite-small.toml")).unwrap();
    Space::preset("lite").unwrap().check_part(&small).unwrap();
}
