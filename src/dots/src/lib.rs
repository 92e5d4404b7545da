//! DOTS: differentiable architecture search that decouples operations and topology (thesis chapter 2).
//!
//! A cell is a small graph whose nodes add up operations on earlier nodes. Search goes in two stages: a supernet with
//! all operations on all edges ranks operations in groups; a second one with the few that are retained ranks
//! combinations of edges, whose weights harden as a temperature falls. What comes out is a [`Genotype`], and the
//! network made of it is trained anew.

mod dag;
mod draw;
mod error;
mod genotype;
mod op;

pub mod data;
pub mod derive;
pub mod files;
pub mod kendall;
pub mod loss;
pub mod net;
pub mod parity;
pub mod relax;
pub mod run;
pub mod segment;
pub mod train;

pub use dag::{CellKind, EDGES, EdgeRule, NODES, combinations, edge, edges, sources};
pub use error::{Error, Result};
pub use genotype::{CellGenotype, Genotype, PUBLISHED};
pub use op::{OPS, Op};
