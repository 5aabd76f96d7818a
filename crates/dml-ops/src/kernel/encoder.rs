//! An encoder layer of a transformer on sequences that lie one after the other: groups of them, of as many tokens as the
//! cache holds, pass the whole layer on one thread.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::product::{Finish, Product, Run, columns};
use super::result::{Place, written};
use super::scratch::Scratch;
use super::simd::{Lane, dispatch};
use crate::{Activation, EncoderActivation};

/// Tokens of a group, unless a single sequence has more.
const TOKENS: usize = 96;

/// The weights of a fully connected layer as the right operand of products: outputs in panels as wide as a tile, the
/// weights of an input side by side.
pub(crate) struct Panels {
    values: Scratch<f32>,
    bias: Vec<f32>,
    inputs: usize,
    width: usize,
}

impl Panels {
    /// w (outputs, inputs), bias (outputs).
    pub(crate) fn new(w: &[f32], bias: Vec<f32>) -> Self {
        let outputs = bias.len();
        let (inputs, width) = (w.len() / outputs.max(1), columns::<f32>());
        let mut values = Scratch::new(outputs.next_multiple_of(width) * inputs);
        values.fill(0.0);
        for (output, w) in w.chunks_exact(inputs.max(1)).enumerate() {
            let to = &mut values[output / width * width * inputs + output % width..];
            for (to, &w) in to.iter_mut().step_by(width).zip(w) {
                *to = w;
            }
        }
        Self { values, bias, inputs, width }
    }

    /// x·wᵀ + bias
    fn apply(&self, x: &[f32], y: &mut [f32]) {
        let outputs = self.bias.len();
        let rows = y.len() / outputs;
        assert_eq!((x.len(), y.len()), (rows * self.inputs, rows * outputs));
        let product = Product {
            rows,
            columns: outputs,
            runs: &[Run { a: 0, b: 0, len: self.inputs }],
            a: x.as_ptr(),
            a_row: self.inputs,
            a_step: 1,
            b: self.values.as_ptr(),
            b_panel: self.inputs * self.width,
            b_step: self.width,
            c: y.as_mut_ptr(),
            c_row: outputs,
            finish: Finish::Layer { add: false, bias: self.bias.as_ptr(), activation: Activation::None },
        };
        // SAFETY: the operands have these sizes, and y is this call's.
        unsafe { product.run() };
    }
}

/// A layer's weights. Normalisations have a scale and a shift.
pub(crate) struct Packed {
    /// Query, key and value, one after the other.
    pub(crate) attention: Panels,
    pub(crate) output: Panels,
    pub(crate) attention_norm: [Vec<f32>; 2],
    pub(crate) up: Panels,
    pub(crate) down: Panels,
    pub(crate) norm: [Vec<f32>; 2],
    pub(crate) heads: usize,
    pub(crate) activation: EncoderActivation,
    pub(crate) epsilon: f64,
}

impl Packed {
    pub(crate) fn hidden(&self) -> usize {
        self.output.inputs
    }

    /// x (sum of lengths, hidden) → the same; `by_distance` (heads, distances), or nothing.
    pub(crate) fn run(&self, x: &[f32], lengths: &[usize], by_distance: Option<&[f32]>) -> Vec<f32> {
        let hidden = self.hidden();
        let mut groups = Vec::new();
        let (mut first, mut start, mut tokens) = (0, 0, 0);
        for (sequence, &length) in lengths.iter().enumerate() {
            if tokens > 0 && tokens + length > TOKENS {
                groups.push((start, tokens, &lengths[first..sequence]));
                (first, start, tokens) = (sequence, start + tokens, 0);
            }
            tokens += length;
        }
        groups.push((start, tokens, &lengths[first..]));
        let write = |y: Place<f32>| {
            groups.into_par_iter().for_each(|(start, tokens, lengths)| {
                let x = &x[start * hidden..(start + tokens) * hidden];
                // SAFETY: the groups' rows are all there are, each one task's.
                let y = unsafe { std::slice::from_raw_parts_mut(y.at(start * hidden), x.len()) };
                self.group(x, lengths, by_distance, y);
            });
        };
        // SAFETY: every row belongs to a group.
        unsafe { written(x.len(), write) }
    }

