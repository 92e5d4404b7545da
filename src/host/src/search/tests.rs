//! The search as a whole, on synthetic objectives and tables.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use inas_space::{Architecture, BlockKey, LatencyTable, Micros, Space};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

const PX: u32 = 224;

/// Made-up random latencies for every block.
pub(super) fn golden() -> LatencyTable {
    LatencyTable::from_release(include_str!("../../../../tests/golden/lut/lut_224.txt")).unwrap()
}

/// Latencies that grow with the work of the block.
pub(super) fn plausible(space: &Space, px: u32) -> LatencyTable {
    let time = |k: &BlockKey| {
        if k.is_identity() {
            return 0.0;
        }
        let area = f64::from(k.out_px.max(k.in_px).min(px / 2)).powi(2);
        let (i, o) = (f64::from(k.in_ch), f64::from(k.out_ch));
        let mid = i * f64::from(k.expand.max(1));
        let depthwise = mid * f64::from(k.kernel).powi(2) * f64::from(k.sources.max(1));
        2.0 + area * (mid * (i + o) / 3000.0 + depthwise / 1000.0) / 1000.0
    };
    space.block_keys(px).unwrap().into_iter().map(|k| (k, Micros(time(&k)))).collect()
}

pub(super) fn iccv21(table: &LatencyTable) -> TablePredictor {
    TablePredictor::new(&Space::preset("iccv21").unwrap(), table, PX).unwrap()
}

pub(super) fn both() -> [(&'static str, TablePredictor); 2] {
    let space = Space::preset("iccv21").unwrap();
    [("golden", iccv21(&golden())), ("plausible", iccv21(&plausible(&space, PX)))]
}

/// F-measure that saturates with latency, plus a bonus for parts that deserve it and noise by hash.
pub(super) struct Synthetic<'a> {
    predictor: &'a TablePredictor,
    /// What was judged, by hash and share.
    seen: Mutex<BTreeSet<(String, u64)>>,
    cancel_at: Option<(usize, &'a AtomicBool)>,
}

impl<'a> Synthetic<'a> {
    pub(super) fn new(predictor: &'a TablePredictor) -> Self {
        Self { predictor, seen: Mutex::default(), cancel_at: None }
    }

    pub(super) fn evaluations(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

struct Judgement<'a>(&'a Synthetic<'a>, Architecture);

impl Objective for Synthetic<'_> {
    fn start<'b>(&'b self, arch: &Architecture) -> std::result::Result<Box<dyn Trial + 'b>, ObjectiveError> {
        self.predictor.space().validate(arch)?;
        Ok(Box::new(Judgement(self, arch.clone())))
    }

    fn identity(&self) -> String {
        "synthetic".into()
    }
}

impl Trial for Judgement<'_> {
    fn advance(&mut self, share: f64) -> std::result::Result<Score, ObjectiveError> {
        let Self(synthetic, arch) = self;
        let hash = arch.hash();
        let evaluations = {
            let mut seen = synthetic.seen.lock().unwrap();
            assert!(seen.insert((hash.clone(), share.to_bits())), "evaluated twice: {hash}");
            seen.len()
        };
        if let Some((_, cancel)) = synthetic.cancel_at.filter(|(at, _)| evaluations >= *at) {
            cancel.store(true, Ordering::Relaxed);
        }
        let (low, high) = synthetic.predictor.reachable();
        let latency = synthetic.predictor.latency(arch)?;
        let place = (latency.total().0 - low.0) / (high.0 - low.0).max(1e-6);
        let head = arch.decoder.iter().map(|l| l.sources.len()).sum::<usize>() as f64 / 15.0;
        let kernels = arch.stages.iter().flatten().map(|l| l.kernels.iter().max().unwrap() / 3).sum::<u32>();
        let noise = f64::from(u32::from_str_radix(&hash[..6], 16)?) / f64::from(0x00ff_ffff);
        // Fewer images err more.
        let error = (1.0 - share) * 0.02 * (noise - 0.5);
        let f_max = 0.6 + 0.25 * (1.0 - (-4.0 * place).exp()) + 0.05 * head + 0.001 * f64::from(kernels) + 0.01 * noise;
        Ok(Score { f_max: f_max + error, mae: 1.0 - f_max })
    }
}

