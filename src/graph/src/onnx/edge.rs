//! Where a network meets the outside: its declared inputs and outputs, and the way from and to pixels.

use super::proto::{self, DataType, DimensionValue};
use super::writer::{Writer, int, ints};
use super::{Edge, OnnxOptions};
use crate::graph::{Graph, Shape, ValueInfo};
use crate::{Error, Result};

/// Name of the bytes that come in, and of those that go out.
const PIXELS: (&str, &str) = ("pixels", "mask");

/// ImageNet's mean and standard deviation of red, green and blue, on 0..1 values.
const NORMALISATION: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// The declared inputs and outputs of a graph.
pub(super) fn declared(graph: &Graph, options: &OnnxOptions) -> Result<(Vec<proto::ValueInfo>, Vec<proto::ValueInfo>)> {
    let (inputs, outputs): (Vec<&ValueInfo>, Vec<&ValueInfo>) = (graph.inputs().collect(), graph.outputs().collect());
    if options.edge == Edge::Floats {
        let float = |v: &&ValueInfo| value_info(&v.name, DataType::Float, dimensions(v.shape, options));
        return Ok((inputs.iter().map(float).collect(), outputs.iter().map(float).collect()));
    }
    let (([input], [output]), (3, 1)) = (
        (inputs.as_slice(), outputs.as_slice()),
        (inputs.first().map_or(0, |v| v.shape[1]), outputs.first().map_or(0, |v| v.shape[1])),
    ) else {
        return Err(Error::Onnx { reason: "only a network of one picture and one map can take pixels".into() });
    };
    let [n, channels, height, width] = dimensions(input.shape, options);
    let pixels = value_info(PIXELS.0, DataType::Uint8, [n, height, width, channels]);
    Ok((vec![pixels], vec![value_info(PIXELS.1, DataType::Uint8, dimensions(output.shape, options))]))
}

fn dimensions([n, channels, height, width]: Shape, options: &OnnxOptions) -> [DimensionValue; 4] {
    let fixed = |size: u32| DimensionValue::Value(i64::from(size));
    let open = |is_open: bool, name: &str, size: u32| {
        if is_open { DimensionValue::Parameter(name.into()) } else { fixed(size) }
    };
    [
        open(options.dynamic_batch, "N", n),
        fixed(channels),
        open(options.dynamic_size, "H", height),
        open(options.dynamic_size, "W", width),
    ]
}

fn value_info(name: &str, kind: DataType, dimensions: [DimensionValue; 4]) -> proto::ValueInfo {
    let dim = dimensions.into_iter().map(|value| proto::Dimension { value: Some(value) }).collect();
    let tensor_type = proto::TensorType { elem_type: kind as i32, shape: Some(proto::TensorShape { dim }) };
    proto::ValueInfo { name: name.into(), r#type: Some(proto::Type { tensor_type: Some(tensor_type) }) }
}

/// From the declared bytes to the graph's input: planes, floats, normalised.
pub(super) fn from_pixels(writer: &mut Writer<'_>, input: &str) {
    // Planes first: bytes are a quarter of the floats.
    writer.push("Transpose", "pixels/planes", vec![PIXELS.0.into()], vec![ints("perm", vec![0, 3, 1, 2])]);
    writer.push("Cast", "pixels/floats", vec!["pixels/planes".into()], vec![int("to", DataType::Float as i64)]);
    let (mean, std) = NORMALISATION;
    let mean = writer.floats("pixels/mean".into(), &[1, 3, 1, 1], &mean.map(|m| m * 255.0));
    let scale = writer.floats("pixels/scale".into(), &[1, 3, 1, 1], &std.map(|s| 1.0 / (255.0 * s)));
    writer.push("Sub", "pixels/centred", vec!["pixels/floats".into(), mean], vec![]);
    writer.push("Mul", input, vec!["pixels/centred".into(), scale], vec![]);
}

/// From the graph's output, 0..1, to bytes, rounded down.
pub(super) fn to_pixels(writer: &mut Writer<'_>, output: &str) {
    let full = writer.floats("mask/full".into(), &[], &[255.0]);
    writer.push("Mul", "mask/scaled", vec![output.into(), full], vec![]);
    writer.push("Cast", PIXELS.1, vec!["mask/scaled".into()], vec![int("to", DataType::Uint8 as i64)]);
}
