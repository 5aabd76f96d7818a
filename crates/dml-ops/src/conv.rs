use std::sync::OnceLock;

use candle_core::{Shape, Tensor};

use crate::channels_last::{self, depthwise, from_channels_first, max_pool, to_channels_first};
use crate::kernel::after::Windows;
use crate::kernel::conv::Conv;
use crate::kernel::geometry::Geometry;
use crate::kernel::{Op, on_cpu_kernel};
use crate::{Activation, Algorithm, OpError, Pool, Result, cuda, portable};

/// Stride and symmetric zero padding of [`conv3d`], each over (time, height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv3d {
    /// Steps between neighbouring windows.
    pub stride: [usize; 3],
    /// Zeros before the first and after the last element of each axis.
    pub padding: [usize; 3],
    /// How it is computed on the CPU.
    pub algorithm: Algorithm,
}

impl Default for Conv3d {
    /// Stride 1 and no padding.
    fn default() -> Self {
        Self { stride: [1; 3], padding: [0; 3], algorithm: Algorithm::Auto }
    }
}

/// Zeros around an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding2d {
    /// Rows above the first.
    pub top: usize,
    /// Rows below the last.
    pub bottom: usize,
    /// Columns before the first.
    pub left: usize,
    /// Columns after the last.
    pub right: usize,
}

impl Padding2d {
    /// TensorFlow's `SAME`: an output of `input / stride`, rounded up; an odd zero goes to the bottom or right.
    /// All arguments are over (height, width); a zero stride counts as 1.
    pub fn same(input: [usize; 2], kernel: [usize; 2], stride: [usize; 2]) -> Self {
        let total = |axis: usize| {
            let step = stride[axis].max(1);
            let windows = input[axis].div_ceil(step).max(1);
            ((windows - 1) * step + kernel[axis]).saturating_sub(input[axis])
        };
        let (rows, columns) = (total(0), total(1));
        Self { top: rows / 2, bottom: rows.div_ceil(2), left: columns / 2, right: columns.div_ceil(2) }
    }
}

/// Stride over (height, width), padding and groups of [`conv2d`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Steps between neighbouring windows.
    pub stride: [usize; 2],
    /// Zeros around the image.
    pub padding: Padding2d,
    /// 1, or the number of channels: each channel then has a filter of its own (a depthwise convolution).
    pub groups: usize,
    /// How it is computed on the CPU, with one group.
    pub algorithm: Algorithm,
}

impl Default for Conv2d {
    /// Stride 1, no padding, one group.
    fn default() -> Self {
        Self { stride: [1; 2], padding: Padding2d::default(), groups: 1, algorithm: Algorithm::Auto }
    }
}

/// Convolution over time, height and width (cross-correlation, as in all deep-learning libraries).
///
/// # Shapes
/// `x` (n, c, t, h, w), `w` (o, c, kt, kh, kw), `bias` (o) → (n, o, t', h', w') with
/// t' = ⌊(t + 2·padding − kt) / stride⌋ + 1, and so on.
///
/// # Errors
/// If a shape does not fit, a stride is zero, or the kernel is larger than the padded input.
pub fn conv3d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, options: &Conv3d) -> Result<Tensor> {
    let (n, c, t, h, width) = x.dims5()?;
    let (o, c_w, kt, kh, kw) = w.dims5()?;
    let geometry = Sizes::of_3d(options, n, [c, o], [t, h, width], [kt, kh, kw]).check(c_w, bias)?;
    if cuda::serves(x) {
        let then = channels_last::Then::default();
        return to_channels_first(&channels_last::conv3d(&from_channels_first(x)?, w, bias, options, &then)?);
    }
    if !on_cpu_kernel(x) {
        return portable::conv3d(x, w, bias, options);
    }
    let layer = Layer { geometry, activation: Activation::None, algorithm: options.algorithm };
    let x = from_channels_first(x)?;
    to_channels_first(&layer.apply(&x, w, bias, None, |[t, h, w]| (n, t, h, w, o).into())?)
}

/// Convolution over height and width (cross-correlation), of all channels or of each channel by itself.
///
/// # Shapes
/// `x` (n, c, h, w), `w` (o, c / groups, kh, kw), `bias` (o) → (n, o, h', w') with
/// h' = ⌊(h + top + bottom − kh) / stride⌋ + 1, and so on; with `groups` = c, o must be c.
///
/// # Errors
/// If a shape does not fit, the groups are neither 1 nor c, a stride is zero, or the kernel is larger than the padded
/// input.
pub fn conv2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, options: &Conv2d) -> Result<Tensor> {
    let (n, c, h, width) = x.dims4()?;
    let (o, c_w, kh, kw) = w.dims4()?;
    let by_channel = options.groups != 1;
    if by_channel && (options.groups != c || o != c) {
        let problem =
            format!("must be 1, or {c} with as many outputs (there are {o}); it is {}", options.groups);
        return Err(OpError::argument("conv2d", "groups", problem));
    }
    let channels = [if by_channel { 1 } else { c }, o];
    let mut geometry = Sizes::of_2d(options, n, channels, [h, width], [kh, kw]).check(c_w, bias)?;
    geometry.c_in = c;
    if cuda::serves(x) {
        let (x, &Conv2d { stride, padding, .. }) = (from_channels_first(x)?, options);
        return to_channels_first(&if by_channel {
            channels_last::depthwise_conv2d(&x, w, bias, stride, padding, Activation::None)?
        } else {
            channels_last::conv2d(&x, w, bias, options, &channels_last::Then::default())?
        });
    }
    if !on_cpu_kernel(x) {
        return portable::conv2d(x, w, bias, options);
    }
    if !by_channel {
        let layer = Layer { geometry, activation: Activation::None, algorithm: options.algorithm };
        let x = from_channels_first(x)?;
        return to_channels_first(&layer.apply(&x, w, bias, None, |[_, h, w]| (n, h, w, o).into())?);
    }
    to_channels_first(&depthwise(&from_channels_first(x)?, w, bias, geometry, Activation::None)?)
}

