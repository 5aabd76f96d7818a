//! What stands for the CUDA kernels in a build without them: nothing serves.

use candle_core::{Result, Shape, Tensor};

use crate::kernel::adam::Item;
use crate::kernel::geometry::Geometry;
use crate::kernel::pool::Pooling;
use crate::{Activation, Lrn};

pub(crate) fn serves(_: &Tensor) -> bool {
    false
}

pub(crate) fn layer(
    _: [&Tensor; 2],
    _: Option<&Tensor>,
    _: (&Geometry, usize),
    _: Activation,
    _: Option<(Pooling, Shape)>,
    _: &Shape,
) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn bias_activation(
    _: &Tensor,
    _: Option<&Tensor>,
    _: Activation,
    _: Option<(Pooling, Shape)>,
) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn max_pool(_: &Tensor, _: Pooling, _: Shape) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn lrn(_: &Tensor, _: &Lrn) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn dropout(_: &Tensor, _: u16, _: f64, _: Vec<[u8; 32]>) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn log_softmax(_: &Tensor) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn l2_normalize(_: &Tensor) -> Result<Option<Tensor>> {
    Ok(None)
}

pub(crate) fn update(_: &[Item]) -> Result<()> {
    Ok(())
}
