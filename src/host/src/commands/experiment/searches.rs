//! Searches side by side: fronts, hypervolume, latency at equal accuracy.

use std::collections::BTreeSet;
use std::path::PathBuf;

use inas_host::accuracy::Accuracy;
use inas_host::report::{Corner, Mark, Series, series_svg};
use inas_host::search::{
    self, Cache, Evaluated, SearchConfig, SearchResult, Setting, TablePredictor, Workers, device_front, hypervolume_of,
};
use inas_profiler::profile::Profile;

use super::Args;
use super::config::{Run, Searches};
use super::page::Page;
use super::tables::{Table, mean, spread};
use crate::commands::cancel_flag;
use crate::commands::search::Job;
use crate::printer::Printer;

/// A device to judge on, over the whole space.
struct Judge {
    name: String,
    predictor: TablePredictor,
}

pub(super) fn run(what: &Searches, args: &Args, page: &mut Page, printer: Printer) -> anyhow::Result<()> {
    anyhow::ensure!(!what.run.is_empty() && !what.seeds.is_empty(), "an experiment needs runs and seeds");
    let judges = judges(what)?;
    let eval = args.eval()?;
    let profile = Profile::read(&what.run[0].profile)?;
    let evaluator = eval.evaluator(&profile)?;
    let accuracy = Accuracy::new(&evaluator)?;
    let cache = Cache::open(&args.cache, "evaluations")?;
    let workers =
        Workers { threads: args.jobs.unwrap_or(Workers::default().threads), cache: Some(&cache), shard: None };
    let mut results: Vec<Vec<SearchResult>> = Vec::new();
    for run in &what.run {
        let mut of_seeds = Vec::new();
        for &seed in &what.seeds {
            let job = job(run, &what.search, seed);
            let target = job.open()?;
            let bar = printer.bar("search", 0);
            let mut observer = |p: &search::Progress| {
                bar.set_length(p.total as u64);
                bar.set_position(p.evaluated as u64);
                bar.set_message(format!(
                    "{}, seed {seed}, generation {}, best F {:.4}",
                    run.name, p.generation, p.best
                ));
            };
            let setting = Setting {
                devices: &target.devices,
                objective: &accuracy,
                config: &job.config,
                log: None,
                workers,
                cancel: cancel_flag(),
            };
            of_seeds.push(search::run(&setting, &mut observer)?);
            bar.finish_and_clear();
        }
        results.push(of_seeds);
    }
    let facts = profile.facts();
    let (images, calibration) = evaluator.sizes();
    page.scale(
        &format!(
            "space `{}` at {} px; {} with N = {}, G = {}, k = {}, {} generations after the first, p_c = {}, p_m = {}; \
             seeds {:?}; F on {images} validation images after recalibration on {calibration} training images; one \
             supernet. {}",
            profile.space().name,
            facts.input_px,
            if what.run.len() == 1 { "one search" } else { "searches" },
            what.search.population,
            what.search.groups,
            what.search.keep,
            what.search.iterations,
            what.search.crossover,
            what.search.mutation,
            what.seeds,
            "Latencies are predictions from the profiles named below.",
        ),
        true,
    );
    report(what, &judges, &results, page)
}

fn job(run: &Run, common: &SearchConfig, seed: u64) -> Job {
    let config = SearchConfig {
        seed,
        sampler: run.sampler.unwrap_or(common.sampler),
        strategy: run.strategy.unwrap_or(common.strategy),
        ..common.clone()
    };
    Job {
        profiles: vec![run.profile.clone()],
        within: run.within.clone(),
        plain_sum: false,
        config,
        objective: String::new(),
    }
}

fn judges(what: &Searches) -> anyhow::Result<Vec<Judge>> {
    let mut named: Vec<PathBuf> = what.judge.clone();
    if named.is_empty() {
        named.push(what.run[0].profile.clone());
    }
    let mut judges = Vec::new();
    for dir in named {
        let profile = Profile::read(&dir)?;
        let predictor = TablePredictor::new(profile.space(), &profile.model(false), profile.input_px())?;
        judges.push(Judge { name: dir.file_name().unwrap_or_default().to_string_lossy().into_owned(), predictor });
    }
    Ok(judges)
}

/// Latency of the fastest network that is at least so accurate, ms; infinite without one.
fn fastest(front: &[Evaluated], f: f64) -> f64 {
    let good = front.iter().filter(|e| e.score.f_max >= f);
    good.map(|e| e.latency.total().ms()).fold(f64::INFINITY, f64::min)
}

fn best(front: &[Evaluated]) -> f64 {
    front.iter().map(|e| e.score.f_max).fold(0.0, f64::max)
}

fn report(what: &Searches, judges: &[Judge], results: &[Vec<SearchResult>], page: &mut Page) -> anyhow::Result<()> {
    for judge in judges {
        // What the run's own front is worth on this device: a transferred front is not chosen again there.
        let fronts: Vec<Vec<Vec<Evaluated>>> = results
            .iter()
            .map(|seeds| seeds.iter().map(|r| on_device(r, judge)).collect::<anyhow::Result<_>>())
            .collect::<anyhow::Result<_>>()?;
        one_judge(what, judge, results, &fronts, judges.len() > 1, page)?;
    }
    page.data(raw(what, judges, results)?.csv());
    Ok(())
}

/// The front of a search with the latencies of a device.
fn on_device(result: &SearchResult, judge: &Judge) -> anyhow::Result<Vec<Evaluated>> {
    let own = SearchResult { evaluated: result.front.clone(), ..result.clone() };
    Ok(device_front(&own, &judge.predictor, None)?)
}

