//! Partial spaces: some choices of a space fixed or left out.

use crate::space::FusionChoices;
use crate::{Error, Result, Space};

impl Space {
    /// Checks that every network of `part` is a network of this space, such as a space with a fixed backbone.
    ///
    /// Blocks, activation and pyramid must be the same; `part` may offer fewer channels, depths, kernels and sources,
    /// and require more sources.
    pub fn check_part(&self, part: &Self) -> Result<()> {
        let fail = |place: String| Err(Error::NotPart { part: part.name.clone(), whole: self.name.clone(), place });
        let within = |place: &str, what: &str, some: &[u32], all: &[u32]| match some.iter().find(|c| !all.contains(c)) {
            Some(c) => fail(format!("{place}: {what} {c} is not one of {all:?}")),
            None => Ok(()),
        };
        if (self.activation, self.squeeze_excite) != (part.activation, part.squeeze_excite) {
            return fail("activation or squeeze-excite differ".into());
        }
        if (self.stages.len(), self.levels.len()) != (part.stages.len(), part.levels.len()) {
            return fail("another number of stages or levels".into());
        }
        if (self.stem.kernel, self.stem.stride) != (part.stem.kernel, part.stem.stride) {
            return fail("stem: kernel or stride differ".into());
        }
        within("stem", "channel count", &part.stem.channels, &self.stem.channels)?;
        for (i, (some, all)) in part.stages.iter().zip(&self.stages).enumerate() {
            let place = format!("stage {}", i + 1);
            if (some.expand, some.stride) != (all.expand, all.stride) {
                return fail(format!("{place}: expand or stride differ"));
            }
            within(&place, "depth", &some.depths, &all.depths)?;
            within(&place, "kernel", &some.kernels, &all.kernels)?;
            within(&place, "channel count", &some.channels, &all.channels)?;
        }
        let fusion = |place: String, some: &FusionChoices, all: &FusionChoices| {
            within(&place, "kernel", &some.kernels, &all.kernels)?;
            within(&place, "source", &some.sources, &all.sources)?;
            within(&place, "required source", &all.required, &some.required)
        };
        for (i, (some, all)) in part.levels.iter().zip(&self.levels).enumerate() {
            if some.stage != all.stage {
                return fail(format!("level {i}: another stage"));
            }
            fusion(format!("transport level {i}"), &some.transport, &all.transport)?;
            fusion(format!("decoder level {i}"), &some.decoder, &all.decoder)?;
        }
        Ok(())
    }
}
