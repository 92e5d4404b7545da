use std::path::PathBuf;

/// What can go wrong while scoring saliency maps.
#[derive(Debug, thiserror::Error)]
pub enum MetricError {
    /// A folder or file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is no image that can be decoded.
    #[error("cannot decode {}: {source}", path.display())]
    Decode {
        /// The image file.
        path: PathBuf,
        /// The decoder's reason.
        source: Box<image::ImageError>,
    },
    /// Prediction and ground truth differ in size.
    #[error("{pred} is {}x{} but its ground truth {gt} is {}x{}", pred_size.0, pred_size.1, gt_size.0, gt_size.1)]
    SizeMismatch {
        /// Name of the prediction.
        pred: String,
        /// Name of the ground truth.
        gt: String,
        /// Width and height of the prediction, pixels.
        pred_size: (u32, u32),
        /// Width and height of the ground truth, pixels.
        gt_size: (u32, u32),
    },
    /// A map's buffer does not hold width x height values, or the map is empty.
    #[error("a map of {width}x{height} needs as many values, at least one; got {len}")]
    BadMap {
        /// Width, pixels.
        width: u32,
        /// Height, pixels.
        height: u32,
        /// Values in the buffer.
        len: usize,
    },
    /// Ground-truth maps without a prediction of the same file stem.
    #[error("{} of {total} ground-truth maps have no prediction in {}: {}", stems.len(), dir.display(), stems.join(", "))]
    MissingPredictions {
        /// The prediction folder.
        dir: PathBuf,
        /// Stems that lack a prediction, sorted.
        stems: Vec<String>,
        /// Ground-truth maps in all.
        total: usize,
    },
    /// Two files of one folder share a stem, so pairing is ambiguous.
    #[error("{} and {} have the same stem", first.display(), second.display())]
    DuplicateStem {
        /// One of the files.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Nothing to score.
    #[error("no images to score{}", dir.as_ref().map(|d| format!(" in {}", d.display())).unwrap_or_default())]
    Empty {
        /// The folder without images, if it came from one.
        dir: Option<PathBuf>,
    },
}
