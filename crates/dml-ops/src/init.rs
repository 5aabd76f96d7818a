//! Initial values of parameters, drawn from a stream of their own.

use candle_core::{DType, Device, Shape, Tensor};
use dml_rand::Stream;

use crate::Result;

/// Uniform in [low, high). The elements are drawn in row-major order.
///
/// # Errors
/// If the device has no room, or no such type.
pub fn uniform(
    shape: impl Into<Shape>,
    (low, high): (f64, f64),
    stream: &mut Stream,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    draw(shape.into(), || stream.range(low, high), dtype, device)
}

/// Normal with this mean and standard deviation. The elements are drawn in row-major order.
///
/// # Errors
/// If the device has no room, or no such type.
pub fn normal(
    shape: impl Into<Shape>,
    (mean, deviation): (f64, f64),
    stream: &mut Stream,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    draw(shape.into(), || mean + deviation * stream.normal(), dtype, device)
}

/// Orthogonal rows and columns: those of a matrix of normal values, made orthogonal from the first row on (Saxe et al.,
/// ICLR 2014). For recurrent layers, which keep the length of their state so.
///
/// # Shapes
/// (size, size)
///
/// # Errors
/// If the device has no room, or no such type.
pub fn orthogonal(size: usize, stream: &mut Stream, dtype: DType, device: &Device) -> Result<Tensor> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut rows: Vec<f64> = Vec::with_capacity(size * size);
    while rows.len() < size * size {
        let mut row: Vec<f64> = (0..size).map(|_| stream.normal()).collect();
        for other in rows.chunks_exact(size) {
            let along = dot(other, &row);
            row.iter_mut().zip(other).for_each(|(x, other)| *x -= along * other);
        }
        let length = dot(&row, &row).sqrt();
        // A draw that hardly leaves the others' span would bring their rounding with it.
        if length > 1e-6 {
            rows.extend(row.iter().map(|x| x / length));
        }
    }
    Ok(Tensor::from_vec(rows, (size, size), device)?.to_dtype(dtype)?)
}

/// The same value everywhere.
///
/// # Errors
/// If the device has no room, or no such type.
pub fn constant(shape: impl Into<Shape>, value: f64, dtype: DType, device: &Device) -> Result<Tensor> {
    draw(shape.into(), || value, dtype, device)
}

/// The b of torch's default initialisation of linear and convolution layers, uniform in [−b, b): 1 / √fan_in, for
/// weights and bias alike. `fan_in` is the number of inputs that one output sees; for 0 it is 0.
pub fn torch_linear_bound(fan_in: usize) -> f64 {
    if fan_in == 0 { 0.0 } else { 1.0 / (fan_in as f64).sqrt() }
}

fn draw(shape: Shape, mut value: impl FnMut() -> f64, dtype: DType, device: &Device) -> Result<Tensor> {
    let count = shape.elem_count();
    let values = if dtype == DType::F64 {
        let values: Vec<f64> = (0..count).map(|_| value()).collect();
        Tensor::from_vec(values, shape, device)?
    } else {
        let values: Vec<f32> = (0..count).map(|_| value() as f32).collect();
        Tensor::from_vec(values, shape, device)?
    };
    Ok(values.to_dtype(dtype)?)
}
