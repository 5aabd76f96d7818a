//! The operations as compositions of candle's own, with candle's gradients: for all devices, slower.
//!
//! The functions of the crate's root come here for whatever has no kernel; tests hold the two against each other.
//! They differ at ties only: the maximum's gradient is shared among equal elements here.

use candle_core::{Device, Tensor};

use crate::{Activation, Conv2d, Conv3d, Lrn, Pool, Result};

/// See [`crate::conv3d`]: a sum over the kernel's taps of matrix products.
///
/// # Shapes
/// `x` (n, c, t, h, w), `w` (o, c, kt, kh, kw), `bias` (o) → (n, o, t', h', w').
///
/// # Errors
/// If candle refuses the shapes.
pub fn conv3d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, options: &Conv3d) -> Result<Tensor> {
    let (n, c, ..) = x.dims5()?;
    let (o, _, kt, kh, kw) = w.dims5()?;
    let [kernel, stride] = [[kt, kh, kw], options.stride];
    let mut x = x.clone();
    let mut output = [0; 3];
    for axis in 0..3 {
        let padding = options.padding[axis];
        x = x.pad_with_zeros(2 + axis, padding, padding)?;
        output[axis] = (x.dim(2 + axis)? - kernel[axis]) / stride[axis] + 1;
    }
    let mut total = Tensor::zeros((n, o, output.iter().product()), x.dtype(), x.device())?;
    for tap in 0..kt * kh * kw {
        let at = [tap / (kh * kw), tap / kw % kh, tap % kw];
        let (mut seen, mut w) = (x.clone(), w.clone());
        for axis in 0..3 {
            seen = every(&seen, 2 + axis, at[axis], output[axis], stride[axis])?;
            w = w.narrow(2 + axis, at[axis], 1)?;
        }
        let seen = seen.reshape((n, c, ()))?;
        total = (total + w.reshape((1, o, c))?.broadcast_as((n, o, c))?.contiguous()?.matmul(&seen)?)?;
    }
    add_bias(&total.reshape((n, o, output[0], output[1], output[2]))?, bias)
}

/// See [`crate::conv2d`].
///
/// # Shapes
/// `x` (n, c, h, w), `w` (o, c / groups, kh, kw), `bias` (o) → (n, o, h', w').
///
/// # Errors
/// If candle refuses the shapes.
pub fn conv2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, options: &Conv2d) -> Result<Tensor> {
    let p = options.padding;
    let x = x.pad_with_zeros(2, p.top, p.bottom)?.pad_with_zeros(3, p.left, p.right)?;
    let [rows, columns] = options.stride;
    if options.groups == 1 {
        let options = Conv3d { stride: [1, rows, columns], ..Conv3d::default() };
        return Ok(conv3d(&x.unsqueeze(2)?, &w.unsqueeze(2)?, bias, &options)?.squeeze(2)?);
    }
    let (n, c, height, width) = x.dims4()?;
    let (_, _, kh, kw) = w.dims4()?;
    let (height, width) = ((height - kh) / rows + 1, (width - kw) / columns + 1);
    let mut total = Tensor::zeros((n, c, height, width), x.dtype(), x.device())?;
    for tap in 0..kh * kw {
        let (a, b) = (tap / kw, tap % kw);
        let seen = every(&every(&x, 2, a, height, rows)?, 3, b, width, columns)?;
        let w = w.narrow(2, a, 1)?.narrow(3, b, 1)?.reshape((1, c, 1, 1))?;
        total = (total + seen.broadcast_mul(&w)?)?;
    }
    add_bias(&total, bias)
}

/// See [`crate::max_pool3d`].
///
/// # Shapes
/// `x` (n, c, t, h, w) → (n, c, t', h', w').
///
/// # Errors
/// If the windows do not fit the input.
pub fn max_pool3d(x: &Tensor, pool: &Pool<3>) -> Result<Tensor> {
    let (_, _, t, h, w) = x.dims5()?;
    max_pool(x, pool, pool.output([t, h, w])?)
}

