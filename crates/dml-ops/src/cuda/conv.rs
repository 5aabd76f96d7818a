//! Convolutions by cuDNN, in channels-last order where it has that.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::sys::{
    cudnnConvolutionBwdDataAlgo_t as DataAlgorithm, cudnnConvolutionBwdFilterAlgo_t as FilterAlgorithm,
    cudnnConvolutionFwdAlgo_t as ForwardAlgorithm, cudnnConvolutionMode_t, cudnnMathType_t,
    cudnnTensorFormat_t,
};
use candle_core::cuda_backend::cudarc::cudnn::{
    ConvBackwardData, ConvBackwardFilter, ConvDescriptor, ConvForward, Cudnn, CudnnDataType, CudnnError,
    FilterDescriptor, TensorDescriptor,
};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, sys};
use candle_core::cuda_backend::{CudaDevice, DeviceId, gemm_reduced_precision_f32};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, DType, Error, Layout, Result, Shape, Tensor, backend::BackendStorage,
};

use super::{Element, by_type, not_on_cpu, result, serves, values, wrap};
use crate::algorithm::{benchmark, exact};
use crate::backward::keep;
use crate::kernel::geometry::Geometry;

/// Bytes of working memory that an algorithm may take.
const WORKSPACE: usize = 1 << 30;

/// The order of axes that cuDNN is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Order {
    ChannelsLast,
    ChannelsFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Direction {
    Forward,
    Data,
    Filter,
}

/// The sizes of a convolution, with as many zeros before the first element of an axis as after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Plan {
    batch: usize,
    channels: [usize; 2],
    groups: usize,
    input: [usize; 3],
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: [usize; 3],
    output: [usize; 3],
    order: Order,
}

/// What an algorithm is chosen for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    device: DeviceId,
    plan: Plan,
    direction: Direction,
    dtype: DType,
    tensor_cores: bool,
    exact: bool,
    benchmark: bool,
}

// cuDNN's handles belong to a thread, as in candle.
thread_local! {
    static HANDLES: RefCell<HashMap<DeviceId, Arc<Cudnn>>> = RefCell::default();
    /// Algorithms by their place in the lists below, and their working memory in bytes.
    static CHOSEN: RefCell<HashMap<Key, (usize, usize)>> = RefCell::default();
    /// Whether cuDNN has all three directions of a plan in channels-last order.
    static LAST: RefCell<HashMap<(DeviceId, Plan, DType), bool>> = RefCell::default();
}

// The algorithms that give the same bits at every run; the first is taken where nothing else can be.
const FORWARD: [ForwardAlgorithm; 7] = [
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_PRECOMP_GEMM,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_GEMM,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_WINOGRAD_NONFUSED,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_FFT,
    ForwardAlgorithm::CUDNN_CONVOLUTION_FWD_ALGO_FFT_TILING,
];
const DATA: [DataAlgorithm; 5] = [
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_1,
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD,
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_WINOGRAD_NONFUSED,
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT,
    DataAlgorithm::CUDNN_CONVOLUTION_BWD_DATA_ALGO_FFT_TILING,
];
const FILTER: [FilterAlgorithm; 4] = [
    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1,
    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_WINOGRAD_NONFUSED,
    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT,
    FilterAlgorithm::CUDNN_CONVOLUTION_BWD_FILTER_ALGO_FFT_TILING,
];
/// How many of each list are sums over the kernel's taps as they are written.
const PLAIN: [usize; 3] = [3, 1, 1];

