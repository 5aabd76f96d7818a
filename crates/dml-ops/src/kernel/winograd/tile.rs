//! From images to points and back, one tile at a time, a register of channels at a time.

use std::ops::Range;

use pulp::Simd;

use super::axis::{Axis, Line, MOST};
use crate::kernel::after::{After, Outputs, SIDE};
use crate::kernel::simd::{Lane, Real};

/// Values of a frame of a tile.
const FRAME: usize = MOST * MOST;

/// Where the values of a tile lie: for each frame and place (rows of [`MOST`]) its first channel; zeros outside the image.
pub(super) type Places<T> = [[*const T; FRAME]; MOST];

/// A linear map onto the points of an axis.
pub(super) trait Map {
    /// How many values it takes, and how many points there are.
    const FROM: usize;
    const POINTS: usize;

    fn map<T: Real, S: Simd>(line: Line<T, S>) -> Line<T, S>;
}

/// Bᵀ, of inputs.
pub(super) struct Inputs<A>(std::marker::PhantomData<A>);

impl<A: Axis> Map for Inputs<A> {
    const FROM: usize = A::POINTS;
    const POINTS: usize = A::POINTS;

    #[inline(always)]
    fn map<T: Real, S: Simd>(line: Line<T, S>) -> Line<T, S> {
        A::input(line)
    }
}

/// A, of gradients of outputs.
pub(super) struct Gradients<A>(std::marker::PhantomData<A>);

impl<A: Axis> Map for Gradients<A> {
    const FROM: usize = A::OUTPUTS;
    const POINTS: usize = A::POINTS;

    #[inline(always)]
    fn map<T: Real, S: Simd>(line: Line<T, S>) -> Line<T, S> {
        A::gradient(line)
    }
}

/// Writes the points of a tile: point p of channel c to `v[p·stride + c]`, whole registers.
///
/// # Safety
/// `channels` values can be read at every place, whole registers of them written at every point.
#[inline(always)]
pub(super) unsafe fn to_points<T: Real, S: Simd, Sp: Map, Ti: Map>(
    s: S,
    places: &Places<T>,
    channels: usize,
    v: *mut T,
    stride: usize,
) {
    let lanes = T::lanes::<S>();
    let whole = channels / lanes * lanes;
    let mut frames = [[Lane::zero(s); FRAME]; MOST];
    let mut channel = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while channel < whole {
            block_to_points::<T, S, Sp, Ti, false>(s, places, channel, lanes, v, stride, &mut frames);
            channel += lanes;
        }
        if channel < channels {
            let left = channels - channel;
            block_to_points::<T, S, Sp, Ti, true>(s, places, channel, left, v, stride, &mut frames);
        }
    }
}

#[inline(always)]
unsafe fn block_to_points<T: Real, S: Simd, Sp: Map, Ti: Map, const PART: bool>(
    s: S,
    places: &Places<T>,
    channel: usize,
    left: usize,
    v: *mut T,
    stride: usize,
    frames: &mut [[Lane<T, S>; FRAME]; MOST],
) {
    let zero = Lane::zero(s);
    for f in 0..Ti::FROM {
        let mut columns = [[zero; MOST]; MOST];
        for j in 0..Sp::FROM {
            let mut line = [zero; MOST];
            for i in 0..Sp::FROM {
                // SAFETY: the caller's promise.
                line[i] = unsafe {
                    let from = places[f][i * MOST + j].add(channel);
                    if PART { Lane::load_up_to(s, from, left) } else { Lane::load(s, from) }
                };
            }
            let line = Sp::map(line);
            for i in 0..Sp::POINTS {
                columns[i][j] = line[i];
            }
        }
        for i in 0..Sp::POINTS {
            let line = Sp::map(columns[i]);
            for j in 0..Sp::POINTS {
                if Ti::POINTS == 1 {
                    // SAFETY: the caller's promise.
                    unsafe { line[j].store(v.add((i * Sp::POINTS + j) * stride + channel)) };
                } else {
                    frames[f][i * Sp::POINTS + j] = line[j];
                }
            }
        }
    }
    if Ti::POINTS == 1 {
        return;
    }
    for p in 0..Sp::POINTS * Sp::POINTS {
        let mut line = [zero; MOST];
        for f in 0..Ti::FROM {
            line[f] = frames[f][p];
        }
        let line = Ti::map(line);
        for f in 0..Ti::POINTS {
            // SAFETY: the caller's promise.
            unsafe { line[f].store(v.add((f * Sp::POINTS * Sp::POINTS + p) * stride + channel)) };
        }
    }
}

/// Hands some channels of the outputs of neighbouring tiles, one after the other in time, to `after`: `m` are the tiles'
/// first points of these channels, `at` is where the first of them starts (sample, time, height, width).
///
/// # Safety
/// Whole registers of these channels can be read at every point; the promises of [`After::store`].
#[inline(always)]
pub(super) unsafe fn from_points<T: Real, S: Simd, Sp: Axis, Ti: Axis>(
    s: S,
    m: &[*const T],
    stride: usize,
    at: [usize; 4],
    channels: Range<usize>,
    after: &After<T>,
) {
    let lanes = T::lanes::<S>();
    let zero = Lane::zero(s);
    let points = Sp::POINTS * Sp::POINTS;
    let mut values = [[zero; SIDE * SIDE]; MOST];
    let mut frames = [[zero; FRAME]; MOST];
    let mut channel = channels.start;
    while channel < channels.end {
        let place = channel - channels.start;
        for (tile, &m) in m.iter().enumerate() {
            for p in 0..points {
                let mut line = [zero; MOST];
                for f in 0..Ti::POINTS {
                    // SAFETY: the caller's promise.
                    line[f] = unsafe { Lane::load(s, m.add((f * points + p) * stride + place)) };
                }
                let line = Ti::output(line);
                for f in 0..Ti::OUTPUTS {
                    frames[f][p] = line[f];
                }
            }
            for f in 0..Ti::OUTPUTS {
                let mut columns = [[zero; MOST]; MOST];
                for j in 0..Sp::POINTS {
                    let mut line = [zero; MOST];
                    for i in 0..Sp::POINTS {
                        line[i] = frames[f][i * Sp::POINTS + j];
                    }
                    let line = Sp::output(line);
                    for i in 0..Sp::OUTPUTS {
                        columns[i][j] = line[i];
                    }
                }
                for i in 0..Sp::OUTPUTS {
                    let line = Sp::output(columns[i]);
                    for j in 0..Sp::OUTPUTS {
                        values[tile * Ti::OUTPUTS + f][i * SIDE + j] = line[j];
                    }
                }
            }
        }
        let size = [m.len() * Ti::OUTPUTS, Sp::OUTPUTS, Sp::OUTPUTS];
        let outputs = Outputs { values: &values, at, size, channel, left: channels.end - channel };
        // SAFETY: the caller's promise.
        unsafe { after.store(s, &outputs) };
        channel += lanes;
    }
}
