//! Convolution of channels-last images, with bias, activation and max pooling, and its gradients.

use std::sync::OnceLock;

use candle_core::{Error, Result, Shape, Tensor};

use super::after::{After, Windows};
use super::geometry::Geometry;
use super::pool::{Pooling, before_activation};
use super::result::{Place, written};
use super::scratch::Scratch;
use super::sums::Sums;
use super::winograd::{self, Time};
use super::{Kernel, Scalar, direct, gradients};
use crate::{Activation, Algorithm};

/// The inputs are x (n, t, h, w, c), the weights (o, c, kt, kh, kw) and, as a third, the bias (o).
pub(crate) struct Conv {
    pub(crate) geometry: Geometry,
    pub(crate) activation: Activation,
    /// Windows of a max pooling that follows: they do not overlap, and the first starts at the first output.
    pub(crate) windows: Option<Windows>,
    pub(crate) algorithm: Algorithm,
    pub(crate) shape: Shape,
    /// Where in its window each maximum is.
    pub(crate) places: OnceLock<Vec<u8>>,
}

/// What is wanted of the convolution; each may be faster by another algorithm.
#[derive(Clone, Copy)]
enum Direction {
    Forward,
    Data,
    Weights,
}

impl Conv {
    fn pooling(&self, windows: Windows) -> Pooling {
        Pooling {
            batch: self.geometry.batch,
            channels: self.geometry.c_out,
            input: self.geometry.output,
            kernel: windows.size,
            stride: windows.size,
            low: [0; 3],
            output: windows.count,
        }
    }

    /// The cheapest way by [`winograd::cost`] and [`direct::cost`], or the one that was asked for.
    fn time(&self, direction: Direction) -> Option<Time> {
        let g = match direction {
            Direction::Data => self.geometry.transposed(),
            _ => self.geometry,
        };
        if !winograd::serves(&self.geometry, Time::Whole) {
            return None;
        }
        let times = [Time::Whole, Time::Two, Time::Four];
        let times = times.into_iter().filter(|&time| winograd::serves(&self.geometry, time));
        match self.algorithm {
            Algorithm::Direct => None,
            Algorithm::Winograd(tile) => {
                let asked = if tile >= 4 {
                    Time::Four
                } else if tile >= 2 {
                    Time::Two
                } else {
                    Time::Whole
                };
                Some(if winograd::serves(&self.geometry, asked) { asked } else { Time::Whole })
            }
            Algorithm::Auto => {
                let of_weights = matches!(direction, Direction::Weights);
                let cheapest = times
                    .map(|time| (winograd::cost(&g, time, of_weights), Some(time)))
                    .chain([(direct::cost(&g, of_weights), None)])
                    .min_by(|a, b| a.0.total_cmp(&b.0));
                cheapest.and_then(|(_, time)| time)
            }
        }
    }

    fn forward<T: Scalar>(&self, x: &[T], w: &[T], bias: Option<&[T]>) -> Vec<T> {
        let len = self.shape.elem_count();
        let mut places = vec![0; if self.windows.is_some() { len } else { 0 }];
        // SAFETY: a convolution gives every output.
        let y = unsafe { written(len, |y| self.write(x, w, bias, y.at(0), &mut places)) };
        if self.windows.is_some() {
            // The operation runs once; a second run would find the same places.
            let _ = self.places.set(places);
        }
        y
    }

    fn write<T: Scalar>(&self, x: &[T], w: &[T], bias: Option<&[T]>, y: *mut T, places: &mut [u8]) {
        let g = &self.geometry;
        let after = After {
            channels: g.c_out,
            output: g.output,
            bias: bias.map_or(std::ptr::null(), <[T]>::as_ptr),
            activation: self.activation,
            windows: self.windows,
            y,
            places: if places.is_empty() { std::ptr::null_mut() } else { places.as_mut_ptr() },
        };
        match (self.time(Direction::Forward), self.windows) {
            (Some(time), Some(windows)) if !windows.fit(winograd::tile(g, time)) => {
                let mut z = Scratch::<T>::new(g.batch * g.out_positions() * g.c_out);
                winograd::forward(g, time, x, w, &After::raw(g.c_out, g.output, z.as_mut_ptr()));
                self.pooling(windows).forward(&z, &after);
            }
            (Some(time), _) => winograd::forward(g, time, x, w, &after),
            (None, Some(windows)) => direct::forward_pooled(g, x, w, &self.pooling(windows), &after),
            (None, None) => direct::forward(g, x, w, &after),
        }
    }

