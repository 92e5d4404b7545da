//! Strategies, constraints, halving, shards and several devices, on the synthetic objective of `tests`.

use std::time::Duration;

use super::tests::{Synthetic, both, iccv21, plausible, search, small, with};
use super::*;
use crate::search::pareto::Point;
use inas_space::{LatencyTable, Micros, Space};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;

#[test]
fn nsga2_beats_random_draws_and_evaluates_nothing_twice() {
    for (name, predictor) in both() {
        let volume = |strategy, seed| {
            let config = SearchConfig { population: 200, keep: 60, iterations: 10, strategy, ..small(seed) };
            let result = search(&predictor, &config);
            let distinct: BTreeSet<&str> = result.evaluated.iter().map(|e| e.hash.as_str()).collect();
            assert_eq!(distinct.len(), result.evaluated.len());
            assert!(result.evaluated.len() <= config.budget());
            assert!(result.generations.windows(2).all(|w| w[0].hypervolume <= w[1].hypervolume));
            result.generations.last().unwrap().hypervolume
        };
        for seed in 1..=3 {
            let (nsga, random) = (volume(Strategy::Nsga2, seed), volume(Strategy::Random, seed));
            println!("{name}, seed {seed}: NSGA-II {nsga:.4}, random {random:.4}");
            // As for LGS evolution: in a random table nothing is inherited.
            assert!(nsga > if name == "golden" { 0.97 * random } else { random });
        }
    }
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let predictor = iccv21(&plausible(&Space::preset("iccv21").unwrap(), 224));
    let devices = Devices::one("device", predictor.clone());
    for strategy in [Strategy::Evolution, Strategy::Nsga2] {
        let config = SearchConfig { strategy, iterations: 3, first_share: 0.25, ..small(2) };
        let found = [1, 2, 7].map(|threads| {
            let workers = Workers { threads, ..Workers::default() };
            let never = AtomicBool::new(false);
            with(&devices, &Synthetic::new(&predictor), &config, (None, workers), &never).unwrap()
        });
        assert_eq!(found[0], found[1]);
        assert_eq!(found[0], found[2]);
    }
}

#[test]
fn a_least_score_is_kept_and_an_unreached_one_tells_what_was_reached() {
    let predictor = iccv21(&plausible(&Space::preset("iccv21").unwrap(), 224));
    for strategy in [Strategy::Evolution, Strategy::Nsga2] {
        let (mut with, mut without) = (0, 0);
        for seed in 3..7 {
            let free = search(&predictor, &SearchConfig { strategy, ..small(seed) });
            let min = free.evaluated.iter().map(|e| e.score.f_max).fold(0.0, f64::max) - 0.03;
            let bound = search(&predictor, &SearchConfig { min_score: Some(min), strategy, ..small(seed) });
            assert!(!bound.front.is_empty() && bound.front.iter().all(|e| e.score.f_max >= min));
            let good = |r: &SearchResult| r.evaluated.iter().filter(|e| e.score.f_max >= min).count();
            (with, without) = (with + good(&bound), without + good(&free));
        }
        // The effort goes where it is allowed.
        assert!(with > without, "{strategy:?}: {with} against {without}");
    }
    let devices = Devices::one("device", predictor.clone());
    let config = SearchConfig { min_score: Some(1.0), ..small(3) };
    let never = AtomicBool::new(false);
    let error = with(&devices, &Synthetic::new(&predictor), &config, (None, Workers::default()), &never).unwrap_err();
    assert!(matches!(error, SearchError::ScoreUnreached { highest, .. } if highest < 1.0), "{error}");
}

#[test]
fn halving_judges_the_front_in_full_and_most_others_in_part() {
    let predictor = iccv21(&plausible(&Space::preset("iccv21").unwrap(), 224));
    let config = SearchConfig { first_share: 0.25, ..small(4) };
    let (halved, full) = (search(&predictor, &config), search(&predictor, &small(4)));
    assert!(halved.front.iter().all(|e| e.share >= 1.0));
    let images: f64 = halved.evaluated.iter().map(|e| e.share).sum();
    assert!(images < 0.6 * halved.evaluated.len() as f64, "{images}");
    let best = |r: &SearchResult| r.generations.last().unwrap().hypervolume;
    assert!(best(&halved) > 0.98 * best(&full), "{} against {}", best(&halved), best(&full));
}

