//! The searchable multi-scale unit: depthwise convolutions of several sizes, the mean of their batch norms, an activation.

use std::sync::Arc;

use candle_core::{Result, bail};
use rayon::prelude::*;

use super::norm::{Affine, Sums, join};
use super::passes::{BLOCK, Gradient, See, SumUp, before, mix, shifted, wide};
use super::source::{InputRows, Source};
use super::{Flow, Norm, Tape, Value, Weight};
use crate::act::{Act as _, by_act};
use crate::gemm::{Mat, matmul, transposed};
use crate::kernel::{part_len, simd, with_data};
use crate::ops::Activation;
use crate::ops::batch_norm::Moments;
use crate::ops::depthwise_kernel::{Geometry, backward, forward};
use crate::pool::Buf;
use crate::real::Real;
use crate::strips::{LANES, Rows};

/// One kernel size of a multi-scale unit.
#[derive(Debug, Clone)]
pub struct Branch {
    /// Odd side of the kernel.
    pub kernel: usize,
    /// `[k k, k k]`: what the flattened centre crop of the shared tensor is multiplied by.
    pub transform: Weight,
    /// Its batch norm.
    pub norm: Norm,
}

impl<T: Real> Tape<T> {
    /// `act(mean over the branches of norm(depthwise(x)))` with the first channels of the shared tensor `w` `[C, 1, K, K]`
    /// (thesis equation 3.1).
    ///
    /// # Errors
    /// When shapes or dtypes do not fit, or there is no branch.
    pub fn multi_scale(
        &mut self,
        x: &Value<T>,
        w: &Weight,
        branches: &[Branch],
        stride: usize,
        act: Activation,
    ) -> Result<Value<T>> {
        let [n, h, wd, c] = x.dims;
        if branches.is_empty() || stride == 0 {
            bail!("tape: `{}`: {} branches, stride {stride}", w.name, branches.len())
        }
        let share = 1.0 / branches.len() as f64;
        let crops = branches.iter().map(|b| Crop::new(w, b, c)).collect::<Result<Vec<_>>>()?;
        let kernels = crops.iter().map(Crop::kernel::<T>).collect::<Result<Vec<_>>>()?;
        let geometry = |k: usize| Geometry { n, h, w: wd, c, k, s: stride, d: 1 };
        let geometries: Vec<Geometry> = branches.iter().map(|b| geometry(b.kernel)).collect();
        let (ho, wo) = (geometries[0].ho(), geometries[0].wo());
        let dims = [n, ho, wo, c];
        let line = wo * c;
        let input = x.input();
        let rows = InputRows { input: &input, w: wd, c };
        let fixed = branches.iter().map(|b| Affine::<T>::fixed(&b.norm, c, share)).collect::<Result<Vec<_>>>()?;
        if let Some(affine) = fixed.into_iter().collect::<Option<Vec<_>>>() {
            // All is linear: one kernel does the work of all.
            let (side, merged) = merge(&crops, &kernels, &affine);
            let shift = lanes(&shifts(&affine));
            let mut y = Buf::stale(n * ho * line);
            let see = |(): &mut (), _: usize, (from, _): (usize, usize), strip: &mut [T]| {
                shifted(strip, &shift[from..][..LANES], act);
            };
            forward(&[geometry(side)], &rows, &[&merged], &mut [&mut y], || (), see);
            return Ok(self.value(dims, y));
        }
        let mut convolved: Vec<Buf<T>> = branches.iter().map(|_| Buf::stale(n * ho * line)).collect();
        let seen = forward(
            &geometries,
            &rows,
            &kernels.iter().map(|k| &k[..]).collect::<Vec<_>>(),
            &mut convolved.iter_mut().map(|y| &mut y[..]).collect::<Vec<_>>(),
            || vec![Vec::<See<T>>::new(); branches.len()],
            |seen, branch, (from, _), strip| {
                if from / LANES == seen[branch].len() {
                    seen[branch].push(See::new(LANES));
                }
                seen[branch][from / LANES].rows(strip);
            },
        );
        let mut moments: Vec<Vec<Moments>> = branches.iter().map(|_| Vec::new()).collect();
        for part in seen {
            for (list, see) in moments.iter_mut().zip(part) {
                list.push(Moments::of_channels(see.into_iter().map(See::moments), c));
            }
        }
        let affine = branches
            .iter()
            .zip(moments)
            .map(|(b, m)| Affine::batch(self, &b.norm, join(m), share))
            .collect::<Result<Vec<_>>>()?;
        let mean = Arc::new(MeanOfNorms { shift: wide(&shifts(&affine)), convolved, affine, act });
        let out = self.computed(dims, mean.clone());
        let (id, x_id, saved) = (out.id, x.id, x.saved());
        self.record(move |flow| {
            let Some(mut g) = flow.take(id) else { return Ok(()) };
            let sums = mean.sums(&mut g);
            let MeanOfNorms { convolved, affine, .. } = &*mean;
            let gradients = (0..affine.len())
                .map(|b| {
                    let correction = affine[b].correction(flow, &sums[b])?;
                    Ok(Gradient::norm(&convolved[b], &g, &affine[b], &correction).rows(wo))
                })
                .collect::<Result<Vec<_>>>()?;
            let (mut dx, adds) = flow.start(x_id, n * h * wd * c);
            let dws = backward(
                &geometries,
                Some(&InputRows { input: &saved, w: wd, c }),
                &gradients.iter().map(|g| g as &dyn Rows<T>).collect::<Vec<_>>(),
                &kernels.iter().map(|k| &k[..]).collect::<Vec<_>>(),
                x_id.is_some().then_some((&mut dx, adds)),
            );
            flow.put(x_id, dx);
            for (crop, dw) in crops.iter().zip(&dws) {
                crop.backward(flow, dw)?;
            }
            Ok(())
        });
        Ok(out)
    }
}

