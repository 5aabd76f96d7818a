use candle_core::{DType, Device, Tensor, Var};
use dml_rand::{Purpose, Stream};

use crate::init;

/// Step of the central differences, where they are most exact in f64.
const STEP: f64 = 1e-5;

/// The gradients of `sum(function(inputs) · direction)`, where the direction is drawn from a fixed stream.
///
/// # Shapes
/// Inputs of any shapes, one dtype and one device; each gradient is of its input's shape.
///
/// # Errors
/// Those of the function, and if an input gets no gradient.
pub fn gradients<E: From<candle_core::Error>>(
    inputs: &[Tensor],
    function: impl Fn(&[Tensor]) -> Result<Tensor, E>,
) -> Result<Vec<Tensor>, E> {
    let vars: Vec<Var> = inputs.iter().map(Var::from_tensor).collect::<Result<_, _>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let store = project(&function(&tensors)?)?.backward()?;
    let of = |(number, var): (usize, &Var)| {
        let none = || candle_core::Error::Msg(format!("input {number} gets no gradient"));
        Ok(store.get(var).cloned().ok_or_else(none)?)
    };
    vars.iter().enumerate().map(of).collect()
}

/// How far the [`gradients`] of a function are from central differences: for each input the largest difference, relative
/// to the largest of 1, the value and the root mean square of all values.
///
/// # Shapes
/// Inputs of any shapes, f64, on one device.
///
/// # Errors
/// Those of the function, and if an input gets no gradient or is not f64.
pub fn gradient_errors<E: From<candle_core::Error>>(
    inputs: &[Tensor],
    function: impl Fn(&[Tensor]) -> Result<Tensor, E>,
) -> Result<Vec<f64>, E> {
    let found = gradients(inputs, &function)?;
    let mut errors = Vec::with_capacity(inputs.len());
    for (k, found) in found.iter().enumerate() {
        let original = inputs[k].flatten_all()?.to_vec1::<f64>()?;
        let moved = |i: usize, by: f64| -> Result<f64, E> {
            let (mut values, mut inputs) = (original.clone(), inputs.to_vec());
            values[i] += by;
            inputs[k] = Tensor::from_vec(values, inputs[k].shape(), inputs[k].device())?;
            Ok(project(&function(&inputs)?)?.to_scalar::<f64>()?)
        };
        let expected: Vec<f64> = (0..original.len())
            .map(|i| Ok((moved(i, STEP)? - moved(i, -STEP)?) / (2.0 * STEP)))
            .collect::<Result<_, E>>()?;
        errors.push(distance(&found.flatten_all()?.to_vec1::<f64>()?, &expected));
    }
    Ok(errors)
}

/// The largest difference of two lists, relative as [`gradient_errors`] says; infinite where a value is not finite.
fn distance(found: &[f64], expected: &[f64]) -> f64 {
    let squares: f64 = expected.iter().map(|x| x * x).sum();
    let scale = (squares / expected.len().max(1) as f64).sqrt().max(1.0);
    let error = |(found, expected): (&f64, &f64)| (found - expected).abs() / expected.abs().max(scale);
    let finite = |error: f64| if error.is_finite() { error } else { f64::INFINITY };
    found.iter().zip(expected).map(error).map(finite).fold(0.0, f64::max)
}

fn project(result: &Tensor) -> candle_core::Result<Tensor> {
    let mut stream = Stream::new(0, Purpose::Test, 0, 0);
    let direction = init::normal(result.shape(), (0.0, 1.0), &mut stream, DType::F64, &Device::Cpu)?;
    (result * direction.to_dtype(result.dtype())?.to_device(result.device())?)?.sum_all()
}
