//! The network: a backbone tapped at strides 16 and 32 (context path), a few convolutions of the image (spatial path),
//! and what brings them together. Maps are joined by their mean instead of their sum, a constant factor before a
//! convolution.

use std::collections::{BTreeMap, HashMap};

use candle_core::Tensor;
use inas_graph::Graph;
use inas_nn::ops::BatchStats;
use inas_nn::tape::{Gradients, Real, Tape, Value};

use super::score::IGNORED;
use crate::loss::pixel_cross_entropy;
use crate::net::{Bn, Conv, Deploy, Engine, Form, Map, Params, Part, Pass, Plan, Shapes, Size, Term, check_images};
use crate::{Error, Genotype, Result};

/// Side at which the parameters are listed.
const LISTING_PX: usize = 64;

/// A segmentation network.
#[derive(Debug, Clone)]
pub struct Segmenter {
    plan: Plan,
    genotype: Genotype,
    width: usize,
    /// Its tensors; those of the backbone are called as in a classifier.
    pub params: Params,
}

/// What one forward and backward pass gives.
#[derive(Debug)]
pub struct SegmentStep {
    /// Loss of the main output and of both auxiliary ones, mean over the pixels.
    pub loss: f64,
    /// Derivatives by the trainable tensors.
    pub gradients: BTreeMap<String, Tensor>,
    /// Statistics of the batch in every norm.
    pub seen: Vec<(String, BatchStats)>,
}

/// Logits of the pixels, and while training those of the auxiliary heads, finer one first.
struct Outputs<X> {
    main: X,
    aux: Option<[X; 2]>,
}

/// Convolution, norm and ReLU, called `name.conv` and `name.bn`.
fn block<E: Engine>(e: &mut E, x: &E::X, name: &str, (kernel, stride): (usize, usize), out: usize) -> Result<E::X> {
    let bn = Bn { name: format!("{name}.bn"), affine: true };
    e.conv(x, &Conv { name: &format!("{name}.conv"), out, kernel, stride, bn: Some(&bn), relu: true })
}

fn pointwise<E: Engine>(e: &mut E, x: &E::X, name: &str, out: usize, bn: Option<&Bn>, relu: bool) -> Result<E::X> {
    e.conv(x, &Conv { name, out, kernel: 1, stride: 1, bn, relu })
}

/// Attention refinement: a map whose channels are weighted by what it says as a whole.
fn refine<E: Engine>(e: &mut E, x: &E::X, name: &str, out: usize) -> Result<E::X> {
    let x = block(e, x, name, (3, 1), out)?;
    let mean = e.global_mean(&x)?;
    let bn = Bn { name: format!("{name}.attention.bn"), affine: true };
    let z = pointwise(e, &mean, &format!("{name}.attention.conv"), out, Some(&bn), false)?;
    e.gate(&x, &z)
}

impl Segmenter {
    /// A network freshly initialised, `width` channels wide in its context path (BiSeNet: 128).
    ///
    /// # Errors
    /// When the sizes make no network, or the backbone has not ImageNet's form: its maps are too fine.
    pub fn new(size: Size, genotype: Genotype, width: usize, seed: u64) -> Result<Self> {
        if size.form != Form::ImageNet || width < 8 || !width.is_multiple_of(8) {
            return Err(Error::Config(format!(
                "segmentation needs a backbone of ImageNet's form and a width that is a multiple of 8, not {:?} and \
                 {width}",
                size.form
            )));
        }
        let plan = Plan::evaluation(size, &genotype, false)?;
        let mut this = Self { plan, genotype, width, params: Params::init(&[], seed)? };
        let mut shapes = Shapes::default();
        this.forward(&mut shapes, &Map { px: LISTING_PX, channels: 3 }, true)?;
        this.params = Params::init(&shapes.entries, seed)?;
        Ok(this)
    }

    /// Its cells.
    pub fn genotype(&self) -> &Genotype {
        &self.genotype
    }

    /// Size of the backbone, with the classes of pixels.
    pub fn size(&self) -> Size {
        self.plan.size
    }

