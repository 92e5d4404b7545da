//! Drawing architectures: uniformly, or by latency group (thesis algorithm 1, step S1).

use inas_space::{Architecture, Micros, Space};
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;

use super::TablePredictor;

/// Rejections after which a group is made wider.
const REJECTIONS: usize = 100;

/// A source of random architectures.
pub trait Sampler {
    /// Draws an architecture for latency group `group` of `groups`, 0 the fastest.
    fn draw(&self, group: usize, groups: usize, rng: &mut ChaCha8Rng) -> Architecture;
}

/// Every choice uniformly random; the group is ignored.
#[derive(Debug, Clone, Copy)]
pub struct Uniform<'a> {
    space: &'a Space,
}

impl<'a> Uniform<'a> {
    /// Samples from `space`.
    pub fn new(space: &'a Space) -> Self {
        Self { space }
    }
}

impl Sampler for Uniform<'_> {
    fn draw(&self, _group: usize, _groups: usize, rng: &mut ChaCha8Rng) -> Architecture {
        self.space.uniform(rng)
    }
}

/// Latency group sampling: the stem, each stage, the transport and the decoder are drawn until their own latency lies
/// in the asked one of equal parts of their own range, given the channels drawn before them.
///
/// Never endless: after every 100 rejections the part is that of one group fewer, and the only part of one group is
/// the whole range. A draw takes at most `100 * (groups - 1) + 1` tries for each stage or level set.
#[derive(Debug, Clone, Copy)]
pub struct Lgs<'a> {
    predictor: &'a TablePredictor,
}

impl<'a> Lgs<'a> {
    /// Samples from the space of `predictor`.
    pub fn new(predictor: &'a TablePredictor) -> Self {
        Self { predictor }
    }
}

impl Sampler for Lgs<'_> {
    fn draw(&self, group: usize, groups: usize, rng: &mut ChaCha8Rng) -> Architecture {
        let (p, space) = (self.predictor, self.predictor.space());
        let stem = reject(
            (group, groups),
            Some(p.stem_range()),
            || *space.stem.channels.choose(rng).unwrap_or(&space.stem.channels[0]),
            |&c| p.stem(c),
        );
        let mut channels = stem;
        let mut stages = Vec::with_capacity(space.stages.len());
        for (s, stage) in space.stages.iter().enumerate() {
            let layers = reject(
                (group, groups),
                p.stage_range(s, channels),
                || stage.uniform_layers(rng),
                |layers| p.stage(s, channels, layers),
            );
            channels = layers.last().map_or(channels, |layer| layer.channels);
            stages.push(layers);
        }
        let mut arch = Architecture { stem, stages, transport: Vec::new(), decoder: Vec::new() };
        let ch = arch.level_channels(space);
        arch.transport = reject(
            (group, groups),
            p.transport_range(&ch),
            || space.levels.iter().map(|l| l.transport.uniform(rng)).collect(),
            |levels: &Vec<_>| p.transport(&ch, levels),
        );
        arch.decoder = reject(
            (group, groups),
            p.decoder_range(&ch),
            || space.levels.iter().map(|l| l.decoder.uniform(rng)).collect(),
            |levels: &Vec<_>| p.decoder(&ch, levels),
        );
        arch
    }
}

/// Draws until the latency lies in the group's part of `range`, the part growing with the rejections.
fn reject<T>(
    (group, groups): (usize, usize),
    range: Option<(Micros, Micros)>,
    mut draw: impl FnMut() -> T,
    latency: impl Fn(&T) -> Option<Micros>,
) -> T {
    let Some((low, high)) = range.filter(|(low, high)| high.0 > low.0) else { return draw() };
    for wider in (2..=groups).rev() {
        let (from, to) = part(group, groups, wider);
        for _ in 0..REJECTIONS {
            let drawn = draw();
            let share = latency(&drawn).map(|t| ((t.0 - low.0) / (high.0 - low.0)).clamp(0.0, 1.0));
            if share.is_some_and(|s| (from..=to).contains(&s)) {
                return drawn;
            }
        }
    }
    draw()
}

/// Bounds in `0..=1` of the part of `wider` equal ones around the middle of part `group` of `groups`, stretched to
/// hold that part entirely.
fn part(group: usize, groups: usize, wider: usize) -> (f64, f64) {
    let group = group.min(groups - 1);
    let bounds = |g: usize, n: usize| (g as f64 / n as f64, (g + 1) as f64 / n as f64);
    let (asked, around) = (bounds(group, groups), bounds((2 * group + 1) * wider / (2 * groups), wider));
    (asked.0.min(around.0), asked.1.max(around.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_parts_hold_the_asked_one_and_grow_to_everything() {
        for groups in 1..=24 {
            for group in 0..groups {
                let asked = part(group, groups, groups);
                for wider in 1..=groups {
                    let (from, to) = part(group, groups, wider);
                    assert!(from <= asked.0 && to >= asked.1, "{group} of {groups} at {wider}");
                }
                assert_eq!(part(group, groups, 1), (0.0, 1.0));
            }
        }
    }

    #[test]
    fn rejection_ends_when_nothing_fits() {
        let mut tries = 0;
        let range = Some((Micros(0.0), Micros(1.0)));
        reject((3, 10), range, || tries += 1, |()| None);
        assert_eq!(tries, 9 * REJECTIONS + 1);
        tries = 0;
        reject((3, 10), Some((Micros(1.0), Micros(1.0))), || tries += 1, |()| None);
        assert_eq!(tries, 1);
    }
}
