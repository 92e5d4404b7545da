//! ONNX Runtime that is not there. Apart from the other tests, since a process keeps the first library it loads.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![cfg(feature = "ort")]

use std::path::Path;

use inas_backend::{Error, RuntimeKind, open};

fn error_for(library: &Path) -> Error {
    open(RuntimeKind::Ort, 1, Some(library)).err().unwrap()
}

#[test]
fn named_file_that_is_missing_is_told_with_the_remedy() {
    let error = error_for(Path::new("/nonexistent/libonnxruntime.so"));
    assert!(matches!(error, Error::OrtNotFound { .. }));
    let text = error.to_string();
    for part in ["/nonexistent/libonnxruntime.so", "pip install onnxruntime", "--ort-lib PATH"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn other_libraries_and_files_are_refused() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.lines().filter_map(|l| l.split_whitespace().nth(5)).find(|p| p.contains("/libc.so"));
    let error = error_for(Path::new(libc.expect("this test program uses libc.so")));
    assert!(matches!(error, Error::OrtLibrary { .. }) && error.to_string().contains("OrtGetApiBase"), "{error}");
    let text = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(error_for(text.path()), Error::OrtLibrary { .. }));
}
