use std::sync::OnceLock;

use candle_core::{Error, Result as CandleResult, Shape, Tensor};

use crate::channels_last::{self, from_channels_first, to_channels_first};
use crate::kernel::after::After;
use crate::kernel::pool::Pooling;
use crate::kernel::{Kernel, Scalar, gradients, on_cpu_kernel};
use crate::{OpError, Result, cuda, portable};

/// Windows of a pooling over the last `N` axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool<const N: usize> {
    /// Size of a window.
    pub kernel: [usize; N],
    /// Steps between neighbouring windows.
    pub stride: [usize; N],
    /// How far the first window starts before the input, and the last may end after it; less than the kernel. The
    /// windows are clipped to the input: the padding has no value.
    pub padding: [usize; N],
    /// Round the number of windows up (Caffe, torch's `ceil_mode`) instead of down. A last window that would start
    /// beyond the input and the padding before it is left out.
    pub ceil: bool,
}

impl<const N: usize> Pool<N> {
    /// The sizes of the result for inputs of these sizes.
    ///
    /// # Errors
    /// If the kernel or stride has a zero, the padding is not less than the kernel, or no window fits.
    pub fn output(&self, input: [usize; N]) -> Result<[usize; N]> {
        let refuse = |argument, problem: String| OpError::argument("max_pool", argument, problem);
        let mut output = [0; N];
        for (axis, output) in output.iter_mut().enumerate() {
            let (size, kernel, stride) = (input[axis], self.kernel[axis], self.stride[axis]);
            let padding = self.padding[axis];
            if kernel == 0 || stride == 0 {
                return Err(refuse("kernel, stride", "must not be 0".into()));
            }
            if padding >= kernel {
                return Err(refuse(
                    "padding",
                    format!("of {padding} is not less than the kernel's {kernel}"),
                ));
            }
            let reach = size + 2 * padding + if self.ceil { stride - 1 } else { 0 };
            let mut windows = reach.checked_sub(kernel).map_or(0, |room| room / stride + 1);
            if windows > 0 && (windows - 1) * stride >= size + padding {
                windows -= 1;
            }
            if windows == 0 || size == 0 {
                return Err(refuse("kernel", format!("of {kernel} does not fit into an input of {size}")));
            }
            *output = windows;
        }
        Ok(output)
    }
}

impl Pool<2> {
    /// The same over one frame.
    pub(crate) fn with_time(&self) -> Pool<3> {
        let with_time = |first: usize, [h, w]: [usize; 2]| [first, h, w];
        Pool {
            kernel: with_time(1, self.kernel),
            stride: with_time(1, self.stride),
            padding: with_time(0, self.padding),
            ceil: self.ceil,
        }
    }
}

/// The maximum of each window over time, height and width. The gradient goes to the first maximum of a window; a window
/// with a value that is not finite gives one that is not a number.
///
/// # Shapes
/// `x` (n, c, t, h, w) → (n, c, t', h', w'), see [`Pool::output`].
///
/// # Errors
/// If the windows do not fit the input, or have more than 256 elements.
pub fn max_pool3d(x: &Tensor, pool: &Pool<3>) -> Result<Tensor> {
    let (_, _, t, h, w) = x.dims5()?;
    pool.output([t, h, w])?;
    if !on_cpu_kernel(x) && !cuda::serves(x) {
        return portable::max_pool3d(x, pool);
    }
    to_channels_first(&channels_last::max_pool3d(&from_channels_first(x)?, pool)?)
}

/// The maximum of each window over height and width; see [`max_pool3d`].
///
/// # Shapes
/// `x` (n, c, h, w) → (n, c, h', w'), see [`Pool::output`].
///
/// # Errors
/// If the windows do not fit the input, or have more than 256 elements.
pub fn max_pool2d(x: &Tensor, pool: &Pool<2>) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    pool.output([h, w])?;
    if !on_cpu_kernel(x) && !cuda::serves(x) {
        return portable::max_pool2d(x, pool);
    }
    to_channels_first(&channels_last::max_pool2d(&from_channels_first(x)?, pool)?)
}

/// Max pooling in channels-last order.
pub(crate) struct MaxPool {
    pooling: Pooling,
    shape: Shape,
    /// Where in its window each maximum is.
    places: OnceLock<Vec<u8>>,
}

impl MaxPool {
    pub(crate) fn new(pooling: Pooling, shape: Shape) -> Self {
        Self { pooling, shape, places: OnceLock::new() }
    }
}

impl Kernel<1> for MaxPool {
    const NAME: &'static str = "max-pool";

    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn run<T: Scalar>(&self, [x]: [&[T]; 1]) -> Vec<T> {
        let mut y = vec![T::zero(); self.pooling.outputs()];
        let mut places = vec![0; y.len()];
        let after = After {
            places: places.as_mut_ptr(),
            ..After::raw(self.pooling.channels, self.pooling.output, y.as_mut_ptr())
        };
        self.pooling.forward(x, &after);
        // The operation runs once; a second run would find the same places.
        let _ = self.places.set(places);
        y
    }

    fn backward(
        &self,
        inputs: [&Tensor; 1],
        result: &Tensor,
        gradient: &Tensor,
    ) -> CandleResult<[Option<Tensor>; 1]> {
        gradients(self, inputs, result, gradient)
    }

    fn gradients<T: Scalar>(
        &self,
        [x]: [&[T]; 1],
        [_, dy]: [&[T]; 2],
        _: [bool; 1],
    ) -> CandleResult<[Option<Vec<T>>; 1]> {
        let Some(places) = self.places.get() else {
            return Err(Error::BackwardNotSupported { op: "max-pool before its forward pass" });
        };
        let mut dx = vec![T::zero(); x.len()];
        self.pooling.backward(dy, places, &mut dx);
        Ok([Some(dx)])
    }
}
