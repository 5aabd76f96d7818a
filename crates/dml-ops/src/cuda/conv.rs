//! Convolutions by cuDNN, in channels-last order where it has that.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cudnn::{Cudnn, CudnnDataType};
use candle_core::cuda_backend::cudarc::driver::CudaSlice;
use candle_core::cuda_backend::{CudaDevice, DeviceId};
use candle_core::{
    CpuStorage, CudaStorage, CustomOp2, DType, Error, Layout, Result, Shape, Tensor, backend::BackendStorage,
};

use super::{Element, by_type, not_on_cpu, result, serves, values, wrap};
use crate::backward::keep;
use crate::kernel::geometry::Geometry;
use algorithm::{DATA, Direction, FILTER, FORWARD, choose, key, room};
use plan::{Descriptors, Order, Plan, padded};

mod algorithm;
mod plan;

// cuDNN's handles belong to a thread, as in candle.
thread_local! {
    static HANDLES: RefCell<HashMap<DeviceId, Arc<Cudnn>>> = RefCell::default();
    /// Whether cuDNN has all three directions of a plan in channels-last order.
    static LAST: RefCell<HashMap<(DeviceId, Plan, DType), bool>> = RefCell::default();
}

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
