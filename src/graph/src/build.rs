//! The one place that knows what a block looks like in deployed form (spec sections 1 and 5).

use inas_space::{ActivationKind, Architecture, BlockKey, BlockKind, Space};

use crate::graph::{Builder, Conv, Function, Graph, Op, Value, Window};
use crate::{Error, Result, Weights};

/// Graph of one block; its convolutions are named from the prefix `block`.
///
/// Inputs `x0`, `x1`, … `[1, in_ch, in_px, in_px]` (as many as `key.sources`), output `y`
/// `[1, out_ch, out_px, out_px]`. Keys can come from files: one that describes no block is [`Error::Key`].
pub fn block(space: &Space, key: &BlockKey, weights: &mut dyn Weights) -> Result<Graph> {
    block_of(space, key, Some(weights))
}

pub(crate) fn block_of(space: &Space, key: &BlockKey, weights: Option<&mut dyn Weights>) -> Result<Graph> {
    check(key)?;
    let mut b = Builder::new(weights);
    "block".clone_into(&mut b.scope);
    let inputs: Vec<Value> = (0..key.sources.max(1)).map(|i| b.input(&format!("x{i}"), key.in_ch, key.in_px)).collect();
    let y = match key.kind {
        BlockKind::Stem => stem(&mut b, space, key, inputs[0])?,
        BlockKind::MbConv => mbconv(&mut b, space, key, inputs[0])?,
        BlockKind::TransportBranch | BlockKind::DecoderBranch => branch(&mut b, space, key, inputs[0])?,
        BlockKind::TransportFusion => transport_fusion(&mut b, space, key, &inputs)?,
        BlockKind::DecoderFusion => decoder_fusion(&mut b, space, key, &inputs)?,
        BlockKind::Head => head(&mut b, key, inputs[0])?,
    };
    // A model needs a node between its input and its output.
    let y = if b.graph.nodes.is_empty() { b.op("identity", Op::Identity, &[y])? } else { y };
    let (found, stated) = (b.shape(y), [1, key.out_ch, key.out_px, key.out_px]);
    if found != stated {
        let reason = format!("gives {found:?}, the key says {stated:?}");
        return Err(Error::Key { key: key.to_string(), reason });
    }
    Ok(b.finish(y, "y"))
}

/// Refuses keys that the builders below cannot take: a field missing, one that the kind does not have, a bad size.
fn check(key: &BlockKey) -> Result<()> {
    let fail = |reason: &str| Err(Error::Key { key: key.to_string(), reason: reason.to_owned() });
    let (kernel, stride, expand, sources) = match key.kind {
        BlockKind::Stem => (true, true, false, false),
        BlockKind::MbConv => (true, true, true, false),
        BlockKind::TransportFusion | BlockKind::DecoderFusion => (true, false, false, true),
        BlockKind::TransportBranch | BlockKind::DecoderBranch | BlockKind::Head => (false, false, false, false),
    };
    for (name, has, value) in [
        ("kernel", kernel, key.kernel),
        ("stride", stride, key.stride),
        ("expansion", expand, key.expand),
        ("number of sources", sources, key.sources),
    ] {
        if has != (value > 0) {
            return fail(&format!("{name} must be {}", if has { "positive" } else { "absent" }));
        }
    }
    if [key.in_px, key.out_px, key.in_ch, key.out_ch].contains(&0) {
        return fail("sides and channels must be positive");
    }
    if kernel && key.kernel.is_multiple_of(2) {
        return fail("the kernel must be odd");
    }
    if key.in_ch.checked_mul(key.expand.max(1)).is_none() {
        return fail("too many channels");
    }
    if key.kind == BlockKind::DecoderBranch && key.in_px > key.out_px {
        return fail("a decoder source cannot be finer than its level");
    }
    Ok(())
}

/// Graph of a whole network: `image` `[1, 3, px, px]` in, `saliency` `[1, 1, px, px]` in [0, 1] out.
pub fn network(space: &Space, arch: &Architecture, px: u32, weights: &mut dyn Weights) -> Result<Graph> {
    network_of(space, arch, px, weights, false)
}

/// As [`network`], but before the branches of multi-scale units are merged (thesis eq. 3.1): a depthwise convolution for
/// each chosen kernel, its BN folded, and their mean. To tell what re-parameterisation saves (thesis table 3.7).
pub fn network_with_branches(space: &Space, arch: &Architecture, px: u32, weights: &mut dyn Weights) -> Result<Graph> {
    network_of(space, arch, px, weights, true)
}

