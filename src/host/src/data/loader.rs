use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

use image::imageops::{self, FilterType};
use image::{GrayImage, ImageBuffer, Pixel, RgbImage};
use inas_runtime::preprocess::normalise_into;

use super::cache::Cache;
use super::plan::{Draw, Place, plan};
use super::{DataError, Item, Result, Sample};

/// How a [`Loader`] makes batches.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderOptions {
    /// Samples per batch.
    pub batch: usize,
    /// Seed of order and flips; epoch e uses `seed + e`.
    pub seed: u64,
    /// New order each epoch; otherwise the list's.
    pub shuffle: bool,
    /// Mirror each sample left to right with probability one half.
    pub flip: bool,
    /// Take random parts of each sample that are at least this share of its area; 1: all of it.
    pub least_area: f64,
    /// Probability of laying the objects of another sample over a sample whose label is a map; 0..1.
    pub paste: f64,
    /// Most that brightness, contrast and saturation change by, as a share; 0..1.
    pub colour: f64,
    /// Leave out a last batch that is not full.
    pub drop_last: bool,
    /// Loading threads.
    pub workers: usize,
    /// Batches each thread may be ahead of the consumer.
    pub prefetch: usize,
    /// Limit of the in-memory cache of resized samples, bytes; 0 turns it off.
    pub cache_bytes: usize,
}

impl Default for LoaderOptions {
    /// Batches of 8, seed 0, list order without changes, nothing dropped, 2 threads 2 batches ahead, 2 GiB of cache.
    fn default() -> Self {
        Self {
            batch: 8,
            seed: 0,
            shuffle: false,
            flip: false,
            least_area: 1.0,
            paste: 0.0,
            colour: 0.0,
            drop_last: false,
            workers: 2,
            prefetch: 2,
            cache_bytes: 2 << 30,
        }
    }
}

/// A batch ready for a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Normalised photos, NHWC `[n, px, px, 3]`.
    pub images: Vec<f32>,
    /// Labels: maps in 0..1, NHWC `[n, px, px, 1]`, or classes `[n]`.
    pub labels: Vec<f32>,
    /// Samples.
    pub n: usize,
    /// Side of the square inputs, pixels.
    pub px: u32,
    /// The photos' files, in order.
    pub paths: Vec<PathBuf>,
}

/// Loads samples in batches, ahead of the consumer, in an order that depends on seed and epoch only.
#[derive(Debug)]
pub struct Loader<S = Sample> {
    samples: Arc<Vec<S>>,
    options: LoaderOptions,
    cache: Arc<Cache<S>>,
}

impl<S: Item> Loader<S> {
    /// A loader of these samples; the files are opened when their turn comes.
    pub fn new(samples: Vec<S>, options: LoaderOptions) -> Result<Self> {
        if samples.is_empty() {
            return Err(DataError::Empty { path: None });
        }
        for (option, value) in [
            ("the batch size", options.batch),
            ("the number of loading threads", options.workers),
            ("the number of prefetched batches", options.prefetch),
        ] {
            if value == 0 {
                return Err(DataError::Zero { option });
            }
        }
        let cache = Arc::new(Cache::new(options.cache_bytes));
        Ok(Self { samples: Arc::new(samples), options, cache })
    }

    /// The samples, in list order.
    pub fn samples(&self) -> &[S] {
        &self.samples
    }

    /// Batches of an epoch.
    pub fn batches(&self) -> usize {
        if self.options.drop_last {
            self.samples.len() / self.options.batch
        } else {
            self.samples.len().div_ceil(self.options.batch)
        }
    }

    /// Bytes the cache holds now.
    pub fn cached_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// The batches of one epoch; `px` tells the input side of each batch from its index (constant for one scale), or
    /// that it is to be left out.
    ///
    /// Ends after the first error. Dropping it early stops the loading threads.
    pub fn epoch(&self, epoch: u64, px: impl Fn(usize) -> Option<u32>) -> Epoch {
        let batches: Vec<Job> = plan(self.samples.len(), &self.options, epoch)
            .into_iter()
            .enumerate()
            .filter_map(|(index, places)| Some(Job { places, px: px(index)? }))
            .collect();
        Epoch::start(self, batches)
    }
}

/// What one batch is made of.
struct Job {
    places: Vec<Place>,
    px: u32,
}