    fn backward<T: Scalar>(
        &self,
        x: &[T],
        w: &[T],
        [result, dy]: [&[T]; 2],
        [want_x, want_w, want_bias]: [bool; 3],
    ) -> Result<[Option<Vec<T>>; 3]> {
        let g = &self.geometry;
        let (before, pooled): (Scratch<T>, Scratch<T>);
        // The gradient of the sums, and that of what is left of them after pooling: both have the bias's as their sum.
        let mut few = None;
        let dz = match (self.windows, self.activation) {
            (None, Activation::None) => dy,
            (None, activation) => {
                before = before_activation(activation, result, dy);
                &before
            }
            (Some(windows), activation) => {
                let Some(places) = self.places.get() else {
                    return Err(Error::BackwardNotSupported { op: "conv before its forward pass" });
                };
                let mut dz = Scratch::new(g.batch * g.out_positions() * g.c_out);
                pooled = before_activation(activation, result, dy);
                self.pooling(windows).backward(&pooled, places, &mut dz);
                few = Some(&pooled[..]);
                before = dz;
                &before
            }
        };
        let dx = want_x.then(|| {
            let write = |dx: Place<T>| {
                let after = After::raw(g.c_in, g.input, dx.at(0));
                match self.time(Direction::Data) {
                    Some(time) => winograd::data_gradient(g, time, w, dz, &after),
                    None => direct::data_gradient(g, w, dz, &after),
                }
            };
            // SAFETY: a convolution gives every output.
            unsafe { written(x.len(), write) }
        });
        let dw = want_w.then(|| {
            let write = |dw: Place<T>| match self.time(Direction::Weights) {
                // SAFETY: this is the only writer.
                Some(time) => unsafe { winograd::weight_gradient(g, time, x, dz, dw) },
                // SAFETY: as above.
                None => unsafe { direct::weight_gradient(g, x, dz, dw) },
            };
            // SAFETY: both write every weight.
            unsafe { written(w.len(), write) }
        });
        let sums = || {
            let few = few.unwrap_or(dz);
            let positions = few.len() / g.c_out;
            Sums { batch: 1, positions, channels: g.c_out, shape: g.c_out.into() }.of(few)
        };
        Ok([dx, dw, want_bias.then(sums)])
    }
}

impl Kernel<2> for Conv {
    const NAME: &'static str = "conv";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [x, w]: [&[T]; 2]) -> Vec<T> {
        self.forward(x, w, None)
    }

    fn backward(
        &self,
        inputs: [&Tensor; 2],
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 2]> {
        gradients(self, inputs, result, gradient)
    }

    fn gradients<T: Scalar>(
        &self,
        [x, w]: [&[T]; 2],
        values: [&[T]; 2],
        [want_x, want_w]: [bool; 2],
    ) -> Result<[Option<Vec<T>>; 2]> {
        let [dx, dw, _] = Conv::backward(self, x, w, values, [want_x, want_w, false])?;
        Ok([dx, dw])
    }
}

impl Kernel<3> for Conv {
    const NAME: &'static str = "conv";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [x, w, bias]: [&[T]; 3]) -> Vec<T> {
        self.forward(x, w, Some(bias))
    }

    fn backward(
        &self,
        inputs: [&Tensor; 3],
        result: &Tensor,
        gradient: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        gradients(self, inputs, result, gradient)
    }

    fn gradients<T: Scalar>(
        &self,
        [x, w, _]: [&[T]; 3],
        values: [&[T]; 2],
        wanted: [bool; 3],
    ) -> Result<[Option<Vec<T>>; 3]> {
        Conv::backward(self, x, w, values, wanted)
    }
}
