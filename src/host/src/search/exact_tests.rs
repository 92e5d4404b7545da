//! Counts and ranges against enumeration, draws against uniformity.

use std::collections::BTreeMap;

use inas_space::{Architecture, BlockKey, LatencyTable, Micros, Space};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::Exact;
use crate::search::latency::{index, input_choices};
use crate::search::range::{Span, with_level};
use crate::search::{LatencyGroups, SearchError, TablePredictor};

/// Random-looking latencies, a function of the key.
fn table(space: &Space, px: u32) -> LatencyTable {
    let time = |key: &BlockKey| {
        let hash = key.to_string().bytes().fold(7_u64, |h, b| h.wrapping_mul(131).wrapping_add(u64::from(b)));
        if key.is_identity() { 0.0 } else { 20.0 + (hash % 1009) as f64 / 10.0 }
    };
    space.block_keys(px).unwrap().into_iter().map(|k| (k, Micros(time(&k)))).collect()
}

/// A space whose every network can be listed, with free depth, channels, kernels and sources.
fn small() -> Space {
    let mut space = Space::preset("nano").unwrap();
    for (s, stage) in space.stages.iter_mut().enumerate() {
        stage.depths = if s == 2 { vec![1, 2] } else { vec![1] };
        stage.kernels = if s == 2 { vec![3, 5] } else { vec![3] };
        stage.channels.truncate(if s == 2 || s == 3 { 2 } else { 1 });
    }
    for (i, level) in space.levels.iter_mut().enumerate() {
        for (transport, choices) in [(true, &mut level.transport), (false, &mut level.decoder)] {
            choices.kernels = if i == 4 && transport { vec![3, 5] } else { vec![3] };
            if !(i == 1 && transport) {
                choices.sources.clone_from(&choices.required);
            }
        }
    }
    space
}

/// Distinct networks of the small space, found by drawing until none is new.
fn all(space: &Space) -> BTreeMap<String, Architecture> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut found = BTreeMap::new();
    let mut idle = 0;
    while idle < 200_000 {
        let arch = space.uniform(&mut rng);
        idle = if found.insert(arch.hash(), arch).is_some() { idle + 1 } else { 0 };
    }
    found
}

/// Upper bound of chi-square with `n` degrees of freedom that holds in all but about 1 of 30 000 cases.
fn chi_square_limit(n: usize) -> f64 {
    let n = n as f64;
    n + 4.0 * (2.0 * n).sqrt()
}

#[test]
fn a_window_holds_its_architectures_and_draws_are_uniform() {
    let space = small();
    let predictor = TablePredictor::new(&space, &table(&space, 128), 128).unwrap();
    let all = all(&space);
    let latency = |arch: &Architecture| predictor.latency(arch).unwrap().total();
    let whole = Exact::new(&predictor, &[(Micros(0.0), Micros(1e9))]).unwrap();
    assert_eq!(whole.architectures(0).round() as usize, all.len());

    let (low, high) = predictor.reachable();
    let window = (Micros(low.0 + 0.3 * (high.0 - low.0)), Micros(low.0 + 0.6 * (high.0 - low.0)));
    let inside: Vec<&String> = all
        .iter()
        .filter(|(_, arch)| (window.0.0..=window.1.0).contains(&latency(arch).0))
        .map(|(hash, _)| hash)
        .collect();
    let exact = Exact::new(&predictor, &[window]).unwrap();
    assert!(exact.architectures(0) >= inside.len() as f64 && inside.len() > 100, "{}", inside.len());
    let each = 30;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut drawn: BTreeMap<String, usize> = inside.iter().map(|hash| ((*hash).clone(), 0)).collect();
    for _ in 0..each * inside.len() {
        let arch = exact.draw_from(0, &mut rng).unwrap();
        space.validate(&arch).unwrap();
        // Outside the window or not of the space: no entry.
        *drawn.get_mut(&arch.hash()).unwrap() += 1;
    }
    let square = |n: &usize| (*n as f64 - each as f64).powi(2) / each as f64;
    let chi_square: f64 = drawn.values().map(square).sum();
    let (limit, cells) = (chi_square_limit(inside.len() - 1), inside.len());
    assert!(chi_square < limit, "{chi_square} over {cells} architectures (limit {limit})");
}