/// The sums of a convolution of `groups` groups, without bias.
///
/// # Shapes
/// `x` (n, …, c), `w` (o, c / groups, …) → `shape`, (n, …, o)
pub(crate) fn convolution(
    x: &Tensor,
    w: &Tensor,
    geometry: &Geometry,
    groups: usize,
    shape: &Shape,
) -> Result<Option<Tensor>> {
    if !serves(x) || x.dtype() != w.dtype() {
        return Ok(None);
    }
    let (x, plan) = padded(x, geometry, groups)?;
    let device = x.device().as_cuda_device()?;
    let plan = Plan {
        order: if last(device, plan, x.dtype())? { Order::ChannelsLast } else { Order::ChannelsFirst },
        ..plan
    };
    if plan.order == Order::ChannelsFirst {
        let x = crate::channels_last::to_channels_first(&x).map_err(Error::wrap)?.contiguous()?;
        let [n, .., c] = shape.dims() else { return Ok(None) };
        let y: Vec<usize> =
            [*n, *c].into_iter().chain(shape.dims()[1..shape.rank() - 1].iter().copied()).collect();
        let y = x.apply_op2(&w.contiguous()?, Convolution { plan, shape: y.into() })?;
        return crate::channels_last::from_channels_first(&y).map_err(Error::wrap)?.contiguous().map(Some);
    }
    // (o, kt, kh, kw, c), or without kt.
    let axes: Vec<usize> = [0].into_iter().chain(2..w.rank()).chain([1]).collect();
    let w = w.permute(axes)?.contiguous()?;
    x.contiguous()?.apply_op2(&w, Convolution { plan, shape: shape.clone() }).map(Some)
}

