//! One training run on several processes: each learns from its share of a step's batches, and the gradients are summed.
//!
//! N processes with `accumulate` batches each take the same optimiser steps as one process with N times as many; only
//! the running BN statistics, which nothing in search or export reads, are those of the first process.

#[cfg(feature = "nccl")]
mod nccl;
mod star;

use std::collections::BTreeMap;

use candle_core::Tensor;

use star::Star;

/// What can go wrong between processes.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The environment does not tell which process this is.
    #[error("{variable} {reason}")]
    Environment {
        /// The variable.
        variable: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection to the other processes.
    #[error("rank {rank}: {doing} {address}: {source}")]
    Connection {
        /// This process.
        rank: usize,
        /// What failed.
        doing: &'static str,
        /// Where the first process listens.
        address: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The processes do not fit together.
    #[error("rank {rank} {reason}")]
    Mismatch {
        /// The other process.
        rank: usize,
        /// What does not fit.
        reason: String,
    },
    /// A tensor operation failed.
    #[error("tensor operation failed: {}", crate::supernet::short(.0))]
    Tensor(#[from] candle_core::Error),
    /// NCCL failed.
    #[error("NCCL: {0}")]
    Nccl(String),
}

/// Result of working with other processes.
pub type Result<T> = std::result::Result<T, PeerError>;

/// Which process of how many this is, and where the first one listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct World {
    /// From 0.
    pub rank: usize,
    /// Processes in all.
    pub size: usize,
    /// From 0 on this machine: the number of its GPU.
    pub local_rank: usize,
    /// `host:port` of the first process.
    pub address: String,
}

impl World {
    /// As `torchrun` tells (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT`), or else `srun`
    /// (`SLURM_PROCID`, `SLURM_NTASKS`, `SLURM_LOCALID`, `SLURM_LAUNCH_NODE_IPADDR`).
    pub fn from_environment() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let number = |ours: &'static str, slurms: &str| {
            let missing = || PeerError::Environment {
                variable: ours,
                reason: format!("is not set (nor {slurms}); start the processes with torchrun or srun"),
            };
            let text = get(ours).or_else(|| get(slurms)).ok_or_else(missing)?;
            let wrong = |_| PeerError::Environment { variable: ours, reason: format!("is `{text}`, not a number") };
            text.parse::<usize>().map_err(wrong)
        };
        let (rank, size) = (number("RANK", "SLURM_PROCID")?, number("WORLD_SIZE", "SLURM_NTASKS")?);
        if rank >= size {
            let reason = format!("is {rank}, but there are {size} processes");
            return Err(PeerError::Environment { variable: "RANK", reason });
        }
        let host = get("MASTER_ADDR").or_else(|| get("SLURM_LAUNCH_NODE_IPADDR")).unwrap_or("127.0.0.1".into());
        let port = get("MASTER_PORT").unwrap_or("29500".into());
        let local_rank = number("LOCAL_RANK", "SLURM_LOCALID").unwrap_or(rank);
        Ok(Self { rank, size, local_rank, address: format!("{host}:{port}") })
    }
}

/// The processes of a run, connected.
#[derive(Debug, Default)]
pub enum Peers {
    /// There is only this one.
    #[default]
    Alone,
    /// Sums travel through the first process, over TCP; for any device.
    Star(Star),
    /// Sums are left to NCCL.
    #[cfg(feature = "nccl")]
    Nccl(nccl::Ring),
}

impl Peers {
    /// Connects the processes; returns when all are there.
    ///
    /// NCCL is used between GPUs when the program was built with it.
    pub fn connect(world: &World, device: &candle_core::Device) -> Result<Self> {
        if world.size == 1 {
            return Ok(Self::Alone);
        }
        let star = Star::connect(world)?;
        #[cfg(feature = "nccl")]
        if let candle_core::Device::Cuda(device) = device {
            return Ok(Self::Nccl(nccl::Ring::connect(world, &star, device)?));
        }
        let _ = device;
        Ok(Self::Star(star))
    }

