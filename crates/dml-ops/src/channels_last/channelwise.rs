//! What is done to each channel, or at each position, by itself.

use candle_core::Tensor;

use super::{from_channels_first, to_channels_first};
use crate::conv::Sizes;
use crate::kernel::depthwise::Depthwise;
use crate::kernel::geometry::Geometry;
use crate::kernel::lrn::Normalise;
use crate::kernel::sums::{Means, Sums};
use crate::kernel::{Op, on_cpu_kernel};
use crate::{Activation, Conv2d, Lrn, OpError, Padding2d, Result, cuda, portable};

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
    let (n, height, width, c) = x.dims4()?;
    let (c_w, one, kh, kw) = w.dims4()?;
    if c_w != c {
        let problem = format!("must be [{c}, 1, kh, kw], is {:?}", w.dims());
        return Err(OpError::argument("depthwise_conv2d", "w", problem));
    }
    let options = Conv2d { stride, padding, groups: c, ..Conv2d::default() };
    let sizes = Sizes::of_2d(&options, n, [1, c], [height, width], [kh, kw]);
    let geometry = Geometry { c_in: c, ..sizes.check(one, bias)? };
    if !on_cpu_kernel(x) {
        let shape = (n, geometry.output[1], geometry.output[2], c).into();
        let whole = Geometry { c_out: c, ..geometry };
        if let Some(y) = cuda::layer([x, w], bias, (&whole, c), activation, None, &shape)? {
            return Ok(y);
        }
        let y = portable::conv2d(&to_channels_first(x)?, w, bias, &options)?;
        return from_channels_first(&portable::activate(&y, activation)?);
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
        if let Some(y) = cuda::lrn(x, options)? {
            return Ok(y);
        }
        let y = portable::lrn(&x.reshape(((), channels, 1, 1))?, options)?;
        return Ok(y.reshape(x.shape())?);
    }
    let Lrn { size, beta, k, .. } = *options;
    let shape = x.shape().clone();
    Ok(Op(Normalise { size, alpha: options.factor(), beta, k, channels, shape }).apply([x])?)
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