fn one_judge(
    what: &Searches,
    judge: &Judge,
    results: &[Vec<SearchResult>],
    fronts: &[Vec<Vec<Evaluated>>],
    several: bool,
    page: &mut Page,
) -> anyhow::Result<()> {
    let range = judge.predictor.reachable();
    // Equal accuracy: what every search reaches with every seed, and what all but one do.
    let mut levels: Vec<f64> =
        fronts.iter().map(|seeds| seeds.iter().map(|f| best(f)).fold(f64::INFINITY, f64::min)).collect();
    levels.sort_by(f64::total_cmp);
    let levels = [levels[0], levels[1.min(levels.len() - 1)]];
    let mut table = Table::new([
        "search".to_owned(),
        "evaluated".into(),
        "hypervolume".into(),
        "latencies of the draws and children, ms".into(),
        "share of the reachable range".into(),
        "best F".into(),
        format!("ms at F = {:.4}", levels[0]),
        "against the first".into(),
        format!("ms at F = {:.4}", levels[1]),
    ]);
    let mut base = f64::NAN;
    for ((run, seeds), fronts) in what.run.iter().zip(results).zip(fronts) {
        let volumes: Vec<f64> = fronts.iter().map(|f| hypervolume_of(f, range)).collect();
        let each = |of: &dyn Fn(&Vec<Evaluated>) -> f64| fronts.iter().map(of).collect::<Vec<f64>>();
        let (equal, higher) = (each(&|f| fastest(f, levels[0])), each(&|f| fastest(f, levels[1])));
        let mut reached = (f64::INFINITY, 0.0_f64);
        for e in seeds.iter().flat_map(|r| &r.evaluated) {
            let ms = judge.predictor.latency(&e.arch)?.total().ms();
            reached = (reached.0.min(ms), reached.1.max(ms));
        }
        if base.is_nan() {
            base = mean(&equal);
        }
        table.row([
            run.name.clone(),
            seeds.iter().map(|r| r.evaluated.len()).sum::<usize>().to_string(),
            spread(&volumes, 4),
            format!("{:.2} to {:.2}", reached.0, reached.1),
            format!("{:.0} %", 100.0 * (reached.1 - reached.0) / (range.1.ms() - range.0.ms())),
            spread(&each(&|f| best(f)), 4),
            spread(&equal, 2),
            format!("{:+.1} %", (mean(&equal) / base - 1.0) * 100.0),
            spread(&higher, 2),
        ]);
    }
    page.paragraph(&format!(
        "Judged on `{}` (reachable: {:.2} to {:.2} ms). Several seeds: mean and range. \"ms at F\" is the fastest network \
         of the front that is at least so accurate: the lower F is what every search reached with every seed, the higher \
         what all but one did.",
        judge.name,
        range.0.ms(),
        range.1.ms()
    ));
    page.table(&table);
    let named = |name: &str| if several { format!("{}-{name}", judge.name) } else { name.to_owned() };
    let mut shown = Vec::new();
    for (run, fronts) in what.run.iter().zip(fronts) {
        for front in fronts {
            let points = front.iter().map(|e| (e.latency.total().ms(), e.score.f_max)).collect();
            shown.push(Series { name: run.name.clone(), points, mark: Mark::Stairs });
        }
    }
    let svg = series_svg(("Predicted latency, ms", "Maximum F"), &shown, Corner::BottomRight, false)?;
    page.plot(&named("fronts"), "fronts", svg);
    if !several {
        let mut shown = Vec::new();
        for (run, seeds) in what.run.iter().zip(results) {
            for r in seeds {
                let points = grown(r, judge)?;
                shown.push(Series { name: run.name.clone(), points, mark: Mark::Line });
            }
        }
        let svg = series_svg(("Evaluated networks", "Hypervolume"), &shown, Corner::BottomRight, false)?;
        page.plot(&named("hypervolume"), "hypervolume by evaluated networks", svg);
    }
    Ok(())
}

/// Hypervolume after each generation, on the judge's range.
fn grown(result: &SearchResult, judge: &Judge) -> anyhow::Result<Vec<(f64, f64)>> {
    let mut points = Vec::new();
    for g in &result.generations {
        let so_far = SearchResult { evaluated: result.evaluated[..g.evaluated].to_vec(), ..result.clone() };
        let front = device_front(&so_far, &judge.predictor, None)?;
        points.push((g.evaluated as f64, hypervolume_of(&front, judge.predictor.reachable())));
    }
    Ok(points)
}

fn raw(what: &Searches, judges: &[Judge], results: &[Vec<SearchResult>]) -> anyhow::Result<Table> {
    let mut head: Vec<String> = ["search", "seed", "index", "generation", "architecture"].map(str::to_owned).into();
    head.extend(judges.iter().map(|j| format!("{}_ms", j.name)));
    head.extend(["f_max", "mae", "on_front"].map(str::to_owned));
    let mut table = Table::new(head);
    for (run, seeds) in what.run.iter().zip(results) {
        for (seed, result) in what.seeds.iter().zip(seeds) {
            let front: BTreeSet<&str> = result.front.iter().map(|e| e.hash.as_str()).collect();
            for e in &result.evaluated {
                let mut row = vec![
                    run.name.clone(),
                    seed.to_string(),
                    e.index.to_string(),
                    e.generation.to_string(),
                    e.hash.clone(),
                ];
                for judge in judges {
                    row.push(format!("{:.4}", judge.predictor.latency(&e.arch)?.total().ms()));
                }
                row.extend([
                    format!("{:.6}", e.score.f_max),
                    format!("{:.6}", e.score.mae),
                    u8::from(front.contains(e.hash.as_str())).to_string(),
                ]);
                table.row(row);
            }
        }
    }
    Ok(table)
}
