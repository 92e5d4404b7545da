//! The engine that only looks: parameters with their shapes, multiply-accumulates.

use inas_nn::tape::Window;

use super::engine::{Bn, Conv, Engine, Part, PoolKind, Term};
use crate::{Error, Result};

/// Side and channels of an activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) px: usize,
    pub(crate) channels: usize,
}

/// How a tensor starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Init {
    /// Uniform within plus and minus this.
    Uniform(f64),
    Ones,
    Zeros,
}

/// A tensor of a network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) init: Init,
    /// A running statistic.
    pub(crate) buffer: bool,
}

/// Collects entries and costs.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    pub(crate) entries: Vec<Entry>,
    /// Of convolutions and linear layers, for one image.
    pub(crate) macs: u64,
}

impl Shapes {
    fn push(&mut self, name: String, shape: &[usize], init: Init, buffer: bool) {
        self.entries.push(Entry { name, shape: shape.to_vec(), init, buffer });
    }

    fn weight(&mut self, name: &str, shape: &[usize], positions: usize) {
        let fan_in: usize = shape[1..].iter().product();
        self.push(format!("{name}.weight"), shape, Init::Uniform(1.0 / (fan_in as f64).sqrt()), false);
        self.macs += (shape.iter().product::<usize>() * positions) as u64;
    }

    fn bn(&mut self, bn: &Bn, channels: usize) {
        let name = &bn.name;
        if bn.affine {
            self.push(format!("{name}.weight"), &[channels], Init::Ones, false);
            self.push(format!("{name}.bias"), &[channels], Init::Zeros, false);
        }
        self.push(format!("{name}.running_mean"), &[channels], Init::Zeros, true);
        self.push(format!("{name}.running_var"), &[channels], Init::Ones, true);
    }
}

impl Engine for Shapes {
    type X = Map;
    type Branch = Map;

    fn zeros(&mut self, x: &Map, stride: usize) -> Result<Map> {
        Ok(Map { px: x.px.div_ceil(stride), ..*x })
    }

    fn relu(&mut self, x: &Map) -> Result<Map> {
        Ok(*x)
    }

    fn conv(&mut self, x: &Map, conv: &Conv<'_>) -> Result<Map> {
        let px = x.px.div_ceil(conv.stride);
        self.weight(conv.name, &[conv.out, x.channels, conv.kernel, conv.kernel], px * px);
        if let Some(bn) = conv.bn {
            self.bn(bn, conv.out);
        }
        Ok(Map { px, channels: conv.out })
    }

    fn conv_whole(&mut self, x: &Map, conv: &Conv<'_>) -> Result<Map> {
        if x.px != conv.kernel {
            return Err(Error::Config(format!(
                "`{}` needs {k} x {k} positions and gets {px} x {px}: the auxiliary head does not fit this input",
                conv.name,
                k = conv.kernel,
                px = x.px
            )));
        }
        self.weight(conv.name, &[conv.out, x.channels, conv.kernel, conv.kernel], 1);
        if let Some(bn) = conv.bn {
            self.bn(bn, conv.out);
        }
        Ok(Map { px: 1, channels: conv.out })
    }

    fn depthwise(&mut self, x: &Map, name: &str, kernel: usize, stride: usize, _: usize) -> Result<Map> {
        let px = x.px.div_ceil(stride);
        self.weight(name, &[x.channels, 1, kernel, kernel], px * px);
        Ok(Map { px, ..*x })
    }

    fn branch(&mut self, x: &Map, name: &str, out: usize, bn: &Bn) -> Result<Map> {
        self.conv(x, &Conv { name, out, kernel: 1, stride: 1, bn: Some(bn), relu: false })
    }

    fn halves(&mut self, x: &Map) -> Result<Map> {
        if !x.px.is_multiple_of(2) {
            return Err(Error::Config(format!(
                "a side of {} positions cannot be halved: choose an input side that stays even until the last reduction",
                x.px
            )));
        }
        Ok(Map { px: x.px / 2, channels: 2 * x.channels })
    }

    fn branch_halves(&mut self, halves: &Map, prefix: &str, out: usize, bn: &Bn) -> Result<Map> {
        for half in ["conv_1", "conv_2"] {
            let shape = [out / 2, halves.channels / 2, 1, 1];
            self.weight(&format!("{prefix}.{half}"), &shape, halves.px * halves.px);
        }
        self.bn(bn, out);
        Ok(Map { px: halves.px, channels: out })
    }

    fn norm(&mut self, x: &Map, bn: &Bn, _: bool) -> Result<Map> {
        self.bn(bn, x.channels);
        Ok(*x)
    }

    fn pool(&mut self, x: &Map, _: PoolKind, window: Window) -> Result<Map> {
        let Window { side, stride, padding } = window;
        let Some(room) = (x.px + 2 * padding).checked_sub(side) else {
            return Err(Error::Config(format!("windows of {side} do not fit {} positions", x.px)));
        };
        Ok(Map { px: room / stride + 1, ..*x })
    }

    fn mix(&mut self, parts: Vec<Part<Map, Map>>) -> Result<Map> {
        let mut maps = parts.into_iter().map(|p| match p.term {
            Term::Value(x) | Term::Branch(x) => x,
        });
        let first = maps.next().unwrap_or(Map { px: 0, channels: 0 });
        if let Some(other) = maps.find(|m| *m != first) {
            return Err(Error::Config(format!("{first:?} and {other:?} cannot be added up")));
        }
        Ok(first)
    }

    fn concat(&mut self, xs: &[Map]) -> Result<Map> {
        Ok(Map { px: xs[0].px, channels: xs.iter().map(|x| x.channels).sum() })
    }

    fn slice(&mut self, x: &Map, _: usize, len: usize) -> Result<Map> {
        Ok(Map { channels: len, ..*x })
    }

    fn shuffle(&mut self, x: &Map, _: usize) -> Result<Map> {
        Ok(*x)
    }

    fn global_mean(&mut self, x: &Map) -> Result<Map> {
        Ok(Map { px: 1, ..*x })
    }

    fn linear(&mut self, x: &Map, name: &str, out: usize) -> Result<Map> {
        self.weight(name, &[out, x.channels], 1);
        self.push(format!("{name}.bias"), &[out], Init::Uniform(1.0 / (x.channels as f64).sqrt()), false);
        Ok(Map { px: 1, channels: out })
    }

    fn gate(&mut self, x: &Map, z: &Map) -> Result<Map> {
        if (z.px, z.channels) != (1, x.channels) {
            return Err(Error::Config(format!("{z:?} is no gate of {x:?}")));
        }
        Ok(*x)
    }

    fn fuse(&mut self, same: &[&Map], coarse: &[&Map], like: &Map) -> Result<Map> {
        let Some(first) = same.iter().chain(coarse).next() else {
            return Err(Error::Config("nothing to fuse".into()));
        };
        let to = Map { px: like.px, channels: first.channels };
        if same.iter().any(|x| **x != to) || coarse.iter().any(|x| x.channels != to.channels) {
            return Err(Error::Config(format!("{same:?} and {coarse:?} cannot be fused to {to:?}")));
        }
        Ok(to)
    }
}