/// `act(shift + sum of scale y)` over the branches.
struct MeanOfNorms<T: Real> {
    convolved: Vec<Buf<T>>,
    affine: Vec<Affine<T>>,
    /// Sum of the branches', wide.
    shift: Vec<T>,
    act: Activation,
}

impl<T: Real> Source<T> for MeanOfNorms<T> {
    fn size(&self) -> (usize, usize) {
        let c = self.affine[0].scale.len();
        (self.convolved[0].len() / c, c)
    }

    fn fill(&self, first: usize, to: &mut [T]) {
        let c = self.affine[0].scale.len();
        for (b, to) in to.chunks_mut(BLOCK * c).enumerate() {
            self.mixed(to, (first + b * BLOCK) * c);
            by_act!(self.act, A => simd(#[inline(always)] || to.iter_mut().for_each(|z| *z = A::f(*z))));
        }
    }
}

impl<T: Real> MeanOfNorms<T> {
    /// Some values from `first` on, before the activation.
    fn mixed(&self, z: &mut [T], first: usize) {
        for (b, (y, a)) in self.convolved.iter().zip(&self.affine).enumerate() {
            mix(z, &y[first..][..z.len()], &a.wide_scale, (b == 0).then_some(&self.shift));
        }
    }

    /// Turns `g` into the gradient before the activation; gives its sums with every branch.
    fn sums(&self, g: &mut [T]) -> Vec<Sums> {
        let (Self { convolved, affine, act, .. }, c) = (self, self.affine[0].scale.len());
        let part = part_len(g.len() / c) * c;
        let parts: Vec<Vec<Sums>> = g
            .par_chunks_mut(part)
            .enumerate()
            .map(|(p, g)| {
                let mut ups: Vec<SumUp<T>> = affine.iter().map(SumUp::new).collect();
                let mut z = vec![T::zero(); BLOCK * c];
                for (b, g) in g.chunks_mut(BLOCK * c).enumerate() {
                    let first = p * part + b * BLOCK * c;
                    if let ([y], [up]) = (&convolved[..], &mut ups[..]) {
                        up.block_before_act(&y[first..][..g.len()], g, &affine[0], None, *act);
                        continue;
                    }
                    if *act != Activation::Identity {
                        let z = &mut z[..g.len()];
                        self.mixed(z, first);
                        before(g, z, *act);
                    }
                    for (up, y) in ups.iter_mut().zip(convolved) {
                        up.block(&y[first..][..g.len()], g);
                    }
                }
                ups.into_iter().map(|up| up.total).collect()
            })
            .collect();
        Sums::totals(&parts, affine.len(), c)
    }
}

/// With zeros after them, up to a whole strip.
fn lanes<T: Real>(v: &[T]) -> Vec<T> {
    let mut out = v.to_vec();
    out.resize(v.len().next_multiple_of(LANES), T::zero());
    out
}

fn shifts<T: Real>(affine: &[Affine<T>]) -> Vec<T> {
    (0..affine[0].shift.len()).map(|i| T::of(affine.iter().map(|a| a.shift[i].wide()).sum())).collect()
}

/// Where a branch reads the shared tensor.
struct Crop {
    full: Weight,
    transform: Weight,
    c: usize,
    k: usize,
    side: usize,
}

impl Crop {
    fn new(full: &Weight, branch: &Branch, c: usize) -> Result<Self> {
        let (k, area) = (branch.kernel, branch.kernel * branch.kernel);
        let side = match full.tensor.dims() {
            &[o, 1, side, other] if o >= c && side == other && side % 2 == 1 && side >= k && k % 2 == 1 => side,
            d => bail!("tape: `{}` of shape {d:?} holds no [{c}, 1, {k}, {k}] in its centre", full.name),
        };
        if branch.transform.tensor.dims() != [area, area] {
            bail!(
                "tape: `{}` has shape {:?}, not [{area}, {area}]",
                branch.transform.name,
                branch.transform.tensor.dims()
            )
        }
        Ok(Self { full: full.clone(), transform: branch.transform.clone(), c, k, side })
    }

    /// Offset of the first of row `y` of the crop of channel `c`.
    fn row(&self, c: usize, y: usize) -> usize {
        let margin = (self.side - self.k) / 2;
        (c * self.side + margin + y) * self.side + margin
    }

    /// `[C, k k]`
    fn crop<T: Real>(&self) -> Result<Vec<T>> {
        with_data::<T, _>(&self.full.tensor, |full| {
            let mut out = Vec::with_capacity(self.c * self.k * self.k);
            for c in 0..self.c {
                for y in 0..self.k {
                    out.extend_from_slice(&full[self.row(c, y)..][..self.k]);
                }
            }
            out
        })
    }

    /// The transformed kernel, `[k k, C]`.
    fn kernel<T: Real>(&self) -> Result<Vec<T>> {
        let area = self.k * self.k;
        let crop = transposed(&self.crop::<T>()?, area);
        let mut out = vec![T::zero(); area * self.c];
        with_data::<T, _>(&self.transform.tensor, |t| {
            let crop = Mat::new(&crop, area, self.c, self.c);
            matmul(&mut out, self.c, Mat::new(t, area, area, area), crop, false);
        })?;
        Ok(out)
    }

    /// Adds the gradients of the shared tensor and of the transform.
    fn backward<T: Real>(&self, flow: &mut Flow<'_, T>, dw: &[T]) -> Result<()> {
        let (crop, area, c) = (self.crop::<T>()?, self.k * self.k, self.c);
        let mut dcrop = vec![T::zero(); c * area];
        with_data::<T, _>(&self.transform.tensor, |t| {
            matmul(&mut dcrop, area, Mat::new(dw, area, c, c).t(), Mat::new(t, area, area, area), false);
        })?;
        matmul(flow.of(&self.transform)?, area, Mat::new(dw, area, c, c), Mat::new(&crop, c, area, area), true);
        let to = flow.of(&self.full)?;
        for (row, d) in dcrop.chunks_exact(self.k).enumerate() {
            let at = self.row(row / self.k, row % self.k);
            super::add(&mut to[at..at + self.k], d);
        }
        Ok(())
    }
}

/// The largest kernel's side, and the sum of the scaled kernels in it, `[k k, C]`.
fn merge<T: Real>(crops: &[Crop], kernels: &[Vec<T>], affine: &[Affine<T>]) -> (usize, Vec<T>) {
    let side = crops.iter().map(|c| c.k).max().unwrap_or(1);
    let c = affine[0].scale.len();
    let mut out = vec![T::zero(); side * side * c];
    for ((crop, kernel), a) in crops.iter().zip(kernels).zip(affine) {
        let (k, margin) = (crop.k, (side - crop.k) / 2);
        for (t, taps) in kernel.chunks_exact(c).enumerate() {
            let to = ((t / k + margin) * side + t % k + margin) * c;
            for ((o, &w), &s) in out[to..][..c].iter_mut().zip(taps).zip(&a.scale) {
                *o += w * s;
            }
        }
    }
    (side, out)
}
