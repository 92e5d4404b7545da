//! `inas demo`: the whole path once, each step the command of that name with small settings.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use inas_host::export::Format;
use inas_host::picture::Picture;
use inas_host::report::{self, Fact, LossPoint, Point, Prediction, Report, Sample, SampleResult, Search, Training};
use inas_host::search::SearchResult;
use inas_host::train::{StepRecord, TrainDir};
use inas_profiler::measure::Protocol;
use inas_profiler::profile::Profile;
use inas_profiler::run::bench_model;
use inas_space::Space;

use super::profile::RuntimeArgs;
use super::run::Written;
use super::search::{EvalArgs, SupernetArgs};
use super::{export, hint, profile, run as run_photos, search, train};
use crate::printer::{Hint, Printer};

/// Networks that are exported, measured and shown.
const MODELS: usize = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the demo's files; an interrupted demo continues there.
    #[arg(long, short, value_name = "DIR", default_value = "inas-demo")]
    out: PathBuf,
    /// Folder with the mini set (`mini/train.lst`, `mini/val.lst`) and `photos/`.
    #[arg(long, value_name = "DIR", default_value = "data")]
    data: PathBuf,
    /// Search space.
    #[arg(long, default_value = "nano")]
    space: String,
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Training steps.
    #[arg(long, default_value_t = 240)]
    steps: usize,
    /// Architectures of the first generation.
    #[arg(long, default_value_t = 60)]
    population: usize,
    /// Generations after the first.
    #[arg(long, default_value_t = 4)]
    iterations: usize,
    /// Seed of every draw.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let started = Instant::now();
    let lists = [args.data.join("mini/train.lst"), args.data.join("mini/val.lst")];
    if let Some(missing) = lists.iter().find(|list| !list.exists()) {
        return Err(anyhow::anyhow!("{} is not there", missing.display()))
            .context(Hint("run the demo from the root of a checkout, or name its `data` folder with --data".into()));
    }
    let photos = copy_photos(&args.data.join("photos"), &args.out.join("photos"))?;
    let dir = |name: &str| args.out.join(name);

    let profile = if dir("profile").join("profile.json").exists() {
        earlier_profile(args, &dir("profile"))?
    } else {
        profile::run(&profile_args(args), printer)?
    };
    let train_dir = if TrainDir::new(&dir("train")).supernet().exists() {
        TrainDir::new(&dir("train"))
    } else {
        train::run(&train_args(args, &lists[0]), printer)?
    };
    let eval = EvalArgs {
        supernet: train_dir.supernet(),
        train_data: lists[0].clone(),
        val_data: lists[1].clone(),
        calibration: 40,
    };
    let supernet = SupernetArgs { eval, profile: dir("profile") };
    let found = search::run(&search_args(args, supernet.clone()), printer)?;
    let models = export::run(
        &export::Args {
            supernet,
            archs: vec![dir("search").join("front.json")],
            pick: Some(MODELS),
            out: dir("models"),
            device: None,
            format: vec![Format::Fp32],
            pixels: false,
            open_size: false,
            ort_lib: None,
        },
        printer,
    )?;

    let runtime = args.runtime.open()?;
    let mut rows = Vec::with_capacity(models.len());
    let mut results: Vec<(String, Vec<Written>)> = Vec::new();
    for model in &models {
        let file = dir("models").join(&model.file);
        let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let measured = bench_model(&bytes, runtime.as_ref(), &Protocol::default())?;
        rows.push(report::Model {
            name: model.name.clone(),
            hash: model.hash.clone(),
            file: Path::new("models").join(&model.file).display().to_string(),
            predicted_ms: model.predicted_ms,
            measured_ms: Some(measured.median_us / 1e3),
            measured_ci_ms: Some((measured.ci_low_us / 1e3, measured.ci_high_us / 1e3)),
            macs: model.macs,
            params: model.params,
            file_bytes: model.file_bytes,
            f_max: model.f_max,
            mae: model.mae,
            parity: model.parity,
        });
        let photo_args = run_photos::Args {
            images: [vec![file], photos.clone()].concat(),
            out: dir("masks").join(&model.name),
            write: vec![Picture::Mask, Picture::Cutout],
            background: None,
            smooth: None,
            jobs: NonZero::new(1),
            runtime: args.runtime.clone(),
        };
        let outcome = run_photos::run(&photo_args, Printer::silent())?;
        anyhow::ensure!(outcome.failed == 0, "{} of the demo's photos failed", outcome.failed);
        results.push((model.name.clone(), outcome.written));
    }

    let report = Report {
        title: format!("iNAS demo: space {}", profile.space().name),
        command: inas_profiler::command_line(std::env::args()),
        version: env!("CARGO_PKG_VERSION").into(),
        created: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        device: facts(&profile),
        training: Some(training(&train_dir)),
        search: search_section(&found, &profile)?,
        predictions: rows.iter().filter_map(prediction).collect(),
        models: rows,
        samples: samples(&photos, &results, &args.out),
    };
    let page = report::write(&report, &args.out)?;
    table(&report, printer)?;
    printer.result(format_args!("\nmodels   {}", dir("models").display()))?;
    printer.result(format_args!("masks    {}", dir("masks").display()))?;
    printer.result(format_args!("profile  {}", dir("profile").display()))?;
    printer.result(format_args!("search   {}", dir("search").join("report.html").display()))?;
    printer.result(format_args!("report   {}", page.display()))?;
    printer.note(format_args!("Done in {:.0} s", started.elapsed().as_secs_f64()));
    Ok(true)
}

