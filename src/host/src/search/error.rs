//! What can go wrong in a search.

use std::path::PathBuf;

use inas_space::Micros;

/// Failure of a search.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// The space, an architecture or the latency table was refused.
    #[error(transparent)]
    Space(#[from] inas_space::Error),
    /// A latency table holds a time that cannot be added up.
    #[error("latency table: block `{key}` has latency {micros} us; it must be finite and not negative")]
    TableValue {
        /// The block.
        key: String,
        /// Its value, us.
        micros: f64,
    },
    /// A setting is outside its range.
    #[error("search setting `{field}` is {value}; it must be {allowed}")]
    Config {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// No evaluated architecture is as accurate as asked.
    #[error("none of {evaluated} evaluated architectures reaches F = {min}: they reach {lowest:.4} to {highest:.4}")]
    ScoreUnreached {
        /// The asked minimum.
        min: f64,
        /// Number of evaluated architectures.
        evaluated: usize,
        /// Lowest F-measure.
        lowest: f64,
        /// Highest F-measure.
        highest: f64,
    },
    /// Other shards have not evaluated their part.
    #[error("{missing} of the {of} networks of this generation wait for other shards (nothing new in {waited_s} s)")]
    ShardsMissing {
        /// Networks without a score.
        missing: usize,
        /// Networks of the batch.
        of: usize,
        /// How long this process waited, s.
        waited_s: u64,
    },
    /// No architecture is as fast as asked.
    #[error(
        "no architecture takes at most {:.3} ms: the space reaches {:.3} ms to {:.3} ms on this latency table",
        max.ms(), lowest.ms(), highest.ms()
    )]
    Unreachable {
        /// The asked maximum.
        max: Micros,
        /// Latency of the fastest architecture.
        lowest: Micros,
        /// Latency of the slowest architecture.
        highest: Micros,
    },
    /// No architecture's latency lies in a window.
    #[error(
        "no architecture takes {:.3} ms to {:.3} ms: the space reaches {:.3} ms to {:.3} ms on this latency table",
        low.ms(), high.ms(), lowest.ms(), highest.ms()
    )]
    EmptyWindow {
        /// Lower end of the window.
        low: Micros,
        /// Upper end of the window.
        high: Micros,
        /// Latency of the fastest architecture.
        lowest: Micros,
        /// Latency of the slowest architecture.
        highest: Micros,
    },
    /// The maximum is reachable, but so tight that no draw met it.
    #[error(
        "none of {draws} drawn architectures takes at most {:.3} ms (the space reaches {:.3} ms to {:.3} ms): allow more",
        max.ms(), lowest.ms(), highest.ms()
    )]
    NothingDrawn {
        /// The asked maximum.
        max: Micros,
        /// Number of architectures drawn.
        draws: usize,
        /// Latency of the fastest architecture.
        lowest: Micros,
        /// Latency of the slowest architecture.
        highest: Micros,
    },
    /// The objective failed on an architecture.
    #[error("evaluating architecture {hash}: {source}")]
    Objective {
        /// The architecture.
        hash: String,
        /// What the objective said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The objective returned a score that cannot be compared.
    #[error("architecture {hash} scored F = {f_max}, MAE = {mae}; both must be finite")]
    Score {
        /// The architecture.
        hash: String,
        /// Its F-measure.
        f_max: f64,
        /// Its mean absolute error.
        mae: f64,
    },
    /// The search was cancelled; its log, if any, holds everything evaluated.
    #[error("search interrupted after {evaluated} evaluations")]
    Interrupted {
        /// Evaluated architectures.
        evaluated: usize,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process writes to the log.
    #[error("{path}: the log is in use by another search")]
    LogInUse {
        /// The log.
        path: PathBuf,
    },
    /// The log belongs to another search.
    #[error("{path}: the log is of another search: {differences}")]
    LogHeader {
        /// The log.
        path: PathBuf,
        /// What differs, `field: log -> now`.
        differences: String,
    },
    /// A line of the log cannot be read.
    #[error("{path}, line {line}: {reason}")]
    LogSyntax {
        /// The log.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The log holds another sequence of architectures than its header leads to.
    #[error("{path}: record {index} is architecture {found}, the search comes to {expected}")]
    LogDiverged {
        /// The log.
        path: PathBuf,
        /// Number of the record, from 0.
        index: usize,
        /// Hash in the log.
        found: String,
        /// Hash that the search evaluates at this point.
        expected: String,
    },
    /// A result could not be put into its text form.
    #[error("{path}: {reason}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}
