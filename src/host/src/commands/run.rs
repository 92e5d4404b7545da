//! `inas run`

use std::borrow::Cow;
use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use image::{DynamicImage, ImageFormat, RgbImage};
use inas_host::data::decode_upright;
use inas_host::picture::Picture;
use inas_runtime::Model;

use super::profile::RuntimeArgs;
use super::{hint, load, read_file, write_file};
use crate::printer::Printer;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Photos (PNG or JPEG), folders of photos, or `-` for one photo on standard input (its result goes to standard
    /// output). A first one that ends in .onnx is the model; default: the balanced one of `models/`, built in.
    #[arg(required = true, value_name = "[MODEL] IMAGE")]
    pub(super) images: Vec<PathBuf>,
    /// Folder for the results, `NAME_mask.png` and so on.
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub(super) out: PathBuf,
    /// What to write for each photo.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "mask,cutout")]
    pub(super) write: Vec<Picture>,
    /// Picture that `--write background` puts behind what is salient.
    #[arg(long, value_name = "FILE")]
    pub(super) background: Option<PathBuf>,
    /// The photos are frames of a video, in the order of their names: each mask is WEIGHT parts of those before and
    /// 1 - WEIGHT of its own (0.5 is a start). One after the other.
    #[arg(long, value_name = "WEIGHT", conflicts_with = "jobs")]
    pub(super) smooth: Option<f32>,
    /// Photos worked on at once; default: the machine's cores over the runtime's threads.
    #[arg(long, short)]
    pub(super) jobs: Option<NonZero<usize>>,
    #[command(flatten)]
    pub(super) runtime: RuntimeArgs,
}

/// The model that runs when none is named; its card is `models/README.md`.
pub(super) const BALANCED: &[u8] = include_bytes!("../../../../models/balanced.onnx");

/// Pixels of a photo at most: as many as the best cameras have.
const MAX_PIXELS: u64 = 200_000_000;

/// What was written for one photo.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) photo: PathBuf,
    /// In the order of `--write`.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) latency_ms: f64,
}

/// What a run over photos did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// In the order of the photos.
    pub(crate) written: Vec<Written>,
    pub(crate) failed: usize,
}

pub(crate) fn run(args: &Args, printer: Printer) -> anyhow::Result<Outcome> {
    let behind = args.background.as_deref().map(read_photo).transpose()?;
    if args.write.contains(&Picture::Background) && behind.is_none() {
        return hint(Err(anyhow::anyhow!("no background was given")), "name a picture with --background FILE");
    }
    let (model, images) = split(&args.images);
    let (name, onnx) = match model {
        Some(path) => (path.display().to_string(), Cow::Owned(read_file(path)?)),
        None => ("the built-in model".to_owned(), Cow::Borrowed(BALANCED)),
    };
    let job = Job { args, name, onnx, behind };
    if images == [Path::new("-")] {
        return job.filter();
    }
    anyhow::ensure!(!images.is_empty(), "no photo was named");
    if let Some(model) = images.iter().find(|path| is_model(path)) {
        let second = anyhow::anyhow!("{} is no photo", model.display());
        return hint(Err(second), "one model at a time, before the photos: inas run [MODEL] IMAGE…");
    }
    anyhow::ensure!(!images.iter().any(|i| i == Path::new("-")), "`-` stands for one photo and allows no other");
    let photos = photos(images)?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("cannot create {}", args.out.display()))?;
    let outcome = job.all(&photos, printer)?;
    printer.note(format_args!("{} ok, {} failed", outcome.written.len(), outcome.failed));
    Ok(outcome)
}

/// The model file, if one is named first, and the photos.
fn split(paths: &[PathBuf]) -> (Option<&PathBuf>, &[PathBuf]) {
    match paths {
        [first, rest @ ..] if is_model(first) => (Some(first), rest),
        all => (None, all),
    }
}

fn is_model(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
}

struct Job<'a> {
    args: &'a Args,
    /// What the model is called in errors.
    name: String,
    onnx: Cow<'a, [u8]>,
    behind: Option<RgbImage>,
}