/// Kernels chosen for a block.
fn kernels<'a>(arch: &'a Architecture, block: &inas_space::Block) -> &'a [u32] {
    let level = || place(&block.name, ".mainops.level_").0;
    match block.key.kind {
        BlockKind::MbConv => {
            let (stage, layer) = place(&block.name, "backbone.stage_");
            &arch.stages[stage - 1][layer].kernels
        }
        BlockKind::TransportFusion => &arch.transport[level()].kernels,
        BlockKind::DecoderFusion => &arch.decoder[level()].kernels,
        BlockKind::Stem | BlockKind::TransportBranch | BlockKind::DecoderBranch | BlockKind::Head => &[],
    }
}

fn network_of(space: &Space, arch: &Architecture, px: u32, weights: &mut dyn Weights, branches: bool) -> Result<Graph> {
    let mut b = Builder::new(Some(weights));
    let mut levels: Vec<Option<Value>> = vec![None; space.levels.len()];
    let mut x = b.input("image", 3, px);
    // Backbone outputs stay readable while the decoder replaces them level by level.
    let mut transported = levels.clone();
    let mut pending: Vec<Value> = Vec::new();
    for block in space.blocks(arch, px)? {
        let key = &block.key;
        b.scope.clone_from(&block.name);
        if branches {
            b.branches = kernels(arch, &block).to_vec();
        }
        match key.kind {
            BlockKind::Stem => x = stem(&mut b, space, key, x)?,
            BlockKind::MbConv => {
                x = mbconv(&mut b, space, key, x)?;
                let (stage, _) = place(&block.name, "backbone.stage_");
                if let Some(level) = space.levels.iter().position(|l| l.stage as usize == stage) {
                    levels[level] = Some(x);
                }
            }
            BlockKind::TransportBranch | BlockKind::DecoderBranch => {
                let from = if key.kind == BlockKind::TransportBranch { &levels } else { &transported };
                let (_, source) = place(&block.name, ".branches.level_");
                let input = from[source].unwrap_or(x);
                pending.push(branch(&mut b, space, key, input)?);
            }
            BlockKind::TransportFusion | BlockKind::DecoderFusion => {
                let (level, _) = place(&block.name, ".mainops.level_");
                let inputs = std::mem::take(&mut pending);
                let fuse = if key.kind == BlockKind::TransportFusion { transport_fusion } else { decoder_fusion };
                transported[level] = Some(fuse(&mut b, space, key, &inputs)?);
            }
            BlockKind::Head => x = head(&mut b, key, transported[0].unwrap_or(x))?,
        }
    }
    Ok(b.finish(x, "saliency"))
}

