//! `inas dots export`

use std::path::PathBuf;

use candle_core::Tensor;
use inas_dots::data::noise;
use inas_dots::net::Network;
use inas_graph::{Graph, OnnxOptions};
use inas_profiler::Backend;
use serde_json::json;

use super::super::profile::RuntimeArgs;
use super::super::write_file;
use super::network::{Loaded, NetworkArgs};
use crate::printer::Printer;

/// Allowed difference between a file and its network, over the largest value. Rounding grows with depth: 1.1e-4 was seen
/// after 14 cells of random weights; a wrong layer changes a map by as much as it holds.
pub(super) const TOLERANCE: f64 = 5e-4;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    network: NetworkArgs,
    /// Side of the images, px.
    #[arg(long, default_value_t = 224)]
    px: usize,
    /// Leave height and width open in the backbone's file; both must be multiples of its largest stride.
    #[arg(long)]
    open_size: bool,
    /// The runtime that checks the files against the network.
    #[command(flatten)]
    runtime: RuntimeArgs,
    /// Folder of backbone.onnx and classifier.onnx.
    #[arg(long, short, value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(args: &Args, printer: Printer) -> anyhow::Result<bool> {
    let loaded = args.network.load(args.px)?;
    let (net, runtime) = (&loaded.net, args.runtime.open()?);
    let image = noise(1, args.px, args.network.seed)?;
    let taps: Vec<String> = net.taps().iter().map(inas_dots::net::Tap::name).collect();
    let logits = net.logits(&image)?.reshape((1, 1, 1, ()))?;
    for (file, graph, open, expected) in [
        ("backbone.onnx", net.backbone_graph(args.px)?, args.open_size, net.tapped(&image)?),
        ("classifier.onnx", net.classifier_graph(args.px)?, false, vec![logits]),
    ] {
        let metadata = metadata(&loaded, args.px, &taps)?;
        let onnx = graph.to_onnx(&OnnxOptions { metadata, dynamic_size: open, ..OnnxOptions::default() })?;
        let difference = difference(runtime.as_ref(), &onnx, &image, &expected)?;
        anyhow::ensure!(
            difference <= TOLERANCE,
            "{file} differs from the network by {difference:e} (allowed: {TOLERANCE:e})"
        );
        let path = args.out.join(file);
        write_file(&path, &onnx)?;
        printer.result(format_args!(
            "{}  {:.2} M values, {:.1} M multiply-accumulates, {}; differs from the network by {difference:.1e}",
            path.display(),
            graph.params() as f64 / 1e6,
            graph.macs() as f64 / 1e6,
            shapes(&graph)
        ))?;
    }
    Ok(true)
}

fn shapes(graph: &Graph) -> String {
    graph.outputs().map(|v| format!("{} {:?}", v.name, v.shape)).collect::<Vec<_>>().join(", ")
}

/// What the files say of themselves.
fn metadata(loaded: &Loaded, px: usize, taps: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let net: &Network = &loaded.net;
    let card = json!({
        "network": net.size(), "px": px, "taps": taps, "normalise": loaded.normalise, "trained": loaded.trained,
        "tool": concat!("inas ", env!("CARGO_PKG_VERSION")),
    });
    Ok([("inas.genotype", serde_json::to_string(net.genotype())?), ("inas.card", card.to_string())]
        .map(|(key, value)| (key.to_owned(), value))
        .into())
}

/// Largest difference of a file's outputs to maps `[N, H, W, C]` of the same image, over the largest value of each map
/// where that is above one.
pub(super) fn difference(
    runtime: &dyn Backend,
    onnx: &[u8],
    image: &Tensor,
    expected: &[Tensor],
) -> anyhow::Result<f64> {
    let planes = |t: &Tensor| t.permute((0, 3, 1, 2))?.flatten_all()?.to_vec1::<f32>();
    let [_, height, width, _] = <[usize; 4]>::try_from(image.dims()).unwrap_or_default();
    let mut session = runtime.load_sized(onnx, &[height, width])?;
    session.set_inputs(&[&planes(image)?])?;
    session.run()?;
    let mut worst = 0f64;
    for (index, map) in expected.iter().enumerate() {
        let (got, want) = (session.output(index)?, planes(map)?);
        anyhow::ensure!(got.len() == want.len(), "output {index} has {} values, not {}", got.len(), want.len());
        let scale = want.iter().fold(1f32, |m, v| m.max(v.abs()));
        let of = got.iter().zip(&want).map(|(a, b)| f64::from((a - b).abs() / scale));
        worst = of.fold(worst, |worst, d| if d.is_nan() || d > worst { d } else { worst });
    }
    anyhow::ensure!(!worst.is_nan(), "the file gives values that are no numbers");
    Ok(worst)
}
