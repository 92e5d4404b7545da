//! Status codes, and the last error's text.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use inas_runtime::{BackendError, Error};

/// How a call ended.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InasStatus {
    /// It worked.
    Ok = 0,
    /// A pointer that must not be null is.
    Null = 1,
    /// A size, format, stride, rotation or option is wrong, or a buffer is too short.
    Argument = 2,
    /// A file cannot be read.
    File = 3,
    /// The model is damaged or no saliency network.
    Model = 4,
    /// The inference runtime cannot be opened or failed.
    Runtime = 5,
    /// A defect of this library; the model must not be used again.
    Internal = 6,
}

/// A status with its words.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: InasStatus,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn null(what: &str) -> Self {
        Self { status: InasStatus::Null, message: format!("{what} is null") }
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self { status: InasStatus::Argument, message: message.into() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut cause = &error;
        while let Error::File { source, .. } = cause {
            cause = source;
        }
        let status = match cause {
            Error::Read { .. } => InasStatus::File,
            Error::Shapes { .. }
            | Error::Output { .. }
            | Error::Runtime(
                BackendError::Load { .. } | BackendError::Unsupported { .. } | BackendError::TooLarge { .. },
            ) => InasStatus::Model,
            Error::Runtime(BackendError::Threads { .. })
            | Error::OpenSize { .. }
            | Error::FrameSize { .. }
            | Error::ShortBuffer { .. }
            | Error::Stride { .. }
            | Error::Smoothing { .. } => InasStatus::Argument,
            Error::Runtime(_) | Error::File { .. } => InasStatus::Runtime,
        };
        Self { status, message: error.to_string() }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// What the last call on this thread that failed said; never null, empty before the first. Valid until the next call
/// on this thread fails.
#[unsafe(no_mangle)]
pub extern "C" fn inas_last_error() -> *const c_char {
    // A thread that ends has none left.
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}

/// The library's version, e.g. `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn inas_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"unknown",
    };
    VERSION.as_ptr()
}

/// Runs a call's body: no panic leaves it, and its error is kept for [`inas_last_error`].
pub(crate) fn guard(body: impl FnOnce() -> Result<(), Failure>) -> InasStatus {
    let caught = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Failure { status: InasStatus::Internal, message: format!("internal failure: {text}") })
    });
    let Err(failure) = caught else { return InasStatus::Ok };
    let text = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
    // Models may be freed while a thread ends, when its last words are gone already.
    let _ = LAST.try_with(|last| last.replace(text));
    failure.status
}
