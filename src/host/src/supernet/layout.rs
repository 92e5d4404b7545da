//! Names, shapes and initial values of every tensor of a supernet, in the release's naming.

use inas_space::{FusionChoices, Space};

/// How a tensor starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Init {
    /// Zero-mean normal with variance `gain / fan_in`.
    Normal { fan_in: usize, gain: f64 },
    /// All ones.
    Ones,
    /// All zeros.
    Zeros,
    /// Identity matrix.
    Identity,
    /// One integer zero.
    Counter,
}

/// One tensor of the supernet.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) init: Init,
    /// Running statistics are kept, not trained.
    pub(crate) buffer: bool,
}

/// Name of the linear classifier over the coarsest features, during pre-training.
pub(crate) const CLASSIFIER: &str = "classifier";

/// Every tensor of the supernet of `space` (spec section 2): the largest network's, sliced by all others; with a
/// classifier over `classes` in pre-training.
pub(crate) fn entries(space: &Space, classes: Option<usize>) -> Vec<Entry> {
    let mut layout = Layout { entries: Vec::new() };
    let max = space.max();
    let stem = max.stem as usize;
    let kernel = space.stem.kernel as usize;
    layout.conv("backbone.stem.stemconv.conv", stem, 3, kernel, false);
    layout.bn("backbone.stem.stemnorm.bn", stem, Init::Ones);
    let mut input = stem;
    for (i, (layers, stage)) in max.stages.iter().zip(&space.stages).enumerate() {
        for (d, layer) in layers.iter().enumerate() {
            let (prefix, out) = (format!("backbone.stage_{}.{d}", i + 1), layer.channels as usize);
            let mid = input * stage.expand as usize;
            layout.conv(&format!("{prefix}.inverted_bottleneck.conv.conv"), mid, input, 1, false);
            layout.bn(&format!("{prefix}.inverted_bottleneck.bn.bn"), mid, Init::Ones);
            layout.smsu(&format!("{prefix}.depth_conv.convbn"), mid, &stage.kernels);
            if let Some(se) = space.squeeze_excite {
                let squeezed = (mid / se.reduction as usize).max(1);
                layout.conv(&format!("{prefix}.depth_conv.se.fc.reduce.conv"), squeezed, mid, 1, true);
                layout.conv(&format!("{prefix}.depth_conv.se.fc.expand.conv"), mid, squeezed, 1, true);
            }
            layout.conv(&format!("{prefix}.point_linear.conv.conv"), out, mid, 1, false);
            // Every layer starts as its shortcut.
            layout.bn(&format!("{prefix}.point_linear.bn.bn"), out, Init::Zeros);
            layout.conv(&format!("{prefix}.identity_conv.conv"), out, input, 1, false);
            input = out;
        }
    }
    let levels = max.level_channels(space);
    for (i, level) in space.levels.iter().enumerate() {
        let channels = levels[i] as usize;
        for (part, choices) in [("transport", &level.transport), ("decoder", &level.decoder)] {
            layout.branches(part, i, choices, &levels);
            let fusion = format!("{part}.mainops.level_{i}.fusion");
            let units: &[u32] = if part == "transport" { &[1, 2] } else { &[1] };
            for unit in units {
                layout.smsu(&format!("{fusion}.depthwise{unit}"), channels, &choices.kernels);
                layout.conv(&format!("{fusion}.pointwise{unit}.conv"), channels, channels, 1, false);
                layout.bn(&format!("{fusion}.bn{unit}.bn"), channels, Init::Ones);
            }
        }
        layout.conv(&format!("decoder.decoder_dict.level_{i}.conv.conv"), 1, channels, 1, false);
    }
    if let Some(classes) = classes {
        let init = Init::Normal { fan_in: input, gain: 1.0 };
        layout.push(format!("{CLASSIFIER}.weight"), &[classes, input], init, false);
        layout.push(format!("{CLASSIFIER}.bias"), &[classes], Init::Zeros, false);
    }
    layout.entries
}

/// Name of the scale change inside a branch.
pub(crate) fn branch_operator(level: usize, source: usize) -> &'static str {
    if source > level { "upsample" } else { "downsample" }
}

struct Layout {
    entries: Vec<Entry>,
}

impl Layout {
    fn push(&mut self, name: String, shape: &[usize], init: Init, buffer: bool) {
        self.entries.push(Entry { name, shape: shape.to_vec(), init, buffer });
    }

    fn conv(&mut self, prefix: &str, out: usize, input: usize, kernel: usize, bias: bool) {
        let init = Init::Normal { fan_in: input * kernel * kernel, gain: 2.0 };
        self.push(format!("{prefix}.weight"), &[out, input, kernel, kernel], init, false);
        if bias {
            self.push(format!("{prefix}.bias"), &[out], Init::Zeros, false);
        }
    }

    fn bn(&mut self, prefix: &str, channels: usize, gamma: Init) {
        self.push(format!("{prefix}.weight"), &[channels], gamma, false);
        self.push(format!("{prefix}.bias"), &[channels], Init::Zeros, false);
        self.push(format!("{prefix}.running_mean"), &[channels], Init::Zeros, true);
        self.push(format!("{prefix}.running_var"), &[channels], Init::Ones, true);
        self.push(format!("{prefix}.num_batches_tracked"), &[], Init::Counter, true);
    }

    /// Searchable multi-scale unit: one depthwise tensor of the largest kernel, and per kernel a transform and a BN.
    fn smsu(&mut self, prefix: &str, channels: usize, kernels: &[u32]) {
        let largest = kernels.iter().copied().max().unwrap_or(1) as usize;
        let init = Init::Normal { fan_in: largest * largest, gain: 2.0 };
        self.push(format!("{prefix}.conv.weight"), &[channels, 1, largest, largest], init, false);
        for kernel in kernels {
            let taps = (kernel * kernel) as usize;
            self.push(format!("{prefix}.ks_{kernel}"), &[taps, taps], Init::Identity, false);
            self.bn(&format!("{prefix}.bn_dict.ks_{kernel}.bn"), channels, Init::Ones);
        }
    }

    fn branches(&mut self, part: &str, level: usize, choices: &FusionChoices, channels: &[u32]) {
        for source in choices.sources.iter().map(|s| *s as usize).filter(|s| *s != level) {
            let prefix = format!("{part}.branches.level_{level}.{source}.{}", branch_operator(level, source));
            let (out, input) = (channels[level] as usize, channels[source] as usize);
            self.conv(&format!("{prefix}.conv.conv"), out, input, 1, false);
            self.bn(&format!("{prefix}.bn.bn"), out, Init::Ones);
        }
    }
}
