//! A session with its one picture in and its one map out.

use inas_backend::{Backend, Session, Values, ValuesMut};

use crate::frame::{Colour, Rotation};
use crate::{Error, Result, normalised_values};

/// A saliency network in either of its two forms: normalised float planes in and floats out, or bytes in and out.
pub(crate) struct Network {
    session: Box<dyn Session>,
    /// Width and height of its input, px.
    pub(crate) input: (usize, usize),
    /// Width and height of its map, px.
    pub(crate) map: (usize, usize),
    values: [[f32; 256]; 3],
}

impl Network {
    pub(crate) fn load(onnx: &[u8], size: Option<(u32, u32)>, backend: &dyn Backend) -> Result<Self> {
        let open = size.map(|(width, height)| [height as usize, width as usize]);
        let mut session = backend.load_sized(onnx, open.as_ref().map_or(&[], |o| o))?;
        let [input] = session.input_shapes() else { return Err(shapes(session.as_ref())) };
        let [output] = session.output_shapes() else { return Err(shapes(session.as_ref())) };
        let sizes = match (input.as_slice(), output.as_slice()) {
            ([1, 3, h, w], [1, 1, oh, ow]) => Some(((*w, *h), (*ow, *oh), false)),
            ([1, h, w, 3], [1, oh, ow, 1] | [1, 1, oh, ow]) => Some(((*w, *h), (*ow, *oh), true)),
            _ => None,
        };
        let sizes = sizes.filter(|(input, map, _)| [input.0, input.1, map.0, map.1].iter().all(|side| *side > 0));
        let Some((input, map, bytes)) = sizes else { return Err(shapes(session.as_ref())) };
        if matches!(session.input_mut(0)?, ValuesMut::U8(_)) != bytes {
            return Err(shapes(session.as_ref()));
        }
        Ok(Self { session, input, map, values: normalised_values() })
    }

    /// Puts a picture in: `small` holds three planes in `colour`, of the network's size turned as the frame lies.
    pub(crate) fn put(&mut self, small: &[u8], colour: Colour, rotation: Rotation) -> Result<()> {
        let (width, height) = self.input;
        let area = width * height;
        let lying = rotation.turned(self.input);
        let pixel = |x: usize, y: usize| {
            let at = rotation.source(lying, x, y);
            colour.rgb([small[at], small[area + at], small[2 * area + at]])
        };
        match self.session.input_mut(0)? {
            ValuesMut::U8(values) => {
                for (y, row) in values.chunks_exact_mut(3 * width).enumerate() {
                    for (x, to) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                        *to = pixel(x, y);
                    }
                }
            }
            ValuesMut::F32(values) => {
                let (red, rest) = values.split_at_mut(area);
                let (green, blue) = rest.split_at_mut(area);
                let planes = red.iter_mut().zip(green).zip(blue).enumerate();
                for (i, ((red, green), blue)) in planes {
                    let [r, g, b] = pixel(i % width, i / width);
                    *red = self.values[0][usize::from(r)];
                    *green = self.values[1][usize::from(g)];
                    *blue = self.values[2][usize::from(b)];
                }
            }
        }
        Ok(())
    }

    pub(crate) fn run(&mut self) -> Result<()> {
        Ok(self.session.run()?)
    }

    /// The map of the last run.
    pub(crate) fn values(&self) -> Result<Values<'_>> {
        let values = self.session.output_values(0)?;
        let expected = self.map.0 * self.map.1;
        if values.len() != expected {
            return Err(Error::Output { expected, got: values.len() });
        }
        Ok(values)
    }
}

fn shapes(session: &dyn Session) -> Error {
    Error::Shapes { inputs: session.input_shapes().to_vec(), outputs: session.output_shapes().to_vec() }
}