/// What can follow the stem or a stage is exactly what follows it in some network.
#[test]
fn ranges_of_what_can_follow_are_those_of_all_networks() {
    let space = small();
    let p = TablePredictor::new(&space, &table(&space, 128), 128).unwrap();
    let mut found: BTreeMap<(usize, usize, usize), Vec<Span>> = BTreeMap::new();
    let mut whole = Vec::new();
    for arch in all(&space).values() {
        let total = p.latency(arch).unwrap().total().0;
        whole.push(Span::point(total));
        let (mut channels, mut levels, mut left) = (arch.stem, 0, total - p.stem(arch.stem).unwrap().0);
        for drawn in 0..=space.stages.len() {
            let at = index(input_choices(&space, drawn), channels).unwrap();
            found.entry((drawn, levels, at)).or_default().push(Span::point(left));
            let Some(layers) = arch.stages.get(drawn) else { break };
            levels = with_level(&space, drawn, levels, at);
            left -= p.stage(drawn, channels, layers).unwrap().0;
            channels = layers.last().unwrap().channels;
        }
    }
    let same =
        |a: Span, b: Span| assert!((a.low - b.low).abs() < 1e-6 && (a.high - b.high).abs() < 1e-6, "{a:?} {b:?}");
    assert!(found.len() > 12, "{}", found.len());
    for ((drawn, levels, at), spans) in found {
        same(p.ahead.after(drawn, levels)[at], Span::hull(spans.into_iter()));
    }
    same(p.span(), Span::hull(whole.into_iter()));
}

#[test]
fn groups_give_a_flat_histogram_where_uniform_draws_gather_in_the_middle() {
    let space = Space::preset("iccv21").unwrap();
    let golden = LatencyTable::from_release(include_str!("../../../../tests/golden/lut/lut_224.txt")).unwrap();
    let predictor = TablePredictor::new(&space, &golden, 224).unwrap();
    let (groups, each) = (20, 20_usize);
    let (low, high) = predictor.ends();
    let bins = LatencyGroups::new(low, high, groups);
    let exact = Exact::in_groups(&predictor, groups);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let (mut flat, mut bell) = (vec![0; groups], vec![0; groups]);
    for group in 0..groups {
        for _ in 0..each {
            let arch = exact.draw_from(group, &mut rng).unwrap();
            flat[bins.of(predictor.latency(&arch).unwrap().total())] += 1;
            bell[bins.of(predictor.latency(&space.uniform(&mut rng)).unwrap().total())] += 1;
        }
    }
    assert!(flat.iter().all(|n| *n == each), "{flat:?}");
    let square = |n: &usize| (*n as f64 - each as f64).powi(2) / each as f64;
    assert!(bell.iter().map(square).sum::<f64>() > 4.0 * chi_square_limit(groups - 1), "{bell:?}");
}

#[test]
fn windows_that_nothing_reaches_say_what_can_be_reached() {
    let space = Space::preset("nano").unwrap();
    let predictor = TablePredictor::new(&space, &table(&space, 128), 128).unwrap();
    let (low, high) = predictor.reachable();
    for window in [(0.0, low.0 * 0.99), (high.0 * 1.01, high.0 * 2.0), (high.0, low.0)] {
        let error = Exact::new(&predictor, &[(Micros(window.0), Micros(window.1))]).unwrap_err();
        assert!(matches!(error, SearchError::EmptyWindow { lowest, highest, .. } if lowest == low && highest == high));
    }
    // The very ends are there.
    for end in [low, high] {
        let exact = Exact::new(&predictor, &[(Micros(end.0 - 1e-6), Micros(end.0 + 1e-6))]).unwrap();
        assert!(exact.architectures(0) >= 1.0);
    }
}
