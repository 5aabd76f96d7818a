//! What a convolution does with its sums while they are still in registers: bias, activation, max pooling.

use pulp::Simd;

use super::simd::{Lane, Real};
use crate::Activation;

/// Most values along an axis of a tile of outputs.
pub(crate) const SIDE: usize = 6;

/// Non-overlapping windows that start at the first output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    /// Their size, and the step between them, over (time, height, width).
    pub(crate) size: [usize; 3],
    /// How many there are.
    pub(crate) count: [usize; 3],
}

impl Windows {
    /// Whether tiles of this size begin and end at windows' borders.
    pub(crate) fn fit(&self, tile: [usize; 3]) -> bool {
        // Frames that share a window are handed on together, where time has no tiles.
        let frames = tile[0] == 1 && self.size[0] <= SIDE || tile[0].is_multiple_of(self.size[0]);
        frames && tile[1].is_multiple_of(self.size[1]) && tile[2].is_multiple_of(self.size[2])
    }
}

/// Where the results of a convolution go, and how they get there.
#[derive(Clone, Copy)]
pub(crate) struct After<T> {
    pub(crate) channels: usize,
    /// Sizes of the convolution's output over (time, height, width).
    pub(crate) output: [usize; 3],
    /// One value a channel, or null.
    pub(crate) bias: *const T,
    pub(crate) activation: Activation,
    pub(crate) windows: Option<Windows>,
    /// (n, t, h, w, c), pooled where there are windows.
    pub(crate) y: *mut T,
    /// Which value of its window each pooled value is, or null.
    pub(crate) places: *mut u8,
}

// SAFETY: tasks write results of their own.
unsafe impl<T: Send> Send for After<T> {}
unsafe impl<T: Sync> Sync for After<T> {}

/// Some channels of the outputs of a tile, which starts at `at` (sample, time, height, width): frames of rows of
/// [`SIDE`] values, of which `size` have a meaning.
pub(crate) struct Outputs<'a, T: Real, S: Simd> {
    pub(crate) values: &'a [[Lane<T, S>; SIDE * SIDE]],
    pub(crate) at: [usize; 4],
    pub(crate) size: [usize; 3],
    /// The first channel, and how many are left from it on.
    pub(crate) channel: usize,
    pub(crate) left: usize,
}

impl<T: Real> After<T> {
    /// The sums as they are.
    pub(crate) fn raw(channels: usize, output: [usize; 3], y: *mut T) -> Self {
        Self {
            channels,
            output,
            bias: std::ptr::null(),
            activation: Activation::None,
            windows: None,
            y,
            places: std::ptr::null_mut(),
        }
    }

    /// Stores the outputs that there are; a tile may reach beyond the last.
    ///
    /// # Safety
    /// The results can be written and are this call's alone. With windows, the tile starts and ends at windows'
    /// borders or at the output's end.
    #[inline(always)]
    pub(crate) unsafe fn store<S: Simd>(&self, s: S, outputs: &Outputs<'_, T, S>) {
        // SAFETY: the caller's promise.
        unsafe {
            match self.windows {
                None => self.store_all(s, outputs),
                Some(windows) => self.store_pooled(s, outputs, windows),
            }
        }
    }

    /// Bias and activation.
    #[inline(always)]
    pub(crate) unsafe fn finish<S: Simd>(
        &self,
        s: S,
        x: Lane<T, S>,
        channel: usize,
        left: usize,
    ) -> Lane<T, S> {
        let mut x = x;
        if !self.bias.is_null() {
            // SAFETY: there is one bias a channel.
            x = x + unsafe { Lane::load_up_to(s, self.bias.add(channel), left) };
        }
        activate(s, x, self.activation)
    }

