//! Drawing architectures: uniformly, or by latency group (thesis algorithm 1, step S1).

use inas_space::{Architecture, Micros, Space};
use rand::RngExt as _;
use rand::seq::IndexedRandom as _;
use rand_chacha::ChaCha8Rng;

use super::{TablePredictor, guided};

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
/// the whole range. A draw takes at most `100 * (groups - 1) + 1` proposals for each stage or level set. Every second
/// proposal aims at the group layer by layer, the others are uniform.
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
        self.draw_parts((group, group), groups, rng)
    }
}

impl Lgs<'_> {
    /// Draws an architecture whose backbone is of one group and whose transport and decoder are of another.
    pub fn draw_parts(&self, (group, head): (usize, usize), groups: usize, rng: &mut ChaCha8Rng) -> Architecture {
        let (p, space) = (self.predictor, self.predictor.space());
        let groups = groups.max(1);
        let (group, head) = (group.min(groups - 1), head.min(groups - 1));
        let asked = (group, groups);
        // One aim for all parts, so that totals spread over the group instead of gathering in its middle.
        let place: f64 = rng.random();
        let aim = (group as f64 + place) / groups as f64;
        let draw_stem = |_| *space.stem.channels.choose(rng).unwrap_or(&space.stem.channels[0]);
        let stem = reject(asked, Some(p.stem_range()), draw_stem, |&c| p.stem(c));
        let mut channels = stem;
        let mut stages = Vec::with_capacity(space.stages.len());
        for (s, stage) in space.stages.iter().enumerate() {
            let layers = reject(
                asked,
                p.stage_range(s, channels),
                |aimed| if aimed { guided::stage(p, s, channels, aim, rng) } else { stage.uniform_layers(rng) },
                |layers| p.stage(s, channels, layers),
            );
            channels = layers.last().map_or(channels, |layer| layer.channels);
            stages.push(layers);
        }
        let mut arch = Architecture { stem, stages, transport: Vec::new(), decoder: Vec::new() };
        let ch = arch.level_channels(space);
        let (asked, aim) = ((head, groups), (head as f64 + place) / groups as f64);
        let mut levels = |transport: bool, aimed: bool| {
            if aimed {
                return guided::levels(p, transport, &ch, aim, rng);
            }
            let choices = space.levels.iter().map(|l| if transport { &l.transport } else { &l.decoder });
            choices.map(|c| c.uniform(rng)).collect()
        };
        let range = p.transport_range(&ch);
        arch.transport = reject(asked, range, |aimed| levels(true, aimed), |l| p.transport(&ch, l));
        arch.decoder = reject(asked, p.decoder_range(&ch), |aimed| levels(false, aimed), |l| p.decoder(&ch, l));
        arch
    }
}

/// Draws until the latency lies in the group's part of `range`, the part growing with the rejections.
///
/// `draw` gets whether to aim at the group: every second proposal does.
fn reject<T>(
    (group, groups): (usize, usize),
    range: Option<(Micros, Micros)>,
    mut draw: impl FnMut(bool) -> T,
    latency: impl Fn(&T) -> Option<Micros>,
) -> T {
    let Some((low, high)) = range.filter(|(low, high)| high.0 > low.0) else { return draw(false) };
    for wider in (2..=groups).rev() {
        let (from, to) = part(group, groups, wider);
        for rejected in 0..REJECTIONS {
            let drawn = draw(rejected % 2 == 1);
            let share = latency(&drawn).map(|t| ((t.0 - low.0) / (high.0 - low.0)).clamp(0.0, 1.0));
            if share.is_some_and(|s| (from..=to).contains(&s)) {
                return drawn;
            }
        }
    }
    draw(false)
}

/// Bounds in `0..=1` of the part of `wider` equal ones around the middle of part `group` of `groups`, stretched to
/// hold that part entirely.
fn part(group: usize, groups: usize, wider: usize) -> (f64, f64) {
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
        reject((3, 10), range, |_| tries += 1, |()| None);
        assert_eq!(tries, 9 * REJECTIONS + 1);
        tries = 0;
        reject((3, 10), Some((Micros(1.0), Micros(1.0))), |_| tries += 1, |()| None);
        assert_eq!(tries, 1);
    }
}