pub(super) fn small(seed: u64) -> SearchConfig {
    SearchConfig { population: 120, keep: 40, iterations: 6, seed, ..SearchConfig::default() }
}

/// Runs a search with a number of threads.
pub(super) fn with(
    devices: &Devices,
    objective: &dyn Objective,
    config: &SearchConfig,
    (log, workers): (Option<&Path>, Workers<'_>),
    cancel: &AtomicBool,
) -> Result<SearchResult> {
    run(&Setting { devices, objective, config, log, workers, cancel }, &mut |_| {})
}

pub(super) fn search(predictor: &TablePredictor, config: &SearchConfig) -> SearchResult {
    let objective = Synthetic::new(predictor);
    let devices = Devices::one("device", predictor.clone());
    with(&devices, &objective, config, (None, Workers::default()), &AtomicBool::new(false)).unwrap()
}

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("inas-search-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn predictor_equals_the_table_and_lies_within_the_exact_ranges() {
    let space = Space::preset("iccv21").unwrap();
    for table in [golden(), plausible(&space, PX)] {
        let predictor = iccv21(&table);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut archs: Vec<_> = (0..2000).map(|_| space.uniform(&mut rng)).collect();
        archs.extend([space.min(), space.max()]);
        let within = |t: Micros, (low, high): (Micros, Micros)| {
            assert!(t.0 >= low.0 - 1e-6 && t.0 <= high.0 + 1e-6, "{t:?} outside {low:?}..{high:?}");
        };
        for arch in &archs {
            let latency = predictor.latency(arch).unwrap();
            assert_eq!(latency, table.latency(&space, arch, PX).unwrap());
            within(latency.total(), predictor.reachable());
            let at = predictor.level_indices(&arch.level_channels(&space)).unwrap();
            within(latency.transport, predictor.transport_span(&at).micros());
            within(latency.decoder, predictor.decoder_span(&at).micros());
        }
        let mut wrong = space.min();
        wrong.stages[0][0].channels = 17;
        assert!(matches!(predictor.latency(&wrong), Err(SearchError::Space(_))));
    }
}

#[test]
fn reachable_range_is_exact_where_latency_grows_with_every_choice() {
    for name in ["iccv21", "nano", "thesis"] {
        let space = Space::preset(name).unwrap();
        let px = space.input_px;
        let predictor = TablePredictor::new(&space, &plausible(&space, px), px).unwrap();
        let ((low, high), ends) = (predictor.reachable(), predictor.ends());
        assert!((low.0 - ends.0.0).abs() < 1e-6 && (high.0 - ends.1.0).abs() < 1e-6, "{name}");
    }
}

#[test]
fn missing_and_broken_rows_are_named() {
    let space = Space::preset("iccv21").unwrap();
    let key = *space.block_keys(PX).unwrap().iter().nth(700).unwrap();
    let table: LatencyTable = golden().iter().filter(|(k, _)| **k != key).map(|(k, v)| (*k, v)).collect();
    let error = TablePredictor::new(&space, &table, PX).unwrap_err().to_string();
    assert!(error.contains(&key.to_string()), "{error}");
    let mut table = golden();
    table.insert(key, Micros(f64::NAN));
    assert!(matches!(TablePredictor::new(&space, &table, PX), Err(SearchError::TableValue { .. })));
}

/// What 1000 draws, as many for each of ten groups, reach of the exact latency range: the share between the fastest and
/// the slowest, and how many of 20 equal bins hold a draw.
fn coverage(predictor: &TablePredictor, sampler: &dyn Sampler, seed: u64) -> (f64, usize) {
    let (low, high) = predictor.reachable();
    let bins = LatencyGroups::new(low, high, 20);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let (mut from, mut to, mut filled) = (f64::INFINITY, 0.0_f64, BTreeSet::new());
    for i in 0..1000 {
        let arch = sampler.draw(i % 10, 10, &mut rng);
        predictor.space().validate(&arch).unwrap();
        let total = predictor.latency(&arch).unwrap().total();
        (from, to) = (from.min(total.0), to.max(total.0));
        filled.insert(bins.of(total));
    }
    ((to - from) / (high.0 - low.0), filled.len())
}

/// Predictors of the measured profiles of two runtimes, by the sum of blocks and calibrated.
fn measured() -> Vec<(String, TablePredictor)> {
    let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../profiles");
    let mut predictors = Vec::new();
    for name in ["nano-128-tract1", "nano-128-ort1"] {
        let profile = inas_profiler::profile::Profile::read(&profiles.join(name)).unwrap();
        for plain_sum in [true, false] {
            let table = profile.model(plain_sum);
            let predictor = TablePredictor::new(profile.space(), &table, profile.input_px()).unwrap();
            predictors.push((format!("{name}, plain sum {plain_sum}"), predictor));
        }
    }
    predictors
}

#[test]
fn groups_cover_the_range_that_uniform_draws_leave_out() {
    let made_up = both().into_iter().map(|(name, predictor)| (name.to_owned(), predictor));
    for (name, predictor) in made_up.chain(measured()) {
        let mut shares = Vec::new();
        for seed in 11..16 {
            let lgs = coverage(&predictor, &Lgs::new(&predictor), seed);
            let uniform = coverage(&predictor, &Uniform::new(predictor.space()), seed);
            let found = format!("{name}, seed {seed}: (share, bins of 20) LGS {lgs:.4?}, uniform {uniform:.4?}");
            println!("{found}");
            assert!(uniform.0 <= 0.8 * lgs.0 && uniform.1 + 3 <= lgs.1, "{found}");
            shares.push(lgs.0);
        }
        assert!(shares.iter().sum::<f64>() / shares.len() as f64 >= 0.99, "{name}: {shares:?}");
    }
}

/// Thesis fig. 3.6: latencies of uniform draws are sums of many independent choices, so they gather around one peak in
/// the middle, with thin tails, and leave out both ends. A few blocks are a large part of the sum, so the bell is
/// flatter than a normal one (excess kurtosis 0), but far from a flat distribution (-1.2).
#[test]
fn latencies_of_uniform_draws_are_a_bell() {
    for (name, predictor) in measured() {
        let space = predictor.space();
        let mut rng = ChaCha8Rng::seed_from_u64(21);
        let n = 5000_usize;
        let draw = |rng: &mut ChaCha8Rng| predictor.latency(&space.uniform(rng)).unwrap().total().0;
        let drawn: Vec<f64> = (0..n).map(|_| draw(&mut rng)).collect();
        let mean = drawn.iter().sum::<f64>() / n as f64;
        let moment = |k: i32| drawn.iter().map(|t| (t - mean).powi(k)).sum::<f64>() / n as f64;
        let sd = moment(2).sqrt();
        let (skew, excess) = (moment(3) / sd.powi(3), moment(4) / sd.powi(4) - 3.0);
        let within = |k: f64| drawn.iter().filter(|t| (*t - mean).abs() < k * sd).count() as f64 / n as f64;
        let shares = [within(1.0), within(2.0), within(3.0)];
        let bins = LatencyGroups::new(Micros(mean - 3.0 * sd), Micros(mean + 3.0 * sd), 11);
        let mut counts = [0_usize; 11];
        for t in &drawn {
            counts[bins.of(Micros(*t))] += 1;
        }
        println!("{name}: skew {skew:.3}, excess kurtosis {excess:.3}, within deviations {shares:.4?}, {counts:?}");
        assert!(skew.abs() < 0.5 && excess.abs() < 0.9);
        // Flat: 0.577, 1, 1.
        for (share, normal) in shares.into_iter().zip([0.6827, 0.9545, 0.9973]) {
            assert!((share - normal).abs() < 0.06, "{share} against {normal}");
        }
        assert!(shares[1] < 0.99);
        // One peak: up to it counts rise, after it they fall, but for chance.
        let peak = (0..11).max_by_key(|i| counts[*i]).unwrap();
        for i in 1..11 {
            let (inner, outer) = if i <= peak { (counts[i], counts[i - 1]) } else { (counts[i - 1], counts[i]) };
            assert!(inner as f64 > outer as f64 - 4.0 * (outer as f64).sqrt(), "{counts:?}");
        }
        assert!((3..=7).contains(&peak), "{counts:?}");
        let (low, high) = predictor.reachable();
        let place = |t: f64| (t - low.0) / (high.0 - low.0);
        assert!(drawn.iter().filter(|t| !(0.1..0.9).contains(&place(**t))).count() < n / 100);
    }
}

#[test]
fn a_group_of_latency_groups_is_where_the_latency_lies() {
    let groups = LatencyGroups::new(Micros(10.0), Micros(20.0), 5);
    for (latency, group) in [(0.0, 0), (10.0, 0), (11.9, 0), (12.1, 1), (19.9, 4), (20.0, 4), (99.0, 4)] {
        assert_eq!(groups.of(Micros(latency)), group, "{latency}");
    }
    assert_eq!(LatencyGroups::new(Micros(1.0), Micros(1.0), 5).of(Micros(1.0)), 0);
}

#[test]
fn everything_evaluated_is_valid_new_and_within_the_budget() {
    for (name, predictor) in both() {
        let config = small(1);
        let result = search(&predictor, &config);
        let distinct: BTreeSet<&Architecture> = result.evaluated.iter().map(|e| &e.arch).collect();
        assert_eq!(distinct.len(), result.evaluated.len());
        assert!(result.evaluated.len() <= config.budget());
        let shortfall: usize = result.generations.iter().map(|g| g.shortfall).sum();
        assert_eq!(result.evaluated.len() + shortfall, config.budget());
        assert_eq!(result.generations.len(), config.iterations + 1);
        assert!(result.generations.windows(2).all(|w| w[1].hypervolume >= w[0].hypervolume), "{name}");
        let find = |hash: &String| result.evaluated.iter().find(|e| e.hash == *hash).unwrap();
        let mut depth_changes = 0;
        for (i, e) in result.evaluated.iter().enumerate() {
            assert_eq!((e.index, &e.hash), (i, &e.arch.hash()));
            let parents = match e.origin {
                Origin::Init => 0,
                Origin::Mutation => 1,
                Origin::Crossover => 2,
                Origin::Random => 9,
            };
            assert_eq!(e.parents.len(), parents);
            assert!(e.parents.iter().all(|p| find(p).generation < e.generation));
            if e.origin == Origin::Mutation {
                let depths = |a: &Architecture| a.stages.iter().map(Vec::len).collect::<Vec<_>>();
                depth_changes += usize::from(depths(&find(&e.parents[0]).arch) != depths(&e.arch));
            }
        }
        assert!(depth_changes > 20, "{name}: {depth_changes} mutations changed a depth");
        for a in &result.front {
            assert!(!result.evaluated.iter().any(|b| b.point().dominates(&a.point())));
        }
        assert!(result.front.windows(2).all(|w| w[0].latency.total().0 <= w[1].latency.total().0));
        assert_eq!(search(&predictor, &config), result, "the seed decides everything");
    }
}

#[test]
fn evolution_beats_random_search_of_the_same_budget() {
    for (name, predictor) in both() {
        for seed in 1..=3 {
            let volume = |strategy, sampler| {
                let config =
                    SearchConfig { population: 200, keep: 60, iterations: 10, strategy, sampler, ..small(seed) };
                let result = search(&predictor, &config);
                result.generations.last().unwrap().hypervolume
            };
            let evolution = volume(Strategy::Evolution, SamplerKind::Lgs);
            for sampler in [SamplerKind::Uniform, SamplerKind::Lgs] {
                let random = volume(Strategy::Random, sampler);
                let volumes = format!("{name}, seed {seed}: evolution {evolution:.4}, random {sampler:?} {random:.4}");
                println!("{volumes}");
                // In a random table latency does not follow from choices that children inherit: against as many draws
                // of LGS evolution wins only every second seed (5 of 10), by under 2 % either way. Elsewhere always.
                let close = name == "golden" && sampler == SamplerKind::Lgs;
                assert!(evolution > if close { 0.98 * random } else { random }, "{volumes}");
            }
        }
    }
}

#[test]
fn a_killed_search_resumes_to_the_identical_log_and_front() {
    let scratch = Scratch::new("resume");
    let predictor = iccv21(&golden());
    let config = SearchConfig { population: 40, keep: 20, iterations: 4, ..small(3) };
    let never = AtomicBool::new(false);
    let devices = Devices::one("device", predictor.clone());
    let cache = Cache::open(&scratch.0.join("cache"), "own").unwrap();
    let start = |path: &Path, config: &SearchConfig, cancel_at: Option<(usize, &AtomicBool)>| {
        let objective = Synthetic { cancel_at, ..Synthetic::new(&predictor) };
        let cancel = cancel_at.map_or(&never, |(_, c)| c);
        let workers = Workers { cache: cancel_at.map(|_| &cache), ..Workers::default() };
        let result = with(&devices, &objective, config, (Some(path), workers), cancel);
        (result, objective.evaluations())
    };
    let whole = scratch.0.join("whole.jsonl");
    let (expected, evaluations) = start(&whole, &config, None);
    let expected = expected.unwrap();
    assert_eq!(evaluations, expected.evaluated.len());
    let text = std::fs::read(&whole).unwrap();
    assert_eq!(read_log(&whole).unwrap().1, expected.evaluated);
    // Cut anywhere: within the header, at a line's end, within a record, nowhere.
    let second = text.iter().position(|b| *b == b'\n').unwrap() + 1;
    for cut in [0, 10, second, second + 5, text.len() / 3, text.len() / 2, text.len() - 1, text.len()] {
        let path = scratch.0.join(format!("cut-{cut}.jsonl"));
        std::fs::write(&path, &text[..cut]).unwrap();
        let kept = text[..cut].split(|b| *b == b'\n').count().saturating_sub(2);
        let (result, evaluations) = start(&path, &config, None);
        assert_eq!(result.unwrap(), expected, "cut at {cut}");
        assert_eq!(evaluations, expected.evaluated.len() - kept);
        assert_eq!(std::fs::read(&path).unwrap(), text);
    }
    // Interrupted twice.
    let path = scratch.0.join("interrupted.jsonl");
    for at in [30, 55] {
        let cancel = AtomicBool::new(false);
        let (result, _) = start(&path, &config, Some((at, &cancel)));
        assert!(matches!(result, Err(SearchError::Interrupted { evaluated }) if evaluated >= at), "{result:?}");
    }
    let evaluated = cache.len();
    let (result, evaluations) = start(&path, &config, Some((usize::MAX, &never)));
    assert_eq!((result.unwrap(), evaluations), (expected.clone(), expected.evaluated.len() - evaluated));
    assert_eq!(std::fs::read(&path).unwrap(), text);
    // Another search, and a file that is no log.
    let other = SearchConfig { seed: 9, mutation: 0.5, ..config.clone() };
    let refused = start(&path, &other, None).0.unwrap_err().to_string();
    assert!(refused.contains("config.seed: 3 -> 9") && refused.contains("config.mutation: 0.2 -> 0.5"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), text);
    std::fs::write(&path, "notes").unwrap();
    assert!(matches!(start(&path, &config, None).0, Err(SearchError::LogHeader { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"notes");
    // A line in the middle that is not a record, and one of another architecture.
    let lines: Vec<&str> = std::str::from_utf8(&text).unwrap().lines().collect();
    std::fs::write(&path, [lines[0], lines[1], "{}", lines[3], ""].join("\n")).unwrap();
    assert!(matches!(start(&path, &config, None).0, Err(SearchError::LogSyntax { line: 3, .. })));
    std::fs::write(&path, [lines[0], lines[1], lines[3], ""].join("\n")).unwrap();
    assert!(matches!(start(&path, &config, None).0, Err(SearchError::LogDiverged { index: 1, .. })));
}

#[test]
fn a_maximum_is_kept_and_an_unreachable_one_prints_the_range() {
    let space = Space::preset("iccv21").unwrap();
    let predictor = iccv21(&plausible(&space, PX));
    let (low, high) = predictor.reachable();
    for share in [0.5, 0.1, 0.02] {
        let max = Micros(low.0 + share * (high.0 - low.0));
        let result = search(&predictor, &SearchConfig { max_latency: Some(max), iterations: 2, ..small(4) });
        assert!(result.evaluated.iter().all(|e| e.latency.total().0 <= max.0));
        let shortfall: usize = result.generations.iter().map(|g| g.shortfall).sum();
        println!("{share} of the range: {} evaluated, {shortfall} not found", result.evaluated.len());
        assert!(share < 0.1 || shortfall < result.evaluated.len() / 2);
    }
    // Only the smallest network is left.
    let result =
        search(&predictor, &SearchConfig { max_latency: Some(Micros(low.0 + 1e-3)), iterations: 2, ..small(4) });
    assert_eq!((result.evaluated.len(), &result.front[0].arch), (1, &space.min()));
    let config = SearchConfig { max_latency: Some(Micros(low.0 * 0.99)), ..small(4) };
    let devices = Devices::one("device", predictor.clone());
    let objective = Synthetic::new(&predictor);
    let alone = (None, Workers::default());
    let error = with(&devices, &objective, &config, alone, &AtomicBool::new(false)).unwrap_err();
    assert!(matches!(error, SearchError::Unreachable { .. }));
    let text = error.to_string();
    assert!(text.contains(&format!("{:.3} ms to {:.3} ms", low.ms(), high.ms())), "{text}");
}

#[test]
fn a_tiny_space_runs_out_and_says_so() {
    let toml = include_str!("../../../space/presets/nano.toml");
    let mut space = Space::from_toml(toml).unwrap();
    for stage in &mut space.stages {
        (stage.depths, stage.kernels) = (vec![1], vec![3]);
        stage.channels.truncate(1);
    }
    for (i, level) in space.levels.iter_mut().enumerate() {
        for choices in [&mut level.transport, &mut level.decoder] {
            choices.kernels = vec![3, 5];
            choices.sources.clone_from(&choices.required);
            if i > 0 {
                choices.kernels = vec![3];
            }
        }
    }
    // Two stems, and three kernel subsets for each of two fusions.
    let predictor = TablePredictor::new(&space, &plausible(&space, 128), 128).unwrap();
    for (sampler, strategy) in [(SamplerKind::Lgs, Strategy::Evolution), (SamplerKind::Uniform, Strategy::Random)] {
        let config = SearchConfig { sampler, strategy, ..small(5) };
        let result = search(&predictor, &config);
        assert_eq!(result.evaluated.len(), 18);
        assert_eq!(result.generations.iter().map(|g| g.shortfall).sum::<usize>(), config.budget() - 18);
    }
}

#[test]
fn settings_out_of_range_are_refused() {
    let nano = Space::preset("nano").unwrap();
    let predictor = TablePredictor::new(&nano, &plausible(&nano, 128), 128).unwrap();
    let devices = Devices::one("device", predictor.clone());
    let refused = |config: SearchConfig| {
        let objective = Synthetic::new(&predictor);
        with(&devices, &objective, &config, (None, Workers::default()), &AtomicBool::new(false)).unwrap_err()
    };
    for config in [
        SearchConfig { population: 0, ..small(1) },
        SearchConfig { groups: 0, ..small(1) },
        SearchConfig { keep: 0, ..small(1) },
        SearchConfig { crossover: 1.5, ..small(1) },
        SearchConfig { mutation: f64::NAN, ..small(1) },
        SearchConfig { max_latency: Some(Micros(-1.0)), ..small(1) },
        SearchConfig { min_score: Some(1.5), ..small(1) },
        SearchConfig { first_share: 0.0, ..small(1) },
    ] {
        assert!(matches!(refused(config), SearchError::Config { .. }));
    }
}

#[test]
fn the_front_is_written_as_csv_and_json() {
    let scratch = Scratch::new("output");
    let nano = Space::preset("nano").unwrap();
    let predictor = TablePredictor::new(&nano, &plausible(&nano, 128), 128).unwrap();
    let result = search(&predictor, &SearchConfig { iterations: 1, ..small(6) });
    let (csv, json) = (scratch.0.join("front.csv"), scratch.0.join("front.json"));
    write_front_csv(&csv, &result.front).unwrap();
    write_front_json(&json, &result.front).unwrap();
    let mut reader = csv::Reader::from_path(&csv).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().map(|r| r.unwrap()).collect();
    assert_eq!(rows.len(), result.front.len());
    for (row, e) in rows.iter().zip(&result.front) {
        assert_eq!(&row[0], e.hash);
        assert_eq!(row[1], e.latency.total().ms().to_string());
        assert_eq!(Architecture::from_json(&row[7]).unwrap(), e.arch);
    }
    let front: Vec<Evaluated> = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(front, result.front);
    assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 2, "no temporary file stays");
}