    /// Channels of the context path.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Takes over the backbone of a classifier; tensors that this network lacks are left out.
    ///
    /// # Errors
    /// When a tensor has another shape, or the backbone is not there.
    pub fn load_backbone(&mut self, classifier: &HashMap<String, Tensor>) -> Result<()> {
        let mut all = self.params.tensors();
        for (name, tensor) in &mut all {
            if name.starts_with("cells.") || name.starts_with("stem") {
                let given = classifier.get(name).ok_or_else(|| Error::NoTensor { name: name.clone() })?;
                tensor.clone_from(given);
            }
        }
        self.params.load(&all)
    }

    fn forward<E: Engine>(&self, e: &mut E, image: &E::X, training: bool) -> Result<Outputs<E::X>> {
        let (c, classes) = (self.width, self.plan.size.classes);
        let taps = self.plan.taps();
        let mut maps = Vec::new();
        self.plan.backbone(e, image, |_, index, x| {
            if taps.iter().any(|t| t.cell == index) {
                maps.push(x.clone());
            }
            Ok(())
        })?;
        let [_, middle, coarse] = <[E::X; 3]>::try_from(maps)
            .map_err(|maps| Error::Config(format!("a backbone of {} strides instead of 3", maps.len())))?;

        let mut spatial = image.clone();
        for i in 0..3 {
            spatial = block(e, &spatial, &format!("spatial.{i}"), (3, 2), c / 2)?;
        }
        let spatial = block(e, &spatial, "spatial.3", (1, 1), c)?;

        let whole = e.global_mean(&coarse)?;
        let whole = block(e, &whole, "context.whole", (1, 1), c)?;
        let mut context = whole;
        let mut steps = Vec::new();
        for (map, name, finer) in [(&coarse, "context.32", &middle), (&middle, "context.16", &spatial)] {
            let x = refine(e, map, name, c)?;
            let x = e.fuse(&[&x], &[&context], &x)?;
            let x = e.fuse(&[], &[&x], finer)?;
            context = block(e, &x, &format!("{name}.up"), (3, 1), c)?;
            steps.push(context.clone());
        }

        let both = e.concat(&[spatial, context])?;
        let x = block(e, &both, "fusion", (1, 1), 2 * c)?;
        let mean = e.global_mean(&x)?;
        let z = pointwise(e, &mean, "fusion.attention.0", c / 2, None, false)?;
        let z = e.relu(&z)?;
        let z = pointwise(e, &z, "fusion.attention.1", 2 * c, None, false)?;
        let gated = e.gate(&x, &z)?;
        let plain = |x| Part { term: Term::Value(x), factor: None, drops: false };
        let x = e.mix(vec![plain(x), plain(gated)])?;

        let logits = |e: &mut E, x: &E::X, name: &str, mid: usize| {
            let x = block(e, x, name, (3, 1), mid)?;
            let x = pointwise(e, &x, &format!("{name}.classes"), classes, None, false)?;
            e.fuse(&[], &[&x], image)
        };
        let main = logits(e, &x, "output", c)?;
        let aux = match (training, &steps[..]) {
            (true, [coarse, fine]) => Some([logits(e, fine, "aux.16", c)?, logits(e, coarse, "aux.32", c)?]),
            _ => None,
        };
        Ok(Outputs { main, aux })
    }

    /// Forward and backward of images `[N, H, W, 3]` with a class for each pixel, `N H W` of them row by row;
    /// [`IGNORED`] pixels have no loss.
    ///
    /// # Errors
    /// When images or classes do not fit.
    pub fn step(&self, images: &Tensor, classes: &[u32]) -> Result<SegmentStep> {
        self.step_of::<f32>(&self.params, images, classes)
    }

    pub(crate) fn step_of<T: Real>(&self, params: &Params, images: &Tensor, classes: &[u32]) -> Result<SegmentStep> {
        check_images(images)?;
        let mut pass = Pass::<T>::forward(Tape::new(true), params, false);
        let image = pass.tape.constant(images)?;
        let outputs = self.forward(&mut pass, &image, true)?;
        let mut tape = pass.tape;
        let (mut loss, mut seeds) = (0.0, Vec::new());
        for output in [outputs.main].into_iter().chain(outputs.aux.into_iter().flatten()) {
            let of = pixel_cross_entropy(&output.to_tensor()?, classes, IGNORED)?;
            loss += of.value;
            seeds.push((output, of.gradient));
        }
        let seen = std::mem::take(&mut tape.seen);
        let mut gradients = Gradients::new();
        tape.backward(seeds, &mut gradients)?;
        Ok(SegmentStep { loss, gradients: gradients.into_tensors()?, seen })
    }

