//! Macro-networks of search and evaluation, CIFAR and ImageNet (spec section 4).

use serde::{Deserialize, Serialize};

use super::cell::{Cell, Place, State};
use super::engine::{Bn, Conv, Engine, PoolKind};
use crate::{CellKind, Error, Genotype, Op, Result, edges};
use inas_nn::tape::Window;

/// The two shapes of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// One convolution as the stem; the input's size is kept.
    #[default]
    Cifar,
    /// Three convolutions of stride two as the stem.
    ImageNet,
}

/// Size of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Shape of the stem.
    pub form: Form,
    /// Channels of a node of the first cells.
    pub channels: usize,
    /// Number of cells; those at one and two thirds reduce.
    pub cells: usize,
    /// Classes.
    pub classes: usize,
}

/// How operations of a supernet are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Norm after pools (all but GDAS).
    pub pool_norm: bool,
    /// Operations see one of this many parts of the channels (PC-DARTS: 4).
    pub parts: usize,
    /// BN and ReLU before the classifier (not in DARTS and PC-DARTS).
    pub last_act: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self { pool_norm: true, parts: 1, last_act: true }
    }
}

/// A network over an engine.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) size: Size,
    pub(crate) cells: Vec<Cell>,
    last_act: bool,
    /// Auxiliary head.
    pub(crate) aux: bool,
    /// Whether the auxiliary head is run.
    pub(crate) search: bool,
}

/// What a network gives.
pub(crate) struct Outputs<X> {
    pub(crate) logits: X,
    pub(crate) aux: Option<X>,
}

impl Size {
    fn check(&self) -> Result<()> {
        let Self { channels, cells, classes, .. } = *self;
        if cells < 3 || channels < 2 || !channels.is_multiple_of(2) || classes == 0 {
            return Err(Error::Config(format!(
                "a network of {cells} cells, {channels} channels and {classes} classes: at least 3 cells, an even \
                 number of channels and a class are needed"
            )));
        }
        Ok(())
    }

    /// The type of cell `index`.
    pub fn kind(&self, index: usize) -> CellKind {
        if index == self.cells / 3 || index == 2 * self.cells / 3 { CellKind::Reduce } else { CellKind::Normal }
    }
}

impl Plan {
    /// A supernet with these operations on the edges of each cell type.
    pub(crate) fn supernet(size: Size, operations: [&[Vec<Op>]; 2], layout: Layout) -> Result<Self> {
        size.check()?;
        if layout.parts == 0 || !size.channels.is_multiple_of(2 * layout.parts) {
            return Err(Error::Config(format!(
                "{} channels in {} parts: each part must have an even number",
                size.channels, layout.parts
            )));
        }
        Self::build(size, false, layout.last_act, |cell| {
            cell.pool_norm = layout.pool_norm;
            cell.parts = layout.parts;
            let operations = operations[cell.kind as usize];
            let place = |edge: usize, source: usize, op: Op| Place {
                op,
                source,
                name: format!("{}._ops.{edge}._ops.{}", cell.name, op.column()),
                edge: Some(edge),
            };
            (0..crate::NODES)
                .map(|node| {
                    let edges = edges(node).enumerate();
                    edges.flat_map(|(s, e)| operations[e].iter().map(move |op| place(e, s, *op))).collect()
                })
                .collect()
        })
    }

    /// The network of a genotype.
    pub(crate) fn evaluation(size: Size, genotype: &Genotype, aux: bool) -> Result<Self> {
        genotype.check()?;
        let mut plan = Self::build(size, true, false, |cell| {
            let mut at = 0;
            let mut nodes = Vec::new();
            for inputs in &genotype.cell(cell.kind).0 {
                let mut places = Vec::new();
                for &(op, source) in inputs {
                    places.push(Place { op, source, name: format!("{}._ops.{at}", cell.name), edge: None });
                    at += 1;
                }
                nodes.push(places);
            }
            nodes
        })?;
        plan.aux = aux;
        Ok(plan)
    }

    fn build(
        size: Size,
        affine: bool,
        last_act: bool,
        mut places: impl FnMut(&mut Cell) -> Vec<Vec<Place>>,
    ) -> Result<Self> {
        size.check()?;
        let mut width = size.channels;
        let mut cells = Vec::with_capacity(size.cells);
        for index in 0..size.cells {
            let kind = size.kind(index);
            if kind == CellKind::Reduce {
                width *= 2;
            }
            let after_reduction = match index {
                0 => size.form == Form::ImageNet,
                _ => size.kind(index - 1) == CellKind::Reduce,
            };
            let name = format!("cells.{index}");
            let mut cell =
                Cell { name, kind, width, after_reduction, affine, pool_norm: false, parts: 1, places: vec![] };
            cell.places = places(&mut cell);
            cells.push(cell);
        }
        Ok(Self { size, cells, last_act, aux: false, search: !affine })
    }