    fn group(&self, x: &[f32], lengths: &[usize], by_distance: Option<&[f32]>, y: &mut [f32]) {
        let hidden = self.hidden();
        let tokens = x.len() / hidden;
        let mut seen = Scratch::<f32>::new(tokens * hidden);
        {
            let mut projected = Scratch::<f32>::new(3 * tokens * hidden);
            self.attention.apply(x, &mut projected);
            let mut start = 0;
            for &length in lengths {
                let projected = &projected[3 * start * hidden..3 * (start + length) * hidden];
                self.attend(
                    projected,
                    length,
                    by_distance,
                    &mut seen[start * hidden..(start + length) * hidden],
                );
                start += length;
            }
        }
        let mut a = Scratch::<f32>::new(tokens * hidden);
        self.output.apply(&seen, &mut a);
        self.add_and_normalise(&mut a, x, &self.attention_norm);
        let mut between = Scratch::<f32>::new(tokens * self.down.inputs);
        self.up.apply(&a, &mut between);
        match self.activation {
            EncoderActivation::Gelu => dispatch(Gelu(&mut between)),
            EncoderActivation::GeluTanh => between.iter_mut().for_each(|x| {
                let inner = (2.0 / std::f32::consts::PI).sqrt() * *x * (1.0 + 0.044715 * *x * *x);
                *x *= 0.5 * (1.0 + inner.tanh());
            }),
            // A NaN stays one.
            EncoderActivation::Relu => between.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x }),
        }
        self.down.apply(&between, y);
        self.add_and_normalise(y, &a, &self.norm);
    }

    /// What the tokens of one sequence see of each other; query, key and value of a token are side by side.
    fn attend(&self, projected: &[f32], length: usize, by_distance: Option<&[f32]>, seen: &mut [f32]) {
        let (hidden, width) = (self.hidden(), columns::<f32>());
        let dim = hidden / self.heads;
        let scale = 1.0 / (dim as f32).sqrt();
        let mut keys = Scratch::<f32>::new(length.next_multiple_of(width) * dim);
        let mut shares = Scratch::<f32>::new(length * length);
        for head in 0..self.heads {
            for (token, row) in projected.chunks_exact(3 * hidden).enumerate() {
                let to = &mut keys[token / width * width * dim + token % width..];
                let row = &row[hidden + head * dim..][..dim];
                for (to, &key) in to.iter_mut().step_by(width).zip(row) {
                    *to = key;
                }
            }
            let product = Product {
                rows: length,
                columns: length,
                runs: &[Run { a: 0, b: 0, len: dim }],
                a: projected[head * dim..].as_ptr(),
                a_row: 3 * hidden,
                a_step: 1,
                b: keys.as_ptr(),
                b_panel: width * dim,
                b_step: width,
                c: shares.as_mut_ptr(),
                c_row: length,
                finish: Finish::Store,
            };
            // SAFETY: the operands have these sizes, and the shares are this call's.
            unsafe { product.run() };
            let bias = by_distance.map(|all| {
                let distances = all.len() / self.heads;
                // Distance 0 is in the middle.
                (&all[head * distances..][..distances], distances / 2)
            });
            for (asking, row) in shares.chunks_exact_mut(length).enumerate() {
                row.iter_mut().for_each(|x| *x *= scale);
                if let Some((bias, middle)) = bias {
                    for (x, bias) in row.iter_mut().zip(&bias[middle - asking..]) {
                        *x += bias;
                    }
                }
                softmax(row);
            }
            let product = Product {
                rows: length,
                columns: dim,
                runs: &[Run { a: 0, b: 0, len: length }],
                a: shares.as_ptr(),
                a_row: length,
                a_step: 1,
                b: projected[2 * hidden + head * dim..].as_ptr(),
                b_panel: width,
                b_step: 3 * hidden,
                c: seen[head * dim..].as_mut_ptr(),
                c_row: hidden,
                finish: Finish::Store,
            };
            // SAFETY: as above; the head's columns of `seen` are written by this call alone.
            unsafe { product.run() };
        }
    }

    /// x = norm(x + other), row by row.
    fn add_and_normalise(&self, x: &mut [f32], other: &[f32], [scale, shift]: &[Vec<f32>; 2]) {
        let rows = x.chunks_exact_mut(scale.len()).zip(other.chunks_exact(scale.len()));
        for (x, other) in rows {
            dispatch(AddAndNormalise { x, other, scale, shift, epsilon: self.epsilon as f32 });
        }
    }
}

fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut total = 0.0;
    for x in row.iter_mut() {
        *x = (*x - most).exp();
        total += *x;
    }
    row.iter_mut().for_each(|x| *x /= total);
}

struct AddAndNormalise<'a> {
    x: &'a mut [f32],
    other: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    epsilon: f32,
}