/// See [`crate::max_pool2d`].
///
/// # Shapes
/// `x` (n, c, h, w) → (n, c, h', w').
///
/// # Errors
/// If the windows do not fit the input.
pub fn max_pool2d(x: &Tensor, pool: &Pool<2>) -> Result<Tensor> {
    let (_, _, h, w) = x.dims4()?;
    max_pool(x, pool, pool.output([h, w])?)
}

/// See [`crate::lrn`].
///
/// # Shapes
/// `x` (n, c, h, w) → the same.
///
/// # Errors
/// If candle refuses the tensor.
pub fn lrn(x: &Tensor, options: &Lrn) -> Result<Tensor> {
    let channels = x.dim(1)?;
    let squares = x.sqr()?.pad_with_zeros(1, options.size / 2, (options.size - 1) / 2)?;
    let mut total = squares.narrow(1, 0, channels)?;
    for offset in 1..options.size {
        total = (total + squares.narrow(1, offset, channels)?)?;
    }
    Ok((x / total.affine(options.factor(), options.k)?.powf(options.beta)?)?)
}

/// See [`crate::linear`].
///
/// # Shapes
/// `x` (n, i), `w` (o, i), `bias` (o) → (n, o).
///
/// # Errors
/// If candle refuses the shapes.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    add_bias(&x.matmul(&w.t()?)?, bias)
}

/// See [`crate::relu`].
///
/// # Shapes
/// Any → the same.
///
/// # Errors
/// If candle refuses the tensor.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    // candle's own relu makes a NaN a zero, and so hides a run that has diverged.
    Ok(x.le(0.0)?.where_cond(&x.zeros_like()?, x)?)
}

/// See [`crate::relu6`].
///
/// # Shapes
/// Any → the same.
///
/// # Errors
/// If candle refuses the tensor.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    let x = relu(x)?;
    Ok(x.ge(6.0)?.where_cond(&(x.ones_like()? * 6.0)?, &x)?)
}

/// See [`crate::order_violation`].
///
/// # Shapes
/// `a` (n, d), `b` (m, d) → (n, m).
///
/// # Errors
/// If candle refuses the shapes.
pub fn order_violation(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    Ok(relu(&a.unsqueeze(1)?.broadcast_sub(&b.unsqueeze(0)?)?)?.sqr()?.sum(2)?)
}

/// See [`crate::log_softmax`].
///
/// # Shapes
/// `x` (n, k) → the same.
///
/// # Errors
/// If `x` is empty.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    // The maximum shifts the row and cancels, so its gradient is zero. candle's own would give each of several equal
    // maxima the whole of it, which cancels only up to rounding.
    let shifted = x.broadcast_sub(&x.detach().max_keepdim(1)?)?;
    // The maximum contributes exp(0), so the sum is at least 1 and its logarithm is finite.
    let log_sum = shifted.exp()?.sum_keepdim(1)?.log()?;
    Ok(shifted.broadcast_sub(&log_sum)?)
}

/// A row whose largest component is below this has no direction. It bounds the gradient too, at about its inverse.
const SMALLEST: f64 = 1e-12;

/// See [`crate::l2_normalize`].
///
/// # Shapes
/// `x` (n, d) → the same.
///
/// # Errors
/// If `x` is empty.
pub fn l2_normalize(x: &Tensor) -> Result<Tensor> {
    // Scaled to a largest component of 1, no square overflows. The scale cancels, so it may be held constant.
    let largest = x.detach().abs()?.max_keepdim(1)?;
    let has_direction = largest.ge(SMALLEST)?.to_dtype(x.dtype())?;
    let scaled = x.broadcast_mul(&(&has_direction / largest.maximum(SMALLEST)?)?)?;
    // Without direction the norm would be 0, where a square root has no gradient; 1 gives 0 / 1.
    let norm = (scaled.sqr()?.sum_keepdim(1)? + (1.0 - has_direction)?)?.sqrt()?;
    Ok(scaled.broadcast_div(&norm)?)
}

