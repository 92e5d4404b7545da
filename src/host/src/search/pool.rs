//! Evaluations of a batch over the cores, one thread each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use inas_space::Architecture;

use super::cache::CacheLine;
use super::{Cache, Objective, Result, Score, SearchError, Trial};

/// Part of the evaluations that this process does: those of number `index` modulo `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    /// Number of this process, from 0.
    pub index: usize,
    /// Number of processes.
    pub of: usize,
    /// How long to wait for the others' scores.
    pub wait: Duration,
}

/// How evaluations are shared out.
#[derive(Debug, Clone, Copy)]
pub struct Workers<'a> {
    /// Threads of this process.
    pub threads: usize,
    /// Where scores are kept.
    pub cache: Option<&'a Cache>,
    /// This process's part; `None` does all of them.
    pub shard: Option<Shard>,
}

impl Default for Workers<'_> {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, cache: None, shard: None }
    }
}

/// Scores of architectures on all validation images, over threads and cache as in a search; `done` gets how many there are.
pub fn scores(
    objective: &dyn Objective,
    archs: &[Architecture],
    workers: Workers<'_>,
    cancel: &AtomicBool,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Score>> {
    let hashes: Vec<String> = archs.iter().map(Architecture::hash).collect();
    let batch: Vec<(&Architecture, &str)> = archs.iter().zip(hashes.iter().map(String::as_str)).collect();
    let mut finished = 0;
    Pool::new(objective, workers, cancel).scores(&batch, 1.0, false, &mut |_, _| {
        finished += 1;
        done(finished);
    })
}

/// Pause between two looks for what other shards have done.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Judges batches of architectures, each on rising shares of the validation images.
pub(super) struct Pool<'a> {
    pub(super) objective: &'a dyn Objective,
    identity: String,
    workers: Workers<'a>,
    cancel: &'a AtomicBool,
    /// Begun judgements, by hash, that may go on with more images.
    begun: BTreeMap<String, Box<dyn Trial + 'a>>,
}

impl<'a> Pool<'a> {
    pub(super) fn new(objective: &'a dyn Objective, workers: Workers<'a>, cancel: &'a AtomicBool) -> Self {
        Self { objective, identity: objective.identity(), workers, cancel, begun: BTreeMap::new() }
    }

    /// Scores of a batch in its order. `done` is called after each, in any order. Unless `keep`, what would allow to go
    /// on with more images is dropped.
    pub(super) fn scores(
        &mut self,
        batch: &[(&Architecture, &str)],
        share: f64,
        keep: bool,
        done: &mut dyn FnMut(usize, Score),
    ) -> Result<Vec<Score>> {
        let mut scores: Vec<Option<Score>> = vec![None; batch.len()];
        self.look(batch, share, &mut scores, done);
        let mine = |i: usize| self.workers.shard.is_none_or(|s| i % s.of.max(1) == s.index);
        let todo: Vec<usize> = (0..batch.len()).filter(|&i| scores[i].is_none() && mine(i)).collect();
        self.evaluate(batch, &todo, share, keep, &mut scores, done)?;
        if let Some(shard) = self.workers.shard {
            self.wait(batch, share, shard, &mut scores, done)?;
        }
        // Whatever is left of None was cancelled.
        if !keep {
            self.begun.clear();
        }
        let known = scores.iter().flatten().count();
        scores.into_iter().collect::<Option<Vec<_>>>().ok_or(SearchError::Interrupted { evaluated: known })
    }

    /// Takes scores from the cache.
    fn look(
        &self,
        batch: &[(&Architecture, &str)],
        share: f64,
        scores: &mut [Option<Score>],
        done: &mut dyn FnMut(usize, Score),
    ) {
        let Some(cache) = self.workers.cache else { return };
        for (i, ((_, hash), score)) in batch.iter().zip(scores).enumerate().filter(|(_, (_, s))| s.is_none()) {
            *score = cache.get(&self.identity, hash, share);
            if let Some(score) = score {
                done(i, *score);
            }
        }
    }