impl Job<'_> {
    fn model(&self) -> anyhow::Result<Model> {
        let runtime = self.args.runtime.open()?;
        let mut model = load(&self.name, &self.onnx, runtime.as_ref())?;
        model.set_smoothing(self.args.smooth.unwrap_or(0.0))?;
        Ok(model)
    }

    /// Works on the photos with one loaded model a thread.
    fn all(&self, photos: &[PathBuf], printer: Printer) -> anyhow::Result<Outcome> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let mut jobs = self.args.jobs.map_or(cores / self.args.runtime.threads.max(1), NonZero::get);
        if self.args.smooth.is_some() {
            jobs = 1;
        }
        let next = AtomicUsize::new(0);
        let done = Mutex::new(vec![None; photos.len()]);
        let work = || -> anyhow::Result<()> {
            let mut model = self.model()?;
            while let Some(i) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|i| *i < photos.len()) {
                // One bad photo must not stop the others.
                match self.one(&mut model, &photos[i]) {
                    Ok(written) => {
                        let files: Vec<String> = written.files.iter().map(|f| f.display().to_string()).collect();
                        printer.result(format_args!("{}  {:.2} ms", files.join(" "), written.latency_ms))?;
                        done.lock().unwrap_or_else(std::sync::PoisonError::into_inner)[i] = Some(written);
                    }
                    Err(error) => Printer::error(&error),
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..jobs.clamp(1, photos.len().max(1))).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|t| t.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")))
        })?;
        let written: Vec<Written> =
            done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_iter().flatten().collect();
        Ok(Outcome { failed: photos.len() - written.len(), written })
    }

    fn one(&self, model: &mut Model, photo: &Path) -> anyhow::Result<Written> {
        let image = read_photo(photo)?;
        let saliency = model.run(&image)?;
        let stem = photo.file_stem().unwrap_or_default().to_string_lossy();
        let mut files = Vec::with_capacity(self.args.write.len());
        for output in &self.args.write {
            let path = self.args.out.join(format!("{stem}_{}.png", output.name()));
            let picture = output.of(&image, &saliency.mask, self.behind.as_ref())?;
            write_file(&path, &png(&picture)?)?;
            files.push(path);
        }
        Ok(Written { photo: photo.to_owned(), files, latency_ms: saliency.latency_ms() })
    }

    /// One photo from standard input, its first output to standard output.
    fn filter(&self) -> anyhow::Result<Outcome> {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).context("cannot read standard input")?;
        let image = decode_upright(&bytes, Path::new("standard input"), MAX_PIXELS)?;
        let saliency = self.model()?.run(&image)?;
        let output = self.args.write.first().copied().unwrap_or(Picture::Mask);
        let picture = output.of(&image, &saliency.mask, self.behind.as_ref())?;
        std::io::stdout().write_all(&png(&picture)?).context("cannot write standard output")?;
        let written = Written { photo: "-".into(), files: vec![], latency_ms: saliency.latency_ms() };
        Ok(Outcome { written: vec![written], failed: 0 })
    }
}

/// The bytes of a PNG file.
fn png(picture: &DynamicImage) -> anyhow::Result<Vec<u8>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// Reads a photo, upright.
fn read_photo(path: &Path) -> anyhow::Result<RgbImage> {
    Ok(decode_upright(&read_file(path)?, path, MAX_PIXELS)?)
}

/// The files that were named, and the PNG and JPEG files of the folders that were named, sorted.
fn photos(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut photos = Vec::new();
    for path in named {
        if !path.is_dir() {
            photos.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut found = entries.map(|e| Ok(e?.path())).collect::<std::io::Result<Vec<_>>>()?;
        found.retain(|p| {
            p.is_file()
                && p.extension().is_some_and(|e| ["png", "jpg", "jpeg"].iter().any(|k| e.eq_ignore_ascii_case(k)))
        });
        anyhow::ensure!(!found.is_empty(), "{} holds no PNG or JPEG file", path.display());
        found.sort();
        photos.extend(found);
    }
    // Results are named after the photo alone, so two of one name would overwrite each other.
    let mut stems = std::collections::BTreeMap::new();
    for photo in &photos {
        if let Some(other) = stems.insert(photo.file_stem().unwrap_or_default(), photo) {
            anyhow::bail!("{} and {} would give files of the same name", other.display(), photo.display());
        }
    }
    Ok(photos)
}
