//! Sums by NCCL. No GPU has run this yet.

use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, ReduceOp};
use candle_core::cuda_backend::{CudaDevice, CudaStorage};
use candle_core::{CpuStorage, CustomOp1, Layout, Shape, Tensor};

use super::star::Star;
use super::{PeerError, Result, World};

/// NCCL's communicator of one process.
pub struct Ring {
    world: World,
    comm: Comm,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("world", &self.world).finish_non_exhaustive()
    }
}

impl Ring {
    /// Joins the processes; NCCL's identity comes from the first one.
    pub(super) fn connect(world: &World, star: &Star, device: &CudaDevice) -> Result<Self> {
        let failed = |e| PeerError::Nccl(format!("{e:?}"));
        let mut bytes = [0u8; 128];
        if world.rank == 0 {
            bytes = Id::new().map_err(failed)?.internal().map(|b| b as u8);
        }
        star.broadcast(&mut bytes)?;
        let id = Id::uninit(bytes.map(|b| b as std::ffi::c_char));
        let comm = Comm::from_rank(device.cuda_stream(), world.rank, world.size, id).map_err(failed)?;
        Ok(Self { world: world.clone(), comm })
    }

    pub(super) fn rank(&self) -> usize {
        self.world.rank
    }

    pub(super) fn size(&self) -> usize {
        self.world.size
    }

    /// Sum over all processes of a contiguous vector on the GPU.
    pub(super) fn sum(&self, values: &Tensor) -> Result<Tensor> {
        Ok(values.apply_op1_no_bwd(&AllReduce(&self.comm))?)
    }
}

struct AllReduce<'a>(&'a Comm);

impl CustomOp1 for AllReduce<'_> {
    fn name(&self) -> &'static str {
        "all_reduce"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        candle_core::bail!("all_reduce: NCCL got a CPU tensor")
    }

    fn cuda_fwd(&self, values: &CudaStorage, layout: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        let input = values.as_cuda_slice::<f32>()?;
        let mut output = values.device.alloc_zeros::<f32>(input.len())?;
        let reduced = self.0.all_reduce(input, &mut output, &ReduceOp::Sum);
        reduced.map_err(|e| candle_core::Error::Msg(format!("NCCL: {e:?}")))?;
        Ok((CudaStorage::wrap_cuda_slice(output, values.device.clone()), layout.shape().clone()))
    }
}
