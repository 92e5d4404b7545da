//! The search as a whole, on synthetic objectives and tables.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use inas_space::{Architecture, BlockKey, LatencyTable, Micros, Space};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

const PX: u32 = 224;

/// Made-up random latencies for every block.
fn golden() -> LatencyTable {
    LatencyTable::from_release(include_str!("../../../../tests/golden/lut/lut_224.txt")).unwrap()
}

/// Latencies that grow with the work of the block.
fn plausible(space: &Space, px: u32) -> LatencyTable {
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

fn iccv21(table: &LatencyTable) -> TablePredictor {
    TablePredictor::new(&Space::preset("iccv21").unwrap(), table, PX).unwrap()
}

fn both() -> [(&'static str, TablePredictor); 2] {
    let space = Space::preset("iccv21").unwrap();
    [("golden", iccv21(&golden())), ("plausible", iccv21(&plausible(&space, PX)))]
}

/// F-measure that saturates with latency, plus a bonus for parts that deserve it and noise by hash.
struct Synthetic<'a> {
    predictor: &'a TablePredictor,
    seen: BTreeSet<String>,
    cancel_at: Option<(usize, &'a AtomicBool)>,
}

impl<'a> Synthetic<'a> {
    fn new(predictor: &'a TablePredictor) -> Self {
        Self { predictor, seen: BTreeSet::new(), cancel_at: None }
    }
}

impl Objective for Synthetic<'_> {
    fn evaluate(
        &mut self,
        arch: &Architecture,
    ) -> std::result::Result<Score, Box<dyn std::error::Error + Send + Sync>> {
        self.predictor.space().validate(arch)?;
        let hash = arch.hash();
        assert!(self.seen.insert(hash.clone()), "evaluated twice: {hash}");
        if let Some((_, cancel)) = self.cancel_at.filter(|(at, _)| self.seen.len() >= *at) {
            cancel.store(true, Ordering::Relaxed);
        }
        let (low, high) = self.predictor.reachable();
        let latency = self.predictor.latency(arch)?;
        let share = (latency.total().0 - low.0) / (high.0 - low.0);
        let head = arch.decoder.iter().map(|l| l.sources.len()).sum::<usize>() as f64 / 15.0;
        let kernels = arch.stages.iter().flatten().map(|l| l.kernels.iter().max().unwrap() / 3).sum::<u32>();
        let noise = f64::from(u32::from_str_radix(&hash[..6], 16)?) / f64::from(0x00ff_ffff);
        let f_max = 0.6 + 0.25 * (1.0 - (-4.0 * share).exp()) + 0.05 * head + 0.001 * f64::from(kernels) + 0.01 * noise;
        Ok(Score { f_max, mae: 1.0 - f_max })
    }

    fn identity(&self) -> String {
        "synthetic".into()
    }
}

fn small(seed: u64) -> SearchConfig {
    SearchConfig { population: 120, keep: 40, iterations: 6, seed, ..SearchConfig::default() }
}

fn search(predictor: &TablePredictor, config: &SearchConfig) -> SearchResult {
    let mut objective = Synthetic::new(predictor);
    run(predictor.space(), predictor, &mut objective, config, None, &mut |_| {}, &AtomicBool::new(false)).unwrap()
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
            let ch = arch.level_channels(&space);
            within(latency.transport, predictor.transport_range(&ch).unwrap());
            within(latency.decoder, predictor.decoder_range(&ch).unwrap());
            let mut input = arch.stem;
            for (s, layers) in arch.stages.iter().enumerate() {
                within(predictor.stage(s, input, layers).unwrap(), predictor.stage_range(s, input).unwrap());
                input = layers.last().unwrap().channels;
            }
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

/// Span and occupied hundredths of the reachable range, as shares.
fn coverage(predictor: &TablePredictor, sampler: &dyn Sampler, count: usize) -> (f64, f64) {
    let (low, high) = predictor.reachable();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let shares: Vec<f64> = (0..count)
        .map(|i| {
            let arch = sampler.draw(i % 10, 10, &mut rng);
            (predictor.latency(&arch).unwrap().total().0 - low.0) / (high.0 - low.0)
        })
        .collect();
    let bins: BTreeSet<usize> = shares.iter().map(|s| (s * 100.0) as usize).collect();
    let (from, to) = shares.iter().fold((1.0_f64, 0.0_f64), |(a, b), s| (a.min(*s), b.max(*s)));
    (to - from, bins.len() as f64 / 100.0)
}

#[test]
fn groups_cover_the_range_that_uniform_draws_leave_out() {
    for (name, predictor) in both() {
        let lgs = coverage(&predictor, &Lgs::new(&predictor), 1000);
        let uniform = coverage(&predictor, &Uniform::new(predictor.space()), 1000);
        // Shown with `--nocapture`-like runners only on failure.
        let shares = format!("{name}: span, bins of LGS {lgs:.3?}, of uniform {uniform:.3?}");
        assert!(std::env::var("SHOW").is_err(), "{shares}");
        assert!(lgs.0 >= 0.9 && uniform.0 < 0.75 * lgs.0, "{shares}");
    }
}

#[test]
fn diag() {
    for (name, p) in both() {
        println!("{name} reach {:?} ends {:?}", p.reachable(), p.ends());
        let lgs = Lgs::new(&p);
        for (s, n) in [("lgs", 1000), ("lgs", 5000), ("uni", 1000)] {
            let c = if s == "lgs" { coverage(&p, &lgs, n) } else { coverage(&p, &Uniform::new(p.space()), n) };
            println!("{s} {n} {c:.3?}");
        }
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        for g in [0, 9] {
            let mut rows = vec![];
            for _ in 0..30 {
                let a = lgs.draw(g, 10, &mut rng);
                let ch = a.level_channels(p.space());
                let f = |t: Micros, (l, h): (Micros, Micros)| (t.0 - l.0) / (h.0 - l.0);
                let mut row = vec![f(p.stem(a.stem).unwrap(), p.stem_range())];
                let mut input = a.stem;
                for (s, layers) in a.stages.iter().enumerate() {
                    row.push(f(p.stage(s, input, layers).unwrap(), p.stage_range(s, input).unwrap()));
                    input = layers.last().unwrap().channels;
                }
                row.push(f(p.transport(&ch, &a.transport).unwrap(), p.transport_range(&ch).unwrap()));
                row.push(f(p.decoder(&ch, &a.decoder).unwrap(), p.decoder_range(&ch).unwrap()));
                rows.push(row);
            }
            let mean: Vec<f64> = (0..rows[0].len()).map(|i| rows.iter().map(|r| r[i]).sum::<f64>() / 30.0).collect();
            println!("group {g} mean shares {mean:.2?}");
        }
        let d = |x: (Micros, Micros)| x.1.0 - x.0.0;
        println!(
            "widths tr {} de {} st {:?}",
            d(p.transport_range(&p.space().max().level_channels(p.space())).unwrap()),
            d(p.decoder_range(&p.space().max().level_channels(p.space())).unwrap()),
            (0..7)
                .map(|s| d(p.stage_range(s, *latency::input_choices(p.space(), s).last().unwrap()).unwrap()))
                .collect::<Vec<_>>()
        );
    }
}