    #[inline(always)]
    unsafe fn store_all<S: Simd>(&self, s: S, outputs: &Outputs<'_, T, S>) {
        let Outputs { values, at: [n, t, h, w], size, channel, left } = *outputs;
        let [times, height, width] = self.output;
        for f in 0..size[0].min(times - t) {
            for i in 0..size[1].min(height - h) {
                let row = ((n * times + t + f) * height + h + i) * width + w;
                for j in 0..size[2].min(width - w) {
                    let x = values[f][i * SIDE + j];
                    // SAFETY: the caller's promise; the place is inside the output.
                    unsafe {
                        let x = self.finish(s, x, channel, left);
                        x.store_up_to(self.y.add((row + j) * self.channels + channel), left);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn store_pooled<S: Simd>(&self, s: S, outputs: &Outputs<'_, T, S>, windows: Windows) {
        let Outputs { values, at: [n, t, h, w], size, channel, left } = *outputs;
        let there = [
            size[0].min(self.output[0] - t),
            size[1].min(self.output[1] - h),
            size[2].min(self.output[2] - w),
        ];
        let [kt, kh, kw] = windows.size;
        let first = [t / kt, h / kh, w / kw];
        for a in 0..there[0].div_ceil(kt).min(windows.count[0].saturating_sub(first[0])) {
            for b in 0..there[1].div_ceil(kh).min(windows.count[1].saturating_sub(first[1])) {
                for c in 0..there[2].div_ceil(kw).min(windows.count[2].saturating_sub(first[2])) {
                    let mut best = Best::new(values[a * kt][b * kh * SIDE + c * kw]);
                    for f in 0..kt.min(there[0] - a * kt) {
                        for i in 0..kh.min(there[1] - b * kh) {
                            for j in 0..kw.min(there[2] - c * kw) {
                                let x = values[a * kt + f][(b * kh + i) * SIDE + c * kw + j];
                                best.see(s, x, (f * kh + i) * kw + j);
                            }
                        }
                    }
                    let [count_t, count_h, count_w] = windows.count;
                    let row = (n * count_t + first[0] + a) * count_h + first[1] + b;
                    let to = (row * count_w + first[2] + c) * self.channels + channel;
                    // SAFETY: the caller's promise; the window is one of those that there are.
                    unsafe {
                        let x = self.finish(s, best.value(), channel, left);
                        x.store_up_to(self.y.add(to), left);
                        if !self.places.is_null() {
                            best.store_places(self.places.add(to), left);
                        }
                    }
                }
            }
        }
    }
}

/// The activation of a register.
#[inline(always)]
pub(crate) fn activate<T: Real, S: Simd>(s: S, x: Lane<T, S>, activation: Activation) -> Lane<T, S> {
    // Comparisons are written so that a value that is not a number stays so.
    let zero = Lane::zero(s);
    match activation {
        Activation::None => x,
        Activation::Relu => zero.if_greater(x, zero, x),
        Activation::Relu6 => {
            let six = Lane::splat(s, T::of(6.0));
            let x = zero.if_greater(x, zero, x);
            x.if_greater(six, six, x)
        }
    }
}

/// The gradient before an activation, from that after it and the result.
#[inline(always)]
pub(crate) fn gate<T: Real, S: Simd>(
    s: S,
    activation: Activation,
    result: Lane<T, S>,
    gradient: Lane<T, S>,
) -> Lane<T, S> {
    let zero = Lane::zero(s);
    match activation {
        Activation::None => gradient,
        Activation::Relu => result.if_greater(zero, gradient, zero),
        Activation::Relu6 => {
            let below = Lane::splat(s, T::of(6.0)).if_greater(result, gradient, zero);
            result.if_greater(zero, below, zero)
        }
    }
}

/// The largest value so far and its place, lane by lane. Of equal values the first counts. A value that is not a number
/// makes the result one, so that it does not vanish silently.
#[derive(Clone, Copy)]
pub(crate) struct Best<T: Real, S: Simd> {
    value: Lane<T, S>,
    place: Lane<T, S>,
    poison: Lane<T, S>,
}

impl<T: Real, S: Simd> Best<T, S> {
    /// Place 0.
    #[inline(always)]
    pub(crate) fn new(x: Lane<T, S>) -> Self {
        let zero = x.times(0.0);
        Self { value: x, place: zero, poison: zero }
    }

    /// None yet.
    #[inline(always)]
    pub(crate) fn lowest(s: S, infinity: Lane<T, S>) -> Self {
        let zero = Lane::zero(s);
        Self { value: infinity, place: zero, poison: zero }
    }

    #[inline(always)]
    pub(crate) fn see(&mut self, s: S, x: Lane<T, S>, place: usize) {
        let place = Lane::splat(s, T::of(place as f64));
        self.poison = self.poison.plus(0.0, x);
        self.place = x.if_greater(self.value, place, self.place);
        self.value = x.if_greater(self.value, x, self.value);
    }

    #[inline(always)]
    pub(crate) fn value(&self) -> Lane<T, S> {
        self.value + self.poison
    }

    /// # Safety
    /// `left` places, or a register's if those are fewer, can be written at `to`.
    #[inline(always)]
    pub(crate) unsafe fn store_places(&self, to: *mut u8, left: usize) {
        let lanes = T::lanes::<S>();
        let mut places = [T::default(); 64];
        // SAFETY: no register has more than 64 values.
        unsafe { self.place.store(places.as_mut_ptr()) };
        for (lane, place) in places[..lanes.min(left)].iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { *to.add(lane) = place.to_u8() };
        }
    }
}