    /// Runs the stem; gives the two inputs of the first cell.
    pub(super) fn stem<E: Engine>(&self, e: &mut E, image: &E::X) -> Result<(E::X, E::X)> {
        let c = self.size.channels;
        let mut conv = |x: &E::X, at: (&str, usize), out: usize, stride: usize, relu: bool| {
            let (prefix, index) = at;
            let bn = Bn { name: format!("{prefix}.{}", index + 1), affine: true };
            let name = format!("{prefix}.{index}");
            e.conv(x, &Conv { name: &name, out, kernel: 3, stride, bn: Some(&bn), relu })
        };
        Ok(match self.size.form {
            Form::Cifar => {
                let x = conv(image, ("stem", 0), 3 * c, 1, false)?;
                (x.clone(), x)
            }
            Form::ImageNet => {
                // A supernet's stem is as wide as that of a derived network of three times its channels.
                let out = if self.search { 3 * c } else { c };
                let x = conv(image, ("stem0", 0), out / 2, 2, true)?;
                let first = conv(&x, ("stem0", 3), out, 2, false)?;
                let x = e.relu(&first)?;
                let bn = Bn { name: "stem1.2".into(), affine: true };
                let second = Conv { name: "stem1.1", out, kernel: 3, stride: 2, bn: Some(&bn), relu: false };
                let second = e.conv(&x, &second)?;
                (first, second)
            }
        })
    }

    /// All cells; `visit` gets the output of each.
    pub(crate) fn backbone<E: Engine>(
        &self,
        e: &mut E,
        image: &E::X,
        mut visit: impl FnMut(&mut E, usize, &E::X) -> Result<()>,
    ) -> Result<E::X> {
        let (a, b) = self.stem(e, image)?;
        // On CIFAR both are one value: what its readers share is then made twice, for two cells only.
        let (mut before, mut last) = (State::new(a), State::new(b));
        for (index, cell) in self.cells.iter().enumerate() {
            let x = cell.forward(e, &mut before, &mut last)?;
            visit(e, index, &x)?;
            before = std::mem::replace(&mut last, State::new(x));
        }
        Ok(last.value().clone())
    }

    /// The whole network; the auxiliary head runs where it is wanted.
    pub(crate) fn forward<E: Engine>(&self, e: &mut E, image: &E::X, training: bool) -> Result<Outputs<E::X>> {
        let mut aux = None;
        let at = 2 * self.size.cells / 3;
        let mut x = self.backbone(e, image, |e, index, x| {
            if index == at && self.aux && training {
                aux = Some(self.aux_head(e, x)?);
            }
            Ok(())
        })?;
        if self.last_act {
            x = e.norm(&x, &Bn { name: "lastact.0".into(), affine: true }, true)?;
        }
        Ok(Outputs { logits: self.head(e, &x)?, aux })
    }

    /// From the last map to the logits.
    pub(super) fn head<E: Engine>(&self, e: &mut E, x: &E::X) -> Result<E::X> {
        let x = e.global_mean(x)?;
        e.linear(&x, "classifier", self.size.classes)
    }

    fn aux_head<E: Engine>(&self, e: &mut E, x: &E::X) -> Result<E::X> {
        let imagenet = self.size.form == Form::ImageNet;
        let x = e.relu(x)?;
        let x = e.pool(&x, PoolKind::Mean, Window { side: 5, stride: if imagenet { 2 } else { 3 }, padding: 0 })?;
        let bn = |index: usize| Bn { name: format!("auxiliary_head.features.{index}"), affine: true };
        let (first, second) = (bn(3), bn(6));
        let narrow =
            Conv { name: "auxiliary_head.features.2", out: 128, kernel: 1, stride: 1, bn: Some(&first), relu: true };
        let wide = Conv { name: "auxiliary_head.features.5", out: 768, kernel: 2, bn: Some(&second), ..narrow };
        let x = e.conv(&x, &narrow)?;
        let x = if imagenet {
            // No norm here.
            let x = e.conv_whole(&x, &Conv { bn: None, relu: false, ..wide })?;
            e.relu(&x)?
        } else {
            e.conv_whole(&x, &wide)?
        };
        e.linear(&x, "auxiliary_head.classifier", self.size.classes)
    }
}
