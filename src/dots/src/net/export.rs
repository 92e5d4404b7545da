//! Networks of genotypes in deployed form: the classifier, and the backbone with a tap at each stride.

use candle_core::Tensor;
use inas_graph::Graph;
use inas_nn::tape::Tape;

use super::deploy::Deploy;
use super::plan::{Form, Plan};
use super::run::Pass;
use super::{Network, check_images};
use crate::{CellKind, Error, Result};

/// Where a backbone is tapped: the last cell of each size of the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tap {
    /// The cell.
    pub cell: usize,
    /// Side of the input over that of the map: 8, 16 and 32 in ImageNet's form, 1, 2 and 4 in CIFAR's.
    pub stride: usize,
    /// Channels of the map.
    pub channels: usize,
}

impl Tap {
    /// Name of the output of a backbone's file.
    pub fn name(&self) -> String {
        format!("stride{}", self.stride)
    }
}

impl Plan {
    pub(crate) fn taps(&self) -> Vec<Tap> {
        let mut stride = match self.size.form {
            Form::Cifar => 1,
            Form::ImageNet => 8,
        };
        let mut taps = Vec::new();
        for (i, cell) in self.cells.iter().enumerate() {
            stride *= if cell.kind == CellKind::Reduce { 2 } else { 1 };
            if self.cells.get(i + 1).is_none_or(|next| next.kind == CellKind::Reduce) {
                taps.push(Tap { cell: i, stride, channels: crate::NODES * cell.width });
            }
        }
        taps
    }
}

impl Network {
    /// Where the backbone is tapped, the finest first.
    pub fn taps(&self) -> Vec<Tap> {
        self.plan.taps()
    }

    /// The maps at the taps, `[N, H, W, C]`, with running statistics.
    ///
    /// # Errors
    /// When images do not fit the network.
    pub fn tapped(&self, images: &Tensor) -> Result<Vec<Tensor>> {
        check_images(images)?;
        let mut pass = Pass::<f32>::forward(Tape::new(false), &self.params, true);
        let image = pass.tape.constant(images)?;
        let (taps, mut maps) = (self.taps(), Vec::new());
        self.plan.backbone(&mut pass, &image, |_, index, x| {
            if taps.iter().any(|t| t.cell == index) {
                maps.push(x.to_tensor()?);
            }
            Ok(())
        })?;
        Ok(maps)
    }

    /// The whole network: `image` `[1, 3, px, px]` in, `logits` `[1, K, 1, 1]` out; the auxiliary head is left out.
    ///
    /// # Errors
    /// When the side does not fit the network.
    pub fn classifier_graph(&self, px: usize) -> Result<Graph> {
        let mut deploy = Deploy::new(&self.params);
        let image = deploy.input("image", 3, px)?;
        let outputs = self.plan.forward(&mut deploy, &image, false)?;
        Ok(deploy.builder.finish_all(&[(outputs.logits.value, "logits")]))
    }

    /// The backbone: `image` `[1, 3, px, px]` in, a map `[1, C, px / stride, px / stride]` at each tap out.
    ///
    /// # Errors
    /// When the side does not fit the network: it must be a multiple of the largest stride.
    pub fn backbone_graph(&self, px: usize) -> Result<Graph> {
        let taps = self.taps();
        if let Some(last) = taps.last().filter(|t| !px.is_multiple_of(t.stride)) {
            return Err(Error::Config(format!("{px} px is no multiple of the backbone's stride {}", last.stride)));
        }
        let mut deploy = Deploy::new(&self.params);
        let image = deploy.input("image", 3, px)?;
        let mut outputs = Vec::new();
        self.plan.backbone(&mut deploy, &image, |_, index, x| {
            if let Some(tap) = taps.iter().find(|t| t.cell == index) {
                outputs.push((x.value, tap.name()));
            }
            Ok(())
        })?;
        let outputs: Vec<_> = outputs.iter().map(|(value, name)| (*value, name.as_str())).collect();
        Ok(deploy.builder.finish_all(&outputs))
    }

    /// Sets the running statistics to those of a batch, so that an untrained network keeps its activations in a normal
    /// range: latency depends on denormal numbers.
    ///
    /// # Errors
    /// When images do not fit the network.
    pub fn settle(&mut self, images: &Tensor) -> Result<()> {
        check_images(images)?;
        let mut pass = Pass::<f32>::forward(Tape::new(false), &self.params, false);
        let image = pass.tape.constant(images)?;
        self.plan.forward(&mut pass, &image, false)?;
        let seen = std::mem::take(&mut pass.tape.seen);
        self.params.set_statistics(&seen)
    }
}