#[test]
fn shards_and_their_merge_find_what_one_process_finds() {
    let dir = tempfile::tempdir().unwrap();
    let predictor = iccv21(&plausible(&Space::preset("iccv21").unwrap(), 224));
    let devices = Devices::one("device", predictor.clone());
    let config = SearchConfig { iterations: 3, ..small(5) };
    let (never, folder) = (AtomicBool::new(false), dir.path().join("cache"));
    let part = |index: usize, wait: u64| {
        let cache = Cache::open(&folder, &format!("shard-{index}")).unwrap();
        let shard = Some(Shard { index, of: 3, wait: Duration::from_secs(wait) });
        let (objective, workers) = (Synthetic::new(&predictor), Workers { threads: 1, cache: Some(&cache), shard });
        (with(&devices, &objective, &config, (None, workers), &never), objective.evaluations())
    };
    // Alone, a shard does its part of the first generation and says that others are missing.
    let (alone, evaluations) = part(0, 0);
    assert!(matches!(alone, Err(SearchError::ShardsMissing { missing: 80, of: 120, .. })), "{alone:?}");
    assert_eq!(evaluations, 40);
    let merged = |log| {
        let cache = Cache::read(std::slice::from_ref(&folder)).unwrap();
        let nothing = Some(Shard { index: 1, of: 1, wait: Duration::ZERO });
        let workers = Workers { threads: 1, cache: Some(&cache), shard: nothing };
        with(&devices, &Synthetic::new(&predictor), &config, (log, workers), &never)
    };
    assert!(matches!(merged(None), Err(SearchError::ShardsMissing { .. })));
    // Together they end, each with the whole result; none does another's work.
    let found: Vec<_> = std::thread::scope(|scope| {
        let part = &part;
        let threads: Vec<_> = (0..3).map(|i| scope.spawn(move || part(i, 60))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let whole = search(&predictor, &config);
    let total: usize = found.iter().map(|f| f.1).sum::<usize>() + evaluations;
    assert_eq!(total, whole.evaluated.len());
    for (result, _) in found {
        assert_eq!(result.unwrap(), whole);
    }
    assert_eq!(merged(Some(&dir.path().join("log.jsonl"))).unwrap(), whole);
    assert_eq!(read_log(&dir.path().join("log.jsonl")).unwrap().1, whole.evaluated);
}

#[test]
fn several_devices_give_a_front_each_and_networks_for_all() {
    let space = Space::preset("nano").unwrap();
    // One device is slow at the backbone, the other at the head.
    let table = |backbone: f64, head: f64| -> LatencyTable {
        let time = |k: &inas_space::BlockKey| if k.expand > 0 { backbone } else { head };
        plausible(&space, 128).iter().map(|(k, t)| (*k, Micros(t.0 * time(k)))).collect()
    };
    let tables = [("a".to_owned(), table(10.0, 1.0)), ("b".to_owned(), table(1.0, 10.0))];
    let devices = Devices::new(&space, &tables, 128).unwrap();
    let predictor = devices.objective().clone();
    for strategy in [Strategy::Evolution, Strategy::Nsga2] {
        let config = SearchConfig { strategy, ..small(6) };
        let never = AtomicBool::new(false);
        let objective = Synthetic::new(&predictor);
        let result = with(&devices, &objective, &config, (None, Workers::default()), &never).unwrap();
        let shared = shared_networks(&result, &devices, None).unwrap();
        assert_eq!(shared.len(), result.front.len());
        for (d, (_, p)) in devices.each().enumerate() {
            let front = device_front(&result, p, None).unwrap();
            let points: Vec<Point> = front.iter().map(Evaluated::point).collect();
            assert_eq!(pareto::front(&points).len(), front.len());
            for network in &shared {
                assert!(network.loss_percent[d] >= 0.0);
                let same = front.iter().filter(|e| e.score.f_max >= network.f_max);
                let best = same.map(|e| e.latency.total().ms()).fold(f64::INFINITY, f64::min);
                assert!(network.latency_ms[d] >= best * (1.0 - 1e-12));
            }
        }
        // A maximum holds on every device.
        let lowest = devices.each().map(|(_, p)| p.reachable().0.0).fold(0.0, f64::max);
        let max = Micros(1.5 * lowest);
        let config = SearchConfig { max_latency: Some(max), iterations: 2, ..config };
        let objective = Synthetic::new(&predictor);
        let bound = with(&devices, &objective, &config, (None, Workers::default()), &never).unwrap();
        for network in &bound.evaluated {
            assert!(devices.each().all(|(_, p)| p.latency(&network.arch).unwrap().total().0 <= max.0));
        }
    }
}

#[test]
fn lineage_leads_back_to_the_first_generation() {
    let predictor = iccv21(&plausible(&Space::preset("iccv21").unwrap(), 224));
    let result = search(&predictor, &small(7));
    let lines = lineage(&result);
    assert_eq!(lines.len(), result.front.len());
    for (hash, line) in lines {
        assert_eq!(line[0].hash, hash);
        let names: BTreeSet<&str> = line.iter().map(|a| a.hash.as_str()).collect();
        assert!(line.iter().flat_map(|a| &a.parents).all(|p| names.contains(p.as_str())));
        assert!(line.last().unwrap().parents.is_empty());
    }
}

#[test]
fn partial_spaces_are_searched_as_parts_of_the_whole() {
    let whole = Space::preset("nano").unwrap();
    let table = plausible(&whole, 128);
    for (name, toml) in [
        ("backbone", include_str!("../../../../spaces/nano-backbone.toml")),
        ("head", include_str!("../../../../spaces/nano-head.toml")),
        ("mbconv", include_str!("../../../../spaces/nano-mbconv.toml")),
        ("fixed", include_str!("../../../../spaces/nano-fixed.toml")),
    ] {
        let part = Space::from_toml(toml).unwrap();
        whole.check_part(&part).unwrap();
        let predictor = TablePredictor::new(&part, &table, 128).unwrap();
        let result = search(&predictor, &SearchConfig { iterations: 1, ..small(8) });
        for network in &result.evaluated {
            whole.validate(&network.arch).unwrap();
            part.validate(&network.arch).unwrap();
            assert_eq!(network.latency, table.latency(&whole, &network.arch, 128).unwrap());
        }
        assert_eq!(result.evaluated.len() == 1, name == "fixed");
    }
    for toml in [
        include_str!("../../../../spaces/thesis-backbone.toml"),
        include_str!("../../../../spaces/thesis-head.toml"),
        include_str!("../../../../spaces/thesis-mbconv.toml"),
        include_str!("../../../../spaces/thesis-fixed.toml"),
    ] {
        Space::preset("thesis").unwrap().check_part(&Space::from_toml(toml).unwrap()).unwrap();
    }
    let mut foreign = whole.clone();
    foreign.stages[2].kernels.push(9);
    let error = whole.check_part(&foreign).unwrap_err().to_string();
    assert!(error.contains("stage 3: kernel 9"), "{error}");
}