/// The profile of an earlier demo in the folder, which must be of the same space and runtime.
fn earlier_profile(args: &Args, folder: &Path) -> anyhow::Result<Profile> {
    let profile = Profile::read(folder)?;
    let with = RuntimeArgs::of(&profile, None, "this program")?;
    let runtime = |r: &RuntimeArgs| (r.runtime, r.threads, r.providers.clone());
    if *profile.space() == Space::load(&args.space)? && runtime(&with) == runtime(&args.runtime) {
        return Ok(profile);
    }
    let other = anyhow::anyhow!("{} holds a demo of another space or runtime", args.out.display());
    hint(Err(other), "name another folder with --out")
}

/// Copies the photos beside the report, so that the demo's folder can be moved as a whole.
fn copy_photos(from: &Path, to: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.extension().is_some_and(|e| e == "jpg"));
    paths.sort();
    std::fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    let mut copies = Vec::with_capacity(paths.len());
    for path in paths {
        let copy = to.join(path.file_name().unwrap_or_default());
        std::fs::copy(&path, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
        copies.push(copy);
    }
    Ok(copies)
}

fn profile_args(args: &Args) -> profile::Args {
    profile::Args {
        space: args.space.clone(),
        px: None,
        runtime: args.runtime.clone(),
        out: Some(args.out.join("profile")),
        resume: args.out.join("profile").exists(),
        max_runs: Protocol::default().max_runs,
        max_seconds: Protocol::default().max_seconds,
        care: profile::CareArgs::default(),
        calibrate: 0,
        seed: args.seed,
        targets: profile::TargetArgs::default(),
    }
}

fn train_args(args: &Args, list: &Path) -> train::Args {
    let out = args.out.join("train");
    train::Args {
        space: Some(args.space.clone()),
        data: Some(list.to_owned()),
        resume: TrainDir::new(&out).checkpoint().exists(),
        steps: Some(args.steps),
        batch: Some(8),
        seed: Some(args.seed),
        set: ["train.warmup_steps=20", "train.checkpoint_every=50"].map(str::to_owned).into(),
        run: Some("nano".into()),
        ..train::Args::into_folder(out)
    }
}

fn search_args(args: &Args, supernet: SupernetArgs) -> search::Args {
    let out = args.out.join("search");
    search::Args {
        resume: out.exists(),
        population: args.population,
        iterations: args.iterations,
        seed: args.seed,
        ..search::Args::usual(supernet, out)
    }
}

