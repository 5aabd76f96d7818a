use candle_core::{Shape, Tensor};

use crate::kernel::pool::{MaxPool, Windows};
use crate::kernel::{Op, on_cpu_kernel};
use crate::{OpError, Result, portable};

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

/// The maximum of each window over time, height and width. The gradient goes to the first maximum of a window.
///
/// # Shapes
/// `x` (n, c, t, h, w) → (n, c, t', h', w'), see [`Pool::output`].
///
/// # Errors
/// If the windows do not fit the input.
pub fn max_pool3d(x: &Tensor, pool: &Pool<3>) -> Result<Tensor> {
    let (n, c, t, h, w) = x.dims5()?;
    let input = [t, h, w];
    let output = pool.output(input)?;
    if !on_cpu_kernel(x) {
        return portable::max_pool3d(x, pool);
    }
    let windows = Windows { input, kernel: pool.kernel, stride: pool.stride, low: pool.padding, output };
    max_pool(x, windows, n * c, (n, c, output[0], output[1], output[2]).into())
}

/// The maximum of each window over height and width. The gradient goes to the first maximum of a window.
///
/// # Shapes
/// `x` (n, c, h, w) → (n, c, h', w'), see [`Pool::output`].
///
/// # Errors
/// If the windows do not fit the input.
pub fn max_pool2d(x: &Tensor, pool: &Pool<2>) -> Result<Tensor> {
    let (n, c, h, w) = x.dims4()?;
    let output = pool.output([h, w])?;
    if !on_cpu_kernel(x) {
        return portable::max_pool2d(x, pool);
    }
    let with_time = |first: usize, [h, w]: [usize; 2]| [first, h, w];
    let windows = Windows {
        input: [1, h, w],
        kernel: with_time(1, pool.kernel),
        stride: with_time(1, pool.stride),
        low: with_time(0, pool.padding),
        output: with_time(1, output),
    };
    max_pool(x, windows, n * c, (n, c, output[0], output[1]).into())
}

fn max_pool(x: &Tensor, windows: Windows, planes: usize, shape: Shape) -> Result<Tensor> {
    if planes == 0 {
        return Err(OpError::argument("max_pool", "x", "must not be empty"));
    }
    // Places within a plane are kept in 32 bits.
    if windows.input.iter().product::<usize>() > u32::MAX as usize {
        return Err(OpError::argument("max_pool", "x", "has more than 2^32 elements in a channel"));
    }
    Ok(Op(MaxPool::new(windows, planes, shape)).apply([x])?)
}
