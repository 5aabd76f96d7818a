//! The operations against torch, their gradients against central differences, the CPU kernels against the portable
//! compositions, and one thread against two.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod adam;
mod arguments;
mod cuda_kernels;
mod dropout;
mod encoder;
mod golden;
mod gradients;
mod init;
#[cfg(feature = "cuda")]
mod on_gpu;
mod portable;
mod threads;
mod winograd;

use candle_core::{DType, Device, Shape, Tensor, Var};
use dml_ops::Result;
use dml_rand::{Purpose, Stream};

/// Normal values, f64.
fn normal(shape: impl Into<Shape>, sample: u64) -> Tensor {
    let mut stream = Stream::new(1, Purpose::Test, 0, sample);
    dml_ops::init::normal(shape, (0.0, 1.0), &mut stream, DType::F64, &Device::Cpu).unwrap()
}

/// Values in [−1, 1] of which no two are equal or close, nor any to 0, f64: for maxima and the rectifier's kink.
fn distinct(shape: impl Into<Shape>, sample: u64) -> Tensor {
    let shape = shape.into();
    let count = shape.elem_count();
    let order = Stream::new(2, Purpose::Test, 0, sample).permutation(count);
    let values: Vec<f64> = order.into_iter().map(|i| (4 * i + 3) as f64 / (2 * count) as f64 - 1.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The values in row-major order.
fn values(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The result of a function and the gradients of `sum(result · direction)`, the direction a function of the shape.
fn gradients(
    inputs: &[Tensor],
    function: impl Fn(&[Tensor]) -> Result<Tensor>,
    direction: impl Fn(&[usize]) -> Tensor,
) -> (Tensor, Vec<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let result = function(&tensors).unwrap();
    let direction = direction(result.dims()).to_dtype(result.dtype()).unwrap();
    let store = (&result * direction).unwrap().sum_all().unwrap().backward().unwrap();
    let gradients = vars.iter().map(|var| store.get(var).unwrap().clone()).collect();
    (result.detach(), gradients)
}

/// Fails unless two lists differ by at most `tolerance`, relative to the largest of 1, the value and the root mean square
/// of the expected values.
fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let squares: f64 = expected.iter().map(|x| x * x).sum();
    let scale = (squares / expected.len().max(1) as f64).sqrt().max(1.0);
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / expected.abs().max(scale);
        assert!(error <= tolerance, "{what}: element {i} is {found}, not {expected}");
    }
}
