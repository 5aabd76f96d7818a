//! The operations on images and clips whose channels are neighbours in memory: (n, h, w, c) and (n, t, h, w, c).
//!
//! That is the order in which the CPU kernels work. A network that stays in it from its first to its last layer pays for
//! no transposition, and its convolutions do activation and pooling on the way. The functions of the crate's root take
//! candle's usual order and convert.

use candle_core::{Shape, Tensor};

use crate::conv::{Layer, Sizes};
use crate::kernel::geometry::Geometry;
use crate::kernel::pool::Pooling;
use crate::kernel::transpose::Transpose;
use crate::kernel::{Op, on_cpu_kernel};
use crate::pool::MaxPool;
use crate::{Activation, Conv2d, Conv3d, OpError, Pool, Result, cuda, portable};

mod channelwise;

pub(crate) use channelwise::depthwise;
pub use channelwise::{depthwise_conv2d, lrn, mean_positions};

/// What follows a convolution in the same pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Then<const N: usize> {
    /// The activation of the sums and bias.
    pub activation: Activation,
    /// Max pooling of the activations.
    pub pool: Option<Pool<N>>,
}

impl<const N: usize> Default for Then<N> {
    /// Nothing.
    fn default() -> Self {
        Self { activation: Activation::None, pool: None }
    }
}

impl<const N: usize> Then<N> {
    /// A ReLU, and a pooling if there is one.
    pub fn relu(pool: Option<Pool<N>>) -> Self {
        Self { activation: Activation::Relu, pool }
    }
}

/// From candle's usual order of axes.
///
/// # Shapes
/// (n, c, …) → (n, …, c)
///
/// # Errors
/// If there are fewer than two axes.
pub fn from_channels_first(x: &Tensor) -> Result<Tensor> {
    let [n, c, places @ ..] = x.dims() else { return Err(too_flat(x)) };
    let shape: Vec<usize> = [*n].into_iter().chain(places.iter().copied()).chain([*c]).collect();
    transpose(x, [*n, *c, places.iter().product()], shape)
}

/// To candle's usual order of axes.
///
/// # Shapes
/// (n, …, c) → (n, c, …)
///
/// # Errors
/// If there are fewer than two axes.
pub fn to_channels_first(x: &Tensor) -> Result<Tensor> {
    let [n, places @ .., c] = x.dims() else { return Err(too_flat(x)) };
    let shape: Vec<usize> = [*n, *c].into_iter().chain(places.iter().copied()).collect();
    transpose(x, [*n, places.iter().product(), *c], shape)
}

fn too_flat(x: &Tensor) -> OpError {
    OpError::argument("channels_last", "x", format!("must have samples and channels, has {:?}", x.dims()))
}

fn transpose(x: &Tensor, [batch, rows, columns]: [usize; 3], shape: Vec<usize>) -> Result<Tensor> {
    if rows == 1 || columns == 1 {
        return Ok(x.reshape(shape)?);
    }
    if !on_cpu_kernel(x) {
        return Ok(x.reshape((batch, rows, columns))?.transpose(1, 2)?.reshape(shape)?);
    }
    Ok(Op(Transpose { batch, rows, columns, shape: shape.into() }).apply([x])?)
}

/// [`conv3d`](crate::conv3d) in this order of axes, and what follows it.
///
/// # Shapes
/// `x` (n, t, h, w, c), `w` (o, c, kt, kh, kw), `bias` (o) → (n, t', h', w', o)
///
/// # Errors
/// As [`conv3d`](crate::conv3d), or if the pooling does not fit.
pub fn conv3d(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    options: &Conv3d,
    then: &Then<3>,
) -> Result<Tensor> {
    let (n, t, h, width, c) = x.dims5()?;
    let (o, c_w, kt, kh, kw) = w.dims5()?;
    let geometry = Sizes::of_3d(options, n, [c, o], [t, h, width], [kt, kh, kw]).check(c_w, bias)?;
    let shape = |[t, h, w]: [usize; 3]| (n, t, h, w, o).into();
    if !on_cpu_kernel(x) {
        if let Some(y) = on_gpu([x, w], bias, &geometry, then.activation, then.pool, shape)? {
            return Ok(y);
        }
        let y = portable::conv3d(&to_channels_first(x)?, w, bias, options)?;
        let y = portable::activate(&y, then.activation)?;
        let y = then.pool.map_or(Ok(y.clone()), |pool| portable::max_pool3d(&y, &pool))?;
        return from_channels_first(&y);
    }
    let layer = Layer { geometry, activation: then.activation, algorithm: options.algorithm };
    layer.apply(x, w, bias, then.pool, shape)
}

