use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::LoaderOptions;

/// One sample's place in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Draw {
    /// Index into the loader's samples.
    pub(crate) sample: usize,
    /// Mirror left to right?
    pub(crate) flip: bool,
}

/// Order and flips of an epoch, cut into batches: a function of the sample count, the options and the epoch only.
pub(crate) fn plan(samples: usize, options: &LoaderOptions, epoch: u64) -> Vec<Vec<Draw>> {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed.wrapping_add(epoch));
    let mut order: Vec<usize> = (0..samples).collect();
    if options.shuffle {
        order.shuffle(&mut rng);
    }
    let draws: Vec<Draw> =
        order.into_iter().map(|sample| Draw { sample, flip: options.flip && rng.random_bool(0.5) }).collect();
    let whole = |batch: &&[Draw]| !options.drop_last || batch.len() == options.batch;
    draws.chunks(options.batch).filter(whole).map(<[Draw]>::to_vec).collect()
}