/// The two numbers behind `marker` in a block's name, e.g. level and source; the second is 0 when absent.
fn place(name: &str, marker: &str) -> (usize, usize) {
    let rest = name.split_once(marker).map_or("", |(_, rest)| rest);
    let mut numbers = rest.split('.').map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn activation(b: &mut Builder<'_>, space: &Space, name: &str, x: Value) -> Result<Value> {
    let function = match space.activation {
        ActivationKind::Silu => {
            let gate = b.function(&format!("{name}_sigmoid"), Function::Sigmoid, x)?;
            return b.op(&format!("{name}_silu"), Op::Mul, &[x, gate]);
        }
        ActivationKind::Relu => Function::Relu,
        ActivationKind::Relu6 => Function::Relu6,
        ActivationKind::HardSwish => Function::HardSwish,
    };
    b.function(name, function, x)
}

fn stem(b: &mut Builder<'_>, space: &Space, key: &BlockKey, x: Value) -> Result<Value> {
    let conv = Conv { kernel: key.kernel, stride: key.stride, ..Conv::pointwise("", key.out_ch) };
    let y = b.conv(x, conv)?;
    activation(b, space, "act", y)
}

fn depthwise(b: &mut Builder<'_>, suffix: &str, key: &BlockKey, x: Value) -> Result<Value> {
    let channels = b.shape(x)[1];
    let stride = key.stride.max(1);
    if b.branches.len() < 2 {
        return b.conv(x, Conv { kernel: key.kernel, stride, depthwise: true, ..Conv::pointwise(suffix, channels) });
    }
    let mut branches = Vec::new();
    for kernel in b.branches.clone() {
        let name = format!("{suffix}.ks_{kernel}");
        branches.push(b.conv(x, Conv { kernel, stride, depthwise: true, ..Conv::pointwise(&name, channels) })?);
    }
    // Two units of a transport fusion each have a mean.
    let unit = suffix.trim_start_matches(".fusion.").trim_start_matches('.');
    mean_named(b, &format!("{unit}_"), &branches)
}

fn mbconv(b: &mut Builder<'_>, space: &Space, key: &BlockKey, x: Value) -> Result<Value> {
    let mid = key.in_ch * key.expand;
    let y = b.conv(x, Conv::pointwise(".inverted_bottleneck", mid))?;
    let y = activation(b, space, "act1", y)?;
    let y = depthwise(b, ".depth_conv", key, y)?;
    let mut y = activation(b, space, "act2", y)?;
    if let Some(se) = space.squeeze_excite {
        let s = b.op("se_pool", Op::GlobalAvgPool, &[y])?;
        let s = b.conv(s, Conv::pointwise(".depth_conv.se.fc.reduce", (mid / se.reduction).max(1)))?;
        let s = b.function("se_relu", Function::Relu, s)?;
        let s = b.conv(s, Conv::pointwise(".depth_conv.se.fc.expand", mid))?;
        let s = b.function("se_gate", Function::HardSigmoid, s)?;
        y = b.op("se_scale", Op::Mul, &[y, s])?;
    }
    let y = b.conv(y, Conv::pointwise(".point_linear", key.out_ch))?;
    let mut shortcut = x;
    if key.stride > 1 {
        shortcut = b.op("shortcut_pool", Op::AvgPool(Window::tiles(key.stride)), &[shortcut])?;
    }
    if key.in_ch != key.out_ch {
        shortcut = b.conv(shortcut, Conv { bias: false, ..Conv::pointwise(".identity_conv", key.out_ch) })?;
    }
    b.op("add", Op::Add, &[y, shortcut])
}

fn branch(b: &mut Builder<'_>, space: &Space, key: &BlockKey, x: Value) -> Result<Value> {
    if key.in_px == key.out_px && key.in_ch == key.out_ch {
        return Ok(x);
    }
    let mut y = x;
    if key.in_px > key.out_px {
        y = b.op("pool", Op::MaxPool(Window::tiles(key.in_px / key.out_px)), &[y])?;
    }
    y = b.conv(y, Conv::pointwise("", key.out_ch))?;
    if key.kind == BlockKind::DecoderBranch {
        y = activation(b, space, "act", y)?;
    }
    if key.in_px < key.out_px {
        y = b.op("upsample", Op::Upsample(key.out_px / key.in_px), &[y])?;
    }
    Ok(y)
}

fn mean(b: &mut Builder<'_>, inputs: &[Value]) -> Result<Value> {
    mean_named(b, "", inputs)
}

fn mean_named(b: &mut Builder<'_>, prefix: &str, inputs: &[Value]) -> Result<Value> {
    let mut sum = inputs[0];
    for (i, x) in inputs.iter().enumerate().skip(1) {
        sum = b.op(&format!("{prefix}add{i}"), Op::Add, &[sum, *x])?;
    }
    if inputs.len() == 1 {
        return Ok(sum);
    }
    b.op(&format!("{prefix}mean"), Op::Scale(1.0 / inputs.len() as f32), &[sum])
}

fn fusion_unit(b: &mut Builder<'_>, key: &BlockKey, unit: u32, x: Value) -> Result<Value> {
    let y = depthwise(b, &format!(".fusion.depthwise{unit}"), key, x)?;
    b.conv(y, Conv::pointwise(&format!(".fusion.pointwise{unit}"), key.out_ch))
}

fn transport_fusion(b: &mut Builder<'_>, space: &Space, key: &BlockKey, inputs: &[Value]) -> Result<Value> {
    let x = mean(b, inputs)?;
    let y = fusion_unit(b, key, 1, x)?;
    let y = activation(b, space, "act1", y)?;
    let y = fusion_unit(b, key, 2, y)?;
    let y = b.op("add", Op::Add, &[x, y])?;
    activation(b, space, "act2", y)
}

fn decoder_fusion(b: &mut Builder<'_>, space: &Space, key: &BlockKey, inputs: &[Value]) -> Result<Value> {
    let x = mean(b, inputs)?;
    let y = fusion_unit(b, key, 1, x)?;
    activation(b, space, "act1", y)
}

fn head(b: &mut Builder<'_>, key: &BlockKey, x: Value) -> Result<Value> {
    let y = b.conv(x, Conv { bias: false, ..Conv::pointwise("", key.out_ch) })?;
    let y = b.function("sigmoid", Function::Sigmoid, y)?;
    b.op("upsample", Op::Upsample(key.out_px / key.in_px), &[y])
}