/// The plan, and the input with zeros of its own where cuDNN's padding, the same on both sides, does not do.
fn padded(x: &Tensor, g: &Geometry, groups: usize) -> Result<(Tensor, Plan)> {
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

fn handle(device: &CudaDevice) -> Result<Arc<Cudnn>> {
    HANDLES.with_borrow_mut(|handles| {
        if let Some(handle) = handles.get(&device.id()) {
            return Ok(handle.clone());
        }
        let handle = Cudnn::new(device.cuda_stream()).map_err(Error::wrap)?;
        handles.insert(device.id(), handle.clone());
        Ok(handle)
    })
}

/// Whether cuDNN answers for all three directions in channels-last order.
fn last(device: &CudaDevice, plan: Plan, dtype: DType) -> Result<bool> {
    fn ask<T: Element + CudnnDataType>(cudnn: &Arc<Cudnn>, plan: Plan) -> Result<bool> {
        let all = Descriptors::<T>::new(cudnn, plan)?;
        Ok(all.forward().get_workspace_size(FORWARD[0]).is_ok()
            && all.data().get_workspace_size(DATA[0]).is_ok()
            && all.filter().get_workspace_size(FILTER[0]).is_ok())
    }
    let key = (device.id(), plan, dtype);
    if let Some(known) = LAST.with_borrow(|last| last.get(&key).copied()) {
        return Ok(known);
    }
    let cudnn = handle(device)?;
    let answer = by_type!(dtype, "convolution", ask(&cudnn, plan))?;
    LAST.with_borrow_mut(|last| last.insert(key, answer));
    Ok(answer)
}

struct Descriptors<T> {
    x: TensorDescriptor<T>,
    w: FilterDescriptor<T>,
    y: TensorDescriptor<T>,
    conv: ConvDescriptor<f32>,
}

impl<T: Element + CudnnDataType> Descriptors<T> {
    fn new(cudnn: &Arc<Cudnn>, plan: Plan) -> Result<Self> {
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

    fn forward(&self) -> ConvForward<'_, T, f32, T> {
        ConvForward { conv: &self.conv, x: &self.x, w: &self.w, y: &self.y }
    }

    fn data(&self) -> ConvBackwardData<'_, T, f32, T> {
        ConvBackwardData { conv: &self.conv, dx: &self.x, w: &self.w, dy: &self.y }
    }

    fn filter(&self) -> ConvBackwardFilter<'_, T, f32, T> {
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

/// The place of an algorithm in its list, and its working memory: chosen once for each key. By default it is cuDNN's
/// guess, where that gives the same bits at every run and its memory is bounded; `benchmark` times all.
fn choose<A: Copy + PartialEq>(
    key: Key,
    stream: &Arc<CudaStream>,
    all: &[A],
    guess: impl FnOnce() -> std::result::Result<A, CudnnError>,
    workspace: impl Fn(A) -> std::result::Result<usize, CudnnError>,
    mut run: impl FnMut(A, &mut CudaSlice<u8>) -> std::result::Result<(), CudnnError>,
) -> Result<(usize, usize)> {
    if let Some(known) = CHOSEN.with_borrow(|chosen| chosen.get(&key).copied()) {
        return Ok(known);
    }
    let all = &all[..if key.exact { PLAIN[key.direction as usize] } else { all.len() }];
    let fits = |place: usize| workspace(all[place]).ok().filter(|&bytes| bytes <= WORKSPACE);
    let mut choice = None;
    if key.benchmark {
        let mut best = f32::INFINITY;
        for (place, &algorithm) in all.iter().enumerate() {
            let Some(bytes) = fits(place) else { continue };
            let mut memory = room(stream, bytes)?;
            // The first run is not measured; an algorithm that fails is not taken.
            if run(algorithm, &mut memory).is_err() {
                continue;
            }
            let timing = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
            let start = stream.record_event(timing).map_err(Error::wrap)?;
            let done = run(algorithm, &mut memory);
            let end = stream.record_event(timing).map_err(Error::wrap)?;
            let took = start.elapsed_ms(&end).map_err(Error::wrap)?;
            if done.is_ok() && took < best {
                (best, choice) = (took, Some((place, bytes)));
            }
        }
    } else if let Ok(guess) = guess() {
        let place = all.iter().position(|&algorithm| algorithm == guess);
        choice = place.and_then(|place| Some((place, fits(place)?)));
    }
    let choice = choice.or_else(|| (0..all.len()).find_map(|place| Some((place, fits(place)?))));
    let Some(choice) = choice else {
        let problem = format!("cuDNN has no algorithm within {} MiB for {:?}", WORKSPACE >> 20, key.plan);
        return Err(Error::msg(problem));
    };
    CHOSEN.with_borrow_mut(|chosen| chosen.insert(key, choice));
    Ok(choice)
}

fn room(stream: &Arc<CudaStream>, bytes: usize) -> Result<CudaSlice<u8>> {
    // SAFETY: cuDNN writes its working memory before it reads it.
    unsafe { stream.alloc::<u8>(bytes) }.map_err(|error| {
        Error::wrap(error).context(format!("no room on the GPU for cuDNN's {} MiB", bytes >> 20))
    })
}

fn key(device: &CudaDevice, plan: Plan, direction: Direction, dtype: DType) -> Key {
    let tensor_cores = dtype != DType::F32 || gemm_reduced_precision_f32();
    Key { device: device.id(), plan, direction, dtype, tensor_cores, exact: exact(), benchmark: benchmark() }
}

/// x and w → y.
struct Convolution {
    plan: Plan,
    shape: Shape,
}

/// w and dy → dx.
struct DataGradient {
    plan: Plan,
    shape: Shape,
}

/// x and dy → dw.
struct FilterGradient {
    plan: Plan,
    shape: Shape,
}

/// One of the three as candle's operation of two inputs.
macro_rules! operation {
    ($op:ident, $name:literal, $direction:ident, $list:ident, $method:ident, |$conv:ident, $algorithm:ident, $memory:ident, $a:ident, $b:ident, $to:ident| $launch:expr) => {
        impl $op {
            fn run<T: Element + CudnnDataType>(
                &self,
                (a, a_layout): (&CudaStorage, &Layout),
                (b, b_layout): (&CudaStorage, &Layout),
            ) -> Result<(CudaStorage, Shape)> {
                let device = a.device();
                let stream = device.cuda_stream();
                let descriptors = Descriptors::<T>::new(&handle(device)?, self.plan)?;
                let $conv = descriptors.$method();
                let ($a, $b) = (&values::<T>(a, a_layout)?, &values::<T>(b, b_layout)?);
                let mut to = result::<T>(device, &self.shape, $name)?;
                let launch = |$algorithm, $memory: &mut CudaSlice<u8>, $to: &mut CudaSlice<T>| {
                    let $memory = Some($memory);
                    // SAFETY: the operands are laid out as the descriptors say, and of their sizes.
                    unsafe { $launch }
                };
                let key = key(device, self.plan, Direction::$direction, T::DTYPE);
                let (place, bytes) = choose(
                    key,
                    &stream,
                    &$list,
                    || $conv.pick_algorithm(),
                    |algorithm| $conv.get_workspace_size(algorithm),
                    |algorithm, memory| launch(algorithm, memory, &mut to),
                )?;
                let mut memory = room(&stream, bytes)?;
                launch($list[place], &mut memory, &mut to)
                    .map_err(|error| Error::wrap(error).context(format!("{} of {:?}", $name, self.plan)))?;
                Ok(wrap(to, device, &self.shape))
            }

            fn on_cuda(
                &self,
                a: (&CudaStorage, &Layout),
                b: (&CudaStorage, &Layout),
            ) -> Result<(CudaStorage, Shape)> {
                fn run<T: Element + CudnnDataType>(
                    op: &$op,
                    a: (&CudaStorage, &Layout),
                    b: (&CudaStorage, &Layout),
                ) -> Result<(CudaStorage, Shape)> {
                    op.run::<T>(a, b)
                }
                by_type!(a.0.dtype(), $name, run(self, a, b))
            }
        }
    };
}

operation!(Convolution, "convolution", Forward, FORWARD, forward, |conv, algorithm, memory, x, w, y| conv
    .launch(algorithm, memory, (T::from_f64(1.0), T::from_f64(0.0)), x, w, y));
operation!(
    DataGradient,
    "data gradient of a convolution",
    Data,
    DATA,
    data,
    |conv, algorithm, memory, w, dy, dx| conv.launch(
        algorithm,
        memory,
        (T::from_f64(1.0), T::from_f64(0.0)),
        dx,
        w,
        dy
    )
);
operation!(
    FilterGradient,
    "weight gradient of a convolution",
    Filter,
    FILTER,
    filter,
    |conv, algorithm, memory, x, dy, dw| conv.launch(
        algorithm,
        memory,
        (T::from_f64(1.0), T::from_f64(0.0)),
        x,
        dw,
        dy
    )
);

impl CustomOp2 for Convolution {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        not_on_cpu(self.name())
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        x_layout: &Layout,
        w: &CudaStorage,
        w_layout: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.on_cuda((x, x_layout), (w, w_layout))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (plan, dy) = (self.plan, gradient.contiguous()?);
        let dx = || w.apply_op2_no_bwd(&dy, &DataGradient { plan, shape: x.shape().clone() });
        let dw = || x.apply_op2_no_bwd(&dy, &FilterGradient { plan, shape: w.shape().clone() });
        let (dx, dw) = (x.track_op().then(dx).transpose()?, w.track_op().then(dw).transpose()?);
        Ok((keep(x, dx)?, keep(w, dw)?))
    }
}

/// The gradients' forms of a custom operation.
macro_rules! gradient {
    ($op:ident, $name:literal) => {
        impl CustomOp2 for $op {
            fn name(&self) -> &'static str {
                $name
            }

            fn cpu_fwd(
                &self,
                _: &CpuStorage,
                _: &Layout,
                _: &CpuStorage,
                _: &Layout,
            ) -> Result<(CpuStorage, Shape)> {
                not_on_cpu($name)
            }

            fn cuda_fwd(
                &self,
                a: &CudaStorage,
                a_layout: &Layout,
                b: &CudaStorage,
                b_layout: &Layout,
            ) -> Result<(CudaStorage, Shape)> {
                self.on_cuda((a, a_layout), (b, b_layout))
            }
        }
    };
}

gradient!(DataGradient, "convolution-data-gradient");
gradient!(FilterGradient, "convolution-weight-gradient");