/// A convolution in channels-last order, with its activation.
pub(crate) struct Layer {
    pub(crate) geometry: Geometry,
    pub(crate) activation: Activation,
    pub(crate) algorithm: Algorithm,
}

impl Layer {
    /// `shape` names the result of these sizes over time, height and width.
    pub(crate) fn apply(
        self,
        x: &Tensor,
        w: &Tensor,
        bias: Option<&Tensor>,
        pool: Option<Pool<3>>,
        shape: impl Fn([usize; 3]) -> Shape,
    ) -> Result<Tensor> {
        let Self { geometry, activation, algorithm } = self;
        let pooled = pool.map(|pool| pool.output(geometry.output)).transpose()?;
        let windows = pool.zip(pooled).and_then(|(pool, count)| {
            let apart = pool.kernel == pool.stride && pool.padding == [0; 3];
            let few = pool.kernel.iter().product::<usize>() <= 256 && pool.kernel[0] <= 4;
            (apart && few).then_some(Windows { size: pool.kernel, count })
        });
        let op = Op(Conv {
            geometry,
            activation,
            windows,
            algorithm: algorithm.resolved(),
            shape: shape(windows.map_or(geometry.output, |windows| windows.count)),
            places: OnceLock::new(),
        });
        let y = match bias {
            Some(bias) => op.apply3([x, w, bias])?,
            None => op.apply2([x, w])?,
        };
        match pool.zip(pooled) {
            Some((pool, count)) if windows.is_none() => {
                max_pool(&y, geometry.batch, geometry.c_out, geometry.output, &pool, shape(count))
            }
            _ => Ok(y),
        }
    }
}

/// What a convolution is asked for, before it is known to be possible.
pub(crate) struct Sizes {
    op: &'static str,
    batch: usize,
    channels: [usize; 2],
    input: [usize; 3],
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: [[usize; 2]; 3],
}

impl Sizes {
    pub(crate) fn of_3d(
        options: &Conv3d,
        batch: usize,
        channels: [usize; 2],
        input: [usize; 3],
        kernel: [usize; 3],
    ) -> Self {
        let padding = options.padding.map(|p| [p, p]);
        Self { op: "conv3d", batch, channels, input, kernel, stride: options.stride, padding }
    }

    pub(crate) fn of_2d(
        options: &Conv2d,
        batch: usize,
        channels: [usize; 2],
        [h, w]: [usize; 2],
        [kh, kw]: [usize; 2],
    ) -> Self {
        let p = options.padding;
        Self {
            op: "conv2d",
            batch,
            channels,
            input: [1, h, w],
            kernel: [1, kh, kw],
            stride: [1, options.stride[0], options.stride[1]],
            padding: [[0, 0], [p.top, p.bottom], [p.left, p.right]],
        }
    }

    /// `c_w`: the input channels of the weights.
    pub(crate) fn check(&self, c_w: usize, bias: Option<&Tensor>) -> Result<Geometry> {
        let [c_in, c_out] = self.channels;
        if c_w != c_in {
            let problem = format!("must have {c_in} input channels, has {c_w}");
            return Err(OpError::argument(self.op, "w", problem));
        }
        if let Some(bias) = bias
            && bias.dims() != [c_out]
        {
            let problem = format!("must have shape [{c_out}], has {:?}", bias.dims());
            return Err(OpError::argument(self.op, "bias", problem));
        }
        if self.stride.contains(&0) {
            return Err(OpError::argument(self.op, "stride", "must not be 0"));
        }
        if c_in == 0 || c_out == 0 || self.batch == 0 || self.kernel.contains(&0) || self.input.contains(&0) {
            return Err(OpError::argument(self.op, "x, w", "must not be empty"));
        }
        let mut output = [0; 3];
        for (axis, output) in output.iter_mut().enumerate() {
            let padded = self.input[axis] + self.padding[axis][0] + self.padding[axis][1];
            let Some(room) = padded.checked_sub(self.kernel[axis]) else {
                let problem = format!("has a kernel of {:?}, larger than the padded input", self.kernel);
                return Err(OpError::argument(self.op, "w", problem));
            };
            *output = room / self.stride[axis] + 1;
        }
        Ok(Geometry {
            batch: self.batch,
            c_in,
            c_out,
            input: self.input,
            kernel: self.kernel,
            stride: self.stride,
            low: self.padding.map(|[low, _]| low),
            output,
        })
    }
}
