//! Brightness, contrast, saturation and hue, in random order.

use rand::RngExt as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::Jitter;

/// Weights of red, green and blue in the gray of a pixel (ITU-R BT.601).
const GRAY: [f32; 3] = [0.299, 0.587, 0.114];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    Brightness(f32),
    Contrast(f32),
    Saturation(f32),
    /// Turns.
    Hue(f32),
}

fn gray(p: [f32; 3]) -> f32 {
    p.iter().zip(GRAY).map(|(v, w)| v * w).sum()
}

/// `factor p + (1 - factor) to`, kept in `[0, 1]`.
fn blend(p: [f32; 3], to: f32, factor: f32) -> [f32; 3] {
    p.map(|v| (factor * v + (1.0 - factor) * to).clamp(0.0, 1.0))
}

/// Turns the hue of a pixel, its value and saturation (HSV) kept.
fn turned(p: [f32; 3], by: f32) -> [f32; 3] {
    let [r, g, b] = p;
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    let span = max - min;
    if span <= 0.0 {
        return p;
    }
    let sixths = if max <= r {
        (g - b) / span
    } else if max <= g {
        (b - r) / span + 2.0
    } else {
        (r - g) / span + 4.0
    };
    let sixths = (sixths + 6.0 * by).rem_euclid(6.0);
    // Each channel is a trapezoid of the hue.
    [5.0, 3.0, 1.0].map(|offset| {
        let k = (offset + sixths).rem_euclid(6.0);
        max - span * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

impl Change {
    fn apply(self, pixels: &mut [[f32; 3]]) {
        match self {
            Self::Brightness(f) => pixels.iter_mut().for_each(|p| *p = blend(*p, 0.0, f)),
            Self::Contrast(f) => {
                let mean = pixels.iter().map(|p| f64::from(gray(*p))).sum::<f64>() / pixels.len().max(1) as f64;
                for p in pixels {
                    *p = blend(*p, mean as f32, f);
                }
            }
            Self::Saturation(f) => pixels.iter_mut().for_each(|p| *p = blend(*p, gray(*p), f)),
            Self::Hue(by) => pixels.iter_mut().for_each(|p| *p = turned(*p, by)),
        }
    }
}

impl Jitter {
    /// Changes pixels with values in `[0, 1]`.
    pub(super) fn apply(&self, pixels: &mut [[f32; 3]], rng: &mut ChaCha8Rng) {
        let mut factor = |by: f64| rng.random_range((1.0 - by).max(0.0)..=1.0 + by) as f32;
        let mut changes = vec![
            Change::Brightness(factor(self.brightness)),
            Change::Contrast(factor(self.contrast)),
            Change::Saturation(factor(self.saturation)),
            Change::Hue(rng.random_range(-self.hue..=self.hue) as f32),
        ];
        changes.shuffle(rng);
        for change in changes {
            change.apply(pixels);
        }
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the same operations")]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn close(a: [f32; 3], b: [f32; 3]) {
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?} {b:?}");
    }

    #[test]
    fn changes_by_hand() {
        let changed = |change: Change, p: [f32; 3]| {
            let mut all = [p, [0.2; 3]];
            change.apply(&mut all);
            all[0]
        };
        let p = [1.0, 0.5, 0.0];
        close(changed(Change::Brightness(0.5), p), [0.5, 0.25, 0.0]);
        close(changed(Change::Brightness(1.4), p), [1.0, 0.7, 0.0]);
        // Gray of the pixel: 0.5925; mean of both: 0.39625.
        close(changed(Change::Saturation(0.0), p), [0.5925; 3]);
        close(changed(Change::Contrast(0.0), p), [0.39625; 3]);
        close(changed(Change::Contrast(0.5), p), [0.698_125, 0.448_125, 0.198_125]);
        for change in [Change::Brightness(1.0), Change::Contrast(1.0), Change::Saturation(1.0), Change::Hue(0.0)] {
            close(changed(change, p), p);
        }
    }

    #[test]
    fn hue_turns_in_a_circle() {
        // Red, yellow, green, cyan, blue, magenta.
        let colours = [[1., 0., 0.], [1., 1., 0.], [0., 1., 0.], [0., 1., 1.], [0., 0., 1.], [1., 0., 1.]];
        for (i, from) in colours.into_iter().enumerate() {
            for turns in 0..6 {
                close(turned(from, turns as f32 / 6.0), colours[(i + turns) % 6]);
                close(turned(from, turns as f32 / 6.0 - 1.0), colours[(i + turns) % 6]);
            }
        }
        close(turned([0.4; 3], 0.2), [0.4; 3]);
        let p = [0.7, 0.3, 0.4];
        close(turned(turned(p, 0.17), -0.17), p);
    }

    #[test]
    fn strengths_are_kept_and_seeds_decide() {
        let jitter = Jitter { brightness: 0.4, contrast: 0.0, saturation: 0.0, hue: 0.0 };
        let of = |seed: u64, jitter: Jitter| {
            let mut pixels = [[0.5f32, 0.4, 0.3]];
            jitter.apply(&mut pixels, &mut ChaCha8Rng::seed_from_u64(seed));
            pixels[0]
        };
        let all: Vec<f32> = (0..200).map(|seed| of(seed, jitter)[0] / 0.5).collect();
        assert!(all.iter().all(|f| (0.599..=1.401).contains(f)));
        assert!(all.iter().any(|f| *f < 0.7) && all.iter().any(|f| *f > 1.3));
        let strong = Jitter { brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.2 };
        assert_eq!(of(1, strong), of(1, strong));
        assert_ne!(of(1, strong), of(2, strong));
    }
}