impl Job {
    fn load<S: Item>(&self, samples: &[S], cache: &Cache<S>) -> Result<Batch> {
        let (n, side) = (self.places.len(), self.px as usize);
        if side == 0 {
            return Err(DataError::Zero { option: "the input size" });
        }
        let mut images = vec![0.0; n * side * side * 3];
        let label_len = S::label_len(self.px);
        let mut labels = vec![0.0; n * label_len];
        let mut paths = Vec::with_capacity(n);
        let slots = images.chunks_exact_mut(side * side * 3).zip(labels.chunks_exact_mut(label_len));
        for (place, (image, label)) in self.places.iter().zip(slots) {
            let sample = &samples[place.sample.sample];
            let (mut photo, mut map) = self.show(&place.sample, samples, cache)?;
            if let (Some((draw, paste)), Some(map)) = (&place.pasted, &mut map)
                && let (other, Some(opacity)) = self.show(draw, samples, cache)?
            {
                paste.apply(&mut photo, map, (&other, &opacity));
            }
            normalise_into(&photo, image);
            sample.label_into(map.as_ref(), label);
            paths.push(sample.image().to_owned());
        }
        Ok(Batch { images, labels, n, px: self.px, paths })
    }

    /// A sample and its label, if that is a map, as the draw says.
    fn show<S: Item>(&self, draw: &Draw, samples: &[S], cache: &Cache<S>) -> Result<(RgbImage, Option<GrayImage>)> {
        // A part is cut from a larger picture, so that it is not blurred.
        let source_px = if draw.crop.is_some() { self.px * 5 / 4 } else { self.px };
        let resized = cache.get(&samples[draw.sample], source_px)?;
        let shown = Shown { draw, px: self.px };
        let mut photo = shown.of(&resized.image, FilterType::Triangle);
        if let Some(colour) = &draw.colour {
            colour.apply(&mut photo);
        }
        Ok((photo, resized.label.as_ref().map(|label| shown.of(label, FilterType::Nearest))))
    }
}

/// How a sample looks in a batch.
struct Shown<'a> {
    draw: &'a Draw,
    px: u32,
}

impl Shown<'_> {
    fn of<P>(&self, picture: &ImageBuffer<P, Vec<u8>>, filter: FilterType) -> ImageBuffer<P, Vec<u8>>
    where
        P: Pixel<Subpixel = u8> + 'static,
    {
        let mut shown = match self.draw.crop {
            Some(crop) => {
                let [left, top, width, height] = crop.pixels(picture.width());
                imageops::resize(&*imageops::crop_imm(picture, left, top, width, height), self.px, self.px, filter)
            }
            None => picture.clone(),
        };
        if self.draw.flip {
            imageops::flip_horizontal_in_place(&mut shown);
        }
        shown
    }
}

/// Iterator over an epoch's batches.
///
/// Thread w makes the batches w, w + threads, ... and hands them over through a bounded channel of its own; taking
/// from the channels in turn gives the planned order whatever the threads' timing.
#[derive(Debug)]
pub struct Epoch {
    channels: Vec<Receiver<Result<Batch>>>,
    threads: Vec<JoinHandle<()>>,
    next: usize,
    batches: usize,
}

impl Epoch {
    fn start<S: Item>(loader: &Loader<S>, jobs: Vec<Job>) -> Self {
        let batches = jobs.len();
        let workers = loader.options.workers.min(batches);
        let mut shares: Vec<Vec<Job>> = (0..workers).map(|_| Vec::new()).collect();
        for (index, job) in jobs.into_iter().enumerate() {
            shares[index % workers].push(job);
        }
        let mut epoch = Self { channels: Vec::new(), threads: Vec::new(), next: 0, batches };
        for share in shares {
            let (sender, receiver) = sync_channel(loader.options.prefetch);
            let (samples, cache) = (Arc::clone(&loader.samples), Arc::clone(&loader.cache));
            epoch.channels.push(receiver);
            epoch.threads.push(std::thread::spawn(move || {
                for job in share {
                    let batch = job.load(&samples, &cache);
                    let failed = batch.is_err();
                    if sender.send(batch).is_err() || failed {
                        break;
                    }
                }
            }));
        }
        epoch
    }

    /// Batches of the whole epoch.
    pub fn batches(&self) -> usize {
        self.batches
    }
}

impl Iterator for Epoch {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.batches {
            return None;
        }
        let index = self.next;
        let received = self.channels[index % self.channels.len()].recv();
        let batch = received.unwrap_or(Err(DataError::WorkerLost { batch: index }));
        self.next = if batch.is_ok() { index + 1 } else { self.batches };
        Some(batch)
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        // Senders fail once the channels are gone, which ends the threads after their current batch.
        self.channels.clear();
        for thread in self.threads.drain(..) {
            // A panic there has shown as a lost batch already.
            let _ = thread.join();
        }
    }
}
