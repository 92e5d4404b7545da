//! What every run does: epochs of steps, a record and a checkpoint after each, interruptible between steps.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::log::{Lines, read_lines};
use super::state::{Progress, Totals};
use crate::Result;

/// Where a run is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) epoch: usize,
    /// Of the epoch: the next one.
    pub(crate) step: usize,
    /// Over the epoch's steps so far.
    pub(crate) totals: Totals,
}

/// A line of a folder's file of epochs.
pub(crate) trait Record: Serialize + DeserializeOwned {
    fn epoch(&self) -> usize;
}

/// A run over epochs in a folder.
pub(crate) trait Epochs {
    type Record: Record;
    fn dir(&self) -> &Path;
    /// Name of the file of epochs.
    fn records() -> &'static str;
    fn place(&mut self) -> &mut Place;
    fn epochs(&self) -> usize;
    /// Steps of the current epoch.
    fn steps(&self) -> usize;
    /// Before the first step of an epoch, and when going on within it.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }
    /// One step.
    fn advance(&mut self) -> Result<Progress>;
    /// After the last step of an epoch.
    fn record(&self) -> Result<Self::Record>;
    /// Writes the checkpoint.
    fn save(&self) -> Result<()>;
}

/// Runs to the end and gives the last record, if any; nothing when `cancel` was raised.
#[expect(clippy::option_option, reason = "a run of no epochs has no record and was not cancelled")]
pub(crate) fn run<R: Epochs>(
    run: &mut R,
    observer: &mut dyn FnMut(&Progress, Option<&R::Record>),
    cancel: &AtomicBool,
) -> Result<Option<Option<R::Record>>> {
    let path = run.dir().join(R::records());
    let mut kept: Vec<R::Record> = read_lines(&path);
    let first = run.place().epoch;
    kept.retain(|r| r.epoch() < first);
    let lines = Lines::open(path, &kept)?;
    let mut last = kept.pop();
    while run.place().epoch < run.epochs() {
        run.begin()?;
        while run.place().step < run.steps() {
            if cancel.load(Ordering::Relaxed) {
                run.save()?;
                return Ok(None);
            }
            let progress = run.advance()?;
            observer(&progress, None);
        }
        let record = run.record()?;
        lines.add(&record)?;
        let Place { epoch, step, totals } = *run.place();
        let (loss, seconds) = (totals.mean_loss(), totals.seconds);
        observer(&Progress { epoch, step, steps: step, loss, seconds }, Some(&record));
        last = Some(record);
        *run.place() = Place { epoch: epoch + 1, ..Place::default() };
        run.save()?;
    }
    Ok(Some(last))
}
