use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::LoaderOptions;
use super::augment::{Colour, Paste};

/// How one sample is shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Draw {
    /// Index into the loader's samples.
    pub(crate) sample: usize,
    /// Mirror left to right?
    pub(crate) flip: bool,
    /// The part to take; all without one.
    pub(crate) crop: Option<Crop>,
    /// Other colours.
    pub(crate) colour: Option<Colour>,
}

/// One place of a batch: a sample, and another whose objects are laid over it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    pub(crate) sample: Draw,
    pub(crate) pasted: Option<(Draw, Paste)>,
}

/// A part of a photo.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Crop {
    /// Width and height as shares of the photo's.
    size: (f64, f64),
    /// Where it begins, as shares of what is left over.
    at: (f64, f64),
}

impl Crop {
    /// A part of at least this share of the area, its sides in a ratio of 3:4 to 4:3.
    fn draw<R: Rng>(least: f64, rng: &mut R) -> Self {
        let area = rng.random_range(least..=1.0);
        let ratio = rng.random_range(f64::ln(0.75)..=f64::ln(4.0 / 3.0)).exp();
        let size = ((area * ratio).sqrt().min(1.0), (area / ratio).sqrt().min(1.0));
        Self { size, at: (rng.random(), rng.random()) }
    }

    /// Left, top, width and height in a square picture, px.
    pub(crate) fn pixels(&self, side: u32) -> [u32; 4] {
        let part = |share: f64, at: f64| {
            let length = ((share * f64::from(side)).round() as u32).clamp(1, side);
            ((at * f64::from(side - length)).round() as u32, length)
        };
        let ((left, width), (top, height)) = (part(self.size.0, self.at.0), part(self.size.1, self.at.1));
        [left, top, width, height]
    }
}

/// Order and changes of an epoch, cut into batches: a function of the sample count, the options and the epoch only.
pub(crate) fn plan(samples: usize, options: &LoaderOptions, epoch: u64) -> Vec<Vec<Place>> {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed.wrapping_add(epoch));
    let mut order: Vec<usize> = (0..samples).collect();
    if options.shuffle {
        order.shuffle(&mut rng);
    }
    let shown = |sample, rng: &mut ChaCha8Rng| Draw {
        sample,
        flip: options.flip && rng.random_bool(0.5),
        crop: (options.least_area < 1.0).then(|| Crop::draw(options.least_area, rng)),
        colour: (options.colour > 0.0).then(|| Colour::draw(options.colour, rng)),
    };
    let mut place = |sample| {
        let sample = shown(sample, &mut rng);
        let pasted = (options.paste > 0.0 && rng.random_bool(options.paste)).then(|| {
            let other = rng.random_range(0..samples);
            (shown(other, &mut rng), Paste::draw(&mut rng))
        });
        Place { sample, pasted }
    };
    let places: Vec<Place> = order.into_iter().map(&mut place).collect();
    let whole = |batch: &&[Place]| !options.drop_last || batch.len() == options.batch;
    places.chunks(options.batch).filter(whole).map(<[Place]>::to_vec).collect()
}
