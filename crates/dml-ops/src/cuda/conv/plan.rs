//! What a convolution is to cuDNN: its sizes, and their descriptors.

use std::ffi::c_int;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionMode_t, cudnnMathType_t, cudnnTensorFormat_t,
};
use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnDataType, CudnnError,
    FilterDescriptor, TensorDescriptor,
};
use candle_core::cuda_backend::gemm_reduced_precision_f32;
use candle_core::{DType, Error, Result, Tensor};

use super::super::Element;
use crate::kernel::geometry::Geometry;

/// The order of axes that cuDNN is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Order {
    ChannelsLast,
    ChannelsFirst,
}

/// The sizes of a convolution, with as many zeros before the first element of an axis as after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub(super) batch: usize,
    pub(super) channels: [usize; 2],
    pub(super) groups: usize,
    pub(super) input: [usize; 3],
    pub(super) kernel: [usize; 3],
    pub(super) stride: [usize; 3],
    pub(super) padding: [usize; 3],
    pub(super) output: [usize; 3],
    pub(super) order: Order,
}

/// The plan, and the input with zeros of its own where cuDNN's padding, the same on both sides, does not do.
pub(super) fn padded(x: &Tensor, g: &Geometry, groups: usize) -> Result<(Tensor, Plan)> {
    let mut x = x.clone();
    let (mut input, mut padding) = (g.input, g.low);
    let flat = x.rank() == 4;
    for axis in 0..3 {
        let both = input[axis] + 2 * padding[axis];
        if both >= g.kernel[axis] && (both - g.kernel[axis]) / g.stride[axis] + 1 == g.output[axis] {
            continue;
        }
        let reach = (g.output[axis] - 1) * g.stride[axis] + g.kernel[axis];
        let high = reach.saturating_sub(input[axis] + g.low[axis]);
        // A flat image has no time.
        let place = if flat { axis } else { axis + 1 };
        x = x.pad_with_zeros(place, g.low[axis], high)?;
        input[axis] += g.low[axis] + high;
        padding[axis] = 0;
    }
    let plan = Plan {
        batch: g.batch,
        channels: [g.c_in, g.c_out],
        groups,
        input,
        kernel: g.kernel,
        stride: g.stride,
        padding,
        output: g.output,
        order: Order::ChannelsLast,
    };
    Ok((x, plan))
}

/// cuDNN's description of a plan.
pub(super) struct Descriptors<T> {
    x: TensorDescriptor<T>,
    w: FilterDescriptor<T>,
    y: TensorDescriptor<T>,
    conv: ConvDescriptor<f32>,
}

impl<T: Element + CudnnDataType> Descriptors<T> {
    pub(super) fn new(cudnn: &Arc<Cudnn>, plan: Plan) -> Result<Self> {
        let Plan { batch, channels: [c_in, c_out], groups, kernel, order, .. } = plan;
        // Without time there is one axis less, for which cuDNN has more algorithms.
        let from = usize::from(plan.input[0] == 1 && kernel[0] == 1);
        let sizes = |sizes: [usize; 3]| -> Result<Vec<c_int>> {
            sizes[from..].iter().map(|&size| c_int::try_from(size).map_err(Error::wrap)).collect()
        };
        let image = |channels: usize, places: [usize; 3]| -> Result<TensorDescriptor<T>> {
            let mut dims = vec![batch as c_int, channels as c_int];
            dims.extend(sizes(places)?);
            let strides = strides(&dims, order)?;
            cudnn.create_nd_tensor::<T>(&dims, &strides).map_err(Error::wrap)
        };
        let format = match order {
            Order::ChannelsLast => cudnnTensorFormat_t::CUDNN_TENSOR_NHWC,
            Order::ChannelsFirst => cudnnTensorFormat_t::CUDNN_TENSOR_NCHW,
        };
        let mut filter = vec![c_out as c_int, (c_in / groups) as c_int];
        filter.extend(sizes(kernel)?);
        let one = vec![1; 3 - from];
        let mode = cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        let made = || -> std::result::Result<_, CudnnError> {
            let w = cudnn.create_nd_filter::<T>(format, &filter)?;
            let mut conv = cudnn.create_convnd::<f32>(
                &sizes(plan.padding).unwrap_or_default(),
                &sizes(plan.stride).unwrap_or_default(),
                &one,
                mode,
            )?;
            conv.set_group_count(groups as i32)?;
            conv.set_math_type(math_type::<T>())?;
            Ok((w, conv))
        };
        let (w, conv) = made().map_err(Error::wrap)?;
        Ok(Self { x: image(c_in, plan.input)?, w, y: image(c_out, plan.output)?, conv })
    }

    pub(super) fn forward(&self) -> ConvForward<'_, T, f32, T> {
        ConvForward { conv: &self.conv, x: &self.x, w: &self.w, y: &self.y }
    }

    pub(super) fn data(&self) -> ConvBackwardData<'_, T, f32, T> {
        ConvBackwardData { conv: &self.conv, dx: &self.x, w: &self.w, dy: &self.y }
    }

    pub(super) fn filter(&self) -> ConvBackwardFilter<'_, T, f32, T> {
        ConvBackwardFilter { conv: &self.conv, x: &self.x, dw: &self.w, dy: &self.y }
    }
}

/// The type of products: f32 in full unless TF32 is allowed (candle's setting for its matrix products serves here, too).
fn math_type<T: Element>() -> cudnnMathType_t {
    match T::DTYPE {
        DType::F32 if !gemm_reduced_precision_f32() => cudnnMathType_t::CUDNN_FMA_MATH,
        DType::F32 => cudnnMathType_t::CUDNN_DEFAULT_MATH,
        _ => cudnnMathType_t::CUDNN_TENSOR_OP_MATH,
    }
}

/// Steps in memory between neighbours along each axis of (n, c, …).
fn strides(dims: &[c_int], order: Order) -> Result<Vec<c_int>> {
    let axes: Vec<usize> = match order {
        Order::ChannelsFirst => (0..dims.len()).rev().collect(),
        Order::ChannelsLast => [1].into_iter().chain((2..dims.len()).rev()).chain([0]).collect(),
    };
    let mut strides = vec![0; dims.len()];
    let mut step: c_int = 1;
    for axis in axes {
        strides[axis] = step;
        step = step
            .checked_mul(dims[axis])
            .ok_or_else(|| Error::msg(format!("convolution: an image of {dims:?} is too large for cuDNN")))?;
    }
    Ok(strides)
}
