use std::path::PathBuf;

/// What can go wrong with a device.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A target could not be understood.
    #[error("`{text}` is no target: local, adb, adb:SERIAL, ssh:USER@HOST or ssh:USER@HOST:PORT")]
    Target {
        /// As given.
        text: String,
    },
    /// A program of this machine is not there.
    #[error("cannot start `{program}`: {source}; {remedy}")]
    Program {
        /// Its name.
        program: String,
        /// What to do.
        remedy: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The connection is gone or was never there; it may come back.
    #[error("no connection to {device}: {reason}")]
    Lost {
        /// The device.
        device: String,
        /// What the connecting program says.
        reason: String,
    },
    /// The device did not come back.
    #[error(
        "{device} did not come back within {waited_s} s: {reason}; what it measured is kept on it, go on with --resume"
    )]
    Gone {
        /// The device.
        device: String,
        /// Seconds waited.
        waited_s: u64,
        /// What the last attempt said.
        reason: String,
    },
    /// The measuring was cut off again and again without getting on.
    #[error("{device}: cut off {times} times without one more block: {reason}; see `inas doctor`")]
    Stuck {
        /// The device.
        device: String,
        /// How often.
        times: usize,
        /// The last reason.
        reason: String,
    },
    /// A command on the device failed.
    #[error("{device}: `{command}` failed with exit code {code}{said}")]
    Command {
        /// The device.
        device: String,
        /// Shortened.
        command: String,
        /// Exit code.
        code: i32,
        /// Its last words, with a colon before; may be empty.
        said: String,
    },
    /// The measuring program cannot run there.
    #[error("{device}: {what}; {remedy}")]
    Unfit {
        /// The device.
        device: String,
        /// What is wrong.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// No program for the device.
    #[error(
        "no inas-profiler for {arch}: looked for {looked}; build one with `scripts/build-device musl` or name it with --profiler-bin"
    )]
    NoProfiler {
        /// Instruction set of the device.
        arch: String,
        /// Where it was looked for.
        looked: String,
    },
    /// An interrupted profile of the same kind is on the device.
    #[error(
        "{device} holds an unfinished profile of this kind in {folder}: --resume goes on with it, --discard starts over"
    )]
    Unfinished {
        /// The device.
        device: String,
        /// Folder on the device.
        folder: String,
    },
    /// The folder for the profile is in use.
    #[error("{path} is not empty; choose another folder")]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file of this machine.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Stopped by the user.
    #[error("interrupted; what {device} measured is kept on it, go on with --resume")]
    Interrupted {
        /// The device.
        device: String,
    },
    /// The profile that came back, or the space that went there.
    #[error(transparent)]
    Profile(#[from] inas_profiler::Error),
    /// The space.
    #[error(transparent)]
    Space(#[from] inas_space::Error),
    /// A block's graph.
    #[error(transparent)]
    Graph(#[from] inas_graph::Error),
}

impl Error {
    /// Names the file and what was tried.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
