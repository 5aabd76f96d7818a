//! The tiles of a pass, chunk by chunk, and their way from images to points and back.

use std::marker::PhantomData;
use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::axis::{Axis, MOST};
use super::tile::{self, Map, Places};
use crate::kernel::after::After;
use crate::kernel::geometry::Geometry;
use crate::kernel::scratch::Scratch;
use crate::kernel::simd::dispatch;
use crate::kernel::{MatrixMut, Scalar};

/// Values between the matrices of two points beyond their size, so that they do not fall on the same cache sets.
pub(super) const APART: usize = 272;
/// Tiles that a task transforms.
pub(super) const TILES: usize = 4;

/// The tiles of a pass. Where time has no tiles, the frames of a tile are matrices of their own, one after the other.
pub(super) struct Tiles {
    pub(super) over: [usize; 3],
    /// All, and those of a chunk.
    pub(super) count: usize,
    pub(super) chunk: usize,
}

impl Tiles {
    /// `width`: values of a tile and its frames that are kept, for all points together; `chunk`: bytes of a chunk.
    pub(super) fn new<T, Sp: Axis, Ti: Axis>(g: &Geometry, width: usize, chunk: usize) -> Self {
        let [times, height, columns] = g.output;
        let whole = Ti::POINTS == 1;
        let over = [
            if whole { 1 } else { times.div_ceil(Ti::OUTPUTS) },
            height.div_ceil(Sp::OUTPUTS),
            columns.div_ceil(Sp::OUTPUTS),
        ];
        let count = g.batch * over.iter().product::<usize>();
        let most = (chunk / (width * size_of::<T>())).clamp(TILES, count.max(TILES));
        // Chunks of equal size, rather than a small one at the end.
        let chunk = count.div_ceil(count.div_ceil(most)).next_multiple_of(TILES).min(count);
        Self { over, count, chunk }
    }

    /// Where a tile starts: sample, and tile over (time, height, width).
    pub(super) fn at(&self, tile: usize) -> [usize; 4] {
        let [t, h, w] = self.over;
        [tile / (t * h * w), tile / (h * w) % t, tile / w % h, tile % w]
    }

    pub(super) fn chunks(&self) -> impl Iterator<Item = Range<usize>> {
        (0..self.count).step_by(self.chunk).map(|start| start..(start + self.chunk).min(self.count))
    }
}

/// One operand of the products: an image, as points.
pub(super) struct Image<'a, T> {
    pub(super) values: &'a [T],
    pub(super) sizes: [usize; 3],
    pub(super) channels: usize,
    /// A channel's worth of nothing.
    pub(super) zeros: &'a [T],
    /// Zeros before the first value of each axis, as the filter sees them.
    pub(super) low: [usize; 3],
    /// Values of a tile's start after that of the tile before.
    pub(super) step: [usize; 3],
}

/// The points of a chunk: for each point the frames' matrices, of a row a tile.
pub(super) struct Points<'a, T> {
    pub(super) values: MatrixMut<T>,
    /// From a point to the next.
    pub(super) stride: usize,
    /// Values of a row.
    pub(super) row: usize,
    pub(super) tiles: &'a Tiles,
}

impl<'a, T: Scalar> Points<'a, T> {
    pub(super) fn new(memory: &mut Scratch<T>, stride: usize, row: usize, tiles: &'a Tiles) -> Self {
        Self { values: MatrixMut::new(memory), stride, row, tiles }
    }

    /// Values for so many points.
    pub(super) fn size(points: usize, frames: usize, row: usize, tiles: &Tiles) -> (usize, usize) {
        let stride = frames * tiles.chunk * row + APART;
        (stride, stride * points)
    }

