use std::path::PathBuf;

/// What can go wrong while reading data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A list, a folder of photos or a photo could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The list, folder or photo.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A line of a list is not two paths.
    #[error("{}:{line}: expected `image label`, two paths separated by blanks, got {fields} fields", path.display())]
    ListLine {
        /// The list.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// Fields found.
        fields: usize,
    },
    /// A file that a list names is not there.
    #[error("{}:{line}: no such file: {}", path.display(), missing.display())]
    MissingFile {
        /// The list.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
        /// The absent file.
        missing: PathBuf,
    },
    /// A pair of a list cannot be used.
    #[error("line {line} of the list: {source}")]
    Line {
        /// Line number, from 1.
        line: usize,
        /// What is wrong with the pair.
        source: Box<DataError>,
    },
    /// A folder that should hold one folder a class.
    #[error("{} holds {found} folders; photos of at least 2 classes are needed, one folder a class", path.display())]
    Classes {
        /// The folder.
        path: PathBuf,
        /// Folders found.
        found: usize,
    },
    /// A list names no pair, or a loader got no samples.
    #[error("no samples{}", path.as_ref().map(|p| format!(" in {}", p.display())).unwrap_or_default())]
    Empty {
        /// The list, if the samples came from one.
        path: Option<PathBuf>,
    },
    /// An image or label cannot be decoded.
    #[error("cannot decode {} as PNG or JPEG: {source}", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        source: Box<image::ImageError>,
    },
    /// A photo is larger than allowed.
    #[error("{} has {width} x {height} pixels, more than {max_pixels} in all", path.display())]
    Pixels {
        /// The file.
        path: PathBuf,
        /// Its width, pixels.
        width: u32,
        /// Its height, pixels.
        height: u32,
        /// Pixels allowed.
        max_pixels: u64,
    },
    /// An image and its label do not show the same frame.
    #[error(
        "{} is {}x{} but its label {} is {}x{}",
        image.display(), image_size.0, image_size.1, label.display(), label_size.0, label_size.1
    )]
    ShapeMismatch {
        /// The image.
        image: PathBuf,
        /// The label.
        label: PathBuf,
        /// Width and height of the image, pixels.
        image_size: (u32, u32),
        /// Width and height of the label, pixels.
        label_size: (u32, u32),
    },
    /// A loader option or input size of zero.
    #[error("{option} must be at least 1")]
    Zero {
        /// The option.
        option: &'static str,
    },
    /// A loading thread ended without delivering its batch.
    #[error("loading batch {batch} stopped unexpectedly")]
    WorkerLost {
        /// Index of the batch in its epoch.
        batch: usize,
    },
}
