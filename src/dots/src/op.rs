use std::fmt;

use serde::{Deserialize, Serialize};

/// A primitive operation of an edge, all from C to C channels (spec: column order of every 8-wide tensor).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Op {
    /// Zeros.
    #[serde(rename = "none")]
    Zero,
    /// Maximum over 3x3 windows.
    #[serde(rename = "max_pool_3x3")]
    MaxPool,
    /// Mean over 3x3 windows, padding left out.
    #[serde(rename = "avg_pool_3x3")]
    AvgPool,
    /// Identity; where the stride is two, a factorised reduction.
    #[serde(rename = "skip_connect")]
    Skip,
    /// Two depthwise-separable 3x3 blocks.
    #[serde(rename = "sep_conv_3x3")]
    Sep3,
    /// Two depthwise-separable 5x5 blocks.
    #[serde(rename = "sep_conv_5x5")]
    Sep5,
    /// One depthwise-separable 3x3 block of dilation two.
    #[serde(rename = "dil_conv_3x3")]
    Dil3,
    /// One depthwise-separable 5x5 block of dilation two.
    #[serde(rename = "dil_conv_5x5")]
    Dil5,
}

/// All operations; the position is the column.
pub const OPS: [Op; 8] = [Op::Zero, Op::MaxPool, Op::AvgPool, Op::Skip, Op::Sep3, Op::Sep5, Op::Dil3, Op::Dil5];

impl Op {
    /// Column in tensors over operations.
    pub fn column(self) -> usize {
        self as usize
    }

    /// The literature's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zero => "none",
            Self::MaxPool => "max_pool_3x3",
            Self::AvgPool => "avg_pool_3x3",
            Self::Skip => "skip_connect",
            Self::Sep3 => "sep_conv_3x3",
            Self::Sep5 => "sep_conv_5x5",
            Self::Dil3 => "dil_conv_3x3",
            Self::Dil5 => "dil_conv_5x5",
        }
    }

    /// Side of the depthwise kernel of a convolution.
    pub(crate) fn kernel(self) -> Option<usize> {
        match self {
            Self::Sep3 | Self::Dil3 => Some(3),
            Self::Sep5 | Self::Dil5 => Some(5),
            _ => None,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