fn facts(profile: &Profile) -> Vec<Fact> {
    let measured = profile.facts();
    let device = &measured.device;
    let cpu = device.cpu_brand.clone().unwrap_or_else(|| "unknown".into());
    let cores = device.logical_cores.map_or_else(|| "unknown".into(), |n| n.to_string());
    let facts = [
        ("processor", cpu),
        ("cores", cores),
        ("system", device.os.clone().unwrap_or_else(|| "unknown".into())),
        ("runtime", format!("{} {}", measured.runtime.name, measured.runtime.version)),
        ("threads", measured.threads.to_string()),
        ("space", format!("{} ({})", measured.space_name, measured.space_hash)),
        ("input", format!("{0} x {0} px", measured.input_px)),
        ("blocks", measured.blocks.to_string()),
        ("profiled", measured.created.clone()),
    ];
    facts.map(|(label, value)| Fact { label: label.into(), value }).into()
}

fn training(dir: &TrainDir) -> Training {
    let records = dir.records();
    let point = |r: &StepRecord| {
        let random = r.losses.get(2..).unwrap_or_default();
        LossPoint {
            step: r.step as u64,
            max: f64::from(r.losses[0]),
            min: r.losses.get(1).map_or(f64::NAN, |l| f64::from(*l)),
            random: random.iter().map(|l| f64::from(*l)).sum::<f64>() / random.len() as f64,
        }
    };
    let seconds: f64 = records.iter().map(|r| r.seconds).sum();
    let notes = format!(
        "{} sandwich steps on the mini set in {seconds:.0} s; a demonstration, not a trained product.",
        records.len()
    );
    Training { notes, losses: records.iter().map(point).collect() }
}

fn search_section(found: &SearchResult, profile: &Profile) -> anyhow::Result<Search> {
    let on_front = |hash: &str| found.front.iter().any(|f| f.hash == hash);
    let points = found.evaluated.iter().map(|e| Point {
        hash: e.hash.clone(),
        latency_ms: e.latency.total().ms(),
        f_max: e.score.f_max,
        generation: e.generation as u32,
        on_front: on_front(&e.hash),
    });
    let space = profile.space();
    let reach = |arch| anyhow::Ok(profile.predict(&arch)?.total().ms());
    Ok(Search {
        strategy: "LGS evolution".into(),
        points: points.collect(),
        hypervolume: found.generations.iter().map(|g| g.hypervolume).collect(),
        reachable_ms: (reach(space.min())?, reach(space.max())?),
    })
}

fn prediction(model: &report::Model) -> Option<Prediction> {
    let measured_ms = model.measured_ms?;
    Some(Prediction { hash: model.hash.clone(), predicted_ms: model.predicted_ms, measured_ms })
}

fn samples(photos: &[PathBuf], results: &[(String, Vec<Written>)], out: &Path) -> Vec<Sample> {
    let relative = |path: &Path| path.strip_prefix(out).unwrap_or(path).to_owned();
    let of_photo = |photo: &PathBuf| {
        let result = |(model, written): &(String, Vec<Written>)| {
            let w = written.iter().find(|w| w.photo == *photo)?;
            Some(SampleResult {
                model: model.clone(),
                mask: relative(&w.files[0]),
                cut_out: relative(&w.files[1]),
                latency_ms: w.latency_ms,
            })
        };
        Sample { photo: relative(photo), results: results.iter().filter_map(result).collect() }
    };
    photos.iter().map(of_photo).collect()
}

fn table(report: &Report, printer: Printer) -> anyhow::Result<()> {
    printer.result(format_args!(
        "\n{:<34} {:>12} {:>12} {:>8} {:>8} {:>7} {:>9} {:>9}",
        "model", "predicted ms", "measured ms", "error %", "max F", "MAE", "M MACs", "k params"
    ))?;
    for m in &report.models {
        let measured = m.measured_ms.unwrap_or(f64::NAN);
        printer.result(format_args!(
            "{:<34} {:>12.2} {measured:>12.2} {:>+8.1} {:>8.4} {:>7.4} {:>9.1} {:>9.1}",
            m.name,
            m.predicted_ms,
            (m.predicted_ms / measured - 1.0) * 100.0,
            m.f_max,
            m.mae,
            m.macs as f64 / 1e6,
            m.params as f64 / 1e3,
        ))?;
    }
    Ok(())
}
