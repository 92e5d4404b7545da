//! Drawing architectures: uniformly, or by latency group (thesis algorithm 1, step S1).

use inas_space::{Architecture, Space};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

use super::latency::index;
use super::range::{Span, with_level};
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

/// Latency group sampling: the stem, each stage, the transport and the decoder are drawn in this order until each lies in
/// the asked one of equal parts of the way from its fastest to its slowest choice.
///
/// A stage counts with the channels that it leaves for what follows. For each of its choices the fastest and the slowest
/// network that are still reachable are known exactly; the choice gives away some latency at the fast end, some at the
/// slow end, and the share of the first in both is its place. Where channels couple nothing, that is the place of its own
/// latency in its own range, as thesis algorithm 1 has it. Parts that all lie in the group make a network that does.
///
/// Never endless: after every 100 rejections the part is that of one group fewer, and the only part of one group is
/// the whole range. From the first such step on the place is that of everything drawn so far, so that a stage which can
/// only be fast or slow makes up for the one before. A draw takes at most `100 * (groups - 1) + 1` proposals for each
/// stage or level set. Every second proposal aims at the group layer by layer, the others are uniform.
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
        // One aim for all parts, so that totals spread over the group instead of gathering in its middle.
        let (place, aimed_first) = (rng.random::<f64>(), rng.random_bool(0.5));
        let aim = (group as f64 + place) / groups as f64;
        let drawn_of = |group| Drawn { group, groups, aimed_first };

        let (all, after) = (p.span(), p.ahead.after(0, 0));
        let stem = |c: &usize| Some(after[*c].plus(p.stem[*c]));
        let stems = space.stem.channels.len();
        let mut from = reject(drawn_of(group), (all, all), |_| rng.random_range(0..stems), stem);
        let (stem, mut stages, mut levels) = (space.stem.channels[from], Vec::new(), 0);
        let (mut channels, mut spent) = (stem, p.stem[from]);
        for (s, stage) in space.stages.iter().enumerate() {
            let whole = p.ahead.after(s, levels)[from].plus(spent);
            levels = with_level(space, s, levels, from);
            let after: Vec<Span> = p.ahead.after(s + 1, levels).iter().map(|a| a.plus(spent)).collect();
            let ahead = guided::StageAhead::new(p, s, channels, (whole, &after));
            let draw = |aimed| if aimed { ahead.draw(aim, rng) } else { stage.uniform_layers(rng) };
            let layers = reject(drawn_of(group), (whole, all), draw, |layers| ahead.left(layers));
            spent += p.stage(s, channels, &layers).unwrap_or_default().0;
            channels = layers.last().map_or(channels, |layer| layer.channels);
            from = index(&stage.channels, channels).unwrap_or_default();
            stages.push(layers);
        }
        let mut arch = Architecture { stem, stages, transport: Vec::new(), decoder: Vec::new() };
        let ch = arch.level_channels(space);
        let at = p.level_indices(&ch).unwrap_or_default();
        let (transport, decoder) = (p.transport_span(&at), p.decoder_span(&at));
        let (all, aim) = (transport.and(decoder), (head as f64 + place) / groups as f64);
        let mut draw = |transport: bool, (whole, rest): (Span, Span), aimed: bool| {
            if aimed {
                return guided::levels((p, transport, &at), (whole, rest), aim, rng);
            }
            let choices = space.levels.iter().map(|l| if transport { &l.transport } else { &l.decoder });
            choices.map(|c| c.uniform(rng)).collect()
        };
        arch.transport = reject(
            drawn_of(head),
            (all, all),
            |aimed| draw(true, (all, decoder), aimed),
            |levels| p.transport(&ch, levels).map(|t| decoder.plus(t.0)),
        );
        let spent = p.transport(&ch, &arch.transport).unwrap_or_default().0;
        let whole = decoder.plus(spent);
        arch.decoder = reject(
            drawn_of(head),
            (whole, all),
            |aimed| draw(false, (whole, Span::point(spent + p.head[at[0]])), aimed),
            |levels| p.decoder(&ch, levels).map(|t| Span::point(spent + t.0)),
        );
        arch
    }
}

/// How the parts of a network are drawn.
#[derive(Debug, Clone, Copy)]
struct Drawn {
    group: usize,
    groups: usize,
    /// Whether the first proposal of each part, not the second, aims at the group.
    aimed_first: bool,
}

/// Draws until what is left of `whole` lies in the group, or, where the group has nothing, what is left of `all` in a part
/// around it that grows with the rejections.
///
/// `draw` gets whether to aim at the group: every second proposal does.
fn reject<T>(
    Drawn { group, groups, aimed_first }: Drawn,
    (whole, all): (Span, Span),
    mut draw: impl FnMut(bool) -> T,
    left: impl Fn(&T) -> Option<Span>,
) -> T {
    for wider in (2..=groups).rev() {
        let (of, part) = (if wider == groups { whole } else { all }, part(group, groups, wider));
        for rejected in 0..REJECTIONS {
            let drawn = draw((rejected % 2 == 0) == aimed_first);
            if left(&drawn).is_some_and(|left| of.holds(left, part)) {
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
        let asked = Drawn { group: 3, groups: 10, aimed_first: false };
        let mut tries = 0;
        reject(asked, (Span { low: 0.0, high: 1.0 }, Span { low: 0.0, high: 1.0 }), |_| tries += 1, |()| None);
        assert_eq!(tries, 9 * REJECTIONS + 1);
        tries = 0;
        reject(asked, (Span::point(0.3), Span::point(0.3)), |_| tries += 1, |()| Some(Span::point(0.1 + 0.2)));
        assert_eq!(tries, 1);
    }
}