impl WithSimd for AddAndNormalise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let Self { x, other, scale, shift, epsilon } = self;
        let (len, lanes) = (x.len(), size_of::<S::f32s>() / size_of::<f32>());
        assert!(other.len() == len && scale.len() == len && shift.len() == len);
        let x = x.as_mut_ptr();
        // SAFETY: all four have `len` values.
        unsafe {
            let mut total = Lane::<f32, S>::zero(s);
            for i in (0..len).step_by(lanes) {
                let sum = Lane::load_up_to(s, x.add(i), len - i)
                    + Lane::load_up_to(s, other.as_ptr().add(i), len - i);
                sum.store_up_to(x.add(i), len - i);
                total = total + sum;
            }
            let mean = Lane::splat(s, total.sum() / len as f32);
            let mut squares = Lane::<f32, S>::zero(s);
            // Beyond the last value there is a zero, which is not to count.
            let whole = len / lanes * lanes;
            for i in (0..whole).step_by(lanes) {
                let x = Lane::load(s, x.add(i)) - mean;
                squares = squares.plus_product(x, x);
            }
            let mean_value = total.sum() / len as f32;
            let rest: f32 = (whole..len).map(|i| (*x.add(i) - mean_value).powi(2)).sum();
            let variance = (squares.sum() + rest) / len as f32;
            let factor = Lane::splat(s, 1.0 / (variance + epsilon).sqrt());
            for i in (0..len).step_by(lanes) {
                let part = |from: *const f32| Lane::load_up_to(s, from.add(i), len - i);
                let normal = (part(x) - mean) * factor;
                part(shift.as_ptr())
                    .plus_product(normal, part(scale.as_ptr()))
                    .store_up_to(x.add(i), len - i);
            }
        }
    }
}

struct Gelu<'a>(&'a mut [f32]);

impl WithSimd for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, s: S) {
        let (len, lanes) = (self.0.len(), size_of::<S::f32s>() / size_of::<f32>());
        let x = self.0.as_mut_ptr();
        for i in (0..len).step_by(lanes) {
            // SAFETY: these are its values.
            unsafe {
                let value = Lane::load_up_to(s, x.add(i), len - i);
                let half = value.times(0.5);
                half.plus_product(half, erf(s, value.times(std::f64::consts::FRAC_1_SQRT_2)))
                    .store_up_to(x.add(i), len - i);
            }
        }
    }
}

/// The error function within 5e-7: x·P(x²)/Q(x²), beyond 4 its value there. The coefficients are Eigen's.
#[inline(always)]
fn erf<S: Simd>(s: S, x: Lane<f32, S>) -> Lane<f32, S> {
    const P: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024_1e-6,
        -5.692_506_5e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const Q: [f32; 5] = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2];
    let most = Lane::splat(s, 4.0);
    let least = Lane::splat(s, -4.0);
    // A value that is not a number stays one.
    let x = x.if_greater(most, most, x);
    let x = least.if_greater(x, least, x);
    let square = x * x;
    let polynomial = |coefficients: &[f32]| {
        let mut value = Lane::splat(s, coefficients[0]);
        for &coefficient in &coefficients[1..] {
            value = Lane::splat(s, coefficient).plus_product(value, square);
        }
        value
    };
    x * polynomial(&P) / polynomial(&Q)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::super::simd::testing::on_each;
    use super::{Gelu, Packed, Panels};
    use crate::EncoderActivation;
    use crate::kernel::simd::dispatch;

    #[test]
    fn gelu_is_right_to_single_precision_in_every_instruction_set() {
        let x: Vec<f32> =
            (-3000..=3000).map(|i| i as f32 / 400.0).chain([-1e9, 1e9, f32::MIN_POSITIVE]).collect();
        let exact: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let exact = Tensor::new(exact, &Device::Cpu).unwrap().gelu_erf().unwrap().to_vec1::<f64>().unwrap();
        for found in on_each(|| {
            let mut x = x.clone();
            x.push(f32::NAN);
            dispatch(Gelu(&mut x));
            x
        }) {
            assert!(found.last().unwrap().is_nan());
            for ((x, found), exact) in x.iter().zip(found).zip(&exact) {
                let error = (f64::from(found) - exact).abs() / f64::from(x.abs().max(1.0));
                assert!(error < 3e-7, "gelu({x}) is {found}, not {exact}");
            }
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_layer() {
        let (hidden, between) = (37, 51);
        let wave =
            |count: usize, speed: f32| (0..count).map(|i| (i as f32 * speed).sin()).collect::<Vec<f32>>();
        let panels =
            |outputs: usize, inputs, speed| Panels::new(&wave(outputs * inputs, speed), wave(outputs, 2.0));
        let x = wave(29 * hidden, 0.7);
        let all = on_each(|| {
            let norm = || [wave(hidden, 1.3), wave(hidden, 0.9)];
            let layer = Packed {
                attention: panels(3 * hidden, hidden, 1.1),
                output: panels(hidden, hidden, 1.7),
                attention_norm: norm(),
                up: panels(between, hidden, 0.3),
                down: panels(hidden, between, 2.3),
                norm: norm(),
                heads: 1,
                activation: EncoderActivation::Gelu,
                epsilon: 1e-12,
            };
            layer.run(&x, &[20, 9], None)
        });
        for found in &all[1..] {
            for (found, first) in found.iter().zip(&all[0]) {
                assert!((found - first).abs() < 1e-4, "{found}, not {first}");
            }
        }
    }
}