    /// Logits `[N, H, W, K]` with running statistics.
    ///
    /// # Errors
    /// When images do not fit: sides must be multiples of 32.
    pub fn logits(&self, images: &Tensor) -> Result<Tensor> {
        check_images(images)?;
        let mut pass = Pass::<f32>::forward(Tape::new(false), &self.params, true);
        let image: Value<f32> = pass.tape.constant(images)?;
        Ok(self.forward(&mut pass, &image, false)?.main.to_tensor()?)
    }

    /// The deployed network: `image` `[1, 3, px, px]` in, `logits` `[1, K, px, px]` out.
    ///
    /// # Errors
    /// When the side is no multiple of 32.
    pub fn graph(&self, px: usize) -> Result<Graph> {
        if !px.is_multiple_of(32) {
            return Err(Error::Config(format!("{px} px is no multiple of the backbone's stride 32")));
        }
        let mut deploy = Deploy::new(&self.params);
        let image = deploy.input("image", 3, px)?;
        let outputs = self.forward(&mut deploy, &image, false)?;
        Ok(deploy.builder.finish_all(&[(outputs.main.value, "logits")]))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType;
    use inas_nn::gradcheck::uniform;

    use super::*;

    fn net() -> Segmenter {
        let size = Size { form: Form::ImageNet, channels: 2, cells: 3, classes: 3 };
        Segmenter::new(size, Genotype::published("dots-c10").unwrap(), 8, 1).unwrap()
    }

    #[test]
    fn whole_network_differentiates() {
        let net = net();
        let params = net.params.to_f64().unwrap();
        let images = uniform(&[2, 64, 64, 3], -1.0, 1.0, 5).unwrap().as_tensor().clone();
        let classes: Vec<u32> = (0..2 * 64 * 64).map(|i| if i % 7 == 0 { IGNORED } else { i % 3 }).collect();
        let all = net.step_of::<f64>(&params, &images, &classes).unwrap();
        assert_eq!(all.gradients.len(), params.weights.len());
        // So small that hardly a kink lies in between.
        let h = 1e-8;
        let (mut slope, moved) = (0.0, [params.deep_copy().unwrap(), params.deep_copy().unwrap()]);
        for (i, (name, g)) in all.gradients.iter().enumerate() {
            let direction = uniform(g.dims(), -1.0, 1.0, i as u64).unwrap();
            slope += (g * direction.as_tensor()).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
            for (params, sign) in moved.iter().zip([h, -h]) {
                let var = &params.weights[name];
                var.set(&(var.as_tensor() + (direction.as_tensor() * sign).unwrap()).unwrap()).unwrap();
            }
        }
        let ends = moved.map(|p| net.step_of::<f64>(&p, &images, &classes).unwrap().loss);
        let numeric = (ends[0] - ends[1]) / (2.0 * h);
        assert!((slope - numeric).abs() < 1e-4 * numeric.abs().max(1.0), "{slope} {numeric}");
    }

    #[test]
    fn backbones_of_classifiers_are_taken_over() {
        let mut net = net();
        let size = Size { classes: 10, ..net.size() };
        let mut classifier = crate::net::Network::new(size, net.genotype().clone(), false, 9).unwrap().params.tensors();
        net.load_backbone(&classifier).unwrap();
        let name = "stem0.0.weight";
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&net.params.tensors()[name]), values(&classifier[name]));
        let image = Tensor::zeros((1, 64, 32, 3), DType::F32, &candle_core::Device::Cpu).unwrap();
        assert_eq!(net.logits(&image).unwrap().dims(), [1, 64, 32, 3]);
        classifier.remove(name);
        assert!(net.load_backbone(&classifier).is_err());
        assert!(net.graph(40).is_err());
    }
}
