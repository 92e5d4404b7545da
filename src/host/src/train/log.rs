//! What a run leaves behind as it goes: JSON lines, and the same as TensorBoard events.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::events::Events;
use super::validate::{ValidationRecord, best_of, mean_score};
use super::{Result, StepRecord, TrainError, Trainer, checkpoint};

pub(super) struct Log {
    metrics: Lines,
    validation: Lines,
    events: Events,
    events_dir: PathBuf,
    /// Best mean score so far.
    best: Option<f64>,
}

impl Log {
    /// Opens the files for appending, without the records after the step to continue from.
    pub(super) fn open(trainer: &Trainer) -> Result<Self> {
        let (dir, step) = (&trainer.dir, trainer.step);
        let mut steps = dir.records();
        steps.retain(|r| r.step < step);
        let mut validations = dir.validations();
        validations.retain(|r| r.step <= step && step > 0);
        let events_dir = dir.events();
        Ok(Self {
            metrics: Lines::open(dir.metrics(), &steps)?,
            validation: Lines::open(dir.validation(), &validations)?,
            events: Events::create(&events_dir).map_err(|e| TrainError::io(&events_dir, e))?,
            events_dir,
            best: best_of(&validations),
        })
    }

    pub(super) fn step(&mut self, record: &StepRecord) -> Result<()> {
        self.metrics.add(record)?;
        let name = |i: usize| match i {
            0 => "loss/max".to_owned(),
            1 => "loss/min".to_owned(),
            i => format!("loss/random{}", i - 1),
        };
        let mut values: Vec<_> = record.losses.iter().enumerate().map(|(i, l)| (name(i), f64::from(*l))).collect();
        values.push(("lr".into(), record.lr));
        values.push(("seconds/step".into(), record.seconds));
        values.push(("seconds/data".into(), record.data_seconds));
        self.scalars(record.step + 1, &values)
    }

    /// Adds a validation; whether it is the best so far.
    pub(super) fn validated(&mut self, records: &[ValidationRecord]) -> Result<bool> {
        for record in records {
            self.validation.add(record)?;
            let values = record.score.named().map(|(name, value)| {
                let name = name.to_lowercase().replace(' ', "_");
                (format!("{name}/{}", record.network), value)
            });
            self.scalars(record.step, &values)?;
        }
        let mean = mean_score(records);
        let better = self.best.is_none_or(|best| mean > best);
        if better {
            self.best = Some(mean);
        }
        Ok(better)
    }

    fn scalars(&mut self, step: usize, values: &[(String, f64)]) -> Result<()> {
        self.events.scalars(step, values).map_err(|e| TrainError::io(&self.events_dir, e))
    }
}

/// A file of one JSON object a line.
struct Lines {
    path: PathBuf,
    file: File,
}

impl Lines {
    /// Keeps these records and appends from there.
    fn open<T: Serialize>(path: PathBuf, kept: &[T]) -> Result<Self> {
        let text: String = kept.iter().map(line).collect();
        checkpoint::write_atomic(&path, text.as_bytes())?;
        let file = OpenOptions::new().append(true).open(&path).map_err(|e| TrainError::io(&path, e))?;
        Ok(Self { path, file })
    }

    fn add<T: Serialize>(&mut self, record: &T) -> Result<()> {
        let failed = |path: &Path, e| TrainError::io(path, e);
        self.file.write_all(line(record).as_bytes()).map_err(|e| failed(&self.path, e))
    }
}

fn line<T: Serialize>(record: &T) -> String {
    serde_json::to_string(record).unwrap_or_default() + "\n"
}
