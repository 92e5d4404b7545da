//! A network cut into blocks that can be measured alone: its cells, or the operations in them.

use std::collections::BTreeMap;

use inas_graph::{Graph, Value};

use super::Network;
use super::cell::{Cell, Feature, Place, State};
use super::deploy::{Deploy, Layer};
use super::engine::Term;
use super::shapes::{Map, Shapes};
use crate::{Error, Result};

/// What a block is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// A cell with its two inputs; beside the cells, stem and head.
    Cells,
    /// An operation on an edge, or what prepares an input of a cell; beside them, stem and head. Additions and the
    /// joining of nodes are in no block, and what several operations share, a rectified node say, is in each.
    Operations,
}

/// A block of a network.
#[derive(Debug, Clone)]
pub struct Block {
    /// What it is, with channels and sides; blocks of one name cost the same.
    pub name: String,
    /// How often it is in the network.
    pub count: usize,
    /// The first of them.
    pub graph: Graph,
}

/// Blocks by name.
#[derive(Default)]
struct Blocks(BTreeMap<String, Block>);

impl Blocks {
    fn add(&mut self, name: String, graph: impl FnOnce() -> Result<Graph>) -> Result<()> {
        if let Some(block) = self.0.get_mut(&name) {
            block.count += 1;
            return Ok(());
        }
        let block = Block { name: name.clone(), count: 1, graph: graph()? };
        // A block that passes its input through costs nothing.
        if !block.graph.nodes().is_empty() {
            self.0.insert(name, block);
        }
        Ok(())
    }
}

impl Network {
    /// The blocks of the network at an input side, by name.
    ///
    /// # Errors
    /// When the side does not fit the network.
    pub fn blocks(&self, px: usize, cut: Cut) -> Result<Vec<Block>> {
        let (plan, mut blocks) = (&self.plan, Blocks::default());
        let mut shapes = Shapes::default();
        let (a, b) = plan.stem(&mut shapes, &Map { px, channels: 3 })?;
        blocks.add(format!("stem 3-{} px{px}", b.channels), || {
            let mut deploy = Deploy::new(&self.params);
            let image = deploy.input("image", 3, px)?;
            let (a, b) = plan.stem(&mut deploy, &image)?;
            Ok(finish(deploy, &[a.value, b.value]))
        })?;
        let (mut before, mut last) = (a, b);
        for cell in &plan.cells {
            match cut {
                Cut::Cells => self.whole(&mut blocks, cell, before, last)?,
                Cut::Operations => self.operations(&mut blocks, cell, before, last)?,
            }
            let x = cell.forward(&mut shapes, &mut State::new(before), &mut State::new(last))?;
            (before, last) = (last, x);
        }
        let (channels, px, classes) = (last.channels, last.px, plan.size.classes);
        blocks.add(format!("head {channels}-{classes} px{px}"), || {
            let mut deploy = Deploy::new(&self.params);
            let x = deploy.input("x", channels, px)?;
            let logits = plan.head(&mut deploy, &x)?;
            Ok(finish(deploy, &[logits.value]))
        })?;
        Ok(blocks.0.into_values().collect())
    }

    fn whole(&self, blocks: &mut Blocks, cell: &Cell, before: Map, last: Map) -> Result<()> {
        let name = format!(
            "{} cell c{} from {}px{} {}px{}",
            cell.kind, cell.width, before.channels, before.px, last.channels, last.px
        );
        blocks.add(name, || {
            let mut deploy = Deploy::new(&self.params);
            let mut before = State::new(deploy.input("before", before.channels, before.px)?);
            let mut last = State::new(deploy.input("last", last.channels, last.px)?);
            let y = cell.forward(&mut deploy, &mut before, &mut last)?;
            Ok(finish(deploy, &[y.value]))
        })
    }

    fn operations(&self, blocks: &mut Blocks, cell: &Cell, before: Map, last: Map) -> Result<()> {
        let width = cell.width;
        for (which, from) in [before, last].into_iter().enumerate() {
            let reduce = which == 0 && cell.after_reduction;
            let what = if reduce { "reduced input" } else { "input" };
            blocks.add(format!("{what} {}-{width} px{}", from.channels, from.px), || {
                let mut deploy = Deploy::new(&self.params);
                let mut state = State::new(deploy.input("x", from.channels, from.px)?);
                let y = cell.preprocess(&mut deploy, &mut state, which, reduce)?;
                Ok(finish(deploy, &[y.value]))
            })?;
        }
        for place in cell.places.iter().flatten() {
            let stride = cell.stride(place.source);
            // Nodes made in a reduction cell are as small as its output.
            let px = if place.source >= 2 { last.px / cell.stride(0) } else { last.px };
            blocks.add(format!("{} s{stride} c{width} px{px}", place.op), || {
                let mut deploy = Deploy::new(&self.params);
                let x = deploy.input("x", width, px)?;
                let y = cell.alone(&mut deploy, place, &x, stride)?;
                // A skip passes its input through.
                Ok(if y.value == x.value { Graph::default() } else { finish(deploy, &[y.value]) })
            })?;
        }
        Ok(())
    }
}

fn finish(deploy: Deploy<'_>, outputs: &[Value]) -> Graph {
    let mut named: Vec<(Value, String)> = Vec::new();
    for value in outputs {
        // Both inputs of the first cell can be one map.
        if named.iter().all(|(v, _)| v != value) {
            named.push((*value, format!("y{}", named.len())));
        }
    }
    let named: Vec<(Value, &str)> = named.iter().map(|(value, name)| (*value, name.as_str())).collect();
    deploy.builder.finish_all(&named)
}

impl Cell {
    /// An operation without the others of its node.
    fn alone(&self, deploy: &mut Deploy<'_>, place: &Place, x: &Layer, stride: usize) -> Result<Layer> {
        let mut feature = Feature::new(*x);
        match self.operation(deploy, place, &mut feature, stride)? {
            Some(Term::Value(y)) => Ok(y),
            Some(Term::Branch(y)) => Ok(y.into()),
            None => Err(Error::Config("`none` is no operation of a genotype".into())),
        }
    }
}
