//! Cost of one latency prediction: `cargo run --release --example predict_bench`
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Instant;

use inas_host::search::TablePredictor;
use inas_space::{LatencyTable, Space};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

const NETWORKS: usize = 2000;
const ROUNDS: usize = 50;

fn main() {
    let space = Space::preset("iccv21").unwrap();
    let table = LatencyTable::from_release(include_str!("../../../tests/golden/lut/lut_224.txt")).unwrap();
    let predictor = TablePredictor::new(&space, &table, 224).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let archs: Vec<_> = (0..NETWORKS).map(|_| space.uniform(&mut rng)).collect();
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for arch in &archs {
            black_box(predictor.latency(black_box(arch)).unwrap());
        }
        best = best.min(start.elapsed().as_secs_f64() / NETWORKS as f64);
    }
    println!("iccv21: {:.3} us a prediction (best of {ROUNDS} rounds over {NETWORKS} networks)", best * 1e6);
}
