//! Multiply-accumulates and parameters of the deployed network.

use std::iter::Sum;

use inas_space::{Architecture, Block, BlockKey, Space};

use crate::Result;
use crate::build::block_of;

/// Cost of a block or a network, for one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Multiply-accumulates of the convolutions.
    pub macs: u64,
    /// Weights and biases.
    pub params: u64,
}

impl Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), |a, b| Self { macs: a.macs + b.macs, params: a.params + b.params })
    }
}

/// Cost of one architecture, block by block in execution order.
#[derive(Debug, Clone)]
pub struct NetworkCost {
    /// Each block with its cost.
    pub blocks: Vec<(Block, Cost)>,
    /// Their sum.
    pub total: Cost,
}

/// Cost of the block that `key` names.
pub fn of_block(space: &Space, key: &BlockKey) -> Result<Cost> {
    let graph = block_of(space, key, None)?;
    Ok(Cost { macs: graph.macs(), params: graph.params() })
}

/// Cost of `arch` at input side `px`.
pub fn of_network(space: &Space, arch: &Architecture, px: u32) -> Result<NetworkCost> {
    let blocks = space.blocks(arch, px)?;
    let blocks = blocks.into_iter().map(|b| of_block(space, &b.key).map(|c| (b, c))).collect::<Result<Vec<_>>>()?;
    let total = blocks.iter().map(|(_, cost)| *cost).sum();
    Ok(NetworkCost { blocks, total })
}