    /// This process, from 0.
    pub fn rank(&self) -> usize {
        match self {
            Self::Alone => 0,
            Self::Star(star) => star.rank(),
            #[cfg(feature = "nccl")]
            Self::Nccl(ring) => ring.rank(),
        }
    }

    /// Processes in all.
    pub fn size(&self) -> usize {
        match self {
            Self::Alone => 1,
            Self::Star(star) => star.size(),
            #[cfg(feature = "nccl")]
            Self::Nccl(ring) => ring.size(),
        }
    }

    /// Replaces gradients and numbers by their sums over all processes; the names must be the same everywhere.
    pub(super) fn sum(&self, grads: &mut BTreeMap<String, Tensor>, numbers: &mut [f32]) -> Result<()> {
        if matches!(self, Self::Alone) {
            return Ok(());
        }
        let Some(device) = grads.values().next().map(|g| g.device().clone()) else { return Ok(()) };
        let mut flat = grads.values().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
        flat.push(Tensor::from_slice(numbers, numbers.len(), &device)?);
        let flat = Tensor::cat(&flat, 0)?;
        let sum = match self {
            Self::Alone => flat,
            Self::Star(star) => {
                let mut values = flat.to_vec1::<f32>()?;
                star.sum(&mut values)?;
                Tensor::from_vec(values, flat.dims1()?, &device)?
            }
            #[cfg(feature = "nccl")]
            Self::Nccl(ring) => ring.sum(&flat)?,
        };
        let mut at = 0;
        for grad in grads.values_mut() {
            let len = grad.elem_count();
            *grad = sum.narrow(0, at, len)?.reshape(grad.shape())?;
            at += len;
        }
        numbers.copy_from_slice(&sum.narrow(0, at, numbers.len())?.to_vec1::<f32>()?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torchruns_variables_come_before_slurms() {
        let world = |set: &[(&str, &str)]| {
            World::from_variables(|name| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
        };
        let slurm = [("SLURM_PROCID", "5"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "1"), ("MASTER_ADDR", "node1")];
        let found = world(&slurm).unwrap();
        assert_eq!(found, World { rank: 5, size: 8, local_rank: 1, address: "node1:29500".into() });
        let both: Vec<_> = [&[("RANK", "1"), ("WORLD_SIZE", "2"), ("MASTER_PORT", "7")][..], &slurm[..]].concat();
        assert_eq!(world(&both).unwrap(), World { rank: 1, size: 2, local_rank: 1, address: "node1:7".into() });
        for (set, told) in [
            (&[("RANK", "2"), ("WORLD_SIZE", "2")][..], "there are 2"),
            (&[("RANK", "x"), ("WORLD_SIZE", "2")], "not a number"),
            (&[], "torchrun or srun"),
        ] {
            let error = world(set).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn sums_are_the_same_everywhere() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = |rank: usize| {
            let world = World { rank, size: 3, local_rank: 0, address: format!("127.0.0.1:{port}") };
            let peers = Peers::connect(&world, &candle_core::Device::Cpu).unwrap();
            let mut sums = Vec::new();
            for round in 0..3 {
                let value = (rank + 10 * round) as f32;
                let tensor = Tensor::new(&[[value, 0.5], [1.0, value / 3.0]], &candle_core::Device::Cpu).unwrap();
                let mut grads = BTreeMap::from([("w".to_owned(), tensor)]);
                let mut numbers = [value, 1.0];
                peers.sum(&mut grads, &mut numbers).unwrap();
                sums.push((grads["w"].to_vec2::<f32>().unwrap(), numbers));
            }
            sums
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|rank| scope.spawn(move || process(rank))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let (grad, numbers) = &all[0][1];
        let all_near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(all_near(numbers, &[33.0, 3.0]) && all_near(&grad.concat(), &[33.0, 1.5, 3.0, 11.0]), "{all:?}");
        assert!(all.iter().all(|sums| *sums == all[0]));
    }
}
