//! Exact Euclidean distance transform with the nearest site, in two passes over integer distances
//! (Felzenszwalb and Huttenlocher, 2012).

/// For every pixel of a `width`-wide grid the index of the nearest pixel for which `site` holds (itself if it is one).
///
/// Of several nearest ones: the leftmost, and in its column the topmost, which is also the choice of the usual
/// scientific Python function. `None` if there is no site at all.
pub(crate) fn nearest(width: usize, height: usize, site: impl Fn(usize) -> bool) -> Option<Vec<usize>> {
    let rows = nearest_in_columns(width, height, site);
    if rows.iter().all(Option::is_none) {
        return None;
    }
    let mut out = vec![0; width * height];
    let mut hull: Vec<Parabola> = Vec::with_capacity(width);
    for y in 0..height {
        hull.clear();
        for x in 0..width {
            if let Some(row) = rows[y * width + x] {
                push(&mut hull, Parabola::new(x, row, y));
            }
        }
        let mut at = 0;
        for x in 0..width {
            while at + 1 < hull.len() && hull[at + 1].at(x) < hull[at].at(x) {
                at += 1;
            }
            out[y * width + x] = hull[at].row * width + hull[at].x as usize;
        }
    }
    Some(out)
}

/// Squared distance along a row to the site (x, row): (x' - x)^2 + offset.
struct Parabola {
    x: i64,
    row: usize,
    offset: i64,
}

impl Parabola {
    fn new(x: usize, row: usize, y: usize) -> Self {
        let dy = row as i64 - y as i64;
        Self { x: x as i64, row, offset: dy * dy }
    }

    fn at(&self, x: usize) -> i64 {
        let dx = x as i64 - self.x;
        dx * dx + self.offset
    }

    /// Numerator and (positive) denominator of the place where `right` takes over from `self`.
    fn crossing(&self, right: &Self) -> (i64, i64) {
        let rise = right.x * right.x + right.offset - self.x * self.x - self.offset;
        (rise, 2 * (right.x - self.x))
    }
}

/// Adds a parabola right of all others to the lower envelope, dropping those it hides.
fn push(hull: &mut Vec<Parabola>, new: Parabola) {
    while let [.., before, last] = hull.as_slice() {
        let (a, b) = before.crossing(last);
        let (c, d) = last.crossing(&new);
        // last is nowhere the strict minimum if its take-over is not before new's
        if i128::from(a) * i128::from(d) < i128::from(c) * i128::from(b) {
            break;
        }
        hull.pop();
    }
    hull.push(new);
}

/// Row of the nearest site in each pixel's own column, the upper one of two.
fn nearest_in_columns(width: usize, height: usize, site: impl Fn(usize) -> bool) -> Vec<Option<usize>> {
    let mut rows: Vec<Option<usize>> = vec![None; width * height];
    for x in 0..width {
        let mut above = None;
        for y in 0..height {
            if site(y * width + x) {
                above = Some(y);
            }
            rows[y * width + x] = above;
        }
        let mut below: Option<usize> = None;
        for y in (0..height).rev() {
            let cell = &mut rows[y * width + x];
            if *cell == Some(y) {
                below = Some(y);
            } else if let Some(b) = below
                && cell.is_none_or(|a| b - y < y - a)
            {
                *cell = Some(b);
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::nearest;

    /// All sites tried, for every pixel, over pseudo-random masks of several densities and shapes.
    #[test]
    fn agrees_with_brute_force_and_its_tie_rule() {
        let mut state = 1u64;
        for (width, height) in [(1, 1), (1, 9), (9, 1), (7, 5), (16, 13), (23, 31)] {
            for density in [1, 3, 20, 60] {
                let sites: Vec<bool> = (0..width * height)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (state >> 33) % 100 < density
                    })
                    .collect();
                let found = nearest(width, height, |i| sites[i]);
                assert_eq!(found.is_none(), !sites.contains(&true));
                for (i, at) in found.into_iter().flatten().enumerate() {
                    let (x, y) = ((i % width) as i64, (i / width) as i64);
                    let best = (0..width * height)
                        .filter(|&j| sites[j])
                        .min_by_key(|&j| {
                            let (sx, sy) = ((j % width) as i64, (j / width) as i64);
                            ((x - sx).pow(2) + (y - sy).pow(2), sx, sy)
                        })
                        .unwrap();
                    assert_eq!(at, best, "{width}x{height}, pixel {i}");
                }
            }
        }
    }
}
