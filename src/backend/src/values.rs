//! What tensors at a network's edge hold.

/// Values of an input, to be overwritten; row-major.
#[derive(Debug)]
pub enum ValuesMut<'a> {
    /// 32-bit floats.
    F32(&'a mut [f32]),
    /// Bytes, e.g. the pixels of a graph that normalises them itself.
    U8(&'a mut [u8]),
}

/// Values of an output; row-major.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// Bytes.
    U8(&'a [u8]),
}

impl ValuesMut<'_> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Overwrites with `values`, as far as both reach; bytes are rounded and clamped.
    pub fn copy_from(&mut self, values: &[f32]) {
        match self {
            Self::F32(to) => to.iter_mut().zip(values).for_each(|(to, from)| *to = *from),
            Self::U8(to) => to.iter_mut().zip(values).for_each(|(to, from)| *to = from.round() as u8),
        }
    }
}

impl Values<'_> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::U8(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy; bytes stay 0..255.
    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Self::F32(values) => values.to_vec(),
            Self::U8(values) => values.iter().map(|v| f32::from(*v)).collect(),
        }
    }
}
