//! Each kernel gives the same, but for rounding, in every instruction set of this processor and without any.

use candle_core::Shape;

use std::sync::OnceLock;

use super::activation::{Activate, ActivationGradient};
use super::after::Windows;
use super::conv::Conv;
use super::depthwise::{self, Depthwise};
use super::geometry::Geometry;
use super::linear::{Linear, Sizes};
use super::lrn::Normalise;
use super::simd::testing::on_each;
use super::sums::{Means, Sums};
use super::violation::Violation;
use super::{Kernel, Scalar};
use crate::{Activation, Algorithm};

/// Values in [−1, 1].
fn wave<T: Scalar>(count: usize, speed: f64) -> Vec<T> {
    (0..count).map(|i| T::from_f64((i as f64 * speed + 1.0).sin())).collect()
}

/// All results are the first within `tolerance` times the largest value.
fn check<T: Scalar>(name: &str, tolerance: f64, task: impl Fn() -> Vec<T> + Sync) {
    let all = on_each(task);
    let values: Vec<Vec<f64>> = all.iter().map(|x| x.iter().map(|x| x.to_f64()).collect()).collect();
    let scale = values[0].iter().fold(1.0, |most: f64, x| most.max(x.abs()));
    for (set, found) in values.iter().enumerate() {
        assert_eq!(found.len(), values[0].len());
        for (i, (a, b)) in found.iter().zip(&values[0]).enumerate() {
            assert!((a - b).abs() <= tolerance * scale, "{name}, set {set}: element {i} is {a}, not {b}");
        }
    }
}

fn check_all<T: Scalar>(tolerance: f64) {
    for (rows, inputs, outputs) in [(1, 4500, 30), (7, 37, 13), (3, 70, 10), (19, 70, 101)] {
        let sizes = Sizes { rows, inputs, outputs };
        let (x, w) = (wave::<T>(rows * inputs, 0.7), wave::<T>(outputs * inputs, 1.1));
        let (bias, dy) = (wave::<T>(outputs, 2.0), wave::<T>(rows * outputs, 0.3));
        check("linear", tolerance, || Linear { sizes, relu: true }.run([&x, &w, &bias]));
        check("data gradient", tolerance, || sizes.data_gradient(&w, &dy));
        check("weight gradient", tolerance, || sizes.weight_gradient(&x, &dy));
    }
    for (rows, others, dim) in [(3, 5, 200), (2, 1, 7)] {
        let pairs = Violation { rows, others, dim };
        let (a, b) = (wave::<T>(rows * dim, 0.7), wave::<T>(others * dim, 1.1));
        let gradient = wave::<T>(rows * others, 0.3);
        check("order violation", tolerance, || pairs.run([&a, &b]));
        for input in 0..2 {
            check("its gradient", tolerance, || {
                let gradients = pairs.gradients([&a, &b], [&[], &gradient], [true; 2]).unwrap();
                gradients[input].clone().unwrap()
            });
        }
    }
    for (channels, kernel, stride) in [(70, 3, 1), (37, 5, 2)] {
        let g = Geometry {
            batch: 2,
            c_in: channels,
            c_out: channels,
            input: [1, 9, 11],
            kernel: [1, kernel, kernel],
            stride: [1, stride, stride],
            low: [0, 1, kernel / 2],
            output: [1, (9 + 2 - kernel) / stride + 1, (11 + kernel - 1 - kernel) / stride + 1],
        };
        let (x, w) = (wave::<T>(2 * 99 * channels, 0.7), wave::<T>(kernel * kernel * channels, 1.1));
        let dy = wave::<T>(2 * g.out_positions() * channels, 0.3);
        let bias = wave::<T>(channels, 2.0);
        let forward = || Depthwise { geometry: g, activation: Activation::Relu6 }.run([&x, &w, &bias]);
        check("depthwise", tolerance, forward);
        check("depthwise data gradient", tolerance, || depthwise::data_gradient(&g, [&dy, &w]));
        check("depthwise weight gradient", tolerance, || depthwise::weight_gradient(&g, [&x, &dy]));
        for beta in [0.75, 0.6] {
            let shape = Shape::from(x.len());
            let lrn = Normalise { size: 5, alpha: 0.3, beta, k: 2.0, channels, shape };
            let dy = wave::<T>(x.len(), 0.3);
            check("lrn", tolerance, || lrn.of(&x, None));
            check("lrn gradient", tolerance, || lrn.of(&x, Some(&dy)));
        }
        let sums = |batch| Sums { batch, positions: 198 / batch, channels, shape: (batch, channels).into() };
        check("sums", tolerance, || [sums(1).run([&x]), Means(sums(2)).run([&x])].concat());
    }
    check_convolutions::<T>(tolerance);
    let (x, dy): (Vec<T>, _) = (wave(1003, 0.7), wave(1003, 0.3));
    let scaled: Vec<T> = x.iter().map(|&x| x * T::from_f64(8.0)).collect();
    check("relu6", 0.0, || Activate(Activation::Relu6, 1003.into()).run([&scaled]));
    check("relu gradient", 0.0, || ActivationGradient(Activation::Relu, 1003.into()).run([&x, &dy]));
}

/// Every algorithm, with a pooling that its tiles fit and one that they do not.
fn check_convolutions<T: Scalar>(tolerance: f64) {
    let (batch, c_in, c_out, input) = (2, 19, 37, [5, 9, 7]);
    let g =
        Geometry { batch, c_in, c_out, input, kernel: [3; 3], stride: [1; 3], low: [1; 3], output: input };
    let positions = batch * g.out_positions();
    let (x, w) = (wave::<T>(positions * c_in, 0.7), wave::<T>(c_out * c_in * 27, 1.1));
    let bias = wave::<T>(c_out, 2.0);
    for algorithm in
        [Algorithm::Direct, Algorithm::Winograd(1), Algorithm::Winograd(2), Algorithm::Winograd(4)]
    {
        for size in [[1, 2, 2], [2, 3, 3]] {
            let count = [0, 1, 2].map(|axis| input[axis].div_ceil(size[axis]));
            let outputs = batch * count.iter().product::<usize>() * c_out;
            let dy = wave::<T>(outputs, 0.3);
            let all = || {
                let conv = Conv {
                    geometry: g,
                    activation: Activation::Relu,
                    windows: Some(Windows { size, count }),
                    algorithm,
                    shape: outputs.into(),
                    places: OnceLock::new(),
                };
                let y: Vec<T> = conv.run([&x[..], &w, &bias]);
                let gradients = conv.gradients([&x[..], &w, &bias], [&y, &dy], [true; 3]);
                gradients.unwrap().into_iter().flatten().chain([y]).flatten().collect()
            };
            // Points of tiles add and cancel terms much larger than the result.
            check(&format!("{algorithm:?} {size:?}"), 20.0 * tolerance, all);
        }
    }
}

#[test]
fn agree_in_f32() {
    // Sums of thousands of terms, one after the other without vectors.
    check_all::<f32>(1e-5);
}

#[test]
fn agree_in_f64() {
    check_all::<f64>(1e-14);
}
