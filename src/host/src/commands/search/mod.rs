//! `inas search`

mod job;
mod measure;
mod merge;
mod outcome;
mod report;
mod supernet;

pub(crate) use job::{Job, Target};
pub(crate) use measure::Options as MeasureOptions;
pub(crate) use supernet::{EvalArgs, SupernetArgs};

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand as _;
use inas_host::accuracy::Accuracy;
use inas_host::search::{self, Cache, SamplerKind, SearchConfig, SearchResult, Setting, Shard, Strategy, Workers};
use inas_space::Micros;

use super::cancel_flag;
use crate::printer::Printer;

/// Folder of the evaluations in a search's folder.
const CACHE: &str = "cache";
/// Name of the log in a search's folder.
const LOG: &str = "evaluated.jsonl";

/// `inas search` itself, or one of its steps.
#[derive(Debug)]
pub(crate) enum Cli {
    Search(Box<Args>),
    Step(Step),
}

// By hand: what a search requires, a step does not, which the derived form cannot say of nested groups of options.
impl clap::FromArgMatches for Cli {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        if matches.subcommand_name().is_some() {
            return Ok(Self::Step(Step::from_arg_matches(matches)?));
        }
        Ok(Self::Search(Box::new(Args::from_arg_matches(matches)?)))
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for Cli {
    fn augment_args(command: clap::Command) -> clap::Command {
        let command = Step::augment_subcommands(Args::augment_args(command));
        command.args_conflicts_with_subcommands(true).subcommand_negates_reqs(true)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Step {
    /// Put together what shards have evaluated, and write the front
    Merge(merge::Args),
    /// Export networks of a finished search's front, measure them on the device and rank them again
    Measure(Box<measure::Args>),
}

/// Runs the step that was asked for.
pub(crate) fn dispatch(cli: &Cli, printer: Printer) -> anyhow::Result<bool> {
    match cli {
        Cli::Step(Step::Merge(args)) => merge::run(args, printer),
        Cli::Step(Step::Measure(args)) => measure::run(args, printer),
        Cli::Search(args) if args.shard.is_some() => shard(args, printer),
        Cli::Search(args) => run(args, printer).map(|_| true),
    }
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(super) eval: EvalArgs,
    /// Profile folder of the device; several give a front for each device and the best networks over all of them.
    #[arg(long, value_name = "DIR", required = true)]
    pub(super) profile: Vec<PathBuf>,
    /// Search only this part of the space: a space file (.toml) with fewer choices, see spaces/.
    #[arg(long, value_name = "FILE")]
    pub(super) within: Option<PathBuf>,
    /// Folder of the search.
    #[arg(long, short, value_name = "DIR")]
    pub(super) out: PathBuf,
    /// Continue the search in the folder.
    #[arg(long)]
    pub(super) resume: bool,
    /// Architectures of the first generation (N).
    #[arg(long, default_value_t = SearchConfig::default().population)]
    pub(super) population: usize,
    /// Latency groups (G).
    #[arg(long, default_value_t = SearchConfig::default().groups)]
    pub(super) groups: usize,
    /// Architectures kept, and made, a generation (k).
    #[arg(long, default_value_t = SearchConfig::default().keep)]
    pub(super) keep: usize,
    /// Generations after the first.
    #[arg(long, default_value_t = SearchConfig::default().iterations)]
    pub(super) iterations: usize,
    /// Crossover probability per stage and level.
    #[arg(long, default_value_t = SearchConfig::default().crossover)]
    pub(super) crossover: f64,
    /// Mutation probability per choice.
    #[arg(long, default_value_t = SearchConfig::default().mutation)]
    pub(super) mutation: f64,
    /// How the first generation is drawn.
    #[arg(long, value_enum, default_value_t = SearchConfig::default().sampler)]
    pub(super) sampler: SamplerKind,
    /// How the search goes on.
    #[arg(long, value_enum, default_value_t = SearchConfig::default().strategy)]
    pub(super) strategy: Strategy,
    /// Keep only architectures predicted to be at most this slow, ms.
    #[arg(long, value_name = "MS")]
    pub(super) max_latency: Option<f64>,
    /// Least F-measure of the front's networks.
    #[arg(long, value_name = "F")]
    pub(super) min_score: Option<f64>,
    /// Successive halving: judge a generation on this share of the validation images, its better half on twice as
    /// many, and so on; the front is judged on all.
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub(super) first_share: f64,
    /// Folder of evaluations that other searches share; default: in the folder of the search.
    #[arg(long, value_name = "DIR")]
    pub(super) cache: Option<PathBuf>,
    /// Evaluations at the same time, one thread each; default: as many as there are cores.
    #[arg(long, value_name = "N")]
    pub(super) jobs: Option<usize>,
    /// Evaluate part I of N of every generation (from 0), with the other parts at the same time on other machines
    /// that see the folder; then `inas search merge`.
    #[arg(long, value_name = "I/N", value_parser = part)]
    pub(super) shard: Option<(usize, usize)>,
    /// How long a shard waits for news of the others, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(super) shard_wait: u64,
    #[command(flatten)]
    pub(super) measuring: MeasureOptions,
    /// Predict by the sum over the blocks even when the profile is calibrated.
    #[arg(long)]
    pub(super) plain_sum: bool,
    /// Seed of every draw.
    #[arg(long, default_value_t = 0)]
    pub(super) seed: u64,
}

fn part(text: &str) -> Result<(usize, usize), String> {
    let numbers = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    numbers.filter(|(i, n)| i < n).ok_or_else(|| format!("`{text}` is no part such as 0/4 (0 to 3 of 4)"))
}

impl Args {
    /// The published search over all of the space for one device, begun anew.
    pub(super) fn usual(supernet: SupernetArgs, out: PathBuf) -> Self {
        let config = SearchConfig::default();
        Self {
            eval: supernet.eval,
            profile: vec![supernet.profile],
            within: None,
            out,
            resume: false,
            population: config.population,
            groups: config.groups,
            keep: config.keep,
            iterations: config.iterations,
            crossover: config.crossover,
            mutation: config.mutation,
            sampler: config.sampler,
            strategy: config.strategy,
            max_latency: None,
            min_score: None,
            first_share: config.first_share,
            cache: None,
            jobs: None,
            shard: None,
            shard_wait: 0,
            measuring: MeasureOptions::default(),
            plain_sum: false,
            seed: config.seed,
        }
    }

    fn config(&self) -> SearchConfig {
        SearchConfig {
            population: self.population,
            groups: self.groups,
            keep: self.keep,
            iterations: self.iterations,
            crossover: self.crossover,
            mutation: self.mutation,
            seed: self.seed,
            sampler: self.sampler,
            strategy: self.strategy,
            max_latency: self.max_latency.map(Micros::from_ms),
            min_score: self.min_score,
            first_share: self.first_share,
        }
    }

    fn job(&self) -> Job {
        Job {
            profiles: self.profile.clone(),
            within: self.within.clone(),
            plain_sum: self.plain_sum,
            config: self.config(),
            objective: String::new(),
        }
    }

    fn threads(&self) -> usize {
        self.jobs.unwrap_or(Workers::default().threads).max(1)
    }
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<SearchResult> {
    let job = args.job();
    let target = job.open()?;
    // Before any image is read.
    search::check(&target.devices, &job.config)?;
    let log = args.out.join(LOG);
    if log.exists() && !args.resume {
        return super::hint(
            Err(anyhow::anyhow!("{} holds a search already", args.out.display())),
            "continue it with --resume, or choose another folder",
        );
    }
    let evaluator = args.eval.evaluator(&target.profiles[0])?;
    let accuracy = Accuracy::new(&evaluator)?;
    std::fs::create_dir_all(&args.out)?;
    let cache = Cache::open(&args.cache.clone().unwrap_or_else(|| args.out.join(CACHE)), "evaluations")?;
    let workers = Workers { threads: args.threads(), cache: Some(&cache), shard: None };
    let result = with_progress(
        &Setting {
            devices: &target.devices,
            objective: &accuracy,
            config: &job.config,
            log: Some(&log),
            workers,
            cancel: cancel_flag(),
        },
        printer,
    )?;
    outcome::write(&args.out, &target, &job, &result, printer)?;
    let mut measured = Vec::new();
    if args.measuring.measure.is_some() {
        let profile = &target.profiles[0];
        measured = measure::front_on_device(&args.out, profile, &evaluator, &result.front, &args.measuring, printer)?;
    }
    report::write(&args.out, &target, &job, &result, measured, Some((&evaluator, &args.eval)), printer)?;
    Ok(result)
}

/// Evaluates this process's part of every generation.
fn shard(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let (index, of) = args.shard.unwrap_or((0, 1));
    let mut job = args.job();
    let target = job.open()?;
    search::check(&target.devices, &job.config)?;
    let evaluator = args.eval.evaluator(&target.profiles[0])?;
    let accuracy = Accuracy::new(&evaluator)?;
    job.objective = search::Objective::identity(&accuracy);
    std::fs::create_dir_all(&args.out)?;
    job.agree(&args.out)?;
    let cache = Cache::open(&args.out.join(CACHE), &format!("shard-{index}-of-{of}"))?;
    let shard = Shard { index, of, wait: Duration::from_secs(args.shard_wait) };
    let workers = Workers { threads: args.threads(), cache: Some(&cache), shard: Some(shard) };
    let setting = Setting {
        devices: &target.devices,
        objective: &accuracy,
        config: &job.config,
        log: None,
        workers,
        cancel: cancel_flag(),
    };
    let result = with_progress(&setting, printer)?;
    printer.note(format_args!(
        "  All {} architectures are evaluated: inas search merge {}",
        result.evaluated.len(),
        args.out.display()
    ));
    Ok(true)
}

fn with_progress(setting: &Setting<'_>, printer: Printer) -> anyhow::Result<SearchResult> {
    let bar = printer.bar("search", 0);
    let mut observer = |p: &search::Progress| {
        bar.set_length(p.total as u64);
        bar.set_position(p.evaluated as u64);
        bar.set_message(format!("generation {}, best F {:.4}", p.generation, p.best));
    };
    let result = search::run(setting, &mut observer)?;
    bar.finish_and_clear();
    Ok(result)
}