    fn evaluate(
        &mut self,
        batch: &[(&Architecture, &str)],
        todo: &[usize],
        share: f64,
        keep: bool,
        scores: &mut [Option<Score>],
        done: &mut dyn FnMut(usize, Score),
    ) -> Result<()> {
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        // Taken out so that each thread can have its own.
        let trials: Vec<std::sync::Mutex<Option<Box<dyn Trial + 'a>>>> =
            todo.iter().map(|&i| std::sync::Mutex::new(self.begun.remove(batch[i].1))).collect();
        let (objective, cancel) = (self.objective, self.cancel);
        let (send, receive) = mpsc::channel();
        let mut failed = None;
        std::thread::scope(|scope| {
            for _ in 0..self.workers.threads.clamp(1, todo.len().max(1)) {
                let (send, next, stop, trials) = (send.clone(), &next, &stop, &trials);
                scope.spawn(move || {
                    single_threaded(|| {
                        while !stop.load(Ordering::Relaxed) && !cancel.load(Ordering::Relaxed) {
                            let n = next.fetch_add(1, Ordering::Relaxed);
                            let Some(&i) = todo.get(n) else { break };
                            let begun = trials[n].lock().ok().and_then(|mut t| t.take());
                            let score = judge(objective, batch[i].0, begun, share);
                            if send.send((i, score)).is_err() {
                                break;
                            }
                        }
                    });
                });
            }
            drop(send);
            for (i, result) in receive {
                match result.map_err(|source| SearchError::Objective { hash: batch[i].1.to_owned(), source }) {
                    Ok((score, trial)) => match self.settle(batch[i], share, score) {
                        Ok(()) => {
                            scores[i] = Some(score);
                            if keep {
                                self.begun.insert(batch[i].1.to_owned(), trial);
                            }
                            done(i, score);
                        }
                        Err(error) => failed = Some(error),
                    },
                    Err(error) => failed = Some(error),
                }
                if failed.is_some() {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        });
        failed.map_or(Ok(()), Err)
    }

    /// Checks a score and keeps it.
    fn settle(&self, (arch, hash): (&Architecture, &str), share: f64, score: Score) -> Result<()> {
        if !score.f_max.is_finite() || !score.mae.is_finite() {
            return Err(SearchError::Score { hash: hash.to_owned(), f_max: score.f_max, mae: score.mae });
        }
        let Some(cache) = self.workers.cache else { return Ok(()) };
        let (objective, hash, arch) = (self.identity.clone(), hash.to_owned(), arch.clone());
        cache.insert(CacheLine { objective, hash, share, score, arch })
    }

    /// Waits for the scores of the other shards.
    fn wait(
        &self,
        batch: &[(&Architecture, &str)],
        share: f64,
        shard: Shard,
        scores: &mut [Option<Score>],
        done: &mut dyn FnMut(usize, Score),
    ) -> Result<()> {
        let mut since = Instant::now();
        loop {
            let missing = scores.iter().filter(|s| s.is_none()).count();
            if missing == 0 || self.cancel.load(Ordering::Relaxed) {
                return Ok(());
            }
            if let Some(cache) = self.workers.cache {
                cache.refresh()?;
            }
            self.look(batch, share, scores, done);
            let left = scores.iter().filter(|s| s.is_none()).count();
            if left < missing {
                since = Instant::now();
            } else if since.elapsed() >= shard.wait {
                return Err(SearchError::ShardsMissing { missing, of: batch.len(), waited_s: shard.wait.as_secs() });
            } else {
                std::thread::sleep(LOOK_EVERY.min(shard.wait));
            }
        }
    }
}

type Judged<'a> = std::result::Result<(Score, Box<dyn Trial + 'a>), super::ObjectiveError>;

fn judge<'a>(
    objective: &'a dyn Objective,
    arch: &Architecture,
    begun: Option<Box<dyn Trial + 'a>>,
    share: f64,
) -> Judged<'a> {
    let mut trial = begun.map_or_else(|| objective.start(arch), Ok)?;
    let score = trial.advance(share)?;
    Ok((score, trial))
}

/// Runs on a thread pool of one thread: operators inside do not spread over the cores that other evaluations use.
fn single_threaded(work: impl FnOnce() + Send) {
    match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}