/// See [`crate::gru`].
///
/// # Shapes
/// `x` (sum of counts, 3 d), `w` (3 d, d) → (counts\[0\], d).
///
/// # Errors
/// If candle refuses the shapes.
pub fn gru(x: &Tensor, w: &Tensor, counts: &[usize]) -> Result<Tensor> {
    let dim = w.dim(1)?;
    let sequences = counts.first().copied().unwrap_or(0);
    let mut h = Tensor::zeros((sequences, dim), x.dtype(), x.device())?;
    let (mut first, mut ended) = (0, Vec::new());
    for &count in counts {
        let over = h.dim(0)? - count;
        if over > 0 {
            ended.push(h.narrow(0, count, over)?);
            h = h.narrow(0, 0, count)?;
        }
        let (x, y) = (x.narrow(0, first, count)?, linear(&h, w, None)?);
        let gates = (x.narrow(1, 0, 2 * dim)? + y.narrow(1, 0, 2 * dim)?)?;
        let gates = (gates.neg()?.exp()? + 1.0)?.recip()?;
        let (r, u) = (gates.narrow(1, 0, dim)?, gates.narrow(1, dim, dim)?);
        let c = (x.narrow(1, 2 * dim, dim)? + (r * y.narrow(1, 2 * dim, dim)?)?)?.tanh()?;
        h = (&c + (u * (h - &c)?)?)?;
        first += count;
    }
    ended.push(h);
    ended.reverse();
    Ok(Tensor::cat(&ended, 0)?)
}

/// The activation of a layer.
///
/// # Shapes
/// Any → the same.
///
/// # Errors
/// If candle refuses the tensor.
pub fn activate(x: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::None => Ok(x.clone()),
        Activation::Relu => relu(x),
        Activation::Relu6 => relu6(x),
    }
}

/// `count` elements along an axis, `stride` apart.
fn every(x: &Tensor, axis: usize, start: usize, count: usize, stride: usize) -> Result<Tensor> {
    if stride == 1 {
        return Ok(x.narrow(axis, start, count)?);
    }
    let places: Vec<u32> = (0..count).map(|i| (start + i * stride) as u32).collect();
    Ok(x.contiguous()?.index_select(&Tensor::new(places, x.device())?, axis)?)
}

fn add_bias(y: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Some(bias) = bias else { return Ok(y.clone()) };
    let mut shape = vec![1; y.rank()];
    shape[1] = bias.elem_count();
    Ok(y.broadcast_add(&bias.reshape(shape)?)?)
}

/// The axes one after the other: the maximum of maxima.
fn max_pool<const N: usize>(x: &Tensor, pool: &Pool<N>, output: [usize; N]) -> Result<Tensor> {
    let mut x = x.clone();
    for (i, &windows) in output.iter().enumerate() {
        let (axis, low) = (2 + i, pool.padding[i]);
        let size = x.dim(axis)?;
        let high = ((windows - 1) * pool.stride[i] + pool.kernel[i]).saturating_sub(low + size);
        let lowest = |count: usize| -> Result<Tensor> {
            let mut shape = x.dims().to_vec();
            shape[axis] = count;
            Ok(Tensor::full(f32::NEG_INFINITY, shape, &Device::Cpu)?
                .to_dtype(x.dtype())?
                .to_device(x.device())?)
        };
        let padded = match (low, high) {
            (0, 0) => x.clone(),
            _ => Tensor::cat(&[&lowest(low)?, &x, &lowest(high)?], axis)?,
        };
        let mut best = every(&padded, axis, 0, windows, pool.stride[i])?;
        for offset in 1..pool.kernel[i] {
            best = best.maximum(&every(&padded, axis, offset, windows, pool.stride[i])?)?;
        }
        x = best;
    }
    Ok(x)
}