    pub(super) fn fill<Sp: Map, Ti: Map>(&self, image: &Image<'_, T>, chunk: Range<usize>, frames: usize) {
        let tiles = chunk.len();
        (0..frames * tiles.div_ceil(TILES)).into_par_iter().for_each(|task| {
            let (frame, first) = (task % frames, task / frames * TILES);
            let task = ToPoints::<T, Sp, Ti> {
                image,
                points: self,
                chunk: chunk.start,
                tiles: first..(first + TILES).min(tiles),
                in_chunk: tiles,
                frame,
                axes: PhantomData,
            };
            dispatch(task);
        });
    }
}

/// The transform of some tiles' frames.
pub(super) struct ToPoints<'a, T, Sp, Ti> {
    pub(super) image: &'a Image<'a, T>,
    pub(super) points: &'a Points<'a, T>,
    pub(super) chunk: usize,
    pub(super) tiles: Range<usize>,
    pub(super) in_chunk: usize,
    pub(super) frame: usize,
    pub(super) axes: PhantomData<(Sp, Ti)>,
}

impl<T: Scalar, Sp: Map, Ti: Map> WithSimd for ToPoints<'_, T, Sp, Ti> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Image { values, sizes: [times, height, width], channels, zeros, low, step } = *self.image;
        for tile in self.tiles {
            let [n, t, h, w] = self.points.tiles.at(self.chunk + tile);
            let t = if Ti::POINTS == 1 { self.frame } else { (t * step[0]).wrapping_sub(low[0]) };
            let (h, w) = ((h * step[1]).wrapping_sub(low[1]), (w * step[2]).wrapping_sub(low[2]));
            let mut places: Places<T> = [[zeros.as_ptr(); MOST * MOST]; MOST];
            for (f, places) in places.iter_mut().enumerate().take(Ti::FROM) {
                let t = t.wrapping_add(f);
                for i in 0..Sp::FROM {
                    let h = h.wrapping_add(i);
                    if t >= times || h >= height {
                        continue;
                    }
                    let row = ((n * times + t) * height + h) * width;
                    for j in 0..Sp::FROM {
                        let w = w.wrapping_add(j);
                        if w < width {
                            places[i * MOST + j] = values[(row + w) * channels..].as_ptr();
                        }
                    }
                }
            }
            let to = (self.frame * self.in_chunk + tile) * self.points.row;
            // SAFETY: every place has `channels` values; this tile's rows are this task's alone.
            unsafe {
                let v = self.points.values.start().add(to);
                tile::to_points::<T, S, Sp, Ti>(s, &places, channels, v, self.points.stride);
            }
        }
    }
}

/// The transform back, of some tiles' frames.
pub(super) struct FromPoints<'a, T, Sp, Ti> {
    pub(super) points: &'a Points<'a, T>,
    pub(super) after: &'a After<T>,
    pub(super) chunk: usize,
    pub(super) tiles: Range<usize>,
    pub(super) in_chunk: usize,
    pub(super) frames: Range<usize>,
    pub(super) channels: Range<usize>,
    pub(super) axes: PhantomData<(Sp, Ti)>,
}

impl<T: Scalar, Sp: Axis, Ti: Axis> WithSimd for FromPoints<'_, T, Sp, Ti> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let mut rows = [std::ptr::null(); MOST];
        for tile in self.tiles {
            let [n, t, h, w] = self.points.tiles.at(self.chunk + tile);
            let t = if Ti::POINTS == 1 { self.frames.start } else { t * Ti::OUTPUTS };
            for (row, frame) in rows.iter_mut().zip(self.frames.clone()) {
                let from = (frame * self.in_chunk + tile) * self.points.row;
                *row = self.points.values.start().wrapping_add(from).cast_const();
            }
            let at = [n, t, h * Sp::OUTPUTS, w * Sp::OUTPUTS];
            // SAFETY: the points have those rows; the outputs of this tile are this task's alone.
            unsafe {
                let rows = &rows[..self.frames.len()];
                let channels = self.channels.clone();
                tile::from_points::<T, S, Sp, Ti>(s, rows, self.points.stride, at, channels, self.after);
            }
        }
    }
}
