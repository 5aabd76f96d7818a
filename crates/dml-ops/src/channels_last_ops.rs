//! Operations on images whose channels are neighbours in memory: (n, h, w, c).

use candle_core::Tensor;

use crate::kernel::depthwise::Depthwise;
use crate::kernel::geometry::Geometry;
use crate::kernel::lrn_last::NormaliseLast;
use crate::kernel::sums::{Means, Sums};
use crate::kernel::transpose::Transpose;
use crate::kernel::{Op, on_cpu_kernel};
use crate::{Activation, Conv2d, Lrn, OpError, Padding2d, Result, portable, relu, relu6};

/// [`conv2d`](crate::conv2d) of each channel with a filter of its own, and the activation that follows, in one pass.
///
/// # Shapes
/// `x` (n, h, w, c), `w` (c, 1, kh, kw), `bias` (c) → (n, h', w', c) with h' = ⌊(h + top + bottom − kh) / stride⌋ + 1,
/// and so on; `stride` is over (height, width).
///
/// # Errors
/// If a shape does not fit, a stride is zero, or the kernel is larger than the padded input.
pub fn depthwise_conv2d(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    stride: [usize; 2],
    padding: Padding2d,
    activation: Activation,
) -> Result<Tensor> {
    let geometry = check(x, w, bias, stride, padding)?;
    if !on_cpu_kernel(x) {
        let options = Conv2d { stride, padding, groups: geometry.c_out };
        let y = portable::conv2d(&x.permute((0, 3, 1, 2))?, w, bias, &options)?;
        let y = match activation {
            Activation::None => y,
            Activation::Relu => relu(&y)?,
            Activation::Relu6 => relu6(&y)?,
        };
        return Ok(y.permute((0, 2, 3, 1))?.contiguous()?);
    }
    depthwise(x, w, bias, geometry, activation)
}

pub(crate) fn depthwise(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    geometry: Geometry,
    activation: Activation,
) -> Result<Tensor> {
    let op = Op(Depthwise { geometry, activation });
    Ok(match bias {
        Some(bias) => op.apply3([x, w, bias])?,
        None => op.apply2([x, w])?,
    })
}

fn check(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    stride: [usize; 2],
    p: Padding2d,
) -> Result<Geometry> {
    const NAME: &str = "depthwise_conv2d";
    let (batch, height, width, c) = x.dims4()?;
    let (c_w, one, kh, kw) = w.dims4()?;
    if c_w != c || one != 1 {
        return Err(OpError::argument(NAME, "w", format!("must be [{c}, 1, kh, kw], is {:?}", w.dims())));
    }
    if let Some(bias) = bias
        && bias.dims() != [c]
    {
        return Err(OpError::argument(NAME, "bias", format!("must have shape [{c}], has {:?}", bias.dims())));
    }
    if stride.contains(&0) {
        return Err(OpError::argument(NAME, "stride", "must not be 0"));
    }
    if [batch, height, width, c, kh, kw].contains(&0) {
        return Err(OpError::argument(NAME, "x, w", "must not be empty"));
    }
    let output = |size: usize, low: usize, high: usize, kernel: usize, stride: usize| {
        let room = (size + low + high).checked_sub(kernel).ok_or_else(|| {
            let problem = format!("has a kernel of {:?}, larger than the padded input", [kh, kw]);
            OpError::argument(NAME, "w", problem)
        })?;
        Result::Ok(room / stride + 1)
    };
    Ok(Geometry {
        batch,
        c_in: c,
        c_out: c,
        input: [1, height, width],
        kernel: [1, kh, kw],
        stride: [1, stride[0], stride[1]],
        low: [0, p.top, p.left],
        output: [
            1,
            output(height, p.top, p.bottom, kh, stride[0])?,
            output(width, p.left, p.right, kw, stride[1])?,
        ],
    })
}

/// [`lrn`](crate::lrn) in this order of axes.
///
/// # Shapes
/// `x` (n, h, w, c) → the same; any number of axes before the channels.
///
/// # Errors
/// As [`lrn`](crate::lrn).
pub fn lrn(x: &Tensor, options: &Lrn) -> Result<Tensor> {
    options.check()?;
    let Some(&channels) = x.dims().last() else {
        return Err(OpError::argument("lrn", "x", "must have channels, has no axes"));
    };
    if !on_cpu_kernel(x) {
        let y = portable::lrn(&x.reshape(((), channels, 1, 1))?, options)?;
        return Ok(y.reshape(x.shape())?);
    }
    let Lrn { size, beta, k, .. } = *options;
    let shape = x.shape().clone();
    Ok(Op(NormaliseLast { size, alpha: options.factor(), beta, k, channels, shape }).apply([x])?)
}

/// The mean of each channel over all positions.
///
/// # Shapes
/// `x` (n, h, w, c) → (n, c); any number of axes between.
///
/// # Errors
/// If there are fewer than two axes, or no positions.
pub fn mean_positions(x: &Tensor) -> Result<Tensor> {
    let [batch, places @ .., channels] = x.dims() else {
        let problem = format!("must have samples and channels, has {:?}", x.dims());
        return Err(OpError::argument("mean_positions", "x", problem));
    };
    let (batch, positions, channels) = (*batch, places.iter().product(), *channels);
    if positions == 0 {
        return Err(OpError::argument("mean_positions", "x", "must have positions"));
    }
    if !on_cpu_kernel(x) {
        return Ok(x.reshape((batch, positions, channels))?.mean(1)?);
    }
    let shape = (batch, channels).into();
    Ok(Op(Means(Sums { batch, positions, channels, shape })).apply([x])?)
}

pub(crate) fn from_channels_first(x: &Tensor) -> Result<Tensor> {
    let (batch, c, h, w) = x.dims4()?;
    Ok(Op(Transpose { batch, rows: c, columns: h * w, shape: (batch, h, w, c).into() }).apply([x])?)
}

pub(crate) fn to_channels_first(x: &Tensor) -> Result<Tensor> {
    let (batch, h, w, c) = x.dims4()?;
    Ok(Op(Transpose { batch, rows: h * w, columns: c, shape: (batch, c, h, w).into() }).apply([x])?)
}
