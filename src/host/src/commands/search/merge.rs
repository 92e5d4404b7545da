//! `inas search merge`: the result of a search whose evaluations were shared out.

use std::path::PathBuf;
use std::time::Duration;

use inas_host::search::{self, Cache, Objective, ObjectiveError, SearchError, Setting, Shard, Trial, Workers};
use inas_space::Architecture;

use super::{CACHE, Job, LOG, outcome, report};
use crate::commands::cancel_flag;
use crate::printer::{Hint, Printer};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Folders of the shards: one on a shared disk, or several copied together.
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// Folder of the result; default: the first one.
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Knows what was evaluated, by name only.
struct Recorded(String);

impl Objective for Recorded {
    fn start<'a>(&'a self, _: &Architecture) -> Result<Box<dyn Trial + 'a>, ObjectiveError> {
        Err("it was not evaluated by a shard".into())
    }

    fn identity(&self) -> String {
        self.0.clone()
    }
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let job = Job::read(&args.folders[0])?;
    for other in &args.folders[1..] {
        job.agree(other)?;
    }
    let target = job.open()?;
    let caches: Vec<PathBuf> = args.folders.iter().map(|dir| dir.join(CACHE)).collect();
    let out = args.out.as_ref().unwrap_or(&args.folders[0]);
    std::fs::create_dir_all(out)?;
    if !args.folders.contains(out) {
        job.agree(out)?;
        copy(&caches, &out.join(CACHE))?;
    }
    let cache = Cache::read(&caches)?;
    // No share of the work, and no patience for the others.
    let nothing = Shard { index: 1, of: 1, wait: Duration::ZERO };
    let setting = Setting {
        devices: &target.devices,
        objective: &Recorded(job.objective.clone()),
        config: &job.config,
        log: Some(&out.join(LOG)),
        workers: Workers { threads: 1, cache: Some(&cache), shard: Some(nothing) },
        cancel: cancel_flag(),
    };
    let result = match search::run(&setting, &mut |_| ()) {
        Err(error @ SearchError::ShardsMissing { .. }) => {
            let hint = "start the missing shards (again); without a shared disk, start all of them with -o on the \
                        merged folder, generation by generation";
            return Err(anyhow::Error::new(error).context(Hint(hint.into())));
        }
        other => other?,
    };
    outcome::write(out, &target, &job, &result, printer)?;
    report::write(out, &target, &job, &result, Vec::new(), None, printer)?;
    Ok(true)
}

/// Brings the evaluations together, so that shards can go on with them.
fn copy(caches: &[PathBuf], to: &std::path::Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for (n, cache) in caches.iter().enumerate() {
        for entry in std::fs::read_dir(cache)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            std::fs::copy(&path, to.join(format!("from-{n}-{name}")))?;
        }
    }
    Ok(())
}
