//! Keys of measured blocks (thesis section 3.2.3; spec section 6).

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockKind {
    /// First convolution and activation.
    Stem,
    /// Inverted bottleneck with a multi-scale depthwise unit.
    MbConv,
    /// Scale and channel change from a backbone level to a transport level.
    TransportBranch,
    /// Fusion of the branches of a transport level.
    TransportFusion,
    /// Scale and channel change from a coarser decoder level.
    DecoderBranch,
    /// Fusion of the branches of a decoder level.
    DecoderFusion,
    /// 1x1 convolution, sigmoid and upsampling to the input size.
    Head,
}

/// Names in the project's text form and in the release's table.
const KINDS: [(BlockKind, &str, &str); 7] = [
    (BlockKind::Stem, "stem", "stem"),
    (BlockKind::MbConv, "mbconv", "dynamicmb"),
    (BlockKind::TransportBranch, "transport_branch", "branchtp"),
    (BlockKind::TransportFusion, "transport_fusion", "fusiontp"),
    (BlockKind::DecoderBranch, "decoder_branch", "branchd"),
    (BlockKind::DecoderFusion, "decoder_fusion", "fusiond"),
    (BlockKind::Head, "head", "decoder"),
];

impl BlockKind {
    /// Text form, e.g. `transport_fusion`.
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(k, ..)| *k == self).map_or("", |(_, name, _)| name)
    }
}

impl fmt::Display for BlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Identity of a block in deployed (re-parameterised) form at one input size: one row of a latency table.
///
/// Only the largest chosen kernel is part of it, since all branches are merged into that one. A field that the kind
/// does not have is 0. The text form lists the fields that are there: `mbconv 56-28 24-40 k7 s2 e6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BlockKey {
    /// What the block is.
    pub kind: BlockKind,
    /// Input side, px.
    pub in_px: u32,
    /// Output side, px.
    pub out_px: u32,
    /// Input channels.
    pub in_ch: u32,
    /// Output channels.
    pub out_ch: u32,
    /// Largest kernel side (stem, MBConv, fusions).
    pub kernel: u32,
    /// Stride (stem, MBConv).
    pub stride: u32,
    /// Expansion ratio (MBConv).
    pub expand: u32,
    /// Number of inputs (fusions).
    pub sources: u32,
}

impl BlockKey {
    /// A block of `kind` from `[in_ch, in_px, in_px]` to `[out_ch, out_px, out_px]` with no further field.
    pub fn new(kind: BlockKind, px: (u32, u32), ch: (u32, u32)) -> Self {
        Self { kind, in_px: px.0, out_px: px.1, in_ch: ch.0, out_ch: ch.1, kernel: 0, stride: 0, expand: 0, sources: 0 }
    }

    /// A branch that stays on its level passes its input through: it has no operator and costs nothing.
    pub fn is_identity(&self) -> bool {
        matches!(self.kind, BlockKind::TransportBranch | BlockKind::DecoderBranch) && self.in_px == self.out_px
    }

    fn options(&self) -> [(char, u32); 4] {
        [('n', self.sources), ('k', self.kernel), ('s', self.stride), ('e', self.expand)]
    }

    /// The key as the release's table writes it.
    pub fn to_release(&self) -> String {
        let (kind, _, release) = KINDS[self.kind as usize];
        let base = format!(
            "name:{release} inres:{} outres:{} inc:{} outc:{}",
            self.in_px, self.out_px, self.in_ch, self.out_ch
        );
        match kind {
            BlockKind::Stem | BlockKind::MbConv => {
                format!("{base} stride:{} kernel:{} ratio:{}", self.stride, self.kernel, self.expand.max(1))
            }
            BlockKind::TransportFusion | BlockKind::DecoderFusion => {
                format!("{base} fusion:{} kernel:{}", self.sources, self.kernel)
            }
            BlockKind::TransportBranch | BlockKind::DecoderBranch | BlockKind::Head => base,
        }
    }

    /// Reads a key as the release's table writes it.
    pub fn from_release(text: &str) -> Result<Self> {
        let bad = |reason| Error::KeySyntax { text: text.to_owned(), reason };
        let mut key = Self::new(BlockKind::Stem, (0, 0), (0, 0));
        for field in text.split_whitespace() {
            let (name, value) = field.split_once(':').ok_or_else(|| bad("expected `name:value` fields"))?;
            if name == "name" {
                let found = KINDS.iter().find(|(.., release)| *release == value);
                key.kind = found.ok_or_else(|| bad("unknown block name"))?.0;
                continue;
            }
            let number = value.parse().map_err(|_| bad("expected a number after `:`"))?;
            match name {
                "inres" => key.in_px = number,
                "outres" => key.out_px = number,
                "inc" => key.in_ch = number,
                "outc" => key.out_ch = number,
                "stride" => key.stride = number,
                "kernel" => key.kernel = number,
                "fusion" => key.sources = number,
                "ratio" => key.expand = number,
                _ => return Err(bad("unknown field")),
            }
        }
        if key.kind == BlockKind::Stem {
            key.expand = 0;
        }
        Ok(key)
    }
}

impl fmt::Display for BlockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}-{} {}-{}", self.kind, self.in_px, self.out_px, self.in_ch, self.out_ch)?;
        for (letter, value) in self.options() {
            if value != 0 {
                write!(f, " {letter}{value}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for BlockKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |reason| Error::KeySyntax { text: text.to_owned(), reason };
        let mut fields = text.split_whitespace();
        let name = fields.next().ok_or_else(|| bad("empty"))?;
        let kind = KINDS.iter().find(|(_, n, _)| *n == name).ok_or_else(|| bad("unknown block kind"))?.0;
        let mut pair = || -> Result<(u32, u32)> {
            let (a, b) = fields.next().and_then(|f| f.split_once('-')).ok_or_else(|| bad("expected `in-out`"))?;
            Ok((a.parse().map_err(|_| bad("expected a number"))?, b.parse().map_err(|_| bad("expected a number"))?))
        };
        let (px, ch) = (pair()?, pair()?);
        let mut key = Self::new(kind, px, ch);
        for field in fields {
            let mut chars = field.chars();
            let letter = chars.next();
            let value = chars.as_str().parse().map_err(|_| bad("expected a number after the option letter"))?;
            match letter {
                Some('n') => key.sources = value,
                Some('k') => key.kernel = value,
                Some('s') => key.stride = value,
                Some('e') => key.expand = value,
                _ => return Err(bad("options are n (sources), k (kernel), s (stride), e (expand)")),
            }
        }
        Ok(key)
    }
}

impl From<BlockKey> for String {
    fn from(key: BlockKey) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for BlockKey {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_names_the_bad_part() {
        let key: BlockKey = "mbconv 56-28 24-40 k7 s2 e6".parse().unwrap();
        assert_eq!((key.kernel, key.stride, key.expand, key.sources), (7, 2, 6, 0));
        for bad in ["", "conv 1-1 1-1", "stem 1 1-1", "stem 1-1 1-x", "stem 1-1 1-1 q3", "stem 1-1 1-1 k"] {
            assert!(matches!(bad.parse::<BlockKey>(), Err(Error::KeySyntax { .. })), "{bad}");
        }
    }

    #[test]
    fn only_a_branch_on_its_own_level_is_identity() {
        assert!("transport_branch 56-56 24-24".parse::<BlockKey>().unwrap().is_identity());
        assert!(!"transport_branch 28-56 24-24".parse::<BlockKey>().unwrap().is_identity());
        assert!(!"transport_fusion 56-56 24-24 n1 k3".parse::<BlockKey>().unwrap().is_identity());
    }
}