/// [`conv2d`](crate::conv2d) with one group, in this order of axes, and what follows it.
///
/// # Shapes
/// `x` (n, h, w, c), `w` (o, c, kh, kw), `bias` (o) → (n, h', w', o)
///
/// # Errors
/// As [`conv2d`](crate::conv2d), if there are groups, or if the pooling does not fit.
pub fn conv2d(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    options: &Conv2d,
    then: &Then<2>,
) -> Result<Tensor> {
    let (n, h, width, c) = x.dims4()?;
    let (o, c_w, kh, kw) = w.dims4()?;
    if options.groups != 1 {
        return Err(OpError::argument("conv2d", "groups", "must be 1 here"));
    }
    let geometry = Sizes::of_2d(options, n, [c, o], [h, width], [kh, kw]).check(c_w, bias)?;
    let pool = then.pool.map(|pool| pool.with_time());
    let shape = |[_, h, w]: [usize; 3]| (n, h, w, o).into();
    if !on_cpu_kernel(x) {
        if let Some(y) = on_gpu([x, w], bias, &geometry, then.activation, pool, shape)? {
            return Ok(y);
        }
        let y = portable::conv2d(&to_channels_first(x)?, w, bias, options)?;
        let y = portable::activate(&y, then.activation)?;
        let y = then.pool.map_or(Ok(y.clone()), |pool| portable::max_pool2d(&y, &pool))?;
        return from_channels_first(&y);
    }
    let layer = Layer { geometry, activation: then.activation, algorithm: options.algorithm };
    layer.apply(x, w, bias, pool, shape)
}

/// A convolution by cuDNN and what follows it in a pass, where there is one.
fn on_gpu(
    [x, w]: [&Tensor; 2],
    bias: Option<&Tensor>,
    geometry: &Geometry,
    activation: Activation,
    pool: Option<Pool<3>>,
    shape: impl Fn([usize; 3]) -> Shape,
) -> Result<Option<Tensor>> {
    let &Geometry { batch, c_out, output, .. } = geometry;
    let pool = pool
        .map(|pool| Ok::<_, OpError>((pooling(batch, c_out, output, &pool)?, shape(pool.output(output)?))));
    let unpooled = shape(output);
    Ok(cuda::layer([x, w], bias, (geometry, 1), activation, pool.transpose()?, &unpooled)?)
}

/// [`max_pool3d`](crate::max_pool3d) in this order of axes.
///
/// # Shapes
/// `x` (n, t, h, w, c) → (n, t', h', w', c), see [`Pool::output`]
///
/// # Errors
/// If the windows do not fit the input.
pub fn max_pool3d(x: &Tensor, pool: &Pool<3>) -> Result<Tensor> {
    let (n, t, h, w, c) = x.dims5()?;
    let output = pool.output([t, h, w])?;
    let shape: Shape = (n, output[0], output[1], output[2], c).into();
    if !on_cpu_kernel(x) {
        if let Some(y) = cuda::max_pool(x, pooling(n, c, [t, h, w], pool)?, shape)? {
            return Ok(y);
        }
        return from_channels_first(&portable::max_pool3d(&to_channels_first(x)?, pool)?);
    }
    max_pool(x, n, c, [t, h, w], pool, shape)
}

/// [`max_pool2d`](crate::max_pool2d) in this order of axes.
///
/// # Shapes
/// `x` (n, h, w, c) → (n, h', w', c), see [`Pool::output`]
///
/// # Errors
/// If the windows do not fit the input.
pub fn max_pool2d(x: &Tensor, pool: &Pool<2>) -> Result<Tensor> {
    let (n, h, w, c) = x.dims4()?;
    let output = pool.output([h, w])?;
    let shape: Shape = (n, output[0], output[1], c).into();
    if !on_cpu_kernel(x) {
        if let Some(y) = cuda::max_pool(x, pooling(n, c, [1, h, w], &pool.with_time())?, shape)? {
            return Ok(y);
        }
        return from_channels_first(&portable::max_pool2d(&to_channels_first(x)?, pool)?);
    }
    max_pool(x, n, c, [1, h, w], &pool.with_time(), shape)
}

pub(crate) fn max_pool(
    x: &Tensor,
    batch: usize,
    channels: usize,
    input: [usize; 3],
    pool: &Pool<3>,
    shape: Shape,
) -> Result<Tensor> {
    Ok(Op(MaxPool::new(pooling(batch, channels, input, pool)?, shape)).apply([x])?)
}

fn pooling(batch: usize, channels: usize, input: [usize; 3], pool: &Pool<3>) -> Result<Pooling> {
    if batch * channels == 0 {
        return Err(OpError::argument("max_pool", "x", "must not be empty"));
    }
    // Places within a window are kept in 8 bits.
    if pool.kernel.iter().product::<usize>() > 256 {
        return Err(OpError::argument("max_pool", "kernel", "has more than 256 elements"));
    }
    let output = pool.output(input)?;
    let Pool { kernel, stride, padding: low, .. } = *pool;
    Ok(Pooling { batch, channels, input, kernel, stride, low, output })
}
